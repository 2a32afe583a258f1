"""The learning rate of one run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from actlab.fleet.run import Epoch, Optimizer, Run


class LearningRate:
    """The learning rate of one run, from torch's scheduler on an optimizer with one dummy parameter.

    Args:
        run: A run with a schedule.
    """

    def __init__(self, run: Run) -> None:
        assert run.schedule is not None
        self.schedule = run.schedule
        nothing = torch.zeros((), requires_grad=True)
        self.optimizer = getattr(torch.optim, run.optimizer.name)(
            [nothing], **torch_optim_arguments(run.optimizer)
        )
        self.scheduler = run.schedule.policy(self.optimizer, **run.schedule.options)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def numbers(self) -> dict[str, float]:
        """Return the learning rate of the next step, and the momentum if it is cycled, too."""
        group = self.optimizer.param_groups[0]
        found = {"lr": group["lr"]}
        if "momentum" in group:
            found["momentum"] = group["momentum"]
        if "betas" in group:
            found["beta1"] = group["betas"][0]
        return {name: float(value) for name, value in found.items()}

    def after_batch(self) -> None:
        """Step the schedule if it is stepped after every batch."""
        if self.schedule.every == "batch":
            self._move()

    def after_epoch(self, row: Epoch) -> None:
        """Record the learning rate in the history, and step the schedule if it is stepped every epoch."""
        if self.schedule.every == "batch":
            return
        if self.schedule.event is not None:
            row[self.schedule.event] = self.lr
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._move(row[self.schedule.monitor])
        else:
            self._move()

    def _move(self, *score: float) -> None:
        with warnings.catch_warnings():
            # There is no network; without this step the scheduler would warn.
            warnings.filterwarnings(
                "ignore", message="Detected call of `lr_scheduler.step", category=UserWarning
            )
            self.scheduler.step(*score)


def torch_optim_arguments(optimizer: Optimizer) -> Mapping[str, Any]:
    """Return the arguments of the class in torch.optim."""
    found: dict[str, Any] = {**optimizer.numbers, **dict.fromkeys(optimizer.flags, True)}
    if "beta1" in found:
        found["betas"] = (found.pop("beta1"), found.pop("beta2"))
    return found

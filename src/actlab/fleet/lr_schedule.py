"""The learning rate of one run."""

from __future__ import annotations

import warnings

import torch

from actlab.fleet.optimizers import make_torch_arguments
from actlab.fleet.run import Epoch, Run


class ScheduleStepper:
    """The learning rate of one run, from torch's scheduler on an optimizer with one dummy parameter.

    Args:
        run: A run with a schedule.
    """

    def __init__(self, run: Run) -> None:
        assert run.schedule is not None
        self.schedule = run.schedule
        parameters = [torch.zeros((), requires_grad=True)]
        optimizer_class = getattr(torch.optim, run.optimizer.name)
        self.optimizer = optimizer_class(parameters, **make_torch_arguments(run.optimizer))
        self.scheduler = run.schedule.policy(self.optimizer, **run.schedule.options)

    def numbers(self) -> dict[str, float]:
        """Return what a schedule may change in the next step: learning rate and momentum."""
        group = self.optimizer.param_groups[0]
        numbers = {"lr": group["lr"]}
        if "momentum" in group:
            numbers["momentum"] = group["momentum"]
        if "betas" in group:
            numbers["beta1"] = group["betas"][0]
        return {name: float(value) for name, value in numbers.items()}

    def end_batch(self) -> None:
        """Step the schedule if it is stepped after every batch."""
        if self.schedule.every == "batch":
            self._step()

    def end_epoch(self, epoch: Epoch) -> None:
        """Record the learning rate and step the schedule, if it is stepped after every epoch."""
        if self.schedule.every == "batch":
            return
        if self.schedule.event is not None:
            epoch[self.schedule.event] = self.numbers()["lr"]
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._step(epoch[self.schedule.monitor])
        else:
            self._step()

    def _step(self, *score: float) -> None:
        with warnings.catch_warnings():
            # The scheduler would warn because its optimizer makes no steps.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.scheduler.step(*score)

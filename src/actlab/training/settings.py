"""The settings of a training run, and the checks of single settings."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from actlab.errors import raise_problems

PRECISIONS = ("float32", "bf16")
OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
USUAL_RATES = {"SGD": 0.01, "Adam": 0.001, "AdamW": 0.001, "RMSprop": 0.001}
SCHEDULES = ("none", "cosine", "onecycle")
AUTO_EPOCHS = 200  # at most, if the validation loss decides when to stop
_PATIENCE = 10  # epochs without a better validation loss
INITS = ("torch", "matched")


@dataclass(frozen=True)
class TrainSettings:
    """The hyperparameters of a run. The defaults are those of a published MNIST notebook.

    Args:
        epochs: Passes over the training samples; ``"auto"`` for at most 200, with ``early_stopping=10``
            unless it is set.
        batch_size: Samples per step.
        lr: Learning rate (default: the optimizer's usual rate, 0.01 for SGD and 0.001 for the others).
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"rmsprop"``.
        momentum: Momentum of SGD (default: 0.95) or RMSprop (default: 0).
        weight_decay: Weight decay of the optimizer.
        schedule: Learning rate schedule over the epochs: ``"none"``, ``"cosine"`` or ``"onecycle"``.
        early_stopping: Epochs without a better validation loss after which training stops and restores the
            weights of the best epoch; None for no early stopping.
        seed: Seed of the initial weights and of all other random numbers.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        hidden: Widths of the hidden layers of the reference network.
        dropout: Probability that dropout zeroes an output of a hidden layer of the reference network.
        precision: ``"float32"``, or ``"bf16"`` for matrix products with bfloat16 operands.
        init: Initial weights: ``"torch"`` for the ones that the module draws, or ``"matched"`` to scale them
            for the activation with :func:`actlab.init_`.

    Raises:
        UsageError: Some values are wrong; the message names all of them.

    Examples:
        >>> TrainSettings(epochs=0, lr=-1.0)
        Traceback (most recent call last):
        actlab.errors.UsageError: epochs must be an integer >= 1, got 0; lr must be finite and > 0, got -1.0
    """

    epochs: int | str = 25
    batch_size: int = 128
    lr: float | None = None
    optimizer: str = "sgd"
    momentum: float | None = None
    weight_decay: float = 0.0
    schedule: str = "none"
    early_stopping: int | None = None
    seed: int = 0
    device: str = "cpu"
    hidden: Sequence[int] = (128, 64)
    dropout: float = 0.0
    precision: str = "float32"
    init: str = "torch"

    def __post_init__(self) -> None:
        least = {**({} if self.epochs == "auto" else {"epochs": 1}), "batch_size": 1, "seed": 0}
        if self.early_stopping is not None:
            least["early_stopping"] = 1
        problems = [find_integer_problem(name, getattr(self, name), low) for name, low in least.items()]
        optimizer = self.optimizer if isinstance(self.optimizer, str) else ""
        if optimizer not in OPTIMIZERS:
            problems.append(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.schedule not in SCHEDULES:
            problems.append(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if self.lr is None:
            kind = OPTIMIZERS.get(optimizer, torch.optim.SGD)
            object.__setattr__(self, "lr", USUAL_RATES[kind.__name__])
        if not (isinstance(self.lr, numbers.Real) and 0 < self.lr < math.inf):
            problems.append(f"lr must be finite and > 0, got {self.lr!r}")
        if self.momentum is not None and optimizer in ("adam", "adamw"):
            problems.append(f"momentum is for sgd and rmsprop, got {self.momentum!r} with {optimizer}")
        elif self.momentum is None:
            object.__setattr__(self, "momentum", {"sgd": 0.95, "rmsprop": 0.0}.get(optimizer))
        elif not (isinstance(self.momentum, numbers.Real) and 0 <= self.momentum < 1):
            problems.append(f"momentum must be >= 0 and < 1, got {self.momentum!r}")
        if not (isinstance(self.weight_decay, numbers.Real) and 0 <= self.weight_decay < math.inf):
            problems.append(f"weight_decay must be finite and >= 0, got {self.weight_decay!r}")
        if not (isinstance(self.dropout, numbers.Real) and 0 <= self.dropout < 1):
            problems.append(f"dropout must be >= 0 and < 1, got {self.dropout!r}")
        problems.append(_find_hidden_problem(self.hidden))
        problems += [find_device_problem(self.device), find_precision_problem(self.precision)]
        problems.append(find_init_problem(self.init))
        raise_problems(problems)

    def describe(self) -> dict[str, Any]:
        """Return the settings as values that JSON can represent."""
        return {**dataclasses.asdict(self), "hidden": list(self.hidden)}


def _find_hidden_problem(hidden: object) -> str:
    widths = hidden if isinstance(hidden, Sequence) and not isinstance(hidden, str) else ()
    if widths and not any(find_integer_problem("hidden", width, 1) for width in widths):
        return ""
    return f"hidden must be widths >= 1 of the hidden layers such as (128, 64), got {hidden!r}"


def compute_one_cycle_factor(epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch (from 0), relative to the highest one.

    The rate rises from 1/25 over the first 30 % of the epochs and then falls towards 0, both along a cosine.

    Examples:
        >>> [round(compute_one_cycle_factor(epoch, 11), 3) for epoch in (0, 3, 10)]
        [0.04, 1.0, 0.038]

    References:
        L. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning
        rates", 2018.
    """
    peak = 0.3 * (epochs - 1)
    if epoch < peak:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * epoch / peak)) / 2
    return (1 + math.cos(math.pi * (epoch - peak) / (epochs - peak))) / 2


def make_callbacks(settings: TrainSettings) -> list[tuple[str, Any]] | None:
    """Return the callbacks of schedule and early stopping; None if there are none."""
    from skorch.callbacks import EarlyStopping, LRScheduler  # loads scikit-learn: 1 s
    from skorch.utils import noop

    epochs, patience = settings.epochs, settings.early_stopping
    if isinstance(epochs, str):
        epochs, patience = AUTO_EPOCHS, patience or _PATIENCE
    callbacks: list[tuple[str, Any]] = []
    if settings.schedule == "cosine":
        policy = torch.optim.lr_scheduler.CosineAnnealingLR
        callbacks.append(("schedule", LRScheduler(policy, T_max=epochs)))
    elif settings.schedule == "onecycle":
        factor = functools.partial(compute_one_cycle_factor, epochs=epochs)
        callbacks.append(("schedule", LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=factor)))
    if patience is not None:
        stopping = EarlyStopping(patience=patience, threshold=0.0, load_best=True, sink=noop)
        callbacks.append(("stopping", stopping))
    return callbacks or None


def find_integer_problem(name: str, value: object, least: int) -> str:
    """Return the problem with an argument that must be an integer; an empty string if there is none."""
    if isinstance(value, numbers.Integral) and least <= int(value) < 2**63:
        return ""
    return f"{name} must be an integer >= {least}, got {value!r}"


def find_precision_problem(name: object) -> str:
    """Return the problem with a precision; an empty string if there is none."""
    if name in PRECISIONS:
        return ""
    return f"precision must be {' or '.join(map(repr, PRECISIONS))}, got {name!r}"


def find_init_problem(name: object) -> str:
    """Return the problem with an initialization; an empty string if there is none."""
    return "" if name in INITS else f"init must be {' or '.join(map(repr, INITS))}, got {name!r}"


def find_device_problem(name: str) -> str:
    """Return the problem with a device name; an empty string if there is none."""
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        return f"device must be cpu, cuda or cuda:N, got {name!r}"
    if kind == "cuda" and int(index or 0) >= (count := torch.cuda.device_count()):
        devices = f"{count or 'no'} CUDA device{'s' * (count > 1)}"
        return f"device must be available, got {name!r}; PyTorch finds {devices}"
    return ""

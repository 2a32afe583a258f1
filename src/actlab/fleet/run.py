"""A run, one net to train, and what comes out of it."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from actlab.models.random_streams import NOISE, ORDER, WEIGHTS, seeded_torch, stream_seed

Rows = npt.NDArray[np.int64]
Epoch = dict[str, Any]


class FailureKind(enum.StrEnum):
    """The kinds of failure of training. The text of a failure begins with its kind."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    RAISED = "training raised"
    PROCESS_DIED = "the training process died"


@dataclass(frozen=True)
class Optimizer:
    """How weights follow their gradients: one of torch.optim's rules, with its numbers.

    Args:
        name: ``"SGD"``, ``"Adam"``, ``"AdamW"`` or ``"RMSprop"``.
        numbers: Numeric hyper-parameters by torch.optim's names; ``betas`` as ``beta1`` and ``beta2``.
            They may differ between the runs of a fleet.
        flags: Those that choose a rule, ``nesterov``, ``amsgrad`` or ``centered``, when they are on.
    """

    name: str
    numbers: Mapping[str, float]
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes: a scheduler of torch.optim, stepped as skorch steps it.

    Args:
        policy: The scheduler's class.
        options: Its arguments.
        every: ``"epoch"`` or ``"batch"``.
        monitor: The history's column that ``ReduceLROnPlateau`` diagnostic_epochs at.
        event: The history's column for the learning rate; None for none.
    """

    policy: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    every: str = "epoch"
    monitor: str = "train_loss"
    event: str | None = "event_lr"


@dataclass(frozen=True)
class Stopping:
    """When a run stops early; the arguments of :class:`skorch.callbacks.EarlyStopping`."""

    monitor: str = "valid_loss"
    patience: int = 5
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    lower_is_better: bool = True
    load_best: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """One net to train: a net, hyper-parameters, rows, a fold and a seed.

    Everything that is random comes from ``(seed, fold)`` alone, so that runs that differ in their
    activation start from the same weights and see the same batches.

    Args:
        net: Makes the untrained module, drawing from torch's default generator.
        rows: Rows of the data to train on, in their order.
        valid: Rows to validate on after every epoch; None for no validation.
        test: Rows to evaluate the trained net on; None for none.
        loss: The criterion, which must average over rows.
        optimizer: The rule and its numbers.
        epochs: Passes over the rows.
        batch_size: Rows in a step.
        shuffle: Whether every epoch has an order of its own.
        piece: Rows that are validated at once, where the loss depends on it; 0 for as many as fit.
        drop_last: Whether an incomplete last batch is left out.
        schedule: How the learning rate changes.
        stopping: When to stop early.
        scoring: ``"classes"``, ``"binary"`` or ``""``: how accuracy is told from outputs, if at all.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"float32"``, or ``"bf16"`` for products in bfloat16.
        seed: Which repetition this is.
        fold: Which part of the data is left out.
        diagnostic_epochs: Epochs after which the net is looked into; what it learns does not depend on them.
    """

    net: Callable[[], nn.Module]
    rows: Rows
    valid: Rows | None = None
    test: Rows | None = None
    loss: nn.Module
    optimizer: Optimizer
    epochs: int
    batch_size: int
    shuffle: bool = False
    drop_last: bool = False
    piece: int = 0
    schedule: Schedule | None = None
    stopping: Stopping | None = None
    scoring: str = "classes"
    device: str = "cpu"
    precision: str = "float32"
    seed: int = 0
    fold: int = 0
    diagnostic_epochs: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        rows = len(self.rows)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def build(self) -> nn.Module:
        """Make the untrained module, from the run's own stream of random numbers."""
        with seeded_torch(self.seed, self.fold, WEIGHTS, self.device):
            return self.net()

    def noise(self) -> contextlib.AbstractContextManager[None]:
        """Let torch's default generator be the run's own, for nets that draw numbers while they train."""
        return seeded_torch(self.seed, self.fold, NOISE, self.device)

    def orders(self) -> Iterator[Tensor]:
        """Yield the order of the rows (n,), epoch after epoch."""
        rows = torch.from_numpy(self.rows)
        generator = torch.Generator().manual_seed(stream_seed(self.seed, self.fold, ORDER))
        while True:
            yield rows[torch.randperm(len(rows), generator=generator)] if self.shuffle else rows


@dataclass(kw_only=True)
class Result:
    """What came out of a run.

    Attributes:
        weights: The module's state after the last epoch, on the CPU; empty when it could not be trained.
        history: One row per epoch, in skorch's columns.
        seconds: The run's share of the time that its fleet took.
        how: How it was trained: ``"layer by layer"``, ``"autograd"`` or ``"skorch"``.
        reason_alone: Why it trained alone, or why skorch trains it; empty if it trained in a fleet.
        failure: Why there is no trained net, in one line; empty when there is one.
        passing: Whether it may go better another time, or by skorch: memory, a file or a package was missing.
        test_loss: Mean loss over the test rows; NaN without test rows.
        test_acc: Accuracy on the test rows, 0 to 1; NaN without test rows.
        diagnostics: A row per epoch and layer, as ``actlab.fleet.diagnostics.told``
            has them.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    how: str = ""
    reason_alone: str = ""
    failure: str = ""
    passing: bool = False
    test_loss: float = float("nan")
    test_acc: float = float("nan")
    diagnostics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def needs_skorch(self) -> bool:
        """Whether no fleet can train the run, so that skorch has to."""
        return not self.how and not self.failure

    @property
    def failure_kind(self) -> FailureKind | None:
        """The kind of failure; None without a failure, or for one that is not of training."""
        return next((kind for kind in FailureKind if self.failure.startswith(kind)), None)

    @property
    def died(self) -> bool:
        """Whether the run ended the processes that trained it, so that it must not run in this one."""
        return self.failure_kind is FailureKind.PROCESS_DIED

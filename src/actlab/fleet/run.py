"""A run (one network to train) and its result."""

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

from actlab.models.initialization import init_
from actlab.models.random_streams import NOISE, ORDER, WEIGHTS, derive_seed, seeded_torch

Rows = npt.NDArray[np.int64]
Outcomes = npt.NDArray[Any]
Epoch = dict[str, Any]
_INIT_SAMPLES = 256  # that matched initialization is measured on


class FailureKind(enum.StrEnum):
    """The kinds of failure of training. The text of a failure begins with its kind."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    RAISED = "training raised"
    PROCESS_DIED = "the training process died"


class NeedsSkorch(Exception):
    """Raised if a model cannot train in a fleet. The message is the reason."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of torch.optim with its hyper-parameters.

    Args:
        name: The class in torch.optim, such as ``"SGD"``.
        numbers: Numeric hyper-parameters by torch.optim's names; ``betas`` as ``beta1`` and ``beta2``.
            They may differ between the runs of a fleet.
        flags: The variants that are on, such as ``nesterov``, ``amsgrad`` or ``centered``.
    """

    name: str
    numbers: Mapping[str, float]
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Schedule:
    """A scheduler of torch.optim that steps like skorch's ``LRScheduler``.

    Args:
        policy: The scheduler's class.
        options: Its arguments.
        every: When to step: ``"epoch"`` or ``"batch"``.
        monitor: The column of the history that ``ReduceLROnPlateau`` monitors.
        event: The column of the history that records the learning rate; None for no column.
    """

    policy: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    every: str = "epoch"
    monitor: str = "train_loss"
    event: str | None = "event_lr"


@dataclass(frozen=True)
class EarlyStopping:
    """When a run stops early; the arguments of :class:`skorch.callbacks.EarlyStopping`."""

    monitor: str = "valid_loss"
    patience: int = 5
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    lower_is_better: bool = True
    load_best: bool = False


@dataclass(frozen=True)
class EpochScore:
    """A score of every epoch; the arguments of :class:`skorch.callbacks.EpochScoring`.

    Args:
        name: The column of the history.
        scoring: The name of a scorer of scikit-learn.
        lower_is_better: Whether lower scores are better; None to omit the column with the suffix ``_best``.
        on_train: Whether it scores the training samples, not the validation samples.
        model: The skorch class that turns outputs into predictions.
        classes: The classes of a classifier; None to infer them.
    """

    name: str
    scoring: str
    lower_is_better: bool | None
    on_train: bool
    model: type[Any]
    classes: tuple[Any, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One network to train: its factory, hyper-parameters, samples, fold and seed.

    All random numbers come from ``(seed, fold)``. Runs that differ in their activation start from the
    same weights and see the same batches.

    Args:
        net: Returns a new module, with weights drawn from torch's default generator.
        rows: Indices of the samples to train on, in their order.
        valid: Indices of the validation samples, evaluated after every epoch; None for no validation.
        test: Indices of the test samples, evaluated after training; None for no test.
        sample_weights: Weights (m,), float64 > 0; sample i has the weight ``sample_weights[i % m]``. Losses
            and accuracies are then weighted means. None for equal weights.
        loss: The criterion, which must average over samples.
        optimizer: The optimizer and its hyper-parameters.
        epochs: Passes over the samples.
        batch_size: Samples per step.
        shuffle: Whether the samples are in a different order in every epoch.
        piece: Samples per validation batch if the loss depends on it; 0 for any number.
        drop_last: Whether to drop an incomplete last batch.
        schedule: The learning rate schedule; None for a constant rate.
        clipping: The maximum norm of the gradients and the type of the norm; None for no clipping.
        stopping: The rule of early stopping; None for no early stopping.
        scoring: How to compute the accuracy: ``"classes"``, ``"binary"`` for logits, ``"binary
            probabilities"``, or ``""`` for no accuracy.
        scores: Further scores of every epoch.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"float32"``, or ``"bf16"`` for matrix products in bfloat16.
        init: ``"torch"`` for the initial weights of the module, or ``"matched"`` for :func:`actlab.init_`.
        seed: The seed of the run.
        fold: The index of the fold.
        diagnostic_epochs: Epochs with diagnostics. They do not change the training.
        activations: Paths of the modules whose trained parameters are part of the result.
    """

    net: Callable[[], nn.Module]
    rows: Rows
    valid: Rows | None = None
    test: Rows | None = None
    sample_weights: npt.NDArray[np.float64] | None = None
    loss: nn.Module
    optimizer: Optimizer
    epochs: int
    batch_size: int
    shuffle: bool = False
    drop_last: bool = False
    piece: int = 0
    schedule: Schedule | None = None
    clipping: tuple[float, float] | None = None
    stopping: EarlyStopping | None = None
    scoring: str = "classes"
    scores: tuple[EpochScore, ...] = ()
    device: str = "cpu"
    precision: str = "float32"
    init: str = "torch"
    seed: int = 0
    fold: int = 0
    diagnostic_epochs: tuple[int, ...] = ()
    activations: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        rows = len(self.rows)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def build(self) -> nn.Module:
        """Return a new module, with weights from the random numbers of the run."""
        with seeded_torch(self.seed, self.fold, WEIGHTS, self.device):
            return self.net()

    def build_initialized(self, X: Tensor) -> nn.Module:
        """Return what :meth:`build` returns, with the run's initialization measured on inputs X (n, ...)."""
        if self.init == "torch":
            return self.build()
        rows = self.rows if self.valid is None else np.sort(np.concatenate([self.rows, self.valid]))
        samples = X[torch.from_numpy(select_init_samples(rows)).to(X.device)]
        with seeded_torch(self.seed, self.fold, WEIGHTS, self.device):
            return init_(self.net(), samples.cpu())

    def seed_noise(self) -> contextlib.AbstractContextManager[None]:
        """Seed torch's default generator for a network that draws random numbers during training."""
        return seeded_torch(self.seed, self.fold, NOISE, self.device)

    def iterate_orders(self) -> Iterator[Tensor]:
        """Yield the indices of the samples (n,) in the order of each epoch."""
        rows = torch.from_numpy(self.rows)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.fold, ORDER))
        while True:
            yield rows[torch.randperm(len(rows), generator=generator)] if self.shuffle else rows


def select_init_samples(X: Any) -> Any:
    """Return at most 256 of the samples or indices X (n, ...), evenly spaced because files may be sorted."""
    return X[:: -(-len(X) // _INIT_SAMPLES)]


@dataclass(kw_only=True)
class Result:
    """The result of a run.

    Attributes:
        weights: The state of the module on the CPU, after the last epoch, or after the best one if early
            stopping restores it; empty if the module was not trained.
        history: One record per epoch, in skorch's columns.
        seconds: The run's share of the time of its fleet.
        how: How it was trained: ``"layer by layer"``, ``"autograd"`` or ``"skorch"``.
        reason_alone: Why it trained alone, or why skorch trains it; empty if it trained in a fleet.
        failure: Why there is no trained network, in one line; empty if there is one.
        passing: Whether the failure may be temporary, because memory, a file or a package was missing; a
            retry, or skorch, may succeed.
        test_loss: Mean loss over the test samples; NaN without any.
        test_acc: Accuracy on the test samples, 0 to 1; NaN without any.
        outcomes: For each test sample (m,), whether its class is correct (bool), its squared error (float32)
            if the loss is that of a regression, or how many of its several labels are correct (float32) if
            ``scoring`` is empty; None if it has none of these.
        diagnostics: One record per epoch and layer.
        parameters: One record per trained parameter of the run's activations.
        saved_bytes: Bytes that a training step saves for backward; None if unknown.
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
    outcomes: Outcomes | None = None
    diagnostics: list[dict[str, Any]] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)
    saved_bytes: int | None = None

    @property
    def needs_skorch(self) -> bool:
        """Whether no fleet can train the run, so that skorch has to."""
        return not self.how and not self.failure

    @property
    def failure_kind(self) -> FailureKind | None:
        """The kind of failure; None without a failure, or if the failure did not occur in training."""
        return next((kind for kind in FailureKind if self.failure.startswith(kind)), None)

    @property
    def died(self) -> bool:
        """Whether the run ended the processes that trained it, so that it must not run in this one."""
        return self.failure_kind is FailureKind.PROCESS_DIED

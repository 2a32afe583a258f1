"""Train one network on one dataset, with the same result every time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skorch
import torch
from sklearn.base import clone
from skorch.callbacks import EarlyStopping, LRScheduler, PrintLog
from skorch.dataset import ValidSplit
from skorch.history import History
from skorch.utils import noop

from actlab.data.dataset import Dataset
from actlab.data.load import load_data
from actlab.errors import UsageError, raise_problems, summarize_error
from actlab.execution.scheduler import SchedulerState, Watcher, train_runs
from actlab.fleet.diagnostics import choose_diagnostic_epochs
from actlab.fleet.run import Result, Run
from actlab.fleet.skorch_adapter import build_module, read_run, restore_net
from actlab.fleet.skorch_training import fit_with_skorch, list_epochs
from actlab.models.lazy_layers import initialize_lazy_layers, list_lazy_parameters
from actlab.models.networks import NeuralNet
from actlab.spec import ActivationLike, ResolvedActivation, resolve
from actlab.training.validation_split import (
    HELD_OUT,
    find_holdout_problem,
    make_given_split,
    split_validation,
)

if TYPE_CHECKING:
    from actlab.data.load import Source

HISTORY_COLUMNS = (
    *("epoch", "train_loss", "train_loss_best", "valid_acc", "valid_acc_best"),
    *("valid_loss", "valid_loss_best", "dur"),
)
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
        epochs: Passes over the training samples; ``"auto"`` for at most 200, with an early stopping of 10
            epochs unless ``early_stopping`` is set.
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
        precision: ``"float32"``, or ``"bf16"`` for matrix products of bfloat16 factors.
        init: Initial weights: ``"torch"`` for those of the module, or ``"matched"`` to scale them for the
            activation with :func:`actlab.init_`.

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

    The rate rises from 1/25 over the first 30 % of the epochs and then falls towards 0, both like a cosine.

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


def _make_callbacks(settings: TrainSettings) -> list[tuple[str, Any]] | None:
    """Return the callbacks of schedule and early stopping; None for none."""
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
    """Return the problem with an argument that must be an integer; an empty text if there is none."""
    if isinstance(value, numbers.Integral) and least <= int(value) < 2**63:
        return ""
    return f"{name} must be an integer >= {least}, got {value!r}"


def find_precision_problem(name: object) -> str:
    """Return the problem with a precision; an empty text if there is none."""
    if name in PRECISIONS:
        return ""
    return f"precision must be {' or '.join(map(repr, PRECISIONS))}, got {name!r}"


def find_init_problem(name: object) -> str:
    """Return the problem with an initialization; an empty text if there is none."""
    return "" if name in INITS else f"init must be {' or '.join(map(repr, INITS))}, got {name!r}"


def find_device_problem(name: str) -> str:
    """Return the problem with a device name; an empty text if there is none."""
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        return f"device must be cpu, cuda or cuda:N, got {name!r}"
    if kind == "cuda" and int(index or 0) >= (count := torch.cuda.device_count()):
        devices = f"{count or 'no'} CUDA device{'s' * (count > 1)}"
        return f"device must be available, got {name!r}; PyTorch finds {devices}"
    return ""


def make_net(dataset: Dataset, activation: ActivationLike, settings: TrainSettings) -> skorch.NeuralNet:
    """Make an untrained skorch net of the reference network, with 20 % validation samples.

    A classifier has the cross-entropy as its loss, and a fifth of every class is held out. A regressor has
    the mean squared error, a net for several labels the binary cross-entropy of each output, and the first
    fifth of the samples is held out. The samples are not shuffled, which is skorch's default.

    Args:
        dataset: Gives the number of features and of outputs, and the kind of targets.
        activation: As for :class:`~actlab.models.networks.NeuralNet`.
        settings: The hyperparameters.

    Returns:
        A ``NeuralNetClassifier``, a ``NeuralNetRegressor``, or for several labels a ``NeuralNet``, whose
        ``predict_proba(X)[:, 1]`` has the probability (n, k) of each label.
    """
    hidden = tuple(settings.hidden)
    options: dict[str, Any] = {"optimizer__weight_decay": settings.weight_decay}  # AdamW's default is not 0
    if settings.momentum is not None:
        options["optimizer__momentum"] = settings.momentum
    if settings.dropout:
        options["module__dropout"] = settings.dropout
    kind: type[skorch.NeuralNet] = skorch.NeuralNetClassifier
    criterion: type[torch.nn.Module] = torch.nn.CrossEntropyLoss
    if dataset.is_regression:
        kind, criterion = skorch.NeuralNetRegressor, torch.nn.MSELoss
    elif dataset.is_multilabel:
        kind, criterion = skorch.NeuralNet, torch.nn.BCEWithLogitsLoss
    return kind(
        NeuralNet,
        module__activation=activation,
        module__num_units=hidden[0] if hidden[1:] == (hidden[0] // 2,) else hidden,
        module__num_features=dataset.num_features,
        module__num_classes=dataset.num_classes,
        criterion=criterion,
        optimizer=OPTIMIZERS[settings.optimizer],
        lr=settings.lr,
        max_epochs=AUTO_EPOCHS if settings.epochs == "auto" else settings.epochs,
        callbacks=_make_callbacks(settings),
        batch_size=settings.batch_size,
        device=settings.device,
        train_split=ValidSplit(HELD_OUT, stratified=dataset.y.ndim == 1),
        verbose=0,
        **options,
    )


def try_forward(
    net: skorch.NeuralNet, activation: ActivationLike, dataset: Dataset, *, any_output: bool = False
) -> Any:
    """Build the network of a net and call it with two samples; return what builds it.

    The call initializes lazy layers, because fleets need the shapes of their weights, and because an
    activation that draws random numbers in the first step would change these weights. The reference network
    works with every element-wise activation of the catalogue or from a formula, so it is not built in that
    case.

    Args:
        net: An untrained net with the activation.
        activation: The activation, for messages.
        dataset: The data.
        any_output: Whether any output is allowed, for a net with its own loss.

    Returns:
        The net's module, or a function that builds it and initializes its lazy layers.

    Raises:
        UsageError: The network cannot be built or called, or its output has another shape than the targets.
    """
    module, problem = net.module, f"the network with activation {activation!r}"
    if module is NeuralNet and dataset.X.dtype.kind == "i":
        advice = "set module (--module) to a network with an embedding, or omit scale"
        raise UsageError(f"{dataset.name}: X has integers, which the default network does not take; {advice}")
    if module is NeuralNet and isinstance(activation, ResolvedActivation) and activation.is_elementwise:
        activation.build()
        return module
    samples = dataset.X[:2].copy()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            built = _build(net)
            lazy = bool(list_lazy_parameters(built))
            outputs = initialize_lazy_layers(built, samples)(torch.from_numpy(samples))
    except UsageError:
        raise
    except Exception as error:  # raised by the user's code
        hint = "; to pass integers to an embedding, set scale='none' (--scale none)"
        raise UsageError(
            f"{problem} fails on two samples of {dataset.name}: {summarize_error(error)}"
            f"{hint * (isinstance(error, RuntimeError) and 'indices' in str(error))}"
        ) from error
    if not any_output and not isinstance(outputs, torch.Tensor):
        raise UsageError(f"{problem} returns a {type(outputs).__name__}, not a tensor")
    expected = (len(samples), dataset.num_classes)
    if not any_output and tuple(outputs.shape) != expected:
        raise UsageError(
            f"{problem} returns the shape {tuple(outputs.shape)} for two samples, not {expected}"
        )
    return functools.partial(_build_initialized, module, samples) if lazy else module


def _build(net: skorch.NeuralNet) -> torch.nn.Module:
    try:
        return build_module(net.module, net.get_params_for("module"))
    except Exception:
        if type(net) in (skorch.NeuralNetClassifier, skorch.NeuralNetRegressor):
            raise
        return clone(net).initialize().module_.cpu()  # type: ignore[no-any-return]  # a subclass may override how it is built


def _build_initialized(module: Any, X: npt.NDArray[Any], /, **options: Any) -> torch.nn.Module:
    return initialize_lazy_layers(build_module(module, options), X)


@dataclass(frozen=True)
class TrainingPlan:
    """A run that is ready to train.

    Attributes:
        dataset: The data.
        X: Its features, scaled by the training samples.
        net: The untrained net.
        run: The run, with samples, seed and the epochs with diagnostics.
    """

    dataset: Dataset
    X: npt.NDArray[np.float32 | np.int64]
    net: skorch.NeuralNet
    run: Run


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        net: The fitted net.
        result: The result of the run.
        diagnostic_epochs: The epochs with diagnostics.
    """

    net: skorch.NeuralNet
    result: Result
    diagnostic_epochs: tuple[int, ...]


def train(
    data: Source,
    activation: ActivationLike = "relu",
    settings: TrainSettings | None = None,
    *,
    target: Any = None,
    regression: bool = False,
    scale: str | None = None,
    sink: Callable[[str], None] | None = None,
) -> skorch.NeuralNet:
    """Train the reference network on a dataset, as a fleet of one.

    The result depends on data, activation and settings only, not on earlier runs or threads.

    Args:
        data: A dataset, or a source for :func:`~actlab.load_data`.
        activation: As for :class:`~actlab.models.networks.NeuralNet`.
        settings: The hyperparameters (default: ``TrainSettings()``).
        target: For tables: the name of the target column; for a regression, or several labels,
            also a list of names.
        regression: For data that are not named: whether the targets are numbers, not classes.
        scale: ``"columns"``, ``"common"`` or ``"none"``, as for :func:`~actlab.load_data`. Columns are scaled
            by the samples that are not held out for validation.
        sink: Takes the lines of skorch's live table; None for no table.

    Returns:
        The fitted net; :func:`history_frame` has its epochs.

    Raises:
        UsageError: The activation is unknown or does not fit, or the data has too few samples for validation.
    """
    dataset = load_data(data, target=target, regression=regression, scale=scale)
    return run_training(plan_training(dataset, activation, settings, diagnostics=False), sink=sink).net


def plan_training(
    dataset: Dataset,
    activation: ActivationLike,
    settings: TrainSettings | None = None,
    *,
    diagnostics: bool | None = None,
) -> TrainingPlan:
    """Plan what :func:`train` trains.

    Args:
        dataset: The data.
        activation: As for :class:`~actlab.models.networks.NeuralNet`.
        settings: The hyperparameters (default: ``TrainSettings()``).
        diagnostics: Whether every epoch has diagnostics; None for as many epochs as cost little.

    Raises:
        UsageError: As :func:`train`; the message names all problems.
    """
    settings = settings or TrainSettings()
    if not isinstance(settings, TrainSettings):
        raise UsageError(f"settings must be a TrainSettings, got a {type(settings).__name__}")
    problems = [find_holdout_problem(dataset.y)]
    if dataset.test_rows is not None:
        problems.append(f"{dataset.name} has a fixed test set, which only compare uses; load it without test")
    try:
        activation = resolve(activation)
        net = make_net(dataset, activation, settings)
        net.set_params(module=try_forward(net, activation, dataset))
    except UsageError as error:
        problems.insert(0, str(error))
    raise_problems(problems)
    split_net, samples = net, np.arange(len(dataset.y))
    if dataset.groups is not None:
        split = make_given_split(net, dataset.y, dataset.groups, settings.seed, 0)
        split_net = clone(net).set_params(train_split=split)
    rows, valid = split_validation(split_net, samples, dataset.y, settings.seed, 0)
    X = dataset.scale(rows)
    run = read_run(net, X, dataset.y)
    run = dataclasses.replace(
        run,
        rows=rows,
        valid=valid,
        sample_weights=dataset.weights,
        seed=settings.seed,
        precision=settings.precision,
        init=settings.init,
    )
    epochs = choose_diagnostic_epochs(diagnostics, run.epochs, run.steps, run.batch_size)
    return TrainingPlan(dataset, X, split_net, dataclasses.replace(run, diagnostic_epochs=epochs))


def run_training(plan: TrainingPlan, *, sink: Callable[[str], None] | None = None) -> TrainingResult:
    """Train as planned.

    Args:
        plan: The plan.
        sink: Takes the lines of skorch's live table; None for no table.

    Raises:
        UsageError: The activation failed before the first epoch ended.
    """
    net, run, X, y = plan.net, plan.run, plan.X, plan.dataset.y
    (result,) = train_runs([run], X, y, watch=_make_live_table(sink) if sink else None)
    if needs_skorch := result.needs_skorch:
        if run.sample_weights is not None:
            reason = result.reason_alone
            raise UsageError(f"the model cannot be trained with weights: {reason}; omit weights")
        if sink:
            net.set_params(verbose=1, callbacks__print_log=PrintLog(sink=sink))
        result = Result(how="skorch", reason_alone=result.reason_alone)
        with contextlib.suppress(Exception):  # the result contains it
            fit_with_skorch(net, X, y, run.seed, run.fold, result, init=run.init)
        result.history = list_epochs(net)
    activation = net.get_params_for("module")["activation"]
    if not any("train_loss" in epoch for epoch in result.history):
        raise UsageError(f"activation {activation!r} cannot be trained: {result.failure}")
    if needs_skorch:
        return TrainingResult(net, result, ())
    return TrainingResult(restore_net(net, run, result, X, y), result, run.diagnostic_epochs)


def _make_live_table(sink: Callable[[str], None]) -> Watcher:
    """Return a watcher that passes the lines of skorch's live table to ``sink``."""
    so_far = SimpleNamespace(history=History(), verbose=1)
    log = PrintLog(sink=sink).initialize()

    def watch(state: SchedulerState) -> None:
        for row in state.last_epochs:
            so_far.history.new_epoch()
            for name, value in row.items():
                so_far.history.record(name, value)
            log.on_epoch_end(so_far)

    return watch


def history_frame(net: skorch.NeuralNet) -> pd.DataFrame:
    """Return the history of a fitted net.

    Args:
        net: A fitted net.

    Returns:
        One row per epoch: ``epoch`` (from 1), ``train_loss`` and ``valid_loss`` (mean cross-entropy in nats,
        or mean squared error), ``valid_acc`` (0 to 1; not for a regression), ``dur`` (seconds), and
        ``train_loss_best``, ``valid_acc_best``, ``valid_loss_best`` (whether it is the best epoch so far).
        Without validation there are no ``valid`` columns.
    """
    columns = [column for column in HISTORY_COLUMNS if column in net.history[0]]
    return pd.DataFrame([{column: row[column] for column in columns} for row in net.history])

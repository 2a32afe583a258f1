"""One net trained on one dataset, the same way every time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import numbers
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skorch
import torch
from skorch.callbacks import PrintLog
from skorch.dataset import ValidSplit
from skorch.history import History

from actlab.errors import UsageError, raise_problems
from actlab.execution.scheduler import State, Watcher, train_runs
from actlab.fleet.diagnostics import epochs_to_look
from actlab.fleet.run import Result, Rows
from actlab.fleet.skorch_adapter import _built, fitted, held_back, read
from actlab.fleet.unfused import epochs_of, fit_alone
from actlab.models.lazy_layers import initialized, lazy_names
from actlab.models.networks import ActivationLike, NeuralNet
from actlab.timing import saved_bytes

if TYPE_CHECKING:
    from actlab.data.dataset import Dataset

HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "train_loss_best",
    "valid_acc",
    "valid_acc_best",
    "valid_loss",
    "valid_loss_best",
    "dur",
)
PRECISIONS = ("float32", "bf16")
HELD_BACK = 5  # one row in five, 20 %, is held back for validation


@dataclass(frozen=True)
class TrainSettings:
    """How a net is trained; the defaults are the notebook's.

    Args:
        epochs: Passes over the training rows.
        batch_size: Rows in a step.
        lr: Learning rate of SGD.
        momentum: Momentum of SGD.
        seed: Where the initial weights, and whatever else is random, come from.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        num_units: Width of the first hidden layer.
        precision: ``"float32"``, or ``"bf16"`` for matrix products of bfloat16 factors.

    Raises:
        UsageError: Some values are impossible; the message names all of them.

    Examples:
        >>> TrainSettings(epochs=0, lr=-1.0)
        Traceback (most recent call last):
        actlab.errors.UsageError: epochs is 0, not a whole number of at least 1; lr is -1.0, not above 0
    """

    epochs: int = 25
    batch_size: int = 128
    lr: float = 0.01
    momentum: float = 0.95
    seed: int = 0
    device: str = "cpu"
    num_units: int = 128
    precision: str = "float32"

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "num_units": 2, "seed": 0}
        problems = [whole_number_problem(name, getattr(self, name), low) for name, low in least.items()]
        if not (math.isfinite(self.lr) and self.lr > 0):
            problems.append(f"lr is {self.lr!r}, not above 0")
        if not 0 <= self.momentum < 1:
            problems.append(f"momentum is {self.momentum!r}, not from 0 to below 1")
        problems += [device_problem(self.device), precision_problem(self.precision)]
        raise_problems(problems)


def whole_number_problem(name: str, value: object, least: int) -> str:
    """Say what is wrong with an argument that must be a whole number; empty when nothing is."""
    if isinstance(value, numbers.Integral) and least <= int(value) < 2**63:
        return ""
    return f"{name} is {value!r}, not a whole number of at least {least}"


def precision_problem(name: object) -> str:
    """Say what is wrong with a precision; empty when nothing is."""
    return "" if name in PRECISIONS else f"precision is {name!r}, not {' or '.join(map(repr, PRECISIONS))}"


def device_problem(name: str) -> str:
    """Say what is wrong with a device's name; empty when nothing is."""
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        return f"device is {name!r}, not cpu, cuda or cuda:N"
    if kind == "cuda" and int(index or 0) >= (count := torch.cuda.device_count()):
        return f"device is {name!r}, but PyTorch sees {count or 'no'} CUDA device{'s' * (count > 1)} here"
    return ""


def make_net(dataset: Dataset, activation: ActivationLike, settings: TrainSettings) -> skorch.NeuralNet:
    """Make the untrained net: SGD with momentum, 20 % of the rows held back for validation.

    For classes it is a classifier with cross-entropy, and every class gives a fifth of its rows; for a
    regression a regressor with mean squared error, and the first fifth of the rows is held back. Batches come
    in the order of the rows, as in the notebook: skorch does not shuffle unless told to.

    Args:
        dataset: Gives the number of features and of outputs, and what kind of net it is.
        activation: What :class:`~actlab.models.networks.NeuralNet` takes.
        settings: How to train.

    Returns:
        A net to ``fit``: a ``NeuralNetClassifier``, or a ``NeuralNetRegressor``.
    """
    regression = dataset.is_regression
    kind = skorch.NeuralNetRegressor if regression else skorch.NeuralNetClassifier
    return kind(
        NeuralNet,
        module__activation=activation,
        module__num_units=settings.num_units,
        module__num_features=dataset.num_features,
        module__num_classes=dataset.num_classes,
        criterion=torch.nn.MSELoss if regression else torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=settings.momentum,
        lr=settings.lr,
        max_epochs=settings.epochs,
        batch_size=settings.batch_size,
        device=settings.device,
        train_split=ValidSplit(HELD_BACK, stratified=not regression),
        verbose=0,
    )


def lazy_filled(net: skorch.NeuralNet, X: npt.NDArray[Any]) -> Any:
    """Return what makes the module of a net, with the weights of its lazy layers if it has any.

    These weights are then drawn where the module is made, and not in the first step: fleets need their
    shapes, and an activation that draws random numbers would change them.

    Args:
        net: An untrained net.
        X: Features (n, ...), of which two samples are passed through the module.

    Returns:
        The net's module, or a function that makes it and passes the samples through.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            lazy = lazy_names(_built(net.module, net.get_params_for("module")))
    except Exception:  # anybody's module; its runs fail with the same error, which is then in the results
        return net.module
    return functools.partial(_initialized, net.module, X[:2].copy()) if lazy else net.module


def _initialized(module: Any, X: npt.NDArray[Any], /, **options: Any) -> torch.nn.Module:
    return initialized(_built(module, options), X)


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        net: The fitted net.
        result: How it went.
        looks: After which epochs it was looked into.
        saved_bytes: Bytes that a step kept for its backward pass.
    """

    net: skorch.NeuralNet
    result: Result
    looks: tuple[int, ...]
    saved_bytes: int


def train(
    dataset: Dataset,
    activation: ActivationLike = "relu",
    settings: TrainSettings | None = None,
    *,
    sink: Callable[[str], None] | None = None,
) -> skorch.NeuralNet:
    """Train the notebook's net on a dataset, as a fleet of one.

    The result depends on data, activation and settings alone, not on what ran before or on threads.

    Args:
        dataset: What to learn.
        activation: What :class:`~actlab.models.networks.NeuralNet` takes.
        settings: How to train; the notebook's settings when left out.
        sink: Where the lines of skorch's live table go; None for no table.

    Returns:
        The fitted net; :func:`history_frame` has its epochs.

    Raises:
        UsageError: The activation is unknown or does not fit, or the data has too few rows to hold some back.
    """
    return trained(dataset, activation, settings or TrainSettings(), sink=sink, diagnostics=False).net


def trained(
    dataset: Dataset,
    activation: ActivationLike,
    settings: TrainSettings,
    *,
    sink: Callable[[str], None] | None = None,
    diagnostics: bool | None = None,
) -> Trained:
    """Train as :func:`train` does, and return all that came out.

    Args:
        dataset: What to learn.
        activation: What :class:`~actlab.models.networks.NeuralNet` takes.
        settings: How to train.
        sink: Where the lines of skorch's live table go; None for no table.
        diagnostics: Whether the net is looked into after every epoch; None for as often as costs little.

    Raises:
        UsageError: As :func:`train`.
    """
    check_training(dataset, activation, settings)
    net = make_net(dataset, activation, settings)
    net.set_params(module=lazy_filled(net, dataset.X))
    rows, valid = holdout(net, np.arange(len(dataset.y)), dataset, settings.seed, 0)
    run = dataclasses.replace(
        read(net, dataset.X, dataset.y),
        rows=rows,
        valid=valid,
        seed=settings.seed,
        precision=settings.precision,
    )
    run = dataclasses.replace(run, looks=epochs_to_look(diagnostics, run.epochs, run.steps, run.batch_size))
    (result,) = train_runs([run], dataset.X, dataset.y, watch=_table(sink) if sink else None)
    if by_skorch := result.for_skorch:
        if sink:
            net.set_params(verbose=1, callbacks__print_log=PrintLog(sink=sink))
        result = Result(how="by skorch", reason_alone=result.reason_alone)
        with contextlib.suppress(Exception):  # the result has it
            fit_alone(net, dataset.X, dataset.y, run.seed, run.fold, result)
        result.history = epochs_of(net)
    if not result.history:
        raise UsageError(f"activation {activation!r} cannot be trained: {result.failure}")
    kept = saved_bytes(run.build(), torch.from_numpy(dataset.X[: min(run.batch_size, len(rows))]))
    if by_skorch:
        return Trained(net, result, (), kept)
    return Trained(fitted(net, run, result, dataset.X, dataset.y), result, run.looks, kept)


def holdout(
    net: skorch.NeuralNet, rows: Rows, dataset: Dataset, seed: int, fold: int
) -> tuple[Rows, Rows | None]:
    """Split rows (n,) of a dataset into those that a net trains on and those it validates on."""
    with warnings.catch_warnings():
        # A class with fewer than five rows is spread as evenly as it can be, which is all we ask.
        warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        return held_back(net, rows, dataset.y, seed, fold)


def _table(sink: Callable[[str], None]) -> Watcher:
    """Return what hands the lines of skorch's live table to ``sink``."""
    so_far = SimpleNamespace(history=History(), verbose=1)
    log = PrintLog(sink=sink).initialize()

    def watch(state: State) -> None:
        for row in state.rows:
            so_far.history.new_epoch()
            for name, value in row.items():
                so_far.history.record(name, value)
            log.on_epoch_end(so_far)

    return watch


def check_training(dataset: Dataset, activation: ActivationLike, settings: TrainSettings) -> None:
    """Refuse, before any training, what :func:`train` cannot do.

    Args:
        dataset: What to learn.
        activation: What :class:`~actlab.models.networks.NeuralNet` takes.
        settings: How to train.

    Raises:
        UsageError: The message names all problems.
    """
    raise_problems([activation_problem(dataset, activation, settings), holdback_problem(dataset.y)])


def activation_problem(dataset: Dataset, activation: ActivationLike, settings: TrainSettings) -> str:
    """Say why a net with this activation cannot be built or run; empty when it can."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            sizes = (dataset.num_features, dataset.num_classes)
            net = NeuralNet(settings.num_units, activation, *sizes)
            shape = tuple(net(torch.from_numpy(dataset.X[:2])).shape)
    except UsageError as error:
        return str(error)
    except Exception as error:  # the activation may be anybody's code
        return f"activation {activation!r} fails in the net: {str(error).splitlines()[0]}"
    expected = (len(dataset.X[:2]), dataset.num_classes)
    return "" if shape == expected else f"activation {activation!r} gives {shape}, not {expected}"


def holdback_problem(y: npt.NDArray[Any], folds: int = 1) -> str:
    """Say why a fifth of the training rows of every fold cannot be held back; empty when it can.

    Args:
        y: The dataset's targets: labels (n,), int64, or numbers (n, 1), float32.
        folds: Parts that the rows are split into, of which a net trains on all but one; 1 for no split.
    """
    numbers = y.dtype.kind == "f"
    most = len(y) if numbers else int(np.bincount(y).max())
    left = most - math.ceil(most / folds) if folds > 1 else most
    if left >= HELD_BACK:
        return ""
    few = f"a net trains on {left} rows" if numbers else f"the largest class trains on {left} rows"
    return f"one row in {HELD_BACK} is held back for validation, but {few}"


def history_frame(net: skorch.NeuralNet) -> pd.DataFrame:
    """Return what happened in each epoch.

    Args:
        net: A fitted net.

    Returns:
        One row per epoch. Columns, as far as the net was validated: ``epoch`` (from 1), ``train_loss`` and
        ``valid_loss`` (mean cross-entropy in nats, or of a regression mean squared error), ``valid_acc``
        (0 to 1; a regression has none), ``dur`` (seconds), and ``train_loss_best``, ``valid_acc_best``,
        ``valid_loss_best`` (whether no epoch before was as good).
    """
    columns = [column for column in HISTORY_COLUMNS if column in net.history[0]]
    return pd.DataFrame([{column: row[column] for column in columns} for row in net.history])

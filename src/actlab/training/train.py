"""Train one network on one dataset, with the same result every time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skorch
import torch
from sklearn.base import clone
from skorch.callbacks import PrintLog
from skorch.dataset import ValidSplit
from skorch.history import History

from actlab.data.dataset import Dataset
from actlab.data.load import load_data
from actlab.errors import UsageError, raise_problems, summarize_error
from actlab.execution.scheduler import SchedulerState, Watcher, train_runs
from actlab.fleet.diagnostics import choose_diagnostic_epochs
from actlab.fleet.module_building import build_module
from actlab.fleet.run import Result, Run
from actlab.fleet.skorch_adapter import read_run, require_weights_support, restore_net
from actlab.fleet.skorch_training import fit_with_skorch, list_epochs
from actlab.models.lazy_layers import initialize_lazy_layers, list_lazy_parameters
from actlab.models.networks import NeuralNet
from actlab.spec import ActivationLike, ResolvedActivation, resolve
from actlab.training.settings import AUTO_EPOCHS, OPTIMIZERS, TrainSettings, make_callbacks
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


def make_net(dataset: Dataset, activation: ActivationLike, settings: TrainSettings) -> skorch.NeuralNet:
    """Make an untrained skorch net of the reference network, with 20 % validation samples.

    A classifier has the cross-entropy as its loss, and a fifth of every class is held out. A regressor has
    the mean squared error, and a net for several labels has the binary cross-entropy of each output; for
    both, the first fifth of the samples is held out. The samples are not shuffled, which is skorch's default.

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
        callbacks=make_callbacks(settings),
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
        UsageError: The network cannot be built or called, or the shape of its output does not match the
            targets.
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
        X: Its features, scaled with statistics of the training samples.
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
        net: The fitted skorch model.
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
        regression: For data other than named datasets: whether the targets are numbers, not classes.
        scale: ``"columns"``, ``"common"`` or ``"none"``, as for :func:`~actlab.load_data`. The scales of
            columns are computed from the samples that are not held out for validation.
        sink: Takes the lines of skorch's live table; None for no table.

    Returns:
        The fitted net; :func:`history_frame` has its epochs.

    Raises:
        UsageError: The activation is unknown or does not fit the network, or the data has too few samples for
            validation.
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
    """Plan the run that :func:`train` trains.

    Args:
        dataset: The data.
        activation: As for :class:`~actlab.models.networks.NeuralNet`.
        settings: The hyperparameters (default: ``TrainSettings()``).
        diagnostics: Whether every epoch has diagnostics; None for as many epochs as cost little.

    Raises:
        UsageError: As for :func:`train`; the message names all problems.
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
            require_weights_support(result.reason_alone)
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

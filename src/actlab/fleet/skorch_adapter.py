"""Convert skorch models to runs, and results of runs to trained skorch models."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import skorch
import torch
from skorch.dataset import ValidSplit
from skorch.history import History
from torch import nn
from torch.utils.data import DataLoader

from actlab.errors import UsageError, summarize_error
from actlab.fleet.inputs import join_inputs, list_arguments, read_inputs, read_targets, slice_inputs
from actlab.fleet.losses import find_loss_problem, has_class_weights, has_explicit_gradient, is_for_classes
from actlab.fleet.module_building import build_module
from actlab.fleet.optimizers import OPTIMIZERS, make_torch_arguments
from actlab.fleet.run import NeedsSkorch, Optimizer, Result, Run
from actlab.fleet.skorch_callbacks import read_callbacks, show_value
from actlab.fleet.stacked_weights import load_module_state
from actlab.models.random_streams import WEIGHTS, seeded_torch

_CLASSES = (
    skorch.NeuralNet,
    skorch.NeuralNetClassifier,
    skorch.NeuralNetBinaryClassifier,
    skorch.NeuralNetRegressor,
)
_PREDICTION_BATCH = 1024  # samples
_REQUIRED = {
    "warm_start": False,
    "compile": False,
    "dataset": skorch.dataset.Dataset,
    "predict_nonlinearity": "auto",  # it affects the accuracy
    "threshold": 0.5,
}
# torch converts these in native byte order.
_DTYPES = (np.float16, np.float32, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64)
# Options of an optimizer or a DataLoader that change neither its updates nor its batches.
_IGNORED_OPTIONS = frozenset(
    {"foreach", "fused", "num_workers", "pin_memory", "persistent_workers", "prefetch_factor"}
)
# torch's last error, after the checks of the arguments.
_NO_PARAMETERS = "optimizer got an empty parameter list"


def read_run(net: skorch.NeuralNet, X: Any, y: Any) -> Run:
    """Return a run with the settings of a skorch model, without samples, seed and fold.

    Args:
        net: The model, initialized or not.
        X: The inputs.
        y: The targets.

    Returns:
        The run; its rows are empty.

    Raises:
        NeedsSkorch: A fleet does not support a setting of the model or the data.
    """
    if overridden := ", ".join(_overridden_methods(kind := type(net))):
        raise NeedsSkorch(f"{kind.__name__} overrides {overridden}; a fleet runs skorch's own training loop")
    for name, required in _REQUIRED.items():
        if (value := getattr(net, name, required)) != required:
            raise NeedsSkorch(f"{name} is {show_value(value)}; a fleet needs {show_value(required)}")
    if net.callbacks == "disable":
        raise NeedsSkorch("callbacks is 'disable'; a fleet always uses skorch's default callbacks")
    if str(net.device).partition(":")[0] not in ("cpu", "cuda"):
        raise NeedsSkorch(f"device is {net.device!r}; a fleet trains on 'cpu' or 'cuda'")
    if not (net.train_split is None or type(net.train_split) is ValidSplit):
        split = type(net.train_split).__name__
        raise NeedsSkorch(f"train_split is a {split}; a fleet needs a ValidSplit or None")
    loss = _read_loss(net)
    is_explicit, for_classes = has_explicit_gradient(loss), is_for_classes(loss)
    arrays, targets = read_inputs(X), read_targets(y)
    arguments = list_arguments(arrays)
    _check_inputs(arrays, X)
    _check_targets(targets, loss, for_classes, is_explicit)
    factory = [net.module, net.get_params_for("module"), *([arguments] if arguments else [])]
    samples = len(next(iter(arrays.values())))
    batches = _read_batches(net, samples)
    if for_classes and not is_explicit:  # a mean with class weights depends on the batch
        size = _validation_batch_size(net)
        batches["piece"] = samples if size == -1 else size
    return Run(
        net=functools.partial(build_module, *factory),
        rows=np.empty(0, np.int64),
        loss=loss,
        optimizer=_read_optimizer(net),
        epochs=net.max_epochs,
        device=str(net.device),
        **batches,
        **read_callbacks(net, loss, _find_skorch_class(type(net))),
    )


def restore_net(net: skorch.NeuralNet, run: Run, result: Result, X: Any, y: Any) -> skorch.NeuralNet:
    """Give a model the state that it would have after training with skorch.

    Args:
        net: A model with the parameters of the run; this function initializes it.
        run: The run.
        result: The result of the run.
        X: The inputs.
        y: The targets.

    Returns:
        The same model, with weights, history and classes. The history has no rows for single batches.
    """
    with seeded_torch(run.seed, run.fold, WEIGHTS, run.device):
        net.initialize()  # draws weights, which are replaced below
    net.check_data(X, y)
    load_module_state(net.module_, result.weights)
    net.history_ = History()
    counts = {"train_batch_count": run.steps}
    if run.valid is not None:
        size = _validation_batch_size(net)
        counts["valid_batch_count"] = 1 if size == -1 else -(-len(run.valid) // size)
    for row in result.history:
        net.history_.new_epoch()
        for name, value in {**row, **counts}.items():
            net.history_.record(name, value)
    return net


def find_restored_column(net: skorch.NeuralNet) -> str:
    """Return the column of the history whose best epoch a callback restores; empty if none does."""
    entries = net.callbacks if isinstance(net.callbacks, list) else []
    callbacks = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    return next((str(one.monitor) for one in callbacks if getattr(one, "load_best", False)), "")


def require_weights_support(run: Run | str) -> None:
    """Raise UsageError unless a run can be trained with weights of samples.

    Args:
        run: A run from :func:`read_run`, or the reason why no fleet can train it.
    """
    if isinstance(run, str):
        problem = run
    elif has_class_weights(run.loss):
        problem = (
            "the criterion has class weights or an ignored class; multiply the weights of samples instead"
        )
    elif run.scores:
        problem = "EpochScoring ignores them"
    else:
        return
    raise UsageError(f"the model cannot be trained with weights: {problem}; omit weights")


def iterate_slices(dataset: Any, batch_size: int, **options: Any) -> Iterable[Any]:
    """Return the batches of a dataset as slices, larger and faster than those of a DataLoader.

    Args:
        dataset: A skorch dataset.
        batch_size: As for a DataLoader.
        **options: As for a DataLoader.
    """
    arrays, size = read_inputs(dataset.X), max(batch_size, _PREDICTION_BATCH)
    if not arrays:
        return DataLoader(dataset, batch_size=batch_size, **options)
    return ((slice_inputs(arrays, slice(first, first + size)), 0) for first in range(0, len(dataset), size))


def _validation_batch_size(net: skorch.NeuralNet) -> int:
    """Return the size of a validation batch; -1 for all samples."""
    return int(net.get_params_for("iterator_valid").get("batch_size", net.batch_size))


# -- settings of a model --------------------------------------------------------------------------


def _find_skorch_class(kind: type) -> type[skorch.NeuralNet]:
    return next(base for base in kind.__mro__ if base in _CLASSES)


def _overridden_methods(kind: type) -> list[str]:
    """Return the training methods of skorch that a subclass overrides."""
    base = _find_skorch_class(kind)
    own = {name for subclass in kind.__mro__[: kind.__mro__.index(base)] for name in vars(subclass)}
    # scikit-learn adds methods such as ``set_score_request`` to every subclass.
    public = {n for n in dir(base) if not n.startswith("__") and not n.endswith("_request")}
    return sorted(own & public - {"score"})


def _read_loss(net: skorch.NeuralNet) -> nn.Module:
    criterion, options = net.criterion, net.get_params_for("criterion")
    if isinstance(criterion, type) or (isinstance(criterion, nn.Module) and options):
        factory = criterion if isinstance(criterion, type) else type(criterion)
        criterion = factory(**options)
    if not isinstance(criterion, nn.Module):
        raise NeedsSkorch(f"criterion is a {type(criterion).__name__}; a fleet needs a loss of torch.nn")
    if problem := find_loss_problem(criterion):
        raise NeedsSkorch(problem)
    if isinstance(criterion, nn.NLLLoss) and not isinstance(net, skorch.NeuralNetClassifier):
        kind = type(net).__name__
        raise NeedsSkorch(f"criterion is NLLLoss in a {kind}; a fleet needs a NeuralNetClassifier for it")
    return criterion


def _check_inputs(arrays: Mapping[str, Any], X: Any) -> None:
    if not arrays:
        need = "a NumPy array, a tensor, a SliceDict or a DataFrame with names as columns"
        raise NeedsSkorch(f"X is a {type(X).__name__}; a fleet needs {need}")
    for name, array in arrays.items():
        where = f"X[{name!r}]" if name else "X"
        if array.dtype not in _DTYPES or (array.ndim < 2 and name == ""):
            need = "a fleet needs numbers in native byte order, in two dimensions or more"
            dtype = array.dtype.str if isinstance(array, np.ndarray) else array.dtype  # pandas' own dtypes
            raise NeedsSkorch(f"{where} has the dtype {dtype} and the shape {array.shape}; {need}")
    try:
        join_inputs(arrays)
    except ValueError as error:
        raise NeedsSkorch(f"X cannot be joined: {summarize_error(error)}") from error


def _check_targets(y: Any, loss: nn.Module, for_classes: bool, is_explicit: bool) -> None:
    if not isinstance(y, np.ndarray):
        raise NeedsSkorch(f"y is a {type(y).__name__}; a fleet needs a NumPy array, a tensor or a Series")
    if y.dtype != (expected := np.dtype(np.int64 if for_classes else np.float32)):
        raise NeedsSkorch(f"y has the dtype {y.dtype}; a fleet needs {expected} for {type(loss).__name__}")
    if for_classes and is_explicit and y.size and y.min() < 0:
        raise NeedsSkorch(f"y has the label {y.min()}; a fleet needs labels >= 0")


def _read_batches(net: skorch.NeuralNet, samples: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"batch_size": net.batch_size}
    supported = {"iterator_train": {"batch_size", "shuffle", "drop_last"}, "iterator_valid": {"batch_size"}}
    for name, names in supported.items():
        if getattr(net, name) is not DataLoader:
            raise NeedsSkorch(f"{name} is {show_value(getattr(net, name))}; a fleet needs torch's DataLoader")
        options = {k: v for k, v in net.get_params_for(name).items() if k not in _IGNORED_OPTIONS}
        if others := sorted(set(options) - names):
            takes = ", ".join(sorted(names))
            raise NeedsSkorch(f"{name}__{others[0]} is set; a fleet takes only {takes} there")
        if name == "iterator_train":
            settings |= options
    if settings["batch_size"] == -1:  # no fold has more samples than X, so its only batch is complete
        settings |= {"batch_size": samples, "drop_last": False}
    return settings


def _read_optimizer(net: skorch.NeuralNet) -> Optimizer:
    name = getattr(net.optimizer, "__name__", "")
    if name not in OPTIMIZERS or net.optimizer is not getattr(torch.optim, name):
        raise NeedsSkorch(
            f"optimizer is {show_value(net.optimizer)}; a fleet supports {', '.join(OPTIMIZERS)}"
        )
    kind, defaults = OPTIMIZERS[name], inspect.signature(net.optimizer).parameters
    options = {"lr": net.lr, **net.get_params_for("optimizer")}
    numbers = {"lr": options.pop("lr")}
    numbers |= {name: options.pop(name, defaults[name].default) for name in kind.number_names}
    flags = frozenset(name for name in kind.flag_names if options.pop(name, False))
    if others := sorted(name for name, value in options.items() if value and name not in _IGNORED_OPTIONS):
        raise NeedsSkorch(f"optimizer__{others[0]} is {options[others[0]]!r}, which a fleet does not support")
    if "betas" in numbers:
        numbers["beta1"], numbers["beta2"] = numbers.pop("betas")
    optimizer = Optimizer(name, {name: float(number) for name, number in numbers.items()}, flags)
    try:
        # With a parameter, torch imports its compiler, which takes longer than training on a small dataset.
        net.optimizer([], **make_torch_arguments(optimizer))
    except ValueError as error:  # torch raises the same error when the model is fitted
        if str(error) != _NO_PARAMETERS:
            raise NeedsSkorch(f"the optimizer rejects its arguments: {summarize_error(error)}") from error
    return optimizer


def is_equal(a: Any, b: Any) -> bool:
    """Return whether two values certainly build the same module."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return (a.dtype, a.requires_grad) == (b.dtype, b.requires_grad) and torch.equal(a, b)
    if isinstance(a, nn.Module):
        return is_equal(vars(a), vars(b))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(is_equal(a[key], b[key]) for key in a)
    return isinstance(a, str | int | float | bool | set) and bool(a == b)


def reuse_equal_factory(run: Run, factories: list[Any]) -> Run:
    """Return the run with the factory of an equal earlier run, so that both train together.

    Args:
        run: A run from :func:`read_run`.
        factories: The factories of earlier runs; this function appends a new factory.
    """
    for factory in factories:
        if factory.args[0] is run.net.args[0] and is_equal(factory.args[1], run.net.args[1]):  # type: ignore[attr-defined]
            return dataclasses.replace(run, net=factory)
    factories.append(run.net)
    return run

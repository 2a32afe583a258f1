"""Convert skorch models to runs, and results of runs to trained skorch models."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import skorch
import torch
from skorch.callbacks import (
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
)
from skorch.dataset import ValidSplit
from skorch.history import History
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from actlab.errors import summarize_error
from actlab.fleet import run as fleet_run
from actlab.fleet.losses import has_explicit_gradient, loss_problem
from actlab.fleet.lr_schedule import torch_optim_arguments
from actlab.fleet.optimizers import OPTIMIZERS
from actlab.fleet.run import Optimizer, Result, Rows, Run, Schedule
from actlab.fleet.stacked_weights import load_module_state
from actlab.models.networks import new_activation
from actlab.models.random_streams import HOLDOUT, WEIGHTS, derive_seed, seeded_numpy, seeded_torch

_KINDS = (
    skorch.NeuralNet,
    skorch.NeuralNetClassifier,
    skorch.NeuralNetBinaryClassifier,
    skorch.NeuralNetRegressor,
)
_AT_ONCE = 1024  # rows that are predicted in one piece
_MONITORED = ("train_loss", "valid_loss", "valid_acc")
_USUAL = {
    "warm_start": False,
    "compile": False,
    "dataset": skorch.dataset.Dataset,
    "predict_nonlinearity": "auto",  # it decides accuracy
    "threshold": 0.5,
}
# In this machine's byte order, as torch takes them.
_NUMBERS = (np.float16, np.float32, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64)
# These say how torch computes an update, or a DataLoader fetches a batch, and change nothing in either.
_MATTERS_NOT = frozenset(
    {"foreach", "fused", "num_workers", "pin_memory", "persistent_workers", "prefetch_factor"}
)


class NotFused(Exception):
    """Raised if a model cannot train in a fleet, with the reason."""


def read_run(net: skorch.NeuralNet, X: Any, y: Any) -> Run:
    """Return a run with the settings of a skorch model, without samples, seed and fold.

    Args:
        net: The model, initialized or not.
        X: The inputs.
        y: The targets.

    Returns:
        The run; its rows are empty.

    Raises:
        NotFused: The net does something that a fleet does not.
    """
    if own := _overridden(type(net)):
        raise NotFused(
            f"{type(net).__name__} overrides {', '.join(own)}; a fleet runs skorch's own training loop"
        )
    for name, usual in _USUAL.items():
        if getattr(net, name, usual) != usual:
            raise NotFused(f"{name} is {_shown(getattr(net, name))}; a fleet needs {_shown(usual)}")
    if net.callbacks == "disable":
        raise NotFused("callbacks is 'disable'; a fleet always uses skorch's default callbacks")
    if str(net.device).partition(":")[0] not in ("cpu", "cuda"):
        raise NotFused(f"device is {net.device!r}; a fleet trains on 'cpu' or 'cuda'")
    if not (net.train_split is None or type(net.train_split) is ValidSplit):
        raise NotFused(
            f"train_split is a {type(net.train_split).__name__}; a fleet needs a ValidSplit or None"
        )
    loss = _loss(net)
    is_explicit = has_explicit_gradient(loss)
    _check_data(X, y, loss, is_explicit)
    batches = _batches(net, X)
    if not is_explicit:  # a mean with class weights depends on the batch
        size = _validated_at_once(net)
        batches["piece"] = len(X) if size == -1 else size
    return Run(
        net=functools.partial(build_module, net.module, net.get_params_for("module")),
        rows=np.empty(0, np.int64),
        loss=loss,
        optimizer=_optimizer(net),
        epochs=net.max_epochs,
        device=str(net.device),
        **batches,
        **_callbacks(net),
    )


def split_validation(
    net: skorch.NeuralNet, rows: Rows, y: npt.NDArray[Any], seed: int, fold: int
) -> tuple[Rows, Rows | None]:
    """Return the indices (n,) of training samples and of validation samples, as skorch splits them."""
    if net.train_split is None:
        return rows, None
    with seeded_numpy(derive_seed(seed, fold, HOLDOUT)), warnings.catch_warnings():
        # Classes with fewer than five samples are spread as evenly as possible.
        warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        train, valid = copy.deepcopy(net.train_split)(rows, y[rows])
    return rows[train.indices], rows[valid.indices]


def restore_net(net: skorch.NeuralNet, run: Run, result: Result, X: Any, y: Any) -> skorch.NeuralNet:
    """Give a model the state that it would have after training.

    Args:
        net: A model with the parameters of the run; it is initialized here.
        run: The run.
        result: The result of the run.
        X: The inputs.
        y: The targets.

    Returns:
        The same net, with weights, history and classes; the history has no rows for single batches.
    """
    with seeded_torch(
        run.seed, run.fold, WEIGHTS, run.device
    ):  # initializing draws weights, which are then replaced
        net.initialize()
    net.check_data(X, y)
    load_module_state(net.module_, result.weights)
    net.history_ = History()
    counts = {"train_batch_count": run.steps}
    if run.valid is not None:
        size = _validated_at_once(net)
        counts["valid_batch_count"] = 1 if size == -1 else -(-len(run.valid) // size)
    for row in result.history:
        net.history_.new_epoch()
        for name, value in {**row, **counts}.items():
            net.history_.record(name, value)
    return net


def iterate_slices(dataset: Any, batch_size: int, **options: Any) -> Iterable[Any]:
    """Return the batches of a dataset as slices, larger and faster than those of a DataLoader.

    Args:
        dataset: A skorch dataset.
        batch_size: As for a DataLoader.
        **options: As for a DataLoader.
    """
    X = dataset.X
    if not isinstance(X, np.ndarray) or not X.flags.writeable:
        return DataLoader(dataset, batch_size=batch_size, **options)
    size = max(batch_size, _AT_ONCE)
    return ((torch.from_numpy(X[first : first + size]), 0) for first in range(0, len(X), size))


def _validated_at_once(net: skorch.NeuralNet) -> int:
    """Return the size of a validation batch; -1 for all samples."""
    return int(net.get_params_for("iterator_valid").get("batch_size", net.batch_size))


# -- what a net says of itself --------------------------------------------------------------------


def _overridden(kind: type) -> list[str]:
    """Return the training methods of skorch that a subclass overrides."""
    ours = next(base for base in kind.__mro__ if base in _KINDS)
    own = {name for base in kind.__mro__[: kind.__mro__.index(ours)] for name in vars(base)}
    # scikit-learn gives every subclass its own ``set_score_request`` and the like.
    public = {n for n in dir(ours) if not n.startswith("__") and not n.endswith("_request")}
    return sorted(own & public - {"score"})


def _loss(net: skorch.NeuralNet) -> nn.Module:
    criterion, options = net.criterion, net.get_params_for("criterion")
    if isinstance(criterion, type) or (isinstance(criterion, nn.Module) and options):
        factory = criterion if isinstance(criterion, type) else type(criterion)
        criterion = factory(**options)
    if not isinstance(criterion, nn.Module):
        raise NotFused(f"criterion is a {type(criterion).__name__}; a fleet needs a loss of torch.nn")
    if problem := loss_problem(criterion):
        raise NotFused(problem)
    if isinstance(criterion, nn.NLLLoss) and not isinstance(net, skorch.NeuralNetClassifier):
        raise NotFused(
            f"criterion is NLLLoss in a {type(net).__name__}; a fleet needs a NeuralNetClassifier for it"
        )
    return criterion


def _check_data(X: Any, y: Any, loss: nn.Module, is_explicit: bool) -> None:
    for name, value in (("X", X), ("y", y)):
        if not isinstance(value, np.ndarray):
            raise NotFused(f"{name} is a {type(value).__name__}; a fleet needs a NumPy array")
    if X.dtype not in _NUMBERS or X.ndim < 2:
        need = "a fleet needs numbers in native byte order, in two dimensions or more"
        raise NotFused(f"X has the dtype {X.dtype.str} and the shape {X.shape}; {need}")
    classes = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
    if y.dtype != (wanted := np.dtype(np.int64 if classes else np.float32)):
        raise NotFused(f"y has the dtype {y.dtype}; a fleet needs {wanted} for {type(loss).__name__}")
    if classes and is_explicit and y.size and y.min() < 0:
        raise NotFused(f"y has the label {y.min()}; a fleet needs labels >= 0")


def _batches(net: skorch.NeuralNet, X: npt.NDArray[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"batch_size": net.batch_size}
    allowed = {"iterator_train": {"batch_size", "shuffle", "drop_last"}, "iterator_valid": {"batch_size"}}
    for name, known in allowed.items():
        if getattr(net, name) is not DataLoader:
            raise NotFused(f"{name} is {_shown(getattr(net, name))}; a fleet needs torch's DataLoader")
        options = {k: v for k, v in net.get_params_for(name).items() if k not in _MATTERS_NOT}
        if unknown := sorted(set(options) - known):
            raise NotFused(
                f"{name}__{unknown[0]} is set; a fleet takes only {', '.join(sorted(known))} there"
            )
        if name == "iterator_train":
            found.update(options)
    if found["batch_size"] == -1:
        found.update(
            batch_size=len(X), drop_last=False
        )  # no fold has more samples, so its only batch is complete
    return found


def _shown(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def _optimizer(net: skorch.NeuralNet) -> Optimizer:
    name = getattr(net.optimizer, "__name__", "")
    if name not in OPTIMIZERS or net.optimizer is not getattr(torch.optim, name):
        raise NotFused(f"optimizer is {_shown(net.optimizer)}; a fleet supports {', '.join(OPTIMIZERS)}")
    names, flags = OPTIMIZERS[name].number_names, OPTIMIZERS[name].flag_names
    usual = inspect.signature(net.optimizer).parameters
    given = {"lr": net.lr, **net.get_params_for("optimizer")}
    numbers = {"lr": given.pop("lr"), **{name: given.pop(name, usual[name].default) for name in names}}
    on = frozenset(name for name in flags if given.pop(name, False))
    if rest := sorted(name for name, value in given.items() if value and name not in _MATTERS_NOT):
        raise NotFused(f"optimizer__{rest[0]} is {given[rest[0]]!r}, which a fleet does not support")
    if "betas" in numbers:
        numbers["beta1"], numbers["beta2"] = numbers.pop("betas")
    found = Optimizer(name, {k: float(v) for k, v in numbers.items()}, on)
    try:
        net.optimizer([torch.zeros(1)], **torch_optim_arguments(found))
    except ValueError as error:  # torch raises the same error when the model is fitted
        raise NotFused(f"the optimizer rejects its arguments: {summarize_error(error)}") from error
    return found


def _callbacks(net: skorch.NeuralNet) -> dict[str, Any]:
    found: dict[str, Any] = {"scoring": ""}
    net.initialize_callbacks()
    for name, callback in net.callbacks_:
        kind = type(callback)
        if (
            kind is EpochScoring
            and name == "valid_acc"
            and callback.scoring == "accuracy"
            and not callback.on_train
        ):
            found["scoring"] = "binary" if isinstance(net, skorch.NeuralNetBinaryClassifier) else "classes"
        elif kind is EarlyStopping and "stopping" not in found and callback.monitor in _MONITORED:
            names = fleet_run.EarlyStopping.__dataclass_fields__
            found["stopping"] = fleet_run.EarlyStopping(
                **{field: getattr(callback, field) for field in names}
            )
        elif kind is LRScheduler and "schedule" not in found:
            found["schedule"] = _schedule(callback)
        elif kind is PassthroughScoring and name in ("train_loss", "valid_loss"):
            pass
        elif kind not in (EpochTimer, PrintLog):
            known = "EarlyStopping, LRScheduler and skorch's default callbacks"
            raise NotFused(
                f"the callback {name!r} ({kind.__name__}) may act on the model; a fleet supports only {known}"
            )
    return found


def _schedule(callback: LRScheduler) -> Schedule:
    if not isinstance(callback.policy_, type):
        raise NotFused(
            f"the learning rate policy is {callback.policy_!r}; a fleet needs a class of torch.optim"
        )
    plateau = issubclass(callback.policy_, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if plateau and (callback.step_every == "batch" or callback.monitor not in _MONITORED):
        given = f"monitor={callback.monitor!r} and step_every={callback.step_every!r}"
        raise NotFused(f"ReduceLROnPlateau has {given}; a fleet needs {', '.join(_MONITORED)} and 'epoch'")
    return Schedule(
        callback.policy_, callback.kwargs, callback.step_every, callback.monitor, callback.event_name
    )


def build_module(module: Any, options: Mapping[str, Any]) -> nn.Module:
    """Build the module as skorch does, but never from a trained instance."""
    if isinstance(module, nn.Module) and not options:
        return copy.deepcopy(module)
    factory = type(module) if isinstance(module, nn.Module) else module
    built: nn.Module = factory(**{**options, **copy_untrained(options)})
    return built


def copy_untrained(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of the modules among a model's options; activations get their initial state."""
    modules = {name: value for name, value in options.items() if isinstance(value, nn.Module)}
    return {name: new_activation(m) if _is_activation(m) else copy.deepcopy(m) for name, m in modules.items()}


def _is_activation(module: nn.Module) -> bool:
    """Return whether a module has no matrices. One with matrices may be pretrained, such as an encoder."""
    return all(not is_lazy(p) and p.ndim < 2 for p in module.parameters())


def is_equal(one: Any, other: Any) -> bool:
    """Return whether two values certainly build the same module."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        same = (one.dtype, one.requires_grad) == (other.dtype, other.requires_grad)
        return same and torch.equal(one, other)
    if isinstance(one, nn.Module):
        return is_equal(vars(one), vars(other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(is_equal(one[key], other[key]) for key in one)
    return isinstance(one, str | int | float | bool | set) and bool(one == other)


def share_factory(run: Run, makers: list[Any]) -> Run:
    """Return the run with the factory of an equal earlier run, so that both train together.

    Args:
        run: A run from :func:`read_run`.
        makers: The factories of earlier runs; a new factory is appended.
    """
    for maker in makers:
        if maker.args[0] is run.net.args[0] and is_equal(maker.args[1], run.net.args[1]):  # type: ignore[attr-defined]
            return dataclasses.replace(run, net=maker)
    makers.append(run.net)
    return run

"""Read the callbacks of a skorch model for which a fleet has an equivalent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import skorch
import torch
from sklearn.metrics import get_scorer_names
from skorch.callbacks import (
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    GradientNormClipping,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
)
from skorch.utils import to_numpy
from torch import nn

from actlab.fleet import run as fleet_run
from actlab.fleet.losses import find_scoring
from actlab.fleet.run import EpochScore, NeedsSkorch, Schedule

_SUPPORTED = (EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler)


def read_callbacks(net: skorch.NeuralNet, loss: nn.Module, model: type[skorch.NeuralNet]) -> dict[str, Any]:
    """Return the settings of a run that come from the callbacks of a skorch model.

    Args:
        net: The model; this function initializes its callbacks.
        loss: The criterion.
        model: The skorch class of the model, or the one that it extends.

    Raises:
        NeedsSkorch: A fleet has no equivalent for a callback.
    """
    settings: dict[str, Any] = {"scoring": "", "scores": ()}
    columns = ["train_loss", "valid_loss"]  # that later callbacks may monitor
    net.initialize_callbacks()
    for name, callback in net.callbacks_:
        kind = type(callback)
        if kind is EpochScoring and callback.name_ not in columns:
            columns.append(callback.name_)
            score = _read_score(net, callback, model)
            accuracy = EpochScore("valid_acc", "accuracy", False, False, model, score.classes)
            if score == accuracy and find_scoring(loss):
                settings["scoring"] = find_scoring(loss)
            else:
                settings["scores"] += (score,)
        elif kind is EarlyStopping and "stopping" not in settings and callback.monitor in columns:
            fields = dataclasses.fields(fleet_run.EarlyStopping)
            options = {field.name: getattr(callback, field.name) for field in fields}
            settings["stopping"] = fleet_run.EarlyStopping(**options)
        elif kind is LRScheduler and "schedule" not in settings:
            settings["schedule"] = _read_schedule(callback, columns)
        elif kind is GradientNormClipping and "clipping" not in settings:
            settings["clipping"] = _read_clipping(callback)
        elif kind not in (EpochTimer, PrintLog) and not (kind is PassthroughScoring and name in columns):
            raise NeedsSkorch(_explain(name, kind))
    return settings


def show_value(value: Any) -> str:
    """Return the name of a class or function, or the text of another value."""
    return getattr(value, "__name__", None) or repr(value)


def _explain(name: str, kind: type) -> str:
    supported = ", ".join(kind.__name__ for kind in _SUPPORTED)
    how = " with these arguments or a second time" if kind in _SUPPORTED else ""
    problem = f"a fleet cannot call the callback {name!r} ({kind.__name__}){how}"
    return f"{problem}; it supports only {supported} and skorch's default callbacks"


def _read_score(net: skorch.NeuralNet, callback: EpochScoring, model: type[skorch.NeuralNet]) -> EpochScore:
    is_cached = callback.use_caching if net.use_caching == "auto" else net.use_caching
    is_plain = callback.scoring in get_scorer_names() and callback.target_extractor is to_numpy
    if not is_plain or (callback.on_train and not is_cached):
        problem = (
            f"EpochScoring has scoring={show_value(callback.scoring)}, on_train={callback.on_train} and "
        )
        need = "a fleet needs the name of a scorer of scikit-learn, and caching of training samples"
        raise NeedsSkorch(f"{problem}use_caching={is_cached}; {need}")
    classes = getattr(net, "classes", None)
    values = None if classes is None else tuple(np.asarray(classes).tolist())
    return EpochScore(
        callback.name_, callback.scoring, callback.lower_is_better, callback.on_train, model, values
    )


def _read_clipping(callback: GradientNormClipping) -> tuple[float, float] | None:
    if callback.gradient_clip_value is None:
        return None
    return float(callback.gradient_clip_value), float(callback.gradient_clip_norm_type)


def _read_schedule(callback: LRScheduler, columns: Sequence[str]) -> Schedule:
    policy, every, monitor = callback.policy_, callback.step_every, callback.monitor
    if not isinstance(policy, type):
        raise NeedsSkorch(f"the learning rate policy is {policy!r}; a fleet needs a class of torch.optim")
    is_plateau = issubclass(policy, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if is_plateau and (every == "batch" or monitor not in columns):
        need = f"a fleet needs {', '.join(columns)} and 'epoch'"
        raise NeedsSkorch(f"ReduceLROnPlateau has monitor={monitor!r} and step_every={every!r}; {need}")
    return Schedule(policy, callback.kwargs, every, monitor, callback.event_name)

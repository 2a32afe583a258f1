"""Use skorch to train what no fleet can train, with the random numbers of the run."""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import skorch
from torch import nn

from actlab.errors import summarize_error
from actlab.fleet.diagnostics import try_saved_bytes
from actlab.fleet.module_building import build_module, copy_modules
from actlab.fleet.run import Epoch, FailureKind, Result, select_init_samples
from actlab.models.initialization import init_
from actlab.models.random_streams import HOLDOUT, WEIGHTS, derive_seed, seeded_numpy, seeded_torch

_BATCH_COLUMNS = ("train_batch_count", "valid_batch_count", "batches")


class RunFailed(RuntimeError):
    """Raised if a run has no result. scikit-learn sets its score to ``error_score``."""


def fit_with_skorch(
    net: skorch.NeuralNet,
    X: Any,
    y: Any,
    seed: int,
    fold: int,
    result: Result,
    *,
    init: str = "torch",
    **fit_params: Any,
) -> None:
    """Fit a model with skorch.

    Args:
        net: An untrained model. Afterwards it has weights and a history.
        X: The inputs.
        y: The targets.
        seed: The seed of the run.
        fold: The fold of the run.
        result: Gets the seconds, and the failure if there is one.
        init: The initialization, as in :class:`~actlab.fleet.run.Run`.
        **fit_params: Further arguments of ``fit``.

    Raises:
        RunFailed: The run diverged.
        KeyboardInterrupt: SIGINT interrupted the process. A callback that raises KeyboardInterrupt itself,
            as skorch's EarlyStopping does, ends this fit normally.
        Exception: Whatever the user's callbacks, criterion or module raise.
    """
    start = time.perf_counter()
    try:
        holdout = seeded_numpy(derive_seed(seed, fold, HOLDOUT))
        with seeded_torch(seed, fold, WEIGHTS, str(net.device)), holdout, _interruptible():
            modules = copy_modules(net.get_params_for("module"))
            net.set_params(**{f"module__{name}": value for name, value in modules.items()})
            if init == "matched":
                samples = select_init_samples(X)
                net.set_params(module=functools.partial(_build_matched, net.module, samples))
            net.fit(X, y, **fit_params)
        _check_losses(net)
        result.saved_bytes = try_saved_bytes(net.module_, X, net.batch_size)
    except Exception as error:
        is_known = isinstance(error, RunFailed)
        result.failure = str(error) if is_known else f"{FailureKind.RAISED} {summarize_error(error)}"
        raise
    finally:
        result.seconds = time.perf_counter() - start


def _build_matched(module: Any, samples: Any, /, **options: Any) -> nn.Module:
    return init_(build_module(module, options), samples)


def list_epochs(net: skorch.NeuralNet) -> list[Epoch]:
    """Return the history of a model without batches; empty if it was not fitted."""
    history = getattr(net, "history_", ())
    return [{name: value for name, value in row.items() if name not in _BATCH_COLUMNS} for row in history]


def _check_losses(net: skorch.NeuralNet) -> None:
    """Raise RunFailed if a loss is infinite or NaN."""
    for name in ("train_loss", "valid_loss"):
        for row in net.history:
            if not math.isfinite(row.get(name, 0.0)):
                raise RunFailed(f"{FailureKind.DIVERGED}: {name} is {row[name]} in epoch {row['epoch']}")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block if a signal interrupted the process during it.

    skorch's ``fit`` ends normally on every KeyboardInterrupt, because callbacks raise it to stop training.
    Python handles signals in the main thread only. A handler that raises nothing ignores them.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    interrupts: list[KeyboardInterrupt] = []

    def record(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)
            raise

    signal.signal(signal.SIGINT, record)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is record:  # a callback may have installed another
            signal.signal(signal.SIGINT, handler)
        if interrupts:  # a callback or the module may have caught it
            raise interrupts[0]

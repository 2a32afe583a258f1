"""Train a network that no fleet can train with skorch, from the random numbers of its run."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import skorch

from actlab.errors import summarize_error
from actlab.fleet.diagnostics import try_saved_bytes
from actlab.fleet.run import Epoch, FailureKind, Result
from actlab.fleet.skorch_adapter import copy_untrained
from actlab.models.random_streams import HOLDOUT, WEIGHTS, derive_seed, seeded_numpy, seeded_torch

_BATCHES = ("train_batch_count", "valid_batch_count", "batches")


class RunFailed(RuntimeError):
    """Raised if a run has no result; scikit-learn gives it ``error_score``."""


def fit_with_skorch(
    net: skorch.NeuralNet, X: Any, y: Any, seed: int, fold: int, result: Result, **fit_params: Any
) -> None:
    """Fit a model with skorch.

    Args:
        net: An untrained model. Afterwards it has weights and a history.
        X: The inputs.
        y: The targets.
        seed: The seed of the run.
        fold: The fold of the run.
        result: Gets the seconds, and the failure if there is one.
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
            modules = copy_untrained(net.get_params_for("module"))
            net.set_params(**{f"module__{name}": value for name, value in modules.items()})
            net.fit(X, y, **fit_params)
        _finite(net)
        result.saved_bytes = try_saved_bytes(net.module_, X, net.batch_size)
    except Exception as error:
        result.failure = (
            str(error) if isinstance(error, RunFailed) else f"{FailureKind.RAISED} {summarize_error(error)}"
        )
        raise
    finally:
        result.seconds = time.perf_counter() - start


def epochs_of(net: skorch.NeuralNet) -> list[Epoch]:
    """Return the history of a model without batches; empty if it was not fitted."""
    history = getattr(net, "history_", ())
    return [{name: value for name, value in row.items() if name not in _BATCHES} for row in history]


def _finite(net: skorch.NeuralNet) -> None:
    for name in ("train_loss", "valid_loss"):
        for row in net.history:
            if not math.isfinite(row.get(name, 0.0)):
                raise RunFailed(f"{FailureKind.DIVERGED}: {name} is {row[name]} in epoch {row['epoch']}")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block if the process was interrupted within it.

    skorch's ``fit`` takes every KeyboardInterrupt for a callback's way to stop. Only a signal interrupts the
    search, and signals reach the main thread alone. A handler that raises nothing ignores them.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    interrupts: list[KeyboardInterrupt] = []

    def noting(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)
            raise

    signal.signal(signal.SIGINT, noting)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is noting:  # a callback may have installed its own
            signal.signal(signal.SIGINT, handler)
        if interrupts:  # even if a callback or the module has caught it
            raise interrupts[0]

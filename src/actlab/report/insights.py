"""Sentences read from the numbers: each states its figures, none says more than they do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

_LOSSES = ("train_loss", "valid_loss")
# A best accuracy that grows by less in an epoch is not counted as improving, nor is a best loss that falls by
# a smaller part of itself.
_GAIN = 0.001


def history_insights(history: pd.DataFrame) -> list[str]:
    """Say what a training history shows.

    Args:
        history: One row per epoch, as :func:`actlab.training.history_frame` gives it.

    Returns:
        Sentences on the best epoch, on overfitting, on where accuracy stops improving, and on divergence; or
        what is missing to say so. Without accuracies, as of a regression, validation loss is read instead.

    Examples:
        >>> losses = {"train_loss": [0.5, 0.2], "valid_loss": [0.4, 0.5], "valid_acc": [0.9, 0.88]}
        >>> for sentence in history_insights(pd.DataFrame({"epoch": [1, 2], **losses})):
        ...     print(sentence)
        Best epoch: 1 of 2, with validation accuracy 0.9000.
        Overfitting starts after epoch 1: validation loss rises from its lowest, 0.4, to 0.5 at the end (+25.0 %), while training loss falls from 0.5 to 0.2.
        Accuracy stops improving after epoch 1: later epochs gain 0.0000.
    """  # noqa: E501 - the sentences are as long as they are
    if missing := [column for column in _LOSSES if column not in history]:
        return [f"Nothing can be said about validation: the history has no {', '.join(missing)}."]
    losses = history[list(_LOSSES)].to_numpy(np.float64)
    finite = np.isfinite(losses).all(axis=1)
    steps = len(history) if finite.all() else int(finite.argmin())
    found = [] if finite.all() else [_divergence(history.iloc[steps], len(history))]
    if steps < 2:
        return [*found, f"{steps or 'No'} epoch with a finite loss: too few to say how training went."]
    history, (train, valid) = history[:steps], losses[:steps].T
    epochs = [int(epoch) for epoch in history["epoch"]]
    if "valid_acc" not in history:
        best, plateau = _lowest(epochs, valid), _loss_plateau(epochs, valid)
    else:
        accuracy = history["valid_acc"].to_numpy(np.float64)
        best, plateau = _best(epochs, accuracy), _plateau(epochs, accuracy)
    return [*found, best, _overfitting(epochs, train, valid), plateau]


def _divergence(row: pd.Series[Any], total: int) -> str:
    which = "training" if not math.isfinite(row["train_loss"]) else "validation"
    loss = row["train_loss"] if which == "training" else row["valid_loss"]
    return f"Training diverged at epoch {int(row['epoch'])} of {total}: the {which} loss is {loss}."


def _best(epochs: list[int], accuracy: Floats) -> str:
    best = int(accuracy.argmax())
    return f"Best epoch: {epochs[best]} of {epochs[-1]}, with validation accuracy {accuracy[best]:.4f}."


def _lowest(epochs: list[int], valid: Floats) -> str:
    low = int(valid.argmin())
    return f"Best epoch: {epochs[low]} of {epochs[-1]}, with validation loss {valid[low]:.4g}."


def overfitting_start(train: Floats, valid: Floats) -> int | None:
    """Return where overfitting starts: validation loss is lowest, and training loss falls from there on.

    Args:
        train: Losses (n,), finite.
        valid: Losses (n,), finite.

    Examples:
        >>> overfitting_start(np.array([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 2.5]))
        1
    """
    low = int(valid.argmin())
    return low if low < len(valid) - 1 and train[-1] < train[low] else None


def _overfitting(epochs: list[int], train: Floats, valid: Floats) -> str:
    low = int(valid.argmin())
    if low == len(valid) - 1:
        return f"No overfitting seen: validation loss is lowest, {valid[low]:.4g}, in the last epoch."
    rise = "" if valid[low] <= 0 else f" ({100 * (valid[-1] / valid[low] - 1):+.1f} %)"
    rising = f"rises from its lowest, {valid[low]:.4g}, to {valid[-1]:.4g} at the end{rise}"
    if overfitting_start(train, valid) is not None:
        falling = f"while training loss falls from {train[low]:.4g} to {train[-1]:.4g}"
        return f"Overfitting starts after epoch {epochs[low]}: validation loss {rising}, {falling}."
    both = f"and training loss goes from {train[low]:.4g} to {train[-1]:.4g}"
    return f"No overfitting seen: after epoch {epochs[low]} validation loss {rising}, {both}: neither falls."


def last_gain(accuracy: Floats) -> int:
    """Return where the best accuracy so far last rose by more than a thousandth."""
    gains = np.flatnonzero(np.diff(np.maximum.accumulate(accuracy)) > _GAIN)
    return int(gains[-1]) + 1 if len(gains) else 0


def last_fall(valid: Floats) -> int:
    """Return where the lowest loss so far last fell by more than a thousandth of itself."""
    best = np.minimum.accumulate(valid)
    falls = np.flatnonzero(best[:-1] - best[1:] > _GAIN * np.abs(best[:-1]))
    return int(falls[-1]) + 1 if len(falls) else 0


def _plateau(epochs: list[int], accuracy: Floats) -> str:
    best = np.maximum.accumulate(accuracy)
    last = last_gain(accuracy)
    if last == len(accuracy) - 1:
        gain = best[last] - best[last - 1]
        return f"Accuracy was still improving: the last epoch gained {gain:.4f}."
    return (
        f"Accuracy stops improving after epoch {epochs[last]}: later epochs gain {best[-1] - best[last]:.4f}."
    )


def _loss_plateau(epochs: list[int], valid: Floats) -> str:
    best = np.minimum.accumulate(valid)
    last = last_fall(valid)
    if last == len(valid) - 1:
        fall = best[last - 1] - best[last]
        return f"Validation loss was still improving: the last epoch lowered it by {fall:.4g}."
    fall = best[last] - best[-1]
    return f"Validation loss stops improving after epoch {epochs[last]}: later epochs lower it by {fall:.4g}."

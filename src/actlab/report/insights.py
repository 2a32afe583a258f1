"""Sentences on a training history, with the numbers that support them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

_LOSSES = ("train_loss", "valid_loss")
_SMALLEST_RISE = 0.01  # of the validation loss, relative to its lowest value
_FEWEST_EPOCHS = 10  # to measure the gain at the end
_SMALLEST_GAIN = 0.001  # of accuracy; of a loss, relative to its value


def history_insights(history: pd.DataFrame) -> list[str]:
    """Describe a training history.

    Args:
        history: One row per epoch, from :func:`actlab.training.history_frame`.

    Returns:
        Sentences on divergence, the best epoch, overfitting, and the epoch in which the score stops improving;
        or on the missing columns. The score is the accuracy, or the validation loss of a regression.

    Examples:
        >>> losses = {"train_loss": [0.5, 0.2], "valid_loss": [0.4, 0.5], "valid_acc": [0.9, 0.88]}
        >>> for sentence in history_insights(pd.DataFrame({"epoch": [1, 2], **losses})):
        ...     print(sentence)
        Best epoch: 1 of 2, with validation accuracy 0.9000.
        Overfitting starts after epoch 1: validation loss rises from its lowest, 0.4, to 0.5 at the end (+25.0 %), while training loss falls from 0.5 to 0.2.
        Accuracy stops improving after epoch 1: later epochs gain 0.0000.
    """  # noqa: E501
    if missing := [column for column in _LOSSES if column not in history]:
        return [f"Validation cannot be described: the history has no {', '.join(missing)}."]
    count = count_finite_epochs(history)
    sentences = [] if count == len(history) else [_describe_divergence(history.iloc[count], len(history))]
    if count < 2:
        needed = f"at least 2 are needed, got {count}"
        return [*sentences, f"Too few epochs with a finite loss to describe the run: {needed}."]
    history = history[:count]
    train, valid = history[list(_LOSSES)].to_numpy(np.float64).T
    epochs = [int(epoch) for epoch in history["epoch"]]
    overfitting = _describe_overfitting(epochs, train, valid)
    if "valid_acc" in history:
        accuracy = history["valid_acc"].to_numpy(np.float64)
        best = int(accuracy.argmax())
        score = f"accuracy {accuracy[best]:.4f}"
        plateau = _describe_plateau("Accuracy", epochs, -accuracy, ".4f")
    else:
        best = int(valid.argmin())
        score, plateau = f"loss {valid[best]:.4g}", _describe_plateau("Validation loss", epochs, valid, ".4g")
    headline = f"Best epoch: {epochs[best]} of {epochs[-1]}, with validation {score}."
    return [*sentences, headline, overfitting, plateau]


def count_finite_epochs(history: pd.DataFrame) -> int:
    """Return the number of epochs before the first with a loss that is not finite."""
    finite = np.isfinite(history[list(_LOSSES)].to_numpy(np.float64)).all(axis=1)
    return len(finite) if finite.all() else int(finite.argmin())


def _describe_divergence(row: pd.Series[Any], epochs: int) -> str:
    name, loss = "training", row["train_loss"]
    if math.isfinite(loss):
        name, loss = "validation", row["valid_loss"]
    return f"Training diverged at epoch {int(row['epoch'])} of {epochs}: the {name} loss is {loss}."


def find_overfitting(train: Floats, valid: Floats) -> int | None:
    """Return the index of the lowest validation loss if the network overfits from there on, else None.

    It overfits if training loss falls while validation loss rises by more than 1 %.

    Args:
        train: Finite losses (n,).
        valid: Finite losses (n,).

    Examples:
        >>> find_overfitting(np.array([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 2.5]))
        1
    """
    low = int(valid.argmin())
    return low if _rises(valid, low) and train[-1] < train[low] else None


def _rises(valid: Floats, low: int) -> bool:
    """Return whether the last loss is noticeably above the lowest one."""
    return low < len(valid) - 1 and bool(valid[-1] - valid[low] > _SMALLEST_RISE * abs(valid[low]))


def _describe_overfitting(epochs: list[int], train: Floats, valid: Floats) -> str:
    low = int(valid.argmin())
    if low == len(valid) - 1:
        return (
            f"No overfitting: validation loss reaches its lowest value, {valid[low]:.4g}, in the last epoch."
        )
    if not _rises(valid, low):
        return f"No overfitting: validation loss rises by at most 1 % after epoch {epochs[low]}."
    rise = "" if valid[low] <= 0 else f" ({100 * (valid[-1] / valid[low] - 1):+.1f} %)"
    rising = f"rises from its lowest, {valid[low]:.4g}, to {valid[-1]:.4g} at the end{rise}"
    change = f"from {train[low]:.4g} to {train[-1]:.4g}"
    if find_overfitting(train, valid) is None:
        return (
            f"No overfitting: after epoch {epochs[low]} validation loss {rising}, but training loss does not "
            f"fall either ({change})."
        )
    start = f"Overfitting starts after epoch {epochs[low]}"
    return f"{start}: validation loss {rising}, while training loss falls {change}."


def find_last_improvement(losses: Floats, *, relative: bool) -> int:
    """Return the index of the last new minimum that is lower than the previous one by more than 0.001.

    Args:
        losses: Losses, or negative accuracies.
        relative: Whether the threshold is 0.1 % of the loss instead of 0.001.
    """
    best = np.minimum.accumulate(losses)
    smallest = _SMALLEST_GAIN * (np.abs(best[:-1]) if relative else 1.0)
    improved = np.flatnonzero(best[:-1] - best[1:] > smallest)
    return int(improved[-1]) + 1 if len(improved) else 0


def measure_final_gain(history: pd.DataFrame) -> tuple[str, float]:
    """Return how fast the validation score of an activation still improves at the end of its runs.

    Args:
        history: The epochs of its runs, with ``split``, ``fold`` and ``seed``.

    Returns:
        The column that is measured, the accuracy or else the loss, and its gain per epoch: the difference
        between the mean of the last fifth of the epochs and the mean of as many before. The gain is 0 if a
        run has fewer than ten epochs, if the gain is less than two standard errors above 0, or if another
        fifth of the epochs with this gain would change an accuracy by less than 0.001, or a loss by less than
        1 %.

    Examples:
        >>> epochs = [{"split": 0, "fold": f, "seed": 0, "valid_acc": 0.01 * e} for f in (1, 2) for e in range(10)]
        >>> column, gain = measure_final_gain(pd.DataFrame(epochs))
        >>> column, round(gain, 6)
        ('valid_acc', 0.01)
    """  # noqa: E501
    is_accuracy = "valid_acc" in history and bool(history["valid_acc"].notna().all())
    column = "valid_acc" if is_accuracy else "valid_loss"
    if column not in history:
        return column, 0.0
    runs = [run.to_numpy(np.float64) for _, run in history.groupby(["split", "fold", "seed"])[column]]
    shortest = min(map(len, runs), default=0)
    if shortest < _FEWEST_EPOCHS:
        return column, 0.0
    window = shortest // 5
    rises = np.array([run[-window:].mean() - run[-2 * window : -window].mean() for run in runs])
    gain = float(rises.mean()) * (1 if is_accuracy else -1)
    error = float(rises.std(ddof=1)) / math.sqrt(len(rises)) if len(rises) > 1 else 0.0
    smallest = _SMALLEST_GAIN if is_accuracy else 0.01 * float(history[column].abs().mean())
    return column, gain / window if gain > max(2 * error, smallest) else 0.0


def _describe_plateau(score: str, epochs: list[int], losses: Floats, digits: str) -> str:
    best = np.minimum.accumulate(losses)
    last = find_last_improvement(losses, relative=score != "Accuracy")
    if last == len(losses) - 1:
        return f"{score} was still improving: the last epoch gained {best[-2] - best[-1]:{digits}}."
    gain = f"{best[last] - best[-1]:{digits}}"
    return f"{score} stops improving after epoch {epochs[last]}: later epochs gain {gain}."

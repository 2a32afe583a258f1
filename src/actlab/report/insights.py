"""Sentences read from the numbers: each states its figures, none says more than they do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

_NEEDED = ("train_loss", "valid_acc", "valid_loss")
_GAIN = 0.001  # a best accuracy that grows by less in an epoch is not counted as improving


def history_insights(history: pd.DataFrame) -> list[str]:
    """Say what a training history shows.

    Args:
        history: One row per epoch, as :func:`actlab.training.history_frame` gives it.

    Returns:
        Sentences on the best epoch, on overfitting, on where accuracy stops improving, and on divergence; or
        what is missing to say so.

    Examples:
        >>> losses = {"train_loss": [0.5, 0.2], "valid_loss": [0.4, 0.5], "valid_acc": [0.9, 0.88]}
        >>> for sentence in history_insights(pd.DataFrame({"epoch": [1, 2], **losses})):
        ...     print(sentence)
        Best epoch: 1 of 2, with validation accuracy 0.9000.
        Overfitting starts after epoch 1: validation loss rises from its lowest, 0.4, to 0.5 at the end (+25.0 %), while training loss falls from 0.5 to 0.2.
        Accuracy stops improving after epoch 1: later epochs gain 0.0000.
    """  # noqa: E501 - the sentences are as long as they are
    if missing := [column for column in _NEEDED if column not in history]:
        return [f"Nothing can be said about validation: the history has no {', '.join(missing)}."]
    losses = history[["train_loss", "valid_loss"]].to_numpy(np.float64)
    finite = np.isfinite(losses).all(axis=1)
    steps = len(history) if finite.all() else int(finite.argmin())
    found = [] if finite.all() else [_divergence(history.iloc[steps], len(history))]
    if steps < 2:
        return [*found, f"{steps or 'No'} epoch with a finite loss: too few to say how training went."]
    history, (train, valid) = history[:steps], losses[:steps].T
    accuracy = history["valid_acc"].to_numpy(np.float64)
    epochs = [int(epoch) for epoch in history["epoch"]]
    return [
        *found,
        _best(epochs, accuracy),
        _overfitting(epochs, train, valid),
        _plateau(epochs, accuracy),
    ]


def _divergence(row: pd.Series[Any], total: int) -> str:
    which = "training" if not math.isfinite(row["train_loss"]) else "validation"
    loss = row["train_loss"] if which == "training" else row["valid_loss"]
    return f"Training diverged at epoch {int(row['epoch'])} of {total}: the {which} loss is {loss}."


def _best(epochs: list[int], accuracy: Floats) -> str:
    best = int(accuracy.argmax())
    return f"Best epoch: {epochs[best]} of {epochs[-1]}, with validation accuracy {accuracy[best]:.4f}."


def _overfitting(epochs: list[int], train: Floats, valid: Floats) -> str:
    low = int(valid.argmin())
    if low == len(valid) - 1:
        return f"No overfitting seen: validation loss is lowest, {valid[low]:.4g}, in the last epoch."
    rise = "" if valid[low] <= 0 else f" ({100 * (valid[-1] / valid[low] - 1):+.1f} %)"
    rising = f"rises from its lowest, {valid[low]:.4g}, to {valid[-1]:.4g} at the end{rise}"
    if train[-1] < train[low]:
        falling = f"while training loss falls from {train[low]:.4g} to {train[-1]:.4g}"
        return f"Overfitting starts after epoch {epochs[low]}: validation loss {rising}, {falling}."
    both = f"and training loss goes from {train[low]:.4g} to {train[-1]:.4g}"
    return f"No overfitting seen: after epoch {epochs[low]} validation loss {rising}, {both}: neither falls."


def _plateau(epochs: list[int], accuracy: Floats) -> str:
    best = np.maximum.accumulate(accuracy)
    gains = np.flatnonzero(np.diff(best) > _GAIN) + 1
    last = int(gains[-1]) if len(gains) else 0
    if last == len(accuracy) - 1:
        gain = best[last] - best[last - 1]
        return f"Accuracy was still improving: the last epoch gained {gain:.4f}."
    return (
        f"Accuracy stops improving after epoch {epochs[last]}: later epochs gain {best[-1] - best[last]:.4f}."
    )


def comparison_insights(ranking: pd.DataFrame, reasons: Mapping[str, str] | None = None) -> list[str]:
    """Say what a ranking shows, and what it does not.

    Args:
        ranking: As in :attr:`actlab.comparison.Comparison.ranking`.
        reasons: Why an activation has no mean; divergence when left out.

    Returns:
        Sentences on the best activation, on its lead beside the spread over folds, on the activations that
        the spread does not tell from it, and on those that have no mean.
    """
    folds = [column for column in ranking.columns if column.startswith("fold_")]
    scored = ranking[ranking["mean"].notna()]
    lost = ranking[ranking["mean"].isna()]
    failed = [_failure(row, folds, (reasons or {}).get(row["activation"], "")) for _, row in lost.iterrows()]
    if scored.empty:
        return ["No activation has a mean accuracy.", *failed]
    first = scored.iloc[0]
    best = f"Best: {first['activation']}, mean accuracy {first['mean']:.4f} over {len(folds)} folds."
    if len(scored) == 1:
        return [best, "There is no other mean to compare it with.", *failed]
    return [best, _lead(first, scored.iloc[1]), *_undecided(scored), *failed]


def _failure(row: pd.Series[Any], folds: list[str], reason: str) -> str:
    lost = [name.removeprefix("fold_") for name in folds if math.isnan(row[name])]
    where = f"in {len(lost)} of {len(folds)} folds ({', '.join(lost)})"
    if reason and not reason.startswith("diverged"):
        return f"{row['activation']} failed {where}, no mean: {reason}."
    return f"{row['activation']} diverged {where}: no mean."


def _lead(first: pd.Series[Any], second: pd.Series[Any]) -> str:
    gap, spread = 100 * (first["mean"] - second["mean"]), [100 * row["std"] for row in (first, second)]
    lead = f"It leads {second['activation']} by {gap:.3f} percentage points"
    return f"{lead}; the standard deviations over folds are {spread[0]:.3f} and {spread[1]:.3f}."


def _undecided(scored: pd.DataFrame) -> list[str]:
    first = scored.iloc[0]
    close = [
        str(row["activation"])
        for _, row in scored.iloc[1:].iterrows()
        if first["mean"] - row["mean"] <= max(first["std"], row["std"])
    ]
    if not close:
        return ["The lead is larger than either; that alone is no proof of an order."]
    rule = "a gap within the deviation over folds does not establish an order"
    return [f"Not told apart from {first['activation']}: {', '.join(close)}; {rule}."]

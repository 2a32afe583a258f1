"""What a page says on top without verdicts: of one training, and of a comparison that is not done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from actlab.report.insights import history_insights


def training_sentences(results: pd.DataFrame, history: pd.DataFrame) -> list[str]:
    """Say how one training went.

    Args:
        results: One row: its ``activation``, and its ``failure`` if it has one.
        history: One row per epoch.

    Returns:
        A headline, and what the history shows.
    """
    name = str(results["activation"].iloc[0])
    failure = results["failure"].iloc[0] if "failure" in results else ""
    failed = [f"It has failed: {failure}."] if isinstance(failure, str) and failure else []
    if history.empty:
        return [f"{name}: no epoch is recorded.", *failed]
    if not {"train_loss", "valid_loss"} <= set(history):
        return [f"{name}: {len(history)} epochs, of which no validation loss is recorded.", *failed]
    history = history.reset_index(drop=True)
    if "valid_acc" in history and history["valid_acc"].isna().all():  # of a regression
        history = history.drop(columns="valid_acc")
    finite = np.isfinite(history[["train_loss", "valid_loss"]].to_numpy(float)).all(axis=1)
    if not finite.all():
        epoch = int(history["epoch"][int(finite.argmin())])
        head = f"{name}: training diverged in epoch {epoch} of {len(history)}."
    else:
        column, best = ("valid_acc", "idxmax") if "valid_acc" in history else ("valid_loss", "idxmin")
        row = history.loc[getattr(history[column], best)()]
        what = {"valid_acc": "accuracy", "valid_loss": "loss"}[column]
        figure = f"{row[column]:.4f}" if column == "valid_acc" else f"{row[column]:.4g}"
        last = int(history["epoch"].iloc[-1])
        head = f"{name}: validation {what} {figure} in the best epoch, {int(row['epoch'])} of {last}."
    # Its first sentence, on the best epoch, is the headline, unless the training diverged.
    return [head, *failed, *history_insights(history)[1:]]


def unfinished_sentences(left: Mapping[str, Any], ranking: pd.DataFrame, metric: str) -> list[str]:
    """Say how far a comparison is that still runs, or was stopped.

    Args:
        left: How many trainings are ``done`` and ``planned``.
        ranking: As far as it is known.
        metric: What is ranked.
    """
    done, planned = left.get("done", 0), left.get("planned", "?")
    said = [f"{done} of {planned} trainings are done; verdicts come when all are."]
    if done == planned:
        said = [f"All {done} trainings are done, but not judged yet; the same command does that."]
    means = pd.to_numeric(ranking["mean"], errors="coerce")
    if means.notna().any():
        first = ranking.iloc[int(means.argmax())]
        runs = f" over {first['runs']} runs" if "runs" in ranking else ""
        what = "Highest mean" if len(ranking) > 1 else "Mean"
        said.append(f"{what} {metric} so far: {first['activation']}, {means.max():.4f}{runs}.")
    failed = ranking[ranking["status"].astype(str) != ""] if "status" in ranking else ranking[:0]
    said += [
        f"{row['activation']}: {row['status']}."
        for _, row in failed.iterrows()
        if row["status"] == row["status"]
    ]
    return said

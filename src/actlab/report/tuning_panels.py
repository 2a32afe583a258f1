"""Panels on the tuning of a comparison: the score by learning rate, and by the number of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import comb

from actlab.report.insights import Floats
from actlab.report.panels import (
    Line,
    Panel,
    choose_point_count,
    make_mean_line,
    round_values,
)

_RUN = ["activation", "split", "fold", "seed"]
_SCORES = {"acc": "validation accuracy", "loss": "validation loss"}
_STAGES = ("screened", "valid")  # a table with screened scores has them for all candidates
_RESULTS = {f"{stage}_{metric}" for stage in _STAGES for metric in _SCORES}
_MOST_POINTS = 200  # of a line


@dataclass(frozen=True)
class Trials:
    """The trials of the tuning with their scores.

    Attributes:
        rows: As in :attr:`actlab.Comparison.tuning`, with ``score``: NaN if the trial failed.
        tuned: The columns with tuned values.
        scores: Titles of the columns of scores that all candidates have.
        title: The title of ``score``.
        is_loss: Whether ``score`` is a loss, as for a regression.
    """

    rows: pd.DataFrame
    tuned: list[str]
    scores: Mapping[str, str]
    title: str
    is_loss: bool

    def select_chosen(self, name: str) -> pd.DataFrame:
        """Return the chosen trials of an activation that have not failed."""
        return self.rows[(self.rows["activation"] == name) & self.rows["chosen"] & ~self.rows["failed"]]


def read_trials(tuning: pd.DataFrame, about: Mapping[str, Any]) -> Trials | None:
    """Return the trials; None if nothing was tuned or no trial has a score.

    Args:
        tuning: As in :attr:`actlab.Comparison.tuning`.
        about: As in :attr:`actlab.Comparison.about`.
    """
    if not {*_RUN, "failure", "chosen"} <= set(tuning):
        return None
    stage = "screened" if "screened_loss" in tuning else "valid"
    epochs = about.get("screening_epochs") or 0
    after = f" after {epochs} epoch{'s' * (epochs > 1)}" if stage == "screened" else ""
    scores = {f"{stage}_{metric}": title + after for metric, title in _SCORES.items()}
    scores = {name: title for name, title in scores.items() if name in tuning and tuning[name].notna().any()}
    fixed = {*_RUN, *_RESULTS, "epochs", "failure", "chosen"}
    tuned = [str(name) for name in tuning if name not in fixed]
    if not (scores and tuned):
        return None
    column, title = next(iter(scores.items()))
    failed = tuning["failure"].fillna("") != ""
    rows = tuning.assign(
        score=tuning[column].mask(failed), failed=failed, chosen=tuning["chosen"].astype(bool)
    )
    return Trials(rows, tuned, scores, title, column.endswith("loss"))


def make_tuning_panels(
    trials: Trials | None, names: Sequence[str], about: Mapping[str, Any]
) -> dict[str, Panel]:
    """Return the panels ``sensitivity`` and ``budget``, each only if the trials allow it.

    Args:
        trials: The trials.
        names: Activations, in the order of their colours.
        about: As in :attr:`actlab.Comparison.about`.
    """
    if trials is None:
        return {}
    panels = {
        "sensitivity": _make_sensitivity_panel(trials, names, about),
        "budget": _make_budget_panel(trials, names),
    }
    return {name: panel for name, panel in panels.items() if panel}


def _make_sensitivity_panel(trials: Trials, names: Sequence[str], about: Mapping[str, Any]) -> Panel | None:
    """Return the best score at each learning rate, with the median of the chosen rates marked."""
    if "lr" not in trials.tuned:
        return None
    rows = trials.rows[(trials.rows["lr"] > 0) & ~_find_lone_rate(trials.rows["lr"], about)]
    best = rows.groupby([*_RUN, "lr"])["score"].agg("min" if trials.is_loss else "max")
    table = best.groupby(["activation", "lr"]).agg(["mean", "min", "max", "count"]).reset_index("lr")
    runs = rows.drop_duplicates(_RUN)["activation"].value_counts()
    table = table[table["count"] >= runs.reindex(table.index) / 2]  # few runs would be another population
    rates = sorted(map(float, table["lr"].unique()))
    if len(rates) < 2:
        return None
    lines = []
    for series, name in enumerate(names):
        if name not in table.index:
            continue
        own = table.loc[[name]].set_index("lr").reindex(rates)
        chosen = float(trials.select_chosen(name)["lr"].quantile(interpolation="lower"))
        mark = rates.index(chosen) if chosen in rates else None
        y, low, high = (round_values(own[column]) for column in ("mean", "min", "max"))
        lines.append(Line(name, series, rates, y, low, high, mark=mark))
    return _make_panel(trials.title, "learning rate", lines, trials.is_loss, log_x=True)


def _find_lone_rate(rates: pd.Series[Any], about: Mapping[str, Any]) -> pd.Series[bool]:
    """Return which trials have the rate as given, if it was tried with fewer settings than other rates."""
    grid = [one.get("lr") for one in about.get("tuned") or [{}]][: about.get("grid_size")]
    is_lone: pd.Series[bool] = (rates == grid[0]) & (grid.count(grid[0]) < max(map(grid.count, grid)))
    return is_lone


def _make_budget_panel(trials: Trials, names: Sequence[str]) -> Panel | None:
    """Return the expected best score by the number of candidates, of those that every run tried."""
    rows = trials.rows.assign(candidate=trials.rows.groupby(trials.tuned, dropna=False).ngroup())
    sign = -1 if trials.is_loss else 1
    tried = rows["candidate"].value_counts()
    common = tried.index[tried == rows.groupby(_RUN).ngroups]
    scores = sign * rows.pivot(index=_RUN, columns="candidate", values="score")[common].dropna(how="all")
    if len(common) < 2 or scores.empty:
        return None
    complete = scores.fillna(scores.min(axis=None)).to_numpy(np.float64)
    best = pd.DataFrame(sign * compute_expected_best(complete), scores.index, range(1, len(common) + 1))
    best = best.melt(var_name="drawn", value_name="best", ignore_index=False).reset_index()
    count = choose_point_count(len(names), _MOST_POINTS)
    lines = []
    for series, name in enumerate(names):
        own = best[best["activation"] == name]
        if line := make_mean_line(name, series, own["best"], own["drawn"], count):
            lines.append(line)
    title = f"expected best {trials.title}"
    return _make_panel(title, "number of random candidates", lines, trials.is_loss) if lines else None


def compute_expected_best(scores: Floats) -> Floats:
    """Return the expected largest of n scores that are drawn at random without replacement.

    Args:
        scores: Finite scores (..., N).

    Returns:
        The expected largest score for n = 1, ..., N (..., N): of the sorted scores, the one at index i is the
        largest of n in binomial(i, n - 1) of binomial(N, n) draws.

    Examples:
        >>> compute_expected_best(np.array([0.9, 0.3, 0.6])).round(6).tolist()
        [0.6, 0.8, 0.9]

    References:
        J. Dodge et al., "Show your work: improved reporting of experimental results", EMNLP (2019), which
        draws with replacement.
    """
    count = scores.shape[-1]
    i, n = np.arange(count), np.arange(count)[:, None]
    weights = comb(i, n) / comb(count, n + 1)
    expected: Floats = np.sort(scores) @ weights.T
    return expected


def _make_panel(
    title: str, x_label: str, lines: Sequence[Line], is_loss: bool, *, log_x: bool = False
) -> Panel:
    panel = Panel(title, x_label, lines, log_x=log_x)
    return replace(panel, log=is_loss and panel.y_range[0] > 0)

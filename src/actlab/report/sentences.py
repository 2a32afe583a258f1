"""What a comparison says, in sentences with their figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

_HINT = "What learns nothing, or diverges, may want more epochs or another learning rate; --tune tries some."
_PAIRS = 12  # sentences about pairs; with more activations the rest is in the table


def comparison_sentences(comparison: Comparison) -> list[str]:
    """Say what a comparison shows, and what it does not.

    Args:
        comparison: The comparison.

    Returns:
        Sentences on the best, on pairs, on what has no rank, on the region of equivalence and on the cost.
    """
    ranking, about = comparison.ranking, comparison.about
    show = _Units(about["points"])
    return [
        *_best(ranking, about["metric"], show),
        *_pairs(comparison, show),
        *_without_rank(ranking),
        *_region(about, show, len(ranking)),
        *_cost(about),
        *_chosen(comparison),
    ]


class _Units:
    """Differences of shares of rows are said in percentage points, others in units of the score."""

    def __init__(self, points: bool) -> None:
        self.points = points

    def number(self, value: float, sign: bool = False) -> str:
        """Return a difference without its unit."""
        if self.points:
            return f"{100 * value:{'+' if sign else ''}.2f}"
        return f"{value:{'+' if sign else ''}.3g}"

    def difference(self, value: float) -> str:
        """Return a difference with its unit."""
        return f"{self.number(value)}{' points' * self.points}"


def _best(ranking: pd.DataFrame, metric: str, show: _Units) -> list[str]:
    first = ranking[ranking["rank"] == 1]
    if first.empty:
        return ["No activation has a rank."]
    figures = [f"{row['activation']} ({row['mean']:.4f})" for _, row in first.iterrows()]
    runs = " or ".join(str(runs) for runs in sorted(set(first["runs"])))
    if len(first) == 1:
        name, mean = first.iloc[0][["activation", "mean"]]
        if len(ranking) == 1:
            return [f"{name}: mean {metric} {mean:.4f} over {runs} runs."]
        return [f"Best: {name}, mean {metric} {mean:.4f} over {runs} runs."]
    return [f"First, not told apart: {', '.join(figures)}; mean {metric} over {runs} runs."]


def _pairs(comparison: Comparison, show: _Units) -> list[str]:
    verdicts, ranking = comparison.verdicts, comparison.ranking
    if verdicts.empty:
        one = "There is one activation: nothing to compare it with."
        return [one if len(ranking) < 2 else "There are no verdicts."]
    order = {name: place for place, name in enumerate(ranking["activation"])}
    failed = set(ranking[ranking["mean"].isna()]["activation"])  # of them there is a sentence anyway
    learnt = set(ranking[ranking["rank"].notna()]["activation"])
    rows = [
        row
        for _, row in verdicts.iterrows()
        if not failed & {row["a"], row["b"]} and learnt & {row["a"], row["b"]}
    ]
    rows.sort(key=lambda row: sorted((order[row["a"]], order[row["b"]])))
    tested = int(verdicts["p_holm"].notna().sum())
    corrected = f" corrected for {tested} pairs" if tested > 1 else ""  # by Holm; the interval is not
    said = [_pair(row, show, corrected) for row in rows[:_PAIRS]]
    left = len(rows) - len(said)
    return [*said, f"{left} more pairs are in the table of verdicts."] if left else said


def _pair(row: pd.Series[Any], show: _Units, corrected: str) -> str:
    a, b, sign = row["a"], row["b"], 1
    if row["difference"] < 0:
        a, b, sign = b, a, -1
    if row["verdict"] == "none":
        return f"{a} and {b}: no verdict; {row['reason']}."
    ends = sorted((sign * row["low"], sign * row["high"]))
    level = f"{100 * (1 - row['level']):.3g} %"
    interval = f"{level} interval {show.number(ends[0], True)} to {show.number(ends[1], True)}"
    gap = f"{show.difference(abs(row['difference']))} ({interval})"
    wins = row["wins"] if sign == 1 else 1 - row["wins"]
    ahead = f"ahead in {wins:.0%} of {row['runs']} pairs of runs"
    p = f"p = {row['p_holm']:.3g}{corrected}"
    if row["verdict"] in ("better", "worse"):
        return f"{b} is worse than {a} by {gap}; {p}, {a} is {ahead}."
    if row["verdict"] == "equivalent":
        return f"{a} and {b} are equivalent: {gap} apart, {row['p_equivalent']:.1%} within the region."
    return f"{a} and {b}: undecided, {gap} apart, {p}; {row['reason']}."


def _without_rank(ranking: pd.DataFrame) -> list[str]:
    return [
        f"{row['activation']} {_sat(row['status'])}{': no rank' if row['rank'] is pd.NA else ''}."
        for _, row in ranking.iterrows()
        if row["status"]
    ] + ([_HINT] if ranking["status"].str.contains("^chance|diverged").any() else [])


def _sat(status: str) -> str:
    return f"is at {status}" if status.startswith("chance") else status


def _region(about: Any, show: _Units, names: int) -> list[str]:
    if names < 2 or math.isnan(about["region"]):
        return []
    return [
        f"Equivalent is what differs by at most {show.difference(about['region'])}: {about['region_is']}."
    ]


def _cost(about: Any) -> list[str]:
    said = []
    if tuned := about["tuned"]:
        names = " and ".join(tuned[0])
        values = f"{len(tuned)} values of {names}"
        said.append(
            f"Each run was trained with {values}: {about['trained']} trainings instead of "
            f"{about['trained'] // len(tuned)}."
        )
    if race := about.get("race"):
        said.append(
            f"Racing: {about['trained']} trainings in {race['looks']} round{'s' * (race['looks'] > 1)} up to "
            f"{about['seeds']} seeds; "
            f"{race['ended']}."
        )
    return said


def _chosen(comparison: Comparison) -> list[str]:
    """Say which of the values that were tried each activation had most often."""
    tuned = comparison.about["tuned"]
    if not tuned or not set(tuned[0]) <= set(comparison.results):
        return []
    said = []
    for name, runs in comparison.results.groupby("activation", sort=False):
        values = runs[list(tuned[0])].value_counts()
        best = values.index[0]
        what = ", ".join(f"{n}={v}" for n, v in zip(tuned[0], best, strict=True))
        said.append(f"{name} {what} ({values.iloc[0]} of {len(runs)} runs)")
    return [f"Chosen most often: {'; '.join(said)}."]

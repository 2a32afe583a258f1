"""Differences between activations, and their forest plot, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from actlab.report.panels import Labels
from actlab.report.tables import to_json_value

_OPPOSITE = {"better": "worse", "worse": "better"}
_FAR = 5.0  # a difference this many times the next smaller one is drawn at the edge


@dataclass(frozen=True)
class Difference:
    """The difference of an activation from another one, with its interval and its verdict.

    Attributes:
        value: Difference of the mean scores; None if there is none.
        low: Lower end of the interval.
        high: Upper end of the interval.
        verdict: ``"better"``, ``"worse"``, ``"equivalent"``, ``"undecided"`` or ``"none"``.
        reason: Why the verdict is undecided or missing.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = "none"
    reason: str = ""

    def describe(self, points: bool) -> str:
        """Return difference and interval as text, in percentage points if ``points``."""
        if self.value is None:
            return "–"
        value, low, high = (format_difference(x, points) for x in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


Pairs = Mapping[tuple[str, str], Difference]  # by activation and reference, each pair in both directions


def format_difference(value: float | None, points: bool) -> str:
    """Return a difference with its sign, in percentage points or in units of the score."""
    if value is None:
        return "–"
    return (f"{100 * value:+.2f}" if points else f"{value:+.3g}").replace("-", "−")


def collect_differences(verdicts: pd.DataFrame) -> Pairs:
    """Return the difference of every activation from every other one.

    Args:
        verdicts: As in :attr:`actlab.Comparison.verdicts`.

    Returns:
        By activation and reference; each pair in both directions.
    """
    pairs = {}
    for row in verdicts.to_dict("records"):
        value, low, high = (_to_float(row.get(name)) for name in ("difference", "low", "high"))
        a, b, verdict, reason = row["a"], row["b"], row["verdict"], row.get("reason") or ""
        pairs[a, b] = Difference(value, low, high, verdict, reason)
        opposite = _OPPOSITE.get(verdict, verdict)
        pairs[b, a] = Difference(_negate(value), _negate(high), _negate(low), opposite, reason)
    return pairs


def _to_float(value: Any) -> float | None:
    value = to_json_value(value)
    return float(value) if isinstance(value, int | float) else None


def _negate(value: float | None) -> float | None:
    return None if value is None else 0.0 - value


def name_reference(ranking: pd.DataFrame) -> str:
    """Return a title for the top row of a ranking, the reference of the differences.

    Examples:
        >>> [name_reference(pd.DataFrame({"rank": ranks})) for ranks in ([1, 2], [1, 1], [None, None])]
        ['the first', 'tied for first', 'the reference']
    """
    ranks = pd.to_numeric(ranking["rank"], errors="coerce").to_numpy(float, na_value=math.nan)
    if len(ranks) < 2 or ranks[0] != 1:
        return "the reference"
    return "the first" if (ranks == 1).sum() == 1 else "tied for first"


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot.

    Attributes:
        name: The activation.
        series: Its place in the ranking.
        difference: Its difference from the first row, in units of the axis.
        text: The difference and its interval.
    """

    name: str
    series: int
    difference: Difference
    text: str


@dataclass(frozen=True)
class Forest:
    """A forest plot: the differences of all activations from the top row of the ranking.

    Attributes:
        rows: One per activation, in the order of the ranking.
        region: Half the width of the region of practical equivalence; None if there is none.
        limit: The axis goes from ``-limit`` to ``limit``.
        axis: Title of the axis.
    """

    rows: Sequence[ForestRow]
    region: float | None
    limit: float
    axis: str

    def is_beyond(self, row: ForestRow) -> bool:
        """Return whether a difference is too large for the axis."""
        return abs(row.difference.value or 0) > self.limit


def make_forest(
    ranking: pd.DataFrame, pairs: Pairs, about: Mapping[str, Any], labels: Labels
) -> Forest | None:
    """Return the forest plot of a comparison, None if no activation has a difference.

    Args:
        ranking: As in :attr:`actlab.Comparison.ranking`.
        pairs: From :func:`collect_differences`.
        about: As in :attr:`actlab.Comparison.about`.
        labels: Short labels by name.
    """
    names = [str(name) for name in ranking["activation"]]
    others = {name: pairs.get((name, names[0]), Difference()) for name in names[1:]}
    if all(one.value is None for one in others.values()):
        return None
    points, top = bool(about.get("points")), name_reference(ranking)
    reference = Difference(0.0, 0.0, 0.0, "leader" if top == "the first" else "none")
    rows = [ForestRow(names[0], 0, reference, top)]
    for series, (name, one) in enumerate(others.items(), 1):
        text = "no verdict" if one.value is None else one.describe(points)
        rows.append(ForestRow(name, series, _scale(one, 100.0 if points else 1.0), text))
    half = (100.0 if points else 1.0) * float(about.get("region", math.nan))
    region = half if math.isfinite(half) else None
    axis = f"difference in {about.get('metric', 'score')} from {labels[names[0]]}{', pp' if points else ''}"
    return Forest(rows, region, _choose_limit(rows[1:], region or 0.0), axis)


def _scale(one: Difference, factor: float) -> Difference:
    value, low, high = (None if x is None else factor * x for x in (one.value, one.low, one.high))
    return replace(one, value=value, low=low, high=high)


def _choose_limit(rows: Sequence[ForestRow], region: float) -> float:
    """Return the farthest end of an interval that leaves room for the other rows."""
    ends = [(row.difference.low, row.difference.high) for row in rows]
    reaches = sorted(max(abs(low), abs(high)) for low, high in ends if low is not None and high is not None)
    limit = reaches[0] if reaches else 1.0
    for reach in reaches:
        if reach > _FAR * max(limit, region):
            break
        limit = reach
    return 1.08 * max(limit, region) or 1.0

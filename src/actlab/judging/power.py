"""Plan how many runs are needed to find a difference."""

from __future__ import annotations

import bisect
import math

import numpy as np
import pandas as pd
from scipy import special, stats

from actlab.errors import UsageError
from actlab.judging.judgement import Judgement

POWER = 0.8
_MOST = 10_000  # runs
_NODES = 2001  # of a quadrature
_LARGEST = 1e100  # mean in standard errors, whose square does not overflow


def describe_power(judgement: Judgement, difference: float) -> list[str]:
    """Return how many runs of each method are needed to find a difference with a probability of 80 %.

    The variance is that of the pairs in the table. If runs are paired, it is that of their differences.

    Args:
        judgement: The judged table, on one dataset.
        difference: The difference, in units of the score.

    Raises:
        UsageError: The difference is not a positive number, or the table has folds, outcomes on samples or
            several datasets.
    """
    if not 0 < difference < math.inf:
        raise UsageError(f"power needs a finite difference > 0, got {difference}")
    if judgement.datasets is not None:
        raise UsageError("power is planned for one dataset; select the rows of one")
    if judgement.design.kind not in ("seeds", "unpaired"):
        kind = judgement.design.kind
        raise UsageError(f"power is planned for runs with seeds and for unpaired runs, not for {kind}")
    deviations = _measure_deviations(judgement)
    if not deviations:
        return ["Power: no pair has a variance; add runs."]
    deviation = float(np.median(deviations))
    unpaired = judgement.about["unpaired"]
    runs = count_runs(difference / deviation, unpaired, judgement.about["level"]) if deviation else 2
    what = "runs of each method" if unpaired else "pairs of runs"
    needed = f"more than {_MOST:,}" if runs is None else f"{runs:,}"
    return [
        f"Power: one test of {needed} {what} finds a difference of {difference:g} with a probability of "
        f"{100 * POWER:.0f} %, at the standard deviation of this table ({deviation:.3g})."
    ]


def count_runs(effect: float, unpaired: bool, level: float) -> int | None:
    """Return the smallest number of runs with which a t-test finds an effect with a probability of 80 %.

    Args:
        effect: The difference, divided by the standard deviation of the differences of paired runs, or of
            single runs if they are not paired.
        unpaired: Whether runs are not paired; the number is then that of each method.
        level: The two-sided level of the test.

    Examples:
        >>> count_runs(0.5, True, 0.05), count_runs(0.5, False, 0.05)
        (64, 34)
    """
    runs = range(2, _MOST + 1)
    index = bisect.bisect_left(runs, POWER, key=lambda n: compute_power(effect, n, unpaired, level))
    return runs[index] if index < len(runs) else None


def compute_power(effect: float, runs: int, unpaired: bool, level: float) -> float:
    """Return the probability that a t-test finds an effect."""
    df, scale = (2 * runs - 2, math.sqrt(runs / 2)) if unpaired else (runs - 1, math.sqrt(runs))
    # scipy.stats.nct is NaN for many effects. Given the mean in standard errors, the variance decides.
    z = np.linspace(-9, 9, _NODES)
    means = min(effect * scale, _LARGEST) + z
    power = special.chdtr(df, df * np.square(means / stats.t.isf(level / 2, df)))
    return float(np.average(power, weights=stats.norm.pdf(z)))


def _measure_deviations(judgement: Judgement) -> list[float]:
    """Return the standard deviation of each pair."""
    runs = judgement.runs
    keys = [name for name in runs if name not in ("method", "score", "failure")]
    by_method = dict(iter(runs.groupby("method", sort=False)))
    unpaired = judgement.about["unpaired"]
    deviations = []
    for a, b in judgement.verdicts[["a", "b"]].to_numpy():
        one, other = by_method[a], by_method[b]
        if unpaired:
            variance = (one["score"].var(ddof=1) + other["score"].var(ddof=1)) / 2
        else:
            both: pd.DataFrame = one.merge(other, on=keys, suffixes=("", "_b"))
            variance = (both["score"] - both["score_b"]).var(ddof=1)
        if math.isfinite(variance):
            deviations.append(math.sqrt(variance))
    return deviations

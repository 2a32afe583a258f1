"""Summarize the difference of two methods whose runs are not paired."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actlab.stats.posterior import Posterior, Summary, require
from actlab.stats.robust import estimate_improvement


@dataclass(frozen=True)
class UnpairedSummary(Summary):
    """A summary of the runs of two methods whose runs are not paired.

    Attributes:
        mean: Difference of the mean scores.
        counts: The number of runs of each.
        variances: The variance of the scores of each.
        wins: Probability that a run of the first is better than one of the second; ties count half.
        wins_low: Lower end of its 95 % interval.
        wins_high: Upper end.
    """

    mean: float
    counts: tuple[int, int]
    variances: tuple[float, float]
    wins: float = math.nan
    wins_low: float = math.nan
    wins_high: float = math.nan

    @property
    def runs(self) -> int:
        """The number of runs of the method that has fewer."""
        return min(self.counts)

    @property
    def seeds(self) -> int:
        """The number of runs of the method that has fewer."""
        return self.runs

    @functools.cached_property
    def posterior(self) -> Posterior:
        """Student's t with Welch's degrees of freedom."""
        shares = [variance / count for variance, count in zip(self.variances, self.counts, strict=True)]
        total = sum(shares)
        df = float(min(self.counts) - 1)
        if total:
            parts = [(share / total) ** 2 / (n - 1) for share, n in zip(shares, self.counts, strict=True)]
            df = 1 / sum(parts)
        return Posterior(self.mean, df, np.array([math.sqrt(total)]), np.ones(1))

    def expect_posterior(self, seeds: int) -> Posterior:
        """Return the posterior for another number of runs of each, if mean and variances stay the same."""
        return UnpairedSummary(self.mean, (max(2, seeds), max(2, seeds)), self.variances).posterior


def summarize_unpaired(
    a: npt.ArrayLike, b: npt.ArrayLike, *, step: float = 0.0, resample: bool = True
) -> UnpairedSummary:
    """Summarize the scores of two methods whose runs are not paired.

    Args:
        a: Scores (n,) of one method, n >= 2.
        b: Scores (m,) of the other, m >= 2.
        step: The smallest possible change of a score. Equal scores then still have the variance of rounding
            to this step.
        resample: Whether to compute the interval of ``wins``, which takes some milliseconds.

    Returns:
        The summary.

    Raises:
        UsageError: A score is not finite, or a method has fewer than two runs.

    Examples:
        >>> summary = summarize_unpaired([0.91, 0.93, 0.92], [0.88, 0.90, 0.89, 0.89])
        >>> round(summary.mean, 4), round(summary.posterior.p_value, 4)
        (0.03, 0.0143)

    References:
        B. L. Welch, "The generalization of 'Student's' problem when several different population variances
        are involved", Biometrika 34 (1947).
    """
    both = [np.asarray(scores, np.float64) for scores in (a, b)]
    for scores in both:
        require(
            scores.ndim == 1 and len(scores) >= 2,
            f"each method needs at least two runs, got shape {scores.shape}: its variance is unknown",
        )
        require(bool(np.isfinite(scores).all()), "scores must be finite; omit failed runs")
    first, second = both
    variances = [max(float(scores.var(ddof=1)), step * step / 12) for scores in both]
    return UnpairedSummary(
        float(first.mean() - second.mean()),
        (len(first), len(second)),
        (variances[0], variances[1]),
        *estimate_improvement([first], [second], resample),
    )

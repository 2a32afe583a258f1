"""Verdicts that may be read after every new run, however often.

A test at 5 % that is repeated after every run finds a difference sooner or later, even if there is none. The
mixture of likelihood ratios below is a martingale if there is no difference, so by Ville's inequality it
exceeds 1 / level with a probability of at most ``level``, at any time. The effect size, in standard
deviations of a run, has the prior N(0, 1).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from scipy import special

from actlab.stats.posterior import LEVEL, Posterior, WrappedSummary, require_level


@dataclass(frozen=True)
class AnytimePosterior:
    """A posterior with p-values and intervals that hold at all times simultaneously.

    Args:
        fixed: The posterior for a single analysis.

    References:
        T. L. Lai, "On confidence sequences", Annals of Statistics 4 (1976).

        H. Wang, A. Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
        variance", Sequential Analysis 44 (2025).
    """

    fixed: Posterior

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.fixed.mean

    @property
    def p_value(self) -> float:
        """The p-value of no difference: 1 over the mixture of likelihood ratios."""
        p = self.fixed.p_value
        if p <= 0:
            return 0.0
        t = -special.stdtrit(self.fixed.df, p / 2)
        return compute_anytime_p_value(float(t), self.fixed.df)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the ends of an interval.

        With probability at least 1 - ``level``, the intervals of all analyses contain the true difference.
        """
        require_level(level)
        low, high = self.fixed.interval(level)
        half = (high - low) / 2
        if not half:
            return low, high
        half *= compute_anytime_bound(self.fixed.df, level) / -float(
            special.stdtrit(self.fixed.df, level / 2)
        )
        return self.mean - half, self.mean + half

    def probability_within(self, region: float) -> float:
        """Return 1 - p at the ends of the region; at least 95 % if the 95 % interval is within the region."""
        if abs(self.mean) > region:
            return 0.0
        ends = [dataclasses.replace(self.fixed, mean=self.mean + end) for end in (-region, region)]
        return 1 - max(AnytimePosterior(end).p_value for end in ends)

    def probability_below(self, value: float) -> float:
        """Return the probability, for a single analysis, that the true difference is less than a value."""
        return self.fixed.probability_below(value)


def compute_anytime_p_value(t: float, df: float) -> float:
    """Return the anytime-valid p-value of a t statistic.

    Args:
        t: The statistic of df + 1 observations.
        df: The degrees of freedom.

    Examples:
        >>> round(compute_anytime_p_value(4.0, 9), 4)
        0.0424
    """
    n = df + 1
    shrink = 1 / (n + 1)
    square = t * t / df
    ratio = n + 1.0 if math.isinf(square) else (1 + square) / (1 + shrink * square)
    log_evidence = n / 2 * math.log(ratio) + math.log(shrink) / 2
    return min(1.0, math.exp(-log_evidence))


def compute_anytime_bound(df: float, level: float) -> float:
    """Return the t statistic whose anytime-valid p-value is ``level``; infinite if there is none.

    Examples:
        >>> compute_anytime_bound(1, 0.05)
        inf
        >>> round(compute_anytime_p_value(compute_anytime_bound(9, 0.05), 9), 10)
        0.05
    """
    n = df + 1
    shrink = 1 / (n + 1)
    ratio = (1 / (level * math.sqrt(shrink))) ** (2 / n)
    if shrink * ratio >= 1:
        return math.inf
    return math.sqrt(df * (ratio - 1) / (1 - shrink * ratio))


class AnytimeSummary(WrappedSummary):
    """A summary of a pair whose verdict may be read after every new run.

    Args:
        summary: The summary for a single analysis.
    """

    def __init__(self, summary: Any) -> None:
        super().__init__(summary, AnytimePosterior(summary.posterior))

    def expect_posterior(self, seeds: int) -> Any:
        """Return the posterior for another number of seeds, if mean and variances stay the same."""
        return AnytimePosterior(self.summary.expect_posterior(seeds))

"""The distribution of the true difference of two activations, and what a verdict derives from it."""

from __future__ import annotations

import abc
import bisect
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from actlab.errors import UsageError

Floats = npt.NDArray[np.float64]

LEVEL = 0.05  # the probability of a wrong verdict that is allowed
MAX_SEEDS = 500  # a forecast of more is not reported
_RESAMPLES = 2000


@dataclass(frozen=True)
class Posterior:
    """A mixture of Student's t distributions about one mean.

    Attributes:
        mean: The common mean.
        df: The common degrees of freedom.
        scales: The scales (n,).
        weights: The weights (n,); their sum is 1.
    """

    mean: float
    df: float
    scales: Floats
    weights: Floats

    def probability_below(self, value: float) -> float:
        """Return the probability that the true difference is less than a value; equality counts half."""
        return self._probability_below_offset(value - self.mean)

    def _probability_below_offset(self, offset: float) -> float:
        # The offset from the mean: added to a mean far larger than the scales, it would be rounded away.
        with np.errstate(divide="ignore", invalid="ignore"):
            t = offset / self.scales
        t = np.where(np.isnan(t), 0.0, t)  # no variance and no offset
        return float(self.weights @ special.stdtr(self.df, t))

    def probability_within(self, region: float) -> float:
        """Return the probability that the true difference is at most ``region`` in either direction."""
        if not self.scales.any():  # no variance: the ends count too
            return float(abs(self.mean) <= region)
        return max(0.0, self.probability_below(region) - self.probability_below(-region))

    @property
    def p_value(self) -> float:
        """The two-sided p-value of no difference."""
        return min(1.0, 2 * self._probability_below_offset(-abs(self.mean))) if self.mean else 1.0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the ends of the interval that misses the true difference with probability ``level``."""
        require_level(level)
        largest = float(self.scales.max())
        if not largest:
            return self.mean, self.mean
        bound = -special.stdtrit(self.df, level / 2)
        # In units of the largest scale, because the tolerance of the search is absolute.
        half = largest * optimize.brentq(
            lambda t: self._probability_below_offset(-t * largest) - level / 2, 0.0, bound * 1.001
        )
        return self.mean - half, self.mean + half


class Summary(abc.ABC):
    """A summary of the runs of a pair."""

    @property
    def is_limited(self) -> bool:
        """Whether more seeds cannot decide the pair, because the summary holds for these models only."""
        return False

    @abc.abstractmethod
    def expect_posterior(self, seeds: int) -> Posterior:
        """Return the posterior for another number of seeds, if mean and variances stay the same."""

    def seeds_to_decide(self, threshold: float, region: float, level: float) -> int | None:
        """Forecast how many seeds would decide, if the mean and the variances stayed the same.

        Args:
            threshold: The p-value at which a difference is significant.
            region: Half the width of the region of practical equivalence.
            level: The allowed probability of an error in an equivalence.

        Returns:
            The total number of seeds; None if no number up to 500 would decide.
        """

        def decides(seeds: int) -> bool:
            later = self.expect_posterior(seeds)
            return later.p_value <= threshold or later.probability_within(region) >= 1 - level

        if self.is_limited or not decides(MAX_SEEDS):
            return None
        return 1 + bisect.bisect_left(range(1, MAX_SEEDS), True, key=decides)


class WrappedSummary(Summary):
    """A summary with another posterior.

    Args:
        summary: The original summary. Its other attributes are attributes of this object too.
        posterior: The posterior.
    """

    def __init__(self, summary: Any, posterior: Any) -> None:
        self.summary, self.posterior = summary, posterior

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["summary"], name)

    @property
    def is_limited(self) -> bool:
        """Whether the summary is limited."""
        return bool(self.summary.is_limited)

    def expect_posterior(self, seeds: int) -> Any:
        """Return the posterior of the summary for another number of seeds."""
        return self.summary.expect_posterior(seeds)


def bootstrap_wins(wins: Floats, counts: npt.NDArray[Any]) -> tuple[float, float]:
    """Return a percentile bootstrap interval; it resamples cells, whose runs are not independent."""
    result = stats.bootstrap(
        (wins, counts),
        lambda wins, counts, axis: wins.sum(axis) / counts.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def require(valid: bool, message: str) -> None:
    """Raise UsageError with a message unless a condition holds."""
    if not valid:
        raise UsageError(message)


def require_level(level: float) -> None:
    """Raise UsageError unless a level is a probability between 0 and 1."""
    require(0 < level < 1, f"level must be a probability between 0 and 1, got {level}")

"""Summarize the differences of two activations that are scored on one fixed test set.

The outcome of a run on a test sample is, for example, 1 if its label is correct, else 0. The difference of
two activations in the outcome of seed s on sample i is, with crossed random effects::

    d[s, i] = true difference + effect of the seed + effect of the sample + residual

The claim is about new seeds and new test samples of the same kind. The mean over S seeds and n samples has
the variance::

    variance of the seed / S + variance of the sample / n + variance of the residual / (S n)

The first and the last term together are the variance between the means of the seeds, divided by S. It is
estimated from few seeds, so the posterior integrates over its uncertainty, as in the Behrens-Fisher problem.
An interval from one estimate, with Satterthwaite's degrees of freedom, covers as little as 87 % with two
seeds.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from actlab.stats.posterior import MAX_SEEDS, Floats, Posterior, Summary, bootstrap_wins, require

_NODES = 128  # of a quadrature
_FARTHEST = 36.0  # log odds of the outermost node


@dataclass(frozen=True)
class FixedTestSummary(Summary):
    """A summary of the paired differences of two activations on a fixed test set.

    Attributes:
        mean: Mean difference, in units of the score.
        seeds: Number of seeds.
        samples: Number of test samples; 0 if only the seeds count, because the score is not a mean over
            samples.
        seed_variance: Variance of the mean differences of the seeds; NaN with one seed.
        sample_variance: The variance of ``mean`` that comes from the test samples, for any number of seeds.
        wins: Proportion of the seeds for which the first activation was better; equal scores count as half a
            win.
        wins_low: Lower end of its 95 % interval.
        wins_high: Upper end.
    """

    mean: float
    seeds: int
    samples: int
    seed_variance: float
    sample_variance: float
    wins: float = math.nan
    wins_low: float = math.nan
    wins_high: float = math.nan

    @property
    def runs(self) -> int:
        """The number of pairs of runs."""
        return self.seeds

    @property
    def is_limited_by_samples(self) -> bool:
        """Whether the test samples contribute more to the variance than 500 seeds would."""
        return self.sample_variance > self.seed_variance / MAX_SEEDS

    @functools.cached_property
    def posterior(self) -> Posterior:
        """The posterior of the true difference; with one seed, of the difference of two trained models."""
        if self.seeds == 1:
            return Posterior(self.mean, self.samples - 1, np.sqrt([self.sample_variance]), np.ones(1))
        if not self.sample_variance:
            scale = math.sqrt(self.seed_variance / self.seeds)
            return Posterior(self.mean, self.seeds - 1, np.array([scale]), np.ones(1))
        # The variance of the seed is a sum of squares over a chi-square. Given it, the difference follows
        # Student's t with the degrees of freedom of the samples.
        chi_squares, weights = _compute_chi_square_nodes(self.seeds - 1)
        from_seeds = self.seed_variance * (self.seeds - 1) / chi_squares / self.seeds
        return Posterior(self.mean, self.samples - 1, np.sqrt(from_seeds + self.sample_variance), weights)

    @property
    def is_limited(self) -> bool:
        """Whether there is one seed, whose posterior holds for two trained models only."""
        return self.seeds == 1

    def expect_posterior(self, seeds: int) -> Posterior:
        """Return the posterior for another number of seeds, if mean and variances stay the same."""
        more = max(2, seeds), self.samples, self.seed_variance, self.sample_variance
        return FixedTestSummary(self.mean, *more).posterior


def summarize_fixed_test(
    differences: npt.ArrayLike, *, step: float = 0.0, resample: bool = True
) -> FixedTestSummary:
    """Summarize paired differences on a fixed test set.

    Args:
        differences: Outcomes of one activation minus those of the other (S, n), of S seeds on n >= 2 test
            samples; or scores (S,) of S >= 2 seeds, if a score is not a mean over samples.
        step: The smallest possible change of a score, 1 / n for accuracy. The variance of the samples is then
            at least that of two differing samples, even if all outcomes are equal.
        resample: Whether to compute the interval of ``wins``, which takes some milliseconds.

    Returns:
        The summary.

    Raises:
        UsageError: A difference is not finite, or there are too few seeds or samples.
    """
    d = np.asarray(differences, np.float64)
    is_valid = d.shape[1] >= 2 and len(d) >= 1 if d.ndim == 2 else d.ndim == 1 and len(d) >= 2
    require(
        is_valid,
        f"differences must be (S, n) with n >= 2 samples, or (S,) with S >= 2 seeds, got shape {d.shape}",
    )
    require(bool(np.isfinite(d).all()), "differences must be finite; omit failed runs")
    of_seeds = d.mean(1) if d.ndim == 2 else d
    seeds, samples = len(d), d.shape[1] if d.ndim == 2 else 0
    wins = (1 + np.sign(of_seeds)) / 2
    low, high = bootstrap_wins(wins, np.ones(seeds)) if resample and seeds > 1 else (math.nan, math.nan)
    return FixedTestSummary(
        float(d.mean()),
        seeds,
        samples,
        float(of_seeds.var(ddof=1)) if seeds > 1 else math.nan,
        max(_estimate_sample_variance(d), 2 * step * step) if samples else 0.0,
        float(wins.mean()),
        low,
        high,
    )


def _estimate_sample_variance(d: Floats) -> float:
    """Return the variance of the mean of d (S, n) that comes from the samples, without that of the rest."""
    seeds, samples = d.shape
    total = float(d.mean(0).var(ddof=1) / samples)
    if seeds == 1:
        return total
    rest = d - d.mean(0) - d.mean(1, keepdims=True) + d.mean()
    of_rest = float(np.square(rest).sum()) / ((seeds - 1) * (samples - 1))
    return max(float(total - of_rest / (seeds * samples)), 0.0)


@functools.lru_cache(maxsize=64)
def _compute_chi_square_nodes(df: int) -> tuple[Floats, Floats]:
    """Return values of a chi-square and weights: the trapezoidal rule in the log odds of the probability."""
    log_odds = np.linspace(-_FARTHEST, _FARTHEST, _NODES)
    below, above = special.expit(log_odds), special.expit(-log_odds)
    values = np.where(log_odds < 0, special.gammaincinv(df / 2, below), special.gammainccinv(df / 2, above))
    weights = below * above
    return 2 * values, weights / weights.sum()

"""Judge from paired scores whether one activation is better than another.

The runs of a comparison lie in cells. A cell is one fold of one split of the samples. The runs in a cell
differ in their seed. The difference of two activations in a run is::

    d = true difference + effect of the data + effect of the split (v) + effect of the seed (e)

All runs use the same data, so its effect cannot be observed. C. Nadeau and Y. Bengio estimate its variance
from the variance between splits: v times test samples / training samples, because training sets overlap. The
effect of the seed has no such part: each further seed is independent. Two seeds in each cell separate v from
e. With one seed, all variance counts as that of the split, as in their corrected resampled t-test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actlab.stats.fixed_test_set import FixedTestSummary
from actlab.stats.posterior import (
    LEVEL,
    Floats,
    Posterior,
    Summary,
    WrappedSummary,
    bootstrap_wins,
    require,
    require_level,
)
from actlab.stats.unpaired import UnpairedSummary

_NODES = 64  # of a quadrature
# The variance of splits is the difference of two estimates; negative values count as 0. Without a factor
# above 1 on the effect of the data, and without a prior belief that splits have an effect, 95 % intervals
# would cover 93 % where that variance is small, and small p-values would be too small: see the calibration.
_DATA_FACTOR, _SPLIT_PRIOR = 1.25, 0.05
_SMALLEST, _LARGEST = 1e-100, 1e100  # differences whose squares neither underflow nor overflow


@dataclass(frozen=True)
class DifferenceSummary(Summary):
    """A summary of the paired differences of two activations.

    Attributes:
        mean: Mean difference, in units of the score.
        cells: Number of cells (folds of a split) in which both were trained.
        runs: Number of pairs of runs.
        between_variance: Variance of the means of cells.
        between_weight: The part of ``between_variance`` that remains in the mean: 1 / cells if all cells have
            the same number of runs.
        within_weight: The part of a run's own variance that remains in the mean of a cell: 1 / seeds in it.
        within_variance: Variance between the runs of a cell; NaN if no cell has two.
        within_df: Degrees of freedom of ``within_variance``: runs - cells.
        ratio: Test samples / training samples of a run.
        wins: Proportion of the runs in which the first activation was better; equal scores count as half a
            win.
        wins_low: Lower end of its 95 % interval.
        wins_high: Upper end.
        same_splits: Whether every seed has the same splits, so that more seeds add no cells.

    Raises:
        UsageError: There are fewer than two cells, or the ratio is not a positive number.
    """

    mean: float
    cells: int
    runs: int
    between_variance: float
    between_weight: float
    within_weight: float
    within_variance: float
    within_df: int
    ratio: float
    wins: float = math.nan
    wins_low: float = math.nan
    wins_high: float = math.nan
    same_splits: bool = False

    def __post_init__(self) -> None:
        _require_cells(self.cells)
        require(
            1e-9 <= self.ratio <= 1e9,
            f"ratio must be test samples / training samples, from 1e-9 to 1e9, got {self.ratio}",
        )

    @property
    def seeds(self) -> int:
        """The number of seeds of each activation."""
        return self.runs // self._folds

    @property
    def _folds(self) -> int:
        return self.cells if self.same_splits else round(1 / self.ratio) + 1

    @functools.cached_property
    def posterior(self) -> Posterior:
        """The posterior distribution of the true difference."""
        cells = self.cells - 1
        if not self.within_df:
            scale = math.sqrt(self.between_variance * (self.between_weight + self.ratio))
            return Posterior(self.mean, cells, np.array([scale]), np.ones(1))
        # Both variances are sums of squares over a chi-square. The proportion of the first in the sum of both
        # chi-squares is independent of the sum. Given it, the difference follows Student's t.
        proportions, weights = _compute_beta_nodes(cells / 2, self.within_df / 2)
        between = cells * self.between_variance / proportions
        within = self.within_df * self.within_variance / (1 - proportions)
        split = np.maximum(between - self.within_weight * within, 0)
        positive = weights * (split > 0)
        if total := positive.sum():
            weights = (1 - _SPLIT_PRIOR) * weights + _SPLIT_PRIOR * positive / total
        data_variance = _DATA_FACTOR * self.ratio * split
        scales = np.sqrt((between * self.between_weight + data_variance) / (cells + self.within_df))
        return Posterior(self.mean, cells + self.within_df, scales, weights)

    @property
    def variance_components(self) -> tuple[float, float]:
        """The variances of the split and of the seed; half of the total each if there is one seed."""
        if not self.within_df:
            return self.between_variance / 2, self.between_variance / 2
        return max(
            self.between_variance - self.within_weight * self.within_variance, 0.0
        ), self.within_variance

    def expect_posterior(self, seeds: int) -> Posterior:
        """Return the posterior for another number of seeds, if mean and variances stay the same."""
        split, own = self.variance_components
        if self.same_splits:
            cells, in_cell = self.cells, seeds
        else:
            cells, in_cell = max(2, self._folds * seeds // 2), 2
        runs = cells * in_cell
        between = split + own / in_cell
        later = self.mean, cells, runs, between, 1 / cells, 1 / in_cell, own, runs - cells, self.ratio
        return DifferenceSummary(*later).posterior


def summarize_differences(
    differences: npt.ArrayLike,
    cells: npt.ArrayLike,
    ratio: float,
    *,
    step: float = 0.0,
    same_splits: bool = False,
    resample: bool = True,
) -> DifferenceSummary:
    """Summarize paired differences.

    Args:
        differences: Score of one activation minus that of the other (n,), one per run: finite, 0 or from
            1e-100 to 1e100 in absolute value.
        cells: The cell of each difference (n,), such as the fold of a split: any labels, at least two
            different ones.
        ratio: Test samples / training samples; 1 / (k - 1) in k-fold cross-validation.
        step: The smallest possible change of a score, 1 / test samples for accuracy. Equal differences then
            still have the variance of rounding to this step.
        same_splits: Whether every seed has the same splits.
        resample: Whether to compute the interval of ``wins``, which takes some milliseconds.

    Returns:
        The summary.

    Raises:
        UsageError: A value is invalid, or there are fewer than two cells, so the variance is unknown.
    """
    d, labels = np.asarray(differences, np.float64), np.asarray(cells)
    require(
        d.ndim == 1 and labels.shape == d.shape,
        f"differences and cells must be lists of the same length, got shapes {d.shape} and {labels.shape}",
    )
    wrong = d[~np.isfinite(d)]
    require(not wrong.size, f"differences must be finite, got {wrong[:1]}; omit failed runs")
    largest = float(np.abs(d).max(initial=0))
    require(
        not largest or _SMALLEST <= largest <= _LARGEST,
        f"the largest difference must be 0 or from {_SMALLEST:g} to {_LARGEST:g} in absolute value, "
        f"got {largest:g}; rescale the scores",
    )
    require(0 <= step < math.inf, f"step must be a finite number >= 0, got {step}; pass 0 if it is unknown")
    _, indices, counts = np.unique(labels, return_inverse=True, return_counts=True)
    _require_cells(len(counts))
    means = np.bincount(indices, d) / counts
    within_weight, within_df = float(np.mean(1 / counts)), len(d) - len(counts)
    rounding = step * step / 6 if d.any() else 0.0  # two rounded scores, step^2 / 12 each
    between = max(float(means.var(ddof=1)), within_weight * rounding)
    within = max(float(np.square(d - means[indices]).sum() / within_df), rounding) if within_df else math.nan
    wins = (1 + np.sign(d)) / 2
    low, high = (
        bootstrap_wins(np.bincount(indices, wins).astype(np.float64), counts)
        if resample
        else (math.nan, math.nan)
    )
    return DifferenceSummary(
        float(d.mean()),
        len(counts),
        len(d),
        between,
        float(np.square(counts / len(d)).sum()),
        within_weight,
        within,
        within_df,
        ratio,
        float(wins.mean()),
        low,
        high,
        same_splits,
    )


@functools.lru_cache(maxsize=256)
def _compute_beta_nodes(a: float, b: float) -> tuple[Floats, Floats]:
    """Return nodes in (0, 1) and weights of Gauss's quadrature over the distribution Beta(a, b).

    The method is that of G. Golub and J. Welsch: the nodes are eigenvalues of the Jacobi matrix.
    scipy.special.roots_jacobi overflows if a or b is above about a thousand.
    """
    n, total = np.arange(1.0, _NODES), a + b
    edge = 2 * n + total - 2
    middle = np.append(a / total, (1 + (a - b) * (total - 2) / (edge * (edge + 2))) / 2)
    beside = n * (n + a - 1) * (n + b - 1) / edge**2 / (edge + 1)
    beside[1:] *= (n + total - 2)[1:] / (edge - 1)[1:]  # the first factor is 1, and 0 / 0 if a + b = 1
    nodes, vectors = np.linalg.eigh(np.diag(middle) + np.diag(np.sqrt(beside), -1))
    return nodes, np.square(vectors[0])


def _require_cells(cells: int) -> None:
    why = "the variance of a difference is unknown; train at least two folds"
    require(cells >= 2, f"a test needs at least two cells, got {cells}: {why}")


PairSummary = DifferenceSummary | FixedTestSummary | UnpairedSummary | WrappedSummary


@dataclass(frozen=True)
class Verdict:
    """The verdict on a pair of activations.

    Attributes:
        outcome: ``"better"``, ``"worse"`` or ``"equivalent"``, of the first compared with the second, or
            ``"undecided"``.
        difference: Mean difference, in units of the score.
        low: Lower end of the interval of the difference.
        high: Upper end.
        level: The probability that the interval misses the true difference, and the allowed probability of an
            error among all verdicts of an analysis.
        p_value: Two-sided p-value of no difference.
        p_holm: The same, corrected for all pairs that were judged together.
        better: Probability that the first is better by more than the region.
        equivalent: Probability that the difference is within the region.
        worse: Probability that the first is worse by more than the region.
        more_seeds: About how many more seeds would decide; None if no number would, or the pair is decided.
        summary: The summary of the differences.
    """

    outcome: str
    difference: float
    low: float
    high: float
    level: float
    p_value: float
    p_holm: float
    better: float
    equivalent: float
    worse: float
    more_seeds: int | None
    summary: PairSummary


def judge_summaries(pairs: Sequence[PairSummary], region: float, level: float = LEVEL) -> list[Verdict]:
    """Judge for each pair whether the first is better, worse or equivalent, or the pair is undecided.

    With one seed and a fixed test set, every pair is undecided: another seed may give another result.
    Better and worse: the p-value, corrected by :func:`holm` for the given pairs, is at most ``level``.
    Equivalent: the difference is within the region with probability 1 - ``level``. This outcome has priority,
    because a significant difference can be too small to matter.

    Args:
        pairs: The summary of each pair.
        region: Half the width of the region of practical equivalence, in units of the score.
        level: The allowed probability of an error.

    Returns:
        A verdict for each pair, in the same order.

    Raises:
        UsageError: The region is not a number of at least 0, or the level is not between 0 and 1.

    References:
        C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning 52 (2003).

        A. Benavoli, G. Corani, J. Demsar, M. Zaffalon, "Time for a change: a tutorial for comparing multiple
        classifiers through Bayesian analysis", JMLR 18 (2017).

        X. Bouthillier et al., "Accounting for variance in machine learning benchmarks", MLSys 3 (2021).
    """
    require_level(level)
    require(region >= 0 or not pairs, f"region (half its width) must be a number >= 0, got {region}")
    p_values = [pair.posterior.p_value for pair in pairs]
    verdicts = []
    for pair, p, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        equivalent = pair.posterior.probability_within(region)
        # The end of the region counts once.
        below = min(pair.posterior.probability_below(-region), 1 - equivalent)
        if pair.is_limited:
            outcome = "undecided"  # the interval holds for two trained models, not for the activations
        elif equivalent >= 1 - level:
            outcome = "equivalent"
        elif adjusted <= level:
            outcome = "better" if pair.mean > 0 else "worse"
        else:
            outcome = "undecided"
        more = None
        if outcome == "undecided":
            seeds = pair.seeds_to_decide(level / len(pairs), region, level)
            more = seeds and max(1, seeds - pair.seeds)
        low, high = pair.posterior.interval(level)
        better = max(0.0, 1 - below - equivalent)
        chances = (better, equivalent, below)
        verdicts.append(
            Verdict(outcome, pair.mean, low, high, level, p, float(adjusted), *chances, more, pair)
        )
    return verdicts


def holm(p_values: npt.ArrayLike) -> Floats:
    """Correct p-values for multiple testing by Holm's method.

    Args:
        p_values: The p-values (m,), 0 to 1.

    Returns:
        Corrected p-values (m,). If all hypotheses with corrected values of at most ``alpha`` are rejected,
        the probability of any wrong rejection is at most ``alpha``.

    Raises:
        UsageError: The p-values are not a list of numbers from 0 to 1.

    Examples:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    References:
        S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6 (1979).
    """
    p = np.asarray(p_values, np.float64)
    require(p.ndim == 1, f"p-values must be a list of numbers, got shape {p.shape}")
    wrong = p[~((p >= 0) & (p <= 1))]
    require(not wrong.size, f"p-values must be from 0 to 1, got {wrong[:1]}")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted

"""From paired scores to a verdict: is one activation better than another?

The runs of a comparison lie in cells: a cell is one fold of one split of the rows, and two runs in it differ
in their seed. A difference of two activations is then::

    d = true difference + the data's + the split's (v) + the seed's (e)

What the data at hand have in common cannot be seen in them. C. Nadeau and Y. Bengio estimate its variance
from how much results change with the split: v times test rows / training rows, because training parts
overlap. The seed's part has no such share: who trains once more has new luck. Two seeds in each cell tell
v from e; with one seed all is taken for the split's, which is their corrected resampled t-test as published.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from actlab.errors import UsageError

Floats = npt.NDArray[np.float64]

LEVEL = 0.05  # how often a verdict may be wrong
MOST_SEEDS = 500  # a forecast of more is none
_NODES = 64  # of a quadrature
# The variance of splits is a difference of two estimates, and one below 0 is taken for none. Without a
# quarter more for the data's part, and some belief that the split has a part whatever the estimates are, 95 %
# intervals would have 93 % where that is small, and small p-values would be too small: see the calibration.
_CAUTION, _BELIEF = 1.25, 0.05
_RESAMPLES = 2000
_SMALLEST, _LARGEST = 1e-100, 1e100  # of a difference: squares of others underflow or overflow


@dataclass(frozen=True)
class Evidence:
    """What the paired runs of two activations say of their difference.

    Attributes:
        mean: Mean difference, in units of the score.
        cells: Folds of splits in which both were trained.
        runs: Pairs of runs.
        between: Variance of the means of cells.
        weight: Part of that which is left in the mean: 1 / cells where all have as many runs.
        share: Part of a run's own variance that is left in the mean of a cell, 1 / seeds in it.
        within: Variance between the runs of a cell; NaN where no cell has two.
        spare: Degrees of freedom of ``within``: runs less cells.
        ratio: Test rows / training rows of a run.
        wins: Share of the runs in which the first was better; equal scores are half a win.
        wins_low: Lower end of its 95 % interval.
        wins_high: Upper end.

    Raises:
        UsageError: There are fewer than two cells, or the ratio is not a positive number.
    """

    mean: float
    cells: int
    runs: int
    between: float
    weight: float
    share: float
    within: float
    spare: int
    ratio: float
    wins: float = math.nan
    wins_low: float = math.nan
    wins_high: float = math.nan

    def __post_init__(self) -> None:
        _require_cells(self.cells)
        _require(
            1e-9 <= self.ratio <= 1e9,
            f"ratio must be test samples / training samples, from 1e-9 to 1e9, got {self.ratio}",
        )

    @functools.cached_property
    def posterior(self) -> Posterior:
        """What is to be believed of the true difference."""
        cells = self.cells - 1
        if not self.spare:
            scale = math.sqrt(self.between * (self.weight + self.ratio))
            return Posterior(self.mean, cells, np.array([scale]), np.ones(1))
        # Both variances are sums of squares over a chi-square. The share that the first has in the sum of
        # both chi-squares is independent of the sum: given the share, the difference follows Student's t.
        portions, weights = _beta(cells / 2, self.spare / 2)
        between = cells * self.between / portions
        within = self.spare * self.within / (1 - portions)
        split = np.maximum(between - self.share * within, 0)
        some = weights * (split > 0)
        if total := some.sum():
            weights = (1 - _BELIEF) * weights + _BELIEF * some / total
        of_data = _CAUTION * self.ratio * split
        scales = np.sqrt((between * self.weight + of_data) / (cells + self.spare))
        return Posterior(self.mean, cells + self.spare, scales, weights)

    @property
    def parts(self) -> tuple[float, float]:
        """The variances of the split and of the seed; each is half where they are not told apart."""
        if not self.spare:
            return self.between / 2, self.between / 2
        return max(self.between - self.share * self.within, 0.0), self.within

    def forecast(self, threshold: float, region: float, level: float) -> int | None:
        """Say how many seeds would decide, if nothing but their number changed.

        Args:
            threshold: The p-value at which a difference counts.
            region: Half the width of the region of practical equivalence.
            level: The probability of an error that is allowed in an equivalence.

        Returns:
            The number of seeds in all; None if no number up to 500 would do.
        """
        split, own = self.parts
        folds = round(1 / self.ratio) + 1

        def decides(seeds: int) -> bool:
            cells = max(2, folds * seeds // 2)
            later = Evidence(
                self.mean, cells, 2 * cells, split + own / 2, 1 / cells, 0.5, own, cells, self.ratio
            ).posterior
            return later.p_value <= threshold or later.within(region) >= 1 - level

        if not decides(MOST_SEEDS):
            return None
        low, high = 0, MOST_SEEDS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if decides(middle) else (middle, high)
        return high


@dataclass(frozen=True)
class Posterior:
    """A mixture of Student's t distributions about one mean.

    Attributes:
        mean: Where all of them lie.
        df: Degrees of freedom of all of them.
        scales: Their scales (n,).
        weights: Their weights (n,), which add up to 1.
    """

    mean: float
    df: int
    scales: Floats
    weights: Floats

    def below(self, value: float) -> float:
        """Return the probability that the true difference is less than a value, or half of it if equal."""
        return self._below_mean_plus(value - self.mean)

    def _below_mean_plus(self, distance: float) -> float:
        # The distance itself: a mean far larger than the scales would round it away in a sum.
        with np.errstate(divide="ignore", invalid="ignore"):
            t = distance / self.scales
        t = np.where(np.isnan(t), 0.0, t)  # no variance, and exactly there
        return float(self.weights @ special.stdtr(float(self.df), t))

    def within(self, region: float) -> float:
        """Return the probability that the true difference is at most ``region`` in either direction."""
        if not self.scales.any():  # certain, also of the ends
            return float(abs(self.mean) <= region)
        return max(0.0, self.below(region) - self.below(-region))

    @property
    def p_value(self) -> float:
        """The two-sided p-value of no difference."""
        return min(1.0, 2 * self._below_mean_plus(-abs(self.mean))) if self.mean else 1.0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the ends of the interval that misses the true difference with probability ``level``."""
        _require_level(level)
        widest = float(self.scales.max())
        if not widest:
            return self.mean, self.mean
        far = -special.stdtrit(float(self.df), level / 2)
        # In units of the widest scale, for the tolerance of the search is absolute.
        half = widest * optimize.brentq(
            lambda t: self._below_mean_plus(-t * widest) - level / 2, 0.0, far * 1.001
        )
        return self.mean - half, self.mean + half


def evidence(
    differences: npt.ArrayLike,
    cells: npt.ArrayLike,
    ratio: float,
    *,
    step: float = 0.0,
    resample: bool = True,
) -> Evidence:
    """Sum paired differences up.

    Args:
        differences: Score of one activation less that of the other (n,), run by run: finite, 0 or from 1e-100
            to 1e100 in absolute value.
        cells: The cell that each is from (n,), any labels; at least two different ones.
        ratio: Test rows / training rows; 1 / (k - 1) in k-fold cross-validation.
        step: The least by which a score can change, 1 / test rows of an accuracy: differences that are
            equal because nothing finer can be seen do not count as without variance.
        resample: Whether the interval of ``wins`` is wanted, which takes some milliseconds.

    Returns:
        The evidence.

    Raises:
        UsageError: A value cannot be used, or there are fewer than two cells: nothing then tells how much a
            difference varies.
    """
    d, labels = np.asarray(differences, np.float64), np.asarray(cells)
    _require(
        d.ndim == 1 and labels.shape == d.shape,
        f"differences and cells must be two lists of one length, got shapes {d.shape} and {labels.shape}",
    )
    wrong = d[~np.isfinite(d)]
    _require(not wrong.size, f"differences must be finite, got {wrong[:1]}; leave out what failed")
    largest = float(np.abs(d).max(initial=0))
    _require(
        not largest or _SMALLEST <= largest <= _LARGEST,
        f"the largest difference must be 0 or from {_SMALLEST:g} to {_LARGEST:g} in absolute value, "
        f"got {largest:g}; rescale the scores",
    )
    _require(0 <= step < math.inf, f"step must be a finite number >= 0, got {step}; 0 if it is not known")
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    _require_cells(len(counts))
    means = np.bincount(places, d) / counts
    share, spare = float(np.mean(1 / counts)), len(d) - len(counts)
    least = step * step / 6 if d.any() else 0.0  # two scores, each rounded to a step: step^2 / 12 twice
    between = max(float(means.var(ddof=1)), share * least)
    within = max(float(np.square(d - means[places]).sum() / spare), least) if spare else math.nan
    wins = (1 + np.sign(d)) / 2
    low, high = (
        _wins_interval(np.bincount(places, wins).astype(np.float64), counts)
        if resample
        else (math.nan, math.nan)
    )
    return Evidence(
        float(d.mean()),
        len(counts),
        len(d),
        between,
        float(np.square(counts / len(d)).sum()),
        share,
        within,
        spare,
        ratio,
        float(wins.mean()),
        low,
        high,
    )


def _wins_interval(wins: Floats, counts: npt.NDArray[Any]) -> tuple[float, float]:
    """Resample cells, for the runs of one are not independent; the ends are percentiles."""
    found = stats.bootstrap(
        (wins, counts),
        lambda wins, counts, axis: wins.sum(axis) / counts.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


@functools.lru_cache(maxsize=256)
def _beta(a: float, b: float) -> tuple[Floats, Floats]:
    """Return nodes in (0, 1) and weights of Gauss's quadrature over the distribution Beta(a, b).

    By G. Golub and J. Welsch: the eigenvalues of the matrix of the recurrence of Jacobi's polynomials.
    scipy.special.roots_jacobi overflows where a or b is above about a thousand.
    """
    n, total = np.arange(1.0, _NODES), a + b
    edge = 2 * n + total - 2
    middle = np.append(a / total, (1 + (a - b) * (total - 2) / (edge * (edge + 2))) / 2)
    beside = n * (n + a - 1) * (n + b - 1) / edge**2 / (edge + 1)
    beside[1:] *= (n + total - 2)[1:] / (edge - 1)[1:]  # the first has 1, and 0 / 0 where a + b = 1
    nodes, vectors = np.linalg.eigh(np.diag(middle) + np.diag(np.sqrt(beside), -1))
    return nodes, np.square(vectors[0])


def _require(right: bool, message: str) -> None:
    if not right:
        raise UsageError(message)


def _require_cells(cells: int) -> None:
    why = "the variance of a difference is unknown; train at least two folds"
    _require(cells >= 2, f"a test needs at least two cells, got {cells}: {why}")


def _require_level(level: float) -> None:
    _require(0 < level < 1, f"level must be a probability between 0 and 1, got {level}")


@dataclass(frozen=True)
class Verdict:
    """What is known of a pair.

    Attributes:
        word: ``"better"``, ``"worse"`` or ``"equivalent"``: the first of the pair is that, beside the second;
            ``"undecided"``.
        difference: Mean difference, in units of the score.
        low: Lower end of the interval of the difference.
        high: Upper end.
        level: The probability with which the interval misses, and of an error among all verdicts of a look.
        p_value: Of no difference, two-sided.
        p_holm: The same, adjusted for all pairs that were judged together.
        better: Probability that the first is better by more than the region.
        equivalent: Probability that the difference is within the region.
        worse: Probability that it is worse by more.
        more_seeds: About how many seeds more would decide; None if no number would, or it is decided.
        evidence: What it was read from.
    """

    word: str
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
    evidence: Evidence


def judge(pairs: Sequence[Evidence], region: float, level: float = LEVEL) -> list[Verdict]:
    """Say of each pair whether the first is better, worse, equivalent, or whether that is undecided.

    Better and worse: the p-value, adjusted by :func:`holm` for the pairs given, is at most ``level``.
    Equivalent: the difference is within the region with probability 1 - ``level``; this word comes first,
    for a difference may be certain and too small to matter.

    Args:
        pairs: What is known of each pair.
        region: Half the width of the region of practical equivalence, in units of the score.
        level: The probability of an error that is allowed.

    Returns:
        A verdict for each, in their order.

    Raises:
        UsageError: The region is not a number of at least 0, or the level is not between 0 and 1.

    References:
        C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning 52 (2003).

        A. Benavoli, G. Corani, J. Demsar, M. Zaffalon, "Time for a change: a tutorial for comparing multiple
        classifiers through Bayesian analysis", JMLR 18 (2017).

        X. Bouthillier et al., "Accounting for variance in machine learning benchmarks", MLSys 3 (2021).
    """
    _require_level(level)
    _require(region >= 0 or not pairs, f"region must be a number >= 0, got {region}: half its width")
    p_values = [pair.posterior.p_value for pair in pairs]
    found = []
    for pair, p, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        equivalent = pair.posterior.within(region)
        below = min(pair.posterior.below(-region), 1 - equivalent)  # not both, at the end of the region
        if equivalent >= 1 - level:
            word = "equivalent"
        elif adjusted <= level:
            word = "better" if pair.mean > 0 else "worse"
        else:
            word = "undecided"
        more = None
        if word == "undecided":
            seeds = pair.forecast(level / len(pairs), region, level)
            more = seeds and max(1, seeds - round(pair.runs * pair.ratio / (1 + pair.ratio)))
        low, high = pair.posterior.interval(level)
        better = max(0.0, 1 - below - equivalent)
        chances = (better, equivalent, below)
        found.append(Verdict(word, pair.mean, low, high, level, p, float(adjusted), *chances, more, pair))
    return found


def holm(p_values: npt.ArrayLike) -> Floats:
    """Adjust p-values for having been computed together.

    Args:
        p_values: The p-values (m,), 0 to 1.

    Returns:
        Adjusted p-values (m,): those at most ``alpha`` are the hypotheses that are rejected, with at most
        the probability ``alpha`` of one wrong rejection among all.

    Raises:
        UsageError: They are not a list of numbers from 0 to 1.

    Examples:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    References:
        S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6 (1979).
    """
    p = np.asarray(p_values, np.float64)
    _require(p.ndim == 1, f"p-values must be a list of numbers, got shape {p.shape}")
    wrong = p[~((p >= 0) & (p <= 1))]
    _require(not wrong.size, f"p-values must be from 0 to 1, got {wrong[:1]}")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted

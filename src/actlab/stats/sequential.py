"""Group sequential testing: add seeds for undecided pairs, and control the error rate over all analyses."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
from scipy import optimize, stats

from actlab.errors import UsageError
from actlab.stats.posterior import LEVEL
from actlab.stats.verdict import Verdict

Pair = tuple[str, str]
# Seeds at the interim analyses. Two seeds share their folds, so a round has whole pairs of them. Each round
# doubles the seeds: what four seeds have not decided, two more hardly will.
ANALYSES = (2, 4, 8, 16, 32)
_SURE = 3  # analyses before the test trusts a forecast that no number of seeds would decide
_POINTS = 401  # of a numerical integral
_WIDEST = 12.0  # standard deviations beyond which the density is negligible


class SequentialTest:
    """A group sequential test of all pairs of activations.

    :attr:`remaining` lists the activations that need more seeds, and :meth:`record_analysis` takes the
    verdicts after these seeds. The test ends when every pair of remaining activations is decided. All interim
    analyses have the same level, chosen so that the overall error rate is 5 %. A decided pair stays decided.
    An activation is dropped if it is worse than another, has failed, or is in no undecided pair.

    Args:
        names: The activations.

    Attributes:
        level: The probability of an error at each analysis.
        verdicts: The verdict on every pair when it was decided, or else the latest one; None where no test is
            possible.
        decided: The number of seeds after which each pair was decided.
        dropped: The activations that were dropped, and why.
        remaining: The activations that need more seeds.
        analyses: The number of analyses so far.
        seeds: The number of seeds at the latest analysis.
        stop_reason: Why the test has ended; empty while it continues.

    Raises:
        UsageError: There are fewer than two activations, or two are the same.

    Examples:
        >>> test = SequentialTest(["relu", "tanh"])
        >>> test.next_seeds, test.remaining
        (2, ['relu', 'tanh'])
        >>> test.stop("the budget is spent")
        >>> test.stop_reason
        'the budget is spent'
    """

    def __init__(self, names: Sequence[str]) -> None:
        if len(names) < 2:
            raise UsageError(
                f"a sequential test needs at least two activations, got {len(names)}: "
                f"there are no pairs to decide"
            )
        if len(set(names)) < len(names):
            raise UsageError(f"a sequential test needs different activations, got {', '.join(names)}")
        self.verdicts: dict[Pair, Verdict | None] = dict.fromkeys(combinations(names, 2))
        self.level = compute_analysis_level(len(self.verdicts))
        self.decided: dict[Pair, int] = {}
        self.dropped: dict[str, str] = {}
        self.remaining = list(names)
        self.analyses, self.seeds, self.stop_reason = 0, 0, ""

    @property
    def next_seeds(self) -> int:
        """Return the number of seeds at the next analysis."""
        return ANALYSES[self.analyses]

    def stop(self, reason: str) -> None:
        """End the test before its next analysis."""
        self.stop_reason = reason

    def record_analysis(self, verdicts: Mapping[Pair, Verdict | None], failures: Mapping[str, str]) -> None:
        """Record the verdicts of an analysis.

        Args:
            verdicts: The verdict on every pair at :attr:`level` after :attr:`next_seeds` seeds; None if one
                of the two has failed.
            failures: The activations that have failed, and how.
        """
        self.seeds = self.next_seeds
        self.analyses += 1
        for pair, verdict in verdicts.items():
            if pair in self.decided:
                continue
            self.verdicts[pair] = verdict
            if verdict and verdict.outcome != "undecided":
                self.decided[pair] = self.seeds
        self.dropped.update(failures)
        for (a, b), verdict in self.verdicts.items():
            if verdict and verdict.outcome in ("better", "worse"):
                loser, winner = (a, b) if verdict.outcome == "worse" else (b, a)
                self.dropped.setdefault(loser, f"worse than {winner} after {self.seeds} seeds")
        undecided = [p for p in self.verdicts if p not in self.decided and not self.dropped.keys() & set(p)]
        self.remaining = [name for name in self.remaining if any(name in pair for pair in undecided)]
        if not undecided:
            self.stop_reason = (
                "all pairs are decided" if self.decided else "fewer than two activations are left"
            )
        elif self.analyses >= _SURE and not any((v := self.verdicts[p]) and v.more_seeds for p in undecided):
            self.stop_reason = "more seeds would not decide the remaining pairs"
        elif self.analyses == len(ANALYSES):
            self.stop_reason = f"the maximum of {ANALYSES[-1]} seeds is reached"


@functools.cache
def compute_analysis_level(pairs: int) -> float:
    """Return the level of each analysis that makes the overall error rate 5 %.

    The level is the same at every analysis, as in Pocock's design. Each analysis adds only new seeds, so the
    sum of the differences is a random walk. The probability that it ever leaves its bounds is an integral
    over its steps. If analyses share other effects, such as that of the dataset, their errors coincide more
    often, which lowers this probability.

    Args:
        pairs: The number of pairs at each analysis. :func:`actlab.stats.holm` tests the first of them at the
            level divided by this number.

    Returns:
        The level of an analysis.

    Examples:
        >>> [round(compute_analysis_level(pairs), 4) for pairs in (1, 3, 45)]
        [0.013, 0.0121, 0.011]

    References:
        P. Armitage, C. McPherson, B. Rowe, "Repeated significance tests on accumulating data", Journal of
        the Royal Statistical Society A 132 (1969).

        S. Pocock, "Group sequential methods in the design and analysis of clinical trials", Biometrika 64
        (1977).
    """
    bound = optimize.brentq(lambda z: compute_crossing_probability(z, ANALYSES) - LEVEL / pairs, 1.0, _WIDEST)
    return 2 * pairs * float(stats.norm.sf(bound))


def compute_crossing_probability(bound: float, steps: Sequence[int]) -> float:
    """Return the probability that a random walk is outside its bounds at one of the analyses.

    Args:
        bound: The bound in standard deviations, 0 or more.
        steps: The number of steps at each analysis; each at least 1 % more than the one before.

    Returns:
        The probability, from 0 to 1; small ones keep their relative precision.
    """
    grid = np.linspace(-min(bound, _WIDEST), min(bound, _WIDEST), _POINTS)
    width = np.full(_POINTS, grid[1] - grid[0])
    width[[0, -1]] /= 2  # the trapezoidal rule
    inside = stats.norm.pdf(grid) * width  # at the first analysis, in its standard deviations
    outside = 2 * stats.norm.sf(bound)
    for before, after in pairwise(steps):
        ratio = after / before
        scale = math.sqrt(ratio - 1)
        # Walks that cross the upper bound at this analysis; as many cross the lower one.
        outside += 2 * stats.norm.sf(bound * math.sqrt(ratio) - grid, scale=scale) @ inside
        density = stats.norm.pdf(grid[:, None] * math.sqrt(ratio) - grid, scale=scale)
        inside = density @ inside * width * math.sqrt(ratio)
    return float(min(outside, 1.0))

"""Racing: train more seeds only for what is undecided, without being misled by looking again and again."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from scipy import optimize, stats

from actlab.errors import UsageError
from actlab.stats.verdict import LEVEL, Verdict

Pair = tuple[str, str]
# Seeds after which the verdicts are looked at. Two share their folds, so a round has whole pairs of them;
# it doubles what there is, for what four seeds have not decided two more hardly will.
LOOKS = (2, 4, 8, 16, 32)
_SURE = 3  # looks before a forecast that no number of seeds would decide is believed
_POINTS = 401  # of a numerical integral
_WIDEST = 12.0  # standard deviations beyond which nothing is left to integrate
_MOST_PAIRS = 10**9

Look = Callable[[Sequence[str], int, float], tuple[Mapping[Pair, Verdict | None], Mapping[str, str]]]
Afford = Callable[[Sequence[str], int], str]
Tell = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Race:
    """How a race went.

    Attributes:
        level: The probability of an error at each look.
        verdicts: Of every pair, as it was when it was decided, else as it was last; None where no test is
            possible.
        decided: After how many seeds each pair was decided.
        out: The activations that left it before its end, and why.
        looks: How many times the verdicts were looked at.
        seeds: Seeds of those that stayed longest.
        ended: Why it ended.
    """

    level: float
    verdicts: dict[Pair, Verdict | None]
    decided: dict[Pair, int]
    out: dict[str, str]
    looks: int
    seeds: int
    ended: str


def race(names: Sequence[str], look: Look, afford: Afford, tell: Tell | None = None) -> Race:
    """Add seeds in rounds until every pair of those that may be the best is decided.

    After each round all pairs are judged, at the level at which all looks together keep to 5 %. A pair that
    is decided stays so. An activation that is worse than another, or has failed, drops out; so does one
    with no undecided pair left.

    Args:
        names: The activations.
        look: Trains those named up to so many seeds; returns a verdict on every pair, at the level given,
            None for a pair of which one has failed, and who has failed, and how.
        afford: Says why those named cannot be trained up to so many seeds; empty when they can.
        tell: Told after each look of the seeds, the pairs that are undecided, and all pairs.

    Returns:
        How it went.

    Raises:
        UsageError: There are fewer than two activations, or one is there twice.
    """
    if len(names) < 2:
        raise UsageError(
            f"a race needs at least two activations, got {len(names)}: there are no pairs to decide"
        )
    if len(set(names)) < len(names):
        raise UsageError(f"a race needs different activations, got {', '.join(names)}")
    verdicts: dict[Pair, Verdict | None] = dict.fromkeys(combinations(names, 2))
    level = look_level(len(verdicts))
    decided: dict[Pair, int] = {}
    out: dict[str, str] = {}
    racing, done, looks, ended = list(names), 0, 0, f"{LOOKS[-1]} seeds are the most"
    for seeds in LOOKS:
        if reason := afford(racing, seeds):
            ended = reason
            break
        done, looks = seeds, looks + 1
        judged, failed = look(racing, seeds, level)
        for pair, verdict in judged.items():
            if pair in decided:
                continue
            verdicts[pair] = verdict
            if verdict and verdict.word != "undecided":
                decided[pair] = seeds
        if tell:
            tell(seeds, len(verdicts) - len(decided), len(verdicts))
        out.update(failed)
        _drop(verdicts, out, seeds)
        open_pairs = [pair for pair in verdicts if pair not in decided and not out.keys() & set(pair)]
        racing = [name for name in names if any(name in pair for pair in open_pairs)]
        if not open_pairs:
            ended = "all is decided" if decided else "no two are left to be compared"
            break
        if looks >= _SURE and not any((v := verdicts[pair]) and v.more_seeds for pair in open_pairs):
            ended = "no number of seeds would decide the rest"
            break
    return Race(level, verdicts, decided, out, looks, done, ended)


def _drop(verdicts: Mapping[Pair, Verdict | None], out: dict[str, str], seeds: int) -> None:
    """Take down who is worse than another."""
    for (one, other), verdict in verdicts.items():
        if verdict and verdict.word in ("better", "worse"):
            loser, winner = (one, other) if verdict.word == "worse" else (other, one)
            out.setdefault(loser, f"worse than {winner} after {seeds} seeds")


@functools.cache
def look_level(pairs: int) -> float:
    """Return the probability of an error that each look may have, so that all of them keep to 5 %.

    The same level at every look, as S. Pocock has it. Between two looks only new seeds come: a difference
    then makes a random walk, and the probability that it ever leaves its bounds is an integral over its
    steps. Where looks have more in common, as the data at hand, they are wrong together, which is less.

    Args:
        pairs: How many are judged at each look; :func:`actlab.stats.holm` gives the first of them its level
            over their number.

    Returns:
        The level of a look.

    Raises:
        UsageError: ``pairs`` is not an integer from 1 to 10^9.

    Examples:
        >>> [round(look_level(pairs), 4) for pairs in (1, 3, 45)]
        [0.013, 0.0121, 0.011]

    References:
        P. Armitage, C. McPherson, B. Rowe, "Repeated significance tests on accumulating data", Journal of
        the Royal Statistical Society A 132 (1969).

        S. Pocock, "Group sequential methods in the design and analysis of clinical trials", Biometrika 64
        (1977).
    """
    if not 1 <= pairs <= _MOST_PAIRS or pairs != int(pairs):
        raise UsageError(f"pairs must be an integer from 1 to {_MOST_PAIRS}, got {pairs}")
    bound = optimize.brentq(lambda z: ever_beyond(z, LOOKS) - LEVEL / pairs, 1.0, _WIDEST)
    return 2 * pairs * float(stats.norm.sf(bound))


def ever_beyond(bound: float, looks: Sequence[int]) -> float:
    """Return the probability that a random walk is beyond so many standard deviations at one of the looks.

    Args:
        bound: How many standard deviations, 0 or more.
        looks: Steps that have been made at each look; each at least 1 % more than the one before.

    Returns:
        The probability, from 0 to 1; small ones keep their relative precision.

    Raises:
        UsageError: The bound is negative or NaN, there are no looks, or they do not grow enough.
    """
    if not bound >= 0:
        raise UsageError(f"bound must be a number >= 0, got {bound}")
    growth = [after / before for before, after in pairwise(looks) if before > 0]
    if not looks or not looks[0] > 0 or len(growth) < len(looks) - 1 or not all(r >= 1.01 for r in growth):
        raise UsageError(f"looks must be positive and grow by at least 1 % each, got {list(looks)}")
    grid = np.linspace(-min(bound, _WIDEST), min(bound, _WIDEST), _POINTS)
    width = np.full(_POINTS, grid[1] - grid[0])
    width[[0, -1]] /= 2  # the trapezoidal rule
    inside = stats.norm.pdf(grid) * width  # at the first look, in its standard deviations
    beyond = 2 * stats.norm.sf(bound)
    for ratio in growth:
        scale = math.sqrt(ratio - 1)
        # Walks that cross the upper bound at this look; as many cross the lower one.
        beyond += 2 * stats.norm.sf(bound * math.sqrt(ratio) - grid, scale=scale) @ inside
        steps = stats.norm.pdf(grid[:, None] * math.sqrt(ratio) - grid, scale=scale)
        inside = steps @ inside * width * math.sqrt(ratio)
    return float(min(beyond, 1.0))

"""Racing: train more seeds only for what is undecided, without being misled by looking again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from actlab.stats import LEVEL, Verdict

Pair = tuple[str, str]
# Seeds after which the verdicts are looked at. Two share their folds, so a round has whole pairs of them;
# it grows, for what four seeds have not decided two more will not.
LOOKS = (2, 4, 6, 8, 12, 16, 24, 32)
# What is wrong at one of the looks is wrong at the first, or at the second, ...: each may have its share.
SHARE = LEVEL / len(LOOKS)
_SURE = 3  # looks before a forecast that no number of seeds would decide is believed

Look = Callable[[Sequence[str], int], tuple[Mapping[Pair, Verdict | None], Mapping[str, str]]]
Afford = Callable[[Sequence[str], int], str]


@dataclass(frozen=True)
class Race:
    """How a race went.

    Attributes:
        verdicts: Of every pair, as it was when it was decided, else as it was last; None where no test is
            possible.
        decided: After how many seeds each pair was decided.
        out: The activations that left it before its end, and why.
        looks: How many times the verdicts were looked at.
        seeds: Seeds of those that stayed longest.
        ended: Why it ended.
    """

    verdicts: dict[Pair, Verdict | None] = field(default_factory=dict)
    decided: dict[Pair, int] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)
    looks: int = 0
    seeds: int = 0
    ended: str = ""


def race(names: Sequence[str], look: Look, afford: Afford) -> Race:
    """Add seeds in rounds until every pair of those that may be the best is decided.

    After each round all pairs are judged, with an error of at most ``SHARE`` among them, so that all looks
    together keep to ``LEVEL``. A pair that is decided stays so. An activation that is worse than another,
    or has failed, drops out; so does one with no undecided pair left.

    Args:
        names: The activations.
        look: Trains those named up to so many seeds; returns a verdict on every pair, with an error of
            ``SHARE``, None for a pair of which one has failed, and who has failed, and how.
        afford: Says why those named cannot be trained up to so many seeds; empty when they can.

    Returns:
        How it went.
    """
    verdicts: dict[Pair, Verdict | None] = dict.fromkeys(combinations(names, 2))
    decided: dict[Pair, int] = {}
    out: dict[str, str] = {}
    racing, done, looks, ended = list(names), 0, 0, f"{LOOKS[-1]} seeds are the most"
    for seeds in LOOKS:
        if reason := afford(racing, seeds):
            ended = reason
            break
        done, looks = seeds, looks + 1
        judged, failed = look(racing, seeds)
        for pair, verdict in judged.items():
            if pair in decided:
                continue
            verdicts[pair] = verdict
            if verdict and verdict.word != "undecided":
                decided[pair] = seeds
        out.update(failed)
        _drop(verdicts, out, seeds)
        open_pairs = [pair for pair in verdicts if pair not in decided and not out.keys() & set(pair)]
        racing = [name for name in names if any(name in pair for pair in open_pairs)]
        if not open_pairs:
            ended = "all is decided"
            break
        if looks >= _SURE and not any((v := verdicts[pair]) and v.more_seeds for pair in open_pairs):
            ended = "no number of seeds would decide the rest"
            break
    return Race(verdicts, decided, out, looks, done, ended)


def _drop(verdicts: Mapping[Pair, Verdict | None], out: dict[str, str], seeds: int) -> None:
    """Take down who is worse than another."""
    for (one, other), verdict in verdicts.items():
        if verdict and verdict.word in ("better", "worse"):
            loser, winner = (one, other) if verdict.word == "worse" else (other, one)
            out.setdefault(loser, f"worse than {winner} after {seeds} seeds")

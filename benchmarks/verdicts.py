"""How often a verdict is wrong, and finds what is there: by simulation, beside an ordinary t-test.

``python -m benchmarks.verdicts`` writes docs/calibration.md.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import math
import multiprocessing
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy
from scipy import stats

from actlab.stats.sequential import ANALYSES, SequentialTest, analysis_level
from actlab.stats.verdict import LEVEL, Verdict, holm, judge, summarize_differences

Floats = npt.NDArray[np.float64]

PAGE = Path(__file__).parent.parent / "docs" / "calibration.md"
_ROWS, _FEATURES, _HIDDEN = 240, 6, 12  # of what small learners learn


@dataclass(frozen=True)
class Case:
    """What is simulated.

    Args:
        folds: Parts that the rows are split into.
        split: Share of the variance of a difference that the split of the rows has; the rest is the seed's.
        seeds: How many there are; 0 for a race.
        effects: True means of the activations, in standard deviations of a difference of two runs.
        learners: Whether small networks are trained instead of drawing scores from the model.
    """

    folds: int
    split: float
    seeds: int
    effects: tuple[float, ...]
    learners: bool = False


@dataclass
class Tally:
    """What came out.

    Attributes:
        comparisons: How many were simulated.
        wrong: Comparisons with a wrong "better" or "worse".
        pairs: Pairs in them.
        covered: Pairs whose interval has the true difference.
        real: Pairs that truly differ.
        found: Of these, those that were found.
        seeds: Seeds trained, over all activations.
        naive: Comparisons in which an ordinary paired t-test, with Holm's correction, is wrong.
    """

    comparisons: int = 0
    wrong: int = 0
    pairs: int = 0
    covered: int = 0
    real: int = 0
    found: int = 0
    seeds: float = 0.0
    naive: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def modelled(case: Case, rng: np.random.Generator, splits: int) -> Floats:
    """Draw scores (activations, splits, folds, 2 seeds).

    The data's own part has the variance that Nadeau and Bengio's estimate assumes: that of splits times test
    rows / training rows.
    """
    count, half = len(case.effects), 0.5  # a difference has the variance of two scores
    split, own = case.split * half, (1 - case.split) * half
    data = rng.normal(0, math.sqrt(split / (case.folds - 1)), (count, 1, 1, 1))
    cells = rng.normal(0, math.sqrt(split), (count, splits, case.folds, 1))
    runs = rng.normal(0, math.sqrt(own), (count, splits, case.folds, 2))
    return np.asarray(case.effects)[:, None, None, None] + data + cells + runs


def learned(case: Case, rng: np.random.Generator, splits: int) -> Floats:
    """Train small networks; return their accuracies (activations, splits, folds, 2 seeds).

    Each activation sees features of its own of the same rows, drawn from one distribution: none is better,
    but on the rows at hand each has its luck. A network has one random hidden layer (the seed's part) and a
    least-squares output.
    """
    count = len(case.effects)
    y = np.where(np.arange(_ROWS) % 2, 1.0, -1.0)
    X = rng.normal(size=(count, _ROWS, _FEATURES)) + 0.35 * y[:, None]
    found = np.empty((count, splits, case.folds, 2))
    for split in range(splits):
        parts = np.array_split(rng.permutation(_ROWS), case.folds)
        for fold, test in enumerate(parts):
            train = np.setdiff1d(np.arange(_ROWS), test)
            weights = rng.normal(size=(count, 2, _FEATURES + 1, _HIDDEN)) / math.sqrt(_FEATURES)
            hidden = np.tanh(X[:, None] @ weights[:, :, 1:] + weights[:, :, :1])
            learnt = hidden[:, :, train]
            gram = learnt.mT @ learnt + np.eye(_HIDDEN)
            output = np.linalg.solve(gram, learnt.mT @ y[train, None])
            found[:, split, fold] = ((hidden[:, :, test] @ output)[..., 0] * y[test] > 0).mean(-1)
    return found


def simulate(case: Case, count: int, start: int) -> Tally:
    """Simulate a number of comparisons, with random numbers from ``start``."""
    rng, tally = np.random.default_rng([start, *map(int, repr(case).encode())]), Tally()
    for _ in range(count):
        splits = max(1, (case.seeds or ANALYSES[-1]) // 2)
        scores = (learned if case.learners else modelled)(case, rng, splits)
        pairs = list(combinations(range(len(case.effects)), 2))
        true = [0.0 if case.learners else case.effects[a] - case.effects[b] for a, b in pairs]
        verdicts, seeds = (_fixed if case.seeds else _raced)(case, scores, pairs)
        tally += _counted(verdicts, true)
        tally.seeds += seeds
        tally.naive += _naive(case, scores, pairs, true)
    return tally


def _differences(case: Case, scores: Floats, pair: tuple[int, int], seeds: int) -> tuple[Floats, Floats]:
    d = scores[pair[0]] - scores[pair[1]]
    if seeds == 1:
        return d[0, :, 0], np.arange(case.folds)
    d = d[: seeds // 2].reshape(-1)
    return d, np.repeat(np.arange(len(d) // 2), 2)


def _judged(
    case: Case, scores: Floats, pairs: Sequence[tuple[int, int]], seeds: Sequence[int], level: float
) -> list[Verdict]:
    step = case.folds / _ROWS if case.learners else 0.0
    known = [
        summarize_differences(
            *_differences(case, scores, pair, n), 1 / (case.folds - 1), step=step, resample=False
        )
        for pair, n in zip(pairs, seeds, strict=True)
    ]
    return judge(known, 0.0, level)


def _fixed(case: Case, scores: Floats, pairs: list[tuple[int, int]]) -> tuple[list[Verdict], float]:
    return _judged(case, scores, pairs, [case.seeds] * len(pairs), LEVEL), case.seeds


def _raced(case: Case, scores: Floats, pairs: list[tuple[int, int]]) -> tuple[list[Verdict], float]:
    names = [str(place) for place in range(len(scores))]
    have = dict.fromkeys(names, 0)
    test = SequentialTest(names)
    while not test.ended:
        have.update(dict.fromkeys(test.remaining, test.next_seeds))
        common = [min(have[names[a]], have[names[b]]) for a, b in pairs]
        judged = _judged(case, scores, pairs, common, test.level)
        test.update({(names[a], names[b]): v for (a, b), v in zip(pairs, judged, strict=True)}, {})
    verdicts = [test.verdicts[names[a], names[b]] for a, b in pairs]
    return [v for v in verdicts if v], sum(have.values()) / len(names)


def _counted(verdicts: Sequence[Verdict], true: Sequence[float]) -> Tally:
    tally, wrong = Tally(comparisons=1), False
    for verdict, difference in zip(verdicts, true, strict=True):
        sign = {"better": 1, "worse": -1}.get(verdict.outcome, 0)
        wrong |= bool(sign) and sign != np.sign(difference)
        tally.pairs += 1
        tally.covered += verdict.low <= difference <= verdict.high
        tally.real += difference != 0
        tally.found += difference != 0 and sign == np.sign(difference)
    tally.wrong = int(wrong)
    return tally


def _naive(case: Case, scores: Floats, pairs: list[tuple[int, int]], true: Sequence[float]) -> bool:
    """Whether an ordinary paired t-test of all runs is wrong; with interim analyses, at any of them."""
    for seeds in [case.seeds] if case.seeds else ANALYSES:
        tests = [_differences(case, scores, pair, seeds)[0] for pair in pairs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # differences that are all alike
            p_values = holm([float(np.nan_to_num(stats.ttest_1samp(d, 0).pvalue, nan=1.0)) for d in tests])
        if any(
            p <= LEVEL and np.sign(d.mean()) != np.sign(t)
            for p, d, t in zip(p_values, tests, true, strict=True)
        ):
            return True
    return False


def simulated(cases: Iterable[Case], count: int, jobs: int) -> list[tuple[Case, Tally]]:
    """Simulate every case, on several processes."""
    cases, pieces = list(cases), 8
    work = [(case, count // pieces, piece) for case in cases for piece in range(pieces)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        found = pool.starmap(simulate, work, chunksize=1)
    each = [found[place * pieces : (place + 1) * pieces] for place in range(len(cases))]
    return [
        (case, functools.reduce(Tally.__add__, tallies)) for case, tallies in zip(cases, each, strict=True)
    ]


_NULL = (0.0, 0.0, 0.0)
_FIXED = [
    Case(folds, split, seeds, _NULL)
    for folds in (3, 10)
    for split in (0.1, 0.3, 1.0)
    for seeds in (1, 2, 4, 10)
]
_RACES = [Case(folds, split, 0, _NULL) for folds in (3, 10) for split in (0.1, 0.3, 1.0)]
_POWER = [
    Case(folds, split, seeds, (effect, 0.0))
    for folds in (3, 10)
    for split in (0.1, 0.3)
    for effect in (1.0, 2.0)
    for seeds in (1, 2, 4, 10, 0)
]
_LEARNERS = [
    Case(folds, math.nan, seeds, _NULL, learners=True) for folds in (3, 10) for seeds in (1, 4, 10, 0)
]


def _null_row(case: Case, tally: Tally) -> str:
    design = (
        f"{case.seeds}" if case.seeds else f"sequential, {tally.seeds / tally.comparisons:.1f} on average"
    )
    split = "" if case.learners else f" {case.split:g} |"
    share = [tally.wrong / tally.comparisons, tally.covered / tally.pairs, tally.naive / tally.comparisons]
    covered = f"{share[1]:.1%}" if case.seeds else "-"
    return f"| {case.folds} |{split} {design} | {share[0]:.1%} | {covered} | {share[2]:.1%} |"


def _power_rows(found: Sequence[tuple[Case, Tally]]) -> list[str]:
    rows: dict[tuple[int, float, float], list[str]] = {}
    for case, tally in found:
        cell = f"{tally.found / tally.real:.0%}"
        if not case.seeds:
            cell += f" ({tally.seeds / tally.comparisons:.1f})"
        rows.setdefault((case.folds, case.split, case.effects[0]), []).append(cell)
    return [f"| {f} | {s:g} | {e:g} | {' | '.join(cells)} |" for (f, s, e), cells in rows.items()]


def page(count: int, jobs: int) -> str:
    """Simulate everything; return the page."""
    begun = time.perf_counter()
    nulls = simulated([*_FIXED, *_RACES], count, jobs)
    learners = simulated(_LEARNERS, count, jobs)
    power = simulated(_POWER, count, jobs)
    taken = (time.perf_counter() - begun) / 60
    versions = f"NumPy {np.__version__}, SciPy {scipy.__version__}"
    return _PAGE.format(
        date=datetime.date.today().isoformat(),
        versions=versions,
        minutes=taken,
        count=count,
        looks=", ".join(map(str, ANALYSES)),
        share=100 * analysis_level(3),
        null="\n".join(_null_row(*each) for each in nulls),
        learners="\n".join(_null_row(*each) for each in learners),
        power="\n".join(_power_rows(power)),
        error=100 * 1.96 * math.sqrt(0.05 * 0.95 / count),
    )


_PAGE = """# How often a verdict is wrong

Simulated on {date} with {versions}, {count} comparisons per row ({minutes:.0f} minutes on two cores),
by

<!-- not run: ten minutes -->
```sh
python -m benchmarks.verdicts
```

A share near 5 % is accurate to {error:.1f} percentage points. The simulation calls the functions of
actlab that compute verdicts, `actlab.stats.judge` and `actlab.stats.SequentialTest`, with random scores.

## Without a difference

Three activations with equal means, three pairs, Holm's correction. A comparison is wrong if one of its
verdicts is "better" or "worse". The region of practical equivalence is empty, so no sequential
comparison ends early. A sequential comparison has interim analyses after {looks} seeds, each at a level of
{share:.3g} % for three pairs. *Share of the split*: the share of the variance of a difference that comes
from the split of the samples; the rest comes from the seed. *t-test*: the ordinary paired t-test over all
runs with the same correction; in a sequential comparison, at 5 % in any of the interim analyses.

| folds | share of the split | seeds | wrong verdicts | 95 % interval covers the truth | t-test wrong |
|--:|--:|--:|--:|--:|--:|
{null}

The simulated dataset has a variance of its own, as large as Nadeau and Bengio assume: the variance of
the split times test samples / training samples. With one seed, the test attributes all variance to the
split. This is conservative if the variance comes from the seed.

## Without a difference, with real training

These simulations use no model of the variance. Small networks with a random hidden layer learn two
classes with 3 or 10 folds of 240 samples, drawn for each comparison. The three "activations" are three
sets of equally good features. None is better on new data, but each may suit the samples by chance.

| folds | seeds | wrong verdicts | 95 % interval covers the truth | t-test wrong |
|--:|--:|--:|--:|--:|
{learners}

## With a difference

Two activations differ by the given number of standard deviations of the difference of two runs. The
table shows how often the difference is found. The mean number of seeds of sequential comparisons is in
parentheses.

| folds | share of the split | difference | 1 seed | 2 seeds | 4 seeds | 10 seeds | sequential |
|--:|--:|--:|--:|--:|--:|--:|--:|
{power}

More seeds reduce only the variance of the seed. They cannot average out variance that comes from the
dataset itself. If the split has a large share, more folds or more data help, and the verdict recommends
them.
"""


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="comparisons a row")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page that is written")
    arguments = parser.parse_args()
    arguments.out.write_text(page(arguments.count, arguments.jobs), encoding="utf-8")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()

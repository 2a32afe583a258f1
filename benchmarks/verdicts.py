"""Simulate how often verdicts are wrong and how often they find a difference, compared with a t-test.

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

from actlab.stats.posterior import LEVEL
from actlab.stats.sequential import ANALYSES, SequentialTest, compute_analysis_level
from actlab.stats.verdict import Verdict, holm, judge_summaries, summarize_differences

Floats = npt.NDArray[np.float64]

PAGE = Path(__file__).parent.parent / "docs" / "calibration.md"
FIXED_SECTION = "## With a fixed test set"  # which benchmarks.fixed_test writes
NULL_SECTION = "## With real training, tuned"  # the last section, which benchmarks.null_comparisons writes
_ROWS, _FEATURES, _HIDDEN = 240, 6, 12  # sizes for the small networks


@dataclass(frozen=True)
class Case:
    """A simulated comparison.

    Args:
        folds: Number of folds.
        split: Share of the split in the variance of a difference; the rest comes from the seed.
        seeds: Number of seeds; 0 for a sequential comparison.
        effects: True means of the activations, in standard deviations of a difference of two runs.
        learners: Whether to train small networks instead of drawing scores from the model.
    """

    folds: int
    split: float
    seeds: int
    effects: tuple[float, ...]
    learners: bool = False


@dataclass
class Tally:
    """Counts of simulated comparisons.

    Attributes:
        comparisons: Number of comparisons.
        wrong: Comparisons with a wrong "better" or "worse".
        pairs: Pairs of activations in all comparisons.
        covered: Pairs whose interval contains the true difference.
        real: Pairs that truly differ.
        found: Pairs with a real difference and a correct verdict.
        seeds: Mean number of seeds per activation, summed over comparisons.
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


def draw_scores(case: Case, rng: np.random.Generator, splits: int) -> Floats:
    """Draw scores (activations, splits, folds, 2 seeds).

    The variance of the dataset is the one that Nadeau and Bengio's estimate assumes: the variance of the
    split times test samples / training samples.
    """
    count, half = len(case.effects), 0.5  # a difference has the variance of two scores
    split, own = case.split * half, (1 - case.split) * half
    data = rng.normal(0, math.sqrt(split / (case.folds - 1)), (count, 1, 1, 1))
    cells = rng.normal(0, math.sqrt(split), (count, splits, case.folds, 1))
    runs = rng.normal(0, math.sqrt(own), (count, splits, case.folds, 2))
    return np.asarray(case.effects)[:, None, None, None] + data + cells + runs


def train_scores(case: Case, rng: np.random.Generator, splits: int) -> Floats:
    """Train small networks; return their accuracies (activations, splits, folds, 2 seeds).

    Each activation has its own features of the same samples, drawn from one distribution. None is better, but
    each can fit the given samples by chance. A network has one random hidden layer, which depends on the
    seed, and a least-squares output.
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
            hidden_train = hidden[:, :, train]
            gram = hidden_train.mT @ hidden_train + np.eye(_HIDDEN)
            output = np.linalg.solve(gram, hidden_train.mT @ y[train, None])
            found[:, split, fold] = ((hidden[:, :, test] @ output)[..., 0] * y[test] > 0).mean(-1)
    return found


def simulate(case: Case, count: int, start: int) -> Tally:
    """Simulate a number of comparisons, with random numbers from ``start``."""
    rng, tally = np.random.default_rng([start, *map(int, repr(case).encode())]), Tally()
    for _ in range(count):
        splits = max(1, (case.seeds or ANALYSES[-1]) // 2)
        scores = (train_scores if case.learners else draw_scores)(case, rng, splits)
        pairs = list(combinations(range(len(case.effects)), 2))
        true = [0.0 if case.learners else case.effects[a] - case.effects[b] for a, b in pairs]
        verdicts, seeds = (_judge_fixed if case.seeds else _judge_sequential)(case, scores, pairs)
        tally += _count(verdicts, true)
        tally.seeds += seeds
        tally.naive += _is_t_test_wrong(case, scores, pairs, true)
    return tally


def _differences(case: Case, scores: Floats, pair: tuple[int, int], seeds: int) -> tuple[Floats, Floats]:
    d = scores[pair[0]] - scores[pair[1]]
    if seeds == 1:
        return d[0, :, 0], np.arange(case.folds)
    d = d[: seeds // 2].reshape(-1)
    return d, np.repeat(np.arange(len(d) // 2), 2)


def _judge(
    case: Case, scores: Floats, pairs: Sequence[tuple[int, int]], seeds: Sequence[int], level: float
) -> list[Verdict]:
    step = case.folds / _ROWS if case.learners else 0.0
    summaries = [
        summarize_differences(
            *_differences(case, scores, pair, n), 1 / (case.folds - 1), step=step, resample=False
        )
        for pair, n in zip(pairs, seeds, strict=True)
    ]
    return judge_summaries(summaries, 0.0, level)


def _judge_fixed(case: Case, scores: Floats, pairs: list[tuple[int, int]]) -> tuple[list[Verdict], float]:
    return _judge(case, scores, pairs, [case.seeds] * len(pairs), LEVEL), case.seeds


def _judge_sequential(
    case: Case, scores: Floats, pairs: list[tuple[int, int]]
) -> tuple[list[Verdict], float]:
    names = [str(index) for index in range(len(scores))]
    seeds_of = dict.fromkeys(names, 0)
    test = SequentialTest(names)
    while not test.stop_reason:
        seeds_of.update(dict.fromkeys(test.remaining, test.next_seeds))
        common = [min(seeds_of[names[a]], seeds_of[names[b]]) for a, b in pairs]
        judged = _judge(case, scores, pairs, common, test.level)
        test.record_analysis({(names[a], names[b]): v for (a, b), v in zip(pairs, judged, strict=True)}, {})
    verdicts = [test.verdicts[names[a], names[b]] for a, b in pairs]
    return [v for v in verdicts if v], sum(seeds_of.values()) / len(names)


def _count(verdicts: Sequence[Verdict], true: Sequence[float]) -> Tally:
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


def _is_t_test_wrong(case: Case, scores: Floats, pairs: list[tuple[int, int]], true: Sequence[float]) -> bool:
    """Return whether an ordinary paired t-test of all runs is wrong, in any of the interim analyses."""
    for seeds in [case.seeds] if case.seeds else ANALYSES:
        tests = [_differences(case, scores, pair, seeds)[0] for pair in pairs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all differences are equal
            p_values = holm([float(np.nan_to_num(stats.ttest_1samp(d, 0).pvalue, nan=1.0)) for d in tests])
        if any(
            p <= LEVEL and np.sign(d.mean()) != np.sign(t)
            for p, d, t in zip(p_values, tests, true, strict=True)
        ):
            return True
    return False


def simulate_all(cases: Iterable[Case], count: int, jobs: int) -> list[tuple[Case, Tally]]:
    """Simulate every case in several processes."""
    cases, chunks = list(cases), 8
    work = [(case, count // chunks, chunk) for case in cases for chunk in range(chunks)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        found = pool.starmap(simulate, work, chunksize=1)
    each = [found[index * chunks : (index + 1) * chunks] for index in range(len(cases))]
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
_SEQUENTIAL = [Case(folds, split, 0, _NULL) for folds in (3, 10) for split in (0.1, 0.3, 1.0)]
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
    """Run all simulations, and return the page."""
    start = time.perf_counter()
    nulls = simulate_all([*_FIXED, *_SEQUENTIAL], count, jobs)
    learners = simulate_all(_LEARNERS, count, jobs)
    power = simulate_all(_POWER, count, jobs)
    taken = (time.perf_counter() - start) / 60
    versions = f"NumPy {np.__version__} and SciPy {scipy.__version__}"
    return _PAGE.format(
        date=datetime.date.today().isoformat(),
        versions=versions,
        minutes=taken,
        count=count,
        analyses=f"{', '.join(map(str, ANALYSES[:-1]))} and {ANALYSES[-1]}",
        share=100 * compute_analysis_level(3),
        null="\n".join(_null_row(*each) for each in nulls),
        learners="\n".join(_null_row(*each) for each in learners),
        power="\n".join(_power_rows(power)),
        error=100 * 1.96 * math.sqrt(0.05 * 0.95 / count),
    )


_PAGE = """# How often a verdict is wrong

This command simulated {count} comparisons per row on {date}, with {versions}, in {minutes:.0f} minutes
on two cores:

<!-- not run: ten minutes -->
```sh
python -m benchmarks.verdicts
```

Percentages near 5 % in the tables are accurate to within {error:.1f} percentage points. The simulation passes
random scores to the functions of actlab that compute verdicts, `actlab.stats.judge_summaries` and
`actlab.stats.SequentialTest`.

## Without a difference

Each simulated comparison has three activations with equal means, and therefore three pairs, with Holm's
correction. A comparison is wrong if one of its verdicts is "better" or "worse". The region of practical
equivalence is empty, so no pair is judged equivalent. A sequential comparison has interim analyses after
{analyses} seeds, each at a significance level of {share:.3g} % for three pairs. *Share of the split* is the
share of the variance of a difference that comes from the split of the samples; the rest comes from the seed.
*t-test* is the ordinary paired t-test over all runs with the same correction. In a sequential comparison, the
t-test is wrong if any interim analysis is significant at 5 %.

| folds | share of the split | seeds | wrong verdicts | 95 % interval covers the truth | t-test wrong |
|--:|--:|--:|--:|--:|--:|
{null}

The dataset has an effect too, which neither folds nor seeds can average out. Its variance is the one that
[Nadeau and Bengio](verdicts.md#the-statistics) assume: the variance of the split times the ratio of test
samples to training samples. With one seed, the test attributes all variance to the split. This is
conservative if the variance comes from the seed.

## Without a difference, with real training

These simulations do not assume a model of the variance. Small networks with a random hidden layer learn two
classes from 240 samples, which are drawn for each comparison and split into 3 or 10 folds. The three
"activations" are three sets of equally good features. None is better on new data, but each
may suit the samples by chance.

| folds | seeds | wrong verdicts | 95 % interval covers the truth | t-test wrong |
|--:|--:|--:|--:|--:|
{learners}

## With a difference

*Difference* is the true difference of two activations, in standard deviations of the difference between two
runs. The table shows how often the difference is found. The mean number of seeds of sequential comparisons is
in parentheses.

| folds | share of the split | difference | 1 seed | 2 seeds | 4 seeds | 10 seeds | sequential |
|--:|--:|--:|--:|--:|--:|--:|--:|
{power}

More seeds reduce only the variance that comes from the seed. They cannot average out variance that comes from
the dataset itself. If the share of the split is large, more folds or more data help, and the verdict
recommends them.
"""


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="comparisons per row")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    parser.add_argument("--out", type=Path, default=PAGE, help="path of the page to write")
    arguments = parser.parse_args()
    _, heading, section = PAGE.read_text(encoding="utf-8").partition(FIXED_SECTION)
    text = page(arguments.count, arguments.jobs)
    arguments.out.write_text(f"{text}\n{heading}{section}" if heading else text, encoding="utf-8")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()

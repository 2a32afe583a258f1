"""Simulate tables of runs, and count wrong verdicts and intervals that miss.

Run ``python -m benchmarks.judging``; it writes docs/benchmarks/judge.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actlab.judging.power import POWER, count_runs
from actlab.stats import compare_over_datasets, summarize_differences, summarize_fixed_test
from actlab.stats.anytime import AnytimeSummary
from actlab.stats.posterior import LEVEL, Floats, Summary
from actlab.stats.unpaired import summarize_unpaired
from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "judge.md"
REPEATS, LOOKS = 4000, 50
Generator = np.random.Generator
Simulation = Callable[[Generator], Summary]

TEXT = """\
# Verdicts of judge, simulated

{machine}. Written by `python -m benchmarks.judging`. Each row summarizes {repeats:,} simulated tables of two
methods without a true difference. *Wrong* is the share of tables with a verdict *better* or *worse* at 5 %;
*coverage* is the share of 95 % intervals that contain 0. Shares near 5 % are accurate to within {error:.1f}
percentage points. The [calibration of compare](../calibration.md) has more cases for folds and fixed test
sets.

## One analysis

{once}

The corrected test assumes that folds are correlated because their training sets overlap. If they were
independent, its intervals would be too wide. Welch's intervals are slightly too narrow if one method has few
runs and the other has many.

## An analysis after every run

Both methods get one more run at a time, up to {looks} analyses. *Wrong at any* is the share of tables with a
wrong verdict in one analysis or more.

{sequential}

## Several datasets

Each table has three methods without a true difference; *wrong* is the share of tables with a verdict on any
pair, after Holm's correction. Wilcoxon's test is exact: with few datasets, its possible p-values are far
apart, and its error rate is below 5 %.

{datasets}

## Power

`--power` plans the number of runs for a probability of {power:.0%}. *Found* is the share of simulated tables
of that size in which the difference is found.

{planned}
"""


def normal(rng: Generator, size: int | tuple[int, ...], spread: float = 1.0) -> Floats:
    return rng.normal(scale=spread, size=size)


def paired(runs: int) -> Simulation:
    return lambda rng: summarize_fixed_test(normal(rng, runs), resample=False)


def skewed(runs: int) -> Simulation:
    """Two methods with the same skewed distribution."""
    return lambda rng: summarize_fixed_test(
        rng.exponential(size=runs) - rng.exponential(size=runs), resample=False
    )


def unpaired(counts: tuple[int, int], spread: float = 1.0) -> Simulation:
    return lambda rng: summarize_unpaired(
        normal(rng, counts[0]), normal(rng, counts[1], spread), resample=False
    )


def folds(num_folds: int, repeats: int, shared: float) -> Simulation:
    """Folds whose differences have a share of their variance in common, as the training sets have."""

    def simulate(rng: Generator) -> Summary:
        cells = num_folds * repeats
        common = math.sqrt(shared) * rng.normal()
        differences = common + math.sqrt(1 - shared) * normal(rng, cells)
        return summarize_differences(differences, range(cells), 1 / (num_folds - 1), resample=False)

    return simulate


def crossed(seeds: int, samples: int) -> Simulation:
    def simulate(rng: Generator) -> Summary:
        of_seeds, of_samples = normal(rng, (seeds, 1), 0.02), normal(rng, (1, samples), 0.3)
        return summarize_fixed_test(
            of_seeds + of_samples + normal(rng, (seeds, samples), 0.3), resample=False
        )

    return simulate


ONCE: dict[str, Simulation] = {
    "3 seeds, paired": paired(3),
    "5 seeds, paired": paired(5),
    "10 seeds, paired": paired(10),
    "5 seeds, paired, skewed scores": skewed(5),
    "3 and 3 runs, not paired": unpaired((3, 3)),
    "5 and 5 runs, not paired": unpaired((5, 5)),
    "3 and 10 runs, not paired": unpaired((3, 10)),
    "5 and 5 runs, not paired, spreads 1 and 3": unpaired((5, 5), 3.0),
    "3 and 10 runs, not paired, spreads 1 and 3": unpaired((3, 10), 3.0),
    "10 folds, independent": folds(10, 1, 0.0),
    "10 folds, correlation 0.1": folds(10, 1, 0.1),
    "10 times 10 folds, correlation 0.1": folds(10, 10, 0.1),
    "5 seeds on 200 test samples": crossed(5, 200),
    "3 seeds on 1000 test samples": crossed(3, 1000),
}


def count_once(simulate: Simulation) -> tuple[float, float]:
    """Return the share of wrong verdicts, and the coverage of the intervals."""
    rng = np.random.default_rng(0)
    wrong = covered = 0
    for _ in range(REPEATS):
        posterior = simulate(rng).posterior  # type: ignore[attr-defined]
        wrong += posterior.p_value <= LEVEL
        low, high = posterior.interval()
        covered += low <= 0 <= high
    return wrong / REPEATS, covered / REPEATS


def count_looks(is_paired: bool, sequential: bool) -> float:
    """Return the share of tables with a wrong verdict in any analysis."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(REPEATS):
        a, b = normal(rng, LOOKS + 1), normal(rng, LOOKS + 1)
        for runs in range(2, LOOKS + 2):
            if is_paired:
                summary: Summary = summarize_fixed_test(a[:runs] - b[:runs], resample=False)
            else:
                summary = summarize_unpaired(a[:runs], b[:runs], resample=False)
            judged: Any = AnytimeSummary(summary) if sequential else summary
            if judged.posterior.p_value <= LEVEL:
                wrong += 1
                break
    return wrong / REPEATS


def count_datasets(datasets: int, repeats: int = REPEATS // 4) -> float:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(repeats):
        scores = pd.DataFrame(normal(rng, (datasets, 3)), columns=list("abc"))
        wrong += bool((compare_over_datasets(scores).verdicts["verdict"] != "undecided").any())
    return wrong / repeats


def count_found(effect: float, is_paired: bool) -> tuple[int, float]:
    """Return the planned number of runs, and the share of tables in which the difference is found."""
    runs = count_runs(effect, not is_paired, LEVEL)
    assert runs is not None
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(REPEATS):
        a, b = normal(rng, runs) + effect, normal(rng, runs)
        summary: Summary = (
            summarize_fixed_test(a, resample=False) if is_paired else summarize_unpaired(a, b, resample=False)
        )
        found += summary.posterior.p_value <= LEVEL  # type: ignore[attr-defined]
    return runs, found / REPEATS


def table(heads: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])


def main() -> None:
    once = []
    for name, simulate in ONCE.items():
        wrong, coverage = count_once(simulate)
        once.append([name, f"{wrong:.1%}", f"{coverage:.1%}"])
        print(once[-1], flush=True)
    looks = []
    for name, is_paired in (("paired", True), ("not paired", False)):
        shares = [count_looks(is_paired, sequential) for sequential in (True, False)]
        looks.append([f"{LOOKS} analyses, {name}", *(f"{share:.1%}" for share in shares)])
        print(looks[-1], flush=True)
    datasets = [[f"{n} datasets", f"{count_datasets(n):.1%}"] for n in (8, 15, 30)]
    planned = []
    for is_paired in (True, False):
        for effect in (0.5, 1.0, 2.0):
            runs, found = count_found(effect, is_paired)
            name = f"{effect:g} sd, {'paired' if is_paired else 'not paired'}"
            planned.append([name, str(runs), f"{found:.1%}"])
    page = TEXT.format(
        machine=machine("cpu"),
        repeats=REPEATS,
        looks=LOOKS,
        power=POWER,
        error=200 * math.sqrt(0.05 * 0.95 / REPEATS),
        once=table(["runs", "wrong", "coverage"], once),
        sequential=table(["analyses", "wrong at any, sequential", "without"], looks),
        datasets=table(["datasets", "wrong"], datasets),
        planned=table(["difference", "runs", "found"], planned),
    )
    PAGE.write_text(page, encoding="utf-8")
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()

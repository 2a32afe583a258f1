"""Measure how many verdicts depend on the settings, and the cost and the quality of automatic tuning.

``python -m benchmarks.fair --data-dir MNIST`` writes docs/fair.md. It needs MNIST's files in that folder.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

import actlab
from actlab.stats import DifferenceSummary, judge_summaries, summarize_differences
from actlab.stats.posterior import LEVEL
from benchmarks.measuring import interleaved, machine

Floats = npt.NDArray[np.float64]

PAGE = Path(__file__).parent.parent / "docs" / "fair.md"
BASELINE = "relu"
NEEDS_ARGUMENTS = ("threshold", "dynamic_tanh")
FOLDS, EPOCHS, SCREENING = 3, 25, 2
FAR = 0.01  # below the baseline, in units of the accuracy
RATES = [0.001, 0.003, 0.01, 0.03, 0.1]
GIVEN = (0.01, "torch")
CANDIDATES = [GIVEN, *((lr, init) for lr in RATES for init in ("torch", "matched") if (lr, init) != GIVEN)]
TEN = [
    "relu",
    "tanh",
    "leaky_relu",
    "sigmoid",
    "gelu",
    "selu",
    "softplus",
    "mish",
    "softsign",
    "relu_squared",
]
FIVE = TEN[:5]
SAMPLES = 12_000  # of MNIST
RUNS = ["activation", "split", "fold", "seed"]  # the columns that identify a run
# Each rung is a number of epochs, and how many candidates remain after it.
SCHEDULES: dict[str, list[tuple[int, int]]] = {
    "one rung (2 epochs, keep 2)": [(2, 2)],
    "one rung (3 epochs, keep 1)": [(3, 1)],
    "two rungs (2 epochs, keep 4; 8, keep 1)": [(2, 4), (8, 1)],
    "three rungs (2 epochs, keep 4; 4, keep 2; 8, keep 1)": [(2, 4), (4, 2), (8, 1)],
    "full grid": [],
}


# -- verdicts in four regimes ----------------------------------------------------------------------------


def list_activations() -> list[str]:
    """Return the names of the catalogue that a perceptron can use without arguments."""
    return [
        name
        for name, activation in actlab.catalogue.items()
        if not activation.facts.gated and name not in NEEDS_ARGUMENTS
    ]


def compare_regimes(names: Sequence[str], seeds: int, jobs: int) -> dict[str, actlab.Comparison]:
    """Compare activations on digits with and without tuning; return the comparisons by regime."""
    data, options = actlab.load_data("digits"), {"seeds": seeds, "jobs": jobs, "diagnostics": False}
    both = actlab.compare(names, data, tune="auto", verbose=1, **options)
    assert both.as_given is not None
    return {
        "as given": both.as_given,
        "matched": actlab.compare(names, data, tune=None, init="matched", verbose=1, **options),
        "rate tuned": actlab.compare(names, data, tune={"lr": RATES}, verbose=1, **options),
        "both tuned": both,
    }


def judge_against(results: pd.DataFrame, baseline: str, region: float, step: float) -> dict[str, str]:
    """Judge every activation against one of them, with Holm's correction for these pairs only.

    Args:
        results: The results of a comparison.
        baseline: The activation to compare with.
        region: Half the width of the region of practical equivalence.
        step: The smallest possible change of a score.

    Returns:
        The outcome for each other activation: ``better``, ``worse``, ``equivalent``, ``undecided``, or
        ``none`` if a run has failed.
    """
    summaries = summarize_pairs(results, baseline, step)
    verdicts = dict(zip(summaries, judge_summaries(list(summaries.values()), region), strict=True))
    names = [name for name in dict.fromkeys(results["activation"]) if name != baseline]
    return {name: verdicts[name].outcome if name in verdicts else "none" for name in names}


def summarize_pairs(results: pd.DataFrame, baseline: str, step: float) -> dict[str, DifferenceSummary]:
    """Summarize the differences of every other activation without a failed run from one of them."""
    scores = results.pivot(index=["split", "fold", "seed"], columns="activation", values="score")
    cells = scores.index.droplevel("seed").map(str)
    ratio = 1 / (results["fold"].nunique() - 1)
    return {
        name: summarize_differences(scores[name] - scores[baseline], cells, ratio, step=step, resample=False)
        for name in dict.fromkeys(results["activation"])
        if name != baseline and scores[name].notna().all()
    }


def count_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """Count the pairs of different outcomes before and after."""
    return Counter((before[name], after[name]) for name in before if before[name] != after[name])


def find_usual_choice(tuning: pd.DataFrame, name: str) -> str:
    """Return the settings that most runs of an activation chose, and the number of these runs."""
    chosen = tuning[tuning["chosen"] & (tuning["activation"] == name)]
    counts = chosen.groupby(["lr", "init"]).size().sort_values(ascending=False, kind="stable")
    lr, init = counts.index[0]
    return f"{lr:g}, {init} ({counts.iloc[0]} of {len(chosen)})"


# -- cost and quality of tuning --------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Runs that were trained to the end with every candidate, the settings as given first.

    Attributes:
        runs: The labels of the runs (n).
        valid: Validation accuracy and minus the validation loss (n, candidates, epochs, 2); minus infinity
            after a run has diverged.
        test: Test accuracy (n, candidates).
    """

    runs: pd.MultiIndex
    valid: Floats
    test: Floats


def train_grid(names: Sequence[str], data: actlab.Dataset, seeds: int, jobs: int) -> Grid:
    """Train every candidate of every run to the end."""
    valid, test = [], []
    runs = pd.MultiIndex.from_arrays([[]])
    for lr, init in CANDIDATES:
        comparison = actlab.compare(
            names, data, tune=None, lr=lr, init=init, seeds=seeds, jobs=jobs, diagnostics=False, verbose=1
        )
        results = comparison.results.set_index(RUNS)
        runs = pd.MultiIndex.from_tuples(results.index, names=RUNS)
        history = comparison.history.set_index([*RUNS, "epoch"])
        columns = [history["valid_acc"], -history["valid_loss"]]
        tables = [
            column.unstack("epoch").reindex(index=runs, columns=range(1, EPOCHS + 1)) for column in columns
        ]
        scores = np.stack([table.to_numpy(np.float64) for table in tables], axis=-1)
        scores[~np.isfinite(scores).all(-1)] = -np.inf
        valid.append(scores)
        test.append(results["score"].to_numpy(np.float64))
    return Grid(runs, np.stack(valid, axis=1), np.stack(test, axis=1))


def choose_candidate(valid: Floats, rungs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Choose the candidate of a run by successive halving.

    The settings as given, candidate 0, and the candidates that remain after the last rung are trained to the
    end. Every stage starts with new networks, as in actlab.

    Args:
        valid: Validation scores (candidates, epochs, 2), compared by the first, then by the second.
        rungs: For each rung, the number of epochs and how many candidates remain.

    Returns:
        The candidate with the best score at the end, and the number of epochs trained.
    """
    last = valid.shape[1]
    remaining, trained = list(range(len(valid))), last
    for epochs, keep in rungs:
        trained += epochs * sum(candidate > 0 for candidate in remaining)
        ranked = sorted(remaining, key=lambda candidate: tuple(valid[candidate, epochs - 1]), reverse=True)
        remaining = sorted(ranked[:keep])
    trained += last * sum(candidate > 0 for candidate in remaining)
    return max(sorted({0, *remaining}), key=lambda candidate: tuple(valid[candidate, -1])), trained


def count_epochs(tuning: pd.DataFrame) -> int:
    """Return the epochs of an automatic tuning; a completed candidate has also been screened."""
    given = (tuning["lr"] == GIVEN[0]) & (tuning["init"] == GIVEN[1])
    completed = ~given & (tuning["epochs"] > SCREENING)
    return int(tuning["epochs"].sum()) + SCREENING * int(completed.sum())


@dataclass(frozen=True)
class Quality:
    """The scores of some ways to choose the settings, on one dataset.

    Attributes:
        scores: Test accuracy of each run, one column per way.
        epochs: The epochs of each way, relative to the runs with the settings as given.
    """

    scores: pd.DataFrame
    epochs: dict[str, float]


def measure_quality(names: Sequence[str], data: actlab.Dataset, seeds: int, jobs: int) -> Quality:
    """Compare automatic tuning with the full grid and with other schedules."""
    grid = train_grid(names, data, seeds, jobs)
    auto = actlab.compare(names, data, seeds=seeds, jobs=jobs, diagnostics=False, verbose=1)
    scores = {
        "as given": grid.test[:, 0],
        "automatic": auto.results.set_index(RUNS)["score"].reindex(grid.runs).to_numpy(),
    }
    count = len(grid.runs)
    epochs = {"as given": 1.0, "automatic": count_epochs(auto.tuning) / (count * EPOCHS)}
    for label, rungs in SCHEDULES.items():
        choices = [choose_candidate(valid, rungs) for valid in grid.valid]
        scores[label] = grid.test[np.arange(count), [chosen for chosen, _ in choices]]
        epochs[label] = sum(trained for _, trained in choices) / (count * EPOCHS)
    return Quality(pd.DataFrame(scores, index=grid.runs), epochs)


def measure_seconds(names: Sequence[str], data: actlab.Dataset, seeds: int, repeats: int) -> dict[str, float]:
    """Measure the seconds of comparisons in one process."""
    tunings: dict[str, Any] = {
        "as given": None,
        "automatic": "auto",
        "full grid": {"lr": RATES, "init": ["torch", "matched"]},
    }
    calls = {
        label: lambda tune=tune: actlab.compare(names, data, seeds=seeds, tune=tune, jobs=1)
        for label, tune in tunings.items()
    }
    return interleaved(calls, repeats)


def load_part_of_mnist(folder: str) -> actlab.Dataset:
    """Return random samples of MNIST."""
    data = actlab.load_data("mnist", folder)
    kept = np.random.default_rng(0).permutation(len(data.y))[:SAMPLES]
    return actlab.load_data((data.X[kept], data.y[kept]), scale="common")


# -- the page --------------------------------------------------------------------------------------------


def find_step() -> float:
    """Return the smallest possible change of a score on digits."""
    return FOLDS / len(actlab.load_data("digits").y)


def judge_regimes(regimes: Mapping[str, actlab.Comparison]) -> dict[str, dict[str, str]]:
    """Return the outcomes against the baseline by regime and activation."""
    return {
        label: judge_against(comparison.results, BASELINE, comparison.about["region"], find_step())
        for label, comparison in regimes.items()
    }


def format_regimes(
    regimes: Mapping[str, actlab.Comparison], outcomes: Mapping[str, Mapping[str, str]]
) -> str:
    """Return the table of activations and regimes, the best activation first."""
    both = regimes["both tuned"]
    means = {label: one.ranking.set_index("activation")["mean"] for label, one in regimes.items()}
    lines = [
        f"| | {' | '.join(regimes)} | most frequent choice |",
        f"|---|{'---|' * (len(regimes) + 1)}",
    ]
    for name in means["both tuned"].sort_values(ascending=False, kind="stable").index:
        cells = [_format_score(means[label][name], outcomes[label].get(name, "")) for label in regimes]
        lines.append(f"| {name} | {' | '.join(cells)} | {find_usual_choice(both.tuning, name)} |")
    return "\n".join(lines)


def _format_score(mean: float, outcome: str) -> str:
    if outcome == "none":
        return "diverged"
    return f"{mean:.4f}" if outcome in ("", "undecided") else f"{mean:.4f} {outcome}"


def format_outcomes(outcomes: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table of the number of verdicts by regime."""
    kinds = ["better", "equivalent", "undecided", "worse", "none"]
    lines = [f"| regime | {' | '.join(kinds)} |", f"|---|{'--:|' * len(kinds)}"]
    for label, each in outcomes.items():
        counts = Counter(each.values())
        lines.append(f"| {label} | {' | '.join(str(counts[kind]) for kind in kinds)} |")
    return "\n".join(lines)


def format_schedules(quality: Quality) -> str:
    """Return the table of the ways to choose the settings."""
    lines = [
        "| way to choose | mean accuracy | minus full grid, pp (95 % interval) | epochs |",
        "|---|--:|--:|--:|",
    ]
    for label, epochs in quality.epochs.items():
        low, mean, high = measure_difference(quality.scores, label, "full grid")
        difference = "" if label == "full grid" else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append(f"| {label} | {quality.scores[label].mean():.4f} | {difference} | {epochs:.2f} |")
    return "\n".join(lines)


def measure_difference(scores: pd.DataFrame, a: str, b: str) -> tuple[float, float, float]:
    """Return low end, mean and high end of the difference of two columns, in percentage points.

    The scores are first averaged over the activations, because they share splits and seeds.
    """
    means = (scores[a] - scores[b]).groupby(["split", "fold", "seed"]).mean()
    cells = means.index.droplevel("seed").map(str)
    summary = summarize_differences(means, cells, 1 / (FOLDS - 1), resample=False)
    low, high = summary.posterior.interval()
    return 100 * low, 100 * summary.mean, 100 * high


def format_activations(quality: Quality) -> str:
    """Return the table of the scores of each activation."""
    means = quality.scores.groupby("activation", sort=False)[["as given", "automatic", "full grid"]].mean()
    lines = [
        "| | as given | automatic | full grid | automatic minus full grid, pp |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in means.iterrows():
        difference = 100 * (row["automatic"] - row["full grid"])
        lines.append(f"| {name} | {' | '.join(f'{mean:.4f}' for mean in row)} | {difference:+.2f} |")
    return "\n".join(lines)


def format_seconds(seconds: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table of the times by dataset."""
    ways = list(next(iter(seconds.values())))
    lines = [f"| | {' | '.join(ways)} |", f"|---|{'--:|' * len(ways)}"]
    for label, each in seconds.items():
        cells = [f"{each[way]:.1f} s ({each[way] / each['as given']:.1f})" for way in ways]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


_PAGE = """# Fair comparisons

{answer}

<!-- not run: half an hour -->
```sh
python -m benchmarks.fair --data-dir MNIST
```

This command measured everything on this page ({machine}; comparisons in two processes, times in one).

## How many verdicts depend on the settings

Each of {count} activations was compared with ReLU in the reference perceptron on scikit-learn's digits, with
25 epochs, three folds, four seeds, and Holm's correction for the {pairs} pairs with ReLU. Gated units are
omitted because they need another network, and `threshold` and `dynamic_tanh` because they need arguments.
There are four regimes:

- **as given**: learning rate 0.01, PyTorch's initial weights;
- **matched**: the same rate, initial weights scaled for the activation (`--init matched`);
- **rate tuned**: the best of five learning rates, PyTorch's initial weights;
- **both tuned**: the default of `actlab compare`.

{outcomes}

A pair has no verdict ("none") if a run has diverged. The table shows the mean accuracy of each activation,
and its verdict against ReLU unless the pair is undecided:

{regimes}

{differences}

These results hold for one dataset and one small network. On digits, nearly all tuned activations score
between 0.95 and 0.97, and these comparisons cannot distinguish them. Sine stays at chance level with every
setting that was tried.

## What tuning costs, and how good its choices are

The full grid trains all ten candidates to the end. *Automatic* is the default of `actlab compare`: it trains
all candidates for two epochs (one rung), and the two best to the end. If the best rate is at the edge of the
grid, it tries rates beyond the grid. The other rows are computed from the histories of the full grid. They
show successive halving with one or more rungs: after each rung, only the best candidates are kept. *Epochs*
is the number of epochs trained, relative to the settings as given. The intervals are computed as for a
verdict.

Digits, ten activations, 12 runs each:

{digits}

{samples} random samples of MNIST, five activations, 6 runs each:

{mnist}

Two or three rungs found no better settings than one. These tables show the scores by activation, for digits
and MNIST:

{digits_by_activation}

{mnist_by_activation}

{largest}

The next table shows how long a comparison of five activations takes in one process, with the ratio to the
settings as given. For digits, it is the median of three comparisons with two seeds; for MNIST, one comparison
with one seed.

{seconds}

With fewer than ten epochs, tuning costs more than four times as much, because every candidate trains for
at least one epoch.
"""


def describe_answer(outcomes: Mapping[str, Mapping[str, str]]) -> str:
    """Return the answer of the page in a sentence."""
    before, after = outcomes["as given"], outcomes["both tuned"]
    changes = sum(count_changes(before, after).values())
    worse = [name for name, outcome in before.items() if outcome == "worse"]
    due = [name for name in worse if after[name] != "worse"]
    return (
        f"Tuning changes {changes} of {len(before)} verdicts against ReLU on digits. With the settings as "
        f"given, {len(worse)} activations are worse than ReLU. For {len(due)} of them ({', '.join(due)}), "
        "the verdict\ndepends on the settings: with their own learning rate and initialization, they are not "
        "significantly worse."
    )


def describe_differences(regimes: Mapping[str, actlab.Comparison], step: float) -> str:
    """Return sentences on the size and the significance of the differences that the verdicts hide."""
    before, after = (
        summarize_pairs(regimes[label].results, BASELINE, step) for label in ("as given", "both tuned")
    )
    far = [[name for name, pair in pairs.items() if pair.mean < -FAR] for pairs in (before, after)]
    significant = [
        sum(pair.posterior.p_value <= LEVEL for pair in pairs.values()) for pairs in (before, after)
    ]
    ends = [pair.posterior.interval() for pair in after.values()]
    half = float(np.median([50 * (high - low) for low, high in ends]))
    means = [regimes[label].ranking.set_index("activation")["mean"][BASELINE] for label in regimes]
    gain, level = 100 * (means[-1] - means[0]), f"{LEVEL:g}"
    lines = [
        f"*Undecided* does not mean equal: the 95 % interval of a tuned difference extends {half:.1f} pp",
        f"to each side (median). ReLU itself gains {gain:.2f} pp by tuning.",
        "",
        f"- As given, {len(far[0])} activations are more than {100 * FAR:g} pp below ReLU:",
        f"  {', '.join(far[0])}.",
        f"- When tuned, {len(far[1])} are: {', '.join(far[1])}.",
        f"- Without Holm's correction, p is at most {level} for {significant[0]} activations as given, and",
        f"  for {significant[1]} when tuned. By chance, {LEVEL * len(after):.0f} are expected.",
    ]
    return "\n".join(lines)


def describe_largest_difference(qualities: Sequence[Quality]) -> str:
    """Return a sentence on the activation whose tuned score differs most from that of the full grid."""
    differences = pd.concat(
        (quality.scores["automatic"] - quality.scores["full grid"]).groupby("activation").mean()
        for quality in qualities
    )
    largest = differences.abs().to_numpy().argmax()
    name, difference = differences.index[largest], 100 * differences.iloc[largest]
    return f"The largest difference in both tables is {difference:+.2f} pp ({name})."


def format_page(
    regimes: Mapping[str, actlab.Comparison],
    digits: Quality,
    mnist: Quality,
    seconds: Mapping[str, Mapping[str, float]],
) -> str:
    """Return the page."""
    outcomes = judge_regimes(regimes)
    count = len(outcomes["as given"])
    return _PAGE.format(
        answer=describe_answer(outcomes),
        machine=machine("cpu"),
        count=count,
        pairs=count,
        outcomes=format_outcomes(outcomes),
        regimes=format_regimes(regimes, outcomes),
        differences=describe_differences(regimes, find_step()),
        largest=describe_largest_difference([digits, mnist]),
        digits=format_schedules(digits),
        samples=f"{SAMPLES:,}",
        mnist=format_schedules(mnist),
        digits_by_activation=format_activations(digits),
        mnist_by_activation=format_activations(mnist),
        seconds=format_seconds(seconds),
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True, help="folder with MNIST's files")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=PAGE, help="path of the page to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    digits, mnist = actlab.load_data("digits"), load_part_of_mnist(arguments.data_dir)
    page = format_page(
        compare_regimes(list_activations(), 4, arguments.jobs),
        measure_quality(TEN, digits, 4, arguments.jobs),
        measure_quality(FIVE, mnist, 2, arguments.jobs),
        {"digits": measure_seconds(FIVE, digits, 2, 3), "MNIST": measure_seconds(FIVE, mnist, 1, 1)},
    )
    arguments.out.write_text(page, encoding="utf-8")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()

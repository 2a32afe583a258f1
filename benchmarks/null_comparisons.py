"""Measure how often verdicts on trained networks are wrong if two activations are equally good.

``python -m benchmarks.null_comparisons`` writes a section of docs/calibration.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runner import Runner
from actlab.comparison.runs import select_best, select_given
from actlab.comparison.tuning import train_planned
from actlab.data import load_data
from actlab.models.networks import ActivationLike, new_activation
from actlab.stats.posterior import LEVEL
from actlab.stats.sequential import SequentialTest
from actlab.stats.verdict import DifferenceSummary, judge_summaries, summarize_differences
from actlab.training.settings import TrainSettings
from benchmarks.measuring import machine
from benchmarks.verdicts import NULL_SECTION, PAGE, Floats

Samples = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Record = Mapping[str, Any]  # the scores of a comparison, as a line of JSON

_FOLDS, _EPOCHS, _SAMPLES, _FEATURES, _UNITS = 3, 10, 240, 8, 16
_PARTS = {"digits": (load_digits, 300), "wine": (load_wine, 120), "cancer": (load_breast_cancer, 240)}
_PAIRS = 5  # comparisons that are trained together
_FIRST = 100  # the first random stream


class NumberedReLU(nn.Module):
    """ReLU. Its number chooses the initial weights of :class:`NumberedNet`.

    Args:
        number: Any number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        """Return the positive parts of ``x``."""
        return torch.relu(x)


class NumberedNet(nn.Module):
    """A perceptron whose initial weights depend on the number of its activation.

    Args:
        activation: A :class:`NumberedReLU`.
        num_features: Number of features.
        num_classes: Number of classes.
    """

    def __init__(self, activation: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        start = int(torch.randint(2**62, ()))  # from the seed of the run
        torch.manual_seed(start + getattr(activation, "number", 0))
        self.layers = nn.Sequential(
            nn.Linear(num_features, _UNITS), activation, nn.Linear(_UNITS, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        return self.layers(x)  # type: ignore[no-any-return]


class InputNet(nn.Module):
    """A perceptron with ReLU, which applies the compared activation to its inputs.

    Args:
        activation: The activation.
        num_features: Number of features.
        num_classes: Number of classes.
    """

    def __init__(self, activation: ActivationLike, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            new_activation(activation),  # type: ignore[arg-type]
            nn.Linear(num_features, _UNITS),
            nn.ReLU(),
            nn.Linear(_UNITS, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        return self.layers(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Case:
    """A kind of comparison without a difference.

    Args:
        title: Its name in the table.
        key: Its name in the scores.
        activations: The activations; two consecutive ones are compared.
        module: The network; None for the reference network.
        data: The samples, for :func:`draw_samples`.
        shared: Whether all activations have the same samples; otherwise every pair has its own.
    """

    title: str
    key: str
    activations: tuple[str, ...]
    module: Any
    data: str
    shared: bool = False


_NUMBERED = tuple(f"{__name__}:NumberedReLU(number={number})" for number in range(2 * _PAIRS))
_SIGNS = ("relu", "formula:relu(-x)")
CASES = [
    *(
        Case(f"initial weights, {data}", f"seed{data}", _NUMBERED, NumberedNet, data, shared=True)
        for data in ("artificial", *_PARTS)
    ),
    Case("sign of hidden units", "signx", _SIGNS, None, "relu teacher"),
    Case("sign of inputs", "signeven", _SIGNS, InputNet, "even teacher"),
]


@dataclass(frozen=True)
class Side:
    """One of two activations that are compared.

    Attributes:
        plan: The plan that trains it.
        runner: Its runner.
        name: Its spec.
    """

    plan: ComparisonPlan
    runner: Runner
    name: str


def draw_samples(data: str, rng: np.random.Generator) -> Samples:
    """Draw samples: a random part of a known dataset, or a new artificial dataset."""
    if data == "artificial":
        seed = int(rng.integers(2**31))
        return make_classification(_SAMPLES, 10, n_informative=5, flip_y=0.05, random_state=seed)  # type: ignore[no-any-return]
    if data in _PARTS:
        load, count = _PARTS[data]
        X, y = load(return_X_y=True)
        rows = rng.choice(len(y), count, replace=False)
        return StandardScaler().fit_transform(X[rows]), y[rows]
    X = rng.normal(size=(_SAMPLES, _FEATURES))
    if data == "even teacher":
        signal = np.abs(X) @ rng.normal(size=_FEATURES)
    else:
        signal = np.maximum(X @ rng.normal(size=(_FEATURES, 6)), 0) @ rng.normal(size=6)
        signal += 0.3 * signal.std() * rng.normal(size=_SAMPLES)
    return X, (signal > np.median(signal)).astype(np.int64)


def plan_sides(case: Case, rng: np.random.Generator) -> list[Side]:
    """Plan the activations of a few comparisons on new samples, with new seeds."""
    sizes = {} if case.module else {"hidden": (_UNITS, _UNITS // 2)}
    settings = TrainSettings(epochs=_EPOCHS, batch_size=16, seed=int(rng.integers(2**31)), **sizes)
    sides = []
    for _ in range(1 if case.shared else _PAIRS):
        config = ComparisonConfig(
            activations=case.activations,
            dataset=load_data(draw_samples(case.data, rng), scale="common"),
            settings=settings,
            folds=_FOLDS,
            seeds=2,  # several: the samples are shuffled
            module=case.module,
            jobs=1,
            diagnostics=False,
        )
        plan = ComparisonPlan(config)
        runner = Runner(plan, None, None, 0)
        sides += [Side(plan, runner, name) for name in config.names]
    return sides


def train_sides(sides: Sequence[Side], seeds: range) -> None:
    """Train and tune activations with some seeds."""
    for plan, group in itertools.groupby(sides, lambda side: side.plan):
        members = list(group)
        train_planned(plan, members[0].runner, [side.name for side in members], seeds, {})


def read_scores(side: Side, *, tuned: bool) -> Floats:
    """Return the scores (seeds, folds) of an activation."""
    plan, names = side.plan, [side.name]
    runs = [run for run in side.runner.runs if run.labels.activation == side.name]
    best = (
        select_best(runs, names, plan.candidates) if tuned else select_given(runs, names, plan.candidates[0])
    )
    return np.array([run.score for run in best]).reshape(-1, plan.config.folds)


def train_comparisons(case: Case, number: int, *, sequential: bool) -> list[dict[str, Any]]:
    """Train four seeds of a few comparisons.

    Args:
        case: The kind of comparison.
        number: Chooses the samples and all random numbers.
        sequential: Whether to train more seeds while the sequential test continues.

    Returns:
        For each comparison its ``case``, ``number``, ``sequential`` and score ``step``, and the scores
        (2, seeds, folds) of both activations, ``tuned`` and with the settings as ``given``.
    """
    sides = plan_sides(case, np.random.default_rng([number, *map(ord, case.key)]))
    step = 1 / min(len(test) for _, test in sides[0].plan.make_folds(1))
    pairs = list(zip(sides[::2], sides[1::2], strict=True))
    scores = {}
    remaining, trained = list(range(len(pairs))), 0
    for seeds in (4, 8, 16, 32) if sequential else (4,):
        train_sides([side for index in remaining for side in pairs[index]], range(trained, seeds))
        trained = seeds
        for index in remaining:
            scores[index] = [np.array([read_scores(s, tuned=t) for s in pairs[index]]) for t in (True, False)]
        remaining = [i for i in remaining if not run_sequential_test(scores[i][0], step).stop_reason]
    labels = {"case": case.key, "number": number, "sequential": sequential, "step": step}
    return [{**labels, "tuned": tuned.tolist(), "given": given.tolist()} for tuned, given in scores.values()]


def summarize(scores: Floats, seeds: int, step: float) -> DifferenceSummary:
    """Summarize the differences of the first seeds in scores (2, seeds, folds)."""
    differences = (scores[0] - scores[1])[:seeds]
    folds = differences.shape[1]
    cells = np.arange(seeds)[:, None] // 2 * folds + np.arange(folds)  # two seeds share a split
    return summarize_differences(
        differences.ravel(), cells.ravel(), 1 / (folds - 1), step=step, resample=False
    )


def is_wrong(scores: Floats, seeds: int, step: float) -> bool:
    """Return whether the verdict after a fixed number of seeds is "better" or "worse"."""
    (verdict,) = judge_summaries([summarize(scores, seeds, step)], 0.0, LEVEL)
    return verdict.outcome in ("better", "worse")


def run_sequential_test(scores: Floats, step: float) -> SequentialTest:
    """Return the sequential test of the two activations; it continues if it needs more seeds."""
    test = SequentialTest(["a", "b"])
    if not np.isfinite(scores).all():
        test.stop("a run has failed")
    while not test.stop_reason and test.next_seeds <= scores.shape[1]:
        (verdict,) = judge_summaries([summarize(scores, test.next_seeds, step)], 0.0, test.level)
        test.record_analysis({("a", "b"): verdict}, {})
    return test


def format_rate(wrong: Sequence[bool]) -> str:
    """Return a rate with its exact 95 % interval.

    Examples:
        >>> format_rate([False] * 98 + [True] * 2)
        '2.0 % (0.2 to 7.0)'
    """
    if not wrong:
        return "-"
    interval = stats.binomtest(sum(wrong), len(wrong)).proportion_ci()
    return f"{np.mean(wrong):.1%} ({100 * interval.low:.1f} to {100 * interval.high:.1f})".replace("%", " %")


def format_row(title: str, records: Sequence[Record]) -> str:
    """Return a row of the table."""
    complete = [r for r in records if np.isfinite(r["tuned"]).all() and np.isfinite(r["given"]).all()]
    rates = [
        format_rate([is_wrong(np.array(r[kind]), seeds, r["step"]) for r in complete])
        for kind in ("tuned", "given")
        for seeds in (2, 4)
    ]
    raced = [r for r in complete if r["sequential"]]
    tests = [run_sequential_test(np.array(r["tuned"]), r["step"]) for r in raced]
    sequential = format_rate([v.outcome != "undecided" for t in tests for v in t.verdicts.values() if v])
    if tests:
        sequential += f" of {len(tests)}, {np.mean([test.seeds for test in tests]):.1f} seeds"
    rates.insert(2, sequential)
    return f"| {title} | {len(complete)} | {' | '.join(rates)} |"


def estimate_data_ratio(records: Sequence[Record], kind: str) -> float:
    """Return the variance of the data effect over that of the split, in comparisons without a difference."""
    summaries = [summarize(np.array(r[kind]), 4, r["step"]) for r in records if np.isfinite(r[kind]).all()]
    total = np.mean([np.square(s.mean) for s in summaries])
    own = np.mean([s.within_variance for s in summaries])
    split = np.mean([s.between_variance for s in summaries]) - own / 2
    return float((total - split / summaries[0].cells - own / summaries[0].runs) / split)


def format_section(records: Sequence[Record]) -> str:
    """Return the section of docs/calibration.md."""
    each = {case: [r for r in records if r["case"] == case.key] for case in CASES}
    weights = [r for case, found in each.items() if case.module is NumberedNet for r in found]
    inputs = next(found for case, found in each.items() if case.module is InputNet)
    rows = [format_row(case.title, found) for case, found in each.items()]
    rows.insert(len(_PARTS) + 1, format_row("initial weights, all four", weights))
    return _SECTION.format(
        heading=NULL_SECTION,
        machine=machine("cpu"),
        rows="\n".join(rows),
        epochs=_EPOCHS,
        samples=_SAMPLES,
        tuned=estimate_data_ratio(inputs, "tuned"),
        given=estimate_data_ratio(inputs, "given"),
    )


_SECTION = """{heading}

Here `compare` trains and tunes small networks: the reference network or one hidden layer of 16 units,
{epochs} epochs, three folds, batches of 16 samples. Both activations of a pair are equally good by
construction. Every pair is judged without a correction for other pairs, and the region of practical
equivalence is empty. Measured on
{machine}:

<!-- not run: 40 minutes -->
```sh
python -m benchmarks.null_comparisons
```

The table shows how many verdicts are wrong, with an exact 95 % interval. Some comparisons continue as
sequential tests of up to 32 seeds; the table shows how many, and their mean number of seeds. The columns *as
given* show the same comparisons without tuning.

| pair | comparisons | 2 seeds | 4 seeds | sequential | as given, 2 seeds | as given, 4 seeds |
|---|--:|--:|--:|--:|--:|--:|
{rows}

- *Initial weights*: ReLU under several names. Each name has its own initial weights. Every five comparisons
  use new samples: a random part of digits (300 samples), wine (120) or breast cancer (240), or {samples}
  artificial samples.
- *Sign of hidden units*: relu(x) and relu(-x) in hidden layers. The distribution of initial weights is
  symmetric, so neither is better on any data. Every comparison uses new samples, labeled by a random network.
- *Sign of inputs*: relu(x) and relu(-x) of the inputs. The inputs are normal, and the labels depend on their
  absolute values only, so neither is better on new data. Each may suit the {samples} samples by chance.

In the first two kinds, only the seeds can favour an activation by chance, and far fewer than 5 % of the
verdicts are wrong, tuned or not. In the last kind, the samples can favour one too, and the error rate with
four or more seeds is 5 to 7 %. One reason is that training sets overlap. Nadeau and Bengio's ratio of test
samples to training samples accounts for samples that two splits both test, but not for samples that two
splits both train on. With three folds, the ratio is 0.5, and actlab increases it to 0.625. In these
comparisons, the variance of the data effect was
{tuned:.2f} (tuned) and {given:.2f} (as given) times the variance of the split.
"""


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=250, help="comparisons per row")
    parser.add_argument("--sequential", type=int, default=100, help="comparisons per row with more seeds")
    known = "file of all scores; comparisons in it are not trained again"
    parser.add_argument("--scores", type=Path, default=Path("null_scores.jsonl"), help=known)
    arguments = parser.parse_args()
    lines = arguments.scores.read_text(encoding="utf-8").splitlines() if arguments.scores.exists() else []
    records: list[Record] = [json.loads(line) for line in lines]
    for number, case in itertools.product(range(_FIRST, _FIRST + arguments.count // _PAIRS), CASES):
        if any((r["case"], r["number"]) == (case.key, number) for r in records):
            continue
        sequential = number < _FIRST + arguments.sequential // _PAIRS
        comparisons = train_comparisons(case, number, sequential=sequential)
        records += comparisons
        with arguments.scores.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(each) + "\n" for each in comparisons)
    before = PAGE.read_text(encoding="utf-8").partition(NULL_SECTION)[0]
    PAGE.write_text(before + format_section(records), encoding="utf-8")
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()

"""Simulate how often intervals on a fixed test set contain the true difference.

``python -m benchmarks.fixed_test`` writes a section of docs/calibration.md.
"""

from __future__ import annotations

import argparse
import datetime
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from actlab.stats.fixed_test_set import summarize_fixed_test
from actlab.stats.posterior import LEVEL, Floats, Posterior
from benchmarks.verdicts import FIXED_SECTION, NULL_SECTION, PAGE

Function = Callable[[Floats], Floats]

_FEATURES, _HIDDEN, _TRAINED_ON = 6, 12, 240  # sizes for the small networks
_TESTS = 100  # for one training set
_TRUTH_SEEDS, _TRUTH_SAMPLES = 500, 2000  # that determine the true difference of small networks


@dataclass(frozen=True)
class Case:
    """Two activations on a fixed test set.

    A model is right about a sample if a sum of normal effects is below the threshold of its activation: the
    difficulty of the sample for both activations (standard deviation 1) and for one of them (0.5), the
    ability of the seed, and the rest (0.3).

    Args:
        samples: Number of test samples.
        seeds: Number of seeds.
        ability: Standard deviation of the effect of the seed.
        threshold: Threshold of the first activation; that of the second is 5 % smaller.
    """

    samples: int
    seeds: int
    ability: float
    threshold: float = 1.0

    @property
    def true_difference(self) -> float:
        """The true difference of the accuracies."""
        spread = math.sqrt(1 + 0.5**2 + self.ability**2 + 0.3**2)
        first, second = special.ndtr(np.array([1, 0.95]) * self.threshold / spread)
        return float(first - second)

    def draw_differences(self, rng: np.random.Generator) -> Floats:
        """Draw differences (seeds, samples) of the outcomes."""
        shape = 2, self.seeds, self.samples
        effects = rng.normal(size=self.samples) + 0.5 * rng.normal(size=(2, 1, self.samples))
        effects = effects + self.ability * rng.normal(size=(2, self.seeds, 1)) + 0.3 * rng.normal(size=shape)
        right = effects < np.array([1, 0.95]).reshape(2, 1, 1) * self.threshold
        return right[0].astype(np.float64) - right[1]


@dataclass
class Tally:
    """How many intervals contain the true difference.

    Attributes:
        both: Intervals of actlab, which include seeds and samples.
        seeds: Intervals of a t-test over the seeds.
        samples: Intervals of a paired t-test over the samples, from the first seed.
    """

    both: int = 0
    seeds: int = 0
    samples: int = 0

    def add(self, differences: Floats, true: float) -> None:
        """Add the intervals of differences (S, n)."""
        summary = summarize_fixed_test(differences, step=1 / differences.shape[1], resample=False)
        self.both += _covers(summary.posterior, true)
        self.seeds += _covers(summarize_fixed_test(differences.mean(1), resample=False).posterior, true)
        self.samples += _covers(summarize_fixed_test(differences[:1], resample=False).posterior, true)


def _covers(posterior: Posterior, true: float) -> bool:
    error = Posterior(posterior.mean - true, posterior.df, posterior.scales, posterior.weights)
    return error.p_value > LEVEL


def simulate(case: Case, count: int) -> Tally:
    """Simulate a number of test sets."""
    rng, tally = np.random.default_rng(list(map(int, repr(case).encode()))), Tally()
    for _ in range(count):
        tally.add(case.draw_differences(rng), case.true_difference)
    return tally


class SmallNetworks:
    """Networks with one random hidden layer, trained on one training set for each of two activations.

    Args:
        rng: Draws the training set.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.train = self.draw_samples(_TRAINED_ON)
        truths = [self.draw_differences(1, _TRUTH_SAMPLES).mean() for _ in range(_TRUTH_SEEDS)]
        self.true_difference = float(np.mean(truths))

    def draw_samples(self, count: int) -> tuple[Floats, Floats]:
        """Return features (count, features) and classes (count,), which are -1 or 1."""
        y = self.rng.choice([-1.0, 1.0], count)
        return self.rng.normal(size=(count, _FEATURES)) + 0.35 * y[:, None], y

    def draw_differences(self, seeds: int, samples: int) -> Floats:
        """Train models with new seeds and test them on new samples; return differences (seeds, samples)."""
        X, y = self.draw_samples(samples)
        differences = np.empty((seeds, samples))
        for seed in range(seeds):
            weights = self.rng.normal(size=(_FEATURES + 1, _HIDDEN)) / math.sqrt(_FEATURES)
            first, second = (self._find_right(X, y, weights, f) for f in (np.tanh, _relu))
            differences[seed] = first.astype(np.float64) - second
        return differences

    def _find_right(self, X: Floats, y: Floats, weights: Floats, f: Function) -> npt.NDArray[np.bool_]:
        hidden, test = (f(inputs @ weights[1:] + weights[0]) for inputs in (self.train[0], X))
        output = np.linalg.solve(hidden.T @ hidden + np.eye(_HIDDEN), hidden.T @ self.train[1])
        return (test @ output) * y > 0


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


def simulate_training(seeds: int, samples: int, count: int) -> Tally:
    """Train small networks on several training sets, and draw ``count`` test sets in all."""
    rng, tally, drawn = np.random.default_rng([seeds, samples]), Tally(), 0
    while drawn < count:
        networks = SmallNetworks(rng)
        for _ in range(min(_TESTS, count - drawn)):
            tally.add(networks.draw_differences(seeds, samples), networks.true_difference)
            drawn += 1
    return tally


def format_section(count: int) -> str:
    """Simulate all cases; return the section of the page."""
    cases = [
        Case(samples, seeds, ability)
        for samples in (100, 1000, 10_000)
        for seeds in (2, 3, 5, 10)
        for ability in (0.0, 0.03, 0.1)
    ]
    cases += [Case(samples, 3, 0.03, 2.0) for samples in (100, 1000)]  # few errors
    rows = [
        _format_row(
            [case.samples, case.seeds, case.ability, _name_accuracy(case)], simulate(case, count), count
        )
        for case in cases
    ]
    trained = [
        _format_row([samples, seeds], simulate_training(seeds, samples, count), count)
        for samples in (100, 1000)
        for seeds in (2, 3, 5, 10)
    ]
    return _SECTION.format(
        heading=FIXED_SECTION,
        count=count,
        date=datetime.date.today().isoformat(),
        rows="\n".join(rows),
        trained="\n".join(trained),
        error=100 * 1.96 * math.sqrt(0.05 * 0.95 / count),
    )


def _name_accuracy(case: Case) -> str:
    return f"{special.ndtr(case.threshold / math.sqrt(1.34 + case.ability**2)):.0%}"


def _format_row(labels: list[object], tally: Tally, count: int) -> str:
    shares = [f"{hits / count:.1%}" for hits in vars(tally).values()]
    return f"| {' | '.join(map(str, [*labels, *shares]))} |"


_SECTION = """{heading}

With a [fixed test set](verdicts.md#a-fixed-test-set), the claim is about new seeds and new test samples. The
table shows how many 95 % intervals contain the true difference of two activations, in {count} simulated test
sets per row. Each simulated prediction is right or wrong, depending on the difficulty of the sample (standard
deviation 1), the ability of the model with this seed (standard deviation in the table) and chance. *Only
seeds* are intervals from a t-test over the seeds; *only samples* are intervals from a paired t-test over the
samples with one seed. Percentages near 95 % are accurate to within {error:.1f} percentage points. Simulated
on {date}:

<!-- not run: ten minutes -->
```sh
python -m benchmarks.fixed_test
```

| test samples | seeds | ability | accuracy | actlab | only seeds | only samples |
|--:|--:|--:|--:|--:|--:|--:|
{rows}

With two or three seeds, the intervals are wide on purpose, because so few seeds say little about how much
seeds vary. The intervals are also wide if two activations differ on only a few test samples: an interval is
never narrower than if they differed on two samples.

In the second table, small networks with one random hidden layer learn two classes from 240 samples, with tanh
or ReLU. The true difference is the mean over 500 other seeds, each on 2000 other samples.

| test samples | seeds | actlab | only seeds | only samples |
|--:|--:|--:|--:|--:|
{trained}

"""


def main() -> None:
    """Write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000, help="test sets per row")
    arguments = parser.parse_args()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(FIXED_SECTION)
    if not rest:
        before, _, rest = before.partition(NULL_SECTION)
    after = rest.partition(NULL_SECTION)[2] if NULL_SECTION in rest else rest
    PAGE.write_text(f"{before}{format_section(arguments.count)}{NULL_SECTION}{after}", encoding="utf-8")
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()

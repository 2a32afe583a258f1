"""Measure how often a verdict is wrong if two activations are equally good, with networks that are trained.

``python -m benchmarks.null_comparisons`` writes a section of docs/calibration.md.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runner import Runner
from actlab.comparison.runs import select_best, select_given
from actlab.comparison.tuning import train_planned
from actlab.data.dataset import load_data
from actlab.training.train import TrainSettings

Samples = tuple[npt.NDArray[Any], npt.NDArray[Any]]

_SAMPLES, _FEATURES = 240, 8
_FIXED = (2, 4)  # numbers of seeds without interim analyses


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
        num_units: Width of the hidden layer.
    """

    def __init__(self, activation: nn.Module, num_features: int, num_classes: int, num_units: int) -> None:
        super().__init__()
        start = int(torch.randint(2**62, ()))  # from the seed of the run
        torch.manual_seed(start + getattr(activation, "number", 0))
        self.layers = nn.Sequential(
            nn.Linear(num_features, num_units), nn.ReLU(), nn.Linear(num_units, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        return self.layers(x)  # type: ignore[no-any-return]


class InputNet(nn.Module):
    """A perceptron that also applies the activation to its inputs."""

    def __init__(self, activation: nn.Module, num_features: int, num_classes: int, num_units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            activation, nn.Linear(num_features, num_units), nn.ReLU(), nn.Linear(num_units, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        return self.layers(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Side:
    """One of two activations that are compared.

    Attributes:
        plan: The plan that trains it.
        runner: What trains it.
        name: Its spec.
    """

    plan: ComparisonPlan
    runner: Runner
    name: str


def draw_samples(data: str, rng: np.random.Generator) -> Samples:
    """Draw samples: a random part of a known dataset, or a new artificial dataset."""
    if data == "artificial":
        return make_classification(
            _SAMPLES, 10, n_informative=5, flip_y=0.05, random_state=int(rng.integers(2**31))
        )
    if data == "even":
        X = rng.normal(size=(_SAMPLES, _FEATURES))
        signal = np.abs(X) @ rng.normal(size=_FEATURES)
        return X, (signal > np.median(signal)).astype(np.int64)
    if data == "symmetric":
        X = rng.normal(size=(_SAMPLES, _FEATURES))
        hidden = np.maximum(X @ rng.normal(size=(_FEATURES, 6)), 0) @ rng.normal(size=6)
        signal = hidden + 0.3 * hidden.std() * rng.normal(size=_SAMPLES)
        return X, (signal > np.median(signal)).astype(np.int64)
    load, count = {"digits": (load_digits, 300), "wine": (load_wine, 120), "cancer": (load_breast_cancer, 240)}[data]
    X, y = load(return_X_y=True)
    rows = rng.choice(len(y), count, replace=False)
    return StandardScaler().fit_transform(X[rows]), y[rows]


def make_sides(null: str, data: str, pairs: int, rng: np.random.Generator, **options: Any) -> list[Side]:
    """Plan pairs of equally good activations on new samples; two consecutive sides are a pair."""
    epochs, folds = options.pop("epochs", 8), options.pop("folds", 3)
    settings = TrainSettings(epochs=epochs, batch_size=options.pop("batch_size", 16), num_units=16, seed=int(rng.integers(2**31)))

    def plan(samples: Samples, names: Sequence[str], module: Any = None) -> list[Side]:
        config = ComparisonConfig(
            activations=names, dataset=load_data(samples), settings=settings, folds=folds, module=module,
            seeds=2, jobs=1, diagnostics=False, **options,
        )
        made = ComparisonPlan(config)
        runner = Runner(made, None, None, 0)
        return [Side(made, runner, name) for name in config.names]

    if null == "seed":
        names = [f"{__name__}:NumberedReLU(number={number})" for number in range(2 * pairs)]
        return plan(draw_samples(data, rng), names, NumberedNet)
    if null == "sign":
        module = InputNet if data in ("even", "odd") else None
        samples = "even" if data == "even" else "symmetric"
        each = [plan(draw_samples(samples, rng), ["relu", "formula:relu(-x)"], module) for _ in range(pairs)]
        return list(itertools.chain(*each))
    y = np.arange(_SAMPLES) % 2
    X = rng.normal(size=(2 * pairs, _SAMPLES, _FEATURES)) + 0.5 * (y - 0.5)[:, None]
    return list(itertools.chain(*(plan((each, y), ["relu"]) for each in X)))


def train(sides: Sequence[Side], seeds: range) -> None:
    """Train and tune sides with some seeds."""
    for plan, group in itertools.groupby(sides, lambda side: side.plan):
        each = list(group)
        train_planned(plan, each[0].runner, [side.name for side in each], seeds, {})


def read_scores(side: Side, seeds: int, tuned: bool) -> npt.NDArray[np.float64]:
    """Return the scores (seeds, folds) of a side."""
    plan, runs = side.plan, [run for run in side.runner.runs if run.labels.activation == side.name]
    best = select_best(runs, [side.name], plan.candidates) if tuned else select_given(runs, [side.name], plan.candidates[0])
    return np.array([run.score for run in best]).reshape(seeds, plan.config.folds)

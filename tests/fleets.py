"""Compare fleets with skorch, model by model, from the same weights and with the same order of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import skorch
from sklearn.base import clone
from torch import nn

from actlab.execution.scheduler import train_runs
from actlab.fleet.run import Result, Run
from actlab.fleet.settings import FleetSettings, use_settings
from actlab.fleet.skorch_adapter import read_run
from actlab.models.networks import new_activation
from actlab.models.random_streams import WEIGHTS, seeded_torch
from actlab.training.validation_split import split_validation

ROWS, FEATURES, CLASSES = 50, 5, 3
_NOT_COMPARED = {"batches", "dur", "train_batch_count", "valid_batch_count"}


def make_table(rows=ROWS, seed=0):
    """Return inputs (rows, 5) of three classes that overlap slightly."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % CLASSES
    X = rng.normal(size=(rows, FEATURES)) + 2 * np.eye(CLASSES, FEATURES)[y]
    return X.astype(np.float32), y.astype(np.int64)


def make_sequential(*, activation=nn.Tanh, outputs=CLASSES):
    return nn.Sequential(nn.Linear(FEATURES, 8), activation(), nn.Linear(8, outputs))


def make_flat(**options):
    """Return a model with outputs of shape (n,)."""
    return nn.Sequential(make_sequential(outputs=1, **options), nn.Flatten(0))


class Branching(nn.Module):
    """A model that is not sequential."""

    def __init__(self, width=6, bias=True, activation="tanh", outputs=CLASSES):
        super().__init__()
        self.first, self.beside = (nn.Linear(FEATURES, width, bias=bias) for _ in range(2))
        self.last = nn.Linear(width, outputs, bias=bias)
        self.activation = new_activation(activation)

    def forward(self, x):
        return self.last(self.activation(self.first(x)) + self.beside(x))


def classifier(**options):
    defaults = {"criterion": nn.CrossEntropyLoss, "max_epochs": 2, "batch_size": 16, "lr": 0.1, "verbose": 0}
    return skorch.NeuralNetClassifier(**{"module": make_sequential, **defaults, **options})


@dataclass(frozen=True)
class Packing(FleetSettings):
    """Settings with a fixed number of runs per fleet."""

    most: int = 1

    def runs_per_fleet(self, size: int, runs: int, saved_bytes: float | None = None) -> int:
        return self.most


class Orders:
    """A sampler that gives skorch's DataLoader the batches of a run in every epoch."""

    def __init__(self, run: Run) -> None:
        self.places = {row: position for position, row in enumerate(run.rows.tolist())}
        self.orders = run.iterate_orders()

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[int]:
        return (self.places[row] for row in next(self.orders).tolist())


def make_run(net, X, y, seed=0, fold=0):
    train, valid = split_validation(net, np.arange(len(X)), y, seed, fold)
    return dataclasses.replace(read_run(net, X, y), rows=train, valid=valid, seed=seed, fold=fold)


def train_by_skorch(net, run, X, y):
    """Return the result of training by skorch."""
    copy = clone(net).set_params(iterator_train__sampler=Orders(run), iterator_train__shuffle=False)
    with seeded_torch(run.seed, run.fold, WEIGHTS, "cpu"):
        copy.initialize()
    with use_settings(Packing()):
        copy.partial_fit(X, y)
    history = [{k: v for k, v in row.items() if k not in _NOT_COMPARED} for row in copy.history]
    own = {**dict(copy.module_.named_parameters()), **dict(copy.module_.named_buffers())}
    return Result(weights={name: value.detach() for name, value in own.items()}, history=history)


def train_by_fleets(runs, X, y, *, most=64, layer_by_layer=True):
    """Return the results of fleets with at most ``most`` runs."""
    settings = Packing(layer_by_layer=layer_by_layer, most=most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actlab.execution.scheduler.read_settings", lambda device="cpu": settings)
        results = train_runs(runs, X, y)
    for result in results:
        result.history = [{k: v for k, v in row.items() if k not in _NOT_COMPARED} for row in result.history]
    return results


def assert_same_training(result, expected, *, tolerance=1e-4, samples=10):
    """Assert that two results have close weights and histories.

    Args:
        result: Result of the fleet.
        expected: Result of skorch.
        tolerance: Largest difference, relative to the largest absolute value.
        samples: Number of samples of an accuracy.
    """
    assert not result.failure
    assert result.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        assert_close(result.weights[name].double(), weight.double(), tolerance, name)
    assert len(result.history) == len(expected.history)
    for row, other in zip(result.history, expected.history, strict=True):
        assert row.keys() == other.keys()
        for name, value in other.items():
            where = f"{name} of epoch {other['epoch']}: {row[name]}, not {value}"
            if name == "valid_acc":
                assert abs(row[name] - value) <= 2.01 / samples, where
            elif isinstance(value, bool | np.bool_) or name == "epoch":
                assert name == "valid_acc_best" or row[name] == value, where
            else:
                assert abs(row[name] - value) <= tolerance * max(abs(value), 1e-3), where


def assert_close(value, expected, tolerance, name):
    """Assert that two tensors are close, relative to the largest absolute value."""
    scale = max(float(expected.abs().max()), 1e-3)
    worst = float((value - expected).abs().max())
    assert worst <= tolerance * scale, f"{name} is off by {worst / scale:.1e}"


def assert_fleet_equals_skorch(net, X, y, *, seeds=(0, 1, 2), layer_by_layer=True):
    """Assert that a fleet of several seeds of a model equals skorch."""
    runs = [make_run(net, X, y, seed) for seed in seeds]
    results = train_by_fleets(runs, X, y, layer_by_layer=layer_by_layer)
    for run, result in zip(runs, results, strict=True):
        assert_same_training(
            result, train_by_skorch(net, run, X, y), samples=1 if run.valid is None else len(run.valid)
        )
    return results

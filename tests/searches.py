"""Helpers for the tests of FleetSearchCV: a small table, small models, training by skorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from actlab import FleetSearchCV, NeuralNet
from actlab.models.random_streams import WEIGHTS, seeded_torch

ROWS, FEATURES, CLASSES = 150, 4, 3
ACTIVATIONS = {"module__activation": ["relu", "tanh"]}


def make_table(seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(ROWS) % CLASSES
    X = rng.normal(size=(ROWS, FEATURES)) + 1.5 * np.eye(CLASSES, FEATURES)[y]
    return X.astype(np.float32), y.astype(np.int64)


X, Y = make_table()


def classifier(kind: Any = skorch.NeuralNetClassifier, **options):
    defaults = {
        "module": NeuralNet,
        "module__num_features": FEATURES,
        "module__num_classes": CLASSES,
        "module__num_units": 8,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 2,
        "batch_size": 16,
        "verbose": 0,
    }
    return kind(**{**defaults, **options})


def create_network(module, kind: Any = skorch.NeuralNetClassifier, **options):
    """Return a skorch model of a module without NeuralNet's arguments."""
    defaults = {"criterion": nn.CrossEntropyLoss, "lr": 0.1, "max_epochs": 2, "batch_size": 16, "verbose": 0}
    return kind(module, **{**defaults, **options})


class Idle(skorch.callbacks.Callback):
    """A callback without effect that a fleet must nevertheless assume to have one."""


def grid_search(model=None, grid=None, **options):
    return GridSearchCV(model or classifier(), grid or ACTIVATIONS, **{"cv": 3, **options})


def search(model=None, grid=None, **options):
    return FleetSearchCV(model or classifier(), grid or ACTIVATIONS, **{"cv": 3, "n_jobs": 1, **options})


def make_module(outputs, features=FEATURES):
    return nn.Sequential(nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, outputs))


def fit_by_skorch(model, X, y, seed=0, fold=0):
    """Return a copy of the model, trained by skorch from the initial weights of the search for this fold."""
    copy = clone(model)
    with seeded_torch(seed, fold, WEIGHTS, "cpu"):
        copy.initialize()
    return copy.partial_fit(X, y)


def score_matrix(fitted, name="test_score"):
    """Return the scores (candidates, splits)."""
    results = fitted.cv_results_
    splits = [key for key in results if key.startswith("split") and key.endswith(name)]
    return np.column_stack([results[key] for key in splits])


class Recorder(nn.Module):
    """An activation with a trained slope and a given start value."""

    def __init__(self, start=0.5):
        super().__init__()
        self.start = start
        self.slope = nn.Parameter(torch.tensor(start))

    def reset_parameters(self):
        with torch.no_grad():
            self.slope.fill_(self.start)

    def forward(self, x):
        return torch.where(x > 0, x, self.slope * x)


class Counting(nn.Module):
    made = 0
    fails = False

    def __init__(self, **sizes):
        super().__init__()
        type(self).made += 1
        self.layers = make_module(CLASSES)

    def forward(self, x):
        return self.layers(x)

    @classmethod
    def of(cls, **facts):
        return type("Counting", (cls,), {"made": 0, **facts})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a second thread only slows small models down
    yield
    torch.set_num_threads(before)

"""Fleets of unusual models, or of models with equal reprs, compared with skorch."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping
from torch import nn

from actlab.fleet.stacked_weights import load_module_state
from tests.fleets import (
    CLASSES,
    FEATURES,
    Branching,
    assert_fleet_equals_skorch,
    assert_same_training,
    classifier,
    make_run,
    make_sequential,
    make_table,
    train_by_fleets,
    train_by_skorch,
)

X, Y = make_table()
BOTH_WAYS = pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])


class Scaled(nn.Module):
    """An activation whose repr does not show its factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return torch.tanh(self.factor * x)


class Twice(nn.Module):
    """A model that applies one layer and one activation twice."""

    def __init__(self, activation=nn.Tanh):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.activation = activation()

    def forward(self, x):
        x = self.activation(self.first(x))
        return self.last(self.activation(self.again(self.activation(self.again(x)))))


class Tied(Twice):
    """Two layers with a shared weight."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(8, 8)
        self.other.weight = self.again.weight

    def forward(self, x):
        return self.last(torch.tanh(self.other(torch.tanh(self.again(self.first(x))))))


class OtherwiseInTraining(nn.Module):
    """A model that computes another function in training."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.tanh(2 * x if self.training else x))


def hooked(index):
    module = make_sequential()
    module[index].register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


def replace_forward(name):
    module = make_sequential()
    part = module.get_submodule(name)
    forward = part.forward
    part.forward = lambda x: 2 * forward(x)
    return module


def share_layers(*indices):
    """Return a model in which each of these layers occurs twice."""
    layers = [nn.Linear(FEATURES, 8), nn.PReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8)]
    return nn.Sequential(*layers, *(layers[index] for index in indices), nn.Linear(8, CLASSES))


def frozen():
    module = make_sequential()
    module[0].weight.requires_grad_(False)
    return module


MODELS = {
    "a layer that is used twice": Twice,
    "a learning activation that is used twice": functools.partial(Twice, nn.PReLU),
    "a matrix that is shared": Tied,
    "another function in training": OtherwiseInTraining,
    "a hook on a layer": functools.partial(hooked, 0),
    "a hook on an activation": functools.partial(hooked, 1),
    "a layer with a forward of its own": functools.partial(replace_forward, "0"),
    "an activation with a forward of its own": functools.partial(replace_forward, "1"),
    "a model with a forward of its own": functools.partial(replace_forward, ""),
    "a shared activation with a weight": functools.partial(share_layers, 1),
    "a shared layer": functools.partial(share_layers, 1, 2),
    "a shared normalization": functools.partial(share_layers, 3),
    "a frozen matrix": frozen,
    "an activation in place": lambda: make_sequential(activation=lambda: nn.ReLU(inplace=True)),
    "a mean over all batches so far": lambda: nn.Sequential(
        nn.Linear(FEATURES, 8, bias=False), nn.BatchNorm1d(8, momentum=None), nn.Linear(8, CLASSES)
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("name", MODELS)
def test_fleet_trains_unusual_models_like_skorch(name, layer_by_layer):
    assert_fleet_equals_skorch(
        classifier(module=MODELS[name], optimizer__momentum=0.5), X, Y, layer_by_layer=layer_by_layer
    )


EQUAL_REPRS = {
    "a number that the repr leaves out": [
        classifier(module=functools.partial(make_sequential, activation=functools.partial(Scaled, factor)))
        for factor in (1.0, 3.0)
    ],
    "a function that is no module": [
        classifier(module=Branching, module__activation=function) for function in (torch.tanh, torch.relu)
    ],
    "weights of the loss": [
        classifier(module__outputs=2000, criterion__weight=weight)
        for weight in (torch.ones(2000), torch.cat([torch.ones(1), torch.full((1999,), 9.0)]))
    ],
}


@BOTH_WAYS
@pytest.mark.parametrize("name", EQUAL_REPRS)
def test_fleet_distinguishes_models_with_equal_reprs(name, layer_by_layer):
    runs = [make_run(model, X, Y) for model in EQUAL_REPRS[name]]
    for model, run, result in zip(
        EQUAL_REPRS[name], runs, train_by_fleets(runs, X, Y, layer_by_layer=layer_by_layer), strict=True
    ):
        assert_same_training(result, train_by_skorch(model, run, X, Y))


@BOTH_WAYS
def test_fleet_returns_the_weights_of_the_tested_model(layer_by_layer):
    stopping = EarlyStopping(patience=3, load_best=True, threshold=0.2)
    model = classifier(max_epochs=12, lr=2.0, callbacks=[("stop", stopping)])
    rows = np.arange(0, 50, 3)
    run = dataclasses.replace(make_run(model, X, Y), test=rows)
    (result,) = train_by_fleets([run], X, Y, layer_by_layer=layer_by_layer)
    module = run.build().eval()
    load_module_state(module, result.weights)
    with torch.no_grad():
        outputs = module(torch.from_numpy(X[rows]))
    expected = nn.functional.cross_entropy(outputs, torch.from_numpy(Y[rows]))
    assert result.test_loss == pytest.approx(float(expected), rel=1e-5)
    assert result.test_acc == float((outputs.argmax(1).numpy() == Y[rows]).mean())

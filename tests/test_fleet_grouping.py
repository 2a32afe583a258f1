"""Plans of fleets: which runs train together, and which models are sequences of layers."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import actlab
from actlab import NeuralNet
from actlab.execution.scheduler import train_runs
from actlab.fleet.grouping import group_into_fleets
from actlab.fleet.run import Optimizer, Run, Schedule
from actlab.fleet.settings import FleetSettings
from actlab.fleet.trace import trace_layers
from tests.fleets import CLASSES, FEATURES, Branching, Packing, make_table, train_by_fleets

X, Y = make_table()
ONE_FLEET = Packing(most=64)
SGD = Optimizer("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0})
DRAWS = (
    "the network draws random numbers during training; in a fleet, they would depend on the other networks"
)
MIXED = ["relu", "tanh", "mish", "leaky_relu(negative_slope=0.2)", "gelu"]


def run(net, **options):
    defaults = {"rows": np.arange(32), "loss": nn.CrossEntropyLoss(), "optimizer": SGD}
    return Run(**{"net": net, "epochs": 2, "batch_size": 16, **defaults, **options})


def perceptron(activation="relu", units=8):
    return functools.partial(NeuralNet, units, activation, FEATURES, CLASSES)


def sequential(*layers):
    return functools.partial(_sequential, layers)


def _sequential(layers):
    parts = [layer() for layer in layers]
    return nn.Sequential(nn.Linear(FEATURES, 8), *parts, nn.Linear(8, CLASSES))


def fleets(runs, settings=ONE_FLEET):
    return group_into_fleets(runs, torch.from_numpy(X), torch.from_numpy(Y), settings)


def indices_of_fleets(runs):
    return [fleet.indices for fleet in fleets(runs)]


def reasons(net):
    """Return why two runs of a model train alone."""
    planned = fleets([run(net), run(net, seed=1)])
    assert len({fleet.reason_alone for fleet in planned}) == 1
    assert len(planned) == (2 if planned[0].reason_alone else 1)
    return planned[0].reason_alone


# -- runs in one fleet ----------------------------------------------------------------------------


def test_plan_groups_catalogue_activations_in_one_fleet():
    runs = [run(perceptron(name), seed=seed) for seed in range(3) for name in MIXED]
    (fleet,) = fleets(runs)
    assert fleet.layer_by_layer
    assert not fleet.reason_alone
    assert fleet.indices == (0, 5, 10, 1, 6, 11, 2, 7, 12, 3, 8, 13, 4, 9, 14)


def test_fleet_of_mixed_activations_equals_single_training():
    runs = [run(perceptron(name), seed=seed) for seed in range(2) for name in MIXED]
    for one, many in zip(train_by_fleets(runs, X, Y, most=1), train_by_fleets(runs, X, Y), strict=True):
        assert many.weights.keys() == one.weights.keys()
        for name, weight in one.weights.items():
            torch.testing.assert_close(many.weights[name], weight, rtol=1e-5, atol=1e-6)


def test_plan_groups_torch_equivalents_with_catalogue_activations():
    equivalents = [nn.ReLU, nn.Tanh, nn.Sigmoid, functools.partial(nn.LeakyReLU, 0.3), actlab.nn.Mish]
    (fleet,) = fleets([run(sequential(kind)) for kind in equivalents])
    assert fleet.layer_by_layer
    assert fleet.indices == (0, 1, 2, 3, 4)


def test_plan_groups_other_torch_activations_by_kind():
    elu, softplus = sequential(nn.ELU), sequential(nn.Softplus)
    planned = fleets([run(model, seed=seed) for seed in (0, 1) for model in (elu, softplus)])
    assert [(fleet.indices, fleet.layer_by_layer) for fleet in planned] == [((0, 2), True), ((1, 3), True)]


@pytest.mark.parametrize("kind", [nn.PReLU, actlab.nn.PReLU], ids=["torch", "actlab"])
def test_plan_separates_trained_activations(kind):
    trained, other = sequential(kind), sequential(nn.Tanh)
    planned = fleets([run(model, seed=seed) for seed in (0, 1) for model in (trained, other)])
    assert [fleet.indices for fleet in planned] == [(0, 2), (1, 3)]
    assert not any(fleet.reason_alone for fleet in planned)


def test_plan_groups_runs_with_other_hyperparameters_seeds_and_folds():
    model = perceptron()
    rates = [dataclasses.replace(SGD, numbers={**SGD.numbers, "lr": lr}) for lr in (0.1, 0.01)]
    runs = [run(model, optimizer=rate, seed=s, fold=f) for rate in rates for s, f in [(0, 1), (1, 0)]]
    assert indices_of_fleets(runs) == [(0, 1, 2, 3)]


# -- runs in separate fleets ----------------------------------------------------------------------

WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))
DIFFERENT = {
    "the number of rows": {"rows": np.arange(31)},
    "the number of rows to validate on": {"valid": np.arange(40, 45)},
    "the number of rows to test on": {"test": np.arange(40, 45)},
    "epochs": {"epochs": 3},
    "the size of a batch": {"batch_size": 8},
    "the order": {"shuffle": True},
    "the last batch": {"drop_last": True},
    "what accuracy is": {"scoring": ""},
    "precision": {"precision": "bf16"},
    "the optimizer": {"optimizer": Optimizer("Adam", {"lr": 0.1})},
    "a flag of the optimizer": {"optimizer": dataclasses.replace(SGD, flags=frozenset({"nesterov"}))},
    "the weights of the loss": {"loss": WEIGHTED},
    "an option of the loss": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
    "the loss": {"loss": nn.NLLLoss()},
    "when the learning rate changes": {
        "schedule": Schedule(torch.optim.lr_scheduler.StepLR, {"step_size": 1}, every="batch")
    },
    "the width of the model": {"net": perceptron(units=9)},
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_plan_separates_runs_with_different_steps(change):
    model = perceptron()
    runs = [run(model), run(**{"net": model, **DIFFERENT[change]}), run(model, seed=1)]
    assert indices_of_fleets(runs) == [(0, 2), (1,)]


def test_plan_separates_losses_with_different_weights():
    model = perceptron()
    weights = [torch.tensor([1.0, 2.0, factor]) for factor in (0.5, 0.25, 0.5)]
    assert indices_of_fleets([run(model, loss=nn.CrossEntropyLoss(weight=weight)) for weight in weights]) == [
        (0, 2),
        (1,),
    ]


class Scaled(nn.Module):
    """An activation whose repr does not show its factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def of_autograd(factor):
    model = Branching(activation=Scaled(factor))
    assert trace_layers(model) is None
    return model


@pytest.mark.parametrize("make", [lambda factor: sequential(lambda: Scaled(factor))(), of_autograd])
def test_plan_separates_models_with_equal_reprs(make):
    one, other = functools.partial(make, 1.0), functools.partial(make, 3.0)
    assert repr(one()) == repr(other())
    assert indices_of_fleets([run(one), run(other), run(one, seed=1), run(other, seed=1)]) == [(0, 2), (1, 3)]


# -- runs that train alone ------------------------------------------------------------------------


RANDOM = {
    "dropout": sequential(nn.Tanh, nn.Dropout),
    "RReLU": sequential(nn.RReLU),
    "dropout as a function": sequential(lambda: Calls(lambda module, x: F.dropout(x, 0.5, module.training))),
    "noise": sequential(lambda: Calls(lambda module, x: x + torch.randn_like(x))),
    "dropout, autograd": functools.partial(Branching, activation=nn.Dropout),
}


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize("name", RANDOM)
def test_plan_trains_random_models_alone_and_reproducibly(name):
    assert reasons(RANDOM[name]) == DRAWS
    runs = [run(RANDOM[name], seed=seed) for seed in (0, 1, 0)]
    torch.manual_seed(1)
    first = train_runs(runs, X, Y)
    torch.manual_seed(2)
    second = train_runs(runs[::-1], X, Y)[::-1]
    (without_others,) = train_runs(runs[:1], X, Y)
    for one, other in zip([*first, first[0]], [*second, without_others], strict=True):
        assert one.reason_alone == DRAWS
        assert not one.failure
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    losses = [result.history[-1]["train_loss"] for result in first]
    assert losses[0] == losses[2] != losses[1]


def test_plan_trains_rrelu_alone():
    assert reasons(sequential(actlab.nn.RReLU)) == DRAWS


def test_plan_reports_the_error_of_vmap():
    def branch(module, x):
        return x if x.abs().sum().item() >= 0 else -x

    reason = reasons(sequential(lambda: Calls(branch)))
    assert reason.startswith(
        "torch.vmap cannot run the network: RuntimeError: vmap: It looks like you're calling .item()"
    )
    assert "\n" not in reason


def test_plan_reports_the_error_of_a_broken_model():
    def broken(module, x):
        raise OSError("no such\nthing")

    assert reasons(sequential(lambda: Calls(broken))) == (
        "the network failed on two samples: OSError: no such"
    )
    assert reasons(functools.partial(NeuralNet, 1)) == (
        "the network cannot be built: ValueError: num_units must be at least 2, got 1"
    )


# -- sizes of fleets ------------------------------------------------------------------------------


def test_plan_is_deterministic():
    def make_runs():
        models = [perceptron(name) for name in MIXED]
        models += [sequential(nn.ELU), sequential(nn.Dropout), Branching, sequential(nn.PReLU)]
        return [run(model, seed=seed) for seed in range(5) for model in models]

    settings = FleetSettings(weights_per_fleet=1000)
    first = fleets(make_runs(), settings)
    assert [fleets(make_runs(), settings) for _ in range(2)] == [first, first]
    assert sorted(index for fleet in first for index in fleet.indices) == list(range(45))
    assert [fleet.indices[0] for fleet in first] == sorted(fleet.indices[0] for fleet in first)


@pytest.mark.parametrize(("runs", "sizes"), [(1, [1]), (5, [1] * 5), (8, [1] * 8), (40, [5] * 8)])
def test_plan_splits_runs_for_several_processes(runs, sizes):
    model = perceptron()
    planned = fleets([run(model, seed=seed) for seed in range(runs)], FleetSettings(weights_per_fleet=10**9))
    assert [len(fleet.indices) for fleet in planned] == sizes


def test_plan_limits_weights_per_fleet_and_balances_sizes():
    model = perceptron()
    size = sum(p.numel() for p in model().parameters())
    planned = fleets([run(model, seed=seed) for seed in range(20)], FleetSettings(weights_per_fleet=3 * size))
    assert sorted(len(fleet.indices) for fleet in planned) == [2, 3, 3, 3, 3, 3, 3]
    (one,) = fleets([run(model)], FleetSettings(weights_per_fleet=1))
    assert one.indices == (0,)


def test_plan_respects_layer_by_layer_false():
    (fleet,) = fleets(
        [run(model := perceptron()), run(model, seed=1)], dataclasses.replace(ONE_FLEET, layer_by_layer=False)
    )
    assert not fleet.layer_by_layer


class Pooled(nn.Module):
    """A convolution and a pooling layer, whose outputs are joined by a function."""

    def __init__(self, join, pool=nn.MaxPool2d):
        super().__init__()
        self.convolution, self.pool, self.join = nn.Conv2d(1, 2, 3, padding=1), pool((1, 2)), join
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.last(self.join(self.pool(self.convolution(x.unflatten(1, (1, 1, FEATURES))))))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"join": lambda x: x.flatten(1)}, ("convolution.weight",)),
        ({"join": lambda x: x.view(len(x), -1)}, ()),
        ({"join": lambda x: x.flatten(1), "pool": nn.AvgPool2d}, ()),
    ],
)
def test_plan_stores_convolutions_before_max_pooling_channels_last(options, names):
    models = [run(functools.partial(Pooled, **options), seed=seed) for seed in range(2)]
    alone, stacked = fleets(models, Packing(most=1)), fleets(models[:1] * 2)
    assert [fleet.channels_last for fleet in alone] == [names, names]
    assert [fleet.channels_last for fleet in stacked] == [()]
    for one, other in zip(train_by_fleets(models, X, Y, most=1), train_by_fleets(models, X, Y), strict=True):
        for name, weight in other.weights.items():
            torch.testing.assert_close(one.weights[name], weight, rtol=1e-4, atol=1e-5)


# -- sequences of layers --------------------------------------------------------------------------


class Line(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, between):
        super().__init__()
        self.first, self.last, self.tanh = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES), nn.Tanh()
        self.between = between

    def forward(self, x):
        return self.last(self.between(self, self.first(x)))


def hooked(index, hook="register_forward_hook"):
    model = sequential(nn.Tanh)()
    getattr(model[index] if index is not None else model, hook)(lambda *given: None)
    return model


def tied():
    model = sequential(nn.Tanh, functools.partial(nn.Linear, 8, 8), functools.partial(nn.Linear, 8, 8))()
    model[3].weight = model[2].weight
    return model


def unused():
    model = Line(lambda model, x: x)
    model.never = nn.Linear(3, 3)
    return model


SEQUENCES = {
    "a perceptron": (perceptron(), ["linear", "formula"] * 2 + ["linear"]),
    "nested lines": (
        lambda: nn.Sequential(nn.Flatten(), sequential(nn.ELU, nn.Dropout)(), nn.Softmax(1)),
        ["module", "linear", "module", "module", "linear", "module"],
    ),
    "F.relu": (lambda: Line(lambda model, x: F.relu(x)), ["linear", "function", "linear"]),
    "flatten(1)": (lambda: Line(lambda model, x: x.flatten(1)), ["linear", "function", "linear"]),
    "x * 2": (lambda: Line(lambda model, x: x * 2), ["linear", "function", "linear"]),
    "-x.sin()": (lambda: Line(lambda model, x: -x.sin()), ["linear", "function", "function", "linear"]),
    "a hook on a layer": (functools.partial(hooked, 0), ["module", "formula", "linear"]),
    "a hook on an activation": (functools.partial(hooked, 1), ["linear", "module", "linear"]),
    "a hook before a layer": (
        functools.partial(hooked, 2, "register_forward_pre_hook"),
        ["linear", "formula", "module"],
    ),
    "an activation with a trained number": (sequential(nn.PReLU), ["linear", "module", "linear"]),
}
OTHER_MODELS = {
    "a model that branches": Branching,
    "a model that adds its input": lambda: Line(lambda model, x: x + model.tanh(x)),
    "tied layers": tied,
    "a layer that is used twice": lambda: Line(lambda model, x: model.tanh(model.tanh(x))),
    "a layer that is not used": unused,
    "branches on its training mode": lambda: Line(lambda model, x: torch.tanh(x) if model.training else x),
    "branches on its input": lambda: Line(lambda model, x: x if x.sum() > 0 else -x),
    "torch.tanh(input=x)": lambda: Line(lambda model, x: torch.tanh(input=x)),
    "a factor before the input": lambda: Line(lambda model, x: 2 * x),
    "a weight of its own": lambda: Line(lambda model, x: x * model.last.weight[0]),
    "two inputs": lambda: Line(lambda model, x: torch.cat([x, x], 1)),
    "no layer at all": nn.Sequential,
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_trace_layers_returns_the_kinds_of_layers(name):
    make, kinds = SEQUENCES[name]
    assert [layer.kind for layer in trace_layers(make())] == kinds


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_trace_layers_returns_none_for_other_models(name):
    assert trace_layers(OTHER_MODELS[name]()) is None


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_trace_layers_returns_none_for_models_with_hooks(hook):
    assert trace_layers(hooked(None, hook)) is None
    convolution = nn.Sequential(nn.Conv1d(1, 2, 2), nn.Flatten())
    assert trace_layers(convolution) is not None
    getattr(convolution, hook)(lambda *arguments: None)
    assert trace_layers(convolution) is None


@pytest.mark.parametrize("training", [True, False])
def test_trace_layers_leaves_the_training_mode_unchanged(training):
    for make in (perceptron(), OTHER_MODELS["branches on its training mode"], Branching):
        model = make().train(training)
        trace_layers(model)
        assert all(part.training is training for part in model.modules())

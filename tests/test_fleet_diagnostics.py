"""Diagnostics of models: exact values, and no effect on training."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

import actlab
from actlab.execution.scheduler import train_runs
from actlab.fleet.diagnostics import BINS, ROWS, SHARE, choose_diagnostic_epochs, is_elementwise_nonlinear
from actlab.fleet.loop import DeviceData, Loop
from actlab.fleet.run import EarlyStopping, Optimizer, Schedule
from actlab.models.networks import ConvNet, new_activation
from actlab.timing import saved_bytes
from tests.fleet_runs import SGD, WILD, assert_equal, make_noisy, make_perceptron, one_fleet, one_thread, run
from tests.fleets import CLASSES, FEATURES, Branching, make_table

__all__ = ["one_fleet", "one_thread"]

X, Y = make_table(80)
FROZEN = Optimizer("SGD", {**SGD, "lr": 1e-30})


def train_fleet(runs, layer_by_layer=True, x=X, y=Y):
    return Loop(runs, layer_by_layer, DeviceData(torch.as_tensor(x), torch.as_tensor(y))).train()


def rows_of(result, part, epoch=None):
    return [row for row in result.diagnostics if row["part"] == part and epoch in (None, row["epoch"])]


# Values


def diagnostics_by_autograd(net, x, y, names):
    """Return the diagnostics of the activations ``names`` and of the weights, by plain autograd."""
    inputs, outputs = {}, {}
    for name in names:

        def note(module, args, output, name=name):
            inputs[name], outputs[name] = args[0], output
            args[0].retain_grad()
            output.retain_grad()

        net.get_submodule(name).register_forward_hook(note)
    nn.functional.cross_entropy(net.eval()(x), y).backward()
    collected = []
    for name in names:
        slope = torch.where(outputs[name].grad == 0, 0.0, inputs[name].grad / outputs[name].grad).abs()
        slope = slope.movedim(1, -1).flatten(0, -2)
        collected.append(
            {
                "name": name,
                "units": slope.shape[1],
                "dead": (slope < 1e-3).all(0).double().mean().item(),
                "saturated": (slope < 0.05).double().mean().item(),
                "low": outputs[name][:32].min().item(),
                "high": outputs[name][:32].max().item(),
                "grad_high": (outputs[name].grad[:32].abs().max() * len(x)).log10().item(),
            }
        )
    weights = [(n, p.grad.square().mean().sqrt().item()) for n, p in net.named_parameters() if p.ndim > 1]
    return collected, weights


MODELS = {
    "relu": (make_perceptron("relu"), True),
    "mish": (make_perceptron("mish"), True),
    "prelu": (make_perceptron("prelu"), True),
    "sigmoid": (make_perceptron("sigmoid"), False),
    "torch's own": (make_perceptron(nn.Hardswish()), True),
    "in place": (make_perceptron(nn.SiLU(inplace=True)), False),
    "branching": (functools.partial(Branching, activation="gelu"), False),
}


@pytest.mark.parametrize("name", MODELS)
def test_diagnostics_equal_those_of_plain_autograd(name):
    make, layer_by_layer = MODELS[name]
    runs = [run(make, seed=seed, optimizer=FROZEN, epochs=1, diagnostic_epochs=(1,)) for seed in (0, 1)]
    for each, result in zip(runs, train_fleet(runs, layer_by_layer), strict=True):
        model = each.build()
        names = [n for n, _ in model.named_modules() if n.startswith("activation")]
        valid = torch.as_tensor(each.valid)
        if name == "in place":  # hooks would see overwritten values
            model = make_perceptron(nn.SiLU())()
            model.load_state_dict(each.build().state_dict())
        expected, weights = diagnostics_by_autograd(
            model, torch.as_tensor(X)[valid], torch.as_tensor(Y)[valid], names
        )
        results = rows_of(result, "activation")
        assert [row["layer"] for row in results] == list(range(1, len(names) + 1))
        for row, other in zip(results, expected, strict=True):
            for figure, value in other.items():
                right = value if isinstance(value, str | int) else pytest.approx(value, rel=1e-4, abs=1e-5)
                assert row[figure] == right, figure
        assert {row["name"]: row["gradient"] for row in rows_of(result, "weights")} == {
            n: pytest.approx(value, rel=1e-4) for n, value in weights
        }


class KnownUnits(nn.Module):
    """Four units: the first is never active, the second always."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.activation = nn.Linear(FEATURES, 4), new_activation(activation)
        self.last = nn.Linear(4, CLASSES)
        with torch.no_grad():
            self.first.weight[:2] = 0
            self.first.bias[:2] = torch.tensor([-20.0, 20.0])

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


@pytest.mark.parametrize(
    ("activation", "dead"), [("relu", 0.25), ("sigmoid", 0.5), ("leaky_relu", 0.0), ("tanh", 0.5)]
)
def test_diagnostics_count_units_without_gradient_as_dead(activation, dead):
    (result,) = train_fleet(
        [run(functools.partial(KnownUnits, activation), optimizer=FROZEN, epochs=1, diagnostic_epochs=(1,))]
    )
    (row,) = rows_of(result, "activation")
    assert row["dead"] == dead
    assert row["units"] == 4
    assert 0.25 <= row["saturated"] < 1 or activation == "leaky_relu"
    shares = [int(share) for share in row["values"].split()]
    assert len(shares) == BINS
    assert sum(shares) == pytest.approx(1000, abs=BINS / 2)


def test_diagnostics_treat_channels_of_images_as_units():
    images_of = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    options = {"rows": np.arange(20), "valid": np.arange(20, 40), "epochs": 1, "diagnostic_epochs": (1,)}
    make = functools.partial(ConvNet, 16, "relu", 64, 3)
    (result,) = train_fleet([run(make, **options)], False, images_of, torch.arange(40) % 3)
    assert [row["units"] for row in rows_of(result, "activation")] == [4, 8, 16]
    names = [row["name"] for row in rows_of(result, "weights")]
    assert names == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]


def test_diagnostics_of_a_deep_network_have_eight_histograms():
    layers = [part for _ in range(30) for part in (nn.Linear(FEATURES, FEATURES), actlab.nn.ELU())]
    make = functools.partial(nn.Sequential, *layers, nn.Linear(FEATURES, CLASSES))
    (result,) = train_fleet([run(make, epochs=1, diagnostic_epochs=(1,))])
    with_histogram = [row["layer"] for row in rows_of(result, "activation") if "values" in row]
    assert len(rows_of(result, "activation")) == 30
    assert (len(with_histogram), with_histogram[0], with_histogram[-1]) == (8, 1, 30)


def test_diagnostics_of_models_without_activations_or_validation():
    (result,) = train_fleet(
        [run(functools.partial(nn.Linear, FEATURES, CLASSES), valid=None, diagnostic_epochs=(1, 3))]
    )
    assert [(row["part"], row["epoch"]) for row in result.diagnostics] == [("weights", 1), ("weights", 3)]


class Square(nn.Module):
    def forward(self, x):
        return x * x


class Normed(nn.Module):
    def forward(self, x):
        return x / (1 + x.norm())


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Softplus()

    def forward(self, x):
        return x * torch.tanh(self.inner(x))


@pytest.mark.parametrize(
    ("module", "is_one"),
    [
        *((module, True) for module in (nn.ReLU(), nn.PReLU(6), actlab.nn.Mish(), Square(), Nested())),
        *((module, True) for module in (nn.Threshold(0.1, 20.0), nn.Softshrink())),
        *((module, False) for module in (nn.LayerNorm(6), nn.Softmax(1), nn.Dropout(), Normed())),
        *((module, False) for module in (nn.Linear(6, 6), nn.BatchNorm1d(6), nn.GLU(), nn.Identity())),
    ],
    ids=lambda value: type(value).__name__,
)
def test_is_elementwise_nonlinear_recognizes_activations_by_behaviour(module, is_one):
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    module.eval()
    before = torch.get_rng_state()
    with torch.no_grad():
        assert is_elementwise_nonlinear(module, module, x, module(x)) is is_one
    assert torch.equal(torch.get_rng_state(), before)


class CallsFunctions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 4), nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.second(nn.functional.relu(self.first(x)).tanh())


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
def test_diagnostics_treat_a_user_activation_as_one_layer(layer_by_layer):
    make = functools.partial(nn.Sequential, nn.Linear(FEATURES, 4), Nested(), nn.Linear(4, CLASSES))
    (result,) = train_fleet([run(make, epochs=1, diagnostic_epochs=(1,))], layer_by_layer)
    assert [row["name"] for row in rows_of(result, "activation")] == ["1"]


def test_diagnostics_name_a_function_by_its_name():
    (result,) = train_fleet([run(CallsFunctions, epochs=1, diagnostic_epochs=(1,))])
    assert [row["name"] for row in rows_of(result, "activation")] == ["relu", "tanh"]


# No effect on training


def normalized():
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


KINDS = {
    "layer by layer": lambda: [run(seed=seed, shuffle=True) for seed in (0, 1)],
    "bf16": lambda: [run(precision="bf16")],
    "buffers": lambda: [run(normalized, seed=seed) for seed in (0, 1)],
    "random numbers": lambda: [run(make_noisy)],
    "autograd": lambda: [run(functools.partial(Branching, activation="gelu"))],
    "early stopping": lambda: [
        run(seed=n, stopping=EarlyStopping("train_loss", patience=n, threshold=0.9, load_best=True))
        for n in (1, 2, 9)
    ],
    "one diverges": lambda: [run(), run(optimizer=WILD)],
    "schedule": lambda: [run(schedule=Schedule(lr_scheduler.StepLR, {"step_size": 2}))],
}


@pytest.mark.parametrize("kind", KINDS)
def test_diagnostics_do_not_change_results(kind, one_fleet):
    def results(epochs_with_diagnostics):
        runs = [
            dataclasses.replace(each, epochs=5, diagnostic_epochs=epochs_with_diagnostics)
            for each in KINDS[kind]()
        ]
        return train_runs(runs, X, Y)

    expected, found = results(()), results((1, 2, 4, 5))
    assert not any(result.diagnostics for result in expected)
    assert all(result.diagnostics or result.failure for result in found)
    for result in found:
        result.diagnostics = []
    assert_equal(found, expected)


def test_diagnostics_gradients_agree_with_autograd():
    model = functools.partial(nn.Sequential, nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, CLASSES))
    data = DeviceData(
        torch.randn(96, 64, generator=torch.Generator().manual_seed(0)), torch.arange(96) % CLASSES
    )
    rows = {"rows": np.arange(80), "valid": np.arange(80, 96), "epochs": 4}
    loops = [
        Loop([run(model, **rows, diagnostic_epochs=epochs_with_diagnostics)], True, data)
        for epochs_with_diagnostics in ((), (1, 2, 3, 4))
    ]
    (expected,), (results,) = (loop.train() for loop in loops)
    (whole,) = Loop([run(model, **rows, diagnostic_epochs=(4,), shuffle=False)], False, data).train()
    assert results.diagnostics[-1]["gradient"] == pytest.approx(whole.diagnostics[-1]["gradient"], rel=1e-3)
    first = [rows_of(result, "weights", 4)[0]["gradient"] for result in (results, whole)]
    assert first[0] == pytest.approx(first[1], rel=1e-3)
    results.diagnostics = []
    assert_equal([results], [expected])


def test_diagnostics_have_no_row_for_the_epoch_of_divergence(one_fleet):
    fine, wild = train_runs(
        [run(diagnostic_epochs=(1, 2, 3)), run(optimizer=WILD, diagnostic_epochs=(1, 2, 3))], X, Y
    )
    assert {row["epoch"] for row in fine.diagnostics} == {1, 2, 3}
    assert "diverged" in wild.failure
    assert len(wild.history) not in {row["epoch"] for row in wild.diagnostics}


class NoEvalGradient(nn.Module):
    """An activation without a gradient in evaluation mode."""

    def forward(self, x):
        return torch.relu(x) if self.training else torch.relu(x).detach().round()


def test_diagnostics_that_fail_are_logged_and_training_continues(caplog):
    make = functools.partial(nn.Sequential, nn.Linear(FEATURES, 4), NoEvalGradient(), nn.Linear(4, CLASSES))
    with caplog.at_level(logging.WARNING, logger="actlab"):
        (result,) = train_runs([run(make, diagnostic_epochs=(1, 2))], X, Y)
    assert not result.failure
    assert len(result.history) == 3
    assert not rows_of(result, "activation", 1)
    assert [message for message in caplog.messages if "diagnostics failed" in message]


# Epochs


@given(
    epochs=st.integers(1, 400), steps=st.integers(1, 2000), batch_size=st.sampled_from([1, 8, 32, 128, 1024])
)
def test_choose_diagnostic_epochs_stays_within_its_share(epochs, steps, batch_size):
    epochs_with_diagnostics = choose_diagnostic_epochs(None, epochs, steps, batch_size)
    assert list(epochs_with_diagnostics) == sorted(set(epochs_with_diagnostics))
    assert not epochs_with_diagnostics or (
        epochs_with_diagnostics[0] >= 1 and epochs_with_diagnostics[-1] == epochs
    )
    assert len(epochs_with_diagnostics) * (2.5 + ROWS / batch_size) <= SHARE * epochs * steps
    assert choose_diagnostic_epochs(True, epochs, steps, batch_size) == tuple(range(1, epochs + 1))
    assert choose_diagnostic_epochs(False, epochs, steps, batch_size) == ()


# Memory


@pytest.mark.parametrize(
    ("activation", "expected"),
    # In float32: relu and tanh save their outputs, like the next layer; mish also saves its inputs.
    [("relu", 4 * 10 * (8 + 4)), ("tanh", 4 * 10 * (8 + 4)), ("mish", 2 * 4 * 10 * (8 + 4))],
)
def test_saved_bytes_counts_tensors_of_activations(activation, expected):
    assert saved_bytes(make_perceptron(activation)(), torch.zeros(10, FEATURES)) == expected


def test_saved_bytes_leaves_the_random_state_unchanged():
    before = torch.get_rng_state()
    assert saved_bytes(nn.Dropout(), torch.zeros(10, 8, requires_grad=True)) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_diagnostics_skip_models_with_nonfinite_values():
    def broken():
        model = make_perceptron("relu")()
        with torch.no_grad():
            model.fc1.weight.fill_(math.inf)
        return model

    (result,) = train_fleet([run(broken, epochs=1, diagnostic_epochs=(1,))])
    assert "diverged" in result.failure
    assert result.diagnostics == []

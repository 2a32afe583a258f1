"""Scale the weights of models to their activations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import actlab
from actlab.models import ConvNet, gaussian_moments

X = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
STABLE = [
    name
    for name, activation in actlab.catalogue.items()
    if not activation.facts.gated and abs(gaussian_moments(activation).variance_slope) < 0.95
]


def make_deep(name, depth, width=256, seed=0):
    torch.manual_seed(seed)
    activation = actlab.catalogue[name]

    class Function(nn.Module):
        def forward(self, x):
            return activation(x, **activation.example)

    layers = [nn.Linear(64, width)]
    for _ in range(depth - 1):
        layers += [Function(), nn.Linear(width, width)]
    return nn.Sequential(*layers).eval()


def measure_sizes(model, x):
    sizes = []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            sizes.append(x.square().mean().item())
    return sizes


@pytest.mark.parametrize("name", STABLE)
def test_init_keeps_the_variance_through_a_hundred_layers(name):
    model = actlab.init_(make_deep(name, 100), X)
    fresh = torch.randn(512, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        sizes = measure_sizes(model, fresh)
    assert 0.5 < sizes[99] / sizes[0] < 2


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sigmoid", "selu", "softplus", "sine"])
def test_init_gives_the_weights_the_gain_of_their_activation(name):
    model = actlab.init_(make_deep(name, 3), X)
    for index in (2, 4):
        assert model[index].weight.std().item() * 16 == pytest.approx(actlab.gain(name), rel=0.1)
        assert not model[index].bias.any()
    assert measure_sizes(model, X) == pytest.approx([1, 1, 1], rel=1e-4)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 3)
        self.norm, self.drop = nn.BatchNorm1d(32), nn.Dropout()

    def forward(self, x):
        x = self.norm(self.first(x))
        x = x + self.shared(torch.relu(x))
        x = x + self.shared(torch.relu(self.drop(x)))
        return self.last(x)


def test_init_scales_residual_and_shared_layers():
    torch.manual_seed(0)
    model = Residual()
    before = copy.deepcopy(model.state_dict())
    assert actlab.init_(model, X) is model
    assert model.training
    assert all(part.training for part in model.modules())
    outputs = model.eval()(X)
    assert outputs.square().mean().item() == pytest.approx(1, rel=1e-4)
    for name, value in model.state_dict().items():
        if name.startswith("norm"):
            assert torch.equal(value, before[name])
        elif name.endswith("weight"):
            ratio = value / before[name]
            torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    assert not model._forward_hooks
    assert not model.first._forward_hooks


class TakesDictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, inputs):
        return self.layer(inputs["x"])


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Linear(64, 3), X.double().numpy()),
        (nn.Linear(64, 3), X.tolist()),
        (nn.Linear(64, 3).double(), X.numpy()),
        (TakesDictionary(), {"x": X}),
        (nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 2)), [[1, 2], [3, 8]]),
    ],
)
def test_init_accepts_arrays_and_what_the_model_takes(model, x):
    sizes = []
    layer = next(part for part in model.modules() if isinstance(part, nn.Linear))
    actlab.init_(model, x)
    layer.register_forward_hook(lambda part, args, output: sizes.append(output.square().mean().item()))
    dtype = layer.weight.dtype
    model(x if isinstance(x, dict) else torch.as_tensor(x, dtype=dtype if "Lin" in repr(model)[:3] else None))
    assert sizes == [pytest.approx(1, rel=1e-4)]


def test_init_scales_convolutions():
    model = actlab.init_(ConvNet(activation="tanh", num_features=64), X)
    assert model(X).square().mean().item() == pytest.approx(1, rel=1e-4)
    assert model.conv1.weight.std().item() > 0


def test_init_leaves_layers_unchanged_that_the_model_does_not_call():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    nn.init.ones_(model.self_attn.out_proj.bias)  # attention uses the tensors of this layer without a call
    before = copy.deepcopy(model.state_dict())
    actlab.init_(model, torch.randn(30, 5, 16))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"}


def test_init_leaves_frozen_layers_and_other_parameters_unchanged():
    model = nn.Sequential(nn.Linear(64, 8), nn.PReLU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    nn.utils.parametrizations.weight_norm(model[4])
    before = copy.deepcopy(model.state_dict())
    actlab.init_(model, X)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"2.weight", "2.bias"}


def make_dead():
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8))
    nn.init.zeros_(model[2].weight)
    return model


class Interrupting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 8)

    def forward(self, x):
        raise KeyboardInterrupt(self.layer(x))


def test_init_restores_the_model_after_an_interrupt():
    model = Interrupting()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt):
        actlab.init_(model, X)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 8)

    def forward(self, x):
        return self.first(x) + torch.zeros(5)


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (make_dead(), X, "the outputs of the layer '2' have the root mean square 0"),
        (nn.Linear(64, 2), X * math.nan, "the outputs of the layer '' have the root mean square nan"),
        (nn.Linear(64, 2), X[:, :5], "the model fails on the samples: RuntimeError"),
        (nn.Linear(64, 2), X[:0], "the outputs of the layer '' have the root mean square nan"),
        (nn.LazyLinear(2), X, "the parameter .* is lazy"),
        (Broken(), X, "the model fails on the samples: RuntimeError"),
        (nn.Linear(64, 2), "digits", "the model fails on the samples"),
    ],
)
def test_init_refuses_what_it_cannot_scale_and_leaves_the_model_unchanged(model, x, message):
    before = copy.deepcopy(model.state_dict()) if "lazy" not in message else {}
    with pytest.raises(actlab.UsageError, match=message):
        actlab.init_(model, x)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())

"""Activation modules of users and other packages are recognized by the function they compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from actlab import UsageError, measure, swap
from tests.swaps import list_paths, one_thread

__all__ = ["one_thread"]


def act(function, **values):
    """Return a module of a new class that computes a function."""

    class Act(nn.Module):
        def forward(self, x):
            return function(x, **values)

    return Act()


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


class Doubled(nn.Module):
    def forward(self, x):
        return F.relu(x) * 2


class SubclassOfReLU(nn.ReLU):
    pass


class Dropped(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (act(lambda x: x * torch.sigmoid(x)), "silu"),
        (act(lambda x: x * torch.tanh(torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0))), "mish"),
        (act(lambda x: 0.5 * x * (1 + torch.erf(x * 2**-0.5))), "gelu"),
        (act(lambda x: x.clamp(min=0) ** 2), "relu_squared"),
        (act(F.leaky_relu, negative_slope=0.3), "leaky_relu"),
        (act(F.softplus, beta=3.0), "softplus"),
        (act(F.threshold, threshold=0.2, value=-1.0), "threshold"),
        (act(lambda x: x.relu_()), "relu"),
        (SubclassOfReLU(), "relu"),
        (act(lambda x: F.relu(x) * 2), "Act"),
        (act(lambda x: x * torch.sigmoid(1.5 * x)), "Act"),
        (Trained(), "Trained"),
    ],
)
def test_find_activations_names_a_module_by_its_function(module, name):
    model = nn.Sequential(nn.Linear(4, 4), module)
    assert list_paths(model) == {name: ["1"]}
    for key in (name, type(module), "1"):
        assert isinstance(swap(model, {key: nn.Tanh})[1], nn.Tanh)


@pytest.mark.parametrize(
    "module",
    [
        act(lambda x: x),
        act(lambda x: 2 * x - 1),
        act(lambda x: x - x.mean()),
        act(lambda x: x.cumsum(-1)),
        act(lambda x: torch.softmax(x, -1)),
        act(lambda x: x + torch.randn_like(x)),
        act(lambda x: x.log()),
        act(lambda x: x.flatten(1)),
        act(lambda x: x > 0),
        act(lambda x: x.reshape(-1, 2).sin()),
        Dropped(),
    ],
)
def test_find_activations_omits_modules_that_are_not_elementwise(module):
    model, state = nn.Sequential(nn.Linear(4, 4), module), torch.get_rng_state()
    assert list_paths(model) == {}
    assert torch.equal(torch.get_rng_state(), state)


def test_swap_by_torch_class_matches_modules_with_the_same_function():
    model = nn.Sequential(act(lambda x: x * torch.sigmoid(x)), SubclassOfReLU())
    assert isinstance(swap(model, {nn.SiLU: nn.Tanh})[0], nn.Tanh)
    with pytest.raises(UsageError, match="nothing in the model matches ReLU"):
        swap(model, {nn.ReLU: nn.Tanh})
    with pytest.raises(UsageError, match=r"nothing in the model matches 'sigmoid'; the model has silu \(0\)"):
        swap(model, {"sigmoid": "tanh"})


def test_swap_replaces_a_call_inside_an_unknown_activation():
    model, x = nn.Sequential(Doubled()), torch.randn(5)
    torch.testing.assert_close(swap(model, {"relu": "tanh"})[0](x), torch.tanh(x) * 2)


def test_swap_suggests_the_nearest_class_name():
    with pytest.raises(UsageError, match=r"'Trainer' is neither a catalogue name nor a path .* 'Trained'"):
        swap(nn.Sequential(Trained()), {"Trainer": "tanh"})


def test_measure_compares_only_torch_classes_with_torch():
    assert [row.name for row in measure([SubclassOfReLU()], shape=(8,)).rows] == ["SubclassOfReLU"]

"""Which places of a model swap changes, and the table of places."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from actlab import UsageError, swap
from actlab.models import find_activations
from tests.swaps import Functional, list_paths, one_thread

__all__ = ["one_thread"]


class Squeeze(nn.Module):
    """A squeeze-and-excitation block in the style of torchvision."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 2), nn.Linear(2, 4)
        self.activation, self.scale_activation = nn.ReLU(), nn.Sigmoid()

    def forward(self, x):
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(x))))


class Attention(nn.Module):
    def forward(self, x):
        weights = (x @ x.mT).softmax(-1)
        return F.scaled_dot_product_attention(weights @ x, x, x) + torch.softmax(x, -1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act, self.se, self.attention = nn.Linear(4, 4), nn.GELU(), Squeeze(), Attention()

    def forward(self, x):
        x = self.se(self.act(self.fc(x)))
        return F.silu(self.attention(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.layers = nn.ReLU(), nn.Sequential(Layer(), Layer())

    def forward(self, x):
        return self.layers(self.stem(x))


SILU = f"forward:{Layer.forward.__code__.co_firstlineno + 2}"
LAYER = [SILU, "act", "se.activation"]
FIRST, SECOND = ([f"layers.{number}.{name}" for name in LAYER] for number in (0, 1))


def list_replaced(*arguments, **options):
    """Return the paths that a swap of the network replaces; it replaces exactly those."""
    model = Net()
    replaced = [place.path for place in find_activations(model, *arguments, **options) if place.replacement]
    swapped = swap(model, *arguments, **options)
    changed = [place.path for place in find_activations(swapped) if place.activation == "softsign"]
    assert [path for path in changed if "activation1" not in path] == [p for p in replaced if ":" not in p]
    assert sum("activation1" in path for path in changed) == sum(":" in path for path in replaced)
    return replaced


def test_swap_replaces_every_activation_but_gates():
    assert list_replaced("softsign") == ["stem", *FIRST, *SECOND]
    x = torch.randn(2, 3, 4)
    assert not torch.allclose(swap(Net(), "softsign")(x), Net()(x))


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"only": "stem"}, ["stem"]),
        ({"only": "layers.0"}, FIRST),
        ({"only": "layers.*.act"}, [FIRST[1], SECOND[1]]),
        ({"only": "*act*"}, [FIRST[1], FIRST[2], SECOND[1], SECOND[2]]),
        ({"only": f"layers.1.{SILU}"}, SECOND[:1]),
        ({"only": ["stem", "layers.1.act"]}, ["stem", SECOND[1]]),
        ({"only": nn.GELU}, [FIRST[1], SECOND[1]]),
        ({"only": nn.SiLU}, [FIRST[0], SECOND[0]]),
        ({"only": Squeeze}, [FIRST[2], SECOND[2]]),
        ({"only": nn.Sequential, "except_": Squeeze}, [*FIRST[:2], *SECOND[:2]]),
        ({"only": 1}, ["stem"]),
        ({"only": 3}, [*FIRST[:2], *SECOND[:2]]),
        ({"only": lambda path, module: isinstance(module, nn.ReLU)}, ["stem", FIRST[2], SECOND[2]]),
        ({"only": lambda path, module: isinstance(module, Layer)}, [FIRST[0], SECOND[0]]),
        ({"except_": lambda path, module: path.startswith("layers.")}, ["stem"]),
        ({"except_": ["layers.0", 1]}, SECOND),
        ({"except_": "layers.*"}, ["stem"]),
    ],
)
def test_swap_replaces_only_the_chosen_places(options, paths):
    assert list_replaced("softsign", **options) == paths


def test_swap_only_restricts_the_keys_of_a_dictionary():
    assert list_replaced({"relu": "softsign", nn.Sigmoid: "softsign"}, only="layers.1") == [
        "layers.1.se.activation",
        "layers.1.se.scale_activation",
    ]
    assert list_replaced({"layers.0.act": "softsign", f"layers.0.{SILU}": "softsign"}) == FIRST[:2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"only": "layer.0"},
            "swap: only: 'layer.0' is no path of an activation in the model (did you mean",
        ),
        (
            {"except_": ["stem", "steam"]},
            "except_: 'steam' is no path of an activation in the model (did you",
        ),
        ({"only": "layers.0.fc"}, "only: 'layers.0.fc' is no path of an activation in the model"),
        ({"only": nn.Tanh}, "only: the model has no activation that is, or is in, a Tanh"),
        ({"only": 9}, "only: no activation has the depth 9; the depths are [1, 3, 4]"),
        ({"only": lambda path, module: False}, "only: the function selects no activation in the model"),
        ({"only": 1.5}, "only must be a path, a class, a depth or a function, got 1.5"),
        ({"only": {"a": 1}}, "only: 'a' is no path"),
        (
            {"only": "stem", "except_": "stem"},
            "only and except_ exclude everything that the replacements match",
        ),
        (
            {"only": "sten", "except_": "layerz"},
            "is no path of an activation in the model (did you mean 'stem'?); s",
        ),
    ],
)
def test_swap_rejects_wrong_places_in_one_line(options, message):
    for function in (swap, find_activations):
        with pytest.raises(UsageError) as error:
            function(Net(), "mish", **options)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Softmax(-1))])
def test_swap_rejects_a_model_with_nothing_to_replace(model):
    with pytest.raises(
        UsageError, match="nothing in the model matches all activations; the model has no act"
    ):
        swap(model, "mish")


def test_swap_names_the_gates_of_a_model_without_other_activations():
    with pytest.raises(UsageError, match=r"nothing in the model matches all activations.* sigmoid \(1\)"):
        swap(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "mish")


# -- the table --------------------------------------------------------------------------------------------


def test_find_activations_gives_the_reason_of_every_other_place():
    places = find_activations(Net(), "mish", only="layers.0")
    reasons = {place.path: place.reason for place in places if not place.replacement}
    line = Attention.forward.__code__.co_firstlineno
    attention = dict.fromkeys(
        (f"layers.0.attention.forward:{line + n}" for n in (1, 2)), "it normalizes along a dimension"
    )
    assert {path: reason for path, reason in reasons.items() if path.startswith("layers.0")} == {
        **attention,
        "layers.0.se.scale_activation": "it may be a gate; name it to replace it",
    }
    assert {reason for path, reason in reasons.items() if not path.startswith("layers.0")} == {
        "not selected by only"
    }
    assert [place.code for place in places if place.path.startswith("layers.0.attention")] == [
        f"x.softmax, test_swapping_places.py:{line + 1}",
        f"F.scaled_dot_product_attention, test_swapping_places.py:{line + 2}",
        f"torch.softmax, test_swapping_places.py:{line + 2}",
    ]


@pytest.mark.parametrize(
    ("module", "activation", "reason"),
    [
        (nn.LSTM(4, 4), "sigmoid, tanh", "it is in the compiled code of torch.nn.LSTM"),
        (nn.RNNCell(4, 4), "tanh or relu", "it is in the compiled code of torch.nn.RNNCell"),
        (nn.MultiheadAttention(4, 2), "softmax", "it is in the compiled code of torch.nn.MultiheadAttention"),
        (nn.Softmax(-1), "softmax", "it normalizes along a dimension"),
        (nn.GLU(), "glu", "it is a gated unit, whose output is smaller than its input"),
        (nn.Hardsigmoid(), "hardsigmoid", "it may be a gate; name it to replace it"),
    ],
)
def test_find_activations_lists_what_another_activation_does_not_replace(module, activation, reason):
    (place,) = find_activations(nn.Sequential(module))
    assert (place.path, place.activation, place.reason) == ("0", activation, reason)


def test_find_activations_prints_a_table_and_plain_values():
    places = find_activations(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Softmax(-1))), {"0": "mish"})
    assert str(places).splitlines() == [
        "path  activation  code             depth  replacement  reason",
        "0     relu        ReLU()           1      Mish()",
        "1.0   softmax     Softmax(dim=-1)  2                   it normalizes along a dimension",
    ]
    assert places.to_json()[0] == {
        "path": "0",
        "activation": "relu",
        "code": "ReLU()",
        "depth": 1,
        "replacement": "Mish()",
        "reason": "",
    }


def test_find_activations_does_not_change_the_model():
    model = Net()
    parts, x = list(model.modules()), torch.randn(2, 3, 4)
    expected = model(x)
    find_activations(model, "mish", except_="stem")
    assert list(model.modules()) == parts
    assert type(model.layers[0]) is Layer
    assert torch.equal(model(x), expected)


# -- what stays ------------------------------------------------------------------------------------------


def test_swap_keeps_hooks_of_replaced_modules():
    seen = []
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    handle = model[1].register_forward_hook(lambda module, args, output: output + 1)
    model[1].register_forward_pre_hook(lambda module, args: seen.append("pre"))
    model[1].register_full_backward_hook(lambda module, grads, outputs: seen.append("backward"))
    x = torch.randn(3, 4)
    swapped = swap(model, "tanh", inplace=True)
    y = swapped(x)
    assert torch.equal(y, torch.tanh(model[0](x)) + 1)
    y.sum().backward()
    assert seen == ["pre", "backward"]
    handle.remove()
    assert torch.equal(swapped(x), torch.tanh(model[0](x)))


def test_swap_keeps_weights_dtype_and_requires_grad():
    model = Net().to(torch.bfloat16).eval().requires_grad_(False)
    model.layers[1].double()
    state = copy.deepcopy(model.state_dict())
    swapped = swap(model, "prelu", only=[nn.GELU, "stem"])
    assert swapped.layers[0].act.weight.dtype == torch.bfloat16
    assert swapped.layers[1].act.weight.dtype == torch.float64
    assert not any(part.training for part in swapped.modules())
    swapped = swap(model, "mish")
    assert swapped.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in swapped.state_dict().items())
    assert not any(weight.requires_grad for weight in swapped.parameters())


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.scale.sigmoid() + self.scale.softmax(-1)


def test_swap_replaces_methods_of_parameters():
    model, x = Scaled(), torch.randn(2, 4)
    assert [place.activation for place in find_activations(model)] == ["sigmoid", "softmax"]
    swapped = swap(model, {"sigmoid": torch.cos})
    assert torch.equal(swapped(x), x * model.scale.cos() + model.scale.softmax(-1))


# -- functions of one expression ------------------------------------------------------------------------


def gelu(x):
    """Return the Gaussian error linear unit, as in the ESM models."""
    return x * 0.5 * (1.0 + torch.erf(x / 2.0**0.5))


def swish(x, beta=1.0):
    return x * torch.sigmoid(beta * x)


def shift(x):
    return x + 1


class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = swish

    def forward(self, x):
        return shift(gelu(x)) * self.act(x)


def test_swap_replaces_python_functions_of_one_expression():
    model, x = Written(), torch.randn(5)
    line = Written.forward.__code__.co_firstlineno + 1
    assert list_paths(model) == {"gelu": [f"forward:{line}"], "silu": ["act"]}
    expected = (F.mish(x) + 1) * torch.tanh(x)
    assert torch.equal(swap(model, {"gelu": F.mish, "silu": torch.tanh})(x), expected)
    assert torch.equal(swap(model, {nn.GELU: F.mish, nn.SiLU: torch.tanh})(x), expected)


@pytest.mark.parametrize("inplace", [False, True])
def test_swap_replaces_all_calls_of_a_model_without_its_own_modules(inplace):
    model, x = Functional(), torch.randn(2, 4)
    expected = F.mish(model.third(F.mish(model.second(F.mish(model.first(x))))))
    torch.testing.assert_close(swap(model, F.mish, inplace=inplace)(x), expected)

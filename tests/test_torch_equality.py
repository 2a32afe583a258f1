"""Values and first-layer gradients of basic activations equal those of torch exactly."""

import numpy as np
import pytest
import torch

import actlab

FOUR = [
    (actlab.nn.ReLU, torch.nn.ReLU, {}),
    (actlab.nn.LeakyReLU, torch.nn.LeakyReLU, {"negative_slope": 0.2}),
    (actlab.nn.Sigmoid, torch.nn.Sigmoid, {}),
    (actlab.nn.Tanh, torch.nn.Tanh, {}),
]


def first_layer_gradients(activation: torch.nn.Module) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), activation, torch.nn.Linear(3, 1))
    model(torch.ones(1, 2)).backward()
    return [parameter.grad for parameter in model[0].parameters()]


@pytest.mark.parametrize(("ours", "theirs", "arguments"), FOUR, ids=lambda v: getattr(v, "__name__", ""))
def test_first_layer_gradients_equal_torch(ours, theirs, arguments):
    for got, expected in zip(
        first_layer_gradients(ours(**arguments)), first_layer_gradients(theirs(**arguments)), strict=True
    ):
        assert torch.equal(got, expected)


def test_relu_passes_no_gradient_to_inactive_units():
    linear = torch.nn.Linear(2, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]))
        linear.bias.zero_()
    actlab.functional.relu(linear(torch.ones(1, 2))).sum().backward()
    # The inputs of the activation are 2, -2 and exactly 0.
    assert linear.weight.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_relu_passes_no_gradient_at_zero(zero):
    x = torch.tensor([zero], requires_grad=True)
    actlab.functional.relu(x).backward()
    assert x.grad.item() == 0.0


def test_leaky_relu_gradient_at_zero_is_its_slope():
    x = torch.zeros(1, requires_grad=True)
    actlab.functional.leaky_relu(x, 0.25).backward()
    assert x.grad.item() == 0.25


@pytest.mark.parametrize(("ours", "theirs", "arguments"), FOUR, ids=lambda v: getattr(v, "__name__", ""))
def test_function_and_module_equal_torch_bit_for_bit(ours, theirs, arguments):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 7)) * 3)
    name = ours.activation.name
    assert torch.equal(ours(**arguments)(x), theirs(**arguments)(x))
    assert torch.equal(getattr(actlab.functional, name)(x, **arguments), theirs(**arguments)(x))


def test_elementwise_rejects_a_formula_that_changes_the_shape():
    facts = {
        "formula": "x",
        "limits": (0, 0),
        "slopes": (0, 0),
        "range": (0, 0),
        "monotonic": True,
        "paper": "-",
    }

    @actlab.elementwise(**facts)
    def halved(x):
        return x[:1]

    @halved.derivative
    def _(x):
        return x

    message = r"halved: the result must have the shape of the input, got \(1, 3\) for \(2, 3\)"
    with pytest.raises(ValueError, match=message):
        halved(torch.ones(2, 3))

    @actlab.elementwise(**facts)
    def short(x):
        return x * 1

    @short.derivative
    def _(x):
        return x.new_ones(4, 1, 1)

    with pytest.raises(ValueError, match=r"short: the result .* got \(4, 2, 3\) for \(2, 3\)"):
        short(torch.ones(2, 3, requires_grad=True)).sum().backward()

"""Derived activations save the output for backward if it determines the derivative without loss of digits."""

from __future__ import annotations

import re

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

import actlab
from actlab.derivation.formula_activation import formula
from actlab.derivation.formula_derivation import derive
from actlab.derivation.syntax.to_sympy import read_formula
from tests import conformance as law
from tests.derivations import NAMES, derive_activation, numbers
from tests.exact_values import bound, errors

# Definitions that save the output, while their formulas save the input, with the reason.
SAVE_THE_INPUT = {
    "hardsigmoid": "beside its kinks rounding makes the output that of the kink",
}


def insert_parameters(name: str) -> str:
    """Return the textbook formula of an entry with the values of its parameters inserted."""
    entry = actlab.catalogue[name]
    text = entry.formula()
    for parameter, value in numbers(entry.example).items():
        text = re.sub(rf"\b{parameter}\b", f"({value!r})", text)
    return text


def kind(name: str) -> str:
    entry = actlab.catalogue[name]
    saves = entry.facts.saves
    return saves(**entry.example) if callable(saves) else saves


BY_OUTPUT = [name for name in NAMES if kind(name) == "output"]


@pytest.mark.parametrize("name", BY_OUTPUT)
def test_derive_saves_the_same_tensor_as_the_catalogue_entry(name):
    derived = derive(read_formula(insert_parameters(name)), {})
    assert derived.saves == ("input" if name in SAVE_THE_INPUT else "output")
    assert derived.inexact == ()


@pytest.mark.parametrize("name", "sigmoid elu exponential relu6 isru softplus sparse_plus".split())
def test_derivative_from_output_is_as_exact_as_the_catalogue_entry(name):
    derived, activation = derive_activation(insert_parameters(name), {})
    assert derived.saves == "output"
    for dtype in (torch.float64, torch.float32):
        for order, worst in errors(activation, dtype).items():
            assert worst.error <= bound(order, dtype), f"{order} of {name} in {dtype}: {worst}"
        law.limits(activation, dtype)
    law.kinks(activation)
    law.differentiable(activation)
    law.dtypes(activation)
    law.transforms(activation)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sigmoid", "isrlu", "sparse_plus"])
def test_derivative_from_output_compiles(name):
    law.compiles(derive_activation(insert_parameters(name), {})[1])


def saved_tensor_of(activation) -> str:
    """Return whether backward saves the input or the output."""
    saved = []
    x = torch.linspace(-3, 3, 2**17, requires_grad=True)  # for small tensors torch may save either
    with saved_tensors_hooks(lambda tensor: saved.append(tensor.data_ptr()), lambda _: None):
        y = activation(x)
    (place,) = saved
    return {x.data_ptr(): "input", y.data_ptr(): "output"}[place]


@pytest.mark.parametrize(
    ("text", "expected", "derivative"),
    [
        ("exp(-x)", "output", "-y"),
        ("tanh(x)", "output", "1.0 - y * y"),
        ("sigmoid(2*x)*3 - 1", "output", "-((y + 1.0) * (y - 2.0) * 2.0 / 3.0)"),
        ("log(1 + exp(3*x)) / 3", "output", "-numerics.expm1(-(y * 3.0))"),
        ("elu(x, 0.5)", "output", "elementary.above(y, 0.0, 1.0, y + 0.5)"),
        ("where(x > 0, x, x/4)", "output", "elementary.above(y, 0.0, 1.0, 0.25)"),
        ("abs(x)", "input", None),  # it turns back
        ("x * tanh(softplus(x))", "input", None),
        ("sin(x)", "input", None),  # the output does not determine the sign of the derivative
        ("erf(x)", "input", None),  # no law of the kind
        ("clip(x, -0.3, 0.7)", "input", None),  # in float16 an output can be rounded across these bounds
    ],
)
def test_formula_saves_input_or_output(text, expected, derivative):
    activation = formula(text)
    assert activation.facts.saves == saved_tensor_of(activation) == expected
    if derivative is not None:
        assert f"def _(y):\n    return {derivative}\n" in activation.source()


def test_formula_with_parameters_saves_the_input():
    """The derivative from the output would change with the parameters, and a negative slope has none."""
    activation = formula("where(x > 0, x, a*x)", parameters={"a": 0.1})
    assert saved_tensor_of(activation) == "input"
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    activation(x, a=-0.5).sum().backward()
    assert x.grad.tolist() == [-0.5, 1.0]

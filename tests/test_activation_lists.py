"""Activations in a list: names, definitions and formulas are resolved; what is none is rejected."""

import pytest
import torch

import actlab
from actlab import UsageError
from actlab.spec import resolve_all
from tests.test_comparison import SHORT, dataset, scores  # noqa: F401 - a fixture

NO_ACTIVATION = "is not an activation; pass a name such as 'relu', an nn.Module, its class, or a function"
SWISH = "x * sigmoid(beta * x)"


def test_resolve_all_returns_the_specs_of_definitions():
    activations = (
        "relu",
        actlab.functional.mish,
        actlab.catalogue["leaky_relu"],
        actlab.formula("x*tanh(x)"),
        actlab.formula(SWISH, parameters={"beta": 1e-5}),
        actlab.formula("a*x + b*x**3", parameters={"a": 1, "b": -0.1}),
    )
    assert [activation.spec for activation in resolve_all(activations)] == [
        "relu",
        "mish",
        "leaky_relu",
        "formula:x*tanh(x)",
        f"formula:{SWISH} with beta=1e-05",
        "formula:a*x + b*x**3 with a=1.0, b=-0.1",
    ]


def test_compare_with_definitions_equals_compare_with_specs(dataset):  # noqa: F811
    cubic = actlab.formula("x*tanh(a*x)", parameters={"a": 2})
    comparison = actlab.compare([actlab.functional.tanh, cubic], dataset, tune=None, **SHORT)
    same = actlab.compare(["tanh", "formula:x*tanh(a*x) with a=2.0"], dataset, tune=None, **SHORT)
    assert scores(comparison).equals(scores(same))
    assert comparison.about["activations"] == ["tanh", "formula:x*tanh(a*x) with a=2.0"]


def test_compare_rejects_a_definition_together_with_its_name(dataset):  # noqa: F811
    with pytest.raises(UsageError, match=r"^activation 'relu' is given twice$"):
        actlab.compare(["relu", actlab.functional.relu], dataset, tune=None, **SHORT)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, f"activations[1]: None {NO_ACTIVATION}"),
        ([torch.nn.ReLU()], f"activations[1]: [ReLU()] {NO_ACTIVATION}"),
        ("reluu", "unknown activation 'reluu' (did you mean 'relu'?)"),
    ],
)
def test_resolve_all_rejects_what_is_no_activation(value, message):
    with pytest.raises(UsageError) as caught:
        resolve_all(["relu", value])
    assert str(caught.value) == message


def test_resolve_all_reports_all_problems_together():
    with pytest.raises(UsageError) as caught:
        resolve_all([2, "relu", "tanhh"])
    assert str(caught.value) == (
        f"activations[0]: 2 {NO_ACTIVATION}; unknown activation 'tanhh' (did you mean 'tanh'?)"
    )


@pytest.mark.parametrize(
    ("activations", "shown"),
    [
        ("relu", "'relu'"),
        (3, "3"),
        (torch.nn.Sequential(torch.nn.ReLU()), "Sequential"),
        (torch.nn.Tanh, "Tanh"),
    ],
)
def test_resolve_all_rejects_a_single_activation(activations, shown):
    with pytest.raises(UsageError) as caught:
        resolve_all(activations)
    assert str(caught.value) == f"activations is {shown}, not a list such as ['relu', torch.nn.Tanh()]"

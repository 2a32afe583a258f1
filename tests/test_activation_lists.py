"""Activations in a list: names, definitions and formulas are resolved; others are rejected with advice."""

import pytest
import torch

import actlab
from actlab import UsageError
from actlab.spec import resolve_all
from tests.test_comparison import SHORT, dataset, scores  # noqa: F401 - a fixture

SWISH = "x * sigmoid(beta * x)"


class Own(torch.nn.Module):
    def forward(self, x):
        return x


def halve(x):
    return x


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


def make_local_module():
    class Inner(torch.nn.Module):
        pass

    return Inner()


ADVICE = "which a formula spec cannot express completely; put it into a file and pass its name: "


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        (torch.nn.GELU(), "an instance of GELU; pass its name: 'torch.nn:GELU' or 'my_layers.py:Name'"),
        (torch.nn.GELU, "the class GELU; pass its name: 'torch.nn:GELU' or 'my_layers.py:Name'"),
        (actlab.nn.Mish(), "an instance of Mish; pass its name: 'actlab.nn:Mish' or 'my_layers.py:Name'"),
        (Own(), f"an instance of Own; pass its name: '{__name__}:Own' or 'my_layers.py:Name'"),
        (make_local_module(), "an instance of Inner; pass its name: 'my_layers.py:Inner'"),
        (halve, "the function halve; pass its name: "
         f"'{__name__}:halve' or 'my_layers.py:Name'"),
        (lambda x: x, "a lambda; write it as a function in a file and pass its name: 'my_layers.py:name'"),
        (torch.tanh, "a builtin_function_or_method; write it as a function in a file and pass its name: "
         "'my_layers.py:name'"),
        (None, "None, not a spec such as 'relu'"),
        (actlab.formula("x*tanh(x)", name="mine"),
         f"actlab.formula('x*tanh(x)', name='mine'), {ADVICE}'my_layers.py:mine'"),
        (actlab.formula("max(x, 0)", at={0: 0.5}),
         f"actlab.formula('max(x, 0)', at={{0.0: 0.5}}), {ADVICE}'my_layers.py:max_x_0'"),
        (actlab.formula("a*x*tanh(x)", parameters={"a": 1}, trainable=["a"]),
         "actlab.formula('a*x*tanh(x)', parameters={'a': 1.0}, trainable=('a',)), "
         f"{ADVICE}'my_layers.py:a_x_tanh_x'"),
    ],
)  # fmt: skip
def test_resolve_all_rejects_activations_without_spec_and_gives_advice(activations, message):
    with pytest.raises(UsageError) as caught:
        resolve_all(["relu", activations])
    assert str(caught.value) == f"activations[1] is {message}"


def test_resolve_all_reports_all_activations_without_spec_together():
    with pytest.raises(UsageError) as caught:
        resolve_all([torch.nn.ReLU(), "relu", 2])
    assert str(caught.value) == (
        "activations[0] is an instance of ReLU; pass its name: 'torch.nn:ReLU' or 'my_layers.py:Name'; "
        "activations[2] is 2, not a spec such as 'relu'"
    )


@pytest.mark.parametrize(
    ("activations", "message"),
    [("relu", "'relu'"), (3, "3"), (torch.nn.Sequential(torch.nn.ReLU()), "an instance of Sequential")],
)
def test_resolve_all_rejects_a_single_activation(activations, message):
    with pytest.raises(UsageError) as caught:
        resolve_all(activations)
    assert str(caught.value) == f"activations is {message}, not a list of specs such as ['relu', 'tanh']"

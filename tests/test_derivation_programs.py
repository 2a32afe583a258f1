"""Programs of formulas: branches, clamps, torch equivalents and in-place steps."""

from __future__ import annotations

import pytest
import torch

import actlab
from actlab.activation import numerics
from actlab.derivation import elementary
from actlab.derivation.analysis.piecewise import find_ramp, split_into_pieces
from actlab.derivation.codegen.program import Program
from actlab.derivation.codegen.program_functions import Sigmoid, Tanh, recognize_functions
from actlab.derivation.syntax.to_sympy import read_formula
from tests.derivations import derive_activation, from_catalogue
from tests.exact_values import bound, errors

inf, nan = torch.inf, torch.nan
BORDERS = [-inf, -3.0, -0.1, -1e-45, 0.0, 1e-45, 0.1, 3.0, inf]


def lines(text, order=0, **parameters):
    derived, _ = derive_activation(text, parameters)
    return (derived.forward, derived.derivative)[order].to_python()


def calls(function, *args):
    """Return the names of the torch operations that a call runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function(*args)
    return {event.key for event in profile.key_averages()}


# -- branches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("border", [0.0, -0.1, 0.1, 3.0])
@pytest.mark.parametrize(("name", "compare"), [("above", torch.gt), ("at_least", torch.ge)])
def test_kernel_branches_are_exact_at_borders_and_next_to_infinities(dtype, border, name, compare):
    x = torch.tensor(BORDERS, dtype=dtype)
    close = [torch.nextafter(x, torch.tensor(to, dtype=dtype)) for to in (-inf, inf)]
    x = torch.cat([x, *close])
    for yes, no in ((torch.exp(100 * x), -x), (x, 0.0), (2.0, x), (1.0, 0.25), (0.0, 0.0)):
        sides = [side if isinstance(side, torch.Tensor) else torch.full_like(x, side) for side in (yes, no)]
        result = getattr(elementary, name)(x, border, yes, no)
        assert torch.equal(result, torch.where(compare(x, border), *sides))


def test_kernel_between_uses_an_open_interval():
    x = torch.tensor(BORDERS)
    assert elementary.between(x, -0.1, 3.0, 0.5).tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0]


def test_kernel_branches_have_the_gradient_of_the_chosen_side():
    x = torch.tensor([-2.0, 0.0, 2.0], requires_grad=True)
    elementary.above(x, 0.0, x * x, torch.exp(x)).sum().backward()
    assert x.grad.tolist() == pytest.approx([torch.e**-2, 1.0, 4.0])


def test_programs_do_not_use_where():
    """On a CPU torch.where takes thirty times as long as an addition."""
    derived, _ = derive_activation("where(x > 1, x, where(x < -1, exp(x), x / 3))", {})
    x = torch.linspace(-3, 3, 101)
    for program in (derived.forward, derived.derivative, derived.second):
        assert "aten::where" not in calls(program, x)


# -- clamps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max(x, 0)", "return torch.clamp_min(x, 0.0)"),
        ("min(max(x, 0), 6)", "return torch.clamp(x, 0.0, 6.0)"),
        ("min(max(x + 3, 0), 6) / 6", "return torch.clamp(x * 0.16666666666666666 + 0.5, 0.0, 1.0)"),
        ("clip(2*x, -1, 3)", "return torch.clamp(x * 2.0, (-1.0), 3.0)"),
    ],
)
def test_program_of_a_ramp_is_a_clamp(text, expected):
    assert lines(text) == [expected]


@pytest.mark.parametrize("text", ["min(-x, 0)", "where(x > 1, x, 0)", "max(x**2, 1)", "where(x < 0, x, 1)"])
def test_find_ramp_ignores_other_pieces(text):
    assert find_ramp(split_into_pieces(read_formula(text))) is None


def test_program_of_a_slope_between_kinks_is_one_step():
    assert lines("clip(x, -1, 2)", 1) == ["return elementary.between(y, (-1.0), 2.0, 1.0)"]


def test_program_uses_one_form_on_the_whole_line():
    assert lines("x * (1 + erf(x / sqrt(2))) / 2") == [
        "v1 = torch.clamp_min(x, (-1e+18))",
        "return elementary.normal_cdf(v1) * v1",
    ]


# -- torch equivalents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parameters", "operation"),
    [
        ("max(x, 0)", {}, "aten::relu"),
        ("where(x > t, x, v)", {"t": 0.5, "v": -2}, "aten::threshold"),
        ("where(x > 0, x, 0.1*x)", {}, "aten::leaky_relu_"),
        ("x * where(x <= 0, s, 1)", {"s": 0.75}, "aten::leaky_relu"),
        ("clip(x, a, b)", {"a": -1, "b": 2}, "aten::hardtanh"),
        ("x * where(abs(x) > c, 1, 0)", {"c": 0.5}, "aten::hardshrink"),
        ("x - clip(x, -0.5, 0.5)", {}, "aten::softshrink"),
        ("exp(x)", {}, "aten::exp"),
    ],
)
def test_formula_uses_the_torch_equivalent(text, parameters, operation):
    activation = actlab.formula(text, parameters=parameters)
    x = torch.linspace(-3, 3, 101, requires_grad=True)
    assert operation in calls(activation, x)
    y = activation(x)
    assert torch.equal(y, activation.formulas.forward(x.detach(), *activation.defaults))
    (slope,) = torch.autograd.grad(y.sum(), x)
    saved = y if activation.facts.saves == "output" else x
    assert torch.equal(slope, activation.formulas.derivative(saved.detach(), *activation.defaults))


def test_formula_saves_the_same_tensor_for_large_inputs():
    activations = [actlab.formula(text) for text in ("x - clip(x, -0.5, 0.5)", "max(x, 0)", "clip(x, -1, 2)")]
    few, many = torch.randn(2**10), torch.randn(2**17)
    assert {one.facts.saves for one in activations} == {"output"}
    shrink, relu, clip = activations
    assert "aten::softshrink" in calls(shrink, few)
    assert "aten::softshrink" not in calls(shrink, many)  # softshrink saves its input
    assert "aten::relu" in calls(relu, many)
    assert "aten::hardtanh_" in calls(clip, many)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("where(x >= 0, x, 0.1*x)", {}),  # its slope at 0 is 1
        ("max(x, 0)", {"at": {0: 0.5}}),
        ("where(x > 0, x, 0.1*x + 1)", {}),
        ("where(x > 0, x, a*x)", {"parameters": {"a": 0.1}, "trainable": ["a"]}),
        ("clip(x, -1, 1) * 2", {}),
    ],
)
def test_formula_ignores_a_torch_operation_that_differs_in_a_bit(text, options):
    assert actlab.formula(text, **options).formulas.torch_operation is None


def test_formula_torch_operation_depends_on_parameters():
    activation = actlab.formula("where(x > t, x, a*x)", parameters={"t": 0, "a": 0.1})
    x = torch.tensor([-1.0, 0.5, 2.0])
    assert activation(x).tolist() == pytest.approx([-0.1, 0.5, 2.0])
    assert activation(x, 1.0, 0.5).tolist() == [-0.5, 0.25, 2.0]
    assert activation.formulas.torch_operation(x, 1.0, 0.5) is None
    assert activation.formulas.torch_operation(x, 0.0, -2.0).tolist() == [2.0, 0.5, 2.0]


def test_recognize_finds_quotients_of_exponentials():
    x = read_formula("x")
    assert recognize_functions(read_formula("(exp(x) - exp(-x)) / (exp(x) + exp(-x))")) == Tanh(x)
    assert recognize_functions(read_formula("(1 - exp(x)) / (1 + exp(x))")) == -Tanh(x / 2)
    assert recognize_functions(read_formula("1 / (1 + exp(-x))")) == Sigmoid(x)
    assert not recognize_functions(read_formula("(exp(x) - 2) / (exp(x) + 2)")).has(Tanh)


# -- execution -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mish", "sinlu", "squareplus", "tanhshrink", "hardswish"])
def test_program_in_place_steps_give_the_same_bits(name):
    derived, activation = from_catalogue(name)
    for program in (derived.forward, derived.derivative, derived.second):
        x = torch.linspace(-30, 30, 1001)
        original = x.clone()
        values = activation.defaults
        with torch.enable_grad():
            plain = program(x, *values)
        with torch.no_grad():
            assert torch.equal(program(x, *values), plain)
        assert torch.equal(x, original)


def test_program_does_not_overwrite_a_value_used_twice():
    from actlab.derivation.codegen.program import Step

    program = Program(("x",), (Step("exp", (0,)), Step("add", (1, 1.0)), Step("mul", (1, 2))))
    with torch.no_grad():
        assert program(torch.tensor([0.0])).tolist() == [2.0]


def test_derived_activation_is_exact_with_kernel_functions():
    """x - tanh(x) loses digits with the kernel's tanh, but not with torch's."""
    _, activation = from_catalogue("tanhshrink")
    with numerics.force_compiled_forms():
        worst = errors(activation, torch.float32)
    for order, result in worst.items():
        assert result.error <= bound(order, torch.float32), f"{order}: {result}"
    assert not numerics.uses_compiled_forms()

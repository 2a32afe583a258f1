"""Unused branches of a formula do not affect its derivatives, even if they overflow."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from actlab.derivation.codegen.nan_guards import find_nan_derivatives, guard_against_nan
from actlab.derivation.codegen.program import Program, Step
from actlab.derivation.formula_activation import formula

pytestmark = pytest.mark.filterwarnings("ignore::actlab.FormulaWarning")

TRAINED = [
    ("a*x + where(x > 0, x, b*(exp(x) - 1))", {"a": 0.1, "b": 2}),
    ("where(x > t, x, a*exp(x - t))", {"t": 0.5, "a": 1}),
    ("where(x > t, log(1 + x - t), a*(x - t))", {"t": 0.5, "a": 1}),
    ("a*x / (1 + x**2)", {"a": 1}),
    ("x * exp(-a*x**2)", {"a": 0.5}),
    ("x * tanh(a*exp(x))", {"a": 1}),
    ("where(x < 0, a*x**3, where(x < 1, x**2, exp(-x)))", {"a": 0.5}),
]
EXTREME = [0.0, 1e-30, 0.75, 3.0, 36.0, 89.0, 120.0, 710.0, 759.0, 1e6, 1e20, 1e30]


def extreme(dtype):
    return torch.tensor([*(-x for x in EXTREME), *EXTREME], dtype=dtype)


def derivatives(activation, x, values):
    """Return the value and its first and second derivatives by the input and all parameters."""
    inputs = [x.clone(), *(torch.full_like(x, value) for value in values)]
    inputs = [one.requires_grad_() for one in inputs]
    value = activation(*inputs)
    first = torch.autograd.grad(value.sum(), inputs, create_graph=True)
    second = []
    for one in first:
        if one.requires_grad:
            second += torch.autograd.grad(one.sum(), inputs, retain_graph=True, allow_unused=True)
    return value.detach(), [one.detach() for one in first], [one for one in second if one is not None]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("text", "parameters"), TRAINED)
def test_formula_derivatives_are_not_nan(text, parameters, dtype):
    activation = formula(text, parameters=parameters, trainable=list(parameters))
    start = list(map(float, parameters.values()))
    for values in (start, [v + 1 for v in start], [2 * v for v in start]):
        value, first, second = derivatives(activation, extreme(dtype), values)
        for one in (value, *first, *second):
            assert not one.isnan().any()


def test_formula_second_derivatives_next_to_an_overflow_are_exact():
    activation = formula(TRAINED[0][0], parameters=TRAINED[0][1], trainable=["a", "b"])
    x = torch.tensor([759.0, -1.0, -759.0], dtype=torch.float64)
    value, (by_x, by_a, by_b), second = derivatives(activation, x, (0.1, 2.0))
    e = math.exp(-1)
    assert value.tolist() == pytest.approx([834.9, -0.1 + 2 * (e - 1), -77.9], rel=1e-15)
    assert by_x.tolist() == pytest.approx([1.1, 0.1 + 2 * e, 0.1], rel=1e-15)
    assert by_a.tolist() == x.tolist()
    assert by_b.tolist() == pytest.approx([0, e - 1, -1], rel=1e-15)
    curvature, by_x_a, by_x_b, by_a_x, by_b_x = second
    assert curvature.tolist() == pytest.approx([0, 2 * e, 0], abs=1e-300)
    assert by_x_a.tolist() == by_a_x.tolist() == [1, 1, 1]
    assert by_x_b.tolist() == by_b_x.tolist() == pytest.approx([0, e, 0], abs=1e-300)


def test_formula_safe_point_moves_with_a_trained_threshold():
    """The logarithm in the unused branch has no value left of the threshold."""
    activation = formula(TRAINED[2][0], parameters=TRAINED[2][1], trainable=["t", "a"])
    for t in (-50.0, 0.0, 300.0):
        x = torch.tensor([t - 200.0, t + 1.0], dtype=torch.float64)
        _, _, second = derivatives(activation, x, (t, 1.0))
        assert second[0].tolist() == pytest.approx([0.0, -0.25])


@pytest.mark.slow
@pytest.mark.parametrize(("text", "parameters"), TRAINED[:3])
def test_formula_compiled_derivatives_are_not_nan(text, parameters):
    torch.compiler.reset()
    activation = formula(text, parameters=parameters, trainable=list(parameters))
    for dtype, sign in itertools.product((torch.float64, torch.float32), (-1, 1)):
        collected = []
        for wrap in (lambda f: f, lambda f: torch.compile(f, fullgraph=True)):
            module = activation.module_class(dtype=dtype)
            x = (sign * extreme(dtype)[len(EXTREME) :]).requires_grad_()
            y = wrap(module)(x)
            y.sum().backward()
            collected.append([y.detach(), x.grad, *(p.grad for p in module.parameters())])
        for eager, compiled in zip(*collected, strict=True):
            assert not compiled.isnan().any()
            torch.testing.assert_close(eager, compiled)


@pytest.mark.parametrize("text", ["where(x > 0, x, exp(x) - 1)", "gelu(x)", "x**2 / (1 + x**4)"])
def test_formula_third_derivative_is_not_nan(text):
    x = extreme(torch.float64)[len(EXTREME) :].requires_grad_()
    value = formula(text)(x)
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        assert not value.isnan().any()


@pytest.mark.parametrize("text", ["where(x > 0, x, a**2)", "where(x > a, x, a**2)"])
def test_formula_constant_piece_has_a_derivative_by_a_parameter(text):
    activation = formula(text, parameters={"a": 0.7}, trainable=["a"])
    x = torch.tensor([-3.0, 0.2, 1.4, 3.0], dtype=torch.float64, requires_grad=True)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(activation(x, a).sum(), a, create_graph=True)
    branches_taken = 1 if "x > 0" in text else 2
    assert slope.item() == pytest.approx(branches_taken * 2 * 0.7)
    (bend,) = torch.autograd.grad(slope, a)
    assert bend.item() == branches_taken * 2
    assert activation(torch.tensor([torch.nan]), a.detach().float()).isnan().all()


def test_guard_protects_both_sides_of_an_interval():
    x = torch.tensor([-800.0, -1.0, 1.0, 800.0], dtype=torch.float64)
    steps = (Step("exp", (0,)), Step("between", (0, -2.0, 2.0, 1)))
    bump = Program(("x",), steps)
    assert find_nan_derivatives(bump, x, ()).tolist() == [False, False, False, True]
    guarded = guard_against_nan(bump, x, ())
    assert not find_nan_derivatives(guarded, x, ()).any()
    assert torch.equal(guarded(x), bump(x))


def test_guard_changes_only_programs_with_nan_derivatives():
    x = torch.tensor([-800.0, -1.0, 1.0, 800.0], dtype=torch.float64)
    choice = Step("above", (0, 0.0, 0, 1))
    elu = Program(("x",), (Step("exp", (0,)), choice))
    leaky = Program(("x",), (Step("mul", (0, 0.1)), choice))
    assert find_nan_derivatives(elu, x, ()).tolist() == [False, False, False, True]
    assert guard_against_nan(leaky, x, ()) is leaky
    guarded = guard_against_nan(elu, x, ())
    assert not find_nan_derivatives(guarded, x, ()).any()
    assert torch.equal(guarded(x), elu(x))
    assert guarded.to_python() == [
        "return elementary.above(x, 0.0, x, torch.exp(elementary.above(x, 0.0, (-1.0), x)))"
    ]

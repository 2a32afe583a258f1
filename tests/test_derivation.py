"""Derived activations: their programs, and agreement with the definitions of the catalogue."""

from __future__ import annotations

import math

import pytest
import sympy
import torch

import actlab
from actlab.derivation.analysis.piecewise import MOST_PIECES, TooManyPieces, iterate_leaves, split_into_pieces
from actlab.derivation.codegen.lowering import ExprForm, lower_form
from actlab.derivation.codegen.program import NAMES, ProgramBuilder
from actlab.derivation.formula_derivation import derive
from actlab.derivation.syntax.to_sympy import X, read_formula
from tests import conformance as law
from tests.derivations import NAMES as CATALOGUE
from tests.derivations import (
    compile_lines,
    derive_activation,
    from_catalogue,
    numbers,
    programs,
    sample,
    slope,
)
from tests.exact_values import bound, errors

FAST = ("relu", "silu", "tanhshrink", "hardswish", "threshold", "swish")
SLOW = pytest.mark.slow
every_entry = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else SLOW) for name in CATALOGUE]
)
inf = math.inf


# -- against the catalogue ------------------------------------------------------------------------


@every_entry
def test_derived_activation_is_exact(name):
    derived, activation = from_catalogue(name)
    assert derived.inexact == ()
    for dtype in (torch.float64, torch.float32):
        for order, worst in errors(activation, dtype).items():
            assert worst.error <= bound(order, dtype), f"{order} of {name} in {dtype}: {worst}"
        law.limits(activation, dtype)


@every_entry
def test_derived_activation_has_the_facts_of_the_catalogue(name):
    derived, activation = from_catalogue(name)
    entry = actlab.catalogue[name]
    assert derived.limits == pytest.approx(entry.limits(), nan_ok=True)
    assert derived.slopes == pytest.approx(entry.slopes(), nan_ok=True)
    if name != "phish":  # its catalogue entry declares another infimum
        assert derived.range == pytest.approx(entry.range(), rel=1e-12)
    assert derived.monotonic == entry.facts.monotonic
    assert derived.kinks == pytest.approx({float(k): float(v) for k, v in entry.kinks().items()}, rel=1e-15)
    law.kinks(activation)
    law.range_and_monotonicity(activation)


@every_entry
def test_derived_activation_is_differentiable_in_every_mode(name):
    _, activation = from_catalogue(name)
    law.differentiable(activation)
    law.parameters_differentiable(activation)
    law.dtypes(activation)
    law.transforms(activation)


@every_entry
def test_derived_activation_compiles(name):
    _, activation = from_catalogue(name)
    law.compiles(activation)


@every_entry
def test_program_lines_give_the_same_bits(name):
    derived, _ = from_catalogue(name)
    values = tuple(numbers(actlab.catalogue[name].example).values())
    for program_of in programs(derived):
        function = compile_lines(program_of.to_python(), program_of.inputs, NAMES)
        for dtype in (torch.float64, torch.float32):
            x = sample().to(dtype)
            torch.testing.assert_close(
                function(x, *values), program_of(x, *values), rtol=0, atol=0, equal_nan=True
            )


# -- kinks and parameters ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "kinks"),
    [
        ("max(x, 0)", {0.0: 0.0}),  # one side is flat
        ("where(x > 0, x, 0.1 * x)", {0.0: 0.1}),  # the side that the formula takes
        ("where(x >= 0, x, 0.1 * x)", {0.0: 1.0}),
        ("where(x >= 0, x, 0)", {0.0: 0.0}),
        ("min(max(x, -1), 2)", {-1.0: 0.0, 2.0: 0.0}),
        ("abs(x) * x", {}),
    ],
)
def test_derive_sets_derivatives_at_kinks(formula, kinks):
    derived, _ = derive_activation(formula, {})
    assert derived.kinks == kinks
    at = torch.tensor(list(kinks), dtype=torch.float64)
    assert slope(derived, at).tolist() == list(kinks.values())


def test_derive_finds_kinks_between_floats():
    derived = derive(read_formula("max(x / 2, exp(x) - 1)"), {})
    assert list(derived.kinks) == [pytest.approx(-1.5936242600400401, rel=1e-15), 0.0]
    assert derived.kinks[0.0] == 1.0
    assert derived.inexact == ()


@pytest.mark.parametrize("chosen", [0.0, 0.5, 1.0])
def test_derive_at_sets_the_derivative_at_a_kink(chosen):
    derived = derive(read_formula("where(x > 0, x, 0.25 * x)"), {}, at={0: chosen})
    assert derived.kinks == {0.0: chosen}
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    assert slope(derived, x).tolist() == [0.25, chosen, 1.0]


def test_derived_kinks_move_with_parameters():
    derived, _ = derive_activation("where(x > threshold, x, value)", {"threshold": 0.5, "value": -0.25})
    x = torch.tensor([2.0, 3.0, 3.5])
    assert derived.forward(x, 3.0, 7.0).tolist() == [7.0, 7.0, 3.5]
    assert derived.derivative(x, 3.0, 7.0).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("beta", [-2.0, 0.01, 3.0, 50.0])
def test_derived_activation_is_exact_for_other_parameters(beta):
    derived, _ = derive_activation("x / (1 + exp(-beta * x))", {"beta": 1.0}, ("beta",))
    x = torch.linspace(-300, 300, 1001, dtype=torch.float64)
    entry = actlab.catalogue["swish"]
    torch.testing.assert_close(derived.forward(x, beta), entry(x, beta), rtol=1e-13, atol=1e-300)
    torch.testing.assert_close(
        derived.second(x, beta), entry.formulas.second(x, beta), rtol=1e-12, atol=1e-300
    )


@pytest.mark.parametrize("beta", [0.001, 0.3, 2.0])
def test_derived_activation_is_not_truncated_for_other_parameters(beta):
    derived, _ = derive_activation("x * tanh(exp(beta * x))", {"beta": 1.0})
    x = torch.linspace(-3, 3, 201, dtype=torch.float64) / beta
    e, t = torch.exp(beta * x), torch.tanh(torch.exp(beta * x))
    slope = 1 - t * t
    torch.testing.assert_close(derived.forward(x, beta), x * t)
    torch.testing.assert_close(derived.derivative(x, beta), t + x * beta * e * slope)
    second = beta * e * slope * (2 + beta * x * (1 - 2 * e * t))
    torch.testing.assert_close(derived.second(x, beta), second, rtol=1e-6, atol=1e-12)


def test_derive_reports_inexact_intervals():
    # There is no rule for the difference of two close logarithms.
    derived, _ = derive_activation("log(1 + x**2 + exp(sin(x))) - log(2 + x**2 + exp(sin(x)))", {})
    assert derived.inexact
    assert all("units of rounding" in sentence for sentence in derived.inexact)


def test_derive_reports_a_single_inexact_point():
    derived = derive(read_formula("asinh(x) / (1 + abs(x))"), {})
    assert "f at inf in float32: an error of inf units of rounding (4 are allowed)" in derived.inexact


def test_derived_activation_propagates_nan():
    for formula in ("max(x, 0)", "where(x > 1, 2, 3)", "where(x < 0, 0, min(x, 1))", "x * tanh(x)"):
        derived, _ = derive_activation(formula, {})
        assert derived.forward(torch.tensor([math.nan])).isnan().all(), formula


# -- parts of the derivation ----------------------------------------------------------------------


def test_builder_merges_equal_steps():
    build = ProgramBuilder(["x", "a"])
    first, second = build("mul", 0, 1), build("mul", 0, 1)
    assert first == second
    assert build("mul", 0, 1.0) != first  # the number 1 is not the parameter 1
    assert len(build.finish(first).steps) == 1


def test_program_of_parameters_has_the_shape_of_the_input():
    a = sympy.Symbol("a", real=True)
    for expression in (a, sympy.exp(a), sympy.Integer(3), X):
        program_of = lower_form(ExprForm(expression), ["a"])
        for value in (2.0, torch.tensor(2.0)):
            assert program_of(torch.zeros(3, 2), value).shape == (3, 2)


def test_split_into_pieces_uses_intervals():
    result = iterate_leaves(split_into_pieces(read_formula("min(max(x, -1), 1)")))
    assert [str(leaf.expression) for leaf in result] == ["x", "1", "-1"]


def test_split_into_pieces_rejects_too_many_pieces():
    text = "+".join(f"abs(sin({k} * x))" for k in range(1, MOST_PIECES))
    with pytest.raises(TooManyPieces):
        split_into_pieces(read_formula(text))


@pytest.mark.parametrize(("depth", "exact"), [(10, True), pytest.param(30, False, marks=SLOW)])
def test_derive_handles_many_nested_functions(depth, exact):
    derived = derive(read_formula("tanh(" * depth + "x" + ")" * depth), {})
    assert (derived.inexact == ()) is exact
    value, slope = 0.7, 1.0
    for _ in range(depth):
        value, slope = math.tanh(value), slope / math.cosh(value) ** 2
    x = torch.tensor(0.7, dtype=torch.float64)
    assert derived.forward(x).item() == pytest.approx(value, rel=1e-13)
    assert derived.derivative(x).item() == pytest.approx(slope, rel=1e-13)

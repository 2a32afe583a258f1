"""Any formula: it is derived without a crash, and what it gives is right or said to be inexact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from actlab.derivation.codegen.program import NAMES
from actlab.derivation.derived import derive
from actlab.derivation.syntax.to_sympy import read as to_sympy
from tests.derivations import printed, programs, sample
from tests.formulas import FORMULAS, check

# What was wrong once.
KNOWN = [
    "softplus(3)",
    "where(x > 1, abs(x), softplus(1))",
    "max(where(x > 0, -x, 0.5 * x), max(x, abs(2 * x)))",
    "min(atan(x), expm1(x) + x - 0.5 * x)",
    "log(1 + exp(-300 + x)) * 0",
    "1 / x",
    "log(x)",
    "sqrt(x)",
    "0 / (x - x + 1)",
    "x**0.3",
    "exp(exp(exp(x)))",
    "x + expm1(0.5) * tanh(0.5)",
    "tan(x)",
    "asinh(x)",
    "x * tanh(asinh(x))",
    "atanh(0.9 * tanh(x))",
    "sinh(x) / (1 + cosh(x))",
    "log(cosh(x))",
    "x * erfc(-x / sqrt(2)) / 2",
]


@pytest.mark.parametrize("formula", KNOWN)
def test_known_formulas(formula):
    if "tan(" in formula or formula in ("1 / x", "log(x)", "sqrt(x)", "x**0.3"):
        derive(to_sympy(formula), {})  # there are points without a value
    else:
        assert check(formula) == []


@pytest.mark.parametrize("formula", ["softplus(2 * x) - 2 * x", "log1p(x**2)", "atan(x) - x", "x - tanh(x)"])
def test_cancellation_is_avoided(formula):
    derived = derive(to_sympy(formula), {})
    assert derived.inexact == ()
    assert check(formula) == []


def _law(formula):
    assert check(formula) == []


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(FORMULAS)
def test_formulas_at_random(formula):
    _law(formula)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(FORMULAS)
def test_many_formulas_at_random(formula):
    _law(formula)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(FORMULAS)
def test_printed_programs_of_formulas_at_random(formula):
    derived = derive(to_sympy(formula), {})
    for made in programs(derived):
        function = printed(made.lines(), made.inputs, NAMES)
        torch.testing.assert_close(function(sample()), made(sample()), rtol=0, atol=0, equal_nan=True)

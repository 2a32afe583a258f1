"""Limits, slopes, range and monotonicity of formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from actlab.derivation.analysis.limits import compute_limits, estimate_limit
from actlab.derivation.analysis.piecewise import split_into_pieces
from actlab.derivation.formula_derivation import derive
from actlab.derivation.syntax.to_sympy import read_formula

inf, nan = math.inf, math.nan
PI = math.pi


@pytest.mark.parametrize(
    ("text", "limits", "slopes"),
    [
        # polynomials and rational functions
        ("x**3", (-inf, inf), (inf, inf)),
        ("x - x**4", (-inf, -inf), (inf, -inf)),
        ("2*x - 1", (-inf, inf), (2, 2)),
        ("(x**3 + 1) / (x**2 + 1)", (-inf, inf), (1, 1)),
        ("(2*x**2 + x) / (x**2 + 3)", (2, 2), (0, 0)),
        ("x / (1 + x**2)", (0, 0), (0, 0)),
        ("where(x > 0, x**2, x)", (-inf, inf), (1, inf)),
        # roots and logarithms, including slow ones
        ("sqrt(1 + x**2)", (inf, inf), (-1, 1)),
        ("sqrt(1 + x**2) - x", (inf, 0), (-2, 0)),
        ("(1 + x**2)**0.025", (inf, inf), (0, 0)),
        ("1 + (1 + x**2)**(-0.1)", (1, 1), (0, 0)),
        ("log(1 + x**2)", (inf, inf), (0, 0)),
        ("log(1 + log(1 + x**2))", (inf, inf), (0, 0)),
        ("1 + 1 / log(2 + x**2)", (1, 1), (0, 0)),
        ("asinh(x)", (-inf, inf), (0, 0)),
        # products with exponentials
        ("x * exp(x)", (0, inf), (0, inf)),
        ("x**3 * exp(-x**2)", (0, 0), (0, 0)),
        ("x**5 / (1 + exp(x))", (-inf, 0), (inf, 0)),
        ("exp(-exp(x))", (1, 0), (0, 0)),
        ("x - log(cosh(x))", (-inf, math.log(2)), (2, 0)),
        ("x * atan(x)", (inf, inf), (-PI / 2, PI / 2)),
        # oscillating functions: NaN without limit
        ("sin(x)", (nan, nan), (nan, nan)),
        ("x * sin(x)", (nan, nan), (nan, nan)),
        ("x + sin(x)", (-inf, inf), (nan, nan)),
        ("sin(x) / (1 + x**2)", (0, 0), (0, 0)),
        ("exp(x) * sin(x)", (0, nan), (0, nan)),
        ("tanh(x) + sin(x) / 9", (nan, nan), (nan, nan)),
    ],
)
def test_compute_limits_of_values_and_slopes(text, limits, slopes):
    result = compute_limits(split_into_pieces(read_formula(text)), ()).tolist()
    assert result[0] == pytest.approx(limits, rel=1e-15, nan_ok=True)
    assert result[1] == pytest.approx(slopes, rel=1e-15, nan_ok=True)


def test_compute_limits_depends_on_parameters():
    tree = split_into_pieces(read_formula("a*x**3 + log(b + x**2)"))
    assert compute_limits(tree, (("a", 0.0), ("b", 1.0))).tolist()[0] == [inf, inf]
    assert compute_limits(tree, (("a", -0.25), ("b", 1.0))).tolist()[0] == [inf, -inf]


def test_estimate_limit_returns_none_if_unclear():
    distances = np.array([d * s for d in (1e4, 1e8, 1e12, 1e16, 1e20, 1e25, 1e30) for s in (1, 1.37, 1.61)])
    assert estimate_limit(np.log(distances)) is None
    assert estimate_limit(1 + distances**-0.1) is None
    assert math.isnan(estimate_limit(np.where(distances > 1e25, np.inf, 1.0) * np.cos(np.arange(21) * PI)))


@pytest.mark.parametrize(
    ("text", "limits", "range_", "monotonic"),
    [
        ("x**3", (-inf, inf), (-inf, inf), True),
        ("x**2 - x", (inf, inf), (-0.25, inf), False),
        ("x / (1 + x**2)", (0, 0), (-0.5, 0.5), False),
        ("x * exp(x)", (0, inf), (-math.exp(-1), inf), False),
        ("asinh(x)", (-inf, inf), (-inf, inf), True),
        ("sinh(x) / (1 + cosh(x))", (-1, 1), (-1, 1), True),
        ("min(log(1 + x**2), 2)", (2, 2), (0, 2), False),
    ],
)
def test_derive_computes_limits_range_and_monotonicity(text, limits, range_, monotonic):
    derived = derive(read_formula(text), {})
    assert derived.inexact == ()
    assert derived.limits == limits
    assert derived.range == pytest.approx(range_, rel=1e-15)
    assert derived.monotonic is monotonic

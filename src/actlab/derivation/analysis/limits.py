"""Find the limits of a formula at minus and plus infinity, from values far out or else by SymPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy

from actlab.derivation.analysis import reference_values
from actlab.derivation.analysis.piecewise import Tree
from actlab.derivation.syntax.sympy_budget import BudgetExceeded, limit_calls
from actlab.derivation.syntax.to_sympy import X

_DECADES = (1e4, 1e8, 1e12, 1e16, 1e20, 1e25, 1e30)
_FAR = np.array([decade * share for decade in _DECADES for share in (1.0, 1.37, 1.61)])
_SAME = 1e-13
_NOTHING = 1e-25
_GROWN, _GROWING = 1e3, 1.5  # from the first number to the last, and between the last two decades
_MOST_CALLS = 1_000_000
Array = np.ndarray[Any, Any]


@functools.lru_cache(256)
def compute_limits(tree: Tree, parameters: tuple[tuple[str, float], ...]) -> Array:
    """Return the limits of f, f' and f'' at minus and plus infinity (3, 2); NaN where none is found.

    Examples:
        >>> from actlab.derivation.syntax.to_sympy import read_formula
        >>> from actlab.derivation.analysis.piecewise import split_into_pieces
        >>> compute_limits(split_into_pieces(read_formula("x**3")), ()).tolist()
        [[-inf, inf], [inf, inf], [-inf, inf]]
    """
    known = dict(parameters)
    columns = []
    for sign in (-1, 1):
        values = reference_values.compute_reference(tree, sign * _FAR, known).high
        found = [estimate_limit(values[order]) for order in range(3)]
        columns.append([_find_limit(tree, known, sign, k) if v is None else v for k, v in enumerate(found)])
    return np.array(columns).T


def estimate_limit(values: Array) -> float | None:
    """Return the limit of values at growing distance; NaN if they have none, None if it is unclear.

    Examples:
        >>> estimate_limit(_FAR**0.3), estimate_limit(1 - 1 / _FAR), estimate_limit(np.log(_FAR))
        (inf, 1.0, None)
    """
    if np.isnan(values).any():
        return math.nan
    sizes, last = np.abs(values), float(values[-1])
    one_sign = bool((np.sign(values[-12:]) == np.sign(last)).all())
    if np.isinf(values[-6:]).any():
        return last if one_sign and np.isinf(values[-6:]).all() else math.nan
    tail = values[-7:]
    if float(tail.max() - tail.min()) <= _SAME * abs(last):
        return last
    if sizes[-1] < _NOTHING and sizes[-1] <= sizes[0]:
        return 0.0
    grows = one_sign and bool((np.diff(sizes) >= 0).all())
    if grows and sizes[-1] > _GROWN * sizes[0] and sizes[-1] > _GROWING * sizes[-4]:
        return math.copysign(math.inf, last)
    return None


def _find_limit(tree: Tree, parameters: Mapping[str, float], sign: int, order: int) -> float:
    values = {sympy.Symbol(name, real=True): sympy.Rational(value) for name, value in parameters.items()}
    try:
        leaf, _ = reference_values.select_piece(
            tree, reference_values.bind_symbols(sign * _FAR[-1], parameters)
        )
        with limit_calls(_MOST_CALLS):
            expression = sympy.diff(leaf.expression.xreplace(values), X, order)
            found = sympy.limit(expression, X, sign * sympy.oo)
            return float(found) if found.is_extended_real and found.is_number else math.nan
    except (BudgetExceeded, Exception):  # SymPy fails in many ways
        return math.nan

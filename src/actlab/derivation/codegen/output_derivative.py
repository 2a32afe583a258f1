"""Express the derivative as a function of the output, where possible.

Backward then saves the output, which the next layer saves anyway. The derivative of a sigmoid is y (1 - y),
that of an exponential y. Reference values show which of a few such laws holds on a piece, and whether the law
loses digits; if it does, the input is saved.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import mpmath
import numpy as np
import sympy
import torch
from sympy import Expr

from actlab.activation import numerics
from actlab.derivation.analysis import reference_values
from actlab.derivation.analysis.kinks import Kinks
from actlab.derivation.analysis.piecewise import Branch, Leaf, Tree
from actlab.derivation.codegen.error_meter import LIMITS, Array, ErrorMeter
from actlab.derivation.codegen.form_selection import FAIR
from actlab.derivation.codegen.lowering import ExprForm, Lowering
from actlab.derivation.codegen.nan_guards import guard_against_nan
from actlab.derivation.codegen.program import DTYPES, Operand, Program
from actlab.derivation.codegen.program_functions import Within, recognize_functions
from actlab.derivation.syntax.to_sympy import X

_SAMPLES = 9
_MODERATE = 20.0
_BITS = 200
_LARGEST_DENOMINATOR = 1000
_HALF_DTYPES = (torch.float16, torch.bfloat16)
Scale = Literal["pointwise", "line"]
_SCALES: tuple[Scale, Scale] = ("pointwise", "line")


@dataclass(frozen=True)
class OutputDerivative:
    """A derivative as a function of the output.

    Attributes:
        program: Its program; the input is the output of the function.
        scale: What its error is measured against: its own value, or the largest on the line.
        error: The worst error of f' and f''.
    """

    program: Program
    scale: Scale
    error: float


def derive_from_output(
    meter: ErrorMeter, kinks: Kinks, borders: Sequence[float], forward: Program
) -> OutputDerivative | None:
    """Return the derivative of a formula without parameters as a program of its output.

    Args:
        meter: Measures errors.
        kinks: Where the derivative jumps.
        borders: Where another piece begins, in order.
        forward: The program of the formula.

    Returns:
        The most accurate program within the bounds; None if the output does not determine the derivative
        accurately enough.
    """
    sides = (False, True) if borders else (True,)
    trees = [tree for closed in sides if (tree := _find_laws(meter, kinks, borders, closed)) is not None]
    candidates = []
    for tree, rewrite in itertools.product(trees, (recognize_functions, sympy.factor)):
        program = guard_against_nan(_lower_laws(tree, rewrite), forward(meter.make_inputs(torch.float64)), ())
        for scale in _SCALES:
            error = _measure_worst_error(meter, kinks, borders, forward, program, scale == "line")
            if error < math.inf:
                candidates.append(OutputDerivative(program, scale, error))
                break
    return min(candidates, key=lambda one: (one.scale == "line", one.error), default=None)


# -- laws -----------------------------------------------------------------------------------------

# An output whose square is finite.
_FINITE = Within(X, -(sympy.Integer(10) ** 18), sympy.Integer(10) ** 18)

# f, f', f'' and f''' at a point.
Values = tuple[Any, Any, Any, Any]
# A law: a function that computes its coefficients from a point's values, and the law itself.
Law = tuple[Callable[[Values], tuple[Any, ...]], Callable[..., Expr]]


def _fit_quadratic(at: Values) -> tuple[Any, ...]:
    y, d1, d2, d3 = at
    c = (d3 * d1 - d2 * d2) / (2 * d1**3)
    b = d2 / d1 - 2 * c * y
    return d1 - b * y - c * y * y, b, c


def _fit_exponential(at: Values) -> tuple[Any, ...]:
    y, d1, d2, d3 = at
    k = (d3 * d1 - d2 * d2) / (d2 * d1**2)
    b = d2 / d1 / (k * mpmath.exp(k * y))
    return d1 - b * mpmath.exp(k * y), b, k


def _fit_root(at: Values) -> tuple[Any, ...]:
    y, d1, d2, d3 = at
    c = d3 / d1
    b = 2 * (d2 - c * y)
    return d1 * d1 - b * y - c * y * y, b, c, mpmath.sign(d1)


def _fit_power(at: Values) -> tuple[Any, ...]:
    y, d1, d2, _ = at
    h = mpmath.cbrt(d1) ** 2
    c = d2 / (3 * y * h * h)
    return h - c * y * y, c


def _fit_ratio(at: Values) -> tuple[Any, ...]:
    y, d1, d2, _ = at
    b = d2 * y**3 / (2 * d1**3)
    return 1 / d1 - b / y**2, b


# A law has coefficients, which must be the same at all points, and a derivative in terms of the value, X.
_LAWS: tuple[Law, ...] = (
    (_fit_quadratic, lambda a, b, c: a + b * X + c * X**2),
    (_fit_exponential, lambda a, b, k: a + b * sympy.exp(k * X)),
    (_fit_root, lambda a, b, c, sign: sign * sympy.sqrt(a + b * X + c * X**2)),
    (_fit_power, lambda a, c: (a + c * X**2) * _take_root(a + c * X**2)),
    (_fit_ratio, lambda a, b: _FINITE**2 / (a * _FINITE**2 + b)),
)


def _take_root(square: Expr) -> Expr:
    """Return a root that has a finite slope at 0 for autograd."""
    return sympy.sqrt(Within(square, sympy.Float("1e-30"), sympy.oo))


def _find_law(samples: list[Values]) -> Expr | None:
    """Return the derivative in terms of the value, or None."""
    if all(d1 == 0 for _, d1, _, _ in samples):
        return sympy.Integer(0)
    for coefficients, law in _LAWS:
        try:
            with mpmath.workprec(_BITS):
                rows = [coefficients(at) for at in samples]
        except (ZeroDivisionError, ValueError):
            continue
        if all(_is_constant(column) for column in zip(*rows, strict=True)):
            return law(*map(_shorten, rows[len(rows) // 2]))
    return None


def _is_constant(column: tuple[Any, ...]) -> bool:
    if not all(isinstance(value, mpmath.mpf) and mpmath.isfinite(value) for value in column):
        return False
    return bool(max(column) - min(column) <= 1e-12 * max(1, *map(abs, column)))


def _shorten(value: Any) -> Expr:
    """Return a coefficient as a short fraction if it is one, otherwise unchanged."""
    near = Fraction(float(value)).limit_denominator(_LARGEST_DENOMINATOR)
    if abs(value - mpmath.mpf(near.numerator) / near.denominator) < 1e-14:
        return sympy.Rational(near.numerator, near.denominator)
    return sympy.Float(value, 30)


# -- the law of every piece -----------------------------------------------------------------------


def _find_laws(meter: ErrorMeter, kinks: Kinks, borders: Sequence[float], closed: bool) -> Tree | None:
    """Return the laws of all pieces, chosen by the output; None if it does not determine the piece.

    ``closed`` states whether the output at a border without a kink belongs to the upper piece.
    """
    reference = meter.reference
    values = reference.high[0]
    if (reference.piece < 0).any() or not np.isfinite(values[np.abs(reference.points) < _MODERATE]).all():
        return None
    changes = np.flatnonzero(np.diff(reference.piece)) + 1
    rises = bool((values[1:] >= values[:-1]).all())
    if kinks.forced or len(changes) != len(borders) or (borders and not rises):
        return None
    tree: Tree | None = None
    pieces = np.split(np.arange(len(values)), changes)
    for border, piece in zip([-math.inf, *borders], pieces, strict=True):
        law = _find_law(list(_sample_piece(meter, piece)))
        if law is None:
            return None
        if tree is None:
            tree = Leaf(law)
        elif law != _get_uppermost_law(tree):
            tree = _add_law_above(tree, law, border, kinks, closed)
            if tree is None:
                return None
    return tree


def _get_uppermost_law(tree: Tree) -> Expr:
    return _get_uppermost_law(tree.yes) if isinstance(tree, Branch) else tree.expression


def _sample_piece(meter: ErrorMeter, piece: Array) -> Iterator[Values]:
    reference = meter.reference
    inner = piece[np.abs(reference.points[piece]) < _MODERATE]
    indices = (inner if len(inner) else piece).tolist()
    step = max(1, len(indices) // (_SAMPLES + 1))
    for i in indices[step::step] or indices:
        # Very close to 0, the digits may not show the law.
        if abs(reference.points[i]) > 1e-3 or len(indices) < _SAMPLES:
            high, low = reference.high[:, i].tolist(), reference.low[:, i].tolist()
            with mpmath.workprec(_BITS):
                f, d1, d2, d3 = (mpmath.mpf(a) + mpmath.mpf(b) for a, b in zip(high, low, strict=True))
            yield f, d1, d2, d3


def _add_law_above(tree: Tree, law: Expr, border: float, kinks: Kinks, closed: bool) -> Tree | None:
    """Add a law for the outputs above that of a border."""
    value = reference_values.evaluate_exactly(kinks.tree, border, {})[0][0]
    if not _is_exact_in_half(float(value)):
        return None
    if 0 in (law, _get_uppermost_law(tree)):
        closed = law == 0
    elif border in kinks.chosen:
        at, after = (
            reference_values.find_piece(kinks.tree, x, {}) for x in (border, math.nextafter(border, math.inf))
        )
        closed = at == after
    return Branch((sympy.Ge if closed else sympy.Gt)(X, _shorten(value)), Leaf(law), tree)


def _is_exact_in_half(value: float) -> bool:
    """Return whether every dtype holds a number: only then does an equal output identify it."""
    return all(float(torch.tensor(value, dtype=torch.float64).to(dtype)) == value for dtype in _HALF_DTYPES)


# -- errors ---------------------------------------------------------------------------------------


def _lower_laws(tree: Tree, rewrite: Callable[[Expr], Expr]) -> Program:
    lowering = Lowering([])

    def add(tree: Tree) -> Operand:
        if isinstance(tree, Leaf):
            return lowering.add_form(ExprForm(rewrite(tree.expression)))
        yes, no = add(tree.yes), add(tree.no)
        lowering.add_form(ExprForm(X))
        return lowering.add_choice(tree.condition, yes, no)

    return replace(lowering.finish(add(tree)), inputs=("y",))


def _measure_worst_error(
    meter: ErrorMeter, kinks: Kinks, borders: Sequence[float], forward: Program, program: Program, line: bool
) -> float:
    """Return the worst error of the derivatives by the output; infinity if one exceeds its bound."""
    worst = _measure(meter, kinks, borders, forward, program, line)
    if worst < math.inf and (forward.has_compiled_forms or program.has_compiled_forms):
        with numerics.force_compiled_forms():
            worst = max(worst, _measure(meter, kinks, borders, forward, program, line))
    is_exact = worst < math.inf and all(
        _survives_half(dtype, forward, program, line) for dtype in _HALF_DTYPES
    )
    return worst if is_exact else math.inf


def _measure(
    meter: ErrorMeter, kinks: Kinks, borders: Sequence[float], forward: Program, program: Program, line: bool
) -> float:
    worst = 0.0
    for dtype in DTYPES:
        y = forward(meter.make_inputs(dtype)).requires_grad_()
        slope = program(y)
        bend = torch.autograd.grad(slope.sum(), y)[0] * slope if slope.requires_grad else slope * 0
        for order, got in ((1, slope), (2, bend)):
            errors = meter.measure_values(got.detach().double().numpy(), dtype, order, line)
            if order == 2:
                # A border may have no second derivative, and an output may not show a subnormal step off a
                # kink.
                step = torch.finfo(dtype).tiny if line else 0.0
                ignored = _is_near(meter, borders, 0.0) | _is_near(meter, tuple(kinks.chosen), step)
                errors = np.where(ignored, 0.0, errors)
            error = float(errors.max())
            if not error <= FAIR * LIMITS[order]:
                return math.inf
            worst = max(worst, error)
    return worst


def _is_near(meter: ErrorMeter, places: Sequence[float], step: float) -> Array:
    """Return whether points, and both ends, are within a step of one of some places."""
    x = np.concatenate([meter.reference.points, [-math.inf, math.inf]])
    return np.any([np.zeros(len(x), dtype=bool), *(np.abs(x - place) <= step for place in places)], axis=0)


def _survives_half(dtype: torch.dtype, forward: Program, program: Program, line: bool) -> bool:
    """Return whether an output rounded to half precision gives the derivative as exactly as possible."""
    with torch.no_grad():
        x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).float()
        y = forward(x)
        y = y[y.isfinite()]
        true, got = program(y), program(y.to(dtype).float())
        scale = true.abs().max().expand_as(true) if line else true.abs()
        tolerance = 2 * torch.finfo(dtype).eps * scale + torch.finfo(dtype).smallest_normal
        return bool(((got - true).abs() <= tolerance)[y.abs() < torch.finfo(dtype).max].all())

"""The derivative as a function of the output, where it is one: then backward keeps what the next layer keeps.

A sigmoid's derivative is y (1 - y), an exponential's y. Numbers tell which of a few such laws a piece obeys,
and numbers build_error_meter that the law costs no digits; else the input is kept.
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
from actlab.derivation.codegen.error_bounds import DTYPES, LIMITS, Array, ErrorMeter
from actlab.derivation.codegen.functions import Within, recognize
from actlab.derivation.codegen.lower import Form, Lowering
from actlab.derivation.codegen.nan_guards import guard
from actlab.derivation.codegen.program import Operand, Program
from actlab.derivation.codegen.select import FAIR
from actlab.derivation.syntax.to_sympy import X

_SAMPLES = 9
_MODERATE = 20.0
_BITS = 200
_LARGEST_DENOMINATOR = 1000
_HALF = (torch.float16, torch.bfloat16)
Scale = Literal["pointwise", "line"]
_SCALES: tuple[Scale, Scale] = ("pointwise", "line")


@dataclass(frozen=True)
class ByOutput:
    """A derivative by the output.

    Attributes:
        program: Its program; the input of which is the output.
        scale: What its error is counted against: its own value, or the largest on the line.
        worst: The worst error by function and dtype.
    """

    program: Program
    scale: Scale
    worst: dict[str, float]


def derive_from_output(
    meter: ErrorMeter, kinks: Kinks, places: Sequence[float], forward: Program
) -> ByOutput | None:
    """Return the derivative of a formula without parameters as a program of its output.

    Args:
        meter: Measures errors against the reference values of the formula.
        kinks: Where its derivative jumps.
        places: Where another piece begins, in order.
        forward: The program of the formula.

    Returns:
        The most exact that meets the bounds; None where the output does not tell the derivative, or not
        exactly.
    """
    sides = (False, True) if places else (True,)
    trees = [tree for closed in sides if (tree := _tree(meter, kinks, places, closed)) is not None]
    found = []
    for tree, write in itertools.product(trees, (recognize, sympy.factor)):
        made = guard(_program(tree, write), forward(meter.inputs(torch.float64)), ())
        for scale in _SCALES:
            worst = _worst(meter, kinks, places, forward, made, scale == "line")
            if worst is not None:
                found.append(ByOutput(made, scale, worst))
                break
    return min(found, key=lambda one: (one.scale == "line", max(one.worst.values())), default=None)


# An output whose square is a number.
_FINITE = Within(X, -(sympy.Integer(10) ** 18), sympy.Integer(10) ** 18)

# -- which law ------------------------------------------------------------------------------------

# f, f', f'' and f''' at a point.
Values = tuple[Any, Any, Any, Any]
# Of a law: its coefficients by a point's values, which must be the same at all points; and the law itself.
Law = tuple[Callable[[Values], tuple[Any, ...]], Callable[..., Expr]]


def _quadratic(at: Values) -> tuple[Any, ...]:
    y, d1, d2, d3 = at
    c = (d3 * d1 - d2 * d2) / (2 * d1**3)
    b = d2 / d1 - 2 * c * y
    return d1 - b * y - c * y * y, b, c


def _exponential(at: Values) -> tuple[Any, ...]:
    y, d1, d2, d3 = at
    k = (d3 * d1 - d2 * d2) / (d2 * d1**2)
    b = d2 / d1 / (k * mpmath.exp(k * y))
    return d1 - b * mpmath.exp(k * y), b, k


def _root(at: Values) -> tuple[Any, ...]:
    y, d1, d2, d3 = at
    c = d3 / d1
    b = 2 * (d2 - c * y)
    return d1 * d1 - b * y - c * y * y, b, c, mpmath.sign(d1)


def _power(at: Values) -> tuple[Any, ...]:
    y, d1, d2, _ = at
    h = mpmath.cbrt(d1) ** 2
    c = d2 / (3 * y * h * h)
    return h - c * y * y, c


def _ratio(at: Values) -> tuple[Any, ...]:
    y, d1, d2, _ = at
    b = d2 * y**3 / (2 * d1**3)
    return 1 / d1 - b / y**2, b


_LAWS: tuple[Law, ...] = (
    (_quadratic, lambda a, b, c: a + b * X + c * X**2),
    (_exponential, lambda a, b, k: a + b * sympy.exp(k * X)),
    (_root, lambda a, b, c, sign: sign * sympy.sqrt(a + b * X + c * X**2)),
    (_power, lambda a, c: (a + c * X**2) * _kept_root(a + c * X**2)),
    (_ratio, lambda a, b: _FINITE**2 / (a * _FINITE**2 + b)),
)


def _kept_root(square: Expr) -> Expr:
    """Return a root that autograd goes through at 0, where its own slope is infinite."""
    return sympy.sqrt(Within(square, sympy.Float("1e-30"), sympy.oo))


def _law(samples: list[Values]) -> Expr | None:
    """Return the derivative in terms of the value, which X stands for here."""
    if all(d1 == 0 for _, d1, _, _ in samples):
        return sympy.Integer(0)
    for coefficients, law in _LAWS:
        try:
            with mpmath.workprec(_BITS):
                rows = [coefficients(at) for at in samples]
        except (ZeroDivisionError, ValueError):
            continue
        if all(_constant(column) for column in zip(*rows, strict=True)):
            return law(*map(_short, rows[len(rows) // 2]))
    return None


def _constant(column: tuple[Any, ...]) -> bool:
    if not all(isinstance(value, mpmath.mpf) and mpmath.isfinite(value) for value in column):
        return False
    return bool(max(column) - min(column) <= 1e-12 * max(1, *map(abs, column)))


def _short(value: Any) -> Expr:
    """Return a coefficient as the fraction that it is, or as it is."""
    near = Fraction(float(value)).limit_denominator(_LARGEST_DENOMINATOR)
    if abs(value - mpmath.mpf(near.numerator) / near.denominator) < 1e-14:
        return sympy.Rational(near.numerator, near.denominator)
    return sympy.Float(value, 30)


# -- which law where ------------------------------------------------------------------------------


def _tree(meter: ErrorMeter, kinks: Kinks, places: Sequence[float], closed: bool) -> Tree | None:
    """Return the laws of all pieces, chosen by the output; None where that does not tell.

    ``closed`` says whether the output of a border is the upper piece's, where no slope jumps there.
    """
    reference = meter.reference
    values = reference.high[0]
    if (reference.piece < 0).any() or not np.isfinite(values[np.abs(reference.points) < _MODERATE]).all():
        return None
    changes = np.flatnonzero(np.diff(reference.piece)) + 1
    rises = bool((values[1:] >= values[:-1]).all())
    if kinks.forced or len(changes) != len(places) or (places and not rises):
        return None
    borders = [-math.inf, *places]
    tree: Tree | None = None
    for stretch in np.split(np.arange(len(values)), changes):
        law = _law(list(_samples(meter, stretch)))
        if law is None:
            return None
        border = borders.pop(0)
        if tree is not None and law != _uppermost(tree):
            tree = _beside(tree, law, border, kinks, closed)
            if tree is None:
                return None
        tree = tree or Leaf(law)
    return tree


def _uppermost(tree: Tree) -> Expr:
    return _uppermost(tree.yes) if isinstance(tree, Branch) else tree.expression


def _samples(meter: ErrorMeter, stretch: Array) -> Iterator[Values]:
    reference = meter.reference
    inner = stretch[np.abs(reference.points[stretch]) < _MODERATE]
    places = (inner if len(inner) else stretch).tolist()
    # A border may be a point of it: not where a series is all that tells 0 from nothing.
    step = max(1, len(places) // (_SAMPLES + 1))
    for i in places[step::step] or places:
        if abs(reference.points[i]) > 1e-3 or len(places) < _SAMPLES:
            high, low = reference.high[:, i].tolist(), reference.low[:, i].tolist()
            with mpmath.workprec(_BITS):
                found = [mpmath.mpf(a) + mpmath.mpf(b) for a, b in zip(high, low, strict=True)]
            yield found[0], found[1], found[2], found[3]


def _beside(tree: Tree, law: Expr, border: float, kinks: Kinks, closed: bool) -> Tree | None:
    """Return the laws so far, and one for the outputs above that of a border."""
    whole = kinks.tree
    value = reference_values.evaluate_exactly(whole, border, {})[0][0]
    place = _short(value)
    if not _is_short(float(value)):
        return None
    if 0 in (law, _uppermost(tree)):
        closed = law == 0
    elif border in kinks.chosen:
        after = math.nextafter(border, math.inf)
        closed = reference_values.piece_at(whole, border, {}) == reference_values.piece_at(whole, after, {})
    return Branch((sympy.Ge if closed else sympy.Gt)(X, place), Leaf(law), tree)


def _is_short(value: float) -> bool:
    """Whether every dtype has a number: an output that is it is then known to be it."""
    return all(float(torch.tensor(value, dtype=torch.float64).to(dtype)) == value for dtype in _HALF)


# -- whether it is exact --------------------------------------------------------------------------


def _program(tree: Tree, write: Callable[[Expr], Expr]) -> Program:
    lowering = Lowering([])

    def add(tree: Tree) -> Operand:
        if isinstance(tree, Leaf):
            return lowering.add(Form(write(tree.expression)))
        yes, no = add(tree.yes), add(tree.no)
        lowering.add(Form(X))
        return lowering.choice(tree.condition, yes, no)

    return replace(lowering.finish(add(tree)), inputs=("y",))


def _worst(
    meter: ErrorMeter, kinks: Kinks, places: Sequence[float], forward: Program, made: Program, line: bool
) -> dict[str, float] | None:
    """Return the worst errors of the derivatives by the output; None where one is above its bound."""
    worst = _measured(meter, kinks, places, forward, made, line)
    if worst is not None and (forward.has_second_forms or made.has_second_forms):
        with numerics.second_forms():
            other = _measured(meter, kinks, places, forward, made, line)
        worst = None if other is None else {name: max(worst[name], other[name]) for name in worst}
    held = worst is not None and all(_holds_in(dtype, forward, made, line) for dtype in _HALF)
    return worst if held else None


def _measured(
    meter: ErrorMeter, kinks: Kinks, places: Sequence[float], forward: Program, made: Program, line: bool
) -> dict[str, float] | None:
    worst = {}
    for dtype in DTYPES:
        y = forward(meter.inputs(dtype)).requires_grad_()
        slope = made(y)
        bend = torch.autograd.grad(slope.sum(), y)[0] * slope if slope.requires_grad else slope * 0
        for order, got in ((1, slope), (2, bend)):
            errors = meter.error(got.detach().double().numpy(), dtype, order, line)
            if order == 2:
                # On a border there may be no second derivative, and of a subnormal step off a kink an
                # output may show nothing.
                off = torch.finfo(dtype).tiny if line else 0.0
                besides = _near(meter, places, 0.0) | _near(meter, tuple(kinks.chosen), off)
                errors = np.where(besides, 0.0, errors)
            error = float(errors.max())
            if not error <= FAIR * LIMITS[order]:
                return None
            worst["f" + "'" * order + f" {str(dtype).removeprefix('torch.')}"] = error
    return worst


def _near(meter: ErrorMeter, places: Sequence[float], step: float) -> Array:
    """Whether points, and both ends, are within a step of places."""
    x = np.concatenate([meter.reference.points, [-math.inf, math.inf]])
    return np.any([np.zeros(len(x), dtype=bool), *(np.abs(x - place) <= step for place in places)], axis=0)


def _holds_in(dtype: torch.dtype, forward: Program, made: Program, line: bool) -> bool:
    """Whether an output that half precision has rounded gives the derivative as exactly as it may."""
    with torch.no_grad():
        x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).float()
        y = forward(x)
        x, y = x[y.isfinite()], y[y.isfinite()]
        true, got = made(y), made(y.to(dtype).float())
        scale = true.abs().max().expand_as(true) if line else true.abs()
        room = 2 * torch.finfo(dtype).eps * scale + torch.finfo(dtype).smallest_normal
        return bool(((got - true).abs() <= room)[y.abs() < torch.finfo(dtype).max].all())

"""A formula, and all that follows from it: programs for its value and derivatives, facts, and a proof."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sympy
import torch
from sympy import Expr
from torch import Tensor

from actlab.derivation.analysis import reference_values
from actlab.derivation.analysis.elementary_jets import Undefined
from actlab.derivation.analysis.kinks import find_kinks
from actlab.derivation.analysis.piecewise import Leaf, Tree, leaves, map_leaves, split_into_pieces
from actlab.derivation.codegen import decaying_rewrites, rewrites
from actlab.derivation.codegen.error_bounds import DTYPES, LIMITS, Array, ErrorMeter, build_error_meter
from actlab.derivation.codegen.from_output import derive_from_output
from actlab.derivation.codegen.functions import recognize
from actlab.derivation.codegen.nan_guards import guard
from actlab.derivation.codegen.program import Program
from actlab.derivation.codegen.select import Selector, SmoothPiece, measure_errors
from actlab.derivation.codegen.torch_equivalents import find_torch_equivalent
from actlab.derivation.syntax.to_sympy import X

_NAMES = ("f", "f'", "f''")
_SERIES_TERMS = 36
_MOST_ROOTS = 24
Pair = tuple[float, float]
Verdict = tuple[dict[str, float], tuple[str, ...]]


@dataclass(frozen=True)
class Derived:
    """What follows from a formula.

    Attributes:
        forward: The function, of the input and the parameters.
        derivative: Its derivative, of what is saved and the parameters.
        second: Its second derivative, of the input and the parameters; None where the output is saved.
        partials: Its derivatives by the parameters that are trained.
        torch_operation: Operations of torch that are the function, where it has them.
        saves: What the derivative is a program of: the output where it tells the derivative exactly.
        error_scale: ``"line"`` where the derivatives by the output are exact beside the largest one alone.
        kinks: Where the derivative jumps, and the derivative there, at the default parameters.
        limits: The values at minus and plus infinity; NaN where there is no limit.
        slopes: The derivatives there.
        range: The least and the greatest value, or what they tend to.
        monotonic: Whether the function never turns back.
        worst: The worst error by function and dtype, such as ``"f' float32"``, in units of what rounding the
            input may move the value by.
        inexact: One sentence for each stretch of the line where an error is above its bound.
    """

    forward: Program
    derivative: Program
    second: Program | None
    partials: Mapping[str, Program]
    torch_operation: Callable[..., Tensor | None] | None
    saves: Literal["input", "output"]
    error_scale: Literal["pointwise", "line"]
    kinks: Mapping[float, float]
    limits: Pair
    slopes: Pair
    range: Pair
    monotonic: bool
    worst: Mapping[str, float]
    inexact: tuple[str, ...]


def derive(
    expression: Expr,
    parameters: Mapping[str, float],
    *,
    trainable: Sequence[str] = (),
    at: Mapping[float, float] | None = None,
) -> Derived:
    """Derive an activation from its formula.

    Args:
        expression: The formula, in a real ``x`` and real parameters.
        parameters: The parameters in order, with their defaults: the meter holds for these.
        trainable: The parameters whose partial derivatives are wanted.
        at: Derivatives at kinks, instead of those that follow from the formula.

    Returns:
        The programs, the facts and the proof.

    Examples:
        >>> silu = derive(X / (1 + sympy.exp(-X)), {})
        >>> silu.limits, silu.inexact
        ((0.0, inf), ())
    """
    tree = split_into_pieces(expression)
    roots, borders = _roots(tree, parameters)
    kinks = find_kinks(tree, borders, parameters, at or {})
    meter = build_error_meter(tree, parameters, (*roots, *borders), tuple(kinks.chosen))
    smooth = {leaf: _smooth(leaf) for leaf in leaves(tree)}
    values = tuple(parameters.values())

    def build(order: int) -> Program:
        chooser = Selector(meter, order, parameters, bool(trainable) and order > 0)
        own = {leaf: made[order] for leaf, made in smooth.items()}
        made = chooser.build(*((kinks.tree, own, kinks.forced) if order == 1 else (tree, own)))
        # Autograd goes through the second derivative, and beside trained parameters through the first.
        traced = order == 2 or (order == 1 and trainable)
        return guard(made, meter.inputs(torch.float64), values) if traced else made

    forward = build(0)
    judged = [_judged(meter, forward, 0, values)]
    # The law between output and derivative would change with parameters.
    output = None if parameters else derive_from_output(meter, kinks, borders, forward)
    if output is not None:
        derivative, second = output.program, None
        judged.append((output.worst, ()))
    else:
        derivative, second = build(1), build(2)
        judged += [_judged(meter, derivative, 1, values), _judged(meter, second, 2, values)]
    saves: Literal["input", "output"] = "input" if output is None else "output"
    # A trained parameter is a tensor, which no operation takes.
    torch_operation = (
        None if trainable else find_torch_equivalent(tree, (forward, derivative, second), parameters, saves)
    )
    partials = {}
    for name in trainable:
        partials[name], verdict = _partial(tree, name, parameters, (*roots, *borders), tuple(kinks.chosen))
        judged.append(verdict)
    return Derived(
        forward,
        derivative,
        second,
        partials=partials,
        torch_operation=torch_operation,
        saves=saves,
        error_scale="pointwise" if output is None else output.scale,
        kinks=kinks.chosen,
        limits=_pair(meter.ends[0]),
        slopes=_pair(meter.ends[1]),
        range=_range(meter),
        monotonic=_monotonic(meter),
        worst={name: error for worst, _ in judged for name, error in worst.items()},
        inexact=tuple(sentence for _, sentences in judged for sentence in sentences),
    )


def _partial(
    tree: Tree,
    name: str,
    parameters: Mapping[str, float],
    places: tuple[float, ...],
    kinks: tuple[float, ...],
) -> tuple[Program, Verdict]:
    """Return the derivative by a parameter, and how exact it is."""
    symbol = sympy.Symbol(name, real=True)
    slopes = map_leaves(tree, lambda expression: sympy.diff(expression, symbol))
    fading = _fading(build_error_meter(slopes, parameters).reference)
    meter = build_error_meter(slopes, parameters, (*places, *sorted(fading)), kinks)
    own = {}
    for before, after in zip(leaves(tree), leaves(slopes), strict=True):
        formula = recognize(before.expression)
        coefficients = rewrites.taylor(after.expression, _SERIES_TERMS)
        own[after] = SmoothPiece(
            0, sympy.diff(formula, symbol), decaying_rewrites.find_main(formula), coefficients
        )
    made = Selector(meter, 0, parameters, True).build(slopes, own)
    values = tuple(parameters.values())
    made = guard(made, meter.inputs(torch.float64), values)
    return made, _judged(meter, made, 0, values, f"the derivative by {name}")


def _pair(values: Array) -> Pair:
    return float(values[0]) + 0.0, float(values[1]) + 0.0  # -0.0 is 0


def _smooth(leaf: Leaf) -> tuple[SmoothPiece, ...]:
    formula = recognize(leaf.expression)
    main = decaying_rewrites.find_main(formula)
    coefficients = rewrites.taylor(leaf.expression, _SERIES_TERMS)
    derivatives = [formula]
    for _ in range(2):
        derivatives.append(sympy.diff(derivatives[-1], X))
    return tuple(SmoothPiece(order, found, main, coefficients) for order, found in enumerate(derivatives))


def _roots(tree: Tree, parameters: Mapping[str, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return where f, f' or f'' change sign, to the last bit, and where another piece begins."""
    roots: set[float] = set()
    borders: set[float] = set()
    known = build_error_meter(tree, parameters).reference
    inner = np.flatnonzero((np.abs(known.points) < 100) & (known.piece >= 0)).tolist()
    for i, j in sorted(itertools.pairwise(inner), key=lambda pair: abs(known.points[pair[0]])):
        low, high = float(known.points[i]), float(known.points[j])
        if known.piece[i] != known.piece[j] and len(borders) < _MOST_ROOTS:
            border = _bisected(tree, parameters, low, high, None)
            # The last number of one piece and the first of the next: the border is the rounder one.
            borders.add(min(border, key=lambda x: len(repr(x))))
        elif j == i + 1 and len(roots) < _MOST_ROOTS:
            for order in range(3):
                if np.sign(known.high[order, i]) * np.sign(known.high[order, j]) < 0:
                    roots.add(_bisected(tree, parameters, low, high, order)[1])
    roots |= _fading(known)
    return tuple(sorted(roots)), tuple(sorted(borders))


def _fading(known: reference_values.ReferenceValues) -> set[float]:
    """Return points where a value is about to leave the normal numbers: a factor of it may have left."""
    found: set[float] = set()
    for row in np.abs(known.high[:3]):
        for bound in (1e-305, 1e-35):
            for i in np.flatnonzero((row[:-1] > bound) != (row[1:] > bound)).tolist():
                low, high = known.points[i : i + 2].tolist()
                if 1e-3 < abs(low) < 1e3:
                    found |= set(np.linspace(low, high, 12)[1:-1].tolist())
    return found


def _bisected(
    tree: Tree, parameters: Mapping[str, float], low: float, high: float, order: int | None
) -> tuple[float, float]:
    def side(x: float) -> Any:
        try:
            if order is None:
                return reference_values.piece_at(tree, x, parameters)
            return reference_values.evaluate(tree, x, parameters, 150)[0][order] > 0
        except Undefined:
            return None

    start = side(low)
    for _ in range(80):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if side(middle) == start:
            low = middle
        else:
            high = middle
    return low, high


def _judged(
    meter: ErrorMeter, made: Program, order: int, values: tuple[float, ...], name: str | None = None
) -> Verdict:
    """Return the worst errors of a program, and sentences on where they are above the bound."""
    worst: dict[str, float] = {}
    inexact = []
    name = name or _NAMES[order]
    x = np.concatenate([[-math.inf], meter.reference.points, [math.inf]])
    for dtype, row in zip(DTYPES, measure_errors(meter, made, order, values), strict=True):
        short = str(dtype).removeprefix("torch.")
        worst[f"{name} {short}"] = float(row.max())
        error = np.concatenate([row[-2:-1], row[:-2], row[-1:]])
        for first, last in _blocks(error > LIMITS[order]):
            low, high = f"{x[first]:.6g}", f"{x[last]:.6g}"
            where = f"at {low}" if low == high else f"from {low} to {high}"
            inexact.append(
                f"{name} {where} in {short}: off by "
                f"{error[first : last + 1].max():.3g} roundings ({LIMITS[order]:g} are allowed)"
            )
    return worst, tuple(inexact)


def _blocks(bad: Array) -> list[tuple[int, int]]:
    """Return the first and the last place of every run, runs that almost touch as one."""
    places = np.flatnonzero(bad).tolist()
    found: list[tuple[int, int]] = []
    for place in places:
        if found and place - found[-1][1] <= 10:
            found[-1] = (found[-1][0], place)
        else:
            found.append((place, place))
    return found


def _range(meter: ErrorMeter) -> Pair:
    values = np.concatenate([meter.reference.high[0], meter.ends[0]])
    values = values[~np.isnan(values)]
    return float(values.min()), float(values.max())


def _monotonic(meter: ErrorMeter) -> bool:
    values = meter.reference.high[0][~np.isnan(meter.reference.high[0])]
    return bool((values[1:] >= values[:-1]).all())

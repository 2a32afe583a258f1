"""Derive programs for a formula and its derivatives, facts about it, and the errors of the programs."""

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
from actlab.derivation.analysis.piecewise import Leaf, Tree, iterate_leaves, map_leaves, split_into_pieces
from actlab.derivation.codegen import decaying_rewrites, rewrites
from actlab.derivation.codegen.error_meter import LIMITS, Array, ErrorMeter, build_error_meter
from actlab.derivation.codegen.form_selection import FormSelector, SmoothPiece, measure_errors
from actlab.derivation.codegen.nan_guards import guard_against_nan
from actlab.derivation.codegen.output_derivative import derive_from_output
from actlab.derivation.codegen.program import DTYPES, Program
from actlab.derivation.codegen.program_functions import recognize_functions
from actlab.derivation.codegen.torch_equivalents import find_torch_equivalent
from actlab.derivation.syntax.to_sympy import X

_NAMES = ("f", "f'", "f''")
_SERIES_TERMS = 36
_MOST_ROOTS = 24
Pair = tuple[float, float]


@dataclass(frozen=True)
class Derivation:
    """The result of a derivation.

    Attributes:
        forward: The function, of the input and the parameters.
        derivative: Its derivative, of the saved tensor and the parameters.
        second: Its second derivative, of the input and the parameters; None if the output is saved.
        partials: Its derivatives with respect to the trained parameters.
        torch_operation: The torch operation that computes the function, or None.
        saves: The saved tensor: the output if it determines the derivative exactly.
        error_scale: ``"line"`` if derivatives computed from the output are accurate only relative to the
            largest one.
        kinks: The derivative at each point where it jumps, at the default parameters.
        limits: The values at minus and plus infinity; NaN where there is no limit.
        slopes: The derivatives there.
        range: The infimum and the supremum.
        monotonic: Whether the function never decreases.
        inexact: One sentence for each interval in which an error exceeds its bound.
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
    inexact: tuple[str, ...]


def derive(
    expression: Expr,
    parameters: Mapping[str, float],
    *,
    trainable: Sequence[str] = (),
    at: Mapping[float, float] | None = None,
) -> Derivation:
    """Derive an activation from its formula.

    Args:
        expression: The formula, in a real ``x`` and real parameters.
        parameters: The parameters in order, with their defaults, for which errors are measured.
        trainable: The parameters whose partial derivatives are needed.
        at: Derivatives at kinks, instead of those that follow from the formula.

    Returns:
        The programs, the facts and the errors.

    Examples:
        >>> silu = derive(X / (1 + sympy.exp(-X)), {})
        >>> silu.limits, silu.inexact
        ((0.0, inf), ())
    """
    tree = split_into_pieces(expression)
    roots, borders = _find_roots_and_borders(tree, parameters)
    kinks = find_kinks(tree, borders, parameters, at or {})
    meter = build_error_meter(tree, parameters, (*roots, *borders), tuple(kinks.chosen))
    smooth = {leaf: _differentiate(leaf) for leaf in iterate_leaves(tree)}
    values = tuple(parameters.values())

    def build(order: int) -> Program:
        selector = FormSelector(meter, order, parameters, bool(trainable) and order > 0)
        pieces = {leaf: derivatives[order] for leaf, derivatives in smooth.items()}
        program = selector.build(*((kinks.tree, pieces, kinks.forced) if order == 1 else (tree, pieces)))
        # Autograd differentiates the second derivative and, if a parameter is trained, the first.
        traced = order == 2 or (order == 1 and trainable)
        return guard_against_nan(program, meter.make_inputs(torch.float64), values) if traced else program

    forward = build(0)
    inexact = _describe_errors(meter, forward, 0, values)
    # With parameters the law between output and derivative would change.
    output = None if parameters else derive_from_output(meter, kinks, borders, forward)
    derivative, second = (build(1), build(2)) if output is None else (output.program, None)
    if second is not None:
        inexact += _describe_errors(meter, derivative, 1, values) + _describe_errors(meter, second, 2, values)
    saves: Literal["input", "output"] = "input" if output is None else "output"
    torch_operation = None
    if not trainable:  # no operation takes a tensor as a parameter
        programs = (forward, derivative, second)
        torch_operation = find_torch_equivalent(tree, programs, parameters, saves)
    partials = {}
    for name in trainable:
        partials[name], sentences = _derive_partial(
            tree, name, parameters, (*roots, *borders), tuple(kinks.chosen)
        )
        inexact += sentences
    values_seen = meter.reference.high[0][~np.isnan(meter.reference.high[0])]
    extremes = np.concatenate([values_seen, meter.ends[0][~np.isnan(meter.ends[0])]])
    return Derivation(
        forward,
        derivative,
        second,
        partials=partials,
        torch_operation=torch_operation,
        saves=saves,
        error_scale="pointwise" if output is None else output.scale,
        kinks=kinks.chosen,
        limits=_to_pair(meter.ends[0]),
        slopes=_to_pair(meter.ends[1]),
        range=(float(extremes.min()), float(extremes.max())),
        monotonic=bool((values_seen[1:] >= values_seen[:-1]).all()),
        inexact=tuple(inexact),
    )


def _derive_partial(
    tree: Tree,
    name: str,
    parameters: Mapping[str, float],
    places: tuple[float, ...],
    kinks: tuple[float, ...],
) -> tuple[Program, list[str]]:
    """Return the derivative with respect to a parameter, and sentences about its errors."""
    symbol = sympy.Symbol(name, real=True)
    slopes = map_leaves(tree, lambda expression: sympy.diff(expression, symbol))
    fading = _find_fading(build_error_meter(slopes, parameters).reference)
    meter = build_error_meter(slopes, parameters, (*places, *sorted(fading)), kinks)
    pieces = {}
    for before, after in zip(iterate_leaves(tree), iterate_leaves(slopes), strict=True):
        formula = recognize_functions(before.expression)
        series = rewrites.compute_taylor(after.expression, _SERIES_TERMS)
        main = decaying_rewrites.find_main(formula)
        pieces[after] = SmoothPiece(0, sympy.diff(formula, symbol), main, series)
    values = tuple(parameters.values())
    program = FormSelector(meter, 0, parameters, True).build(slopes, pieces)
    program = guard_against_nan(program, meter.make_inputs(torch.float64), values)
    return program, _describe_errors(meter, program, 0, values, f"the derivative with respect to {name}")


def _to_pair(values: Array) -> Pair:
    return float(values[0]) + 0.0, float(values[1]) + 0.0  # -0.0 is 0


def _differentiate(leaf: Leaf) -> tuple[SmoothPiece, ...]:
    """Return the piece and its first two derivatives."""
    formula = recognize_functions(leaf.expression)
    main = decaying_rewrites.find_main(formula)
    series = rewrites.compute_taylor(leaf.expression, _SERIES_TERMS)
    derivatives = [formula]
    for _ in range(2):
        derivatives.append(sympy.diff(derivatives[-1], X))
    return tuple(SmoothPiece(order, one, main, series) for order, one in enumerate(derivatives))


def _find_roots_and_borders(
    tree: Tree, parameters: Mapping[str, float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return where f, f' or f'' change sign or fade out, and where another piece begins."""
    roots: set[float] = set()
    borders: set[float] = set()
    reference = build_error_meter(tree, parameters).reference
    points, piece = reference.points.tolist(), reference.piece
    inner = np.flatnonzero((np.abs(reference.points) < 100) & (piece >= 0)).tolist()
    for i, j in sorted(itertools.pairwise(inner), key=lambda pair: abs(points[pair[0]])):
        if piece[i] != piece[j] and len(borders) < _MOST_ROOTS:
            border = _bisect(tree, parameters, points[i], points[j], None)
            # The last number of one piece and the first of the next: the border is the rounder one.
            borders.add(min(border, key=lambda x: len(repr(x))))
        elif j == i + 1 and len(roots) < _MOST_ROOTS:
            for order in range(3):
                if np.sign(reference.high[order, i]) * np.sign(reference.high[order, j]) < 0:
                    roots.add(_bisect(tree, parameters, points[i], points[j], order)[1])
    return tuple(sorted(roots | _find_fading(reference))), tuple(sorted(borders))


def _find_fading(reference: reference_values.ReferenceValues) -> set[float]:
    """Return points near which a value leaves the normal numbers: a factor of it may leave them earlier."""
    fading: set[float] = set()
    for row, bound in itertools.product(np.abs(reference.high[:3]), (1e-305, 1e-35)):
        for i in np.flatnonzero((row[:-1] > bound) != (row[1:] > bound)).tolist():
            low, high = reference.points[i : i + 2].tolist()
            if 1e-3 < abs(low) < 1e3:
                fading |= set(np.linspace(low, high, 12)[1:-1].tolist())
    return fading


def _bisect(
    tree: Tree, parameters: Mapping[str, float], low: float, high: float, order: int | None
) -> tuple[float, float]:
    """Return two neighbours between which the sign of a derivative changes, or the piece (order None)."""

    def classify(x: float) -> Any:
        try:
            if order is None:
                return reference_values.find_piece(tree, x, parameters)
            return reference_values.evaluate_rounded(tree, x, parameters, 150)[0][order] > 0
        except Undefined:
            return None

    start = classify(low)
    for _ in range(80):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if classify(middle) == start else (low, middle)
    return low, high


def _describe_errors(
    meter: ErrorMeter, program: Program, order: int, values: tuple[float, ...], name: str | None = None
) -> list[str]:
    """Return a sentence for each interval in which the error of a program exceeds its bound."""
    sentences = []
    x = np.concatenate([[-math.inf], meter.reference.points, [math.inf]])
    for dtype, row in zip(DTYPES, measure_errors(meter, program, order, values), strict=True):
        error = np.concatenate([row[-2:-1], row[:-2], row[-1:]])
        bad = np.flatnonzero(error > LIMITS[order])
        # Intervals that almost touch are merged.
        for interval in np.split(bad, np.flatnonzero(np.diff(bad) > 10) + 1) if len(bad) else ():
            low, high = f"{x[interval[0]]:.6g}", f"{x[interval[-1]]:.6g}"
            where = f"at {low}" if low == high else f"from {low} to {high}"
            worst = error[interval[0] : interval[-1] + 1].max()
            sentences.append(
                f"{name or _NAMES[order]} {where} in {str(dtype).removeprefix('torch.')}: an error of "
                f"{worst:.3g} units of rounding ({LIMITS[order]:g} are allowed)"
            )
    return sentences

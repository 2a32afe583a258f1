"""A formula, and everything that follows from it: programs for its value and derivatives, facts, and a proof."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sympy
from sympy import Expr

from actlab.derivation import forms, jets
from actlab.derivation.lowering import X
from actlab.derivation.pieces import Leaf, Tree, leaves, mapped, pieces
from actlab.derivation.program import Program
from actlab.derivation.proof import DTYPES, LIMITS, Array, Proof, prove
from actlab.derivation.stable import Chooser, Smooth
from actlab.derivation.vocabulary import recognised

_NAMES = ("f", "f'", "f''")
_SERIES_TERMS = 26
_MOST_ROOTS = 24
Pair = tuple[float, float]


@dataclass(frozen=True)
class Derived:
    """What follows from a formula.

    Attributes:
        forward: The function, of the input and the parameters.
        derivative: Its derivative, of what is saved and the parameters.
        second: Its second derivative, of the input and the parameters.
        partials: Its derivatives by the parameters that are trained.
        saves: What the derivative is a program of.
        kinks: Where the derivative jumps, and the derivative there, at the default parameters.
        limits: The values at minus and plus infinity; NaN where there is no limit.
        slopes: The derivatives there.
        range: The least and the greatest value, or what they tend to.
        monotonic: Whether the function never turns back.
        worst: The worst error by function and dtype, such as ``"f' float32"``, in units of eps times what rounding
            the input may move the value by.
        inexact: One sentence for each stretch of the line where an error is above its bound.
    """

    forward: Program
    derivative: Program
    second: Program
    partials: Mapping[str, Program]
    saves: Literal["input", "output"]
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
        parameters: The parameters in order, with their defaults: the proof holds for these.
        trainable: The parameters whose partial derivatives are wanted.
        at: Derivatives at kinks, instead of those that follow from the formula.

    Returns:
        The programs, the facts and the proof.

    Examples:
        >>> silu = derive(X / (1 + sympy.exp(-X)), {})
        >>> silu.limits, silu.inexact
        ((0.0, inf), ())
    """
    tree = pieces(expression)
    roots = _roots(tree, parameters)
    proof = prove(tree, parameters, roots)
    traced = bool(trainable)
    smooth = {leaf: _smooth(leaf) for leaf in leaves(tree)}
    programs = []
    for order in range(3):
        chooser = Chooser(proof, order, parameters, traced)
        programs.append(chooser.build(tree, {leaf: made[order] for leaf, made in smooth.items()}))
    worst, inexact = _judged(proof, programs, tuple(parameters.values()))
    low, high = _range(proof)
    return Derived(
        *programs,
        partials={},
        saves="input",
        kinks={},
        limits=_pair(proof.ends[0]),
        slopes=_pair(proof.ends[1]),
        range=(low, high),
        monotonic=_monotonic(proof),
        worst=worst,
        inexact=inexact,
    )


def _pair(values: Array) -> Pair:
    return float(values[0]), float(values[1])


def _smooth(leaf: Leaf) -> tuple[Smooth, ...]:
    formula = recognised(leaf.expression)
    main = forms.main_of(formula)
    coefficients = forms.taylor(leaf.expression, _SERIES_TERMS)
    made, derivative = [], formula
    for order in range(3):
        made.append(Smooth(order, derivative, main, coefficients))
        derivative = sympy.diff(derivative, X)
    return tuple(made)


def _roots(tree: Tree, parameters: Mapping[str, float]) -> tuple[float, ...]:
    """Return where f, f' or f'' change sign, or another piece begins, to the last bit of a float64."""
    found: set[float] = set()
    proof = prove(tree, parameters)
    known = proof.truth
    inner = np.flatnonzero((np.abs(known.points) < 100) & (known.piece >= 0))
    pairs = sorted(itertools.pairwise(inner.tolist()), key=lambda pair: abs(known.points[pair[0]]))
    for i, j in pairs:
        if j != i + 1 or len(found) >= _MOST_ROOTS:
            continue
        low, high = float(known.points[i]), float(known.points[j])
        if known.piece[i] != known.piece[j]:
            found.add(_bisected(tree, parameters, low, high, None))
            continue
        for order in range(3):
            if known.high[order, i] * known.high[order, j] < 0:
                found.add(_bisected(tree, parameters, low, high, order))
    return tuple(sorted(found))


def _bisected(
    tree: Tree, parameters: Mapping[str, float], low: float, high: float, order: int | None
) -> float:
    def side(x: float) -> Any:
        try:
            values, piece = jets.exact(tree, x, parameters)
        except jets.Undefined:
            return None
        return piece if order is None else values[order] > 0

    start = side(low)
    for _ in range(80):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if side(middle) == start:
            low = middle
        else:
            high = middle
    return high


def _judged(
    proof: Proof, programs: Sequence[Program], values: tuple[float, ...]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the worst errors, and sentences on where they are above the bound."""
    worst: dict[str, float] = {}
    inexact = []
    x = np.concatenate([proof.truth.points, [-math.inf, math.inf]])
    order_of_x = np.argsort(x)
    for name, limit, made, order in zip(_NAMES, LIMITS, programs, range(3), strict=True):
        for dtype, row in zip(DTYPES, proof.errors(made, order, values), strict=True):
            short = str(dtype).removeprefix("torch.")
            worst[f"{name} {short}"] = float(row.max())
            bad = (row > limit)[order_of_x]
            for first, last in _blocks(bad):
                inside = row[order_of_x][first : last + 1].max()
                low, high = x[order_of_x][first], x[order_of_x][last]
                inexact.append(
                    f"{name} from {low:.6g} to {high:.6g} in {short}: off by {inside:.3g} roundings "
                    f"({limit:g} are allowed)"
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


def _range(proof: Proof) -> Pair:
    values = np.concatenate([proof.truth.high[0], proof.ends[0]])
    values = values[~np.isnan(values)]
    return float(values.min()), float(values.max())


def _monotonic(proof: Proof) -> bool:
    values = proof.truth.high[0][~np.isnan(proof.truth.high[0])]
    return not bool((np.diff(values) < 0).any())


def derivative_tree(tree: Tree, symbol: Any) -> Tree:
    """Return the tree of the derivative by a symbol."""
    return mapped(tree, lambda expression: sympy.diff(expression, symbol))

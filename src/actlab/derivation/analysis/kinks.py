"""Find the kinks of a formula, and choose the derivative at each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import sympy

from actlab.derivation.analysis import reference_values
from actlab.derivation.analysis.elementary_jets import Undefined
from actlab.derivation.analysis.piecewise import Branch, Leaf, Tree
from actlab.derivation.syntax.to_sympy import X

_OTHER_SIDE = {
    sympy.Gt: sympy.Ge,
    sympy.Ge: sympy.Gt,
    sympy.Lt: sympy.Le,
    sympy.Le: sympy.Lt,
}


class NoKink(Exception):
    """A derivative was chosen at a point where it does not jump."""


@dataclass(frozen=True)
class Kinks:
    """The kinks of a formula at its default parameters.

    Attributes:
        chosen: The derivative chosen at each point where it jumps.
        tree: The formula. Where the chosen derivative is that of one side, conditions are changed so that the
            formula selects this side at the kink.
        forced: Chosen derivatives that neither side has, each with the relation that holds with equality at
            the kink.
    """

    chosen: Mapping[float, float]
    tree: Tree
    forced: tuple[tuple[Any, float], ...]


def find_kinks(
    tree: Tree, borders: tuple[float, ...], parameters: Mapping[str, float], at: Mapping[float, float]
) -> Kinks:
    """Find the kinks among the borders of pieces, and choose derivatives.

    If one side of a kink is flat, the chosen derivative is 0. Otherwise it is that of the side that the
    formula selects there.

    Args:
        tree: The formula.
        borders: The points at which another piece begins.
        parameters: The default parameters.
        at: Derivatives to choose instead, by point.

    Returns:
        The kinks.

    Raises:
        NoKink: The derivative does not jump at a point of ``at``.
    """
    chosen: dict[float, float] = {}
    forced = []
    for point in sorted({*borders, *map(float, at)}):
        left, own, right = (_compute_slope(tree, point, parameters, side) for side in (-1, 0, 1))
        if left is None or right is None or own is None:
            continue
        if abs(left - right) <= 1e-12 * max(abs(left), abs(right)):
            if point in at:
                raise NoKink(f"'at' contains {point:g}, but the derivative does not jump there")
            continue
        wanted = float(at.get(point, 0.0 if 0 in (left, right) else own))
        chosen[point] = wanted
        if wanted == own:
            continue
        ties = _find_ties(tree, point, parameters)
        other = _flip(tree, ties)
        if ties and _compute_slope(other, point, parameters, 0) == wanted:
            tree = other
        else:
            relation = ties[0] if ties else sympy.Gt(X, sympy.Float(point), evaluate=False)
            forced.append((relation, wanted))
    return Kinks(chosen, tree, tuple(forced))


def _compute_slope(tree: Tree, point: float, parameters: Mapping[str, float], side: int) -> float | None:
    """Return the derivative of the piece at a point (side 0), or very close to it on one side."""
    try:
        with mpmath.workprec(300):
            # A border may lie between two float64 numbers, less than one ulp from the point.
            x = mpmath.mpf(point) + side * mpmath.mpf(max(2 * math.ulp(point), 2.0**-120))
            leaf, _ = reference_values.select_piece(tree, reference_values.bind_symbols(x, parameters))
        return float(reference_values.evaluate_exactly(leaf, point, parameters)[0][1])
    except (Undefined, ZeroDivisionError):
        return None


def _find_ties(tree: Tree, point: float, parameters: Mapping[str, float]) -> list[Any]:
    """Return the relations on the way to a point's piece whose two sides are equal there."""
    ties: list[Any] = []
    with mpmath.workprec(300):
        symbols = reference_values.bind_symbols(point, parameters)
        while isinstance(tree, Branch):
            for relation in sorted(tree.condition.atoms(sympy.core.relational.Relational), key=str):
                left, right = (reference_values.evaluate_jet(side, symbols)[0] for side in relation.args)
                if left == right:
                    ties.append(relation)
            tree = tree.yes if reference_values.condition_holds(tree.condition, symbols) else tree.no
    return ties


def _flip(tree: Tree, relations: list[Any]) -> Tree:
    """Return the tree in which the points of equality of relations change sides."""
    if isinstance(tree, Leaf):
        return tree
    condition = tree.condition.xreplace(
        {r: _OTHER_SIDE[type(r)](r.lhs, r.rhs, evaluate=False) for r in relations}
    )
    return replace(tree, condition=condition, yes=_flip(tree.yes, relations), no=_flip(tree.no, relations))

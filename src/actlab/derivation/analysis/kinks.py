"""Where a derivative jumps, and the derivative chosen there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import sympy

from actlab.derivation.analysis import reference_values
from actlab.derivation.analysis.elementary_jets import Jet, Undefined
from actlab.derivation.analysis.piecewise import Branch, Leaf, Tree
from actlab.derivation.syntax.to_sympy import X

_OTHER_SIDE = {
    sympy.Gt: sympy.Ge,
    sympy.Ge: sympy.Gt,
    sympy.Lt: sympy.Le,
    sympy.Le: sympy.Lt,
}


@dataclass(frozen=True)
class Kinks:
    """The kinks of a formula at its default parameters.

    Attributes:
        chosen: Where the derivative jumps, and the derivative there.
        tree: The formula with its choices changed so that its derivative is that one, where one side has it.
        forced: Derivatives that no side has, by the relation whose two sides are equal there.
    """

    chosen: Mapping[float, float]
    tree: Tree
    forced: tuple[tuple[Any, float], ...]


def kinks_of(
    tree: Tree, places: tuple[float, ...], parameters: Mapping[str, float], at: Mapping[float, float]
) -> Kinks:
    """Find kinks among places, and choose derivatives.

    Where one side is flat the derivative is 0; else it is that of the side the formula takes.

    Args:
        tree: The formula.
        places: Where another piece begins.
        parameters: The default parameters.
        at: Derivatives wanted, by place.

    Returns:
        The kinks.
    """
    chosen: dict[float, float] = {}
    forced = []
    for place in sorted({*places, *map(float, at)}):
        left, right = (
            _slope(tree, _beside(tree, place, parameters, side), place, parameters) for side in (-1, 1)
        )
        own = _slope(tree, _beside(tree, place, parameters, 0), place, parameters)
        if left is None or right is None or own is None:
            continue
        jumps = abs(left - right) > 1e-12 * max(abs(left), abs(right))
        if not jumps and place not in at:
            continue
        wanted = at.get(place, 0.0 if 0 in (left, right) else own)
        chosen[place] = float(wanted)
        if wanted == own:
            continue
        ties = _ties(tree, place, parameters)
        other = _loosened(tree, ties)
        moved = _slope(other, _beside(other, place, parameters, 0), place, parameters)
        if ties and moved == wanted:
            tree = other
        else:
            relation = ties[0] if ties else sympy.Gt(X, sympy.Float(place), evaluate=False)
            forced.append((relation, float(wanted)))
    return Kinks(chosen, tree, tuple(forced))


def _known(place: Any, parameters: Mapping[str, float]) -> dict[Any, Jet]:
    zero = mpmath.mp.zero
    known: dict[Any, Jet] = {
        sympy.Symbol(name, real=True): (mpmath.mpf(value), zero, zero, zero)
        for name, value in parameters.items()
    }
    known[X] = (mpmath.mpf(place), mpmath.mp.one, zero, zero)
    return known


def _beside(tree: Tree, place: float, parameters: Mapping[str, float], side: int) -> Leaf | None:
    """Return the piece at a place, or very near to it on one side."""
    with mpmath.workprec(300):
        # A border that is no float64 is off its place by less than one.
        x = mpmath.mpf(place) + side * mpmath.mpf(max(2 * math.ulp(place), 2.0**-120))
        try:
            return reference_values.chosen(tree, _known(x, parameters))[0]
        except (Undefined, ZeroDivisionError):
            return None


def _slope(tree: Tree, leaf: Leaf | None, place: float, parameters: Mapping[str, float]) -> float | None:
    if leaf is None:
        return None
    try:
        return float(reference_values.exact(leaf, place, parameters)[0][1])
    except Undefined:
        return None


def _ties(tree: Tree, place: float, parameters: Mapping[str, float]) -> list[Any]:
    """Return the relations on the way to a place's piece whose two sides are equal there."""
    found: list[Any] = []
    with mpmath.workprec(300):
        known = _known(place, parameters)
        while isinstance(tree, Branch):
            for relation in sorted(tree.condition.atoms(sympy.core.relational.Relational), key=str):
                if (
                    reference_values.jet(relation.lhs, known)[0]
                    == reference_values.jet(relation.rhs, known)[0]
                ):
                    found.append(relation)
            tree = tree.yes if reference_values.holds(tree.condition, known) else tree.no
    return found


def _loosened(tree: Tree, relations: list[Any]) -> Tree:
    """Return the tree in which relations give equality to their other side."""
    if isinstance(tree, Leaf):
        return tree
    condition = tree.condition.xreplace(
        {r: _OTHER_SIDE[type(r)](r.lhs, r.rhs, evaluate=False) for r in relations}
    )
    return replace(
        tree, condition=condition, yes=_loosened(tree.yes, relations), no=_loosened(tree.no, relations)
    )

"""A formula as a tree of smooth pieces: every choice in it becomes a branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import sympy
from sympy import Expr, Piecewise

from actlab.derivation.syntax.to_sympy import X
from actlab.errors import UsageError

MOST_PIECES = 32
Bounds = tuple[Any, Any]
_CHOICES = (Piecewise, sympy.Abs, sympy.Min, sympy.Max)


@dataclass(frozen=True)
class Leaf:
    """A smooth piece."""

    expression: Expr


@dataclass(frozen=True)
class Branch:
    """A choice between two trees."""

    condition: Any
    yes: Tree
    no: Tree


Tree = Leaf | Branch


class TooManyPieces(UsageError):
    """The formula has more pieces than are worth telling apart."""

    def __init__(self) -> None:
        super().__init__(
            f"the formula has more than {MOST_PIECES} pieces; use fewer of abs, min, max and where"
        )


def split_into_pieces(expression: Expr) -> Tree:
    """Split a formula at its choices.

    Args:
        expression: A formula with ``Piecewise``, ``Abs``, ``Min`` and ``Max``.

    Returns:
        The tree. Of two sides of a ``Min`` or ``Max`` that are equal it takes a constant one.

    Raises:
        TooManyPieces: There would be more than are worth telling apart.

    Examples:
        >>> split_into_pieces(sympy.Max(X, 0))
        Branch(condition=x > 0, yes=Leaf(expression=x), no=Leaf(expression=0))
    """
    return _split(expression, {}, (-sympy.oo, sympy.oo), [0])


def leaves(tree: Tree) -> Iterator[Leaf]:
    """Return the pieces, from left to right."""
    if isinstance(tree, Leaf):
        yield tree
    else:
        yield from leaves(tree.yes)
        yield from leaves(tree.no)


def find_ramp(tree: Tree, place: int = 0) -> tuple[Leaf, int, Any, Any] | None:
    """Return a rising line that stops at one or two values, if a tree is one.

    Args:
        tree: The tree.
        place: Its number.

    Returns:
        The piece of the line, its number, and the values below and above which it does not go.

    Examples:
        >>> find_ramp(split_into_pieces(sympy.Min(sympy.Max(X, 0), 6)))
        (Leaf(expression=x), 3, 0, 6)
    """
    if isinstance(tree, Leaf):
        slope = sympy.diff(tree.expression, X)
        return (tree, place, -sympy.oo, sympy.oo) if slope.is_number and slope > 0 else None
    found = _bound(tree.condition)
    sides = find_ramp(tree.yes, 2 * place + 1), find_ramp(tree.no, 2 * place + 2)
    if found is None or (sides[0] is None) == (sides[1] is None):
        return None
    above, border = found
    rising, rest = (sides[0], tree.no) if sides[0] else (sides[1], tree.yes)
    if not isinstance(rest, Leaf) or not rest.expression.is_number:
        return None
    line, own, low, high = rising  # type: ignore[misc]
    stop = rest.expression
    if line.expression.subs(X, border) != stop or not low < stop < high:
        return None
    on_right = above == (sides[0] is not None)
    return (line, own, stop, high) if on_right else (line, own, low, stop)


def map_leaves(tree: Tree, function: Any) -> Tree:
    """Return the tree with a function applied to every piece's expression."""
    if isinstance(tree, Leaf):
        return Leaf(function(tree.expression))
    return replace(tree, yes=map_leaves(tree.yes, function), no=map_leaves(tree.no, function))


def _split(expression: Any, decided: dict[Any, bool], bounds: Bounds, count: list[int]) -> Tree:
    node = next((n for n in sympy.postorder_traversal(expression) if isinstance(n, _CHOICES)), None)
    if node is None:
        count[0] += 1
        if count[0] > MOST_PIECES:
            raise TooManyPieces
        return Leaf(expression)
    condition, yes, no = _choice(node)
    condition = _solved(condition)
    known = _known(condition, decided, bounds)
    if known is not None:
        return _split(expression.xreplace({node: yes if known else no}), decided, bounds, count)
    inside, outside = _narrowed(condition, bounds), _narrowed(sympy.Not(condition), bounds)
    return Branch(
        condition,
        _split(expression.xreplace({node: yes}), {**decided, condition: True}, inside, count),
        _split(expression.xreplace({node: no}), {**decided, condition: False}, outside, count),
    )


def _choice(node: Any) -> tuple[Any, Expr, Expr]:
    """Return one choice of a node: a condition, and what the node is where it holds and where not."""
    if isinstance(node, sympy.Abs):
        u = node.args[0]
        return u > 0, u, -u
    if isinstance(node, Piecewise):
        (value, condition), *rest = node.args
        return condition, value, Piecewise(*rest) if rest else sympy.nan
    # A constant last: it is taken where both are equal, and its slope is 0.
    first, *others = sorted(node.args, key=lambda a: (not a.has(X), sympy.default_sort_key(a)))
    greater = isinstance(node, sympy.Max)
    condition = sympy.And(*(first > other if greater else first < other for other in others))
    return condition, first, node.func(*others)


def _bound(condition: Any) -> tuple[bool, Any] | None:
    """Return (whether x is above, the number) of a condition on x alone."""
    if not isinstance(condition, sympy.core.relational.Relational) or condition.free_symbols != {X}:
        return None
    if condition.lhs == X and condition.rhs.is_number:
        return isinstance(condition, sympy.Gt | sympy.Ge), condition.rhs
    if condition.rhs == X and condition.lhs.is_number:
        return isinstance(condition, sympy.Lt | sympy.Le), condition.lhs
    slope = sympy.expand(condition.lhs - condition.rhs)
    if slope.is_polynomial(X) and sympy.degree(slope, X) == 1:
        factor, constant = slope.coeff(X, 1), slope.coeff(X, 0)
        above = isinstance(condition, sympy.Gt | sympy.Ge)
        return above == bool(factor > 0), -constant / factor
    return None


def _solved(condition: Any) -> Any:
    """Return a condition on x alone with x on its left side: nothing is rounded when it is decided."""
    found = _bound(condition)
    if found is None or (condition.lhs == X and condition.rhs.is_number):
        return condition
    above, place = found
    strict = isinstance(condition, sympy.Gt | sympy.Lt)
    kind = (sympy.Gt if strict else sympy.Ge) if above else (sympy.Lt if strict else sympy.Le)
    return kind(X, place)


def _narrowed(condition: Any, bounds: Bounds) -> Bounds:
    found = _bound(condition)
    if found is None:
        return bounds
    above, place = found
    low, high = bounds
    return (max(low, place), high) if above else (low, min(high, place))


def _known(condition: Any, decided: dict[Any, bool], bounds: Bounds) -> bool | None:
    if condition in (True, False, sympy.true, sympy.false):
        return bool(condition)
    for known, answer in decided.items():
        if condition == known:
            return answer
        if condition == sympy.Not(known):
            return not answer
    found = _bound(condition)
    if found is None:
        return None
    above, place = found
    low, high = bounds
    if low > place or high < place:  # beside the place, a touching bound may still be it
        return above == bool(low > place)
    return None

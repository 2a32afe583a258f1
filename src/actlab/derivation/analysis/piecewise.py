"""Split a formula into a tree of smooth pieces: every choice becomes a branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import sympy
from sympy import Expr, Piecewise

from actlab.derivation.syntax.to_sympy import X
from actlab.errors import UsageError

MOST_PIECES = 32
Interval = tuple[Any, Any]
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
    """The formula has too many pieces."""

    def __init__(self) -> None:
        super().__init__(
            f"the formula has more than {MOST_PIECES} pieces; use abs, min, max and where less often"
        )


def split_into_pieces(expression: Expr) -> Tree:
    """Split a formula at its choices.

    Args:
        expression: A formula with ``Piecewise``, ``Abs``, ``Min`` and ``Max``.

    Returns:
        The tree. Where the two sides of a ``Min`` or ``Max`` are equal, the tree selects a constant side.

    Raises:
        TooManyPieces: There are more than 32 pieces.

    Examples:
        >>> split_into_pieces(sympy.Max(X, 0))
        Branch(condition=x > 0, yes=Leaf(expression=x), no=Leaf(expression=0))
    """
    return _split(expression, {}, (-sympy.oo, sympy.oo), [0])


def iterate_leaves(tree: Tree) -> Iterator[Leaf]:
    """Yield the pieces, from left to right."""
    if isinstance(tree, Leaf):
        yield tree
    else:
        yield from iterate_leaves(tree.yes)
        yield from iterate_leaves(tree.no)


def iterate_conditions(tree: Tree) -> Iterator[Any]:
    """Yield the conditions of all branches."""
    if isinstance(tree, Branch):
        yield tree.condition
        yield from iterate_conditions(tree.yes)
        yield from iterate_conditions(tree.no)


def find_ramp(tree: Tree, number: int = 0) -> tuple[Leaf, int, Any, Any] | None:
    """Return the ramp that a tree describes: a rising line that is constant below or above a value.

    Args:
        tree: The tree.
        number: The number of its root.

    Returns:
        The piece of the line, its number, and the smallest and the largest value; or None.

    Examples:
        >>> find_ramp(split_into_pieces(sympy.Min(sympy.Max(X, 0), 6)))
        (Leaf(expression=x), 3, 0, 6)
    """
    if isinstance(tree, Leaf):
        slope = sympy.diff(tree.expression, X)
        return (tree, number, -sympy.oo, sympy.oo) if slope.is_number and slope > 0 else None
    bound = _find_bound(tree.condition)
    yes, no = find_ramp(tree.yes, 2 * number + 1), find_ramp(tree.no, 2 * number + 2)
    if bound is None or (yes is None) == (no is None):
        return None
    above, border = bound
    line, own, low, high = yes or no  # type: ignore[misc]
    rest = tree.no if yes else tree.yes
    if not isinstance(rest, Leaf) or not rest.expression.is_number:
        return None
    end = rest.expression
    if line.expression.subs(X, border) != end or not low < end < high:
        return None
    is_right = above == (yes is not None)
    return (line, own, end, high) if is_right else (line, own, low, end)


def map_leaves(tree: Tree, function: Any) -> Tree:
    """Apply a function to the expression of every piece."""
    if isinstance(tree, Leaf):
        return Leaf(function(tree.expression))
    return replace(tree, yes=map_leaves(tree.yes, function), no=map_leaves(tree.no, function))


def _split(expression: Any, decided: dict[Any, bool], interval: Interval, count: list[int]) -> Tree:
    node = next((n for n in sympy.postorder_traversal(expression) if isinstance(n, _CHOICES)), None)
    if node is None:
        count[0] += 1
        if count[0] > MOST_PIECES:
            raise TooManyPieces
        return Leaf(expression)
    condition, yes, no = _split_choice(node)
    condition = _solve_for_x(condition)
    decision = _decide(condition, decided, interval)
    if decision is not None:
        return _split(expression.xreplace({node: yes if decision else no}), decided, interval, count)
    sides = []
    for holds, side in ((True, yes), (False, no)):
        narrowed = _narrow(condition if holds else sympy.Not(condition), interval)
        sides.append(
            _split(expression.xreplace({node: side}), {**decided, condition: holds}, narrowed, count)
        )
    return Branch(condition, *sides)


def _split_choice(node: Any) -> tuple[Any, Expr, Expr]:
    """Return a condition, and the value of a node where it holds and where it does not."""
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


def _find_bound(condition: Any) -> tuple[bool, Any] | None:
    """Return (whether x is above, the number) of a condition on x alone."""
    if not isinstance(condition, sympy.core.relational.Relational) or condition.free_symbols != {X}:
        return None
    is_above = isinstance(condition, sympy.Gt | sympy.Ge)
    difference = sympy.expand(condition.lhs - condition.rhs)
    if difference.is_polynomial(X) and sympy.degree(difference, X) == 1:
        factor, constant = difference.coeff(X, 1), difference.coeff(X, 0)
        return is_above == bool(factor > 0), -constant / factor
    return None


def _solve_for_x(condition: Any) -> Any:
    """Solve a condition on x alone for x: evaluating it then involves no rounding."""
    bound = _find_bound(condition)
    if bound is None or (condition.lhs == X and condition.rhs.is_number):
        return condition
    above, border = bound
    strict = isinstance(condition, sympy.Gt | sympy.Lt)
    kind = (sympy.Gt if strict else sympy.Ge) if above else (sympy.Lt if strict else sympy.Le)
    return kind(X, border)


def _narrow(condition: Any, interval: Interval) -> Interval:
    bound = _find_bound(condition)
    if bound is None:
        return interval
    above, border = bound
    low, high = interval
    return (max(low, border), high) if above else (low, min(high, border))


def _decide(condition: Any, decided: dict[Any, bool], interval: Interval) -> bool | None:
    if condition in (True, False, sympy.true, sympy.false):
        return bool(condition)
    for known, holds in decided.items():
        if condition in (known, sympy.Not(known)):
            return holds == (condition == known)
    bound = _find_bound(condition)
    if bound is None:
        return None
    above, border = bound
    low, high = interval
    if low > border or high < border:  # an interval that touches the border may contain it
        return above == bool(low > border)
    return None

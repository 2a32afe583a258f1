"""Write a formula and its derivatives in LaTeX."""

from __future__ import annotations

import sympy
from sympy import Expr

from actlab.derivation.analysis.piecewise import Leaf, Tree, map_leaves, split_into_pieces
from actlab.derivation.syntax.sympy_budget import simplify
from actlab.derivation.syntax.to_sympy import X

_LARGEST_DENOMINATOR = 12  # of fractions; others are shown as decimals
_MOST_DIGITS = 17
_MOST_SIMPLIFIED = 60  # operations


def to_latex(expression: Expr) -> tuple[str, str, str]:
    r"""Return a formula and its first and second derivative in LaTeX, piece by piece.

    Args:
        expression: The formula.

    Examples:
        >>> to_latex(X**2 / 3)
        ('\\frac{x^{2}}{3}', '\\frac{2 x}{3}', '\\frac{2}{3}')
    """
    tree = split_into_pieces(expression)
    texts = [sympy.latex(_to_decimals(expression))]
    for _ in range(2):
        tree = map_leaves(tree, lambda piece: _shorten(sympy.diff(piece, X)))
        texts.append(sympy.latex(_to_decimals(_join_pieces(tree))))
    return texts[0], texts[1], texts[2]


def _shorten(expression: Expr) -> Expr:
    if expression.count_ops() > _MOST_SIMPLIFIED:
        return expression
    return min(expression, simplify(expression), key=lambda one: len(sympy.latex(one)))


def _join_pieces(tree: Tree) -> Expr:
    """Return one Piecewise of all pieces."""
    cases = _list_cases(tree, sympy.true)
    merged = cases[:1]
    for value, condition in cases[1:]:
        before, former = merged[-1]
        if value == before:
            merged[-1] = value, sympy.Or(former, condition)
        else:
            merged.append((value, condition))
    last, _ = merged[-1]
    return sympy.Piecewise(*merged[:-1], (last, True))


def _list_cases(tree: Tree, condition: sympy.Basic) -> list[tuple[Expr, sympy.Basic]]:
    if isinstance(tree, Leaf):
        return [(tree.expression, condition)]
    yes = sympy.And(condition, tree.condition)
    return [*_list_cases(tree.yes, yes), *_list_cases(tree.no, condition)]


def _to_decimals(expression: Expr) -> Expr:
    """Write fractions that have a short decimal form as decimals."""
    known = {}
    for number in expression.atoms(sympy.Rational):
        text = f"{float(number):.{_MOST_DIGITS}g}"
        if number.q > _LARGEST_DENOMINATOR and sympy.Rational(repr(float(number))) == number:
            known[number] = sympy.Float(repr(float(number)), len(text.replace(".", "").strip("-0")))
    return expression.xreplace(known)

"""A derivative as text, in the grammar of formulas."""

from __future__ import annotations

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from actlab.derivation.syntax.sympy_budget import simplify
from actlab.derivation.syntax.to_sympy import read_formula

_MOST_SIMPLIFIED = 35  # operations: simplifying takes seconds beyond it
_MOST_DIGITS = 6  # of a denominator; other fractions are shown as the original decimals


class _Printer(StrPrinter):
    """Prints SymPy expressions in the grammar of formulas."""

    def _print_Float(self, expression: sympy.Float) -> str:
        return repr(float(expression))

    def _print_Piecewise(self, expression: sympy.Piecewise) -> str:
        *branches, (last, _) = expression.args
        text = self._print(last)
        for value, condition in reversed(branches):
            text = f"where({self._print(condition)}, {self._print(value)}, {text})"
        return text

    def _print_And(self, expression: sympy.And) -> str:
        return " and ".join(self.parenthesize(part, PRECEDENCE["And"]) for part in expression.args)

    def _print_Or(self, expression: sympy.Or) -> str:
        return " or ".join(self.parenthesize(part, PRECEDENCE["Or"]) for part in expression.args)

    def _print_Abs(self, expression: sympy.Abs) -> str:
        return f"abs({self._print(expression.args[0])})"


def write_derivative(text: str, order: int = 1) -> str:
    """Return a derivative with respect to ``x`` as text, simplified where that is quick.

    Args:
        text: The formula.
        order: 1 for the first derivative, 2 for the second.

    Returns:
        The derivative in the same grammar, away from kinks.

    Examples:
        >>> write_derivative("x * tanh(x)")
        'x/cosh(x)**2 + tanh(x)'
        >>> write_derivative("where(x > 0, x, a * x)")
        'where(x > 0, 1, a)'
    """
    x = sympy.Symbol("x", real=True)
    derivative = sympy.diff(read_formula(text).rewrite(sympy.Piecewise), x, order)
    if derivative.count_ops() <= _MOST_SIMPLIFIED:
        derivative = simplify(sympy.piecewise_fold(derivative))
    decimals = [one for one in derivative.atoms(sympy.Rational) if len(str(one.q)) > _MOST_DIGITS]
    shown = derivative.xreplace({one: sympy.Float(float(one), 17) for one in decimals})
    return str(_Printer().doprint(shown))

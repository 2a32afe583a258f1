"""A formula in text, read as SymPy, by a white list over Python's grammar: nothing is evaluated."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from actlab._errors import UsageError, did_you_mean

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: sympy.Lt,
    ast.LtE: sympy.Le,
    ast.Gt: sympy.Gt,
    ast.GtE: sympy.Ge,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{n: getattr(sympy, n) for n in "exp log tanh sinh cosh erf erfc sin cos tan atan sqrt".split()},
    "log1p": lambda x: sympy.log(1 + x),
    "expm1": lambda x: sympy.exp(x) - 1,
    "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
    "softplus": lambda x: sympy.log(1 + sympy.exp(x)),
    "abs": sympy.Abs,
    "min": sympy.Min,
    "max": sympy.Max,
    "where": lambda condition, a, b: sympy.Piecewise((a, condition), (b, True)),
}


def to_sympy(text: str) -> sympy.Expr:
    """Read a formula.

    Args:
        text: Arithmetic in real variables, with the usual functions, ``where(x > 0, a, b)``, ``pi``.

    Returns:
        The expression; its symbols are real.

    Raises:
        UsageError: The text is no formula; the message names the part that is not.

    Examples:
        >>> to_sympy("where(x > 0, x, a * (exp(x) - 1))")
        Piecewise((x, x > 0), (a*(exp(x) - 1), True))
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        expression: sympy.Expr = _read(tree.body, text)
        return expression
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise UsageError(f"formula {text!r}: is not an expression") from error


def _read(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return sympy.Rational(repr(value))
        case ast.Name(id="pi"):
            return sympy.pi
        case ast.Name(id=name):
            return sympy.Symbol(name, real=True)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_read(operand, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_read(left, text), _read(right, text))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return _COMPARISONS[type(op)](_read(left, text), _read(right, text))
        case ast.Compare(left=left, ops=[op, *ops], comparators=[right, *rest]):
            first = _read(ast.Compare(left, [op], [right]), text)
            return sympy.And(first, _read(ast.Compare(right, ops, rest), text))
        case ast.BoolOp(op=op, values=values):
            both = sympy.And if isinstance(op, ast.And) else sympy.Or
            return both(*(_read(value, text) for value in values))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_read(arg, text) for arg in args))
        case ast.Call(func=ast.Name(id=name)) if name not in _FUNCTIONS:
            raise UsageError(f"formula {text!r}: unknown function {name!r}{did_you_mean(name, _FUNCTIONS)}")
    part = ast.get_source_segment(text.strip(), node) or type(node).__name__
    raise UsageError(f"formula {text!r}: {part!r} is not allowed in a formula")


class _Printer(StrPrinter):
    """Prints SymPy in the grammar that :func:`to_sympy` reads."""

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


def derivative_text(text: str, order: int = 1) -> str:
    """Return a derivative with respect to ``x`` as text, simplified.

    Args:
        text: The formula.
        order: 1 for the first derivative, 2 for the second.

    Returns:
        The derivative in the same grammar, away from kinks.

    Examples:
        >>> derivative_text("x * tanh(x)")
        'x/cosh(x)**2 + tanh(x)'
        >>> derivative_text("where(x > 0, x, a * x)")
        'where(x > 0, 1, a)'
    """
    x = sympy.Symbol("x", real=True)
    derivative = sympy.diff(to_sympy(text).rewrite(sympy.Piecewise), x, order)
    return str(_Printer().doprint(sympy.simplify(sympy.piecewise_fold(derivative))))

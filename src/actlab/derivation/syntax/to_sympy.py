"""Convert a formula to SymPy. Nothing in the text is evaluated as Python, and nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import sympy

from actlab.derivation.syntax.builtin_functions import FUNCTIONS, list_argument_names
from actlab.derivation.syntax.parser import TOO_LONG, ParsedFormula, expand_catalogue_call, parse_formula
from actlab.derivation.syntax.point_evaluation import check_constants
from actlab.derivation.syntax.sympy_budget import BudgetExceeded, limit_calls
from actlab.errors import UsageError

X = sympy.Symbol("x", real=True)  # the input of a formula

_MOST_NODES = 600  # of an expression, with all functions in the catalogue expanded
_MOST_COMPARED = 150  # nodes in min or max: SymPy compares them with each other at length
_LARGEST_EXPONENT = 100
_MOST_BITS = 4096  # of a number
_MOST_CALLS = 1_000_000  # of functions, about half a second: SymPy may not terminate

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


def read_formula(text: str, names: Collection[str] | None = None) -> sympy.Expr:
    """Read a formula.

    Args:
        text: Arithmetic in real variables with the usual functions, ``where(x > 0, a, b)``, ``pi``, and
            functions in the catalogue.
        names: The variables that it may use (default: any).

    Returns:
        The expression; its symbols are real.

    Raises:
        UsageError: The text is not a formula; the message shows the position.

    Examples:
        >>> read_formula("where(x > 0, x, a * (exp(x) - 1))")
        Piecewise((x, x > 0), (a*(exp(x) - 1), True))
        >>> read_formula("mish(x) / 2")
        x*tanh(log(exp(x) + 1))/2
    """
    return to_expression(parse_formula(text, names))


def to_expression(parsed: ParsedFormula) -> sympy.Expr:
    """Convert a parsed formula exactly: numbers become fractions.

    Raises:
        UsageError: A part is too large, or is not a finite real number.
    """
    check_constants(parsed)
    try:
        with limit_calls(_MOST_CALLS):
            return _Converter(parsed, {}).convert(parsed.tree)
    except BudgetExceeded:
        parsed.refuse(parsed.tree, "is too complicated for SymPy")


class _Converter:
    """Converts one formula; ``values`` replace its names when another formula calls it."""

    def __init__(self, parsed: ParsedFormula, values: Mapping[str, Any]) -> None:
        self.parsed, self.values = parsed, values
        self.sizes: dict[Any, int] = {}

    def convert(self, node: ast.expr) -> Any:
        """Convert a part."""
        try:
            found = self._convert_node(node)
        except UsageError:
            raise
        except (TypeError, ValueError, ArithmeticError, RecursionError, AttributeError):
            self.parsed.refuse(node, f"{self.parsed.quote(node)!r} cannot be evaluated")
        if found in (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
            self.parsed.refuse(node, f"{self.parsed.quote(node)!r} is not a finite number")
        if self._count_nodes(found) > _MOST_NODES:
            self.parsed.refuse(node, TOO_LONG.format(_MOST_NODES))
        return found

    def _convert_node(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return sympy.Rational(self.parsed.get_text(node))
            case ast.Name(id="pi"):
                return sympy.pi
            case ast.Name(id=name):
                return self.values[name] if name in self.values else sympy.Symbol(name, real=True)
            case ast.UnaryOp(op=op, operand=operand):
                value = self.convert(operand)
                if isinstance(op, ast.Not):
                    return sympy.Not(value)
                return -value if isinstance(op, ast.USub) else value
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self.convert(left), self.convert(right)
                if b == 0 and isinstance(op, ast.Div):
                    self.parsed.refuse(node, f"{self.parsed.quote(node)!r} divides by 0")
                return (
                    self._convert_power(node, a, b) if isinstance(op, ast.Pow) else _OPERATORS[type(op)](a, b)
                )
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                values = [self.convert(left), *map(self.convert, comparators)]
                pairs = zip(ops, values, values[1:], strict=False)
                return sympy.And(*(_COMPARISONS[type(op)](a, b) for op, a, b in pairs))
            case ast.BoolOp(op=op, values=parts):
                both = sympy.And if isinstance(op, ast.And) else sympy.Or
                return both(*map(self.convert, parts))
            case ast.Call(func=ast.Name(id=name), args=args):
                return self._convert_call(node, name, list(map(self.convert, args)))
        raise TypeError(type(node))

    def _convert_power(self, node: ast.expr, base: Any, exponent: Any) -> Any:
        largest = max((abs(one) for one in exponent.atoms(sympy.Rational)), default=0)
        if largest > _LARGEST_EXPONENT or (exponent.is_number and abs(exponent) > _LARGEST_EXPONENT):
            self._refuse_exponent(node)
        if base.is_Rational and exponent.is_Rational and _count_bits(base) * abs(exponent) > _MOST_BITS:
            self.parsed.refuse(node, f"{self.parsed.quote(node)!r} is too large a number")
        found = base**exponent
        if found.is_Pow and found.exp.is_number and abs(found.exp) > _LARGEST_EXPONENT:
            self._refuse_exponent(node)
        return found

    def _refuse_exponent(self, node: ast.expr) -> NoReturn:
        part = self.parsed.quote(node)
        self.parsed.refuse(node, f"{part!r} has too large an exponent; the maximum is {_LARGEST_EXPONENT}")

    def _convert_call(self, node: ast.expr, name: str, values: list[Any]) -> Any:
        if name in ("min", "max", "clip") and sum(map(self._count_nodes, values)) > _MOST_COMPARED:
            self.parsed.refuse(
                node, f"{name} has arguments of more than {_MOST_COMPARED} operations and values"
            )
        if name in FUNCTIONS and len(values) == len(list_argument_names(name)):
            return FUNCTIONS[name](sympy, *values)
        inner, given = expand_catalogue_call(name, values, sympy.Rational)
        try:
            return _Converter(inner, given).convert(inner.tree)
        except UsageError as error:
            problem = str(error).splitlines()[0].removeprefix("formula: ")
            self.parsed.refuse(node, f"{self.parsed.quote(node)!r}: in {inner.text}, {problem}")

    def _count_nodes(self, found: Any) -> int:
        """Count the nodes of an expression, and refuse a number that is too long."""
        if found not in self.sizes:
            if found.is_Rational and _count_bits(found) > _MOST_BITS:
                raise ValueError("too long a number")
            self.sizes[found] = 1 + sum(map(self._count_nodes, found.args))
        return self.sizes[found]


def _count_bits(number: Any) -> int:
    return int(number.p).bit_length() + int(number.q).bit_length()

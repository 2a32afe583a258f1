"""The value of a formula at one point, in thirty digits: what is no real number says which part it is."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any

import mpmath

from actlab.derivation.syntax.builtins import FUNCTIONS, WHERE, argument_names
from actlab.derivation.syntax.parser import Parsed, expand_entry

DIGITS = 30
_FAR = 1e6  # an argument of exp beyond it, or a power of 2
_LARGEST = 1.7e308
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


class UndefinedPart(Exception):
    """No real number; of which part of the formula."""

    def __init__(self, node: ast.expr) -> None:
        self.node = node


class TooLarge(Exception):
    """Too large to be computed with, which says nothing of the formula."""


def check_constants(parsed: Parsed) -> None:
    """Refuse a part without names that is no number of float64: SymPy would try to compare it for ever.

    Raises:
        UsageError: With its place.
    """
    point = PointEvaluator(parsed, {})
    with mpmath.workdps(DIGITS):
        _constant(point, parsed.tree)


def _constant(point: PointEvaluator, node: ast.expr) -> bool:
    """Whether a part is a constant; its value is then known."""
    parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    if isinstance(node, ast.Call):
        parts = node.args
    constants = [_constant(point, part) for part in parts]  # all of them are looked at
    if not all(constants) or (isinstance(node, ast.Name) and node.id != "pi"):
        return False
    if isinstance(node, ast.Compare | ast.BoolOp) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        return True
    try:
        value = point.known[id(node)] = point.value(node)
    except UndefinedPart as error:
        text = point.parsed.part(error.node)
        point.parsed.refuse(error.node, f"{text!r} is not a finite real number")
    except TooLarge:
        value = math.inf
    if abs(value) > _LARGEST:
        point.parsed.refuse(node, f"{point.parsed.part(node)!r} is out of range for float64")
    return True


class PointEvaluator:
    """A formula at one point. What it divides by is kept, by the place of the division in the text."""

    def __init__(self, parsed: Parsed, values: Mapping[str, Any], pole: int | None = None) -> None:
        self.parsed, self.values, self.pole = parsed, values, pole
        self.denominators: dict[int, Any] = {}
        self.known: dict[int, Any] = {}  # constants, by their node

    def value(self, node: ast.expr) -> Any:
        """Return the value of a part; what is chosen by a condition is not computed where it is not."""
        if id(node) in self.known:
            return self.known[id(node)]
        match node:
            case ast.Constant():
                return mpmath.mpf(self.parsed.text[slice(*self.parsed.place(node))])
            case ast.Name(id="pi"):
                return mpmath.pi()
            case ast.Name(id=name):
                return self.values[name]
            case ast.UnaryOp(op=op, operand=operand):
                return -self.value(operand) if isinstance(op, ast.USub) else self.value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return self._operation(node, op, self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=args):
                if name == WHERE:
                    return self.value(args[1] if self._holds(args[0]) else args[2])
                return self._call(node, name, list(map(self.value, args)))
        raise TypeError(type(node))

    def _operation(self, node: ast.BinOp, op: ast.operator, a: Any, b: Any) -> Any:
        match op:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
            case ast.Div():
                return a / self._denominator(node, b)
        whole = b == mpmath.floor(b)
        if b < 0:
            self._denominator(node, a)
        if (a == 0 and b < 0) or (a < 0 and not whole):
            raise UndefinedPart(node)
        if a and abs(b) * abs(mpmath.log(abs(a), 2)) > _FAR:
            raise TooLarge
        return a**b

    def _denominator(self, node: ast.expr, value: Any) -> Any:
        key = node.col_offset * 10_000 + (node.end_col_offset or 0)
        self.denominators[key] = value
        if value == 0 or key == self.pole:
            raise UndefinedPart(node)
        return value

    def _call(self, node: ast.Call, name: str, values: list[Any]) -> Any:
        try:
            if name in FUNCTIONS and len(values) == len(argument_names(name)):
                if name == "tan":
                    self._denominator(node, mpmath.cos(_reasonable(values[0])))
                found = FUNCTIONS[name](_Functions, *values)
            else:
                inner, given = expand_entry(name, values, mpmath.mpf)
                found = PointEvaluator(inner, given).value(inner.tree)
        except (_NotReal, UndefinedPart):
            raise UndefinedPart(node) from None
        if not mpmath.isfinite(found):
            raise UndefinedPart(node)
        return found

    def _holds(self, node: ast.expr) -> bool:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                values = [self.value(left), *map(self.value, comparators)]
                pairs = zip(ops, values, values[1:], strict=False)
                return all(_COMPARED[type(op)](a, b) for op, a, b in pairs)
            case ast.BoolOp(op=op, values=parts):
                return (all if isinstance(op, ast.And) else any)(map(self._holds, parts))
            case ast.UnaryOp(operand=operand):
                return not self._holds(operand)
        raise TypeError(type(node))


class _NotReal(Exception):
    """An elementary function has no real value there."""


def _reasonable(u: Any, most: float = 1e30) -> Any:
    """Return an argument for which a function can be computed in reasonable time."""
    if abs(u) > most:
        raise TooLarge
    return u


def _of(name: str, most: float, low: float = -math.inf) -> Callable[[Any], Any]:
    """Return a function of mpmath that is real from ``low`` on, and computed where its argument is small."""
    function = getattr(mpmath, name)

    def checked(u: Any) -> Any:
        if u < low:
            raise _NotReal
        return function(_reasonable(u, most))

    return staticmethod(checked)


class _Functions:
    """The elementary functions, as :data:`FUNCTIONS` asks for them."""

    exp, sinh, cosh = _of("exp", _FAR), _of("sinh", _FAR), _of("cosh", _FAR)
    tanh, erf, erfc, atan = _of("tanh", 1e30), _of("erf", 1e3), _of("erfc", 1e3), _of("atan", math.inf)
    sin, cos, tan = _of("sin", 1e30), _of("cos", 1e30), _of("tan", 1e30)
    sqrt, asinh, acosh = _of("sqrt", math.inf, low=0), _of("asinh", math.inf), _of("acosh", math.inf, low=1)

    @staticmethod
    def atanh(u: Any) -> Any:
        """Return the inverse of the hyperbolic tangent, which lies between -1 and 1."""
        if abs(u) >= 1:
            raise _NotReal
        return mpmath.atanh(u)

    @staticmethod
    def log(u: Any) -> Any:
        """Return the natural logarithm, which 0 has none of."""
        if u <= 0:
            raise _NotReal
        return mpmath.log(u)

    Abs, Min, Max = staticmethod(abs), staticmethod(min), staticmethod(max)

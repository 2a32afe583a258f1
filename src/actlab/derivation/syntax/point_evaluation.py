"""Evaluate a formula at one point with 30 digits, and find the part that has no real value."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import mpmath

from actlab.derivation.syntax.builtin_functions import FUNCTIONS, WHERE, list_argument_names
from actlab.derivation.syntax.parser import ParsedFormula, expand_catalogue_call

DIGITS = 30
_FAR = 1e6  # an argument of exp beyond it, or a power of 2
_LARGEST = 1.7e308
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


class UndefinedPart(Exception):
    """A part of the formula has no real value."""

    def __init__(self, node: ast.expr) -> None:
        self.node = node


class TooLarge(Exception):
    """A value is too large to compute with; the formula may still be defined."""


def check_constants(parsed: ParsedFormula) -> None:
    """Refuse a constant part that float64 cannot hold: SymPy would not finish comparing it.

    Raises:
        UsageError: A constant is out of range or not real; the message shows the position.
    """
    point = PointEvaluator(parsed, {})
    with mpmath.workdps(DIGITS):
        _check_constant(point, parsed.tree)


def _check_constant(point: PointEvaluator, node: ast.expr) -> bool:
    """Return whether a part is constant, and store its value if it is."""
    parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    if isinstance(node, ast.Call):
        parts = node.args
    constants = [_check_constant(point, part) for part in parts]  # a list: every part is checked
    if not all(constants) or (isinstance(node, ast.Name) and node.id != "pi"):
        return False
    if isinstance(node, ast.Compare | ast.BoolOp) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        return True
    try:
        value = point.known[id(node)] = point.value(node)
    except UndefinedPart as error:
        text = point.parsed.quote(error.node)
        point.parsed.refuse(error.node, f"{text!r} is not a finite real number")
    except TooLarge:
        value = math.inf
    if abs(value) > _LARGEST:
        point.parsed.refuse(node, f"{point.parsed.quote(node)!r} is out of range for float64")
    return True


class PointEvaluator:
    """Evaluates a formula at one point, and stores the denominators by their position in the text."""

    def __init__(self, parsed: ParsedFormula, values: Mapping[str, Any], pole: int | None = None) -> None:
        self.parsed, self.values, self.pole = parsed, values, pole
        self.denominators: dict[int, Any] = {}
        self.known: dict[int, Any] = {}  # constants, by their node

    def value(self, node: ast.expr) -> Any:
        """Evaluate a part. Only the selected side of a choice is evaluated."""
        if id(node) in self.known:
            return self.known[id(node)]
        match node:
            case ast.Constant():
                return mpmath.mpf(self.parsed.get_text(node))
            case ast.Name(id="pi"):
                return mpmath.pi()
            case ast.Name(id=name):
                return self.values[name]
            case ast.UnaryOp(op=op, operand=operand):
                return -self.value(operand) if isinstance(op, ast.USub) else self.value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return self._evaluate_operation(node, op, self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=args):
                if name == WHERE:
                    return self.value(args[1] if self._condition_holds(args[0]) else args[2])
                return self._evaluate_call(node, name, list(map(self.value, args)))
        raise TypeError(type(node))

    def _evaluate_operation(self, node: ast.BinOp, op: ast.operator, a: Any, b: Any) -> Any:
        match op:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
            case ast.Div():
                return a / self._record_denominator(node, b)
        whole = b == mpmath.floor(b)
        if b < 0:
            self._record_denominator(node, a)
        if (a == 0 and b < 0) or (a < 0 and not whole):
            raise UndefinedPart(node)
        if a and abs(b) * abs(mpmath.log(abs(a), 2)) > _FAR:
            raise TooLarge
        return a**b

    def _record_denominator(self, node: ast.expr, value: Any) -> Any:
        key = node.col_offset * 10_000 + (node.end_col_offset or 0)
        self.denominators[key] = value
        if value == 0 or key == self.pole:
            raise UndefinedPart(node)
        return value

    def _evaluate_call(self, node: ast.Call, name: str, values: list[Any]) -> Any:
        try:
            if name in FUNCTIONS and len(values) == len(list_argument_names(name)):
                if name == "tan":
                    self._record_denominator(node, mpmath.cos(_check_size(values[0])))
                found = FUNCTIONS[name](_MPMATH, *values)
            else:
                inner, given = expand_catalogue_call(name, values, mpmath.mpf)
                found = PointEvaluator(inner, given).value(inner.tree)
        except (_NotReal, UndefinedPart):
            raise UndefinedPart(node) from None
        if not mpmath.isfinite(found):
            raise UndefinedPart(node)
        return found

    def _condition_holds(self, node: ast.expr) -> bool:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                values = [self.value(left), *map(self.value, comparators)]
                pairs = zip(ops, values, values[1:], strict=False)
                return all(_COMPARISONS[type(op)](a, b) for op, a, b in pairs)
            case ast.BoolOp(op=op, values=parts):
                return (all if isinstance(op, ast.And) else any)(map(self._condition_holds, parts))
            case ast.UnaryOp(operand=operand):
                return not self._condition_holds(operand)
        raise TypeError(type(node))


class _NotReal(Exception):
    """An elementary function has no real value at the argument."""


def _check_size(u: Any, most: float = 1e30) -> Any:
    """Return the argument, if a function of it can be computed in reasonable time."""
    if abs(u) > most:
        raise TooLarge
    return u


def _wrap(name: str, most: float = math.inf, is_real: Callable[[Any], bool] | None = None) -> Any:
    """Wrap a function of mpmath that is computed up to an argument's size, and real where a test holds."""
    function = getattr(mpmath, name)

    def call_checked(u: Any) -> Any:
        if is_real is not None and not is_real(u):
            raise _NotReal
        return function(_check_size(u, most))

    return call_checked


# The functions that FUNCTIONS uses.
_MPMATH = SimpleNamespace(
    **{name: _wrap(name, _FAR) for name in ("exp", "sinh", "cosh")},
    **{name: _wrap(name, 1e30) for name in ("tanh", "sin", "cos", "tan")},
    **{name: _wrap(name, 1e3) for name in ("erf", "erfc")},
    **{name: _wrap(name) for name in ("atan", "asinh")},
    sqrt=_wrap("sqrt", is_real=lambda u: u >= 0),
    acosh=_wrap("acosh", is_real=lambda u: u >= 1),
    atanh=_wrap("atanh", is_real=lambda u: abs(u) < 1),
    log=_wrap("log", is_real=lambda u: u > 0),
    Abs=abs,
    Min=min,
    Max=max,
)

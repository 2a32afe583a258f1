"""Where a formula is no real number: looked for at many points, and between them where it may have a pole."""

from __future__ import annotations

import ast
import contextlib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import mpmath

from actlab.derivation.grammar import Parsed, inserted
from actlab.derivation.words import CHOICE, FUNCTIONS, arguments

_DIGITS = 30
_EVERYWHERE = (1, 2, 0.5, 3, 0.1, 5, 10, 30, 0.25, 0.7, 1.5, 1.9, 4, 7, 20, 100, 0.01, 1e-3)
# Integers first, and 0 last: "log(x) is not a real number for x = -1" says more than "for x = 0".
_POINTS = (*(sign * point for point in _EVERYWHERE for sign in (-1, 1)), 0)
_FAR = 1e6  # an argument of exp beyond it, or a power of 2
_STEPS = 80  # halvings of a stretch in which a denominator changes its sign
_LEAST = 1e-12  # what is smaller is 0, beside what it was at the ends of the stretch
_MOST_POLES = 40  # stretches that are looked into
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


class _Undefined(Exception):
    """No real number; of which part of the formula."""

    def __init__(self, node: ast.expr) -> None:
        self.node = node


class _TooFar(Exception):
    """Too large to be computed with, which says nothing of the formula."""


def check_defined(parsed: Parsed, parameters: Mapping[str, float], given: Collection[float] = ()) -> None:
    """Refuse a formula that is no real number somewhere.

    Args:
        parsed: The formula.
        parameters: The values of its parameters.
        given: Where its value is given and need not be defined.

    Raises:
        UsageError: With the part at fault, and where.
    """
    values = {name: mpmath.mpf(value) for name, value in parameters.items()}
    with mpmath.workdps(_DIGITS):
        found: dict[float, dict[int, Any]] = {}
        for x in _POINTS:
            if not _near(x, given):
                found[x] = _tried(parsed, values, x)
        for low, high, node in _sign_changes(found):
            pole = _root(parsed, values, low, high, node)
            if pole is not None and not _near(float(pole), given):
                _tried(parsed, values, pole, node)


def _near(x: float, given: Iterable[float]) -> bool:
    return any(math.isclose(x, point, rel_tol=1e-9, abs_tol=1e-12) for point in given)


def _tried(parsed: Parsed, values: Mapping[str, Any], x: Any, pole: int | None = None) -> dict[int, Any]:
    """Return the denominators at a point; ``pole`` is one that is 0 there."""
    point = _Point(parsed, {**values, "x": mpmath.mpf(x)}, pole)
    try:
        point.value(parsed.tree)
    except _Undefined as error:
        where = f"x about {_number(x)}" if pole is not None else f"x = {_number(x)}"
        hint = _hole(parsed, values, x)
        parsed.refuse(error.node, f"{parsed.part(error.node)} is not a real number for {where}{hint}")
    except _TooFar:
        pass
    return point.denominators


def _number(value: Any) -> str:
    text: str = mpmath.nstr(mpmath.mpf(value), 6)
    return text.removesuffix(".0")


def _hole(parsed: Parsed, values: Mapping[str, Any], x: Any) -> str:
    """Say how a single missing point is filled, if both sides agree about it."""
    sides = []
    for side in (-1e-9, 1e-9):
        try:
            sides.append(_Point(parsed, {**values, "x": mpmath.mpf(x) + side}).value(parsed.tree))
        except (_Undefined, _TooFar):
            return ""
    if abs(sides[0] - sides[1]) > 1e-6 * (1 + abs(sides[0])):
        return ""
    return (
        f"; the value there can be given: at={{{_number(x)}: {mpmath.nstr(mpmath.mpf(sum(sides) / 2), 6)}}}"
    )


def _sign_changes(found: Mapping[float, Mapping[int, Any]]) -> list[tuple[float, float, int]]:
    """Return stretches between two points in which a denominator changes its sign, those near 0 first."""
    changes = [
        (low, high, node)
        for low, high in itertools.pairwise(sorted(found))
        for node, value in found[low].items()
        if node in found[high] and value * found[high][node] < 0
    ]
    return sorted(changes, key=lambda change: min(abs(change[0]), abs(change[1])))[:_MOST_POLES]


def _root(parsed: Parsed, values: Mapping[str, Any], low: Any, high: Any, node: int) -> Any:
    """Return where a denominator is 0; None where it jumps over it, or is not computed there."""
    low, high = mpmath.mpf(low), mpmath.mpf(high)
    first = _at(parsed, values, low, node)
    size = max(abs(first), abs(_at(parsed, values, high, node)))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        value = _at(parsed, values, middle, node)
        if value is None:
            return None
        low, high = (middle, high) if value * first > 0 else (low, middle)
    return middle if abs(value) < _LEAST * size else None


def _at(parsed: Parsed, values: Mapping[str, Any], x: Any, node: int) -> Any:
    point = _Point(parsed, {**values, "x": x})
    with contextlib.suppress(_Undefined, _TooFar):
        point.value(parsed.tree)
    return point.denominators.get(node)


class _Point:
    """A formula at one point. What it divides by is kept, by the place of the division in the text."""

    def __init__(self, parsed: Parsed, values: Mapping[str, Any], pole: int | None = None) -> None:
        self.parsed, self.values, self.pole = parsed, values, pole
        self.denominators: dict[int, Any] = {}

    def value(self, node: ast.expr) -> Any:
        """Return the value of a part; what is chosen by a condition is not computed where it is not."""
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
                if name == CHOICE:
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
            raise _Undefined(node)
        if a and abs(b) * abs(mpmath.log(abs(a), 2)) > _FAR:
            raise _TooFar
        return a**b

    def _denominator(self, node: ast.expr, value: Any) -> Any:
        key = node.col_offset * 10_000 + (node.end_col_offset or 0)
        self.denominators[key] = value
        if value == 0 or key == self.pole:
            raise _Undefined(node)
        return value

    def _call(self, node: ast.Call, name: str, values: list[Any]) -> Any:
        try:
            if name in FUNCTIONS and len(values) == len(arguments(name)):
                if name == "tan":
                    self._denominator(node, mpmath.cos(_reasonable(values[0])))
                found = FUNCTIONS[name](_Functions, *values)
            else:
                inner, given = inserted(name, values, mpmath.mpf)
                found = _Point(inner, given).value(inner.tree)
        except (_NotReal, _Undefined):
            raise _Undefined(node) from None
        if not mpmath.isfinite(found):
            raise _Undefined(node)
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
        raise _TooFar
    return u


def _of(name: str, most: float, low: float = -math.inf, high: float = math.inf) -> Callable[[Any], Any]:
    """Return a function of mpmath that is real between two bounds, of which infinite ones and 0 count too."""
    function = getattr(mpmath, name)

    def checked(u: Any) -> Any:
        if not low <= u <= high:
            raise _NotReal
        return function(_reasonable(u, most))

    return staticmethod(checked)


class _Functions:
    """The elementary functions, as :data:`FUNCTIONS` asks for them."""

    exp, sinh, cosh = _of("exp", _FAR), _of("sinh", _FAR), _of("cosh", _FAR)
    tanh, erf, erfc, atan = _of("tanh", 1e30), _of("erf", 1e3), _of("erfc", 1e3), _of("atan", math.inf)
    sin, cos, tan = _of("sin", 1e30), _of("cos", 1e30), _of("tan", 1e30)
    sqrt, asinh = _of("sqrt", math.inf, low=0), _of("asinh", math.inf)
    acosh, atanh = _of("acosh", math.inf, low=1), _of("atanh", math.inf, -1, 1)

    @staticmethod
    def log(u: Any) -> Any:
        """Return the natural logarithm, which 0 has none of."""
        if u <= 0:
            raise _NotReal
        return mpmath.log(u)

    Abs, Min, Max = staticmethod(abs), staticmethod(min), staticmethod(max)

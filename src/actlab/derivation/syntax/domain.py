"""Where a formula is no real number: looked for at many points, and between them where it may have a pole."""

from __future__ import annotations

import ast
import contextlib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import mpmath

from actlab.derivation.syntax.budget import BudgetExceeded, limit_calls
from actlab.derivation.syntax.evaluate import DIGITS, PointEvaluator, TooLarge, UndefinedPart
from actlab.derivation.syntax.parser import Parsed

_EVERYWHERE = (1, 2, 0.5, 3, 0.1, 5, 10, 30, 0.25, 0.7, 1.5, 1.9, 4, 7, 20, 100, 0.01, 1e-3)
# Integers first, and 0 last: "log(x) is not a real number for x = -1" says more than "for x = 0".
_POINTS = (*(sign * point for point in _EVERYWHERE for sign in (-1, 1)), 0)
_STEPS = 60  # halvings of a stretch in which a denominator changes its sign
_LEAST = 1e-12  # what is smaller is 0, beside what it was at the ends of the stretch
_MOST_CALLS = 600_000
_FAR = 1e3
_STEP = 1e-15  # of a difference quotient
_JUMP = 1e-9
_MOST_NUMBERS = 8
_MANY_DIGITS = 5000
_MOST_POLES = 20  # stretches that are looked into


def check_defined(parsed: Parsed, parameters: Mapping[str, float]) -> None:
    """Refuse a formula that is no real number somewhere.

    Args:
        parsed: The formula.
        parameters: The values of its parameters.

    Raises:
        UsageError: With the part at fault, and where.
    """
    values = {name: mpmath.mpf(value) for name, value in parameters.items()}
    # What takes too long is not looked at any further: nothing has been found to be wrong with it.
    with contextlib.suppress(BudgetExceeded), limit_calls(_MOST_CALLS), mpmath.workdps(DIGITS):
        found: dict[float, dict[int, Any]] = {}
        for x in (*_POINTS, *_beside_constants(parsed)):
            if x not in found:
                found[x] = _tried(parsed, values, x)
        for low, high, node in _sign_changes(found):
            pole = _root(parsed, values, low, high, node)
            if pole is not None:
                _tried(parsed, values, pole, node)


def check_kinks(parsed: Parsed, parameters: Mapping[str, float], kinks: Iterable[float]) -> None:
    """Refuse a point at which a formula's derivative does not jump.

    Args:
        parsed: The formula.
        parameters: The values of its parameters.
        kinks: The points.

    Raises:
        UsageError: With the point.
    """
    values = {name: mpmath.mpf(value) for name, value in parameters.items()}
    with mpmath.workdps(2 * DIGITS):
        for kink in map(mpmath.mpf, kinks):
            step = _STEP * (1 + abs(kink))
            left, middle, right = (
                PointEvaluator(parsed, {**values, "x": x}).value(parsed.tree)
                for x in (kink - step, kink, kink + step)
            )
            before, after = (middle - left) / step, (right - middle) / step
            if abs(after - before) < _JUMP * (1 + abs(before)):
                parsed.refuse(parsed.tree, f"at has {_number(kink)}, where the derivative does not jump")


def _beside_constants(parsed: Parsed) -> list[float]:
    """Return points at and beside the numbers of a formula, where its conditions change."""
    numbers = [float(node.value) for node in ast.walk(parsed.tree) if isinstance(node, ast.Constant)]  # type: ignore[arg-type]
    near = sorted({n for n in numbers if 0 < n < _FAR})[:_MOST_NUMBERS]
    return [sign * (n + step) for n in near for step in (0, 0.5, -0.5, 0.01, -0.01) for sign in (1, -1)]


def _tried(parsed: Parsed, values: Mapping[str, Any], x: Any, pole: int | None = None) -> dict[int, Any]:
    """Return the denominators at a point; ``pole`` is one that is 0 there."""
    point = PointEvaluator(parsed, {**values, "x": mpmath.mpf(x)}, pole)
    try:
        point.value(parsed.tree)
    except UndefinedPart as error:
        if pole is None and not _certain(point):
            return point.denominators
        where = f"x about {_number(x)}" if pole is not None else f"x = {_number(x)}"
        hint = _hole(parsed, values, x)
        parsed.refuse(error.node, f"{parsed.part(error.node)} is not a real number for {where}{hint}")
    except TooLarge:
        pass
    return point.denominators


def _certain(point: PointEvaluator) -> bool:
    """Whether it is undefined with many more digits too: ``1 + exp(-x)`` has rounded to 1."""
    with mpmath.workdps(_MANY_DIGITS):
        try:
            point.value(point.parsed.tree)
        except UndefinedPart:
            return True
        except TooLarge:
            pass
    return False


def _number(value: Any) -> str:
    text: str = mpmath.nstr(mpmath.mpf(value), 6)
    return text.removesuffix(".0")


def _hole(parsed: Parsed, values: Mapping[str, Any], x: Any) -> str:
    """Say what belongs into a single missing point, if both sides agree about it."""
    sides = []
    for side in (-1e-9, 1e-9):
        try:
            sides.append(PointEvaluator(parsed, {**values, "x": mpmath.mpf(x) + side}).value(parsed.tree))
        except (UndefinedPart, TooLarge):
            return ""
    if abs(sides[0] - sides[1]) > 1e-6 * (1 + abs(sides[0])):
        return ""
    value = mpmath.nstr(mpmath.mpf(sum(sides) / 2), 6)
    return f"; both sides tend to {value} there, which where() can put in"


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
    point = PointEvaluator(parsed, {**values, "x": x})
    with contextlib.suppress(UndefinedPart, TooLarge):
        point.value(parsed.tree)
    return point.denominators.get(node)

"""Check that a formula has a real value everywhere: at many points, and at poles between them."""

from __future__ import annotations

import ast
import contextlib
import itertools
from collections.abc import Mapping
from typing import Any

import mpmath

from actlab.derivation.syntax.parser import ParsedFormula
from actlab.derivation.syntax.point_evaluation import DIGITS, PointEvaluator, TooLarge, UndefinedPart
from actlab.derivation.syntax.sympy_budget import BudgetExceeded, limit_calls

_EVERYWHERE = (1, 2, 0.5, 3, 0.1, 5, 10, 30, 0.25, 0.7, 1.5, 1.9, 4, 7, 20, 100, 0.01, 1e-3)
# Integers first, and 0 last: "log(x) is not a real number for x = -1" says more than "for x = 0".
_POINTS = (*(sign * point for point in _EVERYWHERE for sign in (-1, 1)), 0)
_STEPS = 60  # bisections of an interval in which a denominator changes its sign
_NEGLIGIBLE = 1e-12  # a smaller denominator is 0, relative to the ends of the interval
_MOST_CALLS = 600_000
_FAR = 1e3
_MOST_NUMBERS = 8
_MANY_DIGITS = 5000
_MOST_POLES = 20  # intervals that are searched


def check_defined(parsed: ParsedFormula, parameters: Mapping[str, float]) -> None:
    """Refuse a formula that has no real value at some point.

    Args:
        parsed: The formula.
        parameters: The values of its parameters.

    Raises:
        UsageError: A part has no real value; the message shows the part and the point.
    """
    values = {name: mpmath.mpf(value) for name, value in parameters.items()}
    # A search that takes too long stops: it has found no mistake.
    with contextlib.suppress(BudgetExceeded), limit_calls(_MOST_CALLS), mpmath.workdps(DIGITS):
        denominators: dict[float, dict[int, Any]] = {}
        for x in dict.fromkeys((*_POINTS, *_choose_points_near_constants(parsed))):
            denominators[x] = _check_point(parsed, values, x)
        for low, high, node in _find_sign_changes(denominators):
            pole = _find_pole(parsed, values, low, high, node)
            if pole is not None:
                _check_point(parsed, values, pole, node)


def _choose_points_near_constants(parsed: ParsedFormula) -> list[float]:
    """Return points at and next to the numbers of a formula, where its conditions change."""
    numbers = [float(node.value) for node in ast.walk(parsed.tree) if isinstance(node, ast.Constant)]  # type: ignore[arg-type]
    near = sorted({n for n in numbers if 0 < n < _FAR})[:_MOST_NUMBERS]
    return [sign * (n + step) for n in near for step in (0, 0.5, -0.5, 0.01, -0.01) for sign in (1, -1)]


def _check_point(
    parsed: ParsedFormula, values: Mapping[str, Any], x: Any, pole: int | None = None
) -> dict[int, Any]:
    """Return the denominators at a point; ``pole`` is the position of one that is 0 there."""
    point = PointEvaluator(parsed, {**values, "x": mpmath.mpf(x)}, pole)
    try:
        point.value(parsed.tree)
    except UndefinedPart as error:
        if pole is None and not _is_certain(point):
            return point.denominators
        where = f"x about {_format_number(x)}" if pole is not None else f"x = {_format_number(x)}"
        hint = _describe_hole(parsed, values, x)
        parsed.refuse(error.node, f"{parsed.quote(error.node)} is not a real number for {where}{hint}")
    except TooLarge:
        pass
    return point.denominators


def _is_certain(point: PointEvaluator) -> bool:
    """Return whether a formula is undefined with many more digits too: ``1 + exp(-x)`` may round to 1."""
    with mpmath.workdps(_MANY_DIGITS):
        try:
            point.value(point.parsed.tree)
        except UndefinedPart:
            return True
        except TooLarge:
            pass
    return False


def _format_number(value: Any) -> str:
    text: str = mpmath.nstr(mpmath.mpf(value), 6)
    return text.removesuffix(".0")


def _describe_hole(parsed: ParsedFormula, values: Mapping[str, Any], x: Any) -> str:
    """Return a hint with the value at a single missing point, if both sides agree on it."""
    sides = []
    for side in (-1e-9, 1e-9):
        try:
            sides.append(PointEvaluator(parsed, {**values, "x": mpmath.mpf(x) + side}).value(parsed.tree))
        except (UndefinedPart, TooLarge):
            return ""
    if abs(sides[0] - sides[1]) > 1e-6 * (1 + abs(sides[0])):
        return ""
    value = mpmath.nstr(mpmath.mpf(sum(sides) / 2), 6)
    return f"; both sides tend to {value} there; set this value with where()"


def _find_sign_changes(denominators: Mapping[float, Mapping[int, Any]]) -> list[tuple[float, float, int]]:
    """Return intervals between points in which a denominator changes its sign, those near 0 first."""
    changes = [
        (low, high, node)
        for low, high in itertools.pairwise(sorted(denominators))
        for node, value in denominators[low].items()
        if node in denominators[high] and value * denominators[high][node] < 0
    ]
    return sorted(changes, key=lambda change: min(abs(change[0]), abs(change[1])))[:_MOST_POLES]


def _find_pole(parsed: ParsedFormula, values: Mapping[str, Any], low: Any, high: Any, node: int) -> Any:
    """Return where a denominator is 0; None if it jumps over 0, or is not computed there."""
    low, high = mpmath.mpf(low), mpmath.mpf(high)
    first = _evaluate_denominator(parsed, values, low, node)
    size = max(abs(first), abs(_evaluate_denominator(parsed, values, high, node)))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        value = _evaluate_denominator(parsed, values, middle, node)
        if value is None:
            return None
        low, high = (middle, high) if value * first > 0 else (low, middle)
    return middle if abs(value) < _NEGLIGIBLE * size else None


def _evaluate_denominator(parsed: ParsedFormula, values: Mapping[str, Any], x: Any, node: int) -> Any:
    point = PointEvaluator(parsed, {**values, "x": x})
    with contextlib.suppress(UndefinedPart, TooLarge):
        point.value(parsed.tree)
    return point.denominators.get(node)

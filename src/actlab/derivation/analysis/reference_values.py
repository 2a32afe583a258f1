"""Reference values of a formula: its value and three derivatives at a point, in as many digits as needed.

Nothing here depends on how a program computes. Every point is evaluated in two precisions, and in higher ones
until two of them agree.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import sympy

from actlab.derivation.analysis import elementary_jets
from actlab.derivation.analysis.elementary_jets import Jet, Undefined, apply_chain_rule, make_constant_jet
from actlab.derivation.analysis.piecewise import Leaf, Tree
from actlab.derivation.syntax.to_sympy import X

ORDERS = 4  # f, f', f'' and, for scale, f'''
_AGREE = mpmath.mpf(2) ** -75
_HIGH_PRECISIONS = (1350, 1500, 3000, 6000)  # bits
_NEGLIGIBLE = mpmath.mpf("1e-400")  # float64 ends at 5e-324
_COMPARISONS = {sympy.Gt: operator.gt, sympy.Ge: operator.ge, sympy.Lt: operator.lt, sympy.Le: operator.le}
Array = np.ndarray[Any, Any]
mp = mpmath.mp


class _CompiledExpression:
    """An expression as a list of jet operations, each on the results of earlier ones."""

    def __init__(self, expression: Any) -> None:
        self.steps: list[tuple[Callable[..., Jet] | None, tuple[int, ...]]] = []  # None for a leaf
        self.leaves: list[tuple[int, Any]] = []  # steps that are symbols and constants
        self._places: dict[Any, int] = {}
        self._constants: dict[int, list[Jet | None]] = {}  # by precision
        self.result = self._compile(expression)

    def _compile(self, node: Any) -> int:
        if node not in self._places:
            self._places[node] = self._add_node(node)
        return self._places[node]

    def _add_node(self, node: Any) -> int:
        if node.is_Symbol or node.is_number:
            self.leaves.append((len(self.steps), node))
            return self._add_step(None)
        if node.is_Add or node.is_Mul:
            join = elementary_jets.add if node.is_Add else elementary_jets.mul
            places = [self._compile(argument) for argument in node.args]
            return functools.reduce(lambda a, b: self._add_step(join, a, b), places)
        if node.is_Pow and node.exp.is_number:
            return self._add_power(self._compile(node.base), node.exp)
        if node.is_Pow:
            logarithm = self._add_function(sympy.log, self._compile(node.base))
            product = self._add_step(elementary_jets.mul, self._compile(node.exp), logarithm)
            return self._add_function(sympy.exp, product)
        return self._add_function(type(node), self._compile(node.args[0]))

    def _add_power(self, base: int, exponent: Any) -> int:
        if exponent == 2:
            return self._add_step(elementary_jets.mul, base, base)
        if exponent.is_Integer:
            return self._add_step(lambda u: elementary_jets.power(u, int(exponent)), base)
        return self._add_step(lambda u: elementary_jets.power(u, _to_mpmath(exponent)), base)

    def _add_function(self, function: Any, place: int) -> int:
        derivatives = elementary_jets.DERIVATIVES[function]
        return self._add_step(lambda u: apply_chain_rule(u, *derivatives(u[0])), place)

    def _add_step(self, function: Callable[..., Jet] | None, *places: int) -> int:
        self.steps.append((function, places))
        return len(self.steps) - 1

    def __call__(self, symbols: Mapping[Any, Jet]) -> Jet:
        if mp.prec not in self._constants:
            constants: list[Jet | None] = [None] * len(self.steps)
            for place, node in self.leaves:
                constants[place] = make_constant_jet(_to_mpmath(node)) if node.is_number else None
            self._constants[mp.prec] = constants
        values: list[Any] = self._constants[mp.prec].copy()
        for place, node in self.leaves:
            if not node.is_number:
                values[place] = symbols[node]
        for place, (function, places) in enumerate(self.steps):
            if function is not None:
                values[place] = function(*[values[i] for i in places])
        result: Jet = values[self.result]
        return result


_compile_expression = functools.lru_cache(512)(_CompiledExpression)


def _to_mpmath(node: Any) -> Any:
    value = mpmath.mpf(node.p) / node.q if node.is_Rational else node._to_mpmath(mp.prec)
    return elementary_jets.require_real(value)


def bind_symbols(x: Any, parameters: Mapping[str, float]) -> dict[Any, Jet]:
    """Return the jets of the input and of the parameters, by symbol."""
    symbols = {sympy.Symbol(name, real=True): make_constant_jet(value) for name, value in parameters.items()}
    return {**symbols, X: (mpmath.mpf(x), mp.one, mp.zero, mp.zero)}


def evaluate_jet(node: Any, symbols: Mapping[Any, Jet]) -> Jet:
    """Evaluate an expression and its derivatives.

    Args:
        node: The expression.
        symbols: The jets of its symbols.
    """
    return _compile_expression(node)(symbols)


def condition_holds(condition: Any, symbols: Mapping[Any, Jet]) -> bool:
    """Return whether a condition holds."""
    if condition in (sympy.true, sympy.false):
        return bool(condition)
    if isinstance(condition, sympy.And):
        return all(condition_holds(part, symbols) for part in condition.args)
    if isinstance(condition, sympy.Or):
        return any(condition_holds(part, symbols) for part in condition.args)
    if isinstance(condition, sympy.Not):
        return not condition_holds(condition.args[0], symbols)
    left, right = evaluate_jet(condition.lhs, symbols)[0], evaluate_jet(condition.rhs, symbols)[0]
    return bool(_COMPARISONS[type(condition)](left, right))


def select_piece(tree: Tree, symbols: Mapping[Any, Jet], number: int = 0) -> tuple[Leaf, int]:
    """Return the piece that applies, and its number."""
    if isinstance(tree, Leaf):
        return tree, number
    if condition_holds(tree.condition, symbols):
        return select_piece(tree.yes, symbols, 2 * number + 1)
    return select_piece(tree.no, symbols, 2 * number + 2)


def evaluate_rounded(tree: Tree, x: Any, parameters: Mapping[str, float], bits: int) -> tuple[list[Any], int]:
    """Return f, f', f'' and f''' at a point in one precision, and the number of the piece."""
    with mpmath.workprec(bits):
        symbols = bind_symbols(x, parameters)
        leaf, number = select_piece(tree, symbols)
        try:
            values = evaluate_jet(leaf.expression, symbols)
        except ZeroDivisionError as error:
            raise Undefined from error
        return [values[k] * math.factorial(k) for k in range(ORDERS)], number


def evaluate_exactly(tree: Tree, x: Any, parameters: Mapping[str, float]) -> tuple[list[Any], int]:
    """Return f, f', f'' and f''' at a point, correct to 75 bits, and the number of the piece.

    Raises:
        Undefined: The formula has no real value there, or no precision suffices.
    """
    size = abs(float(x))
    # Two low precisions may both lose a small term of a sum: far out, the first must hold 1 + exp(-x).
    first = (160, 200) if size < 6 else (500, 600) if size < 20 else ()
    before: tuple[list[Any], int] | None = None
    failures = 0
    for bits in (*first, *_HIGH_PRECISIONS):
        try:
            now = evaluate_rounded(tree, x, parameters, bits)
            if before is not None and before[1] == now[1] and _all_agree(before[0], now[0], bits):
                return now
            before = now
        except Undefined:
            failures += 1
            if failures > 1:
                raise
        except (OverflowError, MemoryError) as error:
            raise Undefined from error
    raise Undefined


def _all_agree(before: list[Any], now: list[Any], bits: int) -> bool:
    return all(_agree(a, b, bits) for a, b in zip(before, now, strict=True))


def _agree(a: Any, b: Any, bits: int) -> bool:
    """Return whether two precisions agree. Both may have lost a value that they find to be 0."""
    if not mpmath.isfinite(b) or (b == 0 and bits < _HIGH_PRECISIONS[0]):
        return False
    return bool(abs(a - b) <= abs(b) * _AGREE or (abs(a) < _NEGLIGIBLE > abs(b)))


def find_piece(tree: Tree, x: float, parameters: Mapping[str, float]) -> int:
    """Return the number of the piece at a point."""
    # Near 0, a small exponential needs this many bits.
    return evaluate_rounded(tree, x, parameters, _HIGH_PRECISIONS[0])[1]


@dataclass(frozen=True)
class ReferenceValues:
    """f, f', f'' and f''' at points, each as a double plus the remainder that the double cannot hold.

    Attributes:
        points: The points (n,), in order.
        high: The doubles (4, n); NaN where the formula has no value.
        low: The remainders (4, n).
        piece: The number of the piece of each point (n,); -1 where there is no value.
    """

    points: Array
    high: Array
    low: Array
    piece: Array

    def merge(self, other: ReferenceValues) -> ReferenceValues:
        """Return the values at the points of both objects, in order."""
        points = np.concatenate([self.points, other.points])
        order = np.argsort(points)
        return ReferenceValues(
            points[order],
            np.concatenate([self.high, other.high], axis=1)[:, order],
            np.concatenate([self.low, other.low], axis=1)[:, order],
            np.concatenate([self.piece, other.piece])[order],
        )


def compute_reference(tree: Tree, points: Array, parameters: Mapping[str, float]) -> ReferenceValues:
    """Evaluate a formula and its derivatives exactly at points (n,)."""
    high = np.full((ORDERS, len(points)), math.nan)
    low = np.zeros((ORDERS, len(points)))
    piece = np.full(len(points), -1)
    for i, x in enumerate(points.tolist()):
        try:
            values, piece[i] = evaluate_exactly(tree, x, parameters)
        except Undefined:
            continue
        for order, value in enumerate(values):
            high[order, i] = float(value)
            if math.isfinite(high[order, i]):
                low[order, i] = float(value - mpmath.mpf(high[order, i]))
    return ReferenceValues(points, high, low, piece)

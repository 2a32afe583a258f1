"""The truth about a formula: value and three derivatives at a point, in as many digits as it takes.

Nothing here knows how a program computes. Every point is evaluated in two precisions, and in more until they
agree.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import sympy

from actlab.derivation.analysis import elementary_jets
from actlab.derivation.analysis.elementary_jets import JETS, Jet, Undefined, real, undefined
from actlab.derivation.analysis.piecewise import Leaf, Tree
from actlab.derivation.syntax.to_sympy import X

ORDERS = 4  # f, f', f'' and, for scale, f'''
_AGREE = mpmath.mpf(2) ** -75
_FURTHER = (1350, 1500, 3000, 6000)  # bits
_NOTHING = mpmath.mpf("1e-400")  # float64 ends at 5e-324
mp = mpmath.mp


class _Plan:
    """An expression as a list of jet operations, each on earlier values."""

    def __init__(self, expression: Any) -> None:
        self.steps: list[tuple[Callable[..., Jet], tuple[int, ...]]] = []
        self.symbols: list[tuple[int, Any]] = []
        self.constants: list[tuple[int, Any]] = []
        self._places: dict[Any, int] = {}
        self._values: dict[int, list[Any]] = {}
        self.result = self._place(expression)

    def _place(self, node: Any) -> int:
        if node not in self._places:
            self._places[node] = self._new(node)
        return self._places[node]

    def _new(self, node: Any) -> int:
        if node.is_Symbol:
            return self._step(undefined, kept=self.symbols, what=node)
        if node.is_number:
            return self._step(undefined, kept=self.constants, what=node)
        if node.is_Add or node.is_Mul:
            join = elementary_jets.add if node.is_Add else elementary_jets.mul
            places = [self._place(argument) for argument in node.args]
            return functools.reduce(lambda a, b: self._step(join, a, b), places)
        if node.is_Pow and node.exp.is_number:
            base = self._place(node.base)
            if node.exp == 2:
                return self._step(elementary_jets.square, base)
            power = node.exp
            if power.is_Integer:
                return self._step(lambda u, n=int(power): elementary_jets.power(u, n), base)
            return self._step(lambda u, n=power: elementary_jets.power(u, _constant(n)), base)
        if node.is_Pow:
            logarithm = self._step(elementary_jets.log, self._place(node.base))
            return self._step(
                elementary_jets.exp, self._step(elementary_jets.mul, self._place(node.exp), logarithm)
            )
        return self._step(JETS[type(node)], self._place(node.args[0]))

    def _step(self, function: Callable[..., Jet], *places: int, kept: Any = None, what: Any = None) -> int:
        self.steps.append((function, places))
        if kept is not None:
            kept.append((len(self.steps) - 1, what))
        return len(self.steps) - 1

    def __call__(self, known: Mapping[Any, Jet]) -> Jet:
        if mp.prec not in self._values:
            values: list[Any] = [None] * len(self.steps)
            for place, node in self.constants:
                values[place] = (_constant(node), mp.zero, mp.zero, mp.zero)
            self._values[mp.prec] = values
        values = self._values[mp.prec].copy()
        for place, symbol in self.symbols:
            values[place] = known[symbol]
        for place, (function, places) in enumerate(self.steps):
            if values[place] is None:
                values[place] = function(*[values[i] for i in places])
        made: Jet = values[self.result]
        return made


_plan = functools.lru_cache(512)(_Plan)


def _constant(node: Any) -> Any:
    return real(mpmath.mpf(node.p) / node.q if node.is_Rational else node._to_mpmath(mp.prec))


def jet(node: Any, known: Mapping[Any, Jet]) -> Jet:
    """Return value and derivatives, over their factorials, of an expression; ``known`` holds its symbols."""
    return _plan(node)(known)


def holds(condition: Any, known: dict[Any, Jet]) -> bool:
    """Whether a condition holds."""
    if condition in (sympy.true, sympy.false):
        return bool(condition)
    if isinstance(condition, sympy.And):
        return all(holds(part, known) for part in condition.args)
    if isinstance(condition, sympy.Or):
        return any(holds(part, known) for part in condition.args)
    if isinstance(condition, sympy.Not):
        return not holds(condition.args[0], known)
    left, right = jet(condition.lhs, known)[0], jet(condition.rhs, known)[0]
    if isinstance(condition, sympy.Gt | sympy.Lt):
        return bool(left > right if isinstance(condition, sympy.Gt) else left < right)
    return bool(left >= right if isinstance(condition, sympy.Ge) else left <= right)


def chosen(tree: Tree, known: dict[Any, Jet], place: int = 0) -> tuple[Leaf, int]:
    """Return the piece that holds, and its number."""
    if isinstance(tree, Leaf):
        return tree, place
    if holds(tree.condition, known):
        return chosen(tree.yes, known, 2 * place + 1)
    return chosen(tree.no, known, 2 * place + 2)


def at(tree: Tree, x: Any, parameters: Mapping[str, float], bits: int) -> tuple[list[Any], int]:
    """Return f, f', f'' and f''' at a point in one precision, and the number of the piece."""
    with mpmath.workprec(bits):
        known: dict[Any, Jet] = {
            sympy.Symbol(name, real=True): (mpmath.mpf(value), mp.zero, mp.zero, mp.zero)
            for name, value in parameters.items()
        }
        known[X] = (mpmath.mpf(x), mp.one, mp.zero, mp.zero)
        leaf, place = chosen(tree, known)
        try:
            found = jet(leaf.expression, known)
        except ZeroDivisionError as error:
            raise Undefined from error
        return [found[k] * math.factorial(k) for k in range(ORDERS)], place


def exact(tree: Tree, x: Any, parameters: Mapping[str, float]) -> tuple[list[Any], int]:
    """Return f, f', f'' and f''' at a point, in 75 good bits, and the number of the piece.

    Raises:
        Undefined: The formula has no real value there, or precision does not settle it.
    """
    size = abs(float(x))
    # What a sum absorbs, both precisions lose: far out the first one already holds 1 + exp(-x).
    ladder = (160, 200, *_FURTHER) if size < 6 else (500, 600, *_FURTHER) if size < 20 else _FURTHER
    before: tuple[list[Any], int] | None = None
    failures = 0
    for bits in ladder:
        try:
            now = at(tree, x, parameters, bits)
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
    """Whether two precisions agree; a zero may be what both have lost, until it is below every float64."""
    if not mpmath.isfinite(b) or (b == 0 and bits < 1350):
        return False
    return bool(abs(a - b) <= abs(b) * _AGREE or (abs(a) < _NOTHING > abs(b)))


@dataclass(frozen=True)
class Truth:
    """f, f', f'' and f''' at points, each as a double and the rest that the double leaves.

    Attributes:
        points: The points (n,), in order.
        high: The doubles (4, n); NaN where the formula has no value.
        low: What they leave (4, n).
        piece: The number of the piece of each point (n,); -1 where there is no value.
    """

    points: np.ndarray[Any, Any]
    high: np.ndarray[Any, Any]
    low: np.ndarray[Any, Any]
    piece: np.ndarray[Any, Any]

    def joined(self, other: Truth) -> Truth:
        """Return the truth at the points of both."""
        points = np.concatenate([self.points, other.points])
        order = np.argsort(points)
        return Truth(
            points[order],
            np.concatenate([self.high, other.high], axis=1)[:, order],
            np.concatenate([self.low, other.low], axis=1)[:, order],
            np.concatenate([self.piece, other.piece])[order],
        )


def positive(tree: Tree, x: float, parameters: Mapping[str, float], order: int) -> bool:
    """Whether a derivative of an order is positive at a point, as far as few bits tell."""
    return bool(at(tree, x, parameters, 150)[0][order] > 0)


def piece_at(tree: Tree, x: float, parameters: Mapping[str, float]) -> int:
    """Return the number of the piece at a point."""
    return at(tree, x, parameters, _FURTHER[0])[1]  # beside 0 a small exponential takes so many


def truth(tree: Tree, points: np.ndarray[Any, Any], parameters: Mapping[str, float]) -> Truth:
    """Return the true function and derivatives at points (n,)."""
    high = np.full((ORDERS, len(points)), math.nan)
    low = np.zeros((ORDERS, len(points)))
    piece = np.full(len(points), -1)
    for i, x in enumerate(points.tolist()):
        try:
            found, piece[i] = exact(tree, x, parameters)
        except Undefined:
            continue
        for order, value in enumerate(found):
            high[order, i] = float(value)
            if math.isfinite(high[order, i]):
                low[order, i] = float(value - mpmath.mpf(high[order, i]))
    return Truth(points, high, low, piece)

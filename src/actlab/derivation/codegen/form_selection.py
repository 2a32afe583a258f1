"""Select the cheapest accurate form of an expression, interval by interval.

Herbie (Panchekha et al., PLDI 2015) does this for programs; here measured errors decide among the forms of
a formula.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from sympy import Expr

from actlab.activation import numerics
from actlab.derivation.analysis.piecewise import Leaf, Tree, find_ramp
from actlab.derivation.codegen import decaying_rewrites, rewrites
from actlab.derivation.codegen.error_meter import LIMITS, Array, ErrorMeter
from actlab.derivation.codegen.lowering import ExprForm, Lowering, lower_form, to_float
from actlab.derivation.codegen.nan_guards import find_nan_derivatives
from actlab.derivation.codegen.program import DTYPES, Operand, Program
from actlab.derivation.codegen.program_functions import Size, recognize_functions
from actlab.derivation.syntax.sympy_budget import BudgetExceeded, limit_calls
from actlab.derivation.syntax.to_sympy import X

SAFE = 0.65  # of the bound: between the measured points an error may be a little greater
FAIR = 0.75  # of the bound: for one form instead of several, or for a derivative from the output
# The error of one form instead of several, and the largest share of their cost that it may have.
_ONE_FORM = ((FAIR, 1.0), (1.0, 0.5))
_MOST_INTERVALS = 4
_NAN_PENALTY = 1e6
# SymPy spends two seconds at most on a derivative with more operations, or more different functions.
_HARD, _MANY = 90, 6
_MOST_CALLS, _FEW_CALLS = 4_000_000, 20_000
_CHEAP = 12
_MOST_WAYS = 10  # to cover a side, each tried with each of the other side
_FAR = ((-1e18, 1e18), (-1e18, math.inf), (-math.inf, 1e18))
_ASKEW = ((-1e18, 80.0), (-80.0, 1e18), (-1e18, 20.0), (-20.0, 1e18))
_BOUNDS = (1e9, 1e4, 700.0, 80.0, 40.0, 20.0)


@dataclass(frozen=True)
class ScoredForm:
    """A form, its estimated cost, and its error relative to the bound at every point and at both ends."""

    form: ExprForm
    cost: int
    error: Array


@dataclass(frozen=True)
class Interval:
    """A form, and the absolute value of the input up to which it is used."""

    end: float
    scored: ScoredForm


@dataclass(frozen=True)
class SmoothPiece:
    """A derivative of a smooth piece, with its main exponent and the series of the function at 0."""

    order: int
    derivative: Expr
    main: Expr
    series: list[Any] | None


def measure_errors(
    meter: ErrorMeter, made: Program, order: int, values: tuple[float, ...], share: float = 1.0
) -> Array:
    """Return the errors of a program: the larger of those in eager mode and in a kernel.

    ``share`` scales the error of the kernel: below 1 it counts less than the error of eager mode.
    """
    found = meter.measure_program(made, order, values)
    if made.has_compiled_forms:
        with numerics.force_compiled_forms():
            found = np.maximum(found, share * meter.measure_program(made, order, values))
    return found


class FormSelector:
    """Selects forms for one derivative of one formula.

    Args:
        meter: Measures errors.
        order: The order of the derivative: 0, 1 or 2.
        parameters: The default parameters.
        traced: Whether autograd may differentiate the program.
    """

    def __init__(self, meter: ErrorMeter, order: int, parameters: Mapping[str, float], traced: bool) -> None:
        self.meter, self.order, self.parameters, self.traced = meter, order, parameters, traced
        # With other parameters, a function may still change where it is constant with these.
        self._whole = _FAR if parameters else (*_FAR, *_ASKEW)
        self._ends = [*_FAR, *((-bound, bound) for bound in (_BOUNDS[:1] if parameters else _BOUNDS))]
        self._hard, self._calls = False, _MOST_CALLS
        self.x = np.concatenate([meter.reference.points, [-math.inf, math.inf]])
        ends = meter.reference.piece[[0, -1]]
        self.piece = np.concatenate([meter.reference.piece, ends])

    def score(self, candidates: Iterable[ExprForm]) -> list[ScoredForm]:
        """Measure the errors of forms at all points."""
        values = tuple(self.parameters.values())
        scored, texts = [], set()
        for form in self._yield_until_failure(candidates):
            made = lower_form(form, list(self.parameters), self.traced)
            if (text := "\n".join(made.to_python())) not in texts:
                texts.add(text)
                error = measure_errors(self.meter, made, self.order, values, SAFE).max(0)
                scored.append(
                    ScoredForm(form, made.cost, error / LIMITS[self.order] + self._penalize_nan(made))
                )
        return scored

    def _yield_until_failure(self, candidates: Iterable[ExprForm]) -> Iterator[ExprForm]:
        """Yield forms until SymPy fails, which may happen in many ways; other forms remain."""
        work = iter(candidates)
        with contextlib.suppress(BudgetExceeded, Exception):
            while (form := self._take_next(work)) is not None:
                yield form

    def _take_next(self, work: Iterator[ExprForm]) -> ExprForm | None:
        if not self._hard:
            return next(work, None)
        with limit_calls(max(self._calls, _FEW_CALLS)) as calls_left:
            try:
                return next(work, None)
            finally:
                self._calls = calls_left()

    def _penalize_nan(self, made: Program) -> Array | float:
        """Return a large error where autograd computes NaN.

        Far out every form may fail: there the input is clamped once the program is complete.
        """
        if not self.traced:
            return 0.0
        values = tuple(self.parameters.values())
        bad = [find_nan_derivatives(made, self.meter.make_inputs(dtype), values).numpy() for dtype in DTYPES]
        return _NAN_PENALTY * (np.logical_or(*bad) & (np.abs(self.x) < 1e4))

    def build(
        self, tree: Tree, smooth: Mapping[Leaf, SmoothPiece], forced: tuple[tuple[Any, float], ...] = ()
    ) -> Program:
        """Return the program of a tree; ``forced`` holds values where two sides of a relation are equal."""
        lowering = Lowering(list(self.parameters), self.traced)
        value = self._add_tree(tree, smooth, lowering, 0)
        if self.order == 0 and not lowering.build.follows_input(value):
            value = self._propagate_nan(value, lowering)
        for relation, wanted in forced:
            lowering.add_form(ExprForm(X))
            over, from_ = (kind(relation.lhs, relation.rhs, evaluate=False) for kind in (sympy.Gt, sympy.Ge))
            value = lowering.add_choice(from_, lowering.add_choice(over, value, wanted), value)
        return lowering.finish(value)

    def _add_tree(
        self, tree: Tree, smooth: Mapping[Leaf, SmoothPiece], lowering: Lowering, place: int
    ) -> Operand:
        if isinstance(tree, Leaf):
            return self._add_leaf(smooth[tree], lowering, self.piece == place)
        if self.order == 0 and (found := find_ramp(tree, place)) is not None:
            line, own, low, high = found
            value = lowering.build.to_tensor(self._add_leaf(smooth[line], lowering, self.piece == own))
            return lowering.build.add_clamp(value, *map(to_float, (low, high)))
        yes = self._add_tree(tree.yes, smooth, lowering, 2 * place + 1)
        no = self._add_tree(tree.no, smooth, lowering, 2 * place + 2)
        followed = [lowering.build.follows_input(side) for side in (yes, no)]
        # A choice takes this side if the input is NaN: as it stands, or where a bound is a parameter.
        if self.order == 0 and not followed[1] and (type(no) is int or not followed[0]):
            no = self._propagate_nan(no, lowering)
        lowering.add_form(ExprForm(X))
        return lowering.add_choice(recognize_functions(tree.condition), yes, no)

    def _propagate_nan(self, constant: Operand, lowering: Lowering) -> Operand:
        """Return a constant that is NaN where the input is NaN."""
        if not self.traced:
            return lowering.build("clamp", 0, constant, constant)
        # Unlike the clamp this has the derivative of a constant.
        nothing = lowering.build("mul", lowering.build("clamp", 0, -1.0, 1.0), 0.0)
        return lowering.build("add", nothing, constant)

    def _add_leaf(self, leaf: SmoothPiece, lowering: Lowering, here: Array) -> Operand:
        expression = leaf.derivative
        if not expression.has(X):
            return lowering.add_form(ExprForm(expression))
        different = len(expression.atoms(sympy.Function, sympy.exp))
        self._hard = rewrites.count_operations(expression) > _HARD or different > _MANY
        known = self.score(rewrites.rewrite_by_factoring(expression))
        half = rewrites.halve_angles(expression)
        if half != expression and _find_cheapest(known, here) is None:
            known += self.score(rewrites.rewrite_by_factoring(half))
        if not here.any():
            return lowering.add_form(known[0].form)
        for other in (expression, *rewrites.replace_sech_squares(expression)):
            found = _find_cheapest(known, here)
            if found is None or (found.cost > _CHEAP and other is expression):
                known += self.score(decaying_rewrites.rewrite_capped(other, self.parameters, leaf.main))
        if _find_cheapest(known, here) is None:
            known += self._clamp_forms(known, np.flatnonzero(here), self._whole)
        whole = _find_cheapest(known, here)
        if whole is not None:
            return lowering.add_form(whole.form)
        parts = self._cover_parts(leaf, here, known)
        # One form is better than several that differ only in rounding.
        cost = self._measure_cost(leaf, *parts)
        for bound, share in _ONE_FORM:
            met = [k for k in known if k.cost < share * cost and (k.error[here] <= bound).all()]
            if met:
                return lowering.add_form(min(met, key=lambda k: k.cost).form)
        return self._join_parts(leaf, *parts, lowering=lowering)

    def _cover_parts(
        self, leaf: SmoothPiece, here: Array, known: list[ScoredForm]
    ) -> tuple[list[Interval], ...]:
        """Return how to cover the line: as a whole, or the two sides of the main exponent."""
        far = here & (np.abs(self.x) > 1e3)
        known = known + (self.score(rewrites.rewrite_in_inverse(leaf.derivative, 1)) if far.any() else [])
        sides = {}
        for side in (1, -1):
            mask = here & (self.x * side > 0) if side > 0 else here & (self.x <= 0)
            if mask.any():
                sides[side] = self._cover_side(leaf, side, mask, known)
        if len(sides) == 1:
            return (next(iter(sides.values()))[0],)
        values = {sympy.Symbol(n, real=True): v for n, v in self.parameters.items()}
        up = 1 if leaf.main.subs({**values, X: 1}) > 0 else -1
        # Common parts of both sides are computed once, so pairs are compared.
        pairs = [(above, below) for above in sides[up] for below in sides[-up]]
        return min(pairs, key=lambda pair: self._measure_cost(leaf, *pair)) if len(pairs) > 1 else pairs[0]

    def _measure_cost(self, leaf: SmoothPiece, *parts: list[Interval]) -> int:
        lowering = Lowering(list(self.parameters), self.traced)
        return lowering.finish(self._join_parts(leaf, *parts, lowering=lowering)).cost

    def _join_parts(self, leaf: SmoothPiece, *parts: list[Interval], lowering: Lowering) -> Operand:
        values = [self._chain_intervals(part, lowering) for part in parts]
        if len(values) == 1:
            return values[0]
        lowering.add_form(ExprForm(X))
        return lowering.add_choice(sympy.Gt(leaf.main, 0, evaluate=False), *values)

    def _cover_side(
        self, leaf: SmoothPiece, side: int, mask: Array, known: list[ScoredForm]
    ) -> list[list[Interval]]:
        """Return ways to cover one side, each as intervals from 0 outwards."""
        outward = np.flatnonzero(mask)[np.argsort(np.abs(self.x[mask]), kind="stable")]
        one = _find_cheapest(known, mask)
        if one is None and not leaf.derivative.free_symbols - {X}:
            # Whether a clamped input works is known only for the default parameters.
            known = known + self._clamp_forms(known, outward, self._ends)
            one = _find_cheapest(known, mask)
        if one is not None:
            # The other side may need the input clamped: common parts are then computed once.
            known = known + self.score(rewrites.clamp_input(one.form, *ends) for ends in _FAR)
            if one.cost < _CHEAP:
                return _list_ways(known, mask)
        own = leaf.derivative
        for other in dict.fromkeys((own, rewrites.halve_angles(own), *rewrites.replace_sech_squares(own))):
            known = known + self.score(decaying_rewrites.rewrite(other, side, self.parameters, leaf.main))
        if ways := _list_ways(known, mask):
            return ways
        if side < 0:
            known += self.score(rewrites.rewrite_in_inverse(leaf.derivative, -1))
        if leaf.series is not None:
            known += self.score(rewrites.rewrite_as_series(leaf.series, leaf.order))
        sizes = np.abs(self.x[outward])
        intervals = _cover(known, outward, sizes)
        if _find_worst(intervals, outward, sizes) > 1:
            known += self._clamp_forms(known, outward, self._ends)
            intervals = _cover(known, outward, sizes)
        if _find_worst(intervals, outward, sizes) > 1:
            # Safe intervals may be too short to cover everything.
            longer = _cover(known, outward, sizes, safe=1.0)
            intervals = min(intervals, longer, key=lambda way: _find_worst(way, outward, sizes))
        one = min(known, key=lambda k: float(k.error[mask].max()))
        if one.error[mask].max() <= min(1.0, _find_worst(intervals, outward, sizes)):
            return [[Interval(math.inf, one)]]
        return [intervals]

    def _clamp_forms(
        self, known: list[ScoredForm], outward: Array, ends: Iterable[tuple[float, float]]
    ) -> list[ScoredForm]:
        """Return forms of the clamped input, made from forms that fail only far out."""
        near = outward[np.abs(self.x[outward]) < 1e3]
        sound = [k for k in known if (k.error[near] <= 1).all()] or known[:1]
        cheap = sorted(sound, key=lambda k: k.cost)[:3]
        return self.score(rewrites.clamp_input(k.form, *pair) for k in cheap for pair in ends)

    def _chain_intervals(self, intervals: list[Interval], lowering: Lowering) -> Operand:
        *inner, last = intervals
        value = lowering.add_form(last.scored.form)
        for one in reversed(inner):
            near = lowering.add_form(one.scored.form)
            lowering.add_form(ExprForm(X))
            value = lowering.add_choice(sympy.Lt(Size(X), sympy.Float(one.end), evaluate=False), near, value)
        return value


def _filter_safe(known: list[ScoredForm], mask: Array) -> list[ScoredForm]:
    """Return the forms that are safe wherever a mask is set, the cheapest first."""
    return sorted((k for k in known if (k.error[mask] <= SAFE).all()), key=lambda k: k.cost)


def _find_cheapest(known: list[ScoredForm], mask: Array) -> ScoredForm | None:
    """Return the cheapest form that is safe wherever a mask is set, or None."""
    return next(iter(_filter_safe(known, mask)), None)


def _list_ways(known: list[ScoredForm], mask: Array) -> list[list[Interval]]:
    """Return the cheapest safe form of every kind, each for the whole mask."""
    first = {k.form.kind: k for k in reversed(_filter_safe(known, mask))}
    return [[Interval(math.inf, scored)] for scored in list(reversed(first.values()))[:_MOST_WAYS]]


def _cover(known: list[ScoredForm], outward: Array, sizes: Array, safe: float = SAFE) -> list[Interval]:
    """Cover points, ordered outwards, by as few forms as meet the bound, or come closest."""
    errors = np.stack([k.error[outward] for k in known])
    best = errors.min(0)
    good = errors <= np.where(best <= safe, safe, np.where(best <= 1, 1.0, best * 1.5))
    costs = np.array([k.cost for k in known])
    starts: list[tuple[int, int]] = []  # a form and its first point
    start, count = 0, len(outward)
    while start < count and len(starts) < _MOST_INTERVALS:
        reach = np.array([_find_first_bad(row, start) for row in good])
        if len(starts) == _MOST_INTERVALS - 1 and reach.max() < count:
            # The last form must reach to the end, at as many points as possible.
            bad = (errors[:, start:] > 1).sum(1)
            reach = np.where(bad == bad.min(), count, -1)
        longest = np.flatnonzero(reach == reach.max())
        form = int(longest[costs[longest].argmin()])
        starts.append((form, start))
        start = int(reach[form])
    return _use_cheapest(starts, good, costs, known, sizes)


def _use_cheapest(
    starts: list[tuple[int, int]], good: Array, costs: Array, known: list[ScoredForm], sizes: Array
) -> list[Interval]:
    """Return intervals of the cheapest forms that reach from one to the next, with ends in the middle."""
    intervals: list[Interval] = []
    start = 0  # the first point that the forms before do not reach
    for place, (form, _) in enumerate(starts):
        is_last = place == len(starts) - 1
        back = len(sizes)
        if not is_last:
            following, begin = starts[place + 1]
            back = begin - _find_first_bad(good[following, :begin][::-1], 0)
        enough = np.flatnonzero(good[:, start:back].all(1)) if start < back else np.array([form])
        chosen = int(enough[costs[enough].argmin()]) if len(enough) else form
        reach = _find_first_bad(good[chosen], start)
        middle = (max(back, start + 1) + reach) // 2 if back < reach else reach
        is_open = is_last or middle >= len(sizes)
        end = math.inf if is_open else _find_short_number(sizes[middle - 1], sizes[middle])
        intervals.append(Interval(end, known[chosen]))
        start = reach
    return intervals


def _find_first_bad(good: Array, start: int) -> int:
    """Return the first index, from a start on, at which a mask is not set."""
    bad = np.flatnonzero(~good[start:])
    return start + int(bad[0]) if len(bad) else len(good)


def _find_short_number(a: float, b: float) -> float:
    """Return a number with few digits above a, and at most b."""
    middle = math.sqrt(a * b) if a > 0 else b
    rounded = (float(f"{middle:.{digits}g}") for digits in range(1, 17))
    return next((short for short in rounded if a < short <= b), b)


def _find_worst(intervals: list[Interval], outward: Array, sizes: Array) -> float:
    """Return the largest error of intervals."""
    worst, low = 0.0, -1.0
    for one in intervals:
        points = outward[(sizes >= low) & (sizes < one.end) if one.end < math.inf else sizes >= low]
        worst = max(worst, float(one.scored.error[points].max(initial=0.0)))
        low = one.end
    return worst

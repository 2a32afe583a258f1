"""Chooses, stretch by stretch, the cheapest way to compute that keeps its digits.

Herbie (Panchekha et al., PLDI 2015) does this for programs; here numbers decide among the forms of a formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from sympy import Expr

from actlab.derivation import decays, forms
from actlab.derivation.guards import without_derivative
from actlab.derivation.lowering import Form, Lowering, X, program
from actlab.derivation.pieces import Branch, Leaf, Tree
from actlab.derivation.program import Operand, Program
from actlab.derivation.proof import DTYPES, LIMITS, Array, Proof
from actlab.derivation.vocabulary import Size, Within, recognised

SAFE = 0.65  # of the bound: between the points of the proof an error may be a little greater
MOST_STRETCHES = 4
_LOST = 1e6
_CHEAP = 12
_BOUNDS = (1e18, 1e9, 1e4, 700.0, 80.0, 40.0, 20.0)


@dataclass(frozen=True)
class Scored:
    """A form, about what it costs, and its error over the bound at every point of the proof and both ends."""

    form: Form
    cost: int
    error: Array


@dataclass(frozen=True)
class Stretch:
    """A form, and up to which absolute value of the input it is used."""

    end: float
    form: Form


@dataclass(frozen=True)
class Smooth:
    """A smooth piece: its formula, its derivative of the order wanted, and its series at 0."""

    order: int
    derivative: Expr
    main: Expr
    series: list[Any] | None


class Chooser:
    """Chooses forms for one order of derivative of one formula.

    Args:
        proof: The truth.
        order: 0, 1 or 2.
        parameters: The default parameters.
        traced: Whether autograd may go through the program.
    """

    def __init__(self, proof: Proof, order: int, parameters: Mapping[str, float], traced: bool) -> None:
        self.proof, self.order, self.parameters, self.traced = proof, order, parameters, traced
        self.x = np.concatenate([proof.truth.points, [-math.inf, math.inf]])
        ends = proof.truth.piece[[0, -1]]
        self.piece = np.concatenate([proof.truth.piece, ends])

    def score(self, candidates: Iterable[Form]) -> list[Scored]:
        """Evaluate forms at all points."""
        found, seen = [], set()
        for form in _as_far_as_it_goes(candidates):
            made = program(form, list(self.parameters), self.traced)
            text = "\n".join(made.lines())
            if text in seen:
                continue
            seen.add(text)
            error = self.proof.errors(made, self.order, tuple(self.parameters.values())).max(0)
            found.append(Scored(form, made.cost, error / LIMITS[self.order] + self._lost(made)))
        return found

    def _lost(self, made: Program) -> Array | float:
        """Return what is added to the error where autograd gets no number out of a form.

        Far out no form may do: there the input is clamped once the program is whole.
        """
        if not self.traced:
            return 0.0
        values = tuple(self.parameters.values())
        lost = [without_derivative(made, self.proof.inputs(dtype), values).numpy() for dtype in DTYPES]
        return _LOST * (np.logical_or(*lost) & (np.abs(self.x) < 1e4))

    def build(
        self, tree: Tree, smooth: Mapping[Leaf, Smooth], forced: tuple[tuple[Any, float], ...] = ()
    ) -> Program:
        """Return the program of a tree; ``forced`` are values where the sides of a relation are equal."""
        lowering = Lowering(list(self.parameters), self.traced)
        value = self._add(tree, smooth, lowering, 0)
        for relation, wanted in forced:
            lowering.add(Form(X))
            left, right = lowering.value(relation.lhs), lowering.value(relation.rhs)
            equal = lowering.build("eq", lowering.build.tensor(left), right)
            value = lowering.choice(equal, wanted, value)
        return lowering.finish(value)

    def _add(self, tree: Tree, smooth: Mapping[Leaf, Smooth], lowering: Lowering, place: int) -> Operand:
        if isinstance(tree, Branch):
            yes = self._add(tree.yes, smooth, lowering, 2 * place + 1)
            no = self._add(tree.no, smooth, lowering, 2 * place + 2)
            lowering.add(Form(X))
            return lowering.choice(lowering.condition(recognised(tree.condition)), yes, no)
        return self._leaf(smooth[tree], lowering, self.piece == place)

    def _leaf(self, leaf: Smooth, lowering: Lowering, here: Array) -> Operand:
        expression = leaf.derivative
        if not expression.has(X):
            # Of a constant, too, the value of no number is no number.
            constant = Within(X, expression, expression) if self.order == 0 else expression
            return lowering.add(Form(constant))
        known = self.score(forms.plain(expression))
        half = forms.halved(expression)
        if half != expression and _cheapest(known, here) is None:
            known += self.score(forms.plain(half))
        if not here.any():
            return lowering.add(known[0].form)
        for other in (expression, *forms.by_tanh(expression)):
            if _cheapest(known, here) is None:
                known += self.score(decays.capped(other, self.parameters, leaf.main))
        whole = _cheapest(known, here)
        if whole is not None:
            return lowering.add(whole.form)
        far = here & (np.abs(self.x) > 1e3)
        known += self.score(forms.inverted(expression, 1)) if far.any() else []
        sides = {}
        for side in (1, -1):
            mask = here & (self.x * side > 0) if side > 0 else here & (self.x <= 0)
            if mask.any():
                sides[side] = self._side(leaf, side, mask, known)
        if len(sides) == 1:
            return self._chain(next(iter(sides.values()))[0], lowering)
        values = {sympy.Symbol(n, real=True): v for n, v in self.parameters.items()}
        up = 1 if leaf.main.subs({**values, X: 1}) > 0 else -1
        # What both sides have in common is computed once: the pair decides.
        pairs = [(above, below) for above in sides[up] for below in sides[-up]]
        best = min(pairs, key=lambda pair: self._cost(leaf, *pair)) if len(pairs) > 1 else pairs[0]
        return self._both(leaf, *best, lowering)

    def _cost(self, leaf: Smooth, above: list[Stretch], below: list[Stretch]) -> int:
        lowering = Lowering(list(self.parameters), self.traced)
        return lowering.finish(self._both(leaf, above, below, lowering)).cost

    def _both(self, leaf: Smooth, above: list[Stretch], below: list[Stretch], lowering: Lowering) -> Operand:
        yes, no = self._chain(above, lowering), self._chain(below, lowering)
        lowering.add(Form(X))
        return lowering.choice(lowering.condition(sympy.Gt(leaf.main, 0, evaluate=False)), yes, no)

    def _side(self, leaf: Smooth, side: int, mask: Array, known: list[Scored]) -> list[list[Stretch]]:
        """Return ways to cover one side, each as stretches from 0 outwards."""
        outward = np.flatnonzero(mask)[np.argsort(np.abs(self.x[mask]), kind="stable")]
        one = _cheapest(known, mask)
        if one is None and not leaf.derivative.free_symbols - {X}:
            # Where a clamped input serves is known for the parameters of the proof alone.
            known = known + self._clamped(known, outward)
            one = _cheapest(known, mask)
        if one is not None and one.cost < _CHEAP:
            return [[Stretch(math.inf, one.form)]]
        own = leaf.derivative
        for other in dict.fromkeys((own, forms.halved(own), *forms.by_tanh(own))):
            known = known + self.score(decays.decaying(other, side, self.parameters, leaf.main))
        good = _good(known, mask)
        if good:
            return [[Stretch(math.inf, k.form)] for k in good[:4]]
        if side < 0:
            known += self.score(forms.inverted(leaf.derivative, -1))
        if leaf.series is not None:
            known += self.score(forms.series(leaf.series, leaf.order))
        stretches = _stretches(known, outward, self.x)
        if _worst(stretches, known, outward, self.x) > 1:
            known += self._clamped(known, outward)
            stretches = _stretches(known, outward, self.x)
        if _worst(stretches, known, outward, self.x) > 1:
            # Those that are safe may be too short to cover all of it.
            longer = _stretches(known, outward, self.x, safe=1.0)
            stretches = min(stretches, longer, key=lambda s: _worst(s, known, outward, self.x))
        one = min(known, key=lambda k: float(k.error[mask].max()))
        if one.error[mask].max() <= min(1.0, _worst(stretches, known, outward, self.x)):
            return [[Stretch(math.inf, one.form)]]
        return [stretches]

    def _clamped(self, known: list[Scored], outward: Array) -> list[Scored]:
        """Return forms of the clamped input, of the forms that fail far out alone."""
        near = outward[np.abs(self.x[outward]) < 1e3]
        sound = [k for k in known if (k.error[near] <= 1).all()] or known[:1]
        cheap = sorted(sound, key=lambda k: k.cost)[:3]
        # With other parameters a function may still change where it does not with these.
        bounds = _BOUNDS[:2] if self.parameters else _BOUNDS
        return self.score(forms.clamped(k.form, bound) for k in cheap for bound in bounds)

    def _chain(self, stretches: list[Stretch], lowering: Lowering) -> Operand:
        *inner, last = stretches
        value = lowering.add(last.form)
        for stretch in reversed(inner):
            near = lowering.add(stretch.form)
            lowering.add(Form(X))
            size = lowering.value(Size(X))
            value = lowering.choice(lowering.build("lt", size, stretch.end), near, value)
        return value


def _as_far_as_it_goes(candidates: Iterable[Form]) -> Iterator[Form]:
    """Yield forms until SymPy fails: it may, in many ways, and there are other forms."""
    try:
        yield from candidates
    except Exception:
        return


def _good(known: list[Scored], mask: Array) -> list[Scored]:
    """Return the forms that meet the bound wherever a mask is set, and safely, the cheapest first."""
    return sorted((k for k in known if (k.error[mask] <= SAFE).all()), key=lambda k: k.cost)


def _cheapest(known: list[Scored], mask: Array) -> Scored | None:
    """Return the cheapest form that meets the bound wherever a mask is set, or None."""
    return next(iter(_good(known, mask)), None)


def _stretches(known: list[Scored], outward: Array, x: Array, safe: float = SAFE) -> list[Stretch]:
    """Cover points, ordered outwards, by as few forms as meet the bound, or come closest."""
    errors = np.stack([k.error[outward] for k in known])
    best = errors.min(0)
    allowed = np.where(best <= safe, safe, np.where(best <= 1, 1.0, best * 1.5))
    good = errors <= allowed
    costs = np.array([k.cost for k in known])
    found: list[tuple[int, int]] = []  # the form, and the first point that is no longer its own
    start, count = 0, len(outward)
    while start < count and len(found) < MOST_STRETCHES:
        reach = np.array([_run(row, start) for row in good])
        if len(found) == MOST_STRETCHES - 1 and reach.max() < count:
            # The last one has to do to the end, at as many points as may be.
            bad = (errors[:, start:] > 1).sum(1)
            reach = np.where(bad == bad.min(), count, -1)
        longest = np.flatnonzero(reach == reach.max())
        form = int(longest[costs[longest].argmin()])
        if found:
            # Both are good where the next one reaches back to: change in the middle.
            previous, end = found[-1]
            back = start - _run(good[form, :start][::-1], 0)
            earlier = found[-2][1] if len(found) > 1 else 0
            found[-1] = (previous, (max(back, earlier + 1) + end) // 2 if back < end else end)
        start = int(reach[form])
        found.append((form, start))
    sizes = np.abs(x[outward])
    result = []
    for form, end in found[:-1]:
        result.append(Stretch(_between(sizes[end - 1], sizes[end]), known[form].form))
    return [*result, Stretch(math.inf, known[found[-1][0]].form)]


def _run(good: Array, start: int) -> int:
    """Return the first place from a start on where nothing is good."""
    bad = np.flatnonzero(~good[start:])
    return start + int(bad[0]) if len(bad) else len(good)


def _between(a: float, b: float) -> float:
    """Return a short number between two, as large as the second at most."""
    middle = math.sqrt(a * b) if a > 0 else b
    for digits in range(1, 17):
        short = float(f"{middle:.{digits}g}")
        if a < short <= b:
            return short
    return b


def _worst(stretches: list[Stretch], known: list[Scored], outward: Array, x: Array) -> float:
    by_form = {id(k.form): k for k in known}
    worst, low = 0.0, -1.0
    sizes = np.abs(x[outward])
    for stretch in stretches:
        mine = outward[(sizes >= low) & (sizes < stretch.end) if stretch.end < math.inf else sizes >= low]
        if len(mine):
            worst = max(worst, float(by_form[id(stretch.form)].error[mine].max()))
        low = stretch.end
    return worst

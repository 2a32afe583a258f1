"""Keep the unselected sides of a choice finite: autograd multiplies their derivatives by 0.

If the exponential on an unselected side overflows, that product is NaN. So every side gets the input where it
is selected, and elsewhere a safe point at which it would be selected.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from actlab.derivation.codegen.program import DTYPES, Operand, Program, ProgramBuilder, Step

_MODERATE = 30.0
_BOUNDS = (1e18, 1e9)  # within them every power in use is finite, and beyond them hardly anything changes
_SETTINGS = ((1.0, 0.0), (1.0, 1.0), (2.0, 0.0), (-1.0, 0.0))  # factors of the parameters, and summands


def guard_against_nan(program: Program, points: Tensor, values: Sequence[float]) -> Program:
    """Return a program that autograd can differentiate, with the same values.

    Args:
        program: The program.
        points: The inputs at which to look for NaN, float64.
        values: The default parameters.

    Returns:
        The program itself if no derivative is NaN.
    """
    best, fewest = program, _count_nan(program, points, values)
    for candidate in _build_guarded(program, points, values) if fewest else ():
        count = _count_nan(candidate, points, values)
        if count < fewest:
            best, fewest = candidate, count
        if not fewest:
            break
    return best


def _build_guarded(program: Program, points: Tensor, values: Sequence[float]) -> Iterator[Program]:
    """Yield the program with its sides separated, and of a clamped input if that changes no value."""
    separated = _Separator(program, points, values).separate()
    yield separated
    for bound in _BOUNDS:
        clamped = _Separator(program, points, values).separate(bound)
        if all(
            torch.equal(clamped(x, *values).nan_to_num(), separated(x, *values).nan_to_num())
            for x in (points.to(dtype) for dtype in DTYPES)
        ):
            yield clamped


def _count_nan(program: Program, points: Tensor, values: Sequence[float]) -> int:
    """Count the points with a value whose derivative by autograd is NaN."""
    count = 0
    for dtype, (factor, summand) in itertools.product(DTYPES, _SETTINGS if values else _SETTINGS[:1]):
        moved = [factor * value + summand for value in values]
        count += int(find_nan_derivatives(program, points.to(dtype), moved).sum())
    return count


def find_nan_derivatives(program: Program, points: Tensor, values: Sequence[float]) -> Tensor:
    """Return where the value is finite and a derivative by autograd is NaN."""
    with torch.enable_grad():
        inputs = [points.clone(), *(torch.full_like(points, value) for value in values)]
        result = program(*(one.requires_grad_() for one in inputs))
        bad = torch.zeros_like(points, dtype=torch.bool)
        if result.requires_grad:
            for slope in torch.autograd.grad(result.sum(), inputs, allow_unused=True):
                bad |= slope.isnan() if slope is not None else False
    return bad & result.isfinite().detach()


@dataclass(frozen=True)
class _Side:
    """One side of a choice: the input that it sees, and at which of the points it is taken."""

    input: Operand
    taken: Tensor = field(hash=False, compare=False)


class _Separator:
    """Rewrites a program so that every side of a choice sees an input of its own."""

    def __init__(self, old: Program, points: Tensor, values: Sequence[float]) -> None:
        self.old, self.points, self.values = old, points, values
        self.first = len(old.inputs)
        self.build = ProgramBuilder(old.inputs)
        self._added: dict[tuple[int, Operand], Operand] = {}
        self._degrees: dict[int, int] = {0: 1, **dict.fromkeys(range(1, self.first), 0)}

    def separate(self, bound: float = math.inf) -> Program:
        """Return the rewritten program, with its input clamped to ``[-bound, bound]``."""
        start = 0 if bound == math.inf else self.build("clamp", 0, -bound, bound)
        whole = _Side(start, torch.ones_like(self.points, dtype=torch.bool))
        return self.build.finish(self._add(self.first + len(self.old.steps) - 1, whole))

    def _add(self, operand: Operand, side: _Side) -> Operand:
        """Add a value of the old program as one side sees it."""
        if type(operand) is not int or 0 < operand < self.first:
            return operand
        if operand == 0:
            return side.input
        key = operand, side.input
        if key not in self._added:
            step = self.old.steps[operand - self.first]
            if step.operation in ("above", "at_least"):
                self._added[key] = self._add_choice(step, side)
            elif step.operation == "between":
                self._added[key] = self._add_interval(step, side)
            else:
                inner = [self._add(one, side) for one in step.operands]
                self._added[key] = self.build(step.operation, *inner, coefficients=step.coefficients)
        return self._added[key]

    def _add_choice(self, step: Step, side: _Side) -> Operand:
        u, bound, *ways = step.operands
        compared = self._add(u, side), self._add(bound, side)
        compare = torch.gt if step.operation == "above" else torch.ge
        holds = compare(self._compute(u), self._compute(bound)).expand_as(self.points)
        results = []
        for place, taken in enumerate((side.taken & holds, side.taken & ~holds)):
            own = side
            if self._find_degree(ways[place]) > 1 and taken.any():
                inputs = [self._choose_safe_point(u, bound, taken, side)] * 2
                inputs[place] = side.input
                own = _Side(self.build(step.operation, *compared, *inputs), taken)
            results.append(self._add(ways[place], own))
        return self.build(step.operation, *compared, *results)

    def _add_interval(self, step: Step, side: _Side) -> Operand:
        u, low, high, way = step.operands
        compared = [self._add(one, side) for one in (u, low, high)]
        value = self._compute(u)
        holds = (value > self._compute(low)) & (value < self._compute(high))
        taken = side.taken & holds.expand_as(self.points)
        own = side
        if self._find_degree(way) > 1 and taken.any():
            point = self._choose_safe_point(u, low, taken, side)
            below = self.build("at_least", compared[0], compared[2], point, side.input)
            own = _Side(self.build("above", compared[0], compared[1], below, point), taken)
        return self.build("between", *compared, self._add(way, own))

    def _choose_safe_point(self, u: Operand, bound: Operand, taken: Tensor, side: _Side) -> Operand:
        """Return a point where a side is taken; it moves with a bound that is a parameter."""
        inside = self.points[taken]
        near = inside[inside.abs() <= _MODERATE]
        point = float((near if len(near) else inside).median())
        if u == 0 and type(bound) is int and self._find_degree(bound) == 0:
            return self.build("add", self._add(bound, side), point - float(self._compute(bound)))
        return point

    def _compute(self, operand: Operand) -> Tensor:
        """Return a value of the old program at the points, for the default parameters."""
        if type(operand) is not int or operand < self.first:
            value = (self.points, *self.values)[operand] if type(operand) is int else operand
            return torch.as_tensor(value, dtype=self.points.dtype)
        with torch.no_grad():
            part = Program(self.old.inputs, self.old.steps[: operand - self.first + 1])
            return part(self.points, *self.values)

    def _find_degree(self, operand: Operand) -> int:
        """Return 0 if a value is independent of the input, 1 if it is linear in it, else 2."""
        if type(operand) is not int:
            return 0
        if operand not in self._degrees:
            step = self.old.steps[operand - self.first]
            degrees = [self._find_degree(one) for one in step.operands]
            match step.operation:
                case "add" | "sub" | "neg" | "lift":
                    degree = max(degrees)
                case "mul":
                    degree = sum(degrees)
                case "spread":
                    degree = degrees[1]
                case "div":
                    degree = degrees[0] + 2 * degrees[1]
                case "above" | "at_least":
                    degree = max(degrees[2:])
                case "between":
                    degree = degrees[3]
                case _:
                    degree = 2 * max(degrees)
            self._degrees[operand] = min(degree, 2)
        return self._degrees[operand]

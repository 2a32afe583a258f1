"""Keeps what a choice does not take finite, for autograd multiplies its derivative by 0.

Where an exponential of the side not taken overflows, that product is no number. So every side gets the input
where it is taken, and a point of its own everywhere else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from actlab.derivation.codegen.program import Builder, Operand, Program, Step

_DTYPES = (torch.float64, torch.float32)
_MODERATE = 30.0
_BOUNDS = (1e18, 1e9)  # within them every power in use is a number, and beyond them hardly anything changes
_MOVED = ((1.0, 0.0), (1.0, 1.0), (2.0, 0.0), (-1.0, 0.0))  # factors of the parameters, and what is added


def guard(program: Program, points: Tensor, values: Sequence[float]) -> Program:
    """Return a program that autograd may go through, if this one gives no number where it ought to.

    Args:
        program: The program; its values stay what they are.
        points: The input at which to look, float64.
        values: The default parameters.

    Returns:
        The program itself where nothing is wrong with it.
    """
    before = _poisoned(program, points, values)
    best = program
    for made in _ways(program, points, values) if before else ():
        now = _poisoned(made, points, values)
        if now < before:
            best, before = made, now
        if not before:
            break
    return best


def _ways(program: Program, points: Tensor, values: Sequence[float]) -> Iterator[Program]:
    """Yield the program with its sides kept apart, and of a clamped input if that changes no value."""
    made = _Guarding(program, points, values).program()
    yield made
    for bound in _BOUNDS:
        clamped = _Guarding(program, points, values).program(bound)
        if all(
            torch.equal(clamped(x, *values).nan_to_num(), made(x, *values).nan_to_num())
            for x in (points.to(dtype) for dtype in _DTYPES)
        ):
            yield clamped


def _poisoned(program: Program, points: Tensor, values: Sequence[float]) -> int:
    """Return at how many points a derivative by autograd is no number, though the value is one."""
    found = 0
    for dtype, (factor, more) in itertools.product(_DTYPES, _MOVED if values else _MOVED[:1]):
        moved = [factor * value + more for value in values]
        found += int(without_derivative(program, points.to(dtype), moved).sum())
    return found


def without_derivative(program: Program, points: Tensor, values: Sequence[float]) -> Tensor:
    """Return where the value is a number and a derivative of it by autograd is none."""
    with torch.enable_grad():
        inputs = [points.clone(), *(torch.full_like(points, value) for value in values)]
        found = program(*(one.requires_grad_() for one in inputs))
        bad = torch.zeros_like(points, dtype=torch.bool)
        if found.requires_grad:
            for slope in torch.autograd.grad(found.sum(), inputs, allow_unused=True):
                bad |= slope.isnan() if slope is not None else False
    return bad & found.isfinite().detach()


@dataclass(frozen=True)
class _Side:
    """The input as one side sees it, and at which of the points it is the input."""

    input: Operand
    taken: Tensor = field(hash=False, compare=False)


class _Guarding:
    def __init__(self, old: Program, points: Tensor, values: Sequence[float]) -> None:
        self.old, self.points, self.values = old, points, values
        self.first = len(old.inputs)
        self.build = Builder(old.inputs)
        self._made: dict[tuple[int, Operand], Operand] = {}
        self._degrees: dict[int, int] = {0: 1, **dict.fromkeys(range(1, self.first), 0)}

    def program(self, bound: float = math.inf) -> Program:
        """Return the program with its sides kept apart, of the input within a bound."""
        start = 0 if bound == math.inf else self.build("clamp", 0, -bound, bound)
        whole = _Side(start, torch.ones_like(self.points, dtype=torch.bool))
        return self.build.finish(self._add(self.first + len(self.old.steps) - 1, whole))

    def _add(self, operand: Operand, side: _Side) -> Operand:
        if type(operand) is not int or 0 < operand < self.first:
            return operand
        if operand == 0:
            return side.input
        key = operand, side.input
        if key not in self._made:
            step = self.old.steps[operand - self.first]
            if step.operation in ("above", "at_least"):
                self._made[key] = self._choice(step, side)
            elif step.operation == "between":
                self._made[key] = self._between(step, side)
            else:
                inner = [self._add(one, side) for one in step.operands]
                self._made[key] = self.build(step.operation, *inner, coefficients=step.coefficients)
        return self._made[key]

    def _choice(self, step: Step, side: _Side) -> Operand:
        u, bound, *ways = step.operands
        made = self._add(u, side), self._add(bound, side)
        compare = torch.gt if step.operation == "above" else torch.ge
        holds = compare(self._value(u), self._value(bound)).expand_as(self.points)
        inner = []
        for place, taken in enumerate((side.taken & holds, side.taken & ~holds)):
            own = side
            if self._degree(ways[place]) > 1 and taken.any():
                both = [self._point(u, bound, taken, side)] * 2
                both[place] = side.input
                own = _Side(self.build(step.operation, *made, *both), taken)
            inner.append(self._add(ways[place], own))
        return self.build(step.operation, *made, *inner)

    def _between(self, step: Step, side: _Side) -> Operand:
        u, low, high, way = step.operands
        made = [self._add(one, side) for one in (u, low, high)]
        value = self._value(u)
        holds = (value > self._value(low)) & (value < self._value(high))
        taken = side.taken & holds.expand_as(self.points)
        own = side
        if self._degree(way) > 1 and taken.any():
            point = self._point(u, low, taken, side)
            below = self.build("at_least", made[0], made[2], point, side.input)
            own = _Side(self.build("above", made[0], made[1], below, point), taken)
        return self.build("between", *made, self._add(way, own))

    def _point(self, u: Operand, bound: Operand, taken: Tensor, side: _Side) -> Operand:
        """Return a point of a side; one that is told by a parameter moves with it."""
        inside = self.points[taken]
        near = inside[inside.abs() <= _MODERATE]
        point = float((near if len(near) else inside).median())
        if u == 0 and type(bound) is int and self._degree(bound) == 0:
            return self.build("add", self._add(bound, side), point - float(self._value(bound)))
        return point

    def _value(self, operand: Operand) -> Tensor:
        """Return a value of the old program at the points, for the default parameters."""
        if type(operand) is not int or operand < self.first:
            known = (self.points, *self.values)[operand] if type(operand) is int else operand
            return torch.as_tensor(known, dtype=self.points.dtype)
        with torch.no_grad():
            part = Program(self.old.inputs, self.old.steps[: operand - self.first + 1])
            return part(self.points, *self.values)

    def _degree(self, operand: Operand) -> int:
        """Return 0 of what does not have the input in it, 1 of what is linear in it, else 2."""
        if type(operand) is not int:
            return 0
        if operand not in self._degrees:
            step = self.old.steps[operand - self.first]
            degrees = [self._degree(one) for one in step.operands]
            match step.operation:
                case "add" | "sub" | "neg" | "lift":
                    found = max(degrees)
                case "mul":
                    found = sum(degrees)
                case "spread":
                    found = degrees[1]
                case "div":
                    found = degrees[0] + 2 * degrees[1]
                case "above" | "at_least":
                    found = max(degrees[2:])
                case "between":
                    found = degrees[3]
                case _:
                    found = 2 * max(degrees)
            self._degrees[operand] = min(found, 2)
        return self._degrees[operand]

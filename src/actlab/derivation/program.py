"""A straight-line program over tensors: what a derived activation runs, and what it prints.

Every step is one operation of a small vocabulary over earlier steps. Calling a program and printing it read
the same table, so a printed program computes what the called one does, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actlab import _numerics as numerics
from actlab.derivation import kernels

Operand = int | float  # a step by its number, or a constant


@dataclass(frozen=True)
class Operation:
    """One operation: how it is computed, how it is written, and about how many additions it costs."""

    run: Callable[..., Any]
    text: str
    cost: int = 1


_BINARY = {
    "add": Operation(lambda a, b: a + b, "{0} + {1}"),
    "sub": Operation(lambda a, b: a - b, "{0} - {1}"),
    "mul": Operation(lambda a, b: a * b, "{0} * {1}"),
    "div": Operation(lambda a, b: a / b, "{0} / {1}", 2),
    "power": Operation(lambda a, b: a**b, "{0} ** {1}", 12),
    "gt": Operation(lambda a, b: a > b, "{0} > {1}"),
    "ge": Operation(lambda a, b: a >= b, "{0} >= {1}"),
    "lt": Operation(lambda a, b: a < b, "{0} < {1}"),
    "le": Operation(lambda a, b: a <= b, "{0} <= {1}"),
    "eq": Operation(lambda a, b: a == b, "{0} == {1}"),
    "and": Operation(lambda a, b: a & b, "{0} & {1}"),
    "or": Operation(lambda a, b: a | b, "{0} | {1}"),
}
_OTHERS = {
    "neg": Operation(lambda a: -a, "-{0}"),
    "not": Operation(lambda a: ~a, "~{0}"),
    "abs": Operation(torch.abs, "torch.abs({0})"),
    # Beside a trained parameter autograd goes through it: at 0 it then has the slope of its left side.
    "size": Operation(lambda a: torch.where(a > 0, a, -a), "torch.where({0} > 0, {0}, -{0})", 2),
    "square": Operation(torch.square, "torch.square({0})"),
    "sqrt": Operation(torch.sqrt, "torch.sqrt({0})", 3),
    "exp": Operation(torch.exp, "torch.exp({0})", 8),
    "log": Operation(torch.log, "torch.log({0})", 8),
    "log1p": Operation(torch.log1p, "torch.log1p({0})", 9),
    "expm1": Operation(numerics.expm1, "numerics.expm1({0})", 9),
    "tanh": Operation(numerics.tanh, "numerics.tanh({0})", 9),
    "sech": Operation(numerics.sech, "numerics.sech({0})", 12),
    "tanh_slope": Operation(kernels.tanh_slope, "kernels.tanh_slope({0})", 16),
    "sigmoid": Operation(numerics.sigmoid_to_the_last, "numerics.sigmoid_to_the_last({0})", 9),
    "sinh": Operation(torch.sinh, "torch.sinh({0})", 10),
    "cosh": Operation(torch.cosh, "torch.cosh({0})", 10),
    "sin": Operation(torch.sin, "torch.sin({0})", 8),
    "cos": Operation(torch.cos, "torch.cos({0})", 8),
    "tan": Operation(torch.tan, "torch.tan({0})", 9),
    "atan": Operation(torch.atan, "torch.atan({0})", 9),
    "asinh": Operation(kernels.asinh, "kernels.asinh({0})", 10),
    "acosh": Operation(kernels.acosh, "kernels.acosh({0})", 10),
    "atanh": Operation(kernels.atanh, "kernels.atanh({0})", 10),
    "erf": Operation(kernels.erf, "kernels.erf({0})", 10),
    "erfc": Operation(kernels.erfc, "kernels.erfc({0})", 12),
    "normal_cdf": Operation(kernels.normal_cdf, "kernels.normal_cdf({0})", 12),
    "clamp": Operation(lambda a, low, high: torch.clamp(a, low, high), "torch.clamp({0}, {1}, {2})"),
    "where": Operation(lambda c, a, b: torch.where(c, a, b), "torch.where({0}, {1}, {2})"),
    "maximum": Operation(torch.maximum, "torch.maximum({0}, {1})"),
    "minimum": Operation(torch.minimum, "torch.minimum({0}, {1})"),
    # A number or a parameter as a tensor: one that broadcasts, and one of the input's shape.
    "lift": Operation(lambda x, a: x.new_zeros(()) + a, "{0}.new_zeros(()) + {1}"),
    "spread": Operation(lambda x, a: torch.zeros_like(x) + a, "torch.zeros_like({0}) + {1}"),
}
OPERATIONS: Mapping[str, Operation] = {**_BINARY, **_OTHERS}
_ATOM, _LONG = 9, 80  # what needs no brackets; characters of a line
_LEVELS = {
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq"), 1),
    **dict.fromkeys(("and", "or"), 2),
    **dict.fromkeys(("add", "sub", "lift", "spread"), 5),
    **dict.fromkeys(("mul", "div"), 6),
    **dict.fromkeys(("neg", "not"), 7),
    "power": 8,
}
# What text of a printed program may refer to.
NAMES: Mapping[str, Any] = {"torch": torch, "numerics": numerics, "kernels": kernels, "inf": math.inf}


@dataclass(frozen=True)
class Step:
    """One step: an operation, its operands, and a polynomial's coefficients, the highest power first."""

    operation: str
    operands: tuple[Operand, ...]
    coefficients: tuple[float, ...] = ()

    @property
    def cost(self) -> int:
        """Return about how many additions it costs."""
        return 2 * len(self.coefficients) if self.coefficients else OPERATIONS[self.operation].cost


@dataclass(frozen=True)
class Program:
    """A straight-line program of an input and of parameters.

    Attributes:
        inputs: The names of the input and the parameters, in order. Step ``i`` is the value number
            ``len(inputs) + i``.
        steps: What is computed, in order; the last one is the result.

    Examples:
        >>> program = Program(("x",), (Step("mul", (0, 0)), Step("add", (1, 2.0))))
        >>> program(torch.tensor([3.0]))
        tensor([11.])
        >>> program.lines()
        ['return x * x + 2.0']
    """

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]

    def __call__(self, x: Tensor, *parameters: Any) -> Tensor:
        """Run the program.

        Args:
            x: The input, float32 or float64.
            *parameters: The parameters in order, numbers or tensors that broadcast.

        Returns:
            The result, of the input's shape and dtype.
        """
        values: list[Any] = [x, *parameters]
        for step in self.steps:
            operands: list[Any] = [values[o] if isinstance(o, int) else o for o in step.operands]
            if step.coefficients:
                values.append(numerics.polynomial(operands[0], step.coefficients))
            else:
                values.append(OPERATIONS[step.operation].run(*operands))
        result: Tensor = values[-1]
        return result

    @property
    def cost(self) -> int:
        """Return about how many additions it costs."""
        return sum(step.cost for step in self.steps)

    def lines(self) -> list[str]:
        """Return the program as Python statements, the last one a ``return``.

        Returns:
            The statements; beside the inputs they name ``torch`` and actlab's ``numerics`` and ``kernels``.
        """
        texts: list[tuple[str, int]] = [(name, _ATOM) for name in self.inputs]
        uses = [0] * (len(self.inputs) + len(self.steps))
        for step in self.steps:
            for operand in step.operands:
                if type(operand) is int:
                    uses[operand] += 2 if step.operation == "size" else 1  # whose text has it more than once
        named: list[str] = []

        def name(number: int) -> None:
            named.append(f"v{len(named) + 1} = {texts[number][0]}")
            texts[number] = (f"v{len(named)}", _ATOM)

        for step in self.steps:
            text, level = _written(step, texts)
            inner = {o for o in step.operands if type(o) is int and not texts[o][0].isidentifier()}
            while len(text) > _LONG and (longest := max(inner, key=lambda o: len(texts[o][0]), default=None)):
                inner.remove(longest)
                name(longest)
                text, level = _written(step, texts)
            texts.append((text, level))
            if uses[len(texts) - 1] > 1:
                name(len(texts) - 1)
        return [*named, f"return {texts[-1][0]}"]


def _written(step: Step, texts: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """Return a step as Python and how tightly it binds; its operands get brackets where they need them."""
    operands = [texts[o] if type(o) is int else (_literal(float(o)), _ATOM) for o in step.operands]
    if step.coefficients:
        return f"numerics.polynomial({operands[0][0]}, {tuple(step.coefficients)!r})", _ATOM
    shape = OPERATIONS[step.operation].text
    level = _LEVELS.get(step.operation, _ATOM)
    if step.operation in _BINARY or level != _ATOM:
        # What stands at the right of - or / is bracketed if it binds no tighter.
        inner = [text if own >= level + place else f"({text})" for place, (text, own) in enumerate(operands)]
    else:
        inner = [text for text, _ in operands]
    return shape.format(*inner), level


def _literal(value: float) -> str:
    return f"({value!r})" if value < 0 else repr(value)


class Builder:
    """Collects steps; the same operation on the same operands is one step."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self.inputs = tuple(inputs)
        self.steps: list[Step] = []
        self._known: dict[Any, int] = {}
        self._spread = {0}  # values that have the input's shape

    def __call__(self, operation: str, *operands: Operand, coefficients: tuple[float, ...] = ()) -> int:
        """Return the number of a step, a new one if there is none like it."""
        step = Step(operation, operands, coefficients)
        # To Python the number 1.0 and the step 1 are equal.
        key = (operation, *((type(value), value) for value in operands), coefficients)
        if key not in self._known:
            self._known[key] = len(self.inputs) + len(self.steps)
            self.steps.append(step)
            follows = operation == "spread" or any(self.follows_input(value) for value in operands)
            if follows and operation != "lift":
                self._spread.add(self._known[key])
        return self._known[key]

    def follows_input(self, value: Operand) -> bool:
        """Whether a value is a tensor of the input's shape for certain."""
        return type(value) is int and value in self._spread

    def tensor(self, value: Operand) -> int:
        """Return a value as a tensor that broadcasts: parameters may be numbers."""
        if type(value) is int and (self.follows_input(value) or value >= len(self.inputs)):
            step = self.steps[value - len(self.inputs)] if value >= len(self.inputs) else None
            if step is None or self.follows_input(value) or step.operation == "lift":
                return value
        return self("lift", 0, value)

    def finish(self, value: Operand) -> Program:
        """Return the program whose result a value is, without the steps it does not need."""
        if not self.follows_input(value):
            value = self("spread", 0, value)
        if value == 0:
            value = self("clamp", 0, -math.inf, math.inf)
        assert type(value) is int
        needed, first = {value}, len(self.inputs)
        for number in range(value, first - 1, -1):
            if number in needed:
                operands = self.steps[number - first].operands
                needed |= {operand for operand in operands if type(operand) is int}
        place = {number: number for number in range(first)}
        kept: list[Step] = []
        for number in sorted(number for number in needed if number >= first):
            step = self.steps[number - first]
            operands = tuple(place[o] if type(o) is int else o for o in step.operands)
            place[number] = first + len(kept)
            kept.append(Step(step.operation, operands, step.coefficients))
        return Program(self.inputs, tuple(kept))

"""Straight-line programs over tensors, which a derived activation runs and prints.

Every step is one operation of a small vocabulary on the results of earlier steps. Calling and printing read
the same table, so a printed program computes the same bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from actlab.activation import numerics
from actlab.derivation import elementary

DTYPES = (torch.float64, torch.float32)
Operand = int | float  # a step by its number, or a constant


@dataclass(frozen=True)
class Operation:
    """One operation: its function, its text in Python, and its cost in additions."""

    run: Callable[..., Any]
    text: str
    cost: int = 1
    compiled_form: bool = False  # whether kernels compute it differently


_BINARY = {
    "add": Operation(lambda a, b: a + b, "{0} + {1}"),
    "sub": Operation(lambda a, b: a - b, "{0} - {1}"),
    "mul": Operation(lambda a, b: a * b, "{0} * {1}"),
    "div": Operation(lambda a, b: a / b, "{0} / {1}", 2),
    "power": Operation(lambda a, b: a**b, "{0} ** {1}", 12),
}
_OTHERS = {
    "neg": Operation(lambda a: -a, "-{0}"),
    "abs": Operation(torch.abs, "torch.abs({0})"),
    # abs for autograd if a parameter is trained: at 0 it has the slope of the left side.
    "size": Operation(lambda a: torch.where(a > 0, a, -a), "torch.where({0} > 0, {0}, -{0})", 2),
    "sqrt": Operation(torch.sqrt, "torch.sqrt({0})", 3),
    "root": Operation(elementary.root, "elementary.root({0}, {1})", 6),
    "exp": Operation(torch.exp, "torch.exp({0})", 8),
    "log": Operation(torch.log, "torch.log({0})", 8),
    "log1p": Operation(torch.log1p, "torch.log1p({0})", 9),
    "expm1": Operation(numerics.expm1, "numerics.expm1({0})", 9, True),
    "tanh": Operation(numerics.tanh, "numerics.tanh({0})", 9, True),
    "sech": Operation(numerics.sech, "numerics.sech({0})", 12),
    "tanh_slope": Operation(elementary.tanh_slope, "elementary.tanh_slope({0})", 16, True),
    "tanh_beside_slope": Operation(
        elementary.tanh_beside_slope, "elementary.tanh_beside_slope({0})", 4, True
    ),
    "sigmoid": Operation(numerics.sigmoid_to_the_last, "numerics.sigmoid_to_the_last({0})", 12),
    "normal_sigmoid": Operation(torch.sigmoid, "torch.sigmoid({0})", 11),
    "sinh": Operation(torch.sinh, "torch.sinh({0})", 10),
    "cosh": Operation(torch.cosh, "torch.cosh({0})", 10),
    "sin": Operation(torch.sin, "torch.sin({0})", 8),
    "cos": Operation(torch.cos, "torch.cos({0})", 8),
    "tan": Operation(torch.tan, "torch.tan({0})", 9),
    "atan": Operation(torch.atan, "torch.atan({0})", 9),
    "asinh": Operation(elementary.asinh, "elementary.asinh({0})", 10, True),
    "acosh": Operation(elementary.acosh, "elementary.acosh({0})", 10, True),
    "atanh": Operation(elementary.atanh, "elementary.atanh({0})", 10, True),
    "erf": Operation(elementary.erf, "elementary.erf({0})", 10, True),
    "erfc": Operation(elementary.erfc, "elementary.erfc({0})", 12, True),
    "bell": Operation(elementary.bell, "elementary.bell({0})", 8, True),
    "normal_cdf": Operation(elementary.normal_cdf, "elementary.normal_cdf({0})", 12, True),
    "clamp": Operation(lambda a, low, high: torch.clamp(a, low, high), "torch.clamp({0}, {1}, {2})"),
    "clamp_min": Operation(torch.clamp_min, "torch.clamp_min({0}, {1})"),
    "clamp_max": Operation(torch.clamp_max, "torch.clamp_max({0}, {1})"),
    "above": Operation(elementary.above, "elementary.above({0}, {1}, {2}, {3})", 2),
    "at_least": Operation(elementary.at_least, "elementary.at_least({0}, {1}, {2}, {3})", 2),
    "between": Operation(elementary.between, "elementary.between({0}, {1}, {2}, {3})", 3),
    "maximum": Operation(torch.maximum, "torch.maximum({0}, {1})"),
    "minimum": Operation(torch.minimum, "torch.minimum({0}, {1})"),
    # A number or a parameter as a tensor: one that broadcasts, and one of the input's shape.
    "lift": Operation(lambda x, a: x.new_zeros(()) + a, "{0}.new_zeros(()) + {1}"),
    "spread": Operation(lambda x, a: torch.zeros_like(x) + a, "torch.zeros_like({0}) + {1}"),
}
OPERATIONS: Mapping[str, Operation] = {**_BINARY, **_OTHERS}
_IN_PLACE = frozenset("add sub mul div neg abs sqrt exp log log1p sin cos clamp clamp_min clamp_max".split())
# The ends of a clamp that an operation sets: 0 is the lower one, 1 the upper one.
_CLAMP_ENDS = {"clamp": (0, 1), "clamp_min": (0,), "clamp_max": (1,)}
_ATOM, _LONG = 9, 80  # precedence of text that needs no brackets; characters of a line
_PRECEDENCE = {
    **dict.fromkeys(("add", "sub", "lift", "spread"), 5),
    **dict.fromkeys(("mul", "div"), 6),
    "neg": 7,
    "power": 8,
}
# The names that a printed program refers to.
NAMES: Mapping[str, Any] = {"torch": torch, "numerics": numerics, "elementary": elementary, "inf": math.inf}


@dataclass(frozen=True)
class Step:
    """One step: an operation, its operands, and coefficients of a polynomial, highest power first."""

    operation: str
    operands: tuple[Operand, ...]
    coefficients: tuple[float, ...] = ()

    @property
    def cost(self) -> int:
        """Return the cost in additions."""
        return 2 * len(self.coefficients) if self.coefficients else OPERATIONS[self.operation].cost


class _Reuse(NamedTuple):
    """The operand that a step may overwrite, and the values that no later step needs."""

    overwritten: int | None
    finished: tuple[int, ...]


def _may_overwrite(parameters: Sequence[Any]) -> bool:
    """Return whether only the program uses its steps, and all of them have the dtype of the input."""
    is_recorded = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return not (is_recorded or any(isinstance(value, Tensor) for value in parameters))


@dataclass(frozen=True)
class Program:
    """A straight-line program of an input and of parameters.

    Attributes:
        inputs: The names of the input and the parameters, in order. The result of step ``i`` is the value
            number ``len(inputs) + i``.
        steps: The steps, in order; the last one is the result.

    Examples:
        >>> program = Program(("x",), (Step("mul", (0, 0)), Step("add", (1, 2.0))))
        >>> program(torch.tensor([3.0]))
        tensor([11.])
        >>> program.to_python()
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
        reuse = self._reuse if _may_overwrite(parameters) else None
        for place, step in enumerate(self.steps):
            operands: list[Any] = [values[o] if isinstance(o, int) else o for o in step.operands]
            if step.coefficients:
                values.append(numerics.polynomial(operands[0], step.coefficients))
            elif reuse and (overwritten := reuse[place].overwritten) is not None:
                values.append(getattr(operands.pop(overwritten), f"{step.operation}_")(*operands))
            else:
                values.append(OPERATIONS[step.operation].run(*operands))
            for number in reuse[place].finished if reuse else ():
                values[number] = None
        result: Tensor = values[-1]
        return result

    @functools.cached_property
    def _reuse(self) -> list[_Reuse]:
        first, spread = len(self.inputs), {0}
        last = {o: place for place, step in enumerate(self.steps) for o in step.operands if type(o) is int}
        reuse = []
        for place, step in enumerate(self.steps):
            used = {i: o for i, o in enumerate(step.operands) if type(o) is int}
            finished = {o for o in used.values() if o >= first and last[o] == place}
            ends = (0, 1) if step.operation in ("add", "mul") else (0,)
            own = [i for i in ends if used.get(i) in finished & spread and step.operation in _IN_PLACE]
            reuse.append(_Reuse(own[0] if own else None, tuple(finished)))
            if step.operation == "spread" or (step.operation != "lift" and spread & {*used.values()}):
                spread.add(first + place)
        return reuse

    @property
    def has_compiled_forms(self) -> bool:
        """Return whether kernels compute some step differently."""
        return any(
            step.operation in OPERATIONS and OPERATIONS[step.operation].compiled_form for step in self.steps
        )

    @property
    def cost(self) -> int:
        """Return the cost in additions."""
        return sum(step.cost for step in self.steps)

    def to_python(self) -> list[str]:
        """Return the program as Python statements, the last one a ``return``.

        Returns:
            The statements; they refer to the inputs, ``torch``, and actlab's ``numerics`` and ``elementary``.
        """
        texts: list[tuple[str, int]] = [(name, _ATOM) for name in self.inputs]
        uses = [0] * (len(self.inputs) + len(self.steps))
        for step in self.steps:
            for operand in step.operands:
                if type(operand) is int:
                    uses[operand] += 2 if step.operation == "size" else 1  # its text repeats the operand
        named: list[str] = []

        def name(number: int) -> None:
            named.append(f"v{len(named) + 1} = {texts[number][0]}")
            texts[number] = (f"v{len(named)}", _ATOM)

        for step in self.steps:
            text, level = _format_step(step, texts)
            inner = {o for o in step.operands if type(o) is int and not texts[o][0].isidentifier()}
            while len(text) > _LONG and (longest := max(inner, key=lambda o: len(texts[o][0]), default=None)):
                inner.remove(longest)
                name(longest)
                text, level = _format_step(step, texts)
            texts.append((text, level))
            if uses[len(texts) - 1] > 1:
                name(len(texts) - 1)
        return [*named, f"return {texts[-1][0]}"]


def _format_step(step: Step, texts: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """Return a step as Python and its precedence; operands get brackets where they need them."""
    operands = [texts[o] if type(o) is int else (_format_number(float(o)), _ATOM) for o in step.operands]
    if step.coefficients:
        return f"numerics.polynomial({operands[0][0]}, {tuple(step.coefficients)!r})", _ATOM
    shape = OPERATIONS[step.operation].text
    level = _PRECEDENCE.get(step.operation, _ATOM)
    if step.operation in _BINARY or level != _ATOM:
        # An operand on the right of - or / needs a higher precedence.
        inner = [text if own >= level + place else f"({text})" for place, (text, own) in enumerate(operands)]
    else:
        inner = [text for text, _ in operands]
    return shape.format(*inner), level


def _format_number(value: float) -> str:
    return f"({value!r})" if value < 0 else repr(value)


def _is_zero(value: Operand) -> bool:
    return type(value) is float and value == 0


class ProgramBuilder:
    """Collects steps; the same operation on the same operands becomes one step."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self.inputs = tuple(inputs)
        self.steps: list[Step] = []
        self._known: dict[Any, int] = {}
        self._spread = {0}  # values that have the input's shape

    def __call__(self, operation: str, *operands: Operand, coefficients: tuple[float, ...] = ()) -> int:
        """Add a step, and return its number; an equal step is not added again."""
        step = Step(operation, operands, coefficients)
        # The type is in the key because Python finds the number 1.0 and the step 1 equal.
        key = (operation, *((type(value), value) for value in operands), coefficients)
        if key not in self._known:
            self._known[key] = len(self.inputs) + len(self.steps)
            self.steps.append(step)
            follows = operation == "spread" or any(self.follows_input(value) for value in operands)
            if follows and operation != "lift":
                self._spread.add(self._known[key])
        return self._known[key]

    def add_clamp(self, value: int, low: Operand, high: Operand) -> int:
        """Add a clamp, merged with an earlier clamp of the same value; infinite bounds are omitted."""
        inner = self._find_step(value)
        if inner and inner.operation in _CLAMP_ENDS and type(low) is float and type(high) is float:
            ends = {0: -math.inf, 1: math.inf}
            ends |= dict(zip(_CLAMP_ENDS[inner.operation], inner.operands[1:], strict=True))
            both = max(ends[0], low), min(ends[1], high)
            if all(type(end) is float for end in ends.values()) and both[0] <= both[1]:
                return self.add_clamp(int(inner.operands[0]), *both)
        if type(low) is float and math.isinf(low) and high != math.inf:
            return self("clamp_max", value, high)
        return (
            self("clamp_min", value, low)
            if high == math.inf and low != -math.inf
            else self("clamp", value, low, high)
        )

    def add_choice(self, operation: str, u: Operand, bound: Operand, yes: Operand, no: Operand) -> int:
        """Add a choice between two values; two choices that select an interval become one step."""
        inner = self._find_step(yes)
        if operation == "above" and _is_zero(no) and inner and inner.operation == "at_least":
            same, high, beyond, value = inner.operands
            if same == u and _is_zero(beyond) and self._is_number(high) and self._is_number(bound):
                return self("between", u, bound, high, value)
            if same == u and type(bound) is float and type(high) is float and bound < high:
                return self(
                    "add", self("at_least", u, high, beyond, 0.0), self("between", u, bound, high, value)
                )
        other = self._find_step(no)
        if operation == "at_least" and _is_zero(yes) and other and other.operation == "above":
            same, low, value, beyond = other.operands
            if same == u and _is_zero(beyond) and self._is_number(low) and self._is_number(bound):
                return self("between", u, low, bound, value)
        return self(operation, u, bound, yes, no)

    def _find_step(self, value: Operand) -> Step | None:
        """Return the step that computes a value; None for inputs and numbers."""
        place = value - len(self.inputs) if type(value) is int else -1
        return self.steps[int(place)] if place >= 0 else None

    def _is_number(self, value: Operand) -> bool:
        """Return whether a value is a number or a parameter."""
        return type(value) is float or 0 < value < len(self.inputs)

    def follows_input(self, value: Operand) -> bool:
        """Return whether a value certainly is a tensor of the input's shape."""
        return type(value) is int and value in self._spread

    def to_tensor(self, value: Operand) -> int:
        """Convert a value to a tensor that broadcasts: parameters may be numbers."""
        if type(value) is int and (self.follows_input(value) or value >= len(self.inputs)):
            step = self.steps[value - len(self.inputs)] if value >= len(self.inputs) else None
            if step is None or self.follows_input(value) or step.operation == "lift":
                return value
        return self("lift", 0, value)

    def finish(self, value: Operand) -> Program:
        """Return the program that computes a value, with only the steps that it needs."""
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
        steps = {number: self.steps[number - first] for number in sorted(needed) if number >= first}
        sloping = {step.operands for step in steps.values() if step.operation == "tanh_slope"}
        for number, step in steps.items():
            beside = step.operation == "tanh" and step.operands in sloping
            operands = tuple(place[o] if type(o) is int else o for o in step.operands)
            place[number] = first + len(kept)
            kept.append(Step("tanh_beside_slope" if beside else step.operation, operands, step.coefficients))
        return Program(self.inputs, tuple(kept))

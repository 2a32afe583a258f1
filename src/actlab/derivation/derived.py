"""What follows from a formula: a stand-in that differentiates plainly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import Tensor


@dataclass(frozen=True)
class Program:
    """A formula as nested operations."""

    inputs: tuple[str, ...]
    tree: Any

    def __call__(self, x: Tensor, *parameters: Any) -> Tensor:
        """Compute it."""
        values = dict(zip(self.inputs, (x, *parameters), strict=True))
        found: Tensor = torch.zeros_like(x) + _run(self.tree, values, x)
        return found

    def lines(self) -> list[str]:
        """Return it as Python."""
        return [f"return torch.zeros_like(x) + {_text(self.tree)}"]


@dataclass(frozen=True)
class Derived:
    """What follows from a formula."""

    forward: Program
    derivative: Program
    second: Program
    partials: Mapping[str, Program]
    saves: str = "input"
    kinks: Any = None
    limits: Any = (math.nan, math.nan)
    slopes: Any = (math.nan, math.nan)
    range: Any = (-math.inf, math.inf)
    monotonic: bool = False
    worst: float = 0.0
    inexact: tuple[str, ...] = ()


def derive(
    expression: sympy.Expr,
    parameters: Mapping[str, float],
    *,
    trainable: Sequence[str] = (),
    at: Mapping[float, float] = {},
) -> Derived:
    """Differentiate plainly."""
    x = sympy.Symbol("x", real=True)
    inputs = ("x", *parameters)
    whole = expression.rewrite(sympy.Piecewise)
    slope = sympy.diff(whole, x)
    for place, value in at.items():
        slope = sympy.Piecewise((value, sympy.And(x >= place, x <= place)), (slope, True))

    def program(e: Any) -> Program:
        return Program(inputs, _tree(e))

    return Derived(
        program(expression),
        program(slope),
        program(sympy.diff(whole, x, 2)),
        {name: program(sympy.diff(whole, sympy.Symbol(name, real=True))) for name in trainable},
        kinks=dict(at),
    )


def _tree(e: Any) -> Any:
    if e.is_Symbol:
        return str(e)
    if e in (sympy.true, sympy.false):
        return bool(e)
    if e.is_number:
        return float(e)
    name = {"ITE": "where"}.get(type(e).__name__, type(e).__name__)
    if isinstance(e, sympy.Piecewise):
        found = _tree(e.args[-1][0])
        for value, condition in reversed(e.args[:-1]):
            found = ("where", _tree(condition), _tree(value), found)
        return found
    return (name, *map(_tree, e.args))


_TWO = {
    "Add": "+",
    "Mul": "*",
    "Pow": "**",
    "And": "&",
    "Or": "|",
    "StrictGreaterThan": ">",
    "GreaterThan": ">=",
    "StrictLessThan": "<",
    "LessThan": "<=",
}


def _run(tree: Any, values: dict[str, Any], x: Tensor) -> Any:
    if isinstance(tree, str):
        return values[tree]
    if isinstance(tree, bool):
        return x.new_full((), tree, dtype=torch.bool)
    if isinstance(tree, float):
        return tree
    name, *rest = tree
    found = [_run(part, values, x) for part in rest]
    if name in _TWO:
        total = found[0]
        for part in found[1:]:
            if name == "Add":
                total = total + part
            elif name == "Mul":
                total = total * part
            elif name == "Pow":
                total = total**part
            elif name == "And":
                total = total & part
            elif name == "Or":
                total = total | part
            elif name == "StrictGreaterThan":
                total = total > part
            elif name == "GreaterThan":
                total = total >= part
            elif name == "StrictLessThan":
                total = total < part
            else:
                total = total <= part
        return total
    if name == "where":
        return torch.where(found[0], found[1], found[2])
    if name in ("Max", "Min"):
        found = [torch.as_tensor(f, dtype=x.dtype) for f in found]
        return torch.maximum(*found) if name == "Max" else torch.minimum(*found)
    return getattr(torch, name.lower())(torch.zeros_like(x) + found[0])


def _text(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    if isinstance(tree, bool):
        return f"x.new_full((), {tree}, dtype=torch.bool)"
    if isinstance(tree, float):
        return f"({tree!r})"
    name, *rest = tree
    found = [_text(part) for part in rest]
    if name in _TWO:
        return "(" + f" {_TWO[name]} ".join(found) + ")"
    if name == "where":
        return f"torch.where({', '.join(found)})"
    if name in ("Max", "Min"):
        found = [f"torch.as_tensor({f}, dtype=x.dtype)" for f in found]
        return f"torch.{name.lower()}imum({', '.join(found)})"
    return f"torch.{name.lower()}(torch.zeros_like(x) + {found[0]})"

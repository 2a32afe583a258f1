"""A catalogue formula in torch operations, as a user would write it: the naive peer in benchmarks."""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_OPERATIONS: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _clip(kernel: Callable[..., Tensor], a: Any, b: Any) -> Any:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (torch.maximum if kernel is torch.clamp_min else torch.minimum)(a, b)
    return kernel(a, b) if isinstance(a, Tensor) else kernel(b, a)


def _of_one(name: str) -> Callable[..., Any]:
    def function(value: Any) -> Any:
        return getattr(torch if isinstance(value, Tensor) else math, name)(value)

    return function


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: _of_one(name) for name in "exp log log1p expm1 sqrt erf erfc sin cos atan tanh".split()},
    "abs": abs,
    "sigmoid": torch.sigmoid,
    "where": torch.where,
    "softplus": torch.nn.functional.softplus,
    "max": functools.partial(_clip, torch.clamp_min),
    "min": functools.partial(_clip, torch.clamp_max),
}


def textbook(formula: str, **parameters: Any) -> Callable[..., Tensor]:
    """Return the formula as a function of its variables, which are tensors in alphabetical order.

    Args:
        formula: A formula from the catalogue.
        **parameters: The values of its parameters; all other names are variables.

    Returns:
        A function that autograd can differentiate.
    """
    tree = ast.parse(formula, mode="eval").body
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    variables = sorted(names - set(parameters) - set(_FUNCTIONS) - {"pi"})

    def function(*inputs: Tensor) -> Tensor:
        values = {"pi": math.pi, **parameters, **dict(zip(variables, inputs, strict=True))}
        result: Tensor = _evaluate(tree, values)
        return result

    return function


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATIONS[type(op)](_evaluate(operand, values))
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATIONS[type(op)](_evaluate(left, values), _evaluate(right, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATIONS[type(op)](_evaluate(left, values), _evaluate(right, values))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_evaluate(arg, values) for arg in args))
    raise ValueError(f"no textbook operation for {ast.dump(node)}")

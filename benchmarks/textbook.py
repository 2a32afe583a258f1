"""A definition's textbook formula in torch's own operations, as a person would type it: the naive peer."""

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
    """Return the formula as a function of its variables, tensors in the order of their names.

    Args:
        formula: A formula of the catalogue.
        **parameters: The values of its parameters; what is left are the variables.

    Returns:
        A function that torch differentiates by its own rules.
    """
    tree = ast.parse(formula, mode="eval").body
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    variables = sorted(names - set(parameters) - set(_FUNCTIONS) - {"pi"})

    def function(*inputs: Tensor) -> Tensor:
        known = {"pi": math.pi, **parameters, **dict(zip(variables, inputs, strict=True))}
        result: Tensor = _evaluate(tree, known)
        return result

    return function


def _evaluate(node: ast.expr, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return known[name]
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATIONS[type(op)](_evaluate(operand, known))
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATIONS[type(op)](_evaluate(left, known), _evaluate(right, known))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATIONS[type(op)](_evaluate(left, known), _evaluate(right, known))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_evaluate(arg, known) for arg in args))
    raise ValueError(f"no textbook operation for {ast.dump(node)}")

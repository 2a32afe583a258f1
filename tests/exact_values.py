"""Exact values of an activation from its textbook formula, in ball arithmetic.

Every value has a proven bound: python-flint's ``arb_series`` encloses f, f', f'' and f''', and the precision
is doubled until the enclosure is tight. The module is independent of actlab's computations.
``python tests/exact_values.py [NAME ...]`` prints the largest errors of the definitions.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import sys
from dataclasses import dataclass
from typing import Any

import flint
import numpy as np
import torch
from flint import arb, arb_series

import actlab

ORDERS = 4  # f, f', f'' and, for scale, f'''
GOOD_BITS = 80
MOST_BITS = 6400
TINY = arb("1e-400")  # float64 ends at 5e-324: an enclosure below this is zero

_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARE = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}


# Filled by _walk if the point lies on a branch, where the second derivative can jump.
_ties: list[bool] = []


class _Undecided(Exception):
    """The precision is too low to decide on which side of a branch the point lies."""


def _constant(value: Any) -> arb_series:
    return arb_series([arb(value)], ORDERS)


def _tanh(u: arb_series) -> arb_series:
    decaying = (u * (-2 if u[0] >= 0 else 2)).exp()
    ratio = (1 - decaying) / (1 + decaying)
    return ratio if u[0] >= 0 else -ratio


def _sigmoid(u: arb_series) -> arb_series:
    return 1 / (1 + (-u).exp()) if u[0] >= 0 else u.exp() / (1 + u.exp())


_FUNCTIONS = {
    **{
        name: operator.methodcaller(name)
        for name in ("exp", "log", "sqrt", "sin", "cos", "atan", "erf", "erfc")
    },
    "log1p": lambda u: (1 + u).log(),
    "expm1": lambda u: u.exp() - 1,
    "sinh": lambda u: (u.exp() - (-u).exp()) / 2,
    "cosh": lambda u: (u.exp() + (-u).exp()) / 2,
    "asinh": lambda u: (u + (1 + u * u).sqrt()).log(),
    "acosh": lambda u: (u + (u * u - 1).sqrt()).log(),
    "atanh": lambda u: ((1 + u).log() - (1 - u).log()) / 2,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda u: (1 + u.exp()).log(),
    "abs": lambda u: u if _holds(operator.ge, u, _constant(0)) else -u,
    "max": lambda u, v: u if _holds(operator.ge, u, v) else v,
    "min": lambda u, v: u if _holds(operator.le, u, v) else v,
}


def _holds(compare: Any, u: arb_series, v: arb_series) -> bool:
    left, right = u[0], v[0]
    if left == right and left.is_exact() and right.is_exact():
        _ties.append(True)
    if left.overlaps(right) and not (left.is_exact() and right.is_exact()):
        raise _Undecided
    return bool(compare(left, right))


def _walk(node: ast.expr, names: dict[str, arb_series]) -> Any:
    match node:
        case ast.Constant(value=value):
            # A decimal in a formula means the nearest double.
            return _constant(value)
        case ast.Name(id="pi"):
            return _constant(arb.pi())
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_walk(operand, names)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as power)):
            base = _walk(left, names)
            return functools.reduce(operator.mul, [base] * power)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_walk(left, names), _walk(right, names))
        case ast.BoolOp(op=op, values=values):
            combine = all if isinstance(op, ast.And) else any
            return combine(_walk(value, names) for value in values)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            chain = [left, *rest]
            pairs = zip(chain, chain[1:], ops, strict=False)
            return all(_holds(_COMPARE[type(op)], _walk(a, names), _walk(b, names)) for a, b, op in pairs)
        case ast.Call(func=ast.Name(id="where"), args=[condition, yes, no]):
            return _walk(yes if _walk(condition, names) else no, names)
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_walk(arg, names) for arg in args))
    raise ValueError(ast.dump(node))


def _good(c: arb, order: int) -> bool:
    if not c.is_finite():
        return False
    return c.rel_accuracy_bits() >= (GOOD_BITS if order < 3 else 8) or abs(c) < TINY or c == 0


def taylor(tree: ast.expr, x: float, parameters: dict[str, float]) -> tuple[list[arb], bool]:
    """Return f, f', f'' and f''' at one point, as tight enclosures, and whether it lies on a branch."""
    bits = 160
    _ties.clear()
    while True:
        flint.ctx.prec = bits
        names = {name: _constant(value) for name, value in parameters.items()}
        try:
            series = _walk(tree, {**names, "x": arb_series([arb(x), arb(1)], ORDERS)})
            results = [series[k] * math.factorial(k) for k in range(ORDERS)]
            if all(map(_good, results, range(ORDERS))):
                return results, bool(_ties)
        except _Undecided:
            pass
        if bits >= MOST_BITS:
            raise ArithmeticError(f"no tight enclosure at x = {x!r}")
        bits *= 2


@dataclass(frozen=True)
class ExactValues:
    """f, f', f'' and f''' at points, each as a double and its rounding error."""

    high: np.ndarray[Any, Any]  # (4, n)
    low: np.ndarray[Any, Any]  # (4, n)
    branch: np.ndarray[Any, Any]  # (n,), whether the point lies on a branch of the formula


@functools.cache
def _exact_values(formula: str, points: bytes, parameters: tuple[tuple[str, float], ...]) -> ExactValues:
    tree = ast.parse(formula, mode="eval").body
    xs = np.frombuffer(points)
    high, low = np.zeros((ORDERS, len(xs))), np.zeros((ORDERS, len(xs)))
    branch = np.zeros(len(xs), bool)
    numbers = {name: value for name, value in parameters if not isinstance(value, bool | str)}
    for i, x in enumerate(xs.tolist()):
        balls, branch[i] = taylor(tree, x, numbers)
        for order, ball in enumerate(balls):
            middle = ball.mid()
            high[order, i] = float(middle)
            low[order, i] = float(middle - arb(high[order, i])) if math.isfinite(high[order, i]) else 0.0
    return ExactValues(high, low, branch)


def exact_values(
    activation: actlab.Activation[...], points: np.ndarray[Any, Any], **parameters: float
) -> ExactValues:
    """Return the exact function and derivatives at float64 points (n,)."""
    chosen = {**activation.example, **parameters}
    return _exact_values(
        activation.formula(**parameters),
        np.ascontiguousarray(points, np.float64).tobytes(),
        tuple(chosen.items()),
    )


def grid(activation: actlab.Activation[...], dtype: torch.dtype, **parameters: float) -> torch.Tensor:
    """Return at least 4,000 points: a log grid of both signs, and the neighbours of kinks and roots."""
    if dtype in (torch.float16, torch.bfloat16):
        every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
        return every[every.isfinite()].sort().values
    magnitudes = np.concatenate(
        [np.logspace(-30, 30, 1000), np.logspace(-3, 3, 1000), np.linspace(0.01, 12, 400)]
    )
    signed = torch.from_numpy(np.concatenate([magnitudes, -magnitudes, [0.0]])).to(torch.float32).to(dtype)
    special = torch.tensor([float(k) for k in activation.kinks(**parameters)], dtype=torch.float64).to(dtype)
    special = torch.cat([special, _roots(activation, signed, **parameters)])
    down, up = torch.tensor(-math.inf, dtype=dtype), torch.tensor(math.inf, dtype=dtype)
    neighbours, below, above = [special], special, special
    for _ in range(8):
        below, above = torch.nextafter(below, down), torch.nextafter(above, up)
        neighbours += [below, above]
    return torch.unique(torch.cat([signed, *neighbours]))


def derivatives(
    activation: actlab.Activation[...], points: torch.Tensor, copies: int = 1, **parameters: float
) -> dict[str, torch.Tensor]:
    """Compute f, f' (plain backward), f' (with create_graph) and f'' (double backward) by autograd.

    ``copies`` repeats the points, because definitions can use other kernels for large tensors.
    """
    x = points.repeat(copies).requires_grad_()
    value = activation(x, **{**activation.example, **parameters})
    ones = torch.ones_like(x)
    (plain,) = torch.autograd.grad(value, x, ones, retain_graph=True)
    (graph,) = torch.autograd.grad(value, x, ones, create_graph=True)
    second = None
    if graph.requires_grad:
        (second,) = torch.autograd.grad(graph, x, ones, allow_unused=True)
    second = torch.zeros_like(x) if second is None else second
    results = {"f": value, "f'": plain, "f' in a graph": graph, "f''": second}
    return {order: values.detach()[: len(points)] for order, values in results.items()}


def _roots(activation: actlab.Activation[...], points: torch.Tensor, **parameters: float) -> torch.Tensor:
    """Return the points where f, f' or f'' change sign, to the last bit."""
    results = []
    ordered = points[(points.abs() < 100) & (points.abs() > 1e-3)].double().sort().values
    for order in ("f", "f'", "f''"):
        values = derivatives(activation, ordered, **parameters)[order]
        crossing = (values[:-1] * values[1:] < 0).nonzero().flatten()
        low, high, start = ordered[crossing], ordered[crossing + 1], values[crossing].sign()
        for _ in range(60 if len(crossing) else 0):
            middle = (low + high) / 2
            same = derivatives(activation, middle, **parameters)[order].sign() == start
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        results.append(low)
    return torch.cat(results).to(points.dtype)


@dataclass(frozen=True)
class Worst:
    """The largest error of a definition, in the units of :func:`bound`, and its input."""

    error: float
    x: float
    computed: float
    true: float


ORDER = {"f": 0, "f'": 1, "f' in a graph": 1, "f''": 2}


def bound(order: str, dtype: torch.dtype) -> float:
    """Return the largest error allowed."""
    return (1 if dtype in (torch.float16, torch.bfloat16) else 4) * (2 if order == "f''" else 1)


def errors(
    activation: actlab.Activation[...], dtype: torch.dtype, copies: int = 1, **parameters: float
) -> dict[str, Worst]:
    """Measure every order on the grid: |got - true| / (eps * max(|f|, |x f'|)), likewise for derivatives.

    An error is infinite if a value is not finite and the exact value is finite in that dtype.
    """
    points = grid(activation, dtype, **parameters)
    exact = points.double()
    oscillates = any(math.isnan(slope) for slope in activation.slopes(**parameters))
    if dtype in (torch.float16, torch.bfloat16) and not oscillates:
        # Ball arithmetic is slow for all inputs, and float64 has been verified on the grid.
        high = _double(activation, exact, **parameters)
        low = torch.zeros_like(high)
        branch = torch.zeros_like(exact, dtype=torch.bool)
    else:
        reference = exact_values(activation, exact.numpy(), **parameters)
        high, low, branch = map(torch.from_numpy, (reference.high, reference.low, reference.branch))
    kinks = torch.tensor([*map(float, activation.kinks(**parameters)), math.inf], dtype=torch.float64)
    distance = (exact[:, None] - kinks.to(dtype).double()).abs().amin(1)
    results = {}
    for order, computed in derivatives(activation, points, copies, **parameters).items():
        k = ORDER[order]
        line = activation.facts.error_scale == "line" and k > 0
        # A subnormal distance from a kink can vanish in the output, which then has no second derivative.
        step = torch.finfo(dtype).tiny if line else 0.0
        where = (~branch & (distance > step)) if k == 2 else distance > 0 if k == 1 else distance >= 0
        results[order] = _worst(points[where], computed[where], high[:, where], low[:, where], k, line)
    return results


def _double(activation: actlab.Activation[...], x: torch.Tensor, **parameters: float) -> torch.Tensor:
    """Return f, f', f'' in float64, and a difference quotient as the scale for f'''."""
    at = derivatives(activation, x, **parameters)
    step = (x.abs() * 1e-4).clamp_min(1e-12)
    ahead, behind = (derivatives(activation, x + d, **parameters)["f''"] for d in (step, -step))
    return torch.stack([at["f"], at["f'"], at["f''"], (ahead - behind) / (2 * step)])


def _worst(
    points: torch.Tensor, computed: torch.Tensor, high: torch.Tensor, low: torch.Tensor, k: int, line: bool
) -> Worst:
    info, half = torch.finfo(points.dtype), points.dtype in (torch.float16, torch.bfloat16)
    x, value, true = points.double(), computed.double(), high[k]
    scale = torch.maximum(true.abs(), (x * high[k + 1]).abs().nan_to_num(0.0, 0.0))
    if line:
        # If only the output is saved, its rounding changes f' and f'' by about eps times the largest f'.
        scale = torch.maximum(scale, max(h[h.isfinite()].abs().max() for h in high[1 : k + 1]))
    scale = scale.clamp_min(info.tiny * (1 if half else 1000))
    error = ((value - true) - low[k]).abs() / (info.eps * scale)
    # Beyond the range of the dtype, its largest number and infinity are both correct.
    beyond = true.abs() >= info.max * (1 - info.eps)
    right = beyond & (value * true.sign() >= info.max * (1 - info.eps))
    flushed = (true.abs() < info.tiny) & (value == 0) & (points.dtype != torch.float16)
    error = torch.where(value.isfinite(), error, math.inf)
    error = torch.where(right | flushed, 0.0, error).nan_to_num(math.inf, math.inf)
    at = int(error.argmax())
    return Worst(float(error[at]), float(x[at]), float(value[at]), float(true[at]))


def main() -> None:
    """Print the largest errors of the named definitions, or of all."""
    for name in sys.argv[1:] or sorted(actlab.catalogue):
        activation = actlab.catalogue[name]
        if activation.facts.gated:
            continue
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            results = errors(activation, dtype)
            summary = "  ".join(f"{order} {worst.error:.2f}" for order, worst in results.items())
            print(f"{name:15} {str(dtype)[6:]:9} {summary}", flush=True)
            for order, worst in results.items():
                if worst.error > bound(order, dtype):
                    print(f"    {order}: x = {worst.x!r}, got {worst.got!r}, true {worst.true!r}")


if __name__ == "__main__":
    main()

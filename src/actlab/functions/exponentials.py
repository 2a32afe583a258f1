"""Exponential functions: smooth transitions from a constant or an exponential to a line."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from actlab.activation import numerics
from actlab.activation.definition import elementwise
from actlab.functions.sigmoids import isru_slope

inf = math.inf
aten = torch.ops.aten


@elementwise(
    formula="where(x > 0, x, alpha * (exp(x) - 1))",
    limits=lambda alpha: (-alpha, inf),
    slopes=(0, 1),
    range=lambda alpha: (min(-alpha, 0), inf),
    monotonic=True,
    paper="Clevert et al. 2016",
    # With a negative alpha the output is positive on both sides.
    saves=lambda alpha: "output" if alpha >= 0 else "input",
    kinks=lambda alpha: {} if alpha == 1 else {0: alpha},
    error_scale="line",
    torch_equivalent="ELU",
    inplace=True,
)
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Exponential linear unit: ``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere.

    Args:
        x: The input.
        alpha: The limit at minus infinity is ``-alpha``.
    """
    return numerics.elu(x, alpha)


@elu.derivative
def _(saved: Tensor, alpha: float) -> Tensor:
    below = saved + alpha if alpha >= 0 else alpha * torch.exp(saved.clamp_max(0))
    return torch.where(saved > 0, 1.0, below)


elu.gradient(lambda grad, saved, alpha: aten.elu_backward(grad, alpha, 1, 1, alpha >= 0, saved))
elu.torch_operation(lambda x, alpha: aten.elu_(x.clone(), alpha) if alpha >= 0 else aten.elu(x, alpha))
ELU = elu.module("ELU")


@elementwise(
    formula="where(x > 0, x, alpha * (exp(x / alpha) - 1))",
    limits=lambda alpha: (-alpha if alpha > 0 else -inf, inf),
    slopes=lambda alpha: (0 if alpha > 0 else inf, 1),
    monotonic=True,
    paper="Barron 2017",
    saves="output",
    error_scale="line",
    torch_equivalent="CELU",
    inplace=True,
)
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Continuously differentiable exponential linear unit.

    Args:
        x: The input.
        alpha: The limit at minus infinity is ``-alpha`` if alpha is positive. Also the width of the bend.
            Must not be 0.
    """
    # aten.elu with an input scale is exported to ONNX wrongly.
    return numerics.elu(x, alpha, 1, 1 / alpha) if numerics.uses_compiled_forms() else torch.celu(x, alpha)


celu.derivative(lambda y, alpha: torch.where(y > 0, 1.0, y / alpha + 1))


@celu.gradient
def _(grad: Tensor, y: Tensor, alpha: float) -> Tensor:
    if alpha < 0:
        return (grad * (y / alpha + 1)).where(y <= 0, grad)
    return aten.elu_backward(grad, alpha, 1, 1 / alpha, True, y)


celu.torch_operation(lambda x, alpha: aten.elu_(x.clone(), alpha, 1, 1 / alpha) if alpha > 0 else None)
celu.requires(lambda alpha: alpha != 0, "alpha must not be 0", RuntimeError)
CELU = celu.module("CELU")

# Klambauer et al. 2017, the fixed point for mean 0 and variance 1.
_SCALE = 1.0507009873554804934193349852946
_ALPHA = 1.6732632423543772848170429916717


@elementwise(
    formula="1.0507009873554804934193349852946"
    " * where(x > 0, x, 1.6732632423543772848170429916717 * (exp(x) - 1))",
    limits=(-_SCALE * _ALPHA, inf),
    slopes=(0, _SCALE),
    monotonic=True,
    paper="Klambauer et al. 2017",
    saves="output",
    kinks={0: _SCALE * _ALPHA},
    error_scale="line",
    torch_equivalent="SELU",
    inplace=True,
)
def selu(x: Tensor) -> Tensor:
    """Scaled exponential linear unit, with constants that preserve mean 0 and variance 1."""
    return numerics.elu(x, _ALPHA, _SCALE)


selu.derivative(lambda y: torch.where(y > 0, _SCALE, y + _SCALE * _ALPHA))
selu.gradient(lambda grad, y: aten.elu_backward(grad, _ALPHA, _SCALE, 1, True, y))
selu.torch_operation(lambda x: aten.elu_(x.clone(), _ALPHA, _SCALE))
SELU = selu.module("SELU")


def _softplus(beta: float, threshold: float) -> str:
    text = "log(1 + exp(beta * x)) / beta"
    return text if threshold == 20 else f"where(beta * x > threshold, x, {text})"


@elementwise(
    formula=_softplus,
    limits=lambda beta, threshold: (0, inf) if beta > 0 else (-inf, 0),
    slopes=lambda beta, threshold: (0, 1) if beta > 0 else (1, 0),
    range=lambda beta, threshold: (
        (min(0, threshold / beta), inf) if beta > 0 else (-inf, max(0, threshold / beta))
    ),
    monotonic=True,
    paper="Dugas et al. 2001",
    kinks=lambda beta, threshold: (
        {} if threshold == 20 else {threshold / beta: 1 / (1 + math.exp(-threshold))}
    ),
    # Another threshold makes a jump, next to which the output does not determine the side.
    saves=lambda beta, threshold: "output" if threshold == 20 else "input",
    error_scale="line",
    torch_equivalent="Softplus",
)
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Softplus: ``log(1 + exp(beta x)) / beta``, without overflow.

    Args:
        x: The input.
        beta: The sharpness of the bend. Must not be 0.
        threshold: Where ``beta x`` is above the threshold, the result is ``x``. With the default value, this
            is done only where it loses no digits (torch loses 2e-9 in float64). Any other value is used
            unchanged.
    """
    return aten.softplus(x, beta, 40.0 if threshold == 20 else threshold)


@softplus.derivative
def _(saved: Tensor, beta: float, threshold: float) -> Tensor:
    if threshold == 20:
        return -numerics.expm1(-beta * saved)
    return torch.where(beta * saved > threshold, 1.0, torch.sigmoid(beta * saved))


@softplus.torch_operation
def _(x: Tensor, beta: float, threshold: float) -> Tensor | None:
    return aten.softplus(x, beta, numerics.CERTAIN) if threshold == 20 and numerics.is_small(x) else None


softplus.requires(lambda beta, threshold: beta != 0, "beta must not be 0")
Softplus = softplus.module("Softplus")


@elementwise(
    formula="(x + sqrt(x**2 + b)) / 2",
    limits=(0, inf),
    slopes=(0, 1),
    monotonic=True,
    paper="Barron 2021",
    saves="output",
    error_scale="line",
)
def squareplus(x: Tensor, b: float = 4.0) -> Tensor:
    """Squareplus: a smooth ReLU with a square root, ``(x + sqrt(x^2 + b)) / 2``.

    Args:
        x: The input.
        b: Four times the square of the value at 0. Must be positive.
    """
    size = x.abs()
    # Clamped so that the square cannot overflow; beyond, the root equals the size.
    root = torch.maximum((size.clamp_max(1e15).square() + b).sqrt(), size)
    # max(x, 0) plus a positive term: there is no cancellation.
    return x.clamp_min(0) + (b / 2) / (size + root)


@squareplus.derivative
def _(y: Tensor, b: float) -> Tensor:
    square = y.clamp_max(1e15).square()
    return square / (square + b / 4)


squareplus.requires(lambda b: b > 0, "b must be positive")
Squareplus = squareplus.module("Squareplus")


@elementwise(
    formula="where(x <= -1, 0, where(x <= 1, (x + 1)**2 / 4, x))",
    limits=(0, inf),
    slopes=(0, 1),
    monotonic=True,
    paper="Martins & Astudillo 2016",
    saves="output",
    error_scale="line",
)
def sparse_plus(x: Tensor) -> Tensor:
    """Sparse softplus: 0 below -1, ``x`` above 1, ``(x + 1)^2 / 4`` between."""
    # The parabola is above the line where both apply: take the maximum.
    return torch.maximum(((x + 1) * 0.5).clamp(0, 1).square(), x)


@sparse_plus.derivative
def _(y: Tensor) -> Tensor:
    y = y.clamp_max(1)
    zero = 1 - y.sign()  # sqrt has no derivative at 0: take the root of 1 and subtract it
    return (y + zero).sqrt() - zero


SparsePlus = sparse_plus.module("SparsePlus")


@elementwise(
    formula="exp(x)",
    limits=(0, inf),
    slopes=(0, inf),
    monotonic=True,
    paper="-",
    saves="output",
)
def exponential(x: Tensor) -> Tensor:
    """Exponential: ``exp(x)``."""
    return torch.exp(x)


exponential.derivative(lambda y: y)
exponential.torch_operation(torch.exp)
Exponential = exponential.module("Exponential")


@elementwise(
    formula="where(x < 0, x / sqrt(1 + alpha * x**2), x)",
    limits=lambda alpha: (-1 / math.sqrt(alpha), inf),
    slopes=(0, 1),
    monotonic=True,
    paper="Carlile et al. 2017",
    saves="output",
    error_scale="line",
)
def isrlu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Inverse square root linear unit: ``x`` where positive, ``x / sqrt(1 + alpha x^2)`` elsewhere.

    Args:
        x: The input.
        alpha: Must be positive. The limit at minus infinity is ``-1 / sqrt(alpha)``.
    """
    # Beyond, the function is constant, in float64 too. The ONNX exporter does not mix int and float.
    below = x.clamp(-1e9 / math.sqrt(alpha), 0.0)
    return x.clamp_min(0) + below * torch.rsqrt(alpha * below * below + 1)


isrlu.derivative(lambda y, alpha: isru_slope(y.clamp_max(0), alpha))
isrlu.requires(lambda alpha: alpha > 0, "alpha must be positive")
ISRLU = isrlu.module("ISRLU")


@elementwise(
    formula="exp(-x**2)",
    limits=(0, 0),
    slopes=(0, 0),
    range=(0, 1),
    monotonic=False,
    paper="Broomhead & Lowe 1988",
)
def gaussian(x: Tensor) -> Tensor:
    """Gaussian bell: ``exp(-x^2)``."""
    return numerics.exp(x * x, -1)


def _half_gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x, clamped, and the square root of the bell, which underflows later than the bell."""
    x = x.clamp(-40, 40)
    return x, numerics.exp(x * x, -0.5)


@gaussian.derivative
def _(x: Tensor) -> Tensor:
    x, root = _half_gaussian(x)
    return -2 * x * root * root


@gaussian.second
def _(x: Tensor) -> Tensor:
    x, root = _half_gaussian(x)
    return (4 * x * x - 2) * root * root


Gaussian = gaussian.module("Gaussian")

"""Sigmoids: bounded, S-shaped."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from actlab.activation.definition import elementwise
from actlab.activation.export_mode import exports_exact_onnx
from actlab.activation.module import ActivationModule
from actlab.activation.numerics import CERTAIN, expm1, is_small
from actlab.functions.rectifiers import byte_mask, clip, clipped_gradient

inf = math.inf
aten = torch.ops.aten


@elementwise(
    formula="1 / (1 + exp(-x))",
    limits=(0, 1),
    slopes=(0, 0),
    monotonic=True,
    paper="Verhulst 1845",
    saves="output",
    error_scale="line",
    torch_equivalent="Sigmoid",
)
def sigmoid(x: Tensor) -> Tensor:
    """Logistic sigmoid: ``1 / (1 + exp(-x))``."""
    if exports_exact_onnx():  # ONNX Runtime's Sigmoid is 0 below -18
        return 1 / (1 + torch.exp(-x))
    return torch.sigmoid(x)


sigmoid.derivative(lambda y: y * (1 - y))
sigmoid.gradient(lambda grad, y: aten.sigmoid_backward(grad, y))
sigmoid.torch_operation(torch.sigmoid)
Sigmoid = sigmoid.module("Sigmoid")


@elementwise(
    formula="(exp(x) - exp(-x)) / (exp(x) + exp(-x))",
    limits=(-1, 1),
    slopes=(0, 0),
    monotonic=True,
    paper="LeCun et al. 1998",
    saves="output",
    error_scale="line",
    torch_equivalent="Tanh",
)
def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


tanh.derivative(lambda y: 1 - y * y)
tanh.gradient(lambda grad, y: aten.tanh_backward(grad, y))
tanh.torch_operation(torch.tanh)
Tanh = tanh.module("Tanh")


@elementwise(
    formula="log(1 / (1 + exp(-x)))",
    limits=(-inf, 0),
    slopes=(1, 0),
    monotonic=True,
    paper="Verhulst 1845",
    saves="output",
    error_scale="line",
    torch_equivalent="LogSigmoid",
)
def logsigmoid(x: Tensor) -> Tensor:
    """Logarithm of the logistic sigmoid, without overflow."""
    if torch.compiler.is_exporting():  # torch's operation becomes Log(Sigmoid(x)) in ONNX, which overflows
        return -aten.softplus(-x, 1, CERTAIN)
    return torch.nn.functional.logsigmoid(x)


logsigmoid.derivative(lambda y: -expm1(y))


# saves half of what torch's logsigmoid saves
logsigmoid.torch_operation(lambda x: -aten.softplus(-x, 1, CERTAIN) if is_small(x) else None)
LogSigmoid = logsigmoid.module("LogSigmoid")


@elementwise(
    formula="min(max(x, min_val), max_val)",
    limits=lambda min_val, max_val: (min_val, max_val),
    slopes=(0, 0),
    monotonic=True,
    paper="Collobert 2004",
    saves="output",
    kinks=lambda min_val, max_val: {min_val: 0, max_val: 0},
    torch_equivalent="Hardtanh",
    inplace=True,
    widen=False,
)
def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """Clip to ``[min_val, max_val]``.

    Args:
        x: The input.
        min_val: The smallest value.
        max_val: The largest value.
    """
    # The ONNX exporter does not mix int and float.
    return x.clamp(float(min_val), float(max_val))


hardtanh.derivative(lambda y, min_val, max_val: ((y > min_val) & (y < max_val)).to(y.dtype))
hardtanh.gradient(lambda grad, y, min_val, max_val: clipped_gradient(grad, y, min_val, max_val))
hardtanh.torch_operation(clip)
hardtanh.requires(lambda min_val, max_val: min_val <= max_val, "min_val must be at most max_val")


@hardtanh.use_module
class Hardtanh(ActivationModule):
    """Clip to ``[min_val, max_val]``.

    Args:
        min_val: The smallest value.
        max_val: The largest value. Must be greater than ``min_val``.
        inplace: Overwrite the input.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        if not max_val > min_val:  # torch.nn.Hardtanh is stricter than its function, and asserts
            raise AssertionError(
                f"Hardtanh: max_val must be greater than min_val, got {max_val} and {min_val}"
            )
        super().__init__(min_val, max_val, inplace=inplace)


@elementwise(
    formula="min(max(x + 3, 0), 6) / 6",
    limits=(0, 1),
    slopes=(0, 0),
    monotonic=True,
    paper="Courbariaux et al. 2015",
    kinks={-3: 0, 3: 0},
    torch_equivalent="Hardsigmoid",
    inplace=True,
)
def hardsigmoid(x: Tensor) -> Tensor:
    """Piecewise linear sigmoid: 0 below -3, 1 above 3."""
    return aten.hardsigmoid(x)


hardsigmoid.derivative(lambda x: (x.abs() < 3).to(x.dtype) / 6)
hardsigmoid.second(torch.zeros_like)
hardsigmoid.gradient(lambda grad, x: aten.hardtanh_backward(grad, x, -3, 3).div_(6))
Hardsigmoid = hardsigmoid.module("Hardsigmoid", repr_format="")


@elementwise(
    formula="min(max((x + 1) / 2, 0), 1)",
    limits=(0, 1),
    slopes=(0, 0),
    monotonic=True,
    paper="Martins & Astudillo 2016",
    saves="mask",
    kinks={-1: 0, 1: 0},
)
def sparse_sigmoid(x: Tensor) -> Tensor:
    """Derivative of ``sparse_plus``: 0 below -1, 1 above 1, linear between."""
    return ((x + 1) * 0.5).clamp(0, 1)


sparse_sigmoid.mask(lambda x: byte_mask(aten.hardtanh_backward, x, -1, 1))
sparse_sigmoid.derivative(lambda mask: mask * 0.5)
sparse_sigmoid.gradient(lambda grad, mask: (grad * mask).mul_(0.5))
SparseSigmoid = sparse_sigmoid.module("SparseSigmoid")


@elementwise(
    formula="x / (1 + abs(x))",
    limits=(-1, 1),
    slopes=(0, 0),
    monotonic=True,
    paper="Elliott 1993; Turian et al. 2009",
    saves="output",
    error_scale="line",
    torch_equivalent="Softsign",
)
def softsign(x: Tensor) -> Tensor:
    """Softsign: ``x / (1 + abs(x))``."""
    x = x.clamp(-1e30, 1e30)  # so that the limits at infinity are reached; 1 long before
    return x / (x.abs() + 1)


@softsign.derivative
def _(y: Tensor) -> Tensor:
    size = 2 * y.clamp_min(0) - y  # abs(y) with the slope 1 at 0, as in the formula
    return (1 - size).square()


Softsign = softsign.module("Softsign")


def isru_slope(y: Tensor, alpha: float) -> Tensor:
    """Return ``(1 - alpha y^2)^(3/2)``, the derivative of ISRU, and of ISRLU below 0, from the output."""
    u = (1 - alpha * y * y).clamp_min(0)
    return u * u.clamp_min(1e-35).sqrt()  # sqrt has no derivative at 0


@elementwise(
    formula="x / sqrt(1 + alpha * x**2)",
    limits=lambda alpha: (-1 / math.sqrt(alpha), 1 / math.sqrt(alpha)),
    slopes=(0, 0),
    monotonic=True,
    paper="Carlile et al. 2017",
    saves="output",
    error_scale="line",
)
def isru(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Inverse square root unit: ``x / sqrt(1 + alpha x^2)``.

    Args:
        x: The input.
        alpha: Must be positive. The limits are ``-1 / sqrt(alpha)`` and ``1 / sqrt(alpha)``.
    """
    far = 1e9 / math.sqrt(alpha)  # from here the function is constant, in float64 too
    x = x.clamp(-far, far)
    return x * torch.rsqrt(alpha * x * x + 1)


isru.derivative(lambda y, alpha: isru_slope(y, alpha))
isru.requires(lambda alpha: alpha > 0, "alpha must be positive")
ISRU = isru.module("ISRU")

"""Shrinkage functions: they move values towards zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from actlab.activation.definition import elementwise
from actlab.activation.numerics import exp, expm1, is_small, polynomial

inf = math.inf
aten = torch.ops.aten


@elementwise(
    formula="where(abs(x) > lambd, x, 0)",
    limits=(-inf, inf),
    slopes=(1, 1),
    monotonic=True,
    paper="Donoho & Johnstone 1994",
    # The output is zero exactly where the input is cut.
    saves="output",
    kinks=lambda lambd: {-lambd: 0, lambd: 0},
    torch_equivalent="Hardshrink",
    widen=False,
)
def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """Hard shrinkage: 0 from ``-lambd`` to ``lambd``, ``x`` elsewhere. It jumps at both ends.

    Args:
        x: The input.
        lambd: Half the width of the interval in which the output is 0. Must not be negative.
    """
    return aten.hardshrink(x, lambd)


hardshrink.derivative(lambda y, lambd: (y != 0).to(y.dtype))
hardshrink.gradient(lambda grad, y, lambd: aten.hardshrink_backward(grad, y, 0))
hardshrink.torch_operation(lambda x, lambd: aten.hardshrink(x, lambd) if is_small(x) else None)
hardshrink.requires(lambda lambd: lambd >= 0, "lambd must not be negative", RuntimeError)
Hardshrink = hardshrink.module("Hardshrink", repr_format="{lambd}")


@elementwise(
    formula="where(x > lambd, x - lambd, where(x < -lambd, x + lambd, 0))",
    limits=(-inf, inf),
    slopes=(1, 1),
    monotonic=True,
    paper="Donoho & Johnstone 1994",
    saves="output",
    kinks=lambda lambd: {-lambd: 0, lambd: 0},
    torch_equivalent="Softshrink",
)
def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """Soft shrinkage: ``x`` moved towards 0 by ``lambd``, and no further than 0.

    Args:
        x: The input.
        lambd: The distance that the input moves towards 0. Must not be negative.
    """
    if torch.compiler.is_compiling():  # Inductor's softshrink turns NaN into 0
        return _subtract_clipped(x, lambd)
    return aten.softshrink(x, lambd)


def _subtract_clipped(x: Tensor, lambd: float) -> Tensor:
    return x - x.clamp(-float(lambd), float(lambd))  # the ONNX exporter does not mix int and float


softshrink.derivative(lambda y, lambd: (y != 0).to(y.dtype))
softshrink.gradient(lambda grad, y, lambd: aten.softshrink_backward(grad, y, 0))
softshrink.torch_operation(lambda x, lambd: aten.softshrink(x, lambd) if is_small(x) else None)
softshrink.exported(_subtract_clipped)  # torch's softshrink becomes seven nodes of ONNX
softshrink.requires(lambda lambd: lambd >= 0, "lambd must not be negative", RuntimeError)
Softshrink = softshrink.module("Softshrink", repr_format="{lambd}")


# Up to here x - tanh(x) is taken from a quotient that has no cancellation.
_BEND = 0.75
_TANH_BEND = math.tanh(_BEND)
# Lambert's fraction, x - tanh x = x u / (1 + u) with u = z / (3 + z / (5 + z / (7 + ...))) and z = x^2,
# as numerator over z and denominator: four terms suffice for float32, eight for float64.
_SHORT = (14 / 15, 21.0), (1.0, 28.0, 63.0)
_LONG = (
    (44.0, 12870.0, 810810.0, 11486475.0),
    (45.0, 13860.0, 945945.0, 16216200.0, 34459425.0),
)


@elementwise(
    formula="x - tanh(x)",
    limits=(-inf, inf),
    slopes=(1, 1),
    monotonic=True,
    paper="-",
    torch_equivalent="Tanhshrink",
)
def tanhshrink(x: Tensor) -> Tensor:
    """Tanh shrinkage: ``x - tanh(x)``, accurate near 0, where the difference would cancel."""
    # f(x) = f(c) + (x - c) - (tanh x - tanh c), with c = x clipped to the bend: no branch.
    c = x.clamp(-_BEND, _BEND)
    beyond = x - c
    # tanh x - tanh c = (1 - t^2) (1 - e) / ((1 + t) + (1 - t) e) with t = tanh c, e = exp(-2 (x - c)).
    e = exp(beyond.abs(), -2)
    scale = (e * (1 - _TANH_BEND)).add_(1 + _TANH_BEND)
    step = (e - 1).mul_((1 - _TANH_BEND**2) / _BEND).div_(scale)
    z = c * c
    top, bottom = (polynomial(z, part) for part in (_LONG if x.dtype is torch.float64 else _SHORT))
    return top.mul_(z).div_(bottom).add_(step).mul_(c).add_(beyond)


@tanhshrink.derivative
def _(x: Tensor) -> Tensor:
    m = expm1(-2.0 * x.abs())
    return (m / (m + 2.0)).square()


@tanhshrink.second
def _(x: Tensor) -> Tensor:
    e = torch.exp(-2.0 * x.abs())
    return 8.0 * torch.tanh(x) * e / (1.0 + e).square()


Tanhshrink = tanhshrink.module("Tanhshrink")

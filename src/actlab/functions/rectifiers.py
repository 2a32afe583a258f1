"""Rectifiers: piecewise linear functions that cut or lean."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from actlab.activation import elementwise

inf = math.inf
aten = torch.ops.aten


@elementwise(
    formula="max(x, 0)",
    limits=(0, inf),
    slopes=(0, 1),
    range=(0, inf),
    monotonic=True,
    paper="Fukushima 1969; Nair & Hinton 2010",
    saves="output",
    kinks={0: 0},
    twin="ReLU",
    inplace=True,
    widen=False,
)
def relu(x: Tensor) -> Tensor:
    """Rectified linear unit: ``x`` where positive, 0 elsewhere."""
    return x.clamp_min(0)


@relu.derivative
def _(y: Tensor) -> Tensor:
    return (y > 0).to(y.dtype)


@relu.gradient
def _(grad: Tensor, y: Tensor) -> Tensor:
    return aten.threshold_backward(grad, y, 0)


ReLU = relu.module("ReLU")


@elementwise(
    formula="where(x > 0, x, negative_slope * x)",
    limits=lambda negative_slope: (-negative_slope * inf if negative_slope else 0.0, inf),
    slopes=lambda negative_slope: (negative_slope, 1),
    range=lambda negative_slope: (-inf if negative_slope > 0 else 0, inf),
    monotonic=True,
    paper="Maas et al. 2013",
    # The output has the sign of the input unless the slope is negative, and the next layer keeps it anyway.
    saves=lambda negative_slope: "output" if negative_slope >= 0 else "input",
    kinks=lambda negative_slope: {0: negative_slope},
    twin="LeakyReLU",
    inplace=True,
)
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Leaky rectified linear unit: ``x`` where positive, ``negative_slope * x`` elsewhere."""
    return aten.leaky_relu(x, negative_slope)


@leaky_relu.derivative
def _(saved: Tensor, negative_slope: float) -> Tensor:
    return torch.where(saved > 0, 1.0, negative_slope).to(saved.dtype)


@leaky_relu.gradient
def _(grad: Tensor, saved: Tensor, negative_slope: float) -> Tensor:
    return aten.leaky_relu_backward(grad, saved, negative_slope, False)


LeakyReLU = leaky_relu.module("LeakyReLU")

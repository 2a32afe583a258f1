"""Sigmoids: bounded, S-shaped."""

from __future__ import annotations

import torch
from torch import Tensor

from actlab.activation import elementwise

aten = torch.ops.aten


@elementwise(
    formula="1 / (1 + exp(-x))",
    limits=(0, 1),
    slopes=(0, 0),
    range=(0, 1),
    monotonic=True,
    paper="Verhulst 1845",
    saves="output",
    error_scale="line",
    twin="Sigmoid",
)
def sigmoid(x: Tensor) -> Tensor:
    """Logistic sigmoid: ``1 / (1 + exp(-x))``."""
    return torch.sigmoid(x)


@sigmoid.derivative
def _(y: Tensor) -> Tensor:
    return y * (1 - y)


@sigmoid.gradient
def _(grad: Tensor, y: Tensor) -> Tensor:
    return aten.sigmoid_backward(grad, y)


Sigmoid = sigmoid.module("Sigmoid")


@elementwise(
    formula="(exp(x) - exp(-x)) / (exp(x) + exp(-x))",
    limits=(-1, 1),
    slopes=(0, 0),
    range=(-1, 1),
    monotonic=True,
    paper="LeCun et al. 1998",
    saves="output",
    error_scale="line",
    twin="Tanh",
)
def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


@tanh.derivative
def _(y: Tensor) -> Tensor:
    return 1 - y * y


@tanh.gradient
def _(grad: Tensor, y: Tensor) -> Tensor:
    return aten.tanh_backward(grad, y)


Tanh = tanh.module("Tanh")

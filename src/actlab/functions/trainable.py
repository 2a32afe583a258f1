"""Activations whose parameters are trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from actlab.activation.definition import elementwise
from actlab.activation.module import TrainedModule
from actlab.activation.numerics import expm1, sech, tanh

inf = math.inf
aten = torch.ops.aten


@elementwise(
    formula="where(x > 0, x, weight * x)",
    limits=lambda weight: (-weight * inf if weight else 0.0, inf),
    slopes=lambda weight: (weight, 1),
    range=lambda weight: (-inf if weight > 0 else 0, inf),
    monotonic=True,
    paper="He et al. 2015",
    kinks=lambda weight: {0: weight},
    torch_equivalent="PReLU",
    example={"weight": 0.25},
)
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """Leaky rectifier with a trained slope: ``x`` where positive, ``weight * x`` elsewhere.

    Args:
        x: The input; its dimension 1 contains the channels.
        weight: The slope: one for all channels, or one for each.
    """
    return aten._prelu_kernel(x, weight)


prelu.derivative(lambda x, weight: torch.where(x > 0, 1.0, weight))
prelu.partial("weight")(lambda x, weight: x.clamp_max(0))


@prelu.prepares
def _(x: Tensor, weight: Tensor | float) -> tuple[Tensor]:
    if not isinstance(weight, Tensor):
        weight = torch.tensor(weight, dtype=x.dtype, device=x.device)
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: weight must have at most one dimension, got shape {tuple(weight.shape)}")
    if weight.numel() == 1:
        return (weight.reshape(()),)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.numel() != channels:
        raise RuntimeError(
            f"prelu: weight must have one element or one for each channel (dimension 1 of the input), "
            f"got {weight.numel()} elements and {channels} channels"
        )
    return (weight.view(-1, *(1,) * (x.ndim - 2)),)


prelu.torch_operation(lambda x, weight: torch.prelu(x, weight.flatten()))
prelu.exported(lambda x, weight: torch.prelu(x, weight) if isinstance(weight, Tensor) else None)


@prelu.use_module
class PReLU(TrainedModule):
    """Leaky rectifier with a trained slope.

    Args:
        num_parameters: 1, or the number of channels.
        init: The initial value of the slope.
        device: The device of the slope.
        dtype: Its dtype.
    """

    repr_format = "num_parameters={num_parameters}"

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(device, dtype, weight=(num_parameters, init))
        self.num_parameters = num_parameters


@elementwise(
    formula="where(x > 0, scale * x**2, 0) + bias",
    limits=lambda scale, bias: (bias, math.copysign(inf, scale)),
    slopes=lambda scale, bias: (0, math.copysign(inf, scale)),
    range=lambda scale, bias: (bias, inf) if scale > 0 else (-inf, bias),
    monotonic=True,
    paper="Yu et al. 2022",
)
def star_relu(x: Tensor, scale: float | Tensor = 0.8944, bias: float | Tensor = -0.4472) -> Tensor:
    """Squared rectifier with scale and bias; by default, standard normal inputs give mean 0 and variance 1.

    Args:
        x: The input.
        scale: The factor, a number or a tensor that broadcasts.
        bias: The value at and below 0, a number or a tensor that broadcasts.
    """
    positive = torch.relu(x)
    # Scale before squaring: the square alone can overflow.
    return positive * scale * positive + bias


star_relu.derivative(lambda x, scale, bias: torch.relu(x) * scale * 2)
star_relu.partial("scale")(lambda x, scale, bias: torch.relu(x).square())
star_relu.partial("bias")(lambda x, scale, bias: torch.ones_like(x))
StarReLU = star_relu.module("StarReLU", trained=True)


@elementwise(
    formula="where(x > 0, alpha_p * x**2 + beta * x, alpha_n * (exp(x) - 1 - x) + beta * x)",
    limits=lambda alpha_p, alpha_n, beta: (math.copysign(inf, alpha_n - beta), inf),
    slopes=lambda alpha_p, alpha_n, beta: (beta - alpha_n, inf),
    # f' is 0 at log(1 - beta / alpha_n).
    range=lambda alpha_p, alpha_n, beta: ((beta - alpha_n) * math.log(1 - beta / alpha_n) - beta, inf),
    monotonic=False,
    paper="Huang & Schlag 2024",
)
def xielu(
    x: Tensor,
    alpha_p: float | Tensor = 0.8,
    alpha_n: float | Tensor = 0.8,
    beta: float | Tensor = 0.5,
) -> Tensor:
    """xIELU, the integral of a trained ELU: ``alpha_p x^2 + beta x`` above 0.

    Below 0 it is ``alpha_n (exp(x) - 1 - x) + beta x``. Parameters are numbers, or tensors that broadcast.

    Args:
        x: The input.
        alpha_p: The coefficient of the curve above 0. Should be positive.
        alpha_n: The coefficient of the curve below 0. Should be greater than ``beta``.
        beta: The slope at 0.
    """
    positive, negative = x.clamp_min(0), x.clamp_max(0)
    left = expm1(negative) * alpha_n + negative * (beta - alpha_n)
    return (positive * alpha_p + beta) * positive + left


@xielu.derivative
def _(x: Tensor, alpha_p: float | Tensor, alpha_n: float | Tensor, beta: float | Tensor) -> Tensor:
    return x.clamp_min(0) * alpha_p * 2 + (expm1(x.clamp_max(0)) * alpha_n + beta)


xielu.second(lambda x, alpha_p, alpha_n, beta: torch.where(x > 0, 2 * alpha_p, torch.exp(x) * alpha_n))
xielu.partial("alpha_p")(lambda x, alpha_p, alpha_n, beta: x.clamp_min(0).square())


@xielu.partial("alpha_n")
def _(x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    negative = x.clamp_max(0)
    return expm1(negative) - negative


xielu.partial("beta")(lambda x, alpha_p, alpha_n, beta: x)


@xielu.use_module
class XIELU(TrainedModule):
    """xIELU with trained ``alpha_p`` and ``alpha_n``. A softplus keeps them in range, as in the paper.

    Args:
        alpha_p: The initial coefficient of the curve above 0. Must be positive.
        alpha_n: The initial coefficient of the curve below 0. Must be greater than ``beta``.
        beta: The slope at 0, not trained.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: ``alpha_p`` or ``alpha_n`` is out of range.
    """

    repr_format = "beta={beta}"
    raw_p: nn.Parameter
    raw_n: nn.Parameter

    def __init__(
        self,
        alpha_p: float = 0.8,
        alpha_n: float = 0.8,
        beta: float = 0.5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if not (alpha_p > 0 and alpha_n > beta):
            raise ValueError(
                f"xielu: alpha_p must be positive and alpha_n more than beta, "
                f"got alpha_p={alpha_p}, alpha_n={alpha_n}, beta={beta}"
            )
        raw_p, raw_n = (math.log(math.expm1(start)) for start in (alpha_p, alpha_n - beta))
        super().__init__(device, dtype, raw_p=raw_p, raw_n=raw_n)
        self.beta = beta

    @property
    def alpha_p(self) -> Tensor:
        """The coefficient of the curve above 0."""
        return nn.functional.softplus(self.raw_p)

    @property
    def alpha_n(self) -> Tensor:
        """The coefficient of the curve below 0."""
        return nn.functional.softplus(self.raw_n) + self.beta


@elementwise(
    formula="weight * tanh(alpha * x) + bias",
    limits=lambda alpha, weight, bias: (bias - weight, bias + weight),
    slopes=(0, 0),
    range=lambda alpha, weight, bias: (bias - abs(weight), bias + abs(weight)),
    monotonic=True,
    paper="Zhu et al. 2025",
)
def dynamic_tanh(
    x: Tensor, alpha: float | Tensor = 0.5, weight: float | Tensor = 1.0, bias: float | Tensor = 0.0
) -> Tensor:
    """Dynamic tanh (DyT), a replacement for normalization: ``weight * tanh(alpha x) + bias``.

    Args:
        x: The input.
        alpha: The scale of the input, a number or a tensor that broadcasts.
        weight: The scale of the output, a number or a tensor that broadcasts.
        bias: The shift of the output, a number or a tensor that broadcasts.
    """
    return tanh(x * alpha) * weight + bias


@dynamic_tanh.derivative
def _(x: Tensor, alpha: float | Tensor, weight: float | Tensor, bias: float | Tensor) -> Tensor:
    root = sech(x * alpha)
    return root * (weight * alpha) * root


@dynamic_tanh.second
def _(x: Tensor, alpha: float, weight: float, bias: float) -> Tensor:
    root = sech(x * alpha)
    return root * tanh(x * alpha) * (-2 * weight * alpha * alpha) * root


@dynamic_tanh.partial("alpha")
def _(x: Tensor, alpha: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    root = sech(x * alpha)
    return root * x * weight * root


dynamic_tanh.partial("weight")(lambda x, alpha, weight, bias: tanh(x * alpha))
dynamic_tanh.partial("bias")(lambda x, alpha, weight, bias: torch.ones_like(x))


@dynamic_tanh.use_module
class DynamicTanh(TrainedModule):
    """Dynamic tanh (DyT) with trained scales and shift.

    Args:
        num_features: The size of the input's last dimension.
        alpha: The initial value of the scale of the input.
        device: The device of the parameters.
        dtype: Their dtype.
    """

    repr_format = "num_features={num_features}"

    def __init__(self, num_features: int, alpha: float = 0.5, device: Any = None, dtype: Any = None) -> None:
        super().__init__(device, dtype, alpha=alpha, weight=(num_features, 1.0), bias=(num_features, 0.0))
        self.num_features = num_features

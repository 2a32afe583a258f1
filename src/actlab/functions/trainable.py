"""Activations whose parameters are trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from actlab._module import ActivationModule
from actlab.activation import elementwise

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
    twin="PReLU",
    example={"weight": 0.25},
    native=True,
)
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """Leaky rectifier with a trained slope: ``x`` where positive, ``weight * x`` elsewhere.

    Args:
        x: The input; its dimension 1 is the channels.
        weight: The slope, one for all or one for each channel.
    """
    return aten._prelu_kernel(x, weight)


@prelu.derivative
def _(x: Tensor, weight: Tensor) -> Tensor:
    return torch.where(x > 0, 1.0, weight)


@prelu.partial("weight")
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.clamp_max(0)


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


@prelu.trained_by
class PReLU(ActivationModule):
    """Leaky rectifier with a trained slope.

    Args:
        num_parameters: 1, or the number of channels.
        init: The slope at the start.
        device: Where the slope lives.
        dtype: Its dtype.
    """

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        nn.Module.__init__(self)
        self.inplace = False
        self.num_parameters = num_parameters
        self.init = init
        self.weight = nn.Parameter(torch.full((num_parameters,), init, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Set the slope back to where it started."""
        nn.init.constant_(self.weight, self.init)

    def extra_repr(self) -> str:
        """Return the arguments as torch.nn prints them."""
        return f"num_parameters={self.num_parameters}"


@elementwise(
    formula="where(x > 0, scale * x**2, 0) + bias",
    limits=lambda scale, bias: (bias, math.copysign(inf, scale)),
    slopes=lambda scale, bias: (0, math.copysign(inf, scale)),
    range=lambda scale, bias: (bias, inf) if scale > 0 else (-inf, bias),
    monotonic=True,
    paper="Yu et al. 2022",
)
def star_relu(x: Tensor, scale: float | Tensor = 0.8944, bias: float | Tensor = -0.4472) -> Tensor:
    """Squared rectifier with scale and bias; the defaults keep a standard normal input standardised.

    Args:
        x: The input.
        scale: The factor, a number or a tensor that broadcasts.
        bias: The value at and below 0, a number or a tensor that broadcasts.
    """
    positive = torch.relu(x)
    # Scaled before it is squared: the square alone can overflow where the result does not.
    return positive * scale * positive + bias


@star_relu.derivative
def _(x: Tensor, scale: float | Tensor, bias: float | Tensor) -> Tensor:
    return torch.relu(x) * scale * 2


@star_relu.partial("scale")
def _(x: Tensor, scale: float | Tensor, bias: float | Tensor) -> Tensor:
    return torch.relu(x).square()


@star_relu.partial("bias")
def _(x: Tensor, scale: float | Tensor, bias: float | Tensor) -> Tensor:
    return torch.ones_like(x)


@star_relu.trained_by
class StarReLU(ActivationModule):
    """Squared rectifier with a trained scale and bias.

    Args:
        scale: The scale at the start.
        bias: The bias at the start.
        device: Where the parameters live.
        dtype: Their dtype.
    """

    def __init__(
        self, scale: float = 0.8944, bias: float = -0.4472, device: Any = None, dtype: Any = None
    ) -> None:
        nn.Module.__init__(self)
        self.inplace = False
        self.scale = nn.Parameter(torch.tensor(scale, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.tensor(bias, device=device, dtype=dtype))

    def extra_repr(self) -> str:
        """Return nothing: what is trained is in the state, as for ``torch.nn.PReLU``."""
        return ""

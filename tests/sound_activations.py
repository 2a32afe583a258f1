"""Sound user-written activations: functions, modules, autograd.Functions and compositions."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from tests.faulty_activations import double_mish, relu, relu6, tanh


class OldStyleSoftsign(Function):
    """Softsign with ctx in forward, as in older tutorials."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        below = 1 + x.abs()
        ctx.save_for_backward(x)
        return x / below

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad / (1 + x.abs()) / (1 + x.abs())


class NotebookReLU(Function):
    """Relu of the tutorial notebook, with a cloned gradient and with torch's gradient at 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        grad = grad.clone()
        grad[x <= 0] = 0
        return grad


class MaskedReLU(Function):
    """Relu that saves a mask of one byte per element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mask = x > 0
        ctx.save_for_backward(mask)
        return x.masked_fill(x <= 0, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


class SigmoidOfOutput(Function):
    """Sigmoid with the slope computed from the output, a jvp and a vmap rule."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sigmoid()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * y * (1 - y)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return tangent * y * (1 - y)


class Swish(nn.Module):
    """Swish with a trained parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class PerChannel(nn.Module):
    """Leaky relu with one slope per feature."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.linspace(0.1, 0.4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)


class Buffered(nn.Module):
    """Tanh scaled by a buffer."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.tanh()


class NoisyInTraining(nn.Module):
    """Relu with random scaling in training."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(x)
        return y * (1 + 0.1 * torch.rand_like(x)) if self.training else y


class LeakyInTraining(nn.Module):
    """Leaky relu with another slope in training."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2 if self.training else 0.1)


class Counting(nn.Module):
    """Tanh that counts its calls without using the count."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.tanh()


class TwoParameters(nn.Module):
    """Sum of two functions weighted by a parameter with two elements."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 0.5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.weights[0] * x.tanh() + self.weights[1] * x.sigmoid()


class AtKink(nn.Module):
    """Tanh plus a shift that starts at the kink of a relu."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() + F.relu(self.shift)


class AlternatingOverBatch(nn.Module):
    """Tanh computed with the sign of every other sample flipped."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0] if x.ndim else 1
        signs = (1 - 2 * (torch.arange(rows) % 2)).to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        return (signs * torch.tanh(signs * x)).view(x.shape)


def largest_fifth(x: Tensor) -> Tensor:
    """Set all elements below the largest fifth to 0."""
    if not x.numel():
        return x.clone()
    return torch.where(x >= x.flatten().topk(max(1, x.numel() // 5)).values[-1], x, 0)


def softshrink_of_tanh(bound: float) -> nn.Module:
    """Return a composition whose kinks are not at round numbers."""
    return nn.Sequential(nn.Tanh(), nn.Softshrink(bound))


SOUND: dict[str, Any] = {
    "tanh as autograd.Function": tanh,
    "relu as autograd.Function": relu,
    "relu6 as autograd.Function": relu6,
    "mish in double": double_mish,
    "notebook's relu": NotebookReLU,
    "relu of a mask": MaskedReLU,
    "old-style softsign": OldStyleSoftsign,
    "sigmoid of its output": SigmoidOfOutput,
    "swish with a parameter": Swish,
    "slopes of channels": PerChannel,
    "constant in a buffer": Buffered,
    "noise in training": NoisyInTraining,
    "another function in training": LeakyInTraining,
    "a count of calls": Counting,
    "silu as a product": lambda x: x * x.sigmoid(),
    "squared relu": lambda x: F.relu(x) ** 2,
    "leaky relu by where": lambda x: torch.where(x > 0, x, 0.01 * x),
    "leaky relu by maximum": lambda x: torch.maximum(x, 0.01 * x),
    "gaussian": lambda x: torch.exp(-x * x),
    "arctangent": torch.atan,
    "arsinh": torch.asinh,
    "exponential": torch.exp,
    "logarithm": torch.log,
    "square root": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "cube": lambda x: x**3,
    "identity by clone": torch.clone,
    "sine plus identity": lambda x: x + torch.sin(x) ** 2,
    "logarithm of relu": lambda x: torch.log1p(F.relu(x)),
    "relu of sine": lambda x: F.relu(torch.sin(x)),
    "cube below 0": lambda x: F.relu(x) + x.clamp_max(0) ** 3,
    "tanh cubed below 0": lambda x: torch.where(x >= 0, x, torch.tanh(x) ** 3),
    "identity and a huge exponential": lambda x: x + torch.exp(x.clamp(max=44)),
    "two parameters": TwoParameters,
    "a parameter at a kink": AtKink,
    "alternating over the batch": AlternatingOverBatch,
    "largest fifth": largest_fifth,
    "floor": torch.floor,
    "shrink of tanh, 0.4": softshrink_of_tanh(0.4),
    "shrink of tanh, 0.6": softshrink_of_tanh(0.6),
    "shrink of tanh, 0.25": softshrink_of_tanh(0.25),
    "tanh of shrink": nn.Sequential(nn.Softshrink(), nn.Tanh()),
    "relu off a round number": lambda x: F.relu(math.pi * x - 1),
    "relu in place": nn.ReLU(inplace=True),
    "elu in place": nn.ELU(inplace=True),
    "in place at the end": nn.Sequential(nn.SiLU(), nn.Hardtanh(-0.25, 2.0, inplace=True)),
    "function in place": functools.partial(F.leaky_relu, negative_slope=0.1, inplace=True),
    "relu_": torch.relu_,
    "softmax": nn.Softmax(-1),
    "layer norm": nn.LayerNorm(8),
    "batch norm": nn.BatchNorm1d(8),
    "maxout of halves": lambda x: torch.maximum(*x.chunk(2, dim=-1)),
    "dropout": nn.Dropout(0.3),
    "alpha dropout": nn.AlphaDropout(0.3),
}
# Rows that a sound target reports as unsupported.
OLD_STYLE = {"forward mode", "vmap", "func.grad"}
EXPECTED: dict[str, set[str]] = {
    "notebook's relu": OLD_STYLE,
    "relu of a mask": OLD_STYLE,
    "old-style softsign": OLD_STYLE,
}

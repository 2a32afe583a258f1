"""Rectifiers: piecewise linear functions and their squares."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from actlab.activation.definition import elementwise
from actlab.activation.module import ActivationModule
from actlab.activation.numerics import is_small

inf = math.inf
aten = torch.ops.aten


@elementwise(
    formula="max(x, 0)",
    limits=(0, inf),
    slopes=(0, 1),
    monotonic=True,
    paper="Fukushima 1969; Nair & Hinton 2010",
    saves="output",
    kinks={0: 0},
    torch_equivalent="ReLU",
    inplace=True,
    widen=False,
)
def relu(x: Tensor) -> Tensor:
    """Rectified linear unit: ``x`` where positive, 0 elsewhere."""
    return torch.relu(x)


relu.derivative(lambda y: (y > 0).to(y.dtype))
relu.gradient(lambda grad, y: aten.threshold_backward(grad, y, 0))
relu.torch_operation(torch.relu)
ReLU = relu.module("ReLU")


@elementwise(
    formula="where(x > 0, x, negative_slope * x)",
    limits=lambda negative_slope: (-negative_slope * inf if negative_slope else 0.0, inf),
    slopes=lambda negative_slope: (negative_slope, 1),
    range=lambda negative_slope: (-inf if negative_slope > 0 else 0, inf),
    monotonic=True,
    paper="Maas et al. 2013",
    # The output has the sign of the input unless the slope is negative, and the next layer saves it anyway.
    saves=lambda negative_slope: "output" if negative_slope >= 0 else "input",
    kinks=lambda negative_slope: {0: negative_slope},
    torch_equivalent="LeakyReLU",
    inplace=True,
)
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Leaky rectified linear unit: ``x`` where positive, ``negative_slope * x`` elsewhere.

    Args:
        x: The input.
        negative_slope: The slope where ``x`` is not positive.
    """
    return aten.leaky_relu(x, negative_slope)


@leaky_relu.derivative
def _(saved: Tensor, negative_slope: float) -> Tensor:
    return torch.where(saved > 0, torch.ones_like(saved), negative_slope)


@leaky_relu.gradient
def _(grad: Tensor, saved: Tensor, negative_slope: float) -> Tensor:
    return aten.leaky_relu_backward(grad, saved, negative_slope, False)


# torch saves the output of an in-place operation: apply it to a copy of a small input.
@leaky_relu.torch_operation
def _(x: Tensor, negative_slope: float) -> Tensor | None:
    if negative_slope < 0:
        return aten.leaky_relu(x, negative_slope)
    return F.leaky_relu_(x.clone(), negative_slope) if is_small(x) else None


LeakyReLU = leaky_relu.module("LeakyReLU")


@elementwise(
    formula="where(x > 0, x, (lower + upper) / 2 * x)",
    limits=lambda lower, upper, training: (-(lower + upper) * inf if lower + upper else 0.0, inf),
    slopes=lambda lower, upper, training: ((lower + upper) / 2, 1),
    range=lambda lower, upper, training: (-inf if lower + upper > 0 else 0, inf),
    monotonic=True,
    paper="Xu et al. 2015",
    # In training backward needs the random slopes only: they are the mask.
    saves=lambda lower, upper, training: (
        "mask" if isinstance(training, Tensor) else "output" if lower + upper >= 0 else "input"
    ),
    kinks=lambda lower, upper, training: {0: (lower + upper) / 2},
    torch_equivalent="RReLU",
    inplace=True,
)
def rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """Randomized leaky rectifier: random slopes below 0 in training, the mean slope otherwise.

    It draws the same random numbers as ``torch.nn.functional.rrelu`` from the same generator state.

    Args:
        x: The input.
        lower: The smallest slope.
        upper: The largest slope.
        training: Whether to draw the slopes; if not, the slope is ``(lower + upper) / 2``.
    """
    if isinstance(training, Tensor):
        return x * training
    return aten.leaky_relu(x, (lower + upper) / 2)


@rrelu.derivative
def _(saved: Tensor, lower: float, upper: float, training: Any) -> Tensor:
    if isinstance(training, Tensor):
        return training
    return torch.where(saved > 0, torch.ones_like(saved), (lower + upper) / 2)


@rrelu.gradient
def _(grad: Tensor, saved: Tensor, lower: float, upper: float, training: Any) -> Tensor:
    if isinstance(training, Tensor):
        return grad * training
    return aten.leaky_relu_backward(grad, saved, (lower + upper) / 2, False)


# random; forward mode needs a derivative
rrelu.partial("training")(lambda saved, lower, upper, training: torch.zeros_like(saved))
rrelu.mask(lambda x, lower, upper, training: training)


@rrelu.prepares
def _(x: Tensor, lower: float, upper: float, training: bool) -> tuple[Any, ...]:
    return lower, upper, _slopes(x.detach(), lower, upper) if training else False


def _slopes(x: Tensor, lower: float, upper: float) -> Tensor:
    """Draw a slope for every element that is not positive; 1 for the others."""
    if torch._C._are_functorch_transforms_active() or x.dtype is torch.float16:
        # torch's operation supports neither vmap nor, on the CPU, float16.
        return torch.where(x > 0, 1.0, torch.rand_like(x) * (upper - lower) + lower)
    slopes: Tensor = aten.rrelu_with_noise_functional(x, torch.ones_like(x), lower, upper, True)[1]
    return slopes


@rrelu.exported
def _(x: Tensor, lower: float, upper: float, training: bool) -> Tensor | None:
    return None if training else F.leaky_relu(x, (lower + upper) / 2)  # ONNX cannot express torch's rrelu


rrelu.requires(lambda lower, upper, training: lower <= upper, "lower must be at most upper", RuntimeError)


@rrelu.use_module
class RReLU(ActivationModule):
    """Randomized leaky rectifier: random slopes below 0 in training, their mean in evaluation.

    Args:
        lower: The smallest slope.
        upper: The largest slope.
        inplace: Overwrite the input.
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__(lower, upper, inplace=inplace)
        self.training = True

    def extra_repr(self) -> str:
        """Return the arguments as torch.nn prints them."""
        return f"lower={self.lower}, upper={self.upper}" + ", inplace=True" * self.inplace


def byte_mask(kernel: Any, x: Tensor, *bounds: float) -> Tensor:
    """Return where a backward kernel passes the gradient, one byte per element.

    On a CPU this is three times faster than a comparison, because booleans are not vectorized.
    """
    return kernel(x.new_ones(()).expand_as(x), x, *bounds).to(torch.int8)


def _shows(threshold: float, value: float) -> bool:
    """Return whether the output shows where the input was cut, even after rounding."""
    return value <= 0 <= threshold


@elementwise(
    formula="where(x > threshold, x, value)",
    limits=lambda threshold, value: (value, inf),
    slopes=(0, 1),
    range=lambda threshold, value: (min(value, threshold), inf),
    monotonic=True,
    paper="-",
    saves=lambda threshold, value: "output" if _shows(threshold, value) else "mask",
    kinks=lambda threshold, value: {threshold: 0},
    torch_equivalent="Threshold",
    inplace=True,
    example={"threshold": 0.5, "value": -0.25},
)
def threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    """Threshold: ``x`` above ``threshold``, ``value`` elsewhere. It jumps unless the two are equal.

    Args:
        x: The input.
        threshold: Inputs above it pass unchanged.
        value: The output for all other inputs.
    """
    return aten.threshold(x, threshold, value)


threshold.mask(lambda x, threshold, value: byte_mask(aten.threshold_backward, x, threshold))


@threshold.derivative
def _(saved: Tensor, threshold: float, value: float) -> Tensor:
    return (saved > threshold).to(saved.dtype) if _shows(threshold, value) else saved


@threshold.gradient
def _(grad: Tensor, saved: Tensor, threshold: float, value: float) -> Tensor:
    if _shows(threshold, value):
        return aten.threshold_backward(grad, saved, threshold)
    return grad * saved


@threshold.torch_operation
def _(x: Tensor, threshold: float, value: float) -> Tensor | None:
    return torch.threshold_(x.clone(), threshold, value) if is_small(x) and _shows(threshold, value) else None


Threshold = threshold.module("Threshold")


def clipped_gradient(grad: Tensor, y: Tensor, lower: float, upper: float) -> Tensor:
    """Pass the gradient where a clipped output is strictly between its bounds."""
    return aten.hardtanh_backward(grad, y, *_rounded(y.dtype, lower, upper))


def _rounded(dtype: torch.dtype, *bounds: float) -> tuple[float, ...]:
    """Round bounds to half precision, like the output. The kernel compares the two in float32."""
    if dtype in (torch.float16, torch.bfloat16):
        return tuple(torch.tensor(bounds, dtype=dtype).tolist())
    return bounds


def clip(x: Tensor, lower: float, upper: float) -> Tensor | None:
    """Clip a copy of a small tensor in place, with a torch operation that saves its output."""
    return F.hardtanh_(x.clone(), *_rounded(x.dtype, lower, upper)) if is_small(x) else None


@elementwise(
    formula="min(max(x, 0), 6)",
    limits=(0, 6),
    slopes=(0, 0),
    monotonic=True,
    paper="Krizhevsky 2010",
    saves="output",
    kinks={0: 0, 6: 0},
    torch_equivalent="ReLU6",
    inplace=True,
    widen=False,
)
def relu6(x: Tensor) -> Tensor:
    """Rectifier clipped at 6."""
    return x.clamp(0, 6)


relu6.derivative(lambda y: ((y > 0) & (y < 6)).to(y.dtype))
relu6.gradient(lambda grad, y: aten.hardtanh_backward(grad, y, 0, 6))
relu6.torch_operation(lambda x: clip(x, 0, 6))
ReLU6 = relu6.module("ReLU6")


@elementwise(
    formula="min(max(x, 0), upper)",
    limits=lambda upper: (0, upper),
    slopes=(0, 0),
    monotonic=True,
    paper="Liew et al. 2016",
    saves="output",
    kinks=lambda upper: {0: 0, upper: 0},
    widen=False,
)
def clipped_relu(x: Tensor, upper: float = 1.0) -> Tensor:
    """Bounded rectifier: ``x`` between 0 and ``upper``, inclusive.

    Args:
        x: The input.
        upper: The largest value. Must be positive.
    """
    return x.clamp(0.0, float(upper))  # the ONNX exporter does not mix int and float


clipped_relu.derivative(lambda y, upper: ((y > 0) & (y < upper)).to(y.dtype))
clipped_relu.gradient(lambda grad, y, upper: clipped_gradient(grad, y, 0, upper))
clipped_relu.torch_operation(lambda x, upper: clip(x, 0, upper))
clipped_relu.requires(lambda upper: upper > 0, "upper must be positive")
BReLU = clipped_relu.module("BReLU")


@elementwise(
    formula="where(x > 0, x**2, 0)",
    limits=(0, inf),
    slopes=(0, inf),
    monotonic=True,
    paper="So et al. 2021",
)
def relu_squared(x: Tensor) -> Tensor:
    """Squared rectifier: ``x**2`` where positive, 0 elsewhere."""
    return x.clamp_min(0).square()


relu_squared.derivative(lambda x: 2 * x.clamp_min(0))
relu_squared.second(lambda x: 2 * (x > 0).to(x.dtype))
ReLUSquared = relu_squared.module("ReLUSquared")

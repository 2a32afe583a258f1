"""Activations that are correct for one call with a gradient of ones, and wrong in other calls or modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from tests.faulty_activations import Formula, node, relu, tanh, tanh_slope


def by_backward(backward: Callable[[Tensor, Tensor], Tensor], forward: Formula = torch.tanh) -> Formula:
    """Return a function with a given backward, which takes the incoming gradient and the input."""
    return node(forward, backward=lambda ctx, grad: backward(grad, ctx.saved_tensors[0]))


# -- the incoming gradient ------------------------------------------------------------------------

LINEAR: dict[str, Formula] = {
    "ignores it": by_backward(lambda g, x: (x > 0).to(g.dtype), torch.relu),
    "squares it": by_backward(lambda g, x: g * g * tanh_slope(x)),
    "clamps it": by_backward(lambda g, x: g.clamp(-1, 1) * tanh_slope(x)),
    "takes its magnitude": by_backward(lambda g, x: g.abs() * tanh_slope(x)),
    "takes its sign": by_backward(lambda g, x: g.sign() * tanh_slope(x)),
    "guided backpropagation": by_backward(lambda g, x: g.clamp_min(0) * (x > 0), torch.relu),
    "divides by its norm": by_backward(lambda g, x: g / g.abs().amax().clamp_min(1) * tanh_slope(x)),
    "averages it": by_backward(lambda g, x: g.mean() * tanh_slope(x)),
    "takes the first for all": by_backward(lambda g, x: g.flatten()[0] * tanh_slope(x)),
    "takes the first row for all": by_backward(lambda g, x: g[:1] * tanh_slope(x)),
    "divides by it": by_backward(lambda g, x: g / g * g * tanh_slope(x)),
    "a fast path for sums": by_backward(lambda g, x: (g if any(g.stride()) else g * 0 + 1) * tanh_slope(x)),
    "adds a small number": by_backward(lambda g, x: (g + 1e-8) * tanh_slope(x)),
    "drops small ones": by_backward(lambda g, x: torch.where(g.abs() < 1e-8, 0, g) * tanh_slope(x)),
    "rounds it": by_backward(lambda g, x: g.round(decimals=3) * tanh_slope(x)),
    "hides NaN": by_backward(lambda g, x: g.nan_to_num() * tanh_slope(x)),
    "in half precision": by_backward(lambda g, x: g.half().to(g.dtype) * tanh_slope(x)),
    "flattens by memory": by_backward(
        lambda g, x: (
            (g.as_strided(g.shape, (g.shape[-1], 1)) if g.is_contiguous() or g.T.is_contiguous() else g)
            * tanh_slope(x)
        )
    ),
    "drops half of it": by_backward(lambda g, x: nn.functional.dropout(g, 0.5) * tanh_slope(x)),
}


class _SoftmaxOfMagnitude(Function):
    """Softmax that is wrong for a gradient with negative elements."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        g = g.abs()
        return y * (g - (g * y).sum(-1, keepdim=True))


softmax_of_magnitude = _SoftmaxOfMagnitude.apply


def _relu_without_clone(g: Tensor, x: Tensor) -> Tensor:
    g[x <= 0] = 0
    return g


class TanhOfOutput(Function):
    """Tanh that overwrites its output with the slope in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        with torch.no_grad():
            return g * y.detach().square_().neg_().add_(1)


class TanhOfSlope(Function):
    """Tanh that modifies its saved slope, so that a second backward is wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slope = tanh_slope(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return ctx.slope.mul_(g).clone()


class ClampsGradientInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _in_training(x) if self.training else relu(x)


_in_training = by_backward(_relu_without_clone, torch.relu)

UNCHANGED: dict[str, Any] = {
    "the notebook's without clone": by_backward(_relu_without_clone, torch.relu),
    "multiplies in place": by_backward(lambda g, x: g.mul_(tanh_slope(x))),
    "clamps in place and returns another": by_backward(lambda g, x: g.clamp_(-9, 1).mul(tanh_slope(x))),
    "zeroes it at the end": by_backward(lambda g, x: (g * tanh_slope(x), g.zero_())[0]),
    "writes into the output": TanhOfOutput,
    "writes into the input": by_backward(lambda g, x: g * x.detach().tanh_().square_().neg_().add_(1)),
    "writes into its saved slope": TanhOfSlope,
    "in training alone": ClampsGradientInTraining,
}

# -- the input ------------------------------------------------------------------------------------


def relu_that_writes(when: Callable[[Tensor], bool]) -> Formula:
    """Return a relu that writes into its input if a condition holds."""

    def function(x: Tensor) -> Tensor:
        y = x.relu()
        if when(x):
            x.detach().clamp_(min=0)
        return y

    return function


def _clears_around(x: Tensor) -> Tensor:
    if x._base is not None:
        x._base.detach().clamp_(max=5)[:1] = 0
    return x.relu()


class WritesInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return relu_that_writes(lambda x: self.training)(x)


INPUT: dict[str, Any] = {
    "under no_grad": relu_that_writes(lambda x: not torch.is_grad_enabled()),
    "under inference_mode": relu_that_writes(lambda x: torch.is_inference_mode_enabled()),
    "a leaf": relu_that_writes(lambda x: x.requires_grad and x.is_leaf),
    "an intermediate": relu_that_writes(lambda x: not x.is_leaf),
    "around the slice that was passed in": _clears_around,
    "in training": WritesInTraining,
}

# -- many calls -----------------------------------------------------------------------------------


class CachesMask:
    """Relu that caches the first mask for a key and uses it in backward.

    Args:
        key: Function that returns the key of an input.
        in_forward: Whether the values use the cached mask, too.
    """

    def __init__(self, key: Callable[[Tensor], Any], in_forward: bool = False) -> None:
        self.key, self.in_forward, self.masks = key, in_forward, dict[Any, Tensor]()

    def __call__(self, x: Tensor) -> Tensor:
        mask = self.masks.setdefault(self.key(x), (x.detach() > 0).to(x.dtype))
        y = x * mask  # the gradient of this product is the mask
        return y if self.in_forward else y + (x.relu() - y).detach()


class CachesValue:
    """Tanh that returns the value of an earlier call for a tensor with the same key."""

    def __init__(self, key: Callable[[Tensor], Any]) -> None:
        self.key, self.values = key, dict[Any, Tensor]()

    def __call__(self, x: Tensor) -> Tensor:
        value = self.values.setdefault(self.key(x), x.detach().tanh())
        return x.tanh() + (value - x.tanh()).detach() if value.shape == x.shape else x.tanh()


class CachesTensor:
    """Tanh that returns the value of an earlier call for the same tensor object."""

    def __init__(self) -> None:
        self.known: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        for tensor, value in self.known:
            if tensor is x and not x.requires_grad:
                return value
        y = x.tanh()
        self.known.append((x, y.detach()))
        return y


class KeepsLast(Function):
    """Tanh that saves its input on the class instead of the context."""

    last: Tensor

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        KeepsLast.last = x.detach().clone()
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * tanh_slope(KeepsLast.last)


class ReusesOutput:
    """Tanh that returns the same memory for every input of a shape."""

    def __init__(self) -> None:
        self.outputs = dict[Any, Tensor]()

    def __call__(self, x: Tensor) -> Tensor:
        out = self.outputs.setdefault((x.shape, x.dtype), torch.empty_like(x.detach()))
        return _Into.apply(x, out)


class _Into(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x, out=out).view_as(out)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g * tanh_slope(*ctx.saved_tensors), None


class CountsCalls:
    """Tanh that doubles the gradient after 40 calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = x.tanh()
        return y if self.calls < 40 else 2 * y - y.detach()


REPEATED: dict[str, Callable[[], Any]] = {
    "mask of the first call of a shape": lambda: CachesMask(lambda x: x.shape),
    "mask of the first call": lambda: CachesMask(lambda x: (x.shape[-1], x.dtype, x.shape[0] == 1)),
    "mask of a number of elements": lambda: CachesMask(torch.numel),
    "values by the mask of a shape": lambda: CachesMask(lambda x: x.shape, in_forward=True),
    "values by the identity of the tensor": lambda: CachesValue(lambda x: (id(x), x.shape)),
    "values by the tensor": CachesTensor,
    "values by the address": lambda: CachesValue(lambda x: (x.data_ptr(), x.shape, x.dtype)),
    "values by the shape": lambda: CachesValue(lambda x: (x.shape, x.dtype)),
    "input on the class": lambda: KeepsLast,
    "one output for all calls": ReusesOutput,
    "gradient doubled after 40 calls": CountsCalls,
}

# -- modes ----------------------------------------------------------------------------------------


def _fast(x: Tensor) -> Tensor:
    return x.clamp(-3, 3) * (27 + x.clamp(-3, 3) ** 2) / (27 + 9 * x.clamp(-3, 3) ** 2)


def _approximate_when(when: Callable[[Tensor], bool]) -> Formula:
    return lambda x: _fast(x) if when(x) else x.tanh()


class ApproximatesInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _fast(x) if self.training and not torch.is_grad_enabled() else x.tanh()


MODES: dict[str, Any] = {
    "approximate under no_grad": _approximate_when(lambda x: not torch.is_grad_enabled()),
    "approximate without requires_grad": _approximate_when(lambda x: not x.requires_grad),
    "approximate under inference_mode": _approximate_when(lambda x: torch.is_inference_mode_enabled()),
    "approximate in training": ApproximatesInTraining,
}

_doubled = node(slope=lambda x: 2 * tanh_slope(x))


class DoublesInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _doubled(x) if self.training else tanh(x)


class DetachesInTraining(nn.Module):
    """Silu whose gate gets no gradient in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.sigmoid().detach() if self.training else x.sigmoid())


class ScalesForward(nn.Module):
    """Tanh that scales values in training without their gradient."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.tanh()
        return y + (0.25 * y).detach() if self.training else y


class RoundsInTraining(nn.Module):
    """Identity whose values are rounded in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x.round() - x).detach() if self.training else x


TRAINING = (DoublesInTraining, DetachesInTraining, ScalesForward, RoundsInTraining)

# -- autocast, signed zeros, gradients of gradients -----------------------------------------------


def _narrow(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def relu_in_autocast_dtype(x: Tensor) -> Tensor:
    return x.to(_narrow(x)).relu()


def square_in_autocast_dtype(x: Tensor) -> Tensor:
    """Overflows in an intermediate value long before the result."""
    z = x.to(_narrow(x))
    return (z * z / (1 + z.abs())).to(x.dtype)


def tanh_of_autocast_product(x: Tensor) -> Tensor:
    return (x[..., None] @ torch.full((1, 1), 1e3, dtype=x.dtype))[..., 0] * 1e-3


def tanh_off_under_autocast(x: Tensor) -> Tensor:
    return x.tanh() * (1.1 if torch.is_autocast_enabled("cpu") else 1)


slope_in_autocast_dtype = by_backward(lambda g, x: (g.to(_narrow(g)) * 1e5 / 1e5).to(g.dtype) * tanh_slope(x))
AUTOCAST = (
    relu_in_autocast_dtype,
    square_in_autocast_dtype,
    tanh_of_autocast_product,
    tanh_off_under_autocast,
    slope_in_autocast_dtype,
)


def step_by_sign_bit(x: Tensor) -> Tensor:
    return x * 0 + torch.where(x.signbit() & (x == 0), 1.0, 0.0).to(x.dtype)


def one_at_negative_zero(x: Tensor) -> Tensor:
    return x.tanh() + ((x == 0) & x.signbit()).to(x.dtype)


def sign_by_copysign(x: Tensor) -> Tensor:
    return x.tanh() + torch.copysign(torch.ones_like(x), x).detach() * (x.abs() < 1e-3)


def one_in_half_alone(x: Tensor) -> Tensor:
    return one_at_negative_zero(x) if x.dtype is torch.float16 else x.tanh()


ZEROS: dict[str, Any] = {
    "1 at -0": one_at_negative_zero,
    "a step at the sign bit": step_by_sign_bit,
    "the sign of the sign bit": sign_by_copysign,
    "in float16 alone": one_in_half_alone,
    "the slope of the sign bit": node(torch.relu, lambda x: (~x.signbit()).to(x.dtype)),
}


def _without_graph(g: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        return g * (x > 0)


PENALTY: dict[str, Formula] = {
    "detached gradient": by_backward(lambda g, x: g.detach() * (x > 0), torch.relu),
    "backward without a graph": by_backward(_without_graph, torch.relu),
    "half of it detached": by_backward(lambda g, x: (g + g.detach()) * 0.5 * (x > 0), torch.relu),
    "data of the gradient": by_backward(lambda g, x: g.data * (x > 0), torch.relu),
}

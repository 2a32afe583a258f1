"""Rows about the call itself: shapes, layouts, dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from actlab.checking.numbers import close, largest, told
from actlab.checking.outcome import Failure, NotApplicable
from actlab.checking.subject import Function, Subject

_NEAR = 0.05  # what products of bfloat16 factors may be off by, relative to the largest value


def numbers(x: Tensor) -> str:
    """Return a tensor's shape as text."""
    return str(tuple(x.shape))


def shape(subject: Subject) -> str:
    """The output has the shape of the input, or half of it along one dimension if it is gated."""
    x = subject.sample()
    y = subject.function()(x)
    if not isinstance(y, Tensor):
        raise Failure(f"returns a {type(y).__name__}, expected a tensor")
    if subject.kind == "other":
        raise Failure(f"input of shape {numbers(x)} gives {numbers(y)}, expected {numbers(x)}")
    return f"{numbers(x)} gives {numbers(y)}"


def kind(subject: Subject) -> str:
    """What the target is: element-wise, gated, or a function that mixes elements."""
    if subject.kind == "mixing":
        return "not element-wise: an element of the output depends on several of the input, as in softmax"
    if subject.kind == "gated":
        return "not element-wise: one half of the input gates the other"
    return "element-wise: an element of the output depends on its own input alone"


def dtype(subject: Subject) -> str:
    """The output has the dtype of the input, and the gradient too."""
    for chosen in (torch.float64, *subject.dtypes):
        x = subject.sample(dtype=chosen).requires_grad_()
        y = subject.function(chosen)(x)
        if y.dtype != chosen:
            raise Failure(f"{name(chosen)} in gives {name(y.dtype)} out")
        if y.requires_grad:
            (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y), allow_unused=True)
            if gradient is not None and gradient.dtype != chosen:
                raise Failure(f"{name(chosen)} in gives a gradient in {name(gradient.dtype)}")
    return "kept by " + ", ".join(name(d) for d in (torch.float64, *subject.dtypes))


def name(dtype: torch.dtype) -> str:
    """Return a dtype without its module."""
    return str(dtype).removeprefix("torch.")


def autocast(subject: Subject) -> str:
    """Under autocast it runs, forward and backward, stays near its usual values, and does not overflow."""
    return "; ".join(_autocast(subject, dtype) for dtype in (torch.float16, torch.bfloat16))


def _autocast(subject: Subject, dtype: torch.dtype) -> str:
    function, x = subject.function(torch.float32), subject.sample(dtype=torch.float32)
    samples = [x]
    if subject.kind == "element-wise":  # beyond 65504 float16 is infinite
        far = 10 ** (2 * x.abs()).clamp(max=20)
        samples.append(torch.cat([far, -far]))
    for x in samples:
        plain, slopes = _with_gradient(function, x)
        with torch.autocast(subject.device.type, dtype), _OwnCasts(dtype) as own:
            y, cast_slopes = _with_gradient(function, x)
        if y.dtype is dtype and not own.found:  # autocast itself runs some operations in it, such as prelu
            plain = function(x.to(dtype).float()).detach().to(dtype).float()
        for what, got, expected in (("value", y.float(), plain), ("gradient", cast_slopes, slopes)):
            size = max(1.0, largest(expected)) if x is samples[0] else 1.0
            wrong = ~close(got / size, expected / size, _NEAR)
            if wrong.any():
                at = tuple(wrong.nonzero()[0].tolist())
                one, two = told(float(got[at]), float(expected[at]), 6)
                where = f" at x = {float(x[at]):.6g}" if x.shape == got.shape else ""
                raise Failure(f"under autocast to {name(dtype)} the {what}{where} is {one}, expected {two}")
    return f"{name(dtype)}: float32 in gives {name(y.dtype)} out"


class _OwnCasts(TorchFunctionMode):
    """Finds out whether the target itself asks for a dtype; it does not see what autocast casts."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.found = dtype, False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        casts = getattr(func, "__name__", "") in ("to", "type", "type_as", "half", "bfloat16")
        self.found = self.found or (casts and isinstance(result, Tensor) and result.dtype is self.dtype)
        return result


def _with_gradient(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    y = function(leaf)
    if not y.requires_grad:
        return y, torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(y.float().sum(), leaf, allow_unused=True)
    return y.detach(), torch.zeros_like(x) if gradient is None else gradient


def non_contiguous(subject: Subject) -> str:
    """Transposed, strided and flipped views give what contiguous copies give."""
    base = subject.sample(2 * subject.width)
    square = torch.cat([base, base + 0.1], 1)[:, : 2 * subject.width]
    views = {
        "a transposed view": square[:, : subject.width].mT.contiguous().mT,
        "a strided view": square[::2, ::2],
        "a flipped view": base.flip(0)[::2],
    }
    return _same_as_contiguous(subject, views)


def expanded(subject: Subject) -> str:
    """Expanded tensors, whose elements share memory, give what contiguous copies give."""
    return _same_as_contiguous(subject, {"an expanded tensor": subject.sample()[:1].expand(5, -1)})


def _same_as_contiguous(subject: Subject, views: dict[str, Tensor]) -> str:
    for label, view in views.items():
        values, slopes = [], []
        for x in (view.detach(), view.detach().clone(memory_format=torch.contiguous_format)):
            leaf = x.requires_grad_()
            y = subject.function()(leaf)
            values.append(y.detach())
            if y.requires_grad:
                slopes.append(torch.autograd.grad(y.sum(), leaf, allow_unused=True)[0])
        for what, pair in (("value", values), ("gradient", slopes)):
            if len(pair) < 2 or pair[0] is None or pair[1] is None:
                continue
            if not close(pair[0], pair[1], 1e-9).all():  # sums may be taken in another order
                raise Failure(f"{label} of strides {view.stride()} gives another {what} than its copy")
    return ", ".join(views) + ": as the copies"


def empty(subject: Subject) -> str:
    """A tensor without elements gives one of its shape."""
    x = subject.sample()[:0]
    y = subject.function()(x.requires_grad_())
    if subject.kind != "gated" and y.shape != x.shape:
        raise Failure(f"input of shape {numbers(x)} gives {numbers(y)}")
    if y.requires_grad:
        torch.autograd.grad(y.sum(), x, allow_unused=True)
    return f"{numbers(x)} gives {numbers(y)}"


def zero_dimensional(subject: Subject) -> str:
    """A tensor of no dimension gives one of no dimension, with the value of the same number in a row."""
    if subject.kind != "element-wise":
        raise NotApplicable("it needs a dimension")
    if subject.per_feature:
        raise NotApplicable("a parameter for each feature needs a dimension")
    x = torch.tensor(0.7, dtype=torch.float64, device=subject.device).requires_grad_()
    y = subject.function()(x)
    if y.shape != x.shape:
        raise Failure(f"input of shape () gives {numbers(y)}")
    expected = subject.value(x.detach().reshape(1))[0]
    if not close(y, expected, 1e-12):
        one, two = told(float(y), float(expected), 6)
        raise Failure(f"x = 0.7 gives {one}, in a row {two}")
    return "() gives ()"

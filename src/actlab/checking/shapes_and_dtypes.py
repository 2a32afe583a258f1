"""Rows about the call itself: shapes, layouts, dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from actlab.checking.check_report import Failure, NotApplicable
from actlab.checking.subject import Subject
from actlab.checking.tensor_comparison import (
    compute_gradient,
    compute_gradient_or_zeros,
    compute_value_and_gradient,
    find_first,
    find_largest_magnitude,
    format_dtype,
    format_pair,
    is_close,
)

_AUTOCAST_TOLERANCE = 0.05  # of products of bfloat16 factors, relative to the largest value
_KINDS = {
    "mixing": "not element-wise: an output element depends on several input elements, as in softmax",
    "gated": "not element-wise: one half of the input gates the other",
    "element-wise": "element-wise: each output element depends on one input element",
}


def format_shape(x: Tensor) -> str:
    """Return a tensor's shape as text."""
    return str(tuple(x.shape))


def check_shape(subject: Subject) -> str:
    """Verify that the output has the shape of the input, or half of it if the target is gated."""
    x = subject.sample()
    y = subject.make_function()(x)
    if not isinstance(y, Tensor):
        raise Failure(f"returns a {type(y).__name__}, expected a tensor")
    if subject.kind == "other":
        raise Failure(f"input of shape {format_shape(x)} gives {format_shape(y)}, expected {format_shape(x)}")
    return f"{format_shape(x)} gives {format_shape(y)}"


def check_kind(subject: Subject) -> str:
    """Report whether the target is element-wise, gated, or mixes elements."""
    return _KINDS[subject.kind]


def check_dtype(subject: Subject) -> str:
    """Verify that the output and the gradient have the dtype of the input."""
    dtypes = (torch.float64, *subject.dtypes)
    for expected in dtypes:
        x = subject.sample(dtype=expected).requires_grad_()
        y = subject.make_function(expected)(x)
        if y.dtype != expected:
            raise Failure(f"a {format_dtype(expected)} input gives a {format_dtype(y.dtype)} output")
        slope = compute_gradient(y, x)
        if slope is not None and slope.dtype != expected:
            raise Failure(f"a {format_dtype(expected)} input gives a {format_dtype(slope.dtype)} gradient")
    return "preserved for " + ", ".join(map(format_dtype, dtypes))


def check_autocast(subject: Subject) -> str:
    """Verify that autocast hardly changes values and gradients and causes no overflow."""
    return "; ".join(_check_autocast_to(subject, dtype) for dtype in (torch.float16, torch.bfloat16))


def _check_autocast_to(subject: Subject, dtype: torch.dtype) -> str:
    function, x = subject.make_function(torch.float32), subject.sample(dtype=torch.float32)
    samples = [x]
    if subject.kind == "element-wise":  # float16 overflows beyond 65504
        far = 10 ** (2 * x.abs()).clamp(max=20)
        samples.append(torch.cat([far, -far]))
    for x in samples:
        plain, slopes = compute_value_and_gradient(function, x)
        with torch.autocast(subject.device.type, dtype), _DetectCasts(dtype) as casts:
            y, cast_slopes = compute_value_and_gradient(function, x)
        # Autocast runs some operations in this dtype, such as prelu.
        if y.dtype is dtype and not casts.detected:
            plain = function(x.to(dtype).float()).detach().to(dtype).float()
        for what, got, expected in (("value", y.float(), plain), ("gradient", cast_slopes, slopes)):
            size = max(1.0, find_largest_magnitude(expected)) if x is samples[0] else 1.0
            wrong = ~is_close(got / size, expected / size, _AUTOCAST_TOLERANCE)
            if wrong.any():
                at = find_first(wrong)
                one, two = format_pair(got[at], expected[at], 6)
                where = f" at x = {float(x[at]):.6g}" if x.shape == got.shape else ""
                raise Failure(
                    f"under autocast to {format_dtype(dtype)} the {what}{where} is {one}, expected {two}"
                )
    return f"{format_dtype(dtype)}: a float32 input gives a {format_dtype(y.dtype)} output"


class _DetectCasts(TorchFunctionMode):
    """Detect whether the target itself casts to a dtype; the casts of autocast are not detected."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.detected = dtype, False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        is_cast = getattr(func, "__name__", "") in ("to", "type", "type_as", "half", "bfloat16")
        self.detected |= is_cast and isinstance(result, Tensor) and result.dtype is self.dtype
        return result


def check_non_contiguous(subject: Subject) -> str:
    """Verify that transposed, strided and flipped views give the same results as contiguous copies."""
    base = subject.sample(2 * subject.width)
    square = torch.cat([base, base + 0.1], 1)[:, : 2 * subject.width]
    views = {
        "a transposed view": square[:, : subject.width].mT.contiguous().mT,
        "a strided view": square[::2, ::2],
        "a flipped view": base.flip(0)[::2],
    }
    return _compare_with_copies(subject, views)


def check_expanded(subject: Subject) -> str:
    """Verify that expanded tensors, whose elements share memory, give the same results as copies."""
    return _compare_with_copies(subject, {"an expanded tensor": subject.sample()[:1].expand(5, -1)})


def _compare_with_copies(subject: Subject, views: dict[str, Tensor]) -> str:
    for label, view in views.items():
        results = []
        for x in (view.detach(), view.detach().clone(memory_format=torch.contiguous_format)):
            leaf = x.requires_grad_()
            y = subject.make_function()(leaf)
            results.append((y.detach(), compute_gradient_or_zeros(y, leaf)))
        for what, one, two in zip(("value", "gradient"), *results, strict=True):
            if not is_close(one, two, 1e-9).all():  # sums may be taken in another order
                raise Failure(f"{label} with strides {view.stride()} and its copy give different {what}s")
    return ", ".join(views) + ": same as contiguous copies"


def check_empty(subject: Subject) -> str:
    """Verify that a tensor without elements gives an output of the same shape."""
    x = subject.sample()[:0].requires_grad_()
    y = subject.make_function()(x)
    if subject.kind != "gated" and y.shape != x.shape:
        raise Failure(f"input of shape {format_shape(x)} gives {format_shape(y)}")
    compute_gradient(y, x)
    return f"{format_shape(x)} gives {format_shape(y)}"


def check_zero_dimensional(subject: Subject) -> str:
    """Verify that a zero-dimensional tensor gives a zero-dimensional output with the right value."""
    if subject.per_feature:
        raise NotApplicable("one parameter per feature requires an input with at least one dimension")
    x = torch.tensor(0.7, dtype=torch.float64, device=subject.device).requires_grad_()
    y = subject.make_function()(x)
    if y.shape != x.shape:
        raise Failure(f"input of shape () gives {format_shape(y)}")
    expected = subject.evaluate(x.detach().reshape(1))[0]
    if not is_close(y, expected, 1e-12):
        one, two = format_pair(y, expected, 6)
        raise Failure(f"x = 0.7 gives {one} as a scalar and {two} in a vector")
    return "() gives ()"

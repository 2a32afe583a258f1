"""Rows about the incoming gradient: backward multiplies it by the slope and does not change it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from actlab.checking.check_report import Failure
from actlab.checking.subject import Subject
from actlab.checking.tensor_comparison import (
    are_equal,
    compute_gradient_or_zeros,
    find_first,
    find_worst,
    format_dtype,
    format_pair,
    is_close,
)

_ROUNDING = 64  # units of eps; products with powers of two are exact unless they underflow
_SUM = 1e-6  # tolerance of sums, relative to the largest element
_SCALES = {  # factors with which no correct backward overflows or underflows
    torch.float64: (1.0, 2.0**-66, 2.0**66),
    torch.float32: (1.0, 2.0**-33, 2.0**33),
    torch.bfloat16: (1.0, 2.0**-33, 2.0**33),
    torch.float16: (1.0, 2.0**8),
}
_AGAIN = 1e-9  # sums may be taken in another order for another layout
_STEEP = 0.1  # a slope that must let NaN and infinity pass


def check_linearity(subject: Subject) -> str:
    """Verify that backward is linear in the incoming gradient, for any sign, scale and layout."""
    # In half precision a sum has too few digits.
    narrow = subject.dtypes if subject.kind == "element-wise" else ()
    dtypes = [torch.float64, *(d for d in narrow if d is not torch.float64)]
    for dtype in dtypes:
        x = subject.sample(12, dtype).requires_grad_()
        y = subject.make_function(dtype)(x)
        if not y.requires_grad:
            return "the output has no gradient"
        slope = compute_gradient_or_zeros(y, x)
        for scale in _SCALES.get(dtype, (1.0,)):
            for layout, incoming in _make_incoming_gradients(y, scale):
                _require_linear(subject, x, y, slope, incoming, layout)
        if subject.kind == "element-wise":
            _require_propagation(x, y, slope)
    names = ", ".join(map(format_dtype, dtypes))
    return f"signs, zeros, scales and layouts of the incoming gradient; {names}"


def _make_incoming_gradients(y: Tensor, scale: float) -> Iterator[tuple[str, Tensor]]:
    """Return incoming gradients of the shape of y: contiguous, not contiguous, and expanded.

    They are 0 and powers of two with both signs, which multiply without rounding.
    """
    generator = torch.Generator().manual_seed(7)
    values = 2.0 ** torch.randint(-3, 4, y.shape, generator=generator, dtype=torch.float64) * scale
    values *= 1 - 2 * torch.randint(0, 2, y.shape, generator=generator)
    values.flatten()[::5] = 0.0
    values = values.to(y.device, y.dtype)
    yield "a contiguous", values
    yield "a non-contiguous", values.mT.contiguous().mT
    yield "an expanded", values.flatten()[1].expand(y.shape)


def _require_linear(
    subject: Subject, x: Tensor, y: Tensor, slope: Tensor, incoming: Tensor, layout: str
) -> None:
    got = compute_gradient_or_zeros(y, x, incoming)
    if subject.kind == "element-wise":
        expected = incoming * slope
        room = _ROUNDING * torch.finfo(x.dtype).eps * incoming.abs() * slope.abs().clamp_min(1)
    else:  # the sum of the gradients for two parts of it
        part = incoming.abs().max() * torch.linspace(-1, 1, y.numel(), device=x.device).view_as(y).to(y.dtype)
        expected = compute_gradient_or_zeros(y, x, part) + compute_gradient_or_zeros(y, x, incoming - part)
        room = _SUM * torch.maximum(expected.abs().max(), incoming.abs().max()).expand_as(expected)
    wrong = expected.isfinite() & ~((got - expected).abs() <= room)
    if wrong.any():
        at = find_worst(wrong, got, expected)
        one, two = format_pair(got[at], expected[at])
        where = (
            f"{float(incoming[at]):.6g} at x = {float(x[at]):.6g} " if subject.kind == "element-wise" else ""
        )
        raise Failure(
            f"backward is not linear in the incoming gradient: {where}gives {one}, expected {two} "
            f"({layout} gradient)"
        )


def _require_propagation(x: Tensor, y: Tensor, slope: Tensor) -> None:
    """Fail if backward hides NaN or infinity, by which a training loop detects divergence."""
    for odd in (math.nan, math.inf):
        got = compute_gradient_or_zeros(y, x, torch.full_like(y, odd))
        hidden = got.isfinite() & (slope.abs() > _STEEP)
        if hidden.any():
            at = find_first(hidden)
            raise Failure(
                f"for an incoming gradient of {odd} at x = {float(x[at]):.6g}, backward returns "
                f"{float(got[at]):.6g}, expected {odd * float(slope[at])}"
            )


def check_gradient_unchanged(subject: Subject) -> str:
    """Verify that backward changes neither the incoming gradient nor what the next backward reads."""
    for train in subject.modes:
        x = subject.sample(10).requires_grad_()
        y = subject.make_function(train=train)(x)
        if not y.requires_grad:
            return "the output has no gradient"
        for layout, incoming in _make_incoming_gradients(y, 1.0):
            before, values, inputs = incoming.clone(), y.detach().clone(), x.detach().clone()
            first = compute_gradient_or_zeros(y, x, incoming).clone()
            if not are_equal(incoming, before):
                at = find_first(incoming != before)
                raise Failure(
                    f"backward changes {layout} incoming gradient from {float(before[at]):.6g} to "
                    f"{float(incoming[at]):.6g}: clone it before writing into it"
                )
            if not are_equal(y.detach(), values):
                raise Failure("backward changes the output of forward")
            if not are_equal(x.detach(), inputs):
                raise Failure("backward changes the input of forward")
            if not is_close(compute_gradient_or_zeros(y, x, before), first, _AGAIN).all():
                raise Failure("a second backward through the same output gives a different gradient")
    return "the incoming gradient, the input and the output are unchanged"

"""Rows about several calls and modes: no state between calls, and one function in every mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from actlab.checking.check_report import Failure, NotApplicable
from actlab.checking.subject import Function, Subject
from actlab.checking.tensor_comparison import (
    are_equal,
    compute_gradient,
    find_first,
    format_dtype,
    format_pair,
    is_close,
    is_different,
)

_CLOSE = 1e-6  # agreement with a finite difference, relative to the sum of all magnitudes
_ROUNDING = 1e-9  # a kernel may compute the last elements of a tensor differently
_CALLS = 64  # after so many calls a counter may change the result


def check_input_unchanged(subject: Subject) -> str:
    """Verify that a call changes neither the input nor the memory around it, in every mode of autograd."""
    if subject.works_in_place:
        raise NotApplicable("the target works in place by design")
    for train in subject.modes:
        function = subject.make_function(train=train)
        for mode, context, x, memory in _make_inputs(subject):
            before = memory.clone()
            with context:
                function(x)
            if not are_equal(memory, before):
                at = find_first(is_different(memory, before))
                raise Failure(
                    f"an element of the input changed from {float(before[at]):.6g} to "
                    f"{float(memory[at]):.6g}: {mode}"
                )
    return "unchanged: leaves and intermediate results, under no_grad and inference_mode"


def _make_inputs(
    subject: Subject,
) -> Iterator[tuple[str, contextlib.AbstractContextManager[object], Tensor, Tensor]]:
    """Yield modes: their name, their context, an input, and the memory that the input is a part of."""
    nothing = contextlib.nullcontext()
    plain = subject.sample()
    yield "without gradients", nothing, plain, plain
    # A slice of a larger tensor: a function may write outside the slice.
    wide = torch.cat([subject.sample(2, seed=4), plain, subject.sample(2, seed=5)])
    yield "around the slice that was passed in", nothing, wide[2:-2], wide
    leaf = subject.sample().requires_grad_()
    yield "a leaf that requires a gradient", nothing, leaf, leaf.detach()
    other = subject.sample().requires_grad_() * 1.5
    yield "an intermediate result", nothing, other, other.detach()
    frozen = subject.sample()
    yield "under no_grad", torch.no_grad(), frozen, frozen
    with torch.inference_mode():
        inference = subject.sample().clone()
    yield "under inference_mode", torch.inference_mode(), inference, inference


def check_deterministic(subject: Subject) -> str:
    """Verify that two calls agree despite a call between them; only training may be random."""
    x, other = subject.sample(), subject.sample(seed=1)
    for train in (False, True):
        function = subject.copy_target(train=train)
        torch.manual_seed(1)
        first, _, again = (function(z.clone()) for z in (x, other, x))
        if are_equal(first, again):
            continue
        if train:
            torch.manual_seed(1)
            if are_equal(first, function(x.clone())):
                return "deterministic in evaluation mode; random in training, from torch's generator"
            raise Failure("in training mode, a call changes the result of the next call")
        at = find_first(is_different(first, again))
        one, two = format_pair(first[at], again[at], 6)
        where = f"x = {float(x[at]):.6g}" if x.shape == first.shape else "the same input"
        raise Failure(f"{where} gave {one}, and {two} after another call")
    return "two calls agree, with another call between them"


def check_repeated_calls(subject: Subject) -> str:
    """Verify that values and gradients depend on the input alone: nothing is cached, shared or counted."""
    function, weights = subject.make_function(), subject.sample(11, seed=7)
    x, other = subject.sample(11), subject.sample(11, seed=6)
    truth: list[Tensor | None] = [None, None]
    if subject.kind == "element-wise":  # in other shapes, so that no earlier result can be reused
        with torch.no_grad():
            more = subject.sample(13, seed=8)
            truth = [function(torch.cat([z, more[:size]]))[:11] for z, size in ((x, 12), (other, 13))]
    first = subject.sample(14, seed=9)
    # Other rows report a gradient that is wrong in every call.
    is_right_at_first = _find_mismatch(function, first, first, _evaluate(function, first, first)[1]) is None

    def verify(call: str, z: Tensor, y: Tensor, slope: Tensor | None, expected: Tensor | None) -> None:
        _require_values(call, z, y, expected)
        if is_right_at_first:
            _require_gradient(f"{call}, the gradient", function, z, weights, slope)

    for z, expected in zip((x, other), truth, strict=True):
        verify("in a repeated call of the same shape", z, *_evaluate(function, z, weights), expected)
    # A network that uses one activation twice calls it twice before the first backward.
    leaves = [z.clone().requires_grad_() for z in (x, other)]
    outputs = [function(leaf) for leaf in leaves]
    gradients = [
        compute_gradient(y, leaf, _crop_weights(weights, y)) for y, leaf in zip(outputs, leaves, strict=True)
    ]
    for z, y, slope, expected in zip((x, other), outputs, gradients, truth, strict=True):
        verify("in two calls before the first backward", z, y.detach(), slope, expected)
    buffer = torch.empty_like(x)
    for z, expected in zip((x, other), truth, strict=True):  # both: a result kept from above may fit one
        with torch.no_grad():
            y = function(buffer.copy_(z))
        _require_values("for a tensor that was overwritten between two calls", z, y, expected)
    for _ in range(_CALLS):
        _evaluate(function, x[:1], weights[:1])
    verify(f"after {_CALLS} calls", other, *_evaluate(function, other, weights), truth[1])
    cases = "in repeated calls, before the first backward, with a reused buffer and"
    return f"same results {cases} after {_CALLS} calls"


def check_training_mode(subject: Subject) -> str:
    """Verify that in training mode, too, backward gives the derivative of the values."""
    x, weights = subject.sample(12), subject.sample(12, seed=7)
    function = subject.make_function(train=True)
    for _ in range(3):  # a first call may set something up
        _, slope = _evaluate(function, x, weights)
        _require_gradient("in training mode, the gradient", function, x, weights, slope)
    return "the gradient is the derivative of the values"


def check_grad_modes(subject: Subject) -> str:
    """Verify that the values do not depend on whether gradients are recorded."""
    x = subject.sample(9)
    for train in subject.modes:
        expected = subject.make_function(train=train)(x.clone().requires_grad_()).detach()
        for mode, context in (
            ("without requires_grad", contextlib.nullcontext()),
            ("under no_grad", torch.no_grad()),
            ("under inference_mode", torch.inference_mode()),
        ):
            with context:
                y = subject.make_function(train=train)(x.clone())
            _require_values(f"{mode}{' in training' * train}", x, y.clone(), expected)
    return "same values with and without gradients, under no_grad and inference_mode"


def check_signed_zero(subject: Subject) -> str:
    """Verify that -0 gives the same value and gradient as 0, unless both values are infinite."""
    for dtype in (torch.float64, *subject.dtypes):
        zeros = torch.tensor([0.0, -0.0], dtype=dtype, device=subject.device)
        for what, function in (("f", subject.evaluate), ("f'", subject.differentiate)):
            plus, minus = function(zeros).tolist()
            if plus != minus and not (plus != plus and minus != minus):
                if abs(plus) == abs(minus) == float("inf"):
                    return f"{what}(0) = {plus} and {what}(-0.0) = {minus}: a pole"
                one, two = format_pair(minus, plus, 6)
                raise Failure(f"{what}(-0.0) = {one} in {format_dtype(dtype)}, expected {two} as at 0")
    return "-0.0 and 0.0 give the same value and gradient"


# -- helpers ------------------------------------------------------------------------------------------


def _evaluate(function: Function, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the values, and the gradient of their weighted sum."""
    leaf = x.clone().requires_grad_()
    y = function(leaf)
    return y.detach(), compute_gradient(y, leaf, _crop_weights(weights, y))


def _crop_weights(weights: Tensor, y: Tensor) -> Tensor:
    """Return weights for an output that may be half as long in one dimension."""
    return weights[tuple(slice(0, size) for size in y.shape)].contiguous()


def _require_values(when: str, x: Tensor, y: Tensor, expected: Tensor | None) -> None:
    if expected is None:
        return
    wrong = ~is_close(y, expected, _ROUNDING)
    if wrong.any():
        at = find_first(wrong)
        one, two = format_pair(y[at], expected[at], 6)
        where = f"f({float(x[at]):.6g})" if x.shape == y.shape else "a value"
        raise Failure(f"{when}, {where} = {one}, expected {two}")


def _require_gradient(
    what: str, function: Function, x: Tensor, weights: Tensor, slope: Tensor | None
) -> None:
    """Fail if a gradient (of the shape of x) differs from a finite difference along one direction."""
    if wrong := _find_mismatch(function, x, weights, slope):
        one, two = format_pair(*wrong, 6)
        raise Failure(f"{what} along a direction is {one}, expected {two} by a finite difference")


def _find_mismatch(
    function: Function, x: Tensor, weights: Tensor, slope: Tensor | None
) -> tuple[float, float] | None:
    """Return the slope along one direction, by gradient and by finite difference, if they differ."""
    if slope is None:
        return None
    direction = torch.linspace(-1, 1, x.numel(), dtype=x.dtype, device=x.device).view_as(x)
    estimates = []
    for step in (2e-5, 1e-5):
        with torch.no_grad():
            ahead, behind = (function(x + sign * step * direction) for sign in (1, -1))
        change = (ahead - behind) * _crop_weights(weights, ahead)
        estimates.append(float(change.sum()) / (2 * step))
    got, size = float((slope * direction).sum()), float((slope * direction).abs().sum())
    doubt = abs(estimates[0] - estimates[1])
    wrong = abs(got - estimates[1]) > _CLOSE * max(size, 1.0) + 10 * doubt
    return (got, estimates[1]) if wrong else None

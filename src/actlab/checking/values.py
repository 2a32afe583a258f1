"""Rows about values and gradients at points: each dtype against float64, float64 against a reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from actlab.checking.check_report import Failure, NotApplicable, Outcome
from actlab.checking.subject import Function, Subject
from actlab.checking.tensor_comparison import find_largest_magnitude, find_witness, format_pair

# The allowed error in units of eps times the condition of the function. A formula of several operations stays
# below it; a sum that cancels or a wrong branch does not.
MAX_ERROR = 16.0
_EXACT = 1e-9  # float64 against a reference, relative


def make_grid(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return points (n,) of a dtype: magnitudes from 1e-30 to 1e30, both signs, and dense around 0."""
    wide = torch.logspace(-30, 30, 601, dtype=torch.float64)
    near = torch.cat([torch.logspace(-3, 2, 800, dtype=torch.float64), torch.arange(1, 1025) / 64])
    positive = torch.cat([wide, near]).to(torch.float32).to(dtype)
    positive = torch.unique(positive[positive.isfinite() & (positive != 0)])
    zero = torch.zeros(1, dtype=dtype)
    return torch.cat([-positive.flip(0), -zero, zero, positive]).to(device)


def check_value(subject: Subject, dtype: torch.dtype) -> str:
    """Verify that the values agree with float64. The unit of errors is the effect of rounding the input."""
    if subject.kind != "element-wise":
        return _check_value_of_mixing(subject, dtype)
    x = make_grid(dtype, subject.device)
    scale = _estimate_steepness(subject.evaluate, subject.differentiate, x)
    return _require_float64_result("f", x, subject.evaluate(x).double(), subject.evaluate(x.double()), scale)


def _check_value_of_mixing(subject: Subject, dtype: torch.dtype) -> str:
    """Compare the values of a function that mixes elements with those in float64.

    The unit of errors is eps times the largest value.
    """
    info, worst = torch.finfo(dtype), 0.0
    for size in (1, 10, 100):
        x = (subject.sample(64) * size).to(dtype)
        with torch.no_grad():
            got, true = subject.make_function(dtype)(x).double(), subject.make_function()(x.double())
        if got.shape != true.shape:
            raise Failure(f"gives shape {tuple(got.shape)}, but {tuple(true.shape)} in float64")
        compared = true.isfinite() & (true.abs() < info.max * (1 - info.eps))
        got, true = got[compared], true[compared]
        if not len(true):
            continue
        error = (got - true).abs() / (info.eps * true.abs().max().clamp_min(info.tiny))
        at = int(error.nan_to_num(math.inf).argmax())
        if not error[at] <= MAX_ERROR:
            one, two = f"{float(got[at]):.6g}", f"{float(true[at]):.6g}"
            raise Failure(
                f"for inputs of magnitude {size}, one value is {one}, expected {two} "
                f"({float(error[at]):.3g} eps of the largest)"
            )
        worst = max(worst, float(error[at]))
    return f"worst error {worst:.2g} eps of the largest value"


def check_gradient(subject: Subject, dtype: torch.dtype) -> str:
    """Verify that the gradients agree with float64."""
    x = make_grid(dtype, subject.device)
    true = subject.differentiate(x.double())
    line = find_largest_magnitude(true[x.abs() <= 3])
    bend = _estimate_steepness(subject.differentiate, subject.differentiate_twice, x)
    return _require_float64_result("f'", x, subject.differentiate(x).double(), true, bend.clamp_min(line))


def _estimate_steepness(
    function: Function, derivative: Callable[[Tensor], Tensor | None], x: Tensor
) -> Tensor:
    """Return ``|x f'|``: how much the value changes when the input is rounded.

    Differences do not depend on a wrong backward, and backward resolves waves that are too short for
    differences. A difference of one rounding detects a jump at a number that the dtype rounds, such as 0.1.
    """
    wide = x.double()
    scale = torch.zeros_like(wide)
    for step in ((wide.abs() * 1e-3).clamp_min(1e-9), wide.abs() * torch.finfo(x.dtype).eps):
        by_difference = wide * (function(wide + step) - function(wide - step)) / (2 * step)
        scale = torch.maximum(scale, by_difference.abs().nan_to_num(0, 0, 0))
    try:
        slope = derivative(wide)
    except (Outcome, RuntimeError):  # the row of the derivative reports it
        return scale
    return scale if slope is None else torch.maximum(scale, (wide * slope).abs().nan_to_num(0, 0, 0))


def _require_float64_result(what: str, x: Tensor, got: Tensor, true: Tensor, scale: Tensor) -> str:
    info = torch.finfo(x.dtype)
    # Below it exp underflows and torch flushes to 0.
    floor = info.tiny if x.dtype is torch.float16 else info.tiny**0.8
    scale = torch.maximum(true.abs(), scale).clamp_min(floor)
    error = (got - true).abs() / (info.eps * scale)
    compared = true.isfinite() & (true.abs() < info.max * (1 - info.eps)) & got.isfinite()
    error = torch.where(compared, error, 0.0)
    bad = error > MAX_ERROR
    if bad.any():
        at = find_witness(x, bad, error)
        one, two = format_pair(got[at], true[at], 6)
        raise Failure(
            f"{what}({_format_number(x[at])}) = {one}, expected {two} "
            f"({float(error[at]):.3g} eps, allowed {MAX_ERROR:g}; worst {float(error.max()):.3g} "
            f"at x = {_format_number(x[error.argmax()])})"
        )
    return f"worst error {float(error.max()):.2g} eps, at x = {_format_number(x[error.argmax()])}"


def check_finite(subject: Subject, dtype: torch.dtype) -> str:
    """Verify that values and gradients are finite where the float64 results fit into this dtype."""
    x, most = make_grid(dtype, subject.device), torch.finfo(dtype).max
    for what, function in (("f", subject.evaluate), ("f'", subject.differentiate)):
        true, got = function(x.double()), function(x)
        bad = true.isfinite() & (true.abs() < most) & ~got.isfinite()
        if bad.any():
            at = find_witness(x, bad, torch.ones_like(true))
            raise Failure(
                f"{what}({_format_number(x[at])}) = {float(got[at])}, expected {float(true[at]):.6g}"
            )
    return f"{len(x)} points from 1e-30 to {float(x.max()):.0e}, both signs"


def check_infinities(subject: Subject, dtype: torch.dtype) -> str:
    """Verify that NaN gives NaN, and that infinity gives the same result as in float64."""
    odd = torch.tensor([math.nan, -math.inf, math.inf], dtype=dtype, device=subject.device)
    got, true = subject.evaluate(odd), subject.evaluate(odd.double())
    if not got[0].isnan():
        raise Failure(f"f(nan) = {float(got[0]):.6g}, expected nan")
    missing = []
    limits = (math.nan, math.nan) if subject.declared is None else subject.declared.definition.limits()
    for x, value, expected, limit in zip(odd[1:], got[1:], true[1:], limits, strict=True):
        if expected.isnan():
            if not math.isnan(limit):
                raise Failure(f"f({float(x)}) = {float(value):.6g}, expected {limit:.6g}, the declared limit")
            missing.append(f"f({float(x)})")
        elif not torch.isclose(value.double(), expected.to(dtype).double(), rtol=4 * torch.finfo(dtype).eps):
            raise Failure(f"f({float(x)}) = {float(value):.6g}, expected {float(expected):.6g} as in float64")
    if not missing:
        return "same as in float64"
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} nan in float64, too, instead of the limit"


def check_reference(subject: Subject) -> str:
    """Verify that values, and gradients if the reference has them, agree with the reference in float64.

    The default reference of a definition is the formula that it declares.
    """
    chosen = subject.reference
    if chosen is None:
        if subject.declared is None:
            raise NotApplicable("no reference was given")
        chosen = subject.declared.make_reference()
    subject.require("element-wise")
    x = make_grid(torch.float64, subject.device)
    x = x[:: max(1, len(x) // chosen.max_points)]
    value, slope = chosen.evaluate(subject.arrange(x))
    pairs = {"f": (subject.evaluate(x), value)}
    if slope is not None:
        pairs["f'"] = (subject.differentiate(x), slope)
    for what, (got, wanted) in pairs.items():
        true = subject.unarrange(wanted, len(x))
        # A derivative computed from the output is not more accurate.
        least = 1e-5 * find_largest_magnitude(true[x.abs() <= 3])
        error = (got - true).abs() / true.abs().clamp_min(max(least, 1e-9))
        bad = true.isfinite() & ~(error <= _EXACT)
        if bad.any():
            at = find_witness(x, bad, error)
            one, two = format_pair(got[at], true[at])
            raise Failure(f"{what}({_format_number(x[at])}) = {one}, expected {two} by {chosen.name}")
    by = f", by {chosen.name}" if subject.reference is None else ""
    return f"{' and '.join(pairs)} at {len(x)} points, in float64{by}"


def _format_number(x: Tensor) -> str:
    return f"{float(x):.6g}"

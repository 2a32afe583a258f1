"""The row that verifies the declared limits, slopes, range and monotonicity."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from actlab.checking.check_report import Failure
from actlab.checking.declared_facts import DeclaredFacts
from actlab.checking.subject import Subject
from actlab.checking.values import make_grid

_DIGITS = 1e-6  # declared numbers may be written with six digits
_ROUNDING = 1e-12
_FAR = (1e15, 1e30)
_REACHED = 1e3  # a function that exceeds it is unbounded
_ROUNDS, _PARTS = 8, 65  # of the search for an extreme value


def check_facts(subject: Subject) -> str:
    """Verify that the facts that the definition declares agree with the values."""
    declared = subject.declared
    assert declared is not None
    x = make_grid(torch.float64, subject.device)
    if wrong := [
        *_find_wrong_ends(subject, declared),
        *_find_wrong_range(subject, declared, x),
        *_find_wrong_turns(subject, declared, x),
    ]:
        raise Failure("; ".join(wrong))
    more = "limits, slopes, range and monotonicity" if declared.is_usual else "limits, slopes and range"
    return f"{more} are as declared"


def _find_wrong_ends(subject: Subject, declared: DeclaredFacts) -> Iterator[str]:
    """Compare limits and slopes with the values at infinity and at large inputs."""
    for what, function, ends in (
        ("f", subject.evaluate, declared.definition.limits()),
        ("f'", subject.differentiate, declared.definition.slopes()),
    ):
        for sign, end in zip((-1, 1), ends, strict=True):
            points = [sign * point for point in (*_FAR, math.inf)]
            x = torch.tensor(points, dtype=torch.float64, device=subject.device)
            near, far, there = function(x).tolist()
            at = f"{what}({points[-1]})"
            if math.isnan(end):  # no limit
                continue
            if not math.isclose(there, end, rel_tol=_DIGITS, abs_tol=_ROUNDING):
                yield f"{at} = {there:.6g}, declared {end:.6g}"
            elif not _approaches(near, far, end):
                yield f"{what}({points[1]:g}) = {far:.6g}, declared {end:.6g} at {points[-1]}"


def _approaches(near: float, far: float, end: float) -> bool:
    """Return whether two values, the second at a larger input, approach a third."""
    if math.isinf(end):
        sign = math.copysign(1, end)
        return far == end or sign * far > max(sign * near, 0)
    error = abs(far - end)
    return error <= _DIGITS * max(1.0, abs(end)) or error < 0.75 * abs(near - end)


def _find_wrong_range(subject: Subject, declared: DeclaredFacts, x: Tensor) -> Iterator[str]:
    ends = torch.tensor([-math.inf, math.inf], dtype=x.dtype, device=x.device)
    x = torch.cat([ends[:1], x, ends[1:]])
    for sign, end, word in zip((-1, 1), declared.definition.range(), ("least", "greatest"), strict=True):
        if math.isnan(end):  # not declared for these parameters
            continue
        point, reached = _find_extreme(subject, x, sign)
        if end == sign * math.inf:
            is_reached = sign * reached > _REACHED or any(
                _approaches(near, far, end)
                for near, far in (subject.evaluate(side * x.new_tensor(_FAR)).tolist() for side in (-1, 1))
            )
        else:
            is_reached = math.isclose(reached, end, rel_tol=_DIGITS, abs_tol=_ROUNDING)
        if not is_reached:
            yield f"the {word} value is f({point:.6g}) = {reached:.6g}, declared {end:.6g}"


def _find_extreme(subject: Subject, x: Tensor, sign: int) -> tuple[float, float]:
    """Return where ``sign * f`` is greatest, and f there, by repeatedly refining the grid."""
    best, reached = math.nan, -math.inf
    for _ in range(_ROUNDS):
        y = (sign * subject.evaluate(x)).nan_to_num(-math.inf, math.inf, -math.inf)
        at = int(y.argmax())
        if not reached >= float(y[at]):
            best, reached = float(x[at]), float(y[at])
        low, high = float(x[max(at - 1, 0)]), float(x[min(at + 1, len(x) - 1)])
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            break
        x = torch.linspace(low, high, _PARTS, dtype=x.dtype, device=x.device)
    return best, sign * reached


def _find_wrong_turns(subject: Subject, declared: DeclaredFacts, x: Tensor) -> Iterator[str]:
    if declared.monotonic is None:
        return
    y = subject.evaluate(x)
    steps = y.diff()
    room = _ROUNDING * y[1:].abs().clamp_min(_ROUNDING)
    falls, rises = steps < -room, steps > room
    turns = bool(falls.any() and rises.any())
    if declared.monotonic and turns:
        fewer, word = (falls, "falls") if falls.sum() <= rises.sum() else (rises, "rises")
        at = int(torch.where(fewer, x[1:].abs(), math.inf).argmin())
        before, after = (f"f({float(x[i]):.6g}) = {float(y[i]):.6g}" for i in (at, at + 1))
        yield f"the value {word} from {before} to {after}, declared monotonic"
    # A derived formula declares that a decreasing function is not monotonic.
    if not declared.monotonic and not (turns or falls.any()):
        yield f"f is monotonic at {len(x)} points, declared not monotonic"

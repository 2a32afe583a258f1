"""Verify derivatives against finite differences; find kinks and jumps; verify the gradients of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from actlab.checking.check_report import Failure, NotApplicable
from actlab.checking.declared_facts import DeclaredFacts
from actlab.checking.subject import Subject
from actlab.checking.tensor_comparison import find_witness, find_worst, format_pair, is_close

_FLAT = 1e-12  # a slope that is 0
_POLE = 1e6  # a slope within 1e-9 of a pole
_CLOSE = 1e-6  # agreement with a finite difference, relative to the largest in its neighbourhood


def sample_points(device: torch.device) -> Tensor:
    """Return points (n,) in float64: dense around 0, and sparser further out."""
    near = torch.linspace(-8, 8, 257, dtype=torch.float64) + 0.0123
    far = torch.logspace(-6, 4, 81, dtype=torch.float64) * 1.0123
    return torch.cat([near, far, -far]).sort().values.to(device)


def estimate_derivative(
    function: Callable[[Tensor], Tensor], x: Tensor, widest: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the derivative from five-point differences of two widths, and its uncertainty.

    The uncertainty is the difference of the two, plus the rounding error of the values.
    """
    estimates = []
    if widest is None:
        widest = (x.abs() * 1e-3).clamp(1e-6, 1e-2)
    for step in (widest, widest / 2):
        outer = function(x + 2 * step) - function(x - 2 * step)
        inner = function(x + step) - function(x - step)
        estimates.append((8 * inner - outer) / (12 * step))
    rounding = torch.finfo(x.dtype).eps * function(x).abs() / widest
    return estimates[1], (estimates[0] - estimates[1]).abs() + rounding.nan_to_num(torch.inf)


def check_first_derivative(subject: Subject) -> str:
    """Verify by finite differences that backward gives the derivative of the values."""
    if subject.kind != "element-wise":
        _run_gradcheck(torch.autograd.gradcheck, subject, subject.sample(2).requires_grad_())
        return "gradcheck"
    x = sample_points(subject.device)
    expected, uncertainty = estimate_derivative(subject.evaluate, x)
    y = subject.make_function()(subject.arrange(x).requires_grad_())
    if not y.requires_grad and not (expected[uncertainty < _CLOSE] != 0).any():
        return "0 everywhere: the function is piecewise constant, and its output is detached"
    return _require_agreement("f'", x, subject.differentiate(x), expected, uncertainty)


def check_second_derivative(subject: Subject) -> str:
    """Verify that backward twice gives the derivative of backward once."""
    if subject.kind != "element-wise":
        x = subject.sample(2).requires_grad_()
        _run_gradcheck(torch.autograd.gradgradcheck, subject, x)
        return "gradgradcheck"
    x = sample_points(subject.device)
    expected, uncertainty = estimate_derivative(subject.differentiate, x)
    got = subject.differentiate_twice(x)
    steep = (expected.abs() > _CLOSE) & (uncertainty < _CLOSE)
    _check_derivative_by_incoming(subject, x)
    if got is None and steep.any():
        at = int(torch.where(steep, x.abs(), torch.inf).argmin())
        point, slope = float(x[at]), float(expected[at])
        raise Failure(f"the gradient cannot be differentiated, expected f''({point:.6g}) = {slope:.6g}")
    if got is None:
        return "0 everywhere: the function is piecewise linear"
    detail = _require_agreement("f''", x, got, expected, uncertainty)
    calm = x[(uncertainty < _CLOSE) & (x.abs() < 4)][::16]
    _run_gradcheck(torch.autograd.gradgradcheck, subject, subject.arrange(calm).requires_grad_())
    return f"{detail}; gradgradcheck"


def _check_derivative_by_incoming(subject: Subject, x: Tensor) -> None:
    """Verify the derivative with respect to the incoming gradient, which a gradient penalty uses."""
    leaf = subject.arrange(x).requires_grad_()
    y = subject.make_function()(leaf)
    if not y.requires_grad:
        return
    incoming = torch.ones_like(y).requires_grad_()
    (slope,) = torch.autograd.grad(y, leaf, incoming, create_graph=True)
    wanted = slope.detach()
    if not slope.requires_grad and not wanted.any():
        return
    if not slope.requires_grad:
        raise Failure("the gradient is detached from the incoming gradient: a gradient penalty has no effect")
    # Through the whole graph: an error may occur anywhere in it.
    torch.autograd.backward(slope, torch.ones_like(slope))
    got = torch.zeros_like(wanted) if incoming.grad is None else incoming.grad
    wrong = ~is_close(got, wanted, 1e-9) & wanted.isfinite()
    if wrong.any():
        at = find_worst(wrong, got, wanted)
        one, two = format_pair(got[at], wanted[at], 6)
        point = float(leaf[at])
        raise Failure(
            f"at x = {point:.6g}, the derivative of the gradient with respect to the incoming "
            f"gradient is {one}, expected {two}"
        )


def _require_agreement(what: str, x: Tensor, got: Tensor, expected: Tensor, uncertainty: Tensor) -> str:
    scale = expected.abs().clamp_min(1e-2)
    # Exclude kinks, and waves that are too short.
    compared = (uncertainty < 1e-4 * scale) & expected.isfinite()
    if compared.sum() < len(x) // 2:
        compared = expected.isfinite() & uncertainty.isfinite()
    error = ((got - expected).abs() - 10 * uncertainty) / scale
    bad = compared & ~(error <= _CLOSE)
    if bad.any():
        at = find_witness(x, bad, (got - expected).abs() / scale)
        point, (one, two) = float(x[at]), format_pair(got[at], expected[at])
        count = f"{int(bad.sum())} of {len(x)} points are wrong"
        raise Failure(f"{what}({point:.6g}) = {one}, expected {two} ({count})")
    return f"{int(compared.sum())} points up to 1e4, compared with finite differences"


def _run_gradcheck(check: Callable[..., bool], subject: Subject, x: Tensor) -> None:
    try:
        check(subject.make_function(), (x,), atol=1e-5, rtol=1e-4)
    except GradcheckError as error:
        raise Failure(f"{check.__name__}: {' '.join(str(error).split())[:160]}") from error


# -- kinks and jumps --------------------------------------------------------------------------------


def find_jumps(
    function: Callable[[Tensor], Tensor], device: torch.device
) -> list[tuple[float, float, float]]:
    """Return the jumps of a function between -10 and 10: the points and the values on either side.

    Bisect every grid interval in which the function changes much, until the ends are neighbouring numbers.
    """
    x = (torch.arange(-1280, 1281, dtype=torch.float64) / 128).to(device)
    y = function(x)
    steep = y.diff().abs() > 1e-3 * y[1:].abs().clamp(1, 100)
    low, high, at_low, at_high = x[:-1][steep], x[1:][steep], y[:-1][steep], y[1:][steep]
    for halving in range(64):
        if not len(low):
            return []
        middle = (low + high) / 2
        at_middle = function(middle)
        left = (at_middle - at_low).abs() > (at_high - at_middle).abs()
        low, at_low = torch.where(left, low, middle), torch.where(left, at_low, at_middle)
        high, at_high = torch.where(left, middle, high), torch.where(left, at_middle, at_high)
        if halving == 12:  # where the function is only steep, the difference is nearly 0 now
            still = (at_high - at_low).abs() > 1e-4 * at_low.abs().clamp_min(1)
            low, high, at_low, at_high = low[still], high[still], at_low[still], at_high[still]
    if not len(low):
        return []
    around = torch.cat([low - 1e-9, high + 1e-9, low - 1e-6, high + 1e-6])
    before, after, outside, beyond = function(around).view(4, -1)
    across = (after - before).abs()
    # At a steep point the difference shrinks with the distance, at a jump it does not.
    is_jump = (across >= 1e-4 * before.abs().clamp_min(1)) & (across >= 0.5 * (beyond - outside).abs())
    jumps: list[tuple[float, float, float]] = []
    for one, two, *sides in torch.stack([low, high, before, after])[:, is_jump].T.tolist():
        point = _choose_round_number(one, two)
        if all(abs(point - earlier) > 1e-5 for earlier, *_ in jumps):
            jumps.append((point, sides[0], sides[1]))
    return jumps


def _choose_round_number(low: float, high: float) -> float:
    """Return the shortest decimal number between two neighbours, which is probably the one in the code."""
    for digits in range(13):
        if abs(round(low, digits) - low) <= 1e-12 or abs(round(high, digits) - high) <= 1e-12:
            return round(high, digits) + 0.0
    return high


def check_kinks(subject: Subject) -> str:
    """Verify that the gradient at a kink lies between those of the sides, and is 0 if one side is flat."""
    details, points = [], []
    for point, before, after in find_jumps(subject.differentiate, subject.device):
        points.append(point)
        if max(abs(before), abs(after)) > _POLE:
            details.append(f"f' has a pole at {point:.6g}")
            continue
        chosen = _compute_slopes(subject, point)[0]
        low, high = sorted((before, after))
        room = 1e-4 * max(1.0, abs(low), abs(high))
        detail = f"f'({point:.6g}) = {chosen:.6g}, between {before:.6g} and {after:.6g}"
        if not low - room <= chosen <= high + room:
            raise Failure(f"f'({point:.6g}) = {chosen:.6g}, expected from {low:.6g} to {high:.6g}")
        if abs(chosen) > _FLAT and _is_cut(subject, point):
            raise Failure(f"{detail}; expected 0, as in torch: the function is constant on one side")
        details.append(detail)
    if points:
        _require_slopes_beside(subject, points)
    if subject.declared is not None:
        _require_declared_kinks(subject, subject.declared, points)
    more = f"; and {len(details) - 4} more" if len(details) > 4 else ""
    return "; ".join(details[:4]) + more or "none between -10 and 10"


def _require_slopes_beside(subject: Subject, points: list[float]) -> None:
    """Fail if the gradient on a side of a jump is not the derivative of the values there."""
    jumps = torch.tensor(points, dtype=torch.float64, device=subject.device)
    step = 1e-4 * jumps.abs().clamp_min(1)
    x, steps = torch.cat([jumps - 3 * step, jumps + 3 * step]), torch.cat([step, step])
    expected, uncertainty = estimate_derivative(subject.evaluate, x, steps)
    _require_agreement("f'", x, subject.differentiate(x), expected, uncertainty)


def _is_cut(subject: Subject, point: float) -> bool:
    """Return whether the input is clipped at a point: a round number with a constant on one side."""
    if round(point, 6) != point:  # the kink of tanh(x) > 0.5 lies between two floating-point numbers
        return False
    slopes = _compute_slopes(subject, *(point + step for step in (-1e-3, -1e-9, 1e-9, 1e-3)))
    return any(max(map(abs, side)) < _FLAT for side in (slopes[:2], slopes[2:]))


def _compute_slopes(subject: Subject, *points: float) -> list[float]:
    slopes = subject.differentiate(torch.tensor(points, dtype=torch.float64, device=subject.device))
    return [float(slope) for slope in slopes]


def _require_declared_kinks(subject: Subject, declared: DeclaredFacts, points: list[float]) -> None:
    """Fail if the kinks and the gradients there are not those that the definition declares."""
    kinks = declared.definition.kinks()
    for point in points:
        if all(abs(point - kink) > 1e-5 for kink in kinks):
            names = ", ".join(f"{kink:.6g}" for kink in sorted(kinks)) or "none"
            raise Failure(f"f' jumps at {point:.6g}; the declared kinks are {names}")
    for kink, slope in sorted(kinks.items()):
        chosen = _compute_slopes(subject, kink)[0]
        if not math.isclose(chosen, slope, rel_tol=1e-6, abs_tol=1e-9):
            raise Failure(f"f'({kink:.6g}) = {chosen:.6g}, declared {slope:.6g}")
        # A parameter may remove a kink, such as a slope of 1 below 0.
        functions = (subject.differentiate, subject.evaluate)
        if declared.is_usual and not any(_jumps_at(f, kink, subject) for f in functions):
            raise Failure(f"f' does not jump at {kink:.6g}, a declared kink")


def _jumps_at(function: Callable[[Tensor], Tensor], point: float, subject: Subject) -> bool:
    steps = [side * reach * max(1.0, abs(point)) for reach in (1e-9, 1e-6) for side in (-1, 1)]
    around = [point + step for step in steps]
    values = function(torch.tensor(around, dtype=torch.float64, device=subject.device))
    across, wider = (abs(float(values[i + 1] - values[i])) for i in (0, 2))
    return across > max(1e-9, 0.5 * wider)


def check_continuity(subject: Subject) -> str:
    """Report where the value itself jumps, which is not a fault."""
    jumps = find_jumps(subject.evaluate, subject.device)
    details = [f"jumps at {point:.6g} from {before:.6g} to {after:.6g}" for point, before, after in jumps]
    return "; ".join(details[:4]) or "no jump between -10 and 10"


# -- trained parameters -----------------------------------------------------------------------------


def check_parameter_gradients(subject: Subject) -> str:
    """Verify the gradients of trained parameters, summed over the batch, by finite differences."""
    module: nn.Module = subject.copy_target()
    names = [n for n, p in module.named_parameters() if p.requires_grad]
    if not names:
        raise NotApplicable("the module has no trained parameters")
    x, weights = subject.sample(), subject.sample(seed=2)

    def loss() -> Tensor:
        torch.manual_seed(0)
        y: Tensor = module(x.clone())
        return (y * weights[..., : y.shape[-1]]).sum()

    named = dict(module.named_parameters())
    start = loss()
    if not start.requires_grad:
        raise Failure(f"{names[0]} gets no gradient: the output is detached")
    gradients = torch.autograd.grad(start, [named[n] for n in names], allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            raise Failure(f"{name} gets no gradient")
        flat = named[name].data.view(-1)
        for index in range(min(len(flat), 4)):
            # They differ if the parameter is at a kink.
            low, high = sorted(_estimate_one_sided_slopes(loss, flat, index))
            got = float(gradient.reshape(-1)[index])
            room = 1e-5 * max(1.0, abs(low), abs(high))
            if not low - room <= got <= high + room and not math.isnan(low + high):
                one, two = format_pair(got, (low + high) / 2, 6)
                raise Failure(f"the gradient of {name}[{index}] is {one}, expected {two}")
    return f"{', '.join(names)}: compared with finite differences"


def _estimate_one_sided_slopes(loss: Callable[[], Tensor], flat: Tensor, index: int) -> tuple[float, float]:
    """Return the differences of a loss below and above the value of a parameter."""
    start, sides = float(flat[index]), []
    step = 1e-6 * max(1.0, abs(start))
    with torch.no_grad():
        for moved in (start - step, start, start + step):
            flat[index] = moved
            sides.append(float(loss()))
        flat[index] = start
    return (sides[1] - sides[0]) / step, (sides[2] - sides[1]) / step

"""Elementary functions of any real argument, for programs of formulas."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actlab.activation import numerics

aten = torch.ops.aten


def erf(u: Tensor) -> Tensor:
    """Return the error function."""
    if not numerics.uses_compiled_forms():
        return torch.erf(u)
    return torch.copysign(numerics.erf_of_positive(u.abs().clamp_max(28)), u)


def erfc(u: Tensor) -> Tensor:
    """Return the complementary error function, accurate in its right tail."""
    if not numerics.uses_compiled_forms() or u.dtype is torch.float64:
        tail: Tensor = torch.special.erfc(u)
        return tail
    twice: Tensor = 2 * numerics.normal_cdf(u.clamp(-28, 28) * -(2**0.5))
    return twice


def normal_cdf(u: Tensor) -> Tensor:
    """Return the normal distribution function, accurate in its left tail."""
    return numerics.normal_cdf(u.clamp(-40, 40))


def bell(u: Tensor) -> Tensor:
    """Return ``exp(-u^2 / 2)``; a kernel shares it with the normal distribution function."""
    near = u.clamp(-40, 40)
    if numerics.uses_compiled_forms():
        near = near.abs()
    return torch.exp(near * near * -0.5)


def tanh_slope(u: Tensor) -> Tensor:
    """Return the derivative of the hyperbolic tangent, accurate in both tails; below 1e-160 it may be 0."""
    return numerics.tanh_and_slope(u.abs())[1]


def tanh_beside_slope(u: Tensor) -> Tensor:
    """Return the hyperbolic tangent; a kernel shares the common part with its derivative."""
    if not numerics.uses_compiled_forms():
        return torch.tanh(u)
    size = numerics.tanh_and_slope(u.abs())[0]
    return torch.where(u < 0, -size, size)


def root(u: Tensor, rest: Any) -> Tensor:
    """Return ``sqrt(u^2 + rest)``, or ``abs(u)`` where the square would overflow."""
    near = u.clamp(-1e15, 1e15)
    return torch.maximum((near * near + rest).sqrt(), u.abs())


def above(u: Tensor, bound: Any, yes: Any, no: Any) -> Tensor:
    """Return ``yes`` where u is above a bound, ``no`` elsewhere; NaN selects a side that is a tensor."""
    if torch.compiler.is_compiling() or isinstance(bound, Tensor):
        return torch.where(u > bound, yes, no) if isinstance(no, Tensor) else _where(u <= bound, no, yes, u)
    return _add_sides(u, bound, _previous(-bound, u.dtype), yes, no)


def at_least(u: Tensor, bound: Any, yes: Any, no: Any) -> Tensor:
    """Return ``yes`` where u is at least a bound, ``no`` elsewhere; NaN as in :func:`above`."""
    if torch.compiler.is_compiling() or isinstance(bound, Tensor):
        return torch.where(u >= bound, yes, no) if isinstance(no, Tensor) else _where(u < bound, no, yes, u)
    return _add_sides(u, _previous(bound, u.dtype), -bound, yes, no)


def between(u: Tensor, low: Any, high: Any, yes: Any) -> Tensor:
    """Return ``yes`` where u is strictly between two numbers, 0 elsewhere."""
    if torch.compiler.is_compiling() or isinstance(low, Tensor) or isinstance(high, Tensor):
        return _where((u > low) & (u < high), yes, 0.0, u)
    result: Tensor = aten.hardtanh_backward(_full(u, yes), u, low, high)
    return result


def _add_sides(u: Tensor, yes_above: float, no_above: float, yes: Any, no: Any) -> Tensor:
    """Return the sum of ``yes`` where u is above one bound and of ``no`` where -u is above another.

    On a CPU torch.where takes the time of 30 additions: it branches, and random signs are not predicted.
    """
    parts = []
    for value, size, bound in ((yes, u, yes_above), (no, -u, no_above)):
        if isinstance(value, Tensor) or value != 0:
            parts.append(aten.threshold_backward(_full(u, value), size, bound))
    if not parts:
        return torch.zeros_like(u)
    if len(parts) == 1:
        return parts[0]
    return parts[0] + parts[1] if torch.is_grad_enabled() else parts[0].add_(parts[1])


def _where(condition: Tensor, yes: Any, no: Any, u: Tensor) -> Tensor:
    """Return torch.where; two numbers get the dtype of u."""
    numbers = not (isinstance(yes, Tensor) or isinstance(no, Tensor))
    return torch.where(condition, torch.full_like(u, yes) if numbers else yes, no)


def _full(u: Tensor, value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else u.new_full((), value).expand_as(u)


@functools.lru_cache(512)
def _previous(bound: float, dtype: torch.dtype) -> float:
    """Return the number of a dtype that precedes a bound."""
    kind = np.float64 if dtype is torch.float64 else np.float32
    return float(np.nextafter(kind(bound), kind(-np.inf)))


_LARGE = 1e9  # its square absorbs 1 and is finite in float32


def asinh(u: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine, accurate near 0."""
    if not numerics.uses_compiled_forms():
        return torch.asinh(u)
    a = u.abs()
    near = a.clamp_max(_LARGE)
    square = near * near
    inner = torch.log1p(near + square / (1 + torch.sqrt(1 + square)))
    return torch.copysign(torch.where(a < _LARGE, inner, torch.log(a) + math.log(2)), u)


def acosh(u: Tensor) -> Tensor:
    """Return the inverse hyperbolic cosine, accurate near 1."""
    if not numerics.uses_compiled_forms():
        return torch.acosh(u)
    above = u - 1
    near = above.clamp_max(_LARGE)
    inner = torch.log1p(near + torch.sqrt(near * (near + 2)))
    return torch.where(above < _LARGE, inner, torch.log(u) + math.log(2))


def atanh(u: Tensor) -> Tensor:
    """Return the inverse hyperbolic tangent, accurate near 0."""
    if not numerics.uses_compiled_forms():
        return torch.atanh(u)
    a = u.abs()
    return torch.copysign(torch.log1p(2 * a / (1 - a)) / 2, u)

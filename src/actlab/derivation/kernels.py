"""Elementary functions of any real argument, for programs whose arguments nobody has looked at."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from actlab import _numerics as numerics


def erf(u: Tensor) -> Tensor:
    """Return the error function."""
    if not numerics.compiled():
        return torch.erf(u)
    return torch.copysign(numerics.erf_of_positive(u.abs().clamp_max(28)), u)


def erfc(u: Tensor) -> Tensor:
    """Return the complementary error function, exact in its right tail."""
    if not numerics.compiled() or u.dtype is torch.float64:
        tail: Tensor = torch.special.erfc(u)
        return tail
    twice: Tensor = 2 * numerics.normal_cdf(u.clamp(-28, 28) * -(2**0.5))
    return twice


def normal_cdf(u: Tensor) -> Tensor:
    """Return the normal distribution function, exact in its left tail."""
    return numerics.normal_cdf(u.clamp(-40, 40))


def tanh_slope(u: Tensor) -> Tensor:
    """Return the derivative of the hyperbolic tangent, exact near 0; below 1e-160 it may be 0."""
    return numerics.tanh_and_slope(u.abs())[1]


_LARGE = 1e9  # beside its square a 1 is lost, and in float32 the square is a number still


def asinh(u: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine, exact near 0."""
    if not numerics.compiled():
        return torch.asinh(u)
    a = u.abs()
    near = a.clamp_max(_LARGE)
    square = near * near
    inner = torch.log1p(near + square / (1 + torch.sqrt(1 + square)))
    return torch.copysign(torch.where(a < _LARGE, inner, torch.log(a) + math.log(2)), u)


def acosh(u: Tensor) -> Tensor:
    """Return the inverse hyperbolic cosine, exact near 1."""
    if not numerics.compiled():
        return torch.acosh(u)
    above = u - 1
    near = above.clamp_max(_LARGE)
    inner = torch.log1p(near + torch.sqrt(near * (near + 2)))
    return torch.where(above < _LARGE, inner, torch.log(u) + math.log(2))


def atanh(u: Tensor) -> Tensor:
    """Return the inverse hyperbolic tangent, exact near 0."""
    if not numerics.compiled():
        return torch.atanh(u)
    a = u.abs()
    return torch.copysign(torch.log1p(2 * a / (1 - a)) / 2, u)

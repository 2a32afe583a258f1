"""Elementary functions of any real argument, for programs whose arguments nobody has looked at."""

from __future__ import annotations

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

"""Tanh-gated functions: the input times a hyperbolic tangent, or an error function, of something positive."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from actlab.activation.definition import elementwise
from actlab.activation.numerics import (
    CERTAIN,
    FAR,
    erf_of_positive,
    exp,
    finite_gate,
    sech,
    sigmoid_to_the_last,
    tanh,
    tanh_and_slope,
)
from actlab.functions.sigmoid_gated import exact_gelu, exact_gelu_second, exact_gelu_with_slope

inf = math.inf
aten = torch.ops.aten

_STEEP = 6.0  # the second derivative of tanhexp is 0 from here, in float64 too
_FLAT = 3.7  # tanh(exp(_FLAT)) is 1, in float64 too; beyond 4.5, exponentials become subnormal, which is slow
_WIDE = 400.0  # the slope of tanh at _WIDE is 0, in float64 too
_ERF_SLOPE = 2 / math.sqrt(math.pi)


def _softplus(x: Tensor) -> Tensor:
    """Return softplus of x, clamped where the error function of softplus is 1."""
    return aten.softplus(x.clamp_max(28), 1, CERTAIN)


@elementwise(
    formula="x * tanh(log(1 + exp(x)))",
    limits=(0, inf),
    slopes=(0, 1),
    range=(-0.30884341301725041, inf),
    monotonic=False,
    paper="Misra 2019",
    torch_equivalent="Mish",
    inplace=True,
)
def mish(x: Tensor) -> Tensor:
    """Mish: ``x * tanh(softplus(x))``."""
    # x n / (n + 2) with n = exp(x) (exp(x) + 2)
    e = exp(x.clamp_max(20))  # at 20 the quotient is 1, in float64 too
    n = (e + 2).mul_(e)
    return n.div_(n + 2).mul_(x.clamp_min(-FAR))


@mish.derivative
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, 20)
    e = exp(x)
    m = (e + 2).mul_(e).add_(2)
    # Factor e out of the sum, so that its error counts once.
    return (e + 1).mul_(x).mul_(4).div_(m).add_(e).add_(2).mul_(e).div_(m)


@mish.second
def _(x: Tensor) -> Tensor:
    c = x.clamp(-FAR, FAR)
    e = torch.exp(-c.abs())  # the power of exp(x) that decays on either side
    m = e * e + 2 * e + 2
    below = (8 * (e + 1) * m + 4 * c * (2 + 2 * e - 3 * e * e - 2 * e**3)) / m**3 * e
    m = 1 + 2 * e + 2 * e * e
    above = (8 * (1 + e) * m + 4 * c * (2 * e**3 + 2 * e * e - 3 * e - 2)) / m**3 * e * e
    return torch.where(x > 0, above, below)


Mish = mish.module("Mish")


@elementwise(
    formula="x * tanh(exp(x))",
    limits=(0, inf),
    slopes=(0, 1),
    range=(-0.35328577784821127, inf),
    monotonic=False,
    paper="Liu & Di 2020",
)
def tanhexp(x: Tensor) -> Tensor:
    """TanhExp: ``x * tanh(exp(x))``."""
    return x.clamp_min(-FAR).mul_(tanh(exp(x.clamp_max(_FLAT))))


@tanhexp.derivative
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, _FLAT)
    e = exp(x)
    value, slope = tanh_and_slope(e)
    return torch.addcmul(value, x * e, slope)


@tanhexp.second
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, _STEEP)
    e = x.exp()
    root = sech(e)
    return e * (2 + x * (1 - 2 * e * tanh(e))) * root * root


TanhExp = tanhexp.module("TanhExp")

telu = tanhexp.also_known_as(
    "telu", paper="Fernandez & Mali 2024", summary="TeLU, the hyperbolic tangent exponential linear unit."
)
TeLU = telu.module("TeLU")


@elementwise(
    formula="x * erf(log(1 + exp(x)))",
    limits=(0, inf),
    slopes=(0, 1),
    range=(-0.34843745875960642, inf),
    monotonic=False,
    paper="Nag et al. 2023",
)
def serf(x: Tensor) -> Tensor:
    """Serf: ``x * erf(softplus(x))``."""
    return erf_of_positive(_softplus(x)).mul_(x.clamp_min(-FAR))


@serf.derivative
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, 28)
    u = _softplus(x)
    return torch.add(erf_of_positive(u), finite_gate(x * exp(u * u, -1), x), alpha=_ERF_SLOPE)


@serf.second
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, 28)
    u, s = _softplus(x), sigmoid_to_the_last(x)
    return torch.exp(-u * u) * s * (2 + x * (torch.sigmoid(-x) - 2 * u * s)) * _ERF_SLOPE


Serf = serf.module("Serf")


@elementwise(
    formula="x * tanh(log(1 + 1 / (1 + exp(-x))))",
    limits=(0, inf),
    slopes=(0, 0.6),
    range=(-0.24999366366012949, inf),
    monotonic=False,
    paper="Wang et al. 2022",
)
def smish(x: Tensor) -> Tensor:
    """Smish: ``x * tanh(log(1 + sigmoid(x)))``."""
    # x e (3e + 2) / (5e^2 + 6e + 2) with e = exp(x)
    e = exp(x.clamp_max(CERTAIN))
    return (3 * e + 2).mul_(e).div_(_smish_quotient(e)).mul_(x.clamp_min(-FAR))


def _smish_quotient(e: Tensor) -> Tensor:
    return (5 * e).add_(6).mul_(e).add_(2)


@smish.derivative
def _(x: Tensor) -> Tensor:
    x = x.clamp(-FAR, CERTAIN)
    e = exp(x)
    m = _smish_quotient(e)
    return (4 * x * (2 * e + 1) * (e + 1) / m + 3 * e + 2) * e / m


@smish.second
def _(x: Tensor) -> Tensor:
    c = x.clamp(-FAR, FAR)
    e = torch.exp(-c.abs())  # the power of exp(x) that decays on either side
    m = _smish_quotient(e)
    below = (8 * (2 * e + 1) * (e + 1) * m + 4 * c * (2 + 6 * e - 3 * e**2 - 18 * e**3 - 10 * e**4)) / m**3
    m = (2 * e + 6) * e + 5
    above = (8 * (2 + e) * (1 + e) * m - 4 * c * (10 + 18 * e + 3 * e**2 - 6 * e**3 - 2 * e**4)) / m**3
    return torch.where(x > 0, above, below) * e


Smish = smish.module("Smish")


@elementwise(
    formula="x * tanh(x * (1 + erf(x / sqrt(2))) / 2)",
    limits=(0, inf),
    slopes=(0, 1),
    range=(0, inf),
    monotonic=False,
    paper="Naveen 2022",
)
def phish(x: Tensor) -> Tensor:
    """Phish: ``x * tanh(gelu(x))``."""
    return x.clamp_min(-40).mul_(tanh(exact_gelu(x)))


@phish.derivative
def _(x: Tensor) -> Tensor:
    x = x.clamp(-40, _WIDE)
    inner, inner_slope = exact_gelu_with_slope(x)
    value, slope = tanh_and_slope(inner)
    return torch.addcmul(value, x * slope, inner_slope)


@phish.second
def _(x: Tensor) -> Tensor:
    x = x.clamp(-40, _WIDE)
    inner, slope = exact_gelu_with_slope(x)
    root = sech(inner)
    return (2 * slope + x * (exact_gelu_second(x) - 2 * tanh(inner) * slope.square())) * root * root


Phish = phish.module("Phish")

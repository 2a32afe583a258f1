"""Elementary functions that are accurate in the tails, near zero, and in compiled kernels.

Inductor is less accurate than torch's eager operations. On a CPU its expm1 is exp(x) - 1, its float32 erf has
only an absolute error bound, both are 0 for subnormal numbers, and its tanh and erfc take three to eight
times the time of an exponential. Where it matters, a function has an eager and a compiled form.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from actlab.activation.export_mode import exports_exact_onnx

aten = torch.ops.aten

FAR = 800.0  # exp(-FAR) is 0, in float64 too
CERTAIN = 40.0  # 1 + exp(-CERTAIN) is 1, in float64 too


_compiled_forms_forced = False


def uses_compiled_forms() -> bool:
    """Return whether Inductor compiles this call or it is exported as exact ONNX, which lacks erfc and expm1.

    Other exported programs use torch's operations.
    """
    if not torch.compiler.is_compiling():
        return _compiled_forms_forced
    return not torch.compiler.is_exporting() or exports_exact_onnx()


@contextlib.contextmanager
def force_compiled_forms() -> Iterator[None]:
    """Use the compiled forms in eager mode, to measure their accuracy without compiling."""
    global _compiled_forms_forced
    _compiled_forms_forced = True
    try:
        yield
    finally:
        _compiled_forms_forced = False


def is_eager_on_cpu(x: Tensor) -> bool:
    """Return whether torch's eager CPU kernels compute with x, so that every operation is a pass over x."""
    return x.is_cpu and not torch.compiler.is_compiling() and not _compiled_forms_forced


def has_values_on_cpu(x: Tensor) -> bool:
    """Return whether x is an ordinary tensor in CPU memory: not transformed, traced, fake or on a device."""
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and is_eager_on_cpu(x)
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is None
    )


def lies_within(x: Tensor, low: float, high: float = math.inf) -> bool:
    """Return whether all elements are known to lie between two bounds; False if any is NaN.

    Values are read only where that is cheap and possible: in CPU memory, outside transforms and traces.
    """
    if not (has_values_on_cpu(x) and x.numel()):
        return False
    x = x.detach()
    return (high == math.inf or x.amax().item() < high) and x.amin().item() > low


def is_small(x: Tensor) -> bool:
    """Return whether x has so few elements that a Python autograd function costs more than a copy of x.

    For such an input, torch may save the input instead of the output.
    """
    return x.numel() < 2**17


def gate(x: Tensor, z: Tensor) -> Tensor:
    """Return ``x * sigmoid(z)`` without overflow, down to subnormal results; infinity times 0 gives 0."""
    return finite_gate(aten.threshold_backward(x, z, -FAR), z)


def finite_gate(x: Tensor, z: Tensor, sign: int = 1) -> Tensor:
    """Return ``x * sigmoid(sign * z)``; x must be finite where the sigmoid is 0.

    One of torch's kernels, the backward of softplus, computes it with one exponential.
    """
    return aten.softplus_backward(x, z, sign, CERTAIN)


def gate_slope(rise: Tensor, z: Tensor) -> Tensor:
    """Return ``sigmoid(z) (1 + rise sigmoid(-z))``, the derivative of x sigmoid(z), for rise = x dz/dx.

    ``rise`` and z must be finite.
    """
    if not uses_compiled_forms():
        return finite_gate(finite_gate(rise, z, -1).add_(1), z)
    c = z.clamp(-FAR, 44)  # exp(44)^2 is finite in float32, and 4000 / exp(44) negligible
    e = torch.exp(c)
    r = e + 1
    return e * ((c if rise is z else rise.clamp(-4000, 4000)) + r) / (r * r)


def both_gates(x: Tensor, z: Tensor) -> Tensor:
    """Return ``x * sigmoid(z) * sigmoid(-z)``, x times the sigmoid's derivative, accurate in both tails."""
    below = z.abs().neg_()
    root = exp(below, 0.5)  # it underflows later than its square
    root = root / (root * root + 1)
    return aten.threshold_backward(x, below, -FAR) * root * root


def sigmoid_to_the_last(x: Tensor) -> Tensor:
    """Return the sigmoid, accurate down to subnormal results: torch's is 0 below -88.7 in float32."""
    return finite_gate(x.new_ones(()).expand_as(x), x)


def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Evaluate a polynomial in two passes per term; the coefficient of the highest power is the first one."""
    first, second, *rest = coefficients
    value = x + second if first == 1 else (x * first).add_(second)
    for coefficient in rest:
        value.mul_(x).add_(coefficient)
    return value


_LOG2_E = 1 / math.log(2)


def exp(x: Tensor, factor: float = 1.0) -> Tensor:
    """Return ``exp(factor * x)``, with an error below ``eps * (1 + |factor * x|)``.

    On a CPU, ``torch.exp2`` takes a quarter of the time of ``torch.exp``.
    """
    if is_eager_on_cpu(x):
        return torch.exp2(x * (factor * _LOG2_E))
    return torch.exp(x if factor == 1 else x * factor)


def expm1(x: Tensor) -> Tensor:
    """Return ``exp(x) - 1``, accurate near 0 too, and -1 at minus infinity."""
    if not uses_compiled_forms():
        return torch.expm1(x)
    # Lambert's fraction near 0: exp(x) - 1 = 2 x / (2 - x + z / (6 + z / (10 + z / (14 + ...)))), z = x^2.
    near = x.clamp(-0.5, 0.5)
    z = near * near
    if x.dtype is torch.float64:
        fraction: Any = 26.0
        for step in (22.0, 18.0, 14.0, 10.0, 6.0):
            fraction = step + z / fraction
        fraction = z / fraction
    else:
        fraction = z * (z + 140) / (z * 20 + 840)
    return torch.where(x.abs() < 0.5, 2 * near / (fraction - near + 2), torch.exp(x) - 1)


def elu(x: Tensor, alpha: float, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """Return ``scale * where(x > 0, x, alpha * expm1(input_scale * x))``."""
    if not uses_compiled_forms():
        return aten.elu(x, alpha, scale, input_scale)
    below = expm1((x * input_scale).clamp_max(0) if input_scale > 0 else x * input_scale)
    return torch.where(x > 0, x * scale, below * (alpha * scale))


def tanh(u: Tensor) -> Tensor:
    """Return the hyperbolic tangent, computed from expm1 in half the time of torch's tanh on a CPU."""
    if not (uses_compiled_forms() or is_eager_on_cpu(u)):
        return torch.tanh(u)
    # tanh(-20) is -1, in float64 too. Subnormal exponentials, beyond 40, are slow.
    m = expm1(u.clamp(-20, 40) * -2)
    return m / (-2 - m)


def tanh_and_slope(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``tanh(u)`` and its derivative, without the cancellation of ``1 - tanh(u)^2``."""
    q = expm1(-u.clamp_min(-20))
    m = q * (q + 2)
    sinh = m / (2 * q + 2)
    return -m / (m + 2), 1 / (1 + sinh * sinh)


def sech(u: Tensor) -> Tensor:
    """Return ``1 / cosh(u)``, the square root of tanh's derivative, accurate even where it is tiny."""
    root = exp(u.abs(), -1)
    return 2 * root / (1 + root * root)


_ERF_SERIES = (1 / 9360, -1 / 1320, 1 / 216, -1 / 42, 1 / 10, -1 / 3, 1.0)
_ERF_SLOPE = 2 / math.sqrt(math.pi)


def erf_of_positive(u: Tensor) -> Tensor:
    """Return ``erf(u)`` for u from 0 to 28."""
    if not uses_compiled_forms() or u.dtype is torch.float64:
        return torch.erf(u)
    near = u.clamp_max(0.5)
    series = polynomial(near * near, _ERF_SERIES) * near * _ERF_SLOPE
    return torch.where(u < 0.5, series, 1 - 2 * normal_cdf(u * -math.sqrt(2)))


# The square root of 1/2, in two parts that hold 32 digits.
_ROOT_HALF, _ROOT_HALF_REST = math.sqrt(0.5), -4.8336466567264565e-17
# Mills' ratio Phi(-a) / exp(-a^2 / 2) for 0 <= a <= 14.4, with an error below 0.4 of a rounding of a: fitted
# by weighted least squares.
_MILLS = (
    (0.013986520131915845, 0.10635181896372034, 0.3386596921701353, 0.4999999777344416),
    (0.03507233720697817, 0.26615219826019454, 0.8897731560900448, 1.4752010939619915, 1.0),
)


def normal_cdf(x: Tensor) -> Tensor:
    """Return the normal distribution function for x from -40 to 40, accurate in the left tail.

    Compiled float32 code uses a quotient of polynomials, which takes a tenth of the time of erfc. In eager
    mode, erfc takes one pass over memory and the polynomials take twenty.
    """
    if x.dtype is torch.float64:
        u, rest = exact_product(x, -_ROOT_HALF)
        rest = rest - x * _ROOT_HALF_REST  # the rounding errors, to first order
        return torch.special.erfc(u) / 2 - torch.exp(-u * u) * rest / math.sqrt(math.pi)
    if not uses_compiled_forms():
        return torch.special.erfc(x * -_ROOT_HALF).mul_(0.5)
    a = x.abs()
    below = exp(a * a, -0.5) * mills_ratio(a)
    return torch.where(x > 0, 1 - below, below)


def mills_ratio(a: Tensor) -> Tensor:
    """Return ``Phi(-a) / exp(-a^2 / 2)`` in float32, for a >= 0; Phi is the normal distribution function."""
    top, bottom = (polynomial(a, part) for part in _MILLS)
    return top / bottom


def exact_product(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return a float64 product and its rounding error (Dekker 1971)."""
    product = x * factor
    (high, low), (factor_high, factor_low) = _split_halves(x), _split_halves(factor)
    rest = ((high * factor_high - product) + high * factor_low + low * factor_high) + low * factor_low
    return product, rest


def _split_halves(value: Any) -> tuple[Any, Any]:
    scaled = value * 134217729.0  # 2**27 + 1
    high = scaled - (scaled - value)
    return high, value - high

"""Elementary functions of jets.

A jet is a value and its first three derivatives, each divided by the factorial of its order. Its numbers are
mpmath's, in the current working precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import sympy

_HUGE = mpmath.mpf("1e40")
Jet = tuple[Any, Any, Any, Any]
mp = mpmath.mp


class Undefined(Exception):
    """The formula has no real value at a point."""


def make_constant_jet(value: Any) -> Jet:
    """Return the jet of a constant."""
    return mpmath.mpf(value), mp.zero, mp.zero, mp.zero


def require_real(value: Any) -> Any:
    """Return a value if it is real.

    Raises:
        Undefined: The value is complex.
    """
    if not isinstance(value, mpmath.mpf):
        raise Undefined
    return value


def add(u: Jet, v: Jet) -> Jet:
    """Return the sum."""
    return u[0] + v[0], u[1] + v[1], u[2] + v[2], u[3] + v[3]


def mul(u: Jet, v: Jet) -> Jet:
    """Return the product."""
    a0, a1, a2, a3 = u
    b0, b1, b2, b3 = v
    if not (b1 or b2 or b3):
        return a0 * b0, a1 * b0, a2 * b0, a3 * b0
    if not (a1 or a2 or a3):
        return a0 * b0, a0 * b1, a0 * b2, a0 * b3
    return (
        a0 * b0,
        a0 * b1 + a1 * b0,
        a0 * b2 + a1 * b1 + a2 * b0,
        a0 * b3 + a1 * b2 + a2 * b1 + a3 * b0,
    )


def power(u: Jet, n: Any) -> Jet:
    """Return a power with a constant exponent."""
    a = u[0]
    if not (u[1] or u[2] or u[3]):
        if not a and n <= 0:
            raise Undefined
        return require_real(a**n), mp.zero, mp.zero, mp.zero
    derivatives: list[Any] = []
    factor = mpmath.mpf(1)
    for k in range(4):
        derivatives.append(factor * require_real(a ** (n - k)) if factor else mp.zero)
        factor *= n - k
    return apply_chain_rule(u, *derivatives)


def apply_chain_rule(u: Jet, d0: Any, d1: Any, d2: Any, d3: Any) -> Jet:
    """Return the jet of a function whose value and derivatives at ``u[0]`` are given."""
    _, a1, a2, a3 = u
    square = a1 * a1
    return d0, d1 * a1, d1 * a2 + d2 * square / 2, d1 * a3 + d2 * a1 * a2 + d3 * square * a1 / 6


# -- value and three derivatives of every function at a number -------------------------------------


def _exp(a: Any) -> Jet:
    # Beyond 1e40 a larger argument makes no difference, and the exponential would never end.
    e = mpmath.exp(min(a, _HUGE)) if a > -_HUGE else mp.zero
    return e, e, e, e


def _log(a: Any) -> Jet:
    if not a > 0:
        raise Undefined
    r = 1 / a
    return mpmath.log(a), r, -r * r, 2 * r * r * r


def _tanh(a: Any) -> Jet:
    if abs(a) > 10_000:
        return mpmath.sign(a), mp.zero, mp.zero, mp.zero
    if abs(a) < 1:
        t = mpmath.tanh(a)
        s = 1 - t * t
    else:
        e = mpmath.exp(-2 * abs(a))
        t, s = mpmath.sign(a) * (1 - e) / (1 + e), 4 * e / (1 + e) ** 2
    return t, s, -2 * t * s, (4 * t * t - 2 * s) * s


def _sinh_cosh(a: Any) -> tuple[Any, Any]:
    e, f = _exp(a)[0], _exp(-a)[0]
    return (e - f) / 2, (e + f) / 2


def _sinh(a: Any) -> Jet:
    s, c = _sinh_cosh(a)
    return s, c, s, c


def _cosh(a: Any) -> Jet:
    s, c = _sinh_cosh(a)
    return c, s, c, s


def _sin_cos(a: Any) -> tuple[Any, Any]:
    if abs(a) > _HUGE:
        raise Undefined
    return mpmath.sin(a), mpmath.cos(a)


def _sin(a: Any) -> Jet:
    s, c = _sin_cos(a)
    return s, c, -s, -c


def _cos(a: Any) -> Jet:
    s, c = _sin_cos(a)
    return c, -s, -c, s


def _tan(a: Any) -> Jet:
    s, c = _sin_cos(a)
    t = s / c
    s = 1 + t * t
    return t, s, 2 * t * s, 2 * s * (s + 2 * t * t)


def _atan(a: Any) -> Jet:
    r = 1 / (1 + a * a)
    return mpmath.atan(a), r, -2 * a * r * r, (6 * a * a - 2) * r * r * r


def _asinh(a: Any) -> Jet:
    r = 1 / mpmath.sqrt(a * a + 1)
    return mpmath.asinh(a), r, -a * r**3, (2 * a * a - 1) * r**5


def _acosh(a: Any) -> Jet:
    if a < 1:
        raise Undefined
    r = 1 / mpmath.sqrt(a * a - 1)
    return mpmath.acosh(a), r, -a * r**3, (2 * a * a + 1) * r**5


def _atanh(a: Any) -> Jet:
    if abs(a) >= 1:
        raise Undefined
    r = 1 / (1 - a * a)
    return mpmath.atanh(a), r, 2 * a * r * r, (6 * a * a + 2) * r**3


def _erf(a: Any) -> Jet:
    sign = 1 if a > 0 else -1
    value = mpmath.erf(a) if abs(a) < 3 else sign * (1 - _erfc_tail(abs(a)))
    return value, *_differentiate_erf(a)


def _erfc(a: Any) -> Jet:
    value = mpmath.erfc(a) if abs(a) < 3 else _erfc_tail(a) if a > 0 else 2 - _erfc_tail(-a)
    d1, d2, d3 = _differentiate_erf(a)
    return value, -d1, -d2, -d3


def _erfc_tail(a: Any) -> Any:
    """Return erfc(a) in enough bits for every sum that it is part of."""
    if a > 45:  # below every float64
        return mp.zero
    with mpmath.workprec(min(mp.prec, 330)):
        return mpmath.erfc(a)


def _differentiate_erf(a: Any) -> tuple[Any, Any, Any]:
    """Return the first three derivatives of erf."""
    g = 2 / mpmath.sqrt(mp.pi) * mpmath.exp(-a * a) if abs(a) < 45 else mp.zero
    return g, -2 * a * g, (4 * a * a - 2) * g


DERIVATIVES: Mapping[Any, Callable[[Any], Jet]] = {
    sympy.exp: _exp,
    sympy.log: _log,
    sympy.tanh: _tanh,
    sympy.sinh: _sinh,
    sympy.cosh: _cosh,
    sympy.sin: _sin,
    sympy.cos: _cos,
    sympy.tan: _tan,
    sympy.atan: _atan,
    sympy.asinh: _asinh,
    sympy.acosh: _acosh,
    sympy.atanh: _atanh,
    sympy.erf: _erf,
    sympy.erfc: _erfc,
}

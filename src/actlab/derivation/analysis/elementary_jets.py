"""Elementary functions of jets: a value and its first three derivatives, each over its factorial."""

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


def _chain(u: Jet, d0: Any, d1: Any, d2: Any, d3: Any) -> Jet:
    """Return the jet of a function with these derivatives at ``u[0]``."""
    _, a1, a2, a3 = u
    square = a1 * a1
    return d0, d1 * a1, d1 * a2 + d2 * square / 2, d1 * a3 + d2 * a1 * a2 + d3 * square * a1 / 6


def power(u: Jet, n: Any) -> Jet:
    """Return a power by a constant."""
    a = u[0]
    if not (u[1] or u[2] or u[3]):
        return real(a**n) if a or n > 0 else undefined(), mp.zero, mp.zero, mp.zero
    d: list[Any] = []
    factor = mpmath.mpf(1)
    for k in range(4):
        d.append(factor * real(a ** (n - k)) if factor else mp.zero)
        factor *= n - k
    return _chain(u, *d)


def real(value: Any) -> Any:
    """Return a value that is a real number."""
    return value if isinstance(value, mpmath.mpf) else undefined()


def undefined() -> Any:
    """Say that there is no real value."""
    raise Undefined


def exp(u: Jet) -> Jet:
    """Return the exponential."""
    # Beyond, nobody can tell one exponential from another, and its own exponential would never end.
    e = mpmath.exp(min(u[0], _HUGE)) if u[0] > -_HUGE else mp.zero
    return _chain(u, e, e, e, e)


def log(u: Jet) -> Jet:
    """Return the natural logarithm."""
    if not u[0] > 0:
        raise Undefined
    r = 1 / u[0]
    return _chain(u, mpmath.log(u[0]), r, -r * r, 2 * r * r * r)


def _tanh(u: Jet) -> Jet:
    if abs(u[0]) > 10_000:
        return mpmath.sign(u[0]), mp.zero, mp.zero, mp.zero
    if abs(u[0]) < 1:
        t = mpmath.tanh(u[0])
        s = 1 - t * t
    else:
        e = mpmath.exp(-2 * abs(u[0]))
        t, s = mpmath.sign(u[0]) * (1 - e) / (1 + e), 4 * e / (1 + e) ** 2
    return _chain(u, t, s, -2 * t * s, (4 * t * t - 2 * s) * s)


def _negative(u: Jet) -> Jet:
    return -u[0], -u[1], -u[2], -u[3]


def _sinh(u: Jet) -> Jet:
    e, f = exp(u)[0], exp(_negative(u))[0]
    s, c = (e - f) / 2, (e + f) / 2
    return _chain(u, s, c, s, c)


def _cosh(u: Jet) -> Jet:
    e, f = exp(u)[0], exp(_negative(u))[0]
    s, c = (e - f) / 2, (e + f) / 2
    return _chain(u, c, s, c, s)


def _sine(a: Any) -> tuple[Any, Any]:
    if abs(a) > _HUGE:
        raise Undefined
    return mpmath.sin(a), mpmath.cos(a)


def _sin(u: Jet) -> Jet:
    s, c = _sine(u[0])
    return _chain(u, s, c, -s, -c)


def _cos(u: Jet) -> Jet:
    s, c = _sine(u[0])
    return _chain(u, c, -s, -c, s)


def _tan(u: Jet) -> Jet:
    s, c = _sine(u[0])
    t = s / c
    s = 1 + t * t
    return _chain(u, t, s, 2 * t * s, 2 * s * (s + 2 * t * t))


def _atan(u: Jet) -> Jet:
    a = u[0]
    r = 1 / (1 + a * a)
    return _chain(u, mpmath.atan(a), r, -2 * a * r * r, (6 * a * a - 2) * r * r * r)


def _asinh(u: Jet) -> Jet:
    a = u[0]
    r = 1 / mpmath.sqrt(a * a + 1)
    return _chain(u, mpmath.asinh(a), r, -a * r**3, (2 * a * a - 1) * r**5)


def _acosh(u: Jet) -> Jet:
    a = u[0]
    if a < 1:
        raise Undefined
    r = 1 / mpmath.sqrt(a * a - 1)
    return _chain(u, mpmath.acosh(a), r, -a * r**3, (2 * a * a + 1) * r**5)


def _atanh(u: Jet) -> Jet:
    a = u[0]
    if abs(a) >= 1:
        raise Undefined
    r = 1 / (1 - a * a)
    return _chain(u, mpmath.atanh(a), r, 2 * a * r * r, (6 * a * a + 2) * r**3)


def _erf(u: Jet) -> Jet:
    a = u[0]
    if abs(a) < 3:
        return _bell(u, mpmath.erf(a), 1)
    tail = _tail(abs(a))
    return _bell(u, 1 - tail if a > 0 else tail - 1, 1)


def _erfc(u: Jet) -> Jet:
    a = u[0]
    if abs(a) < 3:
        return _bell(u, mpmath.erfc(a), -1)
    return _bell(u, _tail(a) if a > 0 else 2 - _tail(-a), -1)


def _tail(a: Any) -> Any:
    """Return erfc(a), in enough bits for what is added to it and for all that it cancels with."""
    if a > 45:  # below every float64
        return mp.zero
    with mpmath.workprec(min(mp.prec, 330)):
        return mpmath.erfc(a)


def _bell(u: Jet, value: Any, sign: int) -> Jet:
    a = u[0]
    g = sign * 2 / mpmath.sqrt(mp.pi) * mpmath.exp(-a * a) if abs(a) < 45 else mp.zero
    return _chain(u, value, g, -2 * a * g, (4 * a * a - 2) * g)


JETS: Mapping[Any, Callable[[Jet], Jet]] = {
    sympy.exp: exp,
    sympy.log: log,
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


def add(u: Jet, v: Jet) -> Jet:
    """Return the sum."""
    return u[0] + v[0], u[1] + v[1], u[2] + v[2], u[3] + v[3]


def square(u: Jet) -> Jet:
    """Return the square."""
    return mul(u, u)

"""The functions that SymPy lacks and programs have, and how an expression is written in them."""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Add, Expr, Function, Pow, exp, log, pi, sqrt


class Known(Function):
    """A real function of one real number that programs compute by an operation of their own."""

    nargs = 1
    operation = ""

    def _eval_is_real(self) -> bool:
        return True

    @classmethod
    def eval(cls, u: Expr) -> None:
        """Leave it as it is."""


class Tanh(Known):
    """The hyperbolic tangent, whose derivative does not cancel."""

    operation = "tanh"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return Sech(self.args[0]) ** 2


class Sech(Known):
    """1 / cosh."""

    operation = "sech"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return -Sech(self.args[0]) * Tanh(self.args[0])


class TanhSlope(Known):
    """1 / cosh^2, exact where tanh is small."""

    operation = "tanh_slope"


class Sigmoid(Known):
    """The logistic sigmoid."""

    operation = "sigmoid"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return Sigmoid(self.args[0]) * Sigmoid(-self.args[0])


class NormalSigmoid(Known):
    """The logistic sigmoid by torch's operation, which is 0 where it is no normal number."""

    operation = "normal_sigmoid"


class Log1p(Known):
    """log(1 + u)."""

    operation = "log1p"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return 1 / (1 + self.args[0])


class Expm1(Known):
    """exp(u) - 1."""

    operation = "expm1"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return exp(self.args[0])


class Asinh(Known):
    """The inverse hyperbolic sine."""

    operation = "asinh"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return 1 / sqrt(1 + self.args[0] ** 2)


class Acosh(Known):
    """The inverse hyperbolic cosine."""

    operation = "acosh"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return 1 / sqrt(self.args[0] ** 2 - 1)


class Atanh(Known):
    """The inverse hyperbolic tangent."""

    operation = "atanh"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return 1 / (1 - self.args[0] ** 2)


class NormalCdf(Known):
    """The normal distribution function."""

    operation = "normal_cdf"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return Bell(self.args[0]) / sqrt(2 * pi)


class Bell(Known):
    """exp(-u^2 / 2), which a kernel has in common with the normal distribution function."""

    operation = "bell"

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return -self.args[0] * Bell(self.args[0])


class Size(Known):
    """The absolute value, as the sides of a split see it."""

    operation = "abs"


class Root(Function):
    """The root of the square of the first argument plus the second, without overflow."""

    nargs = 2


class Within(Function):
    """The first argument, clamped to between the two others."""

    nargs = 3


class Series(Function):
    """A series: x, its lowest power, the step to the next, and the coefficients, the highest power first."""

    nargs = None


_KNOWN = {sympy.tanh: Tanh, sympy.asinh: Asinh, sympy.acosh: Acosh, sympy.atanh: Atanh}


def recognised(expression: Expr) -> Expr:
    """Write an expression in functions that keep their digits, as far as they stand there openly."""
    known: dict[Expr, Expr] = {}
    expression = expression.replace(lambda n: n.is_Mul and n.has(exp), _quotient)

    def rewrite(node: Expr) -> Expr:
        if node.is_Atom or node.is_number:
            return node
        if node not in known:
            made = node.func(*(rewrite(argument) for argument in node.args))
            known[node] = _one(made)
        return known[node]

    return rewrite(expression)


def _one(node: Expr) -> Expr:
    if type(node) in _KNOWN:
        return _KNOWN[type(node)](*node.args)
    if isinstance(node, sympy.erfc) and not (u := -sqrt(2) * node.args[0]).has(sqrt(2)):
        return 2 * NormalCdf(u)
    if isinstance(node, log):
        inside = node.args[0]
        if isinstance(inside, Sigmoid):
            return -Log1p(exp(-inside.args[0]))
        if isinstance(inside, Add) and inside.args[0] == 1:
            return Log1p(inside - 1)
    if isinstance(node, Pow) and node.exp.is_number and node.exp.is_negative and isinstance(node.base, Add):
        base = node.base
        if len(base.args) == 2 and base.args[0] == 1 and isinstance(base.args[1], exp):
            return Sigmoid(-base.args[1].args[0]) ** -node.exp
    if isinstance(node, Add):
        return _sum(node)
    return node


def _quotient(node: Expr) -> Expr:
    """Return a quotient of exponentials that is a hyperbolic tangent as one."""
    exponents = sorted((power.args[0] for power in node.atoms(exp)), key=sympy.default_sort_key)
    first = -exponents[0] if exponents[0].could_extract_minus_sign() else exponents[0]
    t = sympy.Symbol("t", positive=True)
    for u in (first, first / 2):
        if all((other / u).is_Integer for other in exponents):
            written = node.replace(exp, lambda v, u=u: t ** (v / u))
            if written.is_rational_function(t) and written.free_symbols == {t}:
                for sign in (1, -1):
                    if sympy.cancel(written - sign * (t**2 - 1) / (t**2 + 1)) == 0:
                        return sign * Tanh(u)
    return node


def _sum(node: Add) -> Expr:
    """Pair a constant with the exponential or error function that it belongs to."""
    constant = Add(*(term for term in node.args if not term.has(Function) and not term.has(exp)))
    if constant == 0:
        return node
    for term in node.args:
        factor, rest = term.as_independent(exp, sympy.erf, Tanh, Sigmoid, NormalCdf, as_Add=False)
        if isinstance(rest, exp) and sympy.expand(factor + _part(constant, factor)) == 0:
            return node - term + factor + factor * Expm1(rest.args[0])
        if isinstance(rest, sympy.erf) and constant in (factor, -factor):
            sign = 1 if constant == factor else -1
            return node - term - constant + 2 * constant * NormalCdf(sign * sqrt(2) * rest.args[0])
        if isinstance(rest, NormalCdf) and constant == -factor:
            return node - term - constant + constant * NormalCdf(-rest.args[0])
        if isinstance(rest, Tanh) and constant in (factor, -factor):
            sign = 1 if constant == factor else -1
            return node - term - constant + 2 * constant * Sigmoid(sign * 2 * rest.args[0])
    return node


def _part(constant: Expr, factor: Expr) -> Expr:
    """Return the term of a sum that is the negative of a factor, or 0."""
    terms = Add.make_args(sympy.expand(constant))
    return -factor if -factor in terms or sympy.expand(constant + factor) == 0 else sympy.S.Zero


def expanded(expression: Expr) -> Expr:
    """Write every known function of a polynomial, and of a logarithm, in exponentials."""

    def plain(node: Any) -> Expr:
        u = node.args[0]
        if isinstance(node, sympy.sinh | sympy.cosh):
            return (exp(u) - exp(-u)) / 2 if isinstance(node, sympy.sinh) else (exp(u) + exp(-u)) / 2
        if isinstance(node, (Tanh, Sech)):
            grown, fallen = exp(u), exp(-u)
            top = grown - fallen if isinstance(node, Tanh) else sympy.Integer(2)
            return top / (grown + fallen)
        return 1 / (1 + exp(-u))

    def simple(node: Any) -> bool:
        return isinstance(node, (Tanh, Sech, Sigmoid, sympy.sinh, sympy.cosh)) and (
            node.args[0].is_polynomial() or node.args[0].has(log)
        )

    opened = expression
    for kind, written in (
        (Log1p, lambda u: log(1 + u)),
        (Expm1, lambda u: exp(u) - 1),
        (Bell, lambda u: exp(-(u**2) / 2)),
    ):
        opened = opened.replace(kind, written)
    return opened.replace(simple, plain)

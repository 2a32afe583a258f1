"""Functions that programs have and SymPy lacks, and how to express formulas with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
from sympy import Add, Expr, Function, Pow, exp, log, pi, sqrt


class Known(Function):
    """A real function of one real number for which programs have a dedicated operation.

    Attributes:
        operation: The operation's name in a program.
        derivative: Returns the derivative at an argument; None for functions that are never differentiated.
    """

    nargs = 1
    operation = ""
    derivative: Callable[[Expr], Expr] | None = None

    def _eval_is_real(self) -> bool:
        return True

    @classmethod
    def eval(cls, u: Expr) -> None:
        """Leave the function unevaluated."""

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative."""
        return self.derivative(self.args[0]) if self.derivative else super().fdiff(argindex)


def _define(name: str, operation: str, derivative: Callable[[Expr], Expr] | None = None) -> Any:
    body = {"operation": operation, "derivative": staticmethod(derivative) if derivative else None}
    return type(name, (Known,), body)


Tanh = _define("Tanh", "tanh", lambda u: Sech(u) ** 2)  # whose derivative does not cancel
Sech: Any = _define("Sech", "sech", lambda u: -Sech(u) * Tanh(u))  # 1 / cosh
TanhSlope = _define("TanhSlope", "tanh_slope")  # 1 / cosh^2, exact where tanh is small
Sigmoid: Any = _define("Sigmoid", "sigmoid", lambda u: Sigmoid(u) * Sigmoid(-u))
NormalSigmoid = _define("NormalSigmoid", "normal_sigmoid")  # torch.sigmoid: 0 instead of subnormal numbers
Log1p = _define("Log1p", "log1p", lambda u: 1 / (1 + u))
Expm1 = _define("Expm1", "expm1", lambda u: exp(u))
Asinh = _define("Asinh", "asinh", lambda u: 1 / sqrt(1 + u**2))
Acosh = _define("Acosh", "acosh", lambda u: 1 / sqrt(u**2 - 1))
Atanh = _define("Atanh", "atanh", lambda u: 1 / (1 - u**2))
NormalCdf = _define("NormalCdf", "normal_cdf", lambda u: Bell(u) / sqrt(2 * pi))
Bell: Any = _define("Bell", "bell", lambda u: -u * Bell(u))  # exp(-u^2 / 2); kernels share it with NormalCdf
Size = _define("Size", "abs")  # the absolute value, not split into pieces


class Root(Function):
    """The square root of u^2 + v, without overflow."""

    nargs = 2


class Within(Function):
    """The first argument, clamped to the interval between the other two."""

    nargs = 3


class Series(Function):
    """A series: x, its lowest power, the step to the next, and the coefficients, the highest power first."""

    nargs = None


_KNOWN = {sympy.tanh: Tanh, sympy.asinh: Asinh, sympy.acosh: Acosh, sympy.atanh: Atanh}


def recognize_functions(expression: Expr) -> Expr:
    """Replace formulas in an expression by the accurate functions that compute them."""
    known: dict[Expr, Expr] = {}
    expression = expression.replace(lambda n: n.is_Mul and n.has(exp), _recognize_tanh)

    def rewrite(node: Expr) -> Expr:
        if node.is_Atom or node.is_number:
            return node
        if node not in known:
            made = node.func(*(rewrite(argument) for argument in node.args))
            known[node] = _recognize_node(made)
        return known[node]

    return rewrite(expression)


def _recognize_node(node: Expr) -> Expr:
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
        return _recognize_sum(node)
    return node


def _recognize_tanh(node: Expr) -> Expr:
    """Write a quotient of exponentials as a hyperbolic tangent if it is one."""
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


def _recognize_sum(node: Add) -> Expr:
    """Combine a constant with an exponential, error function, tanh or sigmoid."""
    constant = Add(*(term for term in node.args if not term.has(Function) and not term.has(exp)))
    if constant == 0:
        return node
    for term in node.args:
        factor, rest = term.as_independent(exp, sympy.erf, Tanh, Sigmoid, NormalCdf, as_Add=False)
        if isinstance(rest, exp) and sympy.expand(factor + _find_cancelling_term(constant, factor)) == 0:
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


def _find_cancelling_term(constant: Expr, factor: Expr) -> Expr:
    """Return the term of a sum that cancels a factor, or 0."""
    terms = Add.make_args(sympy.expand(constant))
    return -factor if -factor in terms or sympy.expand(constant + factor) == 0 else sympy.S.Zero


def to_exponentials(expression: Expr) -> Expr:
    """Write functions of polynomials and logarithms in terms of exponentials."""

    def open_function(node: Any) -> Expr:
        u = node.args[0]
        if isinstance(node, sympy.sinh | sympy.cosh):
            return (exp(u) - exp(-u)) / 2 if isinstance(node, sympy.sinh) else (exp(u) + exp(-u)) / 2
        if isinstance(node, (Tanh, Sech)):
            grown, fallen = exp(u), exp(-u)
            top = grown - fallen if isinstance(node, Tanh) else sympy.Integer(2)
            return top / (grown + fallen)
        return 1 / (1 + exp(-u))

    def can_open(node: Any) -> bool:
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
    return opened.replace(can_open, open_function)

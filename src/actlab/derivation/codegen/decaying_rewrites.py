"""Forms in exponentials that decay: what overflows, or is lost beside what is large, does not come about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sympy
import torch
from sympy import Add, Expr, Integer, Mul, Symbol, exp, log

from actlab.derivation.codegen.functions import Expm1, Known, Log1p, Size, Within, to_exponentials
from actlab.derivation.codegen.lower import Form, program
from actlab.derivation.codegen.rewrites import MODERATE, lowest, size, tidy
from actlab.derivation.syntax.to_sympy import X


class Decaying:
    """Writes an expression on one side of 0 in exponentials that decay there.

    Args:
        side: 1 or -1, the sign of the input.
        parameters: The default parameters, which tell the sign of an exponent.
        main: What is positive on the one side and negative on the other: a multiple of the input.
        cap: Instead of decaying on the side, exponentials of ``main`` grow up to that of the cap, and no
            others are allowed: for one form on both sides.
    """

    def __init__(
        self, side: int, parameters: Mapping[str, float], main: Expr, cap: int | None = None
    ) -> None:
        self.side, self.main, self.cap = side, main, cap
        self._parameters = parameters
        self.names: dict[Symbol, Expr] = {}
        self._groups: list[tuple[Expr, Symbol]] = []
        self._functions: dict[Expr, Symbol] = {}
        self._logarithms: dict[Symbol, Expr] = {}
        self.decaying: dict[Symbol, None] = {}  # in order: nothing may depend on the order of a set

    def rewrite(self, node: Expr, peel: bool) -> Expr:
        """Return the expression in symbols for exponentials and for other functions."""
        if node.is_Atom or node.is_number:
            return node
        if isinstance(node, exp):
            return self._exponential(node.args[0], peel)
        if node.is_Pow and not node.exp.is_number:
            return self._exponential(node.exp * log(node.base), peel)
        arguments = [self.rewrite(argument, peel) for argument in node.args]
        if isinstance(node, log):
            return self._logarithm(arguments[0], peel)
        if isinstance(node, Known | sympy.Function):
            return self._function(node.func(*(tidy(a) for a in arguments)))
        if node.is_Pow and not node.exp.is_Integer:
            return self._function(node.func(tidy(arguments[0]), node.exp))
        return node.func(*arguments)

    def _function(self, node: Expr) -> Expr:
        if node not in self._functions:
            self._functions[node] = Symbol(f"f{len(self._functions)}", real=True)
            self.names[self._functions[node]] = node
        return self._functions[node]

    def _value(self, node: Expr) -> float:
        """Return the value of an expression at a point of the side, to tell its sign."""
        made = program(Form(node, self.names), list(self._parameters))
        point = torch.tensor(self.side * 2.3, dtype=torch.float64)
        return float(made(point, *self._parameters.values()))

    def _exponential(self, argument: Expr, peel: bool) -> Expr:
        argument = sympy.expand(argument)
        constant, varying = argument.as_independent(X, as_Add=True)
        if constant.is_number and constant != 0 and varying != 0:
            return exp(constant) * self._exponential(varying, peel)
        inside = self.rewrite(argument, peel)
        for base, symbol in self._groups:
            ratio = sympy.cancel(inside / base)
            if ratio.is_Rational and ratio.is_Integer:
                return symbol**ratio
        return self._new_group(inside)

    def _new_group(self, inside: Expr) -> Expr:
        """Return exp(inside) by a new symbol for the one of exp(inside) and exp(-inside) that decays."""
        symbol = Symbol(f"t{len(self._groups)}", positive=True)
        sign = 1 if self._value(inside) > 0 else -1
        on_main = sympy.cancel(inside / self.main)
        if self.cap is not None:
            if not on_main.is_Rational:
                raise NotImplementedError("more than one exponential")
            sign = -1 if on_main > 0 else 1
            decay: Expr = Within(abs(on_main) * self.main, -sympy.oo, Integer(self.cap))
        elif on_main.is_Rational:
            decay = -abs(on_main) * Size(self.main)
        else:
            decay = -sign * inside
        if self.cap is None:
            # On this side, where it is used, the size is the input itself: a sum with it may end.
            self._logarithms[symbol] = -sign * inside
        else:
            self._logarithms[symbol] = Symbol(f"log_{symbol}", real=True)
            self.names[self._logarithms[symbol]] = decay
        self.names[symbol] = exp(decay)
        # The exponential of the base is symbol ** -sign.
        self._groups.append((-sign * inside, symbol))
        self.decaying[symbol] = None
        return symbol ** (-sign)

    def _logarithm(self, inside: Expr, peel: bool) -> Expr:
        """Return log(c t^k (1 + b)) as log(c) + k log(t) + log1p(b)."""
        ratio = sympy.cancel(sympy.together(inside))
        top, bottom = sympy.fraction(ratio)
        used = [s for s in self.decaying if ratio.has(s)]
        if len(used) != 1:
            return self._plain_logarithm(ratio)
        (t,) = used
        (i, a), (j, b) = lowest(top, t), lowest(bottom, t)
        lead = sympy.cancel(a / b)
        if lead.has(X) or any(lead.has(f) for f in self._functions.values()):
            return self._plain_logarithm(ratio)
        if not peel and i == j and lead != 1:
            return self._plain_logarithm(ratio)
        rest = sympy.cancel(ratio / (lead * t ** (i - j)) - 1)
        power = self._logarithms[t]
        return (
            log(lead) + (i - j) * power + self._function(Log1p(tidy(rest)))
            if rest != 0
            else (log(lead) + (i - j) * power)
        )

    def _plain_logarithm(self, ratio: Expr) -> Expr:
        if ratio.is_number:
            return log(ratio)
        return self._function(Log1p(tidy(sympy.cancel(ratio - 1))))


def find_main(expression: Expr) -> Expr:
    """Return what tells the sides apart: the first exponent that is a multiple of x, without its number."""
    for node in sorted(to_exponentials(expression).atoms(exp), key=sympy.default_sort_key):
        for term in Add.make_args(sympy.expand(node.args[0])):
            factor = sympy.cancel(term / X)
            if not factor.has(X) and factor.free_symbols:
                number, rest = factor.as_coeff_Mul()
                return rest * X if number else X
    return X


def decaying(expression: Expr, side: int, parameters: Mapping[str, float], main: Expr) -> Iterator[Form]:
    """Yield quotients of polynomials in decaying exponentials, and in expm1 of their exponents."""
    opened = to_exponentials(expression)
    if not opened.atoms(exp) or size(opened) > MODERATE:
        return
    seen: set[Any] = set()
    for peel in (True, False) if opened.atoms(log) else (True,):
        writer = Decaying(side, parameters, main)
        ratio = sympy.together(writer.rewrite(opened, peel))
        if size(ratio) > 2 * MODERATE:
            continue
        top, bottom = sympy.fraction(sympy.cancel(ratio))
        if (top, bottom) in seen:
            continue
        seen.add((top, bottom))
        guard = _Guard(writer)
        for above in (sympy.factor(top), _powers(top, writer)):
            form = guard.form(above, sympy.factor(bottom), "decaying")
            yield form
            yield from _by_roots(form, writer)
        yield from _by_expm1(top, bottom, writer)


def capped(expression: Expr, parameters: Mapping[str, float], main: Expr) -> Iterator[Form]:
    """Yield a quotient of polynomials in one exponential, which stops growing when it may."""
    opened = to_exponentials(expression)
    if not opened.atoms(exp) or size(opened) > MODERATE:
        return
    writer = Decaying(-1, parameters, main, 20)
    ratio = sympy.together(writer.rewrite(opened, True))
    top, bottom = sympy.fraction(sympy.cancel(ratio))
    for cap in (20, 40, 44):
        writer = Decaying(-1, parameters, main, cap)
        writer.rewrite(opened, True)
        below = sympy.factor(bottom)
        for whole in (sympy.factor(top) / below, _powers(top, writer) / below, *_divided(top, below, writer)):
            if not whole.has(X):
                yield Form(whole, writer.names, kind="one exponential")
                continue
            low = -(Integer(10) ** 9)
            # How far x has to go is known where it stands with its factor in the exponent alone.
            z = Symbol("z", real=True)
            scaled = whole.xreplace({X: z * X / main})
            below = {power for power in scaled.atoms(sympy.Pow) if power.exp < 0}
            if not scaled.has(X) and not any(power.has(z) for power in below):
                yield Form(scaled, {**writer.names, z: Within(main, low, cap)}, kind="one exponential")
            for paired in (False, True):
                near = Within(X, low, sympy.oo)
                yield Form(whole.xreplace({X: near}), writer.names, paired, "one exponential")


def _divided(top: Expr, bottom: Expr, writer: Decaying) -> Iterator[Expr]:
    """Yield t^k (q + r / m) / m for a quotient by m^2, whose powers of t may be too large."""
    for t in writer.decaying:
        squares = [f for f in Mul.make_args(bottom) if f.is_Pow and f.exp == 2 and f.has(t)]
        if len(squares) != 1 or (bottom / squares[0]).has(t):
            continue
        m, (k, _) = squares[0].base, lowest(top, t)
        q, r = sympy.div(sympy.Poly(sympy.cancel(top / t**k), t), sympy.Poly(m, t))
        whole = sympy.collect(sympy.expand(q.as_expr()), t, sympy.factor) + sympy.factor(r.as_expr()) / m
        yield t**k * whole / (bottom / m)


def _powers(polynomial: Expr, writer: Decaying) -> Expr:
    """Return a polynomial by its powers of the decaying symbols, each coefficient in factors."""
    symbols = sorted(writer.decaying, key=str)
    collected = sympy.collect(sympy.expand(polynomial), symbols, evaluate=False)
    return Add(*(power * sympy.factor(factor) for power, factor in collected.items()))


def _by_expm1(top: Expr, bottom: Expr, writer: Decaying) -> Iterator[Form]:
    """Yield the quotient in m = t - 1 instead of t: near 0 the ones cancel."""
    t = next((s for s in writer.decaying if top.has(s) or bottom.has(s)), None)
    if t is None:
        return
    m = Symbol("m", real=True)
    names = {**writer.names, m: Expm1(writer.names[t].args[0])}
    above, below = sympy.factor(sympy.expand(top.subs(t, 1 + m))), sympy.factor(bottom.subs(t, 1 + m))
    yield Form(above / below, names, kind="expm1, factors")
    yield Form(sympy.horner(sympy.expand(above), wrt=m) / below, names, kind="expm1, powers")


def _by_roots(form: Form, writer: Decaying) -> Iterator[Form]:
    """Yield t f as r (r f) with r = sqrt(t), which underflows later than t: f may be large."""
    factors = Mul.make_args(form.expression)
    t = next((s for s in writer.decaying if s in factors), None)
    if t is not None:
        r, rest = sympy.symbols("r rest", real=True)
        whole = Mul(*(f for f in factors if f != t), r)
        names = {**form.names, r: exp(form.names[t].args[0] / 2), rest: whole}
        yield Form(r * rest, names, kind="decaying, by roots")


class _Guard:
    """Keeps a large x from meeting an exponential that is 0."""

    def __init__(self, writer: Decaying) -> None:
        self.writer = writer
        self.x_near = Symbol("xn", real=True)

    def form(self, top: Expr, bottom: Expr, kind: str) -> Form:
        """Return the form of a quotient."""
        symbols = self.writer.decaying
        whole = any(
            (f.is_Symbol and f in symbols) or (f.is_Pow and f.base in symbols) for f in Mul.make_args(top)
        )
        degree = max(int(sympy.degree(p, X)) if p.has(X) else 1 for p in (top, bottom))
        # The power must be a float32 still, and the exponential of the bound nothing, however slow it is.
        bound = Integer(10) ** min(12, 36 // max(degree, 1))
        names = {**self.writer.names, self.x_near: Within(X, -bound, bound)}
        parts = [self._part(f, whole) for f in Mul.make_args(top)]
        parts += [1 / self._part(f, False) for f in Mul.make_args(bottom)]
        return Form(Mul(*parts), names, kind=kind)

    def _part(self, factor: Expr, whole: bool) -> Expr:
        if whole:
            return factor.xreplace({X: self.x_near})
        if factor.is_Pow and factor.exp.is_Integer:
            return self._part(factor.base, False) ** factor.exp
        if isinstance(factor, Add):
            return Add(*(self._term(term) for term in factor.args))
        return self._term(factor)

    def _term(self, term: Expr) -> Expr:
        falls = bool(term.free_symbols & self.writer.decaying.keys())
        return term.xreplace({X: self.x_near}) if falls else term

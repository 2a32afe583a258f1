"""Rewrite expressions in exponentials that decay, which neither overflow nor absorb small terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sympy
import torch
from sympy import Add, Expr, Integer, Mul, Symbol, exp, log

from actlab.derivation.codegen.lowering import ExprForm, lower_form
from actlab.derivation.codegen.program_functions import Expm1, Known, Log1p, Size, Within, to_exponentials
from actlab.derivation.codegen.rewrites import MODERATE, count_operations, factor_small, find_lowest_term
from actlab.derivation.syntax.to_sympy import X

_CAPS = (20, 40)


class DecayingRewriter:
    """Rewrites an expression on one side of 0 in exponentials that decay there.

    Args:
        side: 1 or -1, the sign of the input.
        parameters: The default parameters, which determine the sign of an exponent.
        main: A multiple of the input: positive on one side, negative on the other.
        cap: For one form on both sides: exponentials of ``main`` grow up to the exponential of the cap
            instead of decaying, and others are not allowed.
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
        self.decaying: dict[Symbol, None] = {}  # an ordered set: the result must not depend on hashes

    def rewrite(self, node: Expr) -> Expr:
        """Return the expression in symbols for exponentials and for other functions."""
        if node.is_Atom or node.is_number:
            return node
        if isinstance(node, exp):
            return self._rewrite_exponential(node.args[0])
        if node.is_Pow and not node.exp.is_number:
            return self._rewrite_exponential(node.exp * log(node.base))
        arguments = [self.rewrite(argument) for argument in node.args]
        if isinstance(node, log):
            return self._rewrite_logarithm(arguments[0])
        if isinstance(node, Known | sympy.Function):
            return self._name_function(node.func(*(factor_small(a) for a in arguments)))
        if node.is_Pow and not node.exp.is_Integer:
            return self._name_function(node.func(factor_small(arguments[0]), node.exp))
        return node.func(*arguments)

    def _name_function(self, node: Expr) -> Expr:
        if node not in self._functions:
            self._functions[node] = Symbol(f"f{len(self._functions)}", real=True)
            self.names[self._functions[node]] = node
        return self._functions[node]

    def _evaluate(self, node: Expr) -> float:
        """Return the value of an expression at a point of the side."""
        made = lower_form(ExprForm(node, self.names), list(self._parameters))
        point = torch.tensor(self.side * 2.3, dtype=torch.float64)
        return float(made(point, *self._parameters.values()))

    def _rewrite_exponential(self, argument: Expr) -> Expr:
        argument = sympy.expand(argument)
        constant, varying = argument.as_independent(X, as_Add=True)
        if constant.is_number and constant != 0 and varying != 0:
            return exp(constant) * self._rewrite_exponential(varying)
        exponent = self.rewrite(argument)
        for base, symbol in self._groups:
            ratio = sympy.cancel(exponent / base)
            if ratio.is_Integer:
                return symbol**ratio
        return self._add_group(exponent)

    def _add_group(self, exponent: Expr) -> Expr:
        """Return an exponential by a new symbol for the one of exp(u) and exp(-u) that decays."""
        symbol = Symbol(f"t{len(self._groups)}", positive=True)
        on_main = sympy.cancel(exponent / self.main)
        if self.cap is None:
            sign = 1 if self._evaluate(exponent) > 0 else -1
            decay: Expr = -abs(on_main) * Size(self.main) if on_main.is_Rational else -sign * exponent
            # On this side the size is the input itself: a sum with it may cancel.
            self._logarithms[symbol] = -sign * exponent
        else:
            if not on_main.is_Rational:
                raise NotImplementedError("more than one exponential")
            sign = -1 if on_main > 0 else 1
            decay = Within(abs(on_main) * self.main, -sympy.oo, Integer(self.cap))
            self._logarithms[symbol] = Symbol(f"log_{symbol}", real=True)
            self.names[self._logarithms[symbol]] = decay
        self.names[symbol] = exp(decay)
        # The exponential of the base is symbol ** -sign.
        self._groups.append((-sign * exponent, symbol))
        self.decaying[symbol] = None
        return symbol ** (-sign)

    def _rewrite_logarithm(self, argument: Expr) -> Expr:
        """Return log(c t^k (1 + b)) as log(c) + k log(t) + log1p(b)."""
        ratio = sympy.cancel(sympy.together(argument))
        top, bottom = sympy.fraction(ratio)
        used = [s for s in self.decaying if ratio.has(s)]
        if len(used) != 1:
            return self._take_log(ratio)
        (t,) = used
        (i, a), (j, b) = find_lowest_term(top, t), find_lowest_term(bottom, t)
        lead = sympy.cancel(a / b)
        if lead.has(X) or any(lead.has(f) for f in self._functions.values()):
            return self._take_log(ratio)
        rest = sympy.cancel(ratio / (lead * t ** (i - j)) - 1)
        result = log(lead) + (i - j) * self._logarithms[t]
        return result + self._name_function(Log1p(factor_small(rest))) if rest != 0 else result

    def _take_log(self, ratio: Expr) -> Expr:
        return (
            log(ratio)
            if ratio.is_number
            else self._name_function(Log1p(factor_small(sympy.cancel(ratio - 1))))
        )


def find_main(expression: Expr) -> Expr:
    """Return the main exponent: the first multiple of x that has parameters, without its numeric factor."""
    for node in sorted(to_exponentials(expression).atoms(exp), key=sympy.default_sort_key):
        for term in Add.make_args(sympy.expand(node.args[0])):
            factor = sympy.cancel(term / X)
            if not factor.has(X) and factor.free_symbols:
                number, rest = factor.as_coeff_Mul()
                return rest * X if number else X
    return X


def rewrite(expression: Expr, side: int, parameters: Mapping[str, float], main: Expr) -> Iterator[ExprForm]:
    """Yield quotients of polynomials in decaying exponentials, and in expm1 of their exponents."""
    opened = to_exponentials(expression)
    if not opened.atoms(exp) or count_operations(opened) > MODERATE:
        return
    writer = DecayingRewriter(side, parameters, main)
    ratio = sympy.together(writer.rewrite(opened))
    if count_operations(ratio) > 2 * MODERATE:
        return
    top, bottom = sympy.fraction(sympy.cancel(ratio))
    clamp = _InputClamp(writer)
    for numerator in (sympy.factor(top), _collect_powers(top, writer)):
        form = clamp.make_form(numerator, sympy.factor(bottom), "decaying")
        yield form
        yield from _rewrite_by_roots(form, writer)
    yield from _rewrite_by_expm1(top, bottom, writer)


def rewrite_capped(expression: Expr, parameters: Mapping[str, float], main: Expr) -> Iterator[ExprForm]:
    """Yield a quotient of polynomials in one exponential that stops growing at a cap."""
    opened = to_exponentials(expression)
    if not opened.atoms(exp) or count_operations(opened) > MODERATE:
        return
    low = -(Integer(10) ** 9)
    for cap in _CAPS:
        writer = DecayingRewriter(-1, parameters, main, cap)
        top, bottom = sympy.fraction(sympy.cancel(sympy.together(writer.rewrite(opened))))
        below = sympy.factor(bottom)
        tops = sympy.factor(top), _collect_powers(top, writer)
        for whole in (*(above / below for above in tops), *_divide_by_square(top, below, writer)):
            if not whole.has(X):
                yield ExprForm(whole, writer.names, kind="one exponential")
                continue
            # The clamp of x is known if x occurs with its factor in the exponent only.
            z = Symbol("z", real=True)
            scaled = whole.xreplace({X: z * X / main})
            divisors = {power for power in scaled.atoms(sympy.Pow) if power.exp < 0}
            if not scaled.has(X) and not any(power.has(z) for power in divisors):
                yield ExprForm(scaled, {**writer.names, z: Within(main, low, cap)}, kind="one exponential")
            for paired in (False, True):
                near = Within(X, low, sympy.oo)
                yield ExprForm(whole.xreplace({X: near}), writer.names, paired, "one exponential")


def _divide_by_square(top: Expr, bottom: Expr, writer: DecayingRewriter) -> Iterator[Expr]:
    """Yield t^k (q + r / m) / m for a quotient by m^2 with large powers of t."""
    for t in writer.decaying:
        squares = [f for f in Mul.make_args(bottom) if f.is_Pow and f.exp == 2 and f.has(t)]
        if len(squares) != 1 or (bottom / squares[0]).has(t):
            continue
        m, (k, _) = squares[0].base, find_lowest_term(top, t)
        q, r = sympy.div(sympy.Poly(sympy.cancel(top / t**k), t), sympy.Poly(m, t))
        whole = sympy.collect(sympy.expand(q.as_expr()), t, sympy.factor) + sympy.factor(r.as_expr()) / m
        yield t**k * whole / (bottom / m)


def _collect_powers(polynomial: Expr, writer: DecayingRewriter) -> Expr:
    """Return a polynomial by powers of the decaying symbols, with factored coefficients."""
    symbols = sorted(writer.decaying, key=str)
    collected = sympy.collect(sympy.expand(polynomial), symbols, evaluate=False)
    return Add(*(power * sympy.factor(factor) for power, factor in collected.items()))


def _rewrite_by_expm1(top: Expr, bottom: Expr, writer: DecayingRewriter) -> Iterator[ExprForm]:
    """Yield the quotient in m = t - 1 instead of t: near 0 the terms 1 cancel."""
    t = next((s for s in writer.decaying if top.has(s) or bottom.has(s)), None)
    if t is None:
        return
    m = Symbol("m", real=True)
    names = {**writer.names, m: Expm1(writer.names[t].args[0])}
    above, below = sympy.factor(sympy.expand(top.subs(t, 1 + m))), sympy.factor(bottom.subs(t, 1 + m))
    yield ExprForm(above / below, names, kind="expm1, factors")
    yield ExprForm(sympy.horner(sympy.expand(above), wrt=m) / below, names, kind="expm1, powers")


def _rewrite_by_roots(form: ExprForm, writer: DecayingRewriter) -> Iterator[ExprForm]:
    """Yield t f as r (r f) with r = sqrt(t), which underflows later than t: f may be large."""
    factors = Mul.make_args(form.expression)
    t = next((s for s in writer.decaying if s in factors), None)
    if t is not None:
        r, rest = sympy.symbols("r rest", real=True)
        whole = Mul(*(f for f in factors if f != t), r)
        names = {**form.names, r: exp(form.names[t].args[0] / 2), rest: whole}
        yield ExprForm(r * rest, names, kind="decaying, by roots")


class _InputClamp:
    """Clamps a large x where it meets an exponential that is 0."""

    def __init__(self, writer: DecayingRewriter) -> None:
        self.decaying, self.names = writer.decaying, writer.names
        self.x_near = Symbol("xn", real=True)

    def make_form(self, top: Expr, bottom: Expr, kind: str) -> ExprForm:
        """Return the form of a quotient."""
        factors = Mul.make_args(top)
        whole = any(f in self.decaying or (f.is_Pow and f.base in self.decaying) for f in factors)
        degree = max(int(sympy.degree(p, X)) if p.has(X) else 1 for p in (top, bottom))
        # The power must stay in float32, and the exponential of the bound be 0, even of a slow exponent.
        bound = Integer(10) ** min(12, 36 // max(degree, 1))
        names = {**self.names, self.x_near: Within(X, -bound, bound)}
        parts = [f.xreplace({X: self.x_near}) if whole else self._clamp_factor(f) for f in factors]
        parts += [1 / self._clamp_factor(f) for f in Mul.make_args(bottom)]
        return ExprForm(Mul(*parts), names, kind=kind)

    def _clamp_factor(self, factor: Expr) -> Expr:
        if factor.is_Pow and factor.exp.is_Integer:
            return self._clamp_factor(factor.base) ** factor.exp
        terms = factor.args if isinstance(factor, Add) else (factor,)
        return Add(*(self._clamp_term(term) for term in terms))

    def _clamp_term(self, term: Expr) -> Expr:
        falls = bool(term.free_symbols & self.decaying.keys())
        return term.xreplace({X: self.x_near}) if falls else term

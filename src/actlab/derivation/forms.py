"""Ways to compute one smooth expression: which of them keeps its digits is for numbers to say."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import mpmath
import sympy
import torch
from sympy import Add, Expr, Integer, Mul, Poly, Symbol, exp, log

from actlab.derivation.lowering import Form, X, program
from actlab.derivation.vocabulary import (
    Expm1,
    Known,
    Log1p,
    Sech,
    Series,
    Size,
    Tanh,
    TanhSlope,
    Within,
    expanded,
)

# What SymPy is asked to multiply out and factor: its time grows fast, and cannot be limited from outside.
_SMALL, _MODERATE = 90, 260


def size(expression: Expr) -> int:
    """Return how many operations an expression has."""
    return int(sympy.count_ops(expression))


def plain(expression: Expr) -> Iterator[Form]:
    """Yield an expression as it stands, and in factors."""
    yield Form(expression)
    if size(expression) > _MODERATE:
        return
    seen = {expression}
    made: Expr
    for made in (
        sympy.factor_terms(expression),
        *by_tanh(expression),
        *_factored(expression),
        *_trigonometric(expression),
        _kept_finite(expression),
    ):
        if made not in seen:
            seen.add(made)
            yield Form(made, kind="factors")
            if any(_deep(power) for power in made.atoms(sympy.Pow)):
                yield Form(made, paired=True, kind="factors in turn")


def halved(expression: Expr) -> Expr:
    """Write sines by those of the half angle: what 1 + cos(u) and 1 - cos(u) are near 0, a square, shows."""

    def double(node: Any) -> Expr:
        s, c = sympy.sin(node.args[0] / 2), sympy.cos(node.args[0] / 2)
        return 2 * s * c if isinstance(node, sympy.sin) else 2 * c**2 - 1

    return expression.replace(lambda n: isinstance(n, sympy.sin | sympy.cos), double)


def _kept_finite(expression: Expr) -> Expr:
    """Keep the arguments of sines finite: at infinity they have no value, and what they are added to may."""
    return expression.replace(
        lambda n: isinstance(n, sympy.sin | sympy.cos),
        lambda n: n.func(n.args[0].xreplace({X: Within(X, -(Integer(10) ** 36), Integer(10) ** 36)})),
    )


def _deep(power: Any) -> bool:
    return bool(power.exp.is_number and abs(power.exp) > 1)


def by_tanh(expression: Expr) -> Iterator[Expr]:
    """Yield it with other forms of sech^2, which keep more digits where tanh is small."""
    for other in (lambda u: 1 - Tanh(u) ** 2, TanhSlope):
        made = expression.replace(
            lambda n: isinstance(n, sympy.Pow) and isinstance(n.base, Sech) and n.exp == 2,
            lambda n, other=other: other(n.base.args[0]),
        )
        if made != expression:
            yield made
            yield sympy.factor_terms(made)


def _factored(expression: Expr) -> Iterator[Expr]:
    if size(expression) <= _SMALL:
        try:
            yield sympy.factor(expression, deep=False)
        except (sympy.PolynomialError, NotImplementedError):
            return


def _trigonometric(expression: Expr) -> Iterator[Expr]:
    """Yield factors that come of 1 = sin^2 + cos^2, such as those of 1 + sin(2 x)."""
    for angle in {node.args[0] for node in expression.atoms(sympy.sin, sympy.cos)}:
        opened = expression.replace(
            lambda n, a=angle: isinstance(n, sympy.sin | sympy.cos) and n.args[0] == 2 * a,
            lambda n: sympy.expand_trig(n),
        )
        s, c = sympy.symbols("s c", real=True)
        poly = sympy.expand(opened.xreplace({sympy.sin(angle): s, sympy.cos(angle): c}))
        if not poly.is_polynomial(s, c) or size(poly) > _SMALL:
            continue
        terms = Poly(poly, s, c).terms()
        degree = max(sum(powers) for powers, _ in terms)
        if any((degree - sum(powers)) % 2 for powers, _ in terms):
            continue
        whole = Add(*(f * s**i * c**j * (s**2 + c**2) ** ((degree - i - j) // 2) for (i, j), f in terms))
        back = {s: sympy.sin(angle), c: sympy.cos(angle)}
        yield sympy.factor(sympy.expand(whole)).xreplace(back)


def clamped(form: Form, bound: float) -> Form:
    """Return a form of the clamped input: beyond, the function is constant."""
    names = {name: value.xreplace({X: _within(bound)}) for name, value in form.names.items()}
    return Form(form.expression.xreplace({X: _within(bound)}), names, form.paired, f"{form.kind}, clamped")


def _within(bound: float) -> Expr:
    return Within(X, Integer(-int(bound)), Integer(int(bound)))


# -- far out: 1 / |x| -----------------------------------------------------------------------------


def inverted(expression: Expr, side: int) -> Iterator[Form]:
    """Yield an expression in 1 / |x|, and without the difference of a root and what is nearly it."""
    opened = expanded(expression)
    if opened.atoms(exp) or size(opened) > _SMALL:
        return
    if not opened.atoms(sympy.Function):
        yield from _conjugated(Form(opened))
    y = Symbol("y", positive=True)
    logarithm = Symbol("log_y", real=True)
    far = _in_inverse(opened.subs(X, side / y), y, logarithm)
    far = sympy.cancel(far) if not far.atoms(sympy.Pow) else sympy.factor(far)
    names = {y: 1 / Size(X), logarithm: -log(Size(X))}
    made = Form(far, names, kind="in 1 / |x|")
    yield made
    yield Form(far, names, paired=True, kind="in 1 / |x|, in turn")
    if not opened.atoms(sympy.Function):
        yield from _conjugated(made)


def _in_inverse(node: Expr, y: Symbol, logarithm: Symbol) -> Expr:
    """Write what functions are taken of so that no power of 1 / y is left in it that could be taken out."""
    if node.is_Atom or node.is_number:
        return node
    made = node.func(*(_in_inverse(argument, y, logarithm) for argument in node.args))
    if isinstance(made, log):
        ratio = sympy.cancel(sympy.together(made.args[0]))
        top, bottom = sympy.fraction(ratio)
        (i, a), (j, b) = _lowest(top, y), _lowest(bottom, y)
        rest = sympy.cancel(ratio / (a / b * y ** (i - j)) - 1)
        return log(a / b) + (i - j) * logarithm + (Log1p(sympy.factor(rest)) if rest != 0 else 0)
    if isinstance(made, sympy.Function):
        return made.func(*(sympy.powsimp(sympy.factor(argument)) for argument in made.args))
    if made.is_Pow and made.exp.is_Rational and made.exp.q == 2:
        return _root_out(sympy.powsimp(sympy.factor(made)), y) if made.is_Pow else made
    return made


def _root_out(root: Any, y: Symbol) -> Expr:
    """Take powers of 1 / y out of a root."""
    if not root.is_Pow:
        return root
    top, bottom = sympy.fraction(sympy.together(root.base))
    factor, rest = bottom.as_independent(y, as_Add=False)
    if rest.is_Pow and rest.base == y and rest.exp.is_Integer and rest.exp % 2 == 0:
        return (sympy.expand(top) / factor) ** root.exp / y ** (rest.exp * root.exp)
    return root


def _conjugated(form: Form) -> Iterator[Form]:
    """Yield (a^2 - b^2 p) / (a - b sqrt(p)) for a + b sqrt(p)."""
    expression = sympy.together(form.expression)
    roots = {n.base for n in expression.atoms(sympy.Pow) if n.exp.is_Rational and n.exp.q == 2}
    if len(roots) != 1:
        return
    (inside,) = roots
    r = Symbol("r", positive=True)
    top, bottom = sympy.fraction(
        expression.replace(
            lambda n: isinstance(n, sympy.Pow) and n.base == inside and n.exp.is_Rational and n.exp.q == 2,
            lambda n: r ** (2 * n.exp),
        )
    )
    names = {**form.names, r: sympy.sqrt(inside)}
    for factor in Mul.make_args(sympy.factor(top)):
        poly = sympy.rem(Poly(factor, r), Poly(r**2 - inside, r)) if factor.has(r) else None
        if poly is None or poly.degree() != 1:
            continue
        b, a = poly.all_coeffs()
        other = sympy.factor(sympy.expand(a**2 - b**2 * inside)) / (a - b * r)
        whole = sympy.factor(top) / factor * other / sympy.factor(bottom)
        yield Form(whole, names, kind="conjugate")
        yield Form(whole, names, paired=True, kind="conjugate, in turn")


# -- in decaying exponentials ---------------------------------------------------------------------


class Decaying:
    """Writes an expression on one side of 0 in exponentials that decay there.

    Args:
        side: 1 or -1, the sign of the input.
        parameters: The default parameters, which tell the sign of an exponent.
        main: What is positive on the one side and negative on the other: a multiple of the input.
        cap: Instead of decaying on the side, exponentials of ``main`` grow up to that of the cap, and no others
            are allowed: for one form on both sides.
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
        self.decaying: set[Symbol] = set()

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
            return self._function(node.func(*(_tidy(a) for a in arguments)))
        if node.is_Pow and not node.exp.is_Integer:
            return self._function(node.func(_tidy(arguments[0]), node.exp))
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
        self.decaying.add(symbol)
        return symbol ** (-sign)

    def _logarithm(self, inside: Expr, peel: bool) -> Expr:
        """Return log(c t^k (1 + b)) as log(c) + k log(t) + log1p(b)."""
        ratio = sympy.cancel(sympy.together(inside))
        top, bottom = sympy.fraction(ratio)
        used = [s for s in self.decaying if ratio.has(s)]
        if len(used) != 1:
            return self._plain_logarithm(ratio)
        (t,) = used
        (i, a), (j, b) = _lowest(top, t), _lowest(bottom, t)
        lead = sympy.cancel(a / b)
        if lead.has(X) or any(lead.has(f) for f in self._functions.values()):
            return self._plain_logarithm(ratio)
        if not peel and i == j and lead != 1:
            return self._plain_logarithm(ratio)
        rest = sympy.cancel(ratio / (lead * t ** (i - j)) - 1)
        power = self._logarithms[t]
        return (
            log(lead) + (i - j) * power + self._function(Log1p(_tidy(rest)))
            if rest != 0
            else (log(lead) + (i - j) * power)
        )

    def _plain_logarithm(self, ratio: Expr) -> Expr:
        if ratio.is_number:
            return log(ratio)
        return self._function(Log1p(_tidy(sympy.cancel(ratio - 1))))


def _lowest(polynomial: Expr, t: Symbol) -> tuple[int, Expr]:
    """Return the lowest power of a symbol in a polynomial, and its coefficient."""
    terms = Poly(polynomial, t).terms()
    (power,), coefficient = min(terms, key=lambda term: term[0])
    return int(power), coefficient


@functools.lru_cache(2048)
def _tidy(expression: Expr) -> Expr:
    return sympy.factor(expression) if size(expression) <= _SMALL else expression


def main_of(expression: Expr) -> Expr:
    """Return what tells the sides apart: the first exponent that is a multiple of x, without its number."""
    for node in sorted(expanded(expression).atoms(exp), key=sympy.default_sort_key):
        for term in Add.make_args(sympy.expand(node.args[0])):
            factor = sympy.cancel(term / X)
            if not factor.has(X) and factor.free_symbols:
                number, rest = factor.as_coeff_Mul()
                return rest * X if number else X
    return X


def decaying(expression: Expr, side: int, parameters: Mapping[str, float], main: Expr) -> Iterator[Form]:
    """Yield an expression as quotients of polynomials in decaying exponentials, and in expm1 of the exponent."""
    opened = expanded(expression)
    if not opened.atoms(exp) or size(opened) > _MODERATE:
        return
    seen: set[Any] = set()
    for peel in (True, False) if opened.atoms(log) else (True,):
        writer = Decaying(side, parameters, main)
        ratio = sympy.together(writer.rewrite(opened, peel))
        if size(ratio) > 2 * _MODERATE:
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
    """Yield an expression as a quotient of polynomials in one exponential, which stops growing when it may."""
    opened = expanded(expression)
    if not opened.atoms(exp) or size(opened) > _MODERATE:
        return
    writer = Decaying(-1, parameters, main, 20)
    ratio = sympy.together(writer.rewrite(opened, True))
    top, bottom = sympy.fraction(sympy.cancel(ratio))
    for cap in (20, 44):
        writer = Decaying(-1, parameters, main, cap)
        writer.rewrite(opened, True)
        for above in (sympy.factor(top), _powers(top, writer)):
            whole = above / sympy.factor(bottom)
            if not whole.has(X):
                yield Form(whole, writer.names, kind="one exponential")
                continue
            end = Integer(cap if main == X else 1000)
            for bound, paired in ((end, False), (sympy.oo, False), (sympy.oo, True)):
                near = Within(X, -(Integer(10) ** 9), bound)
                yield Form(whole.xreplace({X: near}), writer.names, paired, "one exponential")


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
        falls = bool(term.free_symbols & self.writer.decaying)
        return term.xreplace({X: self.x_near}) if falls else term


# -- near 0 ---------------------------------------------------------------------------------------


def taylor(expression: Expr, terms: int) -> list[Any] | None:
    """Return the coefficients of the series at 0 of an expression in x alone, or None if it has none."""
    if expression.free_symbols != {X}:
        return None
    function = sympy.lambdify(X, expression, "mpmath")
    try:
        with mpmath.workdps(60):
            found = mpmath.taylor(function, 0, terms)
            largest = max(abs(c) for c in found)
            return [mpmath.mpf(c) if abs(c) > largest * mpmath.mpf("1e-40") else mpmath.mpf(0) for c in found]
    except (ValueError, ZeroDivisionError, TypeError, ArithmeticError):
        return None


def series(coefficients: list[Any], order: int) -> Iterator[Form]:
    """Yield polynomials for the derivative of an order, of several degrees, by the series of the function."""
    for _ in range(order):
        coefficients = [c * k for k, c in enumerate(coefficients)][1:]
    powers = [k for k, c in enumerate(coefficients) if c]
    if len(powers) < 2:
        return
    step = 2 if all((k - powers[0]) % 2 == 0 for k in powers) else 1
    for count in (3, 5, 7, 9, 12, 16):
        chosen = coefficients[powers[0] : powers[0] + count * step : step]
        numbers = [sympy.Float(float(c)) for c in reversed(chosen)]
        yield Form(Series(X, Integer(powers[0]), Integer(step), *numbers), kind="series")

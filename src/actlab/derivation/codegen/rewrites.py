"""Rewrite a smooth expression in several forms, among which measured errors decide."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import mpmath
import sympy
from sympy import Add, Expr, Integer, Mul, Poly, Symbol, exp, log

from actlab.derivation.codegen.lowering import ExprForm
from actlab.derivation.codegen.program_functions import (
    Log1p,
    NormalSigmoid,
    Root,
    Sech,
    Series,
    Sigmoid,
    Size,
    Tanh,
    TanhSlope,
    Within,
    to_exponentials,
)
from actlab.derivation.syntax.to_sympy import X

# Operations of an expression that SymPy may factor or multiply out: its time grows fast.
_SMALL, MODERATE = 90, 260


def count_operations(expression: Expr) -> int:
    """Count the operations of an expression."""
    return int(sympy.count_ops(expression))


def find_lowest_term(polynomial: Expr, t: Symbol) -> tuple[int, Expr]:
    """Return the lowest power of a symbol in a polynomial, and its coefficient."""
    terms = Poly(polynomial, t).terms()
    (power,), coefficient = min(terms, key=lambda term: term[0])
    return int(power), coefficient


@functools.lru_cache(2048)
def factor_small(expression: Expr) -> Expr:
    """Factor an expression, if it is small."""
    return sympy.factor(expression) if count_operations(expression) <= _SMALL else expression


def rewrite_by_factoring(expression: Expr) -> Iterator[ExprForm]:
    """Yield an expression unchanged, and in factored and rewritten forms."""
    yield ExprForm(expression)
    if count_operations(expression) > MODERATE:
        return
    seen = {expression}
    made: Expr
    for made in (
        sympy.factor_terms(expression),
        *replace_sech_squares(expression),
        *_factor(expression),
        *_factor_trigonometric(expression),
        _clamp_angles(expression),
        replace_roots(expression),
        _round_fractions(expression),
        expression.replace(Sigmoid, NormalSigmoid),
        expression.replace(lambda n: n.is_Mul and n.has(Sigmoid), _write_by_sech),
    ):
        if made not in seen:
            seen.add(made)
            yield ExprForm(made, kind="factors")
            if any(_is_high_power(power) for power in made.atoms(sympy.Pow)):
                yield ExprForm(made, paired=True, kind="factors in turn")


def halve_angles(expression: Expr) -> Expr:
    """Write sines and cosines by the half angle: 1 + cos(u) and 1 - cos(u) become squares."""

    def open_double_angle(node: Any) -> Expr:
        s, c = sympy.sin(node.args[0] / 2), sympy.cos(node.args[0] / 2)
        return 2 * s * c if isinstance(node, sympy.sin) else 2 * c**2 - 1

    return expression.replace(lambda n: isinstance(n, sympy.sin | sympy.cos), open_double_angle)


def _clamp_angles(expression: Expr) -> Expr:
    """Keep the arguments of sines finite: at infinity a sum may have a value where its sine has none."""
    return expression.replace(
        lambda n: isinstance(n, sympy.sin | sympy.cos),
        lambda n: n.func(n.args[0].xreplace({X: Within(X, -(Integer(10) ** 36), Integer(10) ** 36)})),
    )


def _round_fractions(expression: Expr) -> Expr:
    """Round factors such as 1 / 3 to floats: a product is cheaper than a division."""
    return expression.replace(
        lambda n: n.is_Mul and n.args[0].is_Rational and n.args[0].q & (n.args[0].q - 1),
        lambda n: n.func(sympy.Float(n.args[0]), *n.args[1:]),
    )


def _write_by_sech(product: Expr) -> Expr:
    """Write sigmoid(u) sigmoid(-u) by 1 / cosh, which takes one exponential."""
    for one in product.args:
        if isinstance(one, Sigmoid) and (other := Sigmoid(-one.args[0])) in product.args:
            return product / one / other * Sech(one.args[0] / 2) ** 2 / 4
    return product


def replace_roots(expression: Expr) -> Expr:
    """Replace roots of x^2 + v with an operation that does not overflow."""

    def root(node: Any) -> Expr:
        rest = node.base - X**2
        return node if rest.has(X) else Root(X, rest) ** (2 * node.exp)

    return expression.replace(
        lambda n: isinstance(n, sympy.Pow) and n.exp.is_Rational and n.exp.q == 2 and n.base.has(X**2), root
    )


def _is_high_power(power: Any) -> bool:
    return bool(power.exp.is_number and abs(power.exp) > 1)


def replace_sech_squares(expression: Expr) -> Iterator[Expr]:
    """Yield other forms of sech^2, which are more accurate where tanh is small."""
    if count_operations(expression) > MODERATE:
        return
    for other in (lambda u: 1 - Tanh(u) ** 2, TanhSlope):
        made = expression.replace(
            lambda n: isinstance(n, sympy.Pow) and isinstance(n.base, Sech) and n.exp == 2,
            lambda n, other=other: other(n.base.args[0]),
        )
        if made != expression:
            yield made
            yield sympy.factor_terms(made)


def _factor(expression: Expr) -> Iterator[Expr]:
    if count_operations(expression) <= _SMALL:
        try:
            yield sympy.factor(expression, deep=False)
        except (sympy.PolynomialError, NotImplementedError):
            return


def _factor_trigonometric(expression: Expr) -> Iterator[Expr]:
    """Yield factorizations by 1 = sin^2 + cos^2, such as that of 1 + sin(2 x)."""
    angles = {node.args[0] for node in expression.atoms(sympy.sin, sympy.cos)}
    for angle in sorted(angles, key=sympy.default_sort_key):
        opened = expression.replace(
            lambda n, a=angle: isinstance(n, sympy.sin | sympy.cos) and n.args[0] == 2 * a,
            lambda n: sympy.expand_trig(n),
        )
        s, c = sympy.symbols("s c", real=True)
        poly = sympy.expand(opened.xreplace({sympy.sin(angle): s, sympy.cos(angle): c}))
        if not poly.is_polynomial(s, c) or count_operations(poly) > _SMALL:
            continue
        terms = Poly(poly, s, c).terms()
        degree = max(sum(powers) for powers, _ in terms)
        if any((degree - sum(powers)) % 2 for powers, _ in terms):
            continue
        whole = Add(*(f * s**i * c**j * (s**2 + c**2) ** ((degree - i - j) // 2) for (i, j), f in terms))
        back = {s: sympy.sin(angle), c: sympy.cos(angle)}
        yield sympy.factor(sympy.expand(whole)).xreplace(back)


def clamp_input(form: ExprForm, low: float, high: float) -> ExprForm:
    """Return a form of the clamped input, for functions that are constant beyond a bound."""
    near = {X: Within(X, low, high)}
    names = {name: value.xreplace(near) for name, value in form.names.items()}
    return ExprForm(
        form.expression.xreplace(near), names, form.paired, f"{form.kind}, from {low:g} to {high:g}"
    )


# -- far out: 1 / |x| -----------------------------------------------------------------------------


def rewrite_in_inverse(expression: Expr, side: int) -> Iterator[ExprForm]:
    """Yield an expression in terms of 1 / |x|, and forms in which a root and a close value do not cancel."""
    opened = to_exponentials(expression)
    if opened.atoms(exp) or count_operations(opened) > _SMALL:
        return
    if not opened.atoms(sympy.Function):
        yield from _multiply_conjugate(ExprForm(opened))
    y = Symbol("y", positive=True)
    logarithm = Symbol("log_y", real=True)
    far = _extract_powers(opened.subs(X, side / y), y, logarithm)
    far = sympy.cancel(far) if not far.atoms(sympy.Pow) else sympy.factor(far)
    names = {y: 1 / Size(X), logarithm: -log(Size(X))}
    form = ExprForm(far, names, kind="in 1 / |x|")
    yield form
    if not opened.atoms(sympy.Function):
        yield from _multiply_conjugate(form)


def _extract_powers(node: Expr, y: Symbol, logarithm: Symbol) -> Expr:
    """Take powers of 1 / y out of the arguments of functions and roots."""
    if node.is_Atom or node.is_number:
        return node
    made = node.func(*(_extract_powers(argument, y, logarithm) for argument in node.args))
    if isinstance(made, log):
        ratio = sympy.cancel(sympy.together(made.args[0]))
        top, bottom = sympy.fraction(ratio)
        (i, a), (j, b) = find_lowest_term(top, y), find_lowest_term(bottom, y)
        rest = sympy.cancel(ratio / (a / b * y ** (i - j)) - 1)
        return log(a / b) + (i - j) * logarithm + (Log1p(sympy.factor(rest)) if rest != 0 else 0)
    if isinstance(made, sympy.Function):
        return made.func(*(sympy.powsimp(sympy.factor(argument)) for argument in made.args))
    if made.is_Pow and made.exp.is_Rational and made.exp.q == 2:
        return _extract_from_root(sympy.powsimp(sympy.factor(made)), y) if made.is_Pow else made
    return made


def _extract_from_root(root: Any, y: Symbol) -> Expr:
    """Take powers of 1 / y out of a root."""
    if not root.is_Pow:
        return root
    top, bottom = sympy.fraction(sympy.together(root.base))
    factor, rest = bottom.as_independent(y, as_Add=False)
    if rest.is_Pow and rest.base == y and rest.exp.is_Integer and rest.exp % 2 == 0:
        return (sympy.expand(top) / factor) ** root.exp / y ** (rest.exp * root.exp)
    return root


def _multiply_conjugate(form: ExprForm) -> Iterator[ExprForm]:
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
        yield ExprForm(whole, names, kind="conjugate")
        if not form.names:
            yield ExprForm(whole, {r: replace_roots(sympy.sqrt(inside))}, kind="conjugate, rooted")


# -- near 0 ---------------------------------------------------------------------------------------


def compute_taylor(expression: Expr, terms: int) -> list[Any] | None:
    """Return the Taylor coefficients at 0 of an expression in x alone, or None if there are none."""
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


def rewrite_as_series(coefficients: list[Any], order: int) -> Iterator[ExprForm]:
    """Yield polynomials and Padé quotients for a derivative, from the Taylor series of the function."""
    for _ in range(order):
        coefficients = [c * k for k, c in enumerate(coefficients)][1:]
    powers = [k for k, c in enumerate(coefficients) if c]
    if len(powers) < 2:
        return
    step = 2 if all((k - powers[0]) % 2 == 0 for k in powers) else 1
    for count in (3, 5, 7, 9, 12, 16):
        chosen = coefficients[powers[0] : powers[0] + count * step : step]
        yield _make_series(powers[0], step, chosen, ())
    for degree in (2, 3, 4, 5):
        chosen = coefficients[powers[0] : powers[0] + (2 * degree + 1) * step : step]
        with mpmath.workdps(60), contextlib.suppress(ZeroDivisionError):
            yield _make_series(powers[0], step, *mpmath.pade(chosen, degree, degree))


def _make_series(power: int, step: int, top: Sequence[Any], bottom: Sequence[Any]) -> ExprForm:
    """Return x^power times a polynomial in x^step or a quotient of two; constants come first."""
    first, last = (
        Series(X, Integer(start), Integer(step), *(sympy.Float(float(c)) for c in reversed(part)))
        for start, part in ((power, top), (0, bottom))
    )
    return ExprForm(first / last, kind="quotient of series") if bottom else ExprForm(first, kind="series")

"""Lower SymPy expressions to steps of a program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
from sympy import Expr, Integer, Rational, Symbol

from actlab.derivation.codegen.program import Builder, Operand, Program
from actlab.derivation.codegen.program_functions import Known, Root, Series, Size, Within
from actlab.derivation.syntax.to_sympy import X

_UNARY = {
    **{getattr(sympy, name): name for name in "exp log sinh cosh tanh sin cos tan atan erf erfc".split()},
    sympy.Abs: "abs",
}
_CHOICES = {sympy.Gt: "above", sympy.Le: "above", sympy.Ge: "at_least", sympy.Lt: "at_least"}
_BELOW = (sympy.Lt, sympy.Le)
_MIRRORED = {sympy.Gt: sympy.Lt, sympy.Lt: sympy.Gt, sympy.Ge: sympy.Le, sympy.Le: sympy.Ge}


@dataclass(frozen=True)
class Form:
    """One way to compute an expression.

    Attributes:
        expression: The expression, in the input, the parameters and the symbols of ``names``.
        names: The expressions of symbols: common parts that SymPy must not multiply out.
        paired: Multiply large and small factors in turn, so that no partial product overflows.
        kind: A description of the rewrite.
    """

    expression: Expr
    names: Mapping[Symbol, Expr] = field(default_factory=dict, hash=False)
    paired: bool = False
    kind: str = "plain"


class Lowering:
    """Adds expressions to a builder."""

    def __init__(self, parameters: Sequence[str], traced: bool = False) -> None:
        self.build = Builder(["x", *parameters])
        self.size = "size" if traced else "abs"
        self._places = {Symbol(n, real=True): i for i, n in enumerate(["x", *parameters])}
        self._names: Mapping[Symbol, Expr] = {}
        self._paired = False
        self._known: dict[tuple[Expr, bool], Operand] = {}

    def add(self, form: Form) -> Operand:
        """Add a form; return its value."""
        self._names, self._paired = form.names, form.paired
        self._known = {}  # other forms use the same symbols for other expressions
        return self.value(form.expression)

    def value(self, node: Any) -> Operand:
        """Add an expression; return its value."""
        key = (node, self._paired)
        if key not in self._known:
            self._known[key] = self._lower(node)
        return self._known[key]

    def _lower(self, node: Any) -> Operand:
        if node.is_number and not node.has(Known, Size, Within):  # SymPy cannot evaluate these
            return number(node)
        if node.is_Symbol:
            return self.value(self._names[node]) if node in self._names else self._places[node]
        if isinstance(node, sympy.Add):
            return self._sum(node)
        if isinstance(node, sympy.Mul):
            return self._product(node)
        if isinstance(node, sympy.Pow):
            if node.exp.is_number and node.exp.is_negative:
                return self.build("div", 1.0, self.value(node.base**-node.exp))
            return self._power(node.base, node.exp)
        if isinstance(node, Within):
            inside, low, high = (self.value(argument) for argument in node.args)
            return self.build.clamp(self.build.tensor(inside), low, high)
        if isinstance(node, Root):
            square, more = (self.value(argument) for argument in node.args)
            return self.build("root", self.build.tensor(square), more)
        if isinstance(node, Series):
            return self._series(*node.args)
        if isinstance(node, Size):
            return self.build(self.size, self.build.tensor(self.value(node.args[0])))
        if isinstance(node, Known) or type(node) in _UNARY:
            operation = node.operation if isinstance(node, Known) else _UNARY[type(node)]
            return self.build(operation, self.build.tensor(self.value(node.args[0])))
        if isinstance(node, sympy.Piecewise):
            *branches, (last, _) = node.args
            result = self.value(last)
            for value, condition in reversed(branches):
                result = self.choice(condition, self.value(value), result)
            return result
        if isinstance(node, sympy.Min | sympy.Max):
            operation = "minimum" if isinstance(node, sympy.Min) else "maximum"
            first, *rest = (self.build.tensor(self.value(argument)) for argument in node.args)
            for other in rest:
                first = self.build(operation, first, other)
            return first
        raise TypeError(f"{type(node).__name__} is not a function of formulas")

    def _series(self, _: Expr, power: Expr, step: Expr, *coefficients: Expr) -> Operand:
        z = self.value(X) if step == 1 else self.build("mul", self.value(X), self.value(X))
        numbers = tuple(float(c) for c in coefficients)
        value = self.build("polynomial", z, coefficients=numbers)
        return (
            value if power == 0 else self.build("mul", value, self._integer_power(self.value(X), int(power)))
        )

    def choice(self, condition: Any, yes: Operand, no: Operand) -> Operand:
        """Add a choice between two values by a condition."""
        if type(yes) is type(no) and yes == no:
            return yes
        if isinstance(condition, sympy.Not):
            return self.choice(condition.args[0], no, yes)
        if isinstance(condition, sympy.And | sympy.Or):
            every = isinstance(condition, sympy.And)
            result = yes if every else no
            for part in reversed(condition.args):
                result = self.choice(part, result, no) if every else self.choice(part, yes, result)
            return result
        kind, left, right = type(condition), self.value(condition.lhs), self.value(condition.rhs)
        if self.build.follows_input(right) and not self.build.follows_input(left):
            kind, left, right = _MIRRORED[kind], right, left
        if kind in _BELOW:
            yes, no = no, yes
        return self.build.choice(_CHOICES[kind], self.build.tensor(left), right, yes, no)

    def _sum(self, node: sympy.Add) -> Operand:
        plus: list[Expr] = []
        minus: list[Expr] = []
        # Terms of parameters only are added first: their sum may be exactly 0.
        fixed = [t for t in node.args if t.free_symbols and self._is_fixed(t)]
        if fixed and len(fixed) < len(node.args):
            fixed += [t for t in node.args if t.is_number]
        if len(fixed) < 2 or len(fixed) == len(node.args):
            fixed = []
        for term in node.args:
            if term in fixed:
                continue
            (minus if term.could_extract_minus_sign() else plus).append(term)
        if not plus and not fixed:
            return self.build("neg", self.value(-node))
        # Numbers last: they round once.
        plus.sort(key=lambda term: bool(term.is_number))
        result = self.value(sympy.Add(*fixed)) if fixed else self.value(plus.pop(0))
        for term in plus:
            result = self.build("add", result, self.value(term))
        for term in minus:
            result = self.build("sub", result, self.value(-term))
        return result

    def _is_fixed(self, node: Expr) -> bool:
        return not (X in node.free_symbols or node.free_symbols & self._names.keys())

    def _product(self, node: sympy.Mul) -> Operand:
        constant, above, below = sympy.S.One, [], []
        for factor in node.args:
            if factor.is_number:
                constant *= factor
            elif isinstance(factor, sympy.Pow) and factor.exp.is_number and factor.exp.is_negative:
                below.append((factor.base, -factor.exp))
            elif isinstance(factor, sympy.Pow) and factor.exp.is_Integer:
                above.append((factor.base, factor.exp))
            else:
                above.append((factor, Integer(1)))
        negative = bool(constant.is_negative)
        constant = -constant if negative else constant
        divisor: Expr = Integer(1)
        if (
            isinstance(constant, Rational)
            and constant.q & (constant.q - 1)
            and max(constant.p, constant.q) < 1e6
        ):
            # No float is 1 / 3: multiplying and dividing by exact numbers rounds less.
            constant, divisor = Integer(constant.p), Integer(constant.q)
        if self._paired:
            result = self._multiply_in_turn(above, below)
            if constant != 1:
                result = (
                    number(constant)
                    if isinstance(result, float)
                    else self.build("mul", result, number(constant))
                )
            if divisor != 1:
                result = self.build("div", result, number(divisor))
        else:
            top = self._multiply(above, constant)
            result = (
                top if divisor == 1 and not below else self.build("div", top, self._multiply(below, divisor))
            )
        return self.build("neg", result) if negative else result

    def _multiply(self, factors: list[tuple[Expr, Expr]], constant: Expr) -> Operand:
        values = [self._power(base, power) for base, power in factors]
        if constant != 1 or not values:
            values.append(number(constant))
        result = values[0]
        for value in values[1:]:
            result = self.build("mul", result, value)
        return result

    def _multiply_in_turn(self, above: list[tuple[Expr, Expr]], below: list[tuple[Expr, Expr]]) -> Operand:
        """Multiply factors and divide by divisors in turn, a power one factor at a time."""
        # One factor of every power, then the next of every one that has more.
        most = max((int(power) for _, power in above), default=0)
        tops = [self.value(base) for turn in range(most) for base, power in above if turn < int(power)]
        bottoms: list[Operand] = []
        for base, power in below:
            bottoms += [self.value(base)] * int(power)
            if power != int(power):
                bottoms.append(self._power(base, power - int(power)))
        result: Operand = tops.pop(0) if tops else 1.0
        while tops or bottoms:
            if bottoms:
                result = self.build("div", result, bottoms.pop(0))
            if tops:
                result = self.build("mul", result, tops.pop(0))
        return result

    def _power(self, base: Expr, power: Expr) -> Operand:
        if power == 1:
            return self.value(base)
        value = self.value(base)
        if power.is_Integer and 0 < power <= 64:
            return self._integer_power(value, int(power))
        if power.is_Rational and power.q == 2 and 0 < power < 16:
            root = self.build("sqrt", self.build.tensor(value))
            whole = int(power)
            return root if whole == 0 else self.build("mul", self._integer_power(value, whole), root)
        exponent = self.value(power)
        return self.build("power", self.build.tensor(value), exponent)

    def _integer_power(self, value: Operand, power: int) -> Operand:
        if power == 1:
            return value
        half = self._integer_power(value, power // 2)
        square = self.build("mul", half, half)
        return self.build("mul", square, value) if power % 2 else square

    def finish(self, value: Operand) -> Program:
        """Return the program of a value."""
        return self.build.finish(value)


def number(node: Any) -> float:
    """Return a constant as the nearest float."""
    if node in (sympy.oo, -sympy.oo):
        return math.inf if node == sympy.oo else -math.inf
    value = sympy.N(node, 30)
    return float(value) if value.is_real else math.nan


def program(form: Form, parameters: Sequence[str], traced: bool = False) -> Program:
    """Return the program of one form."""
    lowering = Lowering(parameters, traced)
    return lowering.finish(lowering.add(form))

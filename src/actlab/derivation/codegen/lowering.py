"""Lower SymPy expressions to steps of a program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
from sympy import Expr, Integer, Rational, Symbol

from actlab.derivation.codegen.program import Operand, Program, ProgramBuilder
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
class ExprForm:
    """One way to compute an expression.

    Attributes:
        expression: The expression, in the input, the parameters and the symbols of ``names``.
        names: The expressions of symbols: common parts that SymPy must not multiply out.
        paired: Whether to multiply large and small factors in turn, so that no partial product overflows.
        kind: A description of the rewrite.
    """

    expression: Expr
    names: Mapping[Symbol, Expr] = field(default_factory=dict, hash=False)
    paired: bool = False
    kind: str = "plain"


class Lowering:
    """Adds expressions to a builder."""

    def __init__(self, parameters: Sequence[str], traced: bool = False) -> None:
        self.build = ProgramBuilder(["x", *parameters])
        self.size = "size" if traced else "abs"
        self._places = {Symbol(n, real=True): i for i, n in enumerate(["x", *parameters])}
        self._names: Mapping[Symbol, Expr] = {}
        self._paired = False
        self._known: dict[tuple[Expr, bool], Operand] = {}

    def add_form(self, form: ExprForm) -> Operand:
        """Add a form; return its value."""
        self._names, self._paired = form.names, form.paired
        self._known = {}  # other forms use the same symbols for other expressions
        return self.lower(form.expression)

    def lower(self, node: Any) -> Operand:
        """Lower an expression; return its value."""
        key = (node, self._paired)
        if key not in self._known:
            self._known[key] = self._lower_node(node)
        return self._known[key]

    def _lower_node(self, node: Any) -> Operand:
        if node.is_number and not node.has(Known, Size, Within):  # SymPy cannot evaluate these
            return to_float(node)
        if node.is_Symbol:
            return self.lower(self._names[node]) if node in self._names else self._places[node]
        if isinstance(node, sympy.Add):
            return self._add_sum(node)
        if isinstance(node, sympy.Mul):
            return self._add_product(node)
        if isinstance(node, sympy.Pow):
            if node.exp.is_number and node.exp.is_negative:
                return self.build("div", 1.0, self.lower(node.base**-node.exp))
            return self._add_power(node.base, node.exp)
        if isinstance(node, Within):
            inside, low, high = (self.lower(argument) for argument in node.args)
            return self.build.add_clamp(self.build.to_tensor(inside), low, high)
        if isinstance(node, Root):
            square, more = (self.lower(argument) for argument in node.args)
            return self.build("root", self.build.to_tensor(square), more)
        if isinstance(node, Series):
            return self._add_series(*node.args)
        if isinstance(node, Size):
            return self.build(self.size, self.build.to_tensor(self.lower(node.args[0])))
        if isinstance(node, Known) or type(node) in _UNARY:
            operation = node.operation if isinstance(node, Known) else _UNARY[type(node)]
            return self.build(operation, self.build.to_tensor(self.lower(node.args[0])))
        if isinstance(node, sympy.Piecewise):
            *branches, (last, _) = node.args
            result = self.lower(last)
            for value, condition in reversed(branches):
                result = self.add_choice(condition, self.lower(value), result)
            return result
        if isinstance(node, sympy.Min | sympy.Max):
            operation = "minimum" if isinstance(node, sympy.Min) else "maximum"
            first, *rest = (self.build.to_tensor(self.lower(argument)) for argument in node.args)
            for other in rest:
                first = self.build(operation, first, other)
            return first
        raise TypeError(f"{type(node).__name__} is not a function of formulas")

    def _add_series(self, _: Expr, power: Expr, step: Expr, *coefficients: Expr) -> Operand:
        z = self.lower(X) if step == 1 else self.build("mul", self.lower(X), self.lower(X))
        numbers = tuple(float(c) for c in coefficients)
        value = self.build("polynomial", z, coefficients=numbers)
        return (
            value
            if power == 0
            else self.build("mul", value, self._add_integer_power(self.lower(X), int(power)))
        )

    def add_choice(self, condition: Any, yes: Operand, no: Operand) -> Operand:
        """Add a choice between two values by a condition."""
        if type(yes) is type(no) and yes == no:
            return yes
        if isinstance(condition, sympy.Not):
            return self.add_choice(condition.args[0], no, yes)
        if isinstance(condition, sympy.And | sympy.Or):
            every = isinstance(condition, sympy.And)
            result = yes if every else no
            for part in reversed(condition.args):
                result = self.add_choice(part, result, no) if every else self.add_choice(part, yes, result)
            return result
        kind, left, right = type(condition), self.lower(condition.lhs), self.lower(condition.rhs)
        if self.build.follows_input(right) and not self.build.follows_input(left):
            kind, left, right = _MIRRORED[kind], right, left
        if kind in _BELOW:
            yes, no = no, yes
        return self.build.add_choice(_CHOICES[kind], self.build.to_tensor(left), right, yes, no)

    def _add_sum(self, node: sympy.Add) -> Operand:
        plus: list[Expr] = []
        minus: list[Expr] = []
        # Terms that contain only parameters are added first: their sum may be exactly 0.
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
            return self.build("neg", self.lower(-node))
        # Numbers last: they round once.
        plus.sort(key=lambda term: bool(term.is_number))
        result = self.lower(sympy.Add(*fixed)) if fixed else self.lower(plus.pop(0))
        for term in plus:
            result = self.build("add", result, self.lower(term))
        for term in minus:
            result = self.build("sub", result, self.lower(-term))
        return result

    def _is_fixed(self, node: Expr) -> bool:
        return not (X in node.free_symbols or node.free_symbols & self._names.keys())

    def _add_product(self, node: sympy.Mul) -> Operand:
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
                    to_float(constant)
                    if isinstance(result, float)
                    else self.build("mul", result, to_float(constant))
                )
            if divisor != 1:
                result = self.build("div", result, to_float(divisor))
        else:
            top = self._multiply(above, constant)
            result = (
                top if divisor == 1 and not below else self.build("div", top, self._multiply(below, divisor))
            )
        return self.build("neg", result) if negative else result

    def _multiply(self, factors: list[tuple[Expr, Expr]], constant: Expr) -> Operand:
        values = [self._add_power(base, power) for base, power in factors]
        if constant != 1 or not values:
            values.append(to_float(constant))
        result = values[0]
        for value in values[1:]:
            result = self.build("mul", result, value)
        return result

    def _multiply_in_turn(self, above: list[tuple[Expr, Expr]], below: list[tuple[Expr, Expr]]) -> Operand:
        """Multiply factors and divide by divisors in turn, a power one factor at a time."""
        # One factor of every power, then the next of every one that has more.
        most = max((int(power) for _, power in above), default=0)
        tops = [self.lower(base) for turn in range(most) for base, power in above if turn < int(power)]
        bottoms: list[Operand] = []
        for base, power in below:
            bottoms += [self.lower(base)] * int(power)
            if power != int(power):
                bottoms.append(self._add_power(base, power - int(power)))
        result: Operand = tops.pop(0) if tops else 1.0
        while tops or bottoms:
            if bottoms:
                result = self.build("div", result, bottoms.pop(0))
            if tops:
                result = self.build("mul", result, tops.pop(0))
        return result

    def _add_power(self, base: Expr, power: Expr) -> Operand:
        if power == 1:
            return self.lower(base)
        value = self.lower(base)
        if power.is_Integer and 0 < power <= 64:
            return self._add_integer_power(value, int(power))
        if power.is_Rational and power.q == 2 and 0 < power < 16:
            root = self.build("sqrt", self.build.to_tensor(value))
            whole = int(power)
            return root if whole == 0 else self.build("mul", self._add_integer_power(value, whole), root)
        exponent = self.lower(power)
        return self.build("power", self.build.to_tensor(value), exponent)

    def _add_integer_power(self, value: Operand, power: int) -> Operand:
        if power == 1:
            return value
        half = self._add_integer_power(value, power // 2)
        square = self.build("mul", half, half)
        return self.build("mul", square, value) if power % 2 else square

    def finish(self, value: Operand) -> Program:
        """Return the program of a value."""
        return self.build.finish(value)


def to_float(node: Any) -> float:
    """Return a constant as the nearest float."""
    if node in (sympy.oo, -sympy.oo):
        return math.inf if node == sympy.oo else -math.inf
    value = sympy.N(node, 30)
    return float(value) if value.is_real else math.nan


def lower_form(form: ExprForm, parameters: Sequence[str], traced: bool = False) -> Program:
    """Return the program of one form."""
    lowering = Lowering(parameters, traced)
    return lowering.finish(lowering.add_form(form))

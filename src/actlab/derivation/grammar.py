"""A formula in text, read by a white list over Python's grammar: nothing in it is evaluated or imported."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import sympy

from actlab._errors import UsageError, did_you_mean
from actlab.activation import Activation
from actlab.derivation.places import misread
from actlab.derivation.scanning import one_line, scanned
from actlab.derivation.words import CHOICE, FUNCTIONS, OTHERWISE, arguments, choices, entry_of, is_number

_MOST_PARTS = 300  # numbers, names and operations in a text
_MOST_NODES = 600  # of an expression, once all names of functions have been put in
_MOST_CHOSEN = 150  # of an expression in min or max, which SymPy compares with each other at length
_DEEPEST = 150  # steps down the tree; a function or a bracket counts for three
_LARGEST_EXPONENT = 100
_MOST_BITS = 4096  # of a number
_TOO_LONG = "formula: is too long: it has more than {} operations and values"
_TOO_DEEP = "formula: too many operations are inside each other"

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: sympy.Lt,
    ast.LtE: sympy.Le,
    ast.Gt: sympy.Gt,
    ast.GtE: sympy.Ge,
}


@dataclass(frozen=True)
class Parsed:
    """A formula that is one: every part of its tree is allowed.

    Attributes:
        text: Its text, in one line.
        tree: Its tree, with places in the text.
    """

    text: str
    tree: ast.expr

    def place(self, node: ast.expr) -> tuple[int, int]:
        """Return where a part begins and ends, with the brackets that belong to it."""
        assert node.end_col_offset is not None
        return node.col_offset, node.end_col_offset

    def refuse(self, node: ast.expr, problem: str) -> NoReturn:
        """Raise what is wrong with a part, with its place."""
        raise misread(f"formula: {problem}", self.text, *self.place(node)) from None

    def part(self, node: ast.expr, most: int = 60) -> str:
        """Return the text of a part, shortened."""
        start, end = self.place(node)
        text = self.text[start:end]
        return text if len(text) <= most else f"{text[: most - 3]}..."


def read(text: str, names: Collection[str] | None = None) -> sympy.Expr:
    """Read a formula.

    Args:
        text: Arithmetic in real variables with the usual functions, ``where(x > 0, a, b)``, ``pi``, and
            functions of the catalogue.
        names: The variables that it may have; any, when left out.

    Returns:
        The expression; its symbols are real.

    Raises:
        UsageError: The text is no formula; the message names the place.

    Examples:
        >>> read("where(x > 0, x, a * (exp(x) - 1))")
        Piecewise((x, x > 0), (a*(exp(x) - 1), True))
        >>> read("mish(x) / 2")
        x*tanh(log(exp(x) + 1))/2
    """
    return expression(parse(text, names))


def parse(text: str, names: Collection[str] | None = None) -> Parsed:
    """Read a formula's form, and refuse what is none.

    Args:
        text: As for :func:`read`.
        names: As for :func:`read`.

    Returns:
        The formula.

    Raises:
        UsageError: As :func:`read`.
    """
    line = one_line(text)
    scanned(line)
    try:
        tree = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        place = min(max((error.offset or 1) - 1, 0), len(line) - 1)
        raise misread("formula: cannot be read here", line, place, place + 1) from None
    except (RecursionError, MemoryError):
        raise misread(_TOO_DEEP, line, 0, len(line)) from None
    parsed = Parsed(line, tree)
    _check_size(parsed)
    _check(parsed, tree, names)
    return parsed


def _check_size(parsed: Parsed) -> None:
    pending, parts = [(parsed.tree, 0)], 0
    while pending:
        node, depth = pending.pop()
        parts += 1
        if depth > _DEEPEST:
            parsed.refuse(node, _TOO_DEEP.removeprefix("formula: "))
        if parts > _MOST_PARTS:
            parsed.refuse(parsed.tree, _TOO_LONG.format(_MOST_PARTS).removeprefix("formula: "))
        left = node.left if isinstance(node, ast.BinOp) else None  # a long sum is no deep one
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                pending.append((child, depth + (1 if child is left else 3)))


def _check(parsed: Parsed, node: ast.expr, names: Collection[str] | None) -> None:
    """Refuse what is no number: a comparison, a name that is not known, a function that is none."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return
        case ast.Name(id=name):
            _check_name(parsed, node, name, names)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(parsed, operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            _check(parsed, left, names)
            _check(parsed, right, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name == CHOICE and len(args) == 3:
                _check_condition(parsed, args[0], names)
                args = args[1:]
            else:
                _check_call(parsed, node, name, len(args), names)
            for argument in args:
                _check(parsed, argument, names)
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            parsed.refuse(
                node,
                f"{(part := parsed.part(node))!r} is a condition, which has its place in where({part}, a, b)",
            )
        case ast.Tuple():
            parsed.refuse(node, f"{parsed.part(node)!r} are several formulas; one is read")
        case _:
            parsed.refuse(node, f"{parsed.part(node)!r} is not allowed")


def _check_condition(parsed: Parsed, node: ast.expr, names: Collection[str] | None) -> None:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=right) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            for value in (left, *right):
                _check(parsed, value, names)
        case ast.BoolOp(values=values):
            for value in values:
                _check_condition(parsed, value, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check_condition(parsed, operand, names)
        case _:
            parsed.refuse(node, f"{parsed.part(node)!r} is no condition; right is where(x > 0, a, b)")


def _check_name(parsed: Parsed, node: ast.expr, name: str, names: Collection[str] | None) -> None:
    if (
        name == "pi"
        or (names is None and name not in (*FUNCTIONS, CHOICE))
        or (names is not None and name in names)
    ):
        return
    if name in FUNCTIONS or name == CHOICE:
        parsed.refuse(node, f"{name!r} is a function; right is {name}({', '.join(arguments(name))})")
    if name in ("e", "E"):
        parsed.refuse(node, f"unknown name {name!r}; e to the power of x is exp(x)")
    assert names is not None
    near = did_you_mean(name, [*names, "pi"])
    parsed.refuse(node, f"unknown name {name!r}{near or f'; a parameter needs a value: {name}=1.0'}")


def _check_call(parsed: Parsed, node: ast.Call, name: str, count: int, names: Collection[str] | None) -> None:
    assert isinstance(node.func, ast.expr)
    if name in FUNCTIONS and count == len(arguments(name)):
        return
    entry = entry_of(name)
    if entry is not None and not entry.facts.gated:
        takes = list(_numbers(entry))
        least = 1 + sum(
            not is_number(value) and parameter in takes for parameter, value in entry.parameters.items()
        )
        if least <= count <= 1 + len(takes):
            return
        wanted = ["x", *takes]
    elif entry is not None:
        parsed.refuse(node.func, f"{name!r} takes two halves of a tensor, and has no formula in x")
    elif name in FUNCTIONS or name == CHOICE:
        wanted = arguments(name)
    else:
        if name == "x" or name in (names or ()):
            parsed.refuse(node.func, f"{name!r} is not a function; did you mean '{name}*(...)'?")
        near = OTHERWISE.get(name)
        hint = f"; did you mean {near!r}?" if near else did_you_mean(name, choices())
        parsed.refuse(node.func, f"unknown function {name!r}{hint}")
    plural = "s" * (count != 1)
    parsed.refuse(node, f"{name} is given {count} argument{plural}; right is {name}({', '.join(wanted)})")


# -- as SymPy ----------------------------------------------------------------------------------------


def expression(parsed: Parsed) -> sympy.Expr:
    """Return a formula as SymPy, exactly: numbers are fractions.

    Raises:
        UsageError: A part of it is too large, or no finite real number.
    """
    return _Reading(parsed, {}).read(parsed.tree)


class _Reading:
    """One formula, with values for its names: that of a function in another has its arguments."""

    def __init__(self, parsed: Parsed, values: Mapping[str, Any]) -> None:
        self.parsed, self.values = parsed, values
        self.sizes: dict[Any, int] = {}

    def read(self, node: ast.expr) -> Any:
        """Return a part."""
        try:
            found = self._read(node)
        except UsageError:
            raise
        except (TypeError, ValueError, ArithmeticError, RecursionError, AttributeError):
            self.parsed.refuse(node, f"{self.parsed.part(node)!r} cannot be computed with")
        if found in (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
            self.parsed.refuse(node, f"{self.parsed.part(node)!r} is not a finite number")
        if self._size(found) > _MOST_NODES:
            self.parsed.refuse(node, _TOO_LONG.format(_MOST_NODES).removeprefix("formula: "))
        return found

    def _read(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return sympy.Rational(self.parsed.text[slice(*self.parsed.place(node))])
            case ast.Name(id="pi"):
                return sympy.pi
            case ast.Name(id=name):
                return self.values[name] if name in self.values else sympy.Symbol(name, real=True)
            case ast.UnaryOp(op=op, operand=operand):
                value = self.read(operand)
                return (
                    sympy.Not(value)
                    if isinstance(op, ast.Not)
                    else -value
                    if isinstance(op, ast.USub)
                    else value
                )
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self.read(left), self.read(right)
                if b == 0 and isinstance(op, ast.Div):
                    self.parsed.refuse(node, f"{self.parsed.part(node)!r} divides by 0")
                return self._power(node, a, b) if isinstance(op, ast.Pow) else _OPERATORS[type(op)](a, b)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                values = [self.read(left), *map(self.read, comparators)]
                pairs = zip(ops, values, values[1:], strict=False)
                return sympy.And(*(_COMPARISONS[type(op)](a, b) for op, a, b in pairs))
            case ast.BoolOp(op=op, values=parts):
                both = sympy.And if isinstance(op, ast.And) else sympy.Or
                return both(*map(self.read, parts))
            case ast.Call(func=ast.Name(id=name), args=args):
                return self._call(node, name, list(map(self.read, args)))
        raise TypeError(type(node))

    def _power(self, node: ast.expr, base: Any, exponent: Any) -> Any:
        if exponent.is_number and abs(exponent) > _LARGEST_EXPONENT:
            self._too_large(node, exponent)
        if base.is_Rational and exponent.is_Rational and _bits(base) * abs(exponent) > _MOST_BITS:
            self.parsed.refuse(node, f"{self.parsed.part(node)!r} is too large a number")
        found = base**exponent
        if found.is_Pow and found.exp.is_number and abs(found.exp) > _LARGEST_EXPONENT:
            self._too_large(node, found.exp)
        return found

    def _too_large(self, node: ast.expr, exponent: Any) -> NoReturn:
        part = self.parsed.part(node)
        self.parsed.refuse(node, f"{part!r} has too large an exponent; {_LARGEST_EXPONENT} is the largest")

    def _call(self, node: ast.expr, name: str, values: list[Any]) -> Any:
        if name == CHOICE:
            condition, a, b = values
            return sympy.Piecewise((a, condition), (b, True))
        if name in ("min", "max", "clip") and sum(map(self._size, values)) > _MOST_CHOSEN:
            self.parsed.refuse(
                node, f"{name} is given expressions of more than {_MOST_CHOSEN} operations and values"
            )
        if name in FUNCTIONS and len(values) == len(arguments(name)):
            return FUNCTIONS[name](sympy, *values)
        inner, given = inserted(name, values, sympy.Rational)
        try:
            return _Reading(inner, given).read(inner.tree)
        except UsageError as error:
            problem = str(error).splitlines()[0].removeprefix("formula: ")
            self.parsed.refuse(node, f"{self.parsed.part(node)!r}: in {inner.text}, {problem}")

    def _size(self, found: Any) -> int:
        """Return how many nodes a tree has, and refuse a number that is too long."""
        if found not in self.sizes:
            if found.is_Rational and _bits(found) > _MOST_BITS:
                raise ValueError("too long a number")
            self.sizes[found] = 1 + sum(map(self._size, found.args))
        return self.sizes[found]


def _bits(number: Any) -> int:
    return int(number.p).bit_length() + int(number.q).bit_length()


def inserted(name: str, values: list[Any], number: Callable[[str], Any]) -> tuple[Parsed, dict[str, Any]]:
    """Return the formula of a catalogue entry that another formula names, and what its names stand for.

    Args:
        name: The entry.
        values: Its arguments: what stands for ``x``, and parameters in order.
        number: Makes a number of its text.
    """
    entry = entry_of(name)
    assert entry is not None
    usual = _numbers(entry)
    given = {parameter: number(repr(value)) for parameter, value in usual.items()}
    return _textbook(entry.formula()), {**given, **dict(zip(["x", *usual], values, strict=False))}


def _numbers(entry: Activation[Any]) -> dict[str, float]:
    """Return the parameters of a catalogue entry that are numbers, in order, with their values."""
    return {name: entry.example[name] for name in entry.parameters if is_number(entry.example[name])}


@functools.cache
def _textbook(text: str) -> Parsed:
    return parse(text)

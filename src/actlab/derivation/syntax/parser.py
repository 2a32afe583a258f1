"""Parse a formula into a tree of Python's grammar, and refuse every node that is not on an allow-list."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NoReturn

from actlab.activation.definition import Activation
from actlab.derivation.syntax.builtin_functions import (
    FUNCTIONS,
    STEP_FUNCTIONS,
    SYNONYMS,
    WHERE,
    find_catalogue_function,
    is_number,
    list_argument_names,
    list_function_names,
)
from actlab.derivation.syntax.error_position import make_error_at
from actlab.derivation.syntax.tokenizer import to_one_line, tokenize
from actlab.errors import did_you_mean

MOST_PARTS = 300  # numbers, names and operations in a text
DEEPEST = 150  # depth of the tree; a function or a bracket counts for three
TOO_LONG = "is too long: it has more than {} operations and values"
_TOO_DEEP = "operations are nested too deeply"
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


@dataclass(frozen=True)
class ParsedFormula:
    """A parsed formula; every node of its tree is allowed.

    Attributes:
        text: The text, in one line.
        tree: The tree, with positions in the text.
    """

    text: str
    tree: ast.expr

    def get_text(self, node: ast.expr) -> str:
        """Return the text of a part."""
        return self.text[node.col_offset : node.end_col_offset]

    def refuse(self, node: ast.expr, problem: str) -> NoReturn:
        """Raise an error that shows a part of the formula."""
        assert node.end_col_offset is not None
        raise make_error_at(f"formula: {problem}", self.text, node.col_offset, node.end_col_offset) from None

    def quote(self, node: ast.expr) -> str:
        """Return the text of a part, shortened to 60 characters."""
        text = self.get_text(node)
        return text if len(text) <= 60 else f"{text[:57]}..."


def parse_formula(text: str, names: Collection[str] | None = None) -> ParsedFormula:
    """Parse a formula.

    Args:
        text: Arithmetic in real variables with the usual functions, ``where(x > 0, a, b)``, ``pi``, and
            functions in the catalogue.
        names: The variables that it may use (default: any).

    Returns:
        The parsed formula.

    Raises:
        UsageError: The text is not a formula; the message shows the position.
    """
    line = to_one_line(text)
    tokenize(line)
    try:
        tree = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        start = min(max((error.offset or 1) - 1, 0), len(line) - 1)
        raise make_error_at("formula: cannot be parsed here", line, start, start + 1) from None
    except (RecursionError, MemoryError):
        raise make_error_at(f"formula: {_TOO_DEEP}", line, 0, len(line)) from None
    parsed = ParsedFormula(line, tree)
    _check_size(parsed)
    _check_value(parsed, tree, names)
    return parsed


def _check_size(parsed: ParsedFormula) -> None:
    pending, parts = [(parsed.tree, 0)], 0
    while pending:
        node, depth = pending.pop()
        parts += 1
        if depth > DEEPEST:
            parsed.refuse(node, _TOO_DEEP)
        if parts > MOST_PARTS:
            parsed.refuse(parsed.tree, TOO_LONG.format(MOST_PARTS))
        left = node.left if isinstance(node, ast.BinOp) else None  # a long sum is not deep
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                pending.append((child, depth + (1 if child is left else 3)))


def _check_value(parsed: ParsedFormula, node: ast.expr, names: Collection[str] | None) -> None:
    """Refuse a node that is not a number: a comparison, or an unknown name or function."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return
        case ast.Name(id=name):
            _check_name(parsed, node, name, names)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check_value(parsed, operand, names)
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            _check_value(parsed, left, names)
            _check_value(parsed, right, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name == WHERE and len(args) == 3:
                _check_condition(parsed, args[0], names)
                args = args[1:]
            else:
                _check_call(parsed, node, name, len(args), names)
            for argument in args:
                _check_value(parsed, argument, names)
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            part = parsed.quote(node)
            parsed.refuse(node, f"{part!r} is a condition; write where({part}, a, b)")
        case ast.Tuple():
            parsed.refuse(node, f"{parsed.quote(node)!r} is more than one formula")
        case _:
            parsed.refuse(node, f"{parsed.quote(node)!r} is not allowed")


def _check_condition(parsed: ParsedFormula, node: ast.expr, names: Collection[str] | None) -> None:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=right) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            for value in (left, *right):
                _check_value(parsed, value, names)
        case ast.BoolOp(values=values):
            for value in values:
                _check_condition(parsed, value, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check_condition(parsed, operand, names)
        case _:
            parsed.refuse(node, f"{parsed.quote(node)!r} is not a condition; write where(x > 0, a, b)")


def _check_name(parsed: ParsedFormula, node: ast.expr, name: str, names: Collection[str] | None) -> None:
    if name == "pi" or (name not in FUNCTIONS if names is None else name in names):
        return
    if name in FUNCTIONS:
        parsed.refuse(node, f"{name!r} is a function; write {name}({', '.join(list_argument_names(name))})")
    if name in ("e", "E"):
        parsed.refuse(node, f"unknown name {name!r}; e to the power of x is exp(x)")
    if name.lower() in ("inf", "infinity", "nan"):
        parsed.refuse(node, f"{name!r} is not a finite number")
    assert names is not None
    near = did_you_mean(name, [*names, "pi"])
    parsed.refuse(node, f"unknown name {name!r}{near or f'; a parameter needs a value: {name}=1.0'}")


def _check_call(
    parsed: ParsedFormula, node: ast.Call, name: str, count: int, names: Collection[str] | None
) -> None:
    assert isinstance(node.func, ast.expr)
    if name in FUNCTIONS and count == len(list_argument_names(name)):
        return
    entry = find_catalogue_function(name)
    if entry is not None and not entry.facts.gated:
        takes = list(list_numbers(entry))
        least = 1 + sum(
            not is_number(value) and parameter in takes for parameter, value in entry.parameters.items()
        )
        if least <= count <= 1 + len(takes):
            return
        wanted = ["x", *takes]
    elif entry is not None:
        parsed.refuse(node.func, f"{name!r} gates one half of a tensor by the other and has no formula in x")
    elif name in FUNCTIONS:
        wanted = list_argument_names(name)
    else:
        if name == "x" or name in (names or ()):
            parsed.refuse(node.func, f"{name!r} is not a function (did you mean '{name}*(...)'?)")
        if name in STEP_FUNCTIONS:
            parsed.refuse(node.func, f"unknown function {name!r}; write {STEP_FUNCTIONS[name]}")
        near = SYNONYMS.get(name)
        hint = f" (did you mean {near!r}?)" if near else did_you_mean(name, list_function_names())
        parsed.refuse(node.func, f"unknown function {name!r}{hint}")
    plural = "s" * (count != 1)
    parsed.refuse(node, f"{name} got {count} argument{plural}; write {name}({', '.join(wanted)})")


def expand_catalogue_call(
    name: str, values: list[Any], number: Callable[[str], Any]
) -> tuple[ParsedFormula, dict[str, Any]]:
    """Return the formula of a catalogue entry that another formula calls, and the values of its names.

    Args:
        name: The entry.
        values: The arguments of the call: ``x`` and parameters in order.
        number: Converts the text of a number.
    """
    entry = find_catalogue_function(name)
    assert entry is not None
    defaults = list_numbers(entry)
    known = {parameter: number(repr(value)) for parameter, value in defaults.items()}
    return _parse_cached(entry.formula()), {**known, **dict(zip(["x", *defaults], values, strict=False))}


def list_numbers(entry: Activation[Any]) -> dict[str, float]:
    """Return the parameters of a catalogue entry that are numbers, in order, with their values."""
    return {name: entry.example[name] for name in entry.parameters if is_number(entry.example[name])}


_parse_cached = functools.cache(parse_formula)

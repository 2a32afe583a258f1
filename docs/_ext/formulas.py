"""A definition's formula as LaTeX, in the order in which it is written."""

from __future__ import annotations

import ast

_GREEK = {"alpha", "beta", "omega", "pi"}
_OPERATORS = {"exp", "log", "sin", "cos", "tanh", "max", "min"}  # LaTeX has a command of that name
_SIGNS = {ast.Gt: ">", ast.GtE: r"\ge", ast.Lt: "<", ast.LtE: r"\le"}
_SUM, _PRODUCT, _POWER, _ATOM = range(4)  # how tightly a part holds together


def latex(formula: str) -> str:
    r"""Return a formula in the grammar of definitions as LaTeX.

    Args:
        formula: The text, such as ``"where(x > 0, x, alpha * (exp(x) - 1))"``.

    Returns:
        LaTeX; a choice is a pair of cases.

    Raises:
        ValueError: The formula has a part that is not of the grammar.

    Examples:
        >>> latex("x * (1 + erf(x / sqrt(2))) / 2")
        '\\frac{x \\, \\left(1 + \\operatorname{erf}\\left(\\frac{x}{\\sqrt{2}}\\right)\\right)}{2}'
    """
    return _part(ast.parse(formula, mode="eval").body)[0]


def _part(node: ast.expr) -> tuple[str, int]:
    match node:
        case ast.Constant(value=value):
            short = f"{value:.6g}"
            return (short if float(short) == value else rf"{value:#.6g}\ldots"), _ATOM
        case ast.Name(id=name):
            return _name(name), _ATOM
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-{_held(operand, _PRODUCT)}", _PRODUCT
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return rf"\frac{{{_part(left)[0]}}}{{{_part(right)[0]}}}", _POWER
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return f"{_held(left, _ATOM)}^{{{_part(right)[0]}}}", _POWER
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return rf"{_held(left, _PRODUCT)} \, {_held(right, _POWER)}", _PRODUCT
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{_part(left)[0]} + {_part(right)[0]}", _SUM
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return f"{_part(left)[0]} - {_held(right, _PRODUCT)}", _SUM
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return f"{_part(left)[0]} {_SIGNS[type(op)]} {_part(right)[0]}", _SUM
        case ast.Call(func=ast.Name(id="where")):
            return r"\begin{cases}" + r" \\ ".join(_cases(node)) + r"\end{cases}", _POWER
        case ast.Call(func=ast.Name(id="exp"), args=[power]) if not _tall(power):
            return f"e^{{{_part(power)[0]}}}", _POWER
        case ast.Call(func=ast.Name(id="sqrt"), args=[inner]):
            return rf"\sqrt{{{_part(inner)[0]}}}", _ATOM
        case ast.Call(func=ast.Name(id="abs"), args=[inner]):
            return f"|{_part(inner)[0]}|", _ATOM
        case ast.Call(func=ast.Name(id=name), args=args):
            operator = rf"\{name}" if name in _OPERATORS else rf"\operatorname{{{name}}}"
            return operator + _bracketed(", ".join(_part(one)[0] for one in args)), _ATOM
    raise ValueError(f"no LaTeX for {ast.unparse(node)!r}")


def _held(node: ast.expr, tightly: int) -> str:
    """Return a part, in brackets where it would fall apart."""
    text, holds = _part(node)
    return text if holds >= tightly else _bracketed(text)


def _bracketed(text: str) -> str:
    return rf"\left({text}\right)" if r"\frac" in text else f"({text})"


def _tall(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _cases(node: ast.expr) -> list[str]:
    """Return the rows of a choice, and of choices in its last branch."""
    match node:
        case ast.Call(func=ast.Name(id="where"), args=[condition, value, rest]):
            return [rf"{_part(value)[0]} & \text{{if}}\;{_part(condition)[0]}", *_cases(rest)]
    return [rf"{_part(node)[0]} & \text{{otherwise}}"]


def _name(name: str) -> str:
    stem, _, index = name.partition("_")
    if stem in _GREEK:
        return rf"\{stem}_{{{index}}}" if index else rf"\{stem}"
    if name == "lambd":
        return r"\lambda"
    return name if len(name) == 1 else rf"\text{{{name}}}"

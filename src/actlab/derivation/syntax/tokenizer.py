"""Split a formula into tokens, and refuse what is not allowed before Python's parser sees it.

Python's parser is slow or fails on nested brackets, warns about numbers and letters run together, and reports
only "invalid syntax" for ``2x``, ``x^2`` or ``x²``.
"""

from __future__ import annotations

import keyword
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from actlab.derivation.syntax.error_position import make_error_at
from actlab.errors import UsageError

LONGEST = 2000  # characters
DEEPEST = 40  # nesting depth of brackets
MOST_DIGITS = 60  # of a number
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\*\*|//|<=|>=|==|!=|&&|\|\||[-+*/(),<>])|(?P<space> +)",
    re.ASCII,
)
_LOGICAL = ("and", "or", "not")
_BETWEEN = ("*", "/", "**", "<", ">", "<=", ">=", ",", "and", "or")
# Signs that people write, and what they mean.
_INTENDED = {
    **dict(
        zip("^ × · ÷ // − ² ³ √ π ≤ ≥".split(), "** * * / / - **2 **3 sqrt pi <= >=".split(), strict=True)
    ),
    **{"&": "and", "&&": "and", "||": "or", "!": "not"},
}
HINTS = {
    **{sign: f" (did you mean {intended!r}?)" for sign, intended in _INTENDED.items()},
    "|": " (did you mean 'abs' or 'or'?)",
    **dict.fromkeys(("==", "!="), "; write <, <=, > or >="),
    "=": "; a function's arguments are given in order, without names",
    ".": "; a formula has no attributes",
    **dict.fromkeys("[{", "; a formula uses round brackets only"),
    **dict.fromkeys("\"'", "; a formula has no strings"),
}


@dataclass(frozen=True)
class Token:
    """One token: its kind (``"number"``, ``"name"``, ``"sign"``), its text and where it begins."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Return where it ends."""
        return self.start + len(self.text)

    @property
    def ends_value(self) -> bool:
        """Return whether a value may end with this token."""
        is_value = self.kind == "number" or (self.kind == "name" and self.text not in _LOGICAL)
        return is_value or self.text == ")"


def to_one_line(text: object) -> str:
    """Return the text of a formula in one line, without surrounding space.

    Raises:
        UsageError: The text is not a string, empty or too long.
    """
    if not isinstance(text, str):
        raise UsageError(
            f"formula: the text must be a string such as 'x * tanh(x)', got {type(text).__name__}"
        )
    line = re.sub(r"[\t\r\n]", " ", text[: 2 * LONGEST]).strip(" ")
    if not line:
        raise UsageError("formula: the text is empty; write 'x * tanh(x)', for example")
    if len(line) > LONGEST or len(text) > 2 * LONGEST:
        problem = f"formula: the text has {len(text)} characters; the maximum is {LONGEST}"
        raise make_error_at(problem, line[:LONGEST], min(len(line), LONGEST) - 1, LONGEST)
    return line


def tokenize(line: str) -> list[Token]:
    """Split a formula into tokens.

    Args:
        line: The text, in one line.

    Returns:
        The tokens, in order.

    Raises:
        UsageError: A character, a word or a bracket is not allowed where it is.

    Examples:
        >>> [token.text for token in tokenize("2 * x**-1.5e3")]
        ['2', '*', 'x', '**', '-', '1.5e3']
    """
    tokens: list[Token] = []
    start = 0
    while start < len(line):
        match = _TOKEN.match(line, start)
        if match is None or match[0] in HINTS:
            raise _make_sign_error(line, start, match[0] if match else line[start])
        start = match.end()
        if match.lastgroup == "space":
            continue
        token = Token(str(match.lastgroup), match[0], match.start())
        _check_word(line, token)
        _check_neighbours(line, tokens[-1] if tokens else None, token)
        tokens.append(token)
    if tokens and not tokens[-1].ends_value:
        problem = f"formula: a value is missing after {tokens[-1].text!r}"
        raise make_error_at(problem, line, len(line), len(line) + 1)
    _check_brackets(line, tokens)
    return tokens


def _make_sign_error(line: str, start: int, sign: str) -> UsageError:
    hint = HINTS.get(sign, "")
    name = unicodedata.name(sign, "") if len(sign) == 1 else ""
    if not hint and (letter := re.fullmatch(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)", name)):
        hint = f"; spell it out: {letter[1].lower()}"
    shown = repr(sign) if sign.isprintable() else ascii(sign)
    return make_error_at(f"formula: {shown} is not allowed{hint}", line, start, start + len(sign))


def _check_word(line: str, token: Token) -> None:
    problem = {"number": _check_number, "name": _check_name}.get(token.kind, lambda _: "")(token.text)
    if problem:
        shown = token.text if len(token.text) <= 40 else f"{token.text[:37]}..."
        raise make_error_at(f"formula: {shown!r} {problem}", line, token.start, token.end)


def _check_number(text: str) -> str:
    digits = re.sub(r"[eE].*|\D", "", text).lstrip("0")
    if not math.isfinite(float(text)) or (digits and float(text) == 0):
        return "is out of range for float64"
    if len(digits) > MOST_DIGITS:
        return f"has {len(digits)} digits; the maximum is {MOST_DIGITS}"
    return "starts with a 0; remove it" if re.fullmatch(r"0\d+", text) else ""


def _check_name(text: str) -> str:
    if text.startswith("_") or "__" in text:
        return "is not a valid name: underscores may only separate words"
    if text in ("if", "else"):
        return "has no meaning in a formula; write where(x > 0, a, b)"
    if text in ("True", "False", "None"):
        return "is not a number"
    is_keyword = keyword.iskeyword(text) and text not in _LOGICAL
    return "is a Python keyword and has no meaning in a formula" if is_keyword else ""


def _check_neighbours(line: str, left: Token | None, right: Token) -> None:
    """Refuse two values side by side, such as ``2x``, and two operators."""
    span = line, right.start, right.end
    if left is None or not left.ends_value:
        is_empty_call = left is not None and left.text == "(" and right.text == ")"  # the parser refuses it
        if not is_empty_call and (right.text in _BETWEEN or right.text == ")"):
            raise make_error_at(f"formula: a value is missing before {right.text!r}", *span)
    elif right.text in ("and", "or"):
        if left.kind == "number" and left.end == right.start:
            raise make_error_at(f"formula: put a space before {right.text!r}", *span)
    elif right.kind == "sign" and (right.text != "(" or left.kind == "name"):
        return
    elif left.kind == "number" and left.end == right.start and right.text in ("j", "J"):
        problem = f"formula: '{left.text}{right.text}' is a complex number; a formula is real"
        raise make_error_at(problem, line, left.start, right.end)
    else:
        problem = f"formula: an operator is missing between {left.text!r} and {right.text!r}"
        raise make_error_at(f"{problem} (did you mean '{left.text}*{right.text}'?)", *span)


def _check_brackets(line: str, tokens: Sequence[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        span = line, token.start, token.end
        if token.text == "(":
            opened.append(token)
            if len(opened) > DEEPEST:
                raise make_error_at(f"formula: brackets are nested more than {DEEPEST} deep", *span)
        elif token.text == ")":
            if not opened:
                raise make_error_at("formula: this bracket was never opened", *span)
            opened.pop()
    if opened:
        raise make_error_at("formula: this bracket is never closed", line, opened[-1].start, opened[-1].end)

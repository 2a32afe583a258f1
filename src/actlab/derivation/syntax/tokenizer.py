"""The words of a formula, before Python's parser sees them: what is not allowed is told by its place.

Python's parser is slow or fails on nested brackets, warns of numbers and letters run together, and says
"invalid syntax" of what people mean by ``2x``, ``x^2`` or ``x²``.
"""

from __future__ import annotations

import keyword
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from actlab.derivation.syntax.errors import error_at
from actlab.errors import UsageError

LONGEST = 2000  # characters
_DEEPEST = 40  # brackets inside each other
_MOST_DIGITS = 60
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\*\*|//|<=|>=|==|!=|&&|\|\||[-+*/(),<>])|(?P<space> +)",
    re.ASCII,
)
_LOGICAL = ("and", "or", "not")
_BETWEEN = ("*", "/", "**", "<", ">", "<=", ">=", ",", "and", "or")
_POINT = "; write <, <=, > or >="
_MEANT = {
    "^": " (did you mean '**'?)",
    "×": " (did you mean '*'?)",
    "·": " (did you mean '*'?)",
    "÷": " (did you mean '/'?)",
    "//": " (did you mean '/'?)",
    "−": " (did you mean '-'?)",
    "²": " (did you mean '**2'?)",
    "³": " (did you mean '**3'?)",
    "√": " (did you mean 'sqrt'?)",
    "π": " (did you mean 'pi'?)",
    "≤": " (did you mean '<='?)",
    "≥": " (did you mean '>='?)",
    "&": " (did you mean 'and'?)",
    "&&": " (did you mean 'and'?)",
    "|": " (did you mean 'abs' or 'or'?)",
    "||": " (did you mean 'or'?)",
    "!": " (did you mean 'not'?)",
    "==": _POINT,
    "!=": _POINT,
    "=": "; a function's arguments are given in order, without names",
    ".": "; a formula has no attributes",
    "[": "; a formula uses round brackets only",
    "{": "; a formula uses round brackets only",
    '"': "; a formula has no strings",
    "'": "; a formula has no strings",
}


@dataclass(frozen=True)
class Token:
    """One word: its kind (``"number"``, ``"name"``, ``"sign"``), its text and where it begins."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)


def to_one_line(text: object) -> str:
    """Return a formula's text in one line, without space about it.

    Raises:
        UsageError: It is no text, empty or too long.
    """
    if not isinstance(text, str):
        raise UsageError(f"formula: must be a string such as 'x * tanh(x)', got {type(text).__name__}")
    line = re.sub(r"[\t\r\n]", " ", text[: 2 * LONGEST]).strip(" ")
    if not line:
        raise UsageError("formula: the text is empty; write 'x * tanh(x)', for example")
    if len(line) > LONGEST or len(text) > 2 * LONGEST:
        problem = f"formula: has {len(text)} characters; the maximum is {LONGEST}"
        raise error_at(problem, line[:LONGEST], min(len(line), LONGEST) - 1, LONGEST)
    return line


def tokenize(line: str) -> list[Token]:
    """Return the words of a formula.

    Args:
        line: The text, in one line.

    Returns:
        The tokens, in order.

    Raises:
        UsageError: A character, a word or a bracket is not where one may be.

    Examples:
        >>> [token.text for token in tokenize("2 * x**-1.5e3")]
        ['2', '*', 'x', '**', '-', '1.5e3']
    """
    tokens: list[Token] = []
    place = 0
    while place < len(line):
        found = _TOKEN.match(line, place)
        if found is None or found[0] in _MEANT:
            length = len(found[0]) if found else 1
            raise _unknown(line, place, length)
        place = found.end()
        if found.lastgroup == "space":
            continue
        token = Token(str(found.lastgroup), found[0], found.start())
        _check_word(line, token)
        _check_neighbours(line, tokens[-1] if tokens else None, token)
        tokens.append(token)
    if tokens and not _ends_value(tokens[-1]):
        raise error_at(
            f"formula: a value is missing after {tokens[-1].text!r}", line, len(line), len(line) + 1
        )
    _check_brackets(line, tokens)
    return tokens


def _unknown(line: str, place: int, length: int) -> UsageError:
    what = line[place : place + length]
    hint = _MEANT.get(what, "")
    name = unicodedata.name(what, "") if len(what) == 1 else ""
    if not hint and (letter := re.fullmatch(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)", name)):
        hint = f"; spell it out: {letter[1].lower()}"
    problem = f"formula: {ascii(what) if not what.isprintable() else repr(what)} is not allowed{hint}"
    return error_at(problem, line, place, place + length)


def _check_word(line: str, token: Token) -> None:
    text, problem = token.text, ""
    if token.kind == "number":
        digits = re.sub(r"[eE].*|\D", "", text).lstrip("0")
        if not math.isfinite(float(text)) or (digits and float(text) == 0):
            problem = "is out of range for float64"
        elif len(digits) > _MOST_DIGITS:
            problem = f"has {len(digits)} digits; the maximum is {_MOST_DIGITS}"
        elif re.fullmatch(r"0\d+", text):
            problem = "starts with a 0; remove it"
    elif token.kind == "name":
        if text.startswith("_") or "__" in text:
            problem = "is not a valid name: underscores may only separate words"
        elif text in ("if", "else"):
            problem = "has no meaning in a formula; write where(x > 0, a, b)"
        elif text in ("True", "False", "None"):
            problem = "is not a number"
        elif keyword.iskeyword(text) and text not in _LOGICAL:
            problem = "is a Python keyword and has no meaning in a formula"
    if problem:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise error_at(f"formula: {shown!r} {problem}", line, token.start, token.end)


def _ends_value(token: Token) -> bool:
    return (
        token.kind == "number" or token.text == ")" or (token.kind == "name" and token.text not in _LOGICAL)
    )


def _check_neighbours(line: str, left: Token | None, right: Token) -> None:
    """Refuse two values side by side, for ``2x`` might be anything, and two operators."""
    place = line, right.start, right.end
    if left is None or not _ends_value(left):
        call = left is not None and left.text == "(" and right.text == ")"  # its arguments are counted later
        if not call and (right.text in _BETWEEN or right.text == ")"):
            raise error_at(f"formula: a value is missing before {right.text!r}", *place)
    elif right.text in ("and", "or"):
        if left.kind == "number" and left.end == right.start:
            raise error_at(f"formula: put a space before {right.text!r}", *place)
    elif right.kind == "sign" and (right.text != "(" or left.kind == "name"):
        return
    elif left.kind == "number" and left.end == right.start and right.text in ("j", "J"):
        problem = f"formula: '{left.text}{right.text}' is a complex number; a formula is real"
        raise error_at(problem, line, left.start, right.end)
    else:
        problem = f"formula: an operator is missing between {left.text!r} and {right.text!r}"
        raise error_at(f"{problem} (did you mean '{left.text}*{right.text}'?)", *place)


def _check_brackets(line: str, tokens: Sequence[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.text == "(":
            opened.append(token)
            if len(opened) > _DEEPEST:
                problem = f"formula: brackets are nested more than {_DEEPEST} deep"
                raise error_at(problem, line, token.start, token.end)
        elif token.text == ")":
            if not opened:
                raise error_at("formula: this bracket was never opened", line, token.start, token.end)
            opened.pop()
    if opened:
        raise error_at("formula: this bracket is never closed", line, opened[-1].start, opened[-1].end)

"""The error and the warnings that a user's input can cause, and their texts."""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Sequence

_MAX_SUMMARY = 200  # characters
_CARET_LINE = re.compile(r"^ *\^+$", re.MULTILINE)


class UsageError(ValueError):
    """An argument, a file or a formula is wrong.

    The message states the problem, the value, and what to do. The command line prints it without a traceback
    and exits with status 2.
    """


class FormulaWarning(UserWarning):
    """An activation made from a formula has a property that its user must know about."""


class CatalogueWarning(UserWarning):
    """An activation of another package cannot be added to the catalogue."""


class DataWarning(UserWarning):
    """Data were read with an assumption, for example about the axis that holds the channels."""


def warn_about_data(message: str) -> None:
    """Issue a :class:`DataWarning` at the line of the caller outside this package."""
    level, frame = 3, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_back.f_globals.get("__name__")).startswith("actlab."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, DataWarning, stacklevel=level)


def raise_problems(problems: Iterable[str]) -> None:
    """Raise one UsageError that names every problem; empty strings are ignored."""
    if real := [problem for problem in problems if problem]:
        # A text with carets below it needs lines of its own.
        raise UsageError(("\n" if any("\n" in problem for problem in real) else "; ").join(real))


def escape_unprintable(text: str) -> str:
    """Replace characters that control a terminal, such as escape sequences, by their codes.

    Args:
        text: Any text. Line breaks stay.

    Returns:
        The text with printable characters only.

    Examples:
        >>> escape_unprintable("\\x1b[31mred")
        '\\\\x1b[31mred'
    """
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def format_error(error: BaseException) -> str:
    """Return the message of an error as printed: in one line, or with its caret lines if it has any.

    Examples:
        >>> format_error(UsageError("no\\nsuch file"))
        'no such file'
    """
    text = str(error)
    return escape_unprintable(text if _CARET_LINE.search(text) else " ".join(text.split()))


def summarize_error(error: BaseException) -> str:
    """Return the type of an error and the first line of its message, in at most 200 characters.

    Args:
        error: Any error, such as one that a user's module raises.

    Returns:
        One line of printable characters.

    Examples:
        >>> summarize_error(ZeroDivisionError("division by zero\\nin line 3"))
        'ZeroDivisionError: division by zero'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = escape_unprintable(": ".join([type(error).__name__, *lines[:1]]))
    return text if len(text) <= _MAX_SUMMARY else f"{text[: _MAX_SUMMARY - 3]}..."


def join_names(names: Sequence[str], most: int | None = None) -> str:
    """Join names into a text; beyond the first ``most``, state only how many more there are.

    Examples:
        >>> join_names(["a", "b", "c"]), join_names(["a", "b", "c", "d"], 2)
        ('a, b and c', 'a, b and 2 more')
    """
    rest = names[most:] if most else ()
    shown = [*names[:most], *([f"{len(rest)} more"] if rest else [])]
    return " and ".join([*filter(None, [", ".join(shown[:-1])]), *shown[-1:]])


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the choice nearest to ``word``, or an empty string.

    Args:
        word: The word that is wrong.
        choices: The words that would be right.

    Returns:
        A suggestion to append to an error message; empty if no choice is similar.

    Examples:
        >>> did_you_mean("reluu", ["relu", "tanh"])
        " (did you mean 'relu'?)"
        >>> did_you_mean("zzz", ["relu", "tanh"])
        ''
    """
    by_lowercase = {choice.lower(): choice for choice in choices}
    similar = difflib.get_close_matches(word.lower(), list(by_lowercase), n=1)
    return f" (did you mean {by_lowercase[similar[0]]!r}?)" if similar else ""

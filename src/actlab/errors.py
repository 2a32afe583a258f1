"""What goes wrong through a person's input, said in one line, or with its place in a text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_CARETS = re.compile(r"^ *\^+$", re.MULTILINE)


class UsageError(ValueError):
    """A person's mistake: one line that says what is wrong, with what value, and what would be right.

    The command line prints it without a traceback and exits with status 2.
    """


class PlacedError(UsageError):
    """A mistake at a place of a text: the problem, and below it the text with carets under it."""


class FormulaWarning(UserWarning):
    """What has to be known of an activation that was made from a formula."""


class CatalogueWarning(UserWarning):
    """Why an activation that another package offers is not in the catalogue."""


class DataWarning(UserWarning):
    """How data were read where they do not say it themselves, such as which axis holds the channels."""


def raise_problems(problems: Iterable[str]) -> None:
    """Raise one UsageError that names every problem; empty strings are no problems."""
    if real := [problem for problem in problems if problem]:
        # A text with carets below it needs lines of its own.
        raise UsageError(("\n" if any("\n" in problem for problem in real) else "; ").join(real))


def in_lines(error: UsageError) -> str:
    """Return an error as it is printed: in one line, but for texts with carets below them, which keep theirs.

    Examples:
        >>> in_lines(UsageError("no\\nsuch file"))
        'no such file'
    """
    text = str(error)
    return text if _CARETS.search(text) else " ".join(text.split())


def short(error: BaseException, most: int = 200) -> str:
    """Return an error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the choice nearest to ``word``, or an empty string.

    Args:
        word: What the person wrote.
        choices: What would have been right.

    Returns:
        A clause to append to an error message, empty when nothing is near.

    Examples:
        >>> did_you_mean("reluu", ["relu", "tanh"])
        " (did you mean 'relu'?)"
        >>> did_you_mean("zzz", ["relu", "tanh"])
        ''
    """
    known = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f" (did you mean {known[near[0]]!r}?)" if near else ""

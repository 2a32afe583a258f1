"""A mistake in a text, said with its place: the problem, the text's line and a caret line below it."""

from __future__ import annotations

import unicodedata

from actlab.errors import UsageError

_WIDTH = 72  # characters of the text that are shown


def error_at(problem: str, text: str, start: int, end: int) -> UsageError:
    """Return the error that says what is wrong, and where.

    Args:
        problem: What is wrong, in one line.
        text: The whole text, in one line.
        start: Where the place begins, in characters.
        end: Where it ends.

    Returns:
        The error, to be raised.

    Examples:
        >>> print(error_at("formula: unknown function 'tahn'", "x * tahn(x)", 4, 8))
        formula: unknown function 'tahn'
          x * tahn(x)
              ^^^^
    """
    first = max(0, min(start - _WIDTH // 2, len(text) - _WIDTH)) if len(text) > _WIDTH else 0
    last = min(len(text), first + _WIDTH)
    before, after = "…" * (first > 0), "…" * (last < len(text))
    shown = "".join(map(_shown, text[first:last]))
    carets = max(1, min(end, last) - start)
    return UsageError(
        f"{problem}\n  {before}{shown}{after}\n  {' ' * (len(before) + start - first)}{'^' * carets}"
    )


def _shown(character: str) -> str:
    """Return a character that takes one column, so that the carets stand where they should."""
    plain = character.isprintable() and not unicodedata.combining(character)
    return character if plain and unicodedata.east_asian_width(character) not in "WF" else "?"

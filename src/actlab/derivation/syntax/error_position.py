"""Report a mistake in a text: the problem, the line of text and a line of carets below it."""

from __future__ import annotations

import unicodedata

from actlab.errors import UsageError

_WIDTH = 72  # characters of the text that are shown


def make_error_at(problem: str, text: str, start: int, end: int) -> UsageError:
    """Return an error that shows a position in a text.

    Args:
        problem: The problem, in one line.
        text: The whole text, in one line.
        start: The first character of the position.
        end: The character after the position.

    Examples:
        >>> print(make_error_at("formula: unknown function 'tahn'", "x * tahn(x)", 4, 8))
        formula: unknown function 'tahn'
          x * tahn(x)
              ^^^^
    """
    first = max(0, min(start - _WIDTH // 2, len(text) - _WIDTH)) if len(text) > _WIDTH else 0
    last = min(len(text), first + _WIDTH)
    before, after = "…" * (first > 0), "…" * (last < len(text))
    shown = "".join(map(_to_one_column, text[first:last]))
    carets = max(1, min(end, last) - start)
    return UsageError(
        f"{problem}\n  {before}{shown}{after}\n  {' ' * (len(before) + start - first)}{'^' * carets}"
    )


def _to_one_column(character: str) -> str:
    """Return a character that takes one column, so that the carets are aligned."""
    plain = character.isprintable() and not unicodedata.combining(character)
    return character if plain and unicodedata.east_asian_width(character) not in "WF" else "?"

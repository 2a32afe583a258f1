"""Sentences as lines that fit a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from actlab.errors import escape_unprintable

WIDTH = 80  # columns of a terminal


def wrap_sentences(sentences: Iterable[str], width: int = WIDTH, max_lines: int | None = None) -> list[str]:
    """Return each sentence as lines that fit a terminal, without control characters.

    Args:
        sentences: The sentences.
        width: Maximum number of characters of a line. Longer words are not broken.
        max_lines: Maximum number of lines of a sentence; the rest is replaced by an ellipsis.
    """
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=max_lines,
        placeholder=" …",
    )
    return [wrapper.fill(escape_unprintable(sentence)) for sentence in sentences]

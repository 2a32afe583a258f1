"""Refuse data that needs more memory than is available, before allocating it."""

from __future__ import annotations

import psutil

from actlab.errors import UsageError

_GIB = 2**30


def check_memory(size: int, what: str, advice: str) -> None:
    """Raise an error if memory is too small.

    Args:
        size: The number of bytes that will be allocated.
        what: What needs them, as the subject of the message.
        advice: What the user can do.

    Raises:
        UsageError: Less memory is available.
    """
    available = psutil.virtual_memory().available
    if size > available:
        sizes = f"{size / _GIB:.1f} GiB of memory, but {available / _GIB:.1f} GiB are available"
        raise UsageError(f"{what} need {sizes}; {advice}")

"""Work that is given up: SymPy may take hours over a line of text, and nothing tells beforehand."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import sympy
from sympy.core.cache import clear_cache

_MOST_SIMPLIFYING = 2_000_000


class BudgetExceeded(BaseException):
    """More calls were made than allowed. SymPy catches exceptions; this one it does not."""


@contextlib.contextmanager
def limit_calls(calls: int) -> Iterator[Callable[[], int]]:
    """Give up after so many calls of functions, which are the same on a slow machine and on a fast one.

    Args:
        calls: So many, their returns counted too; a million takes about half a second.

    Yields:
        A function that tells how many are left.

    Raises:
        BudgetExceeded: There were more.

    Examples:
        >>> try:
        ...     with limit_calls(100):
        ...         sum(map(lambda n: n, range(1000)))
        ... except BudgetExceeded:
        ...     print("given up")
        given up
    """
    former, left = sys.getprofile(), calls

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        left -= 1
        # A generator that is being thrown away would have nobody to raise it to.
        if left < 0 and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            raise BudgetExceeded

    sys.setprofile(count)
    try:
        yield lambda: left
    except BudgetExceeded:
        sys.setprofile(former)
        clear_cache()  # what was being found out of an expression is half known
        raise
    finally:
        sys.setprofile(former)


def simplify(expression: sympy.Expr) -> sympy.Expr:
    """Return an expression as SymPy simplifies it, or as it is where that takes longer than a moment."""
    try:
        with limit_calls(_MOST_SIMPLIFYING):
            return sympy.simplify(expression)
    except BudgetExceeded:
        return expression

"""Limit the work of SymPy, which may take hours for a line of text."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import sympy
from sympy.core.cache import clear_cache

_MOST_SIMPLIFYING = 2_000_000


class BudgetExceeded(BaseException):
    """More calls were made than allowed. A BaseException, because SymPy catches exceptions."""


@contextlib.contextmanager
def limit_calls(calls: int) -> Iterator[Callable[[], int]]:
    """Stop after a number of function calls, a limit that does not depend on the machine's speed.

    Args:
        calls: The number of calls and returns; a million takes about half a second.

    Yields:
        A function that returns how many are left.

    Raises:
        BudgetExceeded: More calls were made.

    Examples:
        >>> try:
        ...     with limit_calls(100):
        ...         sum(map(lambda n: n, range(1000)))
        ... except BudgetExceeded:
        ...     print("given up")
        given up
    """
    former, left, report = sys.getprofile(), calls, sys.unraisablehook

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 and frame.f_code is not count_on.__code__:
            raise BudgetExceeded

    def count_on(unraisable: Any) -> None:
        """Count again after the exception was lost in a finalizer or a generator that is being closed."""
        if isinstance(unraisable.exc_value, BudgetExceeded):
            sys.setprofile(count)
        else:
            report(unraisable)

    sys.unraisablehook = count_on
    sys.setprofile(count)
    try:
        yield lambda: left
    except BudgetExceeded:
        sys.setprofile(former)
        clear_cache()  # SymPy's cache may hold half-finished results
        raise
    finally:
        sys.setprofile(former)
        sys.unraisablehook = report


def simplify(expression: sympy.Expr) -> sympy.Expr:
    """Simplify an expression, or return it unchanged if that takes too long."""
    try:
        with limit_calls(_MOST_SIMPLIFYING):
            return sympy.simplify(expression)
    except BudgetExceeded:
        return expression

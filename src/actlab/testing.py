"""For the test suites of other libraries: prove an activation in one line."""

from __future__ import annotations

from typing import Any

from actlab.checking import CheckReport, check
from actlab.checking.outcome import FAIL


def assert_activation(target: Any, **how: Any) -> CheckReport:
    """Raise AssertionError unless an activation passes every row of :func:`actlab.check`.

    Args:
        target: What to check, as for :func:`actlab.check`.
        **how: Its other arguments: ``reference``, ``dtypes``, ``device``, ``only``, ``skip``.

    Returns:
        The report.

    Raises:
        AssertionError: A row failed; the message has every row that did.
        UsageError: The target cannot be called with one tensor.

    Examples:
        >>> import torch
        >>> assert_activation(torch.nn.Tanh(), only=["kinks", "vmap"]).passed
        True
    """
    __tracebackhide__ = True  # pytest then shows the caller's line, not this one
    report = check(target, **how)
    failed = [f"{row.name}: {row.detail}" for row in report.rows if row.status == FAIL]
    if failed:
        raise AssertionError("\n".join([f"{report.target} is not right:", *failed]))
    return report

"""Verify an activation in the test suite of another library."""

from __future__ import annotations

from typing import Any

from actlab.checking import CheckReport, check
from actlab.checking.check_report import FAIL


def assert_activation(target: Any, **options: Any) -> CheckReport:
    """Raise AssertionError unless an activation passes every row of :func:`actlab.check`.

    Args:
        target: The activation, as for :func:`actlab.check`.
        **options: ``reference``, ``dtypes``, ``device``, ``only`` and ``skip``, as for :func:`actlab.check`.

    Returns:
        The report.

    Raises:
        AssertionError: Rows failed; the message lists them.
        UsageError: The target cannot be called with one tensor.

    Examples:
        >>> import torch
        >>> assert_activation(torch.nn.Tanh(), only=["kinks", "vmap"]).passed
        True
    """
    __tracebackhide__ = True  # pytest then shows the caller's line, not this one
    report = check(target, **options)
    failed = [f"{row.name}: {row.detail}" for row in report.rows if row.status == FAIL]
    if failed:
        raise AssertionError("\n".join([f"{report.target} failed the check:", *failed]))
    return report

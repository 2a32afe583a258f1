"""Check an activation: select the rows, resolve the target and the reference, run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from actlab.checking.check_report import CheckReport
from actlab.checking.checks import Check, list_checks
from actlab.checking.isolation import run_checks
from actlab.checking.reference import resolve_reference
from actlab.checking.subject import Subject
from actlab.checking.target import resolve_target
from actlab.checking.tensor_comparison import format_dtype
from actlab.errors import UsageError, did_you_mean, summarize_error

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check(
    target: Any,
    *,
    reference: Any = None,
    dtypes: Sequence[torch.dtype] | None = None,
    device: str | torch.device | None = None,
    only: Iterable[str] | None = None,
    skip: Iterable[str] | None = None,
) -> CheckReport:
    """Verify an activation and return one row for each capability, with the input that shows a fault.

    Errors are measured in units of ``eps * max(|f|, |x f'|)``, against the target in float64. The formula and
    the other facts of a definition are verified too, with the parameter values of the target.

    Args:
        target: A spec in text (``"mish"``, ``"pkg.mod:Name(arg=1)"``, ``"file.py:name"``), an
            :class:`~actlab.Activation`, a module or its class, an ``autograd.Function``, or a function of
            one tensor.
        reference: What the values in float64 are compared with: a function, a catalogue name, or a formula in
            ``x``, as text or as a SymPy expression, evaluated with fifty digits (default: the formula of a
            definition).
        dtypes: The dtypes to compare with float64 (default: float32, float16 and bfloat16).
        device: The device of the tensors (default: the CPU).
        only: The names of the rows to run (default: all).
        skip: The names of rows to omit, such as ``compile``.

    Returns:
        The report, with ``.passed`` and ``.rows``. ``str()`` returns it as a table.

    Raises:
        UsageError: The target or the reference cannot be called with one tensor, or a row is unknown.

    Examples:
        >>> import actlab, torch
        >>> report = actlab.check(lambda x: x.clamp_min(0), only=["kinks"])
        >>> report.passed
        False
        >>> print(report.row("kinks").detail)
        f'(0) = 1, between 0 and 1; expected 0, as in torch: the function is constant on one side
    """
    name, function = resolve_target(target)
    for argument, value in (("dtypes", dtypes), ("only", only), ("skip", skip)):
        if not isinstance(value, Iterable | None):
            raise UsageError(f"{argument} must be a list, got {value!r}")
    dtypes = tuple(DTYPES if dtypes is None else dtypes)
    for dtype in dtypes:
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise UsageError(f"dtype {dtype!r} must be a floating-point torch.dtype such as torch.float32")
    checks = _select(list_checks(dtypes), only, skip)
    subject = Subject(function, dtypes, _resolve_device(device), resolve_reference(reference))
    return CheckReport(name, run_checks(subject, checks))


def _resolve_device(device: str | torch.device | None) -> torch.device:
    try:
        resolved = torch.device("cpu" if device is None else device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {str(device)!r} cannot be used: {summarize_error(error)}") from error
    return resolved


def parse_dtypes(text: str | None) -> tuple[torch.dtype, ...] | None:
    """Return the dtypes in a comma-separated list, such as ``"float32,bfloat16"``."""
    if text is None:
        return None
    by_name = {format_dtype(dtype): dtype for dtype in DTYPES}
    for word in text.split(","):
        if word not in by_name:
            raise UsageError(f"unknown dtype {word!r}; choose from {', '.join(by_name)}")
    return tuple(by_name[word] for word in text.split(","))


def parse_rows(texts: Sequence[str] | None) -> list[str] | None:
    """Return the names in comma-separated lists, such as ``["compile,export", "kinks"]``."""
    return None if texts is None else [word.strip() for text in texts for word in text.split(",")]


def _select(checks: list[Check], only: Iterable[str] | None, skip: Iterable[str] | None) -> list[Check]:
    """Return the checks to run; a name selects itself and all rows that begin with it as a word."""
    only, skip = ([names] if isinstance(names, str) else names for names in (only, skip))
    only, skip = None if only is None else list(only), list(skip or ())
    names = [check.name for check in checks]
    for word in [*(only or ()), *skip]:
        if not any(_selects(word, name) for name in names):
            hint = did_you_mean(word, names) or f"; choose from {', '.join(names)}"
            raise UsageError(f"unknown row {word!r}{hint}")
    selected = [
        check
        for check in checks
        if (only is None or any(_selects(word, check.name) for word in only))
        and not any(_selects(word, check.name) for word in skip)
    ]
    if not selected:
        raise UsageError("no row is left to run: 'skip' contains every row of 'only'")
    return selected


def _selects(word: str, name: str) -> bool:
    return name == word or name.startswith(f"{word} ")

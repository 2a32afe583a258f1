"""What exported programs contain: operations of torch, or the formulas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch._C import _is_tracing
from torch.compiler import is_dynamo_compiling, is_exporting

_exact = False


@contextlib.contextmanager
def exporting(*, exact: bool) -> Iterator[None]:
    """Choose what ``torch.export`` and ``torch.onnx.export`` write for an activation.

    By default, they write torch's operation if the activation has a torch equivalent. Runtimes have a kernel
    for most of these operations.

    Args:
        exact: Whether to write the accurate formula instead, which consists of more operations.

    Returns:
        A context manager.

    Examples:
        >>> import torch, actlab
        >>> gelu, x = actlab.nn.GELU(), torch.tensor([-5.0])
        >>> torch.export.export(gelu, (x,)).module()(x)
        tensor([-1.4901e-06])
        >>> with actlab.exporting(exact=True):
        ...     torch.export.export(gelu, (x,)).module()(x)
        tensor([-1.4333e-06])
    """
    global _exact
    previous, _exact = _exact, exact
    try:
        yield
    finally:
        _exact = previous


def exports_torch_operations() -> bool:
    """Return whether this call is being exported to a program with torch's operations."""
    if is_exporting():
        return not _exact
    if is_dynamo_compiling():
        return False
    # The older ONNX exporter traces eager code.
    return _is_tracing() and torch.onnx.is_in_onnx_export() and not _exact


def exports_exact_onnx() -> bool:
    """Return whether this call is being exported to ONNX with the formulas, in ONNX operators."""
    return _exact and torch.onnx.is_in_onnx_export()

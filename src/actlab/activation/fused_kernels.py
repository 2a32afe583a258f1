"""Fused mode: one compiled kernel for the value and one for the gradient.

It is off by default, because compiling takes seconds.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from actlab.activation.autograd import AutogradFunctions

log = logging.getLogger("actlab")
_on = False


class fused:
    """Compute activations in single-pass kernels, compiled by Inductor.

    The call takes effect immediately. As a context manager, it restores the previous mode at the end. The
    first use of each function compiles for a few seconds. ``torch.compile`` fuses the functions anyway.

    Args:
        on: Whether to fuse.

    Examples:
        >>> import torch, actlab
        >>> with actlab.fused():
        ...     y = actlab.functional.relu(torch.tensor([-1.0, 2.0]))  # doctest: +SKIP
    """

    def __init__(self, on: bool = True) -> None:
        global _on
        self._previous = _on
        _on = on

    def __enter__(self) -> fused:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _on
        _on = self._previous


def is_fusing(x: Tensor) -> bool:
    """Return whether fused mode is on and supports this tensor."""
    return _on and not (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or x.is_meta
    )


def run_fused(functions: AutogradFunctions, step: str, first: Tensor, *rest: Any) -> Tensor:
    """Run one method of the autograd functions as a compiled kernel."""
    constants = tuple(value for value in rest if not isinstance(value, Tensor))
    kernel = _compile(functions, step, first.dtype, constants)
    if not functions.pointwise or any(isinstance(v, Tensor) and v.shape != first.shape for v in rest):
        return _call(kernel, first, *rest)
    # One kernel serves all shapes: every tensor is flattened in the order of its memory.
    order = sorted(range(first.ndim), key=first.stride, reverse=True)
    flat = [v.permute(order).reshape(-1) if isinstance(v, Tensor) else v for v in (first, *rest)]
    result = _call(kernel, *flat).view([first.shape[d] for d in order])
    return result.permute(sorted(range(first.ndim), key=order.__getitem__))


def _call(kernel: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Call a kernel that is compiled for all sizes."""
    from torch._dynamo import maybe_mark_dynamic  # importing it takes a second

    for value in arguments:
        if isinstance(value, Tensor):
            maybe_mark_dynamic(value, list(range(value.ndim)))
    return kernel(*arguments)


@functools.cache
def _compile(
    functions: AutogradFunctions, step: str, dtype: torch.dtype, constants: tuple[Any, ...]
) -> Callable[..., Tensor]:
    """Return the kernel of a method for a dtype and constants, for all sizes."""
    if not _compile.cache_info().currsize:
        log.info("fused mode: compiling the first kernel; each new kernel takes a few seconds")
    method = getattr(functions, step)

    def kernel(*args: Any) -> Tensor:
        result: Tensor = method(*args)
        return result

    # Dynamo compiles one code object at most eight times: give every kernel its own.
    kernel.__code__ = kernel.__code__.replace(co_name=f"{functions.name}_{step}")
    # Mark sizes as dynamic one by one. dynamic=True would also turn the constants into variables, and
    # Inductor would simplify the corrections of their rounding as if they were real numbers.
    return torch.compile(kernel)

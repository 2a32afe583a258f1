"""Fused mode: one compiled kernel for the value and one for the gradient.

Compiling takes seconds the first time, so it happens only where it was asked for.
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
    from actlab.activation.autograd import Nodes

log = logging.getLogger("actlab")
_on = False


class fused:
    """Compute activations in single-pass kernels, compiled by Inductor.

    Takes effect at once; as a context manager it restores the former mode on leaving.
    The first use of each function compiles for a few seconds. Code under ``torch.compile`` is
    fused anyway and does not need it.

    Args:
        on: Whether to fuse.

    Examples:
        >>> import torch, actlab
        >>> with actlab.fused():
        ...     y = actlab.functional.relu(torch.tensor([-1.0, 2.0]))  # doctest: +SKIP
    """

    def __init__(self, on: bool = True) -> None:
        global _on
        self._former = _on
        _on = on

    def __enter__(self) -> fused:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _on
        _on = self._former


def fusing(x: Tensor) -> bool:
    """Whether fused mode is on, and can work on this tensor."""
    return _on and not (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or x.is_meta
    )


def run_fused(nodes: Nodes, step: str, first: Tensor, *rest: Any) -> Tensor:
    """Run one step of a node as a compiled kernel."""
    constants = tuple(value for value in rest if not isinstance(value, Tensor))
    kernel = _compiled(nodes, step, first.dtype, constants)
    if not nodes.pointwise or any(isinstance(v, Tensor) and v.shape != first.shape for v in rest):
        return _called(kernel, first, *rest)
    # One kernel serves all shapes: it sees every tensor as one dimension, in the order of its memory.
    order = sorted(range(first.ndim), key=first.stride, reverse=True)
    flat = [v.permute(order).reshape(-1) if isinstance(v, Tensor) else v for v in (first, *rest)]
    result = _called(kernel, *flat).view([first.shape[d] for d in order])
    return result.permute(sorted(range(first.ndim), key=order.__getitem__))


def _called(kernel: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Call a kernel, compiled for all sizes at once."""
    from torch._dynamo import maybe_mark_dynamic  # a second to import, which only fused mode should take

    for value in arguments:
        if isinstance(value, Tensor):
            maybe_mark_dynamic(value, list(range(value.ndim)))
    return kernel(*arguments)


@functools.cache
def _compiled(
    nodes: Nodes, step: str, dtype: torch.dtype, constants: tuple[Any, ...]
) -> Callable[..., Tensor]:
    """Return the kernel of a step, not of a size; dtype and constants are burnt in."""
    if not _compiled.cache_info().currsize:
        log.info("fused mode: compiling the first kernel; each takes some seconds, once")
    method = getattr(nodes, step)

    def kernel(*args: Any) -> Tensor:
        result: Tensor = method(*args)
        return result

    # Dynamo allows eight compilations of one piece of code: every kernel is a piece of its own.
    kernel.__code__ = kernel.__code__.replace(co_name=f"{nodes.name}_{step}")
    # Sizes are marked dynamic one by one: dynamic=True would make variables of the constants too, and
    # simplify as real numbers what makes up for their rounding.
    return torch.compile(kernel)

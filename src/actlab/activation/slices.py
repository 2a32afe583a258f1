"""Run element-wise kernels on slices of large tensors, so that intermediate results stay in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from actlab.activation.numerics import has_values_on_cpu

Kernel = Callable[..., Tensor]
_SLICE = 2**17  # elements of a slice, for each thread
_LARGE = 4 * _SLICE
_FEW = 4  # with so few operations, slices save less than the additional copy costs

# Whether a kernel with these parameters runs more than a few operations.
_many: dict[tuple[Any, ...], bool] = {}


def run_whole(kernel: Kernel, first: Tensor, *rest: Any) -> Tensor:
    """Run a kernel once."""
    return kernel(first, *rest)


def run_in_slices(kernel: Kernel, first: Tensor, *rest: Any) -> Tensor:
    """Run an element-wise kernel, on slices if the tensor is large.

    Args:
        kernel: A function of tensors of the shape of ``first`` and of parameters.
        first: The tensor whose shape, strides and dtype the result has.
        *rest: Tensors of the same shape, and parameters.
    """
    if first.numel() < _LARGE or not has_values_on_cpu(first):
        return kernel(first, *rest)
    size = _SLICE * torch.get_num_threads()
    if first.numel() < 4 * size or not _takes_many_operations(kernel, (first, *rest)):
        return kernel(first, *rest)
    result = torch.empty_like(first)
    layout = (first.shape, result.stride())
    if any((v.shape, v.stride()) != layout for v in (first, *rest) if _is_sliced(v)):
        return kernel(first, *rest)
    count = -(-first.numel() // size)
    parts = zip(*(_split(v, size) if _is_sliced(v) else [v] * count for v in (first, *rest)), strict=True)
    for target, arguments in zip(_split(result, size), parts, strict=True):
        part = kernel(*arguments)
        if part.shape != target.shape:
            return kernel(first, *rest)  # the caller raises an error
        target.copy_(part)
    return result


def _is_sliced(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _split(value: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split a tensor without gaps in the order of its memory."""
    return torch.split(value.as_strided((value.numel(),), (1,)), size)


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def _takes_many_operations(kernel: Kernel, arguments: tuple[Any, ...]) -> bool:
    """Return whether a kernel runs more than a few operations of torch; determined once."""
    key = (kernel, *(v.dtype if isinstance(v, Tensor) else v for v in arguments))
    if key not in _many:
        with _OperationCounter() as counter:
            kernel(*(v.new_zeros(1) if _is_sliced(v) else v for v in arguments))
        _many[key] = counter.count > _FEW + sum(map(_is_sliced, arguments))
    return _many[key]

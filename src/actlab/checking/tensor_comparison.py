"""Compute gradients, compare tensors and format differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def compute_gradient(y: Tensor, x: Tensor, incoming: Tensor | None = None) -> Tensor | None:
    """Return the gradient of y with respect to x; None if there is none.

    Args:
        y: The output.
        x: The input, of any shape.
        incoming: The gradient of y, of its shape (default: ones).
    """
    if not y.requires_grad:
        return None
    incoming = torch.ones_like(y) if incoming is None else incoming
    return torch.autograd.grad(y, x, incoming, retain_graph=True, allow_unused=True)[0]


def compute_gradient_or_zeros(y: Tensor, x: Tensor, incoming: Tensor | None = None) -> Tensor:
    """Return the gradient of y with respect to x; zeros if there is none."""
    result = compute_gradient(y, x, incoming)
    return torch.zeros_like(x) if result is None else result


def compute_value_and_gradient(
    function: Callable[[Tensor], Tensor], x: Tensor, incoming: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the output of a function and the gradient of its input."""
    leaf = x.detach().clone().requires_grad_()
    y = function(leaf)
    return y.detach(), compute_gradient_or_zeros(y, leaf, incoming)


def are_equal(one: Tensor, two: Tensor) -> bool:
    """Return whether two tensors have the same shape and values; NaN equals NaN."""
    return one.shape == two.shape and not is_different(one, two).any()


def is_different(one: Tensor, two: Tensor) -> Tensor:
    """Return where two tensors of the same shape differ; NaN equals NaN."""
    return (one != two) & ~(one.isnan() & two.isnan())


def is_close(got: Tensor, expected: Tensor, tolerance: float) -> Tensor:
    """Return where values agree, within a relative tolerance (absolute below 1); NaN equals NaN."""
    near = (got - expected).abs() <= tolerance * expected.abs().clamp_min(1)
    return (near & expected.isfinite()) | ~is_different(got, expected)


def find_first(mask: Tensor) -> tuple[int, ...]:
    """Return the index of the first element that is true."""
    return tuple(mask.nonzero()[0].tolist())


def find_worst(wrong: Tensor, got: Tensor, expected: Tensor) -> tuple[int, ...]:
    """Return the index of the largest difference among the elements that are wrong."""
    error = torch.where(wrong, (got - expected).abs().nan_to_num(torch.inf), -1.0)
    return tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))


def find_witness(x: Tensor, wrong: Tensor, error: Tensor) -> int:
    """Return the index of the point closest to 1 or -1 that has at least half the largest error.

    Args:
        x: Points (n,).
        wrong: Which of them are wrong; at least one.
        error: The size of the error at each; NaN counts as the largest.
    """
    error = torch.where(wrong, error.double().nan_to_num(torch.inf), -1.0)
    size = x.double().abs()
    distance = size.clamp_min(torch.finfo(size.dtype).tiny).log().abs()
    return int(torch.where(error >= error.max() / 2, distance, torch.inf).argmin())


def format_pair(got: float | Tensor, expected: float | Tensor, digits: int = 9) -> tuple[str, str]:
    """Return two numbers as text, with as many digits as are needed to distinguish them.

    Examples:
        >>> format_pair(1.0, 2.0)
        ('1', '2')
        >>> format_pair(-14.04254381, -14.04254382)
        ('-14.04254381', '-14.04254382')
    """
    for precision in range(digits, 18):
        one, two = f"{float(got):.{precision}g}", f"{float(expected):.{precision}g}"
        if one != two:
            break
    return one, two


def find_largest_magnitude(values: Tensor) -> float:
    """Return the largest of the finite magnitudes, 0 if there are none."""
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if len(finite) else 0.0


def find_saved_storages(call: Callable[[], object]) -> dict[int, int]:
    """Return the storages that a call saves for backward: their sizes in bytes by address."""
    storages: dict[int, int] = {}
    saved: list[Tensor] = []  # memory that is freed may be used again

    def pack(tensor: Tensor) -> int:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        saved.append(tensor)
        return len(saved) - 1

    with saved_tensors_hooks(pack, saved.__getitem__):
        output = call()
    del output
    saved.clear()  # an output that is saved refers to itself through the graph, which is never collected
    return storages


def format_dtype(dtype: torch.dtype) -> str:
    """Return the name of a dtype without its module."""
    return str(dtype).removeprefix("torch.")

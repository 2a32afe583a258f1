"""Compare and print two results."""

from __future__ import annotations

from torch import Tensor


def same(one: Tensor, two: Tensor) -> bool:
    """Return whether two tensors have the same shape and values; NaN equals NaN."""
    return one.shape == two.shape and not different(one, two).any()


def different(one: Tensor, two: Tensor) -> Tensor:
    """Return where two tensors of one shape differ; NaN equals NaN."""
    return (one != two) & ~(one.isnan() & two.isnan())


def close(got: Tensor, expected: Tensor, tolerance: float) -> Tensor:
    """Return where a value is as expected: relative to it, absolute below 1; NaN and infinity as such."""
    near = (got - expected).abs() <= tolerance * expected.abs().clamp_min(1)
    return (near & expected.isfinite()) | ~different(got, expected)


def told(got: float, expected: float, digits: int = 9) -> tuple[str, str]:
    """Return two numbers as text, in as many digits as it takes to tell them apart.

    Examples:
        >>> told(1.0, 2.0)
        ('1', '2')
        >>> told(-14.04254381, -14.04254382)
        ('-14.04254381', '-14.04254382')
    """
    for precision in range(digits, 18):
        one, two = f"{got:.{precision}g}", f"{expected:.{precision}g}"
        if one != two:
            break
    return one, two


def largest(values: Tensor) -> float:
    """Return the largest of the finite magnitudes, 0 if there are none."""
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if len(finite) else 0.0

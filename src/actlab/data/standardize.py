"""Standardize features and the targets of a regression, in float64 and with exact sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from actlab.data.memory import check_memory
from actlab.data.readers import Array
from actlab.errors import UsageError

_BLOCK = 1 << 20  # elements per step, which limits temporary arrays to a few MiB


def standardize_targets(y: Array, name: str) -> tuple[npt.NDArray[np.float32], tuple[float, ...]]:
    """Standardize each target of a regression, (n,) or (n, k), to (n, 1) or (n, k).

    Returns:
        The standardized targets, and the standard deviations (k,) before.
    """
    y = _to_float64(y)
    if (bad := ~np.isfinite(y)).any():
        first = f"the first is y[{', '.join(map(str, np.argwhere(bad)[0]))}] = {y[bad][0]}"
        raise UsageError(f"{name}: {bad.sum()} of {y.size} targets are missing, NaN or infinite; {first}")
    columns = [y] if y.ndim == 1 else [np.ascontiguousarray(column) for column in y.T]
    places = [""] if y.ndim == 1 else [f" in y[:, {i}]" for i in range(len(columns))]
    targets, stds = zip(*map(_standardize_target, columns, places, [name] * len(columns)), strict=True)
    return np.hstack(targets), stds


def _standardize_target(
    y: npt.NDArray[np.float64], where: str, name: str
) -> tuple[npt.NDArray[np.float32], float]:
    if (low := y.min()) == y.max():
        raise UsageError(f"{name}: every target{where} is {low}; at least two different numbers are needed")
    exponent = _rescale(y)
    y -= y.min()  # exact if the numbers are close together; their mean then keeps more digits
    mean, std = _compute_float_moments(y)
    with np.errstate(over="ignore"):
        unscaled = float(np.ldexp(std, exponent))
    return ((y - mean) / std).astype(np.float32).reshape(-1, 1), unscaled


def _to_float64(values: Array) -> Array:
    """Return a copy in float64; larger numbers become infinite, which a later check refuses."""
    with np.errstate(over="ignore"):
        return values.astype(np.float64, order="C")


def _rescale(values: Array) -> int:
    """Divide by a power of two, which is exact, so that no value exceeds 1 and squares do not overflow.

    Returns:
        The exponent of the power of two.
    """
    exponent = math.frexp(max(abs(values.min()), abs(values.max())))[1]
    np.ldexp(values, -exponent, out=values)
    return exponent


def standardize_columns(X: npt.NDArray[np.float64], rows: Any) -> npt.NDArray[np.float32]:
    """Standardize each column of X (n, d) by the mean and the standard deviation of some of its samples.

    Args:
        X: Features, NaN for missing.
        rows: Indices of the samples that determine the scale.

    Returns:
        Float32 (n, d). Missing values, and columns that are constant over these samples, are 0.
    """
    standardized = np.zeros(X.shape, np.float32)
    step = max(1, _BLOCK // len(X))
    for start in range(0, X.shape[1], step):
        block = X[:, start : start + step]
        low, high = (find.reduce(block[rows], axis=0) for find in (np.fmin, np.fmax))  # without NaN
        varies = np.flatnonzero(low < high)
        # A power of two, which is exact, so that no square overflows.
        exponent = -np.frexp(np.maximum(abs(low), abs(high))[varies])[1]
        # Differences from a value nearby are exact; their mean then keeps more digits.
        shifted = np.ldexp(block[:, varies], exponent) - np.ldexp(low[varies], exponent)
        with np.errstate(over="ignore"):
            scaled = (shifted - np.nanmean(shifted[rows], axis=0)) / np.nanstd(shifted[rows], axis=0)
            standardized[:, start + varies] = np.nan_to_num(scaled.astype(np.float32), nan=0.0)
    return standardized


def standardize_features(X: Array, name: str, test_samples: int = 0) -> npt.NDArray[np.float32]:
    """Standardize X (n, d) in float64, block by block, without a float64 copy of all images.

    Mean and standard deviation are those of all samples except the last ``test_samples``.
    """
    is_bytes = X.dtype == np.uint8
    if not is_bytes:
        X = _to_float64(X)
        _refuse_not_finite(X, name)
    training = X[: len(X) - test_samples]
    if (low := training.min()) == training.max():
        raise UsageError(f"{name}: X is constant (every value is {low}); it cannot be standardized")
    if not is_bytes:
        _rescale(X)
    check_memory(
        4 * X.size, f"{name}: {len(X)} samples of {X.shape[1]} features", "use fewer or smaller ones"
    )
    mean, std = (_compute_byte_moments if is_bytes else _compute_float_moments)(training)
    standardized = np.empty(X.shape, np.float32)
    for block, out in zip(_split_into_blocks(X), _split_into_blocks(standardized), strict=True):
        out[:] = (block.astype(np.float64) - mean) / std
    return standardized


def _compute_byte_moments(X: Array) -> tuple[float, float]:
    """Return mean and standard deviation of bytes, from exact integer sums of their histogram."""
    counts = np.sum([np.bincount(block, minlength=256) for block in _split_into_blocks(X)], axis=0).tolist()
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    return total / X.size, math.sqrt((X.size * squares - total * total) / (X.size * (X.size - 1)))


def _compute_float_moments(X: Array) -> tuple[float, float]:
    # BLAS sums in an order that depends on its threads, so a dot product would change the fingerprint.
    mean = math.fsum(float(block.sum()) for block in _split_into_blocks(X)) / X.size
    squares = math.fsum(float(np.square(block - mean).sum()) for block in _split_into_blocks(X))
    return mean, math.sqrt(squares / (X.size - 1))


def _split_into_blocks(X: Array) -> list[Array]:
    return [X.reshape(-1)[start : start + _BLOCK] for start in range(0, X.size, _BLOCK)]


def _refuse_not_finite(X: Array, name: str) -> None:
    if (bad := ~np.isfinite(X)).any():
        row, column = divmod(int(bad.argmax()), X.shape[1])
        count = f"{bad.sum()} of {X.size} values of X are missing, NaN or infinite"
        where = f"X[{row}, {column}] = {X[row, column]}"
        raise UsageError(f"{name}: {count}; the first is {where}; fill them in, or drop these samples")

"""A name or a file becomes a :class:`Dataset`: standardised features, targets, a fingerprint."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actlab._errors import UsageError, did_you_mean
from actlab._reading import (
    IMAGES,
    Array,
    download,
    read_csv,
    read_diabetes,
    read_digits,
    read_images,
    read_npz,
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Standardised features with their targets; equal fingerprints mean equal X and y.

    Args:
        X: Features, float32 (n, d), C-contiguous, with global mean 0 and standard deviation 1.
        y: Labels, int64 (n,), from 0 to ``num_classes - 1``. Of a regression the numbers to be predicted,
            float32 (n, 1), with mean 0 and standard deviation 1.
        name: What the data is called in tables and reports.
        fingerprint: The first 16 hex digits of a SHA-256 over shape, dtype and bytes of X and y.
        classes: The original labels in sorted order; ``classes[y[i]]`` is the label of row i. A regression
            has none.
        shape: The shape of a row before it was flattened: (channels, height, width) of images, else ().
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    name: str
    fingerprint: str
    classes: tuple[str | int, ...]
    shape: tuple[int, ...] = ()

    @property
    def num_features(self) -> int:
        """The number of columns of X."""
        return int(self.X.shape[1])

    @property
    def is_regression(self) -> bool:
        """Whether the targets are numbers to be predicted, not classes."""
        return not self.classes

    @property
    def num_classes(self) -> int:
        """The number of outputs that a net needs: of distinct labels, and 1 for a regression."""
        return len(self.classes) or 1

    def __repr__(self) -> str:
        targets = f"y=float32{self.y.shape}" if self.is_regression else f"num_classes={self.num_classes}"
        return f"Dataset({self.name!r}, X=float32{self.X.shape}, {targets}, fingerprint={self.fingerprint!r})"


_REGRESSION = "diabetes"
NAMES = ("digits", *IMAGES, _REGRESSION)
_BLOCK = 1 << 20  # elements a step: temporaries stay at a few MiB whatever the size of X


def load_data(
    source: str | Path,
    data_dir: str | Path | None = None,
    *,
    target: str | None = None,
    regression: bool = False,
) -> Dataset:
    """Load a named dataset or a file, standardise its features and encode its labels.

    X is standardised by the mean and the standard deviation of the whole array (``ddof=1``, as
    ``torch.Tensor.std`` has it), in float64, and rounded once to float32; so are the targets of a regression.
    Labels become 0..k-1 in sorted order. Nothing is unpickled and nothing is evaluated.

    Args:
        source: ``"digits"`` (8x8 images, comes with scikit-learn, works offline); ``"mnist"``,
            ``"fashion-mnist"`` or ``"kmnist"`` (the 60,000 training images, 28x28); ``"diabetes"`` (a
            regression, comes with scikit-learn); or a path ending in ``.npz`` (arrays X (n, ...) of numbers,
            flattened to (n, d), and y (n,) of integers or strings, or y (n,) or (n, 1) of numbers to be
            predicted; X (n, h, w) or (n, c, h, w) is images) or in ``.csv`` (a header line, then one row a
            sample; an empty cell is a missing value).
        data_dir: For the 28x28 images: the folder with ``train-images-idx3-ubyte`` and
            ``train-labels-idx1-ubyte``, plain or ``.gz``, or the root folder of torchvision's layout.
            Without it they are downloaded from openml.org once, to scikit-learn's cache.
        target: For ``.csv``: the column to be predicted. Every other column is a feature and must be numeric.
        regression: For a file: whether the target is a number to be predicted, not a class.

    Returns:
        The :class:`Dataset`.

    Raises:
        UsageError: The name is unknown, an argument does not apply to it, a file is missing, broken or of
            the wrong kind, the download failed, X is constant or not finite, y has fewer than two classes, or
            the targets of a regression are constant, not finite or no numbers.

    Examples:
        >>> load_data("digits")
        Dataset('digits', X=float32(1797, 64), num_classes=10, fingerprint='522bf7a8f6d541ce')
        >>> load_data("diabetes").y.shape
        (442, 1)
    """
    name, path = str(source), Path(source)
    suffix = path.suffix.lower()
    _check_arguments(name, suffix, data_dir, target, regression)
    if suffix == ".csv":
        return _dataset(*read_csv(path, target, regression), name=path.name, regression=regression)
    if suffix == ".npz":
        return _dataset(*read_npz(path, regression), name=path.name, regression=regression)
    if name == _REGRESSION:
        return _dataset(*read_diabetes(), name=name, regression=True)
    if name == "digits":
        return _dataset(*read_digits(), name=name)
    return _dataset(*(download(name) if data_dir is None else read_images(name, Path(data_dir))), name=name)


def arguments_of(source: str) -> tuple[str, ...]:
    """Return the arguments of :func:`load_data` that are used with a source."""
    suffix = Path(source).suffix.lower()
    if suffix in (".csv", ".npz"):
        return ("target", "regression") if suffix == ".csv" else ("regression",)
    return ("data_dir",) if source in IMAGES else ()


def _check_arguments(
    name: str, suffix: str, data_dir: str | Path | None, target: str | None, regression: bool
) -> None:
    is_file = suffix in (".npz", ".csv")
    if not is_file and name not in NAMES:
        right = f"give one of {', '.join(NAMES)}, or a path ending in .npz or .csv"
        raise UsageError(f"unknown data {name!r}{did_you_mean(name, NAMES)}; {right}")
    if data_dir is not None and name not in IMAGES:
        raise UsageError(f"data_dir {str(data_dir)!r} is not used with {name!r}: leave it out")
    if target is not None and suffix != ".csv":
        raise UsageError(f"target {target!r} is not used with {name!r}, only with a .csv file: leave it out")
    if regression and not is_file and name != _REGRESSION:
        raise UsageError(f"regression is not used with {name!r}, whose targets are classes: leave it out")
    if is_file and not os.path.isfile(name):
        raise UsageError(f"no such file: {name!r}")


def _dataset(
    X: Array, y: Array, columns: Sequence[str] | None = None, *, name: str, regression: bool = False
) -> Dataset:
    """Check X (n, ...) and y (n,), and make them a Dataset; ``columns`` names the features in errors."""
    if regression and y.shape[1:] == (1,):
        y = y[:, 0]
    if y.ndim != 1 or X.ndim < 2 or len(X) != len(y):
        found = f"X has shape {X.shape} and y {y.shape}"
        either = "(n,) or (n, 1)" if regression else "(n,)"
        raise UsageError(f"{name}: {found}; they must be (n, d) and {either} with the same n")
    if X.size == 0:
        raise UsageError(f"{name}: X has shape {X.shape}; at least one row and one feature are needed")
    targets, classes = (_numbers(y, name), ()) if regression else _encode(y, name)
    shape = {3: (1, *X.shape[1:]), 4: X.shape[1:]}.get(X.ndim, ())
    X = _standardise(X.reshape(len(X), -1), columns, name)
    return Dataset(X, targets, name, fingerprint_of(X, targets), classes, shape)


def fingerprint_of(X: Array, y: Array) -> str:
    """Return what tells data from others.

    Args:
        X: Features (n, ...).
        y: Targets (n, ...).

    Returns:
        The first 16 hexadecimal digits of a SHA-256 over shape, dtype and bytes of both.
    """
    digest = hashlib.sha256()
    for array in (X, y):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _encode(labels: Array, name: str) -> tuple[npt.NDArray[np.int64], tuple[str | int, ...]]:
    values, codes = np.unique(labels, return_inverse=True)
    classes = tuple(int(v) if values.dtype.kind in "iuf" and v.is_integer() else str(v) for v in values)
    if len(classes) < 2:
        raise UsageError(f"{name}: every label is {classes[0]!r}; at least two classes are needed")
    return codes.astype(np.int64), classes


def _numbers(y: Array, name: str) -> npt.NDArray[np.float32]:
    """Standardise the targets (n,) of a regression, to (n, 1)."""
    y = _float64(y)
    if (bad := ~np.isfinite(y)).any():
        first = f"the first is y[{bad.argmax()}] = {y[bad.argmax()]}"
        raise UsageError(f"{name}: {bad.sum()} of {len(y)} targets are missing, NaN or infinite, {first}")
    if (low := y.min()) == y.max():
        raise UsageError(f"{name}: every target is {low}; at least two different numbers are needed")
    _rescale(y)
    y -= y.min()  # exact where numbers lie close together, and their mean has digits to spare then
    mean, std = _float_moments(y)
    return ((y - mean) / std).astype(np.float32).reshape(-1, 1)


def _float64(values: Array) -> Array:
    """Return a copy in float64; a number too large for it is infinite there, which is refused later."""
    with np.errstate(over="ignore"):
        return values.astype(np.float64, order="C")


def _rescale(values: Array) -> None:
    """Bring values to at most 1: a power of two changes no digit, and 1e200 squared is no float64."""
    np.ldexp(values, -math.frexp(max(abs(values.min()), abs(values.max())))[1], out=values)


def _standardise(X: Array, columns: Sequence[str] | None, name: str) -> npt.NDArray[np.float32]:
    """Standardise X (n, d) in float64, block by block: images need no float64 copy of the whole."""
    is_bytes = X.dtype == np.uint8
    if not is_bytes:
        X = _float64(X)
        _refuse_not_finite(X, columns, name)
    if (low := X.min()) == X.max():
        raise UsageError(f"{name}: X is constant (every value is {low}); it cannot be standardised")
    if not is_bytes:
        _rescale(X)
    mean, std = _byte_moments(X) if is_bytes else _float_moments(X)
    standardised = np.empty(X.shape, np.float32)
    for block, out in zip(_blocks(X), _blocks(standardised), strict=True):
        out[:] = (block.astype(np.float64) - mean) / std
    return standardised


def _byte_moments(X: Array) -> tuple[float, float]:
    """Return mean and standard deviation of bytes from their histogram, whose sums are exact integers."""
    counts = np.sum([np.bincount(block, minlength=256) for block in _blocks(X)], axis=0).tolist()
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    return total / X.size, math.sqrt((X.size * squares - total * total) / (X.size * (X.size - 1)))


def _float_moments(X: Array) -> tuple[float, float]:
    # Not a dot product: BLAS sums in an order that depends on its threads, and the fingerprint would too.
    mean = math.fsum(float(block.sum()) for block in _blocks(X)) / X.size
    squares = math.fsum(float(np.square(block - mean).sum()) for block in _blocks(X))
    return mean, math.sqrt(squares / (X.size - 1))


def _blocks(X: Array) -> list[Array]:
    return [X.reshape(-1)[start : start + _BLOCK] for start in range(0, X.size, _BLOCK)]


def _refuse_not_finite(X: Array, columns: Sequence[str] | None, name: str) -> None:
    if (bad := ~np.isfinite(X)).any():
        row, column = divmod(int(bad.argmax()), X.shape[1])
        count = f"{bad.sum()} of {X.size} values of X are missing, NaN or infinite"
        where = f"X[{row}, {column}] = {X[row, column]}{f' (column {columns[column]!r})' if columns else ''}"
        raise UsageError(f"{name}: {count}, the first is {where}")

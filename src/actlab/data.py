"""A name or a file becomes a :class:`Dataset`: standardised features, encoded labels, a fingerprint."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from actlab._errors import UsageError, did_you_mean

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Standardised features with their class labels; equal fingerprints mean equal X and y.

    Args:
        X: Features, float32 (n, d), C-contiguous, with global mean 0 and standard deviation 1.
        y: Labels, int64 (n,), from 0 to ``num_classes - 1``.
        name: What the data is called in tables and reports.
        fingerprint: The first 16 hex digits of a SHA-256 over shape, dtype and bytes of X and y.
        classes: The original labels in sorted order; ``classes[y[i]]`` is the label of row i.
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    name: str
    fingerprint: str
    classes: tuple[str | int, ...]

    @property
    def num_features(self) -> int:
        """The number of columns of X."""
        return int(self.X.shape[1])

    @property
    def num_classes(self) -> int:
        """The number of distinct labels."""
        return len(self.classes)

    def __repr__(self) -> str:
        shape = f"X=float32{self.X.shape}, num_classes={self.num_classes}"
        return f"Dataset({self.name!r}, {shape}, fingerprint={self.fingerprint!r})"


# Name -> (the name on openml.org, the folder that torchvision makes under its root).
_IMAGES = {
    "mnist": ("mnist_784", "MNIST"),
    "fashion-mnist": ("Fashion-MNIST", "FashionMNIST"),
    "kmnist": ("Kuzushiji-MNIST", "KMNIST"),
}
_NAMES = ("digits", *_IMAGES)
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TRAINING_IMAGES = 60_000  # OpenML appends the 10,000 test images to the training images
_BROKEN = (OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError, BadZipFile, zlib.error)
_BLOCK = 1 << 20  # elements a step: temporaries stay at a few MiB whatever the size of X


def load_data(
    source: str | Path, data_dir: str | Path | None = None, *, target: str | None = None
) -> Dataset:
    """Load a named dataset or a file, standardise its features and encode its labels.

    X is standardised by the mean and the standard deviation of the whole array (``ddof=1``, as
    ``torch.Tensor.std`` has it), in float64, and rounded once to float32. Labels become 0..k-1 in sorted
    order. Nothing is unpickled and nothing is evaluated.

    Args:
        source: ``"digits"`` (8x8 images, comes with scikit-learn, works offline); ``"mnist"``,
            ``"fashion-mnist"`` or ``"kmnist"`` (the 60,000 training images, 28x28); or a path ending in
            ``.npz`` (arrays X (n, ...) of numbers, flattened to (n, d), and y (n,) of integers or strings)
            or in ``.csv`` (a header line, then one row a sample; an empty cell is a missing value).
        data_dir: For the 28x28 images: the folder with ``train-images-idx3-ubyte`` and
            ``train-labels-idx1-ubyte``, plain or ``.gz``, or the root folder of torchvision's layout.
            Without it they are downloaded from openml.org once, to scikit-learn's cache.
        target: For ``.csv``: the column of the labels. Every other column is a feature and must be numeric.

    Returns:
        The :class:`Dataset`.

    Raises:
        UsageError: The name is unknown, an argument does not apply to it, a file is missing, broken or of
            the wrong kind, the download failed, X is constant or not finite, or y has fewer than two classes.

    Examples:
        >>> load_data("digits")
        Dataset('digits', X=float32(1797, 64), num_classes=10, fingerprint='522bf7a8f6d541ce')
    """
    name, path = str(source), Path(source)
    _check_arguments(name, path.suffix.lower(), data_dir, target)
    if path.suffix.lower() == ".csv":
        return _dataset(*_read_csv(path, target), name=path.name)
    if path.suffix.lower() == ".npz":
        return _dataset(*_read_npz(path), name=path.name)
    if name == "digits":
        return _dataset(*_read_digits(), name=name)
    return _dataset(*(_download(name) if data_dir is None else _read_images(name, Path(data_dir))), name=name)


def _check_arguments(name: str, suffix: str, data_dir: str | Path | None, target: str | None) -> None:
    is_file = suffix in (".npz", ".csv")
    if not is_file and name not in _NAMES:
        right = f"give one of {', '.join(_NAMES)}, or a path ending in .npz or .csv"
        raise UsageError(f"unknown data {name!r}{did_you_mean(name, _NAMES)}; {right}")
    if data_dir is not None and name not in _IMAGES:
        raise UsageError(f"data_dir {str(data_dir)!r} is not used with {name!r}: leave it out")
    if target is not None and suffix != ".csv":
        raise UsageError(f"target {target!r} is not used with {name!r}, only with a .csv file: leave it out")
    if is_file and not os.path.isfile(name):
        raise UsageError(f"no such file: {name!r}")


def _dataset(X: Array, labels: Array, columns: Sequence[str] | None = None, *, name: str) -> Dataset:
    """Check X (n, ...) and labels (n,), and make them a Dataset; ``columns`` names the features in errors."""
    if labels.ndim != 1 or X.ndim < 2 or len(X) != len(labels):
        found = f"X has shape {X.shape} and y {labels.shape}"
        raise UsageError(f"{name}: {found}; they must be (n, d) and (n,) with the same n")
    if X.size == 0:
        raise UsageError(f"{name}: X has shape {X.shape}; at least one row and one feature are needed")
    y, classes = _encode(labels, name)
    X = _standardise(X.reshape(len(X), -1), columns, name)
    return Dataset(X, y, name, fingerprint_of(X, y), classes)


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


def _standardise(X: Array, columns: Sequence[str] | None, name: str) -> npt.NDArray[np.float32]:
    """Standardise X (n, d) in float64, block by block: images need no float64 copy of the whole."""
    is_bytes = X.dtype == np.uint8
    if not is_bytes:
        X = X.astype(np.float64, order="C")
        _refuse_not_finite(X, columns, name)
    if (low := X.min()) == (high := X.max()):
        raise UsageError(f"{name}: X is constant (every value is {low}); it cannot be standardised")
    if not is_bytes:
        # The scale of X does not matter, a power of two changes no digit, and 1e200 squared is no float64.
        np.ldexp(X, -math.frexp(max(abs(low), abs(high)))[1], out=X)
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


def _read_csv(path: Path, target: str | None) -> tuple[Array, Array, list[str]]:
    import pandas as pd

    try:
        # Only an empty cell is missing: "None" and "NA" are labels that people use.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(path)!r} as CSV: {_reason(error)}") from error
    columns = [str(column) for column in frame]
    if target not in columns:
        wrong = f"no column {target!r}{did_you_mean(target, columns)}" if target else "give target"
        raise UsageError(f"{path.name}: {wrong}; the label column is one of {', '.join(columns[:20])}")
    if not isinstance(frame.index, pd.RangeIndex):
        raise UsageError(f"{path.name}: the rows have more fields than the header line")
    if len(missing := np.flatnonzero(frame[target].isna())):
        where = f"{len(missing)} of {len(frame)} rows, the first is y[{missing[0]}]"
        raise UsageError(f"{path.name}: the label column {target!r} is empty in {where}")
    _refuse_not_numeric(features := frame.drop(columns=target), path.name)
    return features.to_numpy(np.float64), frame[target].to_numpy(), list(features.columns)


def _refuse_not_numeric(features: Any, name: str) -> None:
    import pandas as pd

    for column in features.columns:
        values = features[column].dropna()
        if column.startswith("Unnamed: "):
            raise UsageError(f"{name}: {column} has no name in the header; save a DataFrame with index=False")
        if len(values) and values.dtype.kind == "O":
            text = values[pd.to_numeric(values, errors="coerce").isna()]
            found = f"{text.iloc[0]!r} in row {text.index[0]} (from 0)" if len(text) else "mixed types"
            raise UsageError(f"{name}: feature column {column!r} must be numeric, but holds {found}")


def _read_npz(path: Path) -> tuple[Array, Array]:
    try:
        with path.open("rb") as raw, np.lib.npyio.NpzFile(raw, allow_pickle=False) as file:
            X, labels = file["X"], file["y"]
    except _BROKEN as error:
        raise UsageError(f"cannot read arrays X and y from {str(path)!r}: {_reason(error)}") from error
    if X.dtype.kind not in "biuf" or labels.dtype.kind not in "biufU":
        found = f"X has dtype {X.dtype} and y {labels.dtype}"
        raise UsageError(f"{path.name}: {found}; X must be numbers, y integers or strings")
    if labels.dtype.kind == "f" and (bad := labels[~np.isfinite(labels) | (labels != np.floor(labels))]).size:
        raise UsageError(f"{path.name}: y holds {bad[0]}; labels must be integers or strings")
    return X, labels


def _read_digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X.astype(np.uint8), y  # whole numbers from 0 to 16, stored as float64


def _download(name: str) -> tuple[Array, Array]:
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml(_IMAGES[name][0], version=1, as_frame=False, parser="liac-arff")
    except (*_BROKEN, http.client.HTTPException) as error:
        right = f"; give data_dir, the folder of {_IDX_FILES[0]}"
        raise UsageError(f"cannot download {name!r} from openml.org: {_reason(error)}{right}") from error
    # Bytes again, as in the IDX files: both ways to the same images give the same fingerprint.
    return bunch.data[:_TRAINING_IMAGES].astype(np.uint8), bunch.target[:_TRAINING_IMAGES].astype(np.int64)


def _read_images(name: str, data_dir: Path) -> tuple[Array, Array]:
    if not os.path.isdir(data_dir):
        raise UsageError(f"data_dir {str(data_dir)!r} is not a folder")
    subfolder = f"{_IMAGES[name][1]}/raw"
    # torchvision's folder first: it alone tells one set of images from another.
    for folder in (data_dir / subfolder, data_dir / "raw", data_dir):
        plain = [folder / file for file in _IDX_FILES]
        found = [p if os.path.isfile(p) else p.with_name(f"{p.name}.gz") for p in plain]
        if all(os.path.isfile(p) for p in found):
            return _read_idx(found[0], ndim=3), _read_idx(found[1], ndim=1)
    files = " and ".join(f"{file}[.gz]" for file in _IDX_FILES)
    raise UsageError(f"{name}: no {files} together in {str(data_dir)!r}, its raw or its {subfolder}")


def _read_idx(path: Path, *, ndim: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes: 00 00 08 ndim, then ndim big-endian uint32 sizes, then the data."""
    try:
        # The whole file, not the bytes that its header asks for: only at the end does gzip check its CRC.
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except _BROKEN as error:
        raise UsageError(f"cannot read {str(path)!r}: {_reason(error)}; get the file again") from error
    if content[:4] != bytes((0, 0, 8, ndim)):
        found = f"begins with '{content[:4].hex(' ')}', not with '00 00 08 0{ndim}'"
        raise UsageError(f"{str(path)!r} {found}: it is no IDX file of bytes in {ndim} dimensions")
    start = 4 + 4 * ndim
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) != (needed := start + math.prod(shape)):
        kind = "truncated" if len(content) < needed else "too long"
        raise UsageError(
            f"{str(path)!r} is {kind}: {len(content)} bytes, its header says {needed}; get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _reason(error: BaseException) -> str:
    """Return the first line of the error, without the path that the system adds."""
    return (str(getattr(error, "strerror", None) or error) or type(error).__name__).splitlines()[0]

"""What is in a file, or behind a name: arrays as they are there, refused where they make no dataset."""

from __future__ import annotations

import gzip
import http.client
import math
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from actlab._errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

# Name -> (the name on openml.org, the folder that torchvision makes under its root).
IMAGES = {
    "mnist": ("mnist_784", "MNIST"),
    "fashion-mnist": ("Fashion-MNIST", "FashionMNIST"),
    "kmnist": ("Kuzushiji-MNIST", "KMNIST"),
}
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TRAINING_IMAGES = 60_000  # OpenML appends the 10,000 test images to the training images
_BROKEN = (OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError, BadZipFile, zlib.error)


def read_csv(path: Path, target: str | None, regression: bool) -> tuple[Array, Array, list[str]]:
    """Return features (n, d), targets (n,) and the names of the features of a CSV file."""
    import pandas as pd

    try:
        # Only an empty cell is missing: "None" and "NA" are labels that people use.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(path)!r} as CSV: {_reason(error)}") from error
    columns, kind = [str(column) for column in frame], "target" if regression else "label"
    if target not in columns:
        wrong = f"no column {target!r}{did_you_mean(target, columns)}" if target else "give target"
        raise UsageError(f"{path.name}: {wrong}; the {kind} column is one of {', '.join(columns[:20])}")
    if not isinstance(frame.index, pd.RangeIndex):
        raise UsageError(f"{path.name}: the rows have more fields than the header line")
    if len(missing := np.flatnonzero(frame[target].isna())):
        where = f"{len(missing)} of {len(frame)} rows, the first is y[{missing[0]}]"
        raise UsageError(f"{path.name}: the {kind} column {target!r} is empty in {where}")
    if regression:
        _refuse_text(frame[target], f"target column {target!r}", path.name)
    _refuse_not_numeric(features := frame.drop(columns=target), path.name)
    return features.to_numpy(np.float64), frame[target].to_numpy(), list(features.columns)


def _refuse_not_numeric(features: pd.DataFrame, name: str) -> None:
    for column in features.columns:
        if column.startswith("Unnamed: "):
            raise UsageError(f"{name}: {column} has no name in the header; save a DataFrame with index=False")
        _refuse_text(features[column].dropna(), f"feature column {column!r}", name)


def _refuse_text(values: pd.Series[Any], what: str, name: str) -> None:
    import pandas as pd

    if len(values) and values.dtype.kind == "O":
        text = values[pd.to_numeric(values, errors="coerce").isna()]
        found = f"{text.iloc[0]!r} in row {text.index[0]} (from 0)" if len(text) else "mixed types"
        raise UsageError(f"{name}: {what} must be numeric, but holds {found}")


def read_npz(path: Path, regression: bool) -> tuple[Array, Array]:
    """Return the arrays X and y of an .npz file; their shapes are as they are."""
    try:
        with path.open("rb") as raw, np.lib.npyio.NpzFile(raw, allow_pickle=False) as file:
            X, y = file["X"], file["y"]
    except _BROKEN as error:
        raise UsageError(f"cannot read arrays X and y from {str(path)!r}: {_reason(error)}") from error
    if X.dtype.kind not in "biuf" or y.dtype.kind not in ("biuf" if regression else "biufU"):
        found = f"X has dtype {X.dtype} and y {y.dtype}"
        right = "numbers, y too" if regression else "numbers, y integers or strings"
        raise UsageError(f"{path.name}: {found}; X must be {right}")
    if not regression:
        _refuse_fractions(y, path.name)
    return X, y


def _refuse_fractions(labels: Array, name: str) -> None:
    if labels.dtype.kind == "f" and (bad := labels[~np.isfinite(labels) | (labels != np.floor(labels))]).size:
        numbers = "; where numbers are to be predicted, give regression=True (--regression)"
        right = f"labels must be integers or strings{numbers if np.isfinite(bad[0]) else ''}"
        raise UsageError(f"{name}: y holds {bad[0]}; {right}")


def read_diabetes() -> tuple[Array, Array]:
    """Return scikit-learn's diabetes: features (442, 10), all of one scale, and numbers (442,)."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    return X, y


def read_digits() -> tuple[Array, Array]:
    """Return scikit-learn's digits: images (1797, 8, 8) and labels (1797,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target  # whole numbers from 0 to 16, stored as float64


def download(name: str) -> tuple[Array, Array]:
    """Return images (60000, 28, 28) and labels (60000,) from openml.org."""
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml(IMAGES[name][0], version=1, as_frame=False, parser="liac-arff")
    except (*_BROKEN, http.client.HTTPException) as error:
        right = f"; give data_dir, the folder of {_IDX_FILES[0]}"
        raise UsageError(f"cannot download {name!r} from openml.org: {_reason(error)}{right}") from error
    # Bytes again, as in the IDX files: both ways to the same images give the same fingerprint.
    images, labels = (part[:_TRAINING_IMAGES] for part in (bunch.data, bunch.target))
    side = math.isqrt(images.shape[1])  # they are square
    return images.reshape(-1, side, side).astype(np.uint8), labels.astype(np.int64)


def read_images(name: str, data_dir: Path) -> tuple[Array, Array]:
    """Return images (n, h, w) and labels (n,) from IDX files."""
    if not os.path.isdir(data_dir):
        raise UsageError(f"data_dir {str(data_dir)!r} is not a folder")
    subfolder = f"{IMAGES[name][1]}/raw"
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

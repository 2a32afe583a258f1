"""Read .npz files, arrays and datasets of PyTorch as arrays of features and targets."""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from actlab.data.memory import check_memory
from actlab.errors import UsageError, summarize_error

Array = npt.NDArray[Any]

BROKEN = (OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError, BadZipFile, zlib.error)
_LISTED = 50  # names in a message
_GZIP = b"\x1f\x8b"
_SAVE = "save it with np.savez(path, X=X, y=y)"


def format_names(names: Sequence[str]) -> str:
    """Return names for a message: all if they are few, else the first ones and the last one."""
    if len(names) > _LISTED:
        names = [*names[: _LISTED - 1], f"{len(names) - _LISTED} more", names[-1]]
    return ", ".join(names)


def read_npz(path: Path) -> tuple[Array, Array]:
    """Return the arrays X and y of an .npz file, with their shapes."""
    try:
        with open_file(path) as raw, np.lib.npyio.NpzFile(raw, allow_pickle=False) as file:
            names = file.files
            loaded = {name: file[name] for name in ("X", "y") if name in names}
    except BROKEN as error:
        objects = "allow_pickle" in str(error)
        advice = "save numbers, and labels as integers or strings" if objects else _SAVE
        problem = f"cannot read arrays X and y from {str(path)!r}: {format_reason(error)}"
        raise UsageError(f"{problem}; {advice}") from error
    if missing := [name for name in ("X", "y") if not isinstance(loaded.get(name), np.ndarray)]:
        contents = f"its arrays are {format_names(names)}" if names else "it has no arrays"
        raise UsageError(f"{path.name}: no array {missing[0]!r}; {contents}; {_SAVE}")
    return loaded["X"], loaded["y"]


def convert_features(X: Any, name: str) -> Array:
    """Return features (n, ...) of numbers as an array; ``name`` is for error messages."""
    array = _convert(X, "X", name)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{name}: X has dtype {array.dtype}; it must be numeric")
    return array


def convert_targets(y: Any, regression: bool, name: str) -> Array:
    """Return targets as an array (n,), or (n, k) if there are several; (n, 1) becomes (n,)."""
    array = _convert(y, "y", name)
    if array.dtype.kind not in ("biuf" if regression else "biufU"):
        requirement = "numeric" if regression else "integers or strings"
        raise UsageError(f"{name}: y has dtype {array.dtype}; it must be {requirement}")
    if not regression:
        _refuse_fractions(array, name)
    return array[:, 0] if array.shape[1:] == (1,) else array


def _convert(values: Any, letter: str, name: str) -> Array:
    try:
        return _to_array(values)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values).__name__
        problem = f"{letter} of type {kind} cannot be converted to an array ({format_reason(error)})"
        raise UsageError(f"{name}: {problem}; pass an array without missing values") from error


def read_torch_dataset(dataset: Any) -> tuple[Array, Array]:
    """Return the samples X (n, ...) and the targets y (n, ...) of a map-style dataset of PyTorch."""
    try:
        number, first = len(dataset), _to_array(dataset[0][0])
        what = f"{type(dataset).__name__}: {number} samples"
        check_memory(2 * number * first.nbytes, what, "pass a torch Subset")  # np.stack copies them
        samples = [dataset[index] for index in range(number)]  # iteration may have no end
        X, y = zip(*samples, strict=True)
        return np.stack([*map(_to_array, X)]), np.stack([*map(_to_array, y)])
    except UsageError:
        raise
    except Exception as error:  # raised by the user's dataset
        advice = "it must return (sample, target), and all samples must have one shape"
        raise UsageError(
            f"cannot read a dataset of type {type(dataset).__name__}: {summarize_error(error)}; {advice}"
        ) from error


def _to_array(values: Any) -> Array:
    """Return an array, tensor or list as an array; raise ValueError for missing values in text."""
    import pandas as pd
    import scipy.sparse
    import torch

    if scipy.sparse.issparse(values):
        matrix: Any = values
        size = math.prod(matrix.shape) * matrix.dtype.itemsize
        check_memory(size, "the values of a sparse matrix", "pass fewer samples or features")
        values = matrix.toarray()
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    array = np.asarray(values)
    if np.ma.is_masked(values):
        raise ValueError("some values are masked")
    if array.dtype.kind == "O":  # such as strings of pandas
        array = np.array(array.tolist())
    if array.dtype.kind in "OU" and (missing := pd.isna(np.asarray(values, object)).reshape(-1)).any():
        raise ValueError(f"value {missing.argmax()} is missing")
    return array


def _refuse_fractions(labels: Array, name: str) -> None:
    if labels.dtype.kind == "f" and (bad := labels[~np.isfinite(labels) | (labels != np.floor(labels))]).size:
        numbers = "; to predict numbers, set regression=True (--regression)"
        requirement = f"labels must be integers or strings{numbers if np.isfinite(bad[0]) else ''}"
        raise UsageError(f"{name}: y contains {bad[0]}; {requirement}")


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, and decompress gzip data regardless of the file name."""
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        with gzip.open(file) if zipped else contextlib.nullcontext(file) as content:
            yield cast(IO[bytes], content)


def format_reason(error: BaseException) -> str:
    """Return the first line of the error, without the path that the system adds."""
    return (str(getattr(error, "strerror", None) or error) or type(error).__name__).splitlines()[0]

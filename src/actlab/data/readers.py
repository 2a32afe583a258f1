"""Read files, DataFrames, arrays and named datasets as arrays of features and targets."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from actlab.errors import DataWarning, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

BROKEN = (OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError, BadZipFile, zlib.error)
_LISTED = 20  # names in a message
_GZIP = b"\x1f\x8b"
_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a NumPy array file",
    b"\x89HDF": "an HDF5 file",
}
_SAVE = "save it with np.savez(path, X=X, y=y)"
IN_PANDAS = (
    "read it with pandas, and pass the DataFrame to load_data or save it with to_csv(path, index=False)"
)
_SEPARATED = re.compile(r"\s*[+-]?[\d.]*[,' \u00a0\u202f][\d.,' \u00a0\u202f]*")  # 1,234 or 1.234,5


def read_csv(path: Path, target: str | None, regression: bool) -> tuple[Array, Array, list[str]]:
    """Return features (n, d), targets (n,) and the names of the features of a CSV file.

    The separator is a comma unless the header line clearly has another one. Unambiguous decimal commas are
    read, with a :class:`DataWarning`.
    """
    import pandas as pd

    content = re.sub(rb"\Asep=.\r?\n", b"", _read_utf8(path))  # Excel writes this line
    separator, names = _read_header(path, content, target)
    frame = _parse_csv(path, content, sep=separator)
    if not isinstance(frame.index, pd.RangeIndex) or len(names) != len(frame.columns):
        advice = "name every column, or remove separators at the ends of lines"
        raise UsageError(
            f"{path.name}: the rows have more fields than the header line ({format_names(names)}); {advice}"
        )
    numeric = [column for column in frame if regression or column != target]
    if any(_has_decimal_commas(frame[column]) for column in numeric):
        again = _parse_csv(path, content, sep=separator, decimal=",")
        if all(dtype.kind in "biuf" for dtype in again[numeric].dtypes):
            frame = again
            warnings.warn(f"{path.name}: commas in numbers were read as decimal points", DataWarning, 3)
    return convert_frame(frame, target, regression, path.name)


def convert_frame(
    frame: pd.DataFrame, target: str | None, regression: bool, name: str
) -> tuple[Array, Array, list[str]]:
    """Return features (n, d), targets (n,) and the names of the features of a DataFrame.

    Args:
        frame: The table, a column for each feature and one for the target.
        target: The name of the target column.
        regression: Whether the targets are numbers, not classes.
        name: The name of the data in errors.
    """
    columns, kind = [str(column) for column in frame], "target" if regression else "label"
    _refuse_duplicates(columns, name)
    frame = frame.set_axis(columns, axis=1).reset_index(drop=True)
    for place, column in enumerate(columns):
        if column.startswith("Unnamed: "):  # the name that pandas gives to a column without one
            if frame[column].notna().any():
                advice = "save a DataFrame with index=False" if place == 0 else "name it, or remove it"
                raise UsageError(f"{name}: column {place + 1} has no name in the header; {advice}")
            del frame[column]  # from a separator at the end of each line
    columns = [str(column) for column in frame]
    if target is None or str(target) not in columns:
        suggestion = did_you_mean(str(target), columns)
        option = " (--target COLUMN)" if name.lower().endswith(".csv") else ""
        problem = f"set target{option}" if target is None else f"no column {target!r}{suggestion}"
        hint = "; separate fields by commas, semicolons or tabs" if len(columns) == 1 else ""
        raise UsageError(f"{name}: {problem}; the {kind} column is one of {format_names(columns)}{hint}")
    labels = frame.pop(str(target))
    if len(missing := np.flatnonzero(labels.isna())):
        where = f"{len(missing)} of {len(frame)} rows; the first is y[{missing[0]}]"
        advice = "fill it in, or drop these rows"
        raise UsageError(f"{name}: the {kind} column {target!r} is empty in {where}; {advice}")
    y = _convert_numbers(labels, f"target column {target!r}", name) if regression else _convert_labels(labels)
    X = np.empty(frame.shape)
    for i, column in enumerate(columns := [str(column) for column in frame]):
        X[:, i] = _convert_numbers(frame[column], f"feature column {column!r}", name)
    return X, y, columns


def _read_utf8(path: Path) -> bytes:
    """Return the content of a text file in UTF-8, without a byte order mark."""
    try:
        with open_file(path) as file:
            content = file.read()
    except BROKEN as error:
        raise UsageError(f"cannot read {str(path)!r} as CSV: {format_reason(error)}") from error
    if kind := next((kind for magic, kind in _FORMATS.items() if content.startswith(magic)), None):
        raise UsageError(f"{str(path)!r} is {kind}, not CSV text; {IN_PANDAS}")
    encoding = "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        problem = f"byte 0x{content[error.start]:02x} at position {error.start} is not {encoding}"
        raise UsageError(f"cannot read {str(path)!r} as CSV: {problem}; save it in UTF-8") from error
    if "\0" in text:
        where = f"a NUL character at position {text.index(chr(0))}"
        raise UsageError(f"cannot read {str(path)!r} as CSV: it contains {where}; save it as text in UTF-8")
    if not text.strip("\ufeff \t\r\n"):
        advice = "write a header line, then a line for each sample"
        raise UsageError(f"cannot read {str(path)!r} as CSV: it is empty; {advice}")
    return content.removeprefix(codecs.BOM_UTF8) if encoding == "UTF-8" else text.encode()


def _parse_csv(path: Path, content: bytes, **how: Any) -> pd.DataFrame:
    import pandas as pd

    try:
        # Only an empty cell is a missing value: "None" and "NA" can be labels.
        frame: pd.DataFrame = pd.read_csv(
            io.BytesIO(content), keep_default_na=False, na_values=[""], low_memory=False, **how
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(path)!r} as CSV: {format_reason(error)}") from error
    return frame


def _read_header(path: Path, content: bytes, target: str | None) -> tuple[str, list[str]]:
    """Return the separator and the fields of the header line; a field without a name is empty."""
    headers: dict[str, list[str]] = {",": []}
    for separator in ",;\t|":
        with contextlib.suppress(UsageError):  # the error of the chosen separator is raised later
            line = _parse_csv(path, content, sep=separator, header=None, nrows=1, dtype=str)
            headers[separator] = line.iloc[0].fillna("").to_list()
    several = [separator for separator, fields in headers.items() if len(fields) > 1]
    candidates = [separator for separator in several if target in headers[separator]] or several
    separator = candidates[0] if candidates and ("," in candidates or len(candidates) == 1) else ","
    _refuse_duplicates([field for field in headers[separator] if field], path.name)
    return separator, headers[separator]


def _has_decimal_commas(values: pd.Series[Any]) -> bool:
    """Whether a column has a comma that can only be a decimal point."""
    if values.dtype.kind != "O":
        return False
    return bool(values.astype(str).str.fullmatch(r"\s*[+-]?\d*,(\d{1,2}|\d{4,})\s*").any())


def _refuse_duplicates(columns: list[str], name: str) -> None:
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise UsageError(f"{name}: several columns have the name {twice[0]!r}; rename all but one")


def format_names(names: Sequence[str]) -> str:
    """Return names separated by commas, at most 20 of them."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"


def _convert_labels(values: pd.Series[Any]) -> Array:
    """Return labels; all are text if only some are numbers."""
    if values.dtype.kind != "O":
        return values.to_numpy()
    labels = values.to_list()
    return np.array(labels if all(isinstance(label, Real) for label in labels) else list(map(str, labels)))


def _convert_numbers(values: pd.Series[Any], what: str, name: str) -> Array:
    """Return a column in float64, with NaN for missing values."""
    import pandas as pd

    numbers = values
    if values.dtype.kind not in "biuf":
        try:
            numbers = pd.to_numeric(values.astype(object), errors="coerce")
        except OverflowError:  # an integer of more than 308 digits
            numbers = pd.to_numeric(values.astype(str), errors="coerce")
        except TypeError:  # a cell holds a list, for instance
            numbers = pd.Series(np.nan, values.index)
    is_wrong = values.notna() & (numbers.isna() | (numbers.dtype.kind not in "biuf"))
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        value = str(values.iloc[row])
        problem = f"{what} must be numeric, but contains {value!r} in row {row} (counted from 0)"
        advice = "encode categories and dates as numbers, or drop the column"
        if _SEPARATED.fullmatch(value):
            how = "pandas.read_csv(decimal=..., thousands=...)"
            advice = (
                f"write numbers as 1234.5, or read the file with {how} and pass the DataFrame to load_data"
            )
        raise UsageError(f"{name}: {problem}; {advice}")
    return numbers.to_numpy(np.float64, na_value=np.nan)


def read_npz(path: Path, regression: bool) -> tuple[Array, Array]:
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
    return _check_dtypes(loaded["X"], loaded["y"], regression, path.name)


def convert_arrays(X: Any, y: Any, regression: bool, name: str) -> tuple[Array, Array]:
    """Return arrays, tensors or lists X and y as arrays; ``name`` is the name of the data in errors."""
    arrays = []
    for letter, values in (("X", X), ("y", y)):
        try:
            arrays.append(_to_array(values))
        except (TypeError, ValueError, RuntimeError) as error:
            kind = type(values).__name__
            problem = f"{letter} of type {kind} cannot be converted to an array ({format_reason(error)})"
            raise UsageError(f"{name}: {problem}; pass an array without missing values") from error
    return _check_dtypes(arrays[0], arrays[1], regression, name)


def _to_array(values: Any) -> Array:
    """Return an array, tensor or list as an array; raise ValueError for missing values in text."""
    import pandas as pd
    import torch

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


def _check_dtypes(X: Array, y: Array, regression: bool, name: str) -> tuple[Array, Array]:
    """Return X and y after a check of their dtypes."""
    if X.dtype.kind not in "biuf" or y.dtype.kind not in ("biuf" if regression else "biufU"):
        problem = f"X has dtype {X.dtype} and y {y.dtype}"
        requirement = "numeric, and so must y" if regression else "numeric, and y must be integers or strings"
        raise UsageError(f"{name}: {problem}; X must be {requirement}")
    if not regression:
        _refuse_fractions(y, name)
    return X, y


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

"""Encode a table as numbers by its structure: categories as indicators, dates as numbers, NaN for missing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from actlab.data.column_types import MAX_LEVELS, Values, read_values
from actlab.data.memory import check_memory
from actlab.data.readers import Array
from actlab.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

_MIN_ROWS = 20  # in a smaller table, different values do not show that a column identifies the rows
_MOSTLY = 0.9  # the share of different values from which text identifies the rows
_IDENTIFIER = re.compile(r"(?:.*[^a-zA-Z])?(?i:id|idx|index|uuid|guid|row|rownames)|.*[a-z]I[dD]")
_LISTED = 10  # dropped columns in a summary


@dataclass(frozen=True)
class EncodedTable:
    """A table as numbers.

    Attributes:
        values: Float64 (n, d), C-contiguous; NaN for a missing number.
        summary: What was done, in one line.
        columns: The column of the table that each feature comes from (d,); empty for arrays.
    """

    values: npt.NDArray[np.float64]
    summary: str
    columns: tuple[str, ...] = ()


@dataclass
class _Encoded:
    """The encoding of one column: numbers (n, k), or codes (n,) of k categories."""

    kind: str
    width: int
    numbers: list[Array] = field(default_factory=list)
    codes: Array | None = None
    missing: int = 0
    note: str = ""

    def write(self, out: Array) -> None:
        """Write the columns into zeros (n, k)."""
        if self.codes is None:
            out[:] = np.stack(self.numbers, axis=1)
        elif self.width == 1:
            out[:, 0] = self.codes
        else:
            out[np.arange(len(out)), self.codes] = 1


def encode_table(frame: pd.DataFrame, name: str) -> EncodedTable:
    """Encode the features of a table.

    Numbers stay as they are. A column of numbers or dates with missing values gets a second column that marks
    them. A category becomes one column per level, or a single column if it has two levels; a missing category
    is a level of its own, and rare levels of a category with more than 50 share one column. A date becomes
    year, month, day, weekday, hour and the number of days since 1970. Constant columns, empty columns and
    identifiers are dropped.

    Args:
        frame: The features, at least one column and one row. The column names are strings.
        name: The name of the data in error messages.

    Raises:
        UsageError: A column cannot be encoded, no column is left, or memory is too small.
    """
    encoded: dict[str, _Encoded] = {}
    dropped: dict[str, str] = {}
    for column in frame:
        result = _encode_column(frame[column], str(column), name)
        if isinstance(result, str):
            dropped[str(column)] = result
        else:
            encoded[str(column)] = result
    if not encoded:
        raise UsageError(f"{name}: no feature is left; {_describe_dropped(dropped)}")
    width = sum(column.width for column in encoded.values())
    # float64, and float32 for X
    check_memory(12 * len(frame) * width, f"{name}: {width} features after encoding", "drop columns or rows")
    values, start = np.zeros((len(frame), width)), 0
    for column in encoded.values():
        column.write(values[:, start : start + column.width])
        start += column.width
    columns = tuple(name for name, column in encoded.items() for _ in range(column.width))
    return EncodedTable(values, _summarize(encoded, dropped), columns)


def encode_numbers(X: Array, name: str) -> EncodedTable:
    """Encode an array of numbers (n, d): no column is dropped, and indicators of missing values are appended.

    Args:
        X: Features (n, d).
        name: The name of the data in error messages.

    Raises:
        UsageError: A value is infinite, or memory is too small.
    """
    missing = np.isnan(X) if X.dtype.kind == "f" else np.zeros((1, X.shape[1]), bool)
    indicated = missing.any(axis=0) & ~missing.all(axis=0)
    width = X.shape[1] + int(indicated.sum())
    check_memory(12 * len(X) * width, f"{name}: {width} features", "pass fewer features or samples")
    values = np.empty((len(X), width))
    with np.errstate(over="ignore"):
        values[:, : X.shape[1]] = X
    if (bad := np.isinf(values[:, : X.shape[1]])).any():
        row, column = divmod(int(bad.argmax()), X.shape[1])
        where = f"the first is X[{row}, {column}] = {values[row, column]}"
        raise UsageError(f"{name}: {bad.sum()} of {X.size} values of X are infinite; {where}; replace them")
    values[:, X.shape[1] :] = missing[:, indicated]
    total = f"{width} features from " if width > X.shape[1] else ""
    imputed = f"; {_count(int(missing.sum()), 'missing value')} imputed and marked" if missing.any() else ""
    return EncodedTable(values, f"{total}{X.shape[1]} numeric{imputed}")


def name_columns(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table with strings as column names, without row labels and empty unnamed columns.

    Raises:
        UsageError: Two columns have the same name, or a column with values has none.
    """
    columns = [str(column) for column in frame]
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise UsageError(f"{name}: several columns have the name {twice[0]!r}; rename all but one")
    frame = frame.set_axis(columns, axis=1).reset_index(drop=True)
    for place, column in enumerate(columns):
        if not column.startswith("Unnamed: "):  # the name that pandas gives to a column without one
            continue
        if frame[column].notna().any() and not (place == 0 and _enumerates(frame[column])):
            advice = "save a DataFrame with index=False" if place == 0 else "name it, or remove it"
            raise UsageError(f"{name}: column {place + 1} has no name in the header; {advice}")
        del frame[column]  # the index of a DataFrame, or a separator at the end of each line
    return frame


def _encode_column(values: pd.Series[Any], column: str, name: str) -> _Encoded | str:
    """Return the encoding of a column, or why it is dropped."""
    if values.isna().all():
        return "empty"
    read = read_values(values, f"feature column {column!r}", name)
    if _is_identifier(read, column):
        return "identifier"
    if read.kind == "category":
        return _encode_category(read.text)
    missing = np.isnan(read.numbers[0])
    varying = [part for part in read.numbers if np.nanmin(part) < np.nanmax(part)]
    if missing.any():
        varying.append(missing.astype(np.float64))
    return _Encoded(read.kind, len(varying), varying, missing=int(missing.sum())) if varying else "constant"


def _encode_category(text: pd.Series[Any]) -> _Encoded | str:
    import pandas as pd

    codes, levels = pd.factorize(text, sort=True)
    codes = np.where(codes < 0, len(levels), codes)  # missing
    counts, note = np.bincount(codes), ""
    if len(counts) == 1:
        return "constant"
    if len(counts) > MAX_LEVELS:
        places = np.full(len(counts), MAX_LEVELS - 1)
        kept = np.sort(np.argsort(-counts, kind="stable")[: MAX_LEVELS - 1])
        places[kept] = np.arange(len(kept))
        codes = places[codes]
        frequent = f"the {MAX_LEVELS - 1} most frequent have their own column"
        note = f"{len(counts)} levels, of which {frequent}"
    width = min(len(counts), MAX_LEVELS)
    return _Encoded("category", 1 if width == 2 else width, codes=codes, note=note)


def _is_identifier(read: Values, column: str) -> bool:
    """Whether a column only identifies the rows."""
    if read.kind == "category":
        cells = read.text.dropna()
        return len(cells) >= _MIN_ROWS and cells.nunique() >= _MOSTLY * len(cells)
    numbers = read.numbers[0]
    is_whole = read.kind == "numeric" and bool((numbers == np.floor(numbers)).all())  # False with NaN
    if not is_whole or len(np.unique(numbers)) < len(numbers) or len(numbers) == 1:
        return False
    return bool(_IDENTIFIER.fullmatch(column)) or (len(numbers) >= _MIN_ROWS and _enumerates(numbers))


def _enumerates(values: Any) -> bool:
    """Whether values are 0, 1, ... or 1, 2, ... in this order."""
    return any(np.array_equal(values, np.arange(start, start + len(values))) for start in (0, 1))


def _summarize(encoded: dict[str, _Encoded], dropped: dict[str, str]) -> str:
    """Return what was done, in one line."""
    kinds: dict[str, list[_Encoded]] = {"numeric": []}
    for column in encoded.values():
        kinds.setdefault(column.kind, []).append(column)
    parts = []
    for kind, columns in kinds.items():
        width = sum(column.width for column in columns)
        number = f"{len(columns)} numeric" if kind == "numeric" else _count(len(columns), kind)
        made = f" ({_count(width, 'column')})" if kind != "numeric" or width > len(columns) else ""
        parts += [number + made] * bool(columns)
    notes = [f"{name}: {column.note}" for name, column in encoded.items() if column.note]
    missing = sum(column.missing for column in encoded.values())
    features = sum(column.width for column in encoded.values())
    total = f"{features} features from " if len(encoded) != features else ""
    sentences = [total + ", ".join(parts), *notes]
    sentences += [f"{_count(missing, 'missing value')} imputed and marked"] * (missing > 0)
    sentences += [_describe_dropped(dropped)] * bool(dropped)
    return "; ".join(sentences)


def _describe_dropped(dropped: dict[str, str]) -> str:
    listed = [f"{name} ({reason})" for name, reason in list(dropped.items())[:_LISTED]]
    more = [f"{len(dropped) - _LISTED} more"] * (len(dropped) > _LISTED)
    return f"dropped: {', '.join([*listed, *more])}"


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"

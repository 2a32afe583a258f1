"""Read tables from files: CSV text in many dialects, and Parquet."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.data.readers import BROKEN, format_names, format_reason, open_file
from actlab.errors import UsageError, warn_about_data

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".parquet")
MISSING = {"", "?", "-", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"}  # among numbers or dates
_HEADER = 2  # lines: names, and a separator in the first line
_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a NumPy array file",
    b"\x89HDF": "an HDF5 file",
}
IN_PANDAS = (
    "read it with pandas, and pass the DataFrame to load_data or save it with to_csv(path, index=False)"
)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def read_table(path: Path, target: str | None, labels: bool) -> pd.DataFrame:
    """Read a table from a ``.csv``, ``.tsv`` or ``.parquet`` file.

    Args:
        path: The file.
        target: The name of the target column, if it is known.
        labels: Whether the target column contains labels, in which a comma is not a decimal point.

    Raises:
        UsageError: The file cannot be read.

    Warns:
        DataWarning: Commas were read as decimal points, or the file has no header line.
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    return _read_csv(path, target, labels)


def find_line(path: Path, row: int, rows: int) -> int | None:
    """Return the line, counted from 1, that contains a row of a text file; None if some rows have several.

    Args:
        path: The file. Blank lines contain no row.
        row: The row, counted from 0.
        rows: The number of rows.
    """
    lines = [number for number, line in enumerate(_read_utf8(path).splitlines(), start=1) if line.strip()]
    return lines[row - rows] if 0 <= len(lines) - rows <= _HEADER else None


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise UsageError(f"{path.name}: Parquet files need pyarrow: pip install pyarrow") from error
    except Exception as error:  # pyarrow raises errors of its own
        raise UsageError(f"cannot read {str(path)!r} as Parquet: {format_reason(error)}") from error


def _read_csv(path: Path, target: str | None, labels: bool) -> pd.DataFrame:
    """Read a CSV file.

    The separator is a comma unless the header line clearly has another one. Unambiguous decimal commas are
    read, with a :class:`DataWarning`.
    """
    import pandas as pd

    content = re.sub(rb"\Asep=.\r?\n", b"", _read_utf8(path))  # Excel writes this line
    separator, names = _read_header(path, content, target)
    frame = _parse_csv(path, content, sep=separator)
    options: dict[str, Any] = {"sep": separator}
    if _has_no_header(frame, names):
        columns = [f"c{number}" for number in range(1, len(names) + 1)]
        options |= {"header": None, "names": columns}
        frame = _parse_csv(path, content, **options)
        named = f"no header line was found; the columns are c1 to c{len(names)}"
        warn_about_data(f"{path.name}: {named}")
    elif twice := [name for name in names if name and names.count(name) > 1]:
        raise UsageError(f"{path.name}: several columns have the name {twice[0]!r}; rename all but one")
    if not isinstance(frame.index, pd.RangeIndex) or len(names) != len(frame.columns):
        advice = "name every column, or remove separators at the ends of lines"
        raise UsageError(
            f"{path.name}: the rows have more fields than the header line ({format_names(names)}); {advice}"
        )
    return _read_decimal_commas(path, content, frame, options, target if labels else None)


def _read_decimal_commas(
    path: Path, content: bytes, frame: pd.DataFrame, options: dict[str, Any], labels: str | None
) -> pd.DataFrame:
    """Return the table with decimal commas if they are unambiguous, and unchanged otherwise."""
    features = [column for column in frame if column != labels]
    with_commas = [column for column in features if _has_decimal_commas(frame[column])]
    if not with_commas:
        return frame
    again = _parse_csv(path, content, **options, decimal=",")
    if labels in frame:
        again[labels] = frame[labels]
    numeric = [column for column in features if column in with_commas or frame[column].dtype.kind in "biuf"]
    if not all(again[column].dtype.kind in "biuf" for column in numeric):
        return frame
    warn_about_data(f"{path.name}: commas in numbers were read as decimal points")
    return again


def _has_no_header(frame: pd.DataFrame, names: list[str]) -> bool:
    """Whether the first line contains values: numbers, and words that occur again in their columns."""
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    whole = [name for name in numbers if name.strip().isdecimal()]
    if not numbers or (len(whole) == len(numbers) and len(set(numbers)) == len(numbers)):
        return False  # columns may have integers as their names
    words = [place for place, name in enumerate(names) if name and not _NUMBER.fullmatch(name)]
    return all((frame.iloc[:, place].astype(str) == names[place]).any() for place in words)


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
    return separator, headers[separator]


def _has_decimal_commas(values: pd.Series[Any]) -> bool:
    """Whether a column has a comma that can only be a decimal point."""
    if values.dtype.kind != "O":
        return False
    return bool(values.astype(str).str.fullmatch(r"\s*[+-]?\d*,(\d{1,2}|\d{4,})\s*").any())

"""Decide what a column of a table contains: numbers, a category or dates."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from actlab.data.readers import Array
from actlab.data.table_files import MISSING
from actlab.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 50  # columns of a category
_SEPARATED = re.compile(r"[+-]?[\d.]*[,' \u00a0\u202f][\d.,' \u00a0\u202f]*")  # 1,234 or 1.234,5
_FEW = 3  # different values that are no numbers, in a column of numbers
_RARE = 0.1  # the share of such cells
_ISO = re.compile(r"\d{4}-\d\d")
_DATE_FORMATS = (
    *("%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S"),
    *("%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
)
_AMBIGUOUS_FORMATS = ("%m/%d/%Y", "%d/%m/%Y", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M")
_DATE = re.compile(r"(?=.*\d)[\w.,:/ +-]{6,40}")
_SEPARATORS = (
    "write numbers as 1234.5, or read the file with pandas.read_csv(decimal=..., thousands=...) and pass the "
    "DataFrame to load_data"
)


@dataclass(frozen=True)
class Values:
    """The values of a column.

    Attributes:
        kind: ``"numeric"``, ``"category"`` or ``"date"``.
        numbers: Numbers float64 (n,), NaN for missing: one array, or one for each part of a date.
        text: The levels of a category as text, with missing values.
    """

    kind: str
    numbers: list[Array] = field(default_factory=list)
    text: Any = None


def read_values(values: pd.Series[Any], what: str, name: str) -> Values:
    """Return the values of a column.

    Args:
        values: The column, with at least one value.
        what: What error messages call the column.
        name: The name of the data in error messages.

    Raises:
        UsageError: A value is infinite, or neither a number nor text nor a date.
    """
    import pandas as pd

    dtype = values.dtype
    if dtype.kind == "b" or isinstance(dtype, pd.CategoricalDtype):
        return Values("category", text=_to_text(values))
    if dtype.kind == "M":
        return _expand_dates(values)
    if dtype.kind == "m":
        return Values("numeric", [values.dt.total_seconds().to_numpy(np.float64) / 86400])
    if dtype.kind in "iuf":
        return _check_numbers(values, what, name)
    return _read_objects(values, what, name)


def convert_numbers(values: pd.Series[Any], what: str, name: str) -> Array:
    """Return a column of numbers as float64 (n,).

    Raises:
        UsageError: A value is not a number.
    """
    if values.dtype.kind in "biuf":
        return values.to_numpy(np.float64, na_value=np.nan)
    numbers = _parse_numbers(values)
    if (wrong := numbers.isna() & values.notna()).any():
        is_separated = _SEPARATED.fullmatch(str(values[wrong].iloc[0]).strip())
        advice = _SEPARATORS if is_separated else "write numbers, or predict classes without regression"
        raise _make_error(values, wrong, f"{what} must be numeric, but", name, advice)
    return numbers.to_numpy(np.float64, na_value=np.nan)


def _read_objects(values: pd.Series[Any], what: str, name: str) -> Values:
    """Return the values of a column of text or of Python objects."""
    import pandas as pd

    odd = values.map(lambda cell: not pd.api.types.is_scalar(cell) or isinstance(cell, complex))
    if odd.any():
        raise _make_error(values, odd, what, name, "use numbers, text or dates, or drop the column")
    cells = values.dropna()
    if all(isinstance(cell, bool | np.bool_) for cell in cells):
        return Values("category", text=_to_text(values))
    if all(isinstance(cell, datetime.date) for cell in cells):
        return _expand_dates(pd.to_datetime(values, utc=True))
    text = _to_text(values).str.strip()
    is_missing = text.isna() | text.str.lower().isin(MISSING)
    numbers = _parse_numbers(text)
    no_number = numbers.isna() & ~is_missing
    if not no_number.any() and numbers.notna().any():
        return _check_numbers(numbers, what, name)
    if (dates := _parse_dates(text.where(~is_missing), what, name)) is not None:
        return _expand_dates(dates)
    separated = no_number & text.fillna("").str.fullmatch(_SEPARATED)
    if 2 * separated.sum() > no_number.sum():  # otherwise they are codes, such as the lifeboats "A" and "5 9"
        raise _make_error(values, separated, what, name, _SEPARATORS)
    if _is_damaged(text, no_number, numbers):
        raise _make_error(values, no_number, what, name, "correct it, or drop the column")
    return Values("category", text=text)


def _is_damaged(text: pd.Series[Any], no_number: pd.Series[Any], numbers: pd.Series[Any]) -> bool:
    """Whether a column contains numbers, except for a few cells, instead of codes such as ``"3+"``."""
    levels = text.nunique()
    if not numbers.notna().any() or (levels <= MAX_LEVELS and 2 * levels <= len(text)):
        return False
    return bool(text[no_number].nunique() <= _FEW or no_number.mean() < _RARE)


def _to_text(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.astype(object).map(str, na_action="ignore").astype("str")


def _parse_numbers(text: pd.Series[Any]) -> pd.Series[Any]:
    """Return numbers, and NaN for what is not a number."""
    import pandas as pd

    try:
        return pd.to_numeric(text.astype(object), errors="coerce")
    except OverflowError:  # an integer of more than 308 digits
        return pd.to_numeric(text.astype(str), errors="coerce")
    except TypeError:  # a cell holds a list, for instance
        return pd.Series(np.nan, text.index)


def _check_numbers(values: pd.Series[Any], what: str, name: str) -> Values:
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    if (infinite := np.isinf(numbers)).any():
        raise _make_error(values, infinite, what, name, "replace it, or leave the cell empty")
    return Values("numeric", [numbers])


def _parse_dates(text: pd.Series[Any], what: str, name: str) -> pd.Series[Any] | None:
    """Return dates; None if text does not contain dates."""
    cells = text.dropna()
    if not len(cells) or not _DATE.fullmatch(str(cells.iloc[0])):
        return None
    formats = ("ISO8601",) if _ISO.match(str(cells.iloc[0])) else (*_DATE_FORMATS, *_AMBIGUOUS_FORMATS)
    fitting = [how for how in formats if _convert_dates(cells.iloc[:1], how).notna().all()]
    parsed = {how: _convert_dates(text, how) for how in fitting}
    best = max(parsed, key=lambda how: int(parsed[how].notna().sum()), default="")
    if not best or parsed[best].notna().sum() < len(cells) / 2:
        return None
    wrong = parsed[best].isna() & text.notna()
    if wrong.any():
        raise _make_error(text, wrong, what, name, "correct this date, or leave the cell empty")
    if best in _AMBIGUOUS_FORMATS and any(
        how != best and parsed[how].notna().sum() == len(cells) and not parsed[how].equals(parsed[best])
        for how in parsed
    ):
        raise _make_error(text, text.notna(), what, name, "month or day may come first: write YYYY-MM-DD")
    return parsed[best]


def _convert_dates(text: pd.Series[Any], how: str) -> pd.Series[Any]:
    import pandas as pd

    return pd.to_datetime(text, format=how, errors="coerce", utc=True)


def _expand_dates(values: pd.Series[Any]) -> Values:
    """Return year, month, day, weekday, hour and days since 1970, the days first."""
    import pandas as pd

    dates = values.dt.tz_localize(None) if getattr(values.dtype, "tz", None) else values
    days = (dates - pd.Timestamp(0).as_unit("s")) / pd.Timedelta(days=1)
    parts = [days, *(getattr(dates.dt, part) for part in ("year", "month", "day", "day_of_week", "hour"))]
    return Values("date", [part.to_numpy(np.float64, na_value=np.nan) for part in parts])


def _make_error(values: pd.Series[Any], marked: Any, what: str, name: str, advice: str) -> UsageError:
    """Return the error on the first of the marked cells."""
    row = int(np.flatnonzero(marked)[0])
    where = f"{str(values.iloc[row])!r} in row {row} (counted from 0)"
    return UsageError(f"{name}: {what} contains {where}; {advice}")

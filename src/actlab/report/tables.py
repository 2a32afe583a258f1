"""Tables as CSV, as JSON and as text."""

from __future__ import annotations

import datetime
import json
import math
import numbers
from pathlib import Path
from typing import Any

import pandas as pd

from actlab.files import replace_file
from actlab.report.wrapping import WIDTH

_LONGEST = 40  # characters of a cell

Row = dict[str, Any]


def to_json_value(value: Any) -> Any:
    """Return a value that JSON can represent.

    Args:
        value: The value of a cell.

    Returns:
        None, a bool, an int, a finite float or a string. NaN, infinities and missing values become None;
        dates become their ISO form, classes their name, and other objects their ``str``.

    Examples:
        >>> import numpy as np
        >>> [to_json_value(value) for value in (np.float32(0.5), np.bool_(True), float("nan"), int)]
        [0.5, True, None, 'int']
    """
    if isinstance(value, type):
        return value.__name__
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy and torch scalars
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def to_json_rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame as dictionaries, with values from :func:`to_json_value`."""
    return [
        {str(name): to_json_value(value) for name, value in row.items()} for row in frame.to_dict("records")
    ]


def to_numeric(rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return a column as finite numbers, NaN where a cell has none."""
    if column not in rows:
        return pd.Series(math.nan, index=rows.index)
    return pd.to_numeric(rows[column], errors="coerce").replace([math.inf, -math.inf], math.nan)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV without its index; the file is written completely or not at all."""
    with replace_file(path) as temporary:
        frame.to_csv(temporary, index=False)


def write_json(rows: list[Row], path: Path) -> None:
    """Write rows as strict JSON; the file is written completely or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(rows, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def format_table(frame: pd.DataFrame, width: int = WIDTH) -> str:
    """Return a frame as text, without its index and with four decimals.

    Args:
        frame: The table.
        width: Maximum number of characters of a line.

    Returns:
        Lines. Columns at the right that do not fit are omitted, and the last line states how many. Long cells
        end in an ellipsis.

    Examples:
        >>> print(format_table(pd.DataFrame({"name": ["relu", "tanh"], "mean": [0.97453, float("nan")]})))
        name    mean
        ----  ------
        relu  0.9745
        tanh       -
    """
    columns = [_format_column(name, frame[name]) for name in frame.columns]
    fitting = len(columns)
    while fitting > 1 and sum(len(column[0]) + 2 for column in columns[:fitting]) - 2 > width:
        fitting -= 1
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns[:fitting], strict=True)]
    if omitted := len(columns) - fitting:
        lines.append(f"({omitted} column{'s' * (omitted > 1)} omitted)")
    return "\n".join(lines)


def _format_column(name: str, column: pd.Series[Any]) -> list[str]:
    """Return header, rule and cells of a column, padded to one width; numbers are right-aligned."""
    is_number = pd.api.types.is_numeric_dtype(column)
    texts = [str(name), "", *(_format_cell(value) for value in column)]
    width = max(map(len, texts))
    texts[1] = "-" * width
    return [text.rjust(width) if is_number else text.ljust(width) for text in texts]


def _format_cell(value: Any) -> str:
    if value is pd.NA or value != value:
        return "-"
    text = f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

"""Tables for people to read and for programs to load."""

from __future__ import annotations

import datetime
import json
import math
import numbers
from pathlib import Path
from typing import Any

import pandas as pd

from actlab.files import writing

WIDTH = 80  # columns of a terminal
_LONGEST = 40  # characters of a cell

Row = dict[str, Any]


def plain(value: Any) -> Any:
    """Return a value as JSON knows it.

    Args:
        value: Anything that a cell of a table may hold.

    Returns:
        None, a bool, an int, a finite float or a string. NaN, infinities and missing values become None,
        times their ISO form, classes their name, other objects their ``str``.

    Examples:
        >>> import numpy as np
        >>> [plain(value) for value in (np.float32(0.5), np.bool_(True), float("nan"), int)]
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


def plain_rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame as dictionaries of plain values, see :func:`plain`."""
    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV without its index; the file appears whole or not at all."""
    with writing(path) as beside:
        frame.to_csv(beside, index=False)


def write_json(rows: list[Row], path: Path) -> None:
    """Write rows as strict JSON; the file appears whole or not at all."""
    with writing(path) as beside:
        beside.write_text(json.dumps(rows, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def text_table(frame: pd.DataFrame, width: int = WIDTH) -> str:
    """Lay a frame out as text.

    Args:
        frame: Its index is left out; floats get four decimals.
        width: The most characters a line may have.

    Returns:
        Lines of at most ``width`` characters. Columns that do not fit are left out from the right, and the
        last line says how many; long cells end in an ellipsis.

    Examples:
        >>> print(text_table(pd.DataFrame({"name": ["relu", "tanh"], "mean": [0.97453, float("nan")]})))
        name    mean
        ----  ------
        relu  0.9745
        tanh       -
    """
    columns = [_cells(name, frame[name]) for name in frame.columns]
    fit = len(columns)
    while fit > 1 and sum(len(column[0]) + 2 for column in columns[:fit]) - 2 > width:
        fit -= 1
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns[:fit], strict=True)]
    if left_out := len(columns) - fit:
        lines.append(f"({left_out} columns do not fit here)")
    return "\n".join(lines)


def _cells(name: str, column: pd.Series[Any]) -> list[str]:
    """Return header, rule and cells of a column, padded to one width; numbers are flush right."""
    is_number = pd.api.types.is_numeric_dtype(column)
    texts = [str(name), "", *(_cell(value) for value in column)]
    width = max(map(len, texts))
    texts[1] = "-" * width
    return [text.rjust(width) if is_number else text.ljust(width) for text in texts]


def _cell(value: Any) -> str:
    if value is pd.NA or value != value:
        return "-"
    text = f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

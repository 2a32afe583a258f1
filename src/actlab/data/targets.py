"""Take the targets out of a table, and encode labels as integers."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from actlab.data.column_types import convert_numbers
from actlab.data.readers import Array, format_names
from actlab.data.standardize import standardize_targets
from actlab.data.table_files import SUFFIXES
from actlab.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


# Targets as a model takes them, the classes or label names, and the standard deviations of a regression.
EncodedTargets = tuple[Array, tuple[str | int, ...], tuple[float, ...]]


def split_target(frame: pd.DataFrame, target: Any, regression: bool, name: str) -> tuple[pd.DataFrame, Array]:
    """Return the features of a table and its targets (n,), or (n, k) of k columns.

    Args:
        frame: The table, whose column names are strings.
        target: The name of the target column; for a regression, or several labels, also a list of names.
        regression: Whether the targets are numbers, not classes.
        name: The name of the data in error messages.
    """
    if not isinstance(target, list | tuple):
        return frame.drop(columns=str(target), errors="ignore"), _take_target(frame, target, regression, name)
    targets = [_take_target(frame, one, regression, name) for one in target]
    if not regression and (len(targets) < 2 or not all(np.isin(labels, (0, 1)).all() for labels in targets)):
        problem = (
            f"{len(target)} targets need regression=True (--regression), or labels 0 and 1 in each column"
        )
        raise UsageError(f"{name}: {problem}; or set one target")
    return frame.drop(columns=list(target)), np.column_stack(targets)


def _take_target(frame: pd.DataFrame, target: Any, regression: bool, name: str) -> Array:
    """Return the targets (n,) of a column."""
    columns, kind = [str(column) for column in frame], "target" if regression else "label"
    if target is None or str(target) not in columns:
        suggestion = did_you_mean(str(target), columns)
        option = " (--target COLUMN)" if name.lower().removesuffix(".gz").endswith(SUFFIXES) else ""
        problem = f"set target{option}" if target is None else f"no column {target!r}{suggestion}"
        hint = "; separate fields by commas, semicolons or tabs" if len(columns) == 1 else ""
        raise UsageError(f"{name}: {problem}; the {kind} column is one of {format_names(columns)}{hint}")
    labels = frame[str(target)]
    if len(missing := np.flatnonzero(labels.isna())):
        where = f"{len(missing)} of {len(frame)} rows; the first is y[{missing[0]}]"
        advice = "fill it in, or drop these rows"
        raise UsageError(f"{name}: the {kind} column {target!r} is empty in {where}; {advice}")
    return (
        convert_numbers(labels, f"target column {target!r}", name) if regression else _convert_labels(labels)
    )


def encode_targets(y: Array, regression: bool, name: str, labels: tuple[str, ...] = ()) -> EncodedTargets:
    """Return targets as a model takes them."""
    if regression:
        targets, stds = standardize_targets(y, name)
        return targets, (), stds
    encoded = _encode_labels(y, name) if y.ndim == 1 else _encode_several_labels(y, labels, name)
    return *encoded, ()


def _convert_labels(values: pd.Series[Any]) -> Array:
    """Return labels; all are text if only some are numbers."""
    if values.dtype.kind != "O":
        return values.to_numpy()
    labels = values.to_list()
    return np.array(labels if all(isinstance(label, Real) for label in labels) else list(map(str, labels)))


def _encode_labels(labels: Array, name: str) -> tuple[npt.NDArray[np.int64], tuple[str | int, ...]]:
    values, codes = np.unique(labels, return_inverse=True)
    classes = tuple(int(v) if values.dtype.kind in "iuf" and v.is_integer() else str(v) for v in values)
    if len(classes) < 2:
        raise UsageError(f"{name}: every label is {classes[0]!r}; at least two classes are needed")
    return codes.astype(np.int64), classes


def _encode_several_labels(
    y: Array, labels: tuple[str, ...], name: str
) -> tuple[npt.NDArray[np.float32], tuple[str | int, ...]]:
    names: tuple[str | int, ...] = labels or tuple(range(y.shape[1]))
    pairs = zip(names, y.T, strict=True)
    if same := [f"{label!r} is {int(column[0])}" for label, column in pairs if column.min() == column.max()]:
        advice = "a label needs samples with 0 and with 1; remove such labels"
        raise UsageError(f"{name}: for every sample, label {', label '.join(same)}; {advice}")
    return y.astype(np.float32, order="C"), names

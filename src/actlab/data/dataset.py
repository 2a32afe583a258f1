"""Features and targets, and how the features are scaled."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from actlab.data.column_types import convert_numbers
from actlab.data.images import has_pixels
from actlab.data.readers import Array, convert_features, convert_targets
from actlab.data.standardize import standardize_columns, standardize_features
from actlab.data.table_encoding import EncodedTable, encode_numbers, encode_table, name_columns
from actlab.data.targets import EncodedTargets, encode_targets, split_target
from actlab.errors import UsageError, warn_about_data

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("columns", "common", "none")
_CHANNELS = (1, 3, 4)  # grey, RGB and RGBA


@dataclass(frozen=True, eq=False)
class Dataset:
    """Features with their targets; equal fingerprints mean equal data and scales.

    A table has one scale for each column. A comparison computes it from the training samples of each fold;
    :attr:`X`, for your own models, is scaled with the mean and the standard deviation of all samples outside
    a fixed test set. Other data have one scale for all features.

    Args:
        X: Features, float32 (n, d) or, for images, (n, channels, height, width), C-contiguous, with mean 0
            and standard deviation 1; or integers such as tokens, int64 (n, d).
        y: Labels, int64 (n,), from 0 to ``num_classes - 1``; for several labels per sample, 0 and 1, float32
            (n, k); for a regression, k targets, float32 (n, k), each with mean 0 and standard deviation 1.
        name: The name in tables and reports.
        fingerprint: The first 16 hex digits of a SHA-256 over shape, dtype and bytes of the features and y.
        classes: The original labels in sorted order; ``classes[y[i]]`` is the label of sample i. For several
            labels per sample, the names of the labels: sample i has ``classes[j]`` if ``y[i, j]`` is 1. Empty
            for a regression.
        shape: The shape of a sample before it was flattened: (channels, height, width) for images, else ().
        channels: ``"first"`` to confirm that channels come first in a ``shape`` that looks like (height,
            width, channels).
        encoded: The features before scaling, float64 (n, d), NaN for missing values, if each column has its
            own scale; None for a common scale.
        preprocessing: How a table was encoded, in one line; empty for images.
        test_rows: Indices (m,) of the samples of a fixed test set; None for cross-validation.
        test_name: The name of the test set.
        groups: The group (n,) of each sample, int64 from 0; None without groups.
        weights: The weight (n,) of each sample, float64 > 0; None if all are equal.
        columns: The column of the table that each encoded feature comes from (d,); empty for other data.
        target_stds: For a regression, the standard deviations (k,) of the targets before they were
            standardized; empty if they are unknown.
        target_names: For a regression on a table, the names (k,) of the target columns; else empty.

    Raises:
        UsageError: X, y and ``shape`` do not fit together, or ``shape`` looks like (height, width, channels).
    """

    X: npt.NDArray[np.float32 | np.int64]
    y: npt.NDArray[Any]
    name: str
    fingerprint: str
    classes: tuple[str | int, ...]
    shape: tuple[int, ...] = ()
    channels: InitVar[str | None] = None
    encoded: npt.NDArray[np.float64] | None = None
    preprocessing: str = ""
    test_rows: npt.NDArray[np.int64] | None = None
    test_name: str = ""
    groups: npt.NDArray[np.int64] | None = None
    weights: npt.NDArray[np.float64] | None = None
    columns: tuple[str, ...] = ()
    target_stds: tuple[float, ...] = ()
    target_names: tuple[str, ...] = ()

    def __post_init__(self, channels: str | None) -> None:
        indices = self.classes and np.ndim(self.y) != 2
        dtypes = {"X": ("float32", "int64"), "y": ("int64" if indices else "float32",)}
        for name, allowed in dtypes.items():
            values = getattr(self, name)
            if not isinstance(values, np.ndarray) or values.dtype not in allowed:
                kind = f"type {type(values).__name__} and dtype {getattr(values, 'dtype', None)}"
                array = f"a NumPy array of {' or '.join(allowed)}"
                right = f"it must be {array}; load_data((X, y)) converts arrays and tensors"
                raise UsageError(f"{self.name}: {name} has {kind}; {right}")
        shapes = f"{self.name}: X has shape {self.X.shape} and y {self.y.shape}"
        if (self.X.ndim != 2 and self.X.shape[1:] != self.shape) or len(self.X) != len(self.y):
            raise UsageError(
                f"{shapes}; X must be (n, d) with the same n as y; load_data((X, y)) takes images"
            )
        if self.is_multilabel and (self.y.shape[1] != self.num_classes or not np.isin(self.y, (0, 1)).all()):
            raise UsageError(f"{shapes}; several labels must be 0 and 1 of shape (n, {self.num_classes})")
        if indices and (self.y.ndim != 1 or not np.isin(self.y, range(len(self.classes))).all()):
            right = f"y must have labels (n,) from 0 to {len(self.classes) - 1}"
            raise UsageError(f"{shapes}; {right}; load_data((X, y)) encodes labels")
        if not self.classes and self.y.ndim != 2:
            raise UsageError(f"{shapes}; y must be (n, k), a column for each output")
        if channels not in (None, "first"):
            raise UsageError(f"{self.name}: channels must be 'first' or None, got {channels!r}")
        if self.shape and (len(self.shape) != 3 or math.prod(self.shape) != self.num_features):
            advice = f"(channels, height, width) with a product of {self.num_features}"
            raise UsageError(f"{self.name}: shape is {self.shape}; it must be {advice}")
        if self.shape and channels is None and _find_channel_axes(self.shape) == ["last"]:
            problem = f"shape is {self.shape}, which looks like (height, width, channels)"
            advice = (
                "load_data((X, y)) moves the channels to the front; "
                "if they already come first, set channels='first'"
            )
            raise UsageError(f"{self.name}: {problem}; {advice}")

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: Any,
        *,
        regression: bool = False,
        scale: str | None = None,
        channels: str | None = None,
        name: str = "arrays",
        test_samples: int = 0,
    ) -> Dataset:
        """Return the dataset of arrays, tensors, lists or sparse matrices.

        Args:
            X: Features (n, ...): numbers, NaN for a missing number.
            y: Labels (n,) or (n, 1), integers or text; several labels per sample (n, k), 0 or 1; for a
                regression, numbers, also (n, k) for k outputs.
            regression: Whether the targets are numbers, not classes.
            scale: As for :func:`load_data`.
            channels: As for :func:`load_data`.
            name: The name in tables and reports.
            test_samples: The number of samples at the end that are a fixed test set.

        Raises:
            UsageError: As for :func:`load_data`.
        """
        X = _move_channels_first(convert_features(X, name), channels, name)
        y = convert_targets(y, regression, name)
        _check_shapes(X, y, regression, name)
        shape = {3: (1, *X.shape[1:]), 4: X.shape[1:]}.get(X.ndim, ())
        default = "columns" if X.ndim == 2 and X.dtype != np.uint8 else "common"
        features, targets = X.reshape(len(X), -1), encode_targets(y, regression, name)
        if scale == "none" and X.ndim == 2 and X.dtype.kind in "iu":
            done = f"{X.shape[1]} integers; not scaled"
            return cls._create(_to_int64(X, name), targets, name, done, test_samples=test_samples)
        if default == "common" and scale in (None, default):  # without a copy in float64
            X = standardize_features(features, name, test_samples)
            return cls._create(X, targets, name, shape=shape, test_samples=test_samples)
        table = encode_numbers(features, name)
        return cls._scale(table, targets, scale or default, name, shape, test_samples)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        target: Any,
        *,
        regression: bool = False,
        scale: str | None = None,
        name: str = "DataFrame",
        test_samples: int = 0,
    ) -> Dataset:
        """Return the dataset of a table, with its columns encoded as numbers.

        Args:
            frame: The table: numbers, text, categories, Booleans and dates.
            target: The name of the target column, or the targets (n,); for a regression, or several labels
                that are 0 or 1, also a list of names, or targets (n, k).
            regression: Whether the targets are numbers, not classes.
            scale: As for :func:`load_data`.
            name: The name in tables and reports.
            test_samples: The number of rows at the end that are a fixed test set.

        Raises:
            UsageError: As for :func:`load_data`.
        """
        frame = name_columns(frame, name)
        several = isinstance(target, list | tuple) and all(isinstance(one, str) for one in target)
        several = several and (regression or len(target) != len(frame))
        labels = tuple(target) if several and not regression else ()
        if target is None or np.ndim(target) == 0 or several:
            frame, y = split_target(frame, target, regression, name)
        else:
            y = convert_targets(target, regression, name)
        _check_shapes(frame, y, regression or bool(labels), name)
        options: dict[str, Any] = {"regression": regression, "scale": scale, "name": name}
        options["test_samples"] = test_samples
        if scale == "none" and all(isinstance(t, np.dtype) and t.kind in "iu" for t in frame.dtypes):
            made = cls.from_arrays(frame.to_numpy(), y, **options)
            return dataclasses.replace(made, classes=labels or made.classes)
        if has_pixels(columns := [str(column) for column in frame]):
            X = np.stack(
                [convert_numbers(frame[column], f"column {column!r}", name) for column in columns], 1
            )
            side = math.isqrt(len(columns))
            images = X.reshape(-1, side, side)
            made = cls.from_arrays(images, y, **options)
            return dataclasses.replace(made, channels="first", classes=labels or made.classes)
        targets = encode_targets(y, regression, name, labels)
        table = encode_table(frame, name)
        return cls._scale(table, targets, scale or "columns", name, test_samples=test_samples)

    @classmethod
    def _scale(
        cls,
        table: EncodedTable,
        targets: EncodedTargets,
        scale: str,
        name: str,
        shape: tuple[int, ...] = (),
        test_samples: int = 0,
    ) -> Dataset:
        """Return the dataset of an encoded table."""
        if scale not in SCALES:
            raise UsageError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
        encoded, done = table.values, table.summary
        if scale == "columns":
            X = standardize_columns(encoded, slice(len(encoded) - test_samples))
            if not X.any():
                raise UsageError(f"{name}: X is constant in every column; it cannot be standardized")
            made = cls._create(X, targets, name, done, encoded, shape, test_samples)
            return dataclasses.replace(made, columns=table.columns, channels="first")
        if np.isnan(encoded).any():
            advice = "fill them in, or set scale='columns' (--scale columns)"
            raise UsageError(f"{name}: X has missing values, but scale is {scale!r}; {advice}")
        if scale == "common":
            X, how = standardize_features(encoded, name, test_samples), "one scale for all"
        else:
            X, how = encoded.astype(np.float32), "not scaled"
        return cls._create(X, targets, name, f"{done}; {how}", shape=shape, test_samples=test_samples)

    @classmethod
    def _create(
        cls,
        X: npt.NDArray[np.float32 | np.int64],
        targets: EncodedTargets,
        name: str,
        preprocessing: str = "",
        encoded: npt.NDArray[np.float64] | None = None,
        shape: tuple[int, ...] = (),
        test_samples: int = 0,
    ) -> Dataset:
        y, classes, stds = targets
        fingerprint = compute_fingerprint(X if encoded is None else encoded, y)
        rows = np.arange(len(y) - test_samples, len(y)) if test_samples else None
        return cls(
            *(X, y, name, fingerprint, classes, shape, "first", encoded, preprocessing, rows),
            target_stds=stds,
        )

    def scale(self, rows: Any) -> npt.NDArray[np.float32 | np.int64]:
        """Return the features of all samples, scaled with statistics of some of them.

        Args:
            rows: Indices of the samples that determine the scale of each column, such as the training
                samples. Data with a common scale, or without one, ignore them.

        Returns:
            Features in the shape and with the dtype of :attr:`X`. Each column has mean 0 and standard
            deviation 1 over the samples ``rows``. Missing values, and columns that are constant over these
            samples, are 0.
        """
        if self.encoded is None:
            return self.X
        return standardize_columns(self.encoded, rows).reshape(self.X.shape)

    def as_images(self) -> Dataset:
        """Return the dataset with X (n, channels, height, width), for data with a ``shape``."""
        done = f"{self.preprocessing}; " * bool(self.preprocessing) + f"the network gets images {self.shape}"
        X = self.X.reshape(-1, *self.shape)
        return dataclasses.replace(self, X=X, channels="first", preprocessing=done)

    @property
    def num_features(self) -> int:
        """The number of features of a sample."""
        return math.prod(self.X.shape[1:])

    @functools.cached_property
    def is_regression(self) -> bool:
        """Whether the targets are numbers, not classes."""
        return not self.classes

    @property
    def is_multilabel(self) -> bool:
        """Whether a sample has several labels, each 0 or 1."""
        return bool(self.classes) and np.ndim(self.y) == 2

    @property
    def num_classes(self) -> int:
        """The number of outputs of a model: classes, labels per sample, or targets of a regression."""
        return len(self.classes) or self.y.shape[1]

    def __repr__(self) -> str:
        numbers = f"y=float32{self.y.shape}"
        labels = f"num_{'labels' if self.is_multilabel else 'classes'}={self.num_classes}"
        targets = numbers if self.is_regression else labels
        X = f"X={self.X.dtype}{self.X.shape}"
        return f"Dataset({self.name!r}, {X}, {targets}, fingerprint={self.fingerprint!r})"


def _find_channel_axes(shape: Sequence[int]) -> list[str]:
    """Return the axes of an image that can be its channels, by their length."""
    return [axis for axis, length in (("first", shape[0]), ("last", shape[-1])) if length in _CHANNELS]


def _move_channels_first(X: Array, channels: str | None, name: str) -> Array:
    """Return images (n, h, w, c) as (n, c, h, w), and other arrays unchanged."""
    problem = f"{name}: X has shape {X.shape}"
    if X.ndim != 4:
        if channels is not None:
            images = "channels needs images (n, c, h, w) or (n, h, w, c)"
            raise UsageError(f"{problem}, but {images}; omit channels={channels!r}")
        return X
    axes = [channels] if channels else _find_channel_axes(X.shape[1:])
    if len(axes) > 1:
        advice = "set channels='first' or 'last' in load_data (--channels first, --channels last)"
        raise UsageError(f"{problem}; the first or the last axis of an image can be its channels; {advice}")
    if axes != ["last"]:
        return X
    if channels is None:
        choice = "the last axis of an image was taken as its channels and moved to the front"
        advice = "if the first axis is the channels, set channels='first' (--channels first)"
        warn_about_data(f"{problem}; {choice}; {advice}")
    return np.moveaxis(X, 3, 1)


def _check_shapes(X: Any, y: Array, several: bool, name: str) -> None:
    """Raise an error unless X (n, ...) and y (n,), or several targets (n, k), contain the same samples."""
    problem = "" if several or y.ndim != 2 else _find_labels_problem(y)
    several = several or (y.ndim == 2 and not problem)
    right = y.ndim == 1 or (several and y.ndim == 2 and y.size)
    if not right or X.ndim < 2 or len(X) != len(y):
        shapes = f"X has shape {X.shape} and y {y.shape}"
        need = f"they must be (n, d) and (n,) or {'(n, k)' if several else '(n, 1)'} with the same n"
        raise UsageError(f"{name}: {shapes}; {need}{problem and '; '}{problem}")
    if X.size == 0:
        raise UsageError(f"{name}: X has shape {X.shape}; at least one sample and one feature are needed")


def _find_labels_problem(y: Array) -> str:
    """Return the problem with several labels (n, k) per sample; an empty string if there is none."""
    if not np.isin(y, (0, 1)).all():
        return "several labels must be 0 or 1; to predict several numbers, set regression=True (--regression)"
    return "convert one-hot labels with y.argmax(1)" if (y.sum(axis=1) == 1).all() else ""


def _to_int64(X: Array, name: str) -> npt.NDArray[np.int64]:
    """Return a copy of integers (n, d) in int64."""
    if X.dtype == np.uint64 and (bad := np.iinfo(np.int64).max < X).any():
        row, column = np.argwhere(bad)[0]
        raise UsageError(
            f"{name}: X[{row}, {column}] = {X[row, column]} is beyond int64; use smaller integers"
        )
    return X.astype(np.int64, order="C")


def compute_fingerprint(X: Array, y: Array) -> str:
    """Return a fingerprint of the data.

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

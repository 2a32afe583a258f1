"""Load named datasets, files, DataFrames and arrays as a :class:`Dataset`."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from actlab.data.image_folder import read_image_folder
from actlab.data.images import IMAGES, read_images, reshape_pixels
from actlab.data.named_tables import OPENML, TABLES, download_table, read_bundled_table, read_digits
from actlab.data.readers import IN_PANDAS, Array, convert_arrays, convert_frame, read_csv, read_npz
from actlab.data.standardise import standardise_features, standardise_targets
from actlab.errors import DataWarning, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    Source = str | os.PathLike[str] | pd.DataFrame | Sequence[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Standardised features with their targets; equal fingerprints mean equal X and y.

    Args:
        X: Features, float32 (n, d), C-contiguous, with global mean 0 and standard deviation 1.
        y: Labels, int64 (n,), from 0 to ``num_classes - 1``; for a regression the targets, float32 (n, 1),
            with mean 0 and standard deviation 1.
        name: The name in tables and reports.
        fingerprint: The first 16 hex digits of a SHA-256 over shape, dtype and bytes of X and y.
        classes: The original labels in sorted order; ``classes[y[i]]`` is the label of sample i. Empty for a
            regression.
        shape: The shape of a sample before it was flattened: (channels, height, width) for images, else ().
        channels: ``"first"`` to confirm a ``shape`` that looks like (height, width, channels).

    Raises:
        UsageError: X, y and ``shape`` do not fit together, or ``shape`` looks like (height, width, channels).
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    name: str
    fingerprint: str
    classes: tuple[str | int, ...]
    shape: tuple[int, ...] = ()
    channels: InitVar[str | None] = None

    def __post_init__(self, channels: str | None) -> None:
        dtypes = {"X": "float32", "y": "int64" if self.classes else "float32"}
        for name, dtype in dtypes.items():
            values = getattr(self, name)
            if not isinstance(values, np.ndarray) or values.dtype != dtype:
                kind = f"type {type(values).__name__} and dtype {getattr(values, 'dtype', None)}"
                right = f"it must be a NumPy array of {dtype}; load_data((X, y)) converts arrays and tensors"
                raise UsageError(f"{self.name}: {name} has {kind}; {right}")
        shapes = f"{self.name}: X has shape {self.X.shape} and y {self.y.shape}"
        if self.X.ndim != 2 or len(self.X) != len(self.y):
            raise UsageError(
                f"{shapes}; X must be (n, d) with the same n as y; load_data((X, y)) takes images"
            )
        if self.classes and (self.y.ndim != 1 or not np.isin(self.y, range(len(self.classes))).all()):
            right = f"y must have labels (n,) from 0 to {len(self.classes) - 1}"
            raise UsageError(f"{shapes}; {right}; load_data((X, y)) encodes labels")
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

    @property
    def num_features(self) -> int:
        """The number of features of a sample."""
        return int(self.X.shape[1])

    @functools.cached_property
    def is_regression(self) -> bool:
        """Whether the targets are numbers, not classes."""
        return not self.classes

    @property
    def num_classes(self) -> int:
        """The number of outputs of a model: the number of distinct labels, or 1 for a regression."""
        return len(self.classes) or 1

    def __repr__(self) -> str:
        targets = f"y=float32{self.y.shape}" if self.is_regression else f"num_classes={self.num_classes}"
        return f"Dataset({self.name!r}, X=float32{self.X.shape}, {targets}, fingerprint={self.fingerprint!r})"


_REGRESSION = "diabetes"
NAMES = ("digits", *TABLES, *IMAGES)
_ARGUMENTS = {  # of load_data, for each kind of source
    ".csv": ("target", "regression"),
    ".npz": ("regression", "channels"),
    "DataFrame": ("target", "regression"),
    "arrays": ("regression", "channels"),
    "folder": (),
    OPENML: ("target", "regression"),
    "digits": (),
    **dict.fromkeys(TABLES, ()),
    **dict.fromkeys(IMAGES, ("data_dir",)),
    _REGRESSION: ("regression",),
}
_CHANNELS = (1, 3, 4)  # grey, RGB and RGBA


def load_data(
    source: Source,
    data_dir: str | Path | None = None,
    *,
    target: str | None = None,
    regression: bool = False,
    channels: str | None = None,
) -> Dataset:
    """Load a named dataset, a file, a DataFrame or arrays, standardise the features and encode the labels.

    X and the targets of a regression are standardised by the mean and the standard deviation of the whole
    array (``ddof=1``, like ``torch.Tensor.std``), in float64, and rounded once to float32. Labels become
    0..k-1 in sorted order. Loading never unpickles or evaluates content.

    Args:
        source: One of

            - ``"digits"`` (8x8 images), ``"iris"``, ``"wine"``, ``"breast_cancer"`` or ``"diabetes"`` (a
              regression), which come with scikit-learn and work offline;
            - ``"mnist"``, ``"fashion-mnist"``, ``"kmnist"``, ``"emnist-balanced"`` (or ``-letters``,
              ``-digits``, ``-mnist``, ``-byclass``, ``-bymerge``), ``"cifar10"`` or ``"cifar100"`` (its
              fine labels): the training images;
            - ``"openml:NAME"`` or ``"openml:ID"``: a table of openml.org, downloaded once into
              scikit-learn's cache;
            - a folder with a subfolder of image files for each class, all grey or RGB and of one size. They
              need Pillow. Images with fewer channels than others are read as RGB;
            - a path ending in ``.npz``: arrays X (n, ...) of numbers, flattened to (n, d), and y (n,) or
              (n, 1) of integers or strings, or of numbers for a regression. X with the shape (n, h, w), (n,
              c, h, w) or (n, h, w, c) contains images;
            - ``(X, y)``: arrays, CPU or GPU tensors or lists with the same contents;
            - a path ending in ``.csv``: a header line, then one line per sample. Commas, semicolons, tabs or
              ``|`` separate the fields; an empty cell is a missing value;
            - a pandas DataFrame, with the same contents. Its index is not a feature.

            Files may be compressed by gzip. Columns that are named like the pixels of a square image, such
            as ``pixel0`` to ``pixel783`` or ``1x1`` to ``28x28``, are an image.
        data_dir: For named images: the folder of their files, or the root folder of torchvision's layout.
            MNIST and similar sets have IDX files, under the names of their publishers or of Kaggle, plain
            or ``.gz``, or a table ``NAME_train.csv``. EMNIST's files contain transposed images, which are
            transposed again. CIFAR has the files of the binary version. Without it, ``"mnist"``,
            ``"fashion-mnist"`` and ``"kmnist"`` are downloaded once from openml.org into scikit-learn's
            cache.
        target: For tables: the name of the target column (openml: by default that of the table). All other
            columns are features and must be numeric.
        regression: For tables, files and data in memory: whether the targets are numbers, not classes.
        channels: For images (n, c, h, w) or (n, h, w, c): ``"first"`` or ``"last"``. By default the channels
            are the first or the last axis of an image, whichever has length 1, 3 or 4, and the first if
            neither has.

    Returns:
        The :class:`Dataset`. The channels of its images come first.

    Raises:
        UsageError: The name is unknown, an argument does not apply to it, a file is missing, damaged or of
            the wrong kind, images have different sizes or do not fit into memory, the download failed, X is
            constant or not finite, y has fewer than two classes, the targets of a regression are constant,
            not finite or not numbers, or both the first and the last axis of images can be the channels.

    Warns:
        DataWarning: The last axis of images was interpreted as the channels, or commas as decimal points.

    Examples:
        >>> load_data("digits")
        Dataset('digits', X=float32(1797, 64), num_classes=10, fingerprint='522bf7a8f6d541ce')
        >>> load_data("diabetes").y.shape
        (442, 1)
        >>> load_data((np.eye(6).reshape(6, 2, 3), ["a", "b"] * 3)).shape
        (1, 2, 3)
    """
    untyped: Any = source
    kind = _classify_source(untyped)
    columns: list[str] = []
    name = str(untyped) if isinstance(untyped, str | os.PathLike) else kind
    _check_arguments(kind, name, data_dir, target, regression, channels)
    if kind in (".csv", ".npz"):
        if not os.path.isfile(path := Path(untyped)):
            raise UsageError(f"no such file: {name!r}")
        name = path.name
        if kind == ".npz":
            X, y = read_npz(path, regression)
        else:
            X, y, columns = read_csv(path, target, regression)
    elif kind in ("DataFrame", OPENML, *TABLES):
        frame, column = untyped, target
        if kind != "DataFrame":
            frame, column = download_table(name, target) if kind == OPENML else read_bundled_table(name)
        X, y, columns = convert_frame(frame, column, regression or kind == _REGRESSION, name)
    elif kind == "arrays":
        X, y = convert_arrays(untyped[0], untyped[1], regression, name)
    elif kind == "folder":
        name = Path(untyped).resolve().name
        X, y = read_image_folder(Path(untyped))
    else:
        X, y = read_digits() if kind == "digits" else read_images(name, data_dir)
    if kind in (".npz", "arrays"):
        X = _move_channels_first(X, channels, name)
    X = reshape_pixels(X, columns)
    return _make_dataset(X, y, columns, name=name, regression=regression or kind == _REGRESSION)


def list_accepted_arguments(source: Source) -> tuple[str, ...]:
    """Return the arguments of :func:`load_data` that are used with a source."""
    return _ARGUMENTS[_classify_source(source)]


def _classify_source(source: Source) -> str:
    """Return what a source is, as a key of ``_ARGUMENTS``."""
    if not isinstance(source, str | os.PathLike):
        import pandas as pd

        if isinstance(source, pd.DataFrame):
            return "DataFrame"
        if isinstance(source, tuple | list) and len(source) == 2:
            return "arrays"
        advice = "pass a name, a file, a DataFrame and its target, or arrays as (X, y)"
        raise UsageError(f"cannot load data of type {type(source).__name__}; {advice}")
    name = str(source)
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    if name.startswith(OPENML) and name != OPENML:
        return OPENML
    if suffix in _ARGUMENTS or name in NAMES:
        return suffix or name
    if os.path.isdir(name):
        return "folder"
    if os.path.isfile(name):
        raise UsageError(f"cannot load {name!r}; pass a file that ends in .npz or .csv, or {IN_PANDAS}")
    advice = f"pass one of {', '.join(NAMES)}, openml:NAME, a .npz or .csv file, or a folder of images"
    raise UsageError(f"unknown data {name!r}{did_you_mean(name, NAMES)}; {advice}")


def _check_arguments(
    kind: str,
    name: str,
    data_dir: str | Path | None,
    target: str | None,
    regression: bool,
    channels: str | None,
) -> None:
    if channels not in (None, "first", "last"):
        raise UsageError(f"channels must be 'first' or 'last', got {channels!r}")
    values = {"data_dir": data_dir, "target": target, "regression": regression or None, "channels": channels}
    notes = {
        "target": ", only with a .csv file, a DataFrame or openml:NAME",
        "regression": ", whose targets are classes",
    }
    for argument, value in values.items():
        if value is not None and argument not in _ARGUMENTS[kind]:
            text = argument if value is True else f"{argument} {str(value)!r}"
            raise UsageError(f"{text} is not used with {name!r}{notes.get(argument, '')}; omit it")


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
        warnings.warn(f"{problem}; {choice}; {advice}", DataWarning, stacklevel=3)
    return np.moveaxis(X, 3, 1)


def _make_dataset(
    X: Array, y: Array, columns: Sequence[str] = (), *, name: str, regression: bool = False
) -> Dataset:
    """Return a Dataset of X (n, ...) and y (n,); ``columns`` are the names of the features in errors."""
    if y.shape[1:] == (1,):
        y = y[:, 0]
    if y.ndim != 1 or X.ndim < 2 or len(X) != len(y):
        shapes = f"X has shape {X.shape} and y {y.shape}"
        labels = "; convert one-hot labels with y.argmax(1)" if y.ndim == 2 and not regression else ""
        raise UsageError(f"{name}: {shapes}; they must be (n, d) and (n,) or (n, 1) with the same n{labels}")
    if X.size == 0:
        raise UsageError(f"{name}: X has shape {X.shape}; at least one sample and one feature are needed")
    targets, classes = (standardise_targets(y, name), ()) if regression else _encode(y, name)
    shape = {3: (1, *X.shape[1:]), 4: X.shape[1:]}.get(X.ndim, ())
    X = standardise_features(X.reshape(len(X), -1), columns, name)
    return Dataset(X, targets, name, compute_fingerprint(X, targets), classes, shape, channels="first")


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


def _encode(labels: Array, name: str) -> tuple[npt.NDArray[np.int64], tuple[str | int, ...]]:
    values, codes = np.unique(labels, return_inverse=True)
    classes = tuple(int(v) if values.dtype.kind in "iuf" and v.is_integer() else str(v) for v in values)
    if len(classes) < 2:
        raise UsageError(f"{name}: every label is {classes[0]!r}; at least two classes are needed")
    return codes.astype(np.int64), classes

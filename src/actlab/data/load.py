"""Load named datasets, files, tables and arrays as a :class:`Dataset`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.data.dataset import SCALES, Dataset
from actlab.data.fixed_test import (
    MIN_TEST_SAMPLES,
    Content,
    check_labels,
    count_repeated_samples,
    encode_groups,
    join_contents,
    read_weights,
    select_samples,
)
from actlab.data.image_folder import read_image_folder
from actlab.data.images import IMAGES, read_images
from actlab.data.named_tables import OPENML, TABLES, download_table, read_bundled_table, read_digits
from actlab.data.readers import format_names, read_npz, read_torch_dataset
from actlab.data.table_files import IN_PANDAS, SUFFIXES, read_table
from actlab.errors import UsageError, did_you_mean, warn_about_data

if TYPE_CHECKING:
    import pandas as pd
    import torch

    Files = str | os.PathLike[str]
    Source = Dataset | Files | pd.DataFrame | Sequence[Any] | torch.utils.data.Dataset[Any]

_REGRESSION = "diabetes"
TEST_IMAGES = "t10k"  # the test images of a named set
NAMES = ("digits", *TABLES, *IMAGES)
_ARGUMENTS = {  # of load_data, for each kind of source
    **dict.fromkeys((*SUFFIXES, "DataFrame", OPENML), ("target", "drop", "regression", "scale")),
    **dict.fromkeys((".npz", "arrays", "torch Dataset"), ("regression", "channels", "scale")),
    "table and targets": ("drop", "regression", "scale"),
    **dict.fromkeys(("folder", "digits", *TABLES), ("scale",)),
    _REGRESSION: ("regression", "scale"),
    **dict.fromkeys(IMAGES, ("data_dir", "scale")),
    "Dataset": (),
}


def load_data(
    source: Source,
    data_dir: str | Path | None = None,
    *,
    target: Any = None,
    drop: str | Sequence[str] = (),
    regression: bool = False,
    channels: str | None = None,
    scale: str | None = None,
    test: Any = None,
    groups: Any = None,
    weights: Any = None,
) -> Dataset:
    """Load a named dataset, a file, a table or arrays, scale the features and encode the labels.

    Labels become 0..k-1 in sorted order. Each target of a regression is standardized by the mean and the
    standard deviation of all samples. Loading never unpickles or evaluates content.

    Args:
        source: One of

            - ``"digits"`` (8x8 images), ``"iris"``, ``"wine"``, ``"breast_cancer"`` or ``"diabetes"`` (a
              regression), which come with scikit-learn and work offline;
            - ``"mnist"``, ``"fashion-mnist"``, ``"kmnist"``, ``"emnist-balanced"`` (or ``-letters``,
              ``-digits``, ``-mnist``, ``-byclass``, ``-bymerge``), ``"cifar10"`` or ``"cifar100"`` (its
              fine labels): the training images;
            - ``"openml:NAME"`` or ``"openml:ID"``: a table from openml.org, downloaded once into
              scikit-learn's cache;
            - a folder with a subfolder of image files for each class, all greyscale or RGB and of the same
              size. Reading them requires Pillow. Images with fewer channels than others are read as RGB;
            - a path ending in ``.csv`` or ``.tsv``: a header line, then one line per sample. Commas,
              semicolons, tabs or ``|`` separate the fields; an empty cell is a missing value;
            - a path ending in ``.parquet``, which needs pyarrow;
            - a pandas DataFrame, or a table with a ``to_pandas`` method, such as a polars DataFrame. Its
              index is not a feature;
            - a path ending in ``.npz``: arrays X (n, ...) of numbers, flattened to (n, d), and y (n,) or
              (n, 1) of integers or strings, or (n, k) of 0 and 1 if samples have several labels; for a
              regression, numbers, also (n, k) for k outputs. X with the shape (n, h, w), (n, c, h, w) or
              (n, h, w, c) contains images;
            - ``(X, y)``: arrays, CPU or GPU tensors, sparse matrices or lists with the same contents; X may
              be a DataFrame;
            - a map-style PyTorch dataset, which is read once;
            - a :class:`Dataset`, which is returned unchanged.

            Text files may be compressed by gzip. The columns of a table may contain numbers, text,
            categories, Booleans and dates; see :meth:`Dataset.from_frame`. Columns that are named like the
            pixels of a square image, such as ``pixel0`` to ``pixel783`` or ``1x1`` to ``28x28``, are read as
            an image.
        data_dir: For named images: the folder of their files, or the root folder of torchvision's layout.
            MNIST and similar sets are read from IDX files, plain or ``.gz``, with the publisher's or Kaggle's
            file names, or from a table ``NAME_train.csv``. EMNIST's files contain transposed images, which
            are transposed back. CIFAR is read from the files of its binary version. Without ``data_dir``,
            ``"mnist"``, ``"fashion-mnist"`` and ``"kmnist"`` are downloaded once from openml.org into
            scikit-learn's cache.
        target: For tables: the name of the target column (for OpenML, the table's default target if omitted),
            or a list of names for a regression with several targets, or for several labels that are 0 or 1.
            All other columns are features.
        drop: For tables, except named ones: a column or a list of columns to exclude from the features, such
            as an identifier or a date.
        regression: For tables, files and data in memory: whether the targets are numbers, not classes.
        channels: For images (n, c, h, w) or (n, h, w, c): ``"first"`` or ``"last"``. By default the channels
            are the first or the last axis of an image, whichever has length 1, 3 or 4, and the first axis if
            neither has.
        scale: ``"columns"`` to standardize each column (default for tables and arrays (n, d)), ``"common"``
            to standardize all features together (default for images and bytes), or ``"none"``. The scales of
            columns are computed from the training samples of each fold; see :meth:`Dataset.scale`. Without a
            scale, integers (n, d), such as tokens for an embedding, stay integers (int64).
        test: A fixed test set: a source with the same columns or shapes, or ``"t10k"`` for the test images of
            a named set. Its samples come last in the dataset. Scales are computed from the other samples.
        groups: The group of each sample (n,), or the column of the groups, which is then not a feature.
            Samples of one group, such as those of a patient, are never divided between training and test.
        weights: The weight of each sample (n,), >= 0, or the column of the weights, which is then not a
            feature. Losses and scores are weighted means; a weight of 0 excludes the sample.

    Returns:
        The :class:`Dataset`. The channels of its images come first.

    Raises:
        UsageError: The name is unknown, an argument does not apply to it, a file is missing, damaged or of
            the wrong kind, images have different sizes, the download failed, X is constant or infinite, y has
            fewer than two classes, all samples have the same value of one of several labels, the targets of a
            regression are constant, not finite or not numbers, a column cannot be encoded, weights are
            negative or not finite, both the first and the last axis of images can be the channels, or memory
            is too small.

    Warns:
        DataWarning: The last axis of images was interpreted as the channels, commas as decimal points, or the
            first line of a table as values; or test samples also occur in the training data.

    Examples:
        >>> load_data("digits")
        Dataset('digits', X=float32(1797, 64), num_classes=10, fingerprint='522bf7a8f6d541ce')
        >>> load_data("diabetes").y.shape
        (442, 1)
        >>> import numpy as np
        >>> load_data((np.eye(6).reshape(6, 2, 3), ["a", "b"] * 3)).shape
        (1, 2, 3)
    """
    untyped: Any = source
    kind = _classify_source(source)
    name = str(untyped) if isinstance(untyped, str | os.PathLike) else kind
    dropped = [drop] if isinstance(drop, str) else [str(column) for column in drop]
    values = {"data_dir": data_dir, "target": target, "regression": regression or None}
    values["drop"] = ", ".join(dropped) or None
    _check_arguments(kind, name, {**values, "channels": channels, "scale": scale})
    if isinstance(source, Dataset):
        if any(value is not None for value in (test, groups, weights)):
            raise UsageError(
                "test, groups and weights are not used with a Dataset; pass them when you load it"
            )
        return source
    targets = target if isinstance(target, list | tuple) else [target]
    for what, column in (("groups", groups), ("weights", weights)):
        if isinstance(column, str) and column in targets:
            raise UsageError(f"{what} and target are the same column, {column!r}; name different columns")
    content = _read(untyped, kind, data_dir, target, regression)
    if dropped:
        _check_dropped(content, dropped, groups, weights)
        content = _drop_columns(content, dropped)
    samples = _count_samples(content.features)
    if test is not None:
        tested = _drop_columns(_read_test(test, kind, name, data_dir, target, regression), dropped)
        if (tests := _count_samples(tested.features)) < MIN_TEST_SAMPLES:
            number = f"{tests} sample{'s' * (tests != 1)}"
            raise UsageError(
                f"the test set {tested.name} has {number}; at least {MIN_TEST_SAMPLES} are needed"
            )
        content = join_contents(content, tested, regression)
        if repeated := count_repeated_samples(content, samples):
            number = f"{repeated} of {tests} test samples also occur in the training data"
            warn_about_data(f"{tested.name}: {number}; scores on them do not show how models generalize")
    content, groups = _take_column(content, "groups", groups)
    content, weights = _take_column(content, "weights", weights)
    count = _count_samples(content.features)
    codes = None if groups is None else encode_groups(groups, count, samples, content.name)
    if weights is not None:
        if test is not None:
            raise UsageError("weights are not supported with a fixed test set; omit weights or test")
        weights = read_weights(weights, count, content.name)
        content, codes, weights = select_samples(content, codes, weights, regression)
        samples = count = len(weights)
    regression = regression or kind == _REGRESSION
    options: dict[str, Any] = {"regression": regression, "scale": scale, "name": content.name}
    options["test_samples"] = count - samples
    if content.is_table:
        dataset = Dataset.from_frame(content.features, content.targets, **options)
    else:
        channels = content.channels or channels
        dataset = Dataset.from_arrays(content.features, content.targets, **options, channels=channels)
    if test is not None:
        dataset = dataclasses.replace(dataset, channels="first", test_name=tested.name)
        check_labels(dataset)
    if weights is not None and (weights == weights[0]).all():
        weights = None
    done = [dataset.preprocessing] * bool(dataset.preprocessing)
    done += [f"dropped on request: {', '.join(dict.fromkeys(dropped))}"] * bool(dropped)
    changes: dict[str, Any] = {"groups": codes, "weights": weights, "preprocessing": "; ".join(done)}
    if content.by_name and dataset.is_regression:
        columns = content.targets if isinstance(content.targets, list | tuple) else [content.targets]
        changes["target_names"] = tuple(map(str, columns))
    return dataclasses.replace(dataset, channels="first", **changes)


def _count_samples(features: Any) -> int:
    """Return the number of samples; 0 for an object that a later check refuses."""
    shape = getattr(features, "shape", None)
    if shape is None:
        return len(features) if isinstance(features, Sized) else 0
    return int(shape[0]) if len(shape) else 0


def _read(source: Any, kind: str, data_dir: str | Path | None, target: Any, regression: bool) -> Content:
    """Return what a source contains."""
    name = str(source) if isinstance(source, str | os.PathLike) else kind
    if (table := _read_frame(source, kind, target, regression)) is not None:
        by_name = kind != "table and targets"
        name = Path(name).name if kind in SUFFIXES else name if by_name else "DataFrame"
        return Content(*table, name, is_table=True, by_name=by_name)
    if kind == ".npz":
        path = _find_file(name)
        (X, y), name = read_npz(path), path.name
    elif kind == "arrays":
        X, y = source
    elif kind == "torch Dataset":
        X, y = read_torch_dataset(source)
    elif kind == "folder":
        name = Path(source).resolve().name
        X, y = read_image_folder(Path(source))
    else:
        X, y = read_digits() if kind == "digits" else read_images(name, data_dir)
    channels = "first" if kind in ("folder", *IMAGES) and X.ndim == 4 else None
    return Content(X, y, name, is_table=False, channels=channels)


def _read_test(
    test: Any, kind: str, name: str, data_dir: str | Path | None, target: Any, regression: bool
) -> Content:
    """Return what a test set contains."""
    if isinstance(test, str) and test == TEST_IMAGES:
        if kind not in IMAGES:
            raise UsageError(f"test {test!r} needs a named set of images, got {name!r}; pass a file or data")
        X, y = read_images(name, data_dir, "test")
        return Content(X, y, test, is_table=False)
    if isinstance(test, Dataset):
        raise UsageError("test is a Dataset, which is scaled already; pass what you loaded it from")
    return _read(test, _classify_source(test), data_dir, target, regression)


def _check_dropped(content: Content, dropped: Sequence[str], groups: Any, weights: Any) -> None:
    """Raise UsageError if a dropped column is unknown or has another role."""
    columns = [str(name) for name in content.features]
    targets = content.targets if isinstance(content.targets, list | tuple) else [content.targets]
    roles = {"target": targets if content.by_name else [], "groups": [groups], "weights": [weights]}
    for column in dropped:
        if column not in columns:
            hint = _suggest_column(column, columns)
            raise UsageError(f"{content.name}: drop must be columns of the table, got {column!r}{hint}")
        for role, used in roles.items():
            if any(isinstance(one, str) and one == column for one in used):
                raise UsageError(
                    f"{content.name}: drop and {role} are the same column, {column!r}; name different columns"
                )


def _suggest_column(column: str, columns: Sequence[str]) -> str:
    return f"{did_you_mean(column, columns)}; the columns are {format_names(columns)}"


def _drop_columns(content: Content, dropped: Sequence[str]) -> Content:
    if not (content.is_table and dropped):
        return content
    kept = [str(column) not in dropped for column in content.features]
    return dataclasses.replace(content, features=content.features.loc[:, kept])


def _take_column(content: Content, what: str, column: Any) -> tuple[Content, Any]:
    """Remove the column of the groups or weights from a table and return it; return values unchanged."""
    if not isinstance(column, str):
        return content, column
    if not content.is_table:
        raise UsageError(
            f"{content.name} has no columns; pass {what} as one value per sample, not {column!r}"
        )
    columns = [str(name) for name in content.features]
    if column not in columns:
        hint = _suggest_column(column, columns)
        raise UsageError(
            f"{content.name}: {what} must be a column or one value per sample, got {column!r}{hint}"
        )
    place = columns.index(column)
    values = content.features.iloc[:, place]
    features = content.features.drop(columns=content.features.columns[place])
    return dataclasses.replace(content, features=features), values


def _read_frame(source: Any, kind: str, target: Any, regression: bool) -> tuple[pd.DataFrame, Any] | None:
    """Return a table, and its targets or their column; None if a source is not a table."""
    if kind in SUFFIXES:
        column = target[0] if isinstance(target, list | tuple) else target
        return read_table(_find_file(str(source)), column, not regression), target
    if kind in TABLES:
        return read_bundled_table(kind)
    if kind == OPENML:
        return download_table(str(source), target)
    if kind == "table and targets":
        source, target = source
    elif kind != "DataFrame":
        return None
    return _to_frame(source), target


def is_image_set(name: str) -> bool:
    """Return whether a name is that of an image set with files of its own, such as ``"mnist"``."""
    return name in IMAGES


def list_accepted_arguments(source: Source) -> tuple[str, ...]:
    """Return the arguments of :func:`load_data` that are used with a source."""
    return _ARGUMENTS[_classify_source(source)]


def _classify_source(source: Source) -> str:
    """Return what a source is, as a key of ``_ARGUMENTS``."""
    if not isinstance(source, str | os.PathLike):
        return _classify_object(source)
    name = str(source)
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    if name.startswith(OPENML) and name != OPENML:
        return OPENML
    if suffix in _ARGUMENTS or name in NAMES:
        return suffix or name
    if os.path.isdir(name):
        return "folder"
    files = ", ".join((".npz", *SUFFIXES))
    if os.path.isfile(name):
        raise UsageError(f"cannot load {name!r}; pass a file that ends in {files}, or {IN_PANDAS}")
    advice = f"pass one of {', '.join(NAMES)}, openml:NAME, a file {files}, or a folder of images"
    raise UsageError(f"unknown data {name!r}{did_you_mean(name, NAMES)}; {advice}")


def _classify_object(source: Any) -> str:
    import torch

    if isinstance(source, Dataset):
        return "Dataset"
    if _is_table(source):
        return "DataFrame"
    if isinstance(source, tuple | list) and len(source) == 2:
        return "table and targets" if _is_table(source[0]) else "arrays"
    if isinstance(source, torch.utils.data.Dataset) and hasattr(source, "__len__"):
        return "torch Dataset"
    advice = "pass a name, a file, a DataFrame and its target, arrays as (X, y), or a map-style torch Dataset"
    raise UsageError(f"cannot load data of type {type(source).__name__}; {advice}")


def _is_table(source: Any) -> bool:
    import pandas as pd

    return isinstance(source, pd.DataFrame) or hasattr(source, "to_pandas")


def _to_frame(source: Any) -> pd.DataFrame:
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source
    try:
        frame: pd.DataFrame = source.to_pandas()
    except ImportError as error:
        raise UsageError(f"a table of type {type(source).__name__} needs {error.name}: install it") from error
    if not isinstance(frame, pd.DataFrame):
        raise UsageError(f"a {type(source).__name__} is not a table; pass a DataFrame, or (X, y)")
    return frame


def _find_file(name: str) -> Path:
    if not os.path.isfile(name):
        raise UsageError(f"no such file: {name!r}")
    return Path(name)


def _check_arguments(kind: str, name: str, values: Mapping[str, Any]) -> None:
    if values["channels"] not in (None, "first", "last"):
        raise UsageError(f"channels must be 'first' or 'last', got {values['channels']!r}")
    if values["scale"] not in (None, *SCALES):
        raise UsageError(f"scale must be one of {', '.join(SCALES)}, got {values['scale']!r}")
    only = ", only with a table"
    notes = {"target": only, "drop": only, "regression": ", whose targets are classes"}
    for argument, value in values.items():
        if value is not None and argument not in _ARGUMENTS[kind]:
            text = argument if value is True else f"{argument} {str(value)!r}"
            raise UsageError(f"{text} is not used with {name!r}{notes.get(argument, '')}; omit it")

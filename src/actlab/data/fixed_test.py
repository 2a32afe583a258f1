"""Join the samples of a fixed test set to the training samples; read groups and weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from actlab.data.readers import Array, convert_features, convert_targets, format_names
from actlab.errors import UsageError, summarize_error

if TYPE_CHECKING:
    import pandas as pd

    from actlab.data.dataset import Dataset


@dataclass(frozen=True)
class Content:
    """What a source contains.

    Attributes:
        features: A table, or features (n, ...).
        targets: The targets (n, ...), or the name of their column in the table.
        name: The name of the source.
        is_table: Whether ``features`` is a DataFrame.
        by_name: Whether ``targets`` is the name of a column, or a list of names.
        channels: ``"first"`` if the channels of images come first.
    """

    features: Any
    targets: Any
    name: str
    is_table: bool
    by_name: bool = False
    channels: str | None = None


MIN_TEST_SAMPLES = 2  # one sample has no variance


def join_contents(data: Content, test: Content, regression: bool) -> Content:
    """Return the samples of both, first those of the data.

    Raises:
        UsageError: They differ in their columns or in the shape of a sample.
    """
    if data.is_table != test.is_table or data.by_name != test.by_name:
        kinds = [
            "a table" if one.by_name else "a table and its targets" if one.is_table else "arrays"
            for one in (data, test)
        ]
        raise UsageError(f"the test set is {kinds[1]}, but the data are {kinds[0]}; pass the same kind")
    join = _join_tables if data.is_table else _join_arrays
    features, targets = join(data, test), data.targets
    if not data.by_name:
        y, other = (convert_targets(one.targets, regression, one.name) for one in (data, test))
        if not (y.ndim and other.ndim):
            raise UsageError(f"{data.name}: y must be (n,) in the data and in the test set")
        if y.shape[1:] != other.shape[1:]:
            shapes = f"y of shape {other.shape}, but that of the data is {y.shape}"
            raise UsageError(f"{test.name}: the test set has {shapes}")
        targets = np.concatenate([y, other])
    return replace(data, features=features, targets=targets)


def _join_tables(data: Content, test: Content) -> pd.DataFrame:
    import pandas as pd

    columns, others = (list(map(str, one.features.columns)) for one in (data, test))
    differences = [
        f"{what} {format_names(names)}"
        for what, names in (
            ("lacks", [name for name in columns if name not in others]),
            ("has", [name for name in others if name not in columns]),
        )
        if names
    ]
    if differences:
        raise UsageError(
            f"{test.name}: the test set must have the columns of the data; it {' and '.join(differences)}"
        )
    first, second = (
        one.features.set_axis(list(map(str, one.features.columns)), axis=1) for one in (data, test)
    )
    for name in columns:
        kinds = [_is_numeric(frame[name]) for frame in (first, second)]
        if kinds[0] != kinds[1] and first[name].notna().any() and second[name].notna().any():
            texts = [f"{'numbers' if kind else 'text'}" for kind in kinds]
            problem = f"column {name!r} contains {texts[1]}, but {texts[0]} in the data"
            raise UsageError(f"{test.name}: {problem}; the test set must have columns like those of the data")
    joined: pd.DataFrame = pd.concat([first, second[columns]], ignore_index=True)
    return joined


def _is_numeric(values: pd.Series[Any]) -> bool:
    return values.dtype.kind in "biuf"


def _join_arrays(data: Content, test: Content) -> Array:
    X, other = (convert_features(one.features, one.name) for one in (data, test))
    if not (X.ndim and other.ndim):
        raise UsageError(f"{data.name}: X must be (n, d) in the data and in the test set")
    if X.shape[1:] != other.shape[1:]:
        shapes = f"samples of shape {other.shape[1:]}, but those of the data have {X.shape[1:]}"
        raise UsageError(f"{test.name}: the test set has {shapes}")
    return np.concatenate([X, other])


def count_repeated_samples(content: Content, training: int) -> int:
    """Return how many test samples have the same features and targets as a training sample.

    Args:
        content: The training samples, followed by the test samples.
        training: The number of training samples.
    """
    if content.is_table:
        import pandas as pd

        rows = pd.util.hash_pandas_object(content.features, index=False).tolist()
    else:
        rows = [hash(sample.tobytes()) for sample in content.features]
    labels = [""] * len(rows) if content.by_name else [str(target) for target in content.targets]
    samples = list(zip(rows, labels, strict=False))
    seen = set(samples[:training])
    return sum(sample in seen for sample in samples[training:])


def check_labels(dataset: Dataset) -> None:
    """Raise UsageError if a label occurs in the fixed test set only."""
    if dataset.test_rows is None:
        return
    if unknown := find_missing_labels(dataset, np.delete(np.arange(len(dataset.y)), dataset.test_rows)):
        names = format_names([str(label) for label in unknown])
        advice = "no model can learn them; remove these samples, or add such samples to the data"
        raise UsageError(f"{dataset.test_name}: labels that only the test set has: {names}; {advice}")


def find_missing_labels(dataset: Dataset, rows: Any) -> list[str | int]:
    """Return the labels that do not occur among the samples with these indices."""
    y = dataset.y[rows]
    present = np.flatnonzero(y.any(axis=0)) if dataset.is_multilabel else np.unique(y)
    return [label for code, label in enumerate(dataset.classes) if code not in present]


def encode_groups(groups: Any, samples: int, training: int, name: str) -> npt.NDArray[np.int64]:
    """Return the group (n,) of each sample as an integer.

    Args:
        groups: The group of each sample, or of each training sample.
        samples: The number of samples.
        training: The number of them that are not in a fixed test set.
        name: The name of the data in error messages.
    """
    import pandas as pd

    values = pd.Series(np.asarray(groups).ravel())
    if len(values) not in (samples, training):
        counts = f"{len(values)} values for {training} samples"
        raise UsageError(f"{name}: groups has {counts}; pass one for each sample, or the name of a column")
    if values.isna().any():
        first = int(values.isna().to_numpy().argmax())
        raise UsageError(f"{name}: sample {first} has no group; fill it in, or drop such samples")
    codes = np.full(samples, -1, np.int64)  # of test samples, if their groups are unknown
    codes[: len(values)] = pd.factorize(values)[0]
    return codes


def read_weights(weights: Any, samples: int, name: str) -> npt.NDArray[np.float64]:
    """Return the weight (n,) of each sample.

    Raises:
        UsageError: The number of weights is wrong, a weight is negative or not finite, or all weights are 0.
    """
    try:
        values = np.asarray(weights, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: weights must be numbers ({summarize_error(error)})") from error
    if len(values) != samples:
        counts = f"{len(values)} values for {samples} samples"
        raise UsageError(f"{name}: weights has {counts}; pass one for each sample, or the name of a column")
    if (wrong := ~(np.isfinite(values) & (values >= 0))).any():
        first = int(wrong.argmax())
        raise UsageError(f"{name}: weights must be finite and >= 0, got {values[first]} for sample {first}")
    if not values.any():
        raise UsageError(f"{name}: all weights are 0; at least one must be greater than 0")
    return values


def select_samples(
    content: Content, groups: npt.NDArray[np.int64] | None, weights: npt.NDArray[np.float64], regression: bool
) -> tuple[Content, npt.NDArray[np.int64] | None, npt.NDArray[np.float64]]:
    """Return content, groups and weights without the samples of weight 0."""
    keep = weights > 0
    if keep.all():
        return content, groups, weights
    X, y, name = content.features, content.targets, content.name
    X = X.loc[keep].reset_index(drop=True) if content.is_table else convert_features(X, name)[keep]
    y = y if content.by_name else convert_targets(y, regression, name)[keep]
    return replace(content, features=X, targets=y), None if groups is None else groups[keep], weights[keep]

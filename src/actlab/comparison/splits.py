"""The folds of a comparison: stratified, random, by group, over time, or a fixed test set; their features."""

from __future__ import annotations

import shlex
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit

from actlab.data.dataset import Dataset
from actlab.data.memory import check_memory
from actlab.errors import UsageError, warn_about_data
from actlab.fleet.run import Rows
from actlab.training.settings import find_integer_problem
from actlab.training.validation_split import HELD_OUT, find_holdout_problem

SPLITS = ("stratified", "random", "group", "time")
TEST_SET = "test set"  # the kind of split of a dataset with a fixed test set
DEFAULT_FOLDS = 3
_EXTRAPOLATED = 0.9  # the share of test samples outside the training range that gives a warning
DEFAULT_TEST_SEEDS = 3  # as many runs as with the default number of folds

Folds = list[tuple[Rows, Rows]]


def choose_split(dataset: Dataset, split: str | None) -> str:
    """Return the kind of split: one of :data:`SPLITS`, or :data:`TEST_SET`."""
    if dataset.test_rows is not None:
        return TEST_SET
    if split is not None:
        return split
    if dataset.groups is not None:
        return "group"
    return "stratified" if dataset.y.ndim == 1 else "random"


def has_same_splits(kind: str) -> bool:
    """Return whether every seed has the same splits."""
    return kind in (TEST_SET, "time")


def make_folds(dataset: Dataset, kind: str, folds: int, random_state: int | None) -> Folds:
    """Return the indices of training samples (n,) and of test samples (m,) of each fold.

    Args:
        dataset: The data.
        kind: The kind of split.
        folds: The number of folds.
        random_state: Shuffles samples or groups before they are split; None for scikit-learn's unshuffled
            folds.

    Raises:
        UsageError: A fold has no samples.
    """
    if dataset.test_rows is not None:
        return [(np.setdiff1d(np.arange(len(dataset.y)), dataset.test_rows), dataset.test_rows)]
    if kind == "time":
        return list(TimeSeriesSplit(folds).split(dataset.y))
    by_group = StratifiedGroupKFold if dataset.y.ndim == 1 else GroupKFold
    splitter = {"stratified": StratifiedKFold, "random": KFold, "group": by_group}[kind]
    options: dict[str, Any] = {}
    if random_state is not None:
        options = {"shuffle": True, "random_state": random_state}
    groups = dataset.groups if kind == "group" else None
    with warnings.catch_warnings():  # a class may be in fewer groups than there are folds
        warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        made = list(splitter(folds, **options).split(dataset.X, dataset.y, groups))
    if groups is not None and any(len(test) == 0 or len(set(groups[rows])) < 2 for rows, test in made):
        count, fewest = len(set(groups)), "each needs a group for testing and two for training"
        raise UsageError(f"{dataset.name}: {count} groups are too few for {folds} folds; {fewest}")
    return made


def warn_about_extrapolation(dataset: Dataset, folds: Folds) -> None:
    """Warn if a column has values outside the training range in at least 90 % of each fold's test samples.

    Args:
        dataset: The data. Only tables have columns.
        folds: Indices of training samples and of test samples of each fold.

    Warns:
        DataWarning: There are such columns.
    """
    if dataset.encoded is None or not dataset.columns:
        return
    outside = np.ones(len(dataset.columns), bool)
    for rows, test in folds:
        train, values = dataset.encoded[rows], dataset.encoded[test]
        low, high = np.fmin.reduce(train), np.fmax.reduce(train)  # which ignore missing values
        outside &= ((values < low) | (values > high)).mean(axis=0) >= _EXTRAPOLATED
    found = np.array(dataset.columns)[outside].tolist()
    if columns := list(dict.fromkeys(found)):
        options = shlex.join(word for column in columns for word in ("--drop", column))
        warn_about_data(
            f"{dataset.name}: in every fold, test samples have values of {', '.join(columns)} outside the "
            f"range of the training samples; drop={columns!r} ({options}) omits them"
        )


class FoldFeatures:
    """Features of all samples, on scales computed from the training samples of each fold.

    Data with a scale for each column have one block of all n samples per fold, so that folds can train
    together on one array. Data with a common scale have a single block.

    Args:
        dataset: The data.
        targets: Its targets as the network takes them (n, ...).

    Attributes:
        samples: The number n of samples of the dataset.
        targets: The targets of the dataset (n, ...).
        X: The features (blocks * n, ...).
        y: The targets (blocks * n, ...).
    """

    def __init__(self, dataset: Dataset, targets: npt.NDArray[Any]) -> None:
        self.dataset, self.targets, self.samples = dataset, targets, len(targets)
        self.X, self.y = dataset.X, targets
        if dataset.encoded is not None:
            self.X, self.y = dataset.X[:0], targets[:0]

    def add_folds(self, folds: Folds) -> Folds:
        """Add the blocks of a split; return its folds as indices of :attr:`X` and :attr:`y`."""
        if self.dataset.encoded is None:
            return folds
        size, start = len(folds) * self.dataset.X.nbytes, len(self.X)
        advice = "use fewer seeds or folds, or set scale='common' (--scale common)"
        what = f"{self.dataset.name}: the scaled features of all folds"
        check_memory(2 * size + self.X.nbytes, what, advice)
        self.X = np.concatenate([self.X, *(self.dataset.scale(rows) for rows, _ in folds)])
        self.y = np.concatenate([self.y, *(self.targets for _ in folds)])
        blocks = range(start, len(self.X), self.samples)
        return [(rows + first, test + first) for first, (rows, test) in zip(blocks, folds, strict=True)]

    def select_weights(self, rows: Rows) -> npt.NDArray[np.float64] | None:
        """Return the weights (m,) of the samples with these indices (m,); None if all are equal."""
        weights = self.dataset.weights
        return None if weights is None else weights[rows % self.samples]


def find_split_problems(dataset: Dataset, split: str | None, folds: int | None) -> list[str]:
    """Return the problems with the kind of split and the number of folds. For each, None is the default."""
    if dataset.test_rows is not None:
        given = {"split": split, "folds": folds}
        named = " and ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        is_are = "are" if None not in given.values() else "is"
        fixed = f"the test set of {dataset.name} is fixed"
        problems = [f"{named} {is_are} not used, because {fixed}; omit {named}"] if named else []
        training = np.delete(dataset.y, dataset.test_rows, axis=0)
        return [*problems, find_holdout_problem(training)]
    if split not in (None, *SPLITS):
        return [f"split must be one of {', '.join(SPLITS)}, got {split!r}"]
    if dataset.groups is None and split == "group":
        return ["split='group' needs groups: pass groups to load_data (--groups COLUMN)"]
    if dataset.groups is not None and split not in (None, "group"):
        return [f"split must be 'group' for data with groups, got {split!r}; omit split or groups"]
    if dataset.y.ndim == 2 and split == "stratified":
        targets = "the targets are numbers" if dataset.is_regression else "a sample has several labels"
        return [f"split='stratified' needs classes, but {targets}; set split='random'"]
    folds = DEFAULT_FOLDS if folds is None else folds
    if problem := find_integer_problem("folds", folds, 2):
        return [f"{problem}: with one fold there is no test set" if folds == 1 else problem]
    return [_find_folds_problem(dataset, choose_split(dataset, split), folds)]


def _find_folds_problem(dataset: Dataset, kind: str, folds: int) -> str:
    if kind == "group":
        assert dataset.groups is not None
        groups = len(np.unique(dataset.groups))
        if groups == 1:
            return f"{dataset.name} has one group; at least 2 are needed"
        if folds > groups:
            return f"folds must be <= {groups}, the number of groups of {dataset.name}, got {folds}"
        return ""
    if kind == "time":
        first = len(dataset.y) - folds * (len(dataset.y) // (folds + 1))  # training samples of the first fold
        few = f"the first fold over time has only {max(first, 0)} training samples"
        return "" if first >= HELD_OUT else f"folds must be smaller, got {folds}: {few}"
    if kind == "random":
        if folds > len(dataset.y):
            return f"folds must be <= {len(dataset.y)}, the number of samples of {dataset.name}, got {folds}"
        return find_holdout_problem(dataset.y, folds)
    counts = np.bincount(dataset.y)
    smallest = int(counts.argmin())
    if folds <= counts[smallest]:
        return find_holdout_problem(dataset.y, folds)
    samples = f"{counts[smallest]} sample{'s' * bool(counts[smallest] > 1)}"
    many = len(counts) > len(dataset.y) / 5  # labels of every fifth sample differ: they are hardly classes
    hint = "; to predict numbers, set regression=True (--regression)" * many
    smallest_class = f"the smallest class of {dataset.name}, {dataset.classes[smallest]!r}, has {samples}"
    if counts[smallest] == 1:
        return f"{smallest_class}; at least 2 are needed{hint}"
    return f"folds must be <= {counts[smallest]}, got {folds}: {smallest_class}{hint}"

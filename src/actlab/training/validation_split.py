"""Split the training samples of a run into those to train on and those to validate on."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import skorch
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from skorch.dataset import ValidSplit
from torch.utils.data import Subset

from actlab.fleet.run import Rows
from actlab.models.random_streams import HOLDOUT, derive_seed, seeded_numpy

HELD_OUT = 5  # one sample in five, 20 %, is held out for validation


@dataclass(frozen=True)
class GivenSplit:
    """A ``train_split`` of skorch that holds out given samples.

    Args:
        train: Positions of the samples to train on.
        valid: Positions of the samples to validate on.
    """

    train: Rows
    valid: Rows

    def __call__(self, dataset: Any, y: Any = None, groups: Any = None) -> tuple[Any, Any]:
        """Return both parts of a dataset."""
        return Subset(dataset, self._list(self.train)), Subset(dataset, self._list(self.valid))

    @staticmethod
    def _list(rows: Rows) -> Sequence[int]:
        indices: list[int] = rows.tolist()
        return indices


def make_given_split(
    net: skorch.NeuralNet,
    y: npt.NDArray[Any],
    groups: Rows | None,
    seed: int,
    fold: int,
    *,
    shuffled: bool = False,
) -> GivenSplit | None:
    """Return a split of training samples by group, over time or at random; None if the model has its own.

    Args:
        net: The model. Its ``train_split`` determines how many samples are held out.
        y: The targets (n, ...) of the training samples, in their order.
        groups: The group (n,) of each of them; None to hold out the last ones.
        seed: The seed of the run.
        fold: The fold of the run.
        shuffled: Without groups: whether to hold out random samples instead of the last ones.
    """
    if type(net.train_split) is not ValidSplit or not isinstance(cv := net.train_split.cv, int | float):
        return None
    parts = cv if cv >= 1 else round(1 / cv)
    random_state = derive_seed(seed, fold, HOLDOUT) % 2**32
    if groups is None:
        count, order = math.ceil(len(y) / parts), np.arange(len(y))
        if shuffled:
            order = np.random.default_rng(random_state).permutation(order)
        return GivenSplit(*map(np.sort, np.split(order, [len(y) - count])))
    splitter = GroupKFold if y.dtype.kind == "f" and y.ndim > 1 else StratifiedGroupKFold
    folds = splitter(min(parts, len(np.unique(groups))), shuffle=True, random_state=random_state)
    with warnings.catch_warnings():  # a class may be in fewer groups than there are parts
        warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        return GivenSplit(
            *next(split for split in folds.split(y, y, groups) if len(split[0]) and len(split[1]))
        )


def split_validation(
    net: skorch.NeuralNet, rows: Rows, y: npt.NDArray[Any], seed: int, fold: int
) -> tuple[Rows, Rows | None]:
    """Return the indices (n,) of training samples and of validation samples, as skorch splits them."""
    if net.train_split is None:
        return rows, None
    if isinstance(split := net.train_split, GivenSplit):
        return rows[split.train], rows[split.valid]
    with seeded_numpy(derive_seed(seed, fold, HOLDOUT)), warnings.catch_warnings():
        # skorch spreads classes with fewer than five samples as evenly as possible.
        warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        train, valid = copy.deepcopy(net.train_split)(rows, y[rows])
    return rows[train.indices], rows[valid.indices]


def find_holdout_problem(y: npt.NDArray[Any], folds: int = 1) -> str:
    """Return why a fifth of the training samples cannot be held out; an empty string if it can.

    Args:
        y: The targets: labels (n,), int64, or numbers (n, 1), float32.
        folds: The number of folds, of which all but one are training folds; 1 for no folds.
    """
    numbers = y.dtype.kind == "f"
    most = len(y) if numbers else int(np.bincount(y).max())
    count = most - math.ceil(most / folds) if folds > 1 else most
    if count >= HELD_OUT:
        return ""
    few = "the training set has" if numbers else "the largest class has"
    return f"one sample in {HELD_OUT} is held out for validation, but {few} only {count} samples: add data"

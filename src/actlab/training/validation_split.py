"""Split the training samples of a run into those to train on and those to validate on."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import skorch

from actlab.fleet.run import Rows
from actlab.models.random_streams import HOLDOUT, derive_seed, seeded_numpy

HELD_OUT = 5  # one sample in five, 20 %, is held out for validation


def split_validation(
    net: skorch.NeuralNet, rows: Rows, y: npt.NDArray[Any], seed: int, fold: int
) -> tuple[Rows, Rows | None]:
    """Return the indices (n,) of training samples and of validation samples, as skorch splits them."""
    if net.train_split is None:
        return rows, None
    with seeded_numpy(derive_seed(seed, fold, HOLDOUT)), warnings.catch_warnings():
        # skorch spreads classes with fewer than five samples as evenly as possible.
        warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        train, valid = copy.deepcopy(net.train_split)(rows, y[rows])
    return rows[train.indices], rows[valid.indices]


def find_holdout_problem(y: npt.NDArray[Any], folds: int = 1) -> str:
    """Return why a fifth of the training samples cannot be held out; an empty text if it can.

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

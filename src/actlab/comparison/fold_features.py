"""The features and targets that the runs of all folds read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from actlab.data.dataset import Dataset
from actlab.data.memory import check_memory
from actlab.fleet.run import Rows


class FoldFeatures:
    """Features of all samples, scaled by the training samples of each fold.

    Data with a scale for each column have one block of all n samples per fold, so that folds train together
    on one array. A run of block b refers to sample i by the index ``b * n + i``. Data with a common scale
    have a single block.

    Args:
        dataset: The data.
        y: Its targets as the network takes them (n, ...).

    Attributes:
        samples: The number n of samples of the dataset.
        targets: The targets of the dataset (n, ...).
    """

    def __init__(self, dataset: Dataset, y: npt.NDArray[Any]) -> None:
        self.dataset, self.samples = dataset, len(y)
        self.targets = y
        self._blocks: list[npt.NDArray[np.float32 | np.int64]] = []
        self._X, self._y = dataset.X[:0], y[:0]
        if dataset.encoded is None:
            self._X, self._y = dataset.X, y

    def add_folds(self, folds: list[tuple[Rows, Rows]]) -> None:
        """Add the blocks of a split, given as the training samples and the test samples of its folds."""
        if self.dataset.encoded is None:
            return
        size = len(folds) * self.dataset.X.nbytes
        advice = "use fewer seeds or folds, or set scale='common' (--scale common)"
        what = f"{self.dataset.name}: the scaled features of all folds"
        check_memory(2 * size + self._X.nbytes, what, advice)
        self._blocks += [self.dataset.scale(rows) for rows, _ in folds]

    def locate(self, rows: Rows, block: int) -> Rows:
        """Return the indices of samples in a block."""
        return rows if self.dataset.encoded is None else rows + block * self.samples

    def select_weights(self, rows: Rows) -> npt.NDArray[np.float64] | None:
        """Return the weights (m,) of the samples with these indices (m,); None if all are equal."""
        weights = self.dataset.weights
        return None if weights is None else weights[rows % self.samples]

    @property
    def X(self) -> npt.NDArray[np.float32 | np.int64]:
        """The features (blocks * n, ...)."""
        if self._blocks:
            self._X = np.concatenate([self._X, *self._blocks])
            self._blocks.clear()
            self._y = np.concatenate([self.targets] * (len(self._X) // self.samples))
        return self._X

    @property
    def y(self) -> npt.NDArray[Any]:
        """The targets (blocks * n, ...)."""
        assert len(self.X)  # adds the blocks
        return self._y

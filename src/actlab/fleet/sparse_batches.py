"""Batches that are mostly one value, kept without it: an exact product with fewer columns.

An image is mostly background. With ``x = background + s``, a column in which a whole batch shows only
background has ``s = 0`` and drops out of ``s @ weight``; what the background adds is one row, the same
for all: ``background * weight.sum(0)``. The gradient splits in the same way. The columns that nearly
every batch needs are put first, where they lie together in memory; the few others are picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SAMPLE, _ASKED = 1000, 32  # rows that are asked for the background, batches for the columns they need
_MOSTLY = 0.5  # the share of all numbers that the background must have
_NEARLY = 0.9  # the share of the batches that need a column which is put first
_WORTH = 0.85  # the share of columns that may be left, for the detour to pay
_MOST = 1 << 29  # bytes; the batches of a larger part of the data are not kept
_LINE = 16  # numbers that are fetched at once


@dataclass(frozen=True)
class Batch:
    """A batch without its background.

    Attributes:
        first: What is above the background in the first columns (n, k).
        others: The same in some of the other columns (n, m).
        columns: Which those are (m,).
    """

    first: Tensor
    others: Tensor
    columns: Tensor

    def bfloat16(self) -> Batch:
        """Return the batch with its large part in bfloat16."""
        return Batch(self.first.bfloat16(), self.others, self.columns)


@dataclass(frozen=True)
class Packed:
    """Batches without their background.

    Attributes:
        batches: The batches.
        order: The columns (features,) in the order that the batches have them in.
        background: The value that everything else has.
    """

    batches: list[Batch]
    order: Tensor
    background: float


def packed(X: Tensor, batches: Sequence[Tensor]) -> Packed | None:
    """Pack batches that come again in every epoch.

    Args:
        X: The data (n, features), in the memory of the processor.
        batches: The rows of each batch.

    Returns:
        The batches; None when there is no background, or too little would be saved.
    """
    features = X.shape[1]
    value = _background(X)
    if value is None or sum(len(rows) for rows in batches) * features * X.element_size() > _MOST:
        return None
    asked = batches[:: max(1, len(batches) // _ASKED)]
    share = torch.stack([(X[rows] != value).any(0) for rows in asked]).float().mean(0)
    if share.mean() > _WORTH:
        return None
    order = share.argsort(descending=True, stable=True)
    first = int((share >= _NEARLY).sum()) // _LINE * _LINE
    found = []
    for rows in batches:
        above = X[rows].sub_(value)
        rest = order[first:]
        columns = (above.index_select(1, rest) != 0).any(0).nonzero().squeeze(1)
        others = above.index_select(1, rest[columns])
        found.append(Batch(above.index_select(1, order[:first]), others, columns + first))
    return Packed(found, order, value)


def _background(X: Tensor) -> float | None:
    sample = X[:: max(1, len(X) // _SAMPLE)]
    values, counts = torch.unique(sample, return_counts=True)
    place = int(counts.argmax())
    return values[place].item() if counts[place] > _MOSTLY * sample.numel() else None

"""load_data of labels of every type."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from actlab.data import load_data

X = np.random.default_rng(0).normal(size=(6, 2))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([True, False] * 3), ("False", "True")),
        (torch.tensor([True, False] * 3), ("False", "True")),
        (pd.Series([True, False] * 3, dtype="boolean"), ("False", "True")),
        (["b", "a"] * 3, ("a", "b")),
        (np.array(["b", "a"] * 3, object), ("a", "b")),
        (pd.Series(["b", "a"] * 3, dtype="string"), ("a", "b")),
        (pd.Series(["b", "a"] * 3, dtype="category"), ("a", "b")),
        (pd.Series([7, 3] * 3, dtype="category"), (3, 7)),
        (pd.Series([7, 3] * 3, dtype="Int64"), (3, 7)),
        (torch.tensor([7.0, 3.0] * 3), (3, 7)),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_load_data_encodes_labels_of_every_type(labels, classes):
    data = load_data((X, labels))
    assert (data.classes, data.y.tolist(), data.y.dtype) == (classes, [1, 0] * 3, np.int64)
    column = labels.numpy() if isinstance(labels, torch.Tensor) else labels
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(kind=column)
    assert load_data(frame, target="kind").fingerprint == data.fingerprint


def test_load_data_reads_codes_with_spaces_as_a_category():
    boats = ["1", "2", "A", "B", "5 9", "C", "10", "2", "A", "1"] * 3
    frame = pd.DataFrame({"age": np.arange(30) ** 2, "boat": boats, "survived": [0, 1] * 15})
    assert (
        load_data(frame, target="survived").preprocessing
        == "8 features from 1 numeric, 1 category (7 columns)"
    )

"""Dataset objects, and names and arguments of load_data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actlab.data import load_data
from tests.datasets import refused, standardize, write_npz

# ---- the Dataset -------------------------------------------------------------------------------------------


def test_load_data_digits_is_standardized_like_the_notebook():
    from sklearn.datasets import load_digits

    data, (X, y) = load_data("digits"), load_digits(return_X_y=True)
    np.testing.assert_allclose(data.X, standardize(X), rtol=1e-6)
    np.testing.assert_array_equal(data.y, y)
    assert (data.num_features, data.num_classes, data.classes) == (64, 10, tuple(range(10)))
    assert (data.shape, data.is_regression, data.fingerprint) == ((1, 8, 8), False, "522bf7a8f6d541ce")


def test_load_data_returns_contiguous_float32_and_int64():
    data = load_data("digits")
    assert (data.X.dtype, data.y.dtype) == (np.float32, np.int64)
    assert data.X.flags.c_contiguous
    assert data.y.flags.c_contiguous
    torch.from_numpy(data.X)  # a read-only array would warn here


def test_dataset_repr_is_one_short_line():
    text = repr(load_data("digits"))
    assert text.startswith("Dataset('digits', X=float32(1797, 64), num_classes=10, fingerprint='")
    assert "\n" not in text
    assert len(text) < 120


def test_dataset_is_frozen_and_compares_by_identity():
    data = load_data("digits")
    with pytest.raises(AttributeError):
        data.name = "other"
    assert data != load_data("digits")
    assert data in {data}


def test_dataset_fingerprint_depends_exactly_on_the_values(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2

    def fingerprint(X: np.ndarray, y: np.ndarray) -> str:
        return load_data(write_npz(tmp_path, X=X, y=y)).fingerprint

    same = fingerprint(X, y)
    assert len(same) == 16
    assert int(same, 16)
    assert fingerprint(np.asfortranarray(X), y.astype(np.uint8)) == same
    assert fingerprint(X * 4.0, y) != same
    assert fingerprint(X, 1 - y) != same
    changed = X.copy()
    changed[7, 1] += 1e-3
    assert fingerprint(changed, y) != same
    assert fingerprint(X.reshape(10, 6), y[:10]) != same


# ---- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "mnits",
            "unknown data 'mnits' .did you mean 'mnist'..; pass one of digits, .*, cifar100, openml:NAME",
        ),
        ("MNIST", "unknown data 'MNIST' .did you mean 'mnist'"),
        (
            "table.xlsx",
            "unknown data 'table.xlsx'; pass one of .*, .tsv, .parquet, or a folder of images$",
        ),
        ("", "unknown data ''"),
        ("nowhere.npz", "no such file: 'nowhere.npz'"),
        ("nowhere.csv", "no such file: 'nowhere.csv'"),
        ("https://example.org/table.csv", "no such file: 'https://example.org/table.csv'"),
    ],
)
def test_load_data_rejects_unknown_sources(source, message):
    refused(message, source)


def test_load_data_rejects_a_folder(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    refused("no such file: '.*folder.csv'", tmp_path / "folder.csv", target="a")


@pytest.mark.parametrize("source", ["digits", "some.npz", "some.csv"])
def test_load_data_rejects_data_dir_where_it_is_not_used(tmp_path, source):
    refused(f"data_dir '.*' is not used with '{source}'; omit it", source, tmp_path)


@pytest.mark.parametrize("source", ["digits", "mnist", "some.npz"])
def test_load_data_rejects_target_where_it_is_not_used(source):
    refused(f"target 'label' is not used with '{source}', only with a table; omit it", source, target="label")

"""load_data of .npz and .csv files: values and error messages."""

from __future__ import annotations

import contextlib
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actlab.data import Dataset, load_data
from actlab.errors import UsageError
from tests.datasets import THREE, refused, standardize, standardize_columns, write_csv, write_npz

# ---- .npz --------------------------------------------------------------------------------------------------


def test_load_data_flattens_npz_features_and_encodes_labels(tmp_path):
    X = np.random.default_rng(0).normal(3, 2, (5, 2, 3)).astype(np.float32)
    data = load_data(write_npz(tmp_path, X=X, y=np.array(["b", "a", "c", "a", "b"])))
    np.testing.assert_allclose(data.X, standardize(X.reshape(5, 6)), rtol=1e-5)
    assert data.y.tolist() == [1, 0, 2, 0, 1]
    assert data.classes == ("a", "b", "c")
    assert data.name == "arrays.npz"


@pytest.mark.parametrize(
    ("rows", "shape"),
    [((6,), ()), ((2, 3), (1, 2, 3)), ((3, 1, 2), (3, 1, 2)), ((1, 6), (1, 1, 6)), ((1, 2, 3, 1), ())],
)
def test_load_data_keeps_the_shape_of_npz_images(tmp_path, rows, shape):
    X = np.arange(24.0).reshape(4, *rows)
    path = write_npz(tmp_path, X=X, y=np.arange(4))
    data, common = load_data(path), load_data(path, scale="common")
    assert data.shape == shape
    assert data.X.shape == (4, 6)
    flat = load_data(write_npz(tmp_path, X=X.reshape(4, 6), y=np.arange(4)), scale="common")
    assert common.fingerprint == flat.fingerprint


@pytest.mark.parametrize(
    "y", [np.array([5, -1, 5]), np.array([5.0, -1.0, 5.0]), np.array([5, -1, 5], np.int8)]
)
def test_load_data_keeps_integer_labels(tmp_path, y):
    data = load_data(str(write_npz(tmp_path, X=THREE, y=y)))
    assert data.classes == (-1, 5)
    assert [type(label) for label in data.classes] == [int, int]
    assert data.y.tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.uint8, ">f8", np.longdouble])
def test_load_data_gives_the_same_features_for_every_dtype(tmp_path, dtype):
    data = load_data(write_npz(tmp_path, X=THREE.astype(dtype), y=np.array([0, 1, 0])))
    np.testing.assert_allclose(data.X, standardize(THREE.reshape(3, 4)), rtol=1e-6)


@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1e200, 1.7e308])
def test_load_data_standardizes_features_of_any_scale(tmp_path, scale):
    data = load_data(write_npz(tmp_path, X=np.array([[scale], [-scale]]), y=np.array([0, 1])))
    np.testing.assert_allclose(data.X, [[1], [-1]], rtol=1e-6)


ONE_NAN = np.where(np.arange(6).reshape(3, 2) == 3, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"X": THREE},
            r"arrays.npz: no array 'y'; its arrays are X; save it with np.savez\(path, X=X, y=y\)$",
        ),
        ({"y": [0, 1, 0], "x": THREE}, "arrays.npz: no array 'X'; its arrays are y, x; save it"),
        ({"arr_0": THREE, "arr_1": [0, 1, 0]}, "no array 'X'; its arrays are arr_0, arr_1; save it"),
        ({f"x{i}": 0 for i in range(52)}, "no array 'X'; its arrays are x0, .*, x48, 2 more, x51; save it"),
        ({}, "no array 'X'; it has no arrays; save it"),
        (
            {"X": THREE, "y": np.array([0, "a", None])},
            "Object arrays cannot be loaded when allow_pickle=False; save numbers, and labels as integers or",
        ),
        ({"X": THREE.astype(object), "y": [0, 1, 0]}, "Object arrays cannot be loaded"),
        (
            {"X": THREE, "y": [0, 0.5, 1]},
            "arrays.npz: y contains 0.5; labels must be integers or strings; "
            r"to predict numbers, set regression=True \(--regression\)$",
        ),
        ({"X": THREE, "y": [0, np.nan, 1]}, "y contains nan; labels must be integers or strings$"),
        ({"X": THREE, "y": [0, np.inf, 1]}, "y contains inf"),
        (
            {"X": THREE, "y": [0, 1]},
            r"X has shape \(3, 2, 2\) and y \(2,\); they must be \(n, d\) and \(n,\)",
        ),
        (
            {"X": THREE, "y": np.eye(3, dtype=int)},
            r"y \(3, 3\); .*; convert one-hot labels with y.argm",
        ),
        ({"X": [1, 2, 3], "y": [0, 1, 0]}, r"X has shape \(3,\)"),
        ({"X": 1.0, "y": 0}, r"X has shape \(\)"),
        (
            {"X": np.zeros((3, 0)), "y": [0, 1, 0]},
            r"X has shape \(3, 0\); at least one sample and one feature",
        ),
        ({"X": THREE.astype(str), "y": [0, 1, 0]}, "X has dtype <U3; it must be numeric"),
        ({"X": THREE + 1j, "y": [0, 1, 0]}, "X has dtype complex128"),
        (
            {"X": THREE, "y": [b"a", b"b", b"a"]},
            "y has dtype [|]S1; it must be integers or strings",
        ),
        (
            {"X": np.full((3, 2), 0.1), "y": [0, 1, 0]},
            "X is constant in every column; it cannot be standardized$",
        ),
        (
            {"X": ONE_NAN[:, None], "y": [0, 1, 0]},
            r"1 of 6 values .*; the first is X\[1, 1\] = nan; fill them in, or drop these samples$",
        ),
        (
            {"X": [[1, 2], [np.inf, -np.inf]], "y": [0, 1]},
            r"2 of 4 values of X are infinite; the first is X\[1, 0\] = inf; replace them$",
        ),
        ({"X": THREE, "y": ["a", "a", "a"]}, "arrays.npz: every label is 'a'; at least two classes"),
        ({"X": THREE, "y": np.zeros(3)}, "every label is 0; at least two"),
    ],
)
def test_load_data_rejects_invalid_arrays(tmp_path, arrays, message):
    refused(message, write_npz(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read arrays X and y from '.*broken.npz': File is not a zip file"),
        (b"not a zip", "File is not a zip file"),
        (b"\x80\x04N.", "File is not a zip file"),  # a pickle
    ],
)
def test_load_data_rejects_a_file_that_is_not_npz(tmp_path, content, message):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    refused(message, path)


def test_load_data_rejects_a_renamed_npy_file(tmp_path):
    path = tmp_path / "single.npz"
    with path.open("wb") as file:
        np.save(file, THREE)
    refused("File is not a zip file", path)


def test_load_data_rejects_an_array_larger_than_memory(tmp_path):
    path, header = tmp_path / "huge.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)}
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("X.npy", header.getvalue())
        file.writestr("y.npy", header.getvalue())
    refused("cannot read arrays X and y from '.*huge.npz': Unable to allocate", path)


@settings(max_examples=150, deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 2_000)),
    compressed=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:Reading `.npy`", "ignore:Overlapped entries")
def test_load_data_loads_or_rejects_damaged_npz_files(damage, cut, compressed):
    buffer = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, X=np.arange(60.0).reshape(20, 3), y=np.arange(20) % 2)
    content = bytearray(buffer.getvalue()[:cut])
    for position, value in damage:
        if content:
            content[position % len(content)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.npz"
        path.write_bytes(content)
        with contextlib.suppress(UsageError):  # any other exception, or a warning, fails the test
            assert isinstance(load_data(path), Dataset)


# ---- .csv --------------------------------------------------------------------------------------------------


def test_load_data_uses_all_other_csv_columns_as_features(tmp_path):
    path = write_csv(tmp_path, "width,kind,height\n1,rose,2.5\n3,None,4\n5,iris,6\n7,rose,-1e3\n")
    data = load_data(path, target="kind")
    np.testing.assert_allclose(
        data.X, standardize_columns(np.array([[1, 2.5], [3, 4], [5, 6], [7, -1e3]])), rtol=1e-6
    )
    assert data.classes == ("None", "iris", "rose")
    assert data.y.tolist() == [2, 0, 1, 2]
    assert data.name == "flowers.csv"


@pytest.mark.parametrize(
    ("labels", "classes", "y"),
    [
        (["10", "9", "10"], (9, 10), [1, 0, 1]),
        (["1.0", "2.0", "1.0"], (1, 2), [0, 1, 0]),
        (["10.5", "9.5", "9.5"], ("9.5", "10.5"), [1, 0, 0]),
        (["True", "False", "True"], ("False", "True"), [1, 0, 1]),
        (["NA", "x", "x"], ("NA", "x"), [0, 1, 1]),
        (["1", "b", "1"], ("1", "b"), [0, 1, 0]),
        (["inf", "1", "1"], (1, "inf"), [1, 0, 0]),
        (["18446744073709551615", "7", "7"], (7, 2**64 - 1), [1, 0, 0]),
    ],
)
def test_load_data_reads_csv_labels_of_any_type(tmp_path, labels, classes, y):
    rows = "".join(f"{label},{i}\n" for i, label in enumerate(labels))
    data = load_data(write_csv(tmp_path, f"label,a\n{rows}"), target="label")
    assert data.classes == classes
    assert data.y.tolist() == y


def test_load_data_reads_csv_booleans_as_features(tmp_path):
    data = load_data(write_csv(tmp_path, "a,label\nTrue,x\nFalse,y\n"), target="label")
    np.testing.assert_allclose(data.X, [[1], [-1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b,kinds\n1,2,x\n",
            "flowers.csv: no column 'kind' .did you mean 'kinds'..; the label column is one of",
        ),
        ("a,b\n1,2\n", "no column 'kind'; the label column is one of a, b"),
        (
            "a,kind\n1,x\nred,y\n",
            "feature column 'a' contains 'red' in row 1 .counted from 0.; correct it, or drop the column$",
        ),
        ("", "cannot read '.*flowers.csv' as CSV: it is empty; write a header line, then a line for each"),
        ("a,kind\n", r"flowers.csv: X has shape \(0, 1\); at least one sample"),
        ("kind\nx\ny\n", r"X has shape \(2, 0\); at least one sample and one feature"),
        ("a,kind\n1,x\n2,\n3,\n", r"the label column 'kind' is empty in 2 of 3 rows; the first is y\[1\]"),
        ("a,b,kind\n1,2,x\n1,1e999,y\n", "feature column 'b' contains 'inf' in row 1 .counted from 0.; repl"),
        ("a,kind\n1,x\n2,x\n", "flowers.csv: every label is 'x'; at least two classes"),
        ("a,kind\n1,x\n1,y\n", "flowers.csv: no feature is left; dropped: a .constant.$"),
        ("a,kind\n1,x\n1,y,3,4\n", "as CSV: Error tokenizing data"),
        ("a,kind\n1,x,9\n1,y,9\n", "the rows have more fields than the header line"),
        (
            ",a,kind\n5,1,x\n7,2,y\n",
            "flowers.csv: column 1 has no name in the header; save a DataFrame with index=False",
        ),
    ],
)
def test_load_data_rejects_invalid_csv(tmp_path, text, message):
    refused(message, write_csv(tmp_path, text), target="kind")


def test_load_data_of_csv_without_target_lists_the_columns(tmp_path):
    refused(
        "flowers.csv: set target .--target COLUMN.; .* one of a, kind", write_csv(tmp_path, "a,kind\n1,x\n")
    )


def test_load_data_rejects_csv_that_is_not_text(tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_bytes(b"a,kind\n\xff\xfe,x\n")
    message = "as CSV: byte 0xff at position 7 is not UTF-8; save it in UTF-8$"
    refused(f"cannot read '.*flowers.csv' {message}", path, target="kind")

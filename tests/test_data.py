"""data.py: every source against files written here by hand, and every message a person can meet."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.client
import io
import math
import struct
import tempfile
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actlab._errors import UsageError
from actlab.data import Dataset, load_data

MNIST = Path(__file__).parents[1].parent / "shared/data/mnist"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
THREE = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_images(
    folder: Path, images: np.ndarray | bytes = THREE, labels: np.ndarray | bytes = b"", *, gz: bool = False
) -> Path:
    """Write both IDX files; bytes are written as they are, and three labels are the default."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(labels, bytes) and not labels:
        labels = np.array([0, 1, 0], np.uint8)
    for name, content in ((IMAGES, images), (LABELS, labels)):
        data = content if isinstance(content, bytes) else idx(content)
        (folder / f"{name}{'.gz' * gz}").write_bytes(gzip.compress(data) if gz else data)
    return folder


def write_csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flowers.csv"
    path.write_text(text)
    return path


def write_npz(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    return path


def standardised(values: np.ndarray) -> np.ndarray:
    """The notebook's words: (data - data.mean()) / data.std(), in torch."""
    data = torch.from_numpy(values.astype(np.float64))
    return ((data - data.mean()) / data.std()).float().numpy()


def refused(message: str, source: str | Path, *arguments: object, **keywords: object) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_data(source, *arguments, **keywords)
    assert "\n" not in str(caught.value)


# ---- the Dataset -------------------------------------------------------------------------------------------


def test_digits_is_the_notebooks_standardisation():
    from sklearn.datasets import load_digits

    data, (X, y) = load_data("digits"), load_digits(return_X_y=True)
    np.testing.assert_allclose(data.X, standardised(X), rtol=1e-6)
    np.testing.assert_array_equal(data.y, y)
    assert (data.num_features, data.num_classes, data.classes) == (64, 10, tuple(range(10)))


def test_dtypes_and_layout_are_what_training_needs():
    data = load_data("digits")
    assert (data.X.dtype, data.y.dtype) == (np.float32, np.int64)
    assert data.X.flags.c_contiguous
    assert data.y.flags.c_contiguous
    torch.from_numpy(data.X)  # a read-only array would warn here


def test_repr_is_one_short_line():
    text = repr(load_data("digits"))
    assert text.startswith("Dataset('digits', X=float32(1797, 64), num_classes=10, fingerprint='")
    assert "\n" not in text
    assert len(text) < 120


def test_a_dataset_is_frozen_and_compares_by_identity():
    data = load_data("digits")
    with pytest.raises(AttributeError):
        data.name = "other"
    assert data != load_data("digits")
    assert data in {data}


def test_fingerprint_depends_on_every_value_and_on_nothing_else(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2

    def fingerprint(X: np.ndarray, y: np.ndarray) -> str:
        return load_data(write_npz(tmp_path, X=X, y=y)).fingerprint

    same = fingerprint(X, y)
    assert len(same) == 16
    assert int(same, 16)
    assert fingerprint(np.asfortranarray(X), y.astype(np.uint8)) == same
    assert fingerprint(X * 4.0, y) == same  # the scale is standardised away, exactly for a power of two
    assert fingerprint(X, 1 - y) != same
    changed = X.copy()
    changed[7, 1] += 1e-3
    assert fingerprint(changed, y) != same
    assert fingerprint(X.reshape(10, 6), y[:10]) != same


# ---- IDX files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_images_are_found_in_every_layout(tmp_path, name, folder, gz):
    fingerprints = set()
    for inside in (".", "raw", f"{folder}/raw"):
        root = tmp_path / inside.replace("/", "-")
        write_images(root / inside, gz=gz)
        data = load_data(name, str(root))
        np.testing.assert_allclose(data.X, standardised(THREE.reshape(3, 4)), rtol=1e-6)
        assert data.y.tolist() == [0, 1, 0]
        assert data.name == name
        fingerprints.add(data.fingerprint)
    assert len(fingerprints) == 1


def test_torchvisions_folder_tells_the_image_sets_apart(tmp_path):
    write_images(tmp_path)
    write_images(tmp_path / "FashionMNIST/raw", THREE[::-1] ** 2)
    assert load_data("mnist", tmp_path).fingerprint != load_data("fashion-mnist", tmp_path).fingerprint


@settings(max_examples=50, deadline=None)
@given(
    images=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)).filter(
        lambda images: images.min() != images.max()
    ),
    gz=st.booleans(),
    data=st.data(),
)
def test_idx_round_trip(images, gz, data):
    labels = data.draw(hnp.arrays(np.uint8, len(images)))
    labels_differ = len(set(labels.tolist())) > 1
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), images, labels, gz=gz)
        if not labels_differ:
            refused("every label is", "mnist", folder)
            return
        loaded = load_data("mnist", folder)
    flat = images.reshape(len(images), -1).astype(np.float64)
    back = loaded.X * flat.std(ddof=1) + flat.mean()
    np.testing.assert_array_equal(np.round(back), flat)
    np.testing.assert_allclose(back, flat, atol=1e-3)
    np.testing.assert_array_equal(np.array(loaded.classes)[loaded.y], labels)


def test_more_images_than_one_block(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1500, 28, 28), np.uint8)  # 1.1 million bytes
    data = load_data("mnist", write_images(tmp_path, images, np.arange(1500, dtype=np.uint8) % 10))
    np.testing.assert_allclose(data.X, standardised(images.reshape(1500, -1)), rtol=1e-6, atol=1e-7)


@functools.cache
def real_mnist() -> Dataset:
    if not (MNIST / f"{IMAGES}.gz").is_file():
        pytest.skip("the MNIST files are not beside the checkout, in ../shared/data/mnist")
    return load_data("mnist", MNIST)


def test_real_mnist_has_the_notebooks_shape_and_counts():
    data = real_mnist()
    assert data.X.shape == (60_000, 784)
    assert np.bincount(data.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.classes == tuple(range(10))


def test_real_mnist_is_standardised():
    X = real_mnist().X
    assert X.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert math.sqrt(np.square(X, dtype=np.float64).mean()) == pytest.approx(1, abs=1e-5)


def test_real_mnist_fingerprint_is_stable():
    assert real_mnist().fingerprint == load_data("mnist", MNIST).fingerprint


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (idx(THREE)[:-1], "images-idx3-ubyte' is truncated: 27 bytes, its header says 28"),
        (idx(THREE)[:10], "images-idx3-ubyte' is truncated: 10 bytes"),
        (idx(THREE) + b"\0", "images-idx3-ubyte' is too long: 29 bytes, its header says 28"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "is truncated: 16 bytes, its header says 7922816"),
        (b"GIF89a" + bytes(30), "begins with '47 49 46 38', not with '00 00 08 03': it is no IDX file"),
        (b"\0", "begins with '00', not with"),
        (gzip.compress(idx(THREE)), "begins with '1f 8b 08 00'"),
        (idx(THREE.astype(">f4"), kind=0x0D), "begins with '00 00 0d 03', not with '00 00 08 03'"),
        (idx(THREE.reshape(3, 4)), "begins with '00 00 08 02', not with .* no IDX file of bytes in 3 dimen"),
        (idx(THREE[:2]), r"mnist: X has shape \(2, 2, 2\) and y \(3,\); .* the same n"),
        (idx(THREE * 0), "X is constant .every value is 0.; it cannot be standardised"),
    ],
)
def test_broken_images_are_refused(tmp_path, images, message):
    refused(message, "mnist", write_images(tmp_path, images))


def test_zero_images_are_refused(tmp_path):
    write_images(tmp_path, THREE[:0], np.zeros(0, np.uint8))
    refused(r"mnist: X has shape \(0, 2, 2\); at least one row", "mnist", tmp_path)


def test_images_given_as_labels_are_refused(tmp_path):
    refused("labels-idx1-ubyte' begins with '00 00 08 03'", "mnist", write_images(tmp_path, THREE, THREE))


def test_a_single_class_is_refused(tmp_path):
    write_images(tmp_path, labels=np.full(3, 7, np.uint8))
    refused("mnist: every label is 7; at least two classes are needed", "mnist", tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda content: content[:-12],
            "cannot read .*images-idx3-ubyte.gz'.* ended before .*get the file again",
        ),
        (lambda content: content[:-5] + b"\xff" + content[-4:], "cannot read .*gz'"),
        (lambda content: content[:-8] + b"\0\0\0\0" + content[-4:], "cannot read .*gz': CRC check failed"),
        (lambda content: content[:10] + b"\xff" * 20, "cannot read .*gz': Error -3"),
        (lambda content: b"<html>" + content, "cannot read .*gz': Not a gzipped file"),
        (lambda content: b"", "gz' begins with ''"),
    ],
    ids=["truncated", "length", "crc", "deflate", "html", "empty"],
)
def test_damaged_gz_is_refused(tmp_path, damage, message):
    path = write_images(tmp_path, gz=True) / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    refused(message, "mnist", tmp_path)


def test_missing_folder_is_refused(tmp_path):
    refused("data_dir '.*nowhere' is not a folder", "mnist", tmp_path / "nowhere")


@pytest.mark.parametrize("present", [(), (IMAGES,), (f"{LABELS}.gz",)])
def test_missing_file_is_refused_by_name(tmp_path, present):
    for name in present:
        (tmp_path / name).touch()
    message = rf"kmnist: no {IMAGES}\[.gz\] and {LABELS}\[.gz\] together in '.*', its raw or its KMNIST/raw"
    refused(message, "kmnist", tmp_path)


# ---- the download ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError("no route to host"), "<urlopen error no route to host>"),
        (http.client.IncompleteRead(b"", 9), "IncompleteRead"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("md5 checksum of local file\ndoes not match"), "md5 checksum of local file"),
    ],
)
def test_failed_download_says_to_give_data_dir(monkeypatch, error, reason):
    def fail(*args: object, **keywords: object) -> None:
        raise error

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    refused(f"cannot download 'mnist' from openml.org: {reason}.*; give data_dir", "mnist")


def test_download_equals_the_idx_files(monkeypatch, tmp_path):
    from sklearn.utils import Bunch

    asked = []

    def fetch(name: str, **keywords: object) -> Bunch:
        asked.append((name, keywords))
        return Bunch(data=THREE.reshape(3, 4).astype(np.float64), target=np.array(["0", "1", "0"], object))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    downloaded = load_data("fashion-mnist")
    assert asked == [("Fashion-MNIST", {"version": 1, "as_frame": False, "parser": "liac-arff"})]
    assert downloaded.fingerprint == load_data("fashion-mnist", write_images(tmp_path)).fingerprint


def test_download_leaves_the_test_images_out(monkeypatch):
    from sklearn.utils import Bunch

    bunch = Bunch(data=np.arange(70_000.0)[:, None] % 256, target=np.array(["0"] * 59_999 + ["1"] * 10_001))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *args, **keywords: bunch)
    assert np.bincount(load_data("mnist").y).tolist() == [59_999, 1]


# ---- .npz --------------------------------------------------------------------------------------------------


def test_npz_flattens_and_encodes(tmp_path):
    X = np.random.default_rng(0).normal(3, 2, (5, 2, 3)).astype(np.float32)
    data = load_data(write_npz(tmp_path, X=X, y=np.array(["b", "a", "c", "a", "b"])))
    np.testing.assert_allclose(data.X, standardised(X.reshape(5, 6)), rtol=1e-5)
    assert data.y.tolist() == [1, 0, 2, 0, 1]
    assert data.classes == ("a", "b", "c")
    assert data.name == "arrays.npz"


@pytest.mark.parametrize(
    "y", [np.array([5, -1, 5]), np.array([5.0, -1.0, 5.0]), np.array([5, -1, 5], np.int8)]
)
def test_whole_labels_keep_their_numbers(tmp_path, y):
    data = load_data(str(write_npz(tmp_path, X=THREE, y=y)))
    assert data.classes == (-1, 5)
    assert [type(label) for label in data.classes] == [int, int]
    assert data.y.tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.uint8, ">f8", np.longdouble])
def test_every_numeric_dtype_gives_the_same_features(tmp_path, dtype):
    data = load_data(write_npz(tmp_path, X=THREE.astype(dtype), y=np.array([0, 1, 0])))
    np.testing.assert_allclose(data.X, standardised(THREE.reshape(3, 4)), rtol=1e-6)


@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1e200, 1.7e308])
def test_features_of_any_scale(tmp_path, scale):
    data = load_data(write_npz(tmp_path, X=np.array([[scale], [-scale]]), y=np.array([0, 1])))
    np.testing.assert_allclose(data.X, [[math.sqrt(0.5)], [-math.sqrt(0.5)]], rtol=1e-6)


ONE_NAN = np.where(np.arange(6).reshape(3, 2) == 3, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": THREE}, "cannot read arrays X and y from '.*arrays.npz': 'y is not a file in the archive'"),
        ({"y": [0, 1, 0]}, "'X is not a file in the archive'"),
        (
            {"X": THREE, "y": np.array([0, "a", None])},
            "Object arrays cannot be loaded when allow_pickle=False",
        ),
        ({"X": THREE.astype(object), "y": [0, 1, 0]}, "Object arrays cannot be loaded"),
        ({"X": THREE, "y": [0, 0.5, 1]}, "arrays.npz: y holds 0.5; labels must be integers or strings"),
        ({"X": THREE, "y": [0, np.nan, 1]}, "y holds nan"),
        ({"X": THREE, "y": [0, np.inf, 1]}, "y holds inf"),
        (
            {"X": THREE, "y": [0, 1]},
            r"X has shape \(3, 2, 2\) and y \(2,\); they must be \(n, d\) and \(n,\)",
        ),
        ({"X": THREE, "y": np.eye(3, dtype=int)}, r"y \(3, 3\)"),
        ({"X": [1, 2, 3], "y": [0, 1, 0]}, r"X has shape \(3,\)"),
        ({"X": 1.0, "y": 0}, r"X has shape \(\)"),
        ({"X": np.zeros((3, 0)), "y": [0, 1, 0]}, r"X has shape \(3, 0\); at least one row and one feature"),
        ({"X": THREE.astype(str), "y": [0, 1, 0]}, "X has dtype <U3 and y int64; X must be numbers"),
        ({"X": THREE + 1j, "y": [0, 1, 0]}, "X has dtype complex128"),
        ({"X": THREE, "y": [b"a", b"b", b"a"]}, "y [|]S1; X must be numbers, y integers or strings"),
        ({"X": np.full((3, 2), 0.1), "y": [0, 1, 0]}, "X is constant .every value is 0.1."),
        ({"X": ONE_NAN, "y": [0, 1, 0]}, r"1 of 6 values .*, the first is X\[1, 1\] = nan$"),
        ({"X": [[1, 2], [np.inf, -np.inf]], "y": [0, 1]}, r"2 of 4 values .* infinite, .* X\[1, 0\] = inf$"),
        ({"X": THREE, "y": ["a", "a", "a"]}, "arrays.npz: every label is 'a'; at least two classes"),
        ({"X": THREE, "y": np.zeros(3)}, "every label is 0; at least two"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, arrays, message):
    refused(message, write_npz(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read arrays X and y from '.*broken.npz': File is not a zip file"),
        (b"not a zip", "File is not a zip file"),
        (b"\x80\x04N.", "File is not a zip file"),  # a pickle
    ],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path, content, message):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    refused(message, path)


def test_a_npy_renamed_is_refused(tmp_path):
    path = tmp_path / "single.npz"
    with path.open("wb") as file:
        np.save(file, THREE)
    refused("File is not a zip file", path)


def test_an_array_larger_than_memory_is_refused(tmp_path):
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
def test_damaged_npz_is_loaded_or_refused_but_never_a_traceback(damage, cut, compressed):
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


def test_csv_takes_every_other_column_as_a_feature(tmp_path):
    path = write_csv(tmp_path, "width,kind,height\n1,rose,2.5\n3,None,4\n5,iris,6\n7,rose,-1e3\n")
    data = load_data(path, target="kind")
    np.testing.assert_allclose(
        data.X, standardised(np.array([[1, 2.5], [3, 4], [5, 6], [7, -1e3]])), rtol=1e-6
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
def test_csv_labels_of_any_type(tmp_path, labels, classes, y):
    rows = "".join(f"{label},{i}\n" for i, label in enumerate(labels))
    data = load_data(write_csv(tmp_path, f"label,a\n{rows}"), target="label")
    assert data.classes == classes
    assert data.y.tolist() == y


def test_csv_true_and_false_are_features(tmp_path):
    data = load_data(write_csv(tmp_path, "a,label\nTrue,x\nFalse,y\n"), target="label")
    np.testing.assert_allclose(data.X, [[math.sqrt(0.5)], [-math.sqrt(0.5)]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b,kinds\n1,2,x\n",
            "flowers.csv: no column 'kind'; did you mean 'kinds'.; the label column is one of",
        ),
        ("a,b\n1,2\n", "no column 'kind'; the label column is one of a, b"),
        ("a,kind\n1,x\nred,y\n", "feature column 'a' must be numeric, but holds 'red' in row 1 .from 0."),
        ("a,kind\nTrue,x\n,y\n", "feature column 'a' must be numeric, but holds mixed types"),
        ("", "cannot read '.*flowers.csv' as CSV: No columns to parse"),
        ("a,kind\n", r"flowers.csv: X has shape \(0, 1\); at least one row"),
        ("kind\nx\ny\n", r"X has shape \(2, 0\); at least one row and one feature"),
        ("a,kind\n1,x\n2,\n3,\n", r"the label column 'kind' is empty in 2 of 3 rows, the first is y\[1\]"),
        ("a,b,kind\n1,2,x\n1,,y\n", r"1 of 4 values .*missing.*X\[1, 1\] = nan .column 'b'."),
        ("a,b,kind\n1,2,x\n1,1e999,y\n", r"1 of 4 values .*X\[1, 1\] = inf .column 'b'."),
        ("a,kind\n1,x\n2,x\n", "flowers.csv: every label is 'x'; at least two classes"),
        ("a,kind\n1,x\n1,y\n", "X is constant .every value is 1.0."),
        ("a,kind\n1,x\n1,y,3,4\n", "as CSV: Error tokenizing data"),
        ("a,kind\n1,x,9\n1,y,9\n", "the rows have more fields than the header line"),
        (
            ",a,kind\n0,1,x\n1,2,y\n",
            "Unnamed: 0 has no name in the header; save a DataFrame with index=False",
        ),
    ],
)
def test_unfit_csv_is_refused(tmp_path, text, message):
    refused(message, write_csv(tmp_path, text), target="kind")


def test_csv_without_target_lists_the_columns(tmp_path):
    refused("flowers.csv: give target; .* one of a, kind", write_csv(tmp_path, "a,kind\n1,x\n"))


def test_csv_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_bytes(b"a,kind\n\xff\xfe,x\n")
    refused("cannot read '.*flowers.csv' as CSV: 'utf-8' codec", path, target="kind")


# ---- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "mnits",
            "unknown data 'mnits'; did you mean 'mnist'.; give one of digits, mnist, fashion-mnist, kmnist",
        ),
        ("MNIST", "unknown data 'MNIST'; did you mean 'mnist'"),
        ("table.xlsx", "unknown data 'table.xlsx'; give one of .* or a path ending in .npz or .csv"),
        ("", "unknown data ''"),
        ("nowhere.npz", "no such file: 'nowhere.npz'"),
        ("nowhere.csv", "no such file: 'nowhere.csv'"),
        ("https://example.org/table.csv", "no such file: 'https://example.org/table.csv'"),
    ],
)
def test_unknown_sources_are_refused(source, message):
    refused(message, source)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    refused("no such file: '.*folder.csv'", tmp_path / "folder.csv", target="a")


@pytest.mark.parametrize("source", ["digits", "some.npz", "some.csv"])
def test_data_dir_where_it_is_not_used_is_refused(tmp_path, source):
    refused(f"data_dir '.*' is not used with '{source}': leave it out", source, tmp_path)


@pytest.mark.parametrize("source", ["digits", "mnist", "some.npz"])
def test_target_where_it_is_not_used_is_refused(source):
    refused(f"target 'label' is not used with '{source}', only with a .csv file", source, target="label")

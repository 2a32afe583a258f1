"""load_data of image sets under all names of their files: Kaggle's, EMNIST, CIFAR, and the test parts."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from actlab.cli import main
from actlab.data import load_data
from actlab.data.images import IMAGES, read_images
from actlab.errors import UsageError
from tests.command_line import in_empty_folder
from tests.command_line import refused as refused_in_one_line
from tests.datasets import THREE, encode_idx, refused, standardize, write_images

__all__ = ["in_empty_folder"]

MNIST = Path(__file__).parents[1].parent / "shared/data/mnist"
LABELS = np.array([1, 2, 1], np.uint8)


def write_pair(folder: Path, images: str, labels: str) -> Path:
    """Write three images and their labels to IDX files, gzipped if the names end in .gz."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((images, THREE), (labels, LABELS)):
        content = encode_idx(array)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


# ---- the names on Kaggle -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("folder", [".", "raw", "MNIST/raw"])
def test_load_data_reads_idx_files_under_kaggles_names(tmp_path, folder, gz):
    write_pair(tmp_path / folder, f"train-images.idx3-ubyte{gz}", f"train-labels.idx1-ubyte{gz}")
    data = load_data("mnist", tmp_path)
    np.testing.assert_allclose(data.X, standardize(THREE.reshape(3, 4)), rtol=1e-6)
    assert (data.y.tolist(), data.classes, data.shape) == ([0, 1, 0], (1, 2), (1, 2, 2))


def write_table(path: Path, header: str = "label,pixel1,pixel2,pixel3,pixel4") -> Path:
    rows = np.column_stack([LABELS, THREE.reshape(3, 4)])
    lines = [*([header] if header else []), *(",".join(map(str, row)) for row in rows)]
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize("header", ["label,1x1,1x2,2x1,2x2", "label,pixel1,pixel2,pixel3,pixel4", ""])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "mnist_train.csv"),
        ("fashion-mnist", "fashion-mnist_train.csv"),
        ("mnist", "mnist_train.csv.gz"),
    ],
)
def test_load_data_reads_a_table_of_pixels_like_idx_files(tmp_path, name, file, header):
    write_table(tmp_path / file, header)
    (tmp_path / "idx").mkdir()
    expected = load_data(name, write_images(tmp_path / "idx", labels=LABELS))
    data = load_data(name, tmp_path)
    assert (data.fingerprint, data.shape, data.classes) == (expected.fingerprint, (1, 2, 2), (1, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "label,a,b,c\n1,2,3,4\n",
            "must contain a label and the pixels of a square image in each line; its header has 4 columns",
        ),
        ("label\n1\n2\n", "its header has 1 columns"),
        ("label,a,b,c,d\n1,2,3,4,5,6\n", "its header has 5 columns"),
        ("label,a,b,c,d\n1,2,3,4,300\n", "cannot read bytes from '.*mnist_train.csv': cannot safely convert"),
        ("label,a,b,c,d\n1,2,3,4,-1\n", "cannot read bytes from '.*mnist_train.csv': cannot safely convert"),
        ("label,a,b,c,d\n1,2,3,4,x\n", "cannot read bytes from '.*mnist_train.csv': invalid literal"),
        ("", "cannot read bytes from '.*mnist_train.csv': No columns to parse"),
    ],
)
def test_load_data_rejects_a_table_without_pixels(tmp_path, text, message):
    (tmp_path / "mnist_train.csv").write_text(text)
    refused(message, "mnist", tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        [f"pixel{i}" for i in range(9)],
        [f"pixel{i}" for i in range(1, 10)],
        [f"{i}x{j}" for i in "123" for j in "123"],
    ],
    ids=lambda columns: columns[0],
)
def test_load_data_recognizes_pixels_by_the_names_of_their_columns(tmp_path, columns):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9))
    frame = pd.DataFrame(pixels, columns=columns)
    frame.insert(0, "label", [3, 7] * 3)
    frame.to_csv(tmp_path / "train.csv", index=False)
    images = load_data((pixels.reshape(6, 3, 3), [3, 7] * 3))
    for source in (frame, tmp_path / "train.csv"):
        data = load_data(source, target="label")
        assert (data.shape, data.classes) == ((1, 3, 3), (3, 7))
        np.testing.assert_allclose(data.X, images.X, rtol=1e-6)


@pytest.mark.parametrize(
    "columns", [["pixel1", "pixel2", "pixel4", "pixel3"], ["pixel0", "pixel1", "pixel2"], ["pixel0"]]
)
def test_load_data_reads_other_columns_as_a_table(columns):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(6, len(columns))), columns=columns)
    assert load_data(frame.assign(label=[0, 1] * 3), target="label").shape == ()


# ---- EMNIST ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["balanced", "letters", "digits", "mnist", "byclass", "bymerge"])
@pytest.mark.parametrize("folder", [".", "raw", "EMNIST/raw"])
def test_load_data_turns_the_images_of_emnist_upright(tmp_path, split, folder):
    stem = f"emnist-{split}-train"
    write_pair(tmp_path / folder, f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz")
    data = load_data(f"emnist-{split}", tmp_path)
    upright = THREE.transpose(0, 2, 1).reshape(3, 4)
    np.testing.assert_allclose(data.X, standardize(upright), rtol=1e-6)
    assert (data.y.tolist(), data.classes) == ([0, 1, 0], (1, 2))  # letters have labels from 1


def test_load_data_reads_a_table_of_emnist(tmp_path):
    write_table(tmp_path / "emnist-letters-train.csv", header="")
    data = load_data("emnist-letters", tmp_path)
    np.testing.assert_allclose(data.X, standardize(THREE.transpose(0, 2, 1).reshape(3, 4)), rtol=1e-6)


def test_load_data_distinguishes_the_splits_of_emnist(tmp_path):
    stem = "emnist-letters-train"
    write_pair(tmp_path, f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    message = (
        r"emnist-digits: emnist-digits-train-images-idx3-ubyte\[.gz\] and .* its subfolder raw or EMNIST/raw$"
    )
    refused(message, "emnist-digits", tmp_path)


# ---- CIFAR -------------------------------------------------------------------------------------------------


def make_records(name: str, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, (count, 1 if name == "cifar10" else 2))
    return np.column_stack([labels, rng.integers(0, 256, (count, 3072))]).astype(np.uint8)


def write_cifar(folder: Path, name: str) -> np.ndarray:
    """Write the binary files of a CIFAR set with four images each; return the training records."""
    folder.mkdir(parents=True, exist_ok=True)
    train = [f"data_batch_{i}.bin" for i in range(1, 6)] if name == "cifar10" else ["train.bin"]
    records = [make_records(name, 4, seed) for seed in range(len(train))]
    for file, part in zip(train, records, strict=True):
        (folder / file).write_bytes(part.tobytes())
    test = "test_batch.bin" if name == "cifar10" else "test.bin"
    (folder / test).write_bytes(make_records(name, 3, 9).tobytes())
    return np.concatenate(records)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("cifar10", "."),
        ("cifar10", "cifar-10-batches-bin"),
        ("cifar100", "."),
        ("cifar100", "cifar-100-binary"),
    ],
)
def test_load_data_reads_the_binary_version_of_cifar(tmp_path, name, folder):
    records = write_cifar(tmp_path / folder, name)
    data = load_data(name, tmp_path)
    assert data.shape == (3, 32, 32)
    np.testing.assert_allclose(data.X, standardize(records[:, -3072:]), rtol=1e-5, atol=1e-7)
    fine = records[:, -3073]  # the label next to the pixels
    np.testing.assert_array_equal(np.array(data.classes)[data.y], fine)
    images, labels = read_images(name, tmp_path, "test")
    test = make_records(name, 3, 9)
    np.testing.assert_array_equal(images, test[:, -3072:].reshape(3, 3, 32, 32))
    np.testing.assert_array_equal(labels, test[:, -3073])


@pytest.mark.parametrize("extra", [-1, 1])
def test_load_data_rejects_a_damaged_file_of_cifar(tmp_path, extra):
    write_cifar(tmp_path, "cifar10")
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes((path.read_bytes() + b"\0")[: 4 * 3073 + extra])
    size = 4 * 3073 + extra
    refused(
        f"data_batch_3.bin' has {size} bytes, not a multiple of 3073, .*; download it again",
        "cifar10",
        tmp_path,
    )


def test_load_data_names_the_files_of_cifar(tmp_path):
    write_cifar(tmp_path, "cifar10")
    (tmp_path / "data_batch_4.bin").unlink()
    files = "data_batch_1.bin and .* and data_batch_5.bin"
    message = f"cifar10: {files} must be in '.*', or in its subfolder cifar-10-batches-bin$"
    refused(message, "cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar10", "data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
        ("cifar100", "train"),
    ],
)
def test_load_data_refuses_the_pickled_version_of_cifar(tmp_path, name, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"\x80\x02}q\x01")
    refused(
        "has the Python version, .* pickled; actlab unpickles nothing: download the binary", name, tmp_path
    )


# ---- all sets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in IMAGES if name.startswith(("emnist", "cifar"))])
def test_load_data_does_not_download_large_sets(name):
    refused(f"{name} cannot be downloaded; set data_dir .--data-dir. to the folder of ", name)


def test_read_images_returns_the_test_part(tmp_path):
    write_images(tmp_path)
    with pytest.raises(UsageError, match=r"mnist: t10k-images-idx3-ubyte\[.gz\] and t10k-labels-idx1-ubyte"):
        read_images("mnist", tmp_path, "test")
    write_pair(tmp_path, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz")
    images, labels = read_images("mnist", tmp_path, "test")
    np.testing.assert_array_equal(images, THREE)
    assert labels.tolist() == [1, 2, 1]


def test_read_images_returns_the_test_part_of_mnist():
    if not (MNIST / "t10k-images-idx3-ubyte.gz").is_file():
        pytest.skip("the MNIST files are missing in ../shared/data/mnist")
    images, labels = read_images("mnist", MNIST, "test")
    assert (images.shape, images.dtype) == ((10_000, 28, 28), np.uint8)
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_read_images_downloads_the_test_part(monkeypatch):
    from sklearn.utils import Bunch

    bunch = Bunch(data=np.arange(70_000.0)[:, None] % 256, target=np.array(["0"] * 60_001 + ["1"] * 9_999))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *args, **keywords: bunch)
    images, labels = read_images("kmnist", None, "test")
    assert images[:3].ravel().tolist() == [60_000 % 256, 60_001 % 256, 60_002 % 256]
    assert np.bincount(labels).tolist() == [1, 9_999]


def test_load_data_refuses_images_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=20 * 3072 * 4 - 1))
    write_cifar(tmp_path, "cifar10")
    refused(
        "cifar10: 20 samples of 3072 features need 0.0 GiB of memory, but 0.0 GiB are", "cifar10", tmp_path
    )


def test_train_verb_trains_on_cifar(tmp_path, capsys):
    write_cifar(tmp_path, "cifar10")
    for file in tmp_path.glob("data_batch_?.bin"):
        records = make_records("cifar10", 20, 0)
        records[:, 0] = np.arange(20) % 2
        file.write_bytes(records.tobytes())
    assert main("train --data cifar10 --data-dir . --epochs 1 --hidden 4 --quiet".split()) == 0
    message = refused_in_one_line(capsys, *"train --data cifar100 --data-dir . --epochs 1".split())
    assert "cifar100: train.bin must be in '.', or in its subfolder cifar-100-binary" in message

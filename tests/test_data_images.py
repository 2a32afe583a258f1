"""load_data of MNIST and similar image sets: IDX files and downloads."""

from __future__ import annotations

import functools
import gzip
import http.client
import math
import tempfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actlab.data import Dataset, load_data
from tests.datasets import IMAGES, LABELS, THREE, encode_idx, refused, standardize, write_images

MNIST = Path(__file__).parents[1].parent / "shared/data/mnist"


# ---- IDX files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_load_data_finds_images_in_every_folder_layout(tmp_path, name, folder, gz):
    fingerprints = set()
    for inside in (".", "raw", f"{folder}/raw"):
        root = tmp_path / inside.replace("/", "-")
        write_images(root / inside, gz=gz)
        data = load_data(name, str(root))
        np.testing.assert_allclose(data.X, standardize(THREE.reshape(3, 4)), rtol=1e-6)
        assert data.y.tolist() == [0, 1, 0]
        assert (data.name, data.shape) == (name, (1, 2, 2))
        fingerprints.add(data.fingerprint)
    assert len(fingerprints) == 1


def test_load_data_distinguishes_image_sets_in_a_torchvision_folder(tmp_path):
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
def test_load_data_reads_written_idx_files(images, gz, data):
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


def test_load_data_reads_more_images_than_one_block(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1500, 28, 28), np.uint8)  # 1.1 million bytes
    data = load_data("mnist", write_images(tmp_path, images, np.arange(1500, dtype=np.uint8) % 10))
    np.testing.assert_allclose(data.X, standardize(images.reshape(1500, -1)), rtol=1e-6, atol=1e-7)


@functools.cache
def real_mnist() -> Dataset:
    if not (MNIST / f"{IMAGES}.gz").is_file():
        pytest.skip("the MNIST files are missing in ../shared/data/mnist")
    return load_data("mnist", MNIST)


def test_load_data_mnist_has_the_known_shape_and_counts():
    data = real_mnist()
    assert (data.X.shape, data.shape) == ((60_000, 784), (1, 28, 28))
    assert np.bincount(data.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.classes == tuple(range(10))


def test_load_data_mnist_is_standardized():
    X = real_mnist().X
    assert X.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert math.sqrt(np.square(X, dtype=np.float64).mean()) == pytest.approx(1, abs=1e-5)


def test_load_data_mnist_fingerprint_is_stable():
    assert real_mnist().fingerprint == load_data("mnist", MNIST).fingerprint


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            encode_idx(THREE)[:-1],
            "images-idx3-ubyte' is truncated: it has 27 bytes, but its header states 28",
        ),
        (encode_idx(THREE)[:10], "images-idx3-ubyte' is truncated: it has 10 bytes"),
        (
            encode_idx(THREE) + b"\0",
            "images-idx3-ubyte' is too long: it has 29 bytes, but its header states 28",
        ),
        (b"\0\0\x08\x03" + b"\xff" * 12, "is truncated: it has 16 bytes, but its header states 7922816"),
        (b"GIF89a" + bytes(30), "begins with '47 49 46 38', not with '00 00 08 03': it is not an IDX file"),
        (b"\0", "begins with '00', not with"),
        (gzip.compress(b"none", mtime=0), "begins with '6e 6f 6e 65', not with '00 00 08 03'"),
        (encode_idx(THREE.astype(">f4"), kind=0x0D), "begins with '00 00 0d 03', not with '00 00 08 03'"),
        (
            encode_idx(THREE.reshape(3, 4)),
            "begins with '00 00 08 02', not with .* not an IDX file of bytes with 3 dimen",
        ),
        (encode_idx(THREE[:2]), r"mnist: X has shape \(2, 2, 2\) and y \(3,\); .* the same n"),
        (encode_idx(THREE * 0), "X is constant .every value is 0.; it cannot be standardized"),
    ],
)
def test_load_data_rejects_broken_images(tmp_path, images, message):
    refused(message, "mnist", write_images(tmp_path, images))


def test_load_data_rejects_zero_images(tmp_path):
    write_images(tmp_path, THREE[:0], np.zeros(0, np.uint8))
    refused(r"mnist: X has shape \(0, 2, 2\); at least one sample", "mnist", tmp_path)


def test_load_data_rejects_images_given_as_labels(tmp_path):
    refused("labels-idx1-ubyte' begins with '00 00 08 03'", "mnist", write_images(tmp_path, THREE, THREE))


def test_load_data_rejects_a_single_class(tmp_path):
    write_images(tmp_path, labels=np.full(3, 7, np.uint8))
    refused("mnist: every label is 7; at least two classes are needed", "mnist", tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda content: content[:-12],
            "cannot read .*images-idx3-ubyte.gz'.* ended before .*download it again",
        ),
        (lambda content: content[:-5] + b"\xff" + content[-4:], "cannot read .*gz'"),
        (lambda content: content[:-8] + b"\0\0\0\0" + content[-4:], "cannot read .*gz': CRC check failed"),
        (lambda content: content[:10] + b"\xff" * 20, "cannot read .*gz': Error -3"),
        (lambda content: b"<html>" + content, "gz' begins with '3c 68 74 6d', not with"),
        (lambda content: b"", "gz' begins with ''"),
    ],
    ids=["truncated", "length", "crc", "deflate", "html", "empty"],
)
def test_load_data_rejects_damaged_gz(tmp_path, damage, message):
    path = write_images(tmp_path, gz=True) / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    refused(message, "mnist", tmp_path)


def test_load_data_rejects_a_missing_folder(tmp_path):
    refused("data_dir '.*nowhere' is not a folder", "mnist", tmp_path / "nowhere")


@pytest.mark.parametrize("present", [(), (IMAGES,), (f"{LABELS}.gz",)])
def test_load_data_names_a_missing_file(tmp_path, present):
    for name in present:
        (tmp_path / name).touch()
    message = (
        rf"kmnist: {IMAGES}\[.gz\] and {LABELS}\[.gz\] must be in '.*', or in its subfolder raw or KMNIST/raw"
    )
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
def test_load_data_failed_download_suggests_data_dir(monkeypatch, error, reason):
    def fail(*args: object, **keywords: object) -> None:
        raise error

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    refused(f"cannot download 'mnist' from openml.org: {reason}.*; set data_dir", "mnist")


def test_load_data_download_equals_the_idx_files(monkeypatch, tmp_path):
    from sklearn.utils import Bunch

    requests = []

    def fetch(name: str, **keywords: object) -> Bunch:
        requests.append((name, keywords))
        return Bunch(data=THREE.reshape(3, 4).astype(np.float64), target=np.array(["0", "1", "0"], object))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    downloaded = load_data("fashion-mnist")
    assert requests == [("Fashion-MNIST", {"version": 1, "as_frame": False, "parser": "liac-arff"})]
    assert downloaded.shape == (1, 2, 2)
    assert downloaded.fingerprint == load_data("fashion-mnist", write_images(tmp_path)).fingerprint


def test_load_data_download_omits_the_test_images(monkeypatch):
    from sklearn.utils import Bunch

    bunch = Bunch(data=np.arange(70_000.0)[:, None] % 256, target=np.array(["0"] * 59_999 + ["1"] * 10_001))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *args, **keywords: bunch)
    assert np.bincount(load_data("mnist").y).tolist() == [59_999, 1]

"""load_data and Dataset: the channel axis of images, from files, arrays and tensors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from actlab import DataWarning, UsageError, load_data
from actlab.data.dataset import Dataset
from actlab.models.networks import ConvNet
from tests.datasets import refused, standardize, write_images, write_npz

LABELS = np.array([0, 1, 0, 1, 1])


def images(*shape: int, dtype: object = np.uint8) -> np.ndarray:
    """Return five images of shuffled values."""
    return np.random.default_rng(0).permutation(5 * int(np.prod(shape))).reshape(5, *shape).astype(dtype)


def load_with_warnings(*arguments: object, **keywords: object) -> tuple[Dataset, list[str]]:
    """Load data; return it with its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_data(*arguments, **keywords)
    assert all(one.category is DataWarning and one.filename == __file__ for one in caught)
    return data, [str(one.message) for one in caught]


@pytest.mark.parametrize("shape", [(6, 5, 3), (7, 2, 4), (5, 8, 1), (2, 2, 3), (32, 32, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_load_data_moves_the_channels_of_images_to_the_front(tmp_path, shape, dtype):
    X = images(*shape, dtype=dtype)
    data, notes = load_with_warnings(write_npz(tmp_path, X=X, y=LABELS))
    first = np.stack([X[..., channel] for channel in range(shape[2])], axis=1)
    assert data.shape == (shape[2], *shape[:2])
    np.testing.assert_allclose(data.X, standardize(first.reshape(5, -1)), rtol=1e-6, atol=1e-7)
    saved_first, none = load_with_warnings(write_npz(tmp_path, X=first, y=LABELS), channels="first")
    assert data.fingerprint == saved_first.fingerprint
    np.testing.assert_array_equal(data.X, saved_first.X)
    height, width, channels = shape
    assert none == []
    assert notes == [
        f"arrays.npz: X has shape (5, {height}, {width}, {channels}); the last axis of an image was "
        "taken as its channels and moved to the front; if the first axis is the channels, "
        "set channels='first' (--channels first)"
    ]


@pytest.mark.parametrize("shape", [(3, 6, 5), (4, 7, 2), (1, 5, 8), (3, 1, 2), (16, 7, 7), (2, 3, 5)])
def test_load_data_keeps_channels_first(tmp_path, shape):
    X = images(*shape)
    data, notes = load_with_warnings(write_npz(tmp_path, X=X, y=LABELS))
    assert (data.shape, notes) == (shape, [])
    np.testing.assert_allclose(data.X, standardize(X.reshape(5, -1)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(3, 8, 4), (1, 8, 1), (4, 4, 3), (3, 3, 3), (1, 1, 3)])
def test_load_data_with_ambiguous_channels_names_the_option(tmp_path, shape):
    X = images(*shape)
    path = write_npz(tmp_path, X=X, y=LABELS)
    refused(
        rf"arrays.npz: X has shape \(5, {shape[0]}, {shape[1]}, {shape[2]}\); the first or the last "
        r"axis of an image can be its channels; set channels='first' or 'last' in load_data "
        r"\(--channels first, --channels last\)$",
        path,
    )
    first, last = (load_with_warnings(path, channels=channels) for channels in ("first", "last"))
    assert (first[1], last[1]) == ([], [])
    assert (first[0].shape, last[0].shape) == (shape, (shape[2], *shape[:2]))
    np.testing.assert_allclose(first[0].X, standardize(X.reshape(5, -1)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        last[0].X, standardize(np.moveaxis(X, 3, 1).reshape(5, -1)), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    ("shape", "channels"), [((6, 5, 3), "first"), ((6, 5, 2), "last"), ((3, 5, 8), "last")]
)
def test_load_data_uses_the_channels_option(tmp_path, shape, channels):
    X = images(*shape)
    data, notes = load_with_warnings(write_npz(tmp_path, X=X, y=LABELS), channels=channels)
    right = X if channels == "first" else np.moveaxis(X, 3, 1)
    assert (data.shape, notes) == (right.shape[1:], [])
    np.testing.assert_allclose(data.X, standardize(right.reshape(5, -1)), rtol=1e-6, atol=1e-7)


def test_load_data_accepts_grey_images_of_any_layout(tmp_path):
    grey = images(6, 5)
    layouts = [grey, grey[:, None], grey[..., None]]
    result = [load_with_warnings(write_npz(tmp_path, X=X, y=LABELS))[0] for X in layouts]
    assert [data.shape for data in result] == [(1, 6, 5)] * 3
    assert len({data.fingerprint for data in result}) == 1


@pytest.mark.parametrize("scale", [1, 255, 1 / 255])
def test_load_data_standardizes_images_of_any_scale(tmp_path, scale):
    X = images(6, 5, 3)
    as_bytes, _ = load_with_warnings(write_npz(tmp_path, X=X, y=LABELS))
    as_floats, _ = load_with_warnings(
        write_npz(tmp_path, X=X.astype(np.float32) * np.float32(scale), y=LABELS)
    )
    assert as_floats.shape == as_bytes.shape == (3, 6, 5)
    np.testing.assert_allclose(as_floats.X, as_bytes.X, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "pair",
    [
        lambda X: (X, LABELS),
        lambda X: [torch.from_numpy(X), torch.from_numpy(LABELS)],
        lambda X: (torch.from_numpy(X.astype(np.float32)).requires_grad_(), LABELS.tolist()),
        lambda X: (np.asfortranarray(X), LABELS[:, None]),
        lambda X: (X.tolist(), torch.from_numpy(LABELS)),
        lambda X: (torch.from_numpy(X).bfloat16(), LABELS),
    ],
    ids=["arrays", "tensors", "gradient", "fortran and column", "lists", "bfloat16"],
)
def test_load_data_moves_the_channels_of_arrays_and_tensors(tmp_path, pair):
    X = images(6, 5, 3)
    data, notes = load_with_warnings(pair(X))
    saved, _ = load_with_warnings(write_npz(tmp_path, X=X, y=LABELS))
    assert (data.name, data.shape, len(notes)) == ("arrays", (3, 6, 5), 1)
    np.testing.assert_allclose(data.X, saved.X, rtol=1e-6)
    np.testing.assert_array_equal(data.y, LABELS)
    refused(
        "arrays: X has shape .* the first or the last axis of an image can be its channels",
        pair(images(3, 5, 4)),
    )


def test_conv_net_receives_images_in_the_right_layout():
    X = images(6, 5, 3)
    data, _ = load_with_warnings((X, LABELS))
    network = ConvNet(num_features=90, num_classes=2, image_shape=data.shape)
    pixels = torch.unflatten(torch.from_numpy(data.X), 1, network.image_shape)
    flat = X.astype(np.float64)
    np.testing.assert_allclose(
        pixels.permute(0, 2, 3, 1).numpy(), (flat - flat.mean()) / flat.std(ddof=1), rtol=1e-5, atol=1e-6
    )
    assert network(pixels).equal(network(torch.from_numpy(data.X)))


@pytest.mark.parametrize("shape", [(6, 5, 3), (5, 6, 3), (3, 5, 6), (1, 9, 10)])
def test_conv_net_refuses_images_of_another_shape(shape):
    model = ConvNet(num_features=90, num_classes=2, image_shape=(3, 6, 5))
    message = (
        rf"images have shape \({', '.join(map(str, shape))}\); "
        r"this network takes \(channels, height, width\) = "
    )
    with pytest.raises(UsageError, match=message + r"\(3, 6, 5\)$"):
        model(torch.zeros(2, *shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits",), "channels 'last' is not used with 'digits'; omit it"),
        (("mnist",), "channels 'last' is not used with 'mnist'"),
        (("some.csv",), "channels 'last' is not used with 'some.csv'"),
        (
            ((np.eye(4), [0, 1, 0, 1]),),
            r"arrays: X has shape \(4, 4\), but channels needs images \(n, c, h, w\) or \(n, h, w, c\); ",
        ),
        (
            ((np.ones((4, 2, 2)), [0, 1, 0, 1]),),
            r"but channels needs images \(n, c, h, w\) or \(n, h, w, c\); omit channels='last'$",
        ),
    ],
)
def test_load_data_refuses_channels_without_a_channel_axis(arguments, message):
    refused(message, *arguments, channels="last")


@pytest.mark.parametrize("channels", ["middle", "", "FIRST", 3])
def test_load_data_refuses_unknown_channels(channels):
    refused(f"channels must be 'first' or 'last', got {channels!r}", "some.npz", channels=channels)


def test_load_data_reads_grey_idx_images_without_a_note(tmp_path):
    data, notes = load_with_warnings("mnist", write_images(tmp_path, images(6, 3), LABELS.astype(np.uint8)))
    assert (data.shape, notes) == ((1, 6, 3), [])


# ---- a Dataset created directly ----------------------------------------------------------------------------


def create_dataset(shape: tuple[int, ...], rows: tuple[int, ...] = (5, 90), **more: object) -> Dataset:
    return Dataset(np.zeros(rows, np.float32), LABELS, "direct", "0" * 16, (0, 1), shape, **more)


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 9, 10), (10, 9, 1)])
def test_dataset_accepts_a_shape_with_channels_first(shape):
    assert create_dataset(shape, channels="first").shape == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (6, 5, 3)}, r"direct: shape is \(6, 5, 3\), .* looks like \(height, width, channels\)"),
        ({"shape": (10, 9, 1)}, r"load_data\(\(X, y\)\) moves the channels to the front"),
        ({"shape": (3, 6, 6)}, r"direct: shape is \(3, 6, 6\); it must be .* with a product of 90"),
        ({"shape": (9, 10)}, r"direct: shape is \(9, 10\); it must be \(channels, height, width\)"),
        (
            {"shape": (), "rows": (5, 6, 5, 3)},
            r"direct: X has shape \(5, 6, 5, 3\) .* X must be \(n, d\)",
        ),
        (
            {"shape": (), "rows": (4, 90)},
            r"direct: X has shape \(4, 90\) and y \(5,\); .* with the same n as y",
        ),
        ({"shape": (3, 6, 5), "channels": "last"}, "channels must be 'first' or None, got 'last'"),
    ],
)
def test_dataset_rejects_shapes_that_do_not_fit(arguments, message):
    with pytest.raises(UsageError, match=message):
        create_dataset(**arguments)


@pytest.mark.parametrize(
    ("X", "y", "classes", "message"),
    [
        (
            np.zeros((5, 2)),
            LABELS,
            (0, 1),
            "X has type ndarray and dtype float64; .* of float32 or int64; load_data",
        ),
        (
            torch.zeros(5, 2),
            LABELS,
            (0, 1),
            "X has type Tensor and dtype torch.float32; it must be a NumPy array",
        ),
        ([[0.0]] * 5, LABELS, (0, 1), "X has type list and dtype None"),
        (np.zeros((5, 2), np.float32), LABELS.astype(np.int32), (0, 1), "y has type ndarray and dtype int32"),
        (np.zeros((5, 2), np.float32), LABELS, (), "y has type ndarray and dtype int64; .* array of float32"),
        (np.zeros((5, 2), np.float32), LABELS + 1, (0, 1), r"y must have labels \(n,\) from 0 to 1"),
        (
            np.zeros((5, 2), np.float32),
            LABELS[:, None],
            (0, 1),
            "dtype int64; it must be a NumPy array of float32",
        ),
    ],
)
def test_dataset_rejects_arrays_of_another_type(X, y, classes, message):
    with pytest.raises(UsageError, match=message):
        Dataset(X, y, "direct", "0" * 16, classes)

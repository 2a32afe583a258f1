"""Fixed test sets and groups in load_data."""

import numpy as np
import pandas as pd
import pytest

from actlab.data import load_data
from actlab.errors import DataWarning, UsageError
from tests.datasets import encode_idx, refused, standardize, write_images

TRAIN = pd.DataFrame({"a": [0.0, 2, 4, 6], "b": [1.0, 1, 3, 3], "kind": ["x", "y", "x", "y"]})
TEST = pd.DataFrame({"kind": ["y", "x"], "b": [9.0, 1], "a": [100.0, 2]})
X = np.arange(12.0).reshape(6, 2)
LABELS = np.array([0, 1, 0, 1, 0, 1])


def test_load_data_appends_a_test_table_and_scales_by_the_training_samples():
    data = load_data(TRAIN, target="kind", test=TEST)
    assert data.test_rows.tolist() == [4, 5]
    assert (data.y.tolist(), data.test_name) == ([0, 1, 0, 1, 1, 0], "DataFrame")
    a, b = TRAIN["a"], TRAIN["b"]
    expected = np.column_stack([(100 - a.mean()) / a.std(ddof=0), (9 - b.mean()) / b.std(ddof=0)])
    np.testing.assert_allclose(data.X[4:5], expected, rtol=1e-6)
    np.testing.assert_allclose(data.scale(np.arange(4)), data.X, rtol=1e-6)


def test_load_data_warns_of_test_samples_in_the_training_data(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2, np.nan, 4], "b": ["p", None, "q", "p"], "kind": ["x", "y", "x", "y"]})
    table, csv = pd.concat([frame, TRAIN[["a", "kind"]]]), tmp_path / "train.csv"
    table.to_csv(csv, index=False)
    integers = np.arange(12).reshape(6, 2)
    y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    for source, test, options, number in [
        (csv, csv, {"target": "kind"}, "8 of 8"),
        (frame, frame[1:3], {"target": "kind"}, "2 of 2"),
        (frame, frame.assign(b="z")[:2], {"target": "kind", "drop": "b"}, "2 of 2"),
        ((frame[["a", "b"]], frame["kind"]), (frame[["a", "b"]], ["x", "y", "y", "x"]), {}, "2 of 4"),
        ((X, LABELS), (X[1:4], LABELS[1:4]), {}, "3 of 3"),
        ((integers, LABELS), (integers[1:4].astype(float), LABELS[1:4]), {}, "3 of 3"),
        ((X, y), (X[:3], [1.0, 9.0, 3.0]), {"regression": True}, "2 of 3"),
    ]:
        with pytest.warns(DataWarning, match=f": {number} test samples also occur in the training data;"):
            load_data(source, test=test, **options)


def test_load_data_reads_a_test_file(tmp_path):
    TRAIN.to_csv(tmp_path / "train.csv", index=False)
    TEST.to_csv(tmp_path / "test.csv", index=False)
    data = load_data(tmp_path / "train.csv", target="kind", test=tmp_path / "test.csv")
    assert (data.name, data.test_name, data.test_rows.tolist()) == ("train.csv", "test.csv", [4, 5])


def test_load_data_appends_test_arrays():
    data = load_data((X[:4], LABELS[:4]), test=(X[4:], LABELS[4:]))
    assert data.test_rows.tolist() == [4, 5]
    alone = load_data((X[:4], LABELS[:4]))
    np.testing.assert_allclose(data.X[:4], alone.X, rtol=1e-6)
    assert load_data((X[:4], LABELS[:4].reshape(-1, 1)), test=(X[4:], [[0], [1]])).y.tolist() == [*LABELS]


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_load_data_gives_images_the_common_scale_of_the_training_samples(dtype):
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 2)).astype(dtype)
    images[4:] //= 2
    data = load_data((images[:4], LABELS[:4]), test=(images[4:], LABELS[4:]))
    alone = load_data((images[:4], LABELS[:4]))
    np.testing.assert_array_equal(data.X[:4], alone.X)
    train = images[:4].astype(np.float64)
    expected = (images[4:] - train.mean()) / train.std(ddof=1)
    np.testing.assert_allclose(data.X[4:], expected.reshape(2, 4), rtol=1e-6)


def test_load_data_reads_t10k(tmp_path):
    write_images(tmp_path)
    images, labels = np.full((2, 2, 2), 7, np.uint8), np.array([1, 0], np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(encode_idx(images))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    data = load_data("mnist", tmp_path, test="t10k")
    assert (data.test_rows.tolist(), data.y.tolist(), data.shape) == ([3, 4], [0, 1, 0, 1, 0], (1, 2, 2))
    np.testing.assert_array_equal(data.X[:3], standardize(np.arange(12).reshape(3, 4)))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (TEST.drop(columns="a"), "DataFrame: the test set must have the columns of the data; it lacks a"),
        (TEST.assign(c=1.0), "DataFrame: the test set must have the columns of the data; it has c"),
        (
            TEST.rename(columns={"a": "A"}),
            "DataFrame: the test set must have the columns of the data; it lacks a and has A",
        ),
        (
            TEST.assign(a=["p", "q"]),
            "DataFrame: column 'a' contains text, but numbers in the data; "
            "the test set must have columns like those of the data",
        ),
        ((X, LABELS), "the test set is arrays, but the data are a table; pass the same kind"),
        ("t10k", "test 't10k' needs a named set of images, got 'DataFrame'; pass a file or data"),
        (
            TEST.assign(kind=["y", "z"]),
            "DataFrame: labels that only the test set has: z; no model can learn them; "
            "remove these samples, or add such samples to the data",
        ),
    ],
    ids=["missing", "more", "renamed", "text", "arrays", "t10k", "label"],
)
def test_load_data_refuses_a_test_set_that_does_not_fit(test, message):
    refused(message, TRAIN, target="kind", test=test)


def test_load_data_refuses_test_samples_of_another_shape():
    refused(
        r"arrays: the test set has samples of shape \(3,\), but those of the data have \(2,\)",
        (X, LABELS),
        test=(np.ones((2, 3)), [0, 1]),
    )


def test_load_data_refuses_test_and_groups_for_a_dataset():
    data = load_data((X, LABELS))
    for options in ({"test": (X, LABELS)}, {"groups": LABELS}, {"weights": LABELS}):
        refused(
            "test, groups and weights are not used with a Dataset; pass them when you load it",
            data,
            **options,
        )
    refused(
        "test is a Dataset, which is scaled already; pass what you loaded it from", (X, LABELS), test=data
    )


# -- groups ---------------------------------------------------------------------------------------------


def test_load_data_takes_a_column_of_groups_out_of_the_features():
    frame = TRAIN.assign(who=["p2", "p1", "p2", "p3"])
    data = load_data(frame, target="kind", groups="who")
    assert data.groups.tolist() == [0, 1, 0, 2]
    np.testing.assert_array_equal(data.X, load_data(TRAIN, target="kind").X)


def test_load_data_takes_an_array_of_groups():
    assert load_data((X, LABELS), groups=["a", "b", "b", "a", "c", "c"]).groups.tolist() == [0, 1, 1, 0, 2, 2]
    data = load_data((X[:4], LABELS[:4]), test=(X[4:], LABELS[4:]), groups=[7, 7, 5, 5])
    assert data.groups.tolist() == [0, 0, 1, 1, -1, -1]  # those of test samples are not needed


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            "wo",
            "DataFrame: groups must be a column or one value per sample, got 'wo' (did you mean 'who'?); "
            "the columns are a, b, kind, who",
        ),
        (
            [1, 2],
            "DataFrame: groups has 2 values for 4 samples; pass one for each sample, or the name of a column",
        ),
        ("who", "DataFrame: sample 1 has no group; fill it in, or drop such samples"),
    ],
)
def test_load_data_refuses_groups_that_do_not_fit(groups, message):
    frame = TRAIN.assign(who=["p2", None, "p2", "p3"])
    with pytest.raises(UsageError) as caught:
        load_data(frame, target="kind", groups=groups)
    assert str(caught.value) == message


def test_load_data_refuses_a_column_name_without_columns():
    message = "digits has no columns; pass groups as one value per sample, not 'who'"
    with pytest.raises(UsageError, match=f"^{message}$"):
        load_data("digits", groups="who")


@pytest.mark.parametrize("option", ["groups", "weights", "drop"])
@pytest.mark.parametrize(("name", "hint"), [("aa", " (did you mean 'a'?)"), ("zzz", "")])
def test_load_data_lists_the_columns(option, name, hint):
    with pytest.raises(UsageError, match="got") as caught:
        load_data(TRAIN, target="kind", **{option: name})
    assert str(caught.value).endswith(f", got {name!r}{hint}; the columns are a, b, kind")

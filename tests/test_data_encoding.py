"""load_data of tables with categories, missing values, dates and identifiers, and of data in memory."""

from __future__ import annotations

import datetime
import decimal
from collections import namedtuple

import numpy as np
import pandas as pd
import psutil
import pytest
import scipy.sparse
import torch

from actlab import Dataset, DataWarning, UsageError, load_data
from tests.datasets import refused, standardize, standardize_columns, write_csv

N = 40
Y = np.arange(N) % 2
NUMBERS = np.random.default_rng(0).normal(size=N)


def encode(**columns: object) -> Dataset:
    return Dataset.from_frame(pd.DataFrame({**columns, "y": Y}), "y")


# ---- categories --------------------------------------------------------------------------------------------

COLOURS = ["red", "green", "blue", "green"] * 10


@pytest.mark.parametrize(
    "values",
    [
        COLOURS,
        pd.Categorical(COLOURS, categories=["white", "red", "green", "blue"]),
        pd.array(COLOURS, dtype="string"),
        np.array([*map(str.encode, COLOURS)]).astype(str),
    ],
)
def test_from_frame_encodes_a_category_as_one_column_per_level(values):
    data = encode(colour=values)
    levels = ["blue", "green", "red"]
    np.testing.assert_array_equal(data.encoded, [[c == level for level in levels] for c in COLOURS])
    np.testing.assert_array_equal(data.X, standardize_columns(data.encoded))
    assert data.preprocessing == "3 features from 1 category (3 columns)"


@pytest.mark.parametrize(
    ("values", "ones"),
    [
        (["no", "yes"], [0, 1]),
        ([True, False], [1, 0]),
        (pd.array([True, False] * 20, dtype="boolean"), [1, 0]),
        (pd.Categorical([5, 7] * 20), [0, 1]),
        (np.array([True, False] * 20, object), [1, 0]),
    ],
)
def test_from_frame_encodes_two_levels_in_one_column(values, ones):
    data = encode(a=values if len(values) == N else values * 20)
    np.testing.assert_array_equal(data.encoded[:, 0], ones * 20)
    assert data.preprocessing == "1 category (1 column)"


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_from_frame_makes_a_missing_category_a_level_of_its_own(missing):
    data = encode(a=["x", "z", missing, "y"] * 10)
    np.testing.assert_array_equal(data.encoded, [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]] * 10)
    assert encode(a=pd.array([True, None] * 20, dtype="boolean")).encoded[:, 0].tolist() == [0, 1] * 20


def test_from_frame_groups_rare_levels_of_a_category():
    frequent = [f"town {i:02}" for i in range(49) for _ in range(3)]
    rare = [f"village {i}" for i in range(9)]
    frame = pd.DataFrame({"place": [*rare, *frequent], "y": [0, 1] * 78})
    data = Dataset.from_frame(frame, "y")
    assert data.encoded.shape == (156, 50)
    assert data.encoded.sum(axis=0).tolist() == [3] * 49 + [9]
    assert data.encoded[:9, 49].all()
    assert data.preprocessing == (
        "50 features from 1 category (50 columns); "
        "place: 58 levels, of which the 49 most frequent have their own column"
    )


# ---- missing values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [None, "", "NA", "?", "n/a", "null", " - "])
def test_from_frame_imputes_missing_numbers_and_indicates_them(marker):
    values = [*map(str, NUMBERS[:-2]), marker, marker]
    data = encode(a=values)
    present = NUMBERS[:-2]
    np.testing.assert_allclose(data.X[:-2, 0], (present - present.mean()) / present.std(), rtol=1e-5)
    assert data.X[-2:, 0].tolist() == [0, 0]
    assert data.encoded[:, 1].tolist() == [0] * 38 + [1] * 2
    assert data.preprocessing == "2 features from 1 numeric (2 columns); 2 missing values imputed and marked"


def test_from_arrays_imputes_missing_numbers_and_appends_indicators():
    X = np.column_stack([NUMBERS, NUMBERS**2, np.full(N, np.nan)])
    X[3, 1] = np.nan
    data = load_data((X, Y))
    assert data.X.shape == (N, 4)  # a column without any number needs no indicator
    np.testing.assert_allclose(data.X[:, 0], standardize_columns(X[:, :1])[:, 0], rtol=1e-5)
    assert (data.X[3, 1], data.X[:, 2].any()) == (0, False)
    assert data.encoded[:, 3].tolist() == [float(i == 3) for i in range(N)]
    assert data.preprocessing == "4 features from 3 numeric; 41 missing values imputed and marked"
    refused("X has missing values, but scale is 'none'; fill them in, or set", (X, Y), scale="none")


# ---- dates -------------------------------------------------------------------------------------------------

DAYS = pd.date_range("2023-12-25", periods=N)


@pytest.mark.parametrize(
    "values",
    [
        DAYS,
        DAYS.tz_localize("UTC"),
        DAYS.astype(str),
        [day.date() for day in DAYS],
        [day.to_pydatetime() for day in DAYS],
        DAYS.strftime("%d.%m.%Y"),
        DAYS.strftime("%m/%d/%Y"),
        DAYS.strftime("%d/%m/%Y"),
        DAYS.strftime("%Y/%m/%d"),
        DAYS.strftime("%b %d, %Y"),
        DAYS.strftime("%Y-%m-%dT%H:%M:%SZ"),
        [*DAYS.astype(str)[:-1], " 2024-02-02 "],
    ],
)
def test_from_frame_expands_dates(values):
    data = encode(when=values)
    days = (DAYS - pd.Timestamp("1970-01-01")).days
    parts = [days, DAYS.year, DAYS.month, DAYS.day, DAYS.day_of_week]
    np.testing.assert_array_equal(data.encoded, np.column_stack(parts))
    assert data.preprocessing == "5 features from 1 date (5 columns)"


def test_from_frame_expands_times_and_indicates_missing_dates():
    stamps = pd.Series(pd.date_range("2024-05-06 00:00", periods=N, freq="h").astype(str))
    stamps[4] = None
    data = encode(when=stamps)
    np.testing.assert_allclose(np.diff(data.encoded[5:, 0]), 1 / 24, rtol=1e-6)
    assert data.encoded[5:29, 3].tolist() == [*range(5, 24), *range(5)]
    assert np.isnan(data.encoded[4, :4]).all()
    assert data.encoded[:, 4].tolist() == [float(i == 4) for i in range(N)]
    assert data.preprocessing == "5 features from 1 date (5 columns); 1 missing value imputed and marked"


def test_from_frame_reads_durations_as_days():
    data = encode(wait=pd.to_timedelta(np.arange(N) ** 2, unit="h"))
    np.testing.assert_allclose(data.encoded[:, 0], np.arange(N) ** 2 / 24)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            DAYS.strftime("%m/%d/%Y")[7:19],
            "contains '01/01/2024' in row 0 .*; month or day may come f",
        ),
        ([*DAYS.astype(str)[:11], "soon"], "contains 'soon' in row 11 .*; correct this date, or leave the"),
    ],
)
def test_from_frame_refuses_dates_that_are_ambiguous_or_wrong(values, message):
    frame = pd.DataFrame({"when": values, "y": [0, 1] * 6})
    refused(f"DataFrame: feature column 'when' {message}", frame, target="y")


# ---- columns that are dropped ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("row", range(N), "identifier"),
        ("a", range(1, N + 1), "identifier"),
        ("id", np.random.default_rng(0).permutation(10**6)[:N], "identifier"),
        ("PassengerId", [3 * i for i in range(N)], "identifier"),
        ("customer_id", [7 * i + 1.0 for i in range(N)], "identifier"),
        ("name", [f"person {i}" for i in range(N)], "identifier"),
        ("unit", ["kg"] * N, "constant"),
        ("zero", [0.0] * N, "constant"),
        ("flag", [True] * N, "constant"),
        ("day", [datetime.date(2024, 1, 1)] * N, "constant"),
        ("nothing", [None] * N, "empty"),
        ("nan", [np.nan] * N, "empty"),
    ],
)
def test_from_frame_drops_columns_without_information(column, values, reason):
    data = encode(x=NUMBERS, **{column: values})
    np.testing.assert_array_equal(data.X, encode(x=NUMBERS).X)
    assert data.preprocessing == f"1 numeric; dropped: {column} ({reason})"
    refused(rf"DataFrame: no feature is left; dropped: {column} \({reason}\)$", encode_frame(column, values))


def encode_frame(column: str, values: object) -> tuple[pd.DataFrame, np.ndarray]:
    return pd.DataFrame({column: values}), Y


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("width", [3 * i for i in range(N)]),
        ("grid", [3 * i for i in range(N)]),
        ("id", [i // 2 for i in range(N)]),
        ("id", NUMBERS),
        ("a", range(N, 0, -1)),
        ("a", range(2, N + 2)),
        ("fluid", [3 * i for i in range(N)]),
    ],
)
def test_from_frame_keeps_numbers_that_are_not_identifiers(column, values):
    np.testing.assert_array_equal(encode(**{column: values}).encoded[:, 0], np.array(values, float))


def test_from_frame_keeps_columns_of_small_tables():
    frame = pd.DataFrame({"a": range(6), "b": [*"uvwxyz"], "y": [0, 1] * 3})
    assert Dataset.from_frame(frame, "y").encoded.shape == (6, 7)


def test_from_frame_lists_at_most_ten_dropped_columns():
    data = encode(x=NUMBERS, **{f"c{i}": [1] * N for i in range(12)})
    assert data.preprocessing.endswith(", c9 (constant), 2 more")


# ---- columns with errors, and unusual values ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [*range(39), "12 kg"],
            "contains '12 kg' in row 39 .counted from 0.; correct it, or drop the",
        ),
        ([*range(39), "1,234"], "contains '1,234' in row 39 .*; write numbers as 1234.5, or read"),
        ([*range(39), np.inf], "contains 'inf' in row 39 .*; replace it, or leave the cell empty$"),
        ([*range(39), "-inf"], "contains '-inf' in row 39"),
        (
            [*range(39), [1]],
            r"contains '\[1\]' in row 39 .*; use numbers, text or dates, or drop",
        ),
        ([*range(39), {}], "contains '{}' in row 39"),
    ],
)
def test_from_frame_refuses_damaged_columns(values, message):
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object), "y": Y})
    refused(f"DataFrame: feature column 'a' {message}", frame, target="y")


def test_from_frame_reads_codes_among_numbers_as_a_category():
    data = encode(dependents=["0", "1", "2", "3+"] * 10)
    assert data.preprocessing == "4 features from 1 category (4 columns)"
    assert encode(dependents=[0, 1, 2, "3+"] * 10).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "values",
    [
        [decimal.Decimal(i * i) for i in range(N)],
        [str(i * i) for i in range(N)],
        [f" {i * i} " for i in range(N)],
        pd.array([i * i for i in range(N)], dtype="Int64"),
        [*[i * i for i in range(N - 1)], "1521"],
    ],
)
def test_from_frame_reads_numbers_of_any_type(values):
    np.testing.assert_array_equal(encode(a=values).encoded[:, 0], np.arange(N) ** 2)


def test_from_frame_keeps_the_digits_of_large_integers_that_are_close_together():
    values = 10**17 + 64 * (np.arange(N) ** 2 % 7)
    np.testing.assert_allclose(
        encode(a=values).X, standardize_columns((np.arange(N) ** 2 % 7)[:, None]), rtol=1e-6
    )
    assert encode(a=[10**30 * i for i in range(N)]).X[:, 0].tolist() == pytest.approx(
        standardize_columns(np.arange(N)[:, None])[:, 0].tolist()
    )


def test_load_data_refuses_a_table_without_rows_or_with_one_class(tmp_path):
    refused(r"X has shape \(0, 1\); at least one sample", write_csv(tmp_path, "a,kind\n"), target="kind")
    refused("every label is 0; at least two classes", pd.DataFrame({"a": [1, 2], "y": [0, 0]}), target="y")


@pytest.mark.parametrize("scale", ["columns", "common", "none"])
def test_load_data_refuses_more_features_than_memory_holds(monkeypatch, scale):
    free = namedtuple("free", "available")(2000)
    frame = pd.DataFrame({"a": COLOURS, "y": Y})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    message = r"3 features after encoding need 0.0 GiB of memory, but 0.0 GiB are available; drop columns or"
    if scale == "columns":
        monkeypatch.setattr(psutil, "virtual_memory", lambda: free._replace(available=1439))
        refused(f"DataFrame: {message}", frame, target="y", scale=scale)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: free._replace(available=1440))
    assert load_data(frame, target="y", scale=scale).X.shape == (N, 3)


# ---- files -------------------------------------------------------------------------------------------------


def test_load_data_reads_a_table_with_columns_of_all_kinds(tmp_path):
    header = "id,size,colour,bought,weight,unit,kind"
    lines = [
        f"{100 + 7 * i},{NUMBERS[i]},{COLOURS[i]},{DAYS[i].date()},{'' if i < 3 else i * i},kg,{'ab'[Y[i]]}"
        for i in range(N)
    ]
    path = write_csv(tmp_path, "\n".join([header, *lines]))
    data = load_data(path, target="kind")
    assert data.X.shape == (N, 1 + 3 + 5 + 2)
    assert data.preprocessing == (
        "11 features from 2 numeric (3 columns), 1 category (3 columns), 1 date (5 columns); "
        "3 missing values imputed and marked; "
        "dropped: id (identifier), unit (constant)"
    )
    frame = pd.read_csv(path)
    assert data.fingerprint == load_data(frame, target="kind").fingerprint
    frame.to_parquet(tmp_path / "table.parquet")
    assert load_data(tmp_path / "table.parquet", target="kind").fingerprint == data.fingerprint
    frame.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    assert load_data(tmp_path / "table.tsv", target="kind").fingerprint == data.fingerprint
    frame.to_csv(tmp_path / "indexed.csv.gz")  # with the index, in a column without a name
    assert load_data(tmp_path / "indexed.csv.gz", target="kind").fingerprint == data.fingerprint


def test_load_data_of_parquet_without_pyarrow_names_it(tmp_path, monkeypatch):
    pd.DataFrame({"a": [1, 2], "y": [0, 1]}).to_parquet(path := tmp_path / "table.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    refused("table.parquet: Parquet files need pyarrow: pip install pyarrow$", path, target="y")


@pytest.mark.parametrize(
    "text",
    [
        "5.1,3.5,rose\n4.9,3.0,iris\n6.2,2.5,rose\n",
        "1;14.2;0\n2;13.1;1\n1;12.4;0\n",
        "0,0,7,1\n3,1,5,0\n0,0,2,1\n",
    ],
)
def test_load_data_reads_csv_without_a_header_line(tmp_path, text):
    width = len(text.splitlines()[0].replace(";", ",").split(","))
    note = f"flowers.csv: no header line was found; the columns are c1 to c{width}"
    with pytest.warns(DataWarning, match=note):
        data = load_data(write_csv(tmp_path, text), target=f"c{width}")
    assert (len(data.X), data.num_classes) == (3, 2)


@pytest.mark.parametrize("header", ["1100.5,1101.5,protein", "0,1,2", "2019,2020,kind", "a,b,5"])
def test_load_data_accepts_numbers_as_column_names(tmp_path, header):
    path = write_csv(tmp_path, f"{header}\n5.1,3.5,u\n4.9,3.0,v\n6.2,2.5,u\n")
    assert len(load_data(path, target=header.split(",")[2]).X) == 3


# ---- tables and datasets in memory -------------------------------------------------------------------------


def test_load_data_takes_features_and_targets_of_scikit_learn_as_frames():
    from sklearn.datasets import load_wine

    X, y = load_wine(return_X_y=True, as_frame=True)
    data = load_data((X, y))
    np.testing.assert_array_equal(data.X, load_data((X.to_numpy(), y.to_numpy())).X)
    assert data.fingerprint == load_data(X.assign(y=y), target="y").fingerprint
    refused("channels 'last' is not used with 'table and targets'; omit it", (X, y), channels="last")


class OtherFrame:
    """A table of another library, which converts itself to pandas as polars and pyarrow do."""

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame({"a": NUMBERS, "y": Y})


def test_load_data_converts_tables_of_other_libraries():
    import pyarrow

    expected = load_data(OtherFrame().to_pandas(), target="y").fingerprint
    assert load_data(OtherFrame(), target="y").fingerprint == expected
    assert load_data(pyarrow.Table.from_pandas(OtherFrame().to_pandas()), target="y").fingerprint == expected
    refused("DataFrame: set target; the label column is one of a, y$", OtherFrame())


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_load_data_takes_sparse_features(kind, monkeypatch):
    X = np.where(NUMBERS[:, None] > np.array([0, 1.0]), NUMBERS[:, None], 0)
    np.testing.assert_array_equal(load_data((kind(X), Y)).X, load_data((X, Y)).X)
    free = namedtuple("free", "available")(639)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    refused("the values of a sparse matrix need 0.0 GiB of memory, but 0.0 GiB are available", (kind(X), Y))


class Photos(torch.utils.data.Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.images[index]), int(self.labels[index])


def test_load_data_reads_a_dataset_of_torch():
    images = np.random.default_rng(0).normal(size=(N, 3, 6, 5)).astype(np.float32)
    data = load_data(Photos(images, Y))
    assert (data.name, data.shape) == ("torch Dataset", (3, 6, 5))
    np.testing.assert_array_equal(data.X, load_data((images, Y)).X)
    half = torch.utils.data.Subset(Photos(images, Y), range(0, N, 3))
    np.testing.assert_array_equal(load_data(half).X, load_data((images[::3], Y[::3])).X)
    table = torch.utils.data.TensorDataset(torch.from_numpy(images[:, 0, 0]), torch.from_numpy(Y))
    assert load_data(table).fingerprint == load_data((images[:, 0, 0], Y)).fingerprint


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.zeros((2, 2)), np.zeros((1, 2))], "all input arrays must have the same shape"),
        ([], "IndexError"),
        ([0, 1], "TypeError"),
    ],
)
def test_load_data_reports_errors_of_a_dataset_of_torch(images, message):
    start = "cannot read a dataset of type Photos: "
    refused(f"{start}.*{message}.*; it must return .sample, target., and all", Photos(images, [0, 1]))


# ---- scales ------------------------------------------------------------------------------------------------


def test_load_data_scales_all_columns_together_or_not_at_all():
    X = np.column_stack([NUMBERS, 100 * NUMBERS**2])
    common, none = (load_data((X, Y), scale=scale) for scale in ("common", "none"))
    np.testing.assert_array_equal(common.X, standardize(X))
    np.testing.assert_array_equal(none.X, X.astype(np.float32))
    assert (common.preprocessing, none.preprocessing) == (
        "2 numeric; one scale for all",
        "2 numeric; not scaled",
    )
    assert len({common.fingerprint, none.fingerprint, load_data((X, Y)).fingerprint}) == 3
    refused("scale must be one of columns, common, none, got 'rows'", (X, Y), scale="rows")


def test_load_data_scales_bytes_and_images_together_by_default():
    X = np.random.default_rng(0).integers(0, 256, (N, 4), np.uint8)
    np.testing.assert_allclose(load_data((X, Y)).X, standardize(X), rtol=1e-6)
    np.testing.assert_allclose(
        load_data((X, Y), scale="columns").X, standardize_columns(X), rtol=1e-5, atol=1e-6
    )
    images = load_data((X.reshape(N, 2, 2).astype(float), Y), scale="columns")
    np.testing.assert_allclose(images.X, standardize_columns(X), rtol=1e-5, atol=1e-6)
    assert images.shape == (1, 2, 2)


def test_load_data_returns_a_dataset_unchanged():
    data = load_data((NUMBERS[:, None], Y))
    assert load_data(data) is data
    with pytest.raises(UsageError, match="target 'y' is not used with 'Dataset'"):
        load_data(data, target="y")


def test_scale_uses_only_the_given_rows():
    X = np.column_stack([NUMBERS, np.where(np.arange(N) < 30, 5.0, NUMBERS), NUMBERS])
    X[::4, 2] = np.nan
    data = load_data((X, Y))
    rows = np.arange(30)
    scaled = data.scale(rows)
    np.testing.assert_allclose(
        scaled[:, 0], (NUMBERS - NUMBERS[:30].mean()) / NUMBERS[:30].std(), rtol=1e-5, atol=1e-6
    )
    assert not scaled[:, 1].any()  # constant over the rows
    assert not scaled[::4, 2].any()
    assert scaled[rows, 2].sum() == pytest.approx(0, abs=1e-5)
    common = load_data((X[:, :1], Y), scale="common")
    assert common.scale(rows) is common.X


def test_from_frame_expands_dates_outside_of_the_range_of_nanoseconds():
    frame = pd.DataFrame({"until": ["0001-01-01", "9999-12-31"] * 10, "y": [0, 1] * 10})
    days = Dataset.from_frame(frame, "y").encoded[:2, 0]
    assert days.tolist() == [
        (datetime.date(year, month, day) - datetime.date(1970, 1, 1)).days
        for year, month, day in ((1, 1, 1), (9999, 12, 31))
    ]

"""load_data of CSV files from other programs and of pandas DataFrames."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from actlab.data import Dataset, load_data
from tests.datasets import (
    THREE,
    encode_idx,
    refused,
    standardize,
    standardize_columns,
    write_csv,
    write_images,
    write_npz,
)

FEATURES = np.array([[1.5, 20], [-3.25, 4], [0, 6]])
PLAIN = "width,height,kind\n1.5,20,rose\n-3.25,4,iris\n0,6,rose\n"


def write_bytes(tmp_path: Path, content: bytes, name: str = "flowers.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def assert_is_the_plain_table(data: Dataset) -> None:
    np.testing.assert_allclose(data.X, standardize_columns(FEATURES), rtol=1e-6)
    assert (data.classes, data.y.tolist()) == (("iris", "rose"), [1, 0, 1])


# ---- CSV dialects ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace(",", "|").encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", "\t").encode("utf-16"),  # "Unicode text" of Excel
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        gzip.compress(PLAIN.encode(), mtime=0),
        PLAIN.replace("\n", ",\n").encode(),  # a comma at the end of each line
        PLAIN.replace("\n", ";;\n").replace(",", ";").encode(),
        b"\n\n" + PLAIN.encode() + b"\n",
        b"sep=;\r\n" + PLAIN.replace("\n", "\r\n").replace(",", ";").encode(),
        b'"width","height","kind"\n"1.5","20","rose"\n"-3.25","4","iris"\n"0","6","rose"\n',
        b'"wid;th, in ""cm""";height;kind\n1.5;20;rose\n-3.25;4;iris\n0;6;rose\n',
        b"wid;th,hei;ght,kind\n1.5,20,rose\n-3.25,4,iris\n0,6,rose\n",
        b"Width, mm;Height, mm;kind\n1.5;20;rose\n-3.25;4;iris\n0;6;rose\n",
        b'"wid\nth",height,kind\n1.5,20,rose\n-3.25,4,iris\n0,6,rose\n',
    ],
)
def test_load_data_reads_csv_of_many_dialects(tmp_path, content):
    assert_is_the_plain_table(load_data(write_bytes(tmp_path, content), target="kind"))


@pytest.mark.parametrize("name", ["flowers.csv.gz", "flowers.CSV", "flowers.csv.GZ"])
def test_load_data_decompresses_csv_with_any_name(tmp_path, name):
    path = write_bytes(tmp_path, gzip.compress(PLAIN.encode(), mtime=0), name)
    assert_is_the_plain_table(data := load_data(path, target="kind"))
    assert data.name == name


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("integers", [False, True])
def test_load_data_reads_decimal_commas_with_a_warning(tmp_path, separator, integers):
    lines = ["width,height,kind", "1_5,20,rose", "-3_25,4,iris", "0,6,rose" if integers else "0_0,6,rose"]
    text = "\n".join(lines).replace(",", separator).replace("_", ",")
    with pytest.warns(
        UserWarning, match=r"^flowers.csv: commas in numbers were read as decimal points$"
    ) as one:
        data = load_data(write_csv(tmp_path, text), target="kind")
    assert [warning.filename for warning in one] == [__file__]
    assert_is_the_plain_table(data)


def test_load_data_reads_decimal_commas_of_targets_and_between_quotes(tmp_path):
    text = 'size,price\n"1,50","10,25"\n"1,234","7,5"\n"2,0","9"\n'
    with pytest.warns(UserWarning, match="commas in numbers"):
        data = load_data(write_csv(tmp_path, text), target="price", regression=True)
    np.testing.assert_array_equal(data.X, standardize_columns(np.array([[1.5], [1.234], [2]])))
    np.testing.assert_allclose(data.y, standardize(np.array([[10.25], [7.5], [9]])), rtol=1e-6)


def test_load_data_keeps_commas_in_labels(tmp_path):
    data = load_data(write_csv(tmp_path, "size;kind\n1;1,5\n2;2,5\n"), target="kind")
    assert data.classes == ("1,5", "2,5")


def test_load_data_reads_booleans_and_large_integers_as_numbers(tmp_path):
    data = load_data(
        write_csv(tmp_path, "a,b,kind\nTrue,1e3,x\nFalse,99999999999999999999,y\n"), target="kind"
    )
    np.testing.assert_allclose(data.X, standardize_columns(np.array([[1, 1e3], [0, 1e20]])), rtol=1e-6)


# ---- invalid CSV files -------------------------------------------------------------------------------------

NUMBERS = (
    r"; write numbers as 1234.5, or read the file with pandas.read_csv\(decimal=..., thousands=...\) and pass"
)
CORRECT = "; correct it, or drop the column$"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'a,kind\n"1,234",x\n"5",y\n',
            "feature column 'a' contains '1,234' in row 0 .counted from 0." + NUMBERS,
        ),
        ("a;kind\n1.234,5;x\n5;y\n", "contains '1.234,5' in row 0 .counted from 0." + NUMBERS),
        ("a;kind\n5;x\n1 234;y\n", "contains '1 234' in row 1 .counted from 0." + NUMBERS),
        (
            "a;b;kind\n1,5;2;x\n2;3.5;y\n",
            "feature column 'a' contains '1,5' in row 0 .counted from 0." + NUMBERS,
        ),
        ("a,kind\n3,x\n2024-01-31,y\n", "contains '2024-01-31' in row 1 .counted from 0." + CORRECT),
        (
            "a,kind\n31.12.2024,x\n1,y\n",
            "contains '1' in row 1 .counted from 0.; correct this date, or leave",
        ),
        (
            "a,kind\n1,x\nred,y\n3,x\n",
            "feature column 'a' contains 'red' in row 1 .*" + CORRECT,
        ),
        ("a,kind\n5 kg,x\n1,y\n", "contains '5 kg' in row 0 .counted from 0." + CORRECT),
        ("a,b,a,kind\n1,2,3,x\n", "flowers.csv: several columns have the name 'a'; rename all but one$"),
        ("kind;a;kind\n1;2;x\n", "several columns have the name 'kind'"),
        ("a,kind\n,x\n,y\n", "flowers.csv: no feature is left; dropped: a .empty.$"),
        (
            "a,,kind\n1,2,x\n1,3,y\n",
            "flowers.csv: column 2 has no name in the header; name it, or remove it$",
        ),
        (
            "a,kind\n1,x,\n1,y,\n",
            r"more fields than the header line \(a, kind\); name every column, or remove",
        ),
        ("a b kind\n1 2 x\n", "one of a b kind; separate fields by commas, semicolons or tabs$"),
        ("a,kind\n1,x\n2,\n", r"'kind' is empty in 1 of 2 rows; the first is y\[1\]; fill it in, or drop"),
        ("\n \n\t\n", "cannot read '.*flowers.csv' as CSV: it is empty"),
        ("a,kind\n", r"X has shape \(0, 1\); at least one sample"),
        ("a,kind\n1,x\n2,x\n", "every label is 'x'; at least two classes are needed"),
    ],
)
def test_load_data_reports_errors_in_csv(tmp_path, text, message):
    refused(message, write_csv(tmp_path, text), target="kind")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a,kind\n1,né\n".encode("latin-1"),
            "as CSV: byte 0xe9 at position 10 is not UTF-8; save it in UTF-8$",
        ),
        ("a,kind\n1,x€\n".encode("cp1252"), "byte 0x80 at position 10 is not UTF-8"),
        (
            PLAIN.encode("utf-16-le"),
            "as CSV: it contains a NUL character at position 1; save it as text in UTF-8$",
        ),
        (PLAIN.encode("utf-16")[:-1], "is not UTF-16; save it in UTF-8$"),
        (
            gzip.compress(PLAIN.encode(), mtime=0)[:-9],
            "cannot read '.*flowers.csv' as CSV: Compressed file ended",
        ),
        (
            b"PK\x03\x04" + bytes(30),
            "flowers.csv' is an Excel workbook or another zip archive, not CSV text; ",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1",
            "is an old Excel workbook, not CSV text; read it with pandas, and pass",
        ),
        (b"PAR1" + bytes(8), "is a Parquet file, not CSV text; read it with pandas"),
        (b"\x93NUMPY\x01\x00", "is a NumPy array file, not CSV text"),
    ],
)
def test_load_data_names_the_type_of_a_file_that_is_not_csv(tmp_path, content, message):
    refused(message, write_bytes(tmp_path, content), target="kind")


@pytest.mark.parametrize("name", ["table.xlsx", "X.npy", "flowers.txt", "flowers"])
def test_load_data_rejects_other_file_types_with_advice(tmp_path, name):
    path = write_bytes(tmp_path, PLAIN.encode(), name)
    advice = "pass a file that ends in .npz, .csv, .tsv, .parquet, or read it with pandas"
    refused(f"cannot load '.*{name}'; {advice}", path)


@pytest.mark.parametrize(
    ("count", "listed"), [(50, "c48, kind"), (51, "c48, 1 more, kind"), (73, "c48, 23 more, kind")]
)
def test_load_data_reports_the_number_of_unlisted_columns(tmp_path, count, listed):
    names = [*(f"c{i}" for i in range(count - 1)), "kind"]
    text = f"{','.join(names)}\n{','.join('1' * count)}\n"
    refused(
        f"set target .--target COLUMN.; the label column is one of c0, c1, .*, {listed}$",
        write_csv(tmp_path, text),
    )


# ---- .npz and IDX files ------------------------------------------------------------------------------------


def test_load_data_decompresses_npz_and_idx_with_any_name(tmp_path):
    plain = write_npz(tmp_path, X=THREE, y=[0, 1, 0])
    zipped = write_bytes(tmp_path, gzip.compress(plain.read_bytes()), "zipped.npz")
    images = load_data("mnist", write_images(tmp_path, gzip.compress(encode_idx(THREE))))
    assert load_data(zipped).fingerprint == load_data(plain).fingerprint == images.fingerprint
    assert load_data(zipped).shape == (1, 2, 2)


def test_load_data_rejects_an_npz_member_that_is_not_an_array(tmp_path):
    import zipfile

    with zipfile.ZipFile(path := tmp_path / "arrays.npz", "w") as file:
        file.writestr("X.npy", b"no array")
        file.writestr("y.npy", b"no array")
    refused("arrays.npz: no array 'X'; its arrays are X, y; save it with np.savez", path)


@pytest.mark.parametrize("regression", [False, True])
def test_load_data_accepts_targets_in_one_column(tmp_path, regression):
    y = np.array([[2], [7], [2]])
    column = load_data(write_npz(tmp_path, X=THREE, y=y), regression=regression)
    flat = load_data((THREE, y[:, 0]), regression=regression)
    assert column.fingerprint == flat.fingerprint


# ---- DataFrames and arrays ---------------------------------------------------------------------------------

FRAME = pd.DataFrame({"width": [1.5, -3.25, 0], "height": [20, 4, 6], "kind": ["rose", "iris", "rose"]})


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.set_index(pd.Index([7, 7, 7])),
        FRAME.astype({"kind": "category", "height": "Int64", "width": "Float32"}),
        FRAME.astype(object),
        FRAME[["kind", "width", "height"]],
        FRAME.astype({"height": str}),
    ],
    ids=["plain", "index", "nullable", "object", "order", "text"],
)
def test_load_data_reads_a_dataframe_like_its_csv_file(tmp_path, frame):
    before = frame.copy()
    assert_is_the_plain_table(data := load_data(frame, target="kind"))
    assert data.name == "DataFrame"
    assert data.fingerprint == load_data(write_csv(tmp_path, PLAIN), target="kind").fingerprint
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("labels", "classes", "y"),
    [
        ([3, 1, 3], (1, 3), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        ([1, "b", 2.5], ("1", "2.5", "b"), [0, 2, 1]),
        (pd.array([3, 1, 3], dtype="Int8"), (1, 3), [1, 0, 1]),
        (pd.Categorical([10, 9, 10], categories=[10, 9, 8]), (9, 10), [1, 0, 1]),
    ],
)
def test_load_data_accepts_labels_of_any_column_type(labels, classes, y):
    data = load_data(FRAME.assign(kind=labels), target="kind")
    assert (data.classes, data.y.tolist()) == (classes, y)


def test_load_data_reads_a_dataframe_with_numbered_columns():
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3) ** 2)
    data = load_data(frame, target=2, regression=True)
    np.testing.assert_allclose(data.X, standardize_columns(frame[[0, 1]].to_numpy()), rtol=1e-6)
    np.testing.assert_allclose(data.y, standardize(frame[[2]].to_numpy()), rtol=1e-6)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            FRAME.rename(columns={"kind": "Kind"}),
            "DataFrame: no column 'kind' .did you mean 'Kind'..; the label",
        ),
        (
            FRAME.assign(width=[1j, 2, 3]),
            "feature column 'width' contains '1j' in row 0 .counted from 0.; use numbers, text or dates",
        ),
        (
            FRAME.assign(width=[[1], [2], [3]]),
            r"feature column 'width' contains '\[1\]' in row 0",
        ),
        (FRAME.assign(kind=["a", None, "b"]), r"the label column 'kind' is empty in 1 of 3 rows; .* y\[1\]"),
        (FRAME.set_axis(["kind", "kind", "x"], axis=1), "DataFrame: several columns have the name 'kind'"),
        (FRAME.iloc[:0], r"DataFrame: X has shape \(0, 2\); at least one sample"),
        (FRAME[["kind"]], r"DataFrame: X has shape \(3, 0\); at least one sample and one feature"),
    ],
)
def test_load_data_reports_errors_in_a_dataframe(frame, message):
    refused(message, frame, target="kind")


def test_load_data_of_a_dataframe_requires_target():
    refused("DataFrame: set target; the label column is one of width, height, kind$", FRAME)
    refused("channels 'last' is not used with 'DataFrame'; omit it", FRAME, target="kind", channels="last")


@pytest.mark.parametrize(
    "labels", [["b", "a", "b"], np.array(["b", "a", "b"], object), pd.Series(["b", "a", "b"])]
)
def test_load_data_accepts_arrays_with_text_labels(labels):
    data = load_data((FEATURES, labels))
    np.testing.assert_allclose(data.X, standardize_columns(FEATURES), rtol=1e-6)
    assert (data.classes, data.y.tolist()) == (("a", "b"), [1, 0, 1])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((FEATURES, [0, 1]), r"arrays: X has shape \(3, 2\) and y \(2,\); they must be .* with the same n"),
        ((FEATURES, [0, np.nan, 1]), "arrays: y contains nan; labels must be integers or strings"),
        (
            (FEATURES, [0, None, 1]),
            r"arrays: y of type list cannot be converted to an array \(value 1 is missing\); pass an",
        ),
        (
            (FEATURES, ["a", np.nan, "b"]),
            r"y of type list cannot be converted to an array \(value 1 is missing\)",
        ),
        (
            (FEATURES, pd.Series(["a", "b", None])),
            r"y of type Series cannot be converted to an array \(value 2 is missing\)",
        ),
        ((FEATURES, pd.Categorical([None, "b", "a"])), r"y of type Categorical .* \(value 0 is missing\)"),
        (
            (np.ma.masked_less(FEATURES, 0), [0, 1, 0]),
            "X of type MaskedArray .* .some values are masked.; pass",
        ),
        ((FEATURES, [1, 1, 1]), "arrays: every label is 1; at least two classes are needed"),
        (
            ([[1, 2], [3]], [0, 1]),
            "arrays: X of type list cannot be converted to an array .*; pass an array without",
        ),
        ((FEATURES, [[0], [1, 2], 3]), "arrays: y of type list cannot be converted to an array"),
        ((FEATURES.astype(str), [0, 1, 0]), "arrays: X has dtype <U"),
        (
            (FEATURES,),
            "cannot load data of type tuple; pass a name, a file, a DataFrame and its target, arr",
        ),
        (FEATURES, "cannot load data of type ndarray; pass a name"),
        (None, "cannot load data of type NoneType"),
        ({"X": FEATURES}, "cannot load data of type dict"),
        (7, "cannot load data of type int"),
    ],
)
def test_load_data_reports_errors_in_arrays(source, message):
    refused(message, source)


def test_load_data_of_plain_files_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_data(write_csv(tmp_path, PLAIN), target="kind")
        load_data(FRAME, target="kind")


def test_load_data_refuses_integers_that_float64_cannot_hold(tmp_path):
    path = write_bytes(tmp_path, b"width,kind\n1," + b"a\n2,b\n" + b"9" * 400 + b",a\n")
    message = "feature column 'width' contains 'inf' in row 2 .counted from 0.; replace it, or leave"
    refused(message, path, target="kind")


# ---- Dropped columns ---------------------------------------------------------------------------------------

DATED = pd.DataFrame(
    {
        "code": [7, 3, 9, 1],
        "day": ["2024-01-01", "2024-01-02", "2024-02-03", "2024-03-05"],
        "size": [1.5, 2.0, 0.5, 4.0],
        "kind": ["a", "b", "a", "b"],
    }
)


def save_dated(tmp_path: Path, kind: str):
    """Return the table as a source: a DataFrame, or a file."""
    if kind == "DataFrame":
        return DATED
    path = tmp_path / f"dated.{kind}"
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        DATED.to_parquet(path)
    else:
        DATED.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "DataFrame"])
def test_load_data_with_drop_equals_a_table_without_the_columns(tmp_path, kind):
    data = load_data(save_dated(tmp_path, kind), target="kind", drop=["day", "code"])
    without = load_data(DATED[["size", "kind"]], target="kind")
    np.testing.assert_array_equal(data.X, without.X)
    assert data.fingerprint == without.fingerprint
    assert data.preprocessing == "1 numeric; dropped on request: day, code"
    one = load_data(save_dated(tmp_path, kind), target="kind", drop="day")
    assert one.preprocessing == "2 numeric; dropped on request: day"
    assert one.fingerprint == load_data(DATED.drop(columns="day"), target="kind").fingerprint


def test_load_data_drops_columns_of_a_table_with_targets_and_of_a_test_set(tmp_path):
    features, kinds = DATED[["code", "day", "size"]], ["a", "b", "a", "b"]
    data = load_data((features, kinds), drop=["code", "day"])
    assert (data.X.shape, data.preprocessing) == ((4, 1), "1 numeric; dropped on request: code, day")
    later = DATED.assign(size=DATED["size"] + 100)
    for test in (later, later.drop(columns="day")):
        joined = load_data(DATED, target="kind", drop=["day", "code"], test=test)
        np.testing.assert_array_equal(joined.encoded, pd.concat([DATED, later])[["size"]])


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"columns of the table, got 'sise' \(did you mean 'size'\?\)", {"drop": "sise"}),
        ("DataFrame: drop and target are the same column, 'kind'; name different", {"drop": ["kind"]}),
        ("DataFrame: drop and groups are the same column, 'code'", {"drop": "code", "groups": "code"}),
        ("DataFrame: drop and weights are the same column, 'code'", {"drop": "code", "weights": "code"}),
    ],
)
def test_load_data_refuses_to_drop_unknown_and_used_columns(message, options):
    refused(message, DATED, target="kind", **options)


def test_load_data_refuses_drop_for_arrays():
    refused("drop 'a, b' is not used with 'arrays', only with a table", ([[1], [2]], [0, 1]), drop=["a", "b"])

"""The data options of ``actlab train`` and ``actlab compare``: channels, CSV dialects, invalid files."""

import gzip
import json
import re

import numpy as np
import pytest

from actlab.cli import main
from actlab.cli.parser import create_parser
from actlab.data.load import NAMES
from tests.command_line import in_empty_folder, list_names, refused

__all__ = ["in_empty_folder"]

SHORT = ["--epochs", "1", "--out", "run"]
LABELS = np.arange(60) % 3


def save_images(path, *shape):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (60, *shape), np.uint8)
    np.savez(path, X=X, y=LABELS)
    return X


def fingerprint(capsys, *arguments):
    assert main(["train", *arguments, *SHORT, "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out)["fingerprint"], err


def test_compare_moves_channels_to_the_front_and_prints_one_note(capsys):
    X = save_images("last.npz", 8, 6, 3)
    np.savez("first.npz", X=np.moveaxis(X, 3, 1), y=LABELS)
    call = [*"compare --no-tune relu tanh --module actlab.models:ConvNet --folds 2 --json".split(), *SHORT]
    assert main([*call, "--data", "last.npz"]) == 0
    out, err = capsys.readouterr()
    last = json.loads(out)
    assert [line for line in err.splitlines() if "note" in line] == [
        "actlab: note: last.npz: X has shape (60, 8, 6, 3); the last axis of an image was taken as "
        "its channels and moved to the front; if the first axis is the channels, set "
        "channels='first' (--channels first)"
    ]
    assert main([*call, "--data", "first.npz"]) == 0
    out, err = capsys.readouterr()
    assert "note" not in err
    first = json.loads(out)
    assert last["fingerprint"] == first["fingerprint"]
    assert [row["mean"] for row in last["ranking"]] == [row["mean"] for row in first["ranking"]]


@pytest.mark.parametrize(
    ("shape", "channels"), [((4, 6, 3), "last"), ((3, 6, 4), "first"), ((1, 5, 1), "last")]
)
def test_train_with_channels_reads_ambiguous_images(tmp_path, capsys, shape, channels):
    X = save_images("images.npz", *shape)
    first = X if channels == "first" else np.moveaxis(X, 3, 1)
    np.savez("flat.npz", X=first.reshape(60, -1), y=LABELS)
    expected, _ = fingerprint(capsys, "--data", "flat.npz")
    fingerprint_read, err = fingerprint(capsys, "--data", "images.npz", "--channels", channels)
    assert fingerprint_read == expected
    assert "note" not in err
    assert f"--data images.npz --channels {channels} --epochs 1" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_ambiguous_images_are_rejected_with_the_channels_option(tmp_path, capsys, verb):
    save_images("images.npz", 4, 6, 3)
    message = refused(capsys, verb, *["relu"] * (verb == "compare"), "--data", "images.npz", *SHORT)
    assert message == (
        "actlab: error: images.npz: X has shape (60, 4, 6, 3); the first or the last axis of an "
        "image can be its channels; set channels='first' or 'last' in load_data (--channels first, "
        "--channels last)\n"
    )
    assert list_names(tmp_path) == ["images.npz"]


def test_compare_uses_channels_only_for_the_datasets_that_have_them(capsys):
    save_images("images.npz", 4, 6, 3)
    call = [*"compare --no-tune relu tanh --data images.npz --data digits --channels last".split(), *SHORT]
    assert main([*call, "--folds", "2", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["datasets"]) == ["images.npz", "digits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--channels", "middle"], "argument --channels: invalid choice: 'middle' (choose from"),
        (["--channels", "last"], "channels 'last' is not used with 'digits'; omit it"),
        (
            ["--data", "grey.npz", "--channels", "last"],
            "grey.npz: X has shape (60, 5, 4), but channels needs images (n, c, h, w) or",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_channels_option_that_does_not_apply_is_rejected(capsys, verb, arguments, message):
    save_images("grey.npz", 5, 4)
    assert message in refused(capsys, verb, *["relu"] * (verb == "compare"), *arguments, *SHORT)


def test_train_reads_a_csv_file_of_a_european_spreadsheet(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = [f"{a:.3f};{b:.2f};{'xyz'[i % 3]}" for i, (a, b) in enumerate(rng.normal(size=(60, 2)))]
    english = "\n".join(["a;b;kind", *lines])
    (tmp_path / "english.csv").write_text(english.replace(";", ","))
    (tmp_path / "german.csv").write_bytes(english.replace(".", ",").encode("utf-16"))
    fingerprint_read, err = fingerprint(capsys, "--data", "german.csv", "--target", "kind")
    assert "actlab: note: german.csv: commas in numbers were read as decimal points\n" in err
    assert fingerprint_read == fingerprint(capsys, "--data", "english.csv", "--target", "kind")[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "cannot read 'a.csv' as CSV: it is empty"),
        (
            "a.csv",
            b"PK\x03\x04" + bytes(40),
            "'a.csv' is an Excel workbook or another zip archive, not CSV text",
        ),
        (
            "a.csv",
            "kind,größe\nx,1\n".encode("latin-1"),
            "byte 0xf6 at position 7 is not UTF-8; save it in UTF-8",
        ),
        ("a.csv", b"kind,a,a\nx,1,2\n", "a.csv: several columns have the name 'a'"),
        (
            "a.csv",
            gzip.compress(b"kind;day\nx;1.5.2024\n", mtime=0),
            "a.csv: every label is 'x'; at least two classes are needed",
        ),
        ("a.npz", b"PK\x03\x04" + bytes(40), "cannot read arrays X and y from 'a.npz': "),
        (
            "a.npz",
            gzip.compress(b"none", mtime=0),
            "cannot read arrays X and y from 'a.npz': File is not a zip file; save",
        ),
        (
            "a.parquet",
            b"PAR1",
            "cannot read 'a.parquet' as Parquet: Could not open Parquet input source",
        ),
    ],
)
def test_train_rejects_unreadable_data_files(tmp_path, capsys, name, content, message):
    (tmp_path / name).write_bytes(content)
    target = ["--target", "kind"] * name.endswith(".csv")
    assert message in refused(capsys, "train", "--data", name, *target, *SHORT)
    assert list_names(tmp_path) == [name]


def test_compare_rejects_a_broken_csv_file_without_traceback(tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes(b'kind,size\nx,"1,234"\ny,5\n')
    call = ["compare", "--no-tune", "relu", "tanh", "--data", "a.csv", "--target", "kind", *SHORT]
    assert refused(capsys, *call) == (
        "actlab: error: a.csv: feature column 'size' contains '1,234' in row 0 "
        "(counted from 0); write numbers as 1234.5, or read the file with pandas.read_csv(decimal=..., "
        "thousands=...) and pass the DataFrame to load_data\n"
    )


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_help_of_data_lists_every_name(verb):
    actions = create_parser()._subparsers._group_actions[0].choices[verb]._actions
    (text,) = (action.help for action in actions if action.dest == "data")
    listed = re.findall(r"[\w.:-]+", text)
    names = dict.fromkeys("emnist-SPLIT" if name.startswith("emnist-") else name for name in NAMES)
    assert listed[: len(names)] == list(names)


TABLE = "".join(f"{i},{i * i % 7},{'uvw'[i % 3]},{'yes' if i % 2 else 'no'}\n" for i in range(40))
DONE = "4 features from 1 numeric, 1 category (3 columns); dropped: id (identifier)"


@pytest.mark.parametrize(("options", "scale"), [([], ""), (["--scale", "common"], "; one scale for all")])
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_verbs_print_and_write_how_a_table_was_encoded(tmp_path, capsys, verb, options, scale):
    (tmp_path / "t.csv").write_text(f"id,a,b,y\n{TABLE}")
    call = [verb, *["relu", "--no-tune", "--folds", "2"] * (verb == "compare"), "--data", "t.csv", *SHORT]
    assert main([*call, "--target", "y", *options]) == 0
    assert f"Data: {DONE}{scale}." in " ".join(capsys.readouterr().out.split())
    assert f"Data: {DONE}{scale}." in (tmp_path / "run/report.html").read_text()
    written = tmp_path / "run" / {"train": "training.json", "compare": "comparison.json"}[verb]
    (content,) = json.loads(written.read_text())
    assert content.get("about", content)["preprocessing"] == f"{DONE}{scale}"


def test_scale_option_is_rejected_with_a_wrong_name(capsys):
    assert "argument --scale: invalid choice: 'rows'" in refused(capsys, "train", "--scale", "rows", *SHORT)

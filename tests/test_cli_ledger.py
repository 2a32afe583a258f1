"""The verbs ``ledger show``, ``verify``, ``export`` and ``merge``."""

from __future__ import annotations

import csv
import json
import math
import os
import socket
from pathlib import Path

import pandas as pd
import pytest

from actlab.cli import main
from actlab.ledger.ledger import RUN_COLUMNS, Ledger, StoredRun
from actlab.ledger.run_key import hash_description
from actlab.ledger.sqlite import FORMAT
from tests.command_line import actlab, in_empty_folder, list_names, refused, tiny_data
from tests.ledger_cases import hold_claims, make_entry, make_key, open_sqlite
from tests.processes import forks, kill_process

__all__ = ["in_empty_folder", "tiny_data"]

FILE = "a/ledger.sqlite"


@pytest.fixture
def comparison_folder(tmp_path, tiny_data, capsys):
    """Return the folder ``a`` of a comparison whose ledger has six runs."""
    assert (
        main(["compare", "--no-tune", "relu", "tanh", "--data", tiny_data, "--epochs", "2", "--out", "a"])
        == 0
    )
    capsys.readouterr()
    return tmp_path / "a"


def record_entries(name, *entries):
    with Ledger(name) as ledger:
        ledger.record(entries)


def run_verb(capsys, *arguments, status=0):
    """Run a ledger verb, check that its lines fit 80 columns, and return them."""
    assert main(["ledger", *arguments]) == status
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    return lines


def run_verb_json(capsys, *arguments, status=0):
    """Run a ledger verb with --json and return its parsed output."""
    assert main(["ledger", *arguments, "--json"]) == status
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=pytest.fail)


def read_files(folder):
    """Return the content of every file, except SQLite's temporary files."""
    files = (path for path in folder.iterdir() if not path.name.endswith(("-shm", "-wal")))
    return {path.name: path.is_file() and path.read_bytes() for path in files}


def damage(statement, file=FILE):
    with open_sqlite(file) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement)


# -- show -----------------------------------------------------------------------------------------


def test_ledger_show_prints_the_runs_of_a_comparison(comparison_folder, capsys):
    lines = run_verb(capsys, "show", "a")
    assert run_verb(capsys, "show", FILE) == lines
    assert lines[:2] == ["6 runs, none failed", ""]
    assert lines[2].split() == "run activation seed fold test_acc epochs seconds test_loss".split()
    results = pd.read_csv(comparison_folder / "results.csv").sort_values(["activation", "fold"])
    with Ledger(FILE, readonly=True) as ledger:
        runs = ledger.runs()
    assert [line.split()[1:5] for line in lines[4:]] == [
        [row.activation, "0", str(row.fold), f"{row.accuracy:.4f}"] for row in results.itertuples()
    ]
    assert [line.split()[0] for line in lines[4:]] == [one[:8] for one in runs["key"]]
    assert list_names(comparison_folder.parent) == ["a", "tiny.npz"]


def test_ledger_show_prints_reasons_of_failed_runs(capsys):
    alike = [
        make_entry(n, failure="diverged: valid_loss is nan in epoch 1", test_acc=math.nan) for n in (1, 2)
    ]
    record_entries(
        "runs.db",
        make_entry(0),
        *alike,
        make_entry(3, failure="RuntimeError: no room\n  for " + "a matrix " * 9),
    )
    assert run_verb(capsys, "show", "runs.db") == [
        "4 runs, 3 failed",
        "",
        "run       activation  seed  fold  test_acc  epochs  seconds  test_loss",
        "--------  ----------  ----  ----  --------  ------  -------  ---------",
        f"{make_key(0)[:8]}  relu           0     2    0.7500       3   1.5000     0.2500",
        f"{make_key(1)[:8]}  relu           1     2         -       3   1.5000     0.2500",
        f"{make_key(2)[:8]}  relu           2     2         -       3   1.5000     0.2500",
        f"{make_key(3)[:8]}  relu           3     2    0.7500       3   1.5000     0.2500",
        "",
        f"{make_key(1)[:8]}, {make_key(2)[:8]} failed: diverged: valid_loss is nan in epoch 1",
        f"{make_key(3)[:8]} failed: RuntimeError: no room   for a matrix a matrix a matrix a matrix",
        "  a matrix a matrix a matrix a matrix a matrix",
    ]


def test_ledger_show_prints_the_last_twenty_runs(capsys):
    settings = [{"activation": f"my_layers:{'A' * 60}", "seed": n, "fold": 0} for n in range(25)]
    loss = {"test_loss": 1e30, "failure": "diverged"}
    runs = [make_entry(n, **loss if n > 2 else {}).result for n in range(25)]
    record_entries(
        "runs.db",
        *(StoredRun(hash_description(own), own, run) for own, run in zip(settings, runs, strict=True)),
    )
    lines = run_verb(capsys, "show", "runs.db")
    assert lines[0] == "25 runs, 22 failed"
    assert lines[2].split() == ["run", "activation", "seed", "fold", "test_acc", "epochs"]
    assert [int(line.split()[2]) for line in lines[4:24]] == list(range(5, 25))
    assert lines[24:27] == [
        "(2 columns omitted)",
        "",
        "The last 20 of 25 runs are shown; actlab ledger export writes all of them.",
    ]
    keys = ", ".join(hash_description(own)[:8] for own in settings[5:])
    assert " ".join(line.strip() for line in lines[27:-1]) == f"{keys} failed: diverged"
    assert lines[-1] == "The last 20 of 22 failed runs are shown."


def test_ledger_show_and_verify_with_no_run_and_with_one(capsys):
    record_entries("runs.db")
    assert run_verb(capsys, "show", "runs.db") == ["No runs yet"]
    assert run_verb_json(capsys, "show", "runs.db") == {"runs": [], "claims": []}
    assert run_verb(capsys, "verify", "runs.db") == ["0 runs, no problems"]
    record_entries("runs.db", make_entry(0))
    assert run_verb(capsys, "show", "runs.db")[0] == "1 run, none failed"
    assert run_verb(capsys, "verify", "runs.db") == ["1 run, no problems"]


def test_ledger_show_json_has_every_column(comparison_folder, capsys):
    record_entries(FILE, make_entry(0, test_acc=math.nan, test_loss=math.inf, failure="diverged"))
    output = run_verb_json(capsys, "show", "a")
    with Ledger(FILE, readonly=True) as ledger:
        runs = ledger.runs()
    assert output["claims"] == []
    assert [tuple(row) for row in output["runs"]] == [RUN_COLUMNS] * 7
    assert output["runs"][:6] == runs[:6].to_dict("records")
    assert [output["runs"][6][name] for name in ("key", "test_acc", "test_loss", "failure")] == [
        *(make_key(0), None, None, "diverged")
    ]


@forks
def test_ledger_show_names_training_processes_but_no_killed_ones(tmp_path, capsys):
    record_entries("runs.db", make_entry(0))
    with hold_claims(tmp_path / "runs.db", [make_key(1), make_key(2)]) as owner:
        host = socket.gethostname()
        *_, blank, message = run_verb(capsys, "show", "runs.db")
        assert (blank, message) == ("", f"Process {owner} on {host} is training 2 runs.")
        (claim,) = run_verb_json(capsys, "show", "runs.db")["claims"]
        assert 0 < claim.pop("seconds") <= 60
        assert claim == {"host": host, "pid": owner, "runs": 2}
        kill_process(owner)
        assert len(run_verb(capsys, "show", "runs.db")) == 5
        assert run_verb_json(capsys, "show", "runs.db")["claims"] == []


@pytest.mark.parametrize("fold", ["null", '"x"', "[1]"])
def test_ledger_show_prints_unknown_settings_as_none(capsys, fold):
    record_entries("runs.db", make_entry(0))
    damage(f"UPDATE run SET settings = '{{\"fold\":{fold}}}'", "runs.db")
    assert run_verb(capsys, "show", "runs.db")[4].split()[1:5] == ["None", "None", "-", "0.7500"]


# -- verify ---------------------------------------------------------------------------------------


def test_ledger_verify_finds_no_problem_in_a_comparison(comparison_folder, capsys):
    before = (comparison_folder / "ledger.sqlite").read_bytes()
    assert run_verb(capsys, "verify", "a") == ["6 runs, no problems"]
    assert run_verb_json(capsys, "verify", FILE) == {"runs": 6, "problems": []}
    assert (comparison_folder / "ledger.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "runs", "message"),
    [
        (
            "DELETE FROM history WHERE run = 2 AND epoch = 1",
            6,
            "run {key}: its history has the epochs [2], not 1 to 2",
        ),
        (
            "UPDATE run SET settings = '{}' WHERE id = 2",
            6,
            "run {key}: its settings do not match its key",
        ),
        (
            "INSERT INTO discrepancy VALUES (2, 'test_acc', '0.5', '0.9', '')",
            6,
            "run {key}: test_acc is 0.5 here and 0.9 in a second result; the first is kept",
        ),
        (
            "UPDATE run SET settings = 'relu' WHERE id = 2",
            None,
            "ledger 'a/ledger.sqlite' is damaged: run {key} cannot be read (Expecting value: line 1 column 1 "
            "(char 0)); restore a backup",
        ),
    ],
    ids=["history", "key", "discrepancy", "unreadable"],
)
def test_ledger_verify_prints_each_problem(comparison_folder, capsys, statement, runs, message):
    with Ledger(FILE, readonly=True) as ledger:
        problem = message.format(key=ledger.runs()["key"][1][:12])
    damage(statement)
    lines = run_verb(capsys, "verify", "a", status=1)
    assert " ".join(line.strip() for line in lines) == problem
    assert run_verb_json(capsys, "verify", "a", status=1) == {"runs": runs, "problems": [problem]}


# -- export ---------------------------------------------------------------------------------------


def test_ledger_export_writes_exact_files(comparison_folder, capsys):
    odd = [{"epoch": 1, "train_loss": math.inf}, {"epoch": 2, "train_loss": math.nan, "lr": 5e-324}]
    why = 'diverged: "x",\n é'
    record_entries(FILE, make_entry(0, history=odd, test_acc=-0.0, test_loss=math.nan, failure=why))
    files = [f"deep/er/{name}" for name in ("runs.csv", "history.csv", "settings.json")]
    assert run_verb(capsys, "export", "a", "--out", "deep/er") == [f"Written: {', '.join(files)}"]
    assert list_names(comparison_folder.parent / "deep/er") == ["history.csv", "runs.csv", "settings.json"]
    with Ledger(FILE, readonly=True) as ledger:
        runs, history = ledger.runs(), ledger.history()
        settings = {one: ledger.settings(one) for one in runs["key"]}
    for name, frame in {"runs": runs, "history": history}.items():
        with open(f"deep/er/{name}.csv", newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == frame.columns.tolist()
        expected = [["" if pd.isna(cell) else str(cell) for cell in row] for row in frame.values.tolist()]
        assert rows == expected
    output = json.loads(
        (comparison_folder.parent / "deep/er/settings.json").read_text(), parse_constant=pytest.fail
    )
    keys = [one.pop("key") for one in output]
    assert keys == [hash_description(one) for one in output] == runs["key"].tolist()
    assert output == list(settings.values())


def test_ledger_export_json_writes_to_the_default_folder(comparison_folder, capsys):
    files = [f"out/ledger/{name}" for name in ("runs.csv", "history.csv", "settings.json")]
    for _ in range(2):
        assert run_verb_json(capsys, "export", FILE) == {"runs": 6, "files": files}
    assert list_names(comparison_folder.parent / "out/ledger") == ["history.csv", "runs.csv", "settings.json"]


def test_ledger_export_without_runs(tmp_path, capsys):
    record_entries("runs.db")
    run_verb(capsys, "export", "runs.db", "--out", "x")
    assert (tmp_path / "x/runs.csv").read_text() == ",".join(RUN_COLUMNS) + "\n"
    assert (tmp_path / "x/history.csv").read_text() == "key,epoch\n"
    assert (tmp_path / "x/settings.json").read_text() == "[]\n"


def test_ledger_export_writes_nan_and_infinite_settings(tmp_path, capsys):
    own = {"lr": math.inf, "deep": [math.nan]}
    record_entries("runs.db", StoredRun("k", own, make_entry(0).result))
    run_verb(capsys, "export", "runs.db", "--out", "x")
    assert json.loads((tmp_path / "x/settings.json").read_text(), parse_constant=pytest.fail) == [
        {"key": "k", "lr": {"$float": "inf"}, "deep": [{"$float": "nan"}]}
    ]


@pytest.mark.parametrize("out", ["/proc/actlab", f"{FILE}/below"])
def test_ledger_export_rejects_an_unwritable_folder(comparison_folder, capsys, out):
    assert f"cannot write to output folder {out!r}" in refused(capsys, "ledger", "export", "a", "--out", out)


# -- merge ----------------------------------------------------------------------------------------


def test_ledger_merge_copies_every_run_once_and_leaves_sources_unchanged(comparison_folder, capsys):
    record_entries("b.db", make_entry(0), make_entry(1, failure="diverged"))
    record_entries("c.db", make_entry(1, failure="diverged"), make_entry(2))
    before = [Path(file).read_bytes() for file in (FILE, "b.db", "c.db")]
    assert run_verb(capsys, "merge", "new/all.db", "a", "b.db", "c.db") == [
        "6 runs copied from a",
        "2 runs copied from b.db",
        "1 run copied from c.db",
    ]
    assert run_verb_json(capsys, "merge", "new/all.db", "c.db", FILE) == {
        "copied": {"c.db": 0, FILE: 0},
        "discrepancies": [],
    }
    assert run_verb(capsys, "merge", "new/all.db", "new/all.db") == ["0 runs copied from new/all.db"]
    assert [Path(file).read_bytes() for file in (FILE, "b.db", "c.db")] == before
    rows = run_verb_json(capsys, "show", "new/all.db")["runs"]
    assert rows[:6] == run_verb_json(capsys, "show", "a")["runs"]
    assert [row["key"] for row in rows[6:]] == [make_key(0), make_key(1), make_key(2)]
    assert run_verb(capsys, "verify", "new/all.db") == ["9 runs, no problems"]


def test_ledger_merge_reports_discrepancies_and_keeps_the_first_result(tmp_path, capsys, caplog):
    record_entries("a.db", make_entry(0), make_entry(1))
    record_entries("b.db", make_entry(0, test_acc=0.5, test_loss=0.5), make_entry(2))
    before = (tmp_path / "b.db").read_bytes()
    message = [
        f"run {make_key(0)[:12]}: test_loss is 0.25 here and 0.5 in a second result; the first is kept",
        f"run {make_key(0)[:12]}: test_acc is 0.75 here and 0.5 in a second result; the first is kept",
    ]
    for copied in ("1 run", "0 runs"):
        assert run_verb(capsys, "merge", "a.db", "b.db", status=1) == [
            f"{copied} copied from b.db; discrepancies: 2",
            "actlab ledger verify a.db lists every discrepancy.",
        ]
        assert caplog.messages == message
        caplog.clear()
    assert run_verb_json(capsys, "merge", "a.db", "b.db", status=1) == {
        "copied": {"b.db": 0},
        "discrepancies": message,
    }
    assert (tmp_path / "b.db").read_bytes() == before
    assert [row["test_acc"] for row in run_verb_json(capsys, "show", "a.db")["runs"]] == [0.75, 0.75, 0.75]
    assert sorted(run_verb_json(capsys, "verify", "a.db", status=1)["problems"]) == sorted(message)


def test_ledger_merge_prints_discrepancies_to_standard_error():
    record_entries("a.db", make_entry(0))
    record_entries("b.db", make_entry(0, test_acc=0.5))
    process = actlab("ledger", "merge", "a.db", "b.db")
    assert (process.returncode, process.stdout) == (
        1,
        "0 runs copied from b.db; discrepancies: 1\nactlab ledger verify a.db lists every discrepancy.\n",
    )
    assert process.stderr == (
        f"run {make_key(0)[:12]}: test_acc is 0.75 here and 0.5 in a second result; the first is kept\n"
    )


# -- invalid input ---------------------------------------------------------------------------------


def make_newer_ledger():
    record_entries("newer", make_entry(0))
    damage(f"PRAGMA user_version = {FORMAT + 1}", "newer")


def make_truncated_ledger():
    record_entries("cut", make_entry(0))
    os.truncate("cut", os.path.getsize("cut") - 100)


def make_other_database():
    with open_sqlite("another") as file:
        file.execute("CREATE TABLE run (id INTEGER)")


INVALID_LEDGERS = {
    "absent": (lambda: None, "there is no ledger at 'absent'"),
    "folder": (lambda: Path("folder").mkdir(), "there is no ledger at 'folder/ledger.sqlite'"),
    "empty": (lambda: Path("empty").touch(), "there is no ledger at 'empty' yet: the file is empty"),
    "text": (
        lambda: Path("text").write_text("a,b\n" * 99),
        "ledger 'text' is not a ledger: it is not an SQLite file; choose another file",
    ),
    "another": (
        make_other_database,
        "ledger 'another' is not a ledger but another application's SQLite file; choose another file",
    ),
    "newer": (
        make_newer_ledger,
        f"ledger 'newer' was written by a newer actlab (format {FORMAT + 1}; "
        f"this one reads format {FORMAT}): update actlab",
    ),
    "cut": (make_truncated_ledger, "ledger 'cut' is damaged: it is truncated; restore a backup"),
}


@pytest.mark.parametrize("what", INVALID_LEDGERS)
@pytest.mark.parametrize("verb", ["show", "verify", "export", "merge new.db", "merge new.db good.db"])
def test_ledger_verbs_reject_invalid_files_and_leave_them_unchanged(tmp_path, capsys, verb, what):
    make, message = INVALID_LEDGERS[what]
    make()
    record_entries("good.db", make_entry(1))
    before = read_files(tmp_path)
    assert refused(capsys, "ledger", *verb.split(), what) == f"actlab: error: {message}\n"
    assert read_files(tmp_path) == before


@pytest.mark.parametrize("what", ["text", "another", "newer", "cut"])
def test_ledger_merge_rejects_an_invalid_target(tmp_path, capsys, what):
    make, message = INVALID_LEDGERS[what]
    make()
    record_entries("good.db", make_entry(1))
    before = read_files(tmp_path)
    assert refused(capsys, "ledger", "merge", what, "good.db") == f"actlab: error: {message}\n"
    assert read_files(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("look", "invalid choice: 'look'"),
        ("show", "required: LEDGER"),
        ("merge a.db", "required: OTHER"),
        ("show a.db --out x", "unrecognized arguments: --out x"),
    ],
)
def test_ledger_verbs_reject_wrong_usage(tmp_path, capsys, arguments, message):
    assert message in refused(capsys, "ledger", *arguments.split())
    assert list_names(tmp_path) == []

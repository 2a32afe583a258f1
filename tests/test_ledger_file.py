"""Errors in a ledger's file are reported in one line, and the file stays unchanged."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from actlab.errors import UsageError
from actlab.ledger.ledger import Ledger
from actlab.ledger.sqlite import FORMAT
from tests.ledger_cases import ledger_of_three, make_key, open_sqlite, path, read_refusal
from tests.processes import fork_processes, forks, wait_for_exit

__all__ = ["ledger_of_three", "path"]

# Files that are not ledgers


@pytest.mark.parametrize(
    "content", [b"activation,accuracy\n" * 300, b"x", bytes(5000)], ids=["csv", "x", "zeros"]
)
def test_ledger_leaves_a_file_that_is_not_sqlite_unchanged(path, content):
    path.write_bytes(content)
    for readonly in (False, True):
        assert "is not a ledger: it is not an SQLite file" in read_refusal(path, readonly=readonly)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_ledger_leaves_another_applications_file_unchanged(path, journal):
    with open_sqlite(path) as file:
        file.execute(f"PRAGMA journal_mode = {journal}")
        file.execute("CREATE TABLE run (id INTEGER)")
    for readonly in (False, True):
        assert "is not a ledger but another application's" in read_refusal(path, readonly=readonly)
    with open_sqlite(path) as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("run",)]


def test_ledger_leaves_a_newer_format_unchanged(ledger_of_three):
    with open_sqlite(ledger_of_three) as file:
        file.execute("PRAGMA user_version = 7")
    for readonly in (False, True):
        message = read_refusal(ledger_of_three, readonly=readonly)
        assert (
            f"was written by a newer actlab (format 7; this one reads format {FORMAT}): update actlab"
            in message
        )


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM history; END",
        "CREATE VIEW more AS SELECT * FROM run",
        "CREATE TABLE more (a)",
        "ALTER TABLE run ADD COLUMN more TEXT",
        "DROP TABLE claim",
    ],
)
def test_ledger_rejects_a_foreign_schema(ledger_of_three, statement):
    with open_sqlite(ledger_of_three) as file:
        file.execute(statement)
    for readonly in (False, True):
        assert "does not have actlab's tables" in read_refusal(ledger_of_three, readonly=readonly)


def test_ledger_reads_an_analysed_file(ledger_of_three):
    with open_sqlite(ledger_of_three) as file:
        file.execute("ANALYZE")
    with Ledger(ledger_of_three) as ledger:
        assert len(ledger.runs()) == 3


def test_ledger_rejects_folders_devices_and_absent_files(tmp_path):
    assert "is a folder; name a file in it" in read_refusal(tmp_path)
    assert "is not a regular file" in read_refusal(Path("/dev/null"))
    absent = tmp_path / "absent" / "runs.db"
    assert read_refusal(absent, readonly=True) == f"there is no ledger at {str(absent)!r}"
    assert not absent.parent.exists()
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be opened: " in read_refusal(tmp_path / "file" / "runs.db")
    assert "yet: the file is empty" in read_refusal(tmp_path / "file", readonly=True)
    with Ledger(tmp_path / "file") as ledger:
        assert ledger.runs().empty


@forks
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change its user")
@pytest.mark.parametrize(
    ("folder", "file", "message"),
    [
        (0o755, 0o666, "no permission for"),
        (0o777, 0o644, "no permission for"),
        (0o777, 0o600, "cannot be read: perm"),
    ],
)
def test_ledger_reports_missing_permissions(ledger_of_three, folder, file, message):
    def open_as_other_user():
        os.setuid(65534)
        refusal_ = pytest.raises(UsageError, match=message)
        with refusal_:
            Ledger(ledger_of_three)
        if file & 0o044:
            with Ledger(ledger_of_three, readonly=True) as ledger:
                assert len(ledger.runs()) == 3

    for parent in ledger_of_three.parents:
        if "pytest" in str(parent):
            parent.chmod(0o755)
    ledger_of_three.parent.chmod(folder)
    ledger_of_three.chmod(file)
    with fork_processes(open_as_other_user) as (child,):
        assert wait_for_exit(child) == 0


def test_ledger_reports_a_truncated_file(ledger_of_three):
    whole = ledger_of_three.read_bytes()
    rng = random.Random(0)
    sizes = [1, 15, 16, 50, 99, 100, 101, 511, 512, 4095, 4096, 4097, len(whole) - 4096, len(whole) - 1]
    for size in sizes + [rng.randrange(1, len(whole)) for _ in range(60)]:
        ledger_of_three.write_bytes(whole[:size])
        for readonly in (False, True):
            message = read_refusal(ledger_of_three, readonly=readonly)
            assert "is damaged" in message or (size < 512 and "is not an SQLite file" in message), (
                size,
                message,
            )


def test_ledger_reads_or_rejects_a_partly_overwritten_file(ledger_of_three):
    whole = ledger_of_three.read_bytes()
    rng, refusals = random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        start = rng.randrange(100, len(whole))
        damaged[start : start + 200] = rng.randbytes(len(damaged[start : start + 200]))
        ledger_of_three.write_bytes(damaged)
        try:
            with Ledger(ledger_of_three, readonly=True) as ledger:
                ledger.results([make_key(number) for number in range(3)])
                ledger.runs(), ledger.history(), ledger.claims(), ledger.verify()
        except UsageError:
            refusals += 1
    assert refusals > 10


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE history SET figures = 'relu'", Ledger.history),
        ("UPDATE history SET figures = '[1]'", Ledger.history),
        ('UPDATE history SET figures = \'{"a": {"$float": "1"}}\'', Ledger.history),
        ("UPDATE history SET figures = printf('%.*c', 100000, '[')", Ledger.history),
        ("UPDATE history SET figures = CAST(x'ff' AS TEXT)", Ledger.history),
        ("UPDATE run SET settings = 'relu'", Ledger.runs),
        (
            "INSERT INTO weights SELECT id, '[]', 'relu' FROM run",
            lambda ledger: ledger.results([make_key(2)]),
        ),
    ],
)
def test_ledger_reports_invalid_values(ledger_of_three, statement, read):
    with open_sqlite(ledger_of_three) as file:
        file.execute(statement.replace("'relu' FROM", "CAST('relu' AS BLOB) FROM"))
    with Ledger(ledger_of_three) as ledger:
        with pytest.raises(UsageError, match=r"runs\.db' is damaged"):
            ledger.results([make_key(0)])
        with pytest.raises(UsageError, match=r"runs\.db' is damaged"):
            read(ledger)


# Formats


def test_ledger_leaves_an_older_format_unchanged(path):
    with open_sqlite(path) as file:
        file.executescript(Path(__file__).with_name("ledger_of_format_2.sql").read_text())
    for readonly in (False, True):
        assert read_refusal(path, readonly=readonly).endswith(
            f"was written by an older actlab (format 2; this one reads format {FORMAT}): "
            "its run keys are computed differently; choose a new file"
        )


# Problems that verify reports


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM history WHERE epoch = 2 AND run = 1", "its history has the epochs [1, 3], not 1 to 3"),
        ("DELETE FROM history WHERE epoch = 3 AND run = 1", "its history has the epochs [1, 2], not 1 to 3"),
        ("""UPDATE run SET settings = '{"seed":0}' WHERE id = 1""", "its settings do not match its key"),
        ("UPDATE history SET figures = 'x' WHERE run = 1", "cannot be read"),
        ("INSERT INTO weights VALUES (1, '[\"w\"]', x'00')", "cannot be read"),
        (
            "INSERT INTO history VALUES (99, 1, '{}')",
            "a row of table 'history' has no parent in table 'run'",
        ),
        (
            "INSERT INTO discrepancy VALUES (1, 'epochs', '3', '4', '')",
            "epochs is 3 here and 4 in a second result",
        ),
    ],
)
def test_verify_reports_each_problem(ledger_of_three, statement, message):
    with Ledger(ledger_of_three) as ledger:
        assert ledger.verify() == []
    with open_sqlite(ledger_of_three) as file:
        file.execute("PRAGMA foreign_keys = OFF")
        file.execute(statement)
    with Ledger(ledger_of_three, readonly=True) as ledger:
        problems = ledger.verify()
    assert len(problems) == 1
    assert message in problems[0]


def test_verify_reports_an_index_entry_without_its_row(ledger_of_three):
    with open_sqlite(ledger_of_three) as file:
        file.execute("PRAGMA writable_schema = ON")
        page = file.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_run_1'"
        ).fetchone()[0]
    content = bytearray(ledger_of_three.read_bytes())
    content[4096 * page - 40 : 4096 * page - 30] = b"f" * 10
    ledger_of_three.write_bytes(content)
    with Ledger(ledger_of_three, readonly=True) as ledger:
        assert any("SQLite reports: " in problem for problem in ledger.verify())

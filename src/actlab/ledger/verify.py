"""What can be wrong with a ledger and with what is in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from actlab.errors import UsageError
from actlab.ledger.records import Entry, sentence, short
from actlab.ledger.run_key import digest

Find = Callable[[str], Entry | None]


def _of_file(do: sqlite3.Connection, find: Find) -> list[str]:
    said = [" ".join(text.split()) for (text,) in do.execute("PRAGMA integrity_check")]
    problems = [f"SQLite finds: {text}" for text in said if text != "ok"]
    for table, _, parent, _ in do.execute("PRAGMA foreign_key_check"):
        problems.append(f"a row of table {table!r} belongs to nothing in table {parent!r}")
    return problems


def _of_runs(do: sqlite3.Connection, find: Find) -> list[str]:
    problems = []
    for run, key, trained in do.execute("SELECT id, key, epochs FROM run ORDER BY id").fetchall():
        epochs = [epoch for (epoch,) in do.execute("SELECT epoch FROM history WHERE run = ?", [run])]
        if sorted(epochs) != list(range(1, trained + 1)):
            problems.append(f"run {short(key)}: its history has the epochs {epochs}, not 1 to {trained}")
        try:
            entry = find(key)
            if entry and digest(dict(entry.settings)) != key:
                problems.append(f"run {short(key)}: its settings do not belong to its key")
        except (UsageError, TypeError, ValueError) as error:
            problems.append(str(error))
    return problems


def _of_second_results(do: sqlite3.Connection, find: Find) -> list[str]:
    query = "SELECT key, what, kept, found FROM discrepancy JOIN run ON run = id ORDER BY noted, run"
    return [sentence(*row) for row in do.execute(query)]


LOOKS = (_of_file, _of_runs, _of_second_results)  # each returns a sentence for every problem

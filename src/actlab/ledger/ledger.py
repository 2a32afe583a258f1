"""The ledger: one SQLite file that holds every finished run exactly once."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Self

import pandas as pd

from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.ledger.owner import ClaimOwner
from actlab.ledger.records import (
    RUN_COLUMNS,
    STORED_COLUMNS,
    StoredRun,
    describe_difference,
    dumps,
    find_differences,
    get_utc_time,
    insert_entry,
    loads,
    pack_weights,
    read_entry,
    report_damage,
    to_float,
    trim_key,
)
from actlab.ledger.run_key import hash_description
from actlab.ledger.sqlite import open_file, transaction, translate_errors

__all__ = ["LEASE", "RUN_COLUMNS", "Ledger", "StoredRun"]

log = logging.getLogger("actlab")

LEASE = 60.0  # seconds until a claim expires unless it is renewed
_BATCH = 100  # runs that a merge copies in one transaction, for which other writers wait
_PROCESS = "host, pid, owner.started"


class Ledger:
    """Finished runs in one SQLite file, to which many processes can write at once.

    Args:
        path: The file; it is created with its folder if it does not exist.
        weights: Whether to record the weights of networks, too. Also an attribute.
        readonly: Whether to open the file for reading only.

    Raises:
        UsageError: The file cannot be opened or is not a ledger; it is unchanged.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> settings = {"activation": "relu", "seed": 0, "fold": 1}
        >>> with TemporaryDirectory() as folder, Ledger(f"{folder}/runs.db") as ledger:
        ...     claimed = ledger.claim(["3f2a"])
        ...     ledger.record([StoredRun("3f2a", settings, Result(test_acc=0.5))])
        ...     ledger.runs()[["activation", "test_acc"]].values.tolist()
        []
        [['relu', 0.5]]
    """

    def __init__(
        self, path: str | os.PathLike[str], *, weights: bool = False, readonly: bool = False
    ) -> None:
        self.path = Path(path)
        self.weights = weights
        self._token = uuid.uuid4().hex
        self._has_claims = False
        self._lock = threading.RLock()  # a transaction belongs to one thread
        self._connection = open_file(self.path, readonly)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release all claims and close the file. A closed ledger cannot be opened again."""
        with self._lock:
            if self._has_claims:
                with contextlib.suppress(UsageError), self._transaction():  # claims expire by themselves
                    self._connection.execute("DELETE FROM owner WHERE token = ?", [self._token])
                self._has_claims = False
            self._connection.close()

    # -- claims -----------------------------------------------------------------------------------------

    def claim(self, keys: Sequence[str]) -> frozenset[str] | None:
        """Claim runs in order to train them together, unless another owner has claimed one of them.

        Args:
            keys: Their keys.

        Returns:
            The keys of unfinished runs, which are claimed for :data:`LEASE` seconds. None if another owner
            has claimed one of them; then nothing is claimed.

        Raises:
            UsageError: The file cannot be written.
        """
        now = time.time()
        with self._transaction() as connection:
            others = f"SELECT token, expires, {_PROCESS} FROM owner WHERE token != ?"
            for token, expires, *process in connection.execute(others, [self._token]).fetchall():
                if expires <= now or ClaimOwner(*process).has_ended():
                    connection.execute("DELETE FROM owner WHERE token = ?", [token])
            unfinished = frozenset(keys) - self._finished(keys)
            claimed = "SELECT 1 FROM claim WHERE key = ? AND owner != ?"
            if any(connection.execute(claimed, [key, self._token]).fetchone() for key in unfinished):
                return None
            if unfinished:
                connection.execute(
                    "INSERT INTO owner VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (token) DO UPDATE SET expires = excluded.expires",
                    [self._token, now + LEASE, *astuple(ClaimOwner.current())],
                )
                claims = [(key, self._token) for key in unfinished]
                connection.executemany("INSERT OR IGNORE INTO claim VALUES (?, ?)", claims)
        self._has_claims = self._has_claims or bool(unfinished)
        return unfinished

    def abandoned(self, keys: Sequence[str]) -> bool:
        """Return whether a process of this host ended while it was training one of the runs.

        Args:
            keys: Keys of runs.
        """
        query = f"SELECT {_PROCESS} FROM owner WHERE token IN (SELECT owner FROM claim WHERE key = ?)"
        with self._transaction("DEFERRED") as connection:
            owners = {row for key in keys for row in connection.execute(query, [key])}
        return any(ClaimOwner(*owner).has_ended() for owner in owners)

    def renew(self) -> None:
        """Extend all claims to :data:`LEASE` seconds from now."""
        with self._lock:
            if not self._has_claims:
                return
            with self._transaction() as connection:
                expiry = [time.time() + LEASE, self._token]
                renewed = connection.execute("UPDATE owner SET expires = ? WHERE token = ?", expiry)
            self._has_claims = renewed.rowcount > 0

    def release(self, keys: Sequence[str]) -> None:
        """Release claims on runs that will not be trained.

        Args:
            keys: Keys of the runs.
        """
        with self._transaction() as connection:
            claims = [(key, self._token) for key in keys]
            connection.executemany("DELETE FROM claim WHERE key = ? AND owner = ?", claims)
            _delete_idle_owners(connection)

    def claims(self) -> pd.DataFrame:
        """Return the owners of the current claims.

        Returns:
            One row per owner: ``host``, ``pid``, the number of ``runs``, and the ``seconds`` until the claim
            expires unless it is renewed.
        """
        query = f"""SELECT (SELECT count(*) FROM claim WHERE owner = token), expires, {_PROCESS}
                    FROM owner ORDER BY host, pid"""
        now, rows = time.time(), []
        with self._transaction("DEFERRED") as connection:
            for runs, expires, *columns in connection.execute(query):
                process = ClaimOwner(*columns)
                if expires > now and not process.has_ended():
                    rows.append((process.host, process.pid, runs, expires - now))
        return pd.DataFrame(rows, columns=["host", "pid", "runs", "seconds"])

    # -- runs -------------------------------------------------------------------------------------------

    def record(self, entries: Sequence[StoredRun]) -> list[str]:
        """Record finished runs, all or none, and end the claims on them.

        The first result of a run is kept. A second one is compared with it, and differences that rounding
        does not explain are recorded as discrepancies.

        Args:
            entries: Finished runs.

        Returns:
            A sentence for each discrepancy; each is logged as a warning too.

        Raises:
            UsageError: The file cannot be written; none of the runs is recorded.
        """
        return self._store(entries)[1]

    def finished(self, keys: Sequence[str]) -> frozenset[str]:
        """Return the keys that have a finished run.

        Args:
            keys: Keys of runs.
        """
        with self._transaction("DEFERRED"):
            return self._finished(keys)

    def results(self, keys: Sequence[str]) -> dict[str, Result]:
        """Return the recorded results, bit for bit, with weights if they were recorded.

        Args:
            keys: Keys of runs.

        Returns:
            The results of the finished runs, in the order of ``keys``.
        """
        with self._transaction("DEFERRED"):
            entries = {key: self._read(key) for key in keys}
        return {key: entry.result for key, entry in entries.items() if entry}

    def settings(self, key: str) -> dict[str, Any]:
        """Return everything that determines the result of a run.

        Args:
            key: Its key.

        Raises:
            UsageError: There is no such run.
        """
        with self._transaction("DEFERRED") as connection:
            row = connection.execute("SELECT settings FROM run WHERE key = ?", [key]).fetchone()
            if row is None:
                raise UsageError(f"ledger {str(self.path)!r} has no run {key!r}")
            with report_damage(self.path, key):
                return loads(row[0])

    def runs(self) -> pd.DataFrame:
        """Return one row per run, in the order of recording.

        Returns:
            The columns :data:`RUN_COLUMNS`; folds from 1, the accuracy from 0 to 1, ``finished`` in UTC.
        """
        rows = []
        with self._transaction("DEFERRED") as connection:
            for values in connection.execute(f"SELECT {', '.join(STORED_COLUMNS)} FROM run ORDER BY id"):
                row = dict(zip(STORED_COLUMNS, values, strict=True))
                with report_damage(self.path, row["key"]):
                    row |= {name: to_float(row[name]) for name in ("test_loss", "test_acc", "seconds")}
                    settings = loads(row["settings"])
                    row |= {name: settings.get(name) for name in ("activation", "seed", "fold")}
                    row["fold"] = row["fold"] + 1 if isinstance(row["fold"], int) else None
                rows.append(row)
        return pd.DataFrame(rows, columns=RUN_COLUMNS)

    def history(self) -> pd.DataFrame:
        """Return one row per run and epoch.

        Returns:
            ``key``, ``epoch`` (from 1) and the values of the epoch, in skorch's columns.
        """
        query = "SELECT key, epoch, figures FROM history JOIN run ON run = id ORDER BY run, epoch"
        rows = []
        with self._transaction("DEFERRED") as connection:
            for key, epoch, figures in connection.execute(query):
                with report_damage(self.path, key):
                    rows.append({"key": key, "epoch": epoch} | loads(figures) | {"key": key, "epoch": epoch})
        return pd.DataFrame(rows, columns=None if rows else ["key", "epoch"])

    def verify(self) -> list[str]:
        """Check the file and everything in it.

        Returns:
            A sentence for each problem; empty if there is none.
        """
        problems: list[str] = []
        for check in (self._check_file, self._check_runs, self._check_discrepancies):
            try:
                with self._transaction("DEFERRED") as connection:
                    problems += check(connection)
            except UsageError as error:
                problems.append(str(error))
        return problems

    def merge(self, other: Ledger | str | os.PathLike[str]) -> tuple[int, list[str]]:
        """Copy the runs and discrepancies of another ledger, which is only read.

        Args:
            other: The other ledger, or its file.

        Returns:
            The number of runs copied, and a sentence for each discrepancy between runs that are in both.

        Raises:
            UsageError: One of the files cannot be read or written. Copied runs stay, and the same call copies
                the rest.
        """
        if not isinstance(other, Ledger):
            with Ledger(other, readonly=True) as ledger:
                return self.merge(ledger)
        if os.path.samefile(self.path, other.path):
            return 0, []
        with other._transaction("DEFERRED") as connection:
            keys = [key for (key,) in connection.execute("SELECT key FROM run ORDER BY id")]
            query = "SELECT field, first, second, recorded, key FROM discrepancy JOIN run ON run = id"
            discrepancies = connection.execute(query).fetchall()
        copied = 0
        sentences: list[str] = []
        for start in range(0, len(keys), _BATCH):
            with other._transaction("DEFERRED"):
                entries = [entry for key in keys[start : start + _BATCH] if (entry := other._read(key))]
            new, differences = self._store(entries)
            copied += new
            sentences += differences
        with self._transaction():
            self._insert_discrepancies(discrepancies)
        return copied, sentences

    # -- comparisons ------------------------------------------------------------------------------------

    def start_comparison(self, about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
        """Record the start of a comparison and its runs, each with its ``key``; return its token."""
        token = hash_description({"runs": [str(run["key"]) for run in runs]})
        with self._transaction() as connection:
            row = [token, get_utc_time(), dumps(about), dumps({"runs": runs})]
            connection.execute("INSERT OR REPLACE INTO comparison VALUES (?, ?, ?, ?)", row)
        return token

    def end_comparison(self, token: str) -> None:
        """Delete the record of a comparison that has ended."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM comparison WHERE token = ?", [token])

    def unfinished_comparisons(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Return the descriptions and the runs of unfinished comparisons, newest first."""
        query = "SELECT token, about, runs FROM comparison ORDER BY started DESC, rowid DESC"
        comparisons = []
        with self._transaction("DEFERRED") as connection:
            for token, about, runs in connection.execute(query):
                with report_damage(self.path, token):
                    comparisons.append((loads(about), loads(runs)["runs"]))
        return comparisons

    # -- within a transaction ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._lock, translate_errors(self.path), transaction(self._connection, kind):
            yield self._connection

    def _store(self, entries: Sequence[StoredRun]) -> tuple[int, list[str]]:
        """Insert runs; return how many are new, and the discrepancies of the others."""
        max_bytes = self._connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - 1000  # for the other columns
        states = [
            pack_weights(entry.result.weights, max_bytes) if self.weights else None for entry in entries
        ]
        new, sentences = 0, []
        with self._transaction() as connection:
            for entry, state in zip(entries, states, strict=True):
                is_new = insert_entry(connection, entry)
                discrepancies = [] if is_new else self._compare(entry)
                new += is_new
                sentences += discrepancies
                if state and not discrepancies:
                    statement = "INSERT OR IGNORE INTO weights SELECT id, ?, ? FROM run WHERE key = ?"
                    connection.execute(statement, [*state, entry.key])
            connection.executemany("DELETE FROM claim WHERE key = ?", [(entry.key,) for entry in entries])
            _delete_idle_owners(connection)
        for sentence in sentences:
            log.warning("%s", sentence)
        return new, sentences

    def _compare(self, entry: StoredRun) -> list[str]:
        """Record how a second result differs from the first."""
        first = self._read(entry.key, weights=False)
        assert first is not None
        differences = find_differences(first.result, entry.result)
        self._insert_discrepancies([(*difference, get_utc_time(), entry.key) for difference in differences])
        return [describe_difference(entry.key, *difference) for difference in differences]

    def _insert_discrepancies(self, rows: Sequence[tuple[str, ...]]) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO discrepancy (field, first, second, recorded, run)"
            " SELECT ?, ?, ?, ?, id FROM run WHERE key = ?",
            rows,
        )

    def _finished(self, keys: Sequence[str]) -> frozenset[str]:
        query = "SELECT 1 FROM run WHERE key = ?"
        return frozenset(key for key in keys if self._connection.execute(query, [key]).fetchone())

    def _read(self, key: str, weights: bool = True) -> StoredRun | None:
        with report_damage(self.path, key):
            return read_entry(self._connection, key, weights)

    # -- checks, each of which returns a sentence for every problem ---------------------------------------

    def _check_file(self, connection: sqlite3.Connection) -> list[str]:
        reports = [" ".join(text.split()) for (text,) in connection.execute("PRAGMA integrity_check")]
        problems = [f"SQLite reports: {report}" for report in reports if report != "ok"]
        for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            problems.append(f"a row of table {table!r} has no parent in table {parent!r}")
        return problems

    def _check_runs(self, connection: sqlite3.Connection) -> list[str]:
        problems = []
        for run, key, count in connection.execute("SELECT id, key, epochs FROM run ORDER BY id").fetchall():
            epochs = [e for (e,) in connection.execute("SELECT epoch FROM history WHERE run = ?", [run])]
            if sorted(epochs) != list(range(1, count + 1)):
                problems.append(f"run {trim_key(key)}: its history has the epochs {epochs}, not 1 to {count}")
            try:
                entry = self._read(key)
                if entry and hash_description(dict(entry.settings)) != key:
                    problems.append(f"run {trim_key(key)}: its settings do not match its key")
            except (UsageError, TypeError, ValueError) as error:
                problems.append(str(error))
        return problems

    def _check_discrepancies(self, connection: sqlite3.Connection) -> list[str]:
        query = (
            "SELECT key, field, first, second FROM discrepancy JOIN run ON run = id ORDER BY recorded, run"
        )
        return [describe_difference(*row) for row in connection.execute(query)]


def _delete_idle_owners(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM owner WHERE NOT EXISTS (SELECT 1 FROM claim WHERE claim.owner = owner.token)"
    )

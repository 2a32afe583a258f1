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
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.ledger.owner import Process
from actlab.ledger.records import (
    RUN_COLUMNS,
    STORED,
    Entry,
    differences,
    dumps,
    find,
    insert,
    loads,
    now,
    number,
    packed,
    reading,
    sentence,
)
from actlab.ledger.run_key import digest
from actlab.ledger.sqlite import opened, speaking, transaction
from actlab.ledger.verify import LOOKS

__all__ = ["LEASE", "RUN_COLUMNS", "Entry", "Ledger"]

log = logging.getLogger("actlab")

LEASE = 60.0  # seconds that a claim holds without being renewed
_BATCH = 100  # runs that a merge takes over at once: other writers wait for no more


class Ledger:
    """All finished runs of a person or a group, in one file that many processes may write at once.

    Args:
        path: The file; it is made, with its folder, if it is not there.
        weights: Whether the nets' weights are recorded too; an attribute as well.
        readonly: Whether the file is only read.

    Raises:
        UsageError: The file cannot be opened or is no ledger; it is left as it was.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> settings = {"activation": "relu", "seed": 0, "fold": 1}
        >>> with TemporaryDirectory() as folder, Ledger(f"{folder}/runs.db") as ledger:
        ...     claimed = ledger.claim(["3f2a"])
        ...     ledger.record([Entry("3f2a", settings, Result(test_acc=0.5))])
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
        self._holding = False  # whether anything may be claimed
        self._lock = threading.RLock()  # a transaction belongs to one thread
        self._connection = opened(self.path, readonly)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is claimed and close the file; once closed it stays so."""
        with self._lock:
            if self._holding:
                with contextlib.suppress(UsageError), self._transaction():  # a lease ends by itself
                    self._connection.execute("DELETE FROM owner WHERE token = ?", [self._token])
                self._holding = False
            self._connection.close()

    def claim(self, keys: Sequence[str]) -> frozenset[str] | None:
        """Take runs that are to be trained together, unless somebody else trains one of them.

        Args:
            keys: Their keys.

        Returns:
            Those that have no finished run yet, claimed for :data:`LEASE` seconds; None, and nothing is
            claimed, when one of them is somebody else's.

        Raises:
            UsageError: The file cannot be written.
        """
        here, now, ours = Process.this(), time.time(), self._token
        with self._transaction() as do:
            for token, expires, *process in do.execute(
                "SELECT token, expires, host, machine, boot, space, pid, started FROM owner WHERE token != ?",
                [ours],
            ).fetchall():
                if expires <= now or Process(*process).gone(here):
                    do.execute("DELETE FROM owner WHERE token = ?", [token])
            finished = "SELECT 1 FROM run WHERE key = ?"
            wanted = frozenset(key for key in keys if not do.execute(finished, [key]).fetchone())
            others = "SELECT 1 FROM claim WHERE key = ? AND owner != ?"
            if any(do.execute(others, [key, ours]).fetchone() for key in wanted):
                return None
            if wanted:
                do.execute(
                    "INSERT INTO owner VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (token) DO UPDATE SET expires = excluded.expires",
                    [ours, now + LEASE, *here.columns],
                )
                do.executemany("INSERT OR IGNORE INTO claim VALUES (?, ?)", [(key, ours) for key in wanted])
        self._holding = self._holding or bool(wanted)
        return wanted

    def finished(self, keys: Sequence[str]) -> frozenset[str]:
        """Return those of the keys that have a finished run.

        Args:
            keys: The runs that are asked for.
        """
        with self._transaction("DEFERRED") as do:
            query = "SELECT 1 FROM run WHERE key = ?"
            return frozenset(key for key in keys if do.execute(query, [key]).fetchone())

    def abandoned(self, keys: Sequence[str]) -> bool:
        """Say whether a process of this host has ended while it trained one of these runs.

        Args:
            keys: The runs.
        """
        query = """SELECT host, machine, boot, space, pid, started FROM owner
                   WHERE token IN (SELECT owner FROM claim WHERE key = ?)"""
        here = Process.this()
        with self._transaction("DEFERRED") as do:
            owners = {row for key in keys for row in do.execute(query, [key])}
        return any(Process(*owner).gone(here) for owner in owners)

    def renew(self) -> None:
        """Let what is claimed stay so for another :data:`LEASE` seconds; to be called every few seconds."""
        with self._lock:
            if not self._holding:
                return
            with self._transaction() as do:
                until = time.time() + LEASE
                found = do.execute("UPDATE owner SET expires = ? WHERE token = ?", [until, self._token])
            self._holding = found.rowcount > 0

    def release(self, keys: Sequence[str]) -> None:
        """Give claims back.

        Args:
            keys: The runs that will not be trained after all.
        """
        with self._transaction() as do:
            do.executemany(
                "DELETE FROM claim WHERE key = ? AND owner = ?", [(key, self._token) for key in keys]
            )
            _forget_idle(do)

    def record(self, entries: Sequence[Entry]) -> list[str]:
        """Put finished runs into the file, all or none; the claims on them end.

        The first result of a run stays. A second one is compared with it, and what differs by more than
        rounding explains is kept as a discrepancy.

        Args:
            entries: The runs of a fleet, say.

        Returns:
            A sentence for each discrepancy; they are logged as warnings too.

        Raises:
            UsageError: The file cannot be written; it has none of the runs then.
        """
        return self._store(entries)[1]

    def results(self, keys: Sequence[str]) -> dict[str, Result]:
        """Return what was recorded, to the last bit, with weights where there are any.

        Args:
            keys: The runs that are wanted.

        Returns:
            The results of those that are finished, in the order of ``keys``.
        """
        with self._transaction("DEFERRED"):
            found = {key: self._find(key) for key in keys}
        return {key: entry.result for key, entry in found.items() if entry}

    def runs(self) -> pd.DataFrame:
        """Return one row per run, in the order in which they were recorded.

        Returns:
            The columns :data:`RUN_COLUMNS`; folds from 1, the accuracy from 0 to 1, ``finished`` in UTC.
        """
        query = f"SELECT {STORED} FROM run ORDER BY id"
        rows = []
        with self._transaction("DEFERRED") as do:
            for key, settings, *values in do.execute(query):
                with reading(self.path, key):
                    row = dict(zip(STORED.split(", ")[2:], values, strict=True))
                    row |= {name: number(row[name]) for name in ("test_loss", "test_acc", "seconds")}
                    described = loads(settings)
                    own = {name: described.get(name) for name in ("activation", "seed", "fold")}
                    own["fold"] = own["fold"] + 1 if isinstance(own["fold"], int) else None
                rows.append({"key": key, **row, **own})
        return pd.DataFrame(rows, columns=RUN_COLUMNS)

    def history(self) -> pd.DataFrame:
        """Return one row per run and epoch.

        Returns:
            ``key``, ``epoch`` (from 1) and the figures of the epoch, in skorch's columns.
        """
        query = "SELECT key, epoch, figures FROM history JOIN run ON run = id ORDER BY run, epoch"
        rows = []
        with self._transaction("DEFERRED") as do:
            for key, epoch, figures in do.execute(query):
                with reading(self.path, key):
                    rows.append({"key": key, "epoch": epoch} | loads(figures) | {"key": key, "epoch": epoch})
        return pd.DataFrame(rows, columns=None if rows else ["key", "epoch"])

    def begin(self, about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
        """Note what a comparison is about and its runs, each with its ``key``; return what to end it with."""
        token = digest({"runs": [str(run["key"]) for run in runs]})
        with self._transaction() as do:
            plan = [token, now(), dumps(about), dumps({"runs": runs})]
            do.execute("INSERT OR REPLACE INTO begun VALUES (?, ?, ?, ?)", plan)
        return token

    def end(self, token: str) -> None:
        """Note that a comparison has ended."""
        with self._transaction() as do:
            do.execute("DELETE FROM begun WHERE token = ?", [token])

    def begun(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Return what the comparisons that have not ended began with, the last to begin first."""
        query = "SELECT token, about, runs FROM begun ORDER BY at DESC, rowid DESC"
        found = []
        with self._transaction("DEFERRED") as do:
            for token, about, runs in do.execute(query):
                with reading(self.path, token):
                    found.append((loads(about), loads(runs)["runs"]))
        return found

    def settings(self, key: str) -> dict[str, Any]:
        """Return what describes a run.

        Args:
            key: Its key.

        Raises:
            UsageError: There is no such run.
        """
        with self._transaction("DEFERRED") as do:
            row = do.execute("SELECT settings FROM run WHERE key = ?", [key]).fetchone()
            if row is None:
                raise UsageError(f"ledger {str(self.path)!r} has no run {key!r}")
            with reading(self.path, key):
                return loads(row[0])

    def claims(self) -> pd.DataFrame:
        """Return who trains runs at this moment.

        Returns:
            One row per owner: ``host``, ``pid``, the number of ``runs``, and the ``seconds`` after which the
            claim ends unless it is renewed.
        """
        query = """SELECT (SELECT count(*) FROM claim WHERE owner = token), expires,
                   host, machine, boot, space, pid, started FROM owner ORDER BY host, pid"""
        here, now, rows = Process.this(), time.time(), []
        with self._transaction("DEFERRED") as do:
            for runs, expires, *columns in do.execute(query):
                process = Process(*columns)
                if expires > now and not process.gone(here):
                    rows.append((process.host, process.pid, runs, expires - now))
        return pd.DataFrame(rows, columns=["host", "pid", "runs", "seconds"])

    def verify(self) -> list[str]:
        """Look for everything that can be wrong with the file and with what is in it.

        Returns:
            A sentence for each problem; an empty list says that there is none.
        """
        problems: list[str] = []
        for look in LOOKS:
            try:
                with self._transaction("DEFERRED") as do:
                    problems += look(do, self._find)
            except UsageError as error:
                problems.append(str(error))
        return problems

    def merge(self, other: Ledger | str | os.PathLike[str]) -> tuple[int, list[str]]:
        """Take over the runs, and the discrepancies, of another ledger, which is only read.

        Args:
            other: The other ledger, or its file.

        Returns:
            How many runs were taken over, and a sentence for each discrepancy between runs that are in both.

        Raises:
            UsageError: One of the files cannot be read or written; what was taken over so far stays, and
                the same call goes on.
        """
        if not isinstance(other, Ledger):
            with Ledger(other, readonly=True) as opened_here:
                return self.merge(opened_here)
        if os.path.samefile(self.path, other.path):
            return 0, []
        with other._transaction("DEFERRED") as do:
            keys = [key for (key,) in do.execute("SELECT key FROM run ORDER BY id")]
        taken = 0
        sentences: list[str] = []
        for start in range(0, len(keys), _BATCH):
            with other._transaction("DEFERRED"):
                entries = [entry for key in keys[start : start + _BATCH] if (entry := other._find(key))]
            new, said = self._store(entries)
            taken += new
            sentences += said
        with other._transaction("DEFERRED") as do:
            noted = do.execute(
                "SELECT what, kept, found, noted, key FROM discrepancy JOIN run ON run = id"
            ).fetchall()
        with self._transaction() as do:
            do.executemany(
                "INSERT OR IGNORE INTO discrepancy (what, kept, found, noted, run)"
                " SELECT ?, ?, ?, ?, id FROM run WHERE key = ?",
                noted,
            )
        return taken, sentences

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._lock, speaking(self.path), transaction(self._connection, kind):
            yield self._connection

    def _store(self, entries: Sequence[Entry]) -> tuple[int, list[str]]:
        limit = self._connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - 1000  # a row's other columns
        states = [packed(entry.result.weights, limit) if self.weights else None for entry in entries]
        new, sentences = 0, []
        with self._transaction() as do:
            for entry, state in zip(entries, states, strict=True):
                if inserted := insert(do, entry):
                    new += 1
                differing = [] if inserted else self._compare(entry)
                sentences += differing
                if state and not differing:
                    do.execute(
                        "INSERT OR IGNORE INTO weights SELECT id, ?, ? FROM run WHERE key = ?",
                        [*state, entry.key],
                    )
            do.executemany("DELETE FROM claim WHERE key = ?", [(entry.key,) for entry in entries])
            _forget_idle(do)
        for said in sentences:
            log.warning("%s", said)
        return new, sentences

    def _compare(self, entry: Entry) -> list[str]:
        """Note how a second result differs from the first, which is there."""
        first = self._find(entry.key, weights=False)
        assert first is not None
        differing = differences(first.result, entry.result)
        self._connection.executemany(
            "INSERT OR IGNORE INTO discrepancy SELECT id, ?, ?, ?, ? FROM run WHERE key = ?",
            [(*difference, now(), entry.key) for difference in differing],
        )
        return [sentence(entry.key, *difference) for difference in differing]

    def _find(self, key: str, weights: bool = True) -> Entry | None:
        with reading(self.path, key):
            return find(self._connection, key, weights)


def _forget_idle(do: sqlite3.Connection) -> None:
    do.execute("DELETE FROM owner WHERE NOT EXISTS (SELECT 1 FROM claim WHERE claim.owner = owner.token)")

"""Claims, records and counts of a ledger session."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.ledger import session as session_module
from actlab.ledger import sqlite
from actlab.ledger.ledger import Ledger
from actlab.ledger.session import open_session
from tests.fleet_runs import one_thread, run
from tests.ledger_cases import open_sqlite, path
from tests.processes import wait_until

__all__ = ["one_thread", "path"]

RUNS = [run(seed=seed) for seed in range(4)]


def session_of(ledger, **options):
    return open_session(ledger, RUNS, "data", **options)


def test_session_releases_runs_that_were_not_recorded(path):
    with Ledger(path) as ledger, Ledger(path) as other:
        with session_of(ledger) as session:
            assert session.claim_or_restore([0, 1]) == {}
            assert session.claim_or_restore([2]) == {}
            session.record([0], [Result(test_acc=0.5)], 1)
            assert session.claimed == set(session.keys[1:3])
            assert other.claims()["runs"].tolist() == [2]
            assert other.claim(session.keys[1:2]) is None
        assert other.claims().empty  # the ledger itself is still open
        assert other.claim(session.keys) == set(session.keys[1:])


def test_session_claims_all_runs_or_none(path):
    with Ledger(path) as ledger, Ledger(path) as other, session_of(ledger) as session:
        other.claim([session.keys[1]])
        assert session.claim_or_restore([0, 1]) is None
        assert (session.claimed, session.restored) == (set(), 0)
        assert other.claims()["runs"].tolist() == [1]


def test_session_counts_restored_and_finished_runs(path):
    with Ledger(path) as ledger:
        with session_of(ledger) as session:
            session.record([1, 3], [Result(test_acc=0.25), Result(test_acc=0.75)], 1)
            assert (session.restored, session.count_finished()) == (0, 2)
        with session_of(ledger) as session:
            restored = session.claim_or_restore([3, 0])
            assert {index: result.test_acc for index, result in restored.items()} == {3: 0.75}
            assert (session.restored, session.claimed) == (1, {session.keys[0]})
            assert {index: result.test_acc for index, result in session.claim_or_restore([1]).items()} == {
                1: 0.25
            }
            assert session.restored == 2


def test_session_with_weights_restores_only_failures_without_weights(path):
    results = [Result(test_acc=0.5), Result(failure="diverged"), Result(failure="")]
    with Ledger(path, weights=True) as ledger:
        with session_of(ledger) as session:
            session.record([0, 1, 2], results, 1)
            assert set(session.claim_or_restore([0, 1, 2])) == {0, 1, 2}
        with session_of(ledger, weights=True) as session:
            assert {
                index: restored.failure for index, restored in session.claim_or_restore([0, 1, 2]).items()
            } == {1: "diverged"}
            assert session.restored == 1


def test_session_with_weights_rejects_a_ledger_without_weights(path):
    with Ledger(path) as ledger, pytest.raises(UsageError, match="does not store weights"):
        session_of(ledger, weights=True).__enter__()
    with session_of(path, weights=True) as session:
        assert session.ledger.weights


def test_session_record_stores_attempts_and_omits_temporary_failures(path):
    with Ledger(path) as ledger:
        with session_of(ledger) as session:
            session.claim_or_restore([0, 1])
            session.record([0, 1], [Result(test_acc=0.5), Result(failure="no memory", passing=True)], 3)
            assert session.claimed == {session.keys[1]}
        assert ledger.runs()[["key", "attempts"]].values.tolist() == [[session.keys[0], 3]]


def test_session_renews_its_claims_and_continues_after_a_lock(path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "actlab")
    monkeypatch.setattr(session_module, "LEASE", 0.3)
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    with Ledger(path) as ledger, open_sqlite(path) as file:

        def read_expiry():
            return file.execute("SELECT max(expires) FROM owner").fetchone()[0]

        with session_of(ledger) as session:
            session.claim_or_restore([0])
            before = read_expiry()
            assert wait_until(lambda: read_expiry() > before)
            file.execute("BEGIN IMMEDIATE")
            assert wait_until(lambda: "claims are not renewed" in caplog.text)
            file.execute("ROLLBACK")
            locked = read_expiry()
            assert wait_until(lambda: read_expiry() > locked)


def test_session_renews_its_claims_several_times_per_lease(path, monkeypatch):
    intervals = []

    class RecordingEvent(threading.Event):
        def wait(self, timeout=None):
            intervals.append(timeout)
            return super().wait(0.01)

    monkeypatch.setattr(
        session_module, "threading", SimpleNamespace(Event=RecordingEvent, Thread=threading.Thread)
    )
    with session_of(path):
        assert wait_until(lambda: len(intervals) > 2)
    assert set(intervals) == {10.0}  # seconds; a lease has 60


def test_session_ends_if_its_claims_cannot_be_released(path, monkeypatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    with Ledger(path) as ledger, open_sqlite(path) as file:
        with session_of(ledger) as session:
            session.claim_or_restore([0])
            file.execute("BEGIN IMMEDIATE")
        file.execute("ROLLBACK")
        assert ledger.claims()["runs"].tolist() == [1]  # until the lease ends

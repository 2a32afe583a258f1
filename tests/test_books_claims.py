"""What the books of a comparison claim, keep, count and give back."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.ledger import session, sqlite
from actlab.ledger.ledger import Ledger
from actlab.ledger.session import bookkeeping
from tests.fleet_runs import one_thread, run
from tests.ledgers import path, raw
from tests.processes import waited

__all__ = ["one_thread", "path"]

RUNS = [run(seed=seed) for seed in range(4)]


def books_of(ledger, **options):
    return bookkeeping(ledger, RUNS, "data", **options)


def test_bookkeeping_gives_back_what_was_not_recorded(path):
    with Ledger(path) as ledger, Ledger(path) as other:
        with books_of(ledger) as books:
            assert books.claim([0, 1]) == {}
            assert books.claim([2]) == {}
            books.record([0], [Result(test_acc=0.5)], 1)
            assert books.claimed == set(books.keys[1:3])
            assert other.claims()["runs"].tolist() == [2]
            assert other.claim(books.keys[1:2]) is None
        assert other.claims().empty  # the ledger itself is still open
        assert other.claim(books.keys) == set(books.keys[1:])


def test_bookkeeping_claims_all_or_none(path):
    with Ledger(path) as ledger, Ledger(path) as other, books_of(ledger) as books:
        other.claim([books.keys[1]])
        assert books.claim([0, 1]) is None
        assert (books.claimed, books.known) == (set(), 0)
        assert other.claims()["runs"].tolist() == [1]


def test_bookkeeping_counts_what_is_known(path):
    with Ledger(path) as ledger:
        with books_of(ledger) as books:
            books.record([1, 3], [Result(test_acc=0.25), Result(test_acc=0.75)], 1)
            assert (books.known, books.finished()) == (0, 2)
        with books_of(ledger) as books:
            found = books.claim([3, 0])
            assert {place: result.test_acc for place, result in found.items()} == {3: 0.75}
            assert (books.known, books.claimed) == (1, {books.keys[0]})
            assert {place: result.test_acc for place, result in books.claim([1]).items()} == {1: 0.25}
            assert books.known == 2


def test_bookkeeping_that_needs_weights_takes_only_failures_without(path):
    results = [Result(test_acc=0.5), Result(failure="diverged"), Result(failure="")]
    with Ledger(path, weights=True) as ledger:
        with books_of(ledger) as books:
            books.record([0, 1, 2], results, 1)
            assert set(books.claim([0, 1, 2])) == {0, 1, 2}
        with books_of(ledger, weights=True) as books:
            assert {place: found.failure for place, found in books.claim([0, 1, 2]).items()} == {
                1: "diverged"
            }
            assert books.known == 1


def test_bookkeeping_that_needs_weights_refuses_a_ledger_without(path):
    with Ledger(path) as ledger, pytest.raises(UsageError, match="keeps no weights, which are needed"):
        books_of(ledger, weights=True).__enter__()
    with books_of(path, weights=True) as books:
        assert books.ledger.weights


def test_record_keeps_the_tries_and_leaves_out_what_may_go_better(path):
    with Ledger(path) as ledger:
        with books_of(ledger) as books:
            books.claim([0, 1])
            books.record([0, 1], [Result(test_acc=0.5), Result(failure="no memory", passing=True)], 3)
            assert books.claimed == {books.keys[1]}
        assert ledger.runs()[["key", "attempts"]].values.tolist() == [[books.keys[0], 3]]


def test_bookkeeping_renews_its_claims_and_goes_on_after_a_lock(path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "actlab")
    monkeypatch.setattr(session, "LEASE", 0.3)
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    with Ledger(path) as ledger, raw(path) as file:

        def expires():
            return file.execute("SELECT max(expires) FROM owner").fetchone()[0]

        with books_of(ledger) as books:
            books.claim([0])
            before = expires()
            assert waited(lambda: expires() > before)
            file.execute("BEGIN IMMEDIATE")
            assert waited(lambda: "claims are not renewed" in caplog.text)
            file.execute("ROLLBACK")
            locked = expires()
            assert waited(lambda: expires() > locked)


def test_bookkeeping_renews_its_claims_several_times_in_a_lease(path, monkeypatch):
    intervals = []

    class Watched(threading.Event):
        def wait(self, timeout=None):
            intervals.append(timeout)
            return super().wait(0.01)

    monkeypatch.setattr(session, "threading", SimpleNamespace(Event=Watched, Thread=threading.Thread))
    with books_of(path):
        assert waited(lambda: len(intervals) > 2)
    assert set(intervals) == {10.0}  # seconds; a lease has 60


def test_bookkeeping_ends_where_claims_cannot_be_given_back(path, monkeypatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    with Ledger(path) as ledger, raw(path) as file:
        with books_of(ledger) as books:
            books.claim([0])
            file.execute("BEGIN IMMEDIATE")
        file.execute("ROLLBACK")
        assert ledger.claims()["runs"].tolist() == [1]  # until its lease ends

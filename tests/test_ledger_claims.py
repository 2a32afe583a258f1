"""Claims of a ledger, and many processes that write it: some are killed, and no run is lost."""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
import time

import pytest
import torch

from actlab.ledger import ledger as ledger_module
from actlab.ledger import sqlite
from actlab.ledger.ledger import Ledger
from actlab.ledger.owner import ClaimOwner
from tests.ledger_cases import hold_claims, make_entry, make_key, path
from tests.processes import fork_processes, forks, kill_process, list_living, wait_for_exit, wait_until

__all__ = ["path"]

# Claims


def test_claim_gives_unfinished_runs_to_one_owner(path):
    with Ledger(path) as one, Ledger(path) as two:
        one.record([make_entry(0)])
        assert one.claim([make_key(0), make_key(1)]) == {make_key(1)}
        assert one.claim([make_key(1), make_key(2)]) == {make_key(1), make_key(2)}
        assert two.claim([make_key(2), make_key(3)]) is None
        assert two.claim([make_key(3)]) == {make_key(3)}
        assert two.claim([make_key(0)]) == frozenset()
        assert sorted(two.claims()["runs"]) == [1, 2]
        assert set(two.claims()["pid"]) == {os.getpid()}
        two.release([make_key(1)])
        assert two.claim([make_key(1)]) is None
        one.release([make_key(1)])
        assert two.claim([make_key(1)]) == {make_key(1)}
        one.record([make_entry(2)])
        assert two.claim([make_key(2)]) == frozenset()
        assert two.claims()["runs"].tolist() == [2]


def test_close_releases_claims(path):
    with Ledger(path) as one:
        with Ledger(path) as two:
            two.claim([make_key(0)])
            assert one.claim([make_key(0)]) is None
        assert one.claim([make_key(0)]) == {make_key(0)}


def test_renew_keeps_a_claim_until_it_expires(path, monkeypatch):
    now = time.time()
    monkeypatch.setattr(ledger_module.time, "time", lambda: now)
    with Ledger(path) as one, Ledger(path) as two:
        one.renew()
        one.claim([make_key(0)])
        now += 50
        assert two.claims()["seconds"].tolist() == [pytest.approx(10, abs=1e-3)]
        one.renew()
        now += 50
        assert two.claim([make_key(0)]) is None
        now += 11
        assert two.claims().empty
        assert two.claim([make_key(0)]) == {make_key(0)}
        one.renew()
        assert one.claim([make_key(0)]) is None
        assert one.record([make_entry(0)]) == []  # the result of the expired claim is still recorded
        assert two.claim([make_key(0)]) == frozenset()


@forks
def test_claims_of_a_killed_process_end(path):
    with hold_claims(path, [make_key(0)]) as owner, Ledger(path) as ledger:
        assert ledger.claim([make_key(0), make_key(1)]) is None
        assert ledger.claims()[["pid", "runs"]].values.tolist() == [[owner, 1]]
        os.kill(owner, signal.SIGKILL)
        assert wait_until(
            lambda: not list_living([owner])
        )  # it has ended, and its parent has not waited for it
        assert ledger.claims().empty
        assert ledger.claim([make_key(0), make_key(1)]) == {make_key(0), make_key(1)}


@forks
def test_abandoned_reports_runs_of_a_killed_process_until_claimed(path):
    with (
        hold_claims(path, [make_key(0), make_key(1)]) as killed_process,
        hold_claims(path, [make_key(2)]),
        Ledger(path) as ledger,
        Ledger(path, readonly=True) as reader,
    ):
        assert not ledger.abandoned([make_key(number) for number in range(4)])
        kill_process(killed_process)
        for reader_or_writer in (reader, ledger, reader):
            assert [reader_or_writer.abandoned([make_key(number)]) for number in range(4)] == [
                True,
                True,
                False,
                False,
            ]
            assert reader_or_writer.abandoned([make_key(3), make_key(2), make_key(1)])
            assert not reader_or_writer.abandoned([make_key(3), make_key(2)])
            assert not reader_or_writer.abandoned([])
        assert ledger.claim([make_key(0), make_key(1)]) == {make_key(0), make_key(1)}
        for reader_or_writer in (ledger, reader):
            assert not reader_or_writer.abandoned([make_key(number) for number in range(4)])


@forks
def test_abandoned_ignores_finished_and_released_runs(path):
    with hold_claims(path, [make_key(0), make_key(1)]) as killed_process, Ledger(path) as ledger:
        ledger.record([make_entry(0)])
        kill_process(killed_process)
        assert [ledger.abandoned([make_key(number)]) for number in range(2)] == [False, True]
    with hold_claims(path, [make_key(2)], Ledger.close) as closing_process:
        assert wait_for_exit(closing_process) == 0
        with Ledger(path, readonly=True) as ledger:
            assert not ledger.abandoned([make_key(2)])


def test_has_ended_is_true_only_for_a_process_that_certainly_ended():
    current = ClaimOwner.current()
    change = lambda **columns: ClaimOwner(**{**vars(current), **columns}).has_ended()  # noqa: E731
    assert not current.has_ended()
    assert change(started=1.0), "another process had the PID"
    assert change(pid=2**22 + 1)
    assert change(pid=2**70)
    assert not change(pid=2**22 + 1, host="elsewhere")


def test_ledger_can_be_used_from_many_threads(path):
    with Ledger(path) as ledger:
        work = [
            lambda n=n: [ledger.record([make_entry(n, fleet)]) or ledger.renew() for fleet in range(5)]
            for n in range(8)
        ]
        threads = [threading.Thread(target=one) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger.runs()) == 40


# Many processes, and crashes


@forks
def test_record_by_sixteen_processes_stores_every_run_once(path):
    def writer(own):
        with Ledger(path) as ledger:  # the first process creates the file
            for number in range(0, 50, 5):
                numbers = range(number, number + 5)
                ledger.record([make_entry(n, fleet="shared" if n % 2 else own) for n in numbers])

    with fork_processes(*(functools.partial(writer, own) for own in range(16))) as children:
        assert [wait_for_exit(child) for child in children] == [0] * 16
    expected = {make_key(n, "shared" if n % 2 else own) for n in range(50) for own in range(16)}
    with Ledger(path) as ledger:
        keys = ledger.runs()["key"]
        assert len(keys) == len(expected) == 25 * 16 + 25
        assert set(keys) == expected
        assert ledger.verify() == []


@forks
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_record_by_a_killed_process_leaves_complete_fleets(path, monkeypatch, journal):
    if journal == "delete":
        monkeypatch.setattr(sqlite, "find_network_file_system", lambda path: "nfs4")

    def writer(start, write_end):
        with Ledger(path, weights=True) as ledger:
            for fleet in range(start, start + 10_000):
                weights = {"w": torch.ones(2000)}
                ledger.record([make_entry(n, fleet, weights=weights) for n in range(7)])
                os.write(write_end, b".")

    rng, recorded = random.Random(0), 0
    for time_ in range(15):
        read_end, write_end = os.pipe()
        with fork_processes(functools.partial(writer, 10_000 * time_, write_end)) as (child,):
            os.close(write_end)
            os.read(read_end, 1)
            time.sleep(rng.uniform(0, 0.03))
            kill_process(child)
        recorded_fleets = 1
        while dots := os.read(read_end, 1 << 16):
            recorded_fleets += len(dots)
        os.close(read_end)
        with Ledger(path, weights=True) as ledger:
            runs = ledger.runs()
            fleets = [ledger.settings(one)["fleet"] for one in runs["key"]]
            sizes = {fleet: fleets.count(fleet) for fleet in fleets}
            assert set(sizes.values()) == {7}
            assert len(sizes) - recorded in (recorded_fleets, recorded_fleets + 1), (
                "every recorded fleet is in the ledger"
            )
            recorded = len(sizes)
    with Ledger(path) as ledger:
        assert ledger.verify() == []


@forks
def test_ledger_opens_after_its_creator_was_killed(tmp_path):
    def make(path):
        Ledger(path).close()

    for time_ in range(20):
        path = tmp_path / f"{time_}.db"
        with fork_processes(functools.partial(make, path)):  # the process is killed at the end of the block
            time.sleep(0.0005 * time_)
        with Ledger(path) as ledger:
            ledger.record([make_entry(0)])
            assert ledger.verify() == []

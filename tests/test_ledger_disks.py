"""Ledgers on disks that are full, read-only, remote or locked."""

from __future__ import annotations

import collections
import functools
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from actlab.errors import UsageError
from actlab.ledger import sqlite
from actlab.ledger.ledger import Ledger
from actlab.ledger.sqlite import find_network_file_system
from tests.ledger_cases import ledger_of_three, make_entry, make_key, mount_disk, open_sqlite, path, remount
from tests.processes import fork_processes, forks, wait_for_exit

__all__ = ["ledger_of_three", "path"]


def test_record_on_a_full_disk_keeps_finished_runs_and_resumes_with_space(tmp_path):
    with mount_disk(tmp_path / "disk", 600_000) as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(150_000))
        with Ledger(folder / "runs.db") as ledger:
            with pytest.raises(UsageError, match="the disk is full; finished runs are recorded"):
                collections.deque(
                    ledger.record([make_entry(number, fleet) for number in range(4)])
                    for fleet in range(10_000)
                )
            done, rest = divmod(len(ledger.runs()), 4)
            assert rest == 0
            assert done > 5
            assert ledger.verify() == []
            ballast.unlink()
            ledger.record([make_entry(number, done) for number in range(4)])
        with Ledger(folder / "runs.db") as ledger:
            assert len(ledger.runs()) == 4 * done + 4
            assert ledger.verify() == []


@pytest.mark.parametrize("free", [0, 16384, 49152], ids=["the file", "shared memory", "the journal"])
def test_ledger_reports_a_disk_without_space_for_the_file(tmp_path, free):
    with mount_disk(tmp_path / "disk", 65536) as folder:
        (folder / "ballast").write_bytes(bytes(65536 - free))
        with pytest.raises(UsageError, match="the disk is full"):
            Ledger(folder / "runs.db")


def test_ledger_on_a_read_only_disk_can_only_be_read(tmp_path):
    with mount_disk(tmp_path / "disk", 1_000_000) as folder:
        path = folder / "runs.db"
        with Ledger(path) as ledger:
            ledger.record([make_entry(0)])
        remount(folder, "ro")
        with pytest.raises(UsageError, match="the file system is read-only"):
            Ledger(path)
        with pytest.raises(UsageError, match="the file system is read-only"):
            Ledger(folder / "new.db")
        with Ledger(path, readonly=True) as ledger:
            assert list(ledger.results([make_key(0)])) == [make_key(0)]
            with pytest.raises(UsageError, match="opened read-only"):
                ledger.record([make_entry(1)])


@forks
def test_ledger_with_an_open_log_on_a_read_only_disk_is_rejected(tmp_path):
    def crash(path):
        ledger = Ledger(path)
        ledger.record([make_entry(0)])
        os.kill(os.getpid(), signal.SIGKILL)

    with mount_disk(tmp_path / "disk", 1_000_000) as folder:
        path = folder / "runs.db"
        with fork_processes(functools.partial(crash, path)) as (child,):
            assert wait_for_exit(child) == -signal.SIGKILL
        Path(f"{path}-shm").unlink()
        remount(folder, "ro")
        with pytest.raises(UsageError, match="copy both files to a writable folder"):
            Ledger(path, readonly=True)
        remount(folder, "rw")
        with Ledger(path, readonly=True) as ledger:
            assert list(ledger.results([make_key(0)])) == [make_key(0)]


def test_find_network_file_system_recognizes_network_mounts(monkeypatch):
    mounts = {
        "/": "ext4",
        "/home": "nfs4",
        "/home/kim": "ext4",
        "/mnt/my share": "fuse.sshfs",
        "/mnt/stick": "fuseblk",
        "/share": "cifs",
    }
    partitions = [SimpleNamespace(mountpoint=folder, fstype=kind) for folder, kind in mounts.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: partitions)
    for path_, kind in {
        "/runs.db": "",
        "/home/runs.db": "nfs4",
        "/homes/runs.db": "",
        "/home/kim/runs.db": "",
        "/mnt/my share/runs.db": "fuse.sshfs",
        "/mnt/stick/runs.db": "",
        "/share/runs.db": "cifs",
    }.items():
        assert find_network_file_system(Path(path_)) == kind, path_


def test_ledger_on_a_network_file_system_uses_a_rollback_journal(ledger_of_three, monkeypatch, caplog):
    monkeypatch.setattr(sqlite, "find_network_file_system", lambda path: "nfs4")
    with Ledger(ledger_of_three) as ledger, open_sqlite(ledger_of_three) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        ledger.record([make_entry(3)])
        assert len(ledger.runs()) == 4
    assert "network file system (nfs4): it uses a rollback journal" in caplog.text


def test_ledger_without_shared_memory_uses_a_rollback_journal(path, monkeypatch, caplog):
    connect = sqlite3.connect

    def connect_with_dot_file_locks(name, **options):
        return connect(name if name == ":memory:" else f"{name}&vfs=unix-dotfile", **options)

    monkeypatch.setattr(sqlite.sqlite3, "connect", connect_with_dot_file_locks)
    with Ledger(path) as ledger:
        ledger.record([make_entry(0)])
        assert not Path(f"{path}-wal").exists()
        assert ledger.claim([make_key(0), make_key(1)]) == {make_key(1)}
    assert "file system without shared memory" in caplog.text
    with Ledger(path, readonly=True) as ledger:
        assert list(ledger.results([make_key(0)])) == [make_key(0)]


def test_ledger_is_one_file_after_close(ledger_of_three):
    assert [file.name for file in ledger_of_three.parent.iterdir()] == ["runs.db"]
    with Ledger(ledger_of_three) as ledger, open_sqlite(ledger_of_three) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert ledger._connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert ledger._connection.execute("PRAGMA trusted_schema").fetchone() == (0,)


def test_record_reports_a_permanent_lock(ledger_of_three, monkeypatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    with Ledger(ledger_of_three) as ledger, open_sqlite(ledger_of_three) as file:
        file.execute("BEGIN IMMEDIATE")
        with pytest.raises(UsageError, match=r"locked by another process for 0\.05 seconds"):
            ledger.record([make_entry(3)])
        file.execute("ROLLBACK")
        ledger.record([make_entry(3)])
        assert len(ledger.runs()) == 4


def test_ledger_waits_for_a_process_that_creates_the_same_file(path):
    locked = threading.Event()

    def hold_lock():
        with open_sqlite(path) as file:
            file.execute("BEGIN IMMEDIATE")
            locked.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold_lock)
    thread.start()
    assert locked.wait(60)
    with Ledger(path) as ledger:
        ledger.record([make_entry(0)])
    thread.join()

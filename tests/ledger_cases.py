"""Fixtures and helpers for the tests of ledgers: entries, processes that hold claims, small disks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time

import pytest

from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.ledger.ledger import Ledger, StoredRun
from actlab.ledger.run_key import hash_description
from tests.processes import fork_processes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def ledger_of_three(path):
    """Return the path of a closed ledger with three runs."""
    with Ledger(path) as ledger:
        ledger.record([make_entry(number) for number in range(3)])
    return path


def settings(number, fleet=0):
    return {"activation": "relu", "seed": number, "fold": 1, "fleet": fleet}


def make_key(number, fleet=0):
    return hash_description(settings(number, fleet))


def make_epochs(number=3, train_loss=0.5):
    return [{"epoch": n, "train_loss": train_loss, "train_loss_best": n == 1} for n in range(1, number + 1)]


def make_entry(number, fleet=0, **changes):
    defaults = {
        "history": make_epochs(),
        "test_loss": 0.25,
        "test_acc": 0.75,
        "seconds": 1.5,
        "how": "layer by layer",
    }
    return StoredRun(make_key(number, fleet), settings(number, fleet), Result(**{**defaults, **changes}))


def read_refusal(path, **options):
    """Return the error message for a file, which must stay unchanged."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UsageError) as caught, contextlib.closing(Ledger(path, **options)) as ledger:
        ledger.results([make_key(number) for number in range(3)])
    assert before == (path.read_bytes() if path.is_file() else None)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(str(path)) in message
    return message


@contextlib.contextmanager
def open_sqlite(path):
    """Yield a direct SQLite connection to the file; its changes are saved at once."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@contextlib.contextmanager
def hold_claims(path, keys, then=lambda ledger: time.sleep(600)):
    """Yield the PID of another process that has claimed the keys; kill it at the end."""
    read_end, write_end = os.pipe()

    def hold():
        ledger = Ledger(path)
        claimed = ledger.claim(keys)
        os.write(write_end, b"y" if claimed == set(keys) else b"n")
        then(ledger)

    with fork_processes(hold) as (owner,):
        os.close(write_end)
        message = os.read(read_end, 1)
        os.close(read_end)
        assert message == b"y"
        yield owner


@contextlib.contextmanager
def mount_disk(folder, size):
    """Yield a folder that is a disk of ``size`` bytes; skip the test if it cannot be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)

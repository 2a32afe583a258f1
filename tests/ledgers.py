"""What the tests of ledgers have in common: runs, processes that are killed, small disks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time

import pytest

from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.ledger.ledger import Entry, Ledger
from actlab.ledger.run_key import digest
from tests.processes import forked


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def three(path):
    """A ledger of three runs, closed."""
    with Ledger(path) as ledger:
        ledger.record([entry(number) for number in range(3)])
    return path


def settings(number, fleet=0):
    return {"activation": "relu", "seed": number, "fold": 1, "fleet": fleet}


def key(number, fleet=0):
    return digest(settings(number, fleet))


def epochs(number=3, train_loss=0.5):
    return [{"epoch": n, "train_loss": train_loss, "train_loss_best": n == 1} for n in range(1, number + 1)]


def entry(number, fleet=0, **changes):
    usual = {
        "history": epochs(),
        "test_loss": 0.25,
        "test_acc": 0.75,
        "seconds": 1.5,
        "how": "layer by layer",
    }
    return Entry(key(number, fleet), settings(number, fleet), Result(**{**usual, **changes}))


def refusal(path, **options):
    """Return what is said about a file, which must stay as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UsageError) as caught, contextlib.closing(Ledger(path, **options)) as ledger:
        ledger.results([key(number) for number in range(3)])
    assert before == (path.read_bytes() if path.is_file() else None)
    said = str(caught.value)
    assert "\n" not in said
    assert repr(str(path)) in said
    return said


@contextlib.contextmanager
def raw(path):
    """Yield the file as anybody with SQLite has it; what is done to it is kept."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@contextlib.contextmanager
def holding(path, keys, then=lambda ledger: time.sleep(600)):
    """Yield the number of another process, which has claimed the keys; it is killed at last."""
    hears, says = os.pipe()

    def hold():
        ledger = Ledger(path)
        claimed = ledger.claim(keys)
        os.write(says, b"y" if claimed == set(keys) else b"n")
        then(ledger)

    with forked(hold) as (owner,):
        os.close(says)
        said = os.read(hears, 1)
        os.close(hears)
        assert said == b"y"
        yield owner


@contextlib.contextmanager
def disk(folder, size):
    """Yield a folder that is a disk of so many bytes; skip where none can be mounted."""
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


def remounted(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)

"""What the tests of ledgers have in common: runs, processes that are killed, small disks."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import warnings

import pytest

from actlab._errors import UsageError
from actlab._identity import digest
from actlab.fleet.run import Result
from actlab.ledger import Entry, Ledger

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


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
    usual = {"history": epochs(), "test_loss": 0.25, "test_acc": 0.75, "seconds": 1.5, "how": "by hand"}
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


def forked(work):
    """Run a function in a process of its own; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads; ours use none
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def ended(child):
    """Wait for a process; return what it ended with."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(child):
    """End a process as a power cut would."""
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL


def holder(path, keys, wait="time.sleep(600)"):
    """Start a Python that claims the keys and says so; it holds them until it ends."""
    program = f"""
import time
from actlab.ledger import Ledger
ledger = Ledger({str(path)!r})
print(sorted(ledger.claim({keys!r})), flush=True)
{wait}
"""
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


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

"""What a comparison is put through beside kills at random moments: poison, full disks, company, Ctrl-C.

Each trial is a function that says what was seen. ``lines`` makes a page's section of all of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.reliability import outcome, recorded

from actlab.cli import main
from actlab.files import LEDGER
from actlab.ledger.ledger import Ledger
from actlab.ledger.sqlite import FORMAT
from tests.ledgers import remounted
from tests.processes import started, waited

SHM = Path("/dev/shm")
THREE = ("relu", "tanh", "gelu")

# It ends its process in training, not when a net is tried with two rows, as long as it has lives left.
POISON = """
import os, pathlib, signal, torch

class Poison(torch.nn.Module):
    def forward(self, x):
        file = pathlib.Path("lives")
        lives = len(file.read_bytes())
        if len(x) > 2 and lives:
            file.write_bytes(b"." * (lives - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return x
"""


# -- processes ------------------------------------------------------------------------------------


def options(out: Path | str, *more: str, epochs: int = 5) -> list[str]:
    return ["--data", "digits", "--epochs", str(epochs), "--out", str(out), *more]


def start(*arguments: str, folder: Path) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Start the command in a folder, as the first of a group of processes, as a terminal does."""
    command = [sys.executable, "-m", "actlab", *arguments]
    pipe = subprocess.PIPE
    return started(command, stdout=pipe, stderr=pipe, text=True, cwd=folder)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; return its status and what it has said."""
    out, err = process.communicate()
    return process.returncode, out, err


def apart(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Run the command in a process of its own; return its status and what it says."""
    with start(*arguments, folder=folder) as process:
        return ended(process)


def here(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its status and what it says."""
    out, err, path = io.StringIO(), io.StringIO(), sys.path[:]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    sys.path[:] = path
    return status, out.getvalue(), err.getvalue()


def compared(*arguments: str) -> dict[str, Any]:
    """Compare in this process, until it is done; return what it has written but for the time it took."""
    status, _, err = here("compare", *arguments)
    assert status == 0, err
    return texts(Path(arguments[arguments.index("--out") + 1]))


def texts(out: Path) -> dict[str, str]:
    """Return what a comparison has written as text: equal texts are equal bits, NaN too."""
    return {name: frame.to_csv(index=False) for name, frame in outcome(out).items()}


def verified(out: Path) -> dict[str, Any]:
    """Return what ``actlab ledger verify`` says."""
    return json.loads(here("ledger", "verify", str(out), "--json")[1])


def known(err: str) -> int:
    """Return how many nets were from the ledger, which a comparison prints at its start and its end."""
    found = re.findall(r"^actlab: (\d+) of \d+ nets are from the ledger$", err, re.MULTILINE)
    return int(found[-1]) if found else 0


def progressed(out: Path, process: subprocess.Popen[str]) -> int:
    """Wait until a comparison has recorded something; return how much."""
    while process.poll() is None and not recorded(out):
        time.sleep(0.02)
    return recorded(out)


@contextlib.contextmanager
def marked() -> Iterator[Any]:
    """Yield what says how many processes live that were started in the block, by whomever, in the end."""
    name, value = "ACTLAB_TRIAL", uuid.uuid4().hex
    mark = f"{name}={value}".encode()

    def alive() -> list[str]:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def left(seconds: float = 20) -> list[str]:
        end = time.monotonic() + seconds
        while alive() and time.monotonic() < end:
            time.sleep(0.05)
        return alive()

    os.environ[name] = value
    try:
        yield left
    finally:
        del os.environ[name]


def ownerless() -> list[str]:
    """Return what processes that have ended left in shared memory."""
    names = [path.name for path in (*SHM.glob("actlab-*"), *SHM.glob("sem.loky-*"))]
    return [name for name in names if not Path("/proc", name.split("-")[1]).exists()]


# -- trials ---------------------------------------------------------------------------------------


def together(folder: Path, epochs: int = 20) -> dict[str, Any]:
    """Start two comparisons at once on one folder, and a third one later."""
    call = ["compare", *THREE, *options("shared", epochs=epochs)]
    call_alone = [*call, "--jobs", "1"]
    with start(*call_alone, folder=folder) as one, start(*call_alone, folder=folder) as other:
        said = [ended(one), ended(other)]
    with Ledger(folder / "shared" / LEDGER, readonly=True) as ledger:
        runs = ledger.runs()
    third = here(*call[:-1], str(folder / "shared"))
    return {
        "status": [status for status, _, _ in said],
        "equal output": said[0][1] == said[1][1],
        "runs": len(runs),
        "attempts": sorted(set(runs["attempts"])),
        "shared": sorted(known(err) for _, _, err in said),
        "a third one": known(third[2]),
        "problems": verified(folder / "shared")["problems"],
    }


def changed(folder: Path, epochs: int = 2) -> dict[str, int]:
    """Change a comparison, and count what is trained each time."""
    found, before = {}, 0
    more = options(folder / "changed", epochs=epochs)
    for what, arguments in {
        "two activations": [*THREE[:2], *more],
        "one more": [*THREE, *more],
        "the same": [*THREE, *more],
        "another rate": [*THREE, *more, "--lr", "0.02"],
        "the first rate": [*THREE, *more],
    }.items():
        compared(*arguments)
        now = recorded(folder / "changed")
        found[what], before = now - before, now
    return found


def poisoned(folder: Path, lives: int, *more: str, before: int = 0, folds: int = 2) -> dict[str, Any]:
    """Compare relu with what ends its process; start it again until it completes, and once more.

    Args:
        folder: Where.
        lives: How many processes the poison ends.
        more: Of the command line.
        before: How often the comparison itself dies of it.
        folds: Parts of the data.
    """
    (folder / "poison.py").write_text(POISON)
    (folder / "lives").write_bytes(b"." * lives)
    call = ["compare", "relu", "poison.py:Poison", *options("p", *more, "--folds", str(folds), epochs=2)]
    statuses = [apart(*call, folder=folder)[0] for _ in range(before)]
    status, out, err = apart(*call, folder=folder)
    with Ledger(folder / "p" / LEDGER, readonly=True) as ledger:
        runs = ledger.runs()
    spent = lives - len((folder / "lives").read_bytes())
    again = apart(*call, folder=folder)
    compared("relu", *options(folder / "reason_alone", "--folds", str(folds), epochs=2))
    rows = [pd.read_csv(folder / of / "results.csv", dtype=str).head(folds) for of in ("p", "reason_alone")]
    return {
        "status": [*statuses, status],
        "died": spent,
        "failures": sorted(runs["failure"]),
        "attempts": runs["attempts"].to_list(),
        "relu as alone": rows[0].drop(columns="seconds").equals(rows[1].drop(columns="seconds")),
        "the second start": (again[0], known(again[2]), again[1] == out),
        "died at the second start": lives - spent - len((folder / "lives").read_bytes()),
        "told": [line for line in err.splitlines() if "nets trained" not in line],
        "output": out,
    }


def full_disk(folder: Path, free: int, size: int, epochs: int = 10) -> dict[str, Any]:
    """Compare on a disk with so much space; make room, and compare again.

    Args:
        folder: A disk of that size.
        free: Bytes that are free at first.
        size: Bytes of the disk.
        epochs: Of each run.
    """
    out = folder / "full"
    call = [*THREE, *options(out, "--quiet", "--jobs", "1", epochs=epochs)]
    (folder / "ballast").write_bytes(bytes(size - free))
    # A process of its own: where nothing can be written a claim outlasts its comparison, not its process.
    status, said, err = apart("compare", *call, folder=folder)
    (folder / "ballast").unlink()
    kept = recorded(out)
    problems = verified(out)["problems"] if kept else []
    return {"status": status, "out": said, "err": err, "saved_bytes": kept, "problems": problems} | {
        "then": compared(*call) if status else texts(out)
    }


def read_only_disk(folder: Path) -> tuple[int, str, str]:
    """Compare where nothing can be written."""
    call = [*THREE, *options(folder / "full", epochs=1)]
    remounted(folder, "ro")
    said = here("compare", *call)
    remounted(folder, "rw")
    return said


def foreign(folder: Path) -> dict[str, tuple[int, str, str, bool]]:
    """Compare where another version's ledger is, and where none is but something of its name."""
    call = ["relu", *options(folder, epochs=1)]
    file = folder / LEDGER
    found = {}
    compared(*call)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    newer = file.read_bytes()
    for what, content in {"newer": newer, "no ledger": b"a,b\n1,2\n" * 99, "cut short": newer[:-100]}.items():
        file.write_bytes(content)
        status, out, err = here("compare", *call, "--lr", "0.5")
        found[what] = (status, out, err.replace(str(folder), "DIR"), file.read_bytes() == content)
    return found


def interrupted(
    folder: Path, moment: Callable[[Path, int], object], epochs: int = 60, jobs: int = 2
) -> dict[str, Any]:
    """Press Ctrl-C, which all processes of a terminal receive; start the comparison again.

    Args:
        folder: Where.
        moment: Whether to press it now, given the output folder and the number of the process.
        epochs: Of each run.
        jobs: Processes that train.
    """
    out = folder / "out"
    call = ["compare", *THREE, *options(out, "--jobs", str(jobs), epochs=epochs)]
    with start(*call, folder=folder) as process:
        assert waited(lambda: process.poll() is not None or moment(out, process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        status, _, err = ended(process)
    lines = [line for line in err.splitlines() if "nets trained" not in line]
    kept = recorded(out)
    again, _, said = here(*call)
    # A shell calls both 130: where Python is in exec(), as imports are, it ends by the signal in the end.
    status = 128 + signal.SIGINT if status == -signal.SIGINT else status
    return {"status": status, "said": lines, "saved_bytes": kept, "again": again, "known": known(said)}

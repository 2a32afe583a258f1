"""Trials of comparisons: activations that kill processes, full disks, concurrent starts and Ctrl-C.

Each trial is a function that returns its observations.
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
from tests.ledger_cases import remount
from tests.processes import start_process, wait_until

SHM = Path("/dev/shm")
THREE = ("relu", "tanh", "gelu")

# It kills the training process as often as the file ``lives`` has bytes; the first test of a model passes.
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
    """Start the command in a folder as leader of a process group, like a terminal."""
    command = [sys.executable, "-m", "actlab", *arguments]
    pipe = subprocess.PIPE
    return start_process(command, stdout=pipe, stderr=pipe, text=True, cwd=folder)


def wait_for_exit(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; return its status, standard output and standard error."""
    out, err = process.communicate()
    return process.returncode, out, err


def run_in_process(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Run the command in a new process; return its status, standard output and standard error."""
    with start(*arguments, folder=folder) as process:
        return wait_for_exit(process)


def run_here(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its status, standard output and standard error."""
    out, err, path = io.StringIO(), io.StringIO(), sys.path[:]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    sys.path[:] = path
    return status, out.getvalue(), err.getvalue()


def compare(*arguments: str) -> dict[str, Any]:
    """Compare in this process; return the written tables without times."""
    status, _, err = run_here("compare", "--no-tune", *arguments)
    assert status == 0, err
    return tables_as_text(Path(arguments[arguments.index("--out") + 1]))


def tables_as_text(out: Path) -> dict[str, str]:
    """Return the tables of a comparison as text; equal texts mean equal bits, including NaN."""
    return {name: frame.to_csv(index=False) for name, frame in outcome(out).items()}


def verify(out: Path) -> dict[str, Any]:
    """Return the result of ``actlab ledger verify --json``."""
    return json.loads(run_here("ledger", "verify", str(out), "--json")[1])


def count_restored_runs(err: str) -> int:
    """Return the number of models from the ledger that a comparison printed last."""
    results = re.findall(r"^actlab: (\d+) of \d+ runs are from the ledger$", err, re.MULTILINE)
    return int(results[-1]) if results else 0


def wait_for_first_run(out: Path, process: subprocess.Popen[str]) -> int:
    """Wait until a comparison has recorded a run; return the number of recorded runs."""
    while process.poll() is None and not recorded(out):
        time.sleep(0.02)
    return recorded(out)


@contextlib.contextmanager
def track_processes() -> Iterator[Any]:
    """Yield a function that lists the processes started in the block that are still alive."""
    name, value = "ACTLAB_TRIAL", uuid.uuid4().hex
    mark = f"{name}={value}".encode()

    def alive() -> list[str]:
        results = []
        for process_folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process_folder / "environ").read_bytes().split(b"\0"):
                    results.append((process_folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return results

    def remaining(seconds: float = 20) -> list[str]:
        end = time.monotonic() + seconds
        while alive() and time.monotonic() < end:
            time.sleep(0.05)
        return alive()

    os.environ[name] = value
    try:
        yield remaining
    finally:
        del os.environ[name]


def list_ownerless_shared_memory() -> list[str]:
    """Return the shared memory files of ended processes."""
    names = [path.name for path in (*SHM.glob("actlab-*"), *SHM.glob("sem.loky-*"))]
    return [name for name in names if not Path("/proc", name.split("-")[1]).exists()]


# -- trials ---------------------------------------------------------------------------------------


def compare_twice_at_once(folder: Path, epochs: int = 20) -> dict[str, Any]:
    """Start two comparisons at once in one folder, and a third one later."""
    call = ["compare", "--no-tune", *THREE, *options("shared", epochs=epochs)]
    call_alone = [*call, "--jobs", "1"]
    with start(*call_alone, folder=folder) as one, start(*call_alone, folder=folder) as other:
        output = [wait_for_exit(one), wait_for_exit(other)]
    with Ledger(folder / "shared" / LEDGER, readonly=True) as ledger:
        runs = ledger.runs()
    third = run_here(*call[:-1], str(folder / "shared"))
    return {
        "status": [status for status, _, _ in output],
        "equal output": output[0][1] == output[1][1],
        "runs": len(runs),
        "attempts": sorted(set(runs["attempts"])),
        "shared": sorted(count_restored_runs(err) for _, _, err in output),
        "a third one": count_restored_runs(third[2]),
        "problems": verify(folder / "shared")["problems"],
    }


def compare_with_changes(folder: Path, epochs: int = 2) -> dict[str, int]:
    """Change a comparison several times; return the number of runs trained each time."""
    results, before = {}, 0
    more = options(folder / "changed", epochs=epochs)
    for what, arguments in {
        "two activations": [*THREE[:2], *more],
        "one more": [*THREE, *more],
        "the same": [*THREE, *more],
        "another rate": [*THREE, *more, "--lr", "0.02"],
        "the first rate": [*THREE, *more],
    }.items():
        compare(*arguments)
        now = recorded(folder / "changed")
        results[what], before = now - before, now
    return results


def compare_with_killing_activation(
    folder: Path, lives: int, *more: str, before: int = 0, folds: int = 2
) -> dict[str, Any]:
    """Compare relu with an activation that kills its process, repeat until it completes, and once more.

    Args:
        folder: Folder of the files.
        lives: Number of processes that the activation kills.
        more: Further command-line arguments.
        before: Number of times that the comparison itself is killed.
        folds: Number of folds.
    """
    (folder / "poison.py").write_text(POISON)
    (folder / "lives").write_bytes(b"." * lives)
    call = [
        *"compare --no-tune relu poison.py:Poison".split(),
        *options("p", *more, "--folds", str(folds), epochs=2),
    ]
    statuses = [run_in_process(*call, folder=folder)[0] for _ in range(before)]
    status, out, err = run_in_process(*call, folder=folder)
    with Ledger(folder / "p" / LEDGER, readonly=True) as ledger:
        runs = ledger.runs()
    used = lives - len((folder / "lives").read_bytes())
    again = run_in_process(*call, folder=folder)
    compare("relu", *options(folder / "alone", "--folds", str(folds), epochs=2))
    rows = [pd.read_csv(folder / of / "results.csv", dtype=str).head(folds) for of in ("p", "alone")]
    return {
        "status": [*statuses, status],
        "died": used,
        "failures": sorted(runs["failure"]),
        "attempts": runs["attempts"].to_list(),
        "relu unchanged": rows[0].drop(columns="seconds").equals(rows[1].drop(columns="seconds")),
        "the second start": (again[0], count_restored_runs(again[2]), again[1] == out),
        "died at the second start": lives - used - len((folder / "lives").read_bytes()),
        "messages": [line for line in err.splitlines() if "runs done" not in line],
        "output": out,
    }


def compare_on_full_disk(folder: Path, free: int, size: int, epochs: int = 10) -> dict[str, Any]:
    """Compare on a nearly full disk, free space, and compare again.

    Args:
        folder: Mount point of a disk of ``size`` bytes.
        free: Free bytes at first.
        size: Bytes of the disk.
        epochs: Epochs of each run.
    """
    out = folder / "full"
    call = [*THREE, *options(out, "--quiet", "--jobs", "1", epochs=epochs)]
    (folder / "ballast").write_bytes(bytes(size - free))
    # In a new process, because claims that cannot be released on a full disk end only with their process.
    status, output, err = run_in_process("compare", "--no-tune", *call, folder=folder)
    (folder / "ballast").unlink()
    recorded_runs = recorded(out)
    problems = verify(out)["problems"] if recorded_runs else []
    return {"status": status, "out": output, "err": err, "recorded": recorded_runs, "problems": problems} | {
        "resumed": compare(*call) if status else tables_as_text(out)
    }


def compare_on_read_only_disk(folder: Path) -> tuple[int, str, str]:
    """Compare on a read-only disk."""
    call = [*THREE, *options(folder / "full", epochs=1)]
    remount(folder, "ro")
    output = run_here("compare", "--no-tune", *call)
    remount(folder, "rw")
    return output


def compare_with_foreign_ledger(folder: Path) -> dict[str, tuple[int, str, str, bool]]:
    """Compare in a folder with a newer, an invalid and a truncated ledger."""
    call = ["relu", *options(folder, epochs=1)]
    file = folder / LEDGER
    results = {}
    compare(*call)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    newer = file.read_bytes()
    for what, content in {"newer": newer, "no ledger": b"a,b\n1,2\n" * 99, "cut short": newer[:-100]}.items():
        file.write_bytes(content)
        status, out, err = run_here("compare", "--no-tune", *call, "--lr", "0.5")
        results[what] = (status, out, err.replace(str(folder), "DIR"), file.read_bytes() == content)
    return results


def interrupt_and_resume(
    folder: Path, moment: Callable[[Path, int], object], epochs: int = 60, jobs: int = 2
) -> dict[str, Any]:
    """Interrupt a comparison and its processes like Ctrl-C, and start it again.

    Args:
        folder: Folder of the files.
        moment: Function of the output folder and the PID that is true at the moment of the interrupt.
        epochs: Epochs of each run.
        jobs: Number of worker processes.
    """
    out = folder / "out"
    call = ["compare", "--no-tune", *THREE, *options(out, "--jobs", str(jobs), epochs=epochs)]
    with start(*call, folder=folder) as process:
        assert wait_until(lambda: process.poll() is not None or moment(out, process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        status, _, err = wait_for_exit(process)
    lines = [line for line in err.splitlines() if "runs done" not in line]
    recorded_runs = recorded(out)
    again, _, output = run_here(*call)
    # Python ends by the signal itself while it is importing; a shell reports 130 in both cases.
    status = 128 + signal.SIGINT if status == -signal.SIGINT else status
    return {
        "status": status,
        "messages": lines,
        "recorded": recorded_runs,
        "again": again,
        "restored": count_restored_runs(output),
    }

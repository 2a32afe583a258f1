"""Kill processes of comparisons, and measure the cost of the ledger and of scheduling.

Run ``python -m benchmarks.reliability --data-dir MNIST``; it writes docs/reliability.md. Without MNIST's
files in that folder, the section that needs them is omitted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import actlab
from actlab.execution.processes import start_processes
from actlab.execution.scheduler import train_runs
from actlab.fleet.run import Optimizer, Run
from actlab.ledger.ledger import Ledger
from actlab.ledger.session import LedgerSession, open_session
from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
CALL = ("relu", "tanh", "gelu", "--data", "digits", "--epochs", "100")
KILLS = 20


TESTED = [
    "## In the test suite",
    "",
    "- A Dask scheduler and three worker processes on loopback give the same bits as local",
    "  training, even if a worker is killed and replaced, or the scheduler is killed and restarted",
    "  (`tests/test_dask_cluster.py`).",
    "- Sixteen processes write to one ledger, and some are killed while they write. The ledger",
    "  contains only complete fleets (`tests/test_ledger_claims.py`).",
    "- The tests use disks that are full, fill up while runs are recorded, or are read-only. They",
    "  open ledgers that are truncated at any position, have a newer schema, belong to another application,",
    "  or contain foreign triggers (`tests/test_ledger_disks.py`, `test_ledger_file.py`).",
    "- A run whose activation ends its process is tried three times and then recorded as failed",
    "  with the reason. All other runs complete. Two comparisons that start at the same time share the work.",
    "  Ctrl-C works at any moment (`tests/test_reliability.py`, `test_reliability_trials.py`).",
    "",
]


# -- processes that are killed --------------------------------------------------------------------


@dataclass
class Tally:
    """Counts of killed processes and their comparisons."""

    kills: int = 0
    comparisons: int = 0
    resumed: list[int] = field(default_factory=list)  # runs that were in the ledger after each kill
    seconds: list[float] = field(default_factory=list)


def started(
    folder: Path, *arguments: str, errors: Path | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a comparison from the command line; ``options`` are those of Popen."""
    command = [
        sys.executable,
        "-m",
        "actlab",
        "compare",
        "--no-tune",
        *CALL,
        "--out",
        str(folder),
        *arguments,
    ]
    with (errors or Path(os.devnull)).open("wb") as file:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, **options)


def run_to_end(folder: Path, *arguments: str) -> float:
    """Run a comparison to its end; return its seconds."""
    start = time.monotonic()
    status = started(folder, *arguments).wait()
    assert status == 0, f"exit status {status}"
    return time.monotonic() - start


def outcome(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables that a comparison has written, without times."""
    with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
        problems, runs, history = ledger.verify(), ledger.runs(), ledger.history()
    assert not problems, problems
    assert not runs["key"].duplicated().any()
    times = {"runs": ["seconds", "attempts", "finished", "host"], "results": ["seconds"], "history": ["dur"]}
    results = {
        "runs": runs.sort_values("key", ignore_index=True),
        "epochs": history.sort_values(["key", "epoch"], ignore_index=True),
        "results": pd.read_csv(folder / "results.csv"),
        "history": pd.read_csv(folder / "history.csv"),
    }
    return {
        name: frame.drop(columns=times.get(name, ["dur"]), errors="ignore") for name, frame in results.items()
    }


def same(results: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    """Assert that two comparisons have written the same tables, bit for bit."""
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(results[name], frame, check_exact=True)


def recorded(folder: Path) -> int:
    """Return the number of runs in a ledger."""
    try:
        with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
            return len(ledger.runs())
    except actlab.UsageError:  # the ledger does not exist yet, or has no tables yet
        return 0


def list_workers(pid: int) -> list[int]:
    """Return the worker processes of a process."""
    results = []
    for process_folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((process_folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent == pid
                and b"loky.backend.popen_loky_posix" in (process_folder / "cmdline").read_bytes()
            ):
                results.append(int(process_folder.name))
    return results


def kill_coordinators(
    folder: Path, expected: dict[str, pd.DataFrame], normal: float, kills: int, *arguments: str
) -> Tally:
    """Kill comparisons at random moments and start them again, until ``kills`` were killed.

    Args:
        folder: Parent of their output folders.
        expected: Tables of an uninterrupted comparison.
        usual: Seconds of an uninterrupted comparison.
        kills: Number of kills.
        arguments: Further command-line arguments.
    """
    tally, chance = Tally(), random.Random(0)
    while tally.kills < kills:
        process_folder = folder / f"comparison-{tally.comparisons}"
        tally.comparisons += 1
        while True:
            process = started(process_folder, *arguments)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.1 * normal, normal) if tally.kills < kills else None)
            if process.poll() is not None:
                assert process.returncode == 0
                break
            process.kill()
            process.wait()
            tally.kills += 1
            tally.resumed.append(recorded(process_folder))
        same(outcome(process_folder), expected)
    return tally


def kill_workers(folder: Path, expected: dict[str, pd.DataFrame], kills: int) -> Tally:
    """Kill worker processes at random moments, at most two per comparison; a third would be final.

    Args:
        folder: Parent of their output folders.
        expected: Tables of an undisturbed comparison.
        kills: Number of kills.
    """
    tally, chance = Tally(), random.Random(1)
    while tally.kills < kills:
        process_folder = folder / f"comparison-{tally.comparisons}"
        tally.comparisons += 1
        start = time.monotonic()
        process = started(process_folder, "--jobs", "2")
        for _ in range(2):
            workers: list[int] = []
            while not workers and process.poll() is None:
                time.sleep(0.05)
                workers = list_workers(process.pid)
            time.sleep(chance.uniform(0, 3))
            workers = list_workers(process.pid)
            if workers and process.poll() is None and tally.kills < kills:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    tally.kills += 1
        assert process.wait() == 0
        tally.seconds.append(time.monotonic() - start)
        same(outcome(process_folder), expected)
    return tally


def measure_kills(folder: Path) -> list[str]:
    """Kill both kinds of processes, and return the section of the page."""
    normal = run_to_end(folder / "whole", "--jobs", "2")
    expected = outcome(folder / "whole")
    lines = [
        "## Killed processes",
        "",
        f"`actlab compare --no-tune {' '.join(CALL)}` trains nine runs, which take",
        f"{normal:.1f} s without interruption. `kill -9` ends processes at random moments. The same command",
        "is then repeated until the comparison is complete. Results, histories and ledger records must equal",
        "those of the uninterrupted comparison bit for bit.",
        "",
        "| killed | kills | comparisons | runs in the ledger | lost | duplicated | differing bits |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for what, jobs in (("the comparison, two processes", "2"), ("the comparison, one process", "1")):
        process_folder = folder / f"jobs-{jobs}"
        tally = kill_coordinators(process_folder, expected, normal, KILLS, "--jobs", jobs)
        between = f"{min(tally.resumed)} to {max(tally.resumed)}, mean {statistics.mean(tally.resumed):.1f}"
        lines.append(f"| {what} | {tally.kills} | {tally.comparisons} | {between} | 0 | 0 | 0 |")
        print(lines[-1], flush=True)
    tally = kill_workers(folder / "workers", expected, KILLS)
    lines.append(f"| worker processes | {tally.kills} | {tally.comparisons} | | 0 | 0 | 0 |")
    print(lines[-1], flush=True)
    mean = statistics.mean(tally.seconds)
    return [*lines, "", f"A comparison that loses two worker processes takes {mean:.1f} s.", ""]


# -- many runs ------------------------------------------------------------------------------------


def build_stub() -> nn.Module:
    """Return a model that trains alone because it draws random numbers, so that each run is a fleet."""
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout())


def stub_runs(number: int) -> list[Run]:
    """Return runs that take almost no time."""
    normal: dict[str, Any] = {
        "rows": np.arange(32),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": Optimizer("SGD", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}),
    }
    return [Run(net=build_stub, epochs=1, batch_size=32, seed=seed, **normal) for seed in range(number)]


def train_stub_runs(number: int) -> None:
    """Train ``number`` stub runs in two processes, without and with a ledger; print times and memory."""
    X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    y = np.arange(32) % 3
    runs = stub_runs(number)
    with start_processes(2) as executor, tempfile.TemporaryDirectory() as folder:
        train_runs(runs[:4], X, y, executor=executor)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times_per_run = []
        for file in (None, Path(folder, "ledger.sqlite")):
            start = time.perf_counter()
            with open_session(file, runs, "stubs") as session:
                results = train_runs(runs, X, y, executor=executor, session=session)
            times_per_run.append(1000 * (time.perf_counter() - start) / number)
            assert not any(result.failure for result in results)
        with Ledger(Path(folder, "ledger.sqlite"), readonly=True) as ledger:
            assert len(ledger.runs()) == number
        size = Path(folder, "ledger.sqlite").stat().st_size
    alone = 1000 * statistics.median(result.seconds for result in results)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(*times_per_run, alone, before / 2**20, after / 2**20, size / number / 1024)


def measure_many_runs() -> list[str]:
    """Measure the overhead of a run, and return the section of the page."""
    lines = [
        "## Many runs",
        "",
        "Two processes train runs of one step. Each run is a separate fleet. Times are in milliseconds per",
        "run and include training. Memory is the peak memory in GiB of the scheduling process, which holds",
        "all results.",
        "",
        "| runs | no ledger | ledger | training only | memory before | memory after | KiB per run on disk |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for number in (1_000, 10_000):
        command = [sys.executable, "-m", "benchmarks.reliability", "--load", str(number)]
        results = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        plain, with_ledger, alone, before, after, size = map(float, results)
        times, memory = f"{plain:.1f} | {with_ledger:.1f} | {alone:.1f}", f"{before:.2f} | {after:.2f}"
        lines.append(f"| {number:,} | {times} | {memory} | {size:.1f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


# -- cost of a ledger -----------------------------------------------------------------------------


@contextlib.contextmanager
def timed(names: Sequence[str]) -> Iterator[dict[str, float]]:
    """Yield the seconds spent in methods of a ledger session during the block."""
    seconds_by_method, before = (
        dict.fromkeys(names, 0.0),
        {name: getattr(LedgerSession, name) for name in names},
    )

    def timing(name: str, method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args)
            finally:
                seconds_by_method[name] += time.perf_counter() - start

        return call

    for name, method in before.items():
        setattr(LedgerSession, name, timing(name, method))
    try:
        yield seconds_by_method
    finally:
        for name, method in before.items():
            setattr(LedgerSession, name, method)


def measure_ledger_cost(data: actlab.Dataset, epochs: int, rounds: int) -> list[str]:
    """Measure the notebook's comparison with and without a ledger."""
    names = ["relu", "tanh", "leaky_relu"]
    run_to_end: dict[str, list[float]] = {"without": [], "with": []}
    share = []
    actlab.compare(names, data, epochs=1, jobs=2, tune=None)
    for _ in range(rounds):
        for what, seconds in run_to_end.items():
            with (
                tempfile.TemporaryDirectory() as folder,
                timed(["__init__", "claim", "record"]) as seconds_by_method,
            ):
                file = Path(folder, "ledger.sqlite") if what == "with" else None
                start = time.perf_counter()
                actlab.compare(names, data, epochs=epochs, jobs=2, ledger=file, tune=None)
                seconds.append(time.perf_counter() - start)
            if file:
                share.append(sum(seconds_by_method.values()))
    medians = {what: statistics.median(seconds) for what, seconds in run_to_end.items()}
    own = statistics.median(share)
    part = 100 * own / medians["with"]
    return [
        "## Cost of a ledger",
        "",
        f"The notebook's comparison (3 activations, 3 folds, {epochs} epochs, MNIST) was run",
        "alternately with and without a ledger, in two processes. It took",
        f"{medians['without']:.2f} s without a ledger and {medians['with']:.2f} s with one",
        f"(medians; number of rounds: {rounds}). The session itself (hashes of models and settings,",
        f"claims, records) takes {own:.3f} s, or {part:.2f} % of the time.",
        "",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="data/mnist")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.load:
        train_stub_runs(arguments.load)
        return
    lines = ["# Reliability of comparisons", "", f"{machine('cpu')}, two cores.", ""]
    lines += ["Written by `python -m benchmarks.reliability`.", ""]
    lines += measure_many_runs()
    try:
        data = actlab.load_data("mnist", arguments.data_dir)
    except actlab.UsageError as error:
        lines += [f"The cost of a ledger was not measured: {error}", ""]
    else:
        lines += measure_ledger_cost(data, arguments.epochs, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        lines += [*measure_kills(Path(folder)), *TESTED]
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

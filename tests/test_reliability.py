"""Comparisons that are killed, fill a disk, or run twice at once lose no run and train none twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import time

import pandas as pd
import pytest
from benchmarks import reliability
from benchmarks.reliability import (
    kill_coordinators,
    kill_workers,
    outcome,
    recorded,
    same,
)

from actlab.cli import main
from actlab.ledger.ledger import Ledger
from actlab.ledger.sqlite import FORMAT
from tests.command_line import actlab, in_empty_folder, refused, tiny_data
from tests.ledger_cases import mount_disk, remount
from tests.processes import OWN_GROUP, killed_after_block, list_living, run_process, wait_until
from tests.reliability_trials import count_restored_runs

__all__ = ["in_empty_folder", "tiny_data"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the duration and the results of a comparison without interruption."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    start = time.monotonic()
    call = [
        sys.executable,
        *"-m actlab compare --no-tune".split(),
        *reliability.CALL,
        "--out",
        folder,
        *"--jobs 2".split(),
    ]
    assert run_process(call).returncode == 0
    return time.monotonic() - start, outcome(folder)


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    """End the comparisons that a test has started when the test ends."""
    start = reliability.started
    with contextlib.ExitStack() as stack:

        def start_and_register(*arguments, **options):
            return stack.enter_context(killed_after_block(start(*arguments, **options, **OWN_GROUP)))

        monkeypatch.setattr(reliability, "started", start_and_register)
        yield


# -- killed ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compare_resumes_after_kill(tmp_path, undisturbed):
    process = reliability.started(tmp_path / "run", "--jobs", "2")
    assert wait_until(lambda: recorded(tmp_path / "run") >= 3)
    workers = reliability.list_workers(process.pid)
    process.kill()
    process.wait()
    finished = recorded(tmp_path / "run")
    assert 3 <= finished < 9
    assert wait_until(lambda: not list_living(workers))
    second = actlab("compare", "--no-tune", *reliability.CALL, "--out", "run", "--jobs", "2")
    assert second.returncode == 0
    assert f"actlab: {finished} of 9 runs are from the ledger\n" in second.stderr
    same(outcome(tmp_path / "run"), undisturbed[1])


@pytest.mark.slow
def test_compare_completes_after_kills_of_worker_processes(tmp_path, undisturbed):
    tally = kill_workers(tmp_path, undisturbed[1], 2)
    assert tally.kills == 2


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_compare_loses_and_repeats_no_run_in_twenty_kills(tmp_path, undisturbed, jobs):
    tally = kill_coordinators(tmp_path, undisturbed[1], undisturbed[0], reliability.KILLS, "--jobs", jobs)
    assert tally.kills == reliability.KILLS
    assert any(0 < finished < 9 for finished in tally.resumed)


@pytest.mark.slow
def test_compare_loses_and_repeats_no_run_in_twenty_kills_of_workers(tmp_path, undisturbed):
    assert kill_workers(tmp_path, undisturbed[1], reliability.KILLS).kills == reliability.KILLS


# -- two at once ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_compare_twice_at_once_trains_every_run_once(tmp_path, undisturbed):
    both = [
        reliability.started(tmp_path / "run", "--jobs", "1", errors=tmp_path / f"errors-{number}")
        for number in (1, 2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    same(outcome(tmp_path / "run"), undisturbed[1])
    # Each takes the runs of the other from the ledger; a late starter can find all nine there.
    assert sum(count_restored_runs((tmp_path / f"errors-{number}").read_text()) for number in (1, 2)) == 9


# -- a run that kills its process ----------------------------------------------------------------

POISON = """
import os, signal
from torch import nn

class Poison(nn.Module):
    def forward(self, x):
        if x.shape[-2] > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return x
"""


@pytest.mark.slow
def test_compare_records_a_run_that_kills_its_process_as_failed_after_three_attempts(tmp_path, tiny_data):
    (tmp_path / "poison.py").write_text(POISON)
    call = [
        *"compare --no-tune relu poison.py:Poison --data".split(),
        tiny_data,
        *"--epochs 2 --out run".split(),
    ]
    call += ["--jobs", "2"]
    process = actlab(*call)
    assert process.returncode == 0
    results = pd.read_csv("run/results.csv").fillna({"failure": ""})
    assert (
        results["failure"].to_list()
        == [""] * 3 + ["the training process died 3 times: exit code SIGKILL(-9)"] * 3
    )
    assert "Traceback" not in process.stderr
    again = actlab(*call)
    assert again.stdout == process.stdout
    assert again.stderr == "actlab: 6 of 6 runs are from the ledger\n"
    assert main(["compare", "--no-tune", "relu", "--data", tiny_data, "--epochs", "2", "--out", "alone"]) == 0
    assert results["accuracy"].to_list()[:3] == pd.read_csv("alone/results.csv")["accuracy"].to_list()


# -- disks and folders ----------------------------------------------------------------------------


def test_compare_reports_a_read_only_folder(tmp_path, tiny_data, capsys):
    with mount_disk(tmp_path / "disk", "1m") as folder:
        remount(folder, "ro")
        os.symlink(folder, "run")
        message = refused(capsys, "compare", "--no-tune", "relu", "--data", tiny_data, "--out", "run")
        assert "Read-only file system" in message


def test_compare_leaves_foreign_ledgers_unchanged(tmp_path, tiny_data, capsys):
    (tmp_path / "run").mkdir()
    file = tmp_path / "run/ledger.sqlite"
    Ledger(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    before = file.read_bytes()
    call = ["compare", "--no-tune", "relu", "--data", tiny_data, "--out", "run"]
    assert f"newer actlab (format 7; this one reads format {FORMAT}): update actlab" in refused(capsys, *call)
    assert file.read_bytes() == before
    shutil.copy(tiny_data, file)
    before = file.read_bytes()
    assert "is not a ledger" in refused(capsys, *call)
    assert file.read_bytes() == before


# -- many -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_runs_need_little_memory_and_disk():
    command = [sys.executable, "-m", "benchmarks.reliability", "--load", "10000"]
    root = reliability.PAGE.parents[1]
    process = run_process(command, 900, cwd=root)
    assert process.returncode == 0, process.stderr
    *_, before, after, size = map(float, process.stdout.split())
    assert after - before < 0.25  # GiB for 10,000 results
    assert size < 10  # KiB per run

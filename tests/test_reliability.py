"""Comparisons that are killed, that fill a disk, that two people start: nothing lost, nothing twice."""

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
from tests.commands import actlab, elsewhere, refused, tiny
from tests.ledgers import disk, remounted
from tests.processes import OWN_GROUP, ending, living, ran, waited
from tests.reliability import known

__all__ = ["elsewhere", "tiny"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return how long a comparison takes that nobody disturbs, and what it writes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    start = time.monotonic()
    call = [sys.executable, "-m", "actlab", "compare", *reliability.CALL, "--out", folder, "--jobs", "2"]
    assert ran(call).returncode == 0
    return time.monotonic() - start, outcome(folder)


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    """Whatever happens in a test, the comparisons that it has started end with it."""
    start = reliability.started
    with contextlib.ExitStack() as stack:

        def starting(*arguments, **options):
            return stack.enter_context(ending(start(*arguments, **options, **OWN_GROUP)))

        monkeypatch.setattr(reliability, "started", starting)
        yield


# -- killed ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_comparison_that_is_killed_goes_on_where_it_was(tmp_path, undisturbed):
    process = reliability.started(tmp_path / "run", "--jobs", "2")
    assert waited(lambda: recorded(tmp_path / "run") >= 3)
    workers = reliability.below(process.pid)
    process.kill()
    process.wait()
    done = recorded(tmp_path / "run")
    assert 3 <= done < 9
    assert waited(lambda: not living(workers))
    second = actlab("compare", *reliability.CALL, "--out", "run", "--jobs", "2")
    assert second.returncode == 0
    assert f"actlab: {done} of 9 nets are from the ledger\n" in second.stderr
    same(outcome(tmp_path / "run"), undisturbed[1])


@pytest.mark.slow
def test_processes_that_train_are_killed_and_the_comparison_ends_by_itself(tmp_path, undisturbed):
    tally = kill_workers(tmp_path, undisturbed[1], 2)
    assert tally.kills == 2


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_twenty_kills_of_comparisons_lose_and_double_nothing(tmp_path, undisturbed, jobs):
    tally = kill_coordinators(tmp_path, undisturbed[1], undisturbed[0], reliability.KILLS, "--jobs", jobs)
    assert tally.kills == reliability.KILLS
    assert any(0 < done < 9 for done in tally.resumed)


@pytest.mark.slow
def test_twenty_kills_of_processes_that_train_lose_and_double_nothing(tmp_path, undisturbed):
    assert kill_workers(tmp_path, undisturbed[1], reliability.KILLS).kills == reliability.KILLS


# -- two at once ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_that_start_together_train_every_run_once(tmp_path, undisturbed):
    both = [
        reliability.started(tmp_path / "run", "--jobs", "1", errors=tmp_path / f"errors-{number}")
        for number in (1, 2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    same(outcome(tmp_path / "run"), undisturbed[1])
    # Each trains what the other takes from the ledger; one that starts late may find all nine there.
    assert sum(known((tmp_path / f"errors-{number}").read_text()) for number in (1, 2)) == 9


# -- a run that ends its process ------------------------------------------------------------------

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
def test_a_run_that_ends_its_process_has_failed_after_three(tmp_path, tiny):
    (tmp_path / "poison.py").write_text(POISON)
    call = ["compare", "relu", "poison.py:Poison", "--data", tiny, "--epochs", "2", "--out", "run"]
    call += ["--jobs", "2"]
    found = actlab(*call)
    assert found.returncode == 0
    results = pd.read_csv("run/results.csv").fillna({"failure": ""})
    assert (
        results["failure"].to_list()
        == [""] * 3 + ["the training process died 3 times: exit code SIGKILL(-9)"] * 3
    )
    assert "Traceback" not in found.stderr
    again = actlab(*call)
    assert again.stdout == found.stdout
    assert again.stderr == "actlab: 6 of 6 nets are from the ledger\n"
    assert main(["compare", "relu", "--data", tiny, "--epochs", "2", "--out", "reason_alone"]) == 0
    assert results["accuracy"].to_list()[:3] == pd.read_csv("alone/results.csv")["accuracy"].to_list()


# -- disks and folders ----------------------------------------------------------------------------


def test_a_read_only_folder_is_said(tmp_path, tiny, capsys):
    with disk(tmp_path / "disk", "1m") as folder:
        remounted(folder, "ro")
        os.symlink(folder, "run")
        said = refused(capsys, "compare", "relu", "--data", tiny, "--out", "run")
        assert "Read-only file system" in said


def test_a_folder_of_another_version_or_with_another_file_is_left_as_it_is(tmp_path, tiny, capsys):
    (tmp_path / "run").mkdir()
    file = tmp_path / "run/ledger.sqlite"
    Ledger(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    before = file.read_bytes()
    call = ["compare", "relu", "--data", tiny, "--out", "run"]
    assert f"newer actlab (format 7; this one reads format {FORMAT}): update actlab" in refused(capsys, *call)
    assert file.read_bytes() == before
    shutil.copy(tiny, file)
    before = file.read_bytes()
    assert "is not a ledger" in refused(capsys, *call)
    assert file.read_bytes() == before


# -- many -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_runs_go_through_ledger_and_engine():
    command = [sys.executable, "-m", "benchmarks.reliability", "--load", "10000"]
    root = reliability.PAGE.parents[1]
    found = ran(command, 900, cwd=root)
    assert found.returncode == 0, found.stderr
    *_, before, after, size = map(float, found.stdout.split())
    assert after - before < 0.25  # GiB: 10,000 results, and nothing that grows with them
    assert size < 10  # KiB a run

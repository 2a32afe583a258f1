"""Comparisons that are killed, changed, interrupted, or run on a full disk, and the state that they leave."""

from __future__ import annotations

import re

import pytest
from benchmarks.reliability import recorded

from actlab.files import LEDGER
from tests import reliability_trials as trials
from tests.command_line import in_empty_folder
from tests.ledger_cases import mount_disk
from tests.processes import list_descendants

__all__ = ["in_empty_folder"]


@pytest.mark.slow
def test_killed_compare_leaves_no_process_even_with_large_results(tmp_path):
    # A history of 150 epochs fills the pipe to a process that has stopped reading.
    call = ["compare", "--no-tune", *trials.THREE, *trials.options("run", "--jobs", "2", epochs=150)]
    with trials.track_processes() as remaining_processes, trials.start(*call, folder=tmp_path) as process:
        assert 0 < trials.wait_for_first_run(tmp_path / "run", process) < 9
        process.kill()
        trials.wait_for_exit(process)
        assert remaining_processes() == []
    assert not any(
        str(process.pid) in name for name in trials.list_ownerless_shared_memory() if name.startswith("sem")
    )


def test_compare_after_a_change_trains_only_affected_runs_and_keeps_all(tmp_path):
    assert trials.compare_with_changes(tmp_path) == {
        "two activations": 6,
        "one more": 3,
        "the same": 0,
        "another rate": 9,
        "the first rate": 0,
    }
    assert trials.verify(tmp_path / "changed") == {"runs": 18, "problems": []}


def test_compare_reports_a_foreign_ledger_and_leaves_it_unchanged(tmp_path):
    trial = trials.compare_with_foreign_ledger(tmp_path)
    assert [(status, out, same) for status, out, _, same in trial.values()] == [(2, "", True)] * 3
    assert all(
        err.startswith("actlab: error: ledger ") and err.count("\n") == 1 for _, _, err, _ in trial.values()
    )


@pytest.mark.slow
def test_compare_twice_at_once_prints_the_same_and_a_third_trains_nothing(tmp_path):
    trial = trials.compare_twice_at_once(tmp_path)
    assert sum(trial.pop("shared")) == 9
    assert trial == {
        "status": [0, 0],
        "equal output": True,
        "runs": 9,
        "attempts": [1],
        "a third one": 9,
        "problems": [],
    }


@pytest.mark.slow
def test_compare_on_a_full_disk_keeps_finished_runs_and_resumes(tmp_path):
    out = tmp_path / "roomy"
    expected = trials.compare(*trials.THREE, *trials.options(out, "--quiet", "--jobs", "1", epochs=10))
    size = 2 * sum(
        file.stat().st_size for file in out.iterdir()
    )  # a new file exists next to the old one for a moment
    recorded_runs = []
    for free in (0, 120_000, 220_000, 320_000, 440_000, 560_000):
        with mount_disk(tmp_path / str(free), size) as small:
            trial = trials.compare_on_full_disk(small, free, size)
        assert (trial["status"], trial["out"], trial["err"].count("\n")) == (2, "", 1)
        assert "disk is full" in trial["err"] or "No space left" in trial["err"]
        assert trial["problems"] == []
        assert trial["resumed"] == expected
        recorded_runs.append(trial["recorded"])
    assert recorded_runs == sorted(recorded_runs)
    assert recorded_runs[0] == 0
    assert any(0 < number < 9 for number in recorded_runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        lambda out, pid: out.exists(),
        lambda out, pid: (out / LEDGER).exists(),
        lambda out, pid: list_descendants(pid),
        lambda out, pid: len(list_descendants(pid)) > 2,  # two resource trackers start before the workers
        lambda out, pid: recorded(out) > 0,
        lambda out, pid: recorded(out) > 6,
    ],
    ids=["folder", "ledger", "first child", "workers", "first run", "seventh run"],
)
def test_interrupted_compare_prints_one_line_and_trains_nothing_twice(tmp_path, moment):
    trial = trials.interrupt_and_resume(tmp_path, moment)
    assert (trial["status"], trial["again"]) in (
        (130, 0),
        (0, 0),
    )  # the comparison can end before the interrupt
    assert trial["restored"] == trial["recorded"]
    if trial["status"] == 130:
        (message,) = trial["messages"]
        assert message.startswith("actlab: interrupted")


@pytest.mark.slow
def test_interrupted_compare_counts_its_runs(tmp_path):
    # 600 epochs so that the comparison does not end before the interrupt.
    trial = trials.interrupt_and_resume(tmp_path, lambda out, _: recorded(out) > 3, epochs=600)
    assert (trial["status"], trial["again"], trial["restored"]) == (130, 0, trial["recorded"])
    (message,) = trial["messages"]
    counted = re.fullmatch(
        r"actlab: interrupted: (\d) of 9 runs are saved; run the comparison again to resume", message
    )
    assert int(counted[1]) == trial["recorded"]


@pytest.mark.slow
def test_compare_reports_a_run_that_kills_its_process_in_workers_and_main(tmp_path):
    for name, kills, options, before in (
        ("apart", 99, ["--jobs", "2"], 0),
        ("here", 99, [], 1),
        ("once", 1, [], 1),
    ):
        folder = tmp_path / name
        folder.mkdir()
        trial = trials.compare_with_killing_activation(folder, kills, *options, before=before)
        reason = "the training process died 3 times: exit code SIGKILL(-9)" if kills == 99 else ""
        assert trial["failures"] == ["", "", reason, reason]
        assert trial["attempts"] == ([1, 1, 3, 3] if reason else [1, 1, 1, 1])
        assert trial["status"] == [-9] * before + [0]
        assert trial["died"] == before + (6 if reason else 0)
        assert trial["relu unchanged"]
        assert trial["the second start"] == (0, 4, True)
        assert trial["died at the second start"] == 0

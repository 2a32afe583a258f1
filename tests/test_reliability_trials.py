"""What is left of a killed comparison, of one whose settings change, whose disk is full at any moment."""

from __future__ import annotations

import re

import pytest
from benchmarks.reliability import recorded

from actlab.files import LEDGER
from tests import reliability as trials
from tests.commands import elsewhere
from tests.ledgers import disk
from tests.processes import descendants

__all__ = ["elsewhere"]


@pytest.mark.slow
def test_of_a_killed_comparison_no_process_stays_also_when_what_it_has_to_say_is_large(tmp_path):
    # A history of 150 epochs fills the pipe to a process that reads no more.
    call = ["compare", *trials.THREE, *trials.options("run", "--jobs", "2", epochs=150)]
    with trials.marked() as left, trials.start(*call, folder=tmp_path) as process:
        assert 0 < trials.progressed(tmp_path / "run", process) < 9
        process.kill()
        trials.ended(process)
        assert left() == []
    assert not any(str(process.pid) in name for name in trials.ownerless() if name.startswith("sem"))


def test_a_change_trains_what_it_changes_and_everything_stays(tmp_path):
    assert trials.changed(tmp_path) == {
        "two activations": 6,
        "one more": 3,
        "the same": 0,
        "another rate": 9,
        "the first rate": 0,
    }
    assert trials.verified(tmp_path / "changed") == {"runs": 18, "problems": []}


def test_what_is_no_ledger_of_ours_stays_and_is_said(tmp_path):
    found = trials.foreign(tmp_path)
    assert [(status, out, same) for status, out, _, same in found.values()] == [(2, "", True)] * 3
    assert all(
        err.startswith("actlab: error: ledger ") and err.count("\n") == 1 for _, _, err, _ in found.values()
    )


@pytest.mark.slow
def test_two_that_start_together_say_the_same_and_a_third_trains_nothing(tmp_path):
    found = trials.together(tmp_path)
    assert sum(found.pop("shared")) == 9
    assert found == {
        "status": [0, 0],
        "equal output": True,
        "runs": 9,
        "attempts": [1],
        "a third one": 9,
        "problems": [],
    }


@pytest.mark.slow
def test_whenever_a_disk_is_full_what_is_finished_is_kept_and_the_rest_comes_later(tmp_path):
    out = tmp_path / "roomy"
    expected = trials.compared(*trials.THREE, *trials.options(out, "--quiet", "--jobs", "1", epochs=10))
    size = 2 * sum(file.stat().st_size for file in out.iterdir())  # a file is written beside the old one
    kept = []
    for free in (0, 120_000, 220_000, 320_000, 440_000, 560_000):
        with disk(tmp_path / str(free), size) as small:
            found = trials.full_disk(small, free, size)
        assert (found["status"], found["out"], found["err"].count("\n")) == (2, "", 1)
        assert "disk is full" in found["err"] or "No space left" in found["err"]
        assert found["problems"] == []
        assert found["then"] == expected
        kept.append(found["saved_bytes"])
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert any(0 < number < 9 for number in kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        lambda out, pid: out.exists(),
        lambda out, pid: (out / LEDGER).exists(),
        lambda out, pid: descendants(pid),
        lambda out, pid: len(descendants(pid)) > 2,  # workers start beside two resource trackers
        lambda out, pid: recorded(out) > 0,
        lambda out, pid: recorded(out) > 6,
    ],
    ids=["folder", "ledger", "first child", "workers", "first run", "seventh run"],
)
def test_interrupted_comparison_prints_one_line_and_trains_nothing_twice(tmp_path, moment):
    found = trials.interrupted(tmp_path, moment)
    assert (found["status"], found["again"]) in ((130, 0), (0, 0))  # it may end first
    assert found["known"] == found["saved_bytes"]
    if found["status"] == 130:
        (said,) = found["said"]
        assert said.startswith("actlab: interrupted")


@pytest.mark.slow
def test_interrupted_comparison_counts_its_runs(tmp_path):
    # Up to three are recorded at once, before the first is counted; 600 epochs so that it does not end first.
    found = trials.interrupted(tmp_path, lambda out, _: recorded(out) > 3, epochs=600)
    assert (found["status"], found["again"], found["known"]) == (130, 0, found["saved_bytes"])
    (said,) = found["said"]
    counted = re.fullmatch(r"actlab: interrupted: (\d) of 9 nets were trained; run it again to resume", said)
    assert 1 <= int(counted[1]) <= found["saved_bytes"]


@pytest.mark.slow
def test_a_run_that_ends_its_process_is_told_whether_it_trains_apart_or_not(tmp_path):
    for name, lives, options, before in (
        ("apart", 99, ["--jobs", "2"], 0),
        ("here", 99, [], 1),
        ("once", 1, [], 1),
    ):
        folder = tmp_path / name
        folder.mkdir()
        found = trials.poisoned(folder, lives, *options, before=before)
        reason = "the training process died 3 times: exit code SIGKILL(-9)" if lives == 99 else ""
        assert found["failures"] == ["", "", reason, reason]
        assert found["attempts"] == ([1, 1, 3, 3] if reason else [1, 1, 1, 1])
        assert found["status"] == [-9] * before + [0]
        assert found["died"] == before + (6 if reason else 0)
        assert found["relu as alone"]
        assert found["the second start"] == (0, 4, True)
        assert found["died at the second start"] == 0

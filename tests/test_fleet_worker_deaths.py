"""Processes that die of a run: it is tried again, and no other run changes."""

from __future__ import annotations

import functools
import os
import signal

import pytest
import torch
from torch import nn

from actlab.execution.processes import processes
from actlab.execution.scheduler import TRIES, train_runs
from actlab.fleet.run import Optimizer
from tests.fleet_runs import SGD, assert_equal, one_thread, perceptron, run
from tests.fleets import CLASSES, FEATURES, table

__all__ = ["one_thread"]

X, Y = table(80)


class Deadly(nn.Module):
    """Takes its process along in training, as long as there is a life left in the file."""

    def __init__(self, file, width=8):
        super().__init__()
        self.file, self.layer = file, nn.Linear(FEATURES, width)
        self.last = nn.Linear(width, CLASSES)

    def forward(self, x):
        lives = len(self.file.read_bytes())
        if x.shape[-2] > 2 and lives:
            self.file.write_bytes(b"." * (lives - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.last(self.layer(x))


def deadly(file, lives):
    file.write_bytes(b"." * lives)
    return run(functools.partial(Deadly, file))


@pytest.mark.parametrize("lives", [pytest.param(TRIES - 1, marks=pytest.mark.slow), TRIES])
def test_a_run_of_which_processes_die_is_tried_three_times_and_touches_no_other(tmp_path, caplog, lives):
    others = [run(perceptron(name), seed=seed) for seed in (0, 1) for name in ("relu", "tanh")]
    poison = deadly(tmp_path / "lives", lives)
    with processes(2) as executor:
        *results, last = train_runs([*others, poison], X, Y, executor=executor)
    assert_equal(results, train_runs(others, X, Y))
    died = [record for record in caplog.records if "its process died" in record.getMessage()]
    assert len(died) == min(lives, TRIES)
    if lives < TRIES:
        assert_equal([last], train_runs([poison], X, Y))
    else:
        assert last.failure == "the training process died 3 times: exit code SIGKILL(-9)"
        assert not last.weights


def test_in_a_fleet_the_run_to_blame_is_found(tmp_path, monkeypatch):
    file = tmp_path / "lives"
    file.write_bytes(b"." * 99)
    net = functools.partial(Poisonous, file)
    runs = [run(net, seed=seed, optimizer=Optimizer("SGD", SGD)) for seed in range(4)]
    with processes(2) as executor:
        results = train_runs(runs, X, Y, executor=executor)
    assert [bool(result.failure) for result in results] == [False, False, True, False]


class Poisonous(nn.Module):
    """Takes its process along when it is given the weights that seed 2 draws."""

    def __init__(self, file):
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)
        if torch.initial_seed() == 2 and torch.multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, x):
        return self.layer(x)

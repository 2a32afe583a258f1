"""Runs that kill their processes are retried, and other runs are unaffected."""

from __future__ import annotations

import functools
import os
import signal

import pytest
import torch
from torch import nn

from actlab.execution.processes import start_processes
from actlab.execution.scheduler import TRIES, train_runs
from actlab.fleet.run import Optimizer
from tests.fleet_runs import SGD, assert_equal, make_perceptron, one_thread, run
from tests.fleets import CLASSES, FEATURES, make_table

__all__ = ["one_thread"]

X, Y = make_table(80)


class KillsProcess(nn.Module):
    """Kills its process in training as often as the file has bytes."""

    def __init__(self, file, width=8):
        super().__init__()
        self.file, self.layer = file, nn.Linear(FEATURES, width)
        self.last = nn.Linear(width, CLASSES)

    def forward(self, x):
        kills = len(self.file.read_bytes())
        if x.shape[-2] > 2 and kills:
            self.file.write_bytes(b"." * (kills - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.last(self.layer(x))


def create_killing_run(file, kills):
    file.write_bytes(b"." * kills)
    return run(functools.partial(KillsProcess, file))


@pytest.mark.parametrize("kills", [pytest.param(TRIES - 1, marks=pytest.mark.slow), TRIES])
def test_train_runs_tries_a_killing_run_three_times(tmp_path, caplog, kills):
    others = [run(make_perceptron(name), seed=seed) for seed in (0, 1) for name in ("relu", "tanh")]
    killing_run = create_killing_run(tmp_path / "lives", kills)
    with start_processes(2) as executor:
        *results, last = train_runs([*others, killing_run], X, Y, executor=executor)
    assert_equal(results, train_runs(others, X, Y))
    died = [record for record in caplog.records if "its process died" in record.getMessage()]
    assert len(died) == min(kills, TRIES)
    if kills < TRIES:
        assert_equal([last], train_runs([killing_run], X, Y))
    else:
        assert last.failure == "the training process died 3 times: exit code SIGKILL(-9)"
        assert not last.weights


def test_train_runs_finds_the_killing_run_in_a_fleet(tmp_path, monkeypatch):
    file = tmp_path / "lives"
    file.write_bytes(b"." * 99)
    model = functools.partial(KillsForSeed2, file)
    runs = [run(model, seed=seed, optimizer=Optimizer("SGD", SGD)) for seed in range(4)]
    with start_processes(2) as executor:
        results = train_runs(runs, X, Y, executor=executor)
    assert [bool(result.failure) for result in results] == [False, False, True, False]


class KillsForSeed2(nn.Module):
    """Kills its process for the initial weights of seed 2."""

    def __init__(self, file):
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)
        if torch.initial_seed() == 2 and torch.multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, x):
        return self.layer(x)

"""Fleets that one process begins and another ends: the same results to the last bit."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from actlab.execution.processes import processes
from actlab.execution.scheduler import TRIES, train_runs
from actlab.fleet.loop import Data, Halfway, Loop
from actlab.fleet.plan import relay
from actlab.fleet.run import Optimizer, Schedule, Stopping
from actlab.fleet.trace import straight_line
from tests.fleet_runs import SGD, WILD, assert_equal, one_thread, perceptron, run
from tests.fleets import CLASSES, FEATURES, table
from tests.test_fleet_packed import images

__all__ = ["one_thread"]

X, Y = table(80)
ADAM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-4, "weight_decay": 0.01}
RMSPROP = {"lr": 0.01, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.0, "momentum": 0.5}
EPOCHS = 6


def normalised():
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES))


def two(**options):
    return [run(seed=seed, **options) for seed in (0, 1)]


KINDS = {
    "one run": lambda: [run()],
    "several": lambda: two(shuffle=True),
    "an incomplete batch is left out": lambda: two(shuffle=True, drop_last=True, rows=np.arange(45)),
    "adam": lambda: two(optimizer=Optimizer("Adam", ADAM, frozenset({"amsgrad"}))),
    "adamw": lambda: two(optimizer=Optimizer("AdamW", ADAM)),
    "rmsprop": lambda: two(optimizer=Optimizer("RMSprop", RMSPROP, frozenset({"centered"}))),
    "steps": lambda: two(schedule=Schedule(lr_scheduler.StepLR, {"step_size": 2})),
    "one cycle": lambda: two(
        schedule=Schedule(lr_scheduler.OneCycleLR, {"max_lr": 0.2, "total_steps": 3 * EPOCHS}, every="batch")
    ),
    "plateau": lambda: two(
        schedule=Schedule(lr_scheduler.ReduceLROnPlateau, {"patience": 0, "threshold": 0.5})
    ),
    "early stopping": lambda: [
        run(seed=n, stopping=Stopping("train_loss", patience=n, threshold=0.9, load_best=True))
        for n in (1, 2, 3, 4, 9)
    ],
    "bf16": lambda: two(precision="bf16"),
    "buffers": lambda: two(net=normalised),
    "one diverges": lambda: [run(), run(optimizer=WILD), run(seed=2)],
}


def by_loops(runs, data, *cuts, by_hand=True):
    """Train runs, handed over after these epochs as between processes; say how often they were."""
    found = Loop(runs, by_hand, data).train(until=cuts[0] if cuts else None)
    times = 0
    for until in (*cuts[1:], None):
        if isinstance(found, Halfway):
            times += 1
            found = Loop(runs, by_hand, data, halfway=copy.deepcopy(found)).train(until=until)
    return found, times


@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "by autograd"])
@pytest.mark.parametrize("kind", KINDS)
def test_whoever_goes_on_ends_where_one_would_have(kind, by_hand):
    def runs():
        return [dataclasses.replace(each, epochs=EPOCHS) for each in KINDS[kind]()]

    by_hand = by_hand and straight_line(runs()[0].build()) is not None
    data = Data(torch.from_numpy(X), torch.from_numpy(Y))
    expected, never = by_loops(runs(), data, by_hand=by_hand)
    assert never == 0
    for cuts in ((1,), (3,), (EPOCHS - 1,), (2, 4)):
        results, times = by_loops(runs(), data, *cuts, by_hand=by_hand)
        assert times == len(cuts)
        assert_equal(results, expected)
        assert all(result.seconds > 0 for result in results)


def test_batches_without_their_background_go_on_too():
    data = Data(images(-0.4242), torch.arange(96) % CLASSES)
    net = functools.partial(nn.Sequential, nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, CLASSES))
    rows = {"rows": np.arange(80), "valid": np.arange(80, 96), "epochs": EPOCHS}
    loop = Loop([run(net, **rows)], True, data)
    (expected,) = loop.train()
    assert loop.packed is not None
    results, times = by_loops([run(net, **rows)], data, 2)
    assert times == 1
    assert_equal(results, [expected])


def test_where_all_runs_are_over_nothing_is_handed_over():
    data = Data(torch.from_numpy(X), torch.from_numpy(Y))
    found = Loop([run(optimizer=WILD, epochs=EPOCHS)], True, data).train(until=4)
    assert found[0].failure.startswith("diverged: ")


# -- who is handed over ---------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(1, 6))
def test_nobody_is_without_work_for_long_and_nobody_does_two_things_at_once(costs, width):
    epochs = 100
    cuts = relay(costs, [epochs] * len(costs), width)
    share = max(*costs, sum(costs) / width, 0)
    grain = 1.02 * max(costs) / epochs  # of a cut
    loads, place = [[]], 0.0
    for number, cost in enumerate(costs):
        if number in cuts:
            first = cost * cuts[number] / epochs
            loads[-1].append((number, share - (cost - first), share))
            loads.append([(number, 0.0, first)])
            place = first
        else:
            if place + cost > share * 1.001 + grain:
                loads.append([])
                place = 0.0
            loads[-1].append((number, place, place + cost))
            place += cost
    assert len(loads) <= width
    assert len(cuts) < width
    for number in cuts:
        begins, ends = sorted(span[1:] for load in loads for span in load if span[0] == number)
        assert begins[1] <= ends[0] + grain


def test_processes_hand_over_and_the_bits_stay_the_same(caplog):
    runs = [run(perceptron(name), epochs=EPOCHS) for name in ("relu", "tanh", "gelu", "elu", "silu")]
    states = []
    with processes(2) as executor:
        results = train_runs(runs, X, Y, executor=executor, watch=states.append)
    assert_equal(results, train_runs(runs, X, Y))
    assert relay([1.0] * 5, [EPOCHS] * 5, 2) == {2: 3}
    assert not caplog.records


# -- processes that die ---------------------------------------------------------------------------


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

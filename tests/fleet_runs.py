"""Helpers for the tests of fleets: small runs, and comparison of results bit for bit."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from actlab import NeuralNet
from actlab.fleet.run import Optimizer, Run
from actlab.fleet.settings import FleetSettings
from tests.fleets import CLASSES, FEATURES, Packing

SHM = Path("/dev/shm")
SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
WILD = Optimizer("SGD", {**SGD, "lr": 1e30})
in_memory = pytest.mark.skipif(not SHM.is_dir(), reason="there is no /dev/shm")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Use one thread, because small models only wait for a second one;"""
    settings = FleetSettings()
    monkeypatch.setattr("actlab.execution.scheduler.read_settings", lambda device="cpu": settings)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_fleet(monkeypatch):
    """Put all runs that can train together into one fleet."""
    settings = Packing(most=64)
    monkeypatch.setattr("actlab.execution.scheduler.read_settings", lambda device="cpu": settings)


@pytest.fixture
def list_shared_memory():
    """Return a function that lists the new folders of this process in /dev/shm."""
    before = set(SHM.glob("actlab-*"))
    return lambda: set(SHM.glob(f"actlab-{os.getpid()}-*")) - before


def make_perceptron(activation="relu", units=8):
    return functools.partial(NeuralNet, units, activation, FEATURES, CLASSES)


def make_noisy():
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Dropout(), nn.Linear(8, CLASSES))


def run(net=None, **options):
    defaults = {
        "net": net or make_perceptron(),
        "rows": np.arange(48),
        "valid": np.arange(48, 64),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": Optimizer("SGD", SGD),
        "epochs": 3,
        "batch_size": 16,
    }
    return Run(**{**defaults, **options})


class Late(nn.Module):
    """Raises for more than the two samples of the first test of a model."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        if x.shape[-2] > 2:
            raise self.error
        return x


def assert_equal(results, expected):
    """Assert that results are equal bit for bit."""
    for result, other in zip(results, expected, strict=True):
        assert (result.failure, result.how, result.reason_alone) == (
            other.failure,
            other.how,
            other.reason_alone,
        )
        assert result.weights.keys() == other.weights.keys()
        for name, weight in other.weights.items():
            torch.testing.assert_close(result.weights[name], weight, rtol=0, atol=0, equal_nan=True)
        assert len(result.history) == len(other.history)
        for row, before in zip(result.history, other.history, strict=True):
            assert {**row, "dur": 0} == pytest.approx({**before, "dur": 0}, rel=0, abs=0, nan_ok=True)


def list_workers(executor):
    """Return the PIDs of an executor's processes."""
    list(executor.map(time.sleep, [0.05] * 8))
    return sorted(pid for pool in (*executor._free, *executor._busy) for pid in pool._processes)


def have_ended(pids, seconds=20):
    """Return whether the processes end in time."""
    end = time.monotonic() + seconds
    while any(Path("/proc", str(pid)).exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(Path("/proc", str(pid)).exists() for pid in pids)

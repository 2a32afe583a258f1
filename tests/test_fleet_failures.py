"""Fleets with failures: only the failed runs are affected, and no resources remain."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from actlab import NeuralNet
from actlab.execution.processes import start_processes
from actlab.execution.scheduler import iterate_results, train_runs
from tests.fleet_runs import (
    WILD,
    Late,
    assert_equal,
    have_ended,
    in_memory,
    list_shared_memory,
    list_workers,
    make_noisy,
    make_perceptron,
    one_fleet,
    one_thread,
    run,
)
from tests.fleets import CLASSES, FEATURES, make_table, train_by_fleets
from tests.processes import run_process

__all__ = ["list_shared_memory", "one_fleet", "one_thread"]

X, Y = make_table(80)


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
@pytest.mark.parametrize("index", [0, 2, 5])
def test_fleet_with_a_diverged_run_keeps_the_other_results(index, layer_by_layer):
    model = make_perceptron("leaky_relu")
    others = [run(model, seed=seed, epochs=4) for seed in range(5)]
    runs = [*others[:index], run(model, optimizer=WILD, seed=9, epochs=4), *others[index:]]
    results = train_by_fleets(runs, X, Y, layer_by_layer=layer_by_layer)
    diverged = results.pop(index)
    assert re.fullmatch(r"diverged: (train|valid)_loss is (nan|inf) in epoch 1", diverged.failure)
    assert [row["epoch"] for row in diverged.history] == [1]
    assert_equal(results, train_by_fleets(others, X, Y, layer_by_layer=layer_by_layer))


def build_sometimes():
    """Return a model for some seeds, and raise for others."""
    if torch.rand(()) < 0.5:
        raise RuntimeError("not\ntoday")
    return NeuralNet(8, "tanh", FEATURES, CLASSES)


@pytest.mark.usefixtures("one_fleet")
def test_train_runs_fails_only_models_that_cannot_be_built():
    runs = [run(build_sometimes, seed=seed) for seed in range(12)]
    results = train_runs(runs, X, Y)
    failed = [result.failure for result in results if result.failure]
    assert 0 < len(failed) < 12
    assert set(failed) == {"training raised RuntimeError: not"}
    assert all(len(r.history) == (0 if r.failure else 3) for r in results)
    assert all(bool(r.weights) is not bool(r.failure) for r in results)


@pytest.mark.usefixtures("one_fleet")
def test_train_runs_fails_only_runs_whose_module_raises():
    broken, good = make_perceptron(Late(OSError("no such\nthing"))), make_perceptron()
    runs = [run(model, seed=seed) for seed in (0, 1, 2) for model in (broken, good)]
    results = train_runs(runs, X, Y)
    assert [result.failure for result in results[::2]] == ["training raised OSError: no such"] * 3
    assert_equal(results[1::2], train_runs(runs[1::2], X, Y))


MEMORY = """
import functools, gc, logging, resource
from pathlib import Path
import numpy as np
from torch import nn
from actlab import NeuralNet
from actlab.fleet.run import Optimizer, Run
from tests.fleets import CLASSES, FEATURES, make_table, train_by_fleets

X, y = make_table()
logging.basicConfig(format="%(message)s")
SGD = Optimizer("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0})


def train(units):
    model = functools.partial(NeuralNet, units, "relu", FEATURES, CLASSES)
    options = {"loss": nn.CrossEntropyLoss(), "optimizer": SGD, "epochs": 2, "batch_size": 16}
    runs = [Run(net=model, rows=np.arange(32), seed=seed, **options) for seed in range(8)]
    return train_by_fleets(runs, X, y)


def limit_memory(models):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(models * SIZE), -1))


UNITS = 1400
SIZE = 4 * sum(p.numel() for p in NeuralNet(UNITS, "relu", FEATURES, CLASSES).parameters())
train(8)
for models in (30, 1):
    gc.collect()
    limit_memory(models)
    for result in train(UNITS):
        print(models, result.failure or f"{len(result.history)} epochs {result.how}")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked up in /proc")
def test_train_runs_splits_a_fleet_that_runs_out_of_memory():
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory is returned at once
    root = Path(__file__).parents[1]
    done = run_process([sys.executable, "-c", MEMORY], env=environment, cwd=root)
    lines = done.stdout.splitlines()
    assert lines[:8] == ["30 2 epochs layer by layer"] * 8, done.stderr
    assert len(lines) == 16
    assert all(
        re.match(r"1 out of memory: RuntimeError: .*can't allocate memory", line) for line in lines[8:]
    )
    notes = done.stderr.splitlines()
    assert notes[0] == "fleet 1 of 1: out of memory with 8 runs at once; continuing with 4"
    assert all(note.startswith("fleet 1 of 1: out of memory with ") for note in notes)


class Small(nn.Module):
    """Runs out of memory for more than two models at once."""

    def forward(self, x):
        if x.shape[-2] > 2 and torch._C._functorch.maybe_get_level(x) > 0:
            models = torch._C._functorch.get_unwrapped(x).shape[0]
            if models > 2:
                raise torch.OutOfMemoryError(f"no room for {models}")
        return torch.tanh(x)


@pytest.mark.usefixtures("one_fleet")
def test_train_runs_splits_fleets_repeatedly_and_logs_each_split(caplog):
    model = make_perceptron(Small())
    with caplog.at_level(logging.WARNING, "actlab"):
        results = train_runs([run(model, seed=seed) for seed in range(8)], X, Y)
    assert [result.failure for result in results] == [""] * 8
    text = "fleet 1 of 1: out of memory with {} runs at once; continuing with {}"
    assert sorted(record.message for record in caplog.records) == [
        text.format(4, 2),
        text.format(4, 2),
        text.format(8, 4),
    ]
    expected = train_runs([run(make_perceptron("tanh"), seed=seed) for seed in range(8)], X, Y)
    for result, other in zip(results, expected, strict=True):
        for name, weight in other.weights.items():
            torch.testing.assert_close(result.weights[name], weight, rtol=1e-5, atol=1e-6)


# -- interruptions --------------------------------------------------------------------------------


def test_iterate_results_yields_finished_runs_before_an_interrupt():
    runs = [run(make_perceptron()), run(make_perceptron(Late(KeyboardInterrupt()))), run(make_noisy)]
    results_iterator = iterate_results(runs, X, Y)
    assert next(results_iterator)[1].failure == ""
    with pytest.raises(KeyboardInterrupt):
        next(results_iterator)


@in_memory
def test_train_runs_after_an_interrupt_ends_processes_and_frees_memory(list_shared_memory):
    def interrupt(state):
        assert len(list_shared_memory()) == 1
        raise KeyboardInterrupt

    def train():
        with start_processes(2) as executor:
            pids.extend(list_workers(executor))
            train_runs(runs, X, Y, executor=executor, watch=interrupt)

    runs = [run(make_perceptron(name), epochs=10**6) for name in ("relu", "tanh", "gelu")]
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(pids) == 2
    assert have_ended(pids)
    assert list_shared_memory() == set()

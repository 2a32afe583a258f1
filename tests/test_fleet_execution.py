"""train_runs gives the same results wherever fleets are trained, and reports their progress."""

from __future__ import annotations

import dataclasses
import functools
import gc
import multiprocessing
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import torch
from torch import nn

from actlab.execution.processes import start_processes
from actlab.execution.scheduler import choose_executor, iterate_results, train_runs
from actlab.fleet.run import EarlyStopping, Optimizer
from actlab.fleet.settings import FleetSettings
from tests.fleet_runs import (
    SGD,
    WILD,
    assert_equal,
    in_memory,
    list_shared_memory,
    make_noisy,
    make_perceptron,
    one_thread,
    run,
)
from tests.fleets import CLASSES, FEATURES, Branching, make_table, train_by_fleets

__all__ = ["list_shared_memory", "one_thread"]

X, Y = make_table(80)


def all_kinds():
    """Return runs of many kinds; other processes can import their model factories."""
    shuffled = functools.partial(run, shuffle=True)
    runs = [
        shuffled(make_perceptron(name), seed=seed) for seed in (0, 1) for name in ("relu", "tanh", "gelu")
    ]
    others = [make_perceptron("prelu"), Branching, make_perceptron(nn.Dropout(0.2))]
    runs += [shuffled(model, seed=seed) for seed in (0, 1) for model in others]
    return [*runs, run(make_perceptron("elu"), optimizer=WILD, epochs=4)]


# -- executors ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local_results():
    settings = FleetSettings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actlab.execution.scheduler.read_settings", lambda device="cpu": settings)
        return train_runs(all_kinds(), X, Y)


def test_train_runs_in_this_process_trains_in_order(local_results):
    assert [result.failure for result in local_results[:-1]] == [""] * 12
    assert local_results[-1].failure.startswith("diverged: ")
    assert {result.how for result in local_results} == {"layer by layer", "autograd"}
    assert all(len(result.history) == 3 for result in local_results[:-1])


@pytest.mark.parametrize("threads", [1, 3])
def test_train_runs_in_threads_gives_the_same_bits(local_results, threads):
    with ThreadPoolExecutor(threads) as executor:
        assert_equal(train_runs(all_kinds(), X, Y, executor=executor), local_results)
    assert torch.get_num_threads() == 1


def test_train_runs_in_spawned_processes_gives_the_same_bits(local_results):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert_equal(train_runs(all_kinds(), X, Y, executor=executor), local_results)


@in_memory
def test_train_runs_in_processes_gives_the_same_bits_and_frees_shared_memory(
    local_results, list_shared_memory
):
    runs = all_kinds()
    with start_processes(2) as executor:
        assert_equal(train_runs(runs, X, Y, executor=executor), local_results)
        assert_equal(train_runs(runs[::-1], X, Y, executor=executor)[::-1], train_runs(runs, X, Y))
    assert list_shared_memory() == set()


def test_iterate_results_yields_each_fleet_and_can_be_closed():
    runs = [run(model, seed=seed) for model in (make_perceptron(), make_noisy) for seed in (0, 1)]
    results_iterator = iterate_results(runs, X, Y)
    assert next(results_iterator)[0] == 0
    results_iterator.close()
    assert list(iterate_results([], X, Y)) == []


def test_choose_executor_starts_processes_only_for_enough_runs():
    runs = [run(seed=seed) for seed in range(4)]
    for jobs, many in ((None, runs), (1, runs), (2, runs[:1])):
        with choose_executor(None, jobs, many, X) as executor:
            assert executor is None
    with choose_executor(None, 2, runs, X) as executor:
        assert executor is not None


def test_train_runs_releases_the_data():
    data = X.copy()
    reference = weakref.ref(data)
    train_runs([run(make_perceptron("prelu"))], data, Y)
    del data
    gc.collect()
    assert reference() is None


# -- runs that stop -------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_fleet_continues_unchanged_after_early_stopping_of_some_runs(optimizer, layer_by_layer):
    adam = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-4, "weight_decay": 0.0}
    rule = Optimizer(optimizer, SGD if optimizer == "SGD" else adam)
    model = make_perceptron("tanh")
    continuing = [run(model, seed=seed, optimizer=rule, epochs=12) for seed in range(4)]
    stopping_runs = [
        dataclasses.replace(each, stopping=EarlyStopping("train_loss", patience=patience, threshold=0.9))
        for patience, each in enumerate(continuing, 1)
    ]
    mixed = [each for pair in zip(stopping_runs, continuing, strict=True) for each in pair]
    results = train_by_fleets(mixed, X, Y, layer_by_layer=layer_by_layer)
    assert [len(result.history) for result in results[::2]] == [2, 3, 4, 5]
    for result, other in zip(
        results[1::2], train_by_fleets(continuing, X, Y, layer_by_layer=layer_by_layer), strict=True
    ):
        assert len(result.history) == len(other.history) == 12
        for name, weight in other.weights.items():
            torch.testing.assert_close(result.weights[name], weight, rtol=1e-6, atol=1e-6)
        for row, expected in zip(result.history, other.history, strict=True):
            assert row == pytest.approx(expected, rel=1e-6)


def test_fleet_continues_alone_with_a_layer_that_single_networks_store_otherwise():
    model = make_perceptron("tanh", [(1 << 16) // FEATURES + 1])
    continuing = run(model, seed=1, epochs=4)
    stops = run(model, epochs=4, stopping=EarlyStopping("train_loss", patience=1, threshold=0.99))
    stopped, result = train_by_fleets([stops, continuing], X, Y)
    (expected,) = train_by_fleets([continuing], X, Y)
    assert (len(stopped.history), len(result.history)) == (2, 4)
    for name, weight in expected.weights.items():
        torch.testing.assert_close(result.weights[name], weight, rtol=1e-4, atol=1e-5)


# -- progress -------------------------------------------------------------------------------------


def test_train_runs_reports_every_epoch_with_its_values():
    states = []
    model = make_perceptron()
    results = train_runs([run(model), run(model, seed=1), run(make_noisy)], X, Y, watch=states.append)
    assert [(state.fleet, state.epoch, state.results is None) for state in states] == [
        (fleet, *progress) for fleet in range(3) for progress in ((1, True), (2, True), (3, True), (3, False))
    ]
    assert {(state.fleets, state.epochs, len(state.runs)) for state in states} == {(3, 3, 1)}
    for state in states:
        (place,) = state.runs
        if state.results is None:
            assert list(state.last_epochs) == [results[place].history[state.epoch - 1]]
        else:
            assert list(state.results) == [results[place]]


@pytest.mark.parametrize("pool", [start_processes, ThreadPoolExecutor], ids=["processes", "threads"])
def test_train_runs_reports_progress_of_executors(pool):
    states = []
    runs = [run(make_perceptron(name), epochs=1000) for name in ("tanh", "gelu")]
    with pool(2) as executor:
        train_runs(runs, X, Y, executor=executor, watch=states.append)
    for fleet in (0, 1):
        *under_way, last = [state for state in states if state.fleet == fleet]
        epochs = [state.epoch for state in under_way]
        assert epochs == sorted(epochs)
        assert epochs[0] < 1000
        assert epochs[-1] > 0
        assert all(state.results is None for state in under_way)
        assert last.epoch == last.epochs == len(last.results[0].history) == 1000


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
def test_fleet_trains_inplace_models_correctly(layer_by_layer, monkeypatch):
    settings = FleetSettings(layer_by_layer=layer_by_layer)
    monkeypatch.setattr("actlab.execution.scheduler.read_settings", lambda device="cpu": settings)

    def build_model(inplace):
        return nn.Sequential(
            nn.ELU(inplace=inplace), nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES)
        )

    runs = [run(functools.partial(build_model, inplace)) for inplace in (True, False)]
    first, second = train_runs(runs, X, Y)
    figures = [[(row["train_loss"], row["valid_loss"]) for row in r.history] for r in (first, second)]
    assert figures[0] == figures[1]

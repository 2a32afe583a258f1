"""Fleets to their end, wherever they are trained: the same results, and what is told meanwhile."""

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

import actlab
from actlab.execution.processes import processes
from actlab.execution.scheduler import choose_executor, iterate_results, train_runs
from actlab.fleet.run import Optimizer, Stopping
from actlab.fleet.settings import FleetSettings
from tests.fleet_runs import (
    SGD,
    WILD,
    assert_equal,
    in_memory,
    in_shm,
    noisy,
    one_thread,
    perceptron,
    run,
)
from tests.fleets import CLASSES, FEATURES, by_fleets, table

__all__ = ["in_shm", "one_thread"]

X, Y = table(80)


def all_kinds():
    """Return runs of many kinds; what makes them can be imported wherever actlab can."""
    shuffled = functools.partial(run, shuffle=True)
    runs = [shuffled(perceptron(name), seed=seed) for seed in (0, 1) for name in ("relu", "tanh", "gelu")]
    others = [perceptron(kind) for kind in ("prelu", actlab.functional.mish, nn.Dropout(0.2))]
    runs += [shuffled(net, seed=seed) for seed in (0, 1) for net in others]
    return [*runs, run(perceptron("elu"), optimizer=WILD, epochs=4)]


# -- where ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here():
    found = FleetSettings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actlab.execution.scheduler.settings_for", lambda device="cpu": found)
        return train_runs(all_kinds(), X, Y)


def test_in_this_process_everything_is_trained_in_order(here):
    assert [result.failure for result in here[:-1]] == [""] * 12
    assert here[-1].failure.startswith("diverged: ")
    assert {result.how for result in here} == {"layer by layer", "autograd"}
    assert all(len(result.history) == 3 for result in here[:-1])


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_train_to_the_same_bits(here, threads):
    with ThreadPoolExecutor(threads) as executor:
        assert_equal(train_runs(all_kinds(), X, Y, executor=executor), here)
    assert torch.get_num_threads() == 1


def test_spawned_processes_train_to_the_same_bits(here):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert_equal(train_runs(all_kinds(), X, Y, executor=executor), here)


@in_memory
def test_our_own_processes_train_to_the_same_bits_and_leave_nothing_in_memory(here, in_shm):
    runs = all_kinds()
    with processes(2) as executor:
        assert_equal(train_runs(runs, X, Y, executor=executor), here)
        assert_equal(train_runs(runs[::-1], X, Y, executor=executor)[::-1], train_runs(runs, X, Y))
    assert in_shm() == set()


def test_results_come_as_soon_as_a_fleet_has_ended_and_the_rest_may_be_left():
    runs = [run(net, seed=seed) for net in (perceptron(), noisy) for seed in (0, 1)]
    coming = iterate_results(runs, X, Y)
    assert next(coming)[0] == 0
    coming.close()
    assert list(iterate_results([], X, Y)) == []


def test_processes_are_started_where_there_is_work_for_them_or_when_they_are_wanted():
    runs = [run(seed=seed) for seed in range(4)]
    for jobs, many in ((None, runs), (1, runs), (2, runs[:1])):
        with choose_executor(None, jobs, many, X) as executor:
            assert executor is None
    with choose_executor(None, 2, runs, X) as executor:
        assert executor is not None


def test_data_are_let_go_when_training_has_ended():
    data = X.copy()
    gone = weakref.ref(data)
    train_runs([run(perceptron("prelu"))], data, Y)
    del data
    gc.collect()
    assert gone() is None


# -- runs that stop -------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_runs_that_stop_early_do_not_disturb_those_that_go_on(optimizer, layer_by_layer):
    adam = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-4, "weight_decay": 0.0}
    rule = Optimizer(optimizer, SGD if optimizer == "SGD" else adam)
    net = perceptron("tanh")
    stays = [run(net, seed=seed, optimizer=rule, epochs=12) for seed in range(4)]
    stops = [
        dataclasses.replace(each, stopping=Stopping("train_loss", patience=patience, threshold=0.9))
        for patience, each in enumerate(stays, 1)
    ]
    mixed = [each for pair in zip(stops, stays, strict=True) for each in pair]
    results = by_fleets(mixed, X, Y, layer_by_layer=layer_by_layer)
    assert [len(result.history) for result in results[::2]] == [2, 3, 4, 5]
    for result, other in zip(
        results[1::2], by_fleets(stays, X, Y, layer_by_layer=layer_by_layer), strict=True
    ):
        assert len(result.history) == len(other.history) == 12
        for name, weight in other.weights.items():
            torch.testing.assert_close(result.weights[name], weight, rtol=1e-6, atol=1e-6)
        for row, expected in zip(result.history, other.history, strict=True):
            assert row == pytest.approx(expected, rel=1e-6)


# -- what is told ---------------------------------------------------------------------------------


def test_in_this_process_every_epoch_is_told_with_its_figures():
    states = []
    net = perceptron()
    results = train_runs([run(net), run(net, seed=1), run(noisy)], X, Y, watch=states.append)
    assert [(state.fleet, state.epoch, state.results is None) for state in states] == [
        (fleet, *told) for fleet in range(3) for told in ((1, True), (2, True), (3, True), (3, False))
    ]
    assert {(state.fleets, state.epochs, len(state.runs)) for state in states} == {(3, 3, 1)}
    for state in states:
        (place,) = state.runs
        if state.results is None:
            assert list(state.last_epochs) == [results[place].history[state.epoch - 1]]
        else:
            assert list(state.results) == [results[place]]


@pytest.mark.parametrize("pool", [processes, ThreadPoolExecutor], ids=["processes", "threads"])
def test_from_elsewhere_it_is_told_how_far_fleets_are(pool):
    states = []
    runs = [run(perceptron(name), epochs=2000) for name in ("tanh", "gelu")]
    with pool(2) as executor:
        train_runs(runs, X, Y, executor=executor, watch=states.append)
    for fleet in (0, 1):
        *under_way, last = [state for state in states if state.fleet == fleet]
        epochs = [state.epoch for state in under_way]
        assert epochs == sorted(epochs)
        assert epochs[0] < 2000
        assert epochs[-1] > 0
        assert all(state.results is None for state in under_way)
        assert last.epoch == last.epochs == len(last.results[0].history) == 2000


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
def test_a_net_that_overwrites_its_inputs_trains_as_one_that_does_not(layer_by_layer, monkeypatch):
    found = FleetSettings(layer_by_layer=layer_by_layer)
    monkeypatch.setattr("actlab.execution.scheduler.settings_for", lambda device="cpu": found)

    def net(inplace):
        return nn.Sequential(
            nn.ELU(inplace=inplace), nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES)
        )

    runs = [run(functools.partial(net, inplace)) for inplace in (True, False)]
    first, second = train_runs(runs, X, Y)
    figures = [[(row["train_loss"], row["valid_loss"]) for row in r.history] for r in (first, second)]
    assert figures[0] == figures[1]

"""Random numbers, learning rates and early stopping of a run."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import skorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.history import History
from torch import nn
from torch.optim import lr_scheduler as schedules

from actlab.fleet import run as fleet_run
from actlab.fleet.early_stopping import EarlyStopper
from actlab.fleet.lr_schedule import ScheduleStepper
from actlab.models.random_streams import HOLDOUT, WEIGHTS, derive_seed, seeded_torch
from actlab.training.validation_split import split_validation
from tests.fleets import classifier, make_run, make_table

X, Y = make_table()
SHUFFLED = classifier(iterator_train__shuffle=True)


def list_epochs(run, number=3):
    return torch.stack(list(itertools.islice(run.iterate_orders(), number)))


def weights_of(run):
    return torch.cat([p.detach().reshape(-1) for p in run.build().parameters()])


# -- random numbers -------------------------------------------------------------------------------


def test_run_orders_shuffle_every_epoch_differently():
    run = make_run(SHUFFLED, X, Y)
    first, second, third = list_epochs(run)
    for order in (first, second, third):
        assert order.sort().values.tolist() == run.rows.tolist()
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_run_orders_without_shuffle_keep_the_order():
    run = make_run(classifier(), X, Y)
    assert all(order.tolist() == run.rows.tolist() for order in list_epochs(run))


def test_run_orders_and_weights_depend_only_on_seed_and_fold():
    run = make_run(SHUFFLED, X, Y, seed=3, fold=2)
    torch.manual_seed(99)
    np.random.seed(99)
    other = dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, name="Adam"), batch_size=7)
    assert torch.equal(list_epochs(run), list_epochs(other))
    assert torch.equal(weights_of(run), weights_of(other))
    for change in ({"seed": 4}, {"fold": 1}, {"seed": 2, "fold": 3}):
        changed = dataclasses.replace(run, **change)
        assert not torch.equal(list_epochs(run), list_epochs(changed))
        assert not torch.equal(weights_of(run), weights_of(changed))


def test_run_build_gives_equal_weights_for_all_activations():
    tanh, elu = (make_run(classifier(module__activation=kind), X, Y) for kind in (nn.Tanh, nn.ELU))
    assert torch.equal(weights_of(tanh), weights_of(elu))


def test_run_leaves_the_random_state_unchanged():
    random = classifier(train_split=skorch.dataset.ValidSplit(0.2), iterator_train__shuffle=True)
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run = make_run(random, X, Y, seed=1)
    run.build()
    list_epochs(run)
    with run.seed_noise():
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_run_build_restores_the_random_state_after_an_error():
    def broken():
        torch.rand(1)
        raise RuntimeError("no model")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no model"):
        dataclasses.replace(make_run(SHUFFLED, X, Y), net=broken).build()
    assert torch.equal(torch.get_rng_state(), before)


def test_split_validation_depends_only_on_seed_and_fold():
    model = classifier(train_split=skorch.dataset.ValidSplit(0.2))
    parts = [
        split_validation(model, np.arange(50), Y, seed, fold)
        for seed, fold in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    for train, valid in parts:
        assert sorted([*train, *valid]) == list(range(50))
    assert np.array_equal(parts[0][1], parts[1][1])
    assert not np.array_equal(parts[0][1], parts[2][1])
    assert not np.array_equal(parts[0][1], parts[3][1])


def test_derive_seed_is_different_for_each_purpose():
    result = [derive_seed(s, f, p) for s in range(20) for f in range(20) for p in range(WEIGHTS, HOLDOUT + 1)]
    assert len(set(result)) == len(result)
    assert all(0 <= start < 2**63 for start in result)
    samples = []
    for purpose in (WEIGHTS, HOLDOUT):
        with seeded_torch(0, 0, purpose, "cpu"):
            samples.append(torch.rand(4))
    assert not torch.equal(*samples)


# -- learning rates -------------------------------------------------------------------------------


class Numbers(Callback):
    """Record the hyperparameters of the optimizer in each step."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if training:
            group = net.optimizer_.param_groups[0]
            names = {"lr": group["lr"], "momentum": group.get("momentum")}
            names["beta1"] = group["betas"][0] if "betas" in group else None
            self.seen.append({name: value for name, value in names.items() if value is not None})


SGD = {"lr": 0.1, "optimizer__momentum": 0.9}
ADAM = {"optimizer": torch.optim.Adam, "lr": 0.01}
POLICIES = {
    "StepLR": {"policy": schedules.StepLR, "step_size": 2, "gamma": 0.5},
    "MultiStepLR": {"policy": schedules.MultiStepLR, "milestones": [1, 4]},
    "ExponentialLR": {"policy": schedules.ExponentialLR, "gamma": 0.8},
    "CosineAnnealingLR": {"policy": schedules.CosineAnnealingLR, "T_max": 4},
    "LambdaLR": {"policy": schedules.LambdaLR, "lr_lambda": lambda epoch: 1 / (1 + epoch)},
    "skorch's WarmRestartLR": {},
    "ReduceLROnPlateau": {"policy": schedules.ReduceLROnPlateau, "patience": 0, "threshold": 0.3},
    "ReduceLROnPlateau of valid_acc": {
        "policy": schedules.ReduceLROnPlateau,
        "monitor": "valid_acc",
        "mode": "max",
        "patience": 0,
    },
    "OneCycleLR": {
        "policy": schedules.OneCycleLR,
        "max_lr": 0.3,
        "total_steps": 40,
        "step_every": "batch",
    },
    "CyclicLR": {
        "policy": schedules.CyclicLR,
        "base_lr": 0.01,
        "max_lr": 0.2,
        "step_size_up": 4,
        "step_every": "batch",
    },
    "CosineAnnealingWarmRestarts": {
        "policy": schedules.CosineAnnealingWarmRestarts,
        "T_0": 5,
        "step_every": "batch",
    },
}


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
@pytest.mark.parametrize("policy", POLICIES)
def test_learning_rate_equals_that_of_skorchs_scheduler(policy, optimizer):
    numbers = Numbers()
    callbacks = [("pace", LRScheduler(**POLICIES[policy])), ("numbers", numbers)]
    model = classifier(max_epochs=6, callbacks=callbacks, **optimizer).fit(X, Y)
    learning_rate = ScheduleStepper(make_run(model.set_params(callbacks=callbacks[:1]), X, Y))
    steps = iter(numbers.seen)
    for row in model.history:
        for _ in range(row["train_batch_count"]):
            assert learning_rate.numbers() == next(steps)
            learning_rate.end_batch()
        ours = {name: row[name] for name in ("train_loss", "valid_loss", "valid_acc")}
        learning_rate.end_epoch(ours)
        assert ours.get("event_lr") == row.get("event_lr")
    assert not list(steps)


# -- early stopping -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """Return a skorch network whose history the test fills."""
    return classifier(callbacks=None).initialize()


SCORES = st.one_of(
    st.lists(st.floats(-10, 10), min_size=1, max_size=25),
    st.lists(st.sampled_from([0.0, 0.1, 0.1 + 1e-9, 0.2, 0.3, -0.1, 5.0]), min_size=1, max_size=25),
    st.lists(st.sampled_from([1.0, float("inf"), -float("inf")]), min_size=1, max_size=9),
)


@given(
    scores=SCORES,
    patience=st.integers(-1, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.1, 0.5]),
    mode=st.sampled_from(["rel", "abs"]),
    lower=st.booleans(),
)
@settings(deadline=None)
def test_early_stopper_stops_like_skorch(network, scores, patience, threshold, mode, lower):
    options = {"patience": patience, "threshold": threshold, "threshold_mode": mode, "lower_is_better": lower}
    theirs, ours = EarlyStopping(**options), EarlyStopper(fleet_run.EarlyStopping(**options))
    network.history_ = History()
    theirs.on_train_begin(network)
    for epoch, score in enumerate(scores, 1):
        network.history.new_epoch()
        network.history.record("epoch", epoch)
        network.history.record("valid_loss", score)
        stopped = False
        try:
            theirs.on_epoch_end(network)
        except KeyboardInterrupt:
            stopped = True
        assert ours.record({"valid_loss": score}) is stopped
        assert ours.improved is (theirs.best_epoch_ == epoch)
        if stopped:
            break

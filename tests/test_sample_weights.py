"""Weights of samples: in losses, scores and their loading."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, r2_score
from torch import nn

from actlab import compare, load_data
from actlab.errors import UsageError
from actlab.execution.scheduler import train_runs
from actlab.fleet.run import EarlyStopping, Optimizer
from actlab.fleet.skorch_adapter import restore_net
from actlab.ledger import Ledger
from actlab.training.settings import TrainSettings
from actlab.training.train import plan_training, run_training
from tests.comparison_plans import make_plan
from tests.fleet_runs import run
from tests.fleets import CLASSES, FEATURES, Branching, make_table

NAMES = ["relu", "tanh"]
QUICK = {"epochs": 3, "tune": None, "jobs": 1, "batch_size": 16}
INTEGERS = np.random.default_rng(1).choice([1, 2, 6], 60)  # weights


def make_linear(outputs=CLASSES):
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), nn.Linear(6, outputs))


def make_targets(loss, y):
    """Return the targets of a loss, its number of outputs, and how to compute the accuracy."""
    if isinstance(loss, nn.CrossEntropyLoss):
        return y, CLASSES, "classes"
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return (y > 0).astype(np.float32), 1, "binary"
    return np.stack([y, y**2], 1).astype(np.float32), 2, ""


LOSSES = [
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(label_smoothing=0.1),
    nn.BCEWithLogitsLoss(),
    nn.MSELoss(),
    nn.L1Loss(),
]
NETWORKS = {"layer by layer": make_linear, "autograd": lambda outputs: Branching(outputs=outputs)}


def train(net, X, y, weights=None, epochs=5, seeds=(0,), **options):
    """Train with one batch per epoch and validate and test on all samples."""
    every = np.arange(len(X))
    parts = {"rows": every, "valid": every, "test": every, "batch_size": len(X), **options}
    optimizer = Optimizer("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0})
    runs = [
        run(net, sample_weights=weights, epochs=epochs, optimizer=optimizer, seed=seed, **parts)
        for seed in seeds
    ]
    return train_runs(runs, X, y)


def assert_equal_results(result, expected, rtol=2e-4):
    assert (result.failure, expected.failure) == ("", "")
    for name, value in expected.weights.items():
        np.testing.assert_allclose(result.weights[name], value, rtol=rtol, atol=1e-5)
    for row, other in zip(result.history, expected.history, strict=True):
        for name in ("train_loss", "valid_loss", "valid_acc"):
            if name in other:
                assert row[name] == pytest.approx(other[name], rel=rtol)
    for name in ("test_loss", "test_acc"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=rtol, nan_ok=True)


# -- training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_train_runs_with_integer_weights_equals_repeated_samples(how, loss):
    X, y = make_table(60)
    y, outputs, scoring = make_targets(loss, y)
    options = {"loss": loss, "scoring": scoring, "seeds": (0, 1, 2)}
    net = lambda: NETWORKS[how](outputs=outputs)  # noqa: E731
    results = train(net, X, y, INTEGERS.astype(float), **options)
    repeated = np.repeat(np.arange(60), INTEGERS)
    expected = train(net, X[repeated], y[repeated], **options)
    assert len(results) == 3
    name, plain = next(iter(train(net, X, y, **options)[0].weights.items()))
    assert not torch.allclose(results[0].weights[name], plain, atol=1e-3)
    for result, other in zip(results, expected, strict=True):
        assert result.how == how
        assert not result.reason_alone
        assert_equal_results(result, other)


def test_train_runs_with_weights_sums_over_each_batch():
    X, y = make_table(60)
    halves = np.r_[np.full(30, 2.0), np.full(30, 1e-9)]  # equal in each batch
    (result,) = train(make_linear, X, y, halves, batch_size=30)
    (expected,) = train(make_linear, X, y, batch_size=30)
    for name, value in expected.weights.items():
        np.testing.assert_allclose(result.weights[name], value, rtol=1e-4, atol=1e-5)
    assert result.test_loss != pytest.approx(expected.test_loss, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_train_runs_depends_on_ratios_of_weights_only(scale):
    X, y = make_table(60)
    (result,) = train(make_linear, X, y, INTEGERS * scale)
    (expected,) = train(make_linear, X, y, INTEGERS.astype(float))
    assert_equal_results(result, expected)


def test_train_runs_stops_early_and_diagnoses_with_weights():
    X, y = make_table(60)
    stopping = EarlyStopping(patience=2, load_best=True)
    options = {"stopping": stopping, "epochs": 30, "diagnostic_epochs": (1,), "seeds": (0, 1)}
    results = train(make_linear, X, y, INTEGERS.astype(float), **options)
    repeated = np.repeat(np.arange(60), INTEGERS)
    expected = train(make_linear, X[repeated], y[repeated], **options)
    for result, other in zip(results, expected, strict=True):
        assert_equal_results(result, other, rtol=2e-3)
        assert [row["layer"] for row in result.diagnostics] == [row["layer"] for row in other.diagnostics]


# -- comparisons ----------------------------------------------------------------------------------------


def read_scores(comparison):
    assert set(comparison.results["failure"]) == {""}
    return comparison.results[["score", "accuracy", "loss"]].to_numpy()


def test_compare_with_constant_weights_is_the_unweighted_comparison():
    data = make_table(60)
    np.testing.assert_array_equal(
        read_scores(compare(NAMES, data, weights=np.full(60, 0.3), **QUICK)),
        read_scores(compare(NAMES, data, **QUICK)),
    )


def test_compare_with_zero_weights_leaves_samples_out():
    X, y = make_table(60)
    keep = np.arange(60) % 4 > 0
    weighted = compare(NAMES, (X, y), weights=INTEGERS * keep, **QUICK)
    expected = compare(NAMES, (X[keep], y[keep]), weights=INTEGERS[keep], **QUICK)
    np.testing.assert_array_equal(read_scores(weighted), read_scores(expected))


METRICS = {
    "accuracy": lambda net, X, y, w: accuracy_score(y, net.predict(X), sample_weight=w),
    "balanced_accuracy": lambda net, X, y, w: balanced_accuracy_score(y, net.predict(X), sample_weight=w),
    "neg_log_loss": lambda net, X, y, w: -log_loss(y, net.predict_proba(X), sample_weight=w),
    "r2": lambda net, X, y, w: r2_score(y, net.predict(X), sample_weight=w),
}


@pytest.mark.parametrize("scoring", METRICS)
def test_compare_scores_with_weights_as_scikit_learn_does(scoring):
    X, y = make_table(60)
    w = np.random.default_rng(0).exponential(size=60)
    data = load_data((X, y + 0.0 if scoring == "r2" else y), regression=scoring == "r2", weights=w)
    plan = make_plan(data, NAMES, TrainSettings(epochs=5, lr=0.05, batch_size=16), scoring=scoring)
    planned = plan.runs(NAMES, range(1))
    results = train_runs([each.run for each in planned], plan.features.X, plan.features.y)
    for each, result in zip(planned, results, strict=True):
        net = restore_net(each.net, each.run, result, plan.features.X, plan.features.y)
        X_test, y_test = plan.features.X[each.test], plan.features.y[each.test]
        weights = w[each.test % 60]
        expected = METRICS[scoring](net, X_test, y_test, weights)
        score, outcomes = plan.scoring.score(each, result)
        assert score == pytest.approx(expected, rel=1e-5)
        assert outcomes is None
        assert score != pytest.approx(METRICS[scoring](net, X_test, y_test, None), rel=1e-6)


def test_compare_reports_weights_and_finishes_from_a_ledger(tmp_path):
    data = make_table(60)
    with Ledger(tmp_path / "ledger") as ledger:
        first = compare(NAMES, data, weights=INTEGERS, ledger=ledger, **QUICK)
        again = compare(NAMES, data, weights=INTEGERS, ledger=ledger, **QUICK)
        plain = compare(NAMES, data, ledger=ledger, **QUICK)
    assert again.results["key"].to_list() == first.results["key"].to_list()
    np.testing.assert_array_equal(read_scores(again), read_scores(first))
    assert not set(plain.results["key"]) & set(first.results["key"])
    sentence = "Losses and scores are weighted means over samples."
    assert sentence in first.sentences()
    assert sentence not in plain.sentences()


def test_compare_tests_weighted_accuracies_against_chance():
    X, y = make_table(90)
    noise = np.random.default_rng(0).normal(size=X.shape)
    options = {"weights": np.arange(90) % 2 + 1, **QUICK}
    assert compare(NAMES, (noise, y), **options).results["chance"].all()
    assert not compare(NAMES, (X, y), **{**options, "epochs": 20, "lr": 0.1}).results["chance"].any()


def test_compare_refuses_models_without_weights():
    options = {"max_epochs": 1, "verbose": 0, "criterion": nn.CrossEntropyLoss}
    scores = {"callbacks": [("f1", skorch.callbacks.EpochScoring("f1_macro"))]}
    problem = "the model cannot be trained with weights: "
    for further, reason in (
        ({"compile": True}, "compile is True; a fleet needs False"),
        (scores, "EpochScoring ignores them"),
    ):
        net = skorch.NeuralNetClassifier(Branching, **options, **further)
        with pytest.raises(UsageError, match=re.escape(f"{problem}{reason}; omit weights")):
            compare(["relu"], make_table(60), module=net, weights=INTEGERS, tune=None)
    net = skorch.NeuralNetClassifier(Branching, **options, criterion__weight=torch.ones(3))
    reason = "the criterion has class weights or an ignored class; multiply the weights of samples instead"
    with pytest.raises(UsageError, match=re.escape(f"{problem}{reason}; omit weights")):
        compare(["relu"], make_table(60), module=net, weights=INTEGERS, tune=None)


def test_compare_refuses_scorers_without_weights():
    def score(net, X, y):
        return 0.0

    message = "scoring 'score' cannot score the network: .*sample_weight"
    with pytest.raises(UsageError, match=message):
        compare(NAMES, make_table(60), weights=INTEGERS, scoring=score, **QUICK)


def test_train_uses_the_weights_of_a_dataset():
    data, settings = load_data(make_table(60), weights=INTEGERS), TrainSettings(epochs=2)
    losses = [
        run_training(plan_training(each, "relu", settings)).result.history[0]["train_loss"]
        for each in (data, dataclasses.replace(data, weights=None))
    ]
    assert losses[0] != losses[1]


# -- loading --------------------------------------------------------------------------------------------


def test_load_data_takes_a_column_of_weights_out_of_the_features():
    X = make_table(6)[0]
    frame = pd.DataFrame(X, columns=list("abcde")).assign(label=list("xyxyxy"))
    who = ["p", "p", "q", "q", "r", "s"]
    data = load_data(frame.assign(w=[1, 0, 2, 3, 0, 1], who=who), target="label", weights="w", groups="who")
    kept = [0, 2, 3, 5]
    plain = load_data(frame.iloc[kept], target="label")
    np.testing.assert_array_equal(data.X, plain.X)
    assert data.fingerprint == plain.fingerprint
    assert data.weights.tolist() == [1, 2, 3, 1]
    assert data.groups.tolist() == [0, 1, 1, 3]


def test_load_data_takes_an_array_of_weights():
    X, y = make_table(6)
    data = load_data((X, y), weights=[1, 0, 2, 3, 1, 1])
    assert data.weights.tolist() == [1, 2, 3, 1, 1]
    assert data.y.tolist() == [0, 2, 0, 1, 2]
    assert load_data((X, y), weights=[0, 0, 2, 2, 2, 2]).weights is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "weights has 2 values for 6 samples; pass one for each sample, or the name of a column"),
        ([1, 2, -1, 1, 1, 1], "weights must be finite and >= 0, got -1.0 for sample 2"),
        ([1, np.nan, 1, 1, 1, 1], "weights must be finite and >= 0, got nan for sample 1"),
        ([1, 1, 1, np.inf, 1, 1], "weights must be finite and >= 0, got inf for sample 3"),
        (np.zeros(6), "all weights are 0; at least one must be greater than 0"),
        (list("abcdef"), "weights must be numbers (ValueError: could not convert string to float: 'a')"),
    ],
)
def test_load_data_refuses_wrong_weights(weights, message):
    with pytest.raises(UsageError) as caught:
        load_data(make_table(6), weights=weights)
    assert str(caught.value) == f"arrays: {message}"


def test_load_data_refuses_weights_of_other_sources():
    data, (X, y) = make_table(6), make_table(6)
    with pytest.raises(UsageError, match="weights are not supported with a fixed test set"):
        load_data(data, test=(X + 100, y), weights=np.ones(6))
    with pytest.raises(UsageError, match="are not used with a Dataset"):
        load_data(load_data(data), weights=np.ones(6))
    frame = pd.DataFrame(data[0], columns=list("abcde")).assign(label=data[1], weight=1)
    with pytest.raises(UsageError, match=re.escape("got 'weigt' (did you mean 'weight'?)")):
        load_data(frame, target="label", weights="weigt")

"""The outcome of each test sample in the results of fleets."""

import numpy as np
import pytest
import torch
from torch import nn

from actlab.execution.scheduler import train_runs
from actlab.fleet.run import Run
from tests.fleet_runs import make_perceptron, run
from tests.fleets import FEATURES, Branching, make_sequential, make_table

TEST = np.array([63, 50, 3, 49, 62])


def predict(one: Run, weights, X):
    """Return the outputs of the trained network of a run."""
    network = one.build()
    network.load_state_dict(weights)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("net", [make_perceptron("relu"), Branching], ids=["layer by layer", "autograd"])
def test_train_runs_returns_whether_each_test_sample_is_correct(net):
    X, y = make_table(64)
    runs = [run(net, test=test, seed=seed) for seed, test in enumerate((TEST, TEST[::-1].copy()))]
    for one, result in zip(runs, train_runs(runs, X, y), strict=True):
        expected = predict(one, result.weights, X[one.test]).argmax(1) == y[one.test]
        assert result.outcomes.dtype == bool
        assert result.outcomes.tolist() == expected.tolist()
        assert result.test_acc == result.outcomes.mean()


def test_train_runs_returns_squared_errors_of_a_regression():
    X, labels = make_table(64)
    y = labels.astype(np.float32).reshape(-1, 1)
    one = run(lambda: make_sequential(outputs=1), test=TEST, loss=nn.MSELoss(), scoring="")
    (result,) = train_runs([one], X, y)
    expected = np.square(predict(one, result.weights, X[TEST]) - y[TEST])[:, 0]
    assert result.outcomes.dtype == np.float32
    assert result.outcomes == pytest.approx(expected, rel=1e-4)
    assert result.test_loss == pytest.approx(result.outcomes.mean(), rel=1e-6)


def test_train_runs_returns_outcomes_of_a_binary_classifier():
    X, labels = make_table(64)
    y = (labels > 0).astype(np.float32)
    net = lambda: nn.Linear(FEATURES, 1)  # noqa: E731
    one = run(net, test=TEST, loss=nn.BCEWithLogitsLoss(), scoring="binary")
    (result,) = train_runs([one], X, y)
    expected = (predict(one, result.weights, X[TEST])[:, 0] > 0) == (y[TEST] > 0.5)
    assert result.outcomes.tolist() == expected.tolist()


def test_train_runs_returns_no_outcomes_without_test_samples():
    X, y = make_table(64)
    (result,) = train_runs([run()], X, y)
    assert result.outcomes is None

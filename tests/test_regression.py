"""Regression: from the data file to the insights about the training."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Subset

from actlab import UsageError
from actlab.cli import main
from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.data import Dataset, load_data
from actlab.training.settings import TrainSettings
from actlab.training.train import history_frame, make_net, plan_training, train
from actlab.training.validation_split import find_holdout_problem, split_validation
from tests import fleets
from tests.command_line import in_empty_folder, list_names
from tests.command_line import refused as refused_in_one_line
from tests.datasets import THREE, refused, write_csv, write_npz

__all__ = ["in_empty_folder"]

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
PRICES = X @ [1.0, -2.0, 0.5, 0.0] + np.sin(3 * X[:, 0])
SHORT = TrainSettings(epochs=3, batch_size=16, hidden=(8, 4))
COLUMNS = ["epoch", "train_loss", "train_loss_best", "valid_loss", "valid_loss_best", "dur"]


def make_dataset(rows=60):
    y = (PRICES - PRICES.mean()) / PRICES.std(ddof=1)
    return Dataset(X[:rows], y[:rows, None].astype(np.float32), "made up", "0" * 16, ())


# ---- targets -----------------------------------------------------------------------------------------------


def test_load_data_diabetes_is_a_regression_by_default():
    from sklearn.datasets import load_diabetes

    data, (features, y) = load_data("diabetes"), load_diabetes(return_X_y=True)
    assert (data.is_regression, data.classes, data.num_classes, data.shape) == (True, (), 1, ())
    assert (data.X.shape, data.y.shape, data.y.dtype) == ((442, 10), (442, 1), np.float32)
    np.testing.assert_array_equal(data.y[:, 0], ((y - y.mean()) / y.std(ddof=1)).astype(np.float32))
    np.testing.assert_allclose(data.X, features / features.std(axis=0), rtol=1e-5, atol=1e-7)
    assert load_data("diabetes", regression=True).fingerprint == data.fingerprint
    assert repr(data).startswith("Dataset('diabetes', X=float32(442, 10), y=float32(442, 1), fingerprint='")
    torch.from_numpy(data.y)  # a read-only array would warn here


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.uint8, ">i4"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_load_data_standardizes_regression_targets_of_any_dtype(tmp_path, kind, shape):
    data = load_data(
        write_npz(tmp_path, X=THREE, y=np.array([1, 2, 6], kind).reshape(shape)), regression=True
    )
    np.testing.assert_array_equal(data.y, np.float32([[-2], [-1], [3]] / np.sqrt(7.0)))
    assert (data.y.dtype, data.classes, data.shape) == (np.float32, (), (1, 2, 2))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1e300, -1e300], [math.sqrt(0.5), -math.sqrt(0.5)]),
        ([1.7e308, -1.7e308, 0], [1, -1, 0]),
        ([5e-324, -5e-324, 0], [1, -1, 0]),
        ([1e300, 0, 1, -1], [1.5, -0.5, -0.5, -0.5]),
        ([1 + 2**-52, 1, 1, 1], [1.5, -0.5, -0.5, -0.5]),  # no float64 is their mean
        ([2**53 - 1, 2**53 - 2, 2**53 - 3], [1, 0, -1]),
    ],
)
def test_load_data_standardizes_regression_targets_of_any_scale(tmp_path, y, expected):
    data = load_data(write_npz(tmp_path, X=np.eye(len(y), 3), y=np.array(y)), regression=True)
    np.testing.assert_allclose(data.y[:, 0], expected, rtol=1e-7, atol=1e-15)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=20), st.floats(-1e300, 1e300))
def test_load_data_regression_targets_have_mean_0_and_deviation_1(tmp_path_factory, y, last):
    numbers = np.array([*y, last])
    path = write_npz(tmp_path_factory.mktemp("y"), X=np.eye(len(numbers)), y=numbers)
    if numbers.min() == numbers.max():
        refused("every target is", path, regression=True)
        return
    result = load_data(path, regression=True).y[:, 0].astype(np.float64)
    assert abs(result.mean()) < 1e-6
    assert result.std(ddof=1) == pytest.approx(1, abs=1e-6)
    assert (np.diff(result[np.argsort(numbers, kind="stable")]) >= 0).all()


def test_load_data_reads_a_regression_target_from_csv(tmp_path):
    path = write_csv(tmp_path, "price,a,b\n1,1,4\n2,2,6\n6,5,5\n")
    data, as_classes = load_data(path, target="price", regression=True), load_data(path, target="price")
    np.testing.assert_array_equal(data.y, np.float32([[-2], [-1], [3]] / np.sqrt(7.0)))
    np.testing.assert_array_equal(data.X, as_classes.X)
    assert (as_classes.classes, as_classes.y.tolist()) == ((1, 2, 6), [0, 1, 2])
    assert data.fingerprint != as_classes.fingerprint


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["5", "5", "5"], "flowers.csv: every target is 5.0; at least two different numbers are needed"),
        (["5"], "every target is 5.0; at least two different numbers"),
        (
            ["cheap", "2", "3"],
            "target column 'price' must be numeric, but contains 'cheap' in row 0 .counted from 0.",
        ),
        (["1", "2,5", "3"], "cannot read .*flowers.csv' as CSV"),
        (["1", '"2,500"', "3"], "target column 'price' must be numeric, but contains '2,500' in row 1"),
        (["1", "nan", "3"], "target column 'price' must be numeric, but contains 'nan' in row 1"),
        (["1", "", "3"], r"the target column 'price' is empty in 1 of 3 rows; the first is y\[1\]"),
        (["1", "1e999", "-inf"], r"2 of 3 targets are missing, NaN or infinite; the first is y\[1\] = inf"),
    ],
)
def test_load_data_rejects_invalid_regression_targets_in_csv(tmp_path, cells, message):
    rows = "".join(f"{number},{number * number},{cell}\n" for number, cell in enumerate(cells, 1))
    refused(message, write_csv(tmp_path, f"a,b,price\n{rows}"), target="price", regression=True)


def test_load_data_of_csv_without_regression_target_lists_the_columns(tmp_path):
    path = write_csv(tmp_path, "a,price\n1,2\n")
    refused(
        "no column 'prise' .did you mean 'price'..; the target column", path, target="prise", regression=True
    )
    refused("set target .--target COLUMN.; the target column is one of a, price", path, regression=True)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(3, 0.5), "arrays.npz: every target is 0.5; at least two different numbers are needed"),
        ([1, np.nan, np.inf], r"2 of 3 targets are missing, NaN or infinite; the first is y\[1\] = nan"),
        (["1", "2", "3"], "y has dtype <U1; it must be numeric"),
        ([1, 2j, 3], "y has dtype complex128; it must be numeric"),
        (
            np.zeros((3, 1, 1)),
            r"X has shape \(3, 2, 2\) and y \(3, 1, 1\); they must be \(n, d\) and \(n,\) or \(n, k\) ",
        ),
        (np.zeros((3, 0)), r"y \(3, 0\)"),
        ([1.0, 2.0], r"y \(2,\)"),
        (1.0, r"y \(\)"),
        (np.array([1, "a", None]), "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_load_data_rejects_invalid_regression_targets_in_npz(tmp_path, y, message):
    refused(message, write_npz(tmp_path, X=THREE, y=y), regression=True)


def test_load_data_rejects_a_regression_with_one_sample(tmp_path):
    refused("every target is 2.5", write_npz(tmp_path, X=[[1, 2]], y=[2.5]), regression=True)


def test_load_data_rejects_a_regression_target_beyond_float64(tmp_path):
    y = np.array([np.longdouble("1e4000"), 1, 2])
    refused(r"y\[0\] = inf", write_npz(tmp_path, X=THREE, y=y), regression=True)


@pytest.mark.parametrize("source", ["digits", "mnist", "fashion-mnist", "kmnist"])
def test_load_data_rejects_regression_for_classified_images(source):
    refused(f"regression is not used with '{source}', whose targets are classes", source, regression=True)


# ---- training ----------------------------------------------------------------------------------------------


def test_make_net_returns_a_regressor_with_squared_error():
    model = make_net(make_dataset(), "relu", TrainSettings())
    assert type(model) is skorch.NeuralNetRegressor
    assert (model.criterion, model.optimizer) == (nn.MSELoss, torch.optim.SGD)
    assert (model.lr, model.max_epochs, model.batch_size) == (0.01, 25, 128)
    assert model.get_params()["optimizer__momentum"] == 0.95
    module = model.initialize().module_
    assert [tuple(p.shape) for p in (module.fc1.weight, module.fc2.weight, module.fc3.weight)] == [
        (128, 4),
        (64, 128),
        (1, 64),
    ]
    assert [name for name, _ in module.named_children()] == [
        "fc1",
        "fc2",
        "fc3",
        "activation1",
        "activation2",
    ]


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
@pytest.mark.parametrize("activation", ["tanh", "prelu"])
def test_fleet_trains_a_regression_like_skorch(activation, layer_by_layer):
    data = make_dataset()
    fleets.assert_fleet_equals_skorch(
        make_net(data, activation, SHORT), data.X, data.y, layer_by_layer=layer_by_layer
    )


def test_train_trains_a_regression_like_skorch():
    data = make_dataset()
    model = train(data, "tanh", SHORT)
    torch.manual_seed(SHORT.seed)
    expected_network = make_net(data, "tanh", SHORT).fit(data.X, data.y)
    for name, weight in expected_network.module_.state_dict().items():
        torch.testing.assert_close(model.module_.state_dict()[name], weight)
    ours, theirs = history_frame(model), history_frame(expected_network)
    pd.testing.assert_frame_equal(ours.drop(columns="dur"), theirs.drop(columns="dur"), rtol=1e-5)
    assert list(ours) == COLUMNS


def test_train_validation_loss_is_the_squared_error_of_the_first_fifth():
    data = make_dataset()
    model = train(data, "tanh", SHORT)
    errors = model.predict(data.X[:12]) - data.y[:12]
    assert np.square(errors).mean() == pytest.approx(model.history[-1]["valid_loss"], rel=1e-5)


def test_split_validation_of_a_regression_keeps_the_order_of_samples():
    data = make_dataset()
    rows, valid = split_validation(make_net(data, "relu", SHORT), np.arange(7, 60, 2), data.y, 0, 0)
    assert valid.tolist() == [7, 9, 11, 13, 15, 17]
    assert rows.tolist() == [*range(19, 60, 2)]


@pytest.mark.parametrize(("seeds", "is_random"), [(1, False), (2, True)])
def test_comparison_plan_holds_out_random_samples_of_a_regression_with_shuffled_folds(seeds, is_random):
    x = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]  # sorted, as in many files
    data = load_data((x, x[:, 0] ** 2), regression=True)
    config = {"activations": ["relu", "tanh"], "dataset": data, "settings": SHORT}
    plan, same = (ComparisonPlan(ComparisonConfig(**config, seeds=seeds)) for _ in range(2))
    for fold in range(3):
        run, other = (plan.run(name, 0, fold, 0).run for name in ("relu", "tanh"))
        pool = np.sort(np.append(run.rows, run.valid))
        assert len(run.valid) == len(pool) / 5 == 8
        assert (run.valid.tolist() != pool[:8].tolist()) == is_random
        assert run.rows.tolist() == np.setdiff1d(pool, run.valid).tolist()
        for twin in (other, same.run("relu", 0, fold, 0).run):
            assert twin.valid.tolist() == run.valid.tolist()


def test_comparison_plan_leaves_other_validation_splits_alone():
    class FirstHalf:
        stratified = False

        def __call__(self, dataset, y=None, groups=None):
            half = len(dataset) // 2
            return Subset(dataset, range(half, len(dataset))), Subset(dataset, range(half))

    data = load_data((X, PRICES), regression=True)
    model = make_net(data, "relu", SHORT).set_params(train_split=FirstHalf())
    config = ComparisonConfig(activations=["relu"], dataset=data, module=model, seeds=2, tune=None)
    planned = ComparisonPlan(config).run("relu", 0, 0, 0)
    assert isinstance(planned.net.train_split, FirstHalf)


def test_train_learns_a_regression():
    history = history_frame(train(make_dataset(), "tanh", TrainSettings(epochs=60, batch_size=8)))
    assert history["valid_loss"].min() < 0.2  # predicting the mean gives 1


def test_train_returns_a_regressor_that_can_continue_training():
    data = make_dataset()
    model = train(data, "relu", SHORT)
    assert model.predict(data.X).shape == (60, 1)
    model.partial_fit(data.X, data.y)
    assert len(model.history) == 6
    assert pickle.loads(pickle.dumps(model)).history == model.history  # noqa: S301 - bytes of this line


def test_train_prints_no_accuracy_of_a_regression():
    lines = []
    train(make_dataset(), "relu", SHORT, sink=lines.append)
    assert lines[0].split() == ["epoch", "train_loss", "valid_loss", "dur"]
    assert len(lines) == 2 + 3


class _Mean(nn.Module):
    def forward(self, x):
        return x.mean()


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("relu", ""),
        ("reluu", "did you mean 'relu'"),
        (_Mean(), "the network with activation '_Mean' fails on two samples of made up: "),
    ],
)
def test_plan_training_tests_the_activation_with_one_output(activation, message):
    if not message:
        plan_training(make_dataset(), activation, SHORT)
        return
    with pytest.raises(UsageError, match=message):
        plan_training(make_dataset(), activation, SHORT)


@pytest.mark.parametrize(
    ("rows", "folds", "left"),
    [(5, 1, None), (4, 1, 4), (8, 3, None), (7, 3, 4), (7, 4, None), (6, 2, 3), (2, 1, 2)],
)
def test_find_holdout_problem_reports_too_few_samples(rows, folds, left):
    few = f"the training set has only {left} samples"
    message = f"one sample in 5 is held out for validation, but {few}: add data" if left else ""
    assert find_holdout_problem(np.zeros((rows, 1), np.float32), folds) == message


def test_train_needs_five_samples_for_a_regression():
    assert len(history_frame(train(make_dataset(5), "relu", SHORT))) == 3
    with pytest.raises(
        UsageError, match=r"^one sample in 5 .* but the training set has only 4 samples: add data$"
    ):
        plan_training(make_dataset(4), "relu", SHORT)


# ---- the command line --------------------------------------------------------------------------------------


def test_train_verb_writes_the_history_and_insights_of_a_regression(tmp_path, capsys):
    assert main(["train", "--data", "diabetes", "--epochs", "3", "--out", "run"]) == 0
    message = " ".join(capsys.readouterr().out.split())
    assert message.startswith("Best epoch: 3 of 3, with validation loss 0.")
    assert "Validation loss was still improving: the last epoch gained 0.0" in message
    assert "ccuracy" not in message
    files = ["hiplot.html", "history.csv", "history.json", "report.html", "training.json"]
    assert list_names(tmp_path / "run") == files
    frame = pd.read_csv(tmp_path / "run/history.csv")
    assert list(frame) == COLUMNS
    rows = json.loads((tmp_path / "run/history.json").read_text(), parse_constant=pytest.fail)
    pd.testing.assert_frame_equal(pd.DataFrame(rows), frame, check_exact=True)
    assert '"valid_loss"' in (tmp_path / "run/hiplot.html").read_text()


def test_train_verb_regression_option_reads_a_csv_target(tmp_path, capsys):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"]).assign(price=1e6 + 1e5 * PRICES)
    frame.to_csv("t.csv", index=False)
    call = ["train", "--data", "t.csv", "--target", "price", "--epochs", "2"]
    assert main([*call, "--regression", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert [list(row) for row in output["history"]] == [COLUMNS] * 2
    assert output["insights"][0].startswith("Best epoch: 2 of 2, with validation loss ")
    assert output["data"] == "t.csv"
    assert "the largest class has only 1 samples" in refused_in_one_line(
        capsys, *call
    )  # without --regression there are sixty classes


def test_train_verb_reports_a_diverged_regression(capsys):
    assert main(["train", "--data", "diabetes", "--epochs", "3", "--lr", "1e30"]) == 1
    assert capsys.readouterr().out.startswith("Training diverged at epoch 1 of 1: the training loss is ")


def test_train_verb_suggests_the_regression_option(tmp_path, capsys):
    write_npz(tmp_path, X=X, y=PRICES)
    assert "(--regression)" in refused_in_one_line(capsys, "train", "--data", "arrays.npz")
    assert main(["train", "--data", "arrays.npz", "--regression", "--epochs", "1", "--quiet"]) == 0


def test_train_verb_rejects_regression_for_classes(tmp_path, capsys):
    assert "'digits', whose targets are classes" in refused_in_one_line(capsys, "train", "--regression")
    assert list_names(tmp_path) == []


def test_train_help_describes_the_regression_option(capsys):
    assert main(["train", "--help"]) == 0
    message = " ".join(capsys.readouterr().out.split())
    assert "--regression predict a number instead of a class" in message

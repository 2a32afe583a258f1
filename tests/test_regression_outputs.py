"""Regression with several outputs: targets (n, k), from the file to the verdicts."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

import actlab
from actlab import UsageError
from actlab.cli import main
from actlab.data import Dataset, load_data
from actlab.training.settings import TrainSettings
from actlab.training.train import make_net, train
from tests import fleets
from tests.command_line import in_empty_folder
from tests.command_line import refused as refused_in_one_line
from tests.datasets import refused, write_npz

__all__ = ["in_empty_folder"]

X = np.random.default_rng(0).normal(size=(60, 4))
Y = np.column_stack([1000 * X[:, 0], X[:, 1] - X[:, 2], np.sin(3 * X[:, 3])])
UNITS = "Errors are in units of the standardized target"
SHORT = TrainSettings(epochs=3, batch_size=16, hidden=(8, 4))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_load_data_standardizes_each_target(tmp_path, kind):
    y = (100 * Y).astype(kind)
    data = load_data(write_npz(tmp_path, X=X, y=y), regression=True)
    exact = y.astype(np.float64)
    np.testing.assert_allclose(data.y, (exact - exact.mean(0)) / exact.std(0, ddof=1), rtol=1e-5, atol=1e-6)
    assert (data.y.dtype, data.y.flags.c_contiguous) == (np.float32, True)
    assert (data.classes, data.num_classes, data.is_regression) == ((), 3, True)
    assert ", y=float32(60, 3), fingerprint=" in repr(data)


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300])
def test_load_data_records_the_standard_deviations_of_targets(scale):
    y = scale * Y
    data = load_data((X, y), regression=True)
    np.testing.assert_allclose(data.target_stds, scale * Y.std(0, ddof=1), rtol=1e-12)
    table = pd.DataFrame({"a": X[:, 0], "spend": y[:, 0], "visits": y[:, 1]})
    named = load_data(table, target=["spend", "visits"], regression=True)
    assert (named.target_names, named.target_stds) == (("spend", "visits"), data.target_stds[:2])
    assert load_data("diabetes").target_names == ("target",)
    assert load_data("iris").target_stds == ()
    assert load_data((X, [sys.float_info.max, -sys.float_info.max] * 30), regression=True).target_stds[0] > 1


@pytest.mark.parametrize(
    ("scoring", "target", "sentences"),
    [
        ("neg_mean_absolute_error", "spend", [f"{UNITS}: an error of 1 is 26.49 in spend."]),
        ("neg_mean_squared_error", "spend", [f"{UNITS}: an error of 1 is 26.49 in spend."]),
        (
            "neg_median_absolute_error",
            ["spend", "visits"],
            [f"{UNITS}: an error of 1 is 26.49 in spend and 2 in visits."],
        ),
        ("neg_mean_absolute_percentage_error", "spend", []),
        ("explained_variance", "spend", []),
        ("r2", "spend", []),
        (None, "spend", []),
    ],
)
def test_compare_states_the_units_of_errors(scoring, target, sentences):
    spend, visits = ((Y[:, i] - Y[:, i].mean()) / Y[:, i].std(ddof=1) for i in (1, 2))
    table = pd.DataFrame({"a": X[:, 1], "b": X[:, 2], "spend": 26.49 * spend + 5, "visits": 2 * visits})
    data = load_data(table, target=target, regression=True)
    result = actlab.compare(["relu", "tanh"], data, scoring=scoring, epochs=1, tune=None)
    assert [one for one in result.sentences() if "units" in one] == sentences


def test_compare_states_the_units_of_errors_of_data_without_names():
    options = {"scoring": "neg_mean_absolute_error", "epochs": 1, "tune": None}
    data = load_data((X, 3 * Y[:, 1] / Y[:, 1].std(ddof=1)), regression=True)
    assert f"{UNITS}: an error of 1 is 3." in actlab.compare(["relu"], data, **options).sentences()
    unknown = Dataset(data.X, data.y, "own", "0" * 16, ())
    assert f"{UNITS}." in actlab.compare(["relu"], unknown, **options).sentences()


def test_load_data_standardizes_a_target_alone_as_with_others():
    together = load_data((X, Y), regression=True).y
    for i in range(3):
        np.testing.assert_array_equal(load_data((X, Y[:, i]), regression=True).y[:, 0], together[:, i])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            (slice(None), 1, 5.0),
            "arrays: every target in y.:, 1. is 5.0; at least two different numbers are needed",
        ),
        (
            (7, 2, np.nan),
            r"arrays: 1 of 180 targets are missing, NaN or infinite; the first is y\[7, 2\] = nan",
        ),
        ((9, 0, -np.inf), r"the first is y\[9, 0\] = -inf"),
    ],
)
def test_load_data_refuses_invalid_targets_of_several_outputs(change, message):
    y = Y.copy()
    y[change[0], change[1]] = change[2]
    refused(message, (X, y), regression=True)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            np.eye(3)[np.arange(60) % 3].astype(int),
            r"y \(60, 3\); .*; convert one-hot labels with y.argmax\(1\)$",
        ),
        (
            np.arange(180).reshape(60, 3),
            r"; several labels must be 0 or 1; to predict several numbers, set regression=True "
            r"\(--regression\)$",
        ),
    ],
)
def test_load_data_explains_several_labels(y, message):
    refused(f"arrays: X has shape .60, 4. and {message}" if message[0] == "y" else message, (X, y))


def test_make_net_has_an_output_for_each_target():
    model = make_net(load_data((X, Y), regression=True), "relu", SHORT)
    assert (model.criterion, model.initialize().module_.fc3.out_features) == (nn.MSELoss, 3)


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
def test_fleet_trains_several_outputs_like_skorch(layer_by_layer):
    data = load_data((X, Y), regression=True)
    fleets.assert_fleet_equals_skorch(
        make_net(data, "tanh", SHORT), data.X, data.y, layer_by_layer=layer_by_layer
    )


def test_train_predicts_every_target():
    data = load_data((X, Y), regression=True, scale="common")
    model = train(data, "tanh", SHORT)
    assert model.predict(data.X).shape == (60, 3)
    errors = model.predict(data.X[:12]) - data.y[:12]
    assert np.square(errors).mean() == pytest.approx(model.history[-1]["valid_loss"], rel=1e-5)


class Plain(nn.Module):
    def __init__(self, activation, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, num_classes))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("module", [None, Plain])
def test_compare_scores_the_mean_r2_of_all_outputs(module):
    data = load_data((X, Y), regression=True, scale="common")
    comparison = actlab.compare(
        ["relu", "tanh"], data, epochs=30, folds=2, tune=None, batch_size=8, module=module
    )

    def score(net, features, targets):
        return r2_score(targets, net.predict(features), multioutput="uniform_average")

    again = actlab.compare(
        ["relu", "tanh"], data, epochs=30, folds=2, tune=None, batch_size=8, module=module, scoring=score
    )
    np.testing.assert_allclose(comparison.results["score"], again.results["score"], rtol=1e-6)
    assert comparison.results["failure"].eq("").all()
    assert comparison.results["score"].min() > 0.3


def test_compare_finds_several_outputs_at_chance_level():
    noise = np.random.default_rng(1).normal(size=(60, 2))
    comparison = actlab.compare(
        ["relu", "tanh"], load_data((X, noise), regression=True), epochs=3, folds=2, tune=None
    )
    assert comparison.ranking["rank"].isna().all()
    assert any("chance level" in sentence for sentence in comparison.sentences())


def test_compare_verb_compares_several_outputs(tmp_path, capsys):
    write_npz(tmp_path, X=X, y=Y)
    call = "compare relu tanh --no-tune --epochs 2 --folds 2 --json --data arrays.npz --regression"
    assert main(call.split()) == 0
    output = json.loads(capsys.readouterr().out)
    assert sorted(row["activation"] for row in output["ranking"]) == ["relu", "tanh"]
    assert main("train --epochs 2 --quiet --data arrays.npz --regression".split()) == 0


def test_dataset_refuses_targets_without_a_column_for_each_output():
    with pytest.raises(UsageError, match=r"y \(60,\); y must be \(n, k\), a column for each output"):
        Dataset(X.astype(np.float32), np.zeros(60, np.float32), "direct", "0" * 16, ())


def test_user_net_trains_several_outputs():
    import skorch

    data = load_data((X, Y), regression=True)
    net = skorch.NeuralNetRegressor(
        Plain, module__num_classes=3, module__activation=nn.ReLU(), max_epochs=2, verbose=0
    )
    comparison = actlab.compare(["relu", "tanh"], data, module=net, folds=2, tune=None)
    assert comparison.results["failure"].eq("").all()
    assert torch.isfinite(torch.tensor(comparison.results["score"].to_numpy())).all()


# ---- tables ------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(X, columns=list("abcd")).assign(height=Y[:, 0], width=Y[:, 1])


def test_load_data_takes_several_target_columns(tmp_path):
    expected = load_data((FRAME[list("abcd")], Y[:, :2]), regression=True)
    FRAME.to_csv(path := tmp_path / "table.csv", index=False, sep=";")
    for source, target in ((FRAME, ["height", "width"]), (path, ("height", "width"))):
        data = load_data(source, target=target, regression=True)
        assert (data.y.shape, data.num_features) == ((60, 2), 4)
        np.testing.assert_allclose(data.y, expected.y, rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "regression", "message"),
    [
        (
            ["height", "width"],
            False,
            "DataFrame: 2 targets need regression=True .--regression., or labels 0 and 1 in each column; "
            "or set one target$",
        ),
        (
            ["height", "with"],
            True,
            "DataFrame: no column 'with' .did you mean 'width'..; the target column is one of",
        ),
        (["a", "b", "c", "d", "height", "width"], True, r"DataFrame: X has shape \(60, 0\)"),
    ],
)
def test_load_data_refuses_target_columns(target, regression, message):
    refused(message, FRAME, target=target, regression=regression)


def test_load_data_takes_a_list_of_labels_as_labels():
    labels = ["a", "b"] * 30
    assert load_data((FRAME, labels)).classes == ("a", "b")
    assert Dataset.from_frame(FRAME, labels).classes == ("a", "b")


def test_train_verb_takes_several_targets(tmp_path, capsys):
    FRAME.to_csv("table.csv", index=False)
    call = "train --data table.csv --target height --target width --epochs 1 --out run".split()
    assert main([*call, "--regression"]) == 0
    assert "2 targets need" not in capsys.readouterr().err
    page = (tmp_path / "run/report.html").read_text()
    assert "--data table.csv --target height --target width --regression --epochs 1" in page
    assert "2 targets need regression=True (--regression)" in refused_in_one_line(capsys, *call)

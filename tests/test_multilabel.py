"""Several labels per sample: targets (n, k) of 0 and 1, from the file to the verdicts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import accuracy_score, f1_score, hamming_loss, make_scorer, roc_auc_score
from sklearn.model_selection import KFold
from torch import nn

import actlab
from actlab import UsageError
from actlab.cli import main
from actlab.comparison.chance_level import score_chance
from actlab.comparison.scoring import LABELS
from actlab.data import Dataset, load_data
from actlab.models.random_streams import WEIGHTS, seeded_torch
from actlab.report.html.reproduce import format_call
from actlab.training.settings import TrainSettings
from actlab.training.train import make_net, train
from tests import fleets
from tests.command_line import in_empty_folder
from tests.command_line import refused as refused_in_one_line
from tests.datasets import refused, write_npz

__all__ = ["in_empty_folder"]

X, Y = make_multilabel_classification(120, n_features=8, n_classes=4, random_state=0)
SHORT = TrainSettings(epochs=3, batch_size=16, hidden=(8, 4))
FAST = {"folds": 2, "tune": None, "epochs": 12, "batch_size": 8}


class Plain(nn.Module):
    def __init__(self, activation, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), activation, nn.Linear(16, num_classes))

    def forward(self, x):
        return self.layers(x)


# ---- data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert", [np.array, np.ndarray.tolist, lambda y: y > 0, lambda y: y.astype(float), torch.tensor]
)
def test_load_data_takes_several_labels(convert):
    data = load_data((X, convert(Y)))
    assert (data.is_multilabel, data.is_regression, data.num_classes) == (True, False, 4)
    assert (data.y.dtype, data.classes) == (np.float32, (0, 1, 2, 3))
    np.testing.assert_array_equal(data.y, Y)
    assert ", num_labels=4, fingerprint=" in repr(data)
    assert load_data((X, Y), regression=True).is_regression


def test_load_data_reads_several_labels_of_files(tmp_path):
    np.testing.assert_array_equal(load_data(write_npz(tmp_path, X=X, y=Y)).y, Y)


def test_load_data_refuses_one_hot_labels():
    refused(r"convert one-hot labels with y.argmax\(1\)$", (X, np.eye(4, dtype=int)[Y.sum(1) % 4]))


def test_load_data_refuses_labels_with_one_value():
    same = np.column_stack([Y, np.zeros(120, int), np.ones(120, int)])
    refused(
        "^arrays: for every sample, label 4 is 0, label 5 is 1; a label needs samples with 0 and with 1; "
        "remove such labels$",
        (X, same),
    )
    frame = pd.DataFrame(X).assign(a=Y[:, 0], b=0)
    refused("^DataFrame: for every sample, label 'b' is 0; ", frame, target=["a", "b"])


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [
        (Y, ("a", "b", "c"), r"several labels must be 0 and 1 of shape \(n, 3\)"),
        (2 * Y, ("a", "b", "c", "d"), r"several labels must be 0 and 1 of shape \(n, 4\)"),
    ],
)
def test_dataset_refuses_wrong_labels(y, classes, message):
    with pytest.raises(UsageError, match=message):
        Dataset(X.astype(np.float32), y.astype(np.float32), "direct", "0" * 16, classes)


def test_load_data_refuses_a_label_that_only_the_test_set_has():
    rare = np.column_stack([Y[:, :3], np.arange(120) >= 100])
    refused(
        "labels that only the test set has: 3; no model can learn them",
        (X[:100], rare[:100]),
        test=(X[100:], rare[100:]),
    )


# ---- tables ------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(X, columns=list("abcdefgh")).assign(wet=Y[:, 0], warm=Y[:, 1] > 0)


def test_load_data_takes_several_label_columns(tmp_path):
    FRAME.to_csv(path := tmp_path / "table.csv", index=False)
    for source in (FRAME, path):
        data = load_data(source, target=["wet", "warm"])
        assert (data.classes, data.num_features) == (("wet", "warm"), 8)
        np.testing.assert_array_equal(data.y, Y[:, :2])
    arrays = load_data((FRAME[list("abcdefgh")], Y))
    assert (arrays.is_multilabel, arrays.classes) == (True, (0, 1, 2, 3))


def test_load_data_names_labels_of_integer_columns_and_pixels():
    tokens = pd.DataFrame({"p": range(120), "q": range(1, 121), "wet": Y[:, 0], "warm": Y[:, 1]})
    assert load_data(tokens, target=["wet", "warm"], scale="none").classes == ("wet", "warm")
    pixels = pd.DataFrame(X[:, :4], columns=[f"pixel{i}" for i in range(4)]).assign(wet=Y[:, 0], warm=Y[:, 1])
    data = load_data(pixels, target=["wet", "warm"])
    assert (data.classes, data.shape) == (("wet", "warm"), (1, 2, 2))


def test_load_data_takes_label_columns_with_one_label_in_each_row():
    data = load_data(pd.DataFrame(X).assign(a=Y[:, 0], b=1 - Y[:, 0]), target=["a", "b"])
    assert (data.is_multilabel, data.classes) == (True, ("a", "b"))


def test_compare_verb_takes_several_label_columns(tmp_path, capsys):
    FRAME.to_csv("table.csv", index=False)
    call = "compare relu tanh --no-tune --epochs 2 --folds 2 --json --data table.csv".split()
    assert main([*call, "--target", "wet", "--target", "warm", "--out", "run"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert sorted(row["activation"] for row in output["ranking"]) == ["relu", "tanh"]
    assert LABELS in (tmp_path / "run/report.html").read_text()
    labels_and_number = refused_in_one_line(capsys, *call, "--target", "wet", "--target", "a")
    assert "2 targets need regression=True (--regression), or labels 0 and 1 in each" in labels_and_number


def test_train_verb_trains_several_labels(tmp_path, capsys):
    write_npz(tmp_path, X=X, y=Y)
    assert main("train --epochs 2 --quiet --data arrays.npz --out run".split()) == 0
    assert "ccuracy" not in capsys.readouterr().out
    page = (tmp_path / "run/report.html").read_text()
    assert "The history has no validation accuracy." in " ".join(page.split())


# ---- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])
def test_fleet_trains_several_labels_like_skorch(layer_by_layer):
    data = load_data((X, Y))
    fleets.assert_fleet_equals_skorch(
        make_net(data, "tanh", SHORT), data.X, data.y, layer_by_layer=layer_by_layer
    )


def test_train_predicts_the_probability_of_each_label():
    data = load_data((X, Y), scale="common")
    model = train(data, "tanh", SHORT)
    assert model.predict_proba(data.X)[:, 1].shape == (120, 4)
    assert "valid_acc" not in model.history[-1]


def train_by_hand(net, features, targets, rows, lr, momentum, epochs, batch_size):
    """Train a network with a plain loop of torch; return it."""
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum)
    for _ in range(epochs):
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(net(features[batch]), targets[batch])
            loss.backward()
            optimizer.step()
    return net


def test_compare_scores_as_a_loop_of_torch():
    data = load_data((X, Y), scale="common")
    comparison = actlab.compare(["relu", "tanh"], data, **FAST, rope=0.01)
    assert (comparison.about["metric"], comparison.about["split"]) == (LABELS, "random")
    features, targets = torch.from_numpy(data.X), torch.from_numpy(data.y)
    results = comparison.results.set_index(["activation", "fold"])
    for name in ("relu", "tanh"):
        for fold, (rows, test) in enumerate(KFold(2).split(X)):
            with seeded_torch(0, fold, WEIGHTS, "cpu"):
                net = actlab.NeuralNet(activation=name, num_features=8, num_classes=4)
            kept = rows[len(rows) // 5 :]  # the first fifth is held out
            train_by_hand(net, features, targets, kept, 0.01, 0.95, 12, 8)
            with torch.no_grad():
                share = ((net(features[test]) > 0) == (targets[test] > 0)).double().mean().item()
            assert results.loc[(name, fold + 1), "score"] == pytest.approx(share, abs=1e-12)
            assert np.isnan(results.loc[(name, fold + 1), "accuracy"])
    assert comparison.results["score"].nunique() == 4


def hamming_accuracy(net, features, targets):
    return 1 - hamming_loss(targets, net.predict_proba(features) > 0.5)


@pytest.mark.parametrize("module", [None, Plain])
def test_compare_has_equal_scores_in_a_fleet_and_of_a_scorer(module):
    data = load_data((X, Y), scale="common")
    fused, scored = (
        actlab.compare(["relu", "tanh"], data, **FAST, module=module, scoring=scoring)
        for scoring in (None, hamming_accuracy)
    )
    assert fused.results["how"].ne("skorch").all()
    np.testing.assert_allclose(fused.results["score"], scored.results["score"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("scoring", "name", "metric"),
    [
        ("f1_macro", "f1_macro", lambda y, p: f1_score(y, p > 0.5, average="macro")),
        ("roc_auc", "roc_auc", roc_auc_score),
        ("accuracy", "subset accuracy", lambda y, p: accuracy_score(y, p > 0.5)),
        (make_scorer(f1_score, average="micro"), None, lambda y, p: f1_score(y, p > 0.5, average="micro")),
    ],
)
def test_compare_takes_other_scorers_of_several_labels(scoring, name, metric):
    def score(net, features, targets):
        return metric(targets, net.predict_proba(features))

    data = load_data((X, Y), scale="common")
    named, own = (actlab.compare(["relu", "tanh"], data, **FAST, scoring=one) for one in (scoring, score))
    assert name in (None, named.about["metric"])
    call = format_call(["relu", "tanh"], named.about)
    assert not isinstance(scoring, str) or f"scoring={scoring!r}" in call
    np.testing.assert_allclose(named.results["score"], own.results["score"], rtol=1e-6)


def test_compare_weighs_samples_with_several_labels():
    weights = np.where(Y[:, 0] > 0, 3.0, 0.5)

    def score(net, features, targets, sample_weight):
        return 1 - hamming_loss(targets, net.predict_proba(features) > 0.5, sample_weight=sample_weight)

    options = {**FAST, "scale": "common", "weights": weights}
    fused, scored = (
        actlab.compare(["relu", "tanh"], (X, Y), **options, scoring=one) for one in (None, score)
    )
    assert fused.results["failure"].eq("").all()
    np.testing.assert_allclose(fused.results["score"], scored.results["score"], rtol=0, atol=1e-9)


def test_compare_has_equal_scores_with_several_jobs():
    one, two = (actlab.compare(["relu", "tanh"], (X, Y), **FAST, seeds=2, jobs=jobs) for jobs in (1, 2))
    pd.testing.assert_series_equal(one.results["score"], two.results["score"])


def test_compare_finds_several_labels_at_chance_level():
    noise = np.random.default_rng(1).random((120, 3)) < [0.1, 0.5, 0.9]
    comparison = actlab.compare(["relu", "tanh"], (X, noise), **{**FAST, "epochs": 1})
    assert comparison.ranking["rank"].isna().all()
    assert any("chance level" in sentence for sentence in comparison.sentences())
    learned = actlab.compare(["relu", "tanh"], (X, Y), **FAST)
    assert not learned.results["chance"].any()


def test_score_chance_has_the_score_of_each_labels_majority():
    y = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [1, 1, 1]], np.float32)
    scores = score_chance(
        lambda net, features, targets: (net.predict(features) == targets).mean(), X[:4], y, False, 0
    )
    assert scores is not None
    np.testing.assert_allclose(scores.constants, [9 / 12, 5 / 12, 7 / 12])
    assert (scores.perfect, scores.guesses.shape) == (1.0, (99,))


def test_compare_scores_several_labels_on_a_fixed_test_set():
    data = load_data((X[:80], Y[:80]), test=(X[80:], Y[80:]), scale="common")
    options = {"tune": None, "epochs": 12, "batch_size": 8, "seeds": 1}
    fused = actlab.compare(["relu", "tanh"], data, **options)
    assert (fused.about["test"]["has_outcomes"], fused.about["test"]["missing_labels"]) == (True, [])
    net = skorch.NeuralNet(
        Plain,
        nn.MultiLabelSoftMarginLoss,
        module__num_classes=4,
        module__activation=nn.ReLU(),
        max_epochs=3,
        lr=1.0,
    )
    alone = actlab.compare(["relu", "tanh"], data, module=net, tune=None, seeds=1)
    assert alone.results["how"].eq("skorch").all()
    for comparison in (fused, alone):
        first, second = comparison.results.set_index("activation")["score"][["relu", "tanh"]]
        row = comparison.verdicts.iloc[0]
        sign = 1 if row["a"] == "relu" else -1
        assert row["difference"] == pytest.approx(sign * (first - second), abs=1e-12)


# ---- models of users ---------------------------------------------------------------------------------------


class ClassifierOfLabels(skorch.NeuralNetClassifier):
    pass


@pytest.mark.parametrize(
    ("kind", "criterion"),
    [
        (skorch.NeuralNet, nn.BCEWithLogitsLoss),
        (skorch.NeuralNet, nn.MultiLabelSoftMarginLoss),  # no fleet supports it
        (ClassifierOfLabels, nn.BCEWithLogitsLoss),
    ],
)
def test_compare_trains_nets_of_users_with_several_labels(kind, criterion):
    net = kind(
        Plain,
        criterion=criterion,
        module__num_classes=4,
        module__activation=nn.ReLU(),
        max_epochs=12,
        batch_size=8,
        lr=0.5,
        train_split=skorch.dataset.ValidSplit(5),
        verbose=0,
    )

    def score(net, features, targets):
        with torch.no_grad():
            outputs = net.module_(torch.from_numpy(features)).numpy()
        return 1 - hamming_loss(targets, outputs > 0)

    data = load_data((X, Y), scale="common")
    own, default = (
        actlab.compare(["relu", "tanh"], data, module=net, folds=2, tune=None, scoring=scoring)
        for scoring in (score, None)
    )
    assert default.about["metric"] == LABELS
    np.testing.assert_allclose(default.results["score"], own.results["score"], rtol=0, atol=1e-12)
    assert default.results["score"].min() > 0.6


@pytest.mark.parametrize("kind", [skorch.NeuralNetClassifier, skorch.NeuralNetRegressor])
def test_compare_refuses_nets_that_cannot_predict_several_labels(kind):
    net = kind(Plain, module__num_classes=4, module__activation=nn.ReLU())
    message = (
        f"^module is a {kind.__name__}, but a sample of arrays has several labels; "
        "use a NeuralNet with criterion=torch.nn.BCEWithLogitsLoss$"
    )
    with pytest.raises(UsageError, match=message):
        actlab.compare(["relu", "tanh"], (X, Y), module=net, tune=None)


def test_compare_refuses_stratified_folds_of_several_labels():
    with pytest.raises(
        UsageError, match="needs classes, but a sample has several labels; set split='random'"
    ):
        actlab.compare(["relu", "tanh"], (X, Y), split="stratified")


@pytest.mark.parametrize("options", [{"split": "time"}, {"groups": np.arange(120) // 10}])
def test_compare_splits_several_labels_over_time_and_by_group(options):
    groups = options.pop("groups", None)
    comparison = actlab.compare(["relu", "tanh"], (X, Y), **FAST, groups=groups, **options)
    assert comparison.results["failure"].eq("").all()


def test_compare_tunes_several_labels_by_the_loss():
    comparison = actlab.compare(["relu", "tanh"], (X, Y), epochs=12, folds=2, batch_size=8)
    assert comparison.results["failure"].eq("").all()
    assert not comparison.results["chance"].any()

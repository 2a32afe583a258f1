"""Comparisons of scikit-learn pipelines that end in a skorch model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from actlab import UsageError, compare, load_data
from actlab.cli import main
from actlab.models.random_streams import WEIGHTS, derive_seed
from tests.comparison_plans import make_plan


class Net(nn.Module):
    def __init__(self, width=4, activation=nn.ReLU):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 8), activation(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


def make_net(**options):
    settings = {"max_epochs": 3, "lr": 0.1, "batch_size": 16, "verbose": 0}
    return skorch.NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, **settings, **options)


def make_table(missing=False):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = (rng.normal(size=(90, 4)) + 2 * np.eye(3, 4)[y]) * [1, 10, 100, 1000]
    if missing:
        X[::7, 1] = np.nan
    return X, y


def test_compare_fits_the_transformers_of_a_pipeline_on_each_training_set():
    X, y = make_table()
    pipeline = make_pipeline(StandardScaler(), make_net())
    results = compare(["relu", "tanh"], (X, y), module=pipeline, tune=None).results
    expected = []
    for fold, (rows, test) in enumerate(StratifiedKFold(3).split(X, y)):
        scaler = StandardScaler().fit(X[rows])
        torch.manual_seed(derive_seed(0, fold, WEIGHTS))
        net = make_net().fit(scaler.transform(X[rows]).astype(np.float32), y[rows])
        expected.append(net.score(scaler.transform(X[test]).astype(np.float32), y[test]))
    assert results["score"][:3].to_list() == pytest.approx(expected, abs=0.04)
    assert set(results["how"]) == {"layer by layer"}
    assert set(results["failure"]) == {""}


def test_compare_gives_transformers_the_features_before_scaling():
    X, y = make_table(missing=True)
    steps = SimpleImputer(strategy="median"), SelectKBest(k=3), PCA(2)
    plan = make_plan(load_data((X, y)), ["relu"], module=make_pipeline(*steps, make_net(module__width=2)))
    runs = plan.runs(["relu"], range(1))
    for run, (rows, test) in zip(runs, StratifiedKFold(3).split(X, y), strict=True):
        transformers = make_pipeline(*steps).fit(X[rows], y[rows])
        expected = transformers.transform(X[test]).astype(np.float32)
        np.testing.assert_allclose(plan.features.X[run.test], expected, rtol=1e-5)
        assert plan.features.y[run.test].tolist() == y[test].tolist()


def test_compare_fits_the_transformers_of_a_pipeline_on_the_training_samples_of_test_sets_and_groups():
    X, y = make_table()
    net = make_pipeline(StandardScaler(), make_net())
    plan = make_plan(load_data((X[:60], y[:60]), test=(X[60:], y[60:])), ["relu"], module=net)
    (run,) = plan.runs(["relu"], range(1))
    expected = StandardScaler().fit(X[:60]).transform(X[60:]).astype(np.float32)
    np.testing.assert_allclose(plan.features.X[run.test], expected, rtol=1e-5)
    groups = np.arange(90) // 9
    plan = make_plan(load_data((X, y), groups=groups), ["relu"], module=net)
    for run in plan.runs(["relu"], range(1)):
        assert not set(groups[run.rows % 90]) & set(groups[run.test % 90])


def test_compare_keeps_pipelines_with_other_transformers_apart_in_a_ledger(tmp_path):
    X, y = make_table()
    scores = {}
    for name, step in {"scaled": StandardScaler(), "as given": FunctionTransformer()}.items():
        pipeline = Pipeline([("step", step), ("net", make_net())])
        results = compare(["relu"], (X, y), module=pipeline, tune=None, ledger=tmp_path / "l.sqlite").results
        scores[name] = results["key"].to_list()
    assert not set(scores["scaled"]) & set(scores["as given"])


def fail(X):
    raise RuntimeError("no such column")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [StandardScaler()],
            "module is a Pipeline that ends in a StandardScaler; its last step must be a skorch",
        ),
        ([StandardScaler(), LogisticRegression()], "ends in a LogisticRegression; its last step must be"),
        (
            [FunctionTransformer(fail), make_net()],
            "pipeline's transformers fail: RuntimeError: no such column",
        ),
        ([FunctionTransformer(np.log), make_net()], "numbers that are not finite; they must return finite"),
        ([FunctionTransformer(lambda X: X[:5]), make_net()], "they must return finite features (90, d)"),
        ([VarianceThreshold(0.001), make_net()], "make 4 features from all samples, but 3 from the training"),
    ],
    ids=["no model", "no skorch", "raises", "NaN", "samples", "features"],
)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_compare_refuses_bad_pipelines_in_one_line(steps, message):
    X, y = make_table()
    X[:, 3] = 0.0
    X[:30:3, 3] = 1.0  # all in the first test set
    with pytest.raises(UsageError) as error:
        compare(["relu"], load_data((X, y), scale="none"), module=make_pipeline(*steps), tune=None)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


FILE = """
import skorch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn


class Net(nn.Module):
    def __init__(self, act_layer=nn.ReLU):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), act_layer(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


net = skorch.NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0)
pipeline = make_pipeline(StandardScaler(), net)
"""


@pytest.mark.parametrize("name", ["net", "pipeline"])
def test_compare_verb_takes_a_skorch_model_or_pipeline_of_a_file(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("models_of_mine.py").write_text(FILE)
    X, y = make_table()
    np.savez("tiny.npz", X=X, y=y)
    call = [*"compare relu tanh --data tiny.npz --no-tune --json --jobs".split()]
    for jobs in ("1", "2"):
        assert main([*call, jobs, "--module", f"models_of_mine.py:{name}", "--out", jobs]) == 0
    one, two = (Path(jobs, "results.csv").read_text() for jobs in ("1", "2"))
    assert "skorch" not in one + two
    assert [row.split(",")[4] for row in one.splitlines()] == [row.split(",")[4] for row in two.splitlines()]
    sys.modules.pop("models_of_mine", None)

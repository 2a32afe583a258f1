"""Runs whose score is not finite fail with a reason in every table and in the report."""

import math

import numpy as np
import pandas as pd
import pytest
import skorch
from sklearn.metrics import accuracy_score
from torch import nn

from actlab import Comparison, NeuralNet, compare
from actlab.comparison.tables import make_cv_results
from actlab.data.dataset import Dataset
from actlab.report.html.page import write_report
from tests.searches import Idle, X, Y

SHORT = {"epochs": 2, "batch_size": 16, "hidden": (8, 4)}
NAMES = ["relu", "tanh", "elu"]


@pytest.fixture(scope="module")
def dataset():
    return Dataset(X, Y, "made up", "0" * 16, ("a", "b", "c"))


def scorer(value, calls=range(10**6), name="tanh"):
    """Return an accuracy scorer that returns ``value`` for one activation in some of its calls."""
    count = iter(range(10**6))

    def scored(model, inputs, targets):
        wrong = model.module__activation == name and next(count) in calls
        return value if wrong else accuracy_score(targets, model.predict(inputs))

    return scored


def pairs(comparison):
    return {
        (row["a"], row["b"]): (row["verdict"], row["reason"]) for _, row in comparison.verdicts.iterrows()
    }


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, np.float32("inf")], ids=str)
def test_compare_fails_runs_whose_score_is_not_finite(dataset, tmp_path, value):
    comparison = compare(NAMES, dataset, scoring=scorer(value), tune=None, **SHORT)
    reason = f"the score is {float(value)}"
    assert comparison.results["failure"].to_list() == [""] * 3 + [reason] * 3 + [""] * 3
    assert comparison.results["score"].isna().to_list() == [False] * 3 + [True] * 3 + [False] * 3
    status = f"failed in 3 of 3 runs: {reason}"
    last = comparison.ranking.iloc[-1]
    assert (last["activation"], last["rank"], last["status"]) == ("tanh", pd.NA, status)
    assert math.isnan(last["mean"])
    verdicts = pairs(comparison)
    assert verdicts["relu", "tanh"] == verdicts["tanh", "elu"] == ("none", f"tanh {status}")
    assert verdicts["relu", "elu"][0] != "none"
    assert f"tanh {status}; it has no rank." in comparison.sentences()
    assert make_cv_results(comparison.results)["rank_test_score"].to_list()[1] == 3
    comparison.to_csv(tmp_path)
    write_report(Comparison.load(tmp_path), tmp_path / "report.html")
    assert status in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_compare_counts_the_runs_whose_score_is_infinite(dataset):
    comparison = compare(NAMES, dataset, scoring=scorer(math.inf, [1]), tune=None, **SHORT)
    assert comparison.results["failure"].to_list() == ["", "", "", "", "the score is inf", "", "", "", ""]
    assert comparison.ranking["status"].to_list()[-1] == "failed in 1 of 3 runs: the score is inf"


def test_compare_ranks_nothing_if_every_score_is_infinite(dataset):
    comparison = compare(["relu"], dataset, scoring=lambda *_: -math.inf, tune=None, **SHORT)
    assert comparison.results["failure"].to_list() == ["the score is -inf"] * 3
    assert comparison.ranking["rank"].isna().all()
    assert math.isnan(comparison.about["region"])
    assert "relu failed in 3 of 3 runs: the score is -inf; it has no rank." in comparison.sentences()


def test_compare_fails_infinite_scores_of_models_trained_by_skorch(dataset):
    options = {"module__num_features": 4, "module__num_classes": 3, "criterion": nn.CrossEntropyLoss}
    model = skorch.NeuralNetClassifier(NeuralNet, max_epochs=2, verbose=0, callbacks=[Idle], **options)
    comparison = compare(NAMES[:2], dataset, module=model, scoring=scorer(math.inf), tune=None)
    assert comparison.results["how"].eq("skorch").all()
    assert comparison.results["failure"].to_list() == [""] * 3 + ["the score is inf"] * 3
    assert pairs(comparison) == {("relu", "tanh"): ("none", "tanh failed in 3 of 3 runs: the score is inf")}


def test_compare_until_decided_drops_an_activation_with_an_infinite_score(dataset):
    comparison = compare(
        NAMES, dataset, scoring=scorer(math.inf, [4]), until_decided=True, budget=18, tune=None, **SHORT
    )
    assert comparison.about["sequential_test"]["dropped"]["tanh"] == "failed in 1 of 6 runs: the score is inf"
    assert pairs(comparison)["relu", "elu"][0] != "none"


def test_compare_scores_restored_runs_again(dataset, tmp_path):
    options = {**SHORT, "ledger": tmp_path / "ledger.sqlite"}
    first = compare(NAMES, dataset, scoring=scorer(math.inf), tune=None, **options)
    again = compare(NAMES, dataset, scoring=scorer(math.inf), tune=None, **options)
    pd.testing.assert_frame_equal(again.results, first.results)
    pd.testing.assert_frame_equal(again.ranking, first.ranking)
    correct = compare(NAMES, dataset, scoring=scorer(math.inf, []), tune=None, **options)
    assert correct.results["failure"].eq("").all()
    assert correct.results["seconds"].to_list() == first.results["seconds"].to_list()


def test_compare_fails_folds_without_an_r2():
    rng = np.random.default_rng(0)
    y = np.where(np.arange(90) < 30, 1.0, rng.normal(size=90)).astype(np.float32)[:, None]
    data = Dataset(rng.normal(size=(90, 4)).astype(np.float32), y, "constant fold", "1" * 16, ())
    comparison = compare(["relu", "tanh"], data, tune=None, **SHORT)
    assert comparison.results["failure"].to_list() == ["the score is nan", "", ""] * 2
    assert comparison.results["score"].notna().to_list() == [False, True, True] * 2

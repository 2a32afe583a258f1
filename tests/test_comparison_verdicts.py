"""Verdicts of a comparison: seeds, sequential tests, tuned values, scorers, files."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from sklearn.metrics import f1_score, log_loss, make_scorer, r2_score
from sklearn.model_selection import StratifiedKFold
from torch import nn

import actlab
from actlab import UsageError, compare
from actlab.comparison.scoring import Scoring
from actlab.comparison.splits import FoldFeatures
from actlab.comparison.tables import make_cv_results
from actlab.data import Dataset, load_data
from actlab.models.random_streams import SPLIT, WEIGHTS, derive_seed, seeded_torch
from actlab.stats.sequential import ANALYSES, compute_analysis_level
from actlab.stats.verdict import judge_summaries, summarize_differences
from actlab.training.settings import TrainSettings
from actlab.training.train import make_net
from tests.comparison_plans import plan_runs

SHORT = {"epochs": 8, "batch_size": 16, "hidden": (8, 4)}


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 60, 30])
    X = rng.normal(size=(150, 4)) + 2 * np.eye(3, 4)[y]
    order = rng.permutation(150)
    return Dataset(X[order].astype(np.float32), y[order], "made up", "0" * 16, ("a", "b", "rare"))


class Constant(nn.Module):
    """An activation whose output is always 0."""

    def forward(self, x):
        return x * 0


@pytest.fixture
def constant(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Constant", Constant, raising=False)
    return f"{__name__}:Constant"


def pairs(comparison):
    return {(row["a"], row["b"]): row for row in comparison.verdicts.to_dict("records")}


# -- the design -----------------------------------------------------------------------------------


def test_plan_runs_gives_each_two_seeds_their_own_folds(dataset):
    planned_runs = plan_runs(dataset, ["relu", "tanh"], TrainSettings(seed=7, **SHORT), seeds=6)
    assert [each.seed for each in planned_runs[:18:3]] == [7, 8, 9, 10, 11, 12]
    assert [each.split for each in planned_runs[:18:3]] == [1, 1, 2, 2, 3, 3]
    for split in (1, 2, 3):
        options = {"shuffle": True, "random_state": derive_seed(5 + 2 * split, 0, SPLIT) % 2**32}
        expected = list(StratifiedKFold(3, **options).split(dataset.X, dataset.y))
        for each in [each for each in planned_runs if each.split == split]:
            assert np.array_equal(each.rows, expected[each.fold][0])
            assert np.array_equal(each.test, expected[each.fold][1])
    relu, tanh = planned_runs[:18], planned_runs[18:]
    for one, other in zip(relu, tanh, strict=True):
        assert (one.seed, one.fold, one.split) == (other.seed, other.fold, other.split)
        assert np.array_equal(one.run.rows, other.run.rows)
        for a, b in zip(one.run.build().parameters(), other.run.build().parameters(), strict=True):
            assert torch.equal(a, b)


def test_compare_with_one_seed_uses_scikit_learns_folds(dataset):
    alone = compare(["relu", "tanh"], dataset, tune=None, **SHORT).results
    assert alone["split"].to_list() == [0] * 6
    two, more = (
        compare(["relu", "tanh"], dataset, seeds=seeds, tune=None, **SHORT).results for seeds in (2, 3)
    )
    exact = ["activation", "split", "fold", "seed", "score"]
    assert more[more["seed"] < 2].reset_index(drop=True)[exact].equals(two[exact])
    assert more["split"].to_list() == [1] * 6 + [2] * 3 + [1] * 6 + [2] * 3


def test_compare_verdicts_are_computed_from_paired_runs(dataset):
    comparison = compare(["relu", "tanh", "sigmoid"], dataset, seeds=4, tune=None, **SHORT)
    scores = comparison.results.pivot(index=["split", "fold", "seed"], columns="activation", values="score")
    cells = [3 * split + fold for split, fold, _ in scores.index]
    step, region = 1 / 50, 1 / 150
    summaries = [
        summarize_differences(scores[a] - scores[b], cells, 0.5, step=step)
        for a, b in [("relu", "tanh"), ("relu", "sigmoid"), ("tanh", "sigmoid")]
    ]
    expected = judge_summaries(summaries, region)
    for row, verdict, one in zip(comparison.verdicts.to_dict("records"), expected, summaries, strict=True):
        assert row["verdict"] == verdict.outcome
        assert row["difference"] == pytest.approx(verdict.difference)
        assert (row["low"], row["high"]) == pytest.approx((verdict.low, verdict.high))
        assert (row["p"], row["p_holm"]) == pytest.approx((verdict.p_value, verdict.p_holm))
        assert (row["wins"], row["runs"], row["seeds"]) == (one.wins, 12, 4)
    assert (comparison.about["region"], comparison.about["region_is"]) == (region, "one of 150 samples")
    assert list(comparison.ranking)[6:] == ["seed_0", "seed_1", "seed_2", "seed_3"]
    means = scores.groupby("seed").mean()
    for _, row in comparison.ranking.iterrows():
        assert row["seed_2"] == pytest.approx(means[row["activation"]][2])


@pytest.mark.parametrize(
    ("scoring", "weights", "region"),
    [
        ("accuracy", None, (1 / 150, "one of 150 samples")),
        ("accuracy", np.arange(1, 151), (0.001, "the minimum")),
        ("balanced_accuracy", None, (0.001, "the minimum")),
        ("f1_macro", None, (0.001, "the minimum")),
    ],
)
def test_only_accuracy_has_the_share_of_a_sample_as_region(scoring, weights, region):
    iris = load_data("iris")
    data = load_data((iris.X, iris.y), weights=weights)
    assert Scoring(scoring, FoldFeatures(data, data.y)).choose_region([0.5, 0.6], 150) == region


@pytest.mark.parametrize(
    ("scoring", "region"), [("accuracy", (0.01, "one of 100 samples")), (None, (0.001, "the minimum"))]
)
def test_region_of_several_labels(scoring, region):
    y = np.stack([np.arange(100) % 2, np.arange(100) % 3 == 0], 1).astype(int)
    data = load_data((np.random.default_rng(0).normal(size=(100, 3)), y))
    assert Scoring(scoring, FoldFeatures(data, data.y)).choose_region([0.5, 0.6], 100) == region


def test_compare_ranks_no_activation_at_chance_level(dataset, constant):
    comparison = compare(["relu", constant, "tanh"], dataset, seeds=4, tune=None, **{**SHORT, "epochs": 20})
    assert pairs(comparison)["relu", constant]["verdict"] == "better"
    assert pairs(comparison)[constant, "tanh"]["verdict"] == "worse"
    last = comparison.ranking.iloc[-1]
    assert (last["activation"], last["status"]) == (constant, "chance level for 4 of 4 seeds")
    assert last["rank"] is pd.NA
    assert comparison.ranking["rank"].iloc[0] == comparison.ranking["rank"].iloc[1] == 1
    assert (
        f"{constant} is at chance level (0.4000) for 4 of 4 seeds; it has no rank." in comparison.sentences()
    )


def test_compare_pools_small_test_folds(dataset):
    comparison = compare(["relu", "tanh"], dataset, folds=25, tune=None, **{**SHORT, "epochs": 20})
    assert comparison.results["score"].mean() > 0.7
    assert not comparison.results["chance"].any()
    assert comparison.ranking["rank"].notna().all()
    assert comparison.about["region"] == 1 / 150


def test_compare_with_an_odd_number_of_seeds_compares_means(dataset):
    comparison = compare(["relu", "tanh"], dataset, seeds=3, tune=None, **SHORT)
    mean = comparison.ranking.set_index("activation")["mean"]
    assert comparison.verdicts["difference"].item() == pytest.approx(mean["relu"] - mean["tanh"], abs=1e-12)


def test_compare_gives_equal_functions_the_same_rank(dataset):
    same = "leaky_relu(negative_slope=0.0)"
    comparison = compare(["relu", same], dataset, tune=None, **SHORT)
    (row,) = comparison.verdicts.to_dict("records")
    assert (row["verdict"], row["difference"], row["wins"]) == ("equivalent", 0.0, 0.5)
    assert comparison.ranking["rank"].to_list() == [1, 1]


def test_compare_of_one_activation_has_no_verdict(dataset):
    comparison = compare(["relu"], dataset, tune=None, **SHORT)
    assert comparison.verdicts.empty
    assert "There is only one activation, so there is nothing to compare." in comparison.sentences()


def test_compare_rope_sets_the_region(dataset):
    comparison = compare(["relu", "tanh"], dataset, seeds=4, rope=0.9, tune=None, **SHORT)
    assert comparison.verdicts["verdict"].to_list() == ["equivalent"]
    assert (comparison.about["region"], comparison.about["region_is"]) == (0.9, "as given")
    assert (
        "Region of practical equivalence: differences of at most 90.00 pp (as given)."
        in comparison.sentences()
    )


# -- sequential tests -----------------------------------------------------------------------------


def test_compare_until_decided_adds_seeds_only_to_undecided_activations(dataset, constant):
    trained = {**SHORT, "epochs": 20}
    comparison = compare(["relu", constant, "tanh"], dataset, until_decided=True, tune=None, **trained)
    seeds = comparison.results.groupby("activation")["seed"].nunique()
    assert seeds[constant] in ANALYSES
    assert seeds[constant] < seeds["relu"]
    assert seeds["relu"] == seeds["tanh"]
    assert comparison.about["trained"] == 3 * seeds.sum()
    assert comparison.about["sequential_test"]["dropped"][constant].startswith("worse than ")
    assert f"Sequential test: {3 * seeds.sum()} runs in" in comparison.sentences()[-1]
    words = {row["verdict"] for pair, row in pairs(comparison).items() if constant in pair}
    assert words & {"better", "worse"}
    assert (comparison.verdicts["level"] == compute_analysis_level(3)).all()
    # The runs equal those of a comparison with a fixed number of seeds.
    fixed = compare(["relu"], dataset, seeds=2, tune=None, **trained).results
    mine = comparison.results[(comparison.results["activation"] == "relu") & (comparison.results["seed"] < 2)]
    assert mine["score"].to_list() == fixed["score"].to_list()
    assert len(make_cv_results(comparison.results)) == 3


def test_compare_until_decided_keeps_its_budget(dataset):
    comparison = compare(
        ["relu", "tanh"], dataset, until_decided=True, budget=30, rope=0.0, tune=None, **SHORT
    )
    assert comparison.about["trained"] <= 30
    assert "the budget of 30 runs" in comparison.about["sequential_test"]["stop_reason"]
    with pytest.raises(UsageError, match="budget must be >= 12 runs, the size of the first round, got 11"):
        compare(["relu", "tanh"], dataset, until_decided=True, budget=11, tune=None, **SHORT)


def test_compare_until_decided_drops_diverged_activations(dataset):
    comparison = compare(["relu", "tanh"], dataset, lr=3e4, until_decided=True, tune=None, **SHORT)
    assert comparison.verdicts["verdict"].to_list() == ["none"]
    assert "diverged in" in comparison.about["sequential_test"]["dropped"]["relu"]
    assert comparison.about["seeds"] == 2


def test_compare_until_decided_resumes_from_its_ledger(dataset, tmp_path):
    options = {**SHORT, "until_decided": True, "budget": 60}
    first = compare(["relu", "tanh"], dataset, ledger=tmp_path / "l.sqlite", tune=None, **options)
    again = compare(["relu", "tanh"], dataset, ledger=tmp_path / "l.sqlite", tune=None, **options)
    pd.testing.assert_frame_equal(first.results, again.results)
    pd.testing.assert_frame_equal(first.verdicts, again.verdicts)


# -- tuned ----------------------------------------------------------------------------------------


def test_compare_until_decided_reports_restored_runs_per_round(dataset, tmp_path, capsys):
    options = {**SHORT, "until_decided": True, "budget": 24, "rope": 0.0, "ledger": tmp_path / "l.sqlite"}
    first = compare(["relu", "tanh"], dataset, tune=None, **options)
    compare(["relu", "tanh"], dataset, verbose=1, tune=None, **options)
    assert first.about["sequential_test"]["interim_analyses"] == 2
    assert [line for line in capsys.readouterr().err.splitlines() if "ledger" in line] == [
        "actlab: round 1: 12 of 12 runs are from the ledger",
        "actlab: round 2: 12 of 12 runs are from the ledger",
    ]


def test_compare_tune_chooses_values_on_training_samples_only(dataset):
    rates = [0.01, 0.001, 0.05, 1e30]  # the first is the default
    result = compare(["relu", "tanh"], dataset, tune={"lr": rates[1:]}, **SHORT)
    assert result.about["trained"] == 24
    assert len(result.results) == 6
    each = {lr: compare(["relu", "tanh"], dataset, lr=lr, tune=None, **SHORT) for lr in rates}
    for _, row in result.results.iterrows():
        index = {name: row[name] for name in ("activation", "fold")}
        merits = {}
        for lr, comparison in each.items():
            runs = comparison.history
            mine = runs[(runs["activation"] == index["activation"]) & (runs["fold"] == index["fold"])]
            last = mine.iloc[-1]
            finite = math.isfinite(last["valid_loss"])
            merits[lr] = (last["valid_acc"], -last["valid_loss"]) if finite else (-math.inf, -math.inf)
        assert row["lr"] == max(merits, key=merits.get)
        runs = each[row["lr"]].results
        same = runs[(runs["activation"] == index["activation"]) & (runs["fold"] == index["fold"])]
        assert row["score"] == same["score"].item()
    assert result.tuning["chosen"].sum() == 6
    assert result.tuning.groupby(["activation", "fold"])["lr"].apply(list).to_list() == [rates] * 6
    assert (
        "Tuning: each run was trained with 4 combinations of lr: 24 trials for 6 runs." in result.sentences()
    )


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        (
            {"lrr": [0.1]},
            "tune contains 'lrr', which is not a parameter of the skorch net .did you mean 'lr'",
        ),
        ({"lr": []}, r"tune needs a list of values .* got lr=\[\]$"),
        ({"lr": "0.1"}, "tune needs a list of values .* got lr='0.1'$"),
        ({"lr": [0.1, -1.0]}, "tune needs learning rates > 0, got lr=-1.0"),
        ({"lr": [float("nan")]}, "tune needs learning rates > 0, got lr=nan"),
        (
            {"module__activation": ["relu"]},
            "tune contains 'module__activation', but activations are compared",
        ),
    ],
)
def test_compare_tune_rejects_invalid_values(dataset, tune, message):
    with pytest.raises(UsageError, match=message):
        compare(["relu"], dataset, tune=tune, **SHORT)


# -- scorers, regression --------------------------------------------------------------------------


def test_compare_accepts_any_scorer_of_scikit_learn(dataset):
    settings = TrainSettings(**SHORT)
    for scoring in ("f1_macro", "neg_log_loss"):
        comparison = compare(["tanh"], dataset, scoring=scoring, tune=None, **SHORT)
        for fold, (rows, test) in enumerate(StratifiedKFold(3).split(dataset.X, dataset.y)):
            model = make_net(dataset, "tanh", settings)
            with seeded_torch(0, fold, WEIGHTS, "cpu"):
                model.initialize()
            model.partial_fit(dataset.X[rows], dataset.y[rows])
            X, y = dataset.X[test], dataset.y[test]
            expected = {
                "f1_macro": f1_score(y, model.predict(X), average="macro"),
                "neg_log_loss": -log_loss(y, model.predict_proba(X)),
            }[scoring]
            assert comparison.results["score"][fold] == pytest.approx(expected, rel=1e-5)
        assert comparison.about["metric"] == scoring


def test_compare_region_of_a_loss_is_relative(dataset):
    comparison = compare(["relu", "tanh"], dataset, scoring="neg_log_loss", seeds=2, tune=None, **SHORT)
    median = comparison.results["score"].abs().median()
    assert comparison.about["region"] == pytest.approx(0.01 * median)
    assert "1 % of the median score" in " ".join(comparison.sentences())
    assert "points" not in " ".join(comparison.sentences())


def test_compare_with_a_scorer_stores_weights_in_the_ledger(dataset, tmp_path):
    options = {**SHORT, "scoring": make_scorer(f1_score, average="macro"), "ledger": tmp_path / "l.sqlite"}
    first = compare(["relu", "tanh"], dataset, tune=None, **options)
    again = compare(["relu", "tanh"], dataset, tune=None, **options)
    pd.testing.assert_frame_equal(first.results, again.results)


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ("acuracy", "scoring must be a scikit-learn scorer, got 'acuracy' .did you mean 'accuracy'"),
        (3, "scoring must be a scorer or the name of a scorer, got 3"),
        ("roc_auc", "scoring 'roc_auc' cannot score the network: ValueError: multi_class"),
    ],
)
def test_compare_rejects_an_invalid_scorer_before_training(dataset, scoring, message):
    with pytest.raises(UsageError, match=message):
        compare(["relu"], dataset, scoring=scoring, tune=None, **SHORT)


def test_compare_records_an_error_of_a_scorer_as_failure(dataset):
    calls = []

    def breaking(model, X, y):
        calls.append(len(X))
        if len(calls) > 2:
            raise ZeroDivisionError("by zero")
        return 0.5

    comparison = compare(["relu"], dataset, scoring=breaking, tune=None, **SHORT)
    assert comparison.results["failure"].to_list() == [
        "",
        *["scoring failed: ZeroDivisionError: by zero"] * 2,
    ]
    status = comparison.ranking["status"].item()
    assert status == "failed in 2 of 3 runs: scoring failed: ZeroDivisionError: by zero"


def test_compare_scores_a_regression_by_r2():
    data = load_data("diabetes")
    comparison = compare(["relu", "tanh"], data, epochs=10, tune=None)
    assert comparison.about["metric"] == "r2"
    assert comparison.results["accuracy"].isna().all()
    settings = TrainSettings(epochs=10)
    first = plan_runs(data, ["relu"], settings)[0]
    model = make_net(data, "relu", settings)
    with seeded_torch(0, 0, WEIGHTS, "cpu"):
        model.initialize()
    X = data.scale(first.rows)
    model.partial_fit(X[first.rows], data.y[first.rows])
    expected = r2_score(data.y[first.test], model.predict(X[first.test]))
    assert comparison.results["score"][0] == pytest.approx(expected, rel=1e-4)
    other = compare(["relu"], data, epochs=10, scoring="neg_mean_absolute_error", tune=None).results["score"]
    assert (other < 0).all()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mae", " (did you mean 'neg_mean_absolute_error'?)"),
        ("MSE", " (did you mean 'neg_mean_squared_error'?)"),
        ("rmse", " (did you mean 'neg_root_mean_squared_error'?)"),
        ("mape", " (did you mean 'neg_mean_absolute_percentage_error'?)"),
        ("auc", " (did you mean 'roc_auc'?)"),
        ("f1-macro", " (did you mean 'f1_macro'?)"),
        ("qqqq", ""),
        ("", ""),
    ],
)
def test_compare_suggests_scorers(dataset, name, hint):
    with pytest.raises(UsageError) as caught:
        Scoring(name, FoldFeatures(dataset, dataset.y))
    assert str(caught.value) == f"scoring must be a scikit-learn scorer, got {name!r}{hint}"


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds must be an integer >= 1, got 0"),
        (
            {"seeds": 2, "until_decided": True},
            "until_decided chooses the number of seeds, got seeds=2: omit seeds",
        ),
        ({"budget": 100}, "budget=100 needs until_decided"),
        ({"budget": "soon", "until_decided": True}, "budget must be a number of runs .* got 'soon'"),
        ({"rope": -1.0}, "rope must be a number >= 0, half the width of the region, got -1.0"),
        ({"rope": float("nan")}, "rope must be a number >= 0, .* got nan"),
        ({"replace": "relu"}, "replace needs a module, got replace='relu' without one"),
    ],
)
def test_compare_rejects_invalid_settings(dataset, options, message):
    with pytest.raises(UsageError, match=message):
        compare(["relu", "tanh"], dataset, tune=None, **options, **SHORT)


def test_compare_rejects_invalid_data():
    with pytest.raises(UsageError, match="arrays: every label is 0; at least two classes are needed"):
        compare(["relu"], (np.zeros((9, 2)), np.zeros(9)), tune=None)
    with pytest.raises(UsageError, match="cannot load data of type ndarray; pass a name, a file, a DataFr"):
        compare(["relu"], np.zeros((9, 2)), tune=None)


def test_compare_until_decided_rejects_one_activation(dataset):
    with pytest.raises(UsageError, match="until_decided needs two activations"):
        compare(["relu"], dataset, until_decided=True, tune=None, **SHORT)


def test_compare_trains_custom_skorch_networks_one_by_one(dataset):
    class Own(skorch.NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred, y_true, *args, **kwargs) * 1.0

    settings = {"module__num_features": 4, "module__num_classes": 3, "module__num_units": 8}
    options = {"criterion": nn.CrossEntropyLoss, "max_epochs": 5, "batch_size": 16, "lr": 0.05, "verbose": 0}
    comparison = compare(
        ["relu", "tanh"], dataset, module=Own(actlab.NeuralNet, **settings, **options), seeds=2, tune=None
    )
    assert comparison.results["how"].unique().tolist() == ["skorch"]
    assert comparison.results["reason_alone"].unique().tolist() == [
        "Own overrides get_loss; a fleet runs skorch's own training loop"
    ]
    assert comparison.results["epochs"].unique().tolist() == [5]
    fused = skorch.NeuralNetClassifier(actlab.NeuralNet, **settings, **options)
    same = compare(["relu", "tanh"], dataset, module=fused, seeds=2, tune=None)
    assert same.results["how"].unique().tolist() == ["layer by layer"]
    assert comparison.results["score"].to_list() == pytest.approx(same.results["score"].to_list(), abs=0.021)
    assert len(comparison.history) == len(same.history) == 60

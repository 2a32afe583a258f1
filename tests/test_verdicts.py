"""What a comparison says: seeds, races, tuned values, scorers, files."""

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
from actlab.comparison.tables import cv_results
from actlab.data.dataset import Dataset, load_data
from actlab.models.random_streams import SPLIT, WEIGHTS, seeded_torch, stream_seed
from actlab.stats.sequential import ANALYSES, analysis_level
from actlab.stats.verdict import judge, summarize_differences
from actlab.training.train import TrainSettings, make_net
from tests.comparison_plans import plan_runs

SHORT = {"epochs": 8, "batch_size": 16, "num_units": 8}


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 60, 30])
    X = rng.normal(size=(150, 4)) + 2 * np.eye(3, 4)[y]
    order = rng.permutation(150)
    return Dataset(X[order].astype(np.float32), y[order], "made up", "0" * 16, ("a", "b", "rare"))


class Sleepy(nn.Module):
    """An activation that lets nothing through."""

    def forward(self, x):
        return x * 0


@pytest.fixture
def sleepy(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Sleepy", Sleepy, raising=False)
    return f"{__name__}:Sleepy"


def pairs(found):
    return {(row["a"], row["b"]): row for row in found.verdicts.to_dict("records")}


# -- the design -----------------------------------------------------------------------------------


def test_two_seeds_share_their_folds_and_further_ones_have_their_own(dataset):
    trainings = plan_runs(dataset, ["relu", "tanh"], TrainSettings(seed=7, **SHORT), seeds=6)
    assert [each.seed for each in trainings[:18:3]] == [7, 8, 9, 10, 11, 12]
    assert [each.split for each in trainings[:18:3]] == [1, 1, 2, 2, 3, 3]
    for split in (1, 2, 3):
        how = {"shuffle": True, "random_state": stream_seed(5 + 2 * split, 0, SPLIT) % 2**32}
        expected = list(StratifiedKFold(3, **how).split(dataset.X, dataset.y))
        for each in [each for each in trainings if each.split == split]:
            assert np.array_equal(each.rows, expected[each.fold][0])
            assert np.array_equal(each.test, expected[each.fold][1])
    relu, tanh = trainings[:18], trainings[18:]
    for one, other in zip(relu, tanh, strict=True):
        assert (one.seed, one.fold, one.split) == (other.seed, other.fold, other.split)
        assert np.array_equal(one.run.rows, other.run.rows)
        for a, b in zip(one.run.build().parameters(), other.run.build().parameters(), strict=True):
            assert torch.equal(a, b)


def test_one_seed_has_the_folds_of_scikit_learn_and_fewer_seeds_are_the_first_of_more(dataset):
    alone = compare(["relu", "tanh"], dataset, **SHORT).results
    assert alone["split"].to_list() == [0] * 6
    two, more = (compare(["relu", "tanh"], dataset, seeds=seeds, **SHORT).results for seeds in (2, 3))
    exact = ["activation", "split", "fold", "seed", "score"]
    assert more[more["seed"] < 2].reset_index(drop=True)[exact].equals(two[exact])
    assert more["split"].to_list() == [1] * 6 + [2] * 3 + [1] * 6 + [2] * 3


def test_verdicts_are_read_from_the_paired_runs(dataset):
    found = compare(["relu", "tanh", "sigmoid"], dataset, seeds=4, **SHORT)
    scores = found.results.pivot(index=["split", "fold", "seed"], columns="activation", values="score")
    cells = [3 * split + fold for split, fold, _ in scores.index]
    step, region = 1 / 50, 1 / 150
    known = [
        summarize_differences(scores[a] - scores[b], cells, 0.5, step=step)
        for a, b in [("relu", "tanh"), ("relu", "sigmoid"), ("tanh", "sigmoid")]
    ]
    expected = judge(known, region)
    for row, verdict, one in zip(found.verdicts.to_dict("records"), expected, known, strict=True):
        assert row["verdict"] == verdict.outcome
        assert row["difference"] == pytest.approx(verdict.difference)
        assert (row["low"], row["high"]) == pytest.approx((verdict.low, verdict.high))
        assert (row["p"], row["p_holm"]) == pytest.approx((verdict.p_value, verdict.p_holm))
        assert (row["wins"], row["runs"], row["seeds"]) == (one.wins, 12, 4)
    assert (found.about["region"], found.about["region_is"]) == (region, "one of 150 samples")
    assert list(found.ranking)[6:] == ["seed_0", "seed_1", "seed_2", "seed_3"]
    means = scores.groupby("seed").mean()
    for _, row in found.ranking.iterrows():
        assert row["seed_2"] == pytest.approx(means[row["activation"]][2])


def test_what_does_not_learn_has_no_rank_and_is_worse(dataset, sleepy):
    found = compare(["relu", sleepy, "tanh"], dataset, seeds=4, **{**SHORT, "epochs": 20})
    assert pairs(found)["relu", sleepy]["verdict"] == "better"
    assert pairs(found)[sleepy, "tanh"]["verdict"] == "worse"
    last = found.ranking.iloc[-1]
    assert (last["activation"], last["status"]) == (sleepy, "chance level in 12 of 12 runs")
    assert last["rank"] is pd.NA
    assert found.ranking["rank"].iloc[0] == found.ranking["rank"].iloc[1] == 1
    assert f"{sleepy} is at chance level in 12 of 12 runs: no rank." in found.sentences()


def test_few_rows_in_a_fold_count_together(dataset):
    found = compare(["relu", "tanh"], dataset, folds=25, **{**SHORT, "epochs": 20})
    assert found.results["score"].mean() > 0.7
    assert not found.results["chance"].any()
    assert found.ranking["rank"].notna().all()
    assert found.about["region"] == 1 / 150


def test_an_odd_number_of_seeds_gives_the_difference_of_the_means(dataset):
    found = compare(["relu", "tanh"], dataset, seeds=3, **SHORT)
    mean = found.ranking.set_index("activation")["mean"]
    assert found.verdicts["difference"].item() == pytest.approx(mean["relu"] - mean["tanh"], abs=1e-12)


def test_equal_functions_are_equivalent_and_share_a_rank(dataset):
    same = "leaky_relu(negative_slope=0.0)"
    found = compare(["relu", same], dataset, **SHORT)
    (row,) = found.verdicts.to_dict("records")
    assert (row["verdict"], row["difference"], row["wins"]) == ("equivalent", 0.0, 0.5)
    assert found.ranking["rank"].to_list() == [1, 1]


def test_one_activation_has_nothing_to_be_compared_with(dataset):
    found = compare(["relu"], dataset, **SHORT)
    assert found.verdicts.empty
    assert "There is only one activation, so there is nothing to compare." in found.sentences()


def test_a_region_may_be_given(dataset):
    found = compare(["relu", "tanh"], dataset, seeds=4, rope=0.9, **SHORT)
    assert found.verdicts["verdict"].to_list() == ["equivalent"]
    assert (found.about["region"], found.about["region_is"]) == (0.9, "as given")
    assert "Region of practical equivalence: differences of at most 90.00 pp (as given)." in found.sentences()


# -- races ----------------------------------------------------------------------------------------


def test_a_race_adds_seeds_only_to_what_is_undecided(dataset, sleepy):
    trained = {**SHORT, "epochs": 20}
    found = compare(["relu", sleepy, "tanh"], dataset, until_decided=True, **trained)
    seeds = found.results.groupby("activation")["seed"].nunique()
    assert seeds[sleepy] in ANALYSES
    assert seeds[sleepy] < seeds["relu"]
    assert seeds["relu"] == seeds["tanh"]
    assert found.about["trained"] == 3 * seeds.sum()
    assert found.about["race"]["out"][sleepy].startswith("worse than ")
    assert f"Sequential test: {3 * seeds.sum()} runs in" in found.sentences()[-1]
    words = {row["verdict"] for pair, row in pairs(found).items() if sleepy in pair}
    assert words & {"better", "worse"}
    assert (found.verdicts["level"] == analysis_level(3)).all()
    # The runs are those of a fixed design.
    fixed = compare(["relu"], dataset, seeds=2, **trained).results
    mine = found.results[(found.results["activation"] == "relu") & (found.results["seed"] < 2)]
    assert mine["score"].to_list() == fixed["score"].to_list()
    assert len(cv_results(found.results)) == 3


def test_a_race_keeps_to_its_budget(dataset):
    found = compare(["relu", "tanh"], dataset, until_decided=True, budget=30, rope=0.0, **SHORT)
    assert found.about["trained"] <= 30
    assert "the budget of 30 runs" in found.about["race"]["ended"]
    with pytest.raises(UsageError, match="budget must be >= 12 runs, the first round, got 11"):
        compare(["relu", "tanh"], dataset, until_decided=True, budget=11, **SHORT)


def test_who_diverges_in_a_race_drops_out(dataset):
    found = compare(["relu", "tanh"], dataset, lr=3e4, until_decided=True, **SHORT)
    assert found.verdicts["verdict"].to_list() == ["none"]
    assert "diverged in" in found.about["race"]["out"]["relu"]
    assert found.about["seeds"] == 2


def test_a_race_goes_on_where_it_was_from_its_ledger(dataset, tmp_path):
    how = {**SHORT, "until_decided": True, "budget": 60}
    first = compare(["relu", "tanh"], dataset, ledger=tmp_path / "l.sqlite", **how)
    again = compare(["relu", "tanh"], dataset, ledger=tmp_path / "l.sqlite", **how)
    pd.testing.assert_frame_equal(first.results, again.results)
    pd.testing.assert_frame_equal(first.verdicts, again.verdicts)


# -- tuned ----------------------------------------------------------------------------------------


def test_what_a_race_counts_is_that_of_its_round(dataset, tmp_path, capsys):
    how = {**SHORT, "until_decided": True, "budget": 24, "rope": 0.0, "ledger": tmp_path / "l.sqlite"}
    first = compare(["relu", "tanh"], dataset, **how)
    compare(["relu", "tanh"], dataset, verbose=1, **how)
    assert first.about["race"]["looks"] == 2
    assert [line for line in capsys.readouterr().err.splitlines() if "ledger" in line] == [
        "actlab: round 1: 12 of 12 runs are from the ledger",
        "actlab: round 2: 12 of 12 runs are from the ledger",
    ]


def test_a_tuned_value_is_chosen_by_training_rows_alone(dataset):
    rates = [0.001, 0.05, 1e30]
    found = compare(["relu", "tanh"], dataset, tune={"lr": rates}, **SHORT)
    assert found.about["trained"] == 18
    assert len(found.results) == 6
    each = {lr: compare(["relu", "tanh"], dataset, lr=lr, **SHORT) for lr in rates}
    for _, row in found.results.iterrows():
        place = {name: row[name] for name in ("activation", "fold")}
        merits = {}
        for lr, comparison in each.items():
            runs = comparison.history
            mine = runs[(runs["activation"] == place["activation"]) & (runs["fold"] == place["fold"])]
            last = mine.iloc[-1]
            finite = math.isfinite(last["valid_loss"])
            merits[lr] = (last["valid_acc"], -last["valid_loss"]) if finite else (-math.inf, -math.inf)
        assert row["lr"] == max(merits, key=merits.get)
        runs = each[row["lr"]].results
        same = runs[(runs["activation"] == place["activation"]) & (runs["fold"] == place["fold"])]
        assert row["score"] == same["score"].item()
    assert found.tuning["chosen"].sum() == 6
    assert found.tuning.groupby(["activation", "fold"])["lr"].apply(list).to_list() == [rates] * 6
    assert "Each run was trained with 3 values of lr: 18 trials instead of 6." in found.sentences()


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
def test_what_cannot_be_tuned_is_refused(dataset, tune, message):
    with pytest.raises(UsageError, match=message):
        compare(["relu"], dataset, tune=tune, **SHORT)


# -- scorers, regression --------------------------------------------------------------------------


def test_any_scorer_of_scikit_learn(dataset):
    settings = TrainSettings(**SHORT)
    for scoring in ("f1_macro", "neg_log_loss"):
        found = compare(["tanh"], dataset, scoring=scoring, **SHORT)
        for fold, (rows, test) in enumerate(StratifiedKFold(3).split(dataset.X, dataset.y)):
            net = make_net(dataset, "tanh", settings)
            with seeded_torch(0, fold, WEIGHTS, "cpu"):
                net.initialize()
            net.partial_fit(dataset.X[rows], dataset.y[rows])
            X, y = dataset.X[test], dataset.y[test]
            expected = {
                "f1_macro": f1_score(y, net.predict(X), average="macro"),
                "neg_log_loss": -log_loss(y, net.predict_proba(X)),
            }[scoring]
            assert found.results["score"][fold] == pytest.approx(expected, rel=1e-5)
        assert found.about["metric"] == scoring


def test_losses_have_a_region_of_their_size(dataset):
    found = compare(["relu", "tanh"], dataset, scoring="neg_log_loss", seeds=2, **SHORT)
    median = found.results["score"].abs().median()
    assert found.about["region"] == pytest.approx(0.01 * median)
    assert "a hundredth of the median score" in " ".join(found.sentences())
    assert "points" not in " ".join(found.sentences())


def test_a_scorer_needs_weights_which_a_ledger_then_keeps(dataset, tmp_path):
    how = {**SHORT, "scoring": make_scorer(f1_score, average="macro"), "ledger": tmp_path / "l.sqlite"}
    first = compare(["relu", "tanh"], dataset, **how)
    again = compare(["relu", "tanh"], dataset, **how)
    pd.testing.assert_frame_equal(first.results, again.results)


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ("acuracy", "scoring must be a scorer of scikit-learn, got 'acuracy' .did you mean 'accuracy'"),
        (3, "scoring must be the name of a scorer or a scorer, got 3"),
        ("roc_auc", "scoring 'roc_auc' cannot score the network: ValueError: multi_class"),
    ],
)
def test_what_cannot_score_is_refused_before_anything_is_trained(dataset, scoring, message):
    with pytest.raises(UsageError, match=message):
        compare(["relu"], dataset, scoring=scoring, **SHORT)


def test_a_scorer_that_breaks_later_is_a_failure_with_its_reason(dataset):
    calls = []

    def breaking(net, X, y):
        calls.append(len(X))
        if len(calls) > 2:
            raise ZeroDivisionError("by zero")
        return 0.5

    found = compare(["relu"], dataset, scoring=breaking, **SHORT)
    assert found.results["failure"].to_list() == ["", *["scoring failed: ZeroDivisionError: by zero"] * 2]
    status = found.ranking["status"].item()
    assert status == "failed in 2 of 3 runs: scoring failed: ZeroDivisionError: by zero"


def test_numbers_are_predicted_too():
    data = load_data("diabetes")
    found = compare(["relu", "tanh"], data, seeds=2, epochs=10)
    assert found.about["metric"] == "r2"
    assert found.results["accuracy"].isna().all()
    settings = TrainSettings(epochs=10)
    first = plan_runs(data, ["relu"], settings, seeds=2)[0]
    net = make_net(data, "relu", settings)
    with seeded_torch(0, 0, WEIGHTS, "cpu"):
        net.initialize()
    net.partial_fit(data.X[first.rows], data.y[first.rows])
    expected = r2_score(data.y[first.test], net.predict(data.X[first.test]))
    assert found.results["score"][0] == pytest.approx(expected, rel=1e-4)
    other = compare(["relu"], data, epochs=10, scoring="neg_mean_absolute_error").results["score"]
    assert (other < 0).all()


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"seeds": 0}, "seeds must be an integer >= 1, got 0"),
        (
            {"seeds": 2, "until_decided": True},
            "until_decided chooses the number of seeds, got seeds=2: omit seeds",
        ),
        ({"budget": 100}, "budget=100 needs until_decided"),
        ({"budget": "soon", "until_decided": True}, "budget must be a number of runs .* got 'soon'"),
        ({"rope": -1.0}, "rope must be a number >= 0, half the width of a region, got -1.0"),
        ({"rope": float("nan")}, "rope must be a number >= 0, .* got nan"),
        ({"replace": "relu"}, "replace needs a module, got replace='relu' without one"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(dataset, how, message):
    with pytest.raises(UsageError, match=message):
        compare(["relu", "tanh"], dataset, **how, **SHORT)


def test_data_that_is_none_is_refused():
    with pytest.raises(UsageError, match="data is of type tuple; it must be a Dataset, or a name or file"):
        compare(["relu"], (np.zeros((9, 2)), np.zeros(9)))


def test_a_race_of_one_is_refused(dataset):
    with pytest.raises(UsageError, match="until_decided needs two activations"):
        compare(["relu"], dataset, until_decided=True, **SHORT)


def test_skorch_nets_that_no_fleet_trains_are_trained_one_by_one(dataset):
    class Own(skorch.NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred, y_true, *args, **kwargs) * 1.0

    settings = {"module__num_features": 4, "module__num_classes": 3, "module__num_units": 8}
    how = {"criterion": nn.CrossEntropyLoss, "max_epochs": 5, "batch_size": 16, "lr": 0.05, "verbose": 0}
    found = compare(["relu", "tanh"], dataset, module=Own(actlab.NeuralNet, **settings, **how), seeds=2)
    assert found.results["how"].unique().tolist() == ["skorch"]
    assert found.results["reason_alone"].unique().tolist() == [
        "Own overrides get_loss; a fleet runs skorch's own training loop"
    ]
    assert found.results["epochs"].unique().tolist() == [5]
    fused = skorch.NeuralNetClassifier(actlab.NeuralNet, **settings, **how)
    same = compare(["relu", "tanh"], dataset, module=fused, seeds=2)
    assert same.results["how"].unique().tolist() == ["layer by layer"]
    assert found.results["score"].to_list() == pytest.approx(same.results["score"].to_list(), abs=0.021)
    assert len(found.history) == len(same.history) == 60

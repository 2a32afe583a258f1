"""Fixed test sets, groups and time series in comparisons."""

import dataclasses
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import skorch
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit
from torch import nn

from actlab import compare, load_data
from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.errors import UsageError
from actlab.stats.fixed_test_set import summarize_fixed_test
from actlab.training.train import plan_training

NAMES = ["relu", "tanh"]
QUICK = {"epochs": 3, "tune": None, "jobs": 1, "batch_size": 32}


def make_data(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    return rng.normal(size=(rows, 4)) + np.eye(3, 4)[y], y


@pytest.fixture(scope="module")
def fixed():
    X, y = make_data()
    return load_data((X[:160], y[:160]), test=(X[160:], y[160:]))


@pytest.fixture(scope="module")
def grouped():
    X, y = make_data()
    return load_data((X, y), groups=np.arange(240) // 8)


def plan_runs(dataset, seeds=1, **options):
    config = ComparisonConfig(activations=NAMES, dataset=dataset, seeds=seeds, tune=None, **options)
    plan = ComparisonPlan(config)
    return plan, plan.runs(NAMES, range(config.num_seeds))


# -- a fixed test set -----------------------------------------------------------------------------------


def test_compare_trains_every_seed_on_the_training_samples_and_scores_the_test_set(fixed):
    _, runs = plan_runs(fixed, seeds=None)
    assert len(runs) == 2 * 3
    for run in runs:
        assert run.rows.tolist() == list(range(160))
        assert run.test.tolist() == list(range(160, 240))
        assert sorted([*run.run.rows, *run.run.valid]) == list(range(160))
    assert {(run.split, run.fold, run.seed) for run in runs} == {(0, 0, seed) for seed in range(3)}


def test_compare_judges_outcomes_of_the_test_samples(fixed):
    comparison = compare(NAMES, fixed, seeds=4, **QUICK)
    row = comparison.verdicts.iloc[0]
    assert (row["runs"], row["seeds"]) == (4, 4)
    assert comparison.about["split"] == "test set"
    assert comparison.about["test"] == {
        "name": "arrays",
        "samples": 80,
        "training_samples": 160,
        "validation_samples": 32,
        "missing_labels": [],
        "has_outcomes": True,
    }
    assert (
        "Fixed test set: 80 samples; 160 training samples, 32 of them for validation."
        in comparison.sentences()
    )
    assert any(
        s.endswith("include the variance of seeds and of test samples.") for s in comparison.sentences()
    )
    means = comparison.ranking.set_index("activation")["mean"]
    assert row["difference"] == pytest.approx(means["relu"] - means["tanh"])


class Net(nn.Sequential):
    """A network that fleets train."""

    def __init__(self, activation=None):
        super().__init__(nn.Linear(4, 8), activation or nn.ReLU(), nn.Linear(8, 3))


class OwnLoop(skorch.NeuralNetClassifier):
    """A model that only skorch trains."""

    def train_step_single(self, batch, **parameters):
        return super().train_step_single(batch, **parameters)


@pytest.mark.parametrize("kind", [skorch.NeuralNetClassifier, OwnLoop], ids=["fleet", "skorch"])
def test_compare_on_a_fixed_test_set_computes_the_verdict_from_predictions(fixed, kind):
    net = kind(Net, criterion=nn.CrossEntropyLoss, max_epochs=3, lr=0.1, batch_size=32, verbose=0)
    predicted = {name: [] for name in NAMES}

    def score(model, X, y):
        name = type(model.module_[1]).__name__.lower()
        predicted[name].append(model.predict(X) == y)
        return accuracy_score(y, model.predict(X))

    options = {"module": net, "seeds": 2, "tune": None, "jobs": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own, standard = compare(NAMES, fixed, scoring=score, **options), compare(NAMES, fixed, **options)
    outcomes = [np.stack(predicted[name][-2:]).astype(float) for name in NAMES]
    summary = summarize_fixed_test(outcomes[0] - outcomes[1], step=1 / 80)
    row = standard.verdicts.iloc[0]
    assert (row["low"], row["high"]) == pytest.approx(summary.posterior.interval(), rel=1e-9)
    assert (row["difference"], row["p"]) == pytest.approx((summary.mean, summary.posterior.p_value), rel=1e-9)
    # A scorer of the user's is not known to be a mean over samples, so that only the seeds count.
    by_seeds = summarize_fixed_test(outcomes[0].mean(1) - outcomes[1].mean(1))
    assert own.verdicts.iloc[0]["p"] == pytest.approx(by_seeds.posterior.p_value, rel=1e-9)


def test_compare_on_a_fixed_test_set_judges_r2_with_its_influence_values():
    X, y = make_data()
    targets = y + X[:, 0]
    data = load_data((X[:160], targets[:160]), test=(X[160:], targets[160:]), regression=True)
    comparison = compare(NAMES, data, seeds=2, **QUICK)
    row, means = comparison.verdicts.iloc[0], comparison.ranking.set_index("activation")["mean"]
    assert row["difference"] == pytest.approx(means["relu"] - means["tanh"], abs=1e-6)
    assert row["low"] < row["difference"] < row["high"]
    assert comparison.about["test"]["has_outcomes"]


def test_compare_says_what_other_scorers_cannot_tell(fixed):
    comparison = compare(NAMES, fixed, scoring="f1_macro", seeds=2, **QUICK)
    last = "f1_macro is not a mean over samples, so only the seeds count."
    assert any(sentence.endswith(last) for sentence in comparison.sentences())
    with pytest.raises(UsageError, match="seeds must be >= 2 for f1_macro on a fixed test set, got 1"):
        compare(NAMES, fixed, scoring="f1_macro", seeds=1, **QUICK)


def test_compare_leaves_one_seed_on_a_fixed_test_set_undecided(fixed):
    comparison = compare(NAMES, fixed, seeds=1, **QUICK)
    (row,) = comparison.verdicts.to_dict("records")
    assert row["verdict"] == "undecided"
    assert row["reason"] == (
        "interval and p hold for these two trained models only, not for other seeds: add seeds"
    )
    assert any(
        s.endswith("The intervals include the variance of test samples.") for s in comparison.sentences()
    )


def test_compare_until_decided_says_that_the_test_set_is_too_small(fixed):
    comparison = compare(["relu", "leaky_relu"], fixed, until_decided=True, rope=1e-6, **QUICK)
    (row,) = comparison.verdicts.to_dict("records")
    assert row["verdict"] == "undecided"
    assert row["reason"] == "more seeds cannot decide it: the test set has only 80 samples"
    assert (
        comparison.about["sequential_test"]["stop_reason"]
        == "more seeds would not decide the remaining pairs"
    )


def test_compare_lists_labels_that_the_test_set_lacks():
    X, y = make_data()
    rows = y[160:] != 2
    data = load_data((X[:160], y[:160]), test=(X[160:][rows], y[160:][rows]))
    assert "No test sample has the label 2." in compare(NAMES, data, **QUICK).sentences()


def test_compare_takes_outcomes_on_a_fixed_test_set_from_the_ledger(fixed, tmp_path):
    options = {**QUICK, "seeds": 2, "ledger": tmp_path / "runs.db"}
    first, again = compare(NAMES, fixed, **options), compare(NAMES, fixed, **options)
    pd.testing.assert_frame_equal(first.verdicts, again.verdicts)
    assert first.results["seconds"].equals(again.results["seconds"])  # nothing was trained again


def test_compare_loads_a_fixed_test_set_like_load_data(tmp_path):
    X, y = make_data(120)
    table = pd.DataFrame(X, columns=list("abcd")).assign(label=y, who=np.arange(120) // 6)
    table[:80].to_csv(tmp_path / "train.csv", index=False)
    table[80:].to_csv(tmp_path / "test.csv", index=False)
    source, test = tmp_path / "train.csv", tmp_path / "test.csv"
    comparison = compare(NAMES, source, target="label", test=test, groups="who", **QUICK)
    assert comparison.about["test"]["name"] == "test.csv"
    expected = load_data(source, target="label", test=test, groups="who")
    assert comparison.about["fingerprint"] == expected.fingerprint


# -- groups and time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 2])
def test_compare_keeps_groups_together(grouped, seeds):
    plan, runs = plan_runs(grouped, seeds)
    groups, samples = grouped.groups, len(grouped.y)
    for run in runs:
        parts = [set(groups[rows % samples]) for rows in (run.run.rows, run.run.valid, run.test)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert 0.1 < len(run.run.valid) / len(run.rows) < 0.3
    if seeds == 1:
        expected = list(StratifiedGroupKFold(3).split(grouped.X, grouped.y, groups))
        assert [(a.tolist(), b.tolist()) for a, b in plan.make_folds(0)] == [
            (a.tolist(), b.tolist()) for a, b in expected
        ]
    else:
        assert not np.array_equal(plan.make_folds(1)[0][1], plan.make_folds(0)[0][1])


def test_compare_keeps_groups_together_in_models_that_only_skorch_trains(grouped):
    seen = []

    class Recorder(skorch.callbacks.Callback):
        def on_train_begin(self, net, X=None, y=None, **options):
            train, valid = net.get_split_datasets(X, y)
            seen.append((np.array(train.indices), np.array(valid.indices)))

    net = OwnLoop(
        Net, criterion=nn.CrossEntropyLoss, max_epochs=1, callbacks=[Recorder], batch_size=32, verbose=0
    )
    compare(["relu"], grouped, module=net, tune=None, jobs=1)
    plan, _ = plan_runs(grouped)
    assert len(seen) == 3
    for (train, valid), (rows, _) in zip(seen, plan.make_folds(0), strict=True):
        groups = grouped.groups[rows]
        assert not set(groups[train]) & set(groups[valid])
        assert len(train) + len(valid) == len(rows)


def test_compare_over_time_trains_on_the_past(grouped):
    data = dataclasses.replace(grouped, groups=None, channels="first")
    _, runs = plan_runs(data, 2, split="time")
    expected = list(TimeSeriesSplit(3).split(data.y))
    for run in runs:
        rows, test = expected[run.fold]
        assert (run.rows % 240).tolist() == rows.tolist()
        assert (run.test % 240).tolist() == test.tolist()
        assert run.run.rows.tolist() + run.run.valid.tolist() == run.rows.tolist()
        assert len(run.run.valid) == -(-len(rows) // 5)
    assert {run.split for run in runs} == {0}


def test_compare_over_time_repeats_the_same_splits_with_every_seed(grouped):
    data = dataclasses.replace(grouped, groups=None, channels="first")
    comparison = compare(NAMES, data, split="time", seeds=3, **QUICK)
    row = comparison.verdicts.iloc[0]
    assert (row["runs"], row["seeds"]) == (9, 3)
    assert set(comparison.results["split"]) == {0}
    assert any(sentence.startswith("Folds over time") for sentence in comparison.sentences())


@pytest.mark.parametrize(
    ("split", "regression", "splitter"),
    [
        (None, False, StratifiedKFold(3)),
        ("stratified", False, StratifiedKFold(3)),
        ("random", False, KFold(3)),
        (None, True, KFold(3)),
    ],
)
def test_compare_splits_like_scikit_learn(split, regression, splitter):
    data = load_data(make_data(), regression=regression)
    plan, _ = plan_runs(data, split=split)
    for (rows, test), (expected, other) in zip(
        plan.make_folds(0), splitter.split(data.X, data.y), strict=True
    ):
        assert (rows.tolist(), test.tolist()) == (expected.tolist(), other.tolist())


def test_compare_splits_groups_of_a_regression_like_scikit_learn():
    data = load_data(make_data(), regression=True, groups=np.arange(240) // 8)
    plan, runs = plan_runs(data)
    expected = list(GroupKFold(3).split(data.X, data.y, data.groups))
    assert [test.tolist() for _, test in plan.make_folds(0)] == [test.tolist() for _, test in expected]
    assert all(len(run.run.valid) for run in runs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "time"}, "split must be 'group' for data with groups, got 'time'; omit split or groups"),
        ({"split": "groups"}, "split must be one of stratified, random, group, time, got 'groups'"),
        ({"folds": 31}, "folds must be <= 30, the number of groups of arrays, got 31"),
        ({"folds": 1}, "folds must be an integer >= 2, got 1: with one fold there is no test set"),
    ],
)
def test_compare_refuses_splits_of_groups_that_are_impossible(grouped, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        compare(NAMES, grouped, **options)


def test_compare_refuses_other_splits_that_are_impossible(fixed):
    numbers = load_data(make_data(), regression=True)
    for data, options, message in (
        (numbers, {"split": "stratified"}, "split='stratified' needs classes, but the targets are numbers"),
        (numbers, {"split": "group"}, "split='group' needs groups: pass groups to load_data"),
        (
            load_data(make_data(16)),
            {"split": "time"},
            "folds must be smaller, got 3: the first fold over time has only 4 training samples",
        ),
        (fixed, {"folds": 3}, "folds=3 is not used, because the test set of arrays is fixed; omit folds=3"),
        (fixed, {"split": "time", "folds": 2}, "split='time' and folds=2 are not used, because"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            compare(NAMES, data, **options)


def test_compare_refuses_groups_that_leave_one_group_for_training():
    X, y = make_data(40)
    data = load_data((X, y), groups=np.arange(40) // 20)
    message = "arrays: 2 groups are too few for 2 folds; each needs a group for testing and two for training"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        compare(NAMES, data, folds=2)


# -- train ----------------------------------------------------------------------------------------------


def test_plan_training_holds_out_whole_groups(grouped):
    run = plan_training(grouped, "relu").run
    assert not set(grouped.groups[run.rows]) & set(grouped.groups[run.valid])
    assert sorted([*run.rows, *run.valid]) == list(range(240))


def test_plan_training_refuses_a_fixed_test_set(fixed):
    message = "arrays has a fixed test set, which only compare uses; load it without test"
    with pytest.raises(UsageError, match=message):
        plan_training(fixed, "relu")


@pytest.mark.parametrize("samples", [0, 1])
def test_load_data_refuses_a_test_set_with_too_few_samples(samples):
    X, y = make_data()
    message = f"the test set arrays has {samples} sample{'s' * (samples != 1)}; at least 2 are needed"
    with pytest.raises(UsageError, match=f"^{message}$"):
        load_data((X, y), test=(X[:samples], y[:samples]), regression=True)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ((np.eye(3), 5), "arrays: y must be (n,) in the data and in the test set"),
        ((5, [0, 1]), "the test set arrays has 0 samples; at least 2 are needed"),
    ],
)
def test_load_data_refuses_a_test_set_without_dimensions(test, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        load_data((np.eye(4, 3), [0, 1, 0, 1]), test=test)


@pytest.mark.parametrize("what", ["groups", "weights"])
def test_load_data_refuses_the_target_as_groups_or_weights(what):
    frame = pd.DataFrame({"a": np.arange(40) % 7, "y": np.arange(40) % 2})
    message = f"{what} and target are the same column, 'y'; name different columns"
    with pytest.raises(UsageError, match=f"^{message}$"):
        load_data(frame, target="y", **{what: "y"})


def test_compare_refuses_one_group_and_a_class_with_one_sample():
    X = np.eye(40)
    for y, options, message in (
        (np.arange(40) % 2, {"groups": np.zeros(40)}, "arrays has one group; at least 2 are needed"),
        (np.arange(40) == 3, {}, "the smallest class of arrays, 'True', has 1 sample; at least 2 are needed"),
    ):
        with pytest.raises(UsageError, match=f"^{message}$"):
            compare(NAMES, (X, y), **options)


def test_compare_records_the_settings_that_it_uses():
    own = skorch.NeuralNetClassifier(
        nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2)), max_epochs=1, lr=0.03, batch_size=16
    )
    data = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32), np.arange(60) % 2
    about = compare(["relu"], data, module=own, tune=None).about
    assert about["settings"] == {"seed": 0, "precision": "float32", "init": "torch"}
    assert about["model_settings"] == "max_epochs=1, lr=0.03, batch_size=16, optimizer=SGD"
    about = compare(["relu"], data, module=own.module, epochs=1, tune=None).about
    assert about["settings"]["epochs"] == 1
    assert not about["settings"].keys() & {"hidden", "dropout"}
    assert "model_settings" not in about


def make_dated_table(path, **columns):
    """Write 40 rows in chronological order; return the file."""
    table = {"day": pd.date_range("2020-01-01", periods=40, freq="90D"), "size": np.arange(40) % 7 * 1.5}
    pd.DataFrame({**table, **columns, "price": np.arange(40) % 5}).to_csv(path, index=False)
    return path


def plan_over(split, path, **options):
    data = load_data(path, target="price", regression=True, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ComparisonPlan(ComparisonConfig(activations=["relu", "tanh"], dataset=data, split=split, tune=None))
    return [str(one.message) for one in caught]


def test_comparison_plan_over_time_warns_of_columns_outside_the_training_range(tmp_path):
    path = make_dated_table(tmp_path / "sales.csv", count=np.arange(40) ** 2)
    assert plan_over("time", path) == [
        "sales.csv: in every fold, test samples have values of day, count outside the range of the training "
        "samples; drop=['day', 'count'] (--drop day --drop count) omits them"
    ]
    assert plan_over("time", path, drop=["day", "count"]) == []
    assert plan_over("random", path) == []


@pytest.mark.parametrize(("inside", "found"), [(1, True), (2, False)])
def test_warn_about_extrapolation_needs_nine_of_ten_test_samples(tmp_path, inside, found):
    values = np.arange(40.0)
    for start in (10, 20, 30):  # the three test sets
        values[start : start + inside] = 0.5
    path = make_dated_table(tmp_path / "sales.csv", trend=values)
    messages = plan_over("time", path, drop="day")
    expected = "sales.csv: in every fold, test samples have values of trend outside the range of the "
    expected += "training samples; drop=['trend'] (--drop trend) omits them"
    assert messages == [expected] * found

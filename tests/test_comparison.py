import math

import numpy as np
import pytest
import torch

import actlab
from actlab import UsageError
from actlab.comparison import check_comparison, compare
from actlab.data import Dataset
from actlab.training import TrainSettings

SHORT = {"epochs": 2, "batch_size": 16, "num_units": 8}


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 60, 30])
    X = rng.normal(size=(150, 4)) + np.eye(3, 4)[y]
    order = rng.permutation(150)
    return Dataset(X[order].astype(np.float32), y[order], "made up", "0" * 16, ("a", "b", "rare"))


def scores(comparison):
    return comparison.results.filter(regex="_score$")


def test_results_are_scikit_learns_and_the_ranking_is_read_from_them(dataset):
    comparison = compare(["relu", "tanh", "leaky_relu(negative_slope=0.5)"], dataset, **SHORT)
    results, ranking = comparison.results, comparison.ranking
    assert results["param_module__activation"].to_list() == ["relu", "tanh", "leaky_relu(negative_slope=0.5)"]
    folds = results[[f"split{i}_test_score" for i in range(3)]].to_numpy()
    assert results["mean_test_score"].to_list() == pytest.approx(folds.mean(axis=1).tolist())
    assert results["std_test_score"].to_list() == pytest.approx(folds.std(axis=1).tolist())
    assert list(ranking) == ["rank", "activation", "mean", "std", "fold_1", "fold_2", "fold_3"]
    assert ranking["mean"].is_monotonic_decreasing
    assert ranking["rank"].is_monotonic_increasing
    by_name = results.set_index("param_module__activation")
    for _, row in ranking.iterrows():
        assert row["mean"] == by_name.loc[row["activation"], "mean_test_score"]
        assert row["fold_2"] == by_name.loc[row["activation"], "split1_test_score"]


def test_the_same_seed_gives_the_same_table_also_with_two_jobs_and_other_threads(dataset):
    names = ["relu", "tanh"]
    first = scores(compare(names, dataset, **SHORT))
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    again = scores(compare(names, dataset, **SHORT))
    torch.set_num_threads(before)
    assert again.equals(first)
    assert scores(compare(names, dataset, jobs=2, **SHORT)).equals(first)


def test_the_table_does_not_depend_on_the_order_or_the_company(dataset):
    both = compare(["relu", "tanh"], dataset, **SHORT).results
    alone = compare(["tanh"], dataset, **SHORT).results
    columns = [f"split{i}_test_score" for i in range(3)]
    assert both.loc[1, columns].to_list() == alone.loc[0, columns].to_list()


def test_a_different_seed_gives_a_different_table(dataset):
    columns = ["split0_test_score", "split1_test_score", "split2_test_score"]
    first, other = (compare(["tanh"], dataset, seed=seed, **SHORT).results[columns] for seed in (0, 1))
    assert not first.equals(other)


def test_a_net_that_diverges_is_shown_and_ranked_last(dataset):
    ranking = compare(["relu", "tanh"], dataset, lr=3e4, **SHORT).ranking
    assert ranking["activation"].to_list() == ["tanh", "relu"]
    assert math.isnan(ranking["mean"].iloc[1])
    assert not math.isnan(ranking["mean"].iloc[0])


def test_all_nets_may_diverge(dataset):
    ranking = compare(["relu"], dataset, lr=1e30, **SHORT).ranking
    assert ranking["mean"].isna().all()


def test_progress_is_told_and_never_runs_backwards(dataset, monkeypatch):
    monkeypatch.setattr("actlab.comparison._POLL", 0.005)
    told = []
    compare(["relu"], dataset, progress=lambda *counts: told.append(counts), **SHORT)
    assert told == sorted(told)
    assert {total for _, total in told} == {3}


def test_data_may_be_named():
    assert len(actlab.compare(["relu"], "digits", folds=2, epochs=1).ranking) == 1


@pytest.mark.parametrize(
    ("activations", "how", "message"),
    [
        (["reluu"], {}, "unknown activation 'reluu'; did you mean 'relu'"),
        ([], {}, "name at least one"),
        ("relu", {}, r"activations is 'relu', not a list"),
        ([1], {}, "not a list of specs"),
        (["relu", "tanh", "relu"], {}, "activation 'relu' is given twice"),
        (["relu", "relu()"], {}, r"activation 'relu\(\)' is given twice"),
        (["relu"], {"folds": 1}, "folds is 1, not a whole number of at least 2"),
        (["relu"], {"folds": 31}, "folds is 31, but the smallest class of made up, 'rare', has 30 rows"),
        (["relu"], {"jobs": 0}, "jobs is 0"),
        (["relu"], {"epochs": 0}, "epochs is 0"),
        (["reluu", "tahn"], {"folds": 31}, "'relu'.*'tanh'.*folds is 31"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(dataset, activations, how, message):
    with pytest.raises(UsageError, match=message):
        compare(activations, dataset, **how)


def test_folds_that_leave_too_few_rows_to_hold_back_are_refused():
    y = np.arange(12) % 2
    small = Dataset(np.eye(12, dtype=np.float32), y, "small", "0" * 16, (0, 1))
    with pytest.raises(UsageError, match="the largest class trains on 4 rows"):
        check_comparison(["relu"], small, TrainSettings(), folds=3, jobs=1)

import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold

import actlab
from actlab import UsageError
from actlab.comparison.comparison import Interrupted, compare
from actlab.comparison.config import ComparisonConfig
from actlab.comparison.tables import make_cv_results
from actlab.data.dataset import Dataset
from actlab.models.random_streams import WEIGHTS, seeded_torch
from actlab.training.settings import TrainSettings
from actlab.training.train import HISTORY_COLUMNS, make_net

SHORT = {"epochs": 2, "batch_size": 16, "hidden": (8, 4)}
WIDE = {"epochs": 2, "batch_size": 16, "hidden": (256, 128)}  # layers wide enough for products in bfloat16


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 60, 30])
    X = rng.normal(size=(150, 4)) + np.eye(3, 4)[y]
    order = rng.permutation(150)
    return Dataset(X[order].astype(np.float32), y[order], "made up", "0" * 16, ("a", "b", "rare"))


COLUMNS = ["activation", "split", "fold", "seed", "score", "accuracy", "loss", "epochs", "failure"]


def scores(comparison):
    return comparison.results[COLUMNS]


def test_compare_returns_one_row_per_run_and_a_ranking(dataset):
    names = ["relu", "tanh", "leaky_relu(negative_slope=0.5)"]
    comparison = compare(names, dataset, tune=None, **{**SHORT, "epochs": 20})
    results, ranking = comparison.results, comparison.ranking
    assert results["activation"].to_list() == [name for name in names for _ in range(3)]
    assert results["fold"].to_list() == [1, 2, 3] * 3
    assert (results["epochs"] == 20).all()
    columns = ["rank", "activation", "mean", "std", "runs", "status", "fold_1", "fold_2", "fold_3"]
    assert list(ranking) == columns
    assert ranking["rank"].is_monotonic_increasing
    assert (results["score"] == results["accuracy"]).all()
    for _, row in ranking.iterrows():
        folds = results[results["activation"] == row["activation"]]["accuracy"]
        assert row[["fold_1", "fold_2", "fold_3"]].to_list() == folds.to_list()
        assert row["mean"] == pytest.approx(folds.mean())
        assert row["std"] == pytest.approx(folds.std(ddof=0))


def test_compare_accuracy_is_that_of_the_trained_model_on_the_fold(dataset):
    comparison = compare(["tanh"], dataset, tune=None, **SHORT)
    settings = TrainSettings(epochs=2, batch_size=16, hidden=(8, 4))
    for fold, (rows, test) in enumerate(StratifiedKFold(3).split(dataset.X, dataset.y)):
        model = make_net(dataset, "tanh", settings)
        with seeded_torch(0, fold, WEIGHTS, "cpu"):
            model.initialize()
        model.partial_fit(dataset.X[rows], dataset.y[rows])
        row = comparison.results.iloc[fold]
        assert row["accuracy"] == accuracy_score(dataset.y[test], model.predict(dataset.X[test]))
        history = comparison.history[comparison.history["fold"] == fold + 1]
        expected = [epoch["valid_loss"] for epoch in model.history]
        assert history["valid_loss"].to_list() == pytest.approx(expected, rel=1e-5)


def test_compare_history_has_every_epoch_of_every_run(dataset):
    history = compare(["relu", "tanh"], dataset, tune=None, **SHORT).history
    assert list(history) == ["activation", "split", "fold", "seed", *HISTORY_COLUMNS]
    assert history["epoch"].to_list() == [1, 2] * 6
    assert history.groupby(["activation", "fold"]).size().to_list() == [2] * 6


def test_make_cv_results_has_scikit_learns_columns(dataset):
    comparison = compare(["relu", "tanh"], dataset, tune=None, **SHORT)
    table = make_cv_results(comparison.results)
    assert table["param_module__activation"].to_list() == ["relu", "tanh"]
    by_name = comparison.ranking.set_index("activation")
    for _, row in table.iterrows():
        ranked = by_name.loc[row["param_module__activation"]]
        assert row["mean_test_score"] == pytest.approx(ranked["mean"], rel=1e-15)
        assert row["rank_test_score"] == 1 + (table["mean_test_score"] > row["mean_test_score"]).sum()
        assert row["split1_test_score"] == ranked["fold_2"]
    seconds = comparison.results.groupby("activation")["seconds"].mean()
    assert table["mean_fit_time"].to_list() == pytest.approx(seconds.loc[["relu", "tanh"]].to_list())


def test_compare_is_reproducible_with_other_jobs_and_threads(dataset):
    names = ["relu", "tanh"]
    first = scores(compare(names, dataset, tune=None, **SHORT))
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    again = scores(compare(names, dataset, tune=None, **SHORT))
    torch.set_num_threads(before)
    assert again.equals(first)
    assert scores(compare(names, dataset, jobs=2, tune=None, **SHORT)).equals(first)


def test_compare_results_do_not_depend_on_other_activations(dataset):
    both = scores(compare(["relu", "tanh"], dataset, tune=None, **SHORT))
    single = scores(compare(["tanh"], dataset, tune=None, **SHORT))
    together = both[both["activation"] == "tanh"].reset_index(drop=True)
    exact = ["activation", "fold", "accuracy", "epochs"]
    assert together[exact].equals(single[exact])
    assert together["loss"].to_list() == pytest.approx(single["loss"].to_list(), rel=1e-5)


def test_compare_with_another_seed_gives_other_results(dataset):
    first, other = (
        compare(["tanh"], dataset, seed=seed, tune=None, **SHORT).results["loss"] for seed in (0, 1)
    )
    assert not first.equals(other)


def test_compare_gives_no_rank_to_a_diverged_activation(dataset):
    comparison = compare(["relu", "tanh"], dataset, lr=3e4, tune=None, **SHORT)
    ranking = comparison.ranking
    assert ranking["activation"].to_list() == ["tanh", "relu"]
    assert math.isnan(ranking["mean"].iloc[1])
    assert not math.isnan(ranking["mean"].iloc[0])
    diverged_runs = int(comparison.results[comparison.results["activation"] == "relu"]["score"].isna().sum())
    assert ranking["status"].iloc[1] == f"diverged in {diverged_runs} of 3 runs"
    assert ranking["rank"].iloc[1] is pd.NA
    (pair,) = comparison.verdicts.to_dict("records")
    assert (pair["verdict"], pair["reason"]) == ("none", f"relu diverged in {diverged_runs} of 3 runs")
    assert math.isnan(pair["difference"])
    assert f"relu diverged in {diverged_runs} of 3 runs; it has no rank." in comparison.sentences()


def test_compare_of_only_diverged_models_has_no_rank(dataset):
    comparison = compare(["relu"], dataset, lr=1e30, tune=None, **SHORT)
    assert comparison.ranking["mean"].isna().all()
    assert comparison.sentences()[0] == "No activation has a rank."


def test_compare_interrupt_keeps_finished_runs(dataset, monkeypatch):
    class Interrupting(torch.nn.Module):
        def forward(self, x):
            if len(x) > 2:  # the first test of a model uses two samples
                raise KeyboardInterrupt
            return x

    monkeypatch.setattr(sys.modules[__name__], "Interrupting", Interrupting, raising=False)
    with pytest.raises(Interrupted, match=": 3 of 6 runs were trained") as caught:
        compare(["relu", f"{__name__}:Interrupting"], dataset, tune=None, **SHORT)
    assert caught.value.results["activation"].to_list() == ["relu"] * 3
    assert len(caught.value.history) == 6
    with pytest.raises(KeyboardInterrupt) as caught:
        compare([f"{__name__}:Interrupting"], dataset, tune=None, **SHORT)
    assert not isinstance(caught.value, Interrupted)


def test_compare_fails_only_the_activation_that_raises(dataset, monkeypatch):
    class Breaking(torch.nn.Module):
        def forward(self, x):
            if len(x) > 2:
                raise ZeroDivisionError("by zero")
            return x

    monkeypatch.setattr(sys.modules[__name__], "Breaking", Breaking, raising=False)
    comparison = compare(["relu", f"{__name__}:Breaking"], dataset, tune=None, **SHORT)
    assert (
        comparison.results["failure"].to_list()
        == [""] * 3 + ["training raised ZeroDivisionError: by zero"] * 3
    )
    assert comparison.ranking["activation"].to_list()[0] == "relu"
    assert scores(comparison)[:3].equals(scores(compare(["relu"], dataset, tune=None, **SHORT)))


def test_compare_precision_bf16_changes_results_slightly(dataset):
    exact, rounded = (
        compare(["tanh"], dataset, precision=p, tune=None, **WIDE).results for p in ("float32", "bf16")
    )
    assert exact["loss"].to_list() != rounded["loss"].to_list()
    assert exact["loss"].to_list() == pytest.approx(rounded["loss"].to_list(), rel=0.02)


def test_compare_accepts_the_name_of_a_dataset():
    assert len(actlab.compare(["relu"], "digits", folds=2, epochs=1, tune=None).ranking) == 1


@pytest.mark.parametrize(
    ("activations", "options", "message"),
    [
        (["reluu"], {}, "unknown activation 'reluu' .did you mean 'relu'"),
        ([], {}, "name at least one"),
        ("relu", {}, r"activations is 'relu', not a list"),
        ([1], {}, r"activations\[0\]: 1 is not an activation; pass a name such as 'relu', an nn.Module"),
        (["relu", "tanh", "relu"], {}, "activation 'relu' is given twice"),
        (["relu", "relu()"], {}, r"activation 'relu\(\)' is given twice"),
        (["relu"], {"folds": 1}, "folds must be an integer >= 2, got 1: with one fold there is no test set"),
        (
            ["relu"],
            {"folds": 31},
            "folds must be <= 30, got 31: the smallest class of made up, 'rare', has 30 samples",
        ),
        (["relu"], {"jobs": 0}, "jobs must be an integer >= 1, got 0"),
        (["relu"], {"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        (["relu"], {"precision": "fp8"}, "precision must be 'float32' or 'bf16', got 'fp8'"),
        (["relu"], {"tune": {"batch_size": [32, 0]}}, "batch_size must be an integer >= 1, got 0"),
        (["relu"], {"tune": {"max_epochs": ["many"]}}, "max_epochs must be an integer >= 1, got 'many'"),
        (["relu"], {"tune": {"device": ["cpu", "cuda:99"]}}, "device must be available, got 'cuda:99'"),
        (["relu"], {"tune": "lr"}, "tune must be 'auto', None or a dictionary such as .* got 'lr'"),
        (["relu"], {"tune": {1: [2]}}, "tune contains 1, which is not a parameter of the skorch net"),
        (["relu"], {"executor": "dask"}, "executor must be a concurrent.futures.Executor, got 'dask'"),
        (
            ["relu"],
            {"module": f"{__name__}:SHORT"},
            "module has the type dict; it must be an nn.Module, its class, a function that returns one",
        ),
        (["reluu", "tahn"], {"folds": 31}, "'relu'.*'tanh'.*folds must be <= 30, got 31"),
    ],
)
def test_compare_rejects_invalid_arguments(dataset, activations, options, message):
    with pytest.raises(UsageError, match=message):
        compare(activations, dataset, **{"tune": None, **options})


def test_comparison_config_rejects_folds_with_too_few_samples():
    y = np.arange(12) % 2
    small = Dataset(np.eye(12, dtype=np.float32), y, "small", "0" * 16, (0, 1))
    with pytest.raises(UsageError, match="the largest class has only 4 samples"):
        ComparisonConfig(activations=["relu"], dataset=small, jobs=1, tune=None)


@pytest.mark.parametrize("diagnostics", [None, True, False])
def test_compare_describes_the_epochs_of_its_diagnostics(diagnostics):
    comparison = actlab.compare(["relu", "tanh"], "digits", epochs=13, diagnostics=diagnostics, tune=None)
    described = comparison.about["diagnostics"]
    if diagnostics is False:
        assert described == {"off": "they were switched off"}
        assert comparison.diagnostics.empty
    else:
        assert described["measured_epochs"] == sorted(comparison.diagnostics["epoch"].unique())

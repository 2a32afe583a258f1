"""Comparisons on tables: each column is scaled by the training samples of its fold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import psutil
import pytest
import sklearn.datasets
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from actlab import UsageError, compare, load_data
from actlab.models.random_streams import WEIGHTS, seeded_torch
from actlab.training.settings import TrainSettings
from actlab.training.train import make_net, train
from tests.comparison_plans import make_plan

SHORT = {"tune": None, "epochs": 4, "hidden": (16,)}
SETTINGS = TrainSettings(epochs=4, hidden=(16,))


def as_float32() -> FunctionTransformer:
    return FunctionTransformer(np.float32)


def score_pipeline(data, X, y, folds, *transformers) -> list[float]:
    """Score a pipeline of scikit-learn and the reference network as cross_val_score does.

    The initial weights are those of the runs of a comparison: they depend on the seed and the fold.
    """
    scores = []
    for fold, (rows, test) in enumerate(folds.split(X, y)):
        pipeline = make_pipeline(*map(clone, transformers), as_float32(), make_net(data, "relu", SETTINGS))
        with seeded_torch(0, fold, WEIGHTS, "cpu"):
            pipeline[-1].initialize()
        pipeline[-1].set_params(warm_start=True)
        part = X.iloc if isinstance(X, pd.DataFrame) else X
        pipeline.fit(part[rows], y[rows])
        scores.append(pipeline.score(part[test], y[test]))
    return scores


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "iris"])
def test_compare_scores_a_csv_table_like_a_pipeline_of_scikit_learn(tmp_path, name):
    bunch = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
    bunch.frame.to_csv(path := tmp_path / "table.csv", index=False)
    comparison = compare(["relu"], path, target="target", **SHORT)
    data, y = load_data(path, target="target"), bunch.target.to_numpy()
    expected = score_pipeline(data, bunch.data.to_numpy(), y, StratifiedKFold(3), StandardScaler())
    assert comparison.results["score"].to_list() == expected


def test_compare_scores_a_regression_like_a_pipeline_of_scikit_learn(tmp_path):
    bunch = sklearn.datasets.load_diabetes(as_frame=True, scaled=False)
    bunch.frame.to_csv(path := tmp_path / "table.csv", index=False)
    comparison = compare(["relu"], path, target="target", regression=True, **SHORT)
    data = load_data(path, target="target", regression=True)
    X = bunch.data.to_numpy()
    # sex has two levels that are numbers
    expected = score_pipeline(data, X, data.y, KFold(3), StandardScaler())
    assert comparison.results["score"].to_list() == pytest.approx(expected, abs=1e-6)


def make_mixed_frame() -> pd.DataFrame:
    """Return a table with text, truth values and missing numbers whose labels depend on all of them."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    size = np.where(rng.random(120) < 0.1, np.nan, 1000 + 50 * rng.normal(size=120) + 40 * y)
    colour = np.array(["red", "green", "blue", "grey"])[(y + (rng.random(120) < 0.3)) % 4]
    return pd.DataFrame({"size": size, "colour": colour, "flag": y + rng.random(120) > 1.5, "kind": y})


def test_compare_scores_a_mixed_table_like_a_pipeline_of_scikit_learn(tmp_path):
    frame = make_mixed_frame()
    data = load_data(frame, target="kind")
    numbers = make_pipeline(
        ColumnTransformer(
            [
                ("size", FunctionTransformer(lambda X: np.column_stack([X, np.isnan(X)])), ["size"]),
                ("colour", OneHotEncoder(sparse_output=False, drop="if_binary"), ["colour", "flag"]),
            ]
        ),
        StandardScaler(),
        FunctionTransformer(np.nan_to_num),
    )
    y = frame["kind"].to_numpy()
    expected = score_pipeline(data, frame.drop(columns="kind"), y, StratifiedKFold(3), numbers)
    comparison = compare(["relu"], frame, target="kind", **SHORT)
    assert comparison.results["score"].to_list() == expected
    assert comparison.about["preprocessing"] == (
        "7 features from 1 numeric (2 columns), 2 categories (5 columns); "
        "15 missing values imputed and marked"
    )
    assert comparison.sentences()[-1] == f"Data: {comparison.about['preprocessing']}."
    frame.to_csv(tmp_path / "mixed.csv", index=False)
    from_file = compare(["relu"], tmp_path / "mixed.csv", target="kind", **SHORT)
    assert from_file.results["score"].to_list() == expected


# ---- no information about the test samples -----------------------------------------------------------------


def test_compare_trains_without_information_about_the_test_samples():
    frame = make_mixed_frame()
    test = next(StratifiedKFold(3).split(frame, frame["kind"]))[1]
    changed = frame.copy()
    changed.loc[test, "size"] = 1e6 * np.arange(len(test))
    changed.loc[test, "flag"] = False
    changed.loc[test, "colour"] = changed.loc[test, "colour"].to_numpy()[::-1]
    before, after = (compare(["relu"], data, target="kind", **SHORT) for data in (frame, changed))
    losses = ["train_loss", "valid_loss"]
    one, other = (c.history[c.history["fold"] == 1][losses].to_numpy() for c in (before, after))
    np.testing.assert_array_equal(one, other)
    others = [c.history[c.history["fold"] == 2]["train_loss"].to_numpy() for c in (before, after)]
    assert (others[0] != others[1]).all()  # its training samples have changed


def test_compare_ignores_a_level_that_only_test_samples_have():
    frame = make_mixed_frame()
    test = next(StratifiedKFold(3).split(frame, frame["kind"]))[1]
    frame.loc[test, "colour"] = "violet"
    plan = make_plan(load_data(frame, target="kind"), ["relu"])
    run = plan.runs(["relu"], range(1))[0]
    violet = plan.features.X[run.test][:, 2 + 4]
    assert plan.dataset.encoded[test, 2 + 4].all()
    assert not violet.any()


@pytest.mark.parametrize("seeds", [1, 4])
def test_plan_scales_the_features_of_each_run_by_its_training_samples(seeds):
    frame = make_mixed_frame()
    data = load_data(frame, target="kind")
    plan = make_plan(data, ["relu", "tanh"], seeds=seeds)
    runs = plan.runs(["relu", "tanh"], range(seeds))
    splits = max(1, seeds // 2)
    assert len(plan.features.X) == len(plan.features.y) == 3 * splits * len(data.y)
    for run in runs:
        rows, test = plan.make_folds(run.split)[run.fold]
        np.testing.assert_array_equal(plan.features.X[run.rows], data.scale(rows)[rows])
        np.testing.assert_array_equal(plan.features.X[run.test], data.scale(rows)[test])
        np.testing.assert_array_equal(plan.features.y[run.test], data.y[test])
        assert set(run.run.rows) | set(run.run.valid) == set(run.rows)


def test_plan_keeps_the_indices_of_runs_when_seeds_are_added():
    data = load_data(make_mixed_frame(), target="kind")
    few, many = (make_plan(data, ["relu"], seeds=seeds) for seeds in (2, 6))
    last = many.runs(["relu"], range(4, 6))  # the last split is planned first
    assert len(many.features.X) == 9 * len(data.y)
    for a, b in zip(few.runs(["relu"], range(2)), many.runs(["relu"], range(2)), strict=True):
        np.testing.assert_array_equal(a.run.rows, b.run.rows)
        np.testing.assert_array_equal(few.features.X[a.rows], many.features.X[b.rows])
    assert min(run.rows.min() for run in last) >= 6 * len(data.y)


def test_plan_has_one_block_of_features_with_a_common_scale():
    data = load_data("digits")
    plan = make_plan(data, ["relu"], seeds=4)
    plan.runs(["relu"], range(4))
    assert plan.features.X is data.X
    assert plan.features.y is data.y


def test_plan_refuses_more_blocks_than_memory_holds(monkeypatch):
    plan = make_plan(load_data(make_mixed_frame(), target="kind"), ["relu"], seeds=2)
    free = psutil.virtual_memory()._replace(available=5000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    message = "DataFrame: the scaled features of all folds need .* use fewer seeds or folds"
    with pytest.raises(UsageError, match=message):
        plan.runs(["relu"], range(2))


# ---- the ledger, processes, rounds and tuning --------------------------------------------------------------


def test_compare_resumes_a_table_from_the_ledger_and_trains_only_new_seeds(tmp_path, capsys):
    frame, ledger = make_mixed_frame(), tmp_path / "ledger.sqlite"
    options = {"target": "kind", "ledger": ledger, "verbose": 1, **SHORT}
    first = compare(["relu", "tanh"], frame, seeds=2, **options)
    more = compare(["relu", "tanh"], frame, seeds=4, **options)
    assert "12 of 24 runs are from the ledger" in capsys.readouterr().err
    both = more.results[more.results["seed"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, first.results)
    without = compare(["relu", "tanh"], frame, seeds=4, target="kind", **SHORT)
    assert without.results["score"].to_list() == more.results["score"].to_list()
    compare(["relu", "tanh"], frame.assign(size=frame["size"] * 3), seeds=2, **options)
    compare(["relu", "tanh"], frame.fillna(0), seeds=2, **options)
    compare(["relu", "tanh"], frame.fillna(0), seeds=2, scale="none", **options)
    assert "from the ledger" not in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"jobs": 2}, {"until_decided": True, "budget": 24}])
def test_compare_has_the_same_scores_in_processes_and_in_rounds(options):
    frame = make_mixed_frame()
    plain = compare(["relu", "tanh"], frame, target="kind", seeds=4, **SHORT).results
    seeds = {} if "until_decided" in options else {"seeds": 4}
    other = compare(["relu", "tanh"], frame, target="kind", **seeds, **options, **SHORT).results
    labels = ["activation", "split", "fold", "seed", "score"]
    both = other[labels].merge(plain[labels], on=labels[:4])
    assert len(both) >= 12
    assert both["score_x"].to_list() == both["score_y"].to_list()


def test_compare_tunes_and_scores_a_table_with_any_scorer():
    frame = make_mixed_frame()
    options = {"target": "kind", "epochs": 2, "hidden": (8,), "scoring": "neg_log_loss"}
    comparison = compare(["relu"], frame, **options)
    assert comparison.results["failure"].eq("").all()
    assert (comparison.results["score"] < 0).all()
    matched = compare(["relu"], frame, **{**options, "tune": {"init": ["torch", "matched"]}})
    assert set(matched.tuning["init"]) == {"torch", "matched"}


# ---- data that compare and train take ----------------------------------------------------------------------


def test_compare_takes_frames_arrays_tensors_and_torch_datasets():
    frame = make_mixed_frame().fillna(1000.0)
    frame["colour"] = pd.factorize(frame["colour"])[0]
    X, y = frame.drop(columns="kind").to_numpy(np.float32).copy(), frame["kind"].to_numpy().copy()
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    arrays = compare(["relu"], (X, y), **SHORT)
    pair = frame.drop(columns="kind"), frame["kind"]
    for data in (tensors, torch.utils.data.TensorDataset(*tensors), pair):
        other = compare(["relu"], data, **SHORT)
        assert other.results["score"].to_list() == arrays.results["score"].to_list()
    whole = compare(["relu"], frame, target="kind", **SHORT)
    assert whole.results["score"].to_list() == arrays.results["score"].to_list()
    with pytest.raises(UsageError, match="cannot load data of type dict; pass a name"):
        compare(["relu"], {"X": X})
    with pytest.raises(UsageError, match="DataFrame: set target; the label column is one of size, colour, f"):
        compare(["relu"], frame)


def test_train_scales_a_table_by_the_samples_that_are_not_held_out():
    frame = make_mixed_frame()
    net = train(frame, "relu", SETTINGS, target="kind")
    changed = frame.copy()
    held_out = net.get_split_datasets(np.zeros((120, 1), np.float32), frame["kind"].to_numpy())[1].indices
    changed.loc[held_out, "size"] *= 1000
    losses = [one["train_loss"] for one in net.history]
    assert [one["train_loss"] for one in train(changed, "relu", SETTINGS, target="kind").history] == losses


# ---- images ------------------------------------------------------------------------------------------------


class Convolutional(torch.nn.Module):
    """A network that takes images (n, 2, 6, 5) only."""

    def __init__(self, act_layer=torch.nn.ReLU):
        super().__init__()
        self.convolution, self.act = torch.nn.Conv2d(2, 4, 3), act_layer()
        self.readout = torch.nn.Linear(4 * 4 * 3, 3)

    def forward(self, x):
        return self.readout(self.act(self.convolution(x)).flatten(1))


def make_images() -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(90) % 3
    images = np.random.default_rng(0).normal(size=(90, 2, 6, 5))
    images[np.arange(90), 0, y] += 2
    return images, y


@pytest.mark.parametrize("scale", ["common", "columns"])
def test_compare_gives_images_to_a_module_that_takes_no_flat_samples(scale):
    images, y = make_images()
    comparison = compare(["relu"], (images, y), module=Convolutional, scale=scale, tune=None, epochs=4)
    assert comparison.results["failure"].eq("").all()
    assert comparison.about["preprocessing"].endswith("the network gets images (2, 6, 5)")
    flat = torch.nn.Sequential(torch.nn.Unflatten(1, (2, 6, 5)), Convolutional())
    expected = compare(["relu"], (images, y), module=flat, scale=scale, tune=None, epochs=4)
    assert comparison.results["score"].to_list() == expected.results["score"].to_list()
    assert "images" not in expected.about["preprocessing"]


def test_compare_reports_both_errors_of_a_module_that_takes_neither_images_nor_flat_samples():
    wrong = torch.nn.Sequential(torch.nn.Linear(7, 3), torch.nn.ReLU())
    message = r"cannot be multiplied \(2x60 and 7x3\); on images \(2, 6, 5\): .*\(24x5 and 7x3\)"
    with pytest.raises(UsageError, match=message):
        compare(["relu"], make_images(), module=wrong, tune=None)


def test_as_images_keeps_the_dataset():
    data = load_data(make_images(), scale="columns")
    images = data.as_images()
    assert images.X.shape == (90, 2, 6, 5)
    assert images.num_features == data.num_features == 60
    np.testing.assert_array_equal(images.scale(range(40)).reshape(90, 60), data.scale(range(40)))
    assert images.fingerprint == data.fingerprint

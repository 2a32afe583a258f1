import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedKFold,
)
from torch import nn

from actlab import UsageError
from tests.searches import (
    ACTIVATIONS,
    ROWS,
    Counting,
    X,
    Y,
    classifier,
    fit_by_skorch,
    grid_search,
    one_thread,
    score_matrix,
    search,
)

__all__ = ["one_thread"]

GRIDS = {
    "one": ACTIVATIONS,
    "list": [
        {"module__activation": ["relu"], "lr": [0.1, 0.01]},
        {"module__num_units": [4, 8, 6], "max_epochs": [1]},
        {"batch_size": [10]},
    ],
    "optimizers": {"optimizer": [torch.optim.SGD, torch.optim.Adam], "module__num_units": np.array([4, 6])},
    "betas": {"optimizer": [torch.optim.Adam], "optimizer__betas": [(0.9, 0.99), (0.8, 0.9)]},
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"]], ids=["score", "scores"])
def test_search_cv_results_have_the_keys_types_and_masks_of_scikit_learn(grid, scoring):
    options = {"scoring": scoring, "refit": False, "return_train_score": True}
    ours = search(grid=grid, **options).fit(X, Y)
    theirs = grid_search(grid=grid, **options).fit(X, Y)
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    for name, expected in theirs.cv_results_.items():
        fitted = ours.cv_results_[name]
        assert type(fitted) is type(expected), name
        if name != "params":
            assert (fitted.dtype, fitted.shape) == (expected.dtype, expected.shape), name
        if name.startswith("param_"):
            assert np.array_equal(np.ma.getmaskarray(fitted), np.ma.getmaskarray(expected)), name
            assert fitted.compressed().tolist() == expected.compressed().tolist(), name
    assert (ours.n_splits_, ours.multimetric_) == (theirs.n_splits_, theirs.multimetric_)
    assert vars(ours).keys() - vars(theirs).keys() <= {"executor", "ledger", "seeds", "precision", "runs_"}


def test_search_has_every_attribute_of_grid_search():
    ours, theirs = search().fit(X, Y), grid_search().fit(X, Y)
    public = {name for name in vars(theirs) if not name.startswith("_")}
    assert public == vars(ours).keys() - {"executor", "ledger", "seeds", "precision", "runs_"} - {
        "_sklearn_version"
    }


def test_search_runs_equal_skorch_with_the_same_weights_and_samples():
    model = classifier(module__activation="tanh")
    grid = {"lr": [0.1, 0.02], "module__num_units": [4, 8]}
    fitted = search(model, grid, scoring="neg_log_loss", return_train_score=True).fit(X, Y)
    for number, parameters in enumerate(fitted.cv_results_["params"]):
        for fold, (train, test) in enumerate(StratifiedKFold(3).split(X, Y)):
            expected_network = fit_by_skorch(
                copy.deepcopy(model).set_params(**parameters), X[train], Y[train], 0, fold
            )
            for part, rows in {"train": train, "test": test}.items():
                score = -nn.functional.cross_entropy(
                    torch.from_numpy(expected_network.forward(X[rows]).numpy()), torch.from_numpy(Y[rows])
                )
                assert score_matrix(fitted, f"{part}_score")[number, fold] == pytest.approx(
                    score.item(), abs=1e-6
                )


def test_search_computes_ranks_and_means_from_the_splits():
    fitted = search(grid={"lr": [0.3, 1e-6, 0.1], "module__activation": ["relu", "tanh"]}).fit(X, Y)
    table = score_matrix(fitted)
    assert np.array_equal(fitted.cv_results_["mean_test_score"], table.mean(axis=1))
    assert np.array_equal(fitted.cv_results_["std_test_score"], table.std(axis=1))
    means = table.mean(axis=1)
    assert fitted.cv_results_["rank_test_score"].tolist() == [1 + int((means > m).sum()) for m in means]
    assert fitted.best_index_ == means.argmax()
    assert fitted.best_score_ == means.max()
    assert fitted.best_params_ == fitted.cv_results_["params"][fitted.best_index_]


def test_search_reports_fit_times_per_run():
    fitted = search(seeds=2).fit(X, Y)
    seconds = fitted.runs_["seconds"].to_numpy().reshape(2, 6)
    assert (seconds > 0).all()
    assert np.array_equal(fitted.cv_results_["mean_fit_time"], seconds.mean(axis=1))
    assert np.array_equal(fitted.cv_results_["std_fit_time"], seconds.std(axis=1))


# -- scoring and refit --------------------------------------------------------------------------------


def both_scores(model, X, y):
    right = accuracy_score(y, model.predict(X))
    return {"right": right, "wrong": 1 - right}


@pytest.mark.parametrize(
    "scoring",
    [
        ["accuracy", "f1_macro"],
        ("accuracy", "f1_macro"),
        {"accuracy": "accuracy", "own": make_scorer(accuracy_score)},
        both_scores,
    ],
    ids=["list", "tuple", "dict", "callable"],
)
def test_search_computes_several_scores(scoring):
    name = "right" if scoring is both_scores else "accuracy"
    fitted = search(scoring=scoring, refit=name).fit(X, Y)
    expected = score_matrix(search().fit(X, Y))
    assert np.array_equal(score_matrix(fitted, f"test_{name}"), expected)
    assert fitted.multimetric_ is True
    assert fitted.best_score_ == expected.mean(axis=1).max()
    assert fitted.score(X, Y) == accuracy_score(Y, fitted.predict(X))


def test_search_refit_chooses_the_refitted_candidate():
    assert not hasattr(search(refit=False).fit(X, Y), "best_estimator_")
    worst = search(refit=lambda results: int(results["mean_test_score"].argmin())).fit(X, Y)
    assert worst.best_index_ == worst.cv_results_["mean_test_score"].argmin()
    assert not hasattr(worst, "best_score_")
    assert worst.best_estimator_.module__activation == worst.best_params_["module__activation"]
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        search(scoring=["accuracy", "f1_macro"]).fit(X, Y)


def test_search_best_estimator_equals_skorch_on_all_samples():
    fitted = search(seeds=[7, 8]).fit(X, Y)
    model = classifier().set_params(**fitted.best_params_)
    expected_network = fit_by_skorch(model, X, Y, seed=7, fold=3)
    for name, weight in fitted.best_estimator_.module_.state_dict().items():
        torch.testing.assert_close(weight, expected_network.module_.state_dict()[name], rtol=1e-5, atol=1e-6)
    ours, theirs = (
        pd.DataFrame(list(n.history)).drop(columns=["batches", "dur"], errors="ignore")
        for n in (fitted.best_estimator_, expected_network)
    )
    pd.testing.assert_frame_equal(ours[sorted(ours)], theirs[sorted(theirs)], rtol=1e-5)


@pytest.mark.parametrize("name", ["accuracy_", "acuracy"])
def test_search_rejects_a_wrong_scoring_name_before_training(name):
    module = Counting.of(fails=False)
    with pytest.raises(ValueError, match="scoring"):
        search(classifier(module=module), {"lr": [0.1]}, scoring=name).fit(X, Y)
    assert module.made == 0


# -- splits -------------------------------------------------------------------------------------------


GROUPS = np.arange(ROWS) // 30


@pytest.mark.parametrize(
    ("cv", "params"),
    [
        (4, {}),
        (None, {}),
        (KFold(3, shuffle=True, random_state=0), {}),
        ([(np.arange(0, 90), np.arange(90, 150)), (list(range(60, 150)), list(range(60)))], {}),
        ([(np.arange(ROWS) < 90, np.arange(ROWS) >= 90)], {}),
        (GroupKFold(3), {"groups": GROUPS}),
        (LeaveOneGroupOut(), {"groups": GROUPS}),
    ],
    ids=["int", "none", "splitter", "indices", "masks", "groups", "one group out"],
)
def test_search_uses_the_splits_of_scikit_learn(cv, params):
    scored_rows = {"ours": [], "theirs": []}

    def scoring(which):
        def note(model, X, y):
            scored_rows[which].append(X[:, 0].tolist())
            return 0.0

        return note

    model = classifier(max_epochs=1)
    ours = search(model, {"lr": [0.1]}, cv=cv, scoring=scoring("ours"), refit=False).fit(X, Y, **params)
    theirs = GridSearchCV(model, {"lr": [0.1]}, cv=cv, scoring=scoring("theirs"), refit=False)
    theirs.fit(X, Y, **params)
    assert scored_rows["ours"] == scored_rows["theirs"]
    assert ours.n_splits_ == theirs.n_splits_
    assert ours.runs_["reason_alone"].eq("").all()


def test_search_accepts_a_generator_of_splits():
    splits = list(KFold(3).split(X))
    expected = score_matrix(search(cv=splits).fit(X, Y))
    assert np.array_equal(score_matrix(search(cv=(pair for pair in splits)).fit(X, Y)), expected)


class Drawing(ShuffleSplit):
    times = 0

    def split(self, X, y=None, groups=None):
        self.times += 1
        return super().split(X, y, groups)


def test_search_draws_random_splits_once():
    cv = Drawing(2, test_size=0.5, random_state=None)
    rows = []

    def note(model, X, y):
        rows.append(tuple(X[:, 0].tolist()))
        return 0.0

    search(cv=cv, scoring=note, seeds=2, refit=False).fit(X, Y)
    assert cv.times == 1
    assert len(rows) == 8
    assert rows == rows[:2] * 4


class CustomSplitter:
    """A user-written splitter: groups have no default, and there is no base class."""

    def get_n_splits(self, X, y, groups):
        return 2

    def split(self, X, y, groups):
        assert groups is None
        return iter(KFold(2).split(X))


def test_search_accepts_a_splitter_without_base_class():
    assert search(cv=CustomSplitter()).fit(X, Y).n_splits_ == 2


# -- seeds --------------------------------------------------------------------------------------------


def test_search_orders_splits_by_seed_and_fold():
    options = {"scoring": "neg_log_loss", "refit": False}
    both = search(seeds=[7, 8], **options).fit(X, Y)
    seven, eight = (search(seeds=[seed], **options).fit(X, Y) for seed in (7, 8))
    assert both.n_splits_ == 6
    parts = np.hstack([score_matrix(seven), score_matrix(eight)])
    np.testing.assert_allclose(score_matrix(both), parts, rtol=1e-6)  # the rounding depends on the fleet
    assert both.runs_["seed"].tolist() == [7, 7, 7, 8, 8, 8] * 2
    assert both.runs_["fold"].tolist() == [0, 1, 2] * 4
    assert both.runs_["candidate"].tolist() == [0] * 6 + [1] * 6
    assert not np.array_equal(score_matrix(seven), score_matrix(eight))


def test_search_seeds_as_a_number_count_from_zero():
    options = {"scoring": "neg_log_loss", "refit": False}
    assert np.array_equal(
        score_matrix(search(seeds=2, **options).fit(X, Y)),
        score_matrix(search(seeds=[0, 1], **options).fit(X, Y)),
    )


@pytest.mark.parametrize("seeds", [0, -1, 1.5, "2", None, [], [-1], [0.5], [2**32], True])
def test_search_rejects_invalid_seeds(seeds):
    with pytest.raises(UsageError, match="seeds must be an integer >= 1 or a list of seeds"):
        search(seeds=seeds).fit(X, Y)


@pytest.mark.parametrize("precision", ["float16", "BF16", None, 32])
def test_search_rejects_an_invalid_precision(precision):
    with pytest.raises(UsageError, match="precision must be"):
        search(precision=precision).fit(X, Y)


def test_search_in_bfloat16_is_close_to_float32():
    model = classifier(module__num_units=256)  # small layers stay in float32
    exact, rough = (
        score_matrix(search(model, scoring="neg_log_loss", precision=p, refit=False).fit(X, Y))
        for p in ("float32", "bf16")
    )
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, atol=0.02)

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn
import skorch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import NotFittedError, check_is_fitted
from torch import nn

from actlab import FleetSearchCV, NeuralNet, UsageError
from tests.searches import (
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
LR = {"lr": [0.1, 0.05]}
NOT_COMPARED = {"mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"}


def same_results(ours, theirs):
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, values in theirs.cv_results_.items():
        if name not in NOT_COMPARED:
            np.testing.assert_array_equal(ours.cv_results_[name], values, err_msg=name)


# -- an estimator like any other ----------------------------------------------------------------------


def test_search_fit_leaves_constructor_arguments_unchanged():
    model, grid, cv = classifier(), {"module__activation": ["relu", nn.PReLU()]}, KFold(3)
    arguments = {
        "estimator": model,
        "param_grid": grid,
        "cv": cv,
        "scoring": ["accuracy"],
        "refit": "accuracy",
    }
    fitted = FleetSearchCV(**arguments, n_jobs=1, seeds=[3])
    before, attributes = fitted.get_params(), vars(model).keys()
    text = {name: repr(value) for name, value in model.get_params(deep=False).items()}
    fitted.fit(X, Y)
    after = fitted.get_params()
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in arguments)
    assert {name: repr(value) for name, value in model.get_params(deep=False).items()} == text
    assert vars(model).keys() == attributes
    assert not model.initialized_
    assert type(model) is skorch.NeuralNetClassifier


def test_search_get_params_and_set_params():
    fitted = search()
    params = {"estimator__max_epochs": 1, "seeds": 2, "precision": "bf16", "cv": 2}
    fitted.set_params(**params)
    assert {name: fitted.get_params()[name] for name in params} == params
    assert fitted.estimator.max_epochs == 1
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        fitted.set_params(nonsense=1)
    assert list(FleetSearchCV(fitted.estimator, {}).get_params(deep=False)) == sorted(
        fitted.get_params(deep=False)
    )
    assert "FleetSearchCV(cv=2" in repr(fitted)


def test_search_clone_is_unfitted_and_shares_the_executor():
    with ThreadPoolExecutor(1) as executor:
        fitted = search(executor=executor, grid=LR, seeds=[4, 5]).fit(X, Y)
        cloned = clone(fitted)
        assert cloned.executor is executor
        assert fitted.executor is executor
        assert cloned.estimator is not fitted.estimator
        assert cloned.seeds == [4, 5]
        with pytest.raises(NotFittedError):
            check_is_fitted(cloned)
        assert np.array_equal(score_matrix(cloned.fit(X, Y)), score_matrix(fitted))


@pytest.mark.parametrize("threads", [False, True])
def test_search_can_be_pickled_after_fit(threads):
    with ThreadPoolExecutor(1) as executor:
        fitted = search(executor=executor if threads else None, grid=LR).fit(X, Y)
        for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):  # noqa: S301
            assert again.executor is None
            same_results(again, fitted)
            assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
            assert again.runs_.equals(fitted.runs_)
            assert again.score(X, Y) == fitted.score(X, Y)
        assert fitted.executor is (executor if threads else None)


def test_search_before_fit_raises_not_fitted():
    fitted = search()
    with pytest.raises(NotFittedError):
        fitted.predict(X)
    assert hasattr(fitted, "predict_proba")
    assert not hasattr(search(refit=False), "predict")


def test_search_has_the_type_of_its_estimator():
    assert is_classifier(search())
    assert is_regressor(search(skorch.NeuralNetRegressor(NeuralNet)))


# -- the best model -----------------------------------------------------------------------------------


class CustomClassifier(skorch.NeuralNetClassifier):
    def twice(self):
        return 2


def test_search_best_estimator_has_the_estimators_class_and_can_train_on():
    fitted = search(classifier(CustomClassifier), LR).fit(X, Y)
    best = fitted.best_estimator_
    assert type(best) is CustomClassifier
    assert best.twice() == 2
    assert [row["epoch"] for row in best.history] == [1, 2]
    assert {"train_loss", "valid_loss", "valid_acc", "dur"} <= best.history[-1].keys()
    again = pickle.loads(pickle.dumps(best))  # noqa: S301
    assert np.array_equal(again.predict_proba(X), best.predict_proba(X))
    again.partial_fit(X, Y)
    assert [row["epoch"] for row in again.history] == [1, 2, 3, 4]
    assert again.history[-1]["train_loss"] < best.history[-1]["train_loss"]
    assert clone(best).fit(X, Y).history[-1]["epoch"] == 2


def test_search_predicts_with_its_best_estimator():
    fitted = search(grid=LR).fit(X, Y)
    best = fitted.best_estimator_
    assert np.array_equal(fitted.predict(X), best.predict(X))
    assert np.array_equal(fitted.predict_proba(X), best.predict_proba(X))
    assert fitted.score(X, Y) == accuracy_score(Y, best.predict(X))
    assert np.array_equal(fitted.classes_, [0, 1, 2])
    assert fitted.refit_time_ > 0


# -- pipelines and nesting ----------------------------------------------------------------------------


def test_search_works_within_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), search(grid=LR)).fit(X, Y)
    fitted = pipeline[-1]
    assert fitted.runs_["reason_alone"].eq("").all()
    expected = clone(fitted).fit(StandardScaler().fit_transform(X), Y)
    same_results(fitted, expected)
    assert np.array_equal(pipeline.predict(X), expected.predict(pipeline[0].transform(X)))


def test_search_of_a_pipeline_falls_back_to_scikit_learn():
    pipeline = make_pipeline(StandardScaler(), classifier(train_split=None, max_epochs=1))
    fitted = FleetSearchCV(pipeline, {"neuralnetclassifier__lr": [0.1, 0.2]}, cv=2, n_jobs=1).fit(X, Y)
    assert fitted.cv_results_["split0_test_score"].shape == (2,)


def test_search_works_in_nested_cross_validation():
    outer = cross_val_score(search(grid=LR), X, Y, cv=KFold(2, shuffle=True, random_state=0))
    splits = KFold(2, shuffle=True, random_state=0).split(X)
    expected = [search(grid=LR).fit(X[a], Y[a]).score(X[b], Y[b]) for a, b in splits]
    assert outer.tolist() == expected


def test_search_works_in_a_grid_search():
    outer = GridSearchCV(search(grid=LR, scoring="neg_log_loss"), {"seeds": [1, 2]}, cv=2).fit(X, Y)
    assert outer.best_estimator_.n_splits_ in (3, 6)


# -- metadata -----------------------------------------------------------------------------------------


class Scaling(nn.Module):
    def __init__(self, **sizes):
        super().__init__()
        self.net = NeuralNet(**sizes)

    def forward(self, X, scale=1.0):
        return self.net(X) * scale


def test_search_with_fit_parameters_trains_by_skorch():
    model = classifier(module=Scaling, train_split=None)
    fitted = search(model, LR, scoring="neg_log_loss", refit=False).fit(X, Y, scale=0.0)
    assert fitted.runs_["reason_alone"].eq("fit gets scale, which a fleet does not pass on").all()
    assert fitted.runs_["how"].eq("skorch").all()
    assert fitted.runs_["failure"].eq("").all()
    assert np.array_equal(
        score_matrix(fitted)[0], score_matrix(fitted)[1]
    )  # the models learn nothing with a scale of 0


def weighted_scorer():
    return make_scorer(accuracy_score).set_score_request(sample_weight=True)


def test_search_routes_metadata_to_scorers_and_splitters():
    weights, groups = np.linspace(0, 1, ROWS), np.arange(ROWS) // 30
    with sklearn.config_context(enable_metadata_routing=True):
        cv = GroupKFold(3).set_split_request(groups=True)
        fitted = search(grid=LR, cv=cv, scoring=weighted_scorer()).fit(
            X, Y, sample_weight=weights, groups=groups
        )
        plain = search(grid=LR, cv=cv).fit(X, Y, groups=groups)
    assert fitted.runs_["reason_alone"].eq("").all()
    assert np.array_equal(
        score_matrix(plain), score_matrix(search(grid=LR, cv=GroupKFold(3)).fit(X, Y, groups=groups))
    )
    rows = next(GroupKFold(3).split(X, Y, groups))
    first = fit_by_skorch(classifier(**fitted.cv_results_["params"][0]), X[rows[0]], Y[rows[0]])
    right = accuracy_score(Y[rows[1]], first.predict(X[rows[1]]), sample_weight=weights[rows[1]])
    assert score_matrix(fitted)[0, 0] == pytest.approx(right)
    assert not np.array_equal(score_matrix(fitted), score_matrix(plain))


def test_search_rejects_unrequested_metadata_like_scikit_learn():
    messages = []
    with sklearn.config_context(enable_metadata_routing=True):
        for kind in (search, grid_search):
            with pytest.raises(ValueError, match="sample_weight") as error:
                kind(grid=LR).fit(X, Y, sample_weight=np.ones(ROWS))
            messages.append(str(error.value).replace("FleetSearchCV", "GridSearchCV"))
    assert messages[0] == messages[1]


def test_search_passes_routed_metadata_on():
    weights = np.linspace(0, 1, ROWS)
    with sklearn.config_context(enable_metadata_routing=True):
        result = cross_validate(
            search(grid=LR, scoring=weighted_scorer()),
            X,
            Y,
            cv=2,
            scoring=weighted_scorer(),
            params={"sample_weight": weights},
            error_score="raise",
        )
    assert result["test_score"].shape == (2,)


class NoRouting:
    def get_n_splits(self, X=None, y=None, groups=None):
        return 2

    def split(self, X, y=None, groups=None):
        return KFold(2).split(X)


def test_search_routing_works_with_a_splitter_without_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        assert search(grid=LR, cv=NoRouting()).fit(X, Y).n_splits_ == 2


# -- estimators other than skorch networks ------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (LogisticRegression(), {"C": [0.1, 1.0]}),
        (Ridge(), [{"alpha": [0.1, 1.0]}, {"fit_intercept": [False]}]),
    ],
    ids=["classifier", "regressor"],
)
def test_search_of_other_estimators_falls_back_to_scikit_learn(estimator, grid):
    options = {"cv": 3, "return_train_score": True}
    ours = FleetSearchCV(estimator, grid, **options).fit(X, Y)
    theirs = GridSearchCV(estimator, grid, **options).fit(X, Y)
    same_results(ours, theirs)
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert not hasattr(ours, "runs_")
    with pytest.raises(UsageError, match="seeds is 2, but only skorch nets are seeded, not"):
        FleetSearchCV(estimator, grid, seeds=2).fit(X, Y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "grid"),
    [(LogisticRegression(), {"C": [0.1, 1.0]}), (Ridge(), {"alpha": [0.1, 1.0]})],
    ids=["classifier", "regressor"],
)
def test_search_passes_check_estimator_like_grid_search(estimator, grid):
    outcomes = []
    for kind in (FleetSearchCV, GridSearchCV):
        results = check_estimator(kind(estimator, grid, cv=2), on_fail=None, on_skip=None)
        outcomes.append({r["check_name"]: (r["status"], type(r["exception"])) for r in results})
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) > 30


def test_search_subclass_can_have_its_own_parameters():
    class Named(FleetSearchCV):
        def __init__(self, estimator, param_grid, *, name="", cv=None, n_jobs=None, executor=None):
            super().__init__(estimator, param_grid, cv=cv, n_jobs=n_jobs, executor=executor)
            self.name = name

    fitted = clone(Named(classifier(), LR, name="mine", cv=2, n_jobs=1)).fit(X, Y)
    assert fitted.name == "mine"
    assert fitted.runs_["reason_alone"].eq("").all()


def test_search_builds_every_model_once():
    module = Counting.of()
    search(classifier(module=module), {"lr": [0.1]}, refit=False).fit(X, Y)
    trained, handed_out = 3, 3  # the network of the trial is one of those trained
    assert module.made == trained + handed_out

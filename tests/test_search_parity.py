"""FleetSearchCV compared with GridSearchCV on common configurations of skorch, from the same seeds.

The models of GridSearchCV are seeded here like those of FleetSearchCV. Models that train alone then have
identical scores and weights. Models in a fleet agree up to the rounding of float32. Other differences have a
case with their reason, and docs/guide/fleet.md lists them.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, LRScheduler
from torch import nn

from actlab import FleetSearchCV
from actlab.models.random_streams import HOLDOUT, WEIGHTS, derive_seed, seeded_numpy, seeded_torch
from tests.search_cases import ALONE, CASES, DIFFERENT, NUMBERS, RARE, SPLITS, Case
from tests.search_models import Network
from tests.searches import FEATURES, ROWS, X, Y, one_thread

__all__ = ["one_thread"]


def seeded(model, splits, candidates):
    """Return the model in a class whose fits, in GridSearchCV's order, use the seeds of FleetSearchCV."""
    kind, calls = type(model), itertools.count()

    @functools.wraps(kind.fit)
    def fit(self, X, y=None, **fit_params):
        self.__class__ = kind
        call = next(calls)
        fold = call % splits if call < splits * candidates else splits  # the last fit is the refit
        with seeded_torch(0, fold, WEIGHTS, "cpu"), seeded_numpy(derive_seed(0, fold, HOLDOUT)):
            return self.fit(X, y, **fit_params)

    model.__class__ = type(kind.__name__, (kind,), {"fit": fit})
    return model


def create(case, **options):
    defaults = {"module": Network, "criterion": nn.CrossEntropyLoss, "max_epochs": 2, "batch_size": 32}
    return case.kind(**{**defaults, "lr": 0.1, "verbose": 0, **case.net, **options})


def fit_search(kind, case, model):
    X_, y = (X if case.X is None else case.X), (Y if case.y is None else case.y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = kind(model, case.grid, n_jobs=1, **{"cv": SPLITS, "scoring": case.scoring, **case.search})
        return fitted.fit(X_, y, **case.fit)


close = functools.partial(np.allclose, rtol=1e-4, atol=1e-5)  # "four digits" in the guide


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in RARE else ()) for name in CASES]
)
def test_search_results_equal_those_of_grid_search(name):
    case = CASES[name]
    ours = fit_search(FleetSearchCV, case, create(case))
    theirs = fit_search(
        GridSearchCV, case, seeded(create(case), ours.n_splits_, len(ParameterGrid(case.grid)))
    )
    exact = ours.runs_["how"].eq("skorch").all()
    assert case.how == "any" or exact is np.bool_(case.how == ALONE), ours.runs_["reason_alone"][0]
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    same = np.array_equal if exact else close
    for column, values in theirs.cv_results_.items():
        if "score" in column and "time" not in column and values.dtype.kind == "f":
            assert same(ours.cv_results_[column], values), (column, ours.cv_results_[column], values)
    assert ours.best_index_ == theirs.best_index_
    best, other = ours.best_estimator_, theirs.best_estimator_
    if "train_loss" in (best.history or [{}])[0]:
        assert best.history[:, "train_loss"] == pytest.approx(
            other.history[:, "train_loss"], rel=0 if exact else 1e-4
        )
    for (_, weight), (key, right) in zip(
        best.module_.state_dict().items(), other.module_.state_dict().items(), strict=True
    ):
        assert same(weight.float(), right.float()), key


@pytest.mark.parametrize("text", DIFFERENT)
def test_search_results_differ_from_grid_search_as_documented(text):
    case = DIFFERENT[text]
    guide = Path(__file__).parent.parent / "docs" / "guide" / "fleet.md"
    assert text in " ".join(guide.read_text().split())
    ours = fit_search(FleetSearchCV, case, create(case))
    theirs = fit_search(GridSearchCV, case, seeded(create(case), SPLITS, 2))
    again = fit_search(FleetSearchCV, case, create(case))
    first, other, second = (fitted.cv_results_["mean_test_score"] for fitted in (ours, theirs, again))
    assert not close(first, other)
    assert np.array_equal(first, second, equal_nan=True)


class Raising(skorch.callbacks.Callback):
    def on_epoch_end(self, model, **kwargs):
        raise LookupError("nothing there")


FAILING = {
    "float64 features of a float32 module": Case(X=X.astype(float)),
    "int32 labels": Case(y=Y.astype(np.int32)),
    "labels in a list": Case(y=Y.tolist()),
    "labels that are strings": Case(y=np.array(list("abc"))[Y]),
    "labels that are too large": Case(y=Y + 1),
    "labels that are negative": Case(y=Y - 1),
    "integer features": Case(X=np.ones((ROWS, FEATURES), np.int64)),
    "features of Python": Case(X=X.astype(object)),
    "too few features": Case(X=X[:, :3].copy()),
    "too few samples for the folds": Case(X=X[:2], y=Y[:2]),
    "lengths that differ": Case(y=Y[:-1]),
    "a batch of one for batch norm": Case({"module__norm": True, "train_split": None, "batch_size": 74}),
    "a negative learning rate": Case(grid={"lr": [-1.0]}),
    "an unknown argument of the module": Case({"module__height": 3}),
    "an unknown argument of the criterion": Case({"criterion__height": 3}),
    "an unknown argument of the optimizer": Case({"optimizer__height": 3}),
    "a module that is none": Case({"module": lambda: 3}),
    "a callback that raises": Case({"callbacks": [Raising]}),
    "a schedule that ends too early": Case(
        {
            "callbacks": [
                LRScheduler(
                    torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=2, step_every="batch"
                )
            ]
        }
    ),
    "a batch size of 0": Case({"batch_size": 0}),
    "targets of another shape": Case(
        {"criterion": nn.MSELoss}, kind=skorch.NeuralNetRegressor, y=NUMBERS, scoring="r2"
    ),
    "a scorer that raises": Case(scoring=lambda net, X, y: 1 / 0),
    "a scorer that is unknown": Case(scoring="acuracy"),
}


def error_of(kind, case):
    failing = dataclasses.replace(case, search={**case.search, "error_score": "raise"})
    with pytest.raises(Exception, match=r"\w") as caught:
        fit_search(kind, failing, create(case))
    return caught.type, str(caught.value).replace("FleetSearchCV", "GridSearchCV")


@pytest.mark.parametrize("name", FAILING)
def test_search_errors_equal_those_of_grid_search(name):
    assert error_of(FleetSearchCV, FAILING[name]) == error_of(GridSearchCV, FAILING[name])


def test_search_of_a_pipeline_equals_grid_search():
    collected = []
    for kind in (FleetSearchCV, GridSearchCV):
        torch.manual_seed(0)
        model = create(Case({"callbacks": [EarlyStopping(patience=1, threshold=9)], "max_epochs": 4}))
        pipeline = Pipeline([("scale", StandardScaler()), ("net", model)])
        case = Case(grid={"net__lr": [0.1, 0.2], "scale__with_mean": [True, False]})
        collected.append(fit_search(kind, case, pipeline))
    assert np.array_equal(*(one.cv_results_["mean_test_score"] for one in collected))
    assert np.array_equal(*(one.predict_proba(X) for one in collected))

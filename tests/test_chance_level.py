"""The chance level: the score of a predictor that ignores the features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skorch
import torch
from sklearn.metrics import f1_score, get_scorer, make_scorer, mean_absolute_error, roc_auc_score
from torch import nn

from actlab import NeuralNet, compare
from actlab.comparison.chance_level import find_score_range, is_among_chance_scores, score_chance
from actlab.data import Dataset, load_data


class Dead(nn.Module):
    """An activation whose output is always 0."""

    def forward(self, x):
        return x * 0


DEAD = f"{__name__}:Dead"


def rare_positives(share=0.08, n=240, seed=0):
    """Return a dataset with few positive samples that one feature separates."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) < share * n).astype(np.int64)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    X[:, 0] += 2.5 * y
    return Dataset(X, y, "rare", "0" * 16, ("no", "yes"))


def create_weighted_network(**options):
    settings = {"module__num_units": 8, "module__num_features": 3, "module__num_classes": 2}
    loss = {"criterion": nn.CrossEntropyLoss, "criterion__weight": torch.tensor([1.0, 11.5])}
    training = {"max_epochs": 12, "lr": 0.1, "batch_size": 16, "verbose": 0}
    return skorch.NeuralNetClassifier(NeuralNet, **{**settings, **loss, **training, **options})


def statuses(comparison):
    return dict(zip(comparison.ranking["activation"], comparison.ranking["status"], strict=True))


CHANCE = "chance level"


@pytest.mark.parametrize(
    "scoring",
    ["roc_auc", make_scorer(f1_score)],
    ids=["roc_auc", "make_scorer"],
)
def test_compare_measures_chance_with_its_scorer(scoring):
    comparison = compare(
        ["tanh", DEAD], rare_positives(), module=create_weighted_network(), scoring=scoring, tune=None
    )
    assert statuses(comparison) == {"tanh": "", DEAD: CHANCE}
    assert comparison.ranking["rank"].isna().to_list() == [False, True]


def test_compare_tests_accuracy_at_chance_by_a_binomial_test():
    comparison = compare(
        ["tanh", DEAD], rare_positives(0.5), module=create_weighted_network(criterion__weight=None), tune=None
    )
    assert statuses(comparison) == {"tanh": "", DEAD: CHANCE}
    below = compare(
        ["tanh"], rare_positives(), module=create_weighted_network(), tune=None
    )  # its accuracy is below that of the most frequent class
    assert below.ranking["mean"].item() < 0.92
    assert statuses(below)["tanh"] == CHANCE


def test_compare_with_a_loss_as_score_uses_class_frequencies_as_chance_level():
    plain = create_weighted_network(criterion__weight=None, max_epochs=30)
    comparison = compare(["tanh", DEAD], rare_positives(0.3), module=plain, scoring="neg_log_loss", tune=None)
    assert statuses(comparison) == {"tanh": "", DEAD: CHANCE}


@pytest.mark.parametrize(
    ("scoring", "data", "level"),
    [
        (None, "classes", 1 / 3),
        ("balanced_accuracy", "classes", 1 / 3),
        ("f1_macro", "classes", 1 / 6),
        ("neg_log_loss", "classes", -math.log(3)),
        (None, "diabetes", 0.0),
        ("explained_variance", "diabetes", 0.0),
    ],
)
def test_compare_records_the_score_at_chance_level(scoring, data, level):
    y = np.arange(90) % 3
    X = np.random.default_rng(0).normal(size=(90, 3)) + 2 * np.eye(3)[y]
    source = (X, y) if data == "classes" else data
    result = compare(["tanh", DEAD], source, epochs=5, scoring=scoring, hidden=(16, 8), tune=None)
    assert statuses(result)[DEAD] == CHANCE
    assert result.about["chance_level"] == pytest.approx(level, abs=1e-6)
    text = f"{round(level, 4) + 0.0:.4f}"
    assert f"{DEAD} is at chance level ({text}); it has no rank." in result.sentences()


@pytest.mark.parametrize("scoring", ["neg_mean_absolute_error", "explained_variance"])
def test_compare_measures_chance_of_a_regression_with_its_scorer(scoring):
    comparison = compare(
        ["tanh", DEAD], load_data("diabetes"), epochs=15, scoring=scoring, hidden=(16, 8), tune=None
    )
    assert statuses(comparison) == {"tanh": "", DEAD: CHANCE}


def test_compare_reports_no_chance_level_if_the_scorer_needs_the_model():
    def weight(model, X, y):
        return -sum(float(p.detach().abs().sum()) for p in model.module_.parameters())

    comparison = compare(
        ["tanh", DEAD], rare_positives(), module=create_weighted_network(), scoring=weight, tune=None
    )
    assert statuses(comparison) == {"tanh": "", DEAD: ""}


def test_compare_tests_a_callable_that_only_predicts():
    def area(model, X, y):
        return roc_auc_score(y, model.predict_proba(X)[:, 1])

    comparison = compare(
        ["tanh", DEAD], rare_positives(), module=create_weighted_network(), scoring=area, tune=None
    )
    assert statuses(comparison) == {"tanh": "", DEAD: CHANCE}


def test_compare_calls_a_scorer_with_the_name_of_a_metric():
    def accuracy(model, X, y):
        return float(len(X))

    comparison = compare(
        ["tanh"], rare_positives(), module=create_weighted_network(), scoring=accuracy, tune=None
    )
    assert comparison.results["score"].to_list() == [80.0] * 3


def test_compare_uses_r2_for_chance_if_the_loss_differs():
    data = load_data("diabetes")
    model = skorch.NeuralNetRegressor(
        NeuralNet, module__num_units=16, module__num_features=10, module__num_classes=1,
        criterion=nn.L1Loss, max_epochs=15, lr=0.01, verbose=0,
    )  # fmt: skip
    comparison = compare(["tanh", DEAD], data, module=model, tune=None)
    assert comparison.about["metric"] == "r2"
    assert statuses(comparison)[DEAD] == CHANCE
    assert (statuses(comparison)["tanh"] == "") == (comparison.ranking["mean"].max() > 0)


# -- predictors -----------------------------------------------------------------------------------


def baseline(scoring, y, folds=3):
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    parts = [y[fold::folds] for fold in range(folds)]
    return [score_chance(scorer, part, part, y.dtype.kind == "f", fold) for fold, part in enumerate(parts)]


@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision"])
def test_is_among_chance_scores_passes_one_random_model_in_twenty(scoring):
    y = rare_positives(0.2).y
    folds, rng = baseline(scoring, y), np.random.default_rng(1)
    metric = get_scorer(scoring)._score_func
    scores = [np.mean([metric(y[f::3], rng.random(80)) for f in range(3)]) for _ in range(80)]
    passed = np.mean([not is_among_chance_scores(score, folds) for score in scores])
    assert 0 < passed < 0.14


@pytest.mark.parametrize("scoring", ["neg_brier_score", "neg_log_loss"])
@pytest.mark.parametrize("share", [0.001, 0.01])
def test_is_among_chance_scores_of_random_probabilities_that_are_nearly_constant(scoring, share):
    y = rare_positives(0.3).y
    folds, rng = baseline(scoring, y), np.random.default_rng(1)
    scorer, passed = get_scorer(scoring), 0
    for _ in range(60):
        scores = []
        for part in (y[f::3] for f in range(3)):
            positive = (1 - share) * part.mean() + share * rng.random(len(part))
            scores.append(scorer._sign * scorer._score_func(part, positive))
        passed += not is_among_chance_scores(float(np.mean(scores)), folds)
    assert passed <= 6  # half of the predictions beat the best constant


@pytest.mark.parametrize("scoring", ["r2", "explained_variance", "neg_mean_squared_error"])
def test_is_among_chance_scores_of_random_numbers_that_are_nearly_constant(scoring):
    y = np.random.default_rng(0).lognormal(size=(240, 1)).astype(np.float32)
    folds, rng = baseline(scoring, y), np.random.default_rng(1)
    scorer, passed = get_scorer(scoring), 0
    for _ in range(60):
        parts = [y[f::3] for f in range(3)]
        predicted = [p.mean() + 0.003 * (rng.permutation(p) - p.mean()) for p in parts]
        scores = [scorer._sign * scorer._score_func(p, q) for p, q in zip(parts, predicted, strict=True)]
        passed += not is_among_chance_scores(float(np.mean(scores)), folds)
    assert passed <= 6


@pytest.mark.parametrize("rank", [1, 25, 29])
def test_is_among_chance_scores_of_a_class_that_is_not_among_the_most_frequent(rank):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(30), np.arange(40, 10, -1)))
    scorer = make_scorer(f1_score, labels=[rank], average="macro")
    fold = baseline(scorer, y, folds=1)
    constant_score = f1_score(y, np.full_like(y, rank), labels=[rank], average="macro")
    assert is_among_chance_scores(constant_score, fold)
    assert not is_among_chance_scores(constant_score + 0.3, fold)


def test_score_chance_of_a_fold_that_lacks_a_class():
    y = np.array([0, 1, 2] * 20 + [3])
    first, second = baseline("f1_macro", y, folds=2)
    assert first is not None
    assert second is not None


@pytest.mark.parametrize(
    ("scoring", "low", "high"),
    [
        ("f1_macro", 0.33, 0.45),
        ("roc_auc_ovr", 0.5, 0.6),
        ("matthews_corrcoef", 0.0, 0.2),
        ("neg_brier_score", -0.667, -0.5),
        ("d2_log_loss_score", 0.0, 0.2),
        ("top_k_accuracy", 0.4, 0.6),
    ],
)
def test_is_among_chance_scores_of_several_classes(scoring, low, high):
    y = np.random.default_rng(0).permutation(np.arange(450) % (5 if scoring == "top_k_accuracy" else 3))
    folds = baseline(scoring, y, folds=1)
    assert is_among_chance_scores(low, folds)
    assert not is_among_chance_scores(high, folds)


@pytest.mark.parametrize(
    ("scoring", "low", "high"),
    [
        ("recall", 0.08, 0.7),  # a constant prediction has perfect recall
        ("balanced_accuracy", 0.5, 0.7),
        ("precision", 0.08, 0.3),
        ("f1", 0.148, 0.4),  # what always predicting the rare class has
    ],
)
def test_is_among_chance_scores_of_a_rare_class(scoring, low, high):
    folds = baseline(scoring, rare_positives().y)
    assert is_among_chance_scores(low, folds)
    assert not is_among_chance_scores(high, folds)


def test_is_among_chance_scores_takes_the_best_constant_of_a_skewed_target():
    y = np.random.default_rng(0).lognormal(size=(300, 1)).astype(np.float32)
    median = np.mean(
        [-mean_absolute_error(p, np.full_like(p, np.median(p))) for p in (y[0::3], y[1::3], y[2::3])]
    )
    folds = baseline("neg_mean_absolute_error", y)
    assert is_among_chance_scores(float(median), folds)
    assert is_among_chance_scores(float(median) - 0.01, folds)
    assert not is_among_chance_scores(float(median) + 0.05, folds)
    relative = baseline("neg_mean_absolute_percentage_error", y)
    best = -np.mean([np.mean(np.abs(p - np.quantile(p, 0.1)) / p) for p in (y[0::3], y[1::3], y[2::3])])
    assert is_among_chance_scores(float(best) - 0.05, relative)  # the median alone would be far below
    assert not is_among_chance_scores(-0.1, relative)


def test_is_among_chance_scores_is_false_if_every_prediction_is_perfect():
    y = np.arange(60) % 2
    assert not is_among_chance_scores(1.0, baseline(make_scorer(lambda y, predicted: 1.0), y))


def test_score_chance_are_none_if_a_scorer_fails():
    y = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
    assert baseline("neg_mean_poisson_deviance", y) == [None] * 3


def test_score_chance_are_reproducible():
    y = np.random.default_rng(0).permutation(np.arange(90) % 3)
    for one, other in zip(baseline("accuracy", y), baseline("accuracy", y), strict=True):
        assert one.guesses.tolist() == other.guesses.tolist()


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        ("accuracy", (0.75, 1.0)),
        ("recall", (0.0, 1.0)),  # always predicting the class 1 has a recall of 1, but is no perfect model
        ("balanced_accuracy", (0.5, 1.0)),
        ("neg_mean_absolute_error", (-0.25, 0.0)),
    ],
)
def test_find_score_range_ignores_constants_with_a_perfect_score(scoring, expected):
    y = np.repeat([0, 1], [30, 10])
    assert find_score_range(get_scorer(scoring), np.zeros((40, 2)), y) == pytest.approx(expected)


def test_find_score_range_of_a_regression_and_of_a_scorer_that_needs_a_model():
    X, y = np.zeros((40, 2)), np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    assert find_score_range(get_scorer("r2"), X, y) == pytest.approx((0.0, 1.0), abs=1e-6)
    assert np.isnan(find_score_range(lambda model, X, y: model.module_(X).sum(), X, y)).all()

"""The chance level of any scikit-learn scorer: the scores of predictors that ignore the features."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from actlab.comparison.runs import FinishedRun, PlannedRun
from actlab.comparison.scoring import Scorer, Scoring

Floats = npt.NDArray[np.float64]

LEVEL = 0.05  # the probability that a predictor that ignores the features passes the test
_DRAWS = 99  # random predictors; the observed score is the hundredth value of the rank test
_CLOSE = 1e-6  # relative; scores of float32 outputs and of float64 constants differ by less


@dataclass(frozen=True)
class ChanceScores:
    """Scores of predictors that ignore the features, on one set of test samples.

    Attributes:
        constants: Scores (c,) of constant predictors.
        guesses: Scores (draws,) of random predictors.
        perfect: The score of a predictor that knows the targets.
    """

    constants: Floats
    guesses: Floats
    perfect: float


class ChanceTest:
    """Decides whether models score no better than predictors that ignore the features.

    Args:
        scoring: The scorer and its data.
    """

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring
        self._chance_scores: dict[tuple[int, int], ChanceScores | None] = {}  # by split and fold

    def is_chance(self, runs: Sequence[FinishedRun[PlannedRun]]) -> bool:
        """Whether models score no better than predictors that ignore the features.

        An accuracy without sample weights is compared with that of the most frequent class by a binomial
        test. An R^2 that follows from a mean squared error is compared with that of predicting the mean. Any
        other score is compared with the scores of :func:`score_chance`.

        Args:
            runs: Runs with different test samples. They are tested together because a fold may have few
                samples.

        Returns:
            Whether the models are at chance level; False if the scorer cannot score such predictors.
        """
        scoring, planned = self.scoring, [run.labels for run in runs]
        if self._counts_hits:
            return _is_most_frequent(runs, scoring.data.y)
        if self._compares_losses(planned):
            losses = [run.result.test_loss for run in runs]
            return bool(np.mean(losses) >= np.mean([scoring.compute_target_variance(p) for p in planned]))
        folds = [self._scores_of_fold(p) for p in planned]
        available = [fold for fold in folds if fold is not None]
        score = float(np.mean([run.score for run in runs]))
        return len(available) == len(folds) and is_among_chance_scores(score, available)

    def compute_level(self, runs: Sequence[FinishedRun[PlannedRun]]) -> float:
        """Return the score of the best constant predictor on the test samples of runs; NaN if unknown."""
        planned = [run.labels for run in runs]
        if self._counts_hits:
            return _compute_most_frequent_share([self.scoring.data.y[p.test] for p in planned])
        if self._compares_losses(planned):
            return 0.0
        folds = [self._scores_of_fold(p) for p in planned]
        available = [fold for fold in folds if fold is not None]
        return _find_best_constant(available) if len(available) == len(folds) else math.nan

    @property
    def _counts_hits(self) -> bool:
        return self.scoring.standard == "accuracy" and self.scoring.data.dataset.weights is None

    def _compares_losses(self, planned: Sequence[PlannedRun]) -> bool:
        needs_weights = any(p.run is None or self.scoring.needs_weights(p.run) for p in planned)
        return self.scoring.standard == "r2" and not needs_weights

    def _scores_of_fold(self, planned: PlannedRun) -> ChanceScores | None:
        key, scoring = (planned.split, planned.fold), self.scoring
        if key not in self._chance_scores:
            X, y = scoring.data.X[planned.test], scoring.data.y[planned.test]
            self._chance_scores[key] = score_chance(
                scoring.weigh(planned.test), X, y, scoring.regression, planned.fold
            )
        return self._chance_scores[key]


def _is_most_frequent(runs: Sequence[FinishedRun[PlannedRun]], y: Any) -> bool:
    """Whether, by a binomial test, models are no better than always predicting the most frequent class."""
    if any(math.isnan(run.result.test_acc) for run in runs):
        return False
    tests = [y[run.labels.test] for run in runs]
    samples = sum(map(len, tests))
    hits = sum(round(run.result.test_acc * len(test)) for run, test in zip(runs, tests, strict=True))
    return bool(stats.binom.sf(hits - 1, samples, _compute_most_frequent_share(tests)) > LEVEL)


def _compute_most_frequent_share(tests: Sequence[Any]) -> float:
    """Return the accuracy of always predicting the most frequent class of each set of test samples."""
    most_frequent = sum(np.unique(test, return_counts=True)[1].max() for test in tests)
    return float(most_frequent / sum(map(len, tests)))


def _find_best_constant(folds: Sequence[ChanceScores]) -> float:
    """Return the highest mean score over folds of a constant predictor without a perfect score, or NaN."""
    constants = np.mean([fold.constants for fold in folds], axis=0)
    constants = constants[~_reaches(constants, float(np.mean([fold.perfect for fold in folds])))]
    return float(np.max(constants)) if len(constants) else math.nan


def score_chance(scorer: Scorer, X: Any, y: Any, regression: bool, seed: int) -> ChanceScores | None:
    """Score predictors that ignore the features.

    Constant predictors have the test samples' own class frequencies, mean or quantiles: they are the best
    constants in hindsight, which makes the chance level strict. Random predictors draw labels with the
    frequencies of the test samples; their probabilities scatter around these frequencies.

    Args:
        scorer: A scorer ``(estimator, X, y)``.
        X: Features (n, ...) of the test samples.
        y: Targets (n, ...) of the test samples; labels (n, k) are several labels per sample.
        regression: Whether the targets are numbers instead of labels.
        seed: Seed of the random predictors.

    Returns:
        The scores; None if the scorer cannot score these predictors.
    """
    make = _make_regressors if regression else _make_classifiers if y.ndim == 1 else _make_label_classifiers
    predictors = make(y, np.random.default_rng(seed))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that of a precision without a positive prediction
            scores = [np.array([float(scorer(each, X, y)) for each in group]) for group in predictors]
    except Exception:  # a user's scorer may need more than a predictor; chance level is then not tested
        return None
    return ChanceScores(scores[0], scores[1], float(scores[2][0]))


def find_score_range(scorer: Scorer, X: Any, y: Any) -> tuple[float, float]:
    """Return the score of the best constant predictor, and the score of a perfect one.

    Constant predictors with a perfect score do not count: always predicting one class gives recall 1.

    Args:
        scorer: A scorer ``(estimator, X, y)``.
        X: Features (n, ...) of the test samples.
        y: Targets (n, ...): float32 for a regression or several labels, otherwise labels.

    Returns:
        The scores; NaN if the scorer cannot score such predictors, or all of them are perfect.
    """
    scores = score_chance(scorer, X, y, y.dtype.kind == "f" and y.ndim == 2, 0)
    if scores is None:
        return math.nan, math.nan
    best = _find_best_constant([scores])
    return (math.nan, math.nan) if math.isnan(best) else (best, scores.perfect)


def is_among_chance_scores(score: float, folds: Sequence[ChanceScores]) -> bool:
    """Whether a predictor without features reaches a mean score over folds.

    It does if a constant predictor scores at least as high, or if more than 5 % of the random predictors do
    (a one-sided rank test). Constant predictors with a perfect score do not count: if always predicting one
    class gives a perfect score, as for recall, that score says nothing about a model.

    Args:
        score: The mean score of a model over the folds.
        folds: What :func:`score_chance` returned for each fold.
    """
    constants, guesses = (np.mean([getattr(f, n) for f in folds], axis=0) for n in ("constants", "guesses"))
    perfect = float(np.mean([fold.perfect for fold in folds]))
    guesses = guesses[np.isfinite(guesses)]
    if not guesses.size or _reaches(guesses, perfect).all():  # undefined, or perfect for any prediction
        return False
    constant = bool((_reaches(constants, score) & ~_reaches(constants, perfect)).any())
    return constant or bool((1 + _reaches(guesses, score).sum()) / (1 + guesses.size) > LEVEL)


def _reaches(scores: Floats, other: float) -> npt.NDArray[np.bool_]:
    return (scores >= other) | np.isclose(scores, other, rtol=_CLOSE, atol=_CLOSE**2)


class _Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor with given predictions (n, ...)."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def predict(self, X: Any) -> Any:
        return self.values


class _Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with given labels (n,) and probabilities (n, k) of its classes (k,)."""

    def __init__(self, classes: Any, labels: Any, probabilities: Floats) -> None:
        self.classes_, self.labels, self.probabilities = classes, labels, probabilities

    def predict(self, X: Any) -> Any:
        return self.labels

    def predict_proba(self, X: Any) -> Floats:
        return self.probabilities


Predictors = tuple[Iterator[Any], Iterator[Any], list[Any]]  # constant ones, random ones, the perfect one


def _make_regressors(y: Any, rng: np.random.Generator) -> Predictors:
    mean = y.mean(axis=0, dtype=np.float64)
    values = [mean, *np.quantile(y, np.linspace(0, 1, 21), axis=0)]
    constants = (_Regressor(np.full(y.shape, value)) for value in values)
    guesses = (_Regressor(mean + _draw_strength(rng) * (rng.permutation(y) - mean)) for _ in range(_DRAWS))
    return constants, guesses, [_Regressor(y)]


def _make_classifiers(y: Any, rng: np.random.Generator) -> Predictors:
    classes, counts = np.unique(y, return_counts=True)
    n, frequencies = len(y), counts / len(y)

    def guess() -> _Classifier:
        share, noise = _draw_strength(rng), rng.dirichlet(np.ones(len(classes)), n)
        return _Classifier(classes, rng.choice(y, n), (1 - share) * frequencies + share * noise)

    constants = (
        _Classifier(classes, np.full(n, classes[probabilities.argmax()]), np.tile(probabilities, (n, 1)))
        for probabilities in (frequencies, *np.eye(len(classes)))
    )
    perfect = _Classifier(classes, y, np.asarray(y[:, None] == classes, np.float64))
    return constants, (guess() for _ in range(_DRAWS)), [perfect]


def _make_label_classifiers(y: Any, rng: np.random.Generator) -> Predictors:
    n, labels = y.shape
    classes, frequencies = np.tile([0, 1], (labels, 1)), y.mean(axis=0, dtype=np.float64)

    def guess() -> _Classifier:
        share = _draw_strength(rng)
        drawn = np.where(rng.random((n, 1)) < share, rng.permutation(y), frequencies > 0.5)
        probabilities = (1 - share) * frequencies + share * rng.random(y.shape)
        return _Classifier(classes, drawn.astype(np.int64), probabilities)

    constants = (  # the more frequent value of each label, no label, and every label
        _Classifier(classes, np.tile(one > 0.5, (n, 1)).astype(np.int64), np.tile(one, (n, 1)))
        for one in (frequencies, np.zeros(labels), np.ones(labels))
    )
    return constants, (guess() for _ in range(_DRAWS)), [_Classifier(classes, y.astype(np.int64), y)]


def _draw_strength(rng: np.random.Generator) -> float:
    """Return how far random predictions are from a constant, from 0.001 to 1.

    A nearly constant model beats the best constant by luck. Only nearly constant guesses do so as often.
    """
    return float(10 ** rng.uniform(-3, 0))

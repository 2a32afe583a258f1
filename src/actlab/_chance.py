"""What a predictor that ignores the features scores: the chance level of any scorer of scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.dummy import DummyClassifier, DummyRegressor

Floats = npt.NDArray[np.float64]
Scorer = Callable[[Any, Any, Any], float]

LEVEL = 0.05  # the probability that a predictor that ignores the features passes the test
_DRAWS = 99  # random predictors; the observed score is the hundredth value of the rank test
_CLASSES = 20  # the commonest classes, each of which has a constant predictor
_QUANTILES = np.linspace(0, 1, 21)
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


def chance_scores(scorer: Scorer, X: Any, y: Any, labels: Any, seed: int) -> ChanceScores | None:
    """Score predictors that ignore the features.

    Constant predictors have the test samples' own class frequencies, mean or quantiles: they are the best
    constants in hindsight, which makes the chance level strict. Random predictors draw labels with the
    frequencies of the test samples; their probabilities scatter around these frequencies by a random amount,
    since probabilities of 0 and 1 alone would have fewer distinct ranks than those of a model.

    Args:
        scorer: A scorer ``(estimator, X, y)``.
        X: Features (n, ...) of the test samples.
        y: Targets (n, ...) of the test samples.
        labels: All classes (k,), the commonest first; None for a regression.
        seed: Seed of the random predictors.

    Returns:
        The scores; None if the scorer cannot score these predictors.
    """
    regression = labels is None
    kind: Any = DummyRegressor if regression else DummyClassifier
    known: Any = _KnownValues if regression else _KnownClasses
    truth = (y,) if regression else (y, np.asarray(y[:, None] == np.unique(y), np.float64))
    guess = _guessed_values if regression else _guessed_classes
    strategies: list[dict[str, Any]] = [{"strategy": "mean" if regression else "prior"}]
    if regression:
        strategies += [{"strategy": "quantile", "quantile": q} for q in _QUANTILES]
    else:
        strategies += [{"strategy": "constant", "constant": label} for label in labels[:_CLASSES]]
    rng = np.random.default_rng(seed)

    def score(predictor: Any) -> float:
        return float(scorer(predictor.fit(X, y), X, y))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that of a precision without a positive prediction
            constants = [score(kind(**strategy)) for strategy in strategies]
            guesses = [score(known(guess(y, rng))) for _ in range(_DRAWS)]
            return ChanceScores(np.array(constants), np.array(guesses), score(known(truth)))
    except Exception:  # anybody's scorer, which may need more than a predictor: no statement is made
        return None


def is_chance(score: float, folds: Sequence[ChanceScores]) -> bool:
    """Whether a mean score over folds is one that a predictor without features reaches.

    That is so if a constant predictor scores as high, or more than 5 % of the random predictors do (a
    one-sided rank test). Constant predictors with a perfect score do not count: where predicting one class
    always is perfect, as for recall, they say nothing about a model.

    Args:
        score: The mean score of a model over the folds.
        folds: What :func:`chance_scores` returned for each fold.
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


class _KnownValues(DummyRegressor):  # type: ignore[misc]
    """A regressor with given predictions."""

    def __init__(self, predictions: Sequence[Any]) -> None:
        super().__init__()
        self.predictions = predictions

    def predict(self, X: Any) -> Any:
        return self.predictions[0]


class _KnownClasses(DummyClassifier):  # type: ignore[misc]
    """A classifier with given labels and probabilities."""

    def __init__(self, predictions: Sequence[Any]) -> None:
        super().__init__()
        self.predictions = predictions

    def predict(self, X: Any) -> Any:
        return self.predictions[0]

    def predict_proba(self, X: Any) -> Any:
        return self.predictions[1]


def _guessed_classes(y: Any, rng: np.random.Generator) -> tuple[Any, Floats]:
    """Return random labels (n,), and probabilities (n, k) that scatter around the class frequencies."""
    counts = np.unique(y, return_counts=True)[1]
    noise = rng.dirichlet(np.ones(len(counts)), len(y))
    share = _strength(rng)
    return rng.choice(y, len(y)), (1 - share) * counts / len(y) + share * noise


def _guessed_values(y: Any, rng: np.random.Generator) -> tuple[Any]:
    """Return random numbers of the shape of ``y`` that scatter around its mean."""
    mean = y.mean(dtype=np.float64)
    return (mean + _strength(rng) * (rng.permutation(y) - mean),)


def _strength(rng: np.random.Generator) -> float:
    """Return how far random predictions are from a constant, from 0 to 1."""
    return float(10 ** rng.uniform(-3, 0))

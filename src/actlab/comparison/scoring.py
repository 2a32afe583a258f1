"""How good a trained net is on the rows of its fold: any scorer of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import skorch
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import get_scorer, get_scorer_names
from torch import nn

from actlab.comparison.chance_level import LEVEL, ChanceScores, Scorer, chance_scores, is_chance
from actlab.comparison.plan import Training
from actlab.data.dataset import Dataset
from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.fleet.run import Result
from actlab.fleet.skorch_adapter import fitted

_ROUND = 0.001  # a difference in a score from 0 to 1 that anybody speaks of
_RELATIVE = 0.01  # the same of another score, as a part of it


class Scoring:
    """A scorer, and what a difference in its scores means.

    Args:
        scoring: A name that :func:`sklearn.metrics.get_scorer_names` has, or a scorer ``(net, X, y)``; None
            for accuracy, or R^2 where numbers are predicted.
        dataset: What is learnt.
        y: Its targets as the nets take them.

    Raises:
        UsageError: There is no such scorer.
    """

    def __init__(self, scoring: str | Scorer | None, dataset: Dataset, y: Any) -> None:
        self.X, self.y = dataset.X, y
        usual = "r2" if dataset.is_regression else "accuracy"
        named = usual if scoring is None else scoring
        self.known = named if isinstance(named, str) else ""  # a callable may have any name
        if isinstance(named, str):
            if named not in get_scorer_names():
                hint = did_you_mean(named, get_scorer_names())
                raise UsageError(f"scoring is {named!r}, no scorer of scikit-learn{hint}")
            self.name, self.scorer = named, get_scorer(named)
        elif callable(named):
            self.name, self.scorer = getattr(named, "__name__", str(named)), named
        else:
            raise UsageError(f"scoring is {named!r}, neither a scorer's name nor a scorer")
        self.regression = dataset.is_regression
        self._chance: dict[tuple[int, int], ChanceScores | None] = {}  # by split and fold

    def needs_weights(self, training: Training) -> bool:
        """Whether a net must be there to be scored; else what the fleet has counted is enough."""
        run = training.run
        if run is None:
            return False
        if self.known == "accuracy":
            return not run.scoring
        return not (self.known == "r2" and type(run.loss) is nn.MSELoss)

    def check(self, training: Training) -> None:
        """Refuse, before hours of training, a scorer that cannot score a net.

        Raises:
            UsageError: With the scorer's own error.
        """
        try:
            net = clone(training.net).initialize()
            net.check_data(self.X[training.test], self.y[training.test])
            self.score_net(net, training)
        except Exception as error:  # anybody's scorer
            raise UsageError(
                f"scoring {self.name!r} cannot score the net: {summarize_error(error)}"
            ) from error

    def score(self, training: Training, result: Result) -> float:
        """Return the score of a run that a fleet has trained."""
        if not self.needs_weights(training):
            return (
                result.test_acc
                if self.known == "accuracy"
                else 1 - result.test_loss / self._variance(training)
            )
        run = training.run
        assert run is not None
        return self.score_net(fitted(clone(training.net), run, result, self.X, self.y), training)

    def score_net(self, net: skorch.NeuralNet, training: Training) -> float:
        """Return the score of a fitted net."""
        return float(self.scorer(net, self.X[training.test], self.y[training.test]))

    def _variance(self, training: Training) -> float:
        return float(np.var(self.y[training.test], dtype=np.float64)) or math.nan

    def chance(self, runs: Sequence[tuple[Training, Result, float]]) -> bool:
        """Whether models score no better than predictors that ignore the features.

        An accuracy is tested against the commonest class by a binomial test, an R^2 of a mean squared error
        against the mean; any other score against those of :func:`.chance_scores`.

        Args:
            runs: Runs with different test samples, which count together since a fold may have few, and
                their scores.

        Returns:
            Whether they do; False where the scorer cannot score such predictors.
        """
        if self.known == "accuracy":
            return self._is_commonest([(t, r) for t, r, _ in runs])
        if self.known == "r2" and not any(t.run is None or self.needs_weights(t) for t, _, _ in runs):
            losses, variances = zip(*((r.test_loss, self._variance(t)) for t, r, _ in runs), strict=True)
            return bool(np.mean(losses) >= np.mean(variances))
        folds = [self._chance_scores(training) for training, _, _ in runs]
        known = [fold for fold in folds if fold is not None]
        return len(known) == len(folds) and is_chance(float(np.mean([score for *_, score in runs])), known)

    def _is_commonest(self, runs: Sequence[tuple[Training, Result]]) -> bool:
        if any(math.isnan(result.test_acc) for _, result in runs):
            return False
        tests = [self.y[training.test] for training, _ in runs]
        rows = sum(map(len, tests))
        hits = sum(round(r.test_acc * len(test)) for (_, r), test in zip(runs, tests, strict=True))
        commonest = sum(np.unique(test, return_counts=True)[1].max() for test in tests)
        return bool(stats.binom.sf(hits - 1, rows, commonest / rows) > LEVEL)

    def _chance_scores(self, training: Training) -> ChanceScores | None:
        place = training.split, training.fold
        if place not in self._chance:
            X, y = self.X[training.test], self.y[training.test]
            self._chance[place] = chance_scores(self.scorer, X, y, self.regression, training.fold)
        return self._chance[place]

    def step(self, rows: int) -> float:
        """Return the least by which a score on so many rows can change; 0 if that is not known."""
        return 1 / rows if self.known == "accuracy" else 0.0

    def in_points(self, scores: Any) -> bool:
        """Whether scores are shares of something, whose differences are percentage points."""
        found = np.asarray(scores, np.float64)
        found = found[np.isfinite(found)]
        return not self.regression and bool(found.size and found.min() >= 0 and found.max() <= 1)

    def region(self, scores: Any) -> tuple[float, str]:
        """Return half the width of the region of practical equivalence, and what it is.

        Args:
            scores: Those that there are, of which finite ones count.
        """
        found = np.asarray(scores, np.float64)
        found = found[np.isfinite(found)]
        if not found.size:
            return math.nan, "no score"
        if self.in_points(found):
            rows = len(self.y)  # every row is tested once, so a mean over folds moves by one of them
            return max(1 / rows, _ROUND), f"one of {rows} rows" if 1 / rows > _ROUND else "a thousandth"
        return _RELATIVE * float(np.median(np.abs(found))), "a hundredth of the median score"

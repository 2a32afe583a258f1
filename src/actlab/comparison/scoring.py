"""Score trained networks on their test samples with any scorer of scikit-learn."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import skorch
from sklearn.base import clone
from sklearn.metrics import get_scorer, get_scorer_names
from torch import nn

from actlab.comparison.fold_features import FoldFeatures
from actlab.comparison.runs import PlannedRun
from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.fleet.run import Outcomes, Result, Rows, Run
from actlab.fleet.skorch_adapter import restore_net

Scorer = Callable[[Any, Any, Any], float]

_ROUND = 0.001  # the smallest difference of a score from 0 to 1 that matters
_RELATIVE = 0.01  # the same of any other score, relative to it


class Scoring:
    """A scorer, and what a difference of its scores means.

    Args:
        scoring: A name in :func:`sklearn.metrics.get_scorer_names`, or a scorer ``(net, X, y)``; None for
            accuracy, or R^2 of a regression.
        data: The features, and the targets as the networks take them.

    Raises:
        UsageError: There is no such scorer.
    """

    def __init__(self, scoring: str | Scorer | None, data: FoldFeatures) -> None:
        self.data, self.regression = data, data.dataset.is_regression
        default = "r2" if self.regression else "accuracy"
        named = default if scoring is None else scoring
        self.standard = named if isinstance(named, str) else ""  # a callable may have any name
        if isinstance(named, str):
            if named not in get_scorer_names():
                hint = did_you_mean(named, get_scorer_names())
                raise UsageError(f"scoring must be a scikit-learn scorer, got {named!r}{hint}")
            self.name, self.scorer = named, get_scorer(named)
        elif callable(named):
            self.name, self.scorer = getattr(named, "__name__", str(named)), named
        else:
            raise UsageError(f"scoring must be a scorer or the name of a scorer, got {named!r}")

    def needs_weights(self, run: Run) -> bool:
        """Whether the scorer is called with the network; otherwise the result of the fleet is enough."""
        if self.standard == "accuracy":
            return not run.scoring
        # The R^2 of several outputs is the mean of theirs, which no mean loss determines.
        outputs = self.data.dataset.num_classes
        return not (self.standard == "r2" and type(run.loss) is nn.MSELoss and outputs == 1)

    def check(self, net: skorch.NeuralNet, test: Rows) -> None:
        """Raise an error before training if the scorer cannot score a network.

        Args:
            net: An untrained net.
            test: Indices of test samples.

        Raises:
            UsageError: The scorer raised an error, which the message contains.
        """
        try:
            net = clone(net).initialize()
            net.check_data(self.data.X[test], self.data.y[test])
            self.score_net(net, test)
        except Exception as error:  # the user's scorer may raise anything
            raise UsageError(
                f"scoring {self.name!r} cannot score the network: {summarize_error(error)}"
            ) from error

    @property
    def has_outcomes(self) -> bool:
        """Whether the score is a mean over test samples, so that each has an outcome."""
        return self.standard in ("accuracy", "r2")

    def require_outcomes(self) -> None:
        """Raise UsageError unless one seed on a fixed test set has a variance, that of the samples."""
        if not self.has_outcomes:
            problem = f"seeds must be >= 2 for {self.name} on a fixed test set, got 1"
            raise UsageError(f"{problem}: a score that is not a mean over samples varies with the seed only")

    def score(self, planned: PlannedRun, result: Result) -> tuple[float, Outcomes | None]:
        """Return the score of a run that a fleet has trained, and the outcomes, as :meth:`score_net`."""
        assert planned.run is not None
        if self.needs_weights(planned.run):
            net = restore_net(clone(planned.net), planned.run, result, self.data.X, self.data.y)
            return self.score_net(net, planned.test)
        outcomes = self._contribute(result.outcomes, planned.test)
        if self.standard == "accuracy":
            return result.test_acc, outcomes
        return 1 - result.test_loss / self.compute_target_variance(planned), outcomes

    def score_net(self, net: skorch.NeuralNet, test: Rows) -> tuple[float, Outcomes | None]:
        """Score a fitted net on test samples.

        Args:
            net: The net.
            test: Indices (m,) of the test samples.

        Returns:
            The score; and with a fixed test set the contribution (m,) of each sample to it, if there is one.
        """
        X, y = self.data.X[test], self.data.y[test]
        score, outcomes = float(self.weigh(test)(net, X, y)), None
        if self.has_outcomes and self.data.dataset.test_rows is not None:
            predicted = np.asarray(net.predict(X)).reshape(y.shape)
            outcomes = predicted == y if self.standard == "accuracy" else np.square(predicted - y)
        return score, self._contribute(outcomes, test)

    def weigh(self, test: Rows) -> Scorer:
        """Return the scorer, with the weights of test samples if they have any."""
        weights = self.data.select_weights(test)
        return self.scorer if weights is None else functools.partial(self.scorer, sample_weight=weights)

    def _contribute(self, outcomes: Outcomes | None, test: Rows) -> Outcomes | None:
        """Return the contribution (m,) of each test sample to the score; None without a fixed test set."""
        if outcomes is None or not self.has_outcomes or self.data.dataset.test_rows is None:
            return None
        if self.standard == "accuracy":
            return outcomes
        # R^2 is a ratio of two means. Linearised, each sample also contributes by its effect on the variance.
        y, errors = (
            values.astype(np.float64).reshape(len(test), -1) for values in (self.data.y[test], outcomes)
        )
        squares = np.square(y - y.mean(0))
        ratio = errors.mean(0) / squares.mean(0)
        contributions: Outcomes = (1 - ratio - (errors - ratio * squares) / squares.mean(0)).mean(1)
        return contributions

    def compute_target_variance(self, planned: PlannedRun) -> float:
        """Return the variance of the test targets of a run; NaN if they are equal."""
        y = self.data.y[planned.test].ravel().astype(np.float64)
        weights = self.data.select_weights(planned.test)
        squares = np.square(y - np.average(y, weights=weights))
        return float(np.average(squares, weights=weights)) or math.nan

    def get_score_step(self, samples: int) -> float:
        """Return the smallest change of a score on so many samples; 0 if it is unknown."""
        return 1 / samples if self.standard == "accuracy" else 0.0

    def are_shares(self, scores: Sequence[float]) -> bool:
        """Whether scores are shares, whose differences are percentage points."""
        finite = _select_finite(scores)
        return not self.regression and bool(finite.size and finite.min() >= 0 and finite.max() <= 1)

    def choose_region(self, scores: Sequence[float], samples: int) -> tuple[float, str]:
        """Return half the width of the region of practical equivalence, and a description of it.

        Args:
            scores: All scores; NaN does not count.
            samples: The number of test samples of a seed, in all folds.
        """
        finite = _select_finite(scores)
        if not finite.size:
            return math.nan, "no score"
        if self.are_shares(scores):
            named = f"one of {samples} samples" if 1 / samples > _ROUND else "the minimum"
            return max(1 / samples, _ROUND), named
        return _RELATIVE * float(np.median(np.abs(finite))), "1 % of the median score"


def _select_finite(scores: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    return values[np.isfinite(values)]

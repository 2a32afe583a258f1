"""Score trained networks on their test samples with any scorer of scikit-learn."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import skorch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import get_scorer, get_scorer_names, hamming_loss
from torch import nn

from actlab.comparison.runs import PlannedRun
from actlab.comparison.splits import FoldFeatures
from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.fleet.run import Outcomes, Result, Rows, Run
from actlab.fleet.skorch_adapter import restore_net

Scorer = Callable[[Any, Any, Any], float]

LABELS = "accuracy over labels"  # 1 - Hamming loss, the default score of several labels per sample
SUBSETS = "subset accuracy"  # scikit-learn's accuracy of several labels

_ROUND = 0.001  # the smallest difference of a score from 0 to 1 that matters
_RELATIVE = 0.01  # the same of any other score, relative to it


class Scoring:
    """A scorer, and what a difference of its scores means.

    Args:
        scoring: A name in :func:`sklearn.metrics.get_scorer_names`, or a scorer ``(net, X, y)``; None for
            accuracy (over all labels if samples have several) or, for a regression, R^2.
        data: The features, and the targets in the form that the networks take.

    Attributes:
        is_target_error: Whether the score is an error in units of the standardized target, or its square.

    Raises:
        UsageError: There is no such scorer.
    """

    def __init__(self, scoring: str | Scorer | None, data: FoldFeatures) -> None:
        self.data, self.regression = data, data.dataset.is_regression
        self.labels = data.dataset.num_classes if data.dataset.is_multilabel else 0
        default = "r2" if self.regression else "accuracy"
        named = default if scoring is None else scoring
        self.standard = named if isinstance(named, str) else ""  # a callable may have any name
        if self.labels and scoring is None:
            self.name = self.standard = LABELS
            self.scorer: Any = _score_labels
        elif isinstance(named, str):
            if named not in get_scorer_names():
                hint = _suggest_scorer(named)
                raise UsageError(f"scoring must be a scikit-learn scorer, got {named!r}{hint}")
            self.name, self.scorer = named, get_scorer(named)
            if self.labels and named == "accuracy":
                self.name = self.standard = SUBSETS
        elif callable(named):
            self.name, self.scorer = getattr(named, "__name__", str(named)), named
        else:
            raise UsageError(f"scoring must be a scorer or the name of a scorer, got {named!r}")
        relative = re.search("percentage|log", self.standard)
        self.is_target_error = self.standard.endswith("_error") and not relative

    def needs_weights(self, run: Run) -> bool:
        """Whether the scorer is called with the network; otherwise the result of the fleet is enough."""
        if self.standard == "accuracy":
            return not run.scoring
        if self.standard == LABELS:
            return bool(run.scoring) or type(run.loss) not in (nn.BCEWithLogitsLoss, nn.BCELoss)
        # The R^2 of several outputs is the mean of their R^2, which a mean loss does not determine.
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
        return self.standard in ("accuracy", "r2", LABELS)

    def require_outcomes(self) -> None:
        """Raise UsageError if the scores of one seed on a fixed test set have no variance over samples."""
        if not self.has_outcomes:
            problem = f"seeds must be >= 2 for {self.name} on a fixed test set, got 1"
            raise UsageError(f"{problem}: a score that is not a mean over samples varies with the seed only")

    def score(self, planned: PlannedRun, result: Result) -> tuple[float, Outcomes | None]:
        """Return the score of a run that a fleet has trained, and the outcomes, like :meth:`score_net`."""
        assert planned.run is not None
        if self.needs_weights(planned.run):
            net = restore_net(clone(planned.net), planned.run, result, self.data.X, self.data.y)
            return self.score_net(net, planned.test)
        outcomes = self._contribute(result.outcomes, planned.test)
        if self.standard == "accuracy":
            return result.test_acc, outcomes
        if self.standard == LABELS:
            assert result.outcomes is not None
            weights = self.data.select_weights(planned.test)
            shares = result.outcomes / np.float64(self.labels)
            return float(np.average(shares, weights=weights)), outcomes
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
        scored: Any = LabelClassifier(net, self.labels) if self.labels else net
        score, outcomes = float(self.weigh(test)(scored, X, y)), None
        if self.has_outcomes and self.data.dataset.test_rows is not None:
            predicted = np.asarray(scored.predict(X)).reshape(y.shape)
            outcomes = np.square(predicted - y) if self.standard == "r2" else predicted == y
            outcomes = outcomes.sum(1) if self.standard == LABELS else outcomes
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
        if self.standard == LABELS:
            shares: Outcomes = outcomes / np.float64(self.labels)
            return shares
        # R^2 is a ratio of two means. Linearized, each sample also contributes by its effect on the variance.
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
        """Return the smallest change of a score on this number of samples; 0 if it is unknown."""
        return 1 / samples / (self.labels or 1) if self.standard in ("accuracy", LABELS) else 0.0

    def are_shares(self, scores: Sequence[float]) -> bool:
        """Whether scores are shares, so that their differences are in percentage points."""
        finite = _select_finite(scores)
        return not self.regression and bool(finite.size and finite.min() >= 0 and finite.max() <= 1)

    def choose_region(self, scores: Sequence[float], samples: int) -> tuple[float, str]:
        """Return half the width of the region of practical equivalence, and a description of it.

        Args:
            scores: All scores; NaN is ignored.
            samples: The number of test samples of a seed, in all folds.
        """
        finite = _select_finite(scores)
        if not finite.size:
            return math.nan, "no score"
        if self.are_shares(scores):
            # One sample changes other scores, and weighted accuracies, by amounts that differ.
            counts = self.standard in ("accuracy", SUBSETS) and self.data.dataset.weights is None
            if counts and 1 / samples > _ROUND:
                return 1 / samples, f"one of {samples} samples"
            return _ROUND, "the minimum"
        return _RELATIVE * float(np.median(np.abs(finite))), "1 % of the median score"


class LabelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A net as a classifier with several labels (n, k), each 0 or 1; it has all attributes of the net.

    A label is 1 if its probability is above 0.5. If the net predicts no probabilities, a label is 1 if its
    output is above 0.

    Args:
        net: The fitted net.
        labels: The number k of labels.
    """

    def __init__(self, net: skorch.NeuralNet, labels: int) -> None:
        self.net, self.labels, self.classes_ = net, labels, np.tile([0, 1], (labels, 1))

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Return the labels (n, k)."""
        predicted = np.asarray(self.net.predict(X))
        if predicted.ndim == 3:  # probabilities (n, 2, k) of skorch
            predicted = predicted[:, 1] > 0.5
        return (predicted > (0 if self.net.predict_nonlinearity == "auto" else 0.5)).astype(np.int64)

    def predict_proba(self, X: Any) -> npt.NDArray[Any]:
        """Return the probabilities (n, k) that the labels are 1, or the outputs of the net."""
        predicted = np.asarray(self.net.predict_proba(X))
        return predicted[:, 1] if predicted.ndim == 3 else predicted

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["net"], name)


def _suggest_scorer(name: str) -> str:
    """Return a suggestion for a misspelt or abbreviated scorer, such as ``mae``; empty if there is none."""
    names, word = get_scorer_names(), name.lower()
    parts = {one: "".join(part[0] for part in one.split("_")) for one in names}
    matches = [one for one in names if word and (word in one or parts[one].endswith(word))]
    return did_you_mean(name, names) or did_you_mean(min(matches, key=len, default=""), names)


def _score_labels(classifier: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    return 1 - float(hamming_loss(y, classifier.predict(X), sample_weight=sample_weight))


def _select_finite(scores: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    return values[np.isfinite(values)]

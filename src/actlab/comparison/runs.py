"""The runs of a comparison: planned, and finished."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import skorch

from actlab.fleet.run import Outcomes, Result, Rows, Run
from actlab.judging.verdict_tables import describe_failures


@dataclass(frozen=True)
class RunLabels:
    """Identify a run of a comparison.

    Attributes:
        activation: The name of the activation.
        split: The split of the samples; 0 is the one without shuffling.
        fold: The index of the test fold, from 0.
        seed: The seed of its random numbers.
        tuned: The tuned values that it has, by name.
        screening: Whether it is a short run that only helps to choose the tuned values of a complete run.
        restored_by: The column of the history whose best epoch is restored; empty for the last epoch.
    """

    activation: str
    split: int
    fold: int
    seed: int
    tuned: Mapping[str, Any]
    screening: bool
    restored_by: str

    def to_columns(self) -> dict[str, Any]:
        """Return the columns of a table; folds count from 1 there."""
        own = {"activation": self.activation, "split": self.split, "fold": self.fold + 1, "seed": self.seed}
        return {**own, **self.tuned}


@dataclass(frozen=True)
class PlannedRun(RunLabels):
    """A run to be trained.

    Attributes:
        net: The untrained skorch net.
        rows: Indices (n,) of the training samples, including those held out for validation.
        test: Indices (m,) of the test samples.
        run: The run for a fleet; None if skorch trains it.
        init: The initialization, as in :class:`~actlab.fleet.run.Run`.
        reason_alone: Why skorch trains it.
    """

    net: skorch.NeuralNet
    rows: Rows
    test: Rows
    run: Run | None
    init: str = "torch"
    reason_alone: str = ""


Labels = TypeVar("Labels", bound=RunLabels)


@dataclass(frozen=True)
class FinishedRun(Generic[Labels]):
    """A run that has ended.

    Attributes:
        labels: The labels that identify the run.
        result: The result of its training.
        score: The score on the test samples; NaN if the run has failed.
        key: Its key in the ledger; empty without a ledger.
        outcomes: What each test sample (m,) of a fixed test set contributes to the score, which is the mean
            of these values; None if the score is not a mean over samples.
    """

    labels: Labels
    result: Result
    score: float
    key: str = ""
    outcomes: Outcomes | None = None

    def validate(self, epochs: int = 0) -> tuple[float, float]:
        """Return the score on the validation samples after a number of epochs (0: all); greater is better."""
        history = self.result.history[: epochs or None]
        is_valid = len(history) == epochs or not self.result.failure
        best = f"{self.labels.restored_by}_best"
        last = next((row for row in reversed(history) if is_valid and row.get(best, True)), {})
        loss = -last.get("valid_loss", math.inf)
        score = last.get("valid_acc", loss if last else -math.inf), loss
        return score if all(map(math.isfinite, score)) else (-math.inf, -math.inf)


def select_best(
    runs: Sequence[FinishedRun[Labels]], names: Sequence[str], candidates: Sequence[Mapping[str, Any]]
) -> list[FinishedRun[Labels]]:
    """Return the runs with the best tuned values, in order of activation, seed and fold.

    Args:
        runs: The finished runs; those for screening are not selected.
        names: The names of the activations.
        candidates: The combinations of tuned values; among runs with equal scores, the first combination is
            selected.
    """
    best: dict[Any, FinishedRun[Labels]] = {}
    complete = [run for run in runs if not run.labels.screening]
    for run in sorted(complete, key=lambda run: candidates.index(dict(run.labels.tuned))):
        key = (names.index(run.labels.activation), run.labels.seed, run.labels.fold)
        if key not in best or run.validate() > best[key].validate():
            best[key] = run
    return [best[key] for key in sorted(best)]


def select_given(
    runs: Sequence[FinishedRun[Labels]], names: Sequence[str], given: Mapping[str, Any]
) -> list[FinishedRun[Labels]]:
    """Return the runs with the settings as given, in order of activation, seed and fold."""
    complete = [run for run in runs if run.labels.tuned == given and not run.labels.screening]
    return select_best(complete, names, [given])


def count_failures(runs: Sequence[FinishedRun[Labels]]) -> dict[str, str]:
    """Return, for each activation with failed runs, how many runs failed and why."""
    reasons: dict[str, list[str | None]] = {}
    for run in runs:
        reason = run.result.failure if math.isnan(run.score) else None
        reasons.setdefault(run.labels.activation, []).append(reason)
    described = {
        name: describe_failures([reason for reason in each if reason is not None], len(each))
        for name, each in reasons.items()
    }
    return {name: text for name, text in described.items() if text}

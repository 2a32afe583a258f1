"""Train and score the runs of a comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from sklearn.base import clone

from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runs import FinishedRun, PlannedRun, RunLabels
from actlab.errors import summarize_error
from actlab.execution.progress import format_stage, show_progress
from actlab.execution.scheduler import choose_executor, iterate_results
from actlab.fleet.run import Outcomes, Result
from actlab.fleet.skorch_adapter import require_weights_support
from actlab.fleet.skorch_training import fit_with_skorch, list_epochs
from actlab.ledger.session import LedgerLike, LedgerSession, open_ledger, open_session
from actlab.models.trained_parameters import read_trained_parameters

Finished = FinishedRun[PlannedRun]


class Runner:
    """Trains runs, in one executor for all rounds, and scores them.

    Args:
        plan: The plan.
        ledger: The ledger in which runs are recorded; None to record no runs.
        executor: The executor that trains the runs; None to choose one.
        verbose: As for :func:`actlab.compare`.

    Attributes:
        runs: The finished runs.
        planned: The number of runs planned so far.
    """

    def __init__(
        self, plan: ComparisonPlan, ledger: LedgerLike | None, executor: Executor | None, verbose: int
    ) -> None:
        self.plan, self.ledger, self.executor, self.verbose = plan, ledger, executor, verbose
        self.runs: list[Finished] = []
        self.planned = 0
        self._recorded: list[dict[str, Any]] = []  # labels and keys of the runs, as the ledger has them
        self._token = ""
        self._stack = contextlib.ExitStack()
        self._has_executor = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    @property
    def died(self) -> set[str]:
        """Return the activations that crashed their worker processes. This process must not call them."""
        return {run.labels.activation for run in self.runs if run.result.died}

    def train(self, planned: Sequence[PlannedRun], about: Mapping[str, Any], stage: str = "") -> None:
        """Train and score runs.

        Args:
            planned: The runs.
            about: The description of the comparison for the ledger.
            stage: A part of the comparison, such as a round of a sequential test; empty if it has one part.
        """
        self.planned += len(planned)
        alone = [run for run in planned if run.run is None]
        alone += self._train_fleets([run for run in planned if run.run is not None], about, stage)
        if alone and self.plan.dataset.weights is not None:
            require_weights_support(alone[0].reason_alone)
        for run in alone:
            self._train_alone(run)

    def describe_progress(self) -> str:
        """Return how many of the runs planned so far are in the ledger; without one, how many have ended."""
        if self.ledger is None:
            return f"{len(self.runs)} of {self.planned} runs were trained"
        keys = [run["key"] for run in self._recorded]
        with open_ledger(self.ledger) as ledger:
            saved = len(ledger.finished(keys))
        return f"{saved} of {self.planned} runs are saved; run the comparison again to resume"

    def end(self) -> None:
        """Mark the comparison as complete in the ledger."""
        if self._token and self.ledger is not None:
            with open_ledger(self.ledger) as ledger:
                ledger.end_comparison(self._token)

    def _train_fleets(
        self, planned: Sequence[PlannedRun], about: Mapping[str, Any], stage: str
    ) -> list[PlannedRun]:
        """Train runs in fleets; return those that no fleet can train."""
        runs = [each.run for each in planned if each.run is not None]
        alone: list[PlannedRun] = []
        if not runs:
            return alone
        data, dataset = self.plan.features, self.plan.config.dataset
        complete = [each.run for each in planned if each.run is not None and not each.screening]
        weights = any(map(self.plan.scoring.needs_weights, complete))
        with (
            open_session(self.ledger, runs, dataset.fingerprint, weights=weights) as session,
            show_progress([each.activation for each in planned], self.verbose, stage=stage) as watch,
        ):
            if not self._has_executor:
                self._has_executor, apart = True, bool(session and session.abandoned)
                where = choose_executor(self.executor, self.plan.config.jobs, runs, data.X, isolated=apart)
                self.executor = self._stack.enter_context(where)
            before = session.count_finished() if session else 0
            if session:
                self._announce(planned, session, about)
            self._print_restored(before, len(runs), stage)
            results = iterate_results(
                runs, data.X, data.y, executor=self.executor, watch=watch, session=session
            )
            for index, result in results:
                if result.needs_skorch:
                    reason = result.reason_alone
                    alone.append(dataclasses.replace(planned[index], run=None, reason_alone=reason))
                else:
                    self._score(planned[index], result, session.keys[index] if session else "")
        if session and session.restored > before:  # another process has trained some meanwhile
            self._print_restored(session.restored, len(runs), stage)
        return alone

    def _announce(
        self, planned: Sequence[PlannedRun], session: LedgerSession, about: Mapping[str, Any]
    ) -> None:
        """Write the plan into the ledger, for a report of the unfinished comparison."""
        names = [field.name for field in dataclasses.fields(RunLabels)]
        self._recorded += [
            {**{name: getattr(run, name) for name in names}, "key": key}
            for run, key in zip(planned, session.keys, strict=True)
        ]
        if self._token:
            session.ledger.end_comparison(self._token)
        self._token = session.ledger.start_comparison({**about, "trained": self.planned}, self._recorded)

    def _print_restored(self, restored: int, total: int, stage: str) -> None:
        if restored and self.verbose:
            message = f"{format_stage(stage)}{restored} of {total} runs are from the ledger"
            print(f"actlab: {message}", file=sys.stderr)

    def _score(self, planned: PlannedRun, result: Result, key: str) -> None:
        score, outcomes = math.nan, None
        # A diverged network predicts one class, which is no result of an activation.
        if not (result.failure or planned.screening):
            try:
                score, outcomes = self.plan.scoring.score(planned, result)
            except Exception as error:  # the user's scorer may raise anything
                result.failure = f"scoring failed: {summarize_error(error)}"
        self._add(planned, result, score, outcomes, key)

    def _train_alone(self, planned: PlannedRun) -> None:
        """Use skorch to train a run that no fleet can train."""
        data, scoring = self.plan.features, self.plan.scoring
        net, result = clone(planned.net), Result(how="skorch", reason_alone=planned.reason_alone)
        score, outcomes = math.nan, None
        try:
            X, y = data.X[planned.rows], data.y[planned.rows]
            fit_with_skorch(net, X, y, planned.seed, planned.fold, result, init=planned.init)
            module = net.module_
            paths = self.plan.find_activations(planned.activation, lambda: module)
            result.parameters = read_trained_parameters(module, paths, module.state_dict())
            if not planned.screening:
                score, outcomes = scoring.score_net(net, planned.test)
            if scoring.standard == "accuracy":
                result.test_acc = score
        except Exception as error:  # raised by the user's callbacks, criterion, module or scorer
            result.failure = result.failure or f"scoring failed: {summarize_error(error)}"
        result.history = list_epochs(net)
        self._add(planned, result, score, outcomes, "")

    def _add(
        self, planned: PlannedRun, result: Result, score: float, outcomes: Outcomes | None, key: str
    ) -> None:
        """Add a finished run without its weights, which take gigabytes for a thousand runs."""
        if not (result.failure or planned.screening or math.isfinite(score)):
            result.failure = f"the score is {score}"
        result = dataclasses.replace(result, weights={}, outcomes=None)
        score = math.nan if result.failure else score
        self.runs.append(FinishedRun(planned, result, score, key, outcomes))

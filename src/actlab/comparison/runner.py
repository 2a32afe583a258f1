"""The runs of a comparison as they are trained and scored, and what the pairs of them say."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Generic, TypeVar

from sklearn.base import clone

from actlab.comparison.plan import Experiment, Place, Training
from actlab.comparison.scoring import Scoring
from actlab.errors import summarize_error
from actlab.execution.progress import round_prefix, show_progress
from actlab.execution.scheduler import engine, training
from actlab.fleet.run import Result
from actlab.fleet.unfused import epochs_of, fit_alone
from actlab.ledger.session import LedgerLike, LedgerSession, open_ledger, open_session
from actlab.stats.sequential import Pair
from actlab.stats.verdict import Evidence, Verdict, evidence, judge

Scores = dict[tuple[int, int, int], float]  # by split, fold and seed

At = TypeVar("At", bound=Place)


@dataclass
class Done(Generic[At]):
    """A run that has ended.

    Attributes:
        training: What was trained.
        result: How it went.
        score: On the rows of its fold; NaN if it has failed.
        key: Its key in the ledger, if there is one.
    """

    training: At
    result: Result
    score: float
    key: str = ""

    @property
    def merit(self) -> tuple[float, float]:
        """How good it was on the rows held back for validation; more is better."""
        last = self.result.history[-1] if self.result.history and not self.result.failure else {}
        loss = -last.get("valid_loss", math.inf)
        return last.get("valid_acc", loss if last else -math.inf), loss


def chosen(
    done: Sequence[Done[At]], names: Sequence[str], candidates: Sequence[Mapping[str, Any]]
) -> list[Done[At]]:
    """Return the runs that count, in order of activation, seed and fold: of those tuned, the best.

    Args:
        done: The runs that have ended.
        names: The activations.
        candidates: What is tried where values are tuned.
    """
    best: dict[Any, Done[At]] = {}
    for one in sorted(done, key=lambda one: candidates.index(dict(one.training.tuned))):
        place = (one.training.activation, one.training.seed, one.training.fold)
        if place not in best or one.merit > best[place].merit:
            best[place] = one
    order = {name: number for number, name in enumerate(names)}
    return [best[place] for place in sorted(best, key=lambda place: (order[place[0]], *place[1:]))]


class Contest:
    """Trains what it is asked for, once, and judges what there is.

    Args:
        names: The activations.
        experiment: What is trained for each.
        scoring: How the nets are scored.
        ledger: Where runs are kept; None for nowhere.
        executor: Where they are trained instead of in processes of ours.
        jobs: How many processes.
        verbose: As for :func:`actlab.compare`.
        about: Says what is compared.
    """

    def __init__(
        self,
        names: Sequence[str],
        experiment: Experiment,
        scoring: Scoring,
        *,
        ledger: LedgerLike | None,
        executor: Executor | None,
        jobs: int | None,
        verbose: int,
        about: Callable[[Contest], dict[str, Any]],
    ) -> None:
        self.names, self.experiment, self.scoring = list(names), experiment, scoring
        self.ledger, self.jobs, self.verbose = ledger, jobs, verbose
        self.executor: Executor | None = executor
        self.about = functools.partial(about, self)
        self.planned = 0
        self.done: list[Done[Training]] = []
        self.plan: list[dict[str, Any]] = []  # what the ledger is told of the runs
        self.token = ""
        self.seeds = dict.fromkeys(names, 0)
        self.open = contextlib.ExitStack()
        self.begun = False

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *error: Any) -> None:
        self.open.__exit__(*error)

    def cost(self, names: Sequence[str], seeds: int) -> int:
        """Return how many nets are to be trained until those named have so many seeds."""
        each = self.experiment.folds * len(self.experiment.candidates)
        return sum(max(0, seeds - self.seeds[name]) for name in names) * each

    def train(self, names: Sequence[str], seeds: int, *, turn: int = 0) -> None:
        """Train those named until they have so many seeds; ``turn`` says which round of a race it is."""
        missing: list[Training] = []
        for name in names:
            missing += self.experiment.trainings([name], range(self.seeds[name], seeds))
        self.planned += len(missing)
        left = self._fleets([each for each in missing if each.run is not None], turn)
        for each in [each for each in missing if each.run is None] + left:
            self._alone(each)
        for name in names:
            self.seeds[name] = max(seeds, self.seeds[name])

    def _fleets(self, trainings: Sequence[Training], turn: int) -> list[Training]:
        """Train what fleets can; return the rest with the reasons."""
        runs = [each.run for each in trainings if each.run is not None]
        left: list[Training] = []
        if not runs:
            return left
        data, y = self.experiment.dataset, self.experiment.y
        weights = any(self.scoring.needs_weights(each) for each in trainings)
        with (
            open_session(self.ledger, runs, data.fingerprint, weights=weights) as session,
            show_progress([each.activation for each in trainings], self.verbose, round_number=turn) as watch,
        ):
            if not self.begun:
                self.begun, apart = True, bool(session and session.abandoned)
                where = engine(self.executor, self.jobs, runs, data.X, apart=apart)
                self.executor = self.open.enter_context(where)
            before = session.count_finished() if session else 0
            if session:
                self._begin(trainings, session)
            self._say_known(before, len(runs), turn)
            for place, result in training(
                runs, data.X, y, executor=self.executor, watch=watch, session=session
            ):
                if result.needs_skorch:
                    left.append(
                        dataclasses.replace(trainings[place], run=None, reason_alone=result.reason_alone)
                    )
                else:
                    self._take(trainings[place], result, session.keys[place] if session else "")
        if session and session.restored > before:  # others have trained some meanwhile
            self._say_known(session.restored, len(runs), turn)
        return left

    def _begin(self, trainings: Sequence[Training], session: LedgerSession) -> None:
        """Tell the ledger what is trained, so that a report can be written meanwhile."""
        self.plan += [
            {**dataclasses.asdict(Place(e.activation, e.split, e.fold, e.seed, e.tuned)), "key": key}
            for e, key in zip(trainings, session.keys, strict=True)
        ]
        if self.token:
            session.ledger.end_comparison(self.token)
        self.token = session.ledger.start_comparison(self.about(), self.plan)

    def end(self) -> None:
        """Tell the ledger that all is trained."""
        if self.token and self.ledger is not None:
            with open_ledger(self.ledger) as ledger:
                ledger.end_comparison(self.token)

    def _say_known(self, known: int, total: int, turn: int) -> None:
        if known and self.verbose:
            print(f"actlab: {round_prefix(turn)}{known} of {total} nets are from the ledger", file=sys.stderr)

    def _take(self, each: Training, result: Result, key: str) -> None:
        score = math.nan
        # To guess one class, as a net does that diverged, is no result of an activation.
        if not result.failure:
            try:
                score = self.scoring.score(each, result)
            except Exception as error:  # anybody's scorer
                result.failure = f"scoring failed: {summarize_error(error)}"
        self._add(each, result, score, key)

    def _alone(self, each: Training) -> None:
        """Let skorch train what no fleet can."""
        data, y = self.experiment.dataset, self.experiment.y
        net, result = clone(each.net), Result(how="skorch", reason_alone=each.reason_alone)
        score = math.nan
        try:
            fit_alone(net, data.X[each.rows], y[each.rows], each.seed, each.fold, result)
            score = self.scoring.score_net(net, each)
            if self.scoring.known == "accuracy":
                result.test_acc = score
        except Exception as error:  # anybody's callbacks, criterion, module or scorer
            result.failure = result.failure or f"scoring failed: {summarize_error(error)}"
        result.history = epochs_of(net)
        self._add(each, result, score)

    def _add(self, each: Training, result: Result, score: float, key: str = "") -> None:
        """Keep a run that has ended, without its weights: those of a thousand runs take gigabytes."""
        if not result.failure and not math.isfinite(score):
            result.failure = f"the score is {score}"
        result = dataclasses.replace(result, weights={})
        self.done.append(Done(each, result, math.nan if result.failure else score, key))

    # -- what came out --------------------------------------------------------------------------------

    def chosen(self) -> list[Done[Training]]:
        """Return the runs that count, as :func:`chosen` says."""
        return chosen(self.done, self.names, self.experiment.candidates)

    def failed(self) -> dict[str, str]:
        """Return which activations have runs without a score, and how many."""
        counts: dict[str, list[str]] = {}
        total: dict[str, int] = {}
        for one in self.chosen():
            name = one.training.activation
            total[name] = total.get(name, 0) + 1
            if math.isnan(one.score):
                counts.setdefault(name, []).append(one.result.failure)
        return {name: failures(reasons, total[name]) for name, reasons in counts.items()}

    def fatal(self) -> set[str]:
        """Return the activations that ended the processes that trained them: do not call them in this one."""
        return {one.training.activation for one in self.done if one.result.died}

    def judge(self, region: float, level: float) -> dict[Pair, Verdict | None]:
        """Judge every pair.

        Args:
            region: Half the width of the region of practical equivalence.
            level: The probability of an error that is allowed.

        Returns:
            The verdicts; None where a run has failed.
        """
        scores: dict[str, Scores] = {name: {} for name in self.names}
        for one in self.chosen():
            each = one.training
            scores[each.activation][each.split, each.fold, each.seed] = one.score
        known = {(a, b): self._evidence(scores[a], scores[b]) for a, b in combinations(self.names, 2)}
        tested = [pair for pair, found in known.items() if found]
        verdicts: dict[Pair, Verdict | None] = dict.fromkeys(known)
        verdicts.update(zip(tested, judge([e for e in known.values() if e], region, level), strict=True))
        return verdicts

    def _evidence(self, one: Scores, other: Scores) -> Evidence | None:
        if any(math.isnan(score) for score in (*one.values(), *other.values())):
            return None
        both = sorted(one.keys() & other.keys())
        differences = [one[place] - other[place] for place in both]
        cells = [split * self.experiment.folds + fold for split, fold, _ in both]
        step = self.scoring.step(min(len(test) for _, test in self.experiment.splits(0)))
        return evidence(differences, cells, 1 / (self.experiment.folds - 1), step=step)


def failures(reasons: Sequence[str], total: int) -> str:
    """Return in words how many runs have failed, and how."""
    diverged = sum(reason.startswith("diverged") for reason in reasons)
    said = [f"diverged in {diverged} of {total} runs"] if diverged else []
    if others := [reason for reason in reasons if not reason.startswith("diverged")]:
        said.append(f"failed in {len(others)} of {total} runs: {others[0]}")
    return "; ".join(said)

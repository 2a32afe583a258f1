"""Tune every run: choose learning rate and initialization on its validation samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from actlab.comparison.plan import COMPLETED, ComparisonPlan
from actlab.comparison.runner import Finished, Runner
from actlab.comparison.runs import PlannedRun
from actlab.comparison.search_space import find_next_rate, find_usual_rate

_EXTENSIONS = 3  # learning rates beyond the grid that a run may try
_TRIES = 3  # candidates that a run completes, if they diverge after the screening
_Unit = tuple[str, int, int]  # activation, seed and fold of a run


def train_planned(
    plan: ComparisonPlan,
    runner: Runner,
    names: Sequence[str],
    seeds: range,
    about: Mapping[str, Any],
    stage: str = "",
) -> None:
    """Train the runs of some activations, and the candidates for their settings.

    Without automatic tuning, every candidate is trained to its end. With it, the settings as given are
    trained to the end, and the other candidates for a twelfth of the epochs. If the best learning rate of a
    run is the smallest or largest one, the next rate beyond it is tried, too. Then the two best candidates
    are trained to the end. This is successive halving with one rung. With more rungs and a single candidate
    trained to the end, the chosen settings were no better in our measurements.

    Args:
        plan: The plan.
        runner: Trains the runs.
        names: The names of the activations.
        seeds: The seeds, counted from the first seed of the comparison.
        about: The description of the comparison for the ledger.
        stage: The round of a sequential test; empty without rounds.

    References:
        K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
        AISTATS (2016).
    """
    if not plan.screening_epochs:
        runner.train(plan.runs(names, seeds), about, stage)
        return
    units = list(itertools.product(names, seeds, range(plan.config.num_folds)))
    tuner = _Tuner(plan, runner, about, stage)
    tuner.screen(units)
    for _ in range(_TRIES):
        tuner.complete(units)


class _Tuner:
    """Screens the candidates of runs."""

    def __init__(self, plan: ComparisonPlan, runner: Runner, about: Mapping[str, Any], stage: str) -> None:
        self.plan, self.runner, self.about, self.stage = plan, runner, about, stage
        self.trials: dict[_Unit, dict[int, Finished]] = {}  # by candidate

    def train(self, planned: Sequence[PlannedRun], part: str) -> None:
        """Train runs, and add them to the trials. The progress line shows the name of the stage."""
        start = len(self.runner.runs)
        self.runner.train(planned, self.about, ", ".join(filter(None, [self.stage, part])))
        for run in self.runner.runs[start:]:
            labels = run.labels
            unit = labels.activation, labels.seed - self.plan.config.settings.seed, labels.fold
            candidate = self.plan.candidates.index(dict(labels.tuned))
            self.trials.setdefault(unit, {})[candidate] = run

    def screen(self, units: Sequence[_Unit]) -> None:
        """Train the settings as given to the end, and all other candidates for the screening epochs."""
        epochs = self.plan.screening_epochs
        self.train(
            [
                self.plan.run(*unit, candidate, epochs if candidate else 0)
                for unit in units
                for candidate in range(self.plan.grid_size)
            ],
            "screening",
        )
        for _ in range(_EXTENSIONS):
            wider = {unit: candidate for unit in units if (candidate := self._find_next(unit))}
            units = list(wider)
            runs = [self.plan.run(*unit, candidate, epochs) for unit, candidate in wider.items()]
            self.train(runs, "more rates")

    def complete(self, units: Sequence[_Unit]) -> None:
        """Train the best candidates of each run to the end, unless this has been done."""
        self.train(
            [
                self.plan.run(*unit, candidate)
                for unit in units
                for candidate in self._rank(unit)[:COMPLETED]
                if (run := self.trials[unit][candidate]).labels.screening and not run.result.failure
            ],
            "completion",
        )

    def _rank(self, unit: _Unit) -> list[int]:
        """Return the candidates, best first, by their validation score after screening.

        Candidates that failed later are the last.
        """

        def score(candidate: int) -> tuple[float, float]:
            run = self.trials[unit][candidate]
            epochs = 0 if run.result.failure and not run.labels.screening else self.plan.screening_epochs
            return run.validate(epochs)

        return sorted(sorted(self.trials[unit]), key=score, reverse=True)

    def _find_next(self, unit: _Unit) -> int | None:
        """Return the candidate beyond the best one if its learning rate is the smallest or largest."""
        candidates, trials = self.plan.candidates, self.trials[unit]
        index = self._rank(unit)[0]
        if trials[index].result.failure:
            return None
        best = candidates[index]
        rates = [values["lr"] for values in map(candidates.__getitem__, trials)]
        rate = find_next_rate(best["lr"], rates, find_usual_rate(self.plan.net))
        return None if rate is None else self.plan.add_candidate({**best, "lr": rate})

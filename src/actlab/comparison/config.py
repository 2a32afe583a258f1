"""What a comparison is asked for, refused where it cannot be had, before anything is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import skorch
import torch

from actlab.activation.definition import Activation
from actlab.comparison.chance_level import Scorer
from actlab.comparison.plan import Experiment
from actlab.comparison.scoring import Scoring
from actlab.comparison.user_model import ModuleLike, Replaced
from actlab.data.dataset import Dataset
from actlab.errors import UsageError, summarize_error
from actlab.given import specs
from actlab.spec import entry, get, is_formula, parse
from actlab.stats.sequential import LOOKS
from actlab.training.train import (
    TrainSettings,
    activation_problem,
    holdback_problem,
    raise_problems,
    whole_number_problem,
)

_MINUTES = re.compile(r"(\d+(?:\.\d+)?)m")


@dataclass(frozen=True)
class Budget:
    """What a race may take.

    Args:
        runs: So many runs.
        seconds: So much time.
    """

    runs: float = math.inf
    seconds: float = math.inf

    def refusal(self, runs: int, more: int, seconds: float) -> str:
        """Say why a round cannot be afforded; empty when it can.

        Args:
            runs: What has been trained.
            more: What the round would train.
            seconds: What has been taken.
        """
        if runs + more > self.runs:
            return f"the budget of {self.runs:.0f} runs: {runs} are trained, the next round takes {more} more"
        if runs and seconds * (1 + more / runs) > self.seconds:
            return f"the budget of {self.seconds / 60:g} minutes: the next round would not end in it"
        return ""


def budget_of(budget: int | str | None) -> Budget:
    """Read a budget.

    Args:
        budget: Runs, or minutes such as ``"20m"``; None for no limit.

    Raises:
        UsageError: It is neither.

    Examples:
        >>> budget_of("1.5m")
        Budget(runs=inf, seconds=90.0)
    """
    if budget is None:
        return Budget()
    text = str(budget).strip()
    if (found := _MINUTES.fullmatch(text)) and float(found[1]) > 0:
        return Budget(seconds=60 * float(found[1]))
    if text.isascii() and text.isdigit() and int(text) > 0:
        return Budget(runs=int(text))
    raise UsageError(f"budget is {budget!r}, neither a number of runs such as 200 nor minutes such as '20m'")


def check_comparison(
    activations: Iterable[str | Activation[Any]], dataset: Dataset, settings: TrainSettings, **design: Any
) -> None:
    """Refuse, before any training, a comparison that cannot be made.

    Args:
        activations: As for :func:`actlab.compare`.
        dataset: What is to be learnt.
        settings: How to train.
        **design: The arguments of :func:`actlab.compare` that shape it.

    Raises:
        UsageError: The message names all problems.
    """
    prepared(specs(activations), dataset, settings, **design)


def prepared(
    activations: Sequence[str],
    dataset: Dataset,
    settings: TrainSettings,
    *,
    folds: int,
    seeds: int = 1,
    until_decided: bool = False,
    budget: int | str | None = None,
    tune: Mapping[str, Sequence[Any]] | None = None,
    module: ModuleLike | skorch.NeuralNet | None = None,
    replace: Replaced | None = None,
    scoring: str | Scorer | None = None,
    rope: float | None = None,
    jobs: int | None = None,
    diagnostics: bool | None = None,
) -> tuple[Experiment, Scoring, Budget]:
    """Return what is trained, how it is scored and what it may take, as :func:`actlab.compare` has it.

    Raises:
        UsageError: As :func:`check_comparison`.
    """
    problems = ["" if activations else "no activations are given; name at least one"]
    for spec in activations:
        problems.append(_spec_problem(spec) if module else activation_problem(dataset, spec, settings))
    if not any(problems):
        problems.append(_duplicate_problem(activations))
    problems.append(_folds_problem(dataset, folds))
    problems += [whole_number_problem("jobs", jobs, 1)] if jobs is not None else []
    problems += _effort_problems(activations, seeds, until_decided, budget)
    if rope is not None and not (isinstance(rope, int | float) and math.isfinite(rope) and rope >= 0):
        problems.append(f"rope is {rope!r}, not half the width of a region, a number of at least 0")
    raise_problems(problems)
    shuffled = until_decided or seeds > 1
    experiment = Experiment(dataset, settings, folds, shuffled, module, replace, tune, diagnostics)
    if tune and experiment.net.train_split is None:
        raise UsageError(
            "tune chooses by the rows held back for validation, but the net's train_split is None"
        )
    if module:
        # What is wrong with the module is wrong with each activation in it: the first says it.
        raise_problems([p for spec in activations if (p := _forward_problem(experiment, spec))][:1])
    scored = Scoring(scoring, dataset, experiment.y)
    scored.check(experiment.trainings(activations[:1], range(1))[0])
    spend = budget_of(budget)
    first = LOOKS[0] * folds * len(experiment.candidates) * len(activations)
    if until_decided and first > spend.runs:
        raise UsageError(f"budget is {budget} runs, but the first round takes {first}")
    return experiment, scored, spend


def _effort_problems(
    activations: Sequence[str], seeds: int, until_decided: bool, budget: int | str | None
) -> list[str]:
    problems = [whole_number_problem("seeds", seeds, 1)]
    if until_decided and seeds != 1:
        problems.append(f"seeds is {seeds}, but until_decided adds seeds by itself: leave it out")
    if until_decided and len(activations) == 1:
        problems.append("until_decided needs two activations, for one alone there is nothing to decide")
    if budget is not None and not until_decided:
        problems.append(
            f"budget is {budget}, but only until_decided keeps to one; without it seeds says how much"
        )
    return problems


def _spec_problem(spec: str) -> str:
    try:
        get(spec)
    except UsageError as error:
        return str(error)
    return ""


def _forward_problem(experiment: Experiment, spec: str) -> str:
    """Say why a person's module with an activation cannot be made or run; empty when it can."""
    data = experiment.dataset
    try:
        made = experiment.untrained(spec)
        with torch.no_grad():
            outputs = made(torch.from_numpy(data.X[:2]))
    except UsageError as error:
        return str(error)
    except Exception as error:  # anybody's code
        return (
            f"the module with activation {spec!r} fails on two rows of {data.name}: {summarize_error(error)}"
        )
    if type(experiment.net) not in (skorch.NeuralNetClassifier, skorch.NeuralNetRegressor):
        return ""  # it may have a loss of its own
    if not isinstance(outputs, torch.Tensor):
        return f"the module with activation {spec!r} returns a {type(outputs).__name__}, not a tensor"
    shape, expected = tuple(outputs.shape), (len(data.X[:2]), data.num_classes)
    return "" if shape == expected else f"the module with activation {spec!r} gives {shape}, not {expected}"


def _duplicate_problem(activations: Sequence[str]) -> str:
    seen: list[Any] = []
    for spec in activations:
        # "relu" and "relu()" are one activation under two names.
        same = entry(spec) if is_formula(spec) else parse(spec)
        if same in seen:
            return f"activation {spec!r} is given twice"
        seen.append(same)
    return ""


def _folds_problem(dataset: Dataset, folds: int) -> str:
    if problem := whole_number_problem("folds", folds, 2):
        return f"{problem}: without a part left out there is nothing to test on" if folds == 1 else problem
    if dataset.is_regression:
        if folds > len(dataset.y):
            return f"folds is {folds}, but {dataset.name} has {len(dataset.y)} rows; each fold needs one"
        return holdback_problem(dataset.y, folds)
    counts = np.bincount(dataset.y)
    smallest = int(counts.argmin())
    if folds > counts[smallest]:
        named = f"the smallest class of {dataset.name}, {dataset.classes[smallest]!r}"
        numbers = len(counts) > len(dataset.y) / 5  # every fifth row another: these are hardly classes
        hint = "; if these are numbers to be predicted: regression" if numbers else ""
        rows = f"{counts[smallest]} row{'s' if counts[smallest] > 1 else ''}"
        return f"folds is {folds}, but {named}, has {rows}; each fold needs one{hint}"
    return holdback_problem(dataset.y, folds)

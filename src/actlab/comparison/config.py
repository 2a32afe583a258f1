"""The configuration of a comparison, validated once before anything is trained."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

import skorch
from sklearn.pipeline import Pipeline

from actlab.comparison.module_arguments import find_model
from actlab.comparison.pipeline import split_pipeline
from actlab.comparison.scoring import Scorer
from actlab.comparison.splits import (
    DEFAULT_FOLDS,
    DEFAULT_TEST_SEEDS,
    TEST_SET,
    choose_split,
    find_split_problems,
    has_same_splits,
)
from actlab.comparison.user_model import ModuleLike, Replaced
from actlab.data.dataset import Dataset
from actlab.errors import UsageError, raise_problems
from actlab.spec import ActivationLike, ResolvedActivation, resolve_all
from actlab.training.settings import TrainSettings, find_integer_problem

_MINUTES = re.compile(r"(\d+(?:\.\d+)?)m")


@dataclass(frozen=True)
class Budget:
    """The limit of a sequential comparison.

    Args:
        runs: Number of runs.
        seconds: Time in seconds.
    """

    runs: float = math.inf
    seconds: float = math.inf

    def explain_refusal(self, runs: int, more: int, seconds: float) -> str:
        """Return why the budget does not allow the next round; an empty string if it does.

        Args:
            runs: Runs trained so far.
            more: Runs of the next round.
            seconds: Time spent so far, in seconds.
        """
        if runs + more > self.runs:
            round_size = f"the next round of {more} runs"
            return f"{round_size} would exceed the budget of {self.runs:.0f} runs: {runs} have been trained"
        if runs and seconds * (1 + more / runs) > self.seconds:
            return f"the next round would exceed the budget of {self.seconds / 60:g} minutes"
        return ""


def parse_budget(budget: int | str | None) -> Budget:
    """Parse a budget.

    Args:
        budget: A number of runs, or minutes such as ``"20m"``; None for no limit.

    Raises:
        UsageError: It is neither.

    Examples:
        >>> parse_budget("1.5m")
        Budget(runs=inf, seconds=90.0)
    """
    if budget is None:
        return Budget()
    text = str(budget).strip()
    if (minutes := _MINUTES.fullmatch(text)) and float(minutes[1]) > 0:
        return Budget(seconds=60 * float(minutes[1]))
    if text.isascii() and text.isdigit() and int(text) > 0:
        return Budget(runs=int(text))
    raise UsageError(f"budget must be a number of runs such as 200, or minutes such as '20m', got {budget!r}")


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """The settings of a comparison.

    The arguments are those of :func:`actlab.compare`.

    Attributes:
        resolved: The activations.

    Raises:
        UsageError: Some values are wrong; the message names all of them.

    Examples:
        >>> from actlab.data import load_data
        >>> config = ComparisonConfig(activations=["relu", "tanh"], dataset=load_data("digits"))
        >>> config.names
        ['relu', 'tanh']
    """

    activations: InitVar[Iterable[ActivationLike] | Mapping[str, ActivationLike]]
    resolved: tuple[ResolvedActivation, ...] = field(init=False)
    dataset: Dataset
    settings: TrainSettings = field(default_factory=TrainSettings)
    folds: int | None = None
    seeds: int | None = None
    split: str | None = None
    until_decided: bool = False
    budget: int | str | None = None
    tune: str | Mapping[str, Sequence[Any]] | None = "auto"
    module: ModuleLike | skorch.NeuralNet | Pipeline | None = None
    replace: Replaced | None = None
    scoring: str | Scorer | None = None
    rope: float | None = None
    jobs: int | None = None
    diagnostics: bool | None = None

    def __post_init__(self, activations: Iterable[ActivationLike] | Mapping[str, ActivationLike]) -> None:
        problems = []
        resolved: tuple[ResolvedActivation, ...] = ()
        try:
            resolved = resolve_all(activations)
        except UsageError as error:
            problems.append(str(error))
        object.__setattr__(self, "resolved", resolved)
        problems += find_split_problems(self.dataset, self.split, self.folds)
        if self.seeds is not None:
            problems.append(find_integer_problem("seeds", self.seeds, 1))
        if self.jobs is not None:
            problems.append(find_integer_problem("jobs", self.jobs, 1))
        if self.rope is not None and not (
            isinstance(self.rope, int | float) and math.isfinite(self.rope) and self.rope >= 0
        ):
            problems.append(f"rope must be a number >= 0, half the width of the region, got {self.rope!r}")
        if self.replace is not None and self.module is None:
            problems.append(f"replace needs a module, got replace={self.replace!r} without one")
        if not (self.tune in ("auto", None) or isinstance(self.tune, Mapping)):
            grid = "a dictionary such as {'lr': [0.003, 0.01]}"
            problems.append(f"tune must be 'auto', None or {grid}, got {self.tune!r}")
        problems += self._sequential_problems(len(resolved))
        raise_problems(problems)
        model = find_model(self.module)
        if isinstance(model, Pipeline):
            model, dataset = split_pipeline(model, self.dataset)
            object.__setattr__(self, "dataset", dataset)
        object.__setattr__(self, "module", model)

    def _sequential_problems(self, activations: int) -> list[str]:
        if not self.until_decided:
            if self.budget is None:
                return []
            return [
                f"budget={self.budget!r} needs until_decided; for a fixed number of runs, set seeds instead"
            ]
        problems = []
        if self.seeds not in (None, 1):
            problems.append(f"until_decided chooses the number of seeds, got seeds={self.seeds}: omit seeds")
        if activations == 1:
            problems.append("until_decided needs two activations, got 1: there are no pairs to decide")
        try:
            parse_budget(self.budget)
        except UsageError as error:
            problems.append(str(error))
        return problems

    @functools.cached_property
    def names(self) -> list[str]:
        """Return the names of the activations in all tables."""
        return [activation.name for activation in self.resolved]

    @functools.cached_property
    def split_kind(self) -> str:
        """Return the kind of split that :func:`~actlab.comparison.splits.choose_split` chooses."""
        return choose_split(self.dataset, self.split)

    @functools.cached_property
    def num_folds(self) -> int:
        """Return the number of folds of a seed; 1 with a fixed test set."""
        return 1 if self.split_kind == TEST_SET else self.folds or DEFAULT_FOLDS

    @functools.cached_property
    def num_seeds(self) -> int:
        """Return the number of seeds without ``until_decided``."""
        return self.seeds or (DEFAULT_TEST_SEEDS if self.split_kind == TEST_SET else 1)

    @functools.cached_property
    def shuffled(self) -> bool:
        """Whether samples or groups are shuffled before they are split. This requires several seeds."""
        return (self.until_decided or self.num_seeds > 1) and not has_same_splits(self.split_kind)

"""The runs of a comparison: every activation in one network, on the same folds and from the same seeds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import skorch
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid, StratifiedKFold

from actlab.comparison.config import ComparisonConfig, parse_budget
from actlab.comparison.runs import PlannedRun
from actlab.comparison.scoring import Scoring
from actlab.comparison.user_model import prepare_net
from actlab.errors import UsageError, did_you_mean, raise_problems
from actlab.fleet.diagnostics import choose_diagnostic_epochs
from actlab.fleet.run import Rows, Run
from actlab.fleet.skorch_adapter import NeedsSkorch, read_run, reuse_equal_factory
from actlab.models.random_streams import SPLIT, derive_seed
from actlab.stats.sequential import ANALYSES
from actlab.training.train import find_device_problem, find_integer_problem, make_net, try_forward
from actlab.training.validation_split import split_validation


class ComparisonPlan:
    """Plans the runs: activations x seeds x folds x tuned values.

    A single seed uses scikit-learn's unshuffled folds. With several seeds, two consecutive seeds share a
    split of shuffled samples, which separates the variance of the seed from that of the split.

    Args:
        config: The configuration.

    Attributes:
        config: The configuration.
        candidates: The combinations of tuned values; one empty combination if nothing is tuned.
        y: The targets as the network takes them.
        scoring: How trained networks are scored.

    Raises:
        UsageError: The network cannot be built or run with an activation, cannot be tuned like that, or
            cannot be scored.
    """

    def __init__(self, config: ComparisonConfig) -> None:
        self.config, dataset = config, config.dataset
        self.net = _make_net(config)
        self.candidates = [
            dict(sorted(one.items())) for one in ParameterGrid(_read_grid(config.tune, self.net))
        ]
        first_round = ANALYSES[0] * config.folds * len(self.candidates) * len(config.names)
        if config.until_decided and first_round > parse_budget(config.budget).runs:
            size = f"{first_round} runs, the size of the first round"
            raise UsageError(f"budget must be >= {size}, got {config.budget}")
        self.y = dataset.y
        if isinstance(self.net, skorch.NeuralNetBinaryClassifier):  # its loss takes numbers
            self.y = dataset.y.astype(np.float32)
        self.scoring = Scoring(config.scoring, dataset, self.y)
        self._folds: dict[int, list[tuple[Rows, Rows]]] = {}
        self._makers: list[Any] = []  # runs with one maker train together
        self._validation_splits: dict[tuple[int, int, int], tuple[Rows, Rows | None]] = {}
        self._templates = self._make_templates()
        net, template = self._templates[config.names[0], 0]
        if isinstance(template, str) or self.scoring.needs_weights(template):
            self.scoring.check(net, self.make_folds(int(config.shuffled))[0][1])

    def make_folds(self, split: int) -> list[tuple[Rows, Rows]]:
        """Return the indices of training samples (n,) and of test samples (m,) of each fold."""
        if split not in self._folds:
            dataset = self.config.dataset
            kind = KFold if dataset.is_regression else StratifiedKFold
            options: dict[str, Any] = {}
            if split:
                start = derive_seed(self.config.settings.seed + 2 * (split - 1), 0, SPLIT) % 2**32
                options = {"shuffle": True, "random_state": start}
            self._folds[split] = list(kind(self.config.folds, **options).split(dataset.X, dataset.y))
        return self._folds[split]

    def runs(self, names: Sequence[str], seeds: range) -> list[PlannedRun]:
        """Return the runs of some activations.

        Args:
            names: The specs.
            seeds: The seeds, counted from the first seed of the comparison.
        """
        each = itertools.product(names, seeds, range(self.config.folds), range(len(self.candidates)))
        return [self._run(*labels) for labels in each]

    @functools.cached_property
    def diagnostic_epochs(self) -> list[tuple[int, ...]]:
        """The epochs with diagnostics, for each candidate. Folds differ by a sample and share them."""
        epochs = []
        for candidate in range(len(self.candidates)):
            runs = (self._run_without_diagnostics(name, 0, 0, candidate).run for name in self.config.names)
            run = next((run for run in runs if run is not None), None)
            wanted = self.config.diagnostics
            epochs.append(
                choose_diagnostic_epochs(wanted, run.epochs, run.steps, run.batch_size) if run else ()
            )
        return epochs

    def _run(self, name: str, seed: int, fold: int, candidate: int) -> PlannedRun:
        planned = self._run_without_diagnostics(name, seed, fold, candidate)
        if planned.run is None:
            return planned
        run = dataclasses.replace(planned.run, diagnostic_epochs=self.diagnostic_epochs[candidate])
        return dataclasses.replace(planned, run=run)

    def _run_without_diagnostics(self, name: str, seed: int, fold: int, candidate: int) -> PlannedRun:
        net, template = self._templates[name, candidate]
        split = 1 + seed // 2 if self.config.shuffled else 0
        rows, test = self.make_folds(split)[fold]
        own = self.config.settings.seed + seed
        labels = (name, split, fold, own, self.candidates[candidate], net, rows, test)
        if isinstance(template, str):
            return PlannedRun(*labels, None, template)
        if (key := (seed, fold, candidate)) not in self._validation_splits:  # all activations share it
            self._validation_splits[key] = split_validation(net, rows, self.config.dataset.y, own, fold)
        train, valid = self._validation_splits[key]
        parts: dict[str, Any] = {"rows": train, "valid": valid, "test": test, "seed": own, "fold": fold}
        return PlannedRun(*labels, dataclasses.replace(template, **parts))

    def _make_templates(self) -> dict[tuple[str, int], tuple[skorch.NeuralNet, Run | str]]:
        """Return for each activation and candidate the net, and its run or why no fleet can train it."""
        own_loss = type(self.net) not in (skorch.NeuralNetClassifier, skorch.NeuralNetRegressor)
        raise_problems(dict.fromkeys(_find_net_problem(self.net, values) for values in self.candidates))
        templates, problems = {}, []
        for activation in self.config.resolved:
            net = clone(self.net).set_params(module__activation=activation, **self.candidates[0])
            net.set_params(module=self.net.module)  # the object itself: copies do not train together
            try:
                maker = try_forward(net, activation, self.config.dataset, any_output=own_loss)
            except UsageError as error:
                problems.append(str(error))
                continue
            for number, values in enumerate(self.candidates):
                candidate = clone(net).set_params(**values)
                candidate.set_params(module=maker)
                templates[activation.spec, number] = candidate, self._template_run(candidate)
        # A fault of the user's module shows with every activation.
        raise_problems(problems[:1] if self.config.module else problems)
        return templates

    def _template_run(self, net: skorch.NeuralNet) -> Run | str:
        try:
            run = reuse_equal_factory(read_run(net, self.config.dataset.X, self.y), self._makers)
        except NeedsSkorch as reason:
            return str(reason)
        return dataclasses.replace(run, precision=self.config.settings.precision)


def _make_net(config: ComparisonConfig) -> skorch.NeuralNet:
    """Return the net that takes an activation as ``module__activation``."""
    dataset, module = config.dataset, config.module
    if isinstance(module, skorch.NeuralNet):
        return prepare_net(module, None, dataset, config.replace)
    net = make_net(dataset, "relu", config.settings)
    return net if module is None else prepare_net(net, module, dataset, config.replace)


def _find_net_problem(net: skorch.NeuralNet, tuned: Mapping[str, Any]) -> str:
    """Return the problem with the epochs, the batch size or the device; an empty text if there is none."""
    names = ("max_epochs", "batch_size", "device")
    epochs, batch_size, device = (tuned.get(name, getattr(net, name)) for name in names)
    return (
        find_integer_problem("max_epochs", epochs, 1)
        or (batch_size != -1 and find_integer_problem("batch_size", batch_size, 1))  # -1: all samples
        or (device is not None and find_device_problem(device))
        or ""
    )


def _read_grid(tune: Mapping[str, Sequence[Any]] | None, net: skorch.NeuralNet) -> dict[str, list[Any]]:
    """Return the distinct values to try, by parameter name of the skorch model."""
    if not isinstance(tune, Mapping | None):
        raise UsageError(f"tune must be a dictionary such as {{'lr': [0.003, 0.01]}}, got {tune!r}")
    if tune and net.train_split is None:
        raise UsageError("tune needs validation samples, but the net's train_split is None")
    parameters = net.get_params()
    forms = net.module.args[1] if isinstance(net.module, functools.partial) else ()
    taking_activations = {"activation", *forms}
    for name, values in (tune or {}).items():
        if str(name).removeprefix("module__").partition("__")[0] in taking_activations:
            raise UsageError(
                f"tune contains {name!r}, but activations are compared, not tuned: list them as activations"
            )
        if name not in parameters:
            hint = did_you_mean(str(name), parameters) or "; an example is 'lr'"
            raise UsageError(f"tune contains {name!r}, which is not a parameter of the skorch net{hint}")
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UsageError(f"tune needs a list of values such as [0.003, 0.01], got {name}={values!r}")
        for value in values:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name == "lr" and not (number and 0 < value < float("inf")):
                raise UsageError(f"tune needs learning rates > 0, got lr={value!r}")
    return {name: list(dict.fromkeys(values)) for name, values in (tune or {}).items()}

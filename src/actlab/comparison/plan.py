"""The runs of a comparison: every activation in one network, on the same folds and from the same seeds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import skorch
import torch
from sklearn.base import clone
from skorch.dataset import ValidSplit
from torch import nn

from actlab.comparison.chance_level import find_score_range
from actlab.comparison.config import ComparisonConfig, parse_budget
from actlab.comparison.runs import PlannedRun
from actlab.comparison.scoring import Scoring
from actlab.comparison.search_space import Candidate, list_auto_candidates, list_grid_candidates
from actlab.comparison.splits import TEST_SET, FoldFeatures, Folds, make_folds, warn_about_extrapolation
from actlab.comparison.user_model import prepare_net
from actlab.data.dataset import Dataset
from actlab.errors import UsageError, raise_problems
from actlab.fleet.diagnostics import choose_diagnostic_epochs
from actlab.fleet.run import NeedsSkorch, Rows, Run
from actlab.fleet.skorch_adapter import (
    find_restored_column,
    read_run,
    require_weights_support,
    reuse_equal_factory,
)
from actlab.models.random_streams import SPLIT, derive_seed
from actlab.models.trained_parameters import find_trained_activations
from actlab.spec import ResolvedActivation
from actlab.stats.sequential import ANALYSES
from actlab.training.settings import find_device_problem, find_integer_problem
from actlab.training.train import make_net, try_forward
from actlab.training.validation_split import make_given_split, split_validation

SCREENING = 12  # candidates train for a twelfth of the epochs
COMPLETED = 2  # candidates that each run trains to the end


class ComparisonPlan:
    """Plans the runs: activations x seeds x folds x candidates for the tuned settings.

    A single seed uses scikit-learn's unshuffled folds. With several seeds, two consecutive seeds share a
    split of shuffled samples, which separates the variance of the seed from that of the split.

    Args:
        config: The configuration.

    Attributes:
        config: The configuration.
        dataset: The data, as images if the user's module takes images only.
        candidates: The combinations of tuned values, the settings as given first; one empty combination if
            nothing is tuned.
        screening_epochs: With automatic tuning, the number of epochs after which the candidates of a run are
            compared; 0 without automatic tuning.
        grid_size: The number of candidates that every run tries.
        features: The features and targets that the runs refer to.
        scoring: How trained networks are scored.

    Raises:
        UsageError: The network cannot be built or run with an activation, cannot be tuned as requested, or
            cannot be scored.
    """

    def __init__(self, config: ComparisonConfig) -> None:
        self.config, self.dataset = config, _choose_input(config)
        self.net = _make_net(config, self.dataset)
        self.candidates = _list_candidates(config, self.net)
        raise_problems(dict.fromkeys(_find_net_problem(self.net, values) for values in self.candidates))
        self.grid_size = len(self.candidates)  # runs may add more
        epochs = self.net.max_epochs
        self.screening_epochs = max(1, epochs // SCREENING) if config.tune == "auto" else 0
        first_round = self.count_runs(len(config.names), ANALYSES[0])
        if config.until_decided and first_round > parse_budget(config.budget).runs:
            size = f"{first_round} runs, the size of the first round"
            cost = self.count_runs(1, 1) // config.num_folds
            tuned = f"; a tuned run counts as {cost}" * (cost > 1)
            raise UsageError(f"budget must be >= {size}{tuned}, got {config.budget}")
        y = self.dataset.y
        if isinstance(self.net, skorch.NeuralNetBinaryClassifier):  # its loss takes numbers
            y = y.astype(np.float32)
        self.features = FoldFeatures(self.dataset, y)
        self.scoring = Scoring(config.scoring, self.features)
        is_alone = config.num_seeds == 1 and not config.until_decided
        if config.split_kind == TEST_SET and is_alone and len(config.names) > 1:
            self.scoring.require_outcomes()
        self._folds: dict[int, Folds] = {}
        if config.split_kind == "time":
            warn_about_extrapolation(config.dataset, self.make_folds(0))
        self._located: list[Folds] = []  # by split, as indices of the features
        self._factories: list[Any] = []  # runs with one factory train together
        self._validation_splits: dict[tuple[int, int, int], tuple[Rows, Rows | None]] = {}
        self._templates: dict[tuple[str, int], tuple[skorch.NeuralNet, Run | str, str]] = {}
        self._diagnostic_epochs: dict[int, tuple[int, ...]] = {}  # by candidate
        self._activations: dict[str, tuple[str, ...]] = {}  # paths in the network
        self._makers = self._find_makers()
        net, template, _ = self._template(config.names[0], 0)
        if isinstance(template, str) or self.scoring.needs_weights(template):
            self.scoring.check(net, self._locate_fold(int(config.shuffled), 0)[1])

    def make_folds(self, split: int) -> Folds:
        """Return the indices of the training samples (n,) and test samples (m,) of each fold."""
        if split not in self._folds:
            config = self.config
            state = derive_seed(config.settings.seed + 2 * (split - 1), 0, SPLIT) % 2**32 if split else None
            self._folds[split] = make_folds(config.dataset, config.split_kind, config.num_folds, state)
        return self._folds[split]

    def count_test_samples(self) -> int:
        """Return the number of test samples of a seed, in all folds."""
        return sum(len(test) for _, test in self.make_folds(int(self.config.shuffled)))

    def compute_score_range(self) -> tuple[float, float]:
        """Return the score of the best constant predictor and that of a perfect one on the first fold.

        Both are NaN if the scorer needs more than predictions.
        """
        test = self._locate_fold(int(self.config.shuffled), 0)[1]
        return find_score_range(self.scoring.weigh(test), self.features.X[test], self.features.y[test])

    def _locate_fold(self, split: int, fold: int) -> tuple[Rows, Rows]:
        """Return the training samples and the test samples of a fold, as indices of :attr:`features`."""
        first = int(self.config.shuffled)
        while len(self._located) <= split - first:
            folds = self.make_folds(first + len(self._located))
            self._located.append(self.features.add_folds(folds))
        return self._located[split - first][fold]

    def count_runs(self, activations: int, seeds: int) -> int:
        """Return how many complete runs it takes to train some activations and tune them."""
        cost = self.grid_size
        if self.screening_epochs:
            cost = math.ceil(
                1 + COMPLETED + (self.grid_size - 1) * self.screening_epochs / self.net.max_epochs
            )
        return activations * seeds * self.config.num_folds * cost

    def add_candidate(self, values: Candidate) -> int:
        """Add a combination of values if it is new; return its index."""
        if values not in self.candidates:
            self.candidates.append(values)
        return self.candidates.index(values)

    def find_activations(self, name: str, build: Callable[[], nn.Module]) -> tuple[str, ...]:
        """Return the paths of an activation in a network; none if it has no trained parameters.

        Args:
            name: The name of the activation.
            build: Returns the network.
        """
        if name not in self._activations:
            resolved = self.config.resolved[self.config.names.index(name)]
            with torch.random.fork_rng(devices=[]):
                activation = resolved.build()
                is_trained = any(True for _ in activation.parameters())
                self._activations[name] = find_trained_activations(build(), activation) if is_trained else ()
        return self._activations[name]

    def runs(self, names: Sequence[str], seeds: range) -> list[PlannedRun]:
        """Return the complete runs of some activations with all candidates.

        Args:
            names: The names of the activations.
            seeds: The seeds, counted from the first seed of the comparison.
        """
        each = itertools.product(names, seeds, range(self.config.num_folds), range(len(self.candidates)))
        return [self.run(*labels) for labels in each]

    def run(self, name: str, seed: int, fold: int, candidate: int, epochs: int = 0) -> PlannedRun:
        """Return a run.

        Args:
            name: The name of the activation.
            seed: The seed, counted from the first seed of the comparison.
            fold: The index of the test fold, from 0.
            candidate: The index of its tuned values.
            epochs: The number of epochs of a screening run; 0 for a complete run.
        """
        planned = self._run_without_diagnostics(name, seed, fold, candidate)
        if epochs:
            run = planned.run and dataclasses.replace(planned.run, epochs=epochs, test=None, activations=())
            net = clone(planned.net).set_params(max_epochs=epochs) if run is None else planned.net
            return dataclasses.replace(planned, run=run, net=net, screening=True)
        if planned.run is None:
            return planned
        run = dataclasses.replace(planned.run, diagnostic_epochs=self._choose_diagnostic_epochs(candidate))
        return dataclasses.replace(planned, run=run)

    def find_diagnostic_epochs(self) -> tuple[int, ...]:
        """Return the epochs with diagnostics of the candidate that has the most of them."""
        every = range(1 if self.screening_epochs else len(self.candidates))
        return max(map(self._choose_diagnostic_epochs, every), key=len)

    def _choose_diagnostic_epochs(self, candidate: int) -> tuple[int, ...]:
        """Return the epochs with diagnostics of a candidate. All folds use those of the first fold."""
        if candidate not in self._diagnostic_epochs:
            runs = (self._run_without_diagnostics(name, 0, 0, candidate).run for name in self.config.names)
            run = next((run for run in runs if run is not None), None)
            wanted = self.config.diagnostics
            self._diagnostic_epochs[candidate] = (
                choose_diagnostic_epochs(wanted, run.epochs, run.steps, run.batch_size) if run else ()
            )
        return self._diagnostic_epochs[candidate]

    def _run_without_diagnostics(self, name: str, seed: int, fold: int, candidate: int) -> PlannedRun:
        net, template, restored_by = self._template(name, candidate)
        split = 1 + seed // 2 if self.config.shuffled else 0
        rows, test = self._locate_fold(split, fold)
        own = self.config.settings.seed + seed
        values = self.candidates[candidate]
        init = values.get("init", self.config.settings.init)
        net = self._set_split(net, rows, own, fold)
        labels = (name, split, fold, own, values, False, restored_by, net, rows, test)
        if isinstance(template, str):
            return PlannedRun(*labels, None, init, template)
        # All activations share the split. Candidates may have different ones: train_split can be tuned.
        shared = 0 if self.screening_epochs else candidate
        if (key := (seed, fold, shared)) not in self._validation_splits:
            self._validation_splits[key] = split_validation(net, rows, self.features.y, own, fold)
        train, valid = self._validation_splits[key]
        parts: dict[str, Any] = {"rows": train, "valid": valid, "test": test, "seed": own, "fold": fold}
        return PlannedRun(*labels, dataclasses.replace(template, **parts, init=init), init)

    def _set_split(self, net: skorch.NeuralNet, rows: Rows, seed: int, fold: int) -> skorch.NeuralNet:
        """Return a model that holds out whole groups, the last samples, or random ones of shuffled samples.

        Other models are unchanged. A stratified split holds out the first samples of each class.
        """
        groups, kind = self.config.dataset.groups, self.config.split_kind
        usual = net.train_split
        is_sorted = type(usual) is ValidSplit and not usual.stratified and usual.random_state is None
        shuffled = self.config.shuffled and is_sorted
        if groups is None and kind != "time" and not shuffled:
            return net
        of_rows = None if groups is None else groups[rows % self.features.samples]
        split = make_given_split(net, self.features.y[rows], of_rows, seed, fold, shuffled=shuffled)
        return clone(net).set_params(train_split=split) if split else net

    def _find_makers(self) -> dict[str, Any]:
        """Return for each activation what builds the module of its models."""
        usual = (skorch.NeuralNetClassifier, skorch.NeuralNetRegressor)
        own_loss = isinstance(self.config.module, skorch.NeuralNet) and type(self.net) not in usual
        makers, problems = {}, []
        for activation in self.config.resolved:
            net = self._copy_net(activation, 0, self.net.module)
            try:
                makers[activation.name] = try_forward(net, activation, self.dataset, any_output=own_loss)
            except UsageError as error:
                problems.append(str(error))
        # A fault of the user's module shows with every activation.
        raise_problems(problems[:1] if self.config.module else problems)
        return makers

    def _copy_net(self, activation: ResolvedActivation, candidate: int, module: Any) -> skorch.NeuralNet:
        """Return the model of an activation and a candidate."""
        parameters = _select_parameters(self.candidates[candidate])
        net = clone(self.net).set_params(module__activation=activation, **parameters)
        return net.set_params(module=module)  # the object itself: copies do not train together

    def _template(self, name: str, candidate: int) -> tuple[skorch.NeuralNet, Run | str, str]:
        """Return the model of an activation and a candidate, its run or why no fleet can train it, and the
        column of its history whose best epoch is restored.
        """
        if (name, candidate) not in self._templates:
            activation = self.config.resolved[self.config.names.index(name)]
            net = self._copy_net(activation, candidate, self._makers[name])
            template = self._template_run(name, net)
            if self.dataset.weights is not None:
                require_weights_support(template)
            self._templates[name, candidate] = net, template, find_restored_column(net)
        return self._templates[name, candidate]

    def _template_run(self, name: str, net: skorch.NeuralNet) -> Run | str:
        try:
            run = read_run(net, self.dataset.X, self.features.targets)
        except NeedsSkorch as reason:
            return str(reason)
        run = reuse_equal_factory(run, self._factories)
        activations = self.find_activations(name, run.build)
        return dataclasses.replace(
            run,
            precision=self.config.settings.precision,
            activations=activations,
            sample_weights=self.dataset.weights,
        )


def _choose_input(config: ComparisonConfig) -> Dataset:
    """Return the data, as images if the user's module fails on flat samples and takes images."""
    dataset = config.dataset
    if config.module is None or not dataset.shape:
        return dataset
    try:
        _try_input(config, dataset)
        return dataset
    except UsageError as flat:
        images = dataset.as_images()
        try:
            _try_input(config, images)
        except UsageError as error:
            if str(error) == str(flat):  # not about the input
                raise
            raise UsageError(f"{flat}; on images {dataset.shape}: {error}") from error
        return images


def _try_input(config: ComparisonConfig, dataset: Dataset) -> None:
    activation = config.resolved[0]
    net = _make_net(config, dataset).set_params(module__activation=activation)
    try_forward(net, activation, dataset, any_output=True)


def _make_net(config: ComparisonConfig, dataset: Dataset) -> skorch.NeuralNet:
    """Return the skorch model that takes an activation as ``module__activation``."""
    module = config.module
    if isinstance(module, skorch.NeuralNet):
        return prepare_net(module, None, dataset, config.replace)
    net = make_net(dataset, "relu", config.settings)
    return net if module is None else prepare_net(net, module, dataset, config.replace)


def _find_net_problem(net: skorch.NeuralNet, tuned: Mapping[str, Any]) -> str:
    """Return the problem with the epochs, the batch size or the device; an empty string if there is none."""
    names = ("max_epochs", "batch_size", "device")
    epochs, batch_size, device = (tuned.get(name, getattr(net, name)) for name in names)
    return (
        find_integer_problem("max_epochs", epochs, 1)
        or (batch_size != -1 and find_integer_problem("batch_size", batch_size, 1))  # -1: all samples
        or (device is not None and find_device_problem(device))
        or ""
    )


def _select_parameters(values: Candidate) -> Candidate:
    """Return the values that are parameters of the skorch model."""
    return {name: value for name, value in values.items() if name != "init"}


def _list_candidates(config: ComparisonConfig, net: skorch.NeuralNet) -> list[Candidate]:
    """Return the combinations of tuned values."""
    if config.tune is None:
        return [{}]
    if net.train_split is None:
        raise UsageError(
            "tuning needs validation samples, but the model's train_split is None; "
            "set it, or set tune=None (--no-tune)"
        )
    if isinstance(config.tune, str):
        return list_auto_candidates(net, config.settings.init)
    forms = net.module.args[1] if isinstance(net.module, functools.partial) else ()
    return list_grid_candidates(config.tune, net, config.settings.init, {"activation", *forms})

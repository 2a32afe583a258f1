"""What a comparison trains: every activation in one net, on the same folds and from the same seeds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import skorch
import torch
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid, StratifiedKFold
from torch import nn

from actlab.comparison.user_model import ModuleLike, Replaced, own_net
from actlab.data.dataset import Dataset
from actlab.errors import UsageError, did_you_mean
from actlab.fleet.diagnostics import epochs_to_look
from actlab.fleet.run import Rows, Run
from actlab.fleet.skorch_adapter import NotFused, read, sharing
from actlab.models.random_streams import SPLIT, stream_seed
from actlab.timing import saved_bytes
from actlab.training.train import TrainSettings, holdout, lazy_filled, make_net


@dataclass(frozen=True)
class Place:
    """Where a net stands in a comparison.

    Attributes:
        activation: As it was given.
        split: Which split of the rows; 0 is the one without shuffling.
        fold: The part that is left out, from 0.
        seed: Where its random numbers come from.
        tuned: What it tries of the values that are tuned.
    """

    activation: str
    split: int
    fold: int
    seed: int
    tuned: Mapping[str, Any]

    def columns(self) -> dict[str, Any]:
        """Return them as columns of a table: folds from 1, what is tuned by its name."""
        own = {"activation": self.activation, "split": self.split, "fold": self.fold + 1, "seed": self.seed}
        return {**own, **self.tuned}


@dataclass(frozen=True)
class Training(Place):
    """One net to train.

    Attributes:
        net: The untrained net.
        rows: Rows (n,) to train on, those for validation among them.
        test: Rows (m,) to be scored on.
        run: The same for a fleet; None if no fleet can train it.
        reason_alone: Why not.
    """

    net: skorch.NeuralNet
    rows: Rows
    test: Rows
    run: Run | None
    reason_alone: str = ""


class Experiment:
    """The design: activations x seeds x folds.

    One seed has the folds that scikit-learn makes without shuffling. Of several, every two share a split of
    shuffled rows, so that the luck of the seed can be told from the luck of the split. The split without
    shuffling is none of these: rows may lie in an order, and what holds for one split is to hold for all.

    Args:
        dataset: What is learnt.
        settings: How.
        folds: Parts that the rows are split into.
        shuffled: Whether the rows are shuffled, as for several seeds.
        module: What to put the activations into; None for the notebook's net.
        replace: Which of the module's activations; None for the only kind that it has.
        tune: Values to choose from, by the names of the net's parameters.
        diagnostics: Whether the nets are looked into; None for as far as it costs little.

    Raises:
        UsageError: The module cannot be had, or has no one kind of activation; what is tuned cannot be.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: TrainSettings,
        folds: int,
        shuffled: bool = False,
        module: ModuleLike | skorch.NeuralNet | None = None,
        replace: Replaced | None = None,
        tune: Mapping[str, Sequence[Any]] | None = None,
        diagnostics: bool | None = None,
    ) -> None:
        self.diagnostics = diagnostics
        self.dataset, self.settings, self.folds, self.shuffled = dataset, settings, folds, shuffled
        if isinstance(module, skorch.NeuralNet):
            self.net = own_net(module, None, dataset, replace)
        else:
            self.net = make_net(dataset, "relu", settings)
            if module is not None:
                self.net = own_net(self.net, module, dataset, replace)
            elif replace is not None:
                raise UsageError(f"replace is {replace!r}, but there is no module to replace anything in")
        self.candidates = [dict(sorted(one.items())) for one in ParameterGrid(_grid(tune, self.net))]
        self.y = dataset.y
        if isinstance(self.net, skorch.NeuralNetBinaryClassifier):  # its loss is one of numbers
            self.y = dataset.y.astype(np.float32)
        self._splits: dict[int, list[tuple[Rows, Rows]]] = {}
        self._read: dict[tuple[str, int], tuple[skorch.NeuralNet, Run | str]] = {}
        self._makers: list[Any] = []
        self._modules: dict[str, Any] = {}  # what makes the module, by activation
        self.looks: dict[int, tuple[int, ...]] = {}  # after which epochs, by candidate

    def splits(self, split: int) -> list[tuple[Rows, Rows]]:
        """Return the rows for training (n,) and for the test (m,) of each fold."""
        if split not in self._splits:
            kind = KFold if self.dataset.is_regression else StratifiedKFold
            how: dict[str, Any] = {}
            if split:
                start = stream_seed(self.settings.seed + 2 * (split - 1), 0, SPLIT) % 2**32
                how = {"shuffle": True, "random_state": start}
            self._splits[split] = list(kind(self.folds, **how).split(self.dataset.X, self.dataset.y))
        return self._splits[split]

    def trainings(self, names: Sequence[str], seeds: range) -> list[Training]:
        """Return what there is to train, activation by activation.

        Args:
            names: The activations.
            seeds: Which seeds, counted from the first.
        """
        each = itertools.product(names, seeds, range(self.folds), range(len(self.candidates)))
        return [self._training(*place) for place in each]

    def untrained(self, activation: str) -> nn.Module:
        """Return a module as it is before training."""
        net, like = self._as_run(activation, 0)
        if isinstance(like, Run):
            return like.build()
        with torch.random.fork_rng(devices=[]):
            return clone(net).initialize().module_  # type: ignore[no-any-return]

    def kept(self, training: Training) -> float:
        """Return the bytes that a step of a net keeps for its backward pass; NaN if that cannot be tried."""
        rows = self.dataset.X[: max(1, min(training.net.batch_size, len(training.rows)))]
        try:
            with torch.random.fork_rng(devices=[]):
                run = training.run
                module = run.build() if run else clone(training.net).initialize().module_.cpu()
                return float(saved_bytes(module, torch.from_numpy(rows)))
        except Exception:  # anybody's module; why it fails is told of its runs
            return math.nan

    def _training(self, name: str, seed: int, fold: int, candidate: int) -> Training:
        net, like = self._as_run(name, candidate)
        split = 1 + seed // 2 if self.shuffled else 0
        rows, test = self.splits(split)[fold]
        own = self.settings.seed + seed
        about = (name, split, fold, own, self.candidates[candidate], net, rows, test)
        if isinstance(like, str):
            return Training(*about, None, like)
        train, valid = holdout(net, rows, self.dataset, own, fold)
        place: dict[str, Any] = {"rows": train, "valid": valid, "test": test, "seed": own, "fold": fold}
        run = dataclasses.replace(like, **place)
        if candidate not in self.looks:  # folds differ by a row, and are looked into after the same epochs
            self.looks[candidate] = epochs_to_look(self.diagnostics, run.epochs, run.steps, run.batch_size)
        return Training(*about, dataclasses.replace(run, looks=self.looks[candidate]))

    def _as_run(self, name: str, candidate: int) -> tuple[skorch.NeuralNet, Run | str]:
        """Return the net with an activation and a candidate, and its run, or why no fleet can train it."""
        if (name, candidate) not in self._read:
            net = clone(self.net).set_params(module__activation=name, **self.candidates[candidate])
            net.set_params(module=self.net.module)
            if name not in self._modules:
                self._modules[name] = lazy_filled(net, self.dataset.X)
            net.set_params(module=self._modules[name])  # runs of one maker train together, not of its copies
            try:
                run = sharing(read(net, self.dataset.X, self.y), self._makers)
                like: Run | str = dataclasses.replace(run, precision=self.settings.precision)
            except NotFused as reason:
                like = str(reason)
            self._read[name, candidate] = net, like
        return self._read[name, candidate]


def _grid(tune: Mapping[str, Sequence[Any]] | None, net: skorch.NeuralNet) -> dict[str, list[Any]]:
    """Return the values that are tried, without any that is there twice."""
    known = net.get_params()
    forms = net.module.args[1] if isinstance(net.module, functools.partial) else ()
    taking = {"activation", *forms}
    for name, values in (tune or {}).items():
        if name.removeprefix("module__").partition("__")[0] in taking:
            raise UsageError(f"tune has {name!r}, but activations are what is compared: name them instead")
        if name not in known:
            hint = did_you_mean(name, known) or "; it takes 'lr', for example"
            raise UsageError(f"tune has {name!r}, which the net does not take{hint}")
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UsageError(f"tune has {name}={values!r}, not a list of values such as [0.003, 0.01]")
        for value in values:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name == "lr" and not (number and 0 < value < float("inf")):
                raise UsageError(f"tune has lr={value!r}, not above 0")
    return {name: list(dict.fromkeys(values)) for name, values in (tune or {}).items()}

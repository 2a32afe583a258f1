"""Reasons why models train alone, and that they train correctly."""

from __future__ import annotations

import logging
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch import NeuralNetClassifier
from torch import nn

from actlab import FleetSearchCV, compare
from actlab.data.dataset import Dataset
from actlab.fleet.grouping import group_into_fleets
from actlab.fleet.run import Optimizer, Run
from actlab.fleet.trial import ReasonAlone, find_fleet_problem
from actlab.ledger.ledger import Ledger
from actlab.models.random_streams import WEIGHTS, derive_seed, seeded_torch
from actlab.training.settings import TrainSettings
from actlab.training.train import history_frame, make_net, train
from tests.fleets import Packing
from tests.searches import CLASSES, FEATURES, ROWS, X, Y, classifier, create_network, one_thread, score_matrix

__all__ = ["one_thread"]

SPLIT = [(np.arange(90), np.arange(90, 150))]
WORDS = (np.abs(2 * X) % 10).astype(np.int64)
SHORT = {"epochs": 2, "batch_size": 16, "verbose": 0}


def dataset(values=X):
    return Dataset(values.astype(np.float32), Y, "made up", "0" * 16, ("a", "b", "c"))


def by_fleet_and_skorch(net, grid, values=X):
    """Return a FleetSearchCV and the scores of GridSearchCV, on one split from the same seed."""
    options = {"cv": SPLIT, "scoring": "neg_log_loss", "refit": False}
    ours = FleetSearchCV(net, grid, n_jobs=1, seeds=[5], **options).fit(values, Y)
    torch.manual_seed(5)
    (name, one), *rest = ((name, value) for name, values in grid.items() for value in values)
    assert not rest
    return ours, score_matrix(GridSearchCV(net, {name: [one]}, **options).fit(values, Y))


# -- reasons of the plan ------------------------------------------------------------------------------


def run(net, **options):
    defaults = {"rows": np.arange(32), "loss": nn.CrossEntropyLoss(), "batch_size": 16}
    rule = Optimizer("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0})
    return Run(**{"net": net, "epochs": 2, "optimizer": rule, **defaults, **options})


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.beside = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES)
        self.function = function

    def forward(self, x):
        return self.function(self.layer(x), self.beside(x))


def raises(y, z):
    return {}["nothing"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda y, z: (y + z, z), "the network returns a tuple; a fleet needs one tensor"),
        (lambda y, z: {"logits": y + z}, "the network returns a dict; a fleet needs one tensor"),
        (lambda y, z: None, "the network returns a NoneType; a fleet needs one tensor"),
        (raises, "the network failed on two samples: KeyError: 'nothing'"),
        (
            lambda y, z: y,
            "the loss does not depend on the parameter beside.weight; a fleet updates every parameter",
        ),
        (
            lambda y, z: y + z.detach(),
            "the loss does not depend on the parameter beside.weight; a fleet updates every parameter",
        ),
    ],
)
def test_plan_gives_the_reason_why_skorch_trains_a_model(function, reason):
    planned = group_into_fleets(
        [run(lambda: Calls(function))] * 2, *map(torch.from_numpy, (X, Y)), Packing(most=64)
    )
    assert [
        (fleet.reason_alone, fleet.alone is ReasonAlone.NEEDS_SKORCH, len(fleet.indices)) for fleet in planned
    ] == [(reason, True, 1)] * 2


@pytest.mark.parametrize(("batch_size", "rows"), [(33, 32), (0, 32), (-1, 32), (16, 0)])
def test_plan_leaves_runs_without_a_batch_to_skorch(batch_size, rows):
    model = lambda: nn.Linear(FEATURES, CLASSES)  # noqa: E731
    few = run(model, batch_size=batch_size, rows=np.arange(rows), drop_last=True)
    first, second = group_into_fleets([few, run(model)], *map(torch.from_numpy, (X, Y)), Packing(most=64))
    settings = f"batch_size={batch_size} and drop_last=True"
    assert first.reason_alone == f"{settings} give no batch from {rows} training samples"
    assert (
        first.alone is ReasonAlone.NEEDS_SKORCH,
        second.alone is ReasonAlone.NEEDS_SKORCH,
        second.reason_alone,
    ) == (
        True,
        False,
        "",
    )


def test_fleet_problem_leaves_random_generators_unchanged():
    def draws(y, z):
        return y + z + random.random() + np.random.rand()

    before = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    model = run(lambda: Calls(draws))
    assert "draws from Python's or NumPy's global random generator" in find_fleet_problem(
        model, model.build(), torch.from_numpy(X[:2]), torch.from_numpy(Y[:2])
    )
    assert (random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()) == before


# -- models that a fleet or skorch trains -------------------------------------------------------------


class Last(nn.Module):
    """Returns the last output of a recurrent layer."""

    def forward(self, x):
        return x[0][:, -1]


def recurrent(kind):
    return nn.Sequential(
        nn.Unflatten(1, (FEATURES, 1)), kind(1, 5, batch_first=True), Last(), nn.Linear(5, CLASSES)
    )


class Sequences(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.last = kind(1, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x):
        outputs, _ = self.layer(x.unsqueeze(-1))
        return self.last(outputs.mean(1))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("make", [recurrent, Sequences])
def test_fleet_search_trains_recurrent_networks_like_skorch(make, kind):
    ours, theirs = by_fleet_and_skorch(create_network(make, module__kind=kind), {"lr": [0.1]})
    (reason,) = ours.runs_["reason_alone"].unique()
    assert reason.startswith("torch.vmap cannot run the network: ")
    assert ours.runs_["how"].eq("autograd").all()
    np.testing.assert_allclose(score_matrix(ours), theirs, rtol=1e-6)


class Words(nn.Module):
    def __init__(self, kind=nn.Embedding, activation=None):
        super().__init__()
        self.table, self.activation = kind(10, 4), activation or nn.Tanh()
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x):
        fitted = self.table(x.long())
        return self.last(self.activation(fitted.mean(1) if fitted.ndim > 2 else fitted))


def embedding_line():
    return nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(4 * FEATURES, CLASSES))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32])
def test_fleet_search_trains_embeddings_in_a_fleet(dtype):
    model = create_network(Words) if dtype in (np.uint8, np.float32) else create_network(embedding_line)
    ours, theirs = by_fleet_and_skorch(model, {"lr": [0.1]}, WORDS.astype(dtype))
    assert ours.runs_["reason_alone"].eq("").all()
    np.testing.assert_allclose(score_matrix(ours), theirs, rtol=1e-6)


ONE_AT_A_TIME = "torch.vmap computes aten::embedding_bag.padding_idx for one network at a time"


@pytest.mark.parametrize(("kind", "reason"), [(nn.Embedding, ""), (nn.EmbeddingBag, ONE_AT_A_TIME)])
def test_compare_trains_embeddings_in_a_fleet(kind, reason):
    class Network(Words):
        def __init__(self, activation):
            super().__init__(kind, activation)

    comparison = compare(["relu", "tanh"], dataset(WORDS), module=Network, tune=None, **SHORT).results
    assert comparison["reason_alone"].eq(reason).all()
    assert comparison["failure"].eq("").all()
    assert comparison["how"].eq("autograd").all()


class Unused(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.layer, self.activation, self.never = nn.Linear(FEATURES, CLASSES), activation, nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(self.activation(x))


def test_compare_trains_models_unsupported_by_fleets_by_skorch():
    comparison = compare(["relu", "tanh"], dataset(), module=Unused, tune=None, **SHORT).results
    assert comparison["how"].eq("skorch").all()
    assert (
        comparison["reason_alone"]
        .str.startswith("the loss does not depend on the parameter never.weight")
        .all()
    )
    assert comparison["failure"].eq("").all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_fleet_search_equals_skorch_if_drop_last_leaves_no_batch(shuffle):
    options = {"iterator_train__drop_last": True, "iterator_train__shuffle": shuffle}
    ours, theirs = by_fleet_and_skorch(classifier(batch_size=73, **options), {"lr": [0.1]})
    assert ours.runs_["reason_alone"].unique().tolist() == [
        "batch_size=73 and drop_last=True give no batch from 72 training samples"
    ]
    assert np.array_equal(score_matrix(ours), theirs)


def test_compare_reports_that_drop_last_leaves_no_batch():
    model = classifier(batch_size=200, iterator_train__drop_last=True)
    comparison = compare(["relu", "tanh"], dataset(), module=model, tune=None).results
    assert (
        comparison["reason_alone"]
        .str.startswith("batch_size=200 and drop_last=True give no batch from 80")
        .all()
    )
    assert comparison["failure"].eq("").all()


# -- modules that change their own state -------------------------------------------------------------


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        return torch.where(x > 0, x, x / (1 + self.steps))


COUNTER = f"{__name__}:Counter"
CHANGES = "the network changes the attribute 'steps' of activation1 (Counter) while it trains"


def as_skorch_trains(seed, fold, rows, settings):
    model = make_net(dataset(), COUNTER, settings)
    with seeded_torch(seed, fold, WEIGHTS, "cpu"):
        return model.fit(X[rows], Y[rows])


def test_compare_trains_a_module_that_changes_itself_like_skorch():
    comparison = compare(["relu", COUNTER], dataset(), folds=3, seed=4, tune=None, **SHORT).results
    assert comparison["how"].tolist() == ["layer by layer"] * 3 + ["skorch"] * 3
    assert comparison["reason_alone"][:3].eq("").all()
    assert comparison["reason_alone"][3:].str.startswith(CHANGES).all()
    splits = [(np.flatnonzero(np.arange(ROWS) // (ROWS // 3) != fold)) for fold in range(3)]
    settings = TrainSettings(epochs=2, batch_size=16, seed=4)
    for fold, rows in enumerate(splits):
        model = as_skorch_trains(4, fold, rows, settings)
        test = np.setdiff1d(np.arange(ROWS), rows)
        assert comparison["score"][3 + fold] == model.score(X[test], Y[test])


def test_compare_with_a_ledger_repeats_runs_trained_by_skorch(tmp_path):
    first, second = (
        compare(["relu", COUNTER], dataset(), ledger=tmp_path / "runs.db", tune=None, **SHORT)
        for _ in range(2)
    )
    assert first.results["score"].tolist() == second.results["score"].tolist()
    assert second.results["how"].tolist() == ["layer by layer"] * 3 + ["skorch"] * 3
    with Ledger(tmp_path / "runs.db", readonly=True) as ledger:
        assert len(ledger.runs()) == 3


@pytest.mark.parametrize("loud", [False, True])
def test_train_trains_a_module_that_changes_itself_like_skorch(loud, capsys):
    settings = TrainSettings(epochs=2, batch_size=16, seed=3)
    lines = []
    model = train(dataset(), COUNTER, settings, sink=lines.append if loud else None)
    expected = as_skorch_trains(3, 0, np.arange(ROWS), settings)
    assert history_frame(model).drop(columns="dur").equals(history_frame(expected).drop(columns="dur"))
    for name, weight in expected.module_.named_parameters():
        assert torch.equal(dict(model.module_.named_parameters())[name], weight)
    assert len(lines) == (4 if loud else 0)
    assert capsys.readouterr().out == ""


class Late(Counter):
    """Changes in training, but not for the two samples of the first test."""

    def forward(self, x):
        self.steps += x.shape[-2] > 2
        return torch.where(x > 0, x, x / (1 + self.steps))


GRID = {"module__activation": ["relu", Late, "tanh"]}


def search_mixed(**options):
    search = FleetSearchCV(classifier(), GRID, cv=2, refit=False, scoring="neg_log_loss", **options)
    return search.fit(X, Y)


def check_mixed(fitted):
    assert fitted.runs_["how"].tolist() == ["layer by layer"] * 2 + ["skorch"] * 2 + ["layer by layer"] * 2
    assert fitted.runs_["reason_alone"][2:4].str.startswith("the network changes the attribute 'steps'").all()
    assert np.array_equal(score_matrix(fitted), score_matrix(search_mixed(n_jobs=1)))


def test_fleet_search_trains_other_runs_in_fleets_with_threads():
    with ThreadPoolExecutor(2) as executor:
        check_mixed(search_mixed(executor=executor))


@pytest.mark.slow
def test_fleet_search_trains_other_runs_in_fleets_with_processes():
    check_mixed(search_mixed(n_jobs=2))


def test_fleet_search_warns_once_about_runs_trained_by_skorch(caplog):
    with caplog.at_level(logging.WARNING, "actlab"):
        search_mixed(n_jobs=1, seeds=3)
    (record,) = caplog.records
    assert record.message.startswith(
        "trained by skorch, one at a time: the network changes the attribute 'steps' of activation1 (Late)"
    )


@pytest.mark.parametrize(
    "make_centre", [lambda: lambda h: h - h.mean(0), lambda: nn.BatchNorm1d(8, track_running_stats=False)]
)
def test_compare_evaluates_networks_that_depend_on_the_batch_as_skorch_does(make_centre):
    class Centred(nn.Module):
        def __init__(self, activation=nn.ReLU):
            super().__init__()
            self.one, self.act, self.two = nn.Linear(FEATURES, 8), activation(), nn.Linear(8, CLASSES)
            self.centre = make_centre()

        def forward(self, x):
            return self.two(self.act(self.centre(self.one(x))))

    settings = {"criterion": nn.CrossEntropyLoss, "max_epochs": 2, "batch_size": 16, "lr": 0.05, "verbose": 0}
    net = NeuralNetClassifier(Centred, **settings)
    results = compare(["relu"], dataset(), module=net, tune=None, jobs=1).results
    scores = []
    for fold, (rows, test) in enumerate(StratifiedKFold(3).split(X, Y)):
        torch.manual_seed(derive_seed(0, fold, WEIGHTS))
        fitted = NeuralNetClassifier(Centred, **settings).fit(dataset().X[rows], Y[rows])
        scores.append(fitted.score(dataset().X[test], Y[test]))
    assert results["score"].to_list() == scores
    assert results["reason_alone"].str.contains("depends on the other samples of the batch").all()

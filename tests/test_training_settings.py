"""The settings of training: optimizers, schedules, early stopping, hidden layers and dropout."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import actlab
from actlab.cli import main
from actlab.comparison.loading import make_training_comparison
from actlab.comparison.runs import FinishedRun, PlannedRun
from actlab.data import load_data
from actlab.errors import UsageError
from actlab.fleet.run import Result
from actlab.fleet.skorch_adapter import find_restored_column
from actlab.models import NeuralNet
from actlab.report.html.reproduce import format_call, list_settings
from actlab.spec import resolve
from actlab.training.settings import TrainSettings, compute_one_cycle_factor
from actlab.training.train import make_net, plan_training, run_training
from actlab.training.train import train as train_net
from tests.test_cli import refused


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def train(data, **settings):
    plan = plan_training(data, "tanh", TrainSettings(**{"epochs": 3, "hidden": (16, 8), **settings}))
    return plan, run_training(plan)


OPTIONS = [
    {},
    {"optimizer": "adam"},
    {"optimizer": "adamw"},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "rmsprop", "momentum": 0.5},
    {"momentum": 0.0, "weight_decay": 0.01},
    {"schedule": "cosine"},
    {"schedule": "onecycle", "optimizer": "adam"},
    {"hidden": (12,)},
    {"hidden": (12, 10, 6)},
]


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())) or "sgd"
)
def test_train_equals_a_loop_of_torch(data, options):
    plan, trained = train(data, **options)
    assert trained.result.how == "layer by layer"
    settings = TrainSettings(**{"epochs": 3, "hidden": (16, 8), **options})
    module = plan.run.build()
    kind = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}[settings.optimizer]
    values = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.momentum is not None:
        values["momentum"] = settings.momentum
    optimizer = getattr(torch.optim, kind)(module.parameters(), **values)
    rows, loss = torch.from_numpy(plan.run.rows), nn.CrossEntropyLoss()
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = (
                settings.lr
                * {
                    "none": 1.0,
                    "cosine": (1 + np.cos(np.pi * epoch / 3)) / 2,
                    "onecycle": compute_one_cycle_factor(epoch, 3),
                }[settings.schedule]
            )
        for indices in rows.split(128):
            optimizer.zero_grad()
            loss(module(X[indices]), y[indices]).backward()
            optimizer.step()
    for one, other in zip(trained.net.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-6, atol=2e-6)


def test_train_early_stopping_restores_the_best_epoch(data):
    _, trained = train(data, epochs=60, early_stopping=2, lr=0.3)
    losses = [row["valid_loss"] for row in trained.result.history]
    assert len(losses) < 60
    assert min(losses) not in losses[-2:]
    module, valid = trained.net.module_, trained.net.get_params()["train_split"]
    assert valid is not None
    plan, _ = train(data, epochs=1)
    rows = torch.from_numpy(plan.run.valid)
    with torch.no_grad():
        loss = nn.CrossEntropyLoss()(module(torch.from_numpy(data.X)[rows]), torch.from_numpy(data.y)[rows])
    assert float(loss) == pytest.approx(min(losses), rel=1e-5)


def test_the_score_of_a_stopped_run_is_that_of_the_restored_epoch(data):
    settings = TrainSettings(epochs=60, early_stopping=3, lr=0.3)
    activation = resolve("relu")
    trained = run_training(plan_training(data, activation, settings))
    comparison = make_training_comparison(trained, data, activation, settings)
    history = pd.DataFrame(trained.result.history)
    best = int(history["valid_loss"].argmin())
    assert history["valid_acc"].iloc[-1] < history["valid_acc"].iloc[best]
    assert comparison.results["score"].to_list() == [history["valid_acc"].iloc[best]]


def test_tuning_validates_the_epoch_that_early_stopping_restores(data):
    history = [
        {"valid_acc": 0.9, "valid_loss": 0.5, "valid_loss_best": True},
        {"valid_acc": 0.1, "valid_loss": 2.0, "valid_loss_best": False},
    ]
    for settings, accuracy in ((TrainSettings(), 0.1), (TrainSettings(early_stopping=1), 0.9)):
        net, rows = make_net(data, "relu", settings), np.arange(3)
        planned = PlannedRun("relu", 0, 0, 0, {}, False, find_restored_column(net), net, rows, rows, None)
        assert FinishedRun(planned, Result(history=history), 0.5).validate()[0] == accuracy


def test_report_repeats_and_lists_the_settings(data):
    comparison = actlab.compare(
        ["relu"], data, folds=2, epochs=1, jobs=1, tune=None, optimizer="adam", hidden=(8,)
    )
    assert "optimizer='adam'" in (call := format_call(["relu"], comparison.about))
    assert not any(name in call for name in ("lr=", "momentum", "schedule"))
    rows = dict(list_settings(comparison.about))
    assert (rows["optimizer"], rows["lr"], rows["hidden"]) == ("adam", "0.001", "8")
    assert rows.keys().isdisjoint({"momentum", "schedule", "dropout", "weight decay", "early stopping"})


def test_train_epochs_auto_stops_when_validation_stops_improving(data):
    _, trained = train(data, epochs="auto", lr=0.1)
    losses = [row["valid_loss"] for row in trained.result.history]
    assert len(losses) < 200
    assert int(np.argmin(losses)) <= len(losses) - 10


def test_train_with_dropout_differs_and_repeats(data):
    first, second = (train(data, dropout=0.5)[1] for _ in range(2))
    without = train(data)[1]
    assert first.result.history[-1]["train_loss"] == second.result.history[-1]["train_loss"]
    assert first.result.history[-1]["train_loss"] > without.result.history[-1]["train_loss"]
    assert isinstance(first.net.module_.dropout2, nn.Dropout)
    assert not hasattr(without.net.module_, "dropout1")


def test_neural_net_takes_widths_of_any_number_of_layers():
    net = NeuralNet(num_units=(7, 5, 3), num_features=4, num_classes=2)
    assert [tuple(p.shape) for p in net.parameters() if p.ndim == 2] == [(7, 4), (5, 7), (3, 5), (2, 3)]
    assert net(torch.zeros(6, 4)).shape == (6, 2)
    assert NeuralNet(num_units=np.int64(6)).fc2.out_features == 3
    with pytest.raises(ValueError, match="num_units must be at least 1, got 0"):
        NeuralNet(num_units=(7, 0))


def test_compute_one_cycle_factor_rises_and_falls():
    factors = [compute_one_cycle_factor(epoch, 25) for epoch in range(25)]
    peak = int(np.argmax(factors))
    assert 6 <= peak <= 8
    assert factors[0] == pytest.approx(0.04)
    assert 0 < factors[-1] < 0.02
    assert (np.diff(factors[: peak + 1]) > 0).all()
    assert (np.diff(factors[peak:]) < 0).all()
    assert [compute_one_cycle_factor(0, 1), compute_one_cycle_factor(0, 2)] == [1.0, 0.04]


def test_compare_uses_the_settings_and_tunes_around_the_usual_rate(data):
    comparison = actlab.compare(
        ["relu", "tanh"], data, epochs=4, folds=2, jobs=1, optimizer="adamw", schedule="cosine", hidden=(16,)
    )
    assert set(comparison.tuning["lr"]) >= {0.0001, 0.0003, 0.001, 0.003, 0.01}
    assert comparison.about["settings"]["lr"] == 0.001
    assert set(comparison.results["how"]) == {"layer by layer"}
    given = comparison.as_given.results
    settings = TrainSettings(epochs=4, optimizer="adamw", schedule="cosine", hidden=(16,))
    alone = actlab.compare(
        ["relu", "tanh"], data, folds=2, tune=None, module=make_net(data, "relu", settings)
    )
    np.testing.assert_allclose(given["score"], alone.results["score"], atol=0.002)


def test_train_verb_passes_the_settings(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = "--optimizer adam --schedule onecycle --hidden 12,10,6 --weight-decay 0.01 --epochs 2 --quiet"
    assert main(["train", "--activation", "elu", *options.split()]) == 0
    settings = TrainSettings(
        optimizer="adam", schedule="onecycle", hidden=(12, 10, 6), weight_decay=0.01, epochs=2
    )
    expected = train_net(load_data("digits"), "elu", settings).history[-1]["valid_loss"]
    rows = (tmp_path / "out/train/history.csv").read_text().splitlines()
    column = rows[0].split(",").index("valid_loss")
    assert float(rows[-1].split(",")[column]) == pytest.approx(expected)
    command = (tmp_path / "out/train/training.json").read_text()
    assert "--hidden 12,10,6" in command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, adamw, rmsprop, got 'lion'"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum is for sgd and rmsprop, got 0.9 with adam"),
        ({"schedule": "linear"}, "schedule must be one of none, cosine, onecycle, got 'linear'"),
        ({"hidden": ()}, r"hidden must be widths >= 1 of the hidden layers such as \(128, 64\), got \(\)"),
        ({"hidden": (8, 0)}, r"hidden must be widths >= 1 .* got \(8, 0\)"),
        ({"hidden": "128"}, "hidden must be widths >= 1 .* got '128'"),
        ({"dropout": 1}, "dropout must be >= 0 and < 1, got 1"),
        ({"weight_decay": -1}, "weight_decay must be finite and >= 0, got -1"),
        ({"early_stopping": 0}, "early_stopping must be an integer >= 1, got 0"),
        ({"epochs": "many"}, "epochs must be an integer >= 1, got 'many'"),
        ({"lr": float("nan")}, "lr must be finite and > 0, got nan"),
    ],
)
def test_train_settings_rejects_invalid_values(options, message):
    with pytest.raises(UsageError, match=message):
        TrainSettings(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--hidden 128,,64", "--hidden must be widths such as 128,64, got '128,,64'"),
        ("--hidden 0", "hidden must be widths >= 1"),
        ("--epochs autos", "argument --epochs: must be an integer or auto, got 'autos'"),
        ("--dropout 1", "dropout must be >= 0 and < 1, got 1.0"),
        ("--schedule linear", "schedule must be one of"),
        ("--early-stopping 0", "early_stopping must be an integer >= 1, got 0"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "compare relu"])
def test_verbs_reject_invalid_settings(capsys, verb, options, message):
    assert message in refused(capsys, *verb.split(), *options.split())


class Own(nn.Sequential):
    """A network without arguments for its sizes."""

    def __init__(self, activation):
        super().__init__(nn.Linear(64, 8), activation, nn.Linear(8, 10))


@pytest.mark.parametrize(
    ("setting", "name"), [({"hidden": (8,)}, "num_units"), ({"dropout": 0.5}, "dropout")]
)
def test_compare_rejects_sizes_that_a_module_does_not_take(data, setting, name):
    with pytest.raises(UsageError, match=f"is set, but the module Own has no argument '{name}'"):
        actlab.compare(["relu"], data, module=Own, **setting)


def test_compare_rejects_all_sizes_that_a_module_does_not_take_together(data):
    with pytest.raises(UsageError, match=r"hidden is set.*; dropout is set"):
        actlab.compare(["relu"], data, module=Own, hidden=(8,), dropout=0.5)


class Widths(NeuralNet):
    """A network with an argument for the widths of its hidden layers."""

    def __init__(self, activation, num_features, num_classes, hidden=(4,)):
        super().__init__(hidden, activation, num_features, num_classes)


def test_compare_passes_widths_as_hidden(data):
    options = {"epochs": 1, "folds": 2, "tune": None, "jobs": 1}
    for hidden, own in (((8, 4), (8, 4)), ((6,), (6,)), ((128, 64), (4,))):
        scores = [
            actlab.compare(["relu"], data, module=one, hidden=widths, **options).results["score"].to_list()
            for one, widths in ((Widths, hidden), (None, own))
        ]
        assert scores[0] == scores[1]


def test_compare_passes_sizes_to_a_module_that_takes_them(data):
    options = {"epochs": 2, "folds": 2, "tune": None, "jobs": 1, "hidden": (8, 6, 5)}
    own, default = (actlab.compare(["relu"], data, module=one, **options) for one in (NeuralNet, None))
    assert own.results["score"].to_list() == default.results["score"].to_list()

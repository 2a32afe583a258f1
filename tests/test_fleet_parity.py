"""Fleets give the weights and histories of skorch, model by model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import skorch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler
from torch import nn
from torch.optim import lr_scheduler as schedules

from actlab.fleet.run import NeedsSkorch
from actlab.fleet.skorch_adapter import read_run
from actlab.models.networks import new_activation
from tests.fleets import (
    CLASSES,
    FEATURES,
    Branching,
    assert_close,
    assert_fleet_equals_skorch,
    assert_same_training,
    classifier,
    make_flat,
    make_run,
    make_sequential,
    make_table,
    train_by_fleets,
    train_by_skorch,
)

X, Y = make_table()
BOTH_WAYS = pytest.mark.parametrize("layer_by_layer", [True, False], ids=["layer by layer", "autograd"])

# -- architectures --------------------------------------------------------------------------------


def make_convolutions(activation=nn.Tanh, norm=nn.Identity, pool=nn.MaxPool2d):
    return nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)),
        nn.Conv2d(1, 4, 3, padding=1),
        norm(4),
        activation(),
        pool(2),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        norm(4),
        activation(),
        nn.Flatten(),
        nn.Linear(36, CLASSES),
    )


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.activation = nn.BatchNorm2d(4), nn.SiLU()
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = self.activation(self.first(x.view(-1, 1, 6, 6)))
        x = x + self.activation(self.norm(self.second(x)))
        return self.last(x.mean((2, 3)))


class Attention(nn.Module):
    """A transformer block on the rows of an image."""

    def __init__(self):
        super().__init__()
        self.first, self.places = nn.Linear(6, 8), nn.Parameter(torch.zeros(6, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(8), nn.LayerNorm(8)])
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.first(x.unflatten(1, (6, 6))) + self.places
        rows = self.norms[0](x)
        x = x + self.attention(rows, rows, rows, need_weights=False)[0]
        return self.last((x + self.inner(self.norms[1](x))).mean(1))


class Words(nn.Module):
    """A recurrent cell on pixels as words."""

    def __init__(self):
        super().__init__()
        self.words, self.cell = nn.Embedding(8, 6), nn.GRUCell(6, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x):
        state = torch.zeros_like(x[:, :8])
        for word in self.words((x[:, :5].abs() * 2).long().clamp(0, 7)).unbind(1):
            state = self.cell(word, state)
        return self.last(torch.tanh(state))


ARCHITECTURES = {
    "convolutions": make_convolutions,
    "convolutions and mean pooling": lambda: make_convolutions(nn.ReLU, pool=nn.AvgPool2d),
    "batch norm": lambda: make_convolutions(nn.ReLU, nn.BatchNorm2d),
    "group norm": lambda: make_convolutions(norm=lambda channels: nn.GroupNorm(2, channels)),
    "a residual block": Residual,
    "attention and layer norm": Attention,
    "an embedding and a recurrent cell": Words,
}
OPERATIONS = {
    "attention and layer norm": "aten::_scaled_dot_product_flash_attention_for_cpu",
    "an embedding and a recurrent cell": "aten::gru_cell",
}


@pytest.mark.parametrize("most", [1, 64], ids=["alone", "stacked"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fleet_trains_every_architecture_like_skorch(name, most):
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(len(Y), 36)) + np.eye(CLASSES, 36)[Y] * 3).astype(np.float32)
    model = classifier(module=ARCHITECTURES[name], optimizer__momentum=0.5, max_epochs=3)
    runs = [make_run(model, images, Y, seed) for seed in range(3)]
    reason = OPERATIONS.get(name, "") and f"torch.vmap computes {OPERATIONS[name]} for one network at a time"
    for run, result in zip(runs, train_by_fleets(runs, images, Y, most=most), strict=True):
        assert (result.how, result.reason_alone) == ("autograd", reason)
        assert_same_training(result, train_by_skorch(model, run, images, Y))


# -- optimizers -----------------------------------------------------------------------------------

ADAM, ADAMW, RMSPROP = torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop
OPTIMIZERS = {
    "SGD": {},
    "SGD with momentum": {"optimizer__momentum": 0.9},
    "SGD, Nesterov": {"optimizer__momentum": 0.9, "optimizer__nesterov": True},
    "SGD with decay": {"optimizer__momentum": 0.5, "optimizer__weight_decay": 0.1},
    "Adam": {"optimizer": ADAM, "lr": 0.01},
    "Adam with decay": {"optimizer": ADAM, "lr": 0.01, "optimizer__weight_decay": 0.1},
    "Adam, other betas": {"optimizer": ADAM, "lr": 0.01, "optimizer__betas": (0.5, 0.9)},
    "Adam, cautious": {"optimizer": ADAM, "lr": 0.01, "optimizer__eps": 1e-4},
    "Adam, AMSGrad": {"optimizer": ADAM, "lr": 0.01, "optimizer__amsgrad": True},
    "AdamW": {"optimizer": ADAMW, "lr": 0.01},
    "AdamW, much decay": {"optimizer": ADAMW, "lr": 0.01, "optimizer__weight_decay": 2.0},
    "RMSprop": {"optimizer": RMSPROP, "lr": 0.01},
    "RMSprop, centred": {"optimizer": RMSPROP, "lr": 0.01, "optimizer__centered": True},
    "RMSprop with momentum": {"optimizer": RMSPROP, "lr": 0.01, "optimizer__momentum": 0.9},
    "RMSprop with everything": {
        "optimizer": RMSPROP,
        "lr": 0.01,
        "optimizer__centered": True,
        "optimizer__momentum": 0.5,
        "optimizer__weight_decay": 0.1,
        "optimizer__alpha": 0.9,
    },
    "Adagrad": {"optimizer": torch.optim.Adagrad, "lr": 0.05, "optimizer__lr_decay": 0.1},
    "Adagrad, with a first sum": {
        "optimizer": torch.optim.Adagrad,
        "lr": 0.05,
        "optimizer__initial_accumulator_value": 0.1,
        "optimizer__weight_decay": 0.1,
    },
    "Adamax": {"optimizer": torch.optim.Adamax, "lr": 0.01, "optimizer__weight_decay": 0.1},
    "NAdam": {"optimizer": torch.optim.NAdam, "lr": 0.01, "optimizer__momentum_decay": 0.1},
    "NAdam, decoupled decay": {
        "optimizer": torch.optim.NAdam,
        "lr": 0.01,
        "optimizer__weight_decay": 0.1,
        "optimizer__decoupled_weight_decay": True,
    },
    "RAdam": {"optimizer": torch.optim.RAdam, "lr": 0.01},
    "Adadelta": {"optimizer": torch.optim.Adadelta, "lr": 1.0},
    "ASGD": {"optimizer": torch.optim.ASGD, "optimizer__weight_decay": 0.1, "optimizer__foreach": False},
}


@BOTH_WAYS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fleet_trains_with_every_optimizer_like_skorch(name, layer_by_layer):
    assert_fleet_equals_skorch(classifier(**OPTIMIZERS[name]), X, Y, layer_by_layer=layer_by_layer)


# -- losses ---------------------------------------------------------------------------------------

WEIGHTED = {"criterion__weight": torch.tensor([1.0, 2.0, 0.5])}
LOSSES = {
    "cross-entropy": {},
    "cross-entropy with weights": WEIGHTED,
    "cross-entropy, smoothed": {"criterion__label_smoothing": 0.2},
    "cross-entropy without a class": {"criterion__ignore_index": 1},
    "cross-entropy with weights, without a class": {**WEIGHTED, "criterion__ignore_index": 0},
    "cross-entropy with weights, smoothed": {**WEIGHTED, "criterion__label_smoothing": 0.1},
    "cross-entropy, smoothed, without a class": {
        "criterion__label_smoothing": 0.1,
        "criterion__ignore_index": 0,
    },
    "cross-entropy with weights, validated in small batches": {**WEIGHTED, "iterator_valid__batch_size": 4},
}


def probabilities():
    return nn.Sequential(make_sequential(), nn.Softmax(1))


@BOTH_WAYS
@pytest.mark.parametrize("name", LOSSES)
def test_fleet_trains_with_cross_entropy_like_skorch(name, layer_by_layer):
    assert_fleet_equals_skorch(classifier(**LOSSES[name]), X, Y, layer_by_layer=layer_by_layer)


@BOTH_WAYS
@pytest.mark.parametrize("first", [0, 3])
def test_fleet_supports_ignore_index(first, layer_by_layer):
    y = Y.copy()
    y[first::7] = -1
    assert_fleet_equals_skorch(
        classifier(criterion__ignore_index=-1, train_split=None), X, y, layer_by_layer=layer_by_layer
    )


def test_read_run_rejects_undeclared_negative_labels():
    y = Y.copy()
    y[3::7] = -100
    with pytest.raises(NeedsSkorch, match="y has the label -100; a fleet needs labels >= 0"):
        read_run(classifier(), X, y)


@BOTH_WAYS
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5])], ids=["equal", "weighted"])
def test_fleet_trains_with_nll_loss_like_skorch(weight, layer_by_layer):
    model = classifier(module=probabilities, criterion=nn.NLLLoss, criterion__weight=weight)
    assert_fleet_equals_skorch(model, X, Y, layer_by_layer=layer_by_layer)


@BOTH_WAYS
@pytest.mark.parametrize("module", [make_flat, lambda: make_sequential(outputs=1)], ids=["(n,)", "(n, 1)"])
@pytest.mark.parametrize("pos_weight", [None, torch.tensor(3.0)], ids=["equal", "weighted"])
def test_fleet_trains_binary_classifiers_like_skorch(module, pos_weight, layer_by_layer):
    model = skorch.NeuralNetBinaryClassifier(
        module, criterion__pos_weight=pos_weight, max_epochs=2, batch_size=16, lr=0.1, verbose=0
    )
    assert_fleet_equals_skorch(model, X, (Y == 1).astype(np.float32), layer_by_layer=layer_by_layer)


@BOTH_WAYS
@pytest.mark.parametrize("columns", [0, 1, 2])
def test_fleet_trains_regressors_like_skorch(columns, layer_by_layer):
    y = X @ np.arange(1, FEATURES + 1, dtype=np.float32) / 5
    y = np.stack([y, -y], 1)[:, :columns] if columns else y
    module = (lambda: make_sequential(outputs=columns)) if columns else make_flat
    model = skorch.NeuralNetRegressor(module, max_epochs=2, batch_size=16, lr=0.1, verbose=0)
    assert_fleet_equals_skorch(model, X, y, layer_by_layer=layer_by_layer)


NUMBERS = {
    "L1": (nn.L1Loss, {}),
    "smooth L1": (nn.SmoothL1Loss, {"criterion__beta": 0.3}),
    "smooth L1, beta 0": (nn.SmoothL1Loss, {"criterion__beta": 0.0}),
    "Huber": (nn.HuberLoss, {"criterion__delta": 0.5}),
    "Poisson": (nn.PoissonNLLLoss, {}),
    "Poisson, complete": (nn.PoissonNLLLoss, {"criterion__log_input": False, "criterion__full": True}),
}


@BOTH_WAYS
@pytest.mark.parametrize("columns", [0, 2])
@pytest.mark.parametrize("name", NUMBERS)
def test_fleet_trains_regressors_with_every_loss_like_skorch(name, columns, layer_by_layer):
    y = np.abs(X @ np.arange(1, FEATURES + 1, dtype=np.float32)) / 5
    y = np.stack([y, y**2], 1) if columns else y
    positive = [nn.Softplus()] if "complete" in name else []
    last = [] if columns else [nn.Flatten(0)]
    module = lambda: nn.Sequential(make_sequential(outputs=columns or 1), *positive, *last)  # noqa: E731
    loss, options = NUMBERS[name]
    model = skorch.NeuralNetRegressor(
        module, criterion=loss, max_epochs=2, batch_size=16, lr=0.01, verbose=0, **options
    )
    assert_fleet_equals_skorch(model, X, y, layer_by_layer=layer_by_layer)


def make_probabilities(outputs=1):
    last = [nn.Flatten(0)] if outputs == 1 else []
    return nn.Sequential(make_sequential(outputs=outputs), nn.Sigmoid(), *last)


@BOTH_WAYS
@pytest.mark.parametrize("kind", [skorch.NeuralNetBinaryClassifier, skorch.NeuralNetClassifier])
@pytest.mark.parametrize("loss", [nn.BCELoss, nn.BCEWithLogitsLoss])
def test_fleet_trains_with_binary_cross_entropy_like_skorch(loss, kind, layer_by_layer):
    module = make_probabilities if loss is nn.BCELoss else make_flat
    model = kind(module, criterion=loss, max_epochs=4, batch_size=16, lr=0.5, verbose=0)
    results = assert_fleet_equals_skorch(model, X, (Y == 1).astype(np.float32), layer_by_layer=layer_by_layer)
    assert {row["valid_acc"] for result in results for row in result.history} - {0.0, 0.5, 1.0}


@BOTH_WAYS
@pytest.mark.parametrize("kind", [skorch.NeuralNet, skorch.NeuralNetClassifier])
@pytest.mark.parametrize("loss", [nn.BCELoss, nn.BCEWithLogitsLoss])
def test_fleet_trains_with_several_labels_like_skorch(loss, kind, layer_by_layer):
    labels = np.stack([Y == 1, X[:, 0] > 0, X[:, 1] > 1], 1).astype(np.float32)
    options = {"module__outputs": 3, "train_split": skorch.dataset.ValidSplit(5)}
    if loss is nn.BCEWithLogitsLoss:
        options["criterion__pos_weight"] = torch.tensor([1.0, 2.0, 0.5])
    module = make_probabilities if loss is nn.BCELoss else make_sequential
    model = kind(module, criterion=loss, max_epochs=3, batch_size=16, lr=0.5, verbose=0, **options)
    assert_fleet_equals_skorch(model, X, labels, layer_by_layer=layer_by_layer)


def test_fleet_validates_numbers_in_large_batches():
    y = (X @ np.ones(FEATURES, np.float32)).reshape(-1, 1)
    model = skorch.NeuralNetRegressor(make_sequential, criterion=nn.L1Loss, module__outputs=1)
    assert read_run(model, X, y).piece == 0
    assert read_run(classifier(criterion__label_smoothing=0.1), X, Y).piece == 16


# -- clipped gradients ----------------------------------------------------------------------------

CLIPPING = {
    "L2": {"gradient_clip_value": 0.1},
    "L1": {"gradient_clip_value": 0.5, "gradient_clip_norm_type": 1},
    "largest": {"gradient_clip_value": 0.02, "gradient_clip_norm_type": "inf"},
    "rarely": {"gradient_clip_value": 0.8},
    "never": {"gradient_clip_value": None},
}


@BOTH_WAYS
@pytest.mark.parametrize("name", CLIPPING)
def test_fleet_clips_gradients_like_skorch(name, layer_by_layer):
    model = classifier(callbacks=[GradientNormClipping(**CLIPPING[name])], lr=0.5)
    results = assert_fleet_equals_skorch(model, X, Y, layer_by_layer=layer_by_layer)
    (plain,) = train_by_fleets([make_run(classifier(lr=0.5), X, Y)], X, Y, layer_by_layer=layer_by_layer)
    losses = [[row["train_loss"] for row in one.history] for one in (plain, results[0])]
    assert np.allclose(*losses, rtol=1e-5) == (name == "never")


# -- batches --------------------------------------------------------------------------------------

BATCHES = {
    "in their order": {},
    "shuffled": {"iterator_train__shuffle": True},
    "shuffled, the incomplete one left out": {
        "iterator_train__shuffle": True,
        "iterator_train__drop_last": True,
    },
    "the incomplete one left out": {"iterator_train__drop_last": True},
    "one row in the last": {"batch_size": 13},
    "all rows at once": {"batch_size": -1},
    "all rows at once, none left out": {"batch_size": -1, "iterator_train__drop_last": True},
    "more than there are rows": {"batch_size": 1000},
    "another size for validation": {"iterator_valid__batch_size": 3},
    "a size for training alone": {"batch_size": 4, "iterator_train__batch_size": 16},
    "nothing held out": {"train_split": None, "iterator_train__shuffle": True},
    "a half held out": {"train_split": skorch.dataset.ValidSplit(2)},
    "all rows at once, nothing held out": {"batch_size": -1, "train_split": None},
}


@BOTH_WAYS
@pytest.mark.parametrize("name", BATCHES)
def test_fleet_uses_the_batches_of_skorch(name, layer_by_layer):
    assert_fleet_equals_skorch(classifier(**BATCHES[name]), X, Y, layer_by_layer=layer_by_layer)


# -- schedules ------------------------------------------------------------------------------------

BY_BATCH = {"policy": schedules.OneCycleLR, "max_lr": 0.2, "total_steps": 15, "step_every": "batch"}
MOVING = {"optimizer__momentum": 0.9, "optimizer__nesterov": True}
SCHEDULES = {
    "StepLR": ({"policy": schedules.StepLR, "step_size": 2, "gamma": 0.3}, MOVING),
    "CosineAnnealingLR": ({"policy": schedules.CosineAnnealingLR, "T_max": 5}, OPTIMIZERS["AdamW"]),
    "ExponentialLR": ({"policy": schedules.ExponentialLR, "gamma": 0.7}, OPTIMIZERS["RMSprop"]),
    "ReduceLROnPlateau": (
        {"policy": schedules.ReduceLROnPlateau, "patience": 0, "threshold": 0.4},
        OPTIMIZERS["SGD"],
    ),
    "ReduceLROnPlateau of valid_loss": (
        {"policy": schedules.ReduceLROnPlateau, "patience": 0, "threshold": 0.4, "monitor": "valid_loss"},
        OPTIMIZERS["Adam"],
    ),
    "OneCycleLR, momentum too": (BY_BATCH, MOVING),
    "OneCycleLR, betas too": ({**BY_BATCH, "max_lr": 0.02}, OPTIMIZERS["Adam"]),
    "OneCycleLR, momentum of RMSprop": ({**BY_BATCH, "max_lr": 0.01}, OPTIMIZERS["RMSprop"]),
    "OneCycleLR, the rate alone": ({**BY_BATCH, "cycle_momentum": False}, OPTIMIZERS["SGD"]),
    "by epochs, without a column": (
        {"policy": schedules.StepLR, "step_size": 1, "event_name": None},
        OPTIMIZERS["SGD"],
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("name", SCHEDULES)
def test_fleet_uses_the_learning_rate_schedules_of_skorch(name, layer_by_layer):
    policy, optimizer = SCHEDULES[name]
    model = classifier(max_epochs=5, callbacks=[("pace", LRScheduler(**policy))], **optimizer)
    assert_fleet_equals_skorch(model, X, Y, layer_by_layer=layer_by_layer)


# -- early stopping -------------------------------------------------------------------------------

STOPPING = {
    "never": {"patience": 50},
    "by a share": {"patience": 2, "threshold": 0.1},
    "by a difference": {"patience": 2, "threshold": 0.05, "threshold_mode": "abs"},
    "by the training loss": {"patience": 1, "threshold": 0.2, "monitor": "train_loss"},
    "by accuracy": {"patience": 3, "monitor": "valid_acc", "lower_is_better": False},
    "with the best weights": {"patience": 3, "threshold": 0.1, "load_best": True},
    "with the most accurate weights": {
        "patience": 3,
        "monitor": "valid_acc",
        "lower_is_better": False,
        "load_best": True,
    },
    "at once": {"patience": 0},
}


@BOTH_WAYS
@pytest.mark.parametrize("name", STOPPING)
def test_fleet_stops_runs_early_like_skorch(name, layer_by_layer):
    model = classifier(max_epochs=12, callbacks=[("stop", EarlyStopping(**STOPPING[name]))], lr=0.05)
    runs = [make_run(model.set_params(lr=lr), X, Y, seed) for seed in (0, 1) for lr in (0.05, 0.2, 1.0)]
    results = train_by_fleets(runs, X, Y, layer_by_layer=layer_by_layer)
    for run, result in zip(runs, results, strict=True):
        model.set_params(lr=run.optimizer.numbers["lr"])
        assert_same_training(result, train_by_skorch(model, run, X, Y))
    lengths = {len(result.history) for result in results}
    assert lengths == {"never": {12}, "at once": {1}}.get(name, lengths)
    assert name in ("never", "at once") or len(lengths) > 1


# -- scores ---------------------------------------------------------------------------------------

SCORES = {
    "accuracy of training samples": {"scoring": "accuracy", "name": "train_acc", "on_train": True},
    "F1": {"scoring": "f1_macro"},
    "log loss": {"scoring": "neg_log_loss", "on_train": True},
    "area, not cached": {"scoring": "roc_auc_ovr", "use_caching": False},
    "without the best": {"scoring": "balanced_accuracy", "lower_is_better": None},
    "worst is best": {"scoring": "neg_log_loss", "name": "worst", "lower_is_better": True},
}


def scores(**options):
    return EpochScoring(**{"lower_is_better": False, **options})


@BOTH_WAYS
@pytest.mark.parametrize("name", SCORES)
def test_fleet_scores_epochs_like_skorch(name, layer_by_layer):
    model = classifier(callbacks=[scores(**SCORES[name])], max_epochs=4, iterator_train__shuffle=True)
    results = assert_fleet_equals_skorch(model, X, Y, layer_by_layer=layer_by_layer)
    column = SCORES[name].get("name", SCORES[name]["scoring"])
    assert len({row[column] for result in results for row in result.history}) > 3
    assert (f"{column}_best" in results[0].history[0]) == (name != "without the best")


@BOTH_WAYS
@pytest.mark.parametrize("module", [make_flat, lambda: make_sequential(outputs=1)], ids=["(n,)", "(n, 1)"])
def test_fleet_scores_binary_classifiers_like_skorch(module, layer_by_layer):
    model = skorch.NeuralNetBinaryClassifier(
        module,
        callbacks=[
            scores(scoring="roc_auc", on_train=True),
            scores(scoring="f1"),
            scores(scoring="average_precision"),
        ],
        max_epochs=3,
        batch_size=16,
        lr=0.5,
        verbose=0,
    )
    assert_fleet_equals_skorch(model, X, (Y == 1).astype(np.float32), layer_by_layer=layer_by_layer)


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_fleet_scores_regressors_like_skorch(columns):
    y = X @ np.arange(1, FEATURES + 1, dtype=np.float32) / 5
    y = np.stack([y, -y], 1)[:, :columns] if columns else y
    module = (lambda: make_sequential(outputs=columns)) if columns else make_flat
    scorings = [scores(scoring="r2"), scores(scoring="neg_mean_absolute_error", on_train=True)]
    model = skorch.NeuralNetRegressor(
        module, callbacks=scorings, max_epochs=3, batch_size=16, lr=0.1, verbose=0
    )
    assert_fleet_equals_skorch(model, X, y)


def test_fleet_scores_only_training_samples_without_validation():
    both = [scores(scoring="f1_macro"), scores(scoring="accuracy", on_train=True)]
    model = classifier(callbacks=both, train_split=None)
    results = assert_fleet_equals_skorch(model, X, Y)
    assert "accuracy_best" in results[0].history[0]
    assert "f1_macro" not in results[0].history[0]


def test_fleet_scores_declared_classes_and_other_accuracies_like_skorch():
    changed = {"callbacks__valid_acc__lower_is_better": True, "classes": [0, 1, 2]}
    assert_fleet_equals_skorch(classifier(callbacks=[scores(scoring="roc_auc_ovr")], **changed), X, Y)
    assert_fleet_equals_skorch(classifier(callbacks__valid_acc=None), X, Y)


@BOTH_WAYS
def test_fleet_stops_and_schedules_by_a_score_like_skorch(layer_by_layer):
    callbacks = [
        scores(scoring="neg_log_loss", name="loss", lower_is_better=False),
        LRScheduler(
            schedules.ReduceLROnPlateau,
            **{"monitor": "loss", "mode": "max", "patience": 0, "threshold": 0.2, "threshold_mode": "abs"},
        ),
        EarlyStopping("loss", 2, 0.1, "abs", lower_is_better=False, load_best=True),
    ]
    model = classifier(callbacks=callbacks, max_epochs=12)
    results = assert_fleet_equals_skorch(model, X, Y, layer_by_layer=layer_by_layer)
    assert all(2 < len(result.history) < 12 for result in results)
    assert results[0].history[-1]["event_lr"] < 0.1


def test_fleet_does_not_score_a_run_that_diverged():
    model = classifier(callbacks=[scores(scoring="roc_auc_ovr")], lr=1e38)
    (result,) = train_by_fleets([make_run(model, X, Y)], X, Y)
    assert result.failure.startswith("diverged: train_loss is ")
    assert "roc_auc_ovr" not in result.history[-1]


# -- backgrounds ----------------------------------------------------------------------------------


def images(background):
    """Return samples (50, 64) that are mostly background: some columns vary everywhere, most nowhere."""
    rng = np.random.default_rng(0)
    X = np.full((50, 64), background, np.float32)
    X[:, 10:30] = rng.normal(size=(50, 20)) + 2 * np.eye(CLASSES, 20)[Y]
    for column in range(30, 45):
        X[rng.integers(50), column] = 3.0
    return X


def wide(bias=True):
    return nn.Sequential(nn.Linear(64, 40, bias=bias), nn.Tanh(), nn.Linear(40, CLASSES))


@pytest.mark.parametrize("background", [0.0, -0.4242])
@pytest.mark.parametrize("name", ["SGD with decay", "SGD, Nesterov", "Adam, cautious"])
@pytest.mark.parametrize(
    "options", [{}, {"module__bias": False}, {"iterator_train__drop_last": True}], ids=str
)
def test_fleet_trains_mostly_constant_samples_like_skorch(background, name, options):
    model = classifier(module=wide, batch_size=12, max_epochs=3, **{**OPTIMIZERS[name], **options})
    X = images(background)
    runs = [make_run(model, X, Y, seed) for seed in (0, 1)]
    for most in (1, 2):
        for run, result in zip(runs, train_by_fleets(runs, X, Y, most=most), strict=True):
            assert_same_training(result, train_by_skorch(model, run, X, Y))


# -- anything -------------------------------------------------------------------------------------


class Line(nn.Module):
    """A sequential model."""

    def __init__(self, widths=(6,), bias=True, norm=False, activation="tanh"):
        super().__init__()
        sizes, parts = [FEATURES, *widths], []
        for before, after in itertools.pairwise(sizes):
            # The gradient of a bias before a normalization is rounding noise, which Adam amplifies.
            parts += [nn.Linear(before, after, bias=bias and not norm)]
            parts += [nn.BatchNorm1d(after)] * norm + [new_activation(activation)]
        self.layers = nn.Sequential(*parts, nn.Linear(sizes[-1], CLASSES, bias=bias))

    def forward(self, x):
        return self.layers(x)


WIDTHS = st.sampled_from([1, 2, 5, 9, 24, 40])
ACTIVATIONS = ["relu", "tanh", "softplus", "mish", "leaky_relu(negative_slope=0.2)", "prelu", "swish"]
ACTIVATIONS += [nn.ELU, nn.SiLU, nn.PReLU]
RULES = {
    "SGD": {"optimizer__nesterov": st.booleans()},
    "Adam": {"optimizer__amsgrad": st.booleans()},
    "AdamW": {"optimizer__amsgrad": st.booleans()},
    "RMSprop": {"optimizer__centered": st.booleans()},
}


@st.composite
def searches(draw):
    """Draw runs of one kind of model that differ in hyperparameters, activations and seeds."""
    rule = draw(st.sampled_from(sorted(RULES)))
    options = {"optimizer": getattr(torch.optim, rule)}
    options |= {name: draw(values) for name, values in RULES[rule].items()}
    if rule != "SGD":  # with torch's eps of 1e-8, rounding noise decides the sign of a step
        options["optimizer__eps"] = 1e-4
    options["batch_size"] = draw(st.sampled_from([7, 16, 40, -1]))
    options["iterator_train__shuffle"] = draw(st.booleans())
    options["iterator_train__drop_last"] = draw(st.booleans())
    if draw(st.booleans()):
        shape = {"module": Branching, "module__width": draw(WIDTHS)}
    else:
        norm = draw(st.booleans())
        # A weight before a normalization has no gradient, because its scale is normalized away.
        widths = draw(st.lists(WIDTHS.filter(lambda width: width > norm), min_size=1, max_size=3))
        shape = {"module": Line, "module__widths": tuple(widths), "module__norm": norm}
    options |= {**shape, "module__bias": draw(st.booleans())}
    rates = [0.001, 0.01, 0.1] if rule == "SGD" else [0.001, 0.01]
    models = []
    for _ in range(draw(st.integers(1, 6))):
        numbers = {"lr": draw(st.sampled_from(rates))}
        numbers["optimizer__weight_decay"] = draw(st.sampled_from([0.0, 0.01, 0.3]))
        if rule in ("SGD", "RMSprop"):
            numbers["optimizer__momentum"] = draw(st.sampled_from([0.1, 0.5, 0.9]))
        numbers["module__activation"] = draw(st.sampled_from(ACTIVATIONS))
        models.append((classifier(**options, **numbers), draw(st.integers(0, 3))))
    return models


@given(
    nets=searches(),
    layer_by_layer=st.booleans(),
    most=st.integers(1, 6),
    other=st.integers(1, 6),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_fleet_equals_skorch_for_random_models_and_packings(nets, layer_by_layer, most, other, random):
    runs = [make_run(model, X, Y, seed) for model, seed in nets]
    results = train_by_fleets(runs, X, Y, most=most, layer_by_layer=layer_by_layer)
    for (model, _), run, result in zip(nets, runs, results, strict=True):
        assert not result.reason_alone
        assert result.how == ("layer by layer" if layer_by_layer and model.module is Line else "autograd")
        assert_same_training(result, train_by_skorch(model, run, X, Y))
    places = random.sample(range(len(runs)), len(runs))
    again = train_by_fleets(
        [runs[place] for place in places], X, Y, most=other, layer_by_layer=layer_by_layer
    )
    for place, result in zip(places, again, strict=True):
        for name, weight in results[place].weights.items():
            assert_close(result.weights[name].double(), weight.double(), 1e-5, name)

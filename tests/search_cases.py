"""Configurations of skorch for comparing FleetSearchCV with GridSearchCV, and their data."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import skorch
import torch
from scipy import sparse
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GroupKFold,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
)
from skorch.callbacks import (
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    ParamMapper,
    WarmRestartLR,
)
from skorch.dataset import ValidSplit
from skorch.helper import SliceDataset, SliceDict, predefined_split
from torch import nn
from torch.utils.data import TensorDataset

from tests.search_models import (
    Attention,
    Auxiliary,
    Backwards,
    Branching,
    Columns,
    Counted,
    Dense,
    Doubled,
    Frozen,
    Halves,
    Logged,
    Network,
    Pictures,
    Recurrent,
    Several,
    Table,
    Tied,
    Tokens,
    Unused,
    Weighed,
    WeighedNet,
    accuracy,
    make_flat_mlp,
    make_mlp,
    make_probability_mlp,
    make_seeded_mlp,
    make_softmax_mlp,
    negative_squared_distance,
)
from tests.searches import ROWS, X, Y

FLEET, ALONE = "in a fleet", "skorch"
SPLITS = 2
TENSOR = torch.from_numpy
TABLE = pd.DataFrame(X, columns=list("abcd"), index=np.arange(ROWS)[::-1]).assign(
    kind=Y.astype(np.int8), size=X[:, 0].astype(np.float64), day=np.arange(ROWS)
)
NUMBERS = X @ np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32)


@dataclass
class Case:
    """A configuration: model options, expected way of training, data, grid and search options."""

    net: dict[str, Any] = field(default_factory=dict)
    how: str = FLEET
    kind: Any = skorch.NeuralNetClassifier
    X: Any = None
    y: Any = None
    grid: Any = None
    search: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    scoring: Any = "neg_log_loss"

    def __post_init__(self):
        if self.grid is None:  # training alone is slower, so one candidate is enough
            self.grid = {"lr": [0.1]} if self.how == ALONE else {"lr": [0.1, 0.02]}


regressor = functools.partial(
    Case, kind=skorch.NeuralNetRegressor, y=NUMBERS, scoring="r2", grid={"lr": [0.02, 0.01]}
)
binary = functools.partial(Case, kind=skorch.NeuralNetBinaryClassifier, y=(Y == 0).astype(np.float32))
scheduled = lambda policy, **options: Case({"callbacks": [LRScheduler(policy, **options)]})  # noqa: E731
SGD, ADAM = torch.optim.SGD, torch.optim.Adam
DATASET = TensorDataset(TENSOR(X), TENSOR(Y))

CASES = {
    # -- data
    "arrays": Case(),
    "float64 arrays of a float64 module": Case({"module": lambda: make_mlp().double()}, X=X.astype(float)),
    "features in Fortran order": Case(X=np.asfortranarray(X)),
    "token numbers": Case({"module": Tokens}, "any", X=(X > 0).astype(np.int64)),
    "tensors": Case(X=TENSOR(X), y=TENSOR(Y)),
    "tensor features": Case(X=TENSOR(X)),
    "a frame": Case({"module": Columns}, X=pd.DataFrame(X, columns=list("abcd"))),
    "a frame of several dtypes": Case({"module": Table}, X=TABLE, y=pd.Series(Y, TABLE.index)),
    "a series of labels": Case(y=pd.Series(Y)),
    "a dict": Case({"module": Halves}, X=SliceDict(left=X[:, :1], right=X[:, 1:])),
    "a dict of tensors and images": Case(
        {"module": Pictures}, X=SliceDict(picture=X.reshape(ROWS, 2, 2), kind=TENSOR(Y.astype(np.int16)))
    ),
    "a frame and functions that score": Case(
        {"module": Columns, "callbacks": [EpochScoring(accuracy)]},
        ALONE,
        X=pd.DataFrame(X, columns=list("abcd")),
    ),
    "a sparse matrix": Case({"module": Dense}, ALONE, X=sparse.csr_matrix(X)),
    "a dataset": Case(how=ALONE, X=SliceDataset(DATASET, 0)),
    "a dataset with its labels": Case(how=ALONE, X=SliceDataset(DATASET, 0), y=SliceDataset(DATASET, 1)),
    "images": Case({"module": lambda: nn.Sequential(nn.Flatten(), *make_mlp())}, X=X.reshape(ROWS, 1, 2, 2)),
    "weights of samples": Case(
        {"module": Weighed, "criterion__reduction": "none"},
        ALONE,
        WeighedNet,
        X=SliceDict(X=X, sample_weight=np.linspace(0.1, 2, ROWS, dtype=np.float32)),
    ),
    # -- criteria
    "class weights": Case({"criterion__weight": torch.tensor([1.0, 2.0, 0.5])}),
    "label smoothing": Case({"criterion__label_smoothing": 0.1}),
    "summed loss": Case({"criterion__reduction": "sum", "lr": 0.001}, ALONE, grid={"lr": [0.001, 0.002]}),
    "a criterion that is given": Case({"criterion": nn.CrossEntropyLoss(label_smoothing=0.2)}),
    "multi margin": Case({"criterion": nn.MultiMarginLoss}, ALONE, scoring="accuracy"),
    "NLL of probabilities": Case({"module": make_softmax_mlp, "criterion": nn.NLLLoss}),
    "BCE with logits": binary({"module__outputs": 1, "criterion": nn.BCEWithLogitsLoss}),
    "BCE with logits, one output": binary({"module": make_flat_mlp, "criterion": nn.BCEWithLogitsLoss}),
    "BCE with a positive weight": binary(
        {
            "module__outputs": 1,
            "criterion": nn.BCEWithLogitsLoss,
            "criterion__pos_weight": torch.tensor([2.0]),
        }
    ),
    "BCE with a threshold": binary(
        {"module": make_flat_mlp, "criterion": nn.BCEWithLogitsLoss, "threshold": 0.2},
        ALONE,
        scoring="accuracy",
    ),
    "BCE of several labels": regressor(
        {"module__outputs": 2, "criterion": nn.BCEWithLogitsLoss},
        kind=skorch.NeuralNet,
        y=(X[:, :2] > 0).astype(np.float32),
        scoring=negative_squared_distance,
    ),
    "probabilities as targets": Case(
        {}, ALONE, skorch.NeuralNet, y=np.eye(3, dtype=np.float32)[Y], scoring="r2"
    ),
    "class weights in the grid": Case(grid={"criterion__weight": [None, torch.tensor([1.0, 2.0, 0.5])]}),
    "an ignored class": Case({"criterion__ignore_index": 1}),
    "MSE": regressor({"module__outputs": 1, "criterion": nn.MSELoss}),
    "MSE of numbers": regressor({"module": make_flat_mlp, "criterion": nn.MSELoss}, y=NUMBERS[:, 0]),
    "MSE of float64 targets": regressor(
        {"module__outputs": 1, "criterion": nn.MSELoss}, ALONE, y=NUMBERS.astype(float)
    ),
    "MSE of two targets": regressor(
        {"module__outputs": 2, "criterion": nn.MSELoss}, y=np.hstack([NUMBERS, -NUMBERS])
    ),
    "L1": regressor({"module__outputs": 1, "criterion": nn.L1Loss}),
    "Huber": regressor({"module__outputs": 1, "criterion": nn.HuberLoss}),
    "BCE of probabilities": binary({"module": make_probability_mlp, "criterion": nn.BCELoss}),
    # -- splits for validation, batches
    "predefined_split": Case(
        {"train_split": predefined_split(TensorDataset(TENSOR(X[:20]), TENSOR(Y[:20])))}, ALONE
    ),
    "train_split=None": Case({"train_split": None}),
    "a random train_split": Case({"train_split": ValidSplit(0.3, stratified=True, random_state=1)}),
    "a random train_split without a seed": Case({"train_split": ValidSplit(0.3)}),
    "a train_split of scikit-learn": Case(
        {"train_split": ValidSplit(ShuffleSplit(1, test_size=0.3, random_state=0))}
    ),
    "batch_size=-1": Case({"batch_size": -1}),
    "drop_last": Case({"iterator_train__drop_last": True}),
    "no epochs": Case({"max_epochs": 0}),
    "batches larger than the data": Case({"batch_size": 1000}),
    "batches of one": Case({"batch_size": 1, "max_epochs": 1}),
    "a sampler": Case({"iterator_train__sampler": Backwards(50)}, ALONE),
    "collate_fn": Case({"iterator_train__collate_fn": torch.utils.data.default_collate}, ALONE),
    "a dataset class": Case({"dataset": Doubled}, ALONE),
    "train_split in the grid": Case(
        grid={"train_split": [None, ValidSplit(3), ValidSplit(0.2, random_state=2)]}
    ),
    "numbers of classes": Case({"classes": [0, 1, 2]}),
    "predict_nonlinearity=None": Case(
        {"module": make_softmax_mlp, "criterion": nn.NLLLoss, "predict_nonlinearity": None}, ALONE
    ),
    "device='cpu:0'": Case({"device": "cpu:0"}),
    "a torch.device": Case({"device": torch.device("cpu")}),
    "batch sizes": Case({"iterator_train__batch_size": 10, "iterator_valid__batch_size": 7}),
    "shuffled, alone": Case({"iterator_train__shuffle": True, "optimizer": torch.optim.Rprop}, ALONE),
    # -- callbacks
    "StepLR": scheduled("StepLR", step_size=1, gamma=0.5),
    "CosineAnnealingLR": scheduled("CosineAnnealingLR", T_max=3),
    "ReduceLROnPlateau": scheduled("ReduceLROnPlateau", patience=0, monitor="valid_loss"),
    "CyclicLR": scheduled("CyclicLR", base_lr=0.01, max_lr=0.1, step_every="batch", cycle_momentum=False),
    "OneCycleLR": scheduled(
        torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=20, step_every="batch"
    ),
    "WarmRestartLR": scheduled(WarmRestartLR),
    "EarlyStopping": Case({"callbacks": [EarlyStopping(patience=1, threshold=10, load_best=True)]}),
    "EarlyStopping by a score": Case(
        {
            "callbacks": [
                EpochScoring("f1_macro", False, name="f"),
                EarlyStopping("f", patience=1, threshold=9),
            ]
        }
    ),
    "GradientNormClipping": Case({"callbacks": [GradientNormClipping(0.1)]}),
    "Freezer": Case({"callbacks": [Freezer("first.*")]}, ALONE),
    "ParamMapper": Case(
        {"callbacks": [ParamMapper("last.*", lambda p: p.requires_grad_(False), at=2)]}, ALONE
    ),
    "several EpochScorings": Case(
        {
            "callbacks": [
                EpochScoring("f1_macro", lower_is_better=False),
                EpochScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False),
                EpochScoring("roc_auc_ovr", lower_is_better=False, use_caching=False),
            ]
        }
    ),
    "EpochScoring with a function": Case({"callbacks": [EpochScoring(accuracy, name="own")]}, ALONE),
    "EarlyStopping of the training loss": Case(
        {"train_split": None, "callbacks": [EarlyStopping("train_loss", patience=1, threshold=9)]}
    ),
    "EarlyStopping in the grid": Case(
        {"callbacks": [("stop", EarlyStopping())]},
        grid={"callbacks__stop__patience": [1, 2], "callbacks__stop__threshold": [9]},
    ),
    "callbacks in the grid": Case(grid={"callbacks": [None, [EarlyStopping(patience=1, threshold=9)]]}),
    "LambdaLR": scheduled("LambdaLR", lr_lambda=lambda epoch: 0.5**epoch),
    "a schedule of the training loss": scheduled(
        "ReduceLROnPlateau", patience=0, monitor="train_loss", threshold=9
    ),
    "two schedules": Case(
        {"callbacks": [("a", LRScheduler("StepLR", step_size=1)), ("b", LRScheduler("StepLR", step_size=2))]},
        ALONE,
    ),
    "Checkpoint": Case(
        {
            "callbacks": [
                Checkpoint(f_params=None, f_optimizer=None, f_criterion=None, f_history=None, load_best=False)
            ]
        },
        ALONE,
    ),
    "callbacks='disable'": Case({"callbacks": "disable"}, ALONE),
    "callbacks__valid_acc=None": Case({"callbacks__valid_acc": None}),
    # -- optimizers
    **{
        f"{rule.__name__} {options or ''}": Case(
            {"optimizer": rule, **{f"optimizer__{name}": value for name, value in options.items()}}
        )
        for rule, options in [
            (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
            (ADAM, {"betas": (0.8, 0.99), "amsgrad": True}),
            (torch.optim.AdamW, {}),
            (torch.optim.RMSprop, {"centered": True, "momentum": 0.5}),
        ]
    },
    **{
        rule.__name__: Case({"optimizer": rule})
        for rule in (torch.optim.Adamax, torch.optim.NAdam, torch.optim.Adagrad)
    },
    "LBFGS": Case({"optimizer": torch.optim.LBFGS, "optimizer__max_iter": 3, "batch_size": -1}, ALONE),
    "optimizer__lr": Case({"optimizer__lr": 0.05}, grid={"module__width": [4, 6]}),
    "optimizers in the grid": Case(
        grid={"optimizer": [SGD, torch.optim.Rprop, ADAM], "lr": [0.01]}, how="any"
    ),
    "numbers of NumPy": Case(
        grid={
            "lr": np.array([0.1, 0.05], np.float32),
            "module__width": np.arange(3, 5),
            "optimizer__momentum": [np.float64(0.9)],
        }
    ),
    "an integer as learning rate": Case(grid={"lr": [1]}),
    "parameter groups": Case({"optimizer__param_groups": [("first.*", {"lr": 0.001})]}, ALONE),
    # -- modules
    "batch norm": Case({"module__norm": True}),
    "batch norm, alone": Case({"module__norm": True, "optimizer": torch.optim.Rprop}, ALONE),
    "dropout, alone": Case({"module__drop": 0.3, "optimizer": torch.optim.Rprop}, ALONE),
    "a function": Case({"module": make_mlp}),
    "a partial": Case({"module": functools.partial(Network, width=3)}),
    "a module that is given": Case({"module": make_seeded_mlp()}),
    "a module that is given, alone": Case(
        {"module": make_seeded_mlp(), "optimizer": torch.optim.Rprop}, ALONE
    ),
    "a module that is given, with an argument": Case({"module": Network(), "module__width": 4}),
    "several outputs": Case({"module": Several}, ALONE, Auxiliary),
    "a lazy module": Case(
        {"module": lambda: nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(3))}, "any"
    ),
    "tied weights": Case({"module": Tied}, "any"),
    "frozen weights": Case({"module": Frozen}, "any"),
    "buffers": Case({"module": Counted}, "any"),
    "unused weights": Case({"module": Unused}, "any"),
    "a recurrent module": Case({"module": Recurrent}, "any", X=X.reshape(ROWS, 2, 2)),
    "attention": Case({"module": Attention}, "any", X=X.reshape(ROWS, 2, 2)),
    "convolutions": Case(
        {"module": lambda: nn.Sequential(nn.Conv1d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(9, 3))},
        X=X[:, None],
    ),
    "layer norm": Case(
        {"module": lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3))}
    ),
    "group norm": Case(
        {"module": lambda: nn.Sequential(nn.Linear(4, 6), nn.GroupNorm(2, 6), nn.Linear(6, 3))}, "any"
    ),
    "spectral norm": Case(
        {
            "module": lambda: nn.Sequential(
                nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)
            )
        },
        "any",
    ),
    "no hidden layer": Case({"module": nn.Linear, "module__in_features": 4, "module__out_features": 3}),
    "compiled": Case({"compile": True, "compile__backend": "eager"}, ALONE),
    "a subclass": Case(kind=Logged, how=ALONE),
    "warm_start": Case({"warm_start": True}, ALONE),
    # -- the search
    "many parameters": Case(
        grid=[{"module__width": [3, 5], "batch_size": [16, 20]}, {"optimizer": [ADAM], "max_epochs": [1, 3]}]
    ),
    "activations": Case(
        {"module": lambda act: nn.Sequential(nn.Linear(4, 5), act, nn.Linear(5, 3))},
        grid={"module__act": [nn.Tanh(), nn.ELU(0.5)]},
    ),
    "several scorers": Case(
        scoring={"accuracy": "accuracy", "loss": "neg_log_loss", "own": make_scorer(accuracy_score)},
        search={"refit": "loss", "return_train_score": True},
    ),
    "roc_auc": Case(scoring="roc_auc_ovr"),
    "a function that scores": Case(scoring=accuracy, search={"return_train_score": True}),
    "a function that refits": Case(
        search={"refit": lambda results: int(np.argmin(results["mean_test_score"]))}
    ),
    "groups": Case(search={"cv": GroupKFold(2)}, fit={"groups": np.arange(ROWS) % 5}),
    "repeated folds": Case(search={"cv": RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)}),
    "random splits": Case(search={"cv": ShuffleSplit(2, test_size=0.3, random_state=1)}),
    "time series": Case(search={"cv": TimeSeriesSplit(2)}),
    "a predefined fold": Case(search={"cv": PredefinedSplit(np.arange(ROWS) % 2)}),
    "error_score": Case(grid={"lr": [0.1], "module__width": [4, -1]}, search={"error_score": -9.0}),
    "error_score, alone": Case(
        {"optimizer": torch.optim.Rprop},
        ALONE,
        grid={"lr": [0.1], "module__width": [4, -1]},
        search={"error_score": -9.0},
    ),
}

# Configurations for slow tests only: rare ones, or similar to others.
# fmt: off
RARE = {
    "features in Fortran order", "tensor features", "a dataset with its labels", "images",
    "label smoothing", "a criterion that is given", "multi margin", "BCE with a threshold",
    "BCE of several labels", "an ignored class", "class weights in the grid", "MSE of two targets", "L1",
    "Huber", "a train_split of scikit-learn", "batch sizes", "batches larger than the data",
    "batches of one", "a dataset class", "train_split in the grid", "numbers of classes", "device='cpu:0'",
    "a torch.device", "CosineAnnealingLR", "OneCycleLR", "WarmRestartLR", "LambdaLR", "two schedules",
    "a schedule of the training loss", "EarlyStopping of the training loss", "numbers of NumPy",
    "an integer as learning rate", "a lazy module", "frozen weights", "unused weights", "buffers",
    "attention", "group norm", "spectral norm", "convolutions", "compiled", "repeated folds",
    "random splits", "a predefined fold", "a function that scores", "optimizer__lr",
    "a function that refits", "batch norm, alone", "a module that is given, alone",
    "callbacks__valid_acc=None", "AdamW ", "a sampler", "collate_fn", "a random train_split",
    "tied weights", "BCE with a positive weight", "optimizers in the grid", "callbacks in the grid",
    "no hidden layer", "layer norm", "float64 arrays of a float64 module", "token numbers",
    "a series of labels", "summed loss", "probabilities as targets", "a random train_split without a seed",
    "predict_nonlinearity=None", "no epochs", "drop_last", "EarlyStopping by a score",
    "EarlyStopping in the grid", "callbacks='disable'", "a partial",
    "a module that is given, with an argument", "several outputs", "a recurrent module", "many parameters",
    "roc_auc", "time series", "error_score, alone", "activations",
    "RMSprop {'centered': True, 'momentum': 0.5}", "BCE with logits, one output", "MSE of numbers",
    "a subclass", "CyclicLR", "a frame and functions that score", "BCE of probabilities",
}
# fmt: on

LEARNT = nn.PReLU()
LEARNT.weight.data.fill_(3.0)
WITH_ACTIVATION = {
    "module": lambda act: nn.Sequential(nn.Linear(4, 5), act, nn.Linear(5, 3)),
    "module__act": LEARNT,
}
CASES["a trained activation as an instance"] = Case(WITH_ACTIVATION)

# Configurations whose results differ from GridSearchCV, with the sentence of the guide.
DIFFERENT = {
    "The order of shuffled samples": Case(
        {"iterator_train__shuffle": True, "batch_size": 5, "max_epochs": 4}
    ),
    "the random numbers that a model draws in training": Case({"module__drop": 0.5}),
    "if its loss is infinite or NaN": Case(grid={"lr": [0.1, 1e38]}, scoring="accuracy"),
    "in batches larger than": Case({"module": Branching, "batch_size": 5}),
}

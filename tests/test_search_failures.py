import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from scipy import sparse
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import EpochScoring, LRScheduler
from torch import nn
from torch.utils.data import DataLoader

from actlab.errors import UsageError
from tests.processes import list_descendants, list_living, start_process, wait_until
from tests.searches import (
    Counting,
    Idle,
    X,
    Y,
    classifier,
    fit_by_skorch,
    grid_search,
    one_thread,
    score_matrix,
    search,
)

__all__ = ["one_thread"]


class Boom(nn.Module):
    def forward(self, x):
        raise RuntimeError("boom")


class Stillborn(nn.Module):
    def __init__(self):
        raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"module__activation": Boom()}, "training raised RuntimeError: boom"),
        (
            {"module__activation": Stillborn},
            "training raised UsageError: activation 'Stillborn': no such thing",
        ),
        ({"module__num_units": 1}, "training raised ValueError: num_units must be at least 2, got 1"),
        ({"lr": 1e30}, "diverged: "),
        ({"batch_size": 0}, "training raised ValueError"),
        ({"optimizer__momentum": -1.0}, "training raised ValueError: Invalid momentum value: -1.0"),
    ],
    ids=["forward", "construction", "argument", "divergence", "batches", "optimizer"],
)
def test_search_gives_error_score_only_to_failed_runs(bad, text):
    good = [
        {"module__activation": ["relu", "tanh", "elu"], "lr": [0.1, 0.05]}
    ]  # enough runs for fleets with several members
    grid = [*good, {name: [value] for name, value in bad.items()}]
    options = {"cv": 2, "scoring": "neg_log_loss", "seeds": 2, "refit": False}
    expected = score_matrix(search(grid=good, **options).fit(X, Y))
    with pytest.warns() as warnings_seen:
        fitted = search(grid=grid, **options).fit(X, Y)
    assert any(
        w.category is FitFailedWarning and "4 fits failed out of a total of 28" in str(w.message)
        for w in warnings_seen
    )
    assert np.array_equal(score_matrix(fitted)[:6], expected)
    assert np.isnan(score_matrix(fitted)[6]).all()
    assert fitted.cv_results_["rank_test_score"][6] == 7
    failures = fitted.runs_.groupby("candidate")["failure"].unique()
    assert all(failures[candidate].tolist() == [""] for candidate in range(6))
    assert all(failure.startswith(text) for failure in failures[6])
    with pytest.raises((RuntimeError, ValueError), match=text.partition("Error: ")[2] or None):
        search(grid=grid[1:], error_score="raise", **options).fit(X, Y)


def test_search_gives_error_score_for_several_scores():
    with pytest.warns(FitFailedWarning):
        fitted = search(
            grid={"lr": [0.1, 1e30]}, scoring=["accuracy", "neg_log_loss"], refit="accuracy", error_score=-1
        ).fit(X, Y)
    assert (
        fitted.cv_results_["mean_test_accuracy"][1] == fitted.cv_results_["mean_test_neg_log_loss"][1] == -1
    )
    assert fitted.best_index_ == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_search_raises_scikit_learns_error_if_all_fits_fail():
    with pytest.raises(ValueError, match=r"All the 3 fits failed(.|\n)*diverged: train_loss"):
        search(grid={"lr": [1e30]}).fit(X, Y)


@pytest.mark.parametrize(
    "grid", [{"nonsense": [1]}, {"lr": [0.1], "activation": ["relu"]}], ids=["alone", "with others"]
)
def test_search_rejects_a_wrong_parameter_name_before_training(grid):
    module = Counting.of()
    with pytest.raises(ValueError, match=r"Invalid parameter '(nonsense|activation)' for estimator"):
        search(classifier(module=module), grid).fit(X, Y)
    assert module.made == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["modul__x", "module_x", "module__x"])
def test_search_raises_skorchs_error_for_a_wrong_prefix_or_argument(name):
    messages = []
    for kind in (search, grid_search):
        with pytest.raises(Exception, match=r"argument|parameter") as error:
            kind(grid={name: [1]}, error_score="raise").fit(X, Y)
        messages.append((error.type, str(error.value)))
    assert messages[0] == messages[1]


# -- unsupported by fleets ----------------------------------------------------------------------------


class OwnLoss(skorch.NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return 2 * super().get_loss(y_pred, y_true, *args, **kwargs)


def score_by_hand(net, X, y):
    return net.history[-1, "train_loss"]


class Batches(DataLoader):
    pass


REASONS = {
    "OwnLoss overrides get_loss; a fleet runs skorch's own training loop": {"kind": OwnLoss},
    "a fleet cannot call the callback 'Idle' (Idle); it supports only ": {"callbacks": [Idle]},
    "EpochScoring has scoring=score_by_hand, on_train=False and use_caching=True; a fleet ": {
        "callbacks": [EpochScoring(score_by_hand, lower_is_better=False)]
    },
    "EpochScoring has scoring='f1_macro', on_train=True and use_caching=False; a fleet ": {
        "callbacks": [("f1", EpochScoring("f1_macro", on_train=True, use_caching=False))]
    },
    "a fleet cannot call the callback 'other' (EpochScoring) with these arguments or a second time; ": {
        "callbacks": [("other", EpochScoring("f1_macro", name="valid_acc", lower_is_better=False))]
    },
    "a fleet cannot call the callback 'second' (LRScheduler) with these arguments or a second time; ": {
        "callbacks": [LRScheduler("StepLR", step_size=1), ("second", LRScheduler("StepLR", step_size=1))]
    },
    "warm_start is True; a fleet needs False": {"warm_start": True},
    "callbacks is 'disable'; a fleet always uses skorch's default callbacks": {"callbacks": "disable"},
    "device is None; a fleet trains on 'cpu' or 'cuda'": {"device": None},
    "predict_nonlinearity is None; a fleet needs 'auto'": {"predict_nonlinearity": None},
    "iterator_train is Batches; a fleet needs torch's DataLoader": {"iterator_train": Batches},
    "iterator_train__sampler is set; a fleet takes only batch_size, drop_last, shuffle there": {
        "iterator_train__sampler": None
    },
    "train_split is a function; a fleet needs a ValidSplit or None": {
        "train_split": lambda data, y: (data, data)
    },
    "criterion is MultiMarginLoss; a fleet supports CrossEntropyLoss, ": {"criterion": nn.MultiMarginLoss},
    "criterion__reduction is 'sum'; a fleet needs 'mean'": {"criterion__reduction": "sum"},
    "optimizer is Rprop; a fleet supports SGD, Adam, AdamW, RMSprop, Adadelta, Adagrad, Adamax, ASGD, NAdam, "
    "RAdam": {"optimizer": torch.optim.Rprop},
    "optimizer__maximize is True, which a fleet does not support": {"optimizer__maximize": True},
}


@pytest.mark.parametrize(("reason", "options"), REASONS.items(), ids=REASONS)
def test_search_trains_by_skorch_and_gives_the_reason(reason, options):
    model = classifier(**options)
    fitted = search(model, {"lr": [0.1, 0.05]}, return_train_score=True, seeds=[5]).fit(X, Y)
    assert fitted.runs_["reason_alone"].str.startswith(reason).all()
    assert fitted.runs_["how"].eq("skorch").all()
    assert fitted.runs_["seconds"].gt(0).all()
    train, test = next(StratifiedKFold(3).split(X, Y))
    if "callbacks" not in options or options["callbacks"] != "disable":
        expected_network = fit_by_skorch(model, X[train], Y[train], 5, 0)
        assert score_matrix(fitted)[0, 0] == expected_network.score(X[test], Y[test])
    assert type(fitted.best_estimator_) is type(model)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda X, y: (X.astype(">f4"), y),
            "X has the dtype >f4 and the shape (150, 4); a fleet needs numbers in native byte order",
        ),
        (
            lambda X, y: (X, y.astype(np.int32)),
            "y has the dtype int32; a fleet needs int64 for CrossEntropyLoss",
        ),
        (lambda X, y: (pd.DataFrame(X), y), "X is a DataFrame; a fleet needs a NumPy array"),
        (
            lambda X, y: (pd.DataFrame({"a": X[:, 0], "b": pd.Categorical(y)}), y),
            "X['b'] has the dtype category and the shape (150,); a fleet needs numbers",
        ),
        (
            lambda X, y: (pd.DataFrame({"a": X[:, 0], "b": 2**53 + 2 * y + 1}), y),
            "X cannot be joined: ValueError: the integers in b are too large for float64",
        ),
        (lambda X, y: (X, y.tolist()), "y is a list; a fleet needs a NumPy array"),
        (lambda X, y: (sparse.csr_matrix(X), y), "X is a csr_matrix; a fleet needs a NumPy array"),
    ],
    ids=["byte order", "int32", "frame", "categories", "large integers", "list", "sparse"],
)
@pytest.mark.filterwarnings("ignore")
def test_search_with_unsupported_data_equals_grid_search(change, reason):
    data = change(X, Y)
    outcomes = []
    for kind in (search, grid_search):
        fitted = kind(grid={"lr": [0.1]})
        try:
            fitted.fit(*data)
            outcomes.append("fitted")
        except Exception as error:
            outcomes.append(type(error))
        if kind is search:
            assert fitted.runs_["reason_alone"].tolist() == [fitted.runs_["reason_alone"][0]] * 3
            assert fitted.runs_["reason_alone"][0].startswith(reason)
    assert outcomes[0] == outcomes[1]


def test_search_combines_fleets_and_skorch():
    fitted = search(grid={"callbacks": [[], [Idle]], "module__activation": ["relu", "tanh"]}).fit(X, Y)
    assert fitted.runs_["how"].tolist() == ["layer by layer"] * 6 + ["skorch"] * 6
    assert np.array_equal(score_matrix(fitted)[:2], score_matrix(fitted)[2:])


def test_search_random_validation_splits_are_reproducible():
    split = skorch.dataset.ValidSplit(0.3)
    for callbacks in ([], [Idle]):
        model = classifier(train_split=split, callbacks=callbacks)
        first, second = (search(model, {"lr": [0.1]}, scoring="neg_log_loss").fit(X, Y) for _ in range(2))
        assert np.array_equal(score_matrix(first), score_matrix(second))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_search_with_an_invalid_criterion_fails_only_its_candidate():
    with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
        fitted = search(grid=[{"lr": [0.1]}, {"criterion__nonsense": [1]}]).fit(X, Y)
    assert fitted.runs_["failure"].tolist()[:3] == [""] * 3
    assert fitted.runs_["failure"].str.contains("nonsense").tolist() == [False] * 3 + [True] * 3


class Picky(nn.Module):
    """Works with its own weights, but neither in torch.fx nor with those of a stack."""

    def __init__(self, **sizes):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        if not isinstance(self.layer.weight, nn.Parameter) or isinstance(x, torch.fx.Proxy):
            raise TypeError("no weights of my own")
        return self.layer(x)


def test_search_trains_models_that_vmap_cannot_run_alone():
    fitted = search(classifier(module=Picky), {"lr": [0.1, 0.2]}).fit(X, Y)
    assert fitted.runs_["reason_alone"].unique().tolist() == [
        "torch.vmap cannot run the network: TypeError: no weights of my own"
    ]
    assert fitted.runs_["how"].eq("autograd").all()
    assert fitted.runs_["failure"].eq("").all()
    assert fitted.best_score_ > 0.3


# -- where fleets are trained -------------------------------------------------------------------------


GRID = {"module__activation": ["relu", "tanh", "prelu"], "lr": [0.1, 0.05]}


def search_figures(grid=GRID, **options):
    fitted = search(grid=grid, scoring="neg_log_loss", return_train_score=True, **options).fit(X, Y)
    assert fitted.runs_["reason_alone"].eq("").all()
    assert fitted.runs_["failure"].eq("").all()
    order = [str(sorted(parameters.items())) for parameters in fitted.cv_results_["params"]]
    rows = np.hstack([score_matrix(fitted, "test_score"), score_matrix(fitted, "train_score")])
    return rows[np.argsort(order)], fitted.best_score_


def test_search_results_do_not_depend_on_the_executor():
    rows, best = search_figures()
    others, other = search_figures(n_jobs=2)
    assert np.array_equal(others, rows)
    assert other == best
    with ThreadPoolExecutor(2) as executor:
        assert np.array_equal(search_figures(executor=executor)[0], rows)


def test_search_results_do_not_depend_on_the_order_of_the_grid():
    rows = search_figures()[0]
    reversed_grid = {name: values[::-1] for name, values in reversed(GRID.items())}
    assert np.array_equal(search_figures(reversed_grid)[0], rows)
    single_grids = [
        {"module__activation": [a], "lr": [lr]} for lr in GRID["lr"] for a in GRID["module__activation"]
    ]
    assert np.array_equal(search_figures(single_grids)[0], rows)


class Closed(concurrent.futures.Executor):
    def submit(self, function, /, *args, **kwargs):
        raise RuntimeError("no worker is left")


def test_search_raises_errors_of_the_executor():
    with pytest.raises(UsageError, match=r"^the Closed accepts no more tasks: no worker is left$"):
        search(executor=Closed()).fit(X, Y)


def test_search_rejects_invalid_n_jobs():
    with pytest.raises(ValueError, match="n_jobs"):
        search(n_jobs=0).fit(X, Y)


# -- interruptions ------------------------------------------------------------------------------------


class InterruptsLater(skorch.callbacks.Callback):
    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests can run with SIGINT ignored
    yield
    signal.signal(signal.SIGINT, before)


def test_search_keeps_finished_runs_after_an_interrupt(interruptible):
    fitted = search(grid=[{"lr": [0.1, 0.2]}, {"callbacks": [[InterruptsLater()]]}])
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X, Y)
    assert fitted.runs_["candidate"].tolist() == [0, 0, 0, 1, 1, 1]
    assert fitted.runs_["failure"].eq("").all()
    with pytest.raises(NotFittedError):
        fitted.predict(X)


def test_search_keeps_finished_runs_after_an_interrupt_within_a_fleet():
    fitted = search(grid=[{"lr": [0.1]}, {"module__activation": [Late()]}])
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X, Y)
    assert fitted.runs_["candidate"].tolist() == [0, 0, 0]


class Late(nn.Module):
    """Raises KeyboardInterrupt for more than the two samples of the first test of a model."""

    def forward(self, x):
        if x.shape[-2] > 2:
            raise KeyboardInterrupt
        return x


SCRIPT = """
import numpy as np, skorch, torch
from actlab import FleetSearchCV, NeuralNet

X = np.random.default_rng(0).normal(size=(4000, 20)).astype(np.float32)
y = (np.arange(4000) % 10).astype(np.int64)
model = skorch.NeuralNetClassifier(
    NeuralNet, module__num_features=20, criterion=torch.nn.CrossEntropyLoss, max_epochs=100000, verbose=0
)
if __name__ == "__main__":
    print("here", flush=True)
    FleetSearchCV(model, {"module__activation": ["relu", "tanh"]}, cv=2, n_jobs=2).fit(X, y)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("everybody", [True, False], ids=["a terminal's", "kill"])
def test_search_after_ctrl_c_leaves_no_process(tmp_path, everybody):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start_process([sys.executable, str(script)], **pipes) as process:
        assert process.stdout.readline() == b"here\n"
        # Two workers and loky's resource tracker.
        assert wait_until(lambda: len(list_descendants(process.pid)) >= 3)
        time.sleep(3)
        family = list_descendants(process.pid)
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
        errors = process.communicate()[1].decode()
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert wait_until(lambda: not list_living(family))
        assert list(Path("/dev/shm").glob(f"actlab-{process.pid}-*")) == []

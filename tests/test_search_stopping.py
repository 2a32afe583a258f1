"""Models that train alone: callbacks can stop them, and Ctrl-C interrupts the search."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import skorch
import torch
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring
from skorch.helper import SliceDataset

import actlab
from actlab import Dataset
from actlab.comparison.comparison import Interrupted
from actlab.execution.processes import start_processes
from tests.processes import start_process
from tests.searches import Idle, X, Y, classifier, fit_by_skorch, one_thread, score_matrix, search

__all__ = ["one_thread"]


TABLE = Dataset(X, Y, "table", "0" * 16, (0, 1, 2))


class StopAt(Callback):
    """Stop a model by KeyboardInterrupt at the n-th call of an event of skorch."""

    def __init__(self, event, times=2, error=KeyboardInterrupt):
        self.event, self.times, self.error = event, times, error

    def initialize(self):
        self.calls_ = 0
        setattr(self, self.event, self._count)
        return self

    def get_params(self, deep=True):
        return {name: getattr(self, name) for name in ("event", "times", "error")}

    def _count(self, net, *args, **kwargs):
        self.calls_ += 1
        if self.calls_ == self.times:
            raise self.error


class Enough(KeyboardInterrupt):
    """A callback's own reason to stop."""


def stopping_scorer(net, X, y):
    if len(net.history) == 2:
        raise KeyboardInterrupt
    return 0.0


def score_macro(net, X, y):
    return f1_score(y, net.predict(X), average="macro")


def macro_callbacks():
    return [
        EpochScoring(score_macro, name="f1", lower_is_better=False),
        EarlyStopping(monitor="f1", patience=1, lower_is_better=False, threshold=10),
    ]


def early_stopping():
    return EarlyStopping(patience=1, threshold=10)


STOPPED = {
    "early stopping beside a scorer": (lambda tmp: {"callbacks": macro_callbacks()}, 2),
    "early stopping, Rprop": (
        lambda tmp: {"callbacks": [early_stopping()], "optimizer": torch.optim.Rprop},
        2,
    ),
    "early stopping, another callback": (lambda tmp: {"callbacks": [early_stopping(), Idle]}, 2),
    "early stopping, checkpoint": (
        lambda tmp: {"callbacks": [("stop", early_stopping()), Checkpoint(dirname=tmp, load_best=True)]},
        1,  # the history of the best epoch
    ),
    "epoch end": (lambda tmp: {"callbacks": [StopAt("on_epoch_end")]}, 2),
    "epoch begin": (lambda tmp: {"callbacks": [StopAt("on_epoch_begin")]}, 2),
    "first batch": (lambda tmp: {"callbacks": [StopAt("on_batch_end", times=1)]}, 1),
    "batch begin": (lambda tmp: {"callbacks": [StopAt("on_batch_begin", times=3)]}, 1),
    "gradients": (lambda tmp: {"callbacks": [StopAt("on_grad_computed", times=3)]}, 1),
    "subclass": (lambda tmp: {"callbacks": [StopAt("on_epoch_end", error=Enough)]}, 2),
    "scorer": (lambda tmp: {"callbacks": [EpochScoring(stopping_scorer)]}, 2),
}


@pytest.mark.parametrize(("options", "epochs"), STOPPED.values(), ids=STOPPED)
def test_search_callback_with_keyboard_interrupt_stops_only_its_model(tmp_path, options, epochs):
    model = classifier(max_epochs=5, **options(tmp_path))
    handler = signal.getsignal(signal.SIGINT)
    fitted = search(model, {"lr": [0.1, 0.05]}, cv=2, scoring="neg_log_loss").fit(X, Y)
    assert signal.getsignal(signal.SIGINT) is handler
    assert fitted.runs_["how"].eq("skorch").all()
    assert fitted.runs_["failure"].eq("").all()
    assert len(fitted.best_estimator_.history) == epochs
    for fold, (train, test) in enumerate(StratifiedKFold(2).split(X, Y)):
        expected = fit_by_skorch(model, X[train], Y[train], 0, fold)
        right = np.log(expected.predict_proba(X[test])[np.arange(len(test)), Y[test]]).mean()
        assert score_matrix(fitted)[0, fold] == pytest.approx(right, rel=1e-6)


def test_search_early_stopping_with_data_that_fleets_do_not_support():
    model = classifier(max_epochs=5, callbacks=[early_stopping()], train_split=skorch.dataset.ValidSplit(3))
    inputs = SliceDataset(torch.utils.data.TensorDataset(torch.from_numpy(X)), 0)
    fitted = search(model, {"lr": [0.1]}, cv=[(np.arange(100), np.arange(100, 150))]).fit(inputs, Y)
    assert fitted.runs_["how"].eq("skorch").all()
    assert fitted.runs_["failure"].eq("").all()
    assert len(fitted.best_estimator_.history) == 2


def test_search_early_stopping_in_a_thread():
    fitted, handler = (
        search(classifier(callbacks=macro_callbacks(), max_epochs=5), {"lr": [0.1]}),
        signal.getsignal(2),
    )
    thread = threading.Thread(target=fitted.fit, args=(X, Y))
    thread.start()
    thread.join()
    assert len(fitted.best_estimator_.history) == 2
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    "callbacks",
    [macro_callbacks, lambda: [StopAt("on_batch_end", 1)], lambda: [StopAt("on_grad_computed", 5)]],
)
def test_compare_callback_with_keyboard_interrupt_stops_only_its_model(callbacks):
    model = classifier(callbacks=callbacks(), max_epochs=5)
    comparison = actlab.compare(["relu", "tanh"], TABLE, module=model, folds=2, tune=None)
    assert comparison.results["score"].notna().all()
    assert set(comparison.history.groupby(["activation", "fold"]).size()) <= {1, 2}


def fitted_elsewhere():
    fitted = search(classifier(callbacks=[StopAt("on_epoch_end")], max_epochs=5), {"lr": [0.1]}).fit(X, Y)
    return len(fitted.best_estimator_.history), signal.getsignal(signal.SIGINT)


@pytest.mark.slow
def test_search_early_stopping_in_a_worker_process():
    with start_processes(1) as executor:  # its processes ignore SIGINT
        assert executor.submit(fitted_elsewhere).result() == (2, signal.SIG_IGN)


# -- Ctrl-C -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sigint(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Signals(Callback):
    """Send SIGINT to this process in the second epoch, like Ctrl-C."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            signal.raise_signal(signal.SIGINT)


class Swallows(Signals):
    def on_epoch_end(self, net, **kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            super().on_epoch_end(net, **kwargs)


def own_handler(number, frame):
    raise Enough


@pytest.mark.parametrize("callback", [Signals, Swallows])
@pytest.mark.parametrize("handler", [signal.default_int_handler, own_handler], ids=["python's", "own"])
def test_search_is_interrupted_by_a_signal(handler, callback):
    fitted = search(classifier(callbacks=[callback], max_epochs=3), {"lr": [0.1, 0.2]})
    with sigint(handler), pytest.raises(KeyboardInterrupt) as caught:
        fitted.fit(X, Y)
    assert caught.type is (KeyboardInterrupt if handler is signal.default_int_handler else Enough)
    assert len(fitted.runs_) == 0
    assert not hasattr(fitted, "cv_results_")


def test_compare_is_interrupted_by_a_signal():
    class Second(Callback):
        trained = 0

        def on_train_end(self, model, **kwargs):
            Second.trained += 1
            if Second.trained == 3:
                signal.raise_signal(signal.SIGINT)

    model = classifier(callbacks=[Second], max_epochs=1)
    with sigint(signal.default_int_handler), pytest.raises(Interrupted, match="2 of 4 runs") as caught:
        actlab.compare(["relu", "tanh"], TABLE, module=model, folds=2, tune=None)
    assert caught.value.results["activation"].to_list() == ["relu", "relu"]


def record_signals(received):
    return lambda number, frame: received.append(number)


@pytest.mark.parametrize("callbacks", [[Signals], [Signals, StopAt("on_epoch_begin", 3)]])
@pytest.mark.parametrize("handling", ["ignored", "noted"])
def test_search_continues_after_an_ignored_signal(handling, callbacks):
    received = []
    handler = signal.SIG_IGN if handling == "ignored" else record_signals(received)
    with sigint(handler):
        fitted = search(classifier(callbacks=callbacks, max_epochs=3), {"lr": [0.1, 0.2]}, cv=2).fit(X, Y)
        assert signal.getsignal(signal.SIGINT) is handler
    assert len(received) == (0 if handling == "ignored" else 5)
    assert fitted.runs_["failure"].eq("").all()


def test_search_keeps_a_signal_handler_installed_by_a_callback():
    class Installs(Callback):
        def on_train_begin(self, model, **kwargs):
            signal.signal(signal.SIGINT, own_handler)

    with sigint(signal.default_int_handler):
        search(classifier(callbacks=[Installs]), {"lr": [0.1]}, refit=False).fit(X, Y)
        assert signal.getsignal(signal.SIGINT) is own_handler


SCRIPT = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests can run with SIGINT ignored

import numpy as np, skorch, torch
import actlab


class PrintsEpochs(skorch.callbacks.Callback):
    def on_epoch_end(self, model, **kwargs):
        print("epoch", flush=True)


X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
y = np.arange(60) % 3
model = skorch.NeuralNetClassifier(
    actlab.NeuralNet, module__num_features=4, module__num_classes=3, criterion=torch.nn.CrossEntropyLoss,
    max_epochs=10**9, verbose=0, callbacks=[PrintsEpochs]
)
"""
SEARCH = "actlab.FleetSearchCV(model, {'lr': [0.1, 0.2]}, cv=2, n_jobs=1).fit(X, y)\n"
COMPARE = """
data = actlab.Dataset(X, y, "table", "0" * 16, (0, 1, 2))
actlab.compare(["relu", "tanh"], data, module=model, folds=2)
"""


@pytest.mark.parametrize(
    "call", [SEARCH, pytest.param(COMPARE, marks=pytest.mark.slow)], ids=["search", "compare"]
)
def test_search_and_compare_are_interrupted_by_ctrl_c(tmp_path, call):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + call)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with start_process([sys.executable, str(script)], **pipes) as process:
        assert process.stdout.readline() == "epoch\n"
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate()
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode == -signal.SIGINT

"""Runs that kill every training process are recorded as failed and never train in the main process."""

import math
import multiprocessing
import os
import signal

import numpy as np
import pytest
from sklearn.exceptions import FitFailedWarning
from torch import nn

from actlab import compare
from actlab.data.dataset import Dataset
from actlab.fleet.skorch_training import RunFailed
from tests.searches import X, Y, one_thread, score_matrix, search

__all__ = ["one_thread"]

calls_in_main_process: list[tuple[int, ...]] = []


class Deadly(nn.Module):
    """Kill a process that trains it, but accept the two samples of the first test of a model."""

    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, x):
        if len(x) > 2:
            if multiprocessing.parent_process() is not None:
                self.end()
            calls_in_main_process.append(tuple(x.shape))
        return x


class Aborts(Deadly):
    def end(self):
        os.abort()


class Exits(Deadly):
    def end(self):
        os._exit(3)


@pytest.fixture(autouse=True)
def no_call_in_main_process():
    calls_in_main_process.clear()
    yield
    assert calls_in_main_process == []


def reason(code):
    return f"the training process died 3 times: exit code {code}"


@pytest.mark.parametrize(
    ("deadly", "code"),
    [
        (Deadly, "SIGKILL(-9)"),
        pytest.param(Aborts, "SIGABRT(-6)", marks=pytest.mark.slow),
        pytest.param(Exits, "EXIT(3)", marks=pytest.mark.slow),
    ],
)
def test_search_gives_error_score_to_a_run_that_kills_its_processes(tmp_path, deadly, code):
    good = {"module__activation": ["relu", "tanh"]}
    grid = [good, {"module__activation": [deadly]}]
    options = {
        "cv": [(np.arange(100), np.arange(100, 150))],
        "scoring": "neg_log_loss",
        "ledger": tmp_path / "ledger.sqlite",
        "error_score": -9,
    }
    with pytest.warns(
        FitFailedWarning, match=r"1 fits failed out of a total of 3(.|\n)*training process died"
    ):
        fitted = search(grid=grid, n_jobs=2, **options).fit(X, Y)
    expected = search(grid=good, cv=options["cv"], scoring=options["scoring"]).fit(X, Y)
    assert score_matrix(fitted).tolist() == [*score_matrix(expected).tolist(), [-9]]
    assert fitted.runs_["failure"].tolist() == ["", "", reason(code)]
    with pytest.warns(FitFailedWarning, match="1 fits failed out of a total of 3"):
        again = search(grid=grid, n_jobs=1, **options).fit(X, Y)
    assert np.array_equal(score_matrix(again), score_matrix(fitted))
    assert again.runs_.equals(fitted.runs_)
    with pytest.raises(RunFailed, match="the training process died 3 times"):
        search(grid=grid, n_jobs=1, **{**options, "error_score": "raise"}).fit(X, Y)


@pytest.mark.slow
def test_compare_does_not_train_a_killing_activation_in_the_main_process(tmp_path):
    names = ["relu", f"{__name__}:Deadly"]
    dataset = Dataset(X, Y, "made up", "0" * 16, ("a", "b", "c"))
    options = {
        "folds": 2,
        "epochs": 2,
        "batch_size": 16,
        "hidden": (8, 4),
        "ledger": tmp_path / "ledger.sqlite",
    }
    for jobs in (2, 1):  # the second comparison takes all runs from the ledger
        comparison = compare(names, dataset, jobs=jobs, tune=None, **options)
        assert comparison.results["failure"].to_list() == ["", "", *[reason("SIGKILL(-9)")] * 2]
        assert comparison.results["saved_bytes"].notna().to_list() == [True, True, False, False]
        assert comparison.curves.empty
        status = f"failed in 2 of 2 runs: {reason('SIGKILL(-9)')}"
        assert comparison.ranking["status"].to_list()[1] == status
        assert math.isnan(comparison.ranking["mean"][1])

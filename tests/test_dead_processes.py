"""Runs that end every process that trains them: they have failed, and this process never trains them."""

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
from actlab.fleet.unfused import RunFailed
from tests.searches import X, Y, one_thread, scores, search

__all__ = ["one_thread"]

calls_here: list[tuple[int, ...]] = []


class Deadly(nn.Module):
    """Ends a process that trains it, but takes the two rows that a net is tried with."""

    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, x):
        if len(x) > 2:
            if multiprocessing.parent_process() is not None:
                self.end()
            calls_here.append(tuple(x.shape))
        return x


class Aborts(Deadly):
    def end(self):
        os.abort()


class Exits(Deadly):
    def end(self):
        os._exit(3)


@pytest.fixture(autouse=True)
def not_here():
    calls_here.clear()
    yield
    assert calls_here == []


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
def test_search_gives_error_score_to_a_run_that_ends_its_processes(tmp_path, deadly, code):
    good = {"module__activation": ["relu", "tanh"]}
    grid = [good, {"module__activation": [deadly]}]
    how = {
        "cv": [(np.arange(100), np.arange(100, 150))],
        "scoring": "neg_log_loss",
        "ledger": tmp_path / "ledger.sqlite",
        "error_score": -9,
    }
    with pytest.warns(
        FitFailedWarning, match=r"1 fits failed out of a total of 3(.|\n)*training process died"
    ):
        found = search(grid=grid, n_jobs=2, **how).fit(X, Y)
    alone = search(grid=good, cv=how["cv"], scoring=how["scoring"]).fit(X, Y)
    assert scores(found).tolist() == [*scores(alone).tolist(), [-9]]
    assert found.runs_["failure"].tolist() == ["", "", reason(code)]
    with pytest.warns(FitFailedWarning, match="1 fits failed out of a total of 3"):
        again = search(grid=grid, n_jobs=1, **how).fit(X, Y)
    assert np.array_equal(scores(again), scores(found))
    assert again.runs_.equals(found.runs_)
    with pytest.raises(RunFailed, match="the training process died 3 times"):
        search(grid=grid, n_jobs=1, **{**how, "error_score": "raise"}).fit(X, Y)


@pytest.mark.slow
def test_compare_does_not_call_an_activation_that_ends_its_processes(tmp_path):
    names = ["relu", f"{__name__}:Deadly"]
    dataset = Dataset(X, Y, "made up", "0" * 16, ("a", "b", "c"))
    how = {"folds": 2, "epochs": 2, "batch_size": 16, "num_units": 8, "ledger": tmp_path / "ledger.sqlite"}
    for jobs in (2, 1):  # at the second time all runs are in the ledger
        found = compare(names, dataset, jobs=jobs, **how)
        assert found.results["failure"].to_list() == ["", "", *[reason("SIGKILL(-9)")] * 2]
        assert found.results["saved_bytes"].notna().to_list() == [True, True, False, False]
        assert found.curves.empty
        status = f"failed in 2 of 2 runs: {reason('SIGKILL(-9)')}"
        assert found.ranking["status"].to_list()[1] == status
        assert math.isnan(found.ranking["mean"][1])

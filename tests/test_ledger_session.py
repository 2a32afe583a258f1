"""Comparisons and searches with a ledger train only missing runs and return the same results."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from actlab.comparison.comparison import Interrupted, compare
from actlab.data.dataset import Dataset, compute_fingerprint
from actlab.errors import UsageError
from actlab.execution.processes import start_processes
from actlab.execution.scheduler import train_runs
from actlab.fleet.run import Result
from actlab.ledger.ledger import Ledger
from actlab.ledger.session import open_session
from tests import searches
from tests.fleet_runs import WILD, Late, assert_equal, make_noisy, make_perceptron, one_fleet, one_thread, run
from tests.fleets import make_table
from tests.searches import search

OURS = searches.X, searches.Y

__all__ = ["one_fleet", "one_thread"]

X, Y = make_table(80)
DATA = Dataset(X, Y, "small", compute_fingerprint(X, Y), (0, 1, 2))
TIMES = ["seconds", "dur"]


@pytest.fixture
def trained_runs(monkeypatch):
    """Return a list that receives the number of runs of each fleet trained in this process."""
    from actlab.execution import backends

    fleet_sizes = []

    def count(runs, *arguments):
        fleet_sizes.append(len(runs))
        return train_or_split(runs, *arguments)

    train_or_split = backends.train_or_split
    monkeypatch.setattr(backends, "train_or_split", count)
    return fleet_sizes


def compare_small(activations=("relu", "tanh"), **options):
    return compare(
        list(activations),
        DATA,
        **{"epochs": 2, "hidden": (8, 4), "jobs": 1, "tune": None, **options},
    )


def assert_same_comparison(comparison, expected):
    """Assert that two comparisons are equal bit for bit, except for times and run keys."""
    for ours, theirs in ((comparison.results, expected.results), (comparison.history, expected.history)):
        columns = [*TIMES, "key"]
        pd.testing.assert_frame_equal(
            ours.drop(columns=columns, errors="ignore"),
            theirs.drop(columns=columns, errors="ignore"),
            check_exact=True,
        )
    pd.testing.assert_frame_equal(comparison.ranking, expected.ranking, check_exact=True)


# -- comparisons ----------------------------------------------------------------------------------


def test_compare_takes_recorded_runs_from_the_ledger(tmp_path, trained_runs, capsys):
    file = tmp_path / "ledger.sqlite"
    first = compare_small(ledger=file, verbose=1)
    assert sum(trained_runs) == 6
    assert capsys.readouterr().err == ""
    again = compare_small(ledger=file, verbose=1)
    assert sum(trained_runs) == 6
    assert capsys.readouterr().err == "actlab: 6 of 6 runs are from the ledger\n"
    pd.testing.assert_frame_equal(again.results, first.results, check_exact=True)
    pd.testing.assert_frame_equal(again.history, first.history, check_exact=True)
    assert_same_comparison(compare_small(), first)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"activations": ("relu", "tanh", "gelu")}, 3),
        ({"activations": ("leaky_relu(negative_slope=0.2)", "tanh")}, 3),
        ({"lr": 0.02}, 6),
        ({"epochs": 3}, 6),
        ({"seed": 1}, 6),
        ({"folds": 4}, 8),
        ({"batch_size": 64}, 6),
        ({"momentum": 0.9}, 6),
        ({"hidden": (9, 4)}, 6),
        ({"precision": "bf16"}, 6),
        ({"jobs": 2}, 0),
        ({"activations": ("tanh", "relu")}, 0),
    ],
)
def test_compare_trains_only_the_runs_that_a_changed_setting_affects(tmp_path, trained_runs, change, number):
    file = tmp_path / "ledger.sqlite"
    compare_small(ledger=file)
    trained_runs.clear()
    comparison = compare_small(**{**change, "ledger": file})
    assert sum(trained_runs) == number
    with Ledger(file, readonly=True) as ledger:
        assert len(ledger.runs()) == 6 + number
    if "jobs" not in change:
        assert_same_comparison(comparison, compare_small(**change))


def test_compare_trains_again_for_other_data(tmp_path, trained_runs):
    compare_small(ledger=tmp_path / "ledger.sqlite")
    other = X.copy()
    other[0, 0] += 1
    trained_runs.clear()
    compare(
        ["relu"],
        dataclasses.replace(DATA, X=other, fingerprint=compute_fingerprint(other, Y)),
        epochs=2,
        hidden=(8, 4),
        jobs=1,
        ledger=tmp_path / "ledger.sqlite",
        tune=None,
    )
    assert sum(trained_runs) == 3


def test_compare_resumes_after_an_interrupt(tmp_path, monkeypatch, trained_runs):
    from actlab.fleet.optimizers import SGD

    step, steps = SGD.step, []

    def interrupt(self):
        steps.append(1)
        if len(steps) == 30:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(SGD, "step", interrupt)
        with pytest.raises(
            Interrupted, match=r"of 6 runs are saved; run the comparison again to resume$"
        ) as caught:
            compare_small(ledger=tmp_path / "ledger.sqlite", batch_size=8)
    finished = len(caught.value.results)
    assert 0 < finished < 6
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(ledger.runs()) == finished
        assert ledger.claims().empty
    trained_runs.clear()
    comparison = compare_small(ledger=tmp_path / "ledger.sqlite", batch_size=8)
    assert sum(trained_runs) == 6 - finished
    assert_same_comparison(comparison, compare_small(batch_size=8))


@pytest.mark.parametrize(
    ("tune", "last_step"),
    [("auto", 1), ("auto", 150), ({"lr": [0.01, 0.1]}, 60)],
    ids=["nothing saved", "screening", "grid"],
)
def test_interrupted_compare_counts_its_runs_in_the_ledger(tmp_path, monkeypatch, tune, last_step):
    from actlab.fleet.optimizers import SGD

    step, steps = SGD.step, []

    def interrupt(self):
        steps.append(1)
        if len(steps) == last_step:
            raise KeyboardInterrupt
        step(self)

    file = tmp_path / "ledger.sqlite"
    compare_small(["elu"], ledger=file)
    with Ledger(file) as ledger:
        others = len(ledger.runs())
    monkeypatch.setattr(SGD, "step", interrupt)
    with pytest.raises(Interrupted) as caught:
        compare_small(ledger=file, batch_size=8, tune=tune)
    with Ledger(file) as ledger:
        saved = len(ledger.runs()) - others
    assert (saved > 0) is (last_step > 1)
    assert str(caught.value).startswith(f": {saved} of ")
    assert str(caught.value).endswith(" runs are saved; run the comparison again to resume")


def test_compare_results_contain_the_run_keys(tmp_path):
    comparison = compare_small(ledger=tmp_path / "ledger.sqlite")
    with Ledger(tmp_path / "ledger.sqlite", readonly=True) as ledger:
        runs = ledger.runs().set_index("key").loc[comparison.results["key"]]
    assert runs["activation"].to_list() == comparison.results["activation"].to_list()
    assert runs["test_acc"].to_list() == comparison.results["accuracy"].to_list()
    assert set(compare_small().results["key"]) == {""}


# -- runs -----------------------------------------------------------------------------------------


def train_with_ledger(runs, file, *, weights=True, executor=None):
    with open_session(file, runs, DATA.fingerprint, weights=weights) as session:
        return train_runs(runs, X, Y, executor=executor, session=session)


def test_train_runs_restores_every_kind_of_result_bit_for_bit(tmp_path):
    runs = [
        run(),
        run(make_perceptron("prelu")),
        run(make_noisy),
        run(optimizer=WILD),
        run(make_perceptron(Late(ValueError("no")))),
    ]
    expected = train_runs(runs, X, Y)
    assert_equal(train_with_ledger(runs, tmp_path / "a"), expected)
    again = train_with_ledger(runs, tmp_path / "a")
    assert_equal(again, expected)
    assert [result.failure for result in again] == ["", "", "", *(r.failure for r in expected[3:])]


def test_train_runs_trains_the_missing_runs_of_a_fleet(tmp_path, one_fleet, trained_runs):
    runs = [run(seed=seed) for seed in range(5)]
    train_with_ledger(runs[1:3], tmp_path / "a")
    trained_runs.clear()
    results = train_with_ledger(runs, tmp_path / "a")
    assert trained_runs == [3]
    for result, expected in zip(results, train_runs(runs, X, Y), strict=True):
        assert result.history[-1]["train_loss"] == pytest.approx(expected.history[-1]["train_loss"], rel=1e-5)


def test_train_runs_accepts_results_without_weights_only_if_none_are_needed(tmp_path, trained_runs):
    runs = [run()]
    train_with_ledger(runs, tmp_path / "a", weights=False)
    assert train_with_ledger(runs, tmp_path / "a", weights=False)[0].weights == {}
    assert sum(trained_runs) == 1
    (result,) = train_with_ledger(runs, tmp_path / "a")
    assert sum(trained_runs) == 2
    assert result.weights
    assert_equal(train_with_ledger(runs, tmp_path / "a"), [result])
    assert sum(trained_runs) == 2


def test_train_runs_retries_runs_that_ran_out_of_memory(tmp_path, trained_runs):
    runs = [run(make_perceptron(Late(MemoryError("all of it"))))]
    for times in (1, 2):
        (result,) = train_with_ledger(runs, tmp_path / "a")
        assert result.failure.startswith("out of memory")
        assert len(trained_runs) == times
    with Ledger(tmp_path / "a") as ledger:
        assert ledger.runs().empty
        assert ledger.claims().empty


def test_train_runs_waits_for_runs_claimed_by_others(tmp_path, trained_runs):
    import threading

    runs = [run(seed=seed) for seed in range(3)]
    with open_session(tmp_path / "a", runs[:1], DATA.fingerprint) as other_session:
        assert other_session.claim_or_restore([0]) == {}
        results = []
        waiting_thread = threading.Thread(
            target=lambda: results.extend(train_with_ledger(runs, tmp_path / "a", weights=False))
        )
        waiting_thread.start()
        waiting_thread.join(1.5)
        assert waiting_thread.is_alive()
        other_session.record([0], [Result(test_acc=0.25, history=[])], 1)
        waiting_thread.join(20)
    assert not waiting_thread.is_alive()
    assert results[0].test_acc == 0.25
    assert sum(trained_runs) == 2


def test_train_runs_combines_processes_with_a_ledger(tmp_path):
    runs = [run(make_perceptron(name), seed=seed) for seed in (0, 1) for name in ("relu", "tanh", "gelu")]
    with start_processes(2) as executor:
        results = train_with_ledger(runs[:5], tmp_path / "a", executor=executor)
        assert_equal(train_with_ledger(runs, tmp_path / "a", executor=executor), train_runs(runs, X, Y))
    assert_equal(results, train_runs(runs[:5], X, Y))


def test_open_session_rejects_a_run_without_a_description(tmp_path):
    def generator():
        yield 1

    model = make_perceptron()
    model.keywords["extra"] = generator()
    with pytest.raises(UsageError, match=r"^a ledger cannot record these runs: cannot describe "):
        train_with_ledger([run(model)], tmp_path / "a")


# -- searches -------------------------------------------------------------------------------------


def scores_of(fitted):
    return {name: value for name, value in fitted.cv_results_.items() if "time" not in name}


def assert_same_search(fitted, expected):
    for name, value in scores_of(expected).items():
        np.testing.assert_array_equal(scores_of(fitted)[name], value, err_msg=name)
    assert fitted.best_params_ == expected.best_params_
    assert np.array_equal(fitted.predict_proba(searches.X), expected.predict_proba(searches.X))


def test_search_trains_only_missing_runs_and_its_best_estimator_works(tmp_path, trained_runs):
    file = tmp_path / "ledger.sqlite"
    first = search(ledger=file).fit(*OURS)
    number = sum(trained_runs)
    assert number == len(first.runs_) + 1  # plus the best setting, refitted on all samples
    again = search(ledger=file).fit(*OURS)
    assert sum(trained_runs) == number
    assert_same_search(again, first)
    assert_same_search(first, search().fit(*OURS))
    again.best_estimator_.partial_fit(*OURS)


def test_search_clones_share_the_ledger_and_pickles_omit_it(tmp_path):
    with Ledger(tmp_path / "a", weights=True) as ledger:
        ours = search(ledger=ledger)
        assert clone(ours).ledger is ledger
        assert copy.deepcopy(ours).ledger is None  # a pickle omits the ledger, too
        assert_same_search(ours.fit(*OURS), search().fit(*OURS))


def test_search_rejects_a_ledger_without_weights(tmp_path):
    with Ledger(tmp_path / "a") as ledger:
        with pytest.raises(UsageError, match=r"does not store weights; open it with weights=True$"):
            search(ledger=ledger).fit(*OURS)
        compare_small(ledger=ledger)
        assert len(ledger.runs()) == 6


def test_train_runs_does_not_record_failures_from_missing_files(tmp_path, trained_runs):
    runs = [run(make_perceptron(Late(FileNotFoundError("my_act.py"))))]
    for times in (1, 2):
        assert "my_act.py" in train_with_ledger(runs, tmp_path / "a")[0].failure
        assert len(trained_runs) == times
    with Ledger(tmp_path / "a") as ledger:
        assert ledger.runs().empty

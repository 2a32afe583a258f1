"""Comparisons and searches with a ledger: only what is missing is trained, and the results are the same."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from actlab.comparison.comparison import Interrupted, compare
from actlab.data.dataset import Dataset, fingerprint_of
from actlab.errors import UsageError
from actlab.execution.processes import processes
from actlab.execution.scheduler import train_runs
from actlab.fleet.run import Result
from actlab.ledger.ledger import Ledger
from actlab.ledger.session import open_session
from tests import searches
from tests.fleet_runs import WILD, Late, assert_equal, noisy, one_fleet, one_thread, perceptron, run
from tests.fleets import table
from tests.searches import search

OURS = searches.X, searches.Y

__all__ = ["one_fleet", "one_thread"]

X, Y = table(80)
DATA = Dataset(X, Y, "small", fingerprint_of(X, Y), (0, 1, 2))
TIMES = ["seconds", "dur"]


@pytest.fixture
def trained(monkeypatch):
    """Return the list of what is trained in this process from now on: how many runs each time."""
    from actlab.execution import backends

    found = []

    def count(runs, *arguments):
        found.append(len(runs))
        return attempt(runs, *arguments)

    attempt = backends.attempt
    monkeypatch.setattr(backends, "attempt", count)
    return found


def small(activations=("relu", "tanh"), **options):
    return compare(list(activations), DATA, **{"epochs": 2, "num_units": 8, "jobs": 1, **options})


def same(found, expected):
    """Hold a comparison against another one, bit for bit, but for the time it took and the keys of runs."""
    for ours, theirs in ((found.results, expected.results), (found.history, expected.history)):
        columns = [*TIMES, "key"]
        pd.testing.assert_frame_equal(
            ours.drop(columns=columns, errors="ignore"),
            theirs.drop(columns=columns, errors="ignore"),
            check_exact=True,
        )
    pd.testing.assert_frame_equal(found.ranking, expected.ranking, check_exact=True)


# -- comparisons ----------------------------------------------------------------------------------


def test_what_is_in_the_ledger_is_not_trained_again_and_is_the_same(tmp_path, trained, capsys):
    file = tmp_path / "ledger.sqlite"
    first = small(ledger=file, verbose=1)
    assert sum(trained) == 6
    assert capsys.readouterr().err == ""
    again = small(ledger=file, verbose=1)
    assert sum(trained) == 6
    assert capsys.readouterr().err == "actlab: 6 of 6 nets are from the ledger\n"
    pd.testing.assert_frame_equal(again.results, first.results, check_exact=True)
    pd.testing.assert_frame_equal(again.history, first.history, check_exact=True)
    same(small(), first)


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
        ({"num_units": 9}, 6),
        ({"precision": "bf16"}, 6),
        ({"jobs": 2}, 0),
        ({"activations": ("tanh", "relu")}, 0),
    ],
)
def test_a_changed_setting_trains_what_it_changes(tmp_path, trained, change, number):
    file = tmp_path / "ledger.sqlite"
    small(ledger=file)
    trained.clear()
    found = small(**{**change, "ledger": file})
    assert sum(trained) == number
    with Ledger(file, readonly=True) as ledger:
        assert len(ledger.runs()) == 6 + number
    if "jobs" not in change:
        same(found, small(**change))


def test_other_data_are_other_runs(tmp_path, trained):
    small(ledger=tmp_path / "ledger.sqlite")
    other = X.copy()
    other[0, 0] += 1
    trained.clear()
    compare(
        ["relu"],
        dataclasses.replace(DATA, X=other, fingerprint=fingerprint_of(other, Y)),
        epochs=2,
        num_units=8,
        jobs=1,
        ledger=tmp_path / "ledger.sqlite",
    )
    assert sum(trained) == 3


def test_an_interrupted_comparison_goes_on_where_it_was(tmp_path, monkeypatch, trained):
    from actlab.fleet.optimizers import SGD

    step, steps = SGD.step, []

    def interrupt(self):
        steps.append(1)
        if len(steps) == 30:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(SGD, "step", interrupt)
        with pytest.raises(Interrupted, match=r"of 6 nets were trained; run it again to resume$") as caught:
            small(ledger=tmp_path / "ledger.sqlite", batch_size=8)
    done = len(caught.value.results)
    assert 0 < done < 6
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(ledger.runs()) == done
        assert ledger.claims().empty
    trained.clear()
    found = small(ledger=tmp_path / "ledger.sqlite", batch_size=8)
    assert sum(trained) == 6 - done
    same(found, small(batch_size=8))


def test_results_carry_the_keys_of_the_ledger(tmp_path):
    found = small(ledger=tmp_path / "ledger.sqlite")
    with Ledger(tmp_path / "ledger.sqlite", readonly=True) as ledger:
        runs = ledger.runs().set_index("key").loc[found.results["key"]]
    assert runs["activation"].to_list() == found.results["activation"].to_list()
    assert runs["test_acc"].to_list() == found.results["accuracy"].to_list()
    assert set(small().results["key"]) == {""}


# -- runs -----------------------------------------------------------------------------------------


def with_ledger(runs, file, *, weights=True, executor=None):
    with open_session(file, runs, DATA.fingerprint, weights=weights) as session:
        return train_runs(runs, X, Y, executor=executor, session=session)


def test_every_kind_of_result_comes_back_to_the_last_bit(tmp_path):
    runs = [
        run(),
        run(perceptron("prelu")),
        run(noisy),
        run(optimizer=WILD),
        run(perceptron(Late(ValueError("no")))),
    ]
    expected = train_runs(runs, X, Y)
    assert_equal(with_ledger(runs, tmp_path / "a"), expected)
    again = with_ledger(runs, tmp_path / "a")
    assert_equal(again, expected)
    assert [result.failure for result in again] == ["", "", "", *(r.failure for r in expected[3:])]


def test_of_a_fleet_the_missing_runs_are_trained(tmp_path, one_fleet, trained):
    runs = [run(seed=seed) for seed in range(5)]
    with_ledger(runs[1:3], tmp_path / "a")
    trained.clear()
    results = with_ledger(runs, tmp_path / "a")
    assert trained == [3]
    for result, expected in zip(results, train_runs(runs, X, Y), strict=True):
        assert result.history[-1]["train_loss"] == pytest.approx(expected.history[-1]["train_loss"], rel=1e-5)


def test_a_result_without_weights_will_do_only_where_none_are_wanted(tmp_path, trained):
    runs = [run()]
    with_ledger(runs, tmp_path / "a", weights=False)
    assert with_ledger(runs, tmp_path / "a", weights=False)[0].weights == {}
    assert sum(trained) == 1
    (result,) = with_ledger(runs, tmp_path / "a")
    assert sum(trained) == 2
    assert result.weights
    assert_equal(with_ledger(runs, tmp_path / "a"), [result])
    assert sum(trained) == 2


def test_what_failed_for_want_of_memory_is_tried_again(tmp_path, trained):
    runs = [run(perceptron(Late(MemoryError("all of it"))))]
    for times in (1, 2):
        (result,) = with_ledger(runs, tmp_path / "a")
        assert result.failure.startswith("out of memory")
        assert len(trained) == times
    with Ledger(tmp_path / "a") as ledger:
        assert ledger.runs().empty
        assert ledger.claims().empty


def test_runs_that_others_train_are_waited_for_and_not_trained(tmp_path, trained):
    import threading

    runs = [run(seed=seed) for seed in range(3)]
    with open_session(tmp_path / "a", runs[:1], DATA.fingerprint) as theirs:
        assert theirs.claim([0]) == {}
        results = []
        waiting = threading.Thread(
            target=lambda: results.extend(with_ledger(runs, tmp_path / "a", weights=False))
        )
        waiting.start()
        waiting.join(1.5)
        assert waiting.is_alive()
        theirs.record([0], [Result(test_acc=0.25, history=[])], 1)
        waiting.join(20)
    assert not waiting.is_alive()
    assert results[0].test_acc == 0.25
    assert sum(trained) == 2


def test_processes_and_a_ledger_go_together(tmp_path):
    runs = [run(perceptron(name), seed=seed) for seed in (0, 1) for name in ("relu", "tanh", "gelu")]
    with processes(2) as executor:
        results = with_ledger(runs[:5], tmp_path / "a", executor=executor)
        assert_equal(with_ledger(runs, tmp_path / "a", executor=executor), train_runs(runs, X, Y))
    assert_equal(results, train_runs(runs[:5], X, Y))


def test_a_run_that_cannot_be_told_from_others_is_refused(tmp_path):
    def generator():
        yield 1

    net = perceptron()
    net.keywords["extra"] = generator()
    with pytest.raises(UsageError, match=r"^a ledger cannot record these runs: cannot describe "):
        with_ledger([run(net)], tmp_path / "a")


# -- searches -------------------------------------------------------------------------------------


def figures(found):
    return {name: value for name, value in found.cv_results_.items() if "time" not in name}


def equal(found, expected):
    for name, value in figures(expected).items():
        np.testing.assert_array_equal(figures(found)[name], value, err_msg=name)
    assert found.best_params_ == expected.best_params_
    assert np.array_equal(found.predict_proba(searches.X), expected.predict_proba(searches.X))


def test_a_search_trains_only_what_is_missing_and_the_best_net_works(tmp_path, trained):
    file = tmp_path / "ledger.sqlite"
    first = search(ledger=file).fit(*OURS)
    number = sum(trained)
    assert number == len(first.runs_) + 1  # and the best, on everything
    again = search(ledger=file).fit(*OURS)
    assert sum(trained) == number
    equal(again, first)
    equal(first, search().fit(*OURS))
    again.best_estimator_.partial_fit(*OURS)


def test_a_ledger_is_shared_by_clones_and_left_out_of_pickles(tmp_path):
    with Ledger(tmp_path / "a", weights=True) as ledger:
        ours = search(ledger=ledger)
        assert clone(ours).ledger is ledger
        assert copy.deepcopy(ours).ledger is None  # as through a pickle
        equal(ours.fit(*OURS), search().fit(*OURS))


def test_a_ledger_without_weights_will_not_do_for_a_search(tmp_path):
    with Ledger(tmp_path / "a") as ledger:
        with pytest.raises(UsageError, match=r"keeps no weights, which are needed: weights=True$"):
            search(ledger=ledger).fit(*OURS)
        small(ledger=ledger)
        assert len(ledger.runs()) == 6


def test_a_file_that_is_missing_here_is_no_result(tmp_path, trained):
    runs = [run(perceptron(Late(FileNotFoundError("my_act.py"))))]
    for times in (1, 2):
        assert "my_act.py" in with_ledger(runs, tmp_path / "a")[0].failure
        assert len(trained) == times
    with Ledger(tmp_path / "a") as ledger:
        assert ledger.runs().empty

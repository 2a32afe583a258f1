"""A ledger records results exactly and once, compares later results, and merges with other ledgers."""

from __future__ import annotations

import json
import logging
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from actlab.errors import UsageError
from actlab.ledger import ledger as ledger_module
from actlab.ledger.ledger import RUN_COLUMNS, Ledger, StoredRun
from actlab.ledger.records import dumps, loads
from tests.ledger_cases import ledger_of_three, make_entry, make_epochs, make_key, path, settings

__all__ = ["ledger_of_three", "path"]


def bits(value):
    """Return a key that is equal only for values with the same type and bits."""
    return (type(value), struct.pack("d", value) if isinstance(value, float) else value)


# Recorded results are read back exactly


floats = st.floats(allow_nan=False) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e-310])
figures = st.dictionaries(
    st.text(max_size=8), floats | st.booleans() | st.integers() | st.text(max_size=5) | st.none(), max_size=5
)


@given(
    histories=st.lists(st.lists(figures, max_size=4), min_size=1, max_size=3),
    figures_of_run=st.tuples(floats, floats, floats),
    texts=st.tuples(*[st.text(max_size=10)] * 3),
    passing=st.booleans(),
)
@tried(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_results_returns_recorded_values_bit_for_bit(tmp_path, histories, figures_of_run, texts, passing):
    path = tmp_path / "runs.db"
    path.unlink(missing_ok=True)
    loss, acc, seconds = figures_of_run
    how_trained, reason_alone, failure = texts
    own = {"test_loss": loss, "test_acc": acc, "seconds": seconds}
    own |= {"how": how_trained, "reason_alone": reason_alone, "failure": failure, "passing": passing}
    entries = [make_entry(number, history=history, **own) for number, history in enumerate(histories)]
    with Ledger(path) as ledger:
        ledger.record(entries)
    with Ledger(path, readonly=True) as ledger:
        results = ledger.results([one.key for one in entries])
    assert list(results) == [one.key for one in entries]
    for result, history in zip(results.values(), histories, strict=True):
        assert [[(n, bits(v)) for n, v in row.items()] for row in result.history] == [
            [(n, bits(v)) for n, v in row.items()] for row in history
        ]
        for name, value in own.items():
            assert bits(getattr(result, name)) == bits(value), name


@pytest.mark.parametrize(
    "outcomes",
    [np.arange(13) % 3 == 0, np.ones(8, bool), np.array([1e-30, math.nan, math.inf, 2.5], np.float32), None],
    ids=str,
)
def test_results_returns_recorded_outcomes(path, outcomes):
    with Ledger(path) as ledger:
        ledger.record([make_entry(0, outcomes=outcomes)])
    with Ledger(path, readonly=True) as ledger:
        found = ledger.results([make_key(0)])[make_key(0)].outcomes
    if outcomes is None:
        assert found is None
    else:
        assert found.dtype == outcomes.dtype
        assert found.tobytes() == outcomes.tobytes()


def test_verify_finds_missing_outcomes(path):
    with Ledger(path) as ledger:
        ledger.record([make_entry(0, outcomes=np.ones(13, bool))])
        ledger._connection.execute("UPDATE outcomes SET data = x'ff'")
        assert "8 outcomes instead of 13" in ledger.verify()[0]


def test_merge_copies_outcomes(path, tmp_path):
    outcomes = np.arange(13) % 3 == 0
    with Ledger(tmp_path / "other.db") as other:
        other.record([make_entry(0, outcomes=outcomes)])
    with Ledger(path) as ledger:
        assert ledger.merge(tmp_path / "other.db") == (1, [])
        assert ledger.results([make_key(0)])[make_key(0)].outcomes.tolist() == outcomes.tolist()


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool],
    ids=str,
)
def test_results_returns_weights_in_every_dtype_and_in_order(path, dtype):
    matrix = torch.randn(4, 6).mul(100).to(dtype)
    weights = {"z.weight": matrix.t(), "a.weight": matrix[1], "tied": matrix[1]}
    weights |= {"count": torch.tensor(3).to(dtype), "none": torch.zeros(0, 3, dtype=dtype)}
    with Ledger(path, weights=True) as ledger:
        ledger.record([make_entry(0, weights=weights), make_entry(1)])
        results = ledger.results([make_key(0), make_key(1)])
    assert results[make_key(1)].weights == {}
    assert list(results[make_key(0)].weights) == list(weights)
    for name, tensor in results[make_key(0)].weights.items():
        assert tensor.dtype == dtype
        assert tensor.shape == weights[name].shape
        assert torch.equal(tensor, weights[name])


def test_results_returns_weights_with_nan_and_signed_zero(path):
    odd = torch.tensor([math.nan, -0.0, math.inf, 1e-45])
    with Ledger(path, weights=True) as ledger:
        ledger.record([make_entry(0, weights={"w": odd})])
        results = ledger.results([make_key(0)])[make_key(0)].weights["w"]
    assert torch.equal(results.view(torch.int32), odd.view(torch.int32))


def test_record_stores_weights_only_if_requested(path):
    with Ledger(path) as ledger:
        ledger.record([make_entry(0, weights={"w": torch.ones(3)})])
        assert ledger.results([make_key(0)])[make_key(0)].weights == {}


def test_record_skips_weights_that_cannot_be_written(path, caplog):
    with Ledger(path, weights=True) as ledger:
        ledger.record([make_entry(0, weights={"w": torch.ones(2, dtype=torch.complex128)})])
        assert ledger.results([make_key(0)])[make_key(0)].weights == {}
    assert "weights are not recorded" in caplog.text


def test_dumps_converts_numpy_numbers():
    assert loads(
        dumps({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": [np.float32("inf")]})
    ) == {
        "a": 0.5,
        "b": 3,
        "c": True,
        "d": [math.inf],
    }


@given(figures)
def test_dumps_writes_standard_json(row):
    def constant(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(dumps(row), parse_constant=constant)


def test_record_escapes_text_that_is_not_unicode(path):
    with Ledger(path) as ledger:
        ledger.record([make_entry(0, failure="no file 'caf\udce9'")])
        assert ledger.results([make_key(0)])[make_key(0)].failure == "no file 'caf\\udce9'"


def test_record_writes_nothing_if_one_entry_cannot_be_recorded(path):
    with Ledger(path) as ledger:
        with pytest.raises(TypeError, match="cannot be recorded"):
            ledger.record([make_entry(0), make_entry(1, history=[{"a": object()}])])
        assert ledger.results([make_key(0), make_key(1)]) == {}
        ledger.record([make_entry(0)])
        assert list(ledger.results([make_key(1), make_key(0)])) == [make_key(0)]


def test_runs_and_history_return_tables(path):
    with Ledger(path) as ledger:
        assert ledger.runs().columns.tolist() == list(RUN_COLUMNS)
        assert ledger.history().columns.tolist() == ["key", "epoch"]
        failed = make_entry(
            1, history=[], failure="diverged", reason_alone="trained alone", test_acc=math.nan
        )
        ledger.record([make_entry(0), failed])
        runs, history = ledger.runs(), ledger.history()
        assert ledger.settings(make_key(1)) == settings(1)
        with pytest.raises(UsageError, match="has no run 'abc'"):
            ledger.settings("abc")
    assert runs.columns.tolist() == list(RUN_COLUMNS)
    assert runs["key"].tolist() == [make_key(0), make_key(1)]
    assert runs["seed"].tolist() == [0, 1]
    assert runs["epochs"].tolist() == [3, 0]
    assert runs["failure"].tolist() == ["", "diverged"]
    assert runs["test_acc"].dtype == float
    assert runs["test_acc"].isna().tolist() == [False, True]
    assert set(runs["finished"].str[-6:]) == {"+00:00"}
    assert history.columns.tolist() == ["key", "epoch", "train_loss", "train_loss_best"]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss_best"].tolist() == [True, False, False]


# Each run is stored once; a second result is compared


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"test_loss": 0.2524}, None),
        ({"test_loss": 0.26}, "test_loss is 0.25 here and 0.26 in a second result"),
        ({"test_loss": math.nan}, "test_loss is 0.25 here and nan in a second result"),
        ({"test_acc": 0.7599}, None),
        ({"test_acc": 0.77}, "test_acc is 0.75 here and 0.77 in a second result"),
        ({"history": make_epochs(train_loss=0.504)}, None),
        ({"history": make_epochs(train_loss=0.52)}, "train_loss is 0.5 here and 0.52 in a second result"),
        ({"history": make_epochs(2)}, "epochs is 3 here and 2 in a second result"),
        ({"failure": "no memory"}, "failure is none here and no memory in a second result"),
        ({"seconds": 99.0, "how": "autograd"}, None),
    ],
)
def test_record_keeps_the_first_result_and_reports_differences(path, caplog, changes, messages):
    with Ledger(path) as ledger:
        ledger.record([make_entry(0)])
        sentences = ledger.record([make_entry(0, **changes), make_entry(1)])
        assert ledger.results([make_key(0)])[make_key(0)] == make_entry(0).result
        assert list(ledger.results([make_key(1)])) == [make_key(1)]
        assert len(ledger.runs()) == 2
        assert ledger.verify() == sentences
    expected = [] if messages is None else [f"run {make_key(0)[:12]}: {messages}; the first is kept"]
    assert sentences == expected
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == expected


def test_record_does_not_compare_losses_of_diverged_runs(path):
    ends = [{"history": make_epochs(train_loss=loss), "failure": "diverged"} for loss in (math.inf, math.nan)]
    with Ledger(path) as ledger:
        assert [ledger.record([make_entry(0, **end)]) for end in ends] == [[], []]


def test_record_adds_missing_weights_if_the_results_agree(path):
    ones, twos = ({"w": torch.full((3,), value)} for value in (1.0, 2.0))
    with Ledger(path) as ledger:
        ledger.record([make_entry(0), make_entry(1)])
    with Ledger(path, weights=True) as ledger:
        ledger.record([make_entry(0, weights=ones), make_entry(1, weights=ones, test_acc=0.1)])
        ledger.record([make_entry(0, weights=twos)])
        results = ledger.results([make_key(0), make_key(1)])
    assert results[make_key(0)].weights["w"].tolist() == [1, 1, 1]
    assert results[make_key(1)].weights == {}


# Merging


def test_merge_copies_missing_runs_and_compares_the_others(tmp_path, path, monkeypatch):
    monkeypatch.setattr(ledger_module, "_BATCH", 2)
    other, weights = tmp_path / "other.db", {"w": torch.ones(2)}
    with Ledger(other, weights=True) as ledger:
        foreign = make_entry(3)
        foreign = StoredRun(
            foreign.key, foreign.settings, foreign.result, 4, "other-host", "2020-02-02T00:00:00+00:00"
        )
        ledger.record([make_entry(0, weights=weights), make_entry(1, test_acc=0.1), make_entry(2), foreign])
        ledger.record([make_entry(2, test_loss=9.0)])
    before = other.read_bytes()
    with Ledger(path, weights=True) as ledger:
        ledger.record([make_entry(0), make_entry(1)])
        first, again = ledger.merge(other), ledger.merge(other)
        runs, results = ledger.runs().set_index("key"), ledger.results([make_key(n) for n in range(4)])
        problems = ledger.verify()
        assert ledger.merge(ledger) == (0, [])
    messages = [
        f"run {make_key(1)[:12]}: test_acc is 0.75 here and 0.1 in a second result; the first is kept"
    ]
    assert first == (2, messages)
    assert again == (0, messages)
    assert list(results) == [make_key(n) for n in range(4)]
    assert results[make_key(0)].weights["w"].tolist() == [1, 1]
    assert results[make_key(1)].test_acc == 0.75
    assert runs.loc[make_key(3), ["attempts", "host", "finished"]].tolist() == [
        4,
        "other-host",
        "2020-02-02T00:00:00+00:00",
    ]
    assert sorted(problems) == sorted(
        [
            *messages,
            f"run {make_key(2)[:12]}: test_loss is 0.25 here and 9 in a second result; the first is kept",
        ]
    )
    assert other.read_bytes() == before


def test_merge_of_a_file_that_is_not_a_ledger_changes_nothing(ledger_of_three, tmp_path):
    with Ledger(ledger_of_three) as ledger:
        with pytest.raises(UsageError, match="there is no ledger at"):
            ledger.merge(tmp_path / "absent.db")
        (tmp_path / "text").write_text("relu, tanh" * 100)
        with pytest.raises(UsageError, match="is not an SQLite file"):
            ledger.merge(tmp_path / "text")
        assert len(ledger.runs()) == 3

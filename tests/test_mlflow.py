"""Logging of comparisons to MLflow, in a database and on a real server: complete and only once."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from actlab.comparison.comparison import compare
from actlab.data.dataset import Dataset
from actlab.integrations.mlflow import check_store
from tests.mlflow_stores import (
    CURVES,
    INF,
    NAN,
    SETTINGS,
    assert_logged,
    assert_uploaded,
    blank_database,
    create_client,
    files,
    find_experiment,
    list_runs,
    log,
    make_tables,
    server,
    store,
)
from tests.processes import start_process

__all__ = ["blank_database", "files", "server", "store"]
# Not importorskip: importing MLflow takes seconds and can start its telemetry.
pytestmark = pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra mlflow is not installed")


def test_log_comparison_writes_to_a_database_once(tmp_path, store, files, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path / "out")
    results, history = make_tables()
    check_store(store)
    check_store(store)
    message = log(store, results, history, files)
    again = log(store, results, history, files)
    shuffled = results.sample(frac=1, random_state=0)
    assert log(store, shuffled, history, files) == again
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["page.html", "results.csv"]
    client = create_client(store)
    run = list_runs(client)[0][0].info.run_id
    assert message == f"Logged to MLflow: experiment actlab, run {run} at {store}"
    assert again == f"Already in MLflow: experiment actlab, run {run} at {store}"
    assert_logged(client, results, history)
    assert_uploaded(client, files, tmp_path)
    assert (tmp_path / f"runs-artifacts/{run}/artifacts/results.csv").exists()


@pytest.mark.slow
def test_log_comparison_writes_to_a_server_once(tmp_path, server, files, capfd):
    results, history = make_tables()
    results.loc[0, ["accuracy", "loss", "failure"]] = [NAN, NAN, "the loss is not finite in epoch 3"]
    history.loc[2, CURVES] = [NAN, 1e308, NAN]
    check_store(server)
    message = log(f"{server}/", results, history, files)
    again = log(server, results, history, files)
    assert capfd.readouterr() == ("", "")
    client = create_client(server)
    run = list_runs(client)[0][0].info
    link = f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    assert message == f"Logged to MLflow: experiment actlab, run {run.run_id} at {link}"
    assert again == f"Already in MLflow: experiment actlab, run {run.run_id} at {link}"
    assert_logged(client, results, history)
    assert_uploaded(client, files, tmp_path)


def test_log_comparison_accepts_a_real_comparison(store):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 30)
    X = (rng.normal(size=(60, 3)) + y[:, None]).astype(np.float32)
    data = Dataset(X, y, "made up", "0" * 16, ("a", "b"))
    comparison = compare(
        ["relu", "tanh"], data, folds=2, epochs=2, batch_size=16, hidden=(8, 4), lr=1e30, tune=None
    )
    assert (comparison.results["failure"] != "").any()
    log(store, comparison.results, comparison.history)
    assert_logged(create_client(store), comparison.results, comparison.history)


def test_log_comparison_without_keys_distinguishes_settings_and_names(store):
    results, history = make_tables()
    for names in (["relu"], ["relu", "tanh"], ["relu"]):
        some = results[results["activation"].isin(names)]
        log(store, some, history, keys=())
    log(store, results, history, keys=(), settings={**SETTINGS, "lr": 0.2})
    parents, nested = list_runs(create_client(store))
    assert (len(parents), len(nested)) == (3, 3 + 6 + 6)
    assert all("actlab.key" not in run.data.tags for run in nested)


def test_log_comparison_creates_a_run_for_each_comparison(store):
    results, history = make_tables()
    assert log(store, results, history).startswith("Logged")
    assert log(store, results[:3], history, name="made up: relu").startswith("Logged")
    parents, nested = list_runs(create_client(store))
    assert sorted(run.info.run_name for run in parents) == ["made up: relu", "made up: relu, tanh"]
    assert len(nested) == 9
    with pytest.raises(ValueError, match="shorter"):
        log(store, results, history, keys=["a"])


def test_log_comparison_handles_nan_and_infinity(store):
    results, history = make_tables(["relu"], folds=1)
    results.loc[0, ["accuracy", "loss", "failure"]] = [NAN, INF, "diverged\nin epoch 3"]
    history["train_loss"], history["valid_loss"] = [INF, -INF, NAN], [NAN, NAN, NAN]
    log(store, results, history)
    client = create_client(store)
    _, (run,) = list_runs(client)
    assert np.isnan(run.data.metrics["accuracy"])
    assert run.data.metrics["loss"] == sys.float_info.max  # SQL has no infinity
    values = [step.value for step in client.get_metric_history(run.info.run_id, "train_loss")]
    assert sorted(values[:2]) == [-sys.float_info.max, sys.float_info.max]
    assert np.isnan(values[2])
    assert run.data.tags["actlab.failure"] == "diverged\nin epoch 3"


def test_log_comparison_handles_runs_without_epochs(store):
    results, _ = make_tables()
    log(store, results.assign(failure="out of memory", epochs=0), pd.DataFrame())
    (parent,), nested = list_runs(create_client(store))
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in nested] == ["FAILED"] * 6


def test_log_comparison_truncates_long_and_many_values(store):
    activation = "leaky_relu(negative_slope=0." + "1" * 7000 + ")"
    results, history = make_tables([activation], folds=1, epochs=700)
    results["failure"] = "x" * 9000
    many = {f"p{index}": index for index in range(250)}
    log(store, results, history, settings={**many, "note": "é" * 7000}, name="n" * 300)
    client = create_client(store)
    (parent,), (run,) = list_runs(client)
    assert parent.info.run_name == "n" * 250
    assert run.data.params["activation"] == activation[:6000]
    assert run.data.params["note"] == "é" * 6000
    assert len(run.data.params) == 254
    assert run.data.tags["actlab.failure"] == "x" * 5000
    for curve in CURVES:
        steps = client.get_metric_history(run.info.run_id, curve)
        assert [step.value for step in steps] == history[curve].to_list()


LOGGING = """
import sys
sys.path.insert(0, sys.argv[1])
from test_mlflow import log, make_tables
log(sys.argv[2], *make_tables(sys.argv[3].split()))
"""
MANY = [f"a{index}" for index in range(300)]


@pytest.fixture
def killed(store):
    """Return a store after the logging process was killed during logging."""
    folder_of_tests = str(Path(__file__).parent)
    with start_process([sys.executable, "-c", LOGGING, folder_of_tests, store, " ".join(MANY)]) as process:
        client = create_client(store)
        for _ in range(600):
            time.sleep(0.1)
            if find_experiment(client) is not None and len(list_runs(client)[1]) >= 5:
                break
        assert process.poll() is None
    return store


@pytest.mark.slow
def test_log_comparison_after_a_kill_writes_nothing_twice(killed):
    results, history = make_tables(MANY)
    client = create_client(killed)
    (parent,), nested = list_runs(client)
    assert parent.info.status == "RUNNING"
    assert 5 <= len(nested) < 900
    assert log(killed, results, history).startswith("Logged to MLflow")
    assert_logged(client, results, history)


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_log_comparison_replaces_an_interrupted_run(store, status):
    results, history = make_tables()
    log(store, results, history)
    client = create_client(store)
    (parent,), nested = list_runs(client)
    client.update_run(parent.info.run_id, status=status)
    client.delete_run(nested[0].info.run_id)
    assert log(store, results, history).startswith("Logged to MLflow")
    assert list_runs(client)[0][0].info.run_id != parent.info.run_id
    assert_logged(client, results, history)


def test_log_comparison_works_after_keyboard_interrupt(store, tmp_path):
    results, history = make_tables()
    try:
        raise KeyboardInterrupt("not the reason why a file is missing")
    except KeyboardInterrupt:
        message = log(store, results[:2], history[:6], [tmp_path / "missing.csv"])
    assert message.endswith("; without its files: No such file or directory")
    assert_logged(create_client(store), results[:2], history[:6])

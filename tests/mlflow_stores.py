"""Fixtures and helpers for the tests of MLflow: a database, a real server, generated comparisons."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from actlab.integrations.mlflow import log_comparison
from tests.processes import start_process

SETTINGS = {"epochs": 3, "lr": 0.1, "data": "made up"}
CURVES = ["train_loss", "valid_loss", "valid_acc"]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory):
    """Return the bytes of a database with MLflow's tables, which take seconds to create."""
    path = tmp_path_factory.mktemp("blank") / "runs.db"
    create_client(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def store(tmp_path, blank_database):
    (tmp_path / "runs.db").write_bytes(blank_database)
    # The experiment Default contains the folder of the creating process, which nothing uses.
    return f"sqlite:///{tmp_path / 'runs.db'}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory, blank_database):
    folder = tmp_path_factory.mktemp("server")
    (folder / "runs.db").write_bytes(blank_database)
    port = free_port()
    command = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'runs.db'}"]
    command += ["--artifacts-destination", folder / "artifacts"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    options = {"cwd": folder, "env": environment}
    with (
        (folder / "log").open("w") as log,
        start_process(command, 3600, stdout=log, stderr=log, **options) as process,
    ):
        uri = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        yield uri


def create_client(uri):
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow's own use of SQLAlchemy is deprecated.
    with warnings.catch_warnings(action="ignore"):
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        client.search_experiments()
    return client


def find_experiment(client):
    return client.get_experiment_by_name("actlab")


def list_runs(client):
    """Return the parents, and the nested runs in the order of their names."""
    result = list(client.search_runs([find_experiment(client).experiment_id], max_results=50000))
    nested = [run for run in result if "mlflow.parentRunId" in run.data.tags]
    parents = [run for run in result if "mlflow.parentRunId" not in run.data.tags]
    return parents, sorted(nested, key=lambda run: run.info.run_name)


def make_tables(names=("relu", "tanh"), folds=3, epochs=3):
    rng = np.random.default_rng(0)
    runs = [(name, fold) for name in names for fold in range(1, folds + 1)]
    rows = [
        {
            "activation": name,
            "fold": fold,
            "seed": 7,
            "accuracy": rng.random(),
            "loss": rng.random(),
            "epochs": epochs,
            "seconds": rng.random(),
            "how": "fleet",
            "reason_alone": "",
            "failure": "",
        }
        for name, fold in runs
    ]
    lines = [
        {
            "activation": name,
            "fold": fold,
            "seed": 7,
            "epoch": epoch,
            **{curve: rng.random() for curve in CURVES},
            "valid_loss_best": True,
            "dur": 0.25,
        }
        for name, fold in runs
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows), pd.DataFrame(lines)


def make_keys(results):
    return [f"{row.activation}-{row.fold}" for row in results.itertuples()]


def log(uri, results, history, files=(), **options):
    about = {"name": "made up: relu, tanh", "settings": SETTINGS, "keys": make_keys(results), **options}
    return log_comparison(results, history, uri, files=list(files), **about)


def assert_logged(client, results, history, name="made up: relu, tanh"):
    """Assert that every value is logged exactly once."""
    (parent,), nested = list_runs(client)
    assert (parent.info.run_name, parent.info.status) == (name, "FINISHED")
    assert parent.data.params == {name: str(value) for name, value in SETTINGS.items()}
    assert len(nested) == len(results)
    by_run = {(run.data.params["activation"], int(run.data.params["fold"])): run for run in nested}
    lines = dict(list(history.groupby(["activation", "fold"])))
    for row, key in zip(results.to_dict("records"), make_keys(results), strict=True):
        run = by_run[row["activation"], row["fold"]]
        assert run.info.run_name == f"{row['activation']}, fold {row['fold']}"
        assert run.data.params == {
            **{name: str(value) for name, value in SETTINGS.items()},
            **{name: str(row[name]) for name in ("activation", "fold", "seed")},
        }
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["actlab.key"] == key
        assert run.data.tags.get("actlab.failure", "") == row["failure"]
        assert run.info.status == ("FAILED" if row["failure"] else "FINISHED")
        final = {
            name: run.data.metrics[name] for name in ("score", "accuracy", "loss", "seconds") if name in row
        }
        assert final == pytest.approx({name: row[name] for name in final}, rel=0, abs=0, nan_ok=True)
        assert set(run.data.metrics) == {*final, *CURVES}
        curves = lines[row["activation"], row["fold"]]
        for curve in CURVES:
            steps = sorted(client.get_metric_history(run.info.run_id, curve), key=lambda metric: metric.step)
            assert [step.step for step in steps] == curves["epoch"].to_list()
            assert [step.value for step in steps] == pytest.approx(
                curves[curve].to_list(), rel=0, abs=0, nan_ok=True
            )


@pytest.fixture
def files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.csv").write_text("activation,accuracy\nrelu,0.5\n")
    (tmp_path / "out" / "page.html").write_bytes(bytes(range(256)) * 100)
    return [tmp_path / "out" / "results.csv", tmp_path / "out" / "page.html"]


def assert_uploaded(client, files, tmp_path):
    parent = list_runs(client)[0][0].info.run_id
    assert sorted(item.path for item in client.list_artifacts(parent)) == sorted(file.name for file in files)
    for file in files:
        (tmp_path / "back").mkdir(exist_ok=True)
        back = client.download_artifacts(parent, file.name, str(tmp_path / "back"))
        assert Path(back).read_bytes() == file.read_bytes()

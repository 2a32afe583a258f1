"""MLflow stores that are missing, unwritable, slow or foreign, and the command line option."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from importlib.util import find_spec

import pandas as pd
import pytest

from actlab import UsageError
from actlab.cli import main
from actlab.integrations import mlflow
from actlab.integrations.mlflow import check_store
from tests.mlflow_stores import (
    assert_logged,
    blank_database,
    create_client,
    files,
    find_experiment,
    free_port,
    log,
    make_tables,
    server,
    store,
)

__all__ = ["blank_database", "files", "server", "store"]
# Not importorskip: importing MLflow takes seconds and can start its telemetry.
pytestmark = pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra mlflow is not installed")


def test_log_comparison_keeps_metrics_if_files_cannot_be_uploaded(store, tmp_path, files):
    (tmp_path / "runs-artifacts").write_text("no folder")
    results, history = make_tables()
    message = log(store, results, history, files)
    assert re.search(r" at sqlite:\S+; without its files: (Not a directory|File exists)$", message)
    assert_logged(create_client(store), results, history)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("htp://localhost", "'htp://localhost' is not an MLflow URI such as .* .did you mean 'http'.."),
        ("postgres://me:secret@host/db", "'postgres://host/db' is not an .* .did you mean 'postgresql'.."),
        ("runs.db", "'runs.db' is not an MLflow URI such as 'sqlite:///runs.db' or 'http://localhost:5000'"),
        ("", "'' is not an MLflow URI"),
        ("localhost:5000", "'localhost:5000' is not an MLflow URI"),
        ("sqlite://runs.db", "'sqlite://runs.db' is not an MLflow URI such as 'sqlite:///runs.db' [^;]*"),
        ("sqlite:///:memory:", "is not an MLflow URI"),
        ("sqlite:///", "is not an MLflow URI"),
        ("http://", "is not an MLflow URI"),
        ("http://me:secret@127.0.0.1:99999", "cannot log to MLflow at http://127.0.0.1:99999: [^@]*"),
        ("http://127.0.0.1:{closed}", "cannot log to MLflow at http://127.0.0.1:[0-9]+: Connection refused"),
        ("sqlite:////proc/runs.db", "cannot log to MLflow at sqlite:////proc/runs.db: unable to open .*"),
        ("sqlite:///{here}/note.txt", "cannot log to MLflow at .*note.txt: file is not a database"),
        ("sqlite:///{here}/note.txt/a.db", "cannot log to MLflow at .*/a.db: (File exists|Not a directory)"),
    ],
)
def test_check_store_rejects_a_wrong_uri(tmp_path, uri, message, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # log_comparison retries
    (tmp_path / "note.txt").write_text("no database, and longer than the header of one would be" * 20)
    uri = uri.format(closed=free_port(), here=tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        check_store(uri)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match=re.escape(str(caught.value))):
        log(uri, *make_tables())
    assert capfd.readouterr() == ("", "")


def test_mlflow_logging_leaves_the_environment_unchanged(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    check_store(store)
    before = dict(os.environ)
    check_store(store)
    log(store, *make_tables(["relu"], folds=1))
    assert dict(os.environ) == before


@contextlib.contextmanager
def serve_answer(answer):
    """Serve a fixed answer to all requests; without an answer only listen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    with listening.accept()[0] as connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def test_check_store_does_not_wait_for_a_silent_server(monkeypatch):
    monkeypatch.setitem(mlflow.IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with (
        serve_answer(b"") as uri,
        pytest.raises(UsageError, match=f"cannot log to MLflow at {uri}: timed out"),
    ):
        check_store(uri)


def test_check_store_rejects_a_server_that_is_not_mlflow():
    page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\nConnection: close\r\n\r\n<p>\nhere</p>\n"
    with (
        serve_answer(page) as uri,
        pytest.raises(UsageError, match=r"error code 404 .*'<p> here</p>") as caught,
    ):
        check_store(uri)
    assert "\n" not in str(caught.value)


def test_check_store_rejects_a_deleted_experiment(store):
    check_store(store)
    client = create_client(store)
    client.delete_experiment(find_experiment(client).experiment_id)
    with pytest.raises(UsageError, match=r"cannot log to MLflow at .*: .*deleted"):
        check_store(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_store_rejects_a_read_only_database(store, tmp_path):
    check_store(store)
    (tmp_path / "runs.db").chmod(0o444)
    with pytest.raises(UsageError, match="readonly database"):
        check_store(store)


def test_check_store_reports_a_locked_database(store, tmp_path):
    check_store(store)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UsageError, match="database is locked"):
            check_store(f"{store}?timeout=0.1")


def run_outside_tests(code, *arguments):
    """Run Python in a process without the variables by which MLflow recognizes tests."""
    marks = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if name not in marks}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_check_store_without_mlflow_names_the_extra():
    code = """
import sys
sys.modules["mlflow"] = None
from actlab import UsageError
from actlab.integrations.mlflow import check_store
try:
    check_store("sqlite:///runs.db")
except UsageError as error:
    print(error)
"""
    done = run_outside_tests(code)
    assert (done.stdout, done.stderr) == (
        "MLflow is not installed: pip install 'actlab[mlflow]'\n",
        "",
    )


def test_check_store_imports_mlflow_late_and_without_telemetry(store):
    code = """
import sys
from actlab.integrations.mlflow import check_store
assert "mlflow" not in sys.modules and "sqlalchemy" not in sys.modules
check_store(sys.argv[1])
import mlflow.telemetry
print(mlflow.telemetry.get_telemetry_client(), mlflow.get_tracking_uri() == sys.argv[1])
"""
    done = run_outside_tests(code, store)
    assert (done.stdout, done.stderr) == ("None False\n", "")


@pytest.mark.slow
def test_log_comparison_writes_a_thousand_runs(store):
    results, history = make_tables([f"a{index}" for index in range(250)], folds=4, epochs=25)
    log(store, results, history)
    assert log(store, results, history).startswith("Already")
    assert_logged(create_client(store), results, history)


# -- the command line -----------------------------------------------------------------------------

CALL = ["compare", "--no-tune", "relu", "tanh", "--data", "digits", "--epochs", "1", "--jobs", "1"]


@pytest.mark.slow
def test_compare_mlflow_option_logs_a_comparison_once(tmp_path, monkeypatch, server, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*CALL, "--seed", "7", "--mlflow", server]) == 0
    out = capsys.readouterr().out
    logged = re.search(r"Logged to MLflow: experiment actlab, run\s+(\w{32})\s+at\s+http://127.0.0.1", out)
    client = create_client(server)
    parent = client.get_run(logged[1])
    assert parent.info.run_name == "digits: relu, tanh"
    expected = {"data": "digits", "epochs": "1", "folds": "3", "seed": "7", "lr": "0.01"}
    assert expected.items() <= parent.data.params.items()
    tables = {f"{name}.csv" for name in ("cv_results", "results", "history", "verdicts", "ranking")}
    files = {*tables, "comparison.json", "report.html", "hiplot.html"}
    assert {file.path for file in client.list_artifacts(logged[1])} == files
    results = pd.read_csv("out/compare/results.csv")
    nested = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{logged[1]}'")
    result = {run.data.tags["actlab.key"]: run.data.metrics["accuracy"] for run in nested}
    assert result == dict(zip(results["key"], results["accuracy"], strict=True))
    assert main([*CALL, "--seed", "7", "--mlflow", server, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mlflow"].startswith("Already in MLflow: ")


def test_compare_mlflow_option_rejects_a_silent_store_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uri = f"http://127.0.0.1:{free_port()}"
    assert main([*CALL, "--mlflow", uri]) == 2
    assert capsys.readouterr() == (
        "",
        f"actlab: error: cannot log to MLflow at {uri}: Connection refused\n",
    )
    assert not (tmp_path / "out/compare/ledger.sqlite").exists()

"""Comparisons in MLflow: in a database and behind a real server, complete and once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from actlab import UsageError, tracking
from actlab.cli import main
from actlab.comparison import compare
from actlab.data import Dataset
from actlab.tracking import check_store, log_comparison

# Not importorskip: MLflow takes seconds to import, and decides then whether it reports to its makers.
pytestmark = pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra mlflow is not installed")

SETTINGS = {"epochs": 3, "lr": 0.1, "data": "made up"}
CURVES = ["train_loss", "valid_loss", "valid_acc"]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """A database with MLflow's tables: they take seconds to make."""
    path = tmp_path_factory.mktemp("blank") / "runs.db"
    client_of(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def store(tmp_path, blank):
    (tmp_path / "runs.db").write_bytes(blank)
    # The experiment Default of a database has the folder of the process that made it: nothing uses it.
    return f"sqlite:///{tmp_path / 'runs.db'}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory, blank):
    folder = tmp_path_factory.mktemp("server")
    (folder / "runs.db").write_bytes(blank)
    port = free_port()
    command = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'runs.db'}"]
    command += ["--artifacts-destination", folder / "artifacts"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        uri = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def client_of(uri):
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow's own use of SQLAlchemy is deprecated.
    with warnings.catch_warnings(action="ignore"):
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        client.search_experiments()
    return client


def experiment_of(client):
    return client.get_experiment_by_name("actlab")


def runs_of(client):
    """Return the parents, and the nested runs in the order of their names."""
    found = list(client.search_runs([experiment_of(client).experiment_id], max_results=50000))
    nested = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return parents, sorted(nested, key=lambda run: run.info.run_name)


def made_up(names=("relu", "tanh"), folds=3, epochs=3):
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
            "alone": "",
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


def keys_of(results):
    return [f"{row.activation}-{row.fold}" for row in results.itertuples()]


def log(uri, results, history, files=(), **how):
    about = {"name": "made up: relu, tanh", "settings": SETTINGS, "keys": keys_of(results), **how}
    return log_comparison(results, history, uri, files=list(files), **about)


def assert_logged(client, results, history, name="made up: relu, tanh"):
    """Everything is there, once, digit for digit."""
    (parent,), nested = runs_of(client)
    assert (parent.info.run_name, parent.info.status) == (name, "FINISHED")
    assert parent.data.params == {name: str(value) for name, value in SETTINGS.items()}
    assert len(nested) == len(results)
    by_run = {(run.data.params["activation"], int(run.data.params["fold"])): run for run in nested}
    lines = dict(list(history.groupby(["activation", "fold"])))
    for row, key in zip(results.to_dict("records"), keys_of(results), strict=True):
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
        final = {name: run.data.metrics[name] for name in ("accuracy", "loss", "seconds")}
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
    parent = runs_of(client)[0][0].info.run_id
    assert sorted(item.path for item in client.list_artifacts(parent)) == sorted(file.name for file in files)
    for file in files:
        (tmp_path / "back").mkdir(exist_ok=True)
        back = client.download_artifacts(parent, file.name, str(tmp_path / "back"))
        assert Path(back).read_bytes() == file.read_bytes()


def test_a_database_takes_a_comparison_once(tmp_path, store, files, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path / "out")
    results, history = made_up()
    check_store(store)
    check_store(store)
    said = log(store, results, history, files)
    again = log(store, results, history, files)
    shuffled = results.sample(frac=1, random_state=0)
    assert log(store, shuffled, history, files) == again
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["page.html", "results.csv"]
    client = client_of(store)
    run = runs_of(client)[0][0].info.run_id
    assert said == f"Logged to MLflow: experiment actlab, run {run} at {store}"
    assert again == f"Already in MLflow: experiment actlab, run {run} at {store}"
    assert_logged(client, results, history)
    assert_uploaded(client, files, tmp_path)
    assert (tmp_path / f"runs-artifacts/{run}/artifacts/results.csv").exists()


def test_a_server_takes_a_comparison_once(tmp_path, server, files, capfd):
    results, history = made_up()
    results.loc[0, ["accuracy", "loss", "failure"]] = [NAN, NAN, "the loss is not finite in epoch 3"]
    history.loc[2, CURVES] = [NAN, 1e308, NAN]
    check_store(server)
    said = log(f"{server}/", results, history, files)
    again = log(server, results, history, files)
    assert capfd.readouterr() == ("", "")
    client = client_of(server)
    run = runs_of(client)[0][0].info
    link = f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    assert said == f"Logged to MLflow: experiment actlab, run {run.run_id} at {link}"
    assert again == f"Already in MLflow: experiment actlab, run {run.run_id} at {link}"
    assert_logged(client, results, history)
    assert_uploaded(client, files, tmp_path)


def test_a_real_comparison_is_logged(store):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 30)
    X = (rng.normal(size=(60, 3)) + y[:, None]).astype(np.float32)
    data = Dataset(X, y, "made up", "0" * 16, ("a", "b"))
    found = compare(["relu", "tanh"], data, folds=2, epochs=2, batch_size=16, num_units=8, lr=1e30)
    assert (found.results["failure"] != "").any()
    log(store, found.results, found.history)
    assert_logged(client_of(store), found.results, found.history)


def test_without_keys_settings_and_names_tell_comparisons_apart(store):
    results, history = made_up()
    for names in (["relu"], ["relu", "tanh"], ["relu"]):
        some = results[results["activation"].isin(names)]
        log(store, some, history, keys=())
    log(store, results, history, keys=(), settings={**SETTINGS, "lr": 0.2})
    parents, nested = runs_of(client_of(store))
    assert (len(parents), len(nested)) == (3, 3 + 6 + 6)
    assert all("actlab.key" not in run.data.tags for run in nested)


def test_another_comparison_has_a_run_of_its_own(store):
    results, history = made_up()
    assert log(store, results, history).startswith("Logged")
    assert log(store, results[:3], history, name="made up: relu").startswith("Logged")
    parents, nested = runs_of(client_of(store))
    assert sorted(run.info.run_name for run in parents) == ["made up: relu", "made up: relu, tanh"]
    assert len(nested) == 9
    with pytest.raises(ValueError, match="shorter"):
        log(store, results, history, keys=["a"])


def test_numbers_that_are_none(store):
    results, history = made_up(["relu"], folds=1)
    results.loc[0, ["accuracy", "loss", "failure"]] = [NAN, INF, "diverged\nin epoch 3"]
    history["train_loss"], history["valid_loss"] = [INF, -INF, NAN], [NAN, NAN, NAN]
    log(store, results, history)
    client = client_of(store)
    _, (run,) = runs_of(client)
    assert np.isnan(run.data.metrics["accuracy"])
    assert run.data.metrics["loss"] == sys.float_info.max  # SQL knows no infinity
    values = [step.value for step in client.get_metric_history(run.info.run_id, "train_loss")]
    assert sorted(values[:2]) == [-sys.float_info.max, sys.float_info.max]
    assert np.isnan(values[2])
    assert run.data.tags["actlab.failure"] == "diverged\nin epoch 3"


def test_a_net_without_a_single_epoch(store):
    results, _ = made_up()
    log(store, results.assign(failure="out of memory", epochs=0), pd.DataFrame())
    (parent,), nested = runs_of(client_of(store))
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in nested] == ["FAILED"] * 6


def test_long_and_many_values_are_cut_to_what_mlflow_takes(store):
    activation = "leaky_relu(negative_slope=0." + "1" * 7000 + ")"
    results, history = made_up([activation], folds=1, epochs=700)
    results["failure"] = "x" * 9000
    many = {f"p{place}": place for place in range(250)}
    log(store, results, history, settings={**many, "note": "é" * 7000}, name="n" * 300)
    client = client_of(store)
    (parent,), (run,) = runs_of(client)
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
from test_tracking import log, made_up
log(sys.argv[2], *made_up(sys.argv[3].split()))
"""
MANY = [f"a{place}" for place in range(300)]


@pytest.fixture
def killed(store):
    """A store that a process was killed over, in the middle."""
    here = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", LOGGING, here, store, " ".join(MANY)])
    try:
        client = client_of(store)
        for _ in range(600):
            time.sleep(0.1)
            if experiment_of(client) is not None and len(runs_of(client)[1]) >= 5:
                break
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    return store


@pytest.mark.slow
def test_a_process_killed_in_the_middle_leaves_nothing_twice(killed):
    results, history = made_up(MANY)
    client = client_of(killed)
    (parent,), nested = runs_of(client)
    assert parent.info.status == "RUNNING"
    assert 5 <= len(nested) < 900
    assert log(killed, results, history).startswith("Logged to MLflow")
    assert_logged(client, results, history)


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_what_was_interrupted_is_made_anew(store, status):
    results, history = made_up()
    log(store, results, history)
    client = client_of(store)
    (parent,), nested = runs_of(client)
    client.update_run(parent.info.run_id, status=status)
    client.delete_run(nested[0].info.run_id)
    assert log(store, results, history).startswith("Logged to MLflow")
    assert runs_of(client)[0][0].info.run_id != parent.info.run_id
    assert_logged(client, results, history)


def test_the_end_of_an_interrupted_comparison_can_be_logged(store, tmp_path):
    results, history = made_up()
    try:
        raise KeyboardInterrupt("not the reason why a file is missing")
    except KeyboardInterrupt:
        said = log(store, results[:2], history[:6], [tmp_path / "missing.csv"])
    assert said.endswith("; without its files: No such file or directory")
    assert_logged(client_of(store), results[:2], history[:6])


def test_files_that_cannot_be_uploaded_leave_the_numbers(store, tmp_path, files):
    (tmp_path / "runs-artifacts").write_text("no folder")
    results, history = made_up()
    said = log(store, results, history, files)
    assert re.search(r" at sqlite:\S+; without its files: (Not a directory|File exists)$", said)
    assert_logged(client_of(store), results, history)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("htp://localhost", "'htp://localhost' is no MLflow URI such as .*; did you mean 'http'[?]"),
        ("postgres://me:secret@host/db", "'postgres://host/db' is no .*; did you mean 'postgresql'[?]"),
        ("runs.db", "'runs.db' is no MLflow URI such as 'sqlite:///runs.db' or 'http://localhost:5000'"),
        ("", "'' is no MLflow URI"),
        ("localhost:5000", "'localhost:5000' is no MLflow URI"),
        ("sqlite://runs.db", "'sqlite://runs.db' is no MLflow URI such as 'sqlite:///runs.db' [^;]*"),
        ("sqlite:///:memory:", "is no MLflow URI"),
        ("sqlite:///", "is no MLflow URI"),
        ("http://", "is no MLflow URI"),
        ("http://me:secret@127.0.0.1:99999", "cannot log to MLflow at http://127.0.0.1:99999: [^@]*"),
        ("http://127.0.0.1:{closed}", "cannot log to MLflow at http://127.0.0.1:[0-9]+: Connection refused"),
        ("sqlite:////proc/runs.db", "cannot log to MLflow at sqlite:////proc/runs.db: unable to open .*"),
        ("sqlite:///{here}/note.txt", "cannot log to MLflow at .*note.txt: file is not a database"),
        ("sqlite:///{here}/note.txt/a.db", "cannot log to MLflow at .*/a.db: (File exists|Not a directory)"),
    ],
)
def test_a_wrong_uri_is_one_line(tmp_path, uri, message, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # log_comparison has patience
    (tmp_path / "note.txt").write_text("no database, and longer than the header of one would be" * 20)
    uri = uri.format(closed=free_port(), here=tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        check_store(uri)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match=re.escape(str(caught.value))):
        log(uri, *made_up())
    assert capfd.readouterr() == ("", "")


def test_the_environment_is_left_as_it_was(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    check_store(store)
    before = dict(os.environ)
    check_store(store)
    log(store, *made_up(["relu"], folds=1))
    assert dict(os.environ) == before


@contextlib.contextmanager
def answering(answer):
    """A server that sends the same to everybody; without an answer it only listens."""
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


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setitem(tracking._IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with answering(b"") as uri, pytest.raises(UsageError, match=f"cannot log to MLflow at {uri}: timed out"):
        check_store(uri)


def test_a_server_that_is_not_mlflows():
    page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\nConnection: close\r\n\r\n<p>\nhere</p>\n"
    with answering(page) as uri, pytest.raises(UsageError, match=r"error code 404 .*'<p> here</p>") as caught:
        check_store(uri)
    assert "\n" not in str(caught.value)


def test_an_experiment_in_the_bin_is_left_there(store):
    check_store(store)
    client = client_of(store)
    client.delete_experiment(experiment_of(client).experiment_id)
    with pytest.raises(UsageError, match=r"cannot log to MLflow at .*: .*deleted"):
        check_store(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_database_that_may_only_be_read(store, tmp_path):
    check_store(store)
    (tmp_path / "runs.db").chmod(0o444)
    with pytest.raises(UsageError, match="readonly database"):
        check_store(store)


def test_a_database_that_another_process_holds(store, tmp_path):
    check_store(store)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UsageError, match="database is locked"):
            check_store(f"{store}?timeout=0.1")


def apart(code, *arguments):
    """Run Python in a process that does not look like a test to MLflow."""
    marks = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if name not in marks}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_without_mlflow_one_line_says_how_to_get_it():
    code = """
import sys
sys.modules["mlflow"] = None
from actlab import UsageError
from actlab.tracking import check_store
try:
    check_store("sqlite:///runs.db")
except UsageError as error:
    print(error)
"""
    done = apart(code)
    assert (done.stdout, done.stderr) == ("no MLflow run without MLflow: pip install 'actlab[mlflow]'\n", "")


def test_mlflow_is_imported_late_and_reports_to_nobody(store):
    code = """
import sys
from actlab.tracking import check_store
assert "mlflow" not in sys.modules and "sqlalchemy" not in sys.modules
check_store(sys.argv[1])
import mlflow.telemetry
print(mlflow.telemetry.get_telemetry_client(), mlflow.get_tracking_uri() == sys.argv[1])
"""
    done = apart(code, store)
    assert (done.stdout, done.stderr) == ("None False\n", "")


@pytest.mark.slow
def test_a_thousand_runs(store):
    results, history = made_up([f"a{place}" for place in range(250)], folds=4, epochs=25)
    log(store, results, history)
    assert log(store, results, history).startswith("Already")
    assert_logged(client_of(store), results, history)


# -- the command line -----------------------------------------------------------------------------

CALL = ["compare", "relu", "tanh", "--data", "digits", "--epochs", "1", "--jobs", "1"]


def test_a_comparison_is_logged_with_its_files_and_once(tmp_path, monkeypatch, server, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*CALL, "--seed", "7", "--mlflow", server]) == 0
    out = capsys.readouterr().out
    logged = re.search(r"Logged to MLflow: experiment actlab, run\s+(\w{32})\s+at\s+http://127.0.0.1", out)
    client = client_of(server)
    parent = client.get_run(logged[1])
    assert parent.info.run_name == "digits: relu, tanh"
    expected = {"data": "digits", "epochs": "1", "folds": "3", "seed": "7", "lr": "0.01"}
    assert expected.items() <= parent.data.params.items()
    files = {"cv_results.csv", "results.csv", "history.csv", "hiplot.html"}
    assert {file.path for file in client.list_artifacts(logged[1])} == files
    results = pd.read_csv("out/compare/results.csv")
    nested = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{logged[1]}'")
    found = {run.data.tags["actlab.key"]: run.data.metrics["accuracy"] for run in nested}
    assert found == dict(zip(results["key"], results["accuracy"], strict=True))
    assert main([*CALL, "--seed", "7", "--mlflow", server, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mlflow"].startswith("Already in MLflow: ")


def test_a_store_that_does_not_answer_is_told_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uri = f"http://127.0.0.1:{free_port()}"
    assert main([*CALL, "--mlflow", uri]) == 2
    assert capsys.readouterr() == (
        "",
        f"actlab: error: cannot log to MLflow at {uri}: Connection refused\n",
    )
    assert not (tmp_path / "out/compare/ledger.sqlite").exists()

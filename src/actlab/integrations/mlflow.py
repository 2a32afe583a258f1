"""Log a comparison to an MLflow tracking store: a parent run, and a nested run for each run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings

import pandas as pd

from actlab._version import __version__
from actlab.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT, _DIGEST, _PARENT = "actlab", "actlab.digest", "mlflow.parentRunId"
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "file", "databricks")
_DATABASE = r"(postgresql|mysql|mssql)(\+\w+)?://|sqlite(\+\w+)?:///(?!:memory:)(?P<file>[^?]+)"
_URI = rf"{_DATABASE}|https?://([^/]*@)?[\w\[]|file:|databricks(://|$)"
_EPOCH_METRICS, _METRICS = ("train_loss", "valid_loss", "valid_acc"), ("score", "accuracy", "loss", "seconds")
_RUN = ["activation", "fold", "seed"]  # identifies a run of a comparison
# MLflow's limits: metrics and parameters of a call, and characters of a parameter, a tag and a name.
_MAX_METRICS, _MAX_PARAMS, _MAX_PARAM, _MAX_TAG, _MAX_NAME = 900, 100, 6000, 5000, 250
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
# MLflow retries for minutes, which is right after a training, but not before.
IMPATIENT = _QUIET | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_Row = Mapping[Any, Any]


def check_store(uri: str) -> None:
    """Raise an error before the training if a tracking store cannot be written to.

    Args:
        uri: As for :func:`log_comparison`.

    Raises:
        UsageError: MLflow is missing, or the store does not exist, is read-only or does not respond within
            seconds.
    """
    with open_store(uri, IMPATIENT) as client:  # only writing shows that the store can be written to
        client.set_experiment_tag(_find_experiment(client, uri), "actlab.version", __version__)


def log_comparison(
    results: pd.DataFrame,
    history: pd.DataFrame,
    uri: str,
    *,
    name: str,
    settings: Mapping[str, Any],
    files: Sequence[Path],
    keys: Sequence[str] = (),
) -> str:
    """Log a comparison once: keep a log that is complete, and replace one that was interrupted.

    Args:
        results: As in ``Comparison.results``.
        history: As in ``Comparison.history``.
        uri: A tracking store such as ``"sqlite:///runs.db"`` or ``"http://localhost:5000"``. Nothing is sent
            anywhere else, unless the process imported MLflow earlier with telemetry enabled.
        name: Name of the parent run.
        settings: Parameters of the comparison and of each of its runs.
        files: Artifacts of the parent run.
        keys: The run key of each row of results. Without keys, settings and names identify the comparison.

    Returns:
        One sentence with the place of the log, and the reason if the files could not be uploaded.

    Raises:
        UsageError: As for :func:`check_store`. The call can be repeated.
    """
    rows = list(zip(results.to_dict("records"), keys or [""] * len(results), strict=True))
    epochs = defaultdict[Any, list[_Row]](list)
    for epoch in history.to_dict("records"):
        epochs[tuple(epoch[column] for column in _RUN)].append(epoch)
    content: list[Any] = sorted(keys) or [sorted(settings.items()), results[_RUN].to_dict("list")]
    digest = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
    earlier_error, not_uploaded = sys.exc_info()[1], ""
    with open_store(uri, _QUIET) as client:
        experiment = _find_experiment(client, uri)
        earlier = client.search_runs([experiment], f"tags.`{_DIGEST}` = '{digest}'")
        for run in sorted(earlier, key=lambda run: run.info.status != "FINISHED"):
            if run.info.status == "FINISHED":
                return f"Already in MLflow: {_describe_location(uri, experiment, run.info.run_id)}"
            _delete_run(client, experiment, run.info.run_id)
        parent = client.create_run(experiment, None, {_DIGEST: digest}, name[:_MAX_NAME]).info.run_id
        _log_values(client, parent, settings, {}, [])
        for row, key in rows:
            run_columns = {column: row[column] for column in _RUN}
            tags = {_PARENT: parent, "actlab.key": key, "actlab.failure": row["failure"][:_MAX_TAG]}
            tags = {tag: text for tag, text in tags.items() if text}
            title = f"{row['activation']}, fold {row['fold']}"[:_MAX_NAME]
            nested = client.create_run(experiment, None, tags, title).info.run_id
            _log_values(client, nested, {**settings, **run_columns}, row, epochs[tuple(run_columns.values())])
            client.set_terminated(nested, "FAILED" if row["failure"] else "FINISHED")
        try:
            for file in files:
                client.log_artifact(parent, str(file))
        except Exception as error:  # each kind of artifact store has exceptions of its own
            not_uploaded = f"; without its files: {_describe_root_cause(error, earlier_error)}"
        client.set_terminated(parent, "FINISHED")  # the last step, so that a finished run is complete
    return f"Logged to MLflow: {_describe_location(uri, experiment, parent)}{not_uploaded}"


@contextmanager
def open_store(uri: str, environment: Mapping[str, str], action: str = "log to") -> Iterator[MlflowClient]:
    """Yield a client that prints nothing; an error in the store becomes a message of one line.

    Args:
        uri: As for :func:`log_comparison`.
        environment: Environment variables while the store is open.
        action: The action that failed, for the message.
    """
    scheme, plugins = uri.partition(":")[0], entry_points(group="mlflow.tracking_store").names
    if not re.match(_URI, uri) and scheme not in plugins:
        near = "" if scheme in _SCHEMES else did_you_mean(scheme, [*_SCHEMES, *plugins])
        like = "'sqlite:///runs.db' or 'http://localhost:5000'"
        raise UsageError(f"{_remove_password(uri)!r} is not an MLflow URI such as {like}{near}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it once, when it is imported
    earlier_error, sink = sys.exc_info()[1], io.StringIO()
    with redirect_stdout(sink), redirect_stderr(sink), catch_warnings(action="ignore"):
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from sqlalchemy import NullPool, create_engine, inspect
            from sqlalchemy.exc import SQLAlchemyError
        except ImportError as error:
            raise UsageError("MLflow is not installed: pip install 'actlab[mlflow]'") from error
        before = {name: os.environ[name] for name in environment if name in os.environ}
        os.environ.update(environment)
        try:
            if file := _find_database_file(uri):
                file.parent.mkdir(parents=True, exist_ok=True)
            if re.match(_DATABASE, uri):  # MLflow tries for more than a minute to open a database
                inspect(create_engine(uri, poolclass=NullPool)).get_table_names()
            yield MlflowClient(uri)
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            reason = _describe_root_cause(error, earlier_error)
            raise UsageError(f"cannot {action} MLflow at {_remove_password(uri)}: {reason}") from error
        finally:
            for name in environment:
                del os.environ[name]
            os.environ.update(before)


def _find_database_file(uri: str) -> Path | None:
    match = re.match(_DATABASE, uri)
    return Path(match["file"]).absolute() if match and match["file"] else None


def _remove_password(text: str) -> str:
    return re.sub(r"://[^/\s]*@", "://", text)


def _describe_root_cause(error: BaseException, earlier: BaseException | None) -> str:
    """Return the first cause of an exception in one line, without exceptions that were handled earlier."""
    while (cause := error.__cause__ or error.__context__) not in (None, earlier):
        error = cause
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _remove_password(" ".join(text.split()))[:300]


def _find_experiment(client: MlflowClient, uri: str) -> str:
    """Return the id of actlab's experiment; create it if necessary."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return experiment.experiment_id
    # MLflow's default for the files of a local store is the working directory.
    file = _find_database_file(uri)
    folder = file.with_name(f"{file.stem}-artifacts").as_uri() if file else None
    return client.create_experiment(EXPERIMENT, artifact_location=folder)


def _delete_run(client: MlflowClient, experiment: str, parent: str) -> None:
    """Delete an interrupted run after its nested runs, which are found by their parent."""
    while nested := client.search_runs([experiment], f"tags.`{_PARENT}` = '{parent}'"):
        for run in nested:
            client.delete_run(run.info.run_id)
    client.delete_run(parent)


def _log_values(client: MlflowClient, run: str, params: _Row, row: _Row, epochs: Sequence[_Row]) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    texts = [Param(name, str(value)[:_MAX_PARAM]) for name, value in params.items()]
    metrics = [Metric(name, float(row[name]), now, 0) for name in _METRICS if name in row]
    metrics += [
        Metric(name, float(line[name]), now, line["epoch"]) for line in epochs for name in _EPOCH_METRICS
    ]
    for i in range(max(-(-len(metrics) // _MAX_METRICS), -(-len(texts) // _MAX_PARAMS))):
        some = metrics[i * _MAX_METRICS : (i + 1) * _MAX_METRICS]
        client.log_batch(run, some, texts[i * _MAX_PARAMS : (i + 1) * _MAX_PARAMS], synchronous=True)


def _describe_location(uri: str, experiment: str, run: str) -> str:
    address = _remove_password(uri)
    if uri.startswith("http"):
        address = f"{address.rstrip('/')}/#/experiments/{experiment}/runs/{run}"
    return f"experiment {EXPERIMENT}, run {run} at {address}"

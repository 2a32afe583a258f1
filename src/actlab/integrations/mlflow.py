"""A finished comparison in an MLflow tracking store: a parent run, and a nested run for each of its runs."""

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
_EPOCH, _FINAL = ("train_loss", "valid_loss", "valid_acc"), ("score", "accuracy", "loss", "seconds")
_RUN = ["activation", "fold", "seed"]  # what tells the runs of a comparison apart
# What a call takes, a thousand things together, and the characters of a parameter, a tag and a name.
_METRICS, _PARAMS, _PARAM, _TAG, _NAME = 900, 100, 6000, 5000, 250
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
# MLflow asks again for minutes. Before a training nobody wants to wait for that; after it, everybody does.
_IMPATIENT = _QUIET | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_Row = Mapping[Any, Any]


def check_store(uri: str) -> None:
    """Refuse, before hours of training, a tracking store that could not be written to after them.

    Args:
        uri: As for :func:`log_comparison`.

    Raises:
        UsageError: No MLflow, no such store, or none that can be written to and answers within seconds.
    """
    with _store(uri, _IMPATIENT) as client:  # nothing less than writing proves that it can be done
        client.set_experiment_tag(_experiment(client, uri), "actlab.version", __version__)


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
    """Log a comparison, once: what is there already stays, what was interrupted halfway is made anew.

    Args:
        results: As in :attr:`~actlab.comparison.Comparison.results`.
        history: As in :attr:`~actlab.comparison.Comparison.history`.
        uri: A tracking store such as ``"sqlite:///runs.db"`` or ``"http://localhost:5000"``. Nothing is sent
            anywhere else, unless the process has imported MLflow before and left MLflow's telemetry on.
        name: Of the parent run.
        settings: Parameters of the comparison and of each of its runs.
        files: Artifacts of the parent run.
        keys: A hash of what each row of results came from; without them, settings and rows' names count.

    Returns:
        One sentence: where it is, and why its files are not there if they could not be uploaded.

    Raises:
        UsageError: As for :func:`check_store`; the message is one line, and the call can be repeated.
    """
    rows = list(zip(results.to_dict("records"), keys or [""] * len(results), strict=True))
    epochs = defaultdict[Any, list[_Row]](list)
    for line in history.to_dict("records"):
        epochs[tuple(line[column] for column in _RUN)].append(line)
    content: list[Any] = sorted(keys) or [sorted(settings.items()), results[_RUN].to_dict("list")]
    digest = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
    handled, missing = sys.exc_info()[1], ""
    with _store(uri, _QUIET) as client:
        experiment = _experiment(client, uri)
        earlier = client.search_runs([experiment], f"tags.`{_DIGEST}` = '{digest}'")
        for run in sorted(earlier, key=lambda run: run.info.status != "FINISHED"):
            if run.info.status == "FINISHED":
                return f"Already in MLflow: {_where(uri, experiment, run.info.run_id)}"
            _remove(client, experiment, run.info.run_id)
        parent = client.create_run(experiment, None, {_DIGEST: digest}, name[:_NAME]).info.run_id
        _log(client, parent, settings, {}, [])
        for row, key in rows:
            own = {column: row[column] for column in _RUN}
            tags = {_PARENT: parent, "actlab.key": key, "actlab.failure": row["failure"][:_TAG]}
            present = {tag: text for tag, text in tags.items() if text}
            title = f"{row['activation']}, fold {row['fold']}"[:_NAME]
            nested = client.create_run(experiment, None, present, title).info.run_id
            _log(client, nested, {**settings, **own}, row, epochs[tuple(own.values())])
            client.set_terminated(nested, "FAILED" if row["failure"] else "FINISHED")
        try:
            for file in files:
                client.log_artifact(parent, str(file))
        except Exception as error:  # each kind of artifact store has exceptions of its own
            missing = f"; without its files: {_reason(error, handled)}"
        client.set_terminated(parent, "FINISHED")  # the last step: what is finished is complete
    return f"Logged to MLflow: {_where(uri, experiment, parent)}{missing}"


@contextmanager
def _store(uri: str, environment: Mapping[str, str]) -> Iterator[MlflowClient]:
    """Yield a client; MLflow prints nothing meanwhile, and what goes wrong in the store becomes one line."""
    scheme, plugins = uri.partition(":")[0], entry_points(group="mlflow.tracking_store").names
    if not re.match(_URI, uri) and scheme not in plugins:
        near = "" if scheme in _SCHEMES else did_you_mean(scheme, [*_SCHEMES, *plugins])
        like = "'sqlite:///runs.db' or 'http://localhost:5000'"
        raise UsageError(f"{_shown(uri)!r} is no MLflow URI such as {like}{near}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow looks once, when it is imported
    handled, sink = sys.exc_info()[1], io.StringIO()
    with redirect_stdout(sink), redirect_stderr(sink), catch_warnings(action="ignore"):
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from sqlalchemy import NullPool, create_engine, inspect
            from sqlalchemy.exc import SQLAlchemyError
        except ImportError as error:
            raise UsageError("no MLflow run without MLflow: pip install 'actlab[mlflow]'") from error
        before = {name: os.environ[name] for name in environment if name in os.environ}
        os.environ.update(environment)
        try:
            if file := _file(uri):
                file.parent.mkdir(parents=True, exist_ok=True)
            if re.match(_DATABASE, uri):  # MLflow tries ten times to open one, for more than a minute
                inspect(create_engine(uri, poolclass=NullPool)).get_table_names()
            yield MlflowClient(uri)
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            raise UsageError(f"cannot log to MLflow at {_shown(uri)}: {_reason(error, handled)}") from error
        finally:
            for name in environment:
                del os.environ[name]
            os.environ.update(before)


def _file(uri: str) -> Path | None:
    found = re.match(_DATABASE, uri)
    return Path(found["file"]).absolute() if found and found["file"] else None


def _shown(text: str) -> str:
    return re.sub(r"://[^/\s]*@", "://", text)  # without name and password


def _reason(error: BaseException, handled: BaseException | None) -> str:
    """Return what an exception started from, in one line; what was handled before it is not its reason."""
    while (below := error.__cause__ or error.__context__) not in (None, handled):
        error = below
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _shown(" ".join(text.split()))[:300]


def _experiment(client: MlflowClient, uri: str) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found.experiment_id
    # MLflow would put the files of a local store into the folder that the process happens to be in.
    place = file.with_name(f"{file.stem}-artifacts").as_uri() if (file := _file(uri)) else None
    return client.create_experiment(EXPERIMENT, artifact_location=place)


def _remove(client: MlflowClient, experiment: str, parent: str) -> None:
    """Delete a run that was interrupted, itself at last: while it is there, its nested runs are found."""
    while nested := client.search_runs([experiment], f"tags.`{_PARENT}` = '{parent}'"):
        for run in nested:
            client.delete_run(run.info.run_id)
    client.delete_run(parent)


def _log(client: MlflowClient, run: str, params: _Row, row: _Row, epochs: Sequence[_Row]) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    texts = [Param(name, str(value)[:_PARAM]) for name, value in params.items()]
    metrics = [Metric(name, float(row[name]), now, 0) for name in _FINAL if name in row]
    metrics += [Metric(name, float(line[name]), now, line["epoch"]) for line in epochs for name in _EPOCH]
    for at in range(max(-(-len(metrics) // _METRICS), -(-len(texts) // _PARAMS))):
        some = metrics[at * _METRICS : (at + 1) * _METRICS]
        client.log_batch(run, some, texts[at * _PARAMS : (at + 1) * _PARAMS], synchronous=True)


def _where(uri: str, experiment: str, run: str) -> str:
    link = f"/#/experiments/{experiment}/runs/{run}"
    place = _shown(uri).rstrip("/") + link if uri.startswith("http") else _shown(uri)
    return f"experiment {EXPERIMENT}, run {run} at {place}"

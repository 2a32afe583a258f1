"""Read tables of runs from files, trackers and searches."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from actlab.data.table_files import SUFFIXES, read_table
from actlab.errors import UsageError, summarize_error

RunSource = str | Path | pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]
SOURCES = (
    "a .csv, .tsv, .parquet, .jsonl or .json file, a folder of .json files, the output folder of "
    "actlab compare, mlflow:URI#EXPERIMENT, or optuna:FILE#STUDY"
)
FILE, DIRECTIONS = "actlab.file", "actlab.lower_is_better"  # attributes of tables that read_runs returns
_SPLIT = re.compile(r"split(\d+)_test_(\w+)")
_LINES = (".jsonl", ".ndjson")


def read_runs(source: RunSource) -> tuple[pd.DataFrame, str]:
    """Read a table with one row per run.

    Args:
        source: A DataFrame; a list of dictionaries; a dictionary of columns; ``cv_results_`` of a
            scikit-learn search, whose splits become the column ``fold``; a file ``.csv``, ``.tsv``,
            ``.parquet``, ``.jsonl`` or ``.json``; a folder that ``actlab compare`` has written; a folder of
            JSON files, each with one run; ``"mlflow:URI#EXPERIMENT"``; or ``"optuna:FILE#STUDY"``, a study in
            an SQLite file.

    Returns:
        The table, and a name for it. Its ``attrs`` have the ``FILE`` of text that contains a row in each
        line, and as ``DIRECTIONS`` whether a smaller score is better, for columns whose source records this.

    Raises:
        UsageError: The source cannot be read.
    """
    if isinstance(source, str | Path):
        table, name = _read_named(str(source))
    elif isinstance(source, pd.DataFrame):
        table, name = source, "table"
    elif isinstance(source, Mapping | Sequence):
        table, name = _make_frame(source), "table"
    elif hasattr(source, "__dataframe__") or hasattr(source, "to_pandas"):
        table, name = source.to_pandas(), "table"
    else:
        raise UsageError(f"runs must be a table or the name of a source, got {type(source).__name__}")
    return _melt_search(table), name


def _make_frame(rows: Any) -> pd.DataFrame:
    try:
        return pd.DataFrame(rows)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "runs must be a list with an object for each run, or columns of equal length"
        ) from error


def _read_named(source: str) -> tuple[pd.DataFrame, str]:
    scheme, _, rest = source.partition(":")
    if scheme in _TRACKERS and rest:
        location, mark, name = rest.rpartition("#")
        if not mark or not location or not name:
            raise UsageError(f"{source!r} must have the form {scheme}:LOCATION#NAME")
        return _TRACKERS[scheme](location, name), name
    path = Path(source)
    if path.is_dir():
        return _read_folder(path), path.name
    if not path.is_file():
        raise UsageError(f"there is no file or folder {source!r}; runs can be {SOURCES}")
    if path.suffix.lower() == ".json":
        rows = _read_json(path)
        return _make_frame(_flatten_rows(rows) if isinstance(rows, list) else rows), path.name
    if path.suffix.lower() not in (*SUFFIXES, *_LINES):
        raise UsageError(f"cannot read {source!r}: runs can be {SOURCES}")
    table = _read_json_lines(path) if path.suffix.lower() in _LINES else read_table(path, None, labels=True)
    if path.suffix.lower() != ".parquet":
        table.attrs[FILE] = source
    return table, path.name


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(path)!r} as JSON: {error}") from error


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {str(path)!r}: it is not UTF-8; save it in UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(_flatten(json.loads(line)))
            except ValueError as error:
                raise UsageError(f"cannot read line {number} of {str(path)!r} as JSON: {error}") from error
    return pd.DataFrame(rows)


def _read_folder(path: Path) -> pd.DataFrame:
    if (results := path / "results.csv").is_file():
        frame = read_table(results, None, labels=True)
        return frame[[name for name in ("activation", "split", "fold", "seed", "score") if name in frame]]
    files = sorted(path.glob("*.json"))
    if not files:
        raise UsageError(f"{str(path)!r} has neither results.csv nor .json files")
    rows = _flatten_rows(list(map(_read_json, files)), files)
    return pd.DataFrame([{**row, "file": file.stem} for row, file in zip(rows, files, strict=True)])


def _flatten_rows(rows: Sequence[Any], files: Sequence[Path] = ()) -> list[dict[str, Any]]:
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            where = str(files[i]) if files else f"run {i + 1}"
            raise UsageError(f"{where}: a run must be a JSON object, got {type(row).__name__}")
    return list(map(_flatten, rows))


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the entries of nested objects by names such as ``config.lr``."""
    if not isinstance(value, dict):
        raise UsageError(f"a run must be a JSON object, got {type(value).__name__}")
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, dict):
            flat |= _flatten(part, f"{prefix}{key}.")
        elif not isinstance(part, list):
            flat[f"{prefix}{key}"] = part
    return flat


def _melt_search(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per candidate and split of a scikit-learn search; other tables as they are."""
    matches = {str(name): match for name in table if (match := _SPLIT.fullmatch(str(name)))}
    if not matches:
        return table
    parameters = [str(name) for name in table if str(name).startswith("param_")]
    if parameters:
        names = [
            ", ".join(f"{name.removeprefix('param_')}={row[name]}" for name in parameters)
            for row in table[parameters].to_dict("records")
        ]
    elif "params" in table:
        names = table["params"].map(str).to_list()
    else:
        raise UsageError("the table has scores of splits but neither 'params' nor 'param_...' columns")
    parts = []
    for name, match in matches.items():
        part = pd.DataFrame({"method": names, "fold": int(match[1]), match[2]: table[name].to_numpy()})
        parts.append(part.set_index(["method", "fold"]))
    if duplicates := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UsageError(f"the search has the candidate {duplicates[0]!r} twice")
    melted = pd.concat(parts).groupby(level=[0, 1], sort=False).first().reset_index()
    melted.attrs[DIRECTIONS] = {match[2]: False for match in matches.values()}  # a search maximizes
    return melted


def _read_mlflow(uri: str, experiment: str) -> pd.DataFrame:
    from actlab.integrations.mlflow import IMPATIENT, open_store

    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.is_file():
        raise UsageError(f"there is no file {str(file)!r}")
    with open_store(uri, IMPATIENT, "read") as client:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(repr(one.name) for one in client.search_experiments()[:8])
            raise UsageError(f"there is no experiment {experiment!r} in {uri!r}; it has {names}")
        rows, token = [], None
        while True:
            page = client.search_runs([found.experiment_id], page_token=token)
            rows += [{**run.data.params, **run.data.metrics, "run_name": run.info.run_name} for run in page]
            token = page.token
            if not token:
                return pd.DataFrame(rows)


def _read_optuna(file: str, study: str) -> pd.DataFrame:
    """Read the trials of a study from the SQLite file of Optuna's RDBStorage."""
    path = Path(file.removeprefix("sqlite:///"))
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            query = """
                SELECT trials.number, trial_values.value
                FROM trials JOIN studies USING (study_id) LEFT JOIN trial_values USING (trial_id)
                WHERE studies.study_name = ? AND trials.state = 'COMPLETE'
            """
            trials = pd.read_sql_query(query, connection, params=(study,))
            query = """
                SELECT trials.number, param_name, param_value, distribution_json
                FROM trials JOIN studies USING (study_id) JOIN trial_params USING (trial_id)
                WHERE studies.study_name = ?
            """
            values = pd.read_sql_query(query, connection, params=(study,))
            names = [row[0] for row in connection.execute("SELECT study_name FROM studies")]
            query = (
                "SELECT direction FROM study_directions JOIN studies USING (study_id) WHERE study_name = ?"
            )
            directions = [row[0] for row in connection.execute(query, (study,))]
        finally:
            connection.close()
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        raise UsageError(f"{str(path)!r} is not a study of Optuna: {summarize_error(error)}") from error
    if study not in names:
        raise UsageError(
            f"there is no study {study!r} in {str(path)!r}; it has {', '.join(map(repr, names))}"
        )
    if len(directions) > 1:
        raise UsageError(
            f"the study {study!r} has {len(directions)} objectives; write a table with one as score"
        )
    values["param_value"] = [
        _read_choice(value, text)
        for value, text in zip(values["param_value"], values["distribution_json"], strict=True)
    ]
    wide = values.pivot(index="number", columns="param_name", values="param_value").reset_index()
    table = trials.merge(wide, on="number", how="left").drop(columns="number")
    table.attrs[DIRECTIONS] = {"value": directions == ["MINIMIZE"]}
    return table


def _read_choice(value: float, distribution: str) -> Any:
    known = json.loads(distribution)
    choices = known.get("attributes", {}).get("choices")
    return choices[int(value)] if choices is not None else value


_TRACKERS = {"mlflow": _read_mlflow, "optuna": _read_optuna}

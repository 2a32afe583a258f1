"""A comparison as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab.errors import UsageError
from actlab.files import AS_GIVEN, create_output_folder
from actlab.report.tables import to_json_value, write_csv, write_json

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

_OPTIONAL = ("tuning", "diagnostics", "parameters", "curves", "costs")  # without rows there is no file
_TABLES = ("results", "history", "verdicts", "ranking", *_OPTIONAL)
_ABOUT = "comparison.json"
_REQUIRED = {
    "results": ["activation", "fold", "seed", "score", "failure"],
    "verdicts": ["a", "b", "verdict", "difference", "reason"],
    "ranking": ["rank", "activation", "mean", "status"],
}
_INTEGERS = {"ranking": ["rank"], "verdicts": ["more_seeds"], "results": ["saved_bytes"]}  # may be missing
_TEXT = (
    *("activation", "how", "reason_alone", "failure", "key", "reason", "status"),
    *("a", "b", "verdict", "part", "name"),
)
_HISTOGRAMS = ("values", "gradients")


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write all tables of a comparison into a folder.

    Args:
        comparison: The comparison.
        folder: An existing folder.

    Returns:
        The files.
    """
    files = []
    for name in _TABLES:
        table: pd.DataFrame = getattr(comparison, name)
        path = folder / f"{name}.csv"
        if len(table.columns):
            write_csv(table, path)
            files.append(path)
        else:
            path.unlink(missing_ok=True)  # of an earlier comparison
    if comparison.as_given is not None:
        files += write_comparison(comparison.as_given, create_output_folder(folder / AS_GIVEN))
    else:
        (folder / AS_GIVEN / _ABOUT).unlink(missing_ok=True)
    write_json([_to_plain(comparison.about)], folder / _ABOUT)
    return [*files, folder / _ABOUT]


def read_comparison(folder: Path) -> dict[str, Any]:
    """Read what :func:`write_comparison` has written.

    Args:
        folder: The folder.

    Returns:
        The fields of a :class:`actlab.Comparison`.

    Raises:
        UsageError: A file is missing or damaged, or does not belong to a comparison.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r}")
    if not (folder / _ABOUT).is_file():
        raise UsageError(f"no comparison in {str(folder)!r}: there is no {_ABOUT}")
    try:
        (about,) = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"cannot read {str(folder / _ABOUT)!r}: {error}") from error
    if not isinstance(about, dict) or "metric" not in about:
        raise UsageError(f"{str(folder / _ABOUT)!r} does not describe a comparison")
    if about.get("region") is None:
        about["region"] = float("nan")
    tables = {name: read_table(folder, name) for name in _TABLES}
    ranked, verdicts = set(tables["ranking"]["activation"]), tables["verdicts"]
    if differing := ranked ^ {*tables["results"]["activation"], *verdicts["a"], *verdicts["b"]}:
        problem = f"{min(differing, key=str)!r} is not in all of ranking.csv, results.csv and verdicts.csv"
        raise UsageError(f"the tables in {str(folder)!r} are damaged: {problem}; run the comparison again")
    as_given = folder / AS_GIVEN
    has_given = (as_given / _ABOUT).is_file()
    return {**tables, "about": about, "as_given": read_comparison(as_given) if has_given else None}


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read one of the tables of a comparison.

    Args:
        folder: The folder.
        name: ``"results"``, ``"history"``, ...

    Raises:
        UsageError: The table is missing or damaged, or does not belong to a comparison.
    """
    path = folder / f"{name}.csv"
    if name in _OPTIONAL and not path.is_file():
        return pd.DataFrame()
    try:
        frame = pd.read_csv(
            path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys([*_TEXT, *_HISTOGRAMS], str)
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(path)!r}: {str(error).splitlines()[0]}") from error
    if missing := [column for column in _REQUIRED.get(name, []) if column not in frame]:
        raise UsageError(f"{str(path)!r} has no column {missing[0]!r}: it does not belong to a comparison")
    for column in set(_INTEGERS.get(name, [])) & set(frame):
        frame[column] = frame[column].astype("Int64")
    for column in set(_TEXT) & set(frame):
        frame[column] = frame[column].fillna("")
    return frame


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _to_plain(part) for name, part in value.items()}
    return [_to_plain(part) for part in value] if isinstance(value, list | tuple) else to_json_value(value)

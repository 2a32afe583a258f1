"""Runs, histories and weights in the tables of a ledger: written, read and compared."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from actlab.errors import UsageError
from actlab.fleet.run import Outcomes, Result

log = logging.getLogger("actlab")

_UNREADABLE = (ValueError, TypeError, KeyError, RecursionError, safetensors.SafetensorError)
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
STORED_COLUMNS = (
    *("key", "settings", "test_loss", "test_acc", "seconds", "saved_bytes", "how", "reason_alone", "failure"),
    *("passing", "epochs", "attempts", "host", "finished"),
)
RUN_COLUMNS = (
    *("key", "activation", "seed", "fold", "test_acc", "test_loss", "epochs", "seconds"),
    *("how", "reason_alone", "failure", "attempts", "host", "finished"),
)


@dataclass(frozen=True)
class StoredRun:
    """A finished run as the ledger stores it.

    Args:
        key: The digest of ``settings``.
        settings: Everything that determines the result, as a JSON object; ``{"$float": ...}`` is reserved.
        result: The result.
        attempts: How many times the run was started.
        host: The host that trained it (default: this host).
        finished: When it finished, in UTC and ISO 8601 (default: now).
    """

    key: str
    settings: Mapping[str, Any]
    result: Result
    attempts: int = 1
    host: str = ""
    finished: str = ""


def insert_entry(connection: sqlite3.Connection, entry: StoredRun) -> bool:
    """Insert a run with its history; return whether it is new."""
    result = entry.result
    row = [
        *(entry.key, dumps(entry.settings)),
        *(float(value) for value in (result.test_loss, result.test_acc, result.seconds)),
        result.saved_bytes,
        *(_escape_surrogates(text) for text in (result.how, result.reason_alone, result.failure)),
        *(result.passing, len(result.history), entry.attempts),
        *(entry.host or socket.gethostname(), entry.finished or get_utc_time()),
    ]
    inserted = connection.execute(
        f"INSERT INTO run ({', '.join(STORED_COLUMNS)}) VALUES ({', '.join('?' * len(row))})"
        " ON CONFLICT (key) DO NOTHING RETURNING id",
        row,
    ).fetchall()
    for (run,) in inserted:
        epochs = [(run, epoch, dumps(figures)) for epoch, figures in enumerate(result.history, 1)]
        connection.executemany("INSERT INTO history VALUES (?, ?, ?)", epochs)
        if result.outcomes is not None:
            connection.execute(
                "INSERT INTO outcomes VALUES (?, ?, ?, ?)", (run, *_pack_outcomes(result.outcomes))
            )
    records = {"records": result.diagnostics, "parameters": result.parameters}
    if records := {name: value for name, value in records.items() if value}:
        # A repeated run may be the first with diagnostics or parameters.
        statement = (
            "INSERT INTO diagnostics SELECT id, ? FROM run WHERE key = ?"
            " ON CONFLICT (run) DO UPDATE SET records = json_patch(excluded.records, records)"
        )
        connection.execute(statement, [dumps(records), entry.key])
    return bool(inserted)


def read_entry(connection: sqlite3.Connection, key: str, weights: bool = True) -> StoredRun | None:
    """Return a run, or None if it is not in the file. Call it within :func:`report_damage`."""
    query = f"SELECT id, {', '.join(STORED_COLUMNS)} FROM run WHERE key = ?"
    row = connection.execute(query, [key]).fetchone()
    if row is None:
        return None
    run, _, settings, loss, acc, seconds, saved, how, reason_alone, failure, passing, _, *rest = row

    def select(columns: str, table: str) -> list[Any]:
        return connection.execute(f"SELECT {columns} FROM {table} WHERE run = ?", [run]).fetchall()

    states = select("names, state", "weights") if weights else []
    records = select("records", "diagnostics")
    diagnostics = loads(records[0][0]) if records else {}
    outcomes = select("samples, dtype, data", "outcomes")
    result = Result(
        weights=_unpack_weights(*states[0]) if states else {},
        history=[loads(figures) for _, figures in sorted(select("epoch, figures", "history"))],
        seconds=to_float(seconds),
        how=how,
        reason_alone=reason_alone,
        failure=failure,
        passing=bool(passing),
        test_loss=to_float(loss),
        test_acc=to_float(acc),
        outcomes=_unpack_outcomes(*outcomes[0]) if outcomes else None,
        diagnostics=diagnostics.get("records", []),
        parameters=diagnostics.get("parameters", []),
        saved_bytes=saved,
    )
    return StoredRun(key, loads(settings), result, *rest)


@contextlib.contextmanager
def report_damage(path: Path, key: str) -> Iterator[None]:
    """Raise UsageError if the block reads data of a run that cannot have been recorded."""
    try:
        yield
    except _UNREADABLE as error:
        problem = f"is damaged: run {trim_key(key)} cannot be read ({error}); restore a backup"
        raise UsageError(f"ledger {str(path)!r} {problem}") from error


def dumps(value: Mapping[str, Any]) -> str:
    """Return standard JSON, with ``{"$float": "nan"}``, ``"inf"`` or ``"-inf"`` for numbers that JSON lacks.

    Examples:
        >>> dumps({"lr": 0.1, "train_loss": float("inf")})
        '{"lr":0.1,"train_loss":{"$float":"inf"}}'
    """
    try:
        return _to_json(dict(value))
    except ValueError:
        return _to_json(_replace_infinite(dict(value)))


def loads(text: str) -> dict[str, Any]:
    """Return what :func:`dumps` wrote. Call it within :func:`report_damage`."""
    value = json.loads(text, object_hook=_restore_infinite)
    if not isinstance(value, dict):
        raise ValueError("a JSON value that is not an object")
    return value


def _to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_convert_numpy)


def _convert_numpy(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be recorded: it is not a number, a bool or a string")


def _replace_infinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _replace_infinite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_infinite(part) for part in value]
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return {"$float": str(float(value))}
    return value


def _restore_infinite(value: dict[str, Any]) -> Any:
    return _NOT_FINITE[value["$float"]] if value.keys() == {"$float"} else value


def pack_weights(weights: Mapping[str, Tensor], max_bytes: int) -> tuple[str, bytes] | None:
    """Return the names of weights, in order, and a safetensors file; None if there are none to store."""
    if not weights:
        return None
    try:
        # safetensors refuses tensors that share memory, as tied weights and slices do.
        copies = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()
        }
        state = safetensors.torch.save(copies)
    except (AttributeError, KeyError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        log.warning("weights are not recorded because safetensors cannot write them: %r", error)
        return None
    if len(state) > max_bytes:
        log.warning("weights are not recorded: they have %d bytes, the maximum is %d", len(state), max_bytes)
        return None
    return json.dumps(list(copies)), state


def _unpack_weights(names: str, state: bytes) -> dict[str, Tensor]:
    tensors = safetensors.torch.load(state)
    if sorted(order := json.loads(names)) != sorted(tensors):
        raise ValueError("names that differ from those of the weights")
    return {name: tensors[name] for name in order}


def _pack_outcomes(outcomes: Outcomes) -> tuple[int, str, bytes]:
    """Return the number of outcomes, their type and their bytes; a Boolean takes one bit."""
    if outcomes.dtype == np.bool_:
        return len(outcomes), "bool", np.packbits(outcomes).tobytes()
    return len(outcomes), "float32", outcomes.astype("<f4").tobytes()


def _unpack_outcomes(samples: int, dtype: str, data: bytes) -> Outcomes:
    if dtype == "bool":
        outcomes: Outcomes = np.unpackbits(np.frombuffer(data, np.uint8))[:samples].astype(np.bool_)
    else:
        outcomes = np.frombuffer(data, "<f4").astype(np.float32)
    if len(outcomes) != samples:
        raise ValueError(f"{len(outcomes)} outcomes instead of {samples}")
    return outcomes


def _escape_surrogates(text: str) -> str:
    """Return text that SQLite accepts: escape surrogates, which file names may contain."""
    return text.encode("utf-8", "backslashreplace").decode()


def find_differences(first: Result, second: Result) -> list[tuple[str, str, str]]:
    """Return the fields that differ by more than rounding explains, with both values."""
    if bool(first.failure) != bool(second.failure):
        return [("failure", first.failure or "none", second.failure or "none")]
    last = [result.history[-1] if result.history else {} for result in (first, second)]
    differences = []
    for field, values, tolerance in (
        ("test_loss", (first.test_loss, second.test_loss), {"rel_tol": 0.01}),
        ("test_acc", (first.test_acc, second.test_acc), {"rel_tol": 0.0, "abs_tol": 0.01}),
        ("train_loss", [row.get("train_loss", math.nan) for row in last], {"rel_tol": 0.01}),
        ("epochs", (len(first.history), len(second.history)), {"rel_tol": 0.0}),
    ):
        one, two = map(float, values)
        # Whether a diverged run ends at infinity or at NaN depends on rounding.
        if (math.isfinite(one) or math.isfinite(two)) and not math.isclose(one, two, **tolerance):
            differences.append((field, f"{values[0]:g}", f"{values[1]:g}"))
    return differences


def describe_difference(key: str, field: str, first: str, second: str) -> str:
    """Return how a second result of a run differs from the stored one, as a sentence."""
    return f"run {trim_key(key)}: {field} is {first} here and {second} in a second result; the first is kept"


def trim_key(key: str) -> str:
    """Return the part of a run key that messages show."""
    return key[:12]


def to_float(value: Any) -> float:
    """Return a number of the file, NaN for NULL."""
    return math.nan if value is None else float(value)


def get_utc_time() -> str:
    """Return the time in UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")

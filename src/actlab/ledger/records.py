"""How a run, its history and its weights are written into a ledger's tables and read from them."""

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
from actlab.fleet.run import Result

log = logging.getLogger("actlab")

_UNREADABLE = (ValueError, TypeError, KeyError, RecursionError, safetensors.SafetensorError)
_INFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
STORED = (  # the columns of a run, in the order in which it is written and read
    "key, settings, test_loss, test_acc, seconds, how, alone, failure, passing, epochs, attempts, "
    "host, finished"
)
RUN_COLUMNS = (
    *("key", "activation", "seed", "fold", "test_acc", "test_loss", "epochs", "seconds"),
    *("how", "reason_alone", "failure", "attempts", "host", "finished"),
)


@dataclass(frozen=True)
class Entry:
    """A finished run as the ledger has it.

    Args:
        key: The digest of ``settings``.
        settings: What describes the run, as JSON has it; ``{"$float": ...}`` is reserved.
        result: What came out of it.
        attempts: How often it was begun.
        host: Where it was trained; empty for this host.
        finished: When, in UTC as ISO 8601 has it; empty for now.
    """

    key: str
    settings: Mapping[str, Any]
    result: Result
    attempts: int = 1
    host: str = ""
    finished: str = ""


def insert(do: sqlite3.Connection, entry: Entry) -> bool:
    """Insert a run with its history; say whether it was not there yet."""
    result = entry.result
    row = [
        *(entry.key, dumps(entry.settings)),
        *(float(value) for value in (result.test_loss, result.test_acc, result.seconds)),
        *(_printable(text) for text in (result.how, result.reason_alone, result.failure)),
        *(result.passing, len(result.history), entry.attempts),
        *(entry.host or socket.gethostname(), entry.finished or now()),
    ]
    places = ", ".join("?" * len(row))
    found = do.execute(
        f"INSERT INTO run ({STORED}) VALUES ({places}) ON CONFLICT (key) DO NOTHING RETURNING id", row
    ).fetchall()
    for (run,) in found:
        epochs = [(run, epoch, dumps(figures)) for epoch, figures in enumerate(result.history, 1)]
        do.executemany("INSERT INTO history VALUES (?, ?, ?)", epochs)
    if result.diagnostics:  # a run that is known already may have been looked into only now
        looks = "INSERT OR IGNORE INTO inside SELECT id, ? FROM run WHERE key = ?"
        do.execute(looks, [dumps({"looks": result.diagnostics}), entry.key])
    return bool(found)


def find(do: sqlite3.Connection, key: str, weights: bool = True) -> Entry | None:
    """Return a run, within :func:`reading`; None when there is none."""
    row = do.execute(f"SELECT id, {STORED} FROM run WHERE key = ?", [key]).fetchone()
    if row is None:
        return None
    run, _, settings, loss, acc, seconds, how, alone, failure, passing, _, *rest = row
    history = do.execute("SELECT figures FROM history WHERE run = ? ORDER BY epoch", [run]).fetchall()
    state = (
        do.execute("SELECT names, state FROM weights WHERE run = ?", [run]).fetchone() if weights else None
    )
    inside = do.execute("SELECT looks FROM inside WHERE run = ?", [run]).fetchone()
    result = Result(
        weights=_unpacked(*state) if state else {},
        history=[loads(figures) for (figures,) in history],
        seconds=number(seconds),
        how=how,
        reason_alone=alone,
        failure=failure,
        passing=bool(passing),
        test_loss=number(loss),
        test_acc=number(acc),
        diagnostics=loads(inside[0])["looks"] if inside else [],
    )
    return Entry(key, loads(settings), result, *rest)


@contextlib.contextmanager
def reading(path: Path, key: str) -> Iterator[None]:
    """Say in one line that what a file has of a run is nothing that was ever recorded."""
    try:
        yield
    except _UNREADABLE as error:
        problem = f"is damaged: run {short(key)} cannot be read ({error}); go back to a copy of it"
        raise UsageError(f"ledger {str(path)!r} {problem}") from error


def dumps(value: Mapping[str, Any]) -> str:
    """Return standard JSON; where it has no number there is ``{"$float": "nan"}``, ``"inf"`` or ``"-inf"``.

    Examples:
        >>> dumps({"lr": 0.1, "train_loss": float("inf")})
        '{"lr":0.1,"train_loss":{"$float":"inf"}}'
    """
    try:
        return _json(dict(value))
    except ValueError:
        return _json(_finite(dict(value)))


def loads(text: str) -> dict[str, Any]:
    """Return what :func:`dumps` was given; within :func:`reading`."""
    value = json.loads(text, object_hook=_infinite)
    if not isinstance(value, dict):
        raise ValueError("a JSON value that is no object")
    return value


def packed(weights: Mapping[str, Tensor], limit: int) -> tuple[str, bytes] | None:
    """Return a net's weights as names, in order, and a safetensors file; None when there are none to keep."""
    if not weights:
        return None
    try:
        # safetensors refuses tensors that share memory, as tied weights and rows of a matrix do.
        copies = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()
        }
        state = safetensors.torch.save(copies)
    except (AttributeError, KeyError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        log.warning("weights are not kept, safetensors cannot write them: %r", error)
        return None
    if len(state) > limit:
        log.warning("weights are not kept: %d bytes, and a ledger has room for %d", len(state), limit)
        return None
    return json.dumps(list(copies)), state


def _unpacked(names: str, state: bytes) -> dict[str, Tensor]:
    """Return the weights that :func:`packed` was given; within :func:`reading`."""
    tensors = safetensors.torch.load(state)
    if sorted(order := json.loads(names)) != sorted(tensors):
        raise ValueError("names that are not those of the weights")
    return {name: tensors[name] for name in order}


def _printable(text: str) -> str:
    """Return text that SQLite takes: what is no character, from a file's name maybe, is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be recorded: it is no number, truth value or text")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return {"$float": str(float(value))}
    return value


def _infinite(value: dict[str, Any]) -> Any:
    return _INFINITE[value["$float"]] if value.keys() == {"$float"} else value


def differences(first: Result, second: Result) -> list[tuple[str, str, str]]:
    """Return what differs by more than rounding explains, with both values."""
    if bool(first.failure) != bool(second.failure):
        return [("failure", first.failure or "none", second.failure or "none")]
    found = []
    last = [result.history[-1] if result.history else {} for result in (first, second)]
    for what, values, tolerance in (
        ("test_loss", (first.test_loss, second.test_loss), {"rel_tol": 0.01}),
        ("test_acc", (first.test_acc, second.test_acc), {"rel_tol": 0.0, "abs_tol": 0.01}),
        ("train_loss", [row.get("train_loss", math.nan) for row in last], {"rel_tol": 0.01}),
        ("epochs", (len(first.history), len(second.history)), {"rel_tol": 0.0}),
    ):
        one, two = map(float, values)
        # How a diverged run ends, at infinity or NaN, is up to rounding.
        if (math.isfinite(one) or math.isfinite(two)) and not math.isclose(one, two, **tolerance):
            found.append((what, f"{values[0]:g}", f"{values[1]:g}"))
    return found


def sentence(key: str, what: str, kept: str, found: str) -> str:
    """Return how a second result of a run differs from the stored one."""
    return f"run {short(key)}: {what} is {kept} here and {found} in a second result; the first stays"


def short(key: str) -> str:
    """Return the part of a run key that messages show."""
    return key[:12]


def number(value: Any) -> float:
    """Return a number of the file, NaN for NULL."""
    return math.nan if value is None else float(value)


def now() -> str:
    """Return the time in UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")

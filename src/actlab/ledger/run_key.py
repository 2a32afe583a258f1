"""What decides the result of a training, as a description that can be compared, kept and read.

Equal descriptions mean equal trainings. Where that is not certain they differ, which costs a training;
the other error would be a wrong result for good.
"""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from actlab._version import __version__
from actlab.activation.definition import Activation
from actlab.fleet.run import Run
from actlab.fleet.skorch_adapter import _built
from actlab.ledger import code_hash
from actlab.ledger.canonical import Indescribable, Walk, content, describe, described, digest, text
from actlab.models.random_streams import WEIGHTS, seeded_numpy, seeded_torch
from actlab.spec import ResolvedActivation

__all__ = ["Indescribable", "describe", "digest", "run_settings"]

_FOLDER = re.compile(r"^.*[/\\](?=[^/\\:]+\.py:)")
_LEAST = 100  # characters that a hash takes
_MOST = 20_000  # characters of a part; in a larger one its largest parts are hashes


def run_settings(runs: Sequence[Run], fingerprint: str) -> list[dict[str, Any]]:
    """Return what decides the result of each run; :func:`digest` makes a key of it.

    Args:
        runs: The runs. What they share, by identity, is described once, and shared in the answer too.
        fingerprint: Of the data that their rows are in.

    Returns:
        One description for each, for people to read too.

    Raises:
        Indescribable: As :func:`describe` does.
    """
    memo: dict[tuple[str, int], Any] = {}

    def once(name: str, value: Any, description: Callable[[Any], Any]) -> Any:
        place = (name, id(value))  # the runs keep it alive
        if place not in memo:
            memo[place] = description(value)
        return memo[place]

    versions = {"actlab": __version__, "torch": torch.__version__}
    found = []
    for run in runs:
        settings = {
            "activation": once("activation", run.net, _activation),
            "net": once("net", run.net, _net),
            "loss": once("loss", run.loss, lambda loss: _small(describe(loss, "loss"))),
            "optimizer": once("optimizer", run.optimizer, _optimizer),
            "epochs": int(run.epochs),
            "batch_size": int(run.batch_size),
            "shuffle": bool(run.shuffle),
            "drop_last": bool(run.drop_last),
            "piece": int(run.piece),
            "schedule": once("schedule", run.schedule, _schedule),
            "stopping": once("stopping", run.stopping, lambda rule: rule and _named(vars(rule), "stopping")),
            "scoring": run.scoring,
            "device": run.device.partition(":")[0],
            "precision": run.precision,
            "seed": int(run.seed),
            "fold": int(run.fold),
            "data": fingerprint,
            "versions": versions,
        }
        for part in ("rows", "valid", "test"):
            settings[part] = once("rows", getattr(run, part), _rows)
        found.append(settings)
    return found


# -- the parts of a run ----------------------------------------------------------------------------


def _rows(rows: npt.NDArray[np.int64] | None) -> Any:
    if rows is None:
        return None
    return {"sha256": content(np.ascontiguousarray(rows, np.dtype("<i8"))), "length": len(rows)}


def _optimizer(rule: Any) -> dict[str, Any]:
    numbers = {name: float(number) for name, number in rule.numbers.items()}
    return {"name": rule.name, "numbers": _named(numbers, "optimizer"), "flags": sorted(rule.flags)}


def _schedule(schedule: Any) -> Any:
    """Describe a schedule; the order of its options does not matter, for they are arguments by name."""
    if schedule is None:
        return None
    named = {**vars(schedule), "options": dict(sorted(schedule.options.items()))}
    return _small(described(lambda walk: walk.named(named, "schedule")))


def _net(maker: Callable[[], nn.Module]) -> Any:
    """Describe a maker of nets and the net that it makes, which has the classes behind specs in it."""
    built: Any = None
    with warnings.catch_warnings(), seeded_torch(0, 0, WEIGHTS, "cpu"), seeded_numpy(0):
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):  # anybody's module: it will fail again when it is trained
            built = maker()
    if built is None:
        return _small(described(lambda walk: walk.named({"build": "fails", "maker": maker}, "net")))

    def both(walk: Walk) -> Any:
        return {"built": walk.describe(built, "net"), "maker": walk.describe(_portable(maker), "maker")}

    return _small(described(both))


def _portable(maker: Any) -> Any:
    """Return a maker without folders of ``"folder/file.py:Name"``, and without what its module has learnt."""
    if not isinstance(maker, functools.partial):
        return maker
    args = list(maker.args)
    if maker.func is _built and args[1] and isinstance(args[0], nn.Module):
        args[0] = type(args[0])

    def cut(value: Any) -> Any:
        if type(value) is dict:
            return {name: cut(value[name]) for name in sorted(value)}
        value = value.spec if isinstance(value, ResolvedActivation) else value
        return _FOLDER.sub("", value) if type(value) is str else value

    return functools.partial(maker.func, *map(cut, args), **cut(maker.keywords))


def _activation(maker: Any) -> str | None:
    """Return the activation of a net as a person would name it, where that can be told."""
    if not (isinstance(maker, functools.partial) and maker.func is _built):
        return None
    value = maker.args[1].get("activation")
    value = value.spec if isinstance(value, ResolvedActivation) else value
    if isinstance(value, str):
        return _FOLDER.sub("", value)
    if isinstance(value, nn.Module):
        library = all(code_hash.by_name(type(module)) for module in value.modules())
        text = repr(value) if library else ""  # anybody's repr may have an address or a path in it
        return text if text and " at 0x" not in text else type(value).__qualname__
    if isinstance(value, Activation):
        return value.name
    return getattr(value, "__qualname__", None)


def _named(values: Mapping[str, object], name: str) -> Any:
    return described(lambda walk: walk.named(values, name))


def _small(description: Any, most: int = _MOST) -> Any:
    """Return a description with hashes in place of its largest parts, where it is too large to be kept."""
    if len(text(description)) <= most:
        return description
    if not isinstance(description, dict) or most // len(description) < _LEAST:
        return {"sha256": digest(description)}
    return {name: _small(part, most // len(description)) for name, part in description.items()}

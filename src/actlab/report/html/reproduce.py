"""How a comparison is made again, and all that is known of it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from actlab.report.html import tables
from actlab.training.train import TrainSettings

# By other parts of the page.
_UNSAID = (
    *("settings", "race", "tuned", "command", "points", "region_is"),
    *("activations", "diagnostics", "unfinished", "kind"),
)
_USUAL = ("accuracy", "r2")  # what nets are scored by when nothing is said
_OWN_NET = "NeuralNet"  # the name of the net that is trained when no module is given


def facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return settings, seeds, versions and hardware, each with its name."""
    race = about.get("race") or {}
    settings = about.get("settings") or {}
    first = settings.get("seed", 0)
    rows = [(name, value) for name, value in about.items() if name not in _UNSAID]
    if "seeds" in about:
        rows = [(n, f"{v}: {first} to {first + v - 1}" if n == "seeds" and v > 1 else v) for n, v in rows]
    rows += [("race", race["ended"])] if race.get("ended") else []
    rows += [("tuned", json.dumps(about["tuned"]))] if about.get("tuned") else []
    rows += [(name, value) for name, value in settings.items() if name != "seed"]
    return [(name.replace("_", " "), tables.exactly(value)) for name, value in rows]


def call(names: Sequence[str], about: Mapping[str, Any]) -> str:
    """Return a comparison, or a training, as a call in Python, where no command line has made it.

    Args:
        names: The activations.
        about: As in :attr:`actlab.Comparison.about`.

    Returns:
        The call, without what it would have anyway; what only the person knows is a comment above it.

    Examples:
        >>> about = {"data": "digits", "folds": 3, "seeds": 2, "tuned": [{"lr": 0.1}, {"lr": 0.2}]}
        >>> print(call(["relu"], about | {"settings": {"epochs": 5, "batch_size": 128}}))
        actlab.compare(['relu'], 'digits', seeds=2, tune={'lr': [0.1, 0.2]}, epochs=5)
    """
    usual = {one.name: one.default for one in dataclasses.fields(TrainSettings)}
    settings = about.get("settings") or {}
    changed = {name: value for name, value in settings.items() if usual.get(name, math.nan) != value}
    if about.get("kind") == "training":
        return _training(names[0], about.get("data", "data"), changed)
    given, said = {**_design(about), **changed}, []
    words = [f"{name}={value!r}" for name, value in given.items()]
    if (net := about.get("net", _OWN_NET)) != _OWN_NET:
        words.insert(0, "module=module")
        said.append(f"# module is {_one_line(net)}, a net of your own")
    if (metric := about.get("metric", "accuracy")) not in _USUAL:
        words.append(f"scoring={metric!r}")
    if "budget" in ((about.get("race") or {}).get("ended") or ""):
        said.append(f"# it ended by {_one_line(about['race']['ended'])}")
    start = [repr(list(names)), repr(about.get("data", "data"))]
    return "\n".join([*said, f"actlab.compare({', '.join([*start, *words])})"])


def _training(name: str, data: str, changed: Mapping[str, Any]) -> str:
    """Return one training as a call in Python."""
    words = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return (
        "from actlab import load_data\nfrom actlab.training.train import TrainSettings, train\n\n"
        f"train(load_data({data!r}), {name!r}, TrainSettings({words}))"
    )


def _design(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return folds, seeds and how values are chosen and judged, where they are not the usual ones."""
    given: dict[str, Any] = {}
    if about.get("folds", 3) != 3:
        given["folds"] = about["folds"]
    if about.get("race"):  # which adds seeds by itself
        given["until_decided"] = True
    elif about.get("seeds", 1) != 1:
        given["seeds"] = about["seeds"]
    if tuned := about.get("tuned"):
        given["tune"] = {name: _distinct([one[name] for one in tuned]) for name in tuned[0]}
    if about.get("region_is") == "as given":
        given["rope"] = about["region"]
    return given


def _distinct(values: list[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())

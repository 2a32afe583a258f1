"""The settings of a comparison, and the call that repeats it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from actlab.report.html.tables import format_setting
from actlab.report.panels import find_specs
from actlab.training.settings import OPTIMIZERS, TrainSettings

# Keys of ``about`` that other parts of the page show.
_SHOWN_ELSEWHERE = (
    *("settings", "sequential_test", "tune", "tuned", "grid_size", "screening_epochs", "command"),
    *("points", "region_is", "activations", "specs", "diagnostics", "unfinished", "kind", "test"),
    *("sentences", "notes", "diagram", "profiles", "trained", "unpaired", "subject", "over"),
    "error_units",
)
_DEFAULT_METRICS = ("accuracy", "r2", "accuracy over labels")
_DEFAULT_MODULE = "NeuralNet"


def list_settings(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return settings, seeds, versions and hardware as names and texts."""
    settings, test = about.get("settings") or {}, about.get("sequential_test") or {}
    rows = {name: value for name, value in about.items() if name not in _SHOWN_ELSEWHERE}
    if (seeds := about.get("seeds", 1)) > 1:
        first = settings.get("seed", 0)
        rows["seeds"] = f"{seeds}: {first} to {first + seeds - 1}"
    if test.get("stop_reason"):
        rows["sequential_test"] = test["stop_reason"]
    if "tune" in about:
        rows["tuning"] = _describe_tuning(about)
    omitted = {"seed", *(name for name, value in settings.items() if _is_off(name, value))}
    named = [*rows.items(), *((name, value) for name, value in settings.items() if name not in omitted)]
    return [(name.replace("_", " "), format_setting(value)) for name, value in named]


def format_call(names: Sequence[str], about: Mapping[str, Any]) -> str:
    """Return the Python call that repeats a comparison or a run.

    Args:
        names: The activations.
        about: As in :attr:`actlab.Comparison.about`.

    Returns:
        The call without default arguments. Comments describe objects that exist only in the user's code.

    Examples:
        >>> about = {"data": "digits", "seeds": 2, "tune": "grid", "tuned": [{"lr": 0.1}, {"lr": 0.2}]}
        >>> print(format_call(["relu"], about | {"settings": {"epochs": 5, "batch_size": 128}}))
        actlab.compare(['relu'], 'digits', seeds=2, tune={'lr': [0.1, 0.2]}, epochs=5)
    """
    settings = about.get("settings") or {}
    optimizer = settings.get("optimizer", "sgd")
    usual = TrainSettings(optimizer=optimizer if optimizer in OPTIMIZERS else "sgd")
    defaults = {**dataclasses.asdict(usual), "optimizer": "sgd"}
    settings = {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}
    changed = {name: value for name, value in settings.items() if defaults.get(name, math.nan) != value}
    data = about.get("data", "data")
    if about.get("kind") == "training":
        return (
            "from actlab import load_data\nfrom actlab.training.train import TrainSettings, train\n\n"
            f"train(load_data({data!r}), {names[0]!r}, TrainSettings({_format_keywords(changed)}))"
        )
    comments, module, scoring = [], "", ""
    if (net := about.get("net", _DEFAULT_MODULE)) != _DEFAULT_MODULE:
        comments.append(f"# module is {_join_lines(net)}, your own network\n")
        module = "module=module"
    if (metric := about.get("metric", "accuracy")) not in _DEFAULT_METRICS:
        scoring = f"scoring={metric.removeprefix('subset ')!r}"
    if "budget" in (ended := (about.get("sequential_test") or {}).get("stop_reason") or ""):
        comments.append(f"# the test ended: {_join_lines(ended)}\n")
    specs = find_specs(names, about)
    activations = repr(list(names) if list(specs.values()) == list(names) else specs)
    if objects := [name for name, spec in specs.items() if spec is None]:
        activations = "activations"
        others = "".join(f"{spec!r} and " for spec in filter(None, specs.values()))
        made = f"the comparison was made in Python: activations contains {others}your own objects"
        comments.insert(0, f"# {made} {', '.join(objects)}\n")
    keywords = _format_keywords({**_list_design(about), **changed})
    arguments = [activations, repr(data), module, keywords, scoring]
    return f"{''.join(comments)}actlab.compare({', '.join(filter(None, arguments))})"


def _list_design(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return folds, seeds, tuned values and region that are not the default."""
    design: dict[str, Any] = {}
    test = about.get("test")
    if test:
        design["test"] = test["name"]
    elif about.get("folds", 3) != 3:
        design["folds"] = about["folds"]
    if about.get("split") in ("random", "time"):
        design["split"] = about["split"]
    if about.get("sequential_test"):  # it chooses the number of seeds
        design["until_decided"] = True
    elif about.get("seeds", 1) != (3 if test else 1):
        design["seeds"] = about["seeds"]
    if about.get("tune", "auto") != "auto":
        design["tune"] = _list_values(about) or None
    if about.get("region_is") == "as given":
        design["rope"] = about["region"]
    return design


def _list_values(about: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the tuned values by name, without the values as given if they are not part of the grid."""
    tuned = about.get("tuned") or []
    grid = tuned[: about.get("grid_size")]
    for candidates in (grid, grid[1:]):
        columns = {name: [one[name] for one in candidates] for name in grid[0]} if grid else {}
        values = {name: [v for i, v in enumerate(c) if v not in c[:i]] for name, c in columns.items()}
        if math.prod(map(len, values.values())) == len(candidates):
            return values
    return values


def _describe_tuning(about: Mapping[str, Any]) -> str:
    values = "; ".join(f"{name} {', '.join(map(str, v))}" for name, v in _list_values(about).items())
    screened = about.get("screening_epochs")
    epochs = f"automatic, after {screened} epoch{'s' * (screened > 1)}: " if screened else ""
    return f"{epochs}{values}" or "none"


def _format_keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _is_off(name: str, value: Any) -> bool:
    """Return whether a setting has no effect on the training."""
    return value in (None, "none") or (name in ("weight_decay", "dropout") and value == 0)


def _join_lines(value: Any) -> str:
    return " ".join(str(value).split())

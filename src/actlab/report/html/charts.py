"""What the charts of a report show, as plain numbers: the page draws them twice, as SVG and by Plotly."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from actlab.describe import derivatives, window
from actlab.errors import UsageError
from actlab.functions import catalogue
from actlab.report.tables import plain
from actlab.spec import entry, get, is_formula, is_imported, parse

Chart = dict[str, Any]
Labels = Mapping[str, str]

LOSSES = {"train_loss": "training loss", "valid_loss": "validation loss"}
METRICS = {**LOSSES, "valid_acc": "validation accuracy"}
_LEADER: Mapping[str, Any] = {"value": 0.0, "low": 0.0, "high": 0.0, "word": "leader"}
_CURVE = {"activation", "x", "f", "f1", "f2"}
_TURNING = {"R", "AL", "RLO", "RLE", "RLI", "LRO", "LRE", "LRI", "FSI"}
_LABEL = 26  # characters of a name in a chart
_POINTS = 2500  # of all lines in one set of axes, and 200 of one, at most: a page is to be sent
_FAR = 5.0  # a difference so many times the next one would leave no room for the others
_DECADES = 50.0  # a loss that falls by this factor is drawn on a logarithmic scale


def decades(low: float, high: float) -> list[float]:
    """Return round numbers on a logarithmic scale: powers of ten, and others between where these are few.

    Examples:
        >>> decades(0.03, 2.0), decades(1e-6, 1.0), decades(0.21, 0.32)
        ([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0], [0.25, 0.3])
    """
    powers = [10.0**n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    inside = [power for power in powers if low <= power <= high]
    for between in (1, 2, 5), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9):
        if len(inside) < (3 if len(between) == 3 else 2):
            steps = [float(f"{power * n:.2g}") for power in powers for n in between]
            inside = [step for step in steps if low <= step <= high]
    if len(inside) < 2:  # the ends are hardly apart
        inside = sorted({float(f"{end:.3g}") for end in (low, high)})
    return inside[:: 1 + len(inside) // 8]


def labels(names: Sequence[str], most: int = _LABEL) -> dict[str, str]:
    """Return a short label for each name, no two the same.

    Args:
        names: Names of activations, as long as they like.
        most: Characters of a label, but for what tells it from another.

    Examples:
        >>> labels(["relu", "my_layers.py:SomethingWithALongName", "my_layers.py:SomethingWithAlsoLongName"])
        {'relu': 'relu', 'my_layers.py:SomethingWithALongName': 'my_layers.py:…thALongName', \
'my_layers.py:SomethingWithAlsoLongName': 'my_layers.py:…lsoLongName'}
    """
    found: dict[str, str] = {}
    for name in names:
        line = " ".join(name.split()) or "(no name)"
        short = line if len(line) <= most else f"{line[: most // 2]}…{line[2 - most // 2 :]}"
        taken = sum(label == short or label.startswith(f"{short} (") for label in found.values())
        found[name] = f"{short} ({taken + 1})" if taken else short
    return {name: isolated(label) for name, label in found.items()}


def isolated(name: str) -> str:
    """Return a name that does not turn round the text about it, if it is written from right to left.

    Examples:
        >>> [isolated(name) for name in ("relu", "\u05d0")]
        ['relu', '\u2068\u05d0\u2069']
    """
    return f"\u2068{name}\u2069" if {unicodedata.bidirectional(c) for c in name} & _TURNING else name


def digits(values: Any) -> list[float | None]:
    """Return numbers in five digits, None for what is not finite: a page need not hold more."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in map(float, values)]


def differences(verdicts: pd.DataFrame, leader: str) -> dict[str, dict[str, Any]]:
    """Return each other activation's difference to the leader and its verdict beside it.

    Args:
        verdicts: As in :attr:`actlab.Comparison.verdicts`.
        leader: An activation.

    Returns:
        By activation: ``value``, ``low`` and ``high`` (None where there is none), ``word``, ``reason``.
    """
    found = {}
    turned = {"better": "worse", "worse": "better"}
    for row in verdicts.to_dict("records"):
        if leader not in (row["a"], row["b"]):
            continue
        value, low, high = (_number(row.get(name)) for name in ("difference", "low", "high"))
        word, other = row["verdict"], row["a"]
        if row["a"] == leader:
            value, low, high, other = _minus(value), _minus(high), _minus(low), row["b"]
            word = turned.get(word, word)
        found[other] = {
            "value": value,
            "low": low,
            "high": high,
            "word": word,
            "reason": row.get("reason") or "",
        }
    return found


def standing(ranking: pd.DataFrame) -> str:
    """Return what the top row of a ranking is, to which the differences of the others are drawn.

    Examples:
        >>> [standing(pd.DataFrame({"rank": ranks})) for ranks in ([1, 2], [1, 1], [None, None])]
        ['the first', 'tied for first', 'the reference']
    """
    ranks = pd.to_numeric(ranking["rank"], errors="coerce").to_numpy(float, na_value=math.nan)
    if len(ranks) < 2 or ranks[0] != 1:
        return "the reference"
    return "the first" if (ranks == 1).sum() == 1 else "tied for first"


def _number(value: Any) -> float | None:
    value = plain(value)
    return float(value) if isinstance(value, int | float) else None


def _minus(value: float | None) -> float | None:
    return None if value is None else 0.0 - value


def forest(names: Sequence[str], found: Mapping[str, dict[str, Any]], region: float, scale: float) -> Chart:
    """Return the forest plot of differences to the first of ``names``.

    Args:
        names: Activations, in the order of the ranking.
        found: What :func:`differences` says.
        region: Half the width of the region of equivalence; NaN if there is none.
        scale: What a difference is multiplied with: 100 for percentage points.
    """
    rows = []
    for place, name in enumerate(names):
        one: Mapping[str, Any] = found.get(name, {}) if place else _LEADER
        numbers = {k: None if one.get(k) is None else scale * one[k] for k in ("value", "low", "high")}
        rows.append({"name": name, "series": place, "word": one.get("word", "none"), **numbers})
    half = scale * region if math.isfinite(region) else None
    return {"kind": "forest", "rows": rows, "region": half, "limit": _limit(rows[1:], half)}


def _limit(rows: Sequence[dict[str, Any]], region: float | None) -> float:
    """Return how far the axis goes: to the farthest end that leaves room for the others."""
    reach = sorted(max(abs(row["low"]), abs(row["high"])) for row in rows if row["low"] is not None)
    limit = reach[0] if reach else 1.0
    for one in reach:
        if one > _FAR * max(limit, region or 0):
            break
        limit = one
    return 1.08 * max(limit, region or 0) or 1.0


def learning(history: pd.DataFrame, names: Sequence[str]) -> list[Chart]:
    """Return a panel for each metric of the history: mean, least and most over the runs of an activation.

    Args:
        history: As in :attr:`actlab.Comparison.history`.
        names: Activations, in the order of their colours.
    """
    panels, most = [], min(200, _POINTS // max(len(names), 1))
    for metric, title in METRICS.items():
        lines = [_line(history, name, metric, series, most) for series, name in enumerate(names)]
        lines = [line for line in lines if any(y is not None for y in line["y"])]
        if lines:
            panels.append(panel(title, "epoch", lines, loss=metric in LOSSES))
    return panels


def each_learning(history: pd.DataFrame, names: Sequence[str], of: Labels) -> dict[str, Chart]:
    """Return a panel for each activation, with its training and its validation loss."""
    panels, most = {}, min(60, _POINTS // max(len(names), 1))
    for series, name in enumerate(names):
        lines = [_line(history, name, metric, series, most) for metric in LOSSES]
        lines[0]["dash"], lines[1]["dash"] = 0, 1
        lines = [line for line in lines if any(y is not None for y in line["y"])]
        if lines:
            panels[name] = panel(of[name], "epoch", lines, loss=True)
    return panels


def _line(history: pd.DataFrame, name: str, metric: str, series: int, most: int) -> Chart:
    if not {"activation", "epoch", metric} <= set(history):
        return {"name": name, "series": series, "x": [], "y": []}
    rows = history[history["activation"] == name]
    line, lowest = spread(rows[metric], rows["epoch"], most)
    marked = {"mark": lowest} if metric == "valid_loss" and lowest is not None else {}
    return {"name": name, "series": series, **line, **marked}


def spread(
    values: pd.Series[Any], at: pd.Series[Any], most: int, *, log: bool = False
) -> tuple[Chart, int | None]:
    """Return a line through the means of values, with the band from the lowest to the highest.

    Args:
        values: What is not finite is left out.
        at: The place of each, a whole number.
        most: So many points are kept, the last and the lowest mean among them.
        log: Take the geometric mean, of what is positive.

    Returns:
        The line, and which of its points is lowest, if there is any.
    """
    finite = pd.to_numeric(values, errors="coerce").replace([math.inf, -math.inf], math.nan)
    found = (np.log10(finite.where(finite > 0)) if log else finite).groupby(at).agg(["mean", "min", "max"])
    found = 10.0**found if log else found
    low = int(np.argmin(found["mean"].fillna(math.inf))) if len(found) else 0
    keep = sorted({*range(0, len(found), max(1, math.ceil(len(found) / most))), len(found) - 1, low})
    lowest = keep.index(low) if found["mean"].notna().any() else None
    found = found.iloc[keep] if len(found) else found
    numbers = (digits(found[c]) for c in ("mean", "min", "max"))
    return {
        "x": [int(x) for x in found.index],
        **dict(zip(("y", "low", "high"), numbers, strict=True)),
    }, lowest


def panel(
    title: str,
    x: str,
    lines: Sequence[Chart],
    *,
    loss: bool = False,
    log: bool = False,
    limits: Sequence[float] | None = None,
) -> Chart:
    """Return one set of axes with its lines.

    Args:
        title: What is drawn.
        x: Over what.
        lines: As :func:`spread` returns them, with ``name`` and ``series``.
        loss: The scale is logarithmic where the values fall by far.
        log: The scale is logarithmic; all values are positive.
        limits: What is beyond is cut off.
    """
    if loss or log:
        flat = [y for line in lines for y in line["y"] if y is not None]
        ends = [y for line in lines for end in ("low", "high") for y in line.get(end, []) if y is not None]
        log = log or (min([*flat, *ends]) > 0 and max(flat) / min(flat) >= _DECADES)
    xs = [x for line in lines for x in line["x"]]
    room = 0.02 * (max(xs) - min(xs)) or 1.0  # for the dots at the ends
    span = [min(xs) - room, max(xs) + room]
    found = {"title": title, "x": x, "lines": list(lines), "log": log, "limits": limits, "span": span}
    if log:
        found["ticks"] = decades(min([*flat, *ends]), max([*flat, *ends]))
    if all(isinstance(x, int) for x in xs):  # between two epochs there is nothing
        found["whole"] = [min(xs), max(xs)]
    return found


def functions(names: Sequence[str], curves: pd.DataFrame) -> tuple[list[Chart], dict[str, str]]:
    """Return panels of f, f' and f'' of what the catalogue has and of formulas, and why another has none.

    Args:
        names: Specs, in the order of their colours. Modules of a person's own are not imported.
        curves: Those of them, as in :attr:`actlab.Comparison.curves`.
    """
    drawn, kept, missing = [], [], {}
    for series, name in enumerate(names):
        try:
            drawn.append((series, name, *drawable(name)))
        except UsageError as error:
            own = curve(name, curves)
            if len(own):
                kept.append((series, name, own))
            else:
                missing[name] = str(error)
    if not drawn and not kept:
        return [], missing
    reaches = [reach for *_, reach in drawn] or [own["x"].max() for *_, own in kept]
    reach = min(max(reaches), 10.0)
    x = torch.linspace(-reach, reach, 241, dtype=torch.float64)
    lines: list[list[Chart]] = [[], [], []]
    for series, name, module, _ in drawn:
        for order, y in enumerate(derivatives(module, x)):
            lines[order].append({"name": name, "series": series, "x": digits(x), "y": digits(y)})
    for series, name, own in kept:
        for order, column in enumerate(("f", "f1", "f2")):
            lines[order].append(
                {"name": name, "series": series, "x": digits(own["x"]), "y": digits(own[column])}
            )
    titles = ("f(x), the function", "f′(x), its derivative", "f″(x), its second derivative")
    limits = ([-reach, reach], [-2.0, 3.0], [-2.0, 3.0])
    return [
        panel(title, "x", some, limits=_within(some, most))
        for title, some, most in zip(titles, lines, limits, strict=True)
    ], missing


def curve(name: str, curves: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of an activation in :attr:`actlab.Comparison.curves`; none where none were kept."""
    return curves[curves["activation"] == name] if set(curves) >= _CURVE else curves[:0]


def drawable(spec: str) -> tuple[torch.nn.Module, float]:
    """Return the module of a spec, in double precision, and how far from 0 it is worth drawing.

    Raises:
        UsageError: It is none of the catalogue and no formula, or not a function of one number.
    """
    name, _, _ = parse(spec)
    if is_imported(name):
        raise UsageError("it is a module of your own of which none was kept")
    if name not in catalogue and not is_formula(name):
        raise UsageError("not in the catalogue")
    definition = entry(name)
    if definition.facts.gated:
        raise UsageError("it takes two halves of a tensor")
    return get(spec).double().eval(), window(definition)[1]


def _within(lines: Sequence[Chart], most: Sequence[float]) -> list[float]:
    flat = [y for line in lines for y in line["y"] if y is not None]
    low, high = max(min(flat, default=0), most[0]), min(max(flat, default=1), most[1])
    room = 0.06 * (high - low) or 1.0
    return [low - room, high + room]


def bars(rows: Sequence[tuple[str, int, float]], unit: str, axis: str) -> Chart:
    """Return horizontal bars of name, series and value.

    Args:
        rows: The bars.
        unit: Of the values.
        axis: What they are.
    """
    shown = [{"name": name, "series": series, "value": value} for name, series, value in rows]
    return {"kind": "bars", "rows": shown, "unit": unit, "axis": axis}

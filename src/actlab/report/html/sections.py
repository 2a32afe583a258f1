"""The figures of a report: for each its numbers, its drawings, its legend and what it shows in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from actlab.report.html import charts, svg, tables

Figure = dict[str, Any]

_SHOWN = 8  # activations in one set of axes at first; the legend shows and hides


def forest(names: Sequence[str], found: Any, about: Mapping[str, Any], of: charts.Labels, top: str) -> Figure:
    """Return the differences to the first of ``names``; ``top`` says how it stands in the ranking."""
    if not any(one["value"] is not None for one in found.values()):
        return {"chart": None}
    points = bool(about.get("points"))
    chart = charts.forest(names, found, float(about.get("region", math.nan)), 100.0 if points else 1.0)
    if top != "the first":
        chart["rows"][0]["word"] = "none"
    said = [_beside(found.get(name), points) if place else top for place, name in enumerate(names)]
    unit = f"difference of {about.get('metric', 'score')} to {of[names[0]]}" + (
        ", in points" if points else ""
    )
    alt = f"Forest plot: {unit}. " + "; ".join(
        f"{of[name]} {text}" for name, text in list(zip(names, said, strict=True))[:20]
    )
    beyond = any(abs(row["value"] or 0) > chart["limit"] for row in chart["rows"])
    chart |= {"beyond": beyond, "said": said, "unit": unit, "alt": alt}
    return {"chart": chart, "svgs": [svg.forest_svg(chart, of, alt, said, unit)]}


def _beside(one: Any, points: bool) -> str:
    if one is None or one["value"] is None:
        return "no verdict"
    return tables.interval(one, points)


def panels(made: list[charts.Chart], about: str, of: charts.Labels) -> Figure:
    """Return panels with one legend.

    Args:
        made: What :func:`actlab.report.html.charts.panel` returns.
        about: What a line is, in words.
        of: Short labels by name.
    """
    if not made:
        return {"chart": None}
    drawn = []
    for panel in made:
        series = [line["name"] for line in panel["lines"]]
        panel["alt"] = f"{panel['title']} by {panel['x']}: {about}: {', '.join(of[n] for n in series[:20])}"
        few = {
            **panel,
            "lines": [line for line in panel["lines"] if line["series"] < _SHOWN] or panel["lines"][:_SHOWN],
        }
        drawn.append(svg.panel_svg(few, panel["alt"]))
    shown = {line["name"]: line["series"] for panel in made for line in panel["lines"]}
    legend = sorted(shown.items(), key=lambda item: item[1])
    chart = {"kind": "panels", "panels": made, "shown": _SHOWN}
    return {"chart": chart, "svgs": drawn, "legend": legend}


def learning(history: pd.DataFrame, names: Sequence[str], of: charts.Labels) -> Figure:
    """Return the learning curves of all activations."""
    about = "mean over the runs of each activation, with the band from the lowest to the highest"
    return panels(charts.learning(history, names), about, of)


def each(history: pd.DataFrame, names: Sequence[str], of: charts.Labels) -> list[tuple[str, str]]:
    """Return the losses of each activation by itself: its name and a drawing."""
    made = charts.each_learning(history, names, of)
    alt = "training loss (solid) and validation loss (dashed) by epoch; a dot where validation loss is lowest"
    return [(name, svg.panel_svg(panel, f"{of[name]}: {alt}", 300, 200)) for name, panel in made.items()]


def functions(names: Sequence[str], curves: pd.DataFrame, of: charts.Labels) -> Figure:
    """Return the curves of the activations, and why some have none."""
    made, missing = charts.functions(names, curves)
    return {**panels(made, "one line for each activation", of), "missing": missing}


def seconds(results: pd.DataFrame, names: Sequence[str], of: charts.Labels) -> Figure:
    """Return what a run of each activation took, mean."""
    return _bars(tables.means(results, "seconds"), names, of, "s", "seconds of a run")


def kept(results: pd.DataFrame, names: Sequence[str], of: charts.Labels) -> Figure:
    """Return what a training step with each activation keeps for its backward pass, mean."""
    found = tables.means(results, "saved_bytes")
    unit, size = tables.memory_unit(found)
    return _bars(found / size, names, of, unit, f"{unit} that a step keeps for its backward pass")


def _bars(found: pd.Series[Any], names: Sequence[str], of: charts.Labels, unit: str, axis: str) -> Figure:
    rows = [(name, i, float(found[name])) for i, name in enumerate(names) if name in found]
    if not rows:
        return {"chart": None}
    alt = f"{axis[0].upper()}{axis[1:]}: " + ", ".join(f"{of[name]} {value:.3g}" for name, _, value in rows)
    chart = {**charts.bars(rows, unit, axis), "alt": alt}
    return {"chart": chart, "svgs": [svg.bars_svg(chart, of, alt)]}

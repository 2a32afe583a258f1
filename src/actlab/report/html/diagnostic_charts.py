"""The diagnostics of a comparison as charts and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from actlab.report.charts import Labels, Line, Panel, mean_line, points_per_line
from actlab.report.html.heatmap import HISTOGRAMS, draw_heatmap, histogram_quantiles
from actlab.report.html.tables import Table, format_cell, format_figures, numeric

LAYERS = (
    4  # layers of an activation that have panels; of a deeper network the first, the last and two between
)
HEATMAP_LAYERS = 3
HEATMAP_ACTIVATIONS = 8
_REQUIRED = {"activation", "epoch", "part", "layer"}
_SHARES = {"dead": "dead units", "saturated": "saturated values"}
_RUN = ("activation", "split", "fold", "seed")
_MAX_ROWS = 300  # a larger table has only as many layers of each activation as there are panels
_MAX_POINTS = 1500  # of all lines in a panel; there are many panels


def rows_of(diagnostics: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the rows of a part, ``"activation"`` or ``"weights"``, that have an epoch and a layer."""
    if not set(diagnostics) >= _REQUIRED:
        return pd.DataFrame(columns=sorted(_REQUIRED))
    rows = diagnostics[diagnostics["part"] == part]
    rows = rows.assign(epoch=numeric(rows, "epoch"), layer=numeric(rows, "layer"))
    return rows.dropna(subset=["epoch", "layer"]).astype({"epoch": int, "layer": int})


def last_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each run's last epoch with diagnostics."""
    run = [name for name in _RUN if name in rows]
    return rows[rows["epoch"] == rows.groupby(run, dropna=False)["epoch"].transform("max")]


def some_layers(layers: Sequence[int], count: int) -> list[int]:
    """Return the first layer, the last and some between.

    Examples:
        >>> some_layers([1, 2, 3], 4), some_layers(range(1, 31), 4), some_layers(range(1, 31), 3)
        ([1, 2, 3], [1, 11, 20, 30], [1, 16, 30])
    """
    places = np.linspace(0, len(layers) - 1, min(count, len(layers)))
    return [layers[math.floor(place + 0.5)] for place in places]


# -- panels ---------------------------------------------------------------------------------------


def unit_panels(diagnostics: pd.DataFrame, names: Sequence[str]) -> list[Panel]:
    """Return panels of dead units and saturated values by epoch, one for each of some layers."""
    rows = rows_of(diagnostics, "activation")
    panels = []
    for column, title in _SHARES.items():
        share = 100 * numeric(rows, column)
        layers = some_layers(sorted(rows["layer"][share.notna()].unique()), LAYERS)
        top = 1.06 * max(5.0, share.max()) if layers else 0.0  # the same for all layers
        for layer in layers:
            own = rows[rows["layer"] == layer]
            lines = _mean_lines(own.assign(value=share), "epoch", names)
            panels.append(Panel(f"{title}, layer {layer}, %", "epoch", lines, limits=(-0.05 * top, top)))
    return panels


def gradient_panels(diagnostics: pd.DataFrame, names: Sequence[str]) -> list[Panel]:
    """Return panels of weight gradients: the ratio of first to last layer by epoch, and the last by layer."""
    rows = rows_of(diagnostics, "weights")
    last = last_epochs(rows)
    by_epoch = first_to_last_ratio(rows).rename(columns={"ratio": "value"})
    by_layer = last.assign(value=numeric(last, "gradient"))
    charts = [
        ("gradient of the first layer's weights ÷ the last's", "epoch", by_epoch),
        ("gradient of a weight, last epoch", "layer", by_layer),
    ]
    lines = [_mean_lines(values, x, names, log=True) for _, x, values in charts]
    return [Panel(title, x, own, log=True) for (title, x, _), own in zip(charts, lines, strict=True) if own]


def first_to_last_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of the first layer's gradient to the last layer's, by run and epoch.

    Args:
        rows: Rows of weights. Networks of one layer, and gradients of 0, have no ratio.
    """
    run = [name for name in (*_RUN, "epoch") if name in rows]
    rows = rows.assign(gradient=numeric(rows, "gradient")).sort_values("layer", kind="stable")
    groups = rows.groupby(run, dropna=False, sort=False)
    # The group's first() and last() would skip a layer whose gradient is missing.
    first, last = (groups.nth(place).set_index(run) for place in (0, -1))
    ratio = (first["gradient"] / last["gradient"])[first["layer"] < last["layer"]]
    frame = pd.DataFrame(ratio.rename("ratio").reset_index())
    return pd.DataFrame(frame[np.isfinite(frame["ratio"]) & (frame["ratio"] > 0)])


def _mean_lines(rows: pd.DataFrame, x: str, names: Sequence[str], *, log: bool = False) -> list[Line]:
    count = points_per_line(len(names), 100, _MAX_POINTS)
    lines = []
    for series, name in enumerate(names):
        own = rows[rows["activation"] == name]
        if line := mean_line(name, series, own["value"], own[x], count, log=log, mark_lowest=False):
            lines.append(line)
    return lines


# -- heat maps ------------------------------------------------------------------------------------


def heatmaps(
    diagnostics: pd.DataFrame, names: Sequence[str], labels: Labels
) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """Return drawings of the histograms of outputs and gradients.

    Returns:
        By activation, the title and the drawing of each heat map; and a sentence on what is not drawn.
    """
    rows = rows_of(diagnostics, "activation")
    columns = [kind for kind in HISTOGRAMS if kind in rows]
    rows = rows[rows[columns].notna().any(axis=1)] if columns else rows[:0]
    groups = {str(name): own for name, own in rows.groupby("activation", sort=False)}
    available = [name for name in names if name in groups]
    drawn, all_layers = {}, True
    for name in available[:HEATMAP_ACTIVATIONS]:
        layers = sorted(groups[name]["layer"].unique())
        chosen = some_layers(layers, HEATMAP_LAYERS)
        all_layers &= len(chosen) == len(layers)
        maps = []
        for kind, title in HISTOGRAMS.items():
            for layer in chosen:
                own = groups[name][groups[name]["layer"] == layer]
                drawing = draw_heatmap(own, kind, f"{labels[name]}, layer {layer}", names.index(name))
                maps.append((f"{title}, layer {layer}", drawing))
        drawn[name] = [(title, drawing) for title, drawing in maps if drawing]
    only = []
    if len(available) > HEATMAP_ACTIVATIONS:
        only.append(f"the first {HEATMAP_ACTIVATIONS} of {len(available)} activations")
    if not all_layers:
        only.append("the first, the middle and the last layer")
    return drawn, f"Only {' and '.join(only)} are drawn." if only else ""


# -- tables ---------------------------------------------------------------------------------------


def units_table(diagnostics: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return each activation layer in the last epoch with diagnostics, means over the runs."""
    rows = last_epochs(rows_of(diagnostics, "activation"))
    cells = []
    for name, layer, own in _by_layer(rows, names):
        units = numeric(own, "units").mean()
        shares = (100 * numeric(own, column).mean() for column in ("dead", "saturated", "grad_zero"))
        size = format_cell(int(units)) if units == units else "–"
        row = [name, str(layer), _layer_name(own), size, *map(format_figures, shares)]
        cells.append([*row, _median_gradient(own)])
    columns = [("activation", False), ("layer", True), ("name", False), ("units", True)]
    columns += [("dead units, %", True), ("saturated values, %", True), ("gradients of exactly 0, %", True)]
    return None if rows.empty else Table([*columns, ("median gradient", True)], cells)


def weights_table(diagnostics: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return the gradient of each layer's weights in the last epoch with diagnostics, as geometric means."""
    rows = last_epochs(rows_of(diagnostics, "weights"))
    cells = []
    for name, layer, own in _by_layer(rows, names):
        gradient = numeric(own, "gradient")
        mean = float(np.exp(np.log(gradient.where(gradient > 0)).mean()))
        cells.append([name, str(layer), _layer_name(own), format_figures(mean)])
    columns = [("activation", False), ("layer", True), ("name", False), ("gradient of a weight", True)]
    return None if rows.empty else Table(columns, cells)


def omits_layers(diagnostics: pd.DataFrame, table: Table | None, part: str) -> bool:
    """Return whether a table of a part has fewer layers than the diagnostics."""
    rows = rows_of(diagnostics, part)
    return table is not None and len(table.rows) < len(rows[["activation", "layer"]].drop_duplicates())


def _by_layer(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, int, pd.DataFrame]]:
    """Return the rows of each activation and layer; only some layers if there are too many."""
    groups: dict[Any, Any] = rows.groupby(["activation", "layer"]).indices
    layers = {name: [layer for other, layer in groups if other == name] for name in names}
    if sum(map(len, layers.values())) > _MAX_ROWS:
        layers = {name: some_layers(own, LAYERS) for name, own in layers.items() if own}
    return [(name, layer, rows.iloc[groups[name, layer]]) for name in layers for layer in layers[name]]


def _layer_name(rows: pd.DataFrame) -> str:
    return format_cell(rows["name"].iloc[0]) if "name" in rows else "–"


def _median_gradient(rows: pd.DataFrame) -> str:
    median = histogram_quantiles(rows, "gradients", [0.5])
    return "–" if median is None else f"{10 ** median[0]:.1e}".replace("-", "−")

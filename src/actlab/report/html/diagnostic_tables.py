"""The diagnostics of a comparison as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from actlab.report.diagnostic_panels import (
    LAYERS,
    choose_layers,
    read_percentiles,
    select_last_epochs,
    select_rows,
)
from actlab.report.html.tables import Table, format_cell, format_figures
from actlab.report.tables import to_numeric


def make_units_table(diagnostics: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return each activation layer in the last epoch with diagnostics, means over the runs."""
    rows = select_last_epochs(select_rows(diagnostics, "activation"))
    cells = []
    for name, layer, own in _group_by_layer(rows, names):
        units = to_numeric(own, "units").mean()
        shares = (100 * to_numeric(own, column).mean() for column in ("dead", "saturated", "grad_zero"))
        size = format_cell(int(units)) if units == units else "–"
        row = [name, str(layer), _get_layer_name(own), size, *map(format_figures, shares)]
        cells.append([*row, _format_median_gradient(own)])
    columns = [("activation", False), ("layer", True), ("name", False), ("units", True)]
    columns += [("dead units, %", True), ("saturated values, %", True), ("gradients of exactly 0, %", True)]
    return None if rows.empty else Table([*columns, ("median gradient", True)], cells)


def make_weights_table(diagnostics: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return the gradient of each layer's weights in the last epoch with diagnostics, as geometric means."""
    rows = select_last_epochs(select_rows(diagnostics, "weights"))
    cells = []
    for name, layer, own in _group_by_layer(rows, names):
        gradient = to_numeric(own, "gradient")
        mean = float(np.exp(np.log(gradient.where(gradient > 0)).mean()))
        cells.append([name, str(layer), _get_layer_name(own), format_figures(mean)])
    columns = [("activation", False), ("layer", True), ("name", False), ("gradient of a weight", True)]
    return None if rows.empty else Table(columns, cells)


def _group_by_layer(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, int, pd.DataFrame]]:
    """Return the rows of each activation and layer."""
    groups = {str(name): own for name, own in rows.groupby("activation", sort=False)}
    return [
        (name, layer, groups[name][groups[name]["layer"] == layer])
        for name in names
        if name in groups
        for layer in choose_layers(sorted(groups[name]["layer"].unique()), LAYERS)
    ]


def _get_layer_name(rows: pd.DataFrame) -> str:
    return format_cell(rows["name"].iloc[0]) if "name" in rows else "–"


def _format_median_gradient(rows: pd.DataFrame) -> str:
    median = read_percentiles(rows, "gradients")["median"].mean()
    return "–" if math.isnan(median) else f"{10**median:.1e}".replace("-", "−")

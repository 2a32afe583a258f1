"""The diagnostics of a comparison as panels: dead units, gradients and distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from actlab.report.panels import Line, Panel, choose_point_count, make_mean_line, round_values
from actlab.report.tables import to_numeric

LAYERS = 4  # of a deeper network, charts and tables have the first layer, the last and two between
_PERCENTILES = {"low": 0.05, "median": 0.5, "high": 0.95}
# Title, columns of the ends, and the largest size of an end that a chart can show.
_HISTOGRAMS = {
    "values": ("outputs", "low", "high", 1e300),
    "gradients": ("gradients", "grad_low", "grad_high", 300.0),
}
_REQUIRED = {"activation", "epoch", "part", "layer"}
_SHARES = {"dead": "dead units", "saturated": "saturated values"}
_RUN = ("activation", "split", "fold", "seed")
_MAX_POINTS = 1500  # of all lines in a panel; there are many panels


def select_rows(diagnostics: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the rows of a part, ``"activation"`` or ``"weights"``, that have an epoch and a layer."""
    if not set(diagnostics) >= _REQUIRED:
        return pd.DataFrame(columns=sorted(_REQUIRED))
    rows = diagnostics[diagnostics["part"] == part]
    rows = rows.assign(epoch=to_numeric(rows, "epoch"), layer=to_numeric(rows, "layer"))
    return rows.dropna(subset=["epoch", "layer"]).astype({"epoch": int, "layer": int})


def select_last_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each run's last epoch with diagnostics."""
    run = [name for name in _RUN if name in rows]
    return rows[rows["epoch"] == rows.groupby(run, dropna=False)["epoch"].transform("max")]


def choose_layers(layers: Sequence[int], count: int) -> list[int]:
    """Return the first layer, the last one and some in between.

    Examples:
        >>> choose_layers([1, 2, 3], 4), choose_layers(range(1, 31), 4), choose_layers(range(1, 31), 3)
        ([1, 2, 3], [1, 11, 20, 30], [1, 16, 30])
    """
    positions = np.linspace(0, len(layers) - 1, min(count, len(layers)))
    return [layers[math.floor(position + 0.5)] for position in positions]


# -- panels ---------------------------------------------------------------------------------------


def make_unit_panels(diagnostics: pd.DataFrame, names: Sequence[str]) -> list[Panel]:
    """Return panels of dead units and saturated values by epoch, one for each of some layers."""
    rows = select_rows(diagnostics, "activation")
    panels = []
    for column, title in _SHARES.items():
        share = 100 * to_numeric(rows, column)
        layers = choose_layers(sorted(rows["layer"][share.notna()].unique()), LAYERS)
        top = 1.06 * max(5.0, share.max()) if layers else 0.0  # the same for all layers
        for layer in layers:
            own = rows[rows["layer"] == layer]
            lines = _make_mean_lines(own.assign(value=share), "epoch", names)
            panels.append(Panel(f"{title}, layer {layer}, %", "epoch", lines, limits=(-0.05 * top, top)))
    return panels


def make_gradient_panels(diagnostics: pd.DataFrame, names: Sequence[str]) -> list[Panel]:
    """Return panels of weight gradients: first over last layer by epoch, and in the last epoch by layer."""
    rows = select_rows(diagnostics, "weights")
    last = select_last_epochs(rows)
    by_epoch = compute_gradient_ratio(rows).rename(columns={"ratio": "value"})
    by_layer = last.assign(value=to_numeric(last, "gradient"))
    charts = [
        ("gradient of the first layer's weights ÷ the last's", "epoch", by_epoch),
        ("gradient of a weight, last epoch", "layer", by_layer),
    ]
    lines = [_make_mean_lines(values, x, names, log=True) for _, x, values in charts]
    return [Panel(title, x, own, log=True) for (title, x, _), own in zip(charts, lines, strict=True) if own]


def compute_gradient_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of the first layer's gradient to the last layer's, by run and epoch.

    Args:
        rows: Rows of weights. Networks of one layer, and gradients of 0, have no ratio.
    """
    run = [name for name in (*_RUN, "epoch") if name in rows]
    rows = rows.assign(gradient=to_numeric(rows, "gradient")).sort_values("layer", kind="stable")
    groups = rows.groupby(run, dropna=False, sort=False)
    # The group's first() and last() would skip a layer whose gradient is missing.
    first, last = (groups.nth(position).set_index(run) for position in (0, -1))
    ratio = (first["gradient"] / last["gradient"])[first["layer"] < last["layer"]]
    frame = pd.DataFrame(ratio.rename("ratio").reset_index())
    return pd.DataFrame(frame[np.isfinite(frame["ratio"]) & (frame["ratio"] > 0)])


def _make_mean_lines(rows: pd.DataFrame, x: str, names: Sequence[str], *, log: bool = False) -> list[Line]:
    count = choose_point_count(len(names), 100, _MAX_POINTS)
    lines = []
    for series, name in enumerate(names):
        own = rows[rows["activation"] == name]
        if line := make_mean_line(name, series, own["value"], own[x], count, log=log):
            lines.append(line)
    return lines


# -- distributions --------------------------------------------------------------------------------


def make_distribution_panels(diagnostics: pd.DataFrame, names: Sequence[str]) -> list[Panel]:
    """Return panels of outputs and gradients by epoch: the median, and the 5th to the 95th percentile."""
    rows = select_rows(diagnostics, "activation")
    panels = []
    for kind, (title, *_) in _HISTOGRAMS.items():
        values = rows[["activation", "layer", "epoch"]].join(read_percentiles(rows, kind))
        values = values.dropna(subset="median")
        means = values.groupby(["activation", "layer", "epoch"]).mean().reset_index("epoch")
        step = math.ceil(values["epoch"].nunique() / choose_point_count(len(names), 100, _MAX_POINTS))
        for layer in choose_layers(sorted(values["layer"].unique()), LAYERS):
            lines = [
                _make_distribution_line(
                    name, series, means.loc[[(name, layer)]], step, log=kind == "gradients"
                )
                for series, name in enumerate(names)
                if (name, layer) in means.index
            ]
            panels.append(Panel(f"{title}, layer {layer}", "epoch", lines, log=kind == "gradients"))
    return panels


def _make_distribution_line(name: str, series: int, means: pd.DataFrame, step: int, *, log: bool) -> Line:
    means = means[::step]
    low, median, high = (
        round_values(10.0 ** means[column] if log else means[column]) for column in _PERCENTILES
    )
    return Line(name, series, [int(epoch) for epoch in means["epoch"]], median, low, high)


def read_percentiles(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return percentiles of the histogram in each row; a row without a valid histogram has NaN.

    Args:
        rows: Diagnostics of activation layers.
        kind: ``"values"``, or ``"gradients"`` for decimal logarithms of the sizes of the gradients.

    Returns:
        The columns ``low``, ``median`` and ``high``: the 5th, 50th and 95th percentile.

    Examples:
        >>> read_percentiles(pd.DataFrame({"values": ["1 1"], "low": [0.0], "high": [2.0]}), "values")
           low  median  high
        0  0.1     1.0   1.9
    """
    _, *ends, largest = _HISTOGRAMS[kind]
    low, high = (to_numeric(rows, str(end)) for end in ends)
    low, high = low.where(low.abs() < largest), high.where(high.abs() < largest)
    texts = rows[kind] if kind in rows else pd.Series("", index=rows.index)
    percentiles = [_interpolate(*row) for row in zip(texts, low, high, strict=True)]
    return pd.DataFrame(percentiles, columns=list(_PERCENTILES), index=rows.index, dtype=float)


def _interpolate(text: Any, low: float, high: float) -> list[float]:
    try:
        counts = np.array(str(text).split(), np.float64)
    except ValueError:
        counts = np.zeros(1)
    if not (low <= high and np.isfinite(counts).all() and (counts >= 0).all() and counts.sum() > 0):
        return [math.nan] * len(_PERCENTILES)
    below = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    edges = np.linspace(low, high, len(below))
    return [float(np.interp(share, below, edges)) for share in _PERCENTILES.values()]


def has_deep_networks(diagnostics: pd.DataFrame) -> bool:
    """Return whether some network has more layers than charts and tables show."""
    if not set(diagnostics) >= _REQUIRED:
        return False
    return bool(diagnostics.groupby(["activation", "part"])["layer"].nunique().max() > LAYERS)

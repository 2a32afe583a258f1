"""The diagnostics of a comparison as charts and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from actlab.report.html.charts import Chart, Labels, panel, spread
from actlab.report.html.heatmap import HEATS, layer_heat, quantiles
from actlab.report.html.tables import Table, rounded, show

LAYERS = 4  # of activations that have panels; of a deeper net the first, the last and two between
HEAT_LAYERS = 3  # that have histograms
HEAT_NAMES = 8  # activations that have histograms
_NEEDED = {"activation", "epoch", "part", "layer"}
_UNITS = {"dead": "dead units", "saturated": "saturated values"}
_RUN = ("activation", "split", "fold", "seed")
_ROWS = 300  # of a table; with more, of each activation only as many layers as have panels
_POINTS = 1500  # of all lines in one set of axes, and 100 of one, at most: such axes are many


def looks(diagnostics: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the rows of one part, ``"activation"`` or ``"weights"``, whose epoch and layer are known."""
    if not set(diagnostics) >= _NEEDED:
        return pd.DataFrame(columns=sorted(_NEEDED))
    found = diagnostics[diagnostics["part"] == part].copy()
    for column in ("epoch", "layer"):
        found[column] = pd.to_numeric(found[column], errors="coerce").replace([math.inf, -math.inf], math.nan)
    return found.dropna(subset=["epoch", "layer"]).astype({"epoch": int, "layer": int})


def last_looks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each run's last look."""
    run = [name for name in _RUN if name in rows]
    return rows[rows["epoch"] == rows.groupby(run, dropna=False)["epoch"].transform("max")]


def number(rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return a column as finite numbers, NaN where there are none."""
    if column not in rows:
        return pd.Series(math.nan, index=rows.index)
    return pd.to_numeric(rows[column], errors="coerce").replace([math.inf, -math.inf], math.nan)


def some_layers(layers: Sequence[int], most: int) -> list[int]:
    """Return the first, the last and some between.

    Examples:
        >>> some_layers([1, 2, 3], 4), some_layers(range(1, 31), 4), some_layers(range(1, 31), 3)
        ([1, 2, 3], [1, 11, 20, 30], [1, 16, 30])
    """
    places = np.linspace(0, len(layers) - 1, min(most, len(layers)))
    return [layers[math.floor(place + 0.5)] for place in places]


def unit_panels(diagnostics: pd.DataFrame, names: Sequence[str]) -> list[Chart]:
    """Return panels of dead units and of saturation by epoch, one for each of some layers."""
    rows = looks(diagnostics, "activation")
    found = []
    for column, title in _UNITS.items():
        share = 100 * number(rows, column)
        layers = some_layers(sorted(rows["layer"][share.notna()].unique()), LAYERS)
        top = 1.06 * max(5.0, share.max()) if layers else 0.0  # the same of all layers, to be compared
        for layer in layers:
            lines = _lines(share[rows["layer"] == layer], rows["epoch"], rows["activation"], names)
            found.append(panel(f"{title}, layer {layer}, %", "epoch", lines, limits=[-0.05 * top, top]))
    return found


def gradient_panels(diagnostics: pd.DataFrame, names: Sequence[str]) -> list[Chart]:
    """Return panels of the weights' gradients: first layer to last by epoch, and all layers at the end."""
    rows, found = looks(diagnostics, "weights"), []
    ratio = first_to_last(rows)
    if len(ratio):
        lines = _lines(ratio["ratio"], ratio["epoch"], ratio["activation"], names, log=True)
        found.append(panel("gradient of the first layer's weights ÷ the last's", "epoch", lines, log=True))
    last = last_looks(rows)
    lines = _lines(number(last, "gradient"), last["layer"], last["activation"], names, log=True)
    if lines:
        found.append(panel("gradient of a weight, last look", "layer", lines, log=True))
    return found


def first_to_last(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of the first layer's gradient to the last layer's, for each run and look.

    Args:
        rows: Those of the weights. Nets of one layer, and gradients of 0, have no ratio.
    """
    run = [name for name in (*_RUN, "epoch") if name in rows]
    rows = rows.assign(gradient=number(rows, "gradient")).sort_values("layer", kind="stable")
    ends = rows.groupby(run, dropna=False, sort=False)
    # "first" and "last" would pass over a layer whose gradient is missing.
    first, last = (ends.nth(place).set_index(run) for place in (0, -1))
    ratio = (first["gradient"] / last["gradient"])[first["layer"] < last["layer"]]
    found = pd.DataFrame(ratio.rename("ratio").reset_index())
    return pd.DataFrame(found[np.isfinite(found["ratio"]) & (found["ratio"] > 0)])


def _lines(
    values: pd.Series[Any],
    at: pd.Series[Any],
    whose: pd.Series[Any],
    names: Sequence[str],
    *,
    log: bool = False,
) -> list[Chart]:
    lines, most = [], min(100, _POINTS // max(len(names), 1))
    for series, name in enumerate(names):
        own = values[whose == name]
        line, _ = spread(own, at[own.index], most, log=log)
        if any(y is not None for y in line["y"]):
            lines.append({"name": name, "series": series, **line})
    return lines


def heats(diagnostics: pd.DataFrame, names: Sequence[str], of: Labels) -> dict[str, Any]:
    """Return drawings of the histograms of outputs and gradients, and what is not drawn.

    Returns:
        ``rows``: an activation and its drawings, each with its title; ``left_out``, in words.
    """
    rows = looks(diagnostics, "activation")
    have = [name for name in names if _has(rows[rows["activation"] == name])]
    found, fewer = [], False
    for name in have[:HEAT_NAMES]:
        own = rows[rows["activation"] == name]
        layers = sorted(own["layer"][_with(own)].unique())
        chosen = some_layers(layers, HEAT_LAYERS)
        fewer |= len(chosen) < len(layers)
        drawn = [
            (
                f"{title}, layer {layer}",
                layer_heat(own[own["layer"] == layer], kind, of[name], layer, names.index(name)),
            )
            for kind, title in HEATS.items()
            for layer in chosen
        ]
        found.append((name, [(title, one) for title, one in drawn if one]))
    left = [f"the first {HEAT_NAMES} of {len(have)} activations"] if len(have) > HEAT_NAMES else []
    left += ["the first, the middle and the last layer"] if fewer else []
    return {"rows": found, "left_out": f"Only {' and '.join(left)} are drawn." if left else ""}


def _with(rows: pd.DataFrame) -> pd.Series[Any]:
    """Return which rows have a histogram."""
    columns = [kind for kind in HEATS if kind in rows]
    return rows[columns].notna().any(axis=1) if columns else pd.Series(False, index=rows.index)


def _has(rows: pd.DataFrame) -> bool:
    return bool(_with(rows).any())


def units_table(diagnostics: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return each activation layer at the last look, means over the runs."""
    rows = last_looks(looks(diagnostics, "activation"))
    if rows.empty:
        return None
    heads = [
        ("activation", False),
        ("layer", True),
        ("name", False),
        ("units", True),
        ("dead units, %", True),
    ]
    heads += [("saturated values, %", True), ("gradients of exactly 0, %", True), ("median gradient", True)]
    cells = []
    for name, layer, own in _by_layer(rows, names):
        shares = (100 * number(own, column).mean() for column in ("dead", "saturated", "grad_zero"))
        units = number(own, "units").mean()
        size = show(int(units)) if units == units else "–"
        cells.append([name, str(layer), _named(own), size, *map(rounded, shares), _middle(own)])
    return Table(heads, cells)


def weights_table(diagnostics: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return the gradient of each layer's weights at the last look, geometric means as in the chart."""
    rows = last_looks(looks(diagnostics, "weights"))
    if rows.empty:
        return None
    heads = [("activation", False), ("layer", True), ("name", False), ("gradient of a weight", True)]
    cells = [
        [name, str(layer), _named(own), rounded(_geometric(number(own, "gradient")))]
        for name, layer, own in _by_layer(rows, names)
    ]
    return Table(heads, cells)


def _geometric(values: pd.Series[Any]) -> float:
    return float(np.exp(np.log(values.where(values > 0)).mean()))


def left_out(diagnostics: pd.DataFrame, table: Table | None, part: str) -> bool:
    """Return whether a table of a part has fewer layers than there were looks into."""
    rows = looks(diagnostics, part)
    return table is not None and len(table.rows) < len(rows[["activation", "layer"]].drop_duplicates())


def _by_layer(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, int, pd.DataFrame]]:
    """Return the rows of each activation and layer, of deep nets with many activations some layers."""
    groups: dict[Any, Any] = rows.groupby(["activation", "layer"], sort=False).indices
    layers: dict[str, list[int]] = {name: [] for name in names}
    for name, layer in groups:
        if name in layers:
            layers[name].append(layer)
    if sum(map(len, layers.values())) > _ROWS:
        layers = {name: some_layers(sorted(all_of), LAYERS) for name, all_of in layers.items() if all_of}
    return [
        (name, layer, rows.iloc[groups[name, layer]])
        for name, some in layers.items()
        for layer in sorted(some)
    ]


def _named(rows: pd.DataFrame) -> str:
    return show(rows["name"].iloc[0]) if "name" in rows else "–"


def _middle(rows: pd.DataFrame) -> str:
    found = quantiles(rows, "gradients", [0.5])
    return "–" if found is None else f"{10 ** found[0]:.1e}".replace("-", "−")

"""Histograms over the epochs as small heat maps: one column per epoch, stronger colour for larger shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actlab.report.charts import linear_ticks, log_ticks
from actlab.report.html.svg import COLOURS, draw_text, format_number, picture

Floats = npt.NDArray[np.float64]
Histogram = tuple[Floats, Floats]  # edges (n + 1,) and the share of the values below each edge

HISTOGRAMS = {"values": "outputs", "gradients": "gradients"}  # columns of the diagnostics
LEVELS = 6  # of opacity
_ENDS = {"values": ("low", "high"), "gradients": ("grad_low", "grad_high")}
_LARGEST = {"values": 1e300, "gradients": 300.0}  # the latter is a decimal logarithm
_ROWS = 24
_MAX_COLUMNS = 40
_TAIL = 0.005  # share of an epoch's values, at either end, that may lie beyond the axis
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 200, 150, 44, 6, 32


def draw_heatmap(rows: pd.DataFrame, kind: str, label: str, series: int) -> str:
    """Draw the histograms of one layer with one activation, all runs together.

    Args:
        rows: Diagnostics of that layer.
        kind: ``"values"`` or ``"gradients"``.
        label: Name of activation and layer.
        series: Place of the activation in the ranking, for its colour.

    Returns:
        SVG; empty if there is no histogram.
    """
    all_epochs = sorted(set(rows["epoch"].to_list()))
    by_epoch = {epoch: _histograms(rows[rows["epoch"] == epoch], kind) for epoch in all_epochs}
    epochs = _evenly([epoch for epoch, histograms in by_epoch.items() if histograms], _MAX_COLUMNS)
    if not epochs:
        return ""
    grid = _grid([by_epoch[epoch] for epoch in epochs])
    shares = np.array([cell_shares(by_epoch[epoch], grid) for epoch in epochs])
    quartiles = []
    for epoch in dict.fromkeys((epochs[0], epochs[-1])):
        low, high = (_format(value, kind) for value in _quantiles(by_epoch[epoch], [0.25, 0.75]))
        quartiles.append(f"after epoch {epoch} half of them are between {low} and {high}")
    what = "sizes of the gradients that are not 0" if kind == "gradients" else "outputs"
    alt = f"{label}, {what}: {', '.join(quartiles)}"
    return picture(_WIDTH, _HEIGHT, alt, _parts(shares, grid, epochs, kind, series))


def _evenly(values: Sequence[int], count: int) -> list[int]:
    """Return the first, the last and evenly spaced values between."""
    places = np.linspace(0, len(values) - 1, min(count, len(values)))
    return [values[place] for place in sorted({math.floor(place + 0.5) for place in places})]


def histogram_quantiles(rows: pd.DataFrame, kind: str, at: Sequence[float]) -> Floats | None:
    """Return quantiles of all histograms together, None if there is none."""
    histograms = _histograms(rows, kind)
    return _quantiles(histograms, at) if histograms else None


def _histograms(rows: pd.DataFrame, kind: str) -> list[Histogram]:
    ends = _ENDS[kind]
    if not {kind, *ends} <= set(rows):
        return []
    bounds = [pd.to_numeric(rows[end], errors="coerce").astype(float) for end in ends]
    histograms = []
    for text, low, high in zip(rows[kind], *bounds, strict=True):
        counts = _parse_counts(text)
        if counts is not None and low <= high and max(abs(low), abs(high)) < _LARGEST[kind]:
            if low == high:  # all values are equal: draw a narrow bar
                low, high = low - 1e-6 * max(1.0, abs(low)), low + 1e-6 * max(1.0, abs(low))
            below = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
            histograms.append((np.linspace(low, high, len(below)), below))
    return histograms


def _parse_counts(text: Any) -> Floats | None:
    try:
        counts = np.array(str(text).split(), np.float64)
    except ValueError:
        return None
    return counts if np.isfinite(counts).all() and (counts >= 0).all() and counts.sum() > 0 else None


def cell_shares(histograms: Sequence[Histogram], grid: Floats) -> Floats:
    """Return the share of all values in each cell of a grid.

    Args:
        histograms: Histograms, each with edges of its own.
        grid: Edges (n + 1,).

    Returns:
        Shares (n,), without values beyond the grid.

    Examples:
        >>> edges, below = np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 1.0])
        >>> cell_shares([(edges, below), (edges + 1, below)], np.array([0.0, 1.0, 2.0, 3.0]))
        array([0.25, 0.5 , 0.25])
    """
    return np.diff(_share_below(histograms, grid))


def _share_below(histograms: Sequence[Histogram], at: Floats) -> Floats:
    return np.asarray(np.mean([np.interp(at, *histogram) for histogram in histograms], axis=0), np.float64)


def _quantiles(histograms: Sequence[Histogram], at: Sequence[float]) -> Floats:
    edges = np.unique(np.concatenate([edges for edges, _ in histograms]))
    return np.asarray(np.interp(at, _share_below(histograms, edges), edges), np.float64)


def _grid(epochs: Sequence[Sequence[Histogram]]) -> Floats:
    """Return edges of cells that hold nearly all values of every epoch."""
    ends = np.array([_quantiles(histograms, [_TAIL, 1 - _TAIL]) for histograms in epochs])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if high - low < 1e-5 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _ROWS + 1)


def _format(value: float, kind: str) -> str:
    return format_number(float(f"{10**value if kind == 'gradients' else value:.2g}"))


def _parts(shares: Floats, grid: Floats, epochs: Sequence[int], kind: str, series: int) -> list[str]:
    right, bottom = _WIDTH - 4, _HEIGHT - _BOTTOM
    low, high = float(grid[0]), float(grid[-1])
    column, row = (right - _LEFT) / len(epochs), (bottom - _TOP) / _ROWS
    parts = [f'<path class="heat-back" d="M{_LEFT} {_TOP}H{right}V{bottom}H{_LEFT}Z"/>']
    for tick, label in _y_ticks(low, high, kind):
        y = bottom - (tick - low) / (high - low) * (bottom - _TOP)
        parts.append(f'<path class="axis" d="M{_LEFT - 3} {y:.1f}h3"/>')
        parts.append(draw_text(_LEFT - 5, y + 4, label, "end"))
    for place in _evenly(range(len(epochs)), 4):
        parts.append(draw_text(_LEFT + column * (place + 0.5), bottom + 14, str(epochs[place]), "middle"))
    parts.append(draw_text((_LEFT + right) / 2, _HEIGHT - 3, "epoch", "middle"))
    cells = "".join(f'<path class="h{level}" d="{path}"/>' for level, path in cell_paths(shares).items())
    transform = f"translate({_LEFT} {bottom}) scale({column:.4g} {-row:.4g})"
    return [*parts, f'<g class="heat c{series % COLOURS}" transform="{transform}">{cells}</g>']


def _y_ticks(low: float, high: float, kind: str) -> list[tuple[float, str]]:
    if kind == "values":
        return [(y, format_number(y)) for y in linear_ticks(low, high, 4)]
    ticks = log_ticks(10**low, 10**high)
    return [(math.log10(y), format_number(y)) for y in ticks[:: 1 + (len(ticks) - 1) // 5]]


def cell_paths(shares: Floats) -> dict[int, str]:
    """Return the cells of each level of opacity as vertical strokes, one unit wide.

    Args:
        shares: Share of each epoch (columns,) in each row (rows,), from below.

    Returns:
        Path by level, from 1. Levels follow the root of the share, so that a peak does not hide the rest.

    Examples:
        >>> cell_paths(np.array([[0.9, 0.9, 0.0], [0.0, 0.1, 0.9]]))
        {6: 'M.5 0v2M1.5 2v1', 2: 'M1.5 1v1'}
    """
    levels = np.ceil(LEVELS * np.sqrt(shares / (shares.max() or 1.0)) - 1e-9).astype(int)
    levels[shares < 5e-4] = 0
    paths: dict[int, str] = {}
    for x, column in enumerate(levels.tolist()):
        y = 0
        for level, run in groupby(column):
            length = len(list(run))
            if level:
                paths[level] = paths.get(level, "") + f"M{f'{x}.5'.lstrip('0')} {y}v{length}"
            y += length
    return paths

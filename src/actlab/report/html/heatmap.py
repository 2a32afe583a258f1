"""Histograms over the epochs as small maps in SVG: a column a look, the stronger its colour the more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actlab.report.html.charts import decades
from actlab.report.html.svg import COLOURS, number, picture, text, ticks

Floats = npt.NDArray[np.float64]

HEATS = {"values": "outputs", "gradients": "gradients"}  # columns of the looks that are histograms
LEVELS = 6  # of opacity
_ENDS = {"values": ("low", "high"), "gradients": ("grad_low", "grad_high")}
_MOST = {"values": 1e300, "gradients": 300.0}  # beyond, numbers end
_ROWS = 24
_COLUMNS = 40  # looks, at most
_TAIL = 0.005  # of a look's values, at either end, need not be within the axis
_WIDE, _HIGH, _LEFT, _TOP, _BOTTOM = 200, 150, 44, 6, 32


def layer_heat(rows: pd.DataFrame, kind: str, label: str, layer: int, series: int) -> str:
    """Draw the histograms of one layer with one activation, all runs together; empty where there are none.

    Args:
        rows: The looks into that layer.
        kind: ``"values"`` or ``"gradients"``.
        label: The activation's.
        layer: For its description in words.
        series: For its colour.
    """
    each = (
        (epoch, _histograms(rows[rows["epoch"] == epoch], kind)) for epoch in set(rows["epoch"].to_list())
    )
    found = {epoch: one for epoch, one in each if one}
    epochs = sorted(found)
    if not epochs:
        return ""
    places = sorted(
        {math.floor(x + 0.5) for x in np.linspace(0, len(epochs) - 1, min(_COLUMNS, len(epochs)))}
    )
    epochs = [epochs[place] for place in places]
    grid = _grid([found[epoch] for epoch in epochs])
    shares = np.array([shared(found[epoch], grid) for epoch in epochs])
    return _draw(shares, grid, epochs, kind, series, _alt(rows, kind, epochs, f"{label}, layer {layer}"))


def quantiles(rows: pd.DataFrame, kind: str, at: Sequence[float]) -> Floats | None:
    """Return quantiles of all histograms together, None where there is none."""
    found = _histograms(rows, kind)
    return _quantiles(found, at) if found else None


Histogram = tuple[Floats, Floats]  # edges (n + 1,) and the share below each


def _histograms(rows: pd.DataFrame, kind: str) -> list[Histogram]:
    ends = _ENDS[kind]
    if not {kind, *ends} <= set(rows):
        return []
    bounds = [pd.to_numeric(rows[end], errors="coerce").astype(float) for end in ends]
    found = []
    for words, low, high in zip(rows[kind], *bounds, strict=True):
        counts = _counts(words)
        if counts is not None and low <= high and max(abs(low), abs(high)) < _MOST[kind]:
            if low == high:  # all values are one: a narrow bar about it
                low, high = low - 1e-6 * max(1.0, abs(low)), low + 1e-6 * max(1.0, abs(low))
            below = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
            found.append((np.linspace(low, high, len(below)), below))
    return found


def _counts(words: Any) -> Floats | None:
    """Return the parts of a histogram as it is written; None where it is none."""
    try:
        counts = np.array(str(words).split(), np.float64)
    except ValueError:
        return None
    return counts if np.isfinite(counts).all() and (counts >= 0).all() and counts.sum() > 0 else None


def shared(found: Sequence[Histogram], grid: Floats) -> Floats:
    """Return the share of all values in each cell of a grid, by way of the shares below its edges.

    Args:
        found: Histograms: edges and the share below each.
        grid: Edges (n + 1,).

    Returns:
        Shares (n,); what is beyond the grid is in none of them.

    Examples:
        >>> edges, below = np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 1.0])
        >>> shared([(edges, below), (edges + 1, below)], np.array([0.0, 1.0, 2.0, 3.0]))
        array([0.25, 0.5 , 0.25])
    """
    return np.diff(_below(found, grid))


def _below(found: Sequence[Histogram], at: Floats) -> Floats:
    below = [np.interp(at, edges, shares) for edges, shares in found]
    return np.asarray(np.mean(below, axis=0), np.float64)


def _quantiles(found: Sequence[Histogram], at: Sequence[float]) -> Floats:
    edges = np.unique(np.concatenate([edges for edges, _ in found]))
    return np.asarray(np.interp(at, _below(found, edges), edges), np.float64)


def _grid(found: Sequence[Sequence[Histogram]]) -> Floats:
    """Return edges that hold nearly all values of every look."""
    ends = np.array([_quantiles(one, [_TAIL, 1 - _TAIL]) for one in found])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if high - low < 1e-5 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _ROWS + 1)


def _alt(rows: pd.DataFrame, kind: str, epochs: Sequence[int], what: str) -> str:
    said = []
    for epoch in dict.fromkeys((epochs[0], epochs[-1])):
        low, high = _quantiles(_histograms(rows[rows["epoch"] == epoch], kind), [0.25, 0.75])
        ends = f"{_figure(low, kind)} and {_figure(high, kind)}"
        said.append(f"after epoch {epoch} half of them are between {ends}")
    sizes = "sizes of the gradients that are not 0" if kind == "gradients" else "outputs"
    return f"{what}, {sizes}: {', '.join(said)}"


def _figure(value: float, kind: str) -> str:
    return number(float(f"{10**value if kind == 'gradients' else value:.2g}"))


def _draw(shares: Floats, grid: Floats, epochs: Sequence[int], kind: str, series: int, alt: str) -> str:
    right, bottom = _WIDE - 4, _HIGH - _BOTTOM
    low, high = float(grid[0]), float(grid[-1])
    column = (right - _LEFT) / len(epochs)
    row = (bottom - _TOP) / _ROWS

    def at_y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - _TOP)

    parts = [f'<path class="heat-back" d="M{_LEFT} {_TOP}H{right}V{bottom}H{_LEFT}Z"/>']
    for y, label in _marks(low, high, kind):
        parts.append(f'<path class="axis" d="M{_LEFT - 3} {at_y(y):.1f}h3"/>')
        parts.append(text(_LEFT - 5, at_y(y) + 4, label, "end"))
    labelled = sorted({math.floor(x + 0.5) for x in np.linspace(0, len(epochs) - 1, min(4, len(epochs)))})
    parts += [text(_LEFT + column * (n + 0.5), bottom + 14, str(epochs[n]), "middle") for n in labelled]
    parts.append(text((_LEFT + right) / 2, _HIGH - 3, "epoch", "middle"))
    place = f"translate({_LEFT} {bottom}) scale({column:.4g} {-row:.4g})"
    cells = "".join(f'<path class="h{n}" d="{path}"/>' for n, path in paths(shares) if path)
    parts.append(f'<g class="heat c{series % COLOURS}" transform="{place}">{cells}</g>')
    return picture(_WIDE, _HIGH, alt, parts)


def _marks(low: float, high: float, kind: str) -> list[tuple[float, str]]:
    if kind == "values":
        return [(y, number(y)) for y in ticks(low, high, 4)]
    round_ones = decades(10**low, 10**high) or [float(f"{10 ** ((low + high) / 2):.2g}")]
    return [(math.log10(y), number(y)) for y in round_ones[:: 1 + (len(round_ones) - 1) // 5]]


def paths(shares: Floats) -> list[tuple[int, str]]:
    """Return, for each level of opacity, its cells as upright strokes, one unit wide.

    Args:
        shares: Of each look (columns,) in each row (rows,), from below.

    Returns:
        Level from 1 and path. The root of a share counts, or a peak would leave nothing else to be seen.

    Examples:
        >>> paths(np.array([[0.9, 0.9, 0.0], [0.0, 0.1, 0.9]]))[1:4:2] + paths(np.array([[0.9, 0.9]]))[-1:]
        [(2, 'M1.5 1v1'), (4, ''), (6, 'M.5 0v2')]
    """
    most = shares.max() or 1.0
    levels = np.ceil(LEVELS * np.sqrt(shares / most) - 1e-9).astype(int)
    levels[shares < 5e-4] = 0
    found: dict[int, list[str]] = {level: [] for level in range(1, LEVELS + 1)}
    for x, column in enumerate(levels):
        start = 0
        for y in range(1, len(column) + 1):
            if y == len(column) or column[y] != column[start]:
                if column[start]:
                    found[int(column[start])].append(f"M{f'{x}.5'.lstrip('0')} {start}v{y - start}")
                start = y
    return [(level, "".join(strokes)) for level, strokes in found.items()]

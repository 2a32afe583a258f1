"""Draw charts as SVG, with the colours and dashes of the page's stylesheet."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from html import escape

from actlab.report.differences import Forest, ForestRow
from actlab.report.panels import Labels, Line, Panel, choose_linear_ticks

COLOURS = 7  # Okabe and Ito's palette without yellow, which is too light on white
SHOWN = 8  # activations that a panel shows at first; the legend shows the others
LEFT, RIGHT = 46, 10  # margins of a panel
_TOP, _BOTTOM = 8, 34
_SYMBOLS = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?", "none": "–", "leader": "◆"}
_DOTS = 8  # a line of at most so many points has a dot at each, and a larger one at its mark
_ROW = 26  # height of a row in forest plots and bar charts
_NAMES = 190  # width of the column of names in these

Axis = Callable[[float], float]


def get_verdict_symbol(verdict: str) -> str:
    """Return the symbol of a verdict, which does not depend on colour."""
    return _SYMBOLS.get(verdict, "–")


def draw_panel(panel: Panel, alt: str, width: int = 380, height: int = 240) -> str:
    """Draw a panel of lines; lines beyond the first eight series are hidden.

    Args:
        panel: The panel.
        alt: Description in words.
        width: Width of the drawing in its own units; the page scales it.
        height: Height of the drawing.
    """
    right, bottom = width - RIGHT, height - _BOTTOM
    y_range = panel.y_range
    at_x = _scale(panel.x_range, (LEFT, right), log=panel.log_x)
    at_y = _scale(y_range, (bottom, _TOP), log=panel.log)
    parts = []
    for y in panel.y_ticks:
        if y_range[0] <= y <= y_range[1]:
            parts.append(f'<path class="grid" d="M{LEFT} {at_y(y):.1f}H{right}"/>')
            parts.append(draw_text(LEFT - 5, at_y(y) + 4, format_number(y), "end"))
    parts += [draw_text(at_x(x), bottom + 15, format_number(x), "middle") for x in panel.x_ticks]
    parts.append(draw_text((LEFT + right) / 2, height - 3, panel.x_label, "middle"))
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    clip = ""
    if panel.limits:
        name = f"clip-{zlib.crc32(panel.title.encode())}"
        box = f"M{LEFT} {_TOP}H{right}V{bottom}H{LEFT}Z"
        parts.append(f'<clipPath id="{name}"><path d="{box}"/></clipPath>')
        clip = f' clip-path="url(#{name})"'
    shown = [line.series < SHOWN for line in panel.lines]
    if not any(shown):
        shown = [index < SHOWN for index in range(len(shown))]
    many = ' class="many"' if sum(shown) > 4 else ""  # bands that overlap are drawn fainter
    parts.append(f"<g{many}{clip}>")
    for line, is_shown in zip(panel.lines, shown, strict=True):
        hidden = "" if is_shown else " off"
        parts.append(f'<g class="series c{line.series % COLOURS}{hidden}" data-series="{line.series}">')
        parts += [*_draw_line(line, at_x, at_y), "</g>"]
    return make_svg(width, height, alt, [*parts, "</g>"])


def _scale(values: tuple[float, float], pixels: tuple[float, float], *, log: bool = False) -> Axis:
    """Return the function from values to pixels."""
    transform: Axis = math.log10 if log else float
    (low, high), (first, last) = map(transform, values), pixels
    return lambda value: first + (transform(value) - low) / (high - low) * (last - first)


def _draw_line(line: Line, at_x: Axis, at_y: Axis) -> Iterator[str]:
    ends = [end for end in zip(line.x, line.low, line.high, strict=False) if None not in end]
    band = [(at_x(x), at_y(low), at_y(high)) for x, low, high in ends]  # type: ignore[arg-type]
    if len(band) > 1:
        upper = "L".join(f"{x:.1f} {high:.1f}" for x, _, high in band)
        lower = "L".join(f"{x:.1f} {low:.1f}" for x, low, _ in reversed(band))
        yield f'<path class="band" d="M{upper}L{lower}Z"/>'
    path, pen = [], "M"
    for x, y in zip(line.x, line.y, strict=True):
        path.append("" if y is None else f"{pen}{at_x(x):.1f} {at_y(y):.1f}")
        pen = "M" if y is None else "L"
    dash = line.series // COLOURS % 4 if line.dash is None else line.dash
    yield f'<path class="line d{dash}" d="{"".join(path)}"/>'
    points = {
        i: (at_x(x), at_y(y)) for i, (x, y) in enumerate(zip(line.x, line.y, strict=True)) if y is not None
    }
    few = len(points) <= _DOTS
    if dots := [point for i, point in points.items() if few or i == line.mark]:
        # strokes of length 0 with round ends
        yield f'<path class="dots" d="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in dots)}"/>'
    if few and len(points) > 1 and line.mark in points:
        x, y = points[line.mark]
        yield f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'


def draw_forest(chart: Forest, labels: Labels, alt: str) -> str:
    """Draw a forest plot, with the differences as text on the right."""
    middle, right, limit = 560, 780, chart.limit
    bottom = _ROW * len(chart.rows) + _TOP
    at = _scale((-limit, limit), (_NAMES + 12, middle - 12))
    parts = [f'<path class="axis" d="M{_NAMES} {bottom}H{middle}"/>']
    if chart.region is not None:
        left, width = at(-chart.region), at(chart.region) - at(-chart.region)
        box = f'x="{left:.1f}" y="{_TOP}" width="{width:.1f}" height="{bottom - _TOP}"'
        parts.insert(0, f'<rect class="region" {box}/>')
    parts.append(f'<path class="zero" d="M{at(0):.1f} {_TOP}V{bottom}"/>')
    parts += [
        draw_text(at(x), bottom + 15, format_number(x), "middle") for x in choose_linear_ticks(-limit, limit)
    ]
    parts.append(draw_text((_NAMES + middle) / 2, bottom + 30, chart.axis, "middle"))
    for index, row in enumerate(chart.rows):
        y = _TOP + _ROW * (index + 0.5)
        parts.append(draw_text(_NAMES - 10, y + 4, labels[row.name], "end"))
        text = f"{get_verdict_symbol(row.difference.verdict)} {row.text}"
        parts.append(draw_text(middle + 12, y + 4, text, "start"))
        parts += _draw_interval(chart, row, at, y)
    return make_svg(right, bottom + 36, alt, parts)


def _draw_interval(chart: Forest, row: ForestRow, at: Axis, y: float) -> Iterator[str]:
    value, low, high = row.difference.value, row.difference.low, row.difference.high
    colour = f"c{row.series % COLOURS}"
    if value is None:
        return
    if chart.is_beyond(row):
        x, tip = at(math.copysign(chart.limit, value)), 9 if value < 0 else -9
        yield f'<path class="mark {colour}" d="M{x:.1f} {y}l{tip} -6v12z"/>'
        return
    if low is not None and high is not None:
        ends = (at(max(-chart.limit, min(chart.limit, end))) for end in (low, high))
        yield f'<path class="line {colour} d0" d="M{next(ends):.1f} {y}H{next(ends):.1f}"/>'
    yield f'<circle class="mark {colour}" cx="{at(value):.1f}" cy="{y}" r="5"/>'


def draw_bars(rows: Sequence[tuple[str, int, float]], unit: str, labels: Labels, alt: str) -> str:
    """Draw horizontal bars of (name, series, value), with their values at the end."""
    right, width = 690, 780
    at = _scale((0, max((value for *_, value in rows), default=0) or 1.0), (_NAMES, right))
    parts = []
    for index, (name, series, value) in enumerate(rows):
        y, wide = _TOP + _ROW * index, max(at(value) - _NAMES, 1)
        bar = f'x="{_NAMES}" y="{y + 4}" width="{wide:.1f}" height="{_ROW - 8}"'
        parts.append(draw_text(_NAMES - 10, y + 17, labels[name], "end"))
        parts.append(f'<rect class="bar c{series % COLOURS}" {bar}/>')
        text = f"{format_number(float(f'{value:.3g}'))} {unit}"
        parts.append(draw_text(at(value) + 8, y + 17, text, "start"))
    return make_svg(width, _ROW * len(rows) + 2 * _TOP, alt, parts)


def draw_swatch(series: int) -> str:
    """Draw the line in front of a name in a legend."""
    line = f'<path class="line c{series % COLOURS} d{series // COLOURS % 4}" d="M1 7H27"/>'
    return f'<svg class="swatch" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">{line}</svg>'


def make_svg(width: int, height: int, alt: str, parts: Sequence[str]) -> str:
    """Return a drawing of these parts, described by ``alt``."""
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">'
    return "".join([head, *parts, "</svg>"])


def draw_text(x: float, y: float, text: str, anchor: str) -> str:
    """Return text that starts, ends or is centred at a point."""
    # A name written from right to left would swap "end" and "start".
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" direction="ltr" '
        f'style="unicode-bidi:plaintext">{escape(text)}</text>'
    )


def format_number(value: float) -> str:
    """Return a number as the label of an axis.

    Examples:
        >>> format_number(0.25), format_number(-3.0), format_number(0.00001), format_number(2.5e-4)
        ('0.25', '−3', '1e−5', '2.5e−4')
    """
    text = f"{value:.6g}"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.5e}".split("e")
        text = f"{float(digits):g}e{int(power)}"
    return text.replace("-", "−")

"""The charts of a report as plain SVG: what is printed, and what is seen with scripts off.

Colours are classes, which the page's stylesheet has for light, dark and paper.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from actlab.report.html.charts import Chart, Labels

COLOURS = 7  # of the palette without yellow, which is not seen on white; then dashes begin
_LEFT, _TOP, _BOTTOM, _RIGHT = 46, 8, 34, 10
_SYMBOLS = {"better": "▲", "worse": "▼", "equivalent": "=", "undecided": "?", "none": "–", "leader": "◆"}
_FEW = 5  # points of a line that are seen one by one
_ROW = 26  # pixels of a row in forest and bars


def symbol(word: str) -> str:
    """Return the sign of a verdict, for those who do not see its colour."""
    return _SYMBOLS.get(word, "–")


def style(series: int) -> str:
    """Return the classes of a series: its colour and its dashes."""
    return f"c{series % COLOURS} d{series // COLOURS % 4}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between two.

    Examples:
        >>> ticks(0.0, 1.0), ticks(-3, 42)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 10.0, 20.0, 30.0, 40.0])
    """
    raw = (high - low) / most
    if not (math.isfinite(raw) and raw > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) + 0.0 for n in range(first, last + 1)]


def panel_svg(chart: Chart, alt: str, width: int = 380, height: int = 240) -> str:
    """Draw a panel of lines.

    Args:
        chart: What :func:`actlab.report.html.charts.panel` returns.
        alt: What it shows, in words.
        width: Of the drawing, in its own units; on the page it is as wide as there is room.
        height: Likewise.
    """
    ends = _ends(chart)
    if ends is None:
        return ""
    (x0, x1), (y0, y1) = ends
    log = chart["log"]
    up: Callable[[float], float] = math.log10 if log else float
    bottom, right = height - _BOTTOM, width - _RIGHT

    def at_x(x: float) -> float:
        return _LEFT + (x - x0) / (x1 - x0) * (right - _LEFT)

    def at_y(y: float) -> float:
        return bottom - (up(y) - up(y0)) / (up(y1) - up(y0)) * (bottom - _TOP)

    parts = []
    for y in chart["ticks"] if log else ticks(y0, y1):
        parts.append(f'<path class="grid" d="M{_LEFT} {at_y(y):.1f}H{right}"/>')
        parts.append(text(_LEFT - 5, at_y(y) + 4, number(y), "end"))
    for x in _places(chart):
        parts.append(text(at_x(x), bottom + 15, number(x), "middle"))
    parts.append(text((_LEFT + right) / 2, height - 3, chart["x"], "middle"))
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
    clip = f"clip-{zlib.crc32(chart['title'].encode())}"
    if chart["limits"]:
        inside = f"M{_LEFT} {_TOP}H{right}V{bottom}H{_LEFT}Z"
        parts.append(f'<clipPath id="{clip}"><path d="{inside}"/></clipPath>')
    many = ' class="many"' if len(chart["lines"]) > 4 else ""  # bands that cover each other are drawn fainter
    parts.append(f'<g{many} clip-path="url(#{clip})">' if chart["limits"] else f"<g{many}>")
    for line in chart["lines"]:
        parts += _line(line, at_x, at_y)
    return picture(width, height, alt, [*parts, "</g>"])


def _ends(chart: Chart) -> tuple[tuple[float, float], tuple[float, float]] | None:
    xs = [x for line in chart["lines"] for x in line["x"]]
    ys = [y for line in chart["lines"] for y in line["y"] if y is not None]
    ys += [y for line in chart["lines"] for y in line.get("low", []) + line.get("high", []) if y is not None]
    if not xs or not ys:
        return None
    x0, x1 = chart["span"]
    y0, y1 = chart["limits"] or (min(ys), max(ys))
    if y0 == y1:
        y0, y1 = (y0 / 2, y1 * 2) if chart["log"] else (y0 - 0.5, y1 + 0.5)
    return (x0, x1), (y0, y1)


def _places(chart: Chart) -> list[float]:
    """Return where the horizontal axis has figures: between whole numbers there is nothing."""
    if "whole" not in chart:
        return ticks(*chart["span"])
    low, high = chart["whole"]
    return [x for x in ticks(*chart["span"]) if x == int(x) and low <= x <= high]


def _line(line: Chart, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> Iterator[str]:
    colour = f"c{line['series'] % COLOURS}"
    dash = line.get("dash", line["series"] // COLOURS % 4)
    band = [
        (at_x(x), at_y(low), at_y(high))
        for x, low, high in zip(line["x"], line.get("low", []), line.get("high", []), strict=False)
        if low is not None and high is not None
    ]
    if len(band) > 1:
        there = "L".join(f"{x:.1f} {high:.1f}" for x, _, high in band)
        back = "L".join(f"{x:.1f} {low:.1f}" for x, low, _ in reversed(band))
        yield f'<path class="band {colour}" d="M{there}L{back}Z"/>'
    pen, path = "M", []
    for x, y in zip(line["x"], line["y"], strict=True):
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{at_x(x):.1f} {at_y(y):.1f}")
        pen = "L"
    yield f'<path class="line {colour} d{dash}" d="{"".join(path)}"/>'
    points = [place for place, y in enumerate(line["y"]) if y is not None]
    mark = line.get("mark")
    for place in points if len(points) <= _FEW else points[:0]:
        if place != mark:
            yield _dot(at_x(line["x"][place]), at_y(line["y"][place]), colour, 4 if len(points) == 1 else 3)
    if mark in points:
        yield _dot(at_x(line["x"][mark]), at_y(line["y"][mark]), colour, 4)


def _dot(x: float, y: float, colour: str, r: int) -> str:
    return f'<circle class="mark {colour}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'


def forest_svg(chart: Chart, of: Labels, alt: str, said: Sequence[str], unit: str) -> str:
    """Draw the forest plot, with its figures at the right.

    Args:
        chart: What :func:`actlab.report.html.charts.forest` returns.
        of: Short labels by name.
        alt: What it shows, in words.
        said: The figures of each row.
        unit: What is on the axis.
    """
    left, middle, right = 190, 560, 780
    bottom = _ROW * len(chart["rows"]) + _TOP
    limit: float = chart["limit"]

    def at(x: float) -> float:
        return left + 12 + (max(-limit, min(limit, x)) + limit) / (2 * limit) * (middle - left - 24)

    parts = [f'<path class="axis" d="M{left} {bottom}H{middle}"/>']
    if chart["region"] is not None:
        wide = at(chart["region"]) - at(-chart["region"])
        box = f'x="{at(-chart["region"]):.1f}" y="{_TOP}" width="{wide:.1f}" height="{bottom - _TOP}"'
        parts.insert(0, f'<rect class="region" {box}/>')
    parts.append(f'<path class="zero" d="M{at(0):.1f} {_TOP}V{bottom}"/>')
    parts += [text(at(x), bottom + 15, number(x), "middle") for x in ticks(-limit, limit)]
    parts.append(text((left + middle) / 2, bottom + 30, unit, "middle"))
    for place, (row, figures) in enumerate(zip(chart["rows"], said, strict=True)):
        y = _TOP + _ROW * (place + 0.5)
        parts.append(text(left - 10, y + 4, of[row["name"]], "end"))
        parts.append(text(middle + 12, y + 4, f"{symbol(row['word'])} {figures}", "start"))
        parts += _whisker(row, at, y, limit)
    return picture(right, bottom + 36, alt, parts)


def _whisker(row: dict[str, Any], at: Callable[[float], float], y: float, limit: float) -> Iterator[str]:
    if row["value"] is None:
        return
    colour = f"c{row['series'] % COLOURS}"
    if abs(row["value"]) > limit:  # it is farther away than there is room for
        x, tip = at(row["value"]), 9 if row["value"] < 0 else -9
        yield f'<path class="mark {colour}" d="M{x:.1f} {y}l{tip} -6v12z"/>'
        return
    if row["low"] is not None:
        yield f'<path class="line {colour} d0" d="M{at(row["low"]):.1f} {y}H{at(row["high"]):.1f}"/>'
    yield f'<circle class="mark {colour}" cx="{at(row["value"]):.1f}" cy="{y}" r="5"/>'


def bars_svg(chart: Chart, of: Labels, alt: str) -> str:
    """Draw horizontal bars, with their figures at the end."""
    left, right, width = 190, 690, 780
    most = max((row["value"] for row in chart["rows"]), default=0) or 1.0
    parts = []
    for place, row in enumerate(chart["rows"]):
        y, wide = _TOP + _ROW * place, row["value"] / most * (right - left)
        bar = f'x="{left}" y="{y + 4}" width="{max(wide, 1):.1f}" height="{_ROW - 8}"'
        parts.append(text(left - 10, y + 17, of[row["name"]], "end"))
        parts.append(f'<rect class="bar c{row["series"] % COLOURS}" {bar}/>')
        figure = number(float(f"{row['value']:.3g}"))
        parts.append(text(left + wide + 8, y + 17, f"{figure} {chart['unit']}", "start"))
    return picture(width, _ROW * len(chart["rows"]) + 2 * _TOP, alt, parts)


def swatch(series: int) -> str:
    """Draw the line that a legend has before a name."""
    line = f'<path class="line {style(series)}" d="M1 7H27"/>'
    return f'<svg class="swatch" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">{line}</svg>'


def picture(width: int, height: int, alt: str, parts: Sequence[str]) -> str:
    """Return a drawing of these parts; ``alt`` says in words what it shows."""
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">'
    return "".join([head, *parts, "</svg>"])


def text(x: float, y: float, shown: str, anchor: str) -> str:
    """Return a text that stands at, before or after a point."""
    # A name written from right to left would turn "end" and "start" round.
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" direction="ltr" '
        f'style="unicode-bidi:plaintext">{escape(shown)}</text>'
    )


def number(value: float) -> str:
    """Return a number as an axis has it.

    Examples:
        >>> number(0.25), number(-3.0), number(0.00001), number(2.5e-4)
        ('0.25', '−3', '1e−5', '2.5e−4')
    """
    shown = f"{value:.6g}"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.5e}".split("e")
        shown = f"{float(digits):g}e{int(power)}"
    return shown.replace("-", "−")

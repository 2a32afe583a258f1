"""Panels of lines as plain values: the page draws them as SVG, the figures with matplotlib."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from actlab.describe import evaluate_derivatives, find_plot_range
from actlab.errors import UsageError, escape_unprintable
from actlab.functions import catalogue
from actlab.spec import find_definition, get, is_formula, is_import_path, split_spec

Labels = Mapping[str, str]
Values = Sequence[float | None]

LOSSES = {"train_loss": "training loss", "valid_loss": "validation loss"}
METRICS = {**LOSSES, "valid_acc": "validation accuracy"}
_CURVE_COLUMNS = {"activation", "x", "f", "f1", "f2"}
_RIGHT_TO_LEFT = {"R", "AL", "RLO", "RLE", "RLI", "LRO", "LRE", "LRI", "FSI"}
_ISOLATES = dict.fromkeys(map(ord, "\u2068\u2069"))
_MAX_LABEL = 26  # characters
_MAX_POINTS = 1200  # of all lines in a panel, which keeps the page small
_LOG_SPAN = 50.0  # a loss that falls by this factor has a logarithmic axis


# -- labels and numbers ---------------------------------------------------------------------------


def shorten_names(names: Sequence[str], max_length: int = _MAX_LABEL) -> dict[str, str]:
    """Return a short, unique label for each name.

    Args:
        names: Names of activations.
        max_length: Characters of a label, without the number that makes it unique.

    Examples:
        >>> shorten_names(["relu", "my_layers.py:SomethingWithALongName", "my_layers.py:SomethingWithAlsoLongName"])
        {'relu': 'relu', 'my_layers.py:SomethingWithALongName': 'my_layers.py:…thALongName', \
'my_layers.py:SomethingWithAlsoLongName': 'my_layers.py:…lsoLongName'}
    """  # noqa: E501
    labels: dict[str, str] = {}
    for name in names:
        text = " ".join(name.split()) or "(no name)"
        if len(text) > max_length:
            text = f"{text[: max_length // 2]}…{text[2 - max_length // 2 :]}"
        same = sum(label == text or label.startswith(f"{text} (") for label in labels.values())
        labels[name] = f"{text} ({same + 1})" if same else text
    return {name: protect_text_direction(label) for name, label in labels.items()}


def protect_text_direction(name: str) -> str:
    """Return a name that does not reverse the text around it, even if it is written from right to left.

    Examples:
        >>> [protect_text_direction(name) for name in ("relu", "\u05d0")]
        ['relu', '\u2068\u05d0\u2069']
    """
    return f"\u2068{name}\u2069" if {unicodedata.bidirectional(c) for c in name} & _RIGHT_TO_LEFT else name


def clean_labels(names: Sequence[str], max_length: int = _MAX_LABEL) -> dict[str, str]:
    """Return a short label for each name, with only characters that fonts and terminals can show."""
    labels = shorten_names(names, max_length).items()
    return {name: escape_unprintable(" ".join(label.translate(_ISOLATES).split())) for name, label in labels}


def round_values(values: Any) -> list[float | None]:
    """Return numbers rounded to five digits, None for values that are not finite."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in map(float, values)]


def choose_linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers on a linear axis.

    Examples:
        >>> choose_linear_ticks(0.0, 1.0), choose_linear_ticks(-3, 42)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 10.0, 20.0, 30.0, 40.0])
    """
    raw = (high - low) / count
    if not (math.isfinite(raw) and raw > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) + 0.0 for n in range(first, last + 1)]


def choose_log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers on a logarithmic axis: powers of ten, with numbers in between if these are few.

    Examples:
        >>> choose_log_ticks(0.03, 2.0), choose_log_ticks(1e-6, 1.0), choose_log_ticks(0.21, 0.32)
        ([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0], [0.25, 0.3])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    between: tuple[float, ...] = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    for mantissas, enough in (((1,), 3), ((1, 2, 5), 2), (between, 2)):
        candidates = [float(f"{mantissa * 10.0**power:.2g}") for power in powers for mantissa in mantissas]
        ticks = [tick for tick in candidates if low <= tick <= high]
        if len(ticks) >= enough:
            break
    else:  # the ends are close to each other
        ticks = sorted({float(f"{end:.3g}") for end in (low, high)})
    return ticks[:: 1 + len(ticks) // 8]


# -- lines and panels -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line of a chart, with the range of the runs around it.

    Attributes:
        name: The activation.
        series: Place of the activation in the ranking; it determines colour and dashes.
        x: Coordinates.
        y: Values; None leaves a gap.
        low: Lower ends of the range; empty if there is none.
        high: Upper ends of the range.
        dash: Dash pattern, if not that of the series.
        mark: Index of the point that has a dot.
    """

    name: str
    series: int
    x: Sequence[float]
    y: Values
    low: Values = ()
    high: Values = ()
    dash: int | None = None
    mark: int | None = None


@dataclass(frozen=True)
class Panel:
    """One set of axes with its lines.

    Attributes:
        title: The quantity on the vertical axis.
        x_label: The quantity on the horizontal axis.
        lines: At least one line with a value.
        log: Whether the vertical axis is logarithmic; all values are positive then.
        log_x: Whether the horizontal axis is logarithmic.
        limits: Ends of the vertical axis; values beyond them are cut off.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    log: bool = False
    log_x: bool = False
    limits: tuple[float, float] | None = None

    @property
    def has_integer_x(self) -> bool:
        """Whether the values on the horizontal axis are integers, such as epochs."""
        return all(isinstance(x, int) for line in self.lines for x in line.x)

    @property
    def x_values(self) -> list[float]:
        """All coordinates."""
        return [x for line in self.lines for x in line.x]

    @property
    def x_range(self) -> tuple[float, float]:
        """Ends of the horizontal axis, with room for a dot at the first and the last point."""
        low, high = min(self.x_values), max(self.x_values)
        if self.log_x:
            room = (high / low) ** 0.02
            return low / room, high * room
        room = 0.02 * (high - low) or 1.0
        return low - room, high + room

    @property
    def x_ticks(self) -> list[float]:
        """Labelled values of the horizontal axis."""
        if self.log_x:
            return choose_log_ticks(*self.x_range)
        ticks = choose_linear_ticks(*self.x_range)
        if not self.has_integer_x:
            return ticks
        low, high = min(self.x_values), max(self.x_values)
        return [x for x in ticks if x == int(x) and low <= x <= high]

    @property
    def y_range(self) -> tuple[float, float]:
        """Ends of the vertical axis."""
        if self.limits:
            return self.limits
        low, high = _find_extremes(self.lines)
        if low < high:
            return low, high
        return (low / 2, low * 2) if self.log else (low - 0.5, low + 0.5)

    @property
    def y_ticks(self) -> list[float]:
        """Labelled values of the vertical axis."""
        return (choose_log_ticks if self.log else choose_linear_ticks)(*self.y_range)


def _find_extremes(lines: Sequence[Line]) -> tuple[float, float]:
    values = [y for line in lines for ys in (line.y, line.low, line.high) for y in ys if y is not None]
    return min(values), max(values)


def make_mean_line(
    name: str,
    series: int,
    values: pd.Series[Any],
    x: pd.Series[Any],
    max_points: int,
    *,
    log: bool = False,
    mark_lowest: bool = False,
) -> Line | None:
    """Return a line through the means of values at each ``x``, with the range from the lowest to the highest.

    Args:
        name: The activation.
        series: Its place in the ranking.
        values: Values of several runs; values that are not finite are ignored.
        x: The coordinate of each value, an integer.
        max_points: Number of points to keep. The last point and the lowest mean are always kept.
        log: Take the geometric mean of the positive values.
        mark_lowest: Mark the lowest mean.

    Returns:
        The line, or None if there is no finite value.
    """
    finite = pd.to_numeric(values, errors="coerce").replace([math.inf, -math.inf], math.nan)
    finite = np.log10(finite.where(finite > 0)) if log else finite
    means = finite.groupby(x).agg(["mean", "min", "max"])
    if not means["mean"].notna().any():
        return None
    lowest = int(np.argmin(means["mean"].fillna(math.inf)))
    step = max(1, math.ceil(len(means) / max_points))
    indices = sorted({*range(0, len(means), step), len(means) - 1, lowest})
    means = (10.0**means if log else means).iloc[indices]
    y, low, high = (round_values(means[column]) for column in ("mean", "min", "max"))
    mark = indices.index(lowest) if mark_lowest else None
    return Line(name, series, [int(x) for x in means.index], y, low, high, mark=mark)


def choose_point_count(lines: int, max_points: int, max_total: int = _MAX_POINTS) -> int:
    """Return the number of points that each of several lines may have."""
    return min(max_points, max_total // max(lines, 1))


def make_learning_panels(history: pd.DataFrame, names: Sequence[str]) -> dict[str, Panel]:
    """Return a panel for each metric of a history.

    Args:
        history: As in :attr:`actlab.Comparison.history`.
        names: Activations, in the order of their colours.

    Returns:
        Panels by metric; a metric without finite values has none.
    """
    count = choose_point_count(len(names), 200)
    panels = {}
    for metric, title in METRICS.items():
        lines = [
            line
            for series, name in enumerate(names)
            if (line := _make_line(history, name, series, metric, count))
        ]
        if lines:
            panels[metric] = (make_loss_panel if metric in LOSSES else Panel)(title, "epoch", lines)
    return panels


def make_loss_panels(history: pd.DataFrame, names: Sequence[str], labels: Labels) -> dict[str, Panel]:
    """Return a panel for each activation with its training loss (solid) and validation loss (dashed)."""
    count = choose_point_count(len(names), 60)
    panels = {}
    for series, name in enumerate(names):
        lines = [
            replace(line, dash=dash)
            for dash, metric in enumerate(LOSSES)
            if (line := _make_line(history, name, series, metric, count))
        ]
        if lines:
            panels[name] = make_loss_panel(labels[name], "epoch", lines)
    return panels


def make_loss_panel(title: str, x_label: str, lines: Sequence[Line]) -> Panel:
    """Return a panel of losses; its vertical axis is logarithmic if they fall by orders of magnitude."""
    means = [y for line in lines for y in line.y if y is not None]
    log = _find_extremes(lines)[0] > 0 and max(means) / min(means) >= _LOG_SPAN
    return Panel(title, x_label, lines, log=log)


def _make_line(history: pd.DataFrame, name: str, series: int, metric: str, max_points: int) -> Line | None:
    if not {"activation", "epoch", metric} <= set(history):
        return None
    rows = history[history["activation"] == name]
    lowest = metric == "valid_loss"
    return make_mean_line(name, series, rows[metric], rows["epoch"], max_points, mark_lowest=lowest)


# -- functions ------------------------------------------------------------------------------------


def make_function_panels(
    specs: Mapping[str, str | None], curves: pd.DataFrame
) -> tuple[list[Panel], dict[str, str]]:
    """Return panels of f, f' and f'', and for each activation without a curve the reason.

    Args:
        specs: As :func:`find_specs` returns them, in the order of their colours. User modules are not
            imported.
        curves: Curves of user modules, as in :attr:`actlab.Comparison.curves`.
    """
    modules, own, missing = {}, {}, {}
    for name, spec in specs.items():
        try:
            modules[name] = resolve_module_to_draw(spec)
        except UsageError as error:
            rows = select_curve(name, curves)
            if len(rows):
                own[name] = rows
            else:
                missing[name] = str(error)
    if not modules and not own:
        return [], missing
    ends = [reach for _, reach in modules.values()] or [float(rows["x"].max()) for rows in own.values()]
    reach = min(max(ends), 10.0)
    x = torch.linspace(-reach, reach, 241, dtype=torch.float64)
    values: dict[str, Any] = {
        name: (x, *evaluate_derivatives(module, x)) for name, (module, _) in modules.items()
    }
    values |= {name: tuple(rows[column] for column in ("x", "f", "f1", "f2")) for name, rows in own.items()}
    return [
        _make_function_panel("f(x), the function", specs, values, 1, (-reach, reach)),
        _make_function_panel("f′(x), its derivative", specs, values, 2, (-2.0, 3.0)),
        _make_function_panel("f″(x), its second derivative", specs, values, 3, (-2.0, 3.0)),
    ], missing


def _make_function_panel(
    title: str, names: Iterable[str], values: Mapping[str, Any], column: int, widest: tuple[float, float]
) -> Panel:
    step = math.ceil(241 / choose_point_count(len(values), 241, 10_000))
    lines = []
    for series, name in enumerate(names):
        if name in values:
            x, y = values[name][0][::step], values[name][column][::step]
            lines.append(Line(name, series, [round(float(place), 4) for place in x], round_values(y)))
    finite = [y for line in lines for y in line.y if y is not None]
    low, high = max(min(finite, default=0.0), widest[0]), min(max(finite, default=1.0), widest[1])
    room = 0.06 * (high - low) or 1.0
    return Panel(title, "x", lines, limits=(low - room, high + room))


def make_profile_panels(profiles: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Panel]:
    """Return a panel with the performance profile of each method over datasets; none without profiles.

    Args:
        profiles: ``method``, ``threshold`` and ``share`` of each.
        names: The methods, in the order of their colours.
    """
    place = {name: series for series, name in enumerate(names)}
    lines = [
        Line(one["method"], place[one["method"]], one["threshold"], one["share"])
        for one in sorted(profiles, key=lambda one: place[one["method"]])
    ]
    return [Panel("share of runs with a better score", "score", lines)] if lines else []


def select_curve(name: str, curves: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of an activation in :attr:`actlab.Comparison.curves`, which may be none."""
    return curves[curves["activation"] == name] if set(curves) >= _CURVE_COLUMNS else curves[:0]


def find_specs(names: Iterable[str], about: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the spec of each activation by its name; None for a Python object.

    Args:
        names: The names of the activations.
        about: As in :attr:`actlab.Comparison.about`. Names that are specs are not in its ``specs``.
    """
    specs: Mapping[str, str | None] = about.get("specs") or {}
    return {name: specs.get(name, name) for name in names}


def resolve_module_to_draw(spec: str | None) -> tuple[torch.nn.Module, float]:
    """Return the module of a spec in double precision, and the largest x that is worth drawing.

    Raises:
        UsageError: The spec is neither in the catalogue nor a formula, or not a function of one number.
    """
    if spec is None:
        raise UsageError("it is a Python object, and its curve was not saved")
    name, _, _ = split_spec(spec)
    if is_import_path(name):
        raise UsageError("it is a user-defined module, and its curve was not saved")
    if name not in catalogue and not is_formula(name):
        raise UsageError("it is not in the catalogue")
    definition = find_definition(name)
    if definition.facts.gated:
        raise UsageError("it takes two halves of a tensor")
    return get(spec).double().eval(), find_plot_range(definition)[1]

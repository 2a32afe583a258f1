"""Plots of comparisons on matplotlib axes: learning curves and differences."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab.errors import UsageError, did_you_mean
from actlab.report.differences import Forest, ForestRow, collect_differences, make_forest
from actlab.report.panels import (
    LOSSES,
    METRICS,
    Line,
    Panel,
    Values,
    clean_labels,
    make_learning_panels,
    make_loss_panel,
)
from actlab.report.plots.functions import (
    MAX_TITLE,
    get_axes,
    set_literal_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from actlab.comparison.comparison import Comparison

# The report's palette: Okabe and Ito's, without yellow and darkened for a white background.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5588f", "#d08a00", "#3a9bd1", "#3b3f45")
_DASHES = ("-", "--", ":", "-.")
_GREY, _REGION = "0.8", "0.9"
NAMED = 10  # activations with a colour and a name; the others are grey
_INSIDE = 4  # names that a legend inside the axes may have


def plot_history(
    history: pd.DataFrame | Comparison, ax: Axes | None = None, *, metric: str = "valid_loss"
) -> Axes:
    """Plot a metric by epoch: the mean over the runs, and a band from the lowest to the highest run.

    For a loss of a single activation, both training loss (dashed) and validation loss are plotted. With more
    than ten activations, the ten with the best final values have colours and names, and the others are grey.

    Args:
        history: From :func:`actlab.training.history_frame` or :attr:`actlab.Comparison.history`. For a
            comparison, activations have the same colours as in :func:`plot_comparison`.
        ax: Axes to draw on (default: the current axes of :mod:`matplotlib.pyplot`). More than four names are
            placed outside the axes; ``layout="constrained"`` makes room for them.
        metric: ``"valid_loss"``, ``"train_loss"`` or ``"valid_acc"``.

    Returns:
        The axes.

    Raises:
        UsageError: matplotlib is missing, or the history does not have the metric.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "valid_loss": [2.0, 1.5]})
        >>> plot_history(history, Figure().subplots()).get_ylabel()
        'loss'
    """
    if metric not in METRICS:
        options = ", ".join(METRICS)
        raise UsageError(f"metric must be one of {options}, got {metric!r}{did_you_mean(metric, METRICS)}")
    ranked = None if isinstance(history, pd.DataFrame) else list_names(history)
    history = history if isinstance(history, pd.DataFrame) else history.history
    if history.empty:
        raise UsageError("the history has no epochs, so there is no curve to draw")
    if "activation" not in history:
        history = history.assign(activation="")
    names = ranked or history["activation"].unique().tolist()
    if len(names) > NAMED and not ranked:
        names = _sort_by_end(history, names, metric)
    panels = make_learning_panels(history, names)
    if metric not in panels:
        available = ", ".join(panels) or "no metric that is finite"
        raise UsageError(f"the history has no {metric}, so there is no curve to draw; it has {available}")
    ax, labels = get_axes(ax), clean_labels(names)
    if len(names) == 1 and metric in LOSSES:
        _draw_both_losses(ax, panels)
        set_literal_text(ax.set_title(""), clean_labels(names, MAX_TITLE)[names[0]] if names[0] else "")
        return ax
    draw_panel(ax, panels[metric])
    if names != [""]:
        legend = {line.series: labels[line.name] for line in panels[metric].lines}
        outside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
        draw_legend(ax, legend, **(outside if len(legend) > _INSIDE else {}))
    return ax


def plot_comparison(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Plot the difference of each activation from the top row of the ranking, with its interval.

    The grey band is the region of practical equivalence. A triangle at the edge marks a difference beyond the
    axis. The text on the right states the differences and the verdicts.

    Args:
        comparison: The comparison.
        ax: Axes to draw on (default: the current axes of :mod:`matplotlib.pyplot`). Names and text are placed
            outside the axes; ``layout="constrained"`` makes room for them.

    Returns:
        The axes.

    Raises:
        UsageError: matplotlib is missing, or the comparison has no difference.
    """
    names = list_names(comparison)
    if len(names) < 2:
        raise UsageError(f"differences need at least two activations; the comparison has {len(names)}")
    labels, pairs = clean_labels(names), collect_differences(comparison.verdicts)
    chart = make_forest(comparison.ranking, pairs, comparison.about, labels)
    if chart is None:
        reason = next((pair.reason for pair in pairs.values() if pair.reason), "no run has a score")
        raise UsageError(f"the comparison has no difference to draw: {reason}")
    ax = get_axes(ax)
    if chart.region is not None:
        ax.axvspan(-chart.region, chart.region, color=_REGION, zorder=0)
    ax.axvline(0, color="0.5", linewidth=0.8, zorder=1)
    size = "medium" if len(names) <= 12 else "small"
    for position, row in enumerate(chart.rows):
        _draw_interval(ax, position, row, chart)
        is_verdict = position > 0 and row.difference.value is not None
        text = f"{row.text}  {row.difference.verdict}" if is_verdict else row.text
        ax.text(1.02, position, text, transform=ax.get_yaxis_transform(), va="center", fontsize=size)
    ax.set_xlim(*_choose_limits(chart))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), [""] * len(names), fontsize=size)
    ax.set_yticklabels([labels[name] for name in names], parse_math=False, usetex=False)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "top", "right"]].set_visible(False)
    set_literal_text(ax.xaxis.label, chart.axis)
    return ax


def _choose_limits(chart: Forest) -> tuple[float, float]:
    ends = [(row.difference.value, row.difference.low, row.difference.high) for row in chart.rows]
    values = [0.0, *(end for row in ends for end in row if end is not None)]
    region = chart.region or 0.0
    low, high = max(min(*values, -region), -chart.limit), min(max(*values, region), chart.limit)
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def list_names(comparison: Comparison) -> list[str]:
    """Return the activations in the order of the ranking, which determines their colours."""
    return [str(name) for name in comparison.ranking["activation"]]


def _sort_by_end(history: pd.DataFrame, names: Sequence[str], metric: str) -> list[str]:
    """Return the names in the order in which their mean curves end, names without a curve last."""
    panel = make_learning_panels(history, names).get(metric)
    ends = {line.name: [y for y in line.y if y is not None][-1] for line in panel.lines} if panel else {}
    sign = 1 if metric in LOSSES else -1
    return sorted(names, key=lambda name: sign * ends[name] if name in ends else math.inf)


# -- drawing --------------------------------------------------------------------------------------


def _draw_both_losses(ax: Axes, panels: Mapping[str, Panel]) -> None:
    """Draw the losses of a single activation, the training loss dashed."""
    metrics = [metric for metric in ("valid_loss", "train_loss") if metric in panels]
    dashes = {series: int(metric == "train_loss") for series, metric in enumerate(metrics)}
    titles = {series: LOSSES[metric] for series, metric in enumerate(metrics)}
    lines = [
        replace(panels[metric].lines[0], series=series, dash=dashes[series])
        for series, metric in enumerate(metrics)
    ]
    draw_panel(ax, make_loss_panel("loss", "epoch", lines))
    draw_legend(ax, titles, dashes=dashes)
    ax.set_ylabel(titles[0] if len(titles) == 1 else "loss")


def draw_panel(ax: Axes, panel: Panel) -> None:
    """Draw a panel of lines."""
    from matplotlib.ticker import MaxNLocator

    alpha = 0.18 if len(panel.lines) <= _INSIDE else 0.08
    for line in reversed(panel.lines):  # the best are on top
        _draw_line(ax, line, alpha)
    for axis, log, ticks in ((ax.xaxis, panel.log_x, panel.x_ticks), (ax.yaxis, panel.log, panel.y_ticks)):
        if log:
            ax.set(**{f"{axis.axis_name}scale": "log"})
            axis.set_ticks(ticks, [f"{tick:.6g}" for tick in ticks])
            axis.set_ticks([], minor=True)
    if panel.limits:
        ax.set_ylim(*panel.limits)
    ax.set_xlim(*panel.x_range)
    if panel.has_integer_x:
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax.set_xlabel(panel.x_label)
    set_literal_text(ax.yaxis.label, textwrap.fill(panel.title, 35))
    ax.grid(color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_line(ax: Axes, line: Line, alpha: float) -> None:
    style, named = choose_style(line.series, line.dash), line.series < NAMED
    if line.low and named:
        low, high = _fill_nan(line.low), _fill_nan(line.high)
        ax.fill_between(line.x, low, high, color=style["color"], alpha=alpha, linewidth=0)
    is_point = sum(y is not None for y in line.y) == 1
    ax.plot(line.x, _fill_nan(line.y), marker="o" if is_point else "", zorder=2.5 if named else 1.5, **style)


def _fill_nan(values: Values) -> list[float]:
    return [math.nan if value is None else value for value in values]


def choose_style(series: int, dash: int | None = None) -> dict[str, Any]:
    """Return the colour, dashes and width of a line."""
    if series >= NAMED:
        return {"color": _GREY, "linewidth": 0.8}
    dash = series // len(_COLOURS) if dash is None else dash
    return {"color": _COLOURS[series % len(_COLOURS)], "linestyle": _DASHES[dash], "linewidth": 1.6}


def draw_legend(
    parent: Axes | Figure, names: Mapping[int, str], *, dashes: Any = None, missing: int = 0, **style: Any
) -> None:
    """Draw a legend of names by series; the grey lines share an entry."""
    from matplotlib.lines import Line2D

    entries = [
        (name, choose_style(series, (dashes or {}).get(series)))
        for series, name in names.items()
        if series < NAMED
    ]
    if others := len(names) - len(entries):
        entries.append((f"{others} more", choose_style(NAMED)))
    if missing:
        entries.append((f"{missing} not drawn", {"linestyle": ""}))
    handles = [Line2D([], [], **line) for _, line in entries]
    # matplotlib omits labels that begin with an underscore, so the names are set afterwards.
    legend = parent.legend(handles, ["-"] * len(entries), frameon=False, fontsize="small", **style)
    for text, (name, _) in zip(legend.get_texts(), entries, strict=True):
        set_literal_text(text, name)


def _draw_interval(ax: Axes, position: int, row: ForestRow, chart: Forest) -> None:
    value, low, high = row.difference.value, row.difference.low, row.difference.high
    if value is None:
        return
    colour = _COLOURS[row.series % len(_COLOURS)] if row.series < NAMED else "0.45"
    if chart.is_beyond(row):
        marker, x = ("<", -chart.limit) if value < 0 else (">", chart.limit)
        ax.plot([x], [position], marker=marker, color=colour, markersize=7)
        return
    if low is not None and high is not None:
        ax.plot([low, high], [position, position], color=colour, linewidth=1.8)
    ax.plot([value], [position], "o", color=colour, markersize=6)

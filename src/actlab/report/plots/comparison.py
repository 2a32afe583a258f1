"""Figures of what was trained, drawn with matplotlib: learning, differences, functions side by side."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab.errors import UsageError, did_you_mean
from actlab.files import output_folder, writing
from actlab.report.html import charts
from actlab.report.html.tables import interval
from actlab.report.plots.functions import TITLE, as_written, axes, check_matplotlib, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from actlab.comparison.comparison import Comparison

# The report's: Okabe and Ito's palette, without yellow and darkened so that all are seen on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5588f", "#d08a00", "#3a9bd1", "#3b3f45")
_DASHES = ("-", "--", ":", "-.")  # of the second seven lines, and so on
_OTHERS, _REGION = "0.8", "0.9"  # greys
_SHOWN = 10  # activations in one set of axes that have a colour and a name
_INSIDE = 4  # names in a legend that has room among the lines
_ROW = 0.26  # inches of an activation in a forest plot
_SUFFIXES = ("png", "svg")


def plot_history(
    history: pd.DataFrame | Comparison, ax: Axes | None = None, *, metric: str = "valid_loss"
) -> Axes:
    """Draw a metric by epoch: the mean over runs, in a band from the lowest to the highest.

    Of one activation the loss of its training rows is drawn too, dashed, beside that of its validation rows.
    Of more than ten the ten that come out best have colours and names, and the others are grey.

    Args:
        history: What :func:`actlab.training.history_frame` or :attr:`actlab.Comparison.history` is; of a
            comparison itself, activations have the colours that they have in :func:`plot_comparison`.
        ax: Where to draw; the current axes of :mod:`matplotlib.pyplot` when left out. More than four names
            stand outside of it: a figure with ``layout="constrained"`` makes room for them.
        metric: ``"valid_loss"``, ``"train_loss"`` or ``"valid_acc"``.

    Returns:
        The axes.

    Raises:
        UsageError: matplotlib is missing, or the history has no such metric.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "valid_loss": [2.0, 1.5]})
        >>> plot_history(history, Figure().subplots()).get_ylabel()
        'loss'
    """
    if metric not in charts.METRICS:
        right = ", ".join(charts.METRICS)
        raise UsageError(f"metric {metric!r} is none of {right}{did_you_mean(metric, charts.METRICS)}")
    ranked = None if isinstance(history, pd.DataFrame) else _names(history)
    history = history if isinstance(history, pd.DataFrame) else history.history
    if history.empty:
        raise UsageError("the history has no epochs, so there is no curve to draw")
    if "activation" not in history:
        history = history.assign(activation="")
    names = ranked or history["activation"].unique().tolist()
    if len(names) > _SHOWN and not ranked:
        names = _best(history, names, metric)
    panel = _panels(history, names).get(metric)
    if panel is None:
        there = ", ".join(_panels(history, names)) or "no metric that is finite"
        raise UsageError(f"the history has no {metric}, so there is no curve to draw; it has {there}")
    ax = axes(ax)
    of = shown(names)
    if len(names) == 1 and metric in charts.LOSSES:
        _draw_losses(ax, _panels(history, names))
        as_written(ax.set_title(""), shown(names, TITLE)[names[0]] if names[0] else "")
        return ax
    _draw_panel(ax, panel)
    if names != [""]:
        legend = {line["series"]: of[line["name"]] for line in panel["lines"]}
        outside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
        _legend(ax, legend, **(outside if len(legend) > _INSIDE else {}))
    return ax


def plot_comparison(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the difference of each activation to the top row of the ranking, with its interval.

    The grey band is the region of practical equivalence; at the right are the figures and the verdict. A
    triangle at the edge is a difference that would leave no room for the others.

    Args:
        comparison: The comparison.
        ax: Where to draw; the current axes of :mod:`matplotlib.pyplot` when left out. Names and figures
            stand outside of it: a figure with ``layout="constrained"`` makes room for them.

    Returns:
        The axes.

    Raises:
        UsageError: matplotlib is missing, or the comparison has no difference.
    """
    names = [str(name) for name in comparison.ranking["activation"]]
    if len(names) < 2:
        raise UsageError(f"differences take two activations or more; the comparison has {len(names)}")
    found = charts.differences(comparison.verdicts, names[0])
    if all(one["value"] is None for one in found.values()):
        why = next((one["reason"] for one in found.values() if one["reason"]), "no run has a score")
        raise UsageError(f"the comparison has no difference to draw: {why}")
    ax, of, about = axes(ax), shown(names), comparison.about
    points = bool(about.get("points"))
    chart = charts.forest(names, found, float(about.get("region", math.nan)), 100.0 if points else 1.0)
    top = charts.standing(comparison.ranking)
    limit: float = chart["limit"]
    if chart["region"] is not None:
        ax.axvspan(-chart["region"], chart["region"], color=_REGION, zorder=0)
    ax.axvline(0, color="0.5", linewidth=0.8, zorder=1)
    size = "medium" if len(names) <= 12 else "small"
    for place, row in enumerate(chart["rows"]):
        _whisker(ax, place, row, limit)
        said = _said(row["word"], found.get(row["name"]), points) if place else top
        at: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": size}
        ax.text(1.02, place, said, **at)
    ends = [
        0.0,
        *(x for row in chart["rows"] for x in (row["value"], row["low"], row["high"]) if x is not None),
    ]
    half = chart["region"] or 0.0
    low, high = max(min(*ends, -half), -limit), min(max(*ends, half), limit)
    margin = 0.04 * (high - low)
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), [""] * len(names), fontsize=size)
    ax.set_yticklabels([of[name] for name in names], parse_math=False, usetex=False)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "top", "right"]].set_visible(False)
    unit = f"difference of {about.get('metric', 'score')} to {of[names[0]]}{', in points' if points else ''}"
    as_written(ax.xaxis.label, unit)
    return ax


def write_figures(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write the figures of a comparison: ``functions``, ``learning`` and ``comparison``, as PNG and SVG.

    What there is nothing to draw for is left out, and removed if it is there of another comparison. An
    activation has the same colour in all of them.

    Args:
        comparison: The comparison.
        folder: Where to write; it is made. Each file appears whole or not at all.

    Returns:
        The files.

    Raises:
        UsageError: matplotlib is missing, or a file cannot be written.
    """
    check_matplotlib()
    drawings: dict[str, Callable[[Comparison], Figure | None]] = {
        "functions": _functions_figure,
        "learning": _learning_figure,
        "comparison": _comparison_figure,
    }
    folder, written = output_folder(folder), []
    for name, draw in drawings.items():
        figure = draw(comparison)
        for suffix in _SUFFIXES:
            path = folder / f"{name}.{suffix}"
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            _save(figure, path)
            written.append(path)
    return written


def _save(figure: Figure, path: Path) -> None:
    import matplotlib

    with (
        warnings.catch_warnings(),
        matplotlib.rc_context({"svg.hashsalt": "actlab"}),
        writing(path) as beside,
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a box stands for it
        kind = path.suffix.lstrip(".")
        # The same comparison gives the same file.
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(beside, dpi=120, format=kind, metadata=metadata)


def _names(comparison: Comparison) -> list[str]:
    return [str(name) for name in comparison.ranking["activation"]]


def _functions_figure(comparison: Comparison) -> Figure | None:
    names = _names(comparison)
    few = names[:_SHOWN]  # fifty waves would hide each other
    return _side_by_side(charts.functions(few, comparison.curves)[0], names)


def _learning_figure(comparison: Comparison) -> Figure | None:
    return _side_by_side(list(_panels(comparison.history, _names(comparison)).values()), _names(comparison))


def _comparison_figure(comparison: Comparison) -> Figure | None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + _ROW * len(comparison.ranking)), layout="constrained")
    try:
        plot_comparison(comparison, figure.subplots())
    except UsageError:  # nothing to draw
        return None
    return figure


def _side_by_side(panels: Sequence[charts.Chart], names: Sequence[str]) -> Figure | None:
    """Draw panels beside each other, with one legend."""
    from matplotlib.figure import Figure

    if not panels:
        return None
    of = shown(list(names))
    figure = Figure(figsize=(4 * len(panels), 3.6), layout="constrained")
    for panel, ax in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        _draw_panel(ax, panel)
    legend = {line["series"]: of[line["name"]] for panel in panels for line in panel["lines"]}
    how: dict[str, Any] = {"loc": "outside lower center", "ncols": min(len(legend), 4)}
    _legend(figure, dict(sorted(legend.items())), undrawn=len(names) - len(legend), **how)
    return figure


def _panels(history: pd.DataFrame, names: Sequence[str]) -> dict[str, charts.Chart]:
    """Return the panel of each metric that the history has."""
    by_title = {panel["title"]: panel for panel in charts.learning(history, names)}
    return {metric: by_title[title] for metric, title in charts.METRICS.items() if title in by_title}


def _best(history: pd.DataFrame, names: Sequence[str], metric: str) -> list[str]:
    """Return the names, those whose mean line ends best first, and those without one last."""
    panel = _panels(history, names).get(metric, {"lines": []})
    ends = {line["name"]: [y for y in line["y"] if y is not None][-1] for line in panel["lines"]}
    worst, sign = math.inf, 1 if metric in charts.LOSSES else -1
    return sorted(names, key=lambda name: sign * ends[name] if name in ends else worst)


def _draw_losses(ax: Axes, panels: dict[str, charts.Chart]) -> None:
    """Draw the losses of one activation, that of training dashed."""
    lines = [
        {**panels[metric]["lines"][0], "series": series, "dash": int(metric == "train_loss")}
        for series, metric in enumerate(("valid_loss", "train_loss"))
        if metric in panels
    ]
    _draw_panel(ax, charts.panel("loss", "epoch", lines, loss=True))
    titles = {line["series"]: charts.LOSSES[("valid_loss", "train_loss")[line["series"]]] for line in lines}
    _legend(ax, titles, dashes={line["series"]: line["dash"] for line in lines})
    ax.set_ylabel(titles[lines[0]["series"]] if len(lines) == 1 else "loss")


def _draw_panel(ax: Axes, panel: charts.Chart) -> None:
    from matplotlib.ticker import MaxNLocator

    few = len(panel["lines"]) <= _INSIDE
    for line in reversed(panel["lines"]):  # the best are on top
        _draw_line(ax, line, 0.18 if few else 0.08)
    if panel["log"]:
        ax.set_yscale("log")
        ax.set_yticks(panel["ticks"], [f"{tick:.6g}" for tick in panel["ticks"]])
        ax.set_yticks([], minor=True)
    if panel["limits"]:
        ax.set_ylim(*panel["limits"])
    ax.set_xlim(*panel["span"])
    if panel["x"] == "epoch":
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax.set_xlabel(panel["x"])
    ax.set_ylabel(panel["title"])
    ax.grid(color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_line(ax: Axes, line: charts.Chart, alpha: float) -> None:
    style = _style(line["series"], line.get("dash"))
    y, low, high = (_gaps(line.get(name, [])) for name in ("y", "low", "high"))
    named = line["series"] < _SHOWN
    if low and named:
        ax.fill_between(line["x"], low, high, color=style["color"], alpha=alpha, linewidth=0)
    one = sum(map(math.isfinite, y)) == 1  # one point is no line
    ax.plot(line["x"], y, marker="o" if one else "", zorder=2.5 if named else 1.5, **style)


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _style(series: int, dash: int | None = None) -> dict[str, Any]:
    if series >= _SHOWN:
        return {"color": _OTHERS, "linewidth": 0.8}
    dash = series // len(_COLOURS) if dash is None else dash
    return {"color": _COLOURS[series % len(_COLOURS)], "linestyle": _DASHES[dash], "linewidth": 1.6}


def _legend(
    where: Axes | Figure, names: dict[int, str], *, dashes: Any = None, undrawn: int = 0, **how: Any
) -> None:
    """Draw a legend of names by series; the grey ones share a line of it."""
    from matplotlib.lines import Line2D

    named = {series: name for series, name in names.items() if series < _SHOWN}
    handles = [Line2D([], [], **_style(series, (dashes or {}).get(series))) for series in named]
    said = list(named.values())
    if others := len(names) - len(named):
        handles.append(Line2D([], [], **_style(_SHOWN)))
        said.append(f"{others} more")
    if undrawn:
        handles.append(Line2D([], [], linestyle=""))
        said.append(f"{undrawn} not drawn")
    # matplotlib leaves out what begins with an underscore: the names are put in afterwards.
    legend = where.legend(handles, ["-"] * len(said), frameon=False, fontsize="small", **how)
    for text, name in zip(legend.get_texts(), said, strict=True):
        as_written(text, name)


def _whisker(ax: Axes, place: int, row: dict[str, Any], limit: float) -> None:
    if row["value"] is None:
        return
    colour = _COLOURS[row["series"] % len(_COLOURS)] if row["series"] < _SHOWN else "0.45"
    if abs(row["value"]) > limit:
        left = row["value"] < 0
        x, marker = (-limit, "<") if left else (limit, ">")
        ax.plot([x], [place], marker=marker, color=colour, markersize=7)
        return
    if row["low"] is not None:
        ax.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.8)
    ax.plot([row["value"]], [place], "o", color=colour, markersize=6)


def _said(word: str, one: Any, points: bool) -> str:
    if one is None or one["value"] is None:
        return "no verdict"
    return f"{interval(one, points)}  {word}"

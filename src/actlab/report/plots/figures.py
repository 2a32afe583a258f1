"""All figures of the report, drawn with matplotlib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.errors import UsageError, did_you_mean
from actlab.files import create_output_folder, replace_file
from actlab.report.costs import make_cost_bars
from actlab.report.diagnostic_panels import (
    make_distribution_panels,
    make_gradient_panels,
    make_unit_panels,
)
from actlab.report.panels import (
    Panel,
    clean_labels,
    find_specs,
    make_function_panels,
    make_learning_panels,
    make_loss_panels,
)
from actlab.report.plots.comparison import (
    NAMED,
    choose_style,
    draw_legend,
    draw_panel,
    list_names,
    plot_comparison,
)
from actlab.report.plots.functions import check_matplotlib
from actlab.report.tuning_panels import make_tuning_panels, read_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from actlab.comparison.comparison import Comparison

PanelMaker = Callable[["Comparison", Sequence[str]], Sequence[Panel]]
FigureMaker = Callable[["Comparison", Sequence[str]], "Figure | None"]

_COLUMNS = 4  # panels in a row
_ROW = 0.26  # inches per activation
_SUFFIXES = ("png", "svg")


def plot_figure(comparison: Comparison, name: str) -> Figure:
    """Return a figure of the report, with one panel for each of its charts.

    Args:
        comparison: The comparison.
        name: ``"functions"``, ``"learning"``, ``"losses"`` (training and validation loss of each activation),
            ``"comparison"``, ``"units"`` (dead and saturated), ``"gradients"``, ``"distributions"`` (outputs
            and gradients), ``"cost"`` or ``"tuning"``.

    Returns:
        The figure. An activation has the same colour in all figures.

    Raises:
        UsageError: matplotlib is missing, there is no such figure, or it has no content.
    """
    if name not in FIGURES:
        options = ", ".join(FIGURES)
        raise UsageError(f"name must be one of {options}, got {name!r}{did_you_mean(name, FIGURES)}")
    check_matplotlib()
    figure = FIGURES[name](comparison, list_names(comparison))
    if figure is None:
        raise UsageError(f"the comparison has no data for the figure {name!r}")
    return figure


def write_figures(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write all figures of :func:`plot_figure` as PNG and SVG.

    A figure without content is not written, and an old file of that name is removed.

    Args:
        comparison: The comparison.
        folder: Output folder; it is created if necessary. Each file is written completely or not at all.

    Returns:
        The files.

    Raises:
        UsageError: matplotlib is missing, or a file cannot be written.
    """
    check_matplotlib()
    folder, written = create_output_folder(folder), []
    for name, draw in FIGURES.items():
        figure = draw(comparison, list_names(comparison))
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

    kind = path.suffix.lstrip(".")
    # The same comparison gives the same file.
    reproducible = matplotlib.rc_context({"svg.hashsalt": "actlab"})
    with warnings.catch_warnings(), reproducible, replace_file(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # matplotlib draws a box
        figure.savefig(temporary, dpi=120, format=kind, metadata={"Date": None} if kind == "svg" else None)


# -- figures --------------------------------------------------------------------------------------


def _make_comparison_figure(comparison: Comparison, names: Sequence[str]) -> Figure | None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + _ROW * len(names)), layout="constrained")
    try:
        plot_comparison(comparison, figure.subplots())
    except UsageError:  # nothing to draw
        return None
    return figure


def _make_cost_figure(comparison: Comparison, names: Sequence[str]) -> Figure | None:
    from matplotlib.figure import Figure

    charts, labels = make_cost_bars(comparison.results, names), clean_labels(names)
    if not charts:
        return None
    figure = Figure(figsize=(5 * len(charts), 1.2 + _ROW * len(names)), layout="constrained")
    for bars, ax in zip(charts.values(), figure.subplots(1, len(charts), squeeze=False)[0], strict=True):
        drawn, series, values = zip(*bars.rows, strict=True)
        colours = [choose_style(place)["color"] for place in series]
        ax.bar_label(ax.barh(series, values, color=colours), fmt="%.3g", padding=3)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(series, [""] * len(series))
        ax.set_yticklabels([labels[name] for name in drawn], parse_math=False, usetex=False)
        ax.set_xlabel(bars.title if bars.unit in bars.title else f"{bars.title}, {bars.unit}")
        ax.margins(x=0.15)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_panels(panels: Sequence[Panel], names: Sequence[str]) -> Figure | None:
    """Return panels in rows of up to four, with one legend."""
    from matplotlib.figure import Figure

    if not panels:
        return None
    labels, columns = clean_labels(names), min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, ax in zip(panels, axes, strict=False):
        draw_panel(ax, panel)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    legend = {line.series: labels[line.name] for panel in panels for line in panel.lines}
    style: dict[str, Any] = {"loc": "outside lower center", "ncols": min(len(legend), 4)}
    draw_legend(figure, dict(sorted(legend.items())), missing=len(names) - len(legend), **style)
    return figure


def _make_loss_panels(comparison: Comparison, names: Sequence[str]) -> Sequence[Panel]:
    panels = make_loss_panels(comparison.history, names[:NAMED], clean_labels(names)).values()
    return [replace(one, title=f"{one.title}: losses", x_label="epoch (validation dashed)") for one in panels]


def _make_tuning_panels(comparison: Comparison, names: Sequence[str]) -> Sequence[Panel]:
    trials = read_trials(comparison.tuning, comparison.about)
    return [*make_tuning_panels(trials, names, comparison.about).values()]


def _of_panels(make_panels: PanelMaker) -> FigureMaker:
    return lambda comparison, names: _draw_panels(make_panels(comparison, names), names)


# Curves of more than ten functions would hide each other.
FIGURES: Mapping[str, FigureMaker] = {
    "functions": _of_panels(
        lambda one, names: make_function_panels(find_specs(names[:NAMED], one.about), one.curves)[0]
    ),
    "learning": _of_panels(lambda one, names: [*make_learning_panels(one.history, names).values()]),
    "losses": _of_panels(_make_loss_panels),
    "comparison": _make_comparison_figure,
    "units": _of_panels(lambda one, names: make_unit_panels(one.diagnostics, names)),
    "gradients": _of_panels(lambda one, names: make_gradient_panels(one.diagnostics, names)),
    "distributions": _of_panels(lambda one, names: make_distribution_panels(one.diagnostics, names)),
    "cost": _make_cost_figure,
    "tuning": _of_panels(_make_tuning_panels),
}

"""Critical-difference diagrams: mean ranks, and groups without a significant difference."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.errors import UsageError
from actlab.files import replace_file
from actlab.report.plots.functions import check_matplotlib
from actlab.stats.posterior import LEVEL
from actlab.stats.several_datasets import MultiDatasetResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR, _LINE = "#0072B2", "0.35"  # Okabe and Ito's blue; grey
_INCHES = 0.24  # between two rows of labels
_BAR_DISTANCE = 0.6  # between two bars, in such rows
_LETTER = 0.085  # inches per letter of a label
_SUFFIXES = (".png", ".svg", ".pdf")
_TEST = f"Wilcoxon's test, Holm's correction, {100 * LEVEL:g}\N{NO-BREAK SPACE}%"


def _describe_groups(comparison: MultiDatasetResult, where: str) -> str:
    if len(comparison.ranks) == 1:
        return "There is only one activation"
    return f"No significant difference {where} ({_TEST})" if comparison.cliques else f"All differ ({_TEST})"


def draw_critical_difference(comparison: MultiDatasetResult, ax: Axes) -> Axes:
    """Draw mean ranks, the best on the left, and bars that join activations without a significant difference.

    A bar has a dot for each activation in its group; it may pass over others. Unlike in J. Demšar's diagrams,
    there is no critical difference of ranks, because Wilcoxon's test compares the pairs.

    Args:
        comparison: From :func:`actlab.stats.several_datasets.compare_over_datasets`.
        ax: Axes to draw on. Names are placed outside the axes; ``layout="constrained"`` makes room for them.

    Returns:
        The same axes.

    References:
        J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006).
    """
    ranks, names = comparison.ranks["mean_rank"].to_list(), comparison.ranks["activation"].to_list()
    largest = max(len(ranks), 2)
    margin = 0.04 * (largest - 1)
    ends = 1 - margin, largest + margin
    top = _draw_bars(comparison, ax, margin / 2)
    half = (len(ranks) + 1) // 2  # the better ones at the left, the best on top; the worst at the right
    for index, (rank, name) in enumerate(zip(ranks, names, strict=True)):
        left = index < half
        end, y = (ends[0], top + index) if left else (ends[1], top + len(ranks) - 1 - index)
        ax.plot([rank, rank, end], [0, y, y], color=_LINE, linewidth=0.9, zorder=1)
        label = f"{name}  {rank:.2f} " if left else f" {rank:.2f}  {name}"
        ax.text(end, y, label, ha="right" if left else "left", va="center", parse_math=False)
    ax.set_xlim(*ends)
    ax.set_ylim(top + half + 1, 0)
    ax.spines[["left", "right", "bottom"]].set_visible(False)
    ax.spines["top"].set_bounds(1, largest)
    ax.yaxis.set_visible(False)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xticks(range(1, largest + 1, 1 + largest // 20))
    ax.set_xlabel(f"mean rank over {len(comparison.scores)} {comparison.over} (1 is best)")
    legend = _describe_groups(comparison, "between the dots of a bar")
    ax.text(sum(ends) / 2, top + half, legend, ha="center", va="top", fontsize="small", color=_LINE)
    return ax


def _draw_bars(comparison: MultiDatasetResult, ax: Axes, gap: float) -> float:
    """Draw a bar for each group; return the first free row below them."""
    ranks = dict(zip(comparison.ranks["activation"], comparison.ranks["mean_rank"], strict=True))
    groups = [[ranks[name] for name in clique] for clique in comparison.cliques]
    spans = []
    for group in groups:  # a bar of equal ranks has some length, too
        middle, half = (group[0] + group[-1]) / 2, max(group[-1] - group[0], 2 * gap) / 2
        spans.append((middle - half, middle + half))
    levels = _stack(spans, gap)
    for level, span, group in zip(levels, spans, groups, strict=True):
        y = _BAR_DISTANCE * (level + 1)
        ax.plot(span, [y, y], color=_BAR, linewidth=3, label="bar")
        ax.plot(group, [y] * len(group), "o", color=_BAR, markersize=7, markeredgecolor="w", label="members")
    return _BAR_DISTANCE * (max(levels, default=-1) + 1) + 1


def _stack(spans: Sequence[tuple[float, float]], gap: float) -> list[int]:
    """Return for each span the lowest level on which it does not touch the spans before it."""
    ends: list[float] = []  # of the last span on each level
    levels = []
    for low, high in spans:
        level = next((i for i, end in enumerate(ends) if end + gap < low), len(ends))
        ends[level : level + 1] = [high]
        levels.append(level)
    return levels


def write_critical_difference(comparison: MultiDatasetResult, path: Path) -> None:
    """Write the diagram as a PNG, SVG or PDF file, by the suffix of the path.

    Args:
        comparison: From :func:`actlab.stats.several_datasets.compare_over_datasets`.
        path: The file. It is written completely or not at all.

    Raises:
        UsageError: matplotlib is missing, the suffix is unknown, or the file cannot be written.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"the name of a figure must end in {', '.join(_SUFFIXES)}, got {path.name!r}")
    check_matplotlib()
    with replace_file(path) as temporary:
        _save(comparison, temporary, path.suffix.lower().lstrip("."))


def render_critical_difference(comparison: MultiDatasetResult) -> str:
    """Return the diagram as a data URI of an SVG image; empty if matplotlib is not installed.

    Args:
        comparison: From :func:`actlab.stats.several_datasets.compare_over_datasets`.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return ""
    image = io.BytesIO()
    _save(comparison, image, "svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(image.getvalue()).decode()}"


def _save(comparison: MultiDatasetResult, file: Any, kind: str) -> None:
    from matplotlib.figure import Figure

    letters = int(comparison.ranks["activation"].str.len().max()) + 6
    figure = Figure(figsize=(4.5 + 2 * _LETTER * letters, 4), layout="constrained")
    ax = draw_critical_difference(comparison, figure.subplots())
    figure.set_figheight(0.7 + _INCHES * ax.get_ylim()[0])
    figure.savefig(file, dpi=120, format=kind, bbox_inches="tight", pad_inches=0.15)

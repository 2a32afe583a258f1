"""The critical-difference diagram: mean ranks on a line, and bars over what is not told apart."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from actlab.errors import UsageError
from actlab.files import writing
from actlab.report.tables import WIDTH
from actlab.stats.several_datasets import Demsar
from actlab.stats.verdict import LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR, _LINE = "#0072B2", "0.35"  # Okabe and Ito's blue; grey
_INCHES = 0.24  # between two lines of labels
_BARS = 0.6  # between two bars, in such lines
_LETTER = 0.085  # inches of a letter of a label, on the wide side
_SUFFIXES = (".png", ".svg", ".pdf")
_LEAST = 40  # columns of a text
_SHORTEST = 15  # characters of a name in it, if it has more
_FIXED = 20  # columns of the rank, of blanks, and of the shortest scale
_HEADER = "activation"


def critical_difference(found: Demsar, ax: Axes) -> Axes:
    """Draw mean ranks, best at the left, and bars that join activations that are not told apart.

    A bar has a dot for each activation that belongs to it: what it passes over without a dot is told apart
    from one of them. There is no length to show that a difference of ranks would have to exceed, as in
    J. Demšar's diagrams: pairs are compared by Wilcoxon's test and not by their mean ranks.

    Args:
        found: As :func:`actlab.stats.several_datasets.over_datasets` returns it.
        ax: Where to draw. Names stand outside of it, as labels of ticks do: a figure with
            ``layout="constrained"`` makes room for them.

    Returns:
        The same axes.

    References:
        J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006).
    """
    ranks, names = found.ranks["mean_rank"].to_list(), found.ranks["activation"].to_list()
    most = max(len(ranks), 2)
    margin = 0.04 * (most - 1)
    ends = 1 - margin, most + margin
    top = _draw_bars(found, ax, margin / 2)
    half = (len(ranks) + 1) // 2  # the better ones at the left, the best on top; at the right the worst
    for place, (rank, name) in enumerate(zip(ranks, names, strict=True)):
        left = place < half
        end, y = (ends[0], top + place) if left else (ends[1], top + len(ranks) - 1 - place)
        ax.plot([rank, rank, end], [0, y, y], color=_LINE, linewidth=0.9, zorder=1)
        label = f"{name}  {rank:.2f} " if left else f" {rank:.2f}  {name}"
        ax.text(end, y, label, ha="right" if left else "left", va="center", parse_math=False)
    _dress(ax, found, ends, top + half)
    return ax


def write_critical_difference(found: Demsar, path: Path) -> None:
    """Write the diagram as a PNG, SVG or PDF file, by the suffix of the path.

    Args:
        found: As :func:`actlab.stats.several_datasets.over_datasets` returns it.
        path: The file; it appears whole or not at all.

    Raises:
        UsageError: matplotlib is missing, the suffix is another one, or the file cannot be written.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"cannot write {path.name!r} as a figure: it should end in {', '.join(_SUFFIXES)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError('figures need matplotlib: pip install "actlab[figures]"') from error
    letters = int(found.ranks["activation"].str.len().max()) + 6
    figure = Figure(figsize=(4.5 + 2 * _LETTER * letters, 4), layout="constrained")
    ax = critical_difference(found, figure.subplots())
    figure.set_figheight(0.7 + _INCHES * ax.get_ylim()[0])
    with writing(path) as beside:
        kind = path.suffix.lower().lstrip(".")
        figure.savefig(beside, dpi=120, format=kind, bbox_inches="tight", pad_inches=0.15)


def _draw_bars(found: Demsar, ax: Axes, gap: float) -> float:
    """Draw a bar for each clique; return where there is room below them, in lines below the axis."""
    ranks = found.ranks["mean_rank"].to_list()
    cliques = _places(found)
    spans = [_span(ranks[clique[0]], ranks[clique[-1]], 2 * gap) for clique in cliques]
    levels = _levels(spans, gap)
    for level, span, clique in zip(levels, spans, cliques, strict=True):
        y = _BARS * (level + 1)
        x = [ranks[place] for place in clique]
        ax.plot(span, [y, y], color=_BAR, linewidth=3, label="bar")
        ax.plot(x, [y] * len(x), "o", color=_BAR, markersize=7, markeredgecolor="w", label="members")
    return _BARS * (max(levels, default=-1) + 1) + 1


def _span(low: float, high: float, least: float) -> tuple[float, float]:
    """Return the ends of a bar, also of one that joins equal ranks."""
    middle, half = (low + high) / 2, max(high - low, least) / 2
    return middle - half, middle + half


def _dress(ax: Axes, found: Demsar, ends: tuple[float, float], bottom: float) -> None:
    most = max(len(found.ranks), 2)
    ax.set_xlim(*ends)
    ax.set_ylim(bottom + 1, 0)
    ax.spines[["left", "right", "bottom"]].set_visible(False)
    ax.spines["top"].set_bounds(1, most)
    ax.yaxis.set_visible(False)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xticks(range(1, most + 1, 1 + most // 20))
    ax.set_xlabel(f"mean rank over {len(found.scores)} datasets (1 is best)")
    said = _legend(found, "bars join") + (
        "\nwhat has no dot on a bar is only passed by" if _passes(found) else ""
    )
    centre = (ends[0] + ends[1]) / 2
    ax.text(centre, bottom, said, ha="center", va="top", fontsize="small", color=_LINE)


def _legend(found: Demsar, joining: str) -> str:
    if len(found.ranks) == 1:
        return "there is no other to compare it with"
    how = f"(Wilcoxon's test, Holm's correction, {100 * LEVEL:g}\N{NO-BREAK SPACE}%)"
    return f"{joining} what is not told apart {how}" if found.cliques else f"all are told apart {how}"


def _passes(found: Demsar) -> bool:
    """Whether a bar passes over an activation that does not belong to it."""
    return any(clique[-1] - clique[0] >= len(clique) for clique in _places(found))


def _places(found: Demsar) -> list[list[int]]:
    """Return the cliques as places in the order of ranks."""
    place = {name: i for i, name in enumerate(found.ranks["activation"])}
    return [[place[name] for name in clique] for clique in found.cliques]


def _levels(spans: Sequence[tuple[float, float]], gap: float) -> list[int]:
    """Return a level for each span, the lowest on which it keeps a gap to those before it."""
    ends: list[float] = []  # of what is on each level so far
    levels = []
    for low, high in spans:
        level = next((i for i, end in enumerate(ends) if end + gap < low), len(ends))
        ends[level : level + 1] = [high]
        levels.append(level)
    return levels


def text_diagram(found: Demsar, width: int = WIDTH) -> str:
    """Lay the diagram out as text.

    Args:
        found: As :func:`actlab.stats.several_datasets.over_datasets` returns it.
        width: The most characters a line may have, 40 or more.

    Returns:
        A line for each activation, best first: its name, its mean rank, a dot on a scale from 1 to the
        number of activations, and a column for each bar: ``┃`` where it belongs to it, ``╎`` where the bar
        only passes by. The last line says what bars are.

    Raises:
        UsageError: ``width`` is less than 40.

    Examples:
        >>> import pandas as pd
        >>> from actlab.stats.several_datasets import over_datasets
        >>> relu, tanh = [0.97, 0.88, 0.91], [0.95, 0.87, 0.90]
        >>> print(text_diagram(over_datasets(pd.DataFrame({"tanh": tanh, "relu": relu})), 40))
        activation   rank  1                 2
        relu         1.00  ●·················· ┃
        tanh         2.00  ··················● ┃
        ┃ joins what is not told apart
        (Wilcoxon's test, Holm's correction,
        5 %)
    """
    if width < _LEAST:
        raise UsageError(f"width is {width}; a diagram needs {_LEAST} columns or more")
    ranks, names = found.ranks["mean_rank"].to_list(), found.ranks["activation"].to_list()
    bars = _text_bars(found)
    longest = max(len(name) for name in (*names, _HEADER))
    room = min(longest, max(_SHORTEST, width - _FIXED - 2 * len(bars)))
    shown = bars[: (width - _FIXED - room) // 2]
    scale = width - room - 9 - 2 * len(shown)
    most = str(max(len(ranks), 2))
    lines = [f"{_HEADER:<{room}}   rank  1{most:>{scale - 1}}"]
    for place, (rank, name) in enumerate(zip(ranks, names, strict=True)):
        dot = round((rank - 1) / (int(most) - 1) * (scale - 1))
        line = "·" * dot + "●" + "·" * (scale - 1 - dot)
        marks = "".join(f" {bar[place]}" for bar in shown)
        lines.append(f"{_shortened(name, room):<{room}}  {rank:5.2f}  {line}{marks}".rstrip())
    return "\n".join([*lines, *textwrap.wrap(_text_legend(found, len(bars) - len(shown)), width)])


def _text_bars(found: Demsar) -> list[str]:
    """Return columns of bars, a character for each activation; bars that share one are a line apart."""
    cliques = _places(found)
    levels = _levels([(clique[0], clique[-1]) for clique in cliques], 1)
    columns = [[" "] * len(found.ranks) for _ in range(max(levels, default=-1) + 1)]
    for level, clique in zip(levels, cliques, strict=True):
        for place in range(clique[0], clique[-1] + 1):
            columns[level][place] = "┃" if place in clique else "╎"
    return ["".join(column) for column in columns]


def _text_legend(found: Demsar, left_out: int) -> str:
    said = _legend(found, "┃ joins") + ("; ╎ only passes by" if _passes(found) else "")
    return said + (f"; columns of bars that do not fit here: {left_out}" if left_out else "")


def _shortened(name: str, room: int) -> str:
    """Return a name with its middle left out if it is long: activations often differ in the last digits."""
    half = room // 2
    return name if len(name) <= room else f"{name[: room - half - 1]}…{name[-half:]}"

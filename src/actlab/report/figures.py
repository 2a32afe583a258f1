"""Figures, drawn with matplotlib on axes that are given and returned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from actlab._errors import UsageError
from actlab._files import writing
from actlab.activation import Activation
from actlab.describe import curves, rise, window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart by the colour-blind, and on paper by the line style too.
_STYLES = (("f", "#0072B2", "-"), ("f′", "#D55E00", "--"), ("f″", "#009E73", ":"))
_POINTS = 1201


def plot_function(activation: Activation[Any], ax: Axes) -> Axes:
    """Draw f, f' and f'' of an activation, with its kinks marked.

    Args:
        activation: What to draw, at its example parameters.
        ax: Where to draw.

    Returns:
        The same axes.
    """
    low, high = window(activation)
    x = torch.linspace(low, high, _POINTS, dtype=torch.float64)
    drawn = curves(activation, x)
    for values, (label, color, style) in zip(drawn, _STYLES, strict=True):
        ax.plot(x.numpy(), values.numpy(), style, color=color, label=label, linewidth=1.8)
    for place, slope in activation.kinks().items():
        ax.plot([place], [slope], "o", color=_STYLES[1][1], markersize=6)
    most = rise(activation)
    main = torch.stack(drawn[:2]).clamp(-most, most)  # f″ may spike at a bend: it is cut off
    margin = 0.08 * float(main.max() - main.min())
    ax.set_ylim(float(main.min()) - margin, float(main.max()) + 2 * margin)
    ax.set_xlim(low, high)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlabel("x")
    ax.set_title(activation.name)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles, labels, frameon=False, ncols=3, loc="upper left")
    return ax


def check_drawable(activation: Activation[Any]) -> None:
    """Raise UsageError for an activation that has no curve."""
    if activation.facts.gated:
        raise UsageError(f"{activation.name}: takes two halves of a tensor, so it has no curve to draw")


def write_figure(activation: Activation[Any], path: Path) -> None:
    """Write the figure of an activation as a PNG or SVG file, by the suffix of the path.

    Args:
        activation: What to draw.
        path: The file; it appears whole or not at all.

    Raises:
        UsageError: matplotlib is missing, the file cannot be written, or there is no curve to draw.
    """
    check_drawable(activation)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError('figures need matplotlib: pip install "actlab[docs]"') from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    plot_function(activation, figure.subplots())
    with writing(path) as beside:
        figure.savefig(beside, dpi=120, format=path.suffix.lstrip("."))

"""Figures of functions, drawn with matplotlib on axes that are given and returned."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from actlab.activation.definition import Activation
from actlab.describe import derivatives, window
from actlab.errors import UsageError, summarize_error
from actlab.execution.progress import printable
from actlab.files import writing
from actlab.functions import catalogue
from actlab.report.html.charts import labels
from actlab.spec import get

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

# Okabe and Ito's palette: told apart by the colour-blind, and on paper by the line style too.
_STYLES = (("f", "#0072B2", "-"), ("f′", "#D55E00", "--"), ("f″", "#009E73", ":"))
_POINTS = 1201
TITLE = 60  # characters
_USUAL = 4.0  # how far to draw what nothing is known of
_DIRECTIONS = "\u2068\u2069"  # which matplotlib would draw as boxes


def plot_function(activation: Activation[Any] | str, ax: Axes | None = None) -> Axes:
    """Draw f, f' and f'' of an activation, with its kinks marked.

    Args:
        activation: What to draw: a definition, at its example parameters, or a spec such as
            ``"leaky_relu(negative_slope=0.2)"`` or ``"my_layers.py:MyActivation"``.
        ax: Where to draw; the current axes of :mod:`matplotlib.pyplot` when left out.

    Returns:
        The axes.

    Raises:
        UsageError: matplotlib is missing, the spec names nothing, or there is no curve to draw.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> plot_function("elu(alpha=0.5)", Figure().subplots()).get_title()
        'elu(alpha=0.5)'
    """
    name, function, kinks, reach = _known(activation)
    x = torch.linspace(-reach, reach, _POINTS, dtype=torch.float64)
    try:
        drawn = derivatives(function, x)
    except Exception as error:  # anybody's module
        raise UsageError(f"{name}: has no curve to draw: {summarize_error(error)}") from error
    ax = axes(ax)
    for values, (label, color, style) in zip(drawn, _STYLES, strict=True):
        ax.plot(x.numpy(), values.numpy(), style, color=color, label=label, linewidth=1.8)
    for place, slope in kinks.items():
        ax.plot([place], [slope], "o", color=_STYLES[1][1], markersize=6)
    most = max(reach, 1.25)  # as far up as to the sides, and all of a wave
    main = torch.stack(drawn[:2]).clamp(-most, most)  # f″ may spike at a bend: it is cut off
    margin = 0.08 * float(main.max() - main.min()) or 1.0
    ax.set_ylim(float(main.min()) - margin, float(main.max()) + 2 * margin)
    ax.set_xlim(-reach, reach)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlabel("x")
    as_written(ax.set_title(""), shown([name], TITLE)[name])
    handles, labelled = ax.get_legend_handles_labels()
    ax.legend(handles, labelled, frameon=False, ncols=3, loc="upper left")
    return ax


def _known(
    activation: Activation[Any] | str,
) -> tuple[str, Callable[[Tensor], Tensor], Mapping[float, float], float]:
    """Return what an activation is called, its function, its kinks and how far it is worth drawing."""
    if not isinstance(activation, str | Activation):
        right = "a spec such as 'elu(alpha=0.5)', or a definition"
        raise UsageError(f"activation is a {type(activation).__name__}; it must be {right}")
    found = catalogue.get(activation) if isinstance(activation, str) else activation
    if found is not None:
        check_drawable(found)
        function = functools.partial(found, **found.example)
        return found.name, function, found.kinks(), window(found)[1]
    assert isinstance(activation, str)  # which names what is not in the catalogue as it is
    module = get(activation).double().eval().requires_grad_(False)
    definition = getattr(module, "activation", None)
    if not isinstance(definition, Activation):
        return activation, module, {}, _USUAL
    check_drawable(definition)
    kinks = definition.kinks(**{name: getattr(module, name) for name in definition.parameters})
    return activation, module, kinks, max([window(definition)[1], *(1.5 * abs(kink) for kink in kinks)])


def axes(ax: Axes | None) -> Axes:
    """Return the axes, or pyplot's current ones.

    Raises:
        UsageError: matplotlib is missing.
    """
    if ax is not None:
        return ax
    check_matplotlib()
    from matplotlib import pyplot

    if pyplot.gcf().get_layout_engine() is None:  # names and figures stand outside of the axes
        pyplot.gcf().set_layout_engine("constrained")
    return pyplot.gca()


def check_matplotlib() -> None:
    """Raise UsageError where matplotlib is missing; the message says how to get it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError('figures need matplotlib: pip install "actlab[figures]"') from error


def shown(names: list[str], most: int = 26) -> dict[str, str]:
    """Return a label of so many characters for each name, in characters that a font may have."""
    short = labels(names, most).items()
    return {name: printable(label.translate(dict.fromkeys(map(ord, _DIRECTIONS)))) for name, label in short}


def as_written(text: Text, words: str) -> None:
    """Let a text say words in which neither ``$`` nor a backslash means anything."""
    text.set_parse_math(False)
    text.set_usetex(False)
    text.set_text(words)


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
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    plot_function(activation, figure.subplots())
    with writing(path) as beside:
        figure.savefig(beside, dpi=120, format=path.suffix.lstrip("."))

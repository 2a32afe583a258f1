"""Plots of activations on matplotlib axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from actlab.activation.definition import Activation
from actlab.describe import evaluate_derivatives, find_plot_range
from actlab.errors import UsageError, summarize_error
from actlab.files import replace_file
from actlab.functions import catalogue
from actlab.report.panels import clean_labels
from actlab.spec import get

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

# Okabe and Ito's palette; the dashes do not depend on colour.
_STYLES = (("f", "#0072B2", "-"), ("f′", "#D55E00", "--"), ("f″", "#009E73", ":"))
_POINTS = 1201
_DEFAULT_REACH = 4.0  # of a module that is not a definition
MAX_TITLE = 60  # characters


def plot_function(activation: Activation[Any] | str, ax: Axes | None = None) -> Axes:
    """Plot f, f' and f'' of an activation, with its kinks marked.

    Args:
        activation: A definition, plotted with its example parameters, or a spec such as
            ``"leaky_relu(negative_slope=0.2)"`` or ``"my_layers.py:MyActivation"``.
        ax: Axes to draw on (default: the current axes of :mod:`matplotlib.pyplot`).

    Returns:
        The axes.

    Raises:
        UsageError: matplotlib is missing, the spec is unknown, or there is no curve to draw.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> plot_function("elu(alpha=0.5)", Figure().subplots()).get_title()
        'elu(alpha=0.5)'
    """
    name, function, kinks, reach = _resolve(activation)
    x = torch.linspace(-reach, reach, _POINTS, dtype=torch.float64)
    try:
        curves = evaluate_derivatives(function, x)
    except Exception as error:  # a user's module may raise anything
        raise UsageError(f"{name}: its curve cannot be drawn: {summarize_error(error)}") from error
    ax = get_axes(ax)
    for values, (label, color, style) in zip(curves, _STYLES, strict=True):
        ax.plot(x.numpy(), values.numpy(), style, color=color, label=label, linewidth=1.8)
    for kink, slope in kinks.items():
        ax.plot([kink], [slope], "o", color=_STYLES[1][1], markersize=6)
    most = max(reach, 1.25)
    main = torch.stack(curves[:2]).clamp(-most, most)  # spikes of f″ are cut off
    margin = 0.08 * float(main.max() - main.min()) or 1.0
    ax.set_ylim(float(main.min()) - margin, float(main.max()) + 2 * margin)
    ax.set_xlim(-reach, reach)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlabel("x")
    set_literal_text(ax.set_title(""), clean_labels([name], MAX_TITLE)[name])
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles, labels, frameon=False, ncols=3, loc="upper left")
    return ax


def _resolve(
    activation: Activation[Any] | str,
) -> tuple[str, Callable[[Tensor], Tensor], Mapping[float, float], float]:
    """Return the name of an activation, its function, its kinks and the largest x worth drawing."""
    if not isinstance(activation, str | Activation):
        expected = "a spec such as 'elu(alpha=0.5)', or a definition"
        raise UsageError(f"activation must be {expected}, got a {type(activation).__name__}")
    definition = catalogue.get(activation) if isinstance(activation, str) else activation
    if definition is not None:
        check_drawable(definition)
        function = functools.partial(definition, **definition.example)
        return definition.name, function, definition.kinks(), find_plot_range(definition)[1]
    assert isinstance(activation, str)
    module = get(activation).double().eval().requires_grad_(False)
    definition = getattr(module, "activation", None)
    if not isinstance(definition, Activation):
        return activation, module, {}, _DEFAULT_REACH
    check_drawable(definition)
    kinks = definition.kinks(**{name: getattr(module, name) for name in definition.parameters})
    reach = max([find_plot_range(definition)[1], *(1.5 * abs(kink) for kink in kinks)])
    return activation, module, kinks, reach


def get_axes(ax: Axes | None) -> Axes:
    """Return ``ax``, or the current axes of pyplot if it is None.

    Raises:
        UsageError: matplotlib is missing.
    """
    if ax is not None:
        return ax
    check_matplotlib()
    from matplotlib import pyplot

    if pyplot.gcf().get_layout_engine() is None:  # names stand outside of the axes
        pyplot.gcf().set_layout_engine("constrained")
    return pyplot.gca()


def check_matplotlib() -> None:
    """Raise UsageError if matplotlib is missing; the message explains how to install it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError('figures need matplotlib: pip install "actlab[figures]"') from error


def set_literal_text(text: Text, content: str) -> None:
    """Set a text in which ``$`` and backslashes have no special meaning."""
    text.set_parse_math(False)
    text.set_usetex(False)
    text.set_text(content)


def check_drawable(activation: Activation[Any]) -> None:
    """Raise UsageError for an activation that has no curve."""
    if activation.facts.gated:
        raise UsageError(f"{activation.name} takes two halves of a tensor, so it has no curve to draw")


def write_figure(activation: Activation[Any], path: Path) -> None:
    """Write the figure of an activation as PNG or SVG, by the suffix of the path.

    Args:
        activation: The activation.
        path: The file. It is written completely or not at all.

    Raises:
        UsageError: matplotlib is missing, the file cannot be written, or there is no curve to draw.
    """
    check_drawable(activation)
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    plot_function(activation, figure.subplots())
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix.lstrip("."))

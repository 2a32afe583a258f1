"""Describe an activation in words, numbers and characters, from its definition."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from actlab.activation.definition import Activation
from actlab.derivation.catalogue_derivatives import CATALOGUE_DERIVATIVES

POINTS = (-math.inf, -10.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 10.0, math.inf)


def evaluate_curves(activation: Activation[Any], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate an activation and its first two derivatives with the autograd functions of training.

    Args:
        activation: The activation, with its example parameters.
        x: Points (n,), float64.

    Returns:
        f, f' and f'' at the points, each (n,).

    Examples:
        >>> import actlab
        >>> x = torch.tensor([-1.0, 2.0]).double()
        >>> [v.tolist() for v in evaluate_curves(actlab.catalogue["relu"], x)]
        [[0.0, 2.0], [0.0, 1.0], [0.0, 0.0]]
    """
    return evaluate_derivatives(lambda points: activation(points, **activation.example), x)


def evaluate_derivatives(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate an element-wise function and its first two derivatives.

    Args:
        function: A function, or a module, that takes and returns points (n,).
        x: Points (n,), float64.

    Returns:
        The function and its derivatives at the points, each (n,).

    Examples:
        >>> [v.tolist() for v in evaluate_derivatives(torch.square, torch.tensor([3.0]).double())]
        [[9.0], [6.0], [2.0]]
    """
    x = x.detach().clone().requires_grad_()
    value = function(x)
    # The gradient of a sum: torch imports SymPy if it is given the gradient of the output.
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    if not first.requires_grad:  # a constant: the mask of a piecewise linear function
        return value.detach(), first, torch.zeros_like(x)
    (second,) = torch.autograd.grad(first.sum(), x, allow_unused=True)
    return value.detach(), first.detach(), torch.zeros_like(x) if second is None else second


def get_summary(activation: Activation[Any]) -> str:
    """Return the first paragraph of the definition's docstring, on one line.

    Args:
        activation: The activation.

    Returns:
        The text, without mark-up for code.
    """
    first = inspect.cleandoc(activation.__doc__ or "").split("\n\n")[0]
    return " ".join(first.replace("``", "").split())


def list_properties(activation: Activation[Any]) -> list[tuple[str, str]]:
    """Return the properties of an activation as pairs of label and text.

    Args:
        activation: The activation.

    Returns:
        Formula, example parameters if they are not the defaults, derivative, range, limits, monotonicity,
        kinks, memory saved for backward, module, torch equivalent and paper.
    """
    facts, saved = activation.facts, activation.saves()
    rows = [("formula", activation.formula())]
    if facts.example and not facts.gated:
        example = activation.example.items()
        values = (f"{name}={format_number(v) if isinstance(v, float) else repr(v)}" for name, v in example)
        rows.append(("values at", ", ".join(values)))
    if not facts.gated:
        rows += [("derivative", _get_derivative(rows[0][1])), *_list_curve_properties(activation)]
    else:
        rows.append(("input", "two halves a, b of one tensor along dim"))
    memory = (
        "a mask: 1 byte per element" if saved == "mask" else f"the {saved}: 4 bytes per element in float32"
    )
    rows.append(("saves", memory))
    rows.append(("module", format_module_call(activation)))
    rows.append(("in torch.nn", f"torch.nn.{facts.torch_equivalent}" if facts.torch_equivalent else "none"))
    rows.append(("source", facts.paper))
    return rows


def _get_derivative(formula: str) -> str:
    if formula in CATALOGUE_DERIVATIVES:
        return CATALOGUE_DERIVATIVES[formula]
    from actlab.derivation.derivative_text import write_derivative  # loads SymPy: 0.3 s

    return write_derivative(formula)


def _list_curve_properties(activation: Activation[Any]) -> list[tuple[str, str]]:
    low, high = activation.range()
    kinks = [f"f'({format_number(x)}) = {format_number(f1)}" for x, f1 in sorted(activation.kinks().items())]
    return [
        ("range", f"from {format_number(low)} to {format_number(high)}"),
        ("at -inf, +inf", " and ".join(map(format_number, activation.limits()))),
        ("slope there", " and ".join(map(format_number, activation.slopes()))),
        ("monotonic", {True: "yes", False: "no", None: "unknown"}[activation.facts.monotonic]),
        ("kinks", ", ".join(kinks) or "none: smooth"),
    ]


def format_module_call(activation: Activation[Any]) -> str:
    """Return the Python expression that creates the module."""
    module = activation.module_class
    if recipe := getattr(activation, "recipe", None):  # a formula
        return f"{recipe}.module_class()"
    return f"{module.__module__}.{module.__name__}{_format_signature(module)}" if module else "none"


def _format_signature(module: type) -> str:
    signature = inspect.signature(module)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def format_number(value: float) -> str:
    """Return a number with at most six significant digits; NaN means that a limit does not exist.

    Examples:
        >>> format_number(0.5), format_number(math.inf), format_number(math.nan)
        ('0.5', 'inf', 'no limit')
    """
    return "no limit" if math.isnan(value) else f"{value + 0.0:.6g}"


def make_value_table(
    activation: Activation[Any], points: Sequence[float] = POINTS
) -> list[tuple[str, str, str, str]]:
    """Return a table of x, f(x), f'(x) and f''(x), with the kinks among the points.

    Args:
        activation: The activation.
        points: Where to evaluate.

    Returns:
        A row of four texts for each point.

    Examples:
        >>> import actlab
        >>> make_value_table(actlab.catalogue["relu"], [2.0])[-1]
        ('2', '2', '1', '0')
    """
    x = torch.tensor(sorted({*points, *map(float, activation.kinks())}), dtype=torch.float64)
    columns = [x, *evaluate_curves(activation, x)]
    return [tuple(f"{float(v) + 0.0:.6g}" for v in row) for row in zip(*columns, strict=True)]  # type: ignore[misc]


def draw_terminal_plot(activation: Activation[Any], width: int = 76, height: int = 19) -> str:
    """Draw f, f' and f'' in characters.

    Args:
        activation: The activation.
        width: Width of the plot in characters.
        height: Height of the plot in lines.

    Returns:
        The plot as lines of text.
    """
    margin = 7
    x = torch.linspace(*find_plot_range(activation), width - margin, dtype=torch.float64)
    values = torch.stack(evaluate_curves(activation, x))
    highest = float(values[:2].nan_to_num().abs().max())  # spikes of f'' are cut off
    top = min(highest, find_plot_height(activation))
    levels = [top * (1 - 2 * line / (height - 1)) for line in range(height)]
    nearest = ((top - values) / (2 * top) * (height - 1)).nan_to_num(-1).round().long()
    canvas = [["-" if line == height // 2 else " " for _ in x] for line in range(height)]
    for line in canvas:
        line[len(x) // 2] = "|"
    for curve, marker in reversed(list(zip(nearest.tolist(), "#+.", strict=True))):
        for column, line_number in enumerate(curve):
            if 0 <= line_number < height:
                canvas[line_number][column] = marker
    labelled = (0, height // 2, height - 1)
    text = [
        f"{levels[n]:>{margin - 1}.3g} {''.join(line)}" if n in labelled else " " * margin + "".join(line)
        for n, line in enumerate(canvas)
    ]
    ends = f"{' ' * margin}{float(x[0]):<{len(x) // 2}.3g}{float(x[-1]):>{len(x) - len(x) // 2}.3g}"
    return "\n".join(line.rstrip() for line in [*text, ends, f"{' ' * margin}#  f    +  f'    .  f''"])


def find_plot_height(activation: Activation[Any]) -> float:
    """Return the largest absolute value to draw: the largest x, and at least 1.25 to show a whole wave."""
    return max(find_plot_range(activation)[1], 1.25)


def find_plot_range(activation: Activation[Any]) -> tuple[float, float]:
    """Return the interval to draw, which contains all kinks and some periods of a wave."""
    reach = max([4.0, *(1.5 * abs(float(kink)) for kink in activation.kinks())])
    steepness = float(evaluate_curves(activation, torch.zeros(1, dtype=torch.float64))[1].abs())
    reach /= max(1.0, steepness / 4)
    return -reach, reach

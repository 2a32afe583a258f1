"""An activation in words and numbers, for people: everything is read off its definition."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from actlab.activation.definition import Activation
from actlab.derivation.making import FormulaActivation
from actlab.expression import derivative_text

POINTS = (-math.inf, -10.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 10.0, math.inf)


def curves(activation: Activation[Any], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate a function and its first two derivatives, by the nodes that training uses.

    Args:
        activation: The activation, taken at its example parameters.
        x: Points (n,), float64.

    Returns:
        f, f' and f'' at the points, each (n,).

    Examples:
        >>> import actlab
        >>> [v.tolist() for v in curves(actlab.catalogue["relu"], torch.tensor([-1.0, 2.0]).double())]
        [[0.0, 2.0], [0.0, 1.0], [0.0, 0.0]]
    """
    return derivatives(lambda points: activation(points, **activation.example), x)


def derivatives(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate any function of one number and its first two derivatives.

    Args:
        function: It takes and returns points (n,), such as a module.
        x: Points (n,), float64.

    Returns:
        The function and its derivatives at the points, each (n,).

    Examples:
        >>> [v.tolist() for v in derivatives(torch.square, torch.tensor([3.0]).double())]
        [[9.0], [6.0], [2.0]]
    """
    x = x.detach().clone().requires_grad_()
    value = function(x)
    (first,) = torch.autograd.grad(value, x, torch.ones_like(x), create_graph=True)
    if not first.requires_grad:  # a constant: the mask of a piecewise linear function
        return value.detach(), first, torch.zeros_like(x)
    (second,) = torch.autograd.grad(first, x, torch.ones_like(x), allow_unused=True)
    return value.detach(), first.detach(), torch.zeros_like(x) if second is None else second


def summary(activation: Activation[Any]) -> str:
    """Return the first paragraph of the definition's docstring, on one line.

    Args:
        activation: The activation.

    Returns:
        The text, without mark-up for code.
    """
    first = inspect.cleandoc(activation.__doc__ or "").split("\n\n")[0]
    return " ".join(first.replace("``", "").split())


def properties(activation: Activation[Any]) -> list[tuple[str, str]]:
    """Return what is known about an activation as pairs of label and text.

    Args:
        activation: The activation.

    Returns:
        Formula, the parameters that the rest is told at where these are not the defaults, derivative, range,
        limits, monotonicity, kinks, memory, module, twin and paper.
    """
    facts, saves = activation.facts, activation.facts.saves
    kept = saves(**activation.example) if callable(saves) else saves
    rows = [("formula", activation.formula())]
    if facts.example and not facts.gated:
        given = activation.example.items()
        values = (f"{n}={number(v) if isinstance(v, float) else repr(v)}" for n, v in given)
        rows.append(("values at", ", ".join(values)))
    if not facts.gated:
        rows += [("derivative", derivative_text(activation.formula())), *_line_properties(activation)]
    else:
        rows.append(("input", "two halves a, b of one tensor along dim"))
    what = "a mask: 1 byte an element" if kept == "mask" else f"the {kept}: 4 bytes an element in float32"
    rows.append(("saves", what))
    rows.append(("module", module_call(activation)))
    rows.append(("in torch.nn", f"torch.nn.{facts.torch_equivalent}" if facts.torch_equivalent else "none"))
    rows.append(("source", facts.paper))
    return rows


def _line_properties(activation: Activation[Any]) -> list[tuple[str, str]]:
    low, high = activation.range()
    kinks = ", ".join(f"f'({number(x)}) = {number(slope)}" for x, slope in sorted(activation.kinks().items()))
    return [
        ("range", f"from {number(low)} to {number(high)}"),
        ("at -inf, +inf", " and ".join(map(number, activation.limits()))),
        ("slope there", " and ".join(map(number, activation.slopes()))),
        ("monotonic", {True: "yes", False: "no", None: "not known"}[activation.facts.monotonic]),
        ("kinks", kinks or "none: smooth"),
    ]


def module_call(activation: Activation[Any]) -> str:
    """Return the call of the module as a person writes it."""
    module = activation.module_class
    if isinstance(activation, FormulaActivation):
        return f"{activation.recipe}.module_class()"
    return f"{module.__module__}.{module.__name__}{_signature(module)}" if module else "none"


def _signature(module: type) -> str:
    signature = inspect.signature(module)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def number(value: float) -> str:
    """Return a number in at most six significant digits; no limit for NaN.

    Examples:
        >>> number(0.5), number(math.inf), number(math.nan)
        ('0.5', 'inf', 'no limit')
    """
    return "no limit" if math.isnan(value) else f"{value + 0.0:.6g}"


def table(activation: Activation[Any], points: Sequence[float] = POINTS) -> list[tuple[str, str, str, str]]:
    """Return a table of values: x, f(x), f'(x) and f''(x), the kinks among them.

    Args:
        activation: The activation.
        points: Where to evaluate.

    Returns:
        One row of four texts for each point.

    Examples:
        >>> import actlab
        >>> table(actlab.catalogue["relu"], [2.0])[-1]
        ('2', '2', '1', '0')
    """
    x = torch.tensor(sorted({*points, *map(float, activation.kinks())}), dtype=torch.float64)
    columns = [x, *curves(activation, x)]
    return [tuple(_cell(float(v)) for v in row) for row in zip(*columns, strict=True)]  # type: ignore[misc]


def _cell(value: float) -> str:
    return "nan" if math.isnan(value) else f"{value + 0.0:.6g}"


def terminal_plot(activation: Activation[Any], width: int = 76, height: int = 19) -> str:
    """Draw f, f' and f'' in characters.

    Args:
        activation: The activation.
        width: Columns.
        height: Lines.

    Returns:
        The picture as lines of text.
    """
    margin = 7
    x = torch.linspace(*window(activation), width - margin, dtype=torch.float64)
    drawn = torch.stack(curves(activation, x))
    top = min(float(drawn[:2].nan_to_num().abs().max()), rise(activation))  # f'' may spike: it is cut off
    levels = [top * (1 - 2 * line / (height - 1)) for line in range(height)]
    nearest = ((top - drawn) / (2 * top) * (height - 1)).nan_to_num(-1).round().long()
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


def rise(activation: Activation[Any]) -> float:
    """Return how far up and down is worth drawing: as far as to the sides, and all of a wave."""
    return max(window(activation)[1], 1.25)


def window(activation: Activation[Any]) -> tuple[float, float]:
    """Return the part of the line worth drawing: where the function bends, and all its kinks."""
    reach = max([4.0, *(1.5 * abs(float(kink)) for kink in activation.kinks())])
    steepness = float(curves(activation, torch.zeros(1, dtype=torch.float64))[1].abs())
    reach /= max(1.0, steepness / 4)  # some periods of a wave, not hundreds
    return -reach, reach

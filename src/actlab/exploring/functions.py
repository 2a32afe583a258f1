"""Export activations as plain data: formula, parameters and facts, from their definitions."""

from __future__ import annotations

import inspect
import math
from typing import Any

from actlab.activation.definition import Activation
from actlab.derivation.grammar import find_formula_problem
from actlab.describe import get_summary
from actlab.errors import UsageError

Entry = dict[str, Any]


def list_catalogue() -> dict[str, Entry]:
    """Return every element-wise activation in the catalogue as plain data, by name.

    Examples:
        >>> entries = list_catalogue()
        >>> entries["elu"]["formula"], entries["elu"]["parameters"][0]["name"]
        ('where(x > 0, x, alpha * (exp(x) - 1))', 'alpha')
    """
    from actlab.functions import catalogue

    entries = {}
    for name, activation in sorted(catalogue.items()):
        if not activation.facts.gated and not _find_problem(activation):  # of another package: any formula
            entries[name] = describe_activation(activation)
    return entries


def describe_activation(activation: Activation[Any]) -> Entry:
    """Return an activation as plain data.

    Args:
        activation: A definition, with its example parameters.

    Returns:
        Texts, numbers and lists: the formula and its parameters with ranges for sliders; kinks, limits and
        slopes at these parameters, with infinities as text and None for a limit that does not exist.

    Raises:
        UsageError: It is a gated unit, or its formula is not in the grammar of :func:`actlab.formula`.
    """
    if activation.facts.gated:
        raise UsageError(
            f"activation {activation.name!r} gates one half of its input by the other; explore shows "
            "functions of one input"
        )
    if problem := _find_problem(activation):
        raise UsageError(f"activation {activation.name!r} cannot be explored: {problem.splitlines()[0]}")
    low, high = activation.range()
    return {
        "formula": activation.formula(),
        "summary": get_summary(activation),
        "parameters": [_describe_parameter(activation, name) for name in _list_parameters(activation)],
        "kinks": sorted([float(x), float(slope)] for x, slope in activation.kinks().items()),
        "limits": list(map(_to_json, activation.limits())),
        "slopes": list(map(_to_json, activation.slopes())),
        "range": [_to_json(low), _to_json(high)],
        "monotonic": activation.facts.monotonic,
        "paper": activation.facts.paper,
        "module": activation.module_class.__name__ if activation.module_class else None,
        "torch": _describe_torch_module(activation),
    }


def list_values(activation: Activation[Any]) -> dict[str, float]:
    """Return the parameters in the formula of an activation, with their values."""
    return {name: float(activation.example[name]) for name in _list_parameters(activation)}


def _list_parameters(activation: Activation[Any]) -> list[str]:
    """Return the parameters that are numbers and occur in the formula."""
    numbers = {
        name: value
        for name, value in activation.example.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    formula = activation.formula()
    return [
        name
        for name in numbers
        if find_formula_problem(formula, {"x", *numbers} - {name})  # unknown without it
    ]


def _find_problem(activation: Activation[Any]) -> str:
    return find_formula_problem(activation.formula(), {"x", *activation.example})


def _describe_parameter(activation: Activation[Any], name: str) -> Entry:
    """Return a parameter and the range of its slider, whose ends the definition accepts."""
    value = float(activation.example[name])
    reach = 3 * abs(value) if abs(value) > 0.5 else 1.0
    step = 10.0 ** math.floor(math.log10(reach / 50))
    low, high = -reach * (value <= 0), reach * (value >= 0)
    low = next(end for end in (low, low + step, value) if _accepts(activation, name, end))
    high = next(end for end in (high, high - step, value) if _accepts(activation, name, end))
    return {"name": name, "value": value, "low": round(low, 9), "high": round(high, 9), "step": step}


def _accepts(activation: Activation[Any], name: str, value: float) -> bool:
    requirement = activation.formulas.requirement
    return requirement is None or bool(requirement.condition(**{**activation.example, name: value}))


def _describe_torch_module(activation: Activation[Any]) -> Entry | None:
    """Return the module of torch.nn that is the same function, and its arguments; None if there is none."""
    name, module = activation.facts.torch_equivalent, activation.module_class
    if name is None or module is None:
        return None
    arguments = inspect.signature(module).parameters
    names = _list_parameters(activation)
    if not set(names) <= set(arguments):
        return None
    defaults = {one: arguments[one].default for one in names}
    return {
        "name": name,
        "arguments": names,
        "defaults": {one: value for one, value in defaults.items() if value is not inspect.Parameter.empty},
        "fixed": {
            one: activation.example[one]
            for one in arguments
            if isinstance(activation.example.get(one), str)
            and activation.example[one] != arguments[one].default
        },
    }


def _to_json(value: float) -> float | str | None:
    value = float(value) + 0.0  # -0.0 is 0
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")

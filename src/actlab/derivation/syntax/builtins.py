"""The functions that a formula may use. Each is said once, for SymPy and for numbers of many digits alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from actlab.activation.definition import Activation

Meaning = Callable[..., Any]


def _same(name: str) -> Meaning:
    return lambda m, x: getattr(m, name)(x)


_PLAIN = "exp log tanh sinh cosh sin cos tan atan asinh acosh atanh erf erfc sqrt".split()
# The first argument has the elementary functions: it is SymPy, or stands for mpmath.
FUNCTIONS: Mapping[str, Meaning] = {
    **{name: _same(name) for name in _PLAIN},
    "log1p": lambda m, x: m.log(1 + x),
    "expm1": lambda m, x: m.exp(x) - 1,
    "sigmoid": lambda m, x: 1 / (1 + m.exp(-x)),
    "softplus": lambda m, x: m.log(1 + m.exp(x)),
    "abs": lambda m, x: m.Abs(x),
    "min": lambda m, a, b: m.Min(a, b),
    "max": lambda m, a, b: m.Max(a, b),
    "clip": lambda m, x, low, high: m.Min(m.Max(x, low), high),
}
WHERE = "where"
# What people write who come from elsewhere.
SYNONYMS = {
    "ln": "log",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "fabs": "abs",
    "clamp": "clip",
    "minimum": "min",
    "maximum": "max",
    "pow": "**",
    "logistic": "sigmoid",
    "expit": "sigmoid",
    "iif": "where",
    "piecewise": "where",
}


# What has no derivative of its own at a jump is said by a choice.
STEP_FUNCTIONS = {
    "sign": "where(x > 0, 1, where(x < 0, -1, 0))",
    "sgn": "where(x > 0, 1, where(x < 0, -1, 0))",
    "step": "where(x > 0, 1, 0)",
    "heaviside": "where(x > 0, 1, 0)",
}


def argument_names(name: str) -> list[str]:
    """Return the names of a function's arguments."""
    if name == WHERE:
        return ["condition", "a", "b"]
    return list(inspect.signature(FUNCTIONS[name]).parameters)[1:]


def find_entry(name: str) -> Activation[Any] | None:
    """Return the catalogue's entry of that name, whose textbook formula may be put into another."""
    from actlab.functions import catalogue  # which takes a moment, and most formulas name none of it

    return catalogue.get(name)


def function_names() -> list[str]:
    """Return all names of functions."""
    from actlab.functions import catalogue

    return [*FUNCTIONS, WHERE, *(name for name, entry in catalogue.items() if not entry.facts.gated)]


def is_number(value: object) -> bool:
    """Whether a parameter's value is a number that can be put into a formula."""
    return isinstance(value, int | float) and not isinstance(value, bool)

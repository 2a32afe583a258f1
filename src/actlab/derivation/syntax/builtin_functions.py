"""The functions that a formula may use, each defined once for SymPy and for mpmath."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from actlab.activation.definition import Activation

WHERE = "where"
_ELEMENTARY = "exp log tanh sinh cosh sin cos tan atan asinh acosh atanh erf erfc sqrt".split()
# The first argument holds the elementary functions: SymPy, or a wrapper of mpmath.
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: lambda m, x, name=name: getattr(m, name)(x) for name in _ELEMENTARY},
    "log1p": lambda m, x: m.log(1 + x),
    "expm1": lambda m, x: m.exp(x) - 1,
    "sigmoid": lambda m, x: 1 / (1 + m.exp(-x)),
    "softplus": lambda m, x: m.log(1 + m.exp(x)),
    "abs": lambda m, x: m.Abs(x),
    "min": lambda m, a, b: m.Min(a, b),
    "max": lambda m, a, b: m.Max(a, b),
    "clip": lambda m, x, low, high: m.Min(m.Max(x, low), high),
    WHERE: lambda m, condition, a, b: m.Piecewise((a, condition), (b, True)),
}
# Names in other languages and libraries.
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
# At a jump there is no derivative to choose: these are written by where().
STEP_FUNCTIONS = {
    "sign": "where(x > 0, 1, where(x < 0, -1, 0))",
    "sgn": "where(x > 0, 1, where(x < 0, -1, 0))",
    "step": "where(x > 0, 1, 0)",
    "heaviside": "where(x > 0, 1, 0)",
}


def list_argument_names(name: str) -> list[str]:
    """Return the names of a function's arguments."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty][1:]


def find_catalogue_function(name: str) -> Activation[Any] | None:
    """Return the catalogue's entry of that name, or None."""
    from actlab.functions import catalogue  # slow to import, and few formulas need it

    return catalogue.get(name)


def list_function_names() -> list[str]:
    """Return the names of all functions that a formula may use."""
    from actlab.functions import catalogue

    return [*FUNCTIONS, *(name for name, entry in catalogue.items() if not entry.facts.gated)]


def is_number(value: object) -> bool:
    """Return whether a parameter's value can be inserted into a formula."""
    return isinstance(value, int | float) and not isinstance(value, bool)

"""The activations of a comparison as specs: what a table, a ledger and another process can hold."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FunctionType
from typing import Any

import torch

from actlab.activation.definition import Activation
from actlab.errors import UsageError
from actlab.functions import catalogue

_FILE = "my_layers.py"  # stands for a file of one's own
_TORCH = "torch.nn"


def specs(activations: Iterable[str | Activation[Any]]) -> list[str]:
    """Return the spec of each activation.

    Args:
        activations: Specs, definitions of the catalogue, or what :func:`actlab.formula` has made.

    Raises:
        UsageError: It is no list, or something in it has no spec; the message says how to name it.

    Examples:
        >>> import actlab
        >>> specs(["relu", actlab.functional.mish, actlab.formula("x*sin(a*x)", parameters={"a": 2})])
        ['relu', 'mish', 'formula:x*sin(a*x) with a=2.0']
        >>> specs([torch.nn.GELU()])
        Traceback (most recent call last):
        actlab.errors.UsageError: activations[0] is a GELU module; name it: 'torch.nn:GELU' or 'my_layers.py:Name'
    """  # noqa: E501 - an error is one line
    if isinstance(activations, str | torch.nn.Module) or not isinstance(activations, Iterable):
        one = isinstance(activations, torch.nn.Module)
        what = f"a {type(activations).__name__} module" if one else repr(activations)
        raise UsageError(f"activations is {what}, not a list of specs such as ['relu', 'tanh']")
    given = list(activations)
    found = [one if isinstance(one, str) else _spec(one) for one in given]
    if wrong := [f"activations[{n}] is {_problem(given[n])}" for n, one in enumerate(found) if one is None]:
        raise UsageError("; ".join(wrong))
    return [one for one in found if one is not None]


def _spec(given: Any) -> str | None:
    """Return the spec that stands for all that a definition is; None where there is none."""
    if not isinstance(given, Activation):
        return None
    if catalogue.get(given.name) is given:
        return given.name
    from actlab.derivation.making import FormulaActivation, from_spec  # with SymPy, half a second

    if not isinstance(given, FormulaActivation):
        return None
    recipe = given.recipe
    values = ", ".join(f"{name}={value!r}" for name, value in recipe.parameters)
    spec = f"formula:{recipe.text}" + f" with {values}" * bool(values)
    return spec if from_spec(spec).recipe == recipe else None


def _problem(given: Any) -> str:
    """Say what something without a spec is, and how it is named."""
    if isinstance(given, Activation):
        return _definition_problem(given)
    if isinstance(given, torch.nn.Module):
        return f"a {type(given).__name__} module; name it: {_named(type(given))}"
    if isinstance(given, type) and issubclass(given, torch.nn.Module | torch.autograd.Function):
        return f"the class {given.__name__}; name it: {_named(given)}"
    if isinstance(given, FunctionType) and given.__name__ != "<lambda>":
        return f"the function {given.__name__}; name it: {_named(given)}"
    if callable(given):
        what = "lambda" if isinstance(given, FunctionType) else type(given).__name__
        return f"a {what}; write it as a function into a file and name it: '{_FILE}:name'"
    return f"{given!r}, not a spec such as 'relu'"


def _definition_problem(given: Activation[Any]) -> str:
    if (recipe := getattr(given, "recipe", None)) is None:
        return f"the activation {given.name!r}, not of the catalogue; name it: {_named(given)}"
    place = f"put it into a file and name it: '{_FILE}:{given.name}'"
    return f"{recipe}, of which a formula's spec would hold text and parameters only; {place}"


def _named(given: Any) -> str:
    """Return the spec by which a module's class, a function or a definition can be imported."""
    inner = given.__wrapped__ if isinstance(given, Activation) else given
    home, name = inner.__module__, inner.__name__
    if getattr(torch.nn, name, None) is given:
        home = _TORCH
    known = home != "__main__" and getattr(sys.modules.get(home), name, None) is given
    return f"'{home}:{name}' or '{_FILE}:Name'" if known else f"'{_FILE}:{name}'"

"""Read a spec, the text by which users name an activation. Only literals in it are evaluated."""

from __future__ import annotations

import ast
from typing import Any

from actlab.activation.definition import Activation
from actlab.errors import UsageError, did_you_mean
from actlab.functions import catalogue
from actlab.spec.importing import import_object

_FORMULA_HINT = "write a formula as 'formula:x*tanh(x)'"


def find_target(spec: str) -> tuple[Any, bool, list[Any], dict[str, Any]]:
    """Return what a spec names, whether it is imported, and the positional and the named arguments."""
    name, args, kwargs = split_spec(spec)
    is_imported = is_import_path(name)
    target = import_object("activation", name) if is_imported else find_definition(name)
    return target, is_imported, args, kwargs


def find_definition(name: str) -> Activation[Any]:
    """Return the definition that a name stands for, without importing anything.

    Args:
        name: A name in the catalogue, without arguments, or a formula such as ``"formula:x*tanh(x)"``.

    Raises:
        UsageError: There is none. The message suggests the nearest name or describes the problem.
    """
    if is_formula(name):
        from actlab.derivation.formula_activation import make_from_spec  # loads SymPy: 0.5 s

        return make_from_spec(name.strip())
    if name not in catalogue:
        suggestion = did_you_mean(name, catalogue) or f"; actlab list prints all names; {_FORMULA_HINT}"
        raise UsageError(f"unknown activation {name!r}{suggestion}")
    return catalogue[name]


def split_spec(spec: str, what: str = "activation") -> tuple[str, list[Any], dict[str, Any]]:
    """Split a spec into its name and its literal arguments.

    Args:
        spec: The spec.
        what: What the spec describes; error messages begin with it.

    Returns:
        The name, the positional and the named arguments; a formula is a name as a whole.

    Raises:
        UsageError: The arguments are not literals.

    Examples:
        >>> split_spec("elu(alpha=0.5)")
        ('elu', [], {'alpha': 0.5})
        >>> split_spec("formula:x*tanh(x)")
        ('formula:x*tanh(x)', [], {})
    """
    if not isinstance(spec, str):
        raise UsageError(f"a spec must be text such as 'relu', got {spec!r}")
    if is_formula(spec):
        return spec.strip(), [], {}
    name, bracket, rest = spec.strip().partition("(")
    if not bracket:
        return name, [], {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise ValueError
        args = [ast.literal_eval(value) for value in call.args]
        kwargs = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        if len(kwargs) != len(call.keywords):
            raise ValueError
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        hint = "arguments must be literals, as in 'leaky_relu(negative_slope=0.2)'"
        advice = f"; {_FORMULA_HINT}" if what == "activation" else ""
        raise UsageError(f"{what} {spec!r}: {hint}{advice}") from error
    return name.strip(), args, kwargs


def is_formula(spec: str) -> bool:
    """Whether a spec is a formula."""
    return spec.lstrip().startswith("formula:")


def is_import_path(name: str) -> bool:
    """Whether a name from :func:`split_spec` must be imported."""
    return ":" in name and not is_formula(name)


def import_spec(what: str, spec: str) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return what a spec such as ``"file.py:Net(width=64)"`` imports, and its arguments.

    Args:
        what: What the spec describes, such as ``"activation"``; error messages begin with it.
        spec: The spec.

    Raises:
        UsageError: It names nothing to import, or cannot be imported.
    """
    name, arguments, keywords = split_spec(spec, what)
    if not is_import_path(name):
        raise UsageError(f"{what} is {spec!r}, not 'package.module:Net' or 'file.py:Net'")
    return import_object(what, name), arguments, keywords

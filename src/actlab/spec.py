"""A spec, how a person names an activation, turned into a module. Nothing in it is evaluated but literals."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch

from actlab.activation.definition import Activation
from actlab.activation.module import parameters_of
from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.functions import catalogue


def get(spec: str | torch.nn.Module) -> torch.nn.Module:
    """Return the module that a spec names.

    Args:
        spec: A catalogue name (``"mish"``), a name with literal arguments
            (``"leaky_relu(negative_slope=0.2)"``), a formula (``"formula:x*tanh(softplus(x))"``, with
            parameters ``"formula:x*sigmoid(beta*x) with beta=1.5"``), ``"package.module:Name"`` or
            ``"file.py:Name"`` with or without arguments, or a module, which is returned as it is.

    Returns:
        A new module, or the module given.

    Raises:
        UsageError: The spec names nothing, or its arguments are no literals or do not fit.

    Examples:
        >>> get("leaky_relu(negative_slope=0.2)")
        LeakyReLU(negative_slope=0.2)
    """
    return spec if isinstance(spec, torch.nn.Module) else build(spec)


def build(spec: str, **options: Any) -> torch.nn.Module:
    """Return the module that a spec names.

    Args:
        spec: As for :func:`get`.
        **options: Arguments for a constructor that has parameters of these names, unless the spec has them.

    Raises:
        UsageError: As for :func:`get`.
    """
    name, args, kwargs = parse(spec)
    factory = _imported(name) if is_imported(name) else entry(name).module_class
    taken = {option: value for option, value in options.items() if option in arguments_of(factory)}
    return _made(spec, factory, args, {**taken, **kwargs})


def arguments_of(factory: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a callable, by name; none if it has no signature."""
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # what is written in C may have none
        return {}


def _made(spec: str, factory: Any, args: list[Any], kwargs: dict[str, Any]) -> torch.nn.Module:
    if factory is None:
        raise UsageError(f"activation {spec!r}: has no module; make one with its .module('Name')")
    try:
        module = factory(*args, **kwargs)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f"activation {spec!r}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        name = spec.partition("(")[0].strip()
        raise UsageError(f"activation {spec!r}: {name} makes a {type(module).__name__}, not an nn.Module")
    return module


def parse(spec: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Split a spec into its name and its literal arguments.

    Args:
        spec: The spec as a person wrote it.

    Returns:
        The name, the positional and the named arguments; a formula is a name as a whole.

    Raises:
        UsageError: The arguments are no literals.

    Examples:
        >>> parse("elu(alpha=0.5)")
        ('elu', [], {'alpha': 0.5})
        >>> parse("formula:x*tanh(x)")
        ('formula:x*tanh(x)', [], {})
    """
    if not isinstance(spec, str):
        raise UsageError(f"activation {spec!r}: must be a name or an nn.Module, not {type(spec).__name__}")
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
        raise UsageError(f"activation {spec!r}: {hint}") from error
    return name.strip(), args, kwargs


def is_formula(spec: str) -> bool:
    """Whether a spec is a formula."""
    return spec.lstrip().startswith("formula:")


def is_imported(name: str) -> bool:
    """Whether a name, as :func:`parse` returns it, is of a person's module."""
    return ":" in name and not is_formula(name)


def entry(name: str) -> Activation[Any]:
    """Return the definition that a name stands for, without importing anything.

    Args:
        name: A name in the catalogue, without arguments, or a formula such as ``"formula:x*tanh(x)"``.

    Returns:
        The definition.

    Raises:
        UsageError: There is none; the message names the nearest, or says what is wrong with the formula.
    """
    if is_formula(name):
        from actlab.derivation.making import from_spec  # with SymPy, which takes half a second

        return from_spec(name.strip())
    if name not in catalogue:
        suggestion = did_you_mean(name, catalogue) or "; actlab list shows those that are known"
        raise UsageError(f"unknown activation {name!r}{suggestion}")
    return catalogue[name]


def definition(spec: str) -> Activation[Any]:
    """Return the definition that a spec names, at the parameters that it gives.

    Args:
        spec: As for :func:`get`; what is imported must be a definition, or its module.

    Returns:
        The definition, with the parameters as its example.

    Raises:
        UsageError: The spec names nothing, something else than a definition, or its arguments do not fit.

    Examples:
        >>> definition("leaky_relu(negative_slope=0.2)").example
        {'negative_slope': 0.2}
    """
    name, args, kwargs = parse(spec)
    found = _defined(spec, name) if is_imported(name) else entry(name)
    if not (args or kwargs):
        return found
    return found.at(parameters_of(_made(spec, found.module_class, args, kwargs).eval()))


def _defined(spec: str, name: str) -> Activation[Any]:
    found = named("activation", name)
    if isinstance(found, Activation):
        return found
    made = getattr(found, "activation", None)
    if isinstance(made, Activation) and made.module_class in (found, type(found)):
        return made.at(parameters_of(found.eval())) if isinstance(found, torch.nn.Module) else made
    raise UsageError(
        f"activation {spec!r}: is no definition, which alone can be shown; check and time take any module"
    )


def imported(what: str, place: str) -> ModuleType:
    """Import a person's module.

    Args:
        what: What it is for, as the error says it.
        place: A module's name, or the path of a ``.py`` file.

    Returns:
        The module.

    Raises:
        UsageError: It cannot be imported; the message has its own error, shortened.
    """
    if place.endswith(".py") and not Path(place).is_file():
        raise UsageError(f"{what}: there is no file {place!r}")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is not our answer
            return _loaded(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what}: cannot import {place!r}: {summarize_error(error)}") from error


def _loaded(path: Path) -> ModuleType:
    name = path.stem
    while name in sys.modules:  # another module has it
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that what it defines can be pickled
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def named(what: str, name: str) -> Any:
    """Return what ``"package.module:Name"`` or ``"file.py:Name"`` names.

    Args:
        what: What it is for, as the error says it.
        name: The name.

    Raises:
        UsageError: It cannot be imported, or is not there.
    """
    place, _, attribute = name.rpartition(":")
    module = imported(f"{what} {name!r}", place)
    if not hasattr(module, attribute):
        known = [n for n in dir(module) if not n.startswith("_")]
        raise UsageError(f"{what} {name!r}: there is no {attribute!r} in it{did_you_mean(attribute, known)}")
    return getattr(module, attribute)


class Plain(torch.nn.Module):
    """A function from tensor to tensor as a module.

    Args:
        function: The function, or an ``autograd.Function``, which is applied.
        **options: What it is given besides its input.
    """

    def __init__(self, function: Callable[..., torch.Tensor], **options: Any) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function."""
        if isinstance(self.function, type):
            return self.function.apply(x, **self.options)  # type: ignore[attr-defined, no-any-return]
        return self.function(x, **self.options)


def is_autograd_function(found: Any) -> bool:
    """Return whether a value is a subclass of ``autograd.Function``."""
    return isinstance(found, type) and issubclass(found, torch.autograd.Function)


def _is_plain(found: Any) -> bool:
    """Whether it is a function of a tensor; what makes a module needs no argument."""
    if is_autograd_function(found):
        return True
    if not isinstance(found, FunctionType):
        return False
    first = next(iter(inspect.signature(found).parameters.values()), None)
    return first is not None and first.default is first.empty and first.kind < first.VAR_POSITIONAL


def _imported(name: str) -> Any:
    found = named("activation", name)
    if isinstance(found, Activation):
        found = found.module_class
    if isinstance(found, torch.nn.Module):
        return lambda: found
    if _is_plain(found):
        return functools.partial(Plain, found)
    if not callable(found):
        raise UsageError(f"activation {name!r}: a {type(found).__name__} cannot be called")
    return found

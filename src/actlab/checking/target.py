"""From what a person names to what is checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from actlab.activation.definition import Activation
from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.spec import entry, import_module, is_formula, parse

Target = nn.Module | Callable[[Tensor], Tensor]


def resolve(target: Any) -> tuple[str, Target]:
    """Return the name of a target and what is called with a tensor.

    Args:
        target: A spec in text (``"mish"``, ``"pkg.mod:Name(arg=1)"``, ``"formula:x*tanh(x)"``), an
            :class:`~actlab.Activation`, a module or its class, an ``autograd.Function`` or a function.

    Returns:
        The name, and a module or a function of one tensor.

    Raises:
        UsageError: There is no such target, or it cannot be called with one tensor alone.
    """
    if isinstance(target, str):
        return target, _from_text(target)
    owner = getattr(target, "__self__", None)  # of Function.apply, its class has the name
    named = owner if isinstance(owner, type) else target
    name = getattr(named, "__name__", None) or getattr(named, "name", None) or type(named).__name__
    return str(name), _callable(str(name), target, [], {})


def _from_text(text: str) -> Target:
    head, bracket, rest = text.partition("(")
    if ":" not in head or is_formula(text):
        name, args, kwargs = parse(text)
        definition = entry(name)
        return _construct(text, definition.module_class, args, kwargs)
    place, _, attribute = head.rpartition(":")
    name, args, kwargs = parse(attribute + bracket + rest)
    found = _attribute(text, import_module(f"target {text!r}", place), name)
    return _callable(text, found, args, kwargs, called=bool(bracket))


def _attribute(text: str, module: Any, name: str) -> Any:
    for part in name.split("."):
        if not hasattr(module, part):
            known = [n for n in dir(module) if not n.startswith("_")]
            raise UsageError(f"target {text!r}: there is no {part!r} in it{did_you_mean(part, known)}")
        module = getattr(module, part)
    return module


def _callable(
    name: str, found: Any, args: list[Any], kwargs: dict[str, Any], *, called: bool = False
) -> Target:
    if isinstance(found, Activation):
        return _activation(name, found, args, kwargs)
    if isinstance(found, type) and issubclass(found, torch.autograd.Function):
        return _with_arguments(name, found.apply, args, kwargs)
    if isinstance(found, type):
        return _construct(name, found, args, kwargs)
    if not callable(found):
        raise UsageError(f"target {name!r}: a {type(found).__name__} cannot be called")
    if isinstance(found, nn.Module):
        if called:
            raise UsageError(f"target {name!r}: is a module already; leave the arguments away")
        return found
    _takes_one_tensor(name, found, args, kwargs)
    return _with_arguments(name, found, args, kwargs)


def _activation(name: str, found: Activation[Any], args: list[Any], kwargs: dict[str, Any]) -> Target:
    """Take the module, which a person will use; the function with example values where it needs more."""
    if found.module_class is not None and (args or kwargs or not _missing(found.module_class, args, kwargs)):
        return _construct(name, found.module_class, args, kwargs)
    try:
        found.bind(tuple(args), kwargs)
    except TypeError as error:
        raise UsageError(f"target {name!r}: {error}") from error
    given = {**dict(zip(found.parameters, args, strict=False)), **kwargs}
    return partial(found, **{**({} if found.facts.gated else found.example), **given})


def _construct(name: str, factory: type | None, args: list[Any], kwargs: dict[str, Any]) -> Target:
    if factory is None:
        raise UsageError(f"target {name!r}: has no module; make one with its .module('Name')")
    missing = _missing(factory, args, kwargs)
    if missing:
        raise UsageError(
            f"target {name!r}: {factory.__name__} needs {', '.join(map(repr, missing))}; "
            f"write {name.partition('(')[0]}({', '.join(f'{m}=...' for m in missing)}) with literal values"
        )
    try:
        made = factory(*args, **kwargs)
    except Exception as error:
        raise UsageError(
            f"target {name!r}: {factory.__name__} cannot be made: {summarize_error(error)}"
        ) from error
    if not callable(made):
        raise UsageError(f"target {name!r}: a {factory.__name__} cannot be called")
    chosen: Target = made
    return chosen


def _missing(factory: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> list[str]:
    positional = [p for p in _parameters(factory) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keyword = [p for p in _parameters(factory) if p.kind is p.KEYWORD_ONLY]
    return [
        p.name for p in [*positional[len(args) :], *keyword] if p.default is p.empty and p.name not in kwargs
    ]


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # built in, without a signature
        return []


def _takes_one_tensor(
    name: str, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # built in: the first row will tell
    if not signature.parameters:
        raise UsageError(f"target {name!r}: takes no tensor: it has no parameters")
    missing = _missing(function, [None, *args], kwargs)
    if missing:
        raise UsageError(
            f"target {name!r}: needs {', '.join(map(repr, missing))} besides the tensor; "
            f"write {name.partition('(')[0]}({', '.join(f'{m}=...' for m in missing)}) with literal values"
        )


def _with_arguments(name: str, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Target:
    if not (args or kwargs):
        chosen: Target = function
        return chosen
    return lambda x: function(x, *args, **kwargs)

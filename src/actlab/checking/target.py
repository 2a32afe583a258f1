"""Resolve a user's target to a function or a module that takes one tensor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from actlab.activation.definition import Activation
from actlab.errors import UsageError, summarize_error
from actlab.spec import (
    find_definition,
    import_object,
    is_autograd_function,
    is_import_path,
    name_object,
    split_spec,
)

Target = nn.Module | Callable[[Tensor], Tensor]


def resolve_target(target: Any) -> tuple[str, Target]:
    """Return the name of a target, and the callable that takes a tensor.

    Args:
        target: A spec in text (``"mish"``, ``"pkg.mod:Name(arg=1)"``, ``"formula:x*tanh(x)"``), an
            :class:`~actlab.Activation`, a module or its class, an ``autograd.Function`` or a function.

    Returns:
        The name, and a module or a function of one tensor.

    Raises:
        UsageError: There is no such target, or it cannot be called with one tensor alone.
    """
    if isinstance(target, str):
        return target, _resolve_text(target)
    name = name_object(target)
    return name, _resolve_value(name, target, [], {})


def _resolve_text(text: str) -> Target:
    name, args, kwargs = split_spec(text)
    if not is_import_path(name):
        return _construct(text, find_definition(name).module_class, args, kwargs)
    return _resolve_value(text, import_object("target", name), args, kwargs, called="(" in text)


def _resolve_value(
    name: str, value: Any, args: list[Any], kwargs: dict[str, Any], *, called: bool = False
) -> Target:
    if isinstance(value, Activation):
        return _resolve_activation(name, value, args, kwargs)
    if is_autograd_function(value):
        return _bind_arguments(value.apply, args, kwargs)
    if isinstance(value, type):
        return _construct(name, value, args, kwargs)
    if not callable(value):
        raise UsageError(f"target {name!r}: a value of type {type(value).__name__} is not callable")
    if isinstance(value, nn.Module):
        if called:
            raise UsageError(f"target {name!r} is already a module; remove the arguments")
        return value
    if _list_parameters(value) == []:
        raise UsageError(f"target {name!r} takes no tensor: it has no parameters")
    _require_no_missing(name, "", " besides the tensor", _list_missing(value, [None, *args], kwargs))
    return _bind_arguments(value, args, kwargs)


def _bind_arguments(function: Callable[..., Tensor], args: list[Any], kwargs: dict[str, Any]) -> Target:
    return (lambda x: function(x, *args, **kwargs)) if args or kwargs else function


def _resolve_activation(
    name: str, activation: Activation[Any], args: list[Any], kwargs: dict[str, Any]
) -> Target:
    """Return the module, or the function with example values if the module needs more arguments."""
    factory = activation.module_class
    if factory is not None and (args or kwargs or not _list_missing(factory, args, kwargs)):
        return _construct(name, factory, args, kwargs)
    try:
        activation.bind(tuple(args), kwargs)
    except TypeError as error:
        raise UsageError(f"target {name!r}: {error}") from error
    example = {} if activation.facts.gated else activation.example
    return partial(
        activation, **{**example, **dict(zip(activation.parameters, args, strict=False)), **kwargs}
    )


def _construct(name: str, factory: type | None, args: list[Any], kwargs: dict[str, Any]) -> Target:
    if factory is None:
        raise UsageError(f"target {name!r} has no module; make one with its .module('Name')")
    _require_no_missing(name, f"{factory.__name__} ", "", _list_missing(factory, args, kwargs))
    try:
        target = factory(*args, **kwargs)
    except Exception as error:
        raise UsageError(
            f"target {name!r}: {factory.__name__} cannot be created: {summarize_error(error)}"
        ) from error
    if not callable(target):
        raise UsageError(f"target {name!r}: a value of type {factory.__name__} is not callable")
    return cast(Target, target)


def _require_no_missing(name: str, subject: str, besides: str, missing: list[str]) -> None:
    if missing:
        raise UsageError(
            f"target {name!r}: {subject}needs {', '.join(map(repr, missing))}{besides}; "
            f"write {name.partition('(')[0]}({', '.join(f'{m}=...' for m in missing)}) with literal values"
        )


def _list_missing(factory: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> list[str]:
    """Return the parameters without a default for which there is no argument."""
    parameters = _list_parameters(factory) or []
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [
        p.name for p in [*positional[len(args) :], *keyword] if p.default is p.empty and p.name not in kwargs
    ]


def _list_parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a built-in function without a signature
        return None

"""Python objects as activations: modules, classes, functions and definitions; their names and copies."""

from __future__ import annotations

import copy
import functools
import inspect
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from actlab.activation.definition import Activation
from actlab.functions import catalogue

_LONGEST_NAME = 60  # characters of a name with arguments


class FunctionModule(nn.Module):
    """A function from tensor to tensor as a module.

    Args:
        function: The function, or an ``autograd.Function`` to apply.
        **options: Further arguments of each call.
    """

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function."""
        if isinstance(self.function, type):
            return self.function.apply(x, **self.options)  # type: ignore[attr-defined, no-any-return]
        return self.function(x, **self.options)

    def extra_repr(self) -> str:
        """Name the function and the arguments."""
        return ", ".join(
            [name_object(self.function), *(f"{name}={value!r}" for name, value in self.options.items())]
        )


def copy_module(module: nn.Module) -> nn.Module:
    """Return a deep copy, also of a lazy batch normalization, whose buffers PyTorch cannot copy."""
    lazy: Any = [buffer for buffer in module.buffers() if is_lazy(buffer)]
    memo = {id(buffer): type(buffer)(device=buffer.device, dtype=buffer.dtype) for buffer in lazy}
    return copy.deepcopy(module, memo)


def inspect_parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a callable, by name; none if it has no signature."""
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # callables written in C may have none
        return {}


def is_autograd_function(value: Any) -> bool:
    """Return whether a value is a subclass of ``autograd.Function``."""
    return isinstance(value, type) and issubclass(value, torch.autograd.Function)


def is_tensor_function(value: Any) -> bool:
    """Return whether a callable takes a tensor. A callable that makes a module needs no argument."""
    inner = _unwrap(value)
    if isinstance(inner, type):
        return is_autograd_function(inner)
    parameters = inspect_parameters(value)
    if not parameters:
        return not isinstance(inner, FunctionType)  # a function in C has no signature
    first = next(iter(parameters.values()))
    return first.default is first.empty and first.kind <= first.VAR_POSITIONAL


def find_spec(definition: Activation[Any]) -> str | None:
    """Return the spec that stands for a definition; None if no spec does."""
    if catalogue.get(definition.name) is definition:
        return definition.name
    from actlab.derivation.formula_activation import FormulaActivation, make_from_spec

    if not isinstance(definition, FormulaActivation):
        return None
    recipe = definition.recipe
    parameters = ", ".join(f"{name}={number!r}" for name, number in recipe.parameters)
    spec = f"formula:{recipe.text}" + f" with {parameters}" * bool(parameters)
    return spec if make_from_spec(spec).recipe == recipe else None


def name_object(value: Any) -> str:
    """Return the short name of an object.

    Examples:
        >>> name_object(nn.LeakyReLU(0.2)), name_object(torch.sin), name_object(lambda x: x)
        ('LeakyReLU', 'sin', 'lambda')
    """
    value = _unwrap(value)
    if isinstance(value, Activation):
        return value.name
    owner = getattr(value, "__self__", None)  # of Function.apply
    value = owner if is_autograd_function(owner) else value
    return str(getattr(value, "__name__", None) or type(value).__name__).strip("<>")


def choose_names(values: Sequence[Any], taken: Collection[str] = ()) -> list[str]:
    """Return short and unique names of objects.

    Args:
        values: The objects. If several have the same short name, their arguments or a number are added to it.
        taken: Names that other activations have.

    Examples:
        >>> choose_names([nn.ReLU(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), nn.ReLU(), torch.sin], ["sin"])
        ['ReLU', 'LeakyReLU(negative_slope=0.1)', 'LeakyReLU(negative_slope=0.2)', 'ReLU-2', 'sin-2']
    """
    short, full = [name_object(value) for value in values], [_name_with_arguments(value) for value in values]
    used, names = set(taken), []
    for name, detailed in zip(short, full, strict=True):
        if (short.count(name) > 1 or name in taken) and full.count(detailed) == 1:
            name = detailed
        number, unique = 2, name
        while unique in used:
            number, unique = number + 1, f"{name}-{number}"
        used.add(unique)
        names.append(unique)
    return names


def shorten_repr(value: object) -> str:
    """Return a value as a short text in one line, for messages."""
    return " ".join(reprlib.repr(value).split())


def _name_with_arguments(value: Any) -> str:
    name = name_object(value)
    text = name
    if isinstance(value, nn.Module):
        text = repr(value).removesuffix("()")
    elif isinstance(value, functools.partial):
        arguments = [*map(repr, value.args), *(f"{key}={one!r}" for key, one in value.keywords.items())]
        text = f"{name}({', '.join(arguments)})"
    is_readable = text.isprintable() and len(text) <= _LONGEST_NAME and " at 0x" not in text
    return text if is_readable else name


def _unwrap(value: Any) -> Any:
    while isinstance(value, functools.partial):
        value = value.func
    return value

"""What in a model is an activation, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actlab._module import ActivationModule
from actlab.activation import Activation
from actlab.functions import DEFINITIONS


class Kind(NamedTuple):
    """What a module or function computes, the module class that does, and how a call of it is written."""

    activation: Activation[...] | None
    module: type | None
    text: str = ""


class Call(NamedTuple):
    """A call of an activation in a forward, and the line that it is in."""

    kind: Kind
    where: str
    node: Any = None


class Place(NamedTuple):
    """A module, or a function that is an attribute, and what has it."""

    holder: nn.Module
    name: str
    path: str
    value: Any


def _torch_functions() -> dict[Any, Kind]:
    """Return torch's functions and, by name, the methods of its tensors."""
    found = {torch.special.expit: Kind(DEFINITIONS["sigmoid"], nn.Sigmoid, "torch.special.expit")}
    for name, activation in DEFINITIONS.items():
        if (twin := activation.facts.twin) is None:
            continue
        for place, owner in (("F", F), ("torch", torch), ("x", Tensor)):
            for word in (word for word in (name, f"{name}_") if hasattr(owner, word)):
                kind = Kind(activation, getattr(nn, twin), f"{place}.{word}")
                found.setdefault(getattr(owner, word) if owner is not Tensor else word, kind)
    return found


_TWINS = {getattr(nn, twin): a for a in DEFINITIONS.values() if (twin := a.facts.twin)}
CALLS = _torch_functions()


def _definition(cls: type) -> Activation[...] | None:
    return getattr(cls, "activation", None) if issubclass(cls, ActivationModule) else _TWINS.get(cls)


def kind_of(value: Any) -> Kind | None:
    """Return what a module, a class or a function is; None where it is nothing to replace."""
    if isinstance(value, nn.Module):
        return Kind(_definition(type(value)), type(value))
    if isinstance(value, type):
        return Kind(activation, value, f"{value.__name__}()") if (activation := _definition(value)) else None
    function = value.func if isinstance(value, partial) else value
    if isinstance(function, Activation):
        return Kind(function, function.module_class, f"actlab.functional.{function.name}")
    return CALLS.get(function) if callable(function) and isinstance(function, Hashable) else None


def is_function(value: Any) -> bool:
    """Whether a value is an activation that is a function."""
    return not isinstance(value, nn.Module | type) and kind_of(value) is not None


def places_of(model: nn.Module) -> Iterator[Place]:
    """Yield the modules of a model, what has them first, and the activation functions in its attributes."""
    for path, holder in model.named_modules(remove_duplicate=False):
        functions = {name: value for name, value in vars(holder).items() if is_function(value)}
        for name, value in {**holder._modules, **functions}.items():
            if value is not None:
                yield Place(holder, name, f"{path}.{name}" if path else name, value)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))

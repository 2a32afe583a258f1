"""Build the module of a skorch model in any process. Workers start faster without skorch."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from actlab.spec import copy_module

Arguments = tuple[tuple[str, tuple[int, ...], str], ...]  # name, shape of one sample and dtype of each


def build_module(module: Any, options: Mapping[str, Any], arguments: Arguments = ()) -> nn.Module:
    """Build the module as skorch does, but from copies of modules.

    Args:
        module: The module of the skorch model.
        options: Its arguments.
        arguments: How to split joined inputs into arguments of forward.
    """
    if isinstance(module, nn.Module) and not options:
        built = copy.deepcopy(module)
    else:
        factory = type(module) if isinstance(module, nn.Module) else module
        built = factory(**{**options, **copy_modules(options)})
    if arguments:
        split_inputs(built, arguments)
    return built


def copy_modules(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of the modules among a model's options, so that training does not change them."""
    return {name: copy_module(value) for name, value in options.items() if isinstance(value, nn.Module)}


def split_inputs(module: nn.Module, arguments: Arguments) -> None:
    """Make a module take joined inputs."""
    module.register_forward_pre_hook(functools.partial(_split, arguments), with_kwargs=True)


def _split(
    arguments: Arguments, module: nn.Module, inputs: tuple[Tensor, ...], keywords: Mapping[str, Any]
) -> tuple[tuple[()], dict[str, Tensor]]:
    (x,) = inputs
    parts = torch.split(x, [math.prod(shape) for _, shape, _ in arguments], -1)
    return (), {
        name: part.reshape(*x.shape[:-1], *shape).to(getattr(torch, dtype))
        for part, (name, shape, dtype) in zip(parts, arguments, strict=True)
    }

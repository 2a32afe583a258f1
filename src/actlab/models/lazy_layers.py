"""Copy and initialize modules with lazy layers, such as ``nn.LazyLinear``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from actlab.errors import UsageError


def list_lazy_parameters(module: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that have no shape yet."""
    return [name for name, t in (*module.named_parameters(), *module.named_buffers()) if is_lazy(t)]


def initialize_lazy_layers(module: nn.Module, X: Any) -> nn.Module:
    """Initialize the lazy layers of a module, from torch's default generator.

    The forward pass runs in evaluation mode: it changes no running statistics, and layers that draw random
    numbers in training, such as dropout, do not change the weights.

    Args:
        module: The module; it is changed.
        X: Features (n, ...); the first two samples are passed through the module.

    Returns:
        The same module.

    Raises:
        UsageError: The forward pass does not use a lazy layer.
    """
    if not list_lazy_parameters(module):
        return module
    modes = [(part, part.training) for part in module.modules()]
    with torch.no_grad():
        module.eval()(torch.from_numpy(np.asarray(X[:2])))
    for part, mode in modes:
        part.training = mode
    if left := list_lazy_parameters(module):
        kind = type(module).__name__
        raise UsageError(
            f"{kind} has the lazy parameter {left[0]!r}, which its forward in evaluation mode does not use; "
            f"give it a size or remove it"
        )
    return module

"""The catalogue: every definition, by name. One family a file; a definition is in it by being there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from actlab.activation import Activation
from actlab.functions import (
    exponentials,
    gated,
    periodic,
    rectifiers,
    self_gated,
    shrinkage,
    sigmoids,
    tanh_gated,
    trainable,
)

FAMILIES: tuple[ModuleType, ...] = (
    exponentials,
    gated,
    periodic,
    rectifiers,
    self_gated,
    shrinkage,
    sigmoids,
    tanh_gated,
    trainable,
)


def _collect() -> dict[str, Activation[Any]]:
    found: dict[str, Activation[Any]] = {}
    for family in FAMILIES:
        for value in vars(family).values():
            if isinstance(value, Activation):
                found.setdefault(value.name, value)
    return found


catalogue: Mapping[str, Activation[Any]] = MappingProxyType(_collect())

"""The catalogue: every definition, by name. One family a file; a definition is in it by being there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from actlab.activation.definition import Activation
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
from actlab.functions.registry import Catalogue, defined_in

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


# What actlab itself defines.
DEFINITIONS: Mapping[str, Activation[Any]] = MappingProxyType(
    {name: found for family in FAMILIES for name, found in defined_in(family).items()}
)

catalogue: Mapping[str, Activation[Any]] = Catalogue(DEFINITIONS)

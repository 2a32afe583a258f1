"""The catalogue: every definition by name. Each file contains one family of functions."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from actlab.activation.definition import Activation
from actlab.functions.registry import Catalogue, find_definitions

_FAMILIES = (
    "exponentials gated_units periodic rectifiers shrinkage sigmoid_gated sigmoids tanh_gated trainable"
).split()

# actlab's own definitions.
DEFINITIONS: Mapping[str, Activation[Any]] = MappingProxyType(
    {
        name: definition
        for family in _FAMILIES
        for name, definition in find_definitions(importlib.import_module(f"{__name__}.{family}")).items()
    }
)

catalogue: Mapping[str, Activation[Any]] = Catalogue(DEFINITIONS)

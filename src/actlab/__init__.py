"""The activation-function laboratory for PyTorch: write one, prove it, time it, train with it, compare it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from actlab import functional, nn
from actlab._errors import UsageError
from actlab._fused import fused
from actlab._spec import get
from actlab._version import __version__
from actlab.activation import Activation, elementwise
from actlab.functions import catalogue

if TYPE_CHECKING:
    from actlab.comparison import Comparison, compare
    from actlab.data import Dataset, load_data
    from actlab.nets import NeuralNet

__all__ = [
    "Activation",
    "Comparison",
    "Dataset",
    "NeuralNet",
    "UsageError",
    "__version__",
    "catalogue",
    "compare",
    "elementwise",
    "functional",
    "fused",
    "get",
    "load_data",
    "nn",
]

# These need skorch, pandas or scikit-learn; the functions must not wait for them.
_LAZY = {
    "Comparison": "actlab.comparison",
    "Dataset": "actlab.data",
    "NeuralNet": "actlab.nets",
    "compare": "actlab.comparison",
    "load_data": "actlab.data",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'actlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

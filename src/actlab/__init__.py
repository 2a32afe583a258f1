"""The activation-function laboratory for PyTorch: write one, prove it, time it, train with it, compare it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from actlab._errors import CatalogueWarning, DataWarning, FormulaWarning, UsageError
from actlab._version import __version__

if TYPE_CHECKING:
    from actlab import functional, nn
    from actlab._fused import fused
    from actlab._spec import get
    from actlab.activation import Activation, elementwise
    from actlab.checking import CheckReport, check
    from actlab.comparison import Comparison, compare
    from actlab.data import Dataset, load_data
    from actlab.derivation.making import formula
    from actlab.functions import catalogue
    from actlab.nets import NeuralNet
    from actlab.report.comparison_figures import plot_comparison, plot_history
    from actlab.report.figures import plot_function
    from actlab.search import FleetSearchCV
    from actlab.swapping import swap
    from actlab.timing import Timings, measure

__all__ = [
    "Activation",
    "CatalogueWarning",
    "CheckReport",
    "Comparison",
    "DataWarning",
    "Dataset",
    "FleetSearchCV",
    "FormulaWarning",
    "NeuralNet",
    "Timings",
    "UsageError",
    "__version__",
    "catalogue",
    "check",
    "compare",
    "elementwise",
    "formula",
    "functional",
    "fused",
    "get",
    "load_data",
    "measure",
    "nn",
    "plot_comparison",
    "plot_function",
    "plot_history",
    "swap",
]

# Each name is fetched when it is first used: the functions do not wait for skorch and pandas, and
# `actlab --help` does not wait for torch.
_HOME = {
    "Activation": "actlab.activation",
    "CheckReport": "actlab.checking",
    "Comparison": "actlab.comparison",
    "Dataset": "actlab.data",
    "FleetSearchCV": "actlab.search",
    "NeuralNet": "actlab.nets",
    "catalogue": "actlab.functions",
    "Timings": "actlab.timing",
    "check": "actlab.checking",
    "compare": "actlab.comparison",
    "elementwise": "actlab.activation",
    "formula": "actlab.derivation.making",
    "fused": "actlab._fused",
    "get": "actlab._spec",
    "load_data": "actlab.data",
    "measure": "actlab.timing",
    "plot_comparison": "actlab.report.comparison_figures",
    "plot_function": "actlab.report.figures",
    "plot_history": "actlab.report.comparison_figures",
    "swap": "actlab.swapping",
}


def __getattr__(name: str) -> Any:
    if name in ("functional", "nn"):
        return importlib.import_module(f"actlab.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'actlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""The curves of the user's own activations, saved with the results."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch

from actlab.describe import evaluate_derivatives
from actlab.fleet.diagnostics import is_elementwise_nonlinear
from actlab.spec import ResolvedActivation

_REACH, _POINTS = 6.0, 241


def sample_curves(activations: Iterable[ResolvedActivation]) -> pd.DataFrame:
    """Return f, f' and f'' of the user's own activations in their initial state.

    A report draws the curves from this table, so that it does not import the user's code.

    Args:
        activations: The activations; those of the catalogue and from formulas are omitted.

    Returns:
        One row per activation and point: ``activation``, ``x``, ``f``, ``f1``, ``f2``. An activation that is
        not element-wise, or fails, has none.

    Examples:
        >>> from actlab.spec import resolve_all
        >>> sample_curves(resolve_all(["relu", "torch.nn:GELU"]))["activation"].unique().tolist()
        ['torch.nn:GELU']
    """
    x = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    curves = []
    for activation in activations:
        if not activation.is_own:
            continue
        try:
            module = activation.build().double().eval().requires_grad_(False)
            values = evaluate_derivatives(module, x)
            elementwise = is_elementwise_nonlinear(module, module, x, values[0])
        except Exception:  # raised by the user's module; the report notes that it has no curve
            continue
        if elementwise:
            f, f1, f2 = (each.tolist() for each in values)
            curves.append(
                pd.DataFrame({"activation": activation.name, "x": x.tolist(), "f": f, "f1": f1, "f2": f2})
            )
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()

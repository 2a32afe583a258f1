"""The curves of activations that are not in the catalogue, kept beside what was trained with them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from actlab.describe import derivatives
from actlab.fleet.diagnostics import computes_alone
from actlab.spec import get, is_imported, parse

_REACH, _POINTS = 6.0, 241


def own_curves(names: Sequence[str]) -> pd.DataFrame:
    """Return f, f' and f'' of those activations that are a person's own modules, as they begin.

    A report draws them from this: it imports nothing that a folder names.

    Args:
        names: Specs.

    Returns:
        One row per activation and point: ``activation``, ``x``, ``f``, ``f1``, ``f2``. An activation that
        mixes numbers, or fails, has none.

    Examples:
        >>> own_curves(["relu", "torch.nn:GELU"])["activation"].unique().tolist()
        ['torch.nn:GELU']
    """
    x = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    found = []
    for name in names:
        if not is_imported(parse(name)[0]):
            continue
        try:
            module = get(name).double().eval().requires_grad_(False)
            drawn = derivatives(module, x)
            alone = computes_alone(module, module, x, drawn[0])
        except Exception:  # anybody's module; the report says that it has no curve
            continue
        if alone:
            f, f1, f2 = (values.tolist() for values in drawn)
            found.append(pd.DataFrame({"activation": name, "x": x.tolist(), "f": f, "f1": f1, "f2": f2}))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

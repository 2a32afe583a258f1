"""The costs of the activations alone, apart from the network and the data."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from actlab.errors import UsageError
from actlab.spec import ResolvedActivation
from actlab.timing import measure_alone

_SHAPE = (128, 256)  # a batch and a layer


def measure_costs(activations: Iterable[ResolvedActivation], device: str = "cpu") -> pd.DataFrame:
    """Measure the eager kernels of activations and of their torch equivalents.

    Args:
        activations: The activations.
        device: Where to measure.

    Returns:
        One row per activation: ``activation``; ``nanoseconds`` per element, forward and backward;
        ``saved_bytes`` per element; and ``torch_nanoseconds`` and ``torch_saved_bytes``, the same of the
        torch equivalent (NaN if there is none). An activation that fails on a matrix has no row.

    Examples:
        >>> from actlab.spec import resolve_all
        >>> measure_costs(resolve_all(["softsign", "snake"]))[["saved_bytes", "torch_saved_bytes"]]
           saved_bytes  torch_saved_bytes
        0          4.0                8.0
        1          4.0                NaN
    """
    rows = []
    for activation in activations:
        try:
            own, *peer = measure_alone(activation.build(), _SHAPE, device)
        except UsageError:  # the report notes that it has no row
            continue
        rows.append(
            {
                "activation": activation.name,
                "nanoseconds": own.forward + own.backward,
                "torch_nanoseconds": peer[0].forward + peer[0].backward if peer else math.nan,
                "saved_bytes": own.saved_bytes,
                "torch_saved_bytes": peer[0].saved_bytes if peer else math.nan,
            }
        )
    return pd.DataFrame(rows)

"""The cost of the runs of each activation: time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from actlab.report.tables import to_numeric


@dataclass(frozen=True)
class Bars:
    """A chart of horizontal bars.

    Attributes:
        title: The quantity.
        unit: Its unit.
        rows: Name, place in the ranking and value of each activation.
    """

    title: str
    unit: str
    rows: Sequence[tuple[str, int, float]]


def make_cost_bars(results: pd.DataFrame, names: Sequence[str]) -> dict[str, Bars]:
    """Return the charts ``seconds`` and ``memory``, each only if the runs have values for it.

    Args:
        results: As in :attr:`actlab.Comparison.results`.
        names: Activations, in the order of their colours.
    """
    seconds, saved = (average_by_activation(results, column) for column in ("seconds", "saved_bytes"))
    unit, size = choose_memory_unit(saved)
    charts = {
        "seconds": ("seconds per run", "s", seconds),
        "memory": (f"{unit} saved for backward", unit, saved / size),
    }
    return {
        key: Bars(title, unit, [(n, i, float(values[n])) for i, n in enumerate(names) if n in values])
        for key, (title, unit, values) in charts.items()
        if any(name in values for name in names)
    }


def average_by_activation(results: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return the mean of a column by activation, without activations that have no finite value."""
    if not {"activation", column} <= set(results):
        return pd.Series(dtype=float)
    return to_numeric(results, column).groupby(results["activation"]).mean().dropna()


def choose_memory_unit(sizes: pd.Series[Any]) -> tuple[str, int]:
    """Return the unit in which to show sizes in bytes, and its number of bytes."""
    return ("MiB", 2**20) if len(sizes) and sizes.max() >= 2**20 else ("KiB", 2**10)

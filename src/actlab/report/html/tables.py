"""The tables of a report, every cell a text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from actlab.report.html.charts import METRICS, Labels, differences, standing
from actlab.report.html.svg import symbol
from actlab.report.insights import history_insights
from actlab.report.tables import plain

_WIDE = 12  # activations; beyond, a pair is a sign and a number
_HEADS = {"saved_bytes": "bytes saved"}
_NAMES = {"valid_acc": "validation accuracy", "valid_loss": "validation loss"}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        columns: Heading, and whether the column is of numbers.
        rows: Cells, as many in each as there are columns.
    """

    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]


def show(value: Any) -> str:
    """Return a value as a cell has it.

    Examples:
        >>> [show(value) for value in (0.97453, 12, None, float("nan"), 0.00012345, 123456.7, -0.5)]
        ['0.9745', '12', '–', '–', '0.000123', '1.23e+05', '−0.5000']
    """
    value = plain(value)
    if value is None or value == "":
        return "–"
    if not isinstance(value, float):
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    near = value == 0 or 1e-3 <= abs(value) < 1e5
    return (f"{value:.4f}" if near else f"{value:.3g}").replace("-", "−", 1 if value < 0 else 0)


def exactly(value: Any) -> str:
    """Return a setting as a cell has it: a number in as many digits as it was given."""
    return f"{value:.6g}" if isinstance(value, float) else show(value)


def difference(value: float | None, points: bool) -> str:
    """Return a difference with its sign, in points or in units of the score."""
    if value is None:
        return "–"
    return (f"{100 * value:+.2f}" if points else f"{value:+.3g}").replace("-", "−")


def ranking_table(
    ranking: pd.DataFrame, found: Mapping[str, dict[str, Any]], points: bool, of: Labels
) -> Table:
    """Return the ranking with each activation's difference to its top row."""
    beside = {name: interval(one, points) for name, one in found.items()}
    named = {"rank", "activation", "mean", "std", "runs", "status"}
    first = [name for name in ("rank", "activation", "mean", "std", "runs") if name in ranking]
    parts = [str(name) for name in ranking if str(name) not in named]
    rows = []
    for row in ranking.to_dict("records"):
        one = found.get(row["activation"])
        word = f"{symbol(one['word'])} {one['word']}" if one else "–"
        cells = [show(row[name]) for name in first]
        extra = [beside.get(row["activation"], "–"), word, show(row.get("status"))]
        rows.append([*cells, *extra, *(show(row[name]) for name in parts)])
    heads = [(name, name != "activation") for name in first]
    top = standing(ranking)
    if top != "the first" and len(ranking):
        top = of[str(ranking["activation"].iloc[0])]
    unit = f"difference to {top}" + (", in points" if points else "")
    more = [
        (unit, True),
        ("verdict", False),
        ("status", False),
        *((part.replace("_", " "), True) for part in parts),
    ]
    return Table([*heads, *more], rows)


def interval(one: Mapping[str, Any], points: bool) -> str:
    """Return a difference and its interval as one text."""
    if one["value"] is None:
        return "–"
    ends = [difference(one[name], points) for name in ("low", "high")]
    return f"{difference(one['value'], points)} ({ends[0]} to {ends[1]})"


def matrix(names: Sequence[str], verdicts: pd.DataFrame, points: bool) -> dict[str, Any]:
    """Return every pair as a cell: what the row's activation is beside the column's."""
    rows = []
    for name in names:
        # What the others are beside this one, turned round, is what this one is beside them.
        found = differences(verdicts, name)
        rows.append([_pair(found.get(other), points) if other != name else None for other in names])
    return {"rows": rows, "wide": len(names) <= _WIDE}


def _pair(one: Mapping[str, Any] | None, points: bool) -> dict[str, str]:
    if one is None:
        return {"word": "none", "symbol": symbol("none"), "value": "", "title": "no verdict"}
    word = {"better": "worse", "worse": "better"}.get(one["word"], one["word"])
    value = None if one["value"] is None else 0.0 - one["value"]
    shown = difference(value, points) if value is not None else ""
    return {"word": word, "symbol": symbol(word), "value": shown, "title": one["reason"] or word}


def learning_table(history: pd.DataFrame, names: Sequence[str]) -> Table:
    """Return what each activation's mean history says of overfitting."""
    metrics = [name for name in METRICS if name in history]
    rows = []
    for name in names:
        runs = history[history["activation"] == name] if "activation" in history else history[:0]
        if runs.empty:
            rows.append([name, "–", "–", "–", "no epochs"])
            continue
        mean = runs.groupby("epoch")[metrics].mean().reset_index()
        rows.append([name, *_lowest(mean), " ".join(_said(mean))])
    heads = [
        ("activation", False),
        ("validation loss, lowest", True),
        ("in epoch", True),
        ("at the end", True),
    ]
    return Table([*heads, ("what the means over all runs say", False)], rows)


def _lowest(mean: pd.DataFrame) -> list[str]:
    if "valid_loss" not in mean or not mean["valid_loss"].notna().any():
        return ["–", "–", "–"]
    loss = mean["valid_loss"].to_numpy(float)
    low = int(np.nanargmin(loss))
    return [show(loss[low]), show(int(mean["epoch"].iloc[low])), show(loss[-1])]


def _said(mean: pd.DataFrame) -> list[str]:
    if not {"train_loss", "valid_loss"} <= set(mean):
        return ["No validation: nothing can be said about overfitting."]
    return history_insights(mean)


def means(results: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return the mean of a column by activation; none where there is no finite one."""
    if not {"activation", column} <= set(results):
        return pd.Series(dtype=float)
    values = pd.to_numeric(results[column], errors="coerce").replace([math.inf, -math.inf], math.nan)
    return values.groupby(results["activation"]).mean().dropna()


def memory_unit(found: pd.Series[Any]) -> tuple[str, int]:
    """Return in what bytes are best said, and how many it is."""
    return ("MiB", 2**20) if len(found) and found.max() >= 2**20 else ("KiB", 2**10)


def cost_table(results: pd.DataFrame, names: Sequence[str]) -> Table:
    """Return what the runs of each activation took."""
    heads = [
        ("activation", False),
        ("runs", True),
        ("seconds each", True),
        ("seconds in all", True),
        ("epochs", True),
    ]
    kept = means(results, "saved_bytes")
    unit, size = memory_unit(kept)
    heads += [(f"kept by a step, {unit}", True)] if len(kept) else []
    rows = []
    for name in names:
        runs = results[results["activation"] == name]
        seconds, epochs = (
            pd.to_numeric(runs[c], errors="coerce") if c in runs else pd.Series(dtype=float)
            for c in ("seconds", "epochs")
        )
        all_of_them = seconds.sum() if seconds.notna().any() else math.nan
        cells = [show(seconds.mean()), show(float(all_of_them)), _span(epochs.dropna().astype(int).to_list())]
        cells += [rounded(kept.get(name, math.nan) / size)] if len(kept) else []
        rows.append([name, str(len(runs)), *cells])
    return Table(heads, rows)


def rounded(value: float, figures: int = 3) -> str:
    """Return a number in so many figures, a dash where there is none.

    Examples:
        >>> [rounded(value) for value in (1234.5, 0.0123456, -2.0, math.nan)]
        ['1234', '0.0123', '−2', '–']
    """
    if not math.isfinite(value):
        return "–"
    return (f"{value:.0f}" if abs(value) >= 10**figures else f"{value:.{figures}g}").replace("-", "−", 1)


def _span(values: Sequence[int]) -> str:
    if not values:
        return "–"
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def tuning_table(tuning: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return how each value did for each activation, and how often it was chosen."""
    known = {"activation", "split", "fold", "seed", "valid_acc", "valid_loss", "failure", "chosen"}
    if "activation" not in tuning or tuning.empty:
        return None
    tuned = [str(name) for name in tuning if str(name) not in known]
    measured = [name for name in _NAMES if name in tuning and tuning[name].notna().any()]
    rows = []
    place = tuning["activation"].map({name: place for place, name in enumerate(names)})
    for values, runs in tuning.groupby([place, "activation", *tuned], dropna=False):
        means = [show(float(runs[name].mean())) for name in measured]
        chosen = f"{int(runs['chosen'].sum())} of {len(runs)}" if "chosen" in runs else "–"
        rows.append([*(exactly(value) for value in values[1:]), *means, chosen])
    heads = [("activation", False), *((name, True) for name in tuned), *((_NAMES[n], True) for n in measured)]
    return Table([*heads, ("chosen", True)], rows)


def runs_table(results: pd.DataFrame, of: Labels) -> dict[str, Any]:
    """Return all runs: the table's texts, and the values that the page sorts, filters and draws.

    Args:
        results: As in :attr:`actlab.Comparison.results`.
        of: Short labels of the activations.
    """
    same = {"accuracy"} if "accuracy" in results and results["accuracy"].equals(results["score"]) else set()
    names = [str(name) for name in results if name not in {"key", *same} and _told(results[name])]
    numeric = {name: _is_number(results[name]) for name in names}
    values = [[plain(value) for value in row] for row in results[names].itertuples(index=False)]
    texts = [[show(value) for value in row] for row in values]
    heads = [(_HEADS.get(name, name.replace("_", " ")), numeric[name]) for name in names]
    axes = [
        i
        for i, name in enumerate(names)
        if name not in ("reason_alone", "failure") and results[name].nunique() > 1
    ]
    return {
        "table": Table(heads, texts),
        "data": {
            "columns": [{"name": heads[i][0], "number": numeric[name]} for i, name in enumerate(names)],
            "rows": values,
            "axes": axes,
            "labels": dict(of),
        },
    }


def _told(column: pd.Series[Any]) -> bool:
    """Return whether a column says anything: not one that is empty in every run."""
    return bool((column.notna() & (column.astype(str) != "")).any())


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)

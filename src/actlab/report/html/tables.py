"""The tables of the page; every cell is text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from actlab.report.costs import average_by_activation, choose_memory_unit
from actlab.report.differences import Difference, Pairs, format_difference, name_reference
from actlab.report.html.svg import get_verdict_symbol
from actlab.report.panels import Labels
from actlab.report.tables import to_json_value, to_numeric
from actlab.report.tuning_panels import Trials

CHANGED = "≠"  # marks a verdict that tuning changes
_WIDE = 12  # a matrix of more activations has no words in its cells


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        columns: Heading, and whether the column has numbers.
        rows: Cells, one per column.
    """

    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]


def format_cell(value: Any) -> str:
    """Return a value as the text of a cell.

    Examples:
        >>> [format_cell(value) for value in (0.97453, 12, None, float("nan"), 0.00012345, 123456.7, -0.5)]
        ['0.9745', '12', '–', '–', '0.000123', '1.23e+05', '−0.5000']
    """
    value = to_json_value(value)
    if value is None or value == "":
        return "–"
    if not isinstance(value, float):
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    near = value == 0 or 1e-3 <= abs(value) < 1e5
    return (f"{value:.4f}" if near else f"{value:.3g}").replace("-", "−", 1 if value < 0 else 0)


def format_setting(value: Any) -> str:
    """Return a setting as text; a number keeps up to six digits."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else format_cell(value)


def format_figures(value: float) -> str:
    """Return a number with three significant figures, a dash for NaN.

    Examples:
        >>> [format_figures(value) for value in (1234.5, 0.0123456, -2.0, math.nan)]
        ['1234', '0.0123', '−2', '–']
    """
    if not math.isfinite(value):
        return "–"
    return (f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−", 1)


def make_ranking_table(
    ranking: pd.DataFrame,
    pairs: Pairs,
    points: bool,
    labels: Labels,
    given: pd.DataFrame | None = None,
    given_pairs: Pairs = MappingProxyType({}),
) -> Table:
    """Return the ranking with the difference of each activation from the top row.

    Args:
        ranking: As in :attr:`actlab.Comparison.ranking`.
        pairs: The differences.
        points: Whether to show them in percentage points.
        labels: Short labels by name.
        given: The ranking with the settings as given, if the runs were tuned.
        given_pairs: The differences with the settings as given.
    """
    statistics = [name for name in ("rank", "activation", "mean", "std", "runs") if name in ranking]
    folds = [str(name) for name in ranking if name not in (*statistics, "status")]
    if given is not None:
        statistics.insert(statistics.index("mean") + 1, "mean as given")
        ranking = ranking.assign(**{"mean as given": ranking["activation"].map(_describe_means(given))})
    top = str(ranking["activation"].iloc[0]) if len(ranking) else ""
    has_status = "status" in ranking and bool(ranking["status"].fillna("").astype(bool).any())
    rows = []
    for row in ranking.to_dict("records"):
        one = pairs.get((row["activation"], top))
        verdict = ["–", "–"]
        if one:
            verdict = [one.describe(points), f"{get_verdict_symbol(one.verdict)} {one.verdict}"]
        if given is not None:
            verdict.append(_describe_change(one, given_pairs.get((row["activation"], top)), points))
        numbers, scores = ([format_cell(row[name]) for name in part] for part in (statistics, folds))
        rows.append([*numbers, *verdict, *[format_cell(row.get("status"))] * has_status, *scores])
    reference = "the first" if name_reference(ranking) == "the first" or not top else labels[top]
    columns = [(name, name != "activation") for name in statistics]
    columns += [(f"difference from {reference}{', pp' if points else ''}", True)]
    columns += [("verdict", False), *([("verdict as given", False)] if given is not None else [])]
    columns += [("status", False)] * has_status + [*((name.replace("_", " "), True) for name in folds)]
    return Table(columns, rows)


def _describe_means(given: pd.DataFrame) -> dict[str, str]:
    """Return mean and rank of each activation as text."""
    return {
        row["activation"]: format_cell(row["mean"])
        + (" (no rank)" if pd.isna(row["rank"]) else f" (rank {row['rank']})")
        for row in given.to_dict("records")
    }


def _describe_change(tuned: Difference | None, given: Difference | None, points: bool) -> str:
    """Return verdict and difference with the settings as given, marked if tuning changes the verdict."""
    if tuned is None or given is None:
        return "–"
    mark = CHANGED * (tuned.verdict != given.verdict)
    texts = [mark, get_verdict_symbol(given.verdict), given.verdict, format_difference(given.value, points)]
    return " ".join(filter(None, texts))


def make_verdict_matrix(
    names: Sequence[str], pairs: Pairs, points: bool, given: Pairs | None = None
) -> dict[str, Any]:
    """Return the verdict of every pair: the activation of the row compared with that of the column.

    Args:
        names: The activations.
        pairs: Their differences.
        points: Whether to show them in percentage points.
        given: The differences with the settings as given, if the runs were tuned.
    """

    def make_cell(pair: tuple[str, str]) -> dict[str, Any]:
        cell = _make_matrix_cell(pairs.get(pair), points)
        return cell if given is None else {**cell, "given": _make_matrix_cell(given.get(pair), points)}

    rows = [[None if a == b else make_cell((a, b)) for b in names] for a in names]
    return {"rows": rows, "wide": len(names) <= _WIDE}


def _make_matrix_cell(one: Difference | None, points: bool) -> dict[str, Any]:
    if one is None:
        return {"verdict": "none", "value": "", "reason": "", "given": None}
    value = "" if one.value is None else format_difference(one.value, points)
    return {"verdict": one.verdict, "value": value, "reason": one.reason, "given": None}


def make_cost_table(results: pd.DataFrame, names: Sequence[str]) -> Table:
    """Return number, seconds, epochs and memory of the runs of each activation."""
    saved = average_by_activation(results, "saved_bytes")
    unit, size = choose_memory_unit(saved)
    rows = []
    for name in names:
        runs = results[results["activation"] == name]
        seconds, epochs = (to_numeric(runs, column).dropna() for column in ("seconds", "epochs"))
        total = float(seconds.sum()) if len(seconds) else math.nan
        cells = [name, str(len(runs)), format_cell(seconds.mean()), format_cell(total), _format_range(epochs)]
        rows.append([*cells, *([format_figures(saved.get(name, math.nan) / size)] if len(saved) else [])])
    columns = [("activation", False), ("runs", True), ("seconds each", True), ("total seconds", True)]
    columns += [("epochs", True), *([(f"saved for backward, {unit}", True)] if len(saved) else [])]
    return Table(columns, rows)


def make_function_cost_table(costs: pd.DataFrame, names: Sequence[str]) -> Table | None:
    """Return the costs of the activations alone, with those of their torch equivalents.

    Args:
        costs: As in :attr:`actlab.Comparison.costs`.
        names: Activations.
    """
    values = {"nanoseconds", "torch_nanoseconds", "saved_bytes", "torch_saved_bytes"}
    if not {"activation", *values} <= set(costs):
        return None
    measured = {
        str(row["activation"]): {key: float(row[key]) for key in values} for row in costs.to_dict("records")
    }
    rows = []
    for name in (name for name in names if name in measured):
        own = measured[name]
        times = [own["nanoseconds"], own["torch_nanoseconds"], own["nanoseconds"] / own["torch_nanoseconds"]]
        rows.append([name, *map(format_figures, [*times, own["saved_bytes"], own["torch_saved_bytes"]])])
    columns = [("activation", False), ("ns, actlab", True), ("ns, torch.nn", True), ("ratio", True)]
    return Table([*columns, ("bytes saved, actlab", True), ("bytes saved, torch.nn", True)], rows)


def _format_range(values: pd.Series[Any]) -> str:
    ends = dict.fromkeys(int(value) for value in (values.min(), values.max()) if value == value)
    return " to ".join(map(str, ends)) or "–"


def make_choices_table(trials: Trials, names: Sequence[str]) -> Table:
    """Return how often each activation chose which settings, and the numbers of its trials."""
    rows = []
    for name in names:
        own = trials.rows[trials.rows["activation"] == name]
        counts = (
            trials.select_chosen(name).groupby(trials.tuned, dropna=False).size().reset_index(name="count")
        )
        chosen = [
            f"{', '.join(f'{key}={format_setting(one[key])}' for key in trials.tuned)} ({one['count']})"
            for one in counts.sort_values("count", ascending=False, kind="stable").to_dict("records")
        ]
        rows.append([name, "; ".join(chosen) or "–", str(len(own)), str(int(own["failed"].sum()))])
    columns = [("activation", False), ("chosen settings (runs)", False), ("trials", True), ("failed", True)]
    return Table(columns, rows)


def make_candidates_table(trials: Trials, names: Sequence[str]) -> Table:
    """Return the mean scores of each candidate by activation, and in how many of its trials it was chosen."""
    rows = []
    series = trials.rows["activation"].map({name: index for index, name in enumerate(names)})
    for values, runs in trials.rows.groupby([series, "activation", *trials.tuned], dropna=False):
        means = [format_cell(float(runs[name].mean())) for name in trials.scores]
        chosen = f"{int(runs['chosen'].sum())} of {len(runs)}"
        rows.append([*(format_setting(value) for value in values[1:]), *means, chosen])
    numbers = [(name, True) for name in (*trials.tuned, *trials.scores.values(), "chosen")]
    return Table([("activation", False), *numbers], rows)


def make_runs_table(
    results: pd.DataFrame, labels: Labels, subject: str = "activation"
) -> tuple[Table, dict[str, Any]]:
    """Return the table of all runs, and the values that the page sorts, filters and draws.

    Args:
        results: As in :attr:`actlab.Comparison.results`.
        labels: Short labels of the activations.
        subject: What is compared.
    """
    same = {"accuracy"} if "accuracy" in results and results["accuracy"].equals(results["score"]) else set()
    names = [str(name) for name in results if name not in {"key", *same} and _has_values(results[name])]
    is_number = [_is_number(results[name]) for name in names]
    titles = [
        {"saved_bytes": "bytes saved", "activation": subject}.get(name, name.replace("_", " "))
        for name in names
    ]
    rows = [[to_json_value(value) for value in row] for row in results[names].itertuples(index=False)]
    texts = ("reason_alone", "failure")  # long texts, which an axis has no room for
    axes = [i for i, name in enumerate(names) if name not in texts and results[name].nunique() > 1]
    columns = list(zip(titles, is_number, strict=True))
    data = {
        "columns": [{"name": title, "number": number} for title, number in columns],
        "rows": rows,
        "axes": axes,
        "labels": dict(labels),
    }
    return Table(columns, [[format_cell(value) for value in row] for row in rows]), data


def _has_values(column: pd.Series[Any]) -> bool:
    return bool((column.notna() & (column.astype(str) != "")).any())


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)

"""Ranking and verdicts as tables for papers: LaTeX and Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab.errors import UsageError, escape_unprintable
from actlab.report.differences import format_difference

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

_ESCAPED = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    # Without them, the default font has other characters in these places.
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "–": "--"}
)


@dataclass(frozen=True)
class PaperTable:
    """A table of texts.

    Attributes:
        columns: Heading, and whether the column has numbers.
        rows: Cells, one per column.
        caption: The metric and the statistical test.
    """

    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]
    caption: str


def make_paper_table(comparison: Comparison, table: str) -> PaperTable:
    """Return the ranking or the verdicts; scores that are shares are in percent, differences in pp.

    Args:
        comparison: The comparison.
        table: ``"ranking"`` or ``"verdicts"``.

    Raises:
        UsageError: There is no such table.
    """
    makers = {"ranking": _make_ranking, "verdicts": _make_verdicts}
    if table not in makers:
        raise UsageError(f"table must be 'ranking' or 'verdicts', got {table!r}")
    return makers[table](comparison)


def format_markdown(comparison: Comparison, table: str) -> str:
    """Return a table of :func:`make_paper_table` as Markdown, with its caption below."""
    made = make_paper_table(comparison, table)
    rule = ["--:" if is_number else "---" for _, is_number in made.columns]
    lines = [[name for name, _ in made.columns], rule, *made.rows]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in escaped), "", made.caption, ""])


def format_latex(comparison: Comparison, table: str) -> str:
    """Return a table of :func:`make_paper_table` as a LaTeX float; it needs the package booktabs."""
    made = make_paper_table(comparison, table)
    numbers = [is_number for _, is_number in made.columns]
    head = " & ".join(_escape(name) for name, _ in made.columns)
    rows = [
        " & ".join(
            _format_math(cell) if number else _escape(cell) for cell, number in zip(row, numbers, strict=True)
        )
        for row in made.rows
    ]
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(made.caption)}}}"]
    lines += [rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numbers)}}}", r"\toprule"]
    lines += [rf"{head} \\", r"\midrule", *(rf"{row} \\" for row in rows), r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}", r"\end{table}", ""])


def _escape(text: str) -> str:
    escaped = "-{}-".join(part.translate(_ESCAPED) for part in text.split("--"))  # "--" is a dash
    # A bracket or a star after the end of a row would be an argument of it.
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def _format_math(number: str) -> str:
    return f"${number.replace('−', '-').replace('±', chr(92) + 'pm')}$" if number != "–" else "--"


# -- content --------------------------------------------------------------------------------------


def _make_ranking(comparison: Comparison) -> PaperTable:
    ranking, about, given = comparison.ranking, comparison.about, comparison.as_given
    points = bool(about.get("points"))
    metric = str(about.get("metric", "score"))
    means = dict(zip(given.ranking["activation"], given.ranking["mean"], strict=True)) if given else {}
    has_status = "status" in ranking and bool(ranking["status"].fillna("").any())
    rows, decimals = [], 2 if points else _choose_decimals(ranking["std"])
    for row in ranking.to_dict("records"):
        score = (
            f"{_format_score(row['mean'], points, decimals)} ± {_format_score(row['std'], points, decimals)}"
        )
        cells = [_format_cell(row["rank"]), _format_cell(row["activation"])]
        cells += ["–" if pd.isna(row["mean"]) else score]
        cells += [_format_score(means[row["activation"]], points, decimals)] if given else []
        rows.append([*cells, _format_cell(row["runs"]), *[_format_cell(row.get("status"))] * has_status])
    unit = f"{metric} (%)" if points else metric
    columns = [
        ("rank", True),
        ("activation", False),
        (unit, True),
        *[("settings as given", True)] * bool(given),
    ]
    columns += [("runs", True), *[("status", False)] * has_status]
    data = _format_cell(about.get("data"))
    caption = f"Mean {metric} on {data} ± standard deviation over the runs."
    return PaperTable(columns, rows, f"{caption} {_describe_test(comparison, 'Ranks')}".strip())


def _make_verdicts(comparison: Comparison) -> PaperTable:
    about, points = comparison.about, bool(comparison.about.get("points"))
    if "mean_rank_difference" in comparison.verdicts:
        return _make_dataset_verdicts(comparison)
    rows = []
    for row in comparison.verdicts.to_dict("records"):
        names = [_format_cell(row[name]) for name in ("a", "verdict", "b")]
        difference, low, high = (
            format_difference(None if pd.isna(row[name]) else row[name], points)
            for name in ("difference", "low", "high")
        )
        interval = "–" if low == "–" else f"[{low}, {high}]"
        rows.append([*names, difference, interval, _format_p(row["p_holm"]), _format_cell(row["runs"])])
    coverage = f"{100 * (1 - about.get('level', 0.05)):.3g} % interval"
    columns = [
        ("a", False),
        ("verdict", False),
        ("b", False),
        (f"difference{' (pp)' if points else ''}", True),
    ]
    columns += [(coverage, True), ("p", True), ("runs", True)]
    subject = f"{about.get('metric', 'score')} on {_format_cell(about.get('data'))}"
    caption = f"Difference of a from b in {subject}{', in percentage points' if points else ''}."
    return PaperTable(columns, rows, f"{caption} {_describe_test(comparison, 'Verdicts')}".strip())


def _make_dataset_verdicts(comparison: Comparison) -> PaperTable:
    rows = [
        [
            *(_format_cell(row[name]) for name in ("a", "verdict", "b")),
            f"{row['mean_rank_difference']:+.2f}".replace("-", "−"),
            _format_p(row["p_holm"]),
        ]
        for row in comparison.verdicts.to_dict("records")
    ]
    columns = [("a", False), ("verdict", False), ("b", False), ("mean rank difference", True), ("p", True)]
    data = _format_cell(comparison.about.get("data"))
    return PaperTable(
        columns, rows, f"Mean rank of a minus that of b on {data}. {_describe_test(comparison, 'Verdicts')}"
    )


def _describe_test(comparison: Comparison, what: str) -> str:
    """Return a sentence that names the test; empty without a test."""
    p, about = comparison.verdicts.get("p_holm", pd.Series(dtype=float)), comparison.about
    if not (tested := int(p.notna().sum())):
        return ""
    test = about.get("analysis", "corrected resampled t-test")
    if about.get("test"):
        test = "random effects of seeds and test samples on a fixed test set"
        if not about["test"]["has_outcomes"]:
            test = "random effects of seeds on a fixed test set"
    elif about.get("seeds", 1) > 1:
        test = "mixed model of splits and seeds, with the variance of the corrected resampled t-test"
    holm = f", Holm's correction for {tested} pairs" if tested > 1 else ""
    return f"{what}: {test}{holm}, level {about.get('level', 0.05):.3g}."


def _choose_decimals(stds: pd.Series[float]) -> int | None:
    """Return the decimals with which the smallest deviation has two digits; None for very small numbers."""
    positive = stds[(stds > 0) & (stds < math.inf)]
    decimals = 4 if positive.empty else max(0, 1 - math.floor(math.log10(positive.min())))
    return decimals if decimals < 8 else None


def _format_score(value: float, points: bool, decimals: int | None) -> str:
    if not math.isfinite(value):
        return "–"
    if decimals is None:
        return f"{value:.4g}"
    return f"{round(100 * value if points else value, decimals) + 0.0:.{decimals}f}"  # no "-0"


def _format_p(value: float) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _format_cell(value: Any) -> str:
    """Return a value in one printable line; a dash if it is missing."""
    if value is None or pd.isna(value):
        return "–"
    return " ".join(escape_unprintable(str(value)).split()) or "–"

"""A comparison in a few lines, for a console and a notebook."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab.errors import escape_unprintable
from actlab.report.panels import Labels, clean_labels
from actlab.report.sentences import describe_report
from actlab.report.tables import format_table
from actlab.report.wrapping import WIDTH, wrap_sentences

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

LINES = 15  # of the text
RANKING = ("rank", "activation", "mean", "std", "status")
MORE = 'More: .sentences(), .ranking, .verdicts; .report("page.html") has all charts.'
_ROWS = 4  # of the ranking in the text
_MAX_NAME, _MAX_STATUS = 20, 34  # characters


def format_summary(comparison: Comparison, width: int = WIDTH) -> str:
    """Return a comparison as text: its first sentences, the top of the ranking, and where to see more.

    Args:
        comparison: The comparison.
        width: Maximum number of characters of a line.

    Returns:
        At most 15 lines. Long names are shortened.
    """
    short = rename_activations(comparison, clean_labels(list_activations(comparison), _MAX_NAME))
    head, *ends = (
        textwrap.shorten(line, width, placeholder=" …")
        for line in (describe_subject(short), *describe_tuning(short.about), MORE)
    )
    table = _format_ranking(short.ranking, width)
    sentences = _wrap(describe_report(short), LINES - 1 - len(table) - len(ends), width)
    return "\n".join([head, *sentences, *table, *ends])


def list_activations(comparison: Comparison) -> list[str]:
    """Return the names of the activations, the best first."""
    return [str(name) for name in comparison.ranking["activation"]]


def rename_activations(comparison: Comparison, labels: Labels) -> Comparison:
    """Return a comparison whose tables have labels instead of the activations' names."""

    def rename(table: pd.DataFrame) -> pd.DataFrame:
        columns = [name for name in ("activation", "a", "b") if name in table]
        return table.assign(**{name: table[name].map(lambda one: labels.get(one, one)) for name in columns})

    values = {field.name: getattr(comparison, field.name) for field in dataclasses.fields(comparison)}
    tables: dict[str, Any] = {
        name: rename(value) for name, value in values.items() if isinstance(value, pd.DataFrame)
    }
    given = comparison.as_given and rename_activations(comparison.as_given, labels)
    return dataclasses.replace(comparison, **tables, as_given=given)


def describe_subject(comparison: Comparison) -> str:
    """Return what was compared: the data and the numbers of activations and runs."""
    about, runs = comparison.about, len(comparison.results)
    kind = "Training" if about.get("kind") == "training" else "Comparison"
    counts = [f"{len(comparison.ranking)} activation", f"{runs} run"]
    numbers = ", ".join(f"{count}{'' if count.startswith('1 ') else 's'}" for count in counts)
    return f"{kind} on {escape_unprintable(str(about.get('data', 'unknown data')))}: {numbers}"


def describe_tuning(about: Mapping[str, Any]) -> list[str]:
    """Return a sentence on whether the runs have tuned settings; none if it is unknown."""
    if "tuned" not in about:
        return []
    if tuned := about["tuned"]:
        return [f"Settings: {', '.join(tuned[0])} tuned in each run; .as_given has those as given."]
    return ["Settings: as given for all activations, not tuned."]


def _format_ranking(ranking: pd.DataFrame, width: int) -> list[str]:
    """Return the top of the ranking; the status only if an activation has one."""
    table = ranking[[name for name in RANKING if name in ranking]][:_ROWS]
    if "status" in table:
        texts = (
            table["status"]
            .fillna("")
            .map(lambda text: textwrap.shorten(escape_unprintable(text), _MAX_STATUS, placeholder=" …"))
        )
        table = table.assign(status=texts) if texts.any() else table.drop(columns="status")
    lines = format_table(table, width).splitlines()
    more = len(ranking) - len(table)
    return [*lines, f"({more} more in .ranking)"] if more else lines


def _wrap(sentences: Sequence[str], lines: int, width: int) -> list[str]:
    """Return the first sentences that fit into a number of lines; the first one is cut if it is too long."""
    fitting: list[str] = []
    for text in wrap_sentences(sentences, width, lines):
        wrapped = text.splitlines()
        if fitting and len(fitting) + len(wrapped) > lines:
            break
        fitting += wrapped
    return fitting

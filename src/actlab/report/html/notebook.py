"""Show a comparison as the output of a notebook's cell: HTML without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from actlab.report.differences import Pairs, collect_differences, make_forest
from actlab.report.html import svg
from actlab.report.html.tables import Table, make_ranking_table
from actlab.report.panels import make_learning_panels, shorten_names
from actlab.report.sentences import describe_report
from actlab.report.summary import (
    MORE,
    RANKING,
    describe_subject,
    describe_tuning,
    list_activations,
    rename_activations,
)

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

_ROWS = 20  # of the ranking
_SENTENCES = 6
_MAX_SENTENCE = 600  # characters


def render_summary(comparison: Comparison) -> str:
    """Return the verdicts, the ranking and one chart of a comparison as HTML.

    The colours of text and axes are those of the notebook, light or dark.

    Args:
        comparison: The comparison.
    """
    short = rename_activations(comparison, shorten_names(list_activations(comparison)))
    headline, *sentences = (_cut(sentence) for sentence in describe_report(short))
    points, pairs = bool(short.about.get("points")), collect_differences(short.verdicts)
    given = short.as_given
    top = short.ranking[[name for name in (*RANKING, "runs") if name in short.ranking]][:_ROWS]
    names = {name: name for name in top["activation"]}
    given_pairs = collect_differences(given.verdicts) if given else {}
    table = make_ranking_table(top, pairs, points, names, given.ranking if given else None, given_pairs)
    if more := len(sentences) - _SENTENCES:
        sentences[_SENTENCES:] = [f"{more} more: .sentences()"] if more > 0 else []
    css = (resources.files("actlab.report.html") / "assets" / "notebook.css").read_text(encoding="utf-8")
    notes = [*describe_tuning(short.about), MORE]
    if rest := len(short.ranking) - len(top):
        notes.insert(0, f"{rest} more activations are in .ranking.")
    return "\n".join(
        [
            f'<div class="actlab-summary"><style>{css}</style>',
            f"<p>{escape(describe_subject(short))}</p>",
            f"<p><strong>{escape(headline)}</strong></p>",
            f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>",
            _draw_table(table),
            _draw_chart(short, pairs, list(names)),
            f"<p>{'<br>'.join(map(escape, notes))}</p></div>",
        ]
    )


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= _MAX_SENTENCE else f"{sentence[:_MAX_SENTENCE]}…"


def _draw_table(table: Table) -> str:
    head = _draw_row("th", [name for name, _ in table.columns], table)
    rows = "".join(_draw_row("td", row, table) for row in table.rows)
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _draw_row(tag: str, cells: Sequence[str], table: Table) -> str:
    classes = [' class="n"' if is_number else "" for _, is_number in table.columns]
    texts = [f"<bdi>{escape(_cut(cell))}</bdi>" for cell in cells]
    drawn = (f"<{tag}{one}>{text}</{tag}>" for one, text in zip(classes, texts, strict=True))
    return f"<tr>{''.join(drawn)}</tr>"


def _draw_chart(comparison: Comparison, pairs: Pairs, names: Sequence[str]) -> str:
    """Draw the differences from the top row; without differences, the first curve of the training."""
    labels = {name: name for name in names}
    ranking = comparison.ranking[: len(names)]
    if names and (forest := make_forest(ranking, pairs, comparison.about, labels)):
        return svg.draw_forest(forest, labels, f"Forest plot: {forest.axis}")
    panels = make_learning_panels(comparison.history, names[: svg.SHOWN])
    panel = next(
        (panels[metric] for metric in ("valid_acc", "valid_loss", "train_loss") if metric in panels), None
    )
    if panel is None:
        return ""
    legend = "".join(
        f"<span>{svg.draw_swatch(line.series)} <bdi>{escape(line.name)}</bdi></span> " for line in panel.lines
    )
    return f"<p>{escape(panel.title)}: {legend}</p>{svg.draw_panel(panel, f'{panel.title} by epoch')}"

"""A comparison as one page: to open, to send and to print, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab.errors import UsageError
from actlab.files import writing
from actlab.report.html import charts, diagnostic_charts, insights, reproduce, sections, svg, tables
from actlab.report.html.unfinished import training_sentences, unfinished_sentences

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

_MEANS = "mean over the runs of each activation, with the band from the lowest to the highest"
_JUDGED = {"metric", "points", "region", "region_is", "tuned", "trained"}  # what sentences are made of
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the report of a comparison: one HTML file that makes no network request.

    Args:
        comparison: The comparison, of a training or of :meth:`actlab.Comparison.load`.
        path: The file; it appears whole or not at all.

    Raises:
        ImportError: Plotly or Jinja is not installed; the message says how to get them.
        UsageError: There are no runs, or the file cannot be written.

    Examples:
        >>> import actlab, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_report(actlab.compare(["relu", "tanh"], "digits", epochs=2), folder / "report.html")
        >>> (folder / "report.html").read_text(encoding="utf-8")[:15]
        '<!DOCTYPE html>'
    """
    page = render(comparison)
    with writing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def render(comparison: Comparison) -> str:
    """Return the page; see :func:`write_report`."""
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError('no report without Plotly and Jinja: pip install "actlab[report]"') from error
    if comparison.results.empty and comparison.ranking.empty:
        raise UsageError("a report needs at least one run; the comparison has none")
    content = _content(comparison)
    numbers = json.dumps(content["numbers"], allow_nan=False, separators=(",", ":")).translate(_ESCAPED)
    scripts = [get_plotlyjs(), *(_asset(f"{name}.js") for name in ("charts", "sorting", "runs", "parallel"))]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals.update(symbol=svg.symbol, swatch=svg.swatch)
    return environment.from_string(_asset("report.html.j2")).render(
        **{**content, "numbers": numbers},
        css=_asset("report.css"),
        scripts=scripts,
        # Only these scripts may run, whatever else might have found its way into the page.
        hashes=[_hash(script) for script in scripts],
    )


def _asset(name: str) -> str:
    return (resources.files("actlab.report.html") / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _content(comparison: Comparison) -> dict[str, Any]:
    ranking, about, diagnostics = comparison.ranking, comparison.about, comparison.diagnostics
    names = [str(name) for name in ranking["activation"]]
    of = charts.labels(names)
    said = [_legible(sentence, names) for sentence in sentences(comparison)]
    judged, has_history = about.get("kind") != "training", len(comparison.history) > 0
    points = bool(about.get("points"))
    found = charts.differences(comparison.verdicts, names[0]) if names else {}
    made = {
        "forest": sections.forest(names, found, about, of, charts.standing(ranking)),
        "learning": sections.learning(comparison.history, names, of),
        "units": sections.panels(diagnostic_charts.unit_panels(diagnostics, names), _MEANS, of),
        "gradients": sections.panels(diagnostic_charts.gradient_panels(diagnostics, names), _MEANS, of),
        "functions": sections.functions(names, comparison.curves, of),
        "cost": sections.seconds(comparison.results, names, of),
        "saved_bytes": sections.kept(comparison.results, names, of),
    }
    runs = tables.runs_table(comparison.results, of)
    return {
        "title": f"{', '.join(of.values())}: {about.get('data', 'comparison')}"[:120],
        "headline": said[0],
        "sentences": said[1:],
        "judged": judged,
        "one_run": len(comparison.results) == 1,
        "unfinished": bool(about.get("unfinished")),
        "about": about,
        "facts": reproduce.facts(about),
        "command": about.get("command") or reproduce.call(_given(comparison, names), about),
        "names": names,
        "of": of,
        "leader": names[0] if names else "",
        "metric": about.get("metric", "score"),
        "points": points,
        "figures": made,
        "insights": _insights(comparison, names, of),
        "ranking": tables.ranking_table(ranking, found, points, of),
        "matrix": tables.matrix(names, comparison.verdicts, points) if len(comparison.verdicts) else None,
        "each": sections.each(comparison.history, names, of),
        "has_history": has_history,
        "learnt": tables.learning_table(comparison.history, names) if judged and has_history else None,
        "diagnostics": _diagnostics(diagnostics, names, of, about.get("diagnostics") or {}),
        "cost": tables.cost_table(comparison.results, names),
        "tuning": tables.tuning_table(comparison.tuning, names),
        "runs": runs["table"],
        "numbers": {
            "labels": of,
            "figures": {name: figure["chart"] for name, figure in made.items() if figure["chart"]},
            "runs": runs["data"],
        },
    }


def _given(comparison: Comparison, names: Sequence[str]) -> list[str]:
    """Return the activations in the order in which they were given, which the results keep."""
    order = [str(name) for name in comparison.results.get("activation", [])]
    return list(dict.fromkeys([*order, *names]))


def sentences(comparison: Comparison) -> list[str]:
    """Say what is known, the most important first; also of a training, and of what has not ended."""
    about = comparison.about
    if about.get("kind") == "training":
        return training_sentences(comparison.results, comparison.history)
    if left := about.get("unfinished"):
        return unfinished_sentences(left, comparison.ranking, about.get("metric", "score"))
    if set(about) >= _JUDGED:
        return comparison.sentences()
    means = pd.to_numeric(comparison.ranking["mean"], errors="coerce")
    if means.notna().sum() < 2:
        return ["No two activations have a mean score.", "No more is known of it."]
    best = str(comparison.ranking["activation"].iloc[int(means.argmax())])
    return [f"Highest mean: {best}.", "No more is known of it."]


def _legible(sentence: str, names: Sequence[str]) -> str:
    for name in names:
        if (alone := charts.isolated(name)) != name:
            sentence = sentence.replace(name, alone)
    return sentence


def _insights(comparison: Comparison, names: Sequence[str], of: charts.Labels) -> dict[str, list[str]]:
    """Return what each chart shows, in words."""
    results, diagnostics = comparison.results, comparison.diagnostics
    return {
        "learning": insights.learning_insights(comparison.history, names, of),
        "units": insights.unit_insights(diagnostics, names, of),
        "gradients": insights.gradient_insights(diagnostics, names, of),
        "runs": insights.runs_insights(results, of),
        "functions": insights.function_insights(names, comparison.curves, of),
        "cost": insights.cost_insights(results, names, of),
        "tuning": insights.tuning_insights(comparison.tuning, names, of),
    }


def _diagnostics(
    diagnostics: Any, names: Sequence[str], of: charts.Labels, about: Mapping[str, Any]
) -> dict[str, Any]:
    units, weights = (
        diagnostic_charts.units_table(diagnostics, names),
        diagnostic_charts.weights_table(diagnostics, names),
    )
    seen = {row[0] for table in (units, weights) if table for row in table.rows}
    return {
        "units": units,
        "weights": weights,
        "fewer": diagnostic_charts.left_out(diagnostics, units, "activation")
        or diagnostic_charts.left_out(diagnostics, weights, "weights"),
        "heats": diagnostic_charts.heats(diagnostics, names, of),
        "rows": about.get("rows"),
        "off": about.get("off"),
        "unseen": [name for name in names if name not in seen] if seen else [],
    }

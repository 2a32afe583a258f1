"""Write a comparison as one HTML page that works offline."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.errors import UsageError
from actlab.files import replace_file
from actlab.report.costs import Bars, make_cost_bars
from actlab.report.diagnostic_panels import (
    has_deep_networks,
    make_distribution_panels,
    make_gradient_panels,
    make_unit_panels,
)
from actlab.report.differences import collect_differences, make_forest
from actlab.report.html import chart_insights, diagnostic_tables, reproduce, svg, tables
from actlab.report.panels import (
    METRICS,
    Labels,
    Panel,
    find_specs,
    make_function_panels,
    make_learning_panels,
    make_loss_panels,
    make_profile_panels,
    protect_text_direction,
    shorten_names,
)
from actlab.report.sentences import describe_report, name_subject
from actlab.report.tuning_panels import make_tuning_panels, read_trials

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

_SCRIPTS = ("charts", "sorting", "runs", "parallel")
_RANGE = "mean over the runs of each activation, with the range from the lowest to the highest"
_LOSSES = "training loss (solid) and validation loss (dashed) by epoch; a dot at the lowest validation loss"
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the report of a comparison as one HTML file that makes no network request.

    Args:
        comparison: The comparison, which may come from :meth:`actlab.Comparison.load`.
        path: The file. It is written completely or not at all.

    Raises:
        ImportError: Jinja is not installed; the message explains how to install it.
        UsageError: There are no runs, or the file cannot be written.

    Examples:
        >>> import actlab, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_report(actlab.compare(["relu", "tanh"], "digits", epochs=2), folder / "report.html")
        >>> (folder / "report.html").read_text(encoding="utf-8")[:15]
        '<!DOCTYPE html>'
    """
    page = render(comparison)
    with replace_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(comparison: Comparison) -> str:
    """Return the page; see :func:`write_report`."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('the report needs Jinja: pip install "actlab[report]"') from error
    if comparison.results.empty and comparison.ranking.empty:
        raise UsageError("a report needs at least one run; the comparison has none")
    names = [str(name) for name in comparison.ranking["activation"]]
    labels = shorten_names(names)
    sections = {
        "header": _make_header(comparison, names, labels),
        "verdicts": _make_verdicts(comparison, names, labels),
        "learning": _make_learning(comparison, names, labels),
        "diagnostics": _make_diagnostics(comparison, names, labels),
        "runs": _make_runs(comparison, labels),
        "functions": _make_functions(comparison, names, labels),
        "cost": _make_cost(comparison, names, labels),
        "tuning": _make_tuning(comparison, names, labels),
        "reproduction": _make_reproduction(comparison, names),
    }
    values = [value for section in sections.values() for value in section.values()]
    figures = {value.id: value.data for value in values if isinstance(value, Figure) and value.data}
    subject = name_subject(comparison.about)
    data = {"labels": labels, "subject": subject, "figures": figures, "runs": sections["runs"]["data"]}
    scripts = [_read_asset(f"{name}.js") for name in _SCRIPTS]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals["swatch"] = svg.draw_swatch
    return environment.from_string(_read_asset("report.html.j2")).render(
        **sections,
        names=names,
        labels=labels,
        judged=comparison.about.get("kind") != "training",
        trained=comparison.about.get("kind") != "judgement",
        subject=subject,
        one_run=len(comparison.results) == 1,
        unfinished=bool(comparison.about.get("unfinished")),
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_ESCAPES),
        css=_read_asset("base.css") + _read_asset("report.css"),
        scripts=scripts,
        # The page's policy allows these scripts only.
        hashes=[_hash(script) for script in scripts],
    )


def _read_asset(name: str) -> str:
    return (resources.files("actlab.report.html") / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


# -- sections -------------------------------------------------------------------------------------


def _make_header(comparison: Comparison, names: Sequence[str], labels: Labels) -> dict[str, Any]:
    about, sentences = comparison.about, describe_report(comparison)
    for name in names:
        if (isolated := protect_text_direction(name)) != name:
            sentences = [sentence.replace(name, isolated) for sentence in sentences]
    return {
        "title": f"{', '.join(labels.values())}: {about.get('data', 'comparison')}"[:120],
        "data": about.get("data", "comparison"),
        "date": str(about.get("date", ""))[:10],
        "headline": sentences[0],
        "sentences": sentences[1:],
    }


def _make_verdicts(comparison: Comparison, names: Sequence[str], labels: Labels) -> dict[str, Any]:
    ranking, about, given = comparison.ranking, comparison.about, comparison.as_given
    given_pairs = collect_differences(given.verdicts) if given else None
    points, pairs = bool(about.get("points")), collect_differences(comparison.verdicts)
    chart = make_forest(ranking, pairs, about, labels) if names else None
    profiles, figure = make_profile_panels(about.get("profiles", []), names), None
    if chart:
        rows = "; ".join(f"{labels[row.name]} {row.text}" for row in chart.rows[:20])
        figure = Figure("forest", [svg.draw_forest(chart, labels, f"Forest plot: {chart.axis}. {rows}")])
    return {
        "forest": figure,
        "has_far_rows": bool(chart and any(map(chart.is_beyond, chart.rows))),
        "reference": labels[names[0]] if names else "",
        "metric": about.get("metric", "score"),
        "points": points,
        "ranking": tables.make_ranking_table(
            ranking, pairs, points, labels, given.ranking if given else None, given_pairs or {}
        ),
        "matrix": tables.make_verdict_matrix(names, pairs, points, given_pairs) if pairs else None,
        "changed": tables.CHANGED if given else "",
        "diagram": about.get("diagram"),
        "over": about.get("over", "datasets"),
        "profiles": _draw_panels("profiles", profiles, f"one line for each {name_subject(about)}", labels),
    }


def _make_learning(comparison: Comparison, names: Sequence[str], labels: Labels) -> dict[str, Any]:
    history, judged = comparison.history, comparison.about.get("kind") != "training"
    panels = make_learning_panels(history, names)
    drawings = {
        name: svg.draw_panel(panel, f"{labels[name]}: {_LOSSES}", 300, 200)
        for name, panel in make_loss_panels(history, names, labels).items()
    }
    figure = _draw_panels("learning", list(panels.values()), _RANGE, labels)
    return {
        "figure": figure,
        "missing": [title for metric, title in METRICS.items() if metric not in panels],
        "insights": chart_insights.describe_learning(history, names, labels) if judged else [],
        "losses": drawings,
        "has_history": len(history) > 0,
    }


def _make_diagnostics(comparison: Comparison, names: Sequence[str], labels: Labels) -> dict[str, Any]:
    frame, settings = comparison.diagnostics, comparison.about.get("diagnostics") or {}
    unit_table = diagnostic_tables.make_units_table(frame, names)
    weight_table = diagnostic_tables.make_weights_table(frame, names)
    present = {row[0] for table in (unit_table, weight_table) if table for row in table.rows}
    units = _draw_panels("units", make_unit_panels(frame, names), _RANGE, labels)
    gradients = _draw_panels("gradients", make_gradient_panels(frame, names), _RANGE, labels)
    panels = make_distribution_panels(frame, names)
    distributions = _draw_panels("distributions", panels, "median with 5th to 95th percentile", labels)
    return {
        "units": units,
        "unit_insights": chart_insights.describe_units(frame, names, labels),
        "gradients": gradients,
        "gradient_insights": chart_insights.describe_gradients(frame, names, labels),
        "distributions": distributions,
        "unit_table": unit_table,
        "weight_table": weight_table,
        "some_layers": has_deep_networks(frame),
        "samples": settings.get("samples"),
        "off": settings.get("off"),
        "missing": [name for name in names if name not in present] if present else [],
    }


def _make_runs(comparison: Comparison, labels: Labels) -> dict[str, Any]:
    subject = name_subject(comparison.about)
    table, data = tables.make_runs_table(comparison.results, labels, subject)
    insights = chart_insights.describe_runs(comparison.results, labels, subject)
    return {"table": table, "data": data, "insights": insights}


def _make_functions(comparison: Comparison, names: Sequence[str], labels: Labels) -> dict[str, Any]:
    specs = find_specs(names, comparison.about)
    panels, missing = make_function_panels(specs, comparison.curves)
    figure = _draw_panels("functions", panels, "one line for each activation", labels)
    insights = chart_insights.describe_functions(specs, comparison.curves, labels)
    return {"figure": figure, "missing": missing, "insights": insights}


def _make_cost(comparison: Comparison, names: Sequence[str], labels: Labels) -> dict[str, Any]:
    results = comparison.results
    bars = make_cost_bars(results, names)
    return {
        **{name: _draw_bars(name, bars.get(name), labels) for name in ("seconds", "memory")},
        "insights": chart_insights.describe_costs(results, names, labels),
        "table": tables.make_cost_table(results, names),
        "functions": tables.make_function_cost_table(comparison.costs, names),
    }


def _make_tuning(comparison: Comparison, names: Sequence[str], labels: Labels) -> dict[str, Any]:
    trials = read_trials(comparison.tuning, comparison.about)
    if trials is None:
        return {"choices": None}
    panels = make_tuning_panels(trials, names, comparison.about)
    describe = {"sensitivity": chart_insights.describe_sensitivity, "budget": chart_insights.describe_budget}
    return {
        "choices": tables.make_choices_table(trials, names),
        "insights": chart_insights.describe_tuning(trials, names, labels),
        "figure": _draw_panels("trials", list(panels.values()), _RANGE, labels),
        "chart_insights": [describe[name](panel, labels) for name, panel in panels.items()],
        "candidates": tables.make_candidates_table(trials, names),
    }


def _make_reproduction(comparison: Comparison, names: Sequence[str]) -> dict[str, Any]:
    about = comparison.about
    # The results have the activations in the order of the call.
    in_order = dict.fromkeys([*map(str, comparison.results.get("activation", [])), *names])
    command = about.get("command") or reproduce.format_call(list(in_order), about)
    return {"command": command, "facts": reproduce.list_settings(about)}


# -- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        id: Its name in the page.
        drawings: SVG of each of its panels.
        titles: Titles of the panels.
        legend: Name and series of each line.
        data: Values of each panel, which the page shows at the pointer.
    """

    id: str
    drawings: Sequence[str]
    titles: Sequence[str] = ()
    legend: Sequence[tuple[str, int]] = ()
    data: Sequence[Mapping[str, Any]] = ()


def _draw_panels(id_: str, panels: Sequence[Panel], description: str, labels: Labels) -> Figure | None:
    """Return panels with one legend."""
    if not panels:
        return None
    drawings = []
    for panel in panels:
        lines = ", ".join(labels[line.name] for line in panel.lines[:20])
        drawings.append(svg.draw_panel(panel, f"{panel.title} by {panel.x_label}: {description}: {lines}"))
    legend = sorted(
        {(line.name, line.series) for panel in panels for line in panel.lines}, key=lambda x: x[1]
    )
    return Figure(id_, drawings, [panel.title for panel in panels], legend, list(map(_list_data, panels)))


def _list_data(panel: Panel) -> dict[str, Any]:
    """Return the values of a panel; a line without ``x`` has that of the first line."""
    first, lines = panel.lines[0], []
    for line in panel.lines:
        values = {"name": line.name, "series": line.series, "y": line.y, "low": line.low, "high": line.high}
        lines.append(values | ({} if line.x == first.x and line is not first else {"x": line.x}))
    return {"x": panel.x_label, "range": panel.x_range, "log": panel.log_x, "lines": lines}


def _draw_bars(id_: str, bars: Bars | None, labels: Labels) -> Figure | None:
    if bars is None:
        return None
    alt = f"{bars.title}: {', '.join(f'{labels[name]} {value:.3g}' for name, _, value in bars.rows)}"
    return Figure(id_, [svg.draw_bars(bars.rows, bars.unit, labels, alt)])

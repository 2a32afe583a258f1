"""A comparison as one page: to open, to send and to print, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab._errors import UsageError
from actlab._files import writing
from actlab.report import page_charts as charts
from actlab.report import page_svg as svg
from actlab.report import page_tables as tables

if TYPE_CHECKING:
    from actlab.comparison import Comparison

_SHOWN = 8  # activations in one set of axes at first; the legend shows and hides
_JUDGED = {"metric", "points", "region", "region_is", "tuned", "trained"}  # what sentences are made of
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_UNSAID = ("settings", "race", "tuned", "command", "points", "region_is")  # by other parts of the page


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
    scripts = [get_plotlyjs(), *(_asset(f"{name}.js") for name in ("charts", "runs", "parallel"))]
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
    return (resources.files("actlab.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _content(comparison: Comparison) -> dict[str, Any]:
    ranking, about = comparison.ranking, comparison.about
    names = [str(name) for name in ranking["activation"]]
    of = charts.labels(names)
    said = [_legible(sentence, names) for sentence in _sentences(comparison)]
    points = bool(about.get("points"))
    found = charts.differences(comparison.verdicts, names[0]) if names else {}
    figures = {
        "forest": _forest(names, found, about, of),
        "learning": _learning(comparison.history, names, of),
        "functions": _functions(names, of),
        "cost": _cost(comparison.results, names, of),
    }
    runs = tables.runs_table(comparison.results, of)
    return {
        "title": f"{', '.join(of.values())}: {about.get('data', 'comparison')}"[:120],
        "headline": said[0],
        "sentences": said[1:],
        "about": about,
        "facts": _facts(about),
        "command": about.get("command") or _call(names, about),
        "names": names,
        "of": of,
        "leader": names[0] if names else "",
        "metric": about.get("metric", "score"),
        "points": points,
        "figures": figures,
        "ranking": tables.ranking_table(ranking, found, points),
        "matrix": tables.matrix(names, comparison.verdicts, points) if len(comparison.verdicts) else None,
        "each": _each(comparison.history, names, of),
        "learnt": tables.learning_table(comparison.history, names) if len(comparison.history) else None,
        "cost": tables.cost_table(comparison.results, names),
        "tuning": tables.tuning_table(comparison.tuning, names),
        "runs": runs["table"],
        "numbers": {
            "labels": of,
            "figures": {name: figure["chart"] for name, figure in figures.items() if figure["chart"]},
            "runs": runs["data"],
        },
    }


def _sentences(comparison: Comparison) -> list[str]:
    if set(comparison.about) >= _JUDGED:
        return comparison.sentences()
    best = [str(name) for name in comparison.ranking["activation"][:1]]
    return [f"Highest mean: {best[0]}." if best else "No activation has a rank.", "No more is known of it."]


def _legible(sentence: str, names: Sequence[str]) -> str:
    for name in names:
        if (alone := charts.isolated(name)) != name:
            sentence = sentence.replace(name, alone)
    return sentence


def _forest(names: Sequence[str], found: Any, about: Any, of: charts.Labels) -> dict[str, Any]:
    if not any(one["value"] is not None for one in found.values()):
        return {"chart": None}
    points = bool(about.get("points"))
    chart = charts.forest(names, found, float(about.get("region", math.nan)), 100.0 if points else 1.0)
    said = [_beside(found.get(name), points) if place else "the first" for place, name in enumerate(names)]
    unit = f"difference of {about.get('metric', 'score')} to {of[names[0]]}" + (
        ", in points" if points else ""
    )
    alt = f"Forest plot: {unit}. " + "; ".join(
        f"{of[name]} {text}" for name, text in list(zip(names, said, strict=True))[:20]
    )
    beyond = any(abs(row["value"] or 0) > chart["limit"] for row in chart["rows"])
    chart |= {"beyond": beyond, "said": said, "unit": unit, "alt": alt}
    return {"chart": chart, "svgs": [svg.forest_svg(chart, of, alt, said, unit)]}


def _beside(one: Any, points: bool) -> str:
    if one is None or one["value"] is None:
        return "no verdict"
    return tables.interval(one, points)


def _learning(history: pd.DataFrame, names: Sequence[str], of: charts.Labels) -> dict[str, Any]:
    about = "mean over the runs of each activation, with the band from the lowest to the highest"
    return _panels(charts.learning(history, names), about, of)


def _functions(names: Sequence[str], of: charts.Labels) -> dict[str, Any]:
    panels, missing = charts.functions(names)
    return {**_panels(panels, "one line for each activation", of), "missing": missing}


def _panels(panels: list[charts.Chart], about: str, of: charts.Labels) -> dict[str, Any]:
    if not panels:
        return {"chart": None}
    drawn = []
    for panel in panels:
        series = [line["name"] for line in panel["lines"]]
        panel["alt"] = f"{panel['title']} by {panel['x']}: {about}: {', '.join(of[n] for n in series[:20])}"
        few = {
            **panel,
            "lines": [line for line in panel["lines"] if line["series"] < _SHOWN] or panel["lines"][:_SHOWN],
        }
        drawn.append(svg.panel_svg(few, panel["alt"]))
    shown = {line["name"]: line["series"] for panel in panels for line in panel["lines"]}
    legend = sorted(shown.items(), key=lambda item: item[1])
    chart = {"kind": "panels", "panels": panels, "shown": _SHOWN}
    return {"chart": chart, "svgs": drawn, "legend": legend}


def _each(history: pd.DataFrame, names: Sequence[str], of: charts.Labels) -> list[tuple[str, str]]:
    panels = charts.each_learning(history, names, of)
    alt = "training loss (solid) and validation loss (dashed) by epoch; a dot where validation loss is lowest"
    return [(name, svg.panel_svg(panel, f"{of[name]}: {alt}", 300, 200)) for name, panel in panels.items()]


def _cost(results: pd.DataFrame, names: Sequence[str], of: charts.Labels) -> dict[str, Any]:
    if "seconds" not in results:
        return {"chart": None}
    means = pd.to_numeric(results["seconds"], errors="coerce").groupby(results["activation"]).mean()
    rows = [
        (name, i, float(means[name]))
        for i, name in enumerate(names)
        if math.isfinite(means.get(name, math.nan))
    ]
    if not rows:
        return {"chart": None}
    alt = "Seconds of a run: " + ", ".join(f"{of[name]} {value:.3g}" for name, _, value in rows)
    chart = {**charts.bars(rows), "alt": alt}
    return {"chart": chart, "svgs": [svg.bars_svg(chart, of, alt)]}


def _facts(about: Any) -> list[tuple[str, str]]:
    """Return settings, seeds, versions and hardware, each with its name."""
    race = about.get("race") or {}
    settings = about.get("settings") or {}
    first = settings.get("seed", 0)
    rows = [(name, value) for name, value in about.items() if name not in _UNSAID]
    if "seeds" in about:
        rows = [(n, f"{v}: {first} to {first + v - 1}" if n == "seeds" and v > 1 else v) for n, v in rows]
    rows += [("race", race["ended"])] if race.get("ended") else []
    rows += [("tuned", json.dumps(about["tuned"]))] if about.get("tuned") else []
    rows += [(name, value) for name, value in settings.items() if name != "seed"]
    return [(name.replace("_", " "), tables.exactly(value)) for name, value in rows]


def _call(names: Sequence[str], about: Any) -> str:
    """Return the comparison as a call in Python, where no command line has made it."""
    given = {name: about[name] for name in ("folds", "seeds") if name in about} | dict(
        about.get("settings") or {}
    )
    words = [f"{name}={value!r}" for name, value in given.items()]
    return f"actlab.compare({', '.join([repr(sorted(names)), repr(about.get('data', 'data')), *words])})"

"""Write a page for every activation into docs/functions/ from definitions and measured tables.

Run ``python docs/make_pages.py [FOLDER]``.
"""

from __future__ import annotations

import csv
import functools
import shutil
import sys
from pathlib import Path

import torch

import actlab
from actlab.describe import evaluate_curves, find_plot_range, get_summary, list_properties, make_value_table
from actlab.models.gaussian_moments import list_moments
from actlab.report.html.svg import draw_panel, make_svg
from actlab.report.panels import Line, Panel, round_values

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from formulas import latex

DOCS = Path(__file__).parent
LABELS = ("f", "f′", "f″")
OURS = {name: actlab.catalogue[name] for name in actlab.functional.__all__}  # without those of other packages
CODE = ("values at", "derivative", "module", "in torch.nn")
POINTS = (-2.0, -0.5, 0.5, 2.0)  # of an example
Table = dict[str, list[dict[str, str]]]


def read_table(path: Path) -> Table:
    """Return the rows of a page's table by the name in their first column.

    The tables of benchmarks repeat headings of columns. A repeated heading is numbered, as in ``eager 2``.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    heads: list[str] = []
    for head in rows[0]:
        before = sum(one.split(" ")[0] == head for one in heads)
        heads.append(f"{head} {before + 1}" if before else head)
    table: Table = {}
    for cells in rows[2:]:
        table.setdefault(cells[0], []).append(dict(zip(heads, cells, strict=True)))
    return table


def format_page(activation: actlab.Activation[...], speed: Table, accuracy: Table) -> str:
    """Return the page of one activation as Markdown."""
    name, module = activation.name, activation.module_class
    lines = [f"# {name}", "", get_summary(activation), "", "$$", latex(activation.formula()), "$$", ""]
    if not activation.facts.gated:
        lines += ["```{raw} html", draw_plot(activation), "```", ""]
    lines += ["## Properties", "", "| | |", "|---|---|"]
    properties = list_properties(activation) + list_moments(activation)
    lines += [f"| {label} | {_cell(label, text)} |" for label, text in properties]
    if not activation.facts.gated:
        lines += ["", "## Values", "", "| x | f | f′ | f″ |", "|--:|--:|--:|--:|"]
        lines += ["| " + " | ".join(cells) + " |" for cells in make_value_table(activation)]
    if name in accuracy:
        lines += [*_format_accuracy(accuracy[name]), ""]
    lines += [
        *_format_speed({spec: rows[0] for spec, rows in speed.items() if spec.split("(")[0] == name}),
        "",
    ]
    lines += [
        *_format_survey(name),
        "## Use",
        "",
        "```python",
        *format_example(activation).splitlines(),
        "```",
        "",
    ]
    lines += ["```{eval-rst}", f".. autofunction:: actlab.functional.{name}", ""]
    lines += [f".. autoclass:: actlab.nn.{module.__name__}", ""] * bool(module)
    return "\n".join([*lines, "```", ""])


def _cell(label: str, text: str) -> str:
    return f"`{text}`" if label == "formula" or (label in CODE and text != "none") else text


def _format_accuracy(rows: list[dict[str, str]]) -> list[str]:
    """Return the worst errors, by dtype."""
    return [
        "",
        "## Accuracy",
        "",
        "The largest error. One unit is the change of the value that rounding the input can cause "
        "([how it is measured](../benchmarks/accuracy.md)).",
        "",
        "| dtype | f | f′ | f″ |",
        "|---|--:|--:|--:|",
        *("| " + " | ".join(list(row.values())[1:]) + " |" for row in rows),
    ]


def _format_speed(rows: dict[str, dict[str, str]]) -> list[str]:
    """Return time and memory, compared with the peer's; an alias is not measured."""
    if not rows:
        return []
    return [
        "",
        "## Speed and memory",
        "",
        "The time of forward and backward in float32 on one thread of a CPU, divided by the time of the "
        "peer: the module of torch.nn, or the plain formula ([how it is measured]"
        "(../benchmarks/functions.md)). Below 1, actlab is faster. *Fused* is measured inside "
        "`actlab.fused()`. *Saved* is the number of bytes per element that are saved for backward, with "
        "that of the peer in parentheses.",
        "",
        "| | peer | 128x128 | 10⁶ | fused | 10⁷ | fused | saved (peer) |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| `{spec}` | {row['peer']} | {row['eager 3']} | {row['eager']} | {row['fused']} "
            f"| {row['eager 2']} | {row['fused 2']} | {row['saved B/elem (peer)']} |"
            for spec, row in rows.items()
        ),
    ]


@functools.cache
def read_survey() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the verdicts of the survey by activation, with any arguments."""
    rows: dict[str, list[dict[str, str]]] = {}
    with (DOCS / "survey" / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["activation"].partition("(")[0], []).append(row)
    return rows


def _format_survey(name: str) -> list[str]:
    """Return the results of an activation in the survey."""
    if name not in read_survey():
        return []
    lines = [
        "## Survey",
        "",
        "Mean scores over 12 runs of small networks, tuned and with the settings as given, and the verdict "
        "on this activation against relu, not corrected for other pairs. The four activations with the "
        "highest means on a task were trained again with 20 runs "
        "([all tasks and activations](../survey.md)).",
        "",
        "| | task | tuned | as given | against relu | trained again |",
        "|---|---|--:|--:|---|---|",
    ]
    for row in read_survey()[name]:
        verdict = row["alone"] or "–"
        if row["difference"]:
            verdict += f" ({float(row['difference']):+.3f})".replace("-", "−")
        scores = [
            f"{float(row[key]):.3f}".replace("-", "−") if row[key] else "–"
            for key in ("mean", "as_given", "again_mean")
        ]
        scores.insert(2, verdict)
        lines.append(f"| `{row['activation']}` | {row['task']} | {' | '.join(scores)} {row['again']} |")
    return [*lines, ""]


def format_example(activation: actlab.Activation[...]) -> str:
    """Return Python code that applies the function, with its output as a comment."""
    arguments = "".join(f", {name}={value!r}" for name, value in activation.facts.example.items())
    outputs = activation(torch.tensor(POINTS), **activation.facts.example)
    call = f"print(actlab.functional.{activation.name}(x{arguments}))  # {outputs}"
    return "\n".join(["import torch", "import actlab", "", f"x = torch.tensor({list(POINTS)})", call])


def draw_plot(activation: actlab.Activation[...]) -> str:
    """Return f, f' and f'' as a drawing whose colours are the page's."""
    low, high = find_plot_range(activation)
    x = torch.linspace(low, high, 241, dtype=torch.float64)
    drawn = evaluate_curves(activation, x)
    most = max(high, 1.25)
    main = torch.stack(drawn[:2]).clamp(-most, most)  # f″ may spike at a bend: it is cut off
    room = 0.08 * float(main.max() - main.min()) or 1.0
    limits = (float(main.min()) - room, float(main.max()) + room)
    lines = [
        Line(label, order, x.tolist(), round_values(y.clamp(*limits)), dash=order)
        for order, (label, y) in enumerate(zip(LABELS, drawn, strict=True))
    ]
    chart = Panel(activation.name, "x", lines, limits=limits)
    legend = "".join(
        f'<span><svg viewBox="0 0 24 8"><path class="line c{order} d{order}" d="M0 4H24"/></svg>'
        f"{label}</span>"
        for order, label in enumerate(LABELS)
    )
    alt = f"{activation.name}, its derivative and its second derivative from {low:g} to {high:g}"
    return (
        f'<figure class="plot"><figcaption>{legend}</figcaption>{draw_panel(chart, alt, 480, 270)}</figure>'
    )


def draw_thumbnail(activation: actlab.Activation[...]) -> str:
    """Return a small drawing of f; for a gated function, over the second half with the first half at 1."""
    low, high = (-4.0, 4.0) if activation.facts.gated else find_plot_range(activation)
    x = torch.linspace(low, high, 81, dtype=torch.float64)
    if activation.facts.gated:
        y = activation(torch.stack([torch.ones_like(x), x], 1)).flatten()
    else:
        y = evaluate_curves(activation, x)[0]
    most = max(high, 1.25)
    points = [
        f"{60 + 56 * float(a) / high:.1f} {40 - 36 * float(b) / most:.1f}"
        for a, b in zip(x, y, strict=True)
        if abs(float(b)) <= 1.05 * most
    ]
    axes = '<path class="axis" d="M4 40H116M60 4V76"/>'
    return make_svg(120, 80, activation.name, [axes, f'<path class="line c0" d="M{"L".join(points)}"/>'])


def format_index(speed: Table) -> str:
    """Return the page that lists all functions."""
    lines = ["# Functions", "", f"{len(OURS)} activations, each defined once. "]
    lines[-1] += "These pages are generated from the definitions and from two measured tables: "
    lines[-1] += "[accuracy](../benchmarks/accuracy.md) and [speed](../benchmarks/functions.md)."
    lines += ["", "::::{grid} 2 3 4 5", ":gutter: 2", ":class-container: functions", ""]
    for name, one in OURS.items():
        drawn = draw_thumbnail(one)
        lines += [f":::{{grid-item-card}} {name}", f":link: {name}", ":link-type: doc", ":text-align: center"]
        lines += ["", "```{raw} html", drawn, "```", ":::"]
    lines += [
        "::::",
        "",
        "## In a table",
        "",
        "*Saved*: bytes per element that are saved for backward in float32.",
        "",
    ]
    lines += ["| function | module | formula | saved | source |", "|---|---|---|---|---|"]
    for name, one in OURS.items():
        saved = speed[name][0]["saved B/elem (peer)"].split(" ")[0] if name in speed else ""
        cells = (f"[{name}]({name}.md)", _module(one), f"`{one.formula()}`", saved, one.facts.paper)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "```{toctree}", ":hidden:", "", *OURS, "```", ""]
    return "\n".join(lines)


def _module(activation: actlab.Activation[...]) -> str:
    return f"`{activation.module_class.__name__}`" if activation.module_class else ""


def format_lists() -> dict[str, str]:
    """Return the tables of ``actlab.functional`` and ``actlab.nn``, which the API pages include."""
    by_module = {one.module_class.__name__: one for one in OURS.values() if one.module_class}
    tables = {}
    for face, named in (("functional", OURS), ("nn", by_module)):
        kind = "func" if face == "functional" else "class"
        links = {name: f"{{py:{kind}}}`~actlab.{face}.{name}`" for name in sorted(named)}
        rows = [f"| {link} | {get_summary(named[name])} |" for name, link in links.items()]
        tables[face] = "\n".join(["| | |", "|---|---|", *rows, ""])
    return tables


def main() -> None:
    """Write all pages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "functions"
    shutil.rmtree(folder, ignore_errors=True)  # a function that is gone leaves no page
    folder.mkdir(parents=True)
    speed = read_table(DOCS / "benchmarks" / "functions.md")
    accuracy = read_table(DOCS / "benchmarks" / "accuracy.md")
    for name, activation in OURS.items():
        (folder / f"{name}.md").write_text(format_page(activation, speed, accuracy), encoding="utf-8")
    (folder / "index.md").write_text(format_index(speed), encoding="utf-8")
    for face, text in format_lists().items():
        (folder / f"_{face}.md").write_text(text, encoding="utf-8")
    print(f"Written: {len(OURS)} pages in {folder}")


if __name__ == "__main__":
    main()

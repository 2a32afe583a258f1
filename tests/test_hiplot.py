"""HiPlot pages in a real browser without network, and HiPlot experiments of comparisons."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys

import pytest

pytest.importorskip("hiplot", reason="HiPlot is not installed")

from actlab import UsageError
from actlab.integrations.hiplot import to_hiplot
from tests.browser import open_offline
from tests.report_cases import HOSTILE, all_diverged, browser, comparison

__all__ = ["browser"]

NAMES = [
    *HOSTILE,
    "two\nlines",
    "&lt;img src=x onerror='window.stolen = 1'&gt;",
    "__proto__ ${1} {{7*7}} a'b\\c",
]
ROWS = [
    {"name": name, "score": place / 10, "loss": math.nan if place % 2 else -math.inf, "uid": place}
    | {f"{other}{column}": name for column, other in enumerate(NAMES)}
    for place, name in enumerate(NAMES)
]
PAINTED = """canvases => canvases.some(canvas => canvas.width && canvas.height &&
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value))"""
# Run a cell like a notebook, and print its published output.
NOTEBOOK = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config
from actlab.integrations.hiplot import to_hiplot

shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
shell.display_formatter.active_types = ["text/plain", "text/html"]
shell.user_ns["experiment"] = to_hiplot(json.load(sys.stdin))
with capture_output() as captured:
    shell.run_cell("experiment.display(force_full_width=True)").raise_error()
(output,) = captured.outputs
print(captured.stdout + captured.stderr + output.data["text/html"])
"""


def visible_text(text):
    """Return text in the form that a browser shows."""
    return " ".join(text.replace("\u2060", "").split())


def assert_drawn(page):
    """Assert that lines are drawn, and that hostile texts are shown and not executed."""
    page.locator("table tbody tr").first.wait_for()
    page.wait_for_function(f"() => ({PAINTED})([...document.querySelectorAll('canvas')])")
    heads = [visible_text(head) for head in page.locator("table thead").first.locator("th").all_inner_texts()]
    for column, name in enumerate(NAMES):
        assert visible_text(f"{name}{column}") in heads
    cells = {visible_text(cell) for cell in page.locator("table tbody td").all_inner_texts()}
    assert {visible_text(name) for name in NAMES} <= cells
    ticks = {visible_text(tick) for tick in page.locator("svg .tick text").all_text_contents()}
    assert {visible_text(name) for name in NAMES} <= ticks
    assert page.evaluate("window.stolen") is None
    assert page.locator("img:not([src^='data:'])").count() == 0  # HiPlot's logo is a data URL


def test_hiplot_page_shows_hostile_rows_as_text(browser, tmp_path):
    to_hiplot(ROWS).to_html(tmp_path / "hiplot.html")
    with open_offline(browser, tmp_path / "hiplot.html") as page:
        assert_drawn(page)


def test_to_hiplot_display_shows_hostile_rows_as_text(browser, tmp_path):
    if importlib.util.find_spec("IPython") is None:
        pytest.skip("IPython is not installed")
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        input=json.dumps(ROWS),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    page_of = '<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><body>{}</body>'
    (tmp_path / "notebook.html").write_text(page_of.format(done.stdout), encoding="utf-8")
    with open_offline(browser, tmp_path / "notebook.html") as page:
        frame = page.locator("iframe")
        assert frame.bounding_box()["width"] > 1200
        assert_drawn(frame.element_handle().content_frame())
        assert page.evaluate("window.stolen") is None
        assert page.evaluate("document.body.innerText").strip() == ""


def test_to_hiplot_display_needs_a_notebook():
    with pytest.raises(UsageError, match=r"needs a notebook; to_html\('page.html'\)"):
        to_hiplot([{"a": 1}]).display()


def test_to_hiplot_to_html_returns_the_written_page(tmp_path):
    page = to_hiplot([{"a": 1}]).to_html(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page


def test_to_hiplot_escapes_values():
    import hiplot

    (point,) = to_hiplot([{"<b>&amp;": "</script>", "uid": 3, "n": 1.0}]).experiment.datapoints
    assert point.values == {
        "<\u2060b>&\u2060amp;": "<\u2060/script>",
        "uid\u2060": 3,  # HiPlot would use it as the row number
        "n": 1.0,
    }
    assert "</script>" not in json.dumps(hiplot.Experiment([point])._asdict())


def test_comparison_to_hiplot_has_one_datapoint_per_run():
    whole = comparison(("relu", "tanh"), seeds=2)
    results = whole.results.assign(lr=[0.01, 0.1] * 6, accuracy=math.nan)
    results.loc[3, ["score", "failure"]] = [math.nan, "diverged"]
    experiment = comparison(("relu", "tanh"), seeds=2, results=results).to_hiplot().experiment
    assert experiment.colorby == "activation"
    assert len(experiment.datapoints) == 12
    columns = {"activation", "fold", "seed", "lr", "score", "loss", "epochs", "seconds", "failure"}
    assert {tuple(sorted(point.values)) for point in experiment.datapoints} == {tuple(sorted(columns))}
    failed = experiment.datapoints[3].values
    assert (failed["activation"], failed["score"], failed["failure"]) == ("relu", None, "diverged")


def test_comparison_to_hiplot_works_if_every_run_failed():
    points = all_diverged().to_hiplot().experiment.datapoints
    assert {point.values["failure"] for point in points} == {"diverged"}

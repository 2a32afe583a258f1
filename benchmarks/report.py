"""Time to open the report and to select runs in a browser, compared with HiPlot on the same runs.

Run ``python -m benchmarks.report``; it needs chromium and Playwright and writes docs/benchmarks/report.md.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from actlab.comparison.comparison import Comparison
from actlab.integrations.hiplot import to_hiplot
from actlab.report.html.page import write_report
from actlab.report.tables import to_json_rows
from benchmarks.measuring import machine
from tests.report_cases import QUIET, comparison, diagnostics_frame

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "report.md"
ROUNDS = 7
# The second animation frame callback runs after the frame with the selection has been painted.
_BRUSH = """(key) => new Promise((done) => {
  const start = performance.now();
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})"""
_SHOWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def create_comparison(names: int, seeds: int, folds: int) -> Comparison:
    names_of_activations = tuple(f"own.py:Activation{number}" for number in range(names))
    return comparison(
        names_of_activations,
        seeds=seeds,
        folds=folds,
        epochs=25,
        diagnostics=diagnostics_frame(names_of_activations, layers=3),
    )


def measure_opening(page: Page, path: Path, ready: Callable[[Page], Any]) -> float:
    start = time.perf_counter()
    page.goto(path.as_uri())
    ready(page)
    page.evaluate(_SHOWN)
    return time.perf_counter() - start


def report_ready(page: Page) -> None:
    page.locator("#parallel path.run").first.wait_for(state="attached")
    page.locator("figure.chart .panel svg").first.wait_for(state="attached")


def hiplot_ready(page: Page) -> None:
    page.locator("canvas").first.wait_for()


def measure(page: Page, report: Path, hiplot: Path) -> dict[str, float]:
    seconds_by_name: dict[str, list[float]] = {"report": [], "hiplot": [], "brush": []}
    for _ in range(ROUNDS):
        seconds_by_name["hiplot"].append(measure_opening(page, hiplot, hiplot_ready))
        seconds_by_name["report"].append(measure_opening(page, report, report_ready))
        axis = page.get_by_role("slider", name="score")
        axis.scroll_into_view_if_needed()
        axis.focus()
        for key in ("ArrowUp", "ArrowUp", "ArrowDown", "ArrowUp"):
            seconds_by_name["brush"].append(page.evaluate(_BRUSH, key) / 1000)
    example = {name: statistics.median(times) for name, times in seconds_by_name.items()}
    return {**example, "worst": max(seconds_by_name["brush"])}


def main() -> None:
    lines = [
        "# The report in a browser",
        "",
        f"Written by `python -m benchmarks.report` on {machine('cpu')}; chromium without a graphics card, "
        f"pages from disk, medians of {ROUNDS} rounds. All runs have histories and diagnostics.",
        "",
        "*Open* is the time from navigation until the first charts and all lines of the parallel coordinates "
        "are drawn; for HiPlot, until its canvas exists. *Brush* is the time from a key press to the frame "
        "that shows the selected lines and rows.",
        "",
        "| runs | activations | size, MB | open, s | HiPlot, s | brush, ms | slowest brush, ms |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for names, seeds, folds in ((4, 2, 3), (5, 5, 4), (50, 5, 4)):
            example = create_comparison(names, seeds, folds)
            report, hiplot = Path(folder, "report.html"), Path(folder, "hiplot.html")
            write_report(example, report)
            to_hiplot(to_json_rows(example.results)).to_html(hiplot)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            seconds = measure(page, report, hiplot)
            page.close()
            cells = [str(names * seeds * folds), str(names), f"{report.stat().st_size / 1e6:.2f}"]
            cells += [f"{seconds['report']:.2f}", f"{seconds['hiplot']:.2f}"]
            cells += [f"{1000 * seconds[which]:.0f}" for which in ("brush", "worst")]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        browser.close()
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

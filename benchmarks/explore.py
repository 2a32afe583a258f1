"""Time to open the page of ``actlab explore``, to train in it, and to answer a slider.

Run ``python -m benchmarks.explore``; it needs chromium and Playwright and writes docs/benchmarks/explore.md.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

import actlab
from benchmarks.measuring import machine
from tests.report_cases import QUIET

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "explore.md"
ROUNDS = 7
NAMES = ("relu", "tanh", "gelu", "mish", "phish")
_PAINT = "performance.getEntriesByType('paint').find(one => one.name === 'first-contentful-paint')?.startTime"
_STEPS = """name => {
  const one = actlab.state.read(name), data = actlab.makeData("moons", 0);
  const network = new actlab.Network([2, 16, 16, 1], [one, one], 0);
  const training = new actlab.Training(data, [network], {seed: 0, rate: 0.05});
  for (let i = 0; i < 200; i++) training.advance();
  const start = performance.now();
  for (let i = 0; i < 500; i++) training.advance();
  return 500 / (performance.now() - start) * 1000;
}"""
# The second animation frame callback runs after the frame with the change has been painted.
_DRAG = """id => new Promise(done => {
  const slider = document.getElementById(id), start = performance.now();
  slider.value = Number(slider.value) + Number(slider.step);
  slider.dispatchEvent(new Event("input"));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})"""


def measure_opening(browser: Browser, file: Path) -> tuple[float, float]:
    """Return the seconds until the first paint, and until everything is drawn."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(file.as_uri())
    page.wait_for_selector("body.ready")
    ready = page.evaluate("performance.getEntriesByName('ready')[0]?.startTime ?? performance.now()")
    page.wait_for_timeout(300)
    paint = page.evaluate(_PAINT)
    page.close()
    return paint / 1000, ready / 1000


def measure_live_training(page: Page) -> float:
    """Return the steps per second of both networks together, with everything drawn."""
    page.get_by_role("button", name="Start").click()
    count = "() => Number(document.querySelector('#train-table td').textContent)"
    page.wait_for_timeout(1000)
    first, start = page.evaluate(count), time.perf_counter()
    page.wait_for_timeout(4000)
    rate = (page.evaluate(count) - first) / (time.perf_counter() - start)
    page.get_by_role("button", name="Pause").click()
    return float(rate)


def main() -> None:
    median = statistics.median
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        file = Path(folder, "explore.html")
        actlab.explore().to_html(file)
        opening = [measure_opening(browser, file) for _ in range(ROUNDS)]
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(file.as_uri())
        page.wait_for_selector("body.ready")
        rates = {name: median(page.evaluate(_STEPS, name) for _ in range(ROUNDS)) for name in NAMES}
        live = median(measure_live_training(page) for _ in range(3))
        page.get_by_label("Hidden layers").select_option("10")
        page.get_by_label("Initialization").select_option("matched")
        deep = median(measure_live_training(page) for _ in range(3))
        drags = {
            name: median(page.evaluate(_DRAG, id_) for _ in range(ROUNDS))
            for name, id_ in (("x of the values", "at"), ("weight scale, 30 layers", "sigma-w"))
        }
        browser.close()
        size = file.stat().st_size
    paint, ready = (median(times) for times in zip(*opening, strict=True))
    values = {
        "size of the file": f"{size / 1000:.0f} kB",
        "first contentful paint": f"{paint:.2f} s",
        "all charts ready to be painted": f"{ready:.2f} s",
        "steps per second of two networks (relu and gelu), with everything drawn": f"{live:.0f}",
        "the same with 10 hidden layers": f"{deep:.0f}",
        **{f"response to a slider: {name}": f"{milliseconds:.0f} ms" for name, milliseconds in drags.items()},
    }
    lines = [
        "# The explore page",
        "",
        f"Written by `python -m benchmarks.explore` on {machine('cpu')}; chromium without a graphics card, "
        f"the page from disk, medians of {ROUNDS} rounds.",
        "",
        "| measured | value |",
        "|---|--:|",
        *(f"| {name} | {value} |" for name, value in values.items()),
        "",
        "A step is one gradient descent step of a 2-16-16-1 network with a batch of 128 samples in double "
        "precision. The second table is for one network without drawing:",
        "",
        "| activation | steps per second |",
        "|---|--:|",
        *(f"| {name} | {rate:.0f} |" for name, rate in rates.items()),
    ]
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

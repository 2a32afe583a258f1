"""Photograph a report for the README: ``python docs/make_screenshot.py out/compare/report.html``.

Needs Debian's chromium and Playwright's Python package; writes docs/images/report.png and report-dark.png.
Without an argument it photographs the page of ``actlab explore`` for the guide: explore.png,
explore-train.png and explore-phone.png.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import actlab

IMAGES = Path(__file__).parent / "images"
STEPS = 2500  # of training before the picture


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(exist_ok=True)
    if len(sys.argv) == 1:
        photograph_exploration()
        return
    page_file = Path(sys.argv[1]).resolve()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme, name in (("light", "report.png"), ("dark", "report-dark.png")):
            page = browser.new_page(viewport={"width": 1240, "height": 1690}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            page.wait_for_selector("#parallel path.run", state="attached")
            page.screenshot(path=IMAGES / name)
            print(f"Written: {IMAGES / name}")
        browser.close()


def photograph_exploration() -> None:
    """Write the first section, the training on two spirals, and training on a phone."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        file = Path(folder) / "explore.html"
        actlab.explore("relu", "gelu", "x * tanh(a * x) with a=2").to_html(file)
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 940})
        page.goto(file.as_uri())
        page.wait_for_selector("body.ready")
        page.locator("#functions").evaluate("section => section.scrollIntoView({behavior: 'instant'})")
        page.screenshot(path=IMAGES / "explore.png")
        page.get_by_label("Data").select_option("spirals")
        page.get_by_label("Function", exact=True).select_option("1")
        page.get_by_role("button", name="Critical point").click()
        page.get_by_role("button", name="Start").click()
        while int(page.locator("#train-table td").first.inner_text()) < STEPS:
            page.wait_for_timeout(500)
        page.get_by_role("button", name="Pause").click()
        page.set_viewport_size({"width": 1200, "height": 1640})
        page.locator("#depth").evaluate("section => section.scrollIntoView({behavior: 'instant'})")
        page.wait_for_timeout(500)
        page.screenshot(path=IMAGES / "explore-train.png")
        phone = browser.new_page(viewport={"width": 390, "height": 844})
        phone.goto(file.as_uri())
        phone.wait_for_selector("body.ready")
        phone.get_by_label("Stop after N steps").fill("500")
        phone.get_by_label("Stop after N steps").press("Tab")
        phone.get_by_role("button", name="Start").click()
        phone.locator("#train-status", has_text="After 500 steps").wait_for()
        phone.locator("#train").evaluate("section => section.scrollIntoView({behavior: 'instant'})")
        phone.wait_for_timeout(500)
        phone.screenshot(path=IMAGES / "explore-phone.png")
        browser.close()


if __name__ == "__main__":
    main()

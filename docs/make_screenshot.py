"""Photograph a page for the README: ``python docs/make_screenshot.py out/compare/report.html``.

Needs Debian's chromium and Playwright's Python package; writes docs/images/report.png and report-dark.png.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write both pictures."""
    page_file = Path(sys.argv[1]).resolve()
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme, name in (("light", "report.png"), ("dark", "report-dark.png")):
            page = browser.new_page(viewport={"width": 1240, "height": 1690}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            page.wait_for_selector("#parallel path.run", state="attached")
            page.screenshot(path=IMAGES / name)
            print(f"Written: {IMAGES / name}")
        browser.close()


if __name__ == "__main__":
    main()

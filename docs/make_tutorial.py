"""Execute the tutorial: every ``docs/tutorial/NN_name.py`` becomes a notebook with its outputs.

Run ``python docs/make_tutorial.py [FOLDER]``. The lessons read two environment variables:

- ``ACTLAB_TUTORIAL``: ``digits`` (the default; takes a minute) or ``mnist``.
- ``ACTLAB_MNIST``: the folder with MNIST's IDX files.

Without FOLDER, the notebooks are written beside their sources. A screenshot replaces the page that a cell
tagged ``photograph`` shows, because the page takes a megabyte. This needs playwright and chromium. If only
the text of a lesson has changed, its outputs stay; remove its notebook to execute it again. With FOLDER, all
lessons are executed in one kernel, which forgets all names between two lessons, and written there without
screenshots.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode, validate
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

SOURCES = Path(__file__).parent / "tutorial"
# Readable when a page shows it at its width, and on a screen with small pixels.
_FIGURES = "--InlineBackend.rc={'figure.dpi': 144}"
_METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
}
_QUIET = "--IPKernelApp.log_level=ERROR"
_TIMEOUT = 1800  # seconds a cell


def read_lesson(source: Path) -> NotebookNode:
    """Return a lesson as a notebook without outputs."""
    notebook = jupytext.read(source)
    # An editor gives cells random ids, which would change in every run.
    for place, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{place}"
        cell.metadata.pop("lines_to_next_cell", None)
    notebook.metadata = _METADATA
    return notebook


def execute(sources: list[Path]) -> list[NotebookNode]:
    """Return lessons as notebooks, executed from top to bottom in one kernel, which starts in seconds."""
    notebooks = [read_lesson(source) for source in sources]
    cells = [cell for notebook in notebooks for cell in [*notebook.cells, new_code_cell("%reset -f")]]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [_FIGURES, _QUIET]
        client = NotebookClient(
            new_notebook(cells=cells, metadata=_METADATA),
            timeout=_TIMEOUT,
            record_timing=False,
            extra_arguments=arguments,
        )
        client.execute(cwd=folder)
    for notebook in notebooks:
        for cell in _code(notebook):
            cell.outputs = _join_streams(cell.outputs)
        validate(notebook)
    return notebooks


def load_outputs(source: Path) -> NotebookNode | None:
    """Return a lesson with its stored outputs, if they come from the same code."""
    path = source.with_suffix(".ipynb")
    if not path.exists():
        return None
    notebook, stored = read_lesson(source), jupytext.read(path)
    if [cell.source for cell in _code(notebook)] != [cell.source for cell in _code(stored)]:
        return None
    for cell, before in zip(_code(notebook), _code(stored), strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return notebook


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _join_streams(outputs: list[Any]) -> list[Any]:
    """Join consecutive prints: how a kernel splits them depends on timing."""
    joined: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def photograph(notebook: NotebookNode) -> None:
    """Replace the page that a tagged cell shows by a picture of it."""
    cells = [cell for cell in notebook.cells if "photograph" in cell.metadata.get("tags", [])]
    if not cells:
        return
    with _open_browser() as browser:
        for cell in cells:
            for output in cell.outputs:
                png = _take_picture(browser, output.data["text/html"])
                output.data, output.metadata = {"image/png": base64.b64encode(png).decode()}, {}


@contextmanager
def _open_browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("make_tutorial: error: pictures need chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def _take_picture(browser: Any, html: str) -> bytes:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_content(f"<!DOCTYPE html><body style='margin: 0'>{html}</body>")
    frame = page.locator("iframe").element_handle().content_frame()
    frame.locator("table tbody tr").first.wait_for()
    page.wait_for_timeout(1500)  # the lines come one after the other
    png: bytes = page.screenshot()
    page.close()
    return png


def shrink(notebook: NotebookNode) -> None:
    """Reduce every picture to 128 colours, which takes a third of the bytes and looks the same."""
    for output in (output for cell in _code(notebook) for output in cell.outputs):
        if "image/png" in output.get("data", {}):
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            png = io.BytesIO()
            picture.convert("RGB").quantize(128).save(png, "png", optimize=True)
            output.data["image/png"] = base64.b64encode(png.getvalue()).decode()


def main() -> None:
    """Write all lessons."""
    beside = len(sys.argv) == 1
    folder = SOURCES if beside else Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(SOURCES.glob("[0-9]*.py"))
    notebooks = map(load_outputs, sources) if beside else execute(sources)
    for source, notebook in zip(sources, notebooks, strict=True):
        if notebook is None:
            (notebook,) = execute([source])
            photograph(notebook)
            shrink(notebook)
        path = folder / f"{source.stem}.ipynb"
        jupytext.write(notebook, path)
        print(f"Written: {path.name}", flush=True)


if __name__ == "__main__":
    main()

"""The documentation site builds without warnings, has no broken link or missing name, and opens offline."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="sphinx is not installed")
pytest.importorskip("furo", reason="furo is not installed")

import actlab
from actlab.testing import assert_activation
from tests.browser import open_offline
from tests.docs_site import (
    ROOT,
    Site,
    build_site,
    find_broken_links,
    find_broken_markdown,
    find_headings,
    find_missing_parts,
    read_inventory,
)
from tests.processes import run_process
from tests.report_cases import browser  # noqa: F401

FUNCTIONS = actlab.functional.__all__
DATA = ("__version__", "catalogue")
FOLDER = Path(actlab.__file__).parent
NAMESPACES = {name for name in actlab.__all__ if inspect.ismodule(getattr(actlab, name))}
# What only other folders of actlab use.
INTERNAL = {
    *("actlab.spec", "actlab.execution.WorkerExecutor", "actlab.execution.WorkerPool"),
    *("actlab.tasks.list_tasks", "actlab.tasks.load_task"),
}
NAMES = {name: getattr(actlab, name) for name in actlab.__all__ if name not in (*DATA, *NAMESPACES)}
MODULES = {name: getattr(actlab.nn, name) for name in actlab.nn.__all__}
OPENED_PAGES = (
    "index.html",
    "guide/compare.html",
    "how-to/own-network.html",
    "functions/index.html",
    "functions/leaky_relu.html",
    "api/comparison.html",
    "changelog.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    return build_site(tmp_path_factory.mktemp("site"))


def test_docs_site_builds_without_warnings(site):
    assert (site.output, site.status) == ("", 0)


def test_docs_site_has_no_broken_links(site):
    assert find_broken_links(site.html) == []


def test_markdown_pages_have_no_broken_links(site):
    assert find_broken_markdown(site.source) == []


def test_broken_links_reports_missing_files_and_anchors(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a> <a href="c.html">y</a>')
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    assert find_broken_links(tmp_path) == ["a.html: b.html#there", "a.html: c.html"]
    (tmp_path / "d.md").write_text("# Is it `x`, really?\n\n```sh\n# no heading\n```\n")
    assert find_headings(tmp_path / "d.md") == {"is-it-x-really"}


def test_docs_site_lists_every_public_name(site):
    modules = ["functional", "nn", "testing"]
    public = {f"actlab.{name}" for name in [*NAMES, *DATA, *modules, "testing.assert_activation"]}
    public |= {f"actlab.functional.{name}" for name in FUNCTIONS} | {f"actlab.nn.{name}" for name in MODULES}
    assert public - read_inventory(site.html) == set()


def test_docs_site_lists_every_name_of_the_stub_files(site):
    inventory = read_inventory(site.html)
    undocumented = {
        f"{package}.{name}"
        for package in (f"actlab.{stub.parent.name}" for stub in FOLDER.glob("*/__init__.pyi"))
        for name in importlib.import_module(package).__all__
        if package not in INTERNAL and inventory.isdisjoint({f"actlab.{name}", f"{package}.{name}"})
    }
    assert undocumented - INTERNAL == set()


@pytest.mark.parametrize("thing", [*NAMES.values(), assert_activation], ids=[*NAMES, "assert_activation"])
def test_public_docstrings_have_all_sections(thing):
    assert find_missing_parts(thing) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_docstrings_have_all_sections(name):
    assert find_missing_parts(actlab.catalogue[name], ignored=("x", "inplace")) == []


@pytest.mark.parametrize("name", MODULES)
def test_module_docstrings_have_all_sections(name):
    assert find_missing_parts(MODULES[name], ignored=("inplace", "device", "dtype")) == []


def test_public_methods_have_docstrings():
    undocumented = [
        f"{name}.{method}"
        for name, thing in NAMES.items()
        if inspect.isclass(thing)
        for method, value in vars(thing).items()
        if not method.startswith("_") and (callable(value) or isinstance(value, property | classmethod))
        if not inspect.getdoc(getattr(thing, method))
    ]
    assert undocumented == []


def test_missing_parts_reports_missing_sections():
    def undocumented(x: int) -> int:
        return x

    def wordy(x: int) -> None:
        """Say
        two lines.
        """

    assert find_missing_parts(undocumented) == ["one line first", "Args", "Returns"]
    assert find_missing_parts(wordy) == ["one line first", "Args"]


def test_docs_site_has_a_page_for_every_function(site):
    page_names = {path.stem for path in (site.source / "docs" / "functions").glob("*.md")}
    assert page_names == {*FUNCTIONS, "index", "_functional", "_nn"}
    page = (site.source / "docs" / "functions" / "leaky_relu.md").read_text(encoding="utf-8")
    assert r"{cases}x & \text{if}\;x > 0 \\ \text{negative_slope} \, x & \text{otherwise}\end" in page
    assert "| formula | `where(x > 0, x, negative_slope * x)` |" in page
    assert "| kinks | f'(0) = 0.01 |" in page
    assert "| -3 | -0.03 | 0.01 | 0 |" in page
    assert "print(actlab.functional.leaky_relu(x))  # tensor([-0.0200, -0.0050,  0.5000,  2.0000])" in page


@pytest.mark.parametrize("helper", ["formulas", "mathml"])
def test_docs_helper_doctests_pass(helper):
    file = ROOT / "docs" / "_ext" / f"{helper}.py"
    command = [sys.executable, "-m", "doctest", "-v", file]
    process = run_process(command)
    assert (process.returncode, "Test passed." in process.stdout) == (0, True)


def test_docs_function_pages_quote_the_benchmark_tables(site):
    page = (site.source / "docs" / "functions" / "mish.md").read_text(encoding="utf-8")
    exact = (ROOT / "docs" / "benchmarks" / "accuracy.md").read_text(encoding="utf-8")
    (row,) = (line for line in exact.splitlines() if line.startswith("| mish | float32 |"))
    assert row.replace("| mish ", "", 1) in page
    speed = (ROOT / "docs" / "benchmarks" / "functions.md").read_text(encoding="utf-8")
    (cells,) = (line.strip("| ").split(" | ") for line in speed.splitlines() if line.startswith("| mish |"))
    shown = [cells[index] for index in (1, 10, 3, 4, 6, 7, 11)]
    assert f"| `mish` | {' | '.join(shown)} |" in page


@pytest.mark.parametrize("page", OPENED_PAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_docs_pages_open_offline(browser, site, page, width):  # noqa: F811
    with open_offline(browser, site.html / page, viewport={"width": width, "height": 800}) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("h1").count() == 1


def test_docs_lessons_open_offline(browser, site):  # noqa: F811
    for page in sorted((site.html / "tutorial").glob("*.html")):
        with open_offline(browser, page) as tab:
            assert tab.locator("h1").count() == 1


def test_docs_formulas_are_drawn_without_javascript(browser, site):  # noqa: F811
    with open_offline(browser, site.html / "functions" / "gelu.html", java_script_enabled=False) as tab:
        box = tab.locator("math").first.bounding_box()
        assert box["height"] > 20
        assert tab.locator("figure.plot path.line").count() == 6  # three curves and three legend entries


def test_docs_search_works_offline(browser, site):  # noqa: F811
    with open_offline(browser, site.html / "index.html") as tab:
        tab.goto((site.html / "search.html").as_uri() + "?q=leaky_relu")
        tab.locator("#search-results a", has_text="leaky_relu").first.wait_for()

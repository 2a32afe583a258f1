"""The documentation: it builds without a warning, leads nowhere wrong, misses no name, and opens offline."""

from __future__ import annotations

import inspect
import sys

import pytest

pytest.importorskip("sphinx", reason="sphinx is not installed")
pytest.importorskip("furo", reason="furo is not installed")

import actlab
from actlab.testing import assert_activation
from tests.browser import offline
from tests.processes import ran
from tests.reports import browser  # noqa: F401
from tests.sites import ROOT, Site, broken_links, broken_markdown, build, headings, inventory, missing_parts

FUNCTIONS = actlab.functional.__all__
DATA = ("__version__", "catalogue")
ROOMS = ("functional", "nn")
NAMES = {name: getattr(actlab, name) for name in actlab.__all__ if name not in (*DATA, *ROOMS)}
MODULES = {name: getattr(actlab.nn, name) for name in actlab.nn.__all__}
SEEN = (
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
    return build(tmp_path_factory.mktemp("site"))


def test_builds_without_a_warning(site):
    assert (site.said, site.status) == ("", 0)


def test_every_link_and_anchor_of_the_site_exists(site):
    assert broken_links(site.html) == []


def test_every_link_of_the_markdown_pages_exists(site):
    assert broken_markdown(site.source) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a> <a href="c.html">y</a>')
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    assert broken_links(tmp_path) == ["a.html: b.html#there", "a.html: c.html"]
    (tmp_path / "d.md").write_text("# Is it `x`, really?\n\n```sh\n# no heading\n```\n")
    assert headings(tmp_path / "d.md") == {"is-it-x-really"}


def test_every_public_name_is_on_a_page(site):
    public = {f"actlab.{name}" for name in [*actlab.__all__, "testing", "testing.assert_activation"]}
    public |= {f"actlab.functional.{name}" for name in FUNCTIONS} | {f"actlab.nn.{name}" for name in MODULES}
    assert public - inventory(site.html) == set()


@pytest.mark.parametrize("thing", [*NAMES.values(), assert_activation], ids=[*NAMES, "assert_activation"])
def test_public_docstrings_have_their_parts(thing):
    assert missing_parts(thing) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_of_functions_have_their_parts(name):
    assert missing_parts(actlab.catalogue[name], ignored=("x", "inplace")) == []


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_of_modules_have_their_parts(name):
    assert missing_parts(MODULES[name], ignored=("inplace", "device", "dtype")) == []


def test_methods_of_public_classes_say_what_they_do():
    silent = [
        f"{name}.{method}"
        for name, thing in NAMES.items()
        if inspect.isclass(thing)
        for method, value in vars(thing).items()
        if not method.startswith("_") and (callable(value) or isinstance(value, property | classmethod))
        if not inspect.getdoc(getattr(thing, method))
    ]
    assert silent == []


def test_a_missing_part_is_found():
    def silent(x: int) -> int:
        return x

    def wordy(x: int) -> None:
        """Say
        two lines.
        """

    assert missing_parts(silent) == ["one line first", "Args", "Returns"]
    assert missing_parts(wordy) == ["one line first", "Args"]


def test_every_function_has_a_page_read_off_its_definition(site):
    made = {path.stem for path in (site.source / "docs" / "functions").glob("*.md")}
    assert made == {*FUNCTIONS, "index", "_functional", "_nn"}
    page = (site.source / "docs" / "functions" / "leaky_relu.md").read_text(encoding="utf-8")
    assert r"{cases}x & \text{if}\;x > 0 \\ \text{negative_slope} \, x & \text{otherwise}\end" in page
    assert "| formula | `where(x > 0, x, negative_slope * x)` |" in page
    assert "| kinks | f'(0) = 0.01 |" in page
    assert "| -3 | -0.03 | 0.01 | 0 |" in page
    assert "print(actlab.functional.leaky_relu(x))  # tensor([-0.0200, -0.0050,  0.5000,  2.0000])" in page


@pytest.mark.parametrize("helper", ["formulas", "mathml"])
def test_examples_of_the_helpers_hold(helper):
    file = ROOT / "docs" / "_ext" / f"{helper}.py"
    command = [sys.executable, "-m", "doctest", "-v", file]
    done = ran(command)
    assert (done.returncode, "Test passed." in done.stdout) == (0, True)


def test_measured_figures_are_those_of_the_tables(site):
    page = (site.source / "docs" / "functions" / "mish.md").read_text(encoding="utf-8")
    exact = (ROOT / "docs" / "benchmarks" / "accuracy.md").read_text(encoding="utf-8")
    (row,) = (line for line in exact.splitlines() if line.startswith("| mish | float32 |"))
    assert row.replace("| mish ", "", 1) in page
    speed = (ROOT / "docs" / "benchmarks" / "functions.md").read_text(encoding="utf-8")
    (cells,) = (line.strip("| ").split(" | ") for line in speed.splitlines() if line.startswith("| mish |"))
    shown = [cells[place] for place in (1, 10, 3, 4, 6, 7, 11)]
    assert f"| `mish` | {' | '.join(shown)} |" in page


@pytest.mark.parametrize("page", SEEN)
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_open_offline(browser, site, page, width):  # noqa: F811
    with offline(browser, site.html / page, viewport={"width": width, "height": 800}) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.locator("h1").count() == 1


def test_lessons_open_offline(browser, site):  # noqa: F811
    for page in sorted((site.html / "tutorial").glob("*.html")):
        with offline(browser, page) as opened:
            assert opened.locator("h1").count() == 1


def test_formulas_are_drawn_without_a_script(browser, site):  # noqa: F811
    with offline(browser, site.html / "functions" / "gelu.html", java_script_enabled=False) as opened:
        box = opened.locator("math").first.bounding_box()
        assert box["height"] > 20
        assert opened.locator("figure.plot path.line").count() == 6  # three curves, three in the legend


def test_search_works_without_a_network(browser, site):  # noqa: F811
    with offline(browser, site.html / "index.html") as opened:
        opened.goto((site.html / "search.html").as_uri() + "?q=leaky_relu")
        opened.locator("#search-results a", has_text="leaky_relu").first.wait_for()

"""Helpers for the tests of the documentation: the built site, its links, and sections of docstrings."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import urllib.parse
import zlib
from dataclasses import dataclass, field, is_dataclass
from html.parser import HTMLParser
from pathlib import Path

from tests.processes import run_process

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_FENCE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'(?:(?<!`)\[[^\]]*\]\(|\bsrc(?:set)?=")([^)"\s]+)[)"]')


@dataclass(frozen=True)
class Site:
    """A built site.

    Attributes:
        source: Copy of the repository's pages with the generated pages.
        html: The site.
        output: Text that the build printed to both streams.
        status: The exit status of the build.
    """

    source: Path
    html: Path
    output: str
    status: int


def build_site(folder: Path) -> Site:
    """Build the site from a copy of the pages, like ``make docs``; the checkout stays unchanged."""
    source = folder / "source"
    shutil.copytree(ROOT / "docs", source / "docs", ignore=_generated_names)
    for page in (*PAGES, "LICENSE"):
        shutil.copy(ROOT / page, source)
    docs, html = source / "docs", folder / "html"
    generated = run_process([sys.executable, docs / "make_pages.py"], 1800)
    assert generated.returncode == 0, generated.stderr
    options = "-q -b html -W --keep-going -j 1".split()
    command = [sys.executable, "-m", "sphinx", *options, docs, html]
    process = run_process(command, 1800)
    return Site(source, html, process.stdout + process.stderr, process.returncode)


def _generated_names(folder: str, names: list[str]) -> list[str]:
    """Return the names in a folder that ``make docs`` generates."""
    return [name for name in names if name in ("_build", "functions", "__pycache__")]


@dataclass
class _Reader(HTMLParser):
    """Collect the anchors and link targets of a page."""

    anchors: set[str] = field(default_factory=set)
    targets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if value and (name == "src" or (name == "href" and tag in ("a", "link"))):
                self.targets.append(value)


def find_broken_links(html: Path) -> list[str]:
    """Return every link of a site to a missing file or anchor."""
    pages = {}
    for path in html.rglob("*.html"):
        pages[path] = _Reader()
        pages[path].feed(path.read_text(encoding="utf-8"))
    wrong = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            target_path = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            anchor = urllib.parse.unquote(parts.fragment)
            if not target_path.is_file() or (
                anchor and target_path in pages and anchor not in pages[target_path].anchors
            ):
                wrong.append(f"{path.relative_to(html)}: {target}")
    return wrong


def find_broken_markdown(root: Path) -> list[str]:
    """Return every relative link of Markdown pages to a missing file or heading."""
    wrong = []
    for path in [*(root / name for name in PAGES), *(root / "docs").rglob("*.md")]:
        for target in _LINK.findall(_FENCE.sub("", path.read_text(encoding="utf-8"))):
            parts = urllib.parse.urlsplit(target)
            if parts.scheme:
                continue
            target_path = path.parent / parts.path if parts.path else path
            if not target_path.exists() or (
                parts.fragment and parts.fragment not in find_headings(target_path)
            ):
                wrong.append(f"{path.relative_to(root)}: {target}")
    return wrong


def find_headings(path: Path) -> set[str]:
    """Return the anchors of a Markdown page's headings, in the format of GitHub and MyST."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def read_inventory(html: Path) -> set[str]:
    """Return the names in the site's inventory."""
    raw = (html / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ", 1)[0] for line in zlib.decompress(raw).decode().splitlines()}


def find_missing_parts(thing: object, ignored: tuple[str, ...] = ()) -> list[str]:
    """Return the required sections that a public docstring lacks.

    Args:
        thing: Function, class or other callable.
        ignored: Parameters that are documented once for all functions.
    """
    text = inspect.getdoc(thing) or ""
    first, _, rest = text.partition("\n")
    missing = [] if first.endswith(".") and not rest.partition("\n")[0].strip() else ["one line first"]
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return missing  # its argument is the message
    signature = inspect.signature(thing)  # type: ignore[arg-type]
    arguments = [name for name in signature.parameters if name not in ignored]
    if arguments and not ("Args:" in text or (is_dataclass(thing) and "Attributes:" in text)):
        missing.append("Args")
    returns = signature.return_annotation not in (None, "None", inspect.Signature.empty)
    if returns and not inspect.isclass(thing) and "Returns:" not in text and not ignored:
        missing.append("Returns")
    return missing

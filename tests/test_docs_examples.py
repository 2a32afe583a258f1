"""Commands and programs of the README and the documentation run in an empty folder, page by page.

``sh`` fences are commands. ``python`` fences run in one namespace; a fence whose first line is a comment with
a file name is written to that file. A line ``<!-- not run: reason -->`` before a fence excludes it.
"""

import linecache
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest

from actlab.cli import main
from actlab.cli.parser import create_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in ROOT.glob("docs/**/*.md") if not {"functions", "_build", "tutorial"} & set(p.parts)),
]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S
)
FILE = re.compile(r"# ([\w-]+\.py)\n")
PLAIN = re.compile(r"actlab( |$)")
SHELL = set("|;&$<>`~*\n")
LANGUAGES = {"sh", "python", "text", "toml"}


def find_fences(page):
    return [match.groupdict() for match in FENCE.finditer(page.read_text(encoding="utf-8"))]


def runnable_fences(page):
    """Return the fences of a page that run."""
    return [f for f in find_fences(page) if f["language"] in ("sh", "python") and not f["reason"]]


def command_lines(text):
    """Return the command lines of a fence; a backslash joins lines, and comments are skipped."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def run_command(line):
    if PLAIN.match(line) and not SHELL & set(re.sub(r"\"[^\"]*\"|'[^']*'", "", line)):
        words = shlex.split(line)[1:]
        status = main(words)
        # Status 1 means that the verb found a problem, which is correct for these verbs.
        assert status == 0 or (status == 1 and words[0] in ("check", "ledger")), line
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = {"env": {**os.environ, "PATH": path}, "timeout": 300, "capture_output": True, "text": True}
    process = subprocess.run(["bash", "-euo", "pipefail", "-c", line], **options)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize(
    "page", [*filter(runnable_fences, PAGES)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_docs_page_commands_and_programs_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "a_page", module := types.ModuleType("a_page"))
    for number, fence in enumerate(runnable_fences(page), start=1):
        if fence["language"] == "sh":
            for line in command_lines(fence["text"]):
                run_command(line)
        elif name := FILE.match(fence["text"]):
            Path(name[1]).write_text(fence["text"], encoding="utf-8")
        else:
            file, lines = f"<{page.name}: {number}>", fence["text"].splitlines(keepends=True)
            # swap reads the source of classes, as inspect finds it for the cells of a notebook.
            monkeypatch.setitem(linecache.cache, file, (len(fence["text"]), None, lines, file))
            exec(compile(fence["text"], file, "exec"), vars(module))  # noqa: S102, text of this repository
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_page_commands_that_are_not_run_can_be_parsed(page):
    for fence in find_fences(page):
        language = fence["language"]
        assert language in LANGUAGES or language.startswith("{"), fence["text"]
        for line in command_lines(fence["text"]) if fence["language"] == "sh" and fence["reason"] else []:
            if PLAIN.match(line):
                create_parser().parse_args(shlex.split(line)[1:])

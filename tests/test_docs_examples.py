"""Commands and programs of the README and the documentation run in an empty folder, page by page.

``sh`` fences are commands. ``python`` fences run in one namespace; a fence whose first line is a comment with
a file name is written to that file. A line ``<!-- not run: reason -->`` before a fence excludes it.

A ``text`` fence after a fence that runs shows its output; ``...`` stands for any text. A line
``<!-- varies: REGEX -->`` before it names the parts of the shown text that differ between runs.
"""

import doctest
import itertools
import linecache
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest

import actlab
from actlab import timing
from actlab.cli import main
from actlab.cli.parser import create_parser
from tests.processors import PAGES_SHOW, is_processor_of_pages

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in ROOT.glob("docs/**/*.md") if not {"functions", "_build", "tutorial"} & set(p.parts)),
]
NOTE = r"(?:<!-- (?:not run: (?P<reason>[^\n]+)|varies: (?P<varies>[^\n]+)) -->\n)?"
FENCE = re.compile(rf"^{NOTE}```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
FILE = re.compile(r"# ([\w-]+\.py)\n")
PLAIN = re.compile(r"actlab( |$)")
SHELL = set("|;&$<>`~*\n")
DOTTED = re.compile(r"\bactlab\.([A-Za-z_]\w*)(?![\w/-]|\.(?:yml|html|py))")
LANGUAGES = {"sh", "python", "text", "toml"}


def find_fences(page):
    return [match.groupdict() for match in FENCE.finditer(page.read_text(encoding="utf-8"))]


def runnable_fences(page):
    """Return the fences of a page that run, each with the ``text`` fence below it or None."""
    pairs = itertools.pairwise([*find_fences(page), {"language": ""}])
    return [
        {**fence, "output": after if after["language"] == "text" else None}
        for fence, after in pairs
        if fence["language"] in ("sh", "python") and not fence["reason"]
    ]


def command_lines(text):
    """Return the command lines of a fence; a backslash joins lines, and comments are skipped."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def run_command(line, shown):
    if PLAIN.match(line) and not SHELL & set(re.sub(r"\"[^\"]*\"|'[^']*'", "", line)):
        words = shlex.split(line)[1:]
        # Status 1 means that the verb found a problem, which is correct for these verbs.
        allowed = (0, 1) if words[0] in ("check", "ledger") else (0,)
        assert main(words) in ((2,) if shown.startswith("actlab: error: ") else allowed), line
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = {"env": {**os.environ, "PATH": path}, "timeout": 300, "capture_output": True, "text": True}
    process = subprocess.run(["bash", "-euo", "pipefail", "-c", line], **options)
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr


def run_program(code, namespace, shown):
    try:
        exec(code, namespace)  # noqa: S102, text of this repository
    except Exception as error:
        if not shown.startswith(type(error).__name__):
            raise
        print(f"{type(error).__name__}: {error}")


def compare_output(fence, captured):
    printed = re.sub(" +$", "", captured.out or captured.err, flags=re.M).strip("\n")
    shown, flags = fence["text"].strip("\n"), doctest.ELLIPSIS
    if fence["varies"]:
        shown, flags = re.sub(fence["varies"], "...", shown), flags | doctest.NORMALIZE_WHITESPACE
    is_equal = doctest.OutputChecker().check_output(shown, printed, flags)
    assert is_equal or not is_processor_of_pages(), f"{printed}\n\nshown:\n{shown}"
    return is_equal


@pytest.mark.parametrize(
    "page", [*filter(runnable_fences, PAGES)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_docs_page_commands_and_programs_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(timing._time, "__defaults__", (3, 0.001))  # few and short samples: times vary anyway
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "a_page", module := types.ModuleType("a_page"))
    differing = 0
    for number, fence in enumerate(runnable_fences(page), start=1):
        shown = fence["output"]["text"] if fence["output"] else ""
        if fence["language"] == "sh":
            for line in command_lines(fence["text"]):
                run_command(line, shown)
        elif name := FILE.match(fence["text"]):
            Path(name[1]).write_text(fence["text"], encoding="utf-8")
        else:
            file, lines = f"<{page.name}: {number}>", fence["text"].splitlines(keepends=True)
            # swap reads the source of classes, as inspect finds it for the cells of a notebook.
            monkeypatch.setitem(linecache.cache, file, (len(fence["text"]), None, lines, file))
            run_program(compile(fence["text"], file, "exec"), vars(module), shown)
        captured = capsys.readouterr()
        if shown:
            differing += not compare_output(fence["output"], captured)
    if differing:
        pytest.skip(f"{differing} outputs differ: {PAGES_SHOW}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_page_commands_that_are_not_run_can_be_parsed(page):
    for fence in find_fences(page):
        language = fence["language"]
        assert language in LANGUAGES or language.startswith("{"), fence["text"]
        for line in command_lines(fence["text"]) if fence["language"] == "sh" and fence["reason"] else []:
            if PLAIN.match(line):
                create_parser().parse_args(shlex.split(line)[1:])


def test_docs_name_attributes_that_actlab_has():
    lessons = ROOT.glob("docs/tutorial/*.py")
    used = {name for page in [*PAGES, *lessons] for name in DOTTED.findall(page.read_text(encoding="utf-8"))}
    assert {"compare", "models", "training"} < used
    assert used - {"activations"} <= {*actlab.__all__}  # a group of entry points, not an attribute


def find_words(parser):
    """Return the options and the commands of a parser, and those of its commands."""
    commands = [a.choices for a in parser._actions if isinstance(a.choices, dict)]
    return set(parser._option_string_actions).union(
        *commands, *(find_words(command) for choices in commands for command in choices.values())
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_page_options_and_commands_in_the_text_exist(page):
    words, parser = find_words(create_parser()), create_parser()
    for code in re.findall("`([^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*|(?<=^actlab )\w+", code)) <= words, code
        if re.match(r"actlab \w+ ", code):
            parser.parse_args(shlex.split(code)[1:])

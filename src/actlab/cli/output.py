"""What a command prints and writes: results on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

Report = dict[str, Any]

WIDTH = 80
SUCCESS, FAILURE = 0, 1
REPORT = "report.html"  # in the folder of a comparison or a training
_COLOUR = re.compile(r"\x1b\[\d*m")
_SILENT = 1.0  # seconds before progress is shown


def print_result(arguments: argparse.Namespace, found: Report, lines: list[str], files: list[Path]) -> None:
    """Print a result as text or as JSON, with the files that hold it."""
    paths = [str(path) for path in files]
    if arguments.json:
        print(json.dumps({**found, "files": paths}, allow_nan=False))
    elif not arguments.quiet:
        print("\n".join([*lines, "", *wrap_sentences([f"Written: {', '.join(paths)}"])]))


def wrap_sentences(sentences: list[str]) -> list[str]:
    """Return sentences as lines that fit a terminal."""
    return [
        textwrap.fill(sentence, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for sentence in sentences
    ]


def epoch_printer(arguments: argparse.Namespace) -> Callable[[str], None] | None:
    """Return what prints skorch's live table: to a person's standard output, else as progress."""
    if arguments.quiet:
        return None
    terminal = sys.stdout.isatty()
    live = (terminal or arguments.verbose) and not arguments.json
    start, held = time.monotonic(), list[str]()

    def show(line: str) -> None:
        held.append(line if live and terminal else _COLOUR.sub("", line))
        if live or time.monotonic() - start > _SILENT:
            print("\n".join(held), file=sys.stdout if live else sys.stderr, flush=True)
            held.clear()

    return show


def write_hiplot_page(rows: list[Report], out: Path) -> list[str]:
    """Write the page and return its name; without HiPlot say so, for everything else is there."""
    from actlab.integrations.hiplot import write_hiplot

    try:
        write_hiplot(rows, out / "hiplot.html")
    except ImportError as error:
        print(f"actlab: {error}", file=sys.stderr)
        return []
    return ["hiplot.html"]


def check_figures(arguments: argparse.Namespace) -> None:
    """Refuse figures that cannot be drawn, before anything is trained."""
    if arguments.figures:
        from actlab.report.plots.functions import check_matplotlib

        check_matplotlib()


def write_figures(arguments: argparse.Namespace, found: Comparison, out: Path) -> list[Path]:
    """Write figures if they are asked for, and return their files."""
    if not arguments.figures:
        return []
    from actlab.report.plots.comparison import write_figures

    return write_figures(found, out / "figures")


def write_report_page(comparison: Comparison, path: Path) -> list[Path]:
    """Write the report and return its file; without Jinja print how to install it."""
    from actlab.report.html.page import write_report

    try:
        write_report(comparison, path)
    except ImportError as error:
        print(f"actlab: {error}", file=sys.stderr)
        return []
    return [path]

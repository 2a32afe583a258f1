"""What commands print and write: results on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from actlab.errors import UsageError
from actlab.report.wrapping import wrap_sentences

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

SUCCESS, FAILURE = 0, 1
REPORT = "report.html"  # in the folder of a comparison or a run
_COLOUR = re.compile(r"\x1b\[\d*m")
_SILENT = 1.0  # seconds before progress is shown


def print_result(
    arguments: argparse.Namespace, result: dict[str, Any], lines: list[str], files: list[Path]
) -> None:
    """Print a result and the names of the files that were written.

    Args:
        arguments: The parsed arguments; ``--json`` and ``--quiet`` select the form.
        result: The result as plain values, for ``--json``.
        lines: The result as text.
        files: The files.
    """
    paths = [str(path) for path in files]
    if arguments.json:
        print_json(arguments, {**result, "files": paths})
    elif not arguments.quiet:
        print("\n".join([*lines, "", *wrap_sentences([f"Written: {', '.join(paths)}"])]))


def print_json(arguments: argparse.Namespace, result: Any) -> None:
    """Print a result as strict JSON in one line, on the output that :func:`reserve_output` yielded."""
    print(json.dumps(result, allow_nan=False), file=arguments.output)


@contextlib.contextmanager
def reserve_output() -> Iterator[TextIO]:
    """Yield standard output, and send everything else that is printed in the block to standard error.

    This includes output of the user's code, of libraries in other languages, and of worker processes, which
    inherit the file descriptor.
    """
    output, error = sys.stdout, sys.stderr
    try:
        is_file = (output.fileno(), error.fileno()) == (1, 2)
    except OSError:  # streams in memory
        is_file = False
    with contextlib.redirect_stdout(error):
        if not is_file:
            yield output
            return
        output.flush()
        with open(os.dup(1), "w", encoding="utf-8") as reserved:
            os.dup2(2, 1)
            try:
                yield reserved
            finally:
                os.dup2(reserved.fileno(), 1)


def make_epoch_printer(arguments: argparse.Namespace) -> Callable[[str], None] | None:
    """Return the function that prints the lines of skorch's table of epochs; None if ``--quiet``.

    The table goes to standard output if that is a terminal, and otherwise to standard error.
    """
    if arguments.quiet:
        return None
    terminal = sys.stdout.isatty()
    live = (terminal or arguments.verbose) and not arguments.json
    start, pending = time.monotonic(), list[str]()

    def print_epoch(line: str) -> None:
        pending.append(line if live and terminal else _COLOUR.sub("", line))
        if live or time.monotonic() - start > _SILENT:
            print("\n".join(pending), file=sys.stdout if live else sys.stderr, flush=True)
            pending.clear()

    return print_epoch


def check_parent_folder(path: Path) -> None:
    """Raise UsageError if the folder of a file does not exist."""
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {str(path)!r}: its folder does not exist")


def check_figures(arguments: argparse.Namespace) -> None:
    """Raise UsageError if ``--figures`` is given and matplotlib is missing."""
    if arguments.figures:
        from actlab.report.plots.functions import check_matplotlib

        check_matplotlib()


def write_pages(
    arguments: argparse.Namespace, comparison: Comparison, rows: list[dict[str, Any]], out: Path
) -> list[Path]:
    """Write the report, the HiPlot page if HiPlot is installed, and figures; return the files.

    Print a note if a library of the report is missing.

    Args:
        arguments: The parsed arguments; figures are written only with ``--figures``.
        comparison: The comparison; for a single run, a comparison that contains it.
        rows: Rows of the HiPlot page.
        out: The folder.
    """
    from actlab.integrations.hiplot import to_hiplot
    from actlab.report.html.page import write_report

    pages: dict[str, Callable[[Path], object]] = {REPORT: lambda path: write_report(comparison, path)}
    if importlib.util.find_spec("hiplot"):
        pages["hiplot.html"] = lambda path: to_hiplot(rows).to_html(path)
    files = []
    for name, write in pages.items():
        try:
            write(out / name)
            files.append(out / name)
        except ImportError as error:
            print(f"actlab: {error}", file=sys.stderr)
    return files + write_figures(arguments, comparison, out)


def write_figures(arguments: argparse.Namespace, comparison: Comparison, out: Path) -> list[Path]:
    """Write the figures if ``--figures`` is given, and return their files."""
    if not arguments.figures:
        return []
    from actlab.report.plots.figures import write_figures

    return write_figures(comparison, out / "figures")

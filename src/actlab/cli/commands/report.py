"""``actlab report``: the page of a comparison or a training run."""

from __future__ import annotations

import argparse
from pathlib import Path

from actlab.cli.options import FIGURES, JSON, Parser
from actlab.cli.output import (
    REPORT,
    SUCCESS,
    check_figures,
    check_parent_folder,
    print_json,
    write_figures,
)
from actlab.errors import UsageError
from actlab.report.wrapping import wrap_sentences

SUMMARY = "write the report page of a comparison or a run"
EXAMPLES = (
    "actlab report out/compare",
    "actlab report out/compare --figures",
    "actlab report out/train --out page.html",
)


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder of actlab compare or train")
    add = parser.add_argument_group("output").add_argument
    add("--out", type=Path, metavar="FILE", help="the page (default: report.html in DIR)")
    add("--figures", action="store_true", help=FIGURES)
    add("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """Write the report of a comparison or a run, finished or not."""
    from actlab.comparison.loading import load_folder
    from actlab.report.html.page import write_report
    from actlab.report.sentences import describe_report

    comparison = load_folder(arguments.folder)
    path = arguments.out or arguments.folder / REPORT
    check_parent_folder(path)
    check_figures(arguments)
    try:
        write_report(comparison, path)
    except ImportError as error:
        raise UsageError(str(error)) from error
    files = [path, *write_figures(arguments, comparison, arguments.folder)]
    insights = describe_report(comparison)
    if arguments.json:
        print_json(arguments, {"insights": insights, "files": [str(file) for file in files]})
    else:
        unfinished = insights[:1] if "unfinished" in comparison.about else []
        print("\n".join(wrap_sentences([*unfinished, f"Written: {', '.join(map(str, files))}"])))
    return SUCCESS

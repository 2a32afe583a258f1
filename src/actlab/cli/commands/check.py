"""``actlab check``: verification of activations."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from actlab.cli.options import ACTIVATION, DEVICE, JSON, Parser
from actlab.cli.output import FAILURE, SUCCESS, check_parent_folder, print_json
from actlab.report.wrapping import WIDTH

SUMMARY = "verify activations and show the inputs at which they fail"
EXAMPLES = (
    "actlab check mish",
    'actlab check "torch.nn:ELU(alpha=0.5)" --only value,kinks',
    "actlab check torch.nn:GELU my_layers.py:MyActivation --skip compile",
)


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=ACTIVATION)
    add = parser.add_argument_group("checks").add_argument
    add("--reference", metavar="REF", help="expected values: formula in x, name or package.module:name")
    add("--dtypes", metavar="D,...", help="dtypes to compare with float64: float32,float16,bfloat16")
    add("--only", action="append", metavar="CHECK,...", help="run only these checks, such as kinks,value")
    add("--skip", action="append", metavar="CHECK,...", help="omit these checks, such as compile,export")
    add("--device", **DEVICE)
    add = parser.add_argument_group("output").add_argument
    add("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")
    add("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """Verify activations."""
    from actlab.checking import check, format_junit
    from actlab.checking.checker import parse_dtypes, parse_rows
    from actlab.files import replace_file

    options = {
        "reference": arguments.reference,
        "dtypes": parse_dtypes(arguments.dtypes),
        "device": arguments.device,
        "only": parse_rows(arguments.only),
        "skip": parse_rows(arguments.skip),
    }
    if arguments.junit is not None:
        check_parent_folder(arguments.junit)
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else WIDTH
    colour = terminal and "NO_COLOR" not in os.environ
    reports = []
    for target in arguments.targets:
        reports.append(check(target, **options))
        if not arguments.json:
            blank_line = "\n" if len(reports) > 1 else ""
            print(blank_line + reports[-1].text(width=width, colour=colour), flush=True)
    if arguments.junit is not None:
        with replace_file(arguments.junit) as beside:
            beside.write_text(format_junit(reports), encoding="utf-8")
    if arguments.json:
        print_json(arguments, {"reports": [report.to_json() for report in reports]})
    return SUCCESS if all(report.passed for report in reports) else FAILURE

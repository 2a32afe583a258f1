"""``actlab list``: the activations in the catalogue."""

from __future__ import annotations

import argparse

from actlab.cli.options import JSON, Parser
from actlab.cli.output import SUCCESS, print_json
from actlab.report.wrapping import WIDTH

SUMMARY = "list the activations in the catalogue"
EXAMPLES = ("actlab list", "actlab list | grep tanh", "actlab list --json > catalogue.json")


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument_group("output").add_argument("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """List the catalogue."""
    from actlab.describe import format_module_call
    from actlab.functions import catalogue

    if arguments.json:
        table = {
            name: {"module": format_module_call(catalogue[name]), "formula": catalogue[name].formula()}
            for name in sorted(catalogue)
        }
        print_json(arguments, table)
        return SUCCESS
    for name in sorted(catalogue):
        line = f"{name:<15} {catalogue[name].formula()}"
        print(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}...")
    print(f"\n{len(catalogue)} activations; actlab show NAME describes one.")
    return SUCCESS

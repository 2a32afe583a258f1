"""``actlab explore``: an interactive page about activation functions."""

from __future__ import annotations

import argparse
from pathlib import Path

from actlab.cli.options import JSON, Parser
from actlab.cli.output import SUCCESS, check_parent_folder, print_json

SUMMARY = "write an interactive page: curves, deep networks, training"
EXAMPLES = (
    "actlab explore relu gelu tanh",
    'actlab explore "leaky_relu(negative_slope=0.2)" "x*tanh(2*x)"',
    "actlab explore mish --out lesson.html",
)


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    spec = 'up to six functions: a name such as "elu(alpha=0.5)", a formula in x, or file.py:name '
    spec += "(default: relu, gelu, tanh)"
    parser.add_argument("activations", metavar="NAME|FORMULA", nargs="*", help=spec)
    add = parser.add_argument_group("output").add_argument
    add("--out", type=Path, default=Path("explore.html"), metavar="FILE", help="the page")
    add("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from actlab.exploring import explore

    check_parent_folder(arguments.out)
    page = explore(*arguments.activations)
    page.to_html(arguments.out)
    if arguments.json:
        print_json(arguments, {"functions": page.specs, "file": str(arguments.out)})
    else:
        print(f"Written: {arguments.out}. Open it in a browser.")
    return SUCCESS

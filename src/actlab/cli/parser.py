"""The parser of the whole command line."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from actlab._version import __version__
from actlab.cli.options import Parser, add_command, print_help
from actlab.cli.output import SUCCESS

_SUMMARY = "verify activation functions, train with them and judge which is better"
_EXAMPLES = (
    "actlab check mish",
    'actlab time mish "formula:x*tanh(softplus(x))"',
    "actlab compare relu tanh gelu",
)
_COMMANDS = {
    "look up": ("list", "show", "explore", "tasks"),
    "verify and measure": ("check", "time"),
    "train and compare": ("compare", "judge", "train", "swap"),
    "results": ("report", "ledger"),
    "this machine": ("fleet", "completion"),
}
_FIRST_STEPS = """\
actlab: verify activation functions, train with them and judge which is better.

A first session:

  actlab compare relu tanh sigmoid --epochs 10 --seeds 2
      Train a small network with each activation on 1797 images of digits, and
      judge which is better (a few seconds). Writes out/compare/report.html.

  actlab check torch.nn:GELU
      Verify values, derivatives, dtypes, autograd modes, compile and export.
      For your own activation, write my_file.py:MyActivation.

  actlab show mish
      Show formula, properties and curve. `actlab list` prints all names.
      `actlab explore mish` writes an interactive page.

  actlab compare relu mish --data houses.csv --target price --regression
      Compare on your own data: a table, arrays, or a folder of images. To use
      your own network, add --module my_file.py:MyNet.

`actlab --help` lists all commands, and `actlab compare --help` the options of
one command. In Python: import actlab; help(actlab.compare)
"""


def create_parser() -> Parser:
    """Return the parser of the whole command line, with a parser for each command."""
    parser = Parser("actlab", summary=_SUMMARY, examples=_EXAMPLES)
    parser.set_defaults(run=_print_first_steps)
    parser.add_argument(
        "-V", "--version", action="version", version=f"actlab {__version__}", help="show the version and exit"
    )
    commands: Any = parser.add_subparsers(title="commands", metavar="COMMAND")
    for heading, names in _COMMANDS.items():
        for name in names:
            command = importlib.import_module(f"actlab.cli.commands.{name}")
            run = getattr(command, "run", print_help)
            command.add_options(add_command(commands, name, command.SUMMARY, command.EXAMPLES, run))
        commands._choices_actions[-len(names)].heading = heading
    commands.choices["completion"].set_defaults(whole_parser=parser)
    return parser


def _print_first_steps(arguments: argparse.Namespace) -> int:
    """Print what to do first."""
    print(_FIRST_STEPS, end="")
    return SUCCESS

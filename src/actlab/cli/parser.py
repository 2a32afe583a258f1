"""The parser of the whole command line."""

from __future__ import annotations

import importlib

from actlab._version import __version__
from actlab.cli.options import Parser, add_command, print_help

_SUMMARY = "verify activation functions, train with them and judge which is better"
_EXAMPLES = (
    "actlab check mish",
    'actlab time mish "formula:x*tanh(softplus(x))"',
    "actlab compare relu tanh gelu",
)
_COMMANDS = "list show explore check time swap train compare judge report fleet ledger completion".split()


def create_parser() -> Parser:
    """Return the parser of the whole command line, with a parser for each command."""
    parser = Parser("actlab", summary=_SUMMARY, examples=_EXAMPLES)
    parser.add_argument(
        "-V", "--version", action="version", version=f"actlab {__version__}", help="show the version and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND")
    for name in _COMMANDS:
        command = importlib.import_module(f"actlab.cli.commands.{name}")
        run = getattr(command, "run", print_help)
        command.add_options(add_command(commands, name, command.SUMMARY, command.EXAMPLES, run))
    commands.choices["completion"].set_defaults(whole_parser=parser)
    return parser

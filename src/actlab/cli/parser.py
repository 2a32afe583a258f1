"""The parser of the whole command line."""

from __future__ import annotations

import importlib

from actlab._version import __version__
from actlab.cli.options import Parser, add_command

_SUMMARY = "Verify activation functions, train with them, and find out whether one is really better."
_EXAMPLES = (
    "actlab check mish",
    'actlab time mish "formula:x*tanh(softplus(x))"',
    "actlab compare relu tanh gelu --folds 3",
)
_COMMANDS = ("list", "show", "check", "time", "train", "compare", "report", "fleet", "ledger", "completion")


def create_parser() -> Parser:
    """Return the parser of the whole command line, with a parser for each command."""
    parser = Parser("actlab", description=_SUMMARY, examples=_EXAMPLES)
    parser.add_argument("--version", action="version", version=f"actlab {__version__}")
    commands = parser.add_subparsers(metavar="VERB", required=True)
    for name in _COMMANDS:
        command = importlib.import_module(f"actlab.cli.commands.{name}")
        command.add_options(
            add_command(commands, name, command.SUMMARY, command.EXAMPLES, getattr(command, "run", None))
        )
    commands.choices["completion"].set_defaults(whole_parser=parser)
    return parser

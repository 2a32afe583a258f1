"""The option groups that several commands share, and the values that they stand for."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from actlab.errors import UsageError

if TYPE_CHECKING:
    from actlab.data.dataset import Dataset
    from actlab.training.train import TrainSettings

ACTIVATION = 'name, formula:TEXT, package.module:Name or file.py:name, such as "elu(alpha=0.5)"'
FIGURES = "also write figures as PNG and SVG into DIR/figures"

# What changes nothing but where nets are trained, where files go and what is printed.
_ELSEWHERE = {
    *("run", "parser", "activations", "data", "out", "figures", "json", "verbose", "quiet"),
    *("jobs", "scheduler", "mlflow"),
}


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, []) or action.default is False:  # such a default would say nothing
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser that raises :class:`UsageError` and whose help shows defaults and examples.

    Args:
        *arguments: Arguments of :class:`argparse.ArgumentParser`.
        examples: Command lines, shown at the end of the help.
        **options: Keyword arguments of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, *arguments: Any, examples: Sequence[str], **options: Any) -> None:
        epilog = "\n  ".join(["examples:", *examples])
        options |= {"epilog": epilog, "formatter_class": _HelpFormatter, "allow_abbrev": False}
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        """Raise the message as a :class:`UsageError`."""
        raise UsageError(message)


def add_command(
    commands: Any,
    name: str,
    summary: str,
    examples: Sequence[str],
    run: Callable[[argparse.Namespace], int] | None = None,
) -> Parser:
    """Add the parser of a command.

    Args:
        commands: What :meth:`argparse.ArgumentParser.add_subparsers` returned.
        name: The word that selects the command.
        summary: What the command does, in one line.
        examples: Command lines, shown at the end of its help.
        run: Runs the command and returns the exit status; None if it has commands of its own.

    Returns:
        The parser, without options yet.
    """
    parser: Parser = commands.add_parser(name, help=summary, description=summary, examples=examples)
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_data_options(parser: Parser, **source: Any) -> None:
    """Add the options that select the data; ``source`` configures ``--data`` itself."""
    add = parser.add_argument_group("data").add_argument
    add("--data", metavar="NAME|FILE", **source)
    add("--data-dir", metavar="DIR", help="folder with the dataset's files (default: download them)")
    add("--target", metavar="COLUMN", help="column of a .csv file to predict")
    add("--regression", action="store_true", help="predict a number instead of a class")
    axis = "axis of the channels in the images of an .npz file (default: the axis of length 1, 3 or 4)"
    add("--channels", choices=("first", "last"), help=axis)


def add_training_options(parser: Parser) -> Callable[..., argparse.Action]:
    """Add the options of a run; return what adds more options to their group."""
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=int, default=25, metavar="N", help="passes over the training samples")
    add("--batch-size", type=int, default=128, metavar="N", help="samples in a step")
    add("--lr", type=float, default=0.01, metavar="X", help="learning rate")
    add("--seed", type=int, default=0, metavar="N", help="seed of initial weights and batches")
    add_device(add)
    add("--precision", default="float32", metavar="P", help="float32, or bf16 for bfloat16 products")
    diagnostics = "record diagnostics after every epoch, or never (default: as often as costs little)"
    add("--diagnostics", action=argparse.BooleanOptionalAction, help=diagnostics)
    return add


def add_device(add: Callable[..., argparse.Action]) -> None:
    """Add ``--device`` to a parser or a group, given its ``add_argument``."""
    add("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")


def add_output_options(parser: Parser, out: str) -> Callable[..., argparse.Action]:
    """Add the options of output; return what adds more options to their group."""
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help="output folder")
    group.add_argument("--figures", action="store_true", help=FIGURES)
    add_json(group.add_argument)
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help="show progress from the start")
    loudness.add_argument("--quiet", action="store_true", help="print errors only")
    return group.add_argument


def add_json(add: Callable[..., argparse.Action]) -> None:
    """Add ``--json`` to a parser or a group, given its ``add_argument``."""
    add("--json", action="store_true", help="print one JSON object instead of text")


def train_settings(arguments: argparse.Namespace, **more: Any) -> TrainSettings:
    """Return the settings of a run that ``train`` and ``compare`` share."""
    from actlab.training.train import TrainSettings

    names = ("epochs", "batch_size", "lr", "seed", "device", "precision")
    return TrainSettings(**{name: getattr(arguments, name) for name in names}, **more)


def load_dataset(
    arguments: argparse.Namespace,
    source: str,
    *,
    only: Sequence[str] = ("data_dir", "target", "regression", "channels"),
) -> Dataset:
    """Load a dataset with the data options of ``train`` and ``compare``, or with some of them ``only``."""
    from actlab.data.dataset import load_data

    return load_data(source, **{name: getattr(arguments, name) for name in only})


def command_line(arguments: argparse.Namespace, verb: str, *words: str) -> str:
    """Return a command line; where it runs and what it prints is left out.

    Args:
        arguments: What the verb was told.
        verb: The verb.
        *words: What the verb is told in any case.
    """
    usual = vars(arguments.parser.parse_args(words))
    said = ["actlab", verb, *words]
    for name, value in vars(arguments).items():
        if name in _ELSEWHERE or value == usual[name]:
            continue
        option = f"--{'no-' * (value is False)}{name.replace('_', '-')}"
        values = value if isinstance(value, list) else [value]
        said += (
            [option] if isinstance(value, bool) else [word for one in values for word in (option, str(one))]
        )
    return shlex.join(said)

"""The option groups that several commands share, and the values that they stand for."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from actlab.cli.output import SUCCESS
from actlab.errors import UsageError, summarize_error

if TYPE_CHECKING:
    from torch import nn

    from actlab.data.dataset import Dataset
    from actlab.training.settings import TrainSettings

ACTIVATION = 'name such as "elu(alpha=0.5)", formula:TEXT, package.module:Name or file.py:name'
SOURCES = (
    "digits, iris, wine, breast_cancer, diabetes, mnist, fashion-mnist, kmnist, emnist-SPLIT, cifar10, "
    "cifar100, openml:NAME, openml:ID, a .npz, .csv, .tsv or .parquet file, or a folder of images with a "
    "subfolder per class"
)
MODEL = 'package.module:Name or file.py:Name, with arguments as in "my_nets.py:Net(width=64)"'
FIGURES = "also write figures as PNG and SVG into DIR/figures"
DEVICE: dict[str, Any] = {"default": "cpu", "metavar": "D", "help": "cpu, cuda or cuda:N"}
JSON: dict[str, Any] = {"action": "store_true", "help": "print one JSON object instead of text"}

# These options decide where runs are trained and what is printed and written, not which results come out.
NOT_REPRODUCED = {
    *("run", "parser", "activations", "data", "task", "out", "figures", "json", "output", "verbose"),
    *("quiet", "jobs", "scheduler", "mlflow"),
}


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        """Show the positional arguments only: every option has its own line below."""
        shown = [action for action in actions if not action.option_strings]
        if len(shown) < len(actions):
            shown.insert(0, argparse.Action([], "options", nargs="?", metavar="options"))
        super().add_usage(usage, shown, [], prefix)

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        heading = getattr(action, "heading", "")  # the first command of a group has one
        return f"\n  {heading}:\n{text}" if heading else text

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, []) or action.default is False:  # such a default would say nothing
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser that raises :class:`UsageError`, and whose help shows defaults and examples.

    Args:
        *arguments: Arguments of :class:`argparse.ArgumentParser`.
        summary: What the command does, in one line.
        examples: Command lines, shown at the end of the help.
        **options: Keyword arguments of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, *arguments: Any, summary: str, examples: Sequence[str], **options: Any) -> None:
        options |= {"description": f"{summary[0].upper()}{summary[1:]}.", "allow_abbrev": False}
        options |= {"epilog": "\n  ".join(["examples:", *examples]), "formatter_class": _HelpFormatter}
        super().__init__(*arguments, **options)
        self.set_defaults(run=print_help, parser=self)

    def error(self, message: str) -> NoReturn:
        """Raise the message as a :class:`UsageError`."""
        raise UsageError(message)


def print_help(arguments: argparse.Namespace) -> int:
    """Print the help of a command that has subcommands."""
    arguments.parser.print_help()
    return SUCCESS


def add_command(
    commands: Any,
    name: str,
    summary: str,
    examples: Sequence[str],
    run: Callable[[argparse.Namespace], int],
) -> Parser:
    """Add the parser of a command.

    Args:
        commands: The value of :meth:`argparse.ArgumentParser.add_subparsers`.
        name: The word that selects the command.
        summary: What the command does, in one line.
        examples: Command lines, shown at the end of its help.
        run: Runs the command and returns the exit status.

    Returns:
        The parser, without options yet.
    """
    parser: Parser = commands.add_parser(name, help=summary, summary=summary, examples=examples)
    parser.set_defaults(run=run)
    return parser


def add_data_options(parser: Parser, **source: Any) -> Callable[..., argparse.Action]:
    """Add the options that select the data; return the function that adds more options to their group.

    ``source`` configures ``--data`` itself.
    """
    add = parser.add_argument_group("data").add_argument
    add("--data", metavar="NAME|PATH", **source)
    folder = "folder with the files of an image set (default: download mnist, fashion-mnist or kmnist)"
    add("--data-dir", metavar="DIR", help=folder)
    target = "column of a table to predict; repeat it for several numbers, or for several labels (0 or 1)"
    add("--target", action="append", metavar="COLUMN", help=target)
    drop = "column of a table that is not a feature, such as an identifier; repeat it for several columns"
    add("--drop", action="append", default=[], metavar="COLUMN", help=drop)
    add("--regression", action="store_true", help="predict a number instead of a class")
    axis = "axis of the channels in an .npz file of images: first or last "
    axis += "(default: the axis of length 1, 3 or 4)"
    add("--channels", choices=("first", "last"), metavar="AXIS", help=axis)
    scale = "scale of the features: columns, common or none (default: columns for tables, common for images)"
    add("--scale", choices=("columns", "common", "none"), metavar="S", help=scale)
    return add


def add_training_options(parser: Parser) -> Callable[..., argparse.Action]:
    """Add the options of a run; return the function that adds more options to their group."""
    add = parser.add_argument_group("training").add_argument
    epochs = "passes over the training samples; auto: until validation stops improving, at most 200"
    add("--epochs", type=_parse_epochs, default=25, metavar="N|auto", help=epochs)
    add("--batch-size", type=int, default=128, metavar="N", help="samples per step")
    add("--lr", type=float, metavar="X", help="learning rate (default: 0.01 for sgd, 0.001 for others)")
    add("--optimizer", default="sgd", metavar="NAME", help="sgd, adam, adamw or rmsprop")
    add("--momentum", type=float, metavar="X", help="momentum (default: 0.95 for sgd, 0 for rmsprop)")
    add("--weight-decay", type=float, default=0.0, metavar="X", help="weight decay")
    add("--schedule", default="none", metavar="NAME", help="learning rate schedule: none, cosine or onecycle")
    stopping = "stop after N epochs without a better validation loss, and restore the best epoch"
    add("--early-stopping", type=int, metavar="N", help=stopping)
    add(
        "--hidden", default="128,64", metavar="N,N", help="widths of the hidden layers of the default network"
    )
    add("--dropout", type=float, default=0.0, metavar="P", help="dropout of the default network")
    add("--seed", type=int, default=0, metavar="N", help="seed of all random numbers")
    add("--device", **DEVICE)
    add("--precision", default="float32", metavar="P", help="float32, or bf16 for matrix products")
    init = "initial weights: torch, or matched (scaled for the activation)"
    add("--init", choices=("torch", "matched"), default="torch", metavar="I", help=init)
    diagnostics = "record dead units, saturation and gradients after every epoch, or never "
    diagnostics += "(default: after some epochs)"
    add("--diagnostics", action=argparse.BooleanOptionalAction, help=diagnostics)
    return add


def add_output_options(parser: Parser, out: str) -> Callable[..., argparse.Action]:
    """Add the options of the output; return the function that adds more options to their group."""
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help="output folder")
    group.add_argument("--figures", action="store_true", help=FIGURES)
    group.add_argument("--json", **JSON)
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help="show progress from the start")
    loudness.add_argument("--quiet", action="store_true", help="print errors only")
    return group.add_argument


def make_train_settings(arguments: argparse.Namespace) -> TrainSettings:
    """Return the settings of a run that ``train`` and ``compare`` share."""
    from actlab.training.settings import TrainSettings

    names = "epochs batch_size lr optimizer momentum weight_decay schedule early_stopping dropout seed device"
    values = {name: getattr(arguments, name) for name in [*names.split(), "precision", "init"]}
    widths = str(arguments.hidden).split(",")
    if not all(width.strip().isdecimal() for width in widths):
        raise UsageError(f"--hidden must be widths such as 128,64, got {arguments.hidden!r}")
    return TrainSettings(hidden=tuple(int(width) for width in widths), **values)


def _parse_epochs(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer or auto, got {text!r}") from None


def load_dataset(
    arguments: argparse.Namespace,
    source: str,
    more: Sequence[str] = (),
    *,
    only: Sequence[str] = ("data_dir", "target", "drop", "regression", "channels", "scale"),
) -> Dataset:
    """Load a dataset with the data options in ``only`` and ``more``.

    By default, ``only`` names the options that ``train`` and ``compare`` share, and ``more`` adds options of
    ``compare``.
    """
    from actlab.data.load import load_data

    options = {name: getattr(arguments, name) for name in (*only, *more)}
    if len(target := options.get("target") or []) == 1:
        options["target"] = target[0]
    return load_data(source, **options)


def load_model(text: str) -> nn.Module:
    """Import and build a model, such as ``"torchvision.models:resnet18"`` or ``"nets.py:Net(width=64)"``."""
    from torch import nn

    from actlab.spec import import_spec

    model, args, kwargs = import_spec("model", text)
    try:
        model = model if isinstance(model, nn.Module) else model(*args, **kwargs)
    except Exception as error:  # raised by the user's code
        raise UsageError(f"model {text!r} cannot be built: {summarize_error(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model {text!r} is a {type(model).__name__}, not an nn.Module")
    return model


def format_command(arguments: argparse.Namespace, command: str, *words: str) -> str:
    """Return the command line that reproduces a result.

    Args:
        arguments: The parsed arguments.
        command: The name of the command.
        *words: Arguments that are always shown.

    Returns:
        The command line. Options at their default, and those that do not affect results, are omitted.
    """
    defaults = vars(arguments.parser.parse_args(words))
    line = ["actlab", command, *words]
    for name, value in vars(arguments).items():
        if name in NOT_REPRODUCED or value == defaults[name]:
            continue
        option = f"--{'no-' * (value is False)}{name.replace('_', '-')}"
        if isinstance(value, bool):
            line.append(option)
        else:
            line += [
                word for one in (value if isinstance(value, list) else [value]) for word in (option, str(one))
            ]
    return shlex.join(line)

"""``actlab completion``: a script for shell completion of commands, options and activations."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from actlab.cli.options import Parser
from actlab.cli.output import SUCCESS

SUMMARY = "print a shell completion script"
EXAMPLES = (
    "actlab completion bash > ~/.local/share/bash-completion/completions/actlab",
    "source <(actlab completion bash)  # this shell only",
    "actlab completion zsh > _actlab  # in a folder of $fpath",
)
SHELLS = ("bash", "zsh")

# The kind of words that the shell completes for an argument. The metavar of others tells files from folders.
_KINDS = dict.fromkeys(("name", "targets", "activations", "activation", "reference"), "names")
_KINDS |= {name: name for name in ("data", "precision", "device", "dtype", "optimizer", "schedule")}


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from actlab.data.load import NAMES
    from actlab.functions import catalogue
    from actlab.training.settings import OPTIMIZERS, PRECISIONS, SCHEDULES

    kinds = {
        "names": (sorted(catalogue), ["*.py"]),
        "data": (NAMES, ["*.npz", "*.csv"]),
        "precision": (PRECISIONS, []),
        "optimizer": (tuple(OPTIMIZERS), []),
        "schedule": (SCHEDULES, []),
        "device": (("cpu", "cuda"), []),
        "dtype": (("float32", "float64", "float16", "bfloat16"), []),
    }
    for action in _iterate_actions(arguments.whole_parser):
        if action.dest in _KINDS:
            completer: Any = dict.fromkeys(SHELLS, f"_actlab_{_KINDS[action.dest]}")
        elif action.metavar == "DIR":
            completer = shtab.DIRECTORY
        elif action.type is Path or action.dest in ("module", "model", "test"):
            completer = shtab.FILE
        else:
            continue
        action.complete = completer  # type: ignore[attr-defined]
    preamble = {
        shell: "".join(_make_shell_function(shell, kind, *completions) for kind, completions in kinds.items())
        for shell in SHELLS
    }
    # shtab accepts a preamble for each shell, but its annotations do not.
    print(shtab.complete(arguments.whole_parser, shell=arguments.shell, preamble=preamble))  # type: ignore[arg-type]
    return SUCCESS


def _make_shell_function(shell: str, kind: str, words: Sequence[str], files: Sequence[str]) -> str:
    """Return a shell function that completes some words, and files that match some patterns."""
    if shell == "bash":
        steps = [f'compgen -W "{" ".join(words)}" -- "$1"']
        steps += [f'compgen -f -X "!{pattern}" -- "$1"' for pattern in files]
    else:
        steps = [f"compadd {' '.join(words)}", *(f'_files -g "{pattern}"' for pattern in files)]
    return f"_actlab_{kind}() {{ {'; '.join(steps)}; }}\n"


def _iterate_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the actions of a parser and of the commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _iterate_actions(command)

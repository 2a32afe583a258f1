"""``actlab completion``: a script with which a shell completes commands, options and activations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actlab.cli.options import Parser
from actlab.cli.output import SUCCESS

SUMMARY = "print a script that lets a shell complete actlab"
EXAMPLES = (
    "actlab completion bash > ~/.local/share/bash-completion/completions/actlab",
    "source <(actlab completion bash)  # this shell only",
    "actlab completion zsh > _actlab  # in a folder of $fpath",
)

SHELLS = ("bash", "zsh")

# Where the name of an activation stands; elsewhere a word of a few, a file or a folder is asked for.
_NAMES = {"name", "targets", "activations", "activation", "reference"}
_WORDS = {"data", "precision", "device", "dtype"}
_FILES = {"junit", "module"}
_FOLDERS = {"data_dir", "folder"}


def _completing(shell: str, kind: str, words: Sequence[str], files: Sequence[str]) -> str:
    """Return a shell's function that completes words, and files of some kinds."""
    if shell == "bash":
        of = [f'compgen -W "{" ".join(words)}" -- "$1"', *(f'compgen -f -X "!{f}" -- "$1"' for f in files)]
    else:
        of = [f"compadd {' '.join(words)}", *(f'_files -g "{f}"' for f in files)]
    return f"_actlab_{kind}() {{ {'; '.join(of)}; }}\n"


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from actlab.data.dataset import NAMES
    from actlab.functions import catalogue
    from actlab.training.train import PRECISIONS

    kinds = {
        "names": (sorted(catalogue), ["*.py"]),
        "data": (NAMES, ["*.npz", "*.csv"]),
        "precision": (PRECISIONS, []),
        "device": (("cpu", "cuda"), []),
        "dtype": (("float32", "float64", "float16", "bfloat16"), []),
    }
    for parser in _parsers(arguments.whole_parser):
        for action in parser._actions:
            wanted = _wanted(action)
            if wanted:
                action.complete = wanted  # type: ignore[attr-defined]
    preamble = {
        shell: "".join(_completing(shell, kind, words, files) for kind, (words, files) in kinds.items())
        for shell in SHELLS
    }
    # shtab takes one for each shell, and says so in its documentation alone
    print(shtab.complete(arguments.whole_parser, shell=arguments.shell, preamble=preamble))  # type: ignore[arg-type]
    return SUCCESS


def _wanted(action: argparse.Action) -> Any:
    import shtab

    if action.dest in (*_NAMES, *_WORDS):
        return dict.fromkeys(SHELLS, f"_actlab_{'names' if action.dest in _NAMES else action.dest}")
    if action.dest in _FOLDERS or (action.dest == "out" and action.metavar == "DIR"):
        return shtab.DIRECTORY
    return shtab.FILE if action.dest in _FILES or action.type is Path else None


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a parser and those of its verbs, to the last."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                found += _parsers(one)
    return found

"""What a shell completes, as a script for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from actlab.cli.saying import DONE

SHELLS = ("bash", "zsh")

# Where the name of an activation stands; elsewhere a file or a folder is asked for.
_NAMES = {"name", "targets", "activations", "activation", "reference"}
_FILES = {"data", "junit", "module"}
_FOLDERS = {"data_dir", "folder"}
_SCRIPT = {
    "bash": '_actlab_names() {{ compgen -W "{names}" -- "$1"; compgen -f -X "!*.py" -- "$1"; }}\n',
    "zsh": '_actlab_names() {{ compadd {names}; _files -g "*.py"; }}\n',
}


def completion(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from actlab.functions import catalogue

    for parser in _parsers(arguments.top):
        for action in parser._actions:
            wanted = _wanted(action)
            if wanted:
                action.complete = wanted  # type: ignore[attr-defined]
    preamble = {shell: text.format(names=" ".join(sorted(catalogue))) for shell, text in _SCRIPT.items()}
    # shtab takes one for each shell, and says so in its documentation alone
    print(shtab.complete(arguments.top, shell=arguments.shell, preamble=preamble))  # type: ignore[arg-type]
    return DONE


def _wanted(action: argparse.Action) -> Any:
    import shtab

    if action.dest in _NAMES:
        return dict.fromkeys(SHELLS, "_actlab_names")
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

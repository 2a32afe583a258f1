"""The command line that gives the same once more."""

from __future__ import annotations

import argparse
import shlex

# What changes nothing but where nets are trained, where files go and what is printed.
_ELSEWHERE = {
    *("run", "parser", "activations", "data", "out", "figures", "json", "verbose", "quiet"),
    *("jobs", "scheduler", "mlflow"),
}


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

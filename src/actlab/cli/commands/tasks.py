"""``actlab tasks``: the built-in tasks."""

from __future__ import annotations

import argparse

from actlab.cli.options import JSON, Parser
from actlab.cli.output import SUCCESS, print_json

SUMMARY = "list the built-in tasks for compare --task"
EXAMPLES = ("actlab tasks", "actlab tasks | grep digits", "actlab tasks --json > tasks.json")


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument_group("output").add_argument("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """List the tasks."""
    from actlab.tasks import list_tasks

    tasks = list_tasks()
    if arguments.json:
        print_json(
            arguments,
            {task.name: {"description": task.description, "seconds": task.seconds} for task in tasks},
        )
        return SUCCESS
    for task in tasks:
        print(f"{task.name:<18} {task.description}")
    print(f"\n{len(tasks)} tasks; actlab compare NAME NAME --task TASK compares activations on one.")
    return SUCCESS

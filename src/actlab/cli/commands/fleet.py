"""``actlab fleet``: how this machine trains many networks."""

from __future__ import annotations

import argparse
import dataclasses

from actlab.cli.options import DEVICE, JSON, Parser
from actlab.cli.output import SUCCESS, print_json

SUMMARY = "show how many models this machine trains at once"
EXAMPLES = ("actlab fleet", "ACTLAB_WEIGHTS_PER_FLEET=1000000 actlab fleet", "actlab fleet --json")
_EXAMPLE_DATA = {"digits": (64, 10), "MNIST": (784, 10)}  # features and classes


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument_group("execution").add_argument("--device", **DEVICE)
    parser.add_argument_group("output").add_argument("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """Show processes, threads and group sizes, and the variables that override them."""
    import torch

    from actlab.errors import raise_problems
    from actlab.execution.processes import count_processes
    from actlab.fleet.settings import get_variable_name, processor_name, read_settings
    from actlab.models.networks import NeuralNet
    from actlab.training.settings import find_device_problem

    raise_problems([find_device_problem(arguments.device)])
    settings = read_settings(arguments.device)
    values = {
        "processor": processor_name(),
        "processes": count_processes(None),
        **dataclasses.asdict(settings),
    }
    runs = {}
    for name, (features, classes) in _EXAMPLE_DATA.items():
        with torch.device("meta"):
            weights = sum(p.numel() for p in NeuralNet(128, "relu", features, classes).parameters())
        runs[name] = settings.runs_per_fleet(weights, 1000)
    if arguments.json:
        print_json(arguments, {**values, "runs_per_fleet": runs})
        return SUCCESS
    changes = {
        name: f"set with {get_variable_name(name)}"
        for name in ("threads", "weights_per_fleet", "layer_by_layer")
    }
    changes["processes"] = "set with --jobs N, or n_jobs=N in Python"
    for name, value in values.items():
        print(f"{name:<20}{value!s:<12}{changes.get(name, '')}".rstrip())
    for name, number in runs.items():
        together = f"{number} networks" if number > 1 else "1 network"
        print(f"{name:<20}{together} (actlab.NeuralNet) in one fleet")
    return SUCCESS

"""``actlab fleet``: how this machine trains fastest."""

from __future__ import annotations

import argparse
import dataclasses
import json

from actlab.cli.options import Parser, add_command, add_device, add_json
from actlab.cli.output import SUCCESS
from actlab.errors import UsageError

SUMMARY = "show or set how this machine trains fastest"
EXAMPLES = (
    "actlab fleet calibrate",
    "actlab fleet calibrate --again",
    "actlab fleet calibrate --set layer_by_layer=false",
)


def add_options(parser: Parser) -> None:
    """Add the commands below ``actlab fleet``."""
    commands = parser.add_subparsers(metavar="WHAT", required=True)
    parser = add_command(
        commands, "calibrate", "show the calibration; measure it on first use", EXAMPLES, run
    )
    add = parser.add_argument_group("calibration").add_argument
    add("--again", action="store_true", help="measure again, and discard values set by hand")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="set a value: layer_by_layer=false")
    add_device(add)
    add_json(parser.add_argument_group("output").add_argument)


def run(arguments: argparse.Namespace) -> int:
    """Show how this machine trains fastest."""
    from actlab.errors import raise_problems
    from actlab.fleet.calibration import Calibration, calibration, changed, keep, measure, place
    from actlab.training.train import device_problem

    device = arguments.device
    raise_problems([device_problem(device)])
    settings = {}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set is {text!r}, not NAME=VALUE, such as layer_by_layer=false")
        settings[name] = value
    changed(Calibration("", ""), settings)  # a wrong setting is told before anything is measured
    found = measure(device) if arguments.again else calibration(device)
    if settings or arguments.again:
        found = changed(found, settings)
        keep(found, device)
    about = {**dataclasses.asdict(found), "file": str(place(device))}
    if arguments.json:
        print(json.dumps(about))
        return SUCCESS
    rates, errors = about.pop("rates"), about.pop("errors")
    for name, value in about.items():
        print(f"{name:<20}{value}")
    print("\nMeasured:")
    for name, rate in rates.items():
        unit = "GFLOP/s" if name in errors else "steps/s"
        error = f", relative error {errors[name]:g}" if name in errors else ""
        print(f"  {name:<26}{rate:>9.1f} {unit}{error}")
    return SUCCESS

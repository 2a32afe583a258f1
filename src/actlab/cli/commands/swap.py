"""``actlab swap``: the activations of a model, and what replaces them."""

from __future__ import annotations

import argparse

from actlab.cli.options import ACTIVATION, JSON, MODEL, Parser, load_model
from actlab.cli.output import SUCCESS, print_json
from actlab.errors import UsageError

SUMMARY = "list the activations of a model and show what a swap replaces"
EXAMPLES = (
    "actlab swap --list torchvision.models:resnet18",
    'actlab swap torchvision.models:vgg11 mish --except "classifier.*"',
    "actlab swap my_nets.py:Net mish --replace relu",
)


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("activation", nargs="?", metavar="ACTIVATION", help=f"replacement: {ACTIVATION}")
    add = parser.add_argument_group("places").add_argument
    add("--list", action="store_true", help="only list the activations")
    add("--replace", metavar="NAME", help="activation to replace, such as relu (default: all but gates)")
    only = "replace only activations at a path such as layer1 or layer1.*; repeat it for several paths"
    add("--only", action="append", metavar="PATH", help=only)
    add(
        "--except",
        dest="except_",
        action="append",
        metavar="PATH",
        help="do not replace activations at a path",
    )
    parser.add_argument_group("output").add_argument("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """List the activations of a model, and what replaces them."""
    from actlab.models import find_activations

    activation = arguments.activation
    if (activation is None) != arguments.list:
        raise UsageError("pass an activation to swap in, or --list" + " without one" * arguments.list)
    if arguments.list and arguments.replace:
        raise UsageError("--replace needs an activation to swap in; --list replaces none")
    replacements = {arguments.replace: activation} if arguments.replace else activation
    places = find_activations(
        load_model(arguments.model), replacements, only=arguments.only, except_=arguments.except_
    )
    replaced = sum(bool(place.replacement) for place in places)
    if arguments.json:
        print_json(arguments, {"model": arguments.model, "places": places.to_json()})
        return SUCCESS
    noun = "place" if len(places) == 1 else "places"
    summary = f"{len(places)} {noun}" + f", {replaced} replaced" * (not arguments.list)
    print(f"{places}\n\n{summary}" if places else "no activations")
    return SUCCESS

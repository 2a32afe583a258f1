"""``actlab show``: one activation in words, numbers and a picture."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from actlab.cli.options import JSON, Parser
from actlab.cli.output import SUCCESS, print_json
from actlab.errors import UsageError, summarize_error
from actlab.report.wrapping import WIDTH

SUMMARY = "show the formula, properties and curve of an activation"
EXAMPLES = (
    "actlab show mish",
    'actlab show "leaky_relu(negative_slope=0.2)" --out out/pictures',
    'actlab show "formula:x*tanh(softplus(x))"',
)


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    spec = 'name such as "elu(alpha=0.5)", formula:TEXT or file.py:name'
    parser.add_argument("name", metavar="NAME", help=spec)
    add = parser.add_argument_group("output").add_argument
    add("--out", type=Path, metavar="DIR", help="also write a picture, DIR/NAME.png")
    add("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """Show one activation."""
    from actlab.describe import draw_terminal_plot, get_summary, list_properties, make_value_table
    from actlab.files import create_output_folder
    from actlab.models.gaussian_moments import list_moments
    from actlab.spec import resolve_definition

    activation = resolve_definition(arguments.name)
    try:
        facts = list_properties(activation) + list_moments(activation)
        values = [] if activation.facts.gated else make_value_table(activation)
        plot = "" if activation.facts.gated else draw_terminal_plot(activation)
    except Exception as error:  # a user's definition, or its arguments, may raise anything
        problem = summarize_error(error)
        raise UsageError(f"activation {arguments.name!r} cannot be evaluated: {problem}") from error
    picture = None
    if arguments.out is not None:
        from actlab.report.plots.functions import check_drawable, write_figure

        picture = arguments.out / f"{activation.name}.png"
        check_drawable(activation)
        create_output_folder(arguments.out)
        write_figure(activation, picture)
    if arguments.json:
        about = {"name": activation.name, **dict(facts), "values": values}
        print_json(arguments, {**about, "picture": picture and str(picture)})
        return SUCCESS
    print(textwrap.fill(f"{activation.name}: {get_summary(activation)}", WIDTH) + "\n")
    for label, text in facts:
        print(textwrap.fill(text, WIDTH, initial_indent=f"{label:<15}", subsequent_indent=" " * 15))
    if values:
        print()
        for x, *columns in [("x", "f", "f'", "f''"), *values]:
            print(f"{x:>10}" + "".join(f"{cell:>16}" for cell in columns))
        print(f"\n{plot}")
    if picture:
        print(f"\nWritten: {picture}")
    return SUCCESS

"""``actlab train``: one network on one dataset."""

from __future__ import annotations

import argparse
import sys

from actlab.cli.options import (
    SOURCES,
    Parser,
    add_data_options,
    add_output_options,
    add_training_options,
    format_command,
    load_dataset,
    make_train_settings,
)
from actlab.cli.output import (
    FAILURE,
    SUCCESS,
    check_figures,
    make_epoch_printer,
    print_result,
    write_pages,
)
from actlab.report.wrapping import wrap_sentences

SUMMARY = "train a network with one activation"
EXAMPLES = (
    "actlab train --activation tanh",
    'actlab train --data mnist --data-dir ~/data --activation "elu(alpha=0.5)"',
    "actlab train --data houses.csv --target price --regression",
)


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    add = parser.add_argument_group("model").add_argument
    add("--activation", default="relu", metavar="SPEC", help="activation of the hidden layers")
    add_data_options(parser, default="digits", help=SOURCES)
    add_training_options(parser)
    add_output_options(parser, "out/train")


def run(arguments: argparse.Namespace) -> int:
    """Train one network."""
    from actlab.comparison.loading import make_training_comparison, write_training
    from actlab.files import create_output_folder
    from actlab.fleet.diagnostics import describe_diagnostic_epochs
    from actlab.report.insights import history_insights
    from actlab.report.sentences import describe_data
    from actlab.report.tables import to_json_rows
    from actlab.spec import resolve
    from actlab.training.train import history_frame, plan_training, run_training

    settings = make_train_settings(arguments)
    dataset = load_dataset(arguments, arguments.data)
    activation = resolve(arguments.activation)
    plan = plan_training(dataset, activation, settings, diagnostics=arguments.diagnostics)
    check_figures(arguments)
    out = create_output_folder(arguments.out)
    training = run_training(plan, sink=make_epoch_printer(arguments))
    command = format_command(
        arguments, "train", "--activation", arguments.activation, "--data", arguments.data
    )
    diagnostics = describe_diagnostic_epochs(arguments.diagnostics, training.diagnostic_epochs)
    about = {"command": command, "diagnostics": diagnostics}
    comparison = make_training_comparison(training, dataset, activation, settings, **about)
    history = history_frame(training.net)
    rows = to_json_rows(history)
    insights = [*history_insights(history), *describe_data(comparison.about)]
    files = [*write_training(comparison, out), *write_pages(arguments, comparison, rows, out)]
    about = {"data": dataset.name, "fingerprint": dataset.fingerprint, "activation": arguments.activation}
    result = {**about, "history": rows, "insights": insights}
    print_result(arguments, result, wrap_sentences(insights), files)
    failure = training.result.failure
    if failure and arguments.quiet:  # otherwise the sentences state it
        print(f"actlab: {arguments.activation} has no result: {failure}", file=sys.stderr)
    return FAILURE if failure else SUCCESS

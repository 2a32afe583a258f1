"""Each verb: it calls the library and says what came out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from actlab.cli.repeating import command_line
from actlab.cli.saying import (
    DONE,
    NO,
    REPORT,
    WIDTH,
    check_figures,
    figures,
    hiplot_page,
    report_page,
    say,
    table_sink,
    wrapped,
)
from actlab.errors import UsageError

# Everything heavy is imported by the verb that needs it, so that --help answers at once.
if TYPE_CHECKING:
    from actlab.data.dataset import Dataset
    from actlab.training.train import TrainSettings

Verb = Callable[[argparse.Namespace], int]


def listing(arguments: argparse.Namespace) -> int:
    """List the catalogue."""
    from actlab.describe import module_call
    from actlab.functions import catalogue

    rows = {name: catalogue[name] for name in sorted(catalogue)}
    if arguments.json:
        found = {n: {"module": module_call(a), "formula": a.formula()} for n, a in rows.items()}
        print(json.dumps(found))
        return DONE
    for name, activation in rows.items():
        line = f"{name:<15} {activation.formula()}"
        print(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}...")
    print(f"\n{len(rows)} activations; actlab show NAME tells all about one.")
    return DONE


def show(arguments: argparse.Namespace) -> int:
    """Show one activation."""
    from actlab.describe import properties, summary, table, terminal_plot
    from actlab.files import output_folder
    from actlab.spec import definition

    activation = definition(arguments.name)
    known = properties(activation)
    values = [] if activation.facts.gated else table(activation)
    picture = None
    if arguments.out is not None:
        from actlab.report.plots.functions import check_drawable, write_figure

        picture = arguments.out / f"{activation.name}.png"
        check_drawable(activation)
        output_folder(arguments.out)
        write_figure(activation, picture)
    if arguments.json:
        about = {"name": activation.name, **dict(known), "values": values}
        print(json.dumps({**about, "picture": picture and str(picture)}))
        return DONE
    print(textwrap.fill(f"{activation.name}: {summary(activation)}", WIDTH) + "\n")
    for label, text in known:
        print(textwrap.fill(text, WIDTH, initial_indent=f"{label:<15}", subsequent_indent=" " * 15))
    if values:
        print()
        for x, *columns in [("x", "f", "f'", "f''"), *values]:
            print(f"{x:>10}" + "".join(f"{cell:>16}" for cell in columns))
        print(f"\n{terminal_plot(activation)}")
    if picture:
        print(f"\nWritten: {picture}")
    return DONE


def check(arguments: argparse.Namespace) -> int:
    """Prove activations."""
    import shutil

    from actlab.checking import check, junit
    from actlab.checking.run import dtypes_named, rows_named
    from actlab.files import writing

    how = {
        "reference": arguments.reference,
        "dtypes": dtypes_named(arguments.dtypes),
        "device": arguments.device,
        "only": rows_named(arguments.only),
        "skip": rows_named(arguments.skip),
    }
    if arguments.junit is not None and not arguments.junit.absolute().parent.is_dir():
        raise UsageError(f"cannot write {str(arguments.junit)!r}: there is no such folder")
    reports = []
    for target in arguments.targets:
        reports.append(check(target, **how))
        if not arguments.json:
            colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
            print("\n" * (len(reports) > 1) + reports[-1].text(width=width, colour=colour), flush=True)
    if arguments.junit is not None:
        with writing(arguments.junit) as beside:
            beside.write_text(junit(reports), encoding="utf-8")
    if arguments.json:
        print(json.dumps({"reports": [report.to_json() for report in reports]}))
    return DONE if all(report.passed for report in reports) else NO


def timed(arguments: argparse.Namespace) -> int:
    """Measure activations."""
    import torch

    from actlab.errors import raise_problems
    from actlab.timing import measure
    from actlab.training.train import device_problem

    raise_problems([device_problem(arguments.device)])
    try:
        shape = [int(size) for size in arguments.shape.split(",")]
    except ValueError:
        raise UsageError(f"--shape is {arguments.shape!r}, not sizes such as 1000,1000") from None
    dtype = getattr(torch, arguments.dtype, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"--dtype is {arguments.dtype!r}, not float32, float64, float16 or bfloat16")
    found = measure(
        arguments.targets, shape=shape, dtype=dtype, device=arguments.device, fuse=arguments.fused
    )
    if arguments.json:
        print(json.dumps(found.to_json()))
        return DONE
    about = found.about
    said = f"{' x '.join(map(str, shape))} elements, {about['dtype']}, {about['device']}"
    print(f"{said}, {about['threads']} thread{'s' * (about['threads'] > 1)}\n\n{found}")
    return DONE


def train(arguments: argparse.Namespace) -> int:
    """Train one net."""
    from actlab.comparison.loading import of_training, write_training
    from actlab.files import output_folder
    from actlab.fleet.diagnostics import looks_said
    from actlab.report.insights import history_insights
    from actlab.report.tables import plain_rows
    from actlab.training.train import check_training, history_frame, trained

    settings = settings_of(arguments, num_units=arguments.num_units)
    dataset = dataset_of(arguments, arguments.data)
    check_training(dataset, arguments.activation, settings)
    check_figures(arguments)
    out = output_folder(arguments.out)
    sink, diagnostics = table_sink(arguments), arguments.diagnostics
    done = trained(dataset, arguments.activation, settings, sink=sink, diagnostics=diagnostics)
    command = command_line(arguments, "train", "--activation", arguments.activation, "--data", arguments.data)
    about = {"command": command, "diagnostics": looks_said(diagnostics, done.looks)}
    page = of_training(done, dataset, arguments.activation, settings, **about)
    history = history_frame(done.net)
    rows, insights = plain_rows(history), history_insights(history)
    files = [*write_training(page, out), *report_page(page, out / REPORT)]
    files += [out / file for file in hiplot_page(rows, out)]
    files += figures(arguments, page, out)
    found = {"activation": arguments.activation, "history": rows, "insights": insights}
    say(arguments, dataset, found, wrapped(insights), files)
    if not (failure := done.result.failure):
        return DONE
    if arguments.quiet:  # else it is among the sentences
        print(f"actlab: {arguments.activation} has no result: {failure}", file=sys.stderr)
    return NO


def calibrate(arguments: argparse.Namespace) -> int:
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
            raise UsageError(f"--set is {text!r}, not NAME=VALUE, such as by_hand=false")
        settings[name] = value
    changed(Calibration("", ""), settings)  # a wrong setting is told before anything is measured
    found = measure(device) if arguments.again else calibration(device)
    if settings or arguments.again:
        found = changed(found, settings)
        keep(found, device)
    about = {**dataclasses.asdict(found), "file": str(place(device))}
    if arguments.json:
        print(json.dumps(about))
        return DONE
    rates, errors = about.pop("rates"), about.pop("errors")
    for name, value in about.items():
        print(f"{name:<20}{value}")
    print("\nMeasured:")
    for name, rate in rates.items():
        unit = "GFLOP/s" if name in errors else "steps/s"
        error = f", relative error {errors[name]:g}" if name in errors else ""
        print(f"  {name:<26}{rate:>9.1f} {unit}{error}")
    return DONE


def settings_of(arguments: argparse.Namespace, **more: Any) -> TrainSettings:
    """Return how nets are trained, as ``train`` and ``compare`` are told it."""
    from actlab.training.train import TrainSettings

    names = ("epochs", "batch_size", "lr", "seed", "device", "precision")
    return TrainSettings(**{name: getattr(arguments, name) for name in names}, **more)


def dataset_of(
    arguments: argparse.Namespace,
    source: str,
    *,
    only: Sequence[str] = ("data_dir", "target", "regression", "channels"),
) -> Dataset:
    """Load a dataset as ``train`` and ``compare`` are told it, with those options ``only``."""
    from actlab.data.dataset import load_data

    return load_data(source, **{name: getattr(arguments, name) for name in only})

"""The verbs on the command line: it reads arguments, calls the library and says what came out."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from actlab._errors import UsageError
from actlab._version import __version__

# Everything heavy is imported by the verb that needs it, so that --help answers at once.
if TYPE_CHECKING:
    from actlab.data import Dataset
    from actlab.training import TrainSettings

Verb = Callable[[argparse.Namespace], int]
Report = dict[str, Any]

_DONE, _NO, _WRONG_USAGE, _INTERRUPTED, _BROKEN_PIPE = 0, 1, 2, 130, 141
_COLOUR = re.compile(r"\x1b\[\d*m")
_WIDTH = 80
_SILENT = 1.0  # seconds before progress is shown
_LOG_EVERY = 10.0  # seconds between its lines where they cannot be rewritten

_ABOUT = "Prove an activation function, train with it, and find out whether another is really better."
_EXAMPLES = """examples:
  actlab train --activation tanh
  actlab train --data mnist --data-dir ~/data --activation "leaky_relu(negative_slope=0.2)"
  actlab compare relu tanh leaky_relu --folds 3 --epochs 25 --seed 0
  actlab show leaky_relu --out out/pictures
  actlab check mish torch.nn:GELU my_layers.py:MyActivation --skip compile
  actlab compare relu tanh --data measurements.csv --target species --jobs 2
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process when left out.

    Returns:
        The exit status: 0 done, 1 a check failed, 2 wrong usage or bad input, 130 interrupted, 141 nobody
        reads the output.
    """
    try:
        status = _run(argv)
        sys.stdout.flush()
    except UsageError as error:
        return _complain("error: " + " ".join(str(error).split()), _WRONG_USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit:  # argparse printed the help or the version
        return _DONE
    sys.path.insert(0, os.getcwd())  # where a person's own modules are
    run: Verb = arguments.run
    return run(arguments)


def _complain(text: str, status: int) -> int:
    print(f"actlab: {text}", file=sys.stderr)
    return status


# -- arguments ------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:  # an option that does nothing when left out
            return action.help
        return super()._get_help_string(action)


def _parser() -> _Parser:
    parser = _Parser(
        "actlab", description=_ABOUT, epilog=_EXAMPLES, formatter_class=_Help, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"actlab {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for add in (_add_list, _add_show, _add_check, _add_train, _add_compare):
        add(verbs)
    return parser


def _verb(verbs: Any, name: str, about: str, run: Verb) -> _Parser:
    parser: _Parser = verbs.add_parser(
        name, help=about, description=about, epilog=_EXAMPLES, formatter_class=_Help, allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def _add_list(verbs: Any) -> None:
    parser = _verb(verbs, "list", "list every activation of the catalogue", _list)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _add_show(verbs: Any) -> None:
    parser = _verb(verbs, "show", "show what is known about one activation", _show)
    add = parser.add_argument
    add("name", metavar="NAME", help="a name that actlab list gives")
    add("--out", type=Path, metavar="DIR", help="also write a picture, NAME.png, into this folder")
    add("--json", action="store_true", help="print one JSON object instead of text")


def _add_check(verbs: Any) -> None:
    parser = _verb(verbs, "check", "prove an activation, and name the input that breaks it", _check)
    add = parser.add_argument
    spec = 'a name, package.module:Name or file.py:name; with literal arguments: "elu(alpha=0.5)"'
    add("targets", nargs="+", metavar="TARGET", help=spec)
    add("--reference", metavar="REF", help="what values must be: a formula in x, a name, package.module:name")
    add("--dtypes", metavar="D,...", help="dtypes to compare with float64: float32,float16,bfloat16")
    add("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    add("--only", action="append", metavar="ROW,...", help="run these rows alone, such as kinks,value")
    add("--skip", action="append", metavar="ROW,...", help="do not run these rows, such as compile,export")
    add("--junit", type=Path, metavar="FILE", help="also write the rows as JUnit XML")
    add("--json", action="store_true", help="print one JSON object instead of text")


def _add_train(verbs: Any) -> None:
    parser = _verb(verbs, "train", "train the notebook's net and say how it went", _train)
    parser.add_argument(
        "--activation", default="relu", metavar="SPEC", help="activation of the hidden layers"
    )
    parser.add_argument(
        "--num-units", type=int, default=128, metavar="N", help="width of the first hidden layer"
    )
    _add_common(parser, out="out/train")


def _add_compare(verbs: Any) -> None:
    parser = _verb(verbs, "compare", "cross-validate the notebook's net with each activation", _compare)
    add = parser.add_argument
    add("activations", nargs="+", metavar="NAME", help="an activation, such as relu")
    add("--folds", type=int, default=3, metavar="N", help="parts the rows are split into")
    add("--jobs", type=int, default=1, metavar="N", help="processes that train")
    _add_common(parser, out="out/compare")


def _add_common(parser: _Parser, *, out: str) -> None:
    add = parser.add_argument
    add("--data", default="digits", metavar="NAME|FILE", help="a dataset's name, or an .npz or .csv file")
    add("--data-dir", metavar="DIR", help="where the dataset's files are; downloaded when left out")
    add("--target", metavar="COLUMN", help="the label column of a .csv file")
    add("--epochs", type=int, default=25, metavar="N", help="passes over the training rows")
    add("--batch-size", type=int, default=128, metavar="N", help="rows in a step")
    add("--lr", type=float, default=0.01, metavar="X", help="learning rate")
    add("--seed", type=int, default=0, metavar="N", help="where the initial weights come from")
    add("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    add("--out", type=Path, default=Path(out), metavar="DIR", help="folder for the files that are written")
    add("--json", action="store_true", help="print one JSON object instead of text")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help="show what happens meanwhile, always")
    loudness.add_argument("--quiet", action="store_true", help="print nothing but errors")


# -- the verbs ------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    from actlab.describe import module_call
    from actlab.functions import catalogue

    rows = {name: catalogue[name] for name in sorted(catalogue)}
    if arguments.json:
        found = {n: {"module": module_call(a), "formula": a.formula()} for n, a in rows.items()}
        print(json.dumps(found))
        return _DONE
    for name, activation in rows.items():
        line = f"{name:<15} {activation.formula()}"
        print(line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}...")
    print(f"\n{len(rows)} activations; actlab show NAME tells all about one.")
    return _DONE


def _show(arguments: argparse.Namespace) -> int:
    from actlab._files import output_folder
    from actlab._spec import entry
    from actlab.describe import properties, summary, table, terminal_plot

    activation = entry(arguments.name)
    known = properties(activation)
    values = [] if activation.facts.gated else table(activation)
    picture = None
    if arguments.out is not None:
        from actlab.report.figures import check_drawable, write_figure

        picture = arguments.out / f"{activation.name}.png"
        check_drawable(activation)
        output_folder(arguments.out)
        write_figure(activation, picture)
    if arguments.json:
        about = {"name": activation.name, **dict(known), "values": values}
        print(json.dumps({**about, "picture": picture and str(picture)}))
        return _DONE
    print(textwrap.fill(f"{activation.name}: {summary(activation)}", _WIDTH) + "\n")
    for label, text in known:
        print(textwrap.fill(text, _WIDTH, initial_indent=f"{label:<15}", subsequent_indent=" " * 15))
    if values:
        print()
        for x, *columns in [("x", "f", "f'", "f''"), *values]:
            print(f"{x:>10}" + "".join(f"{cell:>16}" for cell in columns))
        print(f"\n{terminal_plot(activation)}")
    if picture:
        print(f"\nWritten: {picture}")
    return _DONE


def _check(arguments: argparse.Namespace) -> int:
    import shutil

    from actlab._files import writing
    from actlab.checking import check, junit
    from actlab.checking.run import dtypes_named, rows_named

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
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
            print("\n" * (len(reports) > 1) + reports[-1].text(width=width, colour=colour), flush=True)
    if arguments.junit is not None:
        with writing(arguments.junit) as beside:
            beside.write_text(junit(reports), encoding="utf-8")
    if arguments.json:
        print(json.dumps({"reports": [report.to_json() for report in reports]}))
    return _DONE if all(report.passed for report in reports) else _NO


def _train(arguments: argparse.Namespace) -> int:
    from actlab._files import output_folder
    from actlab.report.insights import history_insights
    from actlab.report.tables import plain_rows, write_csv, write_json
    from actlab.training import check_training, history_frame, train

    settings = _settings(arguments, num_units=arguments.num_units)
    dataset = _dataset(arguments)
    check_training(dataset, arguments.activation, settings)
    out = output_folder(arguments.out)
    history = history_frame(train(dataset, arguments.activation, settings, sink=_table_sink(arguments)))
    rows, insights = plain_rows(history), history_insights(history)
    write_csv(history, out / "history.csv")
    write_json(rows, out / "history.json")
    files = ["history.csv", "history.json", *_hiplot_page(rows, out)]
    found = {"activation": arguments.activation, "history": rows, "insights": insights}
    return _say(arguments, dataset, found, insights, [out / file for file in files])


def _compare(arguments: argparse.Namespace) -> int:
    from actlab._files import output_folder
    from actlab.comparison import check_comparison, compare
    from actlab.report.insights import comparison_insights
    from actlab.report.tables import plain_rows, text_table, write_csv

    settings = _settings(arguments)
    dataset = _dataset(arguments)
    names, how = arguments.activations, {"folds": arguments.folds, "jobs": arguments.jobs}
    check_comparison(names, dataset, settings, **how)
    out = output_folder(arguments.out)
    with _progress(arguments) as progress:
        comparison = compare(
            arguments.activations, dataset, progress=progress, **how, **dataclasses.asdict(settings)
        )
    write_csv(comparison.results, out / "cv_results.csv")
    scores = comparison.results.filter(regex="^param_|_score$")
    files = ["cv_results.csv", *_hiplot_page(plain_rows(scores), out)]
    insights = comparison_insights(comparison.ranking)
    found = {"ranking": plain_rows(comparison.ranking), "insights": insights}
    lines = [text_table(comparison.ranking), "", *insights]
    return _say(arguments, dataset, found, lines, [out / file for file in files])


def _settings(arguments: argparse.Namespace, **more: Any) -> TrainSettings:
    from actlab.training import TrainSettings

    names = ("epochs", "batch_size", "lr", "seed", "device")
    return TrainSettings(**{name: getattr(arguments, name) for name in names}, **more)


def _dataset(arguments: argparse.Namespace) -> Dataset:
    from actlab.data import load_data

    return load_data(arguments.data, arguments.data_dir, target=arguments.target)


# -- what is said ---------------------------------------------------------------------------------


def _say(
    arguments: argparse.Namespace, dataset: Dataset, found: Report, lines: list[str], files: list[Path]
) -> int:
    paths = [str(path) for path in files]
    if arguments.json:
        about = {"data": dataset.name, "fingerprint": dataset.fingerprint}
        print(json.dumps({**about, **found, "files": paths}, allow_nan=False))
    elif not arguments.quiet:
        print("\n".join([*lines, "", f"Written: {', '.join(paths)}"]))
    return _DONE


def _table_sink(arguments: argparse.Namespace) -> Callable[[str], None] | None:
    """Return what prints skorch's live table: to a person's standard output, else as progress."""
    if arguments.quiet:
        return None
    terminal = sys.stdout.isatty()
    live = (terminal or arguments.verbose) and not arguments.json
    start, held = time.monotonic(), list[str]()

    def show(line: str) -> None:
        held.append(line if live and terminal else _COLOUR.sub("", line))
        if live or time.monotonic() - start > _SILENT:
            print("\n".join(held), file=sys.stdout if live else sys.stderr, flush=True)
            held.clear()

    return show


@contextlib.contextmanager
def _progress(arguments: argparse.Namespace) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what shows how many nets are trained; on a terminal, one line that is rewritten in place."""
    if arguments.quiet:
        yield None
        return
    terminal = sys.stderr.isatty()
    start = time.monotonic()
    due = start + _SILENT

    def show(done: int, total: int) -> None:
        nonlocal due
        if (now := time.monotonic()) > due:
            due = now if terminal or arguments.verbose else now + _LOG_EVERY
            line = f"actlab: {done} of {total} nets trained, {now - start:.0f} s"
            print(
                f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True
            )

    try:
        yield show
    finally:
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _hiplot_page(rows: list[Report], out: Path) -> list[str]:
    """Write the page and return its name; without HiPlot say so, for everything else is there."""
    from actlab.report.hiplot_page import write_hiplot

    try:
        write_hiplot(rows, out / "hiplot.html")
    except ImportError as error:
        print(f"actlab: {error}", file=sys.stderr)
        return []
    return ["hiplot.html"]

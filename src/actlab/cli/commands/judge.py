"""``actlab judge``: verdicts on results that other programs have computed."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from actlab.cli.options import JSON, Parser
from actlab.cli.output import SUCCESS, check_parent_folder, print_json
from actlab.errors import UsageError, escape_unprintable, format_error
from actlab.report.wrapping import wrap_sentences

if TYPE_CHECKING:
    from actlab.judging import Judgement

SUMMARY = "judge which method is better, from a table with one row per run"
EXAMPLES = (
    "actlab judge runs.csv --score accuracy --method model --pair seed,fold",
    "actlab judge runs.csv --score loss --lower-is-better --baseline adam",
    "actlab judge runs.csv --score accuracy --require better:mine:baseline",
)
_NOT_BETTER, _UNDECIDED = 1, 3
_POLL_SECONDS = 0.5


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument(
        "runs",
        metavar="RUNS",
        help="a .csv, .tsv, .parquet, .jsonl or .json file, a folder of .json files, the output "
        "folder of actlab compare, mlflow:URI#EXPERIMENT, or optuna:FILE#STUDY",
    )
    add = parser.add_argument_group("columns").add_argument
    add("--score", metavar="COLUMN", help="column of scores (default: the only column of numbers)")
    add("--method", metavar="COLUMN", help="column of methods (default: method, model, activation, ...)")
    pair = "columns with equal values in paired runs (default: seed, fold, ...); '' if runs are not paired"
    add("--pair", metavar="COLUMN,...", help=pair)
    add(
        "--dataset",
        metavar="COLUMN",
        help="column of datasets (default: dataset, task, ...); '' if there is only one",
    )
    direction = "whether a smaller score is better; needed if the score looks like an error or a time"
    add("--lower-is-better", action=argparse.BooleanOptionalAction, help=direction)
    add = parser.add_argument_group("verdicts").add_argument
    add(
        "--rope",
        type=float,
        metavar="R",
        help="differences up to R are practically equivalent (default: 0.001 for accuracies, else 0)",
    )
    add("--baseline", metavar="METHOD", help="judge only the pairs with this method")
    add(
        "--test-share",
        type=float,
        metavar="S",
        help="share of the samples in each test set, for splits that are not folds",
    )
    add("--analysis", metavar="NAME", help="analysis to use instead of the automatic choice, such as welch")
    add(
        "--sequential", action="store_true", help="verdicts that stay valid if you judge again after new runs"
    )
    add("--watch", action="store_true", help="judge again when the file changes; implies --sequential")
    power = "also print how many runs are needed to find a difference of D"
    add("--power", type=float, metavar="D", help=power)
    require = "exit with status 0 if NEW is better than OLD, 1 if it is not, 3 if the pair is undecided"
    add("--require", metavar="better:NEW:OLD", help=require)
    add = parser.add_argument_group("output").add_argument
    add("--out", type=Path, metavar="FILE", help="write a report page")
    add("--markdown", action="store_true", help="print a Markdown table of verdicts")
    add("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """Judge a table, once or whenever it changes."""
    required = _read_requirement(arguments.require)
    if arguments.out:
        check_parent_folder(arguments.out)
    if arguments.watch and not Path(arguments.runs).is_file():
        raise UsageError(f"--watch needs a file, got {arguments.runs!r}")
    changed = _read_time(arguments.runs)
    status = _judge_once(arguments, required)
    while arguments.watch:
        time.sleep(_POLL_SECONDS)
        if (now := _read_time(arguments.runs)) != changed:
            changed = now
            print()
            try:
                status = _judge_once(arguments, required)
            except UsageError as error:  # the file is being written
                print(f"actlab: note: {format_error(error)}", file=sys.stderr)
    return status


def _read_time(path: str) -> int:
    """Return when a file was changed; 0 while there is none."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def _judge_once(arguments: argparse.Namespace, required: str | None) -> int:
    from actlab.judging import judge
    from actlab.judging.power import describe_power

    judgement = judge(
        arguments.runs,
        score=arguments.score,
        method=arguments.method,
        pair=arguments.pair,
        dataset=arguments.dataset,
        lower_is_better=arguments.lower_is_better,
        rope=arguments.rope,
        baseline=arguments.baseline,
        test_share=arguments.test_share,
        sequential=arguments.sequential or arguments.watch,
        analysis=arguments.analysis,
    )
    status = _check_requirement(judgement, required)
    power = [] if arguments.power is None else describe_power(judgement, arguments.power)
    if arguments.out:
        try:
            judgement.report(arguments.out)
        except ImportError as error:
            raise UsageError(str(error)) from error
    if arguments.json:
        print_json(arguments, {**judgement.to_json(), "power": power})
    elif arguments.markdown:
        print(judgement.to_markdown("verdicts"))
        print("\n".join(["", *map(escape_unprintable, [*judgement.sentences(), *power])]))
    else:
        from actlab.report.tables import format_table

        written = [f"Written: {arguments.out}"] if arguments.out else []
        print(format_table(judgement.ranking), "", sep="\n")
        print("\n".join(wrap_sentences([*judgement.sentences(), *power, *written])))
    return status


def _read_requirement(text: str | None) -> str | None:
    """Return NEW:OLD from better:NEW:OLD. Both names may contain colons."""
    if text is None:
        return None
    kind, _, names = text.partition(":")
    if kind != "better" or ":" not in names.strip(":"):
        raise UsageError(f"--require must be better:NEW:OLD, got {text!r}")
    return names


def _check_requirement(judgement: Judgement, required: str | None) -> int:
    if required is None:
        return SUCCESS
    for a, b, verdict in judgement.verdicts[["a", "b", "verdict"]].to_numpy():
        if required in (f"{a}:{b}", f"{b}:{a}"):
            if verdict in ("undecided", "none"):
                return _UNDECIDED
            return SUCCESS if verdict == ("better" if required == f"{a}:{b}" else "worse") else _NOT_BETTER
    methods = ", ".join(judgement.ranking["method"][:8])
    raise UsageError(f"--require: no pair of methods is {required!r}; the methods are {methods}")

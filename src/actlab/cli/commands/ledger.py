"""``actlab ledger``: inspect, verify, export and merge ledgers."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from actlab.cli.options import JSON, Parser, add_command
from actlab.cli.output import FAILURE, SUCCESS, print_json
from actlab.errors import UsageError
from actlab.files import LEDGER
from actlab.report.wrapping import wrap_sentences

if TYPE_CHECKING:
    import pandas as pd

    from actlab.ledger.ledger import Ledger

SUMMARY = "inspect, verify, export or merge records of finished runs"
EXAMPLES = (
    "actlab ledger show out/compare",
    "actlab ledger export out/compare --out out/tables",
    "actlab ledger merge all.sqlite out/compare out/other",
)
_MAX_ROWS = 20  # of a printed table


def add_options(parser: Parser) -> None:
    """Add the subcommands of ``actlab ledger``."""
    commands = parser.add_subparsers()
    table = {
        "show": ("print the finished runs and the processes that are still training", show),
        "verify": ("verify that the file is complete and consistent", verify),
        "export": ("write the tables as CSV and JSON files", export),
        "merge": ("copy the runs of other ledgers into one, each run once", merge),
    }
    for name, (summary, function) in table.items():
        parser = add_command(commands, name, summary, EXAMPLES, function)
        parser.add_argument(
            "ledger", type=Path, metavar="LEDGER", help="file, or output folder of actlab compare"
        )
        if name == "merge":
            parser.add_argument("others", type=Path, nargs="+", metavar="OTHER", help="ledgers to copy from")
        add = parser.add_argument_group("output").add_argument
        if name == "export":
            add("--out", type=Path, default=Path("out/ledger"), metavar="DIR", help="output folder")
        add("--json", **JSON)


def show(arguments: argparse.Namespace) -> int:
    """Print the runs of a ledger, and the processes that add more."""
    from actlab.report.tables import to_json_rows

    with _open(arguments.ledger) as ledger:
        runs, claims = ledger.runs(), ledger.claims()
    if arguments.json:
        print_json(arguments, {"runs": to_json_rows(runs), "claims": to_json_rows(claims)})
        return SUCCESS
    lines = ["No runs yet"] if runs.empty else _format_runs(runs)
    sentences = _describe_runs(runs)
    for claim in claims.to_dict("records"):
        sentences.append(f"Process {claim['pid']} on {claim['host']} is training {_count(claim['runs'])}.")
    print("\n".join([*lines, *([""] if sentences else []), *wrap_sentences(sentences)]))
    return SUCCESS


def _format_runs(runs: pd.DataFrame) -> list[str]:
    import pandas as pd

    from actlab.report.tables import format_table

    # The loss comes last: a number may be wide, and columns that do not fit are dropped from the right.
    table = runs[["activation", "seed", "fold", "test_acc", "epochs", "seconds", "test_loss"]].copy()
    table.insert(0, "run", runs["key"].str[:8])
    table["fold"] = pd.to_numeric(table["fold"], errors="coerce")
    failures = (runs["failure"] != "").sum()
    title = f"{_count(len(runs))}, {failures or 'none'} failed"
    return [title, "", format_table(table.tail(_MAX_ROWS).reset_index(drop=True))]


def _describe_runs(runs: pd.DataFrame) -> list[str]:
    """Return a sentence for each reason why runs failed, and for what the table leaves out."""
    omitted = f"The last {_MAX_ROWS} of {len(runs)} runs are shown; actlab ledger export writes all of them."
    sentences = [omitted] if len(runs) > _MAX_ROWS else []
    failed = runs[runs["failure"] != ""]
    for failure, keys in failed.tail(_MAX_ROWS).groupby("failure", sort=False)["key"]:
        sentences.append(f"{', '.join(keys.str[:8])} failed: {failure}")
    if len(failed) > _MAX_ROWS:
        sentences.append(f"The last {_MAX_ROWS} of {len(failed)} failed runs are shown.")
    return sentences


def verify(arguments: argparse.Namespace) -> int:
    """Verify a ledger, and print every problem."""
    runs = None
    with _open(arguments.ledger) as ledger:
        problems = ledger.verify()
        try:
            runs = len(ledger.runs())
        except UsageError:  # the problems contain the reason
            if not problems:
                raise
    if arguments.json:
        print_json(arguments, {"runs": runs, "problems": problems})
    else:
        print("\n".join(wrap_sentences(problems) or [f"{_count(runs or 0)}, no problems"]))
    return FAILURE if problems else SUCCESS


def export(arguments: argparse.Namespace) -> int:
    """Write the tables of a ledger as files for other programs."""
    from actlab.files import create_output_folder
    from actlab.ledger.records import dumps
    from actlab.report.tables import write_csv, write_json

    with _open(arguments.ledger) as ledger:
        out = create_output_folder(arguments.out)
        runs, history = ledger.runs(), ledger.history()
        # JSON has no infinity and no NaN: the ledger's own encoding of numbers, {"$float": "inf"}, stays.
        settings = [{"key": key, **json.loads(dumps(ledger.settings(key)))} for key in runs["key"]]
    write_csv(runs, out / "runs.csv")
    write_csv(history, out / "history.csv")
    write_json(settings, out / "settings.json")
    files = [str(out / name) for name in ("runs.csv", "history.csv", "settings.json")]
    result = {"runs": len(runs), "files": files}
    if arguments.json:
        print_json(arguments, result)
    else:
        print(f"Written: {', '.join(files)}")
    return SUCCESS


def merge(arguments: argparse.Namespace) -> int:
    """Copy the runs of other ledgers into one."""
    with contextlib.ExitStack() as stack:
        others = {str(path): stack.enter_context(_open(path)) for path in arguments.others}
        ledger = stack.enter_context(_open(arguments.ledger, readonly=False))  # created if the others exist
        merged = {path: ledger.merge(other) for path, other in others.items()}
    discrepancies = [sentence for _, sentences in merged.values() for sentence in sentences]
    if arguments.json:
        copied = {path: count for path, (count, _) in merged.items()}
        print_json(arguments, {"copied": copied, "discrepancies": discrepancies})
        return FAILURE if discrepancies else SUCCESS
    for path, (count, sentences) in merged.items():
        note = f"; discrepancies: {len(sentences)}" if sentences else ""
        print(f"{_count(count)} copied from {path}{note}")
    if discrepancies:
        print(f"actlab ledger verify {arguments.ledger} lists every discrepancy.")
    return FAILURE if discrepancies else SUCCESS


def _open(path: Path, readonly: bool = True) -> Ledger:
    from actlab.ledger.ledger import Ledger

    return Ledger(path / LEDGER if path.is_dir() else path, readonly=readonly)


def _count(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"

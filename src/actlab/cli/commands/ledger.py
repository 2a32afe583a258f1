"""``actlab ledger``: inspect, verify, export and merge ledgers."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from actlab.cli.options import Parser, add_command, add_json
from actlab.cli.output import FAILURE, SUCCESS, wrap_sentences
from actlab.errors import UsageError
from actlab.files import LEDGER

if TYPE_CHECKING:
    from actlab.ledger.ledger import Ledger

SUMMARY = "inspect, verify, export or merge records of finished runs"
EXAMPLES = (
    "actlab ledger show out/compare",
    "actlab ledger export out/compare --out out/tables",
    "actlab ledger merge all.sqlite out/compare out/other",
)
_ROWS = 20  # of a printed table


def add_options(parser: Parser) -> None:
    """Add the commands below ``actlab ledger``."""
    commands = parser.add_subparsers()
    table = {
        "show": ("print the runs, and the processes that add more", show),
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
        add_json(add)


def show(arguments: argparse.Namespace) -> int:
    """Show what a ledger holds, and who is at work on it."""
    import pandas as pd

    from actlab.report.tables import plain_rows, text_table

    with _opened(arguments.ledger, readonly=True) as ledger:
        runs, claims = ledger.runs(), ledger.claims()
    if arguments.json:
        print(json.dumps({"runs": plain_rows(runs), "claims": plain_rows(claims)}, allow_nan=False))
        return SUCCESS
    failed = runs[runs["failure"] != ""]
    lines = [f"{_runs(len(runs))}, {len(failed) or 'none'} of them failed" if len(runs) else "No runs yet"]
    if len(runs):
        # A loss may be as wide as it likes: what does not fit is left out from the right.
        table = runs[["activation", "seed", "fold", "test_acc", "epochs", "seconds", "test_loss"]].copy()
        table.insert(0, "run", runs["key"].str[:8])
        table["fold"] = pd.to_numeric(table["fold"], errors="coerce")
        lines += ["", text_table(table.tail(_ROWS).reset_index(drop=True))]
    said = [f"The last {_ROWS} of {len(runs)}; actlab ledger export writes all."] if len(runs) > _ROWS else []
    for failure, keys in failed.tail(_ROWS).groupby("failure", sort=False)["key"]:
        said.append(f"{', '.join(keys.str[:8])} failed: {failure}")
    if len(failed) > _ROWS:
        said.append(f"These are the last {_ROWS} of {len(failed)} that failed.")
    for claim in claims.to_dict("records"):
        said.append(f"Process {claim['pid']} on {claim['host']} is training {_runs(claim['runs'])}.")
    print("\n".join([*lines, *([""] if said else []), *wrap_sentences(said)]))
    return SUCCESS


def verify(arguments: argparse.Namespace) -> int:
    """Look for everything that can be wrong with a ledger."""
    runs = None
    with _opened(arguments.ledger, readonly=True) as ledger:
        problems = ledger.verify()
        try:
            runs = len(ledger.runs())
        except UsageError:
            if not problems:  # else it is one of them
                raise
    if arguments.json:
        print(json.dumps({"runs": runs, "problems": problems}))
    else:
        print("\n".join(wrap_sentences(problems) or [f"{_runs(runs or 0)}, and nothing is wrong"]))
    return FAILURE if problems else SUCCESS


def export(arguments: argparse.Namespace) -> int:
    """Write a ledger's tables as files for other programs."""
    from actlab.files import output_folder
    from actlab.ledger.records import dumps
    from actlab.report.tables import write_csv, write_json

    with _opened(arguments.ledger, readonly=True) as ledger:
        out = output_folder(arguments.out)
        runs, history = ledger.runs(), ledger.history()
        # Written as the ledger has it: where JSON has no number, {"$float": "inf"}.
        settings = [{"key": key, **json.loads(dumps(ledger.settings(key)))} for key in runs["key"]]
    write_csv(runs, out / "runs.csv")
    write_csv(history, out / "history.csv")
    write_json(settings, out / "settings.json")
    files = [str(out / name) for name in ("runs.csv", "history.csv", "settings.json")]
    found = {"runs": len(runs), "files": files}
    print(json.dumps(found) if arguments.json else f"Written: {', '.join(files)}")
    return SUCCESS


def merge(arguments: argparse.Namespace) -> int:
    """Take the runs of other ledgers over into one."""
    with contextlib.ExitStack() as stack:
        others = [(path, stack.enter_context(_opened(path, readonly=True))) for path in arguments.others]
        ledger = stack.enter_context(_opened(arguments.ledger))  # which is made only if the others are there
        found = [(str(path), *ledger.merge(other)) for path, other in others]
    said = [sentence for _, _, sentences in found for sentence in sentences]
    if arguments.json:
        print(json.dumps({"taken": {other: taken for other, taken, _ in found}, "discrepancies": said}))
        return FAILURE if said else SUCCESS
    for other, taken, sentences in found:
        differ = f"; discrepancies: {len(sentences)}" if sentences else ""
        print(f"{_runs(taken)} taken over from {other}{differ}")
    if said:
        print(f"actlab ledger verify {arguments.ledger} lists every discrepancy.")
    return FAILURE if said else SUCCESS


def _opened(path: Path, readonly: bool = False) -> Ledger:
    from actlab.ledger.ledger import Ledger

    return Ledger(path / LEDGER if path.is_dir() else path, readonly=readonly)


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"

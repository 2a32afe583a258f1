"""The verbs that look after a ledger."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from actlab.cli.saying import DONE, NO, wrapped

if TYPE_CHECKING:
    from actlab.ledger import Ledger

NAME = "ledger.sqlite"  # in a comparison's folder
_ROWS = 20  # of a table for people


def show(arguments: argparse.Namespace) -> int:
    """Show what a ledger holds, and who is at work on it."""
    from actlab.report.tables import plain_rows, text_table

    with _opened(arguments.ledger, readonly=True) as ledger:
        runs, claims = ledger.runs(), ledger.claims()
    if arguments.json:
        print(json.dumps({"runs": plain_rows(runs), "claims": plain_rows(claims)}, allow_nan=False))
        return DONE
    failed = int((runs["failure"] != "").sum())
    print(f"{len(runs)} runs, {failed} of them failed")
    if len(runs):
        table = runs[["activation", "seed", "fold", "test_acc", "test_loss", "epochs", "seconds"]].copy()
        table.insert(0, "run", runs["key"].str[:8])
        table["fold"] += 1
        print("\n" + text_table(table.tail(_ROWS).reset_index(drop=True)))
    if len(runs) > _ROWS:
        print(f"\nThe last {_ROWS} of {len(runs)}; actlab ledger export writes all.")
    for run in runs[runs["failure"] != ""].tail(_ROWS).to_dict("records"):
        print("\n".join(wrapped([f"{run['key'][:8]} failed: {run['failure']}"])))
    for claim in claims.to_dict("records"):
        where = f"process {claim['pid']} on {claim['host']}"
        print(f"{claim['runs']} runs are being trained by {where}")
    return DONE


def verify(arguments: argparse.Namespace) -> int:
    """Look for everything that can be wrong with a ledger."""
    with _opened(arguments.ledger, readonly=True) as ledger:
        problems, runs = ledger.verify(), len(ledger.runs())
    if arguments.json:
        print(json.dumps({"runs": runs, "problems": problems}))
    else:
        print("\n".join(wrapped(problems) or [f"{runs} runs, nothing is wrong with them"]))
    return NO if problems else DONE


def export(arguments: argparse.Namespace) -> int:
    """Write a ledger's tables as files for other programs."""
    from actlab._files import output_folder
    from actlab.report.tables import write_csv, write_json

    with _opened(arguments.ledger, readonly=True) as ledger:
        runs, history = ledger.runs(), ledger.history()
        settings = [{"key": key, **ledger.settings(key)} for key in runs["key"]]
    out = output_folder(arguments.out)
    write_csv(runs, out / "runs.csv")
    write_csv(history, out / "history.csv")
    write_json(settings, out / "settings.json")
    files = [str(out / name) for name in ("runs.csv", "history.csv", "settings.json")]
    found = {"runs": len(runs), "files": files}
    print(json.dumps(found) if arguments.json else f"Written: {', '.join(files)}")
    return DONE


def merge(arguments: argparse.Namespace) -> int:
    """Take the runs of other ledgers over into one."""
    with _opened(arguments.ledger) as ledger:
        found = [(other, *ledger.merge(_file(other))) for other in arguments.others]
    said = [sentence for _, _, sentences in found for sentence in sentences]
    if arguments.json:
        print(json.dumps({"taken": {str(other): taken for other, taken, _ in found}, "discrepancies": said}))
    else:
        for other, taken, _ in found:
            print(f"{taken} runs from {other}")
    return NO if said else DONE


def _opened(path: Path, readonly: bool = False) -> Ledger:
    from actlab.ledger import Ledger

    return Ledger(_file(path), readonly=readonly)


def _file(path: Path) -> Path:
    return path / NAME if path.is_dir() else path

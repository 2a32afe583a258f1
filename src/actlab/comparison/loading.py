"""What a folder that actlab has written holds, to be reported: also what has not ended, or is of one net."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from actlab._version import __version__
from actlab.comparison.comparison import Comparison
from actlab.comparison.curves import own_curves
from actlab.comparison.files import read_table
from actlab.comparison.plan import Place
from actlab.comparison.runner import Done, chosen
from actlab.comparison.tables import VERDICTS, circumstances, diagnostics_table, figures, history
from actlab.data.dataset import Dataset
from actlab.errors import UsageError
from actlab.files import LEDGER
from actlab.fleet.run import Result
from actlab.ledger.ledger import Ledger
from actlab.report.tables import plain_rows, write_csv, write_json
from actlab.training.train import Trained, TrainSettings, history_frame

TRAINING = "training.json"
_PLACE = [field.name for field in dataclasses.fields(Place)]


def found_in(folder: Path) -> Comparison:
    """Return what a folder holds, as a comparison.

    Args:
        folder: What ``actlab compare`` or ``actlab train`` has written or writes.

    Returns:
        A comparison. Of one that has not ended it has the runs in the ledger, no verdicts, and ``unfinished``
        in its ``about``; of a training one run.

    Raises:
        UsageError: There is nothing, or it is broken.
    """
    ended, alone = (folder / "comparison.json").is_file(), (folder / TRAINING).is_file()
    if (folder / LEDGER).is_file():
        try:
            with Ledger(folder / LEDGER, readonly=True) as ledger:
                if unfinished := ledger.unfinished_comparisons():
                    return _unfinished(ledger, *unfinished[0])
        except UsageError:  # of an older actlab, say: it matters only if there is nothing else
            if not ended:
                raise
    if alone and not ended:
        return _read_training(folder)
    if not ended and (below := sorted(file.parent for file in folder.glob("*/comparison.json"))):
        raise UsageError(f"{str(folder)!r} has comparisons below it; name one: {', '.join(map(str, below))}")
    return Comparison.load(folder)


def _unfinished(ledger: Ledger, about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Comparison:
    try:
        places = {run["key"]: Place(**{name: run[name] for name in _PLACE}) for run in runs}
        names, metric = list(about["activations"]), about["metric"]
        candidates = about["tuned"] or [{}]
        results = ledger.results(list(places))
        done = [
            Done(places[key], result, result.test_acc if metric == "accuracy" else math.nan, key)
            for key, result in results.items()
        ]
        counted = chosen(done, names, candidates)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"ledger {str(ledger.path)!r}: what it says of its comparison is broken: {error!r}"
        ) from error
    verdicts = pd.DataFrame(columns=VERDICTS)
    seeds = len({place.seed for place in places.values()})
    so_far = {"done": len(done), "planned": len(places)}
    none = Done(Place("", 0, 0, 0, {}), Result(), math.nan)  # has the columns, if no run has ended
    rows = pd.DataFrame([{**figures(one), "key": one.key} for one in counted or [none]])[: len(counted)]
    return Comparison(
        results=rows,
        history=history(counted),
        verdicts=verdicts,
        ranking=_means(names, rows),
        diagnostics=diagnostics_table(counted),
        about={**about, "points": metric == "accuracy", "seeds": seeds, "unfinished": so_far},
    )


def _means(names: Sequence[str], rows: pd.DataFrame) -> pd.DataFrame:
    """Return a ranking in which nothing has a rank, best first."""
    found = []
    for name in names:
        own = rows[rows["activation"] == name] if len(rows) else rows
        scores = own["score"] if len(own) else pd.Series(dtype=float)
        failed = int((own["failure"] != "").sum()) if len(own) else 0
        status = (
            f"failed in {failed} of {len(own)} runs" if failed else "" if len(own) else "no run has ended"
        )
        figures_of = {"mean": scores.mean(), "std": scores.std(ddof=0), "runs": len(own), "status": status}
        found.append({"rank": pd.NA, "activation": name, **figures_of})
    table = pd.DataFrame(found).astype({"rank": "Int64"})
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def of_training(
    trained: Trained, dataset: Dataset, activation: str, settings: TrainSettings, **said: Any
) -> Comparison:
    """Return a training as a comparison of one run.

    Args:
        trained: What came out of it.
        dataset: What was learnt.
        activation: Its spec.
        settings: How it was trained.
        **said: What else its ``about`` is to have.
    """
    result, measured = trained.result, not dataset.is_regression
    last = {} if result.failure else result.history[-1]
    run = {
        "activation": activation,
        "seed": settings.seed,
        "score": last.get("valid_acc", math.nan),
        "loss": last.get("valid_loss", math.nan),
        "epochs": len(result.history),
        "seconds": result.seconds,
        "saved_bytes": trained.saved_bytes,
        "how": result.how,
        "failure": result.failure,
    }
    about = {
        "kind": "training",
        "actlab": __version__,
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "metric": "validation accuracy" if measured else "validation loss",
        "points": measured,
        "settings": dataclasses.asdict(settings),
        **circumstances(),
        **said,
    }
    diagnostics, curves = pd.DataFrame(result.diagnostics), own_curves([activation])
    return _single(about, run, history_frame(trained.net), diagnostics, curves)


def write_training(found: Comparison, folder: Path) -> list[Path]:
    """Write what :func:`of_training` returned; return the files."""
    (run,) = plain_rows(found.results)
    history = found.history.drop(columns=["activation", "seed"])
    write_csv(history, folder / "history.csv")
    write_json(plain_rows(history), folder / "history.json")
    write_json([{"about": found.about, "run": run}], folder / TRAINING)
    files = [folder / name for name in ("history.csv", "history.json", TRAINING)]
    for name, table in {"diagnostics": found.diagnostics, "curves": found.curves}.items():
        path = folder / f"{name}.csv"
        if len(table):
            write_csv(table, path)
            files.append(path)
        else:
            path.unlink(missing_ok=True)  # of a training that was here before
    return files


def _read_training(folder: Path) -> Comparison:
    try:
        (said,) = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
        about, run = dict(said["about"]), dict(said["run"])
        if missing := {"activation", "seed", "score", "epochs", "failure"} - set(run):
            raise KeyError(min(missing))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{str(folder / TRAINING)!r} does not describe a training: {error}") from error
    return _single(about, run, *(read_table(folder, name) for name in ("history", "diagnostics", "curves")))


def _single(
    about: Mapping[str, Any],
    run: Mapping[str, Any],
    history: pd.DataFrame,
    diagnostics: pd.DataFrame,
    curves: pd.DataFrame,
) -> Comparison:
    results = pd.DataFrame([run])
    results["score"] = pd.to_numeric(results["score"])
    history = history.drop(columns=["activation", "seed"], errors="ignore")
    history.insert(0, "activation", run["activation"])
    history.insert(1, "seed", run["seed"])
    if len(diagnostics) and "activation" not in diagnostics:
        diagnostics.insert(0, "activation", run["activation"])
        diagnostics.insert(1, "seed", run["seed"])
    row = {"rank": 1, "activation": run["activation"], "mean": results["score"][0], "std": 0.0, "runs": 1}
    ranking = pd.DataFrame([{**row, "status": run["failure"]}]).astype({"rank": "Int64"})
    verdicts = pd.DataFrame(columns=VERDICTS)
    return Comparison(
        results, history, verdicts, ranking, diagnostics=diagnostics, curves=curves, about=about
    )

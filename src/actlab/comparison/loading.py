"""Load a folder for a report: a comparison, an unfinished comparison, or a run."""

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
from actlab.comparison.curves import sample_curves
from actlab.comparison.files import read_table
from actlab.comparison.runs import FinishedRun, RunLabels, select_best
from actlab.comparison.tables import (
    describe_environment,
    list_result_columns,
    make_diagnostics_table,
    make_history_table,
    make_parameters_table,
)
from actlab.data.dataset import Dataset
from actlab.errors import UsageError
from actlab.files import LEDGER
from actlab.fleet.run import Result
from actlab.fleet.skorch_adapter import find_restored_column
from actlab.judging.verdict_tables import VERDICTS
from actlab.ledger.ledger import Ledger
from actlab.report.tables import to_json_rows, write_csv, write_json
from actlab.spec import ResolvedActivation
from actlab.training.settings import TrainSettings
from actlab.training.train import TrainingResult, history_frame

TRAINING = "training.json"
_LABELS = [field.name for field in dataclasses.fields(RunLabels)]


def load_folder(folder: Path) -> Comparison:
    """Load the content of a folder as a comparison.

    Args:
        folder: A folder that ``actlab compare`` or ``actlab train`` has written or writes.

    Returns:
        A comparison. An unfinished one has the runs in the ledger, no verdicts, and ``unfinished`` in its
        ``about``; a folder of ``actlab train`` gives a comparison with one run.

    Raises:
        UsageError: The folder contains neither, or its files are damaged.
    """
    is_finished = (folder / "comparison.json").is_file()
    if (folder / LEDGER).is_file():
        try:
            with Ledger(folder / LEDGER, readonly=True) as ledger:
                if unfinished := ledger.unfinished_comparisons():
                    return _load_unfinished(ledger, *unfinished[0])
        except UsageError:
            # A ledger of an older version, for example, matters only if there are no other files.
            if not is_finished:
                raise
    if is_finished:
        return Comparison.load(folder)
    if (folder / TRAINING).is_file():
        return _load_training(folder)
    if below := sorted(file.parent for file in folder.glob("*/comparison.json")):
        raise UsageError(
            f"{str(folder)!r} contains several comparisons; choose one: {', '.join(map(str, below))}"
        )
    return Comparison.load(folder)  # which raises


def _load_unfinished(
    ledger: Ledger, about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]
) -> Comparison:
    try:
        planned = {run["key"]: RunLabels(**{name: run[name] for name in _LABELS}) for run in runs}
        names, metric = list(about["activations"]), about["metric"]
        finished = [
            FinishedRun(planned[key], result, result.test_acc if metric == "accuracy" else math.nan, key)
            for key, result in ledger.results(list(planned)).items()
        ]
        best = select_best(finished, names, about["tuned"] or [{}])
    except (KeyError, TypeError, ValueError) as error:
        message = f"ledger {str(ledger.path)!r}: its description of the comparison is damaged: {error!r}"
        raise UsageError(message) from error
    nothing = FinishedRun(RunLabels("", 0, 0, 0, {}, False, ""), Result(), math.nan)  # defines the columns
    columns = [{**list_result_columns(run), "key": run.key} for run in best or [nothing]]
    rows = pd.DataFrame(columns)[: len(best)]
    unfinished = {"done": len(finished), "planned": len(planned)}
    seeds = len({labels.seed for labels in planned.values()})
    return Comparison(
        results=rows,
        history=make_history_table(best),
        verdicts=pd.DataFrame(columns=VERDICTS),
        ranking=_rank_by_mean(names, rows),
        diagnostics=make_diagnostics_table(best),
        parameters=make_parameters_table(best),
        about={**about, "points": metric == "accuracy", "seeds": seeds, "unfinished": unfinished},
    )


def _rank_by_mean(names: Sequence[str], rows: pd.DataFrame) -> pd.DataFrame:
    """Return a ranking by the mean, best first, without ranks."""
    ranking = []
    for name in names:
        own = rows[rows["activation"] == name]
        failed = int((own["failure"] != "").sum())
        status = "" if len(own) else "no run has finished"
        ranking.append(
            {
                "rank": pd.NA,
                "activation": name,
                "mean": own["score"].mean(),
                "std": own["score"].std(ddof=0),
                "runs": len(own),
                "status": f"failed in {failed} of {len(own)} runs" if failed else status,
            }
        )
    table = pd.DataFrame(ranking).astype({"rank": "Int64"})
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def make_training_comparison(
    training: TrainingResult,
    dataset: Dataset,
    activation: ResolvedActivation,
    settings: TrainSettings,
    **more: Any,
) -> Comparison:
    """Return a run of ``actlab train`` as a comparison.

    Args:
        training: The result of the run.
        dataset: The data of the run.
        activation: The activation.
        settings: The hyperparameters.
        **more: Further entries of ``about``.
    """
    result, classes = training.result, dataset.y.ndim == 1
    best = f"{find_restored_column(training.net)}_best"
    last = {} if result.failure else [row for row in result.history if row.get(best, True)][-1]
    run = {
        "activation": activation.name,
        "seed": settings.seed,
        "score": last.get("valid_acc", math.nan),
        "loss": last.get("valid_loss", math.nan),
        "epochs": len(result.history),
        "seconds": result.seconds,
        "saved_bytes": result.saved_bytes,
        "how": result.how,
        "failure": result.failure,
    }
    about = {
        "kind": "training",
        "actlab": __version__,
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "preprocessing": dataset.preprocessing,
        "metric": "validation accuracy" if classes else "validation loss",
        "points": classes,
        "settings": settings.describe(),
        **describe_environment(),
        **more,
    }
    diagnostics, curves = pd.DataFrame(result.diagnostics), sample_curves([activation])
    return _wrap_run(about, run, history_frame(training.net), diagnostics, curves)


def write_training(comparison: Comparison, folder: Path) -> list[Path]:
    """Write what :func:`make_training_comparison` returned; return the files."""
    (run,) = to_json_rows(comparison.results)
    history = comparison.history.drop(columns=["activation", "seed"])
    write_csv(history, folder / "history.csv")
    write_json(to_json_rows(history), folder / "history.json")
    write_json([{"about": comparison.about, "run": run}], folder / TRAINING)
    files = [folder / name for name in ("history.csv", "history.json", TRAINING)]
    for name, table in {"diagnostics": comparison.diagnostics, "curves": comparison.curves}.items():
        path = folder / f"{name}.csv"
        if len(table):
            write_csv(table, path)
            files.append(path)
        else:
            path.unlink(missing_ok=True)  # from an earlier run
    return files


def _load_training(folder: Path) -> Comparison:
    try:
        (content,) = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
        about, run = dict(content["about"]), dict(content["run"])
        if missing := {"activation", "seed", "score", "epochs", "failure"} - set(run):
            raise KeyError(min(missing))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{str(folder / TRAINING)!r} does not describe a run: {error}") from error
    return _wrap_run(about, run, *(read_table(folder, name) for name in ("history", "diagnostics", "curves")))


def _wrap_run(
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

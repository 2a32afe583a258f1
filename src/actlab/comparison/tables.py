"""The tables of a comparison, from its finished runs."""

from __future__ import annotations

import datetime
import functools
import math
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import skorch
import torch

from actlab._version import __version__
from actlab.comparison.chance_level import ChanceTest
from actlab.comparison.module_arguments import name_module
from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runner import Finished
from actlab.comparison.runs import FinishedRun, Labels
from actlab.data.dataset import Dataset
from actlab.data.fixed_test import find_missing_labels
from actlab.fleet.diagnostics import describe_diagnostic_epochs
from actlab.fleet.run import Epoch
from actlab.fleet.settings import processor_name
from actlab.judging.verdict_tables import average, describe_failures, rank_methods, sort_ranking
from actlab.training.train import HISTORY_COLUMNS


def make_results_table(runs: Sequence[Finished], plan: ComparisonPlan) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.results`.

    Args:
        runs: The runs with the best tuned values.
        plan: The plan.
    """
    seeds: dict[Any, list[Finished]] = {}
    for run in runs:
        labels = run.labels
        if not run.result.failure:
            seeds.setdefault((labels.activation, labels.seed), []).append(run)
    chance_test = ChanceTest(plan.scoring)
    chance = {seed: chance_test.is_chance(each) for seed, each in seeds.items()}
    table = pd.DataFrame(
        {
            **list_result_columns(run),
            "saved_bytes": run.result.saved_bytes,
            "chance": chance.get((run.labels.activation, run.labels.seed), False),
            "key": run.key,
        }
        for run in runs
    )
    return table.astype({"saved_bytes": "Int64"})


def list_result_columns(run: FinishedRun[Labels]) -> dict[str, Any]:
    """Return the columns of the results that depend on one run only."""
    result = run.result
    return {
        **run.labels.to_columns(),
        "score": run.score,
        "accuracy": math.nan if result.failure else result.test_acc,
        "loss": math.nan if result.failure else result.test_loss,
        "epochs": len(result.history),
        "seconds": result.seconds,
        "how": result.how,
        "reason_alone": result.reason_alone,
        "failure": result.failure,
    }


def make_history_table(runs: Sequence[FinishedRun[Labels]]) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.history`."""
    return pd.DataFrame(
        {**run.labels.to_columns(), **{c: row[c] for c in HISTORY_COLUMNS if c in row}}
        for run in runs
        for row in run.result.history
    )


def make_diagnostics_table(runs: Sequence[FinishedRun[Labels]]) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.diagnostics`."""
    return pd.DataFrame({**run.labels.to_columns(), **row} for run in runs for row in run.result.diagnostics)


def make_parameters_table(runs: Sequence[FinishedRun[Labels]]) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.parameters`."""
    return pd.DataFrame({**run.labels.to_columns(), **row} for run in runs for row in run.result.parameters)


def make_tuning_table(
    runs: Sequence[Finished], best: Sequence[Finished], plan: ComparisonPlan
) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.tuning`; none if nothing is tuned.

    Args:
        runs: All runs. A candidate that was trained to the end after its screening has one row.
        best: The runs with the best values.
        plan: The plan.
    """
    if len(plan.candidates) == 1:
        return pd.DataFrame()
    chosen, rows = set(map(id, best)), {}
    order = {name: position for position, name in enumerate(plan.config.names)}
    for run in sorted(runs, key=lambda run: not run.labels.screening):
        labels, history = run.labels, run.result.history
        candidate = plan.candidates.index(dict(labels.tuned))
        screened = history[plan.screening_epochs - 1 : plan.screening_epochs]
        rows[order[labels.activation], labels.seed, labels.fold, candidate] = {
            **labels.to_columns(),
            "epochs": len(history),
            **_list_validation(history, "valid"),
            **(_list_validation(screened, "screened") if plan.screening_epochs else {}),
            "failure": run.result.failure,
            "chosen": id(run) in chosen,
        }
    return pd.DataFrame([rows[key] for key in sorted(rows)])


def _list_validation(history: Sequence[Epoch], prefix: str) -> dict[str, float]:
    last = history[-1] if history else {}
    return {f"{prefix}_{name}": last.get(f"valid_{name}", math.nan) for name in ("acc", "loss")}


def make_ranking_table(frame: pd.DataFrame, verdicts: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.ranking`.

    Args:
        frame: The results.
        verdicts: The verdict on every pair.
        seeds: The largest number of seeds of an activation. If it is 1, the last columns are the folds,
            otherwise the seeds.
    """
    scores = {str(name): rows["score"] for name, rows in frame.groupby("activation", sort=False)}
    by, prefix = ("fold", "fold_") if seeds == 1 else ("seed", "seed_")
    parts = frame.pivot_table(index="activation", columns=by, values="score", aggfunc=average, dropna=False)
    status = {name: _describe_status(frame[frame["activation"] == name]) for name in scores}
    table = rank_methods(scores, status, verdicts)
    parts = parts.loc[list(scores)].set_axis([f"{prefix}{part}" for part in parts.columns], axis=1)
    return sort_ranking(pd.concat([table, parts.reset_index(drop=True)], axis=1))


def _describe_status(rows: pd.DataFrame) -> tuple[str, bool]:
    """Return the status of an activation (failed runs or chance level), and whether it has a rank."""
    lost = rows[rows["score"].isna()]
    if len(lost):
        return describe_failures(lost["failure"].to_list(), len(rows)), False
    seeds = rows.groupby("seed")["chance"].first()  # all runs of a seed are tested together
    if chance := int(seeds.sum()):
        part = f" for {chance} of {len(seeds)} seeds" if len(seeds) > 1 else ""
        return f"chance level{part}", 2 * chance <= len(seeds)
    return "", True


def describe_plan(plan: ComparisonPlan) -> dict[str, Any]:
    """Return the part of :attr:`actlab.Comparison.about` that is known before any run has ended."""
    config, module = plan.config, plan.net.module
    if isinstance(module, functools.partial):  # a user's module with an inserted activation
        module = module.args[0]
    return {
        "actlab": __version__,
        "data": config.dataset.name,
        "fingerprint": config.dataset.fingerprint,
        "preprocessing": plan.dataset.preprocessing,
        "activations": config.names,
        "specs": {one.name: one.spec for one in config.resolved if one.name != one.spec},
        "metric": plan.scoring.name,
        **({"error_units": _list_error_units(config.dataset)} if plan.scoring.is_target_error else {}),
        "folds": config.num_folds,
        "split": config.split_kind,
        "weighted": config.dataset.weights is not None,
        **({} if config.dataset.test_rows is None else {"test": describe_test_set(plan)}),
        "tune": config.tune if isinstance(config.tune, str | None) else "grid",
        "tuned": plan.candidates if len(plan.candidates) > 1 else [],
        "screening_epochs": plan.screening_epochs,
        "grid_size": plan.grid_size,
        **_describe_settings(plan),
        "net": module if isinstance(module, str) else name_module(module),
        "diagnostics": describe_diagnostic_epochs(config.diagnostics, plan.find_diagnostic_epochs()),
        **describe_environment(),
    }


def _list_error_units(dataset: Dataset) -> list[list[Any]]:
    """Return the standard deviation and the name of each target, as far as they are known."""
    names = dataset.target_names or [""] * len(dataset.target_stds)
    return [list(pair) for pair in zip(dataset.target_stds, names, strict=True)]


def _describe_settings(plan: ComparisonPlan) -> dict[str, Any]:
    """Return the settings that the comparison uses, and those of the user's skorch model if there is one."""
    settings, net = plan.config.settings.describe(), plan.net
    if isinstance(plan.config.module, skorch.NeuralNet):
        own = f"max_epochs={net.max_epochs}, lr={net.lr:g}, batch_size={net.batch_size}"
        optimizer = getattr(net.optimizer, "__name__", net.optimizer)
        used = {name: settings[name] for name in ("seed", "precision", "init")}
        return {"settings": used, "model_settings": f"{own}, optimizer={optimizer}"}
    if plan.config.module is not None:
        taken = net.get_params_for("module")
        unused = {"hidden": not taken.keys() & {"hidden", "num_units"}, "dropout": "dropout" not in taken}
        settings = {name: value for name, value in settings.items() if not unused.get(name)}
    return {"settings": settings}


def describe_test_set(plan: ComparisonPlan) -> dict[str, Any]:
    """Describe the fixed test set: its samples, and whether intervals include their variance."""
    dataset = plan.config.dataset
    (training, test) = plan.make_folds(0)[0]
    run = plan.run(plan.config.names[0], 0, 0, 0).run
    return {
        "name": dataset.test_name,
        "samples": len(test),
        "training_samples": len(training),
        "validation_samples": 0 if run is None or run.valid is None else len(run.valid),
        "missing_labels": find_missing_labels(dataset, test),
        "has_outcomes": plan.scoring.has_outcomes,
    }


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware and date of the training."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor_name(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def make_cv_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return results in the columns of scikit-learn's ``cv_results_``, one row per activation.

    Args:
        frame: As in :attr:`actlab.Comparison.results`.

    Returns:
        Times in seconds, ``param_module__activation``, ``split{i}_test_score`` (the score on each fold of
        each seed, one seed after the other), ``mean_test_score``, ``std_test_score`` and ``rank_test_score``
        (by the mean alone).
    """
    rows = []
    missing = np.full(frame["activation"].value_counts().max(), math.nan)
    for name, runs in frame.groupby("activation", sort=False):
        scores = runs["score"].to_numpy()
        rows.append(
            {
                "mean_fit_time": runs["seconds"].mean(),
                "std_fit_time": runs["seconds"].std(ddof=0),
                "param_module__activation": name,
                # An activation that was dropped from a sequential test has fewer.
                **{
                    f"split{n}_test_score": s for n, s in enumerate(np.append(scores, missing[len(scores) :]))
                },
                "mean_test_score": np.mean(scores),
                "std_test_score": np.std(scores),
            }
        )
    table = pd.DataFrame(rows)
    # Failed activations share the last rank.
    ranks = table["mean_test_score"].fillna(-math.inf).rank(ascending=False, method="min")
    table["rank_test_score"] = ranks.astype(int)
    return table

"""The tables of a comparison, from the runs that have ended."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from actlab._version import __version__
from actlab.comparison.plan import Training
from actlab.comparison.runner import At, Contest, Done, failures
from actlab.comparison.user_model import module_name
from actlab.fleet.diagnostics import looks_said
from actlab.fleet.settings import processor_name
from actlab.stats.sequential import Pair, Race
from actlab.stats.verdict import Verdict
from actlab.training.train import HISTORY_COLUMNS

VERDICTS = (
    "a",
    "b",
    "verdict",
    "difference",
    "low",
    "high",
    "level",
    "p",
    "p_holm",
    "p_better",
    "p_equivalent",
    "p_worse",
    "wins",
    "wins_low",
    "wins_high",
    "runs",
    "seeds",
    "more_seeds",
    "reason",
)


def results(contest: Contest) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.results`."""
    seeds: dict[Any, list[Done[Training]]] = {}
    fatal, kept = contest.fatal(), dict[Any, float]()
    for one in contest.chosen():
        if (kind := (one.training.activation, repr(one.training.tuned))) not in kept:
            kept[kind] = math.nan if kind[0] in fatal else contest.experiment.kept(one.training)
        if not one.result.failure:
            seeds.setdefault((one.training.activation, one.training.seed), []).append(one)
    chance = {
        seed: contest.scoring.chance([(one.training, one.result, one.score) for one in runs])
        for seed, runs in seeds.items()
    }
    found = pd.DataFrame(
        {
            **figures(one),
            "saved_bytes": kept[one.training.activation, repr(one.training.tuned)],
            "chance": chance.get((one.training.activation, one.training.seed), False),
            "key": one.key,
        }
        for one in contest.chosen()
    )
    return found.astype({"saved_bytes": "Int64"})


def figures(one: Done[At]) -> dict[str, Any]:
    """Return what is known of a run by itself."""
    result = one.result
    return {
        **one.training.columns(),
        "score": one.score,
        "accuracy": math.nan if result.failure else result.test_acc,
        "loss": math.nan if result.failure else result.test_loss,
        "epochs": len(result.history),
        "seconds": result.seconds,
        "how": result.how,
        "reason_alone": result.reason_alone,
        "failure": result.failure,
    }


def history(runs: Sequence[Done[At]]) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.history`."""
    return pd.DataFrame(
        {**one.training.columns(), **{c: row[c] for c in HISTORY_COLUMNS if c in row}}
        for one in runs
        for row in one.result.history
    )


def diagnostics_table(runs: Sequence[Done[At]]) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.diagnostics`."""
    return pd.DataFrame({**one.training.columns(), **row} for one in runs for row in one.result.diagnostics)


def tuning(contest: Contest) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.tuning`; none where nothing is tuned."""
    if len(contest.experiment.candidates) == 1:
        return pd.DataFrame()
    chosen = set(map(id, contest.chosen()))
    rows = []
    for one in contest.done:
        last = one.result.history[-1] if one.result.history else {}
        found = {name: last.get(name, math.nan) for name in ("valid_acc", "valid_loss")}
        rows.append(
            {**one.training.columns(), **found, "failure": one.result.failure, "chosen": id(one) in chosen}
        )
    return pd.DataFrame(rows)


def verdict_rows(
    contest: Contest,
    verdicts: Mapping[Pair, Verdict | None],
    level: float,
    race: Race | None = None,
) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.verdicts`.

    Args:
        contest: What was trained.
        verdicts: Of every pair.
        level: At which they were judged.
        race: How the race went, if there was one.
    """
    failed, rows = contest.failed(), []
    for (a, b), verdict in verdicts.items():
        row: dict[str, Any] = dict.fromkeys(VERDICTS, math.nan)
        row.update(a=a, b=b, verdict="none", level=level, runs=0, seeds=0, more_seeds=pd.NA)
        if verdict is None:
            row["reason"] = "; ".join(f"{name} {failed[name]}" for name in (a, b) if name in failed)
        else:
            row.update(_numbers(verdict, contest.experiment.folds))
            row["reason"] = "" if verdict.word != "undecided" else _open(a, b, verdict, race)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=VERDICTS)
    return frame.astype({"runs": int, "seeds": int, "more_seeds": "Int64"})


def _numbers(verdict: Verdict, folds: int) -> dict[str, Any]:
    found = verdict.evidence
    return {
        "verdict": verdict.word,
        "difference": verdict.difference,
        "low": verdict.low,
        "high": verdict.high,
        "level": verdict.level,
        "p": verdict.p_value,
        "p_holm": verdict.p_holm,
        "p_better": verdict.better,
        "p_equivalent": verdict.equivalent,
        "p_worse": verdict.worse,
        "wins": found.wins,
        "wins_low": found.wins_low,
        "wins_high": found.wins_high,
        "runs": found.runs,
        "seeds": found.runs // folds,
        "more_seeds": pd.NA if verdict.more_seeds is None else verdict.more_seeds,
    }


def _open(a: str, b: str, verdict: Verdict, race: Race | None) -> str:
    if race and (out := [f"{name} is {race.out[name]}" for name in (a, b) if name in race.out]):
        return f"{'; '.join(out)}: not pursued"
    if not verdict.evidence.spare:
        return "one seed cannot tell its luck from the fold's: more seeds may decide it"
    if verdict.more_seeds is None:
        return "no number of seeds would decide it; more folds or more data may"
    return f"about {verdict.more_seeds} more seed{'s' if verdict.more_seeds > 1 else ''} would decide it"


def ranking(frame: pd.DataFrame, verdicts: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.ranking`.

    Args:
        frame: The results.
        verdicts: Of every pair.
        seeds: Seeds of those that have most; with one, the columns at the end are the folds.
    """
    names = list(dict.fromkeys(frame["activation"]))
    scores = {name: frame[frame["activation"] == name]["score"] for name in names}
    by, prefix = ("fold", "fold_") if seeds == 1 else ("seed", "seed_")
    parts = frame.pivot_table(index="activation", columns=by, values="score", aggfunc=_mean, dropna=False)
    status = {name: _status(frame[frame["activation"] == name]) for name in names}
    table = pd.DataFrame(
        {
            "activation": names,
            "mean": [_mean(scores[name]) for name in names],
            "std": [float(scores[name].std(ddof=0, skipna=False)) for name in names],
            "runs": [len(scores[name]) for name in names],
            "status": [status[name][0] for name in names],
        }
    )
    ranks = [_rank(name, verdicts) if status[name][1] else None for name in names]
    table.insert(0, "rank", pd.Series(ranks, dtype="Int64"))
    parts = parts.loc[names].set_axis([f"{prefix}{part}" for part in parts.columns], axis=1)
    table = pd.concat([table, parts.reset_index(drop=True)], axis=1)
    return table.sort_values(["rank", "mean"], ascending=[True, False], kind="stable", ignore_index=True)


def _mean(scores: pd.Series[Any]) -> float:
    return float(scores.mean(skipna=False))


def _rank(name: str, verdicts: pd.DataFrame) -> int:
    above = ((verdicts["a"] == name) & (verdicts["verdict"] == "worse")).sum()
    return 1 + int(above + ((verdicts["b"] == name) & (verdicts["verdict"] == "better")).sum())


def _status(rows: pd.DataFrame) -> tuple[str, bool]:
    """Return what is wrong with the runs of an activation, and whether they earn it a rank."""
    lost = rows[rows["score"].isna()]
    if len(lost):
        return failures(lost["failure"].to_list(), len(rows)), False
    if chance := int(rows["chance"].sum()):
        return f"chance level in {chance} of {len(rows)} runs", 2 * chance <= len(rows)
    return "", True


def about(
    contest: Contest, region: tuple[float, str], level: float, race: Race | None = None
) -> dict[str, Any]:
    """Return what :attr:`actlab.Comparison.about` has.

    Args:
        contest: What was trained.
        region: Half the width of the region of practical equivalence, and what it is.
        level: At which the pairs were judged.
        race: How the race went, if there was one.
    """
    said = {
        **planned(contest),
        "region": region[0],
        "region_is": region[1],
        "points": contest.scoring.in_points([one.score for one in contest.chosen()]),
        "level": level,
        "seeds": max(contest.seeds.values()),
    }
    if race:
        said["race"] = {"looks": race.looks, "ended": race.ended, "out": dict(race.out)}
    return said


def planned(contest: Contest) -> dict[str, Any]:
    """Return what is known of a comparison before anything has ended."""
    experiment, net = contest.experiment, contest.experiment.net.module
    if isinstance(net, functools.partial):  # a person's module with an activation put in
        net = net.args[0]
    return {
        "actlab": __version__,
        "data": experiment.dataset.name,
        "fingerprint": experiment.dataset.fingerprint,
        "activations": contest.names,
        "metric": contest.scoring.name,
        "folds": experiment.folds,
        "trained": contest.planned,
        "tuned": experiment.candidates if len(experiment.candidates) > 1 else [],
        "settings": dataclasses.asdict(experiment.settings),
        "net": net if isinstance(net, str) else module_name(net),
        "diagnostics": looks_said(
            experiment.diagnostics, max(experiment.looks.values(), key=len, default=())
        ),
        **circumstances(),
    }


def circumstances() -> dict[str, Any]:
    """Return with what and when something was trained."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor_name(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def cv_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return results in the columns of scikit-learn's ``cv_results_``, one row per activation.

    Args:
        frame: As in :attr:`actlab.Comparison.results`.

    Returns:
        Times in seconds, ``param_module__activation``, the score on each fold of each seed, one seed after
        the other, ``split{i}_test_score``, ``mean_test_score``, ``std_test_score`` and ``rank_test_score``,
        which is by the mean alone.
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
                # Who dropped out of a race has fewer of them.
                **{
                    f"split{n}_test_score": s for n, s in enumerate(np.append(scores, missing[len(scores) :]))
                },
                "mean_test_score": np.mean(scores),
                "std_test_score": np.std(scores),
            }
        )
    table = pd.DataFrame(rows)
    # A net that diverged shares the last rank with its like.
    ranks = table["mean_test_score"].fillna(-math.inf).rank(ascending=False, method="min")
    table["rank_test_score"] = ranks.astype(int)
    return table

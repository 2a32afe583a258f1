"""The survey: every element-wise activation of the catalogue on every built-in task.

``python -m benchmarks.survey train --data-dir DIR`` trains it (hours) and writes docs/survey/runs.csv.
``python -m benchmarks.survey confirm --data-dir DIR`` trains the best of each task again, with more runs.
``python -m benchmarks.survey repeat --data-dir DIR`` trains a random tenth again from other seeds, and
``python -m benchmarks.survey null --data-dir DIR`` compares pairs that are equally good.
``python -m benchmarks.survey`` writes docs/survey.md, docs/survey/verdicts.csv and the figure.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import actlab
from actlab.models.gaussian_moments import gaussian_moments
from actlab.stats.several_datasets import compare_over_datasets
from actlab.stats.verdict import holm
from actlab.tasks import compare_tasks, list_tasks
from benchmarks.measuring import machine

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FOLDER = DOCS / "survey.md", DOCS / "survey"
SEEDS = 4  # with three folds: 12 paired runs
BASELINE = "relu"
REGION = 0.01  # differences up to one percentage point of accuracy, or 0.01 of R^2, do not matter
LEVEL = 0.05
KINDS = ("better", "worse", "equivalent", "undecided")
WITHOUT_DEFAULTS = ("dynamic_tanh", "threshold")  # need an argument
MORE = ("sine(omega=3)",)  # the default frequency of sine, 30, is that of a first layer
MIRRORED = {"relu": "relu", "mirrored": "formula:min(x, 0)"}  # -relu(-x): as good as relu, but other numbers
CONFIRMED = 4  # activations with the highest means on a task, trained again with more runs
SAME = ("celu", "swish", "telu")  # the same functions as elu, silu and tanhexp
MOST_FOLDS = {"text-transformer": 8}  # the samples of its smallest class
REPEATED = 5  # activations that are trained again on each task
REPETITIONS, CHEAP_REPETITIONS = 20, 100  # of the null test; of tasks with short runs
CHEAP = 0.05  # seconds
COLUMNS = [
    "task",
    "activation",
    "split",
    "fold",
    "seed",
    "score",
    "normalized",
    "as_given",
    "lr",
    "init",
    "failure",
]


def list_activations() -> list[str]:
    """Return the activations of the survey."""
    elementwise = [one.name for one in actlab.catalogue.values() if not one.facts.gated]
    return [*(name for name in sorted(elementwise) if name not in WITHOUT_DEFAULTS), *MORE]


# -- training -----------------------------------------------------------------------------------------------


def train(out: Path, data_dir: Path | None) -> None:
    """Train the survey, and write its runs."""
    start = time.monotonic()
    result = compare_tasks(
        list_activations(),
        seeds=SEEDS,
        out=out,
        data_dir=data_dir,
        diagnostics=False,
        verbose=1,
    )
    write_runs(result.results, FOLDER / "runs.csv")
    trained = sum(len(one.tuning) for one in result.comparisons.values())
    about = {
        "hours": round((time.monotonic() - start) / 3600, 2),
        "core_hours": round(sum(map(_measure_cpu, _PROCESSES)) / 3600, 2),
        "trained": trained,
        "machine": machine("cpu"),
        "excluded": result.excluded.to_dict("records"),
        "skipped": dict(result.skipped),
        "nanoseconds": dict(result.summary[["activation", "nanoseconds"]].round(2).to_numpy().tolist()),
    }
    (FOLDER / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _measure_cpu(processes: int) -> float:
    return resource.getrusage(processes).ru_utime


def list_surveyed_tasks() -> list[actlab.Task]:
    """Return the tasks of the survey. Those without data are missing."""
    names = set(read_runs()["task"])
    return [task for task in list_tasks() if task.name in names]


def write_runs(results: pd.DataFrame, path: Path) -> None:
    """Write runs without insignificant digits, and with the first words of failures."""
    table = results.reindex(columns=COLUMNS)
    table["failure"] = table["failure"].str.partition(":")[0]
    numbers = ["score", "normalized", "as_given"]
    table[numbers] = table[numbers].map(lambda value: float(f"{value:.6g}"))
    table.to_csv(path, index=False)


def repeat(data_dir: Path | None) -> None:
    """Train some activations of each task again, from other seeds."""
    rng = np.random.default_rng(0)
    others = [name for name in list_activations() if name != BASELINE]
    chosen = {
        task: rng.choice(others, REPEATED - 1, replace=False).tolist()
        for task in read_runs()["task"].unique()
    }
    _train_again(chosen, "repeated", data_dir, folds=3, seeds=SEEDS, seed=1000)


def confirm(data_dir: Path | None) -> None:
    """Train the activations with the highest means on each task again, with more runs and more folds."""
    verdicts = read_verdicts()
    best = verdicts[~verdicts["activation"].isin([BASELINE, *SAME])].sort_values("mean", ascending=False)
    chosen = {
        task: own["activation"].head(CONFIRMED).tolist() for task, own in best.groupby("task", sort=False)
    }
    _train_again(chosen, "confirmed", data_dir, folds=10, seeds=2, seed=3000)


def _train_again(
    chosen: dict[str, list[str]], name: str, data_dir: Path | None, folds: int, **options: Any
) -> None:
    """Train relu and the activations chosen for each task, and write the runs."""
    tables = []
    for task in list_surveyed_tasks():
        names = [BASELINE, *chosen[task.name]]
        options["folds"] = min(folds, MOST_FOLDS.get(task.name, folds))
        try:
            result = compare_tasks(names, [task], data_dir=data_dir, diagnostics=False, **options)
        except actlab.UsageError as error:
            print(f"{task.name} is skipped: {error}")
            continue
        tables.append(result.results)
        print(f"{task.name}: {', '.join(names)}", flush=True)
    write_runs(pd.concat(tables), FOLDER / f"{name}.csv")


def compare_mirrored(data_dir: Path | None) -> None:
    """Compare relu with its mirror image on each task, in repetitions of two seeds and three folds."""
    rows = []
    for task in list_surveyed_tasks():
        repetitions = CHEAP_REPETITIONS if task.seconds <= CHEAP else REPETITIONS
        options = {"seeds": 2 * repetitions, "seed": 2000, "tune": None, "diagnostics": False}
        try:
            result = compare_tasks(MIRRORED, [task], data_dir=data_dir, **options)
        except actlab.UsageError as error:
            print(f"{task.name} is skipped: {error}")
            continue
        for repetition, own in result.results.groupby((result.results["seed"] - 2000) // 2):
            verdict = judge_task(own, None).verdicts.iloc[0]
            rows.append((task.name, repetition, verdict["verdict"], verdict["p"], verdict["difference"]))
    columns = ["task", "repetition", "verdict", "p", "difference"]
    pd.DataFrame(rows, columns=columns).round(6).to_csv(FOLDER / "null.csv", index=False)


# -- verdicts -----------------------------------------------------------------------------------------------


@functools.cache
def read_runs(name: str = "runs") -> pd.DataFrame:
    """Return the runs of a file of docs/survey."""
    return pd.read_csv(FOLDER / f"{name}.csv", dtype={"failure": str}).fillna({"failure": ""})


def read_verdicts() -> pd.DataFrame:
    """Return the table of :func:`write_verdicts` as it was written."""
    texts = dict.fromkeys(("verdict", "alone", "verdict_given", "again"), "")
    return pd.read_csv(FOLDER / "verdicts.csv").fillna(texts)


def judge_task(runs: pd.DataFrame, baseline: str | None, column: str = "score") -> actlab.Judgement:
    """Judge the runs of one task.

    Args:
        runs: Its rows of :func:`read_runs`.
        baseline: Judge only pairs with this activation; None for all pairs.
        column: The score.
    """
    table = runs[["activation", "split", "fold", "seed", column]]
    return actlab.judge(table, score=column, method="activation", rope=REGION, baseline=baseline)


def list_verdicts(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per task and activation: means, and the verdict on the difference from relu.

    The columns: ``task``; ``activation``; ``mean`` and ``as_given``, the mean scores when tuned and with the
    settings as given; ``normalized``, the mean of scaled scores; ``rank``, one more than the number of
    activations that are better in a test of all pairs; ``lost``, the share of runs that fail or do no better
    than a constant; ``verdict``, ``difference``, ``low``, ``high``, ``p`` and ``p_holm`` against relu;
    ``alone``, the verdict if this pair were the only one; and ``verdict_given``, the verdict with the
    settings as given.
    """
    rows = []
    for task, own in runs.groupby("task", sort=False):
        ranks = judge_task(own, None).ranking.set_index("method")["rank"]
        given = judge_against_relu(own, "as_given")
        verdicts = judge_against_relu(own, "score")
        for name, each in own.groupby("activation", sort=False):
            lost = float(((each["normalized"] <= 0) | each["score"].isna()).mean())
            means = each["score"].mean(), each["as_given"].mean(), each["normalized"].mean()
            rank = ranks.get(name, math.nan)
            none = ("", "", *[math.nan] * 5)
            rows.append((task, name, *means, rank, lost, *verdicts.get(name, none), given.get(name, none)[0]))
    columns = ["task", "activation", "mean", "as_given", "normalized", "rank", "lost"]
    columns += ["verdict", "alone", "difference", "low", "high", "p", "p_holm", "verdict_given"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(rank=table["rank"].astype("Int64"))


def judge_against_relu(runs: pd.DataFrame, column: str) -> dict[str, tuple[Any, ...]]:
    """Return what :func:`list_verdicts` lists on each activation against relu, for one task."""
    verdicts = {}
    for row in judge_task(runs, BASELINE, column).verdicts.to_dict("records"):
        name, sign = (row["b"], -1) if row["a"] == BASELINE else (row["a"], 1)
        opposite = {"better": "worse", "worse": "better"}.get(row["verdict"], row["verdict"])
        low, high = sorted((sign * row["low"], sign * row["high"]))
        verdict = row["verdict"] if sign == 1 else opposite
        alone = verdict
        if verdict == "undecided" and row["p"] <= LEVEL:
            alone = "better" if sign * row["difference"] > 0 else "worse"
        verdicts[name] = verdict, alone, sign * row["difference"], low, high, row["p"], row["p_holm"]
    return verdicts


def list_properties(names: Sequence[str]) -> pd.DataFrame:
    """Return the properties of activations, one row each, as numbers."""
    rows = {}
    for name in names:
        definition = actlab.catalogue[name.partition("(")[0]]
        moments = gaussian_moments(name)
        low, high = definition.range(**definition.facts.example)
        rows[name] = {
            "gain": moments.gain,
            "mean at N(0, 1)": abs(moments.mean),
            "gradient per layer": abs(math.log(moments.slope / moments.second))
            if moments.slope > 0
            else math.nan,
            "stable variance": abs(moments.variance_slope),
            "kinks": len(definition.kinks(**definition.facts.example)),
            "bounded": float(math.isfinite(low) and math.isfinite(high)),
            "monotonic": float(bool(definition.facts.monotonic)),
        }
    return pd.DataFrame(rows).T


def summarize(verdicts: pd.DataFrame, costs: dict[str, float]) -> pd.DataFrame:
    """Return one row per activation, best mean rank first.

    The columns: ``mean_rank`` over tasks and ``normalized``, the mean over tasks, both of scaled scores;
    ``better``, ``worse``, ``equivalent`` and ``undecided``, the numbers of tasks with these verdicts against
    relu; ``ahead`` and ``behind``, those with "better" and "worse" if the pair were the only one; ``lost``,
    the tasks on which most runs are lost; ``p_holm`` of Wilcoxon's test against relu over
    tasks; and ``nanoseconds``.
    """
    means = verdicts.pivot_table(index="task", columns="activation", values="normalized", sort=False)
    ranks = compare_over_datasets(means).ranks.set_index("activation")["mean_rank"]
    others = [name for name in means if name != BASELINE]
    p_values = [compare_over_datasets(means[[BASELINE, name]]).p_value for name in others]
    corrected = dict(zip(others, holm(np.array(p_values)).tolist(), strict=True))
    rows = []
    for name, own in verdicts.groupby("activation", sort=False):
        counts = own["verdict"].value_counts()
        rows.append(
            {
                "activation": name,
                "mean_rank": ranks[name],
                "normalized": own["normalized"].mean(),
                **{kind: int(counts.get(kind, 0)) for kind in KINDS},
                "ahead": int((own["alone"] == "better").sum()),
                "behind": int((own["alone"] == "worse").sum()),
                "lost": ", ".join(own[own["lost"] > 0.5]["task"]),
                "p_holm": corrected.get(name, math.nan),
                "nanoseconds": costs.get(str(name), math.nan),
            }
        )
    return pd.DataFrame(rows).sort_values("mean_rank", kind="stable", ignore_index=True)


def correlate(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlations of properties and scaled scores: one row per task, one column each.

    Correlations that are significant over the whole table, with Holm's correction, are marked in the columns
    that end with ``*``.
    """
    means = verdicts.pivot_table(index="activation", columns="task", values="normalized", sort=False)
    properties = list_properties(list(means.index))
    rows, p_values = [], []
    for task in means:
        found = [stats.spearmanr(properties[name], means[task], nan_policy="omit") for name in properties]
        rows.append([float(one.statistic) for one in found])
        p_values += [float(one.pvalue) for one in found]
    significant = holm(np.nan_to_num(np.array(p_values), nan=1.0)).reshape(len(rows), -1) <= LEVEL
    table = pd.DataFrame(rows, columns=list(properties), index=list(means))
    marks = pd.DataFrame(significant, columns=[f"{name}*" for name in properties], index=table.index)
    return pd.concat([table, marks], axis=1)


def compare_repeated(runs: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Return one row per task and activation that was trained again: both verdicts against relu."""
    rows = []
    for task, own in again.groupby("task", sort=False):
        names = own["activation"].unique()
        first = runs[(runs["task"] == task) & runs["activation"].isin(names)]
        verdicts = [
            list_verdicts(table).set_index("activation")["verdict"].to_dict() for table in (first, own)
        ]
        rows += [(task, name, *(one[name] for one in verdicts)) for name in names if name != BASELINE]
    return pd.DataFrame(rows, columns=["task", "activation", "first", "again"])


# -- the page -----------------------------------------------------------------------------------------------


def format_page() -> str:
    """Return the page."""
    runs, about = read_runs(), json.loads((FOLDER / "about.json").read_text(encoding="utf-8"))
    verdicts = read_verdicts()
    summary = summarize(verdicts, about["nanoseconds"])
    tasks, names = (list(verdicts[column].unique()) for column in ("task", "activation"))
    correlations = correlate(verdicts)
    return _PAGE.format(
        activations=len(names),
        tasks=len(tasks),
        seeds=SEEDS,
        pairs=len(runs) // len(names) // len(tasks),
        trained=about["trained"],
        hours=about["hours"],
        core_hours=about["core_hours"],
        per_hour=round(about["trained"] / about["core_hours"], -2),
        machine=about["machine"],
        advice="\n".join(f"- {one}" for one in advise(verdicts, summary)),
        summary=_format_summary(summary),
        confirmed=_format_confirmed(verdicts),
        chosen=CONFIRMED,
        by_task=_format_tasks(verdicts),
        known="\n".join(f"| {' | '.join(row)} |" for row in check_known_results(verdicts)),
        properties=_format_properties(correlations),
        predictions="\n".join(f"- {one}" for one in describe_predictions(correlations)),
        null=_describe_null(pd.read_csv(FOLDER / "null.csv")),
        repeated=_describe_repeated(compare_repeated(runs, read_runs("repeated"))),
        excluded=_join(sorted({row["activation"] for row in about["excluded"]} | set(WITHOUT_DEFAULTS))),
    )


def advise(verdicts: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """Return advice as sentences. Each follows from verdicts of the first or second round."""
    tasks = verdicts["task"].nunique()
    others = summary[summary["activation"] != BASELINE]
    most_lost = verdicts.groupby("activation")["lost"].max()
    safe = others[(others["behind"] == 0) & (others["activation"].map(most_lost) == 0)]
    better = verdicts[(verdicts["verdict"] == "better") | (verdicts["again"] == "better")]
    counts = better["activation"].value_counts().reindex(safe["activation"]).dropna()
    most = [f"{name} ({int(count)})" for name, count in counts.sort_values(ascending=False).items()]
    same = [task for task in verdicts["task"].unique() if task not in set(better["task"])]
    often = summary[summary["worse"] >= tasks / 4].sort_values("worse", ascending=False)
    below = [
        f"{name} on `{task}` ({own.loc[name, 'mean']:.2f}, relu {own.loc[BASELINE, 'mean']:.2f})"
        for task, own in verdicts.set_index("activation").groupby("task", sort=False)
        for name in safe["activation"]
        if own.loc[name, "normalized"] < own.loc[BASELINE, "normalized"] - _MUCH
    ]
    differ = summary[summary["p_holm"] <= LEVEL]["activation"]
    sentences = [
        f"**Safe default.** {_join(safe['activation'])} are not behind relu on any of the {tasks} tasks, "
        "even in single-pair verdicts, and none of their runs was lost. Better than relu on some tasks: "
        f"{_join(most)}. Some of their means are much lower than relu's, but not significantly: "
        f"{_join(below)}.",
        f"**Over all tasks**, only {_join(f'`{name}`' for name in differ)} {_differs(differ)} from relu "
        "(Wilcoxon's test, Holm's correction).",
    ]
    for title, names in _KINDS_OF_TASK.items():
        for task in names:
            own = verdicts[verdicts["task"] == task]
            found = better[better["task"] == task].sort_values("again_mean", ascending=False)
            listed = [f"{row.activation} ({_number(row.again_mean)})" for row in found.itertuples()]
            lead = f"{_join(listed)} {_are(listed)}" if listed else "no activation is"
            relu = _number(own.set_index("activation").loc[BASELINE, "again_mean"])
            ties = (own["rank"] == 1).sum()
            sentences.append(
                f"**{title}** (`{task}`): {lead} better than relu ({relu}). In the test of all "
                f"pairs, {ties} activations are not significantly worse than any other."
            )
    sentences.append(
        f"**No evidence of a difference.** On {len(same)} of {tasks} tasks no activation is better than "
        f"relu: {_join([f'`{task}`' for task in same])}. There, other reasons can decide, such as speed or "
        "export."
    )
    equal = verdicts[verdicts["verdict"] == "equivalent"].groupby("task", sort=False).size()
    half = equal[equal > len(others) / 2]
    most = [f"`{task}` ({count} of {len(others)})" for task, count in half.items()]
    if most:
        sentences.append(f"**Equivalent.** Most activations are equivalent to relu on {_join(most)}.")
    if len(often):
        listed = [f"{row.activation} ({row.worse} tasks)" for row in often.itertuples()]
        sentences.append(
            "**Avoid unless you have a reason.** Worse than relu on a quarter of the tasks or more: "
            f"{_join(listed)}."
        )
    settings = _count_settings(verdicts)
    sentences.append(
        f"**Tune before you judge.** With the settings as given, {settings[0]} of {settings[1]} combinations "
        f"are worse than relu; {settings[2]} of these are not worse when tuned."
    )
    return sentences


_MOST = 8  # names in a sentence
_MUCH = 0.1  # of the scaled score
_KINDS_OF_TASK = {
    "For deep networks without normalization": ["deep-perceptron"],
    "For coordinate networks": ["image-fitting"],
    "For physics-informed networks": ["poisson"],
    "For autoencoders": ["digits-autoencoder"],
    "For regressions with few, noisy samples": ["diabetes"],
    "For recurrent cells": ["digits-rnn"],
}


def _count_settings(verdicts: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many combinations are worse as given, how many there are, and how many differ tuned."""
    others = verdicts[verdicts["activation"] != BASELINE]
    worse = others[others["verdict_given"] == "worse"]
    return len(worse), len(others), int((worse["verdict"] != "worse").sum())


def _mean_of(table: pd.DataFrame, name: str) -> float:
    return float(table.set_index("activation")["mean"][name])


def _are(names: Any) -> str:
    return "is" if len(names) == 1 else "are"


def _differs(names: Any) -> str:
    return "differs" if len(names) == 1 else "differ"


def _join(names: Any) -> str:
    listed = [str(name) for name in names]
    return " and ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]])) or "none"


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _format_summary(summary: pd.DataFrame) -> str:
    rows = []
    for row in summary.to_dict("records"):
        name = row["activation"]
        page = f"[{name}](functions/{name.partition('(')[0]}.md)"
        columns = (*KINDS, "ahead", "behind")
        counts = ["–" if name == BASELINE else str(row[column]) for column in columns]
        cost = _number(row["nanoseconds"], 1)
        rows.append(
            [page, f"{row['mean_rank']:.1f}", _number(row["normalized"]), *counts, row["lost"] or "–", cost]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _format_confirmed(verdicts: pd.DataFrame) -> str:
    rows = []
    again = verdicts.dropna(subset="again_mean").sort_values("again_mean", ascending=False)
    for task in verdicts["task"].unique():
        own = again[again["task"] == task]
        named = own["activation"] + " " + own["again_mean"].map(_number)
        cells = [", ".join(named[own["again"] == kind]) or "–" for kind in KINDS]
        relu = own[own["activation"] == BASELINE]["again_mean"].item()
        rows.append([f"`{task}`", _number(relu), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _format_tasks(verdicts: pd.DataFrame) -> str:
    rows = []
    for task, own in verdicts.groupby("task", sort=False):
        counts = own["verdict"].value_counts()
        own = own.sort_values("mean", ascending=False)
        best, worst = own.iloc[0], own.dropna(subset="mean").iloc[-1]
        as_given = int((own["verdict_given"] == "worse").sum())
        rows.append(
            [
                f"`{task}`",
                _number(_mean_of(own, BASELINE)),
                f"{best['activation']} {_number(best['mean'])}",
                f"{worst['activation']} {_number(worst['mean'])}",
                *(str(int(counts.get(kind, 0))) for kind in KINDS),
                str(as_given),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def check_known_results(verdicts: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return results that are known from papers or theory, what the survey found, and whether they agree."""
    tuned = verdicts.set_index(["task", "activation"])
    image = verdicts[verdicts["task"] == "image-fitting"].sort_values("mean", ascending=False).iloc[0]
    relu, sine, gelu = (tuned.loc[("poisson", name)] for name in ("relu", "sine(omega=3)", "gelu"))
    shallow = tuned.loc[("digits-perceptron", "sigmoid")]
    deep = tuned.loc[("deep-perceptron", "sigmoid")]
    checks = [
        (
            "A sine fits images from coordinates best (Sitzmann et al. 2020)",
            f"highest mean: {image['activation']} ({image['mean']:.3f}); trained again: {image['again']} "
            "than relu",
            image["activation"].startswith("sine") and image["again"] == "better",
        ),
        (
            "ReLU has no second derivative, so it cannot solve a differential equation of second order",
            f"mean R² on poisson: relu {_number(relu['mean'])}, sine(omega=3) {_number(sine['mean'])}, gelu "
            f"{_number(gelu['mean'])}; trained again, both are {sine['again']} than relu",
            relu["mean"] < 0.2 and sine["again"] == gelu["again"] == "better",
        ),
        (
            "A tuned sigmoid is not worse in a shallow network",
            f"{shallow['mean']:.3f} tuned, {shallow['as_given']:.3f} as given: {shallow['verdict']}",
            shallow["verdict"] != "worse",
        ),
        (
            "A sigmoid does not train 30 layers with the usual initialization",
            f"{deep['as_given']:.3f} as given, {deep['mean']:.3f} tuned, with either initialization",
            deep["as_given"] < 0.2,
        ),
    ]
    return [(claim, found, "yes" if agrees else "no") for claim, found, agrees in checks]


def _format_properties(table: pd.DataFrame) -> str:
    names = [name for name in table if not str(name).endswith("*")]
    lines = [f"| task | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    for task, row in table.iterrows():
        cells = [
            f"**{_number(row[name], 2)}**" if row[f"{name}*"] else _number(row[name], 2) for name in names
        ]
        lines.append(f"| `{task}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def describe_predictions(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each property: on which tasks it predicts the score."""
    sentences = []
    for name in (name for name in table if not str(name).endswith("*")):
        rows = table[table[f"{name}*"]]
        signs = {"higher": rows[rows[name] > 0].index, "lower": rows[rows[name] < 0].index}
        found = [
            f"{way} scores on {_join([f'`{one}`' for one in tasks])}"
            for way, tasks in signs.items()
            if len(tasks)
        ]
        sentences.append(f"*{name}*: {' and '.join(found) if found else 'no significant correlation'}.")
    return sentences


def _describe_null(table: pd.DataFrame) -> str:
    wrong = table.assign(wrong=table["verdict"].isin(["better", "worse"])).groupby("task", sort=False)[
        "wrong"
    ]
    most = wrong.mean().max()
    return (
        f"In {len(table)} comparisons of relu with its mirror image −relu(−x), which is equally good, on "
        f"{table['task'].nunique()} tasks, {int(wrong.sum().sum())} verdicts are wrong "
        f"({100 * wrong.sum().sum() / len(table):.1f} %). On a single task, at most {100 * most:.0f} % are."
    )


def _describe_repeated(table: pd.DataFrame) -> str:
    opposite = table[(table["first"] + table["again"]).isin(["betterworse", "worsebetter"])]
    decided = table[table["first"].isin(["better", "worse"])]
    kept = int((decided["first"] == decided["again"]).sum())
    new = table[~table["first"].isin(["better", "worse"]) & table["again"].isin(["better", "worse"])]
    return (
        f"{len(table)} combinations of task and activation were trained again from other seeds and on other "
        f"folds. Number of reversed verdicts: {len(opposite)}. Of {len(decided)} pairs that were better or "
        f"worse, {kept} had the same verdict again; {len(decided) - kept} became undecided or equivalent. "
        f"Number of pairs that were better or worse only the second time: {len(new)}."
    )


def draw_differences(verdicts: pd.DataFrame, summary: pd.DataFrame, path: Path) -> None:
    """Draw the differences from relu as a heat map, with the verdicts."""
    import matplotlib.pyplot as plt

    names = [name for name in summary["activation"] if name != BASELINE]
    scaled = verdicts.pivot_table(index="activation", columns="task", values="normalized", sort=False)
    marks = verdicts.pivot_table(
        index="activation", columns="task", values="verdict", aggfunc="first", sort=False
    )
    difference = (scaled.loc[names] - scaled.loc[BASELINE]).to_numpy()
    figure, axes = plt.subplots(figsize=(9.5, 12), layout="constrained")
    image = axes.imshow(difference, cmap="RdBu", vmin=-0.2, vmax=0.2, aspect="auto")
    axes.set_xticks(range(len(scaled.columns)), scaled.columns, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    signs = {"better": "+", "worse": "−", "equivalent": "="}
    for i, name in enumerate(names):
        for j, task in enumerate(scaled.columns):
            shade = "white" if abs(difference[i, j]) > 0.13 else "black"
            axes.text(j, i, signs.get(marks.loc[name, task], ""), ha="center", va="center", color=shade)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(scaled.columns)), scaled.columns, rotation=45, ha="left")
    figure.colorbar(image, label="difference of the scaled score from relu", shrink=0.4, extend="both")
    figure.savefig(path, dpi=110)
    plt.close(figure)


_PAGE = """# Which activation should I use?

The survey trained {activations} activations of the catalogue on {tasks} [tasks](guide/tasks.md) each, with
{pairs} paired runs ({seeds} seeds, 3 folds). Every run chose its learning rate and its initialization on
validation samples, with the same budget for every activation. The survey trained {trained:,} networks in
total, most of them for only a twelfth of the epochs. This took {hours} hours on two cores that also did other
work, or {core_hours} core hours: {per_hour:,.0f} networks per core hour ({machine}).

A verdict compares an activation with relu on one task: **better** or **worse** (probability of any wrong
verdict on a task at most 5 %), **equivalent** (the difference is at most 0.01), or **undecided**. These
verdicts are corrected for all pairs. A *single-pair* verdict is not corrected for the other pairs: use it
only for an activation that you chose before you saw the results. A run is *lost* if it fails or does no
better than a constant. The {chosen} activations with the highest means on each task were [trained
again](#the-best-of-each-task-trained-again) with more runs. The advice uses both rounds.

## Advice

{advice}

## All activations

Click a heading to sort. *Scaled* is the mean score over tasks, where 0 is the best constant prediction and 1
a perfect one. *Ahead* and *behind* count the tasks on which the single-pair verdict is better or worse
(p ≤ 0.05 without correction): use them only if you had this activation in mind before you read the table.
*Lost on* lists tasks on which most runs are lost. *ns* is the time of forward and backward in eager mode, in
nanoseconds per element.

:::{{table}}
:class: sortable

| activation | mean rank | scaled | better | worse | equivalent | undecided | ahead | behind | lost on | ns |
|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|
{summary}
:::

`celu` and `elu`, `silu` and `swish`, and `tanhexp` and `telu` are the same functions at their defaults. Their
differences show how much of a rank comes from rounding. If no function differed from relu, a function would
be ahead on 0.4 of the 16 tasks on average.

![Differences from relu, by activation and task. Blue is better, red is worse.](survey/differences.png)

`+` is better than relu, `−` worse, `=` equivalent; without a sign, the pair is undecided.

## The best of each task, trained again

With 12 runs and 43 pairs on each task, only large differences can be decided. Therefore relu and the {chosen}
activations with the highest means on a task were trained again with 10 folds and 2 other seeds
(`text-transformer`: 8 folds). This gives 20 runs and only {chosen} pairs. Only the new runs count for the
verdicts, so the selection does not favour these activations. The table shows the new means, grouped by the
verdict against relu.

| task | relu | better | worse | equivalent | undecided |
|---|--:|---|---|---|---|
{confirmed}

## By task

The numbers count activations by their verdict against relu. *Worse as given* counts those that are worse
with the task's own learning rate and torch's initialization, without tuning.

| task | relu | highest mean | lowest mean | better | worse | equivalent | undecided | worse as given |
|---|--:|---|---|--:|--:|--:|--:|--:|
{by_task}

## Known results

| known | found | agrees |
|---|---|---|
{known}

## What properties predict

The table shows Spearman's correlation of each property with the scaled score over the {activations}
activations. Bold values are significant after Holm's correction for the whole table. *gain* is 1/√E[f(z)²];
*mean at N(0, 1)* is |E f(z)|; *gradient per layer* is |log(E f'(z)²/E f(z)²)|, which is 0 if layers do not
change the size of gradients; *stable variance* is below 1 if signals return to variance 1
([depth](depth.md)).

{properties}

{predictions}

## How reliable is it?

- **Without a difference.** {null}
- **Repeated.** {repeated}

## Reproduce

<!-- not run: it trains for hours -->
```sh
python -m benchmarks.survey train --data-dir DIR
python -m benchmarks.survey
python -m benchmarks.survey confirm --data-dir DIR
python -m benchmarks.survey repeat --data-dir DIR
python -m benchmarks.survey null --data-dir DIR
python -m benchmarks.survey
```

The third command retrains, for each task, relu and the {chosen} activations with the highest means in the
results of the second command. The runs are in `docs/survey/runs.csv` and `docs/survey/confirmed.csv`, the
verdicts in `docs/survey/verdicts.csv`. `actlab judge` can judge the runs of a task together with your own
runs.

## Limits

- The tasks are small: at most 5,000 samples and seconds of training. A large model may behave differently.
- On `poisson`, the validation score compares the network with the exact solution, so tuning uses the
  solution.
- Learning rate and initialization were tuned; epochs, widths and optimizers were not.
- With 12 runs on 3 folds, only large differences can be decided. Most pairs are undecided, which is not
  evidence that the two are equal. Only the verdict "equivalent" is such evidence.
- Gated units are not part of the survey, nor are {excluded}, which need an argument. `sine(omega=3)` is
  added, because the default frequency of `sine` is meant for the first layer."""


def main() -> None:
    """Run one step of the survey."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "step", nargs="?", choices=("train", "confirm", "repeat", "null", "page"), default="page"
    )
    parser.add_argument("--data-dir", type=Path, help="folder with the files of MNIST")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "actlab-survey")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if arguments.step == "train":
        train(arguments.out, arguments.data_dir)
    elif arguments.step == "confirm":
        confirm(arguments.data_dir)
    elif arguments.step == "repeat":
        repeat(arguments.data_dir)
    elif arguments.step == "null":
        compare_mirrored(arguments.data_dir)
    else:
        write_page()


def write_page() -> None:
    """Write verdicts, figure and page."""
    write_verdicts()
    verdicts = read_verdicts()
    about = json.loads((FOLDER / "about.json").read_text(encoding="utf-8"))
    draw_differences(verdicts, summarize(verdicts, about["nanoseconds"]), FOLDER / "differences.png")
    PAGE.write_text(format_page(), encoding="utf-8")


def write_verdicts() -> None:
    """Write the table of :func:`list_verdicts`, with ``again_mean`` and ``again`` of the second round."""
    again = list_verdicts(read_runs("confirmed"))[["task", "activation", "mean", "verdict"]]
    again = again.rename(columns={"mean": "again_mean", "verdict": "again"})
    table = list_verdicts(read_runs()).merge(again, how="left", on=["task", "activation"])
    table.round(6).to_csv(FOLDER / "verdicts.csv", index=False)


if __name__ == "__main__":
    main()

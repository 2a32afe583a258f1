"""Sentences on a comparison, on one run, and on a comparison that is not finished."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from actlab.errors import join_names
from actlab.report.insights import count_finite_epochs, history_insights, measure_final_gain

if TYPE_CHECKING:
    from actlab.comparison.comparison import Comparison

_HINTS = {
    "tuned": "Activations that diverge or stay at chance level may need more epochs or another network.",
    "as given": (
        "Activations that diverge or stay at chance level may need another learning rate or initialization; "
        "compare without --no-tune (tune=None) to choose them."
    ),
}
_SPLITS = {
    "group": "Folds keep all samples of a group together.",
    "time": "Folds over time: each model is tested on samples that follow its training samples in the data.",
}
_MAX_PAIRS = 12  # sentences on pairs, and names of ties; the tables have all
_MAX_LAYERS = 4  # with a trained parameter each in a sentence
_MAX_TARGETS = 4  # whose units are in a sentence
_JUDGED = {"metric", "points", "region", "region_is", "tuned", "trained"}


def describe_report(comparison: Comparison) -> list[str]:
    """Return the sentences at the top of a report, the most important first."""
    about = comparison.about
    if about.get("kind") == "training":
        return [*describe_training(comparison.results, comparison.history), *describe_data(about)]
    if about.get("kind") == "judgement":
        return list(about["sentences"])
    if progress := about.get("unfinished"):
        return describe_progress(progress, comparison.ranking, about.get("metric", "score"))
    if set(about) >= _JUDGED:
        return describe_comparison(comparison)
    means = pd.to_numeric(comparison.ranking["mean"], errors="coerce")
    if means.notna().sum() < 2:
        return ["Fewer than two activations have a mean score."]
    best = str(comparison.ranking["activation"].iloc[int(means.argmax())])
    return [f"Highest mean: {best}.", "The folder does not contain the settings of the comparison."]


def name_subject(about: Mapping[str, Any]) -> str:
    """Return what is compared: activations, or any methods."""
    return str(about.get("subject", "method" if about.get("kind") == "judgement" else "activation"))


def describe_data(about: Mapping[str, Any]) -> list[str]:
    """Describe how a table was encoded; an empty list for other data."""
    return [f"Data: {about['preprocessing']}."] if about.get("preprocessing") else []


# -- verdicts -------------------------------------------------------------------------------------


def describe_comparison(comparison: Comparison) -> list[str]:
    """Describe the result of a comparison.

    Args:
        comparison: The comparison.

    Returns:
        Sentences on the best activation, on pairs, on activations without a rank, on the region of
        practical equivalence and on the number of runs.
    """
    ranking, about = comparison.ranking, comparison.about
    only_one_ranked = len(ranking) > 1 and ranking["rank"].notna().sum() == 1
    pairs = _describe_pairs(comparison)
    without_rank = _describe_unranked(comparison)
    return [
        *_describe_best(comparison),
        *_describe_settings(comparison),
        *(without_rank + pairs if only_one_ranked else pairs + without_rank),
        *_describe_region(about, len(ranking)),
        *_describe_units(about),
        *_describe_split(about, len(ranking)),
        *_describe_runs(comparison),
        *_describe_choices(comparison),
        *_describe_parameters(comparison.parameters),
        *describe_data(about),
    ]


def _describe_best(comparison: Comparison) -> list[str]:
    ranking, metric = comparison.ranking, comparison.about["metric"]
    first = ranking[ranking["rank"] == 1]
    if first.empty:
        return [f"No {name_subject(comparison.about)} has a rank."]
    counts = sorted(set(first["runs"]))
    runs = " or ".join(map(str, counts)) if len(counts) < 3 else f"{counts[0]} to {counts[-1]}"
    runs += f" run{'s' * (counts != [1])}"
    if len(first) > 1:
        shown = first.head(_MAX_PAIRS)
        means = ", ".join(f"{row['activation']} ({row['mean']:.4f})" for _, row in shown.iterrows())
        means += f" and {rest} more" if (rest := len(first) - len(shown)) else ""
        verdicts = comparison.verdicts
        among = verdicts["a"].isin(first["activation"]) & verdicts["b"].isin(first["activation"])
        ties = {"equivalent": "Tied for first (practically equivalent)", "none": "Not judged"}
        outcomes = set(verdicts[among]["verdict"])
        tie = ties.get(
            outcomes.pop() if len(outcomes) == 1 else "", "Tied for first (no significant difference)"
        )
        return [f"{tie}: {means}; mean {metric} over {runs}."]
    name, mean = first.iloc[0][["activation", "mean"]]
    if len(ranking) == 1:
        return [f"{name}: mean {metric} {mean:.4f} over {runs}."]
    if ranking["rank"].notna().sum() == 1:
        return [f"Only {name} has a rank: mean {metric} {mean:.4f} over {runs}."]
    return [f"Best: {name}, mean {metric} {mean:.4f} over {runs}."]


def _describe_pairs(comparison: Comparison) -> list[str]:
    verdicts, ranking = comparison.verdicts, comparison.ranking
    if verdicts.empty:
        one = f"There is only one {name_subject(comparison.about)}, so there is nothing to compare."
        return [one if len(ranking) < 2 else "There are no verdicts."]
    order = {name: position for position, name in enumerate(ranking["activation"])}
    failed = set(ranking[ranking["mean"].isna()]["activation"])  # another sentence describes these
    ranked = set(ranking[ranking["rank"].notna()]["activation"])
    rows = [
        row
        for _, row in verdicts.iterrows()
        if not failed & {row["a"], row["b"]} and ranked & {row["a"], row["b"]}
    ]
    reasons = {(row["verdict"], row["reason"]) for row in rows}
    if len(rows) > 1 and len(reasons) == 1 and rows[0]["verdict"] == "none":
        return [f"No verdict on any of {len(rows)} pairs: {rows[0]['reason']}."]
    rows.sort(key=lambda row: sorted((order[row["a"]], order[row["b"]])))
    tested = int(verdicts["p_holm"].notna().sum())
    corrected = f" corrected for {tested} pairs" if tested > 1 else ""  # by Holm; the interval is not
    points, unpaired = bool(comparison.about["points"]), bool(comparison.about.get("unpaired"))
    sentences = [
        _describe_pair(row, points, corrected, unpaired)
        + (f" {gain}" if (gain := _describe_gain(row, comparison)) else "")
        for row in rows[:_MAX_PAIRS]
    ]
    if rest := len(rows) - len(sentences):
        sentences.append(f"{rest} more pairs are in the table of verdicts.")
    return sentences


def _describe_pair(row: pd.Series[Any], points: bool, corrected: str, unpaired: bool) -> str:
    if row["verdict"] == "none":
        return f"{row['a']} and {row['b']}: no verdict; {row['reason']}."
    sign = -1 if row["difference"] < 0 else 1
    a, b = (row["a"], row["b"])[::sign]
    low, high = (_format_number(end, points, "+") for end in sorted((sign * row["low"], sign * row["high"])))
    interval = f"{100 * (1 - row['level']):.3g} % interval {low} to {high}"
    gap = f"{_format_difference(abs(row['difference']), points)} ({interval})"
    p = f"p = {row['p_holm']:.3g}{corrected}"
    if row["verdict"] in ("better", "worse"):
        wins = row["wins"] if sign == 1 else 1 - row["wins"]
        ahead = f"{a} is ahead in {wins:.0%} of {row['runs']} pairs of runs"
        if unpaired:
            ahead = f"a run of {a} is better than one of {b} with a probability of {wins:.0%}"
        return f"{b} is worse than {a} by {gap}; {p}; {ahead}."
    if row["verdict"] == "equivalent":
        probability = f"{row['p_equivalent']:.1%}"
        return f"{a} and {b} are practically equivalent: difference {gap}, {probability} within the region."
    return f"{a} and {b}: undecided; difference {gap}, {p}; {row['reason']}."


def _describe_gain(row: pd.Series[Any], comparison: Comparison) -> str:
    """Return a sentence on a worse activation that still improved at the end; empty if there is none."""
    if row["verdict"] not in ("better", "worse") or comparison.history.empty:
        return ""
    loser = row["a"] if row["verdict"] == "worse" else row["b"]
    history = comparison.history[comparison.history["activation"] == loser]
    column, gain = measure_final_gain(history)
    if not gain:
        return ""
    is_accuracy = column == "valid_acc"
    amount = (
        f"gaining {_format_difference(gain, True)}" if is_accuracy else f"lowering its loss by {gain:.3g}"
    )
    last = int(history["epoch"].max())
    return f"{loser} had not converged after {last} epochs: it was still {amount} per epoch."


def _describe_settings(comparison: Comparison) -> list[str]:
    """Return sentences on activations whose verdicts depend on the settings."""
    given = comparison.as_given
    if given is None or len(comparison.ranking) < 2:
        return []
    standings = [_describe_standings(one) for one in (given, comparison)]
    sentences, points = [], bool(comparison.about["points"])
    for name in comparison.ranking["activation"]:
        before, after = (standing.get(name, "") for standing in standings)
        if before and not after:
            rank, gap = _describe_rank(name, comparison.ranking), _measure_gap(name, comparison)
            behind = f" ({_format_difference(gap, points)} below the highest mean)" * (gap > 0)
            is_explained = gap < _measure_gap(name, given) / 2
            why = "comes from the settings" if is_explained else "that remains is not significant"
            sentences.append(
                f"{name} {before} with the settings as given, and {rank} when tuned{behind}: "
                f"the difference {why}."
            )
        elif after and not before:
            sentences.append(
                f"{name} {after} when tuned, but is not significantly worse with the settings as given."
            )
        elif before.split()[:2] != after.split()[:2]:  # chance level, diverged, failed or worse
            sentences.append(f"{name} {before} with the settings as given, and {after} when tuned.")
    return sentences or ["Tuning does not change which activations are significantly worse."]


def _describe_standings(comparison: Comparison) -> dict[str, str]:
    """Describe the activations that have no rank or are significantly worse than others."""
    losses: dict[str, dict[str, float]] = {}
    for _, row in comparison.verdicts.iterrows():
        if row["verdict"] in ("better", "worse"):
            loser, winner = (row["a"], row["b"])[:: 1 if row["verdict"] == "worse" else -1]
            losses.setdefault(loser, {})[winner] = abs(row["difference"])
    points = bool(comparison.about["points"])
    standings = {name: f"is worse than {_format_losses(worse, points)}" for name, worse in losses.items()}
    for _, row in comparison.ranking[comparison.ranking["rank"].isna()].iterrows():
        standings[row["activation"]] = _describe_status(row, comparison.about)
    return standings


def _describe_status(row: pd.Series[Any], about: Mapping[str, Any]) -> str:
    status = str(row["status"])
    if not status.startswith("chance"):
        return status
    level = about.get("chance_level")
    value = "" if level is None else f" ({round(level, 4) + 0.0:.4f})"  # -0.0 + 0.0 is 0.0
    return f"is at {status.replace('level', f'level{value}')}"


def _describe_rank(name: str, ranking: pd.DataFrame) -> str:
    first = list(ranking[ranking["rank"] == 1]["activation"])
    if name not in first:
        return "is not significantly worse than any other"
    return "ties for first" if len(first) > 1 else "is the best"


def _measure_gap(name: str, comparison: Comparison) -> float:
    """Return by how much the mean of an activation is below the highest mean; infinite without a mean."""
    means = comparison.ranking.set_index("activation")["mean"]
    return math.inf if pd.isna(means[name]) else float(means.max() - means[name])


def _format_losses(losses: Mapping[str, float], points: bool) -> str:
    largest = _format_difference(max(losses.values()), points)
    return f"{join_names(list(losses))} by {'up to ' * (len(losses) > 1)}{largest}"


def _format_number(value: float, points: bool, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f}" if points else f"{value:{sign}.3g}"


def _format_difference(value: float, points: bool) -> str:
    """Return a difference in percentage points, or in units of a score that is not a share."""
    return f"{_format_number(value, points)}{' pp' if points else ''}"


def _describe_unranked(comparison: Comparison) -> list[str]:
    ranking, tuning = comparison.ranking, comparison.tuning
    sentences = []
    for _, row in ranking[ranking["status"] != ""].iterrows():
        rank = "; it has no rank" if pd.isna(row["rank"]) else ""
        name = row["activation"]
        trials = tuning[tuning["activation"] == name]["failure"] if len(tuning) else []
        always = ", with every setting that was tried" * (len(trials) > 0 and all(trials))
        sentences.append(f"{name} {_describe_status(row, comparison.about)}{always}{rank}.")
    hint = _HINTS["tuned" if comparison.about["tuned"] else "as given"]
    return sentences + [hint] * bool(ranking["status"].str.contains("^chance|diverged").any())


def _describe_region(about: Any, activations: int) -> list[str]:
    if activations < 2 or math.isnan(about["region"]) or not about["region_is"]:
        return []
    half_width = _format_difference(about["region"], about["points"])
    return [f"Region of practical equivalence: differences of at most {half_width} ({about['region_is']})."]


def _describe_units(about: Mapping[str, Any]) -> list[str]:
    """Return a sentence on the units of a regression's errors; none for other scores."""
    if (units := about.get("error_units")) is None:
        return []
    stds = [f"{std:.4g}{f' in {name}' if name else ''}" for std, name in units]
    known = f": an error of 1 is {join_names(stds)}" if 0 < len(stds) <= _MAX_TARGETS else ""
    return [f"Errors are in units of the standardized target{known}."]


def _describe_split(about: Mapping[str, Any], activations: int) -> list[str]:
    """Return sentences on a fixed test set, folds by group or over time, and weights."""
    if not (test := about.get("test")):
        sentences = [_SPLITS[about["split"]]] if about.get("split") in _SPLITS else []
        if about.get("weighted"):
            sentences.append("Losses and scores are weighted means over samples.")
        return sentences
    held_out = f", {count} of them for validation" if (count := test.get("validation_samples")) else ""
    training = f"{test['training_samples']} training samples{held_out}"
    sentences = [f"Fixed test set: {test['samples']} samples; {training}."]
    if test["missing_labels"]:
        labels = ", ".join(map(str, test["missing_labels"]))
        sentences.append(f"No test sample has the label{'s' * (len(test['missing_labels']) > 1)} {labels}.")
    if activations > 1:
        sentences.append(f"The verdicts hold for models trained on these training samples. {_explain(about)}")
    return sentences


def _explain(about: Mapping[str, Any]) -> str:
    """Return a sentence on what the intervals on a fixed test set include."""
    if not about["test"]["has_outcomes"]:
        reason = f"{about['metric']} is not a mean over samples"
        return f"They hold for exactly these test samples: {reason}, so only the seeds count."
    sources = "test samples" if about["seeds"] == 1 else "seeds and of test samples"
    return f"The intervals include the variance of {sources}."


def _describe_runs(comparison: Comparison) -> list[str]:
    about, runs = comparison.about, len(comparison.results)
    sentences = []
    if tuned := about["tuned"]:
        values = f"{about.get('grid_size', len(tuned))} combinations of {' and '.join(tuned[0])}"
        screened = about.get("screening_epochs")
        epochs = (
            f" for {screened} epoch{'s' * (screened > 1)} and the two best to the end" if screened else ""
        )
        total = f"{about.get('trained', 0)} trials for {runs} runs"
        sentences.append(f"Tuning: each run was trained with {values}{epochs}: {total}.")
    if test := about.get("sequential_test"):
        rounds = f"{test['interim_analyses']} round{'s' * (test['interim_analyses'] > 1)}"
        sentences.append(
            f"Sequential test: {runs} runs in {rounds} with up to {about['seeds']} seeds; "
            f"{test['stop_reason']}."
        )
    return sentences


def _describe_choices(comparison: Comparison) -> list[str]:
    """Return a sentence on the tuned values that each activation had most often."""
    tuned = comparison.about["tuned"]
    if not tuned or not set(tuned[0]) <= set(comparison.results):
        return []
    choices, extended = [], []
    grid = tuned[: comparison.about.get("grid_size", len(tuned))]
    scored = comparison.results[comparison.results["score"].notna()]
    for name, runs in scored.groupby("activation", sort=False):
        counts = runs[list(tuned[0])].value_counts()
        values = ", ".join(f"{n}={v}" for n, v in zip(tuned[0], counts.index[0], strict=True))
        choices.append(f"{name} {values} ({counts.iloc[0]} of {len(runs)} runs)")
        if "lr" in tuned[0] and (beyond := int((~runs["lr"].isin([one["lr"] for one in grid])).sum())):
            extended.append(f"{name} ({beyond} of {len(runs)} runs)")
    sentences = [f"Chosen most often: {'; '.join(choices)}."] if choices else []
    if extended:
        rates = [one["lr"] for one in grid]
        limits = f"of learning rates, {min(rates):g} to {max(rates):g},"
        sentences.append(f"The best rate was beyond the grid {limits} for {', '.join(extended)}.")
    return sentences


def _describe_parameters(parameters: pd.DataFrame) -> list[str]:
    """Return a sentence on the trained parameters of activations."""
    if parameters.empty:
        return []
    texts = []
    for (activation, name), rows in parameters.groupby(["activation", "name"], sort=False):
        layers = rows.groupby("layer")["value"]
        means = [
            f"{mean:.3g}{f' ± {std:.1g}' if count > 1 else ''}"
            for mean, std, count in zip(layers.mean(), layers.std(ddof=0), layers.size(), strict=True)
        ]
        shown = means if len(means) <= _MAX_LAYERS else [means[0], "…", means[-1]]
        texts.append(f"{activation} {name} {', '.join(shown)}")
    return [f"Trained parameters by layer, mean ± standard deviation over the runs: {'; '.join(texts)}."]


# -- without verdicts -----------------------------------------------------------------------------


def describe_training(results: pd.DataFrame, history: pd.DataFrame) -> list[str]:
    """Describe one run.

    Args:
        results: One row: its ``activation``, and its ``failure`` if it has one.
        history: One row per epoch.

    Returns:
        A headline, and insights into the history.
    """
    name = str(results["activation"].iloc[0])
    failure = results["failure"].iloc[0] if "failure" in results else ""
    failed = [f"The run failed: {failure}."] if isinstance(failure, str) and failure else []
    if history.empty:
        return [f"{name}: no epoch was recorded.", *failed]
    if not {"train_loss", "valid_loss"} <= set(history):
        return [f"{name}: {len(history)} epochs without a validation loss.", *failed]
    history = history.reset_index(drop=True)
    if "valid_acc" in history and history["valid_acc"].isna().all():  # a regression
        history = history.drop(columns="valid_acc")
    # The first insight, on the best epoch, is the headline unless the run diverged.
    return [_describe_best_epoch(name, history), *failed, *history_insights(history)[1:]]


def _describe_best_epoch(name: str, history: pd.DataFrame) -> str:
    if (count := count_finite_epochs(history)) < len(history):
        return f"{name}: training diverged in epoch {int(history['epoch'][count])} of {len(history)}."
    if "valid_acc" in history:
        best = history.iloc[int(history["valid_acc"].argmax())]
        score = f"accuracy {best['valid_acc']:.4f}"
    else:
        best = history.iloc[int(history["valid_loss"].argmin())]
        score = f"loss {best['valid_loss']:.4g}"
    epochs = f"{int(best['epoch'])} of {int(history['epoch'].iloc[-1])}"
    return f"{name}: validation {score} in the best epoch, {epochs}."


def describe_progress(progress: Mapping[str, Any], ranking: pd.DataFrame, metric: str) -> list[str]:
    """Describe the progress of a comparison that is running or was stopped.

    Args:
        progress: Number of runs that are ``done`` and ``planned``.
        ranking: The ranking so far.
        metric: The metric of the ranking.
    """
    done, planned = progress.get("done", 0), progress.get("planned", "?")
    sentences = [f"{done} of {planned} runs are done; verdicts follow when all are done."]
    if done == planned:
        sentences = [f"All {done} runs are done but not judged; run the same command again to judge them."]
    means = pd.to_numeric(ranking["mean"], errors="coerce")
    if means.notna().any():
        first = ranking.iloc[int(means.argmax())]
        runs = f" over {first['runs']} runs" if "runs" in ranking else ""
        kind = "Highest mean" if len(ranking) > 1 else "Mean"
        sentences.append(f"{kind} {metric} so far: {first['activation']}, {means.max():.4f}{runs}.")
    for _, row in ranking.iterrows() if "status" in ranking else ():
        if pd.notna(row["status"]) and row["status"]:
            sentences.append(f"{row['activation']}: {row['status']}.")
    return sentences

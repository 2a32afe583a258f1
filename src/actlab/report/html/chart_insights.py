"""Sentences on what the charts of a report show, computed from the same tables.

Arguments are tables of :class:`actlab.Comparison`, the names of its activations, and a short label for each.
A user module is not imported; its saved curve is used instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from actlab.describe import evaluate_derivatives
from actlab.errors import UsageError, join_names
from actlab.report.costs import average_by_activation, choose_memory_unit
from actlab.report.diagnostic_panels import compute_gradient_ratio, select_last_epochs, select_rows
from actlab.report.insights import Floats, count_finite_epochs, find_last_improvement, find_overfitting
from actlab.report.panels import Labels, Panel, resolve_module_to_draw, select_curve
from actlab.report.tables import to_numeric
from actlab.report.tuning_panels import Trials
from actlab.spec import find_definition, split_spec

Key = TypeVar("Key")

_MAX_LISTED = 5  # activations in a sentence; charts and tables show all
_MANY_DEAD = 0.01  # share of dead units that a sentence mentions
_GROWTH = 0.05  # growth of that share that a sentence mentions
_SIMILAR = 1.1  # costs within this factor are about the same
_REACH = 30.0  # slopes are examined from minus this to this
_FADED = 1e-6  # a slope of 0 next to a smaller slope is rounded, not exact


def _join(names: Sequence[str]) -> str:
    return join_names(names, _MAX_LISTED)


def format_percent(share: float) -> str:
    """Return a share in percent.

    Examples:
        >>> [format_percent(share) for share in (0.314, 0.004, 0.9996, 1.0, 0.0, 1e-5)]
        ['31 %', '0.4 %', 'more than 99.9 %', '100 %', '0 %', 'less than 0.1 %']
    """
    near = min(share, 1 - share)
    if 0 < near < 0.001:
        return "less than 0.1 %" if share < 0.5 else "more than 99.9 %"
    return f"{100 * share:.{1 if 0 < near < 0.01 else 0}f} %"


# -- learning -------------------------------------------------------------------------------------


def describe_learning(history: pd.DataFrame, names: Sequence[str], labels: Labels) -> list[str]:
    """Return which activations overfit from which epoch on, and which still improve in the last epoch."""
    if not {"activation", "epoch", "train_loss", "valid_loss"} <= set(history):
        return []
    means = {name: _average_finite(history[history["activation"] == name]) for name in names}
    means = {name: mean for name, mean in means.items() if len(mean) > 1}
    has_accuracy = all("valid_acc" in mean and mean["valid_acc"].notna().all() for mean in means.values())
    overfitting, improving = [], []
    for name, mean in means.items():
        train, valid = (mean[column].to_numpy(float) for column in ("train_loss", "valid_loss"))
        if (start := find_overfitting(train, valid)) is not None:
            rise = f" (+{100 * (valid[-1] / valid[start] - 1):.1f} %)" if valid[start] > 0 else ""
            overfitting.append(f"{labels[name]} after epoch {mean['epoch'].iloc[start]}{rise}")
        losses = -mean["valid_acc"].to_numpy(float) if has_accuracy else valid
        if find_last_improvement(losses, relative=not has_accuracy) == len(mean) - 1:
            improving.append(labels[name])
    if not means:
        return []
    rises = f"validation loss rises while training loss falls for {_join(overfitting)}."
    sentences = [f"Averaged over the runs, {rises if overfitting else 'no activation overfits.'}"]
    if improving:
        metric = "accuracy" if has_accuracy else "loss"
        still = f"Validation {metric} still improves in the last epoch for {_join(improving)}."
        sentences.append(f"{still} More epochs may change the ranking.")
    return sentences


def _average_finite(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the mean history of an activation until a loss is not finite."""
    columns = [name for name in ("train_loss", "valid_loss", "valid_acc") if name in runs]
    mean = runs.groupby("epoch")[columns].mean().reset_index()
    return mean[: count_finite_epochs(mean)]


# -- diagnostics ----------------------------------------------------------------------------------


def describe_units(diagnostics: pd.DataFrame, names: Sequence[str], labels: Labels) -> list[str]:
    """Return where units are dead, where their number grows, and what is most saturated."""
    rows = select_rows(diagnostics, "activation")
    rows = rows[rows["activation"].isin(names)]
    if rows.empty:
        return []
    dead = _average_layers(rows, "dead")
    worst = dead.drop_duplicates("activation")
    worst = worst[worst["dead"] >= _MANY_DEAD]
    sentences = [
        f"{format_percent(row['dead'])} of {labels[row['activation']]}'s units in layer {row['layer']} "
        "have a slope below 0.001 on every sample: they hardly learn."
        for row in worst[:3].to_dict("records")
    ]
    if len(dead) and worst.empty:
        sentences.append(f"No layer has {format_percent(_MANY_DEAD)} or more dead units in the last epoch.")
    if growing := _describe_growth(rows, worst, labels):
        sentences.append(f"The share of dead units grows: {_join(growing)}.")
    saturated = _average_layers(rows, "saturated")
    if len(saturated) and saturated["saturated"].iloc[0] >= _MANY_DEAD:
        most = saturated.iloc[0]
        values = f"{labels[most['activation']]}'s values in layer {most['layer']}"
        share = format_percent(most["saturated"])
        sentences.append(f"Most saturated: the slope is below 0.05 for {share} of {values}.")
    return sentences


def _average_layers(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the means over the runs in the last epoch, by activation and layer, the largest first."""
    last = select_last_epochs(rows)
    groups = last.assign(**{column: to_numeric(last, column)}).groupby(["activation", "layer"], sort=False)
    means = groups[column].mean().dropna().reset_index()
    return means.sort_values(column, ascending=False, kind="stable")


def _describe_growth(rows: pd.DataFrame, worst: pd.DataFrame, labels: Labels) -> list[str]:
    growing = []
    for row in worst.to_dict("records"):
        own = rows[(rows["activation"] == row["activation"]) & (rows["layer"] == row["layer"])]
        mean = to_numeric(own, "dead").groupby(own["epoch"]).mean().dropna()
        if len(mean) > 1 and mean.iloc[-1] - mean.iloc[0] >= _GROWTH:
            first, last = (f"{format_percent(mean.iloc[i])} after epoch {mean.index[i]}" for i in (0, -1))
            growing.append(f"{labels[row['activation']]} in layer {row['layer']} ({first}, {last})")
    return growing


def describe_gradients(diagnostics: pd.DataFrame, names: Sequence[str], labels: Labels) -> list[str]:
    """Return the ratio of the first layer's gradient to the last layer's in the last epoch."""
    ratio = compute_gradient_ratio(select_last_epochs(select_rows(diagnostics, "weights")))
    ratio = ratio[ratio["activation"].isin(names)]
    if ratio.empty:
        return []
    means = np.exp(np.log(ratio["ratio"]).groupby(ratio["activation"]).mean()).sort_values()
    first_and_last = dict.fromkeys(means.index[[0, -1]])
    ends = [f"{_format_ratio(means[name])} for {labels[name]}" for name in first_and_last]
    between = "; the others are in between" if len(means) > 2 else ""
    return [f"Gradient of the first layer divided by the last layer's: {' and '.join(ends)}{between}."]


def _format_ratio(ratio: float) -> str:
    """Return a ratio as text.

    Examples:
        >>> _format_ratio(1 / 400), _format_ratio(1.5), _format_ratio(1 / 1234567), _format_ratio(1e-12)
        ('1/400', '1.5', '1/1,230,000', '1e−12')
    """
    if 1e-9 < ratio < 0.95:
        rounded = float(f"{1 / ratio:.3g}")
        return f"1/{rounded:,.0f}" if rounded >= 100 else f"1/{rounded:g}"
    return "about 1" if 0.95 < ratio < 1.05 else f"{ratio:.3g}".replace("-", "−")


# -- runs -----------------------------------------------------------------------------------------


def describe_runs(results: pd.DataFrame, labels: Labels, subject: str = "activation") -> list[str]:
    """Return the sources of the variance of the scores, and the best and the worst run."""
    if not {"activation", "score"} <= set(results):
        return []
    scored = results.assign(score=to_numeric(results, "score")).dropna(subset=["score"])
    sentences = []
    if lost := len(results) - len(scored):
        sentences.append(f"{lost} of {len(results)} runs {'has' if lost == 1 else 'have'} no score.")
    if len(scored) < 2 or scored["score"].min() == scored["score"].max():
        return sentences
    if shares := _share_variance(scored, subject):
        parts = [
            f"{factor} {format_percent(share)} ({format_percent(luck)} by chance)"
            for factor, share, luck in shares
        ]
        sentences.append(f"Share of the variance of the scores: {', '.join(parts)}.")
    ends = (scored.iloc[int(scored["score"].argmax())], scored.iloc[int(scored["score"].argmin())])
    best, worst = (f"{_describe_run(row, labels)}, {row['score']:.4f}" for row in ends)
    return [*sentences, f"Best run: {best}; worst: {worst}."]


def _share_variance(scored: pd.DataFrame, subject: str) -> list[tuple[str, float, float]]:
    """Return for each factor its share of the sum of squares, and the share expected by chance."""
    split = ["split"] if "split" in scored else []
    factors: dict[str, tuple[list[str], list[str]]] = {subject: (["activation"], [])}
    if "fold" in scored:
        factors["fold"] = [*split, "fold"], []
    if "seed" in scored:  # beyond the share of the split, which two seeds have in common
        factors["seed"] = [*split, "seed"], split
    score, shares = scored["score"], []
    total = float(((score - score.mean()) ** 2).sum())
    for factor, (columns, within) in factors.items():
        (upper, groups), (lower, fewer) = (_sum_squares(scored, by) for by in (columns, within))
        if groups > fewer:
            shares.append((factor, (upper - lower) / total, (groups - fewer) / (len(scored) - 1)))
    return shares


def _sum_squares(scored: pd.DataFrame, by: list[str]) -> tuple[float, int]:
    """Return the sum of squares between groups, and the number of groups."""
    if not by:
        return 0.0, 1
    groups = scored.groupby(by, dropna=False)["score"].agg(["mean", "size"])
    return float((groups["size"] * (groups["mean"] - scored["score"].mean()) ** 2).sum()), len(groups)


def _describe_run(row: pd.Series[Any], labels: Labels) -> str:
    place = [f"{name} {row[name]}" for name in ("split", "fold", "seed") if name in row]
    return ", ".join([labels.get(row["activation"], row["activation"]), *place])


# -- functions ------------------------------------------------------------------------------------


def describe_functions(specs: Mapping[str, str | None], curves: pd.DataFrame, labels: Labels) -> list[str]:
    """Return which functions have small, large or zero slopes, or are not monotonic.

    Args:
        specs: As :func:`~actlab.report.panels.find_specs` returns them.
        curves: As in :attr:`actlab.Comparison.curves`.
        labels: The labels of the activations.
    """
    groups: dict[str, list[str]] = {
        "Slope below 1 everywhere": [],
        "Slope above 1 somewhere": [],
        "Slope of exactly 0 in an interval, where the gradient vanishes": [],
        "Not monotonic": [],
        "Evaluated only from −6 to 6, before training": [],
    }
    gentle, steep, flat, turning, sampled = groups.values()
    for name, spec in specs.items():
        if (sample := _compute_slopes(name, spec, curves)) is None:
            continue
        x, slope, is_own = sample
        label, largest, before = labels[name], float(slope.max()), sum(map(len, groups.values()))
        if largest < 0.999 and not (is_own and _may_be_steeper_beyond(slope)):
            gentle.append(f"{label} (at most {largest:.3g})")
        elif largest > 1.001 and slope[-1] < largest and slope[0] < largest:  # it does not grow forever
            steep.append(f"{label} (up to {largest:.3g})")
        if intervals := _find_flat_samples(slope, x) if is_own else _find_flat(str(spec), slope, x):
            flat.append(f"{label} ({intervals})")
        if slope.min() < -1e-6 and largest > 1e-6:
            turning.append(f"{label} (slope down to −{-slope.min():.2g})")
        if is_own and sum(map(len, groups.values())) > before:
            sampled.append(label)
    return [f"{title}: {_join(members)}." for title, members in groups.items() if members]


def _compute_slopes(name: str, spec: str | None, curves: pd.DataFrame) -> tuple[Floats, Floats, bool] | None:
    """Return coordinates, slopes and whether they are from a saved curve; None if there are none."""
    try:
        module, _ = resolve_module_to_draw(spec)
    except UsageError:
        rows = select_curve(name, curves)
        x, slope = to_numeric(rows, "x").to_numpy(float), to_numeric(rows, "f1").to_numpy(float)
        return (x, slope, True) if len(rows) > 1 and np.isfinite([x, slope]).all() else None
    line = torch.linspace(-_REACH, _REACH, 6001, dtype=torch.float64)
    return line.numpy(), evaluate_derivatives(module, line)[1].numpy(), False


def _may_be_steeper_beyond(slope: Floats) -> bool:
    """Return whether a saved curve is steepest at one of its ends."""
    largest = slope.max()
    return bool((slope[0] == largest > slope[1]) or (slope[-1] == largest > slope[-2]))


def _find_flat_samples(slope: Floats, x: Floats) -> str:
    """Return where a saved curve has slope 0, without slopes that fade and are rounded to 0."""
    x = x.round(9) + 0.0  # evenly spaced points do not hit 0 exactly
    intervals, ends = [], np.flatnonzero(np.diff(np.concatenate([[False], slope == 0, [False]])))
    for first, last in zip(ends[::2], ends[1::2] - 1, strict=True):
        beside = [abs(slope[place]) for place in (first - 1, last + 1) if 0 <= place < len(slope)]
        if last > first and min(beside, default=math.inf) > _FADED:
            intervals.append(f"{x[first]:.3g} ≤ x ≤ {x[last]:.3g}")
    return " and ".join(intervals).replace("-", "−")


def _find_flat(spec: str, slope: Floats, x: Floats) -> str:
    """Return the intervals between kinks where the slope is 0, not just rounded to 0."""
    name, args, kwargs = split_spec(spec)
    activation = find_definition(name)
    values = dict(zip(activation.parameters, args, strict=False)) | kwargs
    kinks = activation.kinks(**{key: value for key, value in values.items() if key in activation.parameters})
    intervals = []
    for low, high in pairwise([-math.inf, *sorted(map(float, kinks)), math.inf]) if kinks else []:
        between = slope[(x > low) & (x < high)]
        if len(between) and (between == 0).all():
            end = f"x < {high:g}" if low == -math.inf else f"x > {low:g}"
            intervals.append(f"{low:g} < x < {high:g}" if math.isfinite(high - low) else end)
    return " and ".join(intervals).replace("-", "−")


# -- cost and tuning ------------------------------------------------------------------------------


def describe_costs(results: pd.DataFrame, names: Sequence[str], labels: Labels) -> list[str]:
    """Return the most and the least expensive activations in time and in memory."""
    seconds, saved = (
        average_by_activation(results, column).reindex(list(names)).dropna()
        for column in ("seconds", "saved_bytes")
    )
    unit, size = choose_memory_unit(saved)
    return [
        *_compare_ends(seconds, labels, "Time per run", lambda value: f"{value:.3g} s"),
        *_compare_ends(
            saved, labels, "Memory saved for backward", lambda value: f"{value / size:.3g} {unit}"
        ),
    ]


def _compare_ends(
    means: pd.Series[Any], labels: Labels, quantity: str, show: Callable[[float], str]
) -> list[str]:
    if len(means) < 2 or means.min() <= 0:
        return []
    name, lowest = str(means.idxmax()), means.min()
    ratio = means[name] / lowest
    if ratio < _SIMILAR:
        ends = list(dict.fromkeys([show(lowest), show(means[name])]))
        return [f"{quantity}: about the same for all, {' to '.join(ends)}."]
    cheapest = _join([labels[other] for other in means[means == lowest].index])
    most, least = f"{labels[name]} {show(means[name])}", f"{cheapest} {show(lowest)}"
    return [f"{quantity}: {most} is the highest, {ratio:.3g} times the lowest, {least}."]


def describe_tuning(trials: Trials, names: Sequence[str], labels: Labels) -> list[str]:
    """Return which activations mostly chose the largest or the smallest value that was tried."""
    sentences, chosen = [], trials.rows[trials.rows["chosen"]]
    for column in trials.tuned:
        tried = to_numeric(trials.rows, column)
        if tried.isna().any() or tried.nunique() < 2:
            continue
        modes = {name: list(to_numeric(own, column).mode()) for name, own in chosen.groupby("activation")}
        for end, word, beyond in ((tried.max(), "largest", "larger"), (tried.min(), "smallest", "smaller")):
            if matching := [labels[name] for name in names if modes.get(name) == [end]]:
                value = f"the {word} {column}, {end:g}, was chosen most often; {beyond} values were not tried"
                sentences.append(f"{_join(matching)}: {value}.")
    return sentences


def describe_sensitivity(panel: Panel, labels: Labels) -> str:
    """Return the learning rate at which each activation has its best score."""
    best: dict[float, list[str]] = {}
    for line in panel.lines:
        scores = {x: y for x, y in zip(line.x, line.y, strict=True) if y is not None}
        best.setdefault(_find_best(scores, panel), []).append(labels[line.name])
    rates = [f"{rate:g} for {_join(best[rate])}" for rate in sorted(best)]
    return f"Best learning rate: {'; '.join(rates)}."


def describe_budget(panel: Panel, labels: Labels) -> str:
    """Return the activation with the best expected score of one candidate, and of all candidates."""
    texts = []
    for end in (0, -1):
        scores = {line.name: y for line in panel.lines if (y := line.y[end]) is not None}
        name = _find_best(scores, panel)
        texts.append(f"{labels[name]} {scores[name]:.4g}")
    count = panel.lines[0].x[-1]
    return f"Best expected score: {texts[0]} with one random candidate, {texts[1]} with all {count}."


def _find_best(scores: dict[Key, float], panel: Panel) -> Key:
    return (min if "loss" in panel.title else max)(scores, key=lambda key: scores[key])

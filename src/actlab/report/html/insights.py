"""What the charts of a report show, in words: from tables to a few sentences with their figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch

from actlab.describe import derivatives
from actlab.errors import UsageError
from actlab.report.html.charts import Labels, curve, drawable
from actlab.report.html.diagnostic_charts import first_to_last, last_looks, looks, number
from actlab.report.html.tables import means, memory_unit
from actlab.report.insights import Floats, last_fall, last_gain, overfits
from actlab.spec import entry, parse

_NAMED = 5  # activations in a sentence; the tables have all
_DEAD = 0.01  # a share of units worth a sentence
_GROWN = 0.05  # a share of units that more are dead at the end than at first
_SAME = 1.1  # a ratio that is none to speak of
_REACH = 30.0  # how far from 0 slopes are looked at
_FADED = 1e-6  # a slope beside one of 0 that has come down to it


def listed(parts: Sequence[str]) -> str:
    """Return a few of these in a row, and how many more there are.

    Examples:
        >>> listed(["a", "b", "c"]), listed(list("abcdefg"))
        ('a, b and c', 'a, b, c, d, e and 2 more')
    """
    shown = list(parts[:_NAMED])
    if left := len(parts) - len(shown):
        return f"{', '.join(shown)} and {left} more"
    return " and ".join([", ".join(shown[:-1])] * (len(shown) > 1) + shown[-1:])


def percent(share: float) -> str:
    """Return a share as a person says it.

    Examples:
        >>> percent(0.314), percent(0.004), percent(0.9996), percent(1.0), percent(0.0), percent(1e-5)
        ('31 %', '0.4 %', 'more than 99.9 %', '100 %', '0 %', 'less than 0.1 %')
    """
    near = min(share, 1 - share)
    if 0 < near < 0.001:
        return "less than 0.1 %" if share < 0.5 else "more than 99.9 %"
    return f"{100 * share:.{1 if 0 < near < 0.01 else 0}f} %"


def learning_insights(history: pd.DataFrame, names: Sequence[str], of: Labels) -> list[str]:
    """Say who overfits, from which epoch on, and who was still improving when the training ended.

    Args:
        history: As in :attr:`actlab.Comparison.history`.
        names: Activations.
        of: Their short labels.
    """
    if not {"activation", "epoch", "train_loss", "valid_loss"} <= set(history):
        return []
    over, still, read = [], [], 0
    for name in names:
        mean = _finite_mean(history[history["activation"] == name])
        if len(mean) < 2:
            continue
        read += 1
        train, valid = (mean[column].to_numpy(float) for column in ("train_loss", "valid_loss"))
        start = overfits(train, valid)
        if start is not None:
            rise = f" (+{100 * (valid[-1] / valid[start] - 1):.1f} %)" if valid[start] > 0 else ""
            over.append(f"{of[name]} after epoch {mean['epoch'].iloc[start]}{rise}")
        has_accuracy = "valid_acc" in mean and mean["valid_acc"].notna().all()
        best = mean["valid_acc"].to_numpy(float) if has_accuracy else valid
        if (last_gain if has_accuracy else last_fall)(best) == len(mean) - 1:
            still.append(of[name])
    if not read:
        return []
    said = [
        f"By the means over the runs, validation loss rises while training loss falls for {listed(over)}."
        if over
        else "By the means over the runs, nothing overfits."
    ]
    if still:
        said.append(
            f"Still improving in the last epoch: {listed(still)}. More epochs may change their place."
        )
    return said


def _finite_mean(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the mean history of an activation up to where a loss is no longer finite."""
    columns = [name for name in ("train_loss", "valid_loss", "valid_acc") if name in runs]
    mean = runs.groupby("epoch")[columns].mean().reset_index()
    finite = np.isfinite(mean[["train_loss", "valid_loss"]].to_numpy(float)).all(axis=1)
    return mean if finite.all() else mean[: int(finite.argmin())]


def unit_insights(diagnostics: pd.DataFrame, names: Sequence[str], of: Labels) -> list[str]:
    """Say where units are dead, where their number grows, and what is saturated most."""
    rows = looks(diagnostics, "activation")
    rows = rows[rows["activation"].isin(names)]
    if rows.empty:
        return []
    last = _by_layer(last_looks(rows), "dead")
    said = []
    worst = last.loc[last.groupby("activation")["dead"].idxmax()].sort_values(
        "dead", ascending=False, kind="stable"
    )
    worst = worst[worst["dead"] >= _DEAD]
    for row in worst[:3].to_dict("records"):
        said.append(
            f"{percent(row['dead'])} of {of[row['activation']]}'s units in layer {row['layer']} have a slope "
            "below 0.001 on every row looked at: hardly anything trains through them."
        )
    if len(last) and worst.empty:
        said.append(f"No layer has {percent(_DEAD)} or more dead units at the last look.")
    if grown := _grown(rows, worst, of):
        said.append(f"Dead units grow in number: {listed(grown)}.")
    saturated = _by_layer(last_looks(rows), "saturated").sort_values(
        "saturated", ascending=False, kind="stable"
    )
    if len(saturated) and saturated["saturated"].iloc[0] >= _DEAD:
        most = saturated.iloc[0]
        whose = f"{of[most['activation']]}'s values in layer {most['layer']}"
        said.append(f"Most saturated: the slope is below 0.05 for {percent(most['saturated'])} of {whose}.")
    return said


def _by_layer(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return means over the runs by activation and layer, where there are any."""
    found = rows.assign(**{column: number(rows, column)})
    return found.groupby(["activation", "layer"], sort=False)[column].mean().dropna().reset_index()


def _grown(rows: pd.DataFrame, worst: pd.DataFrame, of: Labels) -> list[str]:
    said = []
    for row in worst.to_dict("records"):
        name, layer = row["activation"], row["layer"]
        own = rows[(rows["activation"] == name) & (rows["layer"] == layer)]
        mean = number(own, "dead").groupby(own["epoch"]).mean().dropna()
        if len(mean) > 1 and mean.iloc[-1] - mean.iloc[0] >= _GROWN:
            span = f"{percent(mean.iloc[0])} after epoch {mean.index[0]}, {percent(mean.iloc[-1])} after"
            said.append(f"{of[name]} in layer {layer} ({span} epoch {mean.index[-1]})")
    return said


def gradient_insights(diagnostics: pd.DataFrame, names: Sequence[str], of: Labels) -> list[str]:
    """Say how the first layer's gradient compares with the last's, at the last look."""
    ratio = first_to_last(last_looks(looks(diagnostics, "weights")))
    ratio = ratio[ratio["activation"].isin(names)]
    if ratio.empty:
        return []
    found = np.exp(np.log(ratio["ratio"]).groupby(ratio["activation"]).mean()).sort_values()
    ends = [f"{_times(found[name])} for {of[name]}" for name in dict.fromkeys(found.index[[0, -1]])]
    between = ", the others between" if len(found) > 2 else ""
    return [
        "The first layer's gradient beside the last layer's, root mean square of a weight at the last look: "
        f"{' and '.join(ends)}{between}."
    ]


def _times(ratio: float) -> str:
    """Return a ratio as a person says it.

    Examples:
        >>> _times(1 / 400), _times(1.5), _times(1 / 1234567), _times(1e-12)
        ('1/400', '1.5 times', '1/1,230,000', '1e−12 times')
    """
    if 1e-9 < ratio < 0.95:
        rounded = float(f"{1 / ratio:.3g}")
        return f"1/{rounded:,.0f}" if rounded >= 100 else f"1/{rounded:g}"
    return "about the same" if 0.95 < ratio < 1.05 else f"{ratio:.3g} times".replace("-", "−")


def runs_insights(results: pd.DataFrame, of: Labels) -> list[str]:
    """Say what the score goes with, by sums of squares, and which runs are best and worst.

    Args:
        results: As in :attr:`actlab.Comparison.results`.
        of: Short labels of the activations.
    """
    if not {"activation", "score"} <= set(results):
        return []
    scored = results.assign(score=number(results, "score")).dropna(subset=["score"])
    said = []
    if lost := len(results) - len(scored):
        said.append(f"{lost} of {len(results)} runs {'has' if lost == 1 else 'have'} no score.")
    if len(scored) < 2 or scored["score"].min() == scored["score"].max():
        return said
    if parts := _variance(scored):
        figures = [
            f"{percent(share)} goes with {what} (by luck {percent(luck)})" for what, share, luck in parts
        ]
        said.append(f"Of the variance of the scores, each by itself, {listed(figures)}.")
    ends = (scored.iloc[int(scored["score"].argmax())], scored.iloc[int(scored["score"].argmin())])
    best, worst = (f"{_run(row, of)}, {row['score']:.4f}" for row in ends)
    return [*said, f"Best run: {best}; worst: {worst}."]


def _variance(scored: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Return, for each factor, its share of the variance and what as many groups would have by luck."""
    split = ["split"] if "split" in scored else []
    factors: list[tuple[str, list[str], list[str]]] = [("the activation", ["activation"], [])]
    if "fold" in scored:
        factors.append(("the rows of the fold", [*split, "fold"], []))
    if "seed" in scored:  # beyond what comes with the split, which two seeds share
        factors.append(("the seed", [*split, "seed"], split))
    score, found = scored["score"], []
    whole = float(((score - score.mean()) ** 2).sum())
    for what, columns, within in factors:
        (upper, many), (lower, few) = (_between(scored, by) for by in (columns, within))
        if many > few:
            found.append((what, (upper - lower) / whole, (many - few) / (len(scored) - 1)))
    return found


def _between(scored: pd.DataFrame, by: list[str]) -> tuple[float, int]:
    """Return the sum of squares between groups, and the groups."""
    if not by:
        return 0.0, 1
    groups = scored.groupby(by, dropna=False)["score"].agg(["mean", "size"])
    return float((groups["size"] * (groups["mean"] - scored["score"].mean()) ** 2).sum()), len(groups)


def _run(row: pd.Series[Any], of: Labels) -> str:
    places = [f"{name} {row[name]}" for name in ("split", "fold", "seed") if name in row]
    return ", ".join([of.get(row["activation"], row["activation"]), *places])


def function_insights(names: Sequence[str], curves: pd.DataFrame, of: Labels) -> list[str]:
    """Say how steep the functions are, where they are flat and which turn back.

    Args:
        names: Specs. Modules of a person's own are not imported.
        curves: Those of them, as in :attr:`actlab.Comparison.curves`.
        of: Short labels by name.
    """
    low, steep, flat, turning, kept = (list[str]() for _ in range(5))
    for name in names:
        if (found := _slope(name, curves)) is None:
            continue
        x, slope, own = found
        before = len(low + steep + flat + turning)
        most = float(slope.max())
        if most < 0.999 and not (own and _rises(slope)):
            low.append(f"{of[name]} (at most {most:.3g})")
        elif most > 1.001 and slope[-1] < most and slope[0] < most:  # it does not grow for ever
            steep.append(f"{of[name]} (up to {most:.3g})")
        if places := _level(slope, x) if own else _flat(name, slope, x):
            flat.append(f"{of[name]} ({places})")
        if slope.min() < -1e-6 and most > 1e-6:
            turning.append(f"{of[name]} (slope down to −{-slope.min():.2g})")
        if own and len(low + steep + flat + turning) > before:
            kept.append(of[name])
    said = [
        ("Slope everywhere below 1", low),
        ("Slope somewhere above 1", steep),
        ("Slope of exactly 0 in a part of the line, where nothing trains", flat),
        ("Not monotonic", turning),
        ("Known from −6 to 6 only, as they begin", kept),
    ]
    return [f"{what}: {listed(which)}." for what, which in said if which]


def _slope(name: str, curves: pd.DataFrame) -> tuple[Floats, Floats, bool] | None:
    """Return places, the slopes there and whether they are a kept curve's; None where there are none."""
    try:
        module, _ = drawable(name)
    except UsageError:
        own = curve(name, curves)
        x, slope = number(own, "x").to_numpy(float), number(own, "f1").to_numpy(float)
        finite = len(own) > 1 and np.isfinite([x, slope]).all()
        return (x, slope, True) if finite else None
    line = torch.linspace(-_REACH, _REACH, 6001, dtype=torch.float64)
    return line.numpy(), derivatives(module, line)[1].numpy(), False


def _rises(slope: Floats) -> bool:
    """Whether the slope is steepest at an end of what is known of it, and may be steeper beyond."""
    most = slope.max()
    return bool((slope[0] == most > slope[1]) or (slope[-1] == most > slope[-2]))


def _level(slope: Floats, x: Floats) -> str:
    """Return where the slopes of a kept curve are 0; one that fades to 0 merely rounds to it."""
    x = x.round(9) + 0.0  # what is evenly spaced does not meet 0 exactly
    found, ends = [], np.flatnonzero(np.diff(np.concatenate([[False], slope == 0, [False]])))
    for first, last in zip(ends[::2], ends[1::2] - 1, strict=True):
        beside = [abs(slope[place]) for place in (first - 1, last + 1) if 0 <= place < len(slope)]
        if last > first and min(beside, default=math.inf) > _FADED:
            found.append(f"{x[first]:.3g} ≤ x ≤ {x[last]:.3g}")
    return " and ".join(found).replace("-", "−")


def _flat(spec: str, slope: Floats, x: Floats) -> str:
    """Return where a slope is exactly 0: between kinks only, for a smooth slope merely rounds to 0."""
    name, args, kwargs = parse(spec)
    activation = entry(name)
    given = dict(zip(activation.parameters, args, strict=False)) | kwargs
    given = {parameter: value for parameter, value in given.items() if parameter in activation.parameters}
    kinks = sorted(map(float, activation.kinks(**given)))
    found = []
    for low, high in pairwise([-math.inf, *kinks, math.inf]) if kinks else []:
        inside = slope[(x > low) & (x < high)]
        if len(inside) and (inside == 0).all():
            ends = f"x < {high:g}" if low == -math.inf else f"x > {low:g}"
            found.append(f"{low:g} < x < {high:g}" if math.isfinite(high - low) else ends)
    return " and ".join(found).replace("-", "−")


def cost_insights(results: pd.DataFrame, names: Sequence[str], of: Labels) -> list[str]:
    """Say what took longest and shortest, and what keeps most and least memory."""
    seconds, kept = (
        means(results, column).reindex(list(names)).dropna() for column in ("seconds", "saved_bytes")
    )
    unit, size = memory_unit(kept)
    return [
        *_ends(
            seconds, of, "takes longest", "shortest", "All take about the same time", lambda s: f"{s:.3g} s"
        ),
        *_ends(
            kept,
            of,
            "keeps most for the backward pass",
            "least",
            "All keep about as much for the backward pass",
            lambda bytes_: f"{bytes_ / size:.3g} {unit}",
        ),
    ]


def _ends(
    found: pd.Series[Any], of: Labels, most: str, least: str, same: str, show: Callable[[float], str]
) -> list[str]:
    if len(found) < 2 or found.min() <= 0:
        return []
    high, low = str(found.idxmax()), found.min()
    ratio = found[high] / low
    if ratio < _SAME:
        ends = list(dict.fromkeys([show(low), show(found[high])]))
        return [f"{same}: {'between ' * (len(ends) > 1)}{' and '.join(ends)}."]
    cheapest = listed([of[name] for name in found[found == low].index])
    return [
        f"{of[high]} {most}, {show(found[high])}: {ratio:.3g} times the {least}, {show(low)} of {cheapest}."
    ]


def tuning_insights(tuning: pd.DataFrame, names: Sequence[str], of: Labels) -> list[str]:
    """Say whether what was chosen lies at an end of what was tried."""
    known = {"activation", "split", "fold", "seed", "valid_acc", "valid_loss", "failure", "chosen"}
    if not {"activation", "chosen"} <= set(tuning):
        return []
    said, chosen = [], tuning[tuning["chosen"].astype(bool)]
    for column in (str(name) for name in tuning if name not in known):
        tried = number(tuning, column)
        if tried.isna().any() or tried.nunique() < 2:
            continue
        found = {name: number(own, column).mode() for name, own in chosen.groupby("activation")}
        for end, word in ((tried.max(), "largest"), (tried.min(), "smallest")):
            there = [of[name] for name in names if name in found and list(found[name]) == [end]]
            if there:
                beyond = f"{'larger' if word == 'largest' else 'smaller'} ones were not tried"
                said.append(f"{listed(there)}: mostly the {word} {column}, {end:g}, was chosen; {beyond}.")
    return said

"""Insights about the charts of a report, and none for missing data."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from actlab.comparison.curves import sample_curves
from actlab.report.html import chart_insights
from actlab.report.panels import find_specs
from actlab.report.tuning_panels import read_trials
from actlab.spec import resolve_all
from tests.report_cases import comparison, diagnostics_frame

NAN = math.nan
NONE = pd.DataFrame()


def own_labels(*names):
    return {name: name for name in names}


def history(name, train, valid, accuracy=None):
    columns = {"train_loss": train, "valid_loss": valid} | ({"valid_acc": accuracy} if accuracy else {})
    return pd.DataFrame({"activation": name, "epoch": range(1, len(train) + 1), **columns})


# -- learning -------------------------------------------------------------------------------------


def test_describe_learning_report_overfitting_and_improvement():
    frame = pd.concat(
        [
            history("a", [3, 2, 1], [2.0, 1.0, 1.5], [0.5, 0.8, 0.8]),
            history("b", [3, 2, 1], [3.0, 2.0, 1.0], [0.5, 0.6, 0.7]),
            history("c", [3, 2, 4], [3.0, 2.0, 2.5], [0.5, 0.6, 0.6]),
        ]
    )
    assert chart_insights.describe_learning(frame, ["a", "b", "c"], own_labels("a", "b", "c")) == [
        "Averaged over the runs, validation loss rises while training loss falls for a after epoch 2 "
        "(+50.0 %).",
        "Validation accuracy still improves in the last epoch for b. More epochs may change the ranking.",
    ]


@pytest.mark.parametrize(
    ("last", "overfits"), [(1.0, False), (1.00001, False), (1.009, False), (1.011, True)]
)
def test_describe_learning_omits_rises_below_one_percent(last, overfits):
    frame = history("a", [3, 2, 1], [2.0, 1.0, last], [0.5, 0.8, 0.8])
    sentence = chart_insights.describe_learning(frame, ["a"], own_labels("a"))[0]
    expected = "validation loss rises while training loss falls for a after epoch 2 (+1.1 %)."
    assert sentence == f"Averaged over the runs, {expected if overfits else 'no activation overfits.'}"


def test_learning_insights_of_a_regression_use_the_loss():
    assert chart_insights.describe_learning(history("a", [3, 2], [3.0, 1.0]), ["a"], own_labels("a")) == [
        "Averaged over the runs, no activation overfits.",
        "Validation loss still improves in the last epoch for a. More epochs may change the ranking.",
    ]


def test_describe_learning_of_diverged_and_empty_histories():
    frame = history("a", [3, 2, 1, NAN], [2.0, 1.0, 1.5, NAN], [0.5, 0.8, 0.8, 0.1])
    assert "a after epoch 2" in chart_insights.describe_learning(frame, ["a"], own_labels("a"))[0]
    assert chart_insights.describe_learning(frame[3:], ["a"], own_labels("a")) == []
    assert chart_insights.describe_learning(frame.drop(columns="valid_loss"), ["a"], own_labels("a")) == []
    assert chart_insights.describe_learning(pd.DataFrame(), ["a"], own_labels("a")) == []


# -- diagnostics -----------------------------------------------------------------------------------


def test_describe_units_report_dead_and_saturated_units():
    names = ("relu", "tanh")
    assert chart_insights.describe_units(diagnostics_frame(names), names, own_labels(*names)) == [
        "30 % of relu's units in layer 2 have a slope below 0.001 on every sample: they hardly learn.",
        "The share of dead units grows: relu in layer 2 (0 % after epoch 1, 30 % after epoch 12).",
        "Most saturated: the slope is below 0.05 for 27 % of tanh's values in layer 1.",
    ]


def test_describe_units_report_no_dead_units():
    insights = chart_insights.describe_units(
        diagnostics_frame(("relu",)).assign(dead=0.004), ["relu"], own_labels("relu")
    )
    assert insights[0] == "No layer has 1 % or more dead units in the last epoch."
    assert len(insights) == 2


def test_describe_units_use_the_last_epoch_of_each_run():
    frame = diagnostics_frame(("relu",), epochs=(1, 2), layers=1)
    frame = frame[(frame["fold"] == 2) | (frame["epoch"] == 1)]
    frame = frame.assign(dead=frame["epoch"].map({1: 0.5, 2: 0.1}))
    assert chart_insights.describe_units(frame, ["relu"], own_labels("relu"))[0].startswith("30 % of relu's")


def test_describe_gradients_compare_first_and_last_layer():
    names = ("relu", "tanh", "mish")
    (insights,) = chart_insights.describe_gradients(diagnostics_frame(names), names, own_labels(*names))
    assert insights == (
        "Gradient of the first layer divided by the last layer's: 1/10,000 for mish and about 1 for relu; "
        "the others are in between."
    )


@pytest.mark.parametrize("gradient", [NAN, 0.0, math.inf])
def test_describe_gradients_skip_gradients_without_ratio(gradient):
    assert (
        chart_insights.describe_gradients(
            diagnostics_frame(("a",)).assign(gradient=gradient), ["a"], own_labels("a")
        )
        == []
    )


def test_unit_and_gradient_insights_of_missing_diagnostics_are_empty():
    for frame in (
        pd.DataFrame(),
        diagnostics_frame(("relu",)).drop(columns=["dead", "saturated", "gradient"]),
    ):
        assert chart_insights.describe_units(frame, ["relu"], own_labels("relu")) == []
        assert chart_insights.describe_gradients(frame, ["relu"], own_labels("relu")) == []


# -- runs -----------------------------------------------------------------------------------------


def runs(scores):
    """Return results of two activations, two folds and two seeds."""
    places = [(a, fold, seed) for a in "ab" for fold in (1, 2) for seed in (0, 1)]
    rows = [
        {"activation": a, "split": 1, "fold": fold, "seed": seed, "score": score}
        for (a, fold, seed), score in zip(places, scores, strict=True)
    ]
    return pd.DataFrame(rows)


def test_describe_runs_decompose_the_variance_of_scores():
    # Activation +-3, fold +-2, seed +-1: squares 9, 4 and 1 of 14.
    results = runs([6, 4, 2, 0, 0, -2, -4, -6])
    assert chart_insights.describe_runs(results, own_labels("a", "b")) == [
        "Share of the variance of the scores: activation 64 % (14 % by chance), fold 29 % (14 % by chance), "
        "seed 7 % (14 % by chance).",
        "Best run: a, split 1, fold 1, seed 0, 6.0000; worst: b, split 1, fold 2, seed 1, -6.0000.",
    ]


def test_describe_runs_do_not_attribute_the_split_to_the_seed():
    results = runs([1, 1, 1, 1, 2, 2, 2, 2]).assign(activation="a")
    results["split"] = [1, 1, 1, 1, 2, 2, 2, 2]
    results["seed"] = [0, 1, 0, 1, 2, 3, 2, 3]
    assert (
        "fold 100 % (43 % by chance), seed 0 %" in (chart_insights.describe_runs(results, own_labels("a"))[0])
    )


def test_describe_runs_count_runs_without_score():
    assert chart_insights.describe_runs(runs([1, NAN, *[1] * 6]), own_labels("a", "b")) == [
        "1 of 8 runs has no score."
    ]
    assert chart_insights.describe_runs(runs([NAN] * 8), own_labels("a", "b")) == [
        "8 of 8 runs have no score."
    ]
    assert chart_insights.describe_runs(comparison(("a",), seeds=1, folds=1).results, own_labels("a")) == []


# -- functions ------------------------------------------------------------------------------------


def test_describe_functions_describe_slopes_of_the_catalogue():
    names = ["sigmoid", "relu", "tanh", "mish", "relu6", "softshrink", "my.py:Own", "glu", "nothing"]
    assert chart_insights.describe_functions(find_specs(names, {}), NONE, own_labels(*names)) == [
        "Slope below 1 everywhere: sigmoid (at most 0.25).",
        "Slope above 1 somewhere: mish (up to 1.09).",
        "Slope of exactly 0 in an interval, where the gradient vanishes: relu (x < 0), relu6 (x < 0 and "
        "x > 6) and softshrink (−0.5 < x < 0.5).",
        "Not monotonic: mish (slope down to −0.11).",
    ]


def test_describe_functions_ignore_slopes_that_round_to_0():
    specs = find_specs(["tanh", "softplus"], {})
    assert chart_insights.describe_functions(specs, NONE, own_labels(*specs)) == []


def test_describe_functions_use_the_arguments_of_a_spec():
    names = ["hardtanh(-3.0, max_val=2.0)", "leaky_relu(negative_slope=2.0)"]
    assert chart_insights.describe_functions(find_specs(names, {}), NONE, own_labels(*names)) == [
        "Slope of exactly 0 in an interval, where the gradient vanishes: hardtanh(-3.0, max_val=2.0) "
        "(x < −3 and x > 2)."
    ]


class Wave(torch.nn.Module):
    def forward(self, x):
        return torch.sin(3 * x)


class Fading(torch.nn.Module):
    def forward(self, x):
        return 0.5 * torch.tanh(40 * x - 120) / 40


def user_curves(*names):
    names = [f"{__name__}:{name}" if name in ("Wave", "Fading") else f"torch.nn:{name}" for name in names]
    return names, sample_curves(resolve_all(names))


def test_describe_functions_describe_saved_curves_of_user_activations():
    names, curves = user_curves("GELU", "ReLU6", "Sigmoid", "Wave")
    specs = find_specs(["relu", *names], {})
    assert chart_insights.describe_functions(specs, curves, own_labels(*specs)) == [
        "Slope below 1 everywhere: torch.nn:Sigmoid (at most 0.25).",
        f"Slope above 1 somewhere: torch.nn:GELU (up to 1.13) and {__name__}:Wave (up to 3).",
        "Slope of exactly 0 in an interval, where the gradient vanishes: relu (x < 0) and torch.nn:ReLU6 "
        "(−6 ≤ x ≤ 0).",
        f"Not monotonic: torch.nn:GELU (slope down to −0.13) and {__name__}:Wave (slope down to −3).",
        "Evaluated only from −6 to 6, before training: torch.nn:GELU, torch.nn:ReLU6, torch.nn:Sigmoid and "
        f"{__name__}:Wave.",
    ]


def test_describe_functions_state_the_range_of_saved_curves():
    names, curves = user_curves(
        "Softplus", "Fading"
    )  # the slope of one still rises at 6, that of the other rounds to 0
    assert curves[curves["activation"] == names[1]]["f1"].eq(0).any()
    assert chart_insights.describe_functions(find_specs(names, {}), curves, own_labels(*names)) == [
        f"Slope below 1 everywhere: {names[1]} (at most 0.5).",
        f"Evaluated only from −6 to 6, before training: {names[1]}.",
    ]


def test_describe_functions_skip_saved_curves_with_nan():
    names, curves = user_curves("GELU")
    curves.loc[7, "f1"] = NAN
    assert chart_insights.describe_functions(find_specs(names, {}), curves, own_labels(*names)) == []


# -- cost and tuning ------------------------------------------------------------------------------


def test_describe_costs_report_time_and_memory():
    saved_bytes = [2**20, 2**21, 2**21]
    results = pd.DataFrame(
        {"activation": ["a", "b", "b"], "seconds": [1.0, 2.0, 4.0], "saved_bytes": saved_bytes}
    )
    assert chart_insights.describe_costs(results, ["a", "b"], own_labels("a", "b")) == [
        "Time per run: b 3 s is the highest, 3 times the lowest, a 1 s.",
        "Memory saved for backward: b 2 MiB is the highest, 2 times the lowest, a 1 MiB.",
    ]
    same = results.assign(seconds=[1.0, 1.0, 1.1], saved_bytes=NAN)
    assert chart_insights.describe_costs(same, ["a", "b"], own_labels("a", "b")) == [
        "Time per run: about the same for all, 1 s to 1.05 s."
    ]
    assert chart_insights.describe_costs(same[:1], ["a"], own_labels("a")) == []


def test_describe_tuning_report_choices_at_the_end_of_the_grid():
    same = {"split": 0, "seed": 0, "net": "x", "valid_acc": 0.5, "failure": ""}
    rows = [
        {**same, "activation": name, "fold": fold, "lr": lr, "chosen": lr == best}
        for name, best in (("a", 0.3), ("b", 0.1), ("c", 0.03))
        for fold in (1, 2)
        for lr in (0.03, 0.1, 0.3)
    ]
    trials = read_trials(pd.DataFrame(rows), {})
    assert chart_insights.describe_tuning(trials, list("abc"), own_labels(*"abc")) == [
        "a: the largest lr, 0.3, was chosen most often; larger values were not tried.",
        "c: the smallest lr, 0.03, was chosen most often; smaller values were not tried.",
    ]
    assert read_trials(pd.DataFrame(), {}) is None

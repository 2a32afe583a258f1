"""Reports of single runs and of unfinished comparisons, and calls that reproduce a comparison."""

from __future__ import annotations

import ast
import math

import pandas as pd
import pytest
from torch import nn

import actlab
from actlab.comparison.costs import measure_costs
from actlab.report.html import reproduce, tables
from actlab.report.html.page import render
from actlab.report.sentences import describe_progress, describe_training
from actlab.spec import resolve_all
from tests.report_cases import HOSTILE, comparison, diagnostics_frame, training, unfinished
from tests.test_report_page import body, figures, labels_of, text

NAN = math.nan


# -- a single training ----------------------------------------------------------------------------


def test_render_of_a_training_shows_its_best_epoch_and_no_verdicts():
    page = render(
        training(diagnostics=diagnostics_frame(("relu",), runs=((1, 0),)).drop(columns=["split", "fold"]))
    )
    message = text(page)
    assert "relu: validation accuracy 0.9231 in the best epoch, 12 of 12." in message
    assert "Overfitting starts after epoch 5" in message
    assert "Diagnostics" in message
    assert "One run" in message
    for absent in ("Verdicts", "erdict", "Ranking", "forest", "Mean over the runs", "means over the runs"):
        assert absent not in message
    assert 'href="#verdicts"' not in page
    assert figures(page) == ["learning", "units", "gradients", "distributions", "functions", "seconds"]
    assert "train(load_data('digits'), 'relu', TrainSettings(epochs=12))" in message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"valid_acc": NAN}, "relu: validation loss 0.3121 in the best epoch, 5 of 12."),
        ({"train_loss": NAN}, "relu: training diverged in epoch 1 of 12."),
        ({"valid_loss": None}, "relu: 12 epochs without a validation loss."),
    ],
)
def test_describe_training_without_accuracy_or_losses(changed, message):
    history = training().history.assign(**changed).dropna(axis="columns", how="all")
    if changed == {"train_loss": NAN}:
        history["train_loss"] = NAN
    assert describe_training(training().results, history)[0] == message
    assert message in text(render(training(history=history)))


def test_render_of_a_failed_training_gives_the_reason():
    results = training().results.assign(score=NAN, failure="out of memory")
    page = render(training(results=results, history=pd.DataFrame()))
    assert "relu: no epoch was recorded. " in text(page)
    assert "The run failed: out of memory." in text(page)


# -- unfinished -----------------------------------------------------------------------------------


def test_render_of_an_unfinished_comparison_says_so_in_the_headline():
    page = render(unfinished())
    message = text(page)
    assert '<h1 class="unfinished">20 of 36 runs are done; verdicts follow when all are done.</h1>' in page
    assert "Highest mean accuracy so far: relu, 0.9501 over 12 runs." in message
    assert "There are no verdicts yet." in message
    assert "There is no forest plot: verdicts follow when all runs are done." in message
    assert "All 20 runs" in message


def test_render_of_an_unfinished_comparison_without_scores():
    whole = unfinished()
    results = whole.results.assign(score=NAN)
    frame = whole.ranking.assign(mean=NAN, std=NAN, status="")
    progress = {"done": 0, "planned": 36}
    assert describe_progress(progress, frame, "accuracy") == [
        "0 of 36 runs are done; verdicts follow when all are done."
    ]
    page = render(comparison(results=results, ranking=frame, about=whole.about, verdicts=pd.DataFrame()))
    assert "20 of 20 runs have no score." in text(page)


def test_describe_progress_lists_failures():
    frame = pd.DataFrame(
        {"activation": ["a", "b"], "mean": [0.5, NAN], "status": ["", "diverged in 1 of 2 runs"]}
    )
    message = describe_progress({"done": 3, "planned": 9}, frame, "r2")
    assert message[1:] == ["Highest mean r2 so far: a, 0.5000.", "b: diverged in 1 of 2 runs."]


def test_describe_progress_names_no_highest_mean_of_one_activation():
    frame = pd.DataFrame({"activation": ["a"], "mean": [0.5], "status": [""]})
    message = describe_progress({"done": 1, "planned": 3}, frame, "accuracy")
    assert message[1:] == ["Mean accuracy so far: a, 0.5000."]


# -- reproduce ------------------------------------------------------------------------------------


def test_format_call_reproduces_the_comparison():
    whole = actlab.compare(
        ["tanh", "relu"], "digits", folds=2, epochs=1, tune={"lr": [0.01, 0.02]}, rope=0.02, seed=3
    )
    command = reproduce.format_call(["tanh", "relu"], whole.about)
    assert command == (
        "actlab.compare(['tanh', 'relu'], 'digits', folds=2, tune={'lr': [0.01, 0.02]}, rope=0.02, "
        "epochs=1, seed=3)"
    )
    parsed = ast.parse(command, mode="eval").body
    arguments = {one.arg: ast.literal_eval(one.value) for one in parsed.keywords}
    again = actlab.compare(*map(ast.literal_eval, parsed.args), **arguments)
    drop = ["seconds", "key"]
    pd.testing.assert_frame_equal(again.results.drop(columns=drop), whole.results.drop(columns=drop))
    assert command in text(render(whole))


def test_format_call_of_a_sequential_test_comments_unknown_settings():
    about = {**comparison().about, "settings": {}, "net": "Mine\nexec", "metric": "neg_log_loss"}
    about["sequential_test"] = {
        "interim_analyses": 3,
        "stop_reason": "the next round of 12 runs would exceed the budget of 40 runs: 36 have been trained",
    }
    assert reproduce.format_call(["relu"], about) == (
        "# module is Mine exec, your own network\n"
        "# the test ended: the next round of 12 runs would exceed the budget of 40 runs: "
        "36 have been trained\n"
        "actlab.compare(['relu'], 'digits', module=module, until_decided=True, scoring='neg_log_loss')"
    )


def test_format_call_omits_defaults():
    about = {
        "data": "digits",
        "folds": 3,
        "seeds": 1,
        "settings": {"epochs": 25, "lr": 0.01, "device": "cpu"},
    }
    assert reproduce.format_call(["relu"], about) == "actlab.compare(['relu'], 'digits')"


# -- memory ---------------------------------------------------------------------------------------


def with_memory(*saved):
    whole = comparison(seeds=1, folds=1)
    return comparison(seeds=1, folds=1, results=whole.results.assign(saved_bytes=list(saved)))


def test_render_shows_memory_and_time():
    page = render(with_memory(2**16, 2**16, 3 * 2**16))
    assert labels_of(page, "memory") == ["relu", "64 KiB", "tanh", "64 KiB", "mish", "192 KiB"]
    message = text(page)
    assert "saved for backward, KiB" in message
    assert (
        "Memory saved for backward: mish 192 KiB is the highest, 3 times the lowest, relu and tanh 64 KiB."
        in message
    )
    assert "bytes saved" in message


def test_render_omits_unknown_memory():
    assert "memory" not in figures(render(with_memory(NAN, NAN, NAN)))
    page = render(with_memory(NAN, 2**21, 2**22))
    assert labels_of(page, "memory") == ["tanh", "2 MiB", "mish", "4 MiB"]
    table = tables.make_cost_table(with_memory(NAN, 2**21, 2**22).results, ["relu", "tanh", "mish"])
    assert [row[-1] for row in table.rows] == ["–", "2", "4"]


def test_make_function_cost_table_compares_with_torch():
    costs = pd.DataFrame(
        {
            "activation": ["mish", "own"],
            "nanoseconds": [2.0, 3.25],
            "torch_nanoseconds": [4.0, NAN],
            "saved_bytes": [4.0, 8.0],
            "torch_saved_bytes": [4.0, NAN],
        }
    )
    table = tables.make_function_cost_table(costs, ["own", "mish", "absent"])
    assert table.rows == [["own", "3.25", "–", "–", "8", "–"], ["mish", "2", "4", "0.5", "4", "4"]]
    assert tables.make_function_cost_table(costs.drop(columns="saved_bytes"), ["mish"]) is None
    assert tables.make_function_cost_table(pd.DataFrame(), ["mish"]) is None


def test_measure_costs_omits_activations_that_fail_alone():
    costs = measure_costs(
        resolve_all(["softsign", "snake", "torch.nn:Identity", nn.PReLU(3), nn.ReLU(inplace=True)])
    )
    assert costs["activation"].to_list() == ["softsign", "snake", "torch.nn:Identity", "ReLU"]
    assert (costs["nanoseconds"] > 0).all()
    assert costs["torch_saved_bytes"].fillna(-1).to_list() == [8, -1, -1, -1]


def test_render_escapes_values_of_unfinished_comparisons():
    about = {**unfinished().about, "unfinished": {"done": HOSTILE[0], "planned": HOSTILE[1]}}
    page = render(comparison(tuple(HOSTILE), seeds=1, verdicts=pd.DataFrame(), about=about))
    assert "<img" not in body(page)
    about = {**training().about, "data": HOSTILE[0], "diagnostics": {"off": HOSTILE[1]}}
    page = render(training(about=about, results=training().results.assign(activation=HOSTILE[2])))
    assert "<img" not in body(page)
    assert 'onmouseover="window' not in body(page)

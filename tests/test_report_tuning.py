"""The report of a tuned comparison: results as given, chosen settings, charts of the tuning."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from actlab import Comparison
from actlab.report.differences import collect_differences
from actlab.report.html import chart_insights, reproduce, tables
from actlab.report.html.page import render, write_report
from actlab.report.html.svg import draw_panel
from actlab.report.plots.figures import write_figures
from actlab.report.tuning_panels import compute_expected_best, make_tuning_panels, read_trials
from tests.browser import open_offline
from tests.report_cases import browser, comparison  # noqa: F401

LABELS = {"relu": "relu", "tanh": "tanh"}
# Accuracy after the screening epochs by activation, fold and (learning rate, initialization).
SCORES = {
    ("relu", 1): {(0.01, "torch"): 0.6, (0.1, "torch"): 0.8, (0.01, "matched"): 0.7, (0.1, "matched"): 0.5},
    ("relu", 2): {(0.01, "torch"): 0.5, (0.1, "torch"): 0.6, (0.01, "matched"): 0.4, (0.1, "matched"): 0.9},
    ("relu", 3): {(0.01, "torch"): 0.9, (0.1, "torch"): 0.4, (0.01, "matched"): 0.2, (0.1, "matched"): 0.3},
    ("tanh", 1): {(0.01, "torch"): 0.1, (0.1, "torch"): 0.2, (0.01, "matched"): 0.3, (0.1, "matched"): 0.4},
    ("tanh", 2): {(0.01, "torch"): 0.1, (0.1, "torch"): 0.2, (0.01, "matched"): 0.3, (0.1, "matched"): 0.6},
    ("tanh", 3): {(0.01, "torch"): 0.1, (0.1, "torch"): 0.2, (0.01, "matched"): 0.3, (0.1, "matched"): 0.5},
}
BEYOND = {
    ("relu", 2): (0.3, "matched", 1.0),
    ("tanh", 2): (0.3, "matched", 0.7),
    ("tanh", 3): (0.3, "matched", 0.8),
}
GRID = [{"lr": lr, "init": init} for init in ("torch", "matched") for lr in (0.01, 0.1)]
ABOUT = {
    **comparison().about,
    "tune": "auto",
    "tuned": [*GRID, {"lr": 0.3, "init": "matched"}],
    "grid_size": 4,
    "screening_epochs": 3,
}


def make_tuning():
    """Return a row per trial; each run has chosen its best candidate."""
    rows = []
    for (name, fold), scores in SCORES.items():
        every = dict(scores)
        if (name, fold) in BEYOND:
            lr, init, score = BEYOND[name, fold]
            every[lr, init] = score
        for (lr, init), score in every.items():
            chosen = score == max(every.values())
            rows.append(
                {"activation": name, "split": 0, "fold": fold, "seed": 0, "lr": lr, "init": init}
                | {"epochs": 25 if chosen else 3, "valid_acc": 0.99, "valid_loss": 0.01}
                | {"screened_acc": score, "screened_loss": 1 - score, "failure": "", "chosen": chosen}
            )
    return pd.DataFrame(rows)


def fail(tuning, selected):
    return tuning.assign(failure=tuning["failure"].mask(selected, "diverged"))


def panels(tuning, about=ABOUT):
    return make_tuning_panels(read_trials(tuning, about), ["tanh", "relu"], about)


def values(panel):
    return {line.name: (line.y, line.low, line.high) for line in panel.lines}


def tuned_comparison(tuning=None):
    """Return a comparison in which tuning changes the verdict on relu and mish."""
    whole = comparison(("relu", "tanh", "mish"))
    given = whole.verdicts.assign(
        verdict=["undecided", "equivalent", "undecided"], difference=[0.01, -0.002, 0.01]
    )
    ranking = whole.ranking.assign(rank=pd.array([2, 1, pd.NA], "Int64"), mean=[0.9, 0.91, 0.1])
    return dataclasses.replace(
        whole,
        tuning=make_tuning() if tuning is None else tuning,
        about={**whole.about, **ABOUT},
        as_given=dataclasses.replace(whole, verdicts=given, ranking=ranking),
    )


# -- data of the charts ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_compute_expected_best_equals_the_mean_over_all_samples(size):
    scores = np.random.default_rng(size).normal(size=(3, size))
    expected = [
        [np.mean([max(sample) for sample in itertools.combinations(row, n)]) for n in range(1, size + 1)]
        for row in scores
    ]
    np.testing.assert_allclose(compute_expected_best(scores), expected, rtol=1e-13)


def test_sensitivity_panel_has_the_mean_of_the_best_candidate_of_each_run():
    panel = panels(make_tuning())["sensitivity"]
    assert (panel.title, panel.x_label) == ("validation accuracy after 3 epochs", "learning rate")
    assert (panel.log_x, panel.log) == (True, False)
    assert [(line.name, line.series) for line in panel.lines] == [("tanh", 0), ("relu", 1)]
    assert [line.x for line in panel.lines] == [[0.01, 0.1, 0.3]] * 2
    # Two of three runs of tanh tried 0.3, one of relu.
    assert values(panel) == {
        "tanh": ([0.3, 0.5, 0.75], [0.3, 0.4, 0.7], [0.3, 0.6, 0.8]),
        "relu": ([0.7, 0.7, None], [0.5, 0.4, None], [0.9, 0.9, None]),
    }


def test_sensitivity_panel_marks_the_median_of_the_chosen_rates():
    tanh, relu = panels(make_tuning())["sensitivity"].lines
    assert (tanh.x[tanh.mark], relu.x[relu.mark]) == (0.3, 0.1)  # of 0.1, 0.3, 0.3 and 0.01, 0.1, 0.3
    drawn = draw_panel(panels(make_tuning())["sensitivity"], "alt")
    assert drawn.count("<circle") == 2


def test_sensitivity_panel_omits_failed_trials():
    tuning = make_tuning()
    is_relu = tuning["activation"] == "relu"
    failed = fail(tuning, is_relu & (tuning["lr"] == 0.1) & (tuning["fold"] < 3))
    assert values(panels(failed)["sensitivity"])["relu"][0] == [0.7, None, None]  # one score of three
    assert list(values(panels(fail(tuning, is_relu))["sensitivity"])) == ["tanh"]
    assert panels(fail(tuning, tuning["lr"] > 0)) == {}


def test_sensitivity_panel_omits_a_given_rate_with_fewer_candidates():
    given = make_tuning().query("lr == 0.01 and init == 'torch'").assign(lr=0.02, chosen=False)
    tuning = pd.concat([make_tuning(), given], ignore_index=True)
    tuned = [{"lr": 0.02, "init": "torch"}, *ABOUT["tuned"]]
    about = {**ABOUT, "tuned": tuned, "grid_size": 5}
    assert panels(tuning, about)["sensitivity"].lines[0].x == [0.01, 0.1, 0.3]
    only_rates = {**about, "tuned": [{"lr": one["lr"]} for one in (tuned[0], *GRID[:2])], "grid_size": 3}
    assert panels(tuning.query("init == 'torch'"), only_rates)["sensitivity"].lines[0].x == [0.01, 0.02, 0.1]


def test_sensitivity_panel_needs_two_learning_rates():
    tuning = make_tuning()
    assert list(panels(tuning[tuning["lr"] == 0.1])) == ["budget"]
    assert list(panels(tuning.drop(columns="lr").drop_duplicates(["activation", "fold", "init"]))) == [
        "budget"
    ]


def test_budget_panel_has_the_expected_best_of_the_candidates_of_all_runs():
    panel = panels(make_tuning())["budget"]
    assert panel.title == "expected best validation accuracy after 3 epochs"
    assert panel.x_label == "number of random candidates"
    assert [line.x for line in panel.lines] == [[1, 2, 3, 4]] * 2
    # Of 0.1, 0.2, 0.3 and z = 0.4, 0.5 or 0.6: the mean; (0.2 + 2 x 0.3 + 3 z) / 6; (0.3 + 3 z) / 4; z.
    assert values(panel)["tanh"] == (
        [0.275, 0.38333, 0.45, 0.5],
        [0.25, 0.33333, 0.375, 0.4],
        [0.3, 0.43333, 0.525, 0.6],
    )


def test_budget_panel_counts_failed_trials_as_the_worst_score():
    tuning = make_tuning()
    failed = fail(tuning, (tuning["activation"] == "tanh") & (tuning["init"] == "matched"))
    # 0.1 and 0.2, and twice 0.1, the worst score of all.
    assert values(panels(failed)["budget"])["tanh"][0] == [0.125, 0.15, 0.175, 0.2]
    assert list(values(panels(fail(tuning, tuning["activation"] == "relu"))["budget"])) == ["tanh"]


def test_panels_of_a_regression_show_the_loss():
    tuning = make_tuning().assign(screened_acc=math.nan, valid_acc=math.nan)
    result = panels(tuning)
    assert result["sensitivity"].title == "validation loss after 3 epochs"
    assert result["budget"].title == "expected best validation loss after 3 epochs"
    assert result["sensitivity"].log
    assert values(result["sensitivity"])["tanh"][0] == [0.7, 0.5, 0.25]
    assert values(result["budget"])["tanh"][0] == [0.725, 0.61667, 0.55, 0.5]
    assert chart_insights.describe_sensitivity(result["sensitivity"], LABELS) == (
        "Best learning rate: 0.01 for relu; 0.3 for tanh."
    )
    assert chart_insights.describe_budget(result["budget"], LABELS) == (
        "Best expected score: relu 0.4333 with one random candidate, relu 0.1333 with all 4."
    )


def test_panels_of_a_grid_show_the_final_score():
    tuning = make_tuning().drop(columns=["screened_acc", "screened_loss"])
    result = panels(tuning, {**ABOUT, "tune": "grid", "screening_epochs": 0})
    assert result["sensitivity"].title == "validation accuracy"
    assert values(result["sensitivity"])["tanh"][0] == [0.99] * 3


# -- tables ---------------------------------------------------------------------------------------


def test_choices_table_counts_the_chosen_settings():
    tuning = make_tuning()
    failed = fail(tuning, (tuning["activation"] == "relu") & (tuning["fold"] == 3))
    table = tables.make_choices_table(read_trials(failed, ABOUT), ["tanh", "relu"])
    assert table.rows == [
        ["tanh", "lr=0.3, init=matched (2); lr=0.1, init=matched (1)", "14", "0"],
        ["relu", "lr=0.1, init=torch (1); lr=0.3, init=matched (1)", "13", "4"],
    ]


def test_candidates_table_has_the_scores_after_the_screening():
    table = tables.make_candidates_table(read_trials(make_tuning(), ABOUT), ["tanh", "relu"])
    titles = ["validation accuracy after 3 epochs", "validation loss after 3 epochs"]
    assert [title for title, _ in table.columns] == ["activation", "lr", "init", *titles, "chosen"]
    assert table.rows[2] == ["tanh", "0.1", "matched", "0.5000", "0.5000", "1 of 3"]
    assert table.rows[4] == ["tanh", "0.3", "matched", "0.7500", "0.2500", "2 of 2"]
    assert len(table.rows) == 10


def test_ranking_table_has_means_and_verdicts_as_given():
    whole = tuned_comparison()
    given = whole.as_given
    pairs, given_pairs = (collect_differences(one.verdicts) for one in (whole, given))
    labels = {name: name for name in whole.ranking["activation"]}
    table = tables.make_ranking_table(whole.ranking, pairs, True, labels, given.ranking, given_pairs)
    titles = [title for title, _ in table.columns]
    assert titles[:4] == ["rank", "activation", "mean", "mean as given"]
    columns = [
        [row[titles.index(title)] for row in table.rows] for title in ("mean as given", "verdict as given")
    ]
    assert columns == [
        ["0.9000 (rank 2)", "0.9100 (rank 1)", "0.1000 (no rank)"],
        ["–", "? undecided −1.00", "≠ = equivalent +0.20"],
    ]


def test_render_marks_verdicts_that_tuning_changes():
    page = render(tuned_comparison())
    assert page.count('class="changed"') == 2  # the pair in both directions
    assert page.count("marks a verdict that tuning changes</span>") == 1
    assert "≠ marks a verdict that tuning changes. " in page
    untuned = render(comparison())
    for text in ("as given", "≠", 'id="tuning"'):
        assert text not in untuned


def test_render_of_failed_tuning_has_the_table_without_charts():
    tuning = make_tuning()
    page = render(tuned_comparison(fail(tuning, tuning["lr"] > 0)))
    assert 'id="choices"' in page
    assert 'data-chart="trials"' not in page


def test_report_of_a_tuned_comparison_is_the_same_from_its_folder(tmp_path):
    whole = tuned_comparison()
    whole.to_csv(tmp_path)
    assert render(Comparison.load(tmp_path)) == render(whole)


def test_write_figures_writes_the_tuning(tmp_path):
    written = write_figures(tuned_comparison(), tmp_path)
    assert [path.name for path in written][-2:] == ["tuning.png", "tuning.svg"]


# -- sentences and settings -----------------------------------------------------------------------


def test_insights_name_the_best_rates_and_scores():
    result = panels(make_tuning())
    assert chart_insights.describe_sensitivity(result["sensitivity"], LABELS) == (
        "Best learning rate: 0.01 for relu; 0.3 for tanh."
    )
    assert chart_insights.describe_budget(result["budget"], LABELS) == (
        "Best expected score: relu 0.5667 with one random candidate, relu 0.8667 with all 4."
    )


@pytest.mark.parametrize(
    ("about", "call", "setting"),
    [
        (ABOUT, "", "automatic, after 3 epochs: lr 0.01, 0.1; init torch, matched"),
        ({"tune": None, "tuned": []}, ", tune=None", "none"),
        ({"tune": "grid", "tuned": []}, ", tune=None", "none"),  # a grid of the values as given only
        (
            {"tune": "grid", "tuned": [{"lr": 0.1, "init": "torch"}, *GRID], "grid_size": 5},
            ", tune={'lr': [0.01, 0.1], 'init': ['torch', 'matched']}",
            "lr 0.01, 0.1; init torch, matched",
        ),
        (
            {"tune": "grid", "tuned": [{"lr": 0.5, "init": "torch"}, *GRID], "grid_size": 5},
            ", tune={'lr': [0.01, 0.1], 'init': ['torch', 'matched']}",
            "lr 0.01, 0.1; init torch, matched",
        ),
    ],
)
def test_format_call_and_list_settings_describe_the_tuning(about, call, setting):
    about = {
        "data": "digits",
        **{name: about.get(name) for name in ("tune", "tuned", "grid_size", "screening_epochs")},
    }
    assert reproduce.format_call(["relu"], about) == f"actlab.compare(['relu'], 'digits'{call})"
    assert dict(reproduce.list_settings(about)) == {"data": "digits", "tuning": setting}


# -- browser --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [400, 1280])
def test_report_of_a_tuned_comparison_fits_the_window(browser, tmp_path, width):  # noqa: F811
    write_report(tuned_comparison(), tmp_path / "report.html")
    with open_offline(browser, tmp_path / "report.html", viewport={"width": width, "height": 800}) as page:
        page.locator("#tuning details").evaluate("details => { details.open = true; }")
        assert page.locator("#candidates tbody tr").count() == 10
        assert page.locator("figure.trials .panel .line").count() == 4
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        panel = page.locator("figure.trials .panel").first
        box = panel.locator("svg").bounding_box()
        panel.scroll_into_view_if_needed()
        # A quarter of the axis from 0.01 to 0.3 is 0.023 on a logarithmic scale, 0.083 on a linear one.
        panel.locator("svg").hover(position={"x": 0.35 * box["width"], "y": 0.5 * box["height"]})
        assert panel.locator(".readout").inner_text().startswith("learning rate 0.01\n")
        panel.focus()
        page.keyboard.press("ArrowRight")
        assert "tanh: 0.5 (0.4 to 0.6)" in panel.locator(".readout").inner_text()

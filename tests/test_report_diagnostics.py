"""Diagnostics in the report: histograms, layers, ratios and missing values."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest

from actlab.report import diagnostic_panels
from actlab.report.html import diagnostic_tables
from actlab.report.html.page import render
from tests.report_cases import HOSTILE, comparison, diagnostics_frame
from tests.test_report_page import body, figures, text

NAMES = ("relu", "tanh", "mish")
NAN = math.nan


def section(page):
    return body(page).split('<section id="diagnostics"')[1].split("</section>")[0]


def one_layer(**changed):
    frame = diagnostics_frame(("relu",), layers=1)
    return frame[frame["part"] == "activation"].assign(**changed)


# -- histograms -----------------------------------------------------------------------------------


def percentiles(rows, kind="values"):
    return diagnostic_panels.read_percentiles(rows, kind).to_numpy().tolist()


def test_read_percentiles_interpolates():
    rows = pd.DataFrame({"low": [0.0, -1.0], "high": [1.0, 3.0], "values": ["50 " * 20, "0 0 1 0"]})
    assert percentiles(rows) == [pytest.approx([0.05, 0.5, 0.95]), pytest.approx([1.05, 1.5, 1.95])]


def test_read_percentiles_of_equal_values_are_equal():
    assert percentiles(one_layer(low=0.0, high=0.0, values="1000" + " 0" * 19))[0] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "changed",
    [
        {"values": NAN},
        {"values": "</script>"},
        {"values": "0 " * 20},
        {"values": "-1 2"},
        {"values": ""},
        {"low": NAN},
        {"low": math.inf, "high": math.inf},
        {"low": 2.0, "high": 1.0},
        {"low": "a"},
    ],
)
def test_make_distribution_panels_skips_invalid_histograms(changed):
    rows = one_layer(**changed).drop(columns="gradients")
    assert diagnostic_panels.make_distribution_panels(rows, ["relu"]) == []
    assert diagnostic_panels.make_distribution_panels(rows.drop(columns="values"), ["relu"]) == []


def test_make_distribution_panels_shows_means_over_runs():
    outputs = pd.DataFrame(
        {"activation": "relu", "part": "activation", "layer": 1, "epoch": [1, 1, 9], "fold": [1, 2, 1]}
        | {"low": [-1.0, -3.0, 0.0], "high": [1.0, 3.0, 8.0], "values": "1 1 1 1"}
    )
    (panel,) = diagnostic_panels.make_distribution_panels(outputs, ["relu"])
    (line,) = panel.lines
    assert (panel.title, line.x, line.y) == ("outputs, layer 1", [1, 9], [0.0, 4.0])
    assert (line.low, line.high) == ([-1.8, 0.4], [1.8, 7.6])


def test_make_distribution_panels_uses_a_logarithmic_axis_for_gradients():
    frame = diagnostics_frame(("relu",), layers=1)
    outputs, gradients = diagnostic_panels.make_distribution_panels(frame, ["relu"])
    assert not outputs.log
    assert gradients.log
    assert gradients.lines[0].y[0] == pytest.approx(1e-4, rel=0.3)


def test_make_distribution_panels_thins_many_epochs():
    many = pd.concat([one_layer()[:1].assign(epoch=epoch) for epoch in range(1, 301)])
    outputs, _ = diagnostic_panels.make_distribution_panels(many, ["relu"])
    assert len(outputs.lines[0].x) == 100


# -- panels and tables ----------------------------------------------------------------------------


def test_make_unit_panels_of_deep_networks_shows_four_layers():
    panels = diagnostic_panels.make_unit_panels(diagnostics_frame(("relu",), layers=30), ["relu"])
    assert [panel.title for panel in panels[:4]] == [
        f"dead units, layer {layer}, %" for layer in (1, 11, 20, 30)
    ]
    assert len(panels) == 8


def test_make_unit_panels_shows_means_and_ranges_over_runs():
    frame = diagnostics_frame(("relu",), epochs=(1, 2), layers=1)
    frame["dead"] = frame["dead"].where(frame["fold"] == 1, 0.5)
    line = diagnostic_panels.make_unit_panels(frame, ["relu"])[0].lines[0]
    assert [line.x, line.y, line.low, line.high] == [[1, 2], [25, 30], [0, 10], [50, 50]]


def test_compute_gradient_ratio_is_computed_per_run():
    frame = diagnostics_frame(("tanh",), epochs=(3,), layers=2)
    weights = diagnostic_panels.select_rows(
        frame.assign(gradient=frame["layer"] * frame["fold"] * 1e-3), "weights"
    )
    assert diagnostic_panels.compute_gradient_ratio(weights)["ratio"].to_list() == pytest.approx(
        [1 / 3, 1 / 3]
    )
    assert diagnostic_panels.compute_gradient_ratio(weights[weights["layer"] == 1]).empty
    missing = weights.assign(gradient=weights["gradient"].where(weights["layer"] > 1))
    # The second layer cannot replace the first.
    assert diagnostic_panels.compute_gradient_ratio(missing).empty


def test_make_gradient_panels_uses_a_logarithmic_scale_without_zeros():
    frame = diagnostics_frame(("a", "b"))
    frame["gradient"] = frame["gradient"].where((frame["activation"] == "a") | (frame["layer"] != 2), 0.0)
    ratio, layers = diagnostic_panels.make_gradient_panels(frame, ["a", "b"])
    assert ratio.log
    assert layers.log
    assert layers.lines[1].x == [1, 2, 3]
    assert layers.lines[1].y[1] is None
    assert layers.has_integer_x


def test_make_units_table_shows_the_last_epoch():
    table = diagnostic_tables.make_units_table(diagnostics_frame(("relu",), layers=1), ["relu"])
    assert [name for name, _ in table.columns[:6]] == [
        "activation",
        "layer",
        "name",
        "units",
        "dead units, %",
        "saturated values, %",
    ]
    (row,) = table.rows
    assert row[:7] == ["relu", "1", "activation1", "64", "30", "25", "50"]
    assert float(row[7].replace("−", "-")) == pytest.approx(1e-4, rel=0.3)


# -- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page():
    about = {**comparison().about, "diagnostics": {"samples": 256, "measured_epochs": [1, 2, 5, 12]}}
    return render(comparison(diagnostics=diagnostics_frame(), about=about))


def test_render_diagnostics_section_has_panels_and_tables(page):
    result = section(page)
    message = text(page)
    assert {"units", "gradients"} <= set(figures(page))
    assert figures(page)[4:5] == ["distributions"]
    assert [
        title for title in re.findall("<h3>(.*?)</h3>", result) if title.startswith(("outputs", "gradients"))
    ] == [f"{kind}, layer {layer}" for kind in ("outputs", "gradients") for layer in (1, 2)]
    assert "Measured on 256 samples." in message
    assert "30 % of relu's units in layer 2 have a slope below 0.001" in message
    assert "1/10,000 for mish" in message
    for table in ("diagnostics-units", "diagnostics-weights"):
        assert f'<table id="{table}" class="sortable">' in result
    assert "diagnostics" not in message.split("Reproduction")[-1]
    assert "A printed page" not in message


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            {"diagnostics": {"off": "the model trains in a separate process"}},
            "There are no diagnostics: the model trains in a separate process.",
        ),
        ({}, "There are no diagnostics."),
        ({"diagnostics": None}, "There are no diagnostics."),
    ],
)
def test_render_gives_the_reason_for_missing_diagnostics(about, message):
    page = render(comparison(about={**comparison().about, **about}))
    assert message in text(page)
    assert "<svg" not in section(page)


def test_render_names_activations_without_diagnostics():
    result = text(render(comparison(diagnostics=diagnostics_frame(("relu",)))))
    assert "No diagnostics of tanh , mish ." in result
    assert "30 % of relu's units" in result


def test_render_of_many_layers_and_activations_has_short_tables():
    names = tuple(f"a{i}" for i in range(50))
    page = render(
        comparison(
            names, seeds=1, folds=2, epochs=2, diagnostics=diagnostics_frame(names, epochs=(1, 2), layers=30)
        )
    )
    result = section(page)
    assert result.count("<tr>") == 2 + 2 * 50 * 4
    message = text(page)
    assert "the first layer, the last and two between" in message
    assert (
        "A printed page shows the first 40 rows of each table; diagnostics.csv contains all rows." in message
    )
    assert len(page.encode()) < 1_500_000


@pytest.mark.parametrize(
    "changed",
    [
        {"gradient": NAN},
        {"values": NAN, "gradients": NAN},
        {"dead": NAN, "saturated": NAN, "grad_zero": NAN, "units": NAN},
        {"dead": NAN, "saturated": NAN, "gradient": NAN, "values": NAN, "gradients": NAN},
        {"gradient": math.inf, "grad_high": math.inf, "low": -math.inf},
        {"gradient": 0.0},
    ],
)
def test_render_skips_missing_diagnostics_cells(changed):
    page = render(comparison(diagnostics=diagnostics_frame().assign(**changed)))
    assert "activation2" in section(page)
    assert "nan" not in re.sub(r"<[^>]*>", " ", section(page)).lower()
    assert not re.search(r'd="[^"]*nan', section(page))


@pytest.mark.parametrize("epochs", [(4,), (1, 2)])
def test_render_diagnostics_of_one_epoch(epochs):
    page = render(comparison(diagnostics=diagnostics_frame(epochs=epochs)))
    assert "outputs, layer 2" in section(page)
    assert ("The share of dead units grows" in text(page)) == (len(epochs) > 1)


def test_render_ignores_diagnostics_without_required_columns():
    assert "There are no diagnostics." in text(render(comparison(diagnostics=pd.DataFrame({"a": [1]}))))


def test_render_escapes_names_of_layers():
    names = tuple(HOSTILE)
    frame = diagnostics_frame(names)
    frame["name"] = [HOSTILE[i % len(HOSTILE)] for i in range(len(frame))]
    page = render(comparison(names, seeds=1, diagnostics=frame))
    assert page.count("</script>") == page.count("<script>") + 1
    assert "<img" not in body(page)
    assert 'onmouseover="window' not in body(page)


def test_render_of_a_hundred_runs_with_diagnostics_is_below_1_5_mb():
    runs = [(fold, seed) for seed in range(11) for fold in (1, 2, 3)]
    whole = comparison(
        seeds=11, epochs=25, diagnostics=diagnostics_frame(runs=runs, epochs=range(1, 26), layers=3)
    )
    assert len(whole.results) == 99
    assert len(render(whole).encode()) < 1_500_000

"""Figures on matplotlib axes, checked by the drawn lines and texts, and their files."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import xml.etree.ElementTree as xml

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

import actlab
from actlab import UsageError, plot_comparison, plot_figure, plot_function, plot_history
from actlab.cli import main
from actlab.report.plots.figures import write_figures
from tests.command_line import in_empty_folder, list_names, refused, tiny_data
from tests.report_cases import HOSTILE, all_diverged, comparison, diagnostics_frame

__all__ = ["in_empty_folder", "tiny_data"]

NAMES = ["functions", "learning", "losses", "comparison", "cost"]
FILES = [f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
DIVERGED = [f"{name}.{kind}" for name in ("functions", "cost") for kind in ("png", "svg")]
NO_MATPLOTLIB = 'figures need matplotlib: pip install "actlab[figures]"'
LITERAL_NAMES = ["$x^2$", "$unbalanced", "_hidden", "a_b\\input{x}", "\x1b[2J\x00", *HOSTILE]


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines(ax):
    """Return the points of every line, in the order of drawing."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]


# -- functions ------------------------------------------------------------------------------------


def draw_function(activation, ax):
    curve = plot_function(activation, ax).lines[0]
    return curve.get_xdata(), curve.get_ydata()


def test_plot_function_uses_the_parameters_of_a_spec(ax):
    x, y = draw_function("leaky_relu(negative_slope=0.5)", ax)
    np.testing.assert_allclose(y, np.where(x > 0, x, 0.5 * x))
    assert ax.get_title() == "leaky_relu(negative_slope=0.5)"


def test_plot_function_accepts_definitions_and_names(ax):
    for name in ("mish", "threshold", "prelu"):  # threshold has no default
        first = draw_function(actlab.catalogue[name], ax)
        ax.clear()
        np.testing.assert_array_equal(draw_function(name, ax), first)
        ax.clear()


def test_plot_function_shows_all_kinks(ax):
    plot_function("hardtanh(min_val=-7.0, max_val=7.0)", ax)
    kinks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert kinks == [-7, 7]
    assert ax.get_xlim() == (-10.5, 10.5)


def test_plot_function_accepts_trained_parameters(ax):
    x, y = draw_function("prelu(init=0.5)", ax)
    np.testing.assert_allclose(y, np.where(x > 0, x, 0.5 * x))


def test_plot_function_accepts_modules(ax):
    x, y = draw_function("torch.nn:Softsign", ax)
    np.testing.assert_allclose(y, x / (1 + abs(x)))


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("glu", "glu takes two halves of a tensor, so it has no curve to draw"),
        ("torch.nn:GLU", "torch.nn:GLU: its curve cannot be drawn: RuntimeError"),
        ("tanhh", "unknown activation 'tanhh' (did you mean 'tanh'?)"),
    ],
)
def test_plot_function_rejects_activations_without_curve(ax, activation, message):
    with pytest.raises(UsageError) as error:
        plot_function(activation, ax)
    assert str(error.value).startswith(message)


# -- histories ------------------------------------------------------------------------------------


def test_plot_history_shows_means_and_ranges(ax):
    history = pd.DataFrame(
        {
            "activation": ["relu"] * 4 + ["tanh"] * 4,
            "epoch": [1, 2] * 4,
            "valid_acc": [0.1, 0.2, 0.3, 0.6, 0.5, 0.5, 0.5, math.nan],
        }
    )
    assert plot_history(history, ax, metric="valid_acc") is ax
    tanh, relu = lines(ax)  # the best is drawn last, on top
    assert relu == ([1, 2], [0.2, 0.4])
    assert tanh == ([1, 2], [0.5, 0.5])
    band = ax.collections[1].get_paths()[0].vertices
    assert sorted({(x, round(y, 9)) for x, y in band}) == [(1, 0.1), (1, 0.3), (2, 0.2), (2, 0.6)]
    assert legend(ax) == ["relu", "tanh"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "validation accuracy", "linear")


def test_plot_history_and_plot_comparison_use_equal_colours(ax):
    example = comparison(("relu", "tanh", "mish"), seeds=4)
    by_name = example.history.sort_values(
        "activation", kind="stable"
    )  # mish, the last of the ranking, comes first
    whole = dataclasses.replace(example, history=by_name)
    plot_history(whole, ax, metric="valid_acc")
    other = Figure().subplots()
    plot_comparison(whole, other)
    assert legend(ax) == list(whole.ranking["activation"])
    colours = [line.get_color() for line in ax.get_legend().get_lines()]
    dots = [line.get_color() for line in other.lines if line.get_marker() == "o"]
    assert colours == dots
    assert len(set(colours)) == 3


@pytest.mark.parametrize("activation", [None, "relu"])
def test_plot_history_of_one_activation_shows_both_losses(ax, activation):
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [3.0, 1.0], "valid_loss": [3.0, 2.0]})
    if activation:
        history.insert(0, "activation", activation)
    plot_history(history, ax)
    by_style = {line.get_linestyle(): list(line.get_ydata()) for line in ax.lines}
    assert by_style == {"-": [3, 2], "--": [3, 1]}
    assert legend(ax) == ["validation loss", "training loss"]
    assert ax.get_title() == (activation or "")


def test_plot_history_uses_a_logarithmic_scale_for_large_ranges(ax):
    plot_history(pd.DataFrame({"epoch": [1, 2], "train_loss": [10.0, 0.01]}), ax, metric="train_loss")
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "training loss"


def test_plot_history_of_one_epoch_draws_a_dot(ax):
    plot_history(pd.DataFrame({"epoch": [1], "valid_acc": [0.5]}), ax, metric="valid_acc")
    assert [line.get_marker() for line in ax.lines] == ["o"]
    assert ax.get_legend() is None


def test_plot_history_names_the_best_ten_activations(ax):
    history = pd.DataFrame(
        {"activation": f"a{i}", "epoch": epoch, "valid_acc": i / 20} for i in range(20) for epoch in (1, 2)
    )
    plot_history(history, ax, metric="valid_acc")
    assert legend(ax) == [*(f"a{i}" for i in range(19, 9, -1)), "10 more"]
    assert len(ax.lines) == 20
    styles = [(line.get_color(), line.get_linestyle()) for line in ax.lines]
    assert len(set(styles)) == 11
    figure = ax.figure
    figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x0 > ax.get_window_extent().x1
    assert figure.get_tightbbox().width <= figure.get_figwidth() + 0.1


@pytest.mark.parametrize(
    ("history", "metric", "message"),
    [
        (
            {"epoch": [1], "train_loss": [1.0]},
            "valid_los",
            "metric must be one of .*, got 'valid_los'.*did you mean 'valid_loss'",
        ),
        ({"epoch": [1], "train_loss": [1.0]}, "valid_loss", "no valid_loss, so .* it has train_loss"),
        ({"epoch": [1], "train_loss": [math.nan]}, "train_loss", "it has no metric that is finite"),
        ({"train_loss": [1.0]}, "train_loss", "it has no metric that is finite"),
        ({"epoch": []}, "valid_loss", "the history has no epochs"),
    ],
)
def test_plot_history_rejects_missing_metrics(ax, history, metric, message):
    with pytest.raises(UsageError, match=message):
        plot_history(pd.DataFrame(history), ax, metric=metric)
    assert not ax.has_data()


# -- differences ----------------------------------------------------------------------------------


def test_plot_comparison_orders_differences_by_rank(ax):
    assert plot_comparison(comparison(), ax) is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == ["relu", "tanh", "mish"]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [(0, 0), (-1, 1), (-2, 2)]
    whiskers = [list(map(float, line.get_xdata())) for line in ax.lines if len(line.get_xdata()) == 2][1:]
    np.testing.assert_allclose(whiskers, [[0, 0], [-2.2, 0.2], [-3.2, -0.8]])
    assert [text.get_text() for text in ax.texts] == [
        "the first",
        "−1.00 (−2.20 to +0.20)  undecided",
        "−2.00 (−3.20 to −0.80)  worse",
    ]
    (band,) = ax.patches
    np.testing.assert_allclose(band.get_extents().transformed(ax.transData.inverted()).intervalx, [-0.2, 0.2])
    assert ax.get_xlabel() == "difference in accuracy from relu, pp"


def ranked(ranks, **changed):
    """Return the generated comparison with other ranks."""
    whole = comparison(**changed)
    ranking = whole.ranking.assign(rank=pd.array(ranks, "Int64"), status="chance level for 4 of 4 seeds")
    return dataclasses.replace(whole, ranking=ranking)


@pytest.mark.parametrize(
    ("ranks", "label"),
    [
        ([pd.NA, pd.NA, pd.NA], "the reference"),
        ([1, 1, 3], "tied for first"),
        ([1, pd.NA, pd.NA], "the first"),
        ([2, pd.NA, pd.NA], "the reference"),
    ],
)
def test_plot_comparison_labels_an_activation_as_first_only_if_it_has_rank_1(ax, ranks, label):
    plot_comparison(ranked(ranks), ax)
    assert ax.texts[0].get_text() == label
    assert ax.get_xlabel() == "difference in accuracy from relu, pp"


def test_plot_comparison_marks_large_differences_at_the_edge(ax):
    whole = comparison()
    verdicts = whole.verdicts.copy()
    verdicts.loc[1, ["difference", "low", "high"]] = [0.9, 0.8, 0.95]
    plot_comparison(dataclasses.replace(whole, verdicts=verdicts), ax)
    (triangle,) = (line for line in ax.lines if line.get_marker() == "<")
    low, high = ax.get_xlim()
    assert low < triangle.get_xdata()[0] < low + 0.1 * (high - low)
    assert ax.texts[2].get_text().startswith("−90.00 (−95.00 to −80.00)")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (lambda: comparison(("relu",)), "differences need at least two activations; the comparison has 1"),
        (all_diverged, "has no difference to draw: relu diverged"),
    ],
)
def test_plot_comparison_rejects_missing_data(ax, example, message):
    with pytest.raises(UsageError, match=message):
        plot_comparison(example(), ax)


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")
@pytest.mark.parametrize("name", LITERAL_NAMES)
def test_plot_functions_write_names_literally(ax, name):
    whole = comparison((name, "relu"), seeds=1)
    plot_history(whole.history, ax, metric="valid_acc")
    result = ax.get_legend().get_texts()
    other = Figure(layout="constrained").subplots()
    plot_comparison(whole, other)
    texts = [result[0], other.get_yticklabels()[0], other.xaxis.label]
    with matplotlib.rc_context({"text.usetex": False}):
        for figure in (ax.figure, other.figure):
            figure.draw_without_rendering()
    assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
    assert texts[0].get_text() == texts[1].get_text() in texts[2].get_text()
    assert all(char.isprintable() for char in texts[0].get_text())
    if name.isprintable() and len(name) < 26:
        assert texts[0].get_text() == name


# -- pyplot ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plot",
    [
        lambda: plot_function("relu"),
        lambda: plot_history(comparison(seeds=1).history),
        lambda: plot_comparison(comparison(seeds=1)),
    ],
)
def test_plot_functions_use_the_current_axes_by_default(plot):
    with matplotlib.rc_context({"backend": "agg"}):
        _, (_, second) = pyplot.subplots(1, 2)
        try:
            assert plot() is second
        finally:
            pyplot.close("all")


def test_plot_functions_without_matplotlib_name_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    whole = comparison(seeds=1)
    for plot in (
        lambda: plot_function("relu"),
        lambda: plot_history(whole.history),
        lambda: plot_comparison(whole),
        lambda: write_figures(whole, tmp_path),
    ):
        with pytest.raises(UsageError) as error:
            plot()
        assert str(error.value) == NO_MATPLOTLIB
    assert list_names(tmp_path) == []


# -- figures --------------------------------------------------------------------------------------


def count_axes(figure):
    return sum(ax.axison for ax in figure.axes)


def test_plot_figure_draws_the_panels_of_the_report():
    whole = comparison(diagnostics=diagnostics_frame(layers=3))
    panels = {"functions": 3, "learning": 3, "losses": 3, "comparison": 1, "units": 6, "gradients": 2}
    for name, count in {**panels, "distributions": 6, "cost": 1}.items():
        assert count_axes(plot_figure(whole, name)) == count, name
    units = plot_figure(whole, "units").axes
    assert units[0].get_ylabel() == "dead units, layer 1, %"
    assert list(units[0].lines[-1].get_xdata()) == [1, 2, 5, 12]
    assert [line.get_linestyle() for line in plot_figure(whole, "losses").axes[0].lines] == ["--", "-"]


def test_plot_figure_of_costs_has_a_bar_per_activation():
    whole = comparison()
    results = whole.results.assign(saved_bytes=whole.results["activation"].map({"relu": 2048, "tanh": 1024}))
    seconds, memory = plot_figure(dataclasses.replace(whole, results=results), "cost").axes
    means = whole.results.groupby("activation", sort=False)["seconds"].mean()
    assert [bar.get_width() for bar in seconds.patches] == pytest.approx(means.to_list())
    assert [label.get_text() for label in memory.get_yticklabels()] == ["relu", "tanh"]
    assert [bar.get_width() for bar in memory.patches] == [2, 1]
    assert memory.get_xlabel() == "KiB saved for backward"


@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")
def test_plot_figure_writes_names_literally():
    whole = comparison(tuple(LITERAL_NAMES), seeds=1, diagnostics=diagnostics_frame(tuple(LITERAL_NAMES)))
    for name in ("losses", "cost", "distributions"):
        plot_figure(whole, name).draw_without_rendering()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lossses", "name must be one of functions, .*, got 'lossses'.*did you mean 'losses'"),
        ("units", "the comparison has no data for the figure 'units'"),
        ("tuning", "the comparison has no data for the figure 'tuning'"),
    ],
)
def test_plot_figure_rejects_missing_figures(name, message):
    with pytest.raises(UsageError, match=message):
        plot_figure(comparison(), name)


# -- files ----------------------------------------------------------------------------------------


def test_write_figures_writes_reproducible_png_and_svg(tmp_path):
    whole = comparison(("relu", "tanh"), seeds=1)
    written = write_figures(whole, tmp_path / "a/b")
    assert written == [tmp_path / "a/b" / name for name in FILES]
    assert list_names(tmp_path / "a/b") == sorted(FILES)
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert xml.parse(path).getroot().tag.endswith("svg")
    write_figures(whole, tmp_path / "c")
    for path in written:
        assert path.read_bytes() == (tmp_path / "c" / path.name).read_bytes()


def test_write_figures_removes_old_files_without_data(tmp_path):
    write_figures(comparison(("relu", "tanh"), seeds=1), tmp_path)
    assert list_names(tmp_path) == sorted(FILES)
    written = write_figures(all_diverged(), tmp_path)
    assert [path.name for path in written] == DIVERGED
    assert list_names(tmp_path) == sorted(DIVERGED)
    own = write_figures(comparison(tuple(LITERAL_NAMES), seeds=1), tmp_path)
    assert [path.name for path in own] == FILES[2:]
    for path in own[1::2]:
        xml.parse(path)


def test_compare_and_report_figures_option_writes_figures(tmp_path, tiny_data, capsys):
    call = [*"compare --no-tune relu tanh --data".split(), tiny_data, *"--epochs 2 --out a --json".split()]
    assert main([*call, "--figures"]) == 0
    files = [f"a/figures/{name}" for name in FILES]
    assert json.loads(capsys.readouterr().out)["files"][-len(files) :] == files
    assert "--figures" not in (tmp_path / "a/report.html").read_text(encoding="utf-8")
    for path in files:
        (tmp_path / path).unlink()
    assert main(["report", "a", "--figures", "--out", "b.html"]) == 0
    assert capsys.readouterr().out.split() == [
        "Written:",
        "b.html,",
        *(f"{file}," for file in files[:-1]),
        files[-1],
    ]
    assert list_names(tmp_path / "a/figures") == sorted(FILES)


def test_compare_figures_option_needs_matplotlib_before_training(tmp_path, tiny_data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert (
        refused(capsys, "compare", "--no-tune", "relu", "--data", tiny_data, "--figures")
        == f"actlab: error: {NO_MATPLOTLIB}\n"
    )
    assert not (tmp_path / "out/compare/ledger.sqlite").exists()

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actlab import UsageError
from actlab.report.plots.critical_difference import (
    critical_difference,
    text_diagram,
    write_critical_difference,
)
from actlab.stats.several_datasets import over_datasets

NAMES = [
    "leaky_relu(negative_slope=0.2)",
    "leaky_relu(negative_slope=0.01)",
    "relu",
    "tanh",
    "gelu(approximate='tanh')",
    "my_layers.py:MyActivation",
    "softplus(beta=2.0,threshold=20)",
    "mish",
    "silu",
    "elu",
    "selu",
    "celu(alpha=0.5)",
    "hardswish",
    "$x_1$",
    "prelu",
]


def compared(activations, datasets=20, step=0.3, seed=0):
    values = np.random.default_rng(seed).normal(size=(datasets, activations)) + step * np.arange(activations)
    return over_datasets(pd.DataFrame(values, columns=NAMES[:activations]))


def with_a_hole():
    """Three activations: the first and the last are not told apart, though the second is from the first."""
    b = np.linspace(5, 6, 12)
    a = b + np.array([9.0] * 3 + [-1.0] * 9)
    return over_datasets(pd.DataFrame({"a": a, "b": b, "c": b - 0.5}))


def drawn(found, **how):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained", **how)
    axes = figure.subplots()
    assert critical_difference(found, axes) is axes
    figure.draw_without_rendering()
    return axes


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def test_rank_1_is_at_the_left_and_names_stand_with_their_mean_ranks():
    axes = drawn(compared(4))
    low, high = axes.get_xlim()
    assert low < 1 < 4 < high
    texts = [text.get_text().strip() for text in axes.texts]
    ranks = compared(4).ranks
    names, means = ranks["activation"], ranks["mean_rank"]
    assert texts[:2] == [f"{name}  {mean:.2f}" for name, mean in zip(names[:2], means[:2], strict=True)]
    assert texts[2:4] == [f"{mean:.2f}  {name}" for name, mean in zip(names[2:], means[2:], strict=True)]
    assert axes.get_xlabel() == "mean rank over 20 datasets (1 is best)"


@pytest.mark.parametrize("activations", range(2, 16))
def test_nothing_that_is_written_overlaps(activations):
    axes = drawn(compared(activations))
    boxes = [text.get_window_extent() for text in [*axes.texts, axes.xaxis.label, *axes.get_xticklabels()]]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    page = axes.figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in boxes)


@pytest.mark.parametrize("seed", range(4))
def test_bars_have_a_dot_for_each_member_and_do_not_touch(seed):
    found = compared(12, datasets=30, step=0.15, seed=seed)
    axes = drawn(found)
    ranks = dict(found.ranks[["activation", "mean_rank"]].to_numpy())
    dots = [line.get_xdata().tolist() for line in lines(axes, "members")]
    assert dots == [[ranks[name] for name in clique] for clique in found.cliques]
    bars = [(*line.get_xdata(), line.get_ydata()[0]) for line in lines(axes, "bar")]
    assert len(bars) == len(found.cliques) > 1
    for (low, high, y), (low_2, high_2, y_2) in itertools.combinations(bars, 2):
        assert y != y_2 or high < low_2 or high_2 < low
    highest_label = min(text.get_position()[1] for text in axes.texts)
    assert max(y for _, _, y in bars) < highest_label


def test_a_bar_of_equal_ranks_can_be_seen():
    found = over_datasets(pd.DataFrame(np.ones((9, 3)), columns=["a", "b", "c"]))
    (bar,) = lines(drawn(found), "bar")
    low, high = bar.get_xdata()
    assert low < 2 < high


def test_the_legend_says_what_bars_are():
    assert drawn(compared(3, datasets=3)).texts[-1].get_text() == (
        "bars join what is not told apart (Wilcoxon's test, Holm's correction, 5\N{NO-BREAK SPACE}%)"
    )
    assert drawn(compared(2, step=5)).texts[-1].get_text().startswith("all are told apart")
    assert drawn(compared(1)).texts[-1].get_text() == "there is no other to compare it with"
    assert drawn(with_a_hole()).texts[-1].get_text().endswith("\nwhat has no dot on a bar is only passed by")


@pytest.mark.parametrize(("suffix", "first"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_the_file_is_of_the_kind_that_its_name_says(tmp_path, suffix, first):
    write_critical_difference(compared(15), tmp_path / f"ranks{suffix}")
    assert (tmp_path / f"ranks{suffix}").read_bytes().startswith(first)
    assert [path.name for path in tmp_path.iterdir()] == [f"ranks{suffix}"]


def test_files_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    with pytest.raises(
        UsageError, match=r"cannot write 'ranks.txt' as a figure: it should end in .png, .svg"
    ):
        write_critical_difference(compared(3), tmp_path / "ranks.txt")
    with pytest.raises(UsageError, match=r"cannot write .*No such file"):
        write_critical_difference(compared(3), tmp_path / "none" / "ranks.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r'pip install "actlab\[figures\]"'):
        write_critical_difference(compared(3), tmp_path / "ranks.png")
    assert list(tmp_path.iterdir()) == []


def test_a_text_has_a_dot_for_each_rank_and_a_column_for_each_bar():
    assert text_diagram(with_a_hole(), 60).splitlines() == [
        "activation   rank  1                                   3",
        "b            1.25  ····●································ ┃",
        "c            2.25  ······················●·············· ╎ ┃",
        "a            2.50  ···························●········· ┃ ┃",
        "┃ joins what is not told apart (Wilcoxon's test, Holm's",
        "correction, 5\N{NO-BREAK SPACE}%); ╎ only passes by",
    ]


def test_a_text_keeps_to_its_width_and_shortens_names_in_their_middle():
    text = text_diagram(compared(15, datasets=30, step=0.15), 40).splitlines()
    assert max(map(len, text)) <= 40
    assert any(line.startswith("leaky_r…pe=0.2)") for line in text)
    assert any(line.startswith("leaky_r…e=0.01)") for line in text)


def test_a_text_that_is_too_narrow_is_refused():
    with pytest.raises(UsageError, match="width is 39; a diagram needs 40 columns or more"):
        text_diagram(compared(3), 39)


def test_bars_that_do_not_fit_are_counted():
    text = text_diagram(compared(15, datasets=30, step=0.12, seed=0), 40)
    assert "columns of bars that do not fit here:" in " ".join(text.split())


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 15), st.integers(2, 30), st.floats(0, 1), st.integers(0, 99), st.integers(40, 120))
def test_any_text_shows_every_activation_and_fits(activations, datasets, step, seed, width):
    found = compared(activations, datasets, step, seed)
    rows = text_diagram(found, width).splitlines()
    assert max(map(len, rows)) <= width
    assert [row.count("●") for row in rows[1 : activations + 1]] == [1] * activations
    dots = [row.index("●") for row in rows[1 : activations + 1]]
    assert dots == sorted(dots)

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actlab import UsageError
from actlab.report.plots.critical_difference import (
    draw_critical_difference,
    write_critical_difference,
)
from actlab.stats.several_datasets import compare_over_datasets

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


def compare(activations, datasets=20, step=0.3, seed=0):
    values = np.random.default_rng(seed).normal(size=(datasets, activations)) + step * np.arange(activations)
    return compare_over_datasets(pd.DataFrame(values, columns=NAMES[:activations]))


def compare_with_a_gap():
    """Return ranks in which only the first and the last of three activations do not differ significantly."""
    b = np.linspace(5, 6, 12)
    a = b + np.array([9.0] * 3 + [-1.0] * 9)
    return compare_over_datasets(pd.DataFrame({"a": a, "b": b, "c": b - 0.5}))


def draw(result, **options):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained", **options)
    axes = figure.subplots()
    assert draw_critical_difference(result, axes) is axes
    figure.draw_without_rendering()
    return axes


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def test_critical_difference_has_rank_1_left_and_names_with_mean_ranks():
    axes = draw(compare(4))
    low, high = axes.get_xlim()
    assert low < 1 < 4 < high
    texts = [text.get_text().strip() for text in axes.texts]
    ranks = compare(4).ranks
    names, means = ranks["activation"], ranks["mean_rank"]
    assert texts[:2] == [f"{name}  {mean:.2f}" for name, mean in zip(names[:2], means[:2], strict=True)]
    assert texts[2:4] == [f"{mean:.2f}  {name}" for name, mean in zip(names[2:], means[2:], strict=True)]
    assert axes.get_xlabel() == "mean rank over 20 datasets (1 is best)"


@pytest.mark.parametrize("activations", range(2, 16))
def test_critical_difference_texts_do_not_overlap(activations):
    axes = draw(compare(activations))
    boxes = [text.get_window_extent() for text in [*axes.texts, axes.xaxis.label, *axes.get_xticklabels()]]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    page = axes.figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in boxes)


@pytest.mark.parametrize("seed", range(4))
def test_critical_difference_bars_have_a_dot_for_each_member(seed):
    comparison = compare(12, datasets=30, step=0.15, seed=seed)
    axes = draw(comparison)
    ranks = dict(comparison.ranks[["activation", "mean_rank"]].to_numpy())
    dots = [line.get_xdata().tolist() for line in lines(axes, "members")]
    assert dots == [[ranks[name] for name in clique] for clique in comparison.cliques]
    bars = [(*line.get_xdata(), line.get_ydata()[0]) for line in lines(axes, "bar")]
    assert len(bars) == len(comparison.cliques) > 1
    for (low, high, y), (low_2, high_2, y_2) in itertools.combinations(bars, 2):
        assert y != y_2 or high < low_2 or high_2 < low
    highest_label = min(text.get_position()[1] for text in axes.texts)
    assert max(y for _, _, y in bars) < highest_label


def test_critical_difference_bar_of_equal_ranks_is_visible():
    result = compare_over_datasets(pd.DataFrame(np.ones((9, 3)), columns=["a", "b", "c"]))
    (bar,) = lines(draw(result), "bar")
    low, high = bar.get_xdata()
    assert low < 2 < high


def test_critical_difference_legend_describes_the_bars():
    assert draw(compare(3, datasets=3)).texts[-1].get_text() == (
        "No significant difference between the dots of a bar (Wilcoxon's test, Holm's correction, "
        "5\N{NO-BREAK SPACE}%)"
    )
    assert draw(compare(2, step=5)).texts[-1].get_text().startswith("All differ (")
    assert draw(compare(1)).texts[-1].get_text() == "There is only one activation"


@pytest.mark.parametrize(("suffix", "first"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_write_critical_difference_uses_the_format_of_the_suffix(tmp_path, suffix, first):
    write_critical_difference(compare(15), tmp_path / f"ranks{suffix}")
    assert (tmp_path / f"ranks{suffix}").read_bytes().startswith(first)
    assert [path.name for path in tmp_path.iterdir()] == [f"ranks{suffix}"]


def test_write_critical_difference_rejects_unwritable_files(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"must end in .png, .svg, .pdf, got 'ranks.txt'"):
        write_critical_difference(compare(3), tmp_path / "ranks.txt")
    with pytest.raises(UsageError, match=r"cannot write .*No such file"):
        write_critical_difference(compare(3), tmp_path / "none" / "ranks.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r'pip install "actlab\[figures\]"'):
        write_critical_difference(compare(3), tmp_path / "ranks.png")
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 15), st.integers(2, 30), st.floats(0, 1), st.integers(0, 99))
def test_compare_over_datasets_groups_activations_that_do_not_differ(activations, datasets, step, seed):
    comparison = compare(activations, datasets, step, seed)
    pairs = {frozenset((row.a, row.b)): row.verdict for row in comparison.verdicts.itertuples()}
    for a, b in itertools.combinations(comparison.ranks["activation"], 2):
        shared = any(a in group and b in group for group in comparison.cliques)
        assert shared == (pairs[frozenset((a, b))] == "undecided")

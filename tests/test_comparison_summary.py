"""What a console and a notebook show of a comparison, and its tables for papers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

import actlab
from actlab import UsageError
from actlab.report.html import notebook
from tests.browser import open_offline
from tests.report_cases import HOSTILE, all_diverged, browser, comparison, training, unfinished

__all__ = ["browser"]

LATEX_NAMES = ["[a]", "*b", "x--y", "50%&$_#{}~^\\", "a<b>|c", "relu"]


def make_large():
    names = tuple(f"my_layers.py:Activation{index:02}OfTheModel(slope=0.{index})" for index in range(30))
    return comparison(names, seeds=1)


def make_failing():
    whole = all_diverged()
    status = "failed in 3 of 3 runs: RuntimeError: \x1b[2J " + "long " * 40
    return dataclasses.replace(whole, ranking=whole.ranking.assign(status=status))


CASES = {
    "several": comparison,
    "hostile": lambda: comparison(tuple(HOSTILE)),
    "large": make_large,
    "one": lambda: comparison(("relu",)),
    "failing": make_failing,
    "training": training,
    "unfinished": unfinished,
    "without settings": lambda: comparison(about={}),
}


@pytest.mark.parametrize("case", CASES)
def test_comparison_repr_fits_a_console(case):
    lines = repr(CASES[case]()).splitlines()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith("More: .sentences()")


def test_comparison_repr_has_verdicts_ranking_and_settings():
    lines = repr(comparison()).splitlines()
    assert lines[:2] == [
        "Comparison on digits: 3 activations, 36 runs",
        "Best: relu, mean accuracy 0.9501 over 12 runs.",
    ]
    assert any(line.startswith("mish is worse than relu by 2.00 pp") for line in lines)
    start = lines.index("rank  activation    mean     std")
    assert [line.split()[:2] for line in lines[start + 2 : start + 5]] == [
        ["1", "relu"],
        ["2", "tanh"],
        ["3", "mish"],
    ]
    assert lines[-2] == "Settings: as given for all activations, not tuned."


def test_comparison_repr_shortens_names_and_counts_the_rest():
    text = repr(make_large())
    assert "OfTheModel(slope=0.29)" not in text
    assert "(26 more in .ranking)" in text


def test_comparison_repr_states_what_was_tuned():
    about = {**comparison().about, "tuned": [{"lr": 0.1, "init": "torch"}, {"lr": 0.3, "init": "torch"}]}
    tuned = comparison(about=about, as_given=comparison())
    assert "Settings: lr, init tuned in each run; .as_given has those as given." in repr(tuned).splitlines()


def test_comparison_str_fits_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    lines = str(make_large()).splitlines()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 50
    monkeypatch.setenv("COLUMNS", "200")
    assert str(make_large()) == repr(make_large())


# -- notebooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_comparison_repr_html_is_small_and_runs_nothing(case):
    html = CASES[case]()._repr_html_()
    assert len(html.encode()) < 60_000
    assert html.count("<svg") - html.count('<svg class="swatch"') == (case != "failing")
    tags = set(re.findall(r"<(\w+)", html))
    assert tags <= {
        *("div", "style", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "bdi"),
        *("svg", "path", "text", "rect", "circle", "g", "span", "br"),
    }
    assert not re.search(r"https?:|url\(|@import| on\w+=[\"']?\w", re.sub(r"&quot;|&#x27;", "", html))


def test_comparison_repr_html_has_the_differences_as_chart():
    html = comparison()._repr_html_()
    assert 'aria-label="Forest plot: difference in accuracy from relu, pp"' in html
    assert "<strong>Best: relu, mean accuracy 0.9501 over 12 runs.</strong>" in html
    assert html.count("<tr>") == 4


def test_comparison_repr_html_limits_rows_and_sentences():
    html = make_large()._repr_html_()
    assert html.count("<tr>") == 21
    assert "10 more activations are in .ranking." in html
    assert re.search(r"<li>\d+ more: .sentences\(\)</li>", html)


def test_comparison_repr_html_shows_hostile_names_as_text(browser, tmp_path):
    page = tmp_path / "cell.html"
    body = comparison(tuple(HOSTILE), seeds=1)._repr_html_()
    page.write_text(f"<!DOCTYPE html><meta charset='utf-8'><body>{body}", encoding="utf-8")
    with open_offline(browser, page) as opened:
        assert opened.evaluate("window.stolen") is None
        names = opened.locator("tbody td:nth-child(2)").all_inner_texts()
        assert names[1] == "<img src=x on…tolen = 1'>"
        assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("background", ["#ffffff", "#111111"])
def test_comparison_repr_html_colours_are_visible_on_light_and_dark(background):
    css = (Path(notebook.__file__).parent / "assets/notebook.css").read_text(encoding="utf-8")
    colours = re.findall(r"color: (#[0-9a-f]{6})", css)
    assert len(colours) == 7
    for colour in colours:
        low, high = sorted((_luminance(colour), _luminance(background)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def _luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_comparison_report_writes_the_page(tmp_path):
    path = comparison().report(tmp_path / "page.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(UsageError, match="cannot write"):
        comparison().report(tmp_path / "missing" / "page.html")


# -- papers ---------------------------------------------------------------------------------------


def read_latex(text):
    """Return caption and rows of a table in LaTeX after a check of its structure."""
    lines = text.splitlines()
    assert lines[:2] == [r"\begin{table}", r"\centering"]
    assert lines[-2:] == [r"\end{tabular}", r"\end{table}"]
    caption = re.fullmatch(r"\\caption\{(.*)\}", lines[2])[1]
    columns = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[3])[1]
    assert lines[4] == r"\toprule"
    assert lines[6] == r"\midrule"
    assert lines[-3] == r"\bottomrule"
    rows = [lines[5], *lines[7:-3]]
    for row in rows:
        assert row.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
        assert not row.startswith(("[", "*"))
    for line in (caption, *(row[:-3] for row in rows)):
        check_latex(line)
    return caption, [[cell.strip() for cell in re.split(r"(?<!\\)&", row[:-3])] for row in rows]


def check_latex(text):
    """Check that text compiles: known commands, escaped characters, and balanced braces and formulas."""
    known = (
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\\pm|\\[&%$#_{}]"
    )
    rest = re.sub(known, "", text)
    assert "\\" not in rest
    assert not set(rest) & set("%#_~^<>|–−±")
    assert rest.count("$") % 2 == 0
    depth = 0
    for char in rest:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("table", ["ranking", "verdicts"])
@pytest.mark.parametrize(
    "make", [lambda: comparison(tuple(LATEX_NAMES)), make_failing, lambda: comparison(about={})]
)
def test_comparison_to_latex_compiles(make, table):
    read_latex(make().to_latex(table))


def test_comparison_to_latex_escapes_names():
    _, rows = read_latex(comparison(tuple(LATEX_NAMES)).to_latex())
    assert [row[1] for row in rows[1:]] == [
        *("{}[a]", "{}*b", "x-{}-y"),
        r"50\%\&\$\_\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}",
        *(r"a\textless{}b\textgreater{}\textbar{}c", "relu"),
    ]


def test_comparison_to_latex_is_in_percent_and_names_the_test():
    caption, rows = read_latex(comparison(seeds=1).to_latex())
    assert rows[0] == ["rank", "activation", r"accuracy (\%)", "runs"]
    assert rows[1][0] == "$1$"
    assert rows[1][2] == r"$94.89 \pm 0.14$"
    assert caption == (
        r"Mean accuracy on digits $\pm$ standard deviation over the runs. "
        "Ranks: corrected resampled t-test, Holm's correction for 3 pairs, level 0.05."
    )
    caption, rows = read_latex(comparison(seeds=4).to_latex("verdicts"))
    assert rows[0] == ["a", "verdict", "b", "difference (pp)", r"95 \% interval", "p", "runs"]
    assert rows[1] == ["relu", "undecided", "tanh", "$+1.00$", "$[-0.20, +2.20]$", "$0.500$", "$12$"]
    assert "Verdicts: mixed model of splits and seeds" in caption


@pytest.mark.parametrize(("has_outcomes", "effects"), [(True, "seeds and test samples"), (False, "seeds")])
def test_comparison_to_latex_names_the_test_of_a_fixed_test_set(has_outcomes, effects):
    fixed = {"samples": 100, "training_samples": 500, "missing_labels": [], "has_outcomes": has_outcomes}
    caption, _ = read_latex(comparison(about={**comparison().about, "test": fixed}).to_latex())
    assert f"Ranks: random effects of {effects} on a fixed test set, Holm" in caption


def test_comparison_to_markdown_has_other_scores_in_their_own_unit():
    about = {**comparison().about, "points": False, "metric": "r2"}
    lines = comparison(("a|b", "tanh"), about=about).to_markdown("verdicts").splitlines()
    assert lines[0] == "| a | verdict | b | difference | 95 % interval | p | runs |"
    assert lines[2].startswith(r"| a\|b | undecided | tanh | +0.01 | [−0.002, +0.022] |")
    assert lines[4].startswith("Difference of a from b in r2 on digits. Verdicts: ")


@pytest.mark.parametrize(
    ("stds", "cells"),
    [
        ([0.05561, 0.1226], ["-0.650 ± 0.056", "-0.084 ± 0.123"]),
        ([0.0, 0.0], ["-0.6504 ± 0.0000", "-0.0843 ± 0.0000"]),
        ([33.0, 1e-12], ["-0.6504 ± 33", "-0.08425 ± 1e-12"]),
        ([140.0, 33.0], ["-1 ± 140", "0 ± 33"]),
    ],
)
def test_comparison_to_markdown_gives_all_scores_the_same_decimals(stds, cells):
    made = comparison(("relu", "tanh"), about={**comparison().about, "points": False, "metric": "r2"})
    ranking = made.ranking.assign(mean=[-0.6504, -0.08425], std=stds)
    lines = dataclasses.replace(made, ranking=ranking).to_markdown().splitlines()
    assert [line.split(" | ")[2] for line in lines[2:4]] == cells


def test_comparison_to_markdown_shows_missing_scores_and_failures():
    lines = make_failing().to_markdown().splitlines()
    assert lines[0] == "| rank | activation | accuracy (%) | runs | status |"
    assert lines[2].startswith(r"| – | relu | – | 3 | failed in 3 of 3 runs: RuntimeError: \x1b[2J long")
    assert lines[5].startswith("Mean accuracy on digits ± standard deviation over the runs.")


def test_comparison_to_latex_has_the_mean_with_the_settings_as_given():
    given = comparison(seeds=1)
    lower = given.ranking.assign(mean=given.ranking["mean"] - 0.5)
    tuned = comparison(seeds=1, as_given=dataclasses.replace(given, ranking=lower))
    _, rows = read_latex(tuned.to_latex())
    assert rows[0] == ["rank", "activation", r"accuracy (\%)", "settings as given", "runs"]
    assert rows[1][2:4] == [r"$94.89 \pm 0.14$", "$44.89$"]


@pytest.mark.parametrize("method", ["to_latex", "to_markdown"])
def test_comparison_to_latex_and_to_markdown_reject_other_tables(method):
    with pytest.raises(UsageError, match=r"table must be 'ranking' or 'verdicts', got 'history'"):
        getattr(comparison(), method)("history")


def test_compare_returns_a_comparison_that_can_be_shown():
    X = pd.DataFrame({"x": [float(value) for value in range(40)]})
    data = actlab.load_data((X.to_numpy(), [0, 1] * 20))
    shown = actlab.compare(["relu", "tanh"], data, epochs=1, folds=2, tune=None)
    assert repr(shown).startswith("Comparison on ")
    read_latex(shown.to_latex())
    assert shown._repr_html_().startswith('<div class="actlab-summary">')

"""The report file: content, missing parts, and escaping of values."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from actlab import Comparison, UsageError
from actlab.cli import main
from actlab.report.differences import collect_differences, make_forest
from actlab.report.html import svg
from actlab.report.html.page import render, write_report
from actlab.report.panels import find_specs, make_function_panels, make_learning_panels, shorten_names
from tests.command_line import in_empty_folder, list_names, refused, tiny_data  # noqa: F401
from tests.report_cases import HOSTILE, all_diverged, comparison


def body(page):
    """Return the page without its style and its scripts."""
    return page[page.index("<body>") : page.index('<script type="application/json"')]


def text(page):
    """Return the visible text of the page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body(page))).split())


def figures(page):
    """Return the names of the page's figures."""
    return re.findall(r'data-chart="(\w+)"', page)


def labels_of(page, figure):
    """Return the labels in a figure."""
    drawings = page.split(f'data-chart="{figure}"')[1].split("</figure>")[0]
    return [html.unescape(label) for label in re.findall(r"<text[^>]*>([^<]*)</text>", drawings)]


def numbers(page):
    return json.loads(page.split('id="data">')[1].split("</script>")[0])


def test_render_has_the_verdict_as_headline_and_sections_in_order():
    page = render(comparison())
    assert re.search(r"<h1>Best: relu, mean accuracy 0\.9\d{3} over 12 runs\.</h1>", page)
    assert re.findall(r'<h2 id="[\w-]+">([^<]*)</h2>', page) == [
        "Verdicts",
        "Learning",
        "Diagnostics",
        "All 36 runs",
        "Functions",
        "Cost",
        "Reproduction",
    ]
    message = text(page)
    assert "mish is worse than relu by 2.00 pp (95 % interval +0.80 to +3.20)" in message
    assert "−2.00 (−3.20 to −0.80)" in message
    assert "validation loss rises while training loss falls for" in message
    assert "▼ worse" in message


def test_collect_differences_contains_both_directions():
    (cells,) = [
        row for row in re.findall(r"<tr>(.*?)</tr>", body(render(comparison())), re.S) if "better" in row
    ]
    assert 'class="v better"' in cells
    pairs = collect_differences(comparison().verdicts)
    assert (pairs["relu", "mish"].verdict, pairs["relu", "mish"].value) == ("better", 0.02)
    other = pairs["mish", "relu"]
    assert (other.verdict, other.value) == ("worse", -0.02)
    assert (round(other.low, 3), round(other.high, 3)) == (-0.032, -0.008)


def test_render_uses_no_network_and_allows_only_its_scripts():
    page = render(comparison())
    assert not re.findall(r'\b(?:src|href)="(?!#|data:,")', page.split("<script")[0])
    assert "@import" not in page.split("<script")[0]
    assert not re.search(r"url\((?!#)", page.split("<script")[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; script-src ")
    assert len(re.findall(r"'sha256-[\w+/=]{44}'", html.unescape(policy))) == page.count("<script>") == 4


def test_write_report_is_reproducible_from_the_folder(tmp_path):
    whole = comparison()
    whole.to_csv(tmp_path)
    write_report(whole, tmp_path / "a.html")
    write_report(Comparison.load(tmp_path), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(("activations", "seeds", "epochs"), [(3, 11, 25), (50, 2, 300)])
def test_render_is_below_1_5_mb(activations, seeds, epochs):
    whole = comparison(
        tuple(f"file.py:Own{i}" for i in range(activations)), seeds=seeds, epochs=epochs, folds=3
    )
    assert len(render(whole).encode()) < 1_500_000


def test_render_escapes_names():
    whole = comparison(tuple(HOSTILE), seeds=1)
    about = {**whole.about, "data": HOSTILE[0], "command": HOSTILE[1], "settings": {HOSTILE[0]: HOSTILE[1]}}
    results = whole.results.assign(failure=HOSTILE[0], **{HOSTILE[1]: HOSTILE[2]})
    page = render(dataclasses.replace(whole, about=about, results=results))
    assert page.count("</script>") == page.count("<script>") + 1 == 5
    assert "<img" not in body(page)
    assert 'onmouseover="window' not in body(page)
    assert "49" not in page.split("&lt;!--&lt;script&gt;%{y}")[1][:20]
    data = page.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(data)
    assert list(numbers(page)["labels"]) == HOSTILE
    for name in HOSTILE:
        assert html.escape(name, quote=False) in html.unescape(page).replace("&", "&amp;").replace(
            "<", "&lt;"
        ).replace(">", "&gt;")


def test_render_isolates_right_to_left_names():
    page = render(comparison(("relu", HOSTILE[4], "tanh"), seeds=1))
    assert f"relu and \u2068{HOSTILE[4]}\u2069: undecided" in text(page)


def test_shorten_names_returns_short_distinct_labels():
    result = shorten_names(["a" * 300, "a" * 200, "relu", "", "a  b"])
    assert result["relu"] == "relu"
    assert max(map(len, result.values())) <= 32
    assert len(set(result.values())) == 5


def test_render_of_one_activation_has_no_verdicts():
    message = text(render(comparison(("relu",), seeds=1)))
    assert "There is no forest plot: there is one activation." in message
    assert "There are no verdicts: there is one activation." in message


def test_render_of_one_run():
    message = text(render(comparison(("relu",), seeds=1, folds=1, epochs=1)))
    assert "All 1 runs" not in message
    assert "One run" in message


def test_render_of_diverged_runs_says_so():
    page = render(all_diverged())
    message = text(page)
    assert "No activation has a rank." in message
    assert "There is no forest plot: no pair with relu has an interval." in message
    assert "There are no learning curves: no epoch has a finite loss." in message
    assert figures(page) == ["functions", "seconds"]


def test_render_of_a_history_without_validation():
    whole = comparison()
    message = text(render(comparison(history=whole.history.drop(columns=["valid_loss", "valid_acc"]))))
    assert "The history has no validation loss and no validation accuracy." in message


def test_render_without_verdicts_shows_the_rest():
    message = text(render(comparison(verdicts=comparison().verdicts[:0])))
    assert "There are no verdicts." in message
    assert "There is only one activation" not in message
    assert "All 36 runs" in message


def test_render_without_history_shows_the_rest():
    message = text(render(comparison(history=pd.DataFrame(), about={})))
    assert "There are no learning curves: there is no history." in message
    assert "Highest mean: relu." in message


def test_render_names_no_first_activation_without_a_rank():
    whole = comparison()
    status = "chance level for 4 of 4 seeds"
    frame = whole.ranking.assign(rank=pd.array([pd.NA] * 3, "Int64"), status=status)
    message = text(render(comparison(ranking=frame)))
    assert "No activation has a rank." in message
    assert "difference from relu, pp" in message
    assert "– the reference" in message
    assert "◆" not in message
    assert "the first" not in message
    tied = text(render(comparison(ranking=whole.ranking.assign(rank=pd.array([1, 1, 3], "Int64")))))
    assert "tied for first" in tied
    assert "difference from the first" not in tied
    ranked = text(render(whole))
    assert "difference from the first, pp" in ranked
    assert "◆ the first" in ranked


@pytest.mark.parametrize("means", [[math.nan] * 3, [0.5, math.nan, math.nan]])
def test_render_names_no_highest_mean_without_two_means(means):
    frame = comparison().ranking.assign(mean=means)
    message = text(render(comparison(history=pd.DataFrame(), about={}, ranking=frame)))
    assert "Fewer than two activations have a mean score." in message
    assert "Highest mean" not in message


def test_write_report_rejects_a_comparison_without_runs(tmp_path):
    whole = comparison()
    with pytest.raises(UsageError, match="at least one run"):
        write_report(comparison(results=whole.results[:0], ranking=whole.ranking[:0]), tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


def test_render_names_activations_without_curve():
    message = text(render(comparison(("relu", "my.py:Own", "glu", "elu(alpha=0.5)", "nothing"))))
    assert "my.py:Own has no curve here: it is a user-defined module, and its curve was not saved." in message
    assert "glu has no curve here: it takes two halves of a tensor." in message
    assert "nothing has no curve here: it is not in the catalogue." in message
    assert "elu(alpha=0.5) has no curve" not in message


def test_make_function_panels_uses_the_arguments_of_a_spec():
    panels, missing = make_function_panels(
        find_specs(["leaky_relu(negative_slope=0.25)"], {}), pd.DataFrame()
    )
    assert missing == {}
    line = panels[0].lines[0]
    assert line.x[0] == -4
    assert [panel.lines[0].y[0] for panel in panels] == [-1, 0.25, 0]


def test_render_shows_tuned_values():
    rows = [
        {
            "activation": "relu",
            "split": 0,
            "fold": fold,
            "seed": 0,
            "lr": lr,
            "valid_loss": lr,
            "valid_acc": 0.5,
        }
        | {"failure": "", "chosen": lr == 0.01}
        for fold in (1, 2)
        for lr in (0.01, 0.03)
    ]
    about = {**comparison().about, "tuned": [{"lr": 0.01}, {"lr": 0.03}]}
    message = text(render(comparison(tuning=pd.DataFrame(rows), about=about)))
    assert "relu 0.01 0.5000 0.0100 2 of 2" in message
    assert "relu 0.03 0.5000 0.0300 0 of 2" in message


def test_forest_limits_large_differences():
    whole, labels = comparison(("a", "b", "c")), {name: name for name in "abc"}
    ends = {"difference": [0.01, 0.6, 0.59], "low": [0.0, 0.59, 0.58], "high": [0.02, 0.61, 0.6]}
    chart = make_forest(
        whole.ranking, collect_differences(whole.verdicts.assign(**ends)), whole.about, labels
    )
    assert 2 < chart.limit < 2.5
    drawn = svg.draw_forest(chart, labels, "alt")
    assert drawn.count("<circle") == 2
    assert drawn.count('<path class="mark') == 1


def test_make_learning_panels_uses_a_logarithmic_scale_for_large_ranges():
    history = comparison().history
    training, validation, accuracy = make_learning_panels(
        history.assign(train_loss=10.0 ** -history["epoch"]), ["relu"]
    ).values()
    assert training.log
    assert not validation.log
    assert not accuracy.log
    assert training.lines[0].low == training.lines[0].high
    assert validation.lines[0].x[validation.lines[0].mark] in (4, 5, 6)


# -- the verb report -----------------------------------------------------------------------------


def test_compare_verb_writes_the_page_and_report_verb_repeats_it(tmp_path, tiny_data, capsys):  # noqa: F811
    call = [
        *"compare --no-tune relu tanh --data".split(),
        tiny_data,
        *"--epochs 2 --lr 0.02 --out a --jobs 1".split(),
    ]
    assert main(call) == 0
    page = (tmp_path / "a/report.html").read_text(encoding="utf-8")
    assert f"actlab compare relu tanh --data {tiny_data} --epochs 2 --lr 0.02 --no-tune</code>" in page
    for message in ("torch", "python", "processor", "date", "net"):
        assert f"<dt>{message}</dt>" in page
    capsys.readouterr()
    assert main(["report", "a", "--out", "b.html"]) == 0
    assert capsys.readouterr().out == "Written: b.html\n"
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == page
    (tmp_path / "a/report.html").unlink()
    assert main(["report", "a", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["files"] == ["a/report.html"]
    assert output["insights"] == Comparison.load("a").sentences()
    assert "report.html" in list_names(tmp_path / "a")


def test_report_verb_rejects_folders_without_comparison(tmp_path, capsys):
    assert "there is no folder 'nowhere'" in refused(capsys, "report", "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no comparison in 'empty'" in refused(capsys, "report", "empty")
    comparison().to_csv(tmp_path)
    assert "'no/a.html': its folder does not exist" in refused(capsys, "report", ".", "--out", "no/a.html")


def test_report_verb_follows_links_and_rejects_special_files(tmp_path, capsys):
    comparison().to_csv(tmp_path)
    Path("page.html").write_text("old")
    Path("link.html").symlink_to("page.html")
    assert main(["report", ".", "--out", "link.html"]) == 0
    capsys.readouterr()
    assert Path("link.html").is_symlink()
    assert Path("page.html").stat().st_size > 1e5
    os.mkfifo("pipe")
    for special in ("pipe", "/dev/full"):
        message = refused(capsys, "report", ".", "--out", special)
        assert (
            f"cannot write {special!r}: it exists and is not a regular file; choose another name" in message
        )
        assert not Path(special).is_file()


def test_report_verb_without_jinja_names_the_extra(tmp_path, tiny_data, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "jinja2", None)
    call = [*"compare --no-tune relu tanh --data".split(), tiny_data, *"--epochs 1 --out a --jobs 1".split()]
    assert main(call) == 0
    line = 'the report needs Jinja: pip install "actlab[report]"\n'
    assert f"actlab: {line}" in capsys.readouterr().err
    assert "report.html" not in list_names(tmp_path / "a")
    assert refused(capsys, "report", "a") == f"actlab: error: {line}"

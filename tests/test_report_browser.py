"""The report in a real browser, opened from a file, without network."""

from __future__ import annotations

import contextlib

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import expect

from actlab.report.html.page import write_report
from tests.browser import open_offline
from tests.report_cases import (
    HOSTILE,
    all_diverged,
    browser,  # noqa: F401
    comparison,
    diagnostics_frame,
    training,
    unfinished,
)

LINES = "#parallel .run"
STROKES = "lines => lines.map((line) => getComputedStyle(line).stroke)"
ROWS = "#runs-table tbody tr:not([hidden])"


@pytest.fixture
def opened(browser, tmp_path):  # noqa: F811
    """Return a function that opens a comparison's page; requests and errors fail the test."""
    with contextlib.ExitStack() as open_pages:

        def open_page(example, **context_options):
            write_report(example, tmp_path / "report.html")
            return open_pages.enter_context(
                open_offline(browser, tmp_path / "report.html", **context_options)
            )

        yield open_page


def whole():
    """Return a comparison with data for every part of the page."""
    whole = comparison()
    saved = whole.results["activation"].map({"relu": 65536, "tanh": 65536, "mish": 196608})
    return comparison(results=whole.results.assign(saved_bytes=saved), diagnostics=diagnostics_frame())


def count(page):
    return page.locator(ROWS).count()


def column(page, column_number):
    return page.locator(f"{ROWS} > :nth-child({column_number})").all_inner_texts()


def heading(page, name):
    return page.locator("#runs-table thead").get_by_role("button", name=name, exact=True)


def test_report_draws_every_chart(opened):
    page = opened(whole())
    assert page.locator("figure.chart").count() == 8
    for panel in page.locator("figure.chart .panel").all():
        assert panel.locator("svg").bounding_box()["height"] > 50
        assert panel.locator(".line, .bar").count() > 0
    assert page.locator(".each svg .line").count() == 6
    assert page.locator(LINES).count() == 36
    assert page.locator("[role=img]:not([aria-label])").count() == 0


def test_report_brush_filters_the_table_and_a_click_ends_it(opened):
    page = opened(comparison())
    axis = page.get_by_role("slider", name="score")
    axis.scroll_into_view_if_needed()
    box = axis.locator(".axis").bounding_box()
    page.mouse.move(box["x"], box["y"])
    page.mouse.down()
    page.mouse.move(box["x"], box["y"] + box["height"] / 3, steps=4)
    page.mouse.up()
    expect(page.locator("#selected")).to_contain_text(" of 36 runs")
    chosen = count(page)
    assert 0 < chosen < 36
    everything = sorted(comparison().results["score"])
    assert sorted(map(float, column(page, 5))) == [float(f"{score:.4f}") for score in everything[-chosen:]]
    assert page.locator(f"{LINES}.off").count() == 36 - chosen
    greys = page.locator(f"{LINES}.off").evaluate_all(STROKES)
    assert len(set(greys)) == 1  # for lines of all colours
    assert greys[0] not in page.locator(f"{LINES}:not(.off)").evaluate_all(STROKES)
    assert page.locator("#selected").inner_text() == f"{chosen} of 36 runs"
    assert " to " in axis.get_attribute("aria-valuetext")
    page.mouse.click(box["x"], box["y"] + box["height"] / 2)
    expect(page.locator(ROWS)).to_have_count(36)
    assert page.locator(f"{LINES}.off").count() == 0


def test_report_brushes_and_axes_move_by_keyboard(opened):
    page = opened(comparison())
    axis = page.get_by_role("slider", name="activation")
    axis.focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator(ROWS)).to_have_count(12)
    assert axis.get_attribute("aria-valuetext") == "relu"
    page.keyboard.press("ArrowDown")
    expect(page.locator(ROWS).first).to_contain_text("tanh")
    assert set(column(page, 1)) == {"tanh"}
    page.keyboard.press("Escape")
    expect(page.locator(ROWS)).to_have_count(36)
    before = axis.bounding_box()["x"]
    page.keyboard.press("ArrowRight")
    assert axis.bounding_box()["x"] > before
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "activation"


def test_report_axes_are_reordered_by_dragging(opened):
    page = opened(comparison())
    first, second = (page.get_by_role("slider", name=name, exact=True) for name in ("activation", "split"))
    head, target = first.locator(".head"), second.locator(".head").bounding_box()
    head.scroll_into_view_if_needed()
    target = second.locator(".head").bounding_box()
    head.hover()
    page.mouse.down()
    page.mouse.move(target["x"] + 40, target["y"] + 5, steps=5)
    page.mouse.up()
    assert first.bounding_box()["x"] > second.bounding_box()["x"]


def test_report_lines_are_coloured_by_a_column(opened):
    page = opened(comparison())
    assert len(set(page.locator(LINES).evaluate_all(STROKES))) == 3
    page.get_by_label("Colour by").select_option(label="seconds")
    assert len(set(page.locator(LINES).evaluate_all(STROKES))) > 10


def test_report_filter_names_unknown_columns_and_numbers(opened):
    page = opened(comparison())
    for query, message in {
        "scor > 0.9": "0 of 36 runs; no column is called scor",
        "score > 0,9": "0 of 36 runs; 0,9 is not a number",
        "seed == 3, fold = 1": "3 of 36 runs",
        "relu seed=0": "3 of 36 runs",
        "nothing of the kind": "0 of 36 runs",
    }.items():
        page.get_by_label("Find in the table").fill(query)
        expect(page.locator("#selected")).to_have_text(message)


def test_report_sorts_runs_by_mouse_and_keyboard(opened):
    page = opened(comparison())
    heading(page, "score").click()
    scores = column(page, 5)
    assert scores == sorted(scores)
    assert page.locator("#runs-table th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert column(page, 5) == scores[::-1]
    assert page.locator("#runs-table th[aria-sort]").get_attribute("aria-sort") == "descending"
    heading(page, "activation").focus()
    page.keyboard.press("Space")
    assert column(page, 1) == ["mish"] * 12 + ["relu"] * 12 + ["tanh"] * 12
    assert page.locator("#runs-table th[aria-sort]").count() == 1


def cells(page, table, column_number):
    return page.locator(f"{table} tbody tr > :nth-child({column_number})").all_inner_texts()


def sorted_by(page, table, name):
    """Press the heading of a table."""
    page.locator(f"{table} thead").get_by_role("button", name=name, exact=True).click()


def test_report_sorts_the_ranking_by_mouse_and_keyboard(opened):
    page = opened(comparison(("relu", "tanh", "mish", "elu"), verdicts=comparison().verdicts))
    difference = "difference from the first, pp"
    sorted_by(page, "#ranking", difference)
    assert cells(page, "#ranking", 2) == ["mish", "tanh", "relu", "elu"]  # -2, -1, and two without
    page.keyboard.press("Enter")
    assert cells(page, "#ranking", 2) == ["tanh", "mish", "relu", "elu"]
    assert page.locator("#ranking th[aria-sort]").get_attribute("aria-sort") == "descending"
    sorted_by(page, "#ranking", "runs")  # equal values keep their order
    assert cells(page, "#ranking", 2) == ["relu", "tanh", "mish", "elu"]
    assert page.locator("#ranking th[aria-sort]").count() == 1
    page.locator("#ranking thead").get_by_role("button", name="activation").focus()
    page.keyboard.press("Space")
    assert cells(page, "#ranking", 2) == ["elu", "mish", "relu", "tanh"]


def test_report_sorts_other_tables_as_numbers(opened):
    page = opened(whole())
    sorted_by(page, "#costs", "saved for backward, KiB")
    assert cells(page, "#costs", 6) == ["64", "64", "192"]
    sorted_by(page, "#diagnostics-weights", "gradient of a weight")
    gradients = cells(page, "#diagnostics-weights", 4)
    assert gradients[:2] == ["1e−06", "0.0001"]
    assert gradients[-1] == "0.01"
    sorted_by(page, "#diagnostics-units", "dead units, %")
    sorted_by(page, "#diagnostics-units", "dead units, %")
    assert cells(page, "#diagnostics-units", 5)[:2] == ["30", "15"]
    assert page.locator("#matrix button").count() == 0


def test_report_readout_follows_pointer_and_arrow_keys(opened):
    page = opened(comparison())
    panel = page.locator("figure.learning .panel").nth(1)
    readout, svg = panel.locator(".readout"), panel.locator("svg")
    expect(readout).to_be_hidden()
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    page.mouse.move(box["x"] + 0.99 * box["width"], box["y"] + box["height"] / 2)
    expect(readout).to_contain_text("epoch 12")
    last = comparison().history.query("epoch == 12 and activation == 'tanh'")["valid_loss"]
    text = f"tanh: {last.mean():.4g} ({last.min():.4g} to "
    expect(readout).to_contain_text(text)
    page.locator("figure.learning .legend").get_by_role("button", name="tanh").click()
    panel.focus()
    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("epoch 11")
    expect(readout).to_contain_text("relu")
    expect(readout).not_to_contain_text("tanh")
    page.keyboard.press("Escape")
    expect(readout).to_be_hidden()


def test_report_hides_the_hint_in_print(opened):
    page = opened(comparison())
    hint = page.get_by_text("point at a panel")
    expect(hint).to_be_visible()
    page.emulate_media(media="print")
    expect(hint).to_be_hidden()


def test_report_filter_accepts_words_and_conditions(opened):
    page = opened(comparison())
    box = page.get_by_label("Find in the table")
    for query, result in [
        ("TANH", 12),
        ("tanh seed=2", 3),
        ("score>0.945 activation=relu", 12),
        ("zzz", 0),
        ("", 36),
    ]:
        box.fill(query)
        assert count(page) == result, query
    box.fill("mish")
    page.get_by_role("button", name="Show all").click()
    assert count(page) == 36


def test_report_legend_shows_and_hides_lines(opened):
    page = opened(comparison())
    lines = page.locator("figure.learning .series").filter(visible=True)
    button = page.locator("figure.learning .legend").get_by_role("button", name="tanh")
    assert lines.count() == 9
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert lines.count() == 6
    page.keyboard.press("Enter")
    assert lines.count() == 9


def test_report_dark_mode_changes_page_and_charts(opened):
    page = opened(comparison())
    text = page.locator("figure.learning svg text").first
    light = text.evaluate("e => getComputedStyle(e).fill")
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).to_have_css("background-color", "rgb(20, 23, 26)")
    expect(text).not_to_have_css("fill", light)
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("figure.chart .panel svg").first.is_visible()


def test_report_without_javascript_shows_tables_and_curves(opened):
    page = opened(whole(), java_script_enabled=False)
    assert page.locator(ROWS).count() == 36
    for what in (
        "#ranking",
        "#matrix",
        "figure.forest svg",
        "figure.learning svg.swatch",
        "#diagnostics-units",
        "figure.units svg",
        "figure.distributions svg",
        ".each svg",
    ):
        assert page.locator(what).first.is_visible(), what
    assert page.locator("figure.learning .panel svg").count() == 3
    assert page.get_by_label("Find in the table").is_hidden()


def test_report_does_not_execute_hostile_names(opened):
    whole = comparison(tuple(HOSTILE), seeds=1)
    results = whole.results.assign(**{HOSTILE[1]: HOSTILE[0]})
    diagnostics = diagnostics_frame(tuple(HOSTILE)).assign(name=HOSTILE[0])
    page = opened(comparison(tuple(HOSTILE), seeds=1, results=results, diagnostics=diagnostics))
    for button in page.locator("figure.units .legend button").all():
        button.click()
        button.click()
    sorted_by(page, "#diagnostics-units", "name")
    page.locator("figure.learning .panel svg").first.hover()
    expect(page.locator("figure.learning .readout").first).to_contain_text("<img")
    assert page.evaluate("window.stolen") is None
    assert page.locator("img").count() == 0
    for name in HOSTILE[:4]:
        assert (
            page.locator("#runs-table th[scope=row]").filter(has_text=name.replace("\u2028", " ")).count() > 0
        )
    assert "<img" in page.locator("figure.forest svg").text_content()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def one_run():
    return comparison(
        ("relu",), seeds=1, folds=1, epochs=1, diagnostics=diagnostics_frame(("relu",), epochs=(1,))
    )


@pytest.mark.parametrize("example", [all_diverged, one_run, training, unfinished])
def test_report_with_little_data_opens(opened, example):
    page = opened(example())
    assert page.locator("h1").inner_text()
    assert page.locator("figure.seconds .bar").count() > 0


@pytest.mark.slow
def test_report_of_a_thousand_runs_is_usable(opened):
    names = tuple(f"own.py:Activation{i}" for i in range(50))
    page = opened(
        comparison(names, seeds=5, folds=4, epochs=10, diagnostics=diagnostics_frame(names, layers=6))
    )
    assert page.locator(LINES).count() == 1000
    page.get_by_label("Find in the table").fill("seed=4")
    assert count(page) == 200
    heading(page, "score").click()
    assert count(page) == 200
    axis = page.get_by_role("slider", name="score")
    axis.focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#selected")).not_to_have_text("200 of 1000 runs")
    assert 0 < count(page) < 200
    assert page.locator("figure.learning .legend button[aria-pressed=true]").count() == 8


@pytest.mark.parametrize("context_options", [{}, {"viewport": {"width": 400, "height": 800}}])
def test_report_fits_the_window(opened, context_options):
    names = ("relu", "tanh", "module.of.somebody:WithALongNameOfItsOwn")
    page = opened(comparison(names, diagnostics=diagnostics_frame(names, layers=3)), **context_options)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


LONG = ("relu", "tanh", "leaky_relu(negative_slope=0.2)", "mish", "my_layers.py:Own")


@pytest.mark.parametrize("width", [400, 1300])
def test_report_captions_and_labels_are_not_cut_off(opened, width):
    results = comparison(LONG).results.assign(saved_bytes=65536)
    page = opened(comparison(LONG, results=results), viewport={"width": width, "height": 800})
    beyond = """parts => parts.filter(([part, box]) => {
        const inner = part.getBoundingClientRect(), outer = box.getBoundingClientRect();
        return inner.left < outer.left || inner.right > outer.right;
    }).map(([part]) => part.textContent)"""
    whole = f"""(parts, around) => ({beyond})(parts.map((part) => [part, part.closest(around)]))"""
    captions, labels = page.locator("caption > *"), page.locator("figure.chart svg text")
    assert captions.count() == 4
    assert captions.evaluate_all(whole, ".scroll") == []
    assert labels.count() > 30
    assert labels.evaluate_all(whole, "svg") == []
    page.locator("#ranking").evaluate("table => { table.parentElement.scrollLeft = 10_000; }")
    assert captions.evaluate_all(whole, ".scroll") == []


def test_report_matrix_caption_is_one_line_in_a_wide_window(opened):
    page = opened(comparison(("relu", "tanh")), viewport={"width": 1300, "height": 800})
    tops = page.locator("#matrix caption .v").evaluate_all("all => all.map((one) => one.offsetTop)")
    assert len(tops) == 5
    assert len(set(tops)) == 1
    assert page.locator("#matrix").bounding_box()["width"] < 500  # the caption does not widen the table


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_has_no_accessibility_violations(opened, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = opened(whole(), color_scheme=scheme)
    result = axe.Axe().run(page).response["violations"]
    assert [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in result if one["impact"] != "minor"
    ] == []

"""The page of ``actlab explore`` in a real browser: controls, experiments, links, copies and access."""

# ruff: noqa: F811

from __future__ import annotations

import contextlib
import math
import re
import statistics

import numpy as np
import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import expect

import actlab
from actlab.models.gaussian_moments import gaussian_moments
from tests.browser import open_offline
from tests.explore_cases import browser, opened, page, read_numbers  # noqa: F401

# -- the page -------------------------------------------------------------------------------------


def test_page_draws_curves_kinks_and_values(page):
    assert page.locator("#curves .panel").count() == 4
    assert page.locator("#curves .panel").nth(0).locator("path.line").count() == 3
    assert page.locator("#curves .panel").nth(1).locator("circle.open").count() == 1  # relu at 0
    rows = page.locator("#facts tbody tr").all_inner_texts()
    assert rows[0].split("\t") == [
        "relu",
        "0 and ∞",
        "0 and 1",
        "f′(0) = 0",
        "0.3989",
        "0.3408",
        "50 %",
        "1.414",
    ]
    assert page.locator("[role=img]:not([aria-label])").count() == 0


def test_page_writes_names_beside_lines_where_they_fit(page):
    panels = page.locator("#curves .panel").all()
    assert [sorted(one.locator("text.name").all_text_contents()) for one in panels[:3]] == [
        ["relu", "tanh"],  # gelu is too near to relu
        ["gelu", "relu", "tanh"],
        ["gelu", "relu", "tanh"],
    ]
    boxes = [one.bounding_box() for one in panels[1].locator("text.name").all()]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            is_beside = abs(one["x"] - other["x"]) > min(one["width"], other["width"])
            assert is_beside or abs(one["y"] - other["y"]) > 10


def test_page_adds_a_formula_and_drags_its_parameter(opened):
    page = opened("relu")
    field = page.get_by_label("A formula in x")
    field.fill("x * tanh(a * x) with a=2")
    field.press("Enter")
    expect(page.locator("#chosen li")).to_have_count(2)
    at = page.get_by_label("Read at x, as a number")
    at.fill("0.5")
    at.press("Enter")
    cell = page.locator("#values tbody tr").nth(1).locator("td").first
    expect(cell).to_have_text(f"{0.5 * math.tanh(1.0):.6g}")
    slider = page.get_by_label("a", exact=True)
    slider.focus()
    for _ in range(20):
        slider.press("ArrowRight")
    expect(cell).to_have_text(f"{0.5 * math.tanh(1.1):.6g}")
    expect(page.locator("#command")).to_have_text(
        'actlab compare relu "formula:x * tanh(a * x) with a=2.2" --data digits'
    )
    page.get_by_role("button", name="Remove relu").click()
    expect(page.locator("#chosen li")).to_have_count(1)
    assert page.get_by_role("button", name="Remove").first.is_disabled()


def test_page_rounds_to_bfloat16(opened):
    page = opened("tanh")
    page.get_by_label("Numbers", exact=True).select_option("bfloat16")
    page.get_by_role("button", name="Zoom in to the steps").click()
    expect(page.locator("#format-text")).to_contain_text("At x = 1, neighbours in bfloat16 are 0.00781 apart")
    x = torch.tensor([1.0, 0.3, -2.7, 3e38, 1e-40, 65519.0, 70000.0, 1e-7], dtype=torch.float64)
    for name in ("float16", "bfloat16"):
        got = page.evaluate(
            "([x, name]) => x.map(one => String(actlab.roundTo(one, name)))", [x.tolist(), name]
        )
        np.testing.assert_array_equal(read_numbers(got), x.to(getattr(torch, name)).double().numpy())


def test_page_sets_matched_initialization_and_the_critical_point(opened):
    page = opened("tanh")
    page.get_by_role("button", name="Matched initialization").click()
    assert float(page.get_by_label("Weight scale σ_w, as a number").input_value()) == pytest.approx(
        actlab.gain("tanh"), abs=1e-3
    )
    page.get_by_role("button", name="Critical point").click()
    weight, bias = gaussian_moments("tanh").critical_point
    assert float(page.get_by_label("Weight scale σ_w, as a number").input_value()) == pytest.approx(
        weight, abs=1e-3
    )
    assert float(page.get_by_label("Bias scale σ_b, as a number").input_value()) == pytest.approx(
        bias, abs=1e-3
    )
    expect(page.locator("#depth-text")).to_contain_text("the gradient keeps its size")
    page.get_by_text("The numbers of these charts").click()
    expect(page.locator("#depth-table tbody tr")).to_have_count(7)
    page.get_by_label("Weight scale σ_w, as a number").fill("0.5")
    page.get_by_label("Weight scale σ_w, as a number").press("Tab")
    expect(page.locator("#depth-text")).to_contain_text("the gradient shrinks")


def test_page_reads_and_drags_with_the_pointer(opened):
    page = opened("tanh")
    panel = page.locator("#curves svg").first
    panel.scroll_into_view_if_needed()
    curve = panel.bounding_box()
    page.mouse.move(curve["x"] + (50 + curve["width"] - 10) / 2, curve["y"] + 50)  # the middle of the axis
    expect(page.locator("#values-x")).to_have_text("0")
    area = page.locator("#depth-charts svg").last
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + 8, steps=3)
    page.mouse.up()
    expect(page.get_by_label("Weight scale σ_w, as a number")).to_have_value("4")
    expect(page.get_by_label("Bias scale σ_b, as a number")).to_have_value("2")
    expect(page.locator("#depth-text")).to_contain_text("the gradient grows")


def test_page_trains_pauses_and_resets(opened):
    page = opened("tanh", "relu")
    rows = page.locator("#train-table tbody tr")
    step = page.get_by_role("button", name="One step")
    step.click()
    step.press("Enter")
    expect(page.locator("#train-status")).to_contain_text("After 2 steps. Network A: loss")
    first = float(rows.nth(0).locator("td").nth(1).inner_text())
    page.get_by_role("button", name="Start").click()
    expect(rows.nth(0).locator("td").first).to_have_text(re.compile(r"^\d{3,}$"), timeout=20_000)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#train-status")).to_contain_text("accuracy")
    assert float(rows.nth(0).locator("td").nth(1).inner_text()) < first / 2
    pixel = "canvas => [...canvas.getContext('2d').getImageData(5, 5, 1, 1).data]"
    assert page.locator("#surface-a").evaluate(pixel)[3] == 255
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(page.locator("#train-table td").first).to_have_text("0")
    for side in "ab":  # the same function on both sides gives the same network
        page.locator(f"#{side}-all").select_option("gelu")
    step.click()
    results = [row.split("\t")[1:] for row in rows.all_inner_texts()]
    assert results[0] == results[1]


def test_page_resets_the_networks_and_the_status_when_a_setting_changes(opened):
    page = opened("sine", "relu")
    status = page.locator("#train-status")
    expect(status).to_have_text("New networks, 0 steps.")
    expect(page.locator("#a-0 option").first).to_have_text("identity (no activation)")
    expect(page.locator("#a-0 option").nth(1)).to_have_text("sine (omega = 30)")
    expect(page.locator("#sine-hint")).to_be_visible()
    page.get_by_role("button", name="One step").click()
    expect(status).to_contain_text("After 1 step. Network A: loss")
    expect(status).to_contain_text(re.compile(r"accuracy [\d.]+\s% on training samples and [\d.]+\s% on new"))
    page.get_by_label("omega, as a number").fill("5")
    page.get_by_label("omega, as a number").press("Tab")
    expect(status).to_have_text("New networks, 0 steps.")
    expect(page.locator("figcaption").first).to_have_text("A: sine(omega=5) × 2")
    expect(page.locator("#sine-hint")).to_be_hidden()
    page.get_by_role("button", name="Start").click()
    page.get_by_label("Data").select_option("circles")
    expect(status).to_have_text("Stopped: the settings changed. New networks, 0 steps.")
    page.get_by_label("Stop after N steps").fill("7")
    page.get_by_label("Stop after N steps").press("Tab")
    expect(page.locator("#link")).to_have_value(re.compile("torch,7&"))
    page.get_by_role("button", name="Start").click()
    expect(status).to_contain_text("After 7 steps.")


def test_page_keeps_the_preset_when_the_function_changes(opened):
    page = opened("relu", "tanh")
    weight = page.get_by_label("Weight scale σ_w, as a number")
    matched = page.get_by_role("button", name="Matched initialization")
    matched.click()
    expect(weight).to_have_value("1.414")
    expect(page.locator("#depth-text")).to_contain_text("its variance goes from 1 to 1.")
    page.get_by_label("Function", exact=True).select_option("1")
    expect(weight).to_have_value("1.593")
    page.get_by_label("Function", exact=True).select_option("identity (no activation)")
    expect(weight).to_have_value("1")
    expect(matched).to_have_attribute("aria-pressed", "true")
    weight.fill("0.1")
    weight.press("Tab")
    expect(matched).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#depth-text")).to_contain_text("its variance goes from 1 to 1e−58.")


def test_page_reports_a_diverged_network(opened):
    page = opened("exponential", "relu")
    page.get_by_label("Learning rate, as a number").fill("10")
    page.get_by_label("Learning rate, as a number").press("Tab")
    for side in "ab":
        page.locator(f"#{side}-all").select_option("exponential")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#train-status")).to_contain_text("Network A diverged", timeout=10_000)
    expect(page.get_by_role("button", name="Start")).to_be_visible()


def test_link_restores_the_whole_state(opened):
    page = opened("relu")
    page.get_by_label("A formula in x").fill("where(x > 0, x, a*x) with a=0.3")
    page.get_by_role("button", name="Add formula").click()
    page.get_by_label("Data").select_option("spirals")
    page.get_by_label("Hidden layers").select_option("10")
    page.locator("#b-all").select_option("gelu")
    page.get_by_text("One function per layer").nth(1).click()
    page.locator("#b-9").select_option("mish")
    expect(page.locator("figcaption").nth(1)).to_have_text("B: gelu × 9, mish")
    assert page.locator("#b-all option:checked").inner_text() == "one per layer, below"
    page.get_by_label("Width", exact=True).fill("0")
    page.get_by_label("Layers", exact=True).fill("42")
    page.get_by_role("button", name="Matched initialization").click()
    expect(page.locator("#link")).to_have_value(re.compile(r"depth=0,42,1\.41421,0,matched"))
    link = page.locator("#link").input_value()
    other = opened("tanh", fragment=link.partition("#")[2])
    assert other.locator("#chosen .name").all_inner_texts() == ["relu", "where(x > 0, x, a*x) with a=0.3"]
    assert other.get_by_label("Data").input_value() == "spirals"
    assert [other.locator(f"#b-{layer}").input_value() for layer in (0, 8, 9)] == ["gelu", "gelu", "mish"]
    assert other.get_by_label("Layers, as a number", exact=True).input_value() == "42"
    assert other.get_by_label("Width, as a number").input_value() == "1"
    expect(other.get_by_role("button", name="Matched initialization")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert other.locator("#link").input_value().partition("#")[2] == link.partition("#")[2]
    assert other.locator("#restored").is_hidden()
    address = other.url
    other.get_by_role("link", name="Train").press("Enter")
    assert other.url == address
    assert other.evaluate("document.activeElement.id") == "train"


# -- the experiments ------------------------------------------------------------------------------


def choose_experiment(page, title):
    page.get_by_role("link", name=title).click()
    expect(page.locator("#watch strong")).to_have_text(f"{title}.")


def read_results(page):
    """Return for both networks the accuracy on new samples and the dead units by layer, in percent."""
    expect(page.locator("#train-status")).to_contain_text("After 500 steps", timeout=60_000)
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#train-table tbody tr").all()]
    number = lambda text: float(text.removesuffix(" %"))  # noqa: E731
    return [(number(row[3]), [number(one) for one in row[4].split(", ")]) for row in rows]


SEEDS = pytest.mark.parametrize("seeds", [[0], pytest.param([1, 2], marks=pytest.mark.slow)])


def train_from_seeds(page, seeds):
    """Train from several seeds and yield the results: a statement must hold for more than one."""
    page.emulate_media(reduced_motion="reduce")  # one picture per second, so that training is faster
    for seed in seeds:
        page.get_by_label("Seed").fill(str(seed))
        page.get_by_label("Seed").press("Tab")
        page.get_by_role("button", name="Reset", exact=True).click()
        expect(page.locator("#steps")).to_have_text("0 steps")
        page.get_by_role("button", name="Start").click()
        yield read_results(page)


def test_experiment_shows_the_answer_on_request(opened):
    page = opened("mish")
    for link in page.locator("#experiments li").all():
        expect(link.locator("details p")).to_be_hidden()
    page.locator("#experiments li").nth(3).get_by_text("What happens").click()
    choose_experiment(page, "Gradients through thirty layers")
    answer = page.locator("#watch details p")
    expect(page.locator("#watch")).to_contain_text("How much of the gradient reaches layer 1")
    expect(answer).to_be_hidden()
    page.locator("#watch").get_by_text("What happens").click()
    expect(answer).to_contain_text("the gradient almost vanishes")


@SEEDS
def test_experiment_why_networks_need_activations(opened, seeds):
    page = opened("mish")
    choose_experiment(page, "Why networks need activations")
    assert page.locator("figcaption").all_inner_texts() == ["A: relu × 2", "B: identity × 2"]
    for (with_relu, _), (linear, _) in train_from_seeds(page, seeds):
        assert with_relu > 99
        assert linear < 67


def test_experiment_kinks_and_second_derivatives(opened):
    page = opened("mish")
    choose_experiment(page, "Kinks and second derivatives")
    values = {}
    for at in (-0.001, 0.001):
        page.get_by_label("Read at x, as a number").fill(str(at))
        page.get_by_label("Read at x, as a number").press("Tab")
        expect(page.locator("#values-x")).to_have_text(str(at).replace("-", "−"))
        rows = [row.split("\t") for row in page.locator("#values tbody tr").all_inner_texts()]
        values[at] = {name: [float(one.replace("−", "-")) for one in row] for name, *row in rows}
    jumps = {
        name: [right - left for left, right in zip(row, values[0.001][name], strict=True)][1:]
        for name, row in values[-0.001].items()
    }
    assert jumps["relu"] == [1, 0]
    assert [values[at]["relu"][2] for at in values] == [0, 0]
    assert jumps["relu_squared"] == [pytest.approx(0.002), 2]
    assert jumps["gelu"] == pytest.approx([0, 0], abs=0.002)


def train_with_rate(page, rate, seeds):
    """Train from several seeds with a learning rate; return accuracies and mean shares of dead units."""
    page.get_by_label("Learning rate, as a number").fill(rate)
    page.get_by_label("Learning rate, as a number").press("Tab")
    results = [result for both in train_from_seeds(page, seeds) for result in both]
    scores = [score for score, _ in results]
    dead = [statistics.mean(shares) for _, shares in results]
    return scores[::2], scores[1::2], dead[::2], dead[1::2]


@SEEDS
def test_experiment_units_that_die(opened, seeds):
    page = opened("mish")
    choose_experiment(page, "Units that die")
    relu, tanh, relu_dead, tanh_dead = train_with_rate(page, "1", seeds)
    expect(page.locator("#train-status")).to_contain_text(re.compile(r"[\d.]+\s% of the hidden units dead"))
    assert min(relu_dead) > 30 > 10 > max(tanh_dead)
    assert max(relu) < 90 < 98 < min(tanh)
    relu, tanh, *_ = train_with_rate(page, "0.2", seeds)
    assert min(relu + tanh) > 98


@pytest.mark.slow
def test_experiment_units_that_die_with_twenty_seeds(opened):
    page = opened("mish")
    choose_experiment(page, "Units that die")
    relu, tanh, relu_dead, tanh_dead = train_with_rate(page, "1", range(20))
    assert sum(share > 50 for share in relu_dead) > 10  # in most runs
    assert max(tanh_dead) < 7
    assert min(tanh) >= 99
    assert sorted(relu)[0] >= 50
    assert [round(score, 1) for score in sorted(relu)[-2:]] == [83.8, 99.6]
    relu, tanh, *_ = train_with_rate(page, "0.2", range(20))
    assert sum(min(both) >= 99 for both in zip(relu, tanh, strict=True)) == 17
    relu, tanh, *_ = train_with_rate(page, "0.1", range(5))
    assert min(relu) > 97 > 90 > max(tanh)


def test_experiment_gradients_through_thirty_layers(opened):
    page = opened("mish")
    choose_experiment(page, "Gradients through thirty layers")
    text = page.locator("#depth-text")
    expect(text).to_contain_text("the gradient shrinks: its mean square changes by a factor of 2.71e−23")
    expect(page.get_by_role("button", name="PyTorch default")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Matched initialization").click()
    expect(text).to_contain_text("the gradient keeps its size: its mean square changes by a factor of 1,")
    page.get_by_label("Function", exact=True).select_option("tanh")
    expect(text).to_contain_text("the gradient grows: its mean square changes by a factor of 115")


@SEEDS
def test_experiment_ten_layers_and_their_first_weights(opened, seeds):
    page = opened("mish")
    choose_experiment(page, "Ten layers and their first weights")
    for (relu, _), (tanh, _) in train_from_seeds(page, seeds):
        assert 45 < relu < 55
        assert tanh > 98
    page.get_by_label("Initialization").select_option("matched")
    for results in train_from_seeds(page, seeds):
        assert min(score for score, _ in results) > 98


@SEEDS
def test_experiment_a_sine_for_spirals(opened, seeds):
    page = opened("mish")
    choose_experiment(page, "A sine for spirals")
    for (relu, _), (sine, _) in train_from_seeds(page, seeds):
        assert relu < 99
        assert sine > 99
    page.locator("#b-all").select_option("#2")  # sine (omega = 30)
    expect(page.locator("#watch strong")).to_have_text("A sine for spirals (settings changed).")
    for _, (fast, _) in train_from_seeds(page, seeds):
        assert 40 < fast < 60


def test_experiments_are_links_that_the_browser_can_leave(opened):
    page = opened("relu")
    page.get_by_label("Seed").fill("3")
    page.get_by_label("Seed").press("Tab")
    link = page.get_by_role("link", name="Units that die")
    link.press("Enter")
    assert page.evaluate("document.activeElement.id") == "train"
    assert page.locator("#chosen .name").all_inner_texts() == ["relu", "tanh"]
    assert page.get_by_label("Learning rate, as a number").input_value() == "1"
    other = opened("mish", fragment=link.get_attribute("href")[1:])
    expect(other.locator("#train #watch")).to_contain_text("Units that die. Press Start")
    other.get_by_role("button", name="One step").click()
    other.get_by_label("Learning rate, as a number").fill("0.2")
    other.get_by_label("Learning rate, as a number").press("Tab")
    expect(other.locator("#train-status")).to_have_text(
        "The networks keep their weights. Press Reset for new ones."
    )
    expect(other.locator("#link")).to_have_value(re.compile("spirals,2,0.2,"))
    expect(other).to_have_url(re.compile("spirals,2,0.2,"))
    other.reload()
    expect(other.locator("#watch strong")).to_have_text("Units that die (settings changed).")
    page.go_back()
    expect(page.locator("#chosen .name")).to_have_text(["relu"])
    expect(page.get_by_label("Seed")).to_have_value("3")
    expect(page.locator("#watch")).to_have_count(0)


@pytest.mark.parametrize("viewport", [{"width": 1200, "height": 900}, {"width": 390, "height": 844}])
def test_experiments_lead_to_their_questions_and_to_each_other(opened, viewport):
    page = opened("relu", "gelu", viewport=viewport)
    titles = page.locator("[data-experiment]").all_inner_texts()
    page.locator("[data-experiment]").first.click()
    for number, title in enumerate(titles):
        expect(page.locator("#watch strong")).to_have_text(f"{title}.")
        page.wait_for_timeout(500)  # charts that are drawn later may move what follows them
        section = page.locator("section", has=page.locator("#watch"))
        assert 0 <= section.locator("h2").bounding_box()["y"] < 100
        assert page.locator("#watch").get_by_text("Next experiment").count() == (number < len(titles) - 1)
        if number < len(titles) - 1:
            page.locator("#watch").get_by_text("Next experiment").click()
    page.locator("#watch").get_by_text("All experiments").click()
    assert 0 <= page.get_by_role("heading", name="Experiments").bounding_box()["y"] < 100


# -- copies ---------------------------------------------------------------------------------------


def test_copy_writes_links_settings_command_and_code(opened):
    page = opened("relu", "mish", permissions=["clipboard-read", "clipboard-write"])
    texts = {}
    for name in ("Copy the link", "Copy the settings", "Copy the command", "Copy the code"):
        page.locator("#copied").evaluate("element => { element.textContent = ''; }")
        page.get_by_role("button", name=name).click()
        expect(page.locator("#copied")).to_have_text("Copied.")
        texts[name] = page.evaluate("navigator.clipboard.readText()")
    assert texts["Copy the link"] == page.locator("#link").input_value()
    assert texts["Copy the settings"] == "#" + texts["Copy the link"].partition("#")[2]
    assert texts["Copy the command"] == "actlab compare relu mish --data digits"
    assert texts["Copy the code"] == page.locator("#code").text_content()


def test_copy_selects_the_text_without_permission(opened):
    page = opened("relu")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('denied')); }")
    page.get_by_role("button", name="Copy the settings").click()
    expect(page.locator("#copied")).to_have_text("The text is selected. Press Ctrl+C to copy it.")
    selected = "document.activeElement.value.slice(document.activeElement.selectionStart)"
    assert page.evaluate(selected) == "#" + page.locator("#link").input_value().partition("#")[2]
    page.get_by_role("button", name="Copy the code").click()
    expect(page.locator("#copied")).to_have_text("The text is selected. Press Ctrl+C to copy it.")
    assert page.evaluate("getSelection().toString()").strip() == page.locator("#code").inner_text().strip()


def test_read_takes_the_deepest_formula_that_is_allowed(page):
    text = "mish(" * 39 + "x" + ")" * 39
    value = page.evaluate("text => actlab.state.read(text).formula.at(2)[0]", text)
    x = torch.tensor(2.0, dtype=torch.float64)
    for _ in range(39):
        x = torch.nn.functional.mish(x)
    assert value == pytest.approx(x.item(), rel=1e-9)
    assert page.evaluate("actlab.state.read('formula:\\tx *\\n 2').spec") == "formula:x * 2"


HOSTILE_LINKS = [
    ("f=<img src=x onerror=window.hacked=1>", "A function in the link was ignored"),
    ("f=__proto__", "underscores"),
    ("f=constructor", "unknown function"),
    ("f=" + "(" * 3000, "A function in the link was ignored"),
    ("f=" + "x" * 30_000, "The link is too long"),
    ("view=NaN,1,1,density,none", "The view in the link was ignored"),
    ("view=0,8,1,density,__proto__", "The view in the link was ignored"),
    ("depth=7,30,1,0", "The depth in the link was ignored"),
    ("depth=0,1e9,1,0", "The depth in the link was ignored"),
    ("depth=0,30,1,0,constructor", "The depth in the link was ignored"),
    ("train=__proto__,2,0.1,0,torch", "The training in the link was ignored"),
    ("train=moons,100000,0.1,0,torch", "The training in the link was ignored"),
    ("a=constructor", "A layer in the link was ignored"),
    ("%E0%A4%A&f=%", "A function in the link was ignored"),
]


def test_restore_ignores_what_is_not_valid(page):
    read = """fragments => fragments.map(fragment => {
      const state = new actlab.State(actlab.parser, actlab.entries, ["relu", "tanh"], 6);
      const before = state.write();
      return [state.restore(fragment).join(" "), state.write() === before];
    })"""
    results = page.evaluate(read, [fragment for fragment, _ in HOSTILE_LINKS])
    for (fragment, problem), (problems, is_unchanged) in zip(HOSTILE_LINKS, results, strict=True):
        assert problem in problems, fragment
        assert is_unchanged, fragment
    assert page.evaluate("[window.hacked, {}.polluted]") == [None, None]


def test_page_reports_what_is_not_valid_in_a_link(opened):
    page = opened("relu", "tanh", fragment="f=<img src=x onerror=window.hacked=1>&f=mish&depth=0,1e9,1,0")
    expect(page.locator("#restored")).to_contain_text("A function in the link was ignored: formula: ")
    expect(page.locator("#restored")).to_contain_text(
        "The depth in the link was ignored: a number from 1 to 100"
    )
    assert page.locator("#chosen .name").all_inner_texts() == ["mish"]
    assert page.evaluate("window.hacked") is None


def test_page_has_no_accessibility_violations(opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = opened("leaky_relu", "x*tanh(a*x) with a=2")
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_label("A formula in x").fill("tahn(x)")
    page.get_by_role("button", name="Add formula").click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        violations = axe.Axe().run(page).response["violations"]
        assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in violations] == [], scheme


def test_page_fits_a_phone(opened):
    formula = "where(x > 0, x, 0.1234567890123 * (exp(x) - 1)) + 0.1234567890123 * x"
    page = opened("leaky_relu", formula, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for text in page.locator("#curves svg text").all()[:4]:
        assert text.bounding_box()["height"] > 10
    # In one call, because charts that are drawn later move everything below them.
    start, a, b, rate = page.evaluate(
        "ids => ids.map(id => document.getElementById(id).getBoundingClientRect().toJSON())",
        ["start", "surface-a", "surface-b", "rate"],
    )
    assert a["y"] == b["y"] > start["y"]
    assert a["bottom"] - start["y"] < 350  # less than half of the screen
    assert rate["y"] > a["y"]


def test_page_works_in_a_frame_of_a_notebook(browser, tmp_path):
    (tmp_path / "notebook.html").write_text(
        f"<!DOCTYPE html><link rel=icon href=data:,>{actlab.explore('relu')._repr_html_()}", encoding="utf-8"
    )
    with open_offline(browser, tmp_path / "notebook.html") as page:
        frame = page.frame_locator("iframe")
        frame.get_by_role("button", name="Critical point").click()
        expect(frame.get_by_label("Weight scale σ_w, as a number")).to_have_value("1.414")
        frame.get_by_role("link", name="Units that die").click()
        expect(frame.locator("#train #watch strong")).to_have_text("Units that die.")
        expect(frame.locator("#chosen .name")).to_have_text(["relu", "tanh"])


# -- what users may not do ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<script>window.hacked=1</script>", "a value is missing before '<'"),
        ("constructor.constructor('window.hacked=1')()", "is not allowed"),
        ("constructor(x)", "unknown function 'constructor'"),
        ("__proto__(x)", "underscores may only separate words"),
        ("x + toString", "unknown name 'toString'"),
        ("hasOwnProperty(x)", "unknown function 'hasOwnProperty'"),
        ("x*sigmoid(b*x)", "write the value after the formula: x*sigmoid(b*x) with b=1"),
        ("valueOf(x, x)", "unknown function 'valueOf'"),
        ("x + __proto__", "underscores may only separate words"),
        ("${window.hacked=1}", "is not allowed"),
        ("x; window.hacked = 1", "is not allowed"),
        ("alert(1)*x", "unknown function 'alert'"),
        ("eval(x)", "unknown function 'eval'"),
        ("import(x)", "is a Python keyword"),
        ("(" * 20000 + "x", "the maximum is 2000"),
        ("x" + "+ 1" * 140 + "*x" * 100, "too long"),
        ("sin(" * 39 + "x" + ")" * 39 + "+ 1" * 300, "nested too deeply"),
        ("x" * 1_000_000, "the text has 1000000 characters"),
        ("9" * 1_000_000 + "*x", "the text has 1000002 characters"),
        ("log(x)", "log(x) is not a real number for x = -1"),
        ("1/x", "1/x is not a real number for x = 0"),
        ("1/(x - 0.3)", "is not a real number for x = 0.3"),
        ("x - x + 1", "x cancels out"),
        ("1 + 1", "x does not occur"),
        ("x with constructor=1, __proto__=2", "is not a valid name"),
        ("x with x=1", "parameter 'x' is the input"),
        ("x * a with a=1, b=2", "parameter 'b' does not occur"),
        ("mish(constructor=1)", "has no parameter 'constructor'"),
    ],
)
def test_formula_field_refuses_hostile_and_undefined_formulas(page, text, problem):
    page.get_by_label("A formula in x").fill(text[:5000])
    before = page.locator("#chosen li").count()
    if len(text) > 5000:  # a field of a million characters takes seconds to type
        page.evaluate("text => { document.getElementById('formula').value = text; }", text)
    page.get_by_role("button", name="Add formula").click()
    expect(page.locator("#formula-problem")).to_contain_text(problem)
    assert page.locator("#chosen li").count() == before
    assert page.evaluate("[window.hacked, {}.polluted, document.scripts.length]") == [None, None, 2]


def test_policy_forbids_evaluation_and_connections(browser, tmp_path):
    actlab.explore().to_html(tmp_path / "explore.html")
    with contextlib.closing(browser.new_page()) as page:
        page.goto((tmp_path / "explore.html").as_uri())
        blocked = page.evaluate("""async () => {
          const names = [], wait = () => new Promise(done => setTimeout(done, 100));
          addEventListener("securitypolicyviolation", event => names.push(event.effectiveDirective));
          document.body.append(Object.assign(document.createElement("script"), {textContent: "hacked = 1"}));
          new Image().src = "https://example.org/";
          await fetch("https://example.org/").catch(() => null);
          await wait();  // text that a test evaluates is exempt from the policy; what a timer runs is not
          setTimeout(() => {
            for (const make of [() => eval("1"), () => new Function("return 1")]) {
              try { make(); names.push("evaluated"); } catch (error) { names.push(error.name); }
            }
          });
          await wait();
          return names.concat(String(window.hacked)).sort();
        }""")
    violated = ["connect-src", "img-src", "script-src", "script-src", "script-src-elem"]
    assert blocked == ["EvalError", "EvalError", *violated, "undefined"]

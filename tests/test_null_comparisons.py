"""The pure parts of ``benchmarks.null_comparisons``, one training, and its section of the page."""

import re

import numpy as np
import pytest
from benchmarks import null_comparisons
from benchmarks.null_comparisons import (
    CASES,
    draw_samples,
    estimate_data_ratio,
    format_rate,
    format_row,
    is_wrong,
    plan_sides,
    read_scores,
    run_sequential_test,
    summarize,
    train_sides,
)
from benchmarks.verdicts import NULL_SECTION, PAGE

import actlab


def draw_record(rng, difference=0.0, data=0.0, seeds=4):
    """Draw the scores of a comparison: the split has variance 1 and the seed 1."""
    split = np.repeat(rng.normal(size=(seeds // 2, 3)), 2, axis=0)
    first = difference + data * rng.normal() + split + rng.normal(size=(seeds, 3))
    scores = np.stack([first, np.zeros_like(first)]).tolist()
    return {"case": "x", "number": 0, "sequential": True, "step": 0.0, "tuned": scores, "given": scores}


def test_summary_equals_that_of_a_comparison():
    comparison = actlab.compare(
        ["relu", "tanh"], "digits", seeds=4, epochs=1, tune=None, hidden=(8, 4), jobs=1
    )
    results = comparison.results.set_index(["activation", "seed", "fold"])["score"]
    scores = np.array(
        [
            [[results[name, seed, fold] for fold in (1, 2, 3)] for seed in range(4)]
            for name in ("relu", "tanh")
        ]
    )
    (row,) = comparison.verdicts.to_dict("records")
    summary = summarize(scores, 4, 1 / 599)
    assert summary.posterior.p_value == pytest.approx(row["p"], rel=1e-9)
    assert summary.posterior.interval() == pytest.approx((row["low"], row["high"]))


def test_is_wrong_finds_a_verdict():
    rng = np.random.default_rng(0)
    assert is_wrong(np.array(draw_record(rng, difference=10)["tuned"]), 4, 0.0)
    assert not is_wrong(np.array(draw_record(rng)["tuned"]), 4, 0.0)


def test_sequential_test_continues_until_it_has_the_seeds():
    rng = np.random.default_rng(0)
    test = run_sequential_test(np.array(draw_record(rng, seeds=4)["tuned"]), 0.0)
    assert (test.stop_reason, test.next_seeds) == ("", 8)
    assert run_sequential_test(np.array(draw_record(rng, seeds=32)["tuned"]), 0.0).stop_reason
    early = run_sequential_test(np.array(draw_record(rng, difference=20, seeds=32)["tuned"]), 0.0)
    assert early.seeds <= 4


def test_data_ratio_is_that_of_the_variances():
    rng = np.random.default_rng(0)
    records = [draw_record(rng, data=0.5**0.5) for _ in range(4000)]
    assert estimate_data_ratio(records, "tuned") == pytest.approx(0.5, abs=0.06)


def test_row_omits_comparisons_with_failed_runs():
    rng = np.random.default_rng(0)
    records = [draw_record(rng, seeds=32), draw_record(rng, difference=20, seeds=32)]
    failed = {**records[0], "tuned": np.full((2, 4, 3), np.nan).tolist()}
    row = format_row("x", [*records, failed])
    assert row.startswith("| x | 2 | ")
    assert format_rate([False, True]) in row


def test_numbered_nets_start_from_different_weights():
    case = CASES[0]
    sides = plan_sides(case, np.random.default_rng(0))[:2]
    first, second = (side.plan.run(side.name, 0, 0, 0).run.build().layers[0].weight for side in sides)
    assert first.shape == second.shape
    assert abs(np.corrcoef(first.detach().ravel(), second.detach().ravel())[0, 1]) < 0.5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_samples_have_new_draws(case):
    (X, y), (other, _) = (draw_samples(case.data, np.random.default_rng(seed)) for seed in (0, 1))
    assert len(X) == len(y)
    assert X.shape != other.shape or not np.array_equal(X, other)


def test_trained_sides_have_a_score_for_every_run(monkeypatch):
    monkeypatch.setattr(null_comparisons, "_EPOCHS", 1)
    sides = plan_sides(CASES[0], np.random.default_rng(0))[:2]
    train_sides(sides, range(2))
    for tuned in (True, False):
        scores = [read_scores(side, tuned=tuned) for side in sides]
        assert scores[0].shape == (2, 3)
        assert not np.array_equal(*scores)


def test_page_has_the_section_of_the_benchmark():
    _, heading, section = PAGE.read_text(encoding="utf-8").partition(NULL_SECTION)
    words = " ".join((heading + section).split())
    for text in re.split(r"\{.*?\}", null_comparisons._SECTION):
        assert " ".join(text.split()) in words
    for case in CASES:
        assert f"| {case.title} | " in section

"""Degenerate input of the statistics: a correct value, or an error with advice."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from actlab import UsageError
from actlab.stats.posterior import Posterior
from actlab.stats.sequential import SequentialTest, compute_analysis_level, compute_crossing_probability
from actlab.stats.several_datasets import compare_over_datasets
from actlab.stats.verdict import DifferenceSummary, holm, judge_summaries, summarize_differences

D = [1.0, 2.0, -3.0, 0.5]


def paired(differences, cells=None, ratio=0.5, **options):
    cells = range(len(differences)) if cells is None else cells
    return summarize_differences(differences, list(cells), ratio, **options)


# -- rejected input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "cells", "got"),
    [([], [], 0), ([0.1], [0], 1), ([0.1, 0.2], [0, 0], 1), ([0.0] * 5, ["a"] * 5, 1), ([-1.0], [7], 1)],
)
def test_summarize_differences_needs_two_cells(differences, cells, got):
    with pytest.raises(UsageError, match=rf"^a test needs at least two cells, got {got}: .* two folds$"):
        summarize_differences(differences, cells, 0.5)


@pytest.mark.parametrize(("cells", "runs", "spare"), [(1, 1, 0), (1, 2, 1), (0, 0, 0), (1, 30, 29)])
def test_difference_summary_rejects_one_cell(cells, runs, spare):
    with pytest.raises(UsageError, match=f"two cells, got {cells}:"):
        DifferenceSummary(0.1, cells, runs, 1.0, 1.0, 0.5, 1.0, spare, 0.5)


@pytest.mark.parametrize(
    ("differences", "options", "message"),
    [
        ([1.0, math.nan, 2.0], {}, "differences must be finite, got .nan.; omit"),
        ([1.0, 2.0, -math.inf], {}, "differences must be finite, got .-inf.; omit"),
        ([1e200, 2e200], {}, r"from 1e-100 to 1e\+100 in absolute value, got 2e\+200; rescale the scores"),
        ([1e308, -1e308], {}, r"got 1e\+308; rescale"),
        ([0.0, -1e-101], {}, "got 1e-101; rescale"),
        ([0.0, 5e-324], {}, "rescale"),
        ([1.0, 2.0, 3.0], {"cells": [0, 1]}, r"the same length, got shapes \(3,\) and \(2,\)"),
        ([[1.0, 2.0]], {"cells": [[0, 1]]}, r"the same length, got shapes \(1, 2\) and \(1, 2\)"),
        (D, {"ratio": 0.0}, r"ratio must be .* got 0.0$"),
        (D, {"ratio": -0.5}, "ratio must be .* got -0.5"),
        (D, {"ratio": math.nan}, "ratio must be .* got nan"),
        (D, {"ratio": math.inf}, "ratio must be .* got inf"),
        (D, {"step": -0.01}, "step must be a finite number >= 0, got -0.01"),
        (D, {"step": math.nan}, "step must be a finite number >= 0, got nan"),
        (D, {"step": math.inf}, "step must be a finite number >= 0, got inf"),
    ],
)
def test_summarize_differences_rejects_invalid_input(differences, options, message):
    with pytest.raises(UsageError, match=message):
        paired(differences, **options)


@pytest.mark.parametrize("level", [0, 1, -0.05, 1.5, math.nan, math.inf])
def test_judge_and_interval_reject_an_invalid_level(level):
    message = f"^level must be a probability between 0 and 1, got {level}$"
    with pytest.raises(UsageError, match=message):
        judge_summaries([paired(D)], 0.1, level)
    with pytest.raises(UsageError, match=message):
        paired(D).posterior.interval(level)


@pytest.mark.parametrize("region", [-1e-9, math.nan, -math.inf])
def test_judge_rejects_an_invalid_region(region):
    with pytest.raises(UsageError, match=rf"^region \(half its width\) must be a number >= 0, got {region}"):
        judge_summaries([paired(D)], region)
    assert (
        judge_summaries([], region) == []
    )  # without pairs the region is not used, for example if every run has failed


@pytest.mark.parametrize(
    ("p_values", "message"),
    [
        ([0.1, math.nan], "from 0 to 1, got .nan"),
        ([-1e-9, 0.5], "from 0 to 1, got .-1.e-09"),
        ([0.1, 1.0000001], "from 0 to 1, got .1.0000001"),
        ([math.inf], "from 0 to 1, got .inf"),
        (0.1, r"a list of numbers, got shape \(\)"),
        ([[0.1, 0.2]], r"a list of numbers, got shape \(1, 2\)"),
    ],
)
def test_holm_rejects_invalid_p_values(p_values, message):
    with pytest.raises(UsageError, match=message):
        holm(p_values)


@pytest.mark.parametrize(
    ("names", "message"), [([], "got 0"), (["a"], "got 1"), (["a", "b", "a"], "a, b, a")]
)
def test_sequential_test_needs_two_different_activations(names, message):
    with pytest.raises(UsageError, match=message):
        SequentialTest(names)


# -- correct values at the limits ---------------------------------------------------------------------


def test_judge_of_two_cells_uses_the_cauchy_distribution():
    # Mean 1.5, variance 0.5, so t = 1.5 / sqrt(0.5 * (1/2 + 1/2)); with one degree of freedom t is Cauchy's.
    t = 1.5 / math.sqrt(0.5)
    (verdict,) = judge_summaries([paired([1.0, 2.0])], 0.0)
    assert verdict.p_value == pytest.approx(1 - 2 * math.atan(t) / math.pi, rel=1e-12)
    half = math.sqrt(0.5) / math.tan(math.pi * 0.025)  # the quantile 0.975 is cot(0.025 pi)
    assert (verdict.low, verdict.high) == pytest.approx((1.5 - half, 1.5 + half), rel=1e-12)
    assert verdict.outcome == "undecided"


@pytest.mark.parametrize("cells", [[0, 1, 2, 3], [0, 0, 1, 1]])
@pytest.mark.parametrize(
    "differences",
    [
        [0.1] * 4,
        [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6, 0.6 - 0.5],
        [1, 1, 1, 1 + 2.3e-16],
        [1e9, 1e9, 1e9, 1e9 + 1e-7],
    ],
    ids=["equal", "up to rounding", "one ulp", "large"],
)
def test_judge_treats_differences_equal_up_to_rounding_as_certain(differences, cells):
    (verdict,) = judge_summaries([paired(differences, cells)], 0.01)
    assert verdict.outcome == "better"
    assert verdict.p_value < 1e-20
    assert verdict.low <= verdict.difference <= verdict.high
    assert verdict.high - verdict.low < 1e-13 * verdict.difference
    (mirrored,) = judge_summaries([paired([-d for d in differences], cells)], 0.01)
    assert (mirrored.outcome, mirrored.p_value) == ("worse", verdict.p_value)


@pytest.mark.parametrize("unit", [1e-99, 1e-30, 1e-13, 1.0, 1e30, 1e99])
@pytest.mark.parametrize("cells", [[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 1, 1]])
def test_judge_does_not_depend_on_the_unit_of_the_score(unit, cells):
    d = np.array([1.0, 2.0, -0.5, 0.75])
    (plain,) = judge_summaries([paired(d, cells)], 0.1)
    (scaled,) = judge_summaries([paired(unit * d, cells)], 0.1 * unit)
    for name in ("outcome", "more_seeds"):
        assert getattr(scaled, name) == getattr(plain, name)
    for name in ("p_value", "better", "equivalent", "worse"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-9, abs=1e-12)
    for name in ("difference", "low", "high"):
        assert getattr(scaled, name) / unit == pytest.approx(getattr(plain, name), rel=1e-9)


@pytest.mark.parametrize("unit", [1e-90, 1e-12, 1e-3, 1.0, 1e60])
def test_posterior_interval_is_students_t_in_any_unit(unit):
    scale = 2.5 * unit
    expected = stats.t.interval(0.95, 7, 0.5 * unit, scale)
    result = Posterior(0.5 * unit, 7, np.array([scale]), np.ones(1)).interval()
    assert np.array(result) / unit == pytest.approx(np.array(expected) / unit, rel=1e-12)


def test_posterior_is_accurate_for_a_mean_much_larger_than_its_scale():
    # 1 + 1e-20 is 1 in floats; the distance from the mean is not rounded.
    narrow = Posterior(1.0, 9, np.array([1e-20]), np.ones(1))
    assert narrow.interval() == (1.0, 1.0)
    assert narrow.p_value == pytest.approx(2 * stats.t.sf(1e20, 9), rel=1e-9)
    assert (narrow.probability_below(1.0), narrow.probability_below(2.0)) == (0.5, 1.0)
    assert narrow.probability_below(0.5) < 1e-100


@pytest.mark.parametrize(
    ("cells", "runs"), [(2, 200), (2, 3), (9000, 9001), (60, 120), (4000, 8000), (3, 5000)]
)
def test_posterior_without_seed_variance_is_students_t_for_any_size(cells, runs):
    # Runs of a cell are equal, so all variance comes from the split, and the posterior is Student's t with
    # cells - 1 degrees of freedom for any number of runs.
    means = np.random.default_rng(cells).normal(size=cells) + 0.1
    labels = np.sort(np.arange(runs) % cells)
    summary = paired(means[labels], labels, 0.25, resample=False)
    scale = math.sqrt(means.var(ddof=1) * (np.square(np.bincount(labels) / runs).sum() + 1.25 * 0.25))
    for value in (-0.5, 0.0, 0.2, 1.0):
        expected = stats.t.cdf((value - means[labels].mean()) / scale, cells - 1)
        assert summary.posterior.probability_below(value) == pytest.approx(
            expected, abs=2e-3 if cells < 9 else 1e-9
        )


def test_seeds_to_decide_handles_many_folds():
    d = np.tile([-1.0, 1.0], 50_000) + 0.006
    summary = paired(d, ratio=1 / 99_999, resample=False)
    # Split and seed have half of the variance 1 each. S seeds make 50,000 S cells of two runs: the squared
    # scale is 0.75 / 50,000 S + 1.25 * 0.5 / 100,000, and t = 0.006 / scale is above 1.96 from S = 4.8 on.
    assert summary.seeds_to_decide(0.05, 0.0, 0.05) == 5


@pytest.mark.parametrize("region", [math.inf, 1e300])
def test_judge_accepts_an_infinite_region(region):
    (verdict,) = judge_summaries([paired(D)], region)
    assert (verdict.outcome, verdict.equivalent) == ("equivalent", 1.0)


def test_judge_and_holm_of_no_pairs_are_empty():
    assert judge_summaries([], 0.1) == []
    assert holm([]).tolist() == []


def test_holm_keeps_ties_zeros_and_ones():
    assert holm([0.0, 0.0, 1.0, 1.0]).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert holm([0.02, 0.02, 0.02]).tolist() == [0.06, 0.06, 0.06]


@pytest.mark.parametrize("bound", [0.0, 0.5, 2.0, 9.0, 20.0, 37.0, 1e3, math.inf])
def test_compute_crossing_probability_of_one_step_is_the_normal_tail(bound):
    assert compute_crossing_probability(bound, [3]) == pytest.approx(
        math.erfc(bound / math.sqrt(2)), rel=1e-12
    )


@pytest.mark.parametrize("steps", [(1, 2), (2, 4), (3, 4), (1, 100), (50, 51)])
@pytest.mark.parametrize("bound", [0.3, 1.0, 2.5])
def test_compute_crossing_probability_of_two_steps_is_a_bivariate_normal_integral(steps, bound):
    # Two sums of n < m steps have the correlation sqrt(n / m).
    r = math.sqrt(steps[0] / steps[1])
    both = stats.multivariate_normal([0, 0], [[1, r], [r, 1]])
    inside = both.cdf([bound, bound], lower_limit=[-bound, -bound])
    assert compute_crossing_probability(bound, steps) == pytest.approx(1 - inside, abs=2e-5)


@pytest.mark.parametrize("bound", [8.0, 11.0, 30.0])
def test_compute_crossing_probability_is_precise_for_small_probabilities(bound):
    one = math.erfc(bound / math.sqrt(2))
    # For large bounds, crossing at both steps is rare, so the probability is almost twice that of one step.
    assert 1.9 * one < compute_crossing_probability(bound, [1, 100]) < 2 * one


def test_compute_analysis_level_of_many_pairs_is_between_a_fifth_of_the_level_and_the_level():
    levels = [compute_analysis_level(pairs) for pairs in (1, 10**3, 10**6, 10**9)]
    assert levels == sorted(levels, reverse=True)  # rarer errors coincide less in five analyses
    assert all(0.05 / 5 < level < 0.05 for level in levels)


def test_compare_over_datasets_ranks_differences_beyond_the_largest_float():
    big = 1.5e308
    scores = pd.DataFrame({"a": [big, big, 3.0, 1.0], "b": [-big, -1e308, 2.0, 1.0]})
    result = compare_over_datasets(scores)
    # Differences 3.0e308 > 2.5e308 > 1 > 0: ranks 4, 3, 2 and half of 1 for each side; all three signs agree.
    assert (result.statistic, result.p_value) == (0.5, 2 / 2**3)


@pytest.mark.parametrize("activations", [1, 2, 4])
def test_compare_over_datasets_is_undecided_if_every_run_failed(activations):
    scores = pd.DataFrame(np.full((6, activations), np.nan), columns=list("abcd"[:activations]))
    result = compare_over_datasets(scores)
    assert result.ranks["mean_rank"].tolist() == [(activations + 1) / 2] * activations
    assert set(result.verdicts["verdict"]) <= {"undecided"}
    assert set(result.verdicts["p"]) <= {1.0}

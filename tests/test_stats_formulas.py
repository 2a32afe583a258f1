"""Formulas and boundaries of the verdicts against closed forms, explicit sums and SciPy's integrals."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from actlab.stats.verdict import DifferenceSummary, judge_summaries, summarize_differences

CAUTION, BELIEF = 1.25, 0.05  # documented in docs/verdicts.md


def summarize_equal_cells(between, within, cells=6, seeds=2, mean=1.0, ratio=0.5):
    """Return the summary of cells with an equal number of runs."""
    spare = cells * (seeds - 1)
    return DifferenceSummary(mean, cells, cells * seeds, between, 1 / cells, 1 / seeds, within, spare, ratio)


def summarize_single_runs(mean, between=1.0, cells=6, ratio=0.5):
    """Return the summary of cells with one run each: Student's t with this scale, and cells - 1."""
    result = DifferenceSummary(mean, cells, cells, between, 1 / cells, 1.0, math.nan, 0, ratio)
    return result, math.sqrt(between * (1 / cells + ratio))


def integrate_numerically(e, value):
    """Return P(true difference < value) by adaptive quadrature over the share of the first chi-square."""
    a, b, df = (e.cells - 1) / 2, e.within_df / 2, e.cells - 1 + e.within_df
    first, second = (e.cells - 1) * e.between_variance, e.within_df * e.within_variance

    def below(x):
        split = max(first / x - e.within_weight * second / (1 - x), 0)
        scale = math.sqrt((first / x * e.between_weight + CAUTION * e.ratio * split) / df)
        return stats.t.cdf((value - e.mean) / scale, df) * stats.beta.pdf(x, a, b)

    kink = first / (first + e.within_weight * second)  # the split has variance where x is below it
    some = stats.beta.cdf(kink, a, b)
    with_split, without = (integrate.quad(below, *ends, epsabs=1e-11)[0] for ends in ((0, kink), (kink, 1)))
    whole = with_split + without
    return (1 - BELIEF) * whole + BELIEF * with_split / some if some else whole


# -- summaries ------------------------------------------------------------------------------


def test_summarize_differences_of_unequal_cells_equals_explicit_sums():
    # Cells u: 1, 3; v: -2; w: 0, 1, 9, 6. Means 2, -2, 4 with mean 4/3: deviations 2/3, -10/3, 8/3.
    summary = summarize_differences([1, 0, -2, 3, 1, 9, 6], list("uwvuwww"), 0.25)
    assert summary.mean == pytest.approx(18 / 7)
    assert (summary.cells, summary.runs, summary.within_df, summary.ratio) == (3, 7, 4, 0.25)
    assert summary.between_variance == pytest.approx((4 + 100 + 64) / 9 / 2)
    assert summary.between_weight == pytest.approx((4 + 1 + 16) / 49)
    assert summary.within_weight == pytest.approx((1 / 2 + 1 + 1 / 4) / 3)
    assert summary.within_variance == pytest.approx((1 + 1 + 16 + 9 + 25 + 4) / 4)
    assert summary.wins == pytest.approx((5 + 0.5) / 7)


def test_summarize_differences_of_single_runs_has_no_within_variance():
    summary = summarize_differences([1.0, 2.0, 6.0], [3, 1, 2], 0.5)
    assert (summary.within_weight, summary.within_df, summary.between_weight, summary.between_variance) == (
        1.0,
        0,
        pytest.approx(1 / 3),
        7.0,
    )
    assert math.isnan(summary.within_variance)


@pytest.mark.parametrize("step", [0.3, 0.05])
def test_summarize_differences_has_at_least_the_rounding_variance(step):
    # Rounding a score to a step adds the variance step^2 / 12, so a difference of two has step^2 / 6 more.
    summary = summarize_differences([0.3, 0.3, 0.3, 0.3], [0, 0, 1, 1], 0.5, step=step)
    assert summary.within_variance == pytest.approx(step**2 / 6)
    assert summary.between_variance == pytest.approx(step**2 / 6 / 2)  # a mean of two
    above = summarize_differences([0.0, 6.0, 10.0, 20.0], [0, 0, 1, 1], 0.5, step=step)
    assert (above.within_variance, above.between_variance) == (pytest.approx((9 + 9 + 25 + 25) / 2), 72.0)
    equal = summarize_differences([0.0] * 4, [0, 0, 1, 1], 0.5, step=step)
    assert (equal.within_variance, equal.between_variance) == (0.0, 0.0)  # identical scores


def test_summarize_differences_resamples_cells_for_the_wins_interval():
    # Four cells with a win, one of three losses. Of five drawn cells K are the losing one: binomial (5, 1/5),
    # P(K >= 4) = 0.7 % and P(K >= 3) = 5.8 %: the 2.5 % end has K = 3, so 2 wins in 2 + 9 runs.
    summary = summarize_differences([1.0] * 4 + [-1.0] * 3, [0, 1, 2, 3, 4, 4, 4], 0.5)
    assert (summary.wins, summary.wins_low, summary.wins_high) == (4 / 7, 2 / 11, 1.0)
    # One losing cell of three: P(K = 3) = 1 / 27 = 3.7 %, between 2.5 % and 5 %: no wins at the low end.
    three = summarize_differences([1.0, 1.0, -1.0], [0, 1, 2], 0.5)
    assert (three.wins, three.wins_low, three.wins_high) == (2 / 3, 0.0, 1.0)
    unknown = summarize_differences([1.0, 1.0, -1.0], [0, 1, 2], 0.5, resample=False)
    assert np.isnan([unknown.wins_low, unknown.wins_high]).all()


# -- posterior distribution of the difference ------------------------------------------------------------


@pytest.mark.parametrize("cells", [2, 5, 30])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 2.0])
def test_posterior_of_one_seed_is_the_corrected_t_test(cells, ratio):
    result, scale = summarize_single_runs(0.7, 2.0, cells, ratio)
    law = stats.t(cells - 1, 0.7, scale)
    assert [result.posterior.probability_below(v) for v in (-1.0, 0.0, 0.7, 3.0)] == pytest.approx(
        law.cdf([-1.0, 0.0, 0.7, 3.0]), rel=1e-12
    )
    assert result.posterior.p_value == pytest.approx(2 * law.cdf(0), rel=1e-12)
    assert result.posterior.probability_within(0.4) == pytest.approx(law.cdf(0.4) - law.cdf(-0.4), rel=1e-12)
    assert result.posterior.interval(0.1) == pytest.approx(law.interval(0.9), rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 7])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 2.0])
def test_posterior_with_a_varying_split_agrees_with_an_integral(seeds, ratio):
    summary = summarize_equal_cells(between=3.0, within=1.0, cells=20, seeds=seeds, mean=0.8, ratio=ratio)
    for value in (-1.0, 0.0, 0.5, 2.0):
        assert summary.posterior.probability_below(value) == pytest.approx(
            integrate_numerically(summary, value), abs=2e-6
        )


@pytest.mark.parametrize(("between", "within"), [(1.0, 1.0), (0.5, 1.0), (0.3, 1.0)])
@pytest.mark.parametrize("cells", [4, 20])
def test_posterior_with_an_uncertain_split_agrees_with_an_integral(cells, between, within):
    summary = summarize_equal_cells(between, within, cells=cells, mean=0.5)
    for value in (-0.5, 0.0, 1.0):
        assert summary.posterior.probability_below(value) == pytest.approx(
            integrate_numerically(summary, value), abs=1.5e-3
        )


@pytest.mark.parametrize("cells", [2, 6, 20])
def test_posterior_without_split_variance_is_students_t(cells):
    # The chi-square of the cells alone then scales the mean's variance: t with cells - 1 degrees of freedom.
    summary = summarize_equal_cells(between=1e-9, within=1.0, cells=cells, mean=2e-5, ratio=0.5)
    scale = math.sqrt(1e-9 / cells)
    expected = 2 * stats.t.sf(2e-5 / scale, cells - 1)
    assert summary.posterior.p_value == pytest.approx(expected, rel=1e-3 if cells == 2 else 1e-6)


def test_posterior_has_a_prior_for_split_variance():
    # With so many test samples any variance of the split hides everything, and P(< 0) is 1/2;
    # without, the mean is far from 0. The estimates give that variance the probability q, and the prior 5 %.
    summary = summarize_equal_cells(between=0.05, within=1.0, cells=14, mean=10.0, ratio=1e9)
    q = stats.beta.cdf(1 / (1 + 0.5 * 14 * 1.0 / (13 * 0.05)), 13 / 2, 14 / 2)
    assert 0 < q < 1e-4
    assert summary.posterior.p_value == pytest.approx(BELIEF + (1 - BELIEF) * q, abs=1e-4)


@pytest.mark.parametrize(
    ("between", "within", "seeds", "expected"),
    [
        (5.0, 2.0, 2, (4.0, 2.0)),
        (5.0, 2.0, 4, (4.5, 2.0)),
        (0.5, 2.0, 2, (0.0, 2.0)),
        (1.0, 2.0, 2, (0.0, 2.0)),
    ],
)
def test_variance_components_are_those_of_split_and_seed(between, within, seeds, expected):
    assert summarize_equal_cells(between, within, seeds=seeds).variance_components == expected
    assert summarize_single_runs(0.0, between)[0].variance_components == (between / 2, between / 2)


# -- outcomes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.05, 0.01, 0.2])
@pytest.mark.parametrize("sign", [1, -1])
def test_judge_decides_exactly_at_the_level(level, sign):
    t = stats.t.isf(level / 2, 5)
    for factor, outcome in ((1.001, "better" if sign > 0 else "worse"), (0.999, "undecided")):
        (verdict,) = judge_summaries(
            [summarize_single_runs(sign * factor * t * summarize_single_runs(0.0)[1])[0]], 0.0, level
        )
        assert verdict.outcome == outcome
        assert verdict.p_value == verdict.p_holm == pytest.approx(2 * stats.t.sf(factor * t, 5), rel=1e-9)
    result, _ = summarize_single_runs(0.9)
    assert (
        judge_summaries([result], 0.0, result.posterior.p_value)[0].outcome == "better"
    )  # p <= level, so the level itself is included


@pytest.mark.parametrize("level", [0.05, 0.01, 0.2])
def test_judge_decides_equivalence_exactly_at_one_minus_the_level(level):
    result, scale = summarize_single_runs(0.0)
    half = stats.t.isf(level / 2, 5) * scale  # P(within) = 1 - level
    for factor, outcome in ((1.001, "equivalent"), (0.999, "undecided"), (0.8, "undecided")):
        (verdict,) = judge_summaries([result], factor * half, level)
        expected = 1 - 2 * stats.t.sf(factor * half / scale, 5)
        assert (verdict.outcome, verdict.equivalent) == (outcome, pytest.approx(expected, rel=1e-9))
    inside = result.posterior.probability_within(1.0)
    assert (
        judge_summaries([result], 1.0, 1 - inside)[0].outcome == "equivalent"
    )  # the level itself is included


@pytest.mark.parametrize("share", [0.905, 0.93, 0.949])
def test_judge_requires_one_minus_the_level_for_equivalence(share):
    result, scale = summarize_single_runs(0.0)
    (verdict,) = judge_summaries([result], stats.t.isf((1 - share) / 2, 5) * scale)
    assert verdict.equivalent == pytest.approx(share, rel=1e-9)
    assert verdict.outcome == "undecided"


def test_judge_includes_the_ends_of_the_region_for_equal_differences():
    for region, outcome in ((0.25, "equivalent"), (0.2499, "better")):
        for sign in (1, -1):
            (verdict,) = judge_summaries([summarize_differences([sign * 0.25] * 4, range(4), 0.5)], region)
            assert (verdict.low, verdict.high) == (sign * 0.25, sign * 0.25)
            assert verdict.outcome == (outcome if sign > 0 or outcome == "equivalent" else "worse")
            chances = (verdict.better, verdict.equivalent, verdict.worse)
            assert chances == tuple(
                float(verdict.outcome == outcome) for outcome in ("better", "equivalent", "worse")
            )


def test_judge_gives_identical_scores_no_probability_of_being_worse():
    (verdict,) = judge_summaries([summarize_differences([0.0] * 4, range(4), 0.5)], 0.0)
    assert (verdict.outcome, verdict.better, verdict.equivalent, verdict.worse) == (
        "equivalent",
        0.0,
        1.0,
        0.0,
    )


def test_probability_below_counts_half_of_a_certain_difference():
    certain = summarize_differences([0.25] * 4, range(4), 0.5).posterior
    assert [certain.probability_below(value) for value in (0.2, 0.25, 0.3)] == [0.0, 0.5, 1.0]


def test_judge_returns_the_probability_of_each_outcome():
    result, scale = summarize_single_runs(0.4)
    (verdict,) = judge_summaries([result], 0.3, 0.1)
    law = stats.t(5, 0.4, scale)
    assert verdict.better == pytest.approx(law.sf(0.3), rel=1e-9)
    assert verdict.worse == pytest.approx(law.cdf(-0.3), rel=1e-9)
    assert verdict.equivalent == pytest.approx(law.cdf(0.3) - law.cdf(-0.3), rel=1e-9)
    assert (verdict.low, verdict.high) == pytest.approx(law.interval(0.9), rel=1e-9)
    assert (verdict.difference, verdict.level, verdict.summary) == (0.4, 0.1, result)


def test_judge_applies_holms_steps_and_keeps_the_order():
    pairs = [summarize_single_runs(mean)[0] for mean in (2.4, 0.1, -3.1, 2.6)]
    p = [pair.posterior.p_value for pair in pairs]
    verdicts = judge_summaries(pairs, 0.0, 0.06)
    # Smallest first: -3.1, 2.6, 2.4, 0.1 times 4, 3, 2, 1, and never less than the one before.
    steps = np.maximum.accumulate([4 * p[2], 3 * p[3], 2 * p[0], p[1]])
    assert [v.p_holm for v in verdicts] == pytest.approx([steps[2], steps[3], steps[0], steps[1]], rel=1e-12)
    assert [v.p_value for v in verdicts] == p
    assert [v.outcome for v in verdicts] == [
        "better" if v.p_holm <= 0.06 and v.difference > 0 else v.outcome for v in verdicts
    ]


# -- forecasts ------------------------------------------------------------------------------------------


def first_seeds(decides, most=500):
    return next((seeds for seeds in range(1, most + 1) if decides(seeds)), None)


@pytest.mark.parametrize("folds", [3, 5, 10])
@pytest.mark.parametrize("threshold", [0.05, 0.01])
@pytest.mark.parametrize("mean", [1.9, -2.4, 4.0])
def test_seeds_to_decide_without_seed_variance_is_a_t_test(folds, threshold, mean):
    # All variance, 3, is the split's. With S seeds there are folds * S // 2 cells, at least 2.
    ratio = 1 / (folds - 1)
    summary = summarize_equal_cells(between=3.0, within=0.0, cells=folds, mean=mean, ratio=ratio)

    def decides(seeds):
        cells = max(2, folds * seeds // 2)
        t = abs(mean) / math.sqrt(3.0 * (1 / cells + CAUTION * ratio))
        return 2 * stats.t.sf(t, cells - 1) <= threshold

    assert summary.seeds_to_decide(threshold, 0.0, 0.05) == first_seeds(decides)


@pytest.mark.parametrize(("between", "within"), [(0.2, 4.0), (1.5, 1.0)])
@pytest.mark.parametrize(("mean", "region"), [(0.65, 0.0), (-0.8, 0.0), (0.02, 0.5), (0.0, 0.8)])
def test_seeds_to_decide_agrees_with_an_integral(between, within, mean, region):
    summary = summarize_equal_cells(between, within, cells=6, mean=mean, ratio=0.05)
    split, own = max(between - within / 2, 0.0), within
    folds = 21

    def later(seeds):
        cells = folds * seeds // 2
        return summarize_equal_cells(split + own / 2, own, cells=cells, mean=mean, ratio=0.05)

    def decides(seeds):
        below = partial(integrate_numerically, later(seeds))
        return 2 * min(below(0.0), 1 - below(0.0)) <= 0.05 or below(region) - below(-region) >= 0.95

    seeds = summary.seeds_to_decide(0.05, region, 0.05)
    assert seeds is not None
    assert (decides(seeds), decides(seeds - 1)) == (True, False)


def test_seeds_to_decide_of_one_seed_attributes_half_of_the_variance_to_seeds():
    # Between 2: split 1 and seed 1, so a mean of two has the variance 1.5 where it takes at most 5 seeds.
    result, _ = summarize_single_runs(3.0, between=2.0, cells=3)
    again = summarize_equal_cells(1.5, 1.0, cells=3, mean=3.0)
    assert again.variance_components == (1.0, 1.0)
    assert result.seeds_to_decide(0.05, 0.0, 0.05) == again.seeds_to_decide(0.05, 0.0, 0.05)


def test_seeds_to_decide_uses_one_minus_the_level_for_equivalence():
    # No split and no mean: the scale falls with 1 / sqrt(cells), and the region is wide enough in the end.
    summary = summarize_equal_cells(between=1e-9, within=0.0, cells=4, mean=0.0, ratio=1 / 9)

    def decides(level, seeds):
        cells = 10 * seeds // 2
        scale = math.sqrt(1e-9 * (1 / cells + CAUTION / 9))
        return 1 - 2 * stats.t.sf(2.2e-5 / scale, cells - 1) >= 1 - level

    answers = [summary.seeds_to_decide(1e-9, 2.2e-5, level) for level in (0.2, 0.1, 0.08)]
    assert answers == [first_seeds(partial(decides, level)) for level in (0.2, 0.1, 0.08)]
    assert answers == sorted(answers)


@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize(("cells", "now"), [(6, 4), (3, 2), (12, 8)])
def test_judge_more_seeds_is_the_difference_to_seeds_to_decide(cells, now, others):
    # In three folds with two seeds to a cell, 2 * cells runs are 2 * cells / 3 seeds.
    summary = summarize_equal_cells(between=2.1, within=4.0, cells=cells, mean=2.0)
    pairs = [summary, *(summarize_equal_cells(9.0, 1.0, mean=0.1) for _ in range(others))]
    verdict = judge_summaries(pairs, 0.01, 0.02)[0]
    seeds = summary.seeds_to_decide(0.02 / len(pairs), 0.01, 0.02)
    assert seeds > now
    assert (verdict.outcome, verdict.more_seeds) == ("undecided", seeds - now)


def test_judge_more_seeds_is_at_least_one_and_none_if_decided():
    decided, _ = summarize_single_runs(9.0)
    assert judge_summaries([decided], 0.0)[0].more_seeds is None
    # Four seeds in the same three folds are undecided; three in cells of two would have done.
    summary = summarize_equal_cells(between=1.0, within=1.0, cells=3, seeds=4, mean=3.5)
    (verdict,) = judge_summaries([summary], 0.0)
    assert verdict.outcome == "undecided"
    assert (summary.seeds_to_decide(0.05, 0.0, 0.05), verdict.more_seeds) == (3, 1)


def test_seeds_to_decide_is_at_most_500():
    # One fold pair, no split: t grows with sqrt(seeds), so a mean can be set for any number of seeds.
    def needs(seeds):
        cells = 3 * seeds // 2
        scale = math.sqrt(1e-9 * (1 / cells + CAUTION / 2))
        return stats.t.isf(0.025, cells - 1) * scale

    falling = [needs(seeds) for seeds in (2, 10, 100, 500, 501)]
    assert all(before > after for before, after in pairwise(falling))
    for mean, expected in ((falling[3] * (1 + 1e-7), 500), (falling[4] * (1 + 1e-8), None)):
        summary = summarize_equal_cells(between=1e-9, within=0.0, cells=3, mean=mean)
        assert summary.seeds_to_decide(0.05, 0.0, 0.05) == expected


def test_seeds_to_decide_with_the_same_splits_adds_seeds_to_each_cell():
    def with_seeds(seeds):
        between = 0.0001 + 0.01 / seeds
        runs = 3 * seeds
        return DifferenceSummary(
            0.05, 3, runs, between, 1 / 3, 1 / seeds, 0.01, runs - 3, 0.5, same_splits=True
        )

    assert with_seeds(4).seeds == 4
    total = with_seeds(2).seeds_to_decide(0.05, 0.0, 0.05)
    assert with_seeds(total).posterior.p_value <= 0.05 < with_seeds(total - 1).posterior.p_value
    hopeless = DifferenceSummary(0.001, 3, 6, 1.0, 1 / 3, 0.5, 0.01, 3, 0.5, same_splits=True)
    assert hopeless.seeds_to_decide(0.05, 0.0, 0.05) is None

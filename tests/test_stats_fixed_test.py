"""Differences on a fixed test set: their variance, verdicts and coverage."""

import math

import numpy as np
import pytest
from benchmarks.fixed_test import Case, simulate, simulate_training
from scipy import integrate, special, stats
from statsmodels.stats.contingency_tables import mcnemar

from actlab.errors import UsageError
from actlab.stats.fixed_test_set import FixedTestSummary, summarize_fixed_test
from actlab.stats.verdict import judge_summaries


def make_outcomes(first, second, samples):
    """Return differences (1, samples): the first alone is right on some, the second alone on others."""
    d = np.zeros((1, samples))
    d[0, :first], d[0, first : first + second] = 1, -1
    return d


def draw(seeds, samples, of_seed, of_sample, of_rest, start=0):
    rng = np.random.default_rng(start)
    d = of_seed * rng.normal(size=(seeds, 1)) + of_sample * rng.normal(size=samples)
    return d + of_rest * rng.normal(size=(seeds, samples))


# -- variances ------------------------------------------------------------------------------------------


def test_summarize_fixed_test_computes_the_variances_of_a_table_by_hand():
    # Row means 2 and 5; column means 1, 3.5 and 6. The rest is d - row - column + mean.
    d = np.array([[0.0, 2.0, 4.0], [2.0, 5.0, 8.0]])
    summary = summarize_fixed_test(d)
    rest = np.array([[0.5, 0.0, -0.5], [-0.5, 0.0, 0.5]])
    of_rest = np.square(rest).sum() / 2  # (2 - 1) (3 - 1) degrees of freedom
    assert summary.mean == 3.5
    assert summary.seed_variance == pytest.approx(4.5)
    assert summary.sample_variance == pytest.approx(6.25 / 3 - of_rest / 6)
    assert (summary.seeds, summary.runs, summary.samples, summary.wins) == (2, 2, 3, 1.0)


def test_summarize_fixed_test_estimates_the_variance_of_the_mean_without_bias():
    sizes, parts = (4, 50), (0.3, 1.0, 2.0)
    found = [summarize_fixed_test(draw(*sizes, *parts, start), resample=False) for start in range(4000)]
    estimate = np.mean([s.seed_variance / s.seeds + s.sample_variance for s in found])
    true = 0.3**2 / 4 + 1 / 50 + 2.0**2 / 200
    assert estimate == pytest.approx(true, rel=0.03)
    assert np.var([s.mean for s in found]) == pytest.approx(true, rel=0.05)


def test_summarize_fixed_test_gives_equal_outcomes_the_variance_of_two_samples():
    summary = summarize_fixed_test(np.zeros((3, 200)), step=1 / 200)
    low, high = summary.posterior.interval()
    # With no difference among 200 samples, the rule of three bounds the share of differing ones by 3 / 200.
    assert (low, high) == pytest.approx((-0.014, 0.014), abs=0.0002)
    assert summarize_fixed_test(np.zeros((3, 200))).sample_variance == 0


@pytest.mark.parametrize(
    "differences", [np.zeros((0, 5)), np.zeros((3, 1)), np.zeros(1), np.zeros((2, 2, 2)), [[0.0, math.nan]]]
)
def test_summarize_fixed_test_refuses_differences_without_a_variance(differences):
    with pytest.raises(UsageError, match="differences must be"):
        summarize_fixed_test(differences)


# -- agreement with other tests -------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(30, 12), (55, 45), (8, 20)])
def test_posterior_of_one_seed_agrees_with_mcnemar(first, second):
    summary = summarize_fixed_test(make_outcomes(first, second, 2000))
    table = [[1000, first], [second, 1000 - first - second]]
    expected = mcnemar(table, exact=False, correction=False).pvalue
    assert summary.posterior.p_value == pytest.approx(expected, rel=0.06)


def test_posterior_of_one_seed_agrees_with_a_paired_bootstrap():
    d = make_outcomes(60, 20, 1000)
    rng = np.random.default_rng(0)
    bootstrap = stats.bootstrap((d[0],), np.mean, method="percentile", n_resamples=5000, rng=rng)
    low, high = summarize_fixed_test(d).posterior.interval()
    assert (low, high) == pytest.approx(tuple(bootstrap.confidence_interval), abs=0.0015)


def test_posterior_of_one_seed_is_the_paired_t_test():
    d = draw(1, 40, 0, 1, 0.5)
    expected = stats.ttest_1samp(d[0], 0)
    assert summarize_fixed_test(d).posterior.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_posterior_of_scores_is_the_t_test_over_seeds():
    scores = np.array([0.02, 0.01, 0.04, 0.015])
    summary = summarize_fixed_test(scores)
    expected = stats.ttest_1samp(scores, 0)
    assert summary.posterior.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert summary.posterior.interval() == pytest.approx(expected.confidence_interval(), rel=1e-9)
    assert (summary.samples, summary.sample_variance) == (0, 0.0)


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("share", [0.01, 1.0, 100.0])
def test_posterior_integrates_over_the_variance_of_the_seed(seeds, share):
    summary = FixedTestSummary(0.05, seeds, 10**9, seeds * share * 1e-4, 1e-4)

    def integrand(chi_square):
        variance = share * 1e-4 * (seeds - 1) / chi_square + 1e-4
        return 2 * special.ndtr(-0.05 / math.sqrt(variance)) * stats.chi2.pdf(chi_square, seeds - 1)

    parts = [(0, 1e-6), (1e-6, 1e-3), (1e-3, 1), (1, 20), (20, np.inf)]
    expected = sum(integrate.quad(integrand, *part)[0] for part in parts)
    assert summary.posterior.p_value == pytest.approx(expected, rel=1e-5)


def test_posterior_of_many_seeds_has_the_variance_of_the_samples_only():
    few, many = (FixedTestSummary(0.01, seeds, 500, 1e-4, 1e-4).posterior for seeds in (2, 10**6))
    assert many.p_value == pytest.approx(2 * stats.t.sf(1, 499), rel=1e-3)
    assert few.p_value > many.p_value


# -- verdicts -------------------------------------------------------------------------------------------


def test_judge_leaves_a_pair_with_one_seed_undecided():
    one = summarize_fixed_test(make_outcomes(400, 100, 2000), step=1 / 2000)
    (verdict,) = judge_summaries([one], 0.001)
    assert verdict.p_value < 1e-9
    assert (verdict.outcome, verdict.more_seeds) == ("undecided", None)
    (equal,) = judge_summaries([summarize_fixed_test(make_outcomes(0, 0, 2000))], 0.001)
    assert equal.outcome == "undecided"


def test_judge_forecasts_the_seeds_that_decide():
    def with_seeds(seeds):
        return FixedTestSummary(0.01, seeds, 10_000, 1e-4, 1e-6)

    (undecided,) = judge_summaries([with_seeds(3)], 0.0)
    assert undecided.outcome == "undecided"
    total = 3 + undecided.more_seeds
    assert judge_summaries([with_seeds(total)], 0.0)[0].outcome == "better"
    assert judge_summaries([with_seeds(total - 1)], 0.0)[0].outcome == "undecided"


def test_judge_forecasts_no_seeds_if_the_test_set_is_too_small():
    small = FixedTestSummary(0.01, 4, 100, 1e-6, 1e-4)
    (verdict,) = judge_summaries([small], 0.0)
    assert (verdict.outcome, verdict.more_seeds, small.is_limited_by_samples) == ("undecided", None, True)
    noisy = FixedTestSummary(0.001, 4, 0, 1.0, 0.0)
    (verdict,) = judge_summaries([noisy], 0.0)
    assert (verdict.outcome, verdict.more_seeds, noisy.is_limited_by_samples) == ("undecided", None, False)


# -- coverage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "seeds", "ability"),
    [(1000, 3, 0.0), (1000, 3, 0.1), (1000, 5, 0.03), (1000, 10, 0.1), (100, 5, 0.0), (100, 10, 0.1)],
)
def test_intervals_on_new_seeds_and_new_test_samples_cover_the_truth(samples, seeds, ability):
    count = 2000
    tally = simulate(Case(samples, seeds, ability), count)
    assert 0.94 < tally.both / count < 0.99
    # An interval that ignores one of the two sources of variance covers less.
    assert min(tally.seeds, tally.samples) / count < 0.94


def test_intervals_with_two_seeds_are_never_too_narrow():
    for ability in (0.0, 0.03, 0.1, 0.3):
        assert simulate(Case(1000, 2, ability), 1000).both > 940


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "seeds"), [(100, 3), (1000, 5)])
def test_intervals_of_trained_networks_cover_the_truth(samples, seeds):
    count = 1000
    assert 0.94 < simulate_training(seeds, samples, count).both / count < 0.99

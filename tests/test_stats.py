import itertools
import math

import baycomp
import numpy as np
import pytest
import scikit_posthocs
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.svm import SVC
from statsmodels.stats.multitest import multipletests

from actlab.stats.posterior import LEVEL
from actlab.stats.verdict import DifferenceSummary, holm, judge_summaries, summarize_differences


def one_seed(differences, ratio):
    """Summarize runs with one seed, each on its own fold."""
    return summarize_differences(differences, np.arange(len(differences)), ratio)


def with_seeds(cells=6, seeds=2, mean=0.0, split=0.0, own=1.0, seed=0, **options):
    rng = np.random.default_rng(seed)
    d = mean + split * rng.normal(size=(cells, 1)) + own * rng.normal(size=(cells, seeds))
    return summarize_differences(d.ravel(), np.repeat(np.arange(cells), seeds), 1 / (3 - 1), **options)


@pytest.fixture(scope="module")
def grid_search():
    """scikit-learn's example "Statistical comparison of models using grid search": scores of four SVCs."""
    X, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    grid = [{"kernel": ["linear"]}, {"kernel": ["poly"], "degree": [2, 3]}, {"kernel": ["rbf"]}]
    cv = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    result = GridSearchCV(SVC(random_state=0), grid, scoring="roc_auc", cv=cv).fit(X, y).cv_results_
    scores = np.array([[result[f"split{i}_test_score"][row] for i in range(100)] for row in range(4)])
    names = [f"{p['kernel']}{p.get('degree', '')}" for p in result["params"]]
    return dict(zip(names, scores, strict=True))


# -- agreement with published results --------------------------------------------------------------


def test_summarize_differences_agrees_with_scikit_learns_example(grid_search):
    summary = one_seed(grid_search["rbf"] - grid_search["linear"], 10 / 90)
    # scikit-learn's page prints t = 0.750, one-sided p = 0.227, and for the Bayesian test 0.773, and 0.432
    # for equivalence with a region of 0.01.
    d = grid_search["rbf"] - grid_search["linear"]
    t = d.mean() / math.sqrt(d.var(ddof=1) * (1 / 100 + 10 / 90))
    assert t == pytest.approx(0.750, abs=5e-4)
    assert summary.posterior.p_value / 2 == pytest.approx(stats.t.sf(t, 99), rel=1e-12)
    assert summary.posterior.p_value / 2 == pytest.approx(0.227, abs=5e-4)
    assert 1 - summary.posterior.probability_below(0) == pytest.approx(0.773, abs=5e-4)
    assert summary.posterior.probability_within(0.01) == pytest.approx(0.432, abs=5e-4)


@pytest.mark.parametrize("rope", [0.0, 0.01, 0.05])
def test_judge_of_one_seed_agrees_with_baycomp(grid_search, rope):
    for one, other in itertools.combinations(grid_search.values(), 2):
        expected = baycomp.CorrelatedTTest(one, other, rope=rope, runs=10)
        verdict = judge_summaries([one_seed(one - other, 10 / 90)], rope)[0]
        theirs = expected.probs()  # left, region, right; baycomp's left is the second being better
        ours = (
            (verdict.better, verdict.equivalent, verdict.worse) if rope else (verdict.better, verdict.worse)
        )
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_posterior_interval_of_one_seed_is_students_t(grid_search):
    d = grid_search["rbf"] - grid_search["poly3"]
    summary = one_seed(d, 10 / 90)
    scale = math.sqrt(d.var(ddof=1) * (1 / 100 + 10 / 90))
    for level in (0.05, 0.01, 1e-6):
        expected = stats.t.interval(1 - level, 99, d.mean(), scale)
        assert summary.posterior.interval(level) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "p_values", [[0.03], [0.01, 0.04, 0.03], [0.5, 0.5, 0.0, 1.0], [0.2, 0.001, 0.001, 0.04, 0.011, 0.9]]
)
def test_holm_agrees_with_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_holm_of_paired_t_tests_agrees_with_scikit_posthocs(grid_search):
    values = np.column_stack(list(grid_search.values()))[:10]
    pairs = list(itertools.combinations(range(4), 2))
    p_values = [stats.ttest_rel(values[:, a], values[:, b]).pvalue for a, b in pairs]
    table = scikit_posthocs.posthoc_ttest(
        np.asarray(values).T.tolist(), p_adjust="holm", pool_sd=False, equal_var=True
    )
    independent = [stats.ttest_ind(values[:, a], values[:, b]).pvalue for a, b in pairs]
    theirs = [table.iloc[a, b] for a, b in pairs]
    assert holm(independent) == pytest.approx(theirs, abs=1e-6)
    assert holm(p_values).shape == (6,)


# -- two seeds ------------------------------------------------------------------------------------


def reference(result, value, draws=400_000):
    """Return P(true difference < value) by drawing both variances instead of by quadrature."""
    rng = np.random.default_rng(1)
    cells = result.cells - 1
    between = cells * result.between_variance / rng.chisquare(cells, draws)
    within = result.within_df * result.within_variance / rng.chisquare(result.within_df, draws)
    split = np.maximum(between - result.within_weight * within, 0)
    scale = np.sqrt(between * result.between_weight + 1.25 * result.ratio * split)
    each = stats.norm.cdf((value - result.mean) / scale)
    return float(0.95 * each.mean() + 0.05 * each[split > 0].mean())


@pytest.mark.parametrize("split", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("cells", [2, 3, 15, 48])
def test_posterior_of_two_seeds_agrees_with_sampled_variances(cells, split):
    summary = with_seeds(cells, mean=0.4, split=split)
    for value in (-1.0, 0.0, 0.4, 2.0):
        assert summary.posterior.probability_below(value) == pytest.approx(
            reference(summary, value), abs=3e-3
        )
    low, high = summary.posterior.interval()
    assert summary.posterior.probability_below(low) == pytest.approx(0.025, abs=1e-9)
    assert summary.posterior.probability_below(high) == pytest.approx(0.975, abs=1e-9)


def test_posterior_interval_shrinks_with_seeds_but_not_below_the_split():
    def width(seeds, **options):
        low, high = with_seeds(3 * seeds // 2, **options).posterior.interval()
        return high - low

    assert width(160) < width(10) / 2
    many = width(160, split=1.0, own=0.1)
    assert many > 0.6 * width(40, split=1.0, own=0.1)
    assert many == pytest.approx(2 * 1.96 * math.sqrt(1.25 / 2), rel=0.25)


def test_posterior_of_one_seed_attributes_all_variance_to_the_split():
    pairs = with_seeds(30, own=1.0)
    single_seed = one_seed(np.random.default_rng(0).normal(size=60), 0.5)
    assert single_seed.posterior.scales[0] > 2 * np.sqrt(pairs.within_variance / pairs.runs)
    assert single_seed.variance_components == (
        single_seed.between_variance / 2,
        single_seed.between_variance / 2,
    )
    assert pairs.variance_components[0] < 0.3 * pairs.variance_components[1]


# -- verdicts -------------------------------------------------------------------------------------


def outcomes(*pairs, region=0.1, level=LEVEL):
    return [verdict.outcome for verdict in judge_summaries(pairs, region, level)]


def test_judge_returns_four_outcomes():
    better = with_seeds(mean=3.0, own=0.2)
    worse = with_seeds(mean=-3.0, own=0.2)
    equivalent = with_seeds(30, mean=0.0, own=0.1)
    undecided = with_seeds(mean=0.3, own=1.0)
    assert outcomes(better, worse, equivalent, undecided) == ["better", "worse", "equivalent", "undecided"]


def test_judge_calls_a_significant_small_difference_equivalent():
    small = with_seeds(60, mean=0.06, own=0.05)
    verdict = judge_summaries([small], 0.1)[0]
    assert verdict.p_holm < 1e-3
    assert verdict.outcome == "equivalent"
    assert judge_summaries([small], 0.0)[0].outcome == "better"


def test_judge_corrects_for_the_number_of_pairs():
    d = with_seeds(3, mean=1.0, own=0.45, seed=3)
    assert judge_summaries([d], 0.0)[0].outcome == "better"
    assert judge_summaries([d] + [with_seeds(seed=s) for s in range(30)], 0.0)[0].outcome == "undecided"


def test_judge_calls_identical_scores_equivalent():
    (verdict,) = judge_summaries([one_seed(np.zeros(3), 0.5)], 0.001)
    assert (verdict.outcome, verdict.equivalent, verdict.p_value) == ("equivalent", 1.0, 1.0)
    assert (verdict.low, verdict.high) == (0.0, 0.0)
    with_two = summarize_differences(np.zeros(6), [0, 0, 1, 1, 2, 2], 0.5)
    assert judge_summaries([with_two], 0.0)[0].outcome == "equivalent"


def test_judge_accounts_for_the_step_of_scores():
    d, cells = np.full(3, 0.02), np.arange(3)
    assert judge_summaries([summarize_differences(d, cells, 0.5)], 0.0)[0].outcome == "better"
    verdict = judge_summaries([summarize_differences(d, cells, 0.5, step=0.02)], 0.0)[0]
    assert verdict.outcome == "undecided"
    assert verdict.low < 0 < verdict.high


def test_summarize_differences_counts_wins_with_an_interval():
    d = [0.1, -0.1, 0.2, 0.3, 0.0, 0.1]
    summary = one_seed(d, 0.5)
    assert summary.wins == pytest.approx(4.5 / 6)
    assert 0 < summary.wins_low < summary.wins < summary.wins_high <= 1
    again = one_seed(d, 0.5)
    assert (again.wins_low, again.wins_high) == (summary.wins_low, summary.wins_high)
    wins = stats.bootstrap(
        ((1 + np.sign(d)) / 2,),
        np.mean,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert (summary.wins_low, summary.wins_high) == pytest.approx((wins.low, wins.high), abs=0.09)


# -- forecasts ------------------------------------------------------------------------------------


def test_judge_more_seeds_decides_in_about_half_of_the_cases():
    few = with_seeds(3, mean=0.35, own=1.0, seed=1)
    (verdict,) = judge_summaries([few], 0.0)
    assert verdict.outcome == "undecided"
    seeds = 2 + verdict.more_seeds
    split, own = few.variance_components
    decided = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        cells = 3 * max(1, seeds // 2)
        d = (
            few.mean
            + math.sqrt(split) * rng.normal(size=(cells, 1))
            + math.sqrt(own) * rng.normal(size=(cells, 2))
        )
        later = summarize_differences(d.ravel(), np.repeat(np.arange(cells), 2), 0.5, resample=False)
        decided += judge_summaries([later], 0.0)[0].outcome == "better"
    assert 50 < decided < 170  # a forecast holds in about half of the cases


def test_judge_more_seeds_is_none_if_seeds_cannot_decide():
    d = with_seeds(12, mean=0.5, split=1.0, own=0.05)
    (verdict,) = judge_summaries([d], 0.01)
    assert (verdict.outcome, verdict.more_seeds) == ("undecided", None)


@given(
    st.integers(2, 12),
    st.sampled_from([1, 2]),
    st.floats(-2, 2),
    st.floats(0, 1),
    st.floats(0, 0.5),
    st.integers(0, 1000),
)
def test_judge_is_antisymmetric_and_consistent(cells, seeds, mean, split, region, seed):
    rng = np.random.default_rng(seed)
    d = mean + split * rng.normal(size=(cells, 1)) + rng.normal(size=(cells, seeds))
    labels = np.repeat(np.arange(cells), seeds)
    summary = summarize_differences(d.ravel(), labels, 0.5, resample=False)
    mirrored = summarize_differences(-d.ravel(), labels, 0.5, resample=False)
    (verdict,), (other,) = judge_summaries([summary], region), judge_summaries([mirrored], region)
    opposite = {"better": "worse", "worse": "better"}
    assert other.outcome == opposite.get(verdict.outcome, verdict.outcome)
    assert other.p_value == pytest.approx(verdict.p_value, rel=1e-9)
    assert (other.low, other.high) == pytest.approx((-verdict.high, -verdict.low), rel=1e-6, abs=1e-9)
    assert verdict.better + verdict.equivalent + verdict.worse == pytest.approx(1, abs=1e-9)
    assert verdict.low <= verdict.difference <= verdict.high
    order = rng.permutation(d.size)
    shuffled = summarize_differences(d.ravel()[order], labels[order], 0.5, resample=False)
    assert judge_summaries([shuffled], region)[0].p_value == pytest.approx(verdict.p_value, rel=1e-9)
    scaled = summarize_differences(10 * d.ravel(), labels, 0.5, resample=False)
    assert judge_summaries([scaled], 10 * region)[0].p_value == pytest.approx(verdict.p_value, rel=1e-6)
    assert isinstance(summary, DifferenceSummary)

"""Verdicts over datasets, against J. Demšar's paper, scipy, scikit-posthocs and plain enumeration."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from actlab import UsageError
from actlab.stats.several_datasets import compare_over_datasets, count_needed_datasets

NAN = math.nan

# Table 6 of the paper: AUC on 14 datasets. It prints 0.975 twice for voting and ranks them 2 and 3.
C45 = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.940, 0.619, 0.972, 0.957]
C45_M = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978]
C45_CF = [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965, 0.614, 0.975, 0.946]
C45_MCF = [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962, 0.669, 0.9749, 0.970]
PAPER = pd.DataFrame({"C4.5": C45, "C4.5+m": C45_M, "C4.5+cf": C45_CF, "C4.5+m+cf": C45_MCF})

PROPERTY_SETTINGS = settings(deadline=None, max_examples=60)
# Coarse values cause many ties; NaN is a failure.
SCORES = st.integers(0, 6).map(lambda i: i / 7) | st.just(NAN)


def table(values, names="abcdefghijklmno"):
    values = np.asarray(values, float)
    return pd.DataFrame(values, columns=list(names[: values.shape[1]]))


def tables(least=1):
    shapes = st.tuples(st.integers(2, 9), st.integers(least, 5))
    return shapes.flatmap(lambda shape: hnp.arrays(float, shape, elements=SCORES)).map(table)


def wilcoxon_by_enumeration(differences):
    ranks = stats.rankdata(np.abs(differences))
    signs = np.sign(differences)
    observed = abs(ranks @ signs)
    flips = itertools.product(*[(-1, 1) if sign else (0,) for sign in signs])
    return np.mean([abs(ranks @ np.array(flip)) >= observed for flip in flips])


def verdict(result, a, b):
    """Return the row of a pair, from the side of a."""
    rows = result.verdicts
    row = rows[((rows["a"] == a) & (rows["b"] == b)) | ((rows["a"] == b) & (rows["b"] == a))].iloc[0]
    swapped = {"better": "worse", "worse": "better"}.get(row["verdict"], row["verdict"])
    return row if row["a"] == a else row.replace(row["verdict"], swapped)


def consistent_scores(datasets, activations):
    """Return scores with the same ranking on every dataset: a is best, then b."""
    return table(
        [[10.0 * row - column * (row + 1) for column in range(activations)] for row in range(datasets)]
    )


def test_compare_over_datasets_has_the_ranks_of_demsars_paper():
    ranks = compare_over_datasets(PAPER).ranks
    assert ranks["activation"].to_list() == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert ranks["mean_rank"].round(3).to_list() == [1.964, 2.0, 2.893, 3.143]


def test_compare_over_datasets_has_demsars_friedman_statistics_without_tie_correction():
    result = compare_over_datasets(PAPER)
    tied = 2**3 - 2, 2**3 - 2, 4**3 - 4, 2**3 - 2
    chi_square = stats.friedmanchisquare(*PAPER.to_numpy().T).statistic
    uncorrected = chi_square * (1 - sum(tied) / (14 * (4**3 - 4)))
    assert uncorrected == pytest.approx(9.28, abs=0.005)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=0.005)
    assert result.statistic == pytest.approx(13 * chi_square / (14 * 3 - chi_square))
    assert result.p_value == pytest.approx(stats.f.sf(result.statistic, 3, 39))


def test_compare_over_datasets_has_demsars_wilcoxon_statistic():
    result = compare_over_datasets(PAPER[["C4.5", "C4.5+m"]])
    assert result.statistic == 12  # table 2; ranks of two zeros split, four differences tie in pairs
    in_thousandths = np.rint(1000 * (PAPER["C4.5+m"] - PAPER["C4.5"]))
    assert result.p_value == wilcoxon_by_enumeration(in_thousandths) == 0.0078125
    assert result.sentences() == [
        "Best mean rank: C4.5+m, 1.21 over 14 datasets; it is the sole best on 10.",
        "C4.5+m is better than C4.5 (p = 0.00781).",
    ]


def test_compare_over_datasets_sentences_for_demsars_table():
    assert compare_over_datasets(PAPER).sentences() == [
        "Best mean rank: C4.5+m+cf, 1.96 over 14 datasets; it is the sole best on 6.",
        "Friedman's test of all activations: the activations differ (F(3, 39) = 4.19, p = 0.0116).",
        "C4.5+m is better than C4.5 (p = 0.0469).",
        "No significant difference: C4.5+m+cf, C4.5+m and C4.5+cf; C4.5+m+cf, C4.5+cf and C4.5. "
        "This does not show that they are equal.",
    ]


@pytest.mark.parametrize(("datasets", "activations", "seed"), [(5, 3, 0), (12, 5, 1), (30, 8, 2)])
def test_compare_over_datasets_pairs_agree_with_scikit_posthocs_without_ties(datasets, activations, seed):
    posthocs = pytest.importorskip("scikit_posthocs")
    effects = np.linspace(0, 1, activations)
    scores = table(np.random.default_rng(seed).normal(size=(datasets, activations)) + effects)
    long = scores.melt(var_name="activation", value_name="score")
    for column, adjust in (("p", None), ("p_holm", "holm")):
        theirs = posthocs.posthoc_wilcoxon(
            long, val_col="score", group_col="activation", method="exact", p_adjust=adjust
        )
        for row in compare_over_datasets(scores).verdicts.to_dict("records"):
            assert row[column] == pytest.approx(theirs.loc[row["a"], row["b"]], abs=1e-9)


def test_compare_over_datasets_f_statistic_agrees_with_scipys_chi_square():
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=(9, 4)), rng.integers(0, 3, size=(9, 4)), rng.integers(0, 2, size=(3, 5))):
        result = compare_over_datasets(table(values))
        (n, k), chi_square = values.shape, stats.friedmanchisquare(*np.asarray(values, float).T).statistic
        assert result.statistic == pytest.approx((n - 1) * chi_square / (n * (k - 1) - chi_square))


def test_compare_over_datasets_f_statistic_is_an_analysis_of_variance_of_ranks():
    values = np.random.default_rng(3).integers(0, 4, size=(10, 4))
    ranks = stats.rankdata(-values, axis=1)
    columns = 10 * np.square(ranks.mean(axis=0) - 2.5).sum()
    rest = np.square(ranks - 2.5).sum() - columns
    result = compare_over_datasets(table(values))
    assert result.statistic == pytest.approx((columns / 3) / (rest / 27))
    assert result.p_value == pytest.approx(stats.f.sf(result.statistic, 3, 27))


@pytest.mark.parametrize("row", [[0.9, 0.8, 0.7], [0.9, 0.9, 0.7], [0.9, 0.8, NAN]])
def test_compare_over_datasets_p_value_is_exact_for_equal_rankings(row):
    arrangements = set(itertools.permutations(stats.rankdata(np.nan_to_num(row))))
    result = compare_over_datasets(table([row] * 4))
    assert result.statistic == math.inf
    assert result.p_value == pytest.approx(len(arrangements) ** -3)
    assert "all datasets rank them in the same order" in result.sentences()[1]


@pytest.mark.parametrize(
    "differences",
    [
        [1, 2, 3, 4, 5, 6, 7],
        [1, -2, 3, 4, 4, 4, -4, 9],
        [0, 0, 0, 1, -1, 2, 3, 3],
        [0, 1],
        [5, 5, 5, -5],
        [0.25, 0.5, -0.75, 1, 1.25, 1.5, 1.75, -2, 2.25, 2.5, 3],
    ],
)
def test_compare_over_datasets_wilcoxon_p_value_enumerates_signs(differences):
    result = compare_over_datasets(pd.DataFrame({"a": differences, "b": 0.0}))
    assert result.p_value == pytest.approx(wilcoxon_by_enumeration(np.array(differences)), abs=1e-12)


def test_compare_over_datasets_p_value_is_exact_for_many_datasets():
    d = np.random.default_rng(0).permutation(np.arange(1.0, 301.0)) * np.where(np.arange(300) % 5 < 2, -1, 1)
    result = compare_over_datasets(pd.DataFrame({"a": d, "b": 0.0}))
    assert result.p_value == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-9)


def test_compare_over_datasets_ranks_failures_last():
    result = compare_over_datasets(table([[0.1, NAN, NAN, 0.3], [0.1, NAN, 0.2, 0.3]]))
    assert dict(result.ranks[["activation", "mean_rank"]].to_numpy()) == {
        "d": 1,
        "a": 2.5,
        "c": 2.75,
        "b": 3.75,
    }
    assert result.sentences()[-2:] == [
        "b failed on 2 of 2 datasets (0 and 1): it is ranked last there, with the largest difference.",
        "c failed on 1 of 2 datasets (0): it is ranked last there, with the largest difference.",
    ]


def test_compare_over_datasets_treats_a_failure_as_the_largest_difference():
    a = [0.5, 0.5, 0.5, 0.5, 0.5, NAN, NAN, 0.5]
    b = [0.6, 0.7, 0.8, 0.9, 99.0, 0.0, NAN, NAN]
    inf = math.inf
    expected = wilcoxon_by_enumeration(np.array([-0.1, -0.2, -0.3, -0.4, -98.5, -inf, 0, inf]))
    result = compare_over_datasets(pd.DataFrame({"a": a, "b": b}))
    assert result.p_value == pytest.approx(expected, abs=1e-12)
    assert result.statistic == 0.5 + 7.5  # half of the rank of zero; two failures share the ranks 7 and 8


def test_compare_over_datasets_calls_an_activation_that_always_fails_worse():
    result = compare_over_datasets(pd.DataFrame({"a": [0.1] * 6, "b": [NAN] * 6}))
    assert result.verdicts["reason"].to_list() == ["better on 6, worse on 0, equal on 0 of 6 datasets"]
    assert verdict(result, "b", "a")["verdict"] == "worse"


def test_compare_over_datasets_reason_names_the_required_datasets():
    result = compare_over_datasets(consistent_scores(3, 3))
    assert set(result.verdicts["verdict"]) == {"undecided"}
    needed = "3 datasets cannot decide it: at least 7 are needed for 3 pairs"
    assert set(result.verdicts["reason"]) == {needed}
    sentence = "3 datasets cannot decide any of 3 pairs: at least 7 are needed. The order is not a verdict."
    assert result.sentences()[-1] == sentence
    assert (
        "at least 6 are needed for 1 pair"
        in compare_over_datasets(consistent_scores(5, 2)).verdicts["reason"][0]
    )


@pytest.mark.parametrize("activations", [2, 3, 4, 7])
def test_count_needed_datasets_is_the_smallest_number_that_can_decide(activations):
    needed = count_needed_datasets(math.comb(activations, 2))
    assert set(compare_over_datasets(consistent_scores(needed, activations)).verdicts["verdict"]) == {
        "better"
    }
    assert set(compare_over_datasets(consistent_scores(needed - 1, activations)).verdicts["verdict"]) == {
        "undecided"
    }


def test_compare_over_datasets_reason_for_pairs_that_rarely_differ():
    result = compare_over_datasets(
        consistent_scores(12, 2).assign(c=lambda x: x["b"] + np.array([0.5] * 3 + [0] * 9))
    )
    assert verdict(result, "a", "b")["verdict"] == verdict(result, "a", "c")["verdict"] == "better"
    assert (
        verdict(result, "c", "b")["reason"] == "they differ on only 3 of 12 datasets: p cannot be below 0.25"
    )
    assert result.sentences()[-1] == "c and b: they differ on only 3 of 12 datasets: p cannot be below 0.25."


def test_compare_over_datasets_of_equal_scores_is_undecided():
    result = compare_over_datasets(table(np.ones((9, 4))))
    assert (result.statistic, result.p_value) == (0, 1)
    assert set(result.verdicts["p"]) == set(result.verdicts["p_holm"]) == {1.0}
    assert result.cliques == [["a", "b", "c", "d"]]
    assert result.ranks["wins"].to_list() == [0, 0, 0, 0]
    sentences = result.sentences()
    assert sentences[0] == "Best mean rank: a, b, c and d, 2.50 over 9 datasets, shared."
    assert sentences[-2] == "b and d: they differ on none of 9 datasets: p cannot be below 1."
    assert sentences[-1] == "The same holds for 1 more pair."


def test_compare_over_datasets_sentences_for_two_undecided_activations():
    sentences = compare_over_datasets(
        table([[1, 0], [0, 2], [3, 0], [0, 4], [5, 0], [0, 6], [7, 0]])
    ).sentences()
    assert sentences == [
        "Best mean rank: a, 1.43 over 7 datasets; it is the sole best on 4.",
        "Wilcoxon's test shows no significant difference (p = 0.812).",
        "No significant difference: a and b. This does not show that they are equal.",
    ]


def test_compare_over_datasets_of_one_activation_has_no_pairs():
    result = compare_over_datasets(table([[0.1], [0.2]]))
    assert result.verdicts.columns.to_list()[:3] == ["a", "b", "verdict"]
    assert (len(result.verdicts), result.cliques) == (0, [])
    assert math.isnan(result.p_value)
    assert result.sentences() == ["a is the only activation: there are no pairs to compare."]


def test_compare_over_datasets_ignores_rounding_of_scores():
    mean, other = (0.1 + 0.2 + 0.3) / 3, (0.3 + 0.2 + 0.1) / 3
    assert mean != other
    assert compare_over_datasets(table([[mean, other], [1, 0]])).ranks["mean_rank"].to_list() == [1.25, 1.75]
    # Both differences are 0.1, but not equal as floats.
    tied = compare_over_datasets(table([[0.9, 0.8], [0.7, 0.8], [0.5, 0.5]]))
    assert (tied.statistic, tied.p_value) == (3, 1)


def test_compare_over_datasets_sentences_if_friedman_and_pairs_disagree():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(16, 8))
    values[:, 0] = values[:, 1] + np.arange(1, 17) / 1000  # by a small amount on every dataset
    result = compare_over_datasets(table(values))
    assert verdict(result, "a", "b")["verdict"] == "better"
    assert result.p_value > 0.05
    assert (
        "Friedman's test is not significant; each verdict on a pair comes from its own test."
        in result.sentences()
    )


def test_compare_over_datasets_sentences_if_only_friedman_rejects():
    effects = np.linspace(2, 0, 6)
    result = compare_over_datasets(table(np.random.default_rng(2).normal(size=(10, 6)) + effects))
    assert result.p_value < 0.05
    sentence = (
        "Wilcoxon's tests with Holm's correction do not decide any pair, "
        "so it is unknown which activations differ."
    )
    assert sentence in result.sentences()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            table([[0.1, 0.2]]),
            r"datasets must be two or more, got \['0'\]; folds of one dataset do not count as datasets",
        ),
        (table(np.empty((0, 2))), "datasets must be two or more, got \\[\\]"),
        (table(np.empty((3, 0))), "the scores have no columns"),
        (table([[1], [2]]).set_axis(["u", "u"]), "dataset 'u' occurs twice; give one mean score per"),
        (pd.DataFrame([[1, 2]] * 2, columns=["a", "a"]), "activation 'a' occurs twice"),
        (table([[1, math.inf], [2, 3]]), "scores must be finite, or NaN for a failure, got inf for b on 0"),
        (pd.DataFrame({"a": ["x", "y"]}), "scores must be numbers, or NaN for a failure"),
    ],
)
def test_compare_over_datasets_rejects_invalid_scores(scores, message):
    with pytest.raises(UsageError, match=message):
        compare_over_datasets(scores)


def test_compare_over_datasets_treats_missing_values_as_failures():
    expected = compare_over_datasets(pd.DataFrame({"a": [1, 2, 3.0], "b": [0, NAN, 1]})).ranks
    for missing in (pd.Series([0, None, 1], dtype=object), pd.Series([0, pd.NA, 1], dtype="Int64")):
        ranks = compare_over_datasets(pd.DataFrame({"a": [1, 2, 3.0], "b": missing})).ranks
        pd.testing.assert_frame_equal(ranks, expected)


def order_free_results(result):
    """Return the results that must not depend on the order of rows and columns."""
    names = result.ranks["activation"]
    pairs = [verdict(result, a, b) for a, b in itertools.combinations(sorted(names), 2)]
    return (
        {row["activation"]: (row["mean_rank"], row["wins"]) for row in result.ranks.to_dict("records")},
        [(row["verdict"], row["p"], row["p_holm"]) for row in pairs],
        {frozenset(clique) for clique in result.cliques},
    )


@PROPERTY_SETTINGS
@given(tables(), st.randoms(use_true_random=False))
def test_compare_over_datasets_ignores_the_order_of_rows_and_columns(scores, random):
    rows = random.sample(range(len(scores)), len(scores))
    columns = random.sample(list(scores.columns), scores.shape[1])
    result, shuffled = compare_over_datasets(scores), compare_over_datasets(scores.iloc[rows][columns])
    assert order_free_results(result) == order_free_results(shuffled)
    numbers = [[one.statistic, one.p_value] for one in (result, shuffled)]
    np.testing.assert_allclose(*numbers, rtol=1e-12)


@PROPERTY_SETTINGS
@given(tables())
def test_compare_over_datasets_ranks_depend_only_on_the_order_of_scores(scores):
    scales = 1.0 + np.arange(len(scores))
    stretched = scores.apply(np.exp).mul(scales, axis=0) - 100
    result, again = compare_over_datasets(scores), compare_over_datasets(stretched)
    pd.testing.assert_frame_equal(result.ranks, again.ranks)
    if scores.shape[1] > 2:
        assert (result.statistic, result.p_value) == (again.statistic, again.p_value)


@PROPERTY_SETTINGS
@given(tables())
def test_compare_over_datasets_mean_ranks_add_up(scores):
    k = scores.shape[1]
    result = compare_over_datasets(scores)
    assert result.ranks["mean_rank"].sum() == pytest.approx(k * (k + 1) / 2)
    assert result.ranks["mean_rank"].is_monotonic_increasing
    assert result.ranks["wins"].sum() <= len(scores)
    least = 2.0 ** (1 - len(scores))
    for row in result.verdicts.to_dict("records"):
        assert least <= row["p"] <= row["p_holm"] <= 1
        assert row["mean_rank_difference"] <= 0
        assert (row["verdict"] != "undecided") == (row["p_holm"] <= 0.05)
    assert k == 1 or 0 <= result.p_value <= 1
    assert result.sentences()


@PROPERTY_SETTINGS
@given(tables(least=2))
def test_compare_over_datasets_pair_p_values_enumerate_signs(scores):
    whole = (7 * scores).round()  # differences of these are exact
    for row in compare_over_datasets(scores).verdicts.to_dict("records"):
        a, b = (whole[row[side]].fillna(-math.inf).to_numpy() for side in "ab")
        with np.errstate(invalid="ignore"):
            d = np.where(a == b, 0, a - b)
        if scores.shape[1] == 2:
            assert row["p"] == pytest.approx(wilcoxon_by_enumeration(d), abs=1e-12)
        assert row["p"] == compare_over_datasets(scores[[row["a"], row["b"]]]).p_value


@st.composite
def separated(draw):
    """Draw scores on 14 datasets with some decided pairs."""
    effects = draw(hnp.arrays(int, draw(st.integers(2, 7)), elements=st.integers(0, 40)))
    seed = draw(st.integers(0, 1000))
    return table(np.random.default_rng(seed).normal(size=(14, len(effects))) + effects / 10)


@PROPERTY_SETTINGS
@given(separated())
def test_compare_over_datasets_cliques_are_maximal(scores):
    result = compare_over_datasets(scores)
    names = result.ranks["activation"].to_list()
    undecided = result.verdicts[result.verdicts["verdict"] == "undecided"]
    near = {frozenset(pair) for pair in undecided[["a", "b"]].to_numpy()}
    sets = [
        set(some)
        for size in range(2, len(names) + 1)
        for some in itertools.combinations(names, size)
        if all(frozenset(pair) in near for pair in itertools.combinations(some, 2))
    ]
    largest = [some for some in sets if not any(some < other for other in sets)]
    assert sorted(map(sorted, largest)) == sorted(map(sorted, result.cliques))
    assert all(clique == sorted(clique, key=names.index) for clique in result.cliques)


def test_compare_over_datasets_sentences_name_no_best_if_all_failed():
    result = compare_over_datasets(
        pd.DataFrame({"a": [math.nan] * 3, "b": [math.nan] * 3}, index=list("xyz"))
    )
    assert result.sentences() == ["No activation has a score: all 2 failed on all 3 datasets."]

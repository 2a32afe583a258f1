"""Judge tables: designs, analyses, bad input, and agreement with scipy and published figures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier

import actlab
from actlab.judging.power import compute_power, count_runs, describe_power
from actlab.judging.verdict_tables import describe_each
from actlab.stats.anytime import AnytimeSummary
from actlab.stats.fixed_test_set import summarize_fixed_test
from actlab.stats.verdict import holm

NAN = math.nan


def make_runs(means, keys, spread=0.01, seed=0, **columns):
    """Return a table with a run per method and key; runs with equal keys share a part of their noise."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(scale=spread, size=len(keys))
    rows = []
    for method, mean in means.items():
        for key, common in zip(keys, shared, strict=True):
            rows.append({"method": method, **key, "score": mean + common + rng.normal(scale=spread)})
    return pd.DataFrame(rows).assign(**columns)


def seeds(n):
    return [{"seed": seed} for seed in range(n)]


def folds(n, repeats=1):
    return [{"repeat": repeat, "fold": fold} for repeat in range(repeats) for fold in range(n)]


def scores_of(frame, name):
    return frame[frame["method"] == name]["score"].to_numpy()


# -- designs --------------------------------------------------------------------------------------


def test_judge_of_paired_seeds_is_the_paired_t_test():
    frame = make_runs({"a": 0.80, "b": 0.79}, seeds(8))
    judgement = actlab.judge(frame)
    (row,) = judgement.verdicts.to_dict("records")
    expected = stats.ttest_rel(scores_of(frame, "a"), scores_of(frame, "b"))
    assert judgement.design.kind == "seeds"
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6)
    assert row["difference"] == pytest.approx(expected._estimate, rel=1e-9)


def test_judge_of_unpaired_runs_is_welch_s_test():
    frame = make_runs({"a": 0.80, "b": 0.79}, seeds(8)).drop(columns="seed").iloc[:-2]
    judgement = actlab.judge(frame)
    (row,) = judgement.verdicts.to_dict("records")
    expected = stats.ttest_ind(scores_of(frame, "a"), scores_of(frame, "b"), equal_var=False)
    assert judgement.design.kind == "unpaired"
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert row["wins"] == pytest.approx(
        stats.mannwhitneyu(scores_of(frame, "a"), scores_of(frame, "b")).statistic / 48, rel=1e-12
    )
    assert (row["runs"], row["seeds"]) == (6, 6)


def test_judge_of_repeated_folds_is_the_corrected_resampled_t_test():
    frame = make_runs({"a": 0.80, "b": 0.79}, folds(10, repeats=10))
    judgement = actlab.judge(frame)
    (row,) = judgement.verdicts.to_dict("records")
    differences = scores_of(frame, "a") - scores_of(frame, "b")
    scale = math.sqrt(differences.var(ddof=1) * (1 / 100 + 1 / 9))
    assert judgement.design.analysis == "corrected-t"
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / scale, 99), rel=1e-9)


def test_judge_of_shuffle_splits_needs_the_share_of_test_samples():
    frame = make_runs({"a": 0.80, "b": 0.79}, [{"split": split} for split in range(10)])
    (row,) = actlab.judge(frame).verdicts.to_dict("records")
    assert (row["verdict"], row["reason"][:31]) == ("none", "the share of test samples is un")
    (row,) = actlab.judge(frame, test_share=0.2).verdicts.to_dict("records")
    differences = scores_of(frame, "a") - scores_of(frame, "b")
    scale = math.sqrt(differences.var(ddof=1) * (1 / 10 + 0.25))
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / scale, 9), rel=1e-9)


def test_judge_of_outcomes_on_samples_includes_the_variance_of_samples():
    rng = np.random.default_rng(0)
    keys = [{"seed": seed, "sample": sample} for seed in range(3) for sample in range(200)]
    frame = pd.DataFrame(
        [
            {"method": m, **key, "correct": rng.random() < p}
            for m, p in (("a", 0.9), ("b", 0.6))
            for key in keys
        ]
    )
    judgement = actlab.judge(frame)
    assert (judgement.design.kind, judgement.design.analysis) == ("samples", "crossed")
    assert judgement.verdicts["verdict"].to_list() == ["better"]
    one_seed = actlab.judge(frame[frame["seed"] == 0], pair=["sample"])
    assert one_seed.verdicts["verdict"].to_list() == ["undecided"]  # two trained models, not two methods


def test_judge_of_folds_and_seeds_separates_their_variances():
    keys = [{"fold": fold, "seed": seed} for fold in range(5) for seed in range(4)]
    judgement = actlab.judge(make_runs({"a": 0.9, "b": 0.8}, keys))
    assert (judgement.design.kind, judgement.design.analysis) == ("folds and seeds", "mixed")
    assert "5 pairs of training and test sets with 4 runs each" in judgement.design.sentences[0]
    assert judgement.verdicts["verdict"].to_list() == ["better"]


def test_judge_over_datasets_is_wilcoxon_s_test_of_means():
    frame = pd.concat(
        [
            make_runs({"a": 0.6 + d / 50, "b": 0.5 + d / 60}, seeds(3), seed=d, task=f"task {d}")
            for d in range(7)
        ]
    )
    judgement = actlab.judge(frame)
    assert judgement.design.kind == "datasets"
    assert judgement.verdicts["p"].to_list() == [pytest.approx(2 / 2**7)]
    assert judgement.ranking["method"].to_list() == ["a", "b"]
    assert {"mean_rank", "wins", "iqm", "iqm_low", "iqm_high", "median"} <= set(judgement.ranking)
    assert "Best mean rank: a, 1.00 over 7 datasets" in judgement.sentences()[0]
    assert not any("activation" in sentence for sentence in judgement.sentences())


def test_judge_corrects_for_the_pairs_that_are_asked_for():
    frame = make_runs({"a": 0.80, "b": 0.795, "c": 0.79, "d": 0.70}, seeds(6))
    everything, some = actlab.judge(frame).verdicts, actlab.judge(frame, baseline="d").verdicts
    assert len(everything) == 6
    assert some[["a", "b"]].to_numpy().tolist() == [["a", "d"], ["b", "d"], ["c", "d"]]
    assert some["p_holm"].max() == pytest.approx(some["p"].max())
    with pytest.raises(
        actlab.UsageError, match=r"baseline must be one of the methods, got 'D' \(did you mean 'd'"
    ):
        actlab.judge(frame, baseline="D")


def test_judge_of_a_loss_prefers_small_scores_and_shows_them_as_given():
    frame = make_runs({"a": 2.0, "b": 1.0}, seeds(5)).rename(columns={"score": "loss"})
    judgement = actlab.judge(frame, lower_is_better=True)
    assert judgement.ranking["method"].to_list() == ["b", "a"]
    assert judgement.ranking["mean"].to_list() == pytest.approx([1.0, 2.0], abs=0.03)
    assert judgement.runs["score"].min() > 0
    assert judgement.verdicts[["a", "verdict"]].to_numpy().tolist() == [["a", "worse"]]


def test_judge_drops_runs_without_a_partner_and_reports_them():
    frame = make_runs({"a": 0.8, "b": 0.7}, seeds(6))
    judgement = actlab.judge(frame.drop(index=[0, 7]))
    assert judgement.verdicts["runs"].to_list() == [4]
    assert "2 runs have no partner with equal seed and do not count." in judgement.sentences()


def test_judge_names_methods_that_lack_runs_of_others():
    frame = make_runs({"a": 0.8, "b": 0.7, "c": 0.6}, seeds(6))
    lacking = frame.drop(index=frame.index[(frame["method"] == "c") & (frame["seed"] > 3)])
    note = "c has no run for 2 of 6 values of seed; its pairs use the others."

    def notes(frame, **options):
        sentences = actlab.judge(frame, **options).sentences()
        return [one for one in sentences if "no run" in one or "partner" in one or "lack" in one]

    assert notes(frame) == []
    assert notes(lacking) == [note]
    assert actlab.judge(lacking).verdicts["runs"].to_list() == [6, 4, 4]
    extra = pd.DataFrame([{"method": "a", "seed": 9, "score": 0.8}])
    alone = "1 run has no partner with equal seed and does not count."
    assert notes(pd.concat([lacking, extra])) == [note, alone]
    assert notes(lacking, baseline="c") == ["4 runs have no partner with equal seed and do not count."]
    assert notes(lacking, analysis="welch") == notes(lacking, pair="") == []
    failed = lacking.assign(score=lacking["score"].where(lacking["method"] != "c"))
    assert notes(failed) == []
    grid = make_runs({"a": 0.8, "b": 0.7, "c": 0.6}, [{**s, **f} for s in seeds(2) for f in folds(3)])
    grid = grid.drop(columns="repeat").iloc[:-1]
    assert notes(grid) == ["c has no run for 1 of 6 combinations of fold and seed; its pairs use the others."]
    many = make_runs(dict.fromkeys("abcdefg", 0.8), seeds(6))
    many = many.drop(index=many.index[~many["method"].isin(["a", "b"]) & (many["seed"] == 0)])
    assert notes(many)[2:] == [
        "e has no run for 1 of 6 values of seed; its pairs use the others.",
        "2 more methods lack runs of others.",
    ]


@pytest.mark.parametrize("n", [4, 7])
def test_judge_with_a_permutation_test_is_exact(n):
    frame = make_runs({"a": 0.8, "b": 0.79}, seeds(n))
    (row,) = actlab.judge(frame, analysis="permutation").verdicts.to_dict("records")
    differences = scores_of(frame, "a") - scores_of(frame, "b")
    signs = (np.indices([2] * n).reshape(n, -1) * 2 - 1).T
    sums = np.abs(signs @ differences)
    assert row["p"] == pytest.approx((sums >= sums[-1] - 1e-12).mean(), rel=1e-9)


def test_judge_with_an_analysis_that_does_not_fit_is_refused():
    paired, unpaired = make_runs({"a": 0.8, "b": 0.7}, seeds(4)), make_runs({"a": 0.8, "b": 0.7}, [{}] * 4)
    for frame, analysis, problem in (
        (paired, "corrected-t", "it has no folds"),
        (paired, "demsar", "there is one dataset"),
        (unpaired, "paired-t", "runs are not paired"),
    ):
        with pytest.raises(
            actlab.UsageError, match=f"analysis '{analysis}' does not fit this table: {problem}"
        ):
            actlab.judge(frame, analysis=analysis)
    with pytest.raises(
        actlab.UsageError, match=r"analysis must be one of .*, got 'welsh' \(did you mean 'welch'"
    ):
        actlab.judge(paired, analysis="welsh")


def test_judge_treats_folds_as_independent_only_on_request():
    frame = make_runs({"a": 0.80, "b": 0.79}, folds(10))
    judgement = actlab.judge(frame, analysis="paired-t")
    expected = stats.ttest_rel(scores_of(frame, "a"), scores_of(frame, "b"))
    assert judgement.verdicts["p"][0] == pytest.approx(expected.pvalue, rel=1e-9)
    assert any("treats folds as independent" in sentence for sentence in judgement.sentences())


# -- sequential tests and plans -------------------------------------------------------------------


def test_anytime_p_value_is_wrong_rarely_over_50_looks():
    rng, wrong, at_each_look, repeats = np.random.default_rng(1), 0, 0, 100
    for _ in range(repeats):
        differences = rng.normal(size=52)
        looks = [summarize_fixed_test(differences[:n], resample=False) for n in range(3, 53)]
        wrong += any(AnytimeSummary(look).posterior.p_value <= 0.05 for look in looks)
        at_each_look += any(look.posterior.p_value <= 0.05 for look in looks)
    assert wrong <= 0.05 * repeats
    assert at_each_look >= 0.2 * repeats


def test_judge_sequential_decides_a_large_difference_and_widens_the_interval():
    frame = make_runs({"a": 0.9, "b": 0.8}, seeds(12))
    once, always = (actlab.judge(frame, sequential=flag).verdicts.iloc[0] for flag in (False, True))
    assert (once["verdict"], always["verdict"]) == ("better", "better")
    assert always["p"] > once["p"]
    assert always["high"] - always["low"] > once["high"] - once["low"]
    assert always["low"] > 0


@pytest.mark.parametrize(("keys", "analysis"), [(folds(5), None), (seeds(5), "permutation")])
def test_judge_sequential_needs_independent_runs(keys, analysis):
    with pytest.raises(actlab.UsageError, match=r"sequential .* needs independent runs, got the design"):
        actlab.judge(make_runs({"a": 0.8, "b": 0.7}, keys), sequential=True, analysis=analysis)


def test_count_runs_agrees_with_tables_of_power():
    # Cohen, Statistical Power Analysis, table 2.4.1: n for two-sided 5 %, power 80 %.
    assert [count_runs(effect, True, 0.05) for effect in (0.2, 0.5, 0.8, 1.0)] == [394, 64, 26, 17]
    assert compute_power(0.5, 64, True, 0.05) == pytest.approx(0.8015, abs=5e-4)
    assert compute_power(7, 3, False, 0.01) == pytest.approx(0.7706, abs=5e-4)  # scipy.stats.nct is NaN
    assert count_runs(1e-9, True, 0.05) is None


def test_describe_power_counts_pairs_or_runs():
    paired = actlab.judge(make_runs({"a": 0.8, "b": 0.79}, seeds(8)))
    assert describe_power(paired, 0.01) == [
        "Power: one test of 6 pairs of runs finds a difference of 0.01 with a probability of 80 %, at the "
        "standard deviation of this table (0.00612)."
    ]
    for keys in (folds(5), [{"sample": sample} for sample in range(5)]):
        with pytest.raises(actlab.UsageError, match="power is planned for runs with seeds"):
            describe_power(actlab.judge(make_runs({"a": 0.8, "b": 0.79}, keys)), 0.01)
    for wrong in (0.0, -1.0, NAN):
        with pytest.raises(actlab.UsageError, match="power needs a finite difference > 0"):
            describe_power(paired, wrong)


# -- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (pd.DataFrame(), {}, "the table has no rows"),
        (
            {"method": ["a", "b"], "score": ["high", 0.9]},
            {"score": "score"},
            "has text, 'high' in row 1: scores must be",
        ),
        (
            {"method": ["a", "b"], "acc": ["0.9 ± 0.1", "0.8 ± 0.1"]},
            {"score": "acc"},
            "standard deviations cannot",
        ),
        ({"method": ["a", "b"], "acc": ["91%", "92%"]}, {"score": "acc"}, "remove the percent signs"),
        ({"method": ["a", "b"], "x": [1.0, 2.0], "y": [1.0, 2.0]}, {}, "which column is the score.*'x', 'y'"),
        ({"who": ["a", "b"], "x": [1.0, 2.0]}, {}, "which column names the method.*'who', 'x'"),
        ({"method": ["a", "b"], "x": [1.0, 2.0]}, {"score": "z"}, "the table has no column 'z' for score"),
        (
            {"method": ["a", None], "x": [1.0, 2.0]},
            {},
            "column 'method' has an empty cell: each run needs one",
        ),
        ({"method": ["a", "a"], "x": [1.0, 2.0]}, {}, "there is one method, a; a verdict needs two"),
        (
            {"method": list("aabb"), "seed": [0, 0, 0, 1], "x": [1.0, 2.0, 3.0, 4.0]},
            {},
            r"a has several runs with seed=0 \(2 such rows",
        ),
        ({"method": list("aabb"), "accuracy": [0.9, 0.91, 88.0, 89.0]}, {}, "mixes shares and percentages"),
        (
            {"method": ["a", "b"], "x": [1.0, 2.0]},
            {"rope": -1.0},
            "rope must be a finite number >= 0, got -1.0",
        ),
        (
            {"method": ["a", "b"], "x": [1.0, 2.0]},
            {"level": 2.0},
            "level must be a probability between 0 and 1",
        ),
        ({"method": ["a", "b"], "x": [1.0, 2.0]}, {"test_share": 1.0}, "test_share must be between 0 and 1"),
        ({"method": ["a", "b"], "x": [1.0, 2.0]}, {"test_share": 0.2}, "this table has no folds or splits"),
        ({"method": ["a", "b"], "seed": [0, NAN], "x": [1.0, 2.0]}, {}, "column 'seed' has an empty cell"),
        ({"method": [["a"], ["b"]], "x": [1.0, 2.0]}, {}, "column 'method' has lists or objects"),
        (
            {"method": ["a", "b"], "seed": [[0], [1]], "x": [1.0, 2.0]},
            {},
            "column 'seed' has lists or objects",
        ),
        (
            {"method": ["a", "b"], "x": [1e300, 2e300]},
            {},
            r"column 'x' has 2e\+300: scores must be 1e-150 to",
        ),
        ({"method": ["a", "b"], "x": [1e-200, 0.0]}, {}, "column 'x' has 1e-200: scores must be 1e-150 to"),
        ({"method": ["a", "b"], "x": [1j, 2j]}, {}, "column 'x' has complex numbers: scores must be real"),
        ({"method": ["a", "b"], "x": [1.0, 2.0]}, {"score": 3}, "the table has no column '3' for score"),
        (
            {"method": ["a", "b"], "seed": [0, 0], "x": [1.0, 2.0]},
            {"pair": "seed", "dataset": "seed"},
            "column 'seed' cannot be both dataset and pair",
        ),
        (
            {"model": ["a", "b"], "failure": [0, 0], "x": [1.0, 2.0]},
            {"pair": "failure"},
            r"a column of pair \(--pair\) cannot be called 'failure'; rename it",
        ),
        (
            {("x", "method"): ["a", "b"], ("x", "y"): [1.0, 2.0]},
            {},
            r"which column names the method.*\('x', 'method'\)",
        ),
        (
            {"method": list("aabb"), "seed": [0] * 4, "epoch": [1, 2] * 2, "x": [1.0, 2.0, 3.0, 4.0]},
            {"score": "x"},
            r"a has several rows with seed=0 \(4 such rows\): keep one row per run, such as its last 'epoch'",
        ),
        (
            {"method": list("aabb"), "seed": [0] * 4, "epoch": [1, 2] * 2, "x": [1.0, 2.0, 3.0, 4.0]},
            {"score": "x", "pair": "seed,epoch"},
            "cannot contain 'epoch': the steps of a run are not independent",
        ),
        (
            {"method": list("aabb"), "epoch": [1, 2] * 2, "x": [1.0, 2.0, 3.0, 4.0]},
            {"pair": ""},
            "each method has rows with the same 2 values of 'epoch': keep one row per run, such as the last",
        ),
        (
            {"method": list("aabb"), "run": [0, 0, 1, 1], "epoch": [1, 2] * 2, "x": [1.0, 2.0, 3.0, 4.0]},
            {},
            "a has several rows with run=0",
        ),
        (
            {"method": list("aabb"), "fold": [0, 1] * 2, "sample": [0, 1] * 2, "x": [1.0, 0.0, 1.0, 1.0]},
            {},
            "outcomes on samples in several folds cannot be judged",
        ),
    ],
)
def test_judge_rejects_tables_in_one_line(frame, options, message):
    with pytest.raises(actlab.UsageError, match=message) as caught:
        actlab.judge(pd.DataFrame(frame), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("rope", 0.1), ("level", 0.1), ("baseline", "a"), ("sequential", True)]
)
def test_judge_over_datasets_refuses_options_without_effect(name, value):
    rows = [{"method": m, "dataset": d, "score": 0.5 + d / 100} for m in "ab" for d in range(3)]
    with pytest.raises(actlab.UsageError, match=f"{name} is not available over several datasets"):
        actlab.judge(rows, **{name: value})


def test_judge_over_datasets_prefers_the_lowest_interquartile_mean_of_a_loss():
    rows = [{"method": m, "dataset": d, "score": d / 100 + (m == "a") / 10} for m in "ab" for d in range(8)]
    assert "Lowest interquartile mean: b 0.035." in actlab.judge(rows, lower_is_better=True).sentences()


def test_judge_over_datasets_counts_a_missing_run_as_a_failure():
    rows = [{"method": m, "dataset": d, "score": 0.5 + d / 100} for m in "ab" for d in range(3)]
    note = "1 of 6 combinations of method and dataset has no run, which counts as a failure."
    assert note in actlab.judge(rows[1:]).sentences()


def test_judge_does_not_pair_by_a_column_that_only_names_runs():
    frame = make_runs({"a": 0.8, "b": 0.7}, seeds(5))
    named = frame.assign(run=[f"{row.method}-{row.seed}" for row in frame.itertuples()])
    judgement = actlab.judge(named)
    pd.testing.assert_frame_equal(judgement.verdicts, actlab.judge(frame).verdicts)
    assert "Column 'run' does not pair runs: no two methods share a value." in judgement.sentences()
    assert actlab.judge(named.drop(columns="seed")).design.kind == "unpaired"


def test_judge_names_at_most_12_methods_that_tie():
    frame = make_runs({f"m{i:02}": 0.8 for i in range(20)}, seeds(3))
    first = actlab.judge(frame, baseline="m00").sentences()[0]
    assert first.startswith("Tied for first (no significant difference): ")
    assert first.count(" (0.") == 12
    assert first.endswith(" and 8 more; mean score over 3 runs.")


def test_judge_with_one_pair_of_runs_has_no_verdict():
    frame = make_runs({"a": 0.8, "b": 0.7, "c": 0.6}, seeds(1))
    (sentence,) = [sentence for sentence in actlab.judge(frame).sentences() if "No verdict" in sentence]
    assert sentence == "No verdict on any of 3 pairs: fewer than two pairs of runs have equal seed."


def test_judge_pairs_numbers_with_numbers_in_text():
    frame = make_runs({"a": 0.8, "b": 0.7}, seeds(5))
    text = frame.assign(seed=[*range(5), *(f"{seed}.0" for seed in range(5))])
    assert actlab.judge(text).verdicts["p"].to_list() == actlab.judge(frame).verdicts["p"].to_list()
    long = frame.assign(seed=[f"{10**20 + seed}" for seed in frame["seed"]])
    assert actlab.judge(long).verdicts["p"].to_list() == actlab.judge(frame).verdicts["p"].to_list()


def test_judge_finds_columns_with_the_prefix_of_settings():
    frame = make_runs({"a": 0.8, "b": 0.7}, seeds(5))
    exported = frame.rename(columns={"method": "params.model", "seed": "params.seed", "score": "metrics.acc"})
    judgement = actlab.judge(exported.assign(**{"config.k": 5}), score="metrics.acc", pair="params.seed")
    assert judgement.verdicts["p"].to_list() == actlab.judge(frame).verdicts["p"].to_list()
    assert actlab.judge(exported).design.kind == "seeds"


def test_judge_takes_methods_and_a_baseline_that_are_numbers():
    frame = make_runs({1: 0.8, 2: 0.7, 3: 0.6}, seeds(5))
    verdicts = actlab.judge(frame, baseline=1).verdicts
    assert verdicts[["a", "b"]].to_numpy().tolist() == [["1", "2"], ["1", "3"]]


def test_judge_of_scores_below_the_resolution_of_rounding_keeps_their_p_value():
    frame = make_runs({"a": 0.8, "b": 0.7}, seeds(5))
    small = frame.assign(score=frame["score"] * 1e-20)
    assert actlab.judge(small).verdicts["p"][0] == pytest.approx(actlab.judge(frame).verdicts["p"][0])


def test_judge_of_rounded_scores_knows_their_step_despite_rounding_errors():
    rows = [
        {"method": m, "seed": s, "score": x} for m, x in (("a", 0.3 - 0.1 - 0.2), ("b", 0.1)) for s in "uv"
    ]
    (row,) = actlab.judge(rows).verdicts.to_dict("records")
    assert row["p"] == pytest.approx(2 * stats.t.sf(0.1 / math.sqrt(0.01 / 6 / 2), 1))


def test_judge_notes_runs_that_could_be_copies():
    frame = make_runs({"a": 0.8, "b": 0.7}, seeds(5))
    frame.loc[frame["method"] == "b", "score"] = 0.123456789
    note = "All 5 runs of b have the same score: check whether they are copies of one run."
    assert note in actlab.judge(frame).sentences()
    assert not any("copies" in sentence for sentence in actlab.judge(frame.round(2)).sentences())


def test_judge_with_a_permutation_test_refuses_too_many_runs():
    frame = make_runs({"a": 0.8, "b": 0.79}, seeds(10_001))
    with pytest.raises(actlab.UsageError, match=r"at most 10,000 runs of a pair, got 10,001"):
        actlab.judge(frame, analysis="permutation")


def test_judge_counts_scores_that_are_not_finite():
    frame = make_runs({"a": 0.8, "b": 0.7, "c": 0.6}, seeds(4))
    frame.loc[[0, 1, 4], "score"] = [NAN, math.inf, NAN]
    judgement = actlab.judge(frame)
    assert "3 of 12 runs have no finite score: a (2), b (1)." in judgement.sentences()
    assert judgement.verdicts["verdict"].to_list() == ["none"] * 3
    assert judgement.verdicts["reason"][1] == "a has 2 of 4 runs without a score (no score)"
    assert judgement.ranking["rank"].isna().tolist() == [False, True, True]


def test_judge_of_one_run_each_has_no_verdict_but_says_why():
    judgement = actlab.judge([{"method": "a", "score": 0.9}, {"method": "b", "score": 0.8}])
    assert judgement.verdicts["reason"].to_list() == ["a method with one run has no variance; add runs"]
    assert judgement.verdicts["verdict"].to_list() == ["none"]


def test_judge_of_one_run_of_many_methods_has_one_sentence_on_all_pairs():
    sentences = actlab.judge(
        [{"method": name, "score": 0.9 - i / 10} for i, name in enumerate("abc")]
    ).sentences()
    assert sentences[:2] == [
        "Not judged: a (0.9000), b (0.8000), c (0.7000); mean score over 1 run.",
        "No verdict on any of 3 pairs: a method with one run has no variance; add runs.",
    ]


def test_judge_notes_a_significant_difference_inside_the_default_region():
    frame = make_runs({"a": 0.9, "b": 0.8998}, seeds(8), spread=0.00002)
    sentences = actlab.judge(frame).sentences()
    assert sentences[0].startswith("Tied for first (practically equivalent): a (0.9000")
    note = "Significant, but practically equivalent: 1 of 1 pairs. Pass rope= (--rope) if differences below"
    assert f"{note} 0.001 matter." in sentences
    given = actlab.judge(frame, rope=0.05).sentences()
    assert not any("Significant" in sentence for sentence in given)


LOSSES = [
    "val_loss",
    "test_rmse",
    "test.RMSE",
    "metrics/loss",
    "valLoss",
    "NLLLoss",
    "top-1 error",
    "WER",
    "top5err",
]
TIMES = ["time", "train_seconds", "inferenceLatency"]


@pytest.mark.parametrize("name", [*LOSSES, *TIMES])
def test_judge_needs_the_direction_of_an_error_or_a_time(name):
    frame = make_runs({"a": 2.0, "b": 1.0}, seeds(5)).rename(columns={"score": name})
    what = "a time" if name in TIMES else "an error"
    with pytest.raises(actlab.UsageError) as caught:
        actlab.judge(frame)
    assert str(caught.value) == (
        f"{name!r} looks like {what}: pass lower_is_better=True (--lower-is-better), or False "
        "(--no-lower-is-better)"
    )
    for lower, best in ((True, "b"), (False, "a")):
        judgement = actlab.judge(frame, lower_is_better=lower)
        assert judgement.ranking["method"][0] == best
        assert judgement.to_json()["about"]["lower_is_better"] is lower
        assert judgement.about["command"] == f"actlab.judge(runs, lower_is_better={lower})"
        assert (f"Lower values of {name} are better." in judgement.design.sentences) is lower


@pytest.mark.parametrize(
    "name",
    ["neg_log_loss", "test_neg_mean_squared_error", "negMSE", "negative_loss", "accuracy", "terror", "AUC"],
)
def test_judge_of_other_scores_prefers_great_ones(name):
    frame = make_runs({"a": 2.0, "b": 1.0}, seeds(5)).rename(columns={"score": name})
    judgement = actlab.judge(frame)
    assert judgement.ranking["method"][0] == "a"
    assert judgement.about["lower_is_better"] is False
    assert judgement.about["command"] == "actlab.judge(runs)"


def test_judge_of_a_loss_has_no_default_region():
    frame = make_runs({"a": 3.28, "b": 3.27}, seeds(8), spread=0.001)
    judgement = actlab.judge(frame, lower_is_better=True)
    assert judgement.verdicts["verdict"].to_list() == ["worse"]
    assert not any("Region" in sentence for sentence in judgement.sentences())


def test_judge_of_a_negative_loss_has_no_default_region():
    frame = make_runs({"a": -0.5, "b": -0.4}, seeds(8), spread=0.001)
    judgement = actlab.judge(frame, lower_is_better=True)
    assert judgement.ranking["method"].to_list() == ["a", "b"]
    assert not any("Region" in sentence for sentence in judgement.sentences())


def test_judge_of_outcomes_on_samples_counts_outcomes():
    frame = make_runs({"a": 0.8, "b": 0.7}, [{"seed": 0, "sample": sample} for sample in range(5)])
    assert "Design: 10 outcomes of 2 methods on 5 test samples." in actlab.judge(frame).sentences()


def test_judge_of_a_log_never_takes_the_step_as_the_score():
    rows = [
        {"method": m, "seed": 0, "step": step, "loss": 1 / step + (m == "a")} for m in "ab" for step in (1, 2)
    ]
    with pytest.raises(actlab.UsageError, match="keep one row per run, such as its last 'step'"):
        actlab.judge(rows)
    last = [row for row in rows if row["step"] == 2]
    assert actlab.judge(last, lower_is_better=True).ranking["mean"].to_list() == [0.5, 1.5]


def test_judge_notes_columns_that_could_link_runs():
    keys = [{"network": name, "seconds": 1.5 * i, "file": i} for i, name in enumerate("uvwxyz")]
    frame = make_runs({"a": 0.8, "b": 0.7}, keys)
    frame["file"] = range(12)
    note = (
        "Column 'network' has the same 6 values for each method, but is not used: if they are datasets, pass "
        "dataset= (--dataset); if they link runs, pair= (--pair)."
    )
    columns = [
        sentence for sentence in actlab.judge(frame, score="score").sentences() if "Column" in sentence
    ]
    assert columns == [note]
    assert note not in actlab.judge(frame, score="score", dataset="network").sentences()
    assert note not in actlab.judge(frame, score="score", pair=["network"]).sentences()


def test_judge_over_datasets_with_one_run_each_has_no_interval_of_the_interquartile_mean():
    rows = [
        {"method": m, "dataset": d, "score": 0.5 + d / 100 + (m == "a") / 10} for m in "ab" for d in range(8)
    ]
    assert "Highest interquartile mean: a 0.635." in actlab.judge(rows).sentences()


def test_judge_notes_methods_that_differ_in_case():
    frame = make_runs({"ReLU": 0.8, "relu": 0.8}, seeds(4))
    note = "'ReLU' and 'relu' count as different methods; rename them if they are one."
    assert note in actlab.judge(frame).sentences()


def test_judge_of_equal_rounded_scores_keeps_the_variance_of_rounding():
    rows = [{"method": m, "seed": s, "score": x} for m, x in (("a", 0.91), ("b", 0.90)) for s in range(2)]
    (row,) = actlab.judge(rows).verdicts.to_dict("records")
    assert row["verdict"] == "undecided"
    assert row["p"] > 0.05


def test_judge_takes_a_million_rows(tmp_path):
    n = 500_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "method": np.repeat(["a", "b"], n),
            "seed": np.tile(np.arange(n), 2),
            "score": rng.normal(size=2 * n),
        }
    )
    judgement = actlab.judge(frame)
    assert judgement.verdicts["runs"].to_list() == [n]


def test_judge_takes_the_results_of_a_scikit_learn_search():
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5]}, cv=5).fit(X, y)
    judgement = actlab.judge(search.cv_results_)
    assert judgement.design.kind == "folds"
    assert set(judgement.ranking["method"]) == {"n_neighbors=1", "n_neighbors=5"}
    assert sorted(judgement.ranking["mean"]) == pytest.approx(sorted(search.cv_results_["mean_test_score"]))
    assert actlab.judge(pd.DataFrame(search.cv_results_)).verdicts.equals(judgement.verdicts)
    maximized = {name.replace("test_score", "test_rmse"): own for name, own in search.cv_results_.items()}
    assert actlab.judge(maximized).verdicts.equals(judgement.verdicts)


def test_judgement_repr_fits_a_console():
    text = repr(actlab.judge(make_runs({f"method {i}": i / 100 for i in range(4)}, seeds(5))))
    assert max(map(len, text.splitlines())) <= 80
    assert "\n  " in text


def test_judgement_writes_tables_and_a_page_of_hostile_names(tmp_path):
    names = {"<script>alert(1)</script>": 0.8, "a|b\\_$x^2$": 0.7}
    judgement = actlab.judge(make_runs(names, seeds(5)))
    page = judgement.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert 'id="learning"' not in page
    assert 'id="verdicts"' in page
    assert "\\|" in judgement.to_markdown()
    assert "\\begin{table}" in judgement.to_latex("verdicts")
    assert judgement.to_json()["verdicts"][0]["verdict"] == "better"


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_judge_over_datasets_adds_probabilities_of_improvement_and_profiles(lower_is_better):
    frame = pd.concat([make_runs({"a": 0.6, "b": 0.5}, seeds(3), seed=d, dataset=f"d{d}") for d in range(4)])
    judgement = actlab.judge(frame, lower_is_better=lower_is_better)
    (row,) = judgement.verdicts.to_dict("records")
    first = row["a"] == ("b" if lower_is_better else "a")
    assert [row["wins"], row["wins_low"], row["wins_high"]] == [float(first)] * 3
    profiles = {one["method"]: one for one in judgement.about["profiles"]}
    x, y = profiles["a"]["threshold"], profiles["a"]["share"]
    assert x == sorted(x)
    own = frame[frame["method"] == "a"]["score"]
    for threshold, share in zip(x, y, strict=True):
        better = own < threshold - 1e-12 if lower_is_better else own > threshold
        assert share == pytest.approx(better.mean(), abs=1 / 12 + 1e-9)


def test_judgement_report_over_datasets_has_a_diagram(tmp_path):
    frame = pd.concat([make_runs({"a": 0.6, "b": 0.5}, seeds(3), seed=d, dataset=f"d{d}") for d in range(6)])
    page = actlab.judge(frame).report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'src="data:image/svg+xml;base64,' in page
    assert 'data-chart="profiles"' in page


def test_judgement_writes_tables_of_verdicts_over_datasets():
    frame = pd.concat([make_runs({"a": 0.6, "b": 0.5}, seeds(3), seed=d, dataset=f"d{d}") for d in range(6)])
    judgement = actlab.judge(frame)
    assert "| a | better | b | −1.00 | 0.031 |" in judgement.to_markdown("verdicts").splitlines()
    assert r"a & better & b & $-1.00$ & $0.031$ \\" in judgement.to_latex("verdicts").splitlines()


def test_judgement_shows_control_characters_of_names_as_escapes():
    judgement = actlab.judge(make_runs({"a\x1b[31m": 0.8, "b\nc": 0.7}, seeds(5)))
    assert judgement.ranking["method"].to_list() == [r"a\x1b[31m", "b c"]


# -- verdicts on each dataset ---------------------------------------------------------------------


def make_datasets(means, names="wxyz", n=8):
    parts = [make_runs(means, seeds(n), seed=i, dataset=name) for i, name in enumerate(names)]
    return pd.concat(parts, ignore_index=True)


def test_judge_over_datasets_judges_each_with_one_correction_for_all_pairs():
    frame = make_datasets({"a": 0.80, "b": 0.83, "c": 0.80})
    each = actlab.judge(frame).on_each
    alone = pd.concat([actlab.judge(frame[frame["dataset"] == name]).verdicts for name in "wxyz"])
    assert each["dataset"].to_list() == [name for name in "wxyz" for _ in range(3)]
    assert each[["a", "b"]].to_numpy().tolist() == alone[["a", "b"]].to_numpy().tolist()
    assert each["p"].to_list() == alone["p"].to_list()
    assert each["p_holm"].to_list() == pytest.approx(holm(alone["p"].to_numpy()).tolist())


def test_judge_over_datasets_describes_the_verdicts_on_each():
    frame = make_datasets({"a": 0.70, "b": 0.90, "c": 0.70})
    rising = np.linspace(0.5, 0.6, 8)
    frame.loc[frame["dataset"] == "z", "score"] = [*rising + 0.001, *rising[::-1], *np.full(8, 0.549)]
    sentences = actlab.judge(frame).sentences()
    start = sentences.index("Verdicts on each dataset alone, corrected for 12 pairs on 4 datasets (Holm):")
    assert sentences[start + 1 : start + 3] == [
        "On w, x and y: b is better than a and c; 1 of 3 pairs undecided.",
        "On z: 3 of 3 pairs undecided.",
    ]


def test_describe_each_groups_equal_verdicts_and_counts_the_others():
    def make(names, kinds):
        pairs = pd.DataFrame(itertools.combinations(names, 2), columns=["a", "b"])
        return pairs.assign(verdict=kinds)

    assert describe_each(
        {
            "few": make("abc", ["worse", "equivalent", "better"]),
            "same": make("abc", ["worse", "equivalent", "better"]),
            "many": make("abcd", [*["better", "worse", "better", "worse", "equivalent"], "equivalent"]),
            "none": make("abc", ["none", "none", "undecided"]),
        }
    ) == [
        "On few and same: b is better than a and c; a is equivalent to c.",
        "On many: 4 of 6 pairs better or worse; 2 of 6 pairs equivalent.",
        "On none: 1 of 3 pairs undecided; 2 of 3 pairs not tested.",
    ]


def test_judge_over_datasets_names_the_lower_loss_as_better_on_each():
    judgement = actlab.judge(make_datasets({"a": 0.5, "b": 0.3}), lower_is_better=True)
    assert "On w, x, y and z: b is better than a." in judgement.sentences()
    assert [row["verdict"] for row in judgement.to_json()["on_each"]] == ["worse"] * 4


def test_judge_over_datasets_uses_the_share_of_test_samples_on_each():
    parts = [make_runs({"a": 0.8, "b": 0.9}, folds(5), seed=i, dataset=name) for i, name in enumerate("wx")]
    frame = pd.concat(parts).drop(columns="fold").assign(split=[*range(5)] * 4).drop(columns="repeat")
    assert actlab.judge(frame).on_each.empty
    each = actlab.judge(frame, test_share=0.2).on_each
    alone = actlab.judge(frame[frame["dataset"] == "w"], test_share=0.2).verdicts
    assert each["p"][0] == alone["p"][0]


@pytest.mark.parametrize(("options", "n"), [({"analysis": "demsar"}, 8), ({}, 1)])
def test_judge_over_datasets_omits_verdicts_on_each(options, n):
    judgement = actlab.judge(make_datasets({"a": 0.8, "b": 0.9}, n=n), **options)
    assert judgement.on_each.empty
    assert "on_each" not in judgement.to_json()
    assert not any(sentence.startswith("On w") for sentence in judgement.sentences())


def test_judge_with_an_empty_dataset_has_one_dataset():
    frame = make_datasets({"a": 0.8, "b": 0.9}, names="wx")
    message = r"a has several runs with seed=0 \(32 such rows in the table\); add the column .* dataset= "
    with pytest.raises(actlab.UsageError, match=message):
        actlab.judge(frame, dataset="")
    assert actlab.judge(frame, dataset=" ", pair="").design.kind == "unpaired"


@pytest.mark.parametrize("role", ["method", "score"])
def test_judge_refuses_an_empty_name_of_a_column(role):
    message = rf"{role} \(--{role}\) is empty; it must be one of the columns 'method', 'seed', 'score'"
    with pytest.raises(actlab.UsageError, match=message):
        actlab.judge(make_runs({"a": 0.8, "b": 0.9}, seeds(3)), **{role: ""})

"""The published survey: its page, its verdicts, and what they must show."""

import pandas as pd
import pytest
from benchmarks.survey import (
    BASELINE,
    CONFIRMED,
    FOLDER,
    MOST_FOLDS,
    PAGE,
    SAME,
    check_known_results,
    compare_repeated,
    correlate,
    format_page,
    judge_against_relu,
    list_activations,
    list_properties,
    read_runs,
    read_verdicts,
)

VERDICTS = read_verdicts()


@pytest.mark.slow
def test_format_page_is_the_published_page():
    assert PAGE.read_text(encoding="utf-8") == format_page()


def test_read_runs_has_twelve_paired_runs_of_each_activation_on_each_task():
    runs = read_runs()
    counts = runs.groupby(["task", "activation"]).size()
    assert set(counts) == {12}
    assert len(counts) == runs["task"].nunique() * len(list_activations())
    assert runs["task"].nunique() >= 12
    assert not runs.duplicated(["task", "activation", "split", "fold", "seed"]).any()
    assert (FOLDER / "runs.csv").stat().st_size < 2_000_000


@pytest.mark.parametrize("task", ["digits-perceptron", "poisson"])
def test_judge_against_relu_gives_the_published_verdicts(task):
    runs, published = read_runs(), VERDICTS[VERDICTS["task"] == task].set_index("activation")
    names = ["relu", "tanh", "sigmoid", "sine"]
    found = judge_against_relu(runs[(runs["task"] == task)], "score")
    for name in names[1:]:
        _, alone, difference, *_ = found[name]
        assert alone == published.loc[name, "alone"]
        assert difference == pytest.approx(published.loc[name, "difference"], abs=1e-6)
    means = runs[runs["task"] == task].groupby("activation")["score"].mean()
    assert found["tanh"][2] == pytest.approx(means["tanh"] - means[BASELINE], abs=1e-9)


def test_confirm_trained_the_highest_means_again_from_other_seeds():
    runs = read_runs("confirmed")
    assert runs["seed"].min() > read_runs()["seed"].max()
    for task, own in runs.groupby("task"):
        counts = own.groupby("activation").size()
        assert set(counts) == {2 * MOST_FOLDS.get(task, 10)}
        means = VERDICTS[VERDICTS["task"] == task].set_index("activation")["mean"].drop([BASELINE, *SAME])
        chosen = counts.index.drop(BASELINE)
        assert sorted(means[chosen]) == sorted(means.nlargest(CONFIRMED))  # two on iris have equal means
    assert runs["task"].nunique() == VERDICTS["task"].nunique()


def test_judge_against_relu_gives_the_published_verdicts_of_the_second_round():
    runs, published = read_runs("confirmed"), VERDICTS.set_index(["task", "activation"])
    for task in ("image-fitting", "digits-cnn"):
        for name, (verdict, *_) in judge_against_relu(runs[runs["task"] == task], "score").items():
            assert verdict == published.loc[(task, name), "again"]


def test_check_known_results_finds_them():
    assert [agrees for _, _, agrees in check_known_results(VERDICTS)] == ["yes"] * 4


def test_compare_repeated_reverses_no_verdict():
    again = read_runs("repeated")
    table = compare_repeated(read_runs(), again)
    assert len(table) >= 0.09 * len(VERDICTS)
    reversed_verdicts = table[(table["first"] + table["again"]).isin(["betterworse", "worsebetter"])]
    assert reversed_verdicts.empty


def test_null_comparisons_differ_on_no_task_in_more_than_five_percent():
    table = pd.read_csv(FOLDER / "null.csv")
    wrong = table["verdict"].isin(["better", "worse"]).groupby(table["task"]).agg(["mean", "size"])
    assert (wrong["size"] >= 20).all()
    assert wrong["mean"].max() <= 0.05


def test_list_properties_of_known_functions():
    table = list_properties(["relu", "tanh", "gelu"])
    assert table["kinks"].to_list() == [1, 0, 0]
    assert table["bounded"].to_list() == [0, 1, 0]
    assert table["monotonic"].to_list() == [1, 1, 0]
    assert table.loc["relu", "gain"] == pytest.approx(2**0.5)
    assert table.loc["relu", "gradient per layer"] == pytest.approx(0, abs=1e-9)


def test_correlate_marks_only_strong_correlations():
    table = correlate(VERDICTS)
    names = [name for name in table if not name.endswith("*")]
    marked = [abs(row[name]) for _, row in table.iterrows() for name in names if row[f"{name}*"]]
    others = [abs(row[name]) for _, row in table.iterrows() for name in names if not row[f"{name}*"]]
    assert min(marked, default=1) > 0.45
    assert max(value for value in others if value == value) < 0.65

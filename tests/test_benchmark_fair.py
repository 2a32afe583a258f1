"""The pure functions of the benchmark of fair comparisons."""

import numpy as np
import pandas as pd
from benchmarks.fair import (
    Quality,
    choose_candidate,
    count_changes,
    count_epochs,
    describe_answer,
    describe_largest_difference,
    judge_against,
)


def test_count_changes_counts_pairs_of_different_outcomes():
    before = {"a": "worse", "b": "worse", "c": "undecided"}
    after = {"a": "undecided", "b": "worse", "c": "better"}
    assert count_changes(before, after) == {("worse", "undecided"): 1, ("undecided", "better"): 1}
    answer = describe_answer({"as given": before, "both tuned": after})
    assert "Tuning changes 2 of 3 verdicts" in answer
    assert "For 1 of them (a)" in answer


def test_choose_candidate_follows_the_rungs():
    valid = np.zeros((3, 4, 2))
    valid[:, :, 0] = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5], [0.3, 0.6, 0.8, 0.9]]
    assert choose_candidate(valid, [(1, 1)]) == (1, 4 + 2 + 4)
    assert choose_candidate(valid, [(1, 2)]) == (2, 4 + 2 + 8)
    assert choose_candidate(valid, [(1, 2), (2, 1)]) == (2, 4 + 2 + 4 + 4)
    assert choose_candidate(valid, []) == (2, 12)


def test_count_epochs_counts_the_screening_of_completed_candidates():
    tuning = pd.DataFrame(
        {"lr": [0.01, 0.1, 0.03], "init": ["torch", "torch", "torch"], "epochs": [25, 25, 2]}
    )
    assert count_epochs(tuning) == 25 + 2 + 25 + 2


def test_judge_against_judges_each_activation_against_one():
    rng = np.random.default_rng(0)
    labels = [(s, f, 2 * (s - 1) + k) for s in (1, 2) for f in (1, 2, 3) for k in (0, 1)]
    rows = [
        {"activation": name, "split": s, "fold": f, "seed": seed, "score": mean + 0.001 * rng.normal()}
        for name, mean in (("relu", 0.9), ("low", 0.5), ("same", 0.9), ("nan", np.nan))
        for s, f, seed in labels
    ]
    outcomes = judge_against(pd.DataFrame(rows), "relu", 0.0, 0.0)
    assert outcomes == {"low": "worse", "same": "undecided", "nan": "none"}


def test_describe_largest_difference_averages_over_runs_and_keeps_the_sign():
    runs = pd.MultiIndex.from_tuples([("relu", 0), ("relu", 1), ("tanh", 0)], names=["activation", "seed"])
    scores = pd.DataFrame({"automatic": [0.9, 0.8, 0.90], "full grid": [0.8, 0.9, 0.92]}, index=runs)
    sentence = describe_largest_difference([Quality(scores, {})])
    assert sentence == "The largest difference in both tables is -2.00 pp (tanh)."

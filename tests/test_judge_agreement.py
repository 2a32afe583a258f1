"""Agreement of judge with published packages. The expected numbers come from runs of these packages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import actlab
from actlab.stats.robust import compute_profile, estimate_improvement, summarize_over_datasets

# Scores (runs, tasks) of two methods.
A = np.array(
    [
        [0.5, 0.53, 0.473, 0.411],
        [0.455, 0.401, 0.506, 0.634],
        [0.451, 0.438, 0.549, 0.536],
        [0.511, 0.407, 0.497, 0.57],
        [0.366, 0.454, 0.31, 0.371],
    ]
)
B = np.array(
    [
        [0.266, 0.426, 0.323, 0.477],
        [0.466, 0.431, 0.198, 0.396],
        [0.445, 0.461, 0.297, 0.402],
        [0.352, 0.369, 0.556, 0.369],
        [0.447, 0.538, 0.392, 0.439],
        [0.461, 0.456, 0.327, 0.458],
    ]
)
X = [0.768, 0.743, 0.668, 0.738, 0.704, 0.691, 0.697, 0.772, 0.71, 0.706, 0.671, 0.745]
Y = [0.653, 0.736, 0.83, 0.67, 0.759, 0.764, 0.763, 0.696, 0.707, 0.671, 0.72, 0.787]


def make_table(key):
    return pd.DataFrame(
        [
            {"method": name, key: f"{key} {i}", "score": score}
            for name, scores in (("x", X), ("y", Y))
            for i, score in enumerate(scores)
        ]
    )


def test_summarize_over_datasets_agrees_with_rliable():
    # rliable 1.2.0: aggregate_iqm, aggregate_median
    a, b = summarize_over_datasets({"a": list(A.T), "b": list(B.T)})
    assert (a.iqm, b.iqm) == pytest.approx((0.4696, 0.4191666666666667), abs=1e-12)
    assert a.median == pytest.approx(0.4618, abs=1e-12)
    assert a.iqm_low < a.iqm < a.iqm_high


def test_estimate_improvement_agrees_with_rliable():
    # rliable 1.2.0: probability_of_improvement
    estimate, low, high = estimate_improvement(list(A.T), list(B.T))
    assert estimate == pytest.approx(0.6583333333333333, abs=1e-12)
    assert low < estimate < high


def test_compute_profile_is_the_share_of_runs_above_each_threshold():
    assert compute_profile(list(A.T), np.array([0.3, 0.5, 0.6])).tolist() == pytest.approx(
        [1.0, 7 / 20, 1 / 20]
    )


def test_judge_of_seeds_agrees_with_autorank():
    # autorank 1.3.0: a paired t-test, because the scores look normal
    (p,) = actlab.judge(make_table("seed")).verdicts["p"]
    assert p == pytest.approx(0.6055515278462933, rel=1e-9)


def test_judge_of_datasets_agrees_with_autorank():
    # autorank 1.3.0, force_mode="nonparametric": Wilcoxon's test, whose p-value there is one-sided
    (p,) = actlab.judge(make_table("dataset")).verdicts["p"]
    assert p == pytest.approx(2 * 0.3955078125, rel=1e-9)


def test_judge_with_a_permutation_test_agrees_with_deepsig():
    # deepsig 1.2.8: permutation_test with 20,000 samples; it is one-sided and random
    (p,) = actlab.judge(make_table("seed"), analysis="permutation").verdicts["p"]
    assert p == pytest.approx(2 * 0.2998850057497125, abs=0.015)

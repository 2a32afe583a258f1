"""Error rates of verdicts in simulations: a part of ``benchmarks.verdicts``."""

import math

import pytest
from benchmarks.verdicts import Case, simulate

NULL = (0.0, 0.0, 0.0)
COUNT = 400
# 5 % of 400 plus three standard deviations.
MOST = COUNT * 0.05 + 3 * math.sqrt(COUNT * 0.05 * 0.95)


@pytest.mark.parametrize(("folds", "split", "seeds"), [(3, 1.0, 1), (3, 0.3, 2), (3, 0.3, 10), (10, 0.1, 4)])
def test_verdicts_with_fixed_seeds_keep_the_error_level_and_coverage(folds, split, seeds):
    tally = simulate(Case(folds, split, seeds, NULL), COUNT, 0)
    assert tally.wrong <= MOST
    assert 0.93 < tally.covered / tally.pairs < 0.985


@pytest.mark.parametrize("split", [0.1, 1.0])
def test_verdicts_of_sequential_tests_keep_the_error_level(split):
    tally = simulate(Case(3, split, 0, NULL), COUNT, 0)
    assert tally.wrong <= COUNT * 0.05
    assert tally.naive > COUNT / 2  # an ordinary t-test at the same interim analyses


def test_verdicts_of_trained_networks_keep_the_error_level():
    tally = simulate(Case(3, math.nan, 4, NULL, learners=True), COUNT, 0)
    assert tally.wrong <= MOST
    assert tally.naive > COUNT / 4


def test_verdicts_find_real_differences():
    assert simulate(Case(10, 0.1, 4, (1.0, 0.0)), 100, 0).found >= 95
    assert simulate(Case(3, 0.1, 10, (2.0, 0.0)), 100, 0).found >= 95
    assert simulate(Case(3, 0.1, 0, (2.0, 0.0)), 100, 0).found >= 85

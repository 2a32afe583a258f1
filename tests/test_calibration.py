"""Verdicts are wrong as seldom as they say: a part of ``benchmarks.verdicts``, which has the whole table."""

import math

import pytest
from benchmarks.verdicts import Case, simulate

NULL = (0.0, 0.0, 0.0)
COUNT = 400
# What 5 % of 400 may be by chance: three standard deviations more.
MOST = COUNT * 0.05 + 3 * math.sqrt(COUNT * 0.05 * 0.95)


@pytest.mark.parametrize(("folds", "split", "seeds"), [(3, 1.0, 1), (3, 0.3, 2), (3, 0.3, 10), (10, 0.1, 4)])
def test_a_fixed_design_is_seldom_wrong_and_its_intervals_have_the_truth(folds, split, seeds):
    tally = simulate(Case(folds, split, seeds, NULL), COUNT, 0)
    assert tally.wrong <= MOST
    assert 0.93 < tally.covered / tally.pairs < 0.985


@pytest.mark.parametrize("split", [0.1, 1.0])
def test_looking_after_every_round_makes_it_no_worse(split):
    tally = simulate(Case(3, split, 0, NULL), COUNT, 0)
    assert tally.wrong <= COUNT * 0.05
    assert tally.naive > COUNT / 2  # what an ordinary t-test makes of the same looks


def test_nets_that_learn_are_judged_as_well():
    tally = simulate(Case(3, math.nan, 4, NULL, learners=True), COUNT, 0)
    assert tally.wrong <= MOST
    assert tally.naive > COUNT / 4


def test_what_is_there_is_found():
    assert simulate(Case(10, 0.1, 4, (1.0, 0.0)), 100, 0).found >= 95
    assert simulate(Case(3, 0.1, 10, (2.0, 0.0)), 100, 0).found >= 95
    assert simulate(Case(3, 0.1, 0, (2.0, 0.0)), 100, 0).found >= 85

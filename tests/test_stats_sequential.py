import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from actlab.comparison.config import Budget, parse_budget
from actlab.errors import UsageError
from actlab.stats.posterior import LEVEL
from actlab.stats.sequential import (
    ANALYSES,
    SequentialTest,
    compute_analysis_level,
    compute_crossing_probability,
)
from actlab.stats.verdict import DifferenceSummary, Verdict

NAMES = ["a", "b", "c"]


def verdict(word, more=4):
    figures = (0.0, -1.0, 1.0, 0.0123, 0.5, 0.5, 0.3, 0.4, 0.3)
    summary = DifferenceSummary(0.0, 6, 12, 1.0, 1 / 6, 0.5, 1.0, 6, 0.5)
    return Verdict(word, *figures, more if word == "undecided" else None, summary)


class ScriptedTest:
    """Return scripted verdicts for each pair from a given interim analysis on."""

    def __init__(self, script, failed=None, more=4):
        self.script, self.lost, self.more = script, failed or {}, more
        self.trained = []

    def look(self, names, seeds, level):
        assert level == compute_analysis_level(3)
        self.trained.append((seeds, list(names)))
        collected = {}
        for pair in combinations(NAMES, 2):
            word, since = self.script.get(pair, ("undecided", 0))
            collected[pair] = verdict(word if seeds >= since else "undecided", self.more)
            if set(pair) & self.lost.keys():
                collected[pair] = None
        return collected, self.lost

    def run(self, afford=lambda names, seeds: "", tell=lambda *numbers: None):
        test = SequentialTest(NAMES)
        while not test.stop_reason:
            if reason := afford(test.remaining, test.next_seeds):
                test.stop(reason)
                break
            test.record_analysis(*self.look(test.remaining, test.next_seeds, test.level))
            tell(test.seeds, len(test.verdicts) - len(test.decided), len(test.verdicts))
        return test


# S. Pocock, Biometrika 64 (1977), table 1: normal deviates for tests at equal steps.
@pytest.mark.parametrize(
    ("analyses", "bound"), [(1, 1.960), (2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413), (10, 2.555)]
)
def test_compute_crossing_probability_agrees_with_pococks_table(analyses, bound):
    assert compute_crossing_probability(bound, range(1, analyses + 1)) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("pairs", [1, 3, 45])
def test_compute_analysis_level_keeps_the_level_over_all_interim_analyses(pairs):
    z = stats.norm.isf(compute_analysis_level(pairs) / pairs / 2)
    steps = np.random.default_rng(0).normal(size=(400_000, ANALYSES[-1])).cumsum(axis=1)
    walks = steps[:, np.array(ANALYSES) - 1] / np.sqrt(ANALYSES)
    wrong = (np.abs(walks) > z).any(axis=1).mean()
    assert wrong == pytest.approx(LEVEL / pairs, abs=4 * math.sqrt(LEVEL / pairs / 400_000))
    assert all(seeds % 2 == 0 for seeds in ANALYSES)  # two seeds share their folds


def test_sequential_test_drops_worse_activations_and_continues():
    scripted = ScriptedTest(
        {("a", "b"): ("better", 2), ("a", "c"): ("equivalent", 8), ("b", "c"): ("worse", 2)}
    )
    result = scripted.run()
    assert scripted.trained == [(2, ["a", "b", "c"]), (4, ["a", "c"]), (8, ["a", "c"])]
    assert result.dropped == {"b": "worse than a after 2 seeds"}
    assert result.decided == {("a", "b"): 2, ("b", "c"): 2, ("a", "c"): 8}
    assert (result.analyses, result.seeds, result.stop_reason) == (3, 8, "all pairs are decided")


def test_sequential_test_ignores_pairs_of_dropped_activations():
    scripted = ScriptedTest({("a", "b"): ("better", 2), ("a", "c"): ("better", 2)})
    result = scripted.run()
    assert scripted.trained == [(2, NAMES)]
    assert result.stop_reason == "all pairs are decided"
    assert result.verdicts["b", "c"].outcome == "undecided"
    assert ("b", "c") not in result.decided


def test_sequential_test_keeps_decided_verdicts():
    class WaveringTest(ScriptedTest):
        def look(self, names, seeds, level):
            result, lost = super().look(names, seeds, level)
            result["a", "b"] = verdict("better" if seeds == 2 else "worse")
            return result, lost

    result = WaveringTest({}).run()
    assert result.verdicts["a", "b"].outcome == "better"
    assert result.dropped == {"b": "worse than a after 2 seeds"}


def test_sequential_test_drops_failed_activations():
    scripted = ScriptedTest({("a", "c"): ("better", 4)}, failed={"b": "diverged in 1 of 6 runs"})
    result = scripted.run()
    assert scripted.trained == [(2, NAMES), (4, ["a", "c"])]
    assert result.dropped["b"] == "diverged in 1 of 6 runs"
    assert result.verdicts["a", "b"] is None


def test_sequential_test_drops_the_worse_of_a_pair_in_either_order():
    scripted = ScriptedTest({("a", "b"): ("worse", 2), ("b", "c"): ("worse", 4)})
    result = scripted.run()
    assert scripted.trained == [(2, NAMES), (4, ["b", "c"])]
    assert result.dropped == {"a": "worse than b after 2 seeds", "b": "worse than c after 4 seeds"}


def test_sequential_test_drops_activations_without_undecided_pairs():
    scripted = ScriptedTest(
        {("a", "b"): ("equivalent", 2), ("a", "c"): ("equivalent", 2), ("b", "c"): ("better", 4)}
    )
    result = scripted.run()
    assert scripted.trained == [(2, NAMES), (4, ["b", "c"])]
    assert result.dropped == {"c": "worse than b after 4 seeds"}


def test_sequential_test_reports_undecided_pairs_after_each_round():
    reports = []
    scripted = ScriptedTest(
        {("a", "b"): ("equivalent", 4), ("a", "c"): ("better", 8), ("b", "c"): ("worse", 8)}
    )
    scripted.run(tell=lambda *numbers: reports.append(numbers))
    assert reports == [(2, 3, 3), (4, 2, 3), (8, 0, 3)]


def test_sequential_test_requests_the_cost_of_remaining_activations():
    requests = []
    scripted = ScriptedTest({("a", "b"): ("better", 2)})
    scripted.run(lambda names, seeds: requests.append((list(names), seeds)) or "")
    assert requests == [(2, NAMES)[::-1], *((["a", "c"], seeds) for seeds in (4, 8, 16, 32))]


def test_sequential_test_ends_if_all_but_one_failed():
    result = ScriptedTest({}, failed={"a": "diverged", "c": "diverged"}).run()
    assert (result.stop_reason, result.analyses, result.decided) == (
        "fewer than two activations are left",
        1,
        {},
    )


def test_sequential_test_ends_after_the_last_interim_analysis():
    result = ScriptedTest({}).run()
    assert (result.analyses, result.seeds, result.stop_reason) == (
        len(ANALYSES),
        32,
        "the maximum of 32 seeds is reached",
    )


def test_sequential_test_ends_if_seeds_cannot_decide():
    scripted = ScriptedTest({}, more=None)
    result = scripted.run()
    assert (result.analyses, result.stop_reason) == (3, "more seeds would not decide the remaining pairs")


def test_sequential_test_ends_with_its_budget():
    result = ScriptedTest({}).run(lambda names, seeds: "no more" if seeds > 4 else "")
    assert (result.analyses, result.seeds, result.stop_reason) == (2, 4, "no more")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Budget()),
        (200, Budget(runs=200)),
        ("200", Budget(runs=200)),
        ("20m", Budget(seconds=1200)),
        ("0.5m", Budget(seconds=30)),
    ],
)
def test_parse_budget_reads_runs_or_minutes(text, expected):
    assert parse_budget(text) == expected


@pytest.mark.parametrize("text", [0, -1, "0m", "m", "20 min", "1e3", "20s", "", True, 1.5, "²"])
def test_parse_budget_rejects_invalid_text(text):
    with pytest.raises(
        UsageError, match="must be a number of runs such as 200, or minutes such as '20m', got "
    ):
        parse_budget(text)


def test_budget_refusal_names_a_round_that_does_not_fit():
    assert Budget(runs=30).explain_refusal(18, 12, 1.0) == ""
    assert Budget(runs=30).explain_refusal(18, 13, 1.0) == (
        "the next round of 13 runs would exceed the budget of 30 runs: 18 have been trained"
    )
    assert Budget(seconds=120).explain_refusal(10, 10, 59.0) == ""
    assert "budget of 2 minutes" in Budget(seconds=120).explain_refusal(10, 10, 61.0)
    assert Budget(seconds=60).explain_refusal(0, 10, 0.0) == ""
    assert Budget().explain_refusal(10**9, 10**9, math.inf) == ""

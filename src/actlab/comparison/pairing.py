"""Judge the pairs of a comparison by their paired runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runner import Finished
from actlab.comparison.splits import has_same_splits
from actlab.stats.fixed_test_set import FixedTestSummary, summarize_fixed_test
from actlab.stats.sequential import Pair
from actlab.stats.verdict import PairSummary, Verdict, judge_summaries, summarize_differences

Runs = dict[tuple[int, int, int], Finished]  # by split, fold and seed


def judge_pairs(
    runs: Sequence[Finished], plan: ComparisonPlan, region: float, level: float
) -> dict[Pair, Verdict | None]:
    """Judge every pair of activations.

    Args:
        runs: The runs with the best tuned values.
        plan: The plan.
        region: Half the width of the region of practical equivalence.
        level: The allowed probability of an error.

    Returns:
        The verdict on every pair; None if a run of one of the two activations has failed.
    """
    by_name: dict[str, Runs] = {name: {} for name in plan.config.names}
    for run in runs:
        labels = run.labels
        by_name[labels.activation][labels.split, labels.fold, labels.seed] = run
    pairs = list(combinations(by_name, 2))
    summaries = {(a, b): summary for a, b in pairs if (summary := _summarize(by_name[a], by_name[b], plan))}
    verdicts: dict[Pair, Verdict | None] = dict.fromkeys(pairs)
    verdicts.update(zip(summaries, judge_summaries(list(summaries.values()), region, level), strict=True))
    return verdicts


def _summarize(a: Runs, b: Runs, plan: ComparisonPlan) -> PairSummary | None:
    if any(math.isnan(run.score) for run in (*a.values(), *b.values())):
        return None
    common, config = sorted(a.keys() & b.keys()), plan.config
    folds = plan.make_folds(int(config.shuffled))
    step = plan.scoring.get_score_step(min(len(test) for _, test in folds))
    pairs = [(a[key], b[key]) for key in common]
    if config.dataset.test_rows is not None:
        return _summarize_fixed_test(pairs, step)
    differences = [one.score - other.score for one, other in pairs]
    cells = [split * len(folds) + fold for split, fold, _ in common]
    is_time = config.split_kind == "time"  # the training samples of its folds differ in number
    ratio = (
        float(np.mean([len(test) / len(rows) for rows, test in folds])) if is_time else 1 / (len(folds) - 1)
    )
    return summarize_differences(
        differences, cells, ratio, step=step, same_splits=has_same_splits(config.split_kind)
    )


def _summarize_fixed_test(pairs: Sequence[tuple[Finished, Finished]], step: float) -> FixedTestSummary:
    outcomes = [
        one.outcomes.astype(np.float64) - other.outcomes
        for one, other in pairs
        if one.outcomes is not None and other.outcomes is not None
    ]
    if len(outcomes) < len(pairs):
        return summarize_fixed_test([one.score - other.score for one, other in pairs])
    return summarize_fixed_test(np.stack(outcomes), step=step)

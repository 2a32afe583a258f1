"""Judge the pairs of a comparison by their paired runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runner import Finished
from actlab.stats.sequential import Pair
from actlab.stats.verdict import DifferenceSummary, Verdict, judge, summarize_differences

Scores = dict[tuple[int, int, int], float]  # by split, fold and seed


def judge_pairs(
    runs: Sequence[Finished], plan: ComparisonPlan, region: float, level: float
) -> dict[Pair, Verdict | None]:
    """Judge every pair of activations.

    Args:
        runs: The runs with the best tuned values.
        plan: The plan.
        region: Half the width of the region of practical equivalence.
        level: The probability of an error that is allowed.

    Returns:
        The verdicts; None if a run of one of the two has failed.
    """
    scores: dict[str, Scores] = {name: {} for name in plan.config.names}
    for run in runs:
        labels = run.labels
        scores[labels.activation][labels.split, labels.fold, labels.seed] = run.score
    pairs = list(combinations(scores, 2))
    summaries = {(a, b): summary for a, b in pairs if (summary := _summarize(scores[a], scores[b], plan))}
    verdicts: dict[Pair, Verdict | None] = dict.fromkeys(pairs)
    verdicts.update(zip(summaries, judge(list(summaries.values()), region, level), strict=True))
    return verdicts


def _summarize(a: Scores, b: Scores, plan: ComparisonPlan) -> DifferenceSummary | None:
    if any(math.isnan(score) for score in (*a.values(), *b.values())):
        return None
    folds, common = plan.config.folds, sorted(a.keys() & b.keys())
    differences = [a[key] - b[key] for key in common]
    cells = [split * folds + fold for split, fold, _ in common]
    step = plan.scoring.get_score_step(min(len(test) for _, test in plan.make_folds(0)))
    return summarize_differences(differences, cells, 1 / (folds - 1), step=step)

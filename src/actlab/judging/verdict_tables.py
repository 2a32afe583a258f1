"""The tables of verdicts and ranks, of comparisons and of judged tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from actlab.errors import join_names
from actlab.stats.fixed_test_set import FixedTestSummary
from actlab.stats.posterior import MAX_SEEDS
from actlab.stats.sequential import Pair
from actlab.stats.unpaired import UnpairedSummary
from actlab.stats.verdict import Verdict

_MAX_DECIDED = 5  # pairs of a dataset that are named in a sentence
_DIFFERENT = "better or worse"
VERDICTS = [
    *("a", "b", "verdict", "difference", "low", "high", "level", "p", "p_holm", "p_better", "p_equivalent"),
    *("p_worse", "wins", "wins_low", "wins_high", "runs", "seeds", "more_seeds", "reason"),
]


def make_verdict_table(
    verdicts: Mapping[Pair, Verdict | None],
    level: float,
    reasons: Mapping[str, str] | Mapping[Pair, str],
    dropped: Mapping[str, str],
) -> pd.DataFrame:
    """Return the rows of :attr:`actlab.Comparison.verdicts`.

    Args:
        verdicts: The verdict on every pair; None if no verdict is possible.
        level: The allowed probability of an error.
        reasons: Why no verdict is possible, by pair or by activation.
        dropped: The activations that dropped out of a sequential test, and why.
    """
    rows = []
    for (a, b), verdict in verdicts.items():
        row: dict[str, Any] = dict.fromkeys(VERDICTS, math.nan)
        row.update(a=a, b=b, verdict="none", level=level, runs=0, seeds=0, more_seeds=pd.NA)
        known: Mapping[Any, str] = reasons
        if verdict is None:
            named = "; ".join(f"{name} {known[name]}" for name in (a, b) if name in known)
            row["reason"] = known.get((a, b), named)
        else:
            row.update(_list_verdict_columns(verdict))
            why = "; ".join(f"{name} was dropped: {dropped[name]}" for name in (a, b) if name in dropped)
            row["reason"] = _explain_undecided(verdict, why) if verdict.outcome == "undecided" else ""
        rows.append(row)
    frame = pd.DataFrame(rows, columns=VERDICTS)
    return frame.astype({"runs": int, "seeds": int, "more_seeds": "Int64"})


def _list_verdict_columns(verdict: Verdict) -> dict[str, Any]:
    summary = verdict.summary
    return {
        "verdict": verdict.outcome,
        "difference": verdict.difference,
        "low": verdict.low,
        "high": verdict.high,
        "level": verdict.level,
        "p": verdict.p_value,
        "p_holm": verdict.p_holm,
        "p_better": verdict.better,
        "p_equivalent": verdict.equivalent,
        "p_worse": verdict.worse,
        "wins": summary.wins,
        "wins_low": summary.wins_low,
        "wins_high": summary.wins_high,
        "runs": summary.runs,
        "seeds": summary.seeds,
        "more_seeds": pd.NA if verdict.more_seeds is None else verdict.more_seeds,
    }


def _explain_undecided(verdict: Verdict, dropped: str) -> str:
    if dropped:
        return dropped
    summary: Any = getattr(verdict.summary, "summary", verdict.summary)  # of a sequential test
    if isinstance(summary, FixedTestSummary):
        return _explain_undecided_on_fixed_test(verdict.more_seeds, summary)
    if isinstance(summary, UnpairedSummary):
        if verdict.more_seeds is None:
            return f"more than {MAX_SEEDS} runs of each would be needed"
        return f"about {_count(verdict.more_seeds, 'more run')} of each would decide it"
    if not summary.within_df:
        return "one run per fold does not show how much seeds vary: add seeds if training is random"
    if verdict.more_seeds is None:
        return "no number of seeds would decide it; more folds or more data may"
    return _format_forecast(verdict.more_seeds)


def _explain_undecided_on_fixed_test(more_seeds: int | None, summary: FixedTestSummary) -> str:
    if summary.seeds == 1:
        return "interval and p hold for these two trained models only, not for other seeds: add seeds"
    if more_seeds is not None:
        return _format_forecast(more_seeds)
    if summary.is_limited_by_samples:
        return f"more seeds cannot decide it: the test set has only {summary.samples} samples"
    return f"more than {MAX_SEEDS} seeds would be needed"


def _format_forecast(more_seeds: int) -> str:
    return f"about {_count(more_seeds, 'more seed')} would decide it"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def rank_methods(
    scores: Mapping[str, pd.Series[Any]],
    status: Mapping[str, tuple[str, bool]],
    verdicts: pd.DataFrame,
    column: str = "activation",
) -> pd.DataFrame:
    """Return rank, name, mean, standard deviation, number of runs and status, not sorted.

    Args:
        scores: The scores of each method; NaN for a failed run.
        status: For each method, its status (failed runs or chance level) and whether it has a rank.
        verdicts: The verdict on every pair.
        column: The name of the column of method names.
    """
    table = pd.DataFrame(
        {
            column: list(scores),
            "mean": [average(own) for own in scores.values()],
            "std": [float(own.std(ddof=0, skipna=False)) for own in scores.values()],
            "runs": [len(own) for own in scores.values()],
            "status": [status[name][0] for name in scores],
        }
    )
    ranks = [_rank(name, verdicts) if status[name][1] else None for name in scores]
    table.insert(0, "rank", pd.Series(ranks, dtype="Int64"))
    return table


def sort_ranking(table: pd.DataFrame) -> pd.DataFrame:
    """Return a ranking with the best first."""
    return table.sort_values(["rank", "mean"], ascending=[True, False], kind="stable", ignore_index=True)


def describe_each(verdicts: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return sentences on the verdicts on each dataset or task; those with equal verdicts share a sentence.

    Args:
        verdicts: The verdict on every pair, by dataset or task. A few decided pairs are named, others are
            only counted.
    """
    groups: dict[str, list[str]] = {}
    for name, pairs in verdicts.items():
        groups.setdefault(_describe_pairs(pairs), []).append(name)
    return [f"On {join_names(names)}: {found}." for found, names in groups.items()]


def _describe_pairs(pairs: pd.DataFrame) -> str:
    kinds = pairs["verdict"].replace({"better": _DIFFERENT, "worse": _DIFFERENT, "none": "not tested"})
    parts, counted = [], [_DIFFERENT, "equivalent", "undecided", "not tested"]
    decided = pairs[kinds.isin(counted[:2])]
    if len(decided) <= _MAX_DECIDED:
        first, second = (decided[a].where(decided["verdict"] != "worse", decided[b]) for a, b in ("ab", "ba"))
        relation = decided["verdict"].map({"equivalent": "equivalent to"}).fillna("better than")
        for key, others in second.groupby([first, relation], sort=False):
            parts.append(f"{' is '.join(map(str, key))} {join_names(others.to_list())}")
        counted = counted[2:]
    total = f"of {_count(len(pairs), 'pair')}"
    counts = {kind: int((kinds == kind).sum()) for kind in counted}
    return "; ".join([*parts, *(f"{count} {total} {kind}" for kind, count in counts.items() if count)])


def average(scores: pd.Series[Any]) -> float:
    """Return the mean, NaN if a score is missing."""
    return float(scores.mean(skipna=False))


def _rank(name: str, verdicts: pd.DataFrame) -> int:
    above = ((verdicts["a"] == name) & (verdicts["verdict"] == "worse")).sum()
    return 1 + int(above + ((verdicts["b"] == name) & (verdicts["verdict"] == "better")).sum())


def describe_failures(reasons: Sequence[str], total: int) -> str:
    """Return how many of a number of runs have failed, and why; an empty string if none has."""
    diverged = sum(reason.startswith("diverged") for reason in reasons)
    parts = [f"diverged in {diverged} of {total} runs"] if diverged else []
    if others := [reason for reason in reasons if not reason.startswith("diverged")]:
        parts.append(f"failed in {len(others)} of {total} runs: {others[0]}")
    return "; ".join(parts)

"""Judge every pair of methods in a table of runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from actlab.errors import UsageError, join_names
from actlab.judging.design import Design
from actlab.judging.table import RunTable
from actlab.stats.anytime import AnytimeSummary
from actlab.stats.fixed_test_set import summarize_fixed_test
from actlab.stats.posterior import Floats, Posterior, WrappedSummary
from actlab.stats.sequential import Pair
from actlab.stats.unpaired import summarize_unpaired
from actlab.stats.verdict import Verdict, judge_summaries, summarize_differences

_RESAMPLED = 10_000  # runs, up to which the interval of wins is resampled
_PERMUTATIONS = 9999
_SHOWN = 3  # methods that lack runs


@dataclass(frozen=True)
class JudgedPairs:
    """The verdicts on pairs.

    Attributes:
        verdicts: The verdict on every pair; None if no verdict is possible.
        reasons: Why no verdict is possible.
    """

    verdicts: dict[Pair, Verdict | None]
    reasons: dict[Pair, str]


def list_pairs(methods: Sequence[str], baseline: str | None) -> list[Pair]:
    """Return the pairs to judge: all, or those with the baseline."""
    pairs = list(combinations(methods, 2))
    return pairs if baseline is None else [pair for pair in pairs if baseline in pair]


def judge_pairs(
    table: RunTable,
    design: Design,
    pairs: Sequence[Pair],
    *,
    region: float,
    level: float,
    sequential: bool,
) -> JudgedPairs:
    """Judge pairs of methods on one dataset.

    Args:
        table: The runs.
        design: How they belong together.
        pairs: The pairs.
        region: Half the width of the region of practical equivalence.
        level: The allowed probability of an error.
        sequential: Whether the verdicts stay valid if the table is judged again after every new run.

    Returns:
        The verdicts.
    """
    summaries, reasons = summarize_pairs(table, design, pairs)
    if sequential:
        summaries = {pair: AnytimeSummary(summary) for pair, summary in summaries.items()}
    verdicts: dict[Pair, Verdict | None] = dict.fromkeys(pairs)
    verdicts.update(zip(summaries, judge_summaries(list(summaries.values()), region, level), strict=True))
    return JudgedPairs(verdicts, reasons)


def summarize_pairs(
    table: RunTable, design: Design, pairs: Sequence[Pair]
) -> tuple[dict[Pair, Any], dict[Pair, str]]:
    """Return summaries of pairs, and why other pairs have none."""
    summaries: dict[Pair, Any] = {}
    reasons: dict[Pair, str] = {}
    by_method = dict(iter(table.frame.groupby("method", sort=False)))
    for a, b in pairs:
        one, other = by_method[a], by_method[b]
        if failed := [name for name, rows in ((a, one), (b, other)) if rows["score"].isna().any()]:
            reasons[a, b] = "; ".join(_describe_failed(name, by_method[name]) for name in failed)
            continue
        if design.analysis == "welch" or design.kind == "unpaired":
            summary = _summarize_unpaired(one, other, design, table.step)
        else:
            both = one.merge(other, on=table.keys, suffixes=("", "_b"))
            summary = _summarize_pairs(both, table, design)
        if isinstance(summary, str):
            reasons[a, b] = summary
        else:
            summaries[a, b] = summary
    return summaries, reasons


def describe_unmatched(table: RunTable, pairs: Sequence[Pair]) -> list[str]:
    """Return sentences on methods that lack runs of others, and on runs without a partner in any pair."""
    frame = table.frame
    failed = {*frame[frame["score"].isna()]["method"]}
    keys = frame.groupby(table.keys, sort=False).ngroup().groupby(frame["method"], sort=False).agg(set)
    used: dict[str, set[int]] = {}
    for a, b in pairs:
        if not failed & {a, b}:
            for name in (a, b):
                used[name] = used.get(name, set()) | (keys[a] & keys[b])
    shared = set[int]().union(*used.values())
    what = f"{'values' if len(table.keys) == 1 else 'combinations'} of {join_names(table.keys)}"
    lacking = {name: missing for name in used if (missing := len(shared - keys[name]))}
    sentences = [
        f"{name} has no run for {missing} of {len(shared)} {what}; its pairs use the others."
        for name, missing in list(lacking.items())[:_SHOWN]
    ]
    if (more := len(lacking) - _SHOWN) > 0:
        sentences.append(f"{more} more method{'s lack' if more > 1 else ' lacks'} runs of others.")
    if alone := sum(len(keys[name] - own) for name, own in used.items()):
        have, do = ("run has", "does") if alone == 1 else ("runs have", "do")
        sentences.append(
            f"{alone} {have} no partner with equal {' and '.join(table.keys)} and {do} not count."
        )
    return sentences


def _describe_failed(name: str, rows: pd.DataFrame) -> str:
    failed = rows[rows["score"].isna()]
    return f"{name} has {len(failed)} of {len(rows)} runs without a score ({failed['failure'].iloc[0]})"


def _summarize_unpaired(one: pd.DataFrame, other: pd.DataFrame, design: Design, step: float) -> Any:
    a, b = (rows["score"].to_numpy(np.float64) for rows in (one, other))
    if min(len(a), len(b)) < 2:
        return "a method with one run has no variance; add runs"
    summary = summarize_unpaired(a, b, step=step, resample=len(a) + len(b) <= _RESAMPLED)
    if design.analysis != "permutation":
        return summary
    return _use_p_value(summary, _permute((a, b), "independent"))


def _summarize_pairs(both: pd.DataFrame, table: RunTable, design: Design) -> Any:
    """Return the summary of a pair, or why there can be none."""
    if len(both) < 2:
        return f"fewer than two pairs of runs have equal {' and '.join(table.keys)}"
    resample = len(both) <= _RESAMPLED
    if design.kind == "samples":
        return _summarize_outcomes(both, table, resample)
    differences = (both["score"] - both["score_b"]).to_numpy(np.float64)
    if not design.kind.startswith("folds") or design.analysis in ("paired-t", "permutation"):
        variance = table.step**2 / 6  # of two rounded scores
        summary = summarize_fixed_test(differences, resample=resample)
        summary = dataclasses.replace(summary, seed_variance=max(summary.seed_variance, variance))
        is_permuted = design.analysis == "permutation"
        return _use_p_value(summary, _permute((differences,), "samples")) if is_permuted else summary
    cells = both.groupby([*table.repeats, *table.folds], sort=False).ngroup().to_numpy()
    if cells.max() < 1:
        return "a test needs at least two folds"
    ratio = 1 / (design.num_folds - 1) if design.num_folds > 1 else None
    if (share := design.test_share) is not None:
        ratio = share / (1 - share)
    if ratio is None:
        return "the share of test samples is unknown: pass test_share= (--test-share), such as 0.2"
    return summarize_differences(
        differences, cells, ratio, step=table.step, same_splits=not table.repeats, resample=resample
    )


def _summarize_outcomes(both: pd.DataFrame, table: RunTable, resample: bool) -> Any:
    difference = (both["score"] - both["score_b"]).to_numpy(np.float64)
    if not table.seeds:
        grid = difference[None, :]
    else:
        frame = pd.DataFrame({"difference": difference})
        frame["seed"] = both.groupby(list(table.seeds), sort=False).ngroup().to_numpy()
        frame["sample"] = both.groupby(list(table.samples), sort=False).ngroup().to_numpy()
        pivot = frame.pivot(index="seed", columns="sample", values="difference")
        if pivot.isna().any(axis=None):
            return "some seeds have no outcome on some test samples"
        grid = pivot.to_numpy()
    is_binary = set(np.unique(both[["score", "score_b"]])) <= {0.0, 1.0, -1.0}
    return summarize_fixed_test(grid, step=1 / grid.shape[1] if is_binary else 0.0, resample=resample)


def _permute(samples: tuple[Floats, ...], kind: Literal["independent", "samples"]) -> float:
    """Return the two-sided p-value of a permutation test of the mean; exact for few runs."""

    def statistic(*values: Any, axis: int) -> Any:
        means = [np.mean(value, axis=axis) for value in values]
        return means[0] - means[1] if len(means) > 1 else means[0]

    data: Any = samples
    runs = sum(map(len, samples))
    if runs > _RESAMPLED:
        raise UsageError(
            f"a permutation test takes at most {_RESAMPLED:,} runs of a pair, got {runs:,}; the t-tests "
            "'paired-t' and 'welch' agree with it for that many"
        )
    result = stats.permutation_test(
        data,
        statistic,
        permutation_type=kind,
        vectorized=True,
        batch=max(1, 10**6 // runs),
        n_resamples=_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


@dataclass(frozen=True)
class _PermutationPosterior(Posterior):
    """A posterior with the p-value of a permutation test."""

    p: float = math.nan

    @property
    def p_value(self) -> float:
        return self.p


def _use_p_value(summary: Any, p_value: float) -> WrappedSummary:
    """Return a summary with the p-value of a permutation test."""
    known = summary.posterior
    return WrappedSummary(
        summary, _PermutationPosterior(known.mean, known.df, known.scales, known.weights, p_value)
    )

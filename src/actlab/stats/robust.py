"""Robust summaries of scores over many datasets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from actlab.stats.posterior import Floats

_RESAMPLES = 2000
_MOST_PAIRS = 10**6  # of runs on a dataset, for an interval
_TRIM = 0.25  # of the scores at each end


@dataclass(frozen=True)
class RobustSummary:
    """The scores of a method over datasets, with 95 % intervals.

    The intervals are percentiles of a bootstrap that resamples the runs within each dataset.

    Attributes:
        method: The method.
        iqm: The interquartile mean: the mean of the middle half of all scores. It is less affected by single
            datasets than the mean, and uses more of the scores than the median.
        iqm_low: Lower end of its interval.
        iqm_high: Upper end.
        median: The median of the means of datasets.
    """

    method: str
    iqm: float
    iqm_low: float
    iqm_high: float
    median: float


def summarize_over_datasets(scores: Mapping[str, Sequence[Floats]]) -> list[RobustSummary]:
    """Summarize the scores of methods over datasets.

    Scores on different datasets must have the same scale, as accuracies do.

    Args:
        scores: The scores (runs,) on each dataset, by method; NaN for a failed run.

    Returns:
        A summary of each method; NaN if a run has failed.

    Examples:
        >>> (summary,) = summarize_over_datasets({"a": [np.array([0.1, 0.9]), np.array([0.5, 0.7])]})
        >>> round(summary.iqm, 3), round(summary.median, 3)
        (0.6, 0.55)

    References:
        R. Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice",
        NeurIPS 34 (2021).
    """
    summaries = []
    for name, datasets in scores.items():
        rng = np.random.default_rng(0)
        resampled = np.concatenate(
            [runs[rng.integers(len(runs), size=(_RESAMPLES, len(runs)))] for runs in datasets], axis=1
        )
        low, high = np.quantile(interquartile_mean(resampled), [0.025, 0.975])
        means = [runs.mean() for runs in datasets]
        summaries.append(
            RobustSummary(
                name,
                float(interquartile_mean(np.concatenate(datasets))),
                float(low),
                float(high),
                float(np.median(means)),
            )
        )
    return summaries


def interquartile_mean(scores: Floats) -> Floats:
    """Return the mean of the middle half of scores (..., n) along the last axis."""
    return np.asarray(stats.trim_mean(scores, _TRIM, axis=-1))


def compute_superiority(a: Floats, b: Floats) -> float:
    """Return the probability that a value of ``a`` (n,) exceeds one of ``b`` (m,); ties count half."""
    ranks = stats.rankdata(np.concatenate([a, b]))[: len(a)]
    return float((ranks.sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def estimate_improvement(
    a: Sequence[Floats], b: Sequence[Floats], resample: bool = True
) -> tuple[float, float, float]:
    """Estimate the probability that a run of one method is better than one of another on the same dataset.

    Args:
        a: The scores (runs,) of the first on each dataset.
        b: Those of the second, on the same datasets.
        resample: Whether to compute the interval.

    Returns:
        The mean over datasets of the probability of a greater score, where equal scores count half, and the
        ends of its 95 % interval; NaN if it was not computed.

    Examples:
        >>> estimate_improvement([np.array([2.0, 3.0])], [np.array([1.0, 1.5])])
        (1.0, 1.0, 1.0)
    """
    estimate = float(np.mean([compute_superiority(one, other) for one, other in zip(a, b, strict=True)]))
    if not resample or max(len(one) * len(other) for one, other in zip(a, b, strict=True)) > _MOST_PAIRS:
        return estimate, math.nan, math.nan
    rng, resampled = np.random.default_rng(0), np.zeros(_RESAMPLES)
    for one, other in zip(a, b, strict=True):
        better = (1 + np.sign(one[:, None] - other)) / 2
        of_one, of_other = (
            rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), _RESAMPLES) / len(runs)
            for runs in (one, other)
        )
        resampled += ((of_one @ better) * of_other).sum(1) / len(a)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return estimate, float(low), float(high)


def compute_profile(scores: Sequence[Floats], thresholds: Floats) -> Floats:
    """Return the performance profile: the share of runs with a score above each threshold.

    Args:
        scores: The scores (runs,) on each dataset. Each dataset has the same weight.
        thresholds: The thresholds (m,).

    Returns:
        The shares (m,).

    Examples:
        >>> compute_profile([np.array([0.2, 0.6])], np.array([0.0, 0.5, 0.9])).tolist()
        [1.0, 0.5, 0.0]
    """
    shares: Floats = np.mean([(runs[:, None] > thresholds).mean(0) for runs in scores], axis=0)
    return shares

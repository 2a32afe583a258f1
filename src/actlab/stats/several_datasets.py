"""Compare activations over several datasets.

The procedure is J. Demšar's: each dataset ranks the activations, and Friedman's test checks whether the mean
ranks differ at all. Wilcoxon's signed-rank test with Holm's correction then checks each pair, as A. Benavoli
and others advise: a test of mean ranks would depend on the other activations in the table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from actlab.errors import UsageError, join_names
from actlab.stats.posterior import LEVEL, Floats
from actlab.stats.verdict import holm

_TIE_TOLERANCE = 1e-11  # relative to a score; smaller differences are rounding errors of means over folds
_FEW_DIFFERENCES = "they differ on"
_MAX_NAMES = 5  # in a sentence
_COLUMNS = ["a", "b", "verdict", "p", "p_holm", "mean_rank_difference", "reason"]


@dataclass(frozen=True)
class MultiDatasetResult:
    """The result of a comparison of activations over datasets.

    Attributes:
        scores: The scores: one row per dataset, one column per activation, NaN for a failure.
        ranks: Best first: ``activation``, ``mean_rank`` (1 is best), ``wins``: the number of datasets on
            which it is the sole best.
        statistic: Iman and Davenport's F of Friedman's test; infinite if all datasets rank alike. For two
            activations, Wilcoxon's T, the smaller of the two sums of ranks. NaN for one activation.
        p_value: The p-value of ``statistic`` under no difference; NaN for one activation.
        verdicts: One row per pair, in the order of ``ranks``: ``a``, ``b``; ``verdict``: a is ``"better"``
            or ``"worse"`` than b, or the pair is ``"undecided"``; ``p`` of Wilcoxon's test, two-sided and
            exact; ``p_holm``, corrected for the number of pairs; ``mean_rank_difference``, that of a minus
            that of b, negative if a is better; ``reason``, in words.
        cliques: The largest sets of two or more activations without a significant difference, in the order
            of ``ranks``. They can overlap: a and b do not differ, nor b and c, but a is better than c.
        over: What sentences call the datasets.
    """

    scores: pd.DataFrame
    ranks: pd.DataFrame
    statistic: float
    p_value: float
    verdicts: pd.DataFrame
    cliques: list[list[str]]
    over: str = "datasets"

    def sentences(self, noun: str = "activation") -> list[str]:
        """Describe the result in sentences.

        Args:
            noun: What is compared.

        Returns:
            Sentences about the best mean rank, Friedman's test, the decided pairs, the undecided pairs and
            the reason, and activations that failed.
        """
        n, k = self.scores.shape
        if k == 1:
            return [f"{self.ranks['activation'][0]} is the only {noun}: there are no pairs to compare."]
        if self.scores.isna().all(axis=None):
            return [f"No {noun} has a score: all {k} failed on all {n} {self.over}."]
        return [
            _describe_leader(self.ranks, n, self.over),
            *([] if k == 2 else [_describe_friedman(self, n, k, noun)]),
            *_describe_pairs(self, n, noun),
            *_describe_failures(self.scores, self.over),
        ]


def compare_over_datasets(scores: pd.DataFrame) -> MultiDatasetResult:
    """Compare activations over datasets.

    Ranks: on each dataset the best score has rank 1, and equal scores share the mean of their ranks. Scores
    that differ by rounding alone are equal. Friedman's chi-square of k activations on N datasets is corrected
    for ties, and Iman and Davenport's statistic is::

        F = (N - 1) chi2 / (N (k - 1) - chi2)

    with k - 1 and (k - 1)(N - 1) degrees of freedom. If all datasets rank alike, F is infinite. Its p-value
    is then exact: the probability that all other datasets arrange the ranks as the first does.

    Pairs: the differences d of two columns are ranked by abs(d), ties are averaged, and T is the smaller of
    the sums of ranks with d > 0 and with d < 0. The ranks of d = 0 are split evenly. The p-value is exact for
    any N, even with ties: the proportion of all assignments of signs to the nonzero differences that are at
    least as unbalanced. The test assumes that d is symmetric about 0 if there is no difference, and that
    differences on different datasets are comparable.

    Failures: a failure has the last rank, shared with other failures. In a pair, a failure counts as a
    difference that is larger than any difference between scores and as large as that of any other failure. If
    both failed, there is no difference. Wilcoxon's test depends only on the order of abs(d), so this needs no
    arbitrary penalty and its p-value stays exact. Omitting such datasets would reward an activation for
    failing on datasets that it would have lost.

    Verdicts: a pair is decided if ``p_holm`` is at most 5 %. The probability of any wrong verdict is then at
    most 5 %, by Holm's correction alone. Friedman's test is reported, but it is not a condition for the tests
    of pairs. Such a condition would add no protection, and the verdict on two activations would depend on the
    others. If the two disagree, :meth:`MultiDatasetResult.sentences` reports it.

    Args:
        scores: Mean scores, one row per dataset (its name is the index) and one column per activation;
            larger is better, in any unit; NaN where the activation failed.

    Returns:
        Ranks, tests, verdicts and cliques.

    Raises:
        UsageError: There are fewer than two datasets or no activations, a name occurs twice, or a score is
            not a finite number.

    Examples:
        >>> relu, tanh = [0.97, 0.88, 0.91, 0.84, 0.79, 0.93], [0.95, 0.87, 0.88, 0.80, 0.72, 0.87]
        >>> result = compare_over_datasets(pd.DataFrame({"relu": relu, "tanh": tanh}, index=list("uvwxyz")))
        >>> for sentence in result.sentences():
        ...     print(sentence)
        Best mean rank: relu, 1.00 over 6 datasets; it is the sole best on 6.
        relu is better than tanh (p = 0.0312).

    References:
        J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006).

        A. Benavoli, G. Corani, F. Mangili, "Should we really use post-hoc tests based on mean-ranks?",
        JMLR 17 (2016).

        R. L. Iman, J. M. Davenport, "Approximations of the critical region of the Friedman statistic",
        Communications in Statistics A 9 (1980).
    """
    scores = _validate(scores)
    values = scores.to_numpy()
    ranks = np.array([_rank(-np.nan_to_num(row, nan=-np.inf), np.nan_to_num(abs(row))) for row in values])
    order = np.argsort(ranks.sum(axis=0), kind="stable")  # sums of halves are exact, equal ones stay equal
    names = [str(scores.columns[index]) for index in order]
    values, ranks = values[:, order], ranks[:, order]
    mean_ranks = ranks.mean(axis=0)
    best = (ranks == 1).sum(axis=0)
    table = pd.DataFrame({"activation": names, "mean_rank": mean_ranks, "wins": best})
    verdicts = _judge_pairs(names, values, ranks)
    return MultiDatasetResult(
        scores, table, *_test_all(values, ranks), verdicts, _find_cliques(names, verdicts)
    )


def count_needed_datasets(pairs: int) -> int:
    """Return the smallest number of datasets that can decide any of a number of pairs.

    The smallest p-value of Wilcoxon's test over N datasets is 2^(1 - N). Holm's correction multiplies it by
    the number of pairs.

    Args:
        pairs: The number of pairs, an integer of 1 or more.

    Returns:
        The smallest N with 2^(1 - N) * pairs <= 0.05.

    Examples:
        >>> [count_needed_datasets(pairs) for pairs in (1, 3, 6, 10, 105)]
        [6, 7, 8, 9, 13]
    """
    return 1 + math.ceil(math.log2(pairs / LEVEL))


def _validate(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores as float64 with names of text, or raise UsageError."""
    datasets, activations = [list(map(str, names)) for names in (scores.index, scores.columns)]
    if not activations:
        raise UsageError("the scores have no columns; there should be one per activation")
    if len(datasets) < 2:
        raise UsageError(
            f"datasets must be two or more, got {datasets}; folds of one dataset do not count as datasets"
        )
    for what, names in (("dataset", datasets), ("activation", activations)):
        if duplicates := [name for i, name in enumerate(names) if name in names[:i]]:
            raise UsageError(
                f"{what} {duplicates[0]!r} occurs twice; give one mean score per dataset and activation"
            )
    try:
        values = scores.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UsageError(f"scores must be numbers, or NaN for a failure: {error}") from error
    for row, column in np.argwhere(np.isinf(values)):
        where = f"{activations[column]} on {datasets[row]}"
        raise UsageError(
            f"scores must be finite, or NaN for a failure, got {values[row, column]} for {where}"
        )
    return pd.DataFrame(values, index=datasets, columns=activations)


def _rank(sizes: Floats, scales: Floats) -> Floats:
    """Return ranks, smallest first, with averaged ties; values that differ by rounding are ties."""
    order = np.argsort(sizes)
    with np.errstate(invalid="ignore", over="ignore"):  # two infinities are a tie
        differ = np.diff(sizes[order]) > _TIE_TOLERANCE * np.maximum(scales[order][1:], scales[order][:-1])
    groups = np.empty(len(sizes))
    groups[order] = np.concatenate([[0], np.cumsum(differ)])
    return stats.rankdata(groups)


def _test_all(values: Floats, ranks: Floats) -> tuple[float, float]:
    """Return the statistic of all activations, and its p-value under no difference."""
    if ranks.shape[1] > 2:
        return _test_ranks(ranks)
    if ranks.shape[1] == 1:
        return math.nan, math.nan
    above, below, p = _test_signs(*_signed_ranks(values, ranks))
    return min(above, below), p


def _test_ranks(ranks: Floats) -> tuple[float, float]:
    """Return Iman and Davenport's F of Friedman's test, and its p-value."""
    n, k = ranks.shape
    centred = ranks - (k + 1) / 2
    between, total = float(np.square(centred.sum(axis=0)).sum()), float(np.square(centred).sum())
    if not between:  # equal mean ranks, also if all scores are tied
        return 0.0, 1.0
    if between == n * total:  # both are exact sums of quarters
        _, ties = np.unique(ranks[0], return_counts=True)
        arrangements = special.gammaln(k + 1) - special.gammaln(ties + 1).sum()
        return math.inf, math.exp(-(n - 1) * arrangements)
    f = (n - 1) * between / (n * total - between)
    return f, float(special.fdtrc(k - 1, (k - 1) * (n - 1), f))


def _signed_ranks(values: Floats, ranks: Floats) -> tuple[Floats, Floats]:
    """Return the sign of the difference of two columns on each dataset, and the rank of its size."""
    signs = np.sign(ranks[:, 1] - ranks[:, 0])
    halves = values / 2  # their differences do not overflow
    sizes = np.nan_to_num(np.abs(halves[:, 0] - halves[:, 1]), nan=np.inf)  # at least one failed
    return signs, _rank(np.where(signs == 0, 0, sizes), np.nan_to_num(np.abs(halves)).max(axis=1))


def _test_signs(signs: Floats, ranks: Floats) -> tuple[float, float, float]:
    """Return the sums of ranks of positive and negative differences, and the exact two-sided p-value."""
    above, below, equal = (float(ranks[signs == sign].sum()) for sign in (1, -1, 0))
    # chances[s]: the probability that random signs give one side ranks with the sum s / 2.
    chances = np.ones(1)
    for step in np.rint(2 * ranks[signs != 0]).astype(int):
        chances = (np.pad(chances, (0, step)) + np.pad(chances, (step, 0))) / 2
    p = min(1.0, 2 * float(chances[round(2 * max(above, below)) :].sum()))
    return above + equal / 2, below + equal / 2, p


def _judge_pairs(names: Sequence[str], values: Floats, ranks: Floats) -> pd.DataFrame:
    pairs = list(itertools.combinations(range(len(names)), 2))
    signed = [_signed_ranks(values[:, pair], ranks[:, pair]) for pair in pairs]
    tests = [_test_signs(*signs_and_ranks) for signs_and_ranks in signed]
    p_values = np.array([p for _, _, p in tests])
    mean_ranks = ranks.mean(axis=0).tolist()
    rows: list[tuple[Any, ...]] = []
    for i, ((a, b), p_holm) in enumerate(zip(pairs, holm(p_values).tolist(), strict=True)):
        (above, below, p), signs = tests[i], signed[i][0]
        decided = p_holm <= LEVEL
        verdict = ("better" if above > below else "worse") if decided else "undecided"
        reason = _describe_counts(signs) if decided else _explain_undecided(signs, np.delete(p_values, i))
        rows.append((names[a], names[b], verdict, p, p_holm, mean_ranks[a] - mean_ranks[b], reason))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _describe_counts(signs: Floats) -> str:
    better, worse = int((signs > 0).sum()), int((signs < 0).sum())
    equal = len(signs) - better - worse
    return f"better on {better}, worse on {worse}, equal on {equal} of {len(signs)} datasets"


def _explain_undecided(signs: Floats, other_p_values: Floats) -> str:
    """Return why a pair is undecided, given the p-values of the other pairs."""
    n, pairs = len(signs), len(other_p_values) + 1
    if n < (needed := count_needed_datasets(pairs)):
        what = "1 pair" if pairs == 1 else f"{pairs} pairs"
        return f"{n} datasets cannot decide it: at least {needed} are needed for {what}"
    num_different = int(np.count_nonzero(signs))
    smallest = min(1.0, 2.0 ** (1 - num_different))
    if holm([smallest, *other_p_values])[0] > LEVEL:
        count = f"only {num_different}" if num_different else "none"
        return f"{_FEW_DIFFERENCES} {count} of {n} datasets: p cannot be below {smallest:.3g}"
    return _describe_counts(signs)


def _find_cliques(names: Sequence[str], verdicts: pd.DataFrame) -> list[list[str]]:
    """Return the largest sets of two or more activations without a decided pair."""
    import networkx

    undecided = verdicts[verdicts["verdict"] == "undecided"]
    graph = networkx.Graph(zip(undecided["a"], undecided["b"], strict=True))
    order = {name: i for i, name in enumerate(names)}
    cliques = sorted(sorted(map(order.__getitem__, clique)) for clique in networkx.find_cliques(graph))
    return [[names[i] for i in clique] for clique in cliques]


def _describe_leader(ranks: pd.DataFrame, n: int, over: str) -> str:
    first = ranks["mean_rank"][0]
    leaders = ranks[ranks["mean_rank"] == first]
    names = join_names(leaders["activation"].to_list(), _MAX_NAMES)
    best = f"Best mean rank: {names}, {first:.2f} over {n} {over}"
    if len(leaders) > 1:
        return f"{best}, shared."
    return f"{best}; it is the sole best on {leaders['wins'].iloc[0]}."


def _describe_friedman(result: MultiDatasetResult, n: int, k: int, noun: str) -> str:
    conclusion = f"the {noun}s differ" if result.p_value <= LEVEL else "no significant difference"
    statistic = f"F({k - 1}, {(k - 1) * (n - 1)}) = {result.statistic:.3g}"
    if math.isinf(result.statistic):
        statistic = f"all {result.over} rank them in the same order"
    return f"Friedman's test of all {noun}s: {conclusion} ({statistic}, {_format_p(result.p_value)})."


def _describe_pairs(result: MultiDatasetResult, n: int, noun: str) -> list[str]:
    pairs = result.verdicts
    if n < (needed := count_needed_datasets(len(pairs))):
        what = "the pair" if len(pairs) == 1 else f"any of {len(pairs)} pairs"
        reason = f"{n} {result.over} cannot decide {what}: at least {needed} are needed"
        return [f"{reason}. The order is not a verdict."]
    decided = pairs[pairs["verdict"] != "undecided"]
    sentences = [*_describe_wins(decided), *_describe_agreement(result, len(decided), noun)]
    if result.cliques:
        cliques = "; ".join(join_names(clique) for clique in result.cliques)
        sentences.append(f"No significant difference: {cliques}. This does not show that they are equal.")
    few = pairs[pairs["reason"].str.startswith(_FEW_DIFFERENCES)]
    sentences += [f"{row.a} and {row.b}: {row.reason}." for row in few[:_MAX_NAMES].itertuples()]
    if (rest := len(few) - _MAX_NAMES) > 0:
        sentences.append(f"The same holds for {rest} more pair{'s' * (rest > 1)}.")
    return sentences


def _describe_wins(decided: pd.DataFrame) -> list[str]:
    """Return a sentence for each activation that is better than others, with corrected p-values."""
    beaten: dict[str, list[str]] = {}
    for row in decided.to_dict("records"):
        winner, loser = (row["a"], row["b"]) if row["verdict"] == "better" else (row["b"], row["a"])
        beaten.setdefault(winner, []).append(f"{loser} ({_format_p(row['p_holm'])})")
    return [f"{winner} is better than {join_names(losers)}." for winner, losers in beaten.items()]


def _describe_agreement(result: MultiDatasetResult, num_decided: int, noun: str) -> list[str]:
    """Return a sentence if the tests of pairs decide nothing, or if Friedman's test disagrees with them."""
    if len(result.ranks) == 2:
        if num_decided:
            return []
        return [f"Wilcoxon's test shows no significant difference ({_format_p(result.p_value)})."]
    if not num_decided:
        unknown = f", so it is unknown which {noun}s differ" if result.p_value <= LEVEL else ""
        return [f"Wilcoxon's tests with Holm's correction do not decide any pair{unknown}."]
    if result.p_value > LEVEL:
        return ["Friedman's test is not significant; each verdict on a pair comes from its own test."]
    return []


def _describe_failures(scores: pd.DataFrame, over: str) -> list[str]:
    sentences = []
    for name in scores.columns:
        failed = scores.index[scores[name].isna()].to_list()
        if failed:
            where = f"{len(failed)} of {len(scores)} {over} ({join_names(failed, _MAX_NAMES)})"
            sentences.append(
                f"{name} failed on {where}: it is ranked last there, with the largest difference."
            )
    return sentences


def _format_p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"

"""Activations over many datasets: which are better, and what so few datasets cannot tell.

After J. Demšar: a dataset gives each activation a rank, and Friedman's test asks whether the mean ranks
differ at all. Which ones differ is asked of each pair by itself, with Wilcoxon's signed-rank test and Holm's
correction, as A. Benavoli and others advise: with mean ranks it would depend on who else is in the table.
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

from actlab.errors import UsageError
from actlab.stats.verdict import LEVEL, Floats, holm

_CLOSE = 1e-11  # of a score: less is rounding, as a mean over folds has it; a tie shall be one
_FEW = "they differ on"
_MOST = 5  # names in a sentence
_COLUMNS = ["a", "b", "verdict", "p", "p_holm", "mean_rank_difference", "reason"]


@dataclass(frozen=True)
class Demsar:
    """What is known of activations that were compared over datasets.

    Attributes:
        scores: What was given: a row per dataset, a column per activation, NaN where it failed.
        ranks: Best first: ``activation``, ``mean_rank`` (1 is best), ``wins``: the number of datasets on
            which it is the single best.
        statistic: Iman and Davenport's F of Friedman's test; infinite where all datasets rank alike. Of two
            activations, Wilcoxon's T, the smaller of the two sums of ranks. NaN of one.
        p_value: Of no difference at all, by ``statistic``; NaN of one activation.
        chi_square: Friedman's own statistic, corrected for ties; NaN of fewer than three activations.
        chi_square_p_value: Its p-value.
        verdicts: One row per pair, in the order of ``ranks``: ``a``, ``b``; ``verdict``: a is ``"better"``
            or ``"worse"`` than b, or it is ``"undecided"``; ``p`` of Wilcoxon's test, two-sided and exact;
            ``p_holm``, corrected for the number of pairs; ``mean_rank_difference``, a's less b's, negative
            where a is ahead; ``reason``, in words.
        cliques: Largest sets of activations none of which is told apart from another, two or more, in the
            order of ``ranks``. They overlap where "not told apart" does not carry on: a and b, b and c, but
            a is better than c.
    """

    scores: pd.DataFrame
    ranks: pd.DataFrame
    statistic: float
    p_value: float
    chi_square: float
    chi_square_p_value: float
    verdicts: pd.DataFrame
    cliques: list[list[str]]

    def sentences(self) -> list[str]:
        """Say what is known, and what is not.

        Returns:
            Sentences on the best mean rank, on Friedman's test, on the pairs that are decided, on those that
            are not and why, and on activations that failed.
        """
        n, k = self.scores.shape
        if k == 1:
            return [f"{self.ranks['activation'][0]} is the only activation: there are no pairs to compare."]
        if self.scores.isna().all(axis=None):
            return [f"No activation has a score: all {k} failed on all {n} datasets."]
        return [
            _leader(self.ranks, n),
            *([] if k == 2 else [_friedman_sentence(self, n, k)]),
            *_pair_sentences(self, n),
            *_failures(self.scores),
        ]


def over_datasets(scores: pd.DataFrame) -> Demsar:
    """Compare activations over datasets.

    Ranks: on each dataset the best score has rank 1, equal ones share the mean of their ranks. Scores that
    differ by rounding alone are equal. Friedman's chi-square of k activations on N datasets has the
    correction for ties, and Iman and Davenport's statistic is::

        F = (N - 1) chi2 / (N (k - 1) - chi2)

    with k - 1 and (k - 1)(N - 1) degrees of freedom. Where all datasets rank alike F is infinite, and its
    p-value is the exact one, the chance that all the other datasets arrange the ranks as the first does.

    Pairs: the differences d of two columns are ranked by abs(d), ties averaged, and T is the smaller of the
    sums of ranks with d > 0 and with d < 0; the ranks of d = 0 are split evenly between them. The p-value is
    exact for any N, with ties too: the share of all ways of giving signs to the differences other than 0
    that are as far from balance. So it supposes that d is symmetrical about 0 where there is no difference,
    and that a difference on one dataset is comparable with that on another.

    A failure takes the last rank, shared with other failures. In a pair it is a difference larger than any
    of two scores, as large as other failures, and none where both failed. Only the order of abs(d) counts
    in Wilcoxon's test, so no penalty has to be invented, and its p-value is as exact as without failures.
    Leaving such datasets out instead would reward an activation for failing where it would have lost.

    Verdicts: ``p_holm`` is at most 5 %. The probability of any wrong verdict is then at most 5 %, whichever
    activations are equal: Holm's correction alone sees to that. Friedman's test is reported and gates
    nothing, for a gate would add no protection, and would make what is said of two activations depend on
    the others. The two may disagree; :meth:`Demsar.sentences` says so.

    Args:
        scores: Mean scores, one row per dataset (its name is the index) and one column per activation;
            larger is better, in any unit; NaN where the activation failed.

    Returns:
        Ranks, tests, verdicts and cliques.

    Raises:
        UsageError: There are fewer than two datasets or no activations, a name is there twice, or a score
            is not a finite number.

    Examples:
        >>> relu, tanh = [0.97, 0.88, 0.91, 0.84, 0.79, 0.93], [0.95, 0.87, 0.88, 0.80, 0.72, 0.87]
        >>> found = over_datasets(pd.DataFrame({"relu": relu, "tanh": tanh}, index=list("uvwxyz")))
        >>> for sentence in found.sentences():
        ...     print(sentence)
        Best mean rank: relu, 1.00 over 6 datasets; it is the single best on 6.
        relu is better than tanh (p = 0.0312).

    References:
        J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006).

        A. Benavoli, G. Corani, F. Mangili, "Should we really use post-hoc tests based on mean-ranks?",
        JMLR 17 (2016).

        R. L. Iman, J. M. Davenport, "Approximations of the critical region of the Friedman statistic",
        Communications in Statistics A 9 (1980).
    """
    scores = _checked(scores)
    values = scores.to_numpy()
    ranks = np.array([_ranks(-np.nan_to_num(row, nan=-np.inf), np.nan_to_num(abs(row))) for row in values])
    order = np.argsort(ranks.sum(axis=0), kind="stable")  # sums of halves are exact, equal ones stay equal
    names = [str(scores.columns[place]) for place in order]
    values, ranks = values[:, order], ranks[:, order]
    mean_ranks = ranks.mean(axis=0)
    best = (ranks == 1).sum(axis=0)
    table = pd.DataFrame({"activation": names, "mean_rank": mean_ranks, "wins": best})
    verdicts = _verdicts(names, values, ranks)
    return Demsar(scores, table, *_overall(values, ranks), verdicts, _cliques(names, verdicts))


def datasets_needed(pairs: int) -> int:
    """Return the least number of datasets that can decide any of so many pairs.

    The smallest p-value of Wilcoxon's test over N datasets is 2^(1 - N), and Holm's correction takes it
    times the number of pairs.

    Args:
        pairs: The number of pairs, an integer of 1 or more.

    Returns:
        The least N with 2^(1 - N) * pairs <= 0.05.

    Raises:
        UsageError: ``pairs`` is not an integer of at least 1.

    Examples:
        >>> [datasets_needed(pairs) for pairs in (1, 3, 6, 10, 105)]
        [6, 7, 8, 9, 13]
    """
    if not 1 <= pairs < math.inf or pairs != int(pairs):
        raise UsageError(f"pairs must be an integer >= 1, got {pairs}")
    return 1 + math.ceil(math.log2(pairs / LEVEL))


def _checked(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores as float64 with names of text, or raise UsageError."""
    datasets, activations = [list(map(str, names)) for names in (scores.index, scores.columns)]
    if not activations:
        raise UsageError("the scores have no columns; there should be one per activation")
    if len(datasets) < 2:
        given = f"only {datasets[0]!r}" if datasets else "none"
        raise UsageError(f"datasets: {given}; verdicts need two or more, never over folds of one dataset")
    for what, names in (("dataset", datasets), ("activation", activations)):
        if twice := [name for place, name in enumerate(names) if name in names[:place]]:
            raise UsageError(
                f"{what} {twice[0]!r} is there twice; give one mean score of each on each dataset"
            )
    try:
        values = scores.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a score is not a number ({error}); it should be, or NaN for a failure") from error
    for row, column in np.argwhere(np.isinf(values)):
        where = f"{activations[column]} on {datasets[row]}"
        raise UsageError(
            f"the score of {where} is {values[row, column]}; should be finite, NaN for a failure"
        )
    return pd.DataFrame(values, index=datasets, columns=activations)


def _ranks(sizes: Floats, scales: Floats) -> Floats:
    """Return ranks from the smallest on; ties are averaged, also of what rounding at a scale tells apart."""
    order = np.argsort(sizes)
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # two infinities: a tie; no tie beyond the largest float
        apart = np.diff(sizes[order]) > _CLOSE * np.maximum(scales[order][1:], scales[order][:-1])
    groups = np.empty(len(sizes))
    groups[order] = np.concatenate([[0], np.cumsum(apart)])
    return stats.rankdata(groups)


def _overall(values: Floats, ranks: Floats) -> tuple[float, float, float, float]:
    """Return the statistic and p-value of no difference at all, then Friedman's own."""
    if ranks.shape[1] > 2:
        return _friedman(ranks)
    if ranks.shape[1] == 1:
        return (math.nan,) * 4
    above, below, p = _wilcoxon(*_signed_ranks(values, ranks))
    return min(above, below), p, math.nan, math.nan


def _friedman(ranks: Floats) -> tuple[float, float, float, float]:
    n, k = ranks.shape
    centred = ranks - (k + 1) / 2
    between, total = float(np.square(centred.sum(axis=0)).sum()), float(np.square(centred).sum())
    if not between:  # equal mean ranks, which all ties give too
        return 0.0, 1.0, 0.0, 1.0
    chi_square = (k - 1) * between / total
    chi_square_p = float(special.chdtrc(k - 1, chi_square))
    if between == n * total:  # both are exact: sums of quarters
        _, ties = np.unique(ranks[0], return_counts=True)
        arrangements = special.gammaln(k + 1) - special.gammaln(ties + 1).sum()
        return math.inf, math.exp(-(n - 1) * arrangements), chi_square, chi_square_p
    f = (n - 1) * between / (n * total - between)
    return f, float(special.fdtrc(k - 1, (k - 1) * (n - 1), f)), chi_square, chi_square_p


def _signed_ranks(values: Floats, ranks: Floats) -> tuple[Floats, Floats]:
    """Return who is better on each dataset, and the rank of the difference, for two columns."""
    signs = np.sign(ranks[:, 1] - ranks[:, 0])
    halves = values / 2  # whose differences do not overflow
    sizes = np.nan_to_num(np.abs(halves[:, 0] - halves[:, 1]), nan=np.inf)  # one failed, or both
    return signs, _ranks(np.where(signs == 0, 0, sizes), np.nan_to_num(np.abs(halves)).max(axis=1))


def _wilcoxon(signs: Floats, ranks: Floats) -> tuple[float, float, float]:
    """Return the sums of ranks of differences above and below 0, and the exact two-sided p-value."""
    above, below, equal = (float(ranks[signs == sign].sum()) for sign in (1, -1, 0))
    # chances[s]: the probability that fair coins give one side ranks whose sum is s / 2.
    chances = np.ones(1)
    for step in np.rint(2 * ranks[signs != 0]).astype(int):
        chances = (np.pad(chances, (0, step)) + np.pad(chances, (step, 0))) / 2
    p = min(1.0, 2 * float(chances[round(2 * max(above, below)) :].sum()))
    return above + equal / 2, below + equal / 2, p


def _verdicts(names: Sequence[str], values: Floats, ranks: Floats) -> pd.DataFrame:
    pairs = list(itertools.combinations(range(len(names)), 2))
    signed = [_signed_ranks(values[:, pair], ranks[:, pair]) for pair in pairs]
    tests = [_wilcoxon(*both) for both in signed]
    p_values = np.array([p for _, _, p in tests])
    mean_ranks = ranks.mean(axis=0).tolist()
    rows: list[tuple[Any, ...]] = []
    for place, ((a, b), p_holm) in enumerate(zip(pairs, holm(p_values).tolist(), strict=True)):
        (above, below, p), signs = tests[place], signed[place][0]
        decided = p_holm <= LEVEL
        word = ("better" if above > below else "worse") if decided else "undecided"
        reason = _tally(signs) if decided else _doubt(signs, np.delete(p_values, place))
        rows.append((names[a], names[b], word, p, p_holm, mean_ranks[a] - mean_ranks[b], reason))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _tally(signs: Floats) -> str:
    better, worse = int((signs > 0).sum()), int((signs < 0).sum())
    equal = len(signs) - better - worse
    return f"better on {better}, worse on {worse}, equal on {equal} of {len(signs)} datasets"


def _doubt(signs: Floats, others: Floats) -> str:
    """Say why a pair is undecided, given the p-values of the other pairs."""
    n, pairs = len(signs), len(others) + 1
    if n < (needed := datasets_needed(pairs)):
        what = "1 pair" if pairs == 1 else f"{pairs} pairs"
        return f"{n} datasets cannot decide it: at least {needed} are needed for {what}"
    differ = int(np.count_nonzero(signs))
    least = min(1.0, 2.0 ** (1 - differ))
    if holm([least, *others])[0] > LEVEL:
        return (
            f"{_FEW} {f'only {differ}' if differ else 'none'} of {n} datasets: p cannot be below {least:.3g}"
        )
    return _tally(signs)


def _cliques(names: Sequence[str], verdicts: pd.DataFrame) -> list[list[str]]:
    """Return the largest sets that are not told apart, by the algorithm of Bron and Kerbosch."""
    near: list[set[int]] = [set() for _ in names]
    place = {name: i for i, name in enumerate(names)}
    for row in verdicts[verdicts["verdict"] == "undecided"].itertuples():
        a, b = place[str(row.a)], place[str(row.b)]
        near[a].add(b)
        near[b].add(a)
    found: list[list[int]] = []

    def grow(clique: list[int], more: set[int], done: set[int]) -> None:
        if not more and not done and len(clique) > 1:
            found.append(sorted(clique))
        pivot = near[max(more | done, key=lambda i: len(near[i] & more))] if more else set()
        for i in sorted(more - pivot):
            grow([*clique, i], more & near[i], done & near[i])
            more, done = more - {i}, done | {i}

    grow([], set(range(len(names))), set())
    return [[names[i] for i in clique] for clique in sorted(found)]


def _leader(ranks: pd.DataFrame, n: int) -> str:
    first = ranks["mean_rank"][0]
    leaders = ranks[ranks["mean_rank"] == first]
    best = f"Best mean rank: {_listed(leaders['activation'].to_list())}, {first:.2f} over {n} datasets"
    if len(leaders) > 1:
        return f"{best}: they share it."
    return f"{best}; it is the single best on {leaders['wins'].iloc[0]}."


def _friedman_sentence(found: Demsar, n: int, k: int) -> str:
    says = "not all activations are alike" if found.p_value <= LEVEL else "no difference is shown"
    seen = f"F({k - 1}, {(k - 1) * (n - 1)}) = {found.statistic:.3g}"
    if math.isinf(found.statistic):
        seen = "all datasets rank them alike"
    return f"Friedman's test of all of them: {says} ({seen}, {_p_text(found.p_value)})."


def _pair_sentences(found: Demsar, n: int) -> list[str]:
    pairs = found.verdicts
    if n < (needed := datasets_needed(len(pairs))):
        what = "the pair" if len(pairs) == 1 else f"any of {len(pairs)} pairs"
        return [f"{n} datasets cannot decide {what}: at least {needed} are needed. The order is no verdict."]
    decided = pairs[pairs["verdict"] != "undecided"]
    said = [*_wins(decided), *_agreement(found, len(decided))]
    if found.cliques:
        cliques = "; ".join(_listed(clique, len(clique)) for clique in found.cliques)
        said.append(f"Not told apart: {cliques}. That does not show them to be equal.")
    few = pairs[pairs["reason"].str.startswith(_FEW)]
    said += [f"{row.a} and {row.b}: {row.reason}." for row in few[:_MOST].itertuples()]
    if (rest := len(few) - _MOST) > 0:
        said.append(f"So it is with {rest} more of the pairs.")
    return said


def _wins(decided: pd.DataFrame) -> list[str]:
    """Return a sentence for each activation that is better than others, with p-values after Holm."""
    beaten: dict[str, list[str]] = {}
    for row in decided.to_dict("records"):
        winner, loser = (row["a"], row["b"]) if row["verdict"] == "better" else (row["b"], row["a"])
        beaten.setdefault(winner, []).append(f"{loser} ({_p_text(row['p_holm'])})")
    return [f"{winner} is better than {_listed(losers, len(losers))}." for winner, losers in beaten.items()]


def _agreement(found: Demsar, decided: int) -> list[str]:
    """Say what Friedman's test and the tests of pairs are to each other."""
    if len(found.ranks) == 2:
        return [] if decided else [f"No difference is shown by Wilcoxon's test ({_p_text(found.p_value)})."]
    if not decided:
        which = ": which ones differ is not known" if found.p_value <= LEVEL else ""
        return [f"No pair is decided by Wilcoxon's tests with Holm's correction{which}."]
    if found.p_value > LEVEL:
        return ["Friedman's test does not show it; the pairs stand by their own tests."]
    return []


def _failures(scores: pd.DataFrame) -> list[str]:
    said = []
    for name in scores.columns:
        lost = scores.index[scores[name].isna()].to_list()
        if lost:
            where = f"{len(lost)} of {len(scores)} datasets ({_listed(lost)})"
            said.append(
                f"{name} failed on {where}: there it has the last rank and loses by more than any score."
            )
    return said


def _listed(names: Sequence[str], most: int = _MOST) -> str:
    """Return "a, b and c", or so many names and how many more there are."""
    shown = list(names[:most]) + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _p_text(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"

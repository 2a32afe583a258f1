"""Find out how the runs of a table belong together, and choose the analysis."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from actlab.errors import UsageError, did_you_mean, join_names
from actlab.judging.table import RunTable

ANALYSES = {
    "corrected-t": "the corrected resampled t-test (Nadeau and Bengio, 2003)",
    "mixed": "a model of the variances of splits and of seeds (Bouthillier et al., 2021)",
    "crossed": "a model of the variances of seeds and of test samples",
    "paired-t": "the paired t-test",
    "welch": "Welch's t-test",
    "permutation": "a permutation test",
    "demsar": "Wilcoxon's signed-rank test over datasets (Demšar, 2006; Benavoli et al., 2016)",
}


@dataclass(frozen=True)
class Design:
    """How runs belong together.

    Attributes:
        kind: ``"folds"``, ``"folds and seeds"``, ``"seeds"``, ``"samples"``, ``"unpaired"`` or
            ``"datasets"``.
        analysis: The name of the analysis, in ``ANALYSES``.
        num_folds: The number of folds of a split; 0 without folds.
        test_share: The share of test samples of a split; None if the number of folds determines it.
        sentences: The design that was found, and the analysis that was chosen and why, in sentences.
    """

    kind: str
    analysis: str
    num_folds: int
    test_share: float | None
    sentences: tuple[str, ...]


def find_design(table: RunTable, analysis: str | None, test_share: float | None) -> Design:
    """Return the design of a table.

    Args:
        table: The runs.
        analysis: The analysis to use; None to choose it.
        test_share: The share of test samples, for splits that are not folds.

    Raises:
        UsageError: There is no such analysis, or the analysis or the share does not fit the table.
    """
    if analysis is not None and analysis not in ANALYSES:
        hint = did_you_mean(analysis, ANALYSES)
        raise UsageError(f"analysis must be one of {', '.join(ANALYSES)}, got {analysis!r}{hint}")
    if test_share is not None and not 0 < test_share < 1:
        raise UsageError(f"test_share must be between 0 and 1, got {test_share}")
    kind, folds, found = _recognize(table)
    if kind == "samples" and (table.folds or table.repeats):
        raise UsageError(
            "outcomes on samples in several folds cannot be judged; average them to one score per fold"
        )
    chosen = analysis or _CHOICES[kind]
    if problem := _find_problem(kind, chosen):
        raise UsageError(f"analysis {chosen!r} does not fit this table: {problem}")
    if test_share is not None and not (table.folds or table.repeats):
        raise UsageError("test_share (--test-share) is for splits, but this table has no folds or splits")
    sentence = f"Analysis: {ANALYSES[chosen]}"
    because = f"because {_REASONS[kind].format(keys=join_names(table.keys))}"
    reason = f", {because}" if chosen == _CHOICES[kind] else ", as requested"
    warning = _find_warning(kind, chosen)
    direction = [f"Lower values of {table.score} are better."] if table.lower_is_better else []
    return Design(kind, chosen, folds, test_share, (*found, *direction, f"{sentence}{reason}.", *warning))


_CHOICES = {
    "folds": "corrected-t",
    "folds and seeds": "mixed",
    "seeds": "paired-t",
    "samples": "crossed",
    "unpaired": "welch",
    "datasets": "demsar",
}
_REASONS = {
    "folds": "the training sets of folds overlap",
    "folds and seeds": "the training sets of folds overlap and a fold has several runs",
    "seeds": "runs with equal {keys} form a pair",
    "samples": "there is an outcome for each seed and test sample",
    "unpaired": "nothing links a run of one method to a run of another",
    "datasets": "the table has several datasets",
}


def _recognize(table: RunTable) -> tuple[str, int, list[str]]:
    frame = table.frame
    runs = f"{len(frame):,} runs of {len(table.methods)} methods"
    if len(table.datasets) > 1:
        return "datasets", 0, [f"Design: {runs} on {len(table.datasets)} datasets."]
    if table.samples:
        samples = len(frame[list(table.samples)].drop_duplicates())
        outcomes = f"{len(frame):,} outcomes of {len(table.methods)} methods"
        return "samples", 0, [f"Design: {outcomes} on {samples:,} test samples."]
    if table.folds or table.repeats:
        cells = len(frame[[*table.repeats, *table.folds]].drop_duplicates())
        pairs = f"{cells} pair{'s' * (cells > 1)}"
        folds = len(frame[list(table.folds)].drop_duplicates()) if table.folds else 0
        per_cell = frame.groupby(["method", *table.repeats, *table.folds], sort=False).size()
        counts = " to ".join(map(str, dict.fromkeys([int(per_cell.min()), int(per_cell.max())])))
        each = f" with {counts} runs each" if per_cell.max() > 1 else ""
        kind = "folds and seeds" if per_cell.max() > 1 else "folds"
        what = f"{pairs} of training and test sets{each}"
        return kind, folds, [f"Design: {runs}, paired by {join_names(table.keys)}; {what}."]
    if table.seeds:
        common = _count_common(frame, table.keys)
        return (
            "seeds",
            0,
            [f"Design: {runs}, paired by {join_names(table.keys)}; {common} are common to all methods."],
        )
    return "unpaired", 0, [f"Design: {runs}, not paired."]


def _count_common(frame: pd.DataFrame, keys: list[str]) -> int:
    counts = frame.groupby(keys, sort=False)["method"].nunique()
    return int((counts == frame["method"].nunique()).sum())


def _find_problem(kind: str, analysis: str) -> str:
    if analysis == "demsar" and kind != "datasets":
        return "there is one dataset; pass dataset= (--dataset)"
    if kind == "datasets" and analysis != "demsar":
        return "it has several datasets; judge each alone, or use 'demsar'"
    if analysis in ("corrected-t", "mixed") and not kind.startswith("folds"):
        return "it has no folds"
    if analysis == "crossed" and kind != "samples":
        return "it has no outcomes on test samples"
    return "runs are not paired" if analysis == "paired-t" and kind == "unpaired" else ""


def _find_warning(kind: str, analysis: str) -> list[str]:
    if kind.startswith("folds") and analysis in ("paired-t", "welch", "permutation"):
        return ["This analysis treats folds as independent, so it reports too many differences."]
    return []

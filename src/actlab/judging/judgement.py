"""Judge which of several methods is better, from a table with one row per run."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from actlab._version import __version__
from actlab.errors import UsageError, did_you_mean
from actlab.judging.design import ANALYSES, Design, find_design
from actlab.judging.pairs import describe_unmatched, judge_pairs, list_pairs, summarize_pairs
from actlab.judging.sources import RunSource, read_runs
from actlab.judging.table import RunTable, make_run_table
from actlab.judging.verdict_tables import (
    describe_each,
    describe_failures,
    make_verdict_table,
    rank_methods,
    sort_ranking,
)
from actlab.report.paper_tables import format_latex, format_markdown
from actlab.report.sentences import describe_comparison, name_subject
from actlab.report.tables import format_table, to_json_rows
from actlab.report.wrapping import wrap_sentences
from actlab.stats.posterior import LEVEL, Floats
from actlab.stats.robust import compute_profile, estimate_improvement, summarize_over_datasets
from actlab.stats.several_datasets import MultiDatasetResult, compare_over_datasets
from actlab.stats.verdict import judge_summaries

_RESAMPLED = 2000  # pairs times datasets, up to which probabilities of improvement have intervals
_THRESHOLDS = 101  # of a performance profile
_MINIMUM = 0.001  # half the width of the default region of practical equivalence, for scores from 0 to 1


@dataclass(frozen=True, repr=False)
class Judgement:
    """The verdicts on the methods of a table.

    Attributes:
        runs: One row per run: ``method``, ``dataset`` if there are several, the columns by which runs are
            paired, ``score`` (as given) and ``failure`` (why a run has no score).
        verdicts: One row per pair, as in :attr:`actlab.Comparison.verdicts`. Over several datasets: ``a``,
            ``b``, ``verdict``, ``p``, ``p_holm``, ``mean_rank_difference``, ``reason``, and ``wins``, the
            probability that a run of ``a`` is better than one of ``b`` on the same dataset, with its
            bootstrap interval from ``wins_low`` to ``wins_high``.
        ranking: One row per method, the best first: ``rank``, ``method``, ``mean``, ``std`` over the runs
            (``ddof=0``), ``runs`` and ``status``. Over several datasets: ``method``, ``mean_rank``,
            ``wins`` and the robust summaries of :class:`actlab.stats.RobustSummary`.
        design: How the runs belong together, and the analysis.
        about: The name of the ``metric``, the ``region`` of practical equivalence (half its width), the
            ``level``, the ``data``, and whether the verdicts are ``sequential``.
        datasets: With several datasets: the test over datasets.
        on_each: With several datasets: the verdicts on each of them. The columns are ``dataset`` and those of
            :attr:`actlab.Comparison.verdicts`; ``p_holm`` is corrected for all pairs on all datasets. Empty
            if no pair has enough runs, and with the analysis ``"demsar"``.
    """

    runs: pd.DataFrame
    verdicts: pd.DataFrame
    ranking: pd.DataFrame
    design: Design
    about: Mapping[str, Any] = field(default_factory=dict)
    datasets: MultiDatasetResult | None = None
    on_each: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __repr__(self) -> str:
        return "\n".join([format_table(self.ranking), "", *wrap_sentences(self.sentences())])

    def sentences(self) -> list[str]:
        """Return the result in sentences: design, analysis, and the verdict on each pair."""
        found = [*self.design.sentences, *self.about["notes"]]
        if self.datasets is not None:
            summaries = _describe_summaries(self.ranking, self.about, self.datasets.over)
            return [*self.datasets.sentences(name_subject(self.about)), *summaries, *found]
        return [*describe_comparison(self._make_page(self.about)), *found]  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Return ranking, verdicts, design and sentences as plain values."""
        return {
            "design": {"kind": self.design.kind, "analysis": self.design.analysis},
            "ranking": to_json_rows(self.ranking),
            "verdicts": to_json_rows(self.verdicts),
            **({} if self.on_each.empty else {"on_each": to_json_rows(self.on_each)}),
            "sentences": self.sentences(),
            "about": {key: None if value != value else value for key, value in self.about.items()},
        }

    def to_markdown(self, table: str = "ranking") -> str:
        """Return a table as Markdown, like :meth:`actlab.Comparison.to_markdown`.

        Args:
            table: ``"ranking"`` or ``"verdicts"``.
        """
        return format_markdown(self.to_page(), table)  # type: ignore[arg-type]

    def to_latex(self, table: str = "ranking") -> str:
        """Return a table as a LaTeX float, like :meth:`actlab.Comparison.to_latex`.

        Args:
            table: ``"ranking"`` or ``"verdicts"``.
        """
        return format_latex(self.to_page(), table)  # type: ignore[arg-type]

    def report(self, path: str | Path) -> Path:
        """Write the report page: one HTML file that makes no network request.

        Args:
            path: The file. It is written completely or not at all.

        Returns:
            The file.

        Raises:
            ImportError: Jinja is not installed; the message explains how to install it.
            UsageError: The file cannot be written.
        """
        from actlab.report.html.page import write_report

        write_report(self.to_page(), Path(path))  # type: ignore[arg-type]
        return Path(path)

    def to_page(self) -> SimpleNamespace:
        """Return the tables with the names and columns of an :class:`actlab.Comparison`."""
        about = {**self.about, "sentences": self.sentences()}
        if self.datasets is not None:
            about["over"] = self.datasets.over
        if self.datasets is not None and len(self.ranking) > 1:
            from actlab.report.plots.critical_difference import render_critical_difference

            about["diagram"] = render_critical_difference(self.datasets)
        return self._make_page(about)

    def _make_page(self, about: Mapping[str, Any]) -> SimpleNamespace:
        empty, over = pd.DataFrame(), self.datasets.over if self.datasets else "datasets"
        return SimpleNamespace(
            results=self.runs.rename(columns={"method": "activation", "dataset": over.removesuffix("s")}),
            verdicts=self.verdicts,
            ranking=self.ranking.rename(columns={"method": "activation"}),
            **dict.fromkeys(("history", "tuning", "diagnostics", "parameters", "curves", "costs"), empty),
            as_given=None,
            about=about,
        )


def judge(
    runs: RunSource,
    *,
    score: str | None = None,
    method: str | None = None,
    pair: str | Sequence[str] | None = None,
    dataset: str | None = None,
    lower_is_better: bool | None = None,
    rope: float | None = None,
    level: float = LEVEL,
    baseline: str | None = None,
    test_share: float | None = None,
    sequential: bool = False,
    analysis: str | None = None,
) -> Judgement:
    """Judge which of several methods is better.

    The design is inferred from the columns: paired by fold or seed, unpaired, with outcomes on test samples,
    or over several datasets. :meth:`Judgement.sentences` reports it, and the analysis that follows from it.

    Args:
        runs: One row per run, as a DataFrame, a list of dictionaries, ``cv_results_`` of a scikit-learn
            search, or a source such as ``"runs.csv"``; see :func:`actlab.judging.sources.read_runs`.
        score: The column of scores (default: the only numeric column without another role).
        method: The column of methods (default: ``method``, ``model``, ``algorithm``, ``activation``, ...).
        pair: The columns whose values two paired runs share, such as ``["seed", "fold"]`` or
            ``"seed,fold"`` (default: columns called ``seed``, ``fold``, ``repeat``, ...). If empty, runs are
            not paired.
        dataset: The column of datasets (default: ``dataset``, ``task``, ... if it has at least two values).
            If empty, the table has one dataset.
        lower_is_better: Whether a smaller score is better, as for a loss (default: the direction of an Optuna
            study; False for other scores, unless their name contains a word such as ``loss``, ``rmse`` or
            ``seconds``: those need a value).
        rope: Half the width of the region of practical equivalence, in units of the score (default: 0.001 for
            scores from 0 to 1 where greater is better; otherwise 0, because the unit is unknown).
        level: The allowed probability of a wrong verdict.
        baseline: Judge only the pairs with this method. Holm's correction then counts fewer pairs.
        test_share: The share of test samples in a split, 0 to 1, for splits that are not folds.
        sequential: Whether the verdicts stay valid if the table is judged again after every new run. The runs
            must be unpaired, or paired by seed only.
        analysis: ``"corrected-t"``, ``"mixed"``, ``"crossed"``, ``"paired-t"``, ``"welch"``,
            ``"permutation"`` or ``"demsar"`` (default: the one that fits the design). ``"demsar"`` omits the
            verdicts on each dataset.

    Returns:
        Verdicts, ranking and design.

    Raises:
        UsageError: The table cannot be judged; the message explains why.

    Examples:
        >>> seeds = [0, 1, 2, 3, 4]
        >>> rows = [{"method": "a", "seed": s, "accuracy": 0.90 + 0.001 * s} for s in seeds]
        >>> rows += [{"method": "b", "seed": s, "accuracy": 0.88 + 0.002 * s} for s in seeds]
        >>> judgement = judge(rows)
        >>> judgement.verdicts[["a", "b", "verdict"]].to_numpy().tolist()
        [['a', 'b', 'better']]
    """
    frame, name = read_runs(runs)
    table = make_run_table(
        frame, score=score, method=method, pair=pair, dataset=dataset, lower_is_better=lower_is_better
    )
    baseline = None if baseline is None else " ".join(str(baseline).split())
    _check_settings(table, baseline, rope)
    given = {
        "score": score,
        "method": method,
        "pair": pair,
        "dataset": dataset,
        "lower_is_better": lower_is_better,
        "rope": rope,
        "level": None if level == LEVEL else level,
        "baseline": baseline,
        "test_share": test_share,
        "sequential": sequential or None,
        "analysis": analysis,
    }
    design = find_design(table, analysis, test_share)
    about = {
        "actlab": __version__,
        "kind": "judgement",
        "data": name,
        "metric": table.score,
        "lower_is_better": table.lower_is_better,
        "level": level,
        "sequential": sequential,
        "unpaired": design.kind == "unpaired" or design.analysis == "welch",
        "analysis": ANALYSES[design.analysis].removeprefix("the ").removeprefix("a "),
        "tuned": [],
        "trained": len(table.frame),
        "notes": list(table.notes),
        "command": _format_call(runs, given),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if design.kind == "datasets":
        for name in ("rope", "level", "baseline", "sequential"):
            if given[name] is not None:
                raise UsageError(f"{name} is not available over several datasets; judge the rows of one")
        judgement = _judge_datasets(table, design, about)
        if analysis is None:
            judgement = _judge_each(judgement, table, test_share)
    elif sequential and design.analysis not in ("paired-t", "welch"):
        raise UsageError(
            f"sequential (--sequential, --watch) needs independent runs, got the design {design.kind!r} with "
            f"the analysis {design.analysis!r}; pair runs by seed only"
        )
    else:
        judgement = _judge_runs(table, design, about, rope, baseline)
    if not table.lower_is_better:
        return judgement
    runs, ranking = judgement.runs, judgement.ranking  # with the scores as they were given
    return dataclasses.replace(
        judgement, runs=runs.assign(score=-runs["score"]), ranking=ranking.assign(mean=-ranking["mean"])
    )


def _format_call(runs: Any, given: Mapping[str, Any]) -> str:
    source = repr(str(runs)) if isinstance(runs, str | Path) else "runs"
    options = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    return f"actlab.judge({', '.join([source, *options])})"


def _check_settings(table: RunTable, baseline: str | None, rope: float | None) -> None:
    if baseline is not None and baseline not in table.methods:
        hint = did_you_mean(baseline, table.methods)
        methods = ", ".join(table.methods[:8])
        raise UsageError(f"baseline must be one of the methods, got {baseline!r}{hint}; they are {methods}")
    if rope is not None and not 0 <= rope < math.inf:
        raise UsageError(f"rope must be a finite number >= 0, got {rope}")
    if len(table.methods) < 2:
        raise UsageError(f"there is one method, {table.methods[0]}; a verdict needs two")


def _judge_runs(
    table: RunTable, design: Design, about: dict[str, Any], rope: float | None, baseline: str | None
) -> Judgement:
    level, sequential = about["level"], about["sequential"]
    scores = table.frame["score"].to_numpy(np.float64)
    region, region_is, points = _choose_region(scores, rope, about["lower_is_better"])
    about |= {"region": region, "region_is": region_is, "points": points}
    pairs = list_pairs(table.methods, baseline)
    judged = judge_pairs(table, design, pairs, region=region, level=level, sequential=sequential)
    if not about["unpaired"]:
        about["notes"] += describe_unmatched(table, pairs)
    if sequential:
        about["notes"].append("p-values and intervals stay valid if the table is judged after every new run.")
    verdicts = make_verdict_table(judged.verdicts, level, judged.reasons, {})
    hidden = int(((verdicts["verdict"] == "equivalent") & (verdicts["p_holm"] <= level)).sum())
    if hidden and rope is None:
        about["notes"].append(
            f"Significant, but practically equivalent: {hidden} of {len(pairs)} pairs. Pass rope= (--rope) "
            f"if differences below {region:.3g} matter."
        )
    ranking = sort_ranking(_rank(table, verdicts))
    return Judgement(table.frame.drop(columns="dataset"), verdicts, ranking, design, about)


def _rank(table: RunTable, verdicts: pd.DataFrame) -> pd.DataFrame:
    by_method = {str(name): rows for name, rows in table.frame.groupby("method", sort=False)}
    status = {}
    for name, rows in by_method.items():
        failures = rows[rows["score"].isna()]["failure"].to_list()
        status[name] = describe_failures(failures, len(rows)), not failures
    return rank_methods({n: rows["score"] for n, rows in by_method.items()}, status, verdicts, "method")


def _judge_datasets(table: RunTable, design: Design, about: dict[str, Any]) -> Judgement:
    frame = table.frame
    means = frame.groupby(["dataset", "method"], sort=False)["score"].agg(lambda s: s.mean(skipna=False))
    scores = means.unstack().reindex(index=table.datasets, columns=table.methods)
    missing = int(scores.isna().sum().sum()) - int(means.isna().sum())
    if missing:
        have = "has" if missing == 1 else "have"
        about["notes"].append(
            f"{missing} of {scores.size} combinations of method and dataset {have} no run, which counts as a "
            "failure."
        )
    result = compare_over_datasets(scores)
    sign = -1 if about["lower_is_better"] else 1
    runs = {
        str(name): {str(d): rows["score"].to_numpy(np.float64) for d, rows in own.groupby("dataset")}
        for name, own in frame.groupby("method", sort=False)
    }
    robust = summarize_over_datasets({n: [sign * one for one in own.values()] for n, own in runs.items()})
    ranks = result.ranks.rename(columns={"activation": "method"})
    ranking = _rank(table, result.verdicts).merge(ranks, on="method")
    ranking = ranking.merge(pd.DataFrame(map(vars, robust)), on="method")
    ranking = ranking.sort_values("mean_rank", kind="stable", ignore_index=True)
    about["points"] = _choose_region(frame["score"].to_numpy(np.float64), None, about["lower_is_better"])[2]
    about["profiles"] = _make_profiles(runs, sign)
    return Judgement(frame, _add_wins(result.verdicts, runs), ranking, design, about, result)


def _judge_each(judgement: Judgement, table: RunTable, test_share: float | None) -> Judgement:
    """Add the verdicts on each dataset, corrected for all pairs on all datasets."""
    scores = table.frame["score"].to_numpy(np.float64)
    region, *_ = _choose_region(scores, None, judgement.about["lower_is_better"])
    parts = {
        name: dataclasses.replace(table, frame=table.frame[table.frame["dataset"] == name])
        for name in table.datasets
    }
    pairs = {name: list_pairs(part.methods, None) for name, part in parts.items()}
    try:
        designs = {name: find_design(part, None, test_share) for name, part in parts.items()}
    except UsageError:  # outcomes on samples in several folds
        return judgement
    found = {name: summarize_pairs(part, designs[name], pairs[name]) for name, part in parts.items()}
    judged = iter(judge_summaries([one for own, _ in found.values() for one in own.values()], region))
    tables = {}
    for name, (own, reasons) in found.items():
        verdicts = {**dict.fromkeys(pairs[name]), **{pair: next(judged) for pair in own}}
        tables[name] = make_verdict_table(verdicts, LEVEL, reasons, {})
    count = sum(len(own) for own, _ in found.values())
    if not count:  # one run of each method on each dataset
        return judgement
    lead = f"Verdicts on each dataset alone, corrected for {count} pairs on {len(tables)} datasets (Holm):"
    sentences = (lead, *describe_each(tables), *judgement.design.sentences)
    return dataclasses.replace(
        judgement,
        design=dataclasses.replace(judgement.design, sentences=sentences),
        on_each=pd.concat(tables, names=["dataset"]).reset_index("dataset").reset_index(drop=True),
    )


def _add_wins(verdicts: pd.DataFrame, runs: Mapping[str, Mapping[str, Floats]]) -> pd.DataFrame:
    """Return verdicts with the probability that a run of the first is better than one of the second."""
    rows, resample = [], len(verdicts) * max(map(len, runs.values())) <= _RESAMPLED
    for a, b in verdicts[["a", "b"]].to_numpy():
        common = [name for name in runs[a] if name in runs[b]]
        one, other = ([runs[name][dataset] for dataset in common] for name in (a, b))
        finite = common and all(np.isfinite(scores).all() for scores in (*one, *other))
        rows.append(estimate_improvement(one, other, resample) if finite else (math.nan,) * 3)
    columns = ["wins", "wins_low", "wins_high"]
    return pd.concat([verdicts, pd.DataFrame(rows, columns=columns, index=verdicts.index)], axis=1)


def _make_profiles(runs: Mapping[str, Mapping[str, Floats]], sign: int) -> list[dict[str, Any]]:
    """Return the performance profile of each method, as far as it has scores."""
    finite = np.concatenate([scores for own in runs.values() for scores in own.values()])
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return []
    thresholds = np.linspace(finite.min(), finite.max(), _THRESHOLDS)
    profiles = []
    for name, own in runs.items():
        scores = [np.nan_to_num(one, nan=-np.inf) for one in own.values()]
        shares = compute_profile(scores, thresholds)
        line = {"threshold": (sign * thresholds)[::sign].tolist(), "share": shares[::sign].tolist()}
        profiles.append({"method": name, **line})
    return profiles


def _describe_summaries(ranking: pd.DataFrame, about: Mapping[str, Any], over: str) -> list[str]:
    """Return sentences on the interquartile means, and when to read which summary."""
    if ranking["iqm"].isna().all():
        return []
    noun = name_subject(about)
    what, choose = ("Lowest", np.nanargmin) if about["lower_is_better"] else ("Highest", np.nanargmax)
    best = ranking.iloc[int(choose(ranking["iqm"]))]
    interval = f" (95 % interval {best['iqm_low']:.4g} to {best['iqm_high']:.4g})"
    article = "an" if noun[0] in "aeiou" else "a"
    if best["iqm_low"] == best["iqm_high"]:  # one run on each dataset cannot be resampled
        interval = ""
    return [
        f"{what} interquartile mean: {best['method']} {best['iqm']:.4g}{interval}.",
        f"Mean ranks show on how many {over} {article} {noun} is ahead, and interquartile means by how much.",
    ]


def _choose_region(scores: Any, rope: float | None, lower_is_better: bool) -> tuple[float, str, bool]:
    """Return half the width of the region, its source, and whether scores are shares."""
    finite = scores[np.isfinite(scores)]
    is_share = bool(finite.size and finite.min() >= 0 and finite.max() <= 1 and not lower_is_better)
    if rope is not None:
        return rope, "as given", is_share
    return (_MINIMUM, "the default", True) if is_share else (0.0, "", False)

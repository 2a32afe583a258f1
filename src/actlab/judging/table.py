"""A table with one row per run, checked and with known columns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actlab.data.table_files import MISSING, find_line
from actlab.errors import UsageError, did_you_mean, escape_unprintable
from actlab.judging.sources import DIRECTIONS, FILE
from actlab.stats.posterior import Floats

METHODS = ("method", "model", "algorithm", "activation", "estimator", "optimizer", "variant", "name")
FOLDS = ("fold", "cv", "cv_fold", "split_id", "k")
REPEATS = ("repeat", "repetition", "split", "shuffle", "resample")
SEEDS = ("seed", "random_seed", "random_state", "rng", "run", "trial", "replicate")
SAMPLES = ("sample", "example", "sample_id", "example_id", "row_id", "instance")
DATASETS = ("dataset", "task", "data", "env", "environment", "game", "benchmark", "problem")
STEPS = ("step", "_step", "global_step", "epoch")
_PREFIX = re.compile(r"(config|params|hparams)[./]")  # of settings, in JSON files and in exports of trackers
_RESERVED = ("method", "dataset", "score", "score_b", "failure", "activation")  # names of other columns
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ERRORS = {
    *("loss", "losses", "logloss", "error", "errors", "err", "rmse", "rmsle", "mse", "mae", "mape", "nll"),
    *("perplexity", "ppl", "wer", "cer", "regret", "deviance"),
}
_TIMES = {"time", "runtime", "duration", "second", "seconds", "latency"}
_DECIMALS = 6  # scores with more are not rounded
_EXACT = 15  # digits of a float
_LARGEST = 1e150  # whose square is finite
_SHOWN = 3


@dataclass(frozen=True)
class RunTable:
    """The runs of several methods.

    Attributes:
        frame: One row per run: ``method``, ``dataset`` (empty if there is one), the key columns, ``score``
            (greater is better; NaN for a run without one) and ``failure`` (why it has none).
        folds: Key columns that name a fold.
        repeats: Key columns that name a split of the samples into folds.
        seeds: Key columns that name a seed.
        samples: Key columns that name a test sample.
        score: The name of the score.
        lower_is_better: Whether a smaller score is better in the source.
        step: The smallest change of a score: 10^-k if scores are rounded to k decimals, else 0.
        notes: Sentences on the table.
    """

    frame: pd.DataFrame
    folds: tuple[str, ...]
    repeats: tuple[str, ...]
    seeds: tuple[str, ...]
    samples: tuple[str, ...]
    score: str
    lower_is_better: bool
    step: float
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> list[str]:
        """The key columns; runs of two methods with equal keys are a pair."""
        return [*self.repeats, *self.folds, *self.seeds, *self.samples]

    @property
    def methods(self) -> list[str]:
        """The methods, in the order of the table."""
        return self.frame["method"].unique().tolist()

    @property
    def datasets(self) -> list[str]:
        """The datasets, in the order of the table."""
        return self.frame["dataset"].unique().tolist()


def make_run_table(
    table: pd.DataFrame,
    *,
    score: str | None,
    method: str | None,
    pair: str | Sequence[str] | None,
    dataset: str | None,
    lower_is_better: bool | None,
) -> RunTable:
    """Check a table and name its columns.

    Args:
        table: One row per run.
        score: The column of scores; None if only one column is possible.
        method: The column of methods; None for the first one called ``method``, ``model``, ...
        pair: The columns whose values two paired runs share, as a sequence or separated by commas; empty if
            runs are not paired; None for the columns called ``fold``, ``seed``, ... in which two methods
            share a value.
        dataset: The column of datasets; None for a column called ``dataset``, ``task``, ... with at least
            two values; empty for one dataset.
        lower_is_better: Whether a smaller score is better, as for a loss; None for what the source records,
            else False.

    Returns:
        The runs.

    Raises:
        UsageError: A column is missing, a value cannot be judged, or the name of the score suggests that
            smaller is better and ``lower_is_better`` is None.
    """
    if table.empty:
        raise UsageError("the table has no rows; it needs one row per run")
    table = table.set_axis(list(map(str, table.columns)), axis=1)
    method, score, dataset = (None if name is None else str(name) for name in (method, score, dataset))
    if twice := [name for name in table.columns if list(table.columns).count(name) > 1]:
        raise UsageError(f"the table has two columns named {twice[0]!r}; rename one")
    method = _choose_column(table, method, METHODS, "method")
    keys = _choose_keys(table, pair, {method, score, dataset})
    if dataset is None:
        dataset = next((name for name in _find(table, DATASETS) if table[name].nunique() > 1), None)
        dataset = None if dataset in (method, *keys) else dataset
    elif dataset := dataset.strip() or None:
        _require_column(table, dataset, "dataset")
    others = {method, dataset, *keys}
    score = _choose_score(table, score, others)
    _require_distinct(method, dataset, score, keys)
    frame = pd.DataFrame({"method": _name_values(table[method], method)})
    frame["dataset"] = "" if dataset is None else _name_values(table[dataset], dataset)
    for key in keys:
        frame[key] = _read_key(table[key], key).to_numpy()
    _require_unique(frame, keys, table[_find(table, STEPS)])
    unshared = _find_unshared(frame, keys) if pair is None else []
    keys = [key for key in keys if key not in unshared]
    frame = frame.drop(columns=unshared)
    scores = _read_scores(table, score)
    if lower_is_better is None:
        lower_is_better = table.attrs.get(DIRECTIONS, {}).get(score)
    if lower_is_better is None:
        _require_no_error(score)
        lower_is_better = False
    frame["score"] = np.where(np.isfinite(scores), -scores if lower_is_better else scores, math.nan)
    step = _find_step(scores)
    frame["failure"] = pd.Series(scores).map(_FAILURES).fillna("").to_numpy()
    _require_one_unit(frame, score, lower_is_better)
    named = {kind: tuple(key for key in keys if _is_called(key, names)) for kind, names in _KINDS.items()}
    known = {key for part in named.values() for key in part}
    seeds = (*named["seeds"], *(key for key in keys if key not in known))
    return RunTable(
        frame,
        named["folds"],
        named["repeats"],
        seeds,
        named["samples"],
        score,
        lower_is_better,
        step,
        (
            *_describe_missing(frame),
            *_describe_names(frame),
            *([] if step else _describe_copies(frame)),  # rounded scores are often equal
            *(f"Column {name!r} does not pair runs: no two methods share a value." for name in unshared),
            *(_describe_unused(table, method, {score, *others, *unshared}) if pair is None else ()),
        ),
    )


_KINDS = {"folds": FOLDS, "repeats": REPEATS, "seeds": SEEDS, "samples": SAMPLES}


# -- columns --------------------------------------------------------------------------------------


def _find(table: pd.DataFrame, names: Iterable[str]) -> list[str]:
    by_name: dict[str, str] = {}
    for name in sorted(table.columns, key=lambda name: bool(_PREFIX.match(name.lower()))):  # with prefix last
        by_name.setdefault(_simplify(name), name)
    return [by_name[name] for name in names if name in by_name]


def _is_called(column: str, names: Iterable[str]) -> bool:
    return _simplify(column) in names


def _simplify(column: str) -> str:
    return re.sub(r"[\s-]+", "_", _PREFIX.sub("", column.strip().lower(), count=1))


def _require_column(table: pd.DataFrame, name: str, what: str) -> None:
    if name not in table:
        columns = ", ".join(map(repr, table.columns[:12]))
        if not name.strip():
            raise UsageError(f"{what} (--{what}) is empty; it must be one of the columns {columns}")
        hint = did_you_mean(name, table.columns)
        raise UsageError(f"the table has no column {name!r} for {what}{hint}; it has {columns}")


def _choose_column(table: pd.DataFrame, name: str | None, usual: Sequence[str], what: str) -> str:
    if name is not None:
        _require_column(table, name, what)
        return name
    if found := _find(table, usual):
        return found[0]
    columns = ", ".join(map(repr, table.columns[:12]))
    raise UsageError(f"which column names the method? Pass method= (--method); the table has {columns}")


def _choose_keys(table: pd.DataFrame, pair: str | Sequence[str] | None, taken: set[str | None]) -> list[str]:
    if pair is not None:
        names = pair.split(",") if isinstance(pair, str) else map(str, pair)
        pair = list(dict.fromkeys(name.strip() for name in names if name.strip()))
        for name in pair:
            _require_column(table, name, "pair")
        return pair
    found = _find(table, [*REPEATS, *FOLDS, *SEEDS, *SAMPLES])
    return [name for name in found if name not in taken and not table[name].isna().all()]


def _find_unshared(frame: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Return the keys that only name runs: no two methods share a value, and the other keys suffice."""
    unshared = [key for key in keys if frame.groupby(key, sort=False)["method"].nunique().max() < 2]
    rest = [key for key in keys if key not in unshared]
    if frame["method"].nunique() < 2 or (rest and frame.duplicated(["method", "dataset", *rest]).any()):
        return []
    return unshared


def _require_distinct(method: str, dataset: str | None, score: str, keys: Sequence[str]) -> None:
    roles = [("method", method), ("dataset", dataset), ("score", score), *(("pair", key) for key in keys)]
    for i, (role, name) in enumerate(roles):
        for other, same in roles[:i]:
            if name is not None and name == same:
                raise UsageError(f"column {name!r} cannot be both {other} and {role}")
    if reserved := [key for key in keys if key in _RESERVED]:
        raise UsageError(f"a column of pair (--pair) cannot be called {reserved[0]!r}; rename it")


def _choose_score(table: pd.DataFrame, score: str | None, others: set[str | None]) -> str:
    if score is not None:
        _require_column(table, score, "score")
        return score
    others = {*others, *_find(table, [*REPEATS, *FOLDS, *SEEDS, *SAMPLES, *STEPS])}
    numbers = [name for name in table.columns if name not in others and _has_numbers(table[name])]
    if len(numbers) == 1:
        return str(numbers[0])
    columns = ", ".join(map(repr, (numbers or list(table.columns))[:12]))
    what = "the columns of numbers are" if numbers else "no other column has only numbers; the table has"
    raise UsageError(f"which column is the score? Pass score= (--score); {what} {columns}")


def _has_numbers(column: pd.Series[Any]) -> bool:
    """Whether a column has numbers, or would have numbers without the text in some cells."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    numbers, wrong = _parse_numbers(column)
    has_text = (numbers.isna() & column.notna()).any()  # otherwise the numbers are text in the source itself
    return bool(has_text and numbers.notna().sum() > wrong.sum())


def _require_no_error(score: str) -> None:
    words = [word.lower() for word in _WORD.findall(score)]
    if "neg" in words or words[:1] == ["negative"]:
        return
    for names, what in ((_ERRORS, "an error"), (_TIMES, "a time")):
        if not names.isdisjoint(words):
            raise UsageError(
                f"{score!r} looks like {what}: pass lower_is_better=True (--lower-is-better), or False "
                "(--no-lower-is-better)"
            )


# -- values ---------------------------------------------------------------------------------------


_FAILURES = {math.nan: "no score", math.inf: "the score is inf", -math.inf: "the score is -inf"}


def _name_values(column: pd.Series[Any], name: str) -> Any:
    values = _list_values(column, name)
    if any(value is None or value != value or not str(value).strip() for value in values):
        raise UsageError(f"column {name!r} has an empty cell: each run needs one")
    names = {value: escape_unprintable(" ".join(str(value).split())) for value in values}
    return column.map(names).to_numpy(object)


def _list_values(column: pd.Series[Any], name: str) -> Any:
    try:
        return column.unique()
    except TypeError as error:
        raise UsageError(f"column {name!r} has lists or objects: it needs text or numbers") from error


def _read_key(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Return the values that link runs; numbers that are stored as text are equal to numbers."""
    if pd.isna(_list_values(column, name)).any():
        raise UsageError(
            f"column {name!r} has an empty cell: each run needs one, or omit it from pair= (--pair)"
        )
    if pd.api.types.is_numeric_dtype(column):
        return column
    text = column.astype(str)
    numbers = pd.to_numeric(text, errors="coerce")
    is_exact = numbers.notna().all() and text.str.len().max() <= _EXACT
    return numbers if is_exact else column


def _parse_numbers(column: pd.Series[Any]) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """Return the numbers of a column, NaN for other cells, and which cells have other text."""
    text = column.astype(str).str.strip()
    missing = column.isna() | text.str.lower().isin(MISSING)
    numbers = pd.to_numeric(text.where(~missing), errors="coerce").astype(np.float64)
    return numbers, numbers.isna() & ~missing


def _read_scores(table: pd.DataFrame, name: str) -> Floats:
    column = table[name]
    if pd.api.types.is_bool_dtype(column):
        column = column.astype(float)
    if pd.api.types.is_complex_dtype(column):
        raise UsageError(f"column {name!r} has complex numbers: scores must be real")
    if pd.api.types.is_numeric_dtype(column):
        return _require_range(np.asarray(column.to_numpy(np.float64, na_value=math.nan)), name)
    numbers, wrong = _parse_numbers(column)
    if wrong.any():
        value = str(column[wrong].iloc[0])
        row = int(np.flatnonzero(wrong)[0])
        file = table.attrs.get(FILE)
        line = find_line(Path(file), row, len(table)) if file else None
        where = f"line {line} of {file}" if line else f"row {row + 1}"
        hint = "scores must be numbers; leave the cell empty for a failed run"
        if re.search(r"±|\+/-|\+-", value):
            hint = (
                "means and standard deviations cannot be judged without the number of runs, and cannot be "
                "paired; judge the runs themselves"
            )
        elif value.strip().endswith("%"):
            hint = "remove the percent signs"
        raise UsageError(f"column {name!r} has text, {value!r} in {where}: {hint}")
    return _require_range(np.asarray(numbers, np.float64), name)


def _require_range(scores: Floats, name: str) -> Floats:
    largest = np.abs(scores[np.isfinite(scores)]).max(initial=0)
    if largest and not 1 / _LARGEST < largest < _LARGEST:
        raise UsageError(
            f"column {name!r} has {largest:g}: scores must be 1e-150 to 1e150 in size; use another unit"
        )
    return scores


def _require_one_unit(frame: pd.DataFrame, score: str, lower_is_better: bool) -> None:
    """Refuse a table in which some methods have percentages and others shares."""
    if lower_is_better:
        return
    for _, rows in frame.groupby("dataset", sort=False):
        ends = rows.groupby("method")["score"].agg(["min", "max"]).dropna()
        shares = ends[(ends["min"] >= 0) & (ends["max"] <= 1) & (ends["max"] > 0.02)]
        percent = ends[(ends["min"] > 1.5) & (ends["max"] <= 100)]
        if len(shares) and len(percent) and 20 < percent["max"].max() / shares["max"].max() < 500:
            one, other = shares.index[0], percent.index[0]
            raise UsageError(
                f"column {score!r} mixes shares and percentages: {one} has at most "
                f"{ends.loc[one, 'max']:g} and {other} at least {ends.loc[other, 'min']:g}; use one unit"
            )


def _require_unique(frame: pd.DataFrame, keys: Sequence[str], steps: pd.DataFrame) -> None:
    """Refuse a log with several steps of a run, and several runs of a method with equal keys."""
    for name in [] if keys else steps:
        if count := _count_shared(steps[name], frame["method"]):
            raise UsageError(
                f"each method has rows with the same {count} values of {name!r}: keep one row per run, such "
                "as the last"
            )
    if not keys:
        return
    if time := [key for key in keys if key in steps]:
        raise UsageError(
            f"pair (--pair) cannot contain {time[0]!r}: the steps of a run are not independent; "
            "keep one row per run, such as its last step"
        )
    columns = ["method", "dataset", *keys]
    if (twice := frame.duplicated(columns)).any():
        row = frame[twice].iloc[0]
        shown = ", ".join(f"{key}={row[key]}" for key in keys)
        where = f" on {row['dataset']}" if row["dataset"] else ""
        count = int(frame.duplicated(columns, keep=False).sum())
        if len(steps.columns):
            raise UsageError(
                f"{row['method']}{where} has several rows with {shown} ({count} such rows): keep "
                f"one row per run, such as its last {steps.columns[0]!r}"
            )
        raise UsageError(
            f"{row['method']}{where} has several runs with {shown} ({count} such rows in the table); add the "
            "column that distinguishes them to pair= (--pair) or dataset= (--dataset), or pass no columns if "
            "runs are not paired"
        )


def _find_step(scores: Floats) -> float:
    finite = scores[np.isfinite(scores)]
    error = 1e-12 * np.abs(finite).max(initial=0)
    for decimals in range(_DECIMALS + 1):
        if np.allclose(finite, np.round(finite, decimals), rtol=0, atol=error):
            return float(10.0**-decimals)
    return 0.0


def _describe_missing(frame: pd.DataFrame) -> list[str]:
    failed = frame[frame["failure"] != ""]
    if failed.empty:
        return []
    counts = failed["method"].value_counts(sort=False)
    shown = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more methods" if len(counts) > _SHOWN else ""
    have = "has" if len(failed) == 1 else "have"
    return [f"{len(failed)} of {len(frame)} runs {have} no finite score: {shown}{more}."]


def _describe_copies(frame: pd.DataFrame) -> list[str]:
    """Return sentences on methods whose runs all have the same score."""
    own = frame.groupby(["dataset", "method"], sort=False)["score"].agg(["min", "max", "count"])
    same = own[(own["min"] == own["max"]) & (own["count"] > 2)]
    return [
        f"All {count} runs of {name}{f' on {dataset}' if dataset else ''} have the same score: check whether "
        "they are copies of one run."
        for dataset, name, count in same["count"].head(_SHOWN).reset_index().to_numpy()
    ]


def _describe_unused(table: pd.DataFrame, method: str, used: set[str | None]) -> list[str]:
    """Return sentences on columns that could link the runs of methods."""
    sentences = []
    for name in table.columns:
        if name in used or pd.api.types.is_float_dtype(table[name]):
            continue
        if count := _count_shared(table[name], table[method]):
            sentences.append(
                f"Column {name!r} has the same {count} values for each method, but is not used: if they are "
                "datasets, pass dataset= (--dataset); if they link runs, pair= (--pair)."
            )
    return sentences[:_SHOWN]


def _count_shared(column: pd.Series[Any], methods: pd.Series[Any]) -> int:
    """Return the number of values of a column; 0 if a method lacks one, or if there is one value."""
    values = column.astype(str)
    count = int(values.nunique())
    return count if count > 1 and (values.groupby(methods.to_numpy()).nunique() == count).all() else 0


def _describe_names(frame: pd.DataFrame) -> list[str]:
    by_case: dict[str, list[str]] = {}
    for name in frame["method"].unique():
        by_case.setdefault(re.sub(r"[\s_-]+", "", name.casefold()), []).append(name)
    same = [" and ".join(map(repr, names)) for names in by_case.values() if len(names) > 1]
    return [f"{names} count as different methods; rename them if they are one." for names in same[:_SHOWN]]

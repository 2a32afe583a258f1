"""The experiment: the same net with each activation, on the same folds."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from actlab._books import LedgerLike, bookkeeping
from actlab._errors import UsageError
from actlab._spec import parse
from actlab.data import Dataset, load_data
from actlab.fleet.conduct import engine, training
from actlab.fleet.run import Result, Run
from actlab.fleet.skorch_nets import read
from actlab.progress import watching
from actlab.training import (
    HISTORY_COLUMNS,
    TrainSettings,
    activation_problem,
    holdback_problem,
    holdout,
    make_net,
    raise_problems,
    whole_number_problem,
)


@dataclass(frozen=True)
class Comparison:
    """What came out of a comparison.

    Attributes:
        results: One row per run, in the order of activations and folds: ``activation``, ``fold`` (from 1),
            ``seed``, ``accuracy`` (0 to 1) and ``loss`` (mean cross-entropy in nats) on the rows of the
            fold, ``epochs`` trained, ``seconds`` (its share of the time its fleet took), ``how`` it was
            trained, why it trained ``alone``, its ``failure``: why it has no accuracy, if it has none, and
            its ``key`` in the ledger, if there is one.
        history: One row per run and epoch: ``activation``, ``fold``, ``seed`` and the columns of
            :func:`~actlab.training.history_frame`.
        ranking: Best first: ``rank`` (1 is best, equal means share a rank), ``activation``, ``mean``,
            ``std`` (over folds, divided by their number), ``fold_1``, ``fold_2`` and so on. A fold in which
            the net diverged is NaN, and so are mean and standard deviation.
    """

    results: pd.DataFrame
    history: pd.DataFrame
    ranking: pd.DataFrame


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison: what has ended is here.

    Attributes:
        results: The rows of :attr:`Comparison.results` that are known.
        history: Their rows of :attr:`Comparison.history`.
    """

    def __init__(self, results: pd.DataFrame, history: pd.DataFrame, total: int, kept: bool) -> None:
        rest = "; started again, it goes on" if kept else ""
        super().__init__(f": {len(results)} of {total} nets were trained{rest}")
        self.results, self.history = results, history


def compare(
    activations: Sequence[str],
    data: Dataset | str | Path,
    *,
    folds: int = 3,
    seed: int = 0,
    jobs: int | None = None,
    epochs: int = 25,
    batch_size: int = 128,
    lr: float = 0.01,
    momentum: float = 0.95,
    num_units: int = 128,
    device: str = "cpu",
    precision: str = "float32",
    ledger: LedgerLike | None = None,
    executor: Executor | None = None,
    verbose: int = 0,
) -> Comparison:
    """Cross-validate the notebook's net with each activation, all nets trained as fleets.

    Every activation starts from the same weights and sees the same folds; ``jobs`` changes the time and
    nothing else.

    Args:
        activations: Specs such as ``"relu"`` or ``"leaky_relu(negative_slope=0.2)"``.
        data: A dataset, or what :func:`~actlab.data.load_data` takes.
        folds: Parts that the rows are split into, stratified by class, without shuffling.
        seed: Where the initial weights come from.
        jobs: Processes that train. None: as many as PyTorch would use threads, if that is worth it.
        epochs: Passes over the training rows.
        batch_size: Rows in a step.
        lr: Learning rate of SGD.
        momentum: Momentum of SGD.
        num_units: Width of the first hidden layer.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"float32"``, or ``"bf16"`` for matrix products of bfloat16 factors.
        ledger: A :class:`~actlab.ledger.Ledger` or its file. Runs that are in it are not trained again, and
            those that end are put into it.
        executor: Where nets are trained instead, any :class:`concurrent.futures.Executor`; ``jobs`` does
            nothing then.
        verbose: 0 for silence; 1 for progress on standard error, 2 for more of it.

    Returns:
        Results, histories and the ranking.

    Raises:
        UsageError: Something in the call is wrong; the message names everything that is.

    Examples:
        >>> comparison = compare(["relu", "tanh"], "digits", epochs=2)
        >>> comparison.ranking.columns.to_list()
        ['rank', 'activation', 'mean', 'std', 'fold_1', 'fold_2', 'fold_3']
    """
    settings = TrainSettings(epochs, batch_size, lr, momentum, seed, device, num_units, precision)
    dataset = data if isinstance(data, Dataset) else load_data(data)
    check_comparison(activations, dataset, settings, folds=folds, jobs=jobs)
    runs = _runs(activations, dataset, settings, folds)
    names = [activation for activation in activations for _ in range(folds)]
    results: dict[int, Result] = {}
    try:
        with (
            bookkeeping(ledger, runs, dataset.fingerprint) as books,
            watching(names, verbose) as watch,
            engine(executor, jobs, runs, dataset.X, apart=bool(books and books.abandoned)) as where,
        ):
            before = books.finished() if books else 0
            if before and verbose:
                print(f"actlab: {before} of {len(runs)} nets are from the ledger", file=sys.stderr)
            for place, result in training(
                runs, dataset.X, dataset.y, executor=where, watch=watch, books=books
            ):
                results[place] = dataclasses.replace(result, weights={})  # of a thousand nets, gigabytes
        if books and books.known > before and verbose:  # others have trained some meanwhile
            print(f"actlab: {books.known} of {len(runs)} nets are from the ledger", file=sys.stderr)
    except KeyboardInterrupt as interruption:
        if not results:
            raise
        done = [(names[place], runs[place], results[place]) for place in sorted(results)]
        raise Interrupted(_results(done), _history(done), len(runs), ledger is not None) from interruption
    done = [(names[place], runs[place], results[place]) for place in range(len(runs))]
    frame = _results(done)
    frame["key"] = books.keys if books else ""
    return Comparison(frame, _history(done), _ranking(frame))


def _runs(activations: Sequence[str], dataset: Dataset, settings: TrainSettings, folds: int) -> list[Run]:
    """Return the runs, fold after fold for each activation."""
    runs = []
    splits = list(StratifiedKFold(folds).split(dataset.X, dataset.y))
    for activation in activations:
        net = make_net(dataset, activation, settings)
        like = read(net, dataset.X, dataset.y)
        for fold, (train, test) in enumerate(splits):
            rows, valid = holdout(net, train, dataset, settings.seed, fold)
            own = {"rows": rows, "valid": valid, "test": test, "fold": fold}
            runs.append(dataclasses.replace(like, seed=settings.seed, precision=settings.precision, **own))
    return runs


def _results(done: Sequence[tuple[str, Run, Result]]) -> pd.DataFrame:
    rows = [
        {
            "activation": name,
            "fold": run.fold + 1,
            "seed": run.seed,
            # To guess one class, as a net does that diverged, is no result of an activation.
            "accuracy": math.nan if result.failure else result.test_acc,
            "loss": math.nan if result.failure else result.test_loss,
            "epochs": len(result.history),
            "seconds": result.seconds,
            "how": result.how,
            "alone": result.alone,
            "failure": result.failure,
        }
        for name, run, result in done
    ]
    return pd.DataFrame(rows)


def _history(done: Sequence[tuple[str, Run, Result]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"activation": name, "fold": run.fold + 1, "seed": run.seed, **{c: row[c] for c in HISTORY_COLUMNS}}
        for name, run, result in done
        for row in result.history
    )


def check_comparison(
    activations: Sequence[str],
    dataset: Dataset,
    settings: TrainSettings,
    *,
    folds: int,
    jobs: int | None,
) -> None:
    """Refuse, before any training, a comparison that cannot be made.

    Args:
        activations: As for :func:`compare`.
        dataset: What is to be learnt.
        settings: How to train.
        folds: As for :func:`compare`.
        jobs: As for :func:`compare`.

    Raises:
        UsageError: The message names all problems.
    """
    if isinstance(activations, str) or not all(isinstance(spec, str) for spec in activations):
        raise UsageError(f"activations is {activations!r}, not a list of specs such as ['relu', 'tanh']")
    problems = ["" if activations else "no activations are given; name at least one"]
    problems += [activation_problem(dataset, spec, settings) for spec in activations]
    if not any(problems):
        problems.append(_duplicate_problem(activations))
    problems += [_folds_problem(dataset, folds)]
    problems += [whole_number_problem("jobs", jobs, 1)] if jobs is not None else []
    raise_problems(problems)


def _duplicate_problem(activations: Sequence[str]) -> str:
    seen: list[Any] = []
    for spec in activations:
        # "relu" and "relu()" are one activation under two names.
        if (parsed := parse(spec)) in seen:
            return f"activation {spec!r} is given twice"
        seen.append(parsed)
    return ""


def _folds_problem(dataset: Dataset, folds: int) -> str:
    if problem := whole_number_problem("folds", folds, 2):
        return problem
    counts = np.bincount(dataset.y)
    smallest = int(counts.argmin())
    if folds > counts[smallest]:
        named = f"the smallest class of {dataset.name}, {dataset.classes[smallest]!r}"
        return f"folds is {folds}, but {named}, has {counts[smallest]} rows; each fold needs one"
    return holdback_problem(dataset.y, folds)


def cv_results(results: pd.DataFrame) -> pd.DataFrame:
    """Return results in the columns of scikit-learn's ``cv_results_``, one row per activation.

    Args:
        results: As in :attr:`Comparison.results`.

    Returns:
        Times in seconds, ``param_module__activation``, the accuracy on each fold ``split{i}_test_score``,
        ``mean_test_score``, ``std_test_score`` and ``rank_test_score``.
    """
    ranked = _ranking(results).set_index("activation").loc[results["activation"].unique()]
    seconds = results.groupby("activation", sort=False)["seconds"]
    folds = [name for name in ranked.columns if name.startswith("fold_")]
    table = {"mean_fit_time": seconds.mean(), "std_fit_time": seconds.std(ddof=0)}
    table["param_module__activation"] = pd.Series(ranked.index, ranked.index)
    table.update({f"split{place}_test_score": ranked[name] for place, name in enumerate(folds)})
    table["mean_test_score"], table["std_test_score"] = ranked["mean"], ranked["std"]
    table["rank_test_score"] = ranked["rank"]
    return pd.DataFrame(table).reset_index(drop=True)


def _ranking(results: pd.DataFrame) -> pd.DataFrame:
    table = results.pivot(index="activation", columns="fold", values="accuracy")
    table = table.loc[results["activation"].unique()]  # in the order given, which decides between equals
    folds = table.set_axis([f"fold_{fold}" for fold in table.columns], axis=1)
    short = pd.DataFrame(
        {
            "activation": table.index,
            "mean": table.mean(axis=1, skipna=False).to_numpy(),
            "std": table.std(axis=1, ddof=0, skipna=False).to_numpy(),
        }
    )
    # A net that diverged shares the last rank with its like.
    ranks = short["mean"].fillna(-math.inf).rank(ascending=False, method="min").astype(int)
    short.insert(0, "rank", ranks)
    short = pd.concat([short, folds.reset_index(drop=True)], axis=1)
    return short.sort_values("rank", kind="stable", ignore_index=True)

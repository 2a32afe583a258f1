"""The experiment: the same net with each activation, on the same folds."""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV

from actlab._errors import UsageError
from actlab._spec import parse
from actlab.data import Dataset, load_data
from actlab.training import (
    SeededNet,
    TrainSettings,
    activation_problem,
    holdback_problem,
    make_net,
    raise_problems,
    whole_number_problem,
)

Progress = Callable[[int, int], None]
_POLL = 0.5  # seconds between two looks at how many nets are done


@dataclass(frozen=True)
class Comparison:
    """What came out of a comparison.

    Attributes:
        results: scikit-learn's ``cv_results_``, one row per activation, in the order given: times in seconds,
            ``param_module__activation``, the accuracy (0 to 1) on each fold ``split{i}_test_score``,
            ``mean_test_score``, ``std_test_score``, ``rank_test_score``.
        ranking: The same in short, best first: ``rank`` (1 is best, equal means share a rank),
            ``activation``, ``mean``, ``std`` (over folds, divided by their number), ``fold_1``, ``fold_2``
            and so on. A fold in which the net diverged is NaN, and so are mean and standard deviation.
    """

    results: pd.DataFrame
    ranking: pd.DataFrame


def compare(
    activations: Sequence[str],
    data: Dataset | str | Path,
    *,
    folds: int = 3,
    seed: int = 0,
    jobs: int = 1,
    epochs: int = 25,
    batch_size: int = 128,
    lr: float = 0.01,
    momentum: float = 0.95,
    num_units: int = 128,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Comparison:
    """Cross-validate the notebook's net with each activation, through scikit-learn's GridSearchCV.

    Every net starts from the same seed and sees the same folds; ``jobs`` changes the time and nothing else.

    Args:
        activations: Specs such as ``"relu"`` or ``"leaky_relu(negative_slope=0.2)"``.
        data: A dataset, or what :func:`~actlab.data.load_data` takes.
        folds: Parts that the rows are split into, stratified by class, without shuffling.
        seed: Where the initial weights come from.
        jobs: Processes that train.
        epochs: Passes over the training rows.
        batch_size: Rows in a step.
        lr: Learning rate of SGD.
        momentum: Momentum of SGD.
        num_units: Width of the first hidden layer.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        progress: Called now and then with the number of nets trained and of all nets.

    Returns:
        Scores and ranking.

    Raises:
        UsageError: Something in the call is wrong; the message names everything that is.

    Examples:
        >>> comparison = compare(["relu", "tanh"], "digits", epochs=2)
        >>> comparison.ranking.columns.to_list()
        ['rank', 'activation', 'mean', 'std', 'fold_1', 'fold_2', 'fold_3']
    """
    settings = TrainSettings(epochs, batch_size, lr, momentum, seed, device, num_units)
    dataset = data if isinstance(data, Dataset) else load_data(data)
    check_comparison(activations, dataset, settings, folds=folds, jobs=jobs)
    net = make_net(dataset, activations[0], settings)
    grid = {"module__activation": list(activations)}
    with _counting(len(activations) * folds, progress) as scoring, warnings.catch_warnings():
        # A net that diverged has the score NaN; it is in the table for all to see.
        warnings.filterwarnings("ignore", message="One or more of the test scores are non-finite")
        search = GridSearchCV(
            net, grid, scoring=scoring, cv=folds, refit=False, n_jobs=jobs, error_score="raise"
        )
        search.fit(dataset.X, dataset.y)
    results = pd.DataFrame(search.cv_results_)
    results["param_module__activation"] = results["param_module__activation"].astype(str)
    return Comparison(results, _ranking(results, folds))


def check_comparison(
    activations: Sequence[str], dataset: Dataset, settings: TrainSettings, *, folds: int, jobs: int
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
    problems += [_folds_problem(dataset, folds), whole_number_problem("jobs", jobs, 1)]
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


def _ranking(results: pd.DataFrame, folds: int) -> pd.DataFrame:
    columns = {
        "rank_test_score": "rank",
        "param_module__activation": "activation",
        "mean_test_score": "mean",
        "std_test_score": "std",
        **{f"split{fold}_test_score": f"fold_{fold + 1}" for fold in range(folds)},
    }
    short = results[list(columns)].rename(columns=columns)
    return short.sort_values("rank", kind="stable", ignore_index=True)


def _score(net: SeededNet, X: npt.NDArray[np.float32], y: npt.NDArray[np.int64], *, done: Path) -> float:
    """Return the accuracy, NaN when the net diverged: to guess one class is no result of an activation."""
    with done.open("ab") as file:  # a byte per net; appending is safe from many processes
        file.write(b".")
    last = net.history[-1]
    if not (math.isfinite(last["train_loss"]) and math.isfinite(last["valid_loss"])):
        return math.nan
    return float(accuracy_score(y, net.predict(X)))


@contextlib.contextmanager
def _counting(total: int, progress: Progress | None) -> Iterator[Callable[..., float]]:
    """Yield the scorer; while the block runs, a thread tells ``progress`` how many nets were scored."""
    with tempfile.TemporaryDirectory(prefix="actlab-") as folder:
        done, finished = Path(folder, "done"), threading.Event()
        done.touch()

        def watch(tell: Progress) -> None:
            while not finished.wait(_POLL):
                tell(done.stat().st_size, total)

        watcher = threading.Thread(target=watch, args=(progress,), daemon=True) if progress else None
        if watcher:
            watcher.start()
        try:
            yield partial(_score, done=done)
        finally:
            finished.set()
            if watcher:
                watcher.join()

"""The nets of a search: trained as fleets, handed to scikit-learn one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skorch
import torch
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from torch.utils.data import DataLoader

from actlab.data.dataset import fingerprint_of
from actlab.errors import summarize_error
from actlab.execution.processes import workers
from actlab.execution.progress import show_progress
from actlab.execution.scheduler import choose_executor, iterate_results, train_runs
from actlab.fleet.run import Result, Rows, Run
from actlab.fleet.skorch_adapter import (
    NotFused,
    iterate_slices,
    read_run,
    restore_net,
    share_factory,
    split_validation,
)
from actlab.fleet.unfused import RunFailed, fit_with_skorch
from actlab.ledger.session import LedgerSession, open_session
from actlab.models.activation_arguments import ActivationArguments

log = logging.getLogger("actlab")
_COLUMNS = ["candidate", "fold", "seed", "how", "reason_alone", "failure", "seconds"]


class Broken(BaseException):
    """Fleets cannot be trained at all; scikit-learn must not take that for the failure of one net."""


@dataclass
class Task:
    """One net of the search: a run, or why it is none."""

    candidate: int
    fold: int
    seed: int
    run: Run | None = None
    result: Result | None = None
    reason_alone: str = ""


class Trainings:
    """All trainings of a search: begun when scikit-learn asks for the first, handed out in its order.

    scikit-learn scores the first nets when the last fleets leave a core to it. What is underway ends with
    the context.

    Args:
        search: The search, for its estimator, its grid and how it is to be trained.
        splits: Its folds and seeds, and the data, once scikit-learn has split them.
    """

    def __init__(self, search: Any, splits: Any) -> None:
        self.search, self.splits = search, splits
        self.candidates = list(ParameterGrid(search.param_grid))
        self.activations = ActivationArguments(self.candidates)
        self.tasks: list[Task] = []
        self.given = 0
        self.fused: list[Task] = []
        self.held: dict[Any, tuple[Rows, Rows | None]] = {}  # the rows of each fold, for all candidates
        self.coming: Iterator[tuple[int, Result]] = iter(())
        self.underway = contextlib.ExitStack()
        self.scoring: skorch.NeuralNet | None = None
        self.busy, self.unfinished = 1, 0  # processes that train, runs that have not ended

    def __enter__(self) -> Trainings:
        self.underway.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._scored()
        self.underway.__exit__(*error)

    def estimator(self) -> skorch.NeuralNet:
        """Return the search's net, in a class whose ``fit`` takes what is trained already."""
        net, take = clone(self.search.estimator), self._take
        kind = type(net)

        @functools.wraps(kind.fit)  # scikit-learn reads from the signature what can be routed to it
        def fit(self: Any, X: Any, y: Any = None, **fit_params: Any) -> Any:
            self.__class__ = kind  # a net like any other from now on
            return take(self, X, y, fit_params)

        net.__class__ = type(kind.__name__, (kind,), {"fit": fit, "__module__": kind.__module__})
        return net

    def table(self) -> pd.DataFrame:
        """Return one row per run that has ended."""
        rows = [
            {
                "candidate": task.candidate,
                "fold": task.fold,
                "seed": task.seed,
                "how": task.result.how,
                "reason_alone": task.reason_alone or task.result.reason_alone,
                "failure": task.result.failure,
                "seconds": task.result.seconds,
            }
            for task in self.tasks
            if task.result is not None
        ]
        return pd.DataFrame(rows, columns=_COLUMNS)

    def seconds(self) -> npt.NDArray[np.float64]:
        """Return the time that each training took, in scikit-learn's order."""
        return np.array([task.result.seconds if task.result else 0.0 for task in self.tasks])

    def _take(self, net: skorch.NeuralNet, X: Any, y: Any, fit_params: dict[str, Any]) -> skorch.NeuralNet:
        """Fit a net to the next split or, when all are given out, to everything."""
        self._scored()
        self.activations.adapt(net, self.splits.X, fit_params)
        if not self.tasks:
            self.tasks = self._planned(fit_params)
            self._begin()
        if self.given < len(self.tasks):
            task = self.tasks[self.given]
            self.given += 1
            self._await(task)
        else:
            like = self._like(net, X, y, fit_params)
            task = self._task(net, like, self._last(), slice(None), X, y)
            if task.run is not None:
                with _whole(), self._session([task.run], X, y) as session:
                    (task.result,) = train_runs([task.run], *_usual(X, y), session=session)
        if task.result is not None and not task.result.how and not task.result.died:
            # The fleet had to leave it: skorch can train it, or fails with an error of its own.
            task.run, task.reason_alone = None, task.result.failure or task.result.reason_alone
        if task.run is None:
            return self._alone(task, net, X, y, fit_params)
        assert task.result is not None
        if task.result.failure:
            raise RunFailed(task.result.failure)
        restore_net(net, task.run, task.result, X, y)
        if task.candidate >= 0:  # it will be scored next, and that takes longer than it need
            net.iterator_valid = iterate_slices
            self.scoring = net
        return net

    def _scored(self) -> None:
        """Give the net that was scored last its own way of batching back: a scorer may have kept it."""
        if self.scoring is not None:
            self.scoring.iterator_valid = DataLoader
            self.scoring = None

    def _last(self) -> Task:
        """Return the training on everything, which follows those of all folds."""
        return Task(-1, len(self.splits.folds), self.splits.seeds[0])

    def _planned(self, fit_params: dict[str, Any]) -> list[Task]:
        X, y = self.splits.X, self.splits.y
        tasks: list[Task] = []
        makers: list[Any] = []
        for number, parameters in enumerate(self.candidates):
            net = clone(self.search.estimator).set_params(**clone(parameters, safe=False))
            self.activations.adapt(net, X, fit_params)
            like = self._like(net, X, y, fit_params)
            if isinstance(like, Run):
                like = share_factory(like, makers)
            for seed in self.splits.seeds:
                for fold, (rows, _) in enumerate(self.splits.folds):
                    tasks.append(self._task(net, like, Task(number, fold, seed), rows, X, y))
        return tasks

    def _like(self, net: skorch.NeuralNet, X: Any, y: Any, fit_params: dict[str, Any]) -> Run | str:
        """Return the run that a net makes of any rows, or why it makes none."""
        try:
            if fit_params:
                raise NotFused(f"fit gets {', '.join(sorted(fit_params))}, which a fleet does not pass on")
            return dataclasses.replace(read_run(net, X, y), precision=self.search.precision)
        except NotFused as reason:
            return str(reason)
        except Exception as error:  # anybody's callbacks and criterion: skorch will meet them too
            return f"the settings of the net raised {summarize_error(error)}"

    def _task(self, net: skorch.NeuralNet, like: Run | str, task: Task, rows: Any, X: Any, y: Any) -> Task:
        if isinstance(like, str):
            task.reason_alone = like
            return task
        key = (task.seed, task.fold, repr(net.train_split))
        try:
            if key not in self.held:
                self.held[key] = split_validation(net, np.arange(len(X))[rows], y, task.seed, task.fold)
        except Exception as error:  # anybody's split
            task.reason_alone = f"train_split raised {summarize_error(error)}"
            return task
        train, valid = self.held[key]
        task.run = dataclasses.replace(like, rows=train, valid=valid, seed=task.seed, fold=task.fold)
        return task

    def _begin(self) -> None:
        """Let the fleets begin."""
        self.fused = [task for task in self.tasks if task.run is not None]
        for reason in dict.fromkeys(task.reason_alone for task in self.tasks if task.run is None):
            log.warning("trained by skorch, one at a time: %s", reason)
        runs = [task.run for task in self.fused if task.run is not None]
        if not runs:
            return
        names = [_label(self.candidates[task.candidate]) for task in self.fused]
        watch = self.underway.enter_context(show_progress(names, self.search.verbose, what="candidate"))
        with _whole():
            session = self.underway.enter_context(self._session(runs, self.splits.X, self.splits.y))
            apart = bool(session and session.abandoned)
            where = choose_executor(
                self.search.executor, self.search.n_jobs, runs, self.splits.X, isolated=apart
            )
            executor = self.underway.enter_context(where)
            if executor is not None:
                # This process scores beside those that train; it is not to take their cores.
                self.busy = workers(self.search.n_jobs)
                self.unfinished = len(runs)
                self.underway.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(1)
            arrays = _usual(self.splits.X, self.splits.y)
            coming = iterate_results(runs, *arrays, executor=executor, watch=watch, session=session)
        self.coming = self.underway.enter_context(contextlib.closing(coming))

    def _session(
        self, runs: list[Run], X: Any, y: Any
    ) -> contextlib.AbstractContextManager[LedgerSession | None]:
        """Return a ledger session for the runs; scikit-learn scores nets, which takes their weights."""
        ledger = self.search.ledger
        fingerprint = fingerprint_of(X, y) if ledger is not None else ""
        return open_session(ledger, runs, fingerprint, weights=True)

    def _await(self, task: Task) -> None:
        """Wait for the end of a fleet's run, and until there is a core to score it on."""
        with _whole():
            while task.run is not None and (task.result is None or self.unfinished >= self.busy):
                place, result = next(self.coming)
                self.fused[place].result = result
                self.unfinished -= 1

    def _alone(
        self, task: Task, net: skorch.NeuralNet, X: Any, y: Any, fit_params: dict[str, Any]
    ) -> skorch.NeuralNet:
        """Let skorch fit a net, with the random numbers that are this run's."""
        result = Result(how="skorch")
        try:
            fit_with_skorch(net, X, y, task.seed, task.fold, result, **fit_params)
        except Exception:
            task.result = result
            raise
        task.result = result
        return net


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Let an error of all fleets pass through scikit-learn, which would take it for that of one net."""
    try:
        yield
    except Exception as error:
        raise Broken(error) from error


def _usual(*arrays: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return arrays that torch takes: neither read-only nor backwards."""
    return [np.require(array, requirements=["C", "W"]) for array in arrays]


def _label(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('__')[2]}={value}" for name, value in parameters.items())

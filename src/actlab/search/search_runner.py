"""Train the models of a search as fleets, and pass them to scikit-learn one by one."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import skorch
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from torch.utils.data import DataLoader

from actlab.data.dataset import compute_fingerprint
from actlab.errors import UsageError, summarize_error
from actlab.execution.progress import show_progress
from actlab.execution.scheduler import choose_executor, iterate_results
from actlab.fleet.inputs import join_inputs, read_inputs, read_targets
from actlab.fleet.run import NeedsSkorch, Result, Rows, Run
from actlab.fleet.skorch_adapter import (
    iterate_slices,
    read_run,
    restore_net,
    reuse_equal_factory,
)
from actlab.fleet.skorch_training import RunFailed, fit_with_skorch
from actlab.ledger.session import LedgerSession, open_session
from actlab.models.activation_arguments import ActivationArguments
from actlab.training.validation_split import split_validation

log = logging.getLogger("actlab")
_COLUMNS = ["candidate", "fold", "seed", "how", "reason_alone", "failure", "seconds"]


class FleetsFailed(BaseException):
    """Raised if nothing can be trained. scikit-learn must not treat it as the failure of one model."""


@dataclass
class SearchRun:
    """One run of a search.

    Attributes:
        candidate: The index of the candidate; -1 for the model that is trained on all samples.
        fold: The fold.
        seed: The seed.
        run: The run for a fleet; None if skorch trains it.
        result: The result, after the run has ended.
        reason_alone: Why skorch trains it.
    """

    candidate: int
    fold: int
    seed: int
    run: Run | None = None
    result: Result | None = None
    reason_alone: str = ""


class SearchRunner:
    """Trains all models of a search when scikit-learn fits the first one, and returns them one by one.

    Args:
        search: The search.
        splits: The folds, the seeds and the data.
    """

    def __init__(self, search: Any, splits: Any) -> None:
        self.search, self.splits = search, splits
        self.candidates = list(ParameterGrid(search.param_grid))
        self.activations = ActivationArguments(self.candidates)
        self.runs: list[SearchRun] = []
        self._remaining: Iterator[SearchRun] = iter(())
        self._validation_splits: dict[Any, tuple[Rows, Rows | None]] = {}  # of each fold, for all candidates
        self._scored: skorch.NeuralNet | None = None  # the model that scikit-learn scores now

    def make_estimator(self) -> skorch.NeuralNet:
        """Return the model of the search in a class whose ``fit`` loads an already trained model."""
        net, fit_next = clone(self.search.estimator), self._fit_next
        kind = type(net)

        @functools.wraps(kind.fit)  # scikit-learn reads the metadata routing from the signature
        def fit(self: Any, X: Any, y: Any = None, **fit_params: Any) -> Any:
            self.__class__ = kind  # from now on an ordinary model
            return fit_next(self, X, y, fit_params)

        net.__class__ = type(kind.__name__, (kind,), {"fit": fit, "__module__": kind.__module__})
        return net

    def make_table(self) -> pd.DataFrame:
        """Return one row per run that has ended."""
        rows = []
        for run in self.runs:
            if result := run.result:
                reason = run.reason_alone or result.reason_alone
                labels = run.candidate, run.fold, run.seed
                rows.append((*labels, result.how, reason, result.failure, result.seconds))
        return pd.DataFrame(rows, columns=_COLUMNS)

    def collect_seconds(self) -> npt.NDArray[np.float64]:
        """Return the seconds that each run took (candidates, splits)."""
        seconds = [run.result.seconds if run.result else 0.0 for run in self.runs]
        return np.array(seconds).reshape(len(self.candidates), -1)

    def restore_batching(self) -> None:
        """Restore the batching of the model that was scored last, because a scorer may keep the model."""
        if self._scored is not None:
            self._scored.iterator_valid = DataLoader
            self._scored = None

    def _fit_next(
        self, net: skorch.NeuralNet, X: Any, y: Any, fit_params: dict[str, Any]
    ) -> skorch.NeuralNet:
        """Fit a model to the next split or, after the last, to all samples."""
        self.restore_batching()
        if not self.runs:
            self.runs = self._plan(fit_params)
            self._remaining = iter(self.runs)
            self._train(self.runs, self.splits.X, self.splits.y)
        self.activations.adapt(net, self.splits.X, fit_params)
        if (run := next(self._remaining, None)) is None:
            run = SearchRun(-1, len(self.splits.folds), self.splits.seeds[0])
            self._set_run(run, net, self._read_template(net, X, y, fit_params), slice(None), X, y)
            self._train([run], X, y)
        result = run.result
        if result is not None and not result.how and not result.died:
            # No fleet could train it: skorch trains it or raises its own error.
            run.run, run.reason_alone = None, result.failure or result.reason_alone
        if run.run is None:
            return _fit_alone(run, net, X, y, fit_params)
        assert result is not None
        if result.failure:
            raise RunFailed(result.failure)
        restore_net(net, run.run, result, X, y)
        if run.candidate >= 0:  # it is scored next, which is faster in large batches
            net.iterator_valid = iterate_slices
            self._scored = net
        return net

    def _plan(self, fit_params: dict[str, Any]) -> list[SearchRun]:
        X, y = self.splits.X, self.splits.y
        runs: list[SearchRun] = []
        factories: list[Any] = []
        problems: list[str] = []
        for candidate, parameters in enumerate(self.candidates):
            net = clone(self.search.estimator).set_params(**clone(parameters, safe=False))
            try:
                self.activations.adapt(net, X, fit_params)
            except UsageError as error:
                problems.append(str(error))
                continue
            template = self._read_template(net, X, y, fit_params)
            if isinstance(template, Run):
                template = reuse_equal_factory(template, factories)
            for seed in self.splits.seeds:
                for fold, (rows, _) in enumerate(self.splits.folds):
                    runs.append(run := SearchRun(candidate, fold, seed))
                    self._set_run(run, net, template, rows, X, y)
        if problems:
            raise FleetsFailed(UsageError("; ".join(dict.fromkeys(problems))))
        for reason in dict.fromkeys(run.reason_alone for run in runs if run.run is None):
            log.warning("trained by skorch, one at a time: %s", reason)
        return runs

    def _read_template(self, net: skorch.NeuralNet, X: Any, y: Any, fit_params: dict[str, Any]) -> Run | str:
        """Return the run of a model for any samples, or why no fleet can train it."""
        try:
            if fit_params:
                raise NeedsSkorch(f"fit gets {', '.join(sorted(fit_params))}, which a fleet does not pass on")
            return dataclasses.replace(read_run(net, X, y), precision=self.search.precision)
        except NeedsSkorch as reason:
            return str(reason)
        except Exception as error:  # the user's callbacks or criterion: skorch meets the same error
            return f"the settings of the net raised {summarize_error(error)}"

    def _set_run(
        self, run: SearchRun, net: skorch.NeuralNet, template: Run | str, rows: Any, X: Any, y: Any
    ) -> None:
        if isinstance(template, str):
            run.reason_alone = template
            return
        key = (run.seed, run.fold, repr(net.train_split))
        try:
            if key not in self._validation_splits:
                self._validation_splits[key] = split_validation(
                    net, np.arange(len(X))[rows], read_targets(y), run.seed, run.fold
                )
        except Exception as error:  # the user's split
            run.reason_alone = f"train_split raised {summarize_error(error)}"
            return
        train, valid = self._validation_splits[key]
        run.run = dataclasses.replace(template, rows=train, valid=valid, seed=run.seed, fold=run.fold)

    def _train(self, planned: Sequence[SearchRun], X: Any, y: Any) -> None:
        """Train the runs that fleets can train, and set their results as they end."""
        in_fleets = [run for run in planned if run.run is not None]
        runs = [run.run for run in in_fleets if run.run is not None]
        if not runs:
            return
        search, is_refit = self.search, planned is not self.runs
        X, y = join_inputs(read_inputs(X)), read_targets(y)
        names = ["the best"]
        if not is_refit:
            names = [_label(self.candidates[run.candidate]) for run in in_fleets]
        verbose = 0 if is_refit else search.verbose
        fingerprint = compute_fingerprint(X, y) if search.ledger is not None else ""
        # scikit-learn would treat an error of all fleets as an error of one model.
        try:
            with (
                show_progress(names, verbose, what="candidate") as watch,
                open_session(search.ledger, runs, fingerprint, weights=True) as session,
                self._open_executor(runs, X, session, is_refit=is_refit) as executor,
            ):
                # torch accepts neither read-only nor reversed arrays.
                arrays = [np.require(array, requirements=["C", "W"]) for array in (X, y)]
                results = iterate_results(runs, *arrays, executor=executor, watch=watch, session=session)
                for index, result in results:
                    in_fleets[index].result = result
        except Exception as error:
            raise FleetsFailed(error) from error

    def _open_executor(
        self, runs: Sequence[Run], X: Any, session: LedgerSession | None, *, is_refit: bool
    ) -> Any:
        """Return a context with the executor; the refit of the best model trains in this process."""
        if is_refit:
            return choose_executor(None, 1, runs, X)
        isolated = bool(session and session.abandoned)
        return choose_executor(self.search.executor, self.search.n_jobs, runs, X, isolated=isolated)


def _fit_alone(
    run: SearchRun, net: skorch.NeuralNet, X: Any, y: Any, fit_params: dict[str, Any]
) -> skorch.NeuralNet:
    """Fit a model with skorch and the random numbers of the run."""
    result = Result(how="skorch")
    try:
        fit_with_skorch(net, X, y, run.seed, run.fold, result, **fit_params)
    except Exception:
        run.result = result
        raise
    run.result = result
    return net


def _label(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('__')[2]}={value}" for name, value in parameters.items())

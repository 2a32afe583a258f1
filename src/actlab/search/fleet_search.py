"""scikit-learn's grid search, with all candidates and folds trained as fleets."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import skorch
from sklearn.base import is_classifier
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.utils.metadata_routing import get_routing_for_object

from actlab.errors import UsageError
from actlab.ledger.session import LedgerLike
from actlab.search.search_runner import FleetsFailed, SearchRunner
from actlab.training.settings import find_precision_problem


class FleetSearchCV(GridSearchCV):  # type: ignore[misc]  # scikit-learn is untyped
    """A :class:`sklearn.model_selection.GridSearchCV` that trains skorch models as fleets.

    All candidates and folds are trained together before scikit-learn scores them. skorch trains models that
    a fleet does not support, one at a time, and :attr:`runs_` contains the reason. Other estimators are
    trained by scikit-learn.

    The random numbers of a run depend on its fold and seed only. All candidates start from the same weights
    and get the same batches, for any order of the grid and any number of processes. An activation that is
    given as a module instance starts from a copy of the instance as it is when ``fit`` is called.

    A run fails, and gets ``error_score``, if its loss is infinite or NaN, or if three of its worker processes
    have died.

    Args:
        estimator: As for GridSearchCV.
        param_grid: As for GridSearchCV. An activation may be a spec or any object that :func:`actlab.compare`
            takes. The network's module receives the value unchanged if it accepts it. Otherwise it receives
            a module, or a class if it calls the argument, as in ``act_layer(inplace=True)``.
        scoring: As for GridSearchCV.
        n_jobs: Number of worker processes with one thread each (default: the number of threads that PyTorch
            would use, if the work takes long enough).
        refit: As for GridSearchCV.
        cv: As for GridSearchCV.
        verbose: 0 for no output; 1 for progress on standard error; 2 for more detail.
        pre_dispatch: As for GridSearchCV; fleets ignore it.
        error_score: As for GridSearchCV.
        return_train_score: As for GridSearchCV.
        executor: Any :class:`concurrent.futures.Executor` to train in. Clones share it; pickles omit it.
        ledger: A :class:`~actlab.ledger.Ledger`, opened with ``weights=True``, or its file. Runs in the
            ledger are not trained again, and finished runs are recorded in it. Clones share it; pickles
            omit it.
        seeds: The number of seeds, or a list of seeds; each seed trains every fold. The splits of
            ``cv_results_`` are all folds with the first seed, then all folds with the second, and so on.
        precision: ``"float32"``, or ``"bf16"`` for matrix products with bfloat16 operands.

    Attributes:
        cv_results_: As for GridSearchCV. Fit times are shares of the time of a fleet, in seconds.
        runs_: One row per run: ``candidate``, ``fold``, ``seed``, ``how`` it was trained, ``reason_alone``
            (why it trained alone), ``failure`` and ``seconds``. After an interruption, the finished runs.

    Raises:
        UsageError: In ``fit``: ``seeds`` or ``precision`` is invalid, or a spec is wrong and the module does
            not accept it unchanged.

    Examples:
        >>> import torch, skorch, actlab
        >>> data = actlab.load_data("digits")
        >>> net = skorch.NeuralNetClassifier(
        ...     actlab.NeuralNet, module__num_features=64, criterion=torch.nn.CrossEntropyLoss, max_epochs=2
        ... )
        >>> search = actlab.FleetSearchCV(net, {"module__activation": ["relu", "tanh"]}, cv=3, n_jobs=1)
        >>> search.fit(data.X, data.y).cv_results_["mean_test_score"].shape
        (2,)
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        executor: Executor | None = None,
        ledger: LedgerLike | None = None,
        seeds: int | Sequence[int] = 1,
        precision: str = "float32",
    ) -> None:
        super().__init__(
            estimator=estimator,
            param_grid=param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.executor = executor
        self.ledger = ledger
        self.seeds = seeds
        self.precision = precision

    def fit(self, X: Any, y: Any = None, **params: Any) -> FleetSearchCV:
        """Train and score every candidate on every fold, and train the best on all samples.

        Args:
            X: As for GridSearchCV.
            y: As for GridSearchCV.
            **params: As for GridSearchCV. If a parameter reaches the ``fit`` of the model, skorch trains the
                model.

        Returns:
            This search.
        """
        seeds = _parse_seeds(self.seeds)
        if problem := find_precision_problem(self.precision):
            raise UsageError(problem)
        if not isinstance(self.estimator, skorch.NeuralNet):
            if seeds != [0]:
                kind = type(self.estimator).__name__
                raise UsageError(f"seeds is {self.seeds!r}, but only skorch nets are seeded, not {kind}")
            super().fit(X, y, **params)
            return self
        classifier = is_classifier(self.estimator)
        splits = _Splits(check_cv(self.cv, y, classifier=classifier), seeds)
        runner = SearchRunner(self, splits)
        options = {name: getattr(self, name) for name in inspect.signature(GridSearchCV).parameters}
        options.update(estimator=runner.make_estimator(), cv=splits, verbose=0)
        # One job, because the runner returns its trained models in the order of the calls of fit.
        inner = GridSearchCV(**{**options, "n_jobs": 1})
        try:
            inner.fit(X, y, **params)
        except FleetsFailed as failed:
            (error,) = failed.args
            raise error from error.__cause__
        finally:
            runner.restore_batching()
            self.runs_ = runner.make_table()
            inner.estimator.__class__ = type(self.estimator)  # a scorer may hold on to it
        results = {n: v for n, v in vars(inner).items() if n.endswith("_") and not n.startswith("_")}
        self.__dict__.update(results)
        times = runner.collect_seconds()
        self.cv_results_["mean_fit_time"] = times.mean(axis=1)
        self.cv_results_["std_fit_time"] = times.std(axis=1)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there are results; an interrupted search has runs only."""
        return hasattr(self, "cv_results_")

    def __sklearn_clone__(self) -> FleetSearchCV:
        """Clone everything but the executor and the ledger, which are shared."""
        cloned = super(FleetSearchCV, copy.copy(self)).__sklearn_clone__()  # a copy has neither
        names = self._get_param_names()  # a subclass need not have both
        shared = {name: getattr(self, name) for name in ("executor", "ledger") if name in names}
        return cloned.set_params(**shared)  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "executor": None, "ledger": None}


def _parse_seeds(seeds: Any) -> list[int]:
    values = range(seeds) if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool) else seeds
    is_sequence = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not is_sequence or not all(isinstance(s, int | np.integer) and 0 <= s < 2**32 for s in values):
        raise UsageError(f"seeds must be an integer >= 1 or a list of seeds such as [0, 1], got {seeds!r}")
    return [int(seed) for seed in values]


class _Splits:
    """A splitter that splits once, stores the folds, and yields all folds for each seed."""

    def __init__(self, splitter: Any, seeds: Sequence[int]) -> None:
        self.splitter, self.seeds = splitter, seeds
        self.X: Any = None
        self.y: Any = None
        self.folds: list[tuple[Any, Any]] = []

    def split(self, X: Any, y: Any = None, **params: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the indices of the training samples and of the test samples of every split."""
        self.X, self.y = X, y
        self.folds = list(self.splitter.split(X, y, **params))
        for _ in self.seeds:
            yield from self.folds

    def get_n_splits(self, X: Any = None, y: Any = None, **params: Any) -> int:
        """Return the number of splits."""
        return int(self.splitter.get_n_splits(X, y, **params)) * len(self.seeds)

    def get_metadata_routing(self) -> Any:
        """Return the metadata requests of the splitter."""
        return get_routing_for_object(self.splitter)

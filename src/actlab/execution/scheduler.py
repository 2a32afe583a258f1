"""Train every fleet to its end, in this process or on an executor."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import nn

from actlab.errors import UsageError
from actlab.execution.backends import Backend, InProcessBackend, Job, open_backend
from actlab.execution.processes import count_processes, start_processes
from actlab.execution.split_on_failure import FleetOutcome
from actlab.fleet.grouping import Fleet, group_into_fleets
from actlab.fleet.run import Epoch, FailureKind, Result, Run
from actlab.fleet.settings import read_settings
from actlab.fleet.trial import ReasonAlone

log = logging.getLogger("actlab")
Array = npt.NDArray[Any]
TRIES = 3  # process deaths after which a run fails
_WORTH_PROCESSES = 5e7  # features read in total; less work ends before a process has started
_MAX_ENDED = 100  # fleets with recorded results that are held in memory at a time
_POLL_SECONDS = 0.2  # between two polls of the progress


@dataclass(frozen=True)
class SchedulerState:
    """The progress of a fleet.

    Attributes:
        fleet: The index of the fleet.
        fleets: The number of fleets.
        runs: The indices of its runs.
        epoch: Epochs done.
        epochs: Epochs at most.
        last_epochs: The last epoch in the histories of the runs that are still training, if this process has
            them.
        results: The results of its runs, once it has ended.
    """

    fleet: int
    fleets: int
    runs: tuple[int, ...]
    epoch: int
    epochs: int
    last_epochs: Sequence[Epoch] = ()
    results: Sequence[Result] | None = None


Watcher = Callable[[SchedulerState], None]


class RunStore(Protocol):
    """Access to results of earlier runs, and storage for new ones. Runs are identified by their indices."""

    def claim_or_restore(self, indices: Sequence[int]) -> dict[int, Result] | None:
        """Claim runs to train; return recorded results, or None if another process trains some of them."""

    def record(self, indices: Sequence[int], results: Sequence[Result], tries: int) -> None:
        """Record the results of claimed runs."""


def choose_executor(
    executor: Executor | None, jobs: int | None, runs: Sequence[Run], X: Array, *, isolated: bool = False
) -> contextlib.AbstractContextManager[Executor | None]:
    """Return the executor that trains runs; the context yields None for this process.

    Args:
        executor: The executor that the user wants; None to choose one.
        jobs: The number of processes, as in scikit-learn. None: the number of threads that PyTorch would use,
            if the work takes long enough.
        runs: The runs.
        X: Inputs (n, ...).
        isolated: Whether to train in another process in any case, because a run may end its process.
    """
    if executor is not None:
        if not callable(getattr(executor, "submit", None)):
            raise UsageError(f"executor must be a concurrent.futures.Executor, got {executor!r}")
        return contextlib.nullcontext(executor)
    number = min(count_processes(jobs), len(runs))
    if isolated and number:
        return start_processes(number)
    features_read = sum(len(run.rows) * run.epochs for run in runs) * X[:1].size
    is_worth_it = jobs is not None or features_read >= _WORTH_PROCESSES
    if number > 1 and runs[0].device == "cpu" and is_worth_it:
        return start_processes(number)
    return contextlib.nullcontext()


def train_runs(
    runs: Sequence[Run],
    X: Array,
    y: Array,
    *,
    executor: Executor | None = None,
    watch: Watcher | None = None,
    session: RunStore | None = None,
) -> list[Result]:
    """Train every run, as :func:`iterate_results` does; return the results in the order of the runs."""
    results = dict(iterate_results(runs, X, y, executor=executor, watch=watch, session=session))
    return [results[index] for index in range(len(runs))]


def iterate_results(
    runs: Sequence[Run],
    X: Array,
    y: Array,
    *,
    executor: Executor | None = None,
    watch: Watcher | None = None,
    session: RunStore | None = None,
) -> Generator[tuple[int, Result]]:
    """Train every run; yield its result as soon as its fleet has ended.

    A run that fails has the reason in its result and does not affect other runs. A run that no fleet can
    train is left to skorch (:attr:`Result.needs_skorch`). The results do not depend on the executor or on
    the order. A process that dies is replaced, and its fleet starts again; a run fails if three processes die
    while training it.

    Args:
        runs: The runs.
        X: Inputs (n, ...), float.
        y: Targets (n, ...): class indices (int64) or numbers.
        executor: Trains each fleet in one call (default: this process).
        watch: Called with the state of a fleet after an epoch, if it is known, and after its end.
        session: Has the results of earlier runs, and records new ones.

    Yields:
        The index of a run, and its result.

    Raises:
        UsageError: The executor accepts no more work.
    """
    if not runs:
        return
    device = runs[0].device
    settings = read_settings(device)
    fleets = group_into_fleets(runs, torch.from_numpy(X[:2]), torch.from_numpy(y[:2]), settings)
    if executor is None:
        networks = {index: network for fleet in fleets for index, network in fleet.networks.items()}
        runs = [
            dataclasses.replace(run, net=_BuiltOnce(networks[index], run.net)) if index in networks else run
            for index, run in enumerate(runs)
        ]
    fleets = [dataclasses.replace(fleet, networks={}) for fleet in fleets]
    scheduler = _Scheduler(runs, fleets, watch, session)
    with open_backend(executor, X, y, device, settings, scheduler.report_epoch) as backend:
        yield from scheduler.iterate_results(backend)


class _BuiltOnce:
    """A factory of networks whose first network was built for the trial."""

    def __init__(self, network: nn.Module, factory: Callable[[], nn.Module]) -> None:
        self.networks, self.factory = [network], factory

    def __call__(self) -> nn.Module:
        return self.networks.pop() if self.networks else self.factory()


Ended = tuple[Job, list[Result]]


class _Scheduler:
    """Submits fleets and collects their results."""

    def __init__(
        self, runs: Sequence[Run], fleets: Sequence[Fleet], watch: Watcher | None, session: RunStore | None
    ) -> None:
        self.runs, self.fleets, self.watch, self.session = runs, fleets, watch, session
        jobs = [Job(number, fleet, self._select_runs(fleet.indices)) for number, fleet in enumerate(fleets)]
        self.queue = [job for job in jobs if job.fleet.alone is not ReasonAlone.NEEDS_SKORCH]
        self.for_skorch = [job for job in jobs if job.fleet.alone is ReasonAlone.NEEDS_SKORCH]
        self.warned: set[str] = set()
        self.submitted: dict[Future[FleetOutcome], Job] = {}
        self.backend: Backend

    def _select_runs(self, indices: Sequence[int]) -> list[Run]:
        return [self.runs[index] for index in indices]

    def iterate_results(self, backend: Backend) -> Generator[tuple[int, Result]]:
        """Train fleets with a backend; yield the index and the result of every run."""
        self.backend = backend
        try:
            yield from self._train()
        finally:
            for future in self.submitted:  # this cancels only jobs that have not begun
                future.cancel()

    def _train(self) -> Generator[tuple[int, Result]]:
        for job in self.for_skorch:
            results = [Result(reason_alone=job.fleet.reason_alone, passing=True) for _ in job.runs]
            yield from self._finish(job, results)
        while self.queue or self.submitted:
            ended = self._submit()
            done: set[Future[FleetOutcome]] = set()
            if self.submitted:
                done, _ = wait(self.submitted, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            elif not ended:
                time.sleep(_POLL_SECONDS)  # other processes train the rest
            ended += [each for future in done for each in self._collect(self.submitted.pop(future), future)]
            if done and not isinstance(self.backend, InProcessBackend):
                ended += self._submit()  # before the consumer of the results takes its time
            self._poll()
            for job, results in ended:
                yield from self._finish(job, results)

    def _submit(self) -> list[Ended]:
        """Submit as many fleets as the backend has room for; return recorded results."""
        ended: list[Ended] = []
        ready: list[Job] = []
        if self.backend.together and self.submitted:
            return []
        room = self.backend.count_slots()
        for job in list(self.queue):
            if room is not None and (len(self.submitted) + len(ready) >= room or len(ended) >= _MAX_ENDED):
                break
            recorded = self.session.claim_or_restore(job.fleet.indices) if self.session else {}
            if recorded is None:
                continue
            self.queue.remove(job)
            if recorded:
                indices = [index for index in job.fleet.indices if index in recorded]
                ended.append((self._select_part(job, indices), [recorded[index] for index in indices]))
                job = self._select_part(job, [index for index in job.fleet.indices if index not in recorded])
            if job.runs:
                ready.append(job)
        self.submitted.update(zip(self.backend.begin(ready), ready, strict=True))
        return ended

    def _select_part(self, job: Job, indices: Sequence[int]) -> Job:
        fleet = dataclasses.replace(job.fleet, indices=tuple(indices))
        return dataclasses.replace(job, fleet=fleet, runs=self._select_runs(indices))

    def _collect(self, job: Job, future: Future[FleetOutcome]) -> list[Ended]:
        """Return the results of a job; none if its process died and it is queued again."""
        try:
            outcome = future.result()
        except BrokenExecutor as error:
            return self._retry(job, " ".join(str(error).split()))
        for note in outcome.notes:
            log.warning("fleet %d of %d: %s", job.number + 1, len(self.fleets), note)
        for result in outcome.results:
            result.reason_alone = result.reason_alone or job.fleet.reason_alone
        return [self._record(job, outcome.results, job.tries + 1)]

    def _retry(self, job: Job, reason: str) -> list[Ended]:
        """Queue a job whose process died; after the last try, queue its halves or record the failure."""
        job.tries += 1
        log.warning("fleet %d of %d: its process died: %s", job.number + 1, len(self.fleets), reason)
        if job.tries < TRIES:
            self.queue.insert(0, job)
            return []
        if half := len(job.runs) // 2:
            halves = job.fleet.indices[:half], job.fleet.indices[half:]
            self.queue[:0] = [dataclasses.replace(self._select_part(job, part), tries=0) for part in halves]
            return []
        failure = f"{FailureKind.PROCESS_DIED} {TRIES} times: {reason}"
        return [self._record(job, [Result(failure=failure, reason_alone=job.fleet.reason_alone)], job.tries)]

    def _record(self, job: Job, results: list[Result], tries: int) -> Ended:
        if self.session:
            self.session.record(job.fleet.indices, results, tries)
        return job, results

    def _finish(self, job: Job, results: list[Result]) -> Iterator[tuple[int, Result]]:
        for reason in {result.reason_alone for result in results if result.needs_skorch} - self.warned:
            self.warned.add(reason)
            log.warning("trained by skorch, one at a time: %s", reason)
        self._report(job, job.runs[0].epochs, results=results)
        yield from zip(job.fleet.indices, results, strict=True)

    def report_epoch(self, job: Job, last_epochs: Sequence[Epoch]) -> None:
        """Report an epoch of a job in this process to the watcher."""
        self._report(job, last_epochs[0]["epoch"], last_epochs)

    def _poll(self) -> None:
        """Report the progress of the fleets in other processes."""
        for job in sorted(self.submitted.values(), key=lambda job: job.number):
            if self.watch and (epoch := self.backend.count_epochs(job)) is not None:
                self._report(job, min(epoch, job.runs[0].epochs))

    def _report(
        self,
        job: Job,
        epoch: int,
        last_epochs: Sequence[Epoch] = (),
        results: Sequence[Result] | None = None,
    ) -> None:
        if self.watch:
            state = SchedulerState(job.number, len(self.fleets), job.fleet.indices, epoch, job.runs[0].epochs)
            self.watch(dataclasses.replace(state, last_epochs=last_epochs, results=results))

"""Every fleet to its end, here or on an executor, whatever happens to one of them."""

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

from actlab.execution.backends import Here, Job, Site, site_of
from actlab.execution.processes import processes, workers
from actlab.execution.split_on_failure import Outcome
from actlab.fleet.plan import Fleet, plan
from actlab.fleet.run import DIED, Epoch, Result, Run
from actlab.fleet.settings import settings_for

log = logging.getLogger("actlab")
Array = npt.NDArray[Any]
TRIES = 3  # processes that may die of a run
_WORTH_PROCESSES = 5e7  # numbers of input seen in all; less is done before a process has started
_AT_ONCE = 100  # fleets that are known already and are held in memory before they are given out
_LOOK = 0.2  # seconds between two looks at how far fleets are


@dataclass(frozen=True)
class State:
    """How far a fleet is.

    Attributes:
        fleet: Its place in the plan, from 0.
        fleets: How many there are.
        runs: The places of its runs in the list that was given.
        epoch: Epochs done.
        epochs: Epochs there are at most.
        rows: The last epoch in the histories of the runs that still train, where that can be seen.
        results: What came out of its runs, once it has ended.
    """

    fleet: int
    fleets: int
    runs: tuple[int, ...]
    epoch: int
    epochs: int
    rows: Sequence[Epoch] = ()
    results: Sequence[Result] | None = None


Watcher = Callable[[State], None]


class Session(Protocol):
    """Who knows which runs have ended before or elsewhere, and is told of those that end here.

    Runs are named by their place in the list that is trained.
    """

    def claim(self, places: Sequence[int]) -> dict[int, Result] | None:
        """Ask for runs, to train them together; return those that are known, None if others are at it."""

    def record(self, places: Sequence[int], results: Sequence[Result], tries: int) -> None:
        """Take down what came out of runs that were asked for."""


def engine(
    executor: Executor | None, jobs: int | None, runs: Sequence[Run], X: Array, *, apart: bool = False
) -> contextlib.AbstractContextManager[Executor | None]:
    """Return where runs train: in this process, or in others if that is wanted or worth starting them.

    Args:
        executor: Where people want it; None to decide by what follows.
        jobs: How many processes, as scikit-learn has it. None: as many as PyTorch would use threads, if
            the work is worth it.
        runs: What is to be trained.
        X: Inputs (n, ...).
        apart: Whether they had better not be trained in this process: one of them may end it.
    """
    if executor is not None:
        return contextlib.nullcontext(executor)
    number = min(workers(jobs), len(runs))
    seen = sum(len(run.rows) * run.epochs for run in runs) * X[:1].size
    if apart and number:
        return processes(number)
    if number < 2 or runs[0].device != "cpu" or (jobs is None and seen < _WORTH_PROCESSES):
        return contextlib.nullcontext()
    return processes(number)


def train_runs(
    runs: Sequence[Run],
    X: Array,
    y: Array,
    *,
    executor: Executor | None = None,
    watch: Watcher | None = None,
    session: Session | None = None,
) -> list[Result]:
    """Train every run, as :func:`training` does; return what came out, in the order of the runs."""
    results = dict(training(runs, X, y, executor=executor, watch=watch, session=session))
    return [results[place] for place in range(len(runs))]


def training(
    runs: Sequence[Run],
    X: Array,
    y: Array,
    *,
    executor: Executor | None = None,
    watch: Watcher | None = None,
    session: Session | None = None,
) -> Generator[tuple[int, Result]]:
    """Train every run; yield what comes out of each as soon as its fleet has ended.

    A run that fails, whatever the reason, has its reason in its result and does not touch another. A run that
    no fleet can train is left to skorch (:attr:`Result.needs_skorch`), and its result has the reason. The
    results are the same whatever executes them, and in whatever order. A process that dies is replaced, and
    its fleet begins again; a run of which three have died has failed.

    Args:
        runs: What is to be trained.
        X: Inputs (n, ...), float.
        y: Targets (n, ...): class indices (int64) or numbers.
        executor: Where fleets are trained, each as one call; this process when left out.
        watch: Told of every epoch where that can be seen, and of every fleet that has ended.
        session: Who knows what need not be trained.

    Yields:
        The place of a run in the list, and its result.

    Raises:
        UsageError: The executor takes no more work.
    """
    if not runs:
        return
    device = runs[0].device
    settings = settings_for(device)
    fleets = plan(runs, torch.from_numpy(X[:2]), torch.from_numpy(y[:2]), settings)
    conductor = _Conductor(runs, fleets, watch, session)
    with site_of(executor, X, y, device, settings, conductor.tell) as site, conductor.on(site):
        yield from conductor.ended()


class _Conductor:
    """Sends fleets out and gathers what comes back."""

    def __init__(
        self, runs: Sequence[Run], fleets: Sequence[Fleet], watch: Watcher | None, session: Session | None
    ) -> None:
        self.runs, self.fleets, self.watch, self.session = runs, fleets, watch, session
        jobs = [Job(number, fleet, self._runs(fleet.places)) for number, fleet in enumerate(fleets)]
        self.queue = [job for job in jobs if not job.fleet.needs_skorch]
        self.needs_skorch = [job for job in jobs if job.fleet.needs_skorch]
        self.warned: set[str] = set()
        self.out: dict[Future[Outcome], Job] = {}
        self.site: Site

    def _runs(self, places: Sequence[int]) -> list[Run]:
        return [self.runs[place] for place in places]

    @contextlib.contextmanager
    def on(self, site: Site) -> Iterator[None]:
        """Have fleets trained there; those that have not begun never will, once the block has ended."""
        self.site = site
        try:
            yield
        finally:
            for future in self.out:
                future.cancel()

    def ended(self) -> Generator[tuple[int, Result]]:
        """Yield what comes out of every run."""
        for job in self.needs_skorch:
            yield from self._over(
                job, [Result(reason_alone=job.fleet.reason_alone, passing=True) for _ in job.runs]
            )
        while self.queue or self.out:
            known = self._send()
            done: set[Future[Outcome]] = set()
            if self.out:
                done, _ = wait(self.out, timeout=_LOOK, return_when=FIRST_COMPLETED)
            elif not known:
                time.sleep(_LOOK)  # others are at it
            known += [each for future in done for each in self._came(self.out.pop(future), future)]
            if done and not isinstance(self.site, Here):
                known += self._send()  # before whoever takes the results makes us wait
            self._look()
            for job, results in known:
                yield from self._over(job, results)

    def _send(self) -> list[tuple[Job, list[Result]]]:
        """Let fleets begin, as many as there is room for; return what need not be trained."""
        known: list[tuple[Job, list[Result]]] = []
        ready: list[Job] = []
        if self.site.together and self.out:
            return []
        room = self.site.room()
        for job in list(self.queue):
            if room is not None and (len(self.out) + len(ready) >= room or len(known) >= _AT_ONCE):
                break
            there = self.session.claim(job.fleet.places) if self.session else {}
            if there is None:
                continue
            self.queue.remove(job)
            if there:
                had = [place for place in job.fleet.places if place in there]
                known.append((self._part(job, had), [there[place] for place in had]))
                job = self._part(job, [place for place in job.fleet.places if place not in there])
            if job.runs:
                ready.append(job)
        self.out.update(zip(self.site.begin(ready), ready, strict=True))
        return known

    def _part(self, job: Job, places: Sequence[int]) -> Job:
        """Return some of a job's runs as a job."""
        fleet = dataclasses.replace(job.fleet, places=tuple(places))
        return dataclasses.replace(job, fleet=fleet, runs=self._runs(places))

    def _came(self, job: Job, future: Future[Outcome]) -> list[tuple[Job, list[Result]]]:
        """Return what has come out of a job, if it is over; see to what follows if it is not."""
        try:
            outcome = future.result()
        except BrokenExecutor as error:
            return self._died(job, " ".join(str(error).split()))
        for note in outcome.notes:
            log.warning("fleet %d of %d: %s", job.number + 1, len(self.fleets), note)
        for result in outcome.results:
            result.reason_alone = result.reason_alone or job.fleet.reason_alone
        if self.session:
            self.session.record(job.fleet.places, outcome.results, job.tries + 1)
        return [(job, outcome.results)]

    def _died(self, job: Job, reason: str) -> list[tuple[Job, list[Result]]]:
        """Try again what a process has died of; then by halves, until the run to blame is found."""
        job.tries += 1
        log.warning("fleet %d of %d: its process died: %s", job.number + 1, len(self.fleets), reason)
        if job.tries < TRIES:
            self.queue.insert(0, job)
            return []
        half = len(job.runs) // 2
        if half:
            parts = job.fleet.places[:half], job.fleet.places[half:]
            self.queue[:0] = [dataclasses.replace(self._part(job, p), tries=0) for p in parts]
            return []
        failure = f"{DIED} {TRIES} times: {reason}"
        results = [Result(failure=failure, reason_alone=job.fleet.reason_alone)]
        if self.session:
            self.session.record(job.fleet.places, results, job.tries)
        return [(job, results)]

    def _over(self, job: Job, results: list[Result]) -> Iterator[tuple[int, Result]]:
        for reason in {result.reason_alone for result in results if result.needs_skorch} - self.warned:
            self.warned.add(reason)
            log.warning("trained by skorch, one at a time: %s", reason)
        self._say(job, job.runs[0].epochs, results=results)
        yield from zip(job.fleet.places, results, strict=True)

    def tell(self, job: Job, rows: Sequence[Epoch]) -> None:
        """Hear of an epoch that was trained in this process."""
        self._say(job, rows[0]["epoch"], rows)

    def _look(self) -> None:
        """See how far the fleets are."""
        for job in sorted(self.out.values(), key=lambda job: job.number):
            if self.watch and (epoch := self.site.epochs(job)) is not None:
                self._say(job, min(epoch, job.runs[0].epochs))

    def _say(
        self, job: Job, epoch: int, rows: Sequence[Epoch] = (), results: Sequence[Result] | None = None
    ) -> None:
        if self.watch:
            epochs = job.runs[0].epochs
            self.watch(State(job.number, len(self.fleets), job.fleet.places, epoch, epochs, rows, results))

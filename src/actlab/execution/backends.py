"""Backends that train fleets: this process, its threads, or other processes."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt
import torch
from cloudpickle import dumps

from actlab.errors import UsageError, summarize_error
from actlab.execution.processes import (
    SharedArrays,
    WorkerExecutor,
    WorkerPool,
    create_shared_folder,
    share_arrays,
)
from actlab.execution.split_on_failure import FleetOutcome, make_loop, train_or_split
from actlab.fleet.grouping import Fleet
from actlab.fleet.loop import DeviceData, EpochCallback, Loop
from actlab.fleet.run import Epoch, Run
from actlab.fleet.settings import FleetSettings, use_settings
from actlab.introspection.user_code import unimportable_sources

Array = npt.NDArray[Any]


@dataclass(eq=False)
class Job:
    """A fleet, or a part of one, that is to be trained.

    Attributes:
        number: The index of the fleet.
        fleet: The fleet, with the indices of its runs.
        runs: Its runs.
        tries: How many processes have died while training it.
    """

    number: int
    fleet: Fleet
    runs: list[Run]
    tries: int = 0


class Backend(Protocol):
    """Trains fleets.

    Attributes:
        together: Whether all jobs begin at once.
    """

    together: bool

    def count_slots(self) -> int | None:
        """Return how many jobs to submit at a time; None for all."""

    def begin(self, jobs: Sequence[Job]) -> list[Future[FleetOutcome]]:
        """Submit jobs."""

    def count_epochs(self, job: Job) -> int | None:
        """Return how many epochs of a job are done; None if that is unknown."""


@contextlib.contextmanager
def open_backend(
    executor: Executor | None,
    X: Array,
    y: Array,
    device: str,
    settings: FleetSettings,
    report: Callable[[Job, Sequence[Epoch]], None],
) -> Iterator[Backend]:
    """Yield the backend that trains fleets.

    Args:
        executor: The executor; None for this process.
        X: Inputs (n, ...).
        y: Targets (n, ...).
        device: The device of the first run.
        settings: How fleets compute.
        report: Called after every epoch of a job in this process.
    """
    if executor is None:
        yield InProcessBackend(X, y, settings, report)
    elif isinstance(executor, ThreadPoolExecutor):
        # A thread must not change these settings.
        with create_shared_folder(0) as folder, use_settings(settings):
            yield ThreadBackend(executor, SharedArrays(folder), settings, _copy_to_device(X, y, device))
    else:
        with share_arrays(executor, X, y) as shared:
            yield ExecutorBackend(executor, shared, settings)


class InProcessBackend:
    """This process, one fleet after the other."""

    together = False

    def __init__(
        self, X: Array, y: Array, settings: FleetSettings, report: Callable[[Job, Sequence[Epoch]], None]
    ) -> None:
        self.X, self.y, self.settings, self.report = X, y, settings, report
        self.data: dict[str, DeviceData] = {}

    def count_slots(self) -> int | None:
        """Return 1: each job runs to its end before anything else happens."""
        return 1

    def begin(self, jobs: Sequence[Job]) -> list[Future[FleetOutcome]]:
        """Train jobs to their end."""
        futures = []
        for job in jobs:
            device = job.runs[0].device
            data = self.data[device] = self.data.get(device) or _copy_to_device(self.X, self.y, device)
            with use_settings(self.settings):
                outcome = train_or_split(job.runs, job.fleet, data, functools.partial(self.report, job))
            futures.append(Future[FleetOutcome]())
            futures[-1].set_result(outcome)
        return futures

    def count_epochs(self, job: Job) -> int | None:
        """Return None: ``report`` is called after each epoch."""
        return None


class ExecutorBackend:
    """Processes of this machine or of others, which have their own memory."""

    together = False

    def __init__(self, executor: Executor, shared: SharedArrays, settings: FleetSettings) -> None:
        self.executor, self.shared, self.settings = executor, shared, settings
        # Workers may have started in another folder, but paths of the user's files are relative to this one.
        self.folder = os.getcwd() if isinstance(executor, WorkerPool) else ""

    def count_slots(self) -> int | None:
        """Return the slots of a :class:`WorkerExecutor`; None for other executors."""
        return self.executor.count_slots() if isinstance(self.executor, WorkerExecutor) else None

    def begin(self, jobs: Sequence[Job]) -> list[Future[FleetOutcome]]:
        """Submit jobs."""
        sources = dict(unimportable_sources)
        calls = [
            functools.partial(
                _train_in_process, job, self.shared, _make_counter(self.shared, job), self.settings, sources
            )
            for job in jobs
        ]
        if self.folder:  # activations of the user's files are loaded with the call
            calls = [functools.partial(_run_in_folder, self.folder, dumps(call)) for call in calls]
        return [_submit(self.executor, call) for call in calls]

    def count_epochs(self, job: Job) -> int | None:
        """Return how many epochs of a job are done, if its process has access to the folder."""
        return self.shared.count_ticks(_name_counter(job))


class ThreadBackend(ExecutorBackend):
    """Threads of this process, with its memory."""

    together = True

    def __init__(
        self, executor: Executor, shared: SharedArrays, settings: FleetSettings, data: DeviceData
    ) -> None:
        super().__init__(executor, shared, settings)
        self.data = data

    def begin(self, jobs: Sequence[Job]) -> list[Future[FleetOutcome]]:
        """Submit jobs once all networks are built, since drawing weights and tracing affect all threads."""
        calls = [
            functools.partial(
                _train_in_thread, job, loops, self.data, _make_counter(self.shared, job), self.settings
            )
            for job, loops in [(job, self._build_loops(job)) for job in jobs]
        ]
        return [_submit(self.executor, call) for call in calls]

    def _build_loops(self, job: Job) -> list[Loop]:
        try:
            return [make_loop(job.runs, job.fleet, self.data)]
        except Exception:  # the job raises the same error when it trains
            return []


def _submit(executor: Executor, call: Callable[[], FleetOutcome]) -> Future[FleetOutcome]:
    try:
        return executor.submit(call)
    except RuntimeError as error:  # BrokenExecutor is one too
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"the {type(executor).__name__} accepts no more tasks: {reason}") from error


def _run_in_folder(folder: str, call: bytes) -> FleetOutcome:
    """Load and run a call in the folder of the process that submitted it."""
    os.chdir(folder)
    try:
        function = pickle.loads(call)  # noqa: S301 - from the parent process
    except Exception as error:  # raised by the user's modules
        raise BrokenExecutor(f"it cannot load its task: {summarize_error(error)}") from error
    outcome: FleetOutcome = function()
    return outcome


def _train_in_process(
    job: Job,
    shared: SharedArrays,
    report: EpochCallback,
    settings: FleetSettings,
    sources: Mapping[tuple[Any, ...], str],
) -> FleetOutcome:
    """Train a fleet in a process that does nothing else at the same time."""
    unimportable_sources.update(sources)
    device = job.runs[0].device
    with use_settings(settings):
        return train_or_split(job.runs, job.fleet, _load(shared, device), report)


def _train_in_thread(
    job: Job, ready: list[Loop], data: DeviceData, report: EpochCallback, settings: FleetSettings
) -> FleetOutcome:
    """Train a fleet in one of several threads."""
    torch.set_num_threads(settings.threads)  # each thread has its own number
    return train_or_split(job.runs, job.fleet, data, report, ready)


@functools.lru_cache(maxsize=1)
def _load(shared: SharedArrays, device: str) -> DeviceData:
    return _copy_to_device(*shared.load(), device)


def _copy_to_device(X: Array, y: Array, device: str) -> DeviceData:
    """Return the arrays as tensors on a device; on the CPU they share the arrays' memory."""
    return DeviceData(torch.from_numpy(X).to(device), torch.from_numpy(y).to(device))


def _make_counter(shared: SharedArrays, job: Job) -> EpochCallback:
    """Return a callback that counts the epochs of a job in a file."""
    shared.clear(_name_counter(job))  # a process that died may have left it
    return functools.partial(_tick, shared, _name_counter(job))


def _tick(shared: SharedArrays, name: str, _: Sequence[Epoch]) -> None:
    shared.tick(name)


def _name_counter(job: Job) -> str:
    return f"fleet-{job.number}-{job.fleet.indices[0]}"

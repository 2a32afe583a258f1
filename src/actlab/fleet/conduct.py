"""Every fleet to its end, here or on an executor, whatever happens to one of them."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from actlab._spec import short
from actlab.engines import processes, shared_folder, workers
from actlab.fleet.calibration import Calibration, arithmetic, calibration, hardware
from actlab.fleet.loop import Data, Loop, Tell
from actlab.fleet.plan import Fleet, plan
from actlab.fleet.run import Epoch, Result, Run

log = logging.getLogger("actlab")
Array = npt.NDArray[Any]
_WORTH_PROCESSES = 5e7  # numbers of input seen in all; less is done before a process has started
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


def local(
    jobs: int | None, runs: Sequence[Run], X: Array
) -> contextlib.AbstractContextManager[Executor | None]:
    """Return where runs train on this machine: in this process, or in others if that is worth starting them.

    Args:
        jobs: How many processes, as scikit-learn has it. None: as many as PyTorch would use threads, if
            the work is worth it.
        runs: What is to be trained.
        X: Inputs (n, ...).
    """
    number = min(workers(jobs), len(runs))
    seen = sum(len(run.rows) * run.epochs for run in runs) * X[:1].size
    if number < 2 or runs[0].device != "cpu" or (jobs is None and seen < _WORTH_PROCESSES):
        return contextlib.nullcontext()
    return processes(number)


def train_runs(
    runs: Sequence[Run], X: Array, y: Array, *, executor: Executor | None = None, watch: Watcher | None = None
) -> list[Result]:
    """Train every run, as :func:`training` does; return what came out, in the order of the runs."""
    results = dict(training(runs, X, y, executor=executor, watch=watch))
    return [results[place] for place in range(len(runs))]


def training(
    runs: Sequence[Run], X: Array, y: Array, *, executor: Executor | None = None, watch: Watcher | None = None
) -> Generator[tuple[int, Result]]:
    """Train every run; yield what comes out of each as soon as its fleet has ended.

    A run that fails, whatever the reason, has its reason in its result and does not touch another. The
    results are the same whatever executes them, and in whatever order.

    Args:
        runs: What is to be trained.
        X: Inputs (n, ...), float.
        y: Targets (n, ...): class indices (int64) or numbers.
        executor: Where fleets are trained, each as one call; this process when left out.
        watch: Told of every epoch where that can be seen, and of every fleet that has ended.

    Yields:
        The place of a run in the list, and its result.
    """
    if not runs:
        return
    found = calibration(runs[0].device)
    fleets = plan(runs, torch.from_numpy(X[:2]), torch.from_numpy(y[:2]), found)
    if executor is None:
        ended = _here(runs, fleets, X, y, found, watch)
    else:
        ended = _there(runs, fleets, X, y, found, watch, executor)
    with contextlib.closing(ended):
        for number, outcome in ended:
            fleet = fleets[number]
            for note in outcome.notes:
                log.warning("fleet %d of %d: %s", number + 1, len(fleets), note)
            if watch:
                epochs = runs[fleet.places[0]].epochs
                watch(State(number, len(fleets), fleet.places, epochs, epochs, results=outcome.results))
            for place, result in zip(fleet.places, outcome.results, strict=True):
                result.alone = fleet.alone
                yield place, result


@dataclass
class _Outcome:
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Files:
    """Data as files, which every process maps into its memory once."""

    folder: Path

    def load(self, device: str) -> Data:
        return _mapped(self.folder, device)

    def save(self, X: Array, y: Array) -> None:
        np.save(self.folder / "X.npy", X, allow_pickle=False)
        np.save(self.folder / "y.npy", y, allow_pickle=False)


@functools.lru_cache(maxsize=1)
def _mapped(folder: Path, device: str) -> Data:
    # Copy-on-write: torch wants memory that may be written, and nobody writes.
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in ("X", "y")]
    return Data(*(torch.from_numpy(array).to(device) for array in arrays))


def _shared(X: Array, y: Array, device: str) -> Data:
    """Return data that the trainer shares memory with."""
    return Data(torch.from_numpy(X).to(device), torch.from_numpy(y).to(device))


def _here(
    runs: Sequence[Run],
    fleets: Sequence[Fleet],
    X: Array,
    y: Array,
    found: Calibration,
    watch: Watcher | None,
) -> Generator[tuple[int, _Outcome]]:
    there: dict[str, Data] = {}
    for number, fleet in enumerate(fleets):
        device = runs[fleet.places[0]].device
        data = there[device] = there.get(device) or _shared(X, y, device)
        tell = functools.partial(_told, watch, number, fleets, runs[fleet.places[0]].epochs)
        with arithmetic(found):
            outcome = _trained([runs[place] for place in fleet.places], fleet, data, tell)
        yield number, outcome


def _told(
    watch: Watcher | None, number: int, fleets: Sequence[Fleet], epochs: int, rows: Sequence[Epoch]
) -> None:
    if watch:
        places = fleets[number].places
        watch(State(number, len(fleets), places, rows[0]["epoch"], epochs, rows))


def _there(
    runs: Sequence[Run],
    fleets: Sequence[Fleet],
    X: Array,
    y: Array,
    found: Calibration,
    watch: Watcher | None,
    executor: Executor,
) -> Generator[tuple[int, _Outcome]]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(shared_folder(X.nbytes + y.nbytes))
        shares = [[runs[place] for place in fleet.places] for fleet in fleets]
        beats = [folder / f"fleet-{number}" for number in range(len(fleets))]
        calls: list[functools.partial[_Outcome]]
        if isinstance(executor, ThreadPoolExecutor):
            stack.enter_context(arithmetic(found))  # it holds for all threads: none may set it for itself
            data = _shared(X, y, runs[0].device)
            ready = [_ready(share, fleet, data) for share, fleet in zip(shares, fleets, strict=True)]
            calls = [
                functools.partial(_in_thread, *each, data, found)
                for each in zip(shares, fleets, ready, beats, strict=True)
            ]
        else:
            files = _Files(folder)
            files.save(X, y)
            calls = [
                functools.partial(_in_process, *each, files, found)
                for each in zip(shares, fleets, beats, strict=True)
            ]
        futures = {executor.submit(call): number for number, call in enumerate(calls)}
        stack.callback(lambda: [future.cancel() for future in futures])
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures[future], future.result()
            if watch:
                for number in sorted(futures[future] for future in waiting):
                    if beats[number].exists():
                        fleet, epochs = fleets[number], shares[number][0].epochs
                        epoch = min(beats[number].stat().st_size, epochs)
                        watch(State(number, len(fleets), fleet.places, epoch, epochs))


def _in_process(runs: Sequence[Run], fleet: Fleet, beat: Path, files: _Files, found: Calibration) -> _Outcome:
    """Train a fleet in a process that does nothing else meanwhile."""
    device = runs[0].device
    with arithmetic(found if found.hardware == hardware(device) else calibration(device)):
        return _trained(runs, fleet, files.load(device), functools.partial(_beat, beat))


def _in_thread(
    runs: Sequence[Run], fleet: Fleet, ready: list[Loop], beat: Path, data: Data, found: Calibration
) -> _Outcome:
    """Train a fleet in one of several threads."""
    torch.set_num_threads(found.threads)  # each thread has a number of its own
    return _trained(runs, fleet, data, functools.partial(_beat, beat), ready)


def _ready(runs: Sequence[Run], fleet: Fleet, data: Data) -> list[Loop]:
    """Build a fleet's nets while no thread trains: drawing weights and tracing disturb all of them."""
    try:
        return [Loop(runs, fleet.by_hand, data, fleet.draws)]
    except Exception:  # it will fail again when its turn comes, and be told then
        return []


def _beat(file: Path, _: Sequence[Epoch]) -> None:
    """Leave a byte for each epoch; on a machine that does not see the folder there is nobody to tell."""
    with contextlib.suppress(FileNotFoundError), file.open("ab") as open_file:
        open_file.write(b".")


def _trained(
    runs: Sequence[Run],
    fleet: Fleet,
    data: Data,
    tell: Tell,
    ready: list[Loop] | None = None,
    again: bool = False,
) -> _Outcome:
    """Train a fleet; where that fails, its halves, down to the one run that is to blame."""
    try:
        loops = ready or [Loop(runs, fleet.by_hand, data, fleet.draws)]
        return _Outcome(loops.pop().train(tell))  # nothing else holds it: its memory is free when it fails
    except Exception as error:  # a person's module may raise anything
        reason, memory = short(error), _is_memory(error)
    if memory:
        gc.collect()  # a loop and its steps know each other, and so they outlast it
    if memory and data.X.is_cuda:
        torch.cuda.empty_cache()
    if len(runs) == 1 and memory and not again:
        return _trained(runs, fleet, data, tell, again=True)
    if len(runs) == 1:
        failure = f"out of memory: {reason}" if memory else reason
        return _Outcome([Result(failure=failure)])
    outcome, half = _Outcome(), len(runs) // 2
    if memory:
        outcome.notes.append(f"out of memory with {len(runs)} runs at once; going on with {half}")
    for share in (runs[:half], runs[half:]):
        part = _trained(share, fleet, data, tell)
        outcome.results += part.results
        outcome.notes += part.notes
    return outcome


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)

"""Worker processes of this machine, and arrays that they share."""

from __future__ import annotations

import collections
import contextlib
import functools
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import torch
from loky.process_executor import ProcessPoolExecutor

from actlab.errors import UsageError

Array = npt.NDArray[Any]
_MEMORY, _PREFIX = Path("/dev/shm"), "actlab-"
_CODES = re.compile(r"exit codes of the workers are \{(.*?)\}")  # as loky says it
_IDLE = 60  # seconds after which processes without work end
_LOOK = 1.0  # seconds between two looks at whether the process that we work for lives


def workers(jobs: int | None) -> int:
    """Return how many processes ``n_jobs`` means.

    Args:
        jobs: As scikit-learn has it: a number, or -1 for all cores, -2 for all but one. None means as
            many as PyTorch would use threads, and one within a process that is a worker itself.

    Returns:
        A number of at least 1.
    """
    if jobs is None:
        return 1 if multiprocessing.parent_process() else torch.get_num_threads()
    return int(joblib.effective_n_jobs(jobs))


class Engine(Executor, ABC):
    """An executor that knows how much it can do at a time, and how data come to it."""

    @abstractmethod
    def room(self) -> int:
        """Return how many calls it should have so that none of its workers waits for one."""

    def sharing(self, X: Array, y: Array) -> contextlib.AbstractContextManager[Shared]:
        """Return arrays in a form that can be sent to the workers, for as long as the block runs.

        Args:
            X: Inputs (n, ...).
            y: Targets (n, ...).
        """
        return _in_files(X, y)


class Processes(Engine):
    """Processes of this machine. One that dies takes along what it was doing, and nothing else.

    A pool of several processes breaks as a whole when one of them dies, and does not say what that one was
    doing. So each process is a pool by itself.

    Args:
        number: How many.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._lock = threading.RLock()
        self._waiting: collections.deque[tuple[Future[Any], Callable[[], Any]]] = collections.deque()
        self._free = [_spare.pop() if _spare else _one_process() for _ in range(number)]
        self._busy: list[ProcessPoolExecutor] = []
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Let one of the processes call a function; when the process dies of it, that is a BrokenExecutor."""
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("its processes have ended")
            self._waiting.append((future, functools.partial(fn, *args, **kwargs)))
            self._next()
        return future

    def room(self) -> int:
        """Return one more than there are processes: it waits for its turn."""
        return self.number + 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. The processes stay for a minute, for whoever wants some next."""
        with self._lock:
            self._closed = True
            futures = [future for future, _ in self._waiting]
        for future in futures if cancel_futures else ():
            future.cancel()
        while wait and self._busy:
            time.sleep(0.01)
        with self._lock:
            _spare.extend(self._free)
            self._free = []

    def kill(self) -> None:
        """End the processes now, whatever they do."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            pools = self._free + self._busy
            self._free, self._busy = [], []
        for pool in pools:
            pool.shutdown(wait=True, kill_workers=True)

    def _next(self) -> None:
        while self._free and self._waiting:
            future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                pool = self._free.pop()
                with _sigint_blocked():  # until _belong runs in a new process
                    try:
                        inner = pool.submit(call)
                    except BrokenExecutor:  # its process was killed while it had nothing to do
                        pool = _one_process()
                        inner = pool.submit(call)
                self._busy.append(pool)
                inner.add_done_callback(functools.partial(self._ended, pool, future))

    def _ended(self, pool: ProcessPoolExecutor, future: Future[Any], inner: Future[Any]) -> None:
        error = inner.exception()
        if isinstance(error, BrokenExecutor) and (codes := _CODES.search(str(error))):
            error = BrokenExecutor(f"exit code {codes[1]}")
        with self._lock:
            if pool in self._busy:  # not after kill()
                self._busy.remove(pool)
                self._free.append(_one_process() if isinstance(error, BrokenExecutor) else pool)
            self._next()
        if error is None:
            future.set_result(inner.result())
        else:
            future.set_exception(error)


_spare: list[ProcessPoolExecutor] = []  # pools that nobody uses at the moment


def _one_process() -> ProcessPoolExecutor:
    # Where psutil is installed, loky ends processes that hold more than at first: ours hold data.
    patience = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}  # bytes
    return ProcessPoolExecutor(
        max_workers=1, timeout=_IDLE, initializer=_belong, initargs=(os.getpid(),), env=patience
    )


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in this thread and in the processes it starts; it arrives at the end of the block."""
    resource_tracker.ensure_running()  # or loky starts it in the block, which unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def processes(number: int) -> Iterator[Processes]:
    """Yield processes of this machine; when the block fails or is interrupted, they end with it.

    Args:
        number: How many.

    Yields:
        An executor. Its processes stay for a minute, for the next block.
    """
    executor = Processes(number)
    try:
        yield executor
    except BaseException:
        executor.kill()
        raise
    executor.shutdown()


def _belong(parent: int) -> None:
    """Leave Ctrl-C, which a terminal sends to all of us, to the process that people look at; end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), name="actlab-parent", daemon=True).start()


def _end_with(parent: int) -> None:
    # loky does not see that its parent was killed, and a result that nobody reads is waited for for ever.
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


@dataclass(frozen=True)
class Shared:
    """Arrays as files, which every process maps into its memory once.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    def load(self) -> tuple[Array, Array]:
        """Return the arrays; what is written to them stays in the process."""
        return mapped(self.folder)

    def tick(self, name: str) -> None:
        """Leave a byte in a file of that name; where the folder is not seen there is nobody to tell."""
        with contextlib.suppress(FileNotFoundError), (self.folder / name).open("ab") as file:
            file.write(b".")

    def ticks(self, name: str) -> int | None:
        """Return how many bytes were left there."""
        file = self.folder / name
        return file.stat().st_size if file.exists() else None

    def clear(self, name: str) -> None:
        """Forget them."""
        (self.folder / name).unlink(missing_ok=True)


def keep(folder: Path, X: Array, y: Array) -> None:
    """Write the arrays into a folder, for :func:`mapped`."""
    np.save(folder / "X.npy", X, allow_pickle=False)
    np.save(folder / "y.npy", y, allow_pickle=False)


def mapped(folder: Path) -> tuple[Array, Array]:
    """Return the arrays of a folder; they are read as they are needed, into memory that processes share."""
    # Copy-on-write: torch wants memory that may be written, and nobody writes.
    X, y = (np.load(folder / f"{n}.npy", mmap_mode="c", allow_pickle=False) for n in ("X", "y"))
    return X, y


def sharing(executor: Executor, X: Array, y: Array) -> contextlib.AbstractContextManager[Shared]:
    """Return arrays in a form that can be sent to any executor's workers, for as long as the block runs.

    Args:
        executor: Whose workers; those of an unknown kind are taken to be processes of this machine.
        X: Inputs (n, ...).
        y: Targets (n, ...).
    """
    return executor.sharing(X, y) if isinstance(executor, Engine) else _in_files(X, y)


@contextlib.contextmanager
def _in_files(X: Array, y: Array) -> Iterator[Shared]:
    with shared_folder(X.nbytes + y.nbytes) as folder:
        try:
            keep(folder, X, y)
        except OSError as error:
            size = f"{(X.nbytes + y.nbytes) / 2**20:.0f} MiB of data"
            problem = f"{folder.parent} has no room for {size} that the processes share"
            raise UsageError(f"{problem}; set TMPDIR to a larger folder, or train in one process") from error
        yield Shared(folder)


@contextlib.contextmanager
def shared_folder(needed: int) -> Iterator[Path]:
    """Yield a folder that all processes of this machine see, in memory where there is room; it goes again.

    Args:
        needed: Bytes that will be written there.
    """
    for left in _MEMORY.glob(f"{_PREFIX}*"):  # what a killed process could not take with it
        owner = left.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    fits = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * needed
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY if fits else None))
    try:
        yield folder
    finally:
        with contextlib.suppress(FileNotFoundError):
            # Processes may still write; under another name nobody puts a file into what is being emptied.
            shutil.rmtree(folder.rename(f"{folder}-gone"), ignore_errors=True)

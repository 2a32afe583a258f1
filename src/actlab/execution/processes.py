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

from actlab.errors import UsageError, summarize_error

Array = npt.NDArray[Any]
_MEMORY, _PREFIX = Path("/dev/shm"), "actlab-"
_CODES = re.compile(r"exit codes of the workers are \{(.*?)\}")  # the text of loky's error
_IDLE = 300  # seconds after which idle processes end, as in joblib
_CHECK_SECONDS = 1.0  # seconds between two checks whether the parent process is alive


def count_processes(jobs: int | None) -> int:
    """Return the number of processes that ``n_jobs`` stands for.

    Args:
        jobs: As in scikit-learn: a number, or -1 for all cores, -2 for all but one. None means the number of
            threads that PyTorch would use, or one in a worker process.

    Returns:
        A number of at least 1.
    """
    if jobs is None:
        return 1 if multiprocessing.parent_process() else torch.get_num_threads()
    return int(joblib.effective_n_jobs(jobs))


class WorkerExecutor(Executor, ABC):
    """An executor that reports its capacity and shares data with its workers."""

    @abstractmethod
    def count_slots(self) -> int:
        """Return the number of submitted calls that keeps all workers busy."""

    def share_arrays(self, X: Array, y: Array) -> contextlib.AbstractContextManager[SharedArrays]:
        """Return arrays in a form that can be sent to the workers, for as long as the block runs.

        Args:
            X: Inputs (n, ...).
            y: Targets (n, ...).
        """
        return _share_in_files(X, y)


class WorkerPool(WorkerExecutor):
    """Worker processes of this machine. A process that dies loses only its own call.

    A pool of several processes breaks as a whole when one of them dies, and does not report which call that
    process was running. So each process has its own pool.

    Args:
        number: Number of processes.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._lock = threading.RLock()
        self._waiting: collections.deque[tuple[Future[Any], Callable[[], Any]]] = collections.deque()
        self._free = [_spare.pop() if _spare else _start_process() for _ in range(number)]
        self._busy: list[ProcessPoolExecutor] = []
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a process; the future raises BrokenExecutor if the process dies."""
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("its processes have ended")
            self._waiting.append((future, functools.partial(fn, *args, **kwargs)))
            self._submit_next()
        return future

    def count_slots(self) -> int:
        """Return one more than the number of processes, so that the next call is ready."""
        return self.number + 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls. Idle processes stay alive for five minutes, for the next executor."""
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
        """Kill the processes at once."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            pools = self._free + self._busy
            self._free, self._busy = [], []
        for pool in pools:
            pool.shutdown(wait=True, kill_workers=True)

    def _submit_next(self) -> None:
        while self._free and self._waiting:
            future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                pool = self._free.pop()
                # Interrupts wait until _ignore_interrupt_and_end_with_parent runs in a new process.
                with _explain_error_of_start(), _block_sigint():
                    try:
                        inner = pool.submit(call)
                    except BrokenExecutor:  # its process was killed while it was idle
                        pool = _start_process()
                        inner = pool.submit(call)
                self._busy.append(pool)
                inner.add_done_callback(functools.partial(self._finish, pool, future))

    def _finish(self, pool: ProcessPoolExecutor, future: Future[Any], inner: Future[Any]) -> None:
        error = inner.exception()
        if isinstance(error, BrokenExecutor) and (codes := _CODES.search(str(error))):
            error = BrokenExecutor(f"exit code {codes[1]}")
        with self._lock:
            if pool in self._busy:  # not after kill()
                self._busy.remove(pool)
                self._free.append(_start_process() if isinstance(error, BrokenExecutor) else pool)
            self._submit_next()
        if error is None:
            future.set_result(inner.result())
        else:
            future.set_exception(error)


_spare: list[ProcessPoolExecutor] = []  # idle pools


@contextlib.contextmanager
def _explain_error_of_start() -> Iterator[None]:
    """Raise a UsageError if a process cannot start in the block, such as if too many files are open."""
    try:
        yield
    except (OSError, UnboundLocalError) as error:  # loky raises the second while it handles the first
        cause = error if isinstance(error, OSError) else error.__context__ or error
        advice = "raise the limit of open files (ulimit -n), or train in one process (jobs=1, --jobs 1)"
        raise UsageError(f"a worker process cannot start: {summarize_error(cause)}; {advice}") from error


def _start_process() -> ProcessPoolExecutor:
    # If psutil is installed, loky ends processes whose memory grows; these keep data in memory.
    environment = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}  # bytes
    with _explain_error_of_start():
        return ProcessPoolExecutor(
            max_workers=1,
            timeout=_IDLE,
            initializer=_ignore_interrupt_and_end_with_parent,
            initargs=(os.getpid(),),
            env=environment,
        )


@contextlib.contextmanager
def _block_sigint() -> Iterator[None]:
    """Block SIGINT in this thread and in the processes it starts; it arrives at the end of the block."""
    resource_tracker.ensure_running()  # or loky starts it in the block, which unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def start_processes(number: int) -> Iterator[WorkerPool]:
    """Yield an executor of worker processes; if the block fails or is interrupted, kill them.

    Args:
        number: Number of processes.

    Yields:
        The executor. Its processes stay alive for five minutes, for the next block.
    """
    executor = WorkerPool(number)
    try:
        yield executor
    except BaseException:
        executor.kill()
        raise
    executor.shutdown()


def _ignore_interrupt_and_end_with_parent(parent: int) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent,), name="actlab-parent", daemon=True).start()


def _end_with_parent(parent: int) -> None:
    # loky does not detect a killed parent, and would wait forever for its result to be read.
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    os._exit(1)


@dataclass(frozen=True)
class SharedArrays:
    """Arrays as files, which every process maps into its memory once.

    Attributes:
        folder: The folder of the files.
    """

    folder: Path

    def load(self) -> tuple[Array, Array]:
        """Return the arrays; changes to them stay in the process."""
        return map_arrays(self.folder)

    def tick(self, name: str) -> None:
        """Append a byte to a file of that name; do nothing if the folder is not on this machine."""
        with contextlib.suppress(FileNotFoundError), (self.folder / name).open("ab") as file:
            file.write(b".")

    def count_ticks(self, name: str) -> int | None:
        """Return the number of bytes in the file; None if it does not exist."""
        file = self.folder / name
        return file.stat().st_size if file.exists() else None

    def clear(self, name: str) -> None:
        """Delete the file."""
        (self.folder / name).unlink(missing_ok=True)


def save_arrays(folder: Path, X: Array, y: Array) -> None:
    """Write the arrays into a folder, for :func:`map_arrays`."""
    np.save(folder / "X.npy", X, allow_pickle=False)
    np.save(folder / "y.npy", y, allow_pickle=False)


def map_arrays(folder: Path) -> tuple[Array, Array]:
    """Return the arrays of a folder, mapped into memory that processes share."""
    # Copy-on-write, because torch requires writable memory.
    X, y = (np.load(folder / f"{n}.npy", mmap_mode="c", allow_pickle=False) for n in ("X", "y"))
    return X, y


def share_arrays(executor: Executor, X: Array, y: Array) -> contextlib.AbstractContextManager[SharedArrays]:
    """Return arrays in a form that can be sent to any executor's workers, for as long as the block runs.

    Args:
        executor: The executor; workers of an unknown type are assumed to be on this machine.
        X: Inputs (n, ...).
        y: Targets (n, ...).
    """
    return executor.share_arrays(X, y) if isinstance(executor, WorkerExecutor) else _share_in_files(X, y)


@contextlib.contextmanager
def _share_in_files(X: Array, y: Array) -> Iterator[SharedArrays]:
    with create_shared_folder(X.nbytes + y.nbytes) as folder:
        try:
            save_arrays(folder, X, y)
        except OSError as error:
            size = f"{(X.nbytes + y.nbytes) / 2**20:.0f} MiB of data"
            problem = f"{folder.parent} has no room for {size} that the processes share"
            raise UsageError(f"{problem}; set TMPDIR to a larger folder, or train in one process") from error
        yield SharedArrays(folder)


@contextlib.contextmanager
def create_shared_folder(needed: int) -> Iterator[Path]:
    """Yield a temporary folder for all processes of this machine, in memory if there is room.

    Args:
        needed: Number of bytes that will be written.
    """
    for leftover in _MEMORY.glob(f"{_PREFIX}*"):  # left behind by killed processes
        owner = leftover.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(leftover, ignore_errors=True)
    fits = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * needed
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY if fits else None))
    try:
        yield folder
    finally:
        with contextlib.suppress(FileNotFoundError):
            # Processes may still write; after the renaming they cannot add files while it is deleted.
            shutil.rmtree(folder.rename(f"{folder}-gone"), ignore_errors=True)

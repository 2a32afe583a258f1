"""Where work is done: in this process, or on any ``concurrent.futures.Executor``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import joblib
import torch
from loky import get_reusable_executor

_MEMORY, _PREFIX = Path("/dev/shm"), "actlab-"
_IDLE = 60  # seconds after which processes without work end


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


@contextlib.contextmanager
def processes(number: int) -> Iterator[Executor]:
    """Yield processes of this machine; when the block fails or is interrupted, they end with it.

    Args:
        number: How many.

    Yields:
        An executor. Its processes stay for a minute, for the next block.
    """
    executor = get_reusable_executor(max_workers=number, timeout=_IDLE, initializer=_ignore_interrupts)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, kill_workers=True)
        raise


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to all of us, to the process that people look at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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

"""A real Dask cluster on loopback, with a scheduler and workers in separate processes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import kill_group, start_process

_HERE = ("--host", "127.0.0.1", "--no-dashboard")
_DASK = [sys.executable, "-m", "dask"]
_SECONDS = 3600  # time limit of a process; many tests share a cluster


class LoopbackCluster:
    """A scheduler on 127.0.0.1, and workers with one thread each.

    Args:
        folder: Folder of logs and of the workers' files.
        stack: Exit stack that ends the processes.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self.stack, self.number = folder, stack, 0
        self.address = ""
        self.scheduler = self.start_scheduler()
        self.workers = []

    def start_scheduler(self):
        port = self.address.rpartition(":")[2] or "0"
        process, log = self._start("scheduler", *_HERE, "--port", port, "--no-show")
        self.address = _find_in_log(log, r"Scheduler at: *(tcp://127\.0\.0\.1:\d+)")
        self.scheduler = process
        return process

    def start_worker(self, environment=None):
        folder = self.folder / f"worker-{self.number}"
        options = [*_HERE, "--nthreads", "1", "--local-directory", str(folder)]
        options += ["--memory-limit", "0", "--death-timeout", "60"]
        process, log = self._start("worker", self.address, *options, environment=environment)
        _find_in_log(log, r"Registered to: *(tcp://\S+)")
        self.workers.append(process)
        return process

    def _start(self, *arguments, environment=None):
        log = self.folder / f"{arguments[0]}-{self.number}.log"
        self.number += 1
        environment = {**os.environ, **(environment or {})}
        with log.open("w") as file:
            start = start_process(
                [*_DASK, *arguments], _SECONDS, stdout=file, stderr=subprocess.STDOUT, env=environment
            )
            return self.stack.enter_context(start), log

    def kill(self, process):
        """Kill a process and its children."""
        kill_group(process)
        process.wait(60)


@contextlib.contextmanager
def loopback_cluster(folder):
    """Yield a cluster with a scheduler and no workers, and end all processes after the block."""
    with contextlib.ExitStack() as stack:
        yield LoopbackCluster(folder, stack)


def _find_in_log(log, pattern, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if match := re.search(pattern, log.read_text()):
            return match[1]
        time.sleep(0.05)
    raise TimeoutError(f"no {pattern!r} in {log.read_text()!r}")

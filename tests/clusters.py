"""A real Dask cluster on loopback: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

_HERE = ("--host", "127.0.0.1", "--no-dashboard")
_DASK = [sys.executable, "-m", "dask"]


class LoopbackCluster:
    """A scheduler on 127.0.0.1, and workers with one thread each.

    Args:
        folder: Where logs and the files of workers go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        self.address = ""
        self.scheduler = self.start_scheduler()
        self.workers = []

    def start_scheduler(self):
        port = self.address.rpartition(":")[2] or "0"
        process, log = self._start("scheduler", *_HERE, "--port", port, "--no-show")
        self.address = _found(log, r"Scheduler at: *(tcp://127\.0\.0\.1:\d+)")
        self.scheduler = process
        return process

    def start_worker(self, environment=None):
        folder = self.folder / f"worker-{len(self.processes)}"
        options = [*_HERE, "--nthreads", "1", "--local-directory", str(folder)]
        options += ["--memory-limit", "0", "--death-timeout", "60"]
        process, log = self._start("worker", self.address, *options, environment=environment)
        _found(log, r"Registered to: *(tcp://\S+)")
        self.workers.append(process)
        return process

    def _start(self, *arguments, environment=None):
        log = self.folder / f"{arguments[0]}-{len(self.processes)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*_DASK, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group to end with its nanny's children
                env={**os.environ, **(environment or {})},
            )
        self.processes.append(process)
        return process, log

    def kill(self, process):
        """Kill a process and its children, as a machine that loses its power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self):
        for process in self.processes:
            self.kill(process)


def _found(log, pattern, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if match := re.search(pattern, log.read_text()):
            return match[1]
        time.sleep(0.05)
    raise TimeoutError(f"no {pattern!r} in {log.read_text()!r}")

"""The process that has claimed runs, and whether it has ended."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True)
class ClaimOwner:
    """A process of a host. Its start time distinguishes it from a later process with the same ID.

    Args:
        host: The name of the host.
        pid: The ID of the process.
        started: Its start time, in seconds since the host booted, which does not depend on the clock.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        return cls(socket.gethostname(), os.getpid(), _start_time(psutil.Process()))

    def has_ended(self) -> bool:
        """Return whether the process has certainly ended. A process of another host may be running."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return True
            return _start_time(process) != self.started
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def _start_time(process: psutil.Process) -> float:
    return float(round(process.create_time() - psutil.boot_time(), 2))

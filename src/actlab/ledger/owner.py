"""Which process has claimed runs, and whether it still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process, told from every other that ever had its number.

    Args:
        host: The name of its host.
        machine: What the host's system was given when it was installed.
        boot: When the host was started, as an identifier.
        space: The namespace that the number is of, as containers have their own.
        pid: The number.
        started: When the process was started, in ticks since then.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Self:
        """Return the process that asks."""
        machine, boot = text_of(Path("/etc/machine-id")), text_of(PROC / "sys/kernel/random/boot_id")
        try:
            space = os.readlink(PROC / "self/ns/pid")
        except OSError:
            space = ""
        return cls(socket.gethostname(), machine, boot, space, os.getpid(), _stat(os.getpid())[1])

    @property
    def columns(self) -> tuple[str, str, str, str, int, str]:
        """What the table of owners has of it."""
        return self.host, self.machine, self.boot, self.space, self.pid, self.started

    def gone(self, here: Process) -> bool:
        """Say whether it has certainly ended, as seen from the process ``here``."""
        if (self.host, self.machine) != (here.host, here.machine):
            return False
        if self.boot != here.boot:
            return True
        if self.space != here.space or not self.started:  # there is no /proc where nothing is known
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass  # somebody else's, and it lives
        state, started = _stat(self.pid)
        return state in ("Z", "X") or started not in ("", self.started)


def _stat(pid: int) -> tuple[str, str]:
    """Return the state and the start time of a process; empty when they cannot be seen."""
    words = text_of(PROC / str(pid) / "stat").rpartition(")")[2].split()  # its name may have spaces
    return (words[0], words[19]) if len(words) > 19 else ("", "")


def text_of(path: Path) -> str:
    """Return what a file of the system says; nothing where there is none."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""

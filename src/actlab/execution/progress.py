"""The progress of fleets: bars and a leaderboard on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from actlab.errors import escape_unprintable
from actlab.execution.scheduler import SchedulerState, Watcher

if TYPE_CHECKING:
    from actlab.execution.terminal import TerminalProgress

_SILENT = 1.0  # seconds without progress: shorter work needs none
_OFTEN, _SELDOM = 0.2, 10.0  # seconds between two updates on a terminal, between two lines elsewhere
_DUMB = ("dumb", "unknown")  # terminals that cannot overwrite a line


@contextlib.contextmanager
def show_progress(
    names: Sequence[str],
    verbose: int,
    stream: TextIO | None = None,
    *,
    what: str = "activation",
    stage: str = "",
) -> Iterator[Watcher]:
    """Yield a function that shows the states of fleets while the block runs.

    If the stream breaks, the display ends and training continues.

    Args:
        names: The name of each run, in the order of the runs. The leaderboard shows means of equal names.
        verbose: 0 for nothing, 1 for progress after a second, 2 for progress from the start and often.
        stream: Where to show it (default: standard error).
        what: What the names stand for, such as activations.
        stage: The part of the work, such as a round of a sequential test; empty if there is one part.

    Yields:
        A function that takes every state.
    """
    stream = stream or sys.stderr
    if not verbose or stream is None:  # Python has no standard error if it was closed
        yield lambda state: None
        return
    display = _Display(names, verbose, stream, what, stage)
    try:
        yield display.show
    finally:
        if display.terminal is not None:
            display.terminal.close()


class _Display:
    def __init__(self, names: Sequence[str], verbose: int, stream: TextIO, what: str, stage: str) -> None:
        self.names = [escape_unprintable(" ".join(name.split())) for name in names]
        self.stream, self.what, self.stage = stream, what, stage
        self.paints = stream.isatty() and os.environ.get("TERM", "").lower() not in _DUMB
        self.interval = _OFTEN if self.paints or verbose > 1 else _SELDOM
        self.start = time.monotonic()
        self.due = self.start + (0 if verbose > 1 else _SILENT)
        self.running: dict[int, SchedulerState] = {}
        self.ended: dict[int, dict[str, float]] = {}  # the last epoch of each run that has ended
        self.terminal: TerminalProgress | None = None

    def show(self, state: SchedulerState) -> None:
        """Record a state, and show it if it is time."""
        self.running[state.fleet] = state
        if state.results is not None:
            del self.running[state.fleet]
            for run, result in zip(state.runs, state.results, strict=True):
                self.ended[run] = result.history[-1] if result.history and not result.failure else {}
        if (now := time.monotonic()) < self.due:
            return
        self.due = now + self.interval
        try:
            self._paint(now - self.start) if self.paints else self._print(now - self.start)
        except (OSError, ValueError):  # the stream is closed or broken, or cannot encode a name
            self.due = math.inf

    def _print(self, seconds: float) -> None:
        done = f"{len(self.ended)} of {len(self.names)} runs done, {seconds:.0f} s"
        self.stream.write(f"actlab: {format_stage(self.stage)}{done}\n")
        self.stream.flush()

    def _paint(self, seconds: float) -> None:
        from actlab.execution.terminal import TerminalProgress

        if self.terminal is None:
            self.terminal = TerminalProgress(self.stream, self.stage or "runs", self.names, self.what)
        self.terminal.paint(list(self.running.values()), self.ended, seconds)


def format_stage(stage: str) -> str:
    """Return the prefix of a message that names a part of the work.

    Examples:
        >>> format_stage("round 2"), format_stage("")
        ('round 2: ', '')
    """
    return f"{stage}: " if stage else ""

"""How far fleets are: bars and a leaderboard on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from actlab.fleet.conduct import State, Watcher

_SILENT = 1.0  # seconds; what is done before needs no progress
_OFTEN, _SELDOM = 0.2, 10.0  # seconds between two pictures on a terminal, between two lines elsewhere
_BARS, _LEADERS = 4, 5  # how many are shown
_SCORES = ("valid_acc", "valid_loss", "train_loss")
_BAR = 24  # characters
_UP = "\x1b[{}F\x1b[J"  # go up so many lines, and clear what is below


@contextlib.contextmanager
def watching(names: Sequence[str], verbose: int, stream: TextIO | None = None) -> Iterator[Watcher]:
    """Yield what shows the states of fleets while the block runs.

    Args:
        names: What each run is, in the order of the runs; equal names are summed up on the leaderboard.
        verbose: 0 for nothing, 1 once it takes a while, 2 from the start and often.
        stream: Where to show it; standard error when left out.

    Yields:
        What to tell of every state.
    """
    if not verbose:
        yield lambda state: None
        return
    display = _Display(names, verbose, stream or sys.stderr)
    try:
        yield display.show
    finally:
        display.end()


class _Display:
    def __init__(self, names: Sequence[str], verbose: int, stream: TextIO) -> None:
        self.names, self.stream = [" ".join(name.split()) for name in names], stream
        self.terminal = stream.isatty()
        self.often = self.terminal or verbose > 1
        self.start = time.monotonic()
        self.due = self.start + (0 if verbose > 1 else _SILENT)
        self.lines = 0
        self.states: dict[int, State] = {}
        self.scores: dict[str, list[float]] = {}
        self.losses = False  # whether the scores are losses, the least of which is the best
        self.ended = 0

    def show(self, state: State) -> None:
        """Take in a state and show it when it is time."""
        self.states[state.fleet] = state
        for place, result in zip(state.runs, state.results or (), strict=bool(state.results)):
            self.ended += 1
            last = result.history[-1] if result.history else {}
            column = next((name for name in _SCORES if name in last), "")
            self.losses |= column.endswith("loss")
            score: float = math.nan if result.failure else last.get(column, math.nan)
            self.scores.setdefault(self.names[place], []).append(score)
        if (now := time.monotonic()) < self.due:
            return
        self.due = now + (_OFTEN if self.often else _SELDOM)
        self._write(self._picture() if self.terminal else [self._headline()])

    def end(self) -> None:
        """Clear the picture."""
        if self.terminal:
            self._write([])

    def _write(self, lines: Sequence[str]) -> None:
        width = self._width() - 1
        up = _UP.format(self.lines) if self.lines else ""
        self.stream.write(up + "".join(f"{line[:width]}\n" for line in lines))
        self.stream.flush()
        self.lines = len(lines) if self.terminal else 0

    def _width(self) -> int:
        try:  # standard output may be another terminal, or none
            return os.get_terminal_size(self.stream.fileno()).columns or shutil.get_terminal_size().columns
        except OSError:
            return shutil.get_terminal_size().columns

    def _headline(self) -> str:
        seconds = time.monotonic() - self.start
        return f"actlab: {self.ended} of {len(self.names)} nets trained, {seconds:.0f} s"

    def _picture(self) -> list[str]:
        running = [state for state in self.states.values() if state.results is None]
        lines = [self._headline()]
        for state in running[-_BARS:]:
            full = _BAR * state.epoch // state.epochs
            bar = "#" * full + "." * (_BAR - full)
            what = f"{len(state.runs)} nets" if len(state.runs) > 1 else self.names[state.runs[0]]
            lines.append(
                f"  fleet {state.fleet + 1:>3} [{bar}] epoch {state.epoch} of {state.epochs}, {what}"
            )
        means = {name: sum(scores) / len(scores) for name, scores in self.scores.items()}
        sign = 1 if self.losses else -1
        ranked = sorted(means, key=lambda name: (math.isnan(means[name]), sign * means[name]))
        for rank, name in enumerate(ranked[:_LEADERS], 1):
            lines.append(f"  {rank}. {means[name]:.5f} {name} ({len(self.scores[name])} nets)")
        return lines

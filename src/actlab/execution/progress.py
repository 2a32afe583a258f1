"""How far fleets are: bars and a leaderboard on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from actlab.execution.scheduler import State, Watcher

if TYPE_CHECKING:
    from actlab.execution.terminal import Bar, Board, Screen

_SILENT = 1.0  # seconds; what is done before needs no progress
_OFTEN, _SELDOM = 0.2, 10.0  # seconds between two pictures on a terminal, between two lines elsewhere
_BARS, _LEADERS = 4, 5  # how many are shown
_SCORES = {
    "valid_acc": "validation accuracy",
    "valid_loss": "validation loss",
    "train_loss": "training loss",
}
_DUMB = ("dumb", "unknown")  # terminals that cannot paint over what is there


@contextlib.contextmanager
def watching(
    names: Sequence[str],
    verbose: int,
    stream: TextIO | None = None,
    *,
    what: str = "activation",
    turn: int = 0,
) -> Iterator[Watcher]:
    """Yield what shows the states of fleets while the block runs.

    A stream that breaks ends the display, and nothing else.

    Args:
        names: What each run is, in the order of the runs; equal names are summed up on the leaderboard.
        verbose: 0 for nothing, 1 once it takes a while, 2 from the start and often.
        stream: Where to show it; standard error when left out.
        what: What the names name.
        turn: Which round of a race the runs are, from 1; 0 where there are no rounds.

    Yields:
        What to tell of every state.
    """
    stream = stream or sys.stderr
    if not verbose or stream is None:  # Python has no standard error where it was closed
        yield lambda state: None
        return
    display = _Display(names, verbose, stream, what, turn)
    try:
        yield display.show
    finally:
        display.end()


class _Display:
    def __init__(self, names: Sequence[str], verbose: int, stream: TextIO, what: str, turn: int) -> None:
        self.turn = turn
        self.names, self.stream, self.what = [printable(name) for name in names], stream, what
        self.terminal = stream.isatty() and os.environ.get("TERM", "").lower() not in _DUMB
        self.often = self.terminal or verbose > 1
        self.start = time.monotonic()
        self.due = self.start + (0 if verbose > 1 else _SILENT)
        self.states: dict[int, State] = {}
        self.scores: dict[str, list[float]] = {}
        self.column = ""  # which of the scores is shown
        self.ended = 0
        self.since: tuple[float, float] | None = None  # when there was how much done, from where time counts
        self.screen: Screen | None = None

    def show(self, state: State) -> None:
        """Take in a state and show it when it is time."""
        self.states[state.fleet] = state
        for place, result in zip(state.runs, state.results or (), strict=bool(state.results)):
            self.ended += 1
            last = result.history[-1] if result.history and not result.failure else {}
            self.column = self.column or next((name for name in _SCORES if name in last), "")
            score: float = last.get(self.column, math.nan)
            self.scores.setdefault(self.names[place], []).append(score)
        if (now := time.monotonic()) < self.due:
            return
        self.due = now + (_OFTEN if self.often else _SELDOM)
        try:
            self._show(now - self.start)
        except (OSError, ValueError):
            self.due = math.inf  # closed, broken or unable to encode a name: no reason to stop the work

    def end(self) -> None:
        """Clear the picture."""
        if self.screen is not None:
            self.screen.clear()

    def _show(self, seconds: float) -> None:
        if not self.terminal:
            done = f"{self.ended} of {len(self.names)} nets trained, {seconds:.0f} s"
            self.stream.write(f"actlab: {in_round(self.turn)}{done}\n")
            self.stream.flush()
            return
        if self.screen is None:
            from actlab.execution.terminal import Screen

            self.screen = Screen(self.stream)
        self.screen.paint(self._bars(seconds), self._board())

    def _bars(self, seconds: float) -> list[Bar]:
        from actlab.execution.terminal import Bar, duration

        running = [state for state in self.states.values() if state.results is None]
        done = self.ended + sum(len(state.runs) * state.epoch / state.epochs for state in running)
        text = f"{self.ended} of {len(self.names)} nets, {duration(seconds)}"
        if (left := self._left(done, seconds)) >= 1:
            text += f", about {duration(left)} left"
        bars = [Bar(f"round {self.turn}" if self.turn else "nets", done, len(self.names), text)]
        for state in running[-_BARS:]:
            whose = f"{len(state.runs)} nets" if len(state.runs) > 1 else self.names[state.runs[0]]
            text = f"epoch {state.epoch} of {state.epochs}, {whose}"
            bars.append(Bar(f"fleet {state.fleet + 1}", state.epoch, state.epochs, text))
        return bars

    def _left(self, done: float, seconds: float) -> float:
        """Return how many seconds the rest will take, 0 while nobody knows."""
        if self.since is None:
            if seconds >= _SILENT:  # what a ledger knew has come by now, and says nothing about speed
                self.since = seconds, done
            return 0.0
        gone, more = seconds - self.since[0], done - self.since[1]
        return gone * (len(self.names) - done) / more if more > 0 else 0.0

    def _board(self) -> Board | None:
        from actlab.execution.terminal import Board

        if not self.scores:
            return None
        means = {name: sum(scores) / len(scores) for name, scores in self.scores.items()}
        sign = 1 if self.column.endswith("loss") else -1
        ranked = sorted(means, key=lambda name: (math.isnan(means[name]), sign * means[name]))
        shown = {name: self.scores[name] for name in ranked[:_LEADERS]}
        return Board(self.what, _SCORES.get(self.column, "score"), shown, len(ranked) - len(shown))


def in_round(turn: int) -> str:
    """Return what stands before the number of nets that a round of a race trains.

    Examples:
        >>> in_round(2), in_round(0)
        ('round 2: ', '')
    """
    return f"round {turn}: " if turn else ""


def printable(name: str) -> str:
    """Return a name as one line without what a terminal would obey, such as colours and turned writing.

    Examples:
        >>> printable("Sequential(\\n  Tanh())"), printable("\\x1b[2J")
        ('Sequential( Tanh())', '�[2J')
    """
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(name.split())
    )

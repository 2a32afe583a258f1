"""Progress on a terminal, with rich. Only :mod:`actlab.execution.progress` imports this, when it paints."""

from __future__ import annotations

import contextlib
import datetime
import math
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from actlab.execution.scheduler import SchedulerState

_BARS, _LEADERS = 4, 5  # how many are shown
_NARROW = 60  # columns; a narrower terminal has no bars, and fewer columns in the leaderboard
_SCORES = {
    "valid_acc": "validation accuracy",
    "valid_loss": "validation loss",
    "train_loss": "training loss",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # by default rich ends the program


class TerminalProgress(Progress):
    """A progress bar for all runs and for each fleet, and the activations with the best scores.

    No thread refreshes the display: a forked process would inherit its lock without the thread.

    Args:
        stream: The terminal.
        label: The label of the bar of all runs.
        names: The name of each run.
        what: What the names stand for, such as activations.
    """

    def __init__(self, stream: TextIO, label: str, names: Sequence[str], what: str) -> None:
        self.names, self.what = names, what
        self.scores: dict[str, list[float]] = {}
        self.column = ""  # the score that the leaderboard shows
        is_stderr = stream is sys.stderr
        super().__init__(
            TextColumn("{task.description}", markup=False, table_column=_make_column(min_width=9)),
            BarColumn(20, complete_style="cyan"),
            TextColumn("{task.fields[text]}", markup=False, table_column=_make_column()),
            console=_Console(file=stream, force_terminal=True, force_jupyter=False),
            auto_refresh=False,
            transient=True,
            get_time=time.monotonic,
            redirect_stderr=is_stderr,
            redirect_stdout=is_stderr and sys.stdout is not None and sys.stdout.isatty(),
        )
        self.all_columns = self.columns
        self.all_runs = self.add_task(label, total=len(names), text="")
        self.fleets: dict[int, TaskID] = {}

    def paint(
        self, running: Sequence[SchedulerState], ended: Mapping[int, Mapping[str, float]], seconds: float
    ) -> None:
        """Paint the bars and the leaderboard.

        Args:
            running: The fleets that are training.
            ended: The last epoch of each run that has ended, by its index.
            seconds: Seconds since the start.

        Raises:
            OSError: The stream is broken.
            ValueError: The stream is closed, or cannot encode a name.
        """
        self._update_fleets(running[-_BARS:])
        done = len(ended) + sum(len(state.runs) * state.epoch / state.epochs for state in running)
        self.update(self.all_runs, completed=done)
        text = f"{len(ended)} of {len(self.names)} runs, {_format_duration(seconds)}"
        if (remaining := self.tasks[0].time_remaining or 0) > 1:  # rounded up to a second
            text += f", about {_format_duration(remaining)} left"
        self.update(self.all_runs, text=text)
        self._update_scores(ended)
        self.columns = self.all_columns[:: 2 if self._is_narrow() else 1]
        self.live.start()
        self.live.refresh()

    def close(self) -> None:
        """Clear the terminal."""
        with contextlib.suppress(OSError, ValueError, IndexError):  # IndexError if it broke at the start
            self.scores = {}
            for task in self.task_ids:  # output that is taller than the terminal would leave lines
                self.remove_task(task)
            self.stop()

    def refresh(self) -> None:
        """Paint nothing: the display is complete only at the end of :meth:`paint`."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bars and the leaderboard."""
        yield self.make_tasks_table(self.tasks) if self.tasks else Text()  # rich clears at least one line
        if self.scores:
            yield Text()
            yield self._leaderboard()
            if len(self.scores) > _LEADERS:
                yield Text(f"and {len(self.scores) - _LEADERS} more", no_wrap=True, style="dim")

    def _is_narrow(self) -> bool:
        return self.console.width < _NARROW

    def _update_fleets(self, running: Sequence[SchedulerState]) -> None:
        for fleet in self.fleets.keys() - {state.fleet for state in running}:
            self.remove_task(self.fleets.pop(fleet))
        for state in running:
            if state.fleet not in self.fleets:
                label = f"fleet {state.fleet + 1}"
                self.fleets[state.fleet] = self.add_task(label, total=state.epochs, text="")
            several = len(state.runs) > 1
            name = f"{len(state.runs)} runs" if several else self.names[state.runs[0]]
            text = f"epoch {state.epoch} of {state.epochs}, {name}"
            self.update(self.fleets[state.fleet], total=state.epochs, completed=state.epoch, text=text)

    def _update_scores(self, ended: Mapping[int, Mapping[str, float]]) -> None:
        self.column = next((name for name in _SCORES if any(name in last for last in ended.values())), "")
        scores: dict[str, list[float]] = {}
        for run, last in ended.items():
            scores.setdefault(self.names[run], []).append(last.get(self.column, math.nan))
        sign = 1 if self.column.endswith("loss") else -1
        means = {name: statistics.fmean(values) for name, values in scores.items()}
        ranked = sorted(means, key=lambda name: (math.isnan(means[name]), sign * means[name]))
        self.scores = {name: scores[name] for name in ranked}

    def _leaderboard(self) -> Table:
        score = _SCORES.get(self.column, "score")
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        heads = [self.what, score.split()[-1]] if self._is_narrow() else []
        for head in heads or ["place", self.what, f"mean {score}", "std", "runs"]:
            is_name = head == self.what
            table.add_column(head, justify="left" if is_name else "right", no_wrap=not is_name)
        for position, (name, values) in enumerate(list(self.scores.items())[:_LEADERS], 1):
            mean = statistics.fmean(values)
            spread = statistics.stdev(values) if len(values) > 1 and math.isfinite(mean) else math.nan
            cells: list[RenderableType] = [Text(name, no_wrap=True, overflow="ellipsis"), _format_score(mean)]
            if not heads:
                cells = [str(position), *cells, _format_score(spread), str(len(values))]
            table.add_row(*cells)
        return table


def _make_column(min_width: int | None = None) -> Column:
    return Column(no_wrap=True, overflow="ellipsis", min_width=min_width)


def _format_duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


def _format_score(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"

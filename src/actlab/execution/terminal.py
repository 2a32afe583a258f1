"""What a terminal shows of fleets that train; only who shows it imports this, and rich with it."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_NARROW = 60  # columns; a terminal that has less gets neither bars nor what is of second rank
_BAR, _LABEL = 20, 9  # columns


@dataclass(frozen=True)
class Bar:
    """A line with how much is done of something.

    Attributes:
        label: Of what.
        done: Of ``total``.
        total: How much there is.
        text: The same in words.
    """

    label: str
    done: float
    total: float
    text: str


@dataclass(frozen=True)
class Board:
    """Who leads.

    Attributes:
        what: What the names name.
        figure: What is shown of them, in two words, such as ``validation loss``.
        scores: The figure of every net, by name, best first.
        more: How many names there are beside those.
    """

    what: str
    figure: str
    scores: Mapping[str, Sequence[float]]
    more: int


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the program does not end with its display


class Screen:
    """A picture on a terminal, painted over the one before.

    Nothing is painted but when it is asked for: a thread that does it would be lost in a forked process,
    with a lock that it may hold.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.console = _Console(file=stream, force_terminal=True, force_jupyter=False)
        ours = stream is sys.stderr
        # What others print meanwhile is put above the picture, where it would otherwise be torn apart.
        self.live = Live(
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=ours,
            redirect_stdout=ours and sys.stdout is not None and sys.stdout.isatty(),
        )

    def paint(self, bars: Sequence[Bar], board: Board | None) -> None:
        """Show bars, and who leads.

        Raises:
            OSError: The stream is broken.
            ValueError: The stream is closed, or cannot encode what is shown.
        """
        self.console.size = self._size()
        narrow = self.console.width < _NARROW
        parts: list[RenderableType] = [_bars(bars, narrow)]
        if board is not None:
            parts += [Text(), _board(board, narrow)]
            if board.more:
                parts.append(Text(f"and {board.more} more", no_wrap=True, style="dim"))
        self.live.start()
        self.live.update(Group(*parts), refresh=True)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        with contextlib.suppress(OSError, ValueError, IndexError):  # the last where it broke as it began
            self.live.update(Text())  # whatever is higher than the terminal would leave something
            self.live.stop()

    def _size(self) -> tuple[int, int]:
        """Return columns and lines; the last column stays free, for some terminals then begin a new line."""
        usual = shutil.get_terminal_size()
        try:  # standard output may be another terminal, or none
            found = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            found = usual
        return max((found.columns or usual.columns) - 1, 1), found.lines or usual.lines


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds.

    Examples:
        >>> duration(72.4)
        '0:01:12'
    """
    return str(datetime.timedelta(seconds=int(seconds)))


def _bars(bars: Sequence[Bar], narrow: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=None if narrow else _LABEL, no_wrap=True)
    if not narrow:
        table.add_column(width=_BAR)
    table.add_column()
    for bar in bars:
        parts: list[RenderableType] = [_line(bar.label), _line(bar.text)]
        if not narrow:
            painted = ProgressBar(bar.total, bar.done, width=_BAR, complete_style="cyan")
            parts.insert(1, painted)
        table.add_row(*parts)
    return table


def _board(board: Board, narrow: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    if not narrow:
        table.add_column("place", justify="right", no_wrap=True)
    table.add_column(_line(board.what))
    figure = board.figure.split()[-1] if narrow else f"mean {board.figure}"
    table.add_column(figure, justify="right", no_wrap=True)
    if not narrow:
        table.add_column("std", justify="right", no_wrap=True)
        table.add_column("nets", justify="right", no_wrap=True)
    for place, (name, scores) in enumerate(board.scores.items(), 1):
        mean = math.fsum(scores) / len(scores)
        cells: list[RenderableType] = [_line(name), _figure(mean)]
        if not narrow:
            spread = statistics.stdev(scores) if len(scores) > 1 and math.isfinite(mean) else math.nan
            cells = [str(place), *cells, _figure(spread), str(len(scores))]
        table.add_row(*cells)
    return table


def _line(text: str) -> Text:
    """Return text that is cut where there is no room, and means nothing but itself."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"

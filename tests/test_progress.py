"""The progress display of fleets."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import math
import os
import pty
import re
import struct
import sys
import termios
import threading
import time

import pytest
from rich.cells import cell_len

from actlab.execution.progress import show_progress
from actlab.execution.scheduler import SchedulerState
from actlab.fleet.run import Result
from tests.processes import run_process

NAMES = ["relu", "relu", "tanh", "elu"]
AGAIN = re.compile(r"\r(?:\x1b\[2K|\x1b\[1A)+")  # back to the first line of the display, clearing it
STYLE = re.compile(r"\x1b\[[\d;]*m|\x1b\[\?25[lh]")  # colours, and the cursor hidden or shown
HEADER = "place   activation   mean validation accuracy      std   runs"


@pytest.fixture(autouse=True)
def default_terminal(monkeypatch):
    """Simulate a terminal of the default size."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def at_once(monkeypatch):
    """Show the display without delay."""
    for name in ("_SILENT", "_OFTEN", "_SELDOM"):
        monkeypatch.setattr(f"actlab.execution.progress.{name}", 0.0)


class Screen(io.StringIO):
    """A stream that behaves like a terminal."""

    def isatty(self):
        return True

    def painted(self):
        """Return the lines of each update."""
        parts = AGAIN.split(STYLE.sub("", self.getvalue()))
        return [part.rstrip("\n").split("\n") for part in parts]

    def pictures(self):
        """Return the lines of every display; each replaces the whole display before it."""
        pictures = self.painted()
        ups = [result.count("\x1b[1A") for result in AGAIN.findall(STYLE.sub("", self.getvalue()))]
        heights = [len(picture) for picture in pictures]
        # During updates the cursor is in the last line; after the final clearing it is below.
        assert ups == [height - 1 for height in heights[: len(ups) - 1]] + heights[len(ups) - 1 : -1]
        assert "\x1b" not in "".join(map("".join, pictures))
        return [[line.rstrip() for line in picture] for picture in pictures]

    def last(self):
        """Return the last display before the terminal is cleared."""
        *_, last, empty, gone = self.pictures()
        assert empty == gone == [""]
        return last


def result(failure="", **figures):
    return Result(history=[{"epoch": 1, **figures}] if figures else [], failure=failure)


def running(fleet, runs, epoch, epochs=10):
    return SchedulerState(fleet, 9, tuple(runs), epoch, epochs)


def ended(fleet, runs, *results):
    return SchedulerState(fleet, 9, tuple(runs), 10, 10, results=results)


# -- silence --------------------------------------------------------------------------------------


def test_show_progress_quiet_prints_nothing(at_once, capsys):
    screen = Screen()
    for stream in (screen, None):
        with show_progress(NAMES, 0, stream) as watch:
            watch(running(0, [0, 1], 1))
            watch(ended(0, [0, 1], result(), result()))
    assert screen.getvalue() == ""
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("stream", [io.StringIO, Screen])
def test_show_progress_is_silent_in_the_first_second(stream):
    shown = stream()
    with show_progress(NAMES, 1, shown) as watch:
        for epoch in range(5):
            watch(running(0, [0, 1], epoch))
    assert shown.getvalue() == ""


# -- lines ----------------------------------------------------------------------------------------


def test_show_progress_prints_few_plain_lines_without_a_terminal():
    stream = io.StringIO()
    with show_progress(NAMES, 1, stream) as watch:
        watch(running(0, [0, 1], 1))
        time.sleep(1.01)
        watch(ended(0, [0, 1], result(valid_acc=0.5), result(valid_acc=0.5)))
        for epoch in range(100):
            watch(running(1, [2, 3], epoch, 100))
    assert re.fullmatch(r"actlab: 2 of 4 runs done, \d+ s\n", stream.getvalue())


def test_show_progress_prints_to_standard_error(at_once, capsys):
    with show_progress(NAMES, 1) as watch:
        watch(running(0, [0], 1))
    assert capsys.readouterr() == ("", "actlab: 0 of 4 runs done, 0 s\n")


def test_show_progress_line_names_the_round(at_once, capsys):
    with show_progress(NAMES, 1, stage="round 2") as watch:
        watch(running(0, [0], 1))
    assert capsys.readouterr() == ("", "actlab: round 2: 0 of 4 runs done, 0 s\n")


# -- pictures -------------------------------------------------------------------------------------


def test_show_progress_has_a_bar_for_every_training_fleet(at_once):
    screen = Screen()
    with show_progress(NAMES, 1, screen) as watch:
        watch(running(0, [0, 1], 5))
        watch(running(1, [2], 10))
        watch(running(1, [2], 1, 2))
    assert screen.last() == [
        "runs      ━━━━━━━╸━━━━━━━━━━━━ 0 of 4 runs, 0:00:00",
        "fleet 1   ━━━━━━━━━━╺━━━━━━━━━ epoch 5 of 10, 2 runs",
        "fleet 2   ━━━━━━━━━━╺━━━━━━━━━ epoch 1 of 2, tanh",
    ]


def test_show_progress_bar_names_the_round(at_once):
    screen = Screen()
    with show_progress(NAMES, 1, screen, stage="round 2") as watch:
        watch(running(0, [0, 1], 5))
    assert screen.last()[0] == "round 2   ━━━━━╺━━━━━━━━━━━━━━ 0 of 4 runs, 0:00:00"


def test_show_progress_removes_the_bar_of_a_finished_fleet(at_once):
    screen = Screen()
    with show_progress(NAMES, 1, screen) as watch:
        watch(running(0, [0, 1], 10))
        watch(running(1, [2], 4))
        watch(ended(0, [0, 1], result(valid_acc=0.5), result(valid_acc=0.7)))
    assert screen.last() == [
        "runs      ━━━━━━━━━━━━╺━━━━━━━ 2 of 4 runs, 0:00:00",
        "fleet 2   ━━━━━━━━╺━━━━━━━━━━━ epoch 4 of 10, tanh",
        "",
        HEADER,
        "─" * len(HEADER),
        "    1   relu                           0.6000   0.1414      2",
    ]


def test_show_progress_limits_bars_and_leaders(at_once):
    screen = Screen()
    with show_progress([f"act {i}" for i in range(60)], 1, screen) as watch:
        for index in range(10):
            watch(running(index, [index], 1))
        for index in range(10, 60):
            watch(ended(index, [index], result(valid_acc=index / 60)))
    last = screen.last()
    assert [line.split()[1] for line in last[1:5]] == ["7", "8", "9", "10"]
    assert [line.split()[:3] for line in last[-6:-1]] == [
        [str(index), "act", str(60 - index)] for index in range(1, 6)
    ]
    assert last[-1] == "and 45 more"


def test_show_progress_estimates_remaining_time_from_trained_runs(at_once, monkeypatch):
    now = 0.0
    monkeypatch.setattr("actlab.execution.progress.time.monotonic", lambda: now)
    screen = Screen()
    with show_progress([f"act {i}" for i in range(100)], 1, screen) as watch:
        now = 2.0
        watch(ended(0, range(50), *[result(valid_acc=0.5)] * 50))  # from a ledger, without training time
        now = 6.0
        watch(running(1, range(50, 70), 2))
        now = 10.0
        watch(ended(1, range(50, 70), *[result(valid_acc=0.5)] * 20))
    assert [picture[0].partition("runs, ")[2] for picture in screen.pictures()[:3]] == [
        "0:00:02",
        "0:00:06, about 0:00:46 left",  # 4 runs in 4 seconds, 46 to come
        "0:00:10, about 0:00:12 left",
    ]


def leaders(names, *results):
    screen = Screen()
    with show_progress(names, 1, screen) as watch:
        watch(ended(0, range(len(names)), *results))
    return screen.last()[4:]


def test_show_progress_sorts_leaders_by_accuracy(at_once):
    results = leaders(
        ["a", "b", "c", "d", "b"],
        result(valid_acc=0.25, valid_loss=9.0),
        result(valid_acc=0.5, valid_loss=1.0),
        result(valid_acc=math.nan),
        result(valid_acc=0.75),
        result(valid_acc=1.0),
    )
    assert [line.split() for line in results] == [
        ["1", "b", "0.7500", "0.3536", "2"],
        ["2", "d", "0.7500", "-", "1"],
        ["3", "a", "0.2500", "-", "1"],
        ["4", "c", "-", "-", "1"],
    ]


def test_show_progress_lists_failed_activations_last(at_once):
    failed = result("diverged: train_loss is nan in epoch 1", valid_acc=0.9)
    results = leaders(
        ["a", "b", "a", "c"], result(valid_acc=0.9), result(valid_acc=0.1), failed, result("broken")
    )
    assert [line.split() for line in results] == [
        ["1", "b", "0.1000", "-", "1"],
        ["2", "a", "-", "-", "2"],
        ["3", "c", "-", "-", "1"],
    ]


@pytest.mark.parametrize(
    ("column", "head"), [("valid_loss", "validation loss"), ("train_loss", "training loss")]
)
def test_show_progress_sorts_leaders_by_loss_without_accuracy(at_once, column, head):
    screen = Screen()
    with show_progress(["a", "b", "c", "d"], 1, screen, what="candidate") as watch:
        watch(ended(0, range(4), *[result(**{column: value}) for value in (3.0, 1.0, math.nan, 2e5)]))
    last = screen.last()
    assert re.split(r"  +", last[2]) == ["place", "candidate", f"mean {head}", "std", "runs"]
    assert [line.split()[1:3] for line in last[4:]] == [
        ["b", "1.0000"],
        ["a", "3.0000"],
        ["d", "2e+05"],
        ["c", "-"],
    ]


# -- names with markup or control characters -----------------------------------------------------

HOSTILE = {
    "a long name " * 20: "a long name a",
    "Sequential(\n  (0): Tanh()\n)": "Sequential( (0): Tanh() )",
    "[bold]x[/]": "[bold]x[/]",
    "[/]": "[/]",
    "[link=https://a.b]c": "[link=https://a.b]c",
    ":smiley: 🦊🦊🦊": ":smiley: 🦊🦊🦊",
    "العربية": "العربية",
    "\x1b[2J\x1b]0;title\x07": r"\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe \ud800": r"\u202egnp.exe \ud800",
    "": "",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("width", [1, 20, 40, 80])
def test_show_progress_escapes_names_and_fits_the_terminal(at_once, monkeypatch, name, width):
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen()
    with show_progress([name, "tanh"], 1, screen) as watch:
        watch(running(0, [0], 5))
        watch(running(1, [1], 5))
        watch(ended(0, [0], result(valid_acc=0.5)))
    pictures = screen.pictures()
    assert max(cell_len(line) for picture in pictures for line in picture) <= width
    assert [len(picture) for picture in pictures] == [2, 3, 6, 1, 1]
    if width == 80:
        assert HOSTILE[name] in pictures[0][1]
        assert HOSTILE[name] in pictures[2][-1]
    if width == 20:
        assert pictures[2][-1].endswith("0.5000")


def test_show_progress_clears_the_display_after_an_interrupt(at_once):
    screen = Screen()
    with contextlib.suppress(KeyboardInterrupt), show_progress(NAMES, 1, screen) as watch:
        watch(running(0, [0], 5))
        raise KeyboardInterrupt
    assert screen.pictures()[-1] == [""]
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 1


def test_show_progress_respects_no_color(at_once, monkeypatch):
    def painted():
        screen = Screen()
        with show_progress(NAMES, 1, screen) as watch:
            watch(running(0, [0], 5))
            watch(ended(0, [0], result(valid_acc=0.5)))
        return re.search(r"\x1b\[(\d+;)*3[0-8]", screen.getvalue())

    assert painted()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not painted()


# -- streams --------------------------------------------------------------------------------------


def test_show_progress_prints_lines_on_a_dumb_terminal(at_once, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    with show_progress(NAMES, 1, screen) as watch:
        watch(running(0, [0], 5))
    assert screen.getvalue() == "actlab: 0 of 4 runs done, 0 s\n"


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe")])
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("after", [0, 1])
def test_show_progress_ends_after_an_error_of_its_stream(at_once, error, terminal, after):
    class Broken(io.StringIO):
        writes = 0

        def isatty(self):
            return terminal

        def write(self, text):
            self.writes += 1
            if self.writes > after:
                raise error
            return super().write(text)

    stream = Broken()
    outputs = sys.stdout, sys.stderr
    with show_progress(NAMES, 1, stream) as watch:
        for epoch in range(5):
            watch(running(0, [0], epoch))
            broken = stream.writes
        assert broken == after + 1
    assert (sys.stdout, sys.stderr) == outputs


@pytest.mark.parametrize("kind", [io.StringIO, Screen])
def test_show_progress_ends_after_its_stream_is_closed(at_once, kind):
    stream = kind()
    with show_progress(NAMES, 1, stream) as watch:
        watch(running(0, [0], 1))
        assert stream.getvalue()
        stream.close()
        watch(running(0, [0], 2))


def test_show_progress_without_standard_error_shows_nothing(at_once, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with show_progress(NAMES, 1) as watch:
        watch(running(0, [0], 1))


def test_show_progress_keeps_other_output_above_the_display(at_once, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with show_progress(NAMES, 1) as watch:
        watch(running(0, [0], 1))
        print("[bold]careful[/]", file=sys.stderr)
        watch(running(0, [0], 2))
    assert sys.stderr is screen
    first, warned, second, *_ = screen.painted()
    assert warned == ["[bold]careful[/]", *first]
    assert [len(second), "epoch 2 of 10" in second[1]] == [2, True]


def test_show_progress_lines_do_not_import_rich():
    code = (
        "import io, sys; from actlab.execution.progress import show_progress\n"
        "from actlab.execution.scheduler import SchedulerState\n"
        "with show_progress(['relu'], 2, io.StringIO()) as watch: watch(SchedulerState(0, 1, (0,), 1, 2))\n"
        "print(*[name for name in sys.modules if name.partition('.')[0] == 'rich'])"
    )
    done = run_process([sys.executable, "-c", code])
    assert (done.stdout, done.stderr) == ("\n", "")


# -- a real terminal ------------------------------------------------------------------------------


def read_all(terminal, into):
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 4096):
            into.append(data)


@pytest.mark.parametrize("width", [30, 200])
def test_show_progress_draws_on_a_real_terminal_and_clears_it(at_once, monkeypatch, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    output: list[bytes] = []
    reader = threading.Thread(target=functools.partial(read_all, ours, output))
    reader.start()
    monkeypatch.setattr("rich.console._STD_STREAMS", (theirs,))
    with open(theirs, "w") as stream, show_progress(["x" * 300, "tanh"], 1, stream) as watch:
        watch(running(0, [0], 5))
        watch(running(1, [1], 5))
        watch(ended(0, [0], result(valid_acc=0.5)))
    reader.join(10)
    os.close(ours)
    pictures = Screen(b"".join(output).decode().replace("\r\n", "\n")).pictures()
    assert [len(picture) for picture in pictures] == [2, 3, 6, 1, 1]
    assert max(len(line) for picture in pictures for line in picture) == width

"""What a person sees of fleets that train."""

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
import termios
import threading
import time

import pytest

from actlab.fleet.conduct import State
from actlab.fleet.run import Result
from actlab.progress import watching

NAMES = ["relu", "relu", "tanh", "elu"]
UP = re.compile(r"\x1b\[(\d+)F\x1b\[J")


@pytest.fixture
def at_once(monkeypatch):
    """Nothing waits until it is worth showing."""
    for name in ("_SILENT", "_OFTEN", "_SELDOM"):
        monkeypatch.setattr(f"actlab.progress.{name}", 0.0)


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True

    def pictures(self):
        """Return the lines of every picture, and hold each against the one before."""
        parts = UP.split(self.getvalue())
        pictures = [part.splitlines() for part in parts[::2]]
        assert [len(picture) for picture in pictures[:-1]] == [int(lines) for lines in parts[1::2]]
        return pictures


def result(failure="", **figures):
    return Result(history=[{"epoch": 1, **figures}] if figures else [], failure=failure)


def running(fleet, runs, epoch, epochs=10):
    return State(fleet, 9, tuple(runs), epoch, epochs)


def ended(fleet, runs, *results):
    return State(fleet, 9, tuple(runs), 10, 10, results=results)


# -- silence --------------------------------------------------------------------------------------


def test_nothing_is_shown_to_who_wants_nothing(at_once, capsys):
    screen = Screen()
    for stream in (screen, None):
        with watching(NAMES, 0, stream) as watch:
            watch(running(0, [0, 1], 1))
            watch(ended(0, [0, 1], result(), result()))
    assert screen.getvalue() == ""
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("stream", [io.StringIO, Screen])
def test_what_is_done_within_a_second_shows_nothing(stream):
    shown = stream()
    with watching(NAMES, 1, shown) as watch:
        for epoch in range(5):
            watch(running(0, [0, 1], epoch))
    assert shown.getvalue() == ""


# -- lines ----------------------------------------------------------------------------------------


def test_elsewhere_than_on_a_terminal_there_are_plain_lines_after_a_second_and_not_many():
    stream = io.StringIO()
    with watching(NAMES, 1, stream) as watch:
        watch(running(0, [0, 1], 1))
        time.sleep(1.01)
        watch(ended(0, [0, 1], result(valid_acc=0.5), result(valid_acc=0.5)))
        for epoch in range(100):
            watch(running(1, [2, 3], epoch, 100))
    assert re.fullmatch(r"actlab: 2 of 4 nets trained, \d+ s\n", stream.getvalue())


def test_lines_go_to_standard_error(at_once, capsys):
    with watching(NAMES, 1) as watch:
        watch(running(0, [0], 1))
    assert capsys.readouterr() == ("", "actlab: 0 of 4 nets trained, 0 s\n")


# -- pictures -------------------------------------------------------------------------------------


def test_every_fleet_that_trains_has_a_bar(at_once):
    screen = Screen()
    with watching(NAMES, 1, screen) as watch:
        watch(running(0, [0, 1], 5))
        watch(running(1, [2], 10))
        watch(running(1, [2], 1, 3))
    *_, last, empty = screen.pictures()
    assert last == [
        "actlab: 0 of 4 nets trained, 0 s",
        "  fleet   1 [############............] epoch 5 of 10, 2 nets",
        "  fleet   2 [########................] epoch 1 of 3, tanh",
    ]
    assert empty == []


def test_a_fleet_that_has_ended_has_no_bar(at_once):
    screen = Screen()
    with watching(NAMES, 1, screen) as watch:
        watch(running(0, [0, 1], 10))
        watch(running(1, [2], 4))
        watch(ended(0, [0, 1], result(valid_acc=0.5), result(valid_acc=0.7)))
    *_, last, _ = screen.pictures()
    assert last == [
        "actlab: 2 of 4 nets trained, 0 s",
        "  fleet   2 [#########...............] epoch 4 of 10, tanh",
        "  1. 0.60000 relu (2 nets)",
    ]


def test_no_more_than_four_bars_and_five_leaders_are_shown(at_once):
    screen = Screen()
    with watching([f"net {i}" for i in range(20)], 1, screen) as watch:
        for place in range(10):
            watch(running(place, [place], 1))
        for place in range(10, 20):
            watch(ended(place, [place], result(valid_acc=place / 20)))
    *_, last, _ = screen.pictures()
    assert len(last) == 1 + 4 + 5
    assert [line.split()[3] for line in last[-5:]] == ["19", "18", "17", "16", "15"]


def leaders(names, *results):
    screen = Screen()
    with watching(names, 1, screen) as watch:
        watch(ended(0, range(len(names)), *results))
    return screen.pictures()[-2][1:]


def test_the_most_accurate_leads_and_what_has_no_figure_is_last(at_once):
    found = leaders(
        ["a", "b", "c", "d", "b"],
        result(valid_acc=0.25, valid_loss=9.0),
        result(valid_acc=0.5, valid_loss=1.0),
        result(valid_acc=math.nan),
        result(valid_acc=0.75),
        result(valid_acc=1.0),
    )
    assert found == [
        "  1. 0.75000 b (2 nets)",
        "  2. 0.75000 d (1 nets)",
        "  3. 0.25000 a (1 nets)",
        "  4. nan c (1 nets)",
    ]


def test_a_run_that_failed_takes_its_name_to_the_end(at_once):
    failed = result("diverged: train_loss is nan in epoch 1", valid_acc=0.9)
    found = leaders(
        ["a", "b", "a", "c"], result(valid_acc=0.9), result(valid_acc=0.1), failed, result("broken")
    )
    assert found == ["  1. 0.10000 b (1 nets)", "  2. nan a (2 nets)", "  3. nan c (1 nets)"]


@pytest.mark.parametrize("column", ["valid_loss", "train_loss"])
def test_where_there_is_no_accuracy_the_least_loss_leads(at_once, column):
    figures = [result(**{column: value}) for value in (3.0, 1.0, math.nan, 2.0)]
    found = leaders(["a", "b", "c", "d"], *figures)
    assert [line.split()[2] for line in found] == ["b", "d", "a", "c"]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(at_once, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen()
    with watching(["a long name " * 20, "Sequential(\n  (0): Tanh()\n)"], 1, screen) as watch:
        watch(running(0, [0], 5))
        watch(running(1, [1], 5))
        watch(ended(0, [0], result(valid_acc=0.5)))
    assert max(len(line) for picture in screen.pictures() for line in picture) <= width - 1
    assert [len(picture) for picture in screen.pictures()] == [2, 3, 3, 0]


def test_the_picture_goes_when_the_work_is_interrupted(at_once):
    screen = Screen()
    with contextlib.suppress(KeyboardInterrupt), watching(NAMES, 1, screen) as watch:
        watch(running(0, [0], 5))
        raise KeyboardInterrupt
    assert screen.pictures()[-1] == []


# -- a real terminal ------------------------------------------------------------------------------


def read_all(terminal, into):
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 4096):
            into.append(data)


@pytest.mark.parametrize("width", [30, 200])
def test_a_terminal_of_any_width_is_drawn_on_and_left_clean(at_once, monkeypatch, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    seen: list[bytes] = []
    reader = threading.Thread(target=functools.partial(read_all, ours, seen))
    reader.start()
    with open(theirs, "w") as stream, watching(["x" * 100, "tanh"], 1, stream) as watch:
        watch(running(0, [0], 5))
        watch(running(1, [1], 5))
        watch(ended(0, [0], result(valid_acc=0.5)))
    reader.join(10)
    os.close(ours)
    screen = Screen(b"".join(seen).decode().replace("\r\n", "\n"))
    pictures = screen.pictures()
    assert [len(picture) for picture in pictures] == [2, 3, 3, 0]
    widest = max(len(line) for picture in pictures for line in picture)
    assert widest == min(width - 1, len("  fleet   1 [############............] epoch 5 of 10, ") + 100)

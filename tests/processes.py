"""Processes that tests start: with the usual signals, for a bounded time, and none is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import warnings
from pathlib import Path

import pytest

SECONDS = 300  # after which a process is killed; far more than any needs on a loaded machine

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


def default_signals():
    """Reset what a process inherits when tests run in the background, where SIGINT is ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


OWN_GROUP = {"start_new_session": True, "preexec_fn": default_signals}  # options of Popen


@contextlib.contextmanager
def started(command, seconds=SECONDS, **options):
    """Start a process, the first of a group of its own; see :func:`ending` for its end."""
    with ending(subprocess.Popen(command, **{**OWN_GROUP, **options}), seconds) as process:
        yield process


@contextlib.contextmanager
def ending(process, seconds=SECONDS):
    """Kill a process and its group if it outlasts the block or the time, or if the block fails.

    So nothing that waits for the process, or reads what it writes, waits for longer.
    """
    timer = threading.Timer(seconds, kill_group, [process])
    timer.daemon = True
    timer.start()
    try:
        yield process
    except BaseException:
        kill_group(process)
        raise
    finally:
        timer.cancel()
        if process.poll() is None:
            kill_group(process)
        process.wait(60)
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            pipe.close()


def ran(command, seconds=SECONDS, **options):
    """Run a process to its end; return its status and output as :func:`subprocess.run` does."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with started(command, seconds, **options) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill_group(process):
    """Kill a process that was started in a group of its own, and the group, as a power cut would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def forked(*works, seconds=SECONDS):
    """Run functions in processes of their own; yield their numbers, and kill what outlasts the block."""
    children = []
    try:
        for work in works:
            children.append(_fork(work, seconds))
        yield children
    finally:
        for child in children:
            with contextlib.suppress(ChildProcessError):  # its end was waited for
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)


def _fork(work, seconds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads; ours use none
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        default_signals()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)  # which kills it, whatever it does
        work()
        status = 0
    finally:
        os._exit(status)


def ended(child):
    """Wait for a forked process; return what it ended with."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(child):
    """End a forked process as a power cut would."""
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL


def waited(condition, seconds=60):
    """Wait until a condition holds; return what it returned, which is false if it never did."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def descendants(pid):
    """Return the processes that a process has started, and theirs."""
    found = []
    for child in [number for number, _, parent, _ in _processes() if parent == pid]:
        found += [child, *descendants(child)]
    return found


def living(pids):
    """Return those of the processes that have not ended."""
    return [number for number, state, _, _ in _processes() if number in pids and state not in "ZX"]


def in_session(session):
    """Return the living processes of a session, as each process from :func:`started` begins one."""
    return [number for number, state, _, own in _processes() if own == session and state not in "ZX"]


def _processes():
    """Return number, state, parent and session of every process."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            state, parent, _, session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
            found.append((int(place.name), state, int(parent), int(session)))
    return found

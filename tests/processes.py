"""Processes that tests start: with default signals, for a limited time, and always ended."""

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

SECONDS = 300  # time limit of a process; far more than any test needs on a busy machine

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks processes")


def default_signals():
    """Reset signals, because processes started in the background ignore SIGINT."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


OWN_GROUP = {"start_new_session": True, "preexec_fn": default_signals}  # options of Popen


@contextlib.contextmanager
def start_process(command, seconds=SECONDS, **options):
    """Start a process as leader of a new group; :func:`ending` ends it."""
    with killed_after_block(subprocess.Popen(command, **{**OWN_GROUP, **options}), seconds) as process:
        yield process


@contextlib.contextmanager
def killed_after_block(process, seconds=SECONDS):
    """Kill a process and its group at the end of the block, after the time limit, or if the block fails.

    Code that waits for the process or reads its output therefore waits no longer than the limit.
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


def run_process(command, seconds=SECONDS, **options):
    """Run a process to its end; return its status and output like :func:`subprocess.run`."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with start_process(command, seconds, **options) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill_group(process):
    """Kill a process and its group with SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def fork_processes(*functions, seconds=SECONDS):
    """Run functions in forked processes, yield their PIDs, and kill those that outlast the block."""
    children = []
    try:
        for function in functions:
            children.append(_fork(function, seconds))
        yield children
    finally:
        for child in children:
            with contextlib.suppress(ChildProcessError):  # a test has already waited for it
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)


def _fork(function, seconds):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # about forking with threads; these processes use none
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        default_signals()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)  # kills the process after the time limit
        function()
        status = 0
    finally:
        os._exit(status)


def wait_for_exit(child):
    """Wait for a forked process; return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_process(child):
    """Kill a forked process with SIGKILL and wait for it."""
    os.kill(child, signal.SIGKILL)
    assert wait_for_exit(child) == -signal.SIGKILL


def wait_until(condition, seconds=60):
    """Wait until a condition is true; return its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def list_descendants(pid):
    """Return the PIDs of all descendants of a process."""
    pids = []
    for child in [number for number, _, parent, _ in _processes() if parent == pid]:
        pids += [child, *list_descendants(child)]
    return pids


def list_living(pids):
    """Return the PIDs of ``pids`` that have not ended."""
    return [number for number, state, _, _ in _processes() if number in pids and state not in "ZX"]


def list_session(session):
    """Return the living processes of a session; each process from :func:`started` begins one."""
    return [number for number, state, _, own in _processes() if own == session and state not in "ZX"]


def _processes():
    """Return PID, state, parent and session of every process."""
    results = []
    for process_folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            state, parent, _, session = (process_folder / "stat").read_text().rpartition(")")[2].split()[:4]
            results.append((int(process_folder.name), state, int(parent), int(session)))
    return results

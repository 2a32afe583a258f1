"""Run checks in a separate process, because a target may hang or crash the interpreter."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import itertools
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import torch

from actlab.checking.check_report import COULD_NOT_RUN, FAIL, PASS, Outcome, Row
from actlab.checking.checks import Check
from actlab.checking.subject import Subject
from actlab.checking.transforms import convert_errors
from actlab.errors import escape_unprintable

_BACKWARD_IMPORT = "torch.fx.experimental.symbolic_shapes"  # torch imports it at the first backward
_runs = itertools.count()


def run_checks(subject: Subject, checks: Sequence[Check]) -> list[Row]:
    """Run checks and return a row for each. If ``shape`` fails, the others cannot run."""
    # CUDA cannot be used in a fork of a process that has used it.
    if hasattr(os, "fork") and subject.device.type == "cpu":
        rows = _run_isolated(subject, checks)
    else:
        rows = list(_run(subject, checks))
    return rows + [Row(c.name, COULD_NOT_RUN, "the row 'shape' failed") for c in checks[len(rows) :]]


def _run(subject: Subject, checks: Sequence[Check]) -> Iterator[Row]:
    """Run checks in this process; stop if the target does not take and return a tensor."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for check in checks:
            row = _run_check(subject, check)
            yield row
            if _ends_report(row):
                return


def _run_check(subject: Subject, check: Check) -> Row:
    try:
        return Row(check.name, PASS, convert_errors(lambda: check.run(subject)))
    except Outcome as outcome:
        return Row(check.name, outcome.status, escape_unprintable(" ".join(str(outcome).split())))


def _ends_report(row: Row) -> bool:
    return row.name == "shape" and row.status == FAIL


def _run_isolated(subject: Subject, checks: Sequence[Check]) -> list[Row]:
    """Run checks in a forked process; if it hangs or crashes, run the remaining ones in another."""
    if next(_runs):  # a single check is faster if its process imports only what it needs
        for module in {_BACKWARD_IMPORT, *(check.first_import for check in checks)} - {""}:
            with contextlib.suppress(ImportError):  # another version of torch
                importlib.import_module(module)
    rows: list[Row] = []
    while len(rows) < len(checks) and not any(map(_ends_report, rows)):
        rows += _run_in_child(subject, checks[len(rows) :])
    return rows


def _run_in_child(subject: Subject, checks: Sequence[Check]) -> list[Row]:
    """Return the rows that one process finished, and the row in which it ended."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about a fork with threads; the child uses none
        child = os.fork()
    if child == 0:
        _run_as_child(subject, checks, sender)
    sender.close()
    rows: list[Row] = []
    problem = ""
    try:
        for check in checks:
            if not receiver.poll(check.seconds):
                problem = f"did not finish within {check.seconds:g} s"
                break
            rows.append(receiver.recv())
            if _ends_report(rows[-1]):
                return rows
    except EOFError:  # the process ended
        pass
    finally:
        receiver.close()
        for kill in (os.killpg, os.kill):  # the process, and a compiler that it may have started
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if len(rows) < len(checks):
        rows.append(Row(checks[len(rows)].name, FAIL, problem or _describe_exit(status)))
    return rows


def _run_as_child(subject: Subject, checks: Sequence[Check], sender: Connection) -> None:
    """Run checks and send the rows; never return."""
    os.setsid()
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # from sys/prctl.h: a target that hangs must not outlive a killed parent
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    faulthandler.disable()  # the report has the crash
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the target may print
        os.dup2(null, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it ends with the process
    # A fork inherits Inductor's thread pool without its threads, and would wait for them forever.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if config := sys.modules.get("torch._inductor.config"):  # it has read the variable
        config.compile_threads = 1  # type: ignore[attr-defined]
    try:
        torch.set_num_threads(1)  # a fork does not have the threads of the pool
        for row in _run(subject, checks):
            sender.send(row)
    finally:
        os._exit(0)


def _describe_exit(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"the interpreter was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"the interpreter exited with status {os.WEXITSTATUS(status)}"

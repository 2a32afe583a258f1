"""Runs the rows, each within its time, in a process of its own that may hang or crash."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import itertools
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch

from actlab.checking import backward, basics, calls, derivatives, facts, modules, transforms, values
from actlab.checking.outcome import COULD_NOT_RUN, FAIL, PASS, CheckReport, Outcome, Row
from actlab.checking.reference import resolve_reference
from actlab.checking.subject import Subject
from actlab.checking.target import resolve
from actlab.errors import UsageError, did_you_mean, escape_unprintable, summarize_error

Step = tuple[str, Callable[[Subject], str], float]  # name, function, seconds it may take
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_SECONDS, _COMPILER_SECONDS = 10.0, 60.0
_checks = itertools.count()
_IMPORTS = {  # what torch imports at the first use: from the second check on, once for all that follow
    "": "torch.fx.experimental.symbolic_shapes",  # by any backward
    "forward mode": "torch._decomp.decompositions_for_jvp",
    "func.grad": "torch._dynamo",
}


def plan(dtypes: Sequence[torch.dtype]) -> list[Step]:
    """Return all rows in the order they are run: first what the others stand on."""
    of_dtypes: list[tuple[str, Callable[..., str]]] = [
        ("value", values.value),
        ("gradient", values.gradient),
        ("finite", values.finite),
        ("infinities", values.infinities),
    ]
    rows: list[tuple[str, Callable[[Subject], str]]] = [
        ("shape", basics.shape),
        ("kind", basics.kind),
        ("input unchanged", calls.input_unchanged),
        ("deterministic", calls.deterministic),
        ("repeated calls", calls.repeated_calls),
        ("grad modes", calls.grad_modes),
        ("dtype", basics.dtype),
        *((f"{n} {basics.name(d)}", partial(f, dtype=d)) for n, f in of_dtypes for d in dtypes),
        ("signed zero", calls.signed_zero),
        ("reference", values.reference),
        ("facts", facts.facts),
        ("linear backward", backward.linearity),
        ("grad unchanged", backward.gradient_unchanged),
        ("first derivative", derivatives.first),
        ("second derivative", derivatives.second),
        ("training mode", calls.training_mode),
        ("kinks", derivatives.kinks),
        ("continuity", derivatives.continuity),
        ("forward mode", transforms.forward_mode),
        ("batched gradients", transforms.batched_gradients),
        ("vmap", transforms.vmap),
        ("func.grad", transforms.func_grad),
        ("non-contiguous", basics.non_contiguous),
        ("expanded", basics.expanded),
        ("empty", basics.empty),
        ("zero-dimensional", basics.zero_dimensional),
        ("autocast", basics.autocast),
        ("parameters", derivatives.parameters),
        ("state_dict", modules.state_dict),
        ("deepcopy", modules.deepcopy),
        ("pickle", modules.pickled),
        ("saved bytes", transforms.saved_bytes),
        ("export", transforms.exported),
        ("compile", transforms.compiled),
    ]
    slow = {"export", "compile"}
    return [(n, f, _COMPILER_SECONDS if n in slow else _SECONDS) for n, f in rows]


def check(
    target: Any,
    *,
    reference: Any = None,
    dtypes: Sequence[torch.dtype] | None = None,
    device: str | torch.device | None = None,
    only: Iterable[str] | None = None,
    skip: Iterable[str] | None = None,
) -> CheckReport:
    """Prove an activation: one row for each capability, with the input that breaks it.

    Values are judged in units of ``eps * max(|f|, |x f'|)``, against the target's own float64. Of a
    definition, its formula and its other facts are proved too, at the target's parameters.

    Args:
        target: A spec in text (``"mish"``, ``"pkg.mod:Name(arg=1)"``, ``"file.py:name"``), an
            :class:`~actlab.Activation`, a module or its class, an ``autograd.Function``, or a function of
            one tensor.
        reference: What float64 is compared with: a function, a catalogue name, or a formula in ``x``, as text
            or in SymPy, evaluated with fifty digits. Of a definition the formula that it declares when left
            out.
        dtypes: The dtypes compared with float64: float32, float16 and bfloat16 when left out.
        device: Where the tensors live; the CPU when left out.
        only: The names of the rows to run; all when left out.
        skip: The names of rows not to run, such as ``compile``.

    Returns:
        The report: ``.passed``, ``.rows``, and a table as ``str()``.

    Raises:
        UsageError: The target or the reference cannot be called with one tensor, or a row is unknown.

    Examples:
        >>> import actlab, torch
        >>> report = actlab.check(lambda x: x.clamp_min(0), only=["kinks"])
        >>> report.passed
        False
        >>> print(report.row("kinks").detail)
        f'(0) = 1, between 0 and 1; expected 0, as torch has it: one side is flat, the input is cut there
    """
    name, found = resolve(target)
    chosen = tuple(DTYPES if dtypes is None else dtypes)
    for dtype in chosen:
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise UsageError(f"dtype {dtype!r}: must be a floating-point torch.dtype, as torch.float32")
    place = _device(device)
    steps = _chosen(plan(chosen), only, skip)
    subject = Subject(found, chosen, place, resolve_reference(reference))
    # CUDA cannot be used in a fork of a process that has used it.
    isolated = hasattr(os, "fork") and place.type == "cpu"
    rows = _isolated(subject, steps) if isolated else _here(subject, steps, lambda *_: None)
    return CheckReport(name, _completed(rows, steps))


def _device(device: str | torch.device | None) -> torch.device:
    try:
        place = torch.device("cpu" if device is None else device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {str(device)!r} cannot be used: {summarize_error(error)}") from error
    return place


def dtypes_named(text: str | None) -> tuple[torch.dtype, ...] | None:
    """Return the dtypes of a list in text, such as ``"float32,bfloat16"``."""
    if text is None:
        return None
    known = {basics.name(dtype): dtype for dtype in DTYPES}
    for word in text.split(","):
        if word not in known:
            raise UsageError(f"unknown dtype {word!r}; known are {', '.join(known)}")
    return tuple(known[word] for word in text.split(","))


def rows_named(texts: Sequence[str] | None) -> list[str] | None:
    """Return the names in lists in text, such as ``["compile,export", "kinks"]``."""
    return None if texts is None else [word.strip() for text in texts for word in text.split(",")]


def _chosen(steps: list[Step], only: Iterable[str] | None, skip: Iterable[str] | None) -> list[Step]:
    """Return the steps asked for; a name stands for itself and for all rows that begin with it."""
    only, skip = ([names] if isinstance(names, str) else names for names in (only, skip))
    known = [step[0] for step in steps]
    for word in [*(only or ()), *(skip or ())]:
        if not any(_named(word, name) for name in known):
            hint = did_you_mean(word, known) or f"; known are {', '.join(known)}"
            raise UsageError(f"unknown row {word!r}{hint}")
    kept = [s for s in steps if only is None or any(_named(word, s[0]) for word in only)]
    kept = [s for s in kept if not any(_named(word, s[0]) for word in (skip or ()))]
    if not kept:
        raise UsageError("no row is left to run: only and skip name the same rows")
    return kept


def _named(word: str, name: str) -> bool:
    return name == word or name.startswith(f"{word} ")


def _row(subject: Subject, step: Step) -> Row:
    name, function, _ = step
    try:
        return Row(name, PASS, transforms.attempt(lambda: function(subject)))
    except Outcome as outcome:
        return Row(name, outcome.status, _in_one_line(str(outcome)))


def _in_one_line(text: str) -> str:
    """Escape what a target's own error may do to a terminal or a file."""
    return escape_unprintable(" ".join(text.split()))


def _here(subject: Subject, steps: list[Step], tell: Callable[[str, Any], None]) -> list[Row]:
    """Run the rows in this process, telling of each as it begins and ends."""
    rows = []
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # what torch warns of is not what is asked
        for step in steps:
            tell("begins", step[0])
            row = _row(subject, step)
            tell("ends", [row.name, row.status, row.detail])
            rows.append(row)
            if _is_hopeless(row):
                break
    return rows


def _is_hopeless(row: Row) -> bool:
    """Whether nothing else can be asked: the target does not even take and return a tensor."""
    return row.name == "shape" and row.status == FAIL


def _completed(rows: list[Row], steps: list[Step]) -> list[Row]:
    return rows + [Row(step[0], COULD_NOT_RUN, "the shape row failed") for step in steps[len(rows) :]]


# -- isolation ----------------------------------------------------------------------------------------


def _isolated(subject: Subject, steps: list[Step]) -> list[Row]:
    """Run the rows in a forked process; after one that hangs or crashes go on in another."""
    for name in {"", *(name for name, _, _ in steps)} & set(_IMPORTS) if next(_checks) else ():
        with contextlib.suppress(ImportError):  # in another version of torch the row imports what it needs
            importlib.import_module(_IMPORTS[name])
    rows: list[Row] = []
    while len(rows) < len(steps) and not any(map(_is_hopeless, rows)):
        rows += _one_process(subject, steps[len(rows) :])
    return rows


def _one_process(subject: Subject, steps: list[Step]) -> list[Row]:
    """Return the rows that one process finished, and the one that it ended in."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads; ours use none
        child = os.fork()
    if child == 0:
        os.close(reading)
        _child(subject, steps, writing)
    os.close(writing)
    rows: list[Row] = []
    try:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            ending = _follow(pipe, steps, rows)
    finally:
        for kill in (os.killpg, os.kill):  # it, and a compiler it may have started
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if len(rows) < len(steps) and not any(map(_is_hopeless, rows)):
        rows.append(Row(steps[len(rows)][0], FAIL, ending or _death(status)))
    return rows


def _child(subject: Subject, steps: list[Step], writing: int) -> None:
    """Run the rows and write of each in one line; never return."""
    os.setsid()
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # from sys/prctl.h: a target that hangs must not outlive a killed parent
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    faulthandler.disable()  # a crash is told in the report
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # what the target prints is not the report
        os.dup2(nothing, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it ends with the process
    try:
        torch.set_num_threads(1)  # the pool of threads did not come along
        with os.fdopen(writing, "w", buffering=1) as pipe:
            _here(subject, steps, lambda what, value: print(json.dumps([what, value]), file=pipe))
    finally:
        os._exit(0)


def _follow(pipe: Any, steps: list[Step], rows: list[Row]) -> str:
    """Collect rows until the process ends; return why it must be ended, if it must."""
    limits = {name: seconds for name, _, seconds in steps}
    deadline, limit, rest = time.monotonic() + _SECONDS, _SECONDS, b""
    while len(rows) < len(steps):
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return f"did not end within {limit:g} s"
        data = os.read(pipe.fileno(), 65536)
        if not data:
            return ""
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            what, value = json.loads(line)
            if what == "ends":
                rows.append(Row(*value))
            else:
                limit = limits[value]
                deadline = time.monotonic() + limit
    return ""


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"the interpreter was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"the interpreter ended with status {os.WEXITSTATUS(status)}"

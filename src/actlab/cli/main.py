"""The command line: parse the arguments, run the command, and turn errors into exit statuses."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from actlab.cli.output import reserve_output
from actlab.cli.parser import create_parser
from actlab.errors import (
    CatalogueWarning,
    DataWarning,
    FormulaWarning,
    UsageError,
    escape_unprintable,
    format_error,
)

_NOTES = (CatalogueWarning, DataWarning, FormulaWarning)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_WRONG_USAGE, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name (default: those of the process).

    Returns:
        The exit status: 0 success; 1 a check failed, or every run did; 2 wrong usage or bad input; 3 a
        requirement of ``judge`` is undecided; 130 interrupted; 141 the reader closed standard output.
    """
    if sys.stderr is None:  # print(file=None) would print to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    if sys.stdout is None:  # the next file that is opened would take its place and its output
        return _fail("error: standard output is closed; redirect it to a file or to /dev/null", _WRONG_USAGE)
    try:
        status = _run(argv)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(f"error: {format_error(error)}", _WRONG_USAGE)
    except KeyboardInterrupt as error:
        return _fail(f"interrupted{error}", _INTERRUPTED)
    except SystemExit as error:
        return _fail(f"error: an activation or a network called sys.exit({error.code!r})", _WRONG_USAGE)
    except BrokenPipeError:
        _discard(sys.stdout)
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno not in _DISK_FULL or error.filename is not None:  # files have messages of their own
            raise
        _discard(sys.stdout)
        return _fail(f"error: cannot write the output: {error.strerror}", _WRONG_USAGE)
    except (MemoryError, RuntimeError) as error:
        from actlab.fleet.trial import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail(f"error: not enough memory: {format_error(error)}", _WRONG_USAGE)
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = create_parser().parse_args(argv)
    except SystemExit:  # argparse has printed the help or the version
        return 0
    try:
        sys.path.insert(0, os.getcwd())  # for the user's modules
    except FileNotFoundError as error:
        raise UsageError("the current folder no longer exists; change to another one") from error
    # `kill` and batch systems send SIGTERM. A signal that was ignored at the start stays ignored.
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with warnings.catch_warnings():
        for category in _NOTES:
            warnings.simplefilter("always", category)
        warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
        reserve = reserve_output if getattr(arguments, "json", False) else contextlib.nullcontext
        with reserve() as arguments.output:
            status: int = arguments.run(arguments)
        return status


def _show_warning(
    default: Callable[..., None], message: Warning | str, category: type[Warning], *location: Any
) -> None:
    """Print a warning about data, a formula or the catalogue in one line; print others by default."""
    if issubclass(category, _NOTES):
        _fail(f"note: {message}", 0)
    else:
        default(message, category, *location)


def _fail(text: str, status: int) -> int:
    """Print a line on standard error, if it can be written, and return the exit status."""
    try:
        print(f"actlab: {escape_unprintable(text)}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)
    return status


def _discard(stream: Any) -> None:
    """Send a broken stream to /dev/null: Python flushes it at exit, and would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

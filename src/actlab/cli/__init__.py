"""The verbs on the command line: it reads arguments, calls the library and says what came out."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from actlab.cli.output import SUCCESS
from actlab.cli.parser import create_parser
from actlab.errors import CatalogueWarning, DataWarning, FormulaWarning, UsageError, format_error

_NOTES = (CatalogueWarning, DataWarning, FormulaWarning)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_WRONG_USAGE, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process when left out.

    Returns:
        The exit status: 0 done, 1 a check failed, or all that was trained, 2 wrong usage or bad input,
        130 interrupted, 141 nobody reads the output.
    """
    try:
        status = _run(argv)
        sys.stdout.flush()
    except UsageError as error:
        return _complain(f"error: {format_error(error)}", _WRONG_USAGE)
    except KeyboardInterrupt as error:
        return _complain(f"interrupted{error}", _INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        return _BROKEN_PIPE
    except OSError as error:
        if (
            error.errno not in _NO_ROOM or error.filename is not None
        ):  # of a file it is said where it is written
            raise
        _drop_output()
        return _complain(f"error: cannot write the output: {error.strerror}", _WRONG_USAGE)
    return status


def _drop_output() -> None:
    """Let nothing be printed any more: Python would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = create_parser().parse_args(argv)
    except SystemExit:  # argparse printed the help or the version
        return SUCCESS
    sys.path.insert(0, os.getcwd())  # where a person's own modules are
    # SIGTERM is what `kill` sends, or a cluster's end of time. One that was ignored at the start stays so.
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) != signal.SIG_IGN
    ):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with warnings.catch_warnings():
        for category in _NOTES:
            warnings.simplefilter("always", category)
        warnings.showwarning = functools.partial(_warn, warnings.showwarning)
        status: int = arguments.run(arguments)
        return status


def _warn(usual: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning about data, a formula or the catalogue in one line; any other warning as usual."""
    if issubclass(category, _NOTES):
        _complain(f"note: {message}", 0)
    else:
        usual(message, category, *place)


def _complain(text: str, status: int) -> int:
    print(f"actlab: {text}", file=sys.stderr)
    return status

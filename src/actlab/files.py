"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from actlab.errors import UsageError

LEDGER = "ledger.sqlite"  # in a comparison's folder


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder and prove that it can be written, before hours of work depend on it.

    Args:
        path: The folder; its parents are made too.

    Returns:
        The folder as a :class:`~pathlib.Path`.

    Raises:
        UsageError: It cannot be made or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to output folder {str(folder)!r}: {error.strerror}") from error
    return folder


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; on success it takes the place of ``path`` in one step.

    Args:
        path: Where the finished file is to be.

    Yields:
        A path in the same folder; it is removed when the block fails.

    Raises:
        UsageError: The file system refuses (full, read-only), or something that is no file is there.
    """
    # What a link points to is written, and the link stays; a device or a pipe would be no more.
    place = path.resolve()
    if place.exists() and not place.is_file():
        raise UsageError(f"cannot write {str(path)!r}: it is there and no file; name another")
    beside = place.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, place)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # a read-only file system has said so already
            beside.unlink(missing_ok=True)

"""Write files completely or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from actlab.errors import UsageError

LEDGER = "ledger.sqlite"  # in the folder of a comparison
AS_GIVEN = "as_given"  # the folder of the comparison with the settings as given


def create_output_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder and verify that it can be written to, before hours of work depend on it.

    Args:
        path: The folder; missing parents are created too.

    Returns:
        The folder as a :class:`~pathlib.Path`.

    Raises:
        UsageError: The folder cannot be created or written to.
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
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success, rename it to ``path`` in one step.

    Args:
        path: The finished file.

    Yields:
        A path in the same folder, which is removed if the block fails.

    Raises:
        UsageError: The file system is full or read-only, or the path exists and is not a regular file.
    """
    # Write the target of a symbolic link, and never replace a device or a pipe by a file.
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise UsageError(
            f"cannot write {str(path)!r}: it exists and is not a regular file; choose another name"
        )
    beside = target.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # an error of the file system has been raised already
            beside.unlink(missing_ok=True)

"""The SQLite file of a ledger: its tables, how it is opened, and what can go wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from actlab.errors import UsageError

log = logging.getLogger("actlab")

FORMAT = 5  # of the tables and of the run keys in them
PATIENCE = 30.0  # seconds to wait for another process's transaction
_APPLICATION = int.from_bytes(b"actl", "big")  # the application that `file` and SQLite report
_MIN_SQLITE = (3, 37, 0)  # the first with STRICT tables
_NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs beegfs ceph cifs coda gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb3 smbfs "
    "virtiofs".split()
)
_NOT_SQLITE = "is not a ledger: it is not an SQLite file; choose another file"
_MIN_FILE = 512  # bytes of the smallest SQLite file
_MIN_FREE = 1 << 16  # bytes that must be free for SQLite's side files

# ANY where a float is stored bit for bit: a REAL column turns -0.0 into 0.0. NULL is NaN.
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        settings TEXT NOT NULL,
        test_loss ANY CHECK (typeof(test_loss) IN ('real', 'null')),
        test_acc ANY CHECK (typeof(test_acc) IN ('real', 'null')),
        seconds ANY CHECK (typeof(seconds) IN ('real', 'null')),
        saved_bytes INTEGER,
        how TEXT NOT NULL,
        reason_alone TEXT NOT NULL,
        failure TEXT NOT NULL,
        passing INTEGER NOT NULL,
        epochs INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        host TEXT NOT NULL,
        finished TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE history (
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        epoch INTEGER NOT NULL,
        figures TEXT NOT NULL,
        PRIMARY KEY (run, epoch)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE diagnostics (
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        records TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE outcomes (
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        samples INTEGER NOT NULL,
        dtype TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE weights (
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        names TEXT NOT NULL,
        state BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE discrepancy (
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        field TEXT NOT NULL,
        first TEXT NOT NULL,
        second TEXT NOT NULL,
        recorded TEXT NOT NULL,
        PRIMARY KEY (run, field, first, second)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE comparison (
        token TEXT NOT NULL UNIQUE,
        started TEXT NOT NULL,
        about TEXT NOT NULL,
        runs TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE owner (
        token TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE claim (
        key TEXT PRIMARY KEY,
        owner TEXT NOT NULL REFERENCES owner (token) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX claim_owner ON claim (owner)",
)


def open_file(path: Path, readonly: bool) -> sqlite3.Connection:
    """Open the file of a ledger; create it unless it is only read.

    Args:
        path: The file, as the user named it.
        readonly: Whether nothing will be written.

    Returns:
        A connection on which transactions begin and end explicitly.

    Raises:
        UsageError: It cannot be opened or is not a ledger of this format; the file is unchanged.
    """
    if sqlite3.sqlite_version_info < _MIN_SQLITE:
        raise UsageError(f"this Python has SQLite {sqlite3.sqlite_version}; a ledger needs 3.37 or newer")
    resolved = _check_access(path, readonly)
    with translate_errors(path):
        return _open_to_read(path, resolved) if readonly else _open_to_write(path, resolved)


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise an SQLite error as a one-line UsageError."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes damaged bytes in its messages
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise  # a fault of this program, not of the file
        raise UsageError(f"ledger {str(path)!r} {_describe_error(error, path)}") from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Write everything that the block writes, or nothing if it fails."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends some by itself, as when the disk is full
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def find_network_file_system(path: Path) -> str:
    """Return the type of the network file system that holds a resolved path; an empty string if none does."""
    kind, depth = "", -1
    for partition in psutil.disk_partitions(all=True):
        mount = Path(partition.mountpoint)
        if path.is_relative_to(mount) and len(mount.parts) >= depth:  # the last of two on one folder counts
            kind, depth = partition.fstype, len(mount.parts)
    return kind if kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse.") else ""


def _check_access(path: Path, readonly: bool) -> Path:
    """Raise UsageError if the file cannot be used; return the resolved path.

    Do not open the file here: closing a file that SQLite has open in this process drops SQLite's locks.
    """
    name = f"ledger {str(path)!r}"
    try:
        resolved = path.resolve()
        if not readonly:
            resolved.parent.mkdir(parents=True, exist_ok=True)
        mode = resolved.stat().st_mode
    except FileNotFoundError:
        if readonly:
            raise UsageError(f"there is no ledger at {str(path)!r}") from None
        mode = None
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{name} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if mode and stat.S_ISDIR(mode):
        raise UsageError(f"{name} is a folder; name a file in it")
    if mode and not stat.S_ISREG(mode):
        raise UsageError(f"{name} is not a regular file; choose another")
    if mode and not os.access(resolved, os.R_OK):
        raise UsageError(f"{name} cannot be read: permission denied")
    for target in [] if readonly else [resolved, resolved.parent] if mode else [resolved.parent]:
        if not os.access(target, os.W_OK):
            is_readonly = os.statvfs(target).f_flag & os.ST_RDONLY
            reason = "the file system is read-only" if is_readonly else f"no permission for {str(target)!r}"
            raise UsageError(f"{name} cannot be written: {reason}; choose another folder")
    return resolved


def _open_to_read(path: Path, resolved: Path) -> sqlite3.Connection:
    try:
        connection, is_empty = _connect(path, resolved, "mode=ro")
    except sqlite3.OperationalError as error:
        # A write-ahead log needs a file of shared memory, which cannot be created in this folder.
        if _get_primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        if os.access(resolved.parent, os.W_OK):
            raise
        if _has_side_file(resolved):
            problem = "has changes in a side file (-wal); copy both files to a writable folder"
            raise UsageError(f"ledger {str(path)!r} {problem}") from error
        connection, is_empty = _connect(path, resolved, "mode=ro&immutable=1")
    if is_empty:
        connection.close()
        raise UsageError(f"there is no ledger at {str(path)!r} yet: the file is empty")
    return connection


def _open_to_write(path: Path, resolved: Path) -> sqlite3.Connection:
    if resolved.exists():
        # A connection that may write tidies the file up when it closes, so check first that it is a ledger.
        try:
            _connect(path, resolved, "mode=ro")[0].close()
        except sqlite3.OperationalError as error:
            if _get_primary_code(error) != sqlite3.SQLITE_READONLY:  # else a crash left something to repair
                raise
    connection, _ = _connect(path, resolved, "mode=rwc")
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        _set_journal(connection, path, resolved)
        with transaction(connection):
            if not _read_schema(connection):  # another process may have created it in the meantime
                for statement in _SCHEMA:
                    connection.execute(statement)
        stack.pop_all()
    return connection


def _connect(path: Path, resolved: Path, options: str) -> tuple[sqlite3.Connection, bool]:
    """Connect to a ledger or an empty file; return whether it is empty."""
    connection = sqlite3.connect(
        f"{resolved.as_uri()}?{options}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        for setting in ("trusted_schema=OFF", "cell_size_check=ON", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {setting}")
        with transaction(connection, "DEFERRED"):
            is_empty = _check_format(connection, path, resolved)
        stack.pop_all()
    return connection, is_empty


def _check_format(connection: sqlite3.Connection, path: Path, resolved: Path) -> bool:
    """Raise UsageError unless a file is a ledger of this format or empty; return whether it is empty."""
    name = f"ledger {str(path)!r}"
    application, page, version = (
        connection.execute(f"PRAGMA {pragma}").fetchone()[0]
        for pragma in ("application_id", "page_size", "user_version")
    )
    size = resolved.stat().st_size
    # SQLite reads the missing part of a page as zeros, and a file of a few bytes as a new one.
    if size % page and not _has_side_file(resolved):
        cut = "is damaged: it is truncated; restore a backup"
        raise UsageError(f"{name} {cut if size >= _MIN_FILE else _NOT_SQLITE}")
    schema = _read_schema(connection)
    if not (application or version or schema):
        return True  # new, or the process that created it was killed before there was a table
    if application != _APPLICATION:
        raise UsageError(f"{name} is not a ledger but another application's SQLite file; choose another file")
    if version > FORMAT:
        problem = f"was written by a newer actlab (format {version}; this one reads format {FORMAT})"
        raise UsageError(f"{name} {problem}: update actlab")
    if version < FORMAT:
        problem = f"was written by an older actlab (format {version}; this one reads format {FORMAT})"
        raise UsageError(f"{name} {problem}: its run keys are computed differently; choose a new file")
    if changed := schema ^ _make_expected_schema():
        names = ", ".join(sorted({str(name) for _, name, _ in changed}))
        raise UsageError(f"{name} does not have actlab's tables ({names})")
    return False


def _read_schema(connection: sqlite3.Connection) -> set[tuple[str, str, str | None]]:
    # ANALYZE, which a user may run, adds tables of statistics.
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
    return set(connection.execute(query))


def _make_expected_schema() -> set[tuple[str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as blank:
        for statement in _SCHEMA:
            blank.execute(statement)
        return _read_schema(blank)


def _has_side_file(resolved: Path) -> bool:
    """Return whether there are changes that are not in the file itself yet."""
    side_files = (Path(f"{resolved}{suffix}") for suffix in ("-wal", "-journal"))
    return any(file.exists() and file.stat().st_size for file in side_files)


def _set_journal(connection: sqlite3.Connection, path: Path, resolved: Path) -> None:
    """Use a write-ahead log if all processes share memory, so that readers need not wait."""
    network = find_network_file_system(resolved)
    wanted = "delete" if network else "wal"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            (mode,) = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait when two processes change the mode at once.
            if _get_primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        where = f"a network file system ({network})" if network else "a file system without shared memory"
        log.warning(
            "ledger %r is on %s: it uses a rollback journal, which is slower but equally safe",
            str(path),
            where,
        )


def _get_primary_code(error: Exception) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)  # errors of the sqlite3 module itself have none
    return None if code is None else int(code) & 0xFF


def _describe_error(error: Exception, path: Path) -> str:
    code = _get_primary_code(error)
    if code == sqlite3.SQLITE_IOERR and _is_full(path):
        code = sqlite3.SQLITE_FULL  # SQLite's code for a full disk depends on which of its files is written
    damaged = f"is damaged ({error}); restore a backup"
    problems = {
        None: damaged,
        sqlite3.SQLITE_CORRUPT: damaged,
        sqlite3.SQLITE_NOTADB: _NOT_SQLITE,
        sqlite3.SQLITE_FULL: "cannot be written: the disk is full; finished runs are recorded, "
        "and the same command resumes when there is space",
        sqlite3.SQLITE_BUSY: f"has been locked by another process for {PATIENCE:g} seconds; try again later",
        sqlite3.SQLITE_READONLY: "cannot be written: it was opened read-only, "
        "or the file or a side file (-wal, -shm) belongs to another user",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of the file and of its folder",
        sqlite3.SQLITE_IOERR: f"cannot be read or written ({error}); check the disk",
    }
    return problems.get(code, f"cannot be used: {error}")


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _MIN_FREE
    except OSError:
        return False

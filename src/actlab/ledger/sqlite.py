"""The SQLite file under a ledger: its tables, how it is opened, what goes wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from actlab.errors import UsageError
from actlab.ledger.owner import PROC, text_of

log = logging.getLogger("actlab")

PATIENCE = 30.0  # seconds to wait for another process's transaction
APPLICATION = int.from_bytes(b"actl", "big")  # what `file` and SQLite know the file by
_OLDEST = (3, 37, 0)  # the first SQLite that has STRICT tables
_NETWORKS = frozenset(
    "9p afs beegfs ceph cifs coda gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb3 smbfs "
    "virtiofs".split()
)
_NO_SQLITE = "is not a ledger: it is no SQLite file; name another file"
_PAGE = 512  # bytes of the smallest SQLite file
_SMALLEST = 1 << 16  # bytes that must be free for SQLite's side files

# ANY where a float is kept bit for bit: a REAL column turns -0.0 into 0.0. NULL is NaN.
_FIRST = (
    f"PRAGMA application_id = {APPLICATION}",
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        settings TEXT NOT NULL,
        test_loss ANY CHECK (typeof(test_loss) IN ('real', 'null')),
        test_acc ANY CHECK (typeof(test_acc) IN ('real', 'null')),
        seconds ANY CHECK (typeof(seconds) IN ('real', 'null')),
        how TEXT NOT NULL,
        alone TEXT NOT NULL,
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
    """CREATE TABLE weights (
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        names TEXT NOT NULL,
        state BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE discrepancy (
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        what TEXT NOT NULL,
        kept TEXT NOT NULL,
        found TEXT NOT NULL,
        noted TEXT NOT NULL,
        PRIMARY KEY (run, what, kept, found)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE owner (
        token TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        host TEXT NOT NULL,
        machine TEXT NOT NULL,
        boot TEXT NOT NULL,
        space TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE claim (
        key TEXT PRIMARY KEY,
        owner TEXT NOT NULL REFERENCES owner (token) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX claim_owner ON claim (owner)",
)
_SECOND = (
    """CREATE TABLE inside (
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        looks TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE begun (
        token TEXT NOT NULL UNIQUE,
        at TEXT NOT NULL,
        about TEXT NOT NULL,
        runs TEXT NOT NULL
    ) STRICT""",
)
MIGRATIONS: list[tuple[str, ...]] = [_FIRST, _SECOND]  # from schema n to schema n + 1; released ones stay


def opened(path: Path, readonly: bool) -> sqlite3.Connection:
    """Open a ledger's file, and make or upgrade it unless it is only to be read.

    Args:
        path: The file, as a person named it.
        readonly: Whether nothing is to be written.

    Returns:
        A connection on which transactions begin and end explicitly.

    Raises:
        UsageError: It cannot be opened or is no ledger; the file is as it was.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise UsageError(f"this Python has SQLite {sqlite3.sqlite_version}; a ledger needs 3.37 or newer")
    real = _refuse(path, readonly)
    with speaking(path):
        return _reader(path, real) if readonly else _writer(path, real)


@contextlib.contextmanager
def speaking(path: Path) -> Iterator[None]:
    """Say in one line, as a UsageError, what SQLite says went wrong with the file."""
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise  # ours, not the file's
        raise UsageError(f"ledger {str(path)!r} {_problem(error, path)}") from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Let what is written in the block be in the file as a whole or not at all."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends some by itself, as when the disk is full
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def networked(path: Path, mounts: str) -> str:
    """Return the type of the network file system that a file is on, or an empty string.

    Args:
        path: The file, without symbolic links.
        mounts: What ``/proc/mounts`` says.

    Examples:
        >>> networked(Path("/home/kim/runs.db"), "nas:/home /home nfs4 rw 0 0")
        'nfs4'
        >>> networked(Path("/tmp/runs.db"), "nas:/home /home nfs4 rw 0 0")
        ''
    """
    found, depth = "", -1
    for line in mounts.splitlines():
        where, kind = [*line.split(), "", "", ""][1:3]
        folder = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), where))
        if where and path.is_relative_to(folder) and len(folder.parts) >= depth:
            found, depth = kind, len(folder.parts)
    return found if found in _NETWORKS or found.startswith("fuse.") else ""


def _refuse(path: Path, readonly: bool) -> Path:
    """Say what is wrong before SQLite sees the file, without opening it; return it without links.

    To open and close a file that this process has open in SQLite would drop SQLite's locks on it.
    """
    try:
        real = path.resolve()
        if not readonly:
            real.parent.mkdir(parents=True, exist_ok=True)
        mode = real.stat().st_mode
    except FileNotFoundError:
        if readonly:
            raise UsageError(f"there is no ledger at {str(path)!r}") from None
        mode = None
    except (OSError, RuntimeError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise UsageError(f"ledger {str(path)!r} cannot be opened: {problem}") from error
    if mode and stat.S_ISDIR(mode):
        raise UsageError(f"ledger {str(path)!r} is a folder; name a file in it")
    if mode and not stat.S_ISREG(mode):
        raise UsageError(f"ledger {str(path)!r} is no regular file; name another")
    if mode and not os.access(real, os.R_OK):
        raise UsageError(f"ledger {str(path)!r} cannot be read: permission denied")
    for place in () if readonly else (*filter(lambda _: mode, [real]), real.parent):
        if not os.access(place, os.W_OK):
            full = os.statvfs(place).f_flag & os.ST_RDONLY
            why = "the file system is read-only" if full else f"no permission for {str(place)!r}"
            raise UsageError(f"ledger {str(path)!r} cannot be written: {why}; name a file elsewhere")
    return real


def _reader(path: Path, real: Path) -> sqlite3.Connection:
    try:
        connection, version = _inspected(path, real, "mode=ro")
    except sqlite3.OperationalError as error:
        # WAL has a file for shared memory, and in this folder none can be made.
        if _primary(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        if os.access(real.parent, os.W_OK):
            raise
        if _beside(real):
            problem = "has changes in a file beside it; copy both to a folder that can be written"
            raise UsageError(f"ledger {str(path)!r} {problem}") from error
        connection, version = _inspected(path, real, "mode=ro&immutable=1")
    if version == len(MIGRATIONS):
        return connection
    connection.close()
    if not version:
        raise UsageError(f"there is no ledger at {str(path)!r} yet: the file is empty")
    problem = f"was written by an older actlab (schema {version}; this one reads {len(MIGRATIONS)})"
    raise UsageError(f"ledger {str(path)!r} {problem}: open it for writing once, which upgrades it")


def _writer(path: Path, real: Path) -> sqlite3.Connection:
    if real.exists():
        # Whoever closes a file that can be written tidies it up: what is no ledger is not opened so.
        try:
            _inspected(path, real, "mode=ro")[0].close()
        except sqlite3.OperationalError as error:
            if _primary(error) != sqlite3.SQLITE_READONLY:  # else a crash left something to put right
                raise
    connection, _ = _inspected(path, real, "mode=rwc")
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        _set_journal(connection, path, real)
        with transaction(connection):
            version = _version(connection)  # another process may have been here in the meantime
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
        stack.pop_all()
    return connection


def _inspected(path: Path, real: Path, how: str) -> tuple[sqlite3.Connection, int]:
    """Connect, and return the schema's version if the file is a ledger or empty."""
    connection = sqlite3.connect(
        f"{real.as_uri()}?{how}", uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        for setting in ("trusted_schema=OFF", "cell_size_check=ON", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {setting}")
        with transaction(connection, "DEFERRED"):
            version = _inspect(connection, path, real)
        stack.pop_all()
    return connection, version


def _inspect(connection: sqlite3.Connection, path: Path, real: Path) -> int:
    named = f"ledger {str(path)!r}"
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    version = _version(connection)
    size = real.stat().st_size
    # SQLite reads the missing part of a page as zeros, and a file of a few bytes as a new one.
    if size % page and not _beside(real):
        problem = "is damaged: it was cut short; go back to a copy of it" if size >= _PAGE else _NO_SQLITE
        raise UsageError(f"{named} {problem}")
    schema = _schema(connection)
    if not (application or version or schema):
        return 0  # new, or its maker was killed before there was a table
    if application != APPLICATION:
        raise UsageError(f"{named} is not a ledger but another application's SQLite file; name another")
    if version > len(MIGRATIONS):
        problem = f"was written by a newer actlab (schema {version}; this one knows {len(MIGRATIONS)})"
        raise UsageError(f"{named} {problem}: update actlab")
    if changed := schema ^ _expected(version):
        names = ", ".join(sorted({str(name) for _, name, _ in changed}))
        raise UsageError(f"{named} is not as actlab makes it ({names}): it is not read")
    return version


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str | None]]:
    # ANALYZE, which a person may run, leaves tables of figures for SQLite's planner.
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
    return set(connection.execute(query))


def _expected(version: int) -> set[tuple[str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as blank:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                blank.execute(statement)
        return _schema(blank)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _beside(real: Path) -> bool:
    """Say whether there are changes that are not in the file itself yet."""
    sides = (Path(f"{real}{suffix}") for suffix in ("-wal", "-journal"))
    return any(side.exists() and side.stat().st_size for side in sides)


def _set_journal(connection: sqlite3.Connection, path: Path, real: Path) -> None:
    """Let readers not wait for writers (WAL), where all processes see the same memory."""
    kind = networked(real, text_of(PROC / "mounts"))
    wanted = "delete" if kind else "wal"
    until = time.monotonic() + PATIENCE
    while True:
        try:
            (found,) = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
            break
        except sqlite3.OperationalError as error:
            # SQLite itself does not wait here when two want to change the mode at once.
            if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
    if found != "wal":
        where = f"a network file system ({kind})" if kind else "a file system without shared memory"
        log.warning("ledger %r is on %s: kept with a rollback journal, slower but as safe", str(path), where)


def _primary(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)  # the module's own errors have none
    return None if code is None else int(code) & 0xFF


def _problem(error: sqlite3.Error, path: Path) -> str:
    code = _primary(error)
    if code == sqlite3.SQLITE_IOERR and _full(path):
        code = sqlite3.SQLITE_FULL  # SQLite's word for a full disk depends on which of its files is written
    known = {
        None: f"is damaged ({error}); go back to a copy of it",
        sqlite3.SQLITE_CORRUPT: f"is damaged ({error}); go back to a copy of it",
        sqlite3.SQLITE_NOTADB: _NO_SQLITE,
        sqlite3.SQLITE_FULL: "cannot be written: the disk is full; what is finished is kept, "
        "and the same command goes on when there is space",
        sqlite3.SQLITE_BUSY: f"has been locked by another process for {PATIENCE:g} seconds; try again later",
        sqlite3.SQLITE_READONLY: "cannot be written: it is opened read-only, "
        "or it or a file beside it (-wal, -shm) is another user's",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened; look at the permissions of the file and of its folder",
        sqlite3.SQLITE_IOERR: f"cannot be read or written ({error}); look at the disk",
    }
    return known.get(code, f"cannot be used: {error}")


def _full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _SMALLEST
    except OSError:
        return False

"""Open a ledger in a SQLite file, and refuse a file that cannot be trusted to remember."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Final, TypeAlias, cast

import sqlalchemy as sa

from eb_dagster.errors import LedgerError
from eb_dagster.ledger.schema import APPLICATION_ID, foreign

BUSY_SECONDS: Final = 90.0

# The bytes that every SQLite file begins with.
_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_APPLICATION_ID_BYTES: Final = slice(68, 72)
_SIDE_FILE_ENDINGS: Final = ("-wal", "-shm")
_FULL: Final = 2
"""What `PRAGMA synchronous` reads as when it is FULL."""
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "ceph",
        "lustre",
        "beegfs",
        "gpfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "fuse.glusterfs",
        "fuse.ceph-fuse",
        "fuse.blobfuse2",
        "fuse.mount-s3",
    ]
)

# `resolve` turns a drive's letter that stands for a share into such a path, too. What begins with \\?\C: is on
# this machine.
_WINDOWS_SHARE: Final = re.compile(r"\\\\(\?\\UNC\\|[^?.\\])", re.IGNORECASE)

_FileIdentity: TypeAlias = tuple[int, int] | None
"""Device and inode; None where there is no file."""


def create_private(path: Path) -> None:
    """Create the file if it is missing, readable by its owner only, and check that it is or can become a ledger.

    SQLite gives its side files the same mode.
    """
    try:
        facts = _create_and_check(path)
    except OSError:
        raise LedgerError(
            f"the ledger {path.name} cannot be written there; check its folder and permissions, or name another place"
        ) from None
    _check_private(path, facts.st_mode)
    if facts.st_nlink > 1:
        raise LedgerError(
            f"the ledger {path.name} has more than one hard link, which SQLite cannot lock; remove the others"
        )


def is_writable(path: Path) -> bool:
    """Whether the file, and the folder of its side files, may be written."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def address_to_read(path: Path) -> str:
    """The address by which SQLite reads a ledger that is there, after the checks that need no writing.

    Where the side files can be made, they are: beside them, others may write. Where they cannot and are missing,
    the whole ledger is in its file.
    """
    _check_not_gone(path)
    _check_file_system(path)
    _check_regular([path, *_side_files(path)])
    try:
        _check_content(path, was_used=_was_used(path))
        mode = path.stat().st_mode
    except OSError:
        raise LedgerError(f"the ledger {path.name} cannot be read there; check its permissions") from None
    if is_writable(path):
        _check_private(path, mode)
        return path.as_uri()
    return f"{path.as_uri()}?mode=ro{'' if any(map(Path.exists, _side_files(path))) else '&immutable=1'}"


def prepare_to_read(connection: sqlite3.Connection) -> dict[str, object]:
    """Make a connection write nothing."""
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = ON").close()
    return {}


def _was_used(path: Path) -> bool:
    return path.with_name(path.name + "-owners").exists()


def _check_private(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & 0o077:
        raise LedgerError(f"the ledger can be read by others: chmod 600 {path.name}")


def _check_not_gone(path: Path) -> None:
    # In this order: another process may make both in between, and makes the ledger first.
    if any(side_file.exists() for side_file in _side_files(path)) and not path.exists():
        raise LedgerError(
            f"the ledger {path.name} is gone, and its {path.name}-wal is still there with what came last: put "
            "the file back beside it, or move that away too"
        )


def _create_and_check(path: Path) -> os.stat_result:
    _make_folders(path)
    _check_file_system(path)
    was_used = _was_used(path)
    _check_not_gone(path)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        was_used = False
    # Before any of them is opened: opening a pipe may wait for ever.
    _check_regular([path, *_side_files(path)])
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError
    _check_content(path, was_used=was_used)
    return path.stat()


def _make_folders(path: Path) -> None:
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def _check_file_system(path: Path) -> None:
    kind = network_file_system(path, _mounts())
    if kind is not None:
        raise LedgerError(
            f"the ledger is on a network file system ({kind}), where SQLite's locks and syncs do "
            "not hold; put it on a local disk, or use PostgreSQL"
        )


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in _SIDE_FILE_ENDINGS]


def _check_regular(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(mode):
            raise LedgerError(
                f"the ledger {path.name} is a folder; name a file in it, such as {path.name}/ledger.db"
            )
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            kind = kinds.get(stat.S_IFMT(mode), "a device")
            raise LedgerError(f"the ledger {path.name} is {kind}, which keeps nothing; name a file")


def _check_content(path: Path, *, was_used: bool) -> None:
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        if was_used:
            raise LedgerError(
                f"the ledger {path.name} was emptied: it has been used, and holds nothing any more. Restore it from a "
                f"backup; to begin anew, remove {path.name}-owners too"
            )
        return
    if not header.startswith(_MAGIC):
        raise LedgerError(
            f"{path.name} is not a ledger, but a file of another kind; name a ledger, or a new file"
        )
    application_id = int.from_bytes(header[_APPLICATION_ID_BYTES], "big")
    if application_id == APPLICATION_ID:
        return
    if application_id or _has_foreign_tables(path):
        raise foreign(path.name)


def _has_foreign_tables(path: Path) -> bool:
    """Whether a SQLite file without an application's mark holds tables, and none of a ledger's. Leaves it untouched."""
    try:
        address = f"{path.as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return False
            connection.execute("SELECT name, value FROM meta LIMIT 1").fetchall()
    except sqlite3.Error as error:
        # SQLITE_ERROR: there is no such table or column. Any other error, such as damage or a lock, will be
        # met again and reported when the file is opened for use.
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return False


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return ""


def _mounted_kinds(mounts: str) -> dict[str, str]:
    """By mount point, the kind of file system."""
    kinds: dict[str, str] = {}
    for line in mounts.splitlines():
        # mount id, parent, device, root, mount point, options … "-" file system …
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) > 4 and right:
            mount_point = fields[4].encode().decode("unicode_escape")
            kinds[mount_point] = right.split(" ")[0]
    return kinds


def network_file_system(path: PurePath, mounts: str) -> str | None:
    """The kind of network file system that a path is on, by its name on Windows or the text of Linux's mountinfo."""
    if _WINDOWS_SHARE.match(path.drive):
        return "a Windows share"
    kinds = _mounted_kinds(mounts)
    for folder in (path, *path.parents):
        kind = kinds.get(str(folder))
        if kind:
            return kind if kind in _NETWORK_FILE_SYSTEMS else None
    return None


class LedgerFiles:
    """The files of one ledger, by device and inode: later on, its path may lead to other files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._paths = [path, *_side_files(path)]
        self._first_opened: _FileIdentity = None

    def prepare(self, connection: sqlite3.Connection) -> dict[str, object]:
        """Make a connection keep what is committed. Returns what `check_files` compares with."""
        _prepare(connection)
        identities = self.identities()
        self._first_opened = self._first_opened or identities[0]
        if identities[0] != self._first_opened:
            raise moved(self.path)
        return {"files": self, "opened": identities}

    def identities(self) -> list[_FileIdentity]:
        """What stands at the paths now."""
        return [_identity(path) for path in self._paths]


def _identity(path: Path) -> _FileIdentity:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def check_files(connection: sa.Connection) -> None:
    """Refuse to go on if the path no longer leads to the files that this connection has open.

    While it is open, SQLite itself removes none of them. Does nothing for PostgreSQL.
    """
    files: LedgerFiles | None = connection.info.get("files")
    if files is not None and files.identities() != connection.info["opened"]:
        raise moved(files.path)


def moved(path: Path) -> LedgerError:
    """The error to raise when a ledger's file was moved or replaced while it was in use."""
    return LedgerError(
        f"the ledger {path.name} was moved, removed or replaced while it was in use ({path.name}, its -wal and "
        "its -shm are one ledger). Put back the files that were there, or nothing of this run will be remembered"
    )


def _prepare(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA page_size = 16384")
    journal_mode = _turn_wal_on(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
    # What is deleted is overwritten, so that nobody who is forgotten stays in a free page.
    cursor.execute("PRAGMA secure_delete = ON")
    # The first read creates the side files.
    cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
    cursor.close()
    if journal_mode != "wal" or synchronous != _FULL:
        raise LedgerError(
            "SQLite would not promise to keep what is written (WAL, FULL); put the ledger on a local disk"
        )


def _turn_wal_on(cursor: sqlite3.Cursor) -> str:
    # When several processes open a new file at once, SQLite fails at once for all but one of them.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            primary_code = error.sqlite_errorcode & 0xFF
            is_busy = primary_code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def begin(connection: sa.Connection) -> None:
    """Begin a transaction: a read, or a write that is durable or may be undone by a power cut."""
    options = connection.get_execution_options()
    # Past SQLAlchemy, which takes ten times as long for statements as short as these.
    database = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    if options.get("reading", False):
        database.execute("BEGIN").close()
        return
    # NORMAL leaves out the sync at the end; what is written stays in order.
    level = "FULL" if options.get("is_durable", True) else "NORMAL"
    database.execute(f"PRAGMA synchronous = {level}").close()
    # Upgrading a read lock later can fail half-way, so a writer takes the write lock at once.
    database.execute("BEGIN IMMEDIATE").close()

"""Open a ledger's database, and refuse one that cannot be trusted to remember.

One schema for SQLite and PostgreSQL. What is in its tables is for `ledger` to say.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, ProgrammingError

from eb_dagster.errors import LedgerError
from eb_dagster.ledger.entries import checksum, repack_aliases_of_1

SCHEMA_VERSION: Final = 3
BUSY_SECONDS: Final = 90.0

metadata = sa.MetaData()
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
pacer = sa.Table(
    "pacer",
    metadata,
    sa.Column("endpoint", sa.String(500), primary_key=True),
    sa.Column("next_at", sa.Float(53), nullable=False),
    # When that was decided. What lies between bounds how far off the moment can be, whatever a clock says later.
    sa.Column("decided_at", sa.Float(53), nullable=False),
)
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("endpoint", sa.String(500), nullable=False),
    sa.Column("run", sa.String(32), nullable=False),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("required", sa.Integer, nullable=False),
    sa.Column("asked", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("answered_at", sa.Float(53)),
    sa.Column("http_status", sa.Integer),
    sa.Column("note", sa.String(200)),
    sa.Column("credits", sa.Integer, nullable=False, default=0),
    sa.Column("records_enriched", sa.Integer),
    # Identifiers that may have been paid for and have no answer: all while in flight or in doubt.
    sa.Column("at_risk", sa.Integer, nullable=False, default=0),
    sa.Column("unreadable", sa.Integer, nullable=False, default=0),
    sa.Column("keys_checksum", sa.BigInteger, nullable=False, default=0),
    sa.Column("outcomes_checksum", sa.BigInteger, nullable=False, default=0),
    sa.Column("asked_keys", sa.LargeBinary, nullable=False),
    sa.Column("outcomes", sa.LargeBinary),
    sa.Column("aliases", sa.LargeBinary),
    # Each sum that a claim needs is in one of these, whatever the ledger's size.
    sa.Index("requests_by_state", "endpoint", "state"),
    sa.Index("requests_at_risk", "endpoint", "at_risk"),
    sa.Index("requests_of_run", "run", "credits", "at_risk", "unreadable"),
    sa.Index("requests_by_day", "endpoint", "created_at", "credits", "at_risk", "unreadable"),
    # An id that was used once must never come back: it orders what was learned.
    sqlite_autoincrement=True,
)
replies = sa.Table(
    "replies",
    metadata,
    sa.Column("request_id", sa.Integer, sa.ForeignKey("requests.id"), primary_key=True),
    sa.Column("encoding", sa.String(120), nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Column("checksum", sa.BigInteger, nullable=False, default=0),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
suppressed = sa.Table(
    "suppressed",
    metadata,
    sa.Column("key", sa.LargeBinary(16), primary_key=True),
    sa.Column("at", sa.Float(53), nullable=False),
)
published = sa.Table(
    "published",
    metadata,
    sa.Column("path", sa.String(4000), primary_key=True),
    sa.Column("at", sa.Float(53), nullable=False),
)


# A person's word that contacts of this person, by their mark, are not this identifier's.
rejected = sa.Table(
    "rejected",
    metadata,
    sa.Column("key", sa.LargeBinary(16), primary_key=True),
    sa.Column("person", sa.BigInteger, primary_key=True),
)
companions = sa.Table(
    "companions",
    metadata,
    sa.Column("key", sa.LargeBinary(16), primary_key=True),
    # Packed: the people beside whom it stood, each by the keys of profiles and e-mails.
    sa.Column("people", sa.LargeBinary, nullable=False),
    sa.Column("is_shared", sa.Boolean, nullable=False),
    # The newest request that was searched for a contact that holds two of these people.
    sa.Column("searched", sa.Integer, nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
    sa.Index(
        "companions_shared", "at", sqlite_where=sa.text("is_shared"), postgresql_where=sa.text("is_shared")
    ),
    sqlite_with_rowid=False,
)


def database_url(where: str | os.PathLike[str]) -> sa.URL:
    """The ledger's address, from a path or a URL. A link is followed, so that it has one name."""
    text = os.fspath(where)
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(_resolved(Path(text).expanduser())))
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        # Of a port that is no number, the text quotes what stands there: of a password with an @, its end.
        raise LedgerError(
            "the ledger is neither a path nor a database URL; name a file, or postgresql://…"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return sa.URL.create("sqlite", database=str(_resolved(Path(url.database))))
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise LedgerError("the ledger is on a database that is not known here; name a file, or postgresql://…")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        raise LedgerError(
            "the path of the ledger leads nowhere: check it for a loop of links, then name another"
        ) from None


def file_of(url: sa.URL) -> Path | None:
    """The file of a SQLite ledger; None for PostgreSQL."""
    return Path(cast(str, url.database)) if url.get_backend_name() == "sqlite" else None


def connect(url: sa.URL) -> sa.Engine:
    """An engine whose every connection has promised to keep what is committed.

    Two connections: one that writes, and one that reads meanwhile.
    """
    common: dict[str, Any] = {"hide_parameters": True, "poolclass": sa.QueuePool, "pool_size": 2, "max_overflow": 0}  # fmt: skip
    path = file_of(url)
    if path is not None:
        _create_private(path)
        options = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        engine = sa.create_engine(url, connect_args=options, **common)
        event.listen(engine, "connect", _or_closed(_Opened(path).prepare))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, isolation_level="READ COMMITTED", **common)
    except ImportError:
        raise LedgerError('a PostgreSQL ledger needs psycopg: pip install "eb-dagster[postgresql]"') from None
    event.listen(engine, "connect", _or_closed(_Session().prepare))
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _or_closed(prepare: Callable[[Any], dict[str, Any]]) -> Callable[[Any, Any], None]:
    # Of a connection whose check fails the pool knows nothing yet, and not every release of
    # SQLAlchemy closes it.
    def listener(connection: Any, record: Any) -> None:
        try:
            record.info.update(prepare(connection))
        except BaseException:
            connection.close()
            raise

    return listener


def prepare(connection: sa.Connection) -> tuple[str, bytes]:
    """Create or upgrade the tables. Returns the ledger's id and the key of its hashes."""
    inspector = sa.inspect(connection)
    if inspector.has_table("meta"):
        stored = _stored(connection)
    else:
        is_file = connection.dialect.name == "sqlite"
        others = inspector.get_table_names() if is_file else [*filter(inspector.has_table, metadata.tables)]
        if others:
            raise _foreign("the ledger's file" if is_file else "the ledger's database")
        metadata.create_all(connection)
        stored = {
            "schema_version": str(SCHEMA_VERSION).encode(),
            "id": uuid.uuid4().hex.encode(),
            "secret": os.urandom(32),
        }
        stored["secret_checksum"] = _mark(stored["secret"], stored["id"])
        rows = [{"name": name, "value": value} for name, value in stored.items()]
        connection.execute(sa.insert(meta), rows)
        _sign(connection)
    version = int(stored["schema_version"])
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema version {version}, this release knows {SCHEMA_VERSION}: "
            "upgrade eb-dagster"
        )
    if version < SCHEMA_VERSION:
        _upgrade(connection, version, _mark(stored["secret"], stored["id"]))
    elif stored.get("secret_checksum") != _mark(stored["secret"], stored["id"]):
        # With another key, nothing that was bought would be found again.
        raise LedgerError("the key of the ledger's hashes is damaged: restore it from a backup")
    return stored["id"].decode(), stored["secret"]


def _stored(connection: sa.Connection) -> dict[str, bytes]:
    try:
        stored = {row.name: bytes(row.value) for row in connection.execute(sa.select(meta))}
    except ProgrammingError:
        # It has other columns.
        raise _foreign("the ledger's database") from None
    if "schema_version" not in stored:
        raise damaged("the table `meta`")
    return stored


def _foreign(what: str) -> LedgerError:
    return LedgerError(
        f"{what} holds the tables of another program, and they were left as they are; name a ledger, a new "
        "file, or an empty database"
    )


def _sign(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _upgrade(connection: sa.Connection, version: int, mark: bytes) -> None:
    if version < 2:
        _upgrade_from_1(connection, mark)
    for table in (companions, rejected):
        table.create(connection, checkfirst=True)
    # Nothing in it is worth keeping for longer than a minute.
    pacer.drop(connection)
    pacer.create(connection)
    _sign(connection)
    connection.execute(
        sa.update(meta).where(meta.c.name == "schema_version").values(value=str(SCHEMA_VERSION).encode())
    )


def _mark(secret: bytes, ledger_id: bytes) -> bytes:
    return str(checksum(secret, ledger_id)).encode()


def keys_checksum(request_id: int, endpoint: str, required: int, asked_keys: bytes) -> int:
    """Over what of a request never changes."""
    return checksum(f"{request_id} {endpoint} {required}".encode(), asked_keys)


def reply_checksum(encoding: str, body: bytes, *, complete: bool) -> int:
    """Over all of a stored reply."""
    return checksum(f"{encoding} {int(complete)}".encode("utf-8", "surrogatepass"), body)


def _upgrade_from_1(connection: sa.Connection, mark: bytes) -> None:
    published.create(connection)
    for statement in (
        "ALTER TABLE requests ADD COLUMN at_risk INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE requests ADD COLUMN keys_checksum BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE requests ADD COLUMN outcomes_checksum BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE replies ADD COLUMN checksum BIGINT NOT NULL DEFAULT 0",
        "UPDATE requests SET at_risk = CASE WHEN state IN ('intent', 'answered') THEN asked ELSE in_doubt END",
        "ALTER TABLE requests DROP COLUMN in_doubt",
        "DROP INDEX ix_requests_run",
    ):
        connection.execute(sa.text(statement))
    for index in requests.indexes:
        index.create(connection, checkfirst=True)
    connection.execute(sa.insert(meta).values(name="secret_checksum", value=mark))
    column = requests.c
    ids = connection.execute(sa.select(column.id)).scalars().all()
    for request_id in ids:
        row = connection.execute(sa.select(requests).where(column.id == request_id)).one()
        aliases = repack_aliases_of_1(row.aliases)
        sums = {
            "keys_checksum": keys_checksum(row.id, row.endpoint, row.required, row.asked_keys),
            "outcomes_checksum": checksum(row.outcomes, aliases),
            "aliases": aliases,
        }
        connection.execute(sa.update(requests).where(column.id == request_id).values(**sums))
        reply = connection.execute(sa.select(replies).where(replies.c.request_id == request_id)).one_or_none()
        if reply is not None:
            mark_of_reply = reply_checksum(reply.encoding, reply.body, complete=reply.complete)
            connection.execute(
                sa.update(replies).where(replies.c.request_id == request_id).values(checksum=mark_of_reply)
            )


# SQLite

APPLICATION_ID: Final = 0x65624C31
"""What a ledger's header says that it is, since schema version 3."""

# So each of its files begins.
_SQLITE: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_SIDES: Final = ("-wal", "-shm")


def _create_private(path: Path) -> None:
    """Create the file readable by its owner only; SQLite gives its side files the same mode."""
    try:
        for folder in reversed([one for one in path.parents if not one.exists()]):
            folder.mkdir(mode=0o700, exist_ok=True)
        if (kind := network_file_system(path, _mounts())) is not None:
            raise LedgerError(
                f"the ledger is on a network file system ({kind}), where SQLite's locks and syncs do "
                "not hold; put it on a local disk, or use PostgreSQL"
            )
        was_used = path.with_name(path.name + "-owners").exists()
        if not path.exists() and any(one.exists() for one in _side_files(path)):
            raise LedgerError(
                f"the ledger {path.name} is gone, and its {path.name}-wal is still there with what came last: put "
                "the file back beside it, or move that away too"
            )
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            was_used = False
        # Before any of them is opened, which may wait for ever.
        _check_regular([path, *_side_files(path)])
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError
        _check_content(path, was_used=was_used)
        facts = path.stat()
    except OSError:
        raise LedgerError(
            f"the ledger {path.name} cannot be written there; check its folder and permissions, or name another place"
        ) from None
    if os.name == "posix" and facts.st_mode & 0o077:
        raise LedgerError(f"the ledger can be read by others: chmod 600 {path.name}")
    if facts.st_nlink > 1:
        raise LedgerError(
            f"the ledger {path.name} has more than one hard link, which SQLite cannot lock; remove the others"
        )


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in _SIDES]


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
        start = file.read(_HEADER_BYTES)
    if not start and was_used:
        raise LedgerError(
            f"the ledger {path.name} was emptied: it has been used, and holds nothing any more. Restore it from a "
            f"backup; to begin anew, remove {path.name}-owners too"
        )
    if start and not start.startswith(_SQLITE):
        raise LedgerError(
            f"{path.name} is no ledger, but a file of another kind; name a ledger, or a new file"
        )
    program = int.from_bytes(start[68:72], "big")
    if program != APPLICATION_ID and (program or (start and _is_foreign(path))):
        raise _foreign(path.name)


def _is_foreign(path: Path) -> bool:
    """Whether a SQLite file without a sign holds tables, and none of a ledger's. Leaves it untouched."""
    try:
        address = f"{path.as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return False
            connection.execute("SELECT name, value FROM meta LIMIT 1").fetchall()
    except sqlite3.Error as error:
        # No such table or column. Whatever else it is, damage or somebody who writes, opening it will tell.
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return False


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return ""


_NETWORK: Final = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "gpfs",
    "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.glusterfs", "fuse.ceph-fuse",
    "fuse.blobfuse2", "fuse.mount-s3",
})  # fmt: skip


# `resolve` makes such a path of a drive's letter as well. What begins with \\?\C: is this machine's.
_WINDOWS_SHARE: Final = re.compile(r"\\\\(\?\\UNC\\|[^?.\\])", re.IGNORECASE)


def network_file_system(path: PurePath, mounts: str) -> str | None:
    """The kind of network file system that a path is on, by Windows' name or the text of Linux's mountinfo."""
    if _WINDOWS_SHARE.match(path.drive):
        return "a Windows share"
    kinds: dict[str, str] = {}
    for line in mounts.splitlines():
        # mount id, parent, device, root, mount point, options … "-" file system …
        left, _, right = line.partition(" - ")
        if len(fields := left.split(" ")) > 4 and right:
            point = fields[4].encode().decode("unicode_escape")
            kinds[point] = right.split(" ")[0]
    for folder in (path, *path.parents):
        if kind := kinds.get(str(folder)):
            return kind if kind in _NETWORK else None
    return None


class _Opened:
    """The files of one ledger, by device and number: a path may lead to others while these are in use."""

    def __init__(self, path: Path) -> None:
        self._paths = [path, *_side_files(path)]
        self._first: tuple[int, int] | None = None

    def prepare(self, connection: Any) -> dict[str, Any]:
        """Let a connection promise to keep what is committed. Gives what `check_files` compares."""
        _prepare_sqlite(connection)
        files = self.now()
        self._first = self._first or files[0]
        if files[0] != self._first:
            raise moved(self._paths[0])
        return {"files": files, "opened": self}

    def now(self) -> list[tuple[int, int] | None]:
        """What stands at the paths."""
        return [_identity(path) for path in self._paths]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def check_files(connection: sa.Connection) -> None:
    """Refuse to go on if the path does not lead to the files any more that this connection has open.

    While it is open, SQLite removes none of them.
    """
    opened: _Opened | None = connection.info.get("opened")
    if opened is not None and opened.now() != connection.info["files"]:
        raise moved(Path(cast(str, connection.engine.url.database)))


def moved(path: Path) -> LedgerError:
    """The error to raise when a ledger's file was taken away from under whoever has it open."""
    return LedgerError(
        f"the ledger {path.name} was moved, removed or replaced while it was in use ({path.name}, its -wal and "
        "its -shm are one ledger). Put back the files that were there, or nothing of this run will be remembered"
    )


def _prepare_sqlite(connection: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA page_size = 16384")
    journal = _turn_wal_on(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
    # What is deleted is overwritten: a person who is forgotten is not left in a free page.
    cursor.execute("PRAGMA secure_delete = ON")
    # The first to read it makes the side files.
    cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
    cursor.close()
    if journal != "wal" or synchronous != 2:
        raise LedgerError(
            "SQLite would not promise to keep what is written (WAL, FULL); put the ledger on a local disk"
        )


def _turn_wal_on(cursor: Any) -> str:
    # Of several processes that open a new file at once, SQLite lets all but one fail, and none wait.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A lock that is upgraded later can fail half-way, so who may write takes the write lock at once.
    options = connection.get_execution_options()
    if options.get("reading", False):
        connection.exec_driver_sql("BEGIN")
        return
    # NORMAL leaves out the sync at the end; the order of what is written stays.
    level = "FULL" if options.get("is_durable", True) else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


# PostgreSQL


# As a transaction's, for what a server, a database or a role has by default, and what others left behind in a
# session that a pooler shares, is not ours to rely on. A process that was stopped in the middle lets the others go on.
_OURS: Final = (
    "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; "
    "SET LOCAL idle_in_transaction_session_timeout = '10min'; SET LOCAL search_path = {schema}, pg_temp; "
)
_WITH_TRANSACTION_TIMEOUT: Final = 170_000
_FACTS: Final = """
SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('transaction_read_only'),
    (SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = to_regclass('meta')), quote_ident(current_schema())
"""


class _Session:
    """What each connection to one PostgreSQL has in common: the schema that the tables were first found in."""

    def __init__(self) -> None:
        self._schema: str | None = None

    def prepare(self, connection: Any) -> dict[str, Any]:
        """Check that the server keeps what is committed. Gives what each transaction begins with."""
        # A prepared statement is a session's, and behind a pooler the next transaction may be in another.
        connection.prepare_threshold = None
        with connection.cursor() as cursor:
            commit, fsync, read_only, found, first = cursor.execute(_FACTS).fetchone()
        connection.commit()
        if commit in ("off", "local") or fsync != "on":
            raise LedgerError(
                "PostgreSQL runs with synchronous_commit or fsync off: it may forget a purchase. Set both to on"
            )
        if read_only != "off":
            raise LedgerError("PostgreSQL is read-only there (a replica?); name the primary")
        # From here on it is said, so that a default that changes in mid-run loses no reply.
        connection.read_only = False
        self._schema = self._schema or found or first
        if self._schema is None:
            raise LedgerError(
                "the search_path of PostgreSQL leads to no schema for the ledger's tables; make it, or set "
                "search_path for this user"
            )
        begin = _OURS.format(schema=self._schema)
        if connection.info.server_version >= _WITH_TRANSACTION_TIMEOUT:
            begin += "SET LOCAL transaction_timeout = 0; "
        durable = "remote_apply" if commit == "remote_apply" else "on"
        return {
            "begin_durable": f"{begin}SET LOCAL synchronous_commit = {durable}",
            "begin": f"{begin}SET LOCAL synchronous_commit = off",
        }


def _begin_postgresql(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if options.get("isolation_level") != "AUTOCOMMIT":
        begin = "begin_durable" if options.get("is_durable", True) else "begin"
        connection.exec_driver_sql(connection.info[begin])


def damaged(what: str) -> LedgerError:
    """The error to raise for what is not as it was written."""
    return LedgerError(
        f"{what} is damaged or missing in the ledger; restore it from a backup that is not older than "
        "your last run, and check the disk"
    )

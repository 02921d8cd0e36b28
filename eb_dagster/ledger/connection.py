"""Open a ledger's database, and refuse one that cannot be trusted to remember.

`Database` gives transactions. What is in the tables (`schema`) is for `ledger` to say.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import ConnectionPoolEntry

from eb_dagster.errors import LedgerError
from eb_dagster.ledger import postgresql, schema, sqlite

REPLY_PATIENCE: Final = 600.0
"""Seconds for which a reply that was paid for waits for a database that cannot take it."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_ADVISORY_LOCK: Final = sa.text("SELECT pg_advisory_xact_lock(1162969172)")
_MAY_PASS: Final = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.TimeoutError,
    sqlite3.OperationalError,
    sqlite3.InterfaceError,
)
_T = TypeVar("_T")


class Unavailable(LedgerError):
    """The database did not answer; it may do so later."""


def _parse_url(text: str) -> sa.URL:
    try:
        return sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        # Without the cause: when the port is no number, it quotes what stands there, which may be the end of a
        # password that contains an @.
        raise LedgerError(
            "the ledger is neither a path nor a database URL; name a file, or postgresql://…"
        ) from None


def database_url(where: str | os.PathLike[str]) -> sa.URL:
    """The ledger's address, from a path or a URL. A link is followed, so that a ledger has one name."""
    text = os.fspath(where)
    if "://" not in text:
        return _file_url(Path(text).expanduser())
    url = _parse_url(text)
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return _file_url(Path(url.database))
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise LedgerError("the ledger is on a database that is not known here; name a file, or postgresql://…")


def _file_url(path: Path) -> sa.URL:
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):
        raise LedgerError(
            "the path of the ledger leads nowhere: check it for a loop of links, then name another"
        ) from None
    return sa.URL.create("sqlite", database=str(resolved))


def file_of(url: sa.URL) -> Path | None:
    """The file of a SQLite ledger; None for PostgreSQL."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def shown_url(url: sa.URL) -> str:
    """The ledger's address as anybody may read it: without user and password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    port = "" if url.port is None else f":{url.port}"
    return f"{url.get_backend_name()}://{url.host or 'localhost'}{port}/{url.database or ''}"


def has_ledger(where: str | os.PathLike[str]) -> bool:
    """Whether there is something to open: a database server, a file, or what is left beside a file that is gone."""
    file = file_of(database_url(where))
    return file is None or any(Path(f"{file}{ending}").exists() for ending in ("", "-wal", "-shm"))


def is_writable(where: str | os.PathLike[str]) -> bool:
    """Whether what is there can be opened for writing, as far as that can be told beforehand."""
    file = file_of(database_url(where))
    return file is None or sqlite.is_writable(file)


def _connect(url: sa.URL, *, reads_only: bool) -> sa.Engine:
    """An engine each of whose connections keeps what is committed.

    It has two connections: one that writes, and one that reads meanwhile.
    """
    path = file_of(url)
    if path is not None:
        if reads_only:
            url = url.set(database=sqlite.address_to_read(path), query={"uri": "true"})
            prepare = sqlite.prepare_to_read
        else:
            sqlite.create_private(path)
            prepare = sqlite.LedgerFiles(path).prepare
        engine = sa.create_engine(
            url,
            connect_args={"timeout": sqlite.BUSY_SECONDS, "check_same_thread": False},
            hide_parameters=True,
            poolclass=sa.QueuePool,
            pool_size=2,
            max_overflow=0,
        )
        event.listen(engine, "connect", _close_if_refused(prepare))
        event.listen(engine, "begin", sqlite.begin)
        return engine
    try:
        engine = sa.create_engine(
            url,
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            poolclass=sa.QueuePool,
            pool_size=2,
            max_overflow=0,
            pool_pre_ping=True,
        )
    except ImportError:
        raise LedgerError('a PostgreSQL ledger needs psycopg: pip install "eb-dagster[postgresql]"') from None
    event.listen(engine, "connect", _close_if_refused(postgresql.PinnedSchema().prepare))
    event.listen(engine, "begin", postgresql.begin)
    return engine


class _Closable(Protocol):
    def close(self) -> None: ...


_C = TypeVar("_C", bound=_Closable)


def _close_if_refused(
    prepare: Callable[[_C], dict[str, object]],
) -> Callable[[_C, ConnectionPoolEntry], None]:
    # The pool does not know a connection yet whose check fails, and not every release of SQLAlchemy closes it.
    def listener(connection: _C, record: ConnectionPoolEntry) -> None:
        try:
            record.info.update(prepare(connection))
        except BaseException:
            connection.close()
            raise

    return listener


class Database:
    """The database of one ledger. Safe to use from threads; not in a child after a fork."""

    def __init__(
        self, where: str | os.PathLike[str], *, must_exist: bool = False, reads_only: bool = False
    ) -> None:
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        self._process = os.getpid()
        self._is_closed = False
        self._is_hurried = threading.Event()
        self.url = database_url(where)
        self.file = file_of(self.url)
        if must_exist and self.file is not None and not self.file.exists():
            raise LedgerError(
                f"there is no ledger {self.file.name} there yet: the first enrichment makes it. If you have bought "
                "before, name that ledger: an empty one would pay for everything again"
            )
        self.engine = _connect(self.url, reads_only=reads_only)

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that opened the database."""
        return os.getpid() != self._process

    def close(self, *, release: Callable[[], None] = lambda: None) -> None:
        """Let go of the database. `release` is called first, once nobody uses it any more."""
        if self.is_forked:
            # The lock and the connections are the parent's.
            self._is_closed = True
            self.engine.dispose(close=False)
            return
        with self._write_lock, self._read_lock:
            if not self._is_closed:
                self._is_closed = True
                release()
                self.engine.dispose()

    @contextlib.contextmanager
    def transaction(self, *, is_durable: bool = True) -> Generator[sa.Connection]:
        """One committed step, alone on the ledger: SQLite's write lock, or an advisory lock of PostgreSQL.

        One that is not durable may be undone by a power cut, until the next one that is.
        """
        self._check_usable()
        with self._write_lock, self._begun(reading=False, is_durable=is_durable) as connection:
            if self.file is None:
                # One lock for claims, budget and pacing of all workers, so that they cannot deadlock.
                connection.execute(_ADVISORY_LOCK)
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """One view of the ledger, beside whoever writes."""
        self._check_usable()
        with self._read_lock, self._begun(reading=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _begun(self, *, reading: bool, is_durable: bool = True) -> Generator[sa.Connection]:
        with self.translated(), self.engine.connect() as connection:
            chosen = connection.execution_options(reading=reading, is_durable=is_durable)
            with chosen.begin():
                yield chosen

    def _check_usable(self) -> None:
        # Before waiting for a lock: in a child, the thread that holds it may not exist.
        if self.is_forked:
            raise LedgerError("the ledger was opened before a fork; open it in the child")
        if self._is_closed:
            raise LedgerError("the ledger is closed; open a new Enricher")

    @contextlib.contextmanager
    def translated(self) -> Generator[None]:
        """Turn errors of SQLAlchemy, and of SQLite where a transaction begins, into ours."""
        try:
            yield
        except (exc.SQLAlchemyError, sqlite3.Error) as error:
            raise _translate(error) from None

    def retry_while_unavailable(self, step: Callable[[], _T]) -> _T:
        """Carry out a step; while the database is unavailable, again for up to `REPLY_PATIENCE` seconds."""
        started, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                return step()
            except Unavailable:
                if time.monotonic() - started > REPLY_PATIENCE or self._is_hurried.wait(pause):
                    raise
                pause = min(2 * pause, _LONGEST_PAUSE)

    def hurry(self) -> None:
        """Stop retrying: the user wants to stop now."""
        self._is_hurried.set()

    def compact(self) -> None:
        """Leave nothing of what was deleted in the log or in free space of the database."""
        with self._write_lock, self._read_lock, self.translated():
            if self.file is None:
                self._vacuum()
                return
            # In the file, deleted data is overwritten at once (`secure_delete`); the log still holds it.
            is_busy = self._checkpoint("TRUNCATE")
        if is_busy:
            raise Unavailable(
                "the ledger is in use, so its log still holds what was removed; run this again once nothing else uses it"
            )

    def _vacuum(self) -> None:
        engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for table in (schema.requests, schema.replies, schema.key_rows, schema.kept_columns):
                connection.execute(sa.text(f"VACUUM FULL {table.name}"))

    def carry_over_log(self) -> None:
        """Bring what was committed into a SQLite ledger's own file, as far as nobody is reading the old state."""
        if self.file is not None:
            with self._write_lock, self.translated():
                self._checkpoint("PASSIVE")

    def _checkpoint(self, kind: Literal["PASSIVE", "TRUNCATE"]) -> bool:
        """Carry SQLite's log over into its file. Returns whether another connection was in the way."""
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            is_busy = bool(cursor.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()[0])
            cursor.close()
            return is_busy
        except sqlite3.Error as error:
            # SQLAlchemy does not see this one. What is in the log is as safe as what is in the file.
            raise Unavailable(
                f"the ledger's log could not be carried over into its file ({type(error).__name__}); check the disk"
            ) from None
        finally:
            raw.close()


def _translate(error: exc.SQLAlchemyError | sqlite3.Error) -> LedgerError:
    original: Any = error if isinstance(error, sqlite3.Error) else getattr(error, "orig", None)
    may_pass = isinstance(error, _MAY_PASS)
    # A statement that SQLite cannot carry out, such as one about a table that is gone, will fail again.
    is_statement = getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    kind = Unavailable if may_pass and not is_statement else LedgerError
    return kind(
        f"the ledger's database failed ({type(original or error).__name__}: {_reason(original)}); check that it can "
        "be reached and written, and that its disk has room, then run again"
    )


def _reason(original: object) -> str:
    # SQLite's own messages hold no data. What Python says of a text that it cannot decode quotes it, and what
    # PostgreSQL says may quote a row.
    if type(original).__module__ != "sqlite3":
        return "see the database's log"
    return str(original) if hasattr(original, "sqlite_errorcode") else "a value in it cannot be read"

"""Tell whether the process behind a claim still lives, by a lock that ends with it.

A lock and not a time-out: a process that was stopped for an hour and goes on still owns its claims.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from pathlib import Path
from typing import Final, Protocol

import filelock
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from eb_dagster.errors import LedgerError

# A server's own time-outs would end the transaction that holds the lock while its process lives.
_SET_NO_TIMEOUTS: Final = (
    "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0; "
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'"
)
_TRY_LOCK: Final = sa.text("SELECT pg_try_advisory_xact_lock(:number)")


class Owner(Protocol):
    """The process that owns claims: its name on them, and a lock that shows that it lives."""

    name: str

    def hold(self) -> None:
        """Make sure that the lock is still held, and take it again if it was lost."""
        ...

    def is_gone(self, owner: str) -> bool:
        """Whether the process with that name has ended."""
        ...

    def leave(self) -> None:
        """Let go of the lock."""
        ...


class FileOwner:
    """A locked file in a folder beside a SQLite ledger."""

    def __init__(self, ledger: Path) -> None:
        self.name = uuid.uuid4().hex
        self._folder = ledger.with_name(ledger.name + "-owners")
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._own_lock = self._lock_of(self.name)
        self._own_lock.acquire(timeout=0)

    def _lock_of(self, owner: str) -> filelock.BaseFileLock:
        path = self._folder / f"{owner}.lock"
        return filelock.FileLock(path, mode=0o600, thread_local=False)

    def hold(self) -> None:
        """The operating system holds it for as long as the process lives."""

    def is_gone(self, owner: str) -> bool:
        """Whether nobody holds that owner's file."""
        if owner == self.name:
            return False
        path = self._folder / f"{owner}.lock"
        if not path.exists():
            return True
        lock = self._lock_of(owner)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        lock.release()
        _remove(path)
        return True

    def leave(self) -> None:
        """Unlock the file, then remove it: Windows removes no file that is open."""
        self._own_lock.release()
        _remove(self._folder / f"{self.name}.lock")


def _remove(path: Path) -> None:
    # On Windows, another process may have it open to see whether it is locked; then that one removes it.
    with contextlib.suppress(PermissionError):
        path.unlink(missing_ok=True)


class DatabaseOwner:
    """An advisory lock in PostgreSQL, on a connection of its own.

    A transaction that stays open holds it, and not the session: behind a pooler, only a transaction has a
    server's session to itself. The transaction has no snapshot, so it does not hold up any other.
    """

    def __init__(self, url: sa.URL) -> None:
        self.name = uuid.uuid4().hex
        self._engine = sa.create_engine(
            url,
            hide_parameters=True,
            poolclass=sa.NullPool,
            isolation_level="READ COMMITTED",
            connect_args={"prepare_threshold": None},
        )
        self._lock = threading.Lock()
        self._connection: sa.Connection | None = None
        self.hold()

    def hold(self) -> None:
        """If the connection was lost, so is the lock: connect and take it again."""
        with self._lock:
            if self._connection is not None:
                try:
                    self._connection.execute(sa.text("SELECT 1"))
                    return
                except SQLAlchemyError:
                    # Not only a DBAPIError: of a connection that was lost earlier, SQLAlchemy raises its own errors.
                    self._drop()
            self._connection = self._engine.connect()
            self._connection.exec_driver_sql(_SET_NO_TIMEOUTS)
            _try_lock(self._connection, self.name)

    def is_gone(self, owner: str) -> bool:
        """Whether no session holds that owner's lock."""
        if owner == self.name:
            return False
        self.hold()
        with self._lock:
            connection = self._connection
            if connection is None:
                return False
            # Rolling back lets go of the lock if it was free.
            attempt = connection.begin_nested()
            is_free = _try_lock(connection, owner)
            attempt.rollback()
            return is_free

    def leave(self) -> None:
        """End the session, and with it the lock."""
        with self._lock:
            self._drop()
        self._engine.dispose()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.invalidate()
            connection.close()


class Onlooker:
    """Who only reads, claims nothing and settles nothing: to it, every process lives."""

    name = ""

    def hold(self) -> None:
        """There is nothing to hold."""

    def is_gone(self, owner: str) -> bool:
        """Never: to find out takes a lock."""
        del owner
        return False

    def leave(self) -> None:
        """There is nothing to let go of."""


def new_owner(url: sa.URL, file: Path | None) -> Owner:
    """The lock of this process on a ledger."""
    try:
        return DatabaseOwner(url) if file is None else FileOwner(file)
    except (OSError, SQLAlchemyError) as error:
        raise LedgerError(
            f"the ledger cannot note who claims ({type(error).__name__}); check that its folder can be written"
        ) from None


def _try_lock(connection: sa.Connection, owner: str) -> bool:
    number = int(owner[:15], 16)
    return bool(connection.execute(_TRY_LOCK, {"number": number}).scalar())

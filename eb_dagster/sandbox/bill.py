"""The bill: every request and every charge, on disk before the reply leaves."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from eb_dagster.sandbox.form import Identifier

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS requests "
    "(id INTEGER PRIMARY KEY, at REAL, asked INTEGER, enriched INTEGER, status INTEGER)",
    "CREATE TABLE IF NOT EXISTS charges "
    "(id INTEGER PRIMARY KEY, at REAL, request_id INTEGER, field_type TEXT, value TEXT)",
)
# These fail if a table of that name is another program's.
_COLUMN_CHECKS: Final = (
    "SELECT at, asked, enriched, status FROM requests LIMIT 0",
    "SELECT at, request_id, field_type, value FROM charges LIMIT 0",
)
_INSERT_REQUEST: Final = "INSERT INTO requests (at, asked, enriched, status) VALUES (?, ?, ?, ?)"
_INSERT_CHARGE: Final = "INSERT INTO charges (at, request_id, field_type, value) VALUES (?, ?, ?, ?)"
_COUNT_CHARGED_TWICE: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM charges GROUP BY field_type, value HAVING count(*) > 1)"
)


def count_requests(path: Path) -> int:
    """How many requests are on the bill."""
    return _count(path, "SELECT count(*) FROM requests")


def count_credits(path: Path) -> int:
    """How many credits were charged."""
    return _count(path, "SELECT count(*) FROM charges")


def count_charged_twice(path: Path) -> int:
    """How many identifiers were charged more than once."""
    return _count(path, _COUNT_CHARGED_TWICE)


def list_charges(path: Path) -> list[tuple[str, str]]:
    """Every charge, in order, as kind and value."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT field_type, value FROM charges ORDER BY id").fetchall()


def newest_requests(path: Path, count: int) -> list[dict[str, float | int | str]]:
    """The newest requests, the newest first: no identifier is in them."""
    query = "SELECT id, at, asked, enriched, status FROM requests ORDER BY id DESC LIMIT ?"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(query, (count,)).fetchall()
    return [
        {
            "id": number,
            "at": time,
            "asked": asked,
            "enriched": enriched,
            "answer": "no reply" if status is None else str(status),
        }
        for number, time, asked, enriched, status in rows
    ]


def _count(path: Path, query: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(query).fetchone()[0])


class Bill:
    """A SQLite file that many threads write to."""

    def __init__(self, path: Path, *, max_credits: int | None) -> None:
        self.path = path
        self._max_credits = max_credits
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Values are kept as they were sent, and somebody may try the sandbox with real people.
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60.0)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(f"{path} is not a bill of this sandbox ({error}); name another file") from None

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        # With a write-ahead log, no charge is forgotten if the process is killed.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        # One transaction, so that another program's database is left without our tables.
        with self._transaction() as connection:
            for statement in (*_TABLES, *_COLUMN_CHECKS):
                connection.execute(statement)

    def write(
        self, *, asked: int, found: Sequence[Identifier] = (), intended_status: int | None
    ) -> int | None:
        """Charge all that was found, or nothing, and return the status to reply with.

        The status is the intended one, or 403 if there are too few credits. It is None for a request
        that gets no reply.
        """
        status = intended_status
        with self._lock, self._transaction() as connection:
            if not self._has_credits_for(len(found)):
                found, status = (), 403
            now = time.time()
            request_id = connection.execute(_INSERT_REQUEST, (now, asked, len(found), status)).lastrowid
            charges = [(now, request_id, identifier.field_type, identifier.value) for identifier in found]
            connection.executemany(_INSERT_CHARGE, charges)
        return status

    def _has_credits_for(self, found_count: int) -> bool:
        if self._max_credits is None or found_count == 0:
            return True
        # A sum over the requests reads fewer rows than a count of the charges.
        row = self._connection.execute("SELECT coalesce(sum(enriched), 0) FROM requests").fetchone()
        return found_count <= self._max_credits - int(row[0])

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Wait for the write in progress, and close the file."""
        with self._lock:
            self._connection.close()

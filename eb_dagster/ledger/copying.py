"""Move a whole ledger to another database: a file that is outgrown to PostgreSQL, or back.

There is one ledger afterwards as before. In the transaction that copies it, the old one is marked as moved, and a
moved ledger is refused when it is opened and when somebody claims. Until then the copy is marked as incomplete,
and refused likewise. So there is no moment at which both can buy, and a copy that breaks off leaves the old one as
it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import sqlalchemy as sa

from eb_dagster.errors import LedgerError, counted
from eb_dagster.ledger import reconcile, schema
from eb_dagster.ledger.connection import Database, database_url, file_of
from eb_dagster.ledger.ledger import Ledger

_ROWS_AT_ONCE: Final = 16
_MOST_ROWS: Final = 1_000
# A reply has some 300 kB, and what a transaction writes is in memory until its end.
_MOST_BYTES: Final = 4 * 2**20
_NOTHING_CHANGED: Final = "Nothing was changed"
_DELETE_INCOMPLETE: Final = sa.delete(schema.meta).where(
    schema.meta.c.name == schema.INCOMPLETE, schema.meta.c.value == sa.bindparam("token")
)


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied."""

    rows: Mapping[str, int]
    """By table."""

    @property
    def requests(self) -> int:
        """The requests that the ledger knows."""
        return self.rows[schema.requests.name]


@dataclass(slots=True)
class _Sum:
    """The rows of a table, and a sum over them in which their order does not count: databases sort differently."""

    rows: int = 0
    total: int = 0

    def add(self, row: Mapping[str, object]) -> None:
        digest = blake2b(repr(list(row.items())).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self.rows += 1
        self.total = (self.total + int.from_bytes(digest, "big")) % 2**64


def copy_ledger(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    on_table: Callable[[str], None] = lambda _: None,
) -> Copied:
    """Copy a ledger whole to an empty database, and mark it as moved there. Nothing is bought with it any more.

    The copy has the ledger's id and keys, so it knows all that was bought, and the tables that were published know
    it. Replies that are encrypted are copied as they are: their key opens them there, too. Kept columns are not
    copied, because they are made again. Needs a few MB, however large the ledger is.

    Args:
        source: the path or URL of the ledger.
        target: the path of a new file, or the URL of an empty PostgreSQL database. What a copy left there that
            broke off is replaced.
        on_table: called with the name of each table before it is copied.

    Raises:
        LedgerError: a process that has bought with the ledger still has it open; it is damaged; or there is
            something at the target. The ledger is then as it was.

    """
    with closing(Ledger(source, endpoint="", must_exist=True, may_be_moved=True)) as ledger:
        if ledger.database.url == database_url(target):
            raise LedgerError(
                "the ledger cannot be copied onto itself; name another place to copy it to",
                spent=_NOTHING_CHANGED,
            )
        with ledger.database.reading() as connection:
            token = schema.read_mark(connection, schema.MOVED)
        if token is not None:
            return _finish(target, token)
        return _copy(ledger, target, on_table)


def _copy(ledger: Ledger, target: str | os.PathLike[str], on_table: Callable[[str], None]) -> Copied:
    if faults := reconcile.check(ledger, opens_replies=False):
        raise LedgerError(
            f"the ledger has {counted(len(faults), 'fault')} (`eb-dagster ledger check` lists all); restore it from a "
            "backup before it is copied",
            spent=_NOTHING_CHANGED,
        )
    token = os.urandom(16).hex().encode()
    with ExitStack() as stack:
        # Nobody else writes to the ledger until it is marked.
        with ledger.database.transaction() as connection:
            schema.check_not_moved(schema.read_facts(connection))
            _check_unused(ledger, connection)
            database = stack.enter_context(closing(Database(target)))
            _prepare(database, ledger_id=ledger.id.encode(), token=token)
            sums: dict[str, _Sum] = {}
            for table in _tables():
                on_table(table.name)
                sums[table.name] = _copy_table(connection, database, table)
            for table in _tables():
                _compare(database, table, sums[table.name])
            connection.execute(sa.insert(schema.meta).values(name=schema.MOVED, value=token))
        with _writing(database) as connection:
            connection.execute(_DELETE_INCOMPLETE, {"token": token})
    return Copied({name: of_table.rows for name, of_table in sums.items()})


def _check_unused(ledger: Ledger, connection: sa.Connection) -> None:
    if ledger.is_used_elsewhere(connection):
        raise LedgerError(
            "a process that has bought with this ledger still has it open; wait until no run is going on, and close "
            "what has it open",
            spent=_NOTHING_CHANGED,
        )


def _finish(target: str | os.PathLike[str], token: bytes) -> Copied:
    """After a crash in between: the ledger is marked as moved, and all that is missing is that its copy says so."""
    file = file_of(database_url(target))
    if file is not None and not file.exists():
        raise schema.was_moved()
    with closing(Database(target)) as database, _writing(database) as connection:
        is_there = sa.inspect(connection).has_table(schema.meta.name)
        if not is_there or schema.read_mark(connection, schema.INCOMPLETE) != token:
            raise schema.was_moved()
        count = sa.select(sa.func.count())
        rows = {table.name: connection.execute(count.select_from(table)).scalar_one() for table in _tables()}
        connection.execute(_DELETE_INCOMPLETE, {"token": token})
    return Copied(rows)


@contextmanager
def _writing(target: Database) -> Generator[sa.Connection]:
    # Without the lock of all that use a ledger: nobody else uses the target, and the source may be in the same
    # PostgreSQL database, whose lock this process holds already.
    with target.translated(), target.engine.begin() as connection:
        yield connection


def _tables() -> list[sa.Table]:
    """The tables that are copied, those first to which others refer."""
    return [table for table in schema.metadata.sorted_tables if table.name not in schema.CACHES]


def _prepare(target: Database, *, ledger_id: bytes, token: bytes) -> None:
    """Make the tables, and mark them as incomplete. What a copy left that broke off is dropped before."""
    with _writing(target) as connection:
        inspector = sa.inspect(connection)
        if inspector.has_table(schema.meta.name):
            if schema.read_mark(connection, schema.INCOMPLETE) is None:
                raise LedgerError(
                    "there is a ledger already where this one should be copied to; name a new file or an empty "
                    "database",
                    spent=_NOTHING_CHANGED,
                )
            schema.metadata.drop_all(connection)
    with _writing(target) as connection:
        schema.create_tables(connection)
        # The id alone tells nobody's secrets, and that it is one of ours when it is opened.
        rows = [
            {"name": schema.INCOMPLETE, "value": token},
            {"name": "schema_version", "value": str(schema.SCHEMA_VERSION).encode()},
            {"name": "id", "value": ledger_id},
        ]
        connection.execute(sa.insert(schema.meta), rows)


def _copy_table(source: sa.Connection, target: Database, table: sa.Table) -> _Sum:
    total = _Sum()
    for rows in _batches(_rows(source, table)):
        for row in rows:
            total.add(row)
        with _writing(target) as connection:
            if table is schema.meta:
                connection.execute(sa.delete(table).where(table.c.name.in_([row["name"] for row in rows])))
            connection.execute(sa.insert(table), rows)
    if table is schema.requests:
        with _writing(target) as connection:
            _set_next_request(connection)
    return total


def _set_next_request(connection: sa.Connection) -> None:
    # In SQLite, an id that is inserted moves the next one.
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "SELECT setval(pg_get_serial_sequence('requests', 'id'), max(id)) FROM requests HAVING max(id) > 0"
        )


def _compare(target: Database, table: sa.Table, expected: _Sum) -> None:
    total = _Sum()
    with _writing(target) as connection:
        for row in _rows(connection, table):
            if table is not schema.meta or row["name"] != schema.INCOMPLETE:
                total.add(row)
    if total != expected:
        raise LedgerError(
            f"the table `{table.name}` is not the same in the copy ({total.rows:,} of {counted(expected.rows, 'row')}); "
            "check the disk of the copy, then copy again",
            spent=_NOTHING_CHANGED,
        )


def _rows(connection: sa.Connection, table: sa.Table) -> Iterator[dict[str, Any]]:
    """All rows of a table, of which only a few are in memory."""
    with connection.execute(sa.select(table), execution_options={"yield_per": _ROWS_AT_ONCE}) as found:
        for row in found.mappings():
            values: dict[str, Any] = dict(row)
            yield {
                name: bytes(value) if type(value) is memoryview else value for name, value in values.items()
            }


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, bytes))
        if len(batch) == _MOST_ROWS or size > _MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

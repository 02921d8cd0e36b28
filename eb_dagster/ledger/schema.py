"""The ledger's tables and their version: one schema for SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Generator, Mapping
from typing import Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ProgrammingError

from eb_dagster.errors import LedgerError
from eb_dagster.ledger.entries import checksum

SCHEMA_VERSION: Final = 4
APPLICATION_ID: Final = 0x65624C31
"""Marks the header of a SQLite file as a ledger's."""

# Names in `meta`, of what nobody may buy with: a ledger that was copied elsewhere, and a copy that is not complete.
MOVED: Final = "moved"
INCOMPLETE: Final = "incomplete_copy"

Facts: TypeAlias = Mapping[str, bytes]
"""What stands in `meta`, by name."""

metadata = sa.MetaData()


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
_SELECT_FACTS: Final = sa.select(meta.c.name, meta.c.value)
_SELECT_FACT: Final = sa.select(meta.c.value).where(meta.c.name == sa.bindparam("fact"))
pacer = sa.Table(
    "pacer",
    metadata,
    sa.Column("endpoint", sa.String(500), primary_key=True),
    sa.Column("next_at", sa.Float(53), nullable=False),
    # When next_at was decided. The difference bounds how long anybody waits, even if a clock is put back later.
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
    # Identifiers that may have been paid for and have no answer: all of them while in flight or in doubt.
    sa.Column("at_risk", sa.Integer, nullable=False, default=0),
    sa.Column("unreadable", sa.Integer, nullable=False, default=0),
    sa.Column("keys_checksum", sa.BigInteger, nullable=False, default=0),
    sa.Column("outcomes_checksum", sa.BigInteger, nullable=False, default=0),
    sa.Column("aliases_checksum", sa.BigInteger, nullable=False, default=0),
    # The number of its newest late entry in the key index; 0 if it has none.
    sa.Column("late", sa.Integer, nullable=False, default=0),
    sa.Column("asked_keys", sa.LargeBinary, nullable=False),
    sa.Column("outcomes", sa.LargeBinary),
    sa.Column("aliases", sa.LargeBinary),
    sa.Index("requests_by_endpoint", "endpoint"),
    # An id must never be used twice: ids order what was learned.
    sqlite_autoincrement=True,
)
# The key index (see `key_index`): sorted segments of what the keys of requests begin with, in rows.
key_segments = sa.Table(
    "key_segments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("chain", sa.String(8), nullable=False),
    sa.Column("first", sa.Integer, nullable=False),
    sa.Column("last", sa.Integer, nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("entries", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("filled", sa.Integer, nullable=False),
    sa.Column("mark", sa.BigInteger, nullable=False),
    sa.Column("checksum", sa.BigInteger, nullable=False),
)
key_rows = sa.Table(
    "key_rows",
    metadata,
    # The segment's id in the upper bits, the number of the row in the lower ones.
    sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    sa.Column("checksum", sa.BigInteger, nullable=False),
    sa.Column("entries", sa.LargeBinary, nullable=False),
)
# What is spent and at risk (see `counters`).
counters = sa.Table(
    "counters",
    metadata,
    sa.Column("endpoint", sa.String(500), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("credits", sa.BigInteger, nullable=False),
    sa.Column("at_risk", sa.BigInteger, nullable=False),
    sa.Column("unreadable", sa.BigInteger, nullable=False),
    sa.Column("checksum", sa.BigInteger, nullable=False),
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
# See `kept_columns`: a cache, of which each row can be dropped at any time.
kept_columns = sa.Table(
    "kept_columns",
    metadata,
    sa.Column("request_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reply_checksum", sa.BigInteger, nullable=False),
    # How the reply was read.
    sa.Column("reader", sa.String(40), nullable=False),
    sa.Column("encoding", sa.String(120), nullable=False),
    sa.Column("checksum", sa.BigInteger, nullable=False),
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
# A user said that the contacts of this person (by its mark) are not this identifier's.
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
    # The people beside whom the identifier stood, packed: each by the keys of its profiles, e-mails and names.
    sa.Column("people", sa.LargeBinary, nullable=False),
    sa.Column("is_shared", sa.Boolean, nullable=False),
    # The newest request whose contacts were searched for one that holds two of these people.
    sa.Column("searched", sa.Integer, nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
    sqlite_with_rowid=False,
)


def _index_some(table: sa.Table, name: str, columns: str, *, where: str) -> None:
    """Create an index of the few rows of a large table that are like that."""
    # `sa.Index(…, postgresql_where=…)` would import all of SQLAlchemy's PostgreSQL for a ledger in a file.
    event.listen(
        table, "after_create", sa.DDL(f"CREATE INDEX {name} ON {table.name} ({columns}) WHERE {where}")
    )


_index_some(requests, "requests_in_flight", "endpoint, state, owner", where="state IN ('intent', 'answered')")
_index_some(requests, "requests_undecided", "endpoint, id", where="at_risk > 0 OR unreadable > 0")
_index_some(requests, "requests_late", "late", where="late > 0")
_index_some(companions, "companions_shared", "at", where="is_shared")

CACHES: Final = frozenset([kept_columns.name])
"""Tables of what can be made again, and need not be copied."""


class NoLedger(LedgerError):
    """There is a database, and no ledger in it yet."""


def prepare(
    connection: sa.Connection, *, may_be_moved: bool = False, makes: bool = True
) -> tuple[str, bytes]:
    """Create the tables, or check their version. Returns the ledger's id and the key of its hashes."""
    inspector = sa.inspect(connection)
    if not makes and not inspector.has_table("meta"):
        raise NoLedger("there is no ledger in that database yet: the first enrichment makes it")
    facts = _read_known_facts(connection) if inspector.has_table("meta") else _create(connection)
    _check_version(int(facts["schema_version"]))
    if INCOMPLETE in facts:
        raise LedgerError(
            "this is a copy of a ledger that is not complete: `eb-dagster ledger copy` is still going on, or broke "
            "off. Copy it again; until then, name the ledger that was copied"
        )
    if MOVED in facts and not may_be_moved:
        raise was_moved()
    if facts.get("secret_checksum") != _secret_checksum(facts["secret"], facts["id"]):
        # With another key, nothing that was bought would be found again.
        raise LedgerError("the key of the ledger's hashes is damaged: restore it from a backup")
    return facts["id"].decode(), facts["secret"]


def read_facts(connection: sa.Connection) -> Facts:
    """All that stands in the table `meta`: a few rows."""
    return {name: bytes(value) for name, value in connection.execute(_SELECT_FACTS)}


def _read_known_facts(connection: sa.Connection) -> Facts:
    try:
        facts = read_facts(connection)
    except ProgrammingError:
        # The table has other columns than ours.
        raise foreign("the ledger's database") from None
    if "schema_version" not in facts:
        raise damaged("the table `meta`")
    return facts


def was_moved() -> LedgerError:
    """The error to raise for a ledger that is no longer in use."""
    return LedgerError(
        "this ledger was moved by `eb-dagster ledger copy`: name the one that it was copied to, which knows what "
        "was bought since. To go back, copy that one to a new place"
    )


def read_mark(connection: sa.Connection, name: str) -> bytes | None:
    """A value of the table `meta`."""
    value = connection.execute(_SELECT_FACT, {"fact": name}).scalar()
    return None if value is None else bytes(value)


def check_not_moved(facts: Facts) -> None:
    """Refuse to go on with a ledger that was moved since it was opened."""
    if MOVED in facts:
        raise was_moved()


def create_tables(connection: sa.Connection) -> None:
    """Create the tables, where there are none yet."""
    inspector = sa.inspect(connection)
    is_file = connection.dialect.name == "sqlite"
    others = inspector.get_table_names() if is_file else [*filter(inspector.has_table, metadata.tables)]
    if others:
        raise foreign("the ledger's file" if is_file else "the ledger's database")
    metadata.create_all(connection)
    if is_file:
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _create(connection: sa.Connection) -> Facts:
    create_tables(connection)
    ledger_id, secret = uuid.uuid4().hex.encode(), os.urandom(32)
    facts = {
        "schema_version": str(SCHEMA_VERSION).encode(),
        "id": ledger_id,
        "secret": secret,
        "secret_checksum": _secret_checksum(secret, ledger_id),
    }
    connection.execute(sa.insert(meta), [{"name": name, "value": value} for name, value in facts.items()])
    return facts


def _check_version(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema version {version}, this release knows {SCHEMA_VERSION}: "
            "upgrade eb-dagster"
        )
    if version < SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema version {version}: a development version of eb-dagster made it, and this one "
            f"reads version {SCHEMA_VERSION} only. Go on with the eb-dagster that made it, or name a new ledger, "
            "which knows nothing of what was bought before"
        )


def _secret_checksum(secret: bytes, ledger_id: bytes) -> bytes:
    return str(checksum(secret, ledger_id)).encode()


def damaged(what: str) -> LedgerError:
    """The error to raise for what is not as it was written."""
    return LedgerError(
        f"{what} is damaged or missing in the ledger; restore it from a backup that is not older than "
        "your last run, and check the disk"
    )


@contextlib.contextmanager
def wrong_types_as_damage(what: str) -> Generator[None]:
    """Raise `damaged` for a stored value of a type that is never written there."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError):
        # Without the cause, which may quote the value.
        raise damaged(what) from None


def foreign(what: str) -> LedgerError:
    """The error to raise for a database of another program."""
    return LedgerError(
        f"{what} holds the tables of another program, and they were left as they are; name a ledger, a new "
        "file, or an empty database"
    )

"""The ledger's bookkeeping: what was bought, what is in doubt, and what a person decides about it.

Works on all endpoints of a ledger, needs no key and sends nothing. No person is in what it returns.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, cast

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from eb_dagster.api.envelope import IN_DOUBT, UNREADABLE
from eb_dagster.errors import ConfigError, InputError, LedgerError, counted
from eb_dagster.ledger import counters
from eb_dagster.ledger.counters import Amounts, Sums
from eb_dagster.ledger.entries import (
    CHARGED,
    RESENT,
    WRITTEN_OFF,
    Entries,
    checksum,
    count_contacts,
    keys_checksum,
)
from eb_dagster.ledger.kept_columns import is_intact as are_columns_intact
from eb_dagster.ledger.key_index_check import IndexCheck
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import apply_reply
from eb_dagster.ledger.reply_store import is_intact
from eb_dagster.ledger.request_rows import (
    IN_FLIGHT_STATES,
    IS_UNDECIDED,
    UNSENT_STATES,
    Row,
    outcomes_of,
    rewrite_outcomes,
)
from eb_dagster.ledger.schema import kept_columns, replies, requests
from eb_dagster.tables.atomic_file import check_writable, files_of_ledger
from eb_dagster.tables.parquet import read_metadata, write_parquet

Decision = Literal["resend", "write-off", "charged"]

_OUTCOME_OF: Final[dict[Decision, int]] = {"resend": RESENT, "write-off": WRITTEN_OFF, "charged": CHARGED}
_NOTHING_CHANGED: Final = "Nothing was changed"
_column = requests.c

_RECEIPT_FIELDS: Final = [
    pa.field("request", pa.int64(), nullable=False),
    pa.field("endpoint", pa.string(), nullable=False),
    pa.field("run", pa.string(), nullable=False),
    pa.field("state", pa.string(), nullable=False),
    pa.field("sent_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("answered_at", pa.timestamp("us", tz="UTC")),
    pa.field("http_status", pa.int32()),
    pa.field("asked", pa.int32(), nullable=False),
    pa.field("credits", pa.int32(), nullable=False),
    pa.field("records_enriched", pa.int32()),
    pa.field("at_risk", pa.int32(), nullable=False),
    pa.field("unreadable", pa.int32(), nullable=False),
]
RECEIPTS: Final = pa.schema(_RECEIPT_FIELDS)
"""One row for each request: what was asked, when, and what it cost. Nobody is in it."""
# What the table of requests calls otherwise.
_COLUMN_OF: Final = {"request": "id", "sent_at": "created_at"}
_SELECT_RECEIPTS: Final = sa.select(
    *(_column[_COLUMN_OF.get(name, name)].label(name) for name in RECEIPTS.names)
).order_by(_column.id)


@dataclass(frozen=True, slots=True)
class Month:
    """What one endpoint cost in one month of UTC, in credits except for `requests` and `asked`."""

    endpoint: str
    month: str
    requests: int = 0
    asked: int = 0
    credits: int = 0
    in_flight: int = 0
    in_doubt: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A request that may have been paid for and has no whole answer, or one that cannot be read."""

    request: int
    sent_at: datetime
    asked: int
    at_risk: int
    """Credits that may have been charged without an answer."""
    http_status: int | None
    reason: str
    endpoint: str = ""
    credits_before: int = 0
    """Credits of all earlier requests at the same address, to be compared with the vendor's bill. What is in doubt
    is not among them."""


@dataclass(frozen=True, slots=True)
class Reread:
    """What reading kept replies again brought."""

    replies: int
    contacts: int
    """Contacts that could not be read before."""
    unreadable: int
    """Identifiers whose answer still cannot be read."""


def months(ledger: Ledger) -> list[Month]:
    """What was bought, by endpoint and month, oldest first."""
    totals: dict[tuple[str, str], Month] = {}
    for receipt in _receipts(ledger):
        place = (receipt.endpoint, f"{_datetime(receipt.sent_at):%Y-%m}")
        totals[place] = _add(totals.get(place, Month(*place)), receipt)
    return [totals[place] for place in sorted(totals)]


def _add(month: Month, receipt: Row) -> Month:
    is_in_flight = receipt.state in IN_FLIGHT_STATES
    is_sent = receipt.state not in UNSENT_STATES
    return replace(
        month,
        requests=month.requests + 1,
        asked=month.asked + (receipt.asked if is_sent else 0),
        credits=month.credits + receipt.credits,
        in_flight=month.in_flight + (receipt.at_risk if is_in_flight else 0),
        in_doubt=month.in_doubt + (0 if is_in_flight else receipt.at_risk),
        unreadable=month.unreadable + receipt.unreadable,
    )


def doubts(ledger: Ledger) -> list[Doubt]:
    """The requests in doubt, oldest first."""
    return _undecided(ledger, _column.at_risk, reason="the reply broke off")


def unreadable(ledger: Ledger) -> list[Doubt]:
    """The requests with answers that cannot be read, oldest first."""
    return _undecided(ledger, _column.unreadable, reason="the reply cannot be read")


def _undecided(ledger: Ledger, count: sa.Column[int], *, reason: str) -> list[Doubt]:
    query = sa.select(
        _column.id,
        _column.created_at,
        _column.asked,
        count.label("undecided"),
        _column.http_status,
        _column.note,
        _column.endpoint,
    ).where(IS_UNDECIDED, count > 0, _column.state.not_in(IN_FLIGHT_STATES))
    with ledger.database.reading() as connection:
        # Sorted here: SQLite would go through all requests to spare itself the sorting.
        rows = sorted(connection.execute(query).all(), key=lambda row: row.id)
        return [
            Doubt(
                request=row.id,
                sent_at=_datetime(row.created_at),
                asked=row.asked,
                at_risk=row.undecided,
                http_status=row.http_status,
                reason=row.note or reason,
                endpoint=row.endpoint,
                credits_before=_credits_before(connection, row.id, row.endpoint),
            )
            for row in rows
        ]


def _credits_before(connection: sa.Connection, request_id: int, endpoint: str) -> int:
    earlier = sa.select(sa.func.sum(_column.credits)).where(
        _column.id < request_id, _column.endpoint == endpoint
    )
    return int(connection.execute(earlier).scalar() or 0)


def resolve(
    ledger: Ledger,
    requests: Sequence[int],
    decision: Decision,
    *,
    credits: int | None = None,  # noqa: A002 - the field's word
    ask_again: bool = False,
) -> int:
    """Decide about requests that are in doubt or cannot be read, once a person knows more.

    Returns how many identifiers were decided on: all of these requests that have no answer.

    Args:
        ledger: the ledger.
        requests: the numbers of the requests.
        decision: "resend": it was not charged, or paying twice is accepted: the next run asks again. "write-off":
            it no longer counts as at risk, and is never asked again. "charged": it is on the vendor's bill: it
            counts as spent, and is never asked again unless `ask_again`.
        credits: how many of them the bill has; else as many as the reply says, else all.
        ask_again: ask again what was charged, which may be paid twice.

    Raises:
        InputError: there is nothing to decide about one of the requests; then nothing is changed.

    """
    chosen = list(dict.fromkeys(requests))
    if credits is not None and (decision != "charged" or len(chosen) != 1):
        raise InputError(
            "--credits is for one request that was charged; name one, with --charged",
            spent=_NOTHING_CHANGED,
        )
    if ask_again and decision != "charged":
        raise InputError(
            "only what was charged can be asked again by --ask-again; say --charged, or --resend alone",
            spent=_NOTHING_CHANGED,
        )
    with ledger.database.transaction() as connection:
        return sum(
            _decide(connection, request_id, decision, credits=credits, ask_again=ask_again)
            for request_id in chosen
        )


def _decide(
    connection: sa.Connection,
    request_id: int,
    decision: Decision,
    *,
    credits: int | None,  # noqa: A002 - the field's word
    ask_again: bool,
) -> int:
    row = _undecided_request(connection, request_id)
    outcomes = outcomes_of(row).copy()
    is_open = np.isin(outcomes["position"], (IN_DOUBT, UNREADABLE))
    count = int(is_open.sum())
    if credits is not None and not 0 <= credits <= count:
        raise InputError(
            f"request {request_id} has {counted(count, 'identifier')} in doubt, not {credits:,}; choose a smaller number",
            spent=_NOTHING_CHANGED,
        )
    outcomes["position"][is_open] = RESENT if ask_again else _OUTCOME_OF[decision]
    charged = (_credits_of(row, count) if credits is None else credits) if decision == "charged" else 0
    again = ", asked again" if ask_again else ""
    changes = {
        "unreadable": 0,
        "state": _decided_state(row, is_all=count == len(outcomes)),
        "credits": row.credits + charged,
        "note": f"resolved: {decision}{again}",
    }
    rewrite_outcomes(connection, request_id, outcomes, aliases=row.aliases, changes=changes)
    return count


def _undecided_request(connection: sa.Connection, request_id: int) -> Row:
    query = sa.select(requests).where(
        _column.id == request_id,
        sa.or_(_column.at_risk > 0, _column.unreadable > 0),
        _column.state.not_in(IN_FLIGHT_STATES),
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise InputError(
            f"there is nothing to decide about request {request_id}; see `eb-dagster ledger show` for those in doubt or "
            "unreadable",
            spent=_NOTHING_CHANGED,
        )
    return row


def _credits_of(row: Row, count: int) -> int:
    """How many of `count` identifiers without an answer were charged: as the reply says, else all."""
    if row.records_enriched is None:
        return count
    return max(0, min(count, row.records_enriched - row.credits))


def _decided_state(row: Row, *, is_all: bool) -> str:
    if row.state == "purged":
        return row.state
    return "resolved" if row.outcomes is None or is_all else "applied"


def reread(ledger: Ledger) -> Reread:
    """Read kept replies that were not read in full once more, after an upgrade. Sends nothing."""
    replies_read = contacts = unreadable_left = 0
    query = sa.select(_column.credits, _column.unreadable).where(_column.id == sa.bindparam("request"))
    for request_id, credits_before in _not_read_in_full(ledger):
        apply_reply(ledger, next(ledger.replies([request_id])))
        with ledger.database.reading() as connection:
            after = connection.execute(query, {"request": request_id}).one()
        replies_read += 1
        # Not what the reply holds: what was decided about it stands.
        contacts += after.credits - credits_before
        unreadable_left += after.unreadable
    return Reread(replies_read, contacts, unreadable_left)


def _not_read_in_full(ledger: Ledger) -> list[tuple[int, int]]:
    query = (
        sa.select(_column.id, _column.credits)
        .join(replies, replies.c.request_id == _column.id)
        .where(
            _column.state.in_(("applied", "unreadable")),
            IS_UNDECIDED,
        )
        .order_by(_column.endpoint, _column.id)
    )
    with ledger.database.reading() as connection:
        return [(row.id, row.credits) for row in connection.execute(query)]


def check_export(ledger: Ledger, path: Path) -> None:
    """Raise `ConfigError` if receipts must not be written there, whoever agrees."""
    kept = [] if ledger.file is None else files_of_ledger(ledger.file)
    if path.is_file() and ledger.publications.has(str(path.resolve())) and not is_export(ledger, path):
        kept.append(("a table that this ledger published", path))
    if path.suffix.lower() != ".parquet" and not path.is_dir():
        raise ConfigError(
            f"cannot write {path}: an export is a Parquet file; choose a name that ends in .parquet"
        )
    check_writable(path, kept=kept)


def export(ledger: Ledger, path: Path) -> int:
    """Write the receipts (`RECEIPTS`) of all requests to a Parquet file. Returns the rows."""
    check_export(ledger, path)
    rows = [
        {
            **receipt._mapping,
            "sent_at": _datetime(receipt.sent_at),
            "answered_at": None if receipt.answered_at is None else _datetime(receipt.answered_at),
        }
        for receipt in _receipts(ledger)
    ]
    batches = [pa.RecordBatch.from_pylist(rows, schema=RECEIPTS)]
    return write_parquet(batches, path, schema=RECEIPTS, metadata={"receipts": ledger.id})


def is_export(ledger: Ledger, path: Path) -> bool:
    """Whether the file holds receipts of this ledger."""
    return path.read_bytes()[:4] == b"PAR1" and (read_metadata(path) or {}).get("receipts") == ledger.id


def backup(ledger: Ledger, path: Path) -> None:
    """Copy the whole ledger into a new file, also while runs go on. What they do afterwards is not in it.

    Raises `ConfigError` if the file is there already or cannot be written, or if the ledger is no file.
    """
    if ledger.file is None:
        raise ConfigError(
            "a ledger in PostgreSQL is copied by PostgreSQL itself: use pg_dump, or its backups"
        )
    check_writable(path)
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path.name} is there already, and a backup replaces nothing; name a new file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with (
            ledger.database.reading() as connection,
            contextlib.closing(sqlite3.connect(temporary)) as copy,
        ):
            copy.execute("PRAGMA synchronous = FULL")
            source = cast("sqlite3.Connection", connection.connection.driver_connection)
            # In one step, which no writer interrupts.
            source.backup(copy)
        temporary.rename(path)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(
            f"the backup {path.name} could not be written ({type(error).__name__}); check the disk, then do it again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def check(ledger: Ledger, *, opens_replies: bool = True) -> list[str]:
    """Go through the whole ledger: do checksums match, do credits add up? Returns the faults found.

    `opens_replies`: whether those that are encrypted have to open with the key that is given.
    """
    faults: list[str] = []
    with ledger.database.reading() as connection:
        if ledger.file is not None:
            verdict = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            faults += (
                [] if verdict == ["ok"] else [f"SQLite finds {counted(len(verdict), 'fault')} in the file"]
            )
        query = sa.select(requests).order_by(_column.id)
        sums, rebuilt = Sums(), IndexCheck()
        for row in connection.execute(query, execution_options={"yield_per": 50}):
            faults += [f"request {row.id}: {fault}" for fault in _faults_of(row)]
            sums.add(row.endpoint, row.run, row.created_at, Amounts(row.credits, row.at_risk, row.unreadable))
            rebuilt.add(row)
        faults += [*counters.faults(connection, sums), *rebuilt.faults(connection)]
        for row in connection.execute(sa.select(replies), execution_options={"yield_per": 20}):
            faults += [
                f"request {row.request_id}: {fault}"
                for fault in _faults_of_reply(ledger, row, opens=opens_replies)
            ]
        for row in connection.execute(sa.select(kept_columns), execution_options={"yield_per": 20}):
            if not are_columns_intact(row):
                faults.append(
                    f"request {row.request_id}: its kept columns are damaged, and its reply is read in their place; "
                    "drop them with `eb-dagster ledger purge --kept-columns`"
                )
    return faults


def _faults_of_reply(ledger: Ledger, row: Row, *, opens: bool) -> Iterator[str]:
    if not is_intact(row):
        yield "its reply is damaged"
    elif opens and not ledger.stored.can_open(row.body, row.encoding):
        yield "its reply cannot be opened with the key that is given"


def _faults_of(row: Row) -> Iterable[str]:
    if keys_checksum(row.id, row.endpoint, row.required, row.asked_keys) != row.keys_checksum:
        yield "its identifiers are damaged"
    if checksum(row.aliases) != row.aliases_checksum:
        yield "the identifiers inside its contacts are damaged"
    if checksum(row.outcomes) != row.outcomes_checksum:
        yield "its outcomes are damaged"
    elif row.outcomes is not None and row.state in ("applied", "unreadable", "resolved", "purged"):
        yield from _faults_of_sums(row, outcomes_of(row))


def _faults_of_sums(row: Row, outcomes: Entries) -> Iterable[str]:
    positions = outcomes["position"]
    found = count_contacts(outcomes)
    # What was decided, forgotten or failed leads to no contact, and may have been charged.
    maybe_charged = int((positions < UNREADABLE).sum())
    if not found <= row.credits <= found + maybe_charged:
        yield f"it notes {counted(row.credits, 'credit')} for {counted(found, 'contact')}"
    if int((positions == IN_DOUBT).sum()) != row.at_risk:
        yield "its credits at risk do not add up"
    if int((positions == UNREADABLE).sum()) != row.unreadable:
        yield "its identifiers that cannot be read do not add up"


def _receipts(ledger: Ledger) -> Sequence[Row]:
    """Rows of `RECEIPTS`, with times in seconds since the epoch."""
    with ledger.database.reading() as connection:
        return connection.execute(_SELECT_RECEIPTS).all()


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

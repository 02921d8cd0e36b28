"""The ledger's bookkeeping: what was bought, what is in doubt, and what a person decides about it.

Works on all endpoints of a ledger, needs no key and sends nothing. No person is in what it returns.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from eb_dagster.api.envelope import IN_DOUBT, UNREADABLE
from eb_dagster.errors import ConfigError, InputError, LedgerError
from eb_dagster.ledger import connection as database
from eb_dagster.ledger.entries import CHARGED, RESENT, WRITTEN_OFF, checksum, unpack_outcomes
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.lookup import IN_FLIGHT_STATES
from eb_dagster.ledger.replies import apply_reply
from eb_dagster.tables.atomic_file import check_writable, files_of_ledger
from eb_dagster.tables.parquet import read_metadata, write_parquet

Decision = Literal["resend", "write-off", "charged"]
_OUTCOME_OF: Final[dict[Decision, int]] = {"resend": RESENT, "write-off": WRITTEN_OFF, "charged": CHARGED}
_requests, _replies = database.requests, database.replies

RECEIPTS: Final = pa.schema([
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
])  # fmt: skip
"""One row a request: what was asked, when, and what it cost. Nobody is in it."""


@dataclass(frozen=True, slots=True)
class Month:
    """What one endpoint cost in one month of UTC. Credits, but for `requests` and `asked`."""

    endpoint: str
    month: str
    requests: int
    asked: int
    credits: int
    in_flight: int
    in_doubt: int
    unreadable: int


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
    totals: dict[tuple[str, str], list[int]] = {}
    for receipt in _receipts(ledger):
        is_flying = receipt["state"] in IN_FLIGHT_STATES
        risk = receipt["at_risk"]
        counted = receipt["state"] not in ("free", "refused")
        place = totals.setdefault((receipt["endpoint"], f"{receipt['sent_at']:%Y-%m}"), [0] * 6)
        row = (
            1, receipt["asked"] if counted else 0, receipt["credits"], risk if is_flying else 0,
            0 if is_flying else risk, receipt["unreadable"],
        )  # fmt: skip
        for at, count in enumerate(row):
            place[at] += count
    return [Month(*key, *counts) for key, counts in sorted(totals.items())]


def doubts(ledger: Ledger) -> list[Doubt]:
    """The requests in doubt, oldest first."""
    return _undecided(ledger, _requests.c.at_risk, reason="the reply broke off")


def unreadable(ledger: Ledger) -> list[Doubt]:
    """The requests with answers that cannot be read, oldest first."""
    return _undecided(ledger, _requests.c.unreadable, reason="the reply cannot be read")


def _undecided(ledger: Ledger, count: sa.Column[int], *, reason: str) -> list[Doubt]:
    column = _requests.c
    with ledger.reading() as connection:
        rows = connection.execute(
            sa.select(
                column.id,
                column.created_at,
                column.asked,
                count.label("open"),
                column.http_status,
                column.note,
            )
            .where(count > 0, column.state.not_in(IN_FLIGHT_STATES))
            .order_by(column.id)
        ).all()
    return [
        Doubt(row.id, _moment(row.created_at), row.asked, row.open, row.http_status, row.note or reason)
        for row in rows
    ]


def resolve(
    ledger: Ledger,
    requests: Sequence[int],
    decision: Decision,
    *,
    credits: int | None = None,  # noqa: A002 - the field's word
    ask_again: bool = False,
) -> int:
    """Decide about requests that are in doubt or cannot be read, once a person knows more.

    Returns the identifiers decided on, which are all of these requests that have no answer.

    "resend": it was not charged, or paying twice is accepted: the next run asks again. "write-off":
    stop counting it as at risk; never ask again. "charged": the vendor's bill has it: counted as
    spent, `credits` of them if given, else as many as the reply says, else all; never asked again,
    unless `ask_again` accepts that it may be paid twice.

    Raises `InputError` if there is nothing to decide about one of the requests; then nothing is changed.
    """
    chosen = list(dict.fromkeys(requests))
    if credits is not None and (decision != "charged" or len(chosen) != 1):
        raise InputError(
            "credits can be told for one request that was charged; name one, with --charged",
            spent="Nothing was changed",
        )
    if ask_again and decision != "charged":
        raise InputError(
            "only what was charged can be asked again by --ask-again; say --charged, or --resend alone",
            spent="Nothing was changed",
        )
    with ledger.transaction() as connection:
        return sum(
            _decide(ledger, connection, request_id, decision, credits=credits, ask_again=ask_again)
            for request_id in chosen
        )


def _decide(
    ledger: Ledger,
    connection: sa.Connection,
    request_id: int,
    decision: Decision,
    *,
    credits: int | None,  # noqa: A002 - the field's word
    ask_again: bool,
) -> int:
    column = _requests.c
    row = connection.execute(
        sa.select(_requests).where(
            column.id == request_id,
            sa.or_(column.at_risk > 0, column.unreadable > 0),
            column.state.not_in(IN_FLIGHT_STATES),
        )
    ).one_or_none()
    if row is None:
        raise InputError(
            f"request {request_id} is not in doubt and can be read; see `eb-dagster ledger show`",
            spent="Nothing was changed",
        )
    default = UNREADABLE if row.state == "unreadable" else IN_DOUBT
    outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=default).copy()
    is_open = np.isin(outcomes["position"], (IN_DOUBT, UNREADABLE))
    count = int(is_open.sum())
    if credits is not None and not 0 <= credits <= count:
        raise InputError(
            f"request {request_id} has {count:,} identifiers in doubt, not {credits:,}; choose a smaller number",
            spent="Nothing was changed",
        )
    if credits is None and row.records_enriched is not None:
        credits = max(0, min(count, row.records_enriched - row.credits))  # noqa: A001
    outcomes["position"][is_open] = RESENT if ask_again else _OUTCOME_OF[decision]
    cost = (count if credits is None else credits) if decision == "charged" else 0
    is_applied = row.outcomes is not None and not bool(is_open.all())
    ledger.rewrite_outcomes(
        connection, request_id, outcomes, aliases=row.aliases, unreadable=0,
        state=row.state if row.state == "purged" else "applied" if is_applied else "resolved",
        credits=row.credits + cost, note=f"resolved: {decision}{', asked again' if ask_again else ''}",
    )  # fmt: skip
    return count


def reread(ledger: Ledger) -> Reread:
    """Read kept replies that were not read in full once more, after an upgrade. Sends nothing."""
    replies = contacts = unreadable = 0
    for endpoint in ledger.endpoints():
        for request_id, before in _not_read_in_full(ledger, endpoint):
            with ledger.at(endpoint):
                apply_reply(ledger, next(ledger.replies([request_id])))
            with ledger.reading() as connection:
                query = sa.select(_requests.c.credits, _requests.c.unreadable)
                after = connection.execute(query.where(_requests.c.id == request_id)).one()
            replies += 1
            # Not what the reply holds: what was decided about it stands.
            contacts += after.credits - before
            unreadable += after.unreadable
    return Reread(replies, contacts, unreadable)


def _not_read_in_full(ledger: Ledger, endpoint: str) -> list[tuple[int, int]]:
    column = _requests.c
    with ledger.reading() as connection:
        rows = connection.execute(
            sa.select(column.id, column.credits)
            .join(_replies, _replies.c.request_id == column.id)
            .where(
                column.endpoint == endpoint,
                column.state.in_(("applied", "unreadable")),
                sa.or_(column.unreadable > 0, column.at_risk > 0),
            )
            .order_by(column.id)
        ).all()
    return [(row.id, row.credits) for row in rows]


def export(ledger: Ledger, path: Path) -> int:
    """Write the receipts (`RECEIPTS`) of all requests to a Parquet file. Returns the rows."""
    check_writable(path, kept=[] if ledger.file is None else files_of_ledger(ledger.file))
    receipts = [pa.RecordBatch.from_pylist(list(_receipts(ledger)), schema=RECEIPTS)]
    return write_parquet(receipts, path, schema=RECEIPTS, metadata={"receipts": ledger.id})


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
        with ledger.reading() as connection, contextlib.closing(sqlite3.connect(temporary)) as copy:
            copy.execute("PRAGMA synchronous = FULL")
            # In one step, which nobody's writing interrupts.
            cast("sqlite3.Connection", connection.connection.driver_connection).backup(copy)
        temporary.rename(path)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(
            f"the backup {path.name} could not be written ({type(error).__name__}); check the disk, then do it again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def check(ledger: Ledger) -> list[str]:
    """Go through the whole ledger: do checksums match, do credits add up? Returns the faults found."""
    faults: list[str] = []
    column = _requests.c
    with ledger.reading() as connection:
        if ledger.file is not None:
            verdict = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            faults += [] if verdict == ["ok"] else [f"SQLite finds {len(verdict):,} faults in the file"]
        query = sa.select(_requests).order_by(column.id)
        for row in connection.execute(query, execution_options={"yield_per": 50}):
            faults += [f"request {row.id}: {fault}" for fault in _faults_of(row)]
        query = sa.select(_replies)
        for row in connection.execute(query, execution_options={"yield_per": 20}):
            if database.reply_checksum(row.encoding, row.body, complete=row.complete) != row.checksum:
                faults.append(f"request {row.request_id}: its reply is damaged")
            elif not ledger.can_open(row.body, row.encoding):
                faults.append(
                    f"request {row.request_id}: its reply cannot be opened with the key that is given"
                )
    return faults


def _faults_of(row: Any) -> Iterable[str]:
    known = database.keys_checksum(row.id, row.endpoint, row.required, row.asked_keys)
    if known != row.keys_checksum:
        yield "its identifiers are damaged"
    if checksum(row.outcomes, row.aliases) != row.outcomes_checksum:
        yield "its outcomes are damaged"
    elif row.outcomes is not None and row.state in ("applied", "unreadable", "resolved", "purged"):
        outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)
        positions = outcomes["position"]
        found = len(set(positions[positions >= 0].tolist()))
        gone = int((positions < IN_DOUBT - 1).sum())
        if not found <= row.credits <= found + gone:
            yield f"{row.credits:,} credits are noted for {found:,} contacts"
        if int((positions == IN_DOUBT).sum()) != row.at_risk:
            yield "its credits at risk do not add up"
        if int((positions == UNREADABLE).sum()) != row.unreadable:
            yield "its identifiers that cannot be read do not add up"


def _receipts(ledger: Ledger) -> Iterable[dict[str, Any]]:
    column = _requests.c
    names = (
        column.id, column.endpoint, column.run, column.state, column.created_at, column.answered_at,
        column.http_status, column.asked, column.credits, column.records_enriched, column.at_risk,
        column.unreadable,
    )  # fmt: skip
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(*names).order_by(column.id)).all()
    for row in rows:
        values = list(row)
        values[4] = _moment(row.created_at)
        values[5] = None if row.answered_at is None else _moment(row.answered_at)
        yield dict(zip(RECEIPTS.names, values, strict=True))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

"""The ledger's bookkeeping: what was bought, what is in doubt, and what a person decides about it.

Works on all endpoints of a ledger, needs no key and sends nothing. No person is in what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import sqlalchemy as sa

from eb_dagster import database
from eb_dagster.errors import InputError
from eb_dagster.findings import IN_FLIGHT_STATES
from eb_dagster.ledger import Ledger
from eb_dagster.packed import CHARGED, RESENT, WRITTEN_OFF, checksum, unpack_outcomes
from eb_dagster.parquet import read_metadata, write_parquet
from eb_dagster.publication import check_writable, files_of_ledger
from eb_dagster.purchase import apply_reply
from eb_dagster.wire import IN_DOUBT

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
    """A request that may have been paid for and has no whole answer."""

    request: int
    sent_at: datetime
    asked: int
    at_risk: int
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
    column = _requests.c
    with ledger.reading() as connection:
        rows = connection.execute(
            sa.select(
                column.id, column.created_at, column.asked, column.at_risk, column.http_status, column.note
            )
            .where(column.at_risk > 0, column.state.not_in(IN_FLIGHT_STATES))
            .order_by(column.id)
        ).all()
    return [
        Doubt(
            row.id, _moment(row.created_at), row.asked, row.at_risk, row.http_status,
            row.note or "the reply broke off",
        )
        for row in rows
    ]  # fmt: skip


def resolve(
    ledger: Ledger, requests: Sequence[int], decision: Decision, *, credits: int | None = None  # noqa: A002 - the field's word
) -> int:  # fmt: skip
    """Decide about requests in doubt, once a person knows more. Returns the identifiers decided on.

    "resend": it was not charged, or paying twice is accepted: the next run asks again. "write-off":
    stop counting it as at risk; never ask again. "charged": the vendor's bill has it: counted as
    spent, `credits` of them if given, else all; never asked again.

    Raises `InputError` if one of the requests is not in doubt; then nothing is changed.
    """
    decided = 0
    chosen = list(dict.fromkeys(requests))
    column = _requests.c
    if credits is not None and (decision != "charged" or len(chosen) != 1):
        raise InputError(
            "credits can be told for one request that was charged; name one, with --charged",
            spent="Nothing was changed",
        )
    with ledger.transaction() as connection:
        for request_id in chosen:
            row = connection.execute(
                sa.select(column.asked, column.outcomes, column.aliases, column.credits).where(
                    column.id == request_id,
                    column.at_risk > 0,
                    column.state.not_in(IN_FLIGHT_STATES),
                )
            ).one_or_none()
            if row is None:
                raise InputError(
                    f"request {request_id} is not in doubt; see `eb-dagster ledger show`",
                    spent="Nothing was changed",
                )
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT).copy()
            doubtful = outcomes["position"] == IN_DOUBT
            count = int(doubtful.sum())
            if credits is not None and not 0 <= credits <= count:
                raise InputError(
                    f"request {request_id} has {count:,} identifiers in doubt, not {credits:,}; choose a smaller number",
                    spent="Nothing was changed",
                )
            outcomes["position"][doubtful] = _OUTCOME_OF[decision]
            cost = (count if credits is None else credits) if decision == "charged" else 0
            is_applied = row.outcomes is not None and not bool(doubtful.all())
            ledger.rewrite_outcomes(
                connection, request_id, outcomes, aliases=row.aliases,
                state="applied" if is_applied else "resolved", credits=row.credits + cost,
                note=f"resolved: {decision}",
            )  # fmt: skip
            decided += count
    return decided


def reread(ledger: Ledger) -> Reread:
    """Read kept replies that were not read in full once more, after an upgrade. Sends nothing."""
    replies = contacts = unreadable = 0
    for endpoint in ledger.endpoints():
        for request_id, before in _not_read_in_full(ledger, endpoint):
            with ledger.at(endpoint):
                reading = apply_reply(ledger, next(ledger.replies([request_id])))
            replies += 1
            contacts += len(reading.rows) - before
            unreadable += reading.unreadable
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
    return faults


def _faults_of(row: Any) -> Iterable[str]:
    known = database.keys_checksum(row.id, row.endpoint, row.required, row.asked_keys)
    if known != row.keys_checksum:
        yield "its identifiers are damaged"
    if checksum(row.outcomes, row.aliases) != row.outcomes_checksum:
        yield "its outcomes are damaged"
    elif row.outcomes is not None and row.state in ("applied", "unreadable"):
        outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)
        positions = outcomes["position"]
        found = len(set(positions[positions >= 0].tolist()))
        gone = int((positions < IN_DOUBT - 1).sum())
        if not found <= row.credits <= found + gone:
            yield f"{row.credits:,} credits are noted for {found:,} contacts"
        if int((positions == IN_DOUBT).sum()) != row.at_risk:
            yield "its credits at risk do not add up"


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

"""What was asked, what was answered, what it cost. Durable, and the coordinator of all processes.

One row a request. Its identifiers, their outcomes and the aliases found in its contacts are packed
arrays of 128-bit keyed hashes, so that recording a reply costs the same in a ledger of ten million,
and so that the index holds no address. The raw reply stands beside it in a table of its own.

    INTENT ─► free (not sent, 429)     its questions may be asked again
           ─► refused                  likewise
           ─► in_doubt ─► answered late, resent by choice, or written off; never by a timer
           ─► answered (raw reply durable) ─► applied | unreadable
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal, cast

import filelock
import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from eb_dagster.errors import LedgerError
from eb_dagster.identifiers import Identifier
from eb_dagster.wire import IN_DOUBT, MISSED, REQUIRED_FIELDS, UNREADABLE

SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 90.0

# A question of a lost request that was asked anew by choice.
RESENT: Final = -4

_metadata = sa.MetaData()
_meta = sa.Table(
    "meta",
    _metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
_pacer = sa.Table(
    "pacer",
    _metadata,
    sa.Column("endpoint", sa.String(500), primary_key=True),
    sa.Column("next_at", sa.Float(53), nullable=False),
)
_requests = sa.Table(
    "requests",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("endpoint", sa.String(500), nullable=False),
    sa.Column("run", sa.String(32), nullable=False, index=True),
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
    sa.Column("in_doubt", sa.Integer, nullable=False, default=0),
    sa.Column("unreadable", sa.Integer, nullable=False, default=0),
    sa.Column("asked_keys", sa.LargeBinary, nullable=False),
    sa.Column("outcomes", sa.LargeBinary),
    sa.Column("aliases", sa.LargeBinary),
    sa.Index("requests_by_state", "endpoint", "state"),
    # An id that was used once must never come back: it orders what was learned.
    sqlite_autoincrement=True,
)
_replies = sa.Table(
    "replies",
    _metadata,
    sa.Column("request_id", sa.Integer, sa.ForeignKey("requests.id"), primary_key=True),
    sa.Column("encoding", sa.String(100), nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
_suppressed = sa.Table(
    "suppressed",
    _metadata,
    sa.Column("key", sa.LargeBinary(16), primary_key=True),
    sa.Column("at", sa.Float(53), nullable=False),
)

_OUTCOME = np.dtype([("position", "<i4"), ("held", "u1")])
_ALIAS = np.dtype([("key", "V16"), ("position", "<i4"), ("held", "u1"), ("person", "<u8")])

Standing = Literal["matched", "missed", "in_flight", "in_doubt", "unreadable"]


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of an identifier. Matched: which contact of which reply."""

    standing: Standing
    request_id: int
    run: str
    at: float | None
    position: int = -1
    is_alias: bool = False
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Freshness:
    """From which moment on (seconds since the epoch) contacts and misses still count."""

    contacts_since: float | None = None
    misses_since: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a claim must stay inside of: credits of this run, and credits at risk on the ledger."""

    max_credits: int | None
    max_credits_at_risk: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The outcome of asking to ask. `granted` counts the first of the keys; 0 without a request."""

    request_id: int | None
    granted: int
    known: Mapping[bytes, Known]
    short_of: Literal["credits", "risk"] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One entry of an applied reply: where its contact stands and which fields that holds."""

    position: int
    held: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Alias:
    """An identifier found inside a bought contact. Equal `person` means the same contact."""

    key: bytes
    position: int
    held: frozenset[str]
    person: int


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A raw reply as it came, with the keys of what had been asked."""

    request_id: int
    run: str
    keys: tuple[bytes, ...]
    answered_at: float
    encoding: str
    complete: bool
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Spending:
    """Totals in credits, of a run or of a whole endpoint."""

    requests: int
    credits: int
    in_flight: int
    in_doubt: int
    unreadable: int

    @property
    def at_risk(self) -> int:
        """Credits that may have been spent without an answer."""
        return self.in_flight + self.in_doubt


class Ledger:
    """The one database that every process with the same ledger shares. Safe to use from threads."""

    def __init__(self, where: str | os.PathLike[str], *, endpoint: str) -> None:
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._closed = False
        self.endpoint = endpoint
        self._url = _database_url(where)
        self._path = Path(cast(str, self._url.database)) if _is_sqlite(self._url) else None
        if self._path is not None:
            _create_private(self._path)
        self._engine = _connect(self._url)
        try:
            with self._transaction() as connection:
                _metadata.create_all(connection)
                self.id, self._secret = _read_or_create_meta(connection)
            self._owner = _Owner.of(self._path, self._engine)
        except BaseException:
            self._engine.dispose()
            raise
        self.recover()

    def close(self) -> None:
        """Let go of the database. What this process had in flight is in doubt from here on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._owner.leave()
                self._engine.dispose()

    def key(self, identifier: Identifier) -> bytes:
        """The identifier's keyed hash at this endpoint: a sandbox's answer is never a real one."""
        return self._hash(self.endpoint, identifier)

    def keys_of_echo(self, echo: str, field_types: Iterable[str]) -> list[bytes]:
        """The keys under which an echoed value, taken literally, may have been asked."""
        return [self._hash_parts(self.endpoint, kind, echo) for kind in field_types]

    def _hash(self, scope: str, identifier: Identifier) -> bytes:
        return self._hash_parts(scope, identifier.field_type, identifier.value)

    def _hash_parts(self, *parts: str) -> bytes:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._secret, digest_size=16).digest()

    # Looking up

    def lookup(
        self,
        keys: Sequence[bytes],
        *,
        required: int,
        alias_keys: Sequence[bytes] = (),
        freshness: Freshness = Freshness(),
    ) -> tuple[dict[bytes, Known], int]:
        """What is known of `keys`, and the id of the newest request that was looked at.

        A key in `alias_keys` may also be answered by a contact in which it was found.
        """
        with self._transaction() as connection:
            return self._lookup(connection, keys, required, alias_keys, freshness, after=0)

    def _lookup(
        self,
        connection: sa.Connection,
        keys: Sequence[bytes],
        required: int,
        alias_keys: Sequence[bytes],
        freshness: Freshness,
        *,
        after: int,
    ) -> tuple[dict[bytes, Known], int]:
        wanted, wanted_aliases = _Wanted(keys), _Wanted(alias_keys)
        findings = _Findings(required=required, freshness=freshness)
        columns = _requests.c
        rows = connection.execution_options(yield_per=100).execute(
            sa.select(
                columns.id,
                columns.run,
                columns.state,
                columns.required,
                columns.answered_at,
                columns.asked_keys,
                columns.outcomes,
                columns.aliases,
            )
            .where(columns.endpoint == self.endpoint, columns.id > after)
            .where(columns.state.not_in(("free", "refused", "written_off")))
            .order_by(columns.id)
        )
        newest = after
        for row in rows:
            newest = row.id
            findings.read(row, wanted, wanted_aliases)
        return findings.result(), newest

    def suppressed(self, identifiers: Sequence[Identifier]) -> set[Identifier]:
        """Those of `identifiers` that must never be sent."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_suppressed.c.key)).scalars()
            listed = {bytes(key) for key in rows}
        if not listed:
            return set()
        return {one for one in identifiers if self._hash("", one) in listed}

    def suppress(self, identifiers: Iterable[Identifier]) -> int:
        """Keep these people from ever being sent. Returns how many were not on the list before."""
        keys = {self._hash("", one) for one in identifiers}
        with self._transaction() as connection:
            present = {bytes(key) for key in connection.execute(sa.select(_suppressed.c.key)).scalars()}
            rows = [{"key": key, "at": time.time()} for key in sorted(keys - present)]
            if rows:
                connection.execute(sa.insert(_suppressed), rows)
        return len(rows)

    # A request's life

    def claim(
        self,
        keys: Sequence[bytes],
        *,
        run: str,
        required: int,
        limits: Limits,
        seen: int,
        alias_keys: Sequence[bytes] = (),
        freshness: Freshness = Freshness(),
        resend: bool = False,
    ) -> Claim:
        """Make the intent to ask durable, for as many of `keys` as the limits leave room for.

        In the same transaction, look once more at what others learned after request `seen`.
        If anything did come in, nothing is claimed and `known` says what.
        """
        with self._transaction() as connection:
            known, _ = self._lookup(connection, keys, required, alias_keys, freshness, after=seen)
            news = {key: one for key, one in known.items() if not one.is_stale}
            if resend:
                news = {key: one for key, one in news.items() if one.standing != "in_doubt"}
            if news:
                return Claim(None, 0, news)
            if resend:
                self._mark_resent(connection, keys)
            spent = self._spending(connection, run=run)
            ledger = self._spending(connection)
            used = spent.credits + spent.at_risk + spent.unreadable
            room = len(keys) if limits.max_credits is None else limits.max_credits - used
            risk = limits.max_credits_at_risk - ledger.at_risk
            granted = min(len(keys), room, risk)
            if granted <= 0:
                return Claim(None, 0, {}, "credits" if room <= 0 else "risk")
            inserted = connection.execute(
                sa.insert(_requests).values(
                    endpoint=self.endpoint,
                    run=run,
                    owner=self._owner.name,
                    state="intent",
                    required=required,
                    asked=granted,
                    created_at=time.time(),
                    asked_keys=b"".join(keys[:granted]),
                )
            ).inserted_primary_key
        return Claim(cast("tuple[int]", inserted)[0], granted, {})

    def release(self, request_id: int, *, state: Literal["free", "refused"], note: str) -> None:
        """The request cost nothing: its questions may be asked again."""
        self._move(request_id, {"intent"}, state=state, note=note[:200])

    def doubt(self, request_id: int, *, http_status: int | None, note: str) -> None:
        """The request may have been paid for, and there is no answer."""
        self._move(
            request_id, {"intent"}, state="in_doubt", http_status=http_status, note=note[:200],
            in_doubt=_requests.c.asked,
        )  # fmt: skip

    def record(
        self, request_id: int, *, http_status: int, encoding: str, complete: bool, body: bytes
    ) -> StoredReply:
        """Make a raw reply durable, before anything looks into it. A late one is welcome too."""
        at = time.time()
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(_requests.c.state, _requests.c.asked_keys, _requests.c.run).where(
                    _requests.c.id == request_id
                )
            ).one()
            if row.state not in ("intent", "in_doubt"):
                raise LedgerError(f"request {request_id} was answered before; nothing was changed")
            connection.execute(
                sa.insert(_replies).values(
                    request_id=request_id, encoding=encoding[:100], complete=complete, body=body
                )
            )
            connection.execute(
                sa.update(_requests)
                .where(_requests.c.id == request_id)
                .values(state="answered", answered_at=at, http_status=http_status, in_doubt=0)
            )
        return StoredReply(request_id, row.run, _unpack_keys(row.asked_keys), at, encoding, complete, body)

    def apply(
        self,
        request_id: int,
        *,
        questions: Sequence[Question],
        aliases: Sequence[Alias],
        records_enriched: int | None,
    ) -> None:
        """Note what a stored reply says about each question, in the order they were asked."""
        outcomes = np.zeros(len(questions), dtype=_OUTCOME)
        outcomes["position"] = [one.position for one in questions]
        outcomes["held"] = [pack_fields(one.held) for one in questions]
        packed = np.zeros(len(aliases), dtype=_ALIAS)
        for at, one in enumerate(aliases):
            packed[at] = (one.key, one.position, pack_fields(one.held), one.person)
        found = {one.position for one in questions if one.position >= 0}
        unreadable = sum(one.position == UNREADABLE for one in questions)
        state = "unreadable" if unreadable == len(questions) else "applied"
        self._move(
            request_id, {"answered", "unreadable", "applied"}, state=state,
            credits=len(found), records_enriched=_within_database(records_enriched),
            in_doubt=sum(one.position == IN_DOUBT for one in questions), unreadable=unreadable,
            outcomes=outcomes.tobytes(), aliases=packed.tobytes(),
        )  # fmt: skip

    def unapplied(self) -> list[StoredReply]:
        """Replies that were stored by a process that ended before it read them."""
        with self._transaction() as connection:
            ids = connection.execute(
                sa.select(_requests.c.id, _requests.c.owner)
                .where(_requests.c.endpoint == self.endpoint, _requests.c.state == "answered")
                .order_by(_requests.c.id)
            ).all()
        orphaned = [row.id for row in ids if self._owner.is_gone(row.owner)]
        return list(self.replies(orphaned))

    def replies(self, request_ids: Iterable[int]) -> Iterator[StoredReply]:
        """The stored replies of these requests, one at a time."""
        for request_id in request_ids:
            with self._transaction() as connection:
                row = connection.execute(
                    sa.select(_requests, _replies)
                    .join(_replies, _replies.c.request_id == _requests.c.id)
                    .where(_requests.c.id == request_id)
                ).one_or_none()
            if row is None:
                raise LedgerError(f"the reply of request {request_id} is gone from the ledger")
            yield StoredReply(
                request_id, row.run, _unpack_keys(row.asked_keys), row.answered_at,
                row.encoding, row.complete, bytes(row.body),
            )  # fmt: skip

    def recover(self) -> int:
        """Put what processes that are gone had in flight in doubt. Returns how many requests."""
        with self._transaction() as connection:
            owners = connection.execute(
                sa.select(_requests.c.owner).where(_requests.c.state == "intent").distinct()
            ).scalars()
            gone = [owner for owner in owners if self._owner.is_gone(owner)]
            if not gone:
                return 0
            return connection.execute(
                sa.update(_requests)
                .where(_requests.c.state == "intent", _requests.c.owner.in_(gone))
                .values(state="in_doubt", in_doubt=_requests.c.asked, note="its process ended")
            ).rowcount

    # Money

    def spending(self, *, run: str | None = None) -> Spending:
        """What this endpoint cost so far, or one run of it."""
        with self._transaction() as connection:
            return self._spending(connection, run=run)

    def _spending(self, connection: sa.Connection, *, run: str | None = None) -> Spending:
        column = _requests.c
        # A stored reply that is not applied yet has cost what nobody counted: as if in flight.
        flying = sa.case((column.state.in_(("intent", "answered")), column.asked), else_=0)
        totals = [sa.func.count(), column.credits, flying, column.in_doubt, column.unreadable]
        query = sa.select(totals[0], *(sa.func.coalesce(sa.func.sum(one), 0) for one in totals[1:])).where(
            column.endpoint == self.endpoint, column.state.not_in(("free", "refused"))
        )
        if run is not None:
            query = query.where(column.run == run)
        return Spending(*(int(total) for total in connection.execute(query).one()))

    def last_request(self) -> int:
        """The id of the newest request: how far this ledger remembers."""
        with self._transaction() as connection:
            newest = connection.execute(sa.select(sa.func.max(_requests.c.id))).scalar()
            return 0 if newest is None else int(newest)

    # Pacing

    def reserve_slot(self, *, interval: float, now: float) -> float:
        """Take the next free moment to send and return it, in seconds since the epoch."""
        with self._transaction() as connection:
            slot = max(self._next_slot(connection, now), now)
            self._set_next_slot(connection, slot + interval)
        return slot

    def postpone_slots(self, *, until: float, now: float) -> None:
        """Give no slot to any process before `until`."""
        with self._transaction() as connection:
            self._set_next_slot(connection, max(self._next_slot(connection, now), until))

    def _next_slot(self, connection: sa.Connection, now: float) -> float:
        query = sa.select(_pacer.c.next_at).where(_pacer.c.endpoint == self.endpoint)
        slot = connection.execute(query).scalar()
        if slot is None:
            connection.execute(sa.insert(_pacer).values(endpoint=self.endpoint, next_at=now))
            return now
        # Beyond an hour, it is the clock that was put back.
        return now if slot > now + 3600 else float(slot)

    def _set_next_slot(self, connection: sa.Connection, moment: float) -> None:
        connection.execute(sa.update(_pacer).where(_pacer.c.endpoint == self.endpoint).values(next_at=moment))

    # Inside

    def _mark_resent(self, connection: sa.Connection, keys: Sequence[bytes]) -> None:
        wanted = _Wanted(keys)
        rows = connection.execute(
            sa.select(_requests.c.id, _requests.c.asked, _requests.c.asked_keys, _requests.c.outcomes)
            .where(_requests.c.endpoint == self.endpoint, _requests.c.in_doubt > 0)
        ).all()  # fmt: skip
        for row in rows:
            outcomes = _outcomes_of(row.outcomes, row.asked, IN_DOUBT).copy()
            for at, _ in wanted.find(row.asked_keys):
                if outcomes["position"][at] == IN_DOUBT:
                    outcomes["position"][at] = RESENT
            connection.execute(
                sa.update(_requests)
                .where(_requests.c.id == row.id)
                .values(
                    outcomes=outcomes.tobytes(),
                    in_doubt=int((outcomes["position"] == IN_DOUBT).sum()),
                )
            )

    def _move(self, request_id: int, before: set[str], **values: Any) -> None:
        with self._transaction() as connection:
            moved = connection.execute(
                sa.update(_requests)
                .where(_requests.c.id == request_id, _requests.c.state.in_(sorted(before)))
                .values(**values)
            ).rowcount
        if moved != 1:
            raise LedgerError(f"request {request_id} is not in a state that allows this")

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sa.Connection]:
        """One committed step, alone on the ledger: SQLite's write lock, or a lock on one row."""
        with self._lock:
            if self._closed:
                raise LedgerError("the ledger is closed")
            if os.getpid() != self._process:
                raise LedgerError("the ledger was opened before a fork; open it in the child")
            try:
                with self._engine.begin() as connection:
                    if self._path is None:
                        # One lock for everything: claims, budget and pacing of all workers.
                        connection.execute(sa.text("SELECT pg_advisory_xact_lock(1162969172)"))
                    yield connection
            except SQLAlchemyError as error:
                cause = type(getattr(error, "orig", None) or error).__name__
                raise LedgerError(f"the ledger's database failed ({cause})") from None


class _Wanted:
    """Keys to look for, sorted by their first half so that numpy can find them in bulk."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        pairs = np.frombuffer(b"".join(keys), dtype=">u8").reshape(-1, 2).astype(np.uint64)
        self._order = np.argsort(pairs[:, 0], kind="stable")
        self._first = pairs[self._order, 0]
        self._keys = keys

    def find(self, packed: bytes) -> Iterator[tuple[int, bytes]]:
        """Where wanted keys stand in a packed array of keys."""
        if not len(self._first) or not packed:
            return
        there = np.frombuffer(packed, dtype=">u8").reshape(-1, 2)[:, 0].astype(np.uint64)
        left = np.searchsorted(self._first, there, side="left")
        right = np.searchsorted(self._first, there, side="right")
        for at in np.flatnonzero(right > left):
            mine = packed[16 * int(at) : 16 * int(at) + 16]
            for place in self._order[left[at] : right[at]]:
                if self._keys[place] == mine:
                    yield int(at), mine


class _Findings:
    """What requests say about keys, gathered from the oldest to the newest."""

    def __init__(self, *, required: int, freshness: Freshness) -> None:
        self._required = required
        self._freshness = freshness
        self._matched: dict[bytes, Known] = {}
        self._missed: dict[bytes, Known] = {}
        self._open: dict[bytes, Known] = {}
        self._aliases: dict[bytes, dict[int, Known]] = {}

    def read(self, row: Any, wanted: _Wanted, wanted_aliases: _Wanted) -> None:
        outcomes: npt.NDArray[Any] | None = None
        for at, key in wanted.find(row.asked_keys):
            if outcomes is None:
                outcomes = _outcomes_of(row.outcomes, len(row.asked_keys) // 16, _default(row.state))
            position, held = int(outcomes["position"][at]), int(outcomes["held"][at])
            self._note(row, key, position, held | row.required)
        if row.aliases:
            aliases = np.frombuffer(row.aliases, dtype=_ALIAS)
            for at, key in wanted_aliases.find(aliases["key"].tobytes()):
                one = aliases[at]
                if self._holds(int(one["held"])):
                    known = self._contact(row, int(one["position"]), is_alias=True)
                    self._aliases.setdefault(key, {})[int(one["person"])] = known

    def _note(self, row: Any, key: bytes, position: int, held: int) -> None:
        if position >= 0:
            if self._holds(held):
                self._matched[key] = self._contact(row, position, is_alias=False)
        elif position == MISSED:
            # What was not found with fewer conditions is not found with more.
            if row.required & ~self._required == 0:
                self._missed[key] = Known("missed", row.id, row.run, row.answered_at)
        elif position == IN_DOUBT:
            standing = "in_flight" if row.state in ("intent", "answered") else "in_doubt"
            self._open[key] = Known(standing, row.id, row.run, None)
        elif position == UNREADABLE:
            self._open[key] = Known("unreadable", row.id, row.run, row.answered_at)

    def _holds(self, held: int) -> bool:
        return self._required & ~held == 0

    def _contact(self, row: Any, position: int, *, is_alias: bool) -> Known:
        since = self._freshness.contacts_since
        stale = since is not None and row.answered_at < since
        return Known("matched", row.id, row.run, row.answered_at, position, is_alias, is_stale=stale)

    def result(self) -> dict[bytes, Known]:
        for key, persons in self._aliases.items():
            # An alias of two different people is nobody's.
            if len(persons) == 1 and key not in self._matched:
                self._matched[key] = next(iter(persons.values()))
        since = self._freshness.misses_since
        fresh_misses = {
            key: one
            for key, one in self._missed.items()
            if since is None or (one.at is not None and one.at >= since)
        }
        result: dict[bytes, Known] = {**fresh_misses, **self._open}
        for key, contact in self._matched.items():
            newer = result.get(key)
            if not contact.is_stale or newer is None:
                result[key] = contact
            elif newer.standing == "missed" and newer.request_id > contact.request_id:
                # Asked again when it was old, and not found: the old contact is the best there is.
                result[key] = Known(
                    "matched", contact.request_id, contact.run, contact.at, contact.position,
                    contact.is_alias,
                )  # fmt: skip
            elif newer.standing == "missed":
                result[key] = contact
        return result


def pack_fields(names: Iterable[str]) -> int:
    """A set of required-field names as bits."""
    return sum(1 << REQUIRED_FIELDS.index(name) for name in set(names))


def _default(state: str) -> int:
    return UNREADABLE if state == "unreadable" else IN_DOUBT


def _outcomes_of(packed: bytes | None, asked: int, default: int) -> npt.NDArray[Any]:
    if packed is not None:
        return np.frombuffer(packed, dtype=_OUTCOME)
    outcomes = np.zeros(asked, dtype=_OUTCOME)
    outcomes["position"] = default
    return outcomes


def _unpack_keys(packed: bytes) -> tuple[bytes, ...]:
    return tuple(packed[at : at + 16] for at in range(0, len(packed), 16))


def _within_database(count: int | None) -> int | None:
    return None if count is None else max(-(2**31), min(count, 2**31 - 1))


def _database_url(where: str | os.PathLike[str]) -> sa.URL:
    text = os.fspath(where)
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = sa.make_url(text)
    except ArgumentError:
        raise LedgerError("the ledger is neither a path nor a database URL") from None
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return sa.URL.create("sqlite", database=str(Path(url.database).absolute()))
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise LedgerError("the ledger must be a file, or a SQLite or PostgreSQL URL")


def _is_sqlite(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _create_private(path: Path) -> None:
    """Create the file readable by its owner only; SQLite gives its side files the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        if not os.access(path, os.R_OK | os.W_OK) or path.is_dir():
            raise PermissionError
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise LedgerError(f"the ledger can be read by others: chmod 600 {path.name}")
    except OSError:
        raise LedgerError(f"the ledger {path.name} cannot be written there") from None


def _connect(url: sa.URL) -> sa.Engine:
    try:
        if not _is_sqlite(url):
            engine = sa.create_engine(url, hide_parameters=True, pool_size=1, max_overflow=0)
            event.listen(engine, "connect", _check_postgresql)
            return engine
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            poolclass=sa.StaticPool,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
    except ImportError:
        raise LedgerError('a PostgreSQL ledger needs psycopg: pip install "eb-dagster[postgresql]"') from None
    event.listen(engine, "connect", _prepare_sqlite)
    # Take the write lock at once: a lock that is upgraded later can fail half-way.
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA page_size = 16384")
    journal = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    cursor.execute("PRAGMA synchronous = FULL")
    synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
    cursor.close()
    if journal != "wal" or synchronous != 2:
        raise LedgerError("SQLite would not promise to keep what is written (WAL, FULL)")


def _check_postgresql(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SHOW synchronous_commit")
    promised = cursor.fetchone()[0] not in ("off", "local")
    cursor.close()
    connection.commit()
    if not promised:
        raise LedgerError("PostgreSQL runs with synchronous_commit=off: it may forget a purchase")


def _read_or_create_meta(connection: sa.Connection) -> tuple[str, bytes]:
    stored = {row.name: bytes(row.value) for row in connection.execute(sa.select(_meta))}
    if not stored:
        stored = {
            "schema_version": str(SCHEMA_VERSION).encode(),
            "id": uuid.uuid4().hex.encode(),
            "secret": os.urandom(32),
        }
        connection.execute(
            sa.insert(_meta), [{"name": name, "value": value} for name, value in stored.items()]
        )
    version = int(stored["schema_version"])
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema version {version}, this release knows {SCHEMA_VERSION}: upgrade"
        )
    return stored["id"].decode(), stored["secret"]


class _Owner:
    """Tells whether the process behind a claim still lives, by a lock that dies with it.

    A lock, not a time-out: a process that was stopped for an hour and goes on still owns its claims.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @staticmethod
    def of(path: Path | None, engine: sa.Engine) -> _Owner:
        name = uuid.uuid4().hex
        return _FileOwner(name, path) if path is not None else _DatabaseOwner(name, engine)

    def is_gone(self, owner: str) -> bool:
        raise NotImplementedError

    def leave(self) -> None:
        raise NotImplementedError


class _FileOwner(_Owner):
    def __init__(self, name: str, ledger: Path) -> None:
        super().__init__(name)
        self._folder = ledger.with_name(ledger.name + "-owners")
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._mine = self._lock_of(name)
        self._mine.acquire(timeout=0)

    def _lock_of(self, owner: str) -> filelock.BaseFileLock:
        path = self._folder / f"{owner}.lock"
        return filelock.FileLock(path, mode=0o600, thread_local=False)

    def is_gone(self, owner: str) -> bool:
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
        path.unlink(missing_ok=True)
        return True

    def leave(self) -> None:
        (self._folder / f"{self.name}.lock").unlink(missing_ok=True)
        self._mine.release()


class _DatabaseOwner(_Owner):
    """A session lock in PostgreSQL, on a connection of its own."""

    def __init__(self, name: str, engine: sa.Engine) -> None:
        super().__init__(name)
        self._engine = sa.create_engine(
            engine.url, hide_parameters=True, poolclass=sa.StaticPool, isolation_level="AUTOCOMMIT"
        )
        self._lock = threading.Lock()
        self._connection = self._engine.connect()
        self._ask("SELECT pg_advisory_lock(:number)", name)

    def _ask(self, statement: str, owner: str) -> Any:
        with self._lock:
            number = int(owner[:15], 16)
            return self._connection.execute(sa.text(statement), {"number": number}).scalar()

    def is_gone(self, owner: str) -> bool:
        if owner == self.name:
            return False
        if not self._ask("SELECT pg_try_advisory_lock(:number)", owner):
            return False
        self._ask("SELECT pg_advisory_unlock(:number)", owner)
        return True

    def leave(self) -> None:
        self._connection.close()
        self._engine.dispose()

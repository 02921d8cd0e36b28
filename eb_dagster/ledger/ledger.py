"""What was asked, what was answered, what it cost. Durable, and the coordinator of all processes.

One row a request, its identifiers packed (see `packed`); the raw reply stands beside it in a table
of its own. Each change of state is one committed transaction:

    INTENT ─► free (not sent, 429)     its questions may be asked again
           ─► refused                  likewise
           ─► in_doubt ─► answered late, or resolved by decision; never by a timer
           ─► answered (raw reply durable) ─► applied | unreadable (raw kept, read again later)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import exc

from eb_dagster.api.envelope import IN_DOUBT, UNREADABLE
from eb_dagster.errors import ConfigError, LedgerError
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from eb_dagster.ledger import connection as database
from eb_dagster.ledger.connection import damaged
from eb_dagster.ledger.encryption import OLD_VARIABLE, SEALED, VARIABLE, Vault
from eb_dagster.ledger.entries import (
    ALIAS,
    DECIDED,
    KEY_BYTES,
    RESENT,
    Wanted,
    checksum,
    unpack_keys,
    unpack_outcomes,
)
from eb_dagster.ledger.lookup import AT_ANY_AGE, IN_FLIGHT_STATES, Findings, Freshness, Known, KnownKeys
from eb_dagster.ledger.process_locks import DatabaseOwner, FileOwner, Owner

REPLY_PATIENCE: Final = 600.0
"""Seconds for which a reply that was paid for waits for a database that cannot take it."""

FARTHEST_BEHIND: Final = 86_400.0
"""Seconds that a clock may be behind the newest request for anything to be bought."""

_UNSENT_STATES: Final = ("free", "refused")
_STATES: Final = frozenset({
    *IN_FLIGHT_STATES, *_UNSENT_STATES, "in_doubt", "applied", "unreadable", "resolved", "purged",
})  # fmt: skip

_requests, _replies, _meta = database.requests, database.replies, database.meta
_pacer, _suppressed, _published = database.pacer, database.suppressed, database.published
_rejected = database.rejected

# What each request takes part in, made once: making a statement takes longer than carrying it out.
_of_request = _requests.c.id == sa.bindparam("request")
_at_endpoint = _requests.c.endpoint == sa.bindparam("endpoint")
_REQUESTS_AFTER: Final = (
    sa.select(
        _requests.c.id,
        _requests.c.endpoint,
        _requests.c.run,
        _requests.c.state,
        _requests.c.required,
        _requests.c.answered_at,
        _requests.c.keys_checksum,
        _requests.c.outcomes_checksum,
        _requests.c.asked_keys,
        _requests.c.outcomes,
        _requests.c.aliases,
    )
    .where(_requests.c.id > sa.bindparam("after"))
    .order_by(_requests.c.id)
)
_REPLIES: Final = (
    sa.select(
        _requests.c.id,
        _requests.c.run,
        _requests.c.asked_keys,
        _requests.c.answered_at,
        _replies.c.encoding,
        _replies.c.complete,
        _replies.c.checksum,
        _replies.c.body,
    )
    .join(_replies, _replies.c.request_id == _requests.c.id)
    .where(_requests.c.id.in_(sa.bindparam("requests", expanding=True)))
)
_REPLIES_AT_ONCE: Final = 8
_INTEND: Final = sa.insert(_requests)
_REQUEST: Final = sa.select(
    _requests.c.state,
    _requests.c.asked,
    _requests.c.asked_keys,
    _requests.c.run,
    _requests.c.endpoint,
    _requests.c.required,
).where(_of_request)
_CHANGE: Final = sa.update(_requests).where(_of_request)
_MOVE: Final = _CHANGE.where(_requests.c.state.in_(sa.bindparam("before", expanding=True)))
_DOUBT: Final = _MOVE.values(at_risk=_requests.c.asked)
_STORED: Final = sa.select(_replies.c.request_id).where(_replies.c.request_id == sa.bindparam("request"))
_STORE: Final = sa.insert(_replies)
# What is in flight, in doubt or unreadable may have been paid for: it counts as spent.
_used = sa.select(
    sa.func.coalesce(sa.func.sum(_requests.c.credits + _requests.c.at_risk + _requests.c.unreadable), 0)
)
_USED_BY_RUN: Final = _used.where(_requests.c.run == sa.bindparam("run"))
_USED_SINCE: Final = _used.where(_at_endpoint, _requests.c.created_at >= sa.bindparam("start"))
_AT_RISK: Final = sa.select(sa.func.coalesce(sa.func.sum(_requests.c.at_risk), 0)).where(
    _at_endpoint, _requests.c.at_risk > 0
)
_CAPS: Final = sa.select(_meta).where(_meta.c.name.in_(["credits_per_day", "credits_per_month"]))
_SUPPRESSION: Final = "suppression_version"
_SUPPRESSION_VERSION: Final = sa.select(_meta.c.value).where(_meta.c.name == _SUPPRESSION)
_IS_THERE: Final = sa.select(_requests.c.id).where(_of_request)
_LAST_MOMENT: Final = sa.select(_requests.c.created_at).order_by(_requests.c.id.desc()).limit(1)
_APPLIED: Final = sa.select(
    _requests.c.state, _requests.c.asked, _requests.c.credits, _requests.c.outcomes
).where(_of_request)
# What the replies are sealed with now, by its mark; and by that of each key before, the last request that may be.
_KEY: Final = "encryption_key"
_OLD_KEY: Final = "old_key_"
_KEY_MARK: Final = sa.select(_meta.c.value).where(_meta.c.name == _KEY)
_NEXT_SLOT: Final = sa.select(_pacer.c.next_at, _pacer.c.decided_at).where(
    _pacer.c.endpoint == sa.bindparam("endpoint")
)
# Not "endpoint": an update has that name for the column that it sets.
_TAKE_SLOT: Final = sa.update(_pacer).where(_pacer.c.endpoint == sa.bindparam("at_endpoint"))

Short = Literal["credits", "day", "month", "risk"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a claim must stay inside of, in credits. None: no such limit.

    `max_credits` is of one run, the others are of all runs at one address. Days and months are those of UTC.
    """

    max_credits: int | None
    max_credits_at_risk: int
    max_credits_per_day: int | None = None
    max_credits_per_month: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """How many identifiers may still be asked, and which limit says so."""

    credits: int
    short_of: Short


@dataclass(frozen=True, slots=True)
class Claim:
    """The outcome of asking to ask. `granted` counts the first of the keys; 0 without a request."""

    request_id: int | None
    granted: int
    known: Mapping[bytes, Known]
    short_of: Short | None = None
    room: int = 0
    """How many more identifiers could have been asked."""
    is_outdated: bool = False
    """The suppression list has changed: look at it again, then claim again."""


@dataclass(frozen=True, slots=True)
class SuppressionList:
    """Who must never be sent or handed out, by keyed hash. Each change has a higher version."""

    version: int
    keys: frozenset[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Withheld:
    """What is kept of a reply in which suppressed people are: everything but them."""

    asked_keys: bytes = field(repr=False)
    body: bytes = field(repr=False)
    encoding: str
    complete: bool
    identifiers: Collection[Identifier] = field(repr=False)
    """By which they were asked: these are suppressed as well, so that they are not bought again."""


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A raw reply as it came, with the keys of what had been asked."""

    request_id: int
    run: str
    asked_keys: bytes = field(repr=False)
    answered_at: float
    encoding: str
    complete: bool
    body: bytes = field(repr=False)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys one by one, in the order of asking."""
        return unpack_keys(self.asked_keys)


@dataclass(frozen=True, slots=True)
class Spending:
    """Totals in credits, of a run or of a whole endpoint."""

    credits: int
    in_flight: int
    in_doubt: int
    unreadable: int

    @property
    def at_risk(self) -> int:
        """Credits that may have been spent without an answer."""
        return self.in_flight + self.in_doubt


class Unavailable(LedgerError):
    """The database did not answer; it may do so later."""


class Ledger:
    """The one database that every process with the same ledger shares. Safe to use from threads."""

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        endpoint: str,
        clock: Callable[[], float] = time.time,
        must_exist: bool = False,
    ) -> None:
        self._lock, self._reading = threading.RLock(), threading.RLock()
        self._process = os.getpid()
        self._closed = False
        self._hurry = threading.Event()
        self._hashers: dict[tuple[str, str], Callable[[str], bytes]] = {}
        self._clock = clock
        self.endpoint = endpoint
        self._vault = Vault.from_environment()
        self._suppressed: SuppressionList | None = None
        url = database.database_url(where)
        self.file = database.file_of(url)
        if must_exist and self.file is not None and not self.file.exists():
            raise LedgerError(
                f"there is no ledger {self.file.name} there yet: the first enrichment makes it. If you have bought "
                "before, name that ledger: an empty one would pay for everything again"
            )
        self._engine = database.connect(url)
        try:
            with _whole("the table `meta`"), self.transaction() as connection:
                self.id, self._secret = database.prepare(connection)
                if not must_exist:
                    self._take_key(connection)
            self._owner = self._new_owner(url)
        except BaseException:
            self._engine.dispose()
            raise
        try:
            self.recover()
        except BaseException:
            self.close()
            raise

    def _new_owner(self, url: sa.URL) -> Owner:
        try:
            return FileOwner(self.file) if self.file is not None else DatabaseOwner(url)
        except (OSError, exc.SQLAlchemyError) as error:
            raise LedgerError(
                f"the ledger cannot note who claims ({type(error).__name__}); check that its folder can be written"
            ) from None

    def close(self) -> None:
        """Let go of the database. What this process had in flight is in doubt from here on."""
        if self.is_forked:
            # The lock and the connections are the parent's.
            self._closed = True
            self._engine.dispose(close=False)
            return
        with self._lock, self._reading:
            if not self._closed:
                self._closed = True
                self._owner.leave()
                self._engine.dispose()

    def hurry(self) -> None:
        """Wait no longer for a database that cannot take a reply: the user wants to stop now."""
        self._hurry.set()

    def endpoints(self) -> list[str]:
        """Every address that was asked."""
        with self.reading() as connection:
            query = sa.select(_requests.c.endpoint).distinct().order_by(_requests.c.endpoint)
            return list(connection.execute(query).scalars())

    @contextlib.contextmanager
    def at(self, endpoint: str) -> Generator[None]:
        """Speak of another endpoint for a while. Not for a ledger that is buying."""
        before, self.endpoint = self.endpoint, endpoint
        try:
            yield
        finally:
            self.endpoint = before

    def key(self, identifier: Identifier) -> bytes:
        """The identifier's keyed hash at this endpoint: a sandbox's answer is never a real one."""
        return self.hasher(identifier.field_type)(identifier.value)

    def key_at(self, endpoint: str, identifier: Identifier) -> bytes:
        """The identifier's keyed hash at an endpoint; "" stands for all of them."""
        return self.hasher(identifier.field_type, endpoint=endpoint)(identifier.value)

    def keys(self, identifiers: Iterable[Identifier]) -> list[bytes]:
        """The key of each identifier."""
        hashers: dict[str, Callable[[str], bytes]] = {kind: self.hasher(kind) for kind in FIELD_TYPES}
        return [hashers[one.field_type](one.value) for one in identifiers]

    def keys_of(self, field_type: FieldType, values: Iterable[str]) -> list[bytes]:
        """The keys of values of one kind."""
        hash_of = self.hasher(field_type)
        return [hash_of(value) for value in values]

    def keys_of_echo(self, echo: str, field_types: Iterable[FieldType]) -> list[bytes]:
        """The keys under which an echoed value, taken literally, may have been asked."""
        return [self.hasher(kind)(echo) for kind in field_types]

    def hasher(
        self, field_type: FieldType | Literal["name"], *, endpoint: str | None = None
    ) -> Callable[[str], bytes]:
        """What makes keys of values of one kind: the keyed hash of endpoint, kind and value, NUL between.

        Of the value, its key form: all spellings of one mailbox or profile have one key.
        """
        place = (self.endpoint if endpoint is None else endpoint, field_type)
        if place not in self._hashers:
            start = f"{place[0]}\0{field_type}\0".encode("utf-8", "surrogatepass")
            # What it begins with is hashed once: that is half of the work.
            begun = blake2b(start, key=self._secret, digest_size=KEY_BYTES)
            key_form = _as_it_is if field_type == "name" else KINDS[field_type].key_form

            def hash_of(value: str) -> bytes:
                one = begun.copy()
                one.update(key_form(value).encode("utf-8", "surrogatepass"))
                return one.digest()

            self._hashers[place] = hash_of
        return self._hashers[place]

    # Looking up

    def lookup(
        self,
        keys: Sequence[bytes],
        *,
        required: int,
        alias_keys: Sequence[bytes] = (),
        freshness: Freshness = AT_ANY_AGE,
        after: int = 0,
    ) -> tuple[KnownKeys, int]:
        """What requests after that one tell of `keys`, and the id of the newest that was looked at.

        A key in `alias_keys` may also be answered by a contact in which it was found.
        """
        with _whole("the table `requests`"), self.reading() as connection:
            return self._lookup(connection, keys, required, alias_keys, freshness, after=after)

    def _lookup(
        self,
        connection: sa.Connection,
        keys: Sequence[bytes],
        required: int,
        alias_keys: Sequence[bytes],
        freshness: Freshness,
        *,
        after: int,
    ) -> tuple[KnownKeys, int]:
        newest = after
        if after and connection.execute(_IS_THERE, {"request": after}).scalar() is None:
            # An older copy, put in place of what was read before.
            raise damaged(f"request {after}")
        with Findings(keys, alias_keys=alias_keys, required=required, freshness=freshness) as findings:
            rows = connection.execute(_REQUESTS_AFTER, {"after": after}, execution_options={"yield_per": 16})
            for row in rows:
                # Each row is looked at, of whatever endpoint and state, so that none goes missing:
                # SQLite gives ids without gaps.
                if self.file is not None and row.id != newest + 1:
                    raise damaged(f"request {newest + 1}")
                newest = row.id
                known = database.keys_checksum(row.id, row.endpoint, row.required, row.asked_keys)
                if known != row.keys_checksum or row.state not in _STATES:
                    raise damaged(f"request {row.id}")
                if row.endpoint == self.endpoint and row.state not in _UNSENT_STATES:
                    findings.read(row)
            if self.file is not None and newest < self._newest_ever(connection):
                raise damaged(f"request {newest + 1}")
            return findings.known(), newest

    @staticmethod
    def _newest_ever(connection: sa.Connection) -> int:
        # SQLite keeps count of the ids that it gave.
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'requests'"
        return int(connection.exec_driver_sql(query).scalar() or 0)

    def contacts_with(self, keys: Sequence[bytes], *, after: int = 0) -> dict[bytes, set[tuple[int, int]]]:
        """In which contacts each key stands or was asked for: request and position, of requests after that one."""
        wanted = Wanted(keys)
        found: dict[bytes, set[tuple[int, int]]] = {key: set() for key in keys}
        column = _requests.c
        query = sa.select(column.id, column.asked, column.asked_keys, column.outcomes, column.aliases).where(
            column.id > after, column.endpoint == self.endpoint, column.outcomes.is_not(None)
        )
        with _whole("the table `requests`"), self.reading() as connection:
            for row in connection.execute(query, execution_options={"yield_per": 16}):
                outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)
                aliases = np.frombuffer(row.aliases or b"", dtype=ALIAS)
                for at, which in zip(*wanted.find(row.asked_keys), strict=True):
                    if (position := int(outcomes["position"][at])) >= 0:
                        found[keys[which]].add((row.id, position))
                for at, which in zip(*wanted.find(row.aliases or b"", size=ALIAS.itemsize), strict=True):
                    found[keys[which]].add((row.id, int(aliases["position"][at])))
        return found

    def suppression_list(self) -> SuppressionList:
        """Who is suppressed now. Read anew only if it has changed."""
        with self.reading() as connection:
            version = self._suppression_version(connection)
            if self._suppressed is None or version != self._suppressed.version:
                keys = connection.execute(sa.select(_suppressed.c.key)).scalars()
                self._suppressed = SuppressionList(version, frozenset(bytes(key) for key in keys))
            return self._suppressed

    @staticmethod
    def _suppression_version(connection: sa.Connection) -> int:
        return int(connection.execute(_SUPPRESSION_VERSION).scalar() or b"0")

    def suppressed(
        self, identifiers: Iterable[Identifier], *, among: SuppressionList | None = None
    ) -> set[Identifier]:
        """Those of `identifiers` that must never be sent or handed out, by the list now or the one given."""
        keys = (self.suppression_list() if among is None else among).keys
        return {one for one in identifiers if self.key_at("", one) in keys} if keys else set()

    def suppress(self, identifiers: Iterable[Identifier]) -> int:
        """Keep these people from ever being sent. Returns how many were not on the list before."""
        with self.transaction() as connection:
            return self._suppress(connection, identifiers)

    def _suppress(self, connection: sa.Connection, identifiers: Iterable[Identifier]) -> int:
        keys = {self.key_at("", one) for one in identifiers}
        present = {bytes(key) for key in connection.execute(sa.select(_suppressed.c.key)).scalars()}
        rows = [{"key": key, "at": self._clock()} for key in sorted(keys - present)]
        if rows:
            connection.execute(sa.insert(_suppressed), rows)
            self._count_suppression(connection)
        return len(rows)

    def unsuppress(self, identifiers: Iterable[Identifier]) -> int:
        """Take identifiers off the suppression list. Returns how many were on it."""
        keys = sorted({self.key_at("", one) for one in identifiers})
        with self.transaction() as connection:
            gone = sum(
                connection.execute(sa.delete(_suppressed).where(_suppressed.c.key == key)).rowcount
                for key in keys
            )
            if gone:
                self._count_suppression(connection)
        return gone

    def _count_suppression(self, connection: sa.Connection) -> None:
        version = self._suppression_version(connection) + 1
        connection.execute(sa.delete(_meta).where(_meta.c.name == _SUPPRESSION))
        connection.execute(sa.insert(_meta).values(name=_SUPPRESSION, value=str(version).encode()))

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
        freshness: Freshness = AT_ANY_AGE,
        resend: bool = False,
        list_version: int | None = None,
        accept_clock: bool = False,
    ) -> Claim:
        """Make the intent to ask durable, for as many of `keys` as the limits leave room for.

        In the same transaction, look once more at what others learned after request `seen`.
        If anything did come in, nothing is claimed and `known` says what. With `resend`, what another
        run left in doubt may be claimed, too. `list_version` is of the suppression list by which nobody
        among the keys is suppressed: with another one, nothing is claimed either. Raises `ConfigError` on a
        clock that is far behind what the ledger has seen, unless it is accepted.
        """
        with self._translated():
            self._owner.hold()
        with _whole("the table `requests`"), self.transaction() as connection:
            database.check_files(connection)
            self._check_key(connection)
            if not accept_clock:
                self._check_clock(connection)
            if list_version not in (None, self._suppression_version(connection)):
                return Claim(None, 0, {}, is_outdated=True)
            known, _ = self._lookup(connection, keys, required, alias_keys, freshness, after=seen)
            told = zip(keys, known.of(keys), strict=True)
            news = {key: one for key, one in told if one is not None and not one.is_stale}
            if resend:
                news = {key: one for key, one in news.items() if one.standing != "in_doubt" or one.run == run}
            if news:
                return Claim(None, 0, news)
            room = self._room(connection, run=run, limits=limits)
            granted = min(len(keys), room.credits)
            if granted <= 0:
                return Claim(None, 0, {}, room.short_of)
            if resend:
                self._mark_resent(connection, keys[:granted], required)
            packed = b"".join(keys[:granted])
            intent = {
                "endpoint": self.endpoint,
                "run": run,
                "owner": self._owner.name,
                "state": "intent",
                "required": required,
                "asked": granted,
                "at_risk": granted,
                "created_at": self._clock(),
                "outcomes_checksum": checksum(None),
                "asked_keys": packed,
            }
            inserted = connection.execute(_INTEND, intent).inserted_primary_key
            request_id = cast("tuple[int]", inserted)[0]
            mark = database.keys_checksum(request_id, self.endpoint, required, packed)
            connection.execute(_CHANGE, {"request": request_id, "keys_checksum": mark})
        return Claim(request_id, granted, {}, room=room.credits - granted)

    def release(self, request_id: int, *, state: Literal["free", "refused"], note: str) -> None:
        """The request cost nothing: its questions may be asked again."""
        self._move(request_id, {"intent", "in_doubt"}, state=state, at_risk=0, note=note[:200])

    def doubt(self, request_id: int, *, http_status: int | None, note: str) -> None:
        """The request may have been paid for, and there is no answer."""
        self._move(
            request_id, {"intent", "in_doubt"}, statement=_DOUBT, state="in_doubt", http_status=http_status,
            note=note[:200],
        )  # fmt: skip

    def record(
        self, request_id: int, *, http_status: int, encoding: str, complete: bool, body: bytes
    ) -> StoredReply:
        """Make a raw reply durable, before anything looks into it. A late one is welcome too.

        It was paid for, so a database that cannot take it is asked again for `REPLY_PATIENCE`.
        """
        reply = self._patiently(
            lambda: self._record(
                request_id, http_status, *self._vault.seal(body, encoding[:100]), complete=complete
            )
        )
        return replace(reply, body=body, encoding=encoding)

    def _record(
        self, request_id: int, http_status: int, body: bytes, encoding: str, *, complete: bool
    ) -> StoredReply:
        at = self._clock()
        with self.transaction() as connection:
            row = connection.execute(_REQUEST, {"request": request_id}).one()
            is_stored = connection.execute(_STORED, {"request": request_id}).scalar()
            if is_stored is None and row.state in ("intent", "in_doubt", "resolved"):
                reply = {
                    "request_id": request_id,
                    "encoding": encoding,
                    "complete": complete,
                    "body": body,
                    "checksum": database.reply_checksum(encoding, body, complete=complete),
                }
                connection.execute(_STORE, reply)
                answered = {
                    # What a person decided without it stands no longer.
                    "outcomes": None,
                    "outcomes_checksum": checksum(None),
                    "state": "answered",
                    "answered_at": at,
                    "http_status": http_status,
                    "at_risk": row.asked,
                    "credits": 0,
                }
                connection.execute(_CHANGE, {"request": request_id, **answered})
            elif row.state != "answered":
                # Answered: the same reply, whose commit was not confirmed the first time.
                raise LedgerError(
                    f"request {request_id} was answered before; look at it with `eb-dagster ledger show`",
                    spent="Nothing was changed",
                )
        return StoredReply(request_id, row.run, row.asked_keys, at, encoding, complete, body)

    def apply(
        self,
        request_id: int,
        *,
        outcomes: npt.NDArray[Any],
        aliases: npt.NDArray[Any],
        records_enriched: int | None,
        credits: int | None = None,  # noqa: A002 - the field's word
        withheld: Withheld | None = None,
        list_version: int | None = None,
    ) -> bool:
        """Note what a stored reply says about each question, in the order they were asked.

        `outcomes` is an array of `OUTCOME`, `aliases` one of `ALIAS`. `credits` is how many contacts
        were charged, if some of them are `withheld`, which replaces the reply. False if the suppression
        list has another version than `list_version`; then nothing is noted. A power cut may undo it, and
        then `unapplied` gives the reply once more.
        """
        bought = _count_found(outcomes) if credits is None else credits
        return self._patiently(
            lambda: self._apply(
                request_id, outcomes, aliases, bought=bought, records_enriched=records_enriched,
                withheld=withheld, list_version=list_version,
            )
        )  # fmt: skip

    def _apply(
        self,
        request_id: int,
        outcomes: npt.NDArray[Any],
        aliases: npt.NDArray[Any],
        *,
        bought: int,
        records_enriched: int | None,
        withheld: Withheld | None,
        list_version: int | None,
    ) -> bool:
        # Who is withheld must not come back in a power cut.
        with self.transaction(is_durable=withheld is not None) as connection:
            if list_version not in (None, self._suppression_version(connection)):
                return False
            row = connection.execute(_APPLIED, {"request": request_id}).one_or_none()
            if row is None or row.state not in ("answered", "unreadable", "applied"):
                raise _wrong_state(request_id)
            booked = bought - _count_found(outcomes)
            if row.outcomes is not None:
                # Read once more: what was decided meanwhile stands, and so does what was booked for it.
                before = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)
                outcomes = np.where(np.isin(before["position"], DECIDED), before, outcomes)
                aliases = aliases[np.isin(aliases["position"], outcomes["position"])]
                booked += row.credits - _count_found(before)
            aliases = self._without_rejected(connection, aliases)
            others = {} if withheld is None else self._withhold(connection, request_id, withheld)
            unreadable = int((outcomes["position"] == UNREADABLE).sum())
            self.rewrite_outcomes(
                connection, request_id, outcomes, aliases=aliases.tobytes(),
                state="unreadable" if unreadable == len(outcomes) else "applied",
                credits=booked + _count_found(outcomes), unreadable=unreadable,
                records_enriched=_within_database(records_enriched), **others,
            )  # fmt: skip
        return True

    @staticmethod
    def _without_rejected(connection: sa.Connection, aliases: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Leave out whom a person has said that they are not."""
        rejected = {(bytes(row.key), row.person) for row in connection.execute(sa.select(_rejected))}
        if not rejected:
            return aliases
        stays = [(one["key"].tobytes(), int(one["person"])) not in rejected for one in aliases]
        return aliases[np.array(stays, dtype=np.bool_)]

    def _withhold(self, connection: sa.Connection, request_id: int, withheld: Withheld) -> dict[str, Any]:
        """Put the reply without these people in the place of the one that came. Returns what else changes."""
        row = connection.execute(_REQUEST, {"request": request_id}).one()
        mark = database.keys_checksum(request_id, row.endpoint, row.required, withheld.asked_keys)
        self.rewrite_reply(
            connection, request_id, body=withheld.body, encoding=withheld.encoding, complete=withheld.complete
        )
        self._suppress(connection, withheld.identifiers)
        return {"asked_keys": withheld.asked_keys, "keys_checksum": mark}

    def unapplied(self) -> list[StoredReply]:
        """Replies that were stored by a process that ended before it read them."""
        with self.reading() as connection:
            ids = connection.execute(
                sa.select(_requests.c.id, _requests.c.owner)
                .where(_requests.c.endpoint == self.endpoint, _requests.c.state == "answered")
                .order_by(_requests.c.id)
            ).all()
        with self._translated():
            orphaned = [row.id for row in ids if self._owner.is_gone(row.owner)]
        return list(self.replies(orphaned))

    def replies(self, request_ids: Iterable[int]) -> Iterator[StoredReply]:
        """The stored replies of these requests, some of which are held at a time."""
        wanted = iter(request_ids)
        while some := list(islice(wanted, _REPLIES_AT_ONCE)):
            named = ", ".join(map(str, some))
            what = f"request {named}" if len(some) == 1 else f"one of the requests {named}"
            with _whole(what), self.reading() as connection:
                rows = {row.id: row for row in connection.execute(_REPLIES, {"requests": some})}
            for request_id in some:
                yield self._opened(request_id, rows.get(request_id))

    def _opened(self, request_id: int, row: Any) -> StoredReply:
        if row is None:
            with self.reading() as connection:
                there = connection.execute(_REQUEST, {"request": request_id}).one_or_none()
            if there is not None and there.state == "purged":
                raise LedgerError(
                    f"the contacts of request {request_id} were dropped by a purge while this run was using them. "
                    "Run again: who was in them is then as if never asked"
                )
            raise LedgerError(
                f"the reply of request {request_id} is gone from the ledger; restore it from a backup"
            )
        if database.reply_checksum(row.encoding, row.body, complete=row.complete) != row.checksum:
            raise damaged(f"the reply of request {request_id}")
        body, encoding = self._vault.unseal(bytes(row.body), row.encoding)
        return StoredReply(request_id, row.run, row.asked_keys, row.answered_at, encoding, row.complete, body)

    def can_open(self, body: bytes, encoding: str) -> bool:
        """Whether a stored reply is not sealed, or with a key that is given."""
        try:
            self._vault.unseal(bytes(body), encoding)
        except LedgerError:
            return False
        return True

    def rewrite_reply(
        self, connection: sa.Connection, request_id: int, *, body: bytes, encoding: str, complete: bool
    ) -> None:
        """Replace a stored reply."""
        self._check_key(connection)
        sealed, name = self._vault.seal(body, encoding)
        connection.execute(
            sa.update(_replies)
            .where(_replies.c.request_id == request_id)
            .values(
                body=sealed,
                encoding=name,
                complete=complete,
                checksum=database.reply_checksum(name, sealed, complete=complete),
            )
        )

    def recover(self) -> int:
        """Put what processes that are gone had in flight in doubt. Returns how many requests."""
        with self.reading() as connection:
            waiting = connection.execute(
                sa.select(_requests.c.owner).where(_requests.c.state == "intent").distinct()
            ).scalars()
            gone = [owner for owner in waiting if self._owner.is_gone(owner)]
        if not gone:
            return 0
        with self.transaction() as connection:
            return connection.execute(
                sa.update(_requests)
                .where(_requests.c.state == "intent", _requests.c.owner.in_(gone))
                .values(state="in_doubt", at_risk=_requests.c.asked, note="its process ended")
            ).rowcount

    def end_run(self, run: str) -> None:
        """Nothing of this run is under way any more: what it still had in flight is in doubt.

        Else this process would hold it for as long as it lives, and whoever asks for it would wait. What a
        run bought is in a SQLite ledger's own file from here on, and not in its log alone.
        """
        self._end_run(run)
        if self.file is not None:
            with self._lock, self._translated():
                self._checkpoint("PASSIVE")

    def _end_run(self, run: str) -> None:
        mine = (_requests.c.run == run, _requests.c.state == "intent")
        with self.reading() as connection:
            if connection.execute(sa.select(_requests.c.id).where(*mine).limit(1)).scalar() is None:
                return
        with self.transaction() as connection:
            connection.execute(
                sa.update(_requests)
                .where(*mine)
                .values(state="in_doubt", at_risk=_requests.c.asked, note="its run ended")
            )

    # Money

    def spending(self, *, run: str | None = None) -> Spending:
        """What this endpoint cost so far, or one run of it."""
        column = _requests.c
        flying = sa.case((column.state.in_(IN_FLIGHT_STATES), column.at_risk), else_=0)
        sums = [sa.func.coalesce(sa.func.sum(one), 0) for one in (column.credits, column.unreadable)]
        risks = [sa.func.coalesce(sa.func.sum(one), 0) for one in (flying, column.at_risk)]
        mine = column.endpoint == self.endpoint if run is None else column.run == run
        with self.reading() as connection:
            spent, unreadable = map(int, connection.execute(sa.select(*sums).where(mine)).one())
            risky = sa.select(*risks).where(mine, column.at_risk > 0)
            in_flight, at_risk = map(int, connection.execute(risky).one())
        return Spending(spent, in_flight, at_risk - in_flight, unreadable)

    def room(self, *, run: str, limits: Limits) -> Room:
        """How many identifiers may be asked now."""
        with self.reading() as connection:
            return self._room(connection, run=run, limits=limits)

    def left_by_caps(self, *, limits: Limits) -> dict[Short, int]:
        """Credits that the caps on a "day" and a "month" leave, of those that are set."""
        with self.reading() as connection:
            rooms = self._rooms(connection, run="", limits=limits)
        return {room.short_of: max(0, room.credits) for room in rooms if room.short_of in ("day", "month")}

    def _room(self, connection: sa.Connection, *, run: str, limits: Limits) -> Room:
        return min(self._rooms(connection, run=run, limits=limits), key=lambda room: room.credits)

    def _rooms(self, connection: sa.Connection, *, run: str, limits: Limits) -> list[Room]:
        def left(most: int, query: sa.Select[Any], **chosen: Any) -> int:
            return most - int(connection.execute(query, chosen).scalar() or 0)

        rooms = [Room(left(limits.max_credits_at_risk, _AT_RISK, endpoint=self.endpoint), "risk")]
        if limits.max_credits is not None:
            rooms.append(Room(left(limits.max_credits, _USED_BY_RUN, run=run), "credits"))
        caps = self._caps(connection)
        day, month = _day_and_month(self._clock())
        for most, chosen, start, name in (
            (caps["day"], limits.max_credits_per_day, day, "day"),
            (caps["month"], limits.max_credits_per_month, month, "month"),
        ):
            cap = min((one for one in (most, chosen) if one is not None), default=None)
            if cap is not None:
                room = left(cap, _USED_SINCE, endpoint=self.endpoint, start=start)
                rooms.append(Room(room, cast("Short", name)))
        return rooms

    def caps(self) -> dict[str, int | None]:
        """The ledger's own caps in credits, by "day" and "month"; None for none."""
        with self.reading() as connection:
            return self._caps(connection)

    def _caps(self, connection: sa.Connection) -> dict[str, int | None]:
        stored = {row.name: int(row.value) for row in connection.execute(_CAPS)}
        return {"day": stored.get("credits_per_day"), "month": stored.get("credits_per_month")}

    def set_cap(self, period: Literal["day", "month"], most: int | None) -> None:
        """Cap what all runs on this ledger may spend in a day or month of UTC; None lifts the cap."""
        name = f"credits_per_{period}"
        with self.transaction() as connection:
            connection.execute(sa.delete(_meta).where(_meta.c.name == name))
            if most is not None:
                connection.execute(sa.insert(_meta).values(name=name, value=str(most).encode()))

    def last_request(self) -> int:
        """The id of the newest request: how far this ledger remembers."""
        with self.reading() as connection:
            return _newest(connection)

    def last_moment(self) -> float | None:
        """When the newest request was made, in seconds since the epoch."""
        with self.reading() as connection:
            return connection.execute(_LAST_MOMENT).scalar()

    def note_published(self, path: str) -> None:
        """Remember where a table of contacts was published, so that `forget` finds it."""
        with self.transaction() as connection:
            connection.execute(sa.delete(_published).where(_published.c.path == path))
            connection.execute(sa.insert(_published).values(path=path, at=self._clock()))

    def has_published(self, path: str) -> bool:
        """Whether contacts of this ledger were published there."""
        with self.reading() as connection:
            query = sa.select(_published.c.path).where(_published.c.path == path)
            return connection.execute(query).first() is not None

    # Pacing

    def reserve_slot(self, *, interval: float) -> float:
        """Take the next free moment to send; returns the seconds until then."""
        # Forgotten in a power cut, a slot costs nobody anything: the minute is over by then.
        with self.transaction(is_durable=False) as connection:
            now = self._now(connection)
            slot = max(self._next_slot(connection, now), now)
            self._set_next_slot(connection, slot + interval, now=now)
        return slot - now

    def postpone_slots(self, *, seconds: float) -> None:
        """Give no slot to any process before that many seconds have passed."""
        with self.transaction() as connection:
            now = self._now(connection)
            slot = max(self._next_slot(connection, now), now + seconds)
            self._set_next_slot(connection, slot, now=now)

    def _now(self, connection: sa.Connection) -> float:
        if self.file is not None:
            return self._clock()
        # Machines disagree about the time; the database they share does not.
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def _next_slot(self, connection: sa.Connection, now: float) -> float:
        slot = connection.execute(_NEXT_SLOT, {"endpoint": self.endpoint}).one_or_none()
        if slot is None:
            row = {"endpoint": self.endpoint, "next_at": now, "decided_at": now}
            connection.execute(sa.insert(_pacer), row)
            return now
        # It is no farther off than when it was decided; if it seems so, the clock was put back.
        return min(slot.next_at, now + slot.next_at - slot.decided_at)

    def _set_next_slot(self, connection: sa.Connection, moment: float, *, now: float) -> None:
        place = {"at_endpoint": self.endpoint, "next_at": moment, "decided_at": now}
        connection.execute(_TAKE_SLOT, place)

    # Inside

    def _take_key(self, connection: sa.Connection) -> None:
        """Take note of the key that replies are sealed with, or of a change; refuse one that opens none of them."""
        query = sa.select(_meta).where(sa.or_(_meta.c.name == _KEY, _meta.c.name.startswith(_OLD_KEY)))
        marks = {row.name: bytes(row.value) for row in connection.execute(query)}
        stored, mine, opened = marks.pop(_KEY, None), self._vault.mark(self.id), self._vault.marks(self.id)
        for name, last_request in marks.items():
            if name.removeprefix(_OLD_KEY) not in opened and _has_sealed(connection, int(last_request)):
                raise LedgerError(
                    f"some of the ledger's replies are encrypted with an earlier key: set {OLD_VARIABLE} to it, too"
                )
        if mine == stored:
            return
        if mine is None or (stored is not None and stored.decode() not in opened):
            raise self._wrong_key()
        changed = [_KEY]
        rows = [{"name": _KEY, "value": mine}]
        if stored is not None:
            changed.append(_OLD_KEY + stored.decode())
            rows.append({"name": changed[-1], "value": str(_newest(connection)).encode()})
        connection.execute(sa.delete(_meta).where(_meta.c.name.in_(changed)))
        connection.execute(sa.insert(_meta), rows)

    def _check_key(self, connection: sa.Connection) -> None:
        stored = connection.execute(_KEY_MARK).scalar()
        if (None if stored is None else bytes(stored)) != self._vault.mark(self.id):
            raise self._wrong_key()

    def _wrong_key(self) -> LedgerError:
        if self._vault.mark(self.id) is None:
            return LedgerError(f"the ledger's replies are encrypted: set {VARIABLE}")
        return LedgerError(
            f"the key in {VARIABLE} is not that of the ledger's replies; set it to that one or, to change it, set "
            f"{OLD_VARIABLE} to that one and open the ledger anew"
        )

    def _check_clock(self, connection: sa.Connection) -> None:
        newest = connection.execute(_LAST_MOMENT).scalar()
        if newest is not None and newest - self._clock() > FARTHEST_BEHIND:
            raise ConfigError(
                "this machine's clock is more than a day behind the newest request in the ledger, so no age and "
                "no cap can be told by it. Set the clock; if it is right, choose accept_clock"
            )

    # Inside

    def _mark_resent(self, connection: sa.Connection, keys: Sequence[bytes], required: int) -> None:
        wanted = Wanted(keys)
        column = _requests.c
        rows = connection.execute(
            sa.select(
                column.id, column.asked, column.required, column.asked_keys, column.outcomes, column.aliases
            ).where(
                column.endpoint == self.endpoint,
                column.state.in_(("in_doubt", "applied", "resolved", "purged")),
            )
        ).all()
        for row in rows:
            if required & ~row.required:
                # A miss under more conditions says nothing of the request that may have been paid for.
                continue
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT).copy()
            at, _ = wanted.find(row.asked_keys)
            again = at[outcomes["position"][at] == IN_DOUBT]
            if len(again):
                outcomes["position"][again] = RESENT
                self.rewrite_outcomes(connection, row.id, outcomes, aliases=row.aliases)

    def rewrite_outcomes(
        self,
        connection: sa.Connection,
        request_id: int,
        outcomes: npt.NDArray[Any],
        *,
        aliases: bytes | None,
        **values: Any,
    ) -> None:
        """Replace a request's outcomes and aliases, and with them what of it is at risk."""
        packed = outcomes.tobytes()
        connection.execute(
            sa.update(_requests)
            .where(_requests.c.id == request_id)
            .values(
                outcomes=packed,
                aliases=aliases,
                outcomes_checksum=checksum(packed, aliases),
                at_risk=int((outcomes["position"] == IN_DOUBT).sum()),
                **values,
            )
        )

    def compact(self) -> None:
        """Leave nothing of what was deleted in the log or in free space of the database."""
        with self._lock, self._reading, self._translated():
            engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            if self.file is None:
                with engine.connect() as connection:
                    for table in (_requests, _replies):
                        connection.execute(sa.text(f"VACUUM FULL {table.name}"))
                return
            # What is deleted in the file is overwritten at once (`secure_delete`); here the log.
            is_busy = self._checkpoint("TRUNCATE")
        if is_busy:
            raise Unavailable(
                "the ledger is in use, so its log still holds what was removed; run this again once nothing else uses it"
            )

    def _checkpoint(self, kind: Literal["PASSIVE", "TRUNCATE"]) -> bool:
        """Carry SQLite's log over into its file. Returns whether somebody's use of it was in the way."""
        raw = self._engine.raw_connection()
        try:
            cursor = raw.cursor()
            is_busy = bool(cursor.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()[0])
            cursor.close()
            return is_busy
        except sqlite3.Error as error:
            # Below SQLAlchemy, which tells the others. What is in the log is as safe as what is in the file.
            raise Unavailable(
                f"the ledger's log could not be carried over into its file ({type(error).__name__}); check the disk"
            ) from None
        finally:
            raw.close()

    def _move(
        self, request_id: int, before: set[str], *, statement: sa.Update = _MOVE, **values: Any
    ) -> None:
        with self.transaction() as connection:
            self._move_in(connection, request_id, before, statement=statement, **values)

    @staticmethod
    def _move_in(
        connection: sa.Connection,
        request_id: int,
        before: set[str],
        *,
        statement: sa.Update = _MOVE,
        **values: Any,
    ) -> None:
        place = {"request": request_id, "before": sorted(before)}
        if connection.execute(statement, {**place, **values}).rowcount != 1:
            raise _wrong_state(request_id)

    def _patiently(self, step: Callable[[], _T]) -> _T:
        started, pause = time.monotonic(), 0.05
        while True:
            try:
                return step()
            except Unavailable:
                if time.monotonic() - started > REPLY_PATIENCE or self._hurry.wait(pause):
                    raise
                pause = min(2 * pause, 5.0)

    @contextlib.contextmanager
    def transaction(self, *, is_durable: bool = True) -> Generator[sa.Connection]:
        """One committed step, alone on the ledger: SQLite's write lock, or PostgreSQL's for advice.

        One that is not durable may be undone by a power cut, until the next one that is.
        """
        self._check_usable()
        with self._lock, self._begun(reading=False, is_durable=is_durable) as connection:
            if self.file is None:
                # One lock for everything: claims, budget and pacing of all workers. So none of
                # them waits for another in a circle.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(1162969172)"))
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """One view of the ledger, beside whoever writes."""
        self._check_usable()
        with self._reading, self._begun(reading=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _begun(self, *, reading: bool, is_durable: bool = True) -> Generator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            chosen = connection.execution_options(reading=reading, is_durable=is_durable)
            with chosen.begin():
                yield chosen

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that opened the ledger."""
        return os.getpid() != self._process

    def _check_usable(self) -> None:
        # Before any lock is waited for: in a child, nobody may be there to let it go.
        if self.is_forked:
            raise LedgerError("the ledger was opened before a fork; open it in the child")
        if self._closed:
            raise LedgerError("the ledger is closed; open a new Enricher")

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except exc.SQLAlchemyError as error:
            cause = type(getattr(error, "orig", None) or error).__name__
            passing = isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError)
            # A statement that SQLite cannot carry out, such as one about a table that is gone, never will be.
            passing = (
                passing
                and getattr(getattr(error, "orig", None), "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
            )
            kind = Unavailable if passing else LedgerError
            raise kind(
                f"the ledger's database failed ({cause}: {_reason(error)}); check that it can be reached and written, then "
                "run again"
            ) from None


def _as_it_is(value: str) -> str:
    return value


def _wrong_state(request_id: int) -> LedgerError:
    return LedgerError(
        f"request {request_id} is not in a state that allows this; look at it with `eb-dagster ledger show`"
    )


def _newest(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.max(_requests.c.id))).scalar() or 0)


def _has_sealed(connection: sa.Connection, last_request: int) -> bool:
    """Whether any reply up to that request's is sealed."""
    query = sa.select(_replies.c.request_id).where(
        _replies.c.request_id <= last_request, _replies.c.encoding.startswith(SEALED)
    )
    return connection.execute(query.limit(1)).scalar() is not None


def _count_found(outcomes: npt.NDArray[Any]) -> int:
    """How many contacts these outcomes come to, which is what they cost."""
    positions = outcomes["position"]
    return len(np.unique(positions[positions >= 0]))


def _reason(error: exc.SQLAlchemyError) -> str:
    # SQLite's own few words hold no data. What Python says of a text that it cannot decode quotes it, and what
    # PostgreSQL says may quote a row.
    original = getattr(error, "orig", None)
    if type(original).__module__ != "sqlite3":
        return "see the database's log"
    return str(original) if hasattr(original, "sqlite_errorcode") else "a value in it cannot be read"


@contextlib.contextmanager
def _whole(what: str) -> Generator[None]:
    """A value that is of no kind that was ever written there is damage."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError):
        # Without the cause: it may quote what it could not read.
        raise damaged(what) from None


def _day_and_month(now: float) -> tuple[float, float]:
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.timestamp(), day.replace(day=1).timestamp()


def _within_database(count: int | None) -> int | None:
    return None if count is None else max(-(2**31), min(count, 2**31 - 1))

"""What was asked, what was answered, what it cost. Durable, and the coordinator of all processes.

One row for each request, with its identifiers packed (see `entries`); the raw reply stands beside it in a table
of its own. Each change of state is one committed transaction:

    INTENT ─► free (not sent, 429)     its questions may be asked again
           ─► refused                  likewise
           ─► in_doubt ─► answered late, or resolved by decision; never by a timer
           ─► answered (raw reply durable) ─► applied | unreadable (raw kept, read again later)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

import numpy as np
import sqlalchemy as sa

from eb_dagster.api.envelope import IN_DOUBT, UNREADABLE
from eb_dagster.errors import ConfigError, LedgerError
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import counters, schema
from eb_dagster.ledger.aliases import without_rejected
from eb_dagster.ledger.budget import Budget, Limits, Short
from eb_dagster.ledger.connection import Database, Unavailable
from eb_dagster.ledger.counters import Amounts, Counted
from eb_dagster.ledger.encryption import ReplyCipher, note_key
from eb_dagster.ledger.entries import (
    DECIDED,
    RESENT,
    AnyKeys,
    Entries,
    checksum,
    count_contacts,
    keys_checksum,
    pack_keys,
    reply_checksum,
    unpack_outcomes,
)
from eb_dagster.ledger.kept_columns import KeptColumns
from eb_dagster.ledger.key_hashes import HashedType, KeyHasher, ValueHasher
from eb_dagster.ledger.key_index import KeyIndex
from eb_dagster.ledger.key_search import KeySearch
from eb_dagster.ledger.key_segments import RequestKeys
from eb_dagster.ledger.known_keys import AT_ANY_AGE, Freshness, Known, KnownKeys
from eb_dagster.ledger.lookup import AliasKeys, look_up, requests_with
from eb_dagster.ledger.process_locks import Onlooker, new_owner
from eb_dagster.ledger.publications import Publications
from eb_dagster.ledger.recent_requests import RecentRequests
from eb_dagster.ledger.reply_store import ReplyStore, StoredReply
from eb_dagster.ledger.request_rows import (
    ANSWER_COLUMNS,
    IS_IN_FLIGHT,
    Row,
    changed_keys,
    newest_request,
    outcomes_of,
    rewrite_outcomes,
    update_request,
)
from eb_dagster.ledger.schema import wrong_types_as_damage
from eb_dagster.ledger.slots import SharedSlots
from eb_dagster.ledger.sqlite import check_files
from eb_dagster.ledger.suppression import Suppression

FARTHEST_BEHIND: Final = 86_400.0
"""Seconds that a clock may be behind the newest request for anything to be bought."""

_LONGEST_NOTE: Final = 200
_LONGEST_ENCODING: Final = 100
# What the database's integers can hold.
_MOST: Final = 2**31 - 1

# Made once, because making a statement takes longer than executing it.
_column = schema.requests.c
_SELECT_REQUEST: Final = sa.select(
    _column.state,
    _column.asked,
    _column.asked_keys,
    _column.outcomes,
    _column.aliases,
    *counters.COUNTED_COLUMNS,
    sa.exists().where(schema.replies.c.request_id == _column.id).label("has_reply"),
).where(_column.id == sa.bindparam("request"))
_SELECT_IN_DOUBT: Final = sa.select(*ANSWER_COLUMNS, _column.required).where(
    _column.state.in_(("in_doubt", "applied", "resolved", "purged"))
)
_SELECT_NEWEST_TIME: Final = sa.select(_column.created_at).order_by(_column.id.desc()).limit(1)
_INSERT_REQUEST: Final = sa.insert(schema.requests)
_UPDATE_REQUEST: Final = sa.update(schema.requests).where(_column.id == sa.bindparam("request"))
_UNANSWERED_STATES: Final = ("in_doubt", "intent")


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
class Withheld:
    """What is kept of a reply in which suppressed people are: everything but them."""

    asked_keys: bytes = field(repr=False)
    body: bytes = field(repr=False)
    encoding: str
    complete: bool
    identifiers: Collection[Identifier] = field(repr=False)
    """By which they were asked: these are suppressed as well, so that they are not bought again."""


class Ledger:
    """The one database that every process with the same ledger shares. Safe to use from threads."""

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        endpoint: str,
        clock: Callable[[], float] = time.time,
        must_exist: bool = False,
        may_be_moved: bool = False,
        reads_only: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._clock = clock
        cipher = ReplyCipher.from_environment()
        self.database = Database(where, must_exist=must_exist, reads_only=reads_only)
        self.file = self.database.file
        try:
            step = self.database.reading() if reads_only else self.database.transaction()
            with wrong_types_as_damage("the table `meta`"), step as connection:
                self.id, secret = schema.prepare(connection, may_be_moved=may_be_moved, makes=not reads_only)
                if not must_exist:
                    note_key(connection, cipher, self.id, reads_only=reads_only)
            self._owner = Onlooker() if reads_only else new_owner(self.database.url, self.file)
        except BaseException:
            self.database.engine.dispose()
            raise
        self._hasher = KeyHasher(secret)
        self.hash_column: Final = self._hasher.hash_column
        self.index = KeyIndex(self.database)
        self._recent = RecentRequests()
        self.stored = ReplyStore(self.database, cipher=cipher, ledger_id=self.id)
        self.kept_columns = KeptColumns(self.database, cipher=cipher)
        self.budget = Budget(self.database, endpoint=endpoint, clock=clock)
        self.slots = SharedSlots(self.database, endpoint=endpoint, clock=clock)
        self.suppression = Suppression(
            self.database, key_of=lambda identifier: self.key(identifier, endpoint=""), clock=clock
        )
        self.publications = Publications(self.database, clock=clock)
        try:
            self.recover()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database. What this process had in flight is in doubt from here on."""
        self.database.close(release=self._owner.leave)

    # Keys

    def hasher(self, field_type: HashedType, *, endpoint: str | None = None) -> ValueHasher:
        """What makes the keys of values of one kind, at the ledger's endpoint or another; "" stands for all.

        The endpoint is part of a key, so that a sandbox's answer never counts for a real API.
        """
        return self._hasher.hasher(field_type, endpoint=self.endpoint if endpoint is None else endpoint)

    def key(self, identifier: Identifier, *, endpoint: str | None = None) -> bytes:
        """The identifier's keyed hash."""
        return self.hasher(identifier.field_type, endpoint=endpoint)(identifier.value)

    def keys(self, identifiers: Iterable[Identifier]) -> list[bytes]:
        """The key of each identifier."""
        return [self.key(identifier) for identifier in identifiers]

    # Looking up

    def lookup(
        self,
        keys: AnyKeys,
        *,
        required: int,
        alias_keys: AliasKeys = (),
        freshness: Freshness = AT_ANY_AGE,
        after: int = 0,
    ) -> tuple[KnownKeys, int]:
        """What requests after that one tell of `keys`, and the id of the newest that was looked at.

        `keys` are a list, or an array of `V16`. A key in `alias_keys` may also be answered by a contact in which it
        was found; it may be an array of bool with a flag for each key.
        """
        with wrong_types_as_damage("the table `requests`"), self.database.reading() as connection:
            return look_up(
                connection,
                keys,
                index=self.index,
                endpoint=self.endpoint,
                required=required,
                alias_keys=alias_keys,
                freshness=freshness,
                after=after,
            )

    def endpoints(self) -> list[str]:
        """Every address that was asked."""
        with self.database.reading() as connection:
            query = sa.select(_column.endpoint).distinct().order_by(_column.endpoint)
            return list(connection.execute(query).scalars())

    def last_request(self) -> int:
        """The id of the newest request: how far this ledger remembers."""
        with self.database.reading() as connection:
            return newest_request(connection)

    def last_time(self) -> float | None:
        """When the newest request was made, in seconds since the epoch."""
        with self.database.reading() as connection:
            return connection.execute(_SELECT_NEWEST_TIME).scalar()

    # A request's life

    def claim(
        self,
        keys: AnyKeys,
        *,
        run: str,
        required: int,
        limits: Limits,
        seen: int,
        alias_keys: AliasKeys = (),
        freshness: Freshness = AT_ANY_AGE,
        resend: bool = False,
        list_version: int | None = None,
        accept_clock: bool = False,
    ) -> Claim:
        """Make the intent to ask durable, for as many of `keys` as the limits leave room for.

        The same transaction looks once more at what others learned after request `seen`. If anything did come in,
        nothing is claimed and `known` says what.

        Args:
            keys: of the identifiers to ask: a list, or an array of `V16`.
            run: whose request it is.
            required: the required fields, packed.
            limits: what the claim must stay inside of.
            seen: the newest request that the caller has looked at.
            alias_keys: those of `keys` that a contact may answer in which they were found; or a flag for each key.
            freshness: how old an answer may be.
            resend: also claim what another run left in doubt.
            list_version: of the suppression list by which nobody among the keys is suppressed. If the list has
                another version by now, nothing is claimed.
            accept_clock: claim although this machine's clock is far behind what the ledger has seen.

        Raises:
            ConfigError: the clock is far behind and that was not accepted.
            LedgerError: the ledger cannot be trusted to remember; nothing was claimed.

        """
        with self.database.translated():
            self._owner.hold()
        with wrong_types_as_damage("the table `requests`"), self.database.transaction() as connection:
            check_files(connection)
            facts = schema.read_facts(connection)
            schema.check_not_moved(facts)
            self.stored.check_key(facts)
            now = self._clock()
            if not accept_clock:
                _check_clock(connection, now)
            if list_version not in (None, self.suppression.version_by(facts)):
                return Claim(None, 0, {}, is_outdated=True)
            if self._recent.may_tell(connection, keys, after=seen):
                known, _ = look_up(
                    connection,
                    keys,
                    index=self.index,
                    endpoint=self.endpoint,
                    required=required,
                    alias_keys=alias_keys,
                    freshness=freshness,
                    after=seen,
                )
                news = known.news(run=run, resend=resend)
                if news:
                    return Claim(None, 0, news)
            counted = self.budget.counted_in(connection, run=run, time=now)
            room = self.budget.room_in(connection, counted, limits=limits, facts=facts)
            granted = min(len(keys), room.credits)
            if granted <= 0:
                return Claim(None, 0, {}, room.short_of)
            if resend:
                self._mark_resent(connection, keys[:granted], required=required)
                counted = self.budget.counted_in(connection, run=run, time=now)
            request_id = self._insert_intent(connection, keys[:granted], required=required, counted=counted)
        return Claim(request_id, granted, {}, room=room.credits - granted)

    def _insert_intent(
        self, connection: sa.Connection, keys: AnyKeys, *, required: int, counted: Counted
    ) -> int:
        asked_keys = pack_keys(keys).tobytes()
        intent = {
            "endpoint": self.endpoint,
            "run": counted.run,
            "owner": self._owner.name,
            "state": "intent",
            "required": required,
            "asked": len(keys),
            "at_risk": len(keys),
            "created_at": counted.time,
            "outcomes_checksum": checksum(None),
            "asked_keys": asked_keys,
        }
        inserted = connection.execute(_INSERT_REQUEST, intent).inserted_primary_key
        (request_id,) = cast("tuple[int]", inserted)
        sum_of_keys = keys_checksum(request_id, self.endpoint, required, asked_keys)
        connection.execute(_UPDATE_REQUEST, {"request": request_id, "keys_checksum": sum_of_keys})
        counted.add(connection, Amounts(at_risk=len(keys)))
        return request_id

    def _mark_resent(self, connection: sa.Connection, keys: AnyKeys, *, required: int) -> None:
        """Note in the requests that left these keys in doubt that they are asked again."""
        search = KeySearch(keys)
        query = _SELECT_IN_DOUBT.where(_column.endpoint == self.endpoint)
        for row in list(requests_with(connection, keys, index=self.index, query=query)):
            if required & ~row.required:
                # A miss under more conditions says nothing of the request that may have been paid for.
                continue
            entries, _ = search.find(row.asked_keys)
            outcomes = outcomes_of(row).copy()
            resent = entries[outcomes["position"][entries] == IN_DOUBT]
            if len(resent):
                outcomes["position"][resent] = RESENT
                rewrite_outcomes(connection, row.id, outcomes, aliases=row.aliases)

    def release(self, request_id: int, *, state: Literal["free", "refused"], note: str) -> None:
        """The request cost nothing: its questions may be asked again."""
        changes = {"state": state, "at_risk": 0, "note": note[:_LONGEST_NOTE]}
        with self.database.transaction() as connection:
            row = _check_unanswered(connection, request_id)
            update_request(connection, request_id, changes, before=row)

    def doubt(self, request_id: int, *, http_status: int | None, note: str) -> None:
        """The request may have been paid for, and there is no answer."""
        changes = {"state": "in_doubt", "http_status": http_status, "note": note[:_LONGEST_NOTE]}
        with self.database.transaction() as connection:
            row = _check_unanswered(connection, request_id)
            update_request(connection, request_id, {**changes, "at_risk": row.asked}, before=row)

    def record(
        self, request_id: int, *, http_status: int, encoding: str, complete: bool, body: bytes
    ) -> StoredReply:
        """Make a raw reply durable, before anything looks into it. A late one is welcome too.

        It was paid for, so a database that cannot take it is asked again for `REPLY_PATIENCE` seconds.
        """
        sealed, sealed_encoding = self.stored.seal(body, encoding[:_LONGEST_ENCODING])
        reply = self.database.retry_while_unavailable(
            lambda: self._record(request_id, http_status, sealed, sealed_encoding, complete=complete)
        )
        return replace(reply, body=body, encoding=encoding)

    def _record(
        self, request_id: int, http_status: int, sealed: bytes, encoding: str, *, complete: bool
    ) -> StoredReply:
        answered_at = self._clock()
        with self.database.transaction() as connection:
            row = connection.execute(_SELECT_REQUEST, {"request": request_id}).one()
            if not row.has_reply and row.state in ("intent", "in_doubt", "resolved"):
                self.stored.insert_sealed(
                    connection, request_id, body=sealed, encoding=encoding, complete=complete
                )
                answered = {
                    # What a person decided without the reply stands no longer.
                    "outcomes": None,
                    "outcomes_checksum": checksum(None),
                    "state": "answered",
                    "answered_at": answered_at,
                    "http_status": http_status,
                    "at_risk": row.asked,
                    "credits": 0,
                }
                update_request(connection, request_id, answered, before=row)
            elif row.state != "answered":
                # In that state it would be the same reply, whose commit was not confirmed the first time.
                raise LedgerError(
                    f"request {request_id} was answered before; look at it with `eb-dagster ledger show`",
                    spent="Nothing was changed",
                )
        return StoredReply(
            request_id,
            row.endpoint,
            row.run,
            row.asked_keys,
            answered_at,
            encoding,
            complete,
            sealed,
            reply_checksum(encoding, sealed, complete=complete),
        )

    def apply(
        self,
        request_id: int,
        *,
        outcomes: Entries,
        aliases: Entries,
        records_enriched: int | None,
        credits: int | None = None,  # noqa: A002 - the field's word
        withheld: Withheld | None = None,
        list_version: int | None = None,
    ) -> bool:
        """Note what a stored reply says about each question, in the order they were asked.

        `outcomes` is an array of `OUTCOME`, `aliases` one of `ALIAS`. `credits` is how many contacts were charged,
        if some of them are `withheld`, which replaces the reply. Returns False and notes nothing if the suppression
        list has another version than `list_version`. A power cut may undo it; then `unapplied` gives the reply
        once more.
        """
        charged = count_contacts(outcomes) if credits is None else credits

        def step() -> bool:
            # Somebody who is withheld must not come back after a power cut.
            with self.database.transaction(is_durable=withheld is not None) as connection:
                if list_version not in (None, self.suppression.version_in(connection)):
                    return False
                changes: dict[str, object] = {
                    "records_enriched": None
                    if records_enriched is None
                    else _within_database(records_enriched)
                }
                if withheld is not None:
                    changes |= self._withhold(connection, request_id, withheld)
                self._apply(connection, request_id, outcomes, aliases, charged=charged, changes=changes)
            return True

        is_noted = self.database.retry_while_unavailable(step)
        # The index only saves time. If there is no room for it, whoever claims next says so.
        if self.index.may_grow(request_id):
            with contextlib.suppress(Unavailable):
                self.index.grow()
        return is_noted

    def _apply(
        self,
        connection: sa.Connection,
        request_id: int,
        outcomes: Entries,
        aliases: Entries,
        *,
        charged: int,
        changes: Mapping[str, object],
    ) -> None:
        row = connection.execute(_SELECT_REQUEST, {"request": request_id}).one_or_none()
        if row is None or row.state not in ("answered", "unreadable", "applied"):
            raise _wrong_state(request_id)
        # Credits beyond the contacts that the outcomes lead to.
        booked = charged - count_contacts(outcomes)
        if row.outcomes is not None:
            # Read once more: what was decided meanwhile stands, and so does what was booked for it.
            before = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)
            outcomes = np.where(np.isin(before["position"], DECIDED), before, outcomes)
            aliases = aliases[np.isin(aliases["position"], outcomes["position"])]
            booked += row.credits - count_contacts(before)
        aliases = without_rejected(connection, aliases)
        packed_aliases = aliases.tobytes()
        unreadable = int((outcomes["position"] == UNREADABLE).sum())
        rewrite_outcomes(
            connection,
            request_id,
            outcomes,
            aliases=packed_aliases,
            changes={
                **changes,
                "state": "unreadable" if unreadable == len(outcomes) else "applied",
                "credits": booked + count_contacts(outcomes),
                "unreadable": unreadable,
            },
            before=row,
        )
        asked_keys = cast("bytes", changes.get("asked_keys", row.asked_keys))
        self.index.follow(
            connection,
            request_id,
            before=RequestKeys(row.asked_keys, row.aliases),
            after=RequestKeys(asked_keys, packed_aliases),
        )

    def _withhold(self, connection: sa.Connection, request_id: int, withheld: Withheld) -> dict[str, object]:
        """Put the reply without these people in the place of the one that came. Returns what else changes."""
        self.stored.rewrite(
            connection,
            request_id,
            body=withheld.body,
            encoding=withheld.encoding,
            complete=withheld.complete,
        )
        self.suppression.add_in(connection, withheld.identifiers)
        return changed_keys(connection, request_id, withheld.asked_keys)

    def unapplied(self, *, endpoint: str | None = None) -> list[StoredReply]:
        """Replies that were stored by a process that ended before it read them, at the ledger's endpoint or another."""
        asked_at = self.endpoint if endpoint is None else endpoint
        with self.database.reading() as connection:
            query = sa.select(_column.id, _column.owner)
            is_waiting = (_column.endpoint == asked_at) & (_column.state == "answered")
            # Sorted here: SQLite would go through all requests to spare itself the sorting.
            rows = sorted(connection.execute(query.where(IS_IN_FLIGHT, is_waiting)).all())
        with self.database.translated():
            orphaned = [row.id for row in rows if self._owner.is_gone(row.owner)]
        return list(self.replies(orphaned))

    def replies(self, request_ids: Iterable[int]) -> Iterator[StoredReply]:
        """The stored replies to these requests. Only a few of them are in memory at a time."""
        return self.stored.read(request_ids)

    def recover(self) -> int:
        """Put what processes that are gone had in flight in doubt. Returns how many requests."""
        with self.database.reading() as connection:
            query = sa.select(_column.owner).where(IS_IN_FLIGHT, _column.state == "intent").distinct()
            owner_names = connection.execute(query).scalars()
            gone = [owner for owner in owner_names if self._owner.is_gone(owner)]
        if not gone:
            return 0
        with self.database.transaction() as connection:
            is_abandoned = (_column.state == "intent") & _column.owner.in_(gone)
            return _put_in_doubt(connection, is_abandoned, note="its process ended")

    def has_in_flight(self) -> bool:
        """Whether a request is under way, or was left so by a process that ended."""
        with self.database.reading() as connection:
            return connection.execute(sa.select(_column.id).where(IS_IN_FLIGHT).limit(1)).scalar() is not None

    def is_used_elsewhere(self, connection: sa.Connection) -> bool:
        """Whether another process that has claimed anything still has the ledger open."""
        owner_names = connection.execute(sa.select(_column.owner).distinct()).scalars().all()
        with self.database.translated():
            return not all(owner == self._owner.name or self._owner.is_gone(owner) for owner in owner_names)

    def end_run(self, run: str) -> None:
        """Nothing of this run is under way any more: what it still had in flight is in doubt.

        Otherwise this process would hold it for as long as it lives, and whoever asks for it would wait. What a run
        bought is in a SQLite ledger's own file from here on, and not in its log alone.
        """
        is_in_flight = (_column.run == run) & (_column.state == "intent")
        with self.database.reading() as connection:
            query = sa.select(_column.id).where(IS_IN_FLIGHT, is_in_flight).limit(1)
            has_any = connection.execute(query).scalar() is not None
        if has_any:
            with self.database.transaction() as connection:
                _put_in_doubt(connection, is_in_flight, note="its run ended")
        self.database.carry_over_log()


def _check_clock(connection: sa.Connection, now: float) -> None:
    newest = connection.execute(_SELECT_NEWEST_TIME).scalar()
    if newest is not None and newest - now > FARTHEST_BEHIND:
        raise ConfigError(
            "this machine's clock is more than a day behind the newest request in the ledger, so no age and "
            "no cap can be told by it. Set the clock; if it is right, choose accept_clock"
        )


def _put_in_doubt(connection: sa.Connection, which: sa.ColumnElement[bool], *, note: str) -> int:
    # All that a request asks is at risk from its intent on, so what is counted stays the same.
    changes = sa.update(schema.requests).values(state="in_doubt", note=note)
    return connection.execute(changes.where(IS_IN_FLIGHT, which)).rowcount


def _check_unanswered(connection: sa.Connection, request_id: int) -> Row:
    """Raise unless a request is in flight or in doubt. Returns it."""
    row = connection.execute(_SELECT_REQUEST, {"request": request_id}).one_or_none()
    if row is None or row.state not in _UNANSWERED_STATES:
        raise _wrong_state(request_id)
    return row


def _wrong_state(request_id: int) -> LedgerError:
    return LedgerError(
        f"request {request_id} is not in a state that allows this; look at it with `eb-dagster ledger show`"
    )


def _within_database(count: int) -> int:
    return max(-_MOST - 1, min(count, _MOST))

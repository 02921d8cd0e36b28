"""Find people in the requests of a ledger, and take them out: of keys, outcomes, aliases and raw replies."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, cast

import msgspec
import numpy as np
import sqlalchemy as sa

from eb_dagster.api.envelope import MISSED, ParsedReply, Record, parse_reply
from eb_dagster.identifiers.canonical import canonical, identifiers_in
from eb_dagster.identifiers.kinds import is_role
from eb_dagster.identifiers.model import FIELD_TYPES, Identifier
from eb_dagster.ledger.entries import FORGOTTEN, NO_KEY, Entries, unpack_aliases, unpack_keys
from eb_dagster.ledger.key_search import KeySearch
from eb_dagster.ledger.key_segments import RequestKeys
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.lookup import Query, aliases_of, contacts_of, requests_with
from eb_dagster.ledger.replies import compress, contact_of, decompress, encode_without
from eb_dagster.ledger.request_rows import (
    ANSWER_COLUMNS,
    IN_FLIGHT_STATES,
    Row,
    changed_keys,
    outcomes_of,
    rewrite_outcomes,
)
from eb_dagster.ledger.schema import requests
from eb_dagster.ledger.traces import Traces

_SELECT_REQUESTS: Final = sa.select(*ANSWER_COLUMNS)
_ROWS_AT_ONCE: Final = 50


class PersonInLedger:
    """Where a person is in the requests of one endpoint, and what else the person is called."""

    def __init__(self, ledger: Ledger, endpoint: str, given: Sequence[Identifier], traces: Traces) -> None:
        self.endpoint = endpoint
        self.positions: dict[int, set[int]] = {}
        """By request, where in its reply the person's contacts stand."""
        self._ledger = ledger
        self._marks: set[int] = set()
        """The marks of the person in aliases."""
        for request_id, position, mark, _ in self._contacts(given):
            self._add(request_id, position, mark)
        self._find_inside(traces)
        held, asked = self._identifiers()
        shared = self._shared(sorted(held | asked))
        self.identifiers = {
            identifier
            for identifier in (held | asked) - shared
            # A role's mailbox stays with the role, and a phone may be a colleague's too.
            if (identifier.field_type != "phone" or identifier in asked) and not is_role(identifier)
        }
        """Those by which the person can be bought and nobody else can."""

    def _add(self, request_id: int, position: int, mark: int | None) -> None:
        self.positions.setdefault(request_id, set()).add(position)
        if mark is not None:
            self._marks.add(mark)

    def _contacts(
        self, identifiers: Sequence[Identifier]
    ) -> Iterator[tuple[int, int, int | None, Identifier]]:
        """The contacts that identifiers lead to: request, position, the mark of its person, and the identifier."""
        keys = [self._ledger.key(identifier, endpoint=self.endpoint) for identifier in identifiers]
        search = KeySearch(keys)
        with self._ledger.database.reading() as connection:
            query = _of_endpoint(self.endpoint)
            for row in requests_with(connection, keys, index=self._ledger.index, query=query):
                marks = _marks_by_position(row.aliases)
                for position, key_index in contacts_of(row, search):
                    yield row.id, position, marks.get(position), identifiers[key_index]

    def _find_in_reply(self, request_id: int, traces: Traces) -> None:
        stored = self._ledger.stored.find(request_id)
        body = b"" if stored is None else decompress(stored)[0]
        # Nearly always, the person is nowhere in the reply.
        if body and traces.may_be_in(body):
            for position in _positions_of(parse_reply(body), traces):
                self._add(request_id, position, None)

    def _find_inside(self, traces: Traces) -> None:
        """Note the contacts that hold an identifier which is no alias, or is spelled in another way."""
        for request_id in [row.id for row in _rows(self._ledger, self.endpoint)]:
            self._find_in_reply(request_id, traces)
        for row in _rows(self._ledger, self.endpoint):
            marks = _marks_by_position(row.aliases)
            positions = self.positions.get(row.id, set())
            self._marks.update(marks[position] for position in positions if position in marks)

    def _identifiers(self) -> tuple[set[Identifier], set[Identifier]]:
        """The identifiers that the person's contacts hold, and those they were asked by."""
        held: set[Identifier] = set()
        asked: set[Identifier] = set()
        for stored in self._ledger.replies(list(self.positions)):
            records = parse_reply(decompress(stored)[0]).records
            for position in self.positions[stored.request_id]:
                held.update(identifiers_in(contact_of(records[position]).texts))
                asked.update(_asked_as(records[position]))
        return held, asked

    def _shared(self, identifiers: Sequence[Identifier]) -> set[Identifier]:
        """Those that also lead to somebody else. Contacts that are the person's are noted."""
        shared: set[Identifier] = set()
        for request_id, position, mark, identifier in self._contacts(identifiers):
            if position in self.positions.get(request_id, ()) or mark in self._marks:
                self._add(request_id, position, mark)
            else:
                shared.add(identifier)
        return shared


class Removal:
    """Takes people out of the requests of one endpoint."""

    def __init__(
        self,
        ledger: Ledger,
        endpoint: str,
        identifiers: Iterable[Identifier],
        traces: Traces,
        people: Iterable[PersonInLedger],
    ) -> None:
        self._ledger = ledger
        self._endpoint = endpoint
        self._keys = {ledger.key(identifier, endpoint=endpoint) for identifier in identifiers}
        self._search = KeySearch(sorted(self._keys))
        self._traces = traces
        self._positions: dict[int, set[int]] = {}
        for person in people:
            if person.endpoint == endpoint:
                for request_id, positions in person.positions.items():
                    self._positions.setdefault(request_id, set()).update(positions)

    def remove(self) -> int:
        """Blank them in every request. Returns the contacts that were removed."""
        is_certain = {row.id: self._is_certain(row) for row in _rows(self._ledger, self._endpoint)}
        return sum(
            self._remove_from(request_id, is_certain=certain) for request_id, certain in is_certain.items()
        )

    def _is_certain(self, row: Row) -> bool:
        """Whether they are certainly in this request."""
        asked, _ = self._search.find(row.asked_keys)
        return row.id in self._positions or len(asked) > 0 or len(aliases_of(row.aliases, self._search)) > 0

    def _remove_from(self, request_id: int, *, is_certain: bool) -> int:
        stored = self._ledger.stored.find(request_id)
        body, is_whole = (b"", False) if stored is None else decompress(stored)
        is_named = bool(body) and self._traces.may_be_in(body)
        if not is_certain and not is_named:
            return 0
        parsed = parse_reply(body)
        positions = set(self._positions.get(request_id, ()))
        if is_named:
            positions |= _positions_of(parsed, self._traces)
        with self._ledger.database.transaction() as connection:
            query = _SELECT_REQUESTS.where(requests.c.id == request_id)
            row = connection.execute(query).one()
            keys, outcomes = list(unpack_keys(row.asked_keys)), outcomes_of(row).copy()
            questions = self._questions(keys, outcomes, positions)
            if stored is not None and (outcomes["position"][questions] < MISSED).any():
                others = {key for index, key in enumerate(keys) if index not in set(questions)}
                positions |= self._unproven(parsed, others)
            _forget_questions(keys, outcomes, questions)
            kept = RequestKeys(b"".join(keys), self._kept_aliases(row.aliases, positions))
            rewrite_outcomes(
                connection,
                request_id,
                outcomes,
                aliases=kept.aliases,
                changes=changed_keys(connection, request_id, kept.asked_keys),
            )
            before = RequestKeys(row.asked_keys, row.aliases)
            self._ledger.index.follow(connection, request_id, before=before, after=kept)
            if stored is not None:
                self._rewrite_reply(
                    connection, request_id, parsed, positions, is_named=is_named, is_whole=is_whole
                )
        return _count_contacts(parsed, positions)

    def _questions(self, keys: Sequence[bytes], outcomes: Entries, positions: Collection[int]) -> list[int]:
        """The indices of the questions that asked for them or found them."""
        positions_of_answers: list[int] = outcomes["position"].tolist()
        return [
            index
            for index, (key, position) in enumerate(zip(keys, positions_of_answers, strict=True))
            if key in self._keys or position in positions
        ]

    def _kept_aliases(self, blob: bytes | None, positions: Collection[int]) -> bytes:
        aliases = unpack_aliases(blob)
        is_kept = [
            int(alias["position"]) not in positions and alias["key"].tobytes() not in self._keys
            for alias in aliases
        ]
        return aliases[np.array(is_kept, dtype=np.bool_)].tobytes()

    def _rewrite_reply(
        self,
        connection: sa.Connection,
        request_id: int,
        parsed: ParsedReply,
        positions: Collection[int],
        *,
        is_named: bool,
        is_whole: bool,
    ) -> None:
        kept = _mentioning_nobody(parsed, positions, self._traces) if is_named else parsed
        plain, is_complete = encode_without(kept, positions, whole=is_whole)
        body, encoding = compress(plain, "")
        self._ledger.stored.rewrite(
            connection, request_id, body=body, encoding=encoding, complete=is_complete
        )

    def _unproven(self, parsed: ParsedReply, others: set[bytes]) -> set[int]:
        """Records that are not proven to be of one of the others that were asked: any may be the person."""
        return {
            position
            for position, record in enumerate(parsed.records)
            if others.isdisjoint(self._possible_keys(record))
        }

    def _possible_keys(self, record: Record) -> Iterator[bytes]:
        """The keys under which the echoed value may have been asked."""
        if record.echo is None:
            return
        for kind in FIELD_TYPES:
            yield self._ledger.hasher(kind, endpoint=self._endpoint)(record.echo)
        for identifier in _asked_as(record):
            yield self._ledger.key(identifier, endpoint=self._endpoint)


def _count_contacts(parsed: ParsedReply, positions: Iterable[int]) -> int:
    return sum(parsed.records[position].contact is not None for position in positions)


def _forget_questions(keys: list[bytes], outcomes: Entries, questions: Iterable[int]) -> None:
    for index in questions:
        keys[index] = NO_KEY
        # What is in doubt, or cannot be read, still counts as that.
        if int(outcomes["position"][index]) >= MISSED:
            outcomes["position"][index] = FORGOTTEN


def _rows(ledger: Ledger, endpoint: str) -> Iterator[Row]:
    """Every request of an endpoint, except those in flight: these keep nobody who is suppressed anyway."""
    query = _of_endpoint(endpoint).order_by(requests.c.id)
    with ledger.database.reading() as connection:
        yield from connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})


def _of_endpoint(endpoint: str) -> Query:
    return _SELECT_REQUESTS.where(requests.c.endpoint == endpoint, requests.c.state.not_in(IN_FLIGHT_STATES))


def _marks_by_position(blob: bytes | None) -> dict[int, int]:
    aliases = unpack_aliases(blob)
    return dict(zip(aliases["position"].tolist(), aliases["person"].tolist(), strict=True))


def _positions_of(parsed: ParsedReply, traces: Traces) -> set[int]:
    """The records that were asked by one of these identifiers, or whose contact says that it is one of these people."""
    return {position for position, record in enumerate(parsed.records) if _is_theirs(record, traces)}


def _is_theirs(record: Record, traces: Traces) -> bool:
    if traces.are_in(record.echo or ""):
        return True
    texts_by_kind = contact_of(record).texts.values()
    return any(traces.are_in(text) for texts in texts_by_kind for text in texts)


def _asked_as(record: Record) -> list[Identifier]:
    readings = (canonical(kind, record.echo or "") for kind in FIELD_TYPES)
    return [identifier for identifier in readings if isinstance(identifier, Identifier)]


def _mentioning_nobody(parsed: ParsedReply, positions: Collection[int], traces: Traces) -> ParsedReply:
    """The reply without what other people's contacts tell of these, such as whom they are related to."""

    def mentions(record: Record) -> bool:
        return record.contact is not None and traces.are_in(bytes(record.contact).decode("utf-8", "replace"))

    records = [
        _without_mention(record, traces) if position not in positions and mentions(record) else record
        for position, record in enumerate(parsed.records)
    ]
    return ParsedReply(tuple(records), parsed.records_enriched, parsed.whole)


def _without_mention(record: Record, traces: Traces) -> Record:
    try:
        contact = json.loads(bytes(record.contact or b"null"))
    except ValueError:
        return Record(record.echo, None, readable=False)
    kept = _without_texts(contact, traces)
    return Record(record.echo, msgspec.Raw(json.dumps(kept).encode("ascii")))


def _without_texts(value: object, traces: Traces) -> object:
    """A value of JSON in which null stands for each text that names one of these people."""
    if isinstance(value, str):
        return None if traces.are_in(value) else value
    if isinstance(value, list):
        return [_without_texts(item, traces) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {name: _without_texts(item, traces) for name, item in items}
    return value

"""What people may ask for: not to be bought, and to be forgotten; and what a policy may: not to keep.

`suppress` keeps people from ever being sent. `forget` removes a person from the ledger's index, from
its raw replies and from the tables it published. `purge` drops what is older than an age.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from eb_dagster.api.envelope import IN_DOUBT, MISSED, UNREADABLE, ParsedReply, Record, parse_reply
from eb_dagster.errors import InputError
from eb_dagster.identifiers.canonical import canonical, identifiers_in
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.kinds import is_role
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from eb_dagster.ledger import companions, rejections
from eb_dagster.ledger import connection as database
from eb_dagster.ledger.entries import (
    ALIAS,
    FORGOTTEN,
    KEY_BYTES,
    NO_KEY,
    Wanted,
    unpack_keys,
    unpack_outcomes,
)
from eb_dagster.ledger.ledger import Ledger, StoredReply, Unavailable
from eb_dagster.ledger.lookup import HELD, IN_FLIGHT_STATES
from eb_dagster.ledger.replies import apply_reply, compress, contact_of, decompress, encode_without
from eb_dagster.ledger.traces import Mask, Traces
from eb_dagster.tables.atomic_file import clear_torn, clear_torn_objects, published
from eb_dagster.tables.object_store import ObjectPath, Place, place
from eb_dagster.tables.parquet import open_parquet, read_batches, read_metadata, write_parquet

_BATCH_ROWS: Final = 8_192
_TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt")
_requests, _replies, _published = database.requests, database.replies, database.published


_LETTERS: Final = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` removed, in counts, and where it could not look."""

    contacts: int
    """Contacts in raw replies."""
    rows: int
    """Rows of published tables."""
    tables: int
    """Published tables that were rewritten."""
    missing_tables: int
    """Tables that were published once and are no longer where they were: look for copies."""
    identifiers: int
    """Identifiers of the person that can no longer be bought."""
    torn_files: int = 0
    """Files that a crash left beside published tables and the ledger, and that were removed."""
    unsearched: tuple[str, ...] = ()
    """What may still hold the person and could not be searched, in words: look there yourself."""


def suppress(
    ledger: Ledger, identifiers: Iterable[tuple[FieldType, str]], *, default_region: str | None = None
) -> int:
    """Put people on the suppression list. Returns how many identifiers were not on it before.

    A text may hold several, as a cell may. Holds at once for runs that are under way, in any process.

    Raises `InputError` that counts what is no identifier, and then suppresses nobody.
    """
    return ledger.suppress(_read_people(identifiers, default_region, spent="Nobody was suppressed"))


def unsuppress(
    ledger: Ledger, identifiers: Iterable[tuple[FieldType, str]], *, default_region: str | None = None
) -> int:
    """Take people off the suppression list. Returns how many identifiers were on it.

    What was forgotten stays so: the next run may buy it again.

    Raises `InputError` as `suppress` does, and then changes nothing.
    """
    return ledger.unsuppress(_read_people(identifiers, default_region, spent="Nothing was changed"))


def _read_people(
    identifiers: Iterable[tuple[FieldType, str]], default_region: str | None, *, spent: str
) -> list[Identifier]:
    found: list[Identifier] = []
    faults: list[int] = []
    for at, pair in enumerate(_pairs(identifiers, spent)):
        one = _read_text(*pair, default_region, spent=spent)[0]
        found += one
        if not one:
            faults.append(at)
    if faults:
        some = ", ".join(str(at + 1) for at in faults[:10])
        raise InputError(
            f"values that are no identifiers of their kind: {len(faults):,} (at {some}, counted from 1); correct them or "
            "leave them out",
            spent=spent,
        )
    return found


def _pairs(identifiers: object, spent: str) -> list[tuple[Any, Any]]:
    is_list = isinstance(identifiers, Iterable) and not isinstance(identifiers, str | bytes | Mapping)
    pairs: list[Any] = [*cast("Iterable[Any]", identifiers)] if is_list else []
    if not is_list or any(isinstance(one, str) or not _is_pair(one) for one in pairs):
        raise InputError(
            'people are given as a list of pairs, as in [("email", "jane@firm.example")]; correct that',
            spent=spent,
        )
    return [(kind, text) for kind, text in pairs]


def _is_pair(one: object) -> bool:
    return isinstance(one, Sequence) and len(cast("Sequence[object]", one)) == 2


def _read_text(
    field_type: Any, text: Any, default_region: str | None, *, spent: str
) -> tuple[Sequence[Identifier], Sequence[str]]:
    """The identifiers of a kind in a text, and the reasons against the rest of it."""
    if field_type not in FIELD_TYPES:
        if text in FIELD_TYPES:
            raise InputError(
                f'kind and text are swapped: give the kind first, as in ("{text}", …)', spent=spent
            )
        raise InputError(f"no such kind of identifier; choose from {', '.join(FIELD_TYPES)}", spent=spent)
    if not isinstance(text, str):
        raise InputError(
            f"an identifier is of type {type(text).__name__}, not text; give it as text", spent=spent
        )
    identifiers, reasons = read_cell(field_type, text, default_region=default_region)
    return identifiers, reasons or ("blank",)


def reject(
    ledger: Ledger, field_type: FieldType, text: str | Iterable[str], *, default_region: str | None = None
) -> int:
    """Let the contacts that these identifiers lead to answer no more for them. Returns the contacts."""
    texts = [text] if isinstance(text, str) else list(text)
    people = _read_people([(field_type, one) for one in texts], default_region, spent="Nothing was changed")
    return rejections.reject(ledger, people)


def forget(
    ledger: Ledger,
    field_type: FieldType,
    text: str | Iterable[str],
    *,
    default_region: str | None = None,
) -> Forgotten:
    """Remove a person, or several, from the ledger and its published tables, and keep them from being bought.

    A contact is the person's if it was asked by this identifier or holds it. The person's other
    addresses and profiles go with it, and the phones by which the person was found, unless somebody
    else's contact holds them too. A text that holds several identifiers, as a cell may, is one person.
    It may be repeated if it broke off, and is complete then. Runs may be under way.
    """
    texts: list[Any] = [*text] if hasattr(text, "__iter__") and not isinstance(text, str) else [text]
    people = [_given(field_type, one, default_region) for one in texts]
    given = {one for several in people for one in several}
    # First, so that nobody is bought again even if the rest breaks off.
    ledger.suppress(given)
    _read_what_waits(ledger)
    tables = _published_tables(ledger)
    there = [path for path in tables if path.exists()]

    def traces_of(identifiers: Iterable[Identifier]) -> Traces:
        return Traces(
            set(identifiers), key_of=lambda one: ledger.key_at("", one), default_region=default_region
        )

    persons = [
        _Person(ledger, endpoint, several, traces_of(several))
        for endpoint in ledger.endpoints()
        for several in people
    ]
    barred = given.union(*(person.own for person in persons))
    ledger.suppress(barred)
    traces = traces_of(barred)
    torn = sum(map(clear_torn, _places_of_files(ledger, tables)))
    if any(isinstance(path, ObjectPath) for path in tables):
        torn += clear_torn_objects()
    # The ledger last: it knows what the person is called in the tables, if this has to be done again.
    rows = [_rewrite_without(path, traces) for path in there]
    contacts = sum(
        _Removal(ledger, endpoint, barred, traces, persons).remove() for endpoint in ledger.endpoints()
    )
    for endpoint in ledger.endpoints():
        companions.forget(ledger, {ledger.key_at(endpoint, one) for one in barred})
    unsearched = [str(path) for path in tables if path not in there]
    unsearched += [str(path) for path, count in zip(there, rows, strict=True) if count is None]
    return Forgotten(
        contacts=contacts,
        rows=sum(count or 0 for count in rows),
        tables=sum(bool(count) for count in rows),
        missing_tables=len(tables) - len(there),
        identifiers=len(barred),
        torn_files=torn,
        unsearched=(*unsearched, *_compact(ledger)),
    )


def _given(field_type: FieldType, text: str, default_region: str | None) -> Sequence[Identifier]:
    identifiers, reasons = _read_text(field_type, text, default_region, spent="Nothing was forgotten")
    if identifiers:
        return identifiers
    what = f"this is no {field_type} ({reasons[0]}); check the spelling"
    if reasons[0] == "phone_no_region":
        what = "the phone number has no country code; add --region (default_region), such as US"
    elif not _LETTERS.search(text) and field_type != "phone":
        what = (
            f"this is no {field_type} ({reasons[0]}). A phone number without a country code? Then add --kind phone and "
            "--region, such as US"
        )
    raise InputError(what, spent="Nothing was forgotten")


def _read_what_waits(ledger: Ledger) -> None:
    """Read the replies of processes that ended in between: whoever is suppressed is not kept of them."""
    for endpoint in ledger.endpoints():
        with ledger.at(endpoint):
            ledger.recover()
            for stored in ledger.unapplied():
                apply_reply(ledger, stored)


def _places_of_files(ledger: Ledger, tables: Iterable[Place]) -> list[Any]:
    """Files in whose folders there may be what a crash left."""
    places = [path for path in tables if not isinstance(path, ObjectPath) and path.parent.is_dir()]
    return places if ledger.file is None else [*places, ledger.file]


def _compact(ledger: Ledger) -> Iterator[str]:
    try:
        ledger.compact()
    except Unavailable:
        yield "the ledger's log, because the ledger is in use: do this again once nothing else uses it"
    if ledger.file is None:
        yield "PostgreSQL's write-ahead log, its archives, replicas and backups"


def purge(ledger: Ledger, *, older_than: timedelta) -> int:
    """Drop contacts, replies and index of what was answered before that age. Returns the requests.

    What was paid and when stays; who it was for does not. Asked again, they are bought again. What may have
    been paid for without an answer stays as it is, by its keyed hash: nobody asks it again by a purge.
    """
    column, before = _requests.c, time.time() - older_than.total_seconds()
    companions.purge(ledger, before=before)
    with ledger.transaction() as connection:
        rows = connection.execute(
            sa.select(column.id, column.asked, column.asked_keys, column.outcomes, column.state).where(
                column.answered_at < before,
                column.state.in_(("applied", "unreadable")),
            )
        ).all()
        for row in rows:
            default = UNREADABLE if row.state == "unreadable" else IN_DOUBT
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=default).copy()
            is_dropped = ~np.isin(outcomes["position"], (*HELD, UNREADABLE))
            outcomes[is_dropped] = (FORGOTTEN, 0)
            keys = np.frombuffer(row.asked_keys, dtype=f"V{KEY_BYTES}").copy()
            keys[is_dropped] = NO_KEY
            _write_index(ledger, connection, row.id, keys.tobytes(), outcomes, b"")
            connection.execute(sa.delete(_replies).where(_replies.c.request_id == row.id))
            connection.execute(sa.update(_requests).where(column.id == row.id).values(state="purged"))
    ledger.compact()
    return len(rows)


# One person in the ledger


class _Person:
    """Where a person is in the requests of one endpoint, and what else the person is called."""

    def __init__(self, ledger: Ledger, endpoint: str, given: Sequence[Identifier], traces: Traces) -> None:
        self.endpoint = endpoint
        self.positions: dict[int, set[int]] = {}
        """By request, where in its reply the person's contacts stand."""
        self._ledger = ledger
        self._persons: set[int] = set()
        self._find(given, everybody=True)
        self._find_inside(traces)
        inside, asked = self._identifiers()
        others = inside | asked
        shared = self._find(sorted(others), everybody=False)
        # A role's mailbox stays with the role.
        own = {one for one in others if (one.field_type != "phone" or one in asked) and not is_role(one)}
        self.own = own - shared

    def _find(self, identifiers: Sequence[Identifier], *, everybody: bool) -> set[Identifier]:
        """Note the contacts that these lead to; returns those that lead to somebody else.

        With `everybody`, whoever they lead to is the person.
        """
        asked = list(identifiers)
        wanted = Wanted([self._ledger.key_at(self.endpoint, one) for one in asked])
        shared: set[Identifier] = set()
        for row in _rows(self._ledger, self.endpoint):
            persons = _persons_by_position(row.aliases)
            mine = self.positions.get(row.id, set())
            hits = _alias_hits(row.aliases, wanted)
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)
            for at, which in zip(*wanted.find(row.asked_keys), strict=True):
                if (position := int(outcomes["position"][at])) >= 0:
                    hits.append((position, int(which)))
            for position, which in hits:
                if everybody or position in mine or persons.get(position) in self._persons:
                    self.positions.setdefault(row.id, set()).add(position)
                    self._persons.update({persons[position]} if position in persons else ())
                else:
                    shared.add(asked[which])
        return shared

    def _find_inside(self, traces: Traces) -> None:
        """Note the contacts that hold an identifier which is no alias, or in another spelling."""
        for request_id in [row.id for row in _rows(self._ledger, self.endpoint)]:
            stored = _reply(self._ledger, request_id)
            body = b"" if stored is None else decompress(stored)[0]
            # Nearly always, the person is nowhere in the reply.
            if body and traces.may_be_in(body):
                for position, record in enumerate(parse_reply(body).records):
                    if _is_theirs(record, traces):
                        self.positions.setdefault(request_id, set()).add(position)
        for row in _rows(self._ledger, self.endpoint):
            persons = _persons_by_position(row.aliases)
            inside = self.positions.get(row.id, set())
            self._persons.update(persons[at] for at in inside if at in persons)

    def _identifiers(self) -> tuple[set[Identifier], set[Identifier]]:
        """What the person's contacts hold, and what they were asked by."""
        inside: set[Identifier] = set()
        asked: set[Identifier] = set()
        for request_id, positions in self.positions.items():
            for stored in self._ledger.replies([request_id]):
                records = parse_reply(decompress(stored)[0]).records
                for position in positions:
                    inside.update(identifiers_in(contact_of(records[position]).texts))
                    asked.update(_asked_as(records[position]))
        return inside, asked


class _Removal:
    """Takes people out of the requests of one endpoint."""

    def __init__(
        self,
        ledger: Ledger,
        endpoint: str,
        barred: Iterable[Identifier],
        traces: Traces,
        persons: Iterable[_Person],
    ) -> None:
        self._ledger = ledger
        self._endpoint = endpoint
        self._barred = {ledger.key_at(endpoint, one) for one in barred}
        self._wanted = Wanted(sorted(self._barred))
        self._traces = traces
        self._positions: dict[int, set[int]] = {}
        for person in persons:
            if person.endpoint == endpoint:
                for request_id, positions in person.positions.items():
                    self._positions.setdefault(request_id, set()).update(positions)

    def remove(self) -> int:
        """Blank them in every request. Returns the contacts that were removed."""
        held = [
            row.id
            for row in _rows(self._ledger, self._endpoint)
            if row.id in self._positions
            or len(self._wanted.find(row.asked_keys)[0])
            or _alias_hits(row.aliases, self._wanted)
        ]
        others = [row.id for row in _rows(self._ledger, self._endpoint)]
        certain = set(held)
        return sum(self._remove_from(one, is_certain=one in certain) for one in others)

    def _remove_from(self, request_id: int, *, is_certain: bool) -> int:
        stored = _reply(self._ledger, request_id)
        body, whole = (b"", False) if stored is None else decompress(stored)
        is_named = bool(body) and self._traces.may_be_in(body)
        if not is_certain and not is_named:
            return 0
        parsed = parse_reply(body)
        positions = set(self._positions.get(request_id, ()))
        if is_named:
            positions |= {at for at, one in enumerate(parsed.records) if _is_theirs(one, self._traces)}
        column = _requests.c
        with self._ledger.transaction() as connection:
            row = connection.execute(
                sa.select(column.asked, column.asked_keys, column.outcomes, column.aliases).where(
                    column.id == request_id
                )
            ).one()
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT).copy()
            keys = list(unpack_keys(row.asked_keys))
            mine = [
                at
                for at, key in enumerate(keys)
                if key in self._barred or int(outcomes["position"][at]) in positions
            ]
            if stored is not None and (outcomes["position"][mine] < MISSED).any():
                positions |= self._unproven(
                    parsed, {key for at, key in enumerate(keys) if at not in set(mine)}
                )
            for at in mine:
                keys[at] = NO_KEY
                # What is in doubt, or cannot be read, still counts as that.
                if int(outcomes["position"][at]) >= MISSED:
                    outcomes["position"][at] = FORGOTTEN
            aliases = np.frombuffer(row.aliases or b"", dtype=ALIAS)
            kept = [
                one
                for one in aliases
                if int(one["position"]) not in positions and one["key"].tobytes() not in self._barred
            ]
            packed = np.array(kept, dtype=ALIAS).tobytes()
            _write_index(self._ledger, connection, request_id, b"".join(keys), outcomes, packed)
            if stored is not None:
                left = _mentioning_nobody(parsed, positions, self._traces) if is_named else parsed
                plain, is_whole = encode_without(left, positions, whole=whole)
                packed_body, encoding = compress(plain, "")
                self._ledger.rewrite_reply(
                    connection, request_id, body=packed_body, encoding=encoding, complete=is_whole
                )
        return sum(parsed.records[at].contact is not None for at in positions)

    def _unproven(self, parsed: ParsedReply, others: set[bytes]) -> set[int]:
        """Records that are not proven to be of one of the others that were asked: any may be the person."""

        def is_proven(record: Record) -> bool:
            if record.echo is None:
                return False
            keys = [self._ledger.hasher(kind, endpoint=self._endpoint)(record.echo) for kind in FIELD_TYPES]
            keys += [self._ledger.key_at(self._endpoint, one) for one in _asked_as(record)]
            return not others.isdisjoint(keys)

        return {at for at, record in enumerate(parsed.records) if not is_proven(record)}


def _rows(ledger: Ledger, endpoint: str) -> Iterator[Any]:
    """Every request of an endpoint but those in flight, which keep nobody who is suppressed anyway."""
    column = _requests.c
    names = (column.id, column.asked, column.asked_keys, column.outcomes, column.aliases)
    with ledger.reading() as connection:
        query = (
            sa.select(*names)
            .where(column.endpoint == endpoint, column.state.not_in(IN_FLIGHT_STATES))
            .order_by(column.id)
        )
        yield from connection.execute(query, execution_options={"yield_per": 50})


def _reply(ledger: Ledger, request_id: int) -> StoredReply | None:
    with ledger.reading() as connection:
        query = sa.select(_replies.c.request_id).where(_replies.c.request_id == request_id)
        is_there = connection.execute(query).scalar() is not None
    return next(ledger.replies([request_id])) if is_there else None


def _alias_hits(packed: bytes | None, wanted: Wanted) -> list[tuple[int, int]]:
    """The position of each contact that holds a wanted key, and which key that is."""
    if not packed:
        return []
    inside, which = wanted.find(packed, size=ALIAS.itemsize)
    positions = np.frombuffer(packed, dtype=ALIAS)["position"][inside]
    return list(zip(positions.tolist(), which.tolist(), strict=True))


def _persons_by_position(packed: bytes | None) -> dict[int, int]:
    if not packed:
        return {}
    aliases = np.frombuffer(packed, dtype=ALIAS)
    return dict(zip(aliases["position"].tolist(), aliases["person"].tolist(), strict=True))


def _is_theirs(record: Record, traces: Traces) -> bool:
    """Whether it was asked by one of these identifiers, or its contact says that it is one of these people."""
    texts = contact_of(record).texts.values()
    return traces.are_in(record.echo or "") or any(
        traces.are_in(text) for several in texts for text in several
    )


def _asked_as(record: Record) -> list[Identifier]:
    ones = (canonical(kind, record.echo or "") for kind in FIELD_TYPES)
    return [one for one in ones if isinstance(one, Identifier)]


def _mentioning_nobody(parsed: ParsedReply, positions: Iterable[int], traces: Traces) -> ParsedReply:
    """The reply without what other people's contacts tell of these, such as whom they are related to."""
    gone = set(positions)
    records = [
        record
        if at in gone
        or record.contact is None
        or not traces.are_in(bytes(record.contact).decode("utf-8", "replace"))
        else _excised(record, traces)
        for at, record in enumerate(parsed.records)
    ]
    return ParsedReply(tuple(records), parsed.records_enriched, parsed.whole)


def _excised(record: Record, traces: Traces) -> Record:
    def without(value: Any) -> Any:
        if isinstance(value, str):
            return None if traces.are_in(value) else value
        if isinstance(value, list):
            return [without(one) for one in cast("list[Any]", value)]
        if isinstance(value, dict):
            return {name: without(one) for name, one in cast("dict[str, Any]", value).items()}
        return value

    try:
        contact = json.loads(bytes(record.contact or b"null"))
    except ValueError:
        return Record(record.echo, None, readable=False)
    return Record(record.echo, msgspec.Raw(json.dumps(without(contact)).encode("ascii")))


def _write_index(
    ledger: Ledger,
    connection: sa.Connection,
    request_id: int,
    keys: bytes,
    outcomes: npt.NDArray[Any],
    aliases: bytes,
) -> None:
    query = sa.select(_requests.c.endpoint, _requests.c.required).where(_requests.c.id == request_id)
    row = connection.execute(query).one()
    mark = database.keys_checksum(request_id, row.endpoint, row.required, keys)
    ledger.rewrite_outcomes(
        connection, request_id, outcomes, aliases=aliases, asked_keys=keys, keys_checksum=mark
    )


# Published tables


def _published_tables(ledger: Ledger) -> list[Place]:
    with ledger.reading() as connection:
        query = sa.select(_published.c.path).order_by(_published.c.path)
        return [place(path) for path in connection.execute(query).scalars()]


def _rewrite_without(path: Place, traces: Traces) -> int | None:
    """Write the table anew without the rows that name somebody; returns how many those were.

    None if it is there and cannot be read: it is of the user's making by now.
    """
    if path.suffix.lower() in _TEXT_SUFFIXES:
        return _rewrite_text(cast("Any", path), traces)
    try:
        facts = read_metadata(path)
        opened = open_parquet(path)
    except InputError:
        return None
    with opened:
        rows = sum(int(traces.rows(batch).sum()) for batch in read_batches(opened, _BATCH_ROWS))
        if rows:
            kept = (
                part
                for batch in read_batches(opened, _BATCH_ROWS)
                for part in _slices(batch, ~traces.rows(batch))
            )
            write_parquet(kept, path, schema=opened.schema_arrow, metadata=facts or {})
    return rows


def _slices(batch: Any, is_kept: Mask) -> Iterator[Any]:
    """The rows to keep, as parts of the batch: Arrow can filter columns of some types only."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_kept, [False])).astype(np.int8)))
    for start, end in edges.reshape(-1, 2).tolist():
        yield batch.slice(start, end - start)


def _rewrite_text(path: Any, traces: Traces) -> int | None:
    """The same for a text table: its other rows stay as they are, to the byte."""
    try:
        with path.open("rb") as file:
            rows = sum(int(traces.texts(texts).sum()) for texts in _blocks(_records(file)))
            if rows:
                file.seek(0)
                with published(path) as sink:
                    for texts in _blocks(_records(file)):
                        gone = traces.texts(texts)
                        sink.writelines(
                            text.encode() for text, is_gone in zip(texts, gone, strict=True) if not is_gone
                        )
    except (OSError, UnicodeDecodeError):
        return None
    return rows


def _records(file: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8, together if a quote that opens in one of them closes in another."""
    held = b""
    for line in file:
        held += line
        if held.count(b'"') % 2 == 0:
            yield held.decode()
            held = b""
    if held:
        yield held.decode()


def _blocks(records: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(records, _BATCH_ROWS)):
        yield block

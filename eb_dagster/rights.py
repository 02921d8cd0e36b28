"""What people may ask for: not to be bought, and to be forgotten; and what a policy may: not to keep.

`suppress` keeps people from ever being sent. `forget` removes a person from the ledger's index, from
its raw replies and from the Parquet tables it published. `purge` drops what is older than an age.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import phonenumbers
import pyarrow as pa
import pyarrow.compute
import sqlalchemy as sa

from eb_dagster import database
from eb_dagster.contacts import Contact, read_contact
from eb_dagster.errors import InputError
from eb_dagster.findings import HELD
from eb_dagster.identifiers import FieldType, Identifier, canonical, identifiers_in
from eb_dagster.ledger import Ledger, StoredReply
from eb_dagster.object_store import Place, place
from eb_dagster.packed import ALIAS, FORGOTTEN, KEY_BYTES, NO_KEY, Wanted, unpack_outcomes
from eb_dagster.parquet import open_parquet, read_batches, read_metadata, write_parquet
from eb_dagster.purchase import compress, decompress
from eb_dagster.wire import IN_DOUBT, UNREADABLE, Record, encode_reply, parse_reply

_BATCH_ROWS: Final = 8_192
# pyarrow-stubs leaves much of it unknown.
compute: Any = pyarrow.compute
_requests, _replies, _published = database.requests, database.replies, database.published


_LETTERS: Final = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` removed, in counts."""

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


def suppress(
    ledger: Ledger, identifiers: Iterable[tuple[FieldType, str]], *, default_region: str | None = None
) -> int:
    """Put people on the suppression list. Returns how many were not on it before.

    Raises `InputError` that counts what is no identifier, and then suppresses nobody.
    """
    found: list[Identifier] = []
    faults: list[int] = []
    for at, (field_type, text) in enumerate(identifiers):
        one = canonical(field_type, text, default_region=default_region)
        if isinstance(one, Identifier):
            found.append(one)
        else:
            faults.append(at)
    if faults:
        some = ", ".join(str(at + 1) for at in faults[:10])
        raise InputError(
            f"values that are no identifiers of their kind: {len(faults):,} (at {some}, counted from 1); correct them or "
            "leave them out",
            spent="Nobody was suppressed",
        )
    return ledger.suppress(found)


def forget(
    ledger: Ledger, field_type: FieldType, text: str, *, default_region: str | None = None
) -> Forgotten:
    """Remove a person from the ledger and its published tables, and keep them from being bought.

    A contact is the person's if it was asked by this identifier or holds it. The person's other
    addresses and profiles go with it, unless somebody else's contact holds them too.
    """
    given = canonical(field_type, text, default_region=default_region)
    if not isinstance(given, Identifier):
        what = f"this is no {field_type} ({given}); check the spelling"
        if given == "phone_no_region":
            what = "the phone number has no country code; add --region (default_region), such as US"
        elif not _LETTERS.search(text) and field_type != "phone":
            what = (
                f"this is no {field_type} ({given}). A phone number without a country code? Then add --kind phone and "
                "--region, such as US"
            )
        raise InputError(what, spent="Nothing was forgotten")
    # First, so that nobody is bought again even if the rest breaks off.
    ledger.suppress([given])
    tables = _published_tables(ledger)
    there = [path for path in tables if path.exists()]
    persons = [_Person(ledger, endpoint, given) for endpoint in ledger.endpoints()]
    barred = {given}.union(*(person.own for person in persons))
    ledger.suppress(barred)
    # The ledger last: it knows what the person is called in the tables, if this has to be done again.
    rows = [_rewrite_without(path, barred) for path in there]
    contacts = sum(person.remove() for person in persons)
    ledger.compact()
    return Forgotten(
        contacts=contacts,
        rows=sum(rows),
        tables=sum(count > 0 for count in rows),
        missing_tables=len(tables) - len(there),
        identifiers=len(barred),
    )


def purge(ledger: Ledger, *, older_than: timedelta) -> int:
    """Drop contacts, replies and index of what was answered before that age. Returns the requests.

    What was paid and when stays; who it was for does not. Asked again, they are bought again. What may have
    been paid for without an answer stays as it is, by its keyed hash: nobody asks it again by a purge.
    """
    column = _requests.c
    with ledger.transaction() as connection:
        rows = connection.execute(
            sa.select(column.id, column.asked, column.asked_keys, column.outcomes, column.state).where(
                column.answered_at < time.time() - older_than.total_seconds(),
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
    """Where a person is in the requests of one endpoint."""

    def __init__(self, ledger: Ledger, endpoint: str, given: Identifier) -> None:
        self._ledger = ledger
        self._endpoint = endpoint
        self._positions: dict[int, set[int]] = {}
        self._questions: dict[int, set[int]] = {}
        self._persons: set[int] = set()
        self.own: set[Identifier] = set()
        self._find([given], everybody=True)
        if given.field_type == "phone":
            self._find_inside(given)
        others = self._identifiers()
        shared = self._find(sorted(others), everybody=False)
        self.own = {one for one in others if one.field_type != "phone"} - shared
        self._barred = {self._key(one) for one in (*self.own, given)}

    def _key(self, identifier: Identifier) -> bytes:
        return self._ledger.key_at(self._endpoint, identifier)

    def _find(self, identifiers: Sequence[Identifier], *, everybody: bool) -> set[Identifier]:
        """Note the contacts that these lead to; returns those that lead to somebody else.

        With `everybody`, whoever they lead to is the person.
        """
        asked = list(identifiers)
        wanted = Wanted([self._key(one) for one in asked])
        shared: set[Identifier] = set()
        for row in self._rows():
            persons = _persons_by_position(row.aliases)
            hits = _alias_hits(row.aliases, wanted)
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)
            for at, which in zip(*wanted.find(row.asked_keys), strict=True):
                self._questions.setdefault(row.id, set()).add(int(at))
                if (position := int(outcomes["position"][at])) >= 0:
                    hits.append((position, int(which)))
            for position, which in hits:
                if everybody or persons.get(position) in self._persons:
                    self._positions.setdefault(row.id, set()).add(position)
                    self._persons.update({persons[position]} if position in persons else ())
                else:
                    shared.add(asked[which])
        return shared

    def _find_inside(self, phone: Identifier) -> None:
        """Note the contacts that hold a phone, which is no alias unless a run chose so."""
        last_digits = phone.value[-4:].encode()
        for request_id in [row.id for row in self._rows()]:
            stored = self._reply(request_id)
            body = b"" if stored is None else decompress(stored)[0]
            # Nearly always, they are nowhere in the reply.
            if last_digits in body:
                for position, record in enumerate(parse_reply(body).records):
                    if phone in identifiers_in(_contact(record).texts, ("phone",)):
                        self._positions.setdefault(request_id, set()).add(position)
        for row in self._rows():
            persons = _persons_by_position(row.aliases)
            inside = self._positions.get(row.id, set())
            self._persons.update(persons[at] for at in inside if at in persons)

    def _rows(self) -> Iterator[Any]:
        column = _requests.c
        names = (column.id, column.asked, column.asked_keys, column.outcomes, column.aliases)
        with self._ledger.reading() as connection:
            query = sa.select(*names).where(column.endpoint == self._endpoint).order_by(column.id)
            yield from connection.execute(query, execution_options={"yield_per": 50})

    def _identifiers(self) -> set[Identifier]:
        found: set[Identifier] = set()
        for request_id, positions in self._positions.items():
            for stored in self._ledger.replies([request_id]):
                records = parse_reply(decompress(stored)[0]).records
                for position in positions:
                    found.update(identifiers_in(_contact(records[position]).texts))
                    found.update(_asked_as(records[position]))
        return found

    def remove(self) -> int:
        """Blank the person in every request. Returns the contacts that were removed."""
        for request_id in sorted({*self._positions, *self._questions}):
            self._remove_from(request_id, self._positions.get(request_id, set()))
        return sum(map(len, self._positions.values()))

    def _remove_from(self, request_id: int, positions: set[int]) -> None:
        column = _requests.c
        stored = self._reply(request_id)
        with self._ledger.transaction() as connection:
            row = connection.execute(
                sa.select(column.asked, column.asked_keys, column.outcomes, column.aliases).where(
                    column.id == request_id
                )
            ).one()
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT).copy()
            keys = bytearray(row.asked_keys)
            for at in range(row.asked):
                place = slice(KEY_BYTES * at, KEY_BYTES * (at + 1))
                if bytes(keys[place]) in self._barred or int(outcomes["position"][at]) in positions:
                    keys[place] = NO_KEY
                    outcomes["position"][at] = FORGOTTEN
            aliases = np.frombuffer(row.aliases or b"", dtype=ALIAS)
            kept = [
                one
                for one in aliases
                if int(one["position"]) not in positions and one["key"].tobytes() not in self._barred
            ]
            packed = np.array(kept, dtype=ALIAS).tobytes()
            _write_index(self._ledger, connection, request_id, bytes(keys), outcomes, packed)
            if stored is not None:
                plain, is_whole = _without(stored, positions)
                body, encoding = compress(plain, "")
                self._ledger.rewrite_reply(
                    connection, request_id, body=body, encoding=encoding, complete=is_whole
                )

    def _reply(self, request_id: int) -> StoredReply | None:
        with self._ledger.reading() as connection:
            query = sa.select(_replies.c.request_id).where(_replies.c.request_id == request_id)
            is_there = connection.execute(query).scalar() is not None
        return next(self._ledger.replies([request_id])) if is_there else None


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


def _contact(record: Record) -> Contact:
    try:
        return read_contact(record.contact or b"null")
    except ValueError:
        return read_contact(b"null")


def _asked_as(record: Record) -> list[Identifier]:
    kinds: tuple[FieldType, ...] = ("email", "social_profile")
    ones = (canonical(kind, record.echo or "") for kind in kinds)
    return [one for one in ones if isinstance(one, Identifier)]


def _without(stored: StoredReply, positions: set[int]) -> tuple[bytes, bool]:
    """The reply's JSON without these records, and whether the reply is still whole.

    Positions stay. What could not be read as records is dropped: the person may be in it.
    """
    body, is_whole = decompress(stored)
    parsed = parse_reply(body)
    blank = Record("", None)
    records = [blank if at in positions else record for at, record in enumerate(parsed.records)]
    return encode_reply(records, parsed.records_enriched), is_whole and parsed.whole


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


def _rewrite_without(path: Place, person: Iterable[Identifier]) -> int:
    """Write the table anew without the person's rows; returns how many those were."""
    facts = read_metadata(path)
    pattern = "|".join(f"(?:{_pattern(one)})" for one in sorted(person))
    with open_parquet(path) as opened:
        rows = sum(_rows_of(batch, pattern) for batch in read_batches(opened, _BATCH_ROWS))
        if rows:
            batches = read_batches(opened, _BATCH_ROWS)
            kept = (batch.filter(pa.array(~_mask(batch, pattern))) for batch in batches)
            write_parquet(kept, path, schema=opened.schema_arrow, metadata=facts or {})
    return rows


def _rows_of(batch: Any, pattern: str) -> int:
    return int(_mask(batch, pattern).sum())


def _mask(batch: Any, pattern: str) -> npt.NDArray[np.bool_]:
    """For each row, whether any text in it names the person."""
    found = np.zeros(batch.num_rows, dtype=bool)
    for column in batch.columns:
        for rows, texts in _texts(column):
            hits = compute.match_substring_regex(texts, pattern, ignore_case=True)
            found[rows[np.asarray(compute.fill_null(hits, False))]] = True
    return found


def _texts(column: Any) -> Iterable[tuple[npt.NDArray[Any], Any]]:
    """Every text inside a column, however nested, with the rows that they are in."""
    pending = [(np.arange(len(column)), column)]
    while pending:
        rows, values = pending.pop()
        kind = values.type
        if pa.types.is_dictionary(kind):
            pending.append((rows, values.dictionary_decode()))
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            yield rows, values
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            pending.append(
                (rows[np.asarray(compute.list_parent_indices(values))], compute.list_flatten(values))
            )
        elif pa.types.is_struct(kind):
            pending += [(rows, compute.struct_field(values, at)) for at in range(kind.num_fields)]
        elif str(kind) == "string_view":
            yield rows, values.cast(pa.string())


def _pattern(identifier: Identifier) -> str:
    """A regular expression (RE2) for the identifier in any usual spelling."""
    value = identifier.value
    if identifier.field_type == "email":
        return rf"(?:^|[^\w.+-]){re.escape(value)}(?:$|[^\w-])"
    if identifier.field_type == "social_profile":
        spelled = re.escape(value.removeprefix("linkedin.com/"))
        return rf"(?:^|[^\w-]){spelled}(?:$|[^\w-])"
    number = phonenumbers.parse(value, None)
    national = r"[^0-9]{0,3}".join(phonenumbers.national_significant_number(number))
    return rf"(?:^|[^0-9]|{number.country_code}|0){national}(?:$|[^0-9])"

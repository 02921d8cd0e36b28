"""Read a kept reply: align it, and note in the ledger what it says. The only place that reads one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from eb_dagster.api.compression import inflate
from eb_dagster.api.envelope import (
    FAILED,
    IN_DOUBT,
    UNREADABLE,
    ParsedReply,
    Record,
    align,
    counts_more,
    encode_reply,
    parse_reply,
)
from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import Flattened, flatten
from eb_dagster.contacts.parser import is_utf8
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.identifiers.canonical import canonical, identifiers_in
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from eb_dagster.ledger.aliases import inside_contacts
from eb_dagster.ledger.entries import FORGOTTEN, NO_KEY, pack_outcomes
from eb_dagster.ledger.ledger import Ledger, StoredReply, SuppressionList, Withheld

_ZSTD: Final = "eb-zstd"


@dataclass(frozen=True, slots=True)
class Reading:
    """An applied reply: for each question where its contact stands in it, or a negative outcome."""

    stored: StoredReply
    positions: list[int]
    contacts: Flattened = field(repr=False)
    rows: Mapping[int, int]
    """By position in the reply, the contact's row among `contacts`."""
    with_vanity: frozenset[int]
    """Which of these rows have a LinkedIn profile under a name of its owner's choice."""
    extra: int
    wrong_count: bool
    is_whole: bool
    credits: int
    """Contacts that were charged, whoever they are withheld from."""

    @property
    def unreadable(self) -> int:
        """Questions whose answer cannot be read."""
        return self.positions.count(UNREADABLE)


def compress(body: bytes, encoding: str) -> tuple[bytes, str]:
    """A raw reply as it is kept: as it came if it came compressed, else with zstd."""
    if encoding.strip() or not body:
        return body, encoding
    return pa.compress(body, codec="zstd", asbytes=True), f"{_ZSTD}:{len(body)}"


def decompress(stored: StoredReply) -> tuple[bytes, bool]:
    """A stored reply's body as JSON text, and whether it is whole."""
    name, _, size = stored.encoding.partition(":")
    if name == _ZSTD:
        body = pa.decompress(stored.body, decompressed_size=int(size), codec="zstd", asbytes=True)
        return bytes(body), stored.complete
    body, whole = inflate(stored.body, stored.encoding)
    return body, whole and stored.complete


def apply_reply(
    ledger: Ledger,
    stored: StoredReply,
    *,
    sent: Mapping[str, int] = MappingProxyType({}),
) -> Reading:
    """Read a durable reply and note in the ledger what it says.

    `sent` are the places of the values that were asked, where they are still known; an echo that
    is none of them is found by its hash. All that is found inside a contact is noted: `forget` finds a
    person by it, and what stands inside contacts of two people is told from what is one person's.
    """
    body, whole = decompress(stored)
    parsed = parse_reply(body)
    keys = stored.keys
    places = {key: at for at, key in enumerate(keys)}

    def find(echo: str) -> Collection[int]:
        if (place := sent.get(echo)) is not None:
            return (place,)
        readings = {*ledger.keys_of_echo(echo, FIELD_TYPES), *map(ledger.key, _spellings(echo))}
        return {places[key] for key in readings if key in places}

    alignment = align(parsed, asked=len(keys), find=find, complete=whole)
    positions, contacts = _read_contacts(keys, alignment.positions, parsed.records, is_text=is_utf8(body))
    if FAILED in positions and counts_more(parsed):
        # Somebody was charged of whom no contact came.
        positions = [IN_DOUBT if one == FAILED else one for one in positions]
    bought = len({one for one in positions if one >= 0})
    while True:
        listed = ledger.suppression_list()
        barred = _suppressed_records(ledger, listed, parsed.records)
        withheld = None
        if barred:
            is_barred = [one in barred for one in positions]
            positions = [FORGOTTEN if gone else one for one, gone in zip(positions, is_barred, strict=True)]
            contacts = [None if gone else one for one, gone in zip(contacts, is_barred, strict=True)]
            withheld = _without(stored, parsed, whole=whole, barred=barred, is_barred=is_barred)
        there = [(row, one) for row, one in enumerate(contacts) if one is not None]
        flattened = flatten(contacts)
        inside = inside_contacts(contacts, flattened)
        held = {positions[row]: one.fields | inside.marks(row) for row, one in there}
        if ledger.apply(
            stored.request_id, records_enriched=parsed.records_enriched, credits=bought,
            outcomes=pack_outcomes(positions, [held.get(one, 0) for one in positions]),
            aliases=inside.packed(ledger, positions, held), withheld=withheld, list_version=listed.version,
        ):  # fmt: skip
            break
    count = parsed.records_enriched
    return Reading(
        stored, positions, flattened, {positions[row]: row for row, _ in there}, inside.with_vanity,
        alignment.extra,
        wrong_count=count not in (None, sum(one.contact is not None for one in parsed.records)),
        is_whole=whole and parsed.whole, credits=bought,
    )  # fmt: skip


def _suppressed_records(
    ledger: Ledger, listed: SuppressionList, records: Sequence[Record]
) -> dict[int, list[Identifier]]:
    """Where suppressed people stand in a reply, and by what each of them was asked.

    Whoever holds a suppressed address or profile is that person; a phone may be a colleague's too.
    """
    if not listed.keys:
        return {}
    asked = [list(_spellings(record.echo or "")) for record in records]
    offered = [
        {*mine, *identifiers_in(contact_of(record).texts, ("social_profile", "email"))}
        for record, mine in zip(records, asked, strict=True)
    ]
    barred = ledger.suppressed({one for several in offered for one in several}, among=listed)
    return {at: asked[at] for at, several in enumerate(offered) if not barred.isdisjoint(several)}


def contact_of(record: Record) -> Contact:
    """The contact of a record; one without anything if there is none, or it cannot be read."""
    try:
        return read_contact(record.contact or b"null")
    except ValueError:
        return read_contact(b"null")


def _without(
    stored: StoredReply,
    parsed: ParsedReply,
    *,
    whole: bool,
    barred: Mapping[int, list[Identifier]],
    is_barred: Sequence[bool],
) -> Withheld:
    """What is kept of a reply with suppressed people in it. `is_barred` is by question."""
    body, is_whole = encode_without(parsed, barred, whole=whole)
    packed, encoding = compress(body, "")
    keys = b"".join(NO_KEY if gone else key for key, gone in zip(stored.keys, is_barred, strict=True))
    asked = [one for several in barred.values() for one in several]
    return Withheld(keys, packed, encoding, is_whole, asked)


def encode_without(parsed: ParsedReply, positions: Collection[int], *, whole: bool) -> tuple[bytes, bool]:
    """A reply's JSON without the records at these positions, and whether it is complete.

    The others keep their positions, and read again they come to the same. What could not be read as
    records is dropped: the person may be in it.
    """
    nameless = Record(None, None, readable=False)
    records = [
        record if at not in positions else nameless if record.echo is None else Record("", None)
        for at, record in enumerate(parsed.records)
    ]
    if whole and not parsed.whole:
        # It stands for what could not be read, which is neither missed nor in doubt.
        records.append(nameless)
    return encode_reply(records, parsed.records_enriched), whole


def _read_contacts(
    keys: Sequence[bytes], positions: Sequence[int], records: Sequence[Record], *, is_text: bool
) -> tuple[list[int], list[Contact | None]]:
    """For each question, where its contact stands or a negative outcome; and that contact, each of them once."""
    read: set[int] = set()
    outcomes: list[int] = []
    contacts: list[Contact | None] = []
    for key, position in zip(keys, positions, strict=True):
        contact, outcome = None, FORGOTTEN if key == NO_KEY else position
        if outcome >= 0 and outcome not in read:
            try:
                contact = read_contact(records[position].contact or b"null", is_text=is_text)
                read.add(position)
            except ValueError:
                # No JSON after all. It is kept, and read again after an upgrade.
                outcome = UNREADABLE
        outcomes.append(outcome)
        contacts.append(contact)
    return outcomes, contacts


def _spellings(echo: str) -> Iterable[Identifier]:
    texts: list[tuple[FieldType, str]] = [(kind, echo) for kind in FIELD_TYPES]
    if echo.strip().isdigit():
        texts.append(("phone", f"+{echo.strip()}"))
    for kind, text in texts:
        one = canonical(kind, text)
        if isinstance(one, Identifier):
            yield one

"""Read a kept reply: match it to its questions, and note in the ledger what it says of each.

No other file matches. `forgetting`, and in the pipeline `output`, `publication` and `eligibility`, only take
contacts out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from eb_dagster.ledger.aliases import identifiers_inside
from eb_dagster.ledger.entries import FORGOTTEN, NO_KEY, pack_outcomes
from eb_dagster.ledger.ledger import Ledger, Withheld
from eb_dagster.ledger.reply_store import StoredReply
from eb_dagster.ledger.suppression import SuppressionList

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
    """Those of these rows with a LinkedIn profile under a name that its owner chose."""
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

    `sent` are the indices of the values that were asked, where they are still known; any other echo is found by
    its hash. All that is found inside a contact is noted: `forget` finds a person by it, and what stands inside
    contacts of two people is told from what is one person's.
    """
    answers = _read_answers(ledger, stored, sent)
    listed = ledger.suppression.last_read()
    while (reading := _note(ledger, answers, listed)) is None:
        listed = ledger.suppression.current()
    return reading


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a reply says, whoever is suppressed. Positions and contacts are by question."""

    stored: StoredReply
    parsed: ParsedReply
    is_whole: bool
    positions: list[int]
    contacts: list[Contact | None] = field(repr=False)
    extra: int


def _read_answers(ledger: Ledger, stored: StoredReply, sent: Mapping[str, int]) -> _Answers:
    body, is_whole = decompress(stored)
    parsed = parse_reply(body)
    keys = stored.keys
    find = _echo_finder(ledger, stored, sent)
    alignment = align(parsed, asked=len(keys), find=find, complete=is_whole)
    positions, contacts = _read_contacts(keys, alignment.positions, parsed.records, is_text=is_utf8(body))
    if FAILED in positions and counts_more(parsed):
        # Somebody was charged of whom no contact came.
        positions = [IN_DOUBT if position == FAILED else position for position in positions]
    return _Answers(stored, parsed, is_whole, positions, contacts, alignment.extra)


def _echo_finder(
    ledger: Ledger, stored: StoredReply, sent: Mapping[str, int]
) -> Callable[[str], Collection[int]]:
    """A function that finds the questions whose value an echo is."""
    index_of = {key: index for index, key in enumerate(stored.keys)}

    def find(echo: str) -> Collection[int]:
        index = sent.get(echo)
        if index is not None:
            return (index,)
        return {index_of[key] for key in _keys_of_echo(ledger, echo, stored.endpoint) if key in index_of}

    return find


def _keys_of_echo(ledger: Ledger, echo: str, endpoint: str) -> set[bytes]:
    """The keys under which an echoed value may have been asked: as it is, and in its canonical spellings."""
    keys = {ledger.hasher(kind, endpoint=endpoint)(echo) for kind in FIELD_TYPES}
    keys.update(ledger.key(identifier, endpoint=endpoint) for identifier in _spellings(echo))
    return keys


def _note(ledger: Ledger, answers: _Answers, listed: SuppressionList) -> Reading | None:
    """Note the answers without whoever is on this suppression list. None if there is a newer list."""
    stored, parsed = answers.stored, answers.parsed
    kept, withheld = _withhold(answers, _suppressed_records(ledger, listed, parsed.records))
    positions, contacts = kept.positions, kept.contacts
    flattened = flatten(contacts)
    inside = identifiers_inside(contacts, flattened)
    held = {
        positions[row]: contact.fields | inside.marks(row)
        for row, contact in enumerate(contacts)
        if contact is not None
    }
    charged = _count_charged(answers)
    is_noted = ledger.apply(
        stored.request_id,
        outcomes=pack_outcomes(positions, [held.get(position, 0) for position in positions]),
        aliases=inside.pack(
            positions, held, hasher=lambda kind: ledger.hasher(kind, endpoint=stored.endpoint)
        ),
        records_enriched=parsed.records_enriched,
        credits=charged,
        withheld=withheld,
        list_version=listed.version,
    )
    if not is_noted:
        return None
    return Reading(
        stored,
        positions,
        flattened,
        {positions[row]: row for row, contact in enumerate(contacts) if contact is not None},
        inside.with_vanity,
        answers.extra,
        wrong_count=_is_count_wrong(parsed),
        is_whole=answers.is_whole and parsed.whole,
        credits=charged,
    )


def _withhold(
    answers: _Answers, suppressed: Mapping[int, list[Identifier]]
) -> tuple[_Answers, Withheld | None]:
    """The answers without suppressed people, and what is then kept of the reply. None if all of it is kept."""
    if not suppressed:
        return answers, None
    is_suppressed = [position in suppressed for position in answers.positions]
    positions = [
        FORGOTTEN if gone else position
        for position, gone in zip(answers.positions, is_suppressed, strict=True)
    ]
    contacts = [
        None if gone else contact for contact, gone in zip(answers.contacts, is_suppressed, strict=True)
    ]
    kept = replace(answers, positions=positions, contacts=contacts)
    return kept, _without(answers, suppressed=suppressed, is_suppressed=is_suppressed)


def _count_charged(answers: _Answers) -> int:
    """How many contacts were charged, whoever they are withheld from."""
    return len({position for position in answers.positions if position >= 0})


def _is_count_wrong(parsed: ParsedReply) -> bool:
    """Whether the reply counts other contacts than are in it."""
    contacts = sum(record.contact is not None for record in parsed.records)
    return parsed.records_enriched not in (None, contacts)


def _suppressed_records(
    ledger: Ledger, listed: SuppressionList, records: Sequence[Record]
) -> dict[int, list[Identifier]]:
    """By position in the reply, the suppressed people, each with the identifiers by which they were asked.

    Whoever holds a suppressed address or profile is that person; a phone may be a colleague's too.
    """
    if not listed.keys:
        return {}
    asked_by = [list(_spellings(record.echo or "")) for record in records]
    identifiers = [
        {*asked, *identifiers_in(contact_of(record).texts, ("social_profile", "email"))}
        for record, asked in zip(records, asked_by, strict=True)
    ]
    suppressed = ledger.suppression.matching(set[Identifier]().union(*identifiers), among=listed)
    return {
        position: asked_by[position]
        for position, several in enumerate(identifiers)
        if not suppressed.isdisjoint(several)
    }


def contact_of(record: Record) -> Contact:
    """The contact of a record; an empty one if there is none, or it cannot be read."""
    try:
        return read_contact(record.contact or b"null")
    except ValueError:
        return read_contact(b"null")


def _without(
    answers: _Answers, *, suppressed: Mapping[int, list[Identifier]], is_suppressed: Sequence[bool]
) -> Withheld:
    """What is kept of a reply with suppressed people in it. `is_suppressed` is by question."""
    plain, is_whole = encode_without(answers.parsed, suppressed, whole=answers.is_whole)
    body, encoding = compress(plain, "")
    keys = answers.stored.keys
    kept_keys = [NO_KEY if gone else key for key, gone in zip(keys, is_suppressed, strict=True)]
    asked_by = [identifier for several in suppressed.values() for identifier in several]
    return Withheld(b"".join(kept_keys), body, encoding, is_whole, asked_by)


def encode_without(parsed: ParsedReply, positions: Collection[int], *, whole: bool) -> tuple[bytes, bool]:
    """A reply's JSON without the records at these positions, and whether it is complete.

    The others keep their positions, and have the same outcomes when they are read again. What could not be read as
    records is dropped: the person may be in it.
    """
    nameless = Record(None, None, readable=False)
    records: list[Record] = []
    for position, record in enumerate(parsed.records):
        if position not in positions:
            records.append(record)
        else:
            records.append(nameless if record.echo is None else Record("", None))
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
        identifier = canonical(kind, text)
        if isinstance(identifier, Identifier):
            yield identifier

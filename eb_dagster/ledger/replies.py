"""Read a kept reply: match it to its questions, and note in the ledger what it says of each.

No other file matches. `forgetting`, and in the pipeline `output`, `publication` and `eligibility`, only take
contacts out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Final, cast

import numpy as np
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
from eb_dagster.identifiers.arrays import Mask
from eb_dagster.identifiers.canonical import canonical, identifiers_in
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from eb_dagster.ledger.aliases import held_in, identifiers_inside
from eb_dagster.ledger.entries import (
    FORGOTTEN,
    NO_KEY,
    VANITY,
    Entries,
    Indices,
    pack_keys,
    pack_outcomes,
)
from eb_dagster.ledger.kept_columns import KeptRow
from eb_dagster.ledger.ledger import Ledger, Withheld
from eb_dagster.ledger.reply_store import StoredReply
from eb_dagster.ledger.suppression import SuppressionList

_ZSTD: Final = "eb-zstd"


@dataclass(frozen=True, slots=True)
class Reading:
    """An applied reply: for each question where its contact stands in it, or a negative outcome."""

    stored: StoredReply
    positions: Indices
    contacts: Flattened = field(repr=False)
    """A row for each question, vacant where it has none."""
    has_vanity: Mask
    """By question, whether its contact has a LinkedIn profile under a name that its owner chose."""
    extra: int
    wrong_count: bool
    is_whole: bool
    credits: int
    """Contacts that were charged, whoever they are withheld from."""

    @property
    def unreadable(self) -> int:
        """Questions whose answer cannot be read."""
        return int(np.count_nonzero(self.positions == UNREADABLE))


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
    while True:
        notes = read_reply(ledger, stored, sent=sent)
        if note_reply(ledger, notes):
            return notes.reading


def read_reply(ledger: Ledger, stored: StoredReply, *, sent: Mapping[str, int]) -> Notes:
    """Read a durable reply, and change nothing."""
    return _notes(ledger, _read_answers(ledger, stored, sent), ledger.suppression.last_read())


def note_reply(ledger: Ledger, notes: Notes) -> bool:
    """Note in the ledger what a reply says. If somebody was suppressed since it was read, it has to be read again."""
    is_noted = ledger.apply(
        notes.reading.stored.request_id,
        outcomes=notes.outcomes,
        aliases=notes.aliases,
        records_enriched=notes.records_enriched,
        credits=notes.reading.credits,
        withheld=notes.withheld,
        list_version=notes.list_version,
    )
    if not is_noted:
        ledger.suppression.current()
    elif notes.kept_row is not None:
        ledger.kept_columns.keep(notes.kept_row)
    return is_noted


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What a reply says, whoever is suppressed."""

    stored: StoredReply
    parsed: ParsedReply
    is_whole: bool
    positions: Indices
    """For each question where its contact stands, or a negative outcome."""
    contacts: Flattened = field(repr=False)
    """Those that answer, in the order of the questions."""
    extra: int

    @property
    def credits(self) -> int:
        """How many contacts were charged, whoever they are withheld from."""
        return int(np.count_nonzero(self.positions >= 0))


@dataclass(frozen=True, slots=True, eq=False)
class Notes:
    """What is to be noted of a reply, by one version of the suppression list."""

    reading: Reading
    outcomes: Entries
    aliases: Entries
    records_enriched: int | None
    withheld: Withheld | None
    list_version: int
    kept_row: KeptRow | None = field(repr=False)
    """The contacts as they are kept beside the reply, if they stand in the order of its records."""


def _read_answers(ledger: Ledger, stored: StoredReply, sent: Mapping[str, int]) -> _Answers:
    body, is_whole = decompress(stored)
    parsed = parse_reply(body)
    keys = pack_keys(stored.asked_keys)
    find = _echo_finder(ledger, stored)
    alignment = align(parsed, asked=len(keys), find=find, complete=is_whole, sent=sent)
    positions = np.array(alignment.positions, dtype=np.int64)
    positions[keys == np.void(NO_KEY)] = FORGOTTEN
    contacts = _read_contacts(positions, parsed.records, is_text=is_utf8(body))
    if (positions == FAILED).any() and counts_more(parsed):
        # Somebody was charged of whom no contact came.
        positions[positions == FAILED] = IN_DOUBT
    return _Answers(stored, parsed, is_whole, positions, contacts, alignment.extra)


def _echo_finder(ledger: Ledger, stored: StoredReply) -> Callable[[str], Collection[int]]:
    """A function that finds the questions whose value an echo is, however it is spelled."""

    @cache
    def index_of() -> dict[bytes, int]:
        return {key: index for index, key in enumerate(stored.keys)}

    def find(echo: str) -> Collection[int]:
        index = index_of()
        return {index[key] for key in _keys_of_echo(ledger, echo, stored.endpoint) if key in index}

    return find


def _keys_of_echo(ledger: Ledger, echo: str, endpoint: str) -> set[bytes]:
    """The keys under which an echoed value may have been asked: as it is, and in its canonical spellings."""
    keys = {ledger.hasher(kind, endpoint=endpoint)(echo) for kind in FIELD_TYPES}
    keys.update(ledger.key(identifier, endpoint=endpoint) for identifier in _spellings(echo))
    return keys


def _notes(ledger: Ledger, answers: _Answers, listed: SuppressionList) -> Notes:
    """What is to be noted of the answers, without whoever is on this suppression list."""
    stored, parsed = answers.stored, answers.parsed
    kept, withheld = _withhold(answers, _suppressed_records(ledger, listed, parsed.records))
    is_found = kept.positions >= 0
    inside = identifiers_inside(kept.contacts)
    held_by_row = held_in(kept.contacts, inside)
    held = np.zeros(len(kept.positions), dtype=np.int64)
    held[is_found] = held_by_row
    given = sum(record.contact is not None for record in parsed.records)
    aliases = inside.pack(
        kept.positions[is_found],
        held_by_row,
        hash_column=lambda kind, values: ledger.hash_column(kind, values, endpoint=stored.endpoint),
    )
    reading = Reading(
        stored,
        kept.positions,
        kept.contacts.with_gaps(is_found),
        held & VANITY > 0,
        answers.extra,
        wrong_count=parsed.records_enriched not in (None, given),
        is_whole=answers.is_whole and parsed.whole,
        credits=answers.credits,
    )
    is_in_order = len(parsed.records) == len(kept.positions) and given == np.count_nonzero(
        kept.positions == np.arange(len(kept.positions))
    )
    return Notes(
        reading,
        pack_outcomes(kept.positions, held),
        aliases,
        parsed.records_enriched,
        withheld,
        listed.version,
        ledger.kept_columns.row_for(stored.request_id, reading.contacts, reply_checksum=stored.checksum)
        if is_in_order and withheld is None
        else None,
    )


def _withhold(
    answers: _Answers, suppressed: Mapping[int, list[Identifier]]
) -> tuple[_Answers, Withheld | None]:
    """The answers without suppressed people, and what is then kept of the reply. None if all of it is kept."""
    if not suppressed:
        return answers, None
    positions = answers.positions
    is_suppressed = np.isin(positions, [*suppressed])
    kept = replace(
        answers,
        positions=np.where(is_suppressed, FORGOTTEN, positions),
        contacts=answers.contacts.take(np.flatnonzero(~is_suppressed[positions >= 0])),
    )
    return kept, _without(answers, suppressed=suppressed, is_suppressed=is_suppressed.tolist())


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


def _read_contacts(positions: Indices, records: Sequence[Record], *, is_text: bool) -> Flattened:
    """The contacts at these positions. An outcome that no contact can be read for becomes unreadable."""

    def contacts() -> Iterator[Contact]:
        for question, position in enumerate(cast("list[int]", positions.tolist())):
            if position < 0:
                continue
            try:
                contact = read_contact(records[position].contact or b"null", is_text=is_text)
            except ValueError:
                # No JSON after all. It is kept, and read again after an upgrade.
                positions[question] = UNREADABLE
            else:
                yield contact

    return flatten(contacts())


def _spellings(echo: str) -> Iterable[Identifier]:
    texts: list[tuple[FieldType, str]] = [(kind, echo) for kind in FIELD_TYPES]
    if echo.strip().isdigit():
        texts.append(("phone", f"+{echo.strip()}"))
    for kind, text in texts:
        identifier = canonical(kind, text)
        if isinstance(identifier, Identifier):
            yield identifier

"""The request form and the parsed reply. The only file that knows the API's JSON envelope.

An envelope of another vendor offers what this one does:

- where to send (`PATH`, `CONTENT_TYPE`), how many identifiers a request may ask (`MOST_IDENTIFIERS`), and
  what it may require of a contact (`RequiredField`);
- `encode_form`: identifiers as the body of a request;
- `parse_reply`: the body of a reply as `Record`s, without ever raising; and `encode_reply`, its reverse;
- `has_contacts_key` and `tells_of_contacts`: whether the bytes of a damaged body still tell of contacts;
- `counts_more`: whether a reply counts more records than it holds contacts;
- `align` and `made_apart`: which record answers which identifier, by what the vendor makes of an echo, with
  the marks of what answered none (`MISSED`, `IN_DOUBT`, `UNREADABLE`, `FAILED`);
- `REQUIRED_FIELDS` and `pack_fields`: what may be required, and how the ledger keeps it.

`outcome`, the ledger and the pipeline know the API by these alone. How a contact itself is read, whatever
the vendor, is up to `contacts/`. The replies that a ledger keeps are read by this file too: one that reads them
no more makes them unreadable.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from types import MappingProxyType
from typing import Final, TypeGuard
from urllib.parse import quote_plus

import msgspec

from eb_dagster.identifiers.model import FIELD_TYPES, FieldType

PATH: Final = "/v1/bulk-enrich"
CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
MOST_IDENTIFIERS: Final = 1000
"""The vendor's documented limit for one request."""


class RequiredField(IntFlag):
    """What a request may require of a contact. The bits are kept in ledgers: never change one."""

    EMAIL = 1
    WORK_EMAIL = 2
    PERSONAL_EMAIL = 4
    PHONE = 8
    SOCIAL_PROFILE = 16


REQUIRED_FIELDS: Final = tuple(name.lower() for name in RequiredField.__members__)
"""As the API spells them."""

MISSED: Final = -1
IN_DOUBT: Final = -2
UNREADABLE: Final = -3
FAILED: Final = -8
"""The vendor says that it could not look: nobody was charged, and it may be asked again.

The numbers between are decisions of a person, in `ledger/entries.py`.
"""


def pack_fields(names: Iterable[str]) -> int:
    """A set of required-field names as bits."""
    return _pack_fields(frozenset(names))


@cache
def _pack_fields(names: frozenset[str]) -> int:
    return sum(RequiredField[name.upper()].value for name in names)


def encode_form(
    kinds: Sequence[FieldType], values: Sequence[str], *, required_fields: Sequence[str]
) -> bytes:
    """The form as the vendor's Python sample sends it: two fields, each a JSON array as text.

    It asks for identifiers of these kinds with these values.
    """
    if not 1 <= len(values) <= MOST_IDENTIFIERS:
        raise ValueError(f"a request asks 1 to {MOST_IDENTIFIERS} identifiers")
    # No JSON text holds a line's end of its own, so the quoted texts are between those.
    texts = _quoted(_encode_lines(values)[1:-1].encode("ascii")).split(_QUOTED_LINE_END)
    questions = [_QUOTED_QUESTIONS[kind] + text for kind, text in zip(kinds, texts, strict=True)]
    required = json.dumps([{"field_type": name} for name in required_fields])
    return b"".join([
        b"query_list=%5B",
        b"%7D%2C+".join(questions),
        b"%7D%5D&required_fields=",
        _quoted(required.encode("ascii")),
    ])  # fmt: skip


_encode_lines: Final = json.JSONEncoder(separators=("\n", ": ")).encode

# The percent sign first, and the space, which becomes a plus, last.
_QUOTED: Final = [
    (char.encode(), quote_plus(char).encode())
    for char in sorted(map(chr, range(128)), key=lambda char: (char != "%", char == " "))
    if quote_plus(char) != char
]


def _quoted(text: bytes) -> bytes:
    """What `quote_plus` gives for ASCII. That takes its time for each character: ten times as slow."""
    for char, quoted in _QUOTED:
        text = text.replace(char, quoted)
    return text


_QUOTED_LINE_END: Final = _quoted(b"\n")
_QUOTED_QUESTIONS: Final = {
    kind: _quoted(f'{{"field_type": "{kind}", "value": '.encode()) for kind in FIELD_TYPES
}
"""By kind, how a question begins, up to its value."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One entry of a reply: what it answers, and the contact as raw JSON, or None for a miss.

    One that failed holds an error, and says neither that somebody was found nor that nobody was. The raw
    JSON is a view into the reply's bytes. Its repr shows no person.
    """

    echo: str | None
    contact: msgspec.Raw | None
    readable: bool = True
    failed: bool = False

    def says_the_same(self, other: Record) -> bool:
        """Whether both give one answer, whatever spelling they echo."""
        return (self.contact, self.readable, self.failed) == (other.contact, other.readable, other.failed)

    def __repr__(self) -> str:
        return f"Record(readable={self.readable})"

    def __rich_repr__(self) -> list[tuple[str, bool]]:
        return [("readable", self.readable)]


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What could be read of a reply. `whole` is false when parts may be missing from `records`."""

    records: tuple[Record, ...]
    records_enriched: int | None
    whole: bool


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where each asked identifier's answer is: a position in `records`, or a negative outcome."""

    positions: tuple[int, ...]
    extra: int
    """Records that answer nothing that was asked, or answer it once more."""


# Any other key may be an error, so what has one is read with more care.
class _Entry(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An entry as documented."""

    value: str
    enriched_contact: msgspec.Raw


class _Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    contacts: list[_Entry]
    records_enriched: int | None = None


_decode = msgspec.json.decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_sections = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entries = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_NULL: Final = msgspec.Raw(b"null")
# Ways to say that nobody was found. An empty object is a contact: somebody, of whom nothing is known.
_NOBODY: Final = tuple(map(msgspec.Raw, (b"null", b"false", b"0", b'""', b"[]")))
_EMPTY_CONTACT: Final = re.compile(rb"\s*\{\s*\}\s*")

# An error is told by the name of its key, or by the value of a key that tells how the look-up went.
_ERROR_KEY: Final = re.compile(
    r"(?<![a-z])(?:err|error(?:s|ed)?|exceptions?|fail(?:ed|ures?)?|faults?|timed_?out)(?![a-z])"
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SUCCESS_KEYS: Final = frozenset({"success", "successful", "succeeded", "ok"})
_STATUS_KEYS: Final = frozenset({"status", "state", "status_code", "code"})
_MESSAGE_KEYS: Final = frozenset({"message", "msg", "detail", "details", "reason"})
_KEYS_OF_OUTCOME: Final = _SUCCESS_KEYS | _STATUS_KEYS | _MESSAGE_KEYS
_NO_ERROR: Final = frozenset({"", "none", "null", "false", "0", "no"})
_WENT_WELL: Final = re.compile(
    r"(?:ok(?:ay)?|success(?:ful(?:ly)?)?|succeeded|done|completed?|finished|processed|enriched|matched|found|true"
    r"|2\d\d|404)\W*|.*(?:not?[ _-]?(?:found|match|contact|record|result|data|person|hit)|unmatched|miss(?:ed)?\b"
    r"|nobody|not[ _-](?:be[ _-])?(?:found|enriched)|unenriched).*",
    re.IGNORECASE | re.DOTALL,
)


def parse_reply(body: bytes) -> ParsedReply:
    """Read a decoded reply. Never raises: what cannot be read is simply not in it."""
    try:
        try:
            envelope = _decode_envelope(body)
        except msgspec.ValidationError:
            return _parse_odd(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(body.decode("utf-8", "replace"))
    records = [
        Record(entry.value, None if entry.enriched_contact in _NOBODY else entry.enriched_contact)
        for entry in envelope.contacts
    ]
    return ParsedReply(tuple(records), envelope.records_enriched, whole=True)


def _parse_odd(body: bytes) -> ParsedReply:
    """A reply in which a key is missing, new or of another type."""
    sections = _decode_sections(body)
    entries = _decode_entries(sections.pop("contacts", _NULL))
    records = tuple([_odd_record(entry) for entry in entries])
    count = _count(_decode(sections.pop("records_enriched", _NULL)))
    return _apply_error(ParsedReply(records, count, whole=True), _decoded(sections))


def _odd_record(entry: dict[str, msgspec.Raw]) -> Record:
    echo = _echo(_decode(entry.pop("value", _NULL)))
    contact = entry.pop("enriched_contact", None)
    return _record(echo, contact, _decoded(entry))


def _decoded(sections: Mapping[str, msgspec.Raw]) -> dict[str, object]:
    return {name: _decode(value) for name, value in sections.items() if _tells_how_it_went(name)}


def _record(echo: str | None, contact: msgspec.Raw | None, beside: Mapping[str, object]) -> Record:
    is_miss = contact is None or contact in _NOBODY
    is_empty = is_miss or _EMPTY_CONTACT.fullmatch(contact or b"")
    if is_empty and any(_is_error(name, value) for name, value in beside.items()):
        return Record(echo, None, failed=True)
    return Record(echo, None if is_miss else contact, readable=contact is not None)


def _apply_error(parsed: ParsedReply, beside: Mapping[str, object]) -> ParsedReply:
    """The reply as parsed, but with failures in place of misses if the whole reply carries an error."""
    # A message may sum up how many were found, which is no error.
    telling = {name: value for name, value in beside.items() if name not in _MESSAGE_KEYS}
    if not any(_is_error(name, value) for name, value in telling.items()):
        return parsed
    records = [
        Record(record.echo, None, failed=True) if record.contact is None else record
        for record in parsed.records
    ]
    return ParsedReply(tuple(records), parsed.records_enriched, parsed.whole)


def _tells_how_it_went(name: str) -> bool:
    name = _spelled(name)
    return name in _KEYS_OF_OUTCOME or _ERROR_KEY.search(name) is not None


def _spelled(name: str) -> str:
    """A key's name in snake case."""
    return _HUMP.sub("_", name).replace("-", "_").lower()


def _is_error(name: str, value: object) -> bool:
    """Whether a key beside a contact, or beside all of them, says that something went wrong."""
    name = _spelled(name)
    says_nothing = _says_nothing(value)
    if name in _SUCCESS_KEYS or value is False:
        # "success": false is an error, "error": false is none.
        return says_nothing and value is not None and name in _SUCCESS_KEYS | _STATUS_KEYS
    if says_nothing:
        return False
    if _ERROR_KEY.search(name):
        return True
    return name in _KEYS_OF_OUTCOME and not _went_well(value)


def _says_nothing(value: object) -> bool:
    text = _plain_text(value)
    return not value or (text is not None and text.lower() in _NO_ERROR)


def _went_well(value: object) -> bool:
    text = _plain_text(value)
    return text is not None and _WENT_WELL.fullmatch(text) is not None


def _plain_text(value: object) -> str | None:
    return str(value).strip() if isinstance(value, str | int | float) else None


def _echo(value: object) -> str | None:
    if isinstance(value, str):
        return value
    # A phone number may come back as a number.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if type(value) is int else None


def _count(value: object) -> int | None:
    # Like an echo, a count may come as text.
    text = _echo(value)
    return int(text) if text is not None and _DIGITS.fullmatch(text) else None


def _parse_leniently(text: str) -> ParsedReply:
    """What the standard library can read of it: all (it takes NaN), else the records one by one."""
    try:
        envelope = json.loads(text)
        if _is_object(envelope):
            entries = envelope.pop("contacts", None)
            if _is_list(entries) and all(isinstance(entry, dict) for entry in entries):
                records = tuple([_lenient_record(entry) for entry in entries if _is_object(entry)])
                count = _count(envelope.pop("records_enriched", None))
                return _apply_error(ParsedReply(records, count, whole=True), envelope)
    except (ValueError, RecursionError):
        pass
    return ParsedReply(tuple(_salvage(text)), None, whole=False)


def _lenient_record(entry: dict[str, object]) -> Record:
    echo = _echo(entry.pop("value", None))
    contact = None
    if "enriched_contact" in entry:
        # ASCII, so that lone surrogates survive until `contacts` deals with them.
        contact = msgspec.Raw(json.dumps(entry.pop("enriched_contact")).encode("ascii"))
    return _record(echo, contact, entry)


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


_DIGITS: Final = re.compile(r"\s*-?[0-9]{1,40}\s*")
_RECORD_START = re.compile(r'\{\s*"(?:enriched_contact|value)"\s*:')
_MOST_FALSE_STARTS = 64


def _salvage(text: str) -> Iterator[Record]:
    """Every whole record in a damaged text. Alignment proves later which of them were asked."""
    decoder = json.JSONDecoder()
    position, false_starts = 0, 0
    while (start := _RECORD_START.search(text, position)) and false_starts < _MOST_FALSE_STARTS:
        try:
            entry, position = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            false_starts += 1
            position = start.end()
            continue
        if "enriched_contact" in entry and "value" in entry:
            yield _lenient_record(entry)


def encode_reply(records: Sequence[Record], records_enriched: int | None) -> bytes:
    """A reply with these records at the same positions, as `parse_reply` reads it."""
    entries = b",".join(map(_encode_record, records))
    count = json.dumps(records_enriched).encode("ascii")
    return b'{"contacts":[' + entries + b'],"records_enriched":' + count + b"}"


def _encode_record(record: Record) -> bytes:
    members: list[bytes] = []
    if record.readable:
        members.append(b'"enriched_contact":' + bytes(record.contact or _NULL))
    if record.failed:
        members.append(b'"error":true')
    members.append(b'"value":' + json.dumps(record.echo).encode("ascii"))
    return b"{" + b",".join(members) + b"}"


_COUNT_ABOVE_ZERO: Final = re.compile(rb'"records_enriched"\s*:\s*"?0*[1-9]')


def has_contacts_key(body: bytes) -> bool:
    """Whether a body may be an envelope at all."""
    return b'"contacts"' in body


def tells_of_contacts(body: bytes) -> bool:
    """Whether a body holds a contact, or what is left of one, or counts some as enriched."""
    return b'"enriched_contact"' in body or _COUNT_ABOVE_ZERO.search(body) is not None


def _do_agree(records: Sequence[Record], positions: Sequence[int]) -> bool:
    first, *others = positions
    return all(records[position].says_the_same(records[first]) for position in others)


def align(
    parsed: ParsedReply,
    *,
    asked: int,
    find: Callable[[str], Collection[int]],
    complete: bool,
    sent: Mapping[str, int] = MappingProxyType({}),
) -> Alignment:
    """Match records to questions by what they echo, never by where they stand.

    `sent` are the questions by the values that were sent, as far as these are known. `find` gives the questions that
    any other echo may mean: it is a proof if that is exactly one. `complete` is false when the reply broke off: what
    is missing from it is then in doubt rather than unreadable.
    """
    records = parsed.records
    if (answers := _answers_to_each(records, sent, asked)) is not None:
        return Alignment(answers, 0)
    positions, is_unclear, extra = _positions_by_question(records, find, sent)
    # Something is there that may answer what is not answered otherwise.
    is_unclear = is_unclear or (complete and not parsed.whole)
    outcomes: dict[int, int] = {}
    for question, answering in positions.items():
        extra += len(answering) - 1
        first = records[answering[0]]
        if _do_agree(records, answering) and not (
            len(records) == asked and _may_be_of_others(question, positions)
        ):
            outcomes[question] = _outcome(first, answering[0])
        else:
            # There is no telling whose they are.
            outcomes[question] = UNREADABLE
            is_unclear = True
    absent = UNREADABLE if is_unclear else IN_DOUBT
    return Alignment(tuple([outcomes.get(question, absent) for question in range(asked)]), extra)


def _answers_to_each(
    records: Sequence[Record], sent: Mapping[str, int], asked: int
) -> tuple[int, ...] | None:
    """The outcomes of a reply that echoes each value that was sent once, in whatever order; None for any other.

    Nearly every reply is such a one, and nothing in it is left to be proven.
    """
    questions = [sent.get(record.echo or "") for record in records]
    if not len(records) == len(set(questions)) == asked or None in questions:
        return None
    outcomes = [UNREADABLE] * asked
    for position, (question, record) in enumerate(zip(questions, records, strict=True)):
        if question is not None:
            outcomes[question] = _outcome(record, position)
    return tuple(outcomes)


def _positions_by_question(
    records: Sequence[Record], find: Callable[[str], Collection[int]], sent: Mapping[str, int]
) -> tuple[dict[int, list[int]], bool, int]:
    """Where the records of each question stand; whether some may be of any, and how many are of none."""
    positions: dict[int, list[int]] = {}
    is_unclear = False
    extra = 0
    for position, record in enumerate(records):
        echo = record.echo
        questions = None if echo is None else (sent[echo],) if echo in sent else find(echo)
        if questions is None or len(questions) > 1:
            is_unclear = True
        elif questions:
            positions.setdefault(next(iter(questions)), []).append(position)
        else:
            extra += 1
    return positions, is_unclear, extra


def _may_be_of_others(question: int, positions: Mapping[int, Sequence[int]]) -> bool:
    """Whether an echo may have been made of those of other questions, in whose places its records stand.

    It matters for a reply with a record for each question. Where the others are answered elsewhere, the reply
    is in another order.
    """
    return all(position != question and position not in positions for position in positions[question])


def _outcome(record: Record, position: int) -> int:
    if not record.readable:
        return UNREADABLE
    if record.failed:
        return FAILED
    return MISSED if record.contact is None else position


def counts_more(parsed: ParsedReply) -> bool:
    """Whether more are counted as enriched than there are contacts: an error may then have been charged."""
    if parsed.records_enriched is None:
        return False
    contacts = {
        (record.echo, bytes(record.contact)) for record in parsed.records if record.contact is not None
    }
    return parsed.records_enriched > len(contacts)


def made_apart(kind: FieldType, values: Sequence[str]) -> list[bool]:
    """Which identifiers of one kind can be told from those before them, whatever the API makes of them in its echo.

    `p+tag@firm.com` that comes back as `p@firm.com` proves nothing if that was asked, too.
    """
    if _are_clearly_apart(kind, values):
        return [True] * len(values)
    asked: set[str] = set()
    possible_echoes: set[str] = set()
    apart: list[bool] = []
    for own in values:
        echoes = _possible_echoes(kind, own) - {own}
        is_apart = own not in possible_echoes and asked.isdisjoint(echoes)
        apart.append(is_apart)
        if is_apart:
            asked.add(own)
            possible_echoes |= echoes
    return apart


# Up to the last @ of a line.
_TAG: Final = re.compile(r"\+.*@")


def _are_clearly_apart(kind: FieldType, values: Sequence[str]) -> bool:
    """Whether all of these differ in what their possible echoes have in common. In bulk, and so many times as fast."""
    if kind == "phone":
        return {echo for phone in values for echo in _shorter_numbers(phone)}.isdisjoint(values)
    text = "\n".join(values).replace(".", "").replace("googlemail", "gmail")
    text = _TAG.sub("@", text) if kind == "email" else _without_accents(text)
    in_common = text.split("\n")
    return len(set(in_common)) == len(in_common) == len(values)


def _possible_echoes(kind: FieldType, text: str) -> set[str]:
    """An address without its tag or dots, a phone without its country, a profile without its accents."""
    if kind == "email":
        return _possible_addresses(text)
    if kind == "phone":
        return set(_shorter_numbers(text))
    plain = _without_accents(text)
    return {plain, plain.replace(".", "")}


# Mobile and trunk digits that some countries write, and some leave out.
_SHORTER_PREFIXES: Final = {"+549": "+54", "+390": "+39"}


def _shorter_numbers(phone: str) -> list[str]:
    shorter = [f"+{phone[2:]}", f"+{phone[3:]}", f"+{phone[4:]}"]
    if prefix := _SHORTER_PREFIXES.get(phone[:4]):
        shorter.append(prefix + phone[4:])
    return shorter


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    characters = unicodedata.normalize("NFKD", text)
    return "".join(char for char in characters if not unicodedata.combining(char))


def _possible_addresses(address: str) -> set[str]:
    local, _, domain = address.rpartition("@")
    domain = domain.replace("googlemail.", "gmail.")
    local_parts = {local, local.partition("+")[0]}
    local_parts |= {part.replace(".", "") for part in local_parts}
    return {f"{part}@{domain}" for part in local_parts}

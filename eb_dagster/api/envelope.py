"""The request form and the parsed reply. The only file that knows the API's JSON envelope."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from typing import Any, Final, cast
from urllib.parse import quote_plus

import msgspec
from zlib_ng import gzip_ng, zlib_ng

from eb_dagster.identifiers.model import Identifier

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

# Its stubs leave the types of its functions partly unknown.
_zlib: Any = zlib_ng
# 32 + 15: told apart by the header.
_GZIP_OR_ZLIB: Final = 47
_NEXT_MEMBER: Final = re.compile(rb"\0*(\x1f(?:\x8b|\Z)|\x78[\x01\x5e\x9c\xda])")
# A server that flushes after each contact sends a thousand.
_MOST_MEMBERS: Final = 10_000
_FIRST_FEED: Final = 2**10
_LARGEST_FEED: Final = 2**20

# A reply of 1000 contacts is some 2 MB; thirty times that is an accident or an attack.
MOST_DECODED_BYTES: Final = 64 * 2**20

MISSED: Final = -1
IN_DOUBT: Final = -2
UNREADABLE: Final = -3
FAILED: Final = -8
"""The vendor says that it could not look: nobody was charged, and it may be asked again. Those between are
decisions, of `packed`."""


def pack_fields(names: Iterable[str]) -> int:
    """A set of required-field names as bits."""
    return _pack_fields(frozenset(names))


@cache
def _pack_fields(names: frozenset[str]) -> int:
    return sum(RequiredField[name.upper()].value for name in names)


def encode_form(identifiers: Sequence[Identifier], *, required_fields: Sequence[str]) -> bytes:
    """The form as the vendor's Python sample sends it: two fields, each a JSON array as text."""
    if not 1 <= len(identifiers) <= MOST_IDENTIFIERS:
        raise ValueError(f"a request asks 1 to {MOST_IDENTIFIERS} identifiers")
    # What `json.dumps` gives for a list of dicts, at a third of the time.
    query = ", ".join([
        f'{{"field_type": "{one.field_type}", "value": {_as_json(one.value)}}}' for one in identifiers
    ])  # fmt: skip
    required = [{"field_type": name} for name in required_fields]
    fields = {"query_list": f"[{query}]", "required_fields": json.dumps(required)}
    return b"&".join(
        [name.encode() + b"=" + _quoted(value.encode("ascii")) for name, value in fields.items()]
    )


_as_json: Final = json.JSONEncoder().encode

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
# Other ways to say that nobody was found. An empty object is a contact: somebody, of whom nothing is known.
_NOBODY: Final = frozenset({b"null", b"false", b"0", b'""', b"[]"})
_EMPTY_CONTACT: Final = re.compile(rb"\s*\{\s*\}\s*")

# An error, by the name of its key; else by what is said under a key that speaks of how it went.
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


def inflate(body: bytes, encoding: str) -> tuple[bytes, bool]:
    """Undo the content encoding as far as it goes. Returns the bytes, and whether that was all."""
    layers = [layer.strip().lower() for layer in encoding.split(",")]
    whole = True
    # Applied in the order they are listed, so undone from the last. More than two is no accident.
    for layer in reversed([one for one in layers if one not in ("", "identity")][:2]):
        if layer not in ("gzip", "x-gzip", "deflate"):
            return b"", False
        body, fine = _inflate_once(body)
        whole = whole and fine
    return body, whole


def _inflate_once(body: bytes) -> tuple[bytes, bool]:
    data = _inflated_at_once(body)
    return (data, True) if data is not None else _inflate_members(body)


def _inflate_members(body: bytes) -> tuple[bytes, bool]:
    """All members of a body, one after the other (RFC 1952, 2.2), as far as they can be read."""
    pieces: list[bytes] = []
    room, start = MOST_DECODED_BYTES, 0
    for _ in range(_MOST_MEMBERS):
        data, end = _inflate_member(body, start, room)
        pieces.append(data)
        room -= len(data)
        if end is None:
            break
        # Behind the last one, padding is allowed, and other bytes are ignored as every reader of gzip does.
        if (more := _NEXT_MEMBER.match(body, end)) is None:
            return b"".join(pieces), True
        start = more.start(1)
    return b"".join(pieces), False


def _inflate_member(body: bytes, start: int, room: int) -> tuple[bytes, int | None]:
    """What can be inflated of the member that begins there, and where it ends, if it does."""
    machine, size, pieces = _zlib.decompressobj(wbits=_GZIP_OR_ZLIB), _FIRST_FEED, list[bytes]()
    while not machine.eof:
        if room <= 0 or start >= len(body):
            return b"".join(pieces), None
        before = machine.copy()
        try:
            data: bytes = machine.decompress(body[start : start + size], room)
        except _zlib.error:
            if size == 1:
                return b"".join(pieces), None
            # Byte by byte in the end: a wrong checksum does not take the data with it.
            machine, size = before, size // 2
            continue
        pieces.append(data)
        room -= len(data)
        start = min(start + size, len(body)) - len(machine.unused_data or machine.unconsumed_tail)
        size = min(2 * size, _LARGEST_FEED)
    return b"".join(pieces), start


def _inflated_at_once(body: bytes) -> bytes | None:
    """A whole gzip body in room that is made ready for it; None if its last bytes do not tell how much it takes.

    Room that grows bit by bit takes longer, and lets go of the interpreter each time.
    """
    size = int.from_bytes(body[-4:], "little")
    if not 0 < len(body) <= size <= MOST_DECODED_BYTES:
        return None
    try:
        with gzip_ng.GzipNGFile(fileobj=io.BytesIO(body), mode="rb") as file:
            # One more than there should be: only at its end the checksum is looked at.
            data = file.read(size + 1)
    except (OSError, EOFError, _zlib.error):
        return None
    return data if len(data) == size else None


def parse_reply(body: bytes) -> ParsedReply:
    """Read a decoded reply. Never raises: what cannot be read is simply not in it."""
    try:
        try:
            envelope = _decode_envelope(body)
        except msgspec.ValidationError:
            return _parse_odd(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(body.decode("utf-8", "replace"))
    records = tuple([
        Record(entry.value, None if _is_nobody(entry.enriched_contact) else entry.enriched_contact)
        for entry in envelope.contacts
    ])  # fmt: skip
    return ParsedReply(records, envelope.records_enriched, whole=True)


def _parse_odd(body: bytes) -> ParsedReply:
    """A reply in which a key is missing, new or of another type."""
    sections = _decode_sections(body)
    records = tuple([_odd_record(entry) for entry in _decode_entries(sections.pop("contacts", _NULL))])
    count = _count(_decode(sections.pop("records_enriched", _NULL)))
    return _with_its_error(ParsedReply(records, count, whole=True), _decoded(sections))


def _odd_record(entry: dict[str, msgspec.Raw]) -> Record:
    echo = _echo(_decode(entry.pop("value", _NULL)))
    contact = entry.pop("enriched_contact", None)
    return _record(echo, contact, _decoded(entry))


def _decoded(sections: Mapping[str, msgspec.Raw]) -> dict[str, object]:
    return {name: _decode(value) for name, value in sections.items() if _tells_how_it_went(name)}


def _record(echo: str | None, contact: msgspec.Raw | None, beside: Mapping[str, object]) -> Record:
    is_miss = contact is None or _is_nobody(contact)
    holds_nothing = is_miss or _EMPTY_CONTACT.fullmatch(contact or b"")
    if holds_nothing and any(_is_error(name, value) for name, value in beside.items()):
        return Record(echo, None, failed=True)
    return Record(echo, None if is_miss else contact, readable=contact is not None)


def _with_its_error(parsed: ParsedReply, beside: Mapping[str, object]) -> ParsedReply:
    """The reply, in which nobody was missed if all of it carries an error."""
    # What it says in words may be a sum of what was found.
    if not any(_is_error(name, value) for name, value in beside.items() if name not in _MESSAGE_KEYS):
        return parsed
    records = [Record(one.echo, None, failed=True) if one.contact is None else one for one in parsed.records]
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
    text = str(value).strip() if isinstance(value, str | int | float) else None
    is_nothing = not value or (text is not None and text.lower() in _NO_ERROR)
    if name in _SUCCESS_KEYS or value is False:
        return is_nothing and value is not None and name in _SUCCESS_KEYS | _STATUS_KEYS
    if is_nothing:
        return False
    if _ERROR_KEY.search(name):
        return True
    return name in _KEYS_OF_OUTCOME and not (text is not None and _WENT_WELL.fullmatch(text))


def _is_nobody(contact: msgspec.Raw) -> bool:
    if contact == _NULL:
        return True
    raw = memoryview(contact)
    return len(raw) < 8 and raw.tobytes().strip() in _NOBODY


def _echo(value: object) -> str | None:
    if isinstance(value, str):
        return value
    # A phone number may come back as a number.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if type(value) is int else None


def _count(value: object) -> int | None:
    # It is told as carelessly as an echo.
    text = _echo(value)
    return int(text) if text is not None and _DIGITS.fullmatch(text) else None


def _parse_leniently(text: str) -> ParsedReply:
    """What the standard library can read of it: all (it takes NaN), else the records one by one."""
    try:
        envelope = json.loads(text)
        entries = envelope.pop("contacts")
        if isinstance(entries, list):
            listed = cast("list[object]", entries)
            if all(isinstance(entry, dict) for entry in listed):
                records = tuple([_lenient_record(cast("dict[str, Any]", entry)) for entry in listed])
                count = _count(envelope.pop("records_enriched", None))
                return _with_its_error(ParsedReply(records, count, whole=True), envelope)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return ParsedReply(tuple(_salvage(text)), None, whole=False)


def _lenient_record(entry: dict[str, Any]) -> Record:
    echo = _echo(entry.pop("value", None))
    # ASCII, so that lone surrogates survive until `contacts` deals with them.
    contact = (
        msgspec.Raw(json.dumps(entry.pop("enriched_contact")).encode("ascii"))
        if "enriched_contact" in entry
        else None
    )
    return _record(echo, contact, entry)


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
    entries: list[bytes] = []
    for record in records:
        contact = (
            b"" if not record.readable else b'"enriched_contact":' + bytes(record.contact or _NULL) + b","
        )
        contact += b'"error":true,' if record.failed else b""
        entries.append(b"{" + contact + b'"value":' + json.dumps(record.echo).encode("ascii") + b"}")
    count = b"null" if records_enriched is None else str(records_enriched).encode("ascii")
    return b'{"contacts":[' + b",".join(entries) + b'],"records_enriched":' + count + b"}"


def align(
    parsed: ParsedReply, *, asked: int, find: Callable[[str], Collection[int]], complete: bool
) -> Alignment:
    """Match records to questions by what they echo, never by where they stand.

    `find` gives the questions that an echo may mean: it is a proof if that is exactly one. `complete` is
    false when the reply broke off: what is missing from it is then in doubt rather than unreadable.
    """
    records = parsed.records
    places: dict[int, list[int]] = {}
    # Something is there that may answer what is not answered otherwise.
    is_murky = complete and not parsed.whole
    extra = 0
    for at, record in enumerate(records):
        meant = None if record.echo is None else find(record.echo)
        if meant is None or len(meant) > 1:
            is_murky = True
        elif meant:
            places.setdefault(next(iter(meant)), []).append(at)
        else:
            extra += 1
    outcomes: dict[int, int] = {}
    for question, there in places.items():
        extra += len(there) - 1
        agree = all(records[at].says_the_same(records[there[0]]) for at in there[1:])
        if agree and not (len(records) == asked and _may_be_others(question, places)):
            outcomes[question] = _outcome(records[there[0]], there[0])
        else:
            # There is no telling whose they are.
            outcomes[question] = UNREADABLE
            is_murky = True
    absent = UNREADABLE if is_murky else IN_DOUBT
    return Alignment(tuple([outcomes.get(question, absent) for question in range(asked)]), extra)


def _may_be_others(question: int, places: Mapping[int, Sequence[int]]) -> bool:
    """Whether an echo may have been made of those of others: of those in whose places its records stand.

    For a reply with a record for each question. Where those are answered elsewhere, it is in another order.
    """
    return all(at != question and at not in places for at in places[question])


def _outcome(record: Record, at: int) -> int:
    if not record.readable:
        return UNREADABLE
    if record.failed:
        return FAILED
    return MISSED if record.contact is None else at


def counts_more(parsed: ParsedReply) -> bool:
    """Whether more are counted as enriched than there are contacts: one may be charged under an error."""
    if parsed.records_enriched is None:
        return False
    contacts = {(one.echo, bytes(one.contact)) for one in parsed.records if one.contact is not None}
    return parsed.records_enriched > len(contacts)


def made_apart(identifiers: Sequence[Identifier]) -> list[bool]:
    """Which of these can be told from those before them by whatever an API may make of an echo.

    `p+tag@firm.com` that comes back as `p@firm.com` proves nothing if that was asked, too.
    """
    as_asked: set[tuple[str, str]] = set()
    as_made: set[tuple[str, str]] = set()
    apart: list[bool] = []
    for one in identifiers:
        kind, mine = one.field_type, (one.field_type, one.value)
        made = {(kind, text) for text in _what_may_be_made_of(one)} - {mine}
        is_apart = mine not in as_made and as_asked.isdisjoint(made)
        apart.append(is_apart)
        if is_apart:
            as_asked.add(mine)
            as_made |= made
    return apart


def _what_may_be_made_of(one: Identifier) -> set[str]:
    """An address without its tag or dots, a phone without its country, a profile without its accents."""
    text = one.value
    if one.field_type == "email":
        local, _, domain = text.rpartition("@")
        locals_ = {local, local.partition("+")[0]}
        locals_ |= {each.replace(".", "") for each in locals_}
        return {f"{each}@{domain.replace('googlemail.', 'gmail.')}" for each in locals_}
    if one.field_type == "phone":
        # Mobile and trunk digits that some countries write, and some leave out.
        shorter = {text.replace(old, old[:-1], 1) for old in ("+549", "+390")}
        return shorter | {f"+{text[length + 1 :]}" for length in (1, 2, 3)}
    if not text.isascii():
        text = "".join(
            char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)
        )
    return {text, text.replace(".", "")}

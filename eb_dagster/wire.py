"""The request form and the parsed reply. The only file that knows the API's JSON envelope."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote_plus

import msgspec
from zlib_ng import gzip_ng, zlib_ng

from eb_dagster.identifiers import Identifier

PATH: Final = "/v1/bulk-enrich"
CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
MOST_IDENTIFIERS: Final = 1000
"""The vendor's documented limit for one request."""

REQUIRED_FIELDS: Final = ("email", "work_email", "personal_email", "phone", "social_profile")

# Its stubs leave the types of its functions partly unknown.
_zlib: Any = zlib_ng

# A reply of 1000 contacts is some 2 MB; thirty times that is an accident or an attack.
MOST_DECODED_BYTES: Final = 64 * 2**20

MISSED: Final = -1
IN_DOUBT: Final = -2
UNREADABLE: Final = -3


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

    The raw JSON is a view into the reply's bytes. Its repr shows no person.
    """

    echo: str | None
    contact: msgspec.Raw | None
    readable: bool = True

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


class _Entry(msgspec.Struct, gc=False):
    """An entry as documented."""

    value: str
    enriched_contact: msgspec.Raw


class _Envelope(msgspec.Struct, gc=False):
    contacts: list[_Entry]
    records_enriched: int | None = None


class _OddEntry(msgspec.Struct, gc=False):
    value: msgspec.Raw = msgspec.Raw(b"null")
    enriched_contact: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _OddEnvelope(msgspec.Struct, gc=False):
    contacts: list[_OddEntry]
    records_enriched: msgspec.Raw = msgspec.Raw(b"null")


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_odd_envelope = msgspec.json.Decoder(_OddEnvelope).decode
_NULL: Final = msgspec.Raw(b"null")
# Other ways to say that nobody was found. An empty object is a contact: somebody, of whom nothing is known.
_NOBODY: Final = frozenset({b"null", b"false", b"0", b'""', b"[]"})


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
    if data is not None:
        return data, True
    # 32 + 15: gzip or zlib, told apart by the header.
    machine = _zlib.decompressobj(wbits=47)
    try:
        data = machine.decompress(body, MOST_DECODED_BYTES)
    except _zlib.error:
        return _salvaged(body), False
    return data, machine.eof and not machine.unconsumed_tail


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


def _salvaged(body: bytes) -> bytes:
    """What can be inflated of a damaged body."""
    machine = _zlib.decompressobj(wbits=47)
    pieces: list[bytes] = []
    # The last 8 bytes are gzip's checksum. Apart, a wrong one does not take the data with it.
    for part in (body[:-8], body[-8:]):
        try:
            pieces.append(machine.decompress(part, MOST_DECODED_BYTES))
        except _zlib.error:
            break
    return b"".join(pieces)


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
    """A reply in which a key is missing or of another type."""
    envelope = _decode_odd_envelope(body)
    records = tuple(_odd_record(entry) for entry in envelope.contacts)
    return ParsedReply(records, _count(envelope.records_enriched), whole=True)


def _odd_record(entry: _OddEntry) -> Record:
    echo = _echo(msgspec.json.decode(entry.value))
    contact = entry.enriched_contact
    if isinstance(contact, msgspec.UnsetType):
        return Record(echo, None, readable=False)
    return Record(echo, None if _is_nobody(contact) else contact)


def _is_nobody(contact: msgspec.Raw) -> bool:
    if contact == _NULL:
        return True
    raw = memoryview(contact)
    return len(raw) < 8 and raw.tobytes().strip() in _NOBODY


def _echo(value: object) -> str | None:
    if isinstance(value, str):
        return value
    # A phone number may come back as a number.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _count(raw: msgspec.Raw) -> int | None:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _parse_leniently(text: str) -> ParsedReply:
    """What the standard library can read of it: all (it takes NaN), else the records one by one."""
    try:
        envelope = json.loads(text)
        entries = envelope["contacts"]
        if isinstance(entries, list):
            listed = cast("list[object]", entries)
            if all(isinstance(entry, dict) for entry in listed):
                records = tuple(_lenient_record(cast("dict[str, Any]", entry)) for entry in listed)
                count = envelope.get("records_enriched")
                return ParsedReply(records, count if type(count) is int else None, whole=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return ParsedReply(tuple(_salvage(text)), None, whole=False)


def _lenient_record(entry: dict[str, Any]) -> Record:
    echo = _echo(entry.get("value"))
    if "enriched_contact" not in entry:
        return Record(echo, None, readable=False)
    contact = entry["enriched_contact"]
    # ASCII, so that lone surrogates survive until `contacts` deals with them.
    raw = msgspec.Raw(json.dumps(contact).encode("ascii"))
    return Record(echo, None if _is_nobody(raw) else raw)


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


_COUNTED = re.compile(rb'"records_enriched"\s*:\s*"?0*[1-9]')


def tells_of_contacts(body: bytes) -> bool:
    """Whether a body holds a contact, or what is left of one, or counts some as enriched."""
    return b'"enriched_contact"' in body or _COUNTED.search(body) is not None


def encode_reply(records: Sequence[Record], records_enriched: int | None) -> bytes:
    """A reply with these records at the same positions, as `parse_reply` reads it."""
    entries: list[bytes] = []
    for record in records:
        contact = (
            b"" if not record.readable else b'"enriched_contact":' + bytes(record.contact or _NULL) + b","
        )
        entries.append(b"{" + contact + b'"value":' + json.dumps(record.echo).encode("ascii") + b"}")
    count = b"null" if records_enriched is None else str(records_enriched).encode("ascii")
    return b'{"contacts":[' + b",".join(entries) + b'],"records_enriched":' + count + b"}"


def align(parsed: ParsedReply, *, asked: int, find: Callable[[str], int | None], complete: bool) -> Alignment:
    """Match records to questions by what they echo, never by where they stand.

    `find` gives the question that an echo proves, if any. `complete` is false when the reply broke
    off: what is missing from it is then in doubt rather than unreadable.
    """
    positions: list[int | None] = [None] * asked
    extra = nameless = 0
    for at, record in enumerate(parsed.records):
        question = None if record.echo is None else find(record.echo)
        if record.echo is None:
            nameless += 1
        elif question is None:
            extra += 1
        else:
            extra += positions[question] is not None
            positions[question] = _chosen(parsed.records, positions[question], at)
    absent = UNREADABLE if nameless or (complete and not parsed.whole) else IN_DOUBT
    return Alignment(tuple(absent if at is None else at for at in positions), extra)


def _chosen(records: Sequence[Record], before: int | None, at: int) -> int:
    """The position that answers a question which was answered before, at `before`."""
    mine = records[at]
    here = UNREADABLE if not mine.readable else MISSED if mine.contact is None else at
    if before is None or before == here:
        return here
    if before < 0 or here < 0:
        # A contact beats a miss, and a miss beats what cannot be read.
        return max(before, here)
    # Two different contacts for one question: there is no telling whose they are.
    return before if records[before].contact == mine.contact else UNREADABLE

"""Where texts and tables name a person, in whatever spelling.

A text is taken apart generously into what may be identifiers; each is made canonical and compared as a key. So
somebody whose address only begins or ends like the person's is never taken for the person.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, cast
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.identifiers.canonical import canonical
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.model import FieldType, Identifier

Mask: TypeAlias = npt.NDArray[np.bool_]
_Rows: TypeAlias = npt.NDArray[np.integer]
"""For each text, the index of the row that it is in."""

_LEFT_OF_AT: Final = re.compile(r"[^\s\"<>()\[\]{},:;|\\@]*\Z")
_RIGHT_OF_AT: Final = re.compile(r"[^\s\"<>()\[\]{},:;|\\@/?&='*~#!%]*")
# An address may contain these, but more often they stand before one, as in "?email=jane@firm.example".
_MAYBE_BEFORE_ADDRESS: Final = re.compile(r"[/?&=*~#!%]")
_LONGEST_LOCAL: Final = 320
_AFTER_ADDRESS: Final = ".,;:!?'-_"
# Each place where a host begins, also the host of a URL inside another URL's query.
_PROFILE: Final = re.compile(
    r"(?<![\w.@-])(?=((?:[\w-]+\.)+[^\W\d_][\w-]+/[^\s\"'<>()\[\]{}|,;\\]+))|(?<![\w./-])(?=(/?in/[^\s\"'<>()\[\]{}|,;\\]+))",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"[+＋]?\(?\d[\d\s().\-/‐-―]{4,24}\d")
_JSON_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPES_UNDONE: Final = 3
_LETTERS: Final = re.compile(r"[a-z0-9]+")
_TEXTS_REMEMBERED: Final = 10_000
_TEXT_TYPES: Final = ("string", "large_string", "string_view")


class Traces:
    """Finds these identifiers. Spellings with one key (`key_of`) are one identifier.

    National phone numbers are read as of `default_region`, and as of the countries of the phones that are sought.
    """

    def __init__(
        self,
        people: Collection[Identifier],
        *,
        key_of: Callable[[Identifier], bytes],
        default_region: str | None = None,
    ) -> None:
        self._key_of = key_of
        self._keys = {key_of(person) for person in people}
        self._kinds: set[FieldType] = {person.field_type for person in people}
        self._regions = _regions_of(people, default_region)
        self._probe = _joined_probe(people)
        self._known: dict[str, bool] = {}

    def may_be_in(self, body: bytes) -> bool:
        """Whether a body may name one of them. Quick, and false for most bodies that do not."""
        if self._probe is None:
            return True
        return bool(self._hits(pa.array([body], pa.large_binary()))[0])

    def are_in(self, text: str) -> bool:
        """Whether a text names one of them."""
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _TEXTS_REMEMBERED:
                self._known.clear()
            known = self._known[text] = any(True for _ in self.identifiers(text))
        return known

    def identifiers(self, text: str) -> Iterator[Identifier]:
        """The identifiers in a text that are theirs, as they are spelled there."""
        for spelling in _unescaped(text):
            for identifier, person in self._candidates(spelling):
                if self._key_of(person) in self._keys:
                    yield identifier

    def rows(self, batch: pa.RecordBatch) -> Mask:
        """For each row of a batch, whether any text in it names one of them."""
        found = np.zeros(batch.num_rows, dtype=bool)
        for column in batch.columns:
            for rows, texts in _texts(column, numbers="phone" in self._kinds):
                found |= self._rows_of(rows, texts, batch.num_rows)
        return found

    def texts(self, texts: Sequence[str]) -> Mask:
        """For each text, whether it names one of them."""
        return self._rows_of(np.arange(len(texts)), pa.array(texts, pa.large_string()), len(texts))

    def _rows_of(self, rows: _Rows, texts: pa.Array, count: int) -> Mask:
        found = np.zeros(count, dtype=bool)
        for index in np.flatnonzero(self._hits(texts)).tolist():
            if not found[rows[index]] and self.are_in(texts[index].as_py()):
                found[rows[index]] = True
        return found

    def _hits(self, texts: pa.Array) -> Mask:
        if self._probe is None:
            return np.asarray(texts.is_valid())
        hits = pc.match_substring_regex(texts, self._probe, ignore_case=True)
        return np.asarray(pc.fill_null(hits, False), dtype=bool)

    def _candidates(self, text: str) -> Iterator[tuple[Identifier, Identifier]]:
        """What may be an identifier in a text, each with the identifier of its person.

        They differ for a tagged address: the person's is the one without the tag.
        """
        if "email" in self._kinds:
            yield from _candidate_emails(text)
        if "social_profile" in self._kinds:
            for profile in _canonical("social_profile", _profiles(text)):
                yield profile, profile
        if "phone" in self._kinds:
            for region in self._regions:
                yield from _candidate_phones(text, region)


def _canonical(
    field_type: FieldType, texts: Iterable[str], *, region: str | None = None
) -> Iterator[Identifier]:
    for text in texts:
        identifier = canonical(field_type, text, default_region=region)
        if isinstance(identifier, Identifier):
            yield identifier


def _without_tag(email: Identifier) -> Identifier | None:
    local, _, domain = email.value.rpartition("@")
    name, plus, _ = local.partition("+")
    return Identifier("email", f"{name}@{domain}") if plus and name else None


def _candidate_emails(text: str) -> Iterator[tuple[Identifier, Identifier]]:
    for email in _canonical("email", _addresses(text)):
        yield email, email
        untagged = _without_tag(email)
        if untagged is not None:
            yield email, untagged


def _candidate_phones(text: str, region: str) -> Iterator[tuple[Identifier, Identifier]]:
    for phone in _canonical("phone", _numbers(text, region), region=region):
        yield phone, phone
    for phone in read_cell("phone", text, default_region=region)[0]:
        yield phone, phone


def _regions_of(people: Iterable[Identifier], default_region: str | None) -> list[str]:
    regions = {_region_of(person) for person in people if person.field_type == "phone"}
    return sorted({region for region in (*regions, default_region) if region})


def _region_of(phone: Identifier) -> str | None:
    region = phonenumbers.region_code_for_number(phonenumbers.parse(phone.value, None))
    # +800 and the like belong to no country.
    return region if region in phonenumbers.SUPPORTED_REGIONS else None


def _joined_probe(people: Iterable[Identifier]) -> str | None:
    """A text in which this is not found names none of these people. None if there is no such expression."""
    probes = [_probe(person) for person in people]
    return None if None in probes else "|".join(sorted({probe for probe in probes if probe}))


def _probe(identifier: Identifier) -> str | None:
    """A regular expression (RE2) that matches in each spelling of it; None if there is no such expression."""
    if identifier.field_type == "phone":
        return r"[^0-9]{0,3}".join(identifier.value[-4:])
    local = identifier.value.rpartition("@")[0].partition("+")[0]
    name = local or identifier.value.rpartition("/")[2]
    # Some providers do not tell addresses apart by their dots.
    runs = _LETTERS.findall(name.replace(".", "").lower())
    return r"\.?".join(max(runs, key=len)) if runs else None


def _without_json(text: str) -> str:
    def undo(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return " " if found[2] in "nrtbf" else found[2]

    return _JSON_ESCAPE.sub(undo, text)


_UNESCAPES: Final[Sequence[tuple[str, Callable[[str], str]]]] = (
    ("%", unquote),
    ("&", html.unescape),
    ("\\", _without_json),
)
"""The character that marks each kind of escape, and what takes a text out of it."""


def _unescaped(text: str) -> list[str]:
    """The text, and what it becomes when it is taken out of URLs, HTML and JSON."""
    spellings = {text: None}
    newest = [text]
    for _ in range(_ESCAPES_UNDONE):
        unescaped = [
            unescape(spelling) for spelling in newest for mark, unescape in _UNESCAPES if mark in spelling
        ]
        newest = [spelling for spelling in dict.fromkeys(unescaped) if spelling not in spellings]
        spellings |= dict.fromkeys(newest)
    return list(spellings)


def _addresses(text: str) -> Iterator[str]:
    for found in re.finditer("@", text):
        before = text[: found.start()][-_LONGEST_LOCAL:]
        left, right = _LEFT_OF_AT.search(before), _RIGHT_OF_AT.match(text, found.end())
        domain = right[0].rstrip(_AFTER_ADDRESS) if right else ""
        if left and left[0] and domain:
            for local in dict.fromkeys((left[0], _MAYBE_BEFORE_ADDRESS.split(left[0])[-1])):
                yield f"{local}@{domain}"


def _profiles(text: str) -> Iterator[str]:
    for found in _PROFILE.finditer(text):
        whole = found[1] or found[2]
        for address in dict.fromkeys((whole, whole.rstrip(_AFTER_ADDRESS))):
            yield address
            # What stands below a profile's address, such as a post, is the person's too.
            while address.count("/") > 1:
                address = address.rpartition("/")[0]
                yield address


def _numbers(text: str, region: str) -> Iterator[str]:
    for found in phonenumbers.PhoneNumberMatcher(text, region, phonenumbers.Leniency.POSSIBLE):
        yield phonenumbers.format_number(found.number, phonenumbers.PhoneNumberFormat.E164)
    for found in _NUMBER.finditer(text):
        yield found[0]
        digits = re.sub(r"\D", "", found[0])
        # As databases keep numbers, without the plus.
        yield "+" + digits.removeprefix("00")


# Tables


def _texts(column: pa.Array, *, numbers: bool) -> Iterator[tuple[_Rows, pa.Array]]:
    """Every text inside a column, of whatever type and however nested, with the rows that they are in."""
    pending: list[tuple[_Rows, pa.Array]] = [(np.arange(len(column)), column)]
    while pending:
        rows, values = pending.pop()
        kind = values.type
        if isinstance(values, pa.ExtensionArray):
            pending.append((rows, values.storage))
        elif str(kind) in _TEXT_TYPES:
            yield rows, values.cast(pa.large_string())
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            parents = np.asarray(pc.list_parent_indices(values))
            pending.append((rows[parents], pc.list_flatten(values)))
        elif pa.types.is_struct(kind):
            pending += [(rows, pc.struct_field(values, field)) for field in range(kind.num_fields)]
        elif not _is_without_text(kind, numbers=numbers):
            yield _texts_one_by_one(rows, values)


def _is_without_text(kind: pa.DataType, *, numbers: bool) -> bool:
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return not numbers
    return types.is_boolean(kind) or types.is_null(kind) or types.is_temporal(kind)


def _texts_of_each(values: pa.Array) -> list[list[str]]:
    return [list(_texts_in(value)) for value in values.to_pylist()]


def _texts_one_by_one(rows: _Rows, values: pa.Array) -> tuple[_Rows, pa.Array]:
    """As Python sees them: maps, views, bytes, and types that this file does not know."""
    texts: list[list[str]]
    if isinstance(values, pa.DictionaryArray):
        distinct = _texts_of_each(values.dictionary)
        texts = [[] if index is None else distinct[index] for index in values.indices.to_pylist()]
    else:
        texts = _texts_of_each(values)
    parents = np.repeat(rows, [len(several) for several in texts])
    return parents, pa.array([text for several in texts for text in several], pa.large_string())


def _texts_in_bytes(value: bytes) -> Iterator[str]:
    yield value.decode("utf-8", "replace")
    if b"\0" in value:
        yield from (value.decode(name, "replace") for name in ("utf-16-le", "utf-16-be"))


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value.encode("utf-8", "replace").decode()
    elif isinstance(value, bytes):
        yield from _texts_in_bytes(value)
    elif isinstance(value, Mapping):
        for pair in cast("Mapping[object, object]", value).items():
            yield from _texts_in(pair)
    elif isinstance(value, list | tuple):
        for item in cast("Sequence[object]", value):
            yield from _texts_in(item)
    elif value is not None and not isinstance(value, bool):
        # A number: 17734749362 may also stand there as 17734749362.0.
        yield str(value).removesuffix(".0")

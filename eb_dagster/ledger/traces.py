"""Where texts and tables name a person, in whatever spelling.

A text is taken apart generously into what may be identifiers; each is made canonical and compared as a
key. So a neighbour whose address only begins or ends like the person's is never taken for the person.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import phonenumbers
import pyarrow as pa
import pyarrow.compute

from eb_dagster.identifiers.canonical import canonical
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.model import FieldType, Identifier

# pyarrow-stubs leaves much of it unknown.
compute: Any = pyarrow.compute

Mask: TypeAlias = npt.NDArray[np.bool_]

_LEFT_OF_AT: Final = re.compile(r"[^\s\"<>()\[\]{},:;|\\@]*\Z")
_RIGHT_OF_AT: Final = re.compile(r"[^\s\"<>()\[\]{},:;|\\@/?&='*~#!%]*")
# An address may hold these, and more often they stand before one, as in "?email=jane@firm.example".
_SOFT: Final = re.compile(r"[/?&=*~#!%]")
_AFTER_ADDRESS: Final = ".,;:!?'-_"
# Each place where a host begins, also that of an address inside another's query.
_PROFILE: Final = re.compile(
    r"(?<![\w.@-])(?=((?:[\w-]+\.)+[^\W\d_][\w-]+/[^\s\"'<>()\[\]{}|,;\\]+))|(?<![\w./-])(?=(/?in/[^\s\"'<>()\[\]{}|,;\\]+))",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"[+＋]?\(?\d[\d\s().\-/‐-―]{4,24}\d")
_JSON_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPES_UNDONE: Final = 3
_LETTERS: Final = re.compile(r"[a-z0-9]+")
_TEXTS_REMEMBERED: Final = 10_000


class Traces:
    """Finds these identifiers. `key_of` tells which spellings are one.

    National phone numbers are read as of `default_region`, and as of the country of the one that is sought.
    """

    def __init__(
        self,
        people: Collection[Identifier],
        *,
        key_of: Callable[[Identifier], bytes],
        default_region: str | None = None,
    ) -> None:
        self._key_of = key_of
        self._keys = {key_of(one) for one in people}
        self._kinds: set[FieldType] = {one.field_type for one in people}
        regions = {_region_of(one) for one in people if one.field_type == "phone"}
        self._regions = sorted({one for one in (*regions, default_region) if one})
        # In what a text must have for any of them to be in it; nothing if that cannot be told.
        probes = [_probe(one) for one in people]
        self._probe = None if None in probes else "|".join(sorted({one for one in probes if one}))
        self._known: dict[str, bool] = {}

    def may_be_in(self, body: bytes) -> bool:
        """Whether a body may name one of them. Tells most of those that do not, and quickly."""
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
            for one, meant in self._candidates(spelling):
                if self._key_of(meant) in self._keys:
                    yield one

    def rows(self, batch: Any) -> Mask:
        """For each row of a batch, whether any text in it names one of them."""
        found = np.zeros(batch.num_rows, dtype=bool)
        for column in batch.columns:
            for rows, texts in _texts(column, numbers="phone" in self._kinds):
                found |= self._rows_of(rows, texts, batch.num_rows)
        return found

    def texts(self, texts: Sequence[str]) -> Mask:
        """For each text, whether it names one of them."""
        return self._rows_of(np.arange(len(texts)), pa.array(texts, pa.large_string()), len(texts))

    def _rows_of(self, rows: npt.NDArray[Any], texts: Any, count: int) -> Mask:
        found = np.zeros(count, dtype=bool)
        for at in np.flatnonzero(self._hits(texts)).tolist():
            if not found[rows[at]] and self.are_in(texts[at].as_py()):
                found[rows[at]] = True
        return found

    def _hits(self, texts: Any) -> Mask:
        if self._probe is None:
            return np.asarray(texts.is_valid())
        hits = compute.match_substring_regex(texts, self._probe, ignore_case=True)
        return np.asarray(compute.fill_null(hits, False), dtype=bool)

    def _candidates(self, text: str) -> Iterator[tuple[Identifier, Identifier]]:
        """What may be an identifier in a text, and who is meant by it: of a tagged address, the one without."""
        if "email" in self._kinds:
            for address in _addresses(text):
                one = canonical("email", address)
                if isinstance(one, Identifier):
                    yield one, one
                    local, at, domain = one.value.rpartition("@")
                    if (start := local.partition("+")[0]) != local and start:
                        yield one, Identifier("email", start + at + domain)
        if "social_profile" in self._kinds:
            yield from _canonical("social_profile", _profiles(text), None)
        if "phone" in self._kinds:
            for region in self._regions:
                yield from _canonical("phone", _numbers(text, region), region)
                for one in read_cell("phone", text, default_region=region)[0]:
                    yield one, one


def _canonical(
    field_type: FieldType, texts: Iterable[str], region: str | None
) -> Iterator[tuple[Identifier, Identifier]]:
    for text in texts:
        one = canonical(field_type, text, default_region=region)
        if isinstance(one, Identifier):
            yield one, one


def _region_of(phone: Identifier) -> str | None:
    region = phonenumbers.region_code_for_number(phonenumbers.parse(phone.value, None))
    # A number of no country, such as +800.
    return region if region in phonenumbers.SUPPORTED_REGIONS else None


def _probe(one: Identifier) -> str | None:
    """A regular expression (RE2) for what is in each spelling of it; None if there is no such thing."""
    if one.field_type == "phone":
        return r"[^0-9]{0,3}".join(one.value[-4:])
    name = one.value.rpartition("@")[0].partition("+")[0] or one.value.rpartition("/")[2]
    # Some providers do not tell addresses apart by their dots.
    runs = _LETTERS.findall(name.replace(".", "").lower())
    return r"\.?".join(max(runs, key=len)) if runs else None


def _unescaped(text: str) -> list[str]:
    """The text, and what it is when it is taken out of URLs, HTML and JSON."""
    spellings = {text: None}
    new = [text]
    for _ in range(_ESCAPES_UNDONE):
        undone = [
            undo(one)
            for one in new
            for mark, undo in (("%", unquote), ("&", html.unescape), ("\\", _without_json))
            if mark in one
        ]
        new = [one for one in dict.fromkeys(undone) if one not in spellings]
        spellings |= dict.fromkeys(new)
    return list(spellings)


def _without_json(text: str) -> str:
    def undo(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return " " if found[2] in "nrtbf" else found[2]

    return _JSON_ESCAPE.sub(undo, text)


def _addresses(text: str) -> Iterator[str]:
    at = text.find("@")
    while at >= 0:
        left, right = _LEFT_OF_AT.search(text[:at][-320:]), _RIGHT_OF_AT.match(text, at + 1)
        domain = right[0].rstrip(_AFTER_ADDRESS) if right else ""
        if left and left[0] and domain:
            for local in dict.fromkeys((left[0], _SOFT.split(left[0])[-1])):
                yield f"{local}@{domain}"
        at = text.find("@", at + 1)


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


def _texts(column: Any, *, numbers: bool) -> Iterator[tuple[npt.NDArray[Any], Any]]:
    """Every text inside a column, of whatever type and however nested, with the rows that they are in."""
    pending = [(np.arange(len(column)), column)]
    while pending:
        rows, values = pending.pop()
        kind = values.type
        if isinstance(values, pa.ExtensionArray):
            pending.append((rows, values.storage))
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            yield rows, values
        elif str(kind) == "string_view":
            yield rows, values.cast(pa.large_string())
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            parents = np.asarray(compute.list_parent_indices(values))
            pending.append((rows[parents], compute.list_flatten(values)))
        elif pa.types.is_struct(kind):
            pending += [(rows, compute.struct_field(values, at)) for at in range(kind.num_fields)]
        elif not _is_without_text(kind, numbers=numbers):
            yield _texts_one_by_one(rows, values)


def _is_without_text(kind: Any, *, numbers: bool) -> bool:
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return not numbers
    return types.is_boolean(kind) or types.is_null(kind) or types.is_temporal(kind)


def _texts_one_by_one(rows: npt.NDArray[Any], values: Any) -> tuple[npt.NDArray[Any], Any]:
    """As Python sees them: maps, views, bytes, and whatever type comes next."""
    inside: list[list[str]]
    if pa.types.is_dictionary(values.type):
        distinct = [list(_texts_in(one)) for one in values.dictionary.to_pylist()]
        inside = [[] if code is None else distinct[code] for code in values.indices.to_pylist()]
    else:
        inside = [list(_texts_in(one)) for one in values.to_pylist()]
    parents = np.repeat(rows, [len(one) for one in inside])
    return parents, pa.array([text for one in inside for text in one], pa.large_string())


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.encode("utf-8", "replace").decode()
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
        if b"\0" in value:
            yield from (value.decode(name, "replace") for name in ("utf-16-le", "utf-16-be"))
    elif isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        yield from (text for pair in pairs for one in pair for text in _texts_in(one))
    elif isinstance(value, list | tuple):
        yield from (text for one in cast("Sequence[Any]", value) for text in _texts_in(one))
    elif isinstance(value, bool) or value is None:
        return
    else:
        # Numbers: 17734749362, also as 17734749362.0.
        yield str(value).removesuffix(".0")

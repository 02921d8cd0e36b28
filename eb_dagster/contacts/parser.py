"""Read a contact of the plain shape from its JSON.

A contact of another shape raises one of `NOT_PLAIN`. `tolerant_parser` makes it plain, so that there is one way
from the plain shape to columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from eb_dagster.contacts.contact import (
    ABSENT,
    Contact,
    Employment,
    Job,
    Json,
    OpenContact,
    PlainContact,
    Text,
)
from eb_dagster.identifiers.arrays import number_array


class NotPlainError(Exception):
    """The types are plain, but what they hold is not."""


NOT_PLAIN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotPlainError)
"""Raised for a contact of another shape, or JSON that only a lenient reader takes."""

_decode_plain = msgspec.json.Decoder(PlainContact).decode
_decode_open = msgspec.json.Decoder(OpenContact).decode
decode_sections = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_known_keys: Final = frozenset(PlainContact.__struct_encode_fields__)


def is_utf8(body: bytes) -> bool:
    """Whether all of it is UTF-8: then each contact in it is, too, and need not be checked for that."""
    offsets = number_array(np.array([0, len(body)], np.int32), pa.int32()).buffers()[1]
    try:
        pa.StringArray.from_buffers(1, offsets, pa.py_buffer(body)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def read_plain_contact(raw: bytes | msgspec.Raw, *, is_text: bool = False) -> Contact:
    """The contact in this JSON, which may be known to be UTF-8. Raises one of `NOT_PLAIN` for other shapes."""
    try:
        return _from_plain(_decode_plain(raw), is_text=is_text)
    except msgspec.ValidationError:
        # New keys at the top are still plain.
        contact = _from_plain(_decode_open(raw), is_text=is_text)
        _add_new_keys(contact, raw)
        return contact


def _from_plain(plain: PlainContact, *, is_text: bool) -> Contact:
    education = experiences = school_name = other = None
    if plain.education is not ABSENT and (education := json_list(plain.education, is_text=is_text)):
        school_name = first_school(plain.education)
    if plain.experiences is not ABSENT:
        experiences = json_list(plain.experiences, is_text=is_text)
    if plain.employment and (left := _left_of_employment(plain.employment)):
        other = dump_json({"employment": left})
    return Contact(plain, education, experiences, school_name, other)


# What no column takes


def _add_new_keys(contact: Contact, raw: bytes | msgspec.Raw) -> None:
    new = {
        name: msgspec.json.decode(section)
        for name, section in decode_sections(raw).items()
        if name not in _known_keys
    }
    contact.unknown_keys = tuple(dict.fromkeys(map(key_name, new)))
    rest = {key: value for key, value in new.items() if not is_empty(value)}
    if rest:
        employment = contact.plain.employment
        left = _left_of_employment(employment) if employment else None
        contact.other = dump_json({"employment": left, **rest} if left else rest, is_sorted=True)


# These two write their keys in order, as if they were sorted.
def _left_of_employment(employment: Employment) -> dict[str, object]:
    rest: dict[str, object] = {}
    if employment.job and (left := _left_of_job(employment.job)):
        rest["job"] = left
    if employment.start_date:
        rest["start_date"] = employment.start_date
    if employment.website and employment.domain and employment.website != employment.domain:
        rest["website"] = employment.website
    return rest


def _further_levels(levels: Sequence[Text]) -> list[str]:
    return [level for level in levels if level][1:]


def _left_of_job(job: Job) -> dict[str, object]:
    rest: dict[str, object] = {}
    levels = job.levels
    if isinstance(levels, tuple) and len(levels) > 1 and (further := _further_levels(levels)):
        rest["levels"] = further
    if job.start_date:
        rest["start_date"] = job.start_date
    return rest


_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def dump_json(value: object, *, is_sorted: bool = False) -> bytes:
    """As compact JSON; sorted, so that equal values give equal text."""
    return _encode_sorted(value) if is_sorted else _encode(value)


def is_empty(value: object) -> bool:
    """Whether a value says nothing. 0 and false do say something."""
    return value is None or (isinstance(value, str | list | dict) and not value)


_FIELD_NAME: Final = re.compile(r"[\w$-]{1,40}", re.ASCII)


def key_name(key: str) -> str:
    """A new key as it may be told. One that does not look like the name of a field may be a person."""
    is_field = _FIELD_NAME.fullmatch(key) and sum(map(str.isdigit, key)) <= 6
    return key if is_field else "?"


# Lists that stay JSON


class _Named(msgspec.Struct, gc=False):
    name: Text = None


class _Education(msgspec.Struct, gc=False):
    school: _Named | Text = None


_decode_education = msgspec.json.Decoder(list[_Education]).decode


def json_list(raw: msgspec.Raw, *, is_text: bool = False) -> Json:
    """A list of objects, as its JSON came. msgspec has seen that it is JSON, but not that it is UTF-8."""
    text = bytes(raw)
    if text.startswith(b'[{"'):
        if not is_text:
            text.decode()
        return text
    if text in (b"[]", b"null"):
        return None
    raise NotPlainError


def first_school(raw: msgspec.Raw) -> Text:
    """The name of the first school in a list of education. Raises one of `NOT_PLAIN` for other shapes."""
    for education in _decode_education(raw):
        school = education.school
        if name := school.name if isinstance(school, _Named) else school:
            return name
    return None

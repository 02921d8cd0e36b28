"""Read a contact of the plain shape from its JSON.

A contact of another shape raises one of `NOT_PLAIN`. `tolerant_parser` makes it plain and calls
`columns_of`, so that there is one way from the plain shape to columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pyarrow as pa

from eb_dagster.contacts.contact import (
    ABSENT,
    Contact,
    ContactValues,
    Employment,
    Job,
    Json,
    Location,
    OpenContact,
    Phone,
    PlainContact,
    Profile,
    Text,
    new_values,
)
from eb_dagster.contacts.schema import CONTACT_COLUMNS
from eb_dagster.identifiers.arrays import number_array


class NotPlainError(Exception):
    """The types are plain, but what they hold is not."""


NOT_PLAIN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotPlainError)
"""Raised for a contact of another shape, or JSON that only a lenient reader takes."""

_NO_KEYS: Final[Mapping[str, object]] = MappingProxyType({})
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
        plain = _decode_open(raw)
        return _from_plain(plain, new=_new_sections(raw), is_text=is_text)


def _new_sections(raw: bytes | msgspec.Raw) -> dict[str, object]:
    return {
        name: msgspec.json.decode(section)
        for name, section in decode_sections(raw).items()
        if name not in _known_keys
    }


def _from_plain(plain: PlainContact, *, new: Mapping[str, object] = _NO_KEYS, is_text: bool) -> Contact:
    education = school_name = experiences = None
    if plain.education is not ABSENT and (education := json_list(plain.education, is_text=is_text)):
        school_name = first_school(plain.education)
    if plain.experiences is not ABSENT:
        experiences = json_list(plain.experiences, is_text=is_text)
    values = columns_of(
        plain,
        education=education,
        school_name=school_name,
        experiences=experiences,
        other=_left_over(plain, new),
    )
    return Contact(values, tuple(dict.fromkeys(map(key_name, new)))) if new else Contact(values)


def columns_of(
    plain: PlainContact, *, education: Json, school_name: Text, experiences: Json, other: Json
) -> ContactValues:
    """The values of all columns: of a plain contact, and those of JSON with what was found inside them."""
    emails, work_email, personal_email = _emails_of(plain)
    phones = _phones_of(plain.phone_numbers) if plain.phone_numbers else None
    social_profiles, first_of_network = _profiles_of(plain.social_profiles or ())
    location = plain.location or _NO_LOCATION
    full_name, gender = plain.full_name or None, plain.gender or None
    first_name, last_name = plain.first_name or None, plain.last_name or None
    phone = phones[0] if phones else None
    city, region, country = location.city or None, location.region or None, location.country or None
    (
        job_title, job_level, company_name, company_domain, company_size, company_industry, company_linkedin_url,
        photo_url,
    ) = _work_of(plain.employment or _NO_EMPLOYMENT)  # fmt: skip
    # In the order of `FILLED_COLUMNS`, which a test compares: by keyword, this call would take fifteen times as long.
    # fmt: off
    values = new_values(
        full_name, first_name, last_name, gender, work_email, personal_email, emails, phone, phones,
        social_profiles, city, region, country, job_title, job_level, company_name, company_domain, company_size,
        company_industry, company_linkedin_url, photo_url, school_name, education, experiences, other,
    )
    # fmt: on
    for column, url in first_of_network.items():
        setattr(values, column, url)
    return values


_NO_LOCATION: Final = Location()
_NO_EMPLOYMENT: Final = Employment()
_NO_JOB: Final = Job()


def _emails_of(plain: PlainContact) -> tuple[tuple[str, ...] | None, Text, Text]:
    """All addresses, and the first one of work and of home."""
    work, personal = plain.current_work_email, plain.current_personal_email
    emails = {work: None, personal: None}
    for address in plain.work_emails or ():
        emails[address] = None
        work = work or address
    for address in plain.personal_emails or ():
        emails[address] = None
        personal = personal or address
    for address in plain.emails or ():
        emails[address] = None
    found = tuple(filter(None, emails))
    return found or None, work or None, personal or None


def _work_of(employment: Employment) -> tuple[Text, Text, Text, Text, Text, Text, Text, Text]:
    """The columns of the job and the company, in their order. One call for all, because each takes time."""
    job = employment.job or _NO_JOB
    levels, size = job.levels, employment.size
    return (
        job.title or None,
        _first_level(levels) if isinstance(levels, list) else levels or None,
        employment.name or None,
        employment.domain or employment.website or None,
        str(size) if isinstance(size, int) else size or None,
        employment.industry or None,
        employment.linkedin_url or None,
        employment.profile_pic_url or None,
    )


def _phones_of(given: Sequence[Phone]) -> tuple[str, ...] | None:
    phones = {phone.number: None for phone in given}
    return tuple(filter(None, phones)) or None


def _profiles_of(given: Sequence[Profile]) -> tuple[tuple[Profile, ...] | None, dict[str, str]]:
    """The profiles that say something, and by column of a network, its first one."""
    profiles: list[Profile] = []
    first_of_network: dict[str, str] = {}
    for profile in given:
        url, network = profile.url, profile.network
        if url:
            column = _NETWORK_COLUMNS.get(network.lower()) if network else _column_of_host(url)
            if column and column not in first_of_network:
                first_of_network[column] = url
        elif not network:
            continue
        if not (url and network):
            # Nobody else has the profile yet, so it may be changed.
            profile.url, profile.network = url or None, network or None
        profiles.append(profile)
    return tuple(profiles) or None, first_of_network


_NETWORK_COLUMNS: Final = {network: column.name for column in CONTACT_COLUMNS for network in column.networks}


def _column_of_host(url: str) -> str | None:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return None
    # Country and mobile sub-domains are the same network.
    *_, name, top = ["", "", *host.split(".")]
    return _NETWORK_COLUMNS.get(name) if top == "com" else None


def _first_level(levels: Sequence[Text]) -> Text:
    return next(filter(None, levels), None)


# What no column takes


def _left_over(plain: PlainContact, new: Mapping[str, object]) -> Json:
    rest: dict[str, object] = {}
    if plain.employment and (left := _left_of_employment(plain.employment)):
        rest["employment"] = left
    if new:
        rest |= {key: value for key, value in new.items() if not is_empty(value)}
    return dump_json(rest, is_sorted=bool(new)) if rest else None


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
    if isinstance(levels, list) and len(levels) > 1 and (further := _further_levels(levels)):
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

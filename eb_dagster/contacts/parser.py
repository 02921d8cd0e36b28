"""Read a contact of the plain shape from its JSON.

A contact of another shape raises one of `NOT_PLAIN`. `tolerant_parser` makes it plain and calls
`fill_columns`, so that there is one way from the plain shape to columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import msgspec
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
from eb_dagster.identifiers.arrays import bytes_array


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
    try:
        bytes_array([body], pa.string()).validate(full=True)
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
    values = new_values()
    if plain.education is not ABSENT and (education := json_list(plain.education, is_text=is_text)):
        values.education = education
        values.school_name = first_school(plain.education)
    if plain.experiences is not ABSENT:
        values.experiences = json_list(plain.experiences, is_text=is_text)
    values.other = _left_over(plain, new)
    fill_columns(values, plain)
    return Contact(values, tuple(dict.fromkeys(map(key_name, new)))) if new else Contact(values)


def fill_columns(values: ContactValues, plain: PlainContact) -> None:
    """Fill all columns but those of JSON and what is found inside them."""
    values.full_name = plain.full_name or None
    values.first_name = plain.first_name or None
    values.last_name = plain.last_name or None
    values.gender = plain.gender or None
    _fill_emails(values, plain)
    if plain.phone_numbers:
        _fill_phones(values, plain.phone_numbers)
    if plain.social_profiles:
        _fill_profiles(values, plain.social_profiles)
    if plain.location:
        _fill_location(values, plain.location)
    if plain.employment:
        _fill_employment(values, plain.employment)


def _fill_location(values: ContactValues, location: Location) -> None:
    values.city = location.city or None
    values.region = location.region or None
    values.country = location.country or None


def _fill_emails(values: ContactValues, plain: PlainContact) -> None:
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
    emails.pop(None, None)
    emails.pop("", None)
    if emails:
        values.emails = tuple(emails)
        values.work_email = work or None
        values.personal_email = personal or None


def _fill_phones(values: ContactValues, given: Sequence[Phone]) -> None:
    phones: dict[str, None] = {}
    for phone in given:
        if phone.number:
            phones[phone.number] = None
    if phones:
        values.phones = found = tuple(phones)
        values.phone = found[0]


def _fill_profiles(values: ContactValues, given: Sequence[Profile]) -> None:
    profiles: list[Profile] = []
    for profile in given:
        if profile.url:
            _fill_network_column(values, profile.network, profile.url)
        elif not profile.network:
            continue
        # Nobody else has the profile yet, so it may be changed.
        profile.url = profile.url or None
        profile.network = profile.network or None
        profiles.append(profile)
    values.social_profiles = tuple(profiles) or None


def _fill_network_column(values: ContactValues, network: str | None, url: str) -> None:
    """Fill the column of the profile's network, unless it is filled."""
    column = _NETWORK_COLUMNS.get(network.lower()) if network else _column_of_host(url)
    if column and getattr(values, column) is None:
        setattr(values, column, url)


_NETWORK_COLUMNS: Final = {network: column.name for column in CONTACT_COLUMNS for network in column.networks}


def _column_of_host(url: str) -> str | None:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return None
    # Country and mobile sub-domains are the same network.
    *_, name, top = ["", "", *host.split(".")]
    return _NETWORK_COLUMNS.get(name) if top == "com" else None


def _fill_employment(values: ContactValues, employment: Employment) -> None:
    size = employment.size
    values.company_name = employment.name or None
    values.company_domain = employment.domain or employment.website or None
    values.company_size = str(size) if type(size) is int else size or None
    values.company_industry = employment.industry or None
    values.company_linkedin_url = employment.linkedin_url or None
    values.photo_url = employment.profile_pic_url or None
    if employment.job:
        _fill_job(values, employment.job)


def _fill_job(values: ContactValues, job: Job) -> None:
    values.job_title = job.title or None
    values.job_level = _first_level(job.levels)


def _first_level(levels: list[Text] | Text) -> Text:
    if isinstance(levels, list):
        return next(filter(None, levels), None)
    return levels or None


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
    if isinstance(job.levels, list) and (further := _further_levels(job.levels)):
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

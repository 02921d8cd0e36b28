"""Read a contact of any shape: make it plain, and hand it to the plain parser.

Any key may be missing, null, new or of another type, and none of that loses what was paid for: what does not
fit the plain shape is left for `other`. What was odd is told by its path, never by its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeGuard

import msgspec

from eb_dagster.contacts.contact import (
    Contact,
    Employment,
    Job,
    Location,
    Phone,
    PlainContact,
    Profile,
    Text,
)
from eb_dagster.contacts.damaged_json import decode_damaged, dump_damaged
from eb_dagster.contacts.parser import (
    NOT_PLAIN,
    decode_sections,
    dump_json,
    first_school,
    is_empty,
    json_list,
    key_name,
    read_plain_contact,
)

Object = dict[str, object]


def read_contact(raw: bytes | msgspec.Raw, *, is_text: bool = False) -> Contact:
    """The contact in this JSON, which may be known to be UTF-8. Its shape never makes it fail.

    Raises `ValueError` only if the bytes are no JSON at all.
    """
    try:
        return read_plain_contact(raw, is_text=is_text)
    except NOT_PLAIN:
        return read_odd_contact(bytes(raw))


def read_odd_contact(raw: bytes) -> Contact:
    """As `read_contact` for a shape that is not plain, at a fifth of the speed."""
    try:
        try:
            return _OddContact(dump_json).read(_decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            value, damage = decode_damaged(raw)
        return _OddContact(dump_damaged, drift=damage).read(value)
    except RecursionError:
        text = raw.decode("utf-8", "replace")
        return Contact(PlainContact(), other=text.encode(), drift=("too_deep",))


# The names under which an entry that is an object may have its text.
_EMAIL_NAMES: Final = ("email", "address")
_PHONE_NAMES: Final = ("E164", "e164", "number", "phone")
_PROFILE_NAMES: Final = ("network", "url")


class _Dump(Protocol):
    def __call__(self, value: object, *, is_sorted: bool = False) -> bytes: ...


class _OddContact:
    """Takes what fits the plain shape out of a contact. What stays there becomes `other`."""

    __slots__ = ("_drift", "_dump", "_unknown_keys")

    def __init__(self, dump: _Dump, *, drift: Sequence[str] = ()) -> None:
        # Dicts, so that each path is told once and in the order of reading.
        self._drift: dict[str, None] = dict.fromkeys(drift)
        self._unknown_keys: dict[str, None] = {}
        self._dump = dump

    def read(self, value: object) -> Contact:
        contact = _only_entry(value)
        if _is_object(contact):
            read = self._read_object(contact)
        elif value is not None:
            self._drift["contact"] = None
            read = Contact(PlainContact(), other=None if is_empty(value) else self._dump(value))
        else:
            read = Contact(PlainContact())
        read.unknown_keys, read.drift = tuple(self._unknown_keys), tuple(self._drift)
        return read

    def _read_object(self, contact: Object) -> Contact:
        plain = PlainContact(**self._take_texts(contact, _TEXT_KEYS[PlainContact], ""))
        current_emails = self._take_emails(contact, plain)
        phones = self._take_list(contact, "phone_numbers", _PHONE_NAMES)
        plain.phone_numbers = tuple([Phone(phone) for phone in phones])
        plain.social_profiles = self._take_profiles(contact)
        plain.location = self._take_location(contact)
        plain.employment = self._take_employment(contact)
        education, school_name = self._take_json(contact, "education")
        experiences, _ = self._take_json(contact, "experiences")
        self._note_unknown_keys(contact, PlainContact, "")
        return Contact(
            plain,
            education=education,
            experiences=experiences,
            school_name=school_name,
            other=self._dump(contact, is_sorted=True) if contact else None,
            current_emails=current_emails,
        )

    def _take_emails(self, contact: Object, plain: PlainContact) -> list[str]:
        """Returns the current addresses."""
        work = self._take_list(contact, "current_work_email", _EMAIL_NAMES)
        personal = self._take_list(contact, "current_personal_email", _EMAIL_NAMES)
        plain.work_emails = (*work, *self._take_list(contact, "work_emails", _EMAIL_NAMES))
        plain.personal_emails = (*personal, *self._take_list(contact, "personal_emails", _EMAIL_NAMES))
        plain.emails = tuple(self._take_list(contact, "emails", _EMAIL_NAMES))
        plain.current_work_email = work[0] if work else None
        plain.current_personal_email = personal[0] if personal else None
        return work + personal

    def _take_profiles(self, contact: Object) -> tuple[Profile, ...]:
        given = contact.pop("social_profiles", None)
        profiles: list[Profile] = []
        left: list[object] = []
        for entry in _as_list(given):
            profile, is_all = self._profile_in(entry)
            profiles.append(profile)
            if not is_all:
                left.append(entry)
        if left:
            contact["social_profiles"] = left if isinstance(given, list) else left[0]
        return tuple(profiles)

    def _profile_in(self, entry: object) -> tuple[Profile, bool]:
        """The profile in an entry, and whether that is all it holds."""
        if not _is_object(entry):
            url, is_all = self._text_in(entry, "social_profiles", ())
            return Profile(url=url), is_all
        profile = Profile(_as_text(entry.get("network")), _as_text(entry.get("url")))
        is_all = not self._has_more(entry, "social_profiles", _PROFILE_NAMES)
        for name, text in (("network", profile.network), ("url", profile.url)):
            if text is None and not is_empty(entry.get(name)):
                self._drift["social_profiles"] = None
                is_all = False
        return profile, is_all

    def _take_location(self, contact: Object) -> Location | None:
        section = self._section_in(contact, "location", "location")
        if section is None:
            return None
        location = Location(**self._take_texts(section, _TEXT_KEYS[Location], "location."))
        self._note_unknown_keys(section, Location, "location.")
        if not section:
            del contact["location"]
        return location

    def _take_employment(self, contact: Object) -> Employment | None:
        section = self._section_in(contact, "employment", "employment")
        if section is None:
            return None
        website = section.get("website")
        employment = Employment(**self._take_texts(section, _TEXT_KEYS[Employment], "employment."))
        if employment.domain and employment.website not in (None, employment.domain):
            # Only one of them becomes a column.
            section["website"] = website
        employment.job = self._take_job(section)
        self._note_unknown_keys(section, Employment, "employment.")
        if not section:
            del contact["employment"]
        return employment

    def _take_job(self, employment: Object) -> Job | None:
        section = self._section_in(employment, "job", "employment.job")
        if section is None:
            return None
        job = Job(**self._take_texts(section, _TEXT_KEYS[Job], "employment.job."))
        job.levels = self._take_level(section)
        self._note_unknown_keys(section, Job, "employment.job.")
        if not section:
            del employment["job"]
        return job

    def _take_level(self, job: Object) -> Text:
        """The first level. The others stay."""
        levels = job.pop("levels", None)
        first: Text = None
        left: list[object] = []
        for level in _as_list(levels):
            text = _as_text(level)
            if text and first is None:
                first = text
            elif not is_empty(level):
                left.append(level)
                if text is None:
                    self._drift["employment.job.levels"] = None
        if left:
            job["levels"] = left if isinstance(levels, list) else left[0]
        return first

    def _take_json(self, contact: Object, key: str) -> tuple[bytes | None, Text]:
        """A list as JSON, and the first school in it."""
        value = contact.get(key)
        if isinstance(value, _ListAsItCame):
            del contact[key]
            return value.text, value.school_name
        if is_empty(value):
            contact.pop(key, None)
            return None, None
        if not isinstance(value, list | dict | str):
            self._drift[key] = None
            return None, None
        entries = _as_list(contact.pop(key))
        return self._dump(entries), next(filter(None, map(_school_name, entries)), None)

    def _section_in(self, source: Object, key: str, path: str) -> Object | None:
        """The object under a key, also if it is the only entry of a list."""
        section = _only_entry(source.get(key))
        if _is_object(section):
            return section
        if is_empty(section):
            source.pop(key, None)
        else:
            self._drift[path] = None
        return None

    def _take_texts(self, source: Object, keys: Sequence[str], path: str) -> dict[str, Any]:
        """Take the texts under these keys. What is no text stays."""
        texts: dict[str, str] = {}
        for key in keys:
            value = source.get(key)
            text = _as_text(value)
            if text:
                texts[key] = text
                del source[key]
            elif is_empty(value):
                source.pop(key, None)
            else:
                self._drift[path + key] = None
        return texts

    def _take_list(self, source: Object, key: str, names: Sequence[str]) -> list[str]:
        """The texts in a list of texts or objects. An entry that holds more stays.

        Such an entry stays whole, because what it says is about the text in it.
        """
        given = source.pop(key, None)
        found: list[str] = []
        left: list[object] = []
        for entry in _as_list(given):
            text, is_all = self._text_in(entry, key, names)
            if text:
                found.append(text)
            if not is_all:
                left.append(entry)
        if left:
            source[key] = left if isinstance(given, list) else left[0]
        return found

    def _text_in(self, entry: object, path: str, names: Sequence[str]) -> tuple[Text, bool]:
        """The text of a list's entry, and whether that is all it holds."""
        if isinstance(entry, str):
            return entry or None, True
        if _is_object(entry) and names:
            return self._text_in_object(entry, path, names)
        text = _as_text(entry)
        if text is None and not is_empty(entry):
            self._drift[path] = None
            return None, False
        return text, True

    def _text_in_object(self, entry: Object, path: str, names: Sequence[str]) -> tuple[Text, bool]:
        is_all = not self._has_more(entry, path, names)
        texts = [_as_text(entry[name]) for name in names if not is_empty(entry.get(name))]
        found = list(dict.fromkeys(filter(None, texts)))
        if None in texts or not (found or is_all):
            self._drift[path] = None
        return (found[0] if found else None), is_all and None not in texts and len(found) < 2

    def _has_more(self, entry: Object, path: str, names: Sequence[str]) -> bool:
        has_more = False
        for key, value in entry.items():
            if key not in names:
                self._unknown_keys[f"{path}[].{key_name(key)}"] = None
                has_more = has_more or not is_empty(value)
        return has_more

    def _note_unknown_keys(self, source: Object, shape: type[msgspec.Struct], path: str) -> None:
        for key, value in list(source.items()):
            if key not in _KNOWN_KEYS[shape]:
                self._unknown_keys[path + key_name(key)] = None
            if is_empty(value):
                del source[key]


_SHAPES: Final[tuple[type[msgspec.Struct], ...]] = (PlainContact, Location, Employment, Job)
_KNOWN_KEYS: Final[Mapping[type[msgspec.Struct], frozenset[str]]] = {
    shape: frozenset(shape.__struct_encode_fields__) for shape in _SHAPES
}
# Texts of the plain shape that are not read one by one, or that no column takes.
_OTHER_TEXTS: Final = ("current_work_email", "current_personal_email", "start_date")


_TEXT_KEYS: Final[Mapping[type[msgspec.Struct], tuple[str, ...]]] = {
    shape: tuple(
        field.encode_name
        for field in msgspec.structs.fields(shape)
        if field.type in (Text, int | Text) and field.name not in _OTHER_TEXTS
    )
    for shape in _SHAPES
}


def _is_object(value: object) -> TypeGuard[Object]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _as_text(value: object) -> Text:
    """The value as text if that loses nothing, else None."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def _as_list(value: object) -> list[object]:
    if value is None:
        return []
    return value if _is_list(value) else [value]


def _only_entry(value: object) -> object:
    entries = _as_list(value)
    return entries[0] if len(entries) == 1 else value


def _school_name(entry: object) -> Text:
    school = entry.get("school") if _is_object(entry) else None
    return _as_text(school.get("name") if _is_object(school) else school)


# Lists of objects become columns as they came


class _ListAsItCame(msgspec.Struct, gc=False):
    text: bytes
    school_name: Text


def _decode(raw: bytes) -> object:
    try:
        sections = decode_sections(raw)
    except msgspec.ValidationError:
        return msgspec.json.decode(raw)
    return {
        key: _decode_list(key, section)
        if key in ("education", "experiences")
        else msgspec.json.decode(section)
        for key, section in sections.items()
    }


def _decode_list(key: str, raw: msgspec.Raw) -> object:
    try:
        text = json_list(raw)
        school_name = first_school(raw) if text and key == "education" else None
    except NOT_PLAIN:
        return msgspec.json.decode(raw)
    return None if text is None else _ListAsItCame(text, school_name)

"""A contact: in the vendor's plain shape, and by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from eb_dagster.api.envelope import REQUIRED_FIELDS, RequiredField, pack_fields
from eb_dagster.contacts.schema import CONTACT_COLUMNS
from eb_dagster.identifiers.model import FieldType

Text: TypeAlias = str | None
Json: TypeAlias = bytes | None
"""UTF-8."""

_EMAIL: Final = RequiredField.EMAIL.value
_WORK_EMAIL: Final = RequiredField.WORK_EMAIL.value
_PERSONAL_EMAIL: Final = RequiredField.PERSONAL_EMAIL.value
_PHONE: Final = RequiredField.PHONE.value
_SOCIAL_PROFILE: Final = RequiredField.SOCIAL_PROFILE.value


# The plain shape: the keys and types that nearly every contact has.


class _Unprinted(msgspec.Struct, gc=False):
    """Its repr shows no person."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Phone(_Unprinted, gc=False, forbid_unknown_fields=True):
    """One of `phone_numbers`."""

    number: Text = msgspec.field(default=None, name="E164")


class Profile(_Unprinted, gc=False, forbid_unknown_fields=True):
    """One of `social_profiles`."""

    network: Text = None
    url: Text = None


class Location(_Unprinted, gc=False, forbid_unknown_fields=True):
    """Where the person lives."""

    city: Text = None
    region: Text = None
    country: Text = None


class Job(_Unprinted, gc=False, forbid_unknown_fields=True):
    """What the person does."""

    title: Text = None
    levels: list[Text] | Text = None
    start_date: Text = None


class Employment(_Unprinted, gc=False, forbid_unknown_fields=True):
    """Where the person works."""

    name: Text = None
    domain: Text = None
    website: Text = None
    size: int | Text = None
    industry: Text = None
    linkedin_url: Text = None
    profile_pic_url: Text = None
    start_date: Text = None
    job: Job | None = None


ABSENT: Final = msgspec.Raw(b"null")


class PlainContact(_Unprinted, gc=False, forbid_unknown_fields=True):
    """A contact of the plain shape."""

    full_name: Text = None
    first_name: Text = None
    last_name: Text = None
    gender: Text = None
    current_work_email: Text = None
    current_personal_email: Text = None
    work_emails: list[Text] | None = None
    personal_emails: list[Text] | None = None
    emails: list[Text] | None = None
    phone_numbers: list[Phone] | None = None
    social_profiles: list[Profile] | None = None
    location: Location | None = None
    employment: Employment | None = None
    education: msgspec.Raw = ABSENT
    experiences: msgspec.Raw = ABSENT


class OpenContact(PlainContact, gc=False, forbid_unknown_fields=False):
    """The plain shape, with other keys beside those that are known."""


# By column

ContactValues: TypeAlias = Any
"""What `new_values` makes."""

FILLED_COLUMNS: Final = tuple(column.name for column in CONTACT_COLUMNS if not column.networks)
"""The columns but those of single networks."""
VALUE_NAMES: Final = (*FILLED_COLUMNS, *(column.name for column in CONTACT_COLUMNS if column.networks))
"""All columns, in the order of what `new_values` takes."""

new_values: Final[Callable[..., ContactValues]] = msgspec.defstruct(
    "ContactValues",
    [(name, object, None) for name in VALUE_NAMES],
    bases=(_Unprinted,),
    gc=False,
)
"""Makes an object with an attribute for each of `VALUE_NAMES`.

It is no tuple and no dict: Python's collector of cycles would walk through all of them, over and over.
"""


class Contact(msgspec.Struct, frozen=True, gc=False):
    """A contact by column. Its repr shows no person."""

    values: ContactValues
    """Columns of JSON are bytes of UTF-8."""
    unknown_keys: tuple[str, ...] = ()
    """The paths of keys that no column knows, without values."""
    drift: tuple[str, ...] = ()
    """The paths whose value had a type that no column could take; the value is in `other`."""

    @property
    def fields(self) -> int:
        """Which of the API's required fields it has, as the bits of `RequiredField`."""
        values = self.values
        held = _EMAIL if values.emails else 0
        if values.work_email:
            held |= _WORK_EMAIL
        if values.personal_email:
            held |= _PERSONAL_EMAIL
        if values.phones:
            held |= _PHONE
        if values.social_profiles:
            held |= _SOCIAL_PROFILE
        return held

    @property
    def held(self) -> frozenset[str]:
        """Which of the API's required fields it has, by name."""
        return frozenset(name for name in REQUIRED_FIELDS if self.fields & pack_fields([name]))

    @property
    def texts(self) -> Mapping[FieldType, Sequence[str]]:
        """Who the contact says it is, by kind: each distinct text as it came, profiles first."""
        values = self.values
        return {
            "social_profile": [profile.url for profile in values.social_profiles or () if profile.url],
            "email": values.emails or (),
            "phone": values.phones or (),
        }

    @property
    def contents(self) -> str:
        """All values as one text, the same for equal contacts, whichever release read them."""
        values = (getattr(self.values, column.name) for column in CONTACT_COLUMNS)
        return repr(tuple(map(_as_kept, values)))

    def __repr__(self) -> str:
        return f"Contact(held={sorted(self.held)}, unknown_keys={self.unknown_keys}, drift={self.drift})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("held", self.held), ("unknown_keys", self.unknown_keys), ("drift", self.drift)]


def _as_kept(value: object) -> object:
    """A value as ledgers know its text: it tells whether two contacts are one person's."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Profile):
        return value.network, value.url
    if isinstance(value, tuple):
        return tuple(map(_as_kept, cast("tuple[object, ...]", value)))
    return value

"""A contact, in the vendor's plain shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from eb_dagster.identifiers.model import FieldType

Text: TypeAlias = str | None
Json: TypeAlias = bytes | None
"""UTF-8."""


# The plain shape: the keys and types that nearly every contact has. Tuples of texts are nothing to Python's collector
# of cycles; lists, of which a reply has thousands, would make it walk through all that the process holds.


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
    levels: tuple[Text, ...] | Text = None
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
    work_emails: tuple[Text, ...] | None = None
    personal_emails: tuple[Text, ...] | None = None
    emails: tuple[Text, ...] | None = None
    phone_numbers: tuple[Phone, ...] | None = None
    social_profiles: tuple[Profile, ...] | None = None
    location: Location | None = None
    employment: Employment | None = None
    education: msgspec.Raw = ABSENT
    experiences: msgspec.Raw = ABSENT


class OpenContact(PlainContact, gc=False, forbid_unknown_fields=False):
    """The plain shape, with other keys beside those that are known."""


class Contact(_Unprinted, gc=False):
    """A contact: in the plain shape, and beside it what that cannot hold."""

    plain: PlainContact
    """Its lists that stay JSON are not looked at any more."""
    education: Json = None
    experiences: Json = None
    school_name: Text = None
    other: Json = None
    """What no column takes."""
    current_emails: Sequence[str] = ()
    """All that are current, where these are more than the plain shape has room for."""
    unknown_keys: tuple[str, ...] = ()
    """The paths of keys that no column knows, without values."""
    drift: tuple[str, ...] = ()
    """The paths whose value had a type that no column could take; the value is in `other`."""

    @property
    def emails(self) -> tuple[str, ...]:
        """Every distinct address, the current ones first."""
        plain = self.plain
        emails: dict[Text, None] = dict.fromkeys(self.current_emails) if self.current_emails else {}
        emails[plain.current_work_email] = None
        emails[plain.current_personal_email] = None
        # Loops are faster here than one more tuple.
        for address in plain.work_emails or ():
            emails[address] = None
        for address in plain.personal_emails or ():
            emails[address] = None
        for address in plain.emails or ():
            emails[address] = None
        return tuple(filter(None, emails))

    @property
    def phones(self) -> tuple[str, ...]:
        """Every distinct number."""
        phones = self.plain.phone_numbers
        return tuple(filter(None, {phone.number: None for phone in phones})) if phones else ()

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Every profile that says something."""
        profiles = self.plain.social_profiles
        return tuple([profile for profile in profiles if profile.url or profile.network]) if profiles else ()

    @property
    def texts(self) -> Mapping[FieldType, Sequence[str]]:
        """Who the contact says it is, by kind: each text as it came, profiles first."""
        return {
            "social_profile": [profile.url for profile in self.profiles if profile.url],
            "email": self.emails,
            "phone": self.phones,
        }

    def __repr__(self) -> str:
        return f"Contact(unknown_keys={self.unknown_keys}, drift={self.drift})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("unknown_keys", self.unknown_keys), ("drift", self.drift)]

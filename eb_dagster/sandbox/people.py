"""Made-up people: the same person for the same identifier, in every process.

They are as varied as the vendor's contacts may be: fields are missing, null or empty, lists hold texts
or objects, and names are in many scripts. No address or number belongs to anybody.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

from eb_dagster.sandbox import vocabulary

T = TypeVar("T")
Contact: TypeAlias = dict[str, object]

REQUIRED_FIELD_KEYS: Final = {
    "email": (
        "current_work_email",
        "current_personal_email",
        "emails",
        "work_emails",
        "personal_emails",
    ),
    "work_email": ("current_work_email", "work_emails"),
    "personal_email": ("current_personal_email", "personal_emails"),
    "phone": ("phone_numbers",),
    "social_profile": ("social_profiles",),
}
"""The keys of a contact of which one must hold something, for each required field."""


class Dice:
    """Random choices that depend on the text alone."""

    __slots__ = ("_bytes",)

    def __init__(self, text: str) -> None:
        self._bytes = iter(hashlib.shake_256(text.encode()).digest(160))

    def share(self) -> float:
        """A number from 0 to 1, in fine steps."""
        return self._number(6) / 2**48

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        return next(self._bytes) * 100 < percent * 256

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[next(self._bytes) % len(options)]

    def below(self, end: int) -> int:
        """A whole number from 0 up to, and not including, the end."""
        return self._number(3) % end

    def unique(self) -> str:
        """48 bits in hexadecimal: no two of a million people share a made-up address by accident."""
        return f"{self._number(6):012x}"

    def _number(self, size: int) -> int:
        return int.from_bytes(bytes(itertools.islice(self._bytes, size)), "big")


def find_person(
    field_type: str, value: str, *, required_fields: Sequence[str], match_rate: float
) -> Contact | None:
    """The person behind an identifier, or None if there is nobody who has every required field."""
    dice = Dice(f"{field_type}:{value.strip().casefold()}")
    if dice.share() >= match_rate:
        return None
    person = make_person(field_type, value, dice)
    if not all(_has_required_field(person, name) for name in required_fields):
        return None
    return person


def without_required_fields(contact: Contact, required_fields: Sequence[str]) -> Contact:
    """The contact without any key that one of the required fields looks for."""
    removed = {key for name in required_fields for key in REQUIRED_FIELD_KEYS[name]}
    return {key: value for key, value in contact.items() if key not in removed}


def _has_required_field(person: Contact, name: str) -> bool:
    return any(person.get(key) for key in REQUIRED_FIELD_KEYS[name])


def make_person(field_type: str, value: str, dice: Dice) -> Contact:
    """A person who has this identifier."""
    company = dice.pick(vocabulary.COMPANIES)
    domain = re.sub(r"[^a-z]+", "-", company.lower()) + ".example"
    handle = f"{dice.pick(vocabulary.HANDLE_WORDS)}-{dice.unique()}"
    person: Contact = {
        **_names(dice),
        **_emails(dice, handle, domain, asked=value if field_type == "email" else None),
        "phone_numbers": _phones(dice, asked=value if field_type == "phone" else None),
        "social_profiles": _profiles(dice, handle, asked=value if field_type == "social_profile" else None),
        "location": _location(dice),
        "employment": _employment(dice, company, domain, handle),
        "education": _education(dice),
    }
    if dice.chance(25):
        person["experiences"] = _experiences(dice)
    if dice.chance(5):
        person["seniority_score"] = dice.below(100)
    _drop_some_keys(person, dice)
    return person


def _drop_some_keys(person: Contact, dice: Dice) -> None:
    for key in ("gender", "education", "location"):
        if dice.chance(5):
            del person[key]
    # A person without phones has an empty list or no list.
    if not person["phone_numbers"] and dice.chance(50):
        del person["phone_numbers"]


def _names(dice: Dice) -> Contact:
    given_names, family_names, pattern = dice.pick(vocabulary.NAMES)
    given = dice.pick(given_names)
    family = dice.pick(family_names)
    names: Contact = {
        "full_name": pattern.format(given=given, family=family),
        "first_name": given,
        "last_name": family,
        "gender": dice.pick((None, "female", "male")),
    }
    if dice.chance(3):
        names["first_name"] = None
    return names


def _current_emails(dice: Dice, work: str | None, personal: str | None) -> Contact:
    emails: Contact = {}
    for key, address in (("current_work_email", work), ("current_personal_email", personal)):
        # A person without such an address has a null or no key.
        if address is not None or not dice.chance(50):
            emails[key] = address
    return emails


def _emails(dice: Dice, handle: str, domain: str, *, asked: str | None) -> Contact:
    work = f"{handle}@{domain}" if dice.chance(80) else None
    personal = f"{handle}@{dice.pick(vocabulary.MAIL_PROVIDERS)}.example" if dice.chance(55) else None
    if asked is not None and dice.chance(50):
        work = asked
    emails = _current_emails(dice, work, personal)
    emails["emails"] = _email_list(dice, asked, work, personal)
    if work and dice.chance(30):
        emails["work_emails"] = [work]
    if personal and dice.chance(30):
        emails["personal_emails"] = [{"email": personal}]
    return emails


def _email_list(dice: Dice, *addresses: str | None) -> list[object]:
    """Every address once, as texts or as objects: nobody knows which of them the vendor sends."""
    known = dict.fromkeys(address for address in addresses if address is not None)
    shape = dice.pick(("text", "text", "email", "address"))
    if shape == "text":
        return list(known)
    return [{shape: address} for address in known]


def _phones(dice: Dice, *, asked: str | None) -> list[Contact]:
    numbers = [_phone(dice) for _ in range(dice.pick((0, 1, 1, 1, 2)))]
    if asked is not None:
        digits = re.sub(r"[^0-9]", "", asked)
        numbers.insert(0, f"+{digits}" if digits else asked)
    return [{"E164": number} for number in numbers]


def _phone(dice: Dice) -> str:
    # Both ranges are set aside for fiction: 555-01xx in North America, 7700 900xxx in Britain.
    if dice.chance(20):
        return f"+447700900{dice.below(1000):03d}"
    return f"+1{dice.pick(vocabulary.AREA_CODES)}55501{dice.below(100):02d}"


def _profiles(dice: Dice, handle: str, *, asked: str | None) -> list[Contact]:
    profiles: list[Contact] = []
    if asked is not None:
        profiles.append({"network": _network_of(asked), "url": asked})
    elif dice.chance(85):
        profiles.append({"network": "linkedin", "url": f"linkedin.com/in/{handle}"})
    for network in ("twitter", "facebook", "github"):
        if dice.chance(30):
            profiles.append({"network": network, "url": f"{network}.com/{handle}"})
    return profiles


def _network_of(url: str) -> str:
    return next((name for name in vocabulary.NETWORKS if name in url.lower()), "website")


def _location(dice: Dice) -> Contact | None:
    city, region, country = dice.pick(vocabulary.PLACES)
    if dice.chance(12):
        return None
    location: Contact = {"city": city, "region": region, "country": country}
    if dice.chance(10):
        del location["city"]
    return location


def _employment(dice: Dice, company: str, domain: str, handle: str) -> Contact | None:
    if dice.chance(8):
        return None
    employment: Contact = {
        "name": company,
        "size": dice.pick(("1-10", "11-50", "51-200", 4, 51, 1200, None)),
        "domain": domain,
        "industry": dice.pick(vocabulary.INDUSTRIES),
        "profile_pic_url": f"https://pictures.example/{handle}.jpg",
        "job": {"title": dice.pick(vocabulary.TITLES), "levels": dice.pick(vocabulary.LEVELS)},
    }
    if dice.chance(40):
        employment["website"] = f"https://{domain}"
        employment["linkedin_url"] = f"linkedin.com/company/{domain.replace('.', '-')}"
    if dice.chance(40):
        employment["start_date"] = f"{2005 + dice.below(20)}-{1 + dice.below(12):02d}-01"
    for key in ("size", "industry", "profile_pic_url", "domain"):
        if dice.chance(12):
            del employment[key]
    return employment


def _education(dice: Dice) -> list[object]:
    schools = [dice.pick(vocabulary.SCHOOLS) for _ in range(dice.pick((0, 1, 1, 2)))]
    if dice.chance(4):
        return [*schools]
    return [{"school": {"name": school}, "end_date": None} for school in schools]


def _experiences(dice: Dice) -> list[Contact]:
    return [
        {
            "company": {"name": dice.pick(vocabulary.COMPANIES)},
            "title": dice.pick(vocabulary.TITLES),
            "is_primary": index == 0,
            "start_date": str(2000 + dice.below(20)),
        }
        for index in range(1 + dice.below(3))
    ]

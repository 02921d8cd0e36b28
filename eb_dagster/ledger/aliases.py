"""What is noted of a contact for later rows: the identifiers inside it, and the mark of its person.

Whether it answers for a row is decided in `lookup`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import Flattened
from eb_dagster.identifiers.canonical import canonical_values, key_forms
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType
from eb_dagster.identifiers.profile import is_vanity
from eb_dagster.identifiers.role_mailboxes import is_role_mailbox
from eb_dagster.ledger.entries import PROFILED, VANITY, Entries, pack_aliases
from eb_dagster.ledger.key_hashes import ValueHasher


@dataclass(frozen=True, slots=True)
class Values:
    """Canonical identifiers of one kind, and for each the row of the contact that holds it."""

    values: list[str] = field(repr=False)
    rows: list[int]


@dataclass(frozen=True, slots=True)
class ContactIdentifiers:
    """What is found inside the contacts of a reply. A contact's row is its index among them."""

    values: Mapping[FieldType, Values] = field(repr=False)
    persons: Mapping[int, int]
    """By row, a mark that two contacts of one person have in common."""
    with_vanity: frozenset[int]
    """Rows with a LinkedIn profile under a name that its owner chose."""

    def marks(self, row: int) -> int:
        """The bits that are noted of a contact beside the fields that it holds."""
        return VANITY if row in self.with_vanity else 0

    def pack(
        self,
        positions: Sequence[int],
        held: Mapping[int, int],
        *,
        hasher: Callable[[FieldType], ValueHasher],
    ) -> Entries:
        """As an array of `ALIAS`, one entry for each spelling. A role's mailbox is nobody's alias.

        `positions` are the contacts' positions in the reply, by row, and `held` the fields they hold, by position.
        """
        keys: list[bytes] = []
        rows: list[int] = []
        for kind, found in self.values.items():
            personal = _without_role_mailboxes(found) if kind == "email" else found
            hash_of = hasher(kind)
            keys += [hash_of(value) for value in personal.values]
            rows += personal.rows
        positions_of_keys = [positions[row] for row in rows]
        return pack_aliases(
            keys,
            positions_of_keys,
            [held.get(position, 0) for position in positions_of_keys],
            [self.persons.get(row, 0) for row in rows],
        )


def _without_role_mailboxes(emails: Values) -> Values:
    kept = [index for index, value in enumerate(emails.values) if not is_role_mailbox(value)]
    return Values([emails.values[index] for index in kept], [emails.rows[index] for index in kept])


def identifiers_inside(contacts: Sequence[Contact | None], flattened: Flattened) -> ContactIdentifiers:
    """Read every identifier inside these contacts."""
    values: dict[FieldType, Values] = {kind: _values_of(kind, flattened) for kind in FIELD_TYPES}
    profiles, with_vanity = _profiles_of(values["social_profile"])
    persons = {
        row: _person_mark(contact, profiles.get(row))
        for row, contact in enumerate(contacts)
        if contact is not None
    }
    return ContactIdentifiers(values, persons, frozenset(with_vanity))


def _values_of(kind: FieldType, flattened: Flattened) -> Values:
    texts, rows = flattened.texts_of(kind)
    found = Values([], [])
    for value, row in zip(canonical_values(kind, texts), rows, strict=True):
        if value is not None:
            found.values.append(value)
            found.rows.append(row)
    return found


def _profiles_of(found: Values) -> tuple[dict[int, str], set[int]]:
    """By row, the profile that tells whose contact it is; and the rows where that is a vanity profile.

    It is the first vanity profile of LinkedIn, or else the first profile.
    """
    profiles: dict[int, str] = {}
    with_vanity: set[int] = set()
    # In the form that all spellings of one profile share.
    for value, row in zip(key_forms("social_profile", found.values), found.rows, strict=True):
        if is_vanity(value) and row not in with_vanity:
            profiles[row] = value
            with_vanity.add(row)
        profiles.setdefault(row, value)
    return profiles, with_vanity


def _person_mark(contact: Contact, profile: str | None) -> int:
    if profile is not None:
        return _digest(profile) | PROFILED
    # By the name: the rest of a contact changes with the years.
    text = contact.values.full_name or contact.contents
    return _digest(" ".join(text.casefold().split())) & ~PROFILED


_EMPTY_DIGEST: Final = blake2b(digest_size=4)


def _digest(text: str) -> int:
    # A copy is faster than a new hash.
    digest = _EMPTY_DIGEST.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "little")

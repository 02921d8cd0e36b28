"""Who a contact answers for: the identifiers inside it, and the mark of its person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, cast

from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import Flattened
from eb_dagster.identifiers.canonical import canonical_values, key_forms
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType
from eb_dagster.identifiers.profile import is_vanity
from eb_dagster.identifiers.role_mailboxes import is_role_mailbox
from eb_dagster.ledger.entries import PROFILED, VANITY, pack_aliases
from eb_dagster.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Inside:
    """What is found inside the contacts of a reply."""

    values: Mapping[FieldType, tuple[list[str], list[int]]] = field(repr=False)
    """By kind: canonical identifiers, and the row of each."""
    persons: Mapping[int, int]
    """By row, a mark that two contacts of one person have in common."""
    with_vanity: frozenset[int]
    """Rows with a LinkedIn profile under a name of its owner's choice."""

    def marks(self, row: int) -> int:
        """What is noted of a contact beside the fields that it holds."""
        return VANITY if row in self.with_vanity else 0

    def packed(self, ledger: Ledger, positions: Sequence[int], held: Mapping[int, int]) -> Any:
        """As an array of `ALIAS`, once for each spelling. A role's mailbox is nobody's alias."""
        keys: list[bytes] = []
        rows: list[int] = []
        for kind, (values, places) in self.values.items():
            if kind == "email":
                own = [at for at, value in enumerate(values) if not is_role_mailbox(value)]
                values, places = [values[at] for at in own], [places[at] for at in own]
            keys += ledger.keys_of(kind, values)
            rows += places
        at = [positions[row] for row in rows]
        return pack_aliases(
            keys, at, [held.get(one, 0) for one in at], [self.persons.get(row, 0) for row in rows]
        )


def inside_contacts(contacts: Sequence[Contact | None], flattened: Flattened) -> Inside:
    """Read every identifier inside these contacts."""
    found: dict[FieldType, tuple[list[str], list[int]]] = {}
    for kind in FIELD_TYPES:
        texts, places = flattened.texts_of(kind)
        values = canonical_values(kind, texts)
        mine = [at for at, value in enumerate(values) if value is not None]
        found[kind] = [cast("str", values[at]) for at in mine], [places[at] for at in mine]
    # By the name that somebody chose at LinkedIn, else by another profile.
    profiles: dict[int, str] = {}
    vanity: set[int] = set()
    values, rows = found["social_profile"]
    # In the form that all spellings of one profile share.
    for value, row in zip(key_forms("social_profile", values), rows, strict=True):
        if is_vanity(value) and row not in vanity:
            profiles[row] = value
            vanity.add(row)
        profiles.setdefault(row, value)
    persons = {
        row: _digest(profiles[row]) | PROFILED if row in profiles else _digest(_name_or_all(one)) & ~PROFILED
        for row, one in enumerate(contacts)
        if one is not None
    }
    return Inside(found, persons, frozenset(vanity))


def _name_or_all(contact: Contact) -> str:
    # The rest of a contact changes with the years.
    return " ".join((contact.values.full_name or contact.contents).casefold().split())


_SHORT_DIGEST: Final = blake2b(digest_size=4)


def _digest(text: str) -> int:
    one = _SHORT_DIGEST.copy()
    one.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(one.digest(), "little")

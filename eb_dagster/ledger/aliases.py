"""What is noted of contacts for later rows: the identifiers inside them, and the mark of each one's person.

Whether a contact answers for a row is decided in `lookup`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sqlalchemy as sa

from eb_dagster.contacts.flatten import Flattened
from eb_dagster.identifiers.arrays import Array, Mask, flags_in, number_array
from eb_dagster.identifiers.canonical import canonical_column, key_forms
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType
from eb_dagster.identifiers.profile import are_vanity
from eb_dagster.identifiers.role_mailboxes import are_role_mailboxes
from eb_dagster.ledger.entries import PROFILED, VANITY, Entries, Indices, pack_aliases, unpack_aliases
from eb_dagster.ledger.key_segments import RequestKeys
from eb_dagster.ledger.request_rows import ANSWER_COLUMNS, outcomes_of, rewrite_outcomes
from eb_dagster.ledger.schema import rejected, requests

if TYPE_CHECKING:
    from eb_dagster.ledger.ledger import Ledger

Marks: TypeAlias = npt.NDArray[np.uint32]
_NONE: Final = -1
_SELECT_REJECTED: Final = sa.select(rejected)
_SELECT_ANSWER: Final = sa.select(*ANSWER_COLUMNS).where(requests.c.id == sa.bindparam("request"))


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Canonical identifiers of one kind, and for each the row of the contact that holds it."""

    values: Array = field(repr=False)
    rows: Indices

    def those(self, is_chosen: Mask) -> Values:
        """A part of them."""
        if is_chosen.all():
            return self
        chosen = np.flatnonzero(is_chosen)
        return Values(self.values.take(number_array(chosen, pa.int64())), self.rows[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class ContactIdentifiers:
    """What is found inside contacts. A contact's row is its index among them."""

    values: Mapping[FieldType, Values] = field(repr=False)
    persons: Marks
    """By row, a mark that two contacts of one person have in common."""
    has_vanity: Mask
    """Rows with a LinkedIn profile under a name that its owner chose."""

    def pack(
        self, positions: Indices, held: Indices, *, hash_column: Callable[[FieldType, Array], bytes]
    ) -> Entries:
        """As an array of `ALIAS`, one entry for each spelling. A role's mailbox is nobody's alias.

        `positions` are the contacts' positions in the reply, and `held` the bits that are noted of them, by row.
        """
        keys: list[bytes] = []
        rows: list[Indices] = []
        for kind, found in self.values.items():
            personal = found.those(~are_role_mailboxes(found.values)) if kind == "email" else found
            keys.append(hash_column(kind, personal.values))
            rows.append(personal.rows)
        row = np.concatenate(rows)
        return pack_aliases(b"".join(keys), positions[row], held[row], self.persons[row])


def identifiers_inside(contacts: Flattened) -> ContactIdentifiers:
    """Read every identifier inside these contacts."""
    values: dict[FieldType, Values] = {kind: _values_of(kind, contacts) for kind in FIELD_TYPES}
    profiles = values["social_profile"]
    # In the form that all spellings of one profile share.
    profiles = Values(key_forms("social_profile", profiles.values), profiles.rows)
    is_vanity = flags_in(are_vanity(profiles.values))
    has_vanity = np.zeros(len(contacts.is_vacant), dtype=np.bool_)
    has_vanity[profiles.rows[is_vanity]] = True
    return ContactIdentifiers(values, _person_marks(contacts, profiles, is_vanity), has_vanity)


def held_in(contacts: Flattened, inside: ContactIdentifiers) -> Indices:
    """The bits that are noted of each contact: the required fields that it has, and `VANITY`."""
    return contacts.fields | np.where(inside.has_vanity, VANITY, 0)


def _values_of(kind: FieldType, contacts: Flattened) -> Values:
    texts, rows = contacts.texts_of(kind)
    values = canonical_column(kind, texts)
    return Values(values, rows).those(flags_in(values.is_valid()))


def _person_marks(contacts: Flattened, profiles: Values, is_vanity: Mask) -> Marks:
    """A mark of each contact's person: of its first vanity profile on LinkedIn, else its first profile, else its name."""
    first = np.full(len(contacts.is_vacant), _NONE)
    for chosen in (np.arange(len(profiles.rows)), np.flatnonzero(is_vanity)):
        # Backwards: of several profiles in one row, the last one stays.
        first[profiles.rows[chosen[::-1]]] = chosen[::-1]
    has_profile = first != _NONE
    telling = profiles.values.take(number_array(first[has_profile], pa.int64()))
    marks = np.zeros(len(first), dtype=np.uint32)
    marks[has_profile] = _digests(telling.cast(pa.binary()).to_pylist()) | PROFILED
    nameless = np.flatnonzero(~has_profile & ~contacts.is_vacant)
    marks[nameless] = _digests(_name(contacts, row) for row in nameless.tolist()) & ~np.uint32(PROFILED)
    return marks


def _name(contacts: Flattened, row: int) -> bytes:
    # By the name: the rest of a contact changes with the years.
    text = contacts.names(row)["full_name"] or contacts.contents(row)
    return " ".join(text.casefold().split()).encode()


def without_rejected(connection: sa.Connection, aliases: Entries) -> Entries:
    """Leave out the identifiers of which a person said that the contact is not theirs."""
    rejected_pairs = {(bytes(key), person) for key, person in connection.execute(_SELECT_REJECTED)}
    if not rejected_pairs:
        return aliases
    is_kept = [(alias["key"].tobytes(), int(alias["person"])) not in rejected_pairs for alias in aliases]
    return aliases[np.array(is_kept, dtype=np.bool_)]


def add_aliases(
    ledger: Ledger, request_id: int, keys: Sequence[bytes], positions: Sequence[int], contacts: Flattened
) -> None:
    """Note that contacts of a reply answer for identifiers that they do not hold, a contact for each key.

    Nothing depends on it but a credit, so a power cut may undo it. What is gone from the reply by now is left out.
    """
    inside = identifiers_inside(contacts)
    new = pack_aliases(keys, positions, held_in(contacts, inside), inside.persons)
    with ledger.database.transaction(is_durable=False) as connection:
        row = connection.execute(_SELECT_ANSWER, {"request": request_id}).one_or_none()
        if row is None or row.state != "applied":
            return
        outcomes, known = outcomes_of(row), unpack_aliases(row.aliases)
        known_keys = {*known["key"].tolist()}
        is_new = np.array([key not in known_keys for key in keys], dtype=np.bool_)
        new = without_rejected(connection, new[is_new & np.isin(new["position"], outcomes["position"])])
        aliases = np.concatenate([known, new]).tobytes()
        rewrite_outcomes(connection, request_id, outcomes, aliases=aliases)
        ledger.index.follow(
            connection,
            request_id,
            before=RequestKeys(row.asked_keys, row.aliases),
            after=RequestKeys(row.asked_keys, aliases),
        )


_EMPTY_DIGEST: Final = blake2b(digest_size=4)


def _digests(texts: Iterable[bytes]) -> Marks:
    digests: list[bytes] = []
    for text in texts:
        # A copy is faster than a new hash.
        digest = _EMPTY_DIGEST.copy()
        digest.update(text)
        digests.append(digest.digest())
    return np.frombuffer(b"".join(digests), dtype="<u4")

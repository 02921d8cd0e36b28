"""A user's word that a contact is not an identifier's: it answers no more for it, and it is not asked again.

What was paid stays, and the contact goes on answering for its other identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import sqlalchemy as sa

from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.entries import ALIAS, REJECTED, unpack_aliases
from eb_dagster.ledger.key_index import KeyIndex
from eb_dagster.ledger.key_search import KeySearch
from eb_dagster.ledger.key_segments import RequestKeys
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.lookup import contacts_of, requests_with
from eb_dagster.ledger.request_rows import ANSWER_COLUMNS, Row, outcomes_of, rewrite_outcomes
from eb_dagster.ledger.schema import rejected, requests

_SELECT_ANSWERED: Final = sa.select(*ANSWER_COLUMNS).where(requests.c.outcomes.is_not(None))


def reject(ledger: Ledger, identifiers: Iterable[Identifier]) -> int:
    """Let no contact that there is answer for these any more. Returns how many contacts did."""
    people = list(identifiers)
    return sum(_reject_at(ledger, endpoint, people) for endpoint in ledger.endpoints())


def rejected_among(ledger: Ledger, keys: Sequence[bytes]) -> set[bytes]:
    """Those of the keys for which somebody's contact was rejected."""
    with ledger.database.reading() as connection:
        rows = connection.execute(sa.select(rejected.c.key)).all()
    return {bytes(row.key) for row in rows}.intersection(keys)


def _reject_at(ledger: Ledger, endpoint: str, identifiers: Sequence[Identifier]) -> int:
    keys = [ledger.key(identifier, endpoint=endpoint) for identifier in identifiers]
    search, contacts = KeySearch(keys), 0
    new: set[tuple[bytes, int]] = set()
    with ledger.database.transaction() as connection:
        query = _SELECT_ANSWERED.where(requests.c.endpoint == endpoint)
        for row in list(requests_with(connection, keys, index=ledger.index, query=query)):
            hits = contacts_of(row, search)
            if not hits:
                continue
            contacts += len({position for position, _ in hits})
            new |= _persons_of(row, hits, keys)
            _reject_in(connection, row, search, index=ledger.index)
        _note_rejected(connection, new)
    return contacts


def _persons_of(row: Row, hits: Iterable[tuple[int, int]], keys: Sequence[bytes]) -> set[tuple[bytes, int]]:
    """Each key with the marks of the people whose contacts answered for it."""
    aliases = unpack_aliases(row.aliases)
    person_of = dict(zip(aliases["position"].tolist(), aliases["person"].tolist(), strict=True))
    return {(keys[key_index], person_of[position]) for position, key_index in hits if position in person_of}


def _reject_in(connection: sa.Connection, row: Row, search: KeySearch, *, index: KeyIndex) -> None:
    outcomes = outcomes_of(row).copy()
    entries, _ = search.find(row.asked_keys)
    is_found = outcomes["position"][entries] >= 0
    outcomes["position"][entries[is_found]] = REJECTED
    aliases, _ = search.find(row.aliases or b"", size=ALIAS.itemsize)
    kept = np.delete(unpack_aliases(row.aliases), aliases)
    kept_bytes = kept.tobytes()
    rewrite_outcomes(connection, row.id, outcomes, aliases=kept_bytes)
    index.follow(
        connection,
        row.id,
        before=RequestKeys(row.asked_keys, row.aliases),
        after=RequestKeys(row.asked_keys, kept_bytes),
    )


def _note_rejected(connection: sa.Connection, new: set[tuple[bytes, int]]) -> None:
    """Remember them for the contacts of these people that are bought from now on."""
    known = {(bytes(row.key), int(row.person)) for row in connection.execute(sa.select(rejected))}
    rows = [{"key": key, "person": person} for key, person in sorted(new - known)]
    if rows:
        connection.execute(sa.insert(rejected), rows)

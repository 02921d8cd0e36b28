"""A person's word that a contact is not an identifier's: it answers no more for it, and it is not asked again.

What was paid stays, and the contact goes on answering for its other identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import sqlalchemy as sa

from eb_dagster.api.envelope import IN_DOUBT
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import connection as database
from eb_dagster.ledger.entries import ALIAS, REJECTED, Indices, Wanted, unpack_outcomes
from eb_dagster.ledger.ledger import Ledger

_requests, _rejected = database.requests, database.rejected


class _Places(NamedTuple):
    """Where the identifiers stand in a request: among those that were asked and found, and inside contacts."""

    asked: Indices
    inside: Indices
    told: Sequence[tuple[bytes, int]]
    """Each key with the position of a contact that answers for it."""


def reject(ledger: Ledger, identifiers: Iterable[Identifier]) -> int:
    """Let no contact that there is answer for these any more. Returns how many contacts did."""
    wanted = list(identifiers)
    return sum(_reject_at(ledger, endpoint, wanted) for endpoint in ledger.endpoints())


def _reject_at(ledger: Ledger, endpoint: str, identifiers: Sequence[Identifier]) -> int:
    keys, column = [ledger.key_at(endpoint, one) for one in identifiers], _requests.c
    wanted, contacts = Wanted(keys), 0
    with ledger.transaction() as connection:
        query = sa.select(column.id, column.asked, column.asked_keys, column.outcomes, column.aliases).where(
            column.endpoint == endpoint, column.outcomes.is_not(None)
        )
        known = {(bytes(row.key), int(row.person)) for row in connection.execute(sa.select(_rejected))}
        before = len(known)
        for row in connection.execute(query).all():
            places = _places(row, wanted, keys)
            if not places.told:
                continue
            contacts += len({position for _, position in places.told})
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT).copy()
            outcomes["position"][places.asked] = REJECTED
            aliases = np.frombuffer(row.aliases or b"", dtype=ALIAS)
            persons = dict(zip(aliases["position"].tolist(), aliases["person"].tolist(), strict=True))
            known |= {(key, persons[position]) for key, position in places.told if position in persons}
            kept = np.delete(aliases, places.inside).tobytes()
            ledger.rewrite_outcomes(connection, row.id, outcomes, aliases=kept)
        if len(known) > before:
            # Also of the contacts of these people that are bought from now on.
            connection.execute(sa.delete(_rejected))
            connection.execute(
                sa.insert(_rejected), [{"key": key, "person": person} for key, person in sorted(known)]
            )
    return contacts


def _places(row: Any, wanted: Wanted, keys: Sequence[bytes]) -> _Places:
    positions = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT)["position"]
    asked, which = wanted.find(row.asked_keys)
    is_found = positions[asked] >= 0
    asked, which = asked[is_found], which[is_found]
    inside, named = wanted.find(row.aliases or b"", size=ALIAS.itemsize)
    holding = np.frombuffer(row.aliases or b"", dtype=ALIAS)["position"][inside]
    numbers = cast("list[int]", [*which.tolist(), *named.tolist()])
    at = cast("list[int]", [*positions[asked].tolist(), *holding.tolist()])
    return _Places(asked, inside, [(keys[one], position) for one, position in zip(numbers, at, strict=True)])

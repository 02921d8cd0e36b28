"""A person's word that a contact is not an identifier's: it answers no more for it, and it is not asked again.

What was paid stays, and the contact goes on answering for its other identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import sqlalchemy as sa

from eb_dagster import database
from eb_dagster.identifiers import Identifier
from eb_dagster.ledger import Ledger
from eb_dagster.packed import ALIAS, REJECTED, Wanted, unpack_outcomes
from eb_dagster.wire import IN_DOUBT

_requests, _rejected = database.requests, database.rejected


def reject(ledger: Ledger, identifiers: Iterable[Identifier]) -> int:
    """Let no contact that there is answer for these any more. Returns how many contacts did."""
    wanted = list(identifiers)
    return sum(_reject_at(ledger, endpoint, wanted) for endpoint in ledger.endpoints())


def _reject_at(ledger: Ledger, endpoint: str, identifiers: list[Identifier]) -> int:
    keys = [ledger.key_at(endpoint, one) for one in identifiers]
    wanted, column = Wanted(keys), _requests.c
    contacts = 0
    with ledger.transaction() as connection:
        query = sa.select(column.id, column.asked, column.asked_keys, column.outcomes, column.aliases).where(
            column.endpoint == endpoint, column.outcomes.is_not(None)
        )
        known = {(bytes(row.key), row.person) for row in connection.execute(sa.select(_rejected))}
        rows = [row for row in connection.execute(query) if _speaks_of(row, wanted)]
        for row in rows:
            outcomes = unpack_outcomes(row.outcomes, asked=row.asked, default=IN_DOUBT).copy()
            aliases = np.frombuffer(row.aliases or b"", dtype=ALIAS)
            asked, which = wanted.find(row.asked_keys)
            is_found = outcomes["position"][asked] >= 0
            asked, which = asked[is_found], which[is_found]
            inside, named = wanted.find(row.aliases or b"", size=ALIAS.itemsize)
            of = dict(zip(aliases["position"].tolist(), aliases["person"].tolist(), strict=True))
            positions = outcomes["position"][asked].tolist()
            told = [
                *((keys[one], position) for one, position in zip(which.tolist(), positions, strict=True)),
                *(
                    (keys[one], position)
                    for one, position in zip(
                        named.tolist(), aliases["position"][inside].tolist(), strict=True
                    )
                ),
            ]
            contacts += len({position for _, position in told})
            known |= {(key, of[position]) for key, position in told if position in of}
            outcomes["position"][asked] = REJECTED
            kept = np.delete(aliases, inside).tobytes()
            ledger.rewrite_outcomes(connection, row.id, outcomes, aliases=kept)
        connection.execute(sa.delete(_rejected))
        if known:
            connection.execute(
                sa.insert(_rejected), [{"key": key, "person": person} for key, person in sorted(known)]
            )
    return contacts


def _speaks_of(row: Any, wanted: Wanted) -> bool:
    return bool(
        len(wanted.find(row.asked_keys)[0]) or len(wanted.find(row.aliases or b"", size=ALIAS.itemsize)[0])
    )

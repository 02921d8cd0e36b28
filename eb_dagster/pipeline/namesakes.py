"""Phones inside contacts that were bought: they answer for rows of the same name, where rows have names.

A phone alone may be anybody's in the house; of somebody with that phone and that name, nobody doubts it.
"""

from __future__ import annotations

import numpy as np

from eb_dagster.api.envelope import parse_reply
from eb_dagster.identifiers.model import Trait
from eb_dagster.identifiers.names import RowPerson, agrees
from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.known_keys import KnownKeys
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import contact_of, decompress
from eb_dagster.pipeline.rows import Offers


def phones_of_others(offers: Offers, known: KnownKeys, ledger: Ledger) -> Indices:
    """The places of phones that are known by a contact alone, and not of the name of each row that offers them."""
    asked_about = set(np.flatnonzero(offers.are(Trait.PHONE) & known.is_alias).tolist())
    if not asked_about:
        return np.empty(0, dtype=np.intp)
    people: dict[int, set[RowPerson | None]] = {place: set() for place in asked_about}
    places: list[int] = offers.places.tolist()
    for offer, start, count in zip(
        offers.distinct, offers.starts.tolist(), offers.counts.tolist(), strict=True
    ):
        for place in asked_about.intersection(places[start : start + count]):
            people[place].add(offer.person)
    names = _names_at(known, asked_about, ledger)
    others = [
        place for place in asked_about if not all(_is_named(one, names[place]) for one in people[place])
    ]
    return np.array(sorted(others), dtype=np.intp)


def _is_named(person: RowPerson | None, names: dict[str, str | None]) -> bool:
    return person is not None and agrees(person, **names) is True


def _names_at(known: KnownKeys, places: set[int], ledger: Ledger) -> dict[int, dict[str, str | None]]:
    """What the contacts are called by which these places are known."""
    of_request: dict[int, list[int]] = {}
    for place in places:
        of_request.setdefault(int(known.request_ids[known.request_index[place]]), []).append(place)
    names: dict[int, dict[str, str | None]] = {}
    for stored in ledger.replies(of_request):
        records = parse_reply(decompress(stored)[0]).records
        for place in of_request[stored.request_id]:
            values = contact_of(records[int(known.position[place])]).values
            names[place] = {name: getattr(values, name) for name in ("full_name", "first_name", "last_name")}
    return names

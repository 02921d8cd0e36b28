"""What rows say of which identifiers stand beside which."""

from __future__ import annotations

from collections.abc import Callable

from eb_dagster.identifiers.model import Trait
from eb_dagster.identifiers.names import tokens
from eb_dagster.ledger.companions import pack_person
from eb_dagster.pipeline.rows import Offers


def companions_in(offers: Offers, hash_of: Callable[[str], bytes]) -> dict[bytes, set[bytes]]:
    """By key of a phone or e-mail, the people beside whom it stands; names say nothing of an e-mail."""
    said: dict[bytes, set[bytes]] = {}
    traits: list[int] = offers.traits.tolist()
    places: list[int] = offers.places.tolist()
    keys = offers.keys
    for offer, start, count in zip(
        offers.distinct, offers.starts.tolist(), offers.counts.tolist(), strict=True
    ):
        if count < 2 and offer.person is None:
            continue
        here = places[start : start + count]
        profiles = [keys[place] for place in here if traits[place] == Trait.VANITY]
        emails = [keys[place] for place in here if traits[place] == Trait.EMAIL]
        names = [] if offer.person is None else [*map(hash_of, tokens(offer.person.name))]
        if profiles:
            of_email = pack_person(profiles, (), ())
            for key in emails:
                said.setdefault(key, set()).add(of_email)
        if profiles or emails or names:
            phones = [keys[place] for place in here if traits[place] == Trait.PHONE]
            of_phone = pack_person(profiles, emails, names) if phones else b""
            for key in phones:
                said.setdefault(key, set()).add(of_phone)
    return said

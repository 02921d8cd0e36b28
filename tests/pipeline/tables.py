"""What a ledger could tell of identifiers, made up, and rows that were looked up in it."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.identifiers.offers import offers_of
from eb_dagster.ledger.known_keys import STANDINGS, KnownKeys, RequestFacts
from eb_dagster.pipeline.lookup import Lookup
from eb_dagster.pipeline.offers import KeyedOffers
from eb_dagster.pipeline.window import Rows

MINE = "mine"


class Told(NamedTuple):
    """What the ledger tells of an identifier."""

    standing: str
    run: str = "earlier"
    position: int = -1
    is_alias: bool = False
    is_stale: bool = False
    has_vanity: bool = False


class Hashes:
    """Makes keys as a ledger does."""

    @staticmethod
    def hasher(kind: str):
        return lambda value: hashlib.blake2b(f"{kind} {value}".encode(), digest_size=16).digest()


def keyed_offers(rows: list[Candidates]) -> KeyedOffers:
    hashes: Any = Hashes()
    return KeyedOffers(offers_of(rows), hashes)


def looked_up(
    keyed: KeyedOffers,
    table: dict[Identifier, Told],
    *,
    suppressed: set[Identifier] | frozenset[Identifier] = frozenset(),
    newest: int = 0,
    doubt_ends: bool = True,
) -> Lookup:
    """What the table tells of these; each entry is a request of its own."""
    told = [table.get(identifier) for identifier in keyed.identifiers()]
    requests = [RequestFacts(index + 1, one.run, 10.0 + index) for index, one in enumerate(told) if one]
    numbers = np.cumsum([one is not None for one in told], dtype=np.int32) - 1
    plain = [one or Told("matched") for one in told]
    is_told = np.array([one is not None for one in told], dtype=np.bool_)

    def flags(name: str):
        return np.array([getattr(one, name) for one in plain], dtype=np.bool_) & is_told

    known = KnownKeys(
        keyed.keys,
        requests,
        standing=np.where(is_told, [STANDINGS.index(one.standing) for one in plain] or [0][:0], -1).astype("i1"),
        request_index=np.where(is_told, numbers, -1).astype("i4"),
        position=np.where(is_told, [one.position for one in plain] or [0][:0], -1).astype("i4"),
        is_alias=flags("is_alias"), is_stale=flags("is_stale"),
        is_of_two=np.zeros(len(told), dtype=np.bool_), has_vanity=flags("has_vanity"),
    )  # fmt: skip
    is_suppressed = np.array([one in suppressed for one in keyed.identifiers()], dtype=np.bool_)
    return Lookup(known, newest, is_suppressed, run=MINE, doubt_ends=doubt_ends)


def looked_up_rows(
    candidates: list[Candidates], table: dict[Identifier, Told] | None = None, **how: Any
) -> Rows:
    """A block of rows, with what the table tells of them."""
    keyed = keyed_offers(candidates)
    return Rows(keyed, looked_up(keyed, table or {}, **how), keyed.offers)


def reason_of(row: tuple[Identifier, ...]) -> tuple[str, ...]:
    return () if row else ("blank",)


def rows_offering(*rows: tuple[Identifier, ...]) -> list[Candidates]:
    """Rows that offer these identifiers."""
    return [Candidates(row, reason_of(row)) for row in rows]

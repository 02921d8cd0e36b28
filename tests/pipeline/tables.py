"""What a ledger could tell of identifiers, made up, and rows that were looked up in it."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from eb_dagster.identifiers.arrays import Array
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

    endpoint = ""

    @staticmethod
    def hasher(kind: str):
        return lambda value: hashlib.blake2b(f"{kind} {value}".encode(), digest_size=16).digest()

    @staticmethod
    def hash_column(kind: str, values: Array, *, endpoint: str) -> bytes:  # noqa: ARG004 - as a ledger's
        return b"".join(map(Hashes.hasher(kind), values.to_pylist()))


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
    requests = [RequestFacts(index + 1, entry.run, 10.0 + index) for index, entry in enumerate(told) if entry]
    numbers = np.cumsum([entry is not None for entry in told], dtype=np.int32) - 1
    plain = [entry or Told("matched") for entry in told]
    is_told = np.array([entry is not None for entry in told], dtype=np.bool_)

    def flags(name: str):
        return np.array([getattr(entry, name) for entry in plain], dtype=np.bool_) & is_told

    known = KnownKeys(
        keyed.keys,
        requests,
        standing=np.where(is_told, [STANDINGS.index(entry.standing) for entry in plain] or [0][:0], -1).astype("i1"),
        request_index=np.where(is_told, numbers, -1).astype("i4"),
        position=np.where(is_told, [entry.position for entry in plain] or [0][:0], -1).astype("i4"),
        is_alias=flags("is_alias"), is_stale=flags("is_stale"),
        is_of_two=np.zeros(len(told), dtype=np.bool_), has_vanity=flags("has_vanity"),
    )  # fmt: skip
    is_suppressed = np.array([identifier in suppressed for identifier in keyed.identifiers()], dtype=np.bool_)
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

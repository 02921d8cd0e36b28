"""Compare the key index with what it would be, made anew from all requests. For `ledger check`."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from eb_dagster.errors import counted
from eb_dagster.ledger.key_index import read_all
from eb_dagster.ledger.key_segments import Entries, IndexDamage, RequestKeys, entries_of
from eb_dagster.ledger.request_rows import Row

# Odd numbers without a pattern: what two sets of entries sum up to differs unless they are equal.
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_OF_ALIASES: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT: Final = np.uint64(29)
_FAULT: Final = "the key index {}; until it is made anew by the next runs, look-ups search all requests"


class IndexCheck:
    """Give it each request by `add`, the oldest first. Holds one number a request."""

    def __init__(self) -> None:
        self._sums: list[int] = []
        self._ids: list[int] = []

    def add(self, row: Row) -> None:
        """Take in a request: its id, asked_keys and aliases."""
        entries = entries_of(row.id, RequestKeys(row.asked_keys, row.aliases))
        self._ids.append(row.id)
        self._sums.append(int(_hashes(entries).sum(dtype=np.uint64)))

    def faults(self, connection: sa.Connection) -> list[str]:
        """How the index differs, in words."""
        ids, expected = np.array(self._ids, dtype=np.int64), np.array(self._sums, dtype=np.uint64)
        found = np.zeros_like(expected)
        try:
            upto, parts = read_all(connection)
            for entries in parts:
                self._sum_up(entries, ids, found)
        except IndexDamage:
            return [_FAULT.format("is damaged, or an older copy")]
        is_covered = ids <= upto
        wrong = int((found[is_covered] != expected[is_covered]).sum())
        return (
            [_FAULT.format(f"does not hold what it should of {counted(wrong, 'request')}")] if wrong else []
        )

    def _sum_up(self, entries: Entries, ids: npt.NDArray[np.int64], found: npt.NDArray[np.uint64]) -> None:
        requests = (entries.tags >> np.uint32(1)).astype(np.int64)
        places = np.searchsorted(ids, requests)
        if (places == len(ids)).any() or (ids[places] != requests).any():
            raise IndexDamage
        np.add.at(found, places, _hashes(entries))


def _hashes(entries: Entries) -> npt.NDArray[np.uint64]:
    hashes = entries.prefixes * _FACTOR
    hashes ^= hashes >> _SHIFT
    hashes[(entries.tags & 1).astype(np.bool_)] *= _FACTOR_OF_ALIASES
    return hashes

"""The keys that open rows offer, each in a slot of its own: what is known of it, and where its answer is."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from eb_dagster.contacts.flatten import Flattened
from eb_dagster.identifiers.model import Identifier
from eb_dagster.identifiers.offers import Numbers
from eb_dagster.ledger.entries import KEY_BYTES, Keys
from eb_dagster.pipeline.offers import KeyedOffers, identifiers_of
from eb_dagster.pipeline.rows import NONE, PENDING, Booleans

_FEWEST: Final = 1024

SLOT: Final = np.dtype([
    ("key", f"V{KEY_BYTES}"),
    ("kind", "i1"),
    ("trait", "i1"),
    ("state", "i1"),
    # A queue leads to it, whatever its state.
    ("is_queued", "?"),
    # It was taken off a queue, and is claimed, in flight or to be sent again, whatever its state.
    ("is_held", "?"),
    # The newest block with a row that offers it.
    ("block", "i8"),
    # The ledger's newest request when it was last looked up.
    ("seen", "i8"),
    # Of the answer, or of an old contact that is used if it cannot be asked again.
    ("request_id", "i8"),
    ("position", "i4"),
    ("answered_at", "f8"),
    ("is_of_run", "?"),
    ("is_alias", "?"),
    ("has_vanity", "?"),
    ("has_old", "?"),
    # Once the reply is taken apart: which of the `sources`, and the contact's row in it.
    ("source", "i4"),
    ("contact", "i4"),
])  # fmt: skip


class Taken(NamedTuple):
    """Slots, and which of them are new, and which no open row has offered before."""

    slots: Numbers
    is_new: Booleans
    is_unoffered: Booleans


class KeySlots:
    """One slot a key. A slot is used again once nothing leads to its key any more."""

    def __init__(self) -> None:
        self.table = np.zeros(0, dtype=SLOT)
        self.sources: dict[int, Flattened] = {}
        """The contacts that were bought in this run, as columns."""
        self._values: list[str] = []
        self._index: dict[bytes, int] = {}
        self._free: list[int] = []
        self._next_source = 0

    def __len__(self) -> int:
        return len(self._index)

    def take(self, keyed: KeyedOffers, indices: Numbers, *, block: int, first_block: int) -> Taken:
        """The slots of these keys for rows of a block. `first_block` is the first that has not left."""
        keys: list[bytes] = keyed.keys[indices].tolist()
        index = self._index
        slots = np.array([index.get(key, NONE) for key in keys], dtype=np.int64)
        is_new = slots == NONE
        new = np.flatnonzero(is_new)
        if len(new):
            chosen = indices[new]
            slots[new] = self._new_slots(keyed.keys[chosen], keyed.values(chosen))
            self.table["kind"][slots[new]] = keyed.kinds[chosen]
            self.table["trait"][slots[new]] = keyed.traits[chosen]
        is_unoffered = is_new | (self.table["block"][slots] < first_block)
        self.table["block"][slots] = block
        return Taken(slots, is_new, is_unoffered)

    def _new_slots(self, keys: Keys, values: list[str]) -> list[int]:
        missing = len(keys) - len(self._free)
        if missing > 0:
            size = len(self.table)
            more = max(_FEWEST, size, missing)
            self.table = np.concatenate([self.table, np.zeros(more, dtype=SLOT)])
            self._values += [""] * more
            self._free += range(size + more - 1, size - 1, -1)
        slots = self._free[-len(keys) :]
        del self._free[-len(keys) :]
        fresh = np.zeros(len(keys), dtype=SLOT)
        fresh["key"] = keys
        fresh["position"] = fresh["source"] = fresh["contact"] = NONE
        fresh["answered_at"] = np.nan
        self.table[slots] = fresh
        self._index.update(zip(keys.tolist(), slots, strict=True))
        for slot, value in zip(slots, values, strict=True):
            self._values[slot] = value
        return slots

    def free(self, slots: Numbers, *, first_block: int) -> None:
        """Let go of those of these slots that no open row offers, no queue and no request leads to."""
        table = self.table
        is_unused = (
            (table["block"][slots] < first_block)
            & ~np.isin(table["state"][slots], PENDING)
            & ~(table["is_queued"][slots] | table["is_held"][slots])
        )
        unused = slots[is_unused]
        listed: list[int] = unused.tolist()
        for key, slot in zip(table["key"][unused].tolist(), listed, strict=True):
            # A slot may be named twice.
            if self._index.get(key) == slot:
                del self._index[key]
                self._free.append(slot)
                self._values[slot] = ""
        table["source"][unused] = NONE

    def keys(self, slots: Numbers) -> list[bytes]:
        """The keys in these slots."""
        return self.table["key"][slots].tolist()

    def values(self, slots: Numbers) -> list[str | None]:
        """The canonical values of these keys; None for -1."""
        values = self._values
        return [None if slot == NONE else values[slot] for slot in slots.tolist()]

    def identifiers(self, slots: Numbers) -> list[Identifier]:
        """The identifiers in these slots."""
        values, listed = self._values, _as_list(slots)
        return identifiers_of(self.table["kind"][slots], [values[slot] for slot in listed])

    def used(self) -> Numbers:
        """All slots that are in use."""
        return np.fromiter(self._index.values(), dtype=np.int64, count=len(self._index))

    def add_source(self, contacts: Flattened) -> int:
        """Keep contacts for as long as a slot leads to them. Returns their number."""
        number = self._next_source
        self._next_source += 1
        self.sources[number] = contacts
        return number

    def drop_unused_sources(self) -> None:
        """Let go of contacts to which no slot leads any more."""
        if self.sources:
            source = self.table["source"]
            first = min(self.sources)
            counts = np.bincount(source[source >= first] - first, minlength=1)
            kept = set((np.flatnonzero(counts) + first).tolist())
            self.sources = {number: contacts for number, contacts in self.sources.items() if number in kept}

    def clear(self) -> None:
        """Let go of all slots."""
        self.__init__()


def _as_list(slots: Numbers) -> list[int]:
    return slots.tolist()

"""The keys that open rows offer, each in a slot of its own: what is known of it, and where its answer is."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from eb_dagster.contacts.flatten import Flattened
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from eb_dagster.identifiers.offers import Numbers
from eb_dagster.ledger.entries import KEY_BYTES
from eb_dagster.pipeline.offers import KeyedOffers, identifiers_of
from eb_dagster.pipeline.rows import NONE, Booleans, are_pending
from eb_dagster.pipeline.table import Table

_FEWEST: Final = 1024

SLOT: Final = np.dtype([
    ("key", f"V{KEY_BYTES}"),
    ("kind", "i1"),
    # -1 until it stands beside others.
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
        self.table = Table.zeros(SLOT, 0)
        self.sources: dict[int, Flattened] = {}
        """The contacts that were bought in this run, as columns."""
        # The last one stands for no slot.
        self._values = np.full(1, None, dtype=object)
        self._is_used = np.zeros(0, dtype=np.bool_)
        self._next_source = 0

    def __len__(self) -> int:
        return int(np.count_nonzero(self._is_used))

    def take(self, keyed: KeyedOffers, indices: Numbers, *, block: int, first_block: int) -> Taken:
        """The slots of these keys for rows of a block. `first_block` is the first that has not left."""
        slots = self._slots_of(keyed)[indices]
        is_new = slots == NONE
        new = indices[is_new]
        if len(new):
            slots[is_new] = self._new_slots(keyed, new)
        table = self.table
        if keyed.has_choice:
            # Beside others only, it matters what an identifier says about whose it is.
            is_untold = table["trait"][slots] == NONE
            table["trait"][slots[is_untold]] = keyed.traits[indices[is_untold]]
        is_unoffered = is_new | (table["block"][slots] < first_block)
        table["block"][slots] = block
        return Taken(slots, is_new, is_unoffered)

    def _slots_of(self, keyed: KeyedOffers) -> Numbers:
        """The slot of each of these keys; -1 for those that have none yet."""
        slots = np.full(len(keyed.keys), NONE)
        used = self.used()
        if len(used):
            entry, index = keyed.search.find(self.table["key"][used].tobytes())
            slots[index] = used[entry]
        return slots

    def _new_slots(self, keyed: KeyedOffers, indices: Numbers) -> Numbers:
        free = np.flatnonzero(~self._is_used)
        if len(free) < len(indices):
            self._grow(by=max(_FEWEST, len(self.table), len(indices)))
            free = np.flatnonzero(~self._is_used)
        slots = free[: len(indices)]
        fresh = Table.zeros(SLOT, len(indices))
        fresh["key"] = keyed.keys[indices]
        fresh["kind"] = keyed.kinds[indices]
        fresh["trait"] = fresh["position"] = fresh["source"] = fresh["contact"] = NONE
        fresh["answered_at"] = np.nan
        self.table.put(slots, fresh)
        self._values[slots] = keyed.values(indices)
        self._is_used[slots] = True
        return slots

    def _grow(self, *, by: int) -> None:
        self.table.append(Table.zeros(SLOT, by))
        self._values = np.concatenate([self._values, np.full(by, None, dtype=object)])
        self._is_used = np.concatenate([self._is_used, np.zeros(by, dtype=np.bool_)])

    def free(self, slots: Numbers, *, first_block: int) -> None:
        """Let go of those of these slots that no open row offers, no queue and no request leads to."""
        table = self.table
        is_unused = (table["block"][slots] < first_block) & ~(
            are_pending(table["state"][slots]) | table["is_queued"][slots] | table["is_held"][slots]
        )
        unused = slots[is_unused]
        self._is_used[unused] = False
        self._values[unused] = None
        table["source"][unused] = NONE

    def values(self, slots: Numbers) -> list[str | None]:
        """The canonical values of these keys; None for -1."""
        return self._values[slots].tolist()

    def kinds(self, slots: Numbers) -> list[FieldType]:
        """The kinds of these keys."""
        codes: list[int] = self.table["kind"][slots].tolist()
        return [FIELD_TYPES[code] for code in codes]

    def texts(self, slots: Numbers) -> list[str]:
        """The canonical values of these keys, all of which are there."""
        return self._values[slots].tolist()

    def identifiers(self, slots: Numbers) -> list[Identifier]:
        """The identifiers in these slots."""
        return identifiers_of(self.table["kind"][slots], self.texts(slots))

    def used(self) -> Numbers:
        """All slots that are in use."""
        return np.flatnonzero(self._is_used)

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

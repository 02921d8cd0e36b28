"""What rows offer to be looked up: each key once, with an index from what is offered to its key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eb_dagster.identifiers.arrays import Array, fixed_bytes_in, numbers_in, taken
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier, Trait
from eb_dagster.identifiers.offers import KIND_CODES, Numbers, Offers
from eb_dagster.ledger.entries import KEY_BYTES, Keys, pack_keys
from eb_dagster.ledger.key_search import KeySearch
from eb_dagster.ledger.ledger import Ledger

Booleans: TypeAlias = npt.NDArray[np.bool_]


class KeyedOffers:
    """What rows offer, with the keys of it. Of several spellings of one key, that of the first row is asked for all."""

    def __init__(self, offers: Offers, ledger: Ledger) -> None:
        self.offers = offers
        """Replaced by what may be asked of it, once that is known; see `eligibility`."""
        encoded = _hashed(offers, ledger).dictionary_encode()
        self.keys: Final[Keys] = fixed_bytes_in(encoded.dictionary)
        """The distinct keys."""
        self.key_of_value: Final[Numbers] = numbers_in(encoded.indices)
        """For each value that is offered, the index of its key."""
        first = _first_values(self.key_of_value, len(self.keys), offers.identifiers)
        self._first_value = first
        self.kinds: Final = offers.kinds[first]
        """The kind of each key, as its index in `FIELD_TYPES`."""

    @property
    def offered(self) -> Numbers:
        """The index of a key for everything that is offered, row after row."""
        return self.key_of_value[self.offers.identifiers]

    @property
    def has_choice(self) -> bool:
        """Whether a row offers several identifiers, or names a person who may be another row's."""
        return self.offers.persons is not None or int(self.offers.counts.max(initial=0)) > 1

    @cached_property
    def search(self) -> KeySearch:
        """What finds the keys among others."""
        return KeySearch(self.keys)

    @cached_property
    def traits(self) -> npt.NDArray[np.int8]:
        """The `Trait` of each key."""
        traits = np.empty(len(self.keys), dtype=np.int8)
        for kind, code in KIND_CODES.items():
            indices = np.flatnonzero(self.kinds == code)
            if len(indices):
                traits[indices] = KINDS[kind].traits(self._column(indices))
        return traits

    def have_trait(self, *traits: Trait) -> Booleans:
        """Whether each key has one of these traits."""
        return np.isin(self.traits, traits)

    def are_of(self, kinds: Collection[FieldType]) -> Booleans:
        """Whether each key is of one of these kinds."""
        return np.isin(self.kinds, [KIND_CODES[kind] for kind in kinds])

    def values(self, indices: Numbers) -> list[str]:
        """The canonical values of these keys."""
        return self._column(indices).to_pylist()

    def _column(self, indices: Numbers) -> Array:
        return taken(self.offers.values, self._first_value[indices])

    def identifiers(self, indices: Numbers | None = None) -> list[Identifier]:
        """The identifiers of these keys, or of all."""
        chosen = np.arange(len(self.keys)) if indices is None else indices
        return identifiers_of(self.kinds[chosen], self.values(chosen))


def _first_values(key_of_value: Numbers, keys: int, identifiers: Numbers) -> Numbers:
    """For each key, its value that is offered first, row after row, or any where no row offers it."""
    first = np.empty(keys, dtype=np.int64)
    first[key_of_value[::-1]] = np.arange(len(key_of_value))[::-1]
    if keys < len(key_of_value):
        # Values are in the order in which they were read: column after column, and those first that need no rewriting.
        has_several = np.bincount(key_of_value) > 1
        offered = identifiers[has_several[key_of_value][identifiers]]
        first[key_of_value[offered[::-1]]] = offered[::-1]
    return first


def identifiers_of(kinds: npt.NDArray[np.int8], values: Sequence[str]) -> list[Identifier]:
    """Identifiers of these kinds, as indices in `FIELD_TYPES`, with these values."""
    codes: list[int] = kinds.tolist()
    return [Identifier(FIELD_TYPES[code], value) for code, value in zip(codes, values, strict=True)]


def _hashed(offers: Offers, ledger: Ledger) -> Array:
    """The keys of all values."""
    keys = np.empty(len(offers.values), dtype=f"V{KEY_BYTES}")
    for kind, code in KIND_CODES.items():
        indices = np.flatnonzero(offers.kinds == code)
        if len(indices):
            hashes = ledger.hash_column(kind, taken(offers.values, indices), endpoint=ledger.endpoint)
            keys[indices] = pack_keys(hashes)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(KEY_BYTES), len(keys), [None, pa.py_buffer(keys)])

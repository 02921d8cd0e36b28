"""What rows offer to be looked up: each offer and each identifier once, with indices from row to identifier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from eb_dagster.identifiers.kinds import trait_of
from eb_dagster.identifiers.model import Candidates, Identifier, Trait
from eb_dagster.ledger.entries import Indices


class Offer(NamedTuple):
    """What one or more rows offer, and the indices of its identifiers among all distinct ones."""

    candidates: Candidates
    identifier_indices: Sequence[int]


class Offers:
    """What rows offer. An offer that several rows share is kept once, and so is each identifier."""

    def __init__(
        self, rows: Sequence[Candidates], keys_of: Callable[[Sequence[Identifier]], Sequence[bytes]]
    ) -> None:
        # Equal cells were read as one object.
        addresses = np.fromiter(map(id, rows), dtype=np.uintp, count=len(rows))
        _, first_row, offer_of_row = np.unique(addresses, return_index=True, return_inverse=True)
        self.offer_of_row: Indices = np.argsort(np.argsort(first_row))[offer_of_row]
        """The index of each row's offer."""
        # In the order of the rows: of several spellings of one key, the first stands for all.
        first_rows: list[int] = np.sort(first_row).tolist()
        self.distinct = [rows[row] for row in first_rows]
        """Each offer once."""
        offered = self._offered()
        keys = keys_of(offered)
        identifier_of_key: dict[bytes, Identifier] = {}
        for key, identifier in zip(keys, offered, strict=True):
            identifier_of_key.setdefault(key, identifier)
        self.keys: Final = list(identifier_of_key)
        """The distinct keys."""
        self.identifiers: Final = list(identifier_of_key.values())
        """The identifier of each of the keys."""
        counts = [len(candidates.identifiers) for candidates in self.distinct]
        self._set_identifiers(_indices_in(identifier_of_key, keys), counts)

    def _set_identifiers(self, identifier_indices: Indices, counts: Sequence[int]) -> None:
        self.identifier_indices: Indices = identifier_indices
        """Indices into `identifiers`, those of one offer after those of the other."""
        self.counts: Indices = np.array(counts, dtype=np.intp)
        """How many identifiers each offer has."""
        self.starts: Indices = np.cumsum(self.counts) - self.counts
        """Where those of each offer begin in `identifier_indices`."""

    def __iter__(self) -> Iterator[Offer]:
        """Each distinct offer."""
        indices: list[int] = self.identifier_indices.tolist()
        counts: list[int] = self.counts.tolist()
        start = 0
        for candidates, count in zip(self.distinct, counts, strict=True):
            yield Offer(candidates, indices[start : start + count])
            start += count

    def replace_each(self, change: Callable[[Offer], Offer]) -> None:
        """Replace each distinct offer by what `change` makes of it."""
        changed = [change(offer) for offer in self]
        self.distinct = [offer.candidates for offer in changed]
        indices = [index for offer in changed for index in offer.identifier_indices]
        self._set_identifiers(
            np.array(indices, dtype=np.intp), [len(offer.identifier_indices) for offer in changed]
        )

    def rows(self) -> list[Candidates]:
        """What each row offers."""
        offers: list[int] = self.offer_of_row.tolist()
        return [self.distinct[offer] for offer in offers]

    @cached_property
    def traits(self) -> npt.NDArray[np.int8]:
        """The `Trait` of each identifier."""
        return np.fromiter(map(trait_of, self.identifiers), dtype=np.int8, count=len(self.identifiers))

    def have_trait(self, *traits: Trait) -> npt.NDArray[np.bool_]:
        """Whether each identifier has one of these traits."""
        return np.isin(self.traits, traits)

    def identifiers_of(self, offers: Indices) -> Indices:
        """The indices of the identifiers of these offers, one offer after the other."""
        return self.identifier_indices[self._positions_of(offers)]

    def spellings_of(self, offers: Indices) -> dict[Identifier, bytes]:
        """The keys of the identifiers of these offers, in every spelling that they have there."""
        positions = self._positions_of(offers)
        position_list: list[int] = positions.tolist()
        indices: list[int] = self.identifier_indices[positions].tolist()
        offered = self._offered()
        return {
            offered[position]: self.keys[index]
            for position, index in zip(position_list, indices, strict=True)
        }

    def _offered(self) -> list[Identifier]:
        return [identifier for candidates in self.distinct for identifier in candidates.identifiers]

    def _positions_of(self, offers: Indices) -> Indices:
        counts = self.counts[offers]
        before = np.cumsum(counts) - counts
        return np.arange(int(counts.sum())) + np.repeat(self.starts[offers] - before, counts)


def _indices_in(distinct: Collection[bytes], keys: Sequence[bytes]) -> Indices:
    """The index of each key among the distinct ones, which are in the order of their first appearance."""
    if len(distinct) == len(keys):
        return np.arange(len(keys))
    index_of_key = {key: index for index, key in enumerate(distinct)}
    return np.array([index_of_key[key] for key in keys], dtype=np.intp)

"""Find some keys among the packed keys of requests, many at a time."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from eb_dagster.ledger.entries import KEY_BYTES, AnyKeys, Indices, pack_keys

# A bitmap with so many bits for each wanted key lets few other keys pass by chance.
_BITS_A_KEY: Final = 32
_FEWEST_BITMAP_BITS: Final = 12
# So many entries are filtered at a time that the intermediate arrays stay in the processor's caches.
_ENTRIES_AT_ONCE: Final = 65_536
_NONE: Final[Indices] = np.empty(0, dtype=np.intp)

_Halves: TypeAlias = npt.NDArray[np.uint64]


class KeySearch:
    """Searches for these keys, in bulk with numpy: they are sorted by their first half."""

    def __init__(self, keys: AnyKeys) -> None:
        halves = np.ascontiguousarray(pack_keys(keys)).view(np.uint64).reshape(-1, 2)
        self._order = np.argsort(halves[:, 0]).astype(np.int32)
        self._first = halves[:, 0][self._order]
        self._second = halves[:, 1][self._order]
        bitmap_bits = max(_FEWEST_BITMAP_BITS, (_BITS_A_KEY * len(keys)).bit_length())
        self._bitmap_shift = np.uint64(64 - bitmap_bits)
        marks = np.zeros(1 << bitmap_bits, dtype=np.bool_)
        marks[self._first >> self._bitmap_shift] = True
        # Packed to single bits, more of the bitmap fits into the caches.
        self._bitmap = np.packbits(marks, bitorder="little")
        # For each value of a key's leading bits, where the search begins; there are about as many as keys.
        leading_bits = max(1, len(keys).bit_length())
        self._leading_shift = np.uint64(64 - leading_bits)
        counts = np.bincount((self._first >> self._leading_shift).view(np.intp), minlength=1 << leading_bits)
        self._starts = (np.cumsum(counts) - counts).astype(np.int32)

    def find(self, blob: bytes, *, size: int = KEY_BYTES) -> tuple[Indices, Indices]:
        """Find the wanted keys among entries of `size` bytes, each of which begins with a key.

        Returns for each hit the index of the entry, in rising order, and the index of the key in the order given.
        """
        count, rest = divmod(len(blob), size)
        if rest:
            raise ValueError("torn in the middle of an entry")
        if not len(self._first) or not count:
            return _NONE, _NONE
        first = np.ndarray(count, dtype=np.uint64, buffer=blob, offset=0, strides=(size,))
        second = np.ndarray(count, dtype=np.uint64, buffer=blob, offset=8, strides=(size,))
        # The bitmap rules out nearly all entries, many times as fast as a search does.
        entry = self._in_bitmap(first)
        place = self._first_places(first[entry])
        entry_hits: list[Indices] = []
        key_hits: list[Indices] = []
        # Several keys may have the same first half, so each entry is compared with one after the other.
        while len(entry):
            has_first = place < len(self._first)
            has_first[has_first] = self._first[place[has_first]] == first[entry[has_first]]
            entry, place = entry[has_first], place[has_first]
            has_both = self._second[place] == second[entry]
            entry_hits.append(entry[has_both])
            key_hits.append(self._order[place[has_both]])
            entry, place = entry[~has_both], place[~has_both] + 1
        return _in_order(entry_hits, key_hits)

    def _in_bitmap(self, halves: _Halves) -> Indices:
        starts = range(0, len(halves), _ENTRIES_AT_ONCE)
        return np.concatenate(
            [start + self._in_bitmap_part(halves[start : start + _ENTRIES_AT_ONCE]) for start in starts]
        )

    def _in_bitmap_part(self, halves: _Halves) -> Indices:
        bit = halves >> self._bitmap_shift
        octet = self._bitmap.take((bit >> np.uint64(3)).view(np.intp))
        bit_in_octet = (bit & np.uint64(7)).astype(np.uint8)
        return ((octet >> bit_in_octet) & 1).nonzero()[0]

    def _first_places(self, halves: _Halves) -> npt.NDArray[np.intp]:
        """As `searchsorted` in half the time, because few hashes begin alike."""
        place = self._starts.take((halves >> self._leading_shift).view(np.intp)).astype(np.intp)
        unsettled = np.arange(len(halves))
        while len(unsettled):
            place_of_unsettled = place[unsettled]
            is_inside = place_of_unsettled < len(self._first)
            unsettled, place_of_unsettled = unsettled[is_inside], place_of_unsettled[is_inside]
            unsettled = unsettled[self._first[place_of_unsettled] < halves[unsettled]]
            place[unsettled] += 1
        return place


def _in_order(entry_hits: list[Indices], key_hits: list[Indices]) -> tuple[Indices, Indices]:
    if len(entry_hits) < 2:
        return (entry_hits[0], key_hits[0]) if entry_hits else (_NONE, _NONE)
    entries, keys = np.concatenate(entry_hits), np.concatenate(key_hits)
    order = np.argsort(entries)
    return entries[order], keys[order]

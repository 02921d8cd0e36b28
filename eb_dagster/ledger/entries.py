"""The identifiers of one request, packed: 128-bit keyed hashes in one blob, their outcomes in another.

Packed, recording a reply costs the same in a ledger of ten million, and an index of a request is
read in one piece. Pure: knows bytes, no database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

from eb_dagster.api.envelope import REQUIRED_FIELDS

KEY_BYTES: Final = 16
# Outcomes besides those of `wire`, by decision. Asked anew; given up; seen on the vendor's bill.
RESENT: Final = -4
WRITTEN_OFF: Final = -5
CHARGED: Final = -6
FORGOTTEN: Final = -7
REJECTED: Final = -9
"""A person says that the contact is somebody else's: as a miss that never grows old."""
DECIDED: Final = (RESENT, WRITTEN_OFF, CHARGED, REJECTED)
# A key that no identifier has: that of a person who was forgotten.
NO_KEY: Final = bytes(KEY_BYTES)

OUTCOME: Final = np.dtype([("position", "<i4"), ("held", "u1")])
ALIAS: Final = np.dtype([("key", f"V{KEY_BYTES}"), ("position", "<i4"), ("held", "u1"), ("person", "<u4")])

VANITY: Final = 1 << len(REQUIRED_FIELDS)
"""Beside the fields that a contact holds: it has a LinkedIn profile under a name of its owner's choice."""
PROFILED: Final = 1
"""The last bit of a person's mark: it was told by a profile, and not by a name or by the contents."""

Indices: TypeAlias = npt.NDArray[np.signedinteger[Any]]
_NOWHERE: Final[Indices] = np.empty(0, dtype=np.intp)

# So many marks for each wanted key that few others meet one by chance.
_MARKS_A_KEY: Final = 32
_FEWEST_BITS: Final = 12
# So many entries at a time that what is worked out for them stays close to the processor.
_ENTRIES_AT_ONCE: Final = 65_536
# Its stubs leave the types of its functions partly unknown.
_crc32: Callable[[bytes, int], int] = cast("Any", zlib_ng).crc32
_THREE, _SEVEN = np.uint64(3), np.uint64(7)


class Wanted:
    """Keys to look for, sorted by their first half so that numpy can find them in bulk."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        halves = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
        self._order = np.argsort(halves[:, 0]).astype(np.int32)
        self._first, self._second = halves[:, 0][self._order], halves[:, 1][self._order]
        bits = max(_FEWEST_BITS, (_MARKS_A_KEY * len(keys)).bit_length())
        self._shift = np.uint64(64 - bits)
        # A bit each: the more of them the caches hold, the better.
        marks = np.zeros(1 << bits, dtype=np.bool_)
        marks[self._first >> self._shift] = True
        self._marks = np.packbits(marks, bitorder="little")
        # By the bits that a key begins with, where the search for it begins: as many as there are keys.
        bits = max(1, len(keys).bit_length())
        self._coarse = np.uint64(64 - bits)
        beginnings = np.arange(1 << bits, dtype=np.uint64) << self._coarse
        self._starts = np.searchsorted(self._first, beginnings).astype(np.int32)

    def find(self, packed: bytes, *, size: int = KEY_BYTES) -> tuple[Indices, Indices]:
        """Where wanted keys stand among entries of `size` bytes that begin with a key; and which key each is.

        Both by number, of the entry and of the key in the order they were given; entries rise.
        """
        count, rest = divmod(len(packed), size)
        if rest:
            raise ValueError("torn in the middle of an entry")
        if not len(self._first) or not count:
            return _NOWHERE, _NOWHERE
        first, second = (
            np.ndarray(count, dtype=np.uint64, buffer=packed, offset=offset, strides=(size,))
            for offset in (0, 8)
        )
        # Nearly all are told apart by a few bits, many times as fast as by a search.
        starts = range(0, count, _ENTRIES_AT_ONCE)
        at = np.concatenate(
            [start + self._marked(first[start : start + _ENTRIES_AT_ONCE]) for start in starts]
        )
        place = self._search(first[at])
        found: list[tuple[Indices, Indices]] = []
        while len(at):
            # More than one key may begin like this one.
            is_there = place < len(self._first)
            is_there[is_there] = self._first[place[is_there]] == first[at[is_there]]
            at, place = at[is_there], place[is_there]
            is_same = self._second[place] == second[at]
            found.append((at[is_same], self._order[place[is_same]]))
            at, place = at[~is_same], place[~is_same] + 1
        if len(found) < 2:
            return found[0] if found else (_NOWHERE, _NOWHERE)
        entries, keys = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(entries)
        return entries[order], keys[order]

    def _marked(self, halves: npt.NDArray[np.uint64]) -> Indices:
        mark = halves >> self._shift
        marks = self._marks.take((mark >> _THREE).view(np.intp))
        return ((marks >> (mark & _SEVEN).astype(np.uint8)) & 1).nonzero()[0]

    def _search(self, halves: npt.NDArray[np.uint64]) -> Indices:
        """As `searchsorted`, at half the time: of hashes, few begin alike."""
        place = self._starts.take((halves >> self._coarse).view(np.intp)).astype(np.intp)
        left = np.arange(len(halves))
        while len(left):
            at = place[left]
            is_inside = at < len(self._first)
            left, at = left[is_inside], at[is_inside]
            left = left[self._first[at] < halves[left]]
            place[left] += 1
        return place


def pack_outcomes(positions: Sequence[int], held: Sequence[int]) -> npt.NDArray[Any]:
    """One entry for each question: where its contact stands in the reply, and which fields that holds."""
    outcomes = np.zeros(len(positions), dtype=OUTCOME)
    outcomes["position"] = positions
    outcomes["held"] = held
    return outcomes


def pack_aliases(
    keys: Sequence[bytes], positions: npt.ArrayLike, held: npt.ArrayLike, persons: npt.ArrayLike
) -> npt.NDArray[Any]:
    """One entry for each identifier inside a bought contact. Equal persons mean the same contact."""
    aliases = np.zeros(len(keys), dtype=ALIAS)
    aliases["key"] = np.frombuffer(b"".join(keys), dtype=ALIAS["key"])
    aliases["position"] = positions
    aliases["held"] = held
    aliases["person"] = persons
    return aliases


def unpack_keys(packed: bytes) -> tuple[bytes, ...]:
    """The keys one by one."""
    return tuple(packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES))


def unpack_outcomes(packed: bytes | None, *, asked: int, default: int) -> npt.NDArray[Any]:
    """The outcomes as an array, `default` for each when none are noted yet."""
    if packed is not None:
        return np.frombuffer(packed, dtype=OUTCOME)
    outcomes = np.zeros(asked, dtype=OUTCOME)
    outcomes["position"] = default
    return outcomes


def checksum(*parts: bytes | None) -> int:
    """Tells a flipped bit: a disk that forgets a purchase must not do so unnoticed."""
    total = 0
    for part in parts:
        total = _crc32(part or b"", total)
    return total


def repack_aliases_of_1(packed: bytes | None) -> bytes | None:
    """Aliases as schema version 1 packed them, with a longer mark of the person."""
    if packed is None:
        return None
    old = np.frombuffer(packed, dtype=[*ALIAS.descr[:-1], ("person", "<u8")])
    new = np.zeros(len(old), dtype=ALIAS)
    for name in ("key", "position", "held"):
        new[name] = old[name]
    new["person"] = old["person"] & 0xFFFFFFFF
    return new.tobytes()

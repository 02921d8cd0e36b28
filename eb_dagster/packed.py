"""The identifiers of one request, packed: 128-bit keyed hashes in one blob, their outcomes in another.

Packed, recording a reply costs the same in a ledger of ten million, and an index of a request is
read in one piece. Pure: knows bytes, no database.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

KEY_BYTES: Final = 16
# A key that no identifier has: that of a person who was forgotten.
NO_KEY: Final = bytes(KEY_BYTES)

OUTCOME: Final = np.dtype([("position", "<i4"), ("held", "u1")])
ALIAS: Final = np.dtype([("key", f"V{KEY_BYTES}"), ("position", "<i4"), ("held", "u1"), ("person", "<u4")])

# So many marks for each wanted key that few others meet one by chance.
_MARKS_A_KEY: Final = 16
_FEWEST_BITS: Final = 12


class Wanted:
    """Keys to look for, sorted by their first half so that numpy can find them in bulk."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        first = first_halves(b"".join(keys))
        self._order = np.argsort(first, kind="stable")
        self._first = first[self._order]
        self._keys = keys
        bits = max(_FEWEST_BITS, (_MARKS_A_KEY * len(keys)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._marks = np.zeros(1 << bits, dtype=np.bool_)
        self._marks[first >> self._shift] = True

    def find(self, packed: bytes) -> Iterator[tuple[int, bytes]]:
        """Where wanted keys stand in a blob of keys."""
        if not len(self._first) or not packed:
            return
        there = first_halves(packed)
        # Nearly all are told apart by a few bits, six times as fast as by a search.
        likely = np.flatnonzero(self._marks[there >> self._shift])
        left = np.searchsorted(self._first, there[likely], side="left")
        same = self._first[np.minimum(left, len(self._first) - 1)] == there[likely]
        for found in np.flatnonzero(same):
            at, place = int(likely[found]), int(left[found])
            mine = packed[KEY_BYTES * at : KEY_BYTES * at + KEY_BYTES]
            while place < len(self._first) and self._first[place] == there[at]:
                if self._keys[int(self._order[place])] == mine:
                    yield at, mine
                place += 1


def first_halves(packed: bytes) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each key, as whatever number this machine takes them for."""
    return np.frombuffer(packed, dtype=np.uint64)[::2]


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
        total = zlib.crc32(part or b"", total)
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

"""The identifiers of one request, packed: 128-bit keyed hashes in one blob, their outcomes in another.

Packed, a reply costs the same to record in a ledger of ten million, and the index of a request is read in one
piece. Pure: this file knows bytes and no database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

KEY_BYTES: Final = 16
NO_KEY: Final = bytes(KEY_BYTES)
"""Stands in the place of the key of a person who was forgotten. No identifier has it."""

# Outcomes by decision, beside those of `envelope`.
RESENT: Final = -4
"""It is asked again."""
WRITTEN_OFF: Final = -5
"""It was given up."""
CHARGED: Final = -6
"""It was found on the vendor's bill."""
FORGOTTEN: Final = -7
"""The person was forgotten, or the answer was purged."""
REJECTED: Final = -9
"""A user said that the contact is somebody else's. It counts as a miss that never grows old."""
DECIDED: Final = (RESENT, WRITTEN_OFF, CHARGED, REJECTED)

VANITY: Final = 32
"""A bit beside those of `RequiredField`: the contact has a LinkedIn profile under a name that its owner chose.

It is kept in ledgers: never change it. `held` has room for two more bits.
"""
PROFILED: Final = 1
"""The last bit of a person's mark: the mark was made from a profile, not from the name or the contents."""

OUTCOME: Final = np.dtype([("position", "<i4"), ("held", "u1")])
"""The answer to one question: the contact's position in the reply or a negative outcome, and the fields it holds."""
ALIAS: Final = np.dtype([("key", f"V{KEY_BYTES}"), ("position", "<i4"), ("held", "u1"), ("person", "<u4")])
"""An identifier inside a contact: that contact's position in the reply, its fields and the mark of its person."""

Indices: TypeAlias = npt.NDArray[np.signedinteger[Any]]
Keys: TypeAlias = npt.NDArray[np.void]
"""Keys as one array of 16 bytes each (`V16`)."""
AnyKeys: TypeAlias = Sequence[bytes] | Keys
Entries: TypeAlias = npt.NDArray[np.void]
"""An array of `OUTCOME` or `ALIAS`."""

# The stubs of zlib_ng leave the types of its functions partly unknown.
_crc32: Callable[[bytes, int], int] = cast("Any", zlib_ng).crc32


def pack_outcomes(positions: Sequence[int] | Indices, held: Sequence[int] | Indices) -> Entries:
    """One `OUTCOME` for each question."""
    outcomes = np.zeros(len(positions), dtype=OUTCOME)
    outcomes["position"] = positions
    outcomes["held"] = held
    return outcomes


def pack_aliases(
    keys: AnyKeys | bytes, positions: npt.ArrayLike, held: npt.ArrayLike, persons: npt.ArrayLike
) -> Entries:
    """One `ALIAS` for each identifier inside a bought contact. Equal persons mean the same contact."""
    keys = pack_keys(keys)
    aliases = np.zeros(len(keys), dtype=ALIAS)
    aliases["key"] = keys
    aliases["position"] = positions
    aliases["held"] = held
    aliases["person"] = persons
    return aliases


def pack_keys(keys: AnyKeys | bytes) -> Keys:
    """Keys as an array, without a copy where they are one already, or are packed one after the other."""
    if isinstance(keys, np.ndarray):
        return keys
    joined = keys if isinstance(keys, bytes) else b"".join(keys)
    return np.frombuffer(joined, dtype=f"V{KEY_BYTES}")


def unpack_keys(blob: bytes) -> tuple[bytes, ...]:
    """The keys one by one."""
    return tuple(blob[start : start + KEY_BYTES] for start in range(0, len(blob), KEY_BYTES))


def unpack_outcomes(blob: bytes | None, *, asked: int, default: int) -> Entries:
    """The outcomes as an array; `default` for each question if none are noted yet."""
    if blob is not None:
        return np.frombuffer(blob, dtype=OUTCOME)
    outcomes = np.zeros(asked, dtype=OUTCOME)
    outcomes["position"] = default
    return outcomes


def unpack_aliases(blob: bytes | None) -> Entries:
    """The aliases as an array."""
    return np.frombuffer(blob or b"", dtype=ALIAS)


def count_contacts(outcomes: Entries) -> int:
    """How many contacts these outcomes lead to, which is what they cost."""
    positions = outcomes["position"]
    found = np.sort(positions[positions >= 0])
    # `np.unique` takes ten times as long.
    return int(np.count_nonzero(found[1:] != found[:-1])) + bool(len(found))


def checksum(*parts: bytes | None) -> int:
    """A CRC-32 over all parts: a disk that flips a bit must not make a purchase forgotten unnoticed."""
    total = 0
    for part in parts:
        total = _crc32(part or b"", total)
    return total


def checksum_with(seed: int, blob: bytes) -> int:
    """The same over one part, and over a number of 32 bits that is not stored with it."""
    return _crc32(blob, seed)


def keys_checksum(request_id: int, endpoint: str, required: int, asked_keys: bytes) -> int:
    """Over what of a request never changes."""
    return checksum(f"{request_id} {endpoint} {required}".encode(), asked_keys)


def reply_checksum(encoding: str, body: bytes, *, complete: bool) -> int:
    """Over all of a stored reply."""
    return checksum(f"{encoding} {int(complete)}".encode("utf-8", "surrogatepass"), body)

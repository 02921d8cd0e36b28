"""What the requests of a ledger say about some keys, gathered from the oldest to the newest.

In arrays with an entry for each key: what is known of a million keys among ten million is a matter
of seconds, most of them for reading the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from eb_dagster.database import damaged
from eb_dagster.packed import (
    ALIAS,
    CHARGED,
    KEY_BYTES,
    WRITTEN_OFF,
    Indices,
    Wanted,
    checksum,
    unpack_outcomes,
)
from eb_dagster.wire import IN_DOUBT, MISSED, UNREADABLE

Standing = Literal["matched", "missed", "in_flight", "in_doubt", "unreadable"]

IN_FLIGHT_STATES: Final = ("intent", "answered")
HELD: Final = (IN_DOUBT, WRITTEN_OFF, CHARGED)
"""Outcomes of what may have been paid for, without an answer."""

_STANDINGS: Final[tuple[Standing, ...]] = ("missed", "in_flight", "in_doubt", "unreadable")
_MISSED: Final = 0
# Seconds; what no clock tells and no date holds.
_END_OF_TIME: Final = 2.0e11
# So many of the known become objects at a time.
_AT_ONCE: Final = 65_536


class Known(msgspec.Struct, frozen=True, gc=False):
    """What the ledger knows of an identifier. Matched: which contact of which reply."""

    standing: Standing
    request_id: int
    run: str
    at: float | None
    position: int = -1
    is_alias: bool = False
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Freshness:
    """From which moment on (seconds since the epoch) contacts and misses still count."""

    contacts_since: float | None = None
    misses_since: float | None = None


AT_ANY_AGE: Final = Freshness()


class Findings:
    """Give it each request by `read`, the oldest first; `known` tells what they come to.

    A key in `alias_keys` may also be answered by a contact in which it was found.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        alias_keys: Collection[bytes],
        required: int,
        freshness: Freshness,
    ) -> None:
        self._keys = keys
        self._required = required
        self._freshness = freshness
        self._wanted: Wanted | None = Wanted(keys)
        # The requests that say something, and by key the number of the one that is the newest.
        self._requests: list[tuple[int, str, float | None]] = []
        self._contact, self._position, self._miss, self._open, self._standing = (
            np.full(len(keys), -1, dtype=kind) for kind in (np.int32, np.int32, np.int32, np.int32, np.int8)
        )
        self._by_alias = _which(keys, alias_keys)
        self._aliases: list[tuple[Indices, Indices, Indices, Indices]] = []

    def read(self, row: Any) -> None:
        """Take in a request: its id, run, state, required, answered_at, asked_keys, outcomes, aliases."""
        if self._wanted is None:
            raise ValueError("all requests were read")
        at, which = self._wanted.find(row.asked_keys)
        inside, meant = self._wanted.find(row.aliases or b"", size=ALIAS.itemsize)
        if len(meant):
            may = self._by_alias[meant]
            inside, meant = inside[may], meant[may]
        if not len(which) and not len(meant):
            return
        if checksum(row.outcomes, row.aliases) != row.outcomes_checksum:
            raise damaged(f"request {row.id}")
        number = len(self._requests)
        self._requests.append((row.id, row.run, row.answered_at))
        has_contact = False
        if len(which):
            has_contact = self._read_asked(row, number, at, which)
        if len(meant):
            has_contact = self._read_aliases(row, number, inside, meant) or has_contact
        if has_contact and not 0 <= row.answered_at < _END_OF_TIME:
            raise damaged(f"request {row.id}")

    def _read_asked(self, row: Any, number: int, at: Indices, which: Indices) -> bool:
        default = UNREADABLE if row.state == "unreadable" else IN_DOUBT
        outcomes = unpack_outcomes(row.outcomes, asked=len(row.asked_keys) // KEY_BYTES, default=default)[at]
        position = outcomes["position"]
        is_contact = (position >= 0) & self._holds(outcomes["held"] | np.uint8(row.required))
        self._contact[which[is_contact]] = number
        self._position[which[is_contact]] = position[is_contact]
        # What was not found with fewer conditions is not found with more.
        if row.required & ~self._required == 0:
            self._miss[which[position == MISSED]] = number
        if (position < MISSED).any():
            held: Standing = "in_flight" if row.state in IN_FLIGHT_STATES else "in_doubt"
            for is_such, standing in (
                (np.isin(position, HELD), held),
                (position == UNREADABLE, "unreadable"),
            ):
                self._open[which[is_such]] = number
                self._standing[which[is_such]] = _STANDINGS.index(standing)
        return bool(is_contact.any())

    def _read_aliases(self, row: Any, number: int, inside: Indices, meant: Indices) -> bool:
        aliases = np.frombuffer(row.aliases, dtype=ALIAS)[inside]
        holds = self._holds(aliases["held"])
        meant, aliases = meant[holds], aliases[holds]
        self._aliases.append((
            meant, np.full(len(meant), number, dtype=np.int32), aliases["position"], aliases["person"]
        ))  # fmt: skip
        return bool(holds.any())

    def _holds(self, held: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        return (self._required & ~held.astype(np.int32)) == 0

    def known(self) -> dict[bytes, Known]:
        """What is known, by key. To be called once, at the end."""
        # Room for what comes of it.
        self._wanted = None
        contact, miss, opened = self._contact, self._miss, self._open
        is_alias = self._take_aliases()
        moments = [answered_at for _, _, answered_at in self._requests]
        stale, fresh = self._ages(moments)
        is_open = opened >= 0
        # Asked again when it was old, and not found: the old contact is the best there is.
        stale &= ~(fresh & ~is_open & (miss > contact))
        is_matched = (contact >= 0) & ~(stale & is_open)
        known: dict[bytes, Known] = {}
        for some in _portions(np.flatnonzero(is_matched)):
            for key, number, position, by_alias, is_stale in zip(
                _listed(some), _listed(contact[some]), _listed(self._position[some]),
                _listed(is_alias[some]), _listed(stale[some]), strict=True,
            ):  # fmt: skip
                request_id, run, at = self._requests[number]
                known[self._keys[key]] = Known(
                    "matched", request_id, run, at, position, bool(by_alias), bool(is_stale)
                )
        others = np.where(is_open, opened, miss), np.where(is_open, self._standing, _MISSED)
        for some in _portions(np.flatnonzero(~is_matched & (is_open | fresh))):
            numbers, codes = (_listed(one[some]) for one in others)
            for key, number, code in zip(_listed(some), numbers, codes, strict=True):
                request_id, run, at = self._requests[number]
                name = _STANDINGS[code]
                moment = at if name in ("missed", "unreadable") else None
                known[self._keys[key]] = Known(name, request_id, run, moment)
        return known

    def _take_aliases(self) -> npt.NDArray[np.bool_]:
        """Let contacts answer for the keys that were found in them. Returns which keys that gave an answer."""
        is_alias = np.zeros(len(self._keys), dtype=np.bool_)
        if not self._aliases:
            return is_alias
        which, number, position, person = map(np.concatenate, zip(*self._aliases, strict=True))
        if not len(which):
            return is_alias
        order = np.argsort(which, kind="stable")
        which, number, position, person = (one[order] for one in (which, number, position, person))
        starts = np.flatnonzero(np.diff(which, prepend=-1))
        newest = np.append(starts[1:], len(which)) - 1
        # An alias of two different people is nobody's.
        is_one = np.minimum.reduceat(person, starts) == np.maximum.reduceat(person, starts)
        newest = newest[is_one & (self._contact[which[starts]] < 0)]
        found = which[newest]
        self._contact[found], self._position[found] = number[newest], position[newest]
        is_alias[found] = True
        return is_alias

    def _ages(self, moments: Sequence[float | None]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which keys have a contact that is too old, and which a miss that is not."""
        stale = np.zeros(len(self._keys), dtype=np.bool_)
        fresh = self._miss >= 0
        # The last one stands for none: -1.
        answered = np.array([*moments, None], dtype=np.float64)
        if (since := self._freshness.contacts_since) is not None:
            stale = answered[self._contact] < since
        if (since := self._freshness.misses_since) is not None:
            fresh &= answered[self._miss] >= since
        return stale, fresh


def _which(keys: Sequence[bytes], chosen: Collection[bytes]) -> npt.NDArray[np.bool_]:
    if chosen is keys:
        return np.ones(len(keys), dtype=np.bool_)
    among = set(chosen)
    return np.fromiter((key in among for key in keys), dtype=np.bool_, count=len(keys))


def _portions(indices: Indices) -> Iterator[Indices]:
    for start in range(0, len(indices), _AT_ONCE):
        yield indices[start : start + _AT_ONCE]


def _listed(column: npt.NDArray[Any]) -> list[int]:
    return column.tolist()

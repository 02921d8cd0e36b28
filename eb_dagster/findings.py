"""What the requests of a ledger say about some keys, gathered from the oldest to the newest.

In arrays with an entry for each key: what is known of a million keys among ten million is a matter
of seconds, most of them for reading the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, Self, cast

import msgspec
import numpy as np
import numpy.typing as npt

from eb_dagster.database import damaged
from eb_dagster.packed import (
    ALIAS,
    CHARGED,
    DECIDED,
    KEY_BYTES,
    OUTCOME,
    WRITTEN_OFF,
    Indices,
    Wanted,
    checksum,
    unpack_outcomes,
)
from eb_dagster.wire import IN_DOUBT, MISSED, UNREADABLE

Standing = Literal["matched", "missed", "in_flight", "in_doubt", "unreadable", "decided"]

IN_FLIGHT_STATES: Final = ("intent", "answered")
HELD: Final = (IN_DOUBT, WRITTEN_OFF, CHARGED)
"""Outcomes of what may have been paid for, without an answer."""

STANDINGS: Final[tuple[Standing, ...]] = (
    "matched", "missed", "in_flight", "in_doubt", "unreadable", "decided",
)  # fmt: skip
"""Decided: it was in doubt or unreadable, and a person said that it is not to be asked again."""
_MATCHED, _MISSED, _IN_FLIGHT, _IN_DOUBT, _UNREADABLE, _DECIDED = range(len(STANDINGS))
_UNANSWERED: Final = ("in_flight", "in_doubt", "decided")
_UNKNOWN: Final = -1
# Seconds; what no clock tells and no date holds.
_END_OF_TIME: Final = 2.0e11
_BYTES_AT_ONCE: Final = 2 * 2**20
# What a row takes up besides: of requests with one identifier each, it is nearly all.
_BYTES_A_ROW: Final = 1_000
# So much is searched while more is read: enough that neither waits long for the other, and little to hold.
_SEARCHES_AHEAD: Final = 1


class Known(msgspec.Struct, gc=False):
    """What the ledger knows of an identifier. Matched: which contact of which reply."""

    standing: Standing
    request_id: int
    run: str
    at: float | None
    position: int = -1
    is_alias: bool = False
    is_stale: bool = False
    contacts: Any = None
    """Once that reply is taken apart, its `contacts.Flattened`."""
    row: int = -1
    """Of these, which one it is."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """From which moment on (seconds since the epoch) contacts and misses still count."""

    contacts_since: float | None = None
    misses_since: float | None = None
    aged_up_to: int | None = None
    """The newest request that can be too old. What is learned in a run counts in it, whatever a clock says."""


AT_ANY_AGE: Final = Freshness()


class _Places(NamedTuple):
    """Where wanted keys stand in packed entries, which key each is, and in which request; all by number."""

    at: Indices
    which: Indices
    request: Indices


class Findings:
    """Give it each request by `read`, the oldest first; `known` tells what they come to.

    A key in `alias_keys` may also be answered by a contact in which it was found. A large ledger is
    searched in a thread, while its next requests are read; `with` ends that.
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
        self._unread: list[Any] = []
        self._unread_bytes = 0
        self._searcher: ThreadPoolExecutor | None = None
        self._sought: deque[tuple[list[Any], Future[tuple[_Places, _Places]]]] = deque()
        # The requests so far, and by key the number of the newest one that says something.
        self._requests: list[tuple[int, str, float | None]] = []
        self._contact, self._position, self._miss, self._open, self._standing = (
            np.full(len(keys), -1, dtype=kind) for kind in (np.int32, np.int32, np.int32, np.int32, np.int8)
        )
        self._by_alias = _which(keys, alias_keys)
        self._aliases: list[tuple[Indices, Indices, Indices, Indices]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._searcher is not None:
            self._searcher.shutdown(cancel_futures=True)

    def read(self, row: Any) -> None:
        """Take in a request: its id, run, state, required, answered_at, asked_keys, outcomes, aliases."""
        if self._wanted is None:
            raise ValueError("all requests were read")
        self._unread.append(row)
        self._unread_bytes += _BYTES_A_ROW + len(row.asked_keys) + len(row.aliases or b"")
        # Many together: for each of them alone, numpy would spend its time on being called.
        if self._unread_bytes >= _BYTES_AT_ONCE:
            if self._searcher is None:
                self._searcher = ThreadPoolExecutor(1, thread_name_prefix="eb_dagster_searcher")
            rows, self._unread, self._unread_bytes = self._unread, [], 0
            self._sought.append((rows, self._searcher.submit(_search, self._wanted, rows)))
            self._take_sought(but=_SEARCHES_AHEAD)

    def _take_sought(self, *, but: int = 0) -> None:
        while len(self._sought) > but:
            rows, places = self._sought.popleft()
            self._take(rows, *places.result())

    def _take(self, rows: Sequence[Any], asked: _Places, aliases: _Places) -> None:
        inside, meant, holding = aliases
        if len(meant):
            may = self._by_alias[meant]
            inside, meant, holding = inside[may], meant[may], holding[may]
        # Numbers are given to requests that say something, so that the others need not be kept.
        saying = np.union1d(asked.request, holding)
        first = len(self._requests)
        self._requests += [(rows[one].id, rows[one].run, rows[one].answered_at) for one in saying]
        number = np.full(len(rows), _UNKNOWN, dtype=np.int32)
        number[saying] = np.arange(first, first + len(saying), dtype=np.int32)
        answering = [
            *(self._take_asked(rows, number, asked) if len(asked.which) else ()),
            *(self._take_meant(rows, number, _Places(inside, meant, holding)) if len(meant) else ()),
        ]
        for one in answering:
            if not 0 <= rows[one].answered_at < _END_OF_TIME:
                raise damaged(f"request {rows[one].id}")

    def _take_asked(self, rows: Sequence[Any], number: npt.NDArray[np.int32], asked: _Places) -> Indices:
        """Take in what was said of keys that were asked. Returns which of these requests have a contact."""
        at, which, request = asked
        outcomes = np.frombuffer(b"".join([_outcomes_of(row) for row in rows]), dtype=OUTCOME)[at]
        numbers = number[request]
        required = np.array([row.required for row in rows], dtype=np.uint8)[request]
        position = outcomes["position"]
        is_contact = (position >= 0) & self._holds(outcomes["held"] | required)
        # Of several requests that say something of a key, the newest comes last, and stays.
        self._contact[which[is_contact]] = numbers[is_contact]
        self._position[which[is_contact]] = position[is_contact]
        # What was not found with fewer conditions is not found with more.
        is_miss = (position == MISSED) & (required & ~np.int32(self._required) == 0)
        self._miss[which[is_miss]] = numbers[is_miss]
        if (position < MISSED).any():
            is_flying = np.array([row.state in IN_FLIGHT_STATES for row in rows])[request]
            is_unreadable = position == UNREADABLE
            is_open = np.isin(position, HELD) | is_unreadable
            standing = np.where(is_flying, _IN_FLIGHT, _IN_DOUBT)
            standing[np.isin(position, DECIDED)] = _DECIDED
            standing[is_unreadable] = _UNREADABLE
            self._open[which[is_open]] = numbers[is_open]
            self._standing[which[is_open]] = standing[is_open]
        return np.unique(request[is_contact])

    def _take_meant(self, rows: Sequence[Any], number: npt.NDArray[np.int32], meant: _Places) -> Indices:
        """Take in who was found inside contacts. Returns in which of these requests."""
        at, which, request = meant
        aliases = np.frombuffer(b"".join([row.aliases or b"" for row in rows]), dtype=ALIAS)[at]
        holds = self._holds(aliases["held"])
        which, aliases, request = which[holds], aliases[holds], request[holds]
        self._aliases.append((which, number[request], aliases["position"], aliases["person"]))
        return np.unique(request)

    def _holds(self, held: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        return (self._required & ~held.astype(np.int32)) == 0

    def known(self) -> KnownKeys:
        """What is known, by key. To be called once, at the end."""
        if self._wanted is not None:
            self._take_sought()
            self._take(self._unread, *_search(self._wanted, self._unread))
            # Room for what comes of it.
            self._wanted = None
        contact, miss, opened = self._contact, self._miss, self._open
        is_alias = self._take_aliases()
        moments = [answered_at for _, _, answered_at in self._requests]
        stale, fresh = self._ages(moments, np.array([*(one for one, _, _ in self._requests), 0]))
        is_open = opened >= 0
        # Asked again when it was old, and not found: the old contact is the best there is.
        stale &= ~(fresh & ~is_open & (miss > contact))
        is_matched = (contact >= 0) & ~(stale & is_open)
        standing = np.where(is_open, self._standing, np.where(fresh, np.int8(_MISSED), np.int8(_UNKNOWN)))
        standing[is_matched] = _MATCHED
        return KnownKeys(
            self._keys, self._requests, standing=standing,
            number=np.where(is_matched, contact, np.where(is_open, opened, miss)),
            position=np.where(is_matched, self._position, -1),
            is_alias=is_alias & is_matched, is_stale=stale & is_matched,
        )  # fmt: skip

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

    def _ages(
        self, moments: Sequence[float | None], request_ids: Indices
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which keys have a contact that is too old, and which a miss that is not."""
        stale = np.zeros(len(self._keys), dtype=np.bool_)
        fresh = self._miss >= 0
        # The last one stands for none: -1.
        answered = np.array([*moments, None], dtype=np.float64)
        if (newest := self._freshness.aged_up_to) is not None:
            answered[request_ids > newest] = np.inf
        if (since := self._freshness.contacts_since) is not None:
            stale = answered[self._contact] < since
        if (since := self._freshness.misses_since) is not None:
            fresh &= answered[self._miss] >= since
        return stale, fresh


def _which(keys: Sequence[bytes], chosen: Collection[bytes]) -> npt.NDArray[np.bool_]:
    # All that are chosen are among the keys.
    if len(chosen) == len(keys):
        return np.ones(len(keys), dtype=np.bool_)
    among = set(chosen)
    return np.fromiter((key in among for key in keys), dtype=np.bool_, count=len(keys))


def _search(wanted: Wanted, rows: Sequence[Any]) -> tuple[_Places, _Places]:
    """Where wanted keys were asked in these requests, and where they are aliases. Raises if those are damaged."""
    for row in rows:
        # One that is torn would shift all that stand after it.
        if len(row.asked_keys) % KEY_BYTES or len(row.aliases or b"") % ALIAS.itemsize:
            raise damaged(f"request {row.id}")
    asked = _find(wanted, [row.asked_keys for row in rows], KEY_BYTES)
    aliases = _find(wanted, [row.aliases or b"" for row in rows], ALIAS.itemsize)
    for number in np.union1d(asked.request, aliases.request):
        row = rows[number]
        if checksum(row.outcomes, row.aliases) != row.outcomes_checksum:
            raise damaged(f"request {row.id}")
    return asked, aliases


def _find(wanted: Wanted, packed: Sequence[bytes], size: int) -> _Places:
    at, which = wanted.find(b"".join(packed), size=size)
    ends = np.cumsum([len(one) // size for one in packed])
    return _Places(at, which, np.searchsorted(ends, at, side="right"))


def _outcomes_of(row: Any) -> bytes:
    """An outcome for each question, so that those of many requests can stand in one row."""
    asked = len(row.asked_keys) // KEY_BYTES
    if row.outcomes is None:
        default = UNREADABLE if row.state == "unreadable" else IN_DOUBT
        return unpack_outcomes(None, asked=asked, default=default).tobytes()
    if len(row.outcomes) != asked * OUTCOME.itemsize:
        raise damaged(f"request {row.id}")
    return row.outcomes


class KnownKeys(Mapping[bytes, Known]):
    """What is known of keys: in arrays with an entry for each, and as objects for whoever asks for one."""

    def __init__(
        self,
        keys: Sequence[bytes],
        requests: Sequence[tuple[int, str, float | None]],
        *,
        standing: npt.NDArray[np.int8],
        number: npt.NDArray[np.int32],
        position: npt.NDArray[np.int32],
        is_alias: npt.NDArray[np.bool_],
        is_stale: npt.NDArray[np.bool_],
    ) -> None:
        self._keys = keys
        self._requests = requests
        self.standing: Final = standing
        """Which of `STANDINGS`; -1 for a key of which nothing is known."""
        self.number: Final = number
        """Of the request that says so, among those below."""
        self.position: Final = position
        """In its reply, of who is matched."""
        self.is_alias: Final = is_alias
        self.is_stale: Final = is_stale
        self.request_ids: Final[Indices] = np.array([one for one, _, _ in requests], dtype=np.int64)
        self.runs: Final = [run for _, run, _ in requests]
        self.answered_at: Final = np.array([at for _, _, at in requests], dtype=np.float64)
        """Seconds since the epoch; NaN where there is no answer."""
        answering = np.unique(number[standing == _MATCHED])
        self.answering: Final = cast("list[int]", self.request_ids[answering].tolist())
        """The requests whose contacts answer, the oldest first."""

    @cached_property
    def _places(self) -> dict[bytes, int]:
        keys = self._keys
        return {keys[place]: place for place in np.flatnonzero(self.standing != _UNKNOWN).tolist()}

    def __len__(self) -> int:
        return int(np.count_nonzero(self.standing != _UNKNOWN))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: bytes) -> Known:
        return self._made([self._places[key]])[0]

    def of(self, keys: Iterable[bytes]) -> list[Known | None]:
        """What is known of each key, in a third of the time that it takes one by one."""
        places = [self._places.get(key) for key in keys]
        made = iter(self._made([place for place in places if place is not None]))
        return [None if place is None else next(made) for place in places]

    def _made(self, places: Sequence[int]) -> list[Known]:
        at = np.array(places, dtype=np.intp)
        standings: list[Standing] = [STANDINGS[one] for one in cast("list[int]", self.standing[at].tolist())]
        asked = [self._requests[one] for one in cast("list[int]", self.number[at].tolist())]
        columns: list[npt.NDArray[Any]] = [self.position[at], self.is_alias[at], self.is_stale[at]]
        return [
            Known(
                standing, request_id, run, None if standing in _UNANSWERED else answered_at, position,
                is_alias, is_stale,
            )
            for standing, (request_id, run, answered_at), (position, is_alias, is_stale) in zip(
                standings, asked, zip(*(one.tolist() for one in columns), strict=True), strict=True
            )
        ]  # fmt: skip

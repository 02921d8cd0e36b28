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

from eb_dagster.api.envelope import IN_DOUBT, MISSED, UNREADABLE
from eb_dagster.ledger.connection import damaged
from eb_dagster.ledger.entries import (
    ALIAS,
    CHARGED,
    DECIDED,
    KEY_BYTES,
    OUTCOME,
    PROFILED,
    REJECTED,
    VANITY,
    WRITTEN_OFF,
    Indices,
    Wanted,
    checksum,
    unpack_outcomes,
)

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
    has_vanity: bool = False
    """Whether the contact has a LinkedIn profile under a name of its owner's choice."""
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


# An identifier inside a contact: by number the key and the request, and where the contact stands in its reply.
_INSIDE: Final = np.dtype([
    ("which", "<i4"), ("number", "<i4"), ("position", "<i4"), ("held", "u1"), ("person", "<u4"),
])  # fmt: skip


def _places_of(entries: npt.NDArray[Any]) -> npt.NDArray[np.void]:
    """Key, request and position of each entry, as one value that can be compared."""
    names = ["which", "number", "position"]
    places = np.empty(len(entries), dtype=[(name, "<i4") for name in names])
    for name in names:
        places[name] = entries[name]
    return places.view("V12")


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
        self._is_rejected = np.zeros(len(keys), dtype=np.bool_)
        self._held = np.zeros(len(keys), dtype=np.uint8)
        self._by_alias = _which(keys, alias_keys)
        self._aliases: list[npt.NDArray[Any]] = []
        self._own: list[npt.NDArray[Any]] = []

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
        self._held[which[is_contact]] = outcomes["held"][is_contact]
        own = np.empty(int((position >= 0).sum()), dtype=_INSIDE)
        own["which"], own["number"] = which[position >= 0], numbers[position >= 0]
        own["position"] = position[position >= 0]
        self._own.append(own)
        # What was not found with fewer conditions is not found with more.
        is_rejected = position == REJECTED
        is_miss = ((position == MISSED) & (required & ~np.int32(self._required) == 0)) | is_rejected
        self._miss[which[is_miss]] = numbers[is_miss]
        self._is_rejected[which[is_rejected]] = True
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
        entries = np.empty(len(at), dtype=_INSIDE)
        entries["which"], entries["number"] = which, number[request]
        for name in ("position", "person", "held"):
            entries[name] = aliases[name]
        self._aliases.append(entries)
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
        # The last one stands for none: -1.
        answered = np.array([*(at for _, _, at in self._requests), None], dtype=np.float64)
        if (newest := self._freshness.aged_up_to) is not None:
            answered[np.array([*(one for one, _, _ in self._requests), 0]) > newest] = np.inf
        is_alias, is_of_two = self._take_aliases(answered)
        contact, miss, opened = self._contact, self._miss, self._open
        stale, fresh = self._ages(answered)
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
            is_alias=is_alias & is_matched, is_stale=stale & is_matched, is_of_two=is_of_two,
            has_vanity=is_matched & (self._held & VANITY > 0),
        )  # fmt: skip

    def _take_aliases(
        self, answered: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Let contacts answer for the keys that were found in them.

        Returns which keys that gave an answer, and which stand inside contacts of two people: these are nobody's.
        """
        is_alias, is_of_two = np.zeros((2, len(self._keys)), dtype=np.bool_)
        inside = np.concatenate(self._aliases) if self._aliases else np.empty(0, dtype=_INSIDE)
        if not len(inside):
            return is_alias, is_of_two
        inside = inside[np.argsort(inside["which"], kind="stable")]
        is_own = (
            np.isin(_places_of(inside), _places_of(np.concatenate(self._own)))
            if self._own
            else np.zeros(len(inside), dtype=np.bool_)
        )
        person = self._persons(inside, is_own)
        starts = np.flatnonzero(np.diff(inside["which"], prepend=-1))
        is_one = np.minimum.reduceat(person, starts) == np.maximum.reduceat(person, starts)
        is_of_two[inside["which"][starts[~is_one]]] = True
        # The newest that holds what is required, of each key that one may answer.
        may = self._by_alias[inside["which"]] & ~is_of_two[inside["which"]] & self._holds(inside["held"])
        inside, person, is_own = inside[may], person[may], is_own[may]
        last = np.flatnonzero(np.diff(inside["which"], append=-1))
        newest, own = inside[last], self._contact[inside["which"][last]]
        is_free = own < 0
        if (since := self._freshness.contacts_since) is not None:
            # One that is newer, and by its profile the same person's, comes before one that is old.
            is_same = np.isin(newest["which"], inside["which"][is_own]) & (newest["person"] % 2 == PROFILED)
            is_free |= (answered[own] < since) & (newest["number"] > own) & is_same
        newest = newest[is_free]
        found = newest["which"]
        self._contact[found], self._position[found] = newest["number"], newest["position"]
        self._held[found] = newest["held"]
        is_alias[found] = True
        return is_alias, is_of_two

    @staticmethod
    def _persons(inside: npt.NDArray[Any], is_own: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
        """Whose contact each entry is in. All that were bought by the key itself are of one person."""
        person = inside["person"].copy()
        if is_own.any():
            pair = (inside["which"].astype(np.uint64) << np.uint64(32)) | person
            is_mine = is_own | np.isin(pair, pair[is_own])
            person[is_mine] = 0
        return person

    def _ages(self, answered: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which keys have a contact that is too old, and which a miss that is not."""
        stale = np.zeros(len(self._keys), dtype=np.bool_)
        fresh = self._miss >= 0
        if (since := self._freshness.contacts_since) is not None:
            stale = answered[self._contact] < since
        if (since := self._freshness.misses_since) is not None:
            fresh &= (answered[self._miss] >= since) | self._is_rejected
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
        is_of_two: npt.NDArray[np.bool_],
        has_vanity: npt.NDArray[np.bool_],
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
        self.is_of_two: Final = is_of_two
        """Inside contacts of two people."""
        self.has_vanity: Final = has_vanity
        """Whether the contact that answers has a LinkedIn name."""
        self.request_ids: Final[Indices] = np.array([one for one, _, _ in requests], dtype=np.int64)
        self.runs: Final = [run for _, run, _ in requests]
        self.answered_at: Final = np.array([at for _, _, at in requests], dtype=np.float64)
        """Seconds since the epoch; NaN where there is no answer."""
        answering = np.unique(number[standing == _MATCHED])
        self.answering: Final = cast("list[int]", self.request_ids[answering].tolist())
        """The requests whose contacts answer, the oldest first."""

    def forget(self, places: Indices) -> None:
        """Know nothing of the keys at these places. To be called before anybody asks."""
        self.standing[places], self.number[places], self.position[places] = _UNKNOWN, _UNKNOWN, _UNKNOWN
        for flags in (self.is_alias, self.is_stale, self.has_vanity):
            flags[places] = False

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
        columns: list[npt.NDArray[Any]] = [
            self.position[at],
            self.is_alias[at],
            self.is_stale[at],
            self.has_vanity[at],
        ]
        return [
            Known(
                standing, request_id, run, None if standing in _UNANSWERED else answered_at, position,
                is_alias, is_stale, has_vanity,
            )
            for standing, (request_id, run, answered_at), (position, is_alias, is_stale, has_vanity) in zip(
                standings, asked, zip(*(one.tolist() for one in columns), strict=True), strict=True
            )
        ]  # fmt: skip

"""What the requests of a ledger say about some keys, gathered from the oldest to the newest.

In arrays with one entry for each key. The key index tells which requests are read.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from eb_dagster.api.envelope import MISSED, UNREADABLE
from eb_dagster.identifiers.arrays import distinct
from eb_dagster.ledger.entries import (
    ALIAS,
    DECIDED,
    KEY_BYTES,
    OUTCOME,
    PROFILED,
    REJECTED,
    VANITY,
    AnyKeys,
    Entries,
    Indices,
    checksum,
    keys_checksum,
    pack_keys,
    unpack_aliases,
    unpack_outcomes,
)
from eb_dagster.ledger.key_index import Hits, KeyIndex
from eb_dagster.ledger.key_search import KeySearch
from eb_dagster.ledger.known_keys import (
    AT_ANY_AGE,
    MATCHED,
    STANDINGS,
    UNKNOWN,
    Freshness,
    KnownKeys,
    RequestFacts,
)
from eb_dagster.ledger.request_rows import (
    ANSWER_COLUMNS,
    HELD,
    IN_FLIGHT_STATES,
    STATES,
    UNSENT_STATES,
    Row,
    default_outcome,
    last_id_of_sqlite,
    outcomes_of,
)
from eb_dagster.ledger.schema import damaged, requests

_column = requests.c
_WHAT_IT_SAYS: Final = (
    _column.id,
    _column.endpoint,
    _column.run,
    _column.state,
    _column.required,
    _column.answered_at,
    _column.keys_checksum,
    _column.outcomes_checksum,
    _column.aliases_checksum,
    _column.asked_keys,
    _column.outcomes,
)
_SELECT_REQUESTS: Final = sa.select(*_WHAT_IT_SAYS, _column.aliases)
# Aliases are most of a request, so they are read only where a wanted key may be among them.
_SELECT_HITS: Final = sa.select(
    *_WHAT_IT_SAYS,
    sa.case((_column.id.in_(sa.bindparam("with_aliases", expanding=True)), _column.aliases)).label("aliases"),
)
_IS_CHOSEN: Final = _column.id.in_(sa.bindparam("requests", expanding=True))
_SELECT_ID: Final = sa.select(_column.id).where(_column.id == sa.bindparam("request"))
_ROWS_AT_ONCE: Final = 16
_HITS_AT_ONCE: Final = 64

_MISSED_STANDING: Final = STANDINGS.index("missed")
_IN_FLIGHT: Final = STANDINGS.index("in_flight")
_IN_DOUBT: Final = STANDINGS.index("in_doubt")
_UNREADABLE: Final = STANDINGS.index("unreadable")
_DECIDED: Final = STANDINGS.index("decided")
# Seconds since the epoch that no clock tells and no date can hold.
_END_OF_TIME: Final = 2.0e11
_BYTES_AT_ONCE: Final = 2 * 2**20
# What a row takes up besides its blobs. For requests with one identifier each, it is nearly everything.
_BYTES_A_ROW: Final = 1_000
# So many searches may wait while more is read: enough that neither waits long for the other, and little to hold.
_SEARCHES_AHEAD: Final = 1

_Flags: TypeAlias = npt.NDArray[np.bool_]
AliasKeys: TypeAlias = Collection[bytes] | _Flags
"""Some of the keys; or a flag for each of them."""
Query: TypeAlias = sa.Select[*tuple[Any, ...]]
_Times: TypeAlias = npt.NDArray[np.float64]

# A contact that was found for a key: indices of the key and of the request, the contact's position in the reply,
# the fields it holds and the mark of its person.
_CONTACT: Final = np.dtype(
    [("key", "<i4"), ("request", "<i4"), ("position", "<i4"), ("held", "u1"), ("person", "<u4")]
)
_PLACE: Final = np.dtype([("key", "<i4"), ("request", "<i4"), ("position", "<i4")])


def _check_present(connection: sa.Connection, request_id: int) -> None:
    if connection.execute(_SELECT_ID, {"request": request_id}).scalar() is None:
        # An older copy was put in the place of the ledger that was read before.
        raise damaged(f"request {request_id}")


def check_row(row: Row) -> None:
    """Raise if what never changes of a request is damaged."""
    known_sum = keys_checksum(row.id, row.endpoint, row.required, row.asked_keys)
    if known_sum != row.keys_checksum or row.state not in STATES:
        raise damaged(f"request {row.id}")


def check_lengths(row: Row) -> None:
    """Raise if the keys or aliases of a request are torn."""
    # A blob that is torn would shift all that stand after it.
    if len(row.asked_keys) % KEY_BYTES or len(row.aliases or b"") % ALIAS.itemsize:
        raise damaged(f"request {row.id}")


def look_up(
    connection: sa.Connection,
    keys: AnyKeys,
    *,
    index: KeyIndex,
    endpoint: str,
    required: int,
    alias_keys: AliasKeys = (),
    freshness: Freshness = AT_ANY_AGE,
    after: int = 0,
) -> tuple[KnownKeys, int]:
    """What requests after that one tell of `keys`, and the id of the newest that was looked at.

    A key in `alias_keys` may also be answered by a contact in which it was found.
    """
    # SQLite gives ids without gaps, so there a row that is missing is noticed.
    is_gapless = connection.dialect.name == "sqlite"
    if after:
        _check_present(connection, after)
    hits = index.find(connection, keys, after=after)
    newest = hits.covered
    with KeyLookup(keys, alias_keys=alias_keys, required=required, freshness=freshness) as lookup:
        for row in _read_hits(connection, hits):
            check_row(row)
            if row.endpoint == endpoint and row.state not in UNSENT_STATES:
                lookup.read(row)
        # All rows are checked, whatever their endpoint and state, so that none can go missing.
        with contextlib.closing(_read_after(connection, _SELECT_REQUESTS, newest)) as rows:
            for row in rows:
                if is_gapless and row.id != newest + 1:
                    raise damaged(f"request {newest + 1}")
                newest = row.id
                check_row(row)
                if row.endpoint == endpoint and row.state not in UNSENT_STATES:
                    lookup.read(row)
        if is_gapless and newest < last_id_of_sqlite(connection):
            raise damaged(f"request {newest + 1}")
        return lookup.known(), newest


def _read_hits(connection: sa.Connection, hits: Hits) -> Iterator[Row]:
    ids = hits.requests
    for start in range(0, len(ids), _HITS_AT_ONCE):
        some = ids[start : start + _HITS_AT_ONCE]
        with_aliases = hits.aliases[np.isin(hits.aliases, some)]
        chosen = {"requests": some.tolist(), "with_aliases": with_aliases.tolist()}
        rows = connection.execute(_SELECT_HITS.where(_IS_CHOSEN).order_by(_column.id), chosen).all()
        if len(rows) != len(some):
            missing = sorted(set(some.tolist()) - {row.id for row in rows})
            raise damaged(f"request {missing[0]}")
        yield from rows


def _read_after(connection: sa.Connection, query: Query, after: int) -> Generator[Row]:
    options = {"yield_per": _ROWS_AT_ONCE}
    later = query.where(_column.id > sa.bindparam("after")).order_by(_column.id)
    with connection.execute(later, {"after": after}, execution_options=options) as rows:
        yield from rows


def requests_with(
    connection: sa.Connection, keys: AnyKeys, *, index: KeyIndex, query: Query, after: int = 0
) -> Iterator[Row]:
    """The requests after that one in which some of these keys may stand, from the oldest to the newest.

    `query` chooses the columns, the id among them, and has no other condition on the id.
    """
    hits = index.find(connection, keys, after=after)
    ids = hits.requests
    chosen = query.where(_IS_CHOSEN).order_by(_column.id)
    for start in range(0, len(ids), _HITS_AT_ONCE):
        yield from connection.execute(chosen, {"requests": ids[start : start + _HITS_AT_ONCE].tolist()}).all()
    yield from _read_after(connection, query, hits.covered)


def contacts_with(
    connection: sa.Connection, keys: Sequence[bytes], *, index: KeyIndex, endpoint: str, after: int = 0
) -> dict[bytes, set[tuple[int, int]]]:
    """The contacts in which each key stands or for which it was asked: request and position.

    Only of requests after that one.
    """
    search = KeySearch(keys)
    found: dict[bytes, set[tuple[int, int]]] = {key: set() for key in keys}
    query = sa.select(*ANSWER_COLUMNS).where(_column.endpoint == endpoint, _column.outcomes.is_not(None))
    for row in requests_with(connection, keys, index=index, query=query, after=after):
        for position, key_index in contacts_of(row, search):
            found[keys[key_index]].add((row.id, position))
    return found


def contacts_of(row: Row, search: KeySearch) -> list[tuple[int, int]]:
    """The contacts of a request that were asked for by a wanted key or hold it: position, and index of the key.

    The row has `state`, `asked`, `asked_keys`, `outcomes` and `aliases`.
    """
    entry_index, key_index = search.find(row.asked_keys)
    positions = outcomes_of(row)["position"][entry_index]
    is_found = positions >= 0
    asked = zip(positions[is_found].tolist(), key_index[is_found].tolist(), strict=True)
    return [*asked, *aliases_of(row.aliases, search)]


def aliases_of(blob: bytes | None, search: KeySearch) -> list[tuple[int, int]]:
    """The contacts that hold a wanted key: position, and index of the key."""
    if not blob:
        return []
    alias_index, key_index = search.find(blob, size=ALIAS.itemsize)
    positions = unpack_aliases(blob)["position"][alias_index]
    return list(zip(positions.tolist(), key_index.tolist(), strict=True))


class _Hits(NamedTuple):
    """Where wanted keys stand in packed entries: indices of the entry, of the key and of the request's row."""

    entry: Indices
    key: Indices
    row: Indices


def _each(rows: Indices) -> list[int]:
    """Each of these rows once. They are in rising order, as the entries in them are."""
    return distinct(rows).tolist()


class KeyLookup:
    """Give it each request by `read`, the oldest first; then `known` tells what is known of each key.

    A key in `alias_keys` may also be answered by a contact in which it was found. A large ledger is searched in a
    thread while its next requests are read; leaving the `with` ends that thread.
    """

    def __init__(
        self,
        keys: AnyKeys,
        *,
        alias_keys: AliasKeys,
        required: int,
        freshness: Freshness,
    ) -> None:
        self._keys = keys
        self._required = required
        self._freshness = freshness
        self._search: KeySearch | None = KeySearch(keys)
        self._unread: list[Row] = []
        self._unread_bytes = 0
        self._searcher: ThreadPoolExecutor | None = None
        self._searches: deque[tuple[list[Row], Future[tuple[_Hits, _Hits]]]] = deque()
        self._requests: list[RequestFacts] = []
        # For each key, indices into the requests: of the newest with a contact, with a miss, and that is open.
        self._contact = np.full(len(keys), UNKNOWN, dtype=np.int32)
        self._miss = np.full(len(keys), UNKNOWN, dtype=np.int32)
        self._open = np.full(len(keys), UNKNOWN, dtype=np.int32)
        self._open_standing = np.full(len(keys), UNKNOWN, dtype=np.int8)
        self._position = np.full(len(keys), UNKNOWN, dtype=np.int32)
        self._held = np.zeros(len(keys), dtype=np.uint8)
        self._is_rejected = np.zeros(len(keys), dtype=np.bool_)
        self._may_be_alias = _is_chosen(keys, alias_keys)
        self._contacts_by_alias: list[Entries] = []
        self._contacts_by_question: list[Entries] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._searcher is not None:
            self._searcher.shutdown(cancel_futures=True)

    def read(self, row: Row) -> None:
        """Take in a request: its id, run, state, required, answered_at, asked_keys, outcomes, aliases."""
        if self._search is None:
            raise ValueError("all requests were read")
        self._unread.append(row)
        self._unread_bytes += _BYTES_A_ROW + len(row.asked_keys) + len(row.aliases or b"")
        # Many at a time: for a single request, numpy would spend its time on being called.
        if self._unread_bytes >= _BYTES_AT_ONCE:
            if self._searcher is None:
                self._searcher = ThreadPoolExecutor(1, thread_name_prefix="eb_dagster_searcher")
            rows, self._unread, self._unread_bytes = self._unread, [], 0
            self._searches.append((rows, self._searcher.submit(_search, self._search, rows)))
            self._take_searched(leave=_SEARCHES_AHEAD)

    def _take_searched(self, *, leave: int) -> None:
        while len(self._searches) > leave:
            rows, hits = self._searches.popleft()
            self._take(rows, *hits.result())

    def _take(self, rows: Sequence[Row], asked: _Hits, aliases: _Hits) -> None:
        # Only requests that say something are kept.
        kept = sorted({*_each(asked.row), *_each(aliases.row)})
        first = len(self._requests)
        self._requests += [
            RequestFacts(rows[index].id, rows[index].run, rows[index].answered_at) for index in kept
        ]
        request_index = np.full(len(rows), UNKNOWN, dtype=np.int32)
        request_index[kept] = np.arange(first, first + len(kept), dtype=np.int32)
        if len(asked.key):
            self._take_asked(rows, request_index, asked)
        if len(aliases.key):
            self._take_aliases(rows, request_index, aliases)

    def _take_asked(self, rows: Sequence[Row], request_index: npt.NDArray[np.int32], asked: _Hits) -> None:
        """Take in what the requests say of keys that were asked.

        Of several requests that say something of a key, the newest comes last, and its entry stays.
        """
        outcomes = np.frombuffer(b"".join([_packed_outcomes(row) for row in rows]), dtype=OUTCOME)[
            asked.entry
        ]
        position, held = outcomes["position"], outcomes["held"]
        request = request_index[asked.row]
        required = np.array([row.required for row in rows], dtype=np.uint8)[asked.row]
        is_contact = (position >= 0) & self._holds(held | required)
        _check_times(rows, asked.row[is_contact])
        self._contact[asked.key[is_contact]] = request[is_contact]
        self._position[asked.key[is_contact]] = position[is_contact]
        self._held[asked.key[is_contact]] = held[is_contact]
        self._note_bought(asked.key, request, position)
        is_rejected = position == REJECTED
        # What was not found with fewer required fields is not found with more.
        is_miss = (position == MISSED) & (required & ~np.int32(self._required) == 0)
        self._miss[asked.key[is_miss | is_rejected]] = request[is_miss | is_rejected]
        self._is_rejected[asked.key[is_rejected]] = True
        if (position < MISSED).any():
            self._take_open(rows, asked, request, position)

    def _note_bought(
        self, key: Indices, request: npt.NDArray[np.int32], position: npt.NDArray[np.int32]
    ) -> None:
        is_found = position >= 0
        bought = np.empty(int(is_found.sum()), dtype=_PLACE)
        bought["key"] = key[is_found]
        bought["request"] = request[is_found]
        bought["position"] = position[is_found]
        self._contacts_by_question.append(bought)

    def _take_open(
        self,
        rows: Sequence[Row],
        asked: _Hits,
        request: npt.NDArray[np.int32],
        position: npt.NDArray[np.int32],
    ) -> None:
        """Take in what is in flight, in doubt, unreadable or decided."""
        is_in_flight = np.array([row.state in IN_FLIGHT_STATES for row in rows])[asked.row]
        is_unreadable = position == UNREADABLE
        is_open = np.isin(position, HELD) | is_unreadable
        standing = np.where(is_in_flight, _IN_FLIGHT, _IN_DOUBT)
        standing[np.isin(position, DECIDED)] = _DECIDED
        standing[is_unreadable] = _UNREADABLE
        self._open[asked.key[is_open]] = request[is_open]
        self._open_standing[asked.key[is_open]] = standing[is_open]

    def _take_aliases(self, rows: Sequence[Row], request_index: npt.NDArray[np.int32], hits: _Hits) -> None:
        """Take in the contacts in which keys were found."""
        _check_times(rows, hits.row)
        aliases = unpack_aliases(b"".join([row.aliases or b"" for row in rows]))[hits.entry]
        contacts = np.empty(len(hits.key), dtype=_CONTACT)
        contacts["key"] = hits.key
        contacts["request"] = request_index[hits.row]
        for name in ("position", "held", "person"):
            contacts[name] = aliases[name]
        self._contacts_by_alias.append(contacts)

    def _holds(self, held: npt.NDArray[np.uint8]) -> _Flags:
        return (self._required & ~held.astype(np.int32)) == 0

    def known(self) -> KnownKeys:
        """What is known, by key. To be called once, at the end."""
        if self._search is not None:
            self._take_searched(leave=0)
            self._take(self._unread, *_search(self._search, self._unread))
            # Its memory is free for what comes next.
            self._search = None
        answered_at = self._answered_at()
        is_alias, is_of_two = self._apply_aliases(answered_at)
        is_stale = self._is_stale(answered_at)
        is_missed = self._is_fresh_miss(answered_at)
        is_open = self._open >= 0
        # It was asked again when the contact was old, and not found: the old contact is the best there is.
        is_stale &= ~(is_missed & ~is_open & (self._miss > self._contact))
        is_matched = (self._contact >= 0) & ~(is_stale & is_open)
        standing = np.where(is_missed, np.int8(_MISSED_STANDING), np.int8(UNKNOWN))
        standing[is_open] = self._open_standing[is_open]
        standing[is_matched] = MATCHED
        return KnownKeys(
            self._keys,
            self._requests,
            standing=standing,
            request_index=np.where(is_matched, self._contact, np.where(is_open, self._open, self._miss)),
            position=np.where(is_matched, self._position, UNKNOWN),
            is_alias=is_alias & is_matched,
            is_stale=is_stale & is_matched,
            is_of_two=is_of_two,
            has_vanity=is_matched & (self._held & VANITY > 0),
        )

    def _answered_at(self) -> _Times:
        """The times of the requests' answers, as far as ages count. The last entry, NaN, is that of index -1."""
        answered_at = np.array([*(request.answered_at for request in self._requests), None], dtype=np.float64)
        newest = self._freshness.aged_up_to
        if newest is not None:
            request_ids = np.array([*(request.id for request in self._requests), 0])
            answered_at[request_ids > newest] = np.inf
        return answered_at

    def _is_stale(self, answered_at: _Times) -> _Flags:
        since = self._freshness.contacts_since
        if since is None:
            return np.zeros(len(self._keys), dtype=np.bool_)
        return answered_at[self._contact] < since

    def _is_fresh_miss(self, answered_at: _Times) -> _Flags:
        since = self._freshness.misses_since
        is_missed = self._miss >= 0
        if since is None:
            return is_missed
        return is_missed & ((answered_at[self._miss] >= since) | self._is_rejected)

    def _apply_aliases(self, answered_at: _Times) -> tuple[_Flags, _Flags]:
        """Let contacts answer for the keys that were found in them.

        Returns which keys that gave an answer, and which stand inside contacts of two people: these are nobody's.
        """
        is_alias, is_of_two = np.zeros((2, len(self._keys)), dtype=np.bool_)
        if not self._contacts_by_alias:
            return is_alias, is_of_two
        contacts = np.concatenate(self._contacts_by_alias)
        contacts = contacts[np.argsort(contacts["key"], kind="stable")]
        key, is_bought = contacts["key"], self._is_bought(contacts)
        is_of_two[_keys_of_two(key, _persons(contacts, is_bought))] = True
        may_answer = self._may_be_alias[key] & ~is_of_two[key] & self._holds(contacts["held"])
        contacts, is_bought = contacts[may_answer], is_bought[may_answer]
        # Of each key, the newest contact comes last.
        newest = contacts[np.flatnonzero(np.diff(contacts["key"], append=-1))]
        answering = newest[self._is_better(newest, contacts["key"][is_bought], answered_at)]
        answered = answering["key"]
        self._contact[answered] = answering["request"]
        self._position[answered] = answering["position"]
        self._held[answered] = answering["held"]
        is_alias[answered] = True
        return is_alias, is_of_two

    def _is_bought(self, contacts: Entries) -> _Flags:
        """Which contacts were bought by the key itself that was found in them."""
        if not self._contacts_by_question:
            return np.zeros(len(contacts), dtype=np.bool_)
        return np.isin(_as_places(contacts), _as_places(np.concatenate(self._contacts_by_question)))

    def _is_better(self, newest: Entries, bought_keys: Indices, answered_at: _Times) -> _Flags:
        """Which contacts answer in the place of what was bought by the key itself, if anything was."""
        bought = self._contact[newest["key"]]
        is_better = bought < 0
        since = self._freshness.contacts_since
        if since is not None:
            # One that is newer, and by its profile the same person's, replaces one that is too old.
            is_same_person = np.isin(newest["key"], bought_keys) & (newest["person"] % 2 == PROFILED)
            is_better |= (answered_at[bought] < since) & (newest["request"] > bought) & is_same_person
        return is_better


def _as_places(contacts: Entries) -> npt.NDArray[np.void]:
    """Key, request and position of each contact, as single values that can be compared."""
    places = np.empty(len(contacts), dtype=_PLACE)
    for name in ("key", "request", "position"):
        places[name] = contacts[name]
    return places.view(f"V{_PLACE.itemsize}")


def _persons(contacts: Entries, is_bought: _Flags) -> npt.NDArray[np.uint32]:
    """Whose contact each is. All that were bought by the key itself are taken as one person's: 0."""
    person = contacts["person"].copy()
    if is_bought.any():
        key_and_person = (contacts["key"].astype(np.uint64) << np.uint64(32)) | person
        person[is_bought | np.isin(key_and_person, key_and_person[is_bought])] = 0
    return person


def _keys_of_two(key: Indices, person: npt.NDArray[np.uint32]) -> Indices:
    """The keys with contacts of two people. Equal keys stand beside each other."""
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    is_of_one = np.minimum.reduceat(person, starts) == np.maximum.reduceat(person, starts)
    return key[starts[~is_of_one]]


def _is_chosen(keys: AnyKeys, chosen: AliasKeys) -> _Flags:
    if isinstance(chosen, np.ndarray):
        return np.asarray(chosen, dtype=np.bool_)
    # All that are chosen are among the keys.
    if len(chosen) == len(keys):
        return np.ones(len(keys), dtype=np.bool_)
    among, listed = set(chosen), pack_keys(keys).tolist()
    return np.fromiter((key in among for key in listed), dtype=np.bool_, count=len(listed))


def _check_times(rows: Sequence[Row], answering: Indices) -> None:
    for index in _each(answering):
        if not 0 <= rows[index].answered_at < _END_OF_TIME:
            raise damaged(f"request {rows[index].id}")


def _search(search: KeySearch, rows: Sequence[Row]) -> tuple[_Hits, _Hits]:
    """Where wanted keys were asked in these requests, and where they are aliases. Raises if those are damaged."""
    for row in rows:
        check_lengths(row)
    asked = _find(search, [row.asked_keys for row in rows], KEY_BYTES)
    aliases = _find(search, [row.aliases or b"" for row in rows], ALIAS.itemsize)
    for index in sorted({*_each(asked.row), *_each(aliases.row)}):
        row = rows[index]
        if checksum(row.outcomes) != row.outcomes_checksum:
            raise damaged(f"request {row.id}")
    for index in _each(aliases.row):
        row = rows[index]
        if checksum(row.aliases) != row.aliases_checksum:
            raise damaged(f"request {row.id}")
    return asked, aliases


def _find(search: KeySearch, blob: Sequence[bytes], size: int) -> _Hits:
    entry, key = search.find(b"".join(blob), size=size)
    ends = np.cumsum([len(blob) // size for blob in blob])
    return _Hits(entry, key, np.searchsorted(ends, entry, side="right"))


def _packed_outcomes(row: Row) -> bytes:
    """An outcome for each question, so that those of many requests can be joined."""
    asked = len(row.asked_keys) // KEY_BYTES
    if row.outcomes is None:
        return unpack_outcomes(None, asked=asked, default=default_outcome(row.state)).tobytes()
    if len(row.outcomes) != asked * OUTCOME.itemsize:
        raise damaged(f"request {row.id}")
    return row.outcomes

"""Which requests hold which keys, so that a look-up reads what it needs and not the whole ledger.

An index of sorted segments in plain rows of the ledger's own database. It says where to look: what a key came to is
read in the requests alone. So what is damaged, stale or missing in it costs time, and makes no key unknown:

- The segments of the chain `requests` hold the keys of all requests up to one, without a gap. Later requests are
  scanned. They are taken in 64 at a time, and segments are merged as they grow. One that is under way holds up
  those behind it for a while (`_MOST_UNCOVERED`); one that is damaged, for good.
- What a request gets after that, as by a late reply, is written in the same transaction as a segment of the chain
  `late`, and its number is noted in the request. An index that knows fewer of them is an older copy.
- Headers and rows have checksums, and it follows from a key in which row it would stand. If a row or a segment is
  not there or not intact, all requests are scanned, and the next process that writes begins the index anew.

Each step that grows it is a short transaction of its own, and whoever comes next goes on where one broke off.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import sqlalchemy as sa

from eb_dagster.identifiers.arrays import distinct
from eb_dagster.ledger import key_segments
from eb_dagster.ledger.connection import Database
from eb_dagster.ledger.entries import AnyKeys, Indices, checksum, keys_checksum
from eb_dagster.ledger.key_segments import (
    ROW_BITS,
    Entries,
    IndexDamage,
    RequestKeys,
    Segment,
    covered,
    entries_of,
    prefixes_of,
)
from eb_dagster.ledger.request_rows import IN_FLIGHT_STATES, KEY_COLUMNS, Row, newest_request
from eb_dagster.ledger.schema import damaged, key_rows, requests
from eb_dagster.ledger.schema import key_segments as headers

REQUESTS_A_SEGMENT: Final = 64
FAN: Final = 8
"""So many segments of one level are merged into one."""
ROWS_A_STEP: Final = 32
"""So many rows are merged or dropped while others wait."""

# Fewer requests than this are scanned at once, rather than looked up.
_FEW_REQUESTS: Final = 64
# A request that is under way holds up the index no longer than this.
_MOST_UNCOVERED: Final = 512
_BYTES_A_SEGMENT: Final = 12 * 2**20
_ROWS_AT_ONCE: Final = 64
_ATTEMPTS: Final = 3
_TOP_LEVEL: Final = 63
_NONE: Final[Indices] = np.empty(0, dtype=np.int64)

_column, _row, _header = requests.c, key_rows.c, headers.c
_SELECT_LATE: Final = sa.select(sa.func.max(_column.late)).where(sa.text("late > 0"))
_SELECT_REACHED: Final = sa.select(sa.func.max(_header.last)).where(_header.chain == "requests")
_SELECT_ID: Final = sa.select(_column.id).where(_column.id == sa.bindparam("request"))
_SELECT_HEADERS: Final = sa.select(headers)
_SELECT_SOME_ROWS: Final = sa.select(key_rows).where(_row.id.in_(sa.bindparam("ids", expanding=True)))
_SELECT_ROWS_BETWEEN: Final = sa.select(key_rows).where(
    _row.id >= sa.bindparam("first"), _row.id <= sa.bindparam("last")
)
_SELECT_UNCOVERED: Final = (
    sa.select(*KEY_COLUMNS)
    .where(_column.id > sa.bindparam("after"))
    .order_by(_column.id)
    .limit(sa.bindparam("count"))
)
_UPDATE_ROW: Final = sa.update(key_rows).where(_row.id == sa.bindparam("row"))


class Hits(NamedTuple):
    """The requests in which some keys may stand, in rising order."""

    asked: Indices
    """Where they may have been asked."""
    aliases: Indices
    """Where they may be aliases."""
    covered: int
    """Requests after that one are to be searched too."""

    @property
    def requests(self) -> Indices:
        """All of them, each once."""
        return distinct(np.sort(np.concatenate([self.asked, self.aliases])))


class KeyIndex:
    """The key index of one ledger. The methods with a `connection` are part of its transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_gapless = database.file is not None
        self._is_doubted = False
        self._next_step = 0
        """There is nothing to do before this request is there."""

    def find(self, connection: sa.Connection, keys: AnyKeys, *, after: int = 0) -> Hits:
        """The requests after that one in which keys may stand. Raises `LedgerError` if the ledger is an older copy."""
        newest = newest_request(connection)
        if newest - after <= _FEW_REQUESTS:
            return Hits(_NONE, _NONE, after)
        wanted = distinct(np.sort(prefixes_of(keys)))
        segments: list[Segment] | None = None
        # PostgreSQL shows each statement another state, so that rows may be gone that were merged meanwhile.
        for _ in range(_ATTEMPTS):
            try:
                before, segments = segments, _segments(connection)
                if segments == before:
                    break
                return self._find(connection, segments, wanted, after=after)
            except IndexDamage:
                continue
        self._is_doubted = True
        return Hits(_NONE, _NONE, after)

    def _find(
        self,
        connection: sa.Connection,
        segments: Sequence[Segment],
        wanted: key_segments.Prefixes,
        *,
        after: int,
    ) -> Hits:
        upto = _covered(connection, segments)
        if upto <= after:
            return Hits(_NONE, _NONE, after)
        if connection.execute(_SELECT_ID, {"request": upto}).scalar() is None:
            # An older copy was put in the place of the requests.
            raise damaged(f"request {upto}")
        found = [key_segments.NO_TAGS]
        whole = [segment for segment in segments if segment.state == "whole" and segment.rows]
        of_ids = {segment.id: segment for segment in whole}
        needed = [distinct(segment.row_ids(wanted)) for segment in whole]
        for entries in _read_rows(connection, of_ids, np.sort(np.concatenate([_NONE, *needed]))):
            found.append(key_segments.find_tags(entries, wanted))
        hits = Entries(key_segments.NO_PREFIXES, distinct(np.sort(np.concatenate(found))))
        asked, aliases = (hits.of_requests(are_aliases=are_aliases) for are_aliases in (False, True))
        return Hits(asked[asked > after], aliases[aliases > after], max(upto, after))

    # Changes of requests

    def follow(
        self, connection: sa.Connection, request_id: int, *, before: RequestKeys, after: RequestKeys
    ) -> None:
        """Take in that the keys of a request have changed. Part of the transaction that changes them."""
        reached = connection.execute(_SELECT_REACHED).scalar()
        if reached is None or request_id > reached:
            return
        try:
            segments = _segments(connection)
            if request_id > _covered(connection, segments):
                return
            old, new = entries_of(request_id, before), entries_of(request_id, after)
            _remove(connection, segments, key_segments.without(old, new))
            self._add_late(connection, segments, request_id, key_segments.without(new, old))
        except IndexDamage:
            self.reset(connection)

    def _add_late(
        self, connection: sa.Connection, segments: Sequence[Segment], request_id: int, entries: Entries
    ) -> None:
        if not len(entries.prefixes):
            return
        number = covered(segments, "late") + 1
        _insert_segment(connection, segments, "late", number, number, entries)
        connection.execute(sa.update(requests).where(_column.id == request_id).values(late=number))

    def reset(self, connection: sa.Connection) -> None:
        """Begin anew: from here on, all requests are scanned until they are taken in again."""
        self._is_doubted = False
        segment_id = _next_id(connection, connection.execute(_SELECT_HEADERS).all())
        connection.execute(sa.delete(headers))
        # The numbers go on, so that no copy of what was is taken for what will be.
        numbers = int(connection.execute(_SELECT_LATE).scalar() or 0)
        if numbers:
            empty = Segment(segment_id, "late", 1, numbers, _TOP_LEVEL, 0, 0, "whole", 0, _new_mark())
            _insert_header(connection, empty)

    # Growing

    def catch_up(self) -> None:
        """Take all steps that there are."""
        while self.grow():
            pass

    def may_grow(self, request_id: int) -> bool:
        """Whether there may be a step to take, now that this request is there."""
        return self._is_doubted or request_id >= self._next_step

    def grow(self) -> bool:
        """Take one step, in a transaction of its own. Returns whether there was one to take."""
        with self._database.transaction(is_durable=False) as connection:
            try:
                segments = _segments(connection)
                upto = _covered(connection, segments)
                if self._is_doubted:
                    raise IndexDamage
                return (
                    self._take_in(connection, segments, upto)
                    or _go_on_merging(connection, segments)
                    or _go_on_dropping(connection, segments)
                    or _sweep(connection, segments)
                    or _begin_merging(connection, segments)
                )
            except IndexDamage:
                self.reset(connection)
                return True

    def _take_in(self, connection: sa.Connection, segments: Sequence[Segment], upto: int) -> bool:
        """Write a segment of the next requests, if they are ready."""
        newest = newest_request(connection)
        self._next_step = upto + REQUESTS_A_SEGMENT
        if newest < self._next_step:
            return False
        several: list[Entries] = []
        last, size, count = upto, 0, 0
        options = {"yield_per": FAN}
        with connection.execute(
            _SELECT_UNCOVERED, {"after": upto, "count": REQUESTS_A_SEGMENT}, execution_options=options
        ) as rows:
            for row in rows:
                if not self._is_ready(row, after=last, newest=newest) or size > _BYTES_A_SEGMENT:
                    break
                several.append(entries_of(row.id, RequestKeys(row.asked_keys, row.aliases)))
                last, count = row.id, count + 1
                size += len(row.asked_keys) + len(row.aliases or b"")
        if count < REQUESTS_A_SEGMENT and size <= _BYTES_A_SEGMENT:
            return False
        entries = key_segments.sort(key_segments.join(several))
        _insert_segment(connection, segments, "requests", upto + 1, last, entries)
        return True

    def _is_ready(self, row: Row, *, after: int, newest: int) -> bool:
        if self._is_gapless and row.id != after + 1:
            # Whoever scans says that a request is missing.
            return False
        if row.state in IN_FLIGHT_STATES and newest - row.id < _MOST_UNCOVERED:
            return False
        # What is damaged must be met by whoever looks up its keys, and so must stay outside.
        return (
            keys_checksum(row.id, row.endpoint, row.required, row.asked_keys) == row.keys_checksum
            and checksum(row.aliases) == row.aliases_checksum
        )


# Headers


def _segments(connection: sa.Connection) -> list[Segment]:
    segments: list[Segment] = []
    for *fields, known_sum in connection.execute(_SELECT_HEADERS):
        segment = Segment(*fields)
        if segment.checksum() != known_sum:
            raise IndexDamage
        segments.append(segment)
    return segments


def _covered(connection: sa.Connection, segments: Sequence[Segment]) -> int:
    """The request up to which the index knows all keys. Raises `IndexDamage` if it is an older copy."""
    # Read first: what comes late in between is in an index that is read afterwards.
    numbers = int(connection.execute(_SELECT_LATE).scalar() or 0)
    if covered(segments, "late") < numbers:
        raise IndexDamage
    return covered(segments, "requests")


def _insert_header(connection: sa.Connection, segment: Segment) -> None:
    connection.execute(sa.insert(headers), {**segment._asdict(), "checksum": segment.checksum()})


def _update_header(connection: sa.Connection, segment: Segment) -> None:
    changes = {"state": segment.state, "filled": segment.filled, "checksum": segment.checksum()}
    connection.execute(sa.update(headers).where(_header.id == segment.id).values(**changes))


def _next_id(connection: sa.Connection, segments: Sequence[Segment | Row]) -> int:
    newest_row = int(connection.execute(sa.select(sa.func.max(_row.id))).scalar() or 0)
    return max([newest_row >> ROW_BITS, *(segment.id for segment in segments)]) + 1


def _new_mark() -> int:
    return secrets.randbits(32)


def _insert_segment(
    connection: sa.Connection,
    segments: Sequence[Segment],
    chain: key_segments.Chain,
    first: int,
    last: int,
    entries: Entries,
) -> None:
    count = len(entries.prefixes)
    rows = key_segments.rows_for(count)
    segment = Segment(
        _next_id(connection, segments), chain, first, last, 0, count, rows, "whole", rows, _new_mark()
    )
    _insert_rows(connection, segment, entries, start=0, stop=rows)
    _insert_header(connection, segment)


# Rows


def _insert_rows(
    connection: sa.Connection, segment: Segment, entries: Entries, *, start: int, stop: int
) -> None:
    rows = [
        {"id": row_id, "entries": blob, "checksum": segment.row_checksum(row_id, blob)}
        for row_id, blob in key_segments.split(entries, segment, start=start, stop=stop)
    ]
    if rows:
        connection.execute(sa.insert(key_rows), rows)


def _read_rows(connection: sa.Connection, segments: dict[int, Segment], ids: Indices) -> Iterator[Entries]:
    """The entries of these rows, sorted within each segment. Raises `IndexDamage` if a row is missing or damaged."""
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        some = ids[start : start + _ROWS_AT_ONCE]
        blobs = dict(_fetch(connection, segments, some))
        for part in np.split(some, np.flatnonzero(np.diff(some >> ROW_BITS)) + 1):
            try:
                rows = [blobs[row_id] for row_id in part.tolist()]
            except KeyError:
                raise IndexDamage from None
            yield key_segments.unpack_rows(*rows)


def _fetch(
    connection: sa.Connection, segments: dict[int, Segment], ids: Indices
) -> Iterator[tuple[int, bytes]]:
    first, last = int(ids[0]), int(ids[-1])
    if last - first < 2 * len(ids):
        # One after the other, they are read faster; what lies between is thrown away.
        found = connection.execute(_SELECT_ROWS_BETWEEN, {"first": first, "last": last})
    else:
        found = connection.execute(_SELECT_SOME_ROWS, {"ids": ids.tolist()})
    for row_id, known_sum, entries in found:
        segment = segments.get(row_id >> ROW_BITS)
        if segment is not None and segment.row_checksum(row_id, entries) != known_sum:
            raise IndexDamage
        yield row_id, entries


def _rows_of(connection: sa.Connection, segment: Segment, start: int, stop: int) -> Entries:
    ids = segment.base + np.arange(start, stop)
    return key_segments.join(list(_read_rows(connection, {segment.id: segment}, ids)))


def _remove(connection: sa.Connection, segments: Sequence[Segment], gone: Entries) -> None:
    """Leave nothing of these entries, in whichever segment they stand."""
    if not len(gone.prefixes):
        return
    _delete_orphans(connection, segments)
    for segment in segments:
        if not segment.filled:
            continue
        ids = distinct(segment.row_ids(gone.prefixes))
        for row_id in ids[ids < segment.base + segment.filled].tolist():
            (entries,) = _read_rows(connection, {segment.id: segment}, np.array([row_id]))
            kept = key_segments.without(entries, gone)
            if len(kept.prefixes) < len(entries.prefixes):
                blob = key_segments.pack_row(kept)
                changes = {"entries": blob, "checksum": segment.row_checksum(row_id, blob)}
                connection.execute(_UPDATE_ROW, {"row": row_id, **changes})


def _delete_orphans(connection: sa.Connection, segments: Sequence[Segment]) -> None:
    """Delete the rows of segments that have no header, as after an older copy was put back."""
    known, first = {segment.id for segment in segments}, 0
    while True:
        query = sa.select(sa.func.min(_row.id)).where(_row.id >= first)
        row_id = connection.execute(query).scalar()
        if row_id is None:
            return
        segment_id = row_id >> ROW_BITS
        first = (segment_id + 1) << ROW_BITS
        if segment_id not in known:
            connection.execute(sa.delete(key_rows).where(_row.id >= row_id, _row.id < first))


# Merging


def _begin_merging(connection: sa.Connection, segments: Sequence[Segment]) -> bool:
    for chain in ("requests", "late"):
        sources = key_segments.to_merge(segments, chain, fan=FAN)
        if sources:
            count = sum(segment.entries for segment in sources)
            target = Segment(
                _next_id(connection, segments),
                chain,
                sources[0].first,
                sources[-1].last,
                sources[0].level + 1,
                count,
                key_segments.rows_for(count),
                "growing",
                0,
                _new_mark(),
            )
            _insert_header(connection, target)
            return True
    return False


def _go_on_merging(connection: sa.Connection, segments: Sequence[Segment]) -> bool:
    """Fill some more rows of a segment that grows; when it is whole, it takes the place of its sources."""
    target = next((segment for segment in segments if segment.state == "growing"), None)
    if target is None:
        return False
    sources = [
        segment
        for segment in segments
        if segment.state == "whole"
        and segment.chain == target.chain
        and target.first <= segment.first <= segment.last <= target.last
    ]
    if sum(segment.last - segment.first + 1 for segment in sources) != target.last - target.first + 1:
        raise IndexDamage
    stop = min(target.filled + ROWS_A_STEP, target.rows)
    entries = _between(connection, sources, target, start=target.filled, stop=stop)
    _insert_rows(connection, target, entries, start=target.filled, stop=stop)
    is_whole = stop == target.rows
    _update_header(connection, target._replace(filled=stop, state="whole" if is_whole else "growing"))
    if is_whole:
        for source in sources:
            _update_header(connection, source._replace(state="dropped"))
    return True


def _between(
    connection: sa.Connection, sources: Sequence[Segment], target: Segment, *, start: int, stop: int
) -> Entries:
    """The entries of the sources that stand in these rows of the target."""
    several: list[Entries] = []
    if start < stop:
        lowest = np.array([key_segments.first_prefix(start, target.rows)], dtype=np.uint64)
        highest = np.array([key_segments.first_prefix(stop, target.rows) - 1], dtype=np.uint64)
        for source in sources:
            if source.rows:
                bounds = key_segments.row_numbers(np.concatenate([lowest, highest]), source.rows)
                entries = _rows_of(connection, source, int(bounds[0]), int(bounds[1]) + 1)
                begin = int(np.searchsorted(entries.prefixes, lowest)[0])
                end = int(np.searchsorted(entries.prefixes, highest, side="right")[0])
                several.append(Entries(entries.prefixes[begin:end], entries.tags[begin:end]))
    return key_segments.sort(key_segments.join(several))


def _go_on_dropping(connection: sa.Connection, segments: Sequence[Segment]) -> bool:
    dropped = next((segment for segment in segments if segment.state == "dropped"), None)
    if dropped is None:
        return False
    kept = max(0, dropped.filled - ROWS_A_STEP)
    connection.execute(
        sa.delete(key_rows).where(_row.id >= dropped.base + kept, _row.id < dropped.base + dropped.filled)
    )
    if kept:
        _update_header(connection, dropped._replace(filled=kept))
    else:
        connection.execute(sa.delete(headers).where(_header.id == dropped.id))
    return True


def _sweep(connection: sa.Connection, segments: Sequence[Segment]) -> bool:
    """Delete some rows of an index that was begun anew."""
    oldest = connection.execute(sa.select(sa.func.min(_row.id))).scalar()
    if oldest is None or oldest >> ROW_BITS in {segment.id for segment in segments}:
        return False
    upto = min(oldest + ROWS_A_STEP, ((oldest >> ROW_BITS) + 1) << ROW_BITS)
    connection.execute(sa.delete(key_rows).where(_row.id >= oldest, _row.id < upto))
    return True


def read_all(connection: sa.Connection) -> tuple[int, Iterator[Entries]]:
    """The request up to which the index knows all keys, and all entries of whole segments, a part at a time.

    Raises `IndexDamage`, also while the entries are read.
    """
    segments = _segments(connection)
    upto = _covered(connection, segments)

    def parts() -> Iterator[Entries]:
        for segment in segments:
            if segment.state == "whole":
                for start in range(0, segment.rows, ROWS_A_STEP):
                    yield _rows_of(connection, segment, start, min(start + ROWS_A_STEP, segment.rows))

    return upto, parts()

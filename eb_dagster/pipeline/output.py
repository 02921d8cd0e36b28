"""The columns that are added to rows that have ended, and what the report counts of them.

Contacts that were bought in this run are columns already; those of earlier runs are read back.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, pairwise
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.api.envelope import Record, parse_reply
from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import Flattened, as_json, flatten
from eb_dagster.contacts.parser import is_utf8
from eb_dagster.contacts.schema import AGREES, STATUS_COLUMNS, STATUSES, select
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.errors import LedgerError
from eb_dagster.identifiers.arrays import distinct, flag_array, number_array, text_array
from eb_dagster.identifiers.canonical import identifiers_in
from eb_dagster.identifiers.model import FIELD_TYPES, Identifier
from eb_dagster.identifiers.names import agrees
from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import decompress
from eb_dagster.ledger.reply_store import StoredReply
from eb_dagster.ledger.request_rows import Row
from eb_dagster.pipeline.eligibility import contradicts, may_be_a_households
from eb_dagster.pipeline.ended import EndedRows
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import ANSWERED, are_weak, status_code

_Array: TypeAlias = "pa.Array"
_Column: TypeAlias = "pa.ChunkedArray"

# At hand for the next block: in the order in which rows were bought, one reply reaches into it. Others are read
# again from the columns that are kept, which takes less than the 2 MB of each are worth.
_REPLIES_KEPT: Final = 4
# A reply of whose contacts the rows of a block want at least this share is read as a whole, for the next block to
# want the rest: of one that reaches into two blocks, one of them does.
_SHARE_READ_WHOLE: Final = 0.5
# So is one of which so many blocks have wanted a few rows each: to read those took as long as all of them take.
_MOST_READ_IN_PART: Final = 3
_INFLATED_AHEAD: Final = 8
_NOWHERE: Final = -1
_NO_SHIFT: Final = -(2**62)
_MOST_PIECES: Final = 64
# Shorter pieces are copied: what takes the columns would spend more on each.
_LEAST_ROWS_UNCOPIED: Final = 256
_SUPPRESSED: Final = status_code("suppressed")
_NOT_FOUND: Final = status_code("not_found")
# By the index of a status, and of a kind.
_STATUSES: Final = text_array(STATUSES)
_MATCHED: Final = flag_array([{"matched": True, "not_found": False}.get(status) for status in STATUSES])
_KINDS: Final = text_array(FIELD_TYPES)


class Finisher:
    """Turns rows that have ended into columns. `schema` is what it adds, `columns` which contact columns.

    It inflates replies of earlier runs in a thread; `with` ends that.
    """

    def __init__(
        self, ledger: Ledger, schema: pa.Schema, *, columns: Sequence[str] | None, prefix: str
    ) -> None:
        self._ledger = ledger
        self._schema = schema
        self._columns = [column.name for column in select(columns, prefix=prefix)]
        self._has_agrees = prefix + AGREES.name in schema.names
        self._inflater = _Inflater(ledger)
        self._loader = _Loader(self._inflater)
        self._list_version = ledger.suppression.current().version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inflater.close()

    def expect(self, request_ids: Sequence[int]) -> None:
        """Name requests, the oldest first, whose contacts the rows that are finished next will want."""
        self._inflater.expect(request_ids)

    def finish(self, ended: EndedRows, *, report: Report) -> pa.Table:
        """The added columns of these rows, in order. Counts the rows in the report."""
        found = self._loader.load(ended)
        self._withhold(ended, found)
        agreement = _compare_names(ended, found) if self._has_agrees else {}
        report.contradicted += _take_back(ended, found, agreement)
        status_columns = _status_columns(ended)
        if self._has_agrees:
            agrees_of_row = [agreement.get(row) for row in range(len(ended.status))]
            status_columns.append(flag_array(agrees_of_row))
        contact_columns = found.columns(self._columns)
        verdicts = Counter(agreement.values())
        report.agrees += verdicts[True]
        report.disagrees += verdicts[False]
        _count(ended, report)
        found.count_oddities(report)
        for name, array in zip(self._columns, contact_columns, strict=True):
            report.filled[name] += len(array) - array.null_count
        columns = [*status_columns, *self._shown(contact_columns)]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _shown(self, contacts: Sequence[_Column]) -> Iterator[_Column | _Array]:
        """These columns as the schema has them: lists may be JSON there."""
        first = len(self._schema) - len(contacts)
        for kind, array in zip(self._schema.types[first:], contacts, strict=True):
            yield array if array.type == kind else as_json(array)

    def _withhold(self, ended: EndedRows, found: _Found) -> None:
        """Hand out nobody who is suppressed, under whichever identifier they were found."""
        listed = self._ledger.suppression.current()
        if not listed.keys:
            return
        people = {row: identifiers_in(contacts.texts(index)) for row, contacts, index in found}
        if listed.version != self._list_version:
            # The list has changed since the rows were looked up by what they offer.
            for row, offered in enumerate(ended.offers):
                people[row] = [*people.get(row, ()), *offered.identifiers]
        suppressed = self._ledger.suppression.matching(
            set(chain.from_iterable(people.values())), among=listed
        )
        for row, identifiers in people.items():
            if not suppressed.isdisjoint(identifiers):
                _suppress(ended, row)
                found.drop(row)


def _suppress(ended: EndedRows, row: int) -> None:
    """End this row as suppressed, and tell nothing else of it."""
    ended.status[row] = _SUPPRESSED
    ended.kind[row] = ended.trait[row] = _NOWHERE
    ended.query[row] = None
    ended.is_from_ledger[row] = False
    ended.answered_at[row] = np.nan


def _compare_names(ended: EndedRows, found: _Found) -> dict[int, bool | None]:
    """For each row that gets a contact and has a name, whether the contact has that name too."""
    persons = ended.offers.persons
    agreement: dict[int, bool | None] = {}
    if persons is None:
        return agreement
    for row, contacts, index in found:
        if (person := persons[row]) is not None:
            agreement[row] = agrees(person, **contacts.names(index))
    return agreement


def _take_back(ended: EndedRows, found: _Found, agreement: dict[int, bool | None]) -> int:
    """Take contacts from the rows whose person they are not. Returns how many rows those were."""
    is_weak = are_weak(ended.trait)
    doubtful = is_weak.copy()
    doubtful[[row for row, verdict in agreement.items() if verdict is False]] = True
    contradicted = [
        row
        for row, contacts, index in found.of(np.flatnonzero(doubtful))
        if (agreement.get(row) is False and may_be_a_households(_deciding(ended, row)))
        or (is_weak[row] and _has_other_email(ended, row, contacts, index))
    ]
    for row in contradicted:
        # The contact that was found is another person's.
        ended.status[row] = _NOT_FOUND
        found.drop(row)
        agreement.pop(row, None)
    return len(contradicted)


def _deciding(ended: EndedRows, row: int) -> Identifier:
    return Identifier(FIELD_TYPES[int(ended.kind[row])], ended.query[row] or "")


def _has_other_email(ended: EndedRows, row: int, contacts: Flattened, index: int) -> bool:
    inside = identifiers_in(contacts.texts(index), ("email",))
    return contradicts(ended.offers[row].identifiers, inside)


def _status_columns(ended: EndedRows) -> list[_Array]:
    """The arrays of `STATUS_COLUMNS`."""
    status = number_array(ended.status, pa.int8())
    arrays = {
        "matched": _MATCHED.take(status),
        "status": _STATUSES.take(status),
        "field_type": _KINDS.take(number_array(ended.kind, pa.int8(), is_null=ended.kind == _NOWHERE)),
        "query": text_array(ended.query),
        "from_ledger": flag_array(ended.is_from_ledger),
        "enriched_at": _time_array(np.rint(ended.answered_at * 1e6).astype("datetime64[us]")),
    }
    return [arrays[column.name] for column in STATUS_COLUMNS]


def _time_array(times: npt.NDArray[np.datetime64]) -> _Array:
    return number_array(times, pa.timestamp("us", tz="UTC"), is_null=np.isnat(times))


def _count(ended: EndedRows, report: Report) -> None:
    """Count how rows ended, and the kinds of identifiers that answered."""
    report.rows += len(ended.status)
    report.from_ledger += int(np.count_nonzero(ended.is_from_ledger))
    kinds = len(FIELD_TYPES) + 1
    pairs = np.bincount(ended.status * np.int64(kinds) + ended.kind + 1, minlength=1)
    for pair in np.flatnonzero(pairs).tolist():
        status, kind, count = STATUSES[pair // kinds], pair % kinds - 1, int(pairs[pair])
        report.count_status(status, count)
        if status in ANSWERED and kind != _NOWHERE:
            report.answered_by[FIELD_TYPES[kind]] += count
            if status == "matched":
                report.matched_by[FIELD_TYPES[kind]] += count
    is_answered = np.isin(ended.status[ended.missed_row], (status_code("matched"), _NOT_FOUND))
    missed: list[int] = ended.missed_kind[is_answered].tolist()
    report.answered_by.update([FIELD_TYPES[kind] for kind in missed])
    report.invalid.update(ended.offers.count_invalid())
    report.unusable.update(ended.offers.count_unusable())


class _Found:
    """Which contact each row gets: of which `Flattened`, and which of its rows."""

    def __init__(self, rows: int) -> None:
        self._sources: list[Flattened] = []
        self._starts: dict[int, int] = {}
        self._end = 0
        self._positions: npt.NDArray[np.int64] = np.full(rows, _NOWHERE, dtype=np.int64)
        """For each row, the position of its contact in the table of all sources."""

    def start_of(self, contacts: Flattened) -> int:
        """Where these contacts begin in the table of all sources."""
        start = self._starts.get(id(contacts))
        if start is None:
            start = self._starts[id(contacts)] = self._end
            self._sources.append(contacts)
            self._end += contacts.columns.num_rows
        return start

    def put(self, rows: Sequence[int] | Indices, positions: Sequence[int] | Indices) -> None:
        """Give these rows the contacts at these positions of the table of all sources."""
        self._positions[rows] = positions

    def drop(self, row: int) -> None:
        """Give this row nobody."""
        self._positions[row] = _NOWHERE

    def __iter__(self) -> Iterator[tuple[int, Flattened, int]]:
        """Each row that gets a contact, with the contacts that hold it and its index in them."""
        return self.of(np.flatnonzero(self._positions != _NOWHERE))

    def of(self, rows: Indices) -> Iterator[tuple[int, Flattened, int]]:
        """The same for those of these rows that get one."""
        starts = [*self._starts.values()]
        for row, position in zip(rows.tolist(), self._positions[rows].tolist(), strict=True):
            if position != _NOWHERE:
                source = bisect_right(starts, position) - 1
                yield row, self._sources[source], position - starts[source]

    def count_oddities(self, report: Report) -> None:
        """Count what is odd about the contacts that rows get."""
        for contacts, start in zip(self._sources, self._starts.values(), strict=True):
            for paths, count in ((contacts.drift, report.drift), (contacts.unknown_keys, report.new_fields)):
                if paths:
                    given = (self._positions[self._rows_of(contacts, start)] - start).tolist()
                    count.update(chain.from_iterable(paths[index] for index in given if index in paths))

    def _rows_of(self, contacts: Flattened, start: int) -> Indices:
        end = start + contacts.columns.num_rows
        return np.flatnonzero((self._positions >= start) & (self._positions < end))

    def columns(self, names: Sequence[str]) -> list[_Column]:
        """Contact columns of the rows; null where a row gets nobody."""
        sources = self._sources or [flatten([])]
        table = pa.Table.from_batches([contacts.columns for contacts in sources]).select(list(names))
        is_vacant = np.concatenate([contacts.is_vacant for contacts in sources])
        return _gather(table, self._positions, is_vacant=is_vacant).columns


def _gather(
    table: pa.Table, positions: npt.NDArray[np.int64], *, is_vacant: npt.NDArray[np.bool_]
) -> pa.Table:
    """The rows of the table at these positions; nulls for `_NOWHERE`. A vacant row of the table is all null."""
    shift = _shifts(positions, is_vacant=is_vacant)
    starts = np.flatnonzero(np.diff(shift, prepend=_NO_SHIFT - 1))
    if len(starts) > _MOST_PIECES:
        indices = number_array(positions, pa.int64(), is_null=positions == _NOWHERE)
        taken = [pc.take(column.combine_chunks(), indices) for column in table.columns]
        return pa.Table.from_arrays(taken, schema=table.schema)
    # Rows that stand together are copied as one, in a tenth of the time that it takes one by one; or not at all.
    pieces = [table.slice(0, 0)]
    for start, end in pairwise([*starts.tolist(), len(positions)]):
        if shift[start] == _NO_SHIFT:
            nobody = flatten([None] * (end - start)).columns
            pieces.append(pa.Table.from_batches([nobody]).select(table.column_names))
        else:
            pieces.append(table.slice(start + int(shift[start]), end - start))
    gathered = pa.concat_tables(pieces)
    chunks = max((column.num_chunks for column in gathered.columns), default=0)
    return gathered if chunks * _LEAST_ROWS_UNCOPIED <= len(positions) else gathered.combine_chunks()


def _shifts(positions: npt.NDArray[np.int64], *, is_vacant: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How far behind each row the table's row stands that is copied for it; `_NO_SHIFT` for nulls from elsewhere.

    A row that was not found has a vacant row in the reply, mostly right beside those that were found. To copy
    that one with its neighbors keeps the pieces long.
    """
    row = np.arange(len(positions))
    is_found = positions != _NOWHERE
    shift = np.where(is_found, positions - row, _NO_SHIFT)
    found_rows = np.flatnonzero(is_found)
    if len(found_rows):
        nearest = found_rows[np.maximum(np.searchsorted(found_rows, row, side="right") - 1, 0)]
        neighbor = row + shift[nearest]
        is_like_nearest = ~is_found & (neighbor >= 0) & (neighbor < len(is_vacant))
        is_like_nearest[is_like_nearest] = is_vacant[neighbor[is_like_nearest]]
        shift[is_like_nearest] = shift[nearest[is_like_nearest]]
    return shift


class _Loader:
    """Finds the contacts of rows, and reads those of earlier runs back from the ledger, a reply at a time."""

    def __init__(self, inflater: _Inflater) -> None:
        self._inflater = inflater
        self._replies: OrderedDict[int, _Reply] = OrderedDict()
        self._times_read: Counter[int] = Counter()
        """By request, how many times its reply was read back, and not the columns that are kept of it."""

    def load(self, ended: EndedRows) -> _Found:
        """The contacts that these rows get."""
        found = _Found(len(ended.status))
        is_bought = ended.source != _NOWHERE
        for source in distinct(np.sort(ended.source[is_bought])).tolist():
            rows = np.flatnonzero(ended.source == source)
            found.put(rows, found.start_of(ended.sources[source]) + ended.contact[rows])
        stored = np.flatnonzero((ended.request_id > 0) & ~is_bought)
        if len(stored):
            self._read_back(stored, ended.request_id[stored], ended.position[stored], found)
        return found

    def _read_back(self, rows: Indices, request_ids: Indices, positions: Indices, found: _Found) -> None:
        """Find in the ledger the contacts at these positions of the replies to these requests.

        What was not found keeps a place, so that rows and contacts stay side by side.
        """
        with_contacts = distinct(np.sort(request_ids[positions != _NOWHERE]))
        for request_id, reply in self._stored_replies(with_contacts.tolist()):
            of_request = np.flatnonzero(request_ids == request_id)
            asked = positions[of_request]
            if not _NOWHERE <= asked.min() <= asked.max() < reply.records:
                raise LedgerError(
                    f"the reply of request {request_id} is damaged in the ledger; restore it from a backup"
                )
            is_found = asked != _NOWHERE
            contacts, index = reply.contacts(asked[is_found])
            found.put(rows[of_request[is_found]], found.start_of(contacts) + index)

    def _stored_replies(self, request_ids: Sequence[int]) -> Iterator[tuple[int, _Reply]]:
        """The replies to these requests; first those that were read before."""
        unread = [request_id for request_id in request_ids if request_id not in self._replies]
        for request_id in request_ids:
            if request_id in self._replies:
                yield request_id, self._replies[request_id]
        for request_id in unread:
            reply = self._replies[request_id] = self._inflater.read(request_id)
            if len(self._replies) > _REPLIES_KEPT:
                self._replies.popitem(last=False)
            if isinstance(reply, _StoredReply):
                self._times_read[request_id] += 1
                if self._times_read[request_id] > _MOST_READ_IN_PART:
                    reply.read_whole()
            yield request_id, reply


class _StoredReply:
    """A stored reply, whose contacts become columns when rows want them."""

    def __init__(self, ledger: Ledger, stored: StoredReply, body: bytes) -> None:
        self._ledger = ledger
        self._stored = stored
        self._records: Sequence[Record] = parse_reply(body).records
        self._is_text = is_utf8(body)
        self._whole: Flattened | None = None
        self._found = sum(record.contact is not None for record in self._records)
        self.records: Final = len(self._records)

    def contacts(self, positions: Indices) -> tuple[Flattened, Indices]:
        """The contacts at these positions, and the index of each among them."""
        wanted = distinct(np.sort(positions))
        if self._whole is None and len(wanted) < _SHARE_READ_WHOLE * self._found:
            return flatten(map(self._contact, wanted.tolist())), np.searchsorted(wanted, positions)
        return _few_of(self.read_whole(), positions)

    def read_whole(self) -> Flattened:
        """All of its contacts, which are kept as columns."""
        if self._whole is None:
            self._whole = flatten(map(self._contact, range(self.records)))
            self._records = ()
            kept_columns = self._ledger.kept_columns
            kept_columns.keep(
                kept_columns.row_for(
                    self._stored.request_id, self._whole, reply_checksum=self._stored.checksum
                )
            )
        return self._whole

    def _contact(self, position: int) -> Contact | None:
        raw = self._records[position].contact
        try:
            return None if raw is None else read_contact(raw, is_text=self._is_text)
        except ValueError:
            # It is no JSON after all, and so it was never counted as a contact.
            return None


class _KeptReply:
    """A stored reply whose contacts were kept as columns."""

    def __init__(self, contacts: Flattened) -> None:
        self._contacts = contacts
        self.records: Final = contacts.columns.num_rows

    def contacts(self, positions: Indices) -> tuple[Flattened, Indices]:
        """As of a `_StoredReply`."""
        return _few_of(self._contacts, positions)


def _few_of(contacts: Flattened, positions: Indices) -> tuple[Flattened, Indices]:
    """Of contacts of which few are wanted, hardly more than those, and their indices: the others need not be copied."""
    wanted = distinct(np.sort(positions))
    if len(wanted) >= _SHARE_READ_WHOLE * np.count_nonzero(~contacts.is_vacant):
        # Those that missed, too: they stand between this reply's contacts and the next one's.
        return contacts, positions
    first, end = int(wanted[0]), int(wanted[-1]) + 1
    if len(wanted) >= _SHARE_READ_WHOLE * (end - first):
        return contacts.slice(first, end), positions - first
    return contacts.take(wanted), np.searchsorted(wanted, positions)


_Reply: TypeAlias = _StoredReply | _KeptReply


class _Inflater:
    """Reads stored replies in a thread, and those ahead that will be wanted next: as columns, if they are kept.

    It begins several at a time. Whenever the thread has to be woken, both threads wait for the interpreter;
    for each reply alone, that would cost what the thread saves.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="eb_dagster_inflater")
        self._expected: Sequence[int] = ()
        self._begun: dict[int, Future[Callable[[], _Reply] | None]] = {}

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def expect(self, request_ids: Sequence[int]) -> None:
        """Name the replies that will be wanted, in their order; none of them has to be."""
        self._expected = request_ids

    def read(self, request_id: int) -> _Reply:
        """The reply to this request. Begins with those that are expected after it."""
        if request_id not in self._begun:
            while self._begun:
                self._begun.popitem()[1].cancel()
            self._begin([request_id])
        begun = self._begun.pop(request_id)
        if not self._begun:
            next_expected = bisect_right(self._expected, request_id)
            # What cannot be read is reported when it is wanted.
            with contextlib.suppress(LedgerError):
                self._begin(self._expected[next_expected : next_expected + _INFLATED_AHEAD])
        found = begun.result()
        if found is None:
            # What was kept cannot be used.
            (stored,) = self._ledger.replies([request_id])
            found = self._inflate(stored)
        return found()

    def _begin(self, request_ids: Sequence[int]) -> None:
        kept = self._ledger.kept_columns.find(request_ids)
        for request_id, row in kept.items():
            self._begun[request_id] = self._thread.submit(self._open, row)
        for stored in self._ledger.replies(number for number in request_ids if number not in kept):
            self._begun[stored.request_id] = self._thread.submit(self._inflate, stored)

    def _open(self, row: Row) -> Callable[[], _Reply] | None:
        contacts = self._ledger.kept_columns.open(row)
        return None if contacts is None else partial(_KeptReply, contacts)

    def _inflate(self, stored: StoredReply) -> Callable[[], _Reply]:
        # Parsed where it is wanted: that needs the interpreter, and inflating does not.
        return partial(_StoredReply, self._ledger, stored, decompress(stored)[0])

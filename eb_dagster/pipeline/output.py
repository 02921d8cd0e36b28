"""The columns that are added to rows that have ended, and what the report counts of them.

Contacts that were bought in this run are columns already; those of earlier runs are read back.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any, Final, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.api.envelope import Record, parse_reply
from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import Flattened, as_json, flatten
from eb_dagster.contacts.parser import is_utf8
from eb_dagster.contacts.schema import AGREES, STATUS_COLUMNS, select
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.errors import LedgerError
from eb_dagster.identifiers.canonical import identifiers_in
from eb_dagster.identifiers.kinds import is_weak
from eb_dagster.identifiers.model import Candidates, FieldType, Identifier
from eb_dagster.identifiers.names import agrees
from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.ledger import Ledger, SuppressionList
from eb_dagster.ledger.lookup import Known
from eb_dagster.ledger.replies import contact_of, decompress
from eb_dagster.pipeline.eligibility import contradicts, may_be_a_households
from eb_dagster.pipeline.plan import Block
from eb_dagster.pipeline.report import Report

_REPLIES_KEPT: Final = 16
# A reply of which the rows of a block want at least this share is read as a whole, for the next block to want
# the rest. Of such replies a block has no more than are kept.
_SHARE_READ_WHOLE: Final = 0.5
_INFLATED_AHEAD: Final = 8
_NOWHERE: Final = -1
_NO_SHIFT: Final = -(2**62)
_MOST_PIECES: Final = 64
_MATCHED: Final[dict[str | None, bool]] = {"matched": True, "not_found": False}


class Finisher:
    """Turns rows that have ended into columns. `schema` is what it adds, `columns` which of it.

    Replies of earlier runs are inflated in a thread; `with` ends that.
    """

    def __init__(
        self, ledger: Ledger, schema: pa.Schema, *, columns: Sequence[str] | None, prefix: str
    ) -> None:
        self._ledger = ledger
        self._schema = schema
        self._columns = [one.name for one in select(columns, prefix=prefix)]
        self._has_agrees = prefix + AGREES.name in schema.names
        self._inflated = _Inflated(ledger)
        self._loader = _Loader(self._inflated)
        self._list_version = ledger.suppression_list().version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inflated.close()

    def expect(self, request_ids: Sequence[int]) -> None:
        """Name requests, the oldest first, whose contacts the rows that are finished next will want."""
        self._inflated.expect(request_ids)

    def finish(self, block: Block, *, run: str, report: Report) -> pa.RecordBatch:
        """The added columns of these rows, in order. Counts them in the report."""
        ended = _Ended(block, run)
        found = self._loader.load(block, ended)
        self._withhold(block, ended, found)
        agreement = _compare(block, found) if self._has_agrees else {}
        report.contradicted += _take_back(block, ended, found, agreement)
        status = [
            *ended.columns(),
            *([_agrees(agreement, len(block.candidates))] if self._has_agrees else []),
        ]
        verdicts = Counter(agreement.values())
        report.agrees += verdicts[True]
        report.disagrees += verdicts[False]
        contacts = found.columns(self._columns)
        ended.count(report)
        found.count_oddities(report)
        for name, array in zip(self._columns, contacts, strict=True):
            report.filled[name] += len(array) - array.null_count
        return cast("Any", pa.RecordBatch).from_arrays([*status, *self._shown(contacts)], schema=self._schema)

    def _shown(self, contacts: Sequence[pa.Array[Any]]) -> Iterator[pa.Array[Any]]:
        """These columns as the schema has them: lists may be JSON there."""
        for kind, array in zip(self._schema.types[-len(contacts) :], contacts, strict=True):
            yield array if array.type == kind else as_json(array)

    def _withhold(self, block: Block, ended: _Ended, found: _Found) -> None:
        """Hand out nobody who is suppressed, under whichever identifier they were found."""
        listed = self._ledger.suppression_list()
        if not listed.keys:
            return
        inside = {at: identifiers_in(contacts.texts(row)) for at, contacts, row in found}
        if listed.version != self._list_version:
            # By what the rows themselves offer, they were looked up when they came.
            for at, one in enumerate(block.candidates):
                inside[at] = [*inside.get(at, ()), *one.identifiers]
        barred = self._ledger.suppressed(
            {one for several in inside.values() for one in several}, among=listed
        )
        for at, several in inside.items():
            if not barred.isdisjoint(several):
                ended.suppress(at)
                found.drop(at)


def _compare(block: Block, found: _Found) -> dict[int, bool | None]:
    """By row that gets a contact and has a name, whether that is the contact's too."""
    agreement: dict[int, bool | None] = {}
    for at, contacts, row in found:
        if (person := block.candidates[at].person) is not None:
            agreement[at] = agrees(person, **contacts.names(row))
    return agreement


def _agrees(agreement: Mapping[int, bool | None], rows: int) -> pa.Array[Any]:
    return pa.array([agreement.get(at) for at in range(rows)], type=AGREES.type)


def _take_back(block: Block, ended: _Ended, found: _Found, agreement: dict[int, bool | None]) -> int:
    """Give no row a contact that is not the row's person's. Returns how many rows those were."""
    contradicted = [
        at
        for at, contacts, row in found
        if (by := ended.answered_by(at)) is not None
        and (
            (agreement.get(at) is False and may_be_a_households(by))
            or (
                is_weak(by)
                and contradicts(
                    block.candidates[at].identifiers, identifiers_in(contacts.texts(row), ("email",))
                )
            )
        )
    ]
    for at in contradicted:
        ended.contradict(at)
        found.drop(at)
        agreement.pop(at, None)
    return len(contradicted)


class Withholder:
    """Takes people out of rows that have left, if they were suppressed since it was made."""

    def __init__(
        self, ledger: Ledger, schema: pa.Schema, *, prefix: str, required: int, report: Callable[[], Report]
    ) -> None:
        self._ledger = ledger
        self._added = schema
        self._prefix = prefix
        self._required = required
        self._report = report
        self._version = ledger.suppression_list().version

    def news(self) -> SuppressionList | None:
        """The suppression list if it has changed since this was asked last."""
        listed = self._ledger.suppression_list()
        if listed.version == self._version:
            return None
        self._version = listed.version
        return listed

    def withhold(self, rows: Any, offered: Sequence[Candidates], listed: SuppressionList) -> Any:
        """The rows of a batch or table, of which it is given what each offers, without those on the list."""
        people = [list(one.identifiers) for one in offered]
        answered: dict[int, Identifier] = {}
        kinds, queries, found = (self._values(rows, name) for name in ("field_type", "query", "matched"))
        for at, (kind, query) in enumerate(zip(kinds, queries, strict=True)):
            if query is not None:
                by = Identifier(kind, query)
                people[at].append(by)
                if found[at]:
                    answered[at] = by
        for at, texts in self._texts(rows, answered):
            people[at] += identifiers_in(texts)
        barred = self._ledger.suppressed({one for several in people for one in several}, among=listed)
        is_barred = np.array([not barred.isdisjoint(several) for several in people], dtype=np.bool_)
        statuses = self._values(rows, "status")
        is_barred &= np.array([one not in ("suppressed", "invalid") for one in statuses], dtype=np.bool_)
        return self._blanked(rows, is_barred) if is_barred.any() else rows

    def _values(self, rows: Any, name: str) -> list[Any]:
        return rows.column(self._prefix + name).to_pylist()

    def _texts(
        self, rows: Any, answered: Mapping[int, Identifier]
    ) -> Iterator[tuple[int, Mapping[FieldType, Sequence[str]]]]:
        """Who the contacts say they are: by their columns, else by the ledger."""
        names = ("social_profiles", "emails", "phones")
        if all(self._prefix + name in self._added.names for name in names):
            for at, (profiles, emails, phones) in enumerate(
                zip(*(self._values(rows, name) for name in names), strict=True)
            ):
                urls = [one["url"] for one in profiles or () if one["url"]]
                yield at, {"social_profile": urls, "email": emails or (), "phone": phones or ()}
            return
        keys = self._ledger.keys(answered.values())
        known, _ = self._ledger.lookup(keys, required=self._required, alias_keys=keys)
        of_request: dict[int, list[tuple[int, int]]] = {}
        for at, one in zip(answered, known.of(keys), strict=True):
            if one is not None and one.position >= 0:
                of_request.setdefault(one.request_id, []).append((at, one.position))
        for stored in self._ledger.replies(of_request):
            records = parse_reply(decompress(stored)[0]).records
            for at, position in of_request[stored.request_id]:
                yield at, contact_of(records[position]).texts

    def _blanked(self, rows: Any, is_barred: npt.NDArray[np.bool_]) -> Any:
        self._count(rows.filter(pa.array(is_barred)))
        told: dict[str, Any] = {"status": "suppressed", "from_ledger": False}
        compute: Any = pc
        for field in cast("Any", self._added):
            value: Any = cast("Any", pa).scalar(
                told.get(field.name.removeprefix(self._prefix)), type=field.type
            )
            at = rows.schema.get_field_index(field.name)
            column = compute.if_else(pa.array(is_barred), value, rows.column(at))
            rows = rows.set_column(at, rows.schema.field(at), column)
        return rows

    def _count(self, barred: Any) -> None:
        """Count these rows in the report as suppressed, and no more as what they were."""
        report = self._report()
        report.suppressed += barred.num_rows
        report.from_ledger -= sum(self._values(barred, "from_ledger"))
        for status, kind in zip(
            self._values(barred, "status"), self._values(barred, "field_type"), strict=True
        ):
            setattr(report, status, getattr(report, status) - 1)
            if kind is not None and status in _MATCHED:
                report.answered_by[kind] -= 1
                report.matched_by[kind] -= status == "matched"
        for name in self._added.names[len(STATUS_COLUMNS) :]:
            column = barred.column(name)
            report.filled[name.removeprefix(self._prefix)] -= len(column) - column.null_count


class _Ended:
    """How the rows of a block ended, an entry for each."""

    def __init__(self, block: Block, run: str) -> None:
        settled = block.settled
        self._block = block
        self._statuses = block.statuses
        # Of whoever is suppressed, it is not told by which identifier.
        questions = [None if row.status == "suppressed" else row.question for row in block.rows]
        self._identifiers = block.merge(
            [None if one is None else one.identifier for one in questions],
            [] if settled is None else settled.identifiers(),
        )
        self.known: list[Known | None] = [
            one.answer if one is not None and row.status in _MATCHED else None
            for one, row in zip(questions, block.rows, strict=True)
        ]
        """What answered those that were not settled."""
        self.answers: Final = None if settled is None else settled.answers()
        """What answered those that were."""
        self._is_from_ledger = np.zeros(len(self._statuses), dtype=np.bool_)
        self._answered_at = np.full(len(self._statuses), np.nan)
        if self.answers is not None:
            self._is_from_ledger[self.answers.at] = self.answers.is_from_ledger
            self._answered_at[self.answers.at] = self.answers.answered_at
        if self.known:
            at = np.array(block.at)
            self._is_from_ledger[at] = [
                one is not None and (one.run != run or one.is_alias) for one in self.known
            ]
            moments = [None if one is None else one.at for one in self.known]
            self._answered_at[at] = np.array(moments, dtype=np.float64)

    def suppress(self, row: int) -> None:
        """Tell nothing of this row."""
        self._statuses[row], self._identifiers[row] = "suppressed", None
        self._is_from_ledger[row], self._answered_at[row] = False, np.nan

    def answered_by(self, row: int) -> Identifier | None:
        """What found this row's contact."""
        return self._identifiers[row]

    def contradict(self, row: int) -> None:
        """Whoever was found is not this row's person."""
        self._statuses[row] = "not_found"

    def columns(self) -> list[pa.Array[Any]]:
        """`STATUS_COLUMNS`."""
        values: list[Any] = [
            [_MATCHED.get(status) for status in self._statuses],
            self._statuses,
            [None if one is None else one.field_type for one in self._identifiers],
            [None if one is None else one.value for one in self._identifiers],
            self._is_from_ledger,
            np.rint(self._answered_at * 1e6).astype("datetime64[us]"),
        ]
        return [pa.array(column, type=one.type) for one, column in zip(STATUS_COLUMNS, values, strict=True)]

    def count(self, report: Report) -> None:
        """Count how rows ended, and the kinds of identifiers that answered."""
        report.rows += len(self._statuses)
        report.from_ledger += int(np.count_nonzero(self._is_from_ledger))
        kinds = [None if one is None else one.field_type for one in self._identifiers]
        for (status, kind), count in Counter(zip(self._statuses, kinds, strict=True)).items():
            if status is not None and status != "invalid":
                setattr(report, status, getattr(report, status) + count)
            if status in _MATCHED and kind is not None:
                report.answered_by[kind] += count
                if status == "matched":
                    report.matched_by[kind] += count
        report.answered_by.update(kind for at, kind in self._missed_kinds() if self._statuses[at] in _MATCHED)
        invalid, unusable = self._block.reasons
        report.invalid.update(invalid)
        report.unusable.update(unusable)

    def _missed_kinds(self) -> Iterator[tuple[int, FieldType]]:
        """Of rows of several identifiers: the row, and each other kind that was asked, and missed."""
        for at, row in zip(self._block.at, self._block.rows, strict=True):
            if len(row.questions) > 1 and row.question is not None:
                kinds: set[FieldType] = {
                    one.identifier.field_type for one in row.questions if one.state == "missed"
                }
                kinds.discard(row.question.identifier.field_type)
                for kind in kinds:
                    yield at, kind
        if self._block.settled is not None:
            yield from self._block.settled.missed_kinds()


class _Found:
    """Which contact each row gets: of which `Flattened`, and which of its rows."""

    def __init__(self, rows: int) -> None:
        self._sources: list[Flattened] = []
        self._starts: dict[int, int] = {}
        self._end = 0
        self._places: npt.NDArray[np.int64] = np.full(rows, _NOWHERE, dtype=np.int64)

    def start_of(self, contacts: Flattened) -> int:
        """Where these contacts begin among all that rows get."""
        start = self._starts.get(id(contacts))
        if start is None:
            start = self._starts[id(contacts)] = self._end
            self._sources.append(contacts)
            self._end += contacts.columns.num_rows
        return start

    def put(self, rows: Sequence[int] | Indices, places: Sequence[int] | Indices) -> None:
        """Give these rows the contacts at these places among all."""
        self._places[rows] = places

    def drop(self, row: int) -> None:
        """Give this row nobody."""
        self._places[row] = _NOWHERE

    def __iter__(self) -> Iterator[tuple[int, Flattened, int]]:
        """Each row that gets a contact, with that contact's place."""
        for contacts, start in zip(self._sources, self._starts.values(), strict=True):
            for row in self._given(contacts, start).tolist():
                yield row, contacts, int(self._places[row]) - start

    def count_oddities(self, report: Report) -> None:
        """Count what is odd about the contacts that rows get."""
        for contacts, start in zip(self._sources, self._starts.values(), strict=True):
            for paths, count in ((contacts.drift, report.drift), (contacts.unknown_keys, report.new_fields)):
                if paths:
                    given = (self._places[self._given(contacts, start)] - start).tolist()
                    count.update(chain.from_iterable(paths[one] for one in given if one in paths))

    def _given(self, contacts: Flattened, start: int) -> Indices:
        end = start + contacts.columns.num_rows
        return np.flatnonzero((self._places >= start) & (self._places < end))

    def columns(self, names: Sequence[str]) -> list[pa.Array[Any]]:
        """Contact columns of the rows; null for who gets nobody."""
        sources = self._sources or [flatten([])]
        table = cast("Any", pa.Table).from_batches([one.columns for one in sources]).select(list(names))
        is_vacant = np.concatenate([one.is_vacant for one in sources])
        return _gather(table, self._places, is_vacant=is_vacant)


def _gather(
    table: Any, places: npt.NDArray[np.int64], *, is_vacant: npt.NDArray[np.bool_]
) -> list[pa.Array[Any]]:
    """The columns of these rows of the table; nulls for `_NOWHERE`. What is vacant in it holds only nulls."""
    at = np.arange(len(places))
    is_found = places != _NOWHERE
    shift = np.where(is_found, places - at, _NO_SHIFT)
    found_at = np.flatnonzero(is_found)
    if len(found_at):
        # Who was not found has a vacant row in the reply, mostly right beside who was.
        nearest = found_at[np.maximum(np.searchsorted(found_at, at, side="right") - 1, 0)]
        beside = at + shift[nearest]
        fits = ~is_found & (beside >= 0) & (beside < len(is_vacant))
        fits[fits] = is_vacant[beside[fits]]
        shift[fits] = shift[nearest[fits]]
    starts = np.flatnonzero(np.diff(shift, prepend=_NO_SHIFT - 1))
    if len(starts) > _MOST_PIECES:
        indices = cast("Any", pa).array(places, mask=~is_found)
        return [pc.take(column.combine_chunks(), indices) for column in table.columns]
    # Rows that stand together are copied as one, a tenth of the time that it takes one by one.
    pieces = [table.slice(0, 0)]
    for start, end in pairwise([*starts.tolist(), len(places)]):
        if shift[start] == _NO_SHIFT:
            nobody = flatten([None] * (end - start)).columns
            pieces.append(cast("Any", pa.Table).from_batches([nobody]).select(table.column_names))
        else:
            pieces.append(table.slice(start + int(shift[start]), end - start))
    return [column.combine_chunks() for column in cast("Any", pa).concat_tables(pieces).columns]


class _Loader:
    """Finds the contacts of rows, and reads those of earlier runs back from the ledger, a reply at a time."""

    def __init__(self, inflated: _Inflated) -> None:
        self._inflated = inflated
        self._replies: OrderedDict[int, _Stored] = OrderedDict()

    def load(self, block: Block, ended: _Ended) -> _Found:
        """The contacts that these rows get."""
        found = _Found(len(block.candidates))
        given: list[int] = []
        places: list[int] = []
        lacking: list[tuple[int, int, int]] = []
        for at, row, answer in zip(block.at, block.rows, ended.known, strict=True):
            if answer is None:
                continue
            if answer.contacts is None:
                is_found = row.status == "matched" and answer.standing == "matched"
                lacking.append((at, answer.request_id, answer.position if is_found else _NOWHERE))
            elif row.status == "matched":
                given.append(at)
                places.append(found.start_of(answer.contacts) + answer.row)
        if given:
            found.put(given, places)
        if lacking:
            at, request_ids, positions = np.array(lacking).T
            self._read_back(at, request_ids, positions, found)
        if ended.answers is not None:
            self._read_back(ended.answers.at, ended.answers.request_id, ended.answers.position, found)
        return found

    def _read_back(self, rows: Indices, of_request: Indices, positions: Indices, found: _Found) -> None:
        """Find in the ledger the contacts at these positions of the replies to these requests.

        Who was not found keeps a place, so that rows and contacts stand alike.
        """
        holding = np.unique(of_request[positions != _NOWHERE])
        for request_id, stored in self._stored(holding.tolist()):
            mine = np.flatnonzero(of_request == request_id)
            asked = positions[mine]
            if not _NOWHERE <= asked.min() <= asked.max() < stored.records:
                raise LedgerError(
                    f"the reply of request {request_id} is damaged in the ledger; restore it from a backup"
                )
            contacts, home = stored.contacts(asked)
            is_found = asked != _NOWHERE
            found.put(rows[mine[is_found]], found.start_of(contacts) + home[is_found])

    def _stored(self, request_ids: Sequence[int]) -> Iterator[tuple[int, _Stored]]:
        """The replies to these requests, first those that are at hand."""
        unread = [one for one in request_ids if one not in self._replies]
        for request_id in request_ids:
            if request_id in self._replies:
                yield request_id, self._replies[request_id]
        for request_id in unread:
            self._replies[request_id] = _Stored(self._inflated.read(request_id))
            if len(self._replies) > _REPLIES_KEPT:
                self._replies.popitem(last=False)
            yield request_id, self._replies[request_id]


class _Stored:
    """A stored reply, whose contacts become columns when rows want them."""

    def __init__(self, body: bytes) -> None:
        self._records: Sequence[Record] = parse_reply(body).records
        self._is_text = is_utf8(body)
        self._whole: Flattened | None = None
        self.records: Final = len(self._records)

    def contacts(self, positions: Indices) -> tuple[Flattened, Indices]:
        """Those at these positions, each once, and the row of each position. -1 is nobody's."""
        if self._whole is None:
            wanted, first, which = np.unique(positions, return_index=True, return_inverse=True)
            if len(wanted) < _SHARE_READ_WHOLE * self.records:
                home: Indices = first[which]
                once = np.where(home == np.arange(len(home)), positions, _NOWHERE)
                return flatten([self._contact(one) for one in cast("list[int]", once.tolist())]), home
            self._whole = flatten([self._contact(one) for one in range(self.records)])
            self._records = ()
        return self._whole, positions

    def _contact(self, position: int) -> Contact | None:
        raw = None if position == _NOWHERE else self._records[position].contact
        try:
            return None if raw is None else read_contact(raw, is_text=self._is_text)
        except ValueError:
            # No JSON after all: nobody was told that this is a contact.
            return None


class _Inflated:
    """Stored replies, inflated in a thread, where those that will be wanted next are too.

    These are begun some at a time: whenever the thread has to be woken, both threads wait for the
    interpreter, and for each reply alone that would cost what the thread saves.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="eb_dagster_inflater")
        self._expected: Sequence[int] = ()
        self._begun: dict[int, Future[tuple[bytes, bool]]] = {}

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def expect(self, request_ids: Sequence[int]) -> None:
        """Name the replies that will be wanted, in their order; none of them has to be."""
        self._expected = request_ids

    def read(self, request_id: int) -> bytes:
        """The reply of this request. Begins with those that are expected after it."""
        if request_id not in self._begun:
            while self._begun:
                self._begun.popitem()[1].cancel()
            self._begin([request_id])
        wanted = self._begun.pop(request_id)
        if not self._begun:
            at = bisect_right(self._expected, request_id)
            # What cannot be read is told to whoever wants it.
            with contextlib.suppress(LedgerError):
                self._begin(self._expected[at : at + _INFLATED_AHEAD])
        return wanted.result()[0]

    def _begin(self, request_ids: Sequence[int]) -> None:
        for stored in self._ledger.replies(request_ids):
            self._begun[stored.request_id] = self._thread.submit(decompress, stored)

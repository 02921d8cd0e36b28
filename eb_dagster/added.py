"""The columns that are added to rows that have ended, and what the report counts of them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.contacts import STATUS_COLUMNS, Contact, Flattened, flatten, is_utf8, read_contact, select
from eb_dagster.errors import LedgerError
from eb_dagster.identifiers import identifiers_in
from eb_dagster.ledger import Ledger
from eb_dagster.memory import POOL
from eb_dagster.plan import Question, Row
from eb_dagster.purchase import Answer, decompress
from eb_dagster.report import Report
from eb_dagster.wire import Record, parse_reply

_REPLIES_KEPT: Final = 16
_NOWHERE: Final = -1
_NO_SHIFT: Final = -(2**62)
_MOST_PIECES: Final = 64
_MATCHED: Final = {"matched": True, "not_found": False}


class Finisher:
    """Turns rows that have ended into columns. `schema` is what it adds, `columns` which of it."""

    def __init__(
        self, ledger: Ledger, schema: pa.Schema, *, columns: Sequence[str] | None, prefix: str
    ) -> None:
        self._ledger = ledger
        self._schema = schema
        self._columns = [one.name for one in select(columns, prefix=prefix)]
        self._loader = _Loader(ledger)

    def finish(self, rows: Sequence[Row], *, run: str, report: Report) -> pa.RecordBatch:
        """The added columns of these rows, in order. Counts them in the report."""
        self._loader.load(rows)
        self._withhold(rows)
        status = _status_arrays(rows, run, report)
        contacts = _contact_columns([_found(row) for row in rows], self._columns, report)
        for name, array in zip(self._columns, contacts, strict=True):
            report.filled[name] += len(array) - array.null_count
        return cast("Any", pa.RecordBatch).from_arrays([*status, *contacts], schema=self._schema)

    def _withhold(self, rows: Sequence[Row]) -> None:
        """Hand out nobody who is suppressed, under whichever identifier they were found."""
        if not self._ledger.has_suppressed():
            return
        inside = {
            at: identifiers_in(cast("Flattened", answer.contacts).texts(answer.row))
            for at, row in enumerate(rows)
            if (answer := _found(row))
        }
        barred = self._ledger.suppressed({one for found in inside.values() for one in found})
        for at, found in inside.items():
            if not barred.isdisjoint(found):
                rows[at].status = "suppressed"


def _found(row: Row) -> Answer | None:
    """The contact that a matched row gets."""
    return cast(Answer, row.question.answer) if row.status == "matched" and row.question is not None else None


def _status_arrays(rows: Sequence[Row], run: str, report: Report) -> list[pa.Array[Any]]:
    """`STATUS_COLUMNS` of these rows."""
    kinds: list[str | None] = []
    queries: list[str | None] = []
    from_ledger: list[bool] = []
    moments: list[int | None] = []
    matched_by: list[str] = []
    answered_by: list[str] = []
    for row in rows:
        status, question = row.status, row.question
        if row.reasons:
            report.unusable.update([reason for reason in row.reasons if reason != "blank"])
        if status == "invalid":
            report.invalid[row.reasons[0] if row.reasons else "blank"] += 1
        known = None
        if question is None or status == "suppressed":
            kinds.append(None)
            queries.append(None)
        else:
            kind = question.identifier.field_type
            kinds.append(kind)
            queries.append(question.identifier.value)
            if status == "matched" or status == "not_found":
                known = cast("Answer | None", question.answer)
                if status == "matched":
                    matched_by.append(kind)
                if len(row.questions) == 1:
                    answered_by.append(kind)
                else:
                    answered_by.extend({
                        one.identifier.field_type
                        for one in row.questions
                        if one is question or one.state == "missed"
                    })  # fmt: skip
        of = None if known is None else known.known
        from_ledger.append(of is not None and (of.run != run or of.is_alias))
        moments.append(None if of is None or of.at is None else round(of.at * 1e6))
    statuses = [row.status for row in rows]
    report.rows += len(rows)
    report.from_ledger += sum(from_ledger)
    report.matched_by.update(matched_by)
    report.answered_by.update(answered_by)
    for status, count in Counter(statuses).items():
        if status != "invalid":
            setattr(report, cast(str, status), getattr(report, cast(str, status)) + count)
    values: list[Any] = [
        [_MATCHED.get(cast(str, status)) for status in statuses],
        statuses, kinds, queries, from_ledger, moments,
    ]  # fmt: skip
    return [
        pa.array(column, type=one.type, memory_pool=POOL)
        for one, column in zip(STATUS_COLUMNS, values, strict=True)
    ]


def _contact_columns(
    answers: Sequence[Answer | None], names: Sequence[str], report: Report
) -> list[pa.Array[Any]]:
    """Contact columns of these rows, gathered from the replies that they came with; else null."""
    sources: dict[int, tuple[int, Flattened]] = {}
    starts = 0
    places: list[int] = []
    for answer in answers:
        if answer is None or answer.contacts is None:
            places.append(_NOWHERE)
            continue
        flattened = answer.contacts
        source = sources.get(id(flattened))
        if source is None:
            source = sources[id(flattened)] = (starts, flattened)
            starts += flattened.columns.num_rows
        places.append(source[0] + answer.row)
        if flattened.drift or flattened.unknown_keys:
            report.drift.update(flattened.drift.get(answer.row, ()))
            report.new_fields.update(flattened.unknown_keys.get(answer.row, ()))
    found = [flattened for _, flattened in sources.values()] or [flatten([])]
    table = cast("Any", pa.Table).from_batches([one.columns for one in found]).select(list(names))
    is_vacant = np.concatenate([one.is_vacant for one in found])
    return _gather(table, np.array(places, dtype=np.int64), is_vacant=is_vacant)


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
        indices = cast("Any", pa).array(places, mask=~is_found, memory_pool=POOL)
        return [pc.take(column.combine_chunks(POOL), indices, memory_pool=POOL) for column in table.columns]
    # Rows that stand together are copied as one, a tenth of the time that it takes one by one.
    pieces = [table.slice(0, 0)]
    for start, end in pairwise([*starts.tolist(), len(places)]):
        if shift[start] == _NO_SHIFT:
            nobody = flatten([None] * (end - start)).columns
            pieces.append(cast("Any", pa.Table).from_batches([nobody]).select(table.column_names))
        else:
            pieces.append(table.slice(start + int(shift[start]), end - start))
    return [column.combine_chunks(POOL) for column in cast("Any", pa).concat_tables(pieces).columns]


class _Loader:
    """Reads bought contacts back from the ledger, a reply at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._replies: OrderedDict[int, tuple[Sequence[Record], bool]] = OrderedDict()

    def load(self, rows: Sequence[Row]) -> None:
        """Fill in the contact of every matched row that has none yet."""
        wanted: dict[int, list[Question | None]] = {}
        for row in rows:
            if row.status not in _MATCHED or row.question is None:
                continue
            answer = cast("Answer | None", row.question.answer)
            if answer is None or answer.contacts is not None:
                continue
            is_found = row.status == "matched" and answer.known.standing == "matched"
            # Who was not found keeps a place, so that rows and contacts stand alike.
            wanted.setdefault(answer.known.request_id, []).append(row.question if is_found else None)
        holding = [
            one for one, questions in wanted.items() if any(question is not None for question in questions)
        ]
        for request_id, records, is_text in self._records(holding):
            self._fill_in(wanted[request_id], request_id, records, is_text=is_text)

    @staticmethod
    def _fill_in(
        questions: Sequence[Question | None], request_id: int, records: Sequence[Record], *, is_text: bool
    ) -> None:
        contacts: list[Contact | None] = []
        rows: dict[int, int] = {}
        for question in questions:
            position = None if question is None else cast(Answer, question.answer).known.position
            if position is None or position in rows:
                contacts.append(None)
                continue
            if position >= len(records):
                raise LedgerError(
                    f"the reply of request {request_id} is damaged in the ledger; restore it from a backup"
                )
            rows[position] = len(contacts)
            contacts.append(read_contact(records[position].contact or b"null", is_text=is_text))
        flattened = flatten(contacts)
        for question in questions:
            if question is not None:
                known = cast(Answer, question.answer).known
                question.answer = Answer(known, flattened, rows[known.position])

    def _records(self, request_ids: Sequence[int]) -> Iterator[tuple[int, Sequence[Record], bool]]:
        """The records of each of these requests' replies, and whether all of the reply is UTF-8."""
        unread = [one for one in request_ids if one not in self._replies]
        for request_id in request_ids:
            if request_id in self._replies:
                yield request_id, *self._replies[request_id]
        for stored in self._ledger.replies(sorted(unread)):
            body, _ = decompress(stored)
            self._replies[stored.request_id] = parse_reply(body).records, is_utf8(body)
            if len(self._replies) > _REPLIES_KEPT:
                self._replies.popitem(last=False)
            yield stored.request_id, *self._replies[stored.request_id]

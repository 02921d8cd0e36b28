"""The columns that are added to rows that have ended, and what the report counts of them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.contacts import STATUS_COLUMNS, Flattened, flatten, is_utf8, read_contact, select
from eb_dagster.errors import LedgerError
from eb_dagster.identifiers import identifiers_in
from eb_dagster.ledger import Ledger
from eb_dagster.memory import POOL
from eb_dagster.plan import Question, Row
from eb_dagster.purchase import Answer, decompress
from eb_dagster.report import Report
from eb_dagster.wire import Record, parse_reply

_REPLIES_KEPT: Final = 16
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
        self._loader.load([row.question for row in rows if row.question is not None])
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
    places: list[int | None] = []
    for answer in answers:
        if answer is None or answer.contacts is None:
            places.append(None)
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
    batches = [flattened.columns for _, flattened in sources.values()] or [flatten([]).columns]
    table = cast("Any", pa.Table).from_batches(batches).select(list(names))
    indices = pa.array(places, type=pa.int64(), memory_pool=POOL)
    return [pc.take(column.combine_chunks(POOL), indices, memory_pool=POOL) for column in table.columns]


class _Loader:
    """Reads bought contacts back from the ledger, a reply at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._replies: OrderedDict[int, tuple[Sequence[Record], bool]] = OrderedDict()

    def load(self, questions: Iterable[Question]) -> None:
        """Fill in the contact of every matched question that has none yet."""
        wanted: dict[int, dict[int, list[Question]]] = {}
        for question in questions:
            answer = cast("Answer | None", question.answer)
            if answer is None or answer.contacts is not None or answer.known.standing != "matched":
                continue
            of_request = wanted.setdefault(answer.known.request_id, {})
            of_request.setdefault(answer.known.position, []).append(question)
        for request_id, positions in sorted(wanted.items()):
            records, is_text = self._of(request_id)
            if max(positions) >= len(records):
                raise LedgerError(
                    f"the reply of request {request_id} is damaged in the ledger; restore it from a backup"
                )
            contacts = flatten([
                read_contact(records[one].contact or b"null", is_utf8=is_text) for one in positions
            ])  # fmt: skip
            for row, answered in enumerate(positions.values()):
                for question in answered:
                    question.answer = Answer(cast(Answer, question.answer).known, contacts, row)

    def _of(self, request_id: int) -> tuple[Sequence[Record], bool]:
        """The records of a request's reply, and whether all of it is UTF-8."""
        if request_id not in self._replies:
            (stored,) = self._ledger.replies([request_id])
            body, _ = decompress(stored)
            self._replies[request_id] = parse_reply(body).records, is_utf8(body)
            if len(self._replies) > _REPLIES_KEPT:
                self._replies.popitem(last=False)
        return self._replies[request_id]

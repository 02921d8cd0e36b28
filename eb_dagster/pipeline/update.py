"""Bring an enriched table up to date: ask what is new, has changed or is due, and keep the rest.

What is kept is checked as what is published: what the ledger says of a row counts first, and what the ledger no
longer knows stays as it stands in the table, unless it is suppressed, rejected or shared by now.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.api.envelope import pack_fields
from eb_dagster.contacts.enriched_tables import EnrichedTable
from eb_dagster.contacts.schema import STATUS_COLUMNS
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.ledger.rejections import rejected_among
from eb_dagster.pipeline.publication import Withholder
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import ANSWERED
from eb_dagster.pipeline.run import Chunks, LookAhead, Run, Setup, chunks_of
from eb_dagster.pipeline.window import Window
from eb_dagster.tables.keyed_rows import NO_ROW, KeyedRows, texts_in
from eb_dagster.tables.source import BATCH_ROWS, InputColumns, Source, joined_schema, table_source

_Mask = npt.NDArray[np.bool_]
_Indices = npt.NDArray[np.int64]

# The contact columns that show that a contact has a required field.
_COLUMN_OF_FIELD: Final[Mapping[str, str]] = {
    "email": "emails",
    "work_email": "work_email",
    "personal_email": "personal_email",
    "phone": "phone",
    "social_profile": "social_profiles",
}
_UNANSWERED: Final = ("not_asked", "in_doubt", "unreadable", "invalid")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Update:
    """The leads of today, and the table that was enriched earlier."""

    setup: Setup
    columns: InputColumns
    rows: KeyedRows
    earlier: EnrichedTable
    run: Callable[[Chunks, int | None, Callable[[], Chunks]], Iterator[pa.RecordBatch]]
    """The added columns of rows that may be asked, of so many. The last argument reads all rows."""
    report: Callable[[], Report]
    """Of the newest run."""
    open_runs: list[Run]
    """The enricher's runs that have not ended."""
    refuse: Callable[[Source], None]
    """Raises if rows may cost more than they may."""

    @property
    def schema(self) -> pa.Schema:
        """Of the table that results."""
        return joined_schema(self.rows.table.schema, self.setup.added_schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The table that results: nothing is sent before the first batch is asked for."""
        table = self.rows.table
        columns = [*table.columns, *self._added_columns().columns]
        yield from pa.Table.from_arrays(columns, schema=self.schema).to_batches(BATCH_ROWS)

    def _added_columns(self) -> pa.Table:
        """The added columns of all rows."""
        is_free = self._is_kept() | self.rows.is_gone
        self.refuse(self._source(np.flatnonzero(~is_free)))
        free = np.flatnonzero(is_free)
        known = self._looked_up(free)
        unknown = free[_is_status(known, self._name("status"), *_UNANSWERED)]
        contested = self._contested(unknown)
        # Where the earlier contact is the row's no more, what else the row offers may be asked.
        asked = np.union1d(np.flatnonzero(~is_free), contested[~self.rows.is_gone[contested]])
        source = self._source(asked)
        batches = self.run(chunks_of(source, self.columns), source.rows, self._all_rows)
        bought = pa.Table.from_batches(batches, schema=self.setup.added_schema)
        not_asked = asked[
            _is_status(bought, self._name("status"), "not_asked") & self._is_found_before()[asked]
        ]
        stay = np.concatenate(
            [np.setdiff1d(unknown, contested), np.setdiff1d(not_asked, self._contested(not_asked))]
        )
        columns = self._assembled((free, known), (asked, bought), (stay, self._checked(stay)))
        is_asked = np.zeros(len(is_free), dtype=np.bool_)
        is_asked[asked] = True
        self._count(self.report(), columns, is_asked)
        return columns

    # Which rows

    def _is_found_before(self) -> _Mask:
        """Which rows offer what they offered when a contact was found for them."""
        is_matched = _is_status(self._earlier_values(), self._name("status"), "matched")
        return is_matched & self._is_same()

    def _is_same(self) -> _Mask:
        """Which rows have the cells that they had, in the columns that are asked or compared."""
        is_same = ~self.rows.is_new
        for name in self.columns.names:
            if name not in self.earlier.others.column_names:
                return np.zeros(len(is_same), dtype=np.bool_)
            then = texts_in(_values_of(self.earlier.others[name], self.rows.earlier_row))
            now = texts_in(self.rows.table[name])
            differs = pc.coalesce(pc.not_equal(then, now), pc.xor(then.is_null(), now.is_null()))
            is_same &= ~np.asarray(differs, dtype=np.bool_)
        return is_same

    def _is_kept(self) -> _Mask:
        """Which rows need not be asked, by the table alone: a contact was found for them that is not due."""
        settings, earlier = self.setup.settings, self._earlier_values()
        is_kept = self._is_found_before()
        if settings.max_age is not None:
            since = (time.time() - settings.max_age.total_seconds()) * 1e6
            is_recent = pc.greater_equal(earlier[self._name("enriched_at")].cast(pa.int64()), int(since))
            is_kept &= np.asarray(is_recent.fill_null(False), dtype=np.bool_)
        for field in settings.required_fields:
            name = self._name(_COLUMN_OF_FIELD[field])
            if name in earlier.column_names:
                is_kept &= np.asarray(earlier[name].is_valid(), dtype=np.bool_)
        return is_kept

    def _contested(self, rows: _Indices) -> _Indices:
        """Those of the rows whose earlier contact is theirs no more: it was rejected, or what found it is shared."""
        earlier = self._earlier_values(rows)
        kinds, queries, is_found = (
            earlier[self._name(name)].to_pylist() for name in ("field_type", "query", "matched")
        )
        found_by = {
            index: Identifier(kind, query)
            for index, (kind, query, found) in enumerate(zip(kinds, queries, is_found, strict=True))
            if found and query is not None
        }
        if not found_by:
            return rows[:0]
        ledger, settings = self.setup.ledger, self.setup.settings
        keys = ledger.keys(found_by.values())
        rejected = rejected_among(ledger, keys)
        known, _ = ledger.lookup(keys, required=pack_fields(settings.required_fields), alias_keys=keys)
        look_ahead = LookAhead(self.setup, self.setup.purchase(Window(), Report()), is_plan=True)
        is_shared = look_ahead.shared_among(
            [Candidates((identifier,), ()) for identifier in found_by.values()]
        )
        return rows[
            [
                index
                for (index, identifier), key, answer in zip(
                    found_by.items(), keys, known.of(keys), strict=True
                )
                if key in rejected
                or is_shared(identifier)
                or (answer is not None and answer.standing == "missed")
            ]
        ]

    # Their columns

    def _looked_up(self, rows: _Indices) -> pa.Table:
        """The added columns of rows by what the ledger knows. Nothing is sent."""
        settings = replace(
            self.setup.settings,
            max_credits=0,
            over_budget="stop",
            max_age=None,
            retry_misses_after=None,
            in_doubt="hold",
            progress=False,
        )
        setup = replace(self.setup, settings=settings)
        source = self._source(rows)
        run = Run(setup, open_runs=self.open_runs, tells=False)
        batches = run.added_columns(
            chunks_of(source, self.columns), self.columns.layout, rows=source.rows, again=self._all_rows
        )
        return pa.Table.from_batches(batches, schema=self.setup.added_schema)

    def _all_rows(self) -> Chunks:
        """All rows, which are read first for what several people share."""
        return chunks_of(table_source(self.rows.table), self.columns)

    def _checked(self, rows: _Indices) -> pa.Table:
        """The earlier columns of rows, without those who are suppressed by now."""
        earlier = self._earlier_values(rows)
        if not len(rows):
            return earlier
        settings, ledger = self.setup.settings, self.setup.ledger
        withholder = Withholder(
            ledger,
            self.setup.added_schema,
            prefix=settings.prefix,
            required=pack_fields(settings.required_fields),
            # What is kept is counted when it has been checked.
            report=Report,
        )
        offered = [row for chunk in chunks_of(self._source(rows), self.columns) for row in chunk]
        return withholder.withhold(earlier, offered, ledger.suppression.current())

    def _assembled(self, *parts: tuple[_Indices, pa.Table]) -> pa.Table:
        """The added columns of all rows, of which a later part has the last word."""
        index = np.empty(self.rows.table.num_rows, dtype=np.int64)
        start = 0
        for rows, table in parts:
            index[rows] = np.arange(start, start + table.num_rows)
            start += table.num_rows
        tables = [table.cast(self.setup.added_schema) for _, table in parts]
        return pa.concat_tables(tables).take(pa.array(index))

    def _count(self, report: Report, columns: pa.Table, is_asked: _Mask) -> None:
        """Add to the report of what was asked those rows that were kept."""
        kept = columns.filter(pa.array(~is_asked))
        report.kept += kept.num_rows
        report.gone += int(np.count_nonzero(self.rows.is_gone))
        report.rows += kept.num_rows
        report.rows_read += kept.num_rows
        statuses, kinds = (kept[self._name(name)].to_pylist() for name in ("status", "field_type"))
        for (status, kind), count in Counter(zip(statuses, kinds, strict=True)).items():
            report.count_status(status, count)
            if status == "invalid":
                report.invalid["kept"] += count
            if status in ANSWERED:
                report.from_ledger += count
                report.answered_by[kind] += count
                report.matched_by[kind] += count if status == "matched" else 0
        for name in self.setup.added_schema.names[len(STATUS_COLUMNS) :]:
            report.filled[name.removeprefix(self.setup.settings.prefix)] += (
                kept.num_rows - kept[name].null_count
            )
        report.credits_saved = max(0, report.matched - report.credits_charged)

    # Tables

    def _name(self, column: str) -> str:
        return self.setup.settings.prefix + column

    def _earlier_values(self, rows: _Indices | None = None) -> Any:
        """The earlier added columns of rows, of all by default; null for new rows."""
        chosen = self.rows.earlier_row if rows is None else self.rows.earlier_row[rows]
        return _values_of(self.earlier.added_columns, chosen)

    def _source(self, rows: _Indices) -> Source:
        table = self.rows.table
        return table_source(table.take(pa.array(rows)))


def _values_of(values: Any, rows: _Indices) -> Any:
    """The values at these rows, null for `NO_ROW`."""
    return values.take(pa.array(rows, mask=rows == NO_ROW))


def _is_status(rows: Any, name: str, *statuses: str) -> _Mask:
    is_one = pc.is_in(rows[name], value_set=pa.array(statuses, type=pa.string()))
    return np.asarray(is_one, dtype=np.bool_)

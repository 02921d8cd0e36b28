"""Publish enriched tables, and take out of them who was suppressed since their rows were enriched."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.api.envelope import pack_fields, parse_reply
from eb_dagster.contacts.schema import STATUS_COLUMNS
from eb_dagster.errors import NOTHING_SENT, EnrichError, InputError, LedgerError
from eb_dagster.identifiers.canonical import identifiers_in
from eb_dagster.identifiers.model import Candidates, FieldType, Identifier
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import contact_of, decompress
from eb_dagster.ledger.suppression import SuppressionList
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import ANSWERED
from eb_dagster.settings import Settings
from eb_dagster.tables.atomic_file import check_writable, files_of_ledger
from eb_dagster.tables.object_store import Place
from eb_dagster.tables.parquet import (
    Revision,
    check_types,
    parquet_source,
    read_metadata,
    write_parquet,
)
from eb_dagster.tables.source import InputColumns, Source

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)
"""A batch or a table of enriched rows."""

_OFFERS_NOTHING: Final = Candidates((), ())


class Publisher:
    """Writes enriched tables. `report` gives the newest run's report."""

    def __init__(
        self, *, settings: Settings, ledger: Ledger, added_schema: pa.Schema, report: Callable[[], Report]
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._added_schema = added_schema
        self._report = report

    def check_target(self, path: Place, *, source: Place | None = None) -> None:
        """Refuse a path that cannot be written, the source or the ledger, or a table that another ledger has paid for."""
        kept = [] if self._ledger.file is None else files_of_ledger(self._ledger.file)
        check_writable(path, kept=kept if source is None else [("the input", source), *kept])
        sealed = read_metadata(path)
        if not sealed or sealed.get("endpoint") != self._ledger.endpoint:
            return
        newest_request = self._ledger.last_request()
        if sealed.get("ledger") != self._ledger.id or newest_request < int(sealed.get("request", "0")):
            raise LedgerError(
                f"the table {path.name} was paid for with a ledger that is not this one, or with a "
                "newer copy of it; going on would buy its contacts again. Name that ledger, or move "
                "the table away if paying again is what you want"
            )

    def earlier(self, path: Place) -> Source | None:
        """A table that is to be brought up to date; None if it is not there yet.

        Raises:
            LedgerError: this ledger did not pay for it at this address, so nobody knows who was rejected or forgotten.

        """
        sealed = read_metadata(path)
        if sealed is None:
            return None
        if (sealed.get("ledger"), sealed.get("endpoint")) != (self._ledger.id, self._ledger.endpoint):
            raise LedgerError(
                f"the table {path.name} was not made with this ledger from this address, so what was decided about its "
                "people is not known here; name the ledger and the address that it was made with"
            )
        return parquet_source(path)

    def check_earlier_text(self) -> None:
        """Refuse to bring a CSV up to date if nobody knows from which address its contacts are."""
        if set(self._ledger.endpoints()) - {self._ledger.endpoint}:
            raise LedgerError(
                "this ledger has contacts from more than one address, such as the sandbox's, and a CSV does not say "
                "from which its contacts are; update a Parquet table, or use a ledger for each address"
            )

    def note_published(self, path: Place) -> None:
        """Remember where contacts are written, so that `forget` knows of them."""
        self._ledger.publications.note(str(path.resolve()))

    def write(self, reader: pa.RecordBatchReader, path: Place) -> int:
        """Write enriched batches as a Parquet table to a path that was checked. Returns the rows."""
        check_types(reader.schema)
        # Before it is there: a table that `forget` does not know of would keep who is in it.
        self.note_published(path)
        report_before = self._report()
        revise = self.revisions(reader.schema)
        try:
            rows = write_parquet(
                reader,
                path,
                schema=reader.schema,
                metadata=self._seal,
                revise=revise,
            )
            # Somebody who was forgotten while the file took its place was looked for in the one before it.
            while (revision := revise()) is not None:
                revised = revision(parquet_source(path).batches())
                write_parquet(revised, path, schema=reader.schema, metadata=self._seal)
            return rows
        except EnrichError as error:
            # What cannot be written at the end was bought all the same.
            report = self._report()
            if report is not report_before and report.requests and error.spent == NOTHING_SENT:
                error.spent = report.spent
            raise

    def _seal(self) -> dict[str, str]:
        """What a table says of the ledger that has paid for it."""
        return {
            "ledger": self._ledger.id,
            "request": str(self._ledger.last_request()),
            "endpoint": self._ledger.endpoint,
        }

    def withholder(self) -> Withholder:
        """What takes out who is suppressed from now on."""
        return Withholder(
            self._ledger,
            self._added_schema,
            prefix=self._settings.prefix,
            required=pack_fields(self._settings.required_fields),
            report=self._report,
        )

    def revisions(self, schema: pa.Schema) -> Callable[[], Revision | None]:
        """To be asked before an enriched table of this schema is published.

        Each time, it gives what takes out who was suppressed since it was asked last; None if nobody was.
        """
        names = [name for name in schema.names if name not in self._added_schema.names]
        is_ours = len(names) + len(self._added_schema.names) == len(schema.names)
        if not is_ours:
            # It was made by something else, or with other settings.
            return lambda: None
        withholder = self.withholder()

        def revision() -> Revision | None:
            listed = withholder.changed_list()
            return None if listed is None else self._revision(withholder, names, listed)

        return revision

    def _revision(
        self, withholder: Withholder, names: Sequence[str], listed: SuppressionList
    ) -> Revision | None:
        columns: InputColumns | None = None
        # None if the identifier columns were left out of this table.
        with contextlib.suppress(InputError):
            columns = InputColumns.find(
                names,
                identifiers=self._settings.identifiers,
                person=None,
                default_region=self._settings.default_region,
            )

        def revised(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                offered = [_OFFERS_NOTHING] * batch.num_rows if columns is None else columns.read(batch)
                yield withholder.withhold(batch, offered, listed)

        return revised


class Withholder:
    """Takes people out of enriched rows if they were suppressed since it was made."""

    def __init__(
        self, ledger: Ledger, schema: pa.Schema, *, prefix: str, required: int, report: Callable[[], Report]
    ) -> None:
        self._ledger = ledger
        self._added_schema = schema
        self._prefix = prefix
        self._required = required
        self._report = report
        self._version = ledger.suppression.current().version

    def changed_list(self) -> SuppressionList | None:
        """The suppression list if it has changed since this was asked last."""
        listed = self._ledger.suppression.current()
        if listed.version == self._version:
            return None
        self._version = listed.version
        return listed

    def withhold(self, rows: Rows, offered: Sequence[Candidates], listed: SuppressionList) -> Rows:
        """The rows of a batch or table, without those on the list. `offered` is what each row offers."""
        people = [list(offer.identifiers) for offer in offered]
        asked_by = self._asked_by(rows)
        for row, identifier in asked_by.items():
            people[row].append(identifier)
        is_found = self._values(rows, "matched")
        found_by = {row: identifier for row, identifier in asked_by.items() if is_found[row]}
        for row, texts in self._contact_texts(rows, found_by):
            people[row] += identifiers_in(texts)
        suppressed = self._ledger.suppression.matching(set(chain.from_iterable(people)), among=listed)
        tells_somebody = [
            _tells_of(suppressed, status, identifiers)
            for status, identifiers in zip(self._values(rows, "status"), people, strict=True)
        ]
        is_withheld = np.array(tells_somebody, dtype=np.bool_)
        return self._blanked(rows, is_withheld) if is_withheld.any() else rows

    def _values(self, rows: pa.Table | pa.RecordBatch, name: str) -> list[Any]:
        return rows.column(self._prefix + name).to_pylist()

    def _asked_by(self, rows: pa.Table | pa.RecordBatch) -> dict[int, Identifier]:
        """By row, the identifier by which it was asked."""
        pairs = zip(self._values(rows, "field_type"), self._values(rows, "query"), strict=True)
        return {row: Identifier(kind, query) for row, (kind, query) in enumerate(pairs) if query is not None}

    def _contact_texts(
        self, rows: Rows, found_by: Mapping[int, Identifier]
    ) -> Iterator[tuple[int, Mapping[FieldType, Sequence[str]]]]:
        """The identifiers in each row's contact: by its columns, else by the ledger."""
        names = ("social_profiles", "emails", "phones")
        if not all(self._prefix + name in self._added_schema.names for name in names):
            yield from self._contact_texts_in_ledger(found_by)
            return
        cells = zip(*(self._values(rows, name) for name in names), strict=True)
        for row, (profiles, emails, phones) in enumerate(map(_lists, cells)):
            yield row, {"social_profile": _urls(profiles), "email": emails, "phone": phones}

    def _contact_texts_in_ledger(
        self, found_by: Mapping[int, Identifier]
    ) -> Iterator[tuple[int, Mapping[FieldType, Sequence[str]]]]:
        keys = self._ledger.keys(found_by.values())
        known, _ = self._ledger.lookup(keys, required=self._required, alias_keys=keys)
        of_request: dict[int, list[tuple[int, int]]] = {}
        for row, answer in zip(found_by, known.of(keys), strict=True):
            if answer is not None and answer.position >= 0:
                of_request.setdefault(answer.request_id, []).append((row, answer.position))
        for stored in self._ledger.replies(of_request):
            records = parse_reply(decompress(stored)[0]).records
            for row, position in of_request[stored.request_id]:
                yield row, contact_of(records[position]).texts

    def _blanked(self, rows: Rows, is_withheld: npt.NDArray[np.bool_]) -> Rows:
        """The rows, of which those that are withheld tell only that they are suppressed."""
        mask = pa.array(is_withheld)
        self._recount(rows.filter(mask))
        kept: dict[str, object] = {"status": "suppressed", "from_ledger": False}
        for name in self._added_schema.names:
            index = rows.schema.get_field_index(name)
            field = rows.schema.field(index)
            value = pa.scalar(kept.get(name.removeprefix(self._prefix)), type=field.type)
            rows = rows.set_column(index, field, pc.if_else(mask, value, rows.column(index)))
        return rows

    def _recount(self, withheld: pa.Table | pa.RecordBatch) -> None:
        """Count these rows in the report as suppressed, and no more as what they were."""
        report = self._report()
        report.suppressed += withheld.num_rows
        report.from_ledger -= sum(self._values(withheld, "from_ledger"))
        statuses, kinds = self._values(withheld, "status"), self._values(withheld, "field_type")
        for status, kind in zip(statuses, kinds, strict=True):
            report.count_status(status, -1)
            if kind is not None and status in ANSWERED:
                report.answered_by[kind] -= 1
                report.matched_by[kind] -= status == "matched"
        for name in self._added_schema.names[len(STATUS_COLUMNS) :]:
            column = withheld.column(name)
            report.filled[name.removeprefix(self._prefix)] -= len(column) - column.null_count


def _lists(cells: Iterable[Any]) -> list[Any]:
    """Cells of columns with several values, which may be written as JSON, as lists."""
    return [json.loads(cell) if isinstance(cell, str) else cell or () for cell in cells]


def _urls(profiles: Iterable[Mapping[str, str | None]]) -> list[str]:
    return [url for profile in profiles if (url := profile["url"])]


def _tells_of(suppressed: Set[Identifier], status: str, identifiers: Iterable[Identifier]) -> bool:
    return status not in ("suppressed", "invalid") and not suppressed.isdisjoint(identifiers)

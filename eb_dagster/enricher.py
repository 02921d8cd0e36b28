"""Enrich tables of identifiers. The only file that knows the order in which things happen."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import accumulate, pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Self, Unpack, cast, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eb_dagster.api.client import Client
from eb_dagster.api.envelope import pack_fields
from eb_dagster.contacts import schema as contact_columns
from eb_dagster.errors import NOTHING_SENT, EnrichError, InputError, LedgerError, OverBudget, shown_list
from eb_dagster.identifiers.columns import Layout, find_layout
from eb_dagster.identifiers.model import Candidates, FieldType, Identifier, Trait
from eb_dagster.identifiers.rows import check_person_columns, read_batch, read_blocks, with_persons
from eb_dagster.identifiers.texts import texts_of
from eb_dagster.ledger import privacy
from eb_dagster.ledger.companions import Companions
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline.companions import companions_in
from eb_dagster.pipeline.eligibility import narrow
from eb_dagster.pipeline.explain import explained
from eb_dagster.pipeline.forecast import Forecast
from eb_dagster.pipeline.namesakes import phones_of_others
from eb_dagster.pipeline.output import Finisher, Withholder
from eb_dagster.pipeline.plan import Agenda, Block, Plan, PlanCount
from eb_dagster.pipeline.purchase import CAP_IS_SPENT, Lookup, Purchase
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import Offers, Settled
from eb_dagster.pipeline.shutdown import Interruption, marked
from eb_dagster.settings import EnricherOptions, endpoint_of, read_settings, signature
from eb_dagster.tables import source as frames
from eb_dagster.tables.atomic_file import check_writable, files_of_ledger
from eb_dagster.tables.object_store import ObjectPath, Place, place
from eb_dagster.tables.parquet import (
    Revision,
    check_types,
    open_parquet,
    read_batches,
    read_metadata,
    write_parquet,
)

if TYPE_CHECKING:
    import pandas as pd

BLOCK_ROWS: Final = 4_096
"""Rows that leave together. Twice as many are read together, and leave so if the ledger ends all of them."""
WINDOW_ROWS: Final = 24_576
"""Rows that are open at once, and up to two blocks more: enough to keep 20,000 identifiers in flight behind a
block that waits for its last answer, and memory bounded. Who lets more be in flight has more rows open."""
_IN_FLIGHT_IN_WINDOW: Final = 20_000

MOST_ROWS_LOOKED_UP: Final = 65_536
# A look-up reads the whole ledger, and what a partition's claim reads again grows with those that were
# asked of the look-up before it. Both together cost least at 1,400 rows times the root of the ledger's
# requests, if all are asked; half as many cost a quarter more, some 0.3 us a row, and hold half as much.
_ROWS_LOOKED_UP: Final = 700


_Again = Callable[[], Iterator[pa.RecordBatch]]


class _LookedUp(NamedTuple):
    """What rows offer, how those end that are settled by that, and what the ledger knows of them and others."""

    candidates: list[Candidates]
    settled: Settled
    lookup: Lookup

    def blocks(self) -> Iterator[_LookedUp]:
        """As they leave: all together if none of them has to be asked."""
        rows = BLOCK_ROWS if self.settled.is_open.any() else max(1, len(self.candidates))
        for start in range(0, len(self.candidates), rows):
            some = self.candidates[start : start + rows]
            yield _LookedUp(some, self.settled.part(start, rows), self.lookup)


_LONGEST_PAUSE_IN_USE: Final = timedelta(days=731)


class Enricher:
    """Buys contacts for identifiers and remembers them, so that each is paid for at most once.

    Args:
        api_key: The vendor's API key. Default: $EXACTBUYER_API_KEY.
        base_url: Address of the API: https, or plain http to this machine. Default: $EXACTBUYER_BASE_URL,
            then the vendor's.
        ledger: Path or database URL of the ledger, which remembers what was bought. Default:
            $EB_DAGSTER_LEDGER, then a file in your data folder.
        proxy: HTTP proxy between this machine and the API, as http://host:port. Default:
            $EB_DAGSTER_PROXY, then none.
        ca_bundle: PEM file of certificate authorities to trust besides the usual ones. Default:
            $EB_DAGSTER_CA_BUNDLE, then none.
        required_fields: Fields that a contact must have to count as found, and to be charged.
        identifiers: Which columns hold which kind of identifier, in the order of asking. Default: columns
            that are named after a kind.
        person: Which columns hold the name and company of the person that a row is about. They are
            compared here and never sent. Default: none.
        default_region: Two-letter country of the phone numbers that have no country code. Default: those
            numbers are not used.
        max_credits: Credits that one run may spend. Default: no cap.
        over_budget: What to do if the plan may cost more than max_credits: stop buys in order up to it,
            refuse buys nothing.
        max_age: Buy contacts again that are older than this. Default: never.
        retry_misses_after: Ask again for identifiers that were not found, if that was longer ago than
            this. Default: never.
        partition_size: Identifiers in one request, 1 to 1000.
        requests_per_minute: Requests a minute, shared by all runs on one ledger. The vendor refuses more
            than 200.
        max_credits_at_risk: How many identifiers may be in flight or in doubt at once.
        max_credits_per_day: Credits that all runs on the ledger together may spend in a day of UTC. A cap
            that was set on the ledger itself holds as well. Default: no cap.
        max_credits_per_month: Credits that all runs on the ledger together may spend in a month of UTC. A
            cap that was set on the ledger itself holds as well. Default: no cap.
        timeout: Seconds that one request may take, from its first byte to the last byte of the reply.
        in_doubt: What to do about identifiers that may have been paid for without an answer: hold does
            not ask for them again, resend does so in the next run, and may pay twice.
        accept_clock: Buy even if this machine's clock is far off the ledger's or the API's.
        aliases: Kinds of identifiers inside a bought contact that answer later rows at no cost.
        prefix: What the name of every added column starts with.
        columns: Contact columns to keep. Default: all.
        lists: How columns with several values are written: list as lists, json as JSON text, for
            databases without arrays. A CSV has JSON text either way.
        progress: True or False for a bar, or a function that is called with the Report so far. Default: a
            bar on a terminal or in a notebook.

    Raises:
        ConfigError: a setting is wrong.
        LedgerError: the ledger cannot be trusted to remember.

    """

    # For `help` and notebooks; type checkers go by `EnricherOptions`.
    __signature__ = signature()

    def __init__(self, **options: Unpack[EnricherOptions]) -> None:
        self._settings = read_settings(**options)
        self._shape: Any = {
            "prefix": self._settings.prefix, "columns": self._settings.columns, "lists": self._settings.lists,
            "with_agrees": self._settings.person is not None,
        }  # fmt: skip
        self._added = contact_columns.arrow_schema(**self._shape)
        self._client = Client(
            base_url=self._settings.base_url,
            api_key=self._settings.api_key,
            timeout=self._settings.timeout,
            proxy=self._settings.proxy,
            ca_bundle=self._settings.ca_bundle,
        )
        self._ledger = Ledger(self._settings.ledger, endpoint=endpoint_of(self._settings.base_url))
        self.report = Report()
        self.on_stopping: Callable[[str], None] | None = None
        """Told, when a signal stops a run, what it still waits for; by default it is said above the bar."""
        self._purchases: list[Purchase] = []
        try:
            self._check_clock()
        except BaseException:
            self._ledger.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take in what is in flight, then let go of the ledger."""
        try:
            while self._purchases:
                self._end(self._purchases[-1])
        finally:
            self._ledger.close()

    def _end(self, purchase: Purchase) -> None:
        try:
            purchase.finish()
        finally:
            # Whoever closes the enricher in mid-run has been here before the run itself.
            if purchase in self._purchases:
                self._purchases.remove(purchase)
                purchase.sum_up()

    def suppress(self, identifiers: Iterable[tuple[FieldType, str]]) -> int:
        """Keep people from ever being sent or handed out, by (kind, text) in any spelling.

        Returns how many identifiers were not suppressed before. Only keyed hashes are kept. Runs that are
        under way hold to it too, in whatever process.

        Raises:
            InputError: a text is no identifier of its kind; its position is named, not its value.

        """
        return privacy.suppress(self._ledger, identifiers, default_region=self._settings.default_region)

    def unsuppress(self, identifiers: Iterable[tuple[FieldType, str]]) -> int:
        """Take people off the suppression list again. Returns how many identifiers were on it."""
        return privacy.unsuppress(self._ledger, identifiers, default_region=self._settings.default_region)

    def forget(self, field_type: FieldType, text: str | Iterable[str]) -> privacy.Forgotten:
        """Remove a person, or each of several, from the ledger and from the tables that it published.

        What remains is a keyed hash, so that nobody buys the person again. What could not be searched is
        named in the result.
        """
        return privacy.forget(self._ledger, field_type, text, default_region=self._settings.default_region)

    def reject(self, field_type: FieldType, text: str | Iterable[str]) -> int:
        """Take a person's word that the contact found by this identifier is somebody else's.

        It answers no more for it, and the identifier is not asked again; what was paid stays, and the contact goes
        on answering for its other identifiers. Returns how many contacts that were.

        Raises:
            InputError: a text is no identifier of its kind.

        """
        return privacy.reject(self._ledger, field_type, text, default_region=self._settings.default_region)

    def plan(self, frame: Any) -> Plan:
        """What enriching this table would ask and cost at most. Sends nothing.

        Takes a pandas dataframe, or anything that `enrich_batches` takes.
        """
        agenda = Agenda()
        purchase = self._purchase(agenda, Report())
        companions = Companions(self._ledger, is_plan=True)
        if _is_pandas(frame):
            layout = find_layout([str(name) for name in frame.columns], self._settings.identifiers)
            is_told = self._read_first(self._read_pandas(frame, layout), layout, companions)
            chunks = self._read_pandas(frame, layout)
        else:
            schema, batches, again = _open_batches(
                self._asked_of(frame) if frames.is_polars(frame) else frame
            )
            layout = find_layout(schema.names, self._settings.identifiers)
            is_told = again is not None and self._read_first(
                self._read_batches(_pieces(again()), layout), layout, companions
            )
            chunks = self._read_batches(_pieces(batches), layout)
        count = PlanCount()
        for chunk in self._look_ahead(chunks, purchase, companions, is_told=is_told):
            block = self._take_in(agenda, purchase, chunk)
            count.expect(block.new)
            agenda.start(block)
            count.add(block, agenda.clear())
        left = purchase.left_by_caps()
        return count.plan(
            partition_size=self._settings.partition_size,
            max_credits=self._settings.max_credits,
            max_credits_at_risk=self._settings.max_credits_at_risk,
            requests_per_minute=self._settings.requests_per_minute,
            credits_left_today=left.get("day"),
            credits_left_this_month=left.get("month"),
        )

    def explain(self, frame: Any) -> Any:
        """Every cell that is not used or not asked: a table of row (counted from 1), column and reason.

        No value is in it. Takes what `plan` takes; of pandas it comes back as pandas, else as an Arrow table.
        """
        purchase, companions = self._purchase(Agenda(), Report()), Companions(self._ledger, is_plan=True)
        if _is_pandas(frame):
            names = [str(name) for name in frame.columns]
            layout = find_layout(names, self._settings.identifiers)
            self._read_first(self._read_pandas(frame, layout), layout, companions)
            blocks = self._cells(layout, lambda one: self._read_pandas(frame, one))
        else:
            table = frames.read_table(frame)
            layout = find_layout(table.schema.names, self._settings.identifiers)
            self._read_first(
                self._read_batches(_pieces(iter(table.to_batches())), layout), layout, companions
            )
            blocks = self._cells(
                layout, lambda one: self._read_batches(_pieces(iter(table.to_batches())), one)
            )

        def shared_among(rows: Sequence[Candidates]) -> Callable[[Identifier], bool]:
            offers = Offers(rows, self._ledger.keys)
            lookup = purchase.look_up(offers.identifiers, offers.keys)
            is_shared = self._shared(offers, lookup, companions)
            keys = {key for key, one in zip(offers.keys, is_shared.tolist(), strict=True) if one}
            return lambda one: bool(keys) and self._ledger.key(one) in keys

        found = explained(blocks, shared_among=shared_among)
        return _arrow(found).to_pandas() if _is_pandas(frame) else found

    @staticmethod
    def _cells(
        layout: Layout, read: Callable[[Layout], Iterator[list[Candidates]]]
    ) -> Iterator[list[tuple[str, list[Candidates]]]]:
        """What each column offers, block by block."""
        if layout.shape == "long":
            yield from ([("value", block)] for block in read(layout))
            return
        columns = [read(Layout("wide", (column,))) for column in layout.columns]
        for blocks in zip(*columns, strict=True):
            yield [(name, block) for (_, name), block in zip(layout.columns, blocks, strict=True)]

    @overload
    def enrich_dataframe(self, frame: pd.DataFrame) -> pd.DataFrame: ...
    @overload
    def enrich_dataframe(self, frame: Any) -> Any: ...

    def enrich_dataframe(self, frame: Any) -> Any:
        """Return the frame with the status and contact columns added.

        Every row is there once, in the same order and with the same index; the columns of the
        input are untouched. Of pandas, the report is in `.attrs["eb_report"]` as a dict. Polars
        frames come back as Polars; Arrow tables, DuckDB relations and whatever else has
        `__arrow_c_stream__` as Arrow tables.

        Raises:
            InputError: no identifier columns, values that are not text, or a clash of names.
            OverBudget, Refused, Busy, OutcomeUnknown, LedgerError: see `eb_dagster.errors`.

        """
        import pandas as pd

        if not _is_pandas(frame):
            return self._enrich_frame(frame)
        names = [str(name) for name in frame.columns]
        layout = find_layout(names, self._settings.identifiers)
        self._check_clash(names)
        if self._settings.over_budget == "refuse":
            self._refuse_over_budget(frame)
        withholder = self._withholder()
        batches = list(
            self._run(
                self._read_pandas(frame, layout),
                layout,
                total=len(frame),
                again=lambda: self._read_pandas(frame, layout),
            )
        )
        table = pa.Table.from_batches(batches, schema=self._added)
        if (listed := withholder.news()) is not None:
            offered = [row for block in self._read_pandas(frame, layout) for row in block]
            table = withholder.withhold(table, offered, listed)
        added = contact_columns.enriched_contacts(**self._shape).validate(contact_columns.to_pandas(table))
        added.index = frame.index
        enriched = pd.concat([frame, added], axis="columns")
        enriched.attrs = {**frame.attrs, "eb_report": self.report.to_dict()}
        return enriched

    def _enrich_frame(self, frame: Any) -> Any:
        if not frames.is_readable(frame):
            raise InputError(
                "enrich_dataframe takes a pandas or Polars dataframe, an Arrow table or a DuckDB relation, "
                f"not {type(frame).__name__}; give it one of these"
            )
        withholder = self._withholder()
        if not frames.is_polars(frame):
            # Read to its end before anything is sent: what fails there has cost nothing.
            return self._read_all(self.enrich_batches(frames.read_table(frame)), withholder)
        whole = frames.collected(frame)
        self._check_clash(whole.columns)
        enriched: Any = self._read_all(self.enrich_batches(self._asked_of(whole)), withholder)
        return frames.with_columns(whole, enriched.select(self._added.names))

    def _read_all(self, reader: pa.RecordBatchReader, withholder: Withholder) -> pa.Table:
        """The whole table, without who was suppressed while it was read."""
        table = reader.read_all()
        if (revision := self._revision(withholder, reader.schema)) is not None:
            table = pa.Table.from_batches(revision(table.to_batches()), schema=table.schema)
        return table

    def _asked_of(self, frame: Any) -> Any:
        """Of a Polars frame, the columns that are asked: of its types, Arrow and Parquet lack some."""
        names = frame.collect_schema().names()
        read = (*find_layout(names, self._settings.identifiers).names, *self._person_columns(names).values())
        return frame.select(list(dict.fromkeys(read)))

    def enrich_batches(self, batches: Any) -> pa.RecordBatchReader:
        """Enrich a stream: anything with `__arrow_c_stream__`, or an iterable of RecordBatch.

        Rows leave in the order they came, with the status and contact columns added; nothing is
        sent before the first batch is read, and memory holds a window of rows, not the table.
        """
        schema, stream, again = _open_batches(batches)
        rows: int | None = getattr(batches, "num_rows", None)
        layout = find_layout(schema.names, self._settings.identifiers)
        self._check_clash(schema.names)
        if self._settings.over_budget == "refuse":
            held = pa.Table.from_batches(list(stream), schema=schema)
            self._refuse_over_budget(held)
            stream, again = iter(held.to_batches()), lambda: iter(held.to_batches())
        whole = pa.schema([*_arrow(schema), *_arrow(self._added)])
        return pa.RecordBatchReader.from_batches(
            whole, self._enrich_stream(stream, layout, whole, rows, again)
        )

    def enrich_parquet(
        self, source: str | os.PathLike[str] | ObjectPath, target: str | os.PathLike[str] | ObjectPath
    ) -> Report:
        """Enrich one Parquet file into another, which is written whole or not at all.

        Either may be an object, as in s3://bucket/folder/table.parquet.
        """
        path = place(target)
        self.check_target(path, source=place(source))
        with open_parquet(place(source)) as file:
            schema = file.schema_arrow.remove_metadata()
            source_table = frames.Source(
                schema, file.metadata.num_rows, lambda: read_batches(file, 2 * BLOCK_ROWS)
            )
            self.write(self.enrich_batches(source_table), path)
        return self.report

    def write(self, reader: pa.RecordBatchReader, target: str | os.PathLike[str] | ObjectPath) -> int:
        """Publish enriched batches as a Parquet table. Returns the rows."""
        path = place(target)
        self.check_target(path)
        check_types(reader.schema)
        # Before it is there: a table that `forget` does not know of would keep who is in it.
        self.note_published(path)
        before = self.report
        revise = self.revisions(reader.schema)
        try:
            rows = write_parquet(
                cast("Iterable[pa.RecordBatch]", reader),
                path,
                schema=reader.schema,
                metadata=self._seal,
                revise=revise,
            )
            # Who was forgotten while the file took its place, was looked for in the one before it.
            while (revision := revise()) is not None:
                with open_parquet(path) as opened:
                    again = revision(read_batches(opened, 2 * BLOCK_ROWS))
                    write_parquet(again, path, schema=reader.schema, metadata=self._seal)
            return rows
        except EnrichError as error:
            # What cannot be written at the end was bought all the same.
            if self.report is not before and self.report.requests and error.spent == NOTHING_SENT:
                error.spent = self.report.spent
            raise

    def _withholder(self) -> Withholder:
        return Withholder(
            self._ledger, self._added, prefix=self._settings.prefix,
            required=pack_fields(self._settings.required_fields), report=lambda: self.report,
        )  # fmt: skip

    def revisions(self, schema: pa.Schema) -> Callable[[], Revision | None]:
        """To be asked before an enriched table of this schema is published: what takes out who was suppressed since."""
        return partial(self._revision, self._withholder(), schema)

    def _revision(self, withholder: Withholder, schema: pa.Schema) -> Revision | None:
        """What takes those out of an enriched table who were suppressed since; None if nobody was."""
        names = [name for name in schema.names if name not in self._added.names]
        if len(names) + len(self._added.names) != len(schema.names):
            # Not a table of ours, or not of these settings.
            return None
        if (listed := withholder.news()) is None:
            return None
        region = self._settings.default_region
        try:
            layout = find_layout(names, self._settings.identifiers)
        except InputError:
            # Whoever made it has left those columns out.
            layout = None

        def revised(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                nothing = [Candidates((), ())] * batch.num_rows
                offered = nothing if layout is None else read_batch(batch, layout, default_region=region)
                yield withholder.withhold(batch, offered, listed)

        return revised

    def note_published(self, path: Place) -> None:
        """Remember where contacts are written, so that `forget` knows of them."""
        self._ledger.publications.note(str(path.resolve()))

    def check_target(self, path: Place, *, source: Place | None = None) -> None:
        """Refuse a path that cannot be written, the source or the ledger, or a table that another ledger has paid for."""
        kept = [] if self._ledger.file is None else files_of_ledger(self._ledger.file)
        check_writable(path, kept=kept if source is None else [("the input", source), *kept])
        sealed = read_metadata(path)
        if not sealed or sealed.get("endpoint") != self._ledger.endpoint:
            return
        remembered = self._ledger.last_request()
        if sealed.get("ledger") != self._ledger.id or remembered < int(sealed.get("request", "0")):
            raise LedgerError(
                f"the table {path.name} was paid for with a ledger that is not this one, or with a "
                "newer copy of it; going on would buy its contacts again. Name that ledger, or move "
                "the table away if paying again is what you want"
            )

    def _seal(self) -> dict[str, str]:
        return {
            "ledger": self._ledger.id,
            "request": str(self._ledger.last_request()),
            "endpoint": self._ledger.endpoint,
        }

    def _check_clock(self) -> None:
        # A clock that runs years ahead makes everything look old enough to be bought again.
        ages = self._settings.max_age is not None and not self._settings.accept_clock
        newest = self._ledger.last_time() if ages else None
        if newest is not None and time.time() - newest > _LONGEST_PAUSE_IN_USE.total_seconds():
            raise LedgerError(
                "by this machine's clock, the ledger was last used more than two years ago, and max_age "
                "would buy everything again. Check the clock; if it is right, choose accept_clock"
            )

    def _check_clash(self, names: Sequence[str]) -> None:
        clashes = sorted(set(names) & set(self._added.names))
        if clashes:
            raise InputError(f"the input already has columns {shown_list(clashes)}; choose another prefix")

    def _refuse_over_budget(self, table: Any) -> None:
        plan, cap = self.plan(table), self._settings.max_credits
        if cap is not None and plan.credits_at_most > cap:
            raise OverBudget(
                f"this may cost {plan.credits_at_most:,} credits, max_credits is {cap:,}. Raise "
                'it, shrink the input, or choose over_budget="stop"'
            )

    # The run

    def _purchase(self, agenda: Agenda, report: Report) -> Purchase:
        purchase = Purchase(
            settings=self._settings, ledger=self._ledger, client=self._client,
            agenda=agenda, report=report,
        )  # fmt: skip
        purchase.take_over()
        return purchase

    def _enrich_stream(
        self,
        stream: Iterator[pa.RecordBatch],
        layout: Layout,
        schema: pa.Schema,
        total: int | None,
        again: _Again | None,
    ) -> Iterator[pa.RecordBatch]:
        inputs: deque[pa.RecordBatch] = deque()

        def remembered() -> Iterator[pa.RecordBatch]:
            for piece in _pieces(stream):
                inputs.append(piece)
                yield piece

        read_again = None if again is None else lambda: self._read_batches(_pieces(again()), layout)
        for added in self._run(
            self._read_batches(remembered(), layout), layout, total=total, again=read_again
        ):
            mine = inputs.popleft()
            if added.num_rows < mine.num_rows:
                inputs.appendleft(mine.slice(added.num_rows))
                mine = mine.slice(0, added.num_rows)
            yield _arrow(pa.RecordBatch).from_arrays(
                [*_arrow(mine).columns, *_arrow(added).columns], schema=schema
            )

    def _run(
        self,
        chunks: Iterator[list[Candidates]],
        layout: Layout,
        *,
        total: int | None,
        again: Callable[[], Iterator[list[Candidates]]] | None,
    ) -> Iterator[pa.RecordBatch]:
        started = time.monotonic()
        self.report = report = Report()
        agenda = Agenda()
        purchase = self._purchase(agenda, report)
        self._purchases.append(purchase)
        companions = Companions(self._ledger)
        # What is read twice is read first for who is shared: else the rows ahead of the second would not know.
        report.is_read_first = again is not None
        is_told = again is not None and self._read_first(again(), layout, companions)
        with (
            Finisher(
                self._ledger, self._added, columns=self._settings.columns, prefix=self._settings.prefix
            ) as finisher,
            _progress(self._settings.progress, report, total, self._settings.max_credits) as show,
            marked() as interruption,
            _telling(report),
        ):
            purchase.on_progress = show
            ahead = self._look_ahead(chunks, purchase, companions, is_told=is_told)
            window_rows = WINDOW_ROWS + max(0, purchase.most_in_flight - _IN_FLIGHT_IN_WINDOW)
            interruption.on_second = purchase.abort
            purchase.on_waiting = self._telling_of(interruption, show)
            try:
                more = True
                while more or agenda.blocks:
                    while more and agenda.open_rows < window_rows and not interruption:
                        chunk = next(ahead, None)
                        more = chunk is not None
                        for part in () if chunk is None else chunk.blocks():
                            block = self._take_in(agenda, purchase, part)
                            if block.has_choice:
                                purchase.catch_up(block.new, part.lookup)
                            finisher.expect(part.lookup.known.answering)
                            agenda.start(block)
                            report.rows_read += len(block.candidates)
                            report.identifiers += block.identifiers
                            report.folded += block.folded
                    for block in agenda.leaving():
                        batch = finisher.finish(block, run=purchase.run, report=report)
                        interruption.is_suspended = True
                        yield batch
                        interruption.is_suspended = False
                        show()
                    if interruption:
                        self._stop(purchase, interruption)
                    # While there is room for more rows, those that are queued may still become a full partition.
                    if agenda.blocks and (not more or agenda.open_rows >= window_rows):
                        purchase.step(all_rows_in=not more)
            finally:
                try:
                    self._end(purchase)
                finally:
                    report.seconds = time.monotonic() - started
                    show()
        _warn(report)

    @staticmethod
    def _stop(purchase: Purchase, interruption: Interruption) -> NoReturn:
        purchase.finish()
        interruption.deliver()
        # Whoever handled the signal let it pass; half a table is still no table.
        raise KeyboardInterrupt

    def _telling_of(self, interruption: Interruption, show: _progress) -> Callable[[int, int], None]:
        def tell(requests: int, at_risk: int) -> None:
            if not interruption:
                return
            count = "1 request" if requests == 1 else f"{requests:,} requests"
            (self.on_stopping or show.say)(
                f"stopping: waiting for {count} in flight ({at_risk:,} credits at risk); press Ctrl-C again to "
                "stop at once, and what is in flight is in doubt"
            )

        return tell

    def _read_pandas(self, frame: pd.DataFrame, layout: Layout) -> Iterator[list[Candidates]]:
        names = self._person_columns([str(name) for name in frame.columns])
        wanted = [
            at for at, name in enumerate(frame.columns) if str(name) in {*layout.names, *names.values()}
        ]
        slim = frame.iloc[:, wanted]
        slim.columns = [str(name) for name in slim.columns]
        start = 0
        for rows in read_blocks(
            slim, layout, default_region=self._settings.default_region, rows=2 * BLOCK_ROWS
        ):
            block = slim.iloc[start : start + len(rows)]
            start += len(rows)
            yield (
                with_persons(rows, {part: texts_of(block[name]) for part, name in names.items()})
                if names
                else rows
            )

    def _read_batches(self, pieces: Iterator[pa.RecordBatch], layout: Layout) -> Iterator[list[Candidates]]:
        for piece in pieces:
            rows = read_batch(piece, layout, default_region=self._settings.default_region)
            names = self._person_columns(piece.schema.names)
            yield (
                with_persons(rows, {part: texts_of(piece.column(name)) for part, name in names.items()})
                if names
                else rows
            )

    def _person_columns(self, available: Sequence[str]) -> Mapping[str, str]:
        person = self._settings.person or {}
        check_person_columns(available, person)
        return person

    def _read_first(self, chunks: Iterator[list[Candidates]], layout: Layout, companions: Companions) -> bool:
        """Take in what stands beside what in the whole table. Returns True: it need not be told again."""
        if layout.shape == "wide" and len(layout.columns) > 1:
            held: list[Candidates] = []
            for chunk in chunks:
                held += chunk
                if len(held) >= MOST_ROWS_LOOKED_UP:
                    self._note(companions, Offers(held, self._ledger.keys))
                    held = []
            self._note(companions, Offers(held, self._ledger.keys))
        return True

    def _look_ahead(
        self, chunks: Iterator[list[Candidates]], purchase: Purchase, companions: Companions, *, is_told: bool
    ) -> Iterator[_LookedUp]:
        """Chunks with what the ledger knows of them.

        A look-up goes through the whole ledger, so the larger that is, the more rows share one; and the
        more, the fewer of them are still to be asked.
        """
        held: list[list[Candidates]] = []
        rows, share_to_ask = 0, 1.0

        def look_up() -> list[_LookedUp]:
            return self._look_up(held, purchase, companions, is_told=is_told)

        for chunk in chunks:
            held.append(chunk)
            rows += len(chunk)
            enough = _ROWS_LOOKED_UP * math.sqrt(self._ledger.last_request())
            if rows * share_to_ask >= enough or rows >= MOST_ROWS_LOOKED_UP:
                looked_up = look_up()
                known = looked_up[-1].lookup.known
                share_to_ask = 1 - len(known) / max(len(known.standing), 1)
                held, rows = [], 0
                yield from _each(looked_up)
        yield from _each(look_up())

    def _look_up(
        self, chunks: Sequence[list[Candidates]], purchase: Purchase, companions: Companions, *, is_told: bool
    ) -> list[_LookedUp]:
        offers = Offers([row for chunk in chunks for row in chunk], self._ledger.keys)
        if not is_told:
            self._note(companions, offers)
        lookup = purchase.look_up(
            offers.identifiers, offers.keys, also=("phone",) if self._settings.person else ()
        )
        if self._settings.person and "phone" not in self._settings.aliases:
            lookup.known.forget(phones_of_others(offers, lookup.known, self._ledger))
        is_shared = self._shared(offers, lookup, companions)
        rows = narrow(offers, is_shared=is_shared, suppressed=lookup.suppressed)
        settled = purchase.settle(offers, lookup)
        starts = list(accumulate([len(chunk) for chunk in chunks], initial=0))
        return [
            _LookedUp(rows[start:end], settled.part(start, end - start), lookup)
            for start, end in pairwise(starts)
        ]

    def _note(self, companions: Companions, offers: Offers) -> None:
        companions.note(offers.keys, companions_in(offers, self._ledger.hasher("name")))

    @staticmethod
    def _shared(offers: Offers, lookup: Lookup, companions: Companions) -> npt.NDArray[np.bool_]:
        """Which identifiers several people share, as rows or contacts tell; a profile is one person's."""
        is_profile = offers.are(Trait.PROFILE, Trait.VANITY)
        return (companions.shared(offers.keys) | lookup.known.is_of_two) & ~is_profile

    @staticmethod
    def _take_in(agenda: Agenda, purchase: Purchase, chunk: _LookedUp) -> Block:
        settled = chunk.settled
        # One that settles nothing is not held until the block leaves: it leads to all rows of the look-up.
        block = agenda.add(
            chunk.candidates, settled.open_keys(), settled=None if settled.is_open.all() else settled
        )
        purchase.open(block.new, chunk.lookup)
        return block


def _each(looked_up: list[_LookedUp]) -> Iterator[_LookedUp]:
    # Off the list, so that what was taken in is not held here too.
    looked_up.reverse()
    while looked_up:
        yield looked_up.pop()


@contextlib.contextmanager
def _telling(report: Report) -> Generator[None]:
    """An error that leaves the run says what the run has spent."""
    try:
        yield
    except EnrichError as error:
        if report.requests:
            error.spent = report.spent
            if isinstance(error, LedgerError):
                # It could not write down any more what came, and a run on it may be refused.
                error.spent = f"{report.spent.partition(';')[0]}; what was in flight is in doubt"
        raise


class _progress:  # noqa: N801 - reads as the function it stands for
    """A bar on a terminal or in a notebook, or the user's own function."""

    def __init__(
        self,
        choice: bool | Callable[..., None] | None,
        report: Report,
        total: int | None,
        max_credits: int | None,
    ) -> None:
        self._choice, self._report, self._total = choice, report, total
        self._forecast = Forecast(total or 0, max_credits=max_credits)
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._choice is not False and not callable(self._choice):
            with warnings.catch_warnings():
                # In a notebook without ipywidgets, tqdm says so, and its bar is text.
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm

            shown = self._choice is True or "ipykernel" in sys.modules
            form = "{l_bar}{bar}| {n_fmt}/{total_fmt} rows [{elapsed}{postfix}]"
            self._bar = tqdm(
                total=self._total, unit="row", desc="Enriching", disable=False if shown else None,
                bar_format=form if self._total else None,
            )  # fmt: skip
        return self

    def say(self, text: str) -> None:
        """A line above the bar, if there is one."""
        if self._bar is not None and not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def __call__(self) -> None:
        if callable(self._choice):
            self._choice(self._report)
        elif self._bar is not None:
            report, now = self._report, time.monotonic()
            words = f"requests={report.requests:,}, credits={report.credits_charged:,}, matched={report.matched:,}"
            if self._total:
                self._forecast.note(report, now=now)
                words += self._forecast.words(now=now)
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.update(report.rows - self._bar.n)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _warn(report: Report) -> None:
    if report.wrong_counts:
        warnings.warn(
            f"in {report.wrong_counts} replies the API counted other records than it sent",
            stacklevel=3,
        )
    if report.failed_records:
        warnings.warn(
            f"the API gave an error in place of {report.failed_records:,} answers; those cost nothing, and their "
            "rows were not asked further: run again",
            stacklevel=3,
        )
    # That the run's own cap is spent is no surprise to who set it.
    if report.stopped and report.stopped != CAP_IS_SPENT:
        warnings.warn(f"{report.stopped} ({report.not_asked:,} rows were not asked)", stacklevel=3)


def _is_pandas(frame: Any) -> bool:
    import pandas as pd

    return isinstance(frame, pd.DataFrame)


def _arrow(one: object) -> Any:
    # pyarrow-stubs leaves the type parameters of what holds fields and arrays unknown.
    return one


def _pieces(stream: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in stream:
        for start in range(0, batch.num_rows, 2 * BLOCK_ROWS):
            yield batch.slice(start, 2 * BLOCK_ROWS)


def _open_batches(batches: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch], _Again | None]:
    """The schema and the batches of a stream, without reading all of it; and how to read them again, if they can be."""
    if isinstance(batches, str | os.PathLike):
        raise InputError("enrich_batches takes Arrow data, not a path; for a file, use enrich_parquet")
    if frames.is_readable(batches):
        reader = frames.open_reader(batches)
        again = (lambda: iter(frames.open_reader(batches))) if frames.is_rereadable(batches) else None
        return reader.schema, iter(reader), again
    if not isinstance(batches, Iterable):
        raise InputError(
            f"enrich_batches takes Arrow data, not {type(batches).__name__}; give it a table or a reader"
        )
    stream = iter(cast("Iterable[Any]", batches))
    first = next(stream, None)
    if not isinstance(first, pa.RecordBatch):
        raise InputError(
            "enrich_batches was given no pyarrow RecordBatch; give it at least one, or a pyarrow Table"
        )

    def whole() -> Iterator[pa.RecordBatch]:
        yield first
        yield from stream

    return first.schema, whole(), None


@overload
def enrich_dataframe(frame: pd.DataFrame, **options: Unpack[EnricherOptions]) -> pd.DataFrame: ...
@overload
def enrich_dataframe(frame: Any, **options: Unpack[EnricherOptions]) -> Any: ...


def enrich_dataframe(frame: Any, **options: Unpack[EnricherOptions]) -> Any:
    """Enrich a single dataframe. Takes the keywords of `Enricher`."""
    with Enricher(**options) as enricher:
        return enricher.enrich_dataframe(frame)

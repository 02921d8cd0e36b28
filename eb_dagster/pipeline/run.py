"""The order in which things happen: read first, look up, settle, buy, finish, and show progress.

`LookAhead` is what plans and runs have in common; `Run` buys.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np
import pyarrow as pa

from eb_dagster.api.client import Client
from eb_dagster.errors import EnrichError, LedgerError, counted
from eb_dagster.identifiers.columns import Layout
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.identifiers.offers import Offers, offers_of
from eb_dagster.identifiers.offers import joined as joined_offers
from eb_dagster.ledger.companions import Companions
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline.eligibility import companions_in, narrowed, phones_of_others
from eb_dagster.pipeline.explain import Cells, IsShared, explained
from eb_dagster.pipeline.lookup import Lookup
from eb_dagster.pipeline.offers import Booleans, KeyedOffers
from eb_dagster.pipeline.output import Finisher
from eb_dagster.pipeline.plan import Plan, PlanCount
from eb_dagster.pipeline.progress import Display, display_for
from eb_dagster.pipeline.purchase import Purchase
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import await_answers
from eb_dagster.pipeline.run_log import warn_caller
from eb_dagster.pipeline.shutdown import Interruption, marked
from eb_dagster.pipeline.window import Rows, Window
from eb_dagster.settings import Settings
from eb_dagster.tables.source import InputColumns, Source, joined, sliced

BLOCK_ROWS: Final = 4_096
"""Rows that leave together. Twice as many are read together, and leave so if the ledger ends all of them."""
WINDOW_ROWS: Final = 24_576
"""Rows that are open at once, and up to two blocks more: enough to keep 20,000 identifiers in flight behind a
block that waits for its last answer, and memory bounded. A higher max_credits_at_risk keeps more rows open."""
_IN_FLIGHT_IN_WINDOW: Final = 20_000

MOST_ROWS_LOOKED_UP: Final = 65_536
# A look-up reads the whole ledger, and what a partition's claim reads again grows with what was
# asked of the look-up before it. Both together cost least at 1,400 rows times the root of the ledger's
# requests, if all are asked; half as many cost a quarter more, some 0.3 us a row, and hold half as much.
_ROWS_LOOKED_UP: Final = 700

Chunks = Iterator[Offers]
"""What the rows of a table offer, some rows at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all plans and runs of one `Enricher` share."""

    settings: Settings
    ledger: Ledger
    client: Client
    added_schema: pa.Schema
    """The columns that are added."""

    def purchase(self, window: Window, report: Report) -> Purchase:
        """A purchase, when what ended processes had in flight is settled."""
        purchase = Purchase(
            settings=self.settings, ledger=self.ledger, client=self.client, window=window, report=report
        )
        purchase.take_over()
        return purchase


# Read and look up


def chunks_of(source: Source, columns: InputColumns) -> Chunks:
    """What the rows of a table offer, as many rows at a time as are read together."""
    return source.offers(columns, rows=2 * BLOCK_ROWS)


class LookAhead:
    """Reads rows ahead and looks them up together. Knows which identifiers several people share."""

    def __init__(self, setup: Setup, purchase: Purchase, *, is_plan: bool = False) -> None:
        self._ledger = setup.ledger
        self._settings = setup.settings
        self._purchase = purchase
        self._is_plan = is_plan
        self._companions = Companions(setup.ledger, is_plan=is_plan)
        self._has_read_first = False

    def read_first(self, chunks: Chunks, layout: Layout) -> None:
        """Take in what stands beside what in the whole table, before any of its rows is looked up.

        Otherwise, the rows ahead of the second one with an identifier would not know that it is shared.
        """
        self._has_read_first = True
        is_alone = layout.shape == "long" or len(layout.columns) < 2
        if is_alone and not self._settings.person:
            # Nothing stands beside an identifier.
            return
        waiting: list[Offers] = []
        rows = 0
        for chunk in chunks:
            waiting.append(chunk)
            rows += len(chunk)
            if rows >= MOST_ROWS_LOOKED_UP:
                self._note_companions(KeyedOffers(joined_offers(waiting), self._ledger))
                waiting, rows = [], 0
        self._note_companions(KeyedOffers(joined_offers(waiting), self._ledger))

    def looked_up(self, chunks: Chunks) -> Iterator[Rows]:
        """The rows as they leave, with what the ledger knows of them.

        A look-up goes through the whole ledger. So the larger the ledger is, the more rows share one; and
        the fewer of them are still to be asked, the more. Nobody waits for the first rows of a plan.
        """
        waiting: list[Offers] = []
        rows, share_to_ask = 0, 1.0
        newest = self._ledger.last_request()
        for chunk in chunks:
            waiting.append(chunk)
            rows += len(chunk)
            enough = math.inf if self._is_plan else _ROWS_LOOKED_UP * math.sqrt(newest)
            if rows * share_to_ask >= enough or rows >= MOST_ROWS_LOOKED_UP:
                together = self._look_up_together(waiting)
                lookup = together[-1].lookup
                share_to_ask = 1 - np.count_nonzero(lookup.is_known) / max(len(lookup.is_known), 1)
                newest = lookup.newest
                waiting, rows = [], 0
                yield from _taken_off(together)
        yield from _taken_off(self._look_up_together(waiting))

    def _look_up_together(self, chunks: Sequence[Offers]) -> list[Rows]:
        keyed = KeyedOffers(joined_offers(chunks), self._ledger)
        if not self._has_read_first:
            self._note_companions(keyed)
        lookup = self._look_up(keyed)
        offers = keyed.offers = narrowed(
            keyed, is_shared=self.is_shared(keyed, lookup), is_suppressed=lookup.is_suppressed
        )
        if self._is_plan:
            return [Rows(keyed, lookup, offers)]
        # Rows leave as they were read together if none of them has to be asked.
        is_unsettled = await_answers(lookup.states)
        parts: list[Rows] = []
        start = 0
        for chunk in chunks:
            whole = offers[start : start + len(chunk)]
            start += len(chunk)
            rows = BLOCK_ROWS if is_unsettled[keyed.key_of_value[whole.identifiers]].any() else len(whole)
            parts += [
                Rows(keyed, lookup, whole[first : first + rows])
                for first in range(0, len(whole), max(1, rows))
            ]
        return parts

    def _look_up(self, keyed: KeyedOffers) -> Lookup:
        if not self._settings.person:
            return self._purchase.look_up(keyed)
        lookup = self._purchase.look_up(keyed, also=("phone",))
        if "phone" not in self._settings.aliases:
            lookup.known.forget(phones_of_others(keyed, lookup.known, self._ledger))
        return lookup

    def _note_companions(self, keyed: KeyedOffers) -> None:
        self._companions.note(keyed.keys, companions_in(keyed, self._ledger.hasher("name")))

    def is_shared(self, keyed: KeyedOffers, lookup: Lookup) -> Booleans:
        """Which keys several people share, as rows or contacts tell. A profile is one person's."""
        is_profile = keyed.are_of(("social_profile",))
        return (self._companions.shared(keyed.keys) | lookup.known.is_of_two) & ~is_profile

    def shared_among(self, rows: Sequence[Candidates]) -> IsShared:
        """Tells which identifiers of these rows several people share."""
        keyed = KeyedOffers(offers_of(rows), self._ledger)
        is_shared = self.is_shared(keyed, self._purchase.look_up(keyed))
        shared_keys: set[bytes] = set(keyed.keys[is_shared].tolist())

        def check(identifier: Identifier) -> bool:
            return bool(shared_keys) and self._ledger.key(identifier) in shared_keys

        return check


def _taken_off(together: list[Rows]) -> Iterator[Rows]:
    # Each leaves the list, so that what was taken in is not kept here too.
    together.reverse()
    while together:
        yield together.pop()


# Plan and explain


def make_plan(setup: Setup, source: Source, columns: InputColumns) -> Plan:
    """What enriching this table would ask and cost at most. Sends nothing, and stores nothing."""
    window = Window()
    purchase = setup.purchase(window, Report())
    look_ahead = LookAhead(setup, purchase, is_plan=True)
    if source.is_rereadable:
        look_ahead.read_first(chunks_of(source, columns), columns.layout)
    count = PlanCount()
    for rows in look_ahead.looked_up(chunks_of(source, columns)):
        count.add(window, purchase.take_in(rows))
    settings, credits_left = setup.settings, purchase.left_by_caps()
    return count.plan(
        partition_size=settings.partition_size,
        max_credits=settings.max_credits,
        max_credits_at_risk=settings.max_credits_at_risk,
        requests_per_minute=settings.requests_per_minute,
        credits_left_today=credits_left.get("day"),
        credits_left_this_month=credits_left.get("month"),
    )


def make_explanation(setup: Setup, source: Source, columns: InputColumns) -> pa.Table:
    """The table that tells of every cell of a rereadable table that is not used or not asked, and why."""
    look_ahead = LookAhead(setup, setup.purchase(Window(), Report()), is_plan=True)
    look_ahead.read_first(chunks_of(source, columns), columns.layout)
    return explained(_cells(source, columns), shared_among=look_ahead.shared_among)


def _cells(source: Source, columns: InputColumns) -> Iterator[Cells]:
    """What the cells of each column offer, block by block."""
    if columns.layout.shape == "long":
        for chunk in chunks_of(source, columns):
            yield [("value", chunk)]
        return
    names = columns.layout.names
    chunks = [chunks_of(source, column) for column in columns.each()]
    for blocks in zip(*chunks, strict=True):
        yield list(zip(names, blocks, strict=True))


# Buy


class Run:
    """One enrichment: from what rows offer to the columns that are added to them."""

    def __init__(
        self,
        setup: Setup,
        *,
        open_runs: list[Run],
        on_stopping: Callable[[str], None] | None = None,
        tells: bool = True,
    ) -> None:
        self._setup = setup
        self._tells = tells
        self._on_stopping = on_stopping
        self._window = Window()
        self.report = Report()
        self.opening_lines: Sequence[str] = ()
        """What is shown above the bar: how this buys."""
        self.purchase = setup.purchase(self._window, self.report)
        self._started = time.monotonic()
        # Until it has ended, whoever closes the enricher has to end it.
        self._open_runs = open_runs
        open_runs.append(self)

    def end(self) -> None:
        """Take in what is in flight, and sum up."""
        try:
            self.purchase.finish()
        finally:
            # Whoever closes the enricher in mid-run was here before the run itself.
            if self in self._open_runs:
                self._open_runs.remove(self)
                self.purchase.sum_up()

    def note_early_end(self, why: str) -> None:
        """Note that the run has ended before its rows, if that is not noted yet."""
        if self.report.ended_early is None:
            self.report.ended_early = why
            self.report.seconds = time.monotonic() - self._started

    def added_columns(
        self, chunks: Chunks, layout: Layout, *, rows: int | None, again: Callable[[], Chunks] | None
    ) -> Iterator[pa.RecordBatch]:
        """The added columns of all rows, in order. `again` reads the chunks once more, if they can be."""
        settings, report, purchase = self._setup.settings, self.report, self.purchase
        look_ahead = LookAhead(self._setup, purchase)
        report.is_read_first = again is not None
        if again is not None:
            look_ahead.read_first(again(), layout)
        finisher = Finisher(
            self._setup.ledger, self._setup.added_schema, columns=settings.columns, prefix=settings.prefix
        )
        display = display_for(settings.progress, rows=rows, max_credits=settings.max_credits)
        display.announce(self.opening_lines)
        with finisher, display, marked() as interruption, _tells_spent(report):
            purchase.on_progress = lambda: display(report)
            purchase.on_idle = lambda: display.tick(report)
            purchase.on_waiting = self._tells_waiting(interruption, display)
            interruption.on_second = purchase.abort
            try:
                yield from self._buy(look_ahead.looked_up(chunks), finisher, display, interruption)
            finally:
                try:
                    self.end()
                finally:
                    report.seconds = time.monotonic() - self._started
                    display(report)
        if self._tells:
            _warn(report)

    def _fill_window(
        self, ahead: Iterator[Rows], finisher: Finisher, window_rows: int, interruption: Interruption
    ) -> bool:
        """Take in rows until so many are open. Returns whether there are more."""
        while self._window.open_rows < window_rows and not interruption:
            rows = next(ahead, None)
            if rows is None:
                return False
            self._start(rows, finisher)
        return True

    def _buy(
        self, ahead: Iterator[Rows], finisher: Finisher, display: Display, interruption: Interruption
    ) -> Iterator[pa.RecordBatch]:
        window, purchase = self._window, self.purchase
        window_rows = WINDOW_ROWS + max(0, purchase.most_in_flight - _IN_FLIGHT_IN_WINDOW)
        has_more = True
        while has_more or window.blocks:
            if has_more:
                has_more = self._fill_window(ahead, finisher, window_rows, interruption)
            purchase.note_aliases()
            for ended in window.leaving():
                for batch in finisher.finish(ended, report=self.report).to_batches():
                    interruption.is_suspended = True
                    yield batch
                    interruption.is_suspended = False
                display(self.report)
            if interruption:
                self._stop(interruption)
            # While there is room for more rows, the queued ones may still become a full partition.
            is_full = window.open_rows >= window_rows
            if window.blocks and (is_full or not has_more):
                purchase.step(all_rows_in=not has_more)

    def _start(self, rows: Rows, finisher: Finisher) -> None:
        block = self.purchase.take_in(rows)
        if block.has_choice:
            self.purchase.catch_up(block, rows.lookup)
        finisher.expect(rows.lookup.known.answering)
        self._window.start(block)
        self.report.rows_read += len(block.offers)
        self.report.identifiers += block.identifiers
        self.report.folded += block.folded

    def _stop(self, interruption: Interruption) -> NoReturn:
        self.purchase.finish()
        interruption.deliver()
        # The signal's own handler has returned; half a table is still no table.
        raise KeyboardInterrupt

    def _tells_waiting(self, interruption: Interruption, display: Display) -> Callable[[int, int], None]:
        def tell(requests: int, at_risk: int) -> None:
            if interruption:
                (self._on_stopping or display.say)(_waiting_in_words(requests, at_risk))

        return tell


def _waiting_in_words(requests: int, at_risk: int) -> str:
    count = counted(requests, "request")
    return (
        f"stopping: waiting for {count} in flight ({counted(at_risk, 'credit')} at risk); press Ctrl-C again to "
        "stop at once; what is in flight will then be in doubt"
    )


def beside_inputs(
    source: Source,
    columns: InputColumns,
    schema: pa.Schema,
    add_columns: Callable[[Chunks, Callable[[], Chunks] | None], Iterator[pa.RecordBatch]],
) -> Iterator[pa.RecordBatch]:
    """The batches of a table, each with its added columns beside its own.

    `add_columns` gives the added columns of chunks, which it may read once more if the table can be.
    """
    inputs: deque[pa.RecordBatch] = deque()

    def pieces() -> Iterator[pa.RecordBatch]:
        return sliced(source.batches(), 2 * BLOCK_ROWS)

    def remembered(pieces: Iterable[pa.RecordBatch]) -> Chunks:
        for piece in pieces:
            inputs.append(piece)
            yield columns.read(piece)

    def again() -> Chunks:
        return map(columns.read, pieces())

    for new_columns in add_columns(remembered(pieces()), again if source.is_rereadable else None):
        own = inputs.popleft()
        if new_columns.num_rows < own.num_rows:
            inputs.appendleft(own.slice(new_columns.num_rows))
            own = own.slice(0, new_columns.num_rows)
        yield joined(own, new_columns, schema=schema)


@contextlib.contextmanager
def _tells_spent(report: Report) -> Generator[None]:
    """An error that leaves the run says what the run has spent."""
    try:
        yield
    except EnrichError as error:
        if report.requests:
            error.spent = report.spent
            if isinstance(error, LedgerError):
                # What came can no longer be written down, and a run on this ledger may be refused.
                error.spent = f"{report.spent.partition(';')[0]}; what was in flight is in doubt"
        raise


def _warn(report: Report) -> None:
    if report.wrong_counts:
        warn_caller(
            f"in {counted(report.wrong_counts, 'reply')} the API did not count the records that it sent"
        )
    if report.failed_records:
        warn_caller(
            f"the API gave an error in place of {counted(report.failed_records, 'answer')}, which cost nothing; their "
            "rows were not asked further: run again"
        )

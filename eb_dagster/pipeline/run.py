"""The order in which things happen: read first, look up, settle, buy, finish, and show progress.

`LookAhead` is what plans and runs have in common; `Run` buys.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eb_dagster.api.client import Client
from eb_dagster.errors import EnrichError, LedgerError, counted
from eb_dagster.identifiers.columns import Layout
from eb_dagster.identifiers.model import Candidates, Identifier, Trait
from eb_dagster.ledger.companions import Companions
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline.agenda import Agenda
from eb_dagster.pipeline.eligibility import Narrowing, companions_in, phones_of_others
from eb_dagster.pipeline.explain import Cells, IsShared, explained
from eb_dagster.pipeline.offers import Offers
from eb_dagster.pipeline.output import Finisher
from eb_dagster.pipeline.plan import Plan, PlanCount
from eb_dagster.pipeline.progress import Display, display_for
from eb_dagster.pipeline.purchase import Lookup, Purchase
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import Block, Settlement
from eb_dagster.pipeline.shutdown import Interruption, marked
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

Chunks = Iterator[list[Candidates]]
"""What the rows of a table offer, some rows at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all plans and runs of one `Enricher` share."""

    settings: Settings
    ledger: Ledger
    client: Client
    added_schema: pa.Schema
    """The columns that are added."""

    def purchase(self, agenda: Agenda, report: Report) -> Purchase:
        """A purchase, when what ended processes had in flight is settled."""
        purchase = Purchase(
            settings=self.settings, ledger=self.ledger, client=self.client, agenda=agenda, report=report
        )
        purchase.take_over()
        return purchase


# Read and look up


def chunks_of(source: Source, columns: InputColumns) -> Chunks:
    """What the rows of a table offer, as many rows at a time as are read together."""
    return source.offers(columns, rows=2 * BLOCK_ROWS)


class LookedUp(NamedTuple):
    """What rows offer, how the ledger ends some of them, and what it knows of these and other rows."""

    candidates: list[Candidates]
    settlement: Settlement
    lookup: Lookup

    def parts(self) -> Iterator[LookedUp]:
        """The rows as they leave: all together if none of them has to be asked."""
        rows = BLOCK_ROWS if self.settlement.is_open.any() else max(1, len(self.candidates))
        for start in range(0, len(self.candidates), rows):
            candidates = self.candidates[start : start + rows]
            yield LookedUp(candidates, self.settlement.part(start, rows), self.lookup)


class LookAhead:
    """Reads rows ahead and looks them up together. Knows which identifiers several people share."""

    def __init__(self, setup: Setup, purchase: Purchase, *, is_plan: bool = False) -> None:
        self._ledger = setup.ledger
        self._settings = setup.settings
        self._purchase = purchase
        self._companions = Companions(setup.ledger, is_plan=is_plan)
        self._has_read_first = False

    def read_first(self, chunks: Chunks, layout: Layout) -> None:
        """Take in what stands beside what in the whole table, before any of its rows is looked up.

        Otherwise, the rows ahead of the second one with an identifier would not know that it is shared.
        """
        self._has_read_first = True
        if layout.shape != "wide" or len(layout.columns) < 2:
            # Nothing stands beside an identifier.
            return
        rows: list[Candidates] = []
        for chunk in chunks:
            rows += chunk
            if len(rows) >= MOST_ROWS_LOOKED_UP:
                self._note_companions(Offers(rows, self._ledger.keys))
                rows = []
        self._note_companions(Offers(rows, self._ledger.keys))

    def looked_up(self, chunks: Chunks) -> Iterator[LookedUp]:
        """The chunks with what the ledger knows of them.

        A look-up goes through the whole ledger. So the larger the ledger is, the more rows share one; and
        the fewer of them are still to be asked, the more.
        """
        waiting: list[list[Candidates]] = []
        rows, share_to_ask = 0, 1.0
        for chunk in chunks:
            waiting.append(chunk)
            rows += len(chunk)
            enough = _ROWS_LOOKED_UP * math.sqrt(self._ledger.last_request())
            if rows * share_to_ask >= enough or rows >= MOST_ROWS_LOOKED_UP:
                together = self._look_up_together(waiting)
                known = together[-1].lookup.known
                share_to_ask = 1 - len(known) / max(len(known.standing), 1)
                waiting, rows = [], 0
                yield from _taken_off(together)
        yield from _taken_off(self._look_up_together(waiting))

    def _look_up_together(self, chunks: Sequence[list[Candidates]]) -> list[LookedUp]:
        offers = Offers([row for chunk in chunks for row in chunk], self._ledger.keys)
        if not self._has_read_first:
            self._note_companions(offers)
        lookup = self._look_up(offers)
        narrowing = Narrowing(offers, is_shared=self.is_shared(offers, lookup), suppressed=lookup.suppressed)
        narrowing.apply()
        rows = offers.rows()
        settlement = self._purchase.settle(offers, lookup)
        starts = list(accumulate([len(chunk) for chunk in chunks], initial=0))
        return [
            LookedUp(rows[start:end], settlement.part(start, end - start), lookup)
            for start, end in pairwise(starts)
        ]

    def _look_up(self, offers: Offers) -> Lookup:
        if not self._settings.person:
            return self._purchase.look_up(offers.identifiers, offers.keys)
        lookup = self._purchase.look_up(offers.identifiers, offers.keys, also=("phone",))
        if "phone" not in self._settings.aliases:
            lookup.known.forget(phones_of_others(offers, lookup.known, self._ledger))
        return lookup

    def _note_companions(self, offers: Offers) -> None:
        self._companions.note(offers.keys, companions_in(offers, self._ledger.hasher("name")))

    def is_shared(self, offers: Offers, lookup: Lookup) -> npt.NDArray[np.bool_]:
        """Which identifiers several people share, as rows or contacts tell. A profile is one person's."""
        is_profile = offers.have_trait(Trait.PROFILE, Trait.VANITY)
        return (self._companions.shared(offers.keys) | lookup.known.is_of_two) & ~is_profile

    def shared_among(self, rows: Sequence[Candidates]) -> IsShared:
        """Tells which identifiers of these rows several people share."""
        offers = Offers(rows, self._ledger.keys)
        lookup = self._purchase.look_up(offers.identifiers, offers.keys)
        is_shared = self.is_shared(offers, lookup).tolist()
        shared_keys = {key for key, is_one in zip(offers.keys, is_shared, strict=True) if is_one}

        def check(identifier: Identifier) -> bool:
            return bool(shared_keys) and self._ledger.key(identifier) in shared_keys

        return check


def _taken_off(together: list[LookedUp]) -> Iterator[LookedUp]:
    # Each leaves the list, so that what was taken in is not kept here too.
    together.reverse()
    while together:
        yield together.pop()


def _take_in(agenda: Agenda, purchase: Purchase, part: LookedUp) -> Block:
    settlement = part.settlement
    # It leads to all rows of the look-up. If it settles nothing, it is not kept until the block leaves.
    block = agenda.add(
        part.candidates, settlement.open_keys(), settlement=None if settlement.is_open.all() else settlement
    )
    purchase.open(block.new, part.lookup)
    return block


# Plan and explain


def make_plan(setup: Setup, source: Source, columns: InputColumns) -> Plan:
    """What enriching this table would ask and cost at most. Sends nothing, and stores nothing."""
    agenda = Agenda()
    purchase = setup.purchase(agenda, Report())
    look_ahead = LookAhead(setup, purchase, is_plan=True)
    if source.is_rereadable:
        look_ahead.read_first(chunks_of(source, columns), columns.layout)
    count = PlanCount()
    for looked_up in look_ahead.looked_up(chunks_of(source, columns)):
        block = _take_in(agenda, purchase, looked_up)
        count.expect(block.new)
        agenda.start(block)
        count.add(block, agenda.clear())
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
    look_ahead = LookAhead(setup, setup.purchase(Agenda(), Report()), is_plan=True)
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
        self._agenda = Agenda()
        self.report = Report()
        self.purchase = setup.purchase(self._agenda, self.report)
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

    def added_columns(
        self, chunks: Chunks, layout: Layout, *, rows: int | None, again: Callable[[], Chunks] | None
    ) -> Iterator[pa.RecordBatch]:
        """The added columns of all rows, in order. `again` reads the chunks once more, if they can be."""
        started = time.monotonic()
        settings, report, purchase = self._setup.settings, self.report, self.purchase
        look_ahead = LookAhead(self._setup, purchase)
        report.is_read_first = again is not None
        if again is not None:
            look_ahead.read_first(again(), layout)
        finisher = Finisher(
            self._setup.ledger, self._setup.added_schema, columns=settings.columns, prefix=settings.prefix
        )
        display = display_for(settings.progress, rows=rows, max_credits=settings.max_credits)
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
                    report.seconds = time.monotonic() - started
                    display(report)
        if self._tells:
            _warn(report)

    def _fill_window(
        self, ahead: Iterator[LookedUp], finisher: Finisher, window_rows: int, interruption: Interruption
    ) -> bool:
        """Take in rows until so many are open. Returns whether there are more."""
        while self._agenda.open_rows < window_rows and not interruption:
            looked_up = next(ahead, None)
            if looked_up is None:
                return False
            self._start(looked_up, finisher)
        return True

    def _buy(
        self, ahead: Iterator[LookedUp], finisher: Finisher, display: Display, interruption: Interruption
    ) -> Iterator[pa.RecordBatch]:
        agenda, purchase = self._agenda, self.purchase
        window_rows = WINDOW_ROWS + max(0, purchase.most_in_flight - _IN_FLIGHT_IN_WINDOW)
        has_more = True
        while has_more or agenda.blocks:
            if has_more:
                has_more = self._fill_window(ahead, finisher, window_rows, interruption)
            for block in agenda.leaving():
                batch = finisher.finish(block, run=purchase.run, report=self.report)
                interruption.is_suspended = True
                yield batch
                interruption.is_suspended = False
                display(self.report)
            if interruption:
                self._stop(interruption)
            # While there is room for more rows, the queued ones may still become a full partition.
            is_full = agenda.open_rows >= window_rows
            if agenda.blocks and (is_full or not has_more):
                purchase.step(all_rows_in=not has_more)

    def _start(self, looked_up: LookedUp, finisher: Finisher) -> None:
        for part in looked_up.parts():
            block = _take_in(self._agenda, self.purchase, part)
            if block.has_choice:
                self.purchase.catch_up(block.new, part.lookup)
            finisher.expect(part.lookup.known.answering)
            self._agenda.start(block)
            self.report.rows_read += len(block.candidates)
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
        "stop at once, and what is in flight is in doubt"
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

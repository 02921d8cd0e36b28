"""Buy what open rows ask for, inside the limits: look up, claim, let `sender` send, and take in what came back."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from eb_dagster.api.client import Client
from eb_dagster.api.envelope import FAILED, IN_DOUBT, MISSED, made_apart, pack_fields
from eb_dagster.api.outcome import is_free_by_status
from eb_dagster.api.rate_limit import Pacer
from eb_dagster.errors import Busy, ConfigError, LedgerError, OutcomeUnknown, counted
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from eb_dagster.identifiers.offers import Numbers
from eb_dagster.ledger.aliases import add_aliases
from eb_dagster.ledger.budget import Limits, Short
from eb_dagster.ledger.entries import FORGOTTEN, Keys
from eb_dagster.ledger.known_keys import UNKNOWN, Freshness
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import Reading, apply_reply
from eb_dagster.ledger.suppression import SuppressionList
from eb_dagster.pipeline.lookup import Lookup
from eb_dagster.pipeline.namesakes import NewAlias
from eb_dagster.pipeline.offers import KeyedOffers
from eb_dagster.pipeline.plan import InFlight
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import NONE, Booleans, Codes, State
from eb_dagster.pipeline.sender import (
    Answered,
    Failed,
    NotAnswered,
    NotSent,
    Request,
    Sender,
    Sent,
    raise_refused,
)
from eb_dagster.pipeline.window import Answers, Block, Rows, Window
from eb_dagster.settings import Settings

MOST_ATTEMPTS: Final = 5
SHORTEST_PATIENCE: Final = 20.0
"""Seconds of 429 that are waited out at least, however short `timeout` is."""

FARTHEST_OFF: Final = 600.0
"""Seconds that this machine's clock may be off the API's, where ages or caps of days and months count."""

_POLL_SECONDS: Final = 0.2
# A request is claimed this long before its time, so that the disk does not make it late.
_LEAD_SECONDS: Final = 0.1
_LONGEST_BACKOFF: Final = 8.0
_NO_VERSION: Final = -1
_STATE_OF_OUTCOME: Final = {
    MISSED: State.MISSED,
    FAILED: State.NOT_ASKED,
    FORGOTTEN: State.SUPPRESSED,
    IN_DOUBT: State.IN_DOUBT,
}

CAP_IS_SPENT: Final = "max_credits is spent"
_SPENT: Final[dict[Short, str]] = {
    "credits": CAP_IS_SPENT,
    "day": "the daily cap on credits is spent",
    "month": "the monthly cap on credits is spent",
}


class Purchase:
    """One run's buying. Not safe to use from several threads; it uses several itself."""

    def __init__(
        self, *, settings: Settings, ledger: Ledger, client: Client, window: Window, report: Report
    ) -> None:
        self.run = uuid.uuid4().hex
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._window = window
        self._report = report
        self._required = pack_fields(settings.required_fields)
        self._limits = Limits(
            settings.max_credits,
            settings.max_credits_at_risk,
            settings.max_credits_per_day,
            settings.max_credits_per_month,
        )
        self._pacer = Pacer(ledger.slots, requests_per_minute=settings.requests_per_minute)
        self._freshness = freshness(settings, newest=ledger.last_request())
        self._in_flight = InFlight(
            max_credits_at_risk=settings.max_credits_at_risk, partition_size=settings.partition_size
        )
        self._stop = threading.Event()
        self._sender = Sender(
            settings=settings,
            ledger=ledger,
            client=client,
            threads=self._in_flight.senders,
            is_stopped=self._stop,
        )
        self._retries: list[tuple[Numbers, int]] = []
        """Slots of questions that were sent in vain, and how many times."""
        self._room = 0
        """Credits inside every limit, by the last claim."""
        self._list_version = _NO_VERSION
        """The version of the suppression list by which no open row is of somebody suppressed."""
        self._has_withheld = False
        self._not_before = 0.0
        self._looked_elsewhere = 0.0
        self._busy_since: float | None = None
        self._refusals = 0
        self._is_clock_to_check = not settings.accept_clock and _depends_on_clock(settings, ledger)
        self.on_progress: Callable[[], None] = lambda: None
        self.on_idle: Callable[[], None] = lambda: None
        self.on_waiting: Callable[[int, int], None] = lambda _requests, _credits: None
        """Called at the end while requests are in flight, with their number and the credits at risk in them."""

    @property
    def most_in_flight(self) -> int:
        """Identifiers that may be in flight at once."""
        return self._in_flight.identifiers

    # Looking up

    def take_over(self) -> None:
        """Settle what ended processes had in flight: what was asked is in doubt, what was answered is read."""
        self._ledger.recover()
        for stored in self._ledger.unapplied():
            apply_reply(self._ledger, stored)

    def left_by_caps(self) -> dict[Short, int]:
        """Credits that the caps on a "day" and a "month" leave, of those that are set."""
        return self._ledger.budget.left_by_caps(limits=self._limits)

    def look_up(self, keyed: KeyedOffers, *, also: Collection[FieldType] = ()) -> Lookup:
        """What the ledger knows now of what rows offer.

        Contacts answer for identifiers of the kinds in `aliases` and in `also`.
        """
        return self._look_up(keyed.keys, keyed.kinds, keyed.identifiers, also=also)

    def _look_up(
        self,
        keys: Keys,
        kinds: Codes,
        identifiers: Callable[[], Sequence[Identifier]],
        *,
        also: Collection[FieldType] = (),
    ) -> Lookup:
        listed = self._ledger.suppression.current()
        known, newest = self._ledger.lookup(
            keys,
            required=self._required,
            freshness=self._freshness,
            alias_keys=self._are_aliases(kinds, also=also),
        )
        return Lookup(
            known,
            newest,
            self._are_suppressed(identifiers, len(keys), among=listed),
            run=self.run,
            doubt_ends=self._settings.in_doubt == "hold",
            list_version=listed.version,
        )

    def _are_suppressed(
        self, identifiers: Callable[[], Sequence[Identifier]], count: int, *, among: SuppressionList
    ) -> Booleans:
        if not among.keys:
            return np.zeros(count, dtype=np.bool_)
        given = identifiers()
        suppressed = self._ledger.suppression.matching(given, among=among)
        return np.fromiter((identifier in suppressed for identifier in given), dtype=np.bool_, count=count)

    def _are_aliases(self, kinds: Codes, *, also: Collection[FieldType] = ()) -> Booleans:
        """Which identifiers, of these kinds, a contact answers that holds them."""
        answered = {*self._settings.aliases, *also}
        return np.array([kind in answered for kind in FIELD_TYPES])[kinds]

    def take_in(self, rows: Rows) -> Block:
        """Take in rows that were looked up: what is known of them is settled, the others may be asked."""
        if rows.lookup.list_version != self._list_version:
            self._list_version = _NO_VERSION
        return self._window.add(rows)

    def catch_up(self, block: Block, lookup: Lookup) -> None:
        """Look up again the open questions of a block of which something was learned since.

        A claim does so for what it asks. But a row with several identifiers must not ask one of them
        while another is answered already: that would be the same person paid for twice.
        """
        table = self._window.slots.table
        slots = block.new_slots[table["state"][block.new_slots] == State.OPEN]
        if not len(slots):
            return
        news, _ = self._ledger.lookup(
            table["key"][slots],
            required=self._required,
            freshness=self._freshness,
            alias_keys=self._are_aliases(table["kind"][slots]),
            after=lookup.newest,
        )
        self._look_up_again(slots[news.standing != UNKNOWN])

    def _look_up_again(self, slots: Numbers) -> None:
        if not len(slots):
            return
        table = self._window.slots.table[slots]
        lookup = self._look_up(table["key"], table["kind"], lambda: self._window.slots.identifiers(slots))
        if lookup.list_version != self._list_version:
            self._list_version = _NO_VERSION
        self._window.learn(slots, lookup)

    # Buying

    def step(self, *, all_rows_in: bool) -> None:
        """Do the next useful thing: send a partition, or wait for something to happen."""
        if not self._take_finished(seconds=0) and not self._send(all_rows_in=all_rows_in):
            self._wait()

    def _send(self, *, all_rows_in: bool) -> bool:
        """Claim and send the next partition if there is one and its time has come. Returns whether it did anything."""
        if self._stop.is_set():
            self._ask_no_more()
            return False
        if not self._may_send(all_rows_in=all_rows_in):
            return False
        seconds = self._pacer.seconds_to_wait()
        due = time.monotonic() + seconds
        if seconds > _LEAD_SECONDS:
            # Meanwhile replies are taken in, and a refusal or a signal stops the run at once.
            if not self._take_finished(seconds=min(seconds - _LEAD_SECONDS, _POLL_SECONDS)):
                self._look_elsewhere_sometimes()
            return True
        size = self._affordable_size()
        if size < self._settings.partition_size and self._sender.in_flight:
            # What is in flight may cost less than it could.
            return False
        slots, attempt = self._next_partition(max(size, 1), all_rows_in=all_rows_in)
        return len(slots) > 0 and self._claim_and_send(self._split_off_similar(slots), attempt, due)

    def _may_send(self, *, all_rows_in: bool) -> bool:
        # The first reply tells whether the clock is right, so that nothing else is bought on a wrong one.
        most = 1 if self._is_clock_to_check else self._in_flight.senders
        if self._sender.in_flight >= most or time.monotonic() < self._not_before:
            return False
        return bool(self._retries) or self._next_step(all_rows_in=all_rows_in) is not None

    def _affordable_size(self) -> int:
        """The identifiers that the next partition may have."""
        if self._room < self._settings.partition_size:
            # Near a limit, the last claim's figure may be too small by now.
            self._room = self._ledger.budget.room(run=self.run, limits=self._limits).credits
        return min(self._settings.partition_size, self._room)

    def _split_off_similar(self, slots: Numbers) -> Numbers:
        """The questions whose echoes cannot be confused. The others go back, into a later request."""
        are_apart = np.zeros(len(slots), dtype=np.bool_)
        for code, kind in enumerate(FIELD_TYPES):
            is_of_kind = self._window.slots.table["kind"][slots] == code
            are_apart[is_of_kind] = made_apart(kind, self._window.slots.texts(slots[is_of_kind]))
        if not are_apart.all():
            self._window.put_back(slots[~are_apart])
        return slots[are_apart]

    def _ask_no_more(self) -> None:
        self._window.give_up()
        unsent = [self._window.elsewhere, *(slots for slots, _ in self._retries)]
        self._retries.clear()
        for slots in unsent:
            self._window.settle(slots, State.NOT_ASKED)

    def _next_step(self, *, all_rows_in: bool) -> int | None:
        step = self._window.full_step(self._settings.partition_size)
        if step is not None:
            return step
        step = self._window.first_step()
        # The rest of the first step goes once all rows are in; the rest of a later one, and
        # that of a full window, once nothing in flight can add to it.
        may_grow = self._sender.in_flight or len(self._window.elsewhere)
        return None if may_grow and not (step == 0 and all_rows_in) else step

    def _next_partition(self, size: int, *, all_rows_in: bool) -> tuple[Numbers, int]:
        """The slots of up to `size` questions, and how many times they were sent in vain."""
        if self._retries:
            slots, attempt = self._retries.pop(0)
            if len(slots) > size:
                self._retries.insert(0, (slots[size:], attempt))
            return slots[:size], attempt
        step = self._next_step(all_rows_in=all_rows_in)
        return (np.zeros(0, dtype=np.int64) if step is None else self._window.cut_step(step, size), 0)

    def _claim_and_send(self, slots: Numbers, attempt: int, due: float) -> bool:
        slots = self._window.wanted(slots)
        if not len(slots):
            return True
        # If that fails, nothing is claimed yet.
        self._client.open()
        table = self._window.slots.table
        keys = table["key"][slots]
        claim = self._ledger.claim(
            keys,
            run=self.run,
            required=self._required,
            limits=self._limits,
            seen=int(table["seen"][slots].min()),
            alias_keys=self._are_aliases(table["kind"][slots]),
            freshness=self._freshness,
            resend=self._settings.in_doubt == "resend",
            list_version=self._list_version,
            accept_clock=self._settings.accept_clock,
        )
        if claim.is_outdated:
            self._end_suppressed_rows()
            self._retries.insert(0, (slots, attempt))
            return True
        if claim.known:
            self._look_up_again(slots[[key in claim.known for key in keys.tolist()]])
            self._put_back(slots)
            return True
        self._window.put_back(slots[claim.granted :])
        self._room = claim.room
        if claim.request_id is None:
            self._out_of_room(claim.short_of)
            return True
        asked = slots[: claim.granted]
        table["state"][asked] = State.ASKED
        self._pacer.sent()
        kinds, values = self._window.slots.kinds(asked), self._window.slots.texts(asked)
        self._sender.send(Request(claim.request_id, asked, kinds, values, attempt, due, self._list_version))
        self._report.requests += 1
        return True

    def _put_back(self, slots: Numbers) -> None:
        """Queue again those of these questions of which nothing was learned."""
        state = self._window.slots.table["state"][slots]
        self._window.put_back(slots[np.isin(state, (State.OPEN, State.QUEUED, State.ASKED))])

    def _end_suppressed_rows(self) -> None:
        """End the rows of people who were suppressed since they were looked up."""
        listed = self._ledger.suppression.current()
        slots = self._window.slots.used()
        is_suppressed = self._are_suppressed(
            lambda: self._window.slots.identifiers(slots), len(slots), among=listed
        )
        self._window.suppress(slots[is_suppressed])
        self._list_version = listed.version

    def _out_of_room(self, short_of: Short | None) -> None:
        if self._sender.in_flight:
            return
        if short_of in _SPENT:
            self._halt(_SPENT[short_of])
            return
        spending = self._ledger.budget.spending()
        if spending.in_flight:
            # It belongs to another process, whose answer makes room.
            time.sleep(_POLL_SECONDS)
            self.take_over()
            return
        raise OutcomeUnknown(
            f"in doubt: {counted(spending.in_doubt, 'credit')}, as many as max_credits_at_risk allows "
            f"({self._settings.max_credits_at_risk:,}): whole requests left and no answer came. Compare with "
            "the vendor's bill, then run `eb-dagster ledger resolve`, or choose a higher limit"
        )

    # Waiting

    def _wait(self) -> None:
        if not self._sender.in_flight and not len(self._window.elsewhere):
            time.sleep(0.02)
        elif not self._take_finished(seconds=_POLL_SECONDS):
            self._look_elsewhere_sometimes()

    def _look_elsewhere_sometimes(self) -> None:
        if time.monotonic() - self._looked_elsewhere > _POLL_SECONDS and len(self._window.elsewhere):
            self._look_elsewhere()
            self._looked_elsewhere = time.monotonic()

    def _look_elsewhere(self) -> None:
        """Look up what another process was asking."""
        self.take_over()
        slots = self._window.elsewhere
        self._look_up_again(slots)
        self._put_back(slots)

    # Taking in what came back

    def _take_finished(self, *, seconds: float) -> bool:
        done = self._sender.take(seconds=seconds)
        if done is None:
            self.on_idle()
            return False
        self._take_in(done)
        self.on_progress()
        if isinstance(done, Answered | NotAnswered):
            self._check_clock(done.seconds_off)
        return True

    def _take_in(self, done: Sent) -> None:
        match done:
            case Answered():
                self._on_answered(done.request.slots, done.reading)
            case NotSent():
                self._report.requests -= 1
                self._retries.append((done.request.slots, done.request.attempt))
            case Failed():
                raise done.error
            case NotAnswered(verdict="doubt"):
                self._on_doubt(done)
            case NotAnswered(verdict="busy"):
                self._on_busy(done)
            case NotAnswered(verdict="free"):
                self._on_free(done)
            case NotAnswered():
                raise_refused(done.status)

    def _check_clock(self, seconds_off: float | None) -> None:
        if not self._is_clock_to_check or seconds_off is None:
            return
        if abs(seconds_off) > FARTHEST_OFF:
            raise ConfigError(
                f"this machine's clock is {abs(seconds_off) / 60:,.0f} minutes "
                f"{'ahead of' if seconds_off > 0 else 'behind'} the API's, and ages or caps of days and months "
                "are told by it. Set the clock; if it is right, choose accept_clock"
            )
        self._is_clock_to_check = False

    def _on_answered(self, slots: Numbers, reading: Reading) -> None:
        self._busy_since, self._refusals = None, 0
        self._has_withheld = self._has_withheld or FORGOTTEN in reading.positions
        report = self._report
        report.replies += 1
        report.answers += len(reading.positions)
        report.credits_charged += reading.credits
        report.extra_records += reading.extra
        report.wrong_counts += reading.wrong_count
        report.failed_records += int(np.count_nonzero(reading.positions == FAILED))
        self._apply(slots, reading)
        if reading.unreadable:
            self._halt("a reply could not be read; it is kept, and nothing more was sent")
        elif not reading.is_whole:
            self._halt("a reply broke off; nothing more was sent")

    def _apply(self, slots: Numbers, reading: Reading) -> None:
        position = reading.positions
        is_found = position >= 0
        self._window.answer(
            slots,
            _states(position),
            Answers(
                request_id=reading.stored.request_id,
                answered_at=reading.stored.answered_at,
                source=self._window.slots.add_source(reading.contacts),
                position=np.where(is_found, position, NONE),
                contact=np.where(is_found, np.arange(len(position)), NONE),
                has_vanity=reading.has_vanity,
            ),
        )

    def _halt(self, why: str) -> None:
        self._report.stopped = why
        self._stop.set()

    def _on_doubt(self, done: NotAnswered) -> None:
        self._window.settle(done.request.slots, State.IN_DOUBT)
        if is_free_by_status(done.status):
            self._halt(
                f"the API refused with HTTP {done.status} and yet speaks of contacts; that request is in "
                "doubt, and nothing more was sent"
            )

    def _on_busy(self, done: NotAnswered) -> None:
        self._report.refusals += 1
        now = time.monotonic()
        if self._busy_since is None:
            self._busy_since = now
        pause = self._pacer.pause(retry_after=done.retry_after, refusals=self._refusals)
        patience = max(self._settings.timeout, SHORTEST_PATIENCE)
        if now + pause - self._busy_since > patience:
            raise Busy(
                f"the API has answered 429 (too many requests) for {now - self._busy_since:.0f} s, and asks for "
                f"a longer wait than the {patience:.0f} s of a run; run again later, or lower requests_per_minute"
            )
        self._refusals += 1
        self._report.retries["429, too many requests"] += 1
        self._retries.append((done.request.slots, done.request.attempt))

    def _on_free(self, done: NotAnswered) -> None:
        attempt = done.request.attempt + 1
        self._report.retries[done.reason] += 1
        if attempt > MOST_ATTEMPTS:
            raise Busy(
                f"the API could not be reached in {counted(attempt, 'attempt')} ({done.reason}). {self._client.unreachable}"
            )
        # Not random for security: so that several senders do not come back at once.
        jitter = 1 + random.random() / 4  # noqa: S311
        self._not_before = time.monotonic() + jitter * min(0.125 * 2**attempt, _LONGEST_BACKOFF)
        self._retries.append((done.request.slots, attempt))

    def note_aliases(self) -> None:
        """Note in the ledger by whom rows were answered for their names' sake, before they leave."""
        by_request: dict[int, list[NewAlias]] = {}
        for alias in self._window.new_aliases:
            by_request.setdefault(alias.request_id, []).append(alias)
        self._window.new_aliases.clear()
        for request_id, aliases in by_request.items():
            # All of one reply, so one table holds their contacts.
            contacts = aliases[0].contacts.take(np.array([alias.row for alias in aliases], dtype=np.int64))
            add_aliases(
                self._ledger,
                request_id,
                [alias.key for alias in aliases],
                [alias.position for alias in aliases],
                contacts,
            )

    # Ending

    def finish(self) -> None:
        """Let what is in flight arrive and be stored; send nothing more."""
        self._stop.set()
        if self._ledger.database.is_forked:
            # The threads that wait for replies are the parent process's.
            return
        try:
            if self._sender.in_flight:
                self.on_waiting(self._sender.in_flight, self._sender.credits_in_flight)
            while self._sender.in_flight:
                # One error is on its way already; the others are in the ledger.
                with contextlib.suppress(Exception):
                    self._take_finished(seconds=_POLL_SECONDS)
        except BaseException:
            self.abort()
            raise
        finally:
            self._sender.close()
            # A ledger that is out of reach was reported already.
            with contextlib.suppress(LedgerError):
                self.note_aliases()
                self._ledger.end_run(self.run)
                if self._has_withheld:
                    # The log still has the reply as it came.
                    self._ledger.database.compact()

    def sum_up(self) -> None:
        """Put into the report what the ledger says that the run has spent."""
        spent = self._ledger.budget.spending(run=self.run)
        self._report.credits_charged = spent.credits
        self._report.credits_in_doubt = spent.at_risk
        self._report.credits_saved = max(0, self._report.matched - spent.credits)

    def abort(self) -> None:
        """Stop at once. What is cut off is in doubt."""
        self._stop.set()
        self._ledger.database.hurry()
        self._client.abort()


def _states(positions: Numbers) -> Codes:
    """What the outcomes of questions make of them."""
    states = np.full(len(positions), State.UNREADABLE, dtype=np.int8)
    states[positions >= 0] = State.MATCHED
    for outcome, state in _STATE_OF_OUTCOME.items():
        states[positions == outcome] = state
    return states


def _depends_on_clock(settings: Settings, ledger: Ledger) -> bool:
    """Whether a wrong clock would change what is bought."""
    has_ages = settings.max_age is not None or settings.retry_misses_after is not None
    caps = (settings.max_credits_per_day, settings.max_credits_per_month, *ledger.budget.caps().values())
    return has_ages or any(cap is not None for cap in caps)


def freshness(settings: Settings, *, newest: int) -> Freshness:
    """From which time on contacts and misses still count, of requests up to the `newest`."""

    def since(age: timedelta | None) -> float | None:
        return None if age is None else time.time() - age.total_seconds()

    return Freshness(since(settings.max_age), since(settings.retry_misses_after), newest)

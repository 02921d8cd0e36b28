"""Buy what an agenda asks for, inside the limits: look up, claim, let `sender` send, and take in what came back."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from eb_dagster.api.client import Client
from eb_dagster.api.envelope import FAILED, IN_DOUBT, MISSED, made_apart, pack_fields
from eb_dagster.api.outcome import is_free_by_status
from eb_dagster.api.rate_limit import Pacer
from eb_dagster.errors import Busy, ConfigError, LedgerError, OutcomeUnknown
from eb_dagster.identifiers.model import FieldType, Identifier
from eb_dagster.ledger.budget import Limits, Short
from eb_dagster.ledger.entries import FORGOTTEN
from eb_dagster.ledger.known_keys import Freshness, Known, KnownKeys
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import Reading, apply_reply
from eb_dagster.pipeline.agenda import Agenda
from eb_dagster.pipeline.offers import Offers
from eb_dagster.pipeline.plan import InFlight
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import Question, Settlement, settle
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

CAP_IS_SPENT: Final = "max_credits is spent"
_SPENT: Final[dict[Short, str]] = {
    "credits": CAP_IS_SPENT,
    "day": "the daily cap on credits is spent",
    "month": "the monthly cap on credits is spent",
}


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the ledger knew of some identifiers, up to its `newest` request."""

    known: KnownKeys
    newest: int
    suppressed: Collection[bytes]
    """The keys of those that must never be sent or handed out."""
    list_version: int = 0
    """The version of the suppression list by which these are suppressed."""


class Purchase:
    """One run's buying. Not safe to use from several threads; it uses several itself."""

    def __init__(
        self, *, settings: Settings, ledger: Ledger, client: Client, agenda: Agenda, report: Report
    ) -> None:
        self.run = uuid.uuid4().hex
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._agenda = agenda
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
        self._retries: list[tuple[list[Question], int]] = []
        """Questions that were sent in vain, and how many times."""
        self._elsewhere: list[Question] = []
        """Questions that another process is asking."""
        self._room = 0
        """Credits inside every limit, by the last claim."""
        self._list_version = _NO_VERSION
        """The version of the suppression list by which nobody on the agenda is suppressed."""
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

    def look_up(
        self, identifiers: Sequence[Identifier], keys: Sequence[bytes], *, also: Collection[FieldType] = ()
    ) -> Lookup:
        """What the ledger knows now of these identifiers, whose keys these are.

        Contacts answer for identifiers of the kinds in `aliases` and in `also`.
        """
        listed = self._ledger.suppression.current()
        known, newest = self._ledger.lookup(
            keys,
            required=self._required,
            freshness=self._freshness,
            alias_keys=self._alias_keys(zip(identifiers, keys, strict=True), also=also),
        )
        suppressed = self._ledger.suppression.matching(identifiers, among=listed)
        suppressed_keys: Collection[bytes] = ()
        if suppressed:
            pairs = zip(identifiers, keys, strict=True)
            suppressed_keys = {key for identifier, key in pairs if identifier in suppressed}
        return Lookup(known, newest, suppressed_keys, listed.version)

    def settle(self, offers: Offers, lookup: Lookup) -> Settlement:
        """Which rows end by what the ledger knew, as `open` would end them one by one."""
        return settle(
            offers,
            lookup.known,
            run=self.run,
            suppressed=lookup.suppressed,
            doubt_ends=self._settings.in_doubt == "hold",
        )

    def open(self, questions: Sequence[Question], lookup: Lookup) -> None:
        """Settle new questions that are known; the others may be asked."""
        if lookup.list_version != self._list_version:
            self._list_version = _NO_VERSION
        answers = lookup.known.of(question.key for question in questions)
        for question, known in zip(questions, answers, strict=True):
            question.seen = lookup.newest
            if lookup.suppressed and question.key in lookup.suppressed:
                self._agenda.settle(question, "suppressed")
                continue
            question.state = "open"
            if known is not None:
                self._apply_known(question, known)

    def catch_up(self, questions: Sequence[Question], lookup: Lookup) -> None:
        """Look up again the open questions of which something was learned since.

        A claim does so for what it asks. But a row with several identifiers must not ask one of them
        while another is answered already: that would be the same person paid for twice.
        """
        open_questions = [question for question in questions if question.state == "open"]
        news, _ = self._ledger.lookup(
            [question.key for question in open_questions],
            required=self._required,
            freshness=self._freshness,
            alias_keys=self._alias_keys(_identifiers_and_keys(open_questions)),
            after=lookup.newest,
        )
        if news:
            self._look_up_again([question for question in open_questions if question.key in news])

    def _look_up_again(self, questions: Sequence[Question]) -> None:
        identifiers = [question.identifier for question in questions]
        self.open(questions, self.look_up(identifiers, [question.key for question in questions]))

    def _apply_known(self, question: Question, known: Known) -> None:
        match known.standing:
            case "matched" if known.is_stale:
                question.old_answer = known
            case "matched":
                self._agenda.settle(question, "matched", known)
            case "missed":
                self._settle_miss(question, known)
            case "in_flight":
                question.state = "elsewhere"
                self._elsewhere.append(question)
            case "unreadable":
                self._agenda.settle(question, "unreadable")
            case "decided":
                self._agenda.settle(question, "in_doubt")
            case "in_doubt":
                # What this run left in doubt is not sent again by this run, whatever the setting.
                if self._settings.in_doubt == "hold" or known.run == self.run:
                    self._agenda.settle(question, "in_doubt")

    def _alias_keys(
        self, keys: Iterable[tuple[Identifier, bytes]], *, also: Collection[FieldType] = ()
    ) -> list[bytes]:
        """The keys of identifiers for which a contact answers that holds them."""
        kinds = {*self._settings.aliases, *also}
        return [key for identifier, key in keys if identifier.field_type in kinds]

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
        questions, attempt = self._next_partition(max(size, 1), all_rows_in=all_rows_in)
        return bool(questions) and self._claim_and_send(self._split_off_similar(questions), attempt, due)

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

    def _split_off_similar(self, questions: list[Question]) -> list[Question]:
        """The questions whose echoes cannot be confused. The others go back, into a later request."""
        are_apart = made_apart([question.identifier for question in questions])
        if all(are_apart):
            return questions
        pairs = list(zip(questions, are_apart, strict=True))
        self._agenda.put_back([question for question, is_apart in pairs if not is_apart])
        return [question for question, is_apart in pairs if is_apart]

    def _ask_no_more(self) -> None:
        self._agenda.give_up()
        unsent = [question for questions, _ in self._retries for question in questions]
        for question in [*unsent, *self._elsewhere]:
            self._agenda.settle(question, "not_asked")
        self._retries.clear()
        self._elsewhere.clear()

    def _next_step(self, *, all_rows_in: bool) -> int | None:
        step = self._agenda.full_step(self._settings.partition_size)
        if step is not None:
            return step
        step = self._agenda.first_step()
        # The rest of the first step goes once all rows are in; the rest of a later one, and
        # that of a full window, once nothing in flight can add to it.
        may_grow = self._sender.in_flight or self._elsewhere
        return None if may_grow and not (step == 0 and all_rows_in) else step

    def _next_partition(self, size: int, *, all_rows_in: bool) -> tuple[list[Question], int]:
        """Up to `size` questions, and how many times they were sent in vain."""
        if self._retries:
            questions, attempt = self._retries.pop(0)
            if len(questions) > size:
                self._retries.insert(0, (questions[size:], attempt))
            return questions[:size], attempt
        step = self._next_step(all_rows_in=all_rows_in)
        return ([], 0) if step is None else (self._agenda.cut_step(step, size), 0)

    def _claim_and_send(self, questions: list[Question], attempt: int, due: float) -> bool:
        questions = self._agenda.wanted(questions)
        if not questions:
            return True
        claim = self._ledger.claim(
            [question.key for question in questions],
            run=self.run,
            required=self._required,
            limits=self._limits,
            seen=min(question.seen for question in questions),
            alias_keys=self._alias_keys(_identifiers_and_keys(questions)),
            freshness=self._freshness,
            resend=self._settings.in_doubt == "resend",
            list_version=self._list_version,
            accept_clock=self._settings.accept_clock,
        )
        if claim.is_outdated:
            self._end_suppressed_rows()
            self._retries.insert(0, (questions, attempt))
            return True
        if claim.known:
            self._learn(questions, claim.known)
            return True
        self._agenda.put_back(questions[claim.granted :])
        self._room = claim.room
        if claim.request_id is None:
            self._out_of_room(claim.short_of)
            return True
        asked = questions[: claim.granted]
        for question in asked:
            question.state = "asked"
        self._pacer.sent()
        self._sender.send(Request(claim.request_id, asked, attempt, due, self._list_version))
        self._report.requests += 1
        return True

    def _end_suppressed_rows(self) -> None:
        """End the rows of people who were suppressed since they were looked up."""
        listed = self._ledger.suppression.current()
        self._agenda.suppress(self._ledger.suppression.matching(self._agenda.identifiers(), among=listed))
        self._list_version = listed.version

    def _learn(self, questions: list[Question], known: Mapping[bytes, Known]) -> None:
        for question in questions:
            question.state = "open"
            if (answer := known.get(question.key)) is not None:
                self._apply_known(question, answer)
        self._agenda.put_back([question for question in questions if question.state == "open"])

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
            f"{spending.in_doubt:,} credits are in doubt, as many as max_credits_at_risk allows "
            f"({self._settings.max_credits_at_risk:,}): whole requests left and no answer came. Compare with "
            "the vendor's bill, then run `eb-dagster ledger resolve`, or choose a higher limit"
        )

    # Waiting

    def _wait(self) -> None:
        if not self._sender.in_flight and not self._elsewhere:
            time.sleep(0.02)
        elif not self._take_finished(seconds=_POLL_SECONDS):
            self._look_elsewhere_sometimes()

    def _look_elsewhere_sometimes(self) -> None:
        if self._elsewhere and time.monotonic() - self._looked_elsewhere > _POLL_SECONDS:
            self._look_elsewhere()
            self._looked_elsewhere = time.monotonic()

    def _look_elsewhere(self) -> None:
        """Look up what another process was asking."""
        self.take_over()
        waiting, self._elsewhere = self._elsewhere, []
        self._look_up_again(waiting)
        self._agenda.put_back([question for question in waiting if question.state == "open"])

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
                self._on_answered(done.request.questions, done.reading)
            case NotSent():
                self._report.requests -= 1
                self._retries.append((done.request.questions, done.request.attempt))
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

    def _on_answered(self, questions: list[Question], reading: Reading) -> None:
        self._busy_since, self._refusals = None, 0
        self._has_withheld = self._has_withheld or FORGOTTEN in reading.positions
        report = self._report
        report.replies += 1
        report.answers += len(reading.positions)
        report.credits_charged += reading.credits
        report.extra_records += reading.extra
        report.wrong_counts += reading.wrong_count
        report.failed_records += reading.positions.count(FAILED)
        matches = self._matches(reading)
        stored = reading.stored
        miss = Known("missed", stored.request_id, self.run, stored.answered_at)
        for question, position in zip(questions, reading.positions, strict=True):
            self._settle(question, position, matches.get(position, miss))
        if reading.unreadable:
            self._halt("a reply could not be read; it is kept, and nothing more was sent")
        elif not reading.is_whole:
            self._halt("a reply broke off; nothing more was sent")

    def _matches(self, reading: Reading) -> dict[int, Known]:
        """By position in the reply, the contact there."""
        return {
            position: Known(
                "matched",
                reading.stored.request_id,
                self.run,
                reading.stored.answered_at,
                position,
                has_vanity=row in reading.with_vanity,
                contacts=reading.contacts,
                row=row,
            )
            for position, row in reading.rows.items()
        }

    def _halt(self, why: str) -> None:
        self._report.stopped = why
        self._stop.set()

    def _settle(self, question: Question, position: int, answer: Known) -> None:
        if position >= 0:
            self._agenda.settle(question, "matched", answer)
        elif position == MISSED:
            self._settle_miss(question, answer)
        elif position == FAILED:
            self._agenda.settle(question, "not_asked")
        elif position == FORGOTTEN:
            self._agenda.settle(question, "suppressed")
        else:
            self._agenda.settle(question, "in_doubt" if position == IN_DOUBT else "unreadable")

    def _settle_miss(self, question: Question, miss: Known) -> None:
        if question.old_answer is not None:
            # It was bought before, asked again because it was old, and not found any more.
            self._agenda.settle(question, "matched", question.old_answer)
        else:
            self._agenda.settle(question, "missed", miss)

    def _on_doubt(self, done: NotAnswered) -> None:
        for question in done.request.questions:
            self._agenda.settle(question, "in_doubt")
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
        self._retries.append((done.request.questions, done.request.attempt))

    def _on_free(self, done: NotAnswered) -> None:
        attempt = done.request.attempt + 1
        self._report.retries[done.reason] += 1
        if attempt > MOST_ATTEMPTS:
            raise Busy(
                f"the API could not be reached in {attempt} attempts ({done.reason}). {self._client.unreachable}"
            )
        # Not random for security: so that several senders do not come back at once.
        jitter = 1 + random.random() / 4  # noqa: S311
        self._not_before = time.monotonic() + jitter * min(0.125 * 2**attempt, _LONGEST_BACKOFF)
        self._retries.append((done.request.questions, attempt))

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


def _identifiers_and_keys(questions: Iterable[Question]) -> Iterable[tuple[Identifier, bytes]]:
    return ((question.identifier, question.key) for question in questions)


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

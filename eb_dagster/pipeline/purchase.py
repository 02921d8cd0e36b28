"""Buy what an agenda asks for, inside the limits, and settle its questions.

The order of each request: intent durable → bytes leave → raw reply durable → parsed → applied.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

from eb_dagster.api.client import Client, NoReply, Reply
from eb_dagster.api.envelope import (
    FAILED,
    IN_DOUBT,
    MISSED,
    encode_form,
    made_apart,
    pack_fields,
)
from eb_dagster.api.outcome import Verdict, judge
from eb_dagster.api.rate_limit import Pacer
from eb_dagster.errors import Busy, ConfigError, EnrichError, LedgerError, OutcomeUnknown, Refused
from eb_dagster.identifiers.model import FieldType, Identifier
from eb_dagster.ledger.entries import FORGOTTEN
from eb_dagster.ledger.ledger import Ledger, Limits, Short
from eb_dagster.ledger.lookup import Freshness, Known, KnownKeys
from eb_dagster.ledger.replies import Reading, apply_reply, compress
from eb_dagster.pipeline.plan import Agenda, Question
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import Offers, Settled, settle
from eb_dagster.settings import Settings

MOST_THREADS: Final = 48
MOST_ATTEMPTS: Final = 5
SHORTEST_PATIENCE: Final = 20.0
"""Seconds of 429 that are waited out at least, however short `timeout` is."""

FARTHEST_OFF: Final = 600.0
"""Seconds that this machine's clock may be off the API's, where ages or caps of days and months count."""

_POLL_SECONDS: Final = 0.2
# So long before its moment a request is claimed: what a disk takes for that is not to make it late.
_LEAD_SECONDS: Final = 0.1
_LONGEST_BACKOFF: Final = 8.0
_NOT_LOOKED_THROUGH: Final = -1

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
    """Of the suppression list by which these are suppressed."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What a sender reports back."""

    questions: list[Question]
    attempt: int
    kind: Verdict | Literal["unsent", "failed"]
    reading: Reading | None = None
    status: int = 0
    retry_after: str | None = None
    reason: str = ""
    error: BaseException | None = None
    seconds_off: float | None = None
    """How far this machine's clock is ahead of the reply's `Date`; None without a reply."""


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
        self._pacer = Pacer(ledger, requests_per_minute=settings.requests_per_minute)
        self._freshness = freshness(settings, newest=ledger.last_request())
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._retries: list[tuple[list[Question], int]] = []
        self._elsewhere: list[Question] = []
        self._flying = 0
        self._credits_flying = 0
        self._room = 0
        self._threads = max(1, min(MOST_THREADS, self._settings.max_credits_at_risk))
        self._pool: ThreadPoolExecutor | None = None
        # Replies are taken apart one at a time: side by side, that is slower and takes more memory.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="eb_dagster_reader")
        # By which version of the suppression list nobody on the agenda is suppressed; none yet.
        self._list_version = _NOT_LOOKED_THROUGH
        self._has_withheld = False
        self._not_before = 0.0
        self._looked_elsewhere = 0.0
        self._busy_since: float | None = None
        self._refusals = 0
        # Whether a wrong clock would buy anything, and no reply has told yet that it is right.
        self._is_clock_open = not settings.accept_clock and (
            settings.max_age is not None
            or settings.retry_misses_after is not None
            or (settings.max_credits_per_day, settings.max_credits_per_month) != (None, None)
            or any(most is not None for most in ledger.caps().values())
        )
        self._stop = threading.Event()
        self.on_progress: Callable[[], None] = lambda: None
        self.on_waiting: Callable[[int, int], None] = lambda _requests, _credits: None
        """Told at the end, when requests are still in flight: how many, and the credits at risk in them."""

    @property
    def most_in_flight(self) -> int:
        """Identifiers that may be in flight at once."""
        return min(self._settings.max_credits_at_risk, self._threads * self._settings.partition_size)

    # Looking up

    def take_over(self) -> None:
        """Settle what processes that are gone had in flight: asked is in doubt, answered is read."""
        self._ledger.recover()
        for stored in self._ledger.unapplied():
            apply_reply(self._ledger, stored)

    def left_by_caps(self) -> dict[Short, int]:
        """Credits that the caps on a "day" and a "month" leave, of those that are set."""
        return self._ledger.left_by_caps(limits=self._limits)

    def look_up(
        self, identifiers: Sequence[Identifier], keys: Sequence[bytes], *, also: Collection[FieldType] = ()
    ) -> Lookup:
        """What the ledger knows now of these identifiers, whose keys these are.

        Contacts answer for the kinds of `aliases`, and `also` for these.
        """
        listed = self._ledger.suppression_list()
        known, newest = self._ledger.lookup(
            keys, required=self._required, freshness=self._freshness,
            alias_keys=self._alias_keys(zip(identifiers, keys, strict=True), also=also),
        )  # fmt: skip
        barred = self._ledger.suppressed(identifiers, among=listed)
        suppressed = (
            {key for one, key in zip(identifiers, keys, strict=True) if one in barred} if barred else ()
        )
        return Lookup(known, newest, suppressed, listed.version)

    def settle(self, offers: Offers, lookup: Lookup) -> Settled:
        """Which rows end by what the ledger knew, as `open` would end them one by one."""
        return settle(
            offers, lookup.known, run=self.run, suppressed=lookup.suppressed,
            doubt_ends=self._settings.in_doubt == "hold",
        )  # fmt: skip

    def open(self, questions: Sequence[Question], lookup: Lookup) -> None:
        """Settle new questions that are known; the others may be asked."""
        if lookup.list_version != self._list_version:
            self._list_version = _NOT_LOOKED_THROUGH
        found = lookup.known.of(one.key for one in questions)
        for question, known in zip(questions, found, strict=True):
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
        waiting = [one for one in questions if one.state == "open"]
        news, _ = self._ledger.lookup(
            [one.key for one in waiting], required=self._required, freshness=self._freshness,
            alias_keys=self._alias_keys((one.identifier, one.key) for one in waiting), after=lookup.newest,
        )  # fmt: skip
        if news:
            told = [one for one in waiting if one.key in news]
            self._look_up_again(told)

    def _look_up_again(self, questions: Sequence[Question]) -> None:
        self.open(
            questions, self.look_up([one.identifier for one in questions], [one.key for one in questions])
        )

    def _apply_known(self, question: Question, known: Known) -> None:
        if known.standing == "matched":
            if known.is_stale:
                question.answer = known
            else:
                self._agenda.settle(question, "matched", known)
        elif known.standing == "missed":
            self._settle_miss(question, known)
        elif known.standing == "in_flight":
            question.state = "elsewhere"
            self._elsewhere.append(question)
        elif known.standing == "unreadable":
            self._agenda.settle(question, "unreadable")
        elif known.standing == "decided" or self._settings.in_doubt == "hold" or known.run == self.run:
            # What is to be sent again was in doubt before the run, and nobody decided otherwise.
            self._agenda.settle(question, "in_doubt")

    def _alias_keys(
        self, keys: Iterable[tuple[Identifier, bytes]], *, also: Collection[FieldType] = ()
    ) -> list[bytes]:
        kinds = {*self._settings.aliases, *also}
        return [key for one, key in keys if one.field_type in kinds]

    # Buying

    def step(self, *, all_rows_in: bool) -> None:
        """Do the next useful thing: send a partition, or wait for something to happen."""
        if not self._take_finished(seconds=0) and not self._send(all_rows_in=all_rows_in):
            self._wait()

    def _send(self, *, all_rows_in: bool) -> bool:
        if self._stop.is_set():
            self._ask_no_more()
            return False
        # The first reply tells whether the clock is right, so that nothing else is bought on a wrong one.
        most = 1 if self._is_clock_open else self._threads
        if self._flying >= most or time.monotonic() < self._not_before:
            return False
        if not self._retries and self._next_step(all_rows_in=all_rows_in) is None:
            return False
        seconds = self._pacer.seconds_to_wait()
        due = time.monotonic() + seconds
        if seconds > _LEAD_SECONDS:
            # Meanwhile replies are taken in, and a refusal or a signal stops the run at once.
            if not self._take_finished(seconds=min(seconds - _LEAD_SECONDS, _POLL_SECONDS)):
                self._look_elsewhere_sometimes()
            return True
        if self._room < self._settings.partition_size:
            # Near a limit, as far as the last claim told.
            self._room = self._ledger.room(run=self.run, limits=self._limits).credits
        size = min(self._settings.partition_size, self._room)
        if size < self._settings.partition_size and self._flying:
            # What is in flight may cost less than it could.
            return False
        questions, attempt = self._next_partition(max(size, 1), all_rows_in=all_rows_in)
        return bool(questions) and self._claim_and_send(self._apart(questions), attempt, due)

    def _apart(self, questions: list[Question]) -> list[Question]:
        """Those of which no echo can be taken for another's; the others go into a later request."""
        are_apart = made_apart([one.identifier for one in questions])
        if all(are_apart):
            return questions
        later = [one for one, is_apart in zip(questions, are_apart, strict=True) if not is_apart]
        self._agenda.put_back(later)
        return [one for one, is_apart in zip(questions, are_apart, strict=True) if is_apart]

    def _ask_no_more(self) -> None:
        self._agenda.give_up()
        for questions, _ in self._retries:
            for question in questions:
                self._agenda.settle(question, "not_asked")
        self._retries.clear()
        for question in self._elsewhere:
            self._agenda.settle(question, "not_asked")
        self._elsewhere.clear()

    def _next_step(self, *, all_rows_in: bool) -> int | None:
        step = self._agenda.full_step(self._settings.partition_size)
        if step is not None:
            return step
        step = self._agenda.first_step()
        # The rest of the first step goes once all rows are in; the rest of a later one, and
        # that of a full window, once nothing in flight can add to it.
        may_grow = self._flying or self._elsewhere
        return None if may_grow and not (step == 0 and all_rows_in) else step

    def _next_partition(self, size: int, *, all_rows_in: bool) -> tuple[list[Question], int]:
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
            [one.key for one in questions], run=self.run, required=self._required,
            limits=self._limits, seen=min(one.seen for one in questions),
            alias_keys=self._alias_keys((one.identifier, one.key) for one in questions),
            freshness=self._freshness, resend=self._settings.in_doubt == "resend",
            list_version=self._list_version, accept_clock=self._settings.accept_clock,
        )  # fmt: skip
        if claim.is_outdated:
            self._suppress_since()
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
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="eb_dagster")
        # Should this raise, the claim stays: a pool that cannot start another thread has queued the
        # request all the same, and a thread that it has may still send it.
        self._pool.submit(self._exchange, asked, attempt, claim.request_id, due, self._list_version)
        self._flying += 1
        self._credits_flying += len(asked)
        self._report.requests += 1
        return True

    def _suppress_since(self) -> None:
        """End the rows of people who were suppressed since they were looked up."""
        listed = self._ledger.suppression_list()
        self._agenda.suppress(self._ledger.suppressed(self._agenda.identifiers(), among=listed))
        self._list_version = listed.version

    def _learn(self, questions: list[Question], known: Mapping[bytes, Known]) -> None:
        for question in questions:
            question.state = "open"
            if (one := known.get(question.key)) is not None:
                self._apply_known(question, one)
        self._agenda.put_back([one for one in questions if one.state == "open"])

    def _out_of_room(self, short_of: Short | None) -> None:
        if self._flying:
            return
        if short_of in _SPENT:
            self._halt(_SPENT[short_of])
            return
        whole = self._ledger.spending()
        if whole.in_flight:
            # Another process has it; its answer makes room.
            time.sleep(_POLL_SECONDS)
            self.take_over()
            return
        raise OutcomeUnknown(
            f"{whole.in_doubt:,} credits are in doubt, as many as max_credits_at_risk allows "
            f"({self._settings.max_credits_at_risk:,}): whole requests left and no answer came. Compare with "
            "the vendor's bill, then run `eb-dagster ledger resolve`, or choose a higher limit"
        )

    # Sending, in threads

    def _exchange(
        self, questions: list[Question], attempt: int, request_id: int, due: float, list_version: int
    ) -> None:
        try:
            is_stopped = self._stop.wait(max(0.0, due - time.monotonic()))
            # Somebody may have been suppressed since the claim: then it is claimed anew, without that person.
            if is_stopped or self._ledger.suppression_list().version != list_version:
                self._ledger.release(request_id, state="free", note="not sent")
                done = _Done(questions, attempt, "unsent")
            else:
                done = self._send_once(questions, attempt, request_id)
        except BaseException as error:
            done = _Done(questions, attempt, "failed", error=error)
        self._done.put(done)

    def _send_once(self, questions: list[Question], attempt: int, request_id: int) -> _Done:
        identifiers = [one.identifier for one in questions]
        form = encode_form(identifiers, required_fields=self._settings.required_fields)
        sent_at = time.time()
        try:
            outcome = self._client.send(form)
        except EnrichError:
            self._ledger.release(request_id, state="free", note="not sent")
            raise
        seconds_off = _seconds_off(outcome, sent_at, time.time())
        done = self._taken(questions, attempt, request_id, outcome)
        return replace(done, seconds_off=seconds_off)

    def _taken(
        self, questions: list[Question], attempt: int, request_id: int, outcome: Reply | NoReply
    ) -> _Done:
        verdict = judge(outcome)
        if isinstance(outcome, Reply) and verdict == "answered":
            return self._answered(questions, attempt, request_id, outcome)
        status = outcome.status if isinstance(outcome, Reply) else None
        reason = outcome.reason if isinstance(outcome, NoReply) else f"HTTP {status}"
        if verdict == "doubt":
            self._ledger.doubt(request_id, http_status=status, note=reason)
        else:
            state = "refused" if verdict == "refused" else "free"
            self._ledger.release(request_id, state=state, note=reason)
        return _Done(
            questions, attempt, verdict, status=status or 0, reason=reason,
            retry_after=outcome.retry_after if isinstance(outcome, Reply) else None,
        )  # fmt: skip

    def _answered(self, questions: list[Question], attempt: int, request_id: int, reply: Reply) -> _Done:
        body, encoding = compress(reply.body, reply.encoding)
        stored = self._ledger.record(
            request_id, http_status=reply.status, encoding=encoding,
            complete=reply.complete, body=body,
        )  # fmt: skip
        sent = {one.identifier.value: at for at, one in enumerate(questions)}
        reading = self._reader.submit(apply_reply, self._ledger, stored, sent=sent).result()
        return _Done(questions, attempt, "answered", reading=reading)

    # Taking in what came back

    def _take_finished(self, *, seconds: float) -> bool:
        try:
            done = self._done.get(timeout=seconds) if seconds > 0 else self._done.get_nowait()
        except queue.Empty:
            return False
        self._flying -= 1
        self._credits_flying -= len(done.questions)
        getattr(self, f"_on_{done.kind}")(done)
        self.on_progress()
        self._compare_clocks(done)
        return True

    def _compare_clocks(self, done: _Done) -> None:
        if not self._is_clock_open or done.seconds_off is None:
            return
        if abs(done.seconds_off) > FARTHEST_OFF:
            raise ConfigError(
                f"this machine's clock is {abs(done.seconds_off) / 60:,.0f} minutes "
                f"{'ahead of' if done.seconds_off > 0 else 'behind'} the API's, and ages or caps of days and months "
                "are told by it. Set the clock; if it is right, choose accept_clock"
            )
        self._is_clock_open = False

    def _wait(self) -> None:
        if not self._flying and not self._elsewhere:
            time.sleep(0.02)
        elif not self._take_finished(seconds=_POLL_SECONDS):
            self._look_elsewhere_sometimes()

    def _look_elsewhere_sometimes(self) -> None:
        if self._elsewhere and time.monotonic() - self._looked_elsewhere > _POLL_SECONDS:
            self._look_elsewhere()
            self._looked_elsewhere = time.monotonic()

    def _look_elsewhere(self) -> None:
        self.take_over()
        waiting, self._elsewhere = self._elsewhere, []
        self._look_up_again(waiting)
        self._agenda.put_back([one for one in waiting if one.state == "open"])

    def _on_answered(self, done: _Done) -> None:
        reading = done.reading
        if reading is None:
            raise LedgerError("a reply was lost inside; run again, and please report it")
        self._busy_since, self._refusals = None, 0
        self._report.replies += 1
        self._report.answers += len(reading.positions)
        self._report.credits_charged += reading.credits
        self._has_withheld = self._has_withheld or FORGOTTEN in reading.positions
        self._report.extra_records += reading.extra
        self._report.wrong_counts += reading.wrong_count
        self._report.failed_records += reading.positions.count(FAILED)
        at, request_id = reading.stored.answered_at, reading.stored.request_id
        missed = Known("missed", request_id, self.run, at)
        answers = {
            position: Known(
                "matched", request_id, self.run, at, position, has_vanity=row in reading.with_vanity,
                contacts=reading.contacts, row=row,
            )
            for position, row in reading.rows.items()
        }  # fmt: skip
        for question, position in zip(done.questions, reading.positions, strict=True):
            self._settle(question, position, answers.get(position, missed))
        if reading.unreadable:
            self._halt("a reply could not be read; it is kept, and nothing more was sent")
        elif not reading.is_whole:
            self._halt("a reply broke off; nothing more was sent")

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
        if question.answer is not None:
            # Bought before, asked again because it was old, and not found any more.
            self._agenda.settle(question, "matched")
        else:
            self._agenda.settle(question, "missed", miss)

    def _on_doubt(self, done: _Done) -> None:
        for question in done.questions:
            self._agenda.settle(question, "in_doubt")
        if 300 <= done.status < 500 and done.status != 408:
            self._halt(
                f"the API refused with HTTP {done.status} and yet speaks of contacts; that request is in "
                "doubt, and nothing more was sent"
            )

    def _on_busy(self, done: _Done) -> None:
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
        self._retries.append((done.questions, done.attempt))

    def _on_unsent(self, done: _Done) -> None:
        self._report.requests -= 1
        self._retries.append((done.questions, done.attempt))

    def _on_free(self, done: _Done) -> None:
        attempt = done.attempt + 1
        if attempt > MOST_ATTEMPTS:
            raise Busy(
                f"the API could not be reached in {attempt} attempts ({done.reason}). {self._client.unreachable}"
            )
        # Not random for security: so that several senders do not come back at once.
        jitter = 1 + random.random() / 4  # noqa: S311
        self._not_before = time.monotonic() + jitter * min(0.125 * 2**attempt, _LONGEST_BACKOFF)
        self._retries.append((done.questions, attempt))

    def _on_refused(self, done: _Done) -> None:
        advice = {
            401: "the API key is invalid; check EXACTBUYER_API_KEY",
            403: "insufficient credits; top up, then run again",
            400: "the API calls the request badly formatted; please report it",
            413: "the API calls the request too large; lower partition_size",
        }.get(
            done.status,
            "a redirect is never followed, because the key and the people would go along; check base_url"
            if done.status < 400
            else "check base_url and the vendor's status page, then run again",
        )
        raise Refused(
            f"the API refused with HTTP {done.status}: {advice}",
            status=done.status,
        )

    def _on_failed(self, done: _Done) -> None:
        if done.error is not None:
            raise done.error

    # Ending

    def finish(self) -> None:
        """Let what is in flight arrive and be stored; send nothing more."""
        self._stop.set()
        if self._ledger.is_forked:
            # Those who wait for replies are threads of the parent.
            return
        try:
            if self._flying:
                self.on_waiting(self._flying, self._credits_flying)
            while self._flying:
                # One error is on its way already; the others are in the ledger.
                with contextlib.suppress(Exception):
                    self._take_finished(seconds=_POLL_SECONDS)
        except BaseException:
            self.abort()
            raise
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True)
            self._reader.shutdown(wait=True)
            # A ledger that is out of reach is told of already.
            with contextlib.suppress(LedgerError):
                self._ledger.end_run(self.run)
                if self._has_withheld:
                    # The log still has the reply as it came.
                    self._ledger.compact()

    def sum_up(self) -> None:
        """Put into the report what the ledger says that the run has spent."""
        spent = self._ledger.spending(run=self.run)
        self._report.credits_charged = spent.credits
        self._report.credits_in_doubt = spent.at_risk
        self._report.credits_saved = max(0, self._report.matched - spent.credits)

    def abort(self) -> None:
        """Stop at once. What is cut off is in doubt."""
        self._stop.set()
        self._ledger.hurry()
        self._client.abort()


def _seconds_off(outcome: Reply | NoReply, sent_at: float, answered_at: float) -> float | None:
    """How far the clock is ahead of the one that dated the reply, which was between these moments."""
    if isinstance(outcome, NoReply):
        return None
    if outcome.date is None:
        # Nobody can tell, and nobody ever will.
        return 0.0
    return max(0.0, sent_at - outcome.date) or min(0.0, answered_at - outcome.date)


def freshness(settings: Settings, *, newest: int) -> Freshness:
    """The moments from which on contacts and misses still count, of requests up to the `newest`."""

    def since(age: timedelta | None) -> float | None:
        return None if age is None else time.time() - age.total_seconds()

    return Freshness(since(settings.max_age), since(settings.retry_misses_after), newest)

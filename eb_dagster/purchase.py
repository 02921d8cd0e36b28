"""Buy what an agenda asks for, inside the limits, and settle its questions.

The order of each request: intent durable → bytes leave → raw reply durable → parsed → applied.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Final, Literal

import pyarrow as pa

from eb_dagster.client import Client, NoReply, Reply
from eb_dagster.contacts import Contact, read_contact
from eb_dagster.errors import Busy, EnrichError, LedgerError, OutcomeUnknown, Refused
from eb_dagster.identifiers import FIELD_TYPES, FieldType, Identifier, canonical
from eb_dagster.ledger import (
    Alias,
    Freshness,
    Known,
    Ledger,
    Limits,
    StoredReply,
    pack_fields,
)
from eb_dagster.ledger import Question as Outcome
from eb_dagster.pacer import Pacer
from eb_dagster.plan import Agenda, Question
from eb_dagster.report import Report
from eb_dagster.settings import Settings
from eb_dagster.wire import IN_DOUBT, MISSED, UNREADABLE, align, encode_form, inflate, parse_reply

MOST_THREADS: Final = 48
MOST_ATTEMPTS: Final = 5
_POLL_SECONDS: Final = 0.2
_ZSTD: Final = "eb-zstd"


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered a question: a contact of a stored reply, or nobody (`contact` is None)."""

    known: Known
    contact: Contact | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """An applied reply: for each question its outcome, and the contacts by position."""

    stored: StoredReply
    outcomes: tuple[Outcome, ...]
    contacts: dict[int, Contact] = field(repr=False)
    extra: int
    wrong_count: bool


@dataclass(frozen=True, slots=True)
class _Done:
    """What a sender reports back."""

    questions: list[Question]
    attempt: int
    request_id: int
    kind: Literal["answered", "free", "busy", "doubt", "refused", "failed"]
    reading: Reading | None = None
    status: int = 0
    retry_after: str | None = None
    reason: str = ""
    error: BaseException | None = None


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
        self._limits = Limits(settings.max_credits, settings.max_credits_at_risk)
        self._pacer = Pacer(ledger, requests_per_minute=settings.requests_per_minute)
        self._freshness = freshness(settings)
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._retries: list[tuple[list[Question], int]] = []
        self._elsewhere: list[Question] = []
        self._flying = 0
        self._threads = max(1, min(MOST_THREADS, self._settings.max_credits_at_risk))
        self._pool: ThreadPoolExecutor | None = None
        self._not_before = 0.0
        self._busy_since: float | None = None
        self._refusals = 0
        self.stopping = False
        self.on_progress: Callable[[], None] = lambda: None

    # Looking up

    def look_up(self, questions: Sequence[Question]) -> None:
        """Settle what the ledger knows of new questions."""
        new = [one for one in questions if one.state == "new"]
        if not new:
            return
        barred = self._ledger.suppressed([one.identifier for one in new])
        known, newest = self._ledger.lookup(
            [one.key for one in new], required=self._required,
            alias_keys=self._alias_keys(new), freshness=self._freshness,
        )  # fmt: skip
        for question in new:
            question.seen = newest
            if question.identifier in barred:
                self._agenda.settle(question, "suppressed")
            else:
                question.state = "open"
                self._apply_known(question, known.get(question.key))

    def _apply_known(self, question: Question, known: Known | None) -> None:
        if known is None:
            return
        if known.standing == "matched":
            if known.is_stale:
                question.answer = Answer(known)
            else:
                self._agenda.settle(question, "matched", Answer(known))
        elif known.standing == "missed":
            self._agenda.settle(question, "missed", Answer(known))
        elif known.standing == "in_flight":
            question.state = "elsewhere"
            self._elsewhere.append(question)
        elif known.standing == "unreadable":
            self._agenda.settle(question, "unreadable")
        elif self._settings.in_doubt == "hold":
            self._agenda.settle(question, "in_doubt")

    def _alias_keys(self, questions: Iterable[Question]) -> list[bytes]:
        kinds = self._settings.aliases
        return [one.key for one in questions if one.identifier.field_type in kinds]

    # Buying

    def step(self, *, all_rows_in: bool) -> None:
        """Do the next useful thing: send a partition, or wait for something to happen."""
        if not self._take_finished(block=False) and not self._send(all_rows_in=all_rows_in):
            self._wait()

    @property
    def has_work(self) -> bool:
        """Whether anything is queued, in flight, or asked by someone else."""
        return bool(
            self._flying or self._retries or self._elsewhere
            or self._agenda.first_step() is not None
        )  # fmt: skip

    def _send(self, *, all_rows_in: bool) -> bool:
        if self.stopping:
            self._agenda.give_up()
            for questions, _ in self._retries:
                for question in questions:
                    self._agenda.settle(question, "not_asked")
            self._retries.clear()
            return False
        if self._flying >= self._threads or time.monotonic() < self._not_before:
            return False
        room = self._room()
        size = min(self._settings.partition_size, room)
        if size < self._settings.partition_size and self._flying:
            # Near a limit: what is in flight may cost less than it could.
            return False
        questions, attempt = self._next_partition(max(size, 1), all_rows_in=all_rows_in)
        if not questions:
            return False
        self._pacer.wait()
        return self._claim_and_send(questions, attempt)

    def _room(self) -> int:
        spent = self._ledger.spending(run=self.run)
        whole = self._ledger.spending()
        room = self._settings.max_credits_at_risk - whole.at_risk
        if self._settings.max_credits is not None:
            used = spent.credits + spent.at_risk + spent.unreadable
            room = min(room, self._settings.max_credits - used)
        return room

    def _next_partition(self, size: int, *, all_rows_in: bool) -> tuple[list[Question], int]:
        if self._retries:
            questions, attempt = self._retries.pop(0)
            if len(questions) > size:
                self._retries.insert(0, (questions[size:], attempt))
            return questions[:size], attempt
        step = self._agenda.full_step(self._settings.partition_size)
        if step is None:
            step = self._agenda.first_step()
            # The rest of the first step goes once all rows are in; the rest of a later one, and
            # that of a full window, once nothing in flight can add to it.
            may_grow = self._flying or self._elsewhere
            if step is None or (may_grow and not (step == 0 and all_rows_in)):
                return [], 0
        return self._agenda.cut_step(step, size), 0

    def _claim_and_send(self, questions: list[Question], attempt: int) -> bool:
        claim = self._ledger.claim(
            [one.key for one in questions], run=self.run, required=self._required,
            limits=self._limits, seen=min(one.seen for one in questions),
            alias_keys=self._alias_keys(questions), freshness=self._freshness,
            resend=self._settings.in_doubt == "resend",
        )  # fmt: skip
        if claim.known:
            self._learn(questions, claim.known)
            return True
        self._agenda.put_back(questions[claim.granted :])
        if claim.request_id is None:
            self._out_of_room(claim.short_of)
            return True
        asked = questions[: claim.granted]
        for question in asked:
            question.state = "asked"
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="eb_dagster")
        self._flying += 1
        self._report.requests += 1
        self._pool.submit(self._exchange, asked, attempt, claim.request_id)
        return True

    def _learn(self, questions: list[Question], news: Mapping[bytes, Known]) -> None:
        rest: list[Question] = []
        for question in questions:
            question.state = "open"
            self._apply_known(question, news.get(question.key))
            if question.state == "open":
                rest.append(question)
        self._agenda.put_back(rest)

    def _out_of_room(self, short_of: Literal["credits", "risk"] | None) -> None:
        if self._flying:
            return
        if short_of == "credits":
            self._report.stopped = "max_credits is spent"
            self.stopping = True
            return
        whole = self._ledger.spending()
        if whole.in_flight:
            # Another process has it; its answer makes room.
            time.sleep(_POLL_SECONDS)
            self._ledger.recover()
            return
        raise OutcomeUnknown(
            f"{whole.in_doubt:,} credits are in doubt, as many as max_credits_at_risk allows "
            f"({self._settings.max_credits_at_risk:,}); what was bought is in the ledger. Compare "
            "with the vendor's bill, then run with in_doubt='resend' or a higher limit"
        )

    # Sending, in threads

    def _exchange(self, questions: list[Question], attempt: int, request_id: int) -> None:
        try:
            done = self._send_once(questions, attempt, request_id)
        except BaseException as error:
            done = _Done(questions, attempt, request_id, "failed", error=error)
        self._done.put(done)

    def _send_once(self, questions: list[Question], attempt: int, request_id: int) -> _Done:
        identifiers = [one.identifier for one in questions]
        form = encode_form(identifiers, required_fields=self._settings.required_fields)
        try:
            reply = self._client.send(form)
        except EnrichError:
            self._ledger.release(request_id, state="free", note="not sent")
            raise
        if isinstance(reply, NoReply):
            return self._no_reply(questions, attempt, request_id, reply)
        if 200 <= reply.status < 300 or (reply.status < 500 and b'"contacts"' in reply.body):
            return self._answered(questions, attempt, request_id, reply)
        status, reason = reply.status, f"HTTP {reply.status}"
        if status == 429 or (not reply.request_left and status >= 500):
            self._ledger.release(request_id, state="free", note=reason)
            kind = "busy" if status == 429 else "free"
            return _Done(
                questions, attempt, request_id, kind, status=status,
                retry_after=reply.retry_after, reason=reason,
            )  # fmt: skip
        if status >= 500 or status == 408:
            self._ledger.doubt(request_id, http_status=status, note=reason)
            return _Done(questions, attempt, request_id, "doubt", status=status, reason=reason)
        self._ledger.release(request_id, state="refused", note=reason)
        return _Done(questions, attempt, request_id, "refused", status=status, reason=reason)

    def _no_reply(self, questions: list[Question], attempt: int, request_id: int, reply: NoReply) -> _Done:
        if reply.request_left:
            self._ledger.doubt(request_id, http_status=None, note=reply.reason)
            return _Done(questions, attempt, request_id, "doubt", reason=reply.reason)
        self._ledger.release(request_id, state="free", note=reply.reason)
        return _Done(questions, attempt, request_id, "free", reason=reply.reason)

    def _answered(self, questions: list[Question], attempt: int, request_id: int, reply: Reply) -> _Done:
        body, encoding = compress(reply.body, reply.encoding)
        stored = self._ledger.record(
            request_id, http_status=reply.status, encoding=encoding,
            complete=reply.complete, body=body,
        )  # fmt: skip
        reading = apply_reply(self._ledger, stored, aliases=self._settings.aliases)
        return _Done(questions, attempt, request_id, "answered", reading=reading)

    # Taking in what came back

    def _take_finished(self, *, block: bool) -> bool:
        try:
            done = self._done.get(timeout=_POLL_SECONDS if block else 0.0)
        except queue.Empty:
            return False
        self._flying -= 1
        getattr(self, f"_on_{done.kind}")(done)
        self.on_progress()
        return True

    def _wait(self) -> None:
        if not self._flying and not self._elsewhere:
            time.sleep(0.02)
        elif not self._take_finished(block=True) and self._elsewhere:
            self._look_elsewhere()

    def _look_elsewhere(self) -> None:
        self._ledger.recover()
        waiting, self._elsewhere = self._elsewhere, []
        known, newest = self._ledger.lookup(
            [one.key for one in waiting], required=self._required,
            alias_keys=self._alias_keys(waiting), freshness=self._freshness,
        )  # fmt: skip
        free: list[Question] = []
        for question in waiting:
            question.seen, question.state = newest, "open"
            self._apply_known(question, known.get(question.key))
            if question.state == "open":
                free.append(question)
        self._agenda.put_back(free)

    def _on_answered(self, done: _Done) -> None:
        reading = done.reading
        if reading is None:
            raise LedgerError("a reply was lost inside")
        self._busy_since, self._refusals = None, 0
        self._report.replies += 1
        self._report.answers += len(reading.outcomes)
        self._report.credits_charged += sum(one.position >= 0 for one in reading.outcomes)
        self._report.extra_records += reading.extra
        self._report.wrong_counts += reading.wrong_count
        for question, outcome in zip(done.questions, reading.outcomes, strict=True):
            self._settle(question, outcome, reading)
        if any(one.position == UNREADABLE for one in reading.outcomes):
            self._halt("a reply could not be read; it is kept, and nothing more was sent")
        elif not reading.stored.complete:
            self._halt("a reply broke off; nothing more was sent")

    def _halt(self, why: str) -> None:
        self._report.stopped = why
        self.stopping = True

    def _settle(self, question: Question, outcome: Outcome, reading: Reading) -> None:
        at, request_id = reading.stored.answered_at, reading.stored.request_id
        if outcome.position >= 0:
            known = Known("matched", request_id, self.run, at, outcome.position)
            contact = reading.contacts[outcome.position]
            self._agenda.settle(question, "matched", Answer(known, contact))
        elif outcome.position == MISSED:
            if question.answer is not None:
                # Bought before, asked again because it was old, and not found any more.
                self._agenda.settle(question, "matched")
            else:
                self._agenda.settle(question, "missed", Answer(Known("missed", request_id, self.run, at)))
        else:
            self._agenda.settle(question, "in_doubt" if outcome.position == IN_DOUBT else "unreadable")

    def _on_doubt(self, done: _Done) -> None:
        for question in done.questions:
            self._agenda.settle(question, "in_doubt")

    def _on_busy(self, done: _Done) -> None:
        self._report.refusals += 1
        now = time.monotonic()
        if self._busy_since is None:
            self._busy_since = now
        if now - self._busy_since > self._settings.timeout:
            raise Busy(
                f"the API answered 429 for {self._settings.timeout:.0f} s; nothing was charged for "
                "that. Run again later, or lower requests_per_minute"
            )
        self._pacer.pause(retry_after=done.retry_after, refusals=self._refusals)
        self._refusals += 1
        self._retries.append((done.questions, done.attempt))

    def _on_free(self, done: _Done) -> None:
        attempt = done.attempt + 1
        if attempt > MOST_ATTEMPTS:
            raise Busy(
                f"the API could not be reached in {attempt} attempts ({done.reason}); nothing was "
                "charged for that. Check base_url and the network, then run again"
            )
        self._not_before = time.monotonic() + min(0.25 * 2**attempt, 8.0)
        self._retries.append((done.questions, attempt))

    def _on_refused(self, done: _Done) -> None:
        advice = {
            401: "the API key is invalid: check EXACTBUYER_API_KEY",
            403: "insufficient credits: top up, then run again, which asks only for the rest",
            400: "the API calls the request badly formatted",
            413: "the API calls the request too large: lower partition_size",
        }.get(done.status, "redirects are never followed" if done.status < 400 else "")
        raise Refused(
            f"the API refused with HTTP {done.status} and charged nothing for it"
            f"{': ' if advice else ''}{advice}. What was bought before is in the ledger",
            status=done.status,
        )

    def _on_failed(self, done: _Done) -> None:
        if done.error is not None:
            raise done.error

    # Ending

    def finish(self) -> None:
        """Let what is in flight arrive and be stored; send nothing more."""
        self.stopping = True
        try:
            while self._flying:
                try:
                    self._take_finished(block=True)
                except EnrichError:
                    # One error is on its way already, or this one has been reported.
                    continue
        except BaseException:
            # A second Ctrl-C: stop at once. What is cut off here is in doubt.
            self._client.abort()
            raise
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True)


def freshness(settings: Settings) -> Freshness:
    """The moments from which on contacts and misses still count."""

    def since(age: timedelta | None) -> float | None:
        return None if age is None else time.time() - age.total_seconds()

    return Freshness(since(settings.max_age), since(settings.retry_misses_after))


def compress(body: bytes, encoding: str) -> tuple[bytes, str]:
    """A raw reply as it is kept: as it came if it came compressed, else with zstd."""
    if encoding.strip() or not body:
        return body, encoding
    return pa.compress(body, codec="zstd", asbytes=True), f"{_ZSTD}:{len(body)}"


def decompress(stored: StoredReply) -> tuple[bytes, bool]:
    """A stored reply's body as JSON text, and whether it is whole."""
    name, _, size = stored.encoding.partition(":")
    if name == _ZSTD:
        body = pa.decompress(stored.body, decompressed_size=int(size), codec="zstd", asbytes=True)
        return bytes(body), stored.complete
    body, whole = inflate(stored.body, stored.encoding)
    return body, whole and stored.complete


def apply_reply(ledger: Ledger, stored: StoredReply, *, aliases: Sequence[FieldType]) -> Reading:
    """Read a durable reply and note in the ledger what it says."""
    body, whole = decompress(stored)
    parsed = parse_reply(body)
    places = {key: at for at, key in enumerate(stored.keys)}

    def find(echo: str) -> int | None:
        literal = ledger.keys_of_echo(echo, FIELD_TYPES)
        for key in literal:
            if key in places:
                return places[key]
        for spelling in _spellings(echo):
            if (place := places.get(ledger.key(spelling))) is not None:
                return place
        return None

    alignment = align(parsed, asked=len(stored.keys), find=find, complete=stored.complete and whole)
    contacts: dict[int, Contact] = {}
    outcomes: list[Outcome] = []
    for position in alignment.positions:
        if position < 0:
            outcomes.append(Outcome(position))
            continue
        raw = parsed.records[position].contact or b"null"
        contacts[position] = contact = read_contact(raw)
        outcomes.append(Outcome(position, frozenset(contact.held)))
    ledger.apply(
        stored.request_id, questions=outcomes, records_enriched=parsed.records_enriched,
        aliases=list(_aliases(ledger, contacts, aliases)),
    )  # fmt: skip
    count = parsed.records_enriched
    return Reading(
        stored, tuple(outcomes), contacts, alignment.extra,
        wrong_count=count not in (None, sum(one.contact is not None for one in parsed.records)),
    )  # fmt: skip


def _spellings(echo: str) -> Iterable[Identifier]:
    texts: list[tuple[FieldType, str]] = [(kind, echo) for kind in FIELD_TYPES]
    if echo.strip().isdigit():
        texts.append(("phone", f"+{echo.strip()}"))
    for kind, text in texts:
        one = canonical(kind, text)
        if isinstance(one, Identifier):
            yield one


def _aliases(ledger: Ledger, contacts: dict[int, Contact], kinds: Sequence[FieldType]) -> Iterable[Alias]:
    for position, contact in contacts.items():
        texts: dict[FieldType, tuple[str, ...]] = {
            "email": contact.emails, "phone": contact.phones, "social_profile": contact.profiles,
        }  # fmt: skip
        found = {kind: _canonical_all(kind, texts[kind]) for kind in FIELD_TYPES if kind in kinds}
        # The same person bought twice is one person: told by the profile, else by the contents.
        identity = next(iter(found.get("social_profile", ())), None)
        person = _digest(identity.value if identity else repr(contact.values))
        for identifiers in found.values():
            for identifier in identifiers:
                yield Alias(ledger.key(identifier), position, frozenset(contact.held), person)


def _canonical_all(kind: FieldType, texts: Sequence[str]) -> list[Identifier]:
    ones = (canonical(kind, text) for text in texts)
    return list(dict.fromkeys(one for one in ones if isinstance(one, Identifier)))


def _digest(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")

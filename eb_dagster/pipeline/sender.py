"""Send claimed requests, each in a thread, and store what comes back.

The order of each request: intent durable → bytes leave → raw reply durable → parsed → applied. The first is
the claim that `purchase` made; the rest is here.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn, TypeAlias

from eb_dagster.api.client import Client
from eb_dagster.api.envelope import encode_form
from eb_dagster.api.outcome import Verdict, judge
from eb_dagster.api.reply import NoReply, Reply
from eb_dagster.errors import EnrichError, Refused
from eb_dagster.identifiers.model import FieldType
from eb_dagster.identifiers.offers import Numbers
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import Reading, compress, note_reply, read_reply
from eb_dagster.settings import Settings

Refusal: TypeAlias = Literal["free", "busy", "doubt", "refused"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is claimed in the ledger."""

    request_id: int
    slots: Numbers = field(repr=False)
    """The slots of the questions in the window of open rows."""
    kinds: list[FieldType] = field(repr=False)
    values: list[str] = field(repr=False)
    """What is asked, in canonical form."""
    attempt: int
    """How many times these questions were sent before, in vain."""
    due: float
    """The time to send, by `time.monotonic`."""
    list_version: int
    """The version of the suppression list by which nobody among the questions is suppressed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply came, was stored and read."""

    request: Request
    reading: Reading
    seconds_off: float | None
    """How far this machine's clock is ahead of the reply's `Date`; 0 if it has none, None without a reply."""


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """The request was sent, or tried to be, and no answer came."""

    request: Request
    verdict: Refusal
    status: int
    """0 without a reply."""
    reason: str
    retry_after: str | None
    seconds_off: float | None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The claim was released before anything left."""

    request: Request


@dataclass(frozen=True, slots=True)
class Failed:
    """Something else went wrong."""

    request: Request
    error: BaseException


Sent: TypeAlias = Answered | NotAnswered | NotSent | Failed


class Sender:
    """Sends requests in up to `threads` threads. Once `is_stopped` is set, it sends nothing more."""

    def __init__(
        self, *, settings: Settings, ledger: Ledger, client: Client, threads: int, is_stopped: threading.Event
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._is_stopped = is_stopped
        self._done: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        self._threads: Final = threads
        self._pool: ThreadPoolExecutor | None = None
        # Replies are read one at a time: side by side, that is slower and takes more memory. What the ledger has
        # to note waits for its lock and its disk, and meanwhile the next one is read.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="eb_dagster_reader")
        self._in_memory = threading.Semaphore(2)
        self.in_flight = 0
        """Requests that were given to a thread and not taken back by `take`."""
        self.credits_in_flight = 0

    def send(self, request: Request) -> None:
        """Send a request in a thread, when it is due."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="eb_dagster")
        # Should this raise, the claim stays: a pool that cannot start another thread has queued the
        # request all the same, and a thread that it has may still send it.
        self._pool.submit(self._exchange, request)
        self.in_flight += 1
        self.credits_in_flight += len(request.values)

    def take(self, *, seconds: float) -> Sent | None:
        """What came of a request, waiting for up to so many seconds; None if none is done."""
        try:
            done = self._done.get(timeout=seconds) if seconds > 0 else self._done.get_nowait()
        except queue.Empty:
            return None
        self.in_flight -= 1
        self.credits_in_flight -= len(done.request.values)
        return done

    def close(self) -> None:
        """Wait for all threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self._reader.shutdown(wait=True)

    # In a thread

    def _exchange(self, request: Request) -> None:
        done: Sent
        try:
            is_stopped = self._is_stopped.wait(max(0.0, request.due - time.monotonic()))
            # If somebody was suppressed since the claim, it is claimed anew, without that person.
            if is_stopped or self._ledger.suppression.current().version != request.list_version:
                self._ledger.release(request.request_id, state="free", note="not sent")
                done = NotSent(request)
            else:
                done = self._send(request)
        except BaseException as error:
            done = Failed(request, error)
        self._done.put(done)

    def _send(self, request: Request) -> Answered | NotAnswered:
        required_fields = self._settings.required_fields
        form = encode_form(request.kinds, request.values, required_fields=required_fields)
        sent_at = time.time()
        try:
            outcome = self._client.send(form)
        except EnrichError:
            self._ledger.release(request.request_id, state="free", note="not sent")
            raise
        seconds_off = _seconds_off(outcome, sent_at=sent_at, answered_at=time.time())
        verdict = judge(outcome)
        if isinstance(outcome, Reply) and verdict == "answered":
            return Answered(request, self._store(request, outcome), seconds_off)
        return self._give_up(request, outcome, verdict, seconds_off)

    def _give_up(
        self, request: Request, outcome: Reply | NoReply, verdict: Verdict, seconds_off: float | None
    ) -> NotAnswered:
        """Note in the ledger what becomes of a request without an answer."""
        reply = outcome if isinstance(outcome, Reply) else None
        reason = outcome.reason if isinstance(outcome, NoReply) else f"HTTP {outcome.status}"
        refusal: Refusal = "doubt" if verdict == "answered" else verdict
        if refusal == "doubt":
            status = None if reply is None else reply.status
            self._ledger.doubt(request.request_id, http_status=status, note=reason)
        else:
            state = "refused" if refusal == "refused" else "free"
            self._ledger.release(request.request_id, state=state, note=reason)
        return NotAnswered(
            request,
            refusal,
            status=0 if reply is None else reply.status,
            reason=reason,
            retry_after=None if reply is None else reply.retry_after,
            seconds_off=seconds_off,
        )

    def _store(self, request: Request, reply: Reply) -> Reading:
        body, encoding = compress(reply.body, reply.encoding)
        stored = self._ledger.record(
            request.request_id,
            http_status=reply.status,
            encoding=encoding,
            complete=reply.complete,
            body=body,
        )
        sent = dict(zip(request.values, range(len(request.values)), strict=True))
        with self._in_memory:
            while True:
                notes = self._reader.submit(read_reply, self._ledger, stored, sent=sent).result()
                if note_reply(self._ledger, notes):
                    return notes.reading


def _seconds_off(outcome: Reply | NoReply, *, sent_at: float, answered_at: float) -> float | None:
    """How far this machine's clock is ahead of the one that dated the reply, at a time between these two."""
    if isinstance(outcome, NoReply):
        return None
    if outcome.date is None:
        # Nobody can tell, and later replies will not tell either.
        return 0.0
    return max(0.0, sent_at - outcome.date) or min(0.0, answered_at - outcome.date)


def raise_refused(status: int) -> NoReturn:
    """Raise what a refusal with this status means, and what to do."""
    match status:
        case 401:
            advice = "the API key is invalid; check EXACTBUYER_API_KEY"
        case 403:
            advice = "insufficient credits; top up, then run again"
        case 400:
            advice = "the API calls the request badly formatted; please report it"
        case 413:
            advice = "the API calls the request too large; lower partition_size"
        case _ if status < 400:
            advice = (
                "a redirect is never followed, because the key and the people would go along; check base_url"
            )
        case _:
            advice = "check base_url and the vendor's status page, then run again"
    raise Refused(f"the API refused with HTTP {status}: {advice}", status=status)

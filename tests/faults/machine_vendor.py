"""What the state machine buys from: a vendor that keeps count, and a client whose requests meet a script."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

from eb_dagster.api.reply import NoReply, Reply
from tests.faults.counts import Counts

KINDS: Final = ("social_profile", "email", "phone")
PEOPLE: Final = 12
SHARED: Final = "desk@shared.example"

# What becomes of a request, from the best to the worst. Most of them go well.
PLAIN: Final = ("answered",) * 6 + ("shuffled", "upper", "extra", "gzip", "wrong count")
LOST: Final = ("502", "500", "408", "reset after", "lost", "torn", "torn gzip", "missing")
GARBLED: Final = ("page", "no echo", "empty")
SLOW: Final = ("429", "reset before")
REFUSED: Final = ("401", "403", "413", "302")
DEADLY: Final = ("dies before", "dies after")


class Death(BaseException):
    """The process ends while it waits for a reply."""


def identifier(person: int, kind: str) -> str:
    return {
        "email": f"lead-{person}@machine.example",
        "social_profile": f"linkedin.com/in/lead-{person}",
        "phone": f"+1202555{100 + person:04d}",
    }[kind]


@dataclass
class Tale(Counts):
    """What happened over all machines of a session."""

    largest: ClassVar[frozenset[str]] = frozenset({"most_doubt"})

    steps: int = 0
    machines: int = 0
    requests: int = 0
    charges: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    most_doubt: int = 0
    statuses: Counter[str] = field(default_factory=Counter[str])
    breaks: list[str] = field(default_factory=list[str])


_PERSON_BY_IDENTIFIER: Final = {
    identifier(person, kind): person for person in range(PEOPLE) for kind in KINDS
}


class Vendor:
    """Finds people, charges for each found, and keeps count."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: set[int] = set(range(0, PEOPLE, 2)) | {1, 5}
        self.charges: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        # The client cannot know whether these were charged, so a second purchase is its choice.
        self.doubtful: set[str] = set()
        self.allowed: Counter[str] = Counter()
        self.history: list[str] = []

    def person_of(self, value: str) -> int | None:
        """The number of the person who is found by an identifier."""
        return 0 if value == SHARED else _PERSON_BY_IDENTIFIER.get(value)

    def contact(self, person: int) -> dict[str, Any]:
        held: dict[str, Any] = {
            "full_name": f"Person {person}",
            "current_work_email": identifier(person, "email"),
            "emails": [identifier(person, "email"), *([SHARED] if person < 4 else [])],
            "social_profiles": [{"network": "linkedin", "url": identifier(person, "social_profile")}],
            "phone_numbers": [{"E164": identifier(person, "phone")}] if person % 3 else [],
        }
        if person % 4 == 0:
            del held["current_work_email"]
        return held

    def answer(self, value: str, required: Sequence[str]) -> dict[str, Any] | None:
        person = self.person_of(value)
        if person is None or person not in self.known:
            return None
        contact: dict[str, Any] = self.contact(person)
        keys = {
            "email": "emails", "work_email": "current_work_email", "phone": "phone_numbers",
            "social_profile": "social_profiles",
        }  # fmt: skip
        return contact if all(contact.get(keys[name]) for name in required) else None

    def process(self, values: Sequence[str], required: Sequence[str]) -> list[dict[str, Any]]:
        entries = [{"value": value, "enriched_contact": self.answer(value, required)} for value in values]
        for entry in entries:
            if entry["enriched_contact"] is not None:
                self.charges[entry["value"]] += 1
        return entries


class Wire:
    """Takes the client's place: what becomes of each request stands in the script."""

    def __init__(
        self, vendor: Vendor, tale: Tale, script: Iterable[str], *, is_resending: bool, buys_again: bool
    ) -> None:
        self._vendor = vendor
        self._tale = tale
        self._script = iter(script)
        self._is_resending = is_resending
        self._buys_again = buys_again
        self.sent = 0
        self.values: Counter[str] = Counter()
        self.charged = 0
        self.hold: threading.Event | None = None
        """Holds every reply back until it is set."""
        self.held = threading.Event()
        """Set once a reply is held back."""

    def send(self, form: bytes) -> Reply | NoReply:
        fields = parse_qs(form.decode(), keep_blank_values=True)
        values = [entry["value"] for entry in json.loads(fields["query_list"][0])]
        required = [entry["field_type"] for entry in json.loads(fields["required_fields"][0])]
        with self._vendor.lock:
            fate = next(self._script, "answered")
            self.sent += 1
            reply = self._settle(fate, values, required)
        if self.hold is not None:
            self.held.set()
            self.hold.wait(30)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def open(self) -> None:
        """Nothing is to be loaded."""

    def abort(self) -> None:
        """Nothing is open."""

    def _settle(self, fate: str, values: list[str], required: list[str]) -> Reply | NoReply | BaseException:
        self._tale.requests += 1
        self._tale.ends[fate] += 1
        if fate == "reset before":
            return NoReply(False, "reset")
        if fate in SLOW or fate in REFUSED:
            return _reply(int(fate), b"<html>", retry_after="0.1")
        self._vendor.history.append(f"{fate}: {', '.join(values)} requiring {required}")
        for value in values:
            self.values[value] += 1
            self._allow(value)
        before = self._vendor.charges.total()
        is_processed = fate not in ("500", "lost", "dies before")
        entries = self._vendor.process(values, required) if is_processed else []
        charged = self._vendor.charges.total() - before
        self.charged += charged
        self._tale.charges += charged
        if fate in LOST or fate in DEADLY:
            self._vendor.doubtful |= set(values)
        else:
            self._vendor.doubtful -= set(values)
        return self._answer(fate, entries)

    def _allow(self, value: str) -> None:
        if (self._is_resending and value in self._vendor.doubtful) or self._buys_again:
            self._vendor.allowed[value] += 1

    def _answer(self, fate: str, entries: list[dict[str, Any]]) -> Reply | NoReply | BaseException:
        if fate in DEADLY:
            return Death()
        if fate in ("reset after", "lost"):
            return NoReply(True, "reset")
        if fate in ("502", "500", "408"):
            return _reply(int(fate), b"<html>")
        if fate in ("page", "empty"):
            return _reply(200, b"<html>Sign in" if fate == "page" else b"")
        body = _body(fate, entries)
        encoding = "gzip" if "gzip" in fate else ""
        if encoding:
            body = gzip.compress(body, 1)
        if fate.startswith("torn"):
            return _reply(200, body[: len(body) * 2 // 3], encoding=encoding, complete=False)
        return _reply(200, body, encoding=encoding)


def _body(fate: str, entries: list[dict[str, Any]]) -> bytes:
    contacts = _rearrange(fate, entries)
    count = sum(entry["enriched_contact"] is not None for entry in contacts)
    if fate == "wrong count":
        count = len(contacts) + 1
    return json.dumps({"contacts": contacts, "records_enriched": count}).encode()


def _rearrange(fate: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    match fate:
        case "shuffled":
            return entries[1::2] + entries[::2]
        case "upper":
            return [{**entry, "value": entry["value"].upper()} for entry in entries]
        case "extra":
            nobody = {"value": "never@asked.example", "enriched_contact": {"full_name": "Nobody"}}
            return [nobody, *entries]
        case "no echo":
            return [{"enriched_contact": entry["enriched_contact"]} for entry in entries]
        case "missing":
            return entries[::2]
        case _:
            return entries


def _reply(
    status: int,
    body: bytes,
    *,
    encoding: str = "",
    complete: bool = True,
    retry_after: str | None = None,
) -> Reply:
    return Reply(
        status=status,
        body=body,
        encoding=encoding,
        complete=complete,
        request_left=True,
        retry_after=retry_after,
    )

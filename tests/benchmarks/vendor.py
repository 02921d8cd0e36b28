"""A vendor that knows a part of the world's people, over real HTTP, and counts what it charges and for whom.

It compares e-mails as they are written, but for case: a plus tag or another dot is another address to
it. Of profiles it takes away scheme, www. and a slash at the end. A phone or mailbox that several people
share finds one of them, always the same. A contact carries its person's number under `id`, for the
benchmark to see; nobody who is measured reads it.
"""

from __future__ import annotations

import json
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs

from tests.benchmarks.world import COLUMNS, Crash, Person, Table, World

Key = tuple[str, str]

_KNOWN_PEOPLE: Final = 0.74
_HEARS_LATE: Final = 6
"""Weeks after which it knows of a new job."""
_LINKEDIN_HOST: Final = re.compile(r"\A(?:https?://)?(?:www\.)?", re.IGNORECASE)
_PROFILE_FORMS: Final = (
    (re.compile(r"\Ax\.com/"), "twitter.com/"),
    (re.compile(r"\A[a-z]{2}\.linkedin\.com/"), "linkedin.com/"),
    (re.compile(r"\A/in/"), "linkedin.com/in/"),
)
_GMAIL: Final = ("gmail.com", "googlemail.com")
_TAGGED: Final = (*_GMAIL, "outlook.com", "fastmail.com")


def as_vendor(kind: str, value: str) -> Key:
    """An identifier as the vendor compares it."""
    text = value.strip()
    if kind == "phone":
        digits = re.sub(r"\D", "", text)
        return kind, f"+1{digits}" if len(digits) == 10 else f"+{digits}"
    if kind == "email":
        return kind, text.lower()
    text = _LINKEDIN_HOST.sub("", text).partition("?")[0].rstrip("/")
    return kind, text if "/ACwAA" in text else text.lower()


def as_one(kind: str, value: str) -> Key:
    """An identifier whatever its spelling, by rules that share nothing with the package's."""
    _, text = as_vendor(kind, value)
    if kind == "email":
        local, _, domain = text.removeprefix("mailto:").partition("@")
        if domain in _TAGGED:
            local = local.partition("+")[0]
        if domain in _GMAIL:
            local, domain = local.replace(".", ""), "gmail.com"
        return kind, f"{local}@{domain}"
    if kind == "social_profile":
        for written, plain in _PROFILE_FORMS:
            text = written.sub(plain, text)
    return kind, text


def offers(table: Table) -> list[list[Key]]:
    """What each row offers, as it is written, in the order of asking."""
    columns = [(kind, table.frame[name]) for kind, name in COLUMNS.items() if name in table.frame]
    cells = [[(kind, value) for value in column] for kind, column in columns]
    return [
        [(kind, value) for kind, value in row if isinstance(value, str)] for row in zip(*cells, strict=True)
    ]


@dataclass(slots=True)
class Account:
    """What one customer was charged."""

    bought: Counter[int] = field(default_factory=Counter[int])
    """Credits by person, in ordinary tables."""
    refreshed: Counter[int] = field(default_factory=Counter[int])
    """Credits by person, in refreshes."""
    asked: set[Key] = field(default_factory=set[Key])
    """Identifiers that were sent, whatever their spelling."""
    requests: int = 0
    bill: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Requests that broke off since the last settlement: how many were asked, and what was charged."""


class Knowledge:
    """Who is known to the vendor, by which identifiers, since when, and what their contacts say."""

    def __init__(self, world: World, *, seed: int) -> None:
        self._draw = draw = random.Random(f"vendor {seed}")
        self._world = world
        self._index: dict[Key, tuple[int, int]] = {}
        self._emails: dict[int, list[tuple[int, str, bool]]] = {}
        self._phones: dict[int, list[str]] = {}
        self._profiles: dict[int, list[tuple[int, str]]] = {}
        self._texts: dict[tuple[int, tuple[int, ...]], tuple[bytes, frozenset[str]]] = {}
        self._known = [person for person in world.people if draw.random() < _KNOWN_PEOPLE]
        for person in self._known:
            self._learn(person)
        self._learn_shared()

    def find(self, kind: str, value: str, *, week: int) -> int | None:
        """The person whom this identifier finds, if any."""
        found = self._index.get(as_vendor(kind, value))
        return None if found is None or found[1] > week else found[0]

    def contact(self, number: int, *, week: int) -> tuple[bytes, frozenset[str]]:
        """A person's contact as JSON, and which of the required fields it holds."""
        moments = [since for since, *_ in (*self._emails[number], *self._profiles[number])]
        moments += [job.since + _HEARS_LATE for job in self._world.people[number].jobs]
        key = (number, tuple(int(since <= week) for since in moments))
        if key not in self._texts:
            self._texts[key] = self._contact(number, week)
        return self._texts[key]

    def _learn(self, person: Person) -> None:
        draw, number = self._draw, person.number
        emails = [
            (job.since + draw.randint(2, 10), job.email, True) for job in person.jobs if draw.random() < 0.68
        ]
        emails += [(-100, email, False) for email in person.personal if draw.random() < 0.5]
        phones = [person.mobile] if person.mobile and draw.random() < 0.55 else []
        profiles = [
            (since + draw.randint(2, 10), f"linkedin.com/in/{vanity}")
            for since, vanity in person.profiles
            if draw.random() < 0.8
        ]
        if person.twitter and draw.random() < 0.6:
            profiles.append((-100, f"twitter.com/{person.twitter}"))
        found_by = [(since, "email", email) for since, email, _ in emails]
        found_by += [(-100, "phone", phone) for phone in phones]
        found_by += [(since, "social_profile", profile) for since, profile in profiles]
        if person.opaque and draw.random() < 0.5:
            found_by.append((-100, "social_profile", f"linkedin.com/in/{person.opaque}"))
        for since, kind, value in found_by:
            self._index[kind, value] = (number, since)
        self._emails[number], self._phones[number], self._profiles[number] = emails, phones, profiles
        self._list_shared(person)

    def _list_shared(self, person: Person) -> None:
        """What a contact lists although it is not found by it."""
        draw, emails, job = self._draw, self._emails[person.number], person.jobs[0]
        if draw.random() < 0.25:
            self._phones[person.number].append(job.desk)
        if draw.random() < 0.03:
            emails.insert(0, (-100, draw.choice(job.company.roles), True))
        if person.family and draw.random() < 0.5:
            emails.append((-100, person.family, False))

    def _learn_shared(self) -> None:
        for person in self._draw.sample(self._known, len(self._known)):
            for job in person.jobs[:1]:
                for kind, value in (("phone", job.desk), *(("email", email) for email in job.company.roles)):
                    if (kind, value) not in self._index:
                        # In a third of the cases it does not know the owner.
                        since = -100 if self._draw.random() < 0.6 else 10**6
                        self._index[kind, value] = (person.number, since)
            if person.family and ("email", person.family) not in self._index:
                self._index["email", person.family] = (person.number, -100)

    def _contact(self, number: int, week: int) -> tuple[bytes, frozenset[str]]:
        person = self._world.people[number]
        emails = [(email, work) for since, email, work in self._emails[number] if since <= week]
        work = [email for email, is_work in emails if is_work][::-1]
        personal = [email for email, is_work in emails if not is_work]
        # The newest vanity name that it knows, and no older one.
        profiles = [profile for since, profile in self._profiles[number] if since <= week]
        linkedin = [profile for profile in profiles if profile.startswith("linkedin")][-1:]
        shown = [*linkedin, *(profile for profile in profiles if not profile.startswith("linkedin"))]
        hears_of = [job for job in person.jobs if job.since + _HEARS_LATE <= week]
        company = hears_of[-1].company
        text = json.dumps({
            "id": number,
            "full_name": f"{person.first} {person.last}",
            "first_name": person.first,
            "last_name": person.last,
            "current_work_email": work[0] if work else None,
            "work_emails": work,
            "current_personal_email": personal[0] if personal else None,
            "personal_emails": personal,
            "phone_numbers": [{"E164": phone} for phone in self._phones[number]],
            "social_profiles": [{"network": profile.partition(".")[0], "url": f"https://www.{profile}"} for profile in shown],
            "location": {"city": "Chicago", "region": "Illinois", "country": "United States"},
            "employment": {"name": company.name, "domain": company.domain, "job": {"title": "Buyer"}},
        })  # fmt: skip
        has = {"email": bool(emails), "work_email": bool(work), "personal_email": bool(personal),
               "phone": bool(self._phones[number]), "social_profile": bool(shown)}  # fmt: skip
        return text.encode(), frozenset(name for name, is_there in has.items() if is_there)


class Vendor:
    """The API on loopback. `with` opens and closes it; `begin` says which table comes next."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._lock = threading.Lock()
        self._week, self._is_refresh = 0, False
        self._crash: Crash | None = None
        self._crash_at: Key | None = None
        self.account = Account()
        vendor = self

        class Handler(_Handler):
            answer = staticmethod(vendor._answer)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def begin(self, table: Table) -> None:
        """Start this table's week. The first request for its new row meets its crash."""
        self._week, self._is_refresh, self._crash = table.week, table.is_refresh, table.crash
        self._crash_at = next((as_one(*pair) for pair in offers(table)[table.new_row]), None)

    def _answer(self, form: Mapping[str, list[str]]) -> tuple[bytes, Crash | None]:
        query: list[dict[str, str]] = json.loads(form["query_list"][0])
        required = {entry["field_type"] for entry in json.loads(form.get("required_fields", ["[]"])[0])}
        entries: list[bytes] = []
        found: list[int] = []
        with self._lock:
            asked = [as_one(entry["field_type"], entry["value"]) for entry in query]
            self.account.asked.update(asked)
            crash = None
            if self._crash_at in asked:
                crash, self._crash = self._crash, None
            for entry in query:
                kind, value = entry["field_type"], entry["value"]
                person = self._knowledge.find(kind, value, week=self._week)
                text = b"null"
                if person is not None:
                    contact, has = self._knowledge.contact(person, week=self._week)
                    if required <= has:
                        text = contact
                        found.append(person)
                entries.append(b'{"enriched_contact": %b, "value": %b}' % (text, json.dumps(value).encode()))
            self.account.requests += 1
            if crash != "free":
                (self.account.refreshed if self._is_refresh else self.account.bought).update(found)
            if crash is not None:
                self.account.bill.append((len(query), 0 if crash == "free" else len(found)))
        body = b'{"contacts": [%b], "records_enriched": %d}' % (b", ".join(entries), len(found))
        return body, crash


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    answer: Callable[[Mapping[str, list[str]]], tuple[bytes, Crash | None]]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        body, crash = self.answer(form)
        if crash in ("charged", "free"):
            self._hang_up()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if crash is None else body[: len(body) // 2])
        self.wfile.flush()
        if crash is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the table is the output."""

"""A vendor with every fault of the catalogue, in a process of its own.

It shares no line with the package, so that one mistake cannot hide on both sides: it is written from
the vendor's documents alone, on bare sockets. A charge is on disk before a byte of the reply leaves.

    folder/<case>.json    what goes wrong at which request; may be replaced at any time
    folder/<case>.jsonl   what happened: arrived, asked, charged, left

A case's address is http://127.0.0.1:<port>/<case>/v1/bulk-enrich. Who is asked for decides who is
found and what the contact says, so that anybody can tell whether a row holds its own person.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import random
import socket
import ssl
import struct
import sys
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

KEY = "canary-key-5f1e"
"""The one API key that is right."""

Pair = tuple[str, str]
Json = dict[str, Any]


# Who is found


def digest_of(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode("utf-8", "surrogatepass")).hexdigest()


def is_found(kind: str, value: str, hit: float) -> bool:
    return int(digest_of(kind, value)[:8], 16) < hit * 2**32


def name_of(kind: str, value: str) -> str:
    """The full name of the person behind an identifier."""
    return f"Canaryname {digest_of(kind, value)[8:20]}"


def contact_of(kind: str, value: str) -> Json:
    """The made-up person behind an identifier."""
    digest = digest_of(kind, value)
    first, last = name_of(kind, value).split()
    emails = [f"canary.{digest[8:20]}@home.example"]
    if kind == "email":
        emails.append(value)
    return {
        "full_name": f"{first} {last}",
        "first_name": first,
        "last_name": last,
        "current_work_email": emails[-1],
        "emails": emails,
        "phone_numbers": [{"E164": f"+1773474{int(digest[:6], 16) % 9000 + 1000}"}],
        "social_profiles": [{"network": "linkedin", "url": f"https://linkedin.com/in/canary-{digest[8:20]}"}],
        "location": {"city": "Chicago", "region": "Illinois", "country": "United States"},
        "employment": {"name": "Firm", "job": {"title": "Buyer"}},
    }


# One request


class Exchange:
    """One request and whatever is done to it."""

    def __init__(self, desk: Desk, connection: socket.socket, head: bytes, rest: bytes) -> None:
        self.desk = desk
        self.connection = connection
        self.rest = rest
        lines = head.decode("latin-1").split("\r\n")
        self.target = lines[0].split(" ")[1]
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self.case = self.target.split("/")[1]
        self.script = desk.script(self.case)
        self.number = desk.count(self.case)
        self.asked: list[Pair] = []
        self.random = random.Random(f"{self.case} {self.number}")
        self.note("arrived", key=self.headers.get("x-api-key") == KEY, extra=sorted(self.headers))

    def note(self, what: str, **facts: Any) -> None:
        self.desk.note(self.case, what=what, request=self.number, at=time.time(), **facts)

    @property
    def hit(self) -> float:
        return self.script.get("hit", 0.8)

    def take(self) -> None:
        """Read the whole request."""
        if "content-length" not in self.headers:
            # A redirect that was followed as a GET.
            raise ConnectionError("no form came")
        length = int(self.headers["content-length"])
        while len(self.rest) < length:
            piece = self.connection.recv(1 << 20)
            if not piece:
                raise ConnectionError("the request broke off")
            self.rest += piece
        form = parse_qs(self.rest[:length].decode("ascii"), strict_parsing=True)
        query = json.loads(form["query_list"][0])
        self.required = [one["field_type"] for one in json.loads(form.get("required_fields", ["[]"])[0])]
        self.asked = [(one["field_type"], one["value"]) for one in query]
        self.note("asked", values=self.asked)

    def found(self) -> list[Pair]:
        return [one for one in self.asked if is_found(*one, self.hit)]

    def charge(self, pairs: list[Pair] | None = None) -> None:
        """Take the money, durably."""
        self.note("charged", values=self.found() if pairs is None else pairs)

    def records(self) -> list[Json]:
        found = set(self.found())
        return [
            {"enriched_contact": contact_of(*one) if one in found else None, "value": one[1]}
            for one in self.asked
        ]

    def body(self, records: list[Json] | None = None, **more: Any) -> bytes:
        records = self.records() if records is None else records
        count = sum(one.get("enriched_contact") is not None for one in records)
        return json.dumps({"contacts": records, "records_enriched": count, **more}).encode()

    def bought(self) -> bytes:
        """Read, charge, and give the whole right reply."""
        self.take()
        self.charge()
        return self.body()

    def wait_for_gate(self, gate: Path, seconds: float = 60.0) -> None:
        """Answer once somebody has made that file."""
        until = time.monotonic() + seconds
        while not gate.exists() and time.monotonic() < until:
            time.sleep(0.02)

    # Ways to answer

    def head(self, status: int, *headers: str) -> bytes:
        return "\r\n".join([f"HTTP/1.1 {status} Answer", *headers, "", ""]).encode("utf-8", "surrogateescape")

    def say(self, status: int, body: bytes, *headers: str, kind: str = "application/json") -> None:
        self.connection.sendall(
            self.head(
                status, f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *headers
            )
            + body
        )

    def say_json(self, value: Any, status: int = 200) -> None:
        self.say(status, value if isinstance(value, bytes) else json.dumps(value).encode())

    def page(self, status: int, *headers: str) -> None:
        """An error page that quotes the request and its key, as careless frameworks do."""
        quoted = f"{self.headers.get('x-api-key')} {self.asked[:3]}"
        self.say(
            status,
            f"<html><title>{status}</title><p>{quoted}</p></html>".encode("utf-8", "replace"),
            f"X-Debug: {self.headers.get('x-api-key')}",
            *headers,
            kind="text/html",
        )

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def linger(self, seconds: float) -> None:
        """Hold the connection open until the other side goes, or time is up."""
        self.connection.settimeout(0.05)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if not self.connection.recv(1 << 16):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def drip(self, data: Iterator[bytes], *, pause: float, seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            for piece in data:
                if time.monotonic() > until:
                    return
                self.connection.sendall(piece)
                if pause:
                    time.sleep(pause)


# The faults. Each gets the exchange before its body was read.

FAULTS: dict[str, Callable[..., None]] = {}


def fault(run: Callable[..., None]) -> Callable[..., None]:
    FAULTS[run.__name__.rstrip("_")] = run
    return run


@fault
def none(ex: Exchange) -> None:
    ex.say_json(ex.bought())


# While the request leaves


@fault
def reset_in_mid_body(ex: Exchange) -> None:
    ex.connection.recv(1000)
    ex.reset()


@fault
def stops_reading(ex: Exchange, seconds: float = 4.0) -> None:
    time.sleep(seconds)
    ex.reset()


@fault
def early_refusal(ex: Exchange, status: int = 413) -> None:
    """Refuse before the body was read, and close on it."""
    ex.page(status)
    ex.reset()


# After the request left


@fault
def reset_after(ex: Exchange, charged: bool = True) -> None:
    ex.take()
    if charged:
        ex.charge()
    ex.reset()


@fault
def closed_after(ex: Exchange, charged: bool = True) -> None:
    ex.take()
    if charged:
        ex.charge()


@fault
def silent(ex: Exchange, charged: bool = True, seconds: float = 6.0) -> None:
    ex.take()
    if charged:
        ex.charge()
    ex.linger(seconds)


@fault
def late(ex: Exchange, seconds: float = 1.5) -> None:
    """Answer, but after the client's deadline."""
    body = ex.bought()
    time.sleep(seconds)
    with contextlib.suppress(OSError):
        ex.say_json(body)


@fault
def kept_alive_then_closed(ex: Exchange) -> None:
    """Offer to keep the connection, then close it on whoever sends once more."""
    body = ex.bought()
    ex.connection.sendall(
        ex.head(200, f"Content-Length: {len(body)}", "Connection: keep-alive", "Keep-Alive: timeout=60")
        + body
    )
    ex.connection.settimeout(3.0)
    with contextlib.suppress(OSError):
        if more := ex.connection.recv(1 << 16):
            head, _, rest = more.partition(b"\r\n\r\n")
            again = Exchange(ex.desk, ex.connection, head, rest)
            again.take()
            again.charge()


@fault
def status(ex: Exchange, status: int, charged: bool = False, retry_after: str | None = None) -> None:
    ex.take()
    if charged:
        ex.charge()
    ex.page(status, *([] if retry_after is None else [f"Retry-After: {retry_after}"]))


@fault
def status_with_contacts(ex: Exchange, status: int) -> None:
    body = ex.bought()
    ex.say_json(body, status)


@fault
def partly_processed(ex: Exchange, status: int = 403, shown: str = "contacts") -> None:
    """Run out of credits half-way: what was processed is charged, and shown or not."""
    ex.take()
    half = ex.asked[: len(ex.asked) // 2]
    ex.charge([one for one in half if is_found(*one, ex.hit)])
    body = ex.body(ex.records()[: len(half)], error="insufficient credits")
    if shown == "contacts":
        ex.say_json(body, status)
    elif shown == "number":
        ex.say_json({"error": "insufficient credits", "records_enriched": len(half)}, status)
    elif shown == "torn":
        ex.say_json(body[: body.index(b"}")], status)
    else:
        ex.page(status)


@fault
def interim(ex: Exchange, final: bool = True) -> None:
    """Interim answers before the real one."""
    body = ex.bought()
    ex.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    time.sleep(0.05)
    ex.connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
    if final:
        ex.say_json(body)


@fault
def not_http(ex: Exchange) -> None:
    ex.take()
    ex.charge()
    ex.connection.sendall(f"SSH-2.0 {ex.headers['x-api-key']} {ex.asked[0]}\r\n".encode("utf-8", "replace"))


@fault
def broken_headers(ex: Exchange) -> None:
    """Header lines that no parser accepts, with the request quoted in them."""
    body = ex.bought()
    quoted = f"{ex.headers['x-api-key']} {ex.asked[0][1]}"
    ex.connection.sendall(
        ex.head(
            200, "Content-Type: application/json", f"{quoted} no colon here", f"Content-Length: {len(body)}"
        )
        + body
    )


@fault
def redirect(ex: Exchange, status: int, to: str) -> None:
    ex.take()
    where = to.replace("{self}", ex.target)
    ex.connection.sendall(ex.head(status, f"Location: {where}", "Content-Length: 0", "Connection: close"))


# A 200 that cannot be read


@fault
def truncated(ex: Exchange, how: str = "length", share: float = 0.6) -> None:
    body = ex.bought()
    cut = body[: int(len(body) * share)]
    if how == "length":
        ex.connection.sendall(ex.head(200, f"Content-Length: {len(body)}") + cut)
    elif how == "close":
        ex.connection.sendall(ex.head(200, "Connection: close") + cut)
    else:
        ex.connection.sendall(
            ex.head(200, "Transfer-Encoding: chunked") + f"{len(body):x}\r\n".encode() + cut
        )


@fault
def wrong_chunk_size(ex: Exchange) -> None:
    body = ex.bought()
    ex.connection.sendall(ex.head(200, "Transfer-Encoding: chunked") + b"zz\r\n" + body + b"\r\n0\r\n\r\n")


@fault
def reset_in_reply(ex: Exchange, share: float = 0.6) -> None:
    body = ex.bought()
    ex.connection.sendall(ex.head(200, f"Content-Length: {len(body)}") + body[: int(len(body) * share)])
    time.sleep(0.1)
    ex.reset()


@fault
def short_length(ex: Exchange) -> None:
    """Announce less than there is."""
    body = ex.bought()
    ex.connection.sendall(ex.head(200, f"Content-Length: {len(body) // 2}", "Connection: close") + body)


@fault
def gzipped(ex: Exchange, damage: str = "none", layers: int = 1, called: str | None = None) -> None:
    data = ex.bought()
    for _ in range(layers):
        data = gzip.compress(data)
    if damage == "truncated":
        data = data[: len(data) * 3 // 5]
    elif damage == "checksum":
        data = data[:-8] + bytes(byte ^ 0xFF for byte in data[-8:])
    elif damage == "middle":
        half = len(data) // 2
        data = data[:half] + bytes(byte ^ 0xFF for byte in data[half : half + 40]) + data[half + 40 :]
    elif damage == "lie":
        data = gzip.decompress(data)
    encoding = called or ", ".join(["gzip"] * layers)
    ex.say(200, data, f"Content-Encoding: {encoding}")


@fault
def deflated(ex: Exchange) -> None:
    ex.say(200, zlib.compress(ex.bought()), "Content-Encoding: deflate")


@fault
def page_instead(ex: Exchange) -> None:
    ex.take()
    ex.charge()
    ex.page(200)


@fault
def text(ex: Exchange, body: str) -> None:
    """A fixed body in place of the reply."""
    ex.take()
    ex.charge()
    ex.say_json(body.encode())


@fault
def no_content(ex: Exchange) -> None:
    ex.take()
    ex.charge()
    ex.connection.sendall(ex.head(204, "Connection: close"))


@fault
def damaged(ex: Exchange, how: str) -> None:
    """A body that was right and is wrong in one place."""
    ex.take()
    ex.charge()
    ex.say_json(DAMAGES[how](ex))


def _replace_middle(ex: Exchange, old: bytes, new: bytes) -> bytes:
    body = ex.body()
    at = body.index(old, len(body) // 2)
    return body[:at] + new + body[at + len(old) :]


def _first_contact(ex: Exchange, raw: str) -> bytes:
    """The first contact that was found gets one more field, as raw JSON."""
    body = ex.body().decode()
    return body.replace('{"full_name":', f'{{"odd": {raw}, "full_name":', 1).encode("utf-8", "surrogatepass")


DAMAGES: dict[str, Callable[[Exchange], bytes]] = {
    "comma missing": lambda ex: _replace_middle(ex, b'}, {"enriched', b'} {"enriched'),
    "garbage behind": lambda ex: ex.body() + b"<!-- trailing -->",
    "twice": lambda ex: ex.body() * 2,
    "single quotes": lambda ex: str({"contacts": ex.records()}).encode(),
    "bad UTF-8": lambda ex: _replace_middle(ex, b"Chicago", b"Chic\xe9\xff"),
    "UTF-16": lambda ex: ex.body().decode().encode("utf-16"),
    "byte order mark": lambda ex: b"\xef\xbb\xbf" + ex.body(),
    "NaN": lambda ex: _first_contact(ex, "NaN"),
    "Infinity": lambda ex: _first_contact(ex, "-Infinity"),
    "huge integer": lambda ex: _first_contact(ex, "9" * 10_000),
    "huge exponent": lambda ex: _first_contact(ex, "1e999999"),
    "duplicate keys": lambda ex: _first_contact(ex, '1, "odd": 2, "odd": 3'),
    "duplicate contact": lambda ex: ex.body().replace(
        b'{"enriched_contact": null', b'{"enriched_contact": null, "enriched_contact": null', 1
    ),
    "lone surrogate": lambda ex: _first_contact(ex, '"\\ud800"'),
    "deep in a contact": lambda ex: _first_contact(ex, "[" * 100_000 + "]" * 100_000),
    "deep and cut": lambda _: b'{"contacts": ' + b"[" * 100_000,
    "deep at the top": lambda ex: b"[" * 100_000 + ex.body() + b"]" * 100_000,
    "list at the top": lambda ex: json.dumps(ex.records()).encode(),
    "contacts by value": lambda ex: json.dumps(
        {"contacts": {one["value"]: one["enriched_contact"] for one in ex.records()}}
    ).encode(),
    "wrapped": lambda ex: b'{"data": ' + ex.body() + b"}",
    "wrapped as text": lambda ex: json.dumps({"body": ex.body().decode()}).encode(),
}


# Size and time


@fault
def big(ex: Exchange, megabytes: int = 100, how: str = "padding") -> None:
    body = ex.bought()
    if how == "padding":
        middle = b'{"contacts": [' + b" " * (megabytes << 20)
        body = body.replace(b'{"contacts": [', middle, 1)
    else:
        body = body.replace(b'{"full_name":', b'{"odd": "' + b"x" * (megabytes << 20) + b'", "full_name":', 1)
    with contextlib.suppress(OSError):
        ex.say_json(body)


@fault
def bomb(ex: Exchange, gigabytes: float = 2.0, front: bool = False) -> None:
    """A small gzip body that inflates without end, before or behind the right reply."""
    body = ex.bought()
    machine = zlib.compressobj(9, wbits=31)
    start = machine.compress(b"" if front else body) + machine.flush(zlib.Z_FULL_FLUSH)
    # A block after a full flush stands for itself, so the same one may come again and again.
    block = machine.compress(b" " * (4 << 20)) + machine.flush(zlib.Z_FULL_FLUSH)
    with contextlib.suppress(OSError):
        ex.say(200, start + block * int(gigabytes * 256), "Content-Encoding: gzip")


@fault
def slow_headers(ex: Exchange, pause: float = 0.1) -> None:
    body = ex.bought()
    ex.drip(
        (bytes([byte]) for byte in ex.head(200, f"Content-Length: {len(body)}") + body),
        pause=pause,
        seconds=6,
    )


@fault
def slow_body(ex: Exchange, pause: float = 1.0) -> None:
    body = ex.bought()
    ex.connection.sendall(ex.head(200, f"Content-Length: {len(body)}"))
    ex.drip((bytes([byte]) for byte in body), pause=pause, seconds=6)


@fault
def endless_chunks(ex: Exchange, pause: float = 0.002) -> None:
    body = ex.bought()
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    ex.connection.sendall(
        ex.head(200, "Transfer-Encoding: chunked") + f"{len(body):x}\r\n".encode() + body + b"\r\n"
    )
    ex.drip((chunk for _ in iter(int, 1)), pause=pause, seconds=6)


@fault
def many_headers(ex: Exchange, count: int = 64_000, size: int = 8) -> None:
    body = ex.bought()
    lines = [f"X-{at}: {'h' * size}" for at in range(count)]
    with contextlib.suppress(OSError):
        ex.connection.sendall(ex.head(200, *lines, f"Content-Length: {len(body)}") + body)


# Meaning


@fault
def rearranged(ex: Exchange, how: str) -> None:
    ex.take()
    ex.charge()
    records, count = REARRANGED[how](ex)
    ex.say_json(ex.body(records, **({} if count is None else {"records_enriched": count})))


Records = tuple[list[Json], Any]


def _mapped(change: Callable[[Json], Json]) -> Callable[[Exchange], Records]:
    return lambda ex: ([change(one) for one in ex.records()], None)


def _in_contact(change: Callable[[Json], Json]) -> Callable[[Exchange], Records]:
    def changed(one: Json) -> Json:
        contact = one["enriched_contact"]
        return one if contact is None else {**one, "enriched_contact": change(contact)}

    return _mapped(changed)


def _shuffled(ex: Exchange) -> Records:
    records = ex.records()
    ex.random.shuffle(records)
    return records, None


def _never_asked(ex: Exchange) -> Records:
    strangers = [("email", f"canary.stranger{at}@firm.example") for at in range(5)]
    mine = [{"enriched_contact": contact_of(*one), "value": one[1]} for one in strangers]
    return mine + ex.records(), None


def _shifted(ex: Exchange) -> Records:
    """Each record says whose it is, and stands one place further down."""
    records = ex.records()
    return records[-1:] + records[:-1], None


def _two_contacts(ex: Exchange) -> Records:
    """One question, answered by two different people."""
    records = ex.records()
    first = next(one for one in records if one["enriched_contact"])
    return [*records, {**first, "enriched_contact": contact_of("email", "canary.other@firm.example")}], None


def _one_contact_for_two(ex: Exchange) -> Records:
    records = ex.records()
    found = [one for one in records if one["enriched_contact"]]
    found[1]["enriched_contact"] = found[0]["enriched_contact"]
    return records, None


def _megabyte(ex: Exchange) -> Records:
    """One value of a megabyte, in the first contact."""
    records = ex.records()
    first = next(one for one in records if one["enriched_contact"])
    first["enriched_contact"]["last_name"] = "x" * (1 << 20)
    return records, None


def _odd_case(ex: Exchange) -> Records:
    return [{**one, "value": one["value"].upper()} for one in ex.records()], None


def _without(name: str, share: float = 1.0) -> Callable[[Exchange], Records]:
    def changed(ex: Exchange) -> Records:
        records = ex.records()
        last = int(len(records) * share)
        return [
            {k: v for k, v in one.items() if k != name or at >= last} for at, one in enumerate(records)
        ], None

    return changed


REARRANGED: dict[str, Callable[[Exchange], Records]] = {
    "other order": _shuffled,
    "shifted": _shifted,
    "fewer": lambda ex: (ex.records()[: len(ex.asked) * 2 // 3], None),
    "none": lambda ex: ([], len(ex.found())),
    "never asked": _never_asked,
    "one twice": lambda ex: (ex.records() + ex.records()[:5], None),
    "two contacts": _two_contacts,
    "one contact for two": _one_contact_for_two,
    "other case": _odd_case,
    "other Unicode form": _mapped(lambda one: {**one, "value": unicodedata.normalize("NFD", one["value"])}),
    "spaces": _mapped(lambda one: {**one, "value": f"  {one['value']}\n"}),
    "no echo": _without("value"),
    "echo missing in some": _without("value", 0.3),
    "echo null": _mapped(lambda one: {**one, "value": None}),
    "echo in an object": _mapped(lambda one: {**one, "value": {"email": one["value"]}}),
    "no contact field": _without("enriched_contact"),
    "new fields": _in_contact(lambda one: {**one, "score": 7, "tags": [1, None, {"a": []}]}),
    "changed types": _in_contact(
        lambda one: {
            **one,
            "full_name": one["full_name"],
            "emails": "a@b.example",
            "location": "Paris",
            "employment": [1, 2],
            "phone_numbers": {"E164": 17734745555},
            "education": 7,
        }
    ),
    "contact a text": _mapped(
        lambda one: {**one, "enriched_contact": one["enriched_contact"] and "Canaryname as text"}
    ),
    "contact an empty object": _in_contact(lambda _: {}),
    "contact false": _mapped(lambda one: {**one, "enriched_contact": one["enriched_contact"] or False}),
    "wrong count": lambda ex: (ex.records(), 3),
    "count a text": lambda ex: (ex.records(), "many"),
    "count huge": lambda ex: (ex.records(), 10**30),
    "formula": _in_contact(lambda one: {**one, "last_name": "=cmd|'/C calc'!A0", "gender": "@SUM(1)"}),
    "NUL": _in_contact(lambda one: {**one, "last_name": "a\0b", "gender": "\0"}),
    "megabyte": _megabyte,
    "required missing": _in_contact(lambda one: {k: v for k, v in one.items() if k != "phone_numbers"}),
}


# Limits

WINDOWS = {"fixed": "FixedWindowRateLimiter", "moving": "MovingWindowRateLimiter",
           "sliding": "SlidingWindowCounterRateLimiter"}  # fmt: skip


class Limit:
    """So many requests in so many seconds, counted the way Flask-Limiter counts."""

    def __init__(self, window: str, amount: int, seconds: int) -> None:
        # The library under Flask-Limiter, which the vendor's 429 page gives away.
        from limits import RateLimitItemPerSecond, storage, strategies

        self._item = RateLimitItemPerSecond(amount, seconds)
        self._limiter = getattr(strategies, WINDOWS[window])(storage.MemoryStorage())

    def hit(self) -> bool:
        return bool(self._limiter.hit(self._item, "all"))


def refuse_page(amount: int, seconds: float) -> bytes:
    per = "1 minute" if seconds == 60 else f"{seconds:g} second"
    return (
        "<!doctype html>\n<html lang=en>\n<title>429 Too Many Requests</title>\n"
        f"<h1>Too Many Requests</h1>\n<p>{amount} per {per}</p>\n"
    ).encode()


def retry_after(form: str) -> str:
    """A Retry-After in the named form; what starts with + is a date that many seconds from now."""
    if form.startswith("+"):
        return format_datetime(datetime.now(UTC) + timedelta(seconds=float(form[1:])), usegmt=True)
    return form


@fault
def too_many(ex: Exchange, wait: str | None = None) -> None:
    ex.take()
    headers = [] if wait is None else [f"Retry-After: {retry_after(wait)}"]
    ex.say(429, refuse_page(200, 60), *headers, kind="text/html; charset=utf-8")


# The server


class Desk:
    """What all connections share: the scripts, the counts, the journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.limits: dict[str, Limit] = {}
        self.journals: dict[str, int] = {}

    def script(self, case: str) -> Json:
        try:
            return json.loads((self.folder / f"{case}.json").read_text())
        except FileNotFoundError:
            return {}

    def count(self, case: str) -> int:
        with self.lock:
            self.counts[case] = self.counts.get(case, 0) + 1
            return self.counts[case]

    def limit(self, case: str, facts: Json) -> Limit:
        with self.lock:
            if case not in self.limits:
                self.limits[case] = Limit(**facts)
            return self.limits[case]

    def note(self, case: str, **event: Any) -> None:
        with self.lock:
            if case not in self.journals:
                path = self.folder / f"{case}.jsonl"
                self.journals[case] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            handle = self.journals[case]
            os.write(handle, json.dumps(event).encode() + b"\n")
        if event["what"] == "charged":
            os.fdatasync(handle)

    def serve(self, connection: socket.socket) -> None:
        """Answer one connection."""
        with contextlib.closing(connection):
            head, rest = _read_head(connection)
            if head is None:
                return
            ex = Exchange(self, connection, head, rest)
            try:
                self._answer(ex)
            except (OSError, ConnectionError) as error:
                ex.note("broke", why=type(error).__name__)
            ex.note("left")
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def _answer(self, ex: Exchange) -> None:
        script = ex.script
        if "latency" in script:
            time.sleep(ex.random.uniform(*script["latency"]))
        if "limit" in script and not self.limit(ex.case, script["limit"]).hit():
            ex.take()
            ex.note("refused")
            limit = script["limit"]
            ex.say(429, refuse_page(limit["amount"], limit["seconds"]), kind="text/html; charset=utf-8")
            return
        for one in script.get("faults", ()):
            is_due = ex.number in one.get("at", ()) or ex.number >= one.get("since", 1 << 60)
            if is_due and ex.random.random() < one.get("share", 1.0):
                ex.note("fault", kind=one["kind"])
                FAULTS[one["kind"]](ex, **one.get("args", {}))
                ex.note("answered")
                return
        if ex.headers.get("x-api-key") != KEY:
            ex.take()
            ex.say(401, b'{"error": "API key is invalid"}')
            return
        body = ex.bought()
        if "work" in script:
            time.sleep(ex.random.uniform(*script["work"]))
        if "gate" in script:
            ex.wait_for_gate(Path(script["gate"]))
        ex.say_json(body)
        ex.note("answered")


def _read_head(connection: socket.socket) -> tuple[bytes | None, bytes]:
    data = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in data:
            piece = connection.recv(1024)
            if not piece:
                return None, b""
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        return head, rest
    return None, b""


class Door:
    """A listening port, and how those who come are received before HTTP begins."""

    def __init__(
        self, desk: Desk, *, port: int, manner: str, first: int, certificate: str, name: str
    ) -> None:
        self.desk, self.manner, self.first, self.name = desk, manner, first, name
        self.context: ssl.SSLContext | None = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        self.listener = socket.socket(socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if manner == "narrow":
            # A small window, so that a large request is still under way when the server stops.
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.listener.bind(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        # Bound and not listening: while the door is shut, connecting is refused and nobody takes the port.
        self.keeper = socket.socket(socket.AF_INET)
        self.keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.keeper.bind(("127.0.0.1", self.port))
        self.fillers: list[socket.socket] = []
        self.listener.listen(0 if manner == "deaf" else 512)
        if manner == "deaf":
            self._fill()
        else:
            threading.Thread(target=self._accept, daemon=True).start()

    def _fill(self) -> None:
        """Fill the queue of a listener that accepts nobody, so that connecting times out."""
        for _ in range(3):
            filler = socket.socket(socket.AF_INET)
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", self.port))
            self.fillers.append(filler)
        time.sleep(0.1)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for filler in self.fillers:
            filler.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.desk.note(self.name, what="connected", at=time.time())
            odd = self.first > 0
            self.first -= odd
            threading.Thread(
                target=self._receive, args=(connection,), kwargs={"odd": odd}, daemon=True
            ).start()

    def _receive(self, connection: socket.socket, *, odd: bool) -> None:
        with contextlib.suppress(OSError):
            if self.manner == "cut handshake" and odd:
                connection.recv(100)
                connection.close()
                return
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.desk.serve(connection)


class Control:
    """Opens and shuts doors as told: one JSON line for each order, one for each answer."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.doors: dict[int, Door] = {}
        # Kept, so that they keep their ports.
        self.shut: list[Door] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection, connection.makefile("rw") as lines:
                try:
                    answer = self.obey(json.loads(lines.readline()))
                except OSError as error:
                    # Else whoever asks would wait for ever.
                    answer = {"error": str(error)}
                lines.write(json.dumps(answer) + "\n")

    def obey(self, order: Json) -> Json:
        if order.pop("do") == "open":
            door = Door(self.desk, **order)
            self.doors[door.port] = door
            return {"port": door.port}
        door = self.doors.pop(order["port"])
        door.close()
        self.shut.append(door)
        return {}


def main() -> None:
    """Say where the control is, then work until the input ends."""
    control = Control(Desk(Path(sys.argv[1])))
    print(control.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

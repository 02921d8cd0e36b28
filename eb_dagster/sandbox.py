"""A local stand-in for ExactBuyer's bulk API, billing and all.

It imports nothing from the package, so that one mistake cannot hide on both sides. What the vendor
documents, it does; its people are made up from the identifier, the same ones every time.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import logging
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import flask

FAULTS: Final = (
    "400", "401", "403", "408", "413", "429", "500-before", "500-after", "502", "503", "504",
    "reset-after", "no-reply", "truncated", "invalid-json", "html", "shuffled", "missing", "extra",
    "no-echo", "upper-echo", "wrong-count",
)  # fmt: skip
_FIELD_TYPES = ("email", "phone", "social_profile")
_REQUIRED = ("email", "work_email", "personal_email", "phone", "social_profile")
_FREE_STATUS = {"400": 400, "401": 401, "403": 403, "413": 413, "429": 429, "500-before": 500}
_PAID_STATUS = {"408": 408, "500-after": 500, "502": 502, "503": 503, "504": 504}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, from the first to the last request (counted from 1) that it befalls."""

    kind: str
    first: int
    last: int

    @staticmethod
    def parse(text: str) -> Fault:
        """Read KIND@N or KIND@N-M."""
        kind, _, span = text.partition("@")
        first, _, last = span.partition("-")
        if kind not in FAULTS or not first.isdigit() or not (last or first).isdigit():
            raise ValueError(f"a fault is KIND@N or KIND@N-M, with KIND one of {', '.join(FAULTS)}")
        return Fault(kind, int(first), int(last or first))


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox: where it listens and where it keeps its bill."""

    url: str
    bill: Path

    def _one(self, query: str) -> int:
        with contextlib.closing(sqlite3.connect(self.bill)) as connection:
            return int(connection.execute(query).fetchone()[0])

    def requests(self) -> int:
        """How many requests were processed."""
        return self._one("SELECT count(*) FROM requests")

    def credits(self) -> int:
        """How many credits were charged."""
        return self._one("SELECT count(*) FROM charges")

    def charged_twice(self) -> int:
        """How many identifiers were charged more than once."""
        return self._one(
            "SELECT count(*) FROM (SELECT 1 FROM charges GROUP BY field_type, value HAVING count(*) > 1)"
        )


class _Bill:
    """Every charge, by identifier, durable before the reply leaves."""

    def __init__(self, path: Path, credits_left: int | None) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(
            "CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY, at REAL, asked INTEGER, "
            "enriched INTEGER);"
            "CREATE TABLE IF NOT EXISTS charges (id INTEGER PRIMARY KEY, at REAL, "
            "request_id INTEGER, field_type TEXT, value TEXT);"
        )
        self._left = credits_left

    def charge(self, asked: int, found: Sequence[tuple[str, str]]) -> bool:
        with self._lock, self._connection as connection:
            if self._left is not None:
                if len(found) > self._left:
                    return False
                self._left -= len(found)
            request = connection.execute(
                "INSERT INTO requests (at, asked, enriched) VALUES (?, ?, ?)",
                (time.time(), asked, len(found)),
            ).lastrowid
            connection.executemany(
                "INSERT INTO charges (at, request_id, field_type, value) VALUES (?, ?, ?, ?)",
                [(time.time(), request, kind, value) for kind, value in found],
            )
        return True

    def close(self) -> None:
        self._connection.close()


def create_app(
    *,
    bill: Path,
    credits: int | None = None,  # noqa: A002 - the vendor's word
    requests_per_minute: int = 200,
    latency: float = 0.0,
    match_rate: float = 0.7,
    faults: Sequence[Fault] = (),
) -> flask.Flask:
    """The stand-in as a Flask application."""
    try:
        import flask
        from flask_limiter import Limiter
    except ImportError:
        raise ImportError('the sandbox needs Flask: pip install "eb-dagster[sandbox]"') from None

    app = flask.Flask("exactbuyer sandbox")
    ledger = _Bill(bill, credits)
    app.extensions["bill"] = ledger
    limiter = Limiter(lambda: flask.request.headers.get("X-API-Key", ""), app=app, storage_uri="memory://")
    count = iter(range(1, 2**62))

    @app.post("/v1/bulk-enrich")
    @limiter.limit(f"{requests_per_minute} per 1 minute")
    def bulk_enrich() -> Any:
        number = next(count)
        fault = next((one.kind for one in faults if one.first <= number <= one.last), "")
        if latency:
            time.sleep(latency)
        key = flask.request.headers.get("X-API-Key", "")
        if not key or key == "invalid" or fault == "401":
            return {"error": "API key is invalid"}, 401
        if fault in _FREE_STATUS:
            return {"error": fault}, _FREE_STATUS[fault]
        asked = _read_form(flask.request.form)
        if asked is None:
            return {"error": "badly formatted request"}, 400
        questions, required = asked
        contacts = [_answer(*question, required, match_rate) for question in questions]
        found = [one for one, contact in zip(questions, contacts, strict=True) if contact]
        if not ledger.charge(len(questions), found):
            return {"error": "insufficient credits"}, 403
        if fault in _PAID_STATUS:
            return {"error": "something went wrong"}, _PAID_STATUS[fault]
        entries = [
            {"enriched_contact": contact, "value": value}
            for (_, value), contact in zip(questions, contacts, strict=True)
        ]
        return _reply(flask, entries, len(found), fault)

    @app.get("/")
    def home() -> str:
        return "A stand-in for ExactBuyer's bulk API. Its people are made up. Try POST /v1/bulk-enrich\n"

    return app


def _read_form(form: Any) -> tuple[list[tuple[str, str]], list[str]] | None:
    try:
        query = json.loads(form["query_list"])
        required = [one["field_type"] for one in json.loads(form.get("required_fields") or "[]")]
        questions = [(one["field_type"], one["value"]) for one in query]
    except (KeyError, TypeError, ValueError):
        return None
    fine = all(kind in _FIELD_TYPES and isinstance(value, str) for kind, value in questions)
    if not fine or not 1 <= len(questions) <= 1000 or not set(required) <= set(_REQUIRED):
        return None
    return questions, required


def _reply(flask: Any, entries: list[dict[str, Any]], enriched: int, fault: str) -> Any:
    if fault == "shuffled":
        entries = entries[::-1]
    elif fault == "missing":
        entries = [one for at, one in enumerate(entries) if at % 3 != 2]
    elif fault == "extra":
        entries = [
            *entries,
            {"enriched_contact": {"full_name": "Nobody"}, "value": "never@asked.example"},
        ]
    elif fault == "no-echo":
        entries = [{"enriched_contact": one["enriched_contact"]} for one in entries]
    elif fault == "upper-echo":
        entries = [{**one, "value": one["value"].upper()} for one in entries]
    count = enriched + (fault == "wrong-count")
    body = json.dumps({"contacts": entries, "records_enriched": count}, ensure_ascii=False).encode()
    if fault == "invalid-json":
        body = body[: len(body) // 2] + b"}}" + body[len(body) // 2 :]
    if fault == "html":
        return flask.Response("<html><title>Sign in</title></html>", mimetype="text/html")
    if fault in ("reset-after", "no-reply", "truncated"):
        _break_off(flask, fault, body)
    headers = {"Content-Type": "application/json"}
    if "gzip" in flask.request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
    return flask.Response(body, headers=headers)


def _break_off(flask: Any, fault: str, body: bytes) -> None:
    import socket

    connection = flask.request.environ["werkzeug.socket"]
    if fault == "truncated":
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
    if fault == "no-reply":
        time.sleep(60)
    if fault == "reset-after":
        # Linger 0: closing sends a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Werkzeug lets go of the connection without another word.
    raise ConnectionAbortedError


_FIRST = (
    "Ada",
    "Žofie",
    "Mei-Ling",
    "Ngozi",
    "Søren",
    "José",
    "Ольга",
    "陽子",
    "Aïcha",
    "Finn",
    "Priya",
    "Łukasz",
)
_LAST = (
    "Alder",
    "Nováková",
    "Tanaka",
    "Okonjo",
    "Grünwald",
    "Núñez",
    "Ковалёва",
    "佐藤",
    "Haddad",
    "O'Shea",
    "Raman",
    "Wiśniewski",
)
_CITY = (
    ("Brno", "South Moravia", "Czechia"),
    ("Osaka", None, "Japan"),
    ("Lagos", "Lagos", "Nigeria"),
    ("Aarhus", None, "Denmark"),
    ("Tucson", "Arizona", "United States"),
)
_COMPANY = ("Larch Analytics", "Blue Kiln", "Petrichor Freight", "Oriel Health", "Moss & Daughters")
_TITLE = ("Data Engineer", "Head of Sales", "Geschäftsführerin", "RevOps Lead", "Buyer")


def _answer(kind: str, value: str, required: Sequence[str], match_rate: float) -> dict[str, Any] | None:
    digest = hashlib.sha256(f"{kind}:{value}".encode("utf-8", "surrogatepass")).digest()
    if int.from_bytes(digest[:4], "big") / 2**32 >= match_rate:
        return None
    person = _person(kind, value, digest)
    holds = {
        "email": person.get("emails") or person.get("current_work_email"),
        "work_email": person.get("current_work_email"),
        "personal_email": person.get("current_personal_email"),
        "phone": person.get("phone_numbers"),
        "social_profile": person.get("social_profiles"),
    }
    return person if all(holds[name] for name in required) else None


def _person(kind: str, value: str, digest: bytes) -> dict[str, Any]:
    first, last = _FIRST[digest[4] % len(_FIRST)], _LAST[digest[5] % len(_LAST)]
    handle = digest[6:11].hex()
    company = _COMPANY[digest[11] % len(_COMPANY)]
    city, region, country = _CITY[digest[12] % len(_CITY)]
    person: dict[str, Any] = {
        "full_name": f"{first} {last}", "first_name": first, "last_name": last,
        "gender": (None, "female", "male")[digest[13] % 3],
        "current_work_email": f"{handle}@{company.split()[0].lower()}.example",
        "emails": [f"{handle}@{company.split()[0].lower()}.example"],
        "phone_numbers": [{"E164": f"+1202555{100 + digest[14] % 100:04d}"}],
        "social_profiles": [
            {"network": "linkedin", "url": f"linkedin.com/in/{handle}"},
            {"network": "github", "url": f"github.com/{handle}"},
        ],
        "location": {"city": city, "region": region, "country": country},
        "employment": {
            "name": company, "size": (51, "51-200", None)[digest[15] % 3],
            "profile_pic_url": f"https://img.example/{handle}.jpg",
            "job": {"title": _TITLE[digest[16] % len(_TITLE)], "levels": ["senior"]},
        },
        "education": [{"school": {"name": "University of Ljubljana"}}],
    }  # fmt: skip
    if kind == "email":
        person["emails"].append(value)
    elif kind == "phone":
        person["phone_numbers"].insert(0, {"E164": value})
    else:
        person["social_profiles"][0]["url"] = value
    if digest[17] % 5 == 0:
        person["location"] = None
    if digest[17] % 7 == 0:
        del person["current_work_email"]
    if digest[17] % 6 == 0:
        person["current_personal_email"] = f"{handle}@post.example"
    if digest[17] % 11 == 0 and kind != "phone":
        person["phone_numbers"] = []
    if digest[17] % 13 == 0:
        person["experiences"] = [{"company": {"name": "Blue Kiln"}, "title": "Apprentice"}]
    if digest[17] % 17 == 0:
        person["seniority_score"] = 7
    return person


@contextlib.contextmanager
def running(*, port: int = 0, host: str = "127.0.0.1", bill: Path, **settings: Any) -> Iterator[Sandbox]:
    """Run a sandbox in a thread of this process for as long as the context lasts."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        # A log of requests would be a log of people.
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any, **__: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    app = create_app(bill=bill, **settings)
    server = make_server(host, port, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Sandbox(f"http://{host}:{server.server_port}", bill)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.extensions["bill"].close()

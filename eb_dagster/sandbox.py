"""A local stand-in for ExactBuyer's bulk API, billing and all.

It imports nothing from the package, so that one mistake cannot hide on both sides. What the vendor
documents, it does; what goes wrong in life, it does on request. Its people are made up from the
identifier, the same ones every time.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import hashlib
import itertools
import json
import os
import re
import selectors
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypedDict, TypeVar, Unpack, cast

if TYPE_CHECKING:
    import flask
    from werkzeug.serving import BaseWSGIServer

T = TypeVar("T")
Contact = dict[str, Any]
Entry = dict[str, Any]

MOST_IDENTIFIERS: Final = 1000
FIELD_TYPES: Final = ("email", "phone", "social_profile")

# What each required field looks for in a contact.
_KEYS_OF: Final = {
    "email": (
        "current_work_email",
        "current_personal_email",
        "emails",
        "work_emails",
        "personal_emails",
    ),
    "work_email": ("current_work_email", "work_emails"),
    "personal_email": ("current_personal_email", "personal_emails"),
    "phone": ("phone_numbers",),
    "social_profile": ("social_profiles",),
}

# Refused before anything is processed, so free.
_FREE: Final = {
    "400": 400,
    "401": 401,
    "403": 403,
    "413": 413,
    "429": 429,
    "500-before": 500,
}
# Processed and charged; then the reply is lost on the way.
_PAID: Final = {"408": 408, "500-after": 500, "502": 502, "503": 503, "504": 504}
# Processed and charged; then no reply at all.
_SILENT: Final = ("reset-after", "no-reply")
# Processed and charged; then a reply with status 200 that is not what it should be.
_GARBLED: Final = ("truncated", "invalid-json", "html")
_CHANGED: Final = (
    "shuffled",
    "missing",
    "extra",
    "no-echo",
    "upper-echo",
    "wrong-count",
    "missing-required",
)
FAULTS: Final = (*_FREE, *_PAID, *_SILENT, *_GARBLED, *_CHANGED)

_LONGEST_SILENCE: Final = 60.0
# Flask's own default of 500,000 bytes refuses 1000 long profile addresses, once they are escaped.
_LARGEST_FORM: Final = 16 * 2**20
_ENDPOINT: Final = "bulk_enrich"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, from the first to the last request (counted from 1) that it befalls.

    Only requests that the limiter lets through count. If several faults befall one request, the
    first of them does.
    """

    kind: str
    first: int
    last: int | None = None
    """None: the first only."""

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no such fault: {self.kind!r}; there are {', '.join(FAULTS)}")
        if not 1 <= self.first <= (self.last or self.first):
            raise ValueError("a fault begins at request 1 or later, and ends no earlier than that")

    @staticmethod
    def parse(text: str) -> Fault:
        """Read KIND@N or KIND@N-M."""
        read = re.fullmatch(r"(.+)@([0-9]+)(?:-([0-9]+))?", text)
        if read is None:
            raise ValueError(f"a fault is KIND@N or KIND@N-M, not {text!r}")
        kind, first, last = read.groups()
        return Fault(kind, int(first), int(last) if last else None)

    def befalls(self, number: int) -> bool:
        """Whether it befalls the request of that number."""
        return self.first <= number <= (self.last or self.first)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox: where it listens and where it keeps its bill.

    The counts are read from the bill, so they also work after the sandbox has stopped.
    """

    url: str
    bill: Path

    def requests(self) -> int:
        """How many requests reached it, refused ones included, but not those over the limit."""
        return _count(self.bill, "SELECT count(*) FROM requests")

    def credits(self) -> int:
        """How many credits were charged."""
        return _count(self.bill, "SELECT count(*) FROM charges")

    def charged_twice(self) -> int:
        """How many identifiers were charged more than once."""
        twice = "SELECT 1 FROM charges GROUP BY field_type, value HAVING count(*) > 1"
        return _count(self.bill, f"SELECT count(*) FROM ({twice})")  # noqa: S608 - all constants


class Settings(TypedDict, total=False):
    """What `create_app`, `running` and `serve` understand besides the bill."""

    credits: int | None
    requests_per_minute: int
    latency: float
    match_rate: float
    faults: Sequence[Fault]
    retry_after: str | None


def create_app(
    *,
    bill: Path,
    credits: int | None = None,  # noqa: A002 - the vendor's word
    requests_per_minute: int = 200,
    latency: float = 0.0,
    match_rate: float = 0.7,
    faults: Sequence[Fault] = (),
    retry_after: str | None = None,
) -> flask.Flask:
    """The stand-in as a Flask application.

    `bill` is a SQLite file, made if it is not there. `credits` is the total that this bill may
    reach, over restarts too; None is no end of them. `latency` is in seconds, between the charge
    and the reply. `retry_after` is the header to send with 429 and 503; None sends none.
    """
    try:
        import flask
        from flask_limiter import Limiter
    except ImportError:
        raise ImportError('the sandbox needs Flask: pip install "eb-dagster[sandbox]"') from None

    limit = f"{requests_per_minute} per 1 minute"
    api = _Api(
        bill=_Bill(bill, most=credits),
        latency=latency,
        match_rate=match_rate,
        faults=tuple(faults),
        limit=limit,
    )
    app = flask.Flask("exactbuyer_sandbox", static_folder=None)
    # An exception that drops the connection has to reach the server.
    app.config |= {
        "PROPAGATE_EXCEPTIONS": True,
        "MAX_CONTENT_LENGTH": _LARGEST_FORM,
        "MAX_FORM_MEMORY_SIZE": _LARGEST_FORM,
    }
    app.extensions["sandbox"] = api
    Limiter(
        _caller,
        app=app,
        default_limits=[limit],
        default_limits_exempt_when=lambda: flask.request.endpoint != _ENDPOINT,
        storage_uri="memory://",
        strategy="fixed-window",
    )
    app.add_url_rule("/v1/bulk-enrich", _ENDPOINT, api.bulk_enrich, methods=["POST"])
    app.add_url_rule("/", "home", api.home)
    app.add_url_rule("/charges.json", "charges", api.charges)

    def with_retry_after(reply: flask.Response) -> flask.Response:
        if retry_after is not None and reply.status_code in (429, 503):
            reply.headers["Retry-After"] = retry_after
        return reply

    app.after_request(with_retry_after)
    return app


@contextlib.contextmanager
def running(
    *, port: int = 0, host: str = "127.0.0.1", bill: Path, **settings: Unpack[Settings]
) -> Generator[Sandbox]:
    """Run a sandbox in a thread of this process for as long as the context lasts.

    Port 0 takes a free one. The settings are those of `create_app`.
    """
    app = create_app(bill=bill, **settings)
    api = cast("_Api", app.extensions["sandbox"])
    with contextlib.closing(api), _listening(host, port, app) as server:
        yield Sandbox(url=f"http://{host}:{server.server_port}", bill=bill)


def serve(*, port: int, host: str = "127.0.0.1", bill: Path, **settings: Unpack[Settings]) -> None:
    """Run a sandbox until interrupted. The settings are those of `create_app`."""
    with running(port=port, host=host, bill=bill, **settings):
        wait_for_interrupt()


def wait_for_interrupt() -> NoReturn:
    """Wait until Ctrl-C. Of all waits without an end, Windows lets it interrupt sleep alone."""
    while True:
        time.sleep(3600)


# Listening


class _Reset(ConnectionError):
    """Raised by the application to drop the connection without a word."""


def _check_free(host: str, port: int) -> None:
    """Raise an `OSError` with words; werkzeug would end the process."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(
            errno.EADDRINUSE,
            f"port {port} is taken, most likely by a sandbox that runs already: use that, stop it, or choose another port",
        ) from None


@contextlib.contextmanager
def _listening(host: str, port: int, app: flask.Flask) -> Generator[BaseWSGIServer]:
    from werkzeug.serving import make_server

    _check_free(host, port)
    server = make_server(host, port, app, threaded=True, request_handler=_request_handler())
    # Asked often whether to stop, because tests start and stop many.
    serve_often = functools.partial(server.serve_forever, poll_interval=0.02)
    thread = threading.Thread(target=serve_often, name="sandbox", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _request_handler() -> Any:
    from werkzeug.serving import WSGIRequestHandler

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - as inherited
            """Say nothing: a log of requests may be a log of people."""

        def connection_dropped(self, error: BaseException, environ: object = None) -> None:  # noqa: ARG002 - as inherited
            self.close_connection = True
            if isinstance(error, _Reset):
                _reset(self.connection)

    return Handler


def _reset(connection: socket.socket) -> None:
    # Lingering for 0 seconds makes closing a reset. Detached, because the server would first end
    # the connection in order.
    # On Windows, the two numbers are short ones.
    numbers = "hh" if os.name == "nt" else "ii"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(numbers, 1, 0))
    socket.close(connection.detach())


def _wait_until_left(connection: socket.socket, stopped: threading.Event) -> None:
    deadline = time.monotonic() + _LONGEST_SILENCE
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while time.monotonic() < deadline and not stopped.wait(0.02):
            if selector.select(timeout=0) and not _has_more(connection):
                return


def _has_more(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


# The bill


def _count(bill: Path, query: str) -> int:
    with contextlib.closing(sqlite3.connect(bill)) as connection:
        return int(connection.execute(query).fetchone()[0])


class _Bill:
    """Every request and every charge, durable before the reply leaves."""

    def __init__(self, path: Path, *, most: int | None) -> None:
        self.path = path
        self._most = most
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        # The values are kept as they were sent, and whoever tries things out may send real people.
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60.0)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(f"{path} is not a bill of this sandbox ({error}); name another file") from None

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        # With a write-ahead log, a process may be killed at any time and no charge is forgotten.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        # In one transaction: a database of another kind is left without tables of ours.
        with self._transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS requests "
                "(id INTEGER PRIMARY KEY, at REAL, asked INTEGER, enriched INTEGER, status INTEGER)"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS charges "
                "(id INTEGER PRIMARY KEY, at REAL, request_id INTEGER, field_type TEXT, value TEXT)"
            )
            connection.execute("SELECT at, asked, enriched, status FROM requests LIMIT 0")
            connection.execute("SELECT at, request_id, field_type, value FROM charges LIMIT 0")

    def write(self, *, asked: int, found: Sequence[tuple[str, str]] = (), status: int | None) -> int | None:
        """Charge all that was found, or nothing. Returns the status to reply with.

        None is the status of a request that gets no reply.
        """
        with self._lock, self._transaction() as connection:
            if self._most is not None and found and len(found) > self._most - self._charged():
                found, status = (), 403
            now = time.time()
            request_id = connection.execute(
                "INSERT INTO requests (at, asked, enriched, status) VALUES (?, ?, ?, ?)",
                (now, asked, len(found), status),
            ).lastrowid
            connection.executemany(
                "INSERT INTO charges (at, request_id, field_type, value) VALUES (?, ?, ?, ?)",
                [(now, request_id, field_type, value) for field_type, value in found],
            )
        return status

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _charged(self) -> int:
        # One row a request, where charges has one a record.
        row = self._connection.execute("SELECT coalesce(sum(enriched), 0) FROM requests")
        return int(row.fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()


# The API


@dataclass(frozen=True, slots=True)
class _Asked:
    questions: tuple[tuple[str, str], ...]
    required: tuple[str, ...]


class _Api:
    """What the addresses answer."""

    def __init__(
        self,
        *,
        bill: _Bill,
        latency: float,
        match_rate: float,
        faults: Sequence[Fault],
        limit: str,
    ) -> None:
        self._bill = bill
        self._latency = latency
        self._match_rate = match_rate
        self._faults = faults
        self._limit = limit
        self._numbers = itertools.count(1)
        self._stopped = threading.Event()

    def close(self) -> None:
        self._stopped.set()
        self._bill.close()

    def bulk_enrich(self) -> flask.Response:
        import flask

        number = next(self._numbers)
        kind = next((fault.kind for fault in self._faults if fault.befalls(number)), "")
        # Reads the whole body, so a request that arrives in part is neither processed nor charged.
        asked = _read_form(flask.request.form)
        refusal = _FREE.get(kind) or _refusal(flask.request.headers.get("X-API-Key"))
        if refusal or asked is None:
            status = refusal or 400
            self._bill.write(asked=len(asked.questions) if asked else 0, status=status)
            return self._error(status)
        return self._answer(asked, kind)

    def _answer(self, asked: _Asked, kind: str) -> flask.Response:
        # For that fault, required fields are not looked at here and are taken out of what is sent.
        required = () if kind == "missing-required" else asked.required
        contacts = [_look_up(*one, required, self._match_rate) for one in asked.questions]
        pairs = list(zip(asked.questions, contacts, strict=True))
        found = [question for question, contact in pairs if contact is not None]
        intended = None if kind in _SILENT else _PAID.get(kind, 200)
        status = self._bill.write(asked=len(pairs), found=found, status=intended)
        if status is None:
            self._say_nothing(hang=kind == "no-reply")
        if status != 200:
            return self._error(status)
        entries = [{"enriched_contact": one, "value": value} for (_, value), one in pairs]
        self._pause()
        return _reply(entries, enriched=len(found), kind=kind, required=asked.required)

    def _pause(self) -> None:
        # After the charge: whoever leaves in the meantime has paid, and the bill already says so.
        self._stopped.wait(self._latency)

    def _say_nothing(self, *, hang: bool) -> NoReturn:
        import flask

        self._pause()
        # Under Flask's test client there is no socket.
        connection = flask.request.environ.get("werkzeug.socket")
        if hang and connection is not None:
            _wait_until_left(connection, self._stopped)
        raise _Reset

    def _error(self, status: int) -> flask.Response:
        import flask
        from werkzeug.exceptions import default_exceptions

        self._pause()
        if status in _WORDS:
            return _json({"error": _WORDS[status]}, status)
        # The stock page: the vendor's 429 is one, and what a proxy sends in its place is no JSON.
        page = default_exceptions[status](self._limit if status == 429 else None)
        return flask.make_response(page)

    def home(self) -> flask.Response:
        import flask

        counts = self._counts()
        text = (
            "A local stand-in for ExactBuyer's bulk API. Its people are made up; nothing is paid.\n"
            "\n"
            f"Requests so far: {counts['requests']}\n"
            f"Credits so far:  {counts['credits']}\n"
            "\n"
            "POST /v1/bulk-enrich   the API; any X-API-Key but 'invalid'\n"
            "GET  /charges.json     the counts\n"
        )
        return flask.Response(text, mimetype="text/plain")

    def charges(self) -> flask.Response:
        return _json(self._counts(), 200)

    def _counts(self) -> dict[str, int]:
        bill = Sandbox(url="", bill=self._bill.path)
        return {
            "requests": bill.requests(),
            "credits": bill.credits(),
            "charged_twice": bill.charged_twice(),
        }


_WORDS: Final = {
    400: "Badly formatted request",
    401: "API key is invalid",
    403: "Insufficient credits",
}


def _caller() -> str:
    import flask

    # The limiter logs whom it stops, so it is not told the key.
    key = flask.request.headers.get("X-API-Key", "")
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _refusal(key: str | None) -> int | None:
    return 401 if not key or not key.strip() or key == "invalid" else None


def _json(value: object, status: int) -> flask.Response:
    import flask

    return flask.Response(json.dumps(value), status=status, mimetype="application/json")


# What is asked


def _read_form(form: Any) -> _Asked | None:
    """The two fields of the form, or None when they are not what they have to be."""
    try:
        query = json.loads(form["query_list"])
        required = json.loads(form.get("required_fields") or "[]")
        questions = tuple(_read_question(one) for one in _list(query))
        names = tuple(_read_required(one) for one in _list(required))
    except (LookupError, ValueError, RecursionError):
        return None
    return _Asked(questions, names) if 1 <= len(questions) <= MOST_IDENTIFIERS else None


def _read_question(entry: object) -> tuple[str, str]:
    fields = _texts(entry, ("field_type", "value"))
    if fields["field_type"] not in FIELD_TYPES or not fields["value"]:
        raise ValueError
    return fields["field_type"], fields["value"]


def _read_required(entry: object) -> str:
    fields = _texts(entry, ("field_type",))
    if fields["field_type"] not in _KEYS_OF:
        raise ValueError
    return fields["field_type"]


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError
    return cast("list[object]", value)


def _texts(entry: object, names: tuple[str, ...]) -> dict[str, str]:
    """An object of exactly these texts. Half a surrogate pair is no text."""
    if not isinstance(entry, dict):
        raise ValueError
    fields = cast("dict[str, object]", entry)
    if fields.keys() != set(names):
        raise ValueError
    for value in fields.values():
        if not isinstance(value, str):
            raise ValueError
        value.encode("utf-8")
    return cast("dict[str, str]", fields)


# What is replied


def _reply(entries: list[Entry], *, enriched: int, kind: str, required: Sequence[str]) -> flask.Response:
    import flask

    entries = _changed(entries, kind, required)
    count = enriched + 1 if kind == "wrong-count" else enriched
    text = json.dumps({"contacts": entries, "records_enriched": count}, ensure_ascii=False)
    if kind == "html":
        page = "<!doctype html>\n<title>Sign in</title>\n<h1>Sign in to go on</h1>\n"
        return flask.Response(page, mimetype="text/html")
    if kind == "invalid-json":
        text = text[: len(text) // 2]
    body, encoding = _encoded(text.encode())
    reply = flask.Response(body, mimetype="application/json", headers=encoding)
    if kind == "truncated":
        reply.set_data(body[: len(body) // 2])
        reply.headers["Content-Length"] = str(len(body))
    return reply


def _encoded(body: bytes) -> tuple[bytes, dict[str, str]]:
    import flask

    headers = {"Vary": "Accept-Encoding"}
    if flask.request.accept_encodings.quality("gzip") <= 0:
        return body, headers
    return gzip.compress(body, compresslevel=1), {**headers, "Content-Encoding": "gzip"}


def _changed(entries: list[Entry], kind: str, required: Sequence[str]) -> list[Entry]:
    changes: dict[str, Callable[[], Iterable[Entry]]] = {
        "shuffled": lambda: entries[1::2] + entries[::2],
        "missing": lambda: [one for at, one in enumerate(entries, 1) if at % 3],
        "extra": lambda: [*entries, _never_asked()],
        "no-echo": lambda: [{"enriched_contact": one["enriched_contact"]} for one in entries],
        "upper-echo": lambda: [{**one, "value": one["value"].upper()} for one in entries],
        "missing-required": lambda: [_without(one, required) for one in entries],
    }
    return list(changes[kind]()) if kind in changes else entries


def _never_asked() -> Entry:
    value = "never.asked@nobody.example"
    return {"enriched_contact": _person("email", value, _Dice(value)), "value": value}


def _without(entry: Entry, required: Sequence[str]) -> Entry:
    contact = cast("Contact | None", entry["enriched_contact"])
    if contact is None:
        return entry
    gone = {key for name in required for key in _KEYS_OF[name]}
    return {**entry, "enriched_contact": {k: v for k, v in contact.items() if k not in gone}}


# People


class _Dice:
    """Throws that depend on nothing but the text."""

    __slots__ = ("_bytes",)

    def __init__(self, text: str) -> None:
        self._bytes = iter(hashlib.shake_256(text.encode()).digest(160))

    def share(self) -> float:
        """From 0 to 1, finely."""
        return self._number(6) / 2**48

    def chance(self, percent: int) -> bool:
        return next(self._bytes) * 100 < percent * 256

    def pick(self, options: Sequence[T]) -> T:
        return options[next(self._bytes) % len(options)]

    def below(self, end: int) -> int:
        return self._number(3) % end

    def unique(self) -> str:
        """48 bits: among a million people, no two share a made-up address by accident."""
        return f"{self._number(6):012x}"

    def _number(self, size: int) -> int:
        return int.from_bytes(bytes(itertools.islice(self._bytes, size)), "big")


def _look_up(field_type: str, value: str, required: Sequence[str], match_rate: float) -> Contact | None:
    dice = _Dice(f"{field_type}:{value.strip().casefold()}")
    if dice.share() >= match_rate:
        return None
    person = _person(field_type, value, dice)
    holds = all(any(person.get(key) for key in _KEYS_OF[name]) for name in required)
    return person if holds else None


def _person(field_type: str, value: str, dice: _Dice) -> Contact:
    company = dice.pick(_COMPANIES)
    domain = re.sub(r"[^a-z]+", "-", company.lower()) + ".example"
    handle = f"{dice.pick(_WORDS_FOR_HANDLES)}-{dice.unique()}"
    person: Contact = {
        **_names(dice),
        **_emails(dice, handle, domain, asked=value if field_type == "email" else None),
        "phone_numbers": _phones(dice, asked=value if field_type == "phone" else None),
        "social_profiles": _profiles(dice, handle, asked=value if field_type == "social_profile" else None),
        "location": _location(dice),
        "employment": _employment(dice, company, domain, handle),
        "education": _education(dice),
    }
    if dice.chance(25):
        person["experiences"] = _experiences(dice)
    if dice.chance(5):
        person["seniority_score"] = dice.below(100)
    for key in ("gender", "education", "location"):
        if dice.chance(5):
            del person[key]
    # A person without phones has an empty list, or no list.
    if not person["phone_numbers"] and dice.chance(50):
        del person["phone_numbers"]
    return person


def _names(dice: _Dice) -> Contact:
    given_names, family_names, pattern = dice.pick(_NAMES)
    given, family = dice.pick(given_names), dice.pick(family_names)
    names: Contact = {
        "full_name": pattern.format(given=given, family=family),
        "first_name": given,
        "last_name": family,
        "gender": dice.pick((None, "female", "male")),
    }
    if dice.chance(3):
        names["first_name"] = None
    return names


def _emails(dice: _Dice, handle: str, domain: str, *, asked: str | None) -> Contact:
    work = f"{handle}@{domain}" if dice.chance(80) else None
    personal = f"{handle}@{dice.pick(_MAIL)}.example" if dice.chance(55) else None
    if asked is not None and dice.chance(50):
        work = asked
    known = list(dict.fromkeys(one for one in (asked, work, personal) if one is not None))
    emails: Contact = {"current_work_email": work, "current_personal_email": personal}
    for key, address in list(emails.items()):
        if address is None and dice.chance(50):
            del emails[key]
    # Nobody knows whether the vendor's lists hold texts or objects.
    shape = dice.pick(("text", "text", "email", "address"))
    emails["emails"] = known if shape == "text" else [{shape: one} for one in known]
    if work and dice.chance(30):
        emails["work_emails"] = [work]
    if personal and dice.chance(30):
        emails["personal_emails"] = [{"email": personal}]
    return emails


def _phones(dice: _Dice, *, asked: str | None) -> list[Contact]:
    numbers = [_phone(dice) for _ in range(dice.pick((0, 1, 1, 1, 2)))]
    if asked is not None:
        digits = re.sub(r"[^0-9]", "", asked)
        numbers.insert(0, f"+{digits}" if digits else asked)
    return [{"E164": number} for number in numbers]


def _phone(dice: _Dice) -> str:
    # Both ranges are set aside for fiction: 555-01xx in North America, 7700 900xxx in Britain.
    if dice.chance(20):
        return f"+447700900{dice.below(1000):03d}"
    return f"+1{dice.pick(_AREA_CODES)}55501{dice.below(100):02d}"


def _profiles(dice: _Dice, handle: str, *, asked: str | None) -> list[Contact]:
    profiles: list[Contact] = []
    if asked is not None:
        network = next((name for name in _NETWORKS if name in asked.lower()), "website")
        profiles.append({"network": network, "url": asked})
    elif dice.chance(85):
        profiles.append({"network": "linkedin", "url": f"linkedin.com/in/{handle}"})
    for network in ("twitter", "facebook", "github"):
        if dice.chance(30):
            profiles.append({"network": network, "url": f"{network}.com/{handle}"})
    return profiles


def _location(dice: _Dice) -> Contact | None:
    city, region, country = dice.pick(_PLACES)
    if dice.chance(12):
        return None
    location: Contact = {"city": city, "region": region, "country": country}
    if dice.chance(10):
        del location["city"]
    return location


def _employment(dice: _Dice, company: str, domain: str, handle: str) -> Contact | None:
    if dice.chance(8):
        return None
    employment: Contact = {
        "name": company,
        "size": dice.pick(("1-10", "11-50", "51-200", 4, 51, 1200, None)),
        "domain": domain,
        "industry": dice.pick(_INDUSTRIES),
        "profile_pic_url": f"https://pictures.example/{handle}.jpg",
        "job": {"title": dice.pick(_TITLES), "levels": dice.pick(_LEVELS)},
    }
    if dice.chance(40):
        employment["website"] = f"https://{domain}"
        employment["linkedin_url"] = f"linkedin.com/company/{domain.replace('.', '-')}"
    if dice.chance(40):
        employment["start_date"] = f"{2005 + dice.below(20)}-{1 + dice.below(12):02d}-01"
    for key in ("size", "industry", "profile_pic_url", "domain"):
        if dice.chance(12):
            del employment[key]
    return employment


def _education(dice: _Dice) -> list[Any]:
    schools = [dice.pick(_SCHOOLS) for _ in range(dice.pick((0, 1, 1, 2)))]
    if dice.chance(4):
        return list(schools)
    return [{"school": {"name": school}, "end_date": None} for school in schools]


def _experiences(dice: _Dice) -> list[Contact]:
    return [
        {
            "company": {"name": dice.pick(_COMPANIES)},
            "title": dice.pick(_TITLES),
            "is_primary": at == 0,
            "start_date": str(2000 + dice.below(20)),
        }
        for at in range(1 + dice.below(3))
    ]


def _name_table(*rows: str) -> tuple[tuple[list[str], list[str], str], ...]:
    """Rows of "given names | family names | pattern"."""
    split = [[part.strip() for part in row.split("|")] for row in rows]
    return tuple((given.split(), family.split(), pattern) for given, family, pattern in split)


# Family names are rare or invented, so that no pair is somebody whom people have heard of.
_NAMES: Final = _name_table(
    "Ottoline Barnaby Tamsin Perran | Alderwickle Thornquill O'Marshgate | {given} {family}",
    "Žofie Řehoř Květa Ctibor | Podlesníček Ďurkovec Třešňák | {given} {family}",
    "Łucja Zbyszko Świętosława | Jarzębinek Dźwięczny-Lasek | {given} {family}",
    "Begoña Nicanor Aránzazu | Zarzalejano Peñaquebrada Ñublares | {given} {family}",
    "Sølve Åsta Torbjørg | Granliåsen Ørretvik Bekkesjø | {given} {family}",
    "İpek Çınar Gülşah | Kuzgunağaç Şelaledere | {given} {family}",
    "Chidera Ifẹ́olúwa Kọ́láwọlé | Ugwuomali Ọ̀ṣunwale | {given} {family}",
    "Таисия Прохор Глафира | Заречинных Луговейко Подберёзных | {given} {family}",
    "Ελπινίκη Φοίβη Λεωνής | Θυμαριάδου-Πεύκη Αλμυροπέτρα | {given} {family}",
    "ريما سلوان ياسمينة | السندياني القرميدي | {given} {family}",
    "תמרה אלמוג ניצן | ארזיאלון כרמלוני | {given} {family}",
    "अन्विता कविनेश मेघना | नीलवनकर पर्णशालिया | {given} {family}",
    "陽葵 蒼汰 千紘 | 霧梢野 沢楓橋 | {family} {given}",
    "砚舟 沐禾 予棠 | 闻人 澹台 | {family}{given}",
    "다솔 도담 서온 | 망절 강전 | {family}{given}",
)
_WORDS_FOR_HANDLES: Final = ("heron", "larch", "pebble", "cinder", "marten", "juniper", "lantern")
_COMPANIES: Final = (
    "Larchwick Analytics",
    "Blue Kiln Works",
    "Petrichor Freight",
    "Oriel Lane Health",
    "Moss & Daughters",
    "Tin Lantern Software",
    "Saltmarsh Optics",
)
_MAIL: Final = ("post", "letterbox", "pigeon")
_NETWORKS: Final = ("linkedin", "twitter", "facebook", "github")
_AREA_CODES: Final = ("202", "206", "212", "303", "312", "404", "415", "512", "617", "713", "773")
_PLACES: Final = (
    ("Tucson", "Arizona", "United States"),
    ("São Paulo", "São Paulo", "Brazil"),
    ("Brno", None, "Czechia"),
    ("大阪市", None, "Japan"),
    ("Lagos", "Lagos", "Nigeria"),
    ("Århus", "Midtjylland", "Denmark"),
    (None, None, "India"),
)
_INDUSTRIES: Final = ("software", "logistics", "health care", "ceramics", None)
_TITLES: Final = (
    "Data Engineer",
    "Head of Sales",
    "Geschäftsführerin",
    "Revenue Operations Lead",
    "購買担当",
    "VP, Research & Development",
)
_LEVELS: Final[tuple[list[str] | None, ...]] = (["senior"], ["director", "vp"], [], None)
_SCHOOLS: Final = (
    "Hollowmere College",
    "Universität Birkenfurt",
    "Escuela Técnica de Peñaquebrada",
    "霧丘大学",
)

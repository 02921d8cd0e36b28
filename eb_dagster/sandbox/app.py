"""The stand-in as a Flask application: what each address answers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import flask
from flask_limiter import Limiter
from werkzeug.exceptions import default_exceptions

from eb_dagster.sandbox.bill import (
    Bill,
    count_charged_twice,
    count_credits,
    count_requests,
    newest_requests,
)
from eb_dagster.sandbox.faults import CHARGED_STATUSES, FREE_STATUSES, SILENT_KINDS, Fault
from eb_dagster.sandbox.form import BulkRequest, read_form
from eb_dagster.sandbox.page import CONTENT_SECURITY, PAGE
from eb_dagster.sandbox.people import find_person
from eb_dagster.sandbox.reply import Entry, json_reply, write_reply
from eb_dagster.sandbox.server import ResetConnection, wait_until_client_leaves

_ENDPOINT: Final = "bulk_enrich"
# Flask's default of 500,000 bytes refuses 1000 long profile addresses once they are escaped.
_MAX_FORM_BYTES: Final = 16 * 2**20
_NEWEST: Final = 20
_ERROR_MESSAGES: Final = {
    400: "Badly formatted request",
    401: "API key is invalid",
    403: "Insufficient credits",
}


def make_app(
    *,
    bill: Path,
    credits: int | None = None,  # noqa: A002 - the vendor's word
    requests_per_minute: int = 200,
    latency: float = 0.0,
    match_rate: float = 0.7,
    faults: Sequence[Fault] = (),
    api_key: str | None = None,
    retry_after: str | None = None,
) -> flask.Flask:
    """The application, with the settings of `stand_in.Settings`. Its `Api` is the extension `sandbox`."""
    limit = f"{requests_per_minute} per 1 minute"
    api = Api(
        bill=Bill(bill, max_credits=credits),
        latency=latency,
        match_rate=match_rate,
        faults=tuple(faults),
        limit=limit,
        api_key=api_key,
        credit_limit=credits,
    )
    app = flask.Flask("exactbuyer_sandbox", static_folder=None)
    # An exception that resets the connection has to reach the server.
    app.config |= {
        "PROPAGATE_EXCEPTIONS": True,
        "MAX_CONTENT_LENGTH": _MAX_FORM_BYTES,
        "MAX_FORM_MEMORY_SIZE": _MAX_FORM_BYTES,
    }
    app.extensions["sandbox"] = api
    Limiter(
        _hash_of_key,
        app=app,
        default_limits=[limit],
        default_limits_exempt_when=lambda: flask.request.endpoint != _ENDPOINT,
        storage_uri="memory://",
        strategy="fixed-window",
    )
    app.add_url_rule("/v1/bulk-enrich", _ENDPOINT, api.bulk_enrich, methods=["POST"])
    app.add_url_rule("/", "home", api.home)
    app.add_url_rule("/charges.json", "charges", api.charges)
    app.add_url_rule("/live.json", "live", api.live)

    def add_retry_after(reply: flask.Response) -> flask.Response:
        if retry_after is not None and reply.status_code in (429, 503):
            reply.headers["Retry-After"] = retry_after
        return reply

    app.after_request(add_retry_after)
    return app


def _hash_of_key() -> str:
    # The limiter logs whom it stops, so it must not see the key.
    key = flask.request.headers.get("X-API-Key", "")
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Api:
    """What the addresses answer."""

    def __init__(
        self,
        *,
        bill: Bill,
        latency: float,
        match_rate: float,
        faults: Sequence[Fault],
        limit: str,
        api_key: str | None = None,
        credit_limit: int | None = None,
    ) -> None:
        self._bill = bill
        self._latency = latency
        self._match_rate = match_rate
        self._faults = faults
        self._limit = limit
        self._api_key = api_key
        self._credit_limit = credit_limit
        self._lock = threading.Lock()
        self._requests = 0
        self._stopped = threading.Event()

    def close(self) -> None:
        """Release the requests that are kept waiting, and close the bill."""
        self._stopped.set()
        self._bill.close()

    def bulk_enrich(self) -> flask.Response:
        """The API."""
        fault_kind = self._next_fault_kind()
        # Reads the whole body, so a request that arrives in part is neither processed nor charged.
        request = read_form(flask.request.form)
        refusal = FREE_STATUSES.get(fault_kind) or self._refusal_of_key()
        if refusal or request is None:
            status = refusal or 400
            asked = len(request.identifiers) if request else 0
            self._bill.write(asked=asked, intended_status=status)
            return self._error(status)
        return self._enrich(request, fault_kind)

    def fail_next(self, kind: str, *, requests: int) -> None:
        """Let the next requests go wrong."""
        with self._lock:
            fault = Fault(kind, self._requests + 1, self._requests + requests)
            self._faults = (fault, *self._faults)

    def _next_fault_kind(self) -> str:
        with self._lock:
            self._requests += 1
            return next((fault.kind for fault in self._faults if fault.affects(self._requests)), "")

    def _enrich(self, request: BulkRequest, fault_kind: str) -> flask.Response:
        entries = self._look_up(request, fault_kind)
        pairs = zip(request.identifiers, entries, strict=True)
        found = [identifier for identifier, entry in pairs if entry["enriched_contact"] is not None]
        intended_status = None if fault_kind in SILENT_KINDS else CHARGED_STATUSES.get(fault_kind, 200)
        status = self._bill.write(asked=len(entries), found=found, intended_status=intended_status)
        if status is None:
            self._end_without_reply(is_hanging=fault_kind == "no-reply")
        if status != 200:
            return self._error(status)
        self._wait_latency()
        return write_reply(
            entries,
            enriched=len(found),
            fault_kind=fault_kind,
            required_fields=request.required_fields,
        )

    def _look_up(self, request: BulkRequest, fault_kind: str) -> list[Entry]:
        # This fault finds people without the required fields too, and takes the fields out of the reply.
        required_fields = () if fault_kind == "missing-required" else request.required_fields
        return [
            {
                "enriched_contact": find_person(
                    identifier.field_type,
                    identifier.value,
                    required_fields=required_fields,
                    match_rate=self._match_rate,
                ),
                "value": identifier.value,
            }
            for identifier in request.identifiers
        ]

    def _wait_latency(self) -> None:
        # Comes after the charge: a client that leaves in the meantime has paid, and the bill says so.
        self._stopped.wait(self._latency)

    def _end_without_reply(self, *, is_hanging: bool) -> NoReturn:
        self._wait_latency()
        # Flask's test client has no socket.
        connection = flask.request.environ.get("werkzeug.socket")
        if is_hanging and connection is not None:
            wait_until_client_leaves(connection, self._stopped)
        raise ResetConnection

    def _error(self, status: int) -> flask.Response:
        self._wait_latency()
        if status in _ERROR_MESSAGES:
            return json_reply({"error": _ERROR_MESSAGES[status]}, status=status)
        # The vendor's 429 is this stock page, and an error page that a proxy sends is no JSON either.
        page = default_exceptions[status](self._limit if status == 429 else None)
        return flask.make_response(page)

    def home(self) -> flask.Response:
        """A page for a person who opens the address in a browser, and a text for others."""
        if flask.request.accept_mimetypes.best_match(["text/plain", "text/html"]) == "text/html":
            return flask.Response(
                PAGE, mimetype="text/html", headers={"Content-Security-Policy": CONTENT_SECURITY}
            )
        counts = self._counts()
        text = (
            "A local stand-in for ExactBuyer's bulk API. Its people are made up; nothing is paid.\n"
            "\n"
            f"Requests so far: {counts['requests']}\n"
            f"Credits so far:  {counts['credits']}\n"
            "\n"
            f"POST /v1/bulk-enrich   the API; {self._key_in_words}\n"
            "GET  /charges.json     the counts\n"
        )
        return flask.Response(text, mimetype="text/plain")

    @property
    def _key_in_words(self) -> str:
        return (
            "any X-API-Key but 'invalid'"
            if self._api_key is None
            else "the X-API-Key that it was started with"
        )

    def live(self) -> flask.Response:
        """What the page shows, as JSON."""
        counts = self._counts()
        left = None if self._credit_limit is None else max(0, self._credit_limit - counts["credits"])
        with self._lock:
            requests, faults = self._requests, self._faults
        told = {
            **counts,
            "credits_left": left,
            "faults": [_fault_in_words(fault, requests) for fault in faults],
            "newest": newest_requests(self._bill.path, _NEWEST),
        }
        return json_reply(told, status=200)

    def charges(self) -> flask.Response:
        """The counts as JSON."""
        return json_reply(self._counts(), status=200)

    def _refusal_of_key(self) -> int | None:
        key = flask.request.headers.get("X-API-Key", "")
        is_right = key == self._api_key if self._api_key is not None else key.strip() and key != "invalid"
        return None if is_right else 401

    def _counts(self) -> dict[str, int]:
        path = self._bill.path
        return {
            "requests": count_requests(path),
            "credits": count_credits(path),
            "charged_twice": count_charged_twice(path),
        }


def _fault_in_words(fault: Fault, requests: int) -> dict[str, str]:
    """One fault, and whether it has happened already; requests are counted from 1."""
    last = fault.last or fault.first
    state = "to come" if requests < fault.first else "over" if requests >= last else "going on"
    return {
        "kind": fault.kind,
        "at": str(fault.first) if last == fault.first else f"{fault.first} to {last}",
        "state": state,
    }

"""Write the reply to a request that was processed, spoiled as the fault says."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Final, NotRequired, TypedDict

import flask

from eb_dagster.sandbox.people import Contact, Dice, make_person, without_required_fields

_SIGN_IN_PAGE: Final = "<!doctype html>\n<title>Sign in</title>\n<h1>Sign in to go on</h1>\n"
_VALUE_NEVER_ASKED: Final = "never.asked@nobody.example"


class Entry(TypedDict):
    """What the reply says of one identifier."""

    enriched_contact: Contact | None
    value: NotRequired[str]


def write_reply(
    entries: list[Entry], *, enriched: int, fault_kind: str, required_fields: Sequence[str]
) -> flask.Response:
    """A reply with status 200."""
    if fault_kind == "html":
        return flask.Response(_SIGN_IN_PAGE, mimetype="text/html")
    contacts = _spoil(entries, fault_kind, required_fields)
    count = enriched + 1 if fault_kind == "wrong-count" else enriched
    text = json.dumps({"contacts": contacts, "records_enriched": count}, ensure_ascii=False)
    if fault_kind == "invalid-json":
        text = _first_half(text)
    body, headers = _encode(text.encode())
    reply = flask.Response(body, mimetype="application/json", headers=headers)
    if fault_kind == "truncated":
        reply.set_data(body[: len(body) // 2])
        reply.headers["Content-Length"] = str(len(body))
    return reply


def json_reply(value: object, *, status: int) -> flask.Response:
    """A reply that is this value as JSON."""
    return flask.Response(json.dumps(value), status=status, mimetype="application/json")


def _first_half(text: str) -> str:
    return text[: len(text) // 2]


def _encode(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body as the client accepts it, and the headers that say so."""
    headers = {"Vary": "Accept-Encoding"}
    if flask.request.accept_encodings.quality("gzip") <= 0:
        return body, headers
    return gzip.compress(body, compresslevel=1), {**headers, "Content-Encoding": "gzip"}


def _spoil(entries: list[Entry], fault_kind: str, required_fields: Sequence[str]) -> list[Entry]:
    match fault_kind:
        case "shuffled":
            return entries[1::2] + entries[::2]
        case "missing":
            return [entry for position, entry in enumerate(entries, 1) if position % 3]
        case "extra":
            return [*entries, _entry_never_asked()]
        case _:
            return [_spoil_entry(entry, fault_kind, required_fields) for entry in entries]


def _spoil_entry(entry: Entry, fault_kind: str, required_fields: Sequence[str]) -> Entry:
    match fault_kind:
        case "no-echo":
            return {"enriched_contact": entry["enriched_contact"]}
        case "upper-echo":
            return {**entry, "value": entry.get("value", "").upper()}
        case "missing-required":
            return _without_required_fields(entry, required_fields)
        case _:
            return entry


def _entry_never_asked() -> Entry:
    person = make_person("email", _VALUE_NEVER_ASKED, Dice(_VALUE_NEVER_ASKED))
    return {"enriched_contact": person, "value": _VALUE_NEVER_ASKED}


def _without_required_fields(entry: Entry, required_fields: Sequence[str]) -> Entry:
    contact = entry["enriched_contact"]
    if contact is None:
        return entry
    return {**entry, "enriched_contact": without_required_fields(contact, required_fields)}

"""Whether money may be gone, by what left this machine and what came back. The only place that decides it."""

from __future__ import annotations

import re
from typing import Final, Literal

from eb_dagster.api.client import NoReply, Reply
from eb_dagster.api.envelope import ParsedReply, inflate, parse_reply

_CONTACTS_KEY: Final = b'"contacts"'
_COUNTED: Final = re.compile(rb'"records_enriched"\s*:\s*"?0*[1-9]')

Verdict = Literal["answered", "free", "busy", "doubt", "refused"]


def judge(outcome: Reply | NoReply) -> Verdict:
    """Whether money may be gone, by what left and what came back."""
    if isinstance(outcome, NoReply):
        return "doubt" if outcome.request_left else "free"
    status, is_success = outcome.status, 200 <= outcome.status < 300
    if is_success and outcome.request_left:
        return "answered"
    body, _ = inflate(outcome.body, outcome.encoding)
    parsed = parse_reply(body) if _CONTACTS_KEY in body else None
    if parsed is None or not says_nobody_was_looked_for(parsed):
        # A body with contacts is an answer whatever its status: they were paid for.
        if parsed is not None and parsed.records:
            return "answered"
        # A refusal is free unless it says itself that somebody was enriched.
        if outcome.request_left and tells_of_contacts(body):
            return "doubt"
    if status == 429:
        return "busy"
    # 1xx: another protocol (101), or interim answers without end.
    if status < 300 or status == 408 or status >= 500:
        # Without its last byte, nobody can have acted on the request.
        return "doubt" if outcome.request_left else "free"
    return "refused"


def tells_of_contacts(body: bytes) -> bool:
    """Whether a body holds a contact, or what is left of one, or counts some as enriched."""
    return b'"enriched_contact"' in body or _COUNTED.search(body) is not None


def says_nobody_was_looked_for(parsed: ParsedReply) -> bool:
    """Whether a whole reply says of each record that it failed, and counts nobody as enriched."""
    return (
        parsed.whole
        and bool(parsed.records)
        and all(one.failed for one in parsed.records)
        and not parsed.records_enriched
    )

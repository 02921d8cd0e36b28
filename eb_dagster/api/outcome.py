"""Whether money may be gone, by what left this machine and what came back of a request that was sent.

`client` tells whether the last byte had left (`request_left`). A request whose process or run ended before it
was judged is put in doubt by `ledger/ledger.py`.
"""

from __future__ import annotations

from typing import Literal

from eb_dagster.api.compression import inflate
from eb_dagster.api.envelope import ParsedReply, has_contacts_key, parse_reply, tells_of_contacts
from eb_dagster.api.reply import NoReply, Reply

Verdict = Literal["answered", "free", "busy", "doubt", "refused"]


def judge(outcome: Reply | NoReply) -> Verdict:
    """Whether money may be gone, by what left and what came back."""
    if isinstance(outcome, NoReply):
        return "doubt" if outcome.request_left else "free"
    if 200 <= outcome.status < 300 and outcome.request_left:
        return "answered"
    body, _ = inflate(outcome.body, outcome.encoding)
    parsed = parse_reply(body) if has_contacts_key(body) else None
    if parsed is None or not says_nobody_was_looked_for(parsed):
        # A body with contacts is an answer whatever its status: they were paid for.
        if parsed is not None and parsed.records:
            return "answered"
        # A refusal is free unless it says itself that somebody was enriched.
        if outcome.request_left and tells_of_contacts(body):
            return "doubt"
    return _judge_status(outcome.status, request_left=outcome.request_left)


def _judge_status(status: int, *, request_left: bool) -> Verdict:
    if status == 429:
        return "busy"
    # 1xx: another protocol (101), or interim answers without end.
    if status < 300 or status == 408 or status >= 500:
        # Without its last byte, nobody can have acted on the request.
        return "doubt" if request_left else "free"
    return "refused"


def is_free_by_status(status: int) -> bool:
    """Whether a reply of this status charges nothing, unless it tells of contacts itself."""
    return _judge_status(status, request_left=True) != "doubt"


def says_nobody_was_looked_for(parsed: ParsedReply) -> bool:
    """Whether a whole reply says of each record that it failed, and counts nobody as enriched."""
    has_failed = bool(parsed.records) and all(record.failed for record in parsed.records)
    return parsed.whole and has_failed and not parsed.records_enriched

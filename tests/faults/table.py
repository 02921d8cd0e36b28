"""The table of faults: what the vendor does, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

REQUEST_SIZE = 40
LEADS_COUNT = 240
"""Six requests."""


def emails(count: int = LEADS_COUNT) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"canary.lead{number}@firm.example" for number in range(count)]})


def long_profiles() -> pd.DataFrame:
    """Requests of about 5 MB, which no socket buffer holds whole."""
    return pd.DataFrame(
        {"linkedin_url": [f"linkedin.com/in/canary-{number}-{'ü' * 600}" for number in range(1_000)]}
    )


def profiles() -> pd.DataFrame:
    return pd.DataFrame(
        {"linkedin_url": [f"linkedin.com/in/canary-lead-{number}" for number in range(LEADS_COUNT)]}
    )


def phones() -> pd.DataFrame:
    return pd.DataFrame({"phone": [f"+1773474{number + 1000}" for number in range(LEADS_COUNT)]})


def unicode_emails() -> pd.DataFrame:
    return pd.DataFrame(
        {"email": [f"canary.zo\u00eb.m\u00fcller{number}@firm.example" for number in range(LEADS_COUNT)]}
    )


def wide() -> pd.DataFrame:
    """Two identifiers a row: the second is asked only if the first is a miss."""
    return pd.concat([profiles(), emails()], axis="columns")


def variants() -> pd.DataFrame:
    """Each of 80 people three times, in three spellings."""
    plain = [f"canary.lead{number}@firm.example" for number in range(80)]
    shouted = [f" {email.upper()} " for email in plain]
    links = [f"mailto:{email}" for email in plain]
    return pd.DataFrame({"email": plain + shouted + links})


def thousand_and_one() -> pd.DataFrame:
    return emails(1001)


LEADS: dict[str, Callable[[], pd.DataFrame]] = {
    "emails": emails, "long": long_profiles, "profiles": profiles, "phones": phones, "unicode": unicode_emails,
    "wide": wide, "variants": variants, "1001": thousand_and_one,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One row: a fault, and what has to come of it.

    `then` says how those asked in the faulty request stand after a clean run: free, in_doubt,
    unreadable, matched, saved (some of them; the rest in doubt or unreadable), kept (in doubt or
    unreadable), settled (any of these), nothing sent.
    """

    number: int
    name: str
    kind: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    then: str = "in_doubt"
    ends: tuple[str, ...] = ("",)
    """Names of the errors that may end the run; "" is no error."""
    requests: tuple[int, ...] = (2,)
    """The numbers of the requests at which it happens."""
    since: int = 0
    """From which request on it always happens, instead of `requests`."""
    doubt: int = REQUEST_SIZE
    stops: bool = False
    within: float = 0.0
    """Seconds that the run may take."""
    leads: str = "emails"
    settings: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    """More settings of the vendor's script."""
    door: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    """There is no healthy server to run against afterwards."""
    pause: float = 0.0
    report: dict[str, int] = field(default_factory=dict)
    """Figures that the report of the first run has to hold."""
    own: bool = True
    """Whether every row has to hold its own person."""
    later: dict[str, Any] = field(default_factory=dict)
    """Settings of the later runs."""
    often: float = 1.0
    """The share of those requests at which it happens."""
    absurd: bool = False
    """Takes minutes, so it is run on one database only."""
    short: bool = True
    outside: int = 0
    """How many may be charged twice because the vendor does what docs/assumptions.md assumes it does not."""
    basic: bool = False
    """Run on both databases, even in the short form."""
    heavy: bool = False
    """Run in a process of its own, whose memory is watched."""

    def script(self, elsewhere: int) -> dict[str, Any]:
        if not self.kind:
            return self.more
        args = {
            name: value.replace("{elsewhere}", str(elsewhere)) if isinstance(value, str) else value
            for name, value in self.args.items()
        }
        when: dict[str, Any] = {"since": self.since} if self.since else {"requests": self.requests}
        return {
            # Right answers take longer than wrong ones, so that a client that goes on sending is noticed.
            **({"processing": (0.15, 0.15)} if self.stops else {}),
            "faults": [{"kind": self.kind, "args": args, "share": self.often, **when}],
            **self.more,
        }


def row(number: int, name: str, kind: str = "", then: str = "in_doubt", /, **facts: Any) -> Fault:
    """A row of the table. A keyword that is no column is an argument of the fault."""
    known = {name: facts.pop(name) for name in list(facts) if name in Fault.__dataclass_fields__}
    ends = known.pop("ends", ("",))
    return Fault(
        number, f"{number} {name}", kind, facts, then, (ends,) if isinstance(ends, str) else ends, **known
    )


LATER: dict[str, Any] = {"short": False}
SOON: dict[str, Any] = {"settings": {"timeout": 1.2}, "within": 1.2}
LARGE: dict[str, Any] = {"partition_size": 1000, "max_credits_at_risk": 2000, "timeout": 30.0}
MATCHED: dict[str, Any] = {"doubt": 0}
FREE: dict[str, Any] = {"doubt": 0}
UNREAD: dict[str, Any] = {"doubt": 0, "stops": True}
ELSEWHERE = "http://127.0.0.1:{elsewhere}/other/v1/bulk-enrich"
REFUSED: dict[str, Any] = {"doubt": 0, "stops": True}
APART: dict[str, Any] = {"heavy": True, "settings": {"timeout": 5.0}, "within": 5.0}


def _odd_addresses() -> list[Fault]:
    odd = {
        "with user and password": "http://user:canary-password@127.0.0.1:{port}/{case}",
        "ftp": "ftp://127.0.0.1:{port}/{case}",
        "file": "file:///{case}",
        "http to another machine": "http://192.0.2.1:{port}/{case}",
        "a name that begins like this machine": "http://127.0.0.1.canary.example:{port}/{case}",
        "no scheme": "127.0.0.1:{port}/{case}",
        "no host": "https:///{case}",
        "a wrong port": "http://127.0.0.1:99999/{case}",
        "a query": "http://127.0.0.1:{port}/{case}?key=canary",
    }
    return [
        row(67, f"base_url: {name}", "", "nothing sent", ends="ConfigError", doubt=0, alone=True, address=address,
            short=name in ("with user and password", "http to another machine"))
        for name, address in odd.items()
    ]  # fmt: skip


def _retry_afters() -> list[Fault]:
    """Retry-After in every form; + is a date that many seconds from now."""
    forms = {"1": True, "+1": False, "0": False, "-1": True, "rubbish": False, "": False, "nan": True,
             "1, 2": False, "0x10": False, "1.5": False, "+-10": False, "-inf": False, "1e-9": False,
             "Thu, 01 Jan 1970 00:00:00 GMT": False, "Mon, 99 Foo 2026 99:99:99 GMT": True,
             "9" * 400 + "x": False}  # fmt: skip
    return [
        row(59, f"429 with Retry-After {form[:20] or 'empty'}", "too_many", "free", wait=form, short=short, **FREE,
            report={"refusals": 1}, settings={"timeout": 10.0})
        for form, short in forms.items()
    ]  # fmt: skip


def _absurd_retry_afters() -> list[Fault]:
    forms = ("1e9", "inf", "Fri, 31 Dec 9999 23:59:59 GMT")
    return [
        row(59, f"429 with Retry-After {form}", "too_many", "free", wait=form, ends=("", "Busy"), within=121,
            report={"refusals": 1}, absurd=True, **FREE, **LATER)
        for form in forms
    ]  # fmt: skip


def _texts() -> list[Fault]:
    bodies = {
        "empty": "", "a space": " ", "null": "null", "true": "true", "a number": "7", "a text": '"ok"',
        "an empty list": "[]", "an empty object": "{}", "an error in a 200": '{"error": "over quota"}',
        "contacts null": '{"contacts": null}', "contacts an object": '{"contacts": {}}',
        "contacts a text": '{"contacts": "none"}', "contacts of null": '{"contacts": [null, null]}',
        "contacts of numbers": '{"contacts": [1, 2]}', "contacts of lists": '{"contacts": [[], []]}',
        "no contacts": '{"contacts": [], "records_enriched": 0}',
    }  # fmt: skip
    shown = ("empty", "an error in a 200", "contacts of null", "an empty list")
    return [
        row(26 if not body.strip() else 29, f"body: {name}", "text", "kept", body=body, short=name in shown,
            stops=name != "no contacts")
        for name, body in bodies.items()
    ]  # fmt: skip


def _damages() -> list[Fault]:
    cases: list[tuple[int, str, str, bool]] = [
        (24, "comma missing", "saved", True), (24, "garbage behind", "saved", False), (24, "twice", "saved", False),
        (24, "single quotes", "kept", False), (27, "bad UTF-8", "saved", True), (27, "UTF-16", "settled", False),
        (27, "byte order mark", "settled", False), (28, "NaN", "saved", True), (28, "Infinity", "saved", False),
        (28, "huge integer", "saved", True), (28, "huge exponent", "saved", False),
        (28, "duplicate keys", "saved", True), (28, "duplicate contact", "saved", False),
        (28, "lone surrogate", "saved", False), (29, "list at the top", "settled", False),
        (29, "contacts by value", "settled", False), (29, "wrapped", "settled", False),
        (29, "wrapped as text", "settled", False), (30, "deep in a contact", "saved", True),
        (30, "deep and cut", "kept", False), (30, "deep at the top", "settled", False),
    ]  # fmt: skip
    return [
        row(number, how, "damaged", then, how=how, short=short, settings={"timeout": 8.0})
        for number, how, then, short in cases
    ]


def _arrangements() -> list[Fault]:
    """How the records of a reply may differ from what was asked."""

    def arranged(number: int, how: str, then: str, **facts: Any) -> Fault:
        return row(number, how if "leads" not in facts else f"{how}, {facts['leads']}", "rearranged", then,
                   how=how, **facts)  # fmt: skip

    return [
        arranged(38, "other order", "matched", **MATCHED, basic=True),
        arranged(38, "shifted", "matched", **MATCHED, **LATER),
        arranged(39, "fewer", "saved", basic=True),
        arranged(39, "none", "kept", **LATER),
        arranged(40, "never asked", "matched", **MATCHED, report={"extra_records": 5}),
        arranged(41, "one twice", "matched", **MATCHED),
        arranged(41, "two contacts", "saved", **LATER),
        arranged(42, "one contact for two", "matched", **MATCHED, own=False),
        arranged(43, "other case", "matched", **MATCHED),
        arranged(43, "other case", "matched", **MATCHED, leads="profiles", **LATER),
        arranged(43, "other Unicode form", "matched", **MATCHED, leads="unicode"),
        arranged(43, "spaces", "matched", **MATCHED, **LATER),
        arranged(43, "spaces", "matched", **MATCHED, leads="phones", **LATER),
        arranged(44, "no echo", "unreadable", **UNREAD),
        arranged(44, "echo missing in some", "saved", doubt=0, stops=True),
        arranged(44, "echo null", "unreadable", **UNREAD, **LATER),
        arranged(44, "echo in an object", "unreadable", **UNREAD, **LATER),
        arranged(45, "no contact field", "kept", **UNREAD),
        arranged(45, "required missing", "matched", **MATCHED,
            settings={"required_fields": ["phone"], "timeout": 5.0}),
        arranged(46, "new fields", "matched", **MATCHED),
        arranged(47, "changed types", "matched", **MATCHED),
        arranged(47, "contact a text", "settled", **LATER),
        arranged(47, "contact an empty object", "settled", **LATER),
        arranged(47, "contact false", "settled", **LATER),
        arranged(48, "wrong count", "matched", **MATCHED, report={"wrong_counts": 1}),
        arranged(48, "count a text", "matched", **MATCHED, **LATER),
        arranged(48, "count huge", "matched", **MATCHED, **LATER),
        arranged(51, "formula", "matched", **MATCHED),
        arranged(51, "NUL", "matched", **MATCHED),
        arranged(51, "megabyte", "matched", **MATCHED, **LATER),
    ]  # fmt: skip


FAULTS: tuple[Fault, ...] = (
    row(0, "nothing goes wrong", "none", "matched", **MATCHED),
    row(0, "nothing goes wrong, two identifiers a row", "none", "matched", leads="wide", **MATCHED),
    # Before the request is out
    row(1, "a name that does not resolve", "", "nothing sent", ends="Busy", doubt=0, alone=True,
        address="https://nobody.invalid/{case}", within=25, **LATER),
    row(2, "connection refused for half a second", "", "free", **FREE, door={"manner": "closed", "healed": 0.5}, basic=True),
    row(2, "connection refused for good", "", "free", **FREE, ends="Busy", within=25,
        door={"manner": "closed", "healed": "later"}, **LATER),
    row(3, "connect timeout", "", "free", **FREE, settings={"timeout": 2.0},
        door={"manner": "deaf", "healed": 2.3}),
    row(4, "certificate of an unknown authority", "", "nothing sent", ends="ConfigError", doubt=0, alone=True,
        door={"certificate": "unknown"}, within=1),
    row(4, "certificate of another host", "", "nothing sent", ends="ConfigError", doubt=0, alone=True,
        door={"certificate": "other"}, within=1, **LATER),
    row(4, "expired certificate", "", "nothing sent", ends="ConfigError", doubt=0, alone=True,
        door={"certificate": "expired"}, within=1, **LATER),
    row(5, "handshake cut twice", "", "free", **FREE,
        door={"manner": "cut handshake", "first": 2, "certificate": "good"}),
    row(6, "reset in mid-body", "reset_in_mid_body", "free", requests=(1,), **FREE, leads="long", settings=LARGE,
        door={"manner": "narrow"}, **LATER),
    row(6, "reset in a body so small that the socket took it whole", "reset_in_mid_body", "settled", **LATER),
    row(7, "stops reading in mid-body", "stops_reading", "free", requests=(1,), **FREE, leads="long",
        settings={**LARGE, "timeout": 3.0}, door={"manner": "narrow"}, within=6, **LATER),
    row(7, "never reads a small body", "stops_reading", "settled", **SOON, **LATER),
    # After the request is out
    row(8, "reset after charging", "reset_after", basic=True),
    row(8, "reset before charging", "reset_after", charged=False, **LATER),
    row(9, "closed without a reply, charged", "closed_after"),
    row(9, "closed without a reply, not charged", "closed_after", charged=False, **LATER),
    row(9, "interim answers first", "interim", "matched", **MATCHED),
    row(9, "interim answers and no other", "interim", final=False, **LATER),
    row(9, "not HTTP", "not_http", "kept"),
    row(9, "broken header lines", "broken_headers", "settled"),
    row(10, "no reply before the deadline", "silent", **SOON),
    row(10, "no reply and no charge", "silent", charged=False, **SOON, **LATER),
    row(11, "a reply after the deadline", "late", "settled", pause=0.5, **SOON, basic=True),
    row(12, "keep-alive closed as we send", "kept_alive_then_closed", "matched", requests=(1, 2, 3), **MATCHED),
    row(13, "502", "status", status=502, **LATER),
    row(13, "502 while it charges", "status", status=502, charged=True),
    row(14, "504 while it charges", "status", status=504, charged=True, basic=True),
    row(15, "500 before charging", "status", status=500),
    row(16, "500 after charging", "status", status=500, charged=True),
    row(16, "500 with the contacts in it", "status_with_contacts", "settled", status=500, **LATER),
    row(16, "520", "status", status=520, charged=True, **LATER),
    row(16, "599", "status", status=599, charged=True, **LATER),
    row(17, "503", "status", status=503),
    row(17, "503 with Retry-After", "status", status=503, retry_after="1", **LATER),
    row(17, "503 with Retry-After, charged", "status", status=503, charged=True, retry_after="1", **LATER),
    row(18, "408", "status", status=408),
    row(18, "408 while it charges", "status", status=408, charged=True, **LATER),
    row(13, "502 for every request", "status", status=502, charged=True, since=1, doubt=80, ends="OutcomeUnknown",
        later={"max_credits_at_risk": 20_000}),
    # A 200 that cannot be read
    row(19, "truncated, Content-Length", "truncated", "saved", stops=True, how="length", basic=True),
    row(19, "reset in the reply", "reset_in_reply", "saved", stops=True, **LATER),
    row(19, "less announced than there is", "short_length", "saved", **LATER),
    row(19, "cut before the first record", "truncated", "kept", share=0.001, stops=True, **LATER),
    row(20, "truncated, chunked", "truncated", "saved", stops=True, how="chunked"),
    row(20, "a wrong chunk size", "wrong_chunk_size", "settled", **LATER),
    row(21, "truncated, close-delimited", "truncated", "saved", stops=True, how="close"),
    row(21, "close-delimited, cut at the last byte", "truncated", "saved", how="close", share=0.9999, **LATER),
    row(22, "truncated gzip", "gzipped", "saved", stops=True, damage="truncated", basic=True),
    row(23, "bad gzip checksum", "gzipped", "saved", damage="checksum"),
    row(23, "gzip damaged in the middle", "gzipped", "settled", damage="middle", **LATER),
    row(23, "gzip that is none", "gzipped", "settled", damage="lie", **LATER),
    row(25, "an HTML sign-in page", "page_instead", "unreadable", **UNREAD, basic=True),
    row(26, "204", "no_content", "kept", **LATER),
    *_texts(),
    *_damages(),
    # Size and time
    row(31, "100 MB of padding", "big", "kept", **APART),
    row(31, "50 MB of padding", "big", "matched", megabytes=50, **APART, **MATCHED, **LATER),
    row(31, "100 MB in one contact", "big", "settled", how="one", **APART, **LATER),
    row(32, "gzip bomb behind the reply", "bomb", "saved", **APART),
    row(32, "gzip bomb alone", "bomb", "kept", front=True, gigabytes=8.0, **APART, **LATER),
    row(33, "gzip twice", "gzipped", "settled", layers=2),
    row(33, "gzip ten times", "gzipped", "kept", layers=10, **LATER),
    row(33, "gzip, named x-gzip", "gzipped", "matched", called="x-gzip", **MATCHED, **LATER),
    row(33, "gzip, named br", "gzipped", "kept", called="br", **LATER),
    row(33, "an encoding nobody knows", "gzipped", "kept", called="canary-secret", **LATER),
    row(33, "deflate", "deflated", "matched", **MATCHED, **LATER),
    row(34, "slow headers", "slow_headers", **SOON),
    row(35, "one byte a second", "slow_body", "kept", **SOON),
    row(36, "endless chunks", "endless_chunks", "settled", **SOON),
    row(36, "endless chunks, fast", "endless_chunks", "settled", pause=0, **APART, **LATER),
    row(37, "64,000 headers", "many_headers", "settled"),
    row(37, "one header of 64 kB", "many_headers", "settled", count=1, size=65_536, **LATER),
    # Meaning
    *_arrangements(),
    row(49, "1001 identifiers", "none", "matched", requests=(1,), leads="1001", settings=LARGE, **MATCHED),
    row(49, "a partition of 1001", "", "nothing sent", ends="ConfigError", doubt=0, alone=True,
        settings={"partition_size": 1001}),
    row(50, "duplicates and spelling variants", "none", "matched", leads="variants", **MATCHED),
    row(50, "duplicates across a fault", "status", status=502, charged=True, leads="variants", **LATER),
    # Refusals
    row(52, "401 in mid-run", "status", "free", since=3, ends="Refused 401", status=401, **REFUSED),
    row(53, "403 at the start", "status", "free", since=1, ends="Refused 403", status=403, **REFUSED),
    row(54, "403 in mid-run", "status", "free", since=3, ends="Refused 403", status=403, **REFUSED, basic=True),
    row(55, "403 after part was processed, with the part", "partly_processed", "settled", ends=("", "Refused 403")),
    row(55, "403 after part was processed, with their number", "partly_processed", shown="number", stops=True),
    row(55, "403 that breaks off in the first contact", "partly_processed", shown="torn", stops=True, **LATER),
    # Nothing distinguishes it from a plain 403, which is free, so the run after a top-up asks again.
    row(55, "403 that charged a part and hides it, against our assumption: bought again", "partly_processed", "free",
        shown="nothing", ends="Refused 403", outside=REQUEST_SIZE // 2, **REFUSED),
    row(56, "400 for one bad value", "status", "free", requests=(3,), ends="Refused 400", status=400, **REFUSED),
    row(57, "413", "status", "free", requests=(1,), ends="Refused 413", status=413, **REFUSED),
    row(57, "413 before the body was read", "early_refusal", "settled", requests=(1,), ends=("Refused 413", "Busy", ""),
        leads="long", settings=LARGE, doubt=1000, **LATER),
    *[
        row(57, str(status), "status", "free", ends=f"Refused {status}", status=status, **REFUSED, **LATER)
        for status in (402, 404, 405, 409, 422, 451)
    ],
    row(58, "a 429 page without headers", "too_many", "free", report={"refusals": 1}, **FREE, basic=True),
    *_retry_afters(),
    *_absurd_retry_afters(),
    row(60, "429 for longer than the deadline", "too_many", "free", since=3, ends="Busy", within=20.0,
        settings={"timeout": 1.0}, **FREE, **LATER),
    row(60, "429 with a Retry-After beyond the deadline", "too_many", "free", since=3, wait="8",
        ends="Busy", within=20.0, settings={"timeout": 2.0}, **FREE, **LATER),
    row(61, "a lower limit than documented", "", "free", **FREE, settings={"timeout": 30.0},
        more={"limit": {"window": "fixed", "amount": 3, "seconds": 1}}, **LATER),
    row(62, "an erratic limit", "too_many", "free", since=1, often=0.4, wait="0.2", settings={"timeout": 30.0},
        **FREE, **LATER),
    # Origin
    *[
        row(64, f"{status} to another host", "redirect", "free", ends=f"Refused {status}", status=status,
            to=ELSEWHERE, short=status in (302, 307), **REFUSED)
        for status in (300, 301, 302, 303, 304, 307, 308)
    ],
    row(64, "307 without a place", "redirect", "free", ends="Refused 307", status=307, to="", **REFUSED, **LATER),
    row(65, "308 from https down to http", "redirect", "free", ends="Refused 308", status=308, to=ELSEWHERE,
        door={"certificate": "good"}, **REFUSED),
    row(66, "a loop", "redirect", "free", ends="Refused 307", status=307, to="{self}", since=2, **REFUSED),
    *_odd_addresses(),
    row(68, ".netrc and proxies in the environment", "none", "matched", **MATCHED, environment={
        "HTTP_PROXY": "http://127.0.0.1:{elsewhere}", "HTTPS_PROXY": "http://127.0.0.1:{elsewhere}",
        "http_proxy": "http://127.0.0.1:{elsewhere}", "https_proxy": "http://127.0.0.1:{elsewhere}",
        "ALL_PROXY": "http://127.0.0.1:{elsewhere}", "all_proxy": "http://127.0.0.1:{elsewhere}",
        "NETRC": "{folder}/netrc"}),
)  # fmt: skip

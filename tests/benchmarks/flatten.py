"""From the bytes of replies to Arrow columns, against the typed decode alone, and with odd records."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from eb_dagster.api.envelope import parse_reply
from eb_dagster.contacts import flatten as contacts
from eb_dagster.contacts.parser import is_utf8
from eb_dagster.contacts.tolerant_parser import read_contact
from tests.benchmarks.clocks import interleaved, ratio
from tests.benchmarks.payloads import lead, make_template

Text = str | None


class School(msgspec.Struct, gc=False):
    name: Text = None
    domain: Text = None


class Study(msgspec.Struct, gc=False):
    school: School | None = None
    degrees: list[str] | None = None
    start_date: Text = None
    end_date: Text = None


class Company(msgspec.Struct, gc=False):
    name: Text = None
    size: Text = None
    industry: Text = None


class Place(msgspec.Struct, gc=False):
    city: Text = None
    region: Text = None
    country: Text = None


class Experience(msgspec.Struct, gc=False):
    company: Company | None = None
    title: Text = None
    start_date: Text = None
    end_date: Text = None
    location: Place | None = None
    summary: Text = None


class Phone(msgspec.Struct, gc=False):
    E164: Text = None


class Profile(msgspec.Struct, gc=False):
    network: Text = None
    url: Text = None


class Job(msgspec.Struct, gc=False):
    title: Text = None
    levels: list[str] | None = None


class Employment(msgspec.Struct, gc=False):
    name: Text = None
    domain: Text = None
    website: Text = None
    size: int | Text = None
    industry: Text = None
    linkedin_url: Text = None
    profile_pic_url: Text = None
    start_date: Text = None
    job: Job | None = None


class Person(msgspec.Struct, gc=False):
    """Every key that the made-up contacts have, with its type: what the typed decode has to read."""

    full_name: Text = None
    first_name: Text = None
    last_name: Text = None
    gender: Text = None
    current_work_email: Text = None
    current_personal_email: Text = None
    work_emails: list[str] | None = None
    personal_emails: list[str] | None = None
    phone_numbers: list[Phone] | None = None
    social_profiles: list[Profile] | None = None
    location: Place | None = None
    employment: Employment | None = None
    education: list[Study] | None = None
    experiences: list[Experience] | None = None
    seniority_score: int | None = None
    skills: list[str] | None = None


class Entry(msgspec.Struct, gc=False):
    value: str
    enriched_contact: Person | None


class Envelope(msgspec.Struct, gc=False):
    contacts: list[Entry]
    records_enriched: int


typed_decode = msgspec.json.Decoder(Envelope).decode


def make_bodies(replies: int) -> list[bytes]:
    """Replies as text, half of them escaped to ASCII and half not."""
    return [
        make_template(seed).reply([lead(1000 * seed + number).encode() for number in range(1000)])
        for seed in range(replies)
    ]


def spoil(body: bytes) -> bytes:
    """The same reply with one contact whose shape is odd in several places."""
    reply = json.loads(body)
    contact = next(
        entry["enriched_contact"] for entry in reply["contacts"][500:] if entry["enriched_contact"]
    )
    contact |= {
        "full_name": {"first": "Ada"},
        "phone_numbers": "+15125550100",
        "location": ["Brno", "Zürich"],
    }
    return json.dumps(reply, separators=(",", ":"), ensure_ascii=b"\\u" in body).encode()


def flatten(body: bytes) -> pa.RecordBatch:
    """What the package does with a reply: each contact goes before the next one is read."""
    is_text = is_utf8(body)
    return contacts.flatten(
        None if record.contact is None else read_contact(record.contact, is_text=is_text)
        for record in parse_reply(body).records
    ).columns


def _each(read: Callable[[bytes], Any], bodies: Sequence[bytes]) -> Callable[[], None]:
    # Nothing is kept, because reading is measured, not memory.
    def run() -> None:
        for body in bodies:
            read(body)

    return run


def measure(*, rounds: int, replies: int) -> dict[str, float]:
    bodies = make_bodies(replies)
    odd = [spoil(body) for body in bodies]
    # Encoded by the same code, so that only the odd records differ.
    clean = [
        json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=b"\\u" in body).encode()
        for body in bodies
    ]
    things = {
        "ours": _each(flatten, bodies),
        "typed": _each(typed_decode, bodies),
        "clean": _each(flatten, clean),
        "odd": _each(flatten, odd),
    }
    seconds = interleaved(things, rounds=rounds)
    return {
        "flatten_typed": ratio(seconds["ours"], seconds["typed"]),
        "flatten_odd": ratio(seconds["clean"], seconds["odd"]),
    }

"""Enriched tables, of people whose values all say canary."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eb_dagster.contacts.flatten import flatten
from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.tables.parquet import write_parquet

TABLES = (
    "contacts", "contact_emails", "contact_phones", "contact_social_profiles", "contact_education",
    "contact_experiences",
)  # fmt: skip

PEOPLE = 12

# How many rows a load of everybody leaves in each of the tables.
FULL = [PEOPLE, 2 * PEOPLE, PEOPLE, 2 * PEOPLE, 2 * PEOPLE, PEOPLE]


def person(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "full_name": f"Canary {number}", "current_work_email": f"canary{number}@work.example",
        "personal_emails": [f"canary{number}@home.example"],
        "phone_numbers": [{"E164": f"+1415555{number:04}"}],
        "social_profiles": [
            {"network": "linkedin", "url": f"linkedin.com/in/canary{number}"}, {"network": "github", "url": None},
        ],
        "employment": {"name": "Acme", "job": {"title": "Engineer"}},
        "education": [{"school": {"name": "Here"}, "degrees": ["BSc"]}, "There"],
        "experiences": [{"company": {"name": "Before"}, "title": {"name": "Junior"}, "start_date": 2001}],
        **changes,
    }  # fmt: skip


def enriched(people: dict[int, dict[str, Any] | None], *, day: int = 1) -> pa.Table:
    """An enriched table as this package writes it: one row a lead, found or not."""
    when = datetime.datetime(2026, 1, day, tzinfo=datetime.UTC)
    contacts = [
        None if contact is None else read_contact(json.dumps(contact).encode()) for contact in people.values()
    ]
    found = [contact is not None for contact in people.values()]
    status: list[Any] = [
        found, ["matched" if is_found else "not_found" for is_found in found], ["email"] * len(found),
        [f"canary{number}@work.example" for number in people], [False] * len(found), [when] * len(found),
    ]  # fmt: skip
    own = pa.schema([("Lead Id", pa.int64()), ("Tags", pa.list_(pa.string()))])
    schema = pa.schema([*own, *arrow_schema()])
    arrays = [
        pa.array(list(people), pa.int64()), pa.array([["a", "b"]] * len(found), pa.list_(pa.string())),
        *(pa.array(values, type=schema.field(index + 2).type) for index, values in enumerate(status)),
        *flatten(contacts).columns,
    ]  # fmt: skip
    return pa.table(arrays, schema=schema)


def everybody(*, but: int = 0, **changes: Any) -> dict[int, dict[str, Any] | None]:
    """The people with numbers from 1, and one lead whom nobody knows; changes are made to number 3."""
    people = {n: person(n, **(changes if n == 3 else {})) for n in range(1, PEOPLE + 1) if n != but}
    return {**people, 99: None}


def with_own(table: Path, name: str, values: pa.Array) -> Path:
    rows = pq.read_table(table).append_column(name, values)
    write_parquet(rows.to_batches(), table, schema=rows.schema)
    return table

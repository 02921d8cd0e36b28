"""Contacts read for tests, and ways to look at what came out."""

import json

import pyarrow as pa

from eb_dagster.api.envelope import RequiredField
from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import flatten
from eb_dagster.contacts.schema import CONTACT_COLUMNS
from eb_dagster.contacts.tolerant_parser import read_contact

NAMES = [column.name for column in CONTACT_COLUMNS]


def read(contact: object) -> Contact:
    return read_contact(json.dumps(contact).encode())


def flat(contact: object) -> dict:
    return named(read(contact))


def named(contact: Contact) -> dict:
    """The columns of a row, as they come back from Arrow."""
    (row,) = flatten([contact]).columns.to_pylist()
    return row


def held(contact: Contact) -> set[str]:
    """Which of the API's required fields it has."""
    (fields,) = flatten([contact]).fields.tolist()
    return {field.name.lower() for field in RequiredField if fields & field}


def left_over(contact: object) -> object:
    other = flat(contact)["other"]
    return None if other is None else json.loads(other)


def to_arrow(*read_ones: Contact) -> pa.Table:
    table = pa.Table.from_batches([flatten(read_ones).columns])
    table.validate(full=True)
    return table

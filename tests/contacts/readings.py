"""Contacts read for tests, and ways to look at what came out."""

import json

import pyarrow as pa

from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import contact_arrays
from eb_dagster.contacts.schema import CONTACT_COLUMNS
from eb_dagster.contacts.tolerant_parser import read_contact

NAMES = [column.name for column in CONTACT_COLUMNS]


def read(contact: object) -> Contact:
    return read_contact(json.dumps(contact).encode())


def flat(contact: object) -> dict:
    return named(read(contact))


def named(contact: Contact) -> dict:
    """The columns of a row, as they come back from Arrow."""
    arrays = contact_arrays([contact])
    return {name: array[0].as_py() for name, array in zip(NAMES, arrays, strict=True)}


def left_over(contact: object) -> object:
    other = flat(contact)["other"]
    return None if other is None else json.loads(other)


def to_arrow(*read_ones: Contact) -> pa.Table:
    table = pa.table(contact_arrays(read_ones), names=NAMES)
    table.validate(full=True)
    return table

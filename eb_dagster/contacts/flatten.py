"""Contacts as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from eb_dagster.contacts.contact import Contact, Profile
from eb_dagster.contacts.schema import CONTACT_COLUMNS, NAME_COLUMNS, Column
from eb_dagster.identifiers.model import FieldType

Array: TypeAlias = "pa.Array[Any]"

# pyarrow-stubs leaves much of it unknown.
arrow: Any = pa
compute: Any = pyarrow.compute

_NOBODY: Final = (None,) * len(CONTACT_COLUMNS)
_ROWS_TURNED_AT_ONCE: Final = 128
_IDENTIFIER_COLUMNS: Final = {column.field_type: column for column in CONTACT_COLUMNS if column.field_type}


@dataclass(frozen=True, slots=True)
class Flattened:
    """Contacts as columns, a third of their size as objects. What was odd about one stands under its row."""

    columns: pa.RecordBatch = field(repr=False)
    """All of `CONTACT_COLUMNS`; null in rows without a contact."""
    is_vacant: npt.NDArray[np.bool_] = field(repr=False)
    """Rows without a contact."""
    drift: Mapping[int, tuple[str, ...]]
    unknown_keys: Mapping[int, tuple[str, ...]]

    def texts_of(self, field_type: FieldType) -> tuple[list[str], list[int]]:
        """Every text of one kind in them, and the row of each."""
        columns: Any = self.columns
        entries = columns.column(_IDENTIFIER_COLUMNS[field_type].name)
        rows = compute.list_parent_indices(entries)
        texts = entries.flatten()
        if field_type == "social_profile":
            texts = compute.struct_field(texts, "url")
        is_given = compute.not_equal(texts, "")
        return texts.filter(is_given).to_pylist(), rows.filter(is_given).to_pylist()

    def texts(self, row: int) -> Mapping[FieldType, Sequence[str]]:
        """As of a `Contact`."""
        columns: Any = self.columns
        entries = {
            kind: columns.column(column.name)[row].as_py() or ()
            for kind, column in _IDENTIFIER_COLUMNS.items()
        }
        profiles = entries["social_profile"]
        return {
            "social_profile": [profile["url"] for profile in profiles if profile["url"]],
            "email": entries["email"],
            "phone": entries["phone"],
        }

    def names(self, row: int) -> dict[str, str | None]:
        """What one contact is called."""
        columns: Any = self.columns
        return {name: columns.column(name)[row].as_py() for name in NAME_COLUMNS}


def flatten(contacts: Sequence[Contact | None]) -> Flattened:
    """Put contacts side by side, a row each."""
    present = [(row, contact) for row, contact in enumerate(contacts) if contact is not None]
    return Flattened(
        columns=arrow.RecordBatch.from_arrays(
            contact_arrays(contacts), names=[column.name for column in CONTACT_COLUMNS]
        ),
        is_vacant=np.fromiter((contact is None for contact in contacts), np.bool_, len(contacts)),
        drift={row: contact.drift for row, contact in present if contact.drift},
        unknown_keys={row: contact.unknown_keys for row, contact in present if contact.unknown_keys},
    )


def contact_arrays(contacts: Sequence[Contact | None]) -> list[Array]:
    """The contact columns of these rows, in declared order; null in rows without a contact."""
    # Lists: Arrow reads them a quarter faster than tuples.
    columns: list[list[Any]] = [[] for _ in CONTACT_COLUMNS]
    # A few rows at a time: a thousand tuples side by side would wake up Python's collector of cycles.
    for start in range(0, len(contacts), _ROWS_TURNED_AT_ONCE):
        rows = [
            _NOBODY if contact is None else msgspec.structs.astuple(contact.values)
            for contact in contacts[start : start + _ROWS_TURNED_AT_ONCE]
        ]
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column += values
    return [_array(column, values) for column, values in zip(CONTACT_COLUMNS, columns, strict=True)]


def _array(column: Column, values: Sequence[Any]) -> Array:
    if column.field_type == "social_profile":
        return _profile_array(values)
    if column.is_json:
        # UTF-8 already: Arrow need not check it again.
        return arrow.array(values, type=pa.binary()).view(column.type)
    return pa.array(values, type=column.type)


def _profile_array(rows: Sequence[Sequence[Profile] | None]) -> Array:
    # Four times as fast as handing them to Arrow one by one.
    starts: list[int | None] = []
    profiles: list[Profile] = []
    for row in rows:
        if row is None:
            starts.append(None)
        else:
            starts.append(len(profiles))
            profiles += row
    starts.append(len(profiles))
    networks = pa.array([profile.network for profile in profiles], type=pa.string())
    urls = pa.array([profile.url for profile in profiles], type=pa.string())
    entries = arrow.StructArray.from_arrays([networks, urls], ["network", "url"])
    return arrow.ListArray.from_arrays(pa.array(starts, type=pa.int32()), entries)


def as_json(lists: Array) -> Array:
    """A column of lists as JSON text."""
    texts = [
        None if entries is None else msgspec.json.encode(entries).decode() for entries in lists.to_pylist()
    ]
    return pa.array(texts, type=pa.string())

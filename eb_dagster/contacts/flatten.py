"""Contacts as Arrow columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.contacts.contact import VALUE_NAMES, Contact
from eb_dagster.contacts.schema import CONTACT_COLUMNS, NAME_COLUMNS, Column
from eb_dagster.identifiers.arrays import bytes_array, lists_of, number_array, text_arrays, text_scalar
from eb_dagster.identifiers.model import FieldType

Array: TypeAlias = pa.Array

CONTACT_SCHEMA: Final = pa.schema([(column.name, column.type) for column in CONTACT_COLUMNS])
"""Of the columns of `Flattened`."""
_NOBODY: Final = (None,) * len(CONTACT_COLUMNS)
_ROWS_TURNED_AT_ONCE: Final = 128
_BLANK: Final = text_scalar("")
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
        entries = self.columns.column(_IDENTIFIER_COLUMNS[field_type].name)
        rows = pc.list_parent_indices(entries)
        texts = pc.list_flatten(entries)
        if field_type == "social_profile":
            texts = pc.struct_field(texts, "url")
        is_given = pc.not_equal(texts, _BLANK)
        return texts.filter(is_given).to_pylist(), rows.filter(is_given).to_pylist()

    def texts(self, row: int) -> Mapping[FieldType, Sequence[str]]:
        """As of a `Contact`."""
        entries = {
            kind: self.columns.column(column.name)[row].as_py() or ()
            for kind, column in _IDENTIFIER_COLUMNS.items()
        }
        profiles = entries["social_profile"]
        return {
            "social_profile": [profile["url"] for profile in profiles if profile["url"]],
            "email": entries["email"],
            "phone": entries["phone"],
        }

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Flattened:
        """These rows alone, in this order."""
        new_row = {row: index for index, row in enumerate(rows.tolist())}
        return Flattened(
            columns=self.columns.take(number_array(rows.astype(np.int64), pa.int64())),
            is_vacant=self.is_vacant[rows],
            drift={new_row[row]: paths for row, paths in self.drift.items() if row in new_row},
            unknown_keys={new_row[row]: paths for row, paths in self.unknown_keys.items() if row in new_row},
        )

    def names(self, row: int) -> dict[str, str | None]:
        """What one contact is called."""
        return {name: self.columns.column(name)[row].as_py() for name in NAME_COLUMNS}


def flatten(contacts: Sequence[Contact | None]) -> Flattened:
    """Put contacts side by side, a row each."""
    present = [(row, contact) for row, contact in enumerate(contacts) if contact is not None]
    return Flattened(
        columns=pa.RecordBatch.from_arrays(contact_arrays(contacts), schema=CONTACT_SCHEMA),
        is_vacant=np.fromiter((contact is None for contact in contacts), np.bool_, len(contacts)),
        drift={row: contact.drift for row, contact in present if contact.drift},
        unknown_keys={row: contact.unknown_keys for row, contact in present if contact.unknown_keys},
    )


def contact_arrays(contacts: Sequence[Contact | None]) -> list[Array]:
    """The contact columns of these rows, in declared order; null in rows without a contact."""
    values = _values_by_column(contacts)
    texts: list[Sequence[str | None]] = []
    for column, of_column in zip(CONTACT_COLUMNS, values, strict=True):
        if not column.is_json:
            texts += _texts_in(column, of_column)
    arrays = iter(text_arrays(texts))
    return [
        bytes_array(of_column, column.type) if column.is_json else _array(column, of_column, arrays)
        for column, of_column in zip(CONTACT_COLUMNS, values, strict=True)
    ]


def _values_by_column(contacts: Sequence[Contact | None]) -> list[list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in VALUE_NAMES}
    # A few rows at a time: a thousand tuples side by side would wake up Python's collector of cycles.
    for start in range(0, len(contacts), _ROWS_TURNED_AT_ONCE):
        rows = [
            _NOBODY if contact is None else msgspec.structs.astuple(contact.values)
            for contact in contacts[start : start + _ROWS_TURNED_AT_ONCE]
        ]
        for column, values in zip(columns.values(), zip(*rows, strict=True), strict=True):
            column += values
    return [columns[column.name] for column in CONTACT_COLUMNS]


def _texts_in(column: Column, values: Sequence[Any]) -> list[Sequence[str | None]]:
    """What `_array` wants as arrays of text."""
    if column.field_type is None:
        return [values]
    entries = list(chain.from_iterable(filter(None, values)))
    if column.field_type == "social_profile":
        return [[profile.network for profile in entries], [profile.url for profile in entries]]
    return [entries]


def _array(column: Column, values: Sequence[Any], texts: Iterator[Array]) -> Array:
    if column.field_type is None:
        return next(texts)
    entries = next(texts)
    if column.field_type == "social_profile":
        entries = pa.StructArray.from_arrays([entries, next(texts)], ["network", "url"])
    lengths = np.fromiter((len(of_row or ()) for of_row in values), np.int32, len(values))
    return lists_of(entries, lengths, is_there=lengths > 0)


def as_json(lists: Array) -> Array:
    """A column of lists as JSON text."""
    texts = [None if entries is None else msgspec.json.encode(entries) for entries in lists.to_pylist()]
    return bytes_array(texts, pa.string())

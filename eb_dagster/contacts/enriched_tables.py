"""Tables that were enriched before: how they are recognized, and their added columns read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.contacts.schema import STATUS_COLUMNS, arrow_schema
from eb_dagster.errors import InputError

_STATUS: Final = "status"
# What a CSV of ours has in front of a text that a spreadsheet would run.
_APOSTROPHE: Final = r"^'([=+\-@\t\r\n＝＋－＠])"


def prefix_of_enriched(names: Sequence[str]) -> str | None:
    """What the names of the added columns start with, if a table with these columns was enriched before."""
    for name in names:
        prefix = name.removesuffix(_STATUS)
        if name.endswith(_STATUS) and all(prefix + column.name in names for column in STATUS_COLUMNS):
            return prefix
    return None


@dataclass(frozen=True, slots=True, eq=False)
class EnrichedTable:
    """A table that was enriched before, in two parts."""

    others: pa.Table
    """The columns that no enrichment adds."""
    added_columns: pa.Table
    """The added columns, with the names and types that they have now; what the table lacks is null."""


def read_enriched(table: pa.Table, schema: pa.Schema, *, prefix: str, is_text: bool) -> EnrichedTable:
    """Take an enriched table apart.

    Args:
        table: the whole table.
        schema: of the columns that are added now.
        prefix: what their names start with.
        is_text: whether the table stands in a CSV, where all cells are texts.

    Raises:
        InputError: the table was not enriched before, or with another prefix, or a column holds what no enrichment
            writes there.

    """
    found = prefix_of_enriched(table.column_names)
    if found is None:
        raise InputError(
            "the table to update was not enriched before: it has no status columns; name an "
            "earlier result, or a table that is not there yet"
        )
    if prefix + _STATUS not in table.column_names:
        raise InputError(f"the added columns of the table to update start with {found!r}; choose that prefix")
    every_added = arrow_schema(prefix=prefix, with_agrees=True).names
    others = table.select([name for name in table.column_names if name not in every_added])
    columns = [_read_column(table, field, is_text=is_text) for field in schema]
    return EnrichedTable(others, pa.Table.from_arrays(columns, schema=_nullable(schema)))


def nothing_enriched(others: pa.Table, schema: pa.Schema) -> EnrichedTable:
    """An enriched table without rows, with these other columns."""
    return EnrichedTable(others.slice(0, 0), _nullable(schema).empty_table())


def _read_column(table: pa.Table, field: pa.Field, *, is_text: bool) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    try:
        return _read(table[field.name], field.type, is_text=is_text)
    except (pa.ArrowException, ValueError, TypeError):
        # Its text may quote a value.
        raise InputError(
            f"the column {field.name} of the table to update holds values that no enrichment writes there; fix "
            "it, or write a new table of the leads"
        ) from None


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def _read(column: pa.ChunkedArray, kind: pa.DataType, *, is_text: bool) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.string())
        if pa.types.is_list(kind):
            return pa.array([_entries(text) for text in texts.to_pylist()], type=kind)
        if pa.types.is_string(kind):
            return pc.replace_substring_regex(texts, _APOSTROPHE, r"\1") if is_text else texts
        return texts.cast(kind)
    if pa.types.is_string(kind) and not pa.types.is_string(column.type):
        # Lists that were written as lists, and are to be JSON now.
        return pa.array(
            [
                None if entries is None else json.dumps(entries, ensure_ascii=False)
                for entries in column.to_pylist()
            ],
            type=kind,
        )
    return column.cast(kind)


def _entries(text: str | None) -> list[object] | None:
    return None if text is None else json.loads(text)

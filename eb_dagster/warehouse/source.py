"""The tables of a warehouse as a dlt source."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict

import dlt
import pyarrow as pa

from eb_dagster.errors import ConfigError
from eb_dagster.tables.object_store import place
from eb_dagster.tables.parquet import open_parquet, read_batches
from eb_dagster.warehouse.tables import CONTACTS, GONE_FIELD, HISTORY, ID_FIELD, Layout

EnrichedTable: TypeAlias = str | os.PathLike[str] | pa.RecordBatchReader
TableFormat: TypeAlias = Literal["delta", "iceberg"]


class SourceSettings(TypedDict, total=False):
    """The settings of `contacts_source`."""

    key: str | Sequence[str]
    is_whole: bool | None
    history: bool
    table_format: TableFormat | None
    prefix: str


# pyarrow-stubs leaves much of it unknown, and dlt types its hints more narrowly than it reads them.
arrow: Any = pa
mark: Any = dlt.mark

_BATCH_ROWS: Final = 32_768
_EVERY_ROW: Final = "1 = 1"
_ROWS_OF_LOADED_CONTACTS: Final = "contact_id IN (SELECT contact_id FROM {staging_table})"
_REFERENCE_TO_CONTACTS: Final = {
    "columns": [ID_FIELD.name],
    "referenced_table": CONTACTS,
    "referenced_columns": [ID_FIELD.name],
}


def contacts_source(
    table: EnrichedTable,
    *,
    key: str | Sequence[str] = (),
    is_whole: bool | None = None,
    history: bool = False,
    table_format: TableFormat | None = None,
    prefix: str = "eb_",
) -> Any:
    """The contacts that were found, as a dlt source.

    Args:
        table: the path of an enriched Parquet table, or the reader that `enrich_batches` returns.
        key: the columns of the input that tell one row from another. By default, the identifier that
            answered; several rows with one identifier are then one contact.
        is_whole: the table has everybody, so who is not in it is deleted. By default a path is whole
            and a reader is not.
        history: keep a table of each contact's jobs over time as well (type 2).
        table_format: for a data lake, "delta" or "iceberg"; then each load replaces the whole tables.
        prefix: the one that the table was enriched with.

    Raises:
        ConfigError: settings that do not go together.
        InputError: the table is not an enriched one, or its key columns are missing, null or not
            unique. Positions are named, never values.

    """
    names = (key,) if isinstance(key, str) else tuple(key)
    is_whole = is_whole_by_default(table) if is_whole is None else is_whole
    _check_format(table_format, is_whole=is_whole, history=history)

    def read_tables() -> Iterator[Any]:
        with contextlib.ExitStack() as stack:
            schema, batches = open_table(table, stack)
            layout = Layout.of(schema, key=names, prefix=prefix)
            hints = _hints(layout, is_whole=is_whole, table_format=table_format, history=history)
            # An empty batch first: a table in which nobody is left has no batches, and still deletes.
            every_batch = itertools.chain([_empty_batch(schema)], batches)
            yield from _split_batches(layout, every_batch, hints, is_whole=is_whole)

    return dlt.source(
        lambda: dlt.resource(read_tables, name=CONTACTS), name="exactbuyer", max_table_nesting=0
    )()


def _check_format(table_format: TableFormat | None, *, is_whole: bool, history: bool) -> None:
    if table_format and history:
        raise ConfigError(
            "history needs a database; leave it out for Delta and Iceberg, where dlt keeps none"
        )
    if table_format and not is_whole:
        raise ConfigError("Delta and Iceberg tables are replaced as a whole: give a path, or is_whole=True")


def _split_batches(
    layout: Layout, batches: Iterable[Any], hints: Mapping[str, Any], *, is_whole: bool
) -> Iterator[Any]:
    """The rows of each of the tables that have hints."""
    seen: set[bytes] = set()
    first_row = 0
    for batch in batches:
        for name, rows in layout.split(batch, seen, first_row=first_row, is_whole=is_whole):
            if name in hints:
                yield mark.with_hints(rows, hints[name], create_table_variant=True)
        first_row += batch.num_rows


def is_whole_by_default(table: EnrichedTable) -> bool:
    """A path has everybody, a stream only a part."""
    return not isinstance(table, pa.RecordBatchReader)


def open_table(table: EnrichedTable, stack: contextlib.ExitStack) -> tuple[pa.Schema, Iterable[Any]]:
    """The schema and the batches of an enriched table, open until the stack is closed."""
    if isinstance(table, pa.RecordBatchReader):
        return table.schema, table
    file: Any = stack.enter_context(open_parquet(place(table)))
    return file.schema_arrow, read_batches(file, _BATCH_ROWS)


def _empty_batch(schema: pa.Schema) -> Any:
    arrays = [arrow.nulls(0, type_) for type_ in schema.types]
    return arrow.RecordBatch.from_arrays(arrays, schema=schema)


def _hints(
    layout: Layout, *, is_whole: bool, table_format: TableFormat | None, history: bool
) -> dict[str, Any]:
    scope = _EVERY_ROW if is_whole else _ROWS_OF_LOADED_CONTACTS
    merge = {
        "disposition": "merge",
        "strategy": "delete-insert",
        "destination_scope": scope,
        "deduplicated": True,
    }
    disposition = "replace" if table_format else merge
    hints = {
        CONTACTS: mark.make_hints(
            table_name=CONTACTS,
            write_disposition=disposition,
            primary_key=ID_FIELD.name,
            columns=_column_hints(layout.contacts),
            table_format=table_format,
        )
    }
    for part in layout.parts:
        columns = _column_hints(part.schema)
        if not is_whole:
            columns |= _column_hints(pa.schema([GONE_FIELD]))
            columns[GONE_FIELD.name]["hard_delete"] = True
        hints[part.table] = mark.make_hints(
            table_name=part.table,
            write_disposition=disposition,
            columns=columns,
            primary_key=(ID_FIELD.name, "position"),
            references=[_REFERENCE_TO_CONTACTS],
            table_format=table_format,
        )
    if history:
        # One row for each job that a contact had, with the times between which it was the newest.
        versions = {
            "disposition": "merge",
            "strategy": "scd2",
            "destination_scope": scope,
            "row_version_column_name": "job_id",
        }
        hints[HISTORY] = mark.make_hints(
            table_name=HISTORY,
            write_disposition=versions,
            references=[_REFERENCE_TO_CONTACTS],
            columns=_column_hints(layout.history),
        )
    return hints


def _column_hints(schema: Any) -> dict[str, dict[str, Any]]:
    hints: dict[str, dict[str, Any]] = {}
    for field in schema:
        metadata: dict[bytes, bytes] = field.metadata or {}
        if description := metadata.get(b"description"):
            hints[field.name] = {"description": description.decode()}
    return hints

"""The tables of a warehouse as a dlt source."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict

import dlt
import pyarrow as pa
from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns
from dlt.extract.source import DltSource

from eb_dagster.errors import ConfigError, EnrichError
from eb_dagster.tables.object_store import ObjectPath, place
from eb_dagster.tables.parquet import open_parquet, read_batches
from eb_dagster.warehouse.refusals import refuse_types
from eb_dagster.warehouse.tables import (
    CONTACTS,
    GONE_FIELD,
    HISTORY,
    ID_FIELD,
    JOB_ID_FIELD,
    PARTS,
    TABLE_DESCRIPTIONS,
    Layout,
    described,
    table_schemas,
)

EnrichedTable: TypeAlias = str | os.PathLike[str] | ObjectPath | pa.RecordBatchReader
TableFormat: TypeAlias = Literal["delta", "iceberg"]


class SourceSettings(TypedDict, total=False):
    """The settings of `contacts_source`."""

    key: str | Sequence[str]
    is_whole: bool | None
    history: bool
    table_format: TableFormat | None
    prefix: str


# dlt types its hints more narrowly than it reads them.
mark: Any = dlt.mark

_ENRICHED: Final = "enriched_contacts"
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
    """The contacts that were found, as a dlt source of six resources, and of a seventh with `history`.

    Each resource is a table, with all its hints: `contacts`, and its parts `contact_emails`, `contact_phones` and so
    on. Any of them can be selected alone (`with_resources`). All of them take their rows from one pass over the table.

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
    known = _known_layout(table, key=names, prefix=prefix)
    hints = _Hints(is_whole=is_whole, table_format=table_format)

    def enriched() -> Iterator[dict[str, pa.Table]]:
        with contextlib.ExitStack() as stack:
            schema, batches = open_table(table, stack)
            layout = Layout.of(schema, key=names, prefix=prefix)
            # Before the first batch: a table that is loaded as it streams buys it.
            refuse_types(layout)
            # An empty batch first: a table in which nobody is left has no batches, and still deletes.
            yield from _split_batches(
                layout, itertools.chain([_empty_batch(schema)], batches), is_whole=is_whole
            )

    whole = dlt.resource(enriched, name=_ENRICHED, selected=False)
    schemas = table_schemas(known) if known else _usual_schemas()
    resources = [
        _table_resource(whole, name, schema, hints, is_known=known is not None)
        for name, schema in schemas.items()
        if history or name != HISTORY
    ]
    source: Any = dlt.source
    return source(lambda: resources, name="exactbuyer", max_table_nesting=0, _impl_cls=_RepeatableSource)()


class _RepeatableSource(DltSource):
    """A source that may be run again in the same process.

    dagster-dlt keeps the source, and takes the names out of the columns of its schema when it shows them.
    """

    @property
    def schema(self) -> Any:
        """The schema, with every column under its name."""
        for table in self._schema.tables.values():
            for name, column in table["columns"].items():
                column.setdefault("name", name)
        return self._schema

    @schema.setter
    def schema(self, value: Any) -> None:
        self._schema = value


def _known_layout(table: EnrichedTable, *, key: tuple[str, ...], prefix: str) -> Layout | None:
    """The layout of a table that is there. None where it is not made yet: a load then finds it, or says why not."""
    with contextlib.ExitStack() as stack:
        if isinstance(table, pa.RecordBatchReader):
            return Layout.of(table.schema, key=key, prefix=prefix)
        # Definitions are loaded whether or not the table is as it should be.
        with contextlib.suppress(EnrichError):
            schema, _ = open_table(table, stack)
            return Layout.of(schema, key=key, prefix=prefix)
    return None


def _usual_schemas() -> dict[str, pa.Schema]:
    return {
        CONTACTS: pa.schema([ID_FIELD]),
        **{part.table: part.schema for part in PARTS},
        HISTORY: pa.schema([ID_FIELD, JOB_ID_FIELD]),
    }


def _table_resource(whole: Any, name: str, schema: pa.Schema, hints: _Hints, *, is_known: bool) -> Any:
    """The resource of one table, which takes its rows from what all of them read once."""

    def rows(tables: dict[str, pa.Table]) -> Iterator[Any]:
        table = tables.get(name)
        if table is None:
            return
        # The user's columns are known by now.
        yield (
            table
            if is_known or name not in (CONTACTS, HISTORY)
            else mark.with_hints(table, mark.make_hints(columns=column_hints(table.schema)))
        )

    rows.__name__, rows.__doc__ = name, TABLE_DESCRIPTIONS[name]
    return dlt.transformer(rows, data_from=whole, name=name, **hints.of(name, schema))


def _check_format(table_format: TableFormat | None, *, is_whole: bool, history: bool) -> None:
    if table_format and history:
        raise ConfigError(
            "history needs a database; leave it out for Delta and Iceberg, where dlt keeps none"
        )
    if table_format and not is_whole:
        raise ConfigError("Delta and Iceberg tables are replaced as a whole: give a path, or is_whole=True")


def _split_batches(
    layout: Layout, batches: Iterable[pa.RecordBatch], *, is_whole: bool
) -> Iterator[dict[str, pa.Table]]:
    """The rows of each table, batch by batch."""
    seen: set[bytes] = set()
    first_row = 0
    for batch in batches:
        yield dict(layout.split(batch, seen, first_row=first_row, is_whole=is_whole))
        first_row += batch.num_rows


def is_whole_by_default(table: EnrichedTable) -> bool:
    """A path has everybody, a stream only a part."""
    return not isinstance(table, pa.RecordBatchReader)


def open_table(
    table: EnrichedTable, stack: contextlib.ExitStack
) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """The schema and the batches of an enriched table, open until the stack is closed."""
    if isinstance(table, pa.RecordBatchReader):
        return table.schema, table
    file = stack.enter_context(open_parquet(place(table)))
    return file.schema_arrow, read_batches(file, _BATCH_ROWS)


def _empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.nulls(0, type_) for type_ in schema.types]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass(frozen=True, kw_only=True)
class _Hints:
    """What dlt is told of each table."""

    is_whole: bool
    table_format: TableFormat | None

    def of(self, name: str, schema: pa.Schema) -> dict[str, Any]:
        """The hints of a resource."""
        scope = _EVERY_ROW if self.is_whole else _ROWS_OF_LOADED_CONTACTS
        merge = {"disposition": "merge", "destination_scope": scope}
        if name == HISTORY:
            # One row for each job that a contact had, with the times between which it was the newest.
            versions = {**merge, "strategy": "scd2", "row_version_column_name": JOB_ID_FIELD.name}
            return {
                "write_disposition": versions,
                "references": [_REFERENCE_TO_CONTACTS],
                "columns": column_hints(schema),
            }
        replaced = {**merge, "strategy": "delete-insert", "deduplicated": True}
        hints: dict[str, Any] = {
            "write_disposition": "replace" if self.table_format else replaced,
            "table_format": self.table_format,
            "columns": self._columns(name, schema),
            "primary_key": ID_FIELD.name if name == CONTACTS else (ID_FIELD.name, "position"),
        }
        return hints if name == CONTACTS else {**hints, "references": [_REFERENCE_TO_CONTACTS]}

    def _columns(self, name: str, schema: pa.Schema) -> dict[str, dict[str, Any]]:
        columns = column_hints(schema)
        if name == CONTACTS or self.is_whole:
            return columns
        gone = column_hints(pa.schema([GONE_FIELD]))[GONE_FIELD.name]
        return {**columns, GONE_FIELD.name: {**gone, "hard_delete": True}}


def column_hints(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Type, nullability and description of each column, as dlt has them."""
    columns: dict[str, Any] = py_arrow_to_table_schema_columns(schema)
    for field in schema:
        # Where it is the usual one, dlt itself says none, and a warehouse takes its own.
        if columns[field.name].get("data_type") in ("timestamp", "time"):
            del columns[field.name]["precision"]
        if description := described(field):
            columns[field.name]["description"] = description
    return columns

"""Columns that a destination would not take as they are. They are refused before anything is read, and so bought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import dlt
from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns

from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import listed
from eb_dagster.warehouse.tables import Layout, table_schemas

# dlt types these only in part.
Pipeline: TypeAlias = Any
Schema: TypeAlias = Any

ColumnTypes = Mapping[tuple[str, str], str]
"""dlt's type of each column, by table and column."""


def refuse_types(layout: Layout) -> None:
    """Refuse what the pipeline that runs now would cut, round or not take. Raises `InputError`."""
    pipeline: Pipeline = dlt.current.pipeline()
    schema: Schema = dlt.current.source_schema()
    types = _declared_types(layout, schema.naming)
    _refuse_bytes(pipeline, types)
    _refuse_other_types(_known_types(pipeline), types)


def _declared_types(layout: Layout, naming: Any) -> ColumnTypes:
    return {
        (naming.normalize_table_identifier(table), naming.normalize_identifier(name)): type_
        for table, schema in table_schemas(layout).items()
        for name, column in py_arrow_to_table_schema_columns(schema).items()
        if (type_ := column.get("data_type")) is not None
    }


def _known_types(pipeline: Pipeline) -> ColumnTypes:
    return {
        (table["name"], name): column["data_type"]
        for schema in pipeline.schemas.values()
        for table in schema.data_tables()
        for name, column in table["columns"].items()
        if "data_type" in column
    }


def _refuse_bytes(pipeline: Pipeline, types: ColumnTypes) -> None:
    names = [name for (_, name), type_ in types.items() if type_ == "binary"]
    destination = pipeline.destination
    # For PostgreSQL, dlt writes Arrow tables as CSV.
    if names and destination is not None and destination.destination_type.endswith(".postgres"):
        raise InputError(
            f"columns {listed(names)} (binary) hold bytes, which dlt does not bring into PostgreSQL; cast them to text",
            spent="Nothing was changed",
        )


def _refuse_other_types(known: ColumnTypes, types: ColumnTypes) -> None:
    """A warehouse keeps a column's type, and some silently round or cut values of another type."""
    changed = [
        f"{name}: {known[table, name]} there, {type_} here"
        for (table, name), type_ in types.items()
        if known.get((table, name), type_) != type_
    ]
    if changed:
        raise InputError(
            f"the warehouse has columns of other types than this table ({'; '.join(changed)}); cast them, or "
            "load into another dataset",
            spent="Nothing was changed",
        )

"""The tables of a warehouse as sources of dbt: a `sources.yml` with a description of every column."""

from __future__ import annotations

import pyarrow as pa
import yaml

from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.warehouse.tables import (
    CONTACTS,
    HISTORY,
    ID_FIELD,
    TABLE_DESCRIPTIONS,
    Layout,
    described,
    table_schemas,
)


def dbt_sources(
    *,
    dataset: str,
    name: str = "exactbuyer",
    database: str | None = None,
    history: bool = False,
    prefix: str = "eb_",
) -> str:
    """The text of a `sources.yml` that names the tables which `load_contacts` makes.

    Args:
        dataset: the schema in the warehouse.
        name: what dbt calls the source, as in `{{ source('exactbuyer', 'contacts') }}`.
        database: the database, where dbt's target is in another one.
        history: with `contact_job_history`.
        prefix: the one that the table was enriched with.

    The user's own columns are in `contacts` too; they are the user's to describe. Tests for dbt hold what each load
    keeps: ids are there, unique in `contacts`, and no row of a part is without its contact.

    """
    layout = Layout.of(arrow_schema(prefix=prefix), key=(), prefix=prefix)
    tables = [
        _table(table, schema, name)
        for table, schema in table_schemas(layout).items()
        if history or table != HISTORY
    ]
    source: dict[str, object] = {
        "name": name,
        "description": "Contacts bought from ExactBuyer, loaded by eb-dagster.",
        "schema": dataset,
        **({"database": database} if database else {}),
        "tables": tables,
    }
    return yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=110)


def _table(table: str, schema: pa.Schema, source: str) -> dict[str, object]:
    fields = list(schema)
    return {
        "name": table,
        "description": TABLE_DESCRIPTIONS[table],
        "columns": [
            {
                "name": field.name,
                "description": described(field) or "",
                **({"tests": _id_tests(table, source)} if field.name == ID_FIELD.name else {}),
            }
            for field in fields
        ],
    }


def _id_tests(table: str, source: str) -> list[object]:
    if table == CONTACTS:
        return ["not_null", "unique"]
    target = {"to": f"source('{source}', '{CONTACTS}')", "field": ID_FIELD.name}
    return ["not_null", {"relationships": target}]

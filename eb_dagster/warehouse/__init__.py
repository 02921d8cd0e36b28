"""Enriched contacts in any warehouse that dlt knows: a wide table and its parts, merged.

dlt makes the tables, the SQL and the migrations. What is decided here is who a row is, and which rows of the
warehouse a load may delete.

A row is who was asked for: `contact_id` is a hash of the columns that the user names as key, else of the
identifier that answered, in canonical form. Both are the same in each run; what the vendor says of a person
is not.

A Parquet table is whole, so a person who is no longer in it, above all a forgotten one, is deleted. A stream
is a part, and replaces only the people in it.

- `tables`: one enriched table split into those of the warehouse, which follow `contacts/schema.py`
- `column_types`: the user's columns in types that a warehouse takes
- `source`: these tables as a dlt source, a resource each
- `refusals`: columns that a destination would not take, refused before anything is bought
- `dbt_sources`: the tables as sources of dbt
- `load`: one load, which leaves no trace of people outside the warehouse
- `query`: a query that is enriched into a warehouse in one call
"""

from importlib import import_module

try:
    import_module("dlt")
except ModuleNotFoundError as _error:
    if _error.name != "dlt":
        raise
    raise ModuleNotFoundError(
        'eb_dagster.warehouse needs dlt: pip install "eb-dagster[warehouse]"', name="dlt"
    ) from None

from eb_dagster.warehouse.load import load_contacts
from eb_dagster.warehouse.query import LoadedQuery, enrich_query
from eb_dagster.warehouse.source import contacts_source

__all__ = ["LoadedQuery", "contacts_source", "enrich_query", "load_contacts"]

"""Warehouses that run here. To import this takes dlt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dlt
import duckdb
import pytest

from eb_dagster.warehouse import load_contacts
from tests.databases import PostgreSQL
from tests.warehouse.enriched_tables import TABLES

# dlt's own, and those of the libraries under it.
IGNORED_WARNINGS = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Warehouse:
    """One target, with its own way of being asked."""

    def __init__(self, destination: Callable[[], Any], ask: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self.destination, self.ask = destination, ask

    def load(self, table: Any, **settings: Any) -> Any:
        return load_contacts(table, self.destination(), dataset="crm", **settings)

    def counts(self, *more: str) -> list[int]:
        return [self.ask(f"SELECT count(*) FROM crm.{name}")[0][0] for name in (*TABLES, *more)]


def duckdb_warehouse(folder: Path) -> Warehouse:
    database = str(folder / "warehouse.duckdb")

    def ask(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(database, read_only=True) as connection:
            return connection.execute(query).fetchall()

    return Warehouse(lambda: dlt.destinations.duckdb(database), ask)


def postgresql_warehouse(server: PostgreSQL) -> Warehouse:
    url = server.new_database()
    name = urlsplit(url).path.strip("/")
    return Warehouse(lambda: postgres(url), lambda query: server.run(query, name=name))


def postgres(url: str) -> Any:
    """A PostgreSQL on a socket. In dlt's own form, an address has a host and a password."""
    parts = urlsplit(url)
    return dlt.destinations.postgres(
        f"postgresql://{parts.username or 'postgres'}:none@localhost{parts.path}?{parts.query}"
    )


def columns(warehouse: Warehouse) -> dict[tuple[str, str], tuple[str, str]]:
    """Type and nullability of every column of every table."""
    return {
        (table, name): (kind.split("(")[0].lower(), nullable)
        for table, name, kind, nullable in warehouse.ask(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'crm' AND table_name LIKE 'contact%' ORDER BY table_name, ordinal_position"
        )
    }

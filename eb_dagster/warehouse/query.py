"""A query of one database, enriched into tables of another, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Unpack

import dlt

from eb_dagster.enricher import Enricher
from eb_dagster.errors import BOUGHT, NOTHING_SENT, ConfigError, EnrichError
from eb_dagster.pipeline.report import Report
from eb_dagster.settings import EnricherOptions
from eb_dagster.tables.query import QueryConnection, query_source
from eb_dagster.tables.source import Source
from eb_dagster.tables.spool import spooled
from eb_dagster.warehouse.load import load_contacts
from eb_dagster.warehouse.source import TableFormat

# dlt types these only in part.
_destinations: Final[Any] = dlt.destinations


@dataclass(frozen=True, slots=True)
class LoadedQuery:
    """What became of a query that was enriched into a warehouse."""

    report: Report
    rows: Mapping[str, int]
    """How many rows each table of the warehouse was given."""


def enrich_query(
    sql: str,
    connection: QueryConnection,
    *,
    destination: Any,
    dataset: str,
    key: str | Sequence[str] = (),
    is_whole: bool = False,
    history: bool = False,
    table_format: TableFormat | None = None,
    folder: str | os.PathLike[str] | None = None,
    **options: Unpack[EnricherOptions],
) -> LoadedQuery:
    """Enrich the rows of a query, and merge the contacts into the tables of a warehouse.

    The query is read to its end first, into a file without a name in the folder for temporary files: what fails
    there, or what the destination does not allow, fails before anything is bought. What was bought before a load
    failed is in the ledger, so that the next call loads it and buys nothing again.

    Args:
        sql: one SELECT.
        connection: as for `eb_dagster.read_query`.
        destination: dlt's name of one or one of its `dlt.destinations`, or a URL: postgresql://…, duckdb:///file or
            sqlite:///file.
        dataset: the schema there. In SQLite, "main" is the file itself.
        key: the columns of the query that tell one row from another. By default, the identifier that answered.
        is_whole: the query gives everybody, so who is not in it is deleted from the warehouse, such as a forgotten
            person. By default, only the people in it are replaced.
        history: keep a table of each contact's jobs over time as well.
        table_format: for a data lake, "delta" or "iceberg"; then each load replaces the whole tables.
        folder: where dlt keeps people while it loads.
        options: the keywords of `Enricher`.

    Raises:
        ConfigError, InputError: a setting, the query or the destination is wrong.
        OverBudget, Refused, Busy, OutcomeUnknown, LedgerError: see `eb_dagster.errors`.

    """
    target = destination_of(destination)
    source = spooled(query_source(sql, connection))
    with Enricher(**options) as enricher:
        rows = load_enriched(
            enricher,
            source,
            target,
            dataset=dataset,
            key=key,
            is_whole=is_whole,
            history=history,
            table_format=table_format,
            prefix=options.get("prefix", "eb_"),
            folder=folder,
        )
        return LoadedQuery(enricher.report, rows)


def load_enriched(
    enricher: Enricher, source: Source, destination: Any, *, dataset: str, **settings: Any
) -> Mapping[str, int]:
    """Enrich a table into a warehouse, with the settings of `load_contacts`. An error says what was spent."""
    report_before = enricher.report
    try:
        return load_contacts(enricher.enrich_batches(source), destination, dataset=dataset, **settings)
    except EnrichError as error:
        if error.spent in (NOTHING_SENT, BOUGHT):
            has_bought = enricher.report is not report_before and enricher.report.requests
            error.spent = enricher.report.spent if has_bought else NOTHING_SENT
        raise


def destination_of(destination: Any) -> Any:
    """The destination that a URL of a database stands for; what is no URL is one of dlt's own."""
    if not isinstance(destination, str) or ":" not in destination:
        return destination
    scheme, _, rest = destination.partition(":")
    kind = scheme.partition("+")[0].lower()
    match kind:
        case "postgresql" | "postgres":
            return _destinations.postgres(f"postgresql:{rest}")
        case "duckdb":
            return _destinations.duckdb(rest.removeprefix("///"))
        case "sqlite":
            return _destinations.sqlalchemy(f"sqlite:{rest}")
        case "snowflake" | "bigquery" | "redshift" | "databricks" | "mssql" | "clickhouse" | "motherduck":
            # dlt has a destination of this name, and reads its URLs.
            return getattr(_destinations, kind)(destination)
        case _:
            raise ConfigError(
                "the destination's URL is of a database that is not known here; give postgresql://…, duckdb:///…, "
                "sqlite:///…, snowflake://… or bigquery://…, or one of dlt's own destinations"
            )

"""One load into a warehouse. It leaves no trace of people in files, logs or dlt's other pipelines."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, Unpack

import dlt
import pyarrow as pa
from dlt.common import logger as dlt_logger
from dlt.common.configuration.container import Container
from dlt.common.configuration.exceptions import ConfigFieldMissingException
from dlt.common.destination.exceptions import DestinationException, SqlClientNotAvailable
from dlt.common.pipeline import PipelineContext
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.exceptions import PipelineStepFailed

from eb_dagster.errors import BOUGHT, NOTHING_SENT, ConfigError, EnrichError
from eb_dagster.tables.atomic_file import private_folder
from eb_dagster.warehouse.source import (
    EnrichedTable,
    SourceSettings,
    contacts_source,
    open_table,
)
from eb_dagster.warehouse.tables import CONTACTS, HISTORY, Layout, column_origins

# dlt types these only in part.
Pipeline: TypeAlias = Any
SqlClient: TypeAlias = Any

_PIPELINE: Final = "exactbuyer"
_PROBE: Final = f"_dlt_{_PIPELINE}_probe"
# Of this pipeline alone. Otherwise dlt would keep the staged people in a schema beside theirs.
_TRUNCATE_STAGING: Final = f"{_PIPELINE.upper()}__LOAD__TRUNCATE_STAGING_DATASET"
# dlt itself hands descriptions to Snowflake, BigQuery and Databricks. These three share one statement.
_COMMENTED_HERE: Final = ("duckdb", "postgres", "redshift")


def load_contacts(
    table: EnrichedTable,
    destination: Any,
    *,
    dataset: str,
    folder: str | os.PathLike[str] | None = None,
    **settings: Unpack[SourceSettings],
) -> Mapping[str, int]:
    """Load the contacts, and return how many rows each table was given.

    `destination` is dlt's name of one or one of its `dlt.destinations`; `dataset` is the schema there.
    While it runs, dlt keeps the people in files: in a new folder inside `folder` (by default the
    system's for temporary files), which only its owner may read, and which is removed afterwards, also
    after an error. The other settings are those of `contacts_source`.

    Raises:
        ConfigError, InputError: as `contacts_source`; ConfigError also if the warehouse refused.
        EnrichError: what stopped the enrichment that is loaded.

    """
    counts, _ = _load(table, destination, dataset=dataset, folder=folder, settings=settings)
    return counts


@dataclass(frozen=True, kw_only=True)
class LoadedTable:
    """A table of the warehouse after a load."""

    name: str
    """As in `contacts_source`."""
    given: int
    """How many rows this load gave it."""
    rows: int | None
    """How many rows it has now; None where nobody can ask."""
    orphans: int | None
    """How many of its rows belong to no row of `contacts`; None of `contacts` itself, and where nobody can ask."""
    table_name: str | None
    """database.schema.table; None where it is no table of a database."""
    storage_kind: str
    """What dlt calls the destination."""
    columns: Sequence[TableColumn]


class TableColumn(NamedTuple):
    """A column as the warehouse has it."""

    name: str
    type: str
    description: str | None
    is_nullable: bool
    origins: Sequence[str]
    """The columns of the enriched table that it is made of."""


def load_tables(
    table: EnrichedTable,
    destination: Any,
    *,
    dataset: str,
    names: Sequence[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    **settings: Unpack[SourceSettings],
) -> list[LoadedTable]:
    """Load as `load_contacts` does, the tables of these `names` only, and look at them afterwards."""
    _, tables = _load(
        table,
        destination,
        dataset=dataset,
        folder=folder,
        settings=settings,
        names=names,
        is_looked_at=True,
    )
    return tables


def _load(
    table: EnrichedTable,
    destination: Any,
    *,
    dataset: str,
    folder: str | os.PathLike[str] | None,
    settings: SourceSettings,
    names: Sequence[str] | None = None,
    is_looked_at: bool = False,
) -> tuple[Mapping[str, int], list[LoadedTable]]:
    source = contacts_source(table, **settings)
    if names is not None:
        source = source.with_resources(*(name for name in names if name in source.resources))
    tables: list[LoadedTable] = []
    try:
        with (
            _errors_without_values(),
            _isolated_dlt(),
            private_folder(folder) as private,
        ):
            pipeline = _pipeline(
                _PIPELINE, destination=destination, dataset_name=dataset, pipelines_dir=private
            )
            pipeline.sync_destination()
            if isinstance(table, pa.RecordBatchReader):
                # Before the first batch: a table that is loaded as it streams buys it.
                _check_rights(pipeline)
            pipeline.extract(source)
            counts: dict[str, int] = pipeline.normalize().row_counts
            pipeline.load()
            _finish(pipeline, with_history=HISTORY in source.selected_resources)
            if is_looked_at:
                tables = _look_at(
                    pipeline, list(source.selected_resources), counts, _origins(table, settings, pipeline)
                )
    except EnrichError as error:
        if error.spent == NOTHING_SENT:
            # An enrichment that is loaded as it streams may have bought before the load failed.
            error.spent = BOUGHT if isinstance(table, pa.RecordBatchReader) else "Nothing was bought"
        raise
    return {name: rows for name, rows in counts.items() if not name.startswith("_dlt")}, tables


def _pipeline(name: str, **settings: Any) -> Pipeline:
    pipeline: Pipeline = dlt.pipeline(name, **settings)
    # What dlt tells its makers of a load is made from its trace.
    pipeline.config.enable_runtime_trace = False
    return pipeline


@contextlib.contextmanager
def _isolated_dlt() -> Generator[None]:
    """Leave dlt to other pipelines of this process as it was.

    Until then, dlt's log is silent: it would show the values that a warehouse refused.
    """
    context: Any = Container()[PipelineContext]
    active_before = context.pipeline() if context.is_active() else None
    log: logging.Logger = dlt_logger.LOGGER or logging.getLogger("dlt")
    setting_before = os.environ.get(_TRUNCATE_STAGING)
    os.environ[_TRUNCATE_STAGING] = "true"
    log.addFilter(_drop_record)
    try:
        yield
    finally:
        log.removeFilter(_drop_record)
        if setting_before is None:
            del os.environ[_TRUNCATE_STAGING]
        else:
            os.environ[_TRUNCATE_STAGING] = setting_before
        context.deactivate()
        if active_before is not None:
            # A pipeline whose folder is gone by now is not used any more.
            with contextlib.suppress(FileNotFoundError):
                context.activate(active_before)


def _drop_record(_: logging.LogRecord) -> bool:
    return False


@contextlib.contextmanager
def _errors_without_values() -> Generator[None]:
    try:
        yield
    except PipelineStepFailed as failure:
        raise _error_of(failure) from None
    except DestinationException as error:
        # Its text may hold values of the row that was refused.
        raise ConfigError(
            f"the warehouse refused ({type(error).__name__}); check its address, rights and disk"
        ) from None


# By the name of the database's own error. Its text may hold values.
_ADVICE: Final = {
    "BinderException": "something in the warehouse has another form than expected: choose another dataset",
    "CatalogException": "something in the warehouse has another form than expected: choose another dataset",
    "IOException": "its file cannot be opened: check the path, and that no other program has it open, then run it again",
    "OperationalError": "the database cannot be reached, or refuses the login: check its address, then run it again",
}


def _error_of(failure: PipelineStepFailed) -> EnrichError:
    """What stopped the load, without dlt's own text: it may hold values of the row that was refused."""
    cause: BaseException = failure
    while inner := getattr(cause, "exception", None) or cause.__cause__ or cause.__context__:
        cause = inner
        if isinstance(cause, EnrichError):
            return cause
        if isinstance(cause, ConfigFieldMissingException):
            return ConfigError(
                f"dlt has no {sorted(cause.fields)} for this destination; set them in .dlt/secrets.toml or the environment"
            )
    name = type(cause).__name__
    advice = _ADVICE.get(name, "check the destination, its rights and its disk")
    # DuckDB's own words, in which there are no values.
    if "Ambiguous reference to catalog or schema" in str(cause):
        advice = (
            "the dataset has the name of the database's file, as in crm.duckdb and crm, and DuckDB cannot tell "
            "them apart: choose another dataset"
        )
    return ConfigError(f"dlt could not {failure.step} the contacts ({name}); {advice}")


def _check_rights(pipeline: Pipeline) -> None:
    """Make what a load needs, and a table that is dropped again: a right that is missing is told before a purchase."""
    try:
        client: SqlClient = pipeline.sql_client()
    except SqlClientNotAvailable:
        # A lake: files, whose folder was written to already.
        return
    with client:
        _make_dataset(client)
        probe = client.make_qualified_table_name(_PROBE)
        client.execute_sql(f"CREATE TABLE {probe} (probe INTEGER)")
        client.execute_sql(f"DROP TABLE {probe}")
        with client.with_staging_dataset():
            _make_dataset(client)


def _make_dataset(client: SqlClient) -> None:
    if not client.has_dataset():
        client.create_dataset()


def _origins(
    table: EnrichedTable, settings: SourceSettings, pipeline: Pipeline
) -> dict[str, dict[str, Sequence[str]]]:
    """By table and column of the warehouse, the columns of the enriched table."""
    key = settings.get("key", ())
    with contextlib.ExitStack() as stack:
        schema, _ = open_table(table, stack)
    layout = Layout.of(
        schema, key=(key,) if isinstance(key, str) else tuple(key), prefix=settings.get("prefix", "eb_")
    )
    naming = pipeline.default_schema.naming
    return {
        name: {naming.normalize_identifier(column): origins for column, origins in columns.items()}
        for name, columns in column_origins(layout).items()
    }


def _look_at(
    pipeline: Pipeline,
    names: Sequence[str],
    counts: Mapping[str, int],
    origins: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[LoadedTable]:
    """What stands in the warehouse now."""
    tables = {table["name"]: table for table in pipeline.default_schema.data_tables()}
    with contextlib.ExitStack() as stack:
        client = _database_client(pipeline, stack)
        return [
            LoadedTable(
                name=name,
                given=counts.get(name, 0),
                rows=None if client is None else _ask(client, name, _COUNT),
                orphans=None if client is None or name == CONTACTS else _count_orphans(client, name),
                table_name=None if client is None else _full_name(client, name),
                storage_kind=pipeline.destination.destination_name,
                columns=[
                    _column(column, origins[name].get(column["name"], ()))
                    for column in tables[name]["columns"].values()
                    if "data_type" in column
                ],
            )
            for name in names
            if name in tables
        ]


_COUNT: Final = "SELECT count(*) FROM {table}"
_ORPHANS: Final = "SELECT count(*) FROM {table} WHERE contact_id NOT IN (SELECT contact_id FROM {contacts})"


def _database_client(pipeline: Pipeline, stack: contextlib.ExitStack) -> SqlClient | None:
    """None if the destination is a folder of files: they are no tables that anybody could name."""
    job_client: Any = stack.enter_context(pipeline.destination_client())
    is_database = issubclass(type(job_client), SqlJobClientBase)
    return job_client.sql_client if is_database else None


def _ask(client: SqlClient, name: str, query: str) -> int:
    # The names are quoted by dlt, and there are no values.
    names = {
        "table": client.make_qualified_table_name(name),
        "contacts": client.make_qualified_table_name(CONTACTS),
    }
    ((count,),) = client.execute_sql(query.format(**names))
    return int(count)


def _count_orphans(client: SqlClient, name: str) -> int:
    try:
        return _ask(client, name, _ORPHANS)
    except DatabaseUndefinedRelation:
        # Nobody has loaded the contacts yet.
        return _ask(client, name, _COUNT)


def _full_name(client: SqlClient, name: str) -> str:
    parts: list[str] = client.make_qualified_table_name_path(name, quote=False)
    if len(parts) == _SCHEMA_AND_TABLE:
        with contextlib.suppress(DestinationException, ValueError, TypeError):
            ((database,),) = client.execute_sql("SELECT current_database()")
            parts = [str(database), *parts]
    return ".".join(parts)


_SCHEMA_AND_TABLE: Final = 2


def _column(column: Mapping[str, Any], origins: Sequence[str]) -> TableColumn:
    is_nullable = column.get("nullable", True)
    return TableColumn(column["name"], column["data_type"], column.get("description"), is_nullable, origins)


def _finish(pipeline: Pipeline, *, with_history: bool) -> None:
    """What dlt does not do: delete a forgotten person's history, and comment columns."""
    is_commented = pipeline.destination.destination_name in _COMMENTED_HERE
    if not with_history and not is_commented:
        return
    with pipeline.sql_client() as client:
        if with_history:
            _delete_history(client)
        if is_commented:
            _comment_columns(client, pipeline.default_schema.data_tables())


def _delete_history(client: SqlClient) -> None:
    contacts, history = (client.make_qualified_table_name(name) for name in (CONTACTS, HISTORY))
    # The names are quoted by dlt, and there are no values.
    client.execute_sql(
        f"DELETE FROM {history} WHERE contact_id NOT IN (SELECT contact_id FROM {contacts})"  # noqa: S608
    )


def _comment_columns(client: SqlClient, tables: Iterable[Any]) -> None:
    for table in tables:
        qualified_table = client.make_qualified_table_name(table["name"])
        for name, column in table["columns"].items():
            if text := column.get("description"):
                qualified = f"{qualified_table}.{client.escape_column_name(name)}"
                client.execute_sql(f"COMMENT ON COLUMN {qualified} IS {_quoted(text)}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

"""Queries through drivers that give Arrow themselves: DuckDB, ADBC, Snowflake and BigQuery.

Each function is a stream whose first item is the schema. It holds its cursor until it is closed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.tables.source import BATCH_ROWS

Stream: TypeAlias = Generator[Any, None, None]
"""The schema, then the batches."""

_DUCKDB_READERS: Final = ("to_arrow_reader", "fetch_record_batch", "fetch_arrow_reader")
_UNKNOWN_NAME: Final = re.compile(
    r'(?:no such \w+: |relation "|column "|[Tt]able with name |Referenced column ")([A-Za-z_][\w.]*)'
)
_UNREACHABLE: Final = ("IOException", "ConnectionException", "PermissionException", "HTTPException")


def imported(module: str, *, install: str) -> Any:
    """A driver. Raises `ConfigError` that says what to install."""
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(f"the query's database needs a driver: pip install {install}") from None


def query_error(error: BaseException, sql: str) -> InputError:
    """What is raised for a query that its database refuses.

    Of what the database says, only a table's or a column's name is shown that stands in the query: the rest may
    quote a row.
    """
    named = _UNKNOWN_NAME.search(str(error))
    what = f": {named[1]}" if named and named[1] in sql else ""
    return InputError(
        f"the database refuses the query ({type(error).__name__}{what}); correct its SQL, and check the names in it"
    )


def unreachable(name: str) -> ConfigError:
    """What is raised for a database that does not answer, or refuses the login."""
    return ConfigError(
        f"the query's database cannot be reached, refuses the login or has ended the query ({name}); check the connection's address, user "
        "and rights"
    )


def _without_extensions(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.remove_metadata().with_type(_stored_type(field.type)) for field in schema])


def _stored_type(type_: pa.DataType) -> pa.DataType:
    # Such as numbers of PostgreSQL that ADBC hands over as text. Few tables have a place for others.
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_


def _as_stored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    columns = [
        column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _streamed(reader: pa.RecordBatchReader) -> Stream:
    schema = _without_extensions(reader.schema)
    yield schema
    for batch in reader:
        yield _as_stored(batch, schema)


# DuckDB


def duckdb_connection(path: str) -> Any:
    """Open a DuckDB file for reading."""
    duckdb = imported("duckdb", install="duckdb")
    if not Path(path).is_file():
        raise ConfigError(f"there is no DuckDB file {Path(path).name} for the query; check the path")
    with _telling_duckdb(duckdb):
        return duckdb.connect(path, read_only=True)


def duckdb_stream(sql: str, connection: Any) -> Stream:
    """Run a query on a connection of DuckDB's."""
    with _telling_duckdb(import_module("duckdb"), sql):
        relation = connection.sql(sql)
        if relation is None:
            raise InputError("the query returns no table; give a SELECT")
        read = next(getattr(relation, name) for name in _DUCKDB_READERS if hasattr(relation, name))
        yield from _streamed(read(BATCH_ROWS))


@contextlib.contextmanager
def _telling_duckdb(duckdb: Any, sql: str = "") -> Generator[None]:
    try:
        yield
    except duckdb.Error as error:
        name = type(error).__name__
        raise unreachable(name) if name in _UNREACHABLE else query_error(error, sql) from None
    except (pa.ArrowException, OSError) as error:
        raise query_error(error, sql) from None


# ADBC


def is_adbc(connection: object) -> bool:
    """Whether it is a connection of ADBC's, as its `dbapi` modules make them."""
    return hasattr(connection, "adbc_get_info") and hasattr(connection, "cursor")


def adbc_stream(sql: str, connection: Any) -> Stream:
    """Run a query on an ADBC connection."""
    errors = import_module("adbc_driver_manager")
    with contextlib.closing(connection.cursor()) as cursor:
        try:
            cursor.execute(sql)
            yield from _streamed(cursor.fetch_record_batch())
        except (errors.OperationalError, errors.InterfaceError) as error:
            raise unreachable(type(error).__name__) from None
        except (errors.Error, pa.ArrowException, OSError) as error:
            raise query_error(error, sql) from None


# Snowflake

_TIME_ZONE: Final = pa.timestamp("ns", "UTC")
# By the number that Snowflake's driver gives each type. What is not here is text, as JSON is.
_SNOWFLAKE: Final[Mapping[int, pa.DataType]] = {
    1: pa.float64(),
    3: pa.date32(),
    4: pa.timestamp("ns"),
    6: _TIME_ZONE,
    7: _TIME_ZONE,
    8: pa.timestamp("ns"),
    11: pa.binary(),
    12: pa.time64("ns"),
    13: pa.bool_(),
}
_SNOWFLAKE_NUMBER: Final = 0
_LONGEST_INTEGER: Final = 18


def snowflake_connection(url: str) -> Any:
    """Connect by snowflake://user:password@account/database/schema?warehouse=…&role=…."""
    driver = imported("snowflake.connector", install="snowflake-connector-python")
    parts = urlsplit(url)
    database, _, schema = parts.path.strip("/").partition("/")
    named = {"user": parts.username, "password": parts.password, "account": parts.hostname}
    given = {name: unquote(text) for name, text in named.items() if text}
    folders = {name: text for name, text in {"database": database, "schema": schema}.items() if text}
    try:
        return driver.connect(**given, **folders, **dict(parse_qsl(parts.query)))
    except driver.Error as error:
        raise unreachable(type(error).__name__) from None


def snowflake_stream(sql: str, connection: Any) -> Stream:
    """Run a query on a connection of Snowflake's driver."""
    errors = import_module("snowflake.connector.errors")
    with contextlib.closing(connection.cursor()) as cursor:
        try:
            cursor.execute(sql)
            schema = pa.schema([(column.name, _snowflake_type(column)) for column in cursor.description])
            yield schema
            # Of integers, each batch has the smallest type that holds its own.
            for table in cursor.fetch_arrow_batches():
                yield from table.cast(schema).to_batches(BATCH_ROWS)
        except errors.OperationalError as error:
            raise unreachable(type(error).__name__) from None
        except (errors.Error, pa.ArrowException) as error:
            raise query_error(error, sql) from None


def _snowflake_type(column: Any) -> pa.DataType:
    if column.type_code == _SNOWFLAKE_NUMBER:
        if not column.scale and column.precision <= _LONGEST_INTEGER:
            return pa.int64()
        return pa.decimal128(column.precision, column.scale or 0)
    return _SNOWFLAKE.get(column.type_code, pa.string())


# BigQuery


def bigquery_client(url: str) -> Any:
    """Connect by bigquery://project/dataset?location=…, with the credentials of the environment."""
    driver = imported("google.cloud.bigquery", install="google-cloud-bigquery")
    errors = import_module("google.auth.exceptions")
    parts = urlsplit(url)
    dataset = parts.path.strip("/")
    try:
        client = driver.Client(project=parts.hostname, location=dict(parse_qsl(parts.query)).get("location"))
    except errors.GoogleAuthError as error:
        raise unreachable(type(error).__name__) from None
    if dataset:
        client.default_query_job_config = driver.QueryJobConfig(default_dataset=f"{client.project}.{dataset}")
    return client


def bigquery_stream(sql: str, client: Any) -> Stream:
    """Run a query on a client of BigQuery's driver."""
    of_calls = import_module("google.api_core.exceptions")
    of_login = import_module("google.auth.exceptions")
    try:
        rows = client.query(sql).result()
        batches: Iterator[pa.RecordBatch] = iter(rows.to_arrow_iterable())
        first = next(batches, None)
        yield first.schema if first is not None else rows.to_arrow().schema
        if first is not None:
            yield first
        yield from batches
    except (of_calls.Forbidden, of_calls.Unauthorized, of_calls.ServerError) as error:
        raise unreachable(type(error).__name__) from None
    except (of_login.GoogleAuthError, of_calls.RetryError) as error:
        raise unreachable(type(error).__name__) from None
    except of_calls.GoogleAPIError as error:
        raise query_error(error, sql) from None
